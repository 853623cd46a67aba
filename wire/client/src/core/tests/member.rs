//! An application with a member of a group, for the tests of groups.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_wire::native::Request;

use super::consuming::{numbers, store};
use super::coordinator::Group;
use super::world::{World, config, ms};
use crate::core::ConsumerId;
use crate::core::consumer::{Progress, Reader};
use crate::core::group::CommitId;
use crate::{
    ClientError, GroupConfig, GroupEvent, GroupOffset, OffsetReset, Start, TopicPartition,
};

/// An application with a member of a group, as the tokio face would serve it.
pub(super) struct App {
    pub(super) id: ConsumerId,
    pub(super) reader: Reader,
    handed: BTreeMap<TopicPartition, Progress>,
    /// What it was told, but for records.
    events: Vec<GroupEvent>,
    /// What it was given: partition, offset.
    pub(super) seen: Vec<(String, u32, i64)>,
    pub(super) failures: Vec<ClientError>,
}

pub(super) fn group_config() -> GroupConfig {
    GroupConfig {
        session_timeout: ms(6_000),
        max_poll_interval: ms(30_000),
        auto_offset_reset: OffsetReset::Earliest,
        ..GroupConfig::new("g", ["t"])
    }
}

impl App {
    pub(super) fn start(world: &mut World, config: GroupConfig) -> App {
        let id = world.core.open_group(world.now, config).unwrap();
        world.settle();
        App {
            id,
            reader: Reader::new(),
            handed: BTreeMap::new(),
            events: Vec::new(),
            seen: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Comes for one thing, and goes away to work on it.
    pub(super) fn poll_once(&mut self, world: &mut World) -> Option<GroupEvent> {
        let done: Vec<_> = std::mem::take(&mut self.handed).into_iter().collect();
        world.core.group_came(world.now, self.id, &done);
        world.settle();
        let event = self.take(world);
        world.core.group_went(world.now, self.id);
        world.settle();
        match &event {
            Some(GroupEvent::Records(records)) => {
                for record in records {
                    let place = (record.topic.to_string(), record.partition, record.offset);
                    self.seen.push(place);
                    let place = TopicPartition::new(record.topic.clone(), record.partition);
                    let progress = self.reader.progress(&record.topic, record.partition);
                    self.handed
                        .extend(progress.map(|progress| (place, progress)));
                }
            }
            Some(event) => self.events.push(event.clone()),
            None => {}
        }
        event
    }

    fn take(&mut self, world: &mut World) -> Option<GroupEvent> {
        let turn = world
            .core
            .group_turn(world.now, self.id)
            .expect("it is one");
        for place in &turn.stopped {
            self.reader.forget(&place.topic, place.partition);
        }
        if turn.event.is_some() {
            return turn.event;
        }
        self.failures.extend(turn.failure);
        if !turn.may_read {
            return None;
        }
        let mut records = Vec::new();
        if !self.reader.is_reading() {
            match world.core.take_chunk(self.id) {
                Some(chunk) => self.reader.begin(chunk),
                None => self
                    .failures
                    .extend(world.core.take_consumer_error(self.id)),
            }
        }
        self.reader.read(10, &mut records).unwrap();
        (!records.is_empty()).then_some(GroupEvent::Records(records))
    }

    /// Comes until there is nothing more, and stays away then.
    pub(super) fn poll(&mut self, world: &mut World) {
        while self.poll_once(world).is_some() {}
    }

    /// Takes the events since they were last taken.
    pub(super) fn events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn seek(&mut self, world: &mut World, partition: u32, to: Start) {
        let place = TopicPartition::new("t", partition);
        assert!(world.core.group_seek(world.now, self.id, &place, to));
        self.reader.forget("t", partition);
        self.handed.remove(&place);
        world.settle();
    }

    pub(super) fn commit(
        &mut self,
        world: &mut World,
        offsets: Option<Vec<GroupOffset>>,
    ) -> CommitId {
        let done: Vec<_> = self.handed.clone().into_iter().collect();
        let done = if offsets.is_some() { &[][..] } else { &done };
        let commit = world.core.group_commit(world.now, self.id, done, offsets);
        world.settle();
        commit
    }

    pub(super) fn assignment(&self, world: &World) -> Vec<u32> {
        let assigned = world.core.group_assignment(self.id);
        assigned.into_iter().map(|place| place.partition).collect()
    }
}

/// Lets time pass while these come for records all the time.
pub(super) fn run(world: &mut World, apps: &mut [&mut App], time: Duration) {
    let until = world.now.plus(time);
    while world.now < until {
        world.run_for(ms(10));
        apps.iter_mut().for_each(|app| app.poll(world));
    }
}

pub(super) fn places(partitions: impl IntoIterator<Item = u32>) -> Vec<TopicPartition> {
    let partitions = partitions.into_iter();
    partitions.map(|p| TopicPartition::new("t", p)).collect()
}

pub(super) fn committed(world: &World, partition: u32) -> Option<i64> {
    let group = world.coordinator.group("g");
    let place = ("t".to_owned(), partition);
    group.offsets.get(&place).map(|(offset, _)| *offset)
}

pub(super) fn generation(world: &World) -> i32 {
    world.coordinator.group("g").generation
}

/// A world with a topic of so many partitions, each with ten records.
pub(super) fn world(partitions: u32) -> World {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", partitions);
    for partition in 0..partitions {
        store(&mut world, partition, numbers(0..10));
    }
    world
}

pub(super) fn is_join(request: &Request) -> bool {
    matches!(request, Request::JoinGroup(_))
}

/// Who reads a partition, as the coordinator has it.
pub(super) fn owners(group: &Group, partition: u32) -> Vec<String> {
    let place = ("t".to_owned(), partition);
    let owners = group.members.iter();
    let owners = owners.filter(|(_, member)| member.assignment.contains(&place));
    owners.map(|(id, _)| id.clone()).collect()
}
