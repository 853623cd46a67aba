//! Batches of idempotent producers that come again: at once, after starts, after the journal has
//! forgotten them, with another number of shards, after long.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use millrace_wire::batch::{BatchProducer, set_batch_producer};
use millrace_wire::ids::{Offset, ProducerEpoch, ProducerId, ShardId};

use super::{KEEP_ALL, batch, config, make, name, open, partition_id, produce};
use crate::env::Env;
use crate::env::simulated::{NodeId, SimulatedEnv, Simulation};
use crate::error::StorageError;
use crate::journal::JournalConfig;
use crate::log::{Appended, Partition};
use crate::metrics::Counter;
use crate::relayout::{journal_directory, relayout};
use crate::shard::{Shard, ShardConfig};

const NODE: NodeId = NodeId(0);

/// A producer's batch of two records, the `number`th that it sends.
fn numbered(id: i64, number: i32) -> BytesMut {
    let mut batch = batch(i64::from(number) + 1_000, 40);
    let producer = BatchProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(0),
        base_sequence: number * 2,
    };
    set_batch_producer(&mut batch, producer);
    batch
}

async fn send(
    partition: &Rc<Partition<SimulatedEnv>>,
    id: i64,
    number: i32,
) -> Result<Appended, StorageError> {
    let batch = numbered(id, number);
    partition.append_room(batch.len()).await?;
    partition.append(batch, 2, i64::from(number) + 1_000)
}

/// Sends and waits; where it is, and whether it was there already.
async fn put(partition: &Rc<Partition<SimulatedEnv>>, id: i64, number: i32) -> (Offset, bool) {
    let appended = send(partition, id, number).await.expect("it is in order");
    let (base, known) = (appended.base_offset, appended.duplicate_of);
    appended.durable.wait().await.expect("this disk works");
    if let Some(timestamp) = known {
        assert_eq!(timestamp, i64::from(number) + 1_000);
    }
    (base, known.is_some())
}

/// Sends a batch, and again.
pub(super) async fn put_twice(partition: &Rc<Partition<SimulatedEnv>>) {
    let (base, known) = put(partition, 7, 0).await;
    assert!(!known);
    assert_eq!(put(partition, 7, 0).await, (base, true));
}

/// Journal files so small that they are used again and again.
fn small_files() -> JournalConfig {
    JournalConfig {
        file_bytes: 96 << 10,
        initial_files: 2,
        max_files: 4,
        max_group_bytes: 8 << 10,
        ..config().journal
    }
}

async fn open_shard(env: &SimulatedEnv, shard: u16, shards: u16) -> Rc<Shard<SimulatedEnv>> {
    let config = ShardConfig {
        shard: ShardId(shard),
        shard_count: shards,
        journal: JournalConfig {
            directory: journal_directory(Path::new("/data"), ShardId(shard)),
            ..small_files()
        },
        ..config()
    };
    let opened = Shard::open(env.clone(), config).await;
    opened.expect("it opens")
}

#[test]
fn a_duplicate_joins_what_is_on_its_way() {
    Simulation::new(1).run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        let first = send(&partition, 7, 0).await.unwrap();
        let other = send(&partition, 8, 0).await.unwrap();
        let again = send(&partition, 7, 0).await.unwrap();
        let places = [&first, &other, &again].map(|appended| appended.base_offset.0);
        assert_eq!(places, [0, 2, 0]);
        assert_eq!(again.duplicate_of, Some(1_000));
        assert!(again.durable.outcome().is_none(), "no more than the first");
        again.durable.wait().await.unwrap();
        assert!(first.durable.outcome().is_some());
        assert!(partition.watermarks().visible >= Offset(2));
        other.durable.wait().await.unwrap();
        assert_eq!(partition.watermarks().appended, Offset(4));
        assert_eq!(shard.metrics().get(Counter::DuplicateBatches), 1);
        assert_eq!(shard.metrics().get(Counter::BatchesAppended), 2);
        // One that is settled long ago is so at once.
        let settled = send(&partition, 7, 0).await.unwrap();
        assert!(matches!(settled.durable.outcome(), Some(Ok(()))));
        let gap = send(&partition, 7, 2).await;
        let told = gap.err().expect("the one before is missing").to_string();
        assert!(
            told.contains("sequence number 4") && told.contains("2 comes next"),
            "{told}"
        );
    });
}

#[test]
fn the_last_batches_are_known_after_the_journal_forgot_them() {
    let simulation = Simulation::new(2);
    let (mut sent, mut end) = (0, Offset(0));
    for life in 0..4 {
        (sent, end) = simulation.run(move |env| async move {
            let shard = open_shard(&env, 0, 1).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            assert_eq!(partition.watermarks().appended, end);
            for back in 1..=5.min(sent) {
                let (base, known) = put(&partition, 7, sent - back).await;
                assert!(
                    known,
                    "life {life}: {back} from the last was appended at {base}"
                );
            }
            assert_eq!(partition.watermarks().appended, end, "nothing was appended");
            for number in sent..sent + 8 {
                let (base, known) = put(&partition, 7, number).await;
                let visible = partition.watermarks().visible;
                assert_eq!((base.advance(2), known), (visible, false));
            }
            // Plain ones, until everything before is in segments and the files are used anew.
            let rolls = |shard: &Rc<Shard<SimulatedEnv>>| {
                let counters = shard.snapshot().counters;
                counters
                    .iter()
                    .find(|(name, _)| *name == "journal_rolls")
                    .expect("it is there")
                    .1
            };
            let before = rolls(&shard);
            while rolls(&shard) < before + 6 {
                produce(&partition, 5_000, 2_000).await;
            }
            assert_eq!(partition.producers(), 1);
            let end = partition.watermarks().visible;
            if life % 2 == 0 {
                shard.shutdown().await;
            }
            (sent + 8, end)
        });
        match life % 2 {
            0 => simulation.kill(NODE),
            _ => simulation.crash(NODE),
        }
        simulation.restart(NODE);
    }
}

#[test]
fn producers_move_with_their_partitions() {
    let simulation = Simulation::new(3);
    let topics = 1..=3_u128;
    let mut sent = 0;
    for shards in [1, 3, 2, 1] {
        let topics = topics.clone();
        simulation.run(move |env| async move {
            let owner = move |topic: u128| u16::try_from(topic % u128::from(shards)).unwrap();
            let data = Path::new("/data");
            env.create_directory(data).await.unwrap();
            let to = |id: millrace_wire::ids::PartitionId| ShardId(owner(id.topic.0));
            relayout(&env, data, &small_files(), shards, to)
                .await
                .unwrap();
            let mut open = Vec::new();
            for shard in 0..shards {
                open.push(open_shard(&env, shard, shards).await);
            }
            let mut partitions = Vec::new();
            for topic in topics {
                let shard = &open[usize::from(owner(topic))];
                partitions.push(make(shard, topic, KEEP_ALL).await);
            }
            for partition in partitions {
                // More than one piece of a snapshot.
                for id in 0..1_000 {
                    let (base, known) = put(&partition, id, (sent - 1).max(0)).await;
                    assert_eq!(known, sent > 0, "{shards} shards: {id} at {base}");
                    if sent > 0 {
                        put(&partition, id, sent).await;
                    }
                }
            }
            env.sleep(Duration::from_secs(1)).await;
            for shard in open {
                shard.shutdown().await;
            }
        });
        sent += 1;
        simulation.kill(NODE);
        simulation.restart(NODE);
    }
}

#[test]
fn who_sends_nothing_for_long_is_forgotten_and_may_go_on() {
    Simulation::new(4).run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        put(&partition, 7, 0).await;
        put(&partition, 7, 1).await;
        env.sleep(Duration::from_secs(1_800)).await;
        put(&partition, 8, 0).await;
        assert_eq!(partition.producers(), 2);
        env.sleep(Duration::from_secs(1_801)).await;
        assert_eq!(partition.producers(), 1);
        let remembered = shard.snapshot().counters;
        assert!(remembered.contains(&("producers", 1)), "{remembered:?}");
        // What the idle one sends next is in order, whatever it was.
        assert_eq!(put(&partition, 7, 2).await, (Offset(6), false));
        assert_eq!(put(&partition, 8, 0).await, (Offset(4), true));
        shard.remove_partition(partition.id()).await.unwrap();
        assert!(shard.snapshot().counters.contains(&("producers", 0)));
    });
}
