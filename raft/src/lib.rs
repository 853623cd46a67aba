//! Consensus as a state machine: the Raft of one group, over spans of batches, without I/O, clock,
//! threads or async, driven by `shard/` and by a simulator.

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
