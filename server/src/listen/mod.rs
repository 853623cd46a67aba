//! Sockets: accepting on every shard, telling protocols apart by a connection's first bytes, limits
//! and timeouts for those who have not introduced themselves, handing a connection to the shard its
//! client asked for, and moving frames in and out.
//!
//! Everything runs on the core of the shard that holds the socket. What a frame means is decided in
//! `native`, `kafka` and `broker`; nothing here looks into one. Sockets are read exactly as far as is needed
//! next, so memory is set aside before bytes are taken from the kernel, and a client that is not
//! read from feels it as TCP back-pressure.

mod accept;
mod bind;
mod connection;
mod frames;
mod gate;
mod greet;
mod socket;

pub use accept::{Door, ListenSettings, Listener, Speaks};
pub use bind::{BindError, bind};
