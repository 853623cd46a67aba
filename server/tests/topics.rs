//! Topics: made, changed, described and deleted on two shards without sockets, and still as they
//! were after restarts and power losses at any moment.

mod node;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use millrace_server::controller::CONTROLLER_PARTITION;
use millrace_shard::env::Env;
use millrace_shard::env::simulated::{NodeId, SimulatedEnv, Simulation, StopReason};
use millrace_wire::error::ErrorCode;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use node::{Connection, Node, batch, code, fetch_request, run_two_shards as run, values};

const BROKER: NodeId = NodeId(0);

#[test]
fn topics_live_and_die_and_live_again() {
    run(|_, node| async move {
        let mut connections = [node.connect(0), node.connect(1)];
        for round in 0..3 {
            let connection = &mut connections[round % 2];
            let created = connection.create_topic("t", 3, &[]).await;
            assert_eq!(created.status, Status::ok());
            let again = connection.create_topic("t", 3, &[]).await;
            assert_eq!(code(&again.status), Some(ErrorCode::TopicAlreadyExists));
            for partition in 0..3 {
                let placed = connection.produce("t", partition, batch(&["x"])).await;
                assert_eq!(placed.base_offset, 0, "nothing is left of the topic before");
            }
            assert_eq!(connection.delete_topic("t").await, Status::ok());
            let gone = connections[(round + 1) % 2]
                .produce("t", 0, batch(&["x"]))
                .await;
            assert_eq!(code(&gone.status), Some(ErrorCode::UnknownTopicOrPartition));
        }
        node.stop().await;
    });
}

#[test]
fn offsets_by_time_and_deleted_records() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        for partition in 0..2 {
            for _ in 0..3 {
                connection.produce("t", partition, batch(&["x", "y"])).await;
            }
        }
        let ask = |timestamp| ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: (0..3)
                    .map(|partition| ListOffsetsPartition {
                        partition,
                        timestamp,
                    })
                    .collect(),
            }],
        };
        for (timestamp, expected) in [(-2, 0), (-1, 6), (500, 0), (2_000, -1), (-3, 0)] {
            let Response::ListOffsets(found) = connection.ask(ask(timestamp)).await.0 else {
                panic!("another answer");
            };
            let partitions = &found.topics[0].partitions;
            assert_eq!(partitions[0].offset, expected, "{timestamp}");
            assert_eq!(partitions[1].offset, expected, "{timestamp}");
            assert_eq!(
                code(&partitions[2].status),
                Some(ErrorCode::UnknownTopicOrPartition)
            );
        }
        let delete = |before_offset| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "t".into(),
                partitions: (0..2)
                    .map(|partition| DeleteRecordsPartition {
                        partition,
                        before_offset,
                    })
                    .collect(),
            }],
        };
        for (before, expected) in [(3, 3), (1, 3), (-1, 6)] {
            let Response::DeleteRecords(done) = connection.ask(delete(before)).await.0 else {
                panic!("another answer");
            };
            assert!(
                done.topics[0]
                    .partitions
                    .iter()
                    .all(|p| p.log_start == expected),
                "{done:?}"
            );
        }
        let (response, _) = connection.fetch(fetch_request("t", &[0, 1], 0, 0)).await;
        let first = &response.topics[0].partitions[0].status;
        assert_eq!(code(first), Some(ErrorCode::OffsetOutOfRange));
        node.stop().await;
    });
}

#[test]
fn metadata_and_descriptions_agree_with_the_owners() {
    run(|_, node| async move {
        let mut connection = node.connect(1);
        connection
            .create_topic("b", 4, &[("segment.ms", "77")])
            .await;
        connection.create_topic("a", 1, &[]).await;
        let request = MetadataRequest { topics: None };
        let Response::Metadata(all) = connection.ask(request).await.0 else {
            panic!("metadata")
        };
        let names: Vec<&str> = all.topics.iter().map(|t| t.name.as_str()).collect();
        assert_eq!((names, all.revision), (vec!["a", "b"], 2));
        let shards: Vec<u16> = all.topics[1]
            .partitions
            .iter()
            .map(|p| p.leader_shard)
            .collect();
        assert_eq!(
            shards.iter().filter(|shard| **shard == 0).count(),
            2,
            "{shards:?}"
        );
        let request = DescribeTopicRequest { name: "b".into() };
        let Response::DescribeTopic(b) = connection.ask(request).await.0 else {
            panic!("b")
        };
        assert!(
            b.partitions
                .iter()
                .all(|p| p.status == Status::ok() && p.log_end == 0)
        );
        let set: Vec<_> = b.configs.iter().filter(|entry| entry.is_set).collect();
        assert_eq!((set.len(), set[0].value.as_str()), (1, "77"));
        let request = StatsRequest {};
        let Response::Stats(stats) = connection.ask(request).await.0 else {
            panic!("stats")
        };
        assert_eq!(stats.shards.len(), 2);
        node.stop().await;
    });
}

#[test]
fn what_a_deleted_topic_left_behind_is_removed_at_the_next_start_and_nothing_else() {
    let simulation = Simulation::new(1);
    let exists = |path: &str| {
        let path = path.to_owned();
        simulation.run(move |env| async move { env.list_directory(path.as_ref()).await.is_ok() })
    };
    let make = |path: &str| {
        let path = path.to_owned();
        simulation.run(move |env| async move {
            env.create_directory(path.as_ref()).await.expect("made");
        });
    };
    let start_and_stop = |create: Option<&'static str>| {
        simulation.run(move |env| async move {
            let node = Node::start(&env, 2).await;
            if let Some(topic) = create {
                let created = node.connect(0).create_topic(topic, 2, &[]).await;
                assert_eq!(created.status, Status::ok());
                node.connect(0).produce(topic, 1, batch(&["kept"])).await;
            }
            env.sleep(Duration::from_secs(1)).await;
            node.stop().await;
        });
    };
    make("/data/ghost/0");
    start_and_stop(None);
    assert!(
        exists("/data/ghost/0"),
        "a controller without a past removes nothing"
    );
    start_and_stop(Some("t"));
    make("/data/t/0");
    make("/data/t/7");
    make("/data/notes/old");
    make("/data/lost+found/0");
    start_and_stop(None);
    assert!(!exists("/data/ghost/0") && !exists("/data/t/7"));
    assert!(exists("/data/t/0") && exists("/data/notes/old") && exists("/data/lost+found/0"));
    simulation.run(|env| async move {
        let node = Node::start(&env, 2).await;
        let request = fetch_request("t", &[1], 0, 0);
        let (_, attached) = node.connect(0).fetch(request).await;
        assert_eq!(values(attached), ["kept"]);
        node.stop().await;
    });
}

/// What is known of a topic from the answers: whether it is there. Nothing, while a command on it
/// was not answered.
type Known = Rc<RefCell<BTreeMap<String, Option<bool>>>>;

#[test]
fn topics_survive_power_loss_at_any_moment_of_making_and_deleting_them() {
    for seed in 0..60 {
        let simulation = Simulation::new(seed);
        let known = Known::default();
        let mut crashes = 0;
        for life in 0..4_u64 {
            simulation.restart(BROKER);
            simulation.crash_after_steps(BROKER, 200 + (seed * 7919 + life * 104_729) % 3_000);
            let known = Rc::clone(&known);
            let ended = simulation.try_run(BROKER, move |env| async move {
                let node = Node::start(&env, 2).await;
                let mut connection = node.connect((life % 2) as usize);
                for n in 0..400 {
                    make_or_delete(&node, &mut connection, n % 3, &known).await;
                }
            });
            crashes += u32::from(ended == Err(StopReason::Crashed));
        }
        assert_eq!(crashes, 4, "every life ended in the middle");
        simulation.restart(BROKER);
        let known = known.borrow().clone();
        simulation.run(move |env| async move { check_topics(&env, &known).await });
    }
}

async fn make_or_delete(node: &Node, connection: &mut Connection, n: u32, known: &Known) {
    let name = format!("t{n}");
    let is_there = node.brokers[0].topic(&name).is_ok();
    let told = known.borrow_mut().insert(name.clone(), None).flatten();
    assert!(told.is_none_or(|told| told == is_there), "{name}: {told:?}");
    let status = match is_there {
        true => connection.delete_topic(&name).await,
        false => connection.create_topic(&name, 3, &[]).await.status,
    };
    assert_eq!(status, Status::ok());
    known.borrow_mut().insert(name.clone(), Some(!is_there));
    if !is_there {
        let placed = connection.produce(&name, n, batch(&["x"])).await;
        assert_eq!((placed.status, placed.base_offset), (Status::ok(), 0));
    }
}

async fn check_topics(env: &SimulatedEnv, known: &BTreeMap<String, Option<bool>>) {
    let node = Node::start(env, 2).await;
    let mut connection = node.connect(0);
    for (name, told) in known {
        let is_there = node.brokers.iter().map(|broker| broker.topic(name).is_ok());
        let is_there: Vec<bool> = is_there.collect();
        assert_eq!(is_there[0], is_there[1], "the shards agree about {name}");
        assert!(
            told.is_none_or(|told| told == is_there[0]),
            "{name}: {told:?}"
        );
        if is_there[0] {
            assert_eq!(connection.delete_topic(name).await, Status::ok());
        }
        let created = connection.create_topic(name, 3, &[]).await;
        assert_eq!(created.status, Status::ok());
        for partition in 0..3 {
            let placed = connection.produce(name, partition, batch(&["y"])).await;
            assert_eq!((placed.status, placed.base_offset), (Status::ok(), 0));
        }
    }
    node.stop().await;
}

/// Changes after which the controller writes down the whole state.
const CHANGES_BEFORE_SNAPSHOT: i64 = 1000;
/// More than one part of a snapshot holds.
const MANY: i64 = 510;

/// The first offset of the controller's log, and the one after its last.
fn controller_log(node: &Node) -> (i64, i64) {
    let partition = node.brokers[0].storage().partition(CONTROLLER_PARTITION);
    let marks = partition.expect("is on the first shard").watermarks();
    (marks.log_start.0, marks.visible.0)
}

async fn set_retention(connection: &mut Connection, topic: &str, ms: i64) {
    let request = AlterTopicConfigRequest {
        name: topic.into(),
        set: vec![ConfigEntry {
            name: "retention.ms".into(),
            value: ms.to_string(),
            is_set: true,
        }],
        unset: Vec::new(),
        validate_only: false,
    };
    match connection.ask(request).await.0 {
        Response::AlterTopicConfig(altered) => assert_eq!(altered.status, Status::ok()),
        other => panic!("{other:?}"),
    }
}

/// The retention of a topic, if it is set.
async fn retention(connection: &mut Connection, topic: &str) -> Option<i64> {
    let request = DescribeTopicRequest { name: topic.into() };
    let Response::DescribeTopic(described) = connection.ask(request).await.0 else {
        panic!("another answer")
    };
    let set = |entry: &&ConfigEntry| entry.is_set && entry.name == "retention.ms";
    let entry = described.configs.iter().find(set)?;
    Some(entry.value.parse().expect("a number"))
}

/// What a node is told of all topics, from each of its shards.
async fn all_topics(node: &Node) -> Vec<MetadataResponse> {
    let mut told = Vec::new();
    for shard in 0..2 {
        let request = MetadataRequest { topics: None };
        match node.connect(shard).ask(request).await.0 {
            Response::Metadata(metadata) => told.push(metadata),
            other => panic!("{other:?}"),
        }
    }
    told
}

async fn create_many(connection: &mut Connection) {
    for n in 0..MANY {
        let created = connection.create_topic(&format!("t{n}"), 1, &[]).await;
        assert_eq!(created.status, Status::ok());
    }
}

#[test]
fn the_controller_s_log_is_cut_behind_a_snapshot_that_holds_everything() {
    let simulation = Simulation::new(1);
    let told = simulation.run(|env| async move {
        let node = Node::start(&env, 2).await;
        let mut connection = node.connect(1);
        create_many(&mut connection).await;
        assert_eq!(connection.delete_topic("t7").await, Status::ok());
        for change in MANY + 1..CHANGES_BEFORE_SNAPSHOT - 1 {
            set_retention(&mut connection, "t3", change).await;
        }
        assert_eq!(controller_log(&node), (0, CHANGES_BEFORE_SNAPSHOT - 1));
        set_retention(&mut connection, "t4", 4444).await;
        // Two parts: one cannot hold so many topics.
        let (start, end) = (CHANGES_BEFORE_SNAPSHOT, CHANGES_BEFORE_SNAPSHOT + 2);
        assert_eq!(controller_log(&node), (start, end));
        for change in 0..10 {
            set_retention(&mut connection, "t5", 5000 + change).await;
        }
        assert_eq!(controller_log(&node), (start, end + 10));
        all_topics(&node).await
    });
    // The process is gone without a word.
    simulation.restart(BROKER);
    simulation.run(move |env| async move {
        let node = Node::start(&env, 2).await;
        assert_eq!(all_topics(&node).await, told);
        let mut connection = node.connect(0);
        for (topic, expected) in [
            ("t2", None),
            ("t3", Some(CHANGES_BEFORE_SNAPSHOT - 2)),
            ("t4", Some(4444)),
            ("t5", Some(5009)),
        ] {
            assert_eq!(retention(&mut connection, topic).await, expected, "{topic}");
        }
        // What the last life left counts towards the next snapshot.
        for change in 12..CHANGES_BEFORE_SNAPSHOT {
            set_retention(&mut connection, "t6", change).await;
        }
        let (start, end) = controller_log(&node);
        assert_eq!((start, end - start), (2 * CHANGES_BEFORE_SNAPSHOT, 2));
        node.stop().await;
    });
}

#[test]
fn power_loss_at_any_moment_of_a_snapshot_loses_no_topic() {
    for seed in 0..4 {
        let simulation = Simulation::new(seed);
        simulation.run(|env| async move {
            let node = Node::start(&env, 2).await;
            let mut connection = node.connect(0);
            create_many(&mut connection).await;
            // The change that is due to be the last before a snapshot is for the lives that follow.
            for change in MANY..CHANGES_BEFORE_SNAPSHOT - 1 {
                set_retention(&mut connection, "t0", change).await;
            }
            assert_eq!(controller_log(&node), (0, CHANGES_BEFORE_SNAPSHOT - 1));
            node.stop().await;
        });
        // What `t0` may be set to: what was answered last, or what was asked for last.
        let possible = Rc::new(Cell::new([CHANGES_BEFORE_SNAPSHOT - 2; 2]));
        let cut = Rc::new(Cell::new(false));
        let mut crashes = 0;
        for life in 0.. {
            simulation.restart(BROKER);
            simulation.crash_after_steps(BROKER, 100 + seed + life * 37);
            let (possible, seen_cut) = (Rc::clone(&possible), Rc::clone(&cut));
            let ended = simulation.try_run(BROKER, move |env| async move {
                change_and_look(&env, &possible, &seen_cut).await;
            });
            crashes += u32::from(ended == Err(StopReason::Crashed));
            if cut.get() {
                break;
            }
            assert!(life < 1_000, "no life was long enough");
        }
        assert!(crashes > 10, "only {crashes} lives ended in the middle");
        simulation.restart(BROKER);
        simulation.run(move |env| async move {
            change_and_look(&env, &possible, &cut).await;
        });
    }
}

/// Looks whether everything is as it was told, then changes a little and looks whether that cut the
/// controller's log.
async fn change_and_look(env: &SimulatedEnv, possible: &Cell<[i64; 2]>, cut: &Cell<bool>) {
    let node = Node::start(env, 2).await;
    let mut connection = node.connect(0);
    let found = retention(&mut connection, "t0").await.expect("is set");
    assert!(possible.get().contains(&found), "{found} {possible:?}");
    for told in all_topics(&node).await {
        assert_eq!(told.topics.len() as i64, MANY);
    }
    for change in found + 1..found + 4 {
        possible.set([found.max(change - 1), change]);
        set_retention(&mut connection, "t0", change).await;
        possible.set([change; 2]);
    }
    cut.set(cut.get() || controller_log(&node).0 > 0);
}
