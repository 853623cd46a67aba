//! A TCP socket on a shard, in two halves that two tasks may use at once.
//!
//! Both use the socket directly, and the shard's ring tells when it is worth it: reading copies
//! straight into the caller's buffer, and a read that is dropped has taken nothing. Writing sends many
//! pieces with one system call and only waits when the kernel's buffer is full.

#![allow(unsafe_code)] // Descriptors change owners between socket2 and glommio as raw numbers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::{Either, select};
use glommio::net::TcpStream;
use millrace_shard::ring::{Interest, Readiness, Ring};
use socket2::Socket;

/// Pieces sent with one system call at most.
const PIECES_AT_ONCE: usize = 64;

/// The half that reads.
pub(super) struct ReadHalf {
    // Before the socket: it is watched until this is dropped.
    readable: Readiness,
    /// Everything that had arrived was read.
    drained: bool,
    socket: Rc<Socket>,
}

/// The half that writes.
pub(super) struct WriteHalf {
    ring: Ring,
    socket: Rc<Socket>,
}

/// Takes over a socket.
pub(super) fn split(ring: &Ring, socket: OwnedFd) -> (ReadHalf, WriteHalf) {
    let socket = Rc::new(Socket::from(socket));
    let read = ReadHalf {
        readable: Readiness::new(ring, Interest::Read),
        drained: false,
        socket: Rc::clone(&socket),
    };
    let ring = ring.clone();
    (read, WriteHalf { ring, socket })
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

/// Waits until the socket is ready, within `limit` if there is one.
async fn wait(readiness: &Readiness, socket: &Socket, limit: Option<Duration>) -> io::Result<()> {
    let ready = pin!(readiness.ready(socket.as_fd()));
    let Some(limit) = limit else {
        return ready.await;
    };
    match select(ready, pin!(glommio::timer::sleep(limit))).await {
        Either::Left((ready, _)) => ready,
        Either::Right(_) => Err(ErrorKind::TimedOut.into()),
    }
}

impl ReadHalf {
    /// The address under which the client reached this machine.
    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| ErrorKind::Unsupported.into())
    }

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
                        return Err(ErrorKind::TimedOut.into());
                    }
                    Some(left)
                }
                None => None,
            };
            match self.read_some(buffer, left).await? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
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
        loop {
            if self.drained {
                wait(&self.readable, &self.socket, limit).await?;
            }
            // SAFETY: what is initialised may be taken for what need not be, as long as nothing
            // uninitialised is written to it; receiving writes bytes.
            let into = unsafe { &mut *(&raw mut *buffer as *mut [MaybeUninit<u8>]) };
            if let Some(read) = self.receive(into)? {
                return Ok(read);
            }
        }
    }

    /// Takes in what has arrived, if anything has; 0 at the end of the stream.
    fn receive(&mut self, into: &mut [MaybeUninit<u8>]) -> io::Result<Option<usize>> {
        loop {
            return match self.socket.recv_with_flags(into, libc::MSG_DONTWAIT) {
                Ok(read) => {
                    // The end does not show in how much there was.
                    self.drained = read < into.len() && !self.readable.is_over();
                    Ok(Some(read))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained = true;
                    Ok(None)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Adds to `gathered` whatever has arrived, at least one byte, within `limit` if there is one; 0
    /// at the end of the stream. A connection that waits holds no more memory than what came of a
    /// frame that is not complete.
    pub(super) async fn gather(
        &mut self,
        intake: &Intake,
        gathered: &mut BytesMut,
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        loop {
            if self.drained {
                *gathered = BytesMut::from(&gathered[..]);
                wait(&self.readable, &self.socket, limit).await?;
            }
            let mut memory = intake.0.borrow_mut();
            memory.reserve(gathered.len() + READ_BYTES_LEAST);
            memory.extend_from_slice(gathered);
            let received = self.receive(memory.spare_capacity_mut());
            if let Ok(Some(read)) = received {
                // SAFETY: so many bytes were just received into the spare capacity.
                unsafe { memory.advance_mut(read) };
                *gathered = memory.split();
                return Ok(read);
            }
            memory.clear();
            received?;
        }
    }
}

/// Where a shard's sockets are read into: one piece of memory for all connections, of which each read
/// cuts off what it filled. It is used again once the requests in it are done with.
#[derive(Clone, Default)]
pub(super) struct Intake(Rc<RefCell<BytesMut>>);

/// A read has room for at least as much.
const READ_BYTES_LEAST: usize = 16 * 1024;

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
                    let writable = Readiness::new(&self.ring, Interest::Write);
                    wait(&writable, &self.socket, Some(stall)).await?;
                    continue;
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

    /// Tells the client that nothing more will come.
    pub(super) fn finish(&self) {
        // Fails if the client is gone already, which comes to the same.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The socket itself, to be taken elsewhere, once the other half is gone.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match Rc::try_unwrap(self.socket) {
            Ok(socket) => Ok(socket.into()),
            Err(shared) => Ok(shared.try_clone()?.into()),
        }
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
