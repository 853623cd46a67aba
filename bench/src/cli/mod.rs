//! The command line: what was typed, and which part of the library does it.

mod measure;
mod options;
mod rebalance;
mod run;
mod target;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cpu::CpuError;
use crate::environment;
use crate::progress::{Terminal, stop_on_signals};
use crate::protocol::ProtocolError;
use crate::report::model::Report;
use crate::run::{RunError, Target};
use options::{OutputFormat, OutputOptions};
use target::TargetOptions;

/// Measure a broker's latency and throughput, honestly.
///
/// Load is put on by a schedule that does not wait for the broker (an open loop), and a latency
/// counts from when a request was due: what a stall delays is charged with the delay.
#[derive(Parser)]
#[command(name = "millrace-bench", version, max_term_width = 100)]
#[command(after_help = "Examples:
  millrace-bench list
  millrace-bench run small-records
  millrace-bench run produce --rate 20000 --duration 30 --html produce.html
  millrace-bench run end-to-end --bootstrap localhost:9092 --output json
  millrace-bench limits --directory /var/lib/millrace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the ready-made workloads.
    List,
    Run(Box<run::RunArguments>),
    Sweep(Box<measure::SweepArguments>),
    Compare(Box<measure::CompareArguments>),
    Explain(Box<measure::ExplainArguments>),
    Rebalance(Box<rebalance::RebalanceArguments>),
    Limits(run::LimitsArguments),
    Figures(Box<measure::FiguresArguments>),
}

/// Why a command failed, and with which exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The CPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The limits.
    #[error(transparent)]
    Limits(#[from] crate::limits::LimitsError),
    /// Signals could not be caught.
    #[error("signals cannot be caught: {0}")]
    Signals(std::io::Error),
    /// A report could not be written.
    #[error("the report could not be written to {to}: {error}; choose another file")]
    Write {
        /// Where to.
        to: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

impl Failure {
    /// 1: refused or failed; 2: wrong command line; 3: no broker. As `millrace` has them.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Cpu(_) => 2,
            Failure::Run(RunError::Protocol(
                ProtocolError::Connection { .. } | ProtocolError::Silent { .. },
            )) => 3,
            _ => 1,
        }
    }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::List => {
            run::list();
            Ok(())
        }
        Command::Run(arguments) => run::run(&arguments),
        Command::Sweep(arguments) => measure::sweep(&arguments),
        Command::Compare(arguments) => measure::compare(&arguments),
        Command::Explain(arguments) => measure::explain(&arguments),
        Command::Rebalance(arguments) => rebalance::rebalance(&arguments),
        Command::Limits(arguments) => run::limits(&arguments),
        Command::Figures(arguments) => measure::figures(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn progress() -> Result<Terminal, Failure> {
    let stop = stop_on_signals().map_err(Failure::Signals)?;
    Ok(Terminal::new(stop))
}

/// A report without results yet.
fn begin_report(options: &TargetOptions) -> Result<Report, Failure> {
    let cpus = options.cpus()?;
    let mut environment = environment::describe(Some(&options.directory));
    environment.generator_cpu = Some(cpus.generator);
    if options.bootstrap.is_none() {
        environment.broker_cpus = vec![cpus.broker];
    }
    for (key, value) in &options.set {
        environment.settings.insert(key.clone(), value.clone());
    }
    Ok(Report {
        environment,
        ..Report::default()
    })
}

/// Writes a report where it is wanted.
fn write_report(report: &Report, options: &OutputOptions) -> Result<(), Failure> {
    if let Some(file) = &options.html {
        let page = crate::report::html::render(report);
        std::fs::write(file, page).map_err(|error| Failure::Write {
            to: file.display().to_string(),
            error,
        })?;
    }
    let text = match options.output {
        OutputFormat::Text => crate::report::text::render(report),
        OutputFormat::Json => crate::report::json::render(report),
    };
    let written = writeln!(std::io::stdout(), "{}", text.trim_end());
    match written {
        // Whoever read the pipe has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Write {
            to: "standard output".to_owned(),
            error,
        }),
        Ok(()) => Ok(()),
    }
}

fn target_name(target: &Target) -> String {
    match target {
        Target::Address(address) => address.to_string(),
        Target::Program(settings) => settings.program.display().to_string(),
    }
}
