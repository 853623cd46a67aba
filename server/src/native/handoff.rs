//! A connection on its way from the shard that accepted it to the one that its client asked for.
//! The descriptor's ownership is in the type: whoever drops this closes the connection. Requests that
//! the client sent behind its handshake are still in the socket, which is never read ahead of what
//! is being looked at, so they travel with it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::handshake::Greeting;

/// Everything the new owner needs. The handshake was read and is not answered yet.
#[derive(Debug)]
pub struct MovedConnection {
    /// The socket.
    pub socket: OwnedFd,
    /// The client's address.
    pub peer: SocketAddr,
    /// What the handshake said, to be answered by the new owner.
    pub greeting: Greeting,
}
