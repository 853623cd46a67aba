//! Standard workloads of the OpenMessaging Benchmark, under their names there: so many topics and
//! partitions, producers and consumers, messages of so many bytes at so many a second. Its client
//! gathers messages into requests; here the number of records in a request stands for that. Its
//! runs last minutes and its backlogs have hundreds of gigabytes: here `--duration` and
//! `--backlog` say how much of that is wanted.

use std::time::Duration;

use super::named::{base, open};
use super::{Backlog, Consumers, Workload};
use crate::load::{BatchShape, RecordSize};

/// Records that its producer would gather at 50,000 a second with a linger of 1 ms.
const GATHERED: u32 = 50;

struct Standard {
    name: &'static str,
    topics: u32,
    partitions: u32,
    message_bytes: usize,
    /// Producers, and consumers in the one subscription.
    clients: (usize, usize),
    /// Messages a second.
    rate: f64,
    /// Share of random bytes in a message.
    entropy: f64,
    backlog_gib: u64,
}

const fn standard(
    name: &'static str,
    topics: u32,
    partitions: u32,
    message_bytes: usize,
) -> Standard {
    Standard {
        name,
        topics,
        partitions,
        message_bytes,
        clients: (1, 1),
        rate: 50_000.0,
        entropy: 1.0,
        backlog_gib: 0,
    }
}

/// Its `4p-4c` family.
const fn four(name: &'static str, partitions: u32, rate: f64) -> Standard {
    Standard {
        clients: (4, 4),
        rate,
        entropy: 0.5,
        ..standard(name, 1, partitions, 1024)
    }
}

const fn all_standard() -> [Standard; 12] {
    [
        standard("1-topic-1-partition-100b", 1, 1, 100),
        standard("1-topic-1-partition-1kb", 1, 1, 1024),
        Standard {
            clients: (3, 1),
            ..standard("1-topic-3-partition-100b-3producers", 1, 3, 100)
        },
        standard("1-topic-6-partition-100b", 1, 6, 100),
        standard("1-topic-16-partition-100b", 1, 16, 100),
        standard("1-topic-16-partitions-1kb", 1, 16, 1024),
        standard("1-topic-100-partitions-1kb", 1, 100, 1024),
        standard("100-topics-1-partitions-1kb", 100, 1, 1024),
        four("1-topic-100-partitions-1kb-4p-4c-200k", 100, 200_000.0),
        four("1-topic-100-partitions-1kb-4p-4c-500k", 100, 500_000.0),
        four("1-topic-10000-partitions-1kb-4p-4c-200k", 10_000, 200_000.0),
        Standard {
            backlog_gib: 2,
            ..four(
                "1-topic-100-partitions-1kb-4p-4c-200k-backlog",
                100,
                200_000.0,
            )
        },
    ]
}

/// All of them.
pub(super) fn all() -> Vec<Workload> {
    all_standard().iter().map(workload).collect()
}

fn workload(standard: &Standard) -> Workload {
    let (producers, consumers) = standard.clients;
    let description = format!(
        "OpenMessaging Benchmark: {} x {} partitions, {} messages of {} bytes a second",
        standard.topics, standard.partitions, standard.rate, standard.message_bytes,
    );
    let plain = base(standard.name, &description);
    Workload {
        topics: standard.topics,
        partitions: standard.partitions,
        shape: BatchShape {
            record_size: RecordSize::Fixed(standard.message_bytes),
            records: GATHERED,
            entropy: standard.entropy,
            ..plain.shape
        },
        producers: open(producers, standard.rate / f64::from(GATHERED)),
        consumers: Some(Consumers {
            fan_out: 1,
            connections: consumers,
            fetch_bytes: 1 << 20,
        }),
        backlog: (standard.backlog_gib > 0).then_some(Backlog {
            bytes: standard.backlog_gib << 30,
            connections: 1,
            fetch_bytes: 1 << 20,
            cold: true,
        }),
        duration: Duration::from_secs(10),
        ..plain
    }
}
