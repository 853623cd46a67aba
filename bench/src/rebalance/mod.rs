//! What a rebalance costs those who consume: a group of real consumers shares a topic, one more
//! joins, then one leaves, and all go on polling. The consumers are [`millrace_client`]'s, for what an
//! application sees is the client's doing as much as the broker's. Each has a thread to itself, as if it
//! were alone on its machine; all of these are on the generator's CPU, and so on one clock.
//!
//! - `watch`: who has which partition, and when records of it were handed out last.
//! - `members`: the consumers, and the producer that writes a record to every partition at an interval.
//!   `hosts`: the threads that they are on.
//! - `moments`: when members come, go and send their heartbeats; `changes`: what that cost.

mod changes;
mod hosts;
mod members;
mod moments;
mod watch;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use millrace_client::Assignor;

use crate::cpu::{pin_current_thread, process_cpu};
use crate::load::LoadError;
use crate::progress::Progress;
use crate::protocol::TopicSpec;
use crate::record::{curve, histogram, latency};
use crate::report::model::{GeneratorUse, Repetition, SeriesResult, WorkloadResult};
use crate::run::{RunError, RunSettings, Samples, Session};
use changes::{Observed, summarise};
use members::Members;
use moments::Moments;
use watch::Watch;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebalancePlan {
    /// Members of the group, before one more joins.
    pub members: usize,
    /// Partitions of its topic.
    pub partitions: u32,
    /// How the partitions are shared out.
    pub assignor: Assignor,
    /// Every partition gets a record so often.
    pub interval: Duration,
    /// The members' session timeout, of which a third is the time between two heartbeats.
    pub session_timeout: Duration,
    /// How often one joins and one leaves.
    pub repetitions: usize,
    /// What is random begins here.
    pub seed: u64,
}

impl RebalancePlan {
    fn name(&self) -> String {
        format!("rebalance, {}", self.assignor.name())
    }

    fn result(&self) -> WorkloadResult {
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        set("members", self.members.to_string());
        set("partitions", self.partitions.to_string());
        set("assignor", self.assignor.name().to_owned());
        set("interval_ms", self.interval.as_millis().to_string());
        set(
            "session_timeout_ms",
            self.session_timeout.as_millis().to_string(),
        );
        set("seed", self.seed.to_string());
        WorkloadResult {
            name: self.name(),
            description:
                "One member joins a group of consumers, then one leaves, each at any moment \
                between two heartbeats. Settled: until every member has its share. Pause: for each \
                partition the longest time between two records handed out, less the usual one. \
                Without owner: for each partition that changed hands, or was given up, how long no \
                member had it. Quiet: the same while nothing happens."
                    .to_owned(),
            settings,
            ..WorkloadResult::default()
        }
    }
}

/// How long is looked at a group to which nothing happens.
const QUIET: Duration = Duration::from_secs(2);

/// How long every member has had its share before nothing more is expected to change.
const CALM: Duration = Duration::from_millis(500);

/// How long it may take until then.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often is looked whether it is so.
const LOOK: Duration = Duration::from_millis(10);

/// How often a longer wait tells how far it is, and asks whether it is to go on.
const TICK: Duration = Duration::from_millis(100);

/// Measures a group with this plan, on the calling thread, which stays on the generator's CPU.
pub fn measure(
    session: &Session,
    plan: &RebalancePlan,
    settings: &RunSettings,
    progress: &mut dyn Progress,
) -> Result<WorkloadResult, RunError> {
    if let Some(cpu) = settings.generator_cpu {
        pin_current_thread(cpu)?;
    }
    let topic = format!("bench-{}-{}", std::process::id(), plan.assignor.name());
    let mut admin = session.admin(settings)?;
    admin.create_topic(&TopicSpec {
        name: topic.clone(),
        partitions: plan.partitions,
        configs: Vec::new(),
    })?;
    let mut measuring = Measuring {
        session,
        plan,
        settings,
        progress,
        moments: Moments::new(plan.seed, plan.session_timeout),
        observed: [Vec::new(), Vec::new()],
        result: plan.result(),
    };
    let measured = measuring.run(&topic);
    // What failed tells more than that it could not be cleaned up.
    let _ = admin.delete_topic(&topic);
    measured?;
    Ok(measuring.result)
}

/// What happens to a group in each repetition, in this order.
#[derive(Clone, Copy)]
enum Event {
    Join,
    Leave,
}

impl Event {
    const ALL: [Event; 2] = [Event::Join, Event::Leave];

    fn name(self) -> &'static str {
        match self {
            Event::Join => "join",
            Event::Leave => "leave",
        }
    }
}

struct Measuring<'a> {
    session: &'a Session,
    plan: &'a RebalancePlan,
    settings: &'a RunSettings,
    progress: &'a mut dyn Progress,
    moments: Moments,
    /// By event.
    observed: [Vec<Observed>; 2],
    result: WorkloadResult,
}

impl Measuring<'_> {
    fn run(&mut self, topic: &str) -> Result<(), RunError> {
        let mut members = Members::new(self.session.address(), self.plan, topic);
        let measured = self.measure(&mut members);
        self.progress.finished();
        members.end();
        measured?;
        let events = Event::ALL.iter().zip(&self.observed);
        let changes = events.filter_map(|(event, observed)| summarise(event.name(), observed));
        self.result.changes = changes.collect();
        Ok(())
    }

    fn measure(&mut self, members: &mut Members) -> Result<(), RunError> {
        let name = self.plan.name();
        self.progress.begin(&format!("{name}: joining"));
        for _ in 0..self.plan.members {
            members.join()?;
        }
        let mut settled_ns = self.settle(members)?;
        members.produce()?;
        for number in 1..=self.plan.repetitions {
            self.progress
                .begin(&format!("{name} {number}/{}", self.plan.repetitions));
            let repeated = self.repeat(members, settled_ns);
            if self.progress.stopped() && !self.result.repetitions.is_empty() {
                break;
            }
            settled_ns = repeated?;
        }
        Ok(())
    }

    /// Returns when the group had settled in the end, ns on the watch's clock.
    fn repeat(&mut self, members: &mut Members, mut settled_ns: u64) -> Result<u64, RunError> {
        let mut samples = Samples::default();
        let (began, cpu) = (Instant::now(), process_cpu());
        let generator_cpu = self.settings.generator_cpu;
        samples.take(0, self.session, generator_cpu, &mut None)?;
        self.spread_heartbeats(members, settled_ns)?;
        members.watch().begin();
        self.wait(QUIET)?;
        let usual_ns = members.watch().usual_gap_ns();
        let quiet = members.watch().pauses_ns(usual_ns);
        let mut series = vec![one_series("quiet: pause", quiet)];
        let mut observed = Vec::new();
        for event in Event::ALL {
            if !observed.is_empty() {
                self.spread_heartbeats(members, settled_ns)?;
            }
            let wait = self.moments.wait();
            self.wait(wait)?;
            let (change, its_series);
            (settled_ns, change, its_series) = self.change(members, event, usual_ns)?;
            observed.push(change);
            series.extend(its_series);
        }
        let seconds = began.elapsed().as_secs_f64();
        samples.take(1, self.session, generator_cpu, &mut None)?;
        let cpu_seconds = (process_cpu() - cpu).as_secs_f64();
        self.result.repetitions.push(Repetition {
            seconds,
            series,
            generator: GeneratorUse {
                busy: cpu_seconds / seconds,
                cpu_seconds,
                ..GeneratorUse::default()
            },
            broker_cpu_seconds: samples.broker_cpu_seconds(),
            broker_idle_share: None,
            stolen: samples.stolen(seconds),
            complete: true,
        });
        for (all, one) in self.observed.iter_mut().zip(observed) {
            all.push(one);
        }
        Ok(settled_ns)
    }

    /// Brings the members out of the step that a rebalance brought them into.
    fn spread_heartbeats(&mut self, members: &Members, settled_ns: u64) -> Result<(), RunError> {
        let since_settled = members.watch().now_ns().saturating_sub(settled_ns);
        let since_settled = Duration::from_nanos(since_settled);
        let longest = members.stand_still(|| self.moments.standstill(since_settled));
        self.wait(longest)?;
        self.let_records_flow(members)
    }

    /// Lets a member come or go. Returns when the group had settled, and what was observed.
    fn change(
        &mut self,
        members: &mut Members,
        event: Event,
        usual_ns: u64,
    ) -> Result<(u64, Observed, [SeriesResult; 3]), RunError> {
        let t0_ns = members.watch().begin();
        match event {
            Event::Join => members.join()?,
            Event::Leave => members.leave_oldest(),
        }
        let settled_ns = self.settle(members)?;
        self.let_records_flow(members)?;
        let watch = members.watch();
        let observed = Observed {
            settled_ns: settled_ns.saturating_sub(t0_ns),
            ownerless_ns: watch.ownerless_ns(),
        };
        let named = |what, times_ns| one_series(&format!("{}: {what}", event.name()), times_ns);
        let mut ownerless = named("without owner", observed.ownerless_ns.clone());
        if watch.owned_twice() > 0 {
            let text = "a partition had two owners at once".to_owned();
            ownerless.errors.insert(text, watch.owned_twice());
        }
        let series = [
            named("settled", vec![observed.settled_ns]),
            named("pause", watch.pauses_ns(usual_ns)),
            ownerless,
        ];
        Ok((settled_ns, observed, series))
    }

    /// Waits until every member has its share and nothing changes any more. Returns when the last
    /// partition changed hands, ns on the watch's clock.
    fn settle(&mut self, members: &Members) -> Result<u64, RunError> {
        let began = Instant::now();
        let mut balanced: Option<(u64, Instant)> = None;
        loop {
            self.wait(LOOK)?;
            members.check()?;
            let watch = members.watch();
            let changed_ns = watch.changed_ns();
            balanced = match balanced {
                _ if !watch.is_balanced() => None,
                Some((ns, since)) if ns == changed_ns => Some((ns, since)),
                _ => Some((changed_ns, Instant::now())),
            };
            match balanced {
                Some((ns, since)) if since.elapsed() >= CALM => return Ok(ns),
                _ => check_patience(&watch, began)?,
            }
        }
    }

    /// Waits until a record of every partition was handed out: pauses have an end then.
    fn let_records_flow(&mut self, members: &Members) -> Result<(), RunError> {
        let (from_ns, began) = (members.watch().now_ns(), Instant::now());
        while !members.watch().all_handed_since(from_ns) {
            self.wait(LOOK)?;
            members.check()?;
            check_patience(&members.watch(), began)?;
        }
        Ok(())
    }

    /// Ends early, with an error, if somebody wants an end.
    fn wait(&mut self, time: Duration) -> Result<(), RunError> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(left.min(TICK));
            let done = self.result.repetitions.len() as f64 / self.plan.repetitions as f64;
            self.progress.tick(done);
            if self.progress.stopped() {
                return Err(LoadError::Stopped.into());
            }
            if left <= TICK {
                return Ok(());
            }
        }
    }
}

fn check_patience(watch: &Watch, began: Instant) -> Result<(), RunError> {
    match began.elapsed() {
        waited if waited > PATIENCE => Err(RunError::Unsettled {
            members: watch.members(),
            waited,
        }),
        _ => Ok(()),
    }
}

/// A series of single times.
fn one_series(name: &str, times_ns: Vec<u64>) -> SeriesResult {
    let mut times = histogram();
    for ns in times_ns {
        times.saturating_record(ns);
    }
    SeriesResult {
        name: name.to_owned(),
        operations: times.len(),
        latency: latency(&times),
        curve: curve(&times),
        ..SeriesResult::default()
    }
}
