//! The simulation's executor: one thread, virtual time, every choice drawn from the seed. Tasks
//! that are ready run in any order, a spawned task may run before `spawn` returns, and the clock
//! moves a little with each poll, so that code which is right only in one order fails here.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::disk::Disk;
use super::draw::{Decision, Draw, combine};
use super::{NodeId, StopReason};
use crate::env::{Instant, OnPanic};

/// A task's place and how often the place was used before.
type TaskKey = (usize, u64);
type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u64,
    task: Option<TaskState>,
}

struct TaskState {
    node: NodeId,
    name: &'static str,
    on_panic: OnPanic,
    waker: Arc<TaskWaker>,
    /// Absent while it is being polled.
    future: Option<LocalFuture>,
}

/// The tasks that have been woken. Wakers must be `Send`, so it is a lock; nobody ever contends.
type Ready = Arc<Mutex<Vec<TaskKey>>>;

struct TaskWaker {
    key: TaskKey,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.key);
        }
    }
}

enum Timer {
    Wake(Waker),
    Io {
        node: NodeId,
        incarnation: u64,
        operation: u64,
    },
    Crash {
        node: NodeId,
        incarnation: u64,
    },
}

/// One simulated machine.
pub(super) struct Node {
    pub disk: Disk,
    pub incarnation: u64,
    pub stopped: Option<StopReason>,
    pub randoms: u64,
    pub clock_offset_ms: i64,
    pub panics: u64,
    pub steps: u64,
    pub crash_at_step: Option<u64>,
}

/// Everything there is in one simulation.
pub(super) struct World {
    pub seed: u64,
    now: Cell<u64>,
    steps: Cell<u64>,
    step_limit: Cell<u64>,
    trace: Cell<u64>,
    spawned: Cell<u64>,
    yields: Cell<u64>,
    tasks: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Ready,
    timers: RefCell<BTreeMap<(u64, u64), Timer>>,
    next_timer: Cell<u64>,
    pub nodes: RefCell<Vec<Node>>,
    /// Set when a task dropped an I/O in flight, or a panic must end the simulation.
    failure: RefCell<Option<Box<dyn Any + Send>>>,
}

/// What one step did.
pub(super) enum Step {
    Progress,
    /// No task is ready and no timer is set.
    Idle,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            seed,
            now: Cell::new(0),
            steps: Cell::new(0),
            step_limit: Cell::new(super::DEFAULT_STEP_LIMIT),
            trace: Cell::new(seed),
            spawned: Cell::new(0),
            yields: Cell::new(0),
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: Ready::default(),
            timers: RefCell::default(),
            next_timer: Cell::new(0),
            nodes: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    pub fn now(&self) -> Instant {
        Instant(self.now.get())
    }

    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub fn set_step_limit(&self, limit: u64) {
        self.step_limit.set(limit);
    }

    pub fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// Whether this life of the node still goes on.
    pub fn is_alive(&self, node: NodeId, incarnation: u64) -> bool {
        let nodes = self.nodes.borrow();
        let node = &nodes[node.0];
        node.incarnation == incarnation && node.stopped.is_none()
    }

    fn draw(&self, decision: Decision, counter: u64) -> Draw {
        Draw::new(self.seed, decision, 0, counter)
    }

    /// Whether a task that offers its turn gives it up.
    pub fn should_yield(&self) -> bool {
        self.yields.set(self.yields.get() + 1);
        self.draw(Decision::Yield, self.yields.get()).chance(0.5)
    }

    // Timers.

    fn add_timer(&self, at: Instant, timer: Timer) -> (u64, u64) {
        let key = (at.0, self.next_timer.get());
        self.next_timer.set(key.1 + 1);
        self.timers.borrow_mut().insert(key, timer);
        key
    }

    /// Wakes `waker` at `at`. Gives the key to change or remove it by.
    pub fn wake_at(&self, at: Instant, waker: Waker) -> (u64, u64) {
        self.add_timer(at, Timer::Wake(waker))
    }

    pub fn complete_io_after(
        &self,
        after: Duration,
        node: NodeId,
        incarnation: u64,
        operation: u64,
    ) {
        self.add_timer(
            self.now().plus(after),
            Timer::Io {
                node,
                incarnation,
                operation,
            },
        );
    }

    pub fn crash_after(&self, after: Duration, node: NodeId, incarnation: u64) {
        self.add_timer(self.now().plus(after), Timer::Crash { node, incarnation });
    }

    pub fn remove_timer(&self, key: (u64, u64)) {
        let removed = self.timers.borrow_mut().remove(&key);
        drop(removed);
    }

    /// Fires the first timer if it is due by `until`.
    fn fire_timer(&self, until: Instant) -> bool {
        let due = {
            let mut timers = self.timers.borrow_mut();
            match timers.first_entry() {
                Some(entry) if entry.key().0 <= until.0 => Some((entry.key().0, entry.remove())),
                _ => None,
            }
        };
        let Some((at, timer)) = due else { return false };
        self.now.set(self.now.get().max(at));
        match timer {
            Timer::Wake(waker) => waker.wake(),
            Timer::Io {
                node,
                incarnation,
                operation,
            } => self.complete_io(node, incarnation, operation),
            Timer::Crash { node, incarnation } => {
                if self.is_alive(node, incarnation) {
                    self.stop(node, StopReason::Crashed);
                }
            }
        }
        true
    }

    fn complete_io(&self, node: NodeId, incarnation: u64, operation: u64) {
        if !self.is_alive(node, incarnation) {
            return;
        }
        self.note(combine(node.0 as u64, operation));
        let waker = self.nodes.borrow_mut()[node.0].disk.complete(operation);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.count_step(node);
    }

    // Tasks.

    /// Adds a task; it may run before this returns.
    pub fn spawn(
        self: &Rc<Self>,
        node: NodeId,
        name: &'static str,
        on_panic: OnPanic,
        future: LocalFuture,
    ) {
        let key = self.add_task(node, name, on_panic, future);
        self.spawned.set(self.spawned.get() + 1);
        if self
            .draw(Decision::SpawnInline, self.spawned.get())
            .chance(0.5)
        {
            self.poll(key);
        } else {
            let waker = self.tasks.borrow()[key.0]
                .task
                .as_ref()
                .map(|task| Arc::clone(&task.waker));
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn add_task(
        &self,
        node: NodeId,
        name: &'static str,
        on_panic: OnPanic,
        future: LocalFuture,
    ) -> TaskKey {
        let mut tasks = self.tasks.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(Slot {
                generation: 0,
                task: None,
            });
            tasks.len() - 1
        });
        let key = (place, tasks[place].generation);
        let ready = Arc::clone(&self.ready);
        let waker = Arc::new(TaskWaker {
            key,
            queued: AtomicBool::new(false),
            ready,
        });
        tasks[place].task = Some(TaskState {
            node,
            name,
            on_panic,
            waker,
            future: Some(future),
        });
        key
    }

    /// The future of a task that is not being polled, its waker and its node.
    fn take_future(&self, key: TaskKey) -> Option<(LocalFuture, Waker, NodeId)> {
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks
            .get_mut(key.0)
            .filter(|slot| slot.generation == key.1)?;
        let task = slot.task.as_mut()?;
        Some((
            task.future.take()?,
            Waker::from(Arc::clone(&task.waker)),
            task.node,
        ))
    }

    fn poll(&self, key: TaskKey) {
        let Some((mut future, waker, node)) = self.take_future(key) else {
            return;
        };
        self.note(combine(key.0 as u64, key.1));
        let mut context = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {
                if let Some(task) = &mut self.tasks.borrow_mut()[key.0].task {
                    task.future = Some(future);
                }
            }
            Ok(Poll::Ready(())) => {
                self.remove_task(key);
                drop(future);
            }
            Err(panic) => {
                let task = self.remove_task(key);
                drop(future);
                self.panicked(node, task, panic);
            }
        }
    }

    fn remove_task(&self, key: TaskKey) -> Option<TaskState> {
        let mut tasks = self.tasks.borrow_mut();
        let slot = &mut tasks[key.0];
        slot.generation += 1;
        self.free.borrow_mut().push(key.0);
        slot.task.take()
    }

    fn panicked(&self, node: NodeId, task: Option<TaskState>, panic: Box<dyn Any + Send>) {
        self.nodes.borrow_mut()[node.0].panics += 1;
        let Some(task) = task else { return };
        if task.on_panic == OnPanic::StopProcess {
            eprintln!(
                "simulation: task '{}' of node {} panicked",
                task.name, node.0
            );
            self.failure.borrow_mut().get_or_insert(panic);
        }
    }

    /// Ends the simulation at the end of this step: a rule of the environment was broken.
    pub fn fail(&self, message: String) {
        self.failure
            .borrow_mut()
            .get_or_insert_with(|| Box::new(message));
    }

    // Steps.

    fn note(&self, event: u64) {
        self.trace
            .set(combine(combine(self.trace.get(), event), self.now.get()));
    }

    /// Counts one thing done by `node`; its turn to crash may have come.
    fn count_step(&self, node: NodeId) {
        let crash = {
            let mut nodes = self.nodes.borrow_mut();
            let node = &mut nodes[node.0];
            node.steps += 1;
            node.crash_at_step
                .take_if(|step| *step <= node.steps)
                .is_some()
                && node.stopped.is_none()
        };
        if crash {
            self.stop(node, StopReason::Crashed);
        }
    }

    /// Fires what is due and polls one task; without a ready task, lets time pass until `until`.
    pub fn step(&self, until: Instant) -> Step {
        while self.fire_timer(self.now()) {}
        let Some(key) = self.next_ready() else {
            let progress = self.fire_timer(until);
            self.check();
            return if progress { Step::Progress } else { Step::Idle };
        };
        let step = self.steps.get() + 1;
        self.steps.set(step);
        assert!(
            step < self.step_limit.get(),
            "{step} steps and no end: the simulation makes no progress"
        );
        let node = {
            let tasks = self.tasks.borrow();
            let slot = &tasks[key.0];
            slot.task
                .as_ref()
                .filter(|_| slot.generation == key.1)
                .map(|task| task.node)
        };
        if let Some(node) = node {
            self.poll(key);
            let cost = 100 + self.draw(Decision::PollCost, step).below(900);
            self.now.set(self.now.get() + cost);
            self.reap(node);
            self.count_step(node);
        }
        self.check();
        Step::Progress
    }

    /// Lets time pass in which nothing happens.
    pub fn pass(&self, until: Instant) {
        self.now.set(self.now.get().max(until.0));
    }

    fn next_ready(&self) -> Option<TaskKey> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let draw = self.draw(Decision::Schedule, self.steps.get());
        let place = draw.below(ready.len() as u64) as usize;
        let key = ready.swap_remove(place);
        drop(ready);
        if let Some(Slot {
            generation,
            task: Some(task),
        }) = self.tasks.borrow().get(key.0)
            && *generation == key.1
        {
            // From here on a wake-up queues it again.
            task.waker.queued.store(false, Ordering::Relaxed);
        }
        Some(key)
    }

    /// Panics if a rule was broken or a task that matters panicked.
    pub fn check(&self) {
        let failure = self.failure.borrow_mut().take();
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }

    // Nodes.

    /// A node that called `fatal` in this step ends now.
    pub fn reap(&self, node: NodeId) {
        let stopped = self.nodes.borrow()[node.0].stopped.is_some();
        if stopped {
            self.drop_tasks(Some(node));
            self.nodes.borrow_mut()[node.0].disk.abandon();
        }
    }

    /// Ends a node's processes; if it crashes, its disk forgets what was not durable.
    pub fn stop(&self, node: NodeId, reason: StopReason) {
        let crashed = matches!(reason, StopReason::Crashed);
        self.nodes.borrow_mut()[node.0]
            .stopped
            .get_or_insert(reason);
        self.drop_tasks(Some(node));
        let mut nodes = self.nodes.borrow_mut();
        let disk = &mut nodes[node.0].disk;
        if crashed {
            disk.crash()
        } else {
            disk.abandon()
        }
    }

    /// Drops every task of `node`, or of all.
    pub fn drop_tasks(&self, node: Option<NodeId>) {
        let mut dropped = Vec::new();
        {
            let mut tasks = self.tasks.borrow_mut();
            for (place, slot) in tasks.iter_mut().enumerate() {
                if slot
                    .task
                    .as_ref()
                    .is_some_and(|task| node.is_none_or(|node| task.node == node))
                {
                    slot.generation += 1;
                    dropped.push(slot.task.take());
                    self.free.borrow_mut().push(place);
                }
            }
        }
        // Outside of every borrow: a future's drop may run any code.
        drop(dropped);
    }
}
