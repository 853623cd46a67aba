//! What coordinators need to know to assign: how many partitions a topic has.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::TopicName;
use millrace_wire::kafka::consumer_protocol::Subscription;

use super::Catalog;
use crate::coordinator::api::JoinedMember;
use crate::coordinator::assignor::{Protocol, assign_encoded};
use crate::coordinator::group::Assign;

/// Shares out what this shard's catalog has.
pub(super) struct Assigning(pub(super) Rc<RefCell<Catalog>>);

impl Assign for Assigning {
    fn assign(&self, protocol: Protocol, members: &[JoinedMember]) -> Vec<(String, Bytes)> {
        let catalog = self.0.borrow();
        let partitions = |name: &str| Some(catalog.find(name).ok()?.topic.partitions);
        assign_encoded(protocol, members, &partitions)
    }

    fn topics(&self, metadata: &Bytes) -> Vec<TopicName> {
        let Ok(subscription) = Subscription::parse(metadata) else {
            return Vec::new();
        };
        let names = subscription.topics.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }
}
