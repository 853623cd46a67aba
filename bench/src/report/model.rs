//! What a report holds, as data: written by the runs and by `limits`, read by the writers of text,
//! JSON and HTML. Its JSON form is what `--output json` prints and what `compare` can read again.
//! Times are nanoseconds unless a name says otherwise; rates are per second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One report: where it was made, what bounds it, what was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine and the settings.
    pub environment: Environment,
    /// What this machine can do, if it was measured in the same run.
    pub limits: Option<Limits>,
    /// Workloads, in the order in which they ran.
    pub workloads: Vec<WorkloadResult>,
    /// Sweeps of the rate.
    pub sweeps: Vec<Sweep>,
    /// Comparisons of two targets.
    pub comparisons: Vec<Comparison>,
    /// What a reader must know: a run cut short, a generator that was nearly the bottleneck.
    pub notes: Vec<String>,
}

/// The machine, the versions, the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// When the report was begun, RFC 3339.
    pub time: String,
    /// `uname`: system, release, machine.
    pub kernel: String,
    /// The CPU's name.
    pub cpu: String,
    /// How many CPUs this process may use.
    pub cpus: usize,
    /// The frequency governor of the first CPU; empty where there is none (most virtual machines).
    pub governor: String,
    /// Whether a hypervisor is told by the CPU's flags.
    pub virtual_machine: bool,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The file system of the data directory: type, mount options, device.
    pub file_system: String,
    /// This program's version.
    pub bench_version: String,
    /// The broker's version, as it tells it.
    pub broker_version: String,
    /// The CPU that the generator ran on.
    pub generator_cpu: Option<usize>,
    /// The CPUs that the broker ran on, if this program started it.
    pub broker_cpus: Vec<usize>,
    /// Everything else that was set: flags, the broker's configuration.
    pub settings: BTreeMap<String, String>,
}

/// A distribution in its usual figures, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// 9 of 10 took at most this.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// 9,999 of 10,000.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
}

/// What this machine can do, measured by `millrace-bench limits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// 1 KiB there and 64 bytes back over loopback TCP, both ends asking the kernel over and over.
    pub loopback_round_trip: Latency,
    /// Bytes a second through one loopback connection.
    pub loopback_stream: f64,
    /// A bare echo on the broker's executor, by load.
    pub echo: Vec<EchoLimit>,
    /// `O_DIRECT|O_DSYNC` writes into a prewritten file of the data directory.
    pub durable_writes: Vec<WriteLimit>,
    /// How late a thread that does nothing but look at the clock sees 10 µs pass, on the generator's
    /// CPU, while the broker's makes one 4 KiB write after the other durable: the pauses of the
    /// machine itself, which are in every tail.
    #[serde(default)]
    pub pauses: Latency,
    /// Sequential `O_DIRECT` reads of the data directory.
    pub direct_reads: Vec<ReadLimit>,
    /// Bytes a second copied from memory to memory, by one core, in pieces of 1 MiB.
    pub memory_copy: f64,
    /// Bytes a second of CRC-32C (record batches), by one core.
    pub crc32c: f64,
    /// Bytes a second of CRC-32 (the journal), by one core.
    pub crc32: f64,
}

/// A bare echo on the broker's executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoLimit {
    /// Connections.
    pub connections: usize,
    /// Messages in flight on each.
    pub in_flight: usize,
    /// Bytes of each message, there; the answer has 64.
    pub message_bytes: usize,
    /// Round trips a second, all connections together.
    pub round_trips: f64,
    /// How long each took.
    pub latency: Latency,
}

/// Durable writes of one size at one depth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WriteLimit {
    /// Bytes of each write.
    pub bytes: usize,
    /// Writes in flight.
    pub depth: usize,
    /// How long each took.
    pub latency: Latency,
    /// Bytes a second.
    pub throughput: f64,
}

/// Reads of one size at one depth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadLimit {
    /// Bytes of each read.
    pub bytes: usize,
    /// Reads in flight.
    pub depth: usize,
    /// Bytes a second.
    pub throughput: f64,
}

/// A workload and how it went, repetition by repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadResult {
    /// The workload's name.
    pub name: String,
    /// One sentence on what it does.
    pub description: String,
    /// Its settings, by name.
    pub settings: BTreeMap<String, String>,
    /// Each repetition.
    pub repetitions: Vec<Repetition>,
    /// Where the broker's time went, if it was asked.
    #[serde(default)]
    pub stages: Vec<StageResult>,
    /// What it cost a group that members came and went, if any did.
    #[serde(default)]
    pub changes: Vec<MembershipChange>,
    /// Its figures beside what bounds them.
    pub bounds: Vec<Bound>,
}

/// One stage of the broker's work while a workload was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// The shard.
    pub shard: u16,
    /// The stage's name.
    pub stage: String,
    /// How long it took.
    pub latency: Latency,
}

/// What it cost a group, over the repetitions, that a member came or went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// `join` or `leave`.
    pub event: String,
    /// How often it was measured.
    pub repetitions: usize,
    /// Until every member had its share, ns.
    pub settled: MedianAndMax,
    /// How many partitions had no owner for a while, in a repetition.
    pub partitions_without_owner: MedianAndMax,
    /// For how long each of these had none, those of all repetitions together, ns; none if there were no
    /// such partitions.
    pub without_owner: Option<MedianAndMax>,
}

/// Two figures of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MedianAndMax {
    /// The median.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// One measured run of a workload, warm-up left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// How long was measured.
    pub seconds: f64,
    /// What was measured: `produce`, `end to end`, `tail fetch`, `catch-up`, …
    pub series: Vec<SeriesResult>,
    /// The generator's own use.
    pub generator: GeneratorUse,
    /// CPU seconds that the broker used meanwhile, if this program started it.
    pub broker_cpu_seconds: Option<f64>,
    /// Share of a CPU that the broker used before the load began, where it was watched for that.
    #[serde(default)]
    pub broker_idle_share: Option<f64>,
    /// Share of the time in which the hypervisor held back the generator's CPU or the broker's,
    /// whichever had more of that, 0 to 1. Such a pause is in the latencies, but is not the broker's.
    #[serde(default)]
    pub stolen: f64,
    /// Whether it ran to its end (not stopped by Ctrl-C).
    pub complete: bool,
}

impl Repetition {
    /// CPU time of the broker for each record, ns; one that was produced and fetched counts once. None
    /// if this program did not start the broker.
    #[must_use]
    pub fn broker_cpu_each(&self) -> Option<f64> {
        let records = self.series.iter().map(|series| series.records).max();
        let records = records.filter(|records| *records > 0)?;
        Some(self.broker_cpu_seconds? * 1e9 / records as f64)
    }
}

/// One kind of operation in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeriesResult {
    /// Which.
    pub name: String,
    /// Requests (or records, where those are what is timed) that were answered well.
    pub operations: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of records in them.
    pub bytes: u64,
    /// Requests that failed, by what the broker said.
    pub errors: BTreeMap<String, u64>,
    /// Operations a second that were asked for; none in a closed loop.
    pub wanted_rate: Option<f64>,
    /// From when it was due (open loop) or sent (closed loop) to when it was answered.
    pub latency: Latency,
    /// The whole distribution: quantile (0 to 1) and time, rising, fine enough to be drawn.
    pub curve: Vec<(f64, u64)>,
    /// What happened when.
    pub timeline: Vec<Interval>,
}

/// A short stretch of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its end, seconds after the measuring began.
    pub at_seconds: f64,
    /// Operations a second in it.
    pub operation_rate: f64,
    /// Bytes a second in it.
    pub byte_rate: f64,
    /// Median, ns.
    pub p50: u64,
    /// 99th percentile, ns.
    pub p99: u64,
    /// Longest, ns.
    pub max: u64,
}

/// How busy the generator was: it must not be what is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorUse {
    /// Share of the time in which it had something to do, 0 to 1.
    pub busy: f64,
    /// CPU seconds of its thread, waiting in a loop included.
    pub cpu_seconds: f64,
    /// From when a request was due to when it was handed to the kernel, where nothing but the
    /// generator itself held it back.
    pub lateness: Latency,
}

/// A figure beside what bounds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The figure, such as `produce p50`.
    pub figure: String,
    /// Its value, the median over the repetitions.
    pub value: f64,
    /// The smallest and the largest of the repetitions.
    pub spread: (f64, f64),
    /// `ns`, `records/s`, `B/s`, …
    pub unit: String,
    /// What bounds it, such as `loopback round trip + durable 4 KiB write`.
    pub limit: String,
    /// That limit's value, in the same unit.
    pub limit_value: f64,
    /// Value over limit.
    pub ratio: f64,
    /// What the ratio should be.
    pub target: Option<Target>,
    /// The same through Kafka's protocol, if it was measured.
    #[serde(default)]
    pub through_kafka: Option<ThroughKafka>,
}

/// A figure through Kafka's protocol, beside the native one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThroughKafka {
    /// Its value, the median over the repetitions, in the figure's unit.
    pub value: f64,
    /// The smallest and the largest of the repetitions.
    pub spread: (f64, f64),
    /// Its value over the native one: what the protocol costs, where less is better.
    pub over_native: f64,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether a ratio is as it should be.
    #[must_use]
    pub fn met_by(self, ratio: f64) -> bool {
        match self {
            Target::AtMost(most) => ratio <= most,
            Target::AtLeast(least) => ratio >= least,
        }
    }
}

/// A rate raised until the latency bound broke.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The workload's name.
    pub workload: String,
    /// What must not be exceeded, in words (`p99 of produce at most 5 ms`).
    pub bound: String,
    /// The steps, by rising rate.
    pub steps: Vec<SweepStep>,
    /// The highest rate that kept the bound.
    pub best_rate: Option<f64>,
}

/// One rate of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepStep {
    /// Operations a second asked for.
    pub wanted_rate: f64,
    /// Operations a second answered.
    pub rate: f64,
    /// Bytes of records a second answered.
    pub byte_rate: f64,
    /// Latency at that rate.
    pub latency: Latency,
    /// Whether the bound was kept.
    pub kept: bool,
}

/// Two targets under the same load, taking turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The workload's name.
    pub workload: String,
    /// The first target.
    pub a: String,
    /// The second.
    pub b: String,
    /// Every figure compared.
    pub figures: Vec<ComparedFigure>,
}

/// One figure of two targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComparedFigure {
    /// Which, such as `produce p99`.
    pub figure: String,
    /// `ns`, `operations/s`, …
    pub unit: String,
    /// The first target's value in each pair.
    pub a: Vec<f64>,
    /// The second's.
    pub b: Vec<f64>,
    /// Median of `b` over median of `a`.
    pub ratio: f64,
    /// Smallest and largest `b / a` of a pair.
    pub spread: (f64, f64),
}
