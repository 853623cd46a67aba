//! What a member of a group decides: when to join, what to give up, what to commit, and when it must
//! not trust what it has. It does not know the broker's other parts: [`Group::next`] says what to ask,
//! [`Group::answered`] and [`Group::lost`] take what becomes of it, and [`Effect`]s come out.
//!
//! # A rebalance
//!
//! A heartbeat's answer tells that the group shares its partitions out anew. A member whose assignor is
//! cooperative joins again at once, goes on reading meanwhile, and gives up only what is not in its
//! new assignment; when that is done it joins once more, so that others get it. With the other
//! assignors everything is given up before joining. Giving up takes the application: no more records
//! of those partitions are handed out, it is told, and when it comes back what it has done is
//! committed.
//!
//! That second joining makes another rebalance, of which the others hear with a heartbeat again. They
//! would wait for it for as long as for the first, so the first heartbeats of a generation come
//! earlier than those that follow.
//!
//! # Whether it is still a member
//!
//! Heartbeats are sent all the time, during a rebalance too. What the broker last confirmed holds for
//! one session timeout from the moment in which it was asked: the broker counts from when it heard,
//! which is later. After that, nothing is handed out until a heartbeat has been answered, since the
//! partitions may be somebody else's; and nothing is given up either, since they may not. The same
//! holds when a request to join was not answered, until a heartbeat sent after the next one says that
//! no generation has begun meanwhile.

mod answers;
mod asks;
mod commits;
mod heartbeats;
mod holdings;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use millrace_wire::native::Request;

pub use commits::CommitId;
use commits::{Commit, Commits, Position, Waiter};
use heartbeats::Heartbeats;
use holdings::Holdings;
use topics::Topics;

use super::consumer::Progress;
use super::time::Time;
use crate::{Assignor, ClientError, GroupConfig, GroupEvent, GroupOffset, Start, TopicPartition};

/// The generation of whoever is in none.
const NO_GENERATION: i32 = -1;

/// What is asked of the broker. One of each may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exchange {
    Join,
    Sync,
    Heartbeat,
    Leave,
    Commit,
    Offsets,
    Topics,
}

/// A question.
#[derive(Debug)]
pub(crate) struct Ask {
    /// To be given back with the answer.
    pub(crate) number: u64,
    pub(crate) request: Request,
    /// How long the answer may take.
    pub(crate) patience: Duration,
}

/// A question that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    number: u64,
    sent: Time,
    generation: i32,
}

/// What is to be done, or told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Begin to read.
    Begin(TopicPartition, Start),
    /// The partition cannot be read until it is sought.
    Rest(TopicPartition, ClientError),
    /// Stop reading.
    Stop(BTreeSet<TopicPartition>),
    /// The application may want to look.
    News,
    /// What became of a commit.
    Committed(CommitId, Result<(), ClientError>),
    /// The member is none any more, as was wished.
    Over,
}

/// Pauses before another attempt, by the number of failures.
pub(crate) type Pauses<'a> = &'a mut dyn FnMut(u32) -> Duration;

/// When something may be tried (again).
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    not_before: Time,
    failures: u32,
}

impl Attempt {
    fn failed(&mut self, now: Time, pauses: Pauses<'_>) {
        self.failures += 1;
        self.not_before = now.plus(pauses(self.failures));
    }

    fn is_ripe(&self, now: Time) -> bool {
        self.not_before <= now
    }
}

/// Where the member stands.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// It asks to join, for the first time or again, and waits for the others.
    Joining,
    /// A generation has begun; it asks for its partitions.
    Syncing,
    /// It has them.
    Stable,
    /// It gives some up, and joins again then.
    Revoking(Revoking),
    /// It has left, since the application did not come. It joins when it does.
    Away,
    /// It is about to end.
    Leaving { until: Time, is_committing: bool },
    /// It has ended.
    Over,
    /// It cannot be a member.
    Failed(ClientError),
}

/// How far giving up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revoking {
    /// The application does not know yet.
    Untold,
    /// It was told, and has not come back.
    Told,
    /// What it has done is being committed.
    Committing,
}

/// Where the application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It waits for records.
    Here,
    /// It is busy since then.
    Since(Time),
}

/// What the application gets when it looks.
#[derive(Debug)]
pub struct Turn {
    /// Nothing more that was fetched of these may be given out.
    pub stopped: Vec<TopicPartition>,
    /// What it has to know before it gets records.
    pub event: Option<GroupEvent>,
    /// Whether it may have records.
    pub may_read: bool,
    /// Why the member is none and will be none.
    pub failure: Option<ClientError>,
}

#[derive(Debug)]
pub(crate) struct Group {
    config: GroupConfig,
    request_timeout: Duration,
    phase: Phase,
    member_id: String,
    generation: i32,
    assignor: String,
    topics: Topics,
    /// As the group was last told.
    joined_topics: Vec<String>,
    held: Holdings,
    commits: Commits,
    auto_commit_at: Option<Time>,
    out: BTreeMap<Exchange, Out>,
    next_number: u64,
    /// Of joining, syncing and leaving.
    step: Attempt,
    heartbeat: Heartbeats,
    offsets: Attempt,
    topics_failures: u32,
    confirmed_until: Time,
    /// A request to join was not answered: the generation that it was for may have begun, in which
    /// case what the member says that it owns is worth nothing in the next one.
    has_lost_join: bool,
    presence: Presence,
    /// An id to leave under.
    farewell: Option<String>,
    /// The one that was last left under.
    left_as: Option<String>,
    /// What became of the last commit.
    parting: Result<(), ClientError>,
    effects: VecDeque<Effect>,
    /// Something may be to be asked.
    pub(crate) dirty: bool,
}

impl Group {
    pub(crate) fn new(
        now: Time,
        config: GroupConfig,
        request_timeout: Duration,
        metadata_max_age: Duration,
    ) -> Result<Group, ClientError> {
        Ok(Group {
            topics: Topics::new(&config.subscription, metadata_max_age)?,
            auto_commit_at: config.auto_commit.map(|interval| now.plus(interval)),
            heartbeat: Heartbeats::new(config.session_timeout),
            config,
            request_timeout,
            phase: Phase::Joining,
            member_id: String::new(),
            generation: NO_GENERATION,
            assignor: String::new(),
            joined_topics: Vec::new(),
            held: Holdings::default(),
            has_lost_join: false,
            commits: Commits::default(),
            out: BTreeMap::new(),
            next_number: 0,
            step: Attempt::default(),
            offsets: Attempt::default(),
            topics_failures: 0,
            confirmed_until: Time::default(),
            presence: Presence::Since(now),
            farewell: None,
            left_as: None,
            parting: Ok(()),
            effects: VecDeque::new(),
            dirty: true,
        })
    }

    pub(crate) fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.group
    }

    #[cfg(test)]
    pub(crate) fn member_id(&self) -> &str {
        &self.member_id
    }

    /// What the application knows to have.
    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.held.assignment()
    }

    pub(crate) fn owns(&self, place: &TopicPartition) -> bool {
        self.held.owns(place)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How the member ended, if it has.
    pub(crate) fn parting(&self) -> Option<Result<(), ClientError>> {
        self.is_over().then(|| self.parting.clone())
    }

    // ---- What the application does.

    /// The application comes for records, and has come this far with what it was given before.
    pub(crate) fn came(&mut self, now: Time, done: &[(TopicPartition, Progress)]) {
        self.presence = Presence::Here;
        self.dirty = true;
        self.note_done(done);
        match self.phase {
            Phase::Revoking(Revoking::Told) => self.give_up(now),
            Phase::Away => self.start_joining(),
            _ => {}
        }
    }

    /// The application has come this far.
    pub(crate) fn note_done(&mut self, done: &[(TopicPartition, Progress)]) {
        done.iter()
            .for_each(|(place, progress)| self.held.done(place, *progress));
    }

    /// The application goes away to work.
    pub(crate) fn went(&mut self, now: Time) {
        self.presence = Presence::Since(now);
        self.dirty = true;
    }

    /// What there is for the application now.
    pub(crate) fn turn(&mut self, now: Time) -> Turn {
        let mut turn = Turn {
            stopped: self.held.take_stopped(),
            event: self.held.take_lost(),
            may_read: false,
            failure: None,
        };
        if turn.event.is_none() && self.phase == Phase::Revoking(Revoking::Untold) {
            self.phase = Phase::Revoking(Revoking::Told);
            turn.event = Some(GroupEvent::Revoked(self.held.leaving()));
        }
        turn.event = turn.event.or_else(|| self.held.take_new());
        match &self.phase {
            Phase::Joining | Phase::Syncing | Phase::Stable | Phase::Revoking(_) => {
                turn.may_read = now < self.confirmed_until;
            }
            Phase::Failed(error) if turn.event.is_none() => turn.failure = Some(error.clone()),
            _ => {}
        }
        turn
    }

    /// Reading has begun here.
    pub(crate) fn begun(&mut self, place: &TopicPartition, offset: i64) {
        self.held.begun(place, Progress::at(offset));
    }

    /// The application goes on elsewhere. Tells whether the partition is the member's.
    pub(crate) fn sought(&mut self, place: &TopicPartition, to: Start) -> bool {
        let progress = match to {
            Start::Offset(offset) => Some(Progress::at(offset)),
            _ => None,
        };
        self.held.sought(place, progress)
    }

    /// Commits these offsets, or all that the application has done.
    pub(crate) fn commit(&mut self, now: Time, id: CommitId, offsets: Option<Vec<GroupOffset>>) {
        self.dirty = true;
        let positions: BTreeMap<TopicPartition, Position> = match offsets {
            Some(offsets) => offsets
                .into_iter()
                .map(|offset| (offset.place.clone(), Position::from(offset)))
                .collect(),
            None => unnamed(self.held.to_commit(false)),
        };
        let refused = match &self.phase {
            _ if positions.is_empty() => Some(Ok(())),
            Phase::Failed(error) => Some(Err(error.clone())),
            Phase::Over | Phase::Leaving { .. } => Some(Err(ClientError::Closed)),
            _ if self.commits.is_full() => Some(Err(ClientError::invalid(
                "64 commits of this consumer are under way; await some before the next",
            ))),
            _ => None,
        };
        match refused {
            Some(result) => self.effects.push_back(Effect::Committed(id, result)),
            None => self.add_commit(now, Waiter::User(id), positions),
        }
    }

    /// Ends the membership.
    pub(crate) fn leave(&mut self, now: Time) {
        self.dirty = true;
        match self.phase {
            Phase::Over | Phase::Leaving { .. } => return,
            Phase::Failed(_) | Phase::Away => return self.end(),
            _ => {}
        }
        self.effects.push_back(Effect::Stop(self.held.all()));
        let done = self.held.to_commit(false);
        let is_committing =
            self.config.auto_commit.is_some() && !done.is_empty() && self.is_in_generation();
        if is_committing {
            self.add_commit(now, Waiter::Parting, unnamed(done));
        }
        self.step = Attempt::default();
        self.phase = Phase::Leaving {
            until: now.plus(self.request_timeout),
            is_committing,
        };
    }

    // ---- What follows from it.

    fn is_in_generation(&self) -> bool {
        self.generation != NO_GENERATION && !self.member_id.is_empty()
    }

    fn start_joining(&mut self) {
        self.phase = Phase::Joining;
        self.heartbeat.calm_down();
        self.has_lost_join = false;
        self.step = Attempt::default();
    }

    /// The group shares its partitions out anew, or should.
    fn rejoin(&mut self) {
        if Assignor::is_cooperative(&self.assignor) || self.held.is_empty() {
            self.start_joining();
        } else {
            self.revoke(self.held.all());
        }
    }

    /// Stops reading these and has the application give them up.
    fn revoke(&mut self, places: BTreeSet<TopicPartition>) {
        let has_to_know = self.held.begin_to_leave(&places);
        self.effects.push_back(Effect::Stop(places));
        if has_to_know {
            self.phase = Phase::Revoking(Revoking::Untold);
            self.heartbeat.calm_down();
            self.effects.push_back(Effect::News);
        } else {
            self.start_joining();
        }
    }

    /// The application is done with what it gives up.
    fn give_up(&mut self, now: Time) {
        let done = self.held.to_commit(true);
        if self.config.auto_commit.is_some() && !done.is_empty() {
            self.phase = Phase::Revoking(Revoking::Committing);
            self.add_commit(now, Waiter::Revocation, unnamed(done));
        } else {
            self.gave_up();
        }
    }

    fn gave_up(&mut self) {
        self.held.left();
        self.start_joining();
    }

    /// The partitions are gone. Under an id that the group knows it joins again as the same member.
    fn lose(&mut self, error: &ClientError, keeps_id: bool) {
        self.lose_all(error);
        if !keeps_id {
            self.member_id.clear();
        }
        match self.phase {
            Phase::Leaving { until, .. } => {
                self.phase = Phase::Leaving {
                    until,
                    is_committing: false,
                };
            }
            _ => self.start_joining(),
        }
    }

    fn lose_all(&mut self, error: &ClientError) {
        let all = self.held.all();
        self.held.lose(&all);
        if self.phase == Phase::Revoking(Revoking::Untold) {
            let leaving = self.held.leaving().into_iter().collect();
            self.held.lose(&leaving);
        }
        self.held.left();
        self.generation = NO_GENERATION;
        self.confirmed_until = Time::default();
        self.effects.push_back(Effect::Stop(all));
        self.effects.push_back(Effect::News);
        for commit in self.commits.take_all() {
            self.tell(commit.waiter, Err(error.clone()));
        }
        self.out.remove(&Exchange::Commit);
    }

    /// It cannot be a member, for a reason that does not go away by itself.
    fn fail(&mut self, error: ClientError) {
        self.lose_all(&error);
        if let Phase::Leaving { .. } = self.phase {
            return self.end();
        }
        self.out.clear();
        self.phase = Phase::Failed(error);
    }

    /// The application has not come for too long: others are to have its partitions.
    fn step_away(&mut self) {
        self.lose_all(&self.too_late());
        if self.config.instance_id.is_none() && !self.member_id.is_empty() {
            self.farewell = Some(std::mem::take(&mut self.member_id));
        }
        self.out.clear();
        self.phase = Phase::Away;
    }

    fn end(&mut self) {
        for commit in self.commits.take_all() {
            self.tell(commit.waiter, Err(ClientError::Closed));
        }
        self.out.clear();
        self.farewell = None;
        self.phase = Phase::Over;
        self.effects.push_back(Effect::Over);
    }

    fn too_late(&self) -> ClientError {
        ClientError::CommitTooLate {
            group: self.config.group.clone(),
        }
    }

    fn add_commit(
        &mut self,
        now: Time,
        waiter: Waiter,
        positions: BTreeMap<TopicPartition, Position>,
    ) {
        self.commits.add(Commit {
            waiter,
            positions,
            generation: self.generation,
            until: now.plus(self.request_timeout),
            failures: 0,
        });
    }

    fn tell(&mut self, waiter: Waiter, result: Result<(), ClientError>) {
        match waiter {
            Waiter::User(id) => self.effects.push_back(Effect::Committed(id, result)),
            Waiter::Timer => {}
            Waiter::Revocation => {
                if self.phase == Phase::Revoking(Revoking::Committing) {
                    self.gave_up();
                }
            }
            Waiter::Parting => {
                self.parting = result;
                if let Phase::Leaving { is_committing, .. } = &mut self.phase {
                    *is_committing = false;
                }
            }
        }
    }
}

fn unnamed(done: BTreeMap<TopicPartition, Progress>) -> BTreeMap<TopicPartition, Position> {
    let done = done.into_iter();
    done.map(|(place, progress)| (place, Position::from(progress)))
        .collect()
}
