//! Feeds a group and keeps what it answers.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use millrace_shard::env::Instant;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex, TopicName};

use crate::coordinator::api::{
    Assignor, CommitOffsets, CommittedOffset, FetchOffsets, GroupAnswer, JoinGroup, Joined,
    JoinedGroup, JoinedMember, LeavingMember, MemberIdentity, SyncGroup,
};
use crate::coordinator::assignor::Protocol;
use crate::coordinator::group::{Assign, Effects, Group, GroupRules, Now, Token};
use crate::coordinator::settings::GroupSettings;

/// Metadata is a list of topics with spaces between; each member gets what it told, with its place.
pub(super) struct Words;

impl Assign for Words {
    fn assign(&self, protocol: Protocol, members: &[JoinedMember]) -> Vec<(String, Bytes)> {
        let told = members.iter().enumerate().map(|(place, member)| {
            let topics = String::from_utf8_lossy(&member.metadata).into_owned();
            let share = format!("{}/{place}: {topics}", protocol.name());
            (member.member_id.clone(), Bytes::from(share))
        });
        told.collect()
    }

    fn topics(&self, metadata: &Bytes) -> Vec<TopicName> {
        let text = String::from_utf8_lossy(metadata).into_owned();
        text.split_whitespace()
            .filter_map(|name| name.parse().ok())
            .collect()
    }
}

pub(super) type Outcome = Result<GroupAnswer, WireError>;

pub(super) struct Driver {
    pub(super) group: Group,
    pub(super) rules: GroupRules,
    pub(super) now: Now,
    pub(super) last: Effects,
    next_token: u64,
    answers: HashMap<Token, Outcome>,
    /// How often the group was to be written down.
    pub(super) written: u32,
}

pub(super) const SESSION_MS: u32 = 10_000;
pub(super) const REBALANCE_MS: u32 = 60_000;

/// A consumer's request to join.
pub(super) fn consumer(member_id: &str) -> JoinGroup {
    JoinGroup {
        member_id: member_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"t"))],
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        initial_delay_ms: 0,
        needs_member_id: false,
        can_skip_assignment: false,
        assignor: Assignor::Leader,
    }
}

pub(super) fn native(member_id: &str) -> JoinGroup {
    JoinGroup {
        assignor: Assignor::Coordinator,
        ..consumer(member_id)
    }
}

pub(super) fn fixed(instance_id: &str) -> JoinGroup {
    JoinGroup {
        instance_id: Some(instance_id.into()),
        ..consumer("")
    }
}

pub(super) fn identity(member_id: &str, generation: i32) -> MemberIdentity {
    MemberIdentity {
        member_id: member_id.into(),
        instance_id: None,
        generation,
    }
}

impl Driver {
    pub(super) fn new() -> Driver {
        let now = Now {
            instant: Instant(0),
            wall_ms: 1_000_000,
        };
        Driver {
            group: Group::new(Rc::from("g"), now),
            rules: GroupSettings::default().rules,
            now,
            last: Effects::default(),
            next_token: 0,
            answers: HashMap::new(),
            written: 0,
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(super) fn take(&mut self, mut effects: Effects) {
        self.written += u32::from(effects.group_changed);
        for (token, outcome) in effects.answers.drain(..) {
            let before = self.answers.insert(token, outcome);
            assert!(before.is_none(), "{token:?} is answered once");
        }
        self.last = effects;
    }

    pub(super) fn answer(&mut self, token: Token) -> Option<Outcome> {
        self.answers.remove(&token)
    }

    /// Joins under the name `new_id` if the request has none.
    pub(super) fn join(&mut self, join: &JoinGroup, new_id: &str) -> Token {
        let token = self.token();
        let effects = self
            .group
            .join(token, join, new_id, &self.rules, &Words, self.now);
        self.take(effects);
        token
    }

    pub(super) fn joined(&mut self, token: Token) -> Joined {
        match self.answer(token) {
            Some(Ok(GroupAnswer::Join(joined))) => joined,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    pub(super) fn is_in(&mut self, token: Token) -> JoinedGroup {
        self.joined(token).outcome.expect("it is in")
    }

    pub(super) fn refused(&mut self, token: Token) -> ErrorCode {
        match self.answer(token) {
            Some(Ok(GroupAnswer::Join(joined))) => joined.outcome.expect_err("refused").code,
            Some(Err(error)) => error.code,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    pub(super) fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    pub(super) fn sync(&mut self, member: MemberIdentity, assignments: &[(&str, &str)]) -> Token {
        let token = self.token();
        let assignments = assignments
            .iter()
            .map(|(id, what)| ((*id).to_owned(), Bytes::from((*what).to_owned())))
            .collect();
        let sync = SyncGroup {
            member,
            protocol_type: None,
            protocol: None,
            assignments,
        };
        let effects = self.group.sync(token, sync, self.now);
        self.take(effects);
        token
    }

    pub(super) fn assignment(&mut self, token: Token) -> String {
        match self.answer(token) {
            Some(Ok(GroupAnswer::Sync(synced))) => {
                String::from_utf8_lossy(&synced.assignment).into_owned()
            }
            other => panic!("no assignment: {other:?}"),
        }
    }

    /// 0, or what is wrong.
    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        let token = self.token();
        let member = identity(member_id, generation);
        let effects = self.group.heartbeat(token, &member, self.now);
        self.take(effects);
        match self.answer(token).expect("answered at once") {
            Ok(_) => 0,
            Err(error) => error.code as i16,
        }
    }

    pub(super) fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> i16 {
        let token = self.token();
        let leaving = [LeavingMember {
            member_id: member_id.into(),
            instance_id: instance_id.map(str::to_owned),
        }];
        let effects = self.group.leave(token, &leaving, &Words, self.now);
        self.take(effects);
        match self.answer(token).expect("answered at once") {
            Ok(GroupAnswer::Leave(outcomes)) => code(&outcomes[0]),
            other => panic!("no answer to a leave: {other:?}"),
        }
    }

    pub(super) fn commit(&mut self, member: Option<MemberIdentity>, offset: i64) -> i16 {
        let token = self.token();
        let commit = CommitOffsets {
            member,
            offsets: vec![CommittedOffset {
                topic: topic("t"),
                partition: PartitionIndex(0),
                offset: Offset(offset),
                leader_epoch: 1,
                metadata: "m".into(),
            }],
        };
        let effects = self.group.commit(token, commit, &self.rules, self.now);
        self.take(effects);
        match self.answer(token).expect("answered at once") {
            Ok(GroupAnswer::CommitOffsets(outcomes)) => code(&outcomes[0]),
            Err(error) => error.code as i16,
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    /// The offset of the partition that [`Driver::commit`] commits.
    pub(super) fn committed(&mut self) -> Option<i64> {
        let token = self.token();
        let fetch = FetchOffsets {
            member: None,
            partitions: Some(vec![(topic("t"), PartitionIndex(0))]),
        };
        let effects = self.group.fetch(token, &fetch);
        self.take(effects);
        match self.answer(token).expect("answered at once") {
            Ok(GroupAnswer::FetchOffsets(offsets)) => offsets.first().map(|offset| offset.offset.0),
            other => panic!("no answer to a fetch: {other:?}"),
        }
    }

    /// Lets time pass, and the group act at each of its deadlines.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.instant.plus(Duration::from_millis(ms));
        while let Some(next) = self.group.next_deadline().filter(|next| *next <= end) {
            self.move_to(next.max(self.now.instant));
            let effects = self.group.expire(&Words, self.now);
            self.take(effects);
        }
        self.move_to(end);
    }

    fn move_to(&mut self, instant: Instant) {
        let passed = instant.since(self.now.instant).as_millis();
        self.now.wall_ms += i64::try_from(passed).expect("not that long");
        self.now.instant = instant;
    }

    /// A group of consumers, all in and each with its name as its assignment. The first leads.
    pub(super) fn settled(ids: &[&str]) -> Driver {
        let mut driver = Driver::new();
        driver.settle(ids);
        driver
    }

    /// These members join, those that are there already after those that are new, and the leader
    /// assigns each its own name. The generation they are in.
    pub(super) fn settle(&mut self, ids: &[&str]) -> i32 {
        let is_member = |id: &&&str| self.group.members.contains_key(**id);
        let (old, new): (Vec<&str>, Vec<&str>) = ids.iter().partition(is_member);
        let patient = JoinGroup {
            initial_delay_ms: 10,
            ..consumer("")
        };
        let mut tokens: Vec<Token> = new.iter().map(|id| self.join(&patient, id)).collect();
        tokens.extend(
            old.iter()
                .map(|id| self.join(&consumer(id), id))
                .collect::<Vec<_>>(),
        );
        self.pass(50);
        let joined: Vec<JoinedGroup> = tokens.into_iter().map(|token| self.is_in(token)).collect();
        let generation = joined[0].generation;
        let leader = joined[0].leader.clone();
        for id in ids.iter().filter(|id| **id != leader) {
            self.sync(identity(id, generation), &[]);
        }
        let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (*id, *id)).collect();
        self.sync(identity(&leader, generation), &assignments);
        generation
    }
}

pub(super) fn code(outcome: &Result<(), WireError>) -> i16 {
    match outcome {
        Ok(()) => 0,
        Err(error) => error.code as i16,
    }
}

pub(super) fn topic(name: &str) -> TopicName {
    name.parse().expect("a name")
}
