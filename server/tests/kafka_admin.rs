//! The admin requests of a real broker, each in its lowest and its highest version: only checking
//! changes nothing, every item has an answer of its own, and a bad one does not stop a good one.

mod kafka_client;
mod process;

use std::collections::BTreeSet;

use kafka_client::admin::*;
use kafka_client::{text, topic_name};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use millrace_wire::kafka::control::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use millrace_wire::kafka::control::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use millrace_wire::kafka::control::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use millrace_wire::kafka::control::messages::delete_topics_request::DeleteTopicState;
use millrace_wire::kafka::control::messages::describe_log_dirs_request::DescribableLogDirTopic;
use millrace_wire::kafka::control::messages::elect_leaders_request::TopicPartitions;
use millrace_wire::kafka::control::messages::metadata_request::MetadataRequestTopic;
use millrace_wire::kafka::control::messages::{self as m, BrokerId};
use millrace_wire::kafka::control::{ResponseKind, Uuid};

fn configured(name: &str, key: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(text(key))
        .with_value(value.map(text));
    topic(name, 1, 1).with_configs(vec![config])
}

fn assigned(name: &str, replicas: &[(i32, BrokerId)]) -> CreatableTopic {
    let assignments = replicas.iter().map(|(partition, node)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(vec![*node])
    });
    topic(name, -1, -1).with_assignments(assignments.collect())
}

/// Names with their errors, for comparing regardless of their order.
fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

#[test]
fn topics_are_created_one_by_one() {
    let mut admin = Admin::start();
    let node = admin.this_node();
    admin.must_create("there", 1);
    for version in ends(ApiKey::CreateTopics) {
        let before = admin.names();
        let (good, last) = (format!("good-{version}"), format!("last-{version}"));
        let items = [
            (topic(&good, 2, 1), NONE),
            (topic("there", 2, 1), TOPIC_ALREADY_EXISTS),
            // That it exists is told before whatever else is wrong.
            (topic("there", 0, 3), TOPIC_ALREADY_EXISTS),
            (topic("no/name", 0, 3), INVALID_TOPIC),
            (topic("", 1, 1), INVALID_TOPIC),
            (topic("no-partitions", 0, 1), INVALID_PARTITIONS),
            (topic("fewer", -2, 1), INVALID_PARTITIONS),
            (topic("too-many", i32::MAX, 1), INVALID_PARTITIONS),
            (topic("copies", 1, 3), INVALID_REPLICATION_FACTOR),
            (topic("no-copy", 0, 0), INVALID_REPLICATION_FACTOR),
            (
                assigned("both", &[(0, node)]).with_num_partitions(1),
                INVALID_REQUEST,
            ),
            (
                assigned("both-too", &[(0, node)]).with_replication_factor(1),
                INVALID_REQUEST,
            ),
            (
                assigned("nobody", &[(0, NOBODY)]),
                INVALID_REPLICA_ASSIGNMENT,
            ),
            (assigned("gap", &[(1, node)]), INVALID_REPLICA_ASSIGNMENT),
            (
                assigned("same", &[(0, node), (0, node)]),
                INVALID_REPLICA_ASSIGNMENT,
            ),
            (configured("key", "no.such.key", Some("1")), INVALID_CONFIG),
            (
                configured("value", "retention.ms", Some("soon")),
                INVALID_CONFIG,
            ),
            (configured("null", "retention.ms", None), INVALID_CONFIG),
            (assigned(&last, &[(1, node), (0, node)]), NONE),
        ];
        // What is named twice is answered once.
        let twice = [topic("twice", 1, 1), topic("twice", 2, 1)];
        // "there" is asked in two ways, each in a request of its own.
        let (again, first): (Vec<_>, Vec<_>) = items
            .into_iter()
            .partition(|(topic, _)| topic.num_partitions == 0 && *topic.name == *"there");
        for validate_only in [true, false] {
            let asked = first
                .iter()
                .map(|(topic, _)| topic.clone())
                .chain(twice.clone());
            let made = admin.create(version, asked.collect(), validate_only);
            let told = made
                .iter()
                .map(|topic| (topic.name.to_string(), topic.error_code));
            let expected = first
                .iter()
                .map(|(topic, code)| (topic.name.to_string(), *code));
            let expected = expected.chain([("twice".to_owned(), INVALID_REQUEST)]);
            assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            let silent = made.iter().filter(|topic| topic.error_message.is_none());
            assert_eq!(silent.count(), 2, "{made:?}");
            if validate_only {
                assert_eq!(admin.names(), before);
            }
            for (topic, code) in &again {
                let made = admin.create(version, vec![topic.clone()], validate_only);
                assert_eq!(made[0].error_code, *code);
            }
        }
        let new: BTreeSet<_> = admin.names().into_iter().collect();
        let before: BTreeSet<_> = before.into_iter().collect();
        assert!(new.difference(&before).eq([&good, &last]), "{new:?}");
        assert_eq!((admin.partitions(&good), admin.partitions(&last)), (2, 2));
    }
}

#[test]
fn a_new_topic_is_described_in_its_answer() {
    let mut admin = Admin::start();
    for validate_only in [true, false] {
        let wanted = configured("new", "retention.ms", Some(" 5000 "))
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        let made = &admin.create(7, vec![wanted], validate_only)[0];
        assert_eq!((made.num_partitions, made.replication_factor), (1, 1));
        let configs = made.configs.as_ref().expect("they are there");
        let of = |key: &str| {
            let found = configs.iter().find(|config| *config.name == *key);
            let found = found.expect("a key that every topic has");
            (
                found.value.as_deref().unwrap_or_default(),
                found.config_source,
            )
        };
        assert_eq!(of("retention.ms"), ("5000", 1));
        assert_eq!(of("cleanup.policy"), ("delete", 5));
        let made_id = made.topic_id;
        if !validate_only {
            assert_eq!(made_id, admin.id("new"));
        }
    }
}

#[test]
fn topics_are_deleted_by_name_one_by_one() {
    let mut admin = Admin::start();
    for version in [1, 5] {
        for name in ["first", "twice", "last", "kept"] {
            admin.must_create(name, 1);
        }
        let wanted = [
            "first", "twice", "nowhere", "no/name", "twice", "last", "twice",
        ];
        let request = m::DeleteTopicsRequest::default()
            .with_topic_names(wanted.into_iter().map(topic_name).collect());
        let answer = admin.client.ask(ApiKey::DeleteTopics, version, request);
        let told = expect!(answer, DeleteTopics).responses;
        let told = told.iter().map(|topic| {
            let name = topic.name.as_ref().expect("it was named").to_string();
            (name, topic.error_code)
        });
        let expected = [
            ("first", NONE),
            ("last", NONE),
            ("no/name", UNKNOWN_TOPIC_OR_PARTITION),
            ("nowhere", UNKNOWN_TOPIC_OR_PARTITION),
            ("twice", INVALID_REQUEST),
        ];
        let expected = expected.map(|(name, code)| (name.to_owned(), code));
        assert_eq!(sorted(told), expected, "version {version}");
        assert_eq!(admin.names(), ["kept", "twice"]);
        for name in ["kept", "twice"] {
            let request =
                m::DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
            admin.client.ask(ApiKey::DeleteTopics, version, request);
        }
    }
}

#[test]
fn topics_are_deleted_by_name_and_by_id_one_by_one() {
    let mut admin = Admin::start();
    for name in ["by-id", "by-name", "id-twice", "name-and-id", "both"] {
        admin.must_create(name, 1);
    }
    let none = Uuid::nil();
    let unknown = Uuid::from_u128(99);
    let [by_id, id_twice, name_and_id, both] =
        ["by-id", "id-twice", "name-and-id", "both"].map(|name| admin.id(name));
    let by_name = admin.id("by-name");
    // Asked for, and the answer to it.
    let items = [
        ((None, by_id), (Some("by-id"), by_id, NONE)),
        ((Some("by-name"), none), (Some("by-name"), by_name, NONE)),
        ((None, unknown), (None, unknown, UNKNOWN_TOPIC_ID)),
        ((None, none), (None, none, INVALID_REQUEST)),
        ((Some("both"), both), (Some("both"), both, INVALID_REQUEST)),
        ((None, id_twice), (None, id_twice, INVALID_REQUEST)),
        // One topic, in two ways: neither is carried out.
        (
            (Some("name-and-id"), none),
            (Some("name-and-id"), none, INVALID_REQUEST),
        ),
        ((None, name_and_id), (None, name_and_id, INVALID_REQUEST)),
        (
            (Some("no/name"), none),
            (Some("no/name"), none, UNKNOWN_TOPIC_OR_PARTITION),
        ),
    ];
    let again = (None, id_twice);
    let wanted = items.iter().map(|(asked, _)| *asked).chain([again]);
    let wanted = wanted.map(|(name, id): (Option<&str>, Uuid)| {
        DeleteTopicState::default()
            .with_name(name.map(topic_name))
            .with_topic_id(id)
    });
    let request = m::DeleteTopicsRequest::default().with_topics(wanted.collect());
    let answer = admin.client.ask(ApiKey::DeleteTopics, 6, request);
    let told = expect!(answer, DeleteTopics).responses;
    let told = told.iter().map(|topic| {
        let name = topic.name.as_ref().map(|name| name.as_str());
        (name, topic.topic_id, topic.error_code)
    });
    assert_eq!(sorted(told), sorted(items.map(|(_, answer)| answer)));
    assert_eq!(admin.names(), ["both", "id-twice", "name-and-id"]);
}

#[test]
fn partitions_are_added_one_by_one() {
    let mut admin = Admin::start();
    let node = admin.this_node();
    let grown = |name: &str, count| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None)
    };
    let placed = |name: &str, count, nodes: &[BrokerId]| {
        let assignments = nodes
            .iter()
            .map(|node| CreatePartitionsAssignment::default().with_broker_ids(vec![*node]));
        grown(name, count).with_assignments(Some(assignments.collect()))
    };
    for version in ends(ApiKey::CreatePartitions) {
        let name = |name: &str| format!("{name}-{version}");
        let items = [
            (grown(&name("first"), 4), NONE),
            (grown(&name("same"), 2), INVALID_PARTITIONS),
            (grown(&name("less"), 1), INVALID_PARTITIONS),
            (grown(&name("none"), 0), INVALID_PARTITIONS),
            (grown(&name("too-many"), i32::MAX), INVALID_PARTITIONS),
            // No increase is told before what is wrong with the assignments.
            (
                placed(&name("less-placed"), 1, &[NOBODY]),
                INVALID_PARTITIONS,
            ),
            (
                placed(&name("few-placed"), 4, &[node]),
                INVALID_REPLICA_ASSIGNMENT,
            ),
            (
                placed(&name("nobody"), 3, &[NOBODY]),
                INVALID_REPLICA_ASSIGNMENT,
            ),
            (placed(&name("placed"), 3, &[node]), NONE),
        ];
        for (topic, _) in &items {
            admin.must_create(&topic.name, 2);
        }
        admin.must_create(&name("twice"), 2);
        let others = [
            (grown("nowhere", 3), UNKNOWN_TOPIC_OR_PARTITION),
            (grown("nowhere-less", 0), UNKNOWN_TOPIC_OR_PARTITION),
            (grown("no/name", 3), UNKNOWN_TOPIC_OR_PARTITION),
            (grown(&name("twice"), 3), INVALID_REQUEST),
        ];
        let before = admin.topics();
        for validate_only in [true, false] {
            let asked = items.iter().chain(&others).map(|(topic, _)| topic.clone());
            let request = m::CreatePartitionsRequest::default()
                .with_topics(asked.chain([grown(&name("twice"), 4)]).collect())
                .with_timeout_ms(10_000)
                .with_validate_only(validate_only);
            let answer = admin.client.ask(ApiKey::CreatePartitions, version, request);
            let told = expect!(answer, CreatePartitions).results;
            let told = told
                .iter()
                .map(|topic| (topic.name.to_string(), topic.error_code));
            let expected = items.iter().chain(&others);
            let expected = expected.map(|(topic, code)| (topic.name.to_string(), *code));
            assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            if validate_only {
                assert_eq!(admin.topics(), before);
            }
        }
        let counts = ["first", "same", "less-placed", "nobody", "placed", "twice"];
        let counts = counts.map(|topic| admin.partitions(&name(topic)));
        assert_eq!(counts, [4, 2, 2, 2, 3, 2]);
    }
}

#[test]
fn records_are_deleted_partition_by_partition() {
    let mut admin = Admin::start();
    for version in ends(ApiKey::DeleteRecords) {
        let name = format!("records-{version}");
        admin.must_create(&name, 3);
        for partition in 0..3 {
            admin.produce(&name, partition, &["a", "b", "c", "d"]);
        }
        let wanted = |topic: &str, partitions: &[(i32, i64)]| {
            let partitions = partitions.iter().map(|(partition, offset)| {
                DeleteRecordsPartition::default()
                    .with_partition_index(*partition)
                    .with_offset(*offset)
            });
            DeleteRecordsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions.collect())
        };
        let request = m::DeleteRecordsRequest::default()
            .with_topics(vec![
                wanted(&name, &[(0, 3), (1, 5), (2, -1), (3, 0), (-1, 0)]),
                wanted("nowhere", &[(0, 0)]),
                wanted("no/name", &[(0, 0)]),
            ])
            .with_timeout_ms(10_000);
        let answer = admin.client.ask(ApiKey::DeleteRecords, version, request);
        let told = expect!(answer, DeleteRecords).topics;
        let told: Vec<_> = told
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| {
                let at = partition.partition_index;
                (at, partition.error_code, partition.low_watermark)
            })
            .collect();
        let expected = [
            (0, NONE, 3),
            (1, OFFSET_OUT_OF_RANGE, -1),
            (2, NONE, 4),
            (3, UNKNOWN_TOPIC_OR_PARTITION, -1),
            (-1, UNKNOWN_TOPIC_OR_PARTITION, -1),
            (0, UNKNOWN_TOPIC_OR_PARTITION, -1),
            (0, UNKNOWN_TOPIC_OR_PARTITION, -1),
        ];
        assert_eq!(told, expected, "version {version}");
    }
}

#[test]
fn log_directories_are_described_for_all_topics_or_some() {
    let mut admin = Admin::start();
    admin.must_create("a", 2);
    admin.must_create("b", 1);
    admin.produce("a", 1, &["something"]);
    for version in ends(ApiKey::DescribeLogDirs) {
        let mut sizes = |topics: Option<Vec<(&str, &[i32])>>| {
            let topics = topics.map(|topics| {
                let wanted = topics.into_iter().map(|(topic, partitions)| {
                    DescribableLogDirTopic::default()
                        .with_topic(topic_name(topic))
                        .with_partitions(partitions.to_vec())
                });
                wanted.collect()
            });
            let request = m::DescribeLogDirsRequest::default().with_topics(topics);
            let answer = admin.client.ask(ApiKey::DescribeLogDirs, version, request);
            let mut described = expect!(answer, DescribeLogDirs).results;
            let described = described.pop().expect("one directory");
            assert_eq!(described.error_code, NONE);
            let partitions = described.topics.iter().flat_map(|topic| {
                let name = topic.name.to_string();
                let partitions = topic.partitions.iter();
                partitions.map(move |p| (name.clone(), p.partition_index, p.partition_size > 0))
            });
            sorted(partitions)
        };
        let of = |items: &[(&str, i32, bool)]| -> Vec<_> {
            let owned = |(name, at, full): &(&str, i32, bool)| ((*name).to_owned(), *at, *full);
            items.iter().map(owned).collect()
        };
        let all = of(&[("a", 0, false), ("a", 1, true), ("b", 0, false)]);
        assert_eq!(sizes(None), all, "version {version}");
        // Each once, and what is not there not at all.
        let some = vec![
            ("a", &[1, 1, 9, -1][..]),
            ("nowhere", &[0]),
            ("no/name", &[0]),
            ("b", &[]),
            ("a", &[1]),
        ];
        assert_eq!(sizes(Some(some)), of(&[("a", 1, true)]));
        assert_eq!(sizes(Some(Vec::new())), []);
    }
}

#[test]
fn elections_are_answered_partition_by_partition() {
    let mut admin = Admin::start();
    admin.must_create("led", 2);
    let mut elect = |version: i16, kind: i8, topics: Option<Vec<(&str, &[i32])>>| {
        let topics = topics.map(|topics| {
            let wanted = topics.into_iter().map(|(topic, partitions)| {
                TopicPartitions::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(partitions.to_vec())
            });
            wanted.collect()
        });
        let mut request = m::ElectLeadersRequest::default()
            .with_topic_partitions(topics)
            .with_timeout_ms(10_000);
        if version > 0 {
            request.election_type = kind;
        }
        let answer = admin.client.ask(ApiKey::ElectLeaders, version, request);
        let answer = expect!(answer, ElectLeaders);
        let told = answer.replica_election_results.iter();
        let told = told.flat_map(|topic| &topic.partition_result);
        let told = told.map(|partition| (partition.partition_id, partition.error_code));
        (answer.error_code, told.collect::<Vec<_>>())
    };
    let wanted = || {
        Some(vec![
            ("led", &[1, 2][..]),
            ("nowhere", &[0]),
            ("no/name", &[3]),
            ("led", &[0]),
        ])
    };
    let expected = [
        (1, ELECTION_NOT_NEEDED),
        (2, UNKNOWN_TOPIC_OR_PARTITION),
        (0, UNKNOWN_TOPIC_OR_PARTITION),
        (3, UNKNOWN_TOPIC_OR_PARTITION),
        (0, ELECTION_NOT_NEEDED),
    ];
    for (version, kind) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)] {
        assert_eq!(elect(version, kind, wanted()), (NONE, expected.to_vec()));
        // Of all, only failures are told.
        assert_eq!(elect(version, kind, None), (NONE, vec![]));
    }
    for (version, kind) in [(1, 2), (2, -1)] {
        let (error, told) = elect(version, kind, wanted());
        assert_eq!(error, INVALID_REQUEST);
        assert_eq!(told, expected.map(|(at, _)| (at, INVALID_REQUEST)));
        assert_eq!(elect(version, kind, None), (INVALID_REQUEST, vec![]));
    }
}

#[test]
fn reassignments_are_answered_partition_by_partition() {
    let mut admin = Admin::start();
    let node = admin.this_node();
    admin.must_create("moved", 2);
    let wanted = |topic: &str, partitions: &[(i32, Option<Vec<BrokerId>>)]| {
        let partitions = partitions.iter().map(|(partition, replicas)| {
            ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(replicas.clone())
        });
        ReassignableTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect())
    };
    let moved = [
        (0, Some(vec![NOBODY])),
        (1, Some(vec![node, node])),
        (1, Some(vec![])),
        (0, None),
        (2, Some(vec![node])),
        (1, Some(vec![node])),
    ];
    let request = m::AlterPartitionReassignmentsRequest::default().with_topics(vec![
        wanted("moved", &moved),
        wanted("nowhere", &[(0, None)]),
        wanted("no/name", &[(0, Some(vec![node]))]),
    ]);
    let answer = admin
        .client
        .ask(ApiKey::AlterPartitionReassignments, 0, request);
    let answer = expect!(answer, AlterPartitionReassignments);
    assert_eq!(answer.error_code, NONE);
    let told = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let told = told.map(|partition| (partition.partition_index, partition.error_code));
    let expected = [
        (0, INVALID_REPLICA_ASSIGNMENT),
        (1, INVALID_REPLICA_ASSIGNMENT),
        (1, INVALID_REPLICA_ASSIGNMENT),
        (0, NO_REASSIGNMENT_IN_PROGRESS),
        (2, UNKNOWN_TOPIC_OR_PARTITION),
        (1, NONE),
        (0, UNKNOWN_TOPIC_OR_PARTITION),
        (0, UNKNOWN_TOPIC_OR_PARTITION),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    // None is ever under way, whether all are asked for or some.
    let of_one =
        m::list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
            .with_name(topic_name("moved"))
            .with_partition_indexes(vec![0, 9]);
    for topics in [None, Some(vec![]), Some(vec![of_one])] {
        let request = m::ListPartitionReassignmentsRequest::default().with_topics(topics);
        let answer = admin
            .client
            .ask(ApiKey::ListPartitionReassignments, 0, request);
        let answer = expect!(answer, ListPartitionReassignments);
        assert_eq!((answer.error_code, answer.topics.len()), (NONE, 0));
    }
}

#[test]
fn whoever_asks_is_told_what_may_be_done() {
    // A bit for each operation: everything there is for a topic, and for the cluster (KIP-430).
    const TOPIC: i32 = 0b1101_1111_1000;
    const CLUSTER: i32 = 0b1_1111_1010_0000;
    const NOT_ASKED: i32 = i32::MIN;
    let mut admin = Admin::start();
    admin.must_create("here", 1);
    for (asked, of_topic, of_cluster) in [(true, TOPIC, CLUSTER), (false, NOT_ASKED, NOT_ASKED)] {
        let wanted = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        for version in [8, 10, 12] {
            let request = m::MetadataRequest::default()
                .with_topics(Some(vec![wanted("here"), wanted("no/name")]))
                .with_include_topic_authorized_operations(asked)
                .with_include_cluster_authorized_operations(asked && version <= 10);
            let answer = admin.client.ask(ApiKey::Metadata, version, request);
            let metadata = expect!(answer, Metadata);
            let topics = metadata.topics.iter();
            let told: Vec<_> = topics
                .map(|topic| topic.topic_authorized_operations)
                .collect();
            assert_eq!(told, [of_topic, NOT_ASKED], "version {version}");
            if version <= 10 {
                assert_eq!(metadata.cluster_authorized_operations, of_cluster);
            }
        }
        for version in ends(ApiKey::DescribeCluster) {
            let request = m::DescribeClusterRequest::default()
                .with_endpoint_type(1)
                .with_include_cluster_authorized_operations(asked);
            let answer = admin.client.ask(ApiKey::DescribeCluster, version, request);
            let cluster = expect!(answer, DescribeCluster);
            assert_eq!(cluster.cluster_authorized_operations, of_cluster);
        }
    }
}

#[test]
fn names_that_kafkas_tools_cannot_tell_apart_are_refused() {
    let mut admin = Admin::start();
    admin.must_create("a.b_c", 1);
    for validate_only in [true, false] {
        let asked = ["a_b_c", "a.b.c", "a-b_c"].map(|name| topic(name, 1, 1));
        let made = admin.create(7, asked.to_vec(), validate_only);
        let codes: Vec<_> = made.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [INVALID_TOPIC, INVALID_TOPIC, NONE]);
    }
    // Nor are they made by asking for them.
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name("a_b_c")));
    let request = m::MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(true);
    let metadata = expect!(admin.client.ask(ApiKey::Metadata, 12, request), Metadata);
    assert_eq!(metadata.topics[0].error_code, INVALID_TOPIC);
    assert_eq!(admin.names(), ["a-b_c", "a.b_c"]);
}
