//! What a cluster does besides suffering: members change their records, publish entries, leave and
//! come back, keys are rotated, and somebody replays what was sent. They stand in the plan beside
//! the faults, so that a failure shrinks to those that matter.

use std::time::Duration;

use gossip::{Entry, Leadership, Ownership, PartitionId, RangeId};
use simulation::{Fault, Mix, Seed, Time, Timed};

use crate::world::{Start, Taken, Watch, World, node_id};

/// Kinds, by the names that they have in plans.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Operation {
    Update,
    JoinAgain,
    Lead,
    Own,
    Leave,
    Rotate,
    Replay,
}

const ALL: [(Operation, &str); 7] = [
    (Operation::Update, "update the record"),
    (Operation::JoinAgain, "join again"),
    (Operation::Lead, "publish leaderships"),
    (Operation::Own, "publish ownerships"),
    (Operation::Leave, "leave and come back"),
    (Operation::Rotate, "rotate the keys"),
    (Operation::Replay, "replay datagrams"),
];

fn named(name: &str) -> Option<Operation> {
    ALL.iter()
        .find(|(_, known)| *known == name)
        .map(|(operation, _)| *operation)
}

/// How long a step of a rotation takes to reach all nodes.
const ROTATION_STEP: Duration = Duration::from_millis(700);
const ROTATION_STEPS: u32 = 3;

/// Draws the operations of a run between `from` and `until`. A calm run has no replays.
pub(crate) fn draw(seed: Seed, mix: Mix, nodes: usize, from: Time, until: Time) -> Vec<Timed> {
    let mut all = Vec::new();
    if until.since(from) < ROTATION_STEP * (ROTATION_STEPS + 1) {
        return all;
    }
    let count = seed.draws("operations", &[]).below(24);
    let mut rotated = false;
    for number in 0..count {
        let mut draws = seed.draws("operation", &[number]);
        let kinds = ALL.len() as u64 - u64::from(mix == Mix::Calm);
        let (operation, name) = ALL[draws.below(kinds) as usize];
        let node = draws.below(nodes as u64) as usize;
        let most = if draws.chance(0.2) { 120 } else { 8 };
        let amount = 1 + draws.below(most);
        let lasts = match operation {
            Operation::Leave => draws.between(Duration::from_millis(400), Duration::from_secs(2)),
            Operation::Rotate => ROTATION_STEP * ROTATION_STEPS,
            _ => Duration::ZERO,
        };
        let at = from + draws.between(Duration::ZERO, until.since(from).saturating_sub(lasts));
        // One rotation is enough; two at once are none.
        if operation == Operation::Rotate && std::mem::replace(&mut rotated, true) {
            continue;
        }
        let name = name.to_owned();
        all.push(Timed {
            at,
            lasts,
            fault: Fault::Custom { name, node, amount },
        });
    }
    all
}

/// A step of an operation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Begin,
    Rotate { host: usize, stage: usize },
    End,
}

/// When an operation does what: its steps with how long after its beginning they come.
pub(crate) fn steps(timed: &Timed, nodes: usize) -> Vec<(Duration, Step)> {
    let Fault::Custom { name, .. } = &timed.fault else {
        return vec![(Duration::ZERO, Step::Begin), (timed.lasts, Step::End)];
    };
    match named(name) {
        Some(Operation::Leave) => vec![(Duration::ZERO, Step::Begin), (timed.lasts, Step::End)],
        Some(Operation::Rotate) => {
            let mut all = Vec::new();
            for stage in 1..=ROTATION_STEPS {
                for host in 0..nodes {
                    let within = ROTATION_STEP * host as u32 / nodes as u32;
                    let step = Step::Rotate {
                        host,
                        stage: stage as usize,
                    };
                    all.push((ROTATION_STEP * (stage - 1) + within, step));
                }
            }
            all
        }
        _ => vec![(Duration::ZERO, Step::Begin)],
    }
}

impl<W: Watch> World<W> {
    /// Carries out a step of an operation or of a fault.
    pub(crate) fn step(&mut self, number: u64, timed: &Timed, step: Step) {
        let Fault::Custom { name, node, amount } = &timed.fault else {
            match step {
                Step::Begin => self.begin(timed),
                Step::End => self.end(timed),
                Step::Rotate { .. } => {}
            }
            return;
        };
        match (named(name), step) {
            (_, Step::Rotate { host, stage }) => self.use_ring(host, stage),
            (Some(Operation::Leave), Step::End) => {
                // Whoever has not finished saying goodbye is cut short.
                self.hold_down(*node, Start::Kept);
                self.let_up(*node);
            }
            (Some(operation), Step::Begin) => self.operate(operation, *node, *amount, number),
            _ => {}
        }
    }

    fn operate(&mut self, operation: Operation, host: usize, amount: u64, number: u64) {
        if self.hosts[host].is_paused() {
            return;
        }
        match operation {
            Operation::Update => self.update(host),
            Operation::JoinAgain => self.join_again(host),
            Operation::Lead => {
                for partition in 0..amount {
                    let id = PartitionId {
                        topic: 7,
                        partition: partition as u32,
                    };
                    let led = Leadership {
                        term: number % 5,
                        leader: node_id(host),
                        shard: 0,
                    };
                    self.publish(host, Entry::Leader(id, led));
                }
            }
            Operation::Own => {
                for range in 0..amount {
                    let owned = Ownership {
                        epoch: number % 5,
                        owner: node_id(host),
                    };
                    self.publish(host, Entry::Owner(RangeId(range), owned));
                }
            }
            Operation::Leave => self.input(host, gossip::Input::Leave, &Taken::Other),
            Operation::Replay => self.replay(number, amount * 4),
            Operation::Rotate => {}
        }
    }
}
