//! Membership as a state machine: SWIM with Lifeguard, in which the nodes of a cluster find out who
//! is there, tell each other who failed, and spread hints about who leads what. It has no I/O, no
//! clock, no threads and no async: [`Node`] takes in what happened and says what to do, and a driver
//! (a shard of the broker, or a simulator) does it. It knows no other crate of the workspace.
//!
//! What it says is a hint: it routes, it balances, it tells whom to suspect. It never grants a
//! vote, a lease or a commit.
//!
//! Sources: A. Das, I. Gupta, A. Motivala, *SWIM*, DSN 2002 ("SWIM" in what follows);
//! A. Dadgar, J. Phillips, J. Currey, *Lifeguard*, DSN-W 2018 ("Lifeguard").
//!
//! | part | what it decides |
//! |---|---|
//! | [`node`](Node) | the door: lets the others work together |
//! | `probe` | whom to ask, whom to ask for help, which answers count |
//! | `suspicion` | how long an accused member has to refute |
//! | `members`, `fact` | which of two claims about a member stands |
//! | `dissemination` | what rides on the next packet |
//! | `awareness` | how far to trust oneself |
//! | `sync` | the full exchange over a stream |
//! | `auth`, `keys` | whom to believe |
//! | `lww` | the two maps: leaders of partitions, owners of ranges |
//! | `codec` | bytes |

mod auth;
mod awareness;
mod codec;
mod config;
mod counters;
mod dissemination;
mod fact;
mod identity;
mod interface;
mod keys;
mod lww;
mod members;
mod node;
#[doc(hidden)]
pub mod planted;
mod probe;
mod random;
mod record;
mod refusal;
mod suspicion;
mod sync;
mod time;

pub use auth::WINDOW;
pub use codec::MAX_PACKET_BYTES;
pub use config::{Config, ConfigError, Lifeguard};
pub use counters::Counters;
pub use fact::Status;
pub use identity::{BootEpoch, Incarnation, NodeId};
pub use interface::{CheckedRecord, Effect, Event, Input, Seed, StreamId};
pub use keys::{Key, KeyError, KeyId, KeyRing, MIN_KEY_BYTES};
pub use lww::{Entry, Leadership, LwwMap, Ownership, PartitionId, RangeId};
pub use members::Member;
pub use node::Node;
pub use random::Random;
pub use record::{
    Endpoint, MAX_ENDPOINTS, MAX_HOST_BYTES, MAX_RACK_BYTES, NodeRecord, Purpose, RecordError,
    Version,
};
pub use refusal::Refusal;
pub use time::Time;
