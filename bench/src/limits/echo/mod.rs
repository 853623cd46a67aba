//! A bare echo on the broker's own executor: what of a round trip to the broker is not the
//! broker's doing. The server runs as a shard does (the same settings, wrapper and watchdog) on the
//! broker's CPU; the client in [`client`] has a ring on the generator's.

mod client;
mod server;

use std::net::TcpStream;
use std::path::Path;

use super::loopback::{Pair, pairs};
use super::stage::Clock;
use super::{ANSWER_BYTES, LimitsError};
use crate::cpu::CpuPlan;
use crate::report::model::EchoLimit;

/// A closed loop of messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct EchoLoad {
    pub connections: usize,
    pub in_flight: usize,
    pub message_bytes: usize,
}

/// Drives the echo. Runs on the generator's CPU, with a shard's thread on the broker's; `directory`
/// is one that a shard may try its files in.
pub(super) fn echo(
    clock: &Clock<'_>,
    load: EchoLoad,
    cpus: CpuPlan,
    directory: &Path,
) -> Result<EchoLimit, LimitsError> {
    let (clients, servers): (Vec<TcpStream>, Vec<TcpStream>) = pairs(load.connections)?
        .into_iter()
        .map(|Pair { client, server }| (client, server))
        .unzip();
    let server = server::Server::start(servers, load.message_bytes, cpus, directory)?;
    let driven = client::drive(clock, load, clients);
    // The client's ends are closed by now, which ends the server's tasks.
    server.join()?;
    driven
}
