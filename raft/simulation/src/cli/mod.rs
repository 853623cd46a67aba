//! The command line that the simulators' programs share: which seeds, which faults, what to do with
//! a failure. Here runs are started and reported, never judged: what is a violation, the simulator
//! says.
//!
//! A program of a simulator is one line, `simulation::cli::main(&ItsSimulator)`.

mod options;
mod report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

pub use options::{Mixes, Options, Output};
use report::{Failure, Report, Row, Saved};

use crate::draw::Seed;
use crate::plan::{Mix, Plan};
use crate::regression::{Regression, RegressionError};
use crate::runner::{Outcome, Violation, run_one, run_seeds};
use crate::shrink::shrink;
use crate::simulator::{Scenario, Simulator, run_once, run_twice};

/// What keeps a command from being carried out. A violation is none: it is a result.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A regression file cannot be read or written.
    #[error(transparent)]
    Regression(#[from] RegressionError),
    /// A regression file of another simulator.
    #[error("{path} is for the simulator '{theirs}', this is '{ours}'")]
    OtherSimulator {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who was asked.
        ours: &'static str,
    },
    /// The report cannot be written.
    #[error("the report cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// A whole program: reads the arguments, runs, reports on standard output. The exit code is 0 if
/// all runs held, 1 if one broke a rule, 2 if the command cannot be carried out.
#[must_use]
pub fn main(simulator: &dyn Simulator) -> ExitCode {
    let options = options::from_arguments(simulator.name(), std::env::args_os());
    match execute(&options, simulator, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Whoever read has seen enough, as `head` does.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Carries out what the options say and writes the report to `out`: whether all runs held.
pub fn execute(
    options: &Options,
    simulator: &dyn Simulator,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let command = Command { options, simulator };
    let mut report = Report {
        simulator: simulator.name(),
        version: simulator.version(),
        rows: Vec::new(),
    };
    match &options.regression {
        Some(path) => {
            let regression = command.read(path)?;
            if options.output == Output::Table {
                writeln!(out, "{}", report::describe(&regression))?;
            }
            report.rows.push(command.replay(path, &regression));
        }
        None => {
            let bar = progress_bar(options);
            for &mix in &options.mix.0 {
                report.rows.push(command.run_mix(mix, &bar)?);
            }
            bar.finish_and_clear();
        }
    }
    out.write_all(report.text(options.output).as_bytes())?;
    out.flush()?;
    Ok(report.rows.iter().all(|row| row.violations.is_empty()))
}

/// A bar on standard error; nothing at all if that is not a terminal.
fn progress_bar(options: &Options) -> ProgressBar {
    let seeds = options.seeds.end - options.seeds.start;
    let mixes = options.mix.0.len() as u64;
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} runs, {eta} left  {msg}")
        .expect("the template is well formed");
    ProgressBar::new(seeds.saturating_mul(mixes)).with_style(style)
}

struct Command<'a> {
    options: &'a Options,
    simulator: &'a dyn Simulator,
}

impl Command<'_> {
    fn scenario(&self, mix: Mix, seed: u64) -> Scenario {
        let nodes = self
            .options
            .nodes
            .map_or_else(|| self.simulator.nodes(Seed(seed)), usize::from);
        Scenario {
            seed,
            nodes,
            mix,
            length: self.options.length(),
        }
    }

    fn run(&self, scenario: &Scenario, plan: &Plan) -> Outcome {
        if self.options.check_determinism {
            run_twice(self.simulator, scenario, plan)
        } else {
            run_once(self.simulator, scenario, plan)
        }
    }

    fn run_mix(&self, mix: Mix, bar: &ProgressBar) -> Result<Row, CommandError> {
        let before = bar.position();
        let violations = AtomicU64::new(0);
        let progress = |done| bar.set_position(before + done);
        bar.set_message(mix.to_string());
        let summary = run_seeds(
            self.options.seeds.clone(),
            self.options.threads(),
            &progress,
            |seed| {
                let scenario = self.scenario(mix, seed);
                let outcome = self.run(&scenario, &self.simulator.plan(&scenario));
                if outcome.violation.is_some() {
                    let count = violations.fetch_add(1, Ordering::Relaxed) + 1;
                    bar.set_message(format!("{mix}, {count} violations"));
                }
                outcome
            },
        );
        bar.set_position(before + self.options.seeds.end - self.options.seeds.start);
        let mut failures = Vec::new();
        for (seed, violation) in &summary.violations {
            let scenario = self.scenario(mix, *seed);
            failures.push(self.failure(&scenario, violation, bar)?);
        }
        Ok(Row::new(mix, self.options.length(), &summary, failures))
    }

    /// A violation with the command that repeats it; shrunk and stored if the options say so.
    fn failure(
        &self,
        scenario: &Scenario,
        violation: &Violation,
        bar: &ProgressBar,
    ) -> Result<Failure, CommandError> {
        let again = self.options.again(self.simulator.name(), scenario);
        let saved = match &self.options.save {
            Some(directory) => {
                bar.set_message(format!("shrinking seed {}", scenario.seed));
                let regression = self.shrunk(scenario, violation, &again);
                Some(Saved {
                    path: regression.write(directory)?,
                    faults: regression.plan.faults.len(),
                })
            }
            None => None,
        };
        Ok(Failure::new(scenario.seed, violation, again, saved))
    }

    /// The run with only those faults that break the same rule.
    fn shrunk(&self, scenario: &Scenario, violation: &Violation, again: &str) -> Regression {
        let mut last = violation.clone();
        let plan = shrink(&self.simulator.plan(scenario), |plan| {
            match self.run(scenario, plan).violation {
                Some(found) if found.rule == violation.rule => {
                    last = found;
                    true
                }
                _ => false,
            }
        });
        Regression {
            simulator: self.simulator.name().to_owned(),
            version: self.simulator.version(),
            seed: scenario.seed,
            nodes: scenario.nodes,
            mix: scenario.mix,
            length: scenario.length,
            plan,
            note: format!(
                "At {}, \"{}\" was broken: {}. Found by: {again}",
                last.at, last.rule, last.detail
            ),
        }
    }

    fn read(&self, path: &Path) -> Result<Regression, CommandError> {
        let regression = Regression::read(path)?;
        if regression.simulator != self.simulator.name() {
            return Err(CommandError::OtherSimulator {
                path: path.to_owned(),
                theirs: regression.simulator,
                ours: self.simulator.name(),
            });
        }
        Ok(regression)
    }

    fn replay(&self, path: &Path, regression: &Regression) -> Row {
        let scenario = regression.scenario();
        let summary = run_one(|| self.run(&scenario, &regression.plan));
        let name = self.simulator.name();
        let again = format!("scripts/simulate {name} --regression {}", path.display());
        let failures = summary
            .violations
            .iter()
            .map(|(seed, violation)| Failure::new(*seed, violation, again.clone(), None))
            .collect();
        Row::new(scenario.mix, scenario.length, &summary, failures)
    }
}

#[cfg(test)]
mod tests;
