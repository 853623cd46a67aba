//! Loopback TCP between the two CPUs, with nothing on top: the least that any request and any
//! stream to a broker on this machine cost.
//!
//! For the round trip both ends ask the kernel over and over (plain sockets that do not block):
//! nobody has to be woken, so that it is a lower bound for rings and executors alike.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{Builder, scope};
use std::time::Instant;

use super::stage::{Clock, Phase};
use super::{ANSWER_BYTES, LimitsError};
use crate::cpu::{CpuPlan, pin_current_thread};
use crate::record::{histogram, latency};
use crate::report::model::Latency;

/// Bytes of a message there; the answer has 64.
const MESSAGE_BYTES: usize = 1024;

/// What one call sends, and how much one may receive.
const STREAM_BYTES: usize = 1 << 20;

/// Both ends of a connection.
pub(super) struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
}

/// Connections over loopback, without Nagle's delay.
pub(super) fn pairs(count: usize) -> Result<Vec<Pair>, LimitsError> {
    let connect = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let pair = |_| {
            // One at a time, so that the first in the listener's queue is this one.
            let client = TcpStream::connect(address)?;
            let (server, _) = listener.accept()?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            Ok(Pair { client, server })
        };
        (0..count).map(pair).collect::<io::Result<Vec<Pair>>>()
    };
    connect().map_err(|source| LimitsError::Loopback {
        what: "connect",
        source,
    })
}

fn pair() -> Result<Pair, LimitsError> {
    let pair = pairs(1)?.pop();
    Ok(pair.expect("one was asked for"))
}

/// One message there and back at a time. Runs on the generator's CPU, with a thread on the
/// broker's.
pub(super) fn round_trip(clock: &Clock<'_>, cpus: CpuPlan) -> Result<Latency, LimitsError> {
    let Pair {
        mut client,
        mut server,
    } = pair()?;
    let answer = move || {
        pin_current_thread(cpus.broker)?;
        loopback("answer", answer_all(&mut server))
    };
    scope(|threads| {
        let answering = Builder::new().name("limits-answer".into());
        let answering = answering
            .spawn_scoped(threads, answer)
            .map_err(LimitsError::Thread)?;
        let times = loopback("exchange messages", ask(&mut client, clock));
        // Ends the other side's wait, too.
        drop(client);
        let answered = answering
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If the other side failed, this side saw no more than an end: its reason comes first.
        answered.and(times)
    })
}

fn ask(stream: &mut TcpStream, clock: &Clock<'_>) -> io::Result<Latency> {
    stream.set_nonblocking(true)?;
    let mut times = histogram();
    let mut answer = [0; ANSWER_BYTES];
    let window = clock.start();
    loop {
        let begun = Instant::now();
        let phase = window.phase(begun, times.len());
        if phase == Phase::Over {
            return Ok(latency(&times));
        }
        send(stream, &[1; MESSAGE_BYTES])?;
        if !receive(stream, &mut answer)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if phase == Phase::Measure {
            times.saturating_record(nanoseconds(begun));
        }
    }
}

fn answer_all(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut message = [0; MESSAGE_BYTES];
    while receive(stream, &mut message)? {
        send(stream, &[2; ANSWER_BYTES])?;
    }
    Ok(())
}

/// Fills the buffer, asking over and over. False if the other end is gone.
fn receive(stream: &mut TcpStream, mut buffer: &mut [u8]) -> io::Result<bool> {
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(received) => buffer = &mut buffer[received..],
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) if not_now(&error) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Sends it all, asking over and over if the kernel's buffer is full.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if not_now(&error) => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes a second through one connection, from the generator's CPU to the broker's. Runs on the
/// latter.
pub(super) fn stream(clock: &Clock<'_>, cpus: CpuPlan) -> Result<f64, LimitsError> {
    let Pair {
        mut client,
        mut server,
    } = pair()?;
    let fill = move || {
        pin_current_thread(cpus.generator)?;
        let bytes = vec![1; STREAM_BYTES];
        loop {
            match client.write_all(&bytes) {
                Ok(()) => {}
                // The other end has seen enough.
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return loopback("send a stream", Err(error)),
            }
        }
    };
    scope(|threads| {
        let filling = Builder::new().name("limits-fill".into());
        let filling = filling
            .spawn_scoped(threads, fill)
            .map_err(LimitsError::Thread)?;
        let rate = loopback("receive a stream", take_in(&mut server, clock));
        drop(server);
        let filled = filling
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        filled.and(rate)
    })
}

fn take_in(stream: &mut TcpStream, clock: &Clock<'_>) -> io::Result<f64> {
    let mut buffer = vec![0; STREAM_BYTES];
    let mut bytes = 0;
    let window = clock.start();
    loop {
        let received = match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => received as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        match window.phase(now, bytes) {
            Phase::WarmUp => {}
            Phase::Measure => bytes += received,
            Phase::Over => return Ok(window.per_second(bytes, now)),
        }
    }
}

/// ns since then.
pub(super) fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn loopback<T>(what: &'static str, result: io::Result<T>) -> Result<T, LimitsError> {
    result.map_err(|source| LimitsError::Loopback { what, source })
}

fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}
