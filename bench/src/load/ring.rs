//! The generator's own ring: sockets, multishot receives into provided buffers, batched sends. One
//! thread; a turn of the loop is one system call, however many connections have something to say.

#![allow(unsafe_code)]

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bytes::{Buf, Bytes};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{Buffers, Filled, GROUP};

/// A connection's place in the ring.
pub(super) type Token = usize;

/// Most pieces of one send (`IOV_MAX`).
pub(super) const MAX_PIECES: usize = 1024;

const ENTER_GETEVENTS: u32 = 1;
const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const CANCEL: u64 = 2;

/// Something that happened to a connection.
pub(super) enum Event {
    /// Bytes came.
    Received(Token, Filled),
    /// Everything given to `send` is with the kernel.
    Sent(Token),
    /// The other side closed, or the connection failed.
    Closed(Token, io::Result<()>),
}

struct Socket {
    fd: OwnedFd,
    sending: Option<Box<Sending>>,
    receiving: bool,
    closed: bool,
}

/// A send under way: all that the kernel may look at until it completes.
struct Sending {
    pieces: Vec<Bytes>,
    vectors: Vec<libc::iovec>,
    message: libc::msghdr,
}

/// The ring and its sockets.
pub(super) struct Ring {
    ring: IoUring,
    buffers: Buffers,
    sockets: Vec<Socket>,
    /// Whose receive has ended without its connection having ended: out of buffers, mostly.
    to_receive: Vec<Token>,
    ready: Vec<cqueue::Entry>,
    /// Operations that the kernel has not completed.
    under_way: usize,
}

impl Ring {
    /// A ring for about `sockets` connections, with `count` buffers of `bytes_each`.
    pub(super) fn new(sockets: usize, count: u16, bytes_each: u32) -> io::Result<Ring> {
        let entries = u32::try_from(sockets.next_power_of_two() * 2)
            .unwrap_or(u32::MAX)
            .clamp(64, 8192);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize((entries * 4).clamp(4096, 65_536))
            .setup_clamp()
            .build(entries)?;
        let buffers = Buffers::register(&ring.submitter(), count, bytes_each)?;
        Ok(Ring {
            ring,
            buffers,
            sockets: Vec::with_capacity(sockets),
            to_receive: Vec::new(),
            ready: Vec::new(),
            under_way: 0,
        })
    }

    /// Takes a connected socket in and begins to receive.
    pub(super) fn add(&mut self, stream: TcpStream) -> io::Result<Token> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(false)?;
        let token = self.sockets.len();
        self.sockets.push(Socket {
            fd: stream.into(),
            sending: None,
            receiving: false,
            closed: false,
        });
        self.to_receive.push(token);
        Ok(token)
    }

    /// Whether a connection may be given something to send.
    pub(super) fn may_send(&self, token: Token) -> bool {
        let socket = &self.sockets[token];
        socket.sending.is_none() && !socket.closed
    }

    /// Sends pieces, at most [`MAX_PIECES`], one after the other. Only when `may_send` says so.
    pub(super) fn send(&mut self, token: Token, pieces: Vec<Bytes>) -> io::Result<()> {
        assert!(self.may_send(token), "one send of a connection at a time");
        assert!(!pieces.is_empty() && pieces.len() <= MAX_PIECES);
        // SAFETY: a message header without anything is a valid one.
        let message = unsafe { std::mem::zeroed() };
        let sending = Box::new(Sending {
            pieces,
            vectors: Vec::new(),
            message,
        });
        self.sockets[token].sending = Some(sending);
        self.push_send(token)
    }

    fn push_send(&mut self, token: Token) -> io::Result<()> {
        let socket = &mut self.sockets[token];
        let Some(sending) = &mut socket.sending else {
            return Ok(());
        };
        let fd = Fd(socket.fd.as_raw_fd());
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = if let [piece] = &sending.pieces[..] {
            let len = u32::try_from(piece.len()).expect("frames are far shorter than 4 GiB");
            opcode::Send::new(fd, piece.as_ptr(), len)
                .flags(flags)
                .build()
        } else {
            sending.vectors.clear();
            sending
                .vectors
                .extend(sending.pieces.iter().map(|piece| libc::iovec {
                    iov_base: piece.as_ptr().cast_mut().cast(),
                    iov_len: piece.len(),
                }));
            sending.message.msg_iov = sending.vectors.as_mut_ptr();
            sending.message.msg_iovlen = sending.vectors.len() as _;
            opcode::SendMsg::new(fd, &raw const sending.message)
                .flags(flags as u32)
                .build()
        };
        self.push(entry.user_data(tag(token, SEND)))
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry points to lives in `self.sockets` (sends, boxed, taken out only
            // when they complete) or in `self.buffers` (receives); `drop` waits for all of them.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                self.under_way += 1;
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Hands over what was prepared and takes what has completed, waiting at most this long for
    /// something if nothing has.
    pub(super) fn turn(&mut self, wait: Duration) -> io::Result<()> {
        for token in std::mem::take(&mut self.to_receive) {
            let socket = &mut self.sockets[token];
            if socket.closed || socket.receiving {
                continue;
            }
            socket.receiving = true;
            let fd = Fd(socket.fd.as_raw_fd());
            let entry = opcode::RecvMulti::new(fd, GROUP).build();
            self.push(entry.user_data(tag(token, RECEIVE)))?;
        }
        let entered = if wait.is_zero() {
            let waiting = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed.
            unsafe {
                self.ring
                    .submitter()
                    .enter::<libc::sigset_t>(waiting, 0, ENTER_GETEVENTS, None)
            }
        } else {
            let timeout = Timespec::from(wait);
            let arguments = SubmitArgs::new().timespec(&timeout);
            self.ring.submitter().submit_with_args(1, &arguments)
        };
        match entered {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
        self.ready.extend(self.ring.completion());
        // Taken from the end.
        self.ready.reverse();
        Ok(())
    }

    /// What has happened, one at a time, in order.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        while let Some(entry) = self.ready.pop() {
            let more = cqueue::more(entry.flags());
            if !more {
                self.under_way -= 1;
            }
            let (token, what) = untag(entry.user_data());
            let event = match what {
                RECEIVE => self.received(token, &entry, more),
                SEND => self.sent(token, entry.result()),
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn received(&mut self, token: Token, entry: &cqueue::Entry, more: bool) -> Option<Event> {
        if !more {
            self.sockets[token].receiving = false;
        }
        let filled = cqueue::buffer_select(entry.flags());
        match (entry.result(), filled) {
            (len @ 1.., Some(number)) => {
                if !more {
                    self.to_receive.push(token);
                }
                Some(Event::Received(token, Filled::new(number, len as u32)))
            }
            (len, _) if len == -libc::ENOBUFS => {
                self.to_receive.push(token);
                None
            }
            (result, filled) => {
                if let Some(number) = filled {
                    self.buffers.give_back(Filled::new(number, 0));
                }
                self.closed(token, result)
            }
        }
    }

    fn sent(&mut self, token: Token, result: i32) -> Option<Event> {
        let socket = &mut self.sockets[token];
        let sending = socket.sending.as_mut()?;
        let Ok(mut sent) = usize::try_from(result) else {
            socket.sending = None;
            return self.closed(token, result);
        };
        let mut whole = 0;
        for piece in &mut sending.pieces {
            let take = sent.min(piece.len());
            piece.advance(take);
            sent -= take;
            if !piece.is_empty() {
                break;
            }
            whole += 1;
        }
        sending.pieces.drain(..whole);
        if sending.pieces.is_empty() {
            socket.sending = None;
            return Some(Event::Sent(token));
        }
        // Cut short, by a signal say: the rest.
        self.push_send(token)
            .err()
            .map(|error| Event::Closed(token, Err(error)))
    }

    fn closed(&mut self, token: Token, result: i32) -> Option<Event> {
        let socket = &mut self.sockets[token];
        if std::mem::replace(&mut socket.closed, true) {
            return None;
        }
        let reason = match result {
            0.. => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        Some(Event::Closed(token, reason))
    }

    /// What was received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    /// Gives a buffer back when its bytes have been looked at.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel must be done with all buffers before they are freed.
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        let cancelled = self.push(cancel.user_data(tag(0, CANCEL)));
        let mut rounds = 0;
        while cancelled.is_ok() && self.under_way > 0 && rounds < 1_000 {
            rounds += 1;
            self.to_receive.clear();
            if self.turn(Duration::from_millis(10)).is_err() {
                break;
            }
            while let Some(entry) = self.ready.pop() {
                if !cqueue::more(entry.flags()) {
                    self.under_way -= 1;
                }
            }
        }
        if self.under_way > 0 {
            // Better a leak in a program that is about to end than memory that the kernel writes to
            // after it was given to something else.
            leak(self);
        }
    }
}

/// Leaks what the kernel may still use.
fn leak(ring: &mut Ring) {
    for socket in &mut ring.sockets {
        if let Some(sending) = socket.sending.take() {
            Box::leak(sending);
        }
    }
    ring.buffers.leak();
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

fn tag(token: Token, what: u64) -> u64 {
    (token as u64) << 2 | what
}

fn untag(data: u64) -> (Token, u64) {
    ((data >> 2) as Token, data & 3)
}
