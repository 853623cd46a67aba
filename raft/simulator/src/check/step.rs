//! One replica after each step: its numbers, against those before and against its real log.

use raft::{Condition, Group, Index, Role, Term};

use super::{Broken, Rule, hold};
use crate::disk::Image;
use crate::log::Log;

/// What a replica showed after the step before.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Seen {
    commit: Index,
    visible: Index,
    term: Term,
}

impl Seen {
    pub(crate) fn of(group: &Group) -> Seen {
        Seen {
            commit: group.commit(),
            visible: group.visible(),
            term: group.term(),
        }
    }

    pub(crate) fn visible(&self) -> Index {
        self.visible
    }
}

/// Compares; returns what it shows now.
pub(crate) fn check_step(
    group: &Group,
    before: Seen,
    log: &Log,
    image: &Image,
) -> Result<Seen, Broken> {
    let seen = Seen::of(group);
    let grown = seen.commit >= before.commit
        && seen.visible >= before.visible
        && seen.term >= before.term;
    hold(Rule::WatermarksGrow, grown, || format!("{}: {before:?}, then {seen:?}", group.id()))?;
    let (last, start) = (group.last(), group.log_start());
    hold(Rule::OutlineIsLog, last == log.last() && start == log.start(), || {
        let id = group.id();
        format!("{id} says {start} to {last}, its log is {} to {}", log.start(), log.last())
    })?;
    let durable = group.durable();
    let in_order = seen.visible <= seen.commit
        && seen.commit <= last.index
        && durable <= last.index
        && start <= seen.visible.next();
    hold(Rule::WatermarksInOrder, in_order, || {
        format!("{}: {seen:?}, durable {durable}, log {start} to {last}", group.id())
    })?;
    // What retention has dropped was durable elsewhere, and counts for nothing any more.
    let written = match (log.at(durable), image.log.at(durable)) {
        (Some(says), Some(has)) => says.chain == has.chain,
        (Some(_), None) => durable < start || durable < image.log.start(),
        (None, _) => true,
    };
    hold(Rule::WatermarksInOrder, written, || {
        format!("{} takes {durable} for durable; its disk has {}", group.id(), image.log.last())
    })?;
    let passive = group.condition() == Condition::Sound || group.role() == Role::Follower;
    hold(Rule::DamagedIsPassive, passive, || {
        format!("{} is damaged and a {:?}", group.id(), group.role())
    })?;
    Ok(seen)
}
