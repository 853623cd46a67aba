//! Consensus as a state machine: Raft for the groups of one shard, over *spans* of entries and never
//! their bytes. It has no I/O, no clock, no threads and no async, and depends on nothing of Millrace;
//! `shard/` drives it on the core that owns the replica, and a simulator drives it through millions of
//! bad days (`raft/simulator`, `scripts/simulate raft`).
//!
//! Who is new to Raft may begin with `tests/scenarios/`: each scene is a short script, and beside it
//! what the replicas did and said, from the first election to the membership change that goes wrong.
//!
//! # How it is used
//!
//! A [`Group`] is one replica of one log. It is told what happens, one [`Input`] at a time, and answers
//! with [`Effect`]s, to be carried out in their order:
//!
//! - Writes (votes, entries, truncations) are numbered, in one order ([`Io`]). The driver hands them to
//!   its journal and says later up to which number everything is durable. Nothing waits for that but
//!   messages: an [`Effect::Send`] names the write that must be durable before it leaves. So "persist
//!   before you speak" (Raft paper, figure 2) is a property of the type.
//! - A message with spans travels with their bytes, which the driver attaches from its cache. What is
//!   not in memory is asked for ([`Effect::ReadSpan`]) and sent later.
//! - Time comes in with each step, and the next moment at which a group wants to be called is data
//!   ([`Group::deadline`]). [`Groups`] holds those of a whole shard behind one timer. A group with
//!   nothing to do falls quiet and has none.
//!
//! # What it decides
//!
//! | part | decides | from |
//! |---|---|---|
//! | `election` | who leads: pre-vote, votes, faithfulness to a leader that is there | paper §5.2, §5.4.1; thesis §4.2.3, §9.6 |
//! | `lead` | what is committed and visible; check-quorum; who is in sync; falling quiet | paper §5.3, §5.4.2; thesis §6.2; Kafka's ISR |
//! | `follow` | what is appended, cut or dropped; the cure of a damaged log | paper §5.3; KIP-595, KIP-630 |
//! | `replicate`, `progress` | what is sent to whom, how much at once, and what is sent again | etcd's progress |
//! | `log` | where terms end, what is durable, where two logs part | KIP-101, KIP-279 |
//! | `configuration`, `membership` | who votes, and changes of that | paper §6; thesis §4 |
//! | `reads` | whether this is still the leader: by rounds, or by lease | thesis §6.4 |
//! | `transfer` | handing leadership over | thesis §3.10 |
//!
//! # What always holds
//!
//! One leader a term. Two logs that have an entry of one term at one index are the same up to there. A
//! committed entry is in the log of every later leader, and is never cut. `log start - 1 <= visible <=
//! commit <= last`, and each of the first three only grows while a replica runs. A replica speaks of no
//! term, vote or entry that its disk might forget. The assertions of this crate say so where it
//! matters, in release builds too: a replica that would break one of these stops instead.
//!
//! Entries have an index, whatever they are; which of them have Kafka offsets is the driver's.

mod configuration;
mod election;
mod follow;
mod group;
mod groups;
mod input;
mod lead;
mod log;
mod membership;
mod message;
pub mod planted;
mod progress;
mod reads;
mod replicate;
mod settings;
mod transfer;
mod types;

pub use configuration::Configuration;
pub use group::Group;
pub use groups::Groups;
pub use input::{
    Acks, Change, Condition, Content, Cut, Effect, Fatal, Hint, Input, LogView, Proposal, Random,
    Recovered, Rejection, Role,
};
pub use message::{Body, Cure, Damage, Message, Round, Watermarks};
pub use settings::{CommitRule, Reads, Settings, SettingsError};
pub use types::{GroupId, Index, Io, NodeId, Position, ReplicaId, Span, Term, Time, Token};
