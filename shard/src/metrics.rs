//! What one shard counts and times. Plain cells: a shard is one thread, and whoever wants the
//! figures asks it for a [`Snapshot`]. It does no I/O and keeps no timer.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::journal::JournalMetrics;
use crate::segment::SegmentCounters;

/// Longest time a histogram tells apart, ns: a minute. Longer ones count as that.
const LONGEST_NANOS: u64 = 60_000_000_000;

/// Significant decimal digits of a histogram.
const DIGITS: u8 = 2;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// The counter's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Records appended.
    RecordsAppended = "records_appended",
    /// Batches appended.
    BatchesAppended = "batches_appended",
    /// Batches of idempotent producers that were here already and were not appended again.
    DuplicateBatches = "duplicate_batches",
    /// Bytes of batches appended.
    BytesAppended = "bytes_appended",
    /// Appends that were refused (no space, damage, shutdown).
    AppendsRefused = "appends_refused",
    /// Times an append had to wait for room.
    AppendsDelayed = "appends_delayed",
    /// Bytes of batches read.
    BytesRead = "bytes_read",
    /// Reads answered from memory.
    CacheHits = "cache_hits",
    /// Reads that went to a segment.
    CacheMisses = "cache_misses",
    /// Batches that left the cache to make room.
    CacheEvictions = "cache_evictions",
    /// Waits for new data that were woken.
    WatchersWoken = "watchers_woken",
    /// Times a partition's batches were written to its segments.
    Flushes = "flushes",
    /// Bytes of batches written to segments.
    BytesFlushed = "bytes_flushed",
    /// Bytes of segments removed.
    SegmentBytesRemoved = "segment_bytes_removed",
    /// Segment writes that found the disk full.
    DiskFull = "disk_full",
    /// Reads that found stored bytes to fail their checksum.
    CorruptReads = "corrupt_reads",
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stretch of a request's way that is timed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Stage { $($(#[$doc])* $name,)* }

        impl Stage {
            /// Every stage, in order.
            pub const ALL: &'static [Stage] = &[$(Stage::$name,)*];

            /// The stage's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Stage::$name => $text,)* }
            }
        }
    };
}

stages! {
    /// A request's frame, from its first byte to its last.
    Receive = "receive",
    /// From the frame being complete to its work being under way: a produce request's batches have
    /// their places, any other request's task runs.
    Queue = "queue",
    /// A batch, from its offset being assigned to being durable and visible.
    Append = "append",
    /// One partition's batches being written to its segments and synced.
    SegmentWrite = "segment_write",
    /// One read from a segment.
    SegmentRead = "segment_read",
    /// A fetch that found nothing, until it was woken or timed out.
    FetchWait = "fetch_wait",
    /// A response being handed to the kernel.
    Send = "send",
}

/// One shard's figures.
pub struct Metrics {
    counters: [Cell<u64>; Counter::ALL.len()],
    stages: RefCell<Vec<Histogram<u64>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST_NANOS, DIGITS)
                .expect("constant bounds that hdrhistogram takes")
        };
        Metrics {
            counters: [const { Cell::new(0) }; Counter::ALL.len()],
            stages: RefCell::new(Stage::ALL.iter().map(|_| histogram()).collect()),
        }
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        let cell = &self.counters[counter as usize];
        cell.set(cell.get().wrapping_add(amount));
    }

    /// A counter's value.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].get()
    }

    /// Notes how long a stage took.
    pub fn record(&self, stage: Stage, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.stages.borrow_mut()[stage as usize].saturating_record(nanos.max(1));
    }

    /// The figures as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let stages = self.stages.borrow();
        Snapshot {
            counters: Counter::ALL
                .iter()
                .map(|counter| (counter.name(), self.get(*counter)))
                .collect(),
            stages: Stage::ALL
                .iter()
                .map(|stage| StageSummary::of(stage.name(), &stages[*stage as usize]))
                .collect(),
        }
    }
}

/// A shard's figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Each counter or gauge and its value.
    pub counters: Vec<(&'static str, u64)>,
    /// Each stage's distribution.
    pub stages: Vec<StageSummary>,
}

impl Snapshot {
    /// Adds what the journal knows of itself.
    pub(crate) fn add_journal(&mut self, journal: &JournalMetrics) {
        self.counters.extend([
            ("journal_groups", journal.groups.get()),
            ("journal_seals", journal.seals.get()),
            ("journal_entries", journal.entries.get()),
            ("journal_bytes", journal.bytes.get()),
            ("journal_rolls", journal.rolls.get()),
            ("journal_files_made", journal.files_made.get()),
            ("journal_waits_for_file", journal.waits_for_file.get()),
            ("journal_live_files", journal.live_files.get()),
        ]);
        self.stages
            .push(StageSummary::of("journal_wait", &journal.wait.borrow()));
        self.stages
            .push(StageSummary::of("journal_write", &journal.write.borrow()));
    }

    /// Adds what the segments know of themselves.
    pub(crate) fn add_segments(&mut self, segments: &SegmentCounters) {
        self.counters.extend([
            ("segment_bytes_written", segments.bytes_written.get()),
            ("segment_bytes_read", segments.bytes_read.get()),
            ("segment_read_ahead_hits", segments.read_ahead_hits.get()),
            ("segment_syncs", segments.syncs.get()),
            ("segment_rolls", segments.rolls.get()),
            ("segments_removed", segments.removed.get()),
            ("segment_index_rebuilds", segments.index_rebuilds.get()),
            ("segment_damages", segments.damages.get()),
            ("segment_files_opened", segments.files_opened.get()),
        ]);
    }
}

/// A stage's distribution in figures, ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSummary {
    /// Which stage.
    pub stage: &'static str,
    /// How many were timed.
    pub count: u64,
    /// Half took at most this.
    pub p50_nanos: u64,
    /// 99 of 100 took at most this.
    pub p99_nanos: u64,
    /// 999 of 1,000 took at most this.
    pub p999_nanos: u64,
    /// The longest.
    pub max_nanos: u64,
    /// The whole distribution by rising time: at most so long, and how often. Times nobody had are
    /// left out.
    pub buckets: Vec<(u64, u64)>,
}

impl StageSummary {
    fn of(stage: &'static str, histogram: &Histogram<u64>) -> StageSummary {
        StageSummary {
            stage,
            count: histogram.len(),
            p50_nanos: histogram.value_at_quantile(0.5),
            p99_nanos: histogram.value_at_quantile(0.99),
            p999_nanos: histogram.value_at_quantile(0.999),
            max_nanos: histogram.max(),
            buckets: histogram
                .iter_recorded()
                .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_appear_in_the_snapshot() {
        let metrics = Metrics::new();
        metrics.add(Counter::RecordsAppended, 3);
        metrics.record(Stage::Append, Duration::from_micros(100));
        metrics.record(Stage::Append, Duration::from_secs(3_600));
        let snapshot = metrics.snapshot();
        assert!(snapshot.counters.contains(&("records_appended", 3)));
        let wait = &snapshot.stages[Stage::Append as usize];
        assert_eq!((wait.stage, wait.count), ("append", 2));
        assert!(
            (99_000..=101_000).contains(&wait.p50_nanos),
            "{}",
            wait.p50_nanos
        );
        assert!(
            wait.max_nanos >= LONGEST_NANOS,
            "too long a time counts as the longest"
        );
    }
}
