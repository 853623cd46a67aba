//! Handing out the assignment, and staying in touch.

use std::rc::Rc;

use bytes::Bytes;
use hashbrown::HashMap;
use millrace_wire::error::WireError;

use super::{Assign, Effects, Group, Now, Phase, Token};
use crate::coordinator::api::{GroupAnswer, MemberIdentity, SyncGroup, Synced};

impl Group {
    /// Takes a sync request.
    pub fn sync(&mut self, token: Token, sync: SyncGroup, now: Now) -> Effects {
        let mut effects = Effects::default();
        if let Err(error) = self.take_sync(token, sync, now, &mut effects) {
            effects.refuse(token, error);
        }
        effects
    }

    fn take_sync(
        &mut self,
        token: Token,
        sync: SyncGroup,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), WireError> {
        let id = self.check_member(&sync.member)?;
        self.check_protocol(&sync)?;
        match self.phase {
            Phase::Empty { .. } => return Err(self.unknown_member(&id)),
            Phase::Preparing { .. } => return Err(self.rebalancing()),
            Phase::Completing { .. } => {
                let superseded = self.rebalancing();
                let member = self.members.get_mut(&id).expect("it was found just now");
                member.synced = true;
                if let Some(old) = member.syncing.replace(token) {
                    effects.refuse(old, superseded);
                }
                if self.leader.as_ref() == Some(&id) {
                    self.assignment_came(sync.assignments, now, effects);
                }
            }
            Phase::Stable => {
                let member = self.members.get_mut(&id).expect("it was found just now");
                member.synced = true;
                let synced = self.synced(&id);
                effects.answer(token, GroupAnswer::Sync(synced));
            }
        }
        self.heard_of(&id, now);
        Ok(())
    }

    fn check_protocol(&self, sync: &SyncGroup) -> Result<(), WireError> {
        let differs = |told: &Option<String>, own: &str| told.as_deref().is_some_and(|t| t != own);
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(self.inconsistent(&format!(
                "it is of type '{}' and uses the protocol '{}'",
                self.protocol_type, self.protocol
            )));
        }
        Ok(())
    }

    /// The leader has shared the partitions out. Who is not in its list gets nothing.
    fn assignment_came(
        &mut self,
        assignments: Vec<(String, Bytes)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut assignments: HashMap<String, Bytes> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&*member.id).unwrap_or_default();
        }
        self.phase = Phase::Stable;
        effects.group_changed = true;
        let waiting: Vec<(Rc<str>, Token)> = self
            .members
            .values_mut()
            .filter_map(|member| Some((Rc::clone(&member.id), member.syncing.take()?)))
            .collect();
        for (id, token) in waiting {
            let synced = self.synced(&id);
            effects.answer(token, GroupAnswer::Sync(synced));
            self.heard_of(&id, now);
        }
    }

    fn synced(&self, id: &Rc<str>) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[id].assignment.clone(),
        }
    }

    /// Takes a heartbeat. A member that is late for a rebalance is told so.
    pub fn heartbeat(&mut self, token: Token, member: &MemberIdentity, now: Now) -> Effects {
        let mut effects = Effects::default();
        match self.take_heartbeat(member, now) {
            Ok(()) => effects.answer(token, GroupAnswer::Heartbeat),
            Err(error) => effects.refuse(token, error),
        }
        effects
    }

    fn take_heartbeat(&mut self, member: &MemberIdentity, now: Now) -> Result<(), WireError> {
        let id = self.check_member(member)?;
        self.heard_of(&id, now);
        match self.phase {
            Phase::Empty { .. } => Err(self.unknown_member(&id)),
            Phase::Preparing { .. } => Err(self.rebalancing()),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Topics have changed: where the coordinator assigns, and a member is subscribed to one of them,
    /// the partitions are shared out anew. Other leaders look for themselves.
    pub fn topics_changed(
        &mut self,
        changed: &dyn Fn(&str) -> bool,
        assign: &dyn Assign,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        let concerned = matches!(self.phase, Phase::Stable)
            && self.assigns_here()
            && self
                .subscribed(assign)
                .iter()
                .any(|topic| changed(topic.as_str()));
        if concerned {
            self.prepare_if_settled(0, now, &mut effects);
        }
        effects
    }
}
