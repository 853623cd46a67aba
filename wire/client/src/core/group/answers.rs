//! What a member makes of answers, and of their absence.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_wire::native::Response;
use millrace_wire::native::messages::*;

use super::{Assignor, Attempt, Effect, Exchange, Group, NO_GENERATION, Out, Pauses, Phase};
use crate::core::time::Time;
use crate::{ClientError, ErrorCode, OffsetReset, Start, TopicPartition};

/// What an error means to a member.
enum Verdict {
    /// It may pass.
    Retry,
    /// The group shares its partitions out anew.
    Rejoin,
    /// The broker gave the member's partitions to others. Whether it still knows its id.
    Lost { keeps_id: bool },
    /// It does not pass.
    Fatal,
}

fn verdict(error: &ClientError) -> Verdict {
    match error.code() {
        Some(ErrorCode::RebalanceInProgress) => Verdict::Rejoin,
        Some(ErrorCode::UnknownMemberId) => Verdict::Lost { keeps_id: false },
        Some(ErrorCode::IllegalGeneration) => Verdict::Lost { keeps_id: true },
        _ if error.is_retriable() => Verdict::Retry,
        _ => Verdict::Fatal,
    }
}

impl Group {
    /// The answer to what was asked under this number.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        exchange: Exchange,
        number: u64,
        response: Response,
        pauses: Pauses<'_>,
    ) {
        let Some(out) = self.take_out(exchange, number) else {
            return;
        };
        self.dirty = true;
        match (exchange, response) {
            (Exchange::Join, Response::JoinGroup(answer)) => self.joined(now, answer, pauses),
            (Exchange::Sync, Response::SyncGroup(answer)) => {
                match ClientError::check(&answer.status) {
                    Ok(()) => self.synced(out, answer),
                    Err(error) => self.not_synced(now, error, pauses),
                }
            }
            (Exchange::Heartbeat, Response::Heartbeat(answer)) => {
                let outcome = ClientError::check(&answer.status);
                self.beaten(now, out, outcome, pauses);
            }
            (Exchange::Leave, Response::LeaveGroup(answer)) => {
                match ClientError::check(&answer.status) {
                    Err(error) if error.is_retriable() => self.not_left(now, pauses),
                    _ => self.left(),
                }
            }
            (Exchange::Commit, Response::CommitOffsets(answer)) => {
                match ClientError::check(&answer.status) {
                    Ok(()) => self.committed(&answer.topics),
                    Err(error) => self.not_committed(now, out, error, pauses),
                }
            }
            (Exchange::Offsets, Response::FetchOffsets(answer)) => {
                match ClientError::check(&answer.status) {
                    Ok(()) => self.offsets_told(now, answer, pauses),
                    Err(error) => self.offsets_not_told(now, error, pauses),
                }
            }
            (Exchange::Topics, Response::Metadata(answer)) => {
                self.topics_failures = 0;
                self.topics.told(now, &answer);
            }
            (_, Response::Error(status)) => {
                let error = ClientError::check(&status).err();
                let error = error.unwrap_or_else(nonsense);
                self.failed(now, exchange, out, error, pauses);
            }
            _ => self.failed(now, exchange, out, nonsense(), pauses),
        }
    }

    /// What was asked under this number is not answered.
    pub(crate) fn lost(
        &mut self,
        now: Time,
        exchange: Exchange,
        number: u64,
        error: &ClientError,
        pauses: Pauses<'_>,
    ) {
        if let Some(out) = self.take_out(exchange, number) {
            self.dirty = true;
            self.failed(now, exchange, out, error.clone(), pauses);
        }
    }

    fn take_out(&mut self, exchange: Exchange, number: u64) -> Option<Out> {
        let out = *self.out.get(&exchange)?;
        (out.number == number).then(|| self.out.remove(&exchange))?
    }

    fn failed(
        &mut self,
        now: Time,
        exchange: Exchange,
        out: Out,
        error: ClientError,
        pauses: Pauses<'_>,
    ) {
        match exchange {
            Exchange::Join => self.not_joined(now, error, pauses),
            Exchange::Sync => self.not_synced(now, error, pauses),
            Exchange::Heartbeat => self.beaten(now, out, Err(error), pauses),
            Exchange::Leave => self.not_left(now, pauses),
            Exchange::Commit => self.not_committed(now, out, error, pauses),
            Exchange::Offsets => self.offsets_not_told(now, error, pauses),
            Exchange::Topics => {
                self.topics_failures += 1;
                let until = now.plus(pauses(self.topics_failures));
                self.topics.postpone(until);
            }
        }
    }

    // ---- Joining.

    fn joined(&mut self, now: Time, answer: JoinGroupResponse, pauses: Pauses<'_>) {
        let outcome = ClientError::check(&answer.status);
        let needs_id = |error: &ClientError| error.code() == Some(ErrorCode::MemberIdRequired);
        match outcome {
            Ok(()) => {
                self.member_id = answer.member_id;
                if self.phase == Phase::Joining {
                    self.generation = answer.generation;
                    self.assignor = answer.assignor;
                    self.step = Attempt::default();
                    self.phase = Phase::Syncing;
                }
            }
            Err(error) if needs_id(&error) && !answer.member_id.is_empty() => {
                self.member_id = answer.member_id;
            }
            Err(error) => self.not_joined(now, error, pauses),
        }
    }

    fn not_joined(&mut self, now: Time, error: ClientError, pauses: Pauses<'_>) {
        if self.phase != Phase::Joining {
            return;
        }
        match verdict(&error) {
            Verdict::Retry | Verdict::Rejoin => {
                self.has_lost_join = true;
                self.confirmed_until = Time::default();
                self.step.failed(now, pauses);
            }
            Verdict::Lost { keeps_id } => {
                let failures = self.step.failures;
                self.lose(&error, keeps_id);
                // At once, unless it goes on like this.
                self.step.failures = failures;
                if failures > 0 {
                    self.step.failed(now, pauses);
                } else {
                    self.step.failures = 1;
                }
            }
            Verdict::Fatal => self.fail(error),
        }
    }

    fn synced(&mut self, out: Out, answer: SyncGroupResponse) {
        if self.phase != Phase::Syncing {
            return;
        }
        if !answer.assignor.is_empty() {
            self.assignor = answer.assignor;
        }
        self.phase = Phase::Stable;
        self.step = Attempt::default();
        self.confirm(out);
        self.heartbeat.hasten(out.sent);
        let mut places = BTreeSet::new();
        for topic in answer.assignment {
            let name: Arc<str> = topic.name.into();
            let partitions = topic.partitions.into_iter();
            places.extend(partitions.map(|partition| TopicPartition {
                topic: name.clone(),
                partition,
            }));
        }
        let gone = self.held.adopt(places);
        self.effects.push_back(Effect::News);
        if gone.is_empty() {
            return;
        }
        if Assignor::is_cooperative(&self.assignor) {
            self.revoke(gone);
        } else {
            // The group has turned to an assignor that expects everything to have been given up
            // before: these are others' already.
            self.held.lose(&gone);
            self.effects.push_back(Effect::Stop(gone));
        }
    }

    fn not_synced(&mut self, now: Time, error: ClientError, pauses: Pauses<'_>) {
        if self.phase != Phase::Syncing {
            return;
        }
        match verdict(&error) {
            Verdict::Retry => self.step.failed(now, pauses),
            Verdict::Rejoin => self.start_joining(),
            Verdict::Lost { keeps_id } => self.lose(&error, keeps_id),
            Verdict::Fatal => self.fail(error),
        }
    }

    // ---- Staying, and leaving.

    /// The broker held the member for one when it heard this.
    fn confirm(&mut self, out: Out) {
        let until = out.sent.plus(self.config.session_timeout);
        self.confirmed_until = self.confirmed_until.max(until);
    }

    fn beaten(
        &mut self,
        now: Time,
        out: Out,
        outcome: Result<(), ClientError>,
        pauses: Pauses<'_>,
    ) {
        let join = self.out.get(&Exchange::Join);
        let is_overtaken = self.phase == Phase::Joining
            && self.has_lost_join
            && join.is_none_or(|join| join.number > out.number);
        if out.generation != self.generation || is_overtaken {
            return;
        }
        let was_in_doubt = self.confirmed_until <= now;
        let error = match outcome {
            Ok(()) => None,
            Err(error) => Some((verdict(&error), error)),
        };
        match error {
            None | Some((Verdict::Rejoin, _)) => {
                self.confirm(out);
                self.heartbeat.answered();
                if was_in_doubt {
                    self.effects.push_back(Effect::News);
                }
                if error.is_some() && self.phase == Phase::Stable {
                    self.rejoin();
                }
            }
            Some((Verdict::Retry, _)) => self.heartbeat.failed(now, pauses),
            // While it joins, the answer to that tells more.
            Some((Verdict::Lost { keeps_id }, error)) => {
                if let Phase::Stable | Phase::Revoking(_) = self.phase {
                    self.lose(&error, keeps_id);
                }
            }
            Some((Verdict::Fatal, error)) => self.fail(error),
        }
    }

    fn left(&mut self) {
        if let Phase::Leaving { .. } = self.phase {
            self.end();
        }
    }

    /// Nobody knows whether it has left. An id that is gone does no harm, but which one it was is
    /// only known while the member leaves for good.
    fn not_left(&mut self, now: Time, pauses: Pauses<'_>) {
        if let Phase::Leaving { .. } = self.phase {
            self.farewell.clone_from(&self.left_as);
            self.step.failed(now, pauses);
        }
    }

    // ---- Offsets.

    fn committed(&mut self, told: &[GroupTopicResult]) {
        let Some(commit) = self.commits.finish() else {
            return;
        };
        let mut result = Ok(());
        for topic in told {
            for told in &topic.partitions {
                let place = TopicPartition::new(&*topic.name, told.partition);
                match (
                    ClientError::check(&told.status),
                    commit.positions.get(&place),
                ) {
                    (Ok(()), Some(position)) => {
                        self.held.committed(&place, position.progress.offset);
                    }
                    (Ok(()), None) => {}
                    // What is wrong with one partition does not pass: its topic is gone, or the text
                    // is too long.
                    (Err(error), _) => result = result.and(Err(error)),
                }
            }
        }
        self.tell(commit.waiter, result);
    }

    fn not_committed(&mut self, now: Time, out: Out, error: ClientError, pauses: Pauses<'_>) {
        // A rebalance went on meanwhile.
        let is_outdated = out.generation != self.generation || self.phase == Phase::Joining;
        match verdict(&error) {
            Verdict::Retry => self.commit_later(now, pauses),
            Verdict::Rejoin => {
                self.commit_later(now, pauses);
                if self.phase == Phase::Stable {
                    self.rejoin();
                }
            }
            Verdict::Lost { .. } if is_outdated => self.commit_later(now, pauses),
            Verdict::Lost { keeps_id } => {
                let too_late = self.too_late();
                self.lose(&too_late, keeps_id);
            }
            Verdict::Fatal if error.code() == Some(ErrorCode::FencedInstanceId) => self.fail(error),
            Verdict::Fatal => {
                if let Some(commit) = self.commits.finish() {
                    self.tell(commit.waiter, Err(error));
                }
            }
        }
    }

    /// Tries the first commit again, as far as the partitions are still the member's.
    fn commit_later(&mut self, now: Time, pauses: Pauses<'_>) {
        let (held, generation) = (&self.held, self.generation);
        let Some(commit) = self.commits.first() else {
            return;
        };
        if commit.generation != generation && commit.generation != NO_GENERATION {
            commit.generation = generation;
            commit.positions.retain(|place, _| held.has(place));
        }
        if commit.positions.is_empty() {
            let too_late = self.too_late();
            if let Some(commit) = self.commits.finish() {
                self.tell(commit.waiter, Err(too_late));
            }
            return;
        }
        commit.failures += 1;
        self.commits.not_before = now.plus(pauses(commit.failures));
    }

    fn offsets_told(&mut self, now: Time, answer: FetchOffsetsResponse, pauses: Pauses<'_>) {
        self.offsets.failures = 0;
        for topic in answer.topics {
            let name: Arc<str> = topic.name.into();
            for told in topic.partitions {
                let place = TopicPartition {
                    topic: name.clone(),
                    partition: told.partition,
                };
                let outcome = ClientError::check(&told.status);
                if matches!(&outcome, Err(error) if error.is_retriable()) {
                    continue;
                }
                let offset = Some(told.offset).filter(|offset| *offset >= 0);
                if self.held.answered(&place, offset) {
                    let effect = match outcome {
                        Ok(()) => self.beginning(place, offset),
                        Err(error) => Effect::Rest(place, error),
                    };
                    self.effects.push_back(effect);
                }
            }
        }
        // What is not in the answer is asked for again, after a pause.
        self.held.ask_again();
        if self.held.has_unasked() {
            self.offsets.failed(now, pauses);
        }
    }

    fn beginning(&self, place: TopicPartition, offset: Option<i64>) -> Effect {
        match (offset, self.config.auto_offset_reset) {
            (Some(offset), _) => Effect::Begin(place, Start::Offset(offset)),
            (None, OffsetReset::Earliest) => Effect::Begin(place, Start::Earliest),
            (None, OffsetReset::Latest) => Effect::Begin(place, Start::Latest),
            (None, OffsetReset::Error) => {
                let error = ClientError::NoCommittedOffset {
                    group: self.config.group.clone(),
                    topic: place.topic.to_string(),
                    partition: place.partition,
                };
                Effect::Rest(place, error)
            }
        }
    }

    fn offsets_not_told(&mut self, now: Time, error: ClientError, pauses: Pauses<'_>) {
        self.held.ask_again();
        match verdict(&error) {
            Verdict::Fatal => self.fail(error),
            _ => self.offsets.failed(now, pauses),
        }
    }
}

fn nonsense() -> ClientError {
    ClientError::invalid("the broker does not answer what was asked")
}
