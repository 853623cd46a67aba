//! One replica with its driver: the core, its log in memory, its disk, the writes under way to that,
//! and the messages that wait for them. What it does is a function of its own state and of what
//! reaches it, so that `tables` can remember it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use raft::planted::{self, Bug};
use raft::{
    Acks, Body, Condition, Content, Effect, Group, Index, Input, Io, Message, NodeId, Proposal,
    Random, Recovered, ReplicaId, Role, Settings, Span, Term, Time, Token,
};
use raft_simulator::Rule;

use crate::log::{Entry, Log, Value};
use crate::rules::{Breach, Deed, hold};
use crate::tables::Letter;

/// Time is counted in heartbeats: an election timeout is two of them, the least that the settings
/// allow, and chance adds nothing. Nobody falls quiet, so that being busy changes nothing.
pub(crate) fn settings() -> Settings {
    Settings {
        election_timeout: Duration::from_nanos(2),
        election_spread: Duration::ZERO,
        heartbeat_interval: Duration::from_nanos(1),
        resend_after: Duration::from_nanos(1),
        quiesce_after: None,
        ..Settings::default()
    }
}

pub(crate) fn replica(node: usize) -> ReplicaId {
    ReplicaId {
        node: NodeId(node as u32),
        incarnation: 0,
    }
}

/// Chance decides nothing here: what it could decide, when a timer fires, the explorer does.
struct NoChance;

impl Random for NoChance {
    fn next(&mut self) -> u64 {
        0
    }
}

/// What reaches a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stimulus {
    /// A message.
    Letter(Letter),
    /// Its disk completes the writes under way, and says so.
    Durable,
    /// Its clock reaches its deadline.
    Tick,
    /// Somebody proposes an entry of this number.
    Propose(u64),
    /// It stops, and starts again from its disk. Of the writes under way the first few were on the
    /// disk already, though nobody heard of it; the others are lost.
    Crash {
        /// How many.
        kept: usize,
    },
}

/// What is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    term: Term,
    vote: Option<ReplicaId>,
    pub(crate) log: Log,
    /// Known to be committed: noted beside each write.
    commit: Index,
}

impl Disk {
    /// The greatest term that it knows of.
    pub(crate) fn known_term(&self) -> Term {
        self.term.max(self.log.last().term)
    }

    /// Whom it voted for in its last term.
    pub(crate) fn vote(&self) -> Option<ReplicaId> {
        self.vote.filter(|_| self.term == self.known_term())
    }

    pub(crate) fn holds(&self, entries: &[Entry]) -> bool {
        self.log.entries().starts_with(entries)
    }

    fn recovered(&self, voters: &[ReplicaId]) -> Recovered {
        Recovered {
            term: self.known_term(),
            vote: self.vote(),
            term_ends: self.log.term_ends(),
            commit: self.commit,
            condition: Condition::Sound,
            ..Recovered::empty(voters)
        }
    }

    fn apply(&mut self, write: Write) -> Result<(), Breach> {
        match write.record {
            Record::Vote { term, vote } => {
                let changed = term == self.term && self.vote.is_some() && vote != self.vote;
                hold(Rule::PromiseKept, term >= self.term)?;
                hold(Rule::OneVotePerTerm, !changed)?;
                (self.term, self.vote) = (term, vote);
            }
            Record::Append(entries) => {
                entries.into_iter().for_each(|entry| self.log.push(entry));
            }
            Record::Truncate(last) => self.log.truncate(last),
        }
        self.commit = self.commit.max(write.commit);
        Ok(())
    }
}

/// What is written at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Record {
    Vote { term: Term, vote: Option<ReplicaId> },
    Append(Vec<Entry>),
    Truncate(Index),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    io: Io,
    record: Record,
    commit: Index,
}

/// What the replica has promised to others, over all its runs: nobody but the rules looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Promises {
    /// The greatest term that it has spoken in.
    term: Term,
    voted: Option<(Term, ReplicaId)>,
    /// The furthest acknowledgement in the greatest term: the leader's term, and what it has.
    acknowledged: Option<(Term, Vec<Entry>)>,
}

/// A replica and its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    group: Group,
    /// It moves when the replica ticks, and never else.
    clock: Time,
    log: Log,
    disk: Disk,
    writes: VecDeque<Write>,
    /// What may leave when that write is durable.
    held: Vec<(Io, Letter)>,
    promises: Promises,
}

/// What comes of a stimulus.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) node: Node,
    pub(crate) sent: Vec<Letter>,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) breach: Option<Breach>,
}

impl Node {
    /// With an empty disk, in a group of three.
    pub(crate) fn new(number: usize) -> Node {
        let disk = Disk::default();
        let recovered = disk.recovered(&[0, 1, 2].map(replica));
        Node {
            group: Group::new(
                replica(number),
                settings(),
                recovered,
                Time(0),
                &mut NoChance,
            ),
            clock: Time(0),
            log: Log::default(),
            disk,
            writes: VecDeque::new(),
            held: Vec::new(),
            promises: Promises::default(),
        }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.group.role(), Role::Elected | Role::Leader)
    }

    /// Writes under way.
    pub(crate) fn writing(&self) -> usize {
        self.writes.len()
    }

    pub(crate) fn is_cutting(&self) -> bool {
        let mut records = self.writes.iter().map(|write| &write.record);
        records.any(|record| matches!(record, Record::Truncate(_)))
    }

    /// What it does. An assertion of the core that fails is a finding, not the end of the run.
    pub(crate) fn react(
        &self,
        stimulus: Stimulus,
        bug: Option<Bug>,
        post: &dyn Fn(Message, Vec<Entry>) -> Letter,
    ) -> Outcome {
        let mut outcome = Outcome {
            node: self.clone(),
            sent: Vec::new(),
            deeds: Vec::new(),
            breach: None,
        };
        planted::plant(bug);
        let work = AssertUnwindSafe(|| {
            let mut step = Step {
                outcome: &mut outcome,
                post,
            };
            step.take(stimulus)
        });
        outcome.breach = match catch_unwind(work) {
            Ok(result) => result.err(),
            Err(_) => Some(Breach::Assertion),
        };
        planted::plant(None);
        outcome
    }
}

/// A stimulus being worked off.
struct Step<'a> {
    outcome: &'a mut Outcome,
    post: &'a dyn Fn(Message, Vec<Entry>) -> Letter,
}

impl Step<'_> {
    fn take(&mut self, stimulus: Stimulus) -> Result<(), Breach> {
        let input = match stimulus {
            Stimulus::Letter(letter) => {
                let message = Input::Message(letter.message().clone());
                return self.step(message, Some(letter));
            }
            Stimulus::Durable => match self.complete_writes()? {
                Some(io) => Input::Durable(io),
                None => return Ok(()),
            },
            Stimulus::Tick => {
                let node = &mut self.outcome.node;
                let deadline = node.group.deadline().unwrap_or(node.clock);
                node.clock = node.clock.max(deadline);
                Input::Tick
            }
            Stimulus::Propose(number) => Input::Propose(Proposal {
                token: Token(number),
                entries: 1,
                bytes: 1,
                acks: Acks::All,
            }),
            Stimulus::Crash { kept } => return self.restart(kept),
        };
        self.step(input, None)
    }

    /// All that is being written is on the disk, and what waited for it leaves.
    fn complete_writes(&mut self) -> Result<Option<Io>, Breach> {
        let node = &mut self.outcome.node;
        let Some(io) = node.writes.back().map(|write| write.io) else {
            return Ok(None);
        };
        for write in std::mem::take(&mut node.writes) {
            node.disk.apply(write)?;
        }
        let (ready, held) = node.held.drain(..).partition(|(after, _)| *after <= io);
        node.held = held;
        let ready: Vec<(Io, Letter)> = ready;
        for (_, letter) in ready {
            self.depart(letter)?;
        }
        Ok(Some(io))
    }

    /// All but the disk is gone, and the clock goes on.
    fn restart(&mut self, kept: usize) -> Result<(), Breach> {
        let node = &mut self.outcome.node;
        for write in std::mem::take(&mut node.writes).into_iter().take(kept) {
            node.disk.apply(write)?;
        }
        let (disk, promises) = (&node.disk, &node.promises);
        let (term, vote) = (disk.known_term(), disk.vote());
        hold(Rule::PromiseKept, term >= promises.term)?;
        if let Some((voted, to)) = promises.voted {
            let kept = term > voted || vote == Some(to);
            hold(Rule::PromiseKept, kept)?;
        }
        if let Some((acknowledged, entries)) = &promises.acknowledged {
            let kept = term > *acknowledged || disk.holds(entries);
            hold(Rule::PromiseKept, kept)?;
        }
        let recovered = disk.recovered(&[0, 1, 2].map(replica));
        let id = node.group.id();
        node.group = Group::new(id, settings(), recovered, node.clock, &mut NoChance);
        node.log = node.disk.log.clone();
        node.held.clear();
        Ok(())
    }

    fn step(&mut self, input: Input, letter: Option<Letter>) -> Result<(), Breach> {
        let node = &mut self.outcome.node;
        let before = (node.group.commit(), node.group.visible(), node.group.term());
        let mut effects = Vec::new();
        node.group
            .step(node.clock, input, &node.log, &mut NoChance, &mut effects);
        for effect in effects {
            self.carry_out(effect, letter)?;
        }
        let (group, log) = (&self.outcome.node.group, &self.outcome.node.log);
        let grown =
            group.commit() >= before.0 && group.visible() >= before.1 && group.term() >= before.2;
        hold(Rule::WatermarksGrow, grown)?;
        let in_order = group.visible() <= group.commit() && group.commit() <= group.last().index;
        hold(Rule::WatermarksInOrder, in_order)?;
        let is_log = group.last() == log.last() && group.term_ends() == log.term_ends();
        hold(Rule::OutlineIsLog, is_log)?;
        let durable = log.prefix(group.durable());
        let written = durable.is_some_and(|entries| self.outcome.node.disk.holds(entries));
        hold(Rule::WatermarksInOrder, written)
    }

    fn carry_out(&mut self, effect: Effect, letter: Option<Letter>) -> Result<(), Breach> {
        let node = &mut self.outcome.node;
        match effect {
            Effect::PersistVote { io, term, vote } => {
                self.write(io, Record::Vote { term, vote });
            }
            Effect::Append { io, span, content } => {
                let entries = appended(&span, &content, letter)?;
                hold(
                    Rule::EffectsMakeSense,
                    span.first == node.log.last().index.next(),
                )?;
                entries.iter().for_each(|entry| node.log.push(*entry));
                self.write(io, Record::Append(entries));
            }
            Effect::Truncate { io, last } => {
                if let Some((term, entries)) = &node.promises.acknowledged {
                    let kept = *term < node.group.term() || entries.len() as u64 <= last.0;
                    hold(Rule::AcknowledgedStays, kept)?;
                }
                node.log.truncate(last);
                self.write(io, Record::Truncate(last));
            }
            Effect::Send { message, after } => {
                let entries = carried(&node.log, &message.body)?;
                let letter = (self.post)(message, entries);
                let next = node.writes.front().map(|write| write.io);
                match after.filter(|io| next.is_some_and(|next| next <= *io)) {
                    Some(io) if !node.held.contains(&(io, letter)) => node.held.push((io, letter)),
                    Some(_) => {}
                    None => self.depart(letter)?,
                }
            }
            Effect::Committed(index) => {
                let deed = match node.leads() {
                    true => Deed::LeaderCommits(node.group.term(), index),
                    false => Deed::FollowerCommits(index),
                };
                self.outcome.deeds.push(deed);
            }
            Effect::RoleChanged { role, term, .. } => {
                if role == Role::Elected {
                    self.outcome.deeds.push(Deed::Elected(term));
                }
            }
            Effect::Visible(_)
            | Effect::ReadReady { .. }
            | Effect::InSync(_)
            | Effect::Rejected { .. } => {}
            Effect::Reset { .. }
            | Effect::ReadSpan { .. }
            | Effect::ConfigurationInForce { .. }
            | Effect::Changed(_)
            | Effect::TransferFailed { .. }
            | Effect::Repaired
            | Effect::Fatal(_) => return Err(Breach::Rule(Rule::EffectsMakeSense)),
        }
        Ok(())
    }

    fn write(&mut self, io: Io, record: Record) {
        let node = &mut self.outcome.node;
        let commit = node.group.commit();
        node.writes.push_back(Write { io, record, commit });
    }

    /// A message leaves: what it promises must be on the disk by now.
    fn depart(&mut self, letter: Letter) -> Result<(), Breach> {
        let Node {
            disk,
            log,
            promises,
            ..
        } = &mut self.outcome.node;
        let Message { to, term, body, .. } = letter.message();
        let (to, term) = (*to, *term);
        let is_question = matches!(
            body,
            Body::PreVote { .. } | Body::PreVoteReply { granted: true }
        );
        if !is_question {
            hold(Rule::DurableBeforeSent, term <= disk.known_term())?;
            promises.term = promises.term.max(term);
        }
        let vote = match body {
            Body::Vote { .. } => Some(letter.message().from),
            Body::VoteReply { granted: true } => Some(to),
            _ => None,
        };
        if let Some(vote) = vote {
            let written = disk.term > term || (disk.term == term && disk.vote == Some(vote));
            hold(Rule::DurableBeforeSent, written)?;
            let once = promises
                .voted
                .is_none_or(|(voted, to)| voted != term || to == vote);
            hold(Rule::OneVotePerTerm, once)?;
            if promises.voted.is_none_or(|(voted, _)| voted < term) {
                promises.voted = Some((term, vote));
            }
        }
        if let Body::Appended { matched, .. } = body
            && term >= disk.known_term()
        {
            let acknowledged = log.prefix(*matched);
            let durable = acknowledged.is_some_and(|entries| disk.holds(entries));
            hold(Rule::DurableBeforeSent, durable)?;
            let entries = acknowledged.unwrap_or_default();
            let known = promises.acknowledged.as_ref();
            if known.is_none_or(|(of, has)| (*of, has.len()) < (term, entries.len())) {
                promises.acknowledged = Some((term, entries.to_vec()));
            }
        }
        self.outcome.sent.push(letter);
        Ok(())
    }
}

/// The entries that an append is about.
fn appended(span: &Span, content: &Content, letter: Option<Letter>) -> Result<Vec<Entry>, Breach> {
    let one = |value| {
        vec![Entry {
            term: span.term,
            value,
        }]
    };
    let entries = match content {
        Content::NoOp => one(Value::NoOp),
        Content::Proposal(token) => one(Value::Proposal(token.0)),
        Content::Received => letter.map_or(Vec::new(), |letter| letter.entries_of(span)),
        Content::Configuration(_) => Vec::new(),
    };
    let all = entries.len() as u64 == span.entries();
    let terms = entries.iter().all(|entry| entry.term == span.term);
    hold(Rule::EffectsMakeSense, all && terms)?;
    Ok(entries)
}

/// The entries that go with a message.
fn carried(log: &Log, body: &Body) -> Result<Vec<Entry>, Breach> {
    let Body::Append { spans, .. } = body else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::new();
    for span in spans {
        let found = log.span(span);
        hold(Rule::EffectsMakeSense, found.is_some())?;
        entries.extend_from_slice(found.unwrap_or_default());
    }
    Ok(entries)
}
