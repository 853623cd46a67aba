//! Many seeds over threads.

use std::num::ParseIntError;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use thiserror::Error;

use crate::hash::hash_of;
use crate::panics::guarded;
use crate::time::Time;

/// So many failing seeds are enough to look at: the runner stops.
pub const MOST_VIOLATIONS: usize = 10;

/// The environment variable that says which seeds tests run: a number of them, or `5000..6000`.
pub const SEEDS_VARIABLE: &str = "MILLRACE_SIMULATION_SEEDS";

/// The rule that a run which panics has broken.
pub const NO_PANIC: &str = "no assertion fails";

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// How many events it processed.
    pub events: u64,
    /// The hash of its final state: the same seed, plan and code give the same.
    pub state_hash: u64,
    /// The first rule that it broke, if it broke one.
    pub violation: Option<Violation>,
}

impl Outcome {
    /// The outcome of a run that panicked. Its time is not known.
    pub(crate) fn panicked(seed: u64, message: String) -> Self {
        Self {
            seed,
            events: 0,
            state_hash: 0,
            violation: Some(Violation {
                at: Time::ZERO,
                rule: NO_PANIC.to_owned(),
                detail: message,
            }),
        }
    }
}

/// A rule that a run broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it was seen.
    pub at: Time,
    /// The rule, in the same words for every seed: shrinking keeps to failures of one rule.
    pub rule: String,
    /// What was seen: nodes, terms, offsets.
    pub detail: String,
}

/// What came of many runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many runs ended.
    pub runs: u64,
    /// The events of all of them.
    pub events: u64,
    /// Real seconds from the first run's beginning to the last one's end.
    pub seconds: f64,
    /// Real seconds of all runs, added up: what a core's share of throughput is measured by.
    pub busy_seconds: f64,
    /// Seeds that broke a rule, in the order of seeds; after [`MOST_VIOLATIONS`] no more runs begin.
    pub violations: Vec<(u64, Violation)>,
    /// The seed that took longest, and its real seconds.
    pub slowest: Option<(u64, f64)>,
    /// One hash over the final states of all runs, whatever order they ended in: two whole
    /// executions can be compared by it.
    pub fingerprint: u64,
}

impl Summary {
    /// Throughput, in events per second and core.
    #[must_use]
    pub fn events_per_second_and_core(&self) -> f64 {
        self.events as f64 / self.busy_seconds.max(1e-9)
    }

    /// Panics with all violations if there are any: the last line of a test.
    pub fn assert_no_violation(&self) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }

    fn add(&mut self, outcome: Outcome, seconds: f64) {
        self.runs += 1;
        self.events += outcome.events;
        self.busy_seconds += seconds;
        let seen = hash_of(&(outcome.seed, outcome.state_hash));
        self.fingerprint = self.fingerprint.wrapping_add(seen);
        if self.slowest.is_none_or(|(_, slowest)| slowest < seconds) {
            self.slowest = Some((outcome.seed, seconds));
        }
        if let Some(violation) = outcome.violation {
            self.violations.push((outcome.seed, violation));
        }
    }

    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.busy_seconds += other.busy_seconds;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
        self.violations.extend(other.violations);
        if let Some((seed, seconds)) = other.slowest
            && self.slowest.is_none_or(|(_, slowest)| slowest < seconds)
        {
            self.slowest = Some((seed, seconds));
        }
    }
}

/// Runs each seed once, on as many threads as said, and adds up what came of it. `progress` hears
/// after each run how many have ended; it is called from all threads. A run that panics has broken
/// a rule ([`NO_PANIC`]). After ten violations no more runs begin.
pub fn run_seeds(
    seeds: Range<u64>,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
    run: impl Fn(u64) -> Outcome + Sync,
) -> Summary {
    let count = seeds.end.saturating_sub(seeds.start);
    let threads = threads.clamp(1, usize::try_from(count.max(1)).unwrap_or(usize::MAX));
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let violations = AtomicUsize::new(0);
    let total = Mutex::new(Summary::default());
    let work = || {
        let mut own = Summary::default();
        while violations.load(Ordering::Relaxed) < MOST_VIOLATIONS {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let seed = seeds.start + index;
            let began = Instant::now();
            let outcome =
                guarded(|| run(seed)).unwrap_or_else(|message| Outcome::panicked(seed, message));
            assert_eq!(outcome.seed, seed, "the outcome of another seed");
            if outcome.violation.is_some() {
                violations.fetch_add(1, Ordering::Relaxed);
            }
            own.add(outcome, began.elapsed().as_secs_f64());
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        total
            .lock()
            .expect("no thread panics while it merges")
            .merge(own);
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut summary = total
        .into_inner()
        .expect("no thread panics while it merges");
    summary.seconds = began.elapsed().as_secs_f64();
    summary.violations.sort_by_key(|&(seed, _)| seed);
    summary
}

/// The summary of one run. Its seed may be the greatest of all, which no range of seeds holds.
#[cfg(feature = "cli")]
pub(crate) fn run_one(run: impl FnOnce() -> Outcome) -> Summary {
    let began = Instant::now();
    let outcome = run();
    let seconds = began.elapsed().as_secs_f64();
    let mut summary = Summary {
        seconds,
        ..Summary::default()
    };
    summary.add(outcome, seconds);
    summary
}

/// Seeds that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SeedsError {
    /// A part that is no number.
    #[error(
        "'{text}' names no seeds ({source}): write a number of them, or two ends such as 5000..6000"
    )]
    NotANumber {
        /// What was written.
        text: String,
        /// What is wrong with it.
        source: ParseIntError,
    },
    /// A range with nothing in it, which would pass without a run.
    #[error("'{0}' names no seed at all: the second end is not part of the range")]
    Empty(String),
}

/// Reads which seeds to run: `1000` for the first thousand, `5000..6000` for those from the first
/// end to before the second.
pub fn parse_seeds(text: &str) -> Result<Range<u64>, SeedsError> {
    let number = |part: &str| {
        part.trim()
            .parse::<u64>()
            .map_err(|source| SeedsError::NotANumber {
                text: text.to_owned(),
                source,
            })
    };
    let seeds = match text.split_once("..") {
        Some((start, end)) => number(start)?..number(end)?,
        None => 0..number(text)?,
    };
    if seeds.is_empty() {
        return Err(SeedsError::Empty(text.to_owned()));
    }
    Ok(seeds)
}

/// The seeds that a test runs: the first `default` ones, or what `MILLRACE_SIMULATION_SEEDS` says.
/// Prints which, so that a failing test names them.
///
/// # Panics
///
/// If the variable cannot be read: a test that ran other seeds than asked would mislead.
#[must_use]
pub fn seeds_from_environment(default: u64) -> Range<u64> {
    let seeds = match std::env::var(SEEDS_VARIABLE) {
        Ok(text) => match parse_seeds(&text) {
            Ok(seeds) => seeds,
            Err(error) => panic!("{SEEDS_VARIABLE}: {error}"),
        },
        Err(std::env::VarError::NotPresent) => 0..default,
        Err(error) => panic!("{SEEDS_VARIABLE}: {error}"),
    };
    println!(
        "seeds {}..{} ({SEEDS_VARIABLE} names others)",
        seeds.start, seeds.end
    );
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seed: u64, broken: bool) -> Outcome {
        Outcome {
            seed,
            events: 10,
            state_hash: hash_of(&seed),
            violation: broken.then(|| Violation {
                at: Time(seed),
                rule: "even".to_owned(),
                detail: format!("{seed} is odd"),
            }),
        }
    }

    #[test]
    fn each_seed_runs_once_on_any_number_of_threads() {
        let mut fingerprints = Vec::new();
        for threads in [0, 1, 3, 8] {
            let seen = Mutex::new(Vec::new());
            let last = AtomicU64::new(0);
            let progress = |done| {
                last.fetch_max(done, Ordering::Relaxed);
            };
            let summary = run_seeds(100..300, threads, &progress, |seed| {
                seen.lock().expect("no panic").push(seed);
                outcome(seed, false)
            });
            let mut seen = seen.into_inner().expect("no panic");
            seen.sort_unstable();
            assert_eq!(seen, (100..300).collect::<Vec<u64>>());
            assert_eq!((summary.runs, summary.events), (200, 2_000));
            assert_eq!(last.into_inner(), 200);
            assert!(summary.busy_seconds > 0.0 && summary.slowest.is_some());
            summary.assert_no_violation();
            fingerprints.push(summary.fingerprint);
        }
        assert!(fingerprints.iter().all(|&one| one == fingerprints[0]));
        let other = run_seeds(100..299, 1, &|_| {}, |seed| outcome(seed, false));
        assert_ne!(other.fingerprint, fingerprints[0]);
    }

    #[test]
    fn ten_violations_are_enough() {
        let summary = run_seeds(0..1_000_000, 1, &|_| {}, |seed| {
            outcome(seed, seed % 2 == 1)
        });
        assert_eq!(summary.runs, 20);
        let seeds: Vec<u64> = summary.violations.iter().map(|&(seed, _)| seed).collect();
        assert_eq!(seeds, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
        // Threads that are under way finish what they began.
        let summary = run_seeds(0..1_000_000, 4, &|_| {}, |seed| outcome(seed, true));
        assert!((10..=13).contains(&summary.violations.len()));
        assert!(summary.violations.is_sorted_by_key(|&(seed, _)| seed));
    }

    #[test]
    fn a_panic_is_a_violation_of_its_seed() {
        let summary = run_seeds(0..100, 2, &|_| {}, |seed| {
            assert_ne!(seed, 42, "the answer");
            outcome(seed, false)
        });
        assert_eq!(summary.runs, 100);
        let [(42, violation)] = &summary.violations[..] else {
            panic!("{:?}", summary.violations);
        };
        assert_eq!(violation.rule, NO_PANIC);
        assert!(violation.detail.contains("the answer"));
    }

    #[test]
    fn seeds_are_a_number_or_two_ends() {
        assert_eq!(parse_seeds("1000"), Ok(0..1_000));
        assert_eq!(parse_seeds(" 5 .. 9 "), Ok(5..9));
        for (text, part) in [
            ("", "names no seeds"),
            ("many", "names no seeds"),
            ("-1", "names no seeds"),
            ("5..", "names no seeds"),
            ("0", "no seed at all"),
            ("9..5", "no seed at all"),
        ] {
            let error = parse_seeds(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
