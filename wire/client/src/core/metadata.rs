//! What the client knows of nodes, topics and partitions, and when to ask again.
//!
//! It knows topics that someone here uses, and asks for those alone. An answer with an older
//! revision than one seen before is not believed: it comes from a shard that has yet to hear of a
//! change. A topic that is not there is given some time to appear before it counts as missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_wire::ids::{NodeId, ShardId};
use millrace_wire::native::messages::{MetadataResponse, TopicMetadata};

use super::time::Time;
use crate::ClientError;

/// A topic's number in this client. It stands for the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicKey(u32);

/// A partition of such a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) partition: u32,
}

/// Where a partition is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
}

/// What is known of a topic.
pub(crate) enum Knowledge<T> {
    Known(T),
    /// Not yet; an answer is on its way.
    Wait,
    /// It is not there, and has been given its time.
    Missing(ClientError),
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    leaders: Vec<Place>,
    /// Whether a response has told of it since it was wanted.
    known: bool,
    /// Why it is not there, as last told.
    failure: Option<ClientError>,
    /// When someone first wanted it while it was not there.
    wanted_since: Option<Time>,
    /// When someone first wanted a partition that it does not have.
    short_since: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Metadata {
    patience: Duration,
    max_age: Duration,
    cluster_id: String,
    revision: u64,
    nodes: BTreeMap<NodeId, String>,
    topics: Vec<Topic>,
    by_name: BTreeMap<Arc<str>, TopicKey>,
    /// Something speaks against what is known.
    stale: bool,
    refreshed: Option<Time>,
    /// Requests in a row that did not bring what was wanted.
    pub(crate) disappointments: u32,
}

impl Metadata {
    pub(crate) fn new(patience: Duration, max_age: Duration) -> Metadata {
        Metadata {
            patience,
            max_age,
            cluster_id: String::new(),
            revision: 0,
            nodes: BTreeMap::new(),
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            stale: false,
            refreshed: None,
            disappointments: 0,
        }
    }

    /// The topic's number; the client is interested in it from now on.
    pub(crate) fn topic(&mut self, name: &str) -> TopicKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let key = TopicKey(self.topics.len() as u32);
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), key);
        self.topics.push(Topic {
            name,
            leaders: Vec::new(),
            known: false,
            failure: None,
            wanted_since: None,
            short_since: None,
        });
        self.stale = true;
        key
    }

    pub(crate) fn name(&self, topic: TopicKey) -> &Arc<str> {
        &self.topics[topic.0 as usize].name
    }

    pub(crate) fn find(&self, name: &str) -> Option<TopicKey> {
        self.by_name.get(name).copied()
    }

    /// How many partitions the topic has.
    pub(crate) fn partitions(&mut self, key: TopicKey, now: Time) -> Knowledge<u32> {
        let topic = &mut self.topics[key.0 as usize];
        if topic.known {
            return Knowledge::Known(topic.leaders.len() as u32);
        }
        let since = *topic.wanted_since.get_or_insert(now);
        self.stale = true;
        match &topic.failure {
            Some(failure) if now.since(since) >= self.patience => {
                let failure = failure.clone();
                // Whoever asks next begins anew.
                topic.wanted_since = None;
                topic.failure = None;
                Knowledge::Missing(failure)
            }
            _ => Knowledge::Wait,
        }
    }

    /// Where the partition is led. One that the topic does not have is given time to appear too.
    pub(crate) fn leader(&mut self, key: PartitionKey, now: Time) -> Knowledge<Place> {
        let partitions = match self.partitions(key.topic, now) {
            Knowledge::Known(partitions) => partitions,
            Knowledge::Wait => return Knowledge::Wait,
            Knowledge::Missing(error) => return Knowledge::Missing(error),
        };
        let topic = &mut self.topics[key.topic.0 as usize];
        if let Some(place) = topic.leaders.get(key.partition as usize) {
            return Knowledge::Known(*place);
        }
        self.stale = true;
        let since = *topic.short_since.get_or_insert(now);
        if now.since(since) < self.patience {
            return Knowledge::Wait;
        }
        topic.short_since = None;
        let (topic, partition) = (topic.name.to_string(), key.partition);
        Knowledge::Missing(ClientError::UnknownPartition {
            topic,
            partition,
            partitions,
        })
    }

    /// The newest revision seen of this cluster.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The node's address.
    pub(crate) fn address(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node).map(String::as_str)
    }

    /// Something speaks against what is known: ask again.
    pub(crate) fn doubt(&mut self) {
        self.stale = true;
    }

    /// What to ask for, if it is time to ask.
    pub(crate) fn due(&self, now: Time) -> Option<Vec<String>> {
        let old = self
            .refreshed
            .is_some_and(|at| now.since(at) >= self.max_age);
        let wanted = !self.topics.is_empty() && (self.stale || old);
        wanted.then(|| {
            self.topics
                .iter()
                .map(|topic| topic.name.to_string())
                .collect()
        })
    }

    /// When what is known becomes too old.
    pub(crate) fn expires(&self) -> Option<Time> {
        self.refreshed.map(|at| at.plus(self.max_age))
    }

    /// The cluster that a connection belongs to. Revisions of another one mean nothing here.
    pub(crate) fn observe_cluster(&mut self, cluster_id: &str) {
        if self.cluster_id != cluster_id {
            self.cluster_id = cluster_id.to_string();
            self.revision = 0;
            self.stale = true;
        }
    }

    /// Takes an answer in. `host` is what this client connected to for it.
    pub(crate) fn update(&mut self, now: Time, host: &str, answer: MetadataResponse) {
        if answer.revision < self.revision {
            self.disappointments += 1;
            return;
        }
        self.revision = answer.revision;
        self.refreshed = Some(now);
        self.nodes = answer
            .nodes
            .into_iter()
            .map(|node| {
                let host = if node.host.is_empty() {
                    host
                } else {
                    &node.host
                };
                (NodeId(node.node_id), join(host, node.port))
            })
            .collect();
        for told in answer.topics {
            self.update_topic(told);
        }
        // Nobody came back for the answer: stop asking.
        let forget = self.patience * 4;
        let is_over = |since: &mut Time| now.since(*since) > forget;
        for topic in &mut self.topics {
            topic.wanted_since.take_if(is_over);
            topic.short_since.take_if(is_over);
        }
        // A topic that was named after the question was sent is not in the answer.
        let incomplete = self.topics.iter().any(|topic| {
            topic.short_since.is_some() || (!topic.known && topic.wanted_since.is_some())
        });
        self.stale = incomplete;
        self.disappointments = if incomplete {
            self.disappointments + 1
        } else {
            0
        };
    }

    fn update_topic(&mut self, told: TopicMetadata) {
        let Some(key) = self.by_name.get(told.name.as_str()) else {
            return;
        };
        let topic = &mut self.topics[key.0 as usize];
        if let Err(error) = ClientError::check(&told.status) {
            let missing = error.code() == Some(crate::ErrorCode::UnknownTopicOrPartition);
            topic.failure = Some(if missing {
                ClientError::UnknownTopic { topic: told.name }
            } else {
                error
            });
            topic.known = false;
            topic.leaders.clear();
            return;
        }
        if told.partitions.len() > topic.leaders.len() {
            topic.short_since = None;
        }
        topic.leaders = told
            .partitions
            .iter()
            .map(|p| Place {
                node: NodeId(p.leader_node),
                shard: ShardId(p.leader_shard),
            })
            .collect();
        topic.known = true;
        topic.failure = None;
        topic.wanted_since = None;
    }
}

/// `host:port`, with brackets where the host is an IPv6 address.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The host of a `host:port`.
pub(crate) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::native::messages::{NodeInfo, PartitionMetadata, Status};

    const PATIENCE: Duration = Duration::from_secs(1);

    fn metadata() -> Metadata {
        Metadata::new(PATIENCE, Duration::from_secs(60))
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn answer(revision: u64, topics: Vec<TopicMetadata>) -> MetadataResponse {
        let node = NodeInfo {
            node_id: 1,
            host: String::new(),
            port: 9092,
            shard_count: 2,
        };
        MetadataResponse {
            revision,
            nodes: vec![node],
            topics,
        }
    }

    fn topic(name: &str, shards: &[u16]) -> TopicMetadata {
        let partitions = shards
            .iter()
            .enumerate()
            .map(|(i, shard)| PartitionMetadata {
                partition: i as u32,
                leader_node: 1,
                leader_shard: *shard,
                leader_epoch: 0,
            });
        let partitions = partitions.collect();
        TopicMetadata {
            name: name.into(),
            partitions,
            ..TopicMetadata::default()
        }
    }

    fn missing(name: &str) -> TopicMetadata {
        let status = Status {
            code: 3,
            message: "no such topic".into(),
        };
        TopicMetadata {
            name: name.into(),
            status,
            ..TopicMetadata::default()
        }
    }

    #[test]
    fn an_older_revision_is_not_believed() {
        let mut metadata = metadata();
        let key = metadata.topic("a");
        metadata.update(at(0), "host", answer(5, vec![topic("a", &[0, 1])]));
        metadata.doubt();
        metadata.update(at(1), "host", answer(4, vec![topic("a", &[0])]));
        assert!(matches!(
            metadata.partitions(key, at(1)),
            Knowledge::Known(2)
        ));
        assert!(metadata.due(at(1)).is_some(), "still in doubt");
        metadata.observe_cluster("another");
        metadata.update(at(2), "host", answer(1, vec![topic("a", &[0])]));
        assert!(matches!(
            metadata.partitions(key, at(2)),
            Knowledge::Known(1)
        ));
        assert!(metadata.due(at(2)).is_none());
    }

    #[test]
    fn a_missing_topic_is_given_time_to_appear() {
        let mut metadata = metadata();
        let key = metadata.topic("a");
        assert!(matches!(metadata.partitions(key, at(0)), Knowledge::Wait));
        metadata.update(at(10), "host", answer(1, vec![missing("a")]));
        assert!(matches!(metadata.partitions(key, at(999)), Knowledge::Wait));
        assert!(metadata.due(at(999)).is_some());
        let Knowledge::Missing(error) = metadata.partitions(key, at(1000)) else {
            panic!("its time is over")
        };
        assert_eq!(error, ClientError::UnknownTopic { topic: "a".into() });
        // Asking again starts again, and finds it if it has come.
        assert!(matches!(
            metadata.partitions(key, at(1001)),
            Knowledge::Wait
        ));
        metadata.update(at(1010), "host", answer(2, vec![topic("a", &[0])]));
        assert!(matches!(
            metadata.partitions(key, at(1010)),
            Knowledge::Known(1)
        ));
    }

    #[test]
    fn a_topic_named_while_an_answer_is_under_way_is_asked_for_again() {
        let mut metadata = metadata();
        metadata.topic("a");
        let late = metadata.topic("b");
        assert!(matches!(metadata.partitions(late, at(0)), Knowledge::Wait));
        metadata.update(at(0), "host", answer(1, vec![topic("a", &[0])]));
        assert!(
            metadata
                .due(at(0))
                .is_some_and(|topics| topics.contains(&"b".to_string()))
        );
        assert!(matches!(metadata.partitions(late, at(0)), Knowledge::Wait));
    }

    #[test]
    fn what_is_known_grows_old() {
        let mut metadata = metadata();
        metadata.topic("a");
        metadata.update(at(0), "host", answer(1, vec![topic("a", &[0])]));
        assert!(metadata.due(at(59_999)).is_none());
        assert_eq!(metadata.expires(), Some(at(60_000)));
        assert!(metadata.due(at(60_000)).is_some());
    }

    #[test]
    fn an_empty_host_means_the_one_connected_to() {
        let mut metadata = metadata();
        metadata.topic("a");
        metadata.update(at(0), host_of("broker.example:1234"), answer(1, vec![]));
        assert_eq!(metadata.address(NodeId(1)), Some("broker.example:9092"));
        metadata.update(at(0), host_of("[::1]:1234"), answer(1, vec![]));
        assert_eq!(metadata.address(NodeId(1)), Some("[::1]:9092"));
    }
}
