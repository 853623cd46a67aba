//! A world made of a seed: virtual time, one deterministic executor, and per node a disk that
//! forgets, tears, flips, fails, fills up and dawdles as it is told. The same seed gives the same
//! run to the last bit; a failing run prints its seed. It runs on one ordinary thread, as fast as
//! it can, and never touches a real clock, disk or random source.
//!
//! A test makes a [`Simulation`], runs a workload on a node, takes the node's power away, starts it
//! again over the same disk and looks at what is left:
//!
//! ```
//! use std::path::Path;
//! use millrace_shard::env::simulated::{NodeId, Simulation, StopReason};
//! use millrace_shard::env::{Env, File, OpenOptions};
//!
//! let simulation = Simulation::new(7);
//! let options = OpenOptions { write: true, create: true, data_sync: true };
//! simulation.run(move |env| async move {
//!     let file = env.open(Path::new("/log"), options).await.unwrap();
//!     env.sync_directory(Path::new("/")).await.unwrap();
//!     file.write_at(env.allocate(4096), 0).await.unwrap();
//! });
//! simulation.crash(NodeId(0));
//! simulation.restart(NodeId(0));
//! let len = simulation.run(move |env| async move {
//!     env.open(Path::new("/log"), OpenOptions::default()).await.unwrap().len().await.unwrap()
//! });
//! assert_eq!(len, 4096);
//! ```
//!
//! What is durable: blocks written to a file opened with `data_sync`, once the write has completed;
//! all that a file holds, and its length, once `sync` has completed; names, once `sync_directory`
//! on their directory has completed. The fate of everything else is drawn.

mod content;
mod disk;
mod draw;
mod env;
mod executor;
mod faults;
mod file;
mod names;
mod paths;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub use env::{SimulatedEnv, SimulatedTask};
pub use faults::DiskFaults;
pub use file::SimulatedFile;

use self::disk::Disk;
use self::draw::{combine, mix};
use self::executor::{Node, Step, World};
use super::{BLOCK_BYTES, Env, Instant, OnPanic, Queue};

/// Polls of one simulation, after which it is taken not to progress.
const DEFAULT_STEP_LIMIT: u64 = 50_000_000;

/// A node of a simulation, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Why a node, or a run on it, came to no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It lost power.
    Crashed,
    /// Its processes were killed; its disk kept what was written.
    Killed,
    /// It called [`Env::fatal`].
    Fatal(String),
    /// The run's task panicked or waits for something that nothing will bring.
    Stuck,
}

/// One simulated world. It ends, tasks and all, when this is dropped.
pub struct Simulation {
    world: Rc<World>,
    seed: u64,
}

impl Simulation {
    /// A world with one node, whose disk behaves by default.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        Simulation::with_faults(seed, DiskFaults::default())
    }

    /// A world with one node, whose disk behaves as told.
    #[must_use]
    pub fn with_faults(seed: u64, faults: DiskFaults) -> Simulation {
        let simulation = Simulation {
            world: Rc::new(World::new(mix(seed).wrapping_add(seed))),
            seed,
        };
        simulation.add_node(faults);
        simulation
    }

    /// Adds a node.
    pub fn add_node(&self, faults: DiskFaults) -> NodeId {
        let mut nodes = self.world.nodes.borrow_mut();
        let number = nodes.len();
        nodes.push(Node {
            disk: Disk::new(self.world.seed, combine(1, number as u64), faults),
            incarnation: 0,
            stopped: None,
            randoms: 0,
            clock_offset_ms: 0,
            panics: 0,
            steps: 0,
            crash_at_step: None,
        });
        NodeId(number)
    }

    /// The environment of a node's present life.
    #[must_use]
    pub fn env(&self, node: NodeId) -> SimulatedEnv {
        SimulatedEnv::new(Rc::clone(&self.world), node)
    }

    /// Runs a task on node 0 to its end and gives its result. Other tasks run as long as it does.
    ///
    /// # Panics
    ///
    /// If the node stops first, or the task waits for something that nothing will bring.
    pub fn run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        main: impl FnOnce(SimulatedEnv) -> F,
    ) -> T {
        self.try_run(NodeId(0), main)
            .unwrap_or_else(|reason| panic!("the run has no result: {reason:?}"))
    }

    /// Runs a task on `node` to its end, or until the node stops.
    pub fn try_run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        node: NodeId,
        main: impl FnOnce(SimulatedEnv) -> F,
    ) -> Result<T, StopReason> {
        let env = self.env(node);
        let task = env.spawn(
            Queue::Requests,
            "main",
            OnPanic::StopProcess,
            main(env.clone()),
        );
        loop {
            if let Some(result) = task.take_result() {
                return Ok(result);
            }
            if task.has_ended() || !env.is_alive() {
                self.world.reap(node);
                self.world.check();
                return Err(self.stopped(node).unwrap_or(StopReason::Stuck));
            }
            if let Step::Idle = self.step(Instant(u64::MAX)) {
                return Err(StopReason::Stuck);
            }
        }
    }

    /// Lets everything run for a span of virtual time.
    pub fn run_for(&self, duration: Duration) {
        let until = self.now().plus(duration);
        while self.now() < until {
            if let Step::Idle = self.step(until) {
                // Nothing is left that happens before then.
                self.world.pass(until);
            }
        }
    }

    fn step(&self, until: Instant) -> Step {
        self.world.step(until)
    }

    /// The seed that makes this world.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.world.now()
    }

    /// Polls so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world.steps()
    }

    /// Changes after how many polls the simulation is taken not to progress.
    pub fn set_step_limit(&self, limit: u64) {
        self.world.set_step_limit(limit);
    }

    /// Takes a node's power away, now: its tasks are gone, and its disk keeps, loses or tears each
    /// thing that was not durable.
    pub fn crash(&self, node: NodeId) {
        self.world.stop(node, StopReason::Crashed);
    }

    /// Takes a node's power away after a span of virtual time, unless it has stopped by then.
    pub fn crash_after(&self, node: NodeId, after: Duration) {
        let incarnation = self.world.nodes.borrow()[node.0].incarnation;
        self.world.crash_after(after, node, incarnation);
    }

    /// Takes a node's power away once it has done `steps` more polls and I/O operations.
    pub fn crash_after_steps(&self, node: NodeId, steps: u64) {
        let mut nodes = self.world.nodes.borrow_mut();
        let node = &mut nodes[node.0];
        node.crash_at_step = Some(node.steps + steps);
    }

    /// Kills a node's processes, now. What they wrote stays; of what was in flight any part may
    /// have happened.
    pub fn kill(&self, node: NodeId) {
        self.world.stop(node, StopReason::Killed);
    }

    /// Starts a stopped node again, over the same disk. A node that runs is killed first.
    pub fn restart(&self, node: NodeId) -> SimulatedEnv {
        if self.stopped(node).is_none() {
            self.kill(node);
        }
        {
            let mut nodes = self.world.nodes.borrow_mut();
            let node = &mut nodes[node.0];
            node.incarnation += 1;
            node.stopped = None;
            node.crash_at_step = None;
        }
        self.env(node)
    }

    /// Why a node has stopped, if it has.
    #[must_use]
    pub fn stopped(&self, node: NodeId) -> Option<StopReason> {
        self.world.nodes.borrow()[node.0].stopped.clone()
    }

    /// Panics of a node's tasks so far.
    #[must_use]
    pub fn panics(&self, node: NodeId) -> u64 {
        self.world.nodes.borrow()[node.0].panics
    }

    /// Changes how a node's disk behaves from now on.
    pub fn set_faults(&self, node: NodeId, faults: DiskFaults) {
        self.world.nodes.borrow_mut()[node.0].disk.faults = faults;
    }

    /// Sets how far a node's wall clock is off.
    pub fn set_clock_offset(&self, node: NodeId, milliseconds: i64) {
        self.world.nodes.borrow_mut()[node.0].clock_offset_ms = milliseconds;
    }

    /// Flips one seeded bit of a file within `range`, on stable storage. Tells where; nowhere if
    /// there is no such file or byte.
    pub fn flip_bits(&self, node: NodeId, path: &Path, range: Range<u64>) -> Option<u64> {
        self.world.nodes.borrow_mut()[node.0].disk.flip(path, range)
    }

    /// Flips one seeded bit at rest, in a seeded block that holds something, of those that
    /// `may_flip` allows (by path and position of the block). Tells where.
    pub fn flip_at_rest(
        &self,
        node: NodeId,
        mut may_flip: impl FnMut(&str, u64) -> bool,
    ) -> Option<(String, u64)> {
        let draw = self.env(node).random_u64();
        let mut nodes = self.world.nodes.borrow_mut();
        let disk = &mut nodes[node.0].disk;
        let mut places = Vec::new();
        for (path, _) in disk.files() {
            for block in disk.stored_blocks(Path::new(&path)) {
                let position = block * BLOCK_BYTES as u64;
                if may_flip(&path, position) {
                    places.push((path.clone(), position));
                }
            }
        }
        let chosen = draw.checked_rem(places.len() as u64)?;
        let (path, position) = places.swap_remove(chosen as usize);
        let at = disk.flip(Path::new(&path), position..position + BLOCK_BYTES as u64)?;
        Some((path, at))
    }

    /// Every file of a node with its length, by path.
    #[must_use]
    pub fn files(&self, node: NodeId) -> Vec<(String, u64)> {
        self.world.nodes.borrow()[node.0].disk.files()
    }

    /// A hash of everything that happened and of what all disks hold. Two runs of one seed have
    /// the same one.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let nodes = self.world.nodes.borrow();
        nodes.iter().fold(self.world.trace(), |hash, node| {
            combine(hash, node.disk.hash())
        })
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "simulation: seed {} at {:?}, step {}",
                self.seed,
                self.now(),
                self.steps()
            );
        }
        for node in self.world.nodes.borrow_mut().iter_mut() {
            node.stopped.get_or_insert(StopReason::Killed);
        }
        // Tasks hold environments, which hold the world.
        self.world.drop_tasks(None);
    }
}
