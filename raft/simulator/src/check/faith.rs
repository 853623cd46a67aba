//! Votes against leases: a leader that relies on its lease takes it for granted that whoever has just
//! answered it votes for nobody else for a while, a restart in between or not.

use std::time::Duration;

use raft::{Reads, ReplicaId, Settings, Term};
use simulation::Time;

use super::{Broken, Rule, hold};

/// What a replica owes the leader that it has heard, over all its runs. In the world's time, which
/// none of the clocks shows.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Faith {
    heard: Option<Time>,
    /// The latest vote: giving it once more is no new one.
    given: Option<(Term, ReplicaId)>,
}

impl Faith {
    /// A leader was heard, and followed.
    pub(crate) fn heard(&mut self, now: Time) {
        self.heard = Some(now);
    }

    /// Its process starts, and recovers this term. Without leases it owes nothing from before; nor if
    /// not even the term had become durable, for then it cannot have answered.
    pub(crate) fn restarted(&mut self, term: Term, settings: &Settings) {
        if settings.reads == Reads::Quorum || term == Term(0) {
            self.heard = None;
        }
    }

    /// It votes, and not because a leader itself has asked for the election.
    pub(crate) fn check_vote(
        &mut self,
        voter: ReplicaId,
        vote: (Term, ReplicaId),
        now: Time,
        patience: Duration,
    ) -> Result<(), Broken> {
        if self.given.replace(vote) == Some(vote) {
            return Ok(());
        }
        let since = self.heard.map(|heard| now.since(heard));
        hold(
            Rule::FaithfulToLeader,
            since.is_none_or(|since| since >= patience),
            || {
                let (term, to) = vote;
                format!("{voter} votes for {to} in {term}, and heard a leader {since:?} ago")
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_vote_soon_after_a_leader_was_heard_is_seen() {
        let (voter, first, second) = (ReplicaId::default(), Term(3), Term(4));
        let mut faith = Faith::default();
        let vote = |faith: &mut Faith, term, now| {
            faith
                .check_vote(voter, (term, voter), at(now), PATIENCE)
                .is_ok()
        };
        assert!(vote(&mut faith, first, 5), "nobody was heard");
        faith.heard(at(10));
        assert!(vote(&mut faith, first, 20), "the same vote again");
        assert!(!vote(&mut faith, second, 109));
        assert!(vote(&mut faith, Term(5), 110));
    }

    #[test]
    fn a_restart_ends_it_only_without_leases() {
        let with = |reads| Settings {
            reads,
            ..Settings::default()
        };
        let lease = with(Reads::Lease { drift_ppm: 0 });
        let mut faith = Faith::default();
        faith.heard(at(10));
        faith.restarted(Term(1), &lease);
        assert_eq!(faith.heard, Some(at(10)));
        faith.restarted(Term(1), &with(Reads::Quorum));
        assert_eq!(faith.heard, None);
        faith.heard(at(10));
        faith.restarted(Term(0), &lease);
        assert_eq!(faith.heard, None, "its answer has not left");
    }
}
