//! Joining, and the rebalance from its first join to the leader's assignment.

use std::rc::Rc;
use std::time::Duration;

use millrace_shard::env::Instant;
use millrace_wire::error::{ErrorCode, WireError};

use super::member::{Member, millis};
use super::timers::Timer;
use super::{Assign, Effects, Group, GroupRules, InitialDelay, Now, Phase, Token};
use crate::coordinator::api::{Assignor, JoinGroup, JoinedGroup, JoinedMember};
use crate::coordinator::assignor::Protocol;

/// How long a member that joined for the first time may wait for the rebalance to end, whatever its
/// session timeout: its client sends nothing meanwhile, and may have gone.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

impl Group {
    /// Takes a join request. `new_id` is the id for a member that has none yet.
    pub fn join(
        &mut self,
        token: Token,
        join: &JoinGroup,
        new_id: &str,
        rules: &GroupRules,
        assign: &dyn Assign,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        let taken = match self.check_join(join, rules) {
            Err(error) => Err(error),
            Ok(()) if join.member_id.is_empty() => {
                self.join_as_new(token, join, new_id, (rules, assign), now, &mut effects)
            }
            Ok(()) => self.join_again(token, join, rules, now, &mut effects),
        };
        if let Err(error) = taken {
            let member_id = match error.code {
                ErrorCode::MemberIdRequired => new_id.to_owned(),
                _ => join.member_id.clone(),
            };
            effects.refuse_join(token, &member_id, error);
        }
        self.end_joining_if_all_have(assign, now, &mut effects);
        effects
    }

    fn check_join(&self, join: &JoinGroup, rules: &GroupRules) -> Result<(), WireError> {
        let session = join.session_timeout_ms;
        if !(rules.min_session_timeout_ms..=rules.max_session_timeout_ms).contains(&session) {
            return Err(WireError::new(
                ErrorCode::InvalidSessionTimeout,
                format!(
                    "a session timeout of {session} ms is not between {} and {} ms, which the broker's groups.min_session_timeout_ms and groups.max_session_timeout_ms allow",
                    rules.min_session_timeout_ms, rules.max_session_timeout_ms
                ),
            ));
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(
                self.inconsistent("a member names a protocol type and at least one protocol")
            );
        }
        if self.members.is_empty() {
            return Ok(());
        }
        if join.protocol_type != self.protocol_type {
            return Err(self.inconsistent(&format!(
                "its members are of type '{}', not '{}'",
                self.protocol_type, join.protocol_type
            )));
        }
        // Whoever replaces itself need not agree with itself.
        let is_other = |member: &Member| {
            member.instance_id.is_none() || member.instance_id != join.instance_id
        };
        let others: Vec<&Member> = self
            .members
            .values()
            .filter(|member| *member.id != *join.member_id && is_other(member))
            .collect();
        let common = |name: &str| others.iter().all(|member| member.supports(name));
        if !join.protocols.iter().any(|(name, _)| common(name)) {
            return Err(self.inconsistent("its members know none of this member's protocols"));
        }
        Ok(())
    }

    pub(super) fn inconsistent(&self, why: &str) -> WireError {
        WireError::new(
            ErrorCode::InconsistentGroupProtocol,
            format!(
                "group '{}' cannot be joined like this: {why}; use the group's protocols or another group",
                self.name
            ),
        )
    }

    fn join_as_new(
        &mut self,
        token: Token,
        join: &JoinGroup,
        new_id: &str,
        (rules, assign): (&GroupRules, &dyn Assign),
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), WireError> {
        if let Some(instance_id) = &join.instance_id
            && let Some(current) = self.instances.get(instance_id).cloned()
        {
            let id = Rc::from(new_id);
            if self.replace_static(&current, &id, join, assign, now, effects) {
                self.answer_static(token, &current, &id, join, effects);
            } else {
                let member = self.members.get_mut(&id).expect("it was put there");
                member.joining = Some(token);
                self.joining += 1;
                self.prepare_if_settled(join.initial_delay_ms, now, effects);
            }
            return Ok(());
        }
        self.check_size(rules)?;
        if join.needs_member_id && join.instance_id.is_none() {
            let id: Rc<str> = Rc::from(new_id);
            let until = now.instant.plus(millis(join.session_timeout_ms));
            self.timers.add(until, Timer::Pending(Rc::clone(&id)));
            self.pending.insert(id);
            return Err(WireError::new(
                ErrorCode::MemberIdRequired,
                "join again with the member id that comes with this answer",
            ));
        }
        self.add_member(token, Rc::from(new_id), join, now, effects);
        Ok(())
    }

    fn check_size(&self, rules: &GroupRules) -> Result<(), WireError> {
        if self.members.len() + self.pending.len() < rules.max_size {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::GroupMaxSizeReached,
            format!(
                "group '{}' has {} members, the most that groups.max_size allows",
                self.name, rules.max_size
            ),
        ))
    }

    fn join_again(
        &mut self,
        token: Token,
        join: &JoinGroup,
        rules: &GroupRules,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), WireError> {
        if let Some(id) = self.pending.take(join.member_id.as_str()) {
            if self.members.len() >= rules.max_size {
                return self.check_size(rules);
            }
            self.add_member(token, id, join, now, effects);
            return Ok(());
        }
        let id = self.find_member(&join.member_id, join.instance_id.as_deref())?;
        let member = &self.members[&id];
        let brings_nothing_new = member.matches(join);
        let is_leader = self.leader.as_ref() == Some(&id);
        match self.phase {
            // Whoever did not get the answer asks again.
            Phase::Completing { .. } if brings_nothing_new => {
                self.answer_joined(token, &id, effects);
            }
            // So does this one; but a leader that joins again wants to assign anew.
            Phase::Stable if brings_nothing_new && (!is_leader || self.assigns_here()) => {
                self.answer_joined(token, &id, effects);
            }
            _ => {
                self.take_join_of(&id, token, join, now, effects);
                self.prepare_if_settled(join.initial_delay_ms, now, effects);
            }
        }
        self.heard_of(&id, now);
        Ok(())
    }

    fn add_member(
        &mut self,
        token: Token,
        id: Rc<str>,
        join: &JoinGroup,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut member = Member::new(Rc::clone(&id), self.next_order, join);
        self.next_order += 1;
        member.joining = Some(token);
        self.joining += 1;
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), Rc::clone(&id));
        }
        self.members.insert(Rc::clone(&id), member);
        self.protocol_type.clone_from(&join.protocol_type);
        self.keep_waiting(&id, now);
        if let Phase::Preparing {
            initial: Some(initial),
            ..
        } = &mut self.phase
        {
            initial.somebody_came = true;
        }
        self.prepare_if_settled(join.initial_delay_ms, now, effects);
    }

    /// A member's time begins anew: its session, or where it has never been answered, more.
    fn keep_waiting(&mut self, id: &Rc<str>, now: Now) {
        match self.members[id].is_new {
            true => self.expire_at(id, now.instant.plus(NEW_MEMBER_TIMEOUT)),
            false => self.heard_of(id, now),
        }
    }

    /// A member's join request waits from now on. One that it had waiting is answered: the client has
    /// given up on it.
    fn take_join_of(
        &mut self,
        id: &Rc<str>,
        token: Token,
        join: &JoinGroup,
        now: Now,
        effects: &mut Effects,
    ) {
        let superseded = self.rebalancing();
        let member = self.members.get_mut(id).expect("it was found just now");
        member.update(join);
        match member.joining.replace(token) {
            Some(old) => effects.refuse_join(old, id, superseded),
            None => self.joining += 1,
        }
        self.heard_of(id, now);
    }

    /// A static member is back under another id (KIP-345). Whether its return leaves the others
    /// alone: the group is stable and it wants what it wanted before.
    fn replace_static(
        &mut self,
        old: &Rc<str>,
        id: &Rc<str>,
        join: &JoinGroup,
        assign: &dyn Assign,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let instance_id = join.instance_id.clone().unwrap_or_default();
        let fenced = self.fenced(&instance_id);
        let mut member = self.members.remove(old).expect("instances are members");
        if let Some(waiting) = member.joining.take() {
            self.joining -= 1;
            effects.refuse_join(waiting, old, fenced.clone());
        }
        if let Some(waiting) = member.syncing.take() {
            effects.refuse(waiting, fenced);
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(Rc::clone(id));
        }
        let wanted = assign.topics(&member.metadata(&self.protocol));
        member.id = Rc::clone(id);
        member.update(join);
        member.looked_at = Instant(u64::MAX);
        let wants_the_same = wanted == assign.topics(&member.metadata(&self.protocol));
        self.instances.insert(instance_id, Rc::clone(id));
        self.members.insert(Rc::clone(id), member);
        self.keep_waiting(id, now);
        matches!(self.phase, Phase::Stable)
            && wants_the_same
            && self.choose_protocol() == self.protocol
    }

    /// The answer to a static member that came back without a rebalance. A leader that cannot skip
    /// its assignment is told its old id, so that it takes itself for a follower.
    fn answer_static(
        &self,
        token: Token,
        old: &Rc<str>,
        id: &Rc<str>,
        join: &JoinGroup,
        effects: &mut Effects,
    ) {
        effects.group_changed = true;
        let mut joined = self.joined(id);
        if self.leader.as_ref() == Some(id) && !self.assigns_here() {
            if join.can_skip_assignment {
                joined.skip_assignment = true;
            } else {
                joined.leader = old.to_string();
                joined.members.clear();
            }
        }
        effects.join(token, id, joined);
    }

    /// Begins a rebalance, unless one is gathering members already.
    pub(super) fn prepare_if_settled(
        &mut self,
        initial_delay_ms: u32,
        now: Now,
        effects: &mut Effects,
    ) {
        let until = now.instant.plus(self.rebalance_timeout());
        self.phase = match self.phase {
            Phase::Preparing { .. } => return,
            Phase::Empty { .. } => {
                let step = millis(initial_delay_ms);
                let initial = InitialDelay {
                    step,
                    last: until,
                    somebody_came: false,
                };
                Phase::Preparing {
                    until: now.instant.plus(step).min(until),
                    initial: (!step.is_zero()).then_some(initial),
                }
            }
            Phase::Completing { .. } | Phase::Stable => {
                self.refuse_syncs(effects);
                Phase::Preparing {
                    until,
                    initial: None,
                }
            }
        };
    }

    /// Sync requests that wait for an assignment wait in vain.
    fn refuse_syncs(&mut self, effects: &mut Effects) {
        let error = self.rebalancing();
        for member in self.members.values_mut() {
            if let Some(token) = member.syncing.take() {
                effects.refuse(token, error.clone());
            }
        }
    }

    /// As long as the slowest member asks for.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// The rebalance goes on when every member has joined and nobody who was given an id is still to
    /// come.
    pub(super) fn end_joining_if_all_have(
        &mut self,
        assign: &dyn Assign,
        now: Now,
        effects: &mut Effects,
    ) {
        let Phase::Preparing { initial: None, .. } = self.phase else {
            return;
        };
        if self.joining == self.members.len() && self.pending.is_empty() {
            self.end_joining(assign, now, effects);
        }
    }

    /// The time for joining is over.
    pub(super) fn joining_timed_out(
        &mut self,
        assign: &dyn Assign,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Phase::Preparing { until, initial } = &mut self.phase
            && let Some(delay) = initial
        {
            if delay.somebody_came && *until < delay.last {
                delay.somebody_came = false;
                *until = until.plus(delay.step).min(delay.last);
                return;
            }
            *initial = None;
        }
        self.end_joining(assign, now, effects);
    }

    /// All have joined who will: the next generation begins.
    fn end_joining(&mut self, assign: &dyn Assign, now: Now, effects: &mut Effects) {
        let absent: Vec<Rc<str>> = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| Rc::clone(&member.id))
            .collect();
        absent.iter().for_each(|id| self.forget_member(id));
        if !self.members.is_empty() && self.joining == 0 {
            // Only static members that have not come back: their sessions decide.
            let until = now.instant.plus(self.rebalance_timeout());
            self.phase = Phase::Preparing {
                until,
                initial: None,
            };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        effects.group_changed = true;
        if self.members.is_empty() {
            self.leader = None;
            self.protocol.clear();
            self.phase = Phase::Empty {
                since_ms: now.wall_ms,
            };
            return;
        }
        self.protocol = self.choose_protocol();
        self.elect();
        for member in self.members.values_mut() {
            member.synced = false;
        }
        if let Some(protocol) = self.own_protocol() {
            self.assign_here(protocol, assign);
            self.phase = Phase::Stable;
        } else {
            // Written down when the assignment is there; a restart before that begins a new round.
            effects.group_changed = false;
            let until = now.instant.plus(self.rebalance_timeout());
            self.phase = Phase::Completing { until };
        }
        self.answer_all_joined(now, effects);
    }

    fn assign_here(&mut self, protocol: Protocol, assign: &dyn Assign) {
        for (id, assignment) in assign.assign(protocol, &self.joined_members()) {
            if let Some(member) = self.members.get_mut(id.as_str()) {
                member.assignment = assignment;
            }
        }
    }

    /// The protocol that all members know and most prefer; of two that as many prefer, the one that
    /// the oldest member would rather have.
    pub(super) fn choose_protocol(&self) -> String {
        let members = self.in_order();
        let Some(first) = members.first() else {
            return String::new();
        };
        let common: Vec<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| members.iter().all(|member| member.supports(name)))
            .collect();
        let votes = |name: &str| {
            let preferred = members.iter().filter(|member| {
                let mut known = member.protocols.iter();
                known
                    .find(|(own, _)| common.contains(&own.as_str()))
                    .is_some_and(|(own, _)| own == name)
            });
            preferred.count()
        };
        let mut best: Option<(&str, usize)> = None;
        for name in &common {
            let count = votes(name);
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    /// The leader stays while it has joined. Where the coordinator can assign for somebody, that one
    /// leads: all others only follow then, whatever their clients can do.
    fn elect(&mut self) {
        let is_known = Protocol::from_name(&self.protocol).is_some();
        let members = self.in_order();
        let joined = || members.iter().filter(|member| member.joining.is_some());
        let is_leader = |member: &&&Member| self.leader.as_ref() == Some(&member.id);
        let assigned_here =
            |member: &&&Member| is_known && member.assignor == Assignor::Coordinator;
        let leader = joined()
            .filter(assigned_here)
            .find(is_leader)
            .or_else(|| joined().find(assigned_here))
            .or_else(|| joined().find(is_leader))
            .or_else(|| joined().next());
        self.leader = leader.map(|member| Rc::clone(&member.id));
    }

    fn answer_all_joined(&mut self, now: Now, effects: &mut Effects) {
        let joined: Vec<(Rc<str>, Token)> = self
            .in_order()
            .iter()
            .filter_map(|member| Some((Rc::clone(&member.id), member.joining?)))
            .collect();
        self.joining = 0;
        for (id, token) in joined {
            let member = self.members.get_mut(&id).expect("it was listed");
            member.joining = None;
            member.is_new = false;
            self.heard_of(&id, now);
            self.answer_joined(token, &id, effects);
        }
    }

    fn answer_joined(&self, token: Token, id: &Rc<str>, effects: &mut Effects) {
        effects.join(token, id, self.joined(id));
    }

    /// The group as one of its members is told.
    fn joined(&self, id: &Rc<str>) -> JoinedGroup {
        let assigns_here = self.assigns_here();
        let must_assign = self.leader.as_ref() == Some(id) && !assigns_here;
        JoinedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: assigns_here && self.members[id].can_skip_assignment,
            members: match must_assign {
                true => self.joined_members(),
                false => Vec::new(),
            },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.in_order();
        let joined = members.iter().map(|member| member.joined(&self.protocol));
        joined.collect()
    }
}
