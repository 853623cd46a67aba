//! Coordinators: who is in a consumer group, who reads what of it, and how far it has come. A group
//! belongs to one partition of the internal topic `__groups`, and the shard that owns that partition
//! coordinates it, on its own core. Every change is a record there, so that a restart, and later
//! another node, knows what this one knew.
//!
//! [`api`] is what the faces ask; they speak Kafka's protocol or the native one and decide nothing.
//! [`group`] decides, and is pure. [`partition`] runs the groups of one partition: it reads their log,
//! writes to it and keeps time. [`Coordinators`] has those of one shard.

pub mod api;
pub mod assignor;
pub mod group;
mod log;
mod partition;
pub mod record;
pub mod settings;

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use millrace_shard::env::Env;
use millrace_shard::log::Partition;
use millrace_wire::error::WireError;
use millrace_wire::ids::{PartitionIndex, TopicName};

use api::{GroupAnswer, GroupCall, ListedGroup};
use group::Assign;
use partition::Coordinator;
use settings::GroupSettings;

/// The internal topic's name.
pub const GROUPS_TOPIC: &str = "__groups";

/// How `__groups` is kept: nothing goes by age or size, since whoever coordinates keeps it short; in
/// small segments, so that what was dropped leaves the disk.
pub const GROUPS_TOPIC_CONFIGS: [(&str, &str); 3] = [
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("segment.bytes", "16777216"),
];

/// Which of `partitions` partitions a group belongs to. As long as their number stays, so does this.
#[must_use]
pub fn partition_of(group: &str, partitions: u32) -> PartitionIndex {
    PartitionIndex(crc32fast::hash(group.as_bytes()) % partitions.max(1))
}

/// The coordinators of one shard.
pub struct Coordinators<E: Env> {
    settings: GroupSettings,
    assign: Rc<dyn Assign>,
    hosted: RefCell<HashMap<PartitionIndex, Rc<Coordinator<E>>>>,
}

impl<E: Env> Coordinators<E> {
    /// No coordinators so far.
    #[must_use]
    pub fn new(settings: GroupSettings, assign: Rc<dyn Assign>) -> Coordinators<E> {
        Coordinators {
            settings,
            assign,
            hosted: RefCell::default(),
        }
    }

    /// What an operator has set.
    #[must_use]
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Takes on the groups of a partition, if it has not yet: reads its log in the background, and
    /// serves then.
    pub fn host(&self, env: &E, partition: &Rc<Partition<E>>) {
        let index = partition.id().partition;
        if self.hosted.borrow().contains_key(&index) {
            return;
        }
        // Starting runs code; the map is not held meanwhile.
        let coordinator = Coordinator::start(
            env.clone(),
            Rc::clone(partition),
            self.settings.rules.clone(),
            Rc::clone(&self.assign),
        );
        self.hosted.borrow_mut().insert(index, coordinator);
    }

    /// Lets go of the groups of a partition: whoever waits is told to ask again who coordinates.
    pub fn let_go(&self, index: PartitionIndex) {
        let coordinator = self.hosted.borrow_mut().remove(&index);
        if let Some(coordinator) = coordinator {
            coordinator.stop(partition::not_here());
        }
    }

    /// Lets go of everything.
    pub fn let_all_go(&self) {
        let hosted: Vec<PartitionIndex> = self.hosted.borrow().keys().copied().collect();
        hosted.into_iter().for_each(|index| self.let_go(index));
    }

    /// Serves a request to a group of a partition that belongs here. Where it is not hosted it is about
    /// to be: a topic is known before its partitions are made.
    pub async fn handle(
        &self,
        index: PartitionIndex,
        call: GroupCall,
    ) -> Result<GroupAnswer, WireError> {
        let coordinator = self.hosted.borrow().get(&index).cloned();
        match coordinator {
            Some(coordinator) => coordinator.handle(call).await,
            None => Err(partition::loading()),
        }
    }

    /// All groups that are coordinated here, in no order.
    pub fn list(&self) -> Result<Vec<ListedGroup>, WireError> {
        let mut groups = Vec::new();
        for coordinator in self.all() {
            groups.extend(coordinator.listed()?);
        }
        Ok(groups)
    }

    /// A topic has come, gone or grown.
    pub async fn topics_changed(&self, changed: &TopicName, is_deleted: bool) {
        for coordinator in self.all() {
            coordinator.topics_changed(changed, is_deleted).await;
        }
    }

    /// Forgets offsets that nobody has used for long.
    pub async fn expire_offsets(&self) {
        for coordinator in self.all() {
            coordinator
                .for_each(|group, rules, assign, now| group.expire_offsets(rules, assign, now))
                .await;
        }
    }

    fn all(&self) -> Vec<Rc<Coordinator<E>>> {
        self.hosted.borrow().values().cloned().collect()
    }
}
