//! `sweep`, `compare`, `explain` and `figures`.

use std::time::Duration;

use clap::Args;

use super::options::{OutputOptions, WorkloadOptions};
use super::run::measure_limits;
use super::target::TargetOptions;
use super::{Failure, begin_report, progress, target_name, write_report};
use crate::compare::Side;
use crate::figures::{self, ROWS};
use crate::progress::Progress;
use crate::protocol::ProtocolName;
use crate::run::{RunSettings, Session, Target};
use crate::sweep::{Quantile, SweepPlan};

/// Raise the rate of producing until a latency bound breaks.
#[derive(Args)]
#[command(after_help = "Example:
  millrace-bench sweep produce --from 1000 --bound-ms 10 --html sweep.html")]
pub struct SweepArguments {
    /// The workload; see `millrace-bench list`.
    workload: String,
    /// The first rate, requests a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000.0)]
    from: f64,
    /// No rate beyond this.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000_000.0)]
    to: f64,
    /// Each rate is the one before times this.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.5)]
    factor: f64,
    /// The quantile that is bounded.
    #[arg(long, value_enum, default_value_t)]
    quantile: Quantile,
    /// What it must not exceed, ms.
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    bound_ms: f64,
    #[command(flatten)]
    change: WorkloadOptions,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Put the same load on two brokers in turns and tell the ratio.
#[derive(Args)]
#[command(after_help = "Examples:
  millrace-bench compare ./millrace-before ./millrace-after --workload small-records
  millrace-bench compare localhost:9092 localhost:9192 --workload produce --rate 20000
  millrace-bench compare ./millrace ./millrace --protocol-b kafka
  millrace-bench compare ./millrace ./millrace --idempotent-b")]
pub struct CompareArguments {
    /// A millrace program, or HOST:PORT of a broker that runs.
    a: String,
    /// Another, or the same.
    b: String,
    /// The workload; see `millrace-bench list`.
    #[arg(long, value_name = "NAME", default_value = "small-records")]
    workload: String,
    /// How many pairs of runs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// What is spoken to B [default: what is spoken to A].
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    protocol_b: Option<ProtocolName>,
    /// Only the producers of B are idempotent.
    #[arg(long, conflicts_with = "idempotent")]
    idempotent_b: bool,
    #[command(flatten)]
    change: WorkloadOptions,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Run a workload and show where the broker's time went, stage by stage.
#[derive(Args)]
#[command(after_help = "Example:
  millrace-bench explain one-in-flight")]
pub struct ExplainArguments {
    /// The workload; see `millrace-bench list`.
    workload: String,
    #[command(flatten)]
    change: WorkloadOptions,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Measure the figures that Millrace sets itself, each beside the limit that bounds it.
#[derive(Args)]
#[command(after_help = "Examples:
  millrace-bench figures
  millrace-bench figures one-in-flight small-records --html figures.html")]
pub struct FiguresArguments {
    /// Rows of the table; all if none is named.
    rows: Vec<String>,
    /// How often each is run; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    repetitions: u16,
    /// Leave out the column that has the same through Kafka's protocol: half of the time.
    #[arg(long)]
    without_kafka: bool,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

pub(super) fn sweep(arguments: &SweepArguments) -> Result<(), Failure> {
    let workload = arguments.change.workload(&arguments.workload)?;
    if workload.producers.is_none() {
        return Err(Failure::Usage(format!(
            "the workload '{}' has no producers whose rate could be raised",
            workload.name
        )));
    }
    let plan = SweepPlan {
        from: arguments.from,
        to: arguments.to,
        factor: arguments.factor,
        quantile: arguments.quantile,
        bound: Duration::try_from_secs_f64(arguments.bound_ms / 1_000.0).unwrap_or_default(),
    };
    if !(plan.from > 0.0 && plan.factor > 1.0) || plan.bound.is_zero() {
        let text = "--from and --bound-ms are above 0, --factor above 1";
        return Err(Failure::Usage(text.to_owned()));
    }
    let (target, settings) = (arguments.target.target()?, arguments.target.settings()?);
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    let mut session = Session::open(&target)?;
    report.environment.broker_version = session.admin(&settings)?.broker_version();
    let (sweep, notes) =
        crate::sweep::sweep(&mut session, &workload, &plan, &settings, &mut progress)?;
    report.sweeps.push(sweep);
    report.notes = notes;
    write_report(&report, &arguments.output)
}

pub(super) fn compare(arguments: &CompareArguments) -> Result<(), Failure> {
    let workload = arguments.change.workload(&arguments.workload)?;
    let change_b = WorkloadOptions {
        idempotent: arguments.change.idempotent || arguments.idempotent_b,
        ..arguments.change.clone()
    };
    let workload_b = change_b.workload(&arguments.workload)?;
    let settings = arguments.target.settings()?;
    let settings_b = RunSettings {
        protocol: arguments.protocol_b.unwrap_or(settings.protocol),
        ..settings.clone()
    };
    let [a, b] = [&arguments.a, &arguments.b].map(|name| arguments.target.named_target(name));
    let (a, b) = (a?, b?);
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    let mut names = [target_name(&a), target_name(&b)];
    if settings.protocol != settings_b.protocol {
        for (name, settings) in names.iter_mut().zip([&settings, &settings_b]) {
            name.push_str(&format!(" ({})", settings.protocol));
        }
    }
    if arguments.idempotent_b {
        names[1].push_str(" (idempotent)");
    }
    let side = |number: usize, target, settings, workload| Side {
        name: &names[number],
        target,
        settings,
        workload,
    };
    let sides = [
        side(0, &a, &settings, &workload),
        side(1, &b, &settings_b, &workload_b),
    ];
    let pairs = usize::from(arguments.pairs);
    let (comparison, notes) = crate::compare::compare(&sides, pairs, &mut progress)?;
    report.comparisons.push(comparison);
    report.notes = notes;
    write_report(&report, &arguments.output)
}

pub(super) fn explain(arguments: &ExplainArguments) -> Result<(), Failure> {
    let workload = arguments.change.workload(&arguments.workload)?;
    let (target, settings) = (arguments.target.target()?, arguments.target.settings()?);
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    let mut session = Session::open(&target)?;
    report.environment.broker_version = session.admin(&settings)?.broker_version();
    let result = crate::explain::explain(&mut session, &workload, &settings, &mut progress)?;
    if result.stages.is_empty() {
        let note = "this broker tells nothing about its stages".to_owned();
        report.notes.push(note);
    }
    report.workloads.push(result);
    write_report(&report, &arguments.output)
}

pub(super) fn figures(arguments: &FiguresArguments) -> Result<(), Failure> {
    for name in &arguments.rows {
        if !ROWS.iter().any(|row| row.name == name) {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            return Err(Failure::Usage(format!(
                "there is no row '{name}'; there are {}",
                names.join(", ")
            )));
        }
    }
    let Target::Program(broker) = arguments.target.target()? else {
        return Err(Failure::Usage(
            "the figures need brokers that this program starts: --broker PROGRAM instead of --bootstrap"
                .to_owned(),
        ));
    };
    let settings = arguments.target.settings()?;
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    report.limits = Some(measure_limits(&arguments.target, &mut progress)?);
    if !progress.stopped() {
        let plan = figures::Plan {
            only: &arguments.rows,
            broker: &broker,
            repetitions: usize::from(arguments.repetitions),
            settings: &settings,
            beside_kafka: settings.protocol == ProtocolName::Native && !arguments.without_kafka,
        };
        figures::measure(&plan, &mut report, &mut progress)?;
    }
    write_report(&report, &arguments.output)
}
