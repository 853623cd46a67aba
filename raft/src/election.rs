//! Elections: first a question that costs nothing (pre-vote, thesis, section 9.6), then the vote
//! (Raft paper, section 5.2).

use std::collections::BTreeSet;

use crate::configuration::Configuration;
use crate::group::{Group, Part, Turn};
use crate::input::Role;
use crate::message::Body;
use crate::planted::{self, Bug};
use crate::types::{Position, ReplicaId, Term, Time};

/// A candidate's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Canvass {
    kind: Kind,
    /// Who is for it; itself as soon as its own vote is durable.
    granted: BTreeSet<ReplicaId>,
    /// When it gives up and asks again.
    pub(crate) again_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Question,
    Vote,
}

impl Canvass {
    pub(crate) fn role(&self) -> Role {
        match self.kind {
            Kind::Question => Role::PreCandidate,
            Kind::Vote => Role::Candidate,
        }
    }
}

impl Group {
    /// Whether it has heard a leader so lately that it wants no other.
    pub(crate) fn is_faithful(&self, now: Time) -> bool {
        match &self.part {
            _ if planted::is(Bug::Faithless) => false,
            Part::Leader(_) => true,
            Part::Follower(follower) if follower.is_quiet() && follower.leader().is_some() => true,
            _ => self
                .heard
                .is_some_and(|heard| now.since(heard) < self.settings.election_timeout),
        }
    }

    /// Asks whether it would be elected. Disturbs nobody: no term changes by it.
    pub(crate) fn question(&mut self, turn: &mut Turn<'_>) {
        if !self.may_lead() || !self.may_vote(turn.now) {
            // Nor does it know a leader any more.
            self.become_follower(turn, None);
            self.ask_for_leader(turn);
            return;
        }
        let again_at = self.election_time(turn.now, turn.random);
        self.part = Part::Canvass(Canvass {
            kind: Kind::Question,
            granted: BTreeSet::from([self.me]),
            again_at,
        });
        self.tell_role(turn);
        let last = self.log.last();
        for peer in self.other_voters() {
            self.send_as(turn, peer, self.term.next(), Body::PreVote { last }, None);
        }
        self.count_votes(turn);
    }

    /// Asks to be elected, in a new term.
    fn run(&mut self, turn: &mut Turn<'_>, transfer: bool) {
        self.term = self.term.next();
        self.vote = Some(self.me);
        self.vote_changed = true;
        self.write_vote(turn);
        self.part = Part::Canvass(Canvass {
            kind: Kind::Vote,
            granted: BTreeSet::new(),
            again_at: self.election_time(turn.now, turn.random),
        });
        self.tell_role(turn);
        let last = self.log.last();
        for peer in self.other_voters() {
            self.send(turn, peer, Body::Vote { last, transfer }, None);
        }
        self.count_votes(turn);
    }

    /// It can only wait for a leader. The group may be quiet, and not know that this replica missed
    /// something; or its leader, coming back, may be this one.
    fn ask_for_leader(&mut self, turn: &mut Turn<'_>) {
        let me = self.me;
        let members = self.configuration().map(Configuration::members);
        let Some(members) = members.filter(|members| members.contains(&me)) else {
            return;
        };
        for member in members.into_iter().filter(|member| *member != me) {
            self.send(turn, member, Body::Lost, None);
        }
    }

    fn other_voters(&self) -> Vec<ReplicaId> {
        let configuration = self.configuration();
        let members = configuration.map(|it| (it, it.members()));
        members.map_or(Vec::new(), |(configuration, members)| {
            let others = members.into_iter().filter(|id| *id != self.me);
            others.filter(|id| configuration.is_voter(*id)).collect()
        })
    }

    pub(crate) fn canvass_tick(&mut self, turn: &mut Turn<'_>) {
        if let Part::Canvass(canvass) = &self.part
            && turn.now >= canvass.again_at
        {
            self.question(turn);
        }
    }

    /// Whether those that are for it are enough.
    pub(crate) fn count_votes(&mut self, turn: &mut Turn<'_>) {
        let me = self.me;
        let own_is_durable = self.vote_io.is_none();
        let Part::Canvass(canvass) = &mut self.part else {
            return;
        };
        if canvass.kind == Kind::Vote && own_is_durable {
            canvass.granted.insert(me);
        }
        let (kind, granted) = (canvass.kind, &canvass.granted);
        let configuration = self
            .history
            .latest()
            .map(|(_, configuration)| configuration);
        let elects = |it: &Configuration| it.is_quorum(|voter| granted.contains(&voter));
        let incoming_alone =
            |it: &Configuration| planted::is(Bug::OutgoingDoNotElect) && elects(&it.settled());
        if !configuration.is_some_and(|it| elects(it) || incoming_alone(it)) {
            return;
        }
        match kind {
            Kind::Question => self.run(turn, false),
            Kind::Vote => self.become_leader(turn),
        }
    }

    /// `Body::PreVote`. Its term is only a wish.
    pub(crate) fn asked_before_vote(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        wished: Term,
        last: Position,
    ) {
        self.stirred_by(turn, from);
        let granted = wished > self.term
            && last >= self.log.last()
            && self.may_vote(turn.now)
            && !self.is_faithful(turn.now);
        let term = if granted { wished } else { self.term };
        self.send_as(turn, from, term, Body::PreVoteReply { granted }, None);
    }

    /// `Body::PreVoteReply`, granted: its term is the one that was wished for.
    pub(crate) fn encouraged(&mut self, turn: &mut Turn<'_>, from: ReplicaId, wished: Term) {
        if wished == self.term.next() {
            self.told_before_vote(turn, from, true);
        }
    }

    pub(crate) fn told_before_vote(&mut self, turn: &mut Turn<'_>, from: ReplicaId, granted: bool) {
        if let Part::Canvass(canvass) = &mut self.part
            && canvass.kind == Kind::Question
            && granted
        {
            canvass.granted.insert(from);
            self.count_votes(turn);
        }
    }

    /// `Body::Vote`, in this replica's term.
    pub(crate) fn asked_for_vote(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        last: Position,
        transfer: bool,
    ) {
        // Another message may have drawn it into this term just after it answered the leader of an
        // earlier one, which relies on that answer for its lease.
        let may_leave = transfer || !self.is_faithful(turn.now);
        let free = match self.vote {
            None => self.leader().is_none() && may_leave,
            Some(vote) => vote == from,
        };
        let granted = free && last >= self.log.last() && self.may_vote(turn.now);
        if granted {
            if self.vote.is_none() {
                self.vote = Some(from);
                self.vote_changed = true;
            }
            self.wait_for_leader(turn);
        }
        self.send(turn, from, Body::VoteReply { granted }, None);
    }

    pub(crate) fn voted(&mut self, turn: &mut Turn<'_>, from: ReplicaId, granted: bool) {
        if let Part::Canvass(canvass) = &mut self.part
            && canvass.kind == Kind::Vote
            && granted
        {
            canvass.granted.insert(from);
            self.count_votes(turn);
        }
    }

    /// `Body::TimeoutNow`.
    pub(crate) fn told_to_run(&mut self, turn: &mut Turn<'_>, from: ReplicaId) {
        let asked_by_leader = self.leader() == Some(from);
        if asked_by_leader && self.may_lead() && self.may_vote(turn.now) {
            self.run(turn, true);
        }
    }
}
