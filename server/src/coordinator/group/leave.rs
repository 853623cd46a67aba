//! Leaving, of one's own will or not.

use std::rc::Rc;

use millrace_wire::error::WireError;

use super::{Assign, Effects, Group, Now, Phase, Token};
use crate::coordinator::api::{GroupAnswer, LeavingMember};

impl Group {
    /// Takes a request to leave.
    pub fn leave(
        &mut self,
        token: Token,
        leaving: &[LeavingMember],
        assign: &dyn Assign,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        let outcomes = leaving
            .iter()
            .map(|member| self.leave_one(member, now, &mut effects))
            .collect();
        effects.answer(token, GroupAnswer::Leave(outcomes));
        self.end_joining_if_all_have(assign, now, &mut effects);
        effects
    }

    fn leave_one(
        &mut self,
        leaving: &LeavingMember,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), WireError> {
        let LeavingMember {
            member_id,
            instance_id,
        } = leaving;
        let id = match instance_id {
            // An operator may name only what lasts (KIP-345).
            Some(instance_id) if member_id.is_empty() => match self.instances.get(instance_id) {
                Some(id) => Rc::clone(id),
                None => return Err(self.unknown_member(instance_id)),
            },
            _ if self.pending.remove(member_id.as_str()) => return Ok(()),
            _ => self.find_member(member_id, instance_id.as_deref())?,
        };
        self.remove_member(&id, now, effects);
        Ok(())
    }

    /// A member is gone, and the others share what it had.
    pub(super) fn remove_member(&mut self, id: &Rc<str>, now: Now, effects: &mut Effects) {
        if let Some(member) = self.members.get(id) {
            let unknown = self.unknown_member(id);
            let (joining, syncing) = (member.joining, member.syncing);
            if let Some(token) = joining {
                effects.refuse_join(token, id, unknown.clone());
            }
            if let Some(token) = syncing {
                effects.refuse(token, unknown);
            }
        }
        self.forget_member(id);
        if matches!(self.phase, Phase::Stable | Phase::Completing { .. }) {
            self.prepare_if_settled(0, now, effects);
        }
    }

    /// Takes a member off the books. What it waits for was answered, or is not waiting.
    pub(super) fn forget_member(&mut self, id: &Rc<str>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if member.joining.is_some() {
            self.joining -= 1;
        }
        if let Some(instance_id) = member.instance_id
            && self.instances.get(&instance_id) == Some(id)
        {
            self.instances.remove(&instance_id);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = None;
        }
    }
}
