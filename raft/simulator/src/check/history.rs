//! What has happened in the whole group since the beginning.

use std::collections::BTreeMap;

use raft::{Configuration, Index, ReplicaId, Term};
use smallvec::SmallVec;

use super::{Broken, Rule, hold};
use crate::log::{Base, Entry, Log};

/// Everything that was ever in a log, led, voted for, committed and acknowledged.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct History {
    /// By index, from 1: the chain of each term that an entry there ever had.
    seen: Vec<SmallVec<[(Term, u64); 2]>>,
    /// By index, from 1.
    committed: Vec<Base>,
    /// Up to where leaders of a term have committed.
    commits: BTreeMap<Term, Index>,
    leaders: BTreeMap<Term, ReplicaId>,
    /// The latest vote of each replica.
    votes: BTreeMap<ReplicaId, (Term, ReplicaId)>,
    /// Who has voted for whom, by term and candidate: what has left, whether it arrived or not.
    ballots: BTreeMap<(Term, ReplicaId), SmallVec<[ReplicaId; 4]>>,
    /// Visible at some leader.
    visible: Index,
    /// Acknowledged to a client that waits for visibility, or read by one: later reads see it.
    fresh: Index,
    acknowledged: u64,
    reads: u64,
}

/// A majority of the voters, and of the outgoing ones while there are any: counted here once more, for
/// the core's own count is what is to be checked.
pub(crate) fn is_quorum(configuration: &Configuration, has: impl Fn(ReplicaId) -> bool) -> bool {
    let (voters, outgoing, _) = configuration.parts();
    let majority = |set: &Vec<ReplicaId>| {
        let having = set.iter().filter(|voter| has(**voter)).count();
        2 * having > set.len()
    };
    majority(&voters) && outgoing.as_ref().is_none_or(majority)
}

/// Where the durable log of a replica is to be found, if it ever had one.
pub(crate) trait Holder {
    /// Calls for each copy that the replica has or had: of one that lost its disk, what was on it.
    fn holds(&self, replica: ReplicaId, index: Index, chain: u64) -> bool;
}

impl History {
    /// An entry was appended to some log.
    pub(crate) fn appended(&mut self, index: Index, entry: &Entry) -> Result<(), Broken> {
        let place = index.0 as usize - 1;
        while self.seen.len() <= place {
            self.seen.push(SmallVec::new());
        }
        let chains = &mut self.seen[place];
        match chains.iter().find(|(term, _)| *term == entry.term) {
            Some((_, chain)) => hold(Rule::LogsMatch, *chain == entry.chain, || {
                format!(
                    "two logs have an entry {index}@{} and differ up to it",
                    entry.term
                )
            }),
            None => {
                chains.push((entry.term, entry.chain));
                Ok(())
            }
        }
    }

    /// What is committed at an index; of 0, what is before the first entry.
    pub(crate) fn committed_at(&self, index: Index) -> Option<Base> {
        match index.0 {
            0 => Some(Base::default()),
            index => self.committed.get(index as usize - 1).copied(),
        }
    }

    /// Up to where anything was committed.
    pub(crate) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    pub(crate) fn visible(&self) -> Index {
        self.visible
    }

    pub(crate) fn fresh(&self) -> Index {
        self.fresh
    }

    pub(crate) fn leader_of(&self, term: Term) -> Option<ReplicaId> {
        self.leaders.get(&term).copied()
    }

    /// A replica is elected in the membership that it has in force. Learners have no vote, and while
    /// there are two sets of voters, it needs both; its own vote is on its disk.
    pub(crate) fn check_votes(
        &self,
        replica: ReplicaId,
        term: Term,
        own_is_written: bool,
        configuration: &Configuration,
    ) -> Result<(), Broken> {
        let votes = self.ballots.get(&(term, replica));
        let others: &[ReplicaId] = votes.map_or(&[], |votes| votes.as_slice());
        let has = |voter| match voter == replica {
            true => own_is_written,
            false => others.contains(&voter),
        };
        hold(Rule::ElectedByQuorum, is_quorum(configuration, has), || {
            format!(
                "{replica} is elected in {term} by {others:?} (its own vote is written: {own_is_written}); it is in {configuration}"
            )
        })
    }

    /// A replica was elected.
    pub(crate) fn elected(
        &mut self,
        replica: ReplicaId,
        term: Term,
        log: &Log,
    ) -> Result<(), Broken> {
        let leader = *self.leaders.entry(term).or_insert(replica);
        hold(Rule::OneLeaderPerTerm, leader == replica, || {
            format!("{leader} and {replica} were elected in {term}")
        })?;
        let before = self.commits.range(..term).map(|(_, index)| *index).max();
        let index = before.unwrap_or_default();
        let committed = self.committed_at(index);
        let complete = log.at(index) == committed;
        hold(Rule::LeaderIsComplete, complete, || {
            let has = log.at(index);
            format!(
                "{replica} leads in {term}; at {index}, {committed:?} was committed, it has {has:?}"
            )
        })
    }

    /// A replica gives its vote: the message leaves.
    pub(crate) fn voted(
        &mut self,
        voter: ReplicaId,
        term: Term,
        to: ReplicaId,
    ) -> Result<(), Broken> {
        let vote = self.votes.entry(voter).or_insert((term, to));
        let sound = term > vote.0 || *vote == (term, to);
        hold(Rule::OneVotePerTerm, sound, || {
            format!(
                "{voter} votes for {to} in {term}, and voted for {} in {}",
                vote.1, vote.0
            )
        })?;
        *vote = (term, to);
        let ballots = self.ballots.entry((term, to)).or_default();
        if !ballots.contains(&voter) {
            ballots.push(voter);
        }
        Ok(())
    }

    /// What a replica that has just recovered must not have forgotten.
    pub(crate) fn recovered(
        &self,
        replica: ReplicaId,
        term: Term,
        vote: Option<ReplicaId>,
    ) -> Result<(), Broken> {
        let Some((voted, to)) = self.votes.get(&replica) else {
            return Ok(());
        };
        let kept = term > *voted || (term == *voted && vote == Some(*to));
        hold(Rule::PromiseKept, kept, || {
            format!("{replica} voted for {to} in {voted} and recovers in {term} with {vote:?}")
        })
    }

    /// A leader says that everything up to here is committed.
    pub(crate) fn leader_commits(
        &mut self,
        leader: (ReplicaId, Term),
        index: Index,
        log: &Log,
        configuration: &Configuration,
        holder: &dyn Holder,
    ) -> Result<(), Broken> {
        let (replica, term) = leader;
        self.agrees(replica, index.min(self.committed()), log)?;
        if index <= self.committed() {
            return Ok(());
        }
        let entry = log.at(index);
        hold(
            Rule::CommitIsOwnTerm,
            entry.is_some_and(|entry| entry.term == term),
            || format!("{replica}, leader of {term}, commits {index}, which is {entry:?}"),
        )?;
        let chain = entry.unwrap_or_default().chain;
        let durable = is_quorum(configuration, |voter| holder.holds(voter, index, chain));
        hold(Rule::CommitIsDurable, durable, || {
            let members = configuration.members();
            let having = members
                .into_iter()
                .filter(|voter| holder.holds(*voter, index, chain));
            let having: Vec<String> = having.map(|voter| voter.to_string()).collect();
            format!(
                "{replica} commits {index}@{term} in {configuration}; it is durable at {having:?}"
            )
        })?;
        while self.committed() < index {
            let next = self.committed().next();
            let base = log.at(next);
            hold(Rule::LeaderIsComplete, base.is_some(), || {
                format!("{replica} commits {index} without having {next}")
            })?;
            self.committed.push(base.unwrap_or_default());
        }
        self.commits.insert(term, index);
        Ok(())
    }

    /// A replica says that everything up to here is committed, as it was told.
    pub(crate) fn follower_commits(
        &self,
        replica: ReplicaId,
        index: Index,
        log: &Log,
    ) -> Result<(), Broken> {
        hold(Rule::CommitIsDurable, index <= self.committed(), || {
            format!(
                "{replica} takes {index} for committed; no leader has committed beyond {}",
                self.committed()
            )
        })?;
        self.agrees(replica, index, log)
    }

    fn agrees(&self, replica: ReplicaId, index: Index, log: &Log) -> Result<(), Broken> {
        let has = log.at(index);
        let committed = self.committed_at(index);
        let same = has == committed || (has.is_none() && index < log.start());
        hold(Rule::CommittedStays, same, || {
            format!("{replica} takes {index}, {has:?}, for committed; it is {committed:?}")
        })
    }

    /// Something is visible at a leader.
    pub(crate) fn shown(&mut self, index: Index) {
        self.visible = self.visible.max(index);
    }

    /// Entries after `last` are cut from a log.
    pub(crate) fn cut(&self, replica: ReplicaId, last: Index, log: &Log) -> Result<(), Broken> {
        let first = last.next();
        let committed = self.committed_at(first);
        let has = log.at(first);
        hold(
            Rule::CommittedStays,
            committed.is_none() || has != committed,
            || format!("{replica} cuts {first}, which is committed: {committed:?}"),
        )
    }

    /// A client is told that its entry, the last of them at this index, is visible.
    pub(crate) fn acknowledged(&mut self, index: Index, chain: u64) -> Result<(), Broken> {
        let committed = self.committed_at(index);
        let there = committed.is_some_and(|base| base.chain == chain);
        hold(Rule::AcknowledgedIsThere, there, || {
            format!("{index} was acknowledged; what is committed there is {committed:?}")
        })?;
        self.fresh = self.fresh.max(index);
        self.acknowledged += 1;
        Ok(())
    }

    /// A read that began when `fresh` was so, is answered by what is at `index`.
    pub(crate) fn read(&mut self, fresh: Index, index: Index, shown: Index) -> Result<(), Broken> {
        hold(Rule::ReadsAreFresh, index >= fresh, || {
            format!("a read is answered from {index}; {fresh} had been acknowledged when it began")
        })?;
        if shown >= index {
            self.fresh = self.fresh.max(index);
        }
        self.reads += 1;
        Ok(())
    }
}
