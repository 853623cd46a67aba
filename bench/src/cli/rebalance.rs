//! `rebalance`.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use clap::{Args, ValueEnum};
use millrace_client::Assignor;

use super::options::{OutputOptions, seconds};
use super::target::TargetOptions;
use super::{Failure, begin_report, progress, target_name, write_report};
use crate::progress::Progress;
use crate::protocol::ProtocolName;
use crate::rebalance::{RebalancePlan, measure};
use crate::run::{RunError, Session, bottleneck};

/// Let a member join a group of consumers, and one leave it, and report how long both take and for how
/// long partitions are not read meanwhile.
///
/// The consumers are real ones, of the Rust client, on the generator's CPU, and poll all the time. Each
/// has a thread of its own, up to 128 of them, and sends its heartbeats at its own moments. Members come
/// and go at moments drawn from a whole time between two heartbeats. A pause can be told to about half
/// an --interval.
#[derive(Args)]
#[command(after_help = "Examples:
  millrace-bench rebalance
  millrace-bench rebalance --members 10 --partitions 60 --assignor cooperative-sticky
  millrace-bench rebalance --session-timeout 6 --output json
  millrace-bench rebalance --repetitions 10 --seed 7")]
pub struct RebalanceArguments {
    /// Members of the group, before one more joins.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    members: u32,
    /// Partitions of the topic that they share.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// How the partitions are shared out; may be given many times [default: range,
    /// cooperative-sticky].
    #[arg(long, value_enum, value_name = "ASSIGNOR")]
    assignor: Vec<AssignorName>,
    /// Seconds between two records of a partition.
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = seconds)]
    interval: Duration,
    /// The members' session timeout, seconds. Heartbeats, by which they hear of a rebalance, are sent
    /// three times in this time.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    session_timeout: Duration,
    /// How often one joins and one leaves; figures are medians, and the worst.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    repetitions: u16,
    /// Draws the moments at which members join, leave and send heartbeats; the same for each assignor
    /// [default: another one each time, which the report tells].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Report even if the consumers' CPU was the bottleneck.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// The values of `--assignor`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum AssignorName {
    /// Contiguous ranges; everything is given up in a rebalance.
    Range,
    /// All partitions in turn; likewise.
    Roundrobin,
    /// As little moves as can; only that is given up.
    CooperativeSticky,
}

impl From<AssignorName> for Assignor {
    fn from(name: AssignorName) -> Assignor {
        match name {
            AssignorName::Range => Assignor::Range,
            AssignorName::Roundrobin => Assignor::RoundRobin,
            AssignorName::CooperativeSticky => Assignor::CooperativeSticky,
        }
    }
}

impl RebalanceArguments {
    fn plans(&self) -> Result<Vec<RebalancePlan>, Failure> {
        if self.interval < Duration::from_millis(1) {
            let text = "--interval is at least a millisecond, 0.001";
            return Err(Failure::Usage(text.to_owned()));
        }
        if self.partitions <= self.members {
            let text = "--partitions is above --members, so that the one that joins gets some";
            return Err(Failure::Usage(text.to_owned()));
        }
        let assignors = match &self.assignor[..] {
            [] => &[AssignorName::Range, AssignorName::CooperativeSticky],
            asked => asked,
        };
        let seed = self.seed.unwrap_or_else(any_seed);
        let plan = |assignor: &AssignorName| RebalancePlan {
            members: self.members as usize,
            partitions: self.partitions,
            assignor: (*assignor).into(),
            interval: self.interval,
            session_timeout: self.session_timeout,
            repetitions: usize::from(self.repetitions),
            seed,
        };
        Ok(assignors.iter().map(plan).collect())
    }
}

/// From the system's randomness; short enough to be typed again.
fn any_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}

pub(super) fn rebalance(arguments: &RebalanceArguments) -> Result<(), Failure> {
    let plans = arguments.plans()?;
    let (target, settings) = (arguments.target.target()?, arguments.target.settings()?);
    if settings.protocol != ProtocolName::Native {
        return Err(RunError::NativeOnly("rebalance".to_owned()).into());
    }
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    let session = Session::open(&target)?;
    let named = target_name(&target);
    report.environment.broker_version = session.admin(&settings)?.broker_version();
    report
        .environment
        .settings
        .insert("target".to_owned(), named);
    for plan in &plans {
        if progress.stopped() {
            let note = "stopped before all assignors were measured";
            report.notes.push(note.to_owned());
            break;
        }
        let result = measure(&session, plan, &settings, &mut progress)?;
        for repetition in &result.repetitions {
            match bottleneck(repetition) {
                Some(why) if !arguments.force => return Err(RunError::Bottleneck(why).into()),
                Some(why) => report.notes.push(why),
                None => {}
            }
        }
        report.workloads.push(result);
    }
    write_report(&report, &arguments.output)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plans(flags: &[&str]) -> Vec<RebalancePlan> {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            arguments: RebalanceArguments,
        }
        let flags = Flags::try_parse_from(["bench"].iter().chain(flags));
        flags.unwrap().arguments.plans().unwrap()
    }

    #[test]
    fn both_assignors_have_the_same_seed_which_is_the_one_that_was_asked_for() {
        let seeds = |flags: &[&str]| {
            plans(flags)
                .iter()
                .map(|plan| plan.seed)
                .collect::<Vec<_>>()
        };
        assert_eq!(seeds(&["--seed", "7"]), [7, 7]);
        let [range, cooperative] = seeds(&[])[..] else {
            panic!("two are the default");
        };
        assert_eq!(range, cooperative);
    }
}
