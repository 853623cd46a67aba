//! Open files of a simulated node, and waiting for its disk.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::disk::{Answer, Operation, Outcome};
use super::env::SimulatedEnv;
use super::names::Inode;
use crate::env::{BLOCK_BYTES, File, OpenOptions};

/// An open file of a [`SimulatedEnv`].
pub struct SimulatedFile {
    env: SimulatedEnv,
    inode: Inode,
    options: OpenOptions,
}

impl SimulatedFile {
    pub(super) fn new(env: SimulatedEnv, inode: Inode, options: OpenOptions) -> SimulatedFile {
        SimulatedFile {
            env,
            inode,
            options,
        }
    }

    fn check_write(&self, multiple: u64) -> io::Result<()> {
        if !self.options.write {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        check_aligned(multiple)
    }
}

fn check_aligned(multiple: u64) -> io::Result<()> {
    match multiple.is_multiple_of(BLOCK_BYTES as u64) {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

impl File for SimulatedFile {
    type Buffer = Box<[u8]>;
    type ReadBuffer = Vec<u8>;

    fn shorten(buffer: &mut Self::Buffer, len: usize) {
        assert!(len.is_multiple_of(BLOCK_BYTES) && len <= buffer.len());
        let mut bytes = std::mem::take(buffer).into_vec();
        bytes.truncate(len);
        *buffer = bytes.into_boxed_slice();
    }

    async fn write_at(&self, buffer: Self::Buffer, position: u64) -> io::Result<()> {
        self.check_write(buffer.len() as u64)?;
        check_aligned(position)?;
        let bytes = Bytes::from(buffer);
        let data_sync = self.options.data_sync;
        let write = Operation::Write {
            inode: self.inode,
            position,
            bytes,
            data_sync,
        };
        self.env.perform(write).await.map(drop)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Self::ReadBuffer> {
        check_aligned(position)?;
        check_aligned(len as u64)?;
        match self
            .env
            .perform(Operation::Read {
                inode: self.inode,
                position,
                len,
            })
            .await?
        {
            Outcome::Bytes(bytes) => Ok(bytes),
            _ => unreachable!("a read answers with bytes"),
        }
    }

    async fn sync(&self) -> io::Result<()> {
        self.env
            .perform(Operation::Sync { inode: self.inode })
            .await
            .map(drop)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_write(len)?;
        self.env
            .perform(Operation::SetLen {
                inode: self.inode,
                len,
            })
            .await
            .map(drop)
    }

    async fn reserve(&self, len: u64) -> io::Result<()> {
        self.check_write(len)?;
        self.env
            .perform(Operation::Reserve {
                inode: self.inode,
                len,
            })
            .await
            .map(drop)
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.env.disk(|disk| disk.file_len(self.inode)).unwrap_or(0))
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.env.disk(|disk| disk.close(self.inode));
    }
}

/// An operation that the disk works on.
pub(super) struct InFlight {
    env: SimulatedEnv,
    answer: Rc<RefCell<Answer>>,
    what: &'static str,
    done: bool,
}

impl InFlight {
    /// Hands `operation` to the disk. On a node that has stopped it never completes.
    pub fn start(env: SimulatedEnv, operation: Operation) -> InFlight {
        let what = operation.name();
        let answer = Rc::<RefCell<Answer>>::default();
        if let Some((number, latency)) = env.disk(|disk| disk.begin(operation, Rc::clone(&answer)))
        {
            env.complete_io_after(latency, number);
        }
        InFlight {
            env,
            answer,
            what,
            done: false,
        }
    }
}

impl Future for InFlight {
    type Output = io::Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = {
            let mut answer = self.answer.borrow_mut();
            match answer.result.take() {
                Some(result) => result,
                None => {
                    answer.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        self.done = true;
        Poll::Ready(result)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.done && self.env.is_alive() && !std::thread::panicking() {
            let what = self.what;
            self.env.fail(format!(
                "a task dropped a {what} in flight: every I/O is awaited to its end"
            ));
        }
    }
}
