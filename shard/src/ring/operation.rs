//! What the kernel has been asked for and not answered, each in a place of its own. A place is free
//! again only when the kernel is done with it, so that no answer reaches the wrong one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::io::DmaBuffer;

use super::{Completion, Inner};

/// Of the events of a poll those after which nothing more comes.
const ENDS: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

/// Where an operation is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    pub(super) fn number(self) -> u64 {
        self.0 as u64
    }

    pub(super) fn from_number(number: u64) -> Place {
        Place(usize::try_from(number).expect("places are numbered from 0"))
    }
}

/// An operation, or none.
enum Slot {
    Free,
    /// A write: its memory until it is done, then its result until that is taken.
    Writing {
        buffer: DmaBuffer,
        waker: Option<Waker>,
        /// Nobody waits for it any more.
        orphaned: bool,
    },
    Written(i32),
    Polling(Polling),
}

/// A descriptor that is watched.
#[derive(Default)]
pub(super) struct Polling {
    /// It has become ready, and nobody has taken note.
    pub(super) ready: bool,
    /// The other side will send nothing more, or the connection has failed.
    pub(super) over: bool,
    /// The kernel watches it.
    pub(super) armed: bool,
    pub(super) waker: Option<Waker>,
    orphaned: bool,
}

/// What is left to do once an operation has completed.
#[derive(Default)]
pub(super) struct Done {
    pub(super) waker: Option<Waker>,
    /// Memory that the kernel is done with.
    pub(super) buffer: Option<DmaBuffer>,
}

/// All operations of a ring.
#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Slot>,
    free: Vec<usize>,
    writing: usize,
}

impl Operations {
    fn begin(&mut self, slot: Slot) -> Place {
        match self.free.pop() {
            Some(place) => {
                self.slots[place] = slot;
                Place(place)
            }
            None => {
                self.slots.push(slot);
                Place(self.slots.len() - 1)
            }
        }
    }

    fn end(&mut self, place: Place) {
        self.slots[place.0] = Slot::Free;
        self.free.push(place.0);
    }

    pub(super) fn begin_write(&mut self, buffer: DmaBuffer) -> Place {
        self.writing += 1;
        self.begin(Slot::Writing {
            buffer,
            waker: None,
            orphaned: false,
        })
    }

    pub(super) fn begin_polling(&mut self) -> Place {
        self.begin(Slot::Polling(Polling::default()))
    }

    /// What is watched there.
    pub(super) fn polling(&mut self, place: Place) -> &mut Polling {
        match &mut self.slots[place.0] {
            Slot::Polling(polling) => polling,
            _ => unreachable!("whoever watches keeps the place"),
        }
    }

    /// Nobody looks at it any more. Tells whether the kernel still does.
    pub(super) fn orphan_polling(&mut self, place: Place) -> bool {
        let polling = self.polling(place);
        polling.orphaned = true;
        polling.waker = None;
        let armed = polling.armed;
        if !armed {
            self.end(place);
        }
        armed
    }

    /// The kernel has answered.
    pub(super) fn complete(&mut self, place: Place, completion: Completion) -> Done {
        match &mut self.slots[place.0] {
            Slot::Polling(polling) => {
                polling.armed = completion.more;
                // After an error, too: whoever uses the descriptor then will hear of it.
                polling.ready = true;
                polling.over |= completion.result < 0 || completion.result & ENDS != 0;
                let waker = polling.waker.take();
                if polling.orphaned && !polling.armed {
                    self.end(place);
                }
                let buffer = None;
                Done { waker, buffer }
            }
            slot @ Slot::Writing { .. } => {
                self.writing -= 1;
                let written = Slot::Written(completion.result);
                let Slot::Writing {
                    buffer,
                    waker,
                    orphaned,
                } = std::mem::replace(slot, written)
                else {
                    unreachable!("it was matched just now");
                };
                if orphaned {
                    self.end(place);
                }
                let buffer = Some(buffer);
                Done { waker, buffer }
            }
            Slot::Free | Slot::Written(_) => unreachable!("the kernel answers what it was asked"),
        }
    }

    #[cfg(test)]
    pub(super) fn slots_in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn has_writes(&self) -> bool {
        self.writing > 0
    }

    /// Gives up the memory of writes that the kernel may still look at.
    pub(super) fn leak_writes(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slots));
    }
}

/// A write under way.
pub(super) struct Write {
    ring: Rc<Inner>,
    place: Place,
    /// The kernel did not take it.
    refused: Option<io::Error>,
    finished: bool,
}

impl Write {
    pub(super) fn new(ring: Rc<Inner>, place: Place, submitted: io::Result<()>) -> Write {
        Write {
            ring,
            place,
            refused: submitted.err(),
            finished: false,
        }
    }
}

impl Future for Write {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(error));
        }
        let ring = Rc::clone(&self.ring);
        let mut operations = ring.operations.borrow_mut();
        match &mut operations.slots[self.place.0] {
            Slot::Writing { waker, .. } => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Written(result) => {
                let result = *result;
                operations.end(self.place);
                self.finished = true;
                Poll::Ready(
                    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)),
                )
            }
            _ => unreachable!("a write keeps its place until its result is taken"),
        }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut operations = self.ring.operations.borrow_mut();
        match &mut operations.slots[self.place.0] {
            Slot::Writing {
                orphaned, waker, ..
            } => {
                *orphaned = true;
                *waker = None;
            }
            _ => operations.end(self.place),
        }
    }
}
