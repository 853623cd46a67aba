//! What a driver does for its replicas: it carries out their effects, in order, and writes them into
//! the trace.

use raft::{
    Body, CommitRule, Configuration, Content, Effect, Index, Input, Io, Message, Position,
    ReplicaId, Span, Token,
};

use super::{Flight, Line, Stage};
use crate::actor::{Entries, Entry, Payload, Write};
use crate::wording;

/// What came with the message that is being handled.
#[derive(Default)]
struct Received {
    /// The index of the first entry.
    first: Index,
    entries: Vec<Entry>,
    /// A snapshot's.
    members: Option<(Index, Configuration)>,
}

impl Received {
    fn with(input: &Input, entries: &[Entry]) -> Received {
        let Input::Message(Message { body, .. }) = input else {
            return Received::default();
        };
        match body {
            Body::Append { spans, .. } => Received {
                first: spans.first().map_or(Index(0), |span| span.first),
                entries: entries.to_vec(),
                members: None,
            },
            Body::Snapshot { configuration, .. } => Received {
                members: Some(configuration.clone()),
                ..Received::default()
            },
            _ => Received::default(),
        }
    }

    fn entries_of(&self, span: &Span) -> Vec<Entry> {
        let place =
            |index: Index| usize::try_from(index.0 - self.first.0).expect("scenarios are short");
        self.entries[place(span.first)..=place(span.last)].to_vec()
    }
}

impl Stage {
    /// Names what is asked for.
    pub(super) fn ask(&mut self, name: &str) -> Token {
        self.asked.push(name.to_owned());
        Token(self.asked.len() as u64 - 1)
    }

    fn asked(&self, token: Token) -> String {
        self.asked[usize::try_from(token.0).expect("scenarios are short")].clone()
    }

    pub(super) fn step(&mut self, id: ReplicaId, input: Input, entries: &[Entry]) {
        let received = Received::with(&input, entries);
        let now = self.now;
        let actor = self.actor(id);
        let mut group = actor.group.take().expect("it is up");
        let mut effects = Vec::new();
        group.step(now, input, &actor.log, &mut actor.luck, &mut effects);
        actor.group = Some(group);
        for effect in effects {
            self.tell(id, &effect);
            self.carry_out(id, effect, &received);
        }
        if !self.actor(id).disk_is_held {
            self.write(id);
        }
    }

    /// The disk does what it was asked for.
    pub(super) fn write(&mut self, id: ReplicaId) {
        let actor = self.actor(id);
        let Some(io) = actor.write_all() else {
            return;
        };
        let may_leave = |(after, _): &mut (Io, Flight)| *after <= io;
        let leaving: Vec<(Io, Flight)> = actor.waiting.extract_if(.., may_leave).collect();
        for (_, flight) in leaving {
            self.send(flight);
        }
        self.step(id, Input::Durable(io), &[]);
    }

    /// Writes an effect into the trace. Appends and messages are told with what is in them, when they
    /// are carried out.
    fn tell(&mut self, id: ReplicaId, effect: &Effect) {
        // Who is in sync is of interest where somebody waits for them.
        let waits =
            self.settings.commit_rule == CommitRule::InSync || self.settings.min_in_sync > 1;
        let words = match effect {
            Effect::Visible(_) | Effect::InSync(_) if !waits => None,
            Effect::ReadReady { token, index } => {
                Some(format!("answers {} from {index} on", self.asked(*token)))
            }
            Effect::Changed(token) => Some(format!("has done {}", self.asked(*token))),
            Effect::Rejected { token, reason } => {
                Some(format!("refuses {}: {reason}", self.asked(*token)))
            }
            _ => wording::effect(effect),
        };
        if let Some(words) = words {
            self.note(format!("{id} {words}"));
        }
    }

    fn carry_out(&mut self, id: ReplicaId, effect: Effect, received: &Received) {
        match effect {
            Effect::PersistVote { io, term, vote } => {
                self.ask_disk(id, io, Write::Vote(term, vote));
            }
            Effect::Append { io, span, content } => {
                let entries = self.resolve(&span, content, received);
                let words = wording::entries(span.first, &entries);
                self.note(format!("{id} appends {words}"));
                self.actor(id).log.append(entries.clone());
                self.ask_disk(id, io, Write::Append(entries));
            }
            Effect::Truncate { io, last } => {
                self.actor(id).log.truncate(last);
                self.ask_disk(id, io, Write::Truncate(last));
            }
            Effect::Reset {
                io,
                start,
                previous_term,
            } => {
                let base = Position::new(start.previous(), previous_term);
                let log = Entries::beginning_after(base, received.members.clone());
                self.actor(id).log = log.clone();
                self.ask_disk(id, io, Write::Reset(log));
            }
            Effect::Send { message, after } => {
                let entries = self.attach(&message);
                let flight = Flight { message, entries };
                match after {
                    Some(io) => self.actor(id).waiting.push((io, flight)),
                    None => self.send(flight),
                }
            }
            Effect::ReadSpan { .. } => panic!("everything is in memory here"),
            // News for the driver's other parts: told, and that is all.
            Effect::Committed(_)
            | Effect::Visible(_)
            | Effect::ReadReady { .. }
            | Effect::RoleChanged { .. }
            | Effect::ConfigurationInForce { .. }
            | Effect::InSync(_)
            | Effect::Changed(_)
            | Effect::Rejected { .. }
            | Effect::TransferFailed { .. }
            | Effect::Repaired
            | Effect::Fatal(_) => {}
        }
    }

    fn ask_disk(&mut self, id: ReplicaId, io: Io, write: Write) {
        self.actor(id).writes.push_back((io, write));
    }

    fn resolve(&self, span: &Span, content: Content, received: &Received) -> Vec<Entry> {
        let payload = match content {
            Content::Proposal(token) => Payload::Text(self.asked(token)),
            Content::NoOp => Payload::NoOp,
            Content::Configuration(configuration) => Payload::Members(configuration),
            Content::Received => return received.entries_of(span),
        };
        vec![Entry {
            term: span.term,
            payload,
        }]
    }

    /// The entries that travel in a message.
    fn attach(&self, message: &Message) -> Vec<Entry> {
        let Body::Append { spans, .. } = &message.body else {
            return Vec::new();
        };
        let log = &self.actors[&message.from].log;
        let entries = spans.iter().map(|span| log.between(span.first, span.last));
        entries.flatten().collect()
    }

    fn send(&mut self, flight: Flight) {
        let (from, to) = flight.link();
        let told = self.tells_heartbeats || !wording::is_background(&flight.message);
        let mut words = wording::message(&flight);
        let arrives = !self.cut.contains(&(from, to)) && self.at_node_of(to).is_some();
        if arrives {
            self.air.push(flight);
        } else {
            words += " (lost)";
        }
        if told {
            self.said(from, to, words);
        }
    }

    /// Who says the same to several says it once.
    fn said(&mut self, from: ReplicaId, to: ReplicaId, words: String) {
        if let Some(Line::Said {
            from: speaker,
            to: hearers,
            words: before,
        }) = self.trace.last_mut()
            && (*speaker, &*before) == (from, &words)
            && !hearers.contains(&to)
        {
            hearers.push(to);
            return;
        }
        let to = vec![to];
        self.trace.push(Line::Said { from, to, words });
    }
}
