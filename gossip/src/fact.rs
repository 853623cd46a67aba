//! Claims about members, and which of two claims stands.
//!
//! The claims of one node are totally ordered: by incarnation first, then alive, suspect, dead,
//! left. So "alive" needs a greater incarnation to win, "suspect" and "dead" an equal or greater
//! one (SWIM section 4.2), and all nodes that have heard the same claims, in whatever order, hold
//! the same one.

use std::sync::Arc;

use crate::identity::{Incarnation, NodeId};
use crate::record::NodeRecord;

/// How a member is seen. In the order in which a later one stands at the same incarnation.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    /// It answers.
    Alive,
    /// It did not answer someone and has some time to say that it lives.
    Suspect,
    /// It did not.
    Dead,
    /// It said that it goes.
    Left,
}

impl Status {
    /// Whether it still counts as a member: alive or suspect.
    #[must_use]
    pub fn is_live(self) -> bool {
        self <= Status::Suspect
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Alive => 0,
            Status::Suspect => 1,
            Status::Dead => 2,
            Status::Left => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Status> {
        match code {
            0 => Some(Status::Alive),
            1 => Some(Status::Suspect),
            2 => Some(Status::Dead),
            3 => Some(Status::Left),
            _ => None,
        }
    }
}

/// What is claimed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Claim {
    /// By the member itself: it lives, and this is its record.
    Alive(Arc<NodeRecord>),
    /// It did not answer `by`.
    Suspect { by: NodeId },
    /// `by` waited in vain for it to refute.
    Dead { by: NodeId },
    /// By the member itself: it goes.
    Left,
}

/// A claim about one incarnation of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fact {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) claim: Claim,
}

impl Fact {
    pub(crate) fn status(&self) -> Status {
        match self.claim {
            Claim::Alive(_) => Status::Alive,
            Claim::Suspect { .. } => Status::Suspect,
            Claim::Dead { .. } => Status::Dead,
            Claim::Left => Status::Left,
        }
    }
}
