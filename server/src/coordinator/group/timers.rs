//! What a group does when time passes. A heartbeat only moves its member's deadline: the timers look
//! at a member when its deadline was last known to end, see that it has moved, and look again then.
//! So a heartbeat costs the same in a group of ten thousand.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use millrace_shard::env::Instant;

use super::{Assign, Effects, Group, Now, Phase};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A member's session.
    Member(Rc<str>),
    /// An id that was given out.
    Pending(Rc<str>),
}

/// When what is looked at.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Timer)>>);

impl Timers {
    pub(super) fn add(&mut self, at: Instant, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }
}

impl Group {
    /// When [`Group::expire`] is to be called, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Preparing { until, .. } | Phase::Completing { until } => Some(until),
            Phase::Empty { .. } | Phase::Stable => None,
        };
        [phase, self.timers.next()].into_iter().flatten().min()
    }

    /// Something was heard of a member: its session begins anew.
    pub(super) fn heard_of(&mut self, id: &Rc<str>, now: Now) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        if !member.is_new {
            self.expire_at(id, now.instant.plus(member.session_timeout));
        }
    }

    pub(super) fn expire_at(&mut self, id: &Rc<str>, deadline: Instant) {
        let member = self.members.get_mut(id).expect("only members expire");
        member.deadline = deadline;
        if deadline < member.looked_at {
            member.looked_at = deadline;
            self.timers.add(deadline, Timer::Member(Rc::clone(id)));
        }
    }

    /// Acts on whatever is over by now.
    pub fn expire(&mut self, assign: &dyn Assign, now: Now) -> Effects {
        let mut effects = Effects::default();
        while let Some((at, timer)) = self.timers.pop_due(now.instant) {
            match timer {
                Timer::Pending(id) => {
                    self.pending.remove(&id);
                }
                Timer::Member(id) => self.look_at(&id, at, now, &mut effects),
            }
        }
        match self.phase {
            Phase::Preparing { until, .. } if until <= now.instant => {
                self.joining_timed_out(assign, now, &mut effects);
            }
            Phase::Completing { until } if until <= now.instant => {
                self.syncing_timed_out(now, &mut effects);
            }
            _ => {}
        }
        self.end_joining_if_all_have(assign, now, &mut effects);
        effects
    }

    fn look_at(&mut self, id: &Rc<str>, at: Instant, now: Now, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.looked_at != at {
            return;
        }
        member.looked_at = Instant(u64::MAX);
        // Whoever waits for the group is not late; the group is.
        let waits = member.joining.is_some() || member.syncing.is_some();
        if waits && !member.is_new {
            let session = member.session_timeout;
            self.expire_at(id, now.instant.plus(session));
        } else if member.deadline > now.instant {
            let deadline = member.deadline;
            self.expire_at(id, deadline);
        } else {
            tracing::info!(group = %self.name, member = %id, "a member was not heard of in time and is out of its group");
            self.remove_member(id, now, effects);
        }
    }

    /// Who has not asked for its assignment is out, and the others begin again.
    fn syncing_timed_out(&mut self, now: Now, effects: &mut Effects) {
        let absent: Vec<Rc<str>> = self
            .in_order()
            .iter()
            .filter(|member| !member.synced)
            .map(|member| Rc::clone(&member.id))
            .collect();
        absent.iter().for_each(|id| self.forget_member(id));
        self.prepare_if_settled(0, now, effects);
    }
}
