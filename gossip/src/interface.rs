//! What a node is told, and what it wants done.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::{BootEpoch, Incarnation, NodeId};
use crate::keys::KeyRing;
use crate::lww::{Entry, Leadership, Ownership, PartitionId, RangeId};
use crate::record::{NodeRecord, RecordError};

/// A node to join through.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seed {
    /// By address.
    Address(SocketAddr),
    /// By name, resolved anew for each attempt.
    Name {
        /// What the driver resolves.
        name: String,
        /// The port.
        port: u16,
    },
}

/// A stream, named by whoever began it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StreamId {
    /// Opened by the node ([`Effect::OpenStream`]), which numbers them.
    Opened(u64),
    /// Accepted by the driver, which numbers them. The node learns of one by its first bytes.
    Accepted(u64),
}

/// A record that has passed [`NodeRecord::check`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CheckedRecord(Arc<NodeRecord>);

impl CheckedRecord {
    /// Checks a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(record: NodeRecord) -> Result<CheckedRecord, RecordError> {
        record.check()?;
        Ok(CheckedRecord(Arc::new(record)))
    }

    pub(crate) fn into_inner(self) -> Arc<NodeRecord> {
        self.0
    }
}

/// What happened, from the driver to the node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input<'a> {
    /// Time has passed: call at [`deadline`](crate::Node::deadline). Only this lets timers run out,
    /// so a driver that was held up should hand over the datagrams that wait before it.
    Tick,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Bytes came on a stream, cut anywhere.
    StreamBytes {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A stream has taken all that was sent on it.
    StreamWritable(StreamId),
    /// A stream was closed or reset, or could not be opened.
    StreamEnded(StreamId),
    /// A name was resolved; to nothing, if it could not be.
    Resolved {
        /// The name.
        name: String,
        /// Where it points.
        addresses: Vec<SocketAddr>,
    },
    /// Join the cluster of which these are members. Goes on until it works. Seeds are remembered,
    /// and looked for while they are no members.
    Join(Vec<Seed>),
    /// Leave for good, with notice.
    Leave,
    /// Publish this record from now on.
    UpdateRecord(CheckedRecord),
    /// Publish an entry of a map, for which this node vouches.
    Publish(Entry),
    /// A partition is no more: forget its leader.
    ForgetPartition(PartitionId),
    /// A range is no more: forget its owner.
    ForgetRange(RangeId),
    /// Use these keys from now on.
    UseKeys(KeyRing),
}

/// What the node wants done, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Send a datagram. It may be lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it, at most [`MAX_PACKET_BYTES`](crate::MAX_PACKET_BYTES).
        bytes: Vec<u8>,
    },
    /// Open a stream. What is sent on it waits until it is open.
    OpenStream {
        /// Its name from now on.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send on a stream, and say [`Input::StreamWritable`] when it is gone.
    SendStream {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Close a stream after what was sent on it. Nothing more is heard of it.
    CloseStream(StreamId),
    /// Resolve a name and say [`Input::Resolved`].
    Resolve {
        /// The name.
        name: String,
        /// The port to put into the addresses.
        port: u16,
    },
    /// Tell the sink.
    Event(Event),
}

/// What the node has learned, for whoever is interested. All of it is a hint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A member is here, for the first time or again.
    Joined {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Its record.
        record: Arc<NodeRecord>,
    },
    /// A member has a new record, or began a new life while nobody noticed its absence.
    Updated {
        /// The member.
        node: NodeId,
        /// Its incarnation; see the boot epoch in it.
        incarnation: Incarnation,
        /// Its record.
        record: Arc<NodeRecord>,
    },
    /// A member did not answer somebody.
    Suspected {
        /// The member.
        node: NodeId,
        /// The suspected incarnation.
        incarnation: Incarnation,
    },
    /// A suspected member has refuted.
    Recovered {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A suspected member has not refuted in time.
    Failed {
        /// The member.
        node: NodeId,
        /// The failed incarnation.
        incarnation: Incarnation,
    },
    /// A member has left with notice.
    Left {
        /// The member.
        node: NodeId,
        /// Its last incarnation.
        incarnation: Incarnation,
    },
    /// A member that failed or left long ago has been forgotten.
    Forgotten {
        /// The member.
        node: NodeId,
    },
    /// A partition's leader became known.
    LeadershipLearned {
        /// The partition.
        partition: PartitionId,
        /// Who leads it.
        leadership: Leadership,
    },
    /// A range's owner became known.
    OwnershipLearned {
        /// The range.
        range: RangeId,
        /// Who owns it.
        ownership: Ownership,
    },
    /// This node exchanged its state with a member and is part of the cluster.
    JoinSucceeded {
        /// The member.
        through: NodeId,
    },
    /// The cluster knows a later life of this node than this one, because the node's disk was
    /// lost or replaced. It goes on as the life after that: **keep this epoch durably before any
    /// later effect is carried out**.
    BootEpochRaised(BootEpoch),
    /// The notice of leaving has been given long enough; the node does nothing any more.
    LeaveDone,
}
