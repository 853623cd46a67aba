//! Binding the address once for every shard, before any of them runs. Runs on the starting
//! thread, never on a shard: it may wait.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long a start waits for an address that is in use, and how often it looks.
const IN_USE_PATIENCE: Duration = Duration::from_secs(2);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Why the address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Someone else listens there.
    #[error("{0} is in use by another process; stop it, or set {1} to another address")]
    InUse(SocketAddr, &'static str),
    /// The process may not.
    #[error("no permission to listen on {0}; ports below 1024 need it, set {1} to another one")]
    Denied(SocketAddr, &'static str),
    /// No interface has this address.
    #[error("no interface of this machine has the address of {0}; set {1} to one that it has")]
    NotOurs(SocketAddr, &'static str),
    /// Something else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// One bound socket for each shard, all on the same address; the address, with the port that was
/// chosen if it was 0. They do not listen yet, so clients are refused until the broker is ready.
/// `setting` is where the address is from.
pub fn bind(
    address: SocketAddr,
    setting: &'static str,
    shards: u16,
) -> Result<(SocketAddr, Vec<Socket>), BindError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address, setting),
        io::ErrorKind::PermissionDenied => BindError::Denied(address, setting),
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs(address, setting),
        _ => BindError::Other {
            address,
            source: error,
        },
    };
    // Sockets that share a port do not notice another process that shares it too, so a socket that
    // does not share is bound first, to see whether the address is free.
    let probe = when_free(address).map_err(fail)?;
    let local = probe
        .local_addr()
        .map_err(fail)?
        .as_socket()
        .unwrap_or(address);
    drop(probe);
    let sockets = (0..shards)
        .map(|_| socket(local, true))
        .collect::<io::Result<_>>();
    Ok((local, sockets.map_err(fail)?))
}

/// A socket bound to the address alone. The kernel lets go of a killed process's rings, and of the
/// listening sockets in them, a moment after the process is gone; a restart waits for that.
fn when_free(address: SocketAddr) -> io::Result<Socket> {
    let given_up = Instant::now() + IN_USE_PATIENCE;
    loop {
        match socket(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < given_up => {
                std::thread::sleep(IN_USE_PAUSE);
            }
            other => return other,
        }
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of the last run that linger in the kernel do not count as use.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` serves IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_others_listen_on_is_refused_even_if_they_would_share_it() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let (address, sockets) = bind(any, "bind", 2).expect("a free port");
        assert_ne!(address.port(), 0);
        sockets[0].listen(1).expect("bound");
        let error = bind(address, "bind", 2).expect_err("in use");
        assert!(
            error.to_string().contains("in use by another process"),
            "{error}"
        );
        drop(sockets);
        bind(address, "bind", 1).expect("free again");
    }

    #[test]
    fn an_address_that_is_not_ours_is_told() {
        let foreign: SocketAddr = "192.0.2.1:0".parse().expect("an address");
        let error = bind(foreign, "bind", 1)
            .expect_err("a documentation address")
            .to_string();
        assert!(error.contains("192.0.2.1:0"), "{error}");
    }
}
