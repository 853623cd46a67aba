//! A shard's own io_uring, beside the three of its executor, for what is asked for most often: the
//! readiness of its clients' sockets and the durable writes of its journal.
//!
//! The executor hands its requests to the kernel when it runs out of work or when its preemption
//! timer says so, a millisecond on a busy shard, and each completion interrupts the shard. This ring
//! differs in both: what is asked for is with the kernel at once, so that the disk works while the
//! shard does, and what has completed waits until the shard looks ([`Ring::turn`], in every
//! `yield_now`), so that nothing interrupts it. A shard that sleeps is woken by an eventfd, which the
//! executor reads.
//!
//! Runs on the shard's thread alone. Nothing here blocks, except dropping the ring, which waits for
//! writes in flight: the kernel may not be left with memory that is given to somebody else. Needs
//! Linux 6.1 (`IORING_SETUP_DEFER_TASKRUN`).
#![allow(unsafe_code)] // Submissions carry addresses and descriptors as numbers.

mod operation;
mod readiness;
mod serve;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use glommio::io::DmaBuffer;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use operation::{Operations, Place, Write};
pub use readiness::{Interest, Readiness};
pub(crate) use serve::serve;

/// Entries of the submission queue. Each is handed over at once, so it never fills.
const SUBMISSIONS: u32 = 64;
/// Entries of the completion queue: one for each connection that may become ready between two looks.
/// The kernel keeps what does not fit.
const COMPLETIONS: u32 = 4096;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;
/// So often nothing came of fetching, although there seemed to be something, and so there is nothing:
/// the kernel works a few things off at a time, and not all of them complete an operation.
const FETCHES_IDLE: u32 = 3;
/// What a cancellation is called; nobody waits for its own completion.
const CANCELLATION: u64 = u64::MAX;
/// How long a ring that is dropped waits for its writes: so often, so long.
const WRITE_PATIENCE_ROUNDS: u32 = 30;
const WRITE_PATIENCE_ROUND: Duration = Duration::from_secs(1);
/// How often a submission is tried again that the kernel has no room for at the moment.
const SUBMIT_ATTEMPTS: usize = 1_000;

/// A shard's ring. Cheap to clone; clones are the same ring.
#[derive(Clone)]
pub struct Ring {
    inner: Rc<Inner>,
}

struct Inner {
    ring: RefCell<IoUring>,
    operations: RefCell<Operations>,
    /// Memory for what a turn takes in.
    taken: Cell<Vec<Completion>>,
    /// Told by the kernel when there is something to take in.
    wake: OwnedFd,
    /// Operations of the executor's own rings that somebody waits for.
    elsewhere: Cell<u32>,
    has_peers: Cell<bool>,
}

/// What the kernel says of an operation.
#[derive(Clone, Copy)]
struct Completion {
    place: u64,
    result: i32,
    /// The same operation will complete again.
    more: bool,
}

impl Ring {
    /// A ring for the calling thread, which alone may use it.
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let wake = rustix::event::eventfd(0, flags)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let ring = Ring {
            inner: Rc::new(Inner {
                ring: RefCell::new(ring),
                operations: RefCell::default(),
                taken: Cell::default(),
                wake,
                elsewhere: Cell::new(0),
                has_peers: Cell::new(false),
            }),
        };
        ring.disarm();
        Ok(ring)
    }

    /// Becomes readable, while the ring is armed, when there is something to take in.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.inner.wake.as_fd()
    }

    /// From now on [`Ring::wake`] tells. False if there is something already, which it would not tell.
    pub(crate) fn arm(&self) -> bool {
        let mut ring = self.inner.ring.borrow_mut();
        ring.completion().enable_eventfd();
        // The kernel first notes what has completed and then looks whether to tell; we do it the
        // other way around, and so one of the two sees the other.
        fence(Ordering::SeqCst);
        fetch(&mut ring);
        let nothing = ring.completion().is_empty();
        if !nothing {
            ring.completion().disable_eventfd();
        }
        nothing
    }

    /// Nobody waits for [`Ring::wake`] any more.
    pub(crate) fn disarm(&self) {
        self.inner.ring.borrow_mut().completion().disable_eventfd();
    }

    /// Takes in what has completed, if anything has, and wakes who waits for it. Looking costs a few
    /// nanoseconds. Tells whether there was anything.
    pub fn turn(&self) -> bool {
        let mut taken = self.inner.taken.take();
        self.inner.take_in(&mut taken);
        let any = !taken.is_empty();
        for completion in taken.drain(..) {
            self.inner.completed(completion);
        }
        self.inner.taken.set(taken);
        any
    }

    /// Other shards may send messages, which come by another way.
    pub(crate) fn expect_peers(&self) {
        self.inner.has_peers.set(true);
    }

    /// Something is under way on the executor's own rings until this is dropped.
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        let count = &self.inner.elsewhere;
        count.set(count.get() + 1);
        Elsewhere(self.clone())
    }

    /// Writes the whole buffer at `position`. The write is with the kernel when this returns;
    /// whether or not it is awaited, it happens, and the buffer lives until it has. Gives the number
    /// of bytes written.
    pub fn write_at(
        &self,
        file: BorrowedFd<'_>,
        buffer: DmaBuffer,
        position: u64,
    ) -> impl Future<Output = io::Result<usize>> + use<> {
        let bytes = buffer.as_bytes();
        let len = u32::try_from(bytes.len()).expect("buffers are far shorter than 4 GiB");
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), len).offset(position);
        let place = self.inner.operations.borrow_mut().begin_write(buffer);
        // SAFETY: the operation holds the buffer, whose memory does not move with it, until the
        // kernel has completed this entry; `Inner::drop` waits for that, too.
        let submitted = unsafe { self.inner.submit(entry.build().user_data(place.number())) };
        Write::new(Rc::clone(&self.inner), place, submitted)
    }
}

/// See [`Ring::elsewhere`].
pub(crate) struct Elsewhere(Ring);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let count = &self.0.inner.elsewhere;
        count.set(count.get() - 1);
    }
}

impl Inner {
    /// Hands one entry to the kernel.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay as it is until the kernel has completed it, also if this
    /// fails: the kernel may still come to it.
    unsafe fn submit(&self, entry: squeue::Entry) -> io::Result<()> {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: the caller's promise.
        unsafe { ring.submission().push(&entry) }
            .map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
        let mut attempts = 0;
        loop {
            match ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) if attempts < SUBMIT_ATTEMPTS && is_passing(&error) => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sleeps until something has completed, but not for longer than `at_most`.
    fn sleep(&self, at_most: Duration) {
        let at_most = Timespec::from(at_most);
        let arguments = SubmitArgs::new().timespec(&at_most);
        let ring = self.ring.borrow();
        // Whatever the reason for waking, the caller looks what there is.
        let _ = ring.submitter().submit_with_args(1, &arguments);
    }

    /// Moves completions out of the ring.
    fn take_in(&self, taken: &mut Vec<Completion>) {
        let mut ring = self.ring.borrow_mut();
        fetch(&mut ring);
        taken.extend(ring.completion().map(|entry| Completion {
            place: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        }));
    }

    fn completed(&self, completion: Completion) {
        if completion.place == CANCELLATION {
            return;
        }
        let mut operations = self.operations.borrow_mut();
        let done = operations.complete(Place::from_number(completion.place), completion);
        drop(operations);
        // Only now: a waker may run code that begins an operation.
        if let Some(waker) = done.waker {
            waker.wake();
        }
        drop(done.buffer);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for _ in 0..WRITE_PATIENCE_ROUNDS {
            if !self.operations.get_mut().has_writes() {
                return;
            }
            self.sleep(WRITE_PATIENCE_ROUND);
            let mut taken = Vec::new();
            self.take_in(&mut taken);
            taken.into_iter().for_each(|done| self.completed(done));
        }
        // Better a leak than memory that the kernel reads while somebody else writes to it.
        self.operations.get_mut().leak_writes();
    }
}

/// Lets the kernel put what has completed into the completion queue. The flag that says that there is
/// more may be a leftover: the kernel sets it after it has added what it stands for, and that may have
/// been fetched in between.
fn fetch(ring: &mut IoUring) {
    let mut idle = 0;
    while idle < FETCHES_IDLE {
        let submission = ring.submission();
        if !submission.taskrun() && !submission.cq_overflow() {
            return;
        }
        drop(submission);
        let before = ring.completion().len();
        // SAFETY: no argument is passed.
        let entered = unsafe {
            ring.submitter()
                .enter::<libc::sigset_t>(0, 0, GET_EVENTS, None)
        };
        match entered {
            Err(error) if !is_passing(&error) => {
                tracing::error!(%error, "io_uring_enter failed");
                return;
            }
            _ if ring.completion().len() == before => idle += 1,
            _ => idle = 0,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}
