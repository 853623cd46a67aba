//! One run of the experiment.

use std::time::Duration;

use gossip::{Event, Node};
use simulation::{Draws, Seed, Time};

use super::{Experiment, Measured, Task};
use crate::settings::network;
use crate::world::{Before, Making, Stall, Start, Taken, Watch, World, host_of_node};

/// What is counted while a world runs.
#[derive(Clone, Debug)]
struct Tally {
    /// Who never stalls.
    healthy: Vec<bool>,
    /// Whether false positives count now.
    counts: bool,
    false_positives: u64,
    sent: u64,
    /// Who died last, and when others learned of it.
    dead: Option<usize>,
    learned: Vec<Time>,
}

impl Watch for Tally {
    fn started(&mut self, _: Time, _: usize, _: &Node, _: Start) {}

    fn stopped(&mut self, _: Time, _: usize) {}

    fn handled(&mut self, _: Time, _: usize, _: &Before, _: &Taken, _: &Node) {}

    fn event(&mut self, now: Time, host: usize, event: &Event) {
        let Event::Failed { node, .. } = event else {
            return;
        };
        let failed = host_of_node(*node);
        if self.dead == Some(failed) {
            self.learned.push(now);
        } else if self.counts && self.healthy[host] && self.healthy[failed] {
            self.false_positives += 1;
        }
    }

    fn sent(&mut self, _: Time, host: usize, _: &[u8]) {
        self.sent += u64::from(self.healthy[host]);
    }
}

/// How long members take to come up, each at a time of its own.
const START: Duration = Duration::from_secs(20);
/// How long they have until they are watched.
const SETTLE: Duration = Duration::from_secs(300);
/// For how long nothing happens, to count messages.
const QUIET: Duration = Duration::from_secs(20);
/// How long a dead member stays away, and how long all is quiet after it is back.
const AWAY: Duration = Duration::from_secs(40);
const BACK: Duration = Duration::from_secs(15);
/// What stalls last, and the times between them, milliseconds.
const SPANS_MS: [u64; 6] = [512, 1_024, 2_048, 4_096, 8_192, 16_384];

impl Experiment {
    pub(super) fn measure(&self, task: Task) -> Measured {
        let seed = Seed(self.seed).derive(
            "experiment",
            &[task.members as u64, task.repetition, task.deaths.into()],
        );
        let stalling = if task.deaths {
            Vec::new()
        } else {
            chosen(seed, self.stalling, task.members)
        };
        let mut healthy = vec![true; task.members];
        for host in &stalling {
            healthy[*host] = false;
        }
        let mut world = begin(seed, task, healthy);
        let mut measured = Measured {
            quiet_messages: rate(&mut world, QUIET),
            ..Measured::default()
        };
        if task.deaths {
            self.die(&mut world, seed, &mut measured);
        } else {
            let schedule = schedule(seed, &stalling, world.now, self.observed);
            world.watch.counts = true;
            measured.messages = stall(&mut world, &schedule, self.observed);
            measured.false_positives = world.watch.false_positives;
        }
        measured.events = world.happened();
        measured
    }

    fn die(&self, world: &mut World<Tally>, seed: Seed, measured: &mut Measured) {
        let mut draws = seed.draws("deaths", &[]);
        for _ in 0..self.deaths {
            // Anywhere within a period.
            world.run_until(world.now + draws.between(Duration::ZERO, Duration::from_secs(1)));
            let host = draws.below(world.hosts.len() as u64) as usize;
            let died = world.now;
            world.watch.dead = Some(host);
            world.watch.learned.clear();
            world.hold_down(host, Start::Kept);
            world.run_until(died + AWAY);
            let learned = world.watch.learned.iter();
            if let (Some(first), Some(last)) = (learned.clone().min(), learned.max()) {
                measured.first_detections.push(first.since(died));
                measured.full_detections.push(last.since(died));
            }
            world.let_up(host);
            world.run_until(world.now + BACK);
        }
    }
}

fn chosen(seed: Seed, count: usize, of: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    seed.draws("stalling", &[]).shuffle(&mut all);
    all.truncate(count);
    all
}

/// A cluster that has come up and calmed down.
fn begin(seed: Seed, task: Task, healthy: Vec<bool>) -> World<Tally> {
    let making = Making {
        seed,
        nodes: task.members,
        config: task.protocol.config(),
        link: network(),
        stall: Stall::Messages,
        reuse_boot: false,
        planted: None,
        recorded: 0,
    };
    let tally = Tally {
        healthy,
        counts: false,
        false_positives: 0,
        sent: 0,
        dead: None,
        learned: Vec::new(),
    };
    let mut world = World::new(making, tally);
    for host in 0..task.members {
        world.run_until(Time::ZERO + START * host as u32 / task.members as u32);
        world.start(host, Start::Kept);
    }
    world.run_until(Time::ZERO + START + SETTLE);
    let alive = world.hosts.iter().filter_map(|host| host.node.as_ref());
    let seen: Vec<usize> = alive.map(gossip::Node::alive).collect();
    let incomplete = seen.iter().filter(|seen| **seen != task.members).count();
    assert_eq!(incomplete, 0, "members see {seen:?}");
    world
}

/// Datagrams of a healthy member in a second.
fn rate(world: &mut World<Tally>, span: Duration) -> f64 {
    let before = world.watch.sent;
    world.run_until(world.now + span);
    per_member(world, before, span)
}

fn per_member(world: &World<Tally>, before: u64, span: Duration) -> f64 {
    let healthy = world.watch.healthy.iter().filter(|healthy| **healthy);
    (world.watch.sent - before) as f64 / healthy.count() as f64 / span.as_secs_f64()
}

/// When which member begins and ends to stall, in order. The same for both protocols.
fn schedule(
    seed: Seed,
    stalling: &[usize],
    from: Time,
    span: Duration,
) -> Vec<(Time, usize, bool)> {
    let mut all = Vec::new();
    for &host in stalling {
        let mut draws = seed.draws("stalls", &[host as u64]);
        let mut at = from + drawn(&mut draws);
        loop {
            let ends = at + drawn(&mut draws);
            if ends > from + span {
                break;
            }
            all.push((at, host, true));
            all.push((ends, host, false));
            at = ends + drawn(&mut draws);
        }
    }
    all.sort();
    all
}

fn drawn(draws: &mut Draws) -> Duration {
    let span = draws.pick(&SPANS_MS).copied().unwrap_or(0);
    Duration::from_millis(span)
}

fn stall(world: &mut World<Tally>, schedule: &[(Time, usize, bool)], span: Duration) -> f64 {
    let (began, before) = (world.now, world.watch.sent);
    for (at, host, stalls) in schedule {
        world.run_until(*at);
        if *stalls {
            world.hold_still(*host);
        } else {
            world.let_go(*host);
        }
    }
    world.run_until(began + span);
    per_member(world, before, span)
}
