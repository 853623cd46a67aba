//! From a workload to the load that it is: who connects, what they ask, where they read.

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::{
    AtEnd, BatchShape, Cargo, FetchPlan, GroupPlan, Load, Pace, PacedPlan, ProducePlan, Timed,
};
use crate::protocol::{Admin, Place, ProtocolError};
use crate::run::RunSettings;
use crate::workload::Workload;

/// Producers, or groups, if the workload has any. Idempotent producers are given their ids here.
pub(crate) fn paced(
    workload: &Workload,
    topics: &[String],
    admin: &mut dyn Admin,
) -> Result<Option<PacedPlan>, ProtocolError> {
    let (name, connections, cargo) = match (&workload.producers, &workload.groups) {
        (Some(producers), _) => {
            let idempotent = if producers.idempotent {
                producers.connections
            } else {
                0
            };
            let identities = (0..idempotent).map(|_| admin.new_producer());
            let produce = ProducePlan {
                acks: producers.acks,
                shape: workload.shape.clone(),
                carries_time: workload.consumers.is_some(),
                identities: identities.collect::<Result<_, _>>()?,
            };
            ("produce", producers.connections, Cargo::Batches(produce))
        }
        (None, Some(groups)) => {
            let plan = GroupPlan {
                calls: groups.calls,
                // Topics have a name of their own in each run, and so have the groups.
                prefix: topics.first().cloned().unwrap_or_default(),
            };
            (groups.series(), groups.connections, Cargo::Groups(plan))
        }
        (None, None) => return Ok(None),
    };
    Ok(workload.pace().map(|pace| PacedPlan {
        name: name.to_owned(),
        connections,
        pace,
        cargo,
        seed: 1,
        most_requests: None,
    }))
}

/// Consumers.
pub(crate) fn fetching(
    workload: &Workload,
    places: &[Place],
    ends: &[(Place, i64)],
) -> Vec<FetchPlan> {
    let mut plans = Vec::new();
    if let Some(consumers) = &workload.consumers {
        for group in 0..consumers.fan_out {
            let name = match consumers.fan_out {
                1 => "end to end".to_owned(),
                _ => format!("end to end, group {group}"),
            };
            plans.push(FetchPlan {
                name,
                connections: consumers.connections,
                starts: ends.to_vec(),
                at_end: AtEnd::Wait,
                timed: Timed::Records,
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: consumers.fetch_bytes,
            });
        }
    }
    if let Some(backlog) = &workload.backlog {
        plans.push(FetchPlan {
            name: "fetch".to_owned(),
            connections: backlog.connections,
            starts: places.iter().map(|place| (*place, 0)).collect(),
            at_end: AtEnd::Wrap,
            timed: Timed::Fetches,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: backlog.fetch_bytes,
        });
    }
    plans
}

/// About how many bytes of records each request has that stores a backlog.
const FILLING_REQUEST_BYTES: usize = 512 << 10;

/// How long storing a backlog may take.
const FILLING_PATIENCE: Duration = Duration::from_secs(600);

/// What stores a backlog.
pub(crate) fn filling(
    address: SocketAddr,
    workload: &Workload,
    bytes: u64,
    topics: &[String],
    places: &[Place],
    settings: &RunSettings,
) -> Load {
    let record_bytes = workload.shape.record_size.mean().max(1);
    let records = (FILLING_REQUEST_BYTES / record_bytes).clamp(1, 100_000) as u32;
    let request_bytes = u64::from(records) * record_bytes as u64;
    Load {
        address,
        protocol: settings.protocol,
        topics: topics.to_vec(),
        places: places.to_vec(),
        paced: Some(PacedPlan {
            name: "filling".to_owned(),
            connections: 4,
            pace: Pace::Closed { in_flight: 2 },
            cargo: Cargo::Batches(ProducePlan {
                acks: -1,
                shape: BatchShape {
                    records,
                    ..workload.shape.clone()
                },
                carries_time: false,
                identities: Vec::new(),
            }),
            seed: 2,
            most_requests: Some(bytes.div_ceil(request_bytes)),
        }),
        fetching: Vec::new(),
        warm_up: Duration::ZERO,
        duration: FILLING_PATIENCE,
        drain: Duration::from_secs(10),
        waiting: settings.waiting,
    }
}
