//! Where a request's time goes: the broker's own stages while a workload is measured.

use hdrhistogram::Histogram;

use crate::progress::Progress;
use crate::protocol::Stage;
use crate::record;
use crate::report::model::{StageResult, WorkloadResult};
use crate::run::{RunError, RunSettings, Session, run_once};
use crate::workload::Workload;

/// Runs a workload once and reports the broker's stages beside what its clients saw.
pub fn explain(
    session: &mut Session,
    workload: &Workload,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<WorkloadResult, RunError> {
    let settings = RunSettings {
        stages: true,
        ..settings.clone()
    };
    progress.begin(&workload.name);
    let outcome = run_once(session, workload, &settings, progress)?;
    progress.finished();
    Ok(WorkloadResult {
        name: workload.name.clone(),
        description: workload.description.clone(),
        settings: workload.settings(),
        repetitions: vec![outcome.repetition],
        stages: outcome.stages.iter().filter_map(stage).collect(),
        ..WorkloadResult::default()
    })
}

/// A stage's figures; none if it was not passed.
fn stage(stage: &Stage) -> Option<StageResult> {
    let mut histogram: Histogram<u64> = record::histogram();
    for (up_to_ns, count) in &stage.buckets {
        histogram.saturating_record_n(*up_to_ns, *count);
    }
    (!histogram.is_empty()).then(|| StageResult {
        shard: stage.shard,
        stage: stage.name.clone(),
        latency: record::latency(&histogram),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_told_in_the_usual_figures() {
        let told = stage(&Stage {
            shard: 1,
            name: "append".to_owned(),
            buckets: vec![(1_000, 90), (50_000, 10)],
        })
        .unwrap();
        assert_eq!((told.latency.count, told.latency.p50), (100, 1_000));
        assert!((50_000..50_100).contains(&told.latency.p99));
        let idle = Stage {
            shard: 0,
            name: "send".to_owned(),
            buckets: Vec::new(),
        };
        assert_eq!(stage(&idle), None);
    }
}
