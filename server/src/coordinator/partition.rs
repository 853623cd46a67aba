//! The coordinator of the groups in one partition of `__groups`: it feeds requests and time to the
//! [`Group`]s, writes down what they change, and answers when that is durable. A group changes the
//! moment its record has its place in the log; whatever is answered after that, reading an offset
//! included, waits until the record is durable, so that nobody is told what a crash could take back.
//!
//! It runs on the shard that owns the partition, reads the log before it serves, and lets go of
//! everything when it is stopped: the log is all there is to take over.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use futures_util::future::select;
use hashbrown::HashMap;
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::{Event, OneshotReceiver, OneshotSender, oneshot};
use millrace_shard::log::{Durable, Partition, PartitionStatus};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::TopicName;

use super::api::{GroupAnswer, GroupCall, GroupDescription, GroupRequest, GroupState, ListedGroup};
use super::group::{Assign, Effects, Group, GroupRules, Now, Token};
use super::log::{self, LogError};
use super::record::Record;

pub(super) type Outcome = Result<GroupAnswer, WireError>;

/// A group, and when its timers are looked at next.
pub(super) struct Held {
    pub(super) group: Group,
    scheduled: Option<Instant>,
}

/// Answers that wait for their records.
struct Release {
    durable: Durable,
    answers: Vec<(OneshotSender<Outcome>, Outcome)>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) groups: HashMap<Rc<str>, Held>,
    /// Requests that wait for other members.
    waiting: HashMap<Token, OneshotSender<Outcome>>,
    next_token: u64,
    deadlines: BinaryHeap<Reverse<(Instant, Rc<str>)>>,
    /// In the order of the log.
    releases: VecDeque<Release>,
}

/// Whether it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    /// It is reading its log.
    Loading,
    Serving,
    /// It cannot go on, or must not.
    Stopped(WireError),
}

/// The coordinator of one partition's groups.
pub struct Coordinator<E: Env> {
    pub(super) env: E,
    pub(super) partition: Rc<Partition<E>>,
    rules: GroupRules,
    assign: Rc<dyn Assign>,
    status: RefCell<Status>,
    pub(super) state: RefCell<State>,
    /// There is something to release, or nothing more will come.
    released: Event,
    /// The earliest deadline has changed, or nothing more will come.
    rescheduled: Event,
    /// Bytes written since all of it was written anew, and how many that took.
    pub(super) written_bytes: Cell<u64>,
    pub(super) rewritten_bytes: Cell<u64>,
    pub(super) rewriting: Cell<bool>,
}

impl<E: Env> Coordinator<E> {
    /// A coordinator that begins to read its partition's log, and serves when it has: at once where
    /// there is nothing to read.
    pub(super) fn start(
        env: E,
        partition: Rc<Partition<E>>,
        rules: GroupRules,
        assign: Rc<dyn Assign>,
    ) -> Rc<Coordinator<E>> {
        let marks = partition.watermarks();
        let is_new =
            partition.status() == PartitionStatus::Serving && marks.log_start == marks.visible;
        let status = match is_new {
            true => Status::Serving,
            false => Status::Loading,
        };
        let coordinator = Rc::new(Coordinator {
            env,
            partition,
            rules,
            assign,
            status: RefCell::new(status),
            state: RefCell::default(),
            released: Event::new(),
            rescheduled: Event::new(),
            written_bytes: Cell::new(0),
            rewritten_bytes: Cell::new(0),
            rewriting: Cell::new(false),
        });
        let task = Rc::clone(&coordinator).run();
        let env = &coordinator.env;
        drop(env.spawn(
            Queue::Requests,
            "group coordinator",
            OnPanic::StopProcess,
            task,
        ));
        coordinator
    }

    async fn run(self: Rc<Self>) {
        if *self.status.borrow() == Status::Loading {
            if let Err(error) = self.load().await {
                tracing::error!(partition = %self.partition.id(), %error, "groups cannot be served");
                self.stop(error.to_wire());
                return;
            }
            // It may have been stopped meanwhile.
            let mut status = self.status.borrow_mut();
            if *status == Status::Loading {
                *status = Status::Serving;
            }
        }
        let task = Rc::clone(&self).release();
        drop(
            self.env
                .spawn(Queue::Requests, "group answers", OnPanic::StopProcess, task),
        );
        self.keep_time().await;
    }

    async fn load(&self) -> Result<(), LogError> {
        let mut groups: HashMap<Rc<str>, Group> = HashMap::new();
        let now = self.now();
        let find = |groups: &mut HashMap<Rc<str>, Group>, name: String| {
            let name: Rc<str> = Rc::from(name);
            groups
                .entry(Rc::clone(&name))
                .or_insert_with(|| Group::new(name, now));
        };
        let take = |record: Record| match record {
            Record::Group { group, value: None } => drop(groups.remove(group.as_str())),
            Record::Group {
                group,
                value: Some(value),
            } => {
                find(&mut groups, group.clone());
                let held = groups.get_mut(group.as_str()).expect("it was put there");
                held.load(value, now);
            }
            Record::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                // A tombstone alone makes no group.
                if value.is_some() {
                    find(&mut groups, group.clone());
                }
                if let Some(held) = groups.get_mut(group.as_str()) {
                    held.load_offset(topic, partition, value);
                }
            }
        };
        let read = log::read_all(&self.env, &self.partition, take).await?;
        self.written_bytes.set(read);
        let now = self.now();
        for (name, mut group) in groups {
            if group.is_nothing() {
                continue;
            }
            group.loaded(now);
            let held = Held {
                group,
                scheduled: None,
            };
            let state = &mut *self.state.borrow_mut();
            state.groups.insert(Rc::clone(&name), held);
            state.schedule(&name);
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        Now {
            instant: self.env.now(),
            wall_ms: self.env.wall_clock_ms(),
        }
    }

    fn check_serving(&self) -> Result<(), WireError> {
        match &*self.status.borrow() {
            Status::Serving => Ok(()),
            Status::Loading => Err(loading()),
            Status::Stopped(why) => Err(why.clone()),
        }
    }

    /// Serves a request.
    pub(super) async fn handle(self: &Rc<Self>, call: GroupCall) -> Outcome {
        self.check_serving()?;
        if may_write(&call.request) {
            let room = self.partition.room_from_reserve(log::TYPICAL_BATCH_BYTES);
            room.await.map_err(|error| error.to_wire())?;
            self.check_serving()?;
        }
        let answer = self.take(call);
        self.rewrite_if_due();
        answer.await.unwrap_or_else(|_| Err(not_here()))
    }

    /// Gives a request to its group.
    fn take(self: &Rc<Self>, call: GroupCall) -> OneshotReceiver<Outcome> {
        let GroupCall { group, request } = call;
        let (sender, answer) = oneshot();
        let now = self.now();
        let member_id = match &request {
            GroupRequest::Join(join) if join.member_id.is_empty() => new_member_id(
                join.instance_id.as_deref().unwrap_or(&join.client_id),
                &self.env,
            ),
            _ => String::new(),
        };
        let state = &mut *self.state.borrow_mut();
        let token = state.wait(sender);
        let name = match state.groups.get_key_value(group.as_str()) {
            Some((name, _)) => Rc::clone(name),
            None => {
                if let Some(outcome) = of_no_group(&group, &request) {
                    state.answer_now(token, outcome);
                    return answer;
                }
                let name: Rc<str> = Rc::from(group);
                let held = Held {
                    group: Group::new(Rc::clone(&name), now),
                    scheduled: None,
                };
                state.groups.insert(Rc::clone(&name), held);
                name
            }
        };
        let held = state.groups.get_mut(&name).expect("it is there now");
        let effects = self.serve(&mut held.group, token, request, &member_id, now);
        self.carry_out(state, &name, effects);
        answer
    }

    fn serve(
        &self,
        group: &mut Group,
        token: Token,
        request: GroupRequest,
        new_id: &str,
        now: Now,
    ) -> Effects {
        let assign = &*self.assign;
        match request {
            GroupRequest::Join(join) => group.join(token, &join, new_id, &self.rules, assign, now),
            GroupRequest::Sync(sync) => group.sync(token, sync, now),
            GroupRequest::Heartbeat(member) => group.heartbeat(token, &member, now),
            GroupRequest::Leave(members) => group.leave(token, &members, assign, now),
            GroupRequest::CommitOffsets(commit) => group.commit(token, commit, &self.rules, now),
            GroupRequest::FetchOffsets(fetch) => group.fetch(token, &fetch),
            GroupRequest::Describe => {
                let answer = Ok(GroupAnswer::Describe(group.description()));
                Effects {
                    answers: vec![(token, answer)],
                    ..Effects::default()
                }
            }
            GroupRequest::Delete => group.delete(token),
            GroupRequest::DeleteOffsets(partitions) => {
                group.delete_offsets(token, &partitions, assign)
            }
        }
    }

    /// Gives every group something to do.
    pub(super) async fn for_each(
        self: &Rc<Self>,
        mut work: impl FnMut(&mut Group, &GroupRules, &dyn Assign, Now) -> Effects,
    ) {
        let names: Vec<Rc<str>> = self.state.borrow().groups.keys().cloned().collect();
        for name in names {
            self.let_one(&name, &mut work);
            self.rewrite_if_due();
            self.env.yield_now().await;
        }
    }

    fn let_one(
        &self,
        name: &Rc<str>,
        work: &mut impl FnMut(&mut Group, &GroupRules, &dyn Assign, Now) -> Effects,
    ) {
        if self.check_serving().is_err() {
            return;
        }
        let now = self.now();
        let state = &mut *self.state.borrow_mut();
        if let Some(held) = state.groups.get_mut(name) {
            let effects = work(&mut held.group, &self.rules, &*self.assign, now);
            self.carry_out(state, name, effects);
        }
    }

    /// Topics have come, gone or grown.
    pub(super) async fn topics_changed(self: &Rc<Self>, changed: &TopicName, is_deleted: bool) {
        if is_deleted {
            self.for_each(|group, _, _, _| group.topic_deleted(changed))
                .await;
        }
        let is_it = |topic: &str| topic == changed.as_str();
        self.for_each(|group, _, assign, now| group.topics_changed(&is_it, assign, now))
            .await;
    }

    /// Its groups, in a list.
    pub(super) fn listed(&self) -> Result<Vec<ListedGroup>, WireError> {
        self.check_serving()?;
        let state = self.state.borrow();
        Ok(state
            .groups
            .values()
            .map(|held| held.group.listed())
            .collect())
    }

    /// Writes down what changed, and answers: at once where nothing is on its way to the disk,
    /// otherwise when it has arrived.
    fn carry_out(&self, state: &mut State, name: &Rc<str>, effects: Effects) {
        let records = records(state, name, &effects);
        let answers = effects.answers;
        if !records.is_empty() {
            match log::append(&self.env, &self.partition, &records) {
                Ok((durable, bytes)) => {
                    self.written_bytes.set(self.written_bytes.get() + bytes);
                    state.releases.push_back(Release {
                        durable,
                        answers: Vec::new(),
                    });
                    self.released.notify();
                }
                Err(error) => {
                    // What its groups hold is no longer what its log says.
                    tracing::error!(partition = %self.partition.id(), %error, "groups cannot be written down");
                    self.stop_with(state, error.to_wire());
                    return;
                }
            }
        }
        let is_over = effects.forgotten
            || state
                .groups
                .get(name)
                .is_some_and(|held| held.group.is_nothing());
        for (token, outcome) in answers {
            // A heartbeat tells nothing that a crash could take back.
            match outcome {
                Ok(GroupAnswer::Heartbeat) | Err(_) => state.answer_now(token, outcome),
                Ok(_) => state.answer_when_durable(token, outcome),
            }
        }
        if is_over {
            state.groups.remove(name);
        } else if state.schedule(name) {
            self.rescheduled.notify();
        }
    }

    /// Sends answers as their records become durable, in the order of the log.
    async fn release(self: Rc<Self>) {
        loop {
            let over = || matches!(*self.status.borrow(), Status::Stopped(_));
            let waits = || !self.state.borrow().releases.is_empty();
            self.released.wait_until(|| waits() || over()).await;
            let Some(durable) = self.front() else { return };
            let outcome = durable.wait().await;
            let release = self.state.borrow_mut().releases.pop_front();
            let release = release.expect("only this task takes from the front");
            for (sender, answer) in release.answers {
                let answer = match &outcome {
                    Ok(()) => answer,
                    Err(_) => Err(not_here()),
                };
                // Whoever asked may have gone.
                let _ = sender.send(answer);
            }
            if let Err(error) = outcome {
                self.stop(error.to_wire());
            }
        }
    }

    fn front(&self) -> Option<Durable> {
        let state = self.state.borrow();
        state
            .releases
            .front()
            .map(|release| release.durable.clone())
    }

    /// Calls groups when their time has come.
    async fn keep_time(self: Rc<Self>) {
        while *self.status.borrow() == Status::Serving {
            let rescheduled = self.rescheduled.listen();
            let next = self.state.borrow().next_deadline();
            match next {
                None => rescheduled.await,
                Some(at) if at <= self.env.now() => {
                    self.expire_one();
                    self.rewrite_if_due();
                    self.env.yield_now().await;
                }
                Some(at) => {
                    let sleep = self.env.sleep(at.since(self.env.now()));
                    select(std::pin::pin!(sleep), rescheduled).await;
                }
            }
        }
    }

    fn expire_one(self: &Rc<Self>) {
        let now = self.now();
        let state = &mut *self.state.borrow_mut();
        let Some(Reverse((at, name))) = state.deadlines.pop() else {
            return;
        };
        let Some(held) = state.groups.get_mut(&name) else {
            return;
        };
        if held.scheduled != Some(at) {
            return;
        }
        held.scheduled = None;
        let effects = held.group.expire(&*self.assign, now);
        self.carry_out(state, &name, effects);
    }

    /// Ends it: whoever waits is told to look for the coordinator again.
    pub(super) fn stop(&self, why: WireError) {
        self.stop_with(&mut self.state.borrow_mut(), why);
    }

    fn stop_with(&self, state: &mut State, why: WireError) {
        let mut status = self.status.borrow_mut();
        if matches!(*status, Status::Stopped(_)) {
            return;
        }
        *status = Status::Stopped(why.clone());
        for (_, sender) in state.waiting.drain() {
            let _ = sender.send(Err(why.clone()));
        }
        self.released.notify();
        self.rescheduled.notify();
    }
}

impl State {
    fn wait(&mut self, sender: OneshotSender<Outcome>) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.waiting.insert(token, sender);
        token
    }

    fn answer_now(&mut self, token: Token, outcome: Outcome) {
        if let Some(sender) = self.waiting.remove(&token) {
            let _ = sender.send(outcome);
        }
    }

    fn answer_when_durable(&mut self, token: Token, outcome: Outcome) {
        match self.releases.back_mut() {
            None => self.answer_now(token, outcome),
            Some(last) => {
                if let Some(sender) = self.waiting.remove(&token) {
                    last.answers.push((sender, outcome));
                }
            }
        }
    }

    /// Notes when a group is to be called; whether that is earlier than what was known.
    fn schedule(&mut self, name: &Rc<str>) -> bool {
        let Some(held) = self.groups.get_mut(name) else {
            return false;
        };
        let Some(next) = held.group.next_deadline() else {
            return false;
        };
        if held.scheduled.is_some_and(|scheduled| scheduled <= next) {
            return false;
        }
        held.scheduled = Some(next);
        let is_first = self.next_deadline().is_none_or(|first| next < first);
        self.deadlines.push(Reverse((next, Rc::clone(name))));
        is_first
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }
}

/// Whether a request can change what is written down; if not, it need not wait for room to write.
fn may_write(request: &GroupRequest) -> bool {
    !matches!(
        request,
        GroupRequest::Heartbeat(_) | GroupRequest::FetchOffsets(_) | GroupRequest::Describe
    )
}

/// What is to be written down of a group that has changed.
fn records(state: &State, name: &Rc<str>, effects: &Effects) -> Vec<Record> {
    let group = name.to_string();
    let mut records: Vec<Record> = effects
        .offsets
        .iter()
        .map(|(topic, partition, value)| Record::Offset {
            group: group.clone(),
            topic: topic.clone(),
            partition: *partition,
            value: value.clone(),
        })
        .collect();
    if effects.forgotten {
        records.push(Record::Group { group, value: None });
    } else if effects.group_changed
        && let Some(held) = state.groups.get(name)
    {
        let value = Some(held.group.value());
        records.push(Record::Group { group, value });
    }
    records
}

/// What is answered where there is no such group, if that makes none.
fn of_no_group(group: &str, request: &GroupRequest) -> Option<Outcome> {
    match request {
        GroupRequest::Describe => Some(Ok(GroupAnswer::Describe(GroupDescription {
            state: GroupState::Dead,
            protocol_type: String::new(),
            protocol: String::new(),
            generation: 0,
            members: Vec::new(),
        }))),
        GroupRequest::Delete | GroupRequest::DeleteOffsets(_) => Some(Err(WireError::new(
            ErrorCode::GroupIdNotFound,
            format!("there is no group '{group}'; list the groups to see those that there are"),
        ))),
        _ => None,
    }
}

/// An id for a new member: what the client calls itself, and something that nobody else has.
fn new_member_id<E: Env>(client: &str, env: &E) -> String {
    let (high, low) = (env.random_u64(), env.random_u64());
    let unique =
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
    format!("{client}-{}", unique.into_uuid())
}

/// The answer where a coordinator will be, but does not serve yet.
pub(super) fn loading() -> WireError {
    WireError::new(
        ErrorCode::CoordinatorLoadInProgress,
        "the group's coordinator is reading its log; ask again in a moment",
    )
}

/// The answer where the coordinator has gone while a request waited.
pub(super) fn not_here() -> WireError {
    WireError::new(
        ErrorCode::NotCoordinator,
        "the group's coordinator has moved or is stopping; ask again who it is",
    )
}
