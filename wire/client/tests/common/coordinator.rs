//! A coordinator of groups in memory, for tests: the rules of a broker's, without a disk. It does no
//! I/O and keeps no clock; whoever runs it says what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_wire::error::ErrorCode;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};

/// How long the first rebalance of an empty group waits for more members.
const INITIAL_DELAY: Duration = Duration::from_millis(100);

/// A partition by its topic's name.
pub type Place = (String, u32);

/// Names a request that is to be answered.
pub type Token = u64;

#[derive(Clone, Debug)]
pub struct Member {
    pub instance: Option<String>,
    topics: Vec<String>,
    owned: Vec<Place>,
    owned_generation: i32,
    assignors: Vec<String>,
    session: Duration,
    rebalance: Duration,
    deadline: Duration,
    joining: Option<Token>,
    /// What the coordinator has given it, whether or not it has heard.
    pub assignment: BTreeSet<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Empty,
    Preparing { until: Duration, initial: bool },
    Stable,
}

#[derive(Debug)]
pub struct Group {
    phase: Phase,
    pub generation: i32,
    assignor: String,
    pub members: BTreeMap<String, Member>,
    pending: BTreeMap<String, Duration>,
    pub offsets: BTreeMap<Place, (i64, String)>,
}

#[derive(Debug, Default)]
pub struct FakeCoordinator {
    pub groups: BTreeMap<String, Group>,
    answers: Vec<(Token, Response)>,
    next_member: u64,
}

/// How many partitions a topic has.
pub type Topics<'a> = &'a dyn Fn(&str) -> Option<u32>;

fn status(code: ErrorCode) -> Status {
    Status::failed(code, format!("as the model has it: {}", code.name()))
}

impl FakeCoordinator {
    /// Takes a request, if it is one about groups. Its answer is among those that are ready, at once
    /// or later.
    pub fn ask(
        &mut self,
        now: Duration,
        token: Token,
        request: &Request,
        topics: Topics<'_>,
    ) -> bool {
        self.pass(now, topics);
        let response: Option<Response> = match request {
            Request::JoinGroup(join) => self.join(now, token, join).map(Into::into),
            Request::SyncGroup(sync) => Some(self.sync(now, sync).into()),
            Request::Heartbeat(beat) => {
                let status = self.heartbeat(now, &beat.group, &beat.member);
                Some(HeartbeatResponse { status }.into())
            }
            Request::LeaveGroup(leave) => Some(self.leave(now, leave).into()),
            Request::CommitOffsets(commit) => Some(self.commit(now, commit, topics).into()),
            Request::FetchOffsets(fetch) => Some(self.fetch(fetch).into()),
            _ => return false,
        };
        self.answers
            .extend(response.map(|response| (token, response)));
        self.pass(now, topics);
        true
    }

    /// Answers that are ready.
    pub fn take_answers(&mut self) -> Vec<(Token, Response)> {
        std::mem::take(&mut self.answers)
    }

    /// Acts on whatever is over by now.
    pub fn pass(&mut self, now: Duration, topics: Topics<'_>) {
        for group in self.groups.values_mut() {
            group.expire(now);
            group.end_joining_if_due(now, topics, &mut self.answers);
        }
    }

    /// When to call [`FakeCoordinator::pass`].
    pub fn deadline(&self) -> Option<Duration> {
        self.groups.values().filter_map(Group::deadline).min()
    }

    /// A group as it is now.
    pub fn group(&self, name: &str) -> &Group {
        self.groups.get(name).expect("the group is known")
    }

    /// The broker has not heard of a member for too long, or so it thinks.
    #[allow(
        dead_code,
        reason = "not every test that includes this file forgets members"
    )]
    pub fn forget_members(&mut self, now: Duration, name: &str, which: impl Fn(&Member) -> bool) {
        let group = self.groups.get_mut(name).expect("the group is known");
        group.members.retain(|_, member| !which(member));
        group.rebalance(now);
    }

    fn entry(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.into()).or_insert_with(|| Group {
            phase: Phase::Empty,
            generation: 0,
            assignor: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            offsets: BTreeMap::new(),
        })
    }

    fn join(
        &mut self,
        now: Duration,
        token: Token,
        join: &JoinGroupRequest,
    ) -> Option<JoinGroupResponse> {
        self.next_member += 1;
        let new_id = format!("member-{}", self.next_member);
        let group = self.entry(&join.group);
        let refused = |code, member_id: &str| {
            Some(JoinGroupResponse {
                status: status(code),
                member_id: member_id.into(),
                ..JoinGroupResponse::default()
            })
        };
        if join.member_id.is_empty() {
            let Some(instance) = &join.instance_id else {
                let session = Duration::from_millis(join.session_timeout_ms.into());
                group.pending.insert(new_id.clone(), now + session);
                return refused(ErrorCode::MemberIdRequired, &new_id);
            };
            let has_it = |member: &Member| member.instance.as_ref() == Some(instance);
            let old = group.members.iter().find(|(_, member)| has_it(member));
            if let Some(old) = old.map(|(id, _)| id.clone()) {
                let member = group.members.remove(&old).expect("it was found");
                let wants_the_same = member.topics == join.topics;
                group.members.insert(new_id.clone(), member);
                if group.phase == Phase::Stable && wants_the_same {
                    group.update(now, &new_id, join);
                    return Some(group.joined(&new_id));
                }
            }
            group.update(now, &new_id, join);
            group.wait(now, &new_id, token);
            return None;
        }
        let id = &join.member_id;
        if group.pending.remove(id).is_none() && !group.members.contains_key(id) {
            return refused(ErrorCode::UnknownMemberId, id);
        }
        let before = group.members.get(id).cloned();
        group.update(now, id, join);
        let is_same = before.is_some_and(|before| {
            (&before.topics, &before.owned) == (&group.members[id].topics, &group.members[id].owned)
        });
        if group.phase == Phase::Stable && is_same {
            return Some(group.joined(id));
        }
        group.wait(now, id, token);
        None
    }

    fn sync(&mut self, now: Duration, sync: &SyncGroupRequest) -> SyncGroupResponse {
        let group = self.entry(&sync.group);
        let status = group.check(now, &sync.member);
        if !status.is_ok() {
            return SyncGroupResponse {
                status,
                ..SyncGroupResponse::default()
            };
        }
        let mut assignment: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (topic, partition) in &group.members[&sync.member.member_id].assignment {
            assignment
                .entry(topic.clone())
                .or_default()
                .push(*partition);
        }
        let topics = assignment.into_iter();
        SyncGroupResponse {
            status,
            assignor: group.assignor.clone(),
            assignment: topics
                .map(|(name, partitions)| GroupTopic { name, partitions })
                .collect(),
        }
    }

    fn heartbeat(&mut self, now: Duration, group: &str, member: &GroupMember) -> Status {
        self.entry(group).check(now, member)
    }

    fn leave(&mut self, now: Duration, leave: &LeaveGroupRequest) -> LeaveGroupResponse {
        self.entry(&leave.group);
        let FakeCoordinator {
            groups, answers, ..
        } = self;
        let group = groups.get_mut(&leave.group).expect("it was put there");
        for leaving in &leave.members {
            group.pending.remove(&leaving.member_id);
            if let Some(member) = group.members.remove(&leaving.member_id) {
                assert!(member.instance.is_none(), "static members do not leave");
                if let Some(token) = member.joining {
                    let response = JoinGroupResponse {
                        status: status(ErrorCode::UnknownMemberId),
                        ..JoinGroupResponse::default()
                    };
                    answers.push((token, response.into()));
                }
            }
        }
        group.rebalance(now);
        LeaveGroupResponse::default()
    }

    fn commit(
        &mut self,
        now: Duration,
        commit: &CommitOffsetsRequest,
        topics: Topics<'_>,
    ) -> CommitOffsetsResponse {
        let group = self.entry(&commit.group);
        let status = match &commit.member {
            Some(member) => group.check(now, member),
            None => Status::ok(),
        };
        // A rebalance that gathers members takes commits.
        if !status.is_ok() && status.code != ErrorCode::RebalanceInProgress as i16 {
            return CommitOffsetsResponse {
                status,
                topics: Vec::new(),
            };
        }
        let mut results = Vec::new();
        for topic in &commit.topics {
            let count = topics(&topic.name).unwrap_or_default();
            let mut partitions = Vec::new();
            for told in &topic.partitions {
                let is_there = told.partition < count;
                let status = match is_there {
                    true => Status::ok(),
                    false => self::status(ErrorCode::UnknownTopicOrPartition),
                };
                if is_there {
                    let place = (topic.name.clone(), told.partition);
                    group
                        .offsets
                        .insert(place, (told.offset, told.metadata.clone()));
                }
                partitions.push(GroupPartitionResult {
                    partition: told.partition,
                    status,
                });
            }
            results.push(GroupTopicResult {
                name: topic.name.clone(),
                partitions,
            });
        }
        CommitOffsetsResponse {
            status: Status::ok(),
            topics: results,
        }
    }

    fn fetch(&mut self, fetch: &FetchOffsetsRequest) -> FetchOffsetsResponse {
        let group = self.entry(&fetch.group);
        let wanted = fetch.partitions.clone().unwrap_or_default();
        let topics = wanted.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let known = group.offsets.get(&(topic.name.clone(), partition));
                let (offset, metadata) = known.cloned().unwrap_or((-1, String::new()));
                CommittedPartition {
                    partition,
                    status: Status::ok(),
                    offset,
                    leader_epoch: -1,
                    metadata,
                }
            });
            let partitions = partitions.collect();
            CommittedTopic {
                name: topic.name,
                partitions,
            }
        });
        FetchOffsetsResponse {
            status: Status::ok(),
            topics: topics.collect(),
        }
    }
}

impl Member {
    /// Something has kept it from being forgotten.
    #[allow(
        dead_code,
        reason = "not every test that includes this file keeps members"
    )]
    pub fn keep(&mut self) {
        self.deadline += self.session;
    }
}

impl Group {
    /// Takes over what a join request says.
    fn update(&mut self, now: Duration, id: &str, join: &JoinGroupRequest) {
        let session = Duration::from_millis(join.session_timeout_ms.into());
        let before = self.members.remove(id);
        let owned = join.owned.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.name.clone(), *partition))
        });
        let member = Member {
            instance: join.instance_id.clone(),
            topics: join.topics.clone(),
            owned: owned.collect(),
            owned_generation: join.owned_generation,
            assignors: join.assignors.clone(),
            session,
            rebalance: Duration::from_millis(join.rebalance_timeout_ms.into()),
            deadline: now + session,
            joining: before.as_ref().and_then(|before| before.joining),
            assignment: before.map(|before| before.assignment).unwrap_or_default(),
        };
        self.members.insert(id.into(), member);
    }

    fn joined(&self, id: &str) -> JoinGroupResponse {
        JoinGroupResponse {
            status: Status::ok(),
            member_id: id.into(),
            generation: self.generation,
            assignor: self.assignor.clone(),
            leader: self.members.keys().next().cloned().unwrap_or_default(),
        }
    }

    /// The member waits for the others.
    fn wait(&mut self, now: Duration, id: &str, token: Token) {
        if let Some(member) = self.members.get_mut(id) {
            // An older request of it is never answered: its client has given up on it.
            member.joining = Some(token);
        }
        self.rebalance(now);
    }

    fn rebalance(&mut self, now: Duration) {
        let longest = self.members.values().map(|member| member.rebalance).max();
        let longest = longest.unwrap_or_default();
        self.phase = match self.phase {
            _ if self.members.is_empty() => Phase::Empty,
            Phase::Empty => Phase::Preparing {
                until: now + INITIAL_DELAY,
                initial: true,
            },
            Phase::Stable => Phase::Preparing {
                until: now + longest,
                initial: false,
            },
            preparing => preparing,
        };
    }

    fn check(&mut self, now: Duration, who: &GroupMember) -> Status {
        let mut members = self.members.iter();
        let taken = who.instance_id.as_ref().and_then(|instance| {
            let has_it = |member: &Member| member.instance.as_ref() == Some(instance);
            members.find(|(_, member)| has_it(member)).map(|(id, _)| id)
        });
        if taken.is_some_and(|id| *id != who.member_id) {
            return status(ErrorCode::FencedInstanceId);
        }
        let Some(member) = self.members.get_mut(&who.member_id) else {
            return status(ErrorCode::UnknownMemberId);
        };
        if who.generation != self.generation {
            return status(ErrorCode::IllegalGeneration);
        }
        member.deadline = now + member.session;
        match self.phase {
            Phase::Stable => Status::ok(),
            _ => status(ErrorCode::RebalanceInProgress),
        }
    }

    fn expire(&mut self, now: Duration) {
        self.pending.retain(|_, until| *until > now);
        let before = self.members.len();
        self.members
            .retain(|_, member| member.joining.is_some() || member.deadline > now);
        if self.members.len() != before {
            self.rebalance(now);
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let phase = match self.phase {
            Phase::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let idle = self
            .members
            .values()
            .filter(|member| member.joining.is_none());
        let sessions = idle.map(|member| member.deadline).min();
        let pending = self.pending.values().min().copied();
        [phase, sessions, pending].into_iter().flatten().min()
    }

    fn end_joining_if_due(
        &mut self,
        now: Duration,
        topics: Topics<'_>,
        answers: &mut Vec<(Token, Response)>,
    ) {
        let Phase::Preparing { until, initial } = self.phase else {
            return;
        };
        let all = self.members.values().all(|member| member.joining.is_some());
        let is_over = until <= now || (!initial && all && self.pending.is_empty());
        if !is_over {
            return;
        }
        self.members
            .retain(|_, member| member.joining.is_some() || member.instance.is_some());
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        self.generation += 1;
        self.phase = Phase::Stable;
        self.choose_assignor();
        self.assign(topics);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let member = self.members.get_mut(&id).expect("it is listed");
            member.deadline = now + member.session;
            if let Some(token) = member.joining.take() {
                answers.push((token, answer.into()));
            }
        }
    }

    fn choose_assignor(&mut self) {
        let first = self.members.values().next().expect("there are members");
        let common = first.assignors.iter().find(|name| {
            let mut members = self.members.values();
            members.all(|member| member.assignors.contains(name))
        });
        self.assignor = common.expect("they have one in common").clone();
    }

    fn assign(&mut self, topics: Topics<'_>) {
        let wanted: BTreeSet<&String> = self.members.values().flat_map(|m| &m.topics).collect();
        let mut places = BTreeSet::new();
        for topic in wanted {
            let count = topics(topic).unwrap_or_default();
            places.extend((0..count).map(|partition| (topic.clone(), partition)));
        }
        // Claims of an older generation are worth nothing.
        let newest = self.members.values().map(|m| m.owned_generation).max();
        let is_sticky = self.assignor == "cooperative-sticky";
        let mut owners: BTreeMap<Place, String> = BTreeMap::new();
        for (id, member) in self.members.iter().filter(|_| is_sticky) {
            if Some(member.owned_generation) == newest {
                let claims = member.owned.iter().filter(|place| places.contains(*place));
                owners.extend(claims.map(|place| (place.clone(), id.clone())));
            }
        }
        let most = places.len().div_ceil(self.members.len());
        for member in self.members.values_mut() {
            member.assignment.clear();
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut left = Vec::new();
        for place in places {
            match owners.get(&place) {
                Some(owner) if counts.get(owner).copied().unwrap_or_default() < most => {
                    *counts.entry(owner.clone()).or_default() += 1;
                    let member = self.members.get_mut(owner).expect("it is a member");
                    member.assignment.insert(place);
                }
                _ => left.push(place),
            }
        }
        for place in left {
            let wants = |member: &Member| member.topics.contains(&place.0);
            let candidates = self.members.iter().filter(|(_, member)| wants(member));
            let fewest = candidates
                .map(|(id, _)| (counts.get(id).copied().unwrap_or_default(), id.clone()))
                .min();
            let Some((_, id)) = fewest else { continue };
            *counts.entry(id.clone()).or_default() += 1;
            // Whoever has it gives it up first.
            if owners.get(&place).is_none_or(|owner| *owner == id) {
                let member = self.members.get_mut(&id).expect("it is a member");
                member.assignment.insert(place);
            }
        }
    }
}
