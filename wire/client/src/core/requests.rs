//! The request table's entries: what to do with an answer, and with its absence.

use millrace_wire::native::Request;

use super::consumer::FetchId;
use super::group::Exchange;
use super::metadata::PartitionKey;
use super::producer::BatchId;
use super::time::Time;
use super::{ConsumerId, ProducerId};

/// A user's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A user's request on its way.
#[derive(Clone, Debug)]
pub(crate) struct UserRequest {
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    /// Whether sending it twice does no harm.
    pub(crate) repeatable: bool,
    pub(crate) deadline: Time,
}

/// What an unanswered request is about.
#[derive(Debug)]
pub(crate) enum Purpose {
    Handshake,
    Metadata,
    User(UserRequest),
    /// The question for a producer's id.
    Identity {
        producer: ProducerId,
    },
    Produce {
        producer: ProducerId,
        batches: Vec<(PartitionKey, BatchId)>,
    },
    Fetch {
        consumer: ConsumerId,
        fetch: FetchId,
    },
    Offsets {
        consumer: ConsumerId,
        asked: Vec<(PartitionKey, u64)>,
    },
    Group {
        consumer: ConsumerId,
        exchange: Exchange,
        number: u64,
    },
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) purpose: Purpose,
    pub(crate) deadline: Time,
}
