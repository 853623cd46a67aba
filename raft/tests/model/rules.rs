//! What must hold, and what has happened in the whole group so far as the rules need to know it.
//!
//! The rules are the simulator's ([`raft_simulator::Rule`]), so that both speak of the same things.
//! Those of a single replica are judged in `node`, where it acts; those of the group here.

use raft::{Index, ReplicaId, Role, Term};
use raft_simulator::Rule;

use crate::log::{Entry, Log};
use crate::node::Node;

/// What a state shows to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Breach {
    /// A rule does not hold.
    Rule(Rule),
    /// The core stopped itself: one of its assertions failed.
    Assertion,
}

/// Fails with the rule unless it holds.
pub(crate) fn hold(rule: Rule, holds: bool) -> Result<(), Breach> {
    if holds {
        Ok(())
    } else {
        Err(Breach::Rule(rule))
    }
}

/// What a replica did in a step that concerns the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It was elected.
    Elected(Term),
    /// As the leader of this term it says that everything up to here is committed.
    LeaderCommits(Term, Index),
    /// It was told so.
    FollowerCommits(Index),
}

/// A committed entry, and in which leader's term it first was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committed {
    pub(crate) entry: Entry,
    pub(crate) by: Term,
}

/// Who led, and what was committed. It only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    pub(crate) leaders: Vec<(Term, ReplicaId)>,
    /// By index, from 1.
    pub(crate) committed: Vec<Committed>,
}

impl History {
    pub(crate) fn leader_of(&self, term: Term) -> Option<ReplicaId> {
        let known = self.leaders.iter().find(|(of, _)| *of == term);
        known.map(|(_, leader)| *leader)
    }

    /// A replica did this; `log` is its own, `nodes` are all as they are after it.
    pub(crate) fn note(
        &mut self,
        who: ReplicaId,
        deed: Deed,
        log: &Log,
        nodes: [&Node; 3],
    ) -> Result<(), Breach> {
        match deed {
            Deed::Elected(term) => self.elected(who, term, log),
            Deed::LeaderCommits(term, index) => self.leader_commits(term, index, log, nodes),
            Deed::FollowerCommits(index) => {
                let known = index.0 as usize <= self.committed.len();
                hold(Rule::CommitIsDurable, known)?;
                self.agrees(log, index)
            }
        }
    }

    fn elected(&mut self, who: ReplicaId, term: Term, log: &Log) -> Result<(), Breach> {
        match self.leader_of(term) {
            Some(leader) => hold(Rule::OneLeaderPerTerm, leader == who)?,
            None => self.leaders.push((term, who)),
        }
        self.leaders.sort_unstable();
        let earlier = self.committed.iter().filter(|it| it.by < term).count();
        let complete = log.prefix(Index(earlier as u64)).is_some_and(|has| {
            let pairs = has.iter().zip(&self.committed);
            pairs.into_iter().all(|(has, it)| *has == it.entry)
        });
        hold(Rule::LeaderIsComplete, complete)
    }

    fn leader_commits(
        &mut self,
        term: Term,
        index: Index,
        log: &Log,
        nodes: [&Node; 3],
    ) -> Result<(), Breach> {
        let known = self.committed.len();
        self.agrees(log, Index(index.0.min(known as u64)))?;
        let Some(new) = log.prefix(index) else {
            return Err(Breach::Rule(Rule::WatermarksInOrder));
        };
        if new.len() <= known {
            return Ok(());
        }
        let own = new.last().is_some_and(|entry| entry.term == term);
        hold(Rule::CommitIsOwnTerm, own)?;
        let holders = nodes.iter().filter(|node| node.disk().holds(new)).count();
        hold(Rule::CommitIsDurable, holders >= 2)?;
        let added = new[known..].iter();
        self.committed.extend(added.map(|entry| Committed {
            entry: *entry,
            by: term,
        }));
        Ok(())
    }

    fn agrees(&self, log: &Log, index: Index) -> Result<(), Breach> {
        let same = log.prefix(index).is_some_and(|has| {
            let mut pairs = has.iter().zip(&self.committed);
            pairs.all(|(has, it)| *has == it.entry)
        });
        hold(Rule::CommittedStays, same)
    }

    /// What holds in every state, whatever was done last; `changed` is who did it.
    pub(crate) fn check(&self, changed: usize, nodes: [&Node; 3]) -> Result<(), Breach> {
        let node = nodes[changed];
        for other in nodes {
            for theirs in [other.log(), &other.disk().log] {
                hold(Rule::LogsMatch, node.log().matches(theirs))?;
                hold(Rule::LogsMatch, node.disk().log.matches(theirs))?;
            }
        }
        // Once committed, always durable at a majority: by whomever it is cut, it would be too much.
        let held = |node: &&Node| {
            let has = node.disk().log.entries();
            let mut pairs = has.iter().zip(&self.committed);
            has.len() >= self.committed.len() && pairs.all(|(has, it)| *has == it.entry)
        };
        let holders = nodes.iter().filter(|node| held(node)).count();
        hold(Rule::CommittedStays, holders >= 2)?;
        let leads = |node: &&Node| matches!(node.group().role(), Role::Elected | Role::Leader);
        let terms = nodes.iter().filter(|node| leads(node));
        let mut terms: Vec<Term> = terms.map(|node| node.group().term()).collect();
        let leaders = terms.len();
        terms.sort_unstable();
        terms.dedup();
        hold(Rule::OneLeaderPerTerm, terms.len() == leaders)
    }
}
