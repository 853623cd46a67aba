//! What coordinators need to know to assign: the number of each topic's partitions.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::TopicName;

use super::Catalog;
use crate::coordinator::group::{Assign, Subscribed};

/// Assigns what the catalog says there is.
pub(super) struct Assigning(pub(super) Rc<RefCell<Catalog>>);

impl Assign for Assigning {
    fn assign(&self, _protocol: &str, members: &[Subscribed<'_>]) -> Vec<Bytes> {
        members.iter().map(|_| Bytes::new()).collect()
    }

    fn topics(&self, _metadata: &Bytes) -> Vec<TopicName> {
        Vec::new()
    }
}
