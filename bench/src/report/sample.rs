//! A report with something in every part of it, for the tests of those that write reports.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{
    Bound, ComparedFigure, Comparison, EchoLimit, Environment, GeneratorUse, Latency, Limits,
    MedianAndMax, MembershipChange, ReadLimit, Repetition, Report, SeriesResult, StageResult,
    Sweep, SweepStep, Target, ThroughKafka, WorkloadResult, WriteLimit,
};
use crate::record::{Recorder, compare_pairs};

/// What must be found in any writing of [`report`], whatever else is.
pub(crate) const WORDS: &[&str] = &[
    "Test CPU 9000",
    "Linux 6.18.0",
    "ext4 on vdb",
    "performance",
    "virtual machine",
    "generator on CPU 1",
    "acks = all",
    "loopback round trip",
    "64 connections × 4",
    "durable write",
    "direct read",
    "CRC-32C",
    "produce",
    "end to end",
    "One record of 1 KiB, one in flight.",
    "no room: try again later",
    "lateness p99",
    "60 % of a CPU, 0.4 % while it had nothing to do",
    "60.0 µs for each record",
    "partitions without owner",
    "loopback round trip + durable",
    "through Kafka",
    "p99 of produce at most 5 ms",
    "ratio B/A",
    "build one",
    "build two",
    "the third repetition was disturbed",
];

/// The report.
pub(crate) fn report() -> Report {
    Report {
        environment: environment(),
        limits: Some(limits()),
        workloads: vec![workload()],
        sweeps: vec![sweep()],
        comparisons: vec![comparison()],
        notes: vec!["the third repetition was disturbed".to_owned()],
    }
}

/// Figures around a median.
fn latency(p50: u64) -> Latency {
    Latency {
        count: 100_000,
        mean: p50 as f64 * 1.1,
        p50,
        p90: p50 * 13 / 10,
        p99: p50 * 2,
        p999: p50 * 4,
        p9999: p50 * 9,
        max: p50 * 20,
    }
}

fn environment() -> Environment {
    Environment {
        time: "2026-01-31T12:00:00Z".to_owned(),
        kernel: "Linux 6.18.0 x86_64".to_owned(),
        cpu: "Test CPU 9000".to_owned(),
        cpus: 2,
        governor: "performance".to_owned(),
        virtual_machine: true,
        memory_bytes: 8 << 30,
        file_system: "ext4 on vdb, rw,relatime".to_owned(),
        bench_version: "0.1.0".to_owned(),
        broker_version: "0.1.0".to_owned(),
        generator_cpu: Some(1),
        broker_cpus: vec![0],
        settings: BTreeMap::from([
            ("acks".to_owned(), "all".to_owned()),
            ("topic".to_owned(), "<script>alert(1)</script>".to_owned()),
        ]),
    }
}

fn limits() -> Limits {
    let write = |bytes, depth, p50| WriteLimit {
        bytes,
        depth,
        latency: latency(p50),
        throughput: (bytes * depth) as f64 * 1e9 / p50 as f64,
    };
    Limits {
        loopback_round_trip: latency(18_000),
        loopback_stream: 4.5e9,
        echo: vec![EchoLimit {
            connections: 64,
            in_flight: 4,
            message_bytes: 1_100,
            round_trips: 312_000.0,
            latency: latency(800_000),
        }],
        durable_writes: vec![
            write(4 << 10, 1, 69_000),
            write(128 << 10, 4, 190_000),
            write(1 << 20, 4, 900_000),
        ],
        pauses: latency(4_000),
        direct_reads: vec![ReadLimit {
            bytes: 1 << 20,
            depth: 2,
            throughput: 1.9e9,
        }],
        memory_copy: 22e9,
        crc32c: 31e9,
        crc32: 64e9,
    }
}

/// Times with a tail: around the median, one of 100 twice that, one of 1,000 ten times.
fn series(name: &str, median: u64) -> SeriesResult {
    const OPERATIONS: u64 = 20_000;
    let mut recorder = Recorder::new(name, Duration::from_secs(2));
    for n in 0..OPERATIONS {
        let scattered = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44; // 0 to 2^20, in no order
        let beside = (scattered % 1_000) * median / 10_000;
        let time = match n {
            _ if n % 1_000 == 999 => median * 10,
            _ if n % 100 == 99 => median * 2 + beside,
            _ => median + beside - median / 20,
        };
        recorder.record(Duration::from_micros(100) * n as u32, time, 1, 1_024);
    }
    recorder.error("no room: try again later");
    recorder.finish(Some(10_000.0))
}

fn workload() -> WorkloadResult {
    let repetition = |median: u64| Repetition {
        seconds: 2.0,
        series: vec![
            series("produce", median),
            series("end to end", median * 3 / 2),
        ],
        generator: GeneratorUse {
            busy: 0.34,
            cpu_seconds: 2.0,
            lateness: latency(1_000),
        },
        broker_cpu_seconds: Some(1.2),
        broker_idle_share: Some(0.004),
        stolen: 0.02,
        complete: true,
    };
    let bound = |figure: &str, value: f64, target| Bound {
        figure: figure.to_owned(),
        value,
        spread: (value * 0.9, value * 1.1),
        unit: "ns".to_owned(),
        limit: "loopback round trip + durable 4 KiB write".to_owned(),
        limit_value: 87_000.0,
        ratio: value / 87_000.0,
        target,
        through_kafka: Some(ThroughKafka {
            value: value * 1.25,
            spread: (value * 1.2, value * 1.3),
            over_native: 1.25,
        }),
    };
    WorkloadResult {
        name: "one-record".to_owned(),
        description: "One record of 1 KiB, one in flight.".to_owned(),
        settings: BTreeMap::from([("partitions".to_owned(), "1".to_owned())]),
        repetitions: vec![
            repetition(100_000),
            repetition(120_000),
            repetition(110_000),
        ],
        stages: vec![StageResult {
            shard: 0,
            stage: "journal_write".to_owned(),
            latency: latency(90_000),
        }],
        changes: vec![
            change("join", 1_000.0, Some((24e6, 310e6))),
            change("leave", 0.0, None),
        ],
        bounds: vec![
            bound("produce p50", 110_000.0, Some(Target::AtMost(1.5))),
            bound("produce p99", 400_000.0, Some(Target::AtMost(3.0))),
            bound("end to end p50", 165_000.0, None),
        ],
    }
}

fn change(event: &str, partitions: f64, without_owner: Option<(f64, f64)>) -> MembershipChange {
    let figures = |(median, max)| MedianAndMax { median, max };
    MembershipChange {
        event: event.to_owned(),
        repetitions: 3,
        settled: figures((1.9e9, 3.2e9)),
        partitions_without_owner: figures((partitions, partitions)),
        without_owner: without_owner.map(figures),
    }
}

fn sweep() -> Sweep {
    let step = |rate: f64, p50: u64| SweepStep {
        wanted_rate: rate,
        rate: rate * 0.998,
        byte_rate: rate * 1_024.0,
        latency: latency(p50),
        kept: p50 < 1_000_000,
    };
    Sweep {
        workload: "small-records".to_owned(),
        bound: "p99 of produce at most 5 ms".to_owned(),
        steps: vec![
            step(10_000.0, 110_000),
            step(20_000.0, 115_000),
            step(40_000.0, 130_000),
            step(80_000.0, 190_000),
            step(120_000.0, 400_000),
            step(150_000.0, 3_000_000),
        ],
        best_rate: Some(120_000.0),
    }
}

fn comparison() -> Comparison {
    let figure = |name: &str, unit: &str, base: f64, ratios: [f64; 5]| -> ComparedFigure {
        let pairs = ratios.map(|ratio| (base, base * ratio));
        compare_pairs(name, unit, &pairs).expect("pairs of finite numbers")
    };
    Comparison {
        workload: "one-record".to_owned(),
        a: "build one".to_owned(),
        b: "build two".to_owned(),
        figures: vec![
            figure("produce p50", "ns", 110_000.0, [0.99, 1.0, 1.01, 1.0, 1.02]),
            figure("produce p99", "ns", 220_000.0, [0.9, 0.85, 0.9, 1.05, 0.88]),
            figure(
                "produce rate",
                "records/s",
                96_000.0,
                [1.04, 1.06, 1.08, 1.02, 1.05],
            ),
        ],
    }
}
