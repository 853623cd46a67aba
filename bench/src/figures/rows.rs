//! The rows, one function each.

use std::thread;
use std::time::{Duration, Instant};

use super::{
    Aim, BYTE_RATE, Figures, P50, P99, P999, RECORD_RATE, Row, at_rate, begin, bound, configs,
    cpu_each, median_of, summary,
};
use crate::protocol::TopicSpec;
use crate::record::Summary;
use crate::report::model::{Bound, WorkloadResult, WriteLimit};
use crate::run::{RunError, Session};
use crate::workload::{Workload, named};

/// Every row, in the order in which they are measured.
pub const ROWS: &[Row] = &[
    Row {
        name: "one-in-flight",
        about: "one record of 1 KiB after the other",
        has_clients: true,
        measure: one_in_flight,
    },
    Row {
        name: "small-records",
        about: "records of 1 KiB, one in a request, 64 connections with 4 in flight, 16 partitions",
        has_clients: true,
        measure: small_records,
    },
    Row {
        name: "partitions",
        about: "the same over 1, 100, 1,000 and 10,000 partitions",
        has_clients: true,
        measure: partitions,
    },
    Row {
        name: "large-requests",
        about: "records of 1 KiB in requests of 1 MiB, one partition",
        has_clients: true,
        measure: large_requests,
    },
    Row {
        name: "tail-fetch",
        about: "fetches of 1 MiB from the broker's memory",
        has_clients: true,
        measure: tail_fetch,
    },
    Row {
        name: "catch-up",
        about: "fetches of 1 MiB from the broker's disk, and producers beside them",
        has_clients: true,
        measure: catch_up,
    },
    Row {
        name: "retention",
        about: "producing at half of what is possible while segments roll and retention deletes",
        has_clients: true,
        measure: retention,
    },
    Row {
        name: "idle",
        about: "10,000 partitions that nobody uses",
        has_clients: false,
        measure: idle,
    },
    Row {
        name: "end-to-end",
        about: "10,000 records a second, from producer to consumer",
        has_clients: true,
        measure: end_to_end,
    },
];

/// How long each repetition is measured here: the whole table takes minutes.
const DURATION: Duration = Duration::from_secs(3);
/// The same where what is produced must not fit in the memory for what is not yet in segments.
const LONG_DURATION: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);

/// Most partitions that are measured, and as many as a broker has.
const MANY: u32 = 10_000;
/// The few that many are compared with.
const FEW: u32 = 16;

fn workload(name: &str) -> Workload {
    let mut workload = named(name).expect("the rows' workloads are ready-made ones");
    workload.warm_up = WARM_UP;
    workload.duration = DURATION;
    workload
}

impl Figures<'_> {
    /// One durable write of 4 KiB, the median, ns.
    fn durable_write(&self) -> f64 {
        let smallest = |write: &&WriteLimit| write.bytes == 4096 && write.depth == 1;
        let write = self.limits.durable_writes.iter().find(smallest);
        write.map_or(0.0, |write| write.latency.p50 as f64)
    }

    fn best_write(&self) -> f64 {
        let writes = self.limits.durable_writes.iter();
        writes.map(|write| write.throughput).fold(0.0, f64::max)
    }

    fn best_read(&self) -> f64 {
        let reads = self.limits.direct_reads.iter();
        reads.map(|read| read.throughput).fold(0.0, f64::max)
    }

    fn busiest_echo(&self) -> f64 {
        let echo = self.limits.echo.iter().map(|echo| echo.round_trips);
        echo.fold(0.0, f64::max)
    }
}

fn one_in_flight(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let workload = workload("one-in-flight");
    let result = figures.run(&mut figures.session(&[])?, &workload)?;
    let limit = "loopback round trip + durable 4 KiB write";
    let write = figures.durable_write();
    let sum = match write > 0.0 {
        true => figures.limits.loopback_round_trip.p50 as f64 + write,
        false => 0.0,
    };
    let (p50, p99) = (
        summary(&result, "produce", P50),
        summary(&result, "produce", P99),
    );
    let bounds = vec![
        bound("p50", "ns", p50, limit, sum, Some(Aim::AtMost(1.5))),
        bound("p99", "ns", p99, limit, sum, Some(Aim::AtMost(3.0))),
    ];
    figures.finish(result, bounds);
    Ok(())
}

impl Figures<'_> {
    /// A p99 beside that of the machine's own pauses: it cannot be less where the CPUs are as busy.
    fn beside_pauses(&self, figure: &str, p99: Option<Summary>) -> Option<Bound> {
        let pauses = self.limits.pauses.p99 as f64;
        bound(
            figure,
            "ns",
            p99,
            "pauses of this machine, p99",
            pauses,
            None,
        )
    }
}

impl Figures<'_> {
    /// CPU for each record beside what the bare echo, which keeps its core busy, has for a message.
    fn cpu_beside_echo(&self, result: &WorkloadResult) -> Option<Bound> {
        let echo = self.busiest_echo();
        let each = if echo > 0.0 { 1e9 / echo } else { 0.0 };
        let limit = "a core's time for each message of the bare echo";
        bound(
            "CPU for each record",
            "ns",
            cpu_each(result),
            limit,
            each,
            None,
        )
    }
}

fn small_records(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let workload = workload("small-records");
    let result = figures.run(&mut figures.session(&[])?, &workload)?;
    figures.half_rate = median_of(&result, "produce").map(|rate| rate / 2.0);
    let bounds = vec![
        bound(
            "records",
            "records/s",
            summary(&result, "produce", RECORD_RATE),
            "bare echo, as many connections and in flight",
            figures.busiest_echo(),
            Some(Aim::AtLeast(0.5)),
        ),
        bound(
            "p99",
            "ns",
            summary(&result, "produce", P99),
            "durable 4 KiB write",
            figures.durable_write(),
            Some(Aim::AtMost(6.0)),
        ),
        figures.cpu_beside_echo(&result),
    ];
    figures.finish(result, bounds);
    Ok(())
}

fn partitions(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let base = Workload {
        duration: LONG_DURATION,
        ..workload("small-records")
    };
    let mut session = figures.session(&[])?;
    let with = |partitions: u32| Workload {
        name: format!("small-records-{partitions}-partitions"),
        partitions,
        ..base.clone()
    };
    let sixteen = with(FEW);
    for (partitions, aim) in [
        (1, None),
        (100, None),
        (1_000, Some(Aim::AtLeast(0.85))),
        // With those of the other topic, which stay beside them.
        (MANY - FEW, Some(Aim::AtLeast(0.7))),
    ] {
        let other = with(partitions);
        let [few, many] = figures.run_in_turns_on_the_same(&mut session, [&sixteen, &other])?;
        let rate = |result: &WorkloadResult| summary(result, "produce", RECORD_RATE);
        let limit = rate(&few).map_or(0.0, |rate| rate.median);
        let limit_name = "the same with 16 partitions";
        let bounds = vec![bound(
            "records",
            "records/s",
            rate(&many),
            limit_name,
            limit,
            aim,
        )];
        figures.finish(many, bounds);
        if figures.progress.stopped() {
            break;
        }
    }
    Ok(())
}

fn large_requests(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let workload = workload("large-requests");
    let mut session = figures.session(&[])?;
    let before = session.admin(&figures.settings)?.counters()?;
    let [result] = figures.run_in_turns_on_the_same(&mut session, [&workload])?;
    let after = session.admin(&figures.settings)?.counters()?;
    let grown = |name: &str| {
        let value = |all: &[(String, u64)]| all.iter().find(|(n, _)| n == name).map_or(0, |c| c.1);
        value(&after).saturating_sub(value(&before)) as f64
    };
    let written = grown("journal_bytes") + grown("segment_bytes_written");
    let limit = figures.limits.loopback_stream.min(figures.best_write());
    let bounds = vec![
        bound(
            "bytes",
            "B/s",
            summary(&result, "produce", BYTE_RATE),
            "the smaller of loopback stream and durable write",
            limit,
            Some(Aim::AtLeast(0.5)),
        ),
        bound(
            "bytes written to disk",
            "B",
            Summary::of(&[written]),
            "bytes acknowledged",
            grown("bytes_appended"),
            None,
        ),
    ];
    figures.finish(result, bounds);
    Ok(())
}

fn tail_fetch(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let workload = workload("tail-fetch");
    let result = figures.run(&mut figures.session(&[])?, &workload)?;
    let bounds = vec![bound(
        "bytes",
        "B/s",
        summary(&result, "fetch", BYTE_RATE),
        "loopback stream",
        figures.limits.loopback_stream,
        Some(Aim::AtLeast(0.6)),
    )];
    figures.finish(result, bounds);
    Ok(())
}

fn catch_up(figures: &mut Figures<'_>) -> Result<(), RunError> {
    // A cache far smaller than what is read.
    let mut session = figures.session(&[("cache.bytes", "16MiB")])?;
    let alone = workload("catch-up");
    let result = figures.run(&mut session, &alone)?;
    let bounds = vec![bound(
        "bytes",
        "B/s",
        summary(&result, "fetch", BYTE_RATE),
        "direct read",
        figures.best_read(),
        Some(Aim::AtLeast(0.7)),
    )];
    figures.finish(result, bounds);
    let produce = at_rate(workload("produce"), 4, 2_000.0);
    let beside = Workload {
        name: "produce-beside-catch-up".to_owned(),
        description: "2,000 records a second while a consumer catches up from disk".to_owned(),
        backlog: alone.backlog.clone(),
        ..produce.clone()
    };
    let [quiet, busy] = figures.run_in_turns(&mut session, [&produce, &beside])?;
    let limit = summary(&quiet, "produce", P99).map_or(0.0, |p99| p99.median);
    let p99 = summary(&busy, "produce", P99);
    let limit_name = "the same without the consumer";
    let bounds = vec![
        bound(
            "produce p99",
            "ns",
            p99,
            limit_name,
            limit,
            Some(Aim::AtMost(2.0)),
        ),
        figures.beside_pauses("produce p99", p99),
    ];
    figures.finish(busy, bounds);
    Ok(())
}

fn retention(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let rate = match figures.half_rate {
        Some(rate) => rate,
        None => {
            let fast = figures.run(&mut figures.session(&[])?, &workload("small-records"))?;
            median_of(&fast, "produce").unwrap_or(1_000.0) / 2.0
        }
    };
    let quiet = at_rate(workload("small-records"), 64, rate);
    let churning = Workload {
        name: "retention".to_owned(),
        description: "half of the possible rate while segments roll and retention deletes"
            .to_owned(),
        topic_configs: configs(&[("segment.bytes", "1048576"), ("retention.bytes", "1048576")]),
        ..quiet.clone()
    };
    let mut session = figures.session(&[("storage.housekeeping_interval_ms", "100")])?;
    let [without, with] = figures.run_in_turns(&mut session, [&quiet, &churning])?;
    let limit = summary(&without, "produce", P999).map_or(0.0, |p999| p999.median);
    let bounds = vec![bound(
        "p99.9",
        "ns",
        summary(&with, "produce", P999),
        "the same without rolling and deleting",
        limit,
        Some(Aim::AtMost(3.0)),
    )];
    figures.finish(with, bounds);
    Ok(())
}

/// How long an idle broker is watched.
const WATCHED: Duration = Duration::from_secs(10);

fn idle(figures: &mut Figures<'_>) -> Result<(), RunError> {
    figures.progress.begin("idle");
    let session = figures.session(&[])?;
    let empty = session.broker().and_then(|broker| broker.resident_bytes());
    session.admin(&figures.settings)?.create_topic(&TopicSpec {
        name: "idle".to_owned(),
        partitions: MANY,
        configs: Vec::new(),
    })?;
    // What making them left to be done is done by then.
    watch(figures, Duration::from_secs(2));
    let full = session.broker().and_then(|broker| broker.resident_bytes());
    let (cpu_before, began) = (cpu_of(&session), Instant::now());
    watch(figures, WATCHED);
    let (cpu_after, watched) = (cpu_of(&session), began.elapsed().as_secs_f64());
    let result = WorkloadResult {
        description: "10,000 partitions that nobody uses".to_owned(),
        ..begin(&Workload {
            name: "idle".to_owned(),
            partitions: MANY,
            ..workload("one-in-flight")
        })
    };
    let bounds = vec![
        share_of_core(cpu_before, cpu_after, watched),
        memory_each(empty, full),
    ];
    figures.finish(result, bounds);
    Ok(())
}

fn cpu_of(session: &Session) -> Option<f64> {
    session.broker().and_then(|broker| broker.cpu_seconds())
}

fn watch(figures: &mut Figures<'_>, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time && !figures.progress.stopped() {
        let done = began.elapsed().as_secs_f64() / time.as_secs_f64();
        figures.progress.tick(done);
        thread::sleep(Duration::from_millis(50));
    }
}

fn share_of_core(before: Option<f64>, after: Option<f64>, watched: f64) -> Option<Bound> {
    let used = Summary::of(&[after? - before?]);
    bound(
        "CPU",
        "s",
        used,
        "one core",
        watched,
        Some(Aim::AtMost(0.01)),
    )
}

fn memory_each(empty: Option<u64>, full: Option<u64>) -> Option<Bound> {
    const MOST_EACH: f64 = 64.0 * 1024.0;
    let each = full?.saturating_sub(empty?) as f64 / f64::from(MANY);
    bound(
        "memory for each partition",
        "B",
        Summary::of(&[each]),
        "64 KiB",
        MOST_EACH,
        Some(Aim::AtMost(1.0)),
    )
}

fn end_to_end(figures: &mut Figures<'_>) -> Result<(), RunError> {
    let workload = workload("end-to-end");
    let result = figures.run(&mut figures.session(&[])?, &workload)?;
    let figure = |name: &str, read, aim| {
        let limit = summary(&result, "produce", read).map_or(0.0, |limit| limit.median);
        let value = summary(&result, "end to end", read);
        let limit_name = format!("produce {name}");
        bound(name, "ns", value, &limit_name, limit, aim)
    };
    let bounds = vec![
        figure("p50", P50, None),
        figure("p99", P99, Some(Aim::AtMost(2.0))),
        figures.beside_pauses("p99", summary(&result, "end to end", P99)),
    ];
    figures.finish(result, bounds);
    Ok(())
}
