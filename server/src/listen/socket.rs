//! A TCP socket on a shard, in two halves that two tasks may use at once.
//!
//! glommio's stream cannot be split, so the halves have a descriptor each (`dup`) of the one
//! socket. Reading waits for readiness and then copies straight into the caller's buffer; a read
//! that is dropped has taken nothing. Writing sends many pieces with one system call and only waits
//! when the kernel's buffer is full.

#![allow(unsafe_code)] // Descriptors change owners between socket2 and glommio as raw numbers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use socket2::Socket;

/// Pieces sent with one system call at most.
const PIECES_AT_ONCE: usize = 64;

/// The half that reads.
pub(super) struct ReadHalf {
    stream: TcpStream,
}

/// The half that writes.
pub(super) struct WriteHalf {
    socket: Socket,
    /// Made when the kernel's buffer was full for the first time: most connections never need it.
    waiter: Option<TcpStream>,
}

/// Takes over a socket.
pub(super) fn split(socket: OwnedFd) -> io::Result<(ReadHalf, WriteHalf)> {
    let read = stream(socket.try_clone()?);
    Ok((
        ReadHalf { stream: read },
        WriteHalf {
            socket: socket.into(),
            waiter: None,
        },
    ))
}

/// Takes the socket out of a stream that glommio accepted.
pub(super) fn into_owned(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: the stream owns the descriptor and outlives this borrow; the clone is a descriptor of
    // its own, so that dropping the stream closes only the stream's.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.try_clone_to_owned()
}

/// A listener over a socket that is bound and listens.
pub(super) fn listener(socket: Socket) -> glommio::net::TcpListener {
    // SAFETY: the descriptor's ownership moves here from `socket`, which gives it up.
    unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

fn stream(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor's ownership moves here from `socket`, which gives it up.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

impl ReadHalf {
    /// Fills the buffer, within `limit` if there is one. Nothing may be lost by dropping this except
    /// the bytes it has read.
    pub(super) async fn read_exact(
        &mut self,
        mut buffer: &mut [u8],
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let deadline = limit.map(|limit| std::time::Instant::now() + limit);
        while !buffer.is_empty() {
            let left = match deadline {
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Some(left)
                }
                None => None,
            };
            match self.read_some(buffer, left).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    /// Reads at least one byte, within `limit` if there is one; 0 at the end of the stream.
    pub(super) async fn read_some(
        &mut self,
        buffer: &mut [u8],
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        self.stream
            .set_read_timeout(limit)
            .map_err(io::Error::from)?;
        self.stream.read(buffer).await
    }
}

/// Where a shard's sockets are read to: one for all connections, since what was read is moved on
/// before anybody else reads. So a connection that waits holds no memory for what may come.
#[derive(Clone)]
pub(super) struct Scratch(Rc<RefCell<Box<[u8]>>>);

/// What one read takes at most.
const SCRATCH_BYTES: usize = 64 * 1024;

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch(Rc::new(RefCell::new(vec![0; SCRATCH_BYTES].into())))
    }
}

impl ReadHalf {
    /// Adds to `gathered` whatever has arrived, at least one byte, within `limit` if there is one; 0
    /// at the end of the stream. While it waits with nothing gathered, `gathered` holds no memory.
    pub(super) async fn gather(
        &mut self,
        scratch: &Scratch,
        gathered: &mut Vec<u8>,
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        self.stream
            .set_read_timeout(limit)
            .map_err(io::Error::from)?;
        poll_fn(|context| {
            let mut scratch = scratch.0.borrow_mut();
            let read = match Pin::new(&mut self.stream).poll_read(context, &mut scratch) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if gathered.is_empty() {
                        *gathered = Vec::new();
                    }
                    return Poll::Pending;
                }
            };
            gathered.extend_from_slice(&scratch[..read]);
            Poll::Ready(Ok(read))
        })
        .await
    }
}

impl WriteHalf {
    /// Sends the pieces, all of them, in order. Fails if the client takes nothing for `stall`.
    pub(super) async fn write_all(
        &mut self,
        pieces: &mut VecDeque<Bytes>,
        stall: Duration,
    ) -> io::Result<()> {
        while let Some(first) = pieces.front() {
            if first.is_empty() {
                pieces.pop_front();
                continue;
            }
            let sent = match self.send(first, pieces) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let first = first.clone();
                    self.wait_and_write(&first, stall).await?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            advance(pieces, sent);
        }
        Ok(())
    }

    /// Sends as much as the kernel takes now.
    fn send(&self, first: &Bytes, pieces: &VecDeque<Bytes>) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if pieces.len() == 1 {
            return self.socket.send_with_flags(first, flags);
        }
        let slices = pieces.iter().take(PIECES_AT_ONCE);
        let slices: Vec<IoSlice<'_>> = slices.map(|piece| IoSlice::new(piece)).collect();
        self.socket.send_vectored_with_flags(&slices, flags)
    }

    /// Sends as much as the kernel takes of one piece, once it takes any.
    async fn wait_and_write(&mut self, piece: &[u8], stall: Duration) -> io::Result<usize> {
        if self.waiter.is_none() {
            self.waiter = Some(stream(OwnedFd::from(self.socket.try_clone()?)));
        }
        let waiter = self.waiter.as_mut().expect("made above");
        waiter
            .set_write_timeout(Some(stall))
            .map_err(io::Error::from)?;
        waiter.write(piece).await
    }

    /// Tells the client that nothing more will come.
    pub(super) fn finish(&self) {
        // Fails if the client is gone already, which comes to the same.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The socket itself, to be taken elsewhere.
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket.into()
    }
}

fn advance(pieces: &mut VecDeque<Bytes>, mut sent: usize) {
    while let Some(first) = pieces.front_mut() {
        if sent < first.len() {
            first.advance(sent);
            return;
        }
        sent -= first.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_cut_off() {
        let pieces = || VecDeque::from([Bytes::from("abc"), Bytes::new(), Bytes::from("defg")]);
        for sent in 0..=7 {
            let mut left = pieces();
            advance(&mut left, sent);
            assert_eq!(
                left.iter().flatten().copied().collect::<Vec<u8>>(),
                b"abcdefg"[sent..]
            );
        }
    }
}
