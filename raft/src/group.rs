//! One group as one of its replicas sees it: the door. It takes what happened, hands it to the part
//! that decides, and collects what is to be done.

use crate::configuration::{Configuration, History};
use crate::election::Canvass;
use crate::follow::Follower;
use crate::input::{
    Condition, Effect, Fatal, Hint, Input, LogView, Random, Recovered, Rejection, Role,
};
use crate::lead::Leader;
use crate::log::Log;
use crate::message::{Body, Damage, Message};
use crate::planted::{self, Bug};
use crate::settings::{Reads, Settings};
use crate::types::{Index, Io, Position, ReplicaId, Span, Term, Time, Token};

/// A replica of one group.
///
/// It is told what happens by [`step`](Group::step), one thing at a time, and answers with
/// [effects](Effect) to be carried out in order. Between two steps it does nothing; it wants a
/// [`Tick`](Input::Tick) at its [`deadline`](Group::deadline), so that many groups need one timer and
/// a quiet group none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    pub(crate) me: ReplicaId,
    pub(crate) settings: Settings,
    pub(crate) condition: Condition,
    /// Of a damaged log: which damage, and up to where the leader's log must be here and durable for
    /// it to be whole, once that is known and here.
    pub(crate) damage: Option<(Damage, Option<Index>)>,
    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    /// The term or the vote is not yet being written.
    pub(crate) vote_changed: bool,
    /// The write of the present term and vote, until it is durable.
    pub(crate) vote_io: Option<Io>,
    pub(crate) next_io: Io,
    pub(crate) log: Log,
    pub(crate) history: History,
    pub(crate) part: Part,
    /// When a leader was last heard, whoever: others are not voted for soon after (thesis, 4.2.3).
    pub(crate) heard: Option<Time>,
    /// A voter that has just started does not know whether it has heard a leader a moment ago, one
    /// that may still hold a lease.
    pub(crate) no_vote_before: Time,
    dead: bool,
}

/// What a replica is at, with what it needs for that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Follower(Follower),
    Canvass(Canvass),
    Leader(Box<Leader>),
}

/// One step's surroundings.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    pub(crate) random: &'a mut dyn Random,
    pub(crate) effects: &'a mut Vec<Effect>,
    log: &'a dyn LogView,
    /// Appended in this very step, so that the view does not have it yet.
    fresh: Vec<Span>,
}

impl Group {
    /// A replica that begins with what its disk holds.
    ///
    /// `recovered.term` must be the greatest that it ever told anybody: one whose votes may be lost
    /// has to come back as another replica, with a greater incarnation, for it might vote twice.
    ///
    /// # Panics
    /// If the settings make no sense ([`Settings::check`]) or `recovered` contradicts itself.
    #[must_use]
    pub fn new(
        me: ReplicaId,
        settings: Settings,
        recovered: Recovered,
        now: Time,
        random: &mut dyn Random,
    ) -> Group {
        settings.check().expect("settings are checked before");
        let log = Log::recovered(&recovered);
        assert!(
            recovered.term >= log.last().term,
            "a term is known before it is in the log"
        );
        let no_vote_before = match settings.reads {
            _ if planted::is(Bug::NoWaitAfterRestart) => now,
            Reads::Lease { .. } if recovered.term > Term(0) => now.after(settings.election_timeout),
            _ => now,
        };
        let damage = match recovered.condition {
            Condition::Sound => None,
            Condition::Damaged => Some((Damage(random.next()), None)),
        };
        let mut group = Group {
            me,
            damage,
            settings,
            condition: recovered.condition,
            term: recovered.term,
            vote: recovered.vote,
            vote_changed: false,
            vote_io: None,
            next_io: Io(1),
            log,
            history: History::new(recovered.configurations),
            part: Part::Follower(Follower::default()),
            heard: None,
            no_vote_before,
            dead: false,
        };
        let election_at = group.election_time(now, random);
        group.part = Part::Follower(Follower::lost(election_at));
        group
    }

    /// Something happened: what is to be done about it is added to `effects`.
    pub fn step(
        &mut self,
        now: Time,
        input: Input,
        log: &dyn LogView,
        random: &mut dyn Random,
        effects: &mut Vec<Effect>,
    ) {
        if self.dead {
            return;
        }
        let turn = &mut Turn {
            now,
            random,
            effects,
            log,
            fresh: Vec::new(),
        };
        match input {
            Input::Tick => self.tick(turn),
            Input::Message(message) => self.hear(turn, message),
            Input::Propose(proposal) => self.propose(turn, proposal),
            Input::Durable(io) => self.durable_through(turn, io),
            Input::Failed(io) => {
                self.dead = true;
                turn.effects.push(Effect::Fatal(Fatal::WriteFailed(io)));
            }
            Input::SpanReady(peer) => self.span_ready(turn, peer),
            Input::SnapshotFailed(peer) => self.snapshot_failed(turn, peer),
            Input::LogStartMoved(start) => {
                self.log.move_start(start);
                self.history.compact(start);
            }
            Input::ReadBarrier(token) => self.read_barrier(turn, token),
            Input::Transfer(to) => self.transfer(turn, to),
            Input::Change(change) => self.change(turn, change),
            Input::Hint(peer, hint) => self.hint(turn, peer, hint),
        }
        self.write_vote(turn);
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        match &self.part {
            Part::Follower(_) => self.follower_tick(turn),
            Part::Canvass(_) => self.canvass_tick(turn),
            Part::Leader(_) => self.leader_tick(turn),
        }
    }

    fn durable_through(&mut self, turn: &mut Turn<'_>, io: Io) {
        assert!(io < self.next_io, "only what was asked for becomes durable");
        self.log.written(io);
        if self.vote_io.is_some_and(|vote| vote <= io) {
            self.vote_io = None;
        }
        match &self.part {
            Part::Follower(_) => self.mend(turn),
            Part::Canvass(_) => self.count_votes(turn),
            Part::Leader(_) => self.advance(turn),
        }
    }

    fn hint(&mut self, turn: &mut Turn<'_>, peer: ReplicaId, hint: Hint) {
        match &self.part {
            Part::Follower(_) => self.follower_hint(turn, peer, hint),
            Part::Canvass(_) => {}
            Part::Leader(_) => self.leader_hint(turn, peer, hint),
        }
    }

    fn hear(&mut self, turn: &mut Turn<'_>, message: Message) {
        let Message {
            from,
            to,
            term,
            body,
        } = message;
        let replaced = self
            .configuration()
            .is_some_and(|configuration| configuration.has_replaced(from));
        let mine = to == self.me || planted::is(Bug::NotFenced);
        if !mine || from == self.me || replaced {
            return;
        }
        match body {
            Body::PreVote { last } => return self.asked_before_vote(turn, from, term, last),
            Body::Lost => return self.stirred_by(turn, from),
            Body::PreVoteReply { granted: true } => return self.encouraged(turn, from, term),
            // Whoever hears a leader does not let itself be drawn into a new term (thesis, 4.2.3).
            Body::Vote {
                transfer: false, ..
            } if term > self.term && self.is_faithful(turn.now) => {
                return;
            }
            _ => {}
        }
        if term < self.term {
            if body.is_request() {
                self.send(turn, from, Body::Stale, None);
            }
            return;
        }
        if term > self.term {
            self.enter_term(turn, term);
        }
        self.hear_in_term(turn, from, body);
    }

    fn hear_in_term(&mut self, turn: &mut Turn<'_>, from: ReplicaId, body: Body) {
        match body {
            Body::PreVote { .. } | Body::Lost | Body::Stale => {}
            Body::PreVoteReply { granted } => self.told_before_vote(turn, from, granted),
            Body::Vote { last, transfer } => self.asked_for_vote(turn, from, last, transfer),
            Body::VoteReply { granted } => self.voted(turn, from, granted),
            Body::Append {
                previous,
                spans,
                configurations,
                watermarks,
                round,
                cure,
            } => {
                let news = crate::follow::News {
                    previous,
                    spans,
                    configurations,
                    watermarks,
                    round,
                    cure,
                };
                self.told_entries(turn, from, news);
            }
            Body::Heartbeat {
                watermarks,
                matched,
                round,
                quiesce,
                cure,
            } => {
                let beat = crate::follow::Beat {
                    watermarks,
                    matched,
                    round,
                    quiesce,
                    cure,
                };
                self.told_heartbeat(turn, from, &beat);
            }
            Body::Snapshot {
                start,
                previous_term,
                configuration,
                round,
            } => self.told_snapshot(turn, from, (start, previous_term), configuration, round),
            Body::TimeoutNow => self.told_to_run(turn, from),
            Body::Appended {
                matched,
                round,
                damage,
            } => {
                if self.heard_from(turn, from, round, damage) {
                    self.answered_appended(turn, from, matched);
                }
            }
            Body::Diverged {
                at,
                ends,
                round,
                damage,
            } => {
                if self.heard_from(turn, from, round, damage) {
                    self.answered_diverged(turn, from, at, &ends);
                }
            }
            Body::HeartbeatReply { round, damage } => {
                if self.heard_from(turn, from, round, damage) {
                    self.answered_heartbeat(turn, from);
                }
            }
        }
    }

    /// A greater term than this replica's: whatever it was at in its own is over.
    pub(crate) fn enter_term(&mut self, turn: &mut Turn<'_>, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
        self.vote_changed = true;
        self.become_follower(turn, None);
    }

    /// Sends, as soon as what the message says of this replica is durable: its term and vote, and the
    /// write that the caller names.
    pub(crate) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplicaId,
        body: Body,
        after: Option<Io>,
    ) {
        self.send_as(turn, to, self.term, body, after);
    }

    pub(crate) fn send_as(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplicaId,
        term: Term,
        body: Body,
        after: Option<Io>,
    ) {
        self.write_vote(turn);
        let message = Message {
            from: self.me,
            to,
            term,
            body,
        };
        turn.effects.push(Effect::Send {
            message,
            after: after.max(self.vote_io),
        });
    }

    /// Writes the term and the vote if they have changed: once a step, however often they did.
    pub(crate) fn write_vote(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut self.vote_changed) {
            return;
        }
        let io = self.take_io();
        self.vote_io = Some(io);
        if planted::is(Bug::VoteNotPersisted) {
            self.vote_io = None;
        }
        turn.effects.push(Effect::PersistVote {
            io,
            term: self.term,
            vote: self.vote,
        });
    }

    pub(crate) fn take_io(&mut self) -> Io {
        let io = self.next_io;
        self.next_io = Io(io.0 + 1);
        io
    }

    pub(crate) fn tell_role(&self, turn: &mut Turn<'_>) {
        turn.effects.push(Effect::RoleChanged {
            role: self.role(),
            term: self.term,
            leader: self.leader(),
        });
    }

    /// The membership in force has changed: by an entry, or by one that was cut.
    pub(crate) fn tell_configuration(&self, turn: &mut Turn<'_>) {
        if let Some((index, configuration)) = self.history.latest() {
            turn.effects.push(Effect::ConfigurationInForce {
                index: *index,
                configuration: configuration.clone(),
            });
        }
    }

    /// Not done. Whoever comes to a quiet follower may have been to its leader in vain: it counts the
    /// time again.
    pub(crate) fn reject(&mut self, turn: &mut Turn<'_>, token: Token, reason: Rejection) {
        turn.effects.push(Effect::Rejected { token, reason });
        if matches!(reason, Rejection::NotLeader { .. }) {
            self.stirred(turn);
        }
    }

    pub(crate) fn not_leader(&self) -> Rejection {
        Rejection::NotLeader {
            leader: self.leader(),
        }
    }

    pub(crate) fn election_time(&self, now: Time, random: &mut dyn Random) -> Time {
        let spread = u64::try_from(self.settings.election_spread.as_nanos()).unwrap_or(u64::MAX);
        let added = random.next() % spread.saturating_add(1).max(1);
        now.after(self.settings.election_timeout)
            .after(std::time::Duration::from_nanos(added))
    }

    /// Whether it may lead: it votes in the membership in force, or did in one that may still come
    /// back. Without one that is being removed nobody might be electable until that is committed
    /// (thesis, section 4.2.2); it does not count itself then.
    pub(crate) fn may_lead(&self) -> bool {
        let undecided = self.history.undecided(self.log.marks().commit);
        let mut memberships = undecided.iter().map(|(_, configuration)| configuration);
        memberships.any(|configuration| configuration.is_voter(self.me))
    }

    /// Whether its vote can be trusted to be one.
    pub(crate) fn may_vote(&self, now: Time) -> bool {
        let sound = self.condition == Condition::Sound || planted::is(Bug::DamagedVotes);
        sound && now >= self.no_vote_before
    }
}

/// What others may look at.
impl Group {
    /// When it next wants a [`Tick`](Input::Tick); none: only when something else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.dead {
            return None;
        }
        match &self.part {
            Part::Follower(follower) => follower.election_at(),
            Part::Canvass(canvass) => Some(canvass.again_at),
            Part::Leader(leader) => leader.deadline(&self.settings),
        }
    }

    /// Which replica this is.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.me
    }

    /// Its part.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.part {
            Part::Follower(_) => Role::Follower,
            Part::Canvass(canvass) => canvass.role(),
            Part::Leader(leader) if leader.serves(&self.log) => Role::Leader,
            Part::Leader(_) => Role::Elected,
        }
    }

    /// The greatest term that it knows.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it voted for in it.
    #[must_use]
    pub fn vote(&self) -> Option<ReplicaId> {
        self.vote
    }

    /// The leader of the term, if it knows one.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        match &self.part {
            Part::Follower(follower) => follower.leader(),
            Part::Canvass(_) => None,
            Part::Leader(_) => Some(self.me),
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// Up to where its log is on its disk.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.log.durable()
    }

    /// Up to where it knows the log to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.log.marks().commit
    }

    /// Up to where it knows the log to be visible to consumers.
    #[must_use]
    pub fn visible(&self) -> Index {
        self.log.marks().visible
    }

    /// The first entry that is kept.
    #[must_use]
    pub fn log_start(&self) -> Index {
        self.log.start()
    }

    /// The term of an entry that is there, or of the one before the first.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The last entry of each term in the log, in order.
    #[must_use]
    pub fn term_ends(&self) -> Vec<Position> {
        self.log.ends().to_vec()
    }

    /// The membership in force; none on a replica that has not heard of any.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        self.history
            .latest()
            .map(|(_, configuration)| configuration)
    }

    /// The memberships in the log, and the one in force at its start.
    #[must_use]
    pub fn configurations(&self) -> Vec<(Index, Configuration)> {
        self.history.between(Index(0), Index(u64::MAX))
    }

    /// Up to where a follower's log is known to agree with this leader's.
    #[must_use]
    pub fn matched(&self, peer: ReplicaId) -> Option<Index> {
        match &self.part {
            Part::Leader(leader) => leader.peers.get(&peer).map(|progress| progress.matched),
            _ => None,
        }
    }

    /// The voters that are in sync, as this leader sees them; nobody, on a follower.
    #[must_use]
    pub fn in_sync(&self) -> Vec<ReplicaId> {
        match &self.part {
            Part::Leader(leader) => leader.in_sync.iter().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it waits for nothing but others.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.deadline().is_none()
    }

    /// Whether its log lacks what was acknowledged.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }
}

impl Turn<'_> {
    /// Notes what was appended just now.
    pub(crate) fn appended(&mut self, span: Span) {
        self.fresh.push(span);
    }

    /// A piece of the log from `first` on.
    pub(crate) fn cut(&self, first: Index, last: Index, most_bytes: u64) -> crate::input::Cut {
        let fresh = self.fresh.iter().find(|span| span.first == first);
        if let Some(span) = fresh {
            return crate::input::Cut::Span(*span);
        }
        let before_fresh = self.fresh.first().map(|span| span.first.previous());
        let cut = self.log.cut(
            first,
            before_fresh.map_or(last, |before| before.min(last)),
            most_bytes,
        );
        if let crate::input::Cut::Span(span) = &cut {
            assert!(
                span.first == first && span.last >= first && span.last <= last,
                "the view cuts what it is asked for"
            );
        }
        cut
    }
}

impl Body {
    /// Whether the sender of it should know that its term is over.
    fn is_request(&self) -> bool {
        matches!(
            self,
            Body::Vote { .. }
                | Body::Append { .. }
                | Body::Heartbeat { .. }
                | Body::Snapshot { .. }
        )
    }
}
