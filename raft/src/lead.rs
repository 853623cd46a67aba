//! A leader: it takes proposals, and moves the commit index when a majority has them durably
//! (Raft paper, sections 5.3 and 5.4).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::configuration::Configuration;
use crate::group::{Group, Part, Turn};
use crate::input::{Acks, Content, Effect, Hint, Proposal, Rejection};
use crate::log::Log;
use crate::message::{Body, Damage, Round};
use crate::planted::{self, Bug};
use crate::progress::Progress;
use crate::reads::Reading;
use crate::settings::{CommitRule, Settings};
use crate::transfer::Transfer;
use crate::types::{Index, ReplicaId, Span, Time, Token};

/// A leader's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    /// Everybody else in the membership in force.
    pub(crate) peers: BTreeMap<ReplicaId, Progress>,
    /// Voters that are in sync, itself included if it is a voter.
    pub(crate) in_sync: BTreeSet<ReplicaId>,
    /// The no-op that its term began with: when that is committed, it serves.
    first: Index,
    /// What it has appended and is not yet committed: the last entry and the bytes of each.
    uncommitted: VecDeque<(Index, u64)>,
    uncommitted_bytes: u64,
    /// When it next says that it is there; none: it has fallen quiet.
    pub(crate) heartbeat_at: Option<Time>,
    /// When it was last asked for something.
    pub(crate) busy_at: Time,
    pub(crate) reading: Reading,
    pub(crate) transfer: Option<Transfer>,
    /// Who waits for the membership change under way.
    pub(crate) change: Option<Token>,
}

/// To whom a heartbeat goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beat {
    /// To everybody.
    All,
    /// To those that have not just been told and answered something else.
    Idle,
    /// To everybody, and then nothing more.
    Last,
}

impl Leader {
    /// Whether it may serve: what earlier leaders have committed is known only when something of its
    /// own term is (thesis, section 6.4).
    pub(crate) fn serves(&self, log: &Log) -> bool {
        log.marks().commit >= self.first
    }

    pub(crate) fn deadline(&self, settings: &Settings) -> Option<Time> {
        let heartbeat_at = self.heartbeat_at?;
        let resend = self
            .peers
            .values()
            .filter_map(|peer| peer.resend_at(settings.resend_after));
        let transfer = self.transfer.iter().map(|transfer| transfer.until);
        resend.chain(transfer).chain([heartbeat_at]).min()
    }

    /// Leadership is over: whoever waits is told.
    pub(crate) fn abandon(self, turn: &mut Turn<'_>) {
        let waiting = self.reading.abandoned().chain(self.change);
        for token in waiting {
            turn.effects.push(Effect::Rejected {
                token,
                reason: Rejection::LeadershipLost,
            });
        }
    }
}

impl Group {
    pub(crate) fn leading(&mut self) -> Option<&mut Leader> {
        match &mut self.part {
            Part::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    pub(crate) fn become_leader(&mut self, turn: &mut Turn<'_>) {
        let last = self.log.last().index;
        self.part = Part::Leader(Box::new(Leader {
            peers: BTreeMap::new(),
            in_sync: BTreeSet::new(),
            first: last.next(),
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            heartbeat_at: Some(turn.now),
            busy_at: turn.now,
            reading: Reading::default(),
            transfer: None,
            change: None,
        }));
        self.tell_role(turn);
        self.know_members(turn);
        self.append(turn, 1, 0, Content::NoOp);
        self.say_alive(turn);
    }

    /// Takes account of a membership that came into force, by election or by an entry.
    pub(crate) fn know_members(&mut self, turn: &mut Turn<'_>) {
        let members = self
            .configuration()
            .map_or(BTreeSet::new(), Configuration::members);
        let (me, last) = (self.me, self.log.last().index);
        let Some(leader) = self.leading() else {
            return;
        };
        leader.peers.retain(|peer, _| members.contains(peer));
        for member in members.into_iter().filter(|member| *member != me) {
            let new = || Progress::new(last, turn.now);
            leader.peers.entry(member).or_insert_with(new);
        }
        self.weigh_sync(turn);
    }

    /// A proposal.
    pub(crate) fn propose(&mut self, turn: &mut Turn<'_>, proposal: Proposal) {
        assert!(proposal.entries > 0, "a proposal has entries");
        // First, since a leader that was quiet has to look anew at who is in sync.
        self.wake(turn);
        if let Err(reason) = self.may_propose(&proposal) {
            self.reject(turn, proposal.token, reason);
            return;
        }
        let content = Content::Proposal(proposal.token);
        self.append(turn, proposal.entries, proposal.bytes, content);
    }

    fn may_propose(&self, proposal: &Proposal) -> Result<(), Rejection> {
        let Part::Leader(leader) = &self.part else {
            return Err(self.not_leader());
        };
        if !leader.serves(&self.log) {
            return Err(Rejection::NotServing);
        }
        if leader.transfer.is_some() {
            return Err(Rejection::Transferring);
        }
        // A single proposal may be larger than the limit, or it would never be taken.
        let bytes = leader.uncommitted_bytes + proposal.bytes;
        if leader.uncommitted_bytes > 0 && bytes > self.settings.uncommitted_bytes {
            return Err(Rejection::Full);
        }
        if proposal.acks == Acks::All && leader.in_sync.len() < self.settings.min_in_sync {
            return Err(Rejection::NotEnoughReplicas);
        }
        Ok(())
    }

    /// Appends to its own log, and sends on at once: the disks work at the same time (thesis,
    /// section 10.2.1).
    pub(crate) fn append(
        &mut self,
        turn: &mut Turn<'_>,
        entries: u32,
        bytes: u64,
        content: Content,
    ) {
        let first = self.log.last().index.next();
        let span = Span {
            first,
            last: Index(first.0 + u64::from(entries) - 1),
            term: self.term,
            bytes,
        };
        let io = self.take_io();
        self.log.append(span, io);
        turn.appended(span);
        if let Content::Configuration(configuration) = &content {
            self.history.append(first, configuration.clone());
        }
        turn.effects.push(Effect::Append { io, span, content });
        if let Some(leader) = self.leading() {
            leader.uncommitted.push_back((span.last, bytes));
            leader.uncommitted_bytes += bytes;
            leader.busy_at = turn.now;
        }
        self.send_to_all(turn);
        if planted::is(Bug::CountsItselfBeforeDurable) {
            self.advance(turn);
        }
    }

    /// Up to where a voter's copy counts: a damaged one counts for nothing until it is whole.
    fn counted(&self, leader: &Leader, voter: ReplicaId) -> Index {
        if voter == self.me {
            return match planted::is(Bug::CountsItselfBeforeDurable) {
                true => self.log.last().index,
                false => self.log.durable(),
            };
        }
        let peer = leader.peers.get(&voter).filter(|peer| peer.cure.is_none());
        peer.map_or(Index(0), |peer| peer.matched)
    }

    /// Commits what a majority has.
    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) {
        let (Part::Leader(leader), Some(configuration)) = (&self.part, self.configuration()) else {
            return;
        };
        let reached = configuration.reached(|voter| self.counted(leader, voter));
        // An entry of an earlier term is safe only under one of this term (figure 8).
        let own_term = self.log.term_at(reached) == Some(self.term);
        if (own_term || planted::is(Bug::CommitsEarlierTerms)) && reached > self.log.marks().commit
        {
            self.committed(turn, reached);
        }
        self.advance_visible(turn);
    }

    fn committed(&mut self, turn: &mut Turn<'_>, index: Index) {
        let served = matches!(&self.part, Part::Leader(leader) if leader.serves(&self.log));
        self.log.commit(index);
        turn.effects.push(Effect::Committed(index));
        let log = &self.log;
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        while leader
            .uncommitted
            .front()
            .is_some_and(|(last, _)| *last <= index)
        {
            let (_, bytes) = leader.uncommitted.pop_front().expect("there is one");
            leader.uncommitted_bytes -= bytes;
        }
        if !served && leader.serves(log) {
            self.tell_role(turn);
        }
        self.advance_visible(turn);
        self.membership_committed(turn);
    }

    /// Shows what is committed, and where the group waits for them, what all in sync have.
    fn advance_visible(&mut self, turn: &mut Turn<'_>) {
        let Part::Leader(leader) = &self.part else {
            return;
        };
        let commit = self.log.marks().commit;
        let visible = match self.settings.commit_rule {
            CommitRule::Majority => commit,
            CommitRule::InSync => {
                let each = leader
                    .in_sync
                    .iter()
                    .map(|voter| self.counted(leader, *voter));
                each.fold(commit, Index::min)
            }
        };
        if self.log.show(visible) {
            turn.effects.push(Effect::Visible(visible));
        }
    }

    /// Who is in sync now (Kafka's two conditions), on the leader's own clock. One that has fallen
    /// behind comes back when it has all that is visible.
    pub(crate) fn weigh_sync(&mut self, turn: &mut Turn<'_>) {
        let (last, visible, now, me) = (
            self.log.last().index,
            self.log.marks().visible,
            turn.now,
            self.me,
        );
        let (lag_time, lag_entries) = (self.settings.lag_time, self.settings.lag_entries);
        let configuration = self.history.latest().map(|(_, it)| it.clone());
        let (Part::Leader(leader), Some(configuration)) = (&mut self.part, configuration) else {
            return;
        };
        let is_in_sync = |voter: ReplicaId| {
            let Some(peer) = leader.peers.get(&voter) else {
                return voter == me;
            };
            let near =
                now.since(peer.caught_up) <= lag_time && last.0 - peer.matched.0 <= lag_entries;
            // A leader that was just elected knows nothing of the others: it believes them at first.
            let known = peer.matched > Index(0);
            let patient = now.since(peer.caught_up) <= lag_time;
            let may_be = leader.in_sync.contains(&voter)
                || (known && peer.matched >= visible)
                || (!known && last < leader.first);
            peer.cure.is_none() && may_be && (near || (!known && patient))
        };
        let in_sync: BTreeSet<ReplicaId> = configuration
            .voters()
            .filter(|voter| is_in_sync(*voter))
            .collect();
        if in_sync != leader.in_sync {
            turn.effects
                .push(Effect::InSync(in_sync.iter().copied().collect()));
            leader.in_sync = in_sync;
            self.advance_visible(turn);
        }
    }

    /// What every answer says: that the follower is there, in which round, and whether its log is
    /// whole. Tells whether it is a follower of this leader at all.
    pub(crate) fn heard_from(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        round: Round,
        damage: Option<Damage>,
    ) -> bool {
        let last = self.log.last().index;
        let Some(peer) = self
            .leading()
            .and_then(|leader| leader.peers.get_mut(&from))
        else {
            return false;
        };
        peer.heard = turn.now;
        peer.silent = false;
        peer.round = peer.round.max(round);
        peer.note_damage(damage, last);
        if peer.cure.is_none() && peer.matched == last {
            // What it had, it has.
            peer.caught_up = turn.now;
        }
        self.round_answered(turn);
        true
    }

    /// `Body::Appended`.
    pub(crate) fn answered_appended(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        matched: Index,
    ) {
        let last = self.log.last().index;
        let Some(peer) = self
            .leading()
            .and_then(|leader| leader.peers.get_mut(&from))
        else {
            return;
        };
        if matched > last {
            // It cannot have from this leader what this leader does not have.
            return;
        }
        peer.has(matched, last, turn.now);
        peer.answered = turn.now;
        self.advance(turn);
        let out_of_sync =
            matches!(&self.part, Part::Leader(leader) if !leader.in_sync.contains(&from));
        if out_of_sync {
            self.weigh_sync(turn);
        }
        self.hand_over(turn);
        self.send_entries(turn, from);
    }

    /// `Body::Diverged`.
    pub(crate) fn answered_diverged(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        at: Index,
        ends: &[crate::types::Position],
    ) {
        let (shared, resend_after) = (self.log.shared_with(ends), self.settings.resend_after);
        let Some(peer) = self
            .leading()
            .and_then(|leader| leader.peers.get_mut(&from))
        else {
            return;
        };
        if at < peer.matched || !peer.asked_at(at) {
            // Late: this is settled, or is being asked again.
            return;
        }
        let gap = shared.is_some() && shared.as_ref() == ends.first();
        if gap && !peer.may_begin_anew(turn.now, resend_after) {
            return;
        }
        match (shared, ends.last()) {
            (Some(shared), _) => peer.probe(shared.index.next(), false),
            // All that it named lies before the log's start, or none of its terms is known here: it
            // is asked at the oldest place that it named, or begins anew.
            (None, Some(oldest)) => peer.probe(oldest.index.next().min(at), false),
            (None, None) => return,
        }
        self.send_entries(turn, from);
    }

    /// `Body::HeartbeatReply`.
    pub(crate) fn answered_heartbeat(&mut self, turn: &mut Turn<'_>, from: ReplicaId) {
        self.advance(turn);
        self.hand_over(turn);
        self.send_entries(turn, from);
    }

    pub(crate) fn leader_tick(&mut self, turn: &mut Turn<'_>) {
        self.give_up_transfer(turn);
        self.send_again(turn);
        let due = |leader: &mut Leader| leader.heartbeat_at.is_some_and(|at| turn.now >= at);
        if !self.leading().is_some_and(due) {
            return;
        }
        if !self.is_heard_by_quorum(turn.now) {
            // It may be the one that is cut off (check-quorum, thesis, section 6.2).
            self.become_follower(turn, None);
            return;
        }
        self.weigh_sync(turn);
        if !self.fall_quiet(turn) {
            self.begin_round(turn, Beat::Idle);
        }
    }

    fn is_heard_by_quorum(&self, now: Time) -> bool {
        let (Part::Leader(leader), Some(configuration)) = (&self.part, self.configuration()) else {
            return false;
        };
        let patience = self.settings.election_timeout;
        configuration.is_quorum(|voter| {
            let peer = leader.peers.get(&voter);
            voter == self.me || peer.is_some_and(|peer| now.since(peer.heard) <= patience)
        })
    }

    /// Says nothing more until something happens, if everybody has everything.
    fn fall_quiet(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(quiesce_after) = self.settings.quiesce_after else {
            return false;
        };
        let (last, patience, now) = (
            self.log.last().index,
            self.settings.election_timeout,
            turn.now,
        );
        let marks = self.log.marks();
        let settled = marks.commit == last && marks.visible == last && self.log.durable() == last;
        let joint = self.configuration().is_some_and(Configuration::is_joint);
        let Part::Leader(leader) = &self.part else {
            return false;
        };
        let idle = now.since(leader.busy_at) >= quiesce_after
            && leader.transfer.is_none()
            && leader.reading.is_idle();
        // One whose node is known to be dead does not keep the others awake.
        let all = leader.peers.values().all(|peer| {
            peer.silent
                || ((peer.matched == last || planted::is(Bug::QuietTooEarly))
                    && peer.cure.is_none()
                    && now.since(peer.heard) <= patience)
        });
        if !(settled && idle && all) || joint {
            return false;
        }
        let round = leader.reading.round();
        self.beat(turn, round, Beat::Last);
        if let Some(leader) = self.leading() {
            leader.heartbeat_at = None;
        }
        true
    }

    /// Something has happened in a quiet group: everybody is heard from here on.
    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>) {
        let last = self.log.last().index;
        let Some(leader) = self.leading() else {
            return;
        };
        leader.busy_at = turn.now;
        if leader.heartbeat_at.is_some() {
            return;
        }
        for peer in leader.peers.values_mut() {
            peer.heard = turn.now;
            // Nothing was appended meanwhile: who had everything still has it.
            if peer.matched == last && !peer.silent {
                peer.caught_up = turn.now;
            }
        }
        leader.heartbeat_at = Some(turn.now);
        self.weigh_sync(turn);
        self.say_alive(turn);
    }

    pub(crate) fn leader_hint(&mut self, turn: &mut Turn<'_>, peer: ReplicaId, hint: Hint) {
        let known = self
            .leading()
            .and_then(|leader| leader.peers.get_mut(&peer));
        if let Some(progress) = known {
            progress.silent = hint == Hint::Silent;
            self.wake(turn);
        }
    }

    /// A heartbeat to everybody, and a new round.
    pub(crate) fn say_alive(&mut self, turn: &mut Turn<'_>) {
        self.begin_round(turn, Beat::All);
    }

    fn begin_round(&mut self, turn: &mut Turn<'_>, to: Beat) {
        let interval = self.settings.heartbeat_interval;
        let Some(leader) = self.leading() else {
            return;
        };
        leader.heartbeat_at = Some(turn.now.next_beat(interval));
        let round = leader.reading.begin_round(turn.now);
        if self.beat(turn, round, to)
            && let Some(leader) = self.leading()
        {
            leader.reading.asked(round, turn.now);
        }
        self.round_answered(turn);
    }

    /// Tells whether that went to everybody.
    fn beat(&mut self, turn: &mut Turn<'_>, round: Round, beat: Beat) -> bool {
        let (watermarks, interval) = (self.log.marks(), self.settings.heartbeat_interval);
        let Part::Leader(leader) = &mut self.part else {
            return false;
        };
        let everybody = leader.peers.len();
        let mut beats = Vec::with_capacity(leader.peers.len());
        for (peer, progress) in &mut leader.peers {
            // Half, so that two messages are never further apart than one and a half intervals.
            let lately = |then| turn.now.since(then) < interval / 2;
            if beat == Beat::Idle && lately(progress.sent) && lately(progress.answered) {
                continue;
            }
            let beat = Body::Heartbeat {
                watermarks,
                matched: progress.matched,
                round,
                quiesce: beat == Beat::Last,
                cure: progress.cure,
            };
            beats.push((*peer, beat));
        }
        let told = beats.len();
        for (peer, beat) in beats {
            self.send(turn, peer, beat, None);
        }
        told == everybody
    }
}
