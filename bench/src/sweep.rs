//! Raising the rate of an open loop until a latency bound breaks.

use std::time::Duration;

use crate::load::Pace;
use crate::progress::Progress;
use crate::report::model::{Latency, Sweep, SweepStep};
use crate::run::{Outcome, RunError, RunSettings, Session, bottleneck, run_once};
use crate::workload::Workload;

/// Where a sweep begins, how it goes on, and what ends it.
#[derive(Clone, Copy, Debug)]
pub struct SweepPlan {
    /// The first rate, operations a second.
    pub from: f64,
    /// No rate beyond this.
    pub to: f64,
    /// Each rate is the one before times this.
    pub factor: f64,
    /// The quantile that is bounded.
    pub quantile: Quantile,
    /// What it must not exceed.
    pub bound: Duration,
}

/// A quantile that can be bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantile {
    /// The median.
    P50,
    /// 99 of 100.
    #[default]
    P99,
    /// 999 of 1,000.
    P999,
}

impl Quantile {
    /// Its value, ns.
    #[must_use]
    pub fn of(self, latency: &Latency) -> u64 {
        match self {
            Quantile::P50 => latency.p50,
            Quantile::P99 => latency.p99,
            Quantile::P999 => latency.p999,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Quantile::P50 => "p50",
            Quantile::P99 => "p99",
            Quantile::P999 => "p99.9",
        }
    }
}

/// Answers may be this much rarer than requests and still count as kept up with.
const LEAST_ANSWERED: f64 = 0.98;

/// Runs the steps. Ends at the first that breaks the bound, at the last, or when told to stop.
pub fn sweep(
    session: &mut Session,
    workload: &Workload,
    plan: &SweepPlan,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<(Sweep, Vec<String>), RunError> {
    let mut result = Sweep {
        workload: workload.name.clone(),
        bound: format!(
            "{} of produce at most {:?}",
            plan.quantile.name(),
            plan.bound
        ),
        ..Sweep::default()
    };
    let mut notes = Vec::new();
    let mut rate = plan.from;
    while rate <= plan.to && !progress.stopped() {
        progress.begin(&format!("{} at {rate:.0}/s", workload.name));
        let outcome = run_once(session, &at_rate(workload, rate), settings, progress)?;
        if !outcome.repetition.complete && !outcome.overloaded {
            break;
        }
        if let Some(why) = bottleneck(&outcome.repetition) {
            notes.push(format!("the sweep ended at {rate:.0}/s: {why}"));
            break;
        }
        let step = step(&outcome, rate, plan);
        let kept = step.kept;
        if kept {
            result.best_rate = Some(step.rate);
        }
        result.steps.push(step);
        if !kept {
            break;
        }
        rate *= plan.factor;
    }
    progress.finished();
    Ok((result, notes))
}

fn at_rate(workload: &Workload, rate: f64) -> Workload {
    let mut workload = workload.clone();
    if let Some(producers) = &mut workload.producers {
        let arrivals = match producers.pace {
            Pace::Open { arrivals, .. } => arrivals,
            Pace::Closed { .. } => crate::load::Arrivals::default(),
        };
        producers.pace = Pace::Open { rate, arrivals };
    }
    workload
}

fn step(outcome: &Outcome, rate: f64, plan: &SweepPlan) -> SweepStep {
    let repetition = &outcome.repetition;
    let produced = repetition.series.first().cloned().unwrap_or_default();
    let answered = produced.operations as f64 / repetition.seconds;
    let in_time = u128::from(plan.quantile.of(&produced.latency)) <= plan.bound.as_nanos();
    SweepStep {
        wanted_rate: rate,
        rate: answered,
        byte_rate: produced.bytes as f64 / repetition.seconds,
        latency: produced.latency,
        kept: in_time
            && !outcome.overloaded
            && produced.errors.is_empty()
            && answered >= rate * LEAST_ANSWERED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Repetition, SeriesResult};

    fn outcome(answered: u64, p99: u64) -> Outcome {
        let latency = Latency {
            p99,
            ..Latency::default()
        };
        let series = SeriesResult {
            operations: answered,
            latency,
            ..SeriesResult::default()
        };
        Outcome {
            repetition: Repetition {
                seconds: 2.0,
                series: vec![series],
                ..Repetition::default()
            },
            overloaded: false,
            stages: Vec::new(),
        }
    }

    #[test]
    fn a_step_is_kept_if_it_is_in_time_and_answered() {
        let plan = SweepPlan {
            from: 1.0,
            to: 1e6,
            factor: 2.0,
            quantile: Quantile::P99,
            bound: Duration::from_millis(1),
        };
        assert!(step(&outcome(2_000, 900_000), 1_000.0, &plan).kept);
        assert!(
            !step(&outcome(2_000, 1_100_000), 1_000.0, &plan).kept,
            "late"
        );
        assert!(
            !step(&outcome(1_900, 900_000), 1_000.0, &plan).kept,
            "behind"
        );
        let overloaded = Outcome {
            overloaded: true,
            ..outcome(2_000, 900_000)
        };
        assert!(!step(&overloaded, 1_000.0, &plan).kept);
    }
}
