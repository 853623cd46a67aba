//! A follower: its log becomes the leader's (Raft paper, section 5.3), and if no leader is heard it
//! looks for one.

use crate::configuration::Configuration;
use crate::group::{Group, Part, Turn};
use crate::input::{Condition, Content, Effect, Hint};
use crate::message::{Body, Cure, Damage, Round, Watermarks};
use crate::planted::{self, Bug};
use crate::types::{Index, Position, ReplicaId, Span, Term, Time};

/// A follower's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    /// Of the present term.
    leader: Option<ReplicaId>,
    /// When it looks for another one; none: the leader has fallen quiet and is not missed.
    election_at: Option<Time>,
}

impl Follower {
    /// One that knows no leader.
    pub(crate) fn lost(election_at: Time) -> Follower {
        Follower {
            leader: None,
            election_at: Some(election_at),
        }
    }

    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        self.leader
    }

    pub(crate) fn election_at(&self) -> Option<Time> {
        self.election_at
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.election_at.is_none()
    }
}

/// What an append message says.
pub(crate) struct News {
    pub(crate) previous: Position,
    pub(crate) spans: Vec<Span>,
    pub(crate) configurations: Vec<(Index, Configuration)>,
    pub(crate) watermarks: Watermarks,
    pub(crate) round: Round,
    pub(crate) cure: Option<Cure>,
}

impl News {
    /// Whether the spans follow each other. What does not is not from a leader, and is not looked at.
    fn is_well_formed(&self, term: Term) -> bool {
        let mut end = self.previous;
        self.spans.iter().all(|span| {
            let follows = span.first == end.index.next() && span.term >= end.term;
            end = span.end();
            follows && span.last >= span.first && span.term <= term
        })
    }
}

/// What a heartbeat says.
pub(crate) struct Beat {
    pub(crate) watermarks: Watermarks,
    pub(crate) matched: Index,
    pub(crate) round: Round,
    pub(crate) quiesce: bool,
    pub(crate) cure: Option<Cure>,
}

impl Group {
    /// Ends whatever it was at.
    pub(crate) fn become_follower(&mut self, turn: &mut Turn<'_>, leader: Option<ReplicaId>) {
        let was = (self.role(), self.leader());
        let follower = Follower {
            leader,
            election_at: Some(self.election_time(turn.now, turn.random)),
        };
        if let Some((_, whole_at)) = &mut self.damage {
            // Another leader has its own idea of what must be here.
            *whole_at = None;
        }
        if let Part::Leader(leader) = std::mem::replace(&mut self.part, Part::Follower(follower)) {
            leader.abandon(turn);
        }
        if was != (self.role(), self.leader()) {
            self.tell_role(turn);
        }
    }

    /// Goes on as a follower that begins an election then, unless a leader is heard before.
    pub(crate) fn wait_for_leader(&mut self, turn: &mut Turn<'_>) {
        let election_at = self.election_time(turn.now, turn.random);
        match &mut self.part {
            Part::Follower(follower) => follower.election_at = Some(election_at),
            Part::Canvass(_) => {
                self.part = Part::Follower(Follower::lost(election_at));
                self.tell_role(turn);
            }
            Part::Leader(_) => {}
        }
    }

    /// The leader of this term was heard.
    fn follow(&mut self, turn: &mut Turn<'_>, leader: ReplicaId) {
        assert!(
            !matches!(self.part, Part::Leader(_)),
            "a term has one leader"
        );
        self.heard = Some(turn.now);
        // Before what the leader asks for: what was acknowledged in an earlier term may be cut in this
        // one, so a crash in between must not leave the cut without the term.
        self.write_vote(turn);
        if self.leader() != Some(leader) {
            self.become_follower(turn, Some(leader));
        } else {
            self.wait_for_leader(turn);
        }
    }

    pub(crate) fn follower_tick(&mut self, turn: &mut Turn<'_>) {
        let Part::Follower(follower) = &self.part else {
            return;
        };
        if follower.election_at.is_some_and(|at| turn.now >= at) {
            self.question(turn);
        }
    }

    /// A member misses its leader.
    pub(crate) fn stirred_by(&mut self, turn: &mut Turn<'_>, from: ReplicaId) {
        // One that was removed and does not know it keeps nobody awake.
        let member = self
            .configuration()
            .is_some_and(|it| it.members().contains(&from));
        if member {
            self.stirred(turn);
        }
    }

    /// A sign that the leader may be missed: whoever was quiet counts the time again.
    pub(crate) fn stirred(&mut self, turn: &mut Turn<'_>) {
        match &self.part {
            Part::Follower(follower) if follower.is_quiet() => {
                self.heard = Some(turn.now);
                self.wait_for_leader(turn);
            }
            Part::Leader(_) => self.wake(turn),
            _ => {}
        }
    }

    pub(crate) fn follower_hint(&mut self, turn: &mut Turn<'_>, peer: ReplicaId, hint: Hint) {
        let Part::Follower(follower) = &self.part else {
            return;
        };
        if hint == Hint::Silent && follower.is_quiet() && follower.leader == Some(peer) {
            // It is waited for as if it had spoken just now. When it did speak stays as it was: it may
            // hold a lease by that, whatever membership thinks of its node.
            self.wait_for_leader(turn);
        }
    }

    /// `Body::Append`.
    pub(crate) fn told_entries(&mut self, turn: &mut Turn<'_>, from: ReplicaId, mut news: News) {
        if !news.is_well_formed(self.term) {
            return;
        }
        self.follow(turn, from);
        let base = self.log.base();
        if news.previous.index < base.index {
            // What retention took here was committed: the leader has it, too.
            news.spans.retain(|span| span.last > base.index);
            if let Some(span) = news.spans.first_mut() {
                span.first = span.first.max(base.index.next());
            }
            news.previous = base;
        } else if self.log.term_at(news.previous.index) != Some(news.previous.term) {
            let body = Body::Diverged {
                at: news.previous.index,
                ends: self.log.ends_backwards(news.previous.index),
                round: news.round,
                damage: self.damage(),
            };
            self.send(turn, from, body, None);
            return;
        }
        let mut matched = news.previous.index;
        for span in &news.spans {
            self.take_span(turn, span, &news.configurations);
            matched = span.last;
        }
        self.told_watermarks(turn, news.watermarks, matched);
        let after = match planted::is(Bug::AcknowledgesBeforeDurable) {
            true => None,
            false => self.log.write_of(matched),
        };
        let body = Body::Appended {
            matched,
            round: news.round,
            damage: self.damage(),
        };
        self.send(turn, from, body, after);
        self.cure(turn, news.cure, matched);
    }

    /// Appends what is not there. Entries that are there and differ are cut first, with all behind
    /// them; those that do not differ stay, whatever is behind them: a late message cuts nothing.
    fn take_span(
        &mut self,
        turn: &mut Turn<'_>,
        span: &Span,
        configurations: &[(Index, Configuration)],
    ) {
        if planted::is(Bug::LateAppendTruncates) && span.last < self.log.last().index {
            self.cut_after(turn, span.last.max(self.log.marks().commit));
        }
        let first = match self.log.missing(span) {
            Ok(first) => first,
            Err(last) => {
                self.cut_after(turn, last);
                last.next()
            }
        };
        if first > span.last {
            return;
        }
        let span = Span { first, ..*span };
        let io = self.take_io();
        self.log.append(span, io);
        turn.effects.push(Effect::Append {
            io,
            span,
            content: Content::Received,
        });
        let mut changed = false;
        for (index, configuration) in configurations {
            let founding = *index == Index(0) && self.history.latest().is_none();
            if founding || (span.first..=span.last).contains(index) {
                self.history.append(*index, configuration.clone());
                changed = true;
            }
        }
        if changed {
            self.tell_configuration(turn);
        }
    }

    fn cut_after(&mut self, turn: &mut Turn<'_>, last: Index) {
        let io = self.take_io();
        self.log.truncate(last);
        turn.effects.push(Effect::Truncate { io, last });
        if self.history.truncate(last) {
            self.tell_configuration(turn);
        }
    }

    /// No watermark counts above what is known to be the leader's log.
    fn told_watermarks(&mut self, turn: &mut Turn<'_>, marks: Watermarks, matched: Index) {
        if self.log.commit(marks.commit.min(matched)) {
            turn.effects
                .push(Effect::Committed(self.log.marks().commit));
        }
        if self.log.show(marks.visible.min(matched)) {
            turn.effects.push(Effect::Visible(self.log.marks().visible));
        }
    }

    /// `Body::Heartbeat`.
    pub(crate) fn told_heartbeat(&mut self, turn: &mut Turn<'_>, from: ReplicaId, beat: &Beat) {
        self.follow(turn, from);
        // What a damaged log has lost is not here, although the leader has seen it here.
        let matched = beat.matched.min(self.log.last().index);
        let marks = beat.watermarks;
        if self.damage.is_none() {
            self.told_watermarks(turn, marks, matched);
        }
        self.cure(turn, beat.cure, beat.matched);
        let has_all = marks.commit == self.log.last().index && marks.commit == self.log.durable();
        if beat.quiesce && has_all && self.damage.is_none() {
            if let Part::Follower(follower) = &mut self.part {
                follower.election_at = None;
            }
            return;
        }
        let (round, damage) = (beat.round, self.damage());
        self.send(turn, from, Body::HeartbeatReply { round, damage }, None);
    }

    /// `Body::Snapshot`: retention has overtaken this replica.
    pub(crate) fn told_snapshot(
        &mut self,
        turn: &mut Turn<'_>,
        from: ReplicaId,
        (start, previous_term): (Index, Term),
        configuration: (Index, Configuration),
        round: Round,
    ) {
        self.follow(turn, from);
        let before = start.previous();
        let base = self.log.base();
        // Late or doubled: it is all there, or was and is gone again.
        let known = before < base.index || self.log.term_at(before) == Some(previous_term);
        if !known {
            let io = self.take_io();
            self.log.reset(start, previous_term, io);
            self.history = crate::configuration::History::new(vec![configuration]);
            turn.effects.push(Effect::Reset {
                io,
                start,
                previous_term,
            });
            self.tell_configuration(turn);
            turn.effects.push(Effect::Committed(before));
            turn.effects.push(Effect::Visible(before));
        }
        let matched = before.max(self.log.base().index);
        let after = self.log.write_of(matched);
        let body = Body::Appended {
            matched,
            round,
            damage: self.damage(),
        };
        self.send(turn, from, body, after);
    }

    fn damage(&self) -> Option<Damage> {
        self.damage.map(|(damage, _)| damage)
    }

    /// The leader says how far its log must be here, and that it is here up to `matched`.
    fn cure(&mut self, turn: &mut Turn<'_>, cure: Option<Cure>, matched: Index) {
        if let (Some((damage, whole_at)), Some(cure)) = (&mut self.damage, cure)
            && cure.damage == *damage
            && cure.through <= matched
        {
            *whole_at = Some(cure.through);
        }
        self.mend(turn);
    }

    /// A damaged log is whole when it has, durably, what the leader had when it learned of the damage.
    pub(crate) fn mend(&mut self, turn: &mut Turn<'_>) {
        let Some((_, Some(whole_at))) = self.damage else {
            return;
        };
        if self.log.durable() < whole_at {
            return;
        }
        self.damage = None;
        self.condition = Condition::Sound;
        turn.effects.push(Effect::Repaired);
    }
}
