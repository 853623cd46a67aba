//! The echo's client: a closed loop over all connections on one ring, with multishot receives into
//! provided buffers and sends submitted together. It never sleeps.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::super::loopback::loopback;
use super::super::memory::Memory;
use super::super::ring::{Done, Ring};
use super::super::stage::{Clock, Phase, Window};
use super::{ANSWER_BYTES, EchoLoad, LimitsError};
use crate::record::{histogram, latency};
use crate::report::model::EchoLimit;

/// Bytes of a buffer that answers arrive in: room for those of one round of a connection.
const BUFFER_BYTES: usize = 1024;

/// The ring of buffers begins here in the memory, on a page of its own.
const BUFFER_RING_AT: usize = 0;

/// Most buffers that a ring of them can have.
const MOST_BUFFERS: usize = 1 << 15;

/// An entry of the ring of buffers.
const BUFFER_RING_ENTRY: usize = 16;

/// Submissions handed over together at most.
const SUBMISSIONS: u32 = 1024;

/// A tag is a connection's number, doubled; odd for a receive, even for a send.
const RECEIVE: u64 = 1;

struct Connection {
    socket: TcpStream,
    /// When each message in flight was handed over, the oldest first.
    begun: VecDeque<Instant>,
    /// Messages to be sent.
    due: usize,
    /// Bytes of the send that is not done yet; 0 if there is none.
    sending: usize,
    /// Bytes of an answer that has not arrived whole.
    part: usize,
    /// Whether it is on the list of those that have something to send.
    listed: bool,
}

struct Client {
    ring: Ring,
    connections: Vec<Connection>,
    /// Connections that have something to send.
    ready: Vec<usize>,
    message_bytes: usize,
    messages_at: usize,
    times: Histogram<u64>,
}

/// Runs the load on these connections and closes them.
pub(super) fn drive(
    clock: &Clock<'_>,
    load: EchoLoad,
    sockets: Vec<TcpStream>,
) -> Result<EchoLimit, LimitsError> {
    let mut client = Client::new(load, sockets).map_err(LimitsError::Ring)?;
    let window = clock.start();
    let ended = loopback("exchange messages with the echo", client.run(&window))?;
    Ok(EchoLimit {
        connections: load.connections,
        in_flight: load.in_flight,
        message_bytes: load.message_bytes,
        round_trips: window.per_second(client.times.len(), ended),
        latency: latency(&client.times),
    })
}

impl Client {
    fn new(load: EchoLoad, sockets: Vec<TcpStream>) -> io::Result<Client> {
        // Each connection may have one buffer being read by us and one being filled.
        let buffers = (2 * sockets.len()).next_power_of_two().min(MOST_BUFFERS);
        let buffers_at = (BUFFER_RING_AT + buffers * BUFFER_RING_ENTRY).next_multiple_of(4096);
        let messages_at = buffers_at + buffers * BUFFER_BYTES;
        let memory = Memory::new(messages_at + load.in_flight * load.message_bytes);
        let mut ring = Ring::new(SUBMISSIONS, memory)?;
        let entries = u16::try_from(buffers).expect("no more than MOST_BUFFERS");
        ring.provide(BUFFER_RING_AT, entries, buffers_at, BUFFER_BYTES)?;
        let connection = |socket| Connection {
            socket,
            begun: VecDeque::with_capacity(load.in_flight),
            due: load.in_flight,
            sending: 0,
            part: 0,
            listed: true,
        };
        Ok(Client {
            ring,
            ready: (0..sockets.len()).collect(),
            connections: sockets.into_iter().map(connection).collect(),
            message_bytes: load.message_bytes,
            messages_at,
            times: histogram(),
        })
    }

    /// Returns when it ended.
    fn run(&mut self, window: &Window<'_>) -> io::Result<Instant> {
        for (number, connection) in self.connections.iter().enumerate() {
            self.ring
                .receive(&connection.socket, tag(number) | RECEIVE)?;
        }
        let mut done = Vec::with_capacity(2 * self.connections.len());
        loop {
            self.send_due()?;
            self.ring.poll(&mut done)?;
            let now = Instant::now();
            let phase = window.phase(now, self.times.len());
            if phase == Phase::Over {
                return Ok(now);
            }
            for done in done.drain(..) {
                let number = usize::try_from(done.tag >> 1).expect("a tag that we made");
                if done.tag & RECEIVE == 0 {
                    self.sent(number, done)?;
                } else {
                    self.received(number, done, now, phase)?;
                }
            }
        }
    }

    /// One send for each connection that has something due and nothing on its way.
    fn send_due(&mut self) -> io::Result<()> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for number in self.ready.drain(..) {
            let connection = &mut self.connections[number];
            connection.listed = false;
            connection.begun.extend((0..connection.due).map(|_| now));
            connection.sending = connection.due * self.message_bytes;
            connection.due = 0;
            let (socket, len) = (&connection.socket, connection.sending);
            self.ring.send(socket, self.messages_at, len, tag(number))?;
        }
        Ok(())
    }

    fn sent(&mut self, number: usize, done: Done) -> io::Result<()> {
        let connection = &mut self.connections[number];
        if done.bytes()? != connection.sending {
            return Err(io::ErrorKind::WriteZero.into());
        }
        connection.sending = 0;
        self.list(number);
        Ok(())
    }

    fn received(
        &mut self,
        number: usize,
        done: Done,
        now: Instant,
        phase: Phase,
    ) -> io::Result<()> {
        if let Some(buffer) = done.buffer {
            self.ring.give_back(buffer);
        }
        let connection = &mut self.connections[number];
        match done.bytes() {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => connection.part += bytes,
            // All buffers were full at once: they have been given back since.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
        while connection.part >= ANSWER_BYTES {
            connection.part -= ANSWER_BYTES;
            let begun = connection.begun.pop_front();
            let begun = begun.ok_or(io::ErrorKind::InvalidData)?;
            connection.due += 1;
            if phase == Phase::Measure {
                let took = now.saturating_duration_since(begun).as_nanos();
                self.times
                    .saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
            }
        }
        if !done.more {
            self.ring
                .receive(&connection.socket, tag(number) | RECEIVE)?;
        }
        self.list(number);
        Ok(())
    }

    fn list(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        if connection.due > 0 && connection.sending == 0 && !connection.listed {
            connection.listed = true;
            self.ready.push(number);
        }
    }
}

impl Drop for Client {
    /// Ends what is in flight: the ring waits for it.
    fn drop(&mut self) {
        for connection in &self.connections {
            // Fails if the other end is gone, which ends it as well.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
    }
}

fn tag(number: usize) -> u64 {
    (number as u64) << 1
}
