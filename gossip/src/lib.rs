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
//!
//! # Driving a node
//!
//! ```
//! use gossip::{
//!     BootEpoch, CheckedRecord, Config, Effect, Input, Key, KeyId, KeyRing, Node, NodeId, NodeRecord,
//!     Random, Seed, Time, Version,
//! };
//!
//! struct Weak(u64); // A driver takes the system's randomness instead.
//! impl Random for Weak {
//!     fn next_u64(&mut self) -> u64 {
//!         self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
//!         self.0
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let record = NodeRecord {
//!     gossip: "192.0.2.1:7946".parse()?,
//!     endpoints: Vec::new(),
//!     rack: "a".to_owned(),
//!     shards: 8,
//!     version: Version { major: 0, minor: 1, patch: 0 },
//!     draining: false,
//! };
//! let keys = KeyRing::new(KeyId(1), Key::new(vec![7; 32])?);
//! let mut random = Weak(1);
//! let mut node = Node::new(
//!     Config::new("example"),
//!     NodeId(1),
//!     BootEpoch(1), // Raised on disk before each start.
//!     CheckedRecord::new(record)?,
//!     keys,
//!     Time::ZERO,
//!     &mut random,
//! )?;
//! let seeds = vec![Seed::Address("192.0.2.2:7946".parse()?)];
//! let effects = node.handle(Time::ZERO, Input::Join(seeds), &mut random);
//! assert!(matches!(effects[0], Effect::OpenStream { .. }));
//! // Carry the effects out in their order, hand over what comes in, and call again at the deadline.
//! let next = node.deadline().ok_or("it has not left")?;
//! node.handle(next, Input::Tick, &mut random);
//! # Ok(())
//! # }
//! ```
//!
//! A driver must: never go back in time; carry effects out in order; keep
//! [`Event::BootEpochRaised`] durably before the effects after it; start each life with a greater
//! [`BootEpoch`] than the last; hand over the datagrams that wait before [`Input::Tick`] when it was
//! held up; limit who may open streams, because at most [`Config::max_streams`] are served at once
//! and one that says nothing holds its place for [`Config::stream_timeout_ms`].
//!
//! # Limits
//!
//! What is sent is authenticated, not encrypted. Whoever holds a key can say anything. Updates reach
//! each member with a high probability and not certainly; what is missed comes with the next full
//! exchange. Entries of the maps are forgotten when the driver says so and not by themselves.
//!
//! # What is checked
//!
//! `gossip/tests/simulation.rs` runs a thousand simulated minutes with faults, `scripts/simulate
//! gossip` any number of them. The rules are in `gossip/simulator/src/check.rs`; each of sixteen
//! planted bugs ([`planted`], and a boot epoch that is used twice) breaks one of them within 200
//! seeds.
//!
#![doc = include_str!("../LIFEGUARD.md")]

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
