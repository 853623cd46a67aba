//! What a leader sends to whom: as much as is allowed to be under way, and again what seems lost.

use crate::group::{Group, Part, Turn};
use crate::input::{Cut, Effect};
use crate::message::Body;
use crate::progress::Flow;
use crate::types::{Index, Position, ReplicaId, Span, Time};

/// By how much longer than an append a snapshot may take before it is sent again.
const SNAPSHOT_PATIENCE: u32 = 4;

/// What there is to be sent to a follower next.
enum Next {
    Nothing,
    /// Entries from here on, if there are any; else the question alone.
    Entries {
        first: Index,
        most_bytes: u64,
    },
    Snapshot,
}

impl Group {
    pub(crate) fn send_to_all(&mut self, turn: &mut Turn<'_>) {
        let peers: Vec<ReplicaId> = match &self.part {
            Part::Leader(leader) => leader.peers.keys().copied().collect(),
            _ => return,
        };
        for peer in peers {
            self.send_entries(turn, peer);
        }
    }

    /// Sends a follower what it lacks, as far as that may be.
    pub(crate) fn send_entries(&mut self, turn: &mut Turn<'_>, to: ReplicaId) {
        loop {
            match self.next_for(to) {
                Next::Nothing => return,
                Next::Snapshot => return self.send_snapshot(turn, to),
                Next::Entries { first, most_bytes } => {
                    if !self.send_span(turn, to, first, most_bytes) {
                        return;
                    }
                }
            }
        }
    }

    fn next_for(&self, to: ReplicaId) -> Next {
        let (last, base) = (self.log.last().index, self.log.base().index);
        let settings = &self.settings;
        let peer = match &self.part {
            Part::Leader(leader) => leader.peers.get(&to),
            _ => None,
        };
        let Some(peer) = peer else {
            return Next::Nothing;
        };
        let (first, most_bytes) = match &peer.flow {
            Flow::Snapshot { .. } | Flow::Probe { asked: Some(_), .. } => return Next::Nothing,
            // Asked once without an answer, it is asked again without entries: nobody may be there.
            Flow::Probe { next, again, .. } => {
                (*next, if *again { 0 } else { settings.message_bytes })
            }
            Flow::Replicate { next, .. } if *next > last => return Next::Nothing,
            Flow::Replicate { in_flight, .. } if in_flight.is_full(settings) => {
                return Next::Nothing;
            }
            Flow::Replicate { next, in_flight } => (*next, in_flight.room(settings)),
        };
        match first.previous() < base {
            true => Next::Snapshot,
            false => Next::Entries { first, most_bytes },
        }
    }

    /// One message. Tells whether another one may follow.
    fn send_span(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplicaId,
        first: Index,
        most_bytes: u64,
    ) -> bool {
        let last = self.log.last().index;
        let span = if first > last || most_bytes == 0 {
            None
        } else {
            match turn.cut(first, last, most_bytes) {
                Cut::Span(span) if self.fits(to, &span) => Some(span),
                Cut::Span(_) => return false,
                Cut::NotResident => {
                    self.read_span(turn, to, first);
                    return false;
                }
            }
        };
        let before = first.previous();
        let term = self
            .log
            .term_at(before)
            .expect("what is not before the log's start is there");
        self.note_sent(to, span.as_ref(), turn.now);
        self.send_append(turn, to, Position::new(before, term), span);
        true
    }

    /// Whether it may be under way beside what is: one that is longer than all that may be goes alone.
    fn fits(&self, to: ReplicaId, span: &Span) -> bool {
        let Part::Leader(leader) = &self.part else {
            return false;
        };
        match leader.peers.get(&to).map(|peer| &peer.flow) {
            Some(Flow::Replicate { in_flight, .. }) => in_flight.fits(span.bytes, &self.settings),
            _ => true,
        }
    }

    fn read_span(&mut self, turn: &mut Turn<'_>, to: ReplicaId, first: Index) {
        let Some(peer) = self.leading().and_then(|leader| leader.peers.get_mut(&to)) else {
            return;
        };
        if !std::mem::replace(&mut peer.reading, true) {
            turn.effects.push(Effect::ReadSpan { to, first });
        }
    }

    fn note_sent(&mut self, to: ReplicaId, span: Option<&Span>, now: Time) {
        let Some(peer) = self.leading().and_then(|leader| leader.peers.get_mut(&to)) else {
            return;
        };
        peer.sent = now;
        match (&mut peer.flow, span) {
            (Flow::Probe { asked, .. }, _) => *asked = Some(now),
            (Flow::Replicate { next, in_flight }, Some(span)) => {
                in_flight.push(span.last, span.bytes, now);
                *next = span.last.next();
            }
            (Flow::Replicate { .. } | Flow::Snapshot { .. }, _) => {}
        }
    }

    fn send_append(
        &mut self,
        turn: &mut Turn<'_>,
        to: ReplicaId,
        previous: Position,
        span: Option<Span>,
    ) {
        let watermarks = self.log.marks();
        // The membership that the group was founded with is in no entry: it goes with the first.
        let from = |first: Index| if first == Index(1) { Index(0) } else { first };
        let configurations = span.map_or(Vec::new(), |span| {
            self.history.between(from(span.first), span.last)
        });
        let Part::Leader(leader) = &self.part else {
            return;
        };
        let body = Body::Append {
            previous,
            spans: span.into_iter().collect(),
            configurations,
            watermarks,
            round: leader.reading.round(),
            cure: leader.peers.get(&to).and_then(|peer| peer.cure),
        };
        self.send(turn, to, body, None);
    }

    fn send_snapshot(&mut self, turn: &mut Turn<'_>, to: ReplicaId) {
        let (start, base) = (self.log.start(), self.log.base());
        let configuration = self.history.before(start).cloned();
        let again_at = turn
            .now
            .after(self.settings.resend_after * SNAPSHOT_PATIENCE);
        let (Part::Leader(leader), Some(configuration)) = (&mut self.part, configuration) else {
            return;
        };
        let round = leader.reading.round();
        let Some(peer) = leader.peers.get_mut(&to) else {
            return;
        };
        peer.flow = Flow::Snapshot { start, again_at };
        peer.sent = turn.now;
        let body = Body::Snapshot {
            start,
            previous_term: base.term,
            configuration,
            round,
        };
        self.send(turn, to, body, None);
    }

    /// What was not answered in time goes again: first a question, so that a follower that is not
    /// there costs little.
    pub(crate) fn send_again(&mut self, turn: &mut Turn<'_>) {
        let (resend_after, now) = (self.settings.resend_after, turn.now);
        let Some(leader) = self
            .leading()
            .filter(|leader| leader.heartbeat_at.is_some())
        else {
            return;
        };
        let mut late = Vec::new();
        for (id, peer) in &mut leader.peers {
            if peer.resend_at(resend_after).is_some_and(|at| now >= at) {
                let next = match &peer.flow {
                    Flow::Probe { next, .. } => *next,
                    Flow::Replicate { .. } | Flow::Snapshot { .. } => peer.matched.next(),
                };
                peer.probe(next, true);
                late.push(*id);
            }
        }
        for peer in late {
            self.send_entries(turn, peer);
        }
    }

    /// `Input::SpanReady`.
    pub(crate) fn span_ready(&mut self, turn: &mut Turn<'_>, to: ReplicaId) {
        if let Some(peer) = self.leading().and_then(|leader| leader.peers.get_mut(&to)) {
            peer.reading = false;
            self.send_entries(turn, to);
        }
    }

    /// `Input::SnapshotFailed`.
    pub(crate) fn snapshot_failed(&mut self, turn: &mut Turn<'_>, to: ReplicaId) {
        let again = turn.now.after(self.settings.resend_after);
        let peer = self.leading().and_then(|leader| leader.peers.get_mut(&to));
        if let Some(Flow::Snapshot { again_at, .. }) = peer.map(|peer| &mut peer.flow) {
            *again_at = again;
        }
    }
}
