//! Why something that came in is not used, each counted by itself.

use crate::codec::Malformed;

/// Why a datagram or a stream's bytes were thrown away.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// It is not one of ours: another magic number.
    Magic,
    /// It is of a version that this program does not speak.
    Version,
    /// It is cut, too long for what it says, or means nothing.
    Malformed,
    /// It is longer than a datagram may be, or a frame than a frame.
    TooLong,
    /// It was made with a key that is not in the ring.
    UnknownKey,
    /// Its code is wrong: damaged, forged, or of another cluster.
    Code,
    /// It is for another node.
    Destination,
    /// It says that it comes from this node.
    OwnPacket,
    /// Its number was taken before, or is too old to tell.
    Replay,
    /// It comes from a life that has not proved itself; it was challenged.
    Stranger,
    /// There are too many streams.
    TooManyStreams,
    /// A stream's frame is not the one that is due.
    OutOfTurn,
    /// A table is full.
    Full,
}

impl Refusal {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Refusal; 13] = [
        Refusal::Magic,
        Refusal::Version,
        Refusal::Malformed,
        Refusal::TooLong,
        Refusal::UnknownKey,
        Refusal::Code,
        Refusal::Destination,
        Refusal::OwnPacket,
        Refusal::Replay,
        Refusal::Stranger,
        Refusal::TooManyStreams,
        Refusal::OutOfTurn,
        Refusal::Full,
    ];
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Refusal {
        Refusal::Malformed
    }
}

impl From<crate::codec::BadHeader> for Refusal {
    fn from(bad: crate::codec::BadHeader) -> Refusal {
        match bad {
            crate::codec::BadHeader::Magic => Refusal::Magic,
            crate::codec::BadHeader::Version => Refusal::Version,
            crate::codec::BadHeader::Malformed => Refusal::Malformed,
        }
    }
}
