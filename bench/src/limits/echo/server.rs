//! The echo's server: a task per connection that reads as much as has arrived, with the executor's own
//! sockets, and answers every whole message in it with one system call, the way the broker sends.

#![allow(unsafe_code)] // Descriptors change owners between std and glommio as raw numbers.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::Path;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use millrace_shard::env::glommio::GlommioEnv;
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::runtime::executor::{ExecutorSettings, ShardPlace, ShardThread};
use millrace_shard::runtime::watchdog::{DEFAULT_PERIOD, Watchdog};
use millrace_wire::ids::ShardId;
use socket2::Socket;

use super::{ANSWER_BYTES, LimitsError};
use crate::cpu::CpuPlan;

/// Whole messages that one read takes in at most: more than a connection has in flight.
const MESSAGES_AT_ONCE: usize = 16;

/// A running server.
pub(super) struct Server {
    thread: ShardThread<()>,
    _watchdog: Watchdog,
}

impl Server {
    /// Serves these connections until their other ends close.
    pub(super) fn start(
        sockets: Vec<TcpStream>,
        message_bytes: usize,
        cpus: CpuPlan,
        directory: &Path,
    ) -> Result<Server, LimitsError> {
        let place = ShardPlace {
            shard: ShardId(0),
            cpu: cpus.broker,
            allowed_cpus: vec![cpus.generator, cpus.broker],
            directory: directory.to_owned(),
        };
        let serve = move |env: GlommioEnv| async move {
            let mut tasks = Vec::new();
            for socket in sockets {
                let answer = answer(env.clone(), socket, message_bytes);
                tasks.push(env.spawn(Queue::Requests, "echo", OnPanic::EndTask, answer));
            }
            for task in tasks {
                // An error means that the client is gone, and its own error says more.
                let _ = task.await;
            }
        };
        let thread = ShardThread::start(place, &ExecutorSettings::default(), serve)?;
        // Without it an executor may fall asleep over work.
        let watchdog = Watchdog::start(vec![thread.pulse()], DEFAULT_PERIOD);
        Ok(Server {
            _watchdog: watchdog.map_err(LimitsError::Thread)?,
            thread,
        })
    }

    /// Waits for its end.
    pub(super) fn join(self) -> Result<(), LimitsError> {
        Ok(self.thread.join()?)
    }
}

async fn answer(env: GlommioEnv, socket: TcpStream, message_bytes: usize) -> io::Result<()> {
    let sender = Socket::from(socket.try_clone()?);
    // SAFETY: the descriptor's ownership moves here from `socket`, which gives it up.
    let mut stream = unsafe { glommio::net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
    let mut buffer = vec![0; MESSAGES_AT_ONCE * message_bytes];
    let answers = [2; MESSAGES_AT_ONCE * ANSWER_BYTES];
    let mut filled = 0;
    loop {
        let received = stream.read(&mut buffer[filled..]).await?;
        if received == 0 {
            return Ok(());
        }
        filled += received;
        let whole = filled / message_bytes;
        if whole > 0 {
            let answers = &answers[..whole * ANSWER_BYTES];
            let sent = send_now(&sender, answers)?;
            stream.write_all(&answers[sent..]).await?;
            buffer.copy_within(whole * message_bytes..filled, 0);
            filled -= whole * message_bytes;
        }
        env.yield_now().await;
    }
}

/// Sends as much as the kernel takes at once.
fn send_now(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    match socket.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
