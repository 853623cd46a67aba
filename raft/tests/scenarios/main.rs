//! Raft, told in scenes: scripts with a handful of replicas, and what the core does at each step. What
//! lives here are stories that teach a rule each; bad days by the million are `raft/simulator`'s.
//!
//! Someone new to Raft reads [`elections`] first, then [`replication`] and [`divergence`]: that is the
//! protocol. What a broker needs beside it is in the others, in any order. A scene says in its comment
//! which rule it is about, why there is one, and where it comes from.
//!
//! A trace has a line for each thing that a replica does or says:
//!
//! ```text
//! n1 is a candidate in t2                  t2 is a term
//! n1 -> n2, n3: vote for me in t2! My log ends at 4@t1
//!                                          4@t1 is the entry at index 4, of term 1
//! n2 writes down t2, vote for n1           for its disk; what depends on it is said afterwards
//! n2 -> n1: you have my vote in t2
//! n3 -> n1: not my vote, in t2 (lost)      there is no way to n1, or n1 is down
//! n1 appends 5@t2 x=1                      to its log, and asks its disk to
//! n1 -> n2: in t2: after 4@t1 comes 5@t2 x=1 [commit 4]
//!                                          and n1 knows that all up to 4 is committed
//! ```
//!
//! Heartbeats and their answers are left out where they are not the point.
//!
//! When the core changes on purpose, `UPDATE_EXPECT=1 cargo test -p raft --test scenarios` writes the
//! new traces into the scripts. Read them before they are committed: they say what Millrace promises.

mod actor;
mod damage;
mod divergence;
mod elections;
mod in_sync;
mod learners;
mod membership;
mod quiescence;
mod reads;
mod replication;
mod stage;
mod transfer;
mod wording;
