//! Offsets that consumer groups commit, and groups as they are seen from outside: listed, described,
//! deleted.

mod kafka_client;
mod process;

use kafka_client::groups::*;
use kafka_client::samples::create;
use kafka_client::{KafkaClient, batch, produce, text, topic_name};
use millrace_wire::batch::Compression;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages as m;
use process::Broker;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const AT_ONCE: &[&str] = &[
    "--shards",
    "2",
    "--set",
    "groups.initial_rebalance_delay_ms=0",
];

/// A broker with the topics `here` and `there`, of two partitions each.
fn broker() -> (tempfile::TempDir, Broker, KafkaClient) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), AT_ONCE);
    let mut client = KafkaClient::connect(broker.address);
    for name in ["here", "there"] {
        client.ask(ApiKey::CreateTopics, 5, create(name, 2));
    }
    (data, broker, client)
}

fn delete_topic(client: &mut KafkaClient, name: &str) {
    let request = m::DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(name)])
        .with_timeout_ms(10_000);
    let deleted = expect!(client.ask(ApiKey::DeleteTopics, 4, request), DeleteTopics);
    assert_eq!(deleted.responses[0].error_code, 0);
}

/// The partitions that are told of, as `topic/partition=offset`.
fn told((error, topics): &Fetched) -> (i16, Vec<String>) {
    let topics = topics.iter().flat_map(|(name, partitions)| {
        let partitions = partitions.iter();
        partitions.map(move |(number, offset, ..)| format!("{name}/{number}={offset}"))
    });
    (*error, topics.collect())
}

#[test]
fn what_is_committed_is_there_in_every_version() {
    let (_data, _broker, mut client) = broker();
    for version in 2..=9 {
        let group = format!("version-{version}");
        let mut request = commit_request(&group, "here", &[(1, 40 + i64::from(version))]);
        let partition = &mut request.topics[0].partitions[0];
        partition.committed_metadata = Some(text("a note"));
        if version >= 6 {
            partition.committed_leader_epoch = 1;
        }
        if version <= 4 {
            // How long it is to be kept, which is not up to clients any more.
            request.retention_time_ms = 1;
        }
        assert_eq!(
            commit(&mut client, version, request),
            [0],
            "version {version}"
        );
        for fetched_by in 1..=9 {
            let asked: &[(&str, &[i32])] = &[("here", &[1, 0]), ("no/name", &[0])];
            let (error, topics) = fetch(&mut client, fetched_by, &group, Some(asked));
            assert_eq!((error, topics.len()), (0, 2), "{topics:?}");
            let epoch = match version >= 6 && fetched_by >= 5 {
                true => 1,
                false => -1,
            };
            let by_name = |name: &str| {
                let found = topics.iter().find(|(topic, _)| topic == name);
                let mut found = found.expect("it was asked for").1.clone();
                found.sort();
                found
            };
            let never = |number| (number, NEVER, -1, String::new(), 0);
            let known = (1, 40 + i64::from(version), epoch, "a note".to_owned(), 0);
            assert_eq!(
                by_name("here"),
                [never(0), known],
                "fetched by {fetched_by}"
            );
            assert_eq!(by_name("no/name"), [never(0)]);
        }
    }
}

#[test]
fn what_cannot_be_committed_is_refused_for_its_partition() {
    let (_data, _broker, mut client) = broker();
    let mut request = commit_request("picky", "here", &[(0, 1), (2, 1), (-1, 1), (1, 1)]);
    let nowhere = commit_request("picky", "nowhere", &[(0, 1)]);
    let nameless = commit_request("picky", "no/name", &[(0, 1)]);
    request.topics.extend(nowhere.topics);
    request.topics.extend(nameless.topics);
    let large = "x".repeat(100_000);
    request.topics[0].partitions[3].committed_metadata = Some(text(&large));
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    let expected = [
        0,
        unknown,
        unknown,
        OFFSET_METADATA_TOO_LARGE,
        unknown,
        unknown,
    ];
    assert_eq!(commit(&mut client, 9, request), expected);
    assert_eq!(offset(&mut client, "picky", "here", 0), 1);
    assert_eq!(offset(&mut client, "picky", "here", 1), NEVER);
    // A note that is null is an empty one.
    let mut request = commit_request("picky", "here", &[(1, 2)]);
    request.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(commit(&mut client, 9, request), [0]);
    let (_, topics) = fetch(&mut client, 9, "picky", Some(&[("here", &[1])]));
    assert_eq!(topics[0].1[0], (1, 2, -1, String::new(), 0));
    // Of two for the same partition the later one counts.
    let twice = commit_request("picky", "here", &[(0, 8), (0, 9)]);
    assert_eq!(commit(&mut client, 9, twice), [0, 0]);
    assert_eq!(offset(&mut client, "picky", "here", 0), 9);
    // Nothing to commit is no error, and makes no group.
    let nothing = m::OffsetCommitRequest::default()
        .with_group_id(group_id("nothing"))
        .with_generation_id_or_member_epoch(-1);
    assert_eq!(commit(&mut client, 9, nothing), [0; 0]);
    assert_eq!(list(&mut client, &[], &[]), ["picky"]);
}

#[test]
fn a_group_tells_all_its_offsets() {
    let (_data, _broker, mut client) = broker();
    assert_eq!(
        commit(&mut client, 9, commit_request("all", "there", &[(1, 3)])),
        [0]
    );
    assert_eq!(
        commit(
            &mut client,
            9,
            commit_request("all", "here", &[(0, 1), (1, 2)])
        ),
        [0, 0]
    );
    for version in 2..=9 {
        let (error, mut found) = told(&fetch(&mut client, version, "all", None));
        found.sort();
        assert_eq!(error, 0);
        assert_eq!(
            found,
            ["here/0=1", "here/1=2", "there/1=3"],
            "version {version}"
        );
        assert_eq!(
            told(&fetch(&mut client, version, "none", None)),
            (0, vec![])
        );
        assert_eq!(
            told(&fetch(&mut client, version, "all", Some(&[]))),
            (0, vec![])
        );
    }
}

#[test]
fn several_groups_are_asked_for_at_a_time() {
    let (_data, _broker, mut client) = broker();
    for (group, offset) in [("a", 1), ("b", 2)] {
        assert_eq!(
            commit(
                &mut client,
                9,
                commit_request(group, "here", &[(0, offset)])
            ),
            [0]
        );
    }
    let wanted = |name: &str| {
        m::offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group_id(name))
            .with_member_epoch(-1)
            .with_topics(None)
    };
    for version in [8, 9] {
        let groups = ["b", "none", "a", "b"].map(wanted);
        let request = m::OffsetFetchRequest::default().with_groups(groups.into());
        let answer = expect!(
            client.ask(ApiKey::OffsetFetch, version, request),
            OffsetFetch
        );
        let told: Vec<_> = answer
            .groups
            .iter()
            .map(|group| {
                let topic = group.topics.first();
                let offset = topic.map(|topic| topic.partitions[0].committed_offset);
                (group.group_id.as_str(), group.error_code, offset)
            })
            .collect();
        let expected = [("b", 0, Some(2)), ("none", 0, None), ("a", 0, Some(1))];
        assert_eq!(told, expected, "version {version}, each once");
    }
}

#[test]
fn while_a_group_has_members_only_they_commit() {
    let (_data, broker, mut client) = broker();
    // Before, anybody does who knows its name.
    assert_eq!(
        commit(&mut client, 9, commit_request("members", "here", &[(0, 1)])),
        [0]
    );
    let mut member = Member::new(broker.address, "members");
    member.settle_alone();
    assert_eq!(offset(&mut client, "members", "here", 0), 1);
    let simple = || commit_request("members", "here", &[(0, 2)]);
    assert_eq!(commit(&mut client, 9, simple()), [UNKNOWN_MEMBER_ID]);
    assert_eq!(commit(&mut client, 2, simple()), [UNKNOWN_MEMBER_ID]);
    assert_eq!(member.commit("here", 0, 3), 0);
    assert_eq!(member.leave(), 0);
    assert_eq!(member.commit("here", 0, 4), UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut client, 9, simple()), [0]);
    assert_eq!(offset(&mut client, "members", "here", 0), 2);
}

#[test]
fn offsets_go_with_their_topic() {
    let (_data, _broker, mut client) = broker();
    for topic in ["here", "there"] {
        assert_eq!(
            commit(&mut client, 9, commit_request("heir", topic, &[(0, 5)])),
            [0]
        );
    }
    delete_topic(&mut client, "here");
    let all = |client: &mut KafkaClient| told(&fetch(client, 9, "heir", None));
    assert_eq!(all(&mut client), (0, vec!["there/0=5".to_owned()]));
    // A topic of the same name is another one, and nobody has read it.
    client.ask(ApiKey::CreateTopics, 5, create("here", 2));
    assert_eq!(offset(&mut client, "heir", "here", 0), NEVER);
    assert_eq!(all(&mut client), (0, vec!["there/0=5".to_owned()]));
}

#[test]
fn committed_offsets_outlive_the_brokers_death() {
    let (data, broker, mut client) = broker();
    for number in 1..=50 {
        let request = commit_request("durable", "here", &[(0, number), (1, number * 2)]);
        assert_eq!(commit(&mut client, 9, request), [0, 0]);
    }
    assert_eq!(
        commit(&mut client, 9, commit_request("gone", "here", &[(0, 1)])),
        [0]
    );
    assert_eq!(delete(&mut client, "gone"), 0);
    broker.kill();
    let broker = Broker::start(data.path(), AT_ONCE);
    let mut client = KafkaClient::connect(broker.address);
    assert_eq!(offset(&mut client, "durable", "here", 0), 50);
    assert_eq!(offset(&mut client, "durable", "here", 1), 100);
    assert_eq!(list(&mut client, &[], &[]), ["durable"]);
}

#[test]
fn groups_are_listed_and_described() {
    let (_data, broker, mut client) = broker();
    assert_eq!(list(&mut client, &[], &[]), [""; 0]);
    assert_eq!(
        commit(&mut client, 9, commit_request("simple", "here", &[(0, 1)])),
        [0]
    );
    let mut member = Member::lasting(broker.address, "settled", "name");
    member.settle_alone();
    assert_eq!(list(&mut client, &[], &[]), ["settled", "simple"]);
    assert_eq!(list(&mut client, &["Stable"], &[]), ["settled"]);
    assert_eq!(
        list(&mut client, &["empty", "Dead"], &["Classic"]),
        ["simple"]
    );
    assert_eq!(list(&mut client, &["NoSuchState"], &[]), [""; 0]);
    assert_eq!(list(&mut client, &[], &["consumer"]), [""; 0]);
    for version in 0..=5 {
        let request = m::ListGroupsRequest::default();
        let answer = expect!(client.ask(ApiKey::ListGroups, version, request), ListGroups);
        let mut told: Vec<_> = answer
            .groups
            .iter()
            .map(|group| {
                let names = [&group.group_id.0, &group.protocol_type, &group.group_state];
                (names.map(|it| it.as_str()), group.group_type.as_str())
            })
            .collect();
        told.sort_unstable();
        let state = |state| if version >= 4 { state } else { "" };
        let kind = if version >= 5 { "classic" } else { "" };
        let expected = [
            (["settled", "consumer", state("Stable")], kind),
            (["simple", "", state("Empty")], kind),
        ];
        assert_eq!(told, expected, "version {version}");

        let group = describe(&mut client, version, "settled");
        assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
        assert_eq!(
            (&*group.protocol_type, &*group.protocol_data),
            ("consumer", "range")
        );
        assert_eq!(group.authorized_operations, i32::MIN);
        let [described] = &group.members[..] else {
            panic!("{group:?}")
        };
        assert_eq!(*described.member_id, *member.id);
        assert_eq!(described.group_instance_id.is_some(), version >= 4);
        assert_eq!(
            (&*described.client_id, &*described.client_host),
            ("test", "/127.0.0.1")
        );
        assert_eq!(described.member_metadata, subscribed("here"));
        assert_eq!(described.member_assignment, "all");
        let group = describe(&mut client, version, "simple");
        assert_eq!((group.error_code, &*group.group_state), (0, "Empty"));
        assert_eq!((group.members.len(), &*group.protocol_type), (0, ""));
        let group = describe(&mut client, version, "nowhere");
        assert_eq!((group.error_code, &*group.group_state), (0, "Dead"));
    }
    let request = m::DescribeGroupsRequest::default()
        .with_groups(vec![group_id("settled"), group_id("settled")])
        .with_include_authorized_operations(true);
    let answer = expect!(
        client.ask(ApiKey::DescribeGroups, 3, request),
        DescribeGroups
    );
    assert_eq!(answer.groups.len(), 1, "each once");
    assert_eq!(
        answer.groups[0].authorized_operations,
        1 << 3 | 1 << 6 | 1 << 8
    );
}

#[test]
fn only_groups_without_members_are_deleted() {
    let (_data, broker, mut client) = broker();
    let mut member = Member::new(broker.address, "deleted");
    member.settle_alone();
    assert_eq!(member.commit("here", 0, 4), 0);
    assert_eq!(delete(&mut client, "deleted"), NON_EMPTY_GROUP);
    assert_eq!(member.heartbeat(), 0);
    assert_eq!(member.leave(), 0);
    for version in 0..=2 {
        let groups = vec![group_id("nowhere"), group_id("nowhere")];
        let request = m::DeleteGroupsRequest::default().with_groups_names(groups);
        let answer = expect!(
            client.ask(ApiKey::DeleteGroups, version, request),
            DeleteGroups
        );
        let codes: Vec<_> = answer
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [GROUP_ID_NOT_FOUND], "version {version}, each once");
    }
    assert_eq!(delete(&mut client, "deleted"), 0);
    assert_eq!(delete(&mut client, "deleted"), GROUP_ID_NOT_FOUND);
    assert_eq!(offset(&mut client, "deleted", "here", 0), NEVER);
    assert_eq!(list(&mut client, &[], &[]), [""; 0]);
    // The name is free.
    let mut next = Member::new(broker.address, "deleted");
    next.settle_alone();
    assert_eq!(next.generation, 1);
}

#[test]
fn offsets_are_deleted_where_nobody_reads() {
    let (_data, broker, mut client) = broker();
    assert_eq!(
        delete_offsets(&mut client, "nowhere", "here", &[0]).0,
        GROUP_ID_NOT_FOUND
    );
    assert_eq!(
        delete_offsets(&mut client, "", "here", &[0]).0,
        INVALID_GROUP_ID
    );
    let mut member = Member::new(broker.address, "reader");
    member.settle_alone();
    for topic in ["here", "there"] {
        assert_eq!(member.commit(topic, 0, 6), 0);
    }
    let subscribed = (0, vec![GROUP_SUBSCRIBED_TO_TOPIC]);
    assert_eq!(
        delete_offsets(&mut client, "reader", "here", &[0]),
        subscribed
    );
    let codes = vec![0, UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(
        delete_offsets(&mut client, "reader", "there", &[0, 9]),
        (0, codes)
    );
    assert_eq!(offset(&mut client, "reader", "here", 0), 6);
    assert_eq!(offset(&mut client, "reader", "there", 0), NEVER);
    assert_eq!(member.leave(), 0);
    // What was never committed is as gone as what is deleted.
    assert_eq!(
        delete_offsets(&mut client, "reader", "here", &[0, 1]),
        (0, vec![0, 0])
    );
    assert_eq!(offset(&mut client, "reader", "here", 0), NEVER);
}

#[test]
fn the_brokers_own_topic_is_read_at_most() {
    let (_data, _broker, mut client) = broker();
    assert_eq!(
        commit(&mut client, 9, commit_request("any", "here", &[(0, 1)])),
        [0]
    );
    let all = m::MetadataRequest::default().with_topics(None);
    let metadata = expect!(client.ask(ApiKey::Metadata, 9, all), Metadata);
    for topic in &metadata.topics {
        let name = topic.name.as_ref().expect("a name").as_str();
        assert_eq!(topic.is_internal, name.starts_with("__"), "{name}");
    }
    let groups = "__groups";
    let records = batch(&["forged"], Compression::None);
    let produced = client.ask(ApiKey::Produce, 9, produce(groups, 0, -1, records));
    let produced = expect!(produced, Produce);
    let code = produced.responses[0].partition_responses[0].error_code;
    assert_eq!(code, INVALID_TOPIC);
    let partition = m::delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
    let topic = m::delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic_name(groups))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default().with_topics(vec![topic]);
    let deleted = expect!(client.ask(ApiKey::DeleteRecords, 2, request), DeleteRecords);
    assert_eq!(deleted.topics[0].partitions[0].error_code, INVALID_TOPIC);
    let request = m::DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(groups)])
        .with_timeout_ms(10_000);
    let deleted = expect!(client.ask(ApiKey::DeleteTopics, 4, request), DeleteTopics);
    assert_ne!(deleted.responses[0].error_code, 0);
    let grown = m::create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic_name(groups))
        .with_count(100);
    let request = m::CreatePartitionsRequest::default().with_topics(vec![grown]);
    let grown = client.ask(ApiKey::CreatePartitions, 2, request);
    assert_ne!(expect!(grown, CreatePartitions).results[0].error_code, 0);
    assert_eq!(offset(&mut client, "any", "here", 0), 1);
}
