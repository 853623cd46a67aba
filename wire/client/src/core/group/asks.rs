//! What a member asks of the broker, and when.

use std::time::Duration;

use millrace_wire::native::messages::*;

use super::commits::Waiter;
use super::{Ask, Exchange, Group, Out, Phase, Presence, unnamed};
use crate::ClientError;
use crate::core::time::Time;

impl Group {
    /// The next thing to ask, if there is one and it is time.
    pub(crate) fn next(&mut self, now: Time) -> Option<Exchange> {
        self.pass_time(now);
        [
            self.wants_topics(now).then_some(Exchange::Topics),
            self.next_step(now),
            self.wants_heartbeat(now).then_some(Exchange::Heartbeat),
            self.wants_offsets(now).then_some(Exchange::Offsets),
            self.wants_commit(now).then_some(Exchange::Commit),
        ]
        .into_iter()
        .flatten()
        .find(|exchange| !self.out.contains_key(exchange))
    }

    /// What follows from the time alone.
    fn pass_time(&mut self, now: Time) {
        if self.away_at().is_some_and(|at| at <= now) {
            self.step_away();
        }
        if self.phase == Phase::Stable
            && self
                .topics
                .names()
                .is_some_and(|names| names != self.joined_topics)
        {
            self.rejoin();
        }
        while self.commits.deadline().is_some_and(|until| until <= now) {
            self.out.remove(&Exchange::Commit);
            if let Some(commit) = self.commits.finish() {
                let error = ClientError::TimedOut {
                    what: "the commit".into(),
                    after: self.request_timeout,
                    last: None,
                };
                self.tell(commit.waiter, Err(error));
            }
        }
        if let (Some(at), Some(interval)) = (self.auto_commit_at, self.config.auto_commit)
            && at <= now
        {
            self.auto_commit_at = Some(now.plus(interval));
            let done = self.held.to_commit(false);
            if self.commits.is_empty() && !done.is_empty() && self.is_in_generation() {
                self.add_commit(now, Waiter::Timer, unnamed(done));
            }
        }
        if let Phase::Leaving {
            until,
            is_committing,
        } = self.phase
        {
            self.part(now >= until, is_committing);
        }
    }

    /// Leaves as soon as there is nothing else to do. Static members stay in the group: their session
    /// decides how long their partitions wait for them.
    fn part(&mut self, is_late: bool, is_committing: bool) {
        let is_leaving = self.farewell.is_some() || self.out.contains_key(&Exchange::Leave);
        if is_late {
            self.end();
        } else if is_committing || is_leaving {
            // The answer tells.
        } else if self.config.instance_id.is_some() {
            self.end();
        } else if !self.member_id.is_empty() {
            self.farewell = Some(std::mem::take(&mut self.member_id));
        } else if !self.out.contains_key(&Exchange::Join) {
            self.end();
        }
    }

    /// When the application counts as stuck.
    fn away_at(&self) -> Option<Time> {
        let is_member = matches!(
            self.phase,
            Phase::Joining | Phase::Syncing | Phase::Stable | Phase::Revoking(_)
        );
        match self.presence {
            Presence::Since(since) if is_member => Some(since.plus(self.config.max_poll_interval)),
            _ => None,
        }
    }

    fn wants_topics(&self, now: Time) -> bool {
        let reads = !matches!(
            self.phase,
            Phase::Leaving { .. } | Phase::Away | Phase::Over | Phase::Failed(_)
        );
        reads && self.topics.due().is_some_and(|due| due <= now)
    }

    fn next_step(&self, now: Time) -> Option<Exchange> {
        if self.farewell.is_some() && self.step.is_ripe(now) {
            return Some(Exchange::Leave);
        }
        match self.phase {
            Phase::Joining if self.topics.names().is_some() && self.step.is_ripe(now) => {
                Some(Exchange::Join)
            }
            Phase::Syncing if self.step.is_ripe(now) => Some(Exchange::Sync),
            _ => None,
        }
    }

    fn beats(&self) -> bool {
        let is_member = !matches!(self.phase, Phase::Away | Phase::Over | Phase::Failed(_));
        is_member && self.is_in_generation()
    }

    fn wants_heartbeat(&self, now: Time) -> bool {
        self.beats() && self.heartbeat.due() <= now
    }

    fn wants_offsets(&self, now: Time) -> bool {
        self.held.has_unasked() && self.offsets.is_ripe(now) && self.beats()
    }

    /// A commit waits while a generation begins: the group takes none then.
    fn wants_commit(&self, now: Time) -> bool {
        !self.commits.is_empty()
            && self.commits.not_before <= now
            && self.beats()
            && self.phase != Phase::Syncing
    }

    /// Asks it.
    pub(crate) fn ask(&mut self, now: Time, exchange: Exchange) -> Ask {
        let number = self.next_number;
        self.next_number += 1;
        let out = Out {
            number,
            sent: now,
            generation: self.generation,
        };
        self.out.insert(exchange, out);
        if exchange == Exchange::Join && self.has_lost_join {
            // What it answers settles whether a generation has begun.
            self.heartbeat.at_once(now);
        }
        let (request, patience) = match exchange {
            Exchange::Join => (self.join_request().into(), self.long_patience()),
            Exchange::Sync => (
                SyncGroupRequest {
                    group: self.config.group.clone(),
                    member: self.member(),
                    assignor: self.assignor.clone(),
                }
                .into(),
                self.long_patience(),
            ),
            Exchange::Heartbeat => {
                self.heartbeat.sent(now);
                let request = HeartbeatRequest {
                    group: self.config.group.clone(),
                    member: self.member(),
                };
                // One that takes longer says that the connection is dead, while there is still time
                // for another.
                let patience = self.request_timeout.min(self.config.session_timeout / 2);
                (request.into(), patience)
            }
            Exchange::Leave => (self.leave_request().into(), self.request_timeout),
            Exchange::Commit => (self.commit_request().into(), self.request_timeout),
            Exchange::Offsets => (
                FetchOffsetsRequest {
                    group: self.config.group.clone(),
                    member: None,
                    partitions: Some(PartitionList {
                        topics: self.held.ask(),
                    }),
                }
                .into(),
                self.request_timeout,
            ),
            Exchange::Topics => (
                MetadataRequest { topics: None }.into(),
                self.request_timeout,
            ),
        };
        Ask {
            number,
            request,
            patience,
        }
    }

    /// Of requests that wait for the other members.
    fn long_patience(&self) -> Duration {
        self.config
            .max_poll_interval
            .saturating_add(self.request_timeout)
    }

    fn member(&self) -> GroupMember {
        GroupMember {
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            generation: self.generation,
        }
    }

    fn join_request(&mut self) -> JoinGroupRequest {
        let topics = self.topics.names().unwrap_or_default().to_vec();
        self.joined_topics.clone_from(&topics);
        let names = self.config.assignors.iter().map(|assignor| assignor.name());
        JoinGroupRequest {
            group: self.config.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            topics,
            owned: self.held.by_topic(),
            // Of the generation that it joined last: nobody else can have been given them since, even
            // if it never heard what that generation gave it.
            owned_generation: self.generation,
            assignors: names.map(str::to_owned).collect(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.max_poll_interval),
        }
    }

    fn leave_request(&mut self) -> LeaveGroupRequest {
        self.left_as = self.farewell.take();
        LeaveGroupRequest {
            group: self.config.group.clone(),
            members: vec![LeavingMember {
                member_id: self.left_as.clone().unwrap_or_default(),
                instance_id: None,
            }],
        }
    }

    fn commit_request(&mut self) -> CommitOffsetsRequest {
        CommitOffsetsRequest {
            group: self.config.group.clone(),
            member: Some(self.member()),
            topics: self
                .commits
                .first()
                .map(|commit| commit.topics())
                .unwrap_or_default(),
        }
    }

    /// When [`Group::next`] may have something that it has not now, if nothing happens until then.
    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        let unless_out =
            |exchange: Exchange, at: Option<Time>| at.filter(|_| !self.out.contains_key(&exchange));
        let steps =
            matches!(self.phase, Phase::Joining | Phase::Syncing) || self.farewell.is_some();
        let leaving = match self.phase {
            Phase::Leaving { until, .. } => Some(until),
            _ => None,
        };
        let commits = !self.commits.is_empty();
        [
            self.away_at(),
            leaving,
            steps.then_some(self.step.not_before),
            self.auto_commit_at.filter(|_| self.beats()),
            self.commits.deadline(),
            unless_out(Exchange::Topics, self.topics.due()),
            unless_out(
                Exchange::Heartbeat,
                self.beats().then(|| self.heartbeat.due()),
            ),
            unless_out(
                Exchange::Offsets,
                self.held.has_unasked().then_some(self.offsets.not_before),
            ),
            unless_out(Exchange::Commit, commits.then_some(self.commits.not_before)),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }
}

fn millis(time: Duration) -> u32 {
    time.as_millis().try_into().unwrap_or(u32::MAX)
}
