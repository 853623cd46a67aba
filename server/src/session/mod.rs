//! What the connections of every protocol have in common once they are greeted: requests under way
//! and what they hold ([`Held`]), answers on their way to the one task that sends them ([`outbox`]),
//! batches that have their places and become durable ([`placed`]), and the guard that answers those
//! which take too long ([`guard`]).
//!
//! Runs on the shard that owns the connection. It knows no protocol's bytes and never touches a
//! socket: `native` and `kafka` read and write messages, `listen` moves bytes.

pub(crate) mod guard;
pub mod outbox;
pub(crate) mod placed;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_shard::local::Permit;
use millrace_wire::error::WireError;

use outbox::Outbox;

/// What a request holds while it is under way.
pub struct Held {
    /// Its place among the connection's requests.
    pub place: Permit,
    /// The memory its frame takes.
    pub memory: Permit,
}

/// What a connection is told about the limits it is under, and held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The longest frame.
    pub max_frame_bytes: u32,
    /// Most requests under way.
    pub max_in_flight: u32,
}

/// How a protocol cuts a connection's bytes into frames.
pub(crate) trait Framing {
    /// What stands before a payload, as read.
    type Header: Copy;

    /// Its bytes, always as many.
    const HEADER_BYTES: usize;

    /// Reads it, from exactly so many bytes. A header that is refused still says what to answer to.
    fn parse(bytes: &[u8], max_frame_bytes: u32)
    -> Result<Self::Header, (Self::Header, WireError)>;

    /// Bytes that follow it.
    fn payload_bytes(header: Self::Header) -> usize;
}

/// One connection's requests, as whoever reads its socket sees them.
pub(crate) trait Requests {
    /// How they are cut.
    type Framing: Framing;

    /// Waits for a place among the connection's requests. The next frame is not read before.
    async fn place(&self) -> Permit;

    /// A place among the connection's requests, if one is free.
    fn try_place(&self) -> Option<Permit>;

    /// Takes a frame. Returns when the next may be taken, or why there must not be one.
    async fn handle(
        self: &Rc<Self>,
        header: <Self::Framing as Framing>::Header,
        payload: BytesMut,
        held: Held,
    ) -> ControlFlow<Cow<'static, str>>;

    /// Ends the connection over a frame that was refused; tells the client why if the protocol can.
    fn end_with(&self, header: <Self::Framing as Framing>::Header, error: WireError);
}

/// Ends the connection if a request panics while this lives: its client would wait for ever.
pub(crate) struct Alarm<'a>(&'a Outbox);

impl Alarm<'_> {
    pub(crate) fn armed(outbox: &Outbox) -> Alarm<'_> {
        Alarm(outbox)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort();
        }
    }
}
