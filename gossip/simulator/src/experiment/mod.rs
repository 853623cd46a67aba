//! What Lifeguard is worth: clusters of many sizes in which some members stall, once with plain
//! SWIM and once with Lifeguard, and how soon a death is noticed (Lifeguard section 5).
//!
//! The model. `N` members on a local network (0.1 ms and an exponential 0.3 ms one way, no loss),
//! the default settings (period 1 s, timeout 500 ms, 3 indirect probes, suspicion multiplier 4,
//! gossip to 3 every 200 ms); plain SWIM has the same without local health, dynamic suspicion and
//! buddy messages. In the first part some members stall: each stands still, runs, stands still,
//! for times drawn from a list of powers of two. A stalled member neither sends nor receives while
//! its timers go on. A *false positive* is a member that never stalls being failed at one that
//! never stalls. In the second part nobody stalls, and members die one after the other.

mod measure;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gossip::{Config, Lifeguard};

pub use table::{Row, Table};

/// Which protocol.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// SWIM without Lifeguard.
    Swim,
    /// SWIM with all of Lifeguard.
    Lifeguard,
}

impl Protocol {
    fn config(self) -> Config {
        let mut config = Config::new("experiment");
        config.lifeguard = match self {
            Protocol::Swim => Lifeguard::NONE,
            Protocol::Lifeguard => Lifeguard::ALL,
        };
        config
    }
}

/// What to run.
#[derive(Clone, PartialEq, Debug)]
pub struct Experiment {
    /// Sizes of clusters.
    pub members: Vec<usize>,
    /// How many members stall at once in each.
    pub stalling: usize,
    /// Runs of each kind in clusters of up to 64; in larger ones as many fewer as they are larger.
    pub repetitions: u64,
    /// How long members stall in each run.
    pub observed: Duration,
    /// Deaths in each run of the second part.
    pub deaths: usize,
    /// From what all is drawn.
    pub seed: u64,
    /// How many runs at once.
    pub threads: usize,
}

impl Default for Experiment {
    fn default() -> Experiment {
        Experiment {
            members: vec![16, 32, 64, 128, 256, 512],
            stalling: 4,
            repetitions: 8,
            observed: Duration::from_secs(120),
            deaths: 10,
            seed: 1,
            threads: 2,
        }
    }
}

/// What one run showed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured {
    /// Times that a member which never stalls was failed at one that never stalls.
    pub false_positives: u64,
    /// Datagrams sent by members that never stall, each second and member, while others stall.
    pub messages: f64,
    /// The same while nothing happens.
    pub quiet_messages: f64,
    /// From each death to the first member that knew.
    pub first_detections: Vec<Duration>,
    /// From each death to the last member that knew.
    pub full_detections: Vec<Duration>,
    /// Events of the simulation.
    pub events: u64,
}

/// One run to make.
#[derive(Copy, Clone, Debug)]
struct Task {
    members: usize,
    protocol: Protocol,
    repetition: u64,
    deaths: bool,
}

impl Experiment {
    /// False positives and deaths are seen by every member, so fewer runs of many members say as
    /// much.
    fn repetitions_of(&self, members: usize) -> u64 {
        (self.repetitions * 64 / members.max(64) as u64).max(1)
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for &members in self.members.iter().rev() {
            for protocol in [Protocol::Swim, Protocol::Lifeguard] {
                for repetition in 0..self.repetitions_of(members) {
                    for deaths in [false, true] {
                        tasks.push(Task {
                            members,
                            protocol,
                            repetition,
                            deaths,
                        });
                    }
                }
            }
        }
        tasks
    }

    /// Makes all runs, the largest first. `progress` hears how many are done, and of how many.
    pub fn run(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Table {
        let tasks = self.tasks();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(BTreeMap::new());
        let work = || {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let measured = self.measure(*task);
                if let Ok(mut results) = results.lock() {
                    let of_cell: &mut Vec<(u64, bool, Measured)> =
                        results.entry((task.members, task.protocol)).or_default();
                    of_cell.push((task.repetition, task.deaths, measured));
                }
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, tasks.len());
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.max(1) {
                scope.spawn(work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_default();
        Table::new(self, results)
    }
}
