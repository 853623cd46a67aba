//! Putting a workload on a broker: topics, a backlog if there is to be one, the load on its own
//! thread, and what is sampled beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, BrokerError, BrokerSettings};
use crate::cpu::{CpuError, pin_current_thread, stolen_seconds};
use crate::load::{self, Control, GroupCalls, Load, LoadError, LoadResult, Phase, Waiting};
use crate::planning::{fetching, filling, paced};
use crate::progress::Progress;
use crate::protocol::{Admin, Place, ProtocolError, ProtocolName, Stage, TopicSpec};
use crate::report::model::{Repetition, WorkloadResult};
use crate::workload::Workload;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A broker that runs already.
    Address(SocketAddr),
    /// A program that is started for the run.
    Program(BrokerSettings),
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// What is spoken.
    pub protocol: ProtocolName,
    /// The CPU of the generator's thread; none: wherever the scheduler puts it.
    pub generator_cpu: Option<usize>,
    /// What the generator does while there is nothing to do.
    pub waiting: Waiting,
    /// Whether the broker's stages are read before and after.
    pub stages: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The CPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A load that needs a broker of our own.
    #[error(
        "the workload '{0}' reads what the broker has only on its disk, so the broker must be stopped \
         and started in between: let this program start it (--broker PROGRAM instead of --bootstrap)"
    )]
    NeedsOwnBroker(String),
    /// A load that only our own protocol has.
    #[error(
        "the workload '{0}' asks the coordinators of groups in Millrace's own protocol: leave out --protocol kafka"
    )]
    NativeOnly(String),
    /// A consumer or a producer of a rebalance failed.
    #[error("a client failed: {0}")]
    Client(#[from] millrace_client::ClientError),
    /// A thread for members of a group could not be started.
    #[error(
        "a thread for the group's members could not be started: {0}; allow more open files (ulimit -n) or \
         threads, or try fewer members"
    )]
    Host(std::io::Error),
    /// A group does not come to an end with its partitions.
    #[error(
        "after {waited:?} the group's {members} members do not all have their share; try fewer members or \
         partitions, or a larger --interval"
    )]
    Unsettled {
        /// Members that it should have.
        members: usize,
        /// How long they had.
        waited: Duration,
    },
    /// The generator was what was measured.
    #[error("{0}; nothing is reported (--force reports it all the same)")]
    Bottleneck(String),
}

/// A broker to run against, for as long as this lives.
pub struct Session {
    target: Target,
    broker: Option<Broker>,
    address: SocketAddr,
}

impl Session {
    /// Starts the broker, if that is to be done.
    pub fn open(target: &Target) -> Result<Session, RunError> {
        let (broker, address) = match target {
            Target::Address(address) => (None, *address),
            Target::Program(settings) => {
                let broker = Broker::start(settings)?;
                let address = broker.address();
                (Some(broker), address)
            }
        };
        Ok(Session {
            target: target.clone(),
            broker,
            address,
        })
    }

    /// What is measured.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The broker, if it is ours.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for what is not load.
    pub fn admin(&self, settings: &RunSettings) -> Result<Box<dyn Admin>, RunError> {
        Ok(settings.protocol.admin(self.address)?)
    }

    fn restart(&mut self, workload: &Workload) -> Result<(), RunError> {
        let Some(broker) = &mut self.broker else {
            return Err(RunError::NeedsOwnBroker(workload.name.clone()));
        };
        broker.restart()?;
        self.address = broker.address();
        Ok(())
    }

    fn cpu_seconds(&self) -> Option<f64> {
        self.broker.as_ref().and_then(Broker::cpu_seconds)
    }

    /// The CPU of a broker that is ours.
    fn broker_cpu(&self) -> Option<usize> {
        match &self.target {
            Target::Address(_) => None,
            Target::Program(settings) => Some(settings.cpu),
        }
    }
}

/// One run and what came with it.
pub struct Outcome {
    /// What is reported.
    pub repetition: Repetition,
    /// Whether the broker was hopelessly behind the schedule.
    pub overloaded: bool,
    /// The broker's stages while it was measured, if they were asked for.
    pub stages: Vec<Stage>,
}

/// Runs a workload so many times on one broker.
pub fn measure(
    session: &mut Session,
    workload: &Workload,
    repetitions: usize,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<WorkloadResult, RunError> {
    let mut result = WorkloadResult {
        name: workload.name.clone(),
        description: workload.description.clone(),
        settings: workload.settings(),
        ..WorkloadResult::default()
    };
    for number in 1..=repetitions {
        progress.begin(&format!("{} {number}/{repetitions}", workload.name));
        let outcome = run_once(session, workload, settings, progress)?;
        result.repetitions.push(outcome.repetition);
        if progress.stopped() {
            break;
        }
    }
    progress.finished();
    Ok(result)
}

/// Runs a workload once, on topics of its own that are removed afterwards.
pub fn run_once(
    session: &mut Session,
    workload: &Workload,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<Outcome, RunError> {
    let topics = make_topics(session, workload, settings)?;
    let outcome = run_on(session, workload, &topics, settings, progress);
    remove_topics(session, &topics, settings);
    outcome
}

/// What a workload runs on.
pub struct Topics(Vec<String>);

/// Makes a workload's topics, for one run or for many that go on where the one before ended.
pub fn make_topics(
    session: &Session,
    workload: &Workload,
    settings: &RunSettings,
) -> Result<Topics, RunError> {
    let topics = topic_names(workload);
    let mut admin = session.admin(settings)?;
    for name in &topics {
        let configs = workload.topic_configs.clone().into_iter().collect();
        admin.create_topic(&TopicSpec {
            name: name.clone(),
            partitions: workload.partitions,
            configs,
        })?;
    }
    Ok(Topics(topics))
}

/// Removes them again, if that can be.
pub fn remove_topics(session: &Session, topics: &Topics, settings: &RunSettings) {
    // The broker may be what failed; the first error is the one that tells.
    if let Ok(mut admin) = session.admin(settings) {
        for name in &topics.0 {
            let _ = admin.delete_topic(name);
        }
    }
}

fn topic_names(workload: &Workload) -> Vec<String> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    (0..workload.topics)
        .map(|topic| format!("bench-{process}-{run}-{topic}"))
        .collect()
}

/// Runs a workload once on topics that are there.
pub fn run_on(
    session: &mut Session,
    workload: &Workload,
    topics: &Topics,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<Outcome, RunError> {
    if workload.groups.is_some() && settings.protocol != ProtocolName::Native {
        return Err(RunError::NativeOnly(workload.name.clone()));
    }
    let topics = &topics.0;
    let places = places(&mut *session.admin(settings)?, topics)?;
    if let Some(backlog) = &workload.backlog {
        let fill = filling(
            session.address,
            workload,
            backlog.bytes,
            topics,
            &places,
            settings,
        );
        watch(session, &fill, settings, progress)?;
        if backlog.cold {
            session.restart(workload)?;
        }
    }
    let idle = match &workload.groups {
        Some(groups) if groups.calls != GroupCalls::Commits => idle_share(session, progress),
        _ => None,
    };
    let ends = ends(&mut *session.admin(settings)?, topics)?;
    let load = Load {
        address: session.address,
        protocol: settings.protocol,
        topics: topics.to_vec(),
        paced: paced(workload, topics, &mut *session.admin(settings)?)?,
        fetching: fetching(workload, &places, &ends),
        places,
        warm_up: workload.warm_up,
        duration: workload.duration,
        drain: Duration::from_secs(10),
        waiting: settings.waiting,
    };
    let mut outcome = watch(session, &load, settings, progress)?;
    outcome.repetition.broker_idle_share = idle;
    Ok(outcome)
}

/// How long a broker is watched that has nothing to do.
const IDLE_WATCHED: Duration = Duration::from_secs(3);

/// Share of a CPU that a broker of ours uses while nobody asks it anything.
fn idle_share(session: &Session, progress: &mut dyn Progress) -> Option<f64> {
    let (before, began) = (session.cpu_seconds()?, Instant::now());
    while began.elapsed() < IDLE_WATCHED && !progress.stopped() {
        thread::sleep(Duration::from_millis(50));
    }
    let watched = began.elapsed().as_secs_f64();
    Some((session.cpu_seconds()? - before) / watched)
}

fn places(admin: &mut dyn Admin, topics: &[String]) -> Result<Vec<Place>, ProtocolError> {
    let mut all = Vec::new();
    for (index, name) in (0..).zip(topics) {
        all.extend(admin.places(index, name)?);
    }
    Ok(all)
}

fn ends(admin: &mut dyn Admin, topics: &[String]) -> Result<Vec<(Place, i64)>, ProtocolError> {
    let mut all = Vec::new();
    for (index, name) in (0..).zip(topics) {
        all.extend(admin.ends(index, name)?);
    }
    Ok(all)
}

/// What is read at the edges of the measuring.
#[derive(Default)]
pub(crate) struct Samples {
    cpu_seconds: [Option<f64>; 2],
    /// The generator's CPU and the broker's.
    stolen_seconds: [[Option<f64>; 2]; 2],
    stages: [Vec<Stage>; 2],
}

impl Samples {
    pub(crate) fn take(
        &mut self,
        edge: usize,
        session: &Session,
        generator_cpu: Option<usize>,
        admin: &mut Option<Box<dyn Admin>>,
    ) -> Result<(), RunError> {
        self.cpu_seconds[edge] = session.cpu_seconds();
        let cpus = [generator_cpu, session.broker_cpu()];
        self.stolen_seconds[edge] = cpus.map(|cpu| cpu.and_then(stolen_seconds));
        if let Some(admin) = admin {
            self.stages[edge] = admin.stages()?;
        }
        Ok(())
    }

    /// CPU time that a broker of ours used meanwhile.
    pub(crate) fn broker_cpu_seconds(&self) -> Option<f64> {
        let [before, after] = self.cpu_seconds;
        Some(after? - before?)
    }

    /// Share of so many seconds in which the hypervisor held back one of the two CPUs, the worse one.
    pub(crate) fn stolen(&self, seconds: f64) -> f64 {
        let [before, after] = self.stolen_seconds;
        let each = before
            .iter()
            .zip(after)
            .filter_map(|(b, a)| Some(a? - (*b)?));
        each.fold(0.0, f64::max) / seconds.max(f64::MIN_POSITIVE)
    }
}

/// Puts a load on, on a thread of its own, and watches it.
fn watch(
    session: &Session,
    load: &Load,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<Outcome, RunError> {
    let mut admin = match settings.stages {
        true => Some(session.admin(settings)?),
        false => None,
    };
    let control = Arc::new(Control::default());
    let worker = {
        let (load, control, cpu) = (load.clone(), Arc::clone(&control), settings.generator_cpu);
        thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || {
                if let Some(cpu) = cpu {
                    pin_current_thread(cpu)?;
                }
                Ok::<LoadResult, RunError>(load::run(&load, &control)?)
            })
            .map_err(LoadError::Ring)?
    };
    let mut samples = Samples::default();
    let (mut seen, began) = (Phase::Connecting, Instant::now());
    let whole = (load.warm_up + load.duration).as_secs_f64();
    while !worker.is_finished() {
        thread::sleep(Duration::from_millis(5));
        let phase = control.phase();
        if phase > seen {
            if seen < Phase::Measuring && phase >= Phase::Measuring {
                samples.take(0, session, settings.generator_cpu, &mut admin)?;
            }
            if seen < Phase::Draining && phase >= Phase::Draining {
                samples.take(1, session, settings.generator_cpu, &mut admin)?;
            }
            seen = phase;
        }
        progress.tick(began.elapsed().as_secs_f64() / whole);
        if progress.stopped() {
            control.stop();
        }
    }
    let result = worker.join().expect("the generator does not panic")?;
    let [before, after] = &samples.stages;
    Ok(Outcome {
        stages: between(before, after),
        overloaded: result.overloaded,
        repetition: Repetition {
            seconds: result.seconds,
            series: result.series,
            generator: result.generator,
            broker_cpu_seconds: samples.broker_cpu_seconds(),
            broker_idle_share: None,
            stolen: samples.stolen(result.seconds),
            complete: result.complete,
        },
    })
}

/// What was measured between two readings of histograms that only grow.
fn between(before: &[Stage], after: &[Stage]) -> Vec<Stage> {
    let count_before = |stage: &Stage, up_to: u64| {
        let same = |other: &&Stage| (other.shard, &other.name) == (stage.shard, &stage.name);
        let buckets = before.iter().find(same).map(|other| &other.buckets[..]);
        let bucket = buckets.unwrap_or_default().iter().find(|b| b.0 == up_to);
        bucket.map_or(0, |bucket| bucket.1)
    };
    after
        .iter()
        .map(|stage| Stage {
            buckets: stage
                .buckets
                .iter()
                .map(|(up_to, count)| (*up_to, count.saturating_sub(count_before(stage, *up_to))))
                .filter(|(_, count)| *count > 0)
                .collect(),
            ..stage.clone()
        })
        .collect()
}

/// Share of the time held back by the hypervisor above which that explains a generator's lateness:
/// one in a hundred is what a p99 shows.
const STOLEN_SHARE: f64 = 0.01;

/// Share of the time above which a generator in a closed loop may be what is measured.
const MOST_BUSY: f64 = 0.9;

/// Why a run's figures are the generator's and not the broker's, if that is so: it sent late, or
/// in a closed loop had next to no time left.
#[must_use]
pub fn bottleneck(repetition: &Repetition) -> Option<String> {
    let open = repetition
        .series
        .iter()
        .find(|series| series.wanted_rate.is_some());
    let generator = &repetition.generator;
    if let Some(series) = open {
        let late = generator.lateness.p99;
        // Half of a typical latency is far too much; a few microseconds are not.
        if late > (series.latency.p50 / 2).max(20_000) {
            let late_us = late / 1_000;
            let why = if repetition.stolen > STOLEN_SHARE {
                let share = repetition.stolen * 100.0;
                format!("the hypervisor held this machine's CPUs back for {share:.0} % of the time")
            } else {
                "its CPU is too slow or not its own for this rate".to_owned()
            };
            return Some(format!(
                "the generator itself was late by {late_us} µs (p99): {why}"
            ));
        }
        return None;
    }
    (generator.busy > MOST_BUSY).then(|| {
        format!(
            "the generator was busy {:.0} % of the time: what was measured is the generator",
            generator.busy * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(buckets: &[(u64, u64)]) -> Stage {
        Stage {
            shard: 0,
            name: "send".to_owned(),
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn only_what_came_in_between_counts() {
        let before = [stage(&[(10, 5), (20, 1)])];
        let after = [stage(&[(10, 5), (20, 4), (30, 2)])];
        assert_eq!(between(&before, &after), [stage(&[(20, 3), (30, 2)])]);
        assert_eq!(between(&[], &before), before);
    }

    #[test]
    fn a_generator_that_was_measured_itself_is_told() {
        let mut repetition = Repetition::default();
        assert_eq!(bottleneck(&repetition), None);
        repetition.generator.busy = 0.95;
        assert!(bottleneck(&repetition).is_some_and(|why| why.contains("95 %")));
        let mut series = crate::report::model::SeriesResult {
            wanted_rate: Some(1_000.0),
            ..Default::default()
        };
        series.latency.p50 = 100_000;
        repetition.series.push(series);
        assert_eq!(bottleneck(&repetition), None, "an open loop may be busy");
        repetition.generator.lateness.p99 = 60_000;
        assert!(bottleneck(&repetition).is_some_and(|why| why.contains("60 µs")));
        repetition.stolen = 0.07;
        assert!(bottleneck(&repetition).is_some_and(|why| why.contains("back for 7 %")));
    }

    #[test]
    fn of_two_cpus_the_one_held_back_more_counts() {
        let samples = Samples {
            stolen_seconds: [[Some(1.0), Some(2.0)], [Some(1.1), Some(2.4)]],
            ..Samples::default()
        };
        assert!((samples.stolen(2.0) - 0.2).abs() < 1e-9);
        let unknown = Samples {
            stolen_seconds: [[Some(1.0), None], [None, Some(2.4)]],
            ..Samples::default()
        };
        assert_eq!(unknown.stolen(2.0), 0.0);
    }
}
