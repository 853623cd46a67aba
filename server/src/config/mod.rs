//! What the operator may set, and where each value came from.
//!
//! One table (`keys`) names every key with its kind, default, limits and a sentence about it. The
//! typed [`Config`], the YAML file, the `MILLRACE_…` variables, `--set`, the help and what
//! `millrace config` prints all come from that table, so that none of them can know a key that the
//! others do not. Values travel as the text the operator wrote until they are checked, each by its
//! kind, and the line, variable or flag is named when one is refused.
//!
//! Everything here runs once, on the main thread, before any shard exists; it reads the
//! configuration file, the environment and the size of a file system, and nothing else.

mod automatic;
mod file;
mod keys;
mod kind;
mod resolve;

pub use automatic::{AutomaticSizes, Machine};
pub use keys::{
    Cache, Config, Journal, Key, Limits, Log, Network, Storage, TOPIC_DEFAULTS, Topic, keys,
};
pub use resolve::{ConfigError, Inputs, Resolved, Setting, Source, resolve, suggestion};
