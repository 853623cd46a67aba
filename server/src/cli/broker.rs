//! `millrace ping` and `millrace stats`: how the broker is.

use millrace_client::messages::ShardStats;
use serde_json::{Value, json};

use super::Failure;
use super::connect::{ClientArgs, block_on};
use super::output::{self, Output, Table, say};

pub(super) const PING_HELP: &str = "\
Examples:
  millrace ping
  millrace ping --bootstrap broker.example:9092 && echo up";

pub(super) const STATS_HELP: &str = "\
Examples:
  millrace stats
  millrace stats --output json";

pub(super) fn ping(client: ClientArgs) -> Result<(), Failure> {
    block_on(async {
        let connected = client.connect().await?;
        let pong = connected.admin().ping().await?;
        let broker = connected.broker();
        let milliseconds = pong.round_trip.as_secs_f64() * 1000.0;
        say(
            client.output,
            format!(
                "answered in {milliseconds:.3} ms: Millrace {}, node {}, {} shard{}, cluster {}",
                broker.version,
                broker.node_id,
                broker.shard_count,
                if broker.shard_count == 1 { "" } else { "s" },
                broker.cluster_id
            ),
            json!({
                "round_trip_us": u64::try_from(pong.round_trip.as_micros()).unwrap_or(u64::MAX),
                "broker_time_ms": pong.broker_time_ms,
                "version": broker.version,
                "node_id": broker.node_id,
                "boot_epoch": broker.boot_epoch,
                "shard_count": broker.shard_count,
                "cluster_id": broker.cluster_id,
            }),
        )
    })
}

pub(super) fn stats(client: ClientArgs) -> Result<(), Failure> {
    block_on(async {
        let found = client.connect().await?.admin().stats().await?;
        match client.output {
            Output::Json => output::write_json(found.shards.iter().map(stats_json)),
            Output::Table => output::write_all(stats_tables(&found.shards).as_bytes()),
        }
    })
}

fn stats_json(shard: &ShardStats) -> Value {
    let counters: serde_json::Map<String, Value> = shard
        .counters
        .iter()
        .map(|counter| (counter.name.clone(), counter.value.into()))
        .collect();
    let stages: Vec<Value> = shard
        .stages
        .iter()
        .map(|stage| {
            let buckets = stage.buckets.iter();
            let buckets: Vec<_> = buckets.map(|b| (b.up_to_ns, b.count)).collect();
            json!({
                "stage": stage.stage, "count": stage.count, "p50_us": stage.p50_us,
                "p99_us": stage.p99_us, "p999_us": stage.p999_us, "max_us": stage.max_us,
                "buckets_up_to_ns": buckets,
            })
        })
        .collect();
    json!({"shard": shard.shard, "counters": counters, "stages": stages})
}

fn stats_tables(shards: &[ShardStats]) -> String {
    let mut counters = Table::new(["SHARD", "COUNTER", "VALUE"]);
    let mut stages = Table::new([
        "SHARD",
        "STAGE",
        "COUNT",
        "P50 µs",
        "P99 µs",
        "P99.9 µs",
        "MAX µs",
    ]);
    for shard in shards {
        for counter in &shard.counters {
            let value = counter.value.to_string();
            counters.row([shard.shard.to_string(), counter.name.clone(), value]);
        }
        for stage in &shard.stages {
            stages.row([
                shard.shard.to_string(),
                stage.stage.clone(),
                stage.count.to_string(),
                stage.p50_us.to_string(),
                stage.p99_us.to_string(),
                stage.p999_us.to_string(),
                stage.max_us.to_string(),
            ]);
        }
    }
    format!("{}\n{}", counters.render(), stages.render())
}
