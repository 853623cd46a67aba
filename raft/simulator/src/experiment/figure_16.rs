//! How long a group is without a leader after its leader has crashed, against the spread of election
//! timeouts: figure 16 of the Raft paper (section 9.3).

use std::fmt;
use std::time::Duration;

use raft::{CommitRule, Reads, Settings};
use simulation::{LinkModel, Mix, Plan, Scenario, Seed, Time, Violation};

use super::plot::{Curve, cumulative};
use crate::profile::{Load, Profile};
use crate::world::World;

/// Servers, one of which crashes.
const SERVERS: usize = 5;

/// A trial without a leader for this long is counted as so long.
const LONGEST: Duration = Duration::from_secs(60);

/// The timeouts of the paper's figure, in milliseconds: the upper plot, then the lower one.
const TIMEOUTS_MS: [(u64, u64); 11] = [
    (150, 150),
    (150, 151),
    (150, 155),
    (150, 175),
    (150, 200),
    (150, 300),
    (12, 24),
    (25, 50),
    (50, 100),
    (100, 200),
    (150, 300),
];

/// How many lines the figure has.
pub const LINES_OF_FIGURE_16: u64 = TIMEOUTS_MS.len() as u64;

/// The figure: what was measured, and under which model.
#[derive(Clone, Debug)]
pub struct Figure16 {
    /// One for each range of timeouts.
    pub lines: Vec<Line>,
    /// How many crashes each line is made of.
    pub trials: u64,
}

/// One range of timeouts.
#[derive(Clone, Debug)]
pub struct Line {
    /// The shortest and the longest timeout, in milliseconds.
    pub timeouts_ms: (u64, u64),
    /// From each crash until another leader was elected, sorted.
    pub without_leader: Vec<Duration>,
    /// From each crash until it served, sorted.
    pub without_service: Vec<Duration>,
}

impl Line {
    /// The trial in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.without_leader[self.without_leader.len() / 2]
    }

    /// The mean of all trials.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let count = u32::try_from(self.without_leader.len()).unwrap_or(u32::MAX);
        self.without_leader.iter().sum::<Duration>() / count
    }

    /// The longest trial.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.without_leader[self.without_leader.len() - 1]
    }
}

/// Crashes so many leaders at each range of timeouts; `progress` hears of each trial. Fails with the
/// rule that was broken, if any was: then nothing was measured.
///
/// # Panics
/// Without a trial: there would be nothing to tell.
pub fn figure_16(trials: u64, progress: &dyn Fn()) -> Result<Figure16, Violation> {
    assert!(trials > 0, "at least one trial");
    let mut lines = Vec::new();
    for timeouts_ms in TIMEOUTS_MS {
        let mut line = Line {
            timeouts_ms,
            without_leader: Vec::new(),
            without_service: Vec::new(),
        };
        for trial in 0..trials {
            let (elected, served) = crash_a_leader(timeouts_ms, trial)?;
            line.without_leader.push(elected);
            line.without_service.push(served);
            progress();
        }
        line.without_leader.sort_unstable();
        line.without_service.sort_unstable();
        lines.push(line);
    }
    Ok(Figure16 { lines, trials })
}

/// Five servers, no load. A candidate's own write, its requests, the voters' writes and their answers
/// take 15 ms together, the broadcast time of the paper.
fn profile((shortest_ms, longest_ms): (u64, u64)) -> Profile {
    let election_timeout = Duration::from_millis(shortest_ms);
    Profile {
        voters: SERVERS,
        settings: Settings {
            election_timeout,
            election_spread: Duration::from_millis(longest_ms - shortest_ms),
            heartbeat_interval: election_timeout / 2,
            commit_rule: CommitRule::Majority,
            reads: Reads::Quorum,
            quiesce_after: None,
            ..Settings::default()
        },
        link: LinkModel {
            delay_min: Duration::from_micros(3_000),
            delay_mean: Duration::from_micros(500),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::ZERO,
        },
        ordered: false,
        disk_min: Duration::from_micros(3_500),
        disk_mean: Duration::from_micros(500),
        timer_late: Duration::from_micros(100),
        drift_ppm: 50,
        // No hints: nobody but Raft finds out.
        detection: LONGEST * 100,
        load: Load::none(),
        resident: 1_000,
        read_delay: Duration::from_millis(1),
    }
}

/// One trial: how long nobody was elected, and nobody served.
fn crash_a_leader(timeouts_ms: (u64, u64), trial: u64) -> Result<(Duration, Duration), Violation> {
    let seed = Seed(trial).derive("figure 16", &[timeouts_ms.0, timeouts_ms.1]);
    let scenario = Scenario {
        seed: seed.0,
        nodes: SERVERS,
        mix: Mix::Calm,
        length: LONGEST * 10,
    };
    let profile = profile(timeouts_ms);
    let heartbeat = profile.settings.heartbeat_interval;
    let mut draws = seed.draws("crash", &[]);
    let mut world = World::new(&scenario, &Plan::default(), profile);
    let result = (|| {
        let mut leader = None;
        while leader.is_none() {
            world.run_until(world.now + heartbeat)?;
            leader = world.leader();
        }
        // The last heartbeats go to all at once. It dies at any moment between two of them.
        world.run_until(world.now + heartbeat * 4 + draws.between(Duration::ZERO, heartbeat))?;
        let Some((leader, _)) = world.leader() else {
            return Ok(None);
        };
        let crashed = world.now;
        world.kill(leader);
        world.run_until_served(crashed, crashed + LONGEST)?;
        let (elected, served) = world.elected_and_served(crashed);
        let since = |at: Option<Time>| at.map_or(LONGEST, |at| at.since(crashed));
        Ok(Some((since(elected), since(served))))
    })();
    match result {
        Ok(Some(durations)) => Ok(durations),
        // It stepped down by itself a moment before: another trial in its place.
        Ok(None) => crash_a_leader(timeouts_ms, trial + 1_000_000_007),
        Err(broken) => Err(world.violation(broken)),
    }
}

impl fmt::Display for Figure16 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "Time without a leader after a crash, {} crashes for each line (Raft paper, figure 16)\n",
            self.trials
        )?;
        writeln!(
            out,
            "{:>12}{:>12}{:>12}{:>12}{:>18}",
            "timeouts", "median", "mean", "worst", "until it serves"
        )?;
        for line in &self.lines {
            let (shortest, longest) = line.timeouts_ms;
            let timeouts = format!("{shortest}-{longest} ms");
            let served = line.without_service[line.without_service.len() / 2];
            let texts = [line.median(), line.mean(), line.worst(), served].map(milliseconds);
            let [median, mean, worst, served] = texts;
            writeln!(
                out,
                "{timeouts:>12}{median:>12}{mean:>12}{worst:>12}{served:>18}"
            )?;
        }
        let (upper, lower) = self.lines.split_at(6);
        for half in [upper, lower] {
            let curves: Vec<Curve<'_>> = half.iter().map(Curve::of).collect();
            write!(out, "\n{}", cumulative(&curves))?;
        }
        write!(out, "\n{MODEL}")
    }
}

/// Under which the figures hold.
const MODEL: &str = "\
Model: 5 servers; a message takes 3 ms and an exponential part of 0.5 ms in the mean; a write takes
3.5 ms and an exponential part of 0.5 ms. A vote is written by the candidate before it asks (4 ms) and
by the voter before it answers (3.5 + 4 + 3.5 ms): 15 ms together, the paper's broadcast time. The round
of pre-votes, which the paper's implementation did not have, adds 7 ms. Heartbeats are sent every half of
the shortest timeout, to all at once; the leader dies at any moment between two of them. All four that
remain have the same log: here that is the worst case, for with pre-votes a server that lacks entries
does not vote for itself and splits nothing (the paper left some behind). 'Until it serves' is the median
until an entry of the new leader's term is committed. Nobody elected within 60 s counts as 60 s.
";

fn milliseconds(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_of_timeouts_makes_elections_quick() {
        let figure = figure_16(40, &|| {}).expect("no rule is broken");
        let median = |timeouts_ms| {
            let line = figure
                .lines
                .iter()
                .find(|line| line.timeouts_ms == timeouts_ms);
            line.expect("it was measured").median().as_millis()
        };
        assert!(
            median((150, 150)) > 1_000,
            "without any, votes split again and again"
        );
        assert!(
            (100..3_000).contains(&median((150, 155))),
            "{}",
            median((150, 155))
        );
        assert!(
            (100..400).contains(&median((150, 300))),
            "{}",
            median((150, 300))
        );
        assert!(median((25, 50)) < median((50, 100)));
        assert!(median((50, 100)) < median((100, 200)));
        let text = figure.to_string();
        assert!(
            text.contains("150-300 ms") && text.contains("Model"),
            "{text}"
        );
    }
}
