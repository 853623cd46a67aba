//! Faults as data, so that a run's faults can be listed, shrunk and stored.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::network::LinkModel;
pub use crate::network::Node;
use crate::time::{Time, as_nanoseconds};

/// A fault and when it is in force: from `at` for `lasts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// When it begins.
    #[serde(rename = "at_ns")]
    pub at: Time,
    /// How long it is in force; for [`Fault::Crash`] and [`Fault::Wipe`], how long the node is
    /// down.
    #[serde(rename = "lasts_ns", with = "as_nanoseconds")]
    pub lasts: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

impl Timed {
    /// When it is over.
    #[must_use]
    pub fn ends(&self) -> Time {
        self.at + self.lasts
    }
}

/// What can go wrong. The simulator makes it so: [`Network::begin`](crate::Network::begin) knows
/// the faults of the network, the others are about state that only the simulator holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing passes one way.
    Cut {
        /// The sender that is not heard.
        from: Node,
        /// The receiver that hears nothing.
        to: Node,
    },
    /// A node is cut off from all others, both ways.
    Isolate {
        /// The lonely one.
        node: Node,
    },
    /// Nodes of different groups do not reach one another; those in no group form one more.
    Partition {
        /// The groups; no node is in two of them.
        groups: Vec<Vec<Node>>,
    },
    /// What is sent one way is held back until the fault is over.
    Clog {
        /// The sender.
        from: Node,
        /// The receiver.
        to: Node,
    },
    /// The whole network is worse for a while.
    Network {
        /// What its links do meanwhile.
        model: LinkModel,
    },
    /// The process dies and loses what it had not synced, an arbitrary part of it.
    Crash {
        /// The node.
        node: Node,
    },
    /// The process dies and its disk is empty when it comes back.
    Wipe {
        /// The node.
        node: Node,
    },
    /// The process stands still while its clock goes on, and all that reached it waits.
    Pause {
        /// The node.
        node: Node,
    },
    /// The node's clocks are wrong. Both end with the fault.
    Skew {
        /// The node.
        node: Node,
        /// Its wall clock steps by this many nanoseconds. A monotonic clock never steps.
        offset_ns: i64,
        /// Its monotonic clock gains this many microseconds in a second.
        drift_ppm: i32,
    },
    /// The node's disk misbehaves.
    Disk {
        /// The node.
        node: Node,
        /// How.
        fault: DiskFault,
    },
    /// A fault that only one simulator knows. Never drawn by [`Plan::draw`](crate::Plan::draw).
    Custom {
        /// What it is, in the simulator's words.
        name: String,
        /// The node.
        node: Node,
        /// How much of it.
        amount: u64,
    },
}

/// How a disk misbehaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskFault {
    /// Each write and sync takes longer.
    Slow {
        /// By this much in the mean, exponentially distributed.
        #[serde(rename = "mean_ns", with = "as_nanoseconds")]
        mean: Duration,
    },
    /// A sync that begins meanwhile fails.
    FailSync,
    /// Something durable is no longer what was written: rot, or a write that went astray. The
    /// simulator draws what is hit, when the fault begins.
    Damage,
    /// If the node crashes meanwhile, an unsynced write may be on the disk in part.
    TornOnCrash,
}

impl Fault {
    /// Whether it names nodes below `nodes` only, each group member once, and sound shares.
    pub(crate) fn fits(&self, nodes: usize) -> bool {
        match self {
            Self::Cut { from, to } | Self::Clog { from, to } => *from < nodes && *to < nodes,
            Self::Partition { groups } => {
                let mut seen = vec![false; nodes];
                groups
                    .iter()
                    .flatten()
                    .all(|&node| node < nodes && !std::mem::replace(&mut seen[node], true))
            }
            Self::Network { model } => model.is_sound(),
            Self::Isolate { node }
            | Self::Crash { node }
            | Self::Wipe { node }
            | Self::Pause { node }
            | Self::Skew { node, .. }
            | Self::Disk { node, .. }
            | Self::Custom { node, .. } => *node < nodes,
        }
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "at {} for {:?}: {}",
            self.at, self.lasts, self.fault
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { from, to } => write!(formatter, "nothing passes from {from} to {to}"),
            Self::Isolate { node } => write!(formatter, "node {node} is cut off"),
            Self::Partition { groups } => write!(formatter, "partition into {groups:?}"),
            Self::Clog { from, to } => write!(formatter, "held back from {from} to {to}"),
            Self::Network { model } => write!(
                formatter,
                "network of {:?} + {:?}, {:.0} % lost, {:.0} % twice, {:.0} % up to {:?} late",
                model.delay_min,
                model.delay_mean,
                model.loss * 100.0,
                model.duplication * 100.0,
                model.reordering * 100.0,
                model.reordering_delay,
            ),
            Self::Crash { node } => write!(formatter, "node {node} crashes"),
            Self::Wipe { node } => write!(formatter, "node {node} crashes and loses its disk"),
            Self::Pause { node } => write!(formatter, "node {node} stands still"),
            Self::Skew {
                node,
                offset_ns,
                drift_ppm,
            } => write!(
                formatter,
                "node {node}'s clock steps {offset_ns} ns and drifts {drift_ppm} ppm"
            ),
            Self::Disk { node, fault } => match fault {
                DiskFault::Slow { mean } => {
                    write!(formatter, "node {node}'s disk is slower by {mean:?}")
                }
                DiskFault::FailSync => write!(formatter, "node {node}'s syncs fail"),
                DiskFault::Damage => write!(formatter, "node {node}'s disk is damaged"),
                DiskFault::TornOnCrash => {
                    write!(formatter, "node {node}'s writes tear if it crashes")
                }
            },
            Self::Custom { name, node, amount } => {
                write!(formatter, "{name} at node {node}, {amount}")
            }
        }
    }
}
