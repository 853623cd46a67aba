//! The ready-made workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_wire::batch::Compression;

use super::open_messaging;
use super::{Backlog, Consumers, Groups, Producers, Workload};
use crate::load::{Arrivals, BatchShape, GroupCalls, Pace, RecordSize};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The workload of this name.
#[must_use]
pub fn named(name: &str) -> Option<Workload> {
    own()
        .into_iter()
        .chain(open_messaging::all())
        .find(|workload| workload.name == name)
}

/// Every ready-made workload, with what it is.
#[must_use]
pub fn names() -> Vec<(String, String)> {
    own()
        .into_iter()
        .chain(open_messaging::all())
        .map(|workload| (workload.name, workload.description))
        .collect()
}

/// One topic of one partition, records of 1 KiB that do not compress, one in each request.
pub(super) fn base(name: &str, description: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        description: description.to_owned(),
        topics: 1,
        partitions: 1,
        topic_configs: BTreeMap::new(),
        shape: BatchShape {
            record_size: RecordSize::Fixed(KIB),
            records: 1,
            keys: 0,
            compression: Compression::None,
            entropy: 1.0,
        },
        producers: None,
        consumers: None,
        backlog: None,
        groups: None,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(5),
    }
}

/// Producers with a window.
pub(super) fn closed(connections: usize, in_flight: u32) -> Option<Producers> {
    Some(Producers {
        connections,
        pace: Pace::Closed { in_flight },
        acks: -1,
        idempotent: false,
    })
}

/// Producers with a clock.
pub(super) fn open(connections: usize, rate: f64) -> Option<Producers> {
    let arrivals = Arrivals::Constant;
    Some(Producers {
        connections,
        pace: Pace::Open { rate, arrivals },
        acks: -1,
        idempotent: false,
    })
}

fn own() -> Vec<Workload> {
    let tail = Some(Consumers {
        fan_out: 1,
        connections: 4,
        fetch_bytes: MIB as u32,
    });
    vec![
        Workload {
            producers: open(4, 1_000.0),
            partitions: 4,
            ..base("produce", "records of 1 KiB at 1,000 a second")
        },
        Workload {
            producers: closed(1, 1),
            ..base("one-in-flight", "one record of 1 KiB after the other")
        },
        Workload {
            producers: closed(64, 4),
            partitions: 16,
            ..base(
                "small-records",
                "records of 1 KiB, one in a request, from 64 connections with 4 in flight each",
            )
        },
        Workload {
            producers: closed(4, 2),
            shape: BatchShape {
                records: 1024,
                ..base("", "").shape
            },
            topic_configs: BTreeMap::from([("max.message.bytes".to_owned(), "2097152".to_owned())]),
            ..base("large-requests", "requests of 1 MiB to one partition")
        },
        Workload {
            backlog: Some(Backlog {
                bytes: 64 << 20,
                connections: 2,
                fetch_bytes: MIB as u32,
                cold: false,
            }),
            partitions: 2,
            ..base(
                "tail-fetch",
                "fetches of 1 MiB of what is in the broker's memory",
            )
        },
        Workload {
            backlog: Some(Backlog {
                bytes: 2 << 30,
                connections: 2,
                fetch_bytes: MIB as u32,
                cold: true,
            }),
            partitions: 2,
            ..base(
                "catch-up",
                "fetches of 1 MiB of what is on the broker's disk alone",
            )
        },
        Workload {
            producers: open(8, 10_000.0),
            consumers: tail.clone(),
            partitions: 8,
            ..base(
                "end-to-end",
                "10,000 records of 1 KiB a second, each timed from when it was due until a consumer has it",
            )
        },
        Workload {
            producers: open(8, 5_000.0),
            consumers: tail,
            backlog: Some(Backlog {
                bytes: 1 << 30,
                connections: 1,
                fetch_bytes: MIB as u32,
                cold: true,
            }),
            partitions: 8,
            ..base(
                "mixed",
                "5,000 records of 1 KiB a second, consumers at the tail, and one that reads a backlog",
            )
        },
        Workload {
            groups: Some(Groups {
                connections: 64,
                pace: Pace::Closed { in_flight: 1 },
                calls: GroupCalls::Commits,
            }),
            partitions: 10,
            ..base(
                "commits",
                "groups on 64 connections, each committing its offsets in 10 partitions at once, again and again",
            )
        },
        Workload {
            groups: Some(Groups {
                connections: 1_000,
                pace: every(HEARTBEAT_INTERVAL, 10_000),
                calls: GroupCalls::Heartbeats {
                    members: 10_000,
                    group_size: 100,
                },
            }),
            partitions: 100,
            ..base(
                "heartbeats",
                "10,000 members in groups of 100, each of which says every 3 seconds that it is there",
            )
        },
    ]
}

/// How often a consumer says that it is there where nothing else is set, in Kafka's clients as in ours.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Each of so many members asks once in every interval.
#[must_use]
pub fn every(interval: Duration, members: usize) -> Pace {
    Pace::Open {
        rate: members as f64 / interval.as_secs_f64(),
        arrivals: Arrivals::Constant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_lead_to_their_workload() {
        let mut all: Vec<String> = names().into_iter().map(|(name, _)| name).collect();
        let count = all.len();
        for name in &all {
            assert_eq!(named(name).unwrap().name, *name);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(named("no such workload").is_none());
    }

    #[test]
    fn every_workload_does_something() {
        for (name, _) in names() {
            let workload = named(&name).unwrap();
            assert!(
                workload.producers.is_some()
                    || workload.backlog.is_some()
                    || workload.groups.is_some(),
                "{name}"
            );
            assert!(
                workload.producers.is_none() || workload.groups.is_none(),
                "{name}: one of them is paced"
            );
        }
    }
}
