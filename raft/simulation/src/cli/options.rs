//! What can be said on the command line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches, ValueEnum};
use thiserror::Error;

use crate::plan::{Mix, UnknownMix};
use crate::runner::parse_seeds;
use crate::simulator::Scenario;

/// What a simulator's program is told to do.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The seeds to run: a number of them, or two ends such as 5000..6000
    #[arg(long, value_name = "N|A..B", default_value = "1000", value_parser = parse_seeds)]
    pub seeds: Range<u64>,
    /// The faults: calm, network, crashes, disks, clocks, hostile; all runs the seeds with each
    #[arg(long, value_name = "NAME|all", default_value = "hostile")]
    pub mix: Mixes,
    /// Nodes in each world [default: the simulator's choice, which may depend on the seed]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub nodes: Option<u16>,
    /// Virtual minutes of each run; faults end after three quarters of it
    #[arg(long, default_value = "1", value_parser = parse_minutes)]
    pub minutes: f64,
    /// Threads that run seeds [default: one for each CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Runs the one run that a file describes, with its faults
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["seeds", "mix", "nodes", "minutes", "threads", "save"]
    )]
    pub regression: Option<PathBuf>,
    /// Takes the faults away that a failure does not need, and writes what is left into a folder
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Runs each seed twice: another final state, or another count of events, is a violation
    #[arg(long)]
    pub check_determinism: bool,
}

/// The form of the report.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The mixes to run, each with all seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixes(pub Vec<Mix>);

impl FromStr for Mixes {
    type Err = MixesError;

    fn from_str(text: &str) -> Result<Self, MixesError> {
        if text == "all" {
            return Ok(Self(Mix::ALL.to_vec()));
        }
        Ok(Self(vec![text.parse::<Mix>()?]))
    }
}

/// Not the name of a mix, and not `all`.
#[derive(Debug, Error)]
#[error("{0}, or all")]
pub struct MixesError(#[from] UnknownMix);

/// Minutes that no run can take.
#[derive(Debug, Error)]
#[error("a run takes more than 0 and at most {MOST_MINUTES} minutes")]
struct MinutesError;

/// Somewhat more than a virtual year.
const MOST_MINUTES: f64 = 600_000.0;

fn parse_minutes(text: &str) -> Result<f64, MinutesError> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes <= MOST_MINUTES => Ok(minutes),
        _ => Err(MinutesError),
    }
}

impl Options {
    /// The virtual time of each run.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_nanos((self.minutes * 60e9) as u64)
    }

    /// How many threads run seeds.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The command that runs this one run again.
    pub(super) fn again(&self, simulator: &str, scenario: &Scenario) -> String {
        let Scenario { seed, mix, .. } = scenario;
        let end = seed.saturating_add(1);
        let mut command = format!("scripts/simulate {simulator} --seeds {seed}..{end} --mix {mix}");
        if let Some(nodes) = self.nodes {
            command += &format!(" --nodes {nodes}");
        }
        command += &format!(" --minutes {}", self.minutes);
        if self.check_determinism {
            command += " --check-determinism";
        }
        command
    }
}

pub(super) fn command(simulator: &str) -> Command {
    let examples = format!(
        "Examples:\n  \
         scripts/simulate {simulator} --seeds 1000 --mix hostile\n  \
         scripts/simulate {simulator} --seeds 5000..6000 --mix all --save failures\n  \
         scripts/simulate {simulator} --regression failures/{simulator}-hostile-5017.json\n\n\
         The exit code is 0 if all runs held, 1 if one broke a rule, 2 if the command cannot be \
         carried out."
    );
    let command = Command::new(format!("simulate-{simulator}"))
        .bin_name(format!("scripts/simulate {simulator}"))
        .after_help(examples);
    // After the arguments: they would bring the comment of their type along.
    Options::augment_args(command)
        .about("Runs seeded worlds with faults and checks every rule at each step")
}

/// Reads arguments, the first of which names the program. What cannot be read, and a call for help,
/// end the process.
pub(super) fn from_arguments(
    simulator: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Options {
    let mut command = command(simulator);
    command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| Options::from_arg_matches(&matches))
        .unwrap_or_else(|error| error.format(&mut command).exit())
}
