//! What a journal counts and how long things take in it. Kept by the journal on its own core, read
//! by whoever reports.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);
/// Two significant digits: within one per cent, in some 60 KiB.
const DIGITS: u8 = 2;

/// A journal's counters and latencies.
#[derive(Debug)]
pub struct JournalMetrics {
    /// Groups made durable, seals included.
    pub groups: Cell<u64>,
    /// Groups written to seal an idle journal.
    pub seals: Cell<u64>,
    /// Entries made durable, those of checkpoints included.
    pub entries: Cell<u64>,
    /// Bytes written, whole blocks.
    pub bytes: Cell<u64>,
    /// Files begun.
    pub rolls: Cell<u64>,
    /// Files filled with zeros.
    pub files_made: Cell<u64>,
    /// Times a group had to wait for a file to roll into.
    pub waits_for_file: Cell<u64>,
    /// Files in use at present.
    pub live_files: Cell<u64>,
    /// Nanoseconds from a group's first entry until its write began.
    pub wait: RefCell<Histogram<u64>>,
    /// Nanoseconds from there until it was durable, with all before it.
    pub write: RefCell<Histogram<u64>>,
}

impl Default for JournalMetrics {
    fn default() -> JournalMetrics {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = || {
            let new = Histogram::new_with_bounds(1, longest, DIGITS);
            RefCell::new(new.expect("one to a minute at two digits is a valid range"))
        };
        JournalMetrics {
            groups: Cell::default(),
            seals: Cell::default(),
            entries: Cell::default(),
            bytes: Cell::default(),
            rolls: Cell::default(),
            files_made: Cell::default(),
            waits_for_file: Cell::default(),
            live_files: Cell::default(),
            wait: histogram(),
            write: histogram(),
        }
    }
}

pub(super) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

pub(super) fn record(histogram: &RefCell<Histogram<u64>>, time: Duration) {
    histogram
        .borrow_mut()
        .saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
}
