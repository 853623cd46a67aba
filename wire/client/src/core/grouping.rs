//! Members of groups: from what they want to requests, and from what they decide to positions.

use millrace_wire::native::Response;

use super::consumer::Progress;
use super::group::{CommitId, Effect, Exchange, Group, Turn};
use super::metadata::PartitionKey;
use super::random::Backoff;
use super::requests::{Pending, Purpose};
use super::{ConsumerId, Core, Event, Time, Timer};
use crate::{
    ClientError, ConsumerConfig, GroupConfig, GroupOffset, OffsetReset, OutOfRange, Start,
    TopicPartition,
};

impl Core {
    /// A consumer that is a member of a group, or is about to be.
    pub fn open_group(
        &mut self,
        now: Time,
        config: GroupConfig,
    ) -> Result<ConsumerId, ClientError> {
        let fetch = ConsumerConfig {
            out_of_range: match config.auto_offset_reset {
                OffsetReset::Earliest => OutOfRange::Earliest,
                OffsetReset::Latest => OutOfRange::Latest,
                OffsetReset::Error => OutOfRange::Error,
            },
            ..config.fetch.clone()
        };
        let (patience, max_age) = (self.config.request_timeout, self.config.metadata_max_age);
        let group = Group::new(now, config, patience, max_age)?;
        let id = self.open_consumer(fetch);
        self.groups.insert(id, group);
        Ok(id)
    }

    /// The application comes for records; it has come this far with those that it was given.
    pub fn group_came(&mut self, now: Time, id: ConsumerId, done: &[(TopicPartition, Progress)]) {
        self.with_group(now, id, |group| group.came(now, done));
    }

    /// The application goes away to work.
    pub fn group_went(&mut self, now: Time, id: ConsumerId) {
        self.with_group(now, id, |group| group.went(now));
    }

    /// What there is for the application before it gets records.
    pub fn group_turn(&mut self, now: Time, id: ConsumerId) -> Option<Turn> {
        self.with_group(now, id, |group| group.turn(now))
    }

    /// The name of the group that it is a member of.
    #[must_use]
    pub fn group_name(&self, id: ConsumerId) -> Option<String> {
        self.groups.get(&id).map(|group| group.name().to_owned())
    }

    /// The partitions that the application knows to have.
    #[must_use]
    pub fn group_assignment(&self, id: ConsumerId) -> Vec<TopicPartition> {
        self.groups
            .get(&id)
            .map_or_else(Vec::new, Group::assignment)
    }

    /// Commits offsets: these, or how far the application has come, which is `done` beside what was
    /// said before. [`Event::Committed`] tells how it went.
    pub fn group_commit(
        &mut self,
        now: Time,
        id: ConsumerId,
        done: &[(TopicPartition, Progress)],
        offsets: Option<Vec<GroupOffset>>,
    ) -> CommitId {
        let commit = CommitId(self.next_commit);
        self.next_commit += 1;
        let asked = self.with_group(now, id, |group| {
            group.note_done(done);
            group.commit(now, commit, offsets);
        });
        if asked.is_none() {
            let result = Err(ClientError::Closed);
            self.events.push_back(Event::Committed { commit, result });
        }
        commit
    }

    /// Goes on from another place. Tells whether the partition is the member's.
    pub fn group_seek(
        &mut self,
        now: Time,
        id: ConsumerId,
        place: &TopicPartition,
        to: Start,
    ) -> bool {
        let owned = self.with_group(now, id, |group| group.sought(place, to));
        if owned != Some(true) {
            return false;
        }
        let key = self.key(&place.topic, place.partition);
        if let Some(consumer) = self.consumers.get_mut(&id)
            && !consumer.seek(key, to)
        {
            consumer.assign_more([(key, to)]);
        }
        true
    }

    /// Leaves a partition alone until it is resumed; `unfinished` is where handing out has come to in
    /// a chunk that was taken. Tells whether it is the member's.
    pub fn group_pause(
        &mut self,
        id: ConsumerId,
        place: &TopicPartition,
        unfinished: Option<i64>,
    ) -> bool {
        let key = self.key(&place.topic, place.partition);
        let is_owned = self.groups.get(&id).is_some_and(|group| group.owns(place));
        match self.consumers.get_mut(&id) {
            Some(consumer) if is_owned => {
                consumer.pause(key, unfinished);
                true
            }
            _ => false,
        }
    }

    /// Goes on with a partition that was paused. Tells whether it is the member's.
    pub fn group_resume(&mut self, id: ConsumerId, place: &TopicPartition) -> bool {
        let key = self.key(&place.topic, place.partition);
        let is_owned = self.groups.get(&id).is_some_and(|group| group.owns(place));
        match self.consumers.get_mut(&id) {
            Some(consumer) if is_owned => {
                consumer.resume(key);
                true
            }
            _ => false,
        }
    }

    /// Begins to end a membership: [`Event::Consumer`] comes when [`Core::group_parting`] has the end.
    pub fn leave_group(&mut self, now: Time, id: ConsumerId) {
        self.with_group(now, id, |group| group.leave(now));
    }

    /// How the member ended, if it has; a member that never was has ended well.
    #[must_use]
    pub fn group_parting(&self, id: ConsumerId) -> Option<Result<(), ClientError>> {
        match self.groups.get(&id) {
            Some(group) => group.parting(),
            None => Some(Ok(())),
        }
    }

    /// Nobody holds the member any more: it leaves by itself, which [`Core::has_departures`] tells of.
    pub fn abandon_group(&mut self, now: Time, id: ConsumerId) {
        self.with_group(now, id, |group| group.leave(now));
        self.close_consumer(id);
        self.forget_if_over(id);
    }

    /// The id that the broker knows the member by.
    #[cfg(test)]
    pub(crate) fn group_member(&self, id: ConsumerId) -> Option<&str> {
        self.groups.get(&id).map(Group::member_id)
    }

    /// The process that holds the member dies: nobody hears of it again.
    #[cfg(test)]
    pub(crate) fn crash_group(&mut self, id: ConsumerId) {
        self.groups.remove(&id);
        self.close_consumer(id);
    }

    /// Whether members are leaving that nobody holds any more. Each takes a request timeout at most.
    #[must_use]
    pub fn has_departures(&self) -> bool {
        let mut ids = self.groups.keys();
        ids.any(|id| !self.consumers.contains_key(id))
    }

    /// Does something with a member and what follows from it.
    fn with_group<R>(
        &mut self,
        now: Time,
        id: ConsumerId,
        what: impl FnOnce(&mut Group) -> R,
    ) -> Option<R> {
        let result = what(self.groups.get_mut(&id)?);
        self.carry_out_group(now, id);
        Some(result)
    }

    fn carry_out_group(&mut self, now: Time, id: ConsumerId) {
        while let Some(effect) = self.groups.get_mut(&id).and_then(Group::take_effect) {
            match effect {
                Effect::Begin(place, start) => {
                    let key = self.key(&place.topic, place.partition);
                    if let Some(consumer) = self.consumers.get_mut(&id) {
                        consumer.assign_more([(key, start)]);
                    }
                }
                Effect::Rest(place, error) => {
                    let key = self.key(&place.topic, place.partition);
                    if let Some(consumer) = self.consumers.get_mut(&id) {
                        consumer.assign_more([(key, Start::Earliest)]);
                        consumer.park(key, error);
                    }
                    self.events.push_back(Event::Consumer(id));
                }
                Effect::Stop(places) => {
                    let keys: Vec<PartitionKey> = places
                        .iter()
                        .map(|place| self.key(&place.topic, place.partition))
                        .collect();
                    if let Some(consumer) = self.consumers.get_mut(&id) {
                        consumer.unassign(keys);
                    }
                }
                Effect::News | Effect::Over => self.events.push_back(Event::Consumer(id)),
                Effect::Committed(commit, result) => {
                    self.events.push_back(Event::Committed { commit, result });
                }
            }
        }
        if let Some(at) = self.groups.get(&id).and_then(|group| group.deadline(now)) {
            self.timers.set_by(Timer::Group(id), at);
        }
    }

    fn forget_if_over(&mut self, id: ConsumerId) {
        let is_over = self.groups.get(&id).is_some_and(Group::is_over);
        if is_over && !self.consumers.contains_key(&id) {
            self.groups.remove(&id);
            self.timers.cancel(Timer::Group(id));
        }
    }

    /// A partition's beginning is known.
    pub(super) fn group_reading_begun(&mut self, id: ConsumerId, key: PartitionKey) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let begin = self
            .consumers
            .get(&id)
            .and_then(|consumer| consumer.begin(key));
        if let Some(offset) = begin {
            let topic = self.metadata.name(key.topic).clone();
            group.begun(&TopicPartition::new(topic, key.partition), offset);
        }
    }

    pub(super) fn schedule_groups(&mut self, now: Time) {
        let ids: Vec<ConsumerId> = self.groups.keys().copied().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            if !std::mem::take(&mut group.dirty) {
                continue;
            }
            while let Some(exchange) = self.groups.get_mut(&id).and_then(|group| group.next(now)) {
                // Without a connection it is dialled, and all members are asked again then.
                let Some(connection) = self.any_connection(now) else {
                    break;
                };
                let Some(group) = self.groups.get_mut(&id) else {
                    break;
                };
                let ask = group.ask(now, exchange);
                let pending = Pending {
                    purpose: Purpose::Group {
                        consumer: id,
                        exchange,
                        number: ask.number,
                    },
                    deadline: now.plus(ask.patience),
                };
                if let Err(failed) = self.transmit(connection, ask.request, Vec::new(), pending) {
                    self.group_lost(now, id, exchange, ask.number, &failed.1);
                }
            }
            self.carry_out_group(now, id);
            self.forget_if_over(id);
        }
    }

    pub(super) fn group_answered(
        &mut self,
        now: Time,
        id: ConsumerId,
        exchange: Exchange,
        number: u64,
        answer: Response,
    ) {
        if let Response::Metadata(told) = &answer
            && told.revision < self.metadata.revision()
        {
            // From a shard that has yet to hear of a change.
            let error = ClientError::invalid("an outdated list of topics");
            return self.group_lost(now, id, exchange, number, &error);
        }
        let (backoff, random): (Backoff, _) = (self.backoff, &mut self.random);
        let pauses = &mut |failures| backoff.pause(failures, random);
        if let Some(group) = self.groups.get_mut(&id) {
            group.answered(now, exchange, number, answer, pauses);
        }
        self.carry_out_group(now, id);
    }

    pub(super) fn group_lost(
        &mut self,
        now: Time,
        id: ConsumerId,
        exchange: Exchange,
        number: u64,
        error: &ClientError,
    ) {
        let (backoff, random): (Backoff, _) = (self.backoff, &mut self.random);
        let pauses = &mut |failures| backoff.pause(failures, random);
        if let Some(group) = self.groups.get_mut(&id) {
            group.lost(now, exchange, number, error, pauses);
        }
        self.carry_out_group(now, id);
    }
}
