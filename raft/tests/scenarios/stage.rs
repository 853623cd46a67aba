//! Where a scenario is played: replicas, the messages between them and the time, all moved by the
//! script alone. What the core decides is written down as it happens; nothing else is.
//!
//! Time stands still unless the script lets it pass. A message stays in the air until the script
//! delivers, loses or keeps it; [`Stage::run`] and [`Stage::pass`] deliver all there is, in the order
//! of sending and at once. Disks write at once unless they are held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use expect_test::Expect;
use raft::{
    Acks, Change, Condition, Group, Hint, Index, Input, Message, NodeId, Position, Proposal,
    ReplicaId, Settings, Term, Time,
};

use crate::actor::{Actor, Disk, Entries, Entry, Payload};
use crate::wording;

mod driver;

pub const N1: ReplicaId = replica(1, 0);
pub const N2: ReplicaId = replica(2, 0);
pub const N3: ReplicaId = replica(3, 0);
pub const N4: ReplicaId = replica(4, 0);
pub const N5: ReplicaId = replica(5, 0);

/// A node's replica, the how-manieth it is there.
pub const fn replica(node: u32, incarnation: u32) -> ReplicaId {
    ReplicaId {
        node: NodeId(node),
        incarnation,
    }
}

/// n1 to the last.
pub fn first(nodes: u32) -> Vec<ReplicaId> {
    (1..=nodes).map(|node| replica(node, 0)).collect()
}

/// A log by the terms of its entries, as the Raft paper draws them.
pub fn log_of(terms: &[u64], voters: &[ReplicaId]) -> Entries {
    let mut log = Entries::founded_by(voters);
    log.append(terms.iter().enumerate().map(|(place, term)| Entry {
        term: Term(*term),
        payload: Payload::Text(format!("e{}", place + 1)),
    }));
    log
}

/// A message with the entries that travel in it.
#[derive(Clone, Debug)]
pub struct Flight {
    pub message: Message,
    pub entries: Vec<Entry>,
}

impl Flight {
    fn link(&self) -> (ReplicaId, ReplicaId) {
        (self.message.from, self.message.to)
    }
}

/// A line of the trace.
enum Line {
    Said {
        from: ReplicaId,
        to: Vec<ReplicaId>,
        words: String,
    },
    Done(String),
}

pub struct Stage {
    settings: Settings,
    now: Time,
    actors: BTreeMap<ReplicaId, Actor>,
    air: Vec<Flight>,
    /// Directed links that lose everything.
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    trace: Vec<Line>,
    tells_heartbeats: bool,
    /// What was asked for, by its token.
    asked: Vec<String>,
}

/// The set, and its curtain.
impl Stage {
    /// n1 to the last, with empty disks, the voters of a new group.
    pub fn of(nodes: u32) -> Stage {
        Stage::with(nodes, Settings::default())
    }

    pub fn with(nodes: u32, settings: Settings) -> Stage {
        let voters = first(nodes);
        let disks = voters.iter().map(|_| Entries::founded_by(&voters));
        Stage::recovered(settings, disks.map(Disk::holding).collect())
    }

    /// n1 to the last, starting with what their disks hold.
    pub fn recovered(settings: Settings, disks: Vec<Disk>) -> Stage {
        let mut stage = Stage {
            settings,
            now: Time(0),
            actors: BTreeMap::new(),
            air: Vec::new(),
            cut: BTreeSet::new(),
            trace: Vec::new(),
            tells_heartbeats: false,
            asked: Vec::new(),
        };
        for (node, disk) in (1..).zip(disks) {
            stage.enter(replica(node, 0), disk);
        }
        stage
    }

    /// n1 to the last, led by n1 in t1, its no-op known to be committed by all.
    pub fn led(nodes: u32, settings: Settings) -> Stage {
        let mut stage = Stage::with(nodes, settings);
        stage.times_out(N1);
        stage.run();
        stage.heartbeats();
        stage.skip();
        stage
    }

    /// As [`Stage::led`], of three; these others have come with empty disks, and are members of nothing.
    pub fn led_with_newcomers(newcomers: &[ReplicaId]) -> Stage {
        let mut stage = Stage::led(3, Settings::default());
        for newcomer in newcomers {
            stage.enter(*newcomer, Disk::holding(Entries::founded_by(&[])));
        }
        stage
    }

    /// A new replica with this disk.
    pub fn enter(&mut self, id: ReplicaId, disk: Disk) {
        let actor = Actor::new(id, &self.settings, disk, self.now);
        self.actors.insert(id, actor);
    }

    /// A replica is removed from its node, with its disk.
    pub fn leave(&mut self, id: ReplicaId) {
        self.actors.remove(&id);
    }

    /// The trace since the last time is this.
    ///
    /// When it has changed on purpose, `UPDATE_EXPECT=1 cargo test -p raft --test scenarios` rewrites
    /// the script; read what it wrote.
    pub fn shows(&mut self, expected: Expect) {
        let mut text = String::new();
        for line in self.trace.drain(..) {
            text += &match line {
                Line::Said { from, to, words } => {
                    format!("{from} -> {}: {words}\n", wording::names(&to))
                }
                Line::Done(words) => words + "\n",
            };
        }
        expected.assert_eq(&text);
    }

    /// What went before is known from other scenarios.
    pub fn skip(&mut self) {
        self.trace.clear();
    }

    /// Heartbeats and their answers are told from here on.
    pub fn tell_heartbeats(&mut self) {
        self.tells_heartbeats = true;
    }

    fn note(&mut self, words: String) {
        self.trace.push(Line::Done(words));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.trace.is_empty(), "the end of the trace is not checked");
        }
    }
}

/// What the script lets happen to a replica.
impl Stage {
    fn actor(&mut self, id: ReplicaId) -> &mut Actor {
        self.actors.get_mut(&id).expect("it is on the stage")
    }

    /// The core as it is now, to be looked at.
    pub fn group(&self, id: ReplicaId) -> &Group {
        let group = self.actors[&id].group.as_ref();
        group.expect("it is up")
    }

    /// It has had enough of waiting, for a leader or for votes: time passes up to then, for it alone.
    pub fn times_out(&mut self, id: ReplicaId) {
        let deadline = self.group(id).deadline().expect("it waits for something");
        self.now = self.now.max(deadline);
        self.step(id, Input::Tick, &[]);
    }

    /// Time passes for it alone; what it says meanwhile stays in the air.
    pub fn wait(&mut self, id: ReplicaId, ms: u64) {
        let until = self.now.after(Duration::from_millis(ms));
        while self.group(id).deadline().is_some_and(|at| at <= until) {
            self.times_out(id);
        }
        self.now = until;
    }

    /// How much longer than the election timeout it will wait the next times that it decides.
    pub fn luck(&mut self, id: ReplicaId, added_ms: u64) {
        self.actor(id).luck.added = Duration::from_millis(added_ms);
    }

    pub fn propose(&mut self, to: ReplicaId, text: &str) {
        self.propose_with(to, text, Acks::Leader);
    }

    pub fn propose_with(&mut self, to: ReplicaId, text: &str, acks: Acks) {
        let proposal = Proposal {
            token: self.ask(text),
            entries: 1,
            bytes: text.len() as u64,
            acks,
        };
        self.step(to, Input::Propose(proposal), &[]);
    }

    pub fn read(&mut self, at: ReplicaId, name: &str) {
        let token = self.ask(name);
        self.step(at, Input::ReadBarrier(token), &[]);
    }

    pub fn transfer(&mut self, from: ReplicaId, to: ReplicaId) {
        self.step(from, Input::Transfer(to), &[]);
    }

    pub fn change(&mut self, at: ReplicaId, voters: &[ReplicaId], learners: &[ReplicaId]) {
        let change = Change {
            token: self.ask("the change"),
            voters: voters.to_vec(),
            learners: learners.to_vec(),
        };
        self.step(at, Input::Change(change), &[]);
    }

    /// Membership tells a replica what it thinks of another one's node.
    pub fn hint(&mut self, at: ReplicaId, of: ReplicaId, hint: Hint) {
        self.step(at, Input::Hint(of, hint), &[]);
    }

    /// Retention drops what is before this entry.
    pub fn retain(&mut self, id: ReplicaId, start: Index) {
        let actor = self.actor(id);
        let term = actor.log.between(start.previous(), start.previous())[0].term;
        let base = Position::new(start.previous(), term);
        actor.log.begin_after(base);
        actor.disk.log.begin_after(base);
        self.step(id, Input::LogStartMoved(start), &[]);
    }

    /// From here on its writes are under way until it is released.
    pub fn hold_disk(&mut self, id: ReplicaId) {
        self.actor(id).disk_is_held = true;
    }

    /// All its writes are durable, and later ones at once.
    pub fn release_disk(&mut self, id: ReplicaId) {
        self.actor(id).disk_is_held = false;
        self.note(format!("{id}'s disk is done"));
        self.write(id);
    }

    /// Its disk tells that the first write under way has failed.
    pub fn fail_disk(&mut self, id: ReplicaId) {
        let first = self.actor(id).writes.front().map(|(io, _)| *io);
        let io = first.expect("something is under way");
        self.step(id, Input::Failed(io), &[]);
    }

    /// It loses what it has in memory, and what its disk has not done.
    pub fn crash(&mut self, id: ReplicaId) {
        self.actor(id).crash();
        self.note(format!("{id} is down"));
    }

    pub fn restart(&mut self, id: ReplicaId) {
        self.start(id, Condition::Sound);
    }

    /// It starts with a disk of which all after this entry has become unreadable.
    pub fn restart_damaged(&mut self, id: ReplicaId, readable: Index) {
        let actor = self.actor(id);
        actor.disk.log.truncate(readable);
        actor.log.truncate(readable);
        self.start(id, Condition::Damaged);
    }

    fn start(&mut self, id: ReplicaId, condition: Condition) {
        let (settings, now) = (self.settings.clone(), self.now);
        let actor = self.actor(id);
        assert!(actor.group.is_none(), "it is down");
        actor.start(id, &settings, condition, now);
        let up = match condition {
            Condition::Sound => "is up again",
            Condition::Damaged => "is up again, its log damaged",
        };
        let (term, last) = (self.group(id).term(), self.group(id).last());
        self.note(format!("{id} {up}, in {term}; its log ends at {last}"));
    }

    /// The logs of those that are up, as they have them in memory.
    pub fn logs(&mut self) {
        let up = self
            .actors
            .iter()
            .filter(|(_, actor)| actor.group.is_some());
        let lines: Vec<String> = up
            .map(|(id, actor)| {
                let entries: Vec<String> = actor
                    .log
                    .all()
                    .map(|(index, entry)| wording::entry(index, entry))
                    .collect();
                format!("{id} has {}", entries.join(", "))
            })
            .collect();
        lines.into_iter().for_each(|line| self.note(line));
    }

    /// The terms of the entries of all logs, as the Raft paper draws them.
    pub fn terms(&mut self) {
        let lines: Vec<String> = self
            .actors
            .iter()
            .map(|(id, actor)| {
                let terms: Vec<String> = actor
                    .log
                    .all()
                    .map(|(_, entry)| entry.term.0.to_string())
                    .collect();
                format!("{id}: {}", terms.join(" "))
            })
            .collect();
        lines.into_iter().for_each(|line| self.note(line));
    }
}

/// What the script lets happen to time and messages.
impl Stage {
    /// Messages between these and the others are lost from here on.
    pub fn part(&mut self, some: &[ReplicaId]) {
        let all: Vec<ReplicaId> = self.actors.keys().copied().collect();
        for one in some {
            for other in all.iter().filter(|id| !some.contains(id)) {
                self.cut.extend([(*one, *other), (*other, *one)]);
            }
        }
    }

    /// Messages of one to the other are lost from here on; the other way they arrive.
    pub fn cut(&mut self, from: ReplicaId, to: ReplicaId) {
        self.cut.insert((from, to));
    }

    /// Nothing is lost any more.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Everything in the air arrives, and what is said in answer to it.
    pub fn run(&mut self) {
        while !self.air.is_empty() {
            let flight = self.air.remove(0);
            self.arrive(&flight);
        }
    }

    /// Time passes. Whoever waits for a moment is told of it; messages take no time.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now.after(Duration::from_millis(ms));
        self.run();
        while let Some((at, id)) = self.next_deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.step(id, Input::Tick, &[]);
            let next = self.actors[&id].group.as_ref().and_then(Group::deadline);
            assert!(
                next.is_none_or(|next| next > self.now),
                "a tick moves the deadline"
            );
            self.run();
        }
        self.now = until;
    }

    /// Time passes until everybody has heard from the leader what is committed.
    pub fn heartbeats(&mut self) {
        let twice = self.settings.heartbeat_interval * 2;
        self.pass(u64::try_from(twice.as_millis()).expect("it is short"));
    }

    fn next_deadline(&self) -> Option<(Time, ReplicaId)> {
        let up = self
            .actors
            .iter()
            .filter_map(|(id, actor)| Some((id, actor.group.as_ref()?)));
        up.filter_map(|(id, group)| Some((group.deadline()?, *id)))
            .min()
    }

    /// What is in the air from one to the other arrives.
    pub fn deliver(&mut self, from: ReplicaId, to: ReplicaId) {
        for flight in self.keep(from, to) {
            self.arrive(&flight);
        }
    }

    /// What is in the air from one to the other never arrives.
    pub fn lose(&mut self, from: ReplicaId, to: ReplicaId) {
        let lost = self.keep(from, to);
        assert!(!lost.is_empty(), "there is something to lose");
    }

    /// What is in the air from one to the other stays there until the script lets it arrive, once or
    /// more often.
    pub fn keep(&mut self, from: ReplicaId, to: ReplicaId) -> Vec<Flight> {
        let on_link = |flight: &mut Flight| flight.link() == (from, to);
        self.air.extract_if(.., on_link).collect()
    }

    /// Who gets what is sent to a replica: the one that is on its node now, if it is up.
    fn at_node_of(&self, id: ReplicaId) -> Option<ReplicaId> {
        let mut up = self.actors.iter().filter(|(_, it)| it.group.is_some());
        up.find(|(here, _)| here.node == id.node).map(|(id, _)| *id)
    }

    /// A message arrives, if there is a way and somebody there.
    pub fn arrive(&mut self, flight: &Flight) {
        if let Some(there) = self.at_node_of(flight.message.to)
            && !self.cut.contains(&flight.link())
        {
            let input = Input::Message(flight.message.clone());
            self.step(there, input, &flight.entries);
        }
    }
}
