//! `run`, `limits` and `list`.

use clap::Args;

use super::options::{OutputOptions, WorkloadOptions};
use super::target::TargetOptions;
use super::{Failure, begin_report, progress, target_name, write_report};
use crate::limits::LimitsSettings;
use crate::run::{RunError, Session, bottleneck, measure};
use crate::workload::names;

/// Put a workload on a broker and report latency and throughput.
#[derive(Args)]
#[command(after_help = "Examples:
  millrace-bench run small-records
  millrace-bench run produce --rate 20000 --record-bytes 100..2000 --repetitions 5
  millrace-bench run one-in-flight --bootstrap localhost:9092")]
pub struct RunArguments {
    /// The workload; see `millrace-bench list`.
    workload: String,
    /// How often it is run; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    repetitions: u16,
    /// Measure this machine's limits as well, and print them.
    #[arg(long)]
    limits: bool,
    /// Report even if the generator was the bottleneck.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: WorkloadOptions,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Measure what this machine can do: loopback, durable writes, direct reads, memory.
#[derive(Args)]
#[command(after_help = "Example:
  millrace-bench limits --directory /var/lib/millrace --output json")]
pub struct LimitsArguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    output: OutputOptions,
}

pub(super) fn list() {
    let names = names();
    let width = names.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, description) in names {
        println!("{name:width$}  {description}");
    }
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let workload = arguments.change.workload(&arguments.workload)?;
    let target = arguments.target.target()?;
    let settings = arguments.target.settings()?;
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    if arguments.limits {
        report.limits = Some(measure_limits(&arguments.target, &mut progress)?);
    }
    let mut session = Session::open(&target)?;
    report.environment.broker_version = session.admin(&settings)?.broker_version();
    report
        .environment
        .settings
        .insert("target".to_owned(), target_name(&target));
    let repetitions = usize::from(arguments.repetitions);
    let result = measure(
        &mut session,
        &workload,
        repetitions,
        &settings,
        &mut progress,
    )?;
    for repetition in &result.repetitions {
        match bottleneck(repetition) {
            Some(why) if !arguments.force => return Err(RunError::Bottleneck(why).into()),
            Some(why) => report.notes.push(why),
            None => {}
        }
        if !repetition.complete {
            let note = "a repetition ended before its time; its figures are of the shorter time";
            report.notes.push(note.to_owned());
        }
    }
    report.workloads.push(result);
    write_report(&report, &arguments.output)
}

pub(super) fn limits(arguments: &LimitsArguments) -> Result<(), Failure> {
    let mut report = begin_report(&arguments.target)?;
    let mut progress = progress()?;
    report.limits = Some(measure_limits(&arguments.target, &mut progress)?);
    write_report(&report, &arguments.output)
}

pub(super) fn measure_limits(
    target: &TargetOptions,
    progress: &mut crate::progress::Terminal,
) -> Result<crate::report::model::Limits, Failure> {
    let settings = LimitsSettings::new(target.directory.clone(), target.cpus()?);
    Ok(crate::limits::measure(&settings, progress)?)
}
