//! DescribeTopicPartitions of a real broker: topics by name, page by page.

mod kafka_client;
mod process;

use kafka_client::admin::*;
use kafka_client::topic_name;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::messages::describe_topic_partitions_request::{
    Cursor, TopicRequest,
};

/// A topic's name, its error and the numbers of its partitions.
type Told = (String, i16, Vec<i32>);

/// Asks once: what was told, and where to go on.
fn page(
    admin: &mut Admin,
    topics: &[&str],
    limit: i32,
    from: Option<(&str, i32)>,
) -> (Vec<Told>, Option<(String, i32)>) {
    let topics = topics.iter();
    let topics = topics.map(|name| TopicRequest::default().with_name(topic_name(name)));
    let cursor = from.map(|(name, partition)| {
        Cursor::default()
            .with_topic_name(topic_name(name))
            .with_partition_index(partition)
    });
    let request = m::DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    let key = ApiKey::DescribeTopicPartitions;
    let answer = expect!(admin.client.ask(key, 0, request), DescribeTopicPartitions);
    let told = answer.topics.iter().map(|topic| {
        let numbers = topic.partitions.iter();
        let numbers = numbers.map(|partition| partition.partition_index);
        let name = topic.name.as_ref().expect("a name").to_string();
        (name, topic.error_code, numbers.collect())
    });
    let next = answer.next_cursor.as_ref();
    let next = next.map(|next| (next.topic_name.to_string(), next.partition_index));
    (told.collect(), next)
}

fn told(name: &str, error: i16, partitions: &[i32]) -> Told {
    (name.to_owned(), error, partitions.to_vec())
}

fn place(name: &str, partition: i32) -> Option<(String, i32)> {
    Some((name.to_owned(), partition))
}

#[test]
fn topics_come_by_name_and_page_by_page() {
    let mut admin = Admin::start();
    for (name, partitions) in [("c", 1), ("a", 3), ("b", 2)] {
        admin.must_create(name, partitions);
    }
    let all = [
        told("a", NONE, &[0, 1, 2]),
        told("b", NONE, &[0, 1]),
        told("c", NONE, &[0]),
    ];
    let (topics, next) = page(&mut admin, &[], 2000, None);
    assert_eq!((topics.as_slice(), next), (all.as_slice(), None));
    // Asked for twice is told once.
    let (topics, next) = page(
        &mut admin,
        &["c", "nowhere", "no/name", "a", "c"],
        2000,
        None,
    );
    let some = [
        told("a", NONE, &[0, 1, 2]),
        told("c", NONE, &[0]),
        told("no/name", INVALID_TOPIC, &[]),
        told("nowhere", UNKNOWN_TOPIC_OR_PARTITION, &[]),
    ];
    assert_eq!((topics.as_slice(), next), (some.as_slice(), None));

    let pages = [
        (None, vec![told("a", NONE, &[0, 1])], place("a", 2)),
        (
            Some(("a", 2)),
            vec![told("a", NONE, &[2]), told("b", NONE, &[0])],
            place("b", 1),
        ),
        (
            Some(("b", 1)),
            vec![told("b", NONE, &[1]), told("c", NONE, &[0])],
            None,
        ),
        // A topic that went away since.
        (
            Some(("aa", 7)),
            vec![told("b", NONE, &[0, 1])],
            place("c", 0),
        ),
    ];
    for (from, topics, next) in pages {
        assert_eq!(page(&mut admin, &[], 2, from), (topics, next), "{from:?}");
    }
    // None at a time would never end.
    let first = (vec![told("b", NONE, &[0])], place("b", 1));
    for limit in [0, -1, i32::MIN] {
        assert_eq!(page(&mut admin, &["b", "c"], limit, None), first);
    }
    let wrong = page(&mut admin, &["b"], 2, Some(("b", -1)));
    assert_eq!(wrong, (vec![told("b", INVALID_REQUEST, &[])], None));
}

#[test]
fn what_is_told_is_what_metadata_tells() {
    let mut admin = Admin::start();
    admin.must_create("here", 2);
    let request = m::DescribeTopicPartitionsRequest::default();
    let key = ApiKey::DescribeTopicPartitions;
    let answer = expect!(admin.client.ask(key, 0, request), DescribeTopicPartitions);
    let metadata = &admin.topics()["here"];
    let topic = &answer.topics[0];
    assert_eq!(topic.topic_id, metadata.topic_id);
    assert!(!topic.is_internal && topic.topic_authorized_operations > 0);
    assert_eq!(topic.partitions.len(), metadata.partitions.len());
    for (told, known) in topic.partitions.iter().zip(&metadata.partitions) {
        assert_eq!(told.leader_id, known.leader_id);
        assert_eq!(told.leader_epoch, known.leader_epoch);
        assert_eq!(told.replica_nodes, known.replica_nodes);
        assert_eq!(told.isr_nodes, known.isr_nodes);
        assert!(told.offline_replicas.is_empty());
    }
}
