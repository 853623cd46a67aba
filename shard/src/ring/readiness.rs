//! Waiting until a socket can be read from, or written to.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::task::{Context, Poll};

use io_uring::opcode;
use io_uring::types::Fd;

use super::operation::Place;
use super::{CANCELLATION, Ring};

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, or the end, have arrived. Watched until the [`Readiness`] is dropped.
    Read,
    /// The kernel takes bytes again. Watched once.
    Write,
}

/// A descriptor that is watched. Whoever has it must keep the descriptor open for as long.
pub struct Readiness {
    ring: Ring,
    place: Place,
    interest: Interest,
}

impl Readiness {
    /// Watches a descriptor; not before it is first waited for.
    #[must_use]
    pub fn new(ring: &Ring, interest: Interest) -> Readiness {
        Readiness {
            ring: ring.clone(),
            place: ring.inner.operations.borrow_mut().begin_polling(),
            interest,
        }
    }

    /// Waits until the descriptor has become ready since this was last waited for. It may turn out
    /// not to be: what arrived may have been read meanwhile.
    pub async fn ready(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context, descriptor)).await
    }

    /// Whether the other side will send nothing more. What it sent may still be there, and then the
    /// end: it is not told again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut operations = self.ring.inner.operations.borrow_mut();
        operations.polling(self.place).over
    }

    fn poll_ready(
        &self,
        context: &mut Context<'_>,
        descriptor: BorrowedFd<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &self.ring.inner;
        let mut operations = inner.operations.borrow_mut();
        let polling = operations.polling(self.place);
        if std::mem::take(&mut polling.ready) {
            return Poll::Ready(Ok(()));
        }
        polling.waker = Some(context.waker().clone());
        if std::mem::replace(&mut polling.armed, true) {
            return Poll::Pending;
        }
        drop(operations);
        let events = match self.interest {
            Interest::Read => libc::POLLIN | libc::POLLRDHUP,
            Interest::Write => libc::POLLOUT,
        };
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events as u32)
            .multi(self.interest == Interest::Read)
            .build()
            .user_data(self.place.number());
        // SAFETY: the entry points to no memory.
        let submitted = unsafe { inner.submit(entry) };
        match submitted {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        let inner = &self.ring.inner;
        let armed = inner.operations.borrow_mut().orphan_polling(self.place);
        if armed {
            // Not by removing the poll: that fails while the kernel is about to tell of something, and
            // the poll would go on, and keep a closed connection open.
            let entry = opcode::AsyncCancel::new(self.place.number())
                .build()
                .user_data(CANCELLATION);
            // SAFETY: the entry points to no memory.
            let cancelled = unsafe { inner.submit(entry) };
            if let Err(error) = cancelled {
                // The descriptor's end, or the ring's, ends it too.
                tracing::debug!(%error, "a watch could not be cancelled");
            }
        }
    }
}
