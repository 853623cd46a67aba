//! The environment of one life of a simulated node.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::disk::{Disk, Operation, Outcome};
use super::draw::{Decision, Draw};
use super::executor::World;
use super::file::{InFlight, SimulatedFile};
use super::{NodeId, StopReason};
use crate::env::{
    BLOCK_BYTES, DirectoryEntry, Env, Instant, OnPanic, OpenOptions, Queue, Space, Task,
};

/// How long a computation beside the shards takes.
const OFFLOADED: Duration = Duration::from_micros(200);

/// The wall clock at virtual time 0: 2026-01-01.
const WALL_CLOCK_START_MS: i64 = 1_767_225_600_000;

/// The world as one node of a simulation sees it, from its start to its end. After that its I/O
/// and its timers never complete, and what it spawns never runs.
#[derive(Clone)]
pub struct SimulatedEnv {
    world: Rc<World>,
    node: NodeId,
    incarnation: u64,
}

impl SimulatedEnv {
    pub(super) fn new(world: Rc<World>, node: NodeId) -> SimulatedEnv {
        let incarnation = world.nodes.borrow()[node.0].incarnation;
        SimulatedEnv {
            world,
            node,
            incarnation,
        }
    }

    /// The node that this is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether this life of the node still goes on.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.world.is_alive(self.node, self.incarnation)
    }

    pub(super) fn fail(&self, message: String) {
        self.world.fail(message);
    }

    pub(super) fn complete_io_after(&self, latency: Duration, operation: u64) {
        self.world
            .complete_io_after(latency, self.node, self.incarnation, operation);
    }

    /// The node's disk, if the node still lives.
    pub(super) fn disk<T>(&self, use_disk: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        self.is_alive()
            .then(|| use_disk(&mut self.world.nodes.borrow_mut()[self.node.0].disk))
    }

    pub(super) async fn perform(&self, operation: Operation) -> io::Result<Outcome> {
        InFlight::start(self.clone(), operation).await
    }
}

impl Env for SimulatedEnv {
    type File = SimulatedFile;
    type Task<T: 'static> = SimulatedTask<T>;

    fn now(&self) -> Instant {
        self.world.now()
    }

    fn wall_clock_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.now().0 / 1_000_000).unwrap_or(i64::MAX);
        let offset = self.world.nodes.borrow()[self.node.0].clock_offset_ms;
        WALL_CLOCK_START_MS
            .saturating_add(elapsed)
            .saturating_add(offset)
    }

    fn random_u64(&self) -> u64 {
        let mut nodes = self.world.nodes.borrow_mut();
        let node = &mut nodes[self.node.0];
        node.randoms += 1;
        Draw::new(
            self.world.seed,
            Decision::Random,
            self.node.0 as u64,
            node.randoms,
        )
        .0
    }

    fn panics(&self) -> u64 {
        self.world.nodes.borrow()[self.node.0].panics
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        Sleep {
            world: Rc::clone(&self.world),
            until: self.now().plus(duration),
            timer: None,
        }
    }

    async fn yield_now(&self) {
        if self.world.should_yield() {
            let mut yielded = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut yielded, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    fn offload<T: Send + 'static>(
        &self,
        _name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let env = self.clone();
        async move {
            // Others run meanwhile, as they do beside a real thread.
            env.sleep(OFFLOADED).await;
            Some(work())
        }
    }

    fn spawn<T: 'static>(
        &self,
        _queue: Queue,
        name: &'static str,
        on_panic: OnPanic,
        future: impl Future<Output = T> + 'static,
    ) -> SimulatedTask<T> {
        let join = Rc::new(RefCell::new(Join {
            result: None,
            ended: false,
            waiting: None,
        }));
        if self.is_alive() {
            let ending = Ending(Rc::clone(&join));
            let whole = async move {
                let result = future.await;
                ending.0.borrow_mut().result = Some(result);
            };
            self.world.spawn(self.node, name, on_panic, Box::pin(whole));
        } else {
            join.borrow_mut().ended = true;
        }
        SimulatedTask { join }
    }

    fn fatal(&self, why: &str) {
        let mut nodes = self.world.nodes.borrow_mut();
        let node = &mut nodes[self.node.0];
        if node.incarnation == self.incarnation {
            node.stopped
                .get_or_insert_with(|| StopReason::Fatal(why.to_owned()));
        }
    }

    fn allocate_unset(&self, len: usize) -> Box<[u8]> {
        assert!(
            len > 0 && len.is_multiple_of(BLOCK_BYTES),
            "{len} bytes are not whole blocks"
        );
        // Not zero: what counts on it finds out.
        vec![0xa5; len].into_boxed_slice()
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<SimulatedFile> {
        match self
            .perform(Operation::Open {
                path: path.into(),
                options,
            })
            .await?
        {
            Outcome::Opened(inode) => Ok(SimulatedFile::new(self.clone(), inode, options)),
            _ => unreachable!("opening answers with a file"),
        }
    }

    async fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::CreateDirectory { path: path.into() })
            .await
            .map(drop)
    }

    async fn list_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        match self
            .perform(Operation::ListDirectory { path: path.into() })
            .await?
        {
            Outcome::Entries(entries) => Ok(entries),
            _ => unreachable!("listing answers with entries"),
        }
    }

    async fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::SyncDirectory { path: path.into() })
            .await
            .map(drop)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(Operation::Rename {
            from: from.into(),
            to: to.into(),
        })
        .await
        .map(drop)
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::RemoveFile { path: path.into() })
            .await
            .map(drop)
    }

    async fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::RemoveDirectory { path: path.into() })
            .await
            .map(drop)
    }

    async fn space(&self, _path: &Path) -> io::Result<Space> {
        let space = self.disk(|disk| disk.space());
        space.ok_or_else(|| io::Error::other("the simulated node has stopped"))
    }
}

struct Sleep {
    world: Rc<World>,
    until: Instant,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.take() {
            self.world.remove_timer(timer);
        }
        if self.world.now() >= self.until {
            return Poll::Ready(());
        }
        self.timer = Some(self.world.wake_at(self.until, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.world.remove_timer(timer);
        }
    }
}

struct Join<T> {
    result: Option<T>,
    ended: bool,
    waiting: Option<Waker>,
}

/// Dropped with the task's future, however that ends.
struct Ending<T>(Rc<RefCell<Join<T>>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut join = self.0.borrow_mut();
            join.ended = true;
            join.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// A task of a simulated node.
pub struct SimulatedTask<T> {
    join: Rc<RefCell<Join<T>>>,
}

impl<T> SimulatedTask<T> {
    /// Its result, if it has ended with one.
    pub(super) fn take_result(&self) -> Option<T> {
        self.join.borrow_mut().result.take()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.join.borrow().ended
    }
}

impl<T> Future for SimulatedTask<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut join = self.join.borrow_mut();
        if join.ended {
            return Poll::Ready(join.result.take());
        }
        join.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Task<T> for SimulatedTask<T> {}
