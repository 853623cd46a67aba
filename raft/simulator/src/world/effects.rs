//! Carrying out what a core wants done, as a broker's driver does, and holding each effect against
//! the oracles.

use raft::{
    Acks, Content, Effect, Index, Input, Io, Message, ReplicaId, Role, Settings, Span, Term,
};
use smallvec::SmallVec;

use super::clients::Call;
use super::{Event, World};
use crate::check::{Broken, Load, Rule, Sender, check_departure, hold};
use crate::disk::{Record, Stored};
use crate::log::Value;
use crate::replica::{Packet, Process, Received};

/// The share of snapshots that cannot be sent: what belongs to them could not be read.
const SNAPSHOT_FAILS: f64 = 0.1;

impl World {
    pub(super) fn carry_out(
        &mut self,
        node: usize,
        effect: Effect,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        self.tell_effect(node, &effect);
        match effect {
            Effect::PersistVote { io, term, vote } => {
                self.write(node, Record::Vote { term, vote }, Some(io))
            }
            Effect::Append { io, span, content } => self.append(node, io, span, content, received),
            Effect::Truncate { io, last } => self.truncate(node, io, last),
            Effect::Reset {
                io,
                start,
                previous_term,
            } => self.reset(node, io, start, previous_term, received),
            Effect::Send { message, after } => self.send(node, message, after, received),
            Effect::ReadSpan { to, first } => {
                self.read_span(node, to, first);
                Ok(())
            }
            Effect::Committed(index) => self.committed(node, index),
            Effect::Visible(index) => self.shown(node, index),
            Effect::ReadReady { token, index } => self.read_ready(node, token, index),
            Effect::RoleChanged { role, term, leader } => {
                self.role_changed(node, role, term, leader)
            }
            Effect::ConfigurationInForce {
                index,
                configuration,
            } => {
                let process = self.process(node);
                let latest = process.log.configurations().last();
                let same = latest.is_some_and(|latest| *latest == (index, configuration));
                hold(Rule::OutlineIsLog, same, || {
                    format!("n{node}: {index} is said to be in force, in the log it is {latest:?}")
                })
            }
            Effect::InSync(_) | Effect::Changed(_) | Effect::TransferFailed { .. } => Ok(()),
            Effect::Rejected { token, reason } => {
                self.rejected(node, token, reason);
                Ok(())
            }
            Effect::Repaired => {
                // From here on its copy counts again, and no longer what was lost.
                let id = self.process(node).group.id();
                self.lost.remove(&id);
                self.write(node, Record::Sound, None)
            }
            Effect::Fatal(_) => {
                self.dying.push(node);
                Ok(())
            }
        }
    }

    fn tell_effect(&mut self, node: usize, effect: &Effect) {
        let told = match effect {
            Effect::Send { message, after } => {
                let Message {
                    from,
                    to,
                    term,
                    body,
                } = message;
                self.tell(|| format!("{from} -> {to} after {after:?}: {term} {body:?}"));
                return;
            }
            other => other,
        };
        self.tell(|| format!("n{node}: {told:?}"));
    }

    fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node]
            .process_mut()
            .expect("a process runs while its effects are carried out")
    }

    /// Begins a write. The core's own are numbered one after the other.
    pub(super) fn write(
        &mut self,
        node: usize,
        record: Record,
        io: Option<Io>,
    ) -> Result<(), Broken> {
        let process = self.process(node);
        if let Some(io) = io {
            hold(Rule::EffectsMakeSense, io.0 == process.asked.0 + 1, || {
                format!("n{node} asks for write {io:?} after {:?}", process.asked)
            })?;
            process.asked = io;
        }
        let commit = process.group.commit();
        let state = &mut self.nodes[node];
        let takes = state.write_takes(&self.profile);
        let fails = state.failing > 0;
        let run = state.run;
        if let Some(replica) = &mut state.replica {
            let number = replica.disk.write(record, io, commit);
            self.events.push(
                self.now + takes,
                Event::Written {
                    node,
                    run,
                    number,
                    fails,
                },
            );
        }
        Ok(())
    }

    fn append(
        &mut self,
        node: usize,
        io: Io,
        span: Span,
        content: Content,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        let last = self.process(node).log.last();
        let follows =
            span.first == last.index.next() && span.last >= span.first && span.term >= last.term;
        hold(Rule::EffectsMakeSense, follows, || {
            format!("n{node} appends {span} after {last}")
        })?;
        let (values, configurations) = self.contents(node, &span, &content, received)?;
        let process = self.nodes[node].process_mut().expect("it was there");
        let mut index = span.first;
        for stored in &values {
            let entry = process.log.append(stored.term, stored.value, stored.bytes);
            self.history.appended(index, &entry)?;
            let named = configurations
                .iter()
                .any(|(at, it)| *at == index && Value::configuration(it) == stored.value);
            hold(
                Rule::EffectsMakeSense,
                named == stored.value.is_configuration(),
                || {
                    format!(
                        "n{node}: {index} is a membership, and is not named as one, or not the same one"
                    )
                },
            )?;
            index = index.next();
        }
        process.membership_changed |= !configurations.is_empty();
        for (index, configuration) in &configurations {
            let before = process.log.configurations().last();
            if let Some((_, before)) = before {
                check_joint(before, configuration)?;
            }
            process.log.configure(*index, configuration.clone());
            self.named.extend(configuration.members());
        }
        if matches!(content, Content::NoOp) {
            process.reign = Some(span.first);
        }
        process.fresh = span;
        if let Content::Proposal(token) = content {
            self.proposed(node, &span, token)?;
        }
        let record = Record::Append {
            entries: values,
            configurations,
        };
        self.write(node, record, Some(io))
    }

    /// What the entries of an append are.
    #[expect(
        clippy::type_complexity,
        reason = "entries, and the memberships among them"
    )]
    fn contents(
        &mut self,
        node: usize,
        span: &Span,
        content: &Content,
        received: Option<&Received>,
    ) -> Result<(SmallVec<[Stored; 2]>, Vec<(Index, raft::Configuration)>), Broken> {
        let one = |value| {
            let stored = Stored {
                term: span.term,
                value,
                bytes: span.bytes,
            };
            SmallVec::from_elem(stored, span.entries() as usize)
        };
        let (values, configurations) = match content {
            Content::NoOp => (one(Value::NO_OP), Vec::new()),
            Content::Configuration(configuration) => (
                one(Value::configuration(configuration)),
                vec![(span.first, configuration.clone())],
            ),
            Content::Proposal(_) => (self.proposed_entries(span), Vec::new()),
            Content::Received => {
                let process = self.process(node);
                let knows_none = process.log.configurations().is_empty();
                // The founding membership is no entry: it comes with the first, to whom has none.
                let founding =
                    |index: Index| index == Index(0) && span.first == Index(1) && knows_none;
                let inside =
                    |index: Index| founding(index) || (span.first..=span.last).contains(&index);
                let received = received.filter(|received| received.first <= span.first);
                let Some(received) = received else {
                    return hold(Rule::EffectsMakeSense, false, || {
                        format!("n{node} takes up {span}, which did not come")
                    })
                    .map(|()| Default::default());
                };
                let skipped = (span.first.0 - received.first.0) as usize;
                let entries = received
                    .entries
                    .iter()
                    .skip(skipped)
                    .take(span.entries() as usize);
                let named = received
                    .configurations
                    .iter()
                    .filter(|(index, _)| inside(*index));
                (entries.copied().collect(), named.cloned().collect())
            }
        };
        let bytes: u64 = values.iter().map(|stored: &Stored| stored.bytes).sum();
        // Of a span that was there in part, the core does not know how many bytes the rest has.
        let is_part = matches!(content, Content::Received) && bytes < span.bytes;
        let whole = values.len() as u64 == span.entries()
            && (bytes == span.bytes || is_part)
            && values.iter().all(|stored| stored.term == span.term);
        hold(Rule::EffectsMakeSense, whole, || {
            format!("n{node} appends {span:?} as {content:?}, which is {values:?}")
        })?;
        Ok((values, configurations))
    }

    fn truncate(&mut self, node: usize, io: Io, last: Index) -> Result<(), Broken> {
        let replica = self.nodes[node].replica.as_mut().expect("it was there");
        let process = replica.process.as_mut().expect("it was there");
        let there = last < process.log.last_index() && last >= process.log.start().previous();
        hold(Rule::EffectsMakeSense, there, || {
            format!(
                "n{node} cuts all after {last}; its log ends at {}",
                process.log.last()
            )
        })?;
        self.history.cut(replica.id, last, &process.log)?;
        replica
            .promises
            .check_cut(replica.id, process.group.term(), last)?;
        process.log.truncate(last);
        process.membership_changed = true;
        process.forget_after(last);
        self.write(node, Record::Truncate(last), Some(io))
    }

    fn reset(
        &mut self,
        node: usize,
        io: Io,
        start: Index,
        previous_term: Term,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        let committed = self.history.committed_at(start.previous());
        let base = committed.filter(|base| base.term == previous_term);
        let configuration = received.and_then(|received| received.snapshot.clone());
        let (Some(base), Some(configuration)) = (base, configuration) else {
            return hold(Rule::CommittedStays, false, || {
                format!(
                    "n{node} begins anew at {start} after {previous_term}; committed is {committed:?}"
                )
            });
        };
        let process = self.process(node);
        process.log.reset(start, base, configuration.clone());
        process.forget_after(Index(0));
        process.membership_changed = true;
        let record = Record::Reset {
            start,
            base,
            configuration,
        };
        self.write(node, record, Some(io))
    }

    /// It votes now, though the vote leaves when it is written.
    fn check_faith(&mut self, node: usize, vote: (Term, ReplicaId)) -> Result<(), Broken> {
        let patience = self.profile.faithful_for();
        let replica = self.nodes[node].replica.as_mut().expect("it was there");
        replica
            .faith
            .check_vote(replica.id, vote, self.now, patience)
    }

    fn send(
        &mut self,
        node: usize,
        message: Message,
        after: Option<Io>,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        let process = self.nodes[node].process_mut().expect("it was there");
        let sound = message.from == process.group.id() && message.to != message.from;
        let asked = after.is_none_or(|io| io <= process.asked);
        hold(Rule::EffectsMakeSense, sound && asked, || {
            format!(
                "n{node} sends {message:?} after {after:?}, asked was {:?}",
                process.asked
            )
        })?;
        let term = message.term;
        match message.body {
            raft::Body::TimeoutNow => process.handed_over = Some(term),
            raft::Body::VoteReply { granted: true } if !received.is_some_and(|it| it.transfer) => {
                self.check_faith(node, (term, message.to))?;
            }
            raft::Body::Vote {
                transfer: false, ..
            } => self.check_faith(node, (term, message.from))?,
            _ => {}
        }
        let settings = &self.profile.settings;
        let process = self.nodes[node].process_mut().expect("it was there");
        let packet = Box::new(process.attach(message));
        check_flow(process, &packet, settings)?;
        if let raft::Body::Snapshot { .. } = packet.message.body
            && process.random.0.chance(SNAPSHOT_FAILS)
        {
            let call = Call::Operate(Input::SnapshotFailed(packet.message.to));
            self.events.push(self.now, Event::Call { node, call });
            return Ok(());
        }
        match after {
            Some(io) if io > process.durable => {
                process.outbox.push((io, packet));
                Ok(())
            }
            _ => self.depart(node, packet),
        }
    }

    /// A message leaves.
    pub(super) fn depart(&mut self, node: usize, packet: Box<Packet>) -> Result<(), Broken> {
        let to = packet.message.to;
        let replica = self.nodes[node]
            .replica
            .as_mut()
            .expect("whoever sends is there");
        let mut promises = std::mem::take(&mut replica.promises);
        let replica = self.nodes[node]
            .replica
            .as_ref()
            .expect("whoever sends is there");
        let process = replica.process.as_ref().expect("whoever sends runs");
        let receiver = self.nodes[to.node.0 as usize].process();
        let answers =
            receiver.filter(|it| it.group.id() == to && it.leads() == Some(packet.message.term));
        let mut sender = Sender {
            image: replica.disk.image(),
            is_damaged: process.group.condition() == raft::Condition::Damaged,
            promises: &mut promises,
            leader_log: answers.map(|process| &process.log),
        };
        check_departure(&packet.message, &mut sender, &mut self.history)?;
        if let Some(replica) = &mut self.nodes[node].replica {
            replica.promises = promises;
        }
        if matches!(packet.message.body, raft::Body::TimeoutNow) {
            self.deafen(node);
        }
        let bytes: u64 = packet.entries.iter().map(|entry| entry.bytes).sum();
        let to = to.node.0 as usize;
        let bytes = 64 + bytes as usize;
        if self.profile.ordered {
            let at = self.network.route_stream(self.now, node, to, bytes);
            if let Some(at) = at {
                self.events.push(at, Event::Arrive(packet));
            }
            return Ok(());
        }
        let mut arrivals = self.network.route(self.now, node, to, bytes);
        let Some(last) = arrivals.pop() else {
            return Ok(());
        };
        for at in arrivals {
            self.events.push(at, Event::Arrive(packet.clone()));
        }
        self.events.push(last, Event::Arrive(packet));
        Ok(())
    }

    fn read_span(&mut self, node: usize, to: ReplicaId, first: Index) {
        let state = &mut self.nodes[node];
        let takes = state.disk_draws.exponential(self.profile.read_delay);
        let run = state.run;
        self.events.push(
            self.now + takes,
            Event::SpanRead {
                node,
                run,
                to,
                first,
            },
        );
    }

    fn committed(&mut self, node: usize, index: Index) -> Result<(), Broken> {
        let (copies_of, lost) = (&self.nodes, &self.lost);
        let process = copies_of[node].process().expect("it was there");
        let id = process.group.id();
        if !matches!(process.role, Role::Leader | Role::Elected) {
            return self.history.follower_commits(id, index, &process.log);
        }
        let configuration = process.log.configurations().last();
        let (_, configuration) = configuration.expect("a leader is a member of something");
        let copies = super::node::Copies {
            nodes: copies_of,
            lost,
        };
        let leader = (id, process.group.term());
        self.history
            .leader_commits(leader, index, &process.log, configuration, &copies)
    }

    fn shown(&mut self, node: usize, index: Index) -> Result<(), Broken> {
        let process = self.nodes[node].process_mut().expect("it was there");
        if matches!(process.role, Role::Leader | Role::Elected) {
            self.history.shown(index);
        }
        hold(
            Rule::WatermarksInOrder,
            index <= self.history.visible(),
            || {
                format!(
                    "n{node} shows {index}; no leader has shown more than {}",
                    self.history.visible()
                )
            },
        )?;
        let waiting = &mut process.waiting.visible;
        while let Some((last, chain, _)) = waiting.front().copied()
            && last <= index
        {
            waiting.pop_front();
            self.history.acknowledged(last, chain)?;
        }
        Ok(())
    }

    fn role_changed(
        &mut self,
        node: usize,
        role: Role,
        term: Term,
        leader: Option<ReplicaId>,
    ) -> Result<(), Broken> {
        let replica = self.nodes[node].replica.as_mut().expect("it was there");
        let own_is_written = replica.disk.image().has_voted(term, replica.id);
        let process = replica.process.as_mut().expect("it was there");
        let id = process.group.id();
        let led = matches!(process.role, Role::Elected | Role::Leader);
        process.role = role;
        let leads = matches!(role, Role::Elected | Role::Leader);
        hold(Rule::EffectsMakeSense, !leads || leader == Some(id), || {
            format!("{id} leads and names {leader:?}")
        })?;
        if leads && !led {
            let configuration = process.log.configurations().last();
            let (_, configuration) = configuration.expect("a leader is a member of something");
            self.history
                .check_votes(id, term, own_is_written, configuration)?;
        }
        if leads {
            self.history.elected(id, term, &process.log)?;
        } else {
            process.reign = None;
            process.flows.clear();
            process.waiting.durable.clear();
        }
        self.healing.leads(role, self.now);
        Ok(())
    }

    fn proposed(&mut self, node: usize, span: &Span, token: raft::Token) -> Result<(), Broken> {
        let settings = &self.profile.settings;
        let process = self.nodes[node].process_mut().expect("it was there");
        let proposal = self.proposing.take();
        let Some(proposal) = proposal.filter(|proposal| proposal.token == token) else {
            return hold(Rule::EffectsMakeSense, false, || {
                format!("n{node} appends {span} for {token:?}, when {proposal:?} was handed in")
            });
        };
        let bytes = process.uncommitted();
        let alone = bytes == proposal.bytes;
        hold(
            Rule::UncommittedIsBounded,
            alone || bytes <= settings.uncommitted_bytes,
            || format!("n{node} accepts {proposal:?} and has {bytes} uncommitted bytes"),
        )?;
        let waits = (span.last, process.log.end().chain, token);
        match proposal.acks {
            Acks::Leader => process.waiting.durable.push_back(waits),
            Acks::All => {
                let in_sync = process.group.in_sync().len();
                hold(Rule::InSyncHasIt, in_sync >= settings.min_in_sync, || {
                    format!("n{node} accepts {proposal:?} with {in_sync} in sync")
                })?;
                process.waiting.visible.push_back(waits);
            }
        }
        Ok(())
    }

    fn proposed_entries(&mut self, span: &Span) -> SmallVec<[Stored; 2]> {
        let each = span.bytes / span.entries();
        let rest = span.bytes % span.entries();
        (0..span.entries())
            .map(|number| {
                self.next_value += 1;
                Stored {
                    term: span.term,
                    value: Value::client(self.next_value),
                    bytes: if number == 0 { each + rest } else { each },
                }
            })
            .collect()
    }
}

/// Voters change by way of a membership in which both sets count.
fn check_joint(before: &raft::Configuration, after: &raft::Configuration) -> Result<(), Broken> {
    let (old_voters, old_outgoing, _) = before.parts();
    let (voters, outgoing, _) = after.parts();
    let same = voters == old_voters && (outgoing.is_none() || outgoing == old_outgoing);
    let begins = old_outgoing.is_none() && outgoing.as_ref() == Some(&old_voters);
    hold(Rule::ChangesAreJoint, same || begins, || {
        format!("{before}, then {after}")
    })
}

/// What is under way to a follower, with this message, is no more than may be.
fn check_flow(process: &mut Process, packet: &Packet, settings: &Settings) -> Result<(), Broken> {
    let raft::Body::Append { previous, .. } = &packet.message.body else {
        return Ok(());
    };
    let to = packet.message.to;
    if packet.entries.is_empty() {
        // A question: what went before it counts as lost.
        process.flows.forget(to);
        return Ok(());
    }
    let load = Load {
        previous: previous.index,
        last: Index(previous.index.0 + packet.entries.len() as u64),
        bytes: packet.entries.iter().map(|entry| entry.bytes).sum(),
    };
    // What was appended in this very step goes whole: nobody knows yet where to cut it.
    let fresh = (process.fresh.first, process.fresh.last);
    let whole = (load.previous.next(), load.last) == fresh || load.last == load.previous.next();
    let short = load.bytes <= settings.message_bytes;
    hold(Rule::InFlightIsBounded, whole || short, || {
        let most = settings.message_bytes;
        format!("{load:?}: a message has at most {most} bytes")
    })?;
    // One that is no member any more is told that as the last thing.
    match process.group.matched(to) {
        Some(matched) => process.flows.sent(to, load, matched, settings),
        None => Ok(()),
    }
}
