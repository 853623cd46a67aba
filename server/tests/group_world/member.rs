//! Members of one group: they join, read, commit, stand still, crash and leave. A member that stood
//! still goes on where it was, as if nothing had happened, until it is told; one that crashed may have a
//! commit on the way still.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_server::coordinator::api::{
    Assignor, CommitOffsets, CommittedOffset, FetchOffsets, GroupAnswer, GroupCall, GroupRequest,
    JoinGroup, JoinedGroup, LeavingMember, MemberIdentity, SyncGroup,
};
use millrace_server::coordinator::assignor::assign_encoded;
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex};
use millrace_wire::kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions, Version};

use super::ledger::{Holding, Share};
use super::{Bug, GROUP, Kind, Lost, PARTITIONS, TOPIC, World};

/// The shortest that a broker allows by default.
const SESSION_TIMEOUT_MS: u32 = 6_000;
const REBALANCE_TIMEOUT_MS: u32 = 4_000;
/// How long an answer is waited for that others have a part in.
const PATIENCE: Duration = Duration::from_secs(8);
/// A commit is waited for as long as it takes: what its client gave up could overtake the next.
const ENDLESS: Duration = Duration::from_secs(3_600);

/// Where a member stands in a partition.
#[derive(Clone, Copy)]
struct Place {
    next: i64,
    committed: i64,
}

/// One life of a member.
struct Member {
    world: Rc<World>,
    /// Its lasting name, if it has one.
    instance: Option<String>,
    id: String,
    generation: i32,
    owned: BTreeMap<u32, Place>,
    /// The generation in which it got those.
    owned_in: i32,
    next_heartbeat: Instant,
}

/// What a member does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Join, with what it still has.
    Join,
    /// Go on.
    Work,
    /// Nothing: this life is over.
    End,
}

/// All members, one life after the other.
pub fn members(world: &Rc<World>) {
    for slot in 0..world.plan.members {
        let own = Rc::clone(world);
        world.spawn(async move {
            // So that the group has offsets, and its generations are never counted anew.
            if slot == 0 {
                begin(&own).await;
            }
            for life in 0.. {
                own.sleep_ms(0, 2_000).await;
                live(&own, slot, life).await;
            }
        });
    }
}

/// Commits the beginning, before there are members.
async fn begin(world: &Rc<World>) {
    let offsets = BTreeMap::from([(0, 0)]);
    let before = world.ledger.before();
    world.ledger.commits(&offsets);
    while !matches!(commit(world, None, &offsets).await, Ok(Ok(()))) {
        if world.ledger.counts().contains_key("assignments") {
            return; // others were quicker, and have offsets soon
        }
        world.sleep_ms(1, 20).await;
    }
    world.ledger.committed(&before, 0, &offsets);
}

async fn live(world: &Rc<World>, slot: u64, life: u64) {
    let name = format!("m{slot}");
    let mut member = Member {
        world: Rc::clone(world),
        instance: world.plan.is_static.then(|| name.clone()),
        id: String::new(),
        generation: -1,
        owned: BTreeMap::new(),
        owned_in: -1,
        next_heartbeat: world.env.now(),
    };
    let key = format!("{name}.{life}");
    loop {
        let mut next = member.enter().await;
        while next == Next::Work {
            member.tell(&key);
            next = member.work().await;
        }
        member.tell(&key);
        if next == Next::End {
            break;
        }
        world.sleep_ms(0, 50).await;
    }
    world.ledger.holdings.borrow_mut().remove(&key);
}

/// Asks for offsets to be noted, by a broker that may have a bug.
async fn commit(
    world: &Rc<World>,
    member: Option<&MemberIdentity>,
    offsets: &BTreeMap<u32, i64>,
) -> Result<Result<(), WireError>, Lost> {
    let request = |member: Option<&MemberIdentity>| {
        let offsets = offsets.iter().map(|(partition, at)| CommittedOffset {
            topic: TOPIC.parse().expect("a name"),
            partition: PartitionIndex(*partition),
            offset: Offset(*at),
            leader_epoch: 0,
            metadata: String::new(),
        });
        GroupRequest::CommitOffsets(CommitOffsets {
            member: member.cloned(),
            offsets: offsets.collect(),
        })
    };
    if let (Some(Bug::CommitAnsweredEarly), Some(member)) = (world.bug, member) {
        // Whoever may heartbeat may commit, mostly; it is on its way.
        let beat = GroupRequest::Heartbeat(member.clone());
        if let Ok(Ok(_)) = world.group(Kind::Other, PATIENCE, beat).await
            && let Some(broker) = world.broker()
        {
            let call = GroupCall {
                group: GROUP.into(),
                request: request(Some(member)),
            };
            let env = broker.env.clone();
            let task = async move { drop(broker.group(call).await) };
            drop(env.spawn(Queue::Requests, "early", OnPanic::StopProcess, task));
            world.travel().await;
            world.answered(Kind::Commit);
            return Ok(Ok(()));
        }
    }
    let mut told = world.group(Kind::Commit, ENDLESS, request(member)).await?;
    if world.bug == Some(Bug::StaleGeneration) && told.is_err() && member.is_some() {
        let describe = world.group(Kind::Other, PATIENCE, GroupRequest::Describe);
        if let Ok(GroupAnswer::Describe(group)) = describe.await?
            && let Some(other) = group.members.first()
        {
            let taken_for = MemberIdentity {
                member_id: other.member_id.clone(),
                instance_id: other.instance_id.clone(),
                generation: group.generation,
            };
            let request = request(Some(&taken_for));
            told = world.group(Kind::Commit, ENDLESS, request).await?;
        }
    }
    Ok(told.and_then(|answer| match answer {
        GroupAnswer::CommitOffsets(outcomes) => outcomes.into_iter().collect(),
        other => panic!("another answer: {other:?}"),
    }))
}

impl Member {
    fn identity(&self) -> MemberIdentity {
        MemberIdentity {
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            generation: self.generation,
        }
    }

    /// Shows what it has, for the end.
    fn tell(&self, key: &str) {
        let holding = Holding {
            generation: self.generation,
            partitions: self.owned.keys().copied().collect(),
        };
        let mut all = self.world.ledger.holdings.borrow_mut();
        all.insert(key.to_owned(), holding);
    }

    /// It is told that it is not what it was.
    fn refused(&mut self, error: &WireError) -> Next {
        match error.code {
            ErrorCode::UnknownMemberId => {
                self.world.ledger.count("members forgotten");
                self.id.clear();
                self.lose_all();
            }
            ErrorCode::IllegalGeneration => self.lose_all(),
            ErrorCode::FencedInstanceId => {
                self.world.ledger.count("members replaced");
                return Next::End;
            }
            _ => {}
        }
        Next::Join
    }

    fn lose_all(&mut self) {
        self.owned.clear();
        (self.generation, self.owned_in) = (-1, -1);
    }

    fn owned(&self) -> BTreeSet<u32> {
        self.owned.keys().copied().collect()
    }

    /// Joins, is told what to read, and finds out from where.
    async fn enter(&mut self) -> Next {
        if !self.world.plan.is_cooperative() {
            self.owned.clear();
        }
        let had = self.owned();
        let joined = match self.join().await {
            Ok(Ok(joined)) => joined,
            Ok(Err(error)) => return self.refused(&error),
            Err(Lost) => return Next::Join,
        };
        self.generation = joined.generation;
        let given = match self.sync(joined).await {
            Ok(Ok(given)) => given,
            Ok(Err(error)) => return self.refused(&error),
            Err(Lost) => return Next::Join,
        };
        let who = self.instance.as_ref().unwrap_or(&self.id);
        let ledger = &self.world.ledger;
        let share = Share {
            had: had.clone(),
            had_in: self.owned_in,
            given: given.clone(),
        };
        ledger.given(self.generation, who, share);
        self.owned_in = self.generation;
        self.next_heartbeat = self.world.env.now();
        self.take_over(&given).await;
        match had.is_subset(&given) {
            true => Next::Work,
            // Only now may somebody else be given them.
            false => Next::Join,
        }
    }

    fn subscription(&self) -> Bytes {
        let partitions: Vec<_> = self.owned.keys().copied().map(PartitionIndex).collect();
        let topic = TOPIC;
        let owned = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions { topic, partitions }],
        };
        let subscription = Subscription {
            version: Version::NEWEST,
            topics: vec![TOPIC],
            owned,
            generation: Some(self.owned_in).filter(|generation| *generation >= 0),
            ..Subscription::default()
        };
        subscription.to_bytes()
    }

    async fn join(&mut self) -> Result<Result<JoinedGroup, WireError>, Lost> {
        let plan = &self.world.plan;
        let join = JoinGroup {
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            client_id: "c".into(),
            client_host: "/h".into(),
            protocol_type: "consumer".into(),
            protocols: vec![(plan.protocol.name().into(), self.subscription())],
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            initial_delay_ms: 100,
            needs_member_id: true,
            can_skip_assignment: true,
            assignor: plan.assignor,
        };
        let request = GroupRequest::Join(join);
        let answer = self.world.group(Kind::Rebalance, PATIENCE, request).await?;
        Ok(match answer {
            Ok(GroupAnswer::Join(joined)) => {
                self.id = joined.member_id;
                joined.outcome
            }
            Ok(other) => panic!("another answer: {other:?}"),
            Err(error) => Err(error),
        })
    }

    async fn sync(&self, joined: JoinedGroup) -> Result<Result<BTreeSet<u32>, WireError>, Lost> {
        let plan = &self.world.plan;
        let assigns = plan.assignor == Assignor::Leader
            && joined.leader == self.id
            && !joined.skip_assignment;
        let assignments = match assigns {
            true => assign_encoded(plan.protocol, &joined.members, &|_| Some(PARTITIONS)),
            false => Vec::new(),
        };
        let request = GroupRequest::Sync(SyncGroup {
            member: self.identity(),
            protocol_type: Some("consumer".into()),
            protocol: Some(plan.protocol.name().into()),
            assignments,
        });
        let answer = self.world.group(Kind::Rebalance, PATIENCE, request).await?;
        Ok(answer.map(|answer| match answer {
            GroupAnswer::Sync(synced) => self.world.given_by(&synced.assignment),
            other => panic!("another answer: {other:?}"),
        }))
    }

    /// Gives up what is not among `given`, and begins with what is new.
    async fn take_over(&mut self, given: &BTreeSet<u32>) {
        if self.owned().difference(given).next().is_some() {
            // Whoever is next goes on from here, if this arrives.
            let _ = self.commit().await;
            self.owned.retain(|partition, _| given.contains(partition));
        }
        let new: Vec<u32> = given.difference(&self.owned()).copied().collect();
        if new.is_empty() {
            return;
        }
        loop {
            match self.fetch_offsets(&new).await {
                Ok(places) => return self.owned.extend(places),
                Err(Lost) => self.world.sleep_ms(0, 50).await,
            }
        }
    }

    async fn fetch_offsets(&self, new: &[u32]) -> Result<BTreeMap<u32, Place>, Lost> {
        let before = self.world.ledger.before();
        let partitions = new.iter().map(|partition| {
            let topic = TOPIC.parse().expect("a name");
            (topic, PartitionIndex(*partition))
        });
        let request = GroupRequest::FetchOffsets(FetchOffsets {
            member: None,
            partitions: Some(partitions.collect()),
        });
        let answer = self.world.group(Kind::Other, PATIENCE, request).await?;
        let Ok(GroupAnswer::FetchOffsets(offsets)) = answer else {
            return Err(Lost);
        };
        let find = |partition: u32| {
            let mut offsets = offsets.iter();
            let found = offsets.find(|offset| offset.partition.0 == partition)?;
            Some(found.offset.0)
        };
        let places = new.iter().map(|&partition| {
            let at = self.world.ledger.told(&before, partition, find(partition));
            let place = Place {
                next: at,
                committed: at,
            };
            (partition, place)
        });
        Ok(places.collect())
    }

    /// One thing that a member does.
    async fn work(&mut self) -> Next {
        let world = Rc::clone(&self.world);
        world.sleep_ms(1, 120).await;
        if world.mishap(400) {
            return self.end().await;
        }
        if world.mishap(250) {
            world.ledger.count("members that stood still");
            world.sleep_ms(500, 15_000).await;
            // It knows nothing of that.
            self.poll().await;
            return self.commit().await;
        }
        if world.env.now() >= self.next_heartbeat {
            return self.heartbeat().await;
        }
        match world.below(4) {
            0 => self.commit().await,
            _ => {
                self.poll().await;
                Next::Work
            }
        }
    }

    async fn poll(&mut self) {
        let all: Vec<u32> = self.owned.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let partition = all[self.world.below(all.len() as u64) as usize];
        let place = self.owned.get_mut(&partition).expect("it is one of them");
        if let Ok(next) = self.world.poll(partition, place.next).await {
            place.next = next;
        }
    }

    async fn heartbeat(&mut self) -> Next {
        let request = GroupRequest::Heartbeat(self.identity());
        let told = self.world.group(Kind::Other, PATIENCE, request).await;
        let wait = match told {
            Ok(Ok(_)) => 500 + self.world.below(1_000),
            Ok(Err(error)) if error.code == ErrorCode::RebalanceInProgress => {
                if !self.world.plan.is_cooperative() {
                    // All of it is given up with the join.
                    let _ = self.commit().await;
                }
                return Next::Join;
            }
            Ok(Err(error))
                if matches!(
                    error.code,
                    ErrorCode::UnknownMemberId
                        | ErrorCode::IllegalGeneration
                        | ErrorCode::FencedInstanceId
                ) =>
            {
                return self.refused(&error);
            }
            Ok(Err(_)) | Err(Lost) => self.world.below(100),
        };
        self.next_heartbeat = self.world.env.now().plus(Duration::from_millis(wait));
        Next::Work
    }

    /// Commits what it has read.
    async fn commit(&mut self) -> Next {
        let is_new = |(_, place): &(&u32, &Place)| place.next > place.committed;
        let offsets: BTreeMap<u32, i64> = self
            .owned
            .iter()
            .filter(is_new)
            .map(|(partition, place)| (*partition, place.next))
            .collect();
        if offsets.is_empty() {
            return Next::Work;
        }
        let ledger = &self.world.ledger;
        let before = ledger.before();
        ledger.commits(&offsets);
        match commit(&self.world, Some(&self.identity()), &offsets).await {
            Ok(Ok(())) => {
                ledger.committed(&before, self.generation, &offsets);
                for (partition, place) in &mut self.owned {
                    place.committed = offsets.get(partition).copied().unwrap_or(place.committed);
                }
                Next::Work
            }
            Ok(Err(error)) => {
                ledger.count("commits refused");
                match error.code {
                    ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId => self.refused(&error),
                    // It is to join again, which the next heartbeat says.
                    _ => Next::Work,
                }
            }
            Err(Lost) => Next::Work,
        }
    }

    /// Leaves, or crashes, perhaps with a commit on its way.
    async fn end(&mut self) -> Next {
        if self.world.below(3) == 0 {
            self.world.ledger.count("members that left");
            let _ = self.commit().await;
            let leaving = LeavingMember {
                member_id: self.id.clone(),
                instance_id: self.instance.clone(),
            };
            let request = GroupRequest::Leave(vec![leaving]);
            let _ = self.world.group(Kind::Other, PATIENCE, request).await;
            return Next::End;
        }
        self.world.ledger.count("members that crashed");
        let mut ghost = Member {
            world: Rc::clone(&self.world),
            instance: self.instance.clone(),
            id: self.id.clone(),
            owned: std::mem::take(&mut self.owned),
            ..*self
        };
        self.world.spawn(async move {
            ghost.world.sleep_ms(0, 15_000).await;
            let _ = ghost.commit().await;
        });
        Next::End
    }
}

impl World {
    /// What an assignment says, by a broker that may have a bug.
    fn given_by(&self, assignment: &Bytes) -> BTreeSet<u32> {
        if self.bug == Some(Bug::GivenToAll) {
            return (0..PARTITIONS).collect();
        }
        if assignment.is_empty() {
            return BTreeSet::new();
        }
        let assignment = Assignment::parse(assignment).expect("it is one");
        let topics = assignment.topics.iter();
        let mut given: BTreeSet<u32> = topics
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.0))
            .collect();
        if self.bug == Some(Bug::GivenToNobody) {
            given.remove(&(PARTITIONS - 1));
        }
        given
    }
}
