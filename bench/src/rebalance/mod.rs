//! What a rebalance costs those who consume: a group of real consumers shares a topic, one more
//! joins, then one leaves, and all go on polling. The consumers are [`millrace_client`]'s, for what an
//! application sees is the client's doing as much as the broker's; they all run on one thread, on the
//! generator's CPU, and so on one clock.
//!
//! - `watch`: who has which partition, and when records of it were handed out last.
//! - `members`: the consumers, and the producer that writes a record to every partition at an interval.

mod members;
mod watch;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_client::Assignor;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::cpu::{pin_current_thread, thread_cpu};
use crate::load::LoadError;
use crate::progress::Progress;
use crate::protocol::TopicSpec;
use crate::record::{curve, histogram, latency};
use crate::report::model::{GeneratorUse, Repetition, SeriesResult, WorkloadResult};
use crate::run::{RunError, RunSettings, Samples, Session};
use members::Members;

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
        WorkloadResult {
            name: self.name(),
            description: "One member joins a group of consumers, then one leaves. Settled: until every \
                member has its share. Pause: for each partition the longest time between two records \
                handed out, less the usual one. Without owner: for each partition that changed hands, \
                or was given up, how long no member had it. Quiet: the same while nothing happens."
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
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LoadError::Ring)?;
    let mut measuring = Measuring {
        session,
        plan,
        settings,
        progress,
        result: plan.result(),
    };
    let measured = LocalSet::new().block_on(&runtime, measuring.run(&topic));
    // What failed tells more than that it could not be cleaned up.
    let _ = admin.delete_topic(&topic);
    measured?;
    Ok(measuring.result)
}

struct Measuring<'a> {
    session: &'a Session,
    plan: &'a RebalancePlan,
    settings: &'a RunSettings,
    progress: &'a mut dyn Progress,
    result: WorkloadResult,
}

impl Measuring<'_> {
    async fn run(&mut self, topic: &str) -> Result<(), RunError> {
        let name = self.plan.name();
        self.progress.begin(&format!("{name}: joining"));
        let mut members = Members::new(self.session.address(), self.plan, topic);
        for _ in 0..self.plan.members {
            members.join().await?;
        }
        self.settle(&members).await?;
        members.produce().await?;
        for number in 1..=self.plan.repetitions {
            self.progress
                .begin(&format!("{name} {number}/{}", self.plan.repetitions));
            if self.progress.stopped() {
                break;
            }
            self.repeat(&mut members).await?;
        }
        self.progress.finished();
        members.end().await;
        Ok(())
    }

    async fn repeat(&mut self, members: &mut Members) -> Result<(), RunError> {
        let mut samples = Samples::default();
        let (began, cpu) = (Instant::now(), thread_cpu());
        let generator_cpu = self.settings.generator_cpu;
        samples.take(0, self.session, generator_cpu, &mut None)?;
        let mut series = Vec::new();
        self.let_records_flow(members).await?;
        members.watch().borrow_mut().begin();
        self.wait(QUIET).await;
        let usual_ns = members.watch().borrow().usual_gap_ns();
        series.push(one_series(
            "quiet: pause",
            members.watch().borrow().pauses_ns(usual_ns),
        ));
        for (event, is_join) in [("join", true), ("leave", false)] {
            let t0_ns = members.watch().borrow_mut().begin();
            match is_join {
                true => members.join().await?,
                false => members.leave_oldest(),
            }
            let settled_ns = self.settle(members).await?;
            self.let_records_flow(members).await?;
            let watch = members.watch().borrow();
            let times = [
                ("settled", vec![settled_ns.saturating_sub(t0_ns)]),
                ("pause", watch.pauses_ns(usual_ns)),
                ("without owner", watch.ownerless_ns()),
            ];
            series.extend(times.map(|(what, ns)| one_series(&format!("{event}: {what}"), ns)));
            if watch.owned_twice() > 0 {
                let last = series.last_mut().expect("there are some");
                let text = "a partition had two owners at once".to_owned();
                last.errors.insert(text, watch.owned_twice());
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        samples.take(1, self.session, generator_cpu, &mut None)?;
        let cpu_seconds = (thread_cpu() - cpu).as_secs_f64();
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
            complete: !self.progress.stopped(),
        });
        Ok(())
    }

    /// Waits until every member has its share and nothing changes any more. Returns when the last
    /// partition changed hands, ns on the watch's clock.
    async fn settle(&mut self, members: &Members) -> Result<u64, RunError> {
        let began = Instant::now();
        let mut balanced: Option<(u64, Instant)> = None;
        loop {
            self.wait(LOOK).await;
            members.check()?;
            let watch = members.watch().borrow();
            let changed_ns = watch.changed_ns();
            balanced = match balanced {
                _ if !watch.is_balanced() => None,
                Some((ns, since)) if ns == changed_ns => Some((ns, since)),
                _ => Some((changed_ns, Instant::now())),
            };
            match balanced {
                Some((ns, since)) if since.elapsed() >= CALM => return Ok(ns),
                _ if began.elapsed() > PATIENCE || self.progress.stopped() => {
                    return Err(RunError::Unsettled {
                        members: watch.members(),
                        waited: began.elapsed(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Waits until a record of every partition was handed out: pauses have an end then.
    async fn let_records_flow(&mut self, members: &Members) -> Result<(), RunError> {
        let (from_ns, began) = (members.watch().borrow().now_ns(), Instant::now());
        while !members.watch().borrow().all_handed_since(from_ns) {
            self.wait(LOOK).await;
            members.check()?;
            if began.elapsed() > PATIENCE || self.progress.stopped() {
                return Err(RunError::Unsettled {
                    members: members.watch().borrow().members(),
                    waited: began.elapsed(),
                });
            }
        }
        Ok(())
    }

    async fn wait(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        let done = self.result.repetitions.len() as f64 / self.plan.repetitions as f64;
        self.progress.tick(done);
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

/// Shared by the tasks of one thread.
type Shared<T> = Rc<std::cell::RefCell<T>>;
