//! The broker's own settings as Kafka clients see them: each under its own name, and those that Kafka
//! has too under Kafka's name as well, so that tools which look for `num.partitions` find it.

use std::borrow::Cow;

use millrace_shard::env::Env;

use super::session::Session;
use crate::config::TOPIC_DEFAULTS;
use crate::value_type::ValueType;

/// Kafka's names for settings that mean the same.
const SAME: [(&str, &str); 22] = [
    ("auto.create.topics.enable", "kafka.auto_create_topics"),
    ("compression.type", "topic.defaults.compression.type"),
    (
        "group.initial.rebalance.delay.ms",
        "groups.initial_rebalance_delay_ms",
    ),
    (
        "group.max.session.timeout.ms",
        "groups.max_session_timeout_ms",
    ),
    ("group.max.size", "groups.max_size"),
    (
        "group.min.session.timeout.ms",
        "groups.min_session_timeout_ms",
    ),
    ("log.cleanup.policy", "topic.defaults.cleanup.policy"),
    ("log.dirs", "data_dir"),
    (
        "log.message.timestamp.type",
        "topic.defaults.message.timestamp.type",
    ),
    ("log.retention.bytes", "topic.defaults.retention.bytes"),
    (
        "log.retention.check.interval.ms",
        "storage.housekeeping_interval_ms",
    ),
    ("log.retention.ms", "topic.defaults.retention.ms"),
    ("log.roll.ms", "topic.defaults.segment.ms"),
    ("log.segment.bytes", "topic.defaults.segment.bytes"),
    ("message.max.bytes", "topic.defaults.max.message.bytes"),
    ("min.insync.replicas", "topic.defaults.min.insync.replicas"),
    ("num.partitions", "topic.default_partitions"),
    (
        "offset.metadata.max.bytes",
        "groups.offset_metadata_max_bytes",
    ),
    ("offsets.topic.num.partitions", "groups.partitions"),
    (
        "offsets.retention.check.interval.ms",
        "groups.offsets_retention_check_interval_ms",
    ),
    ("producer.id.expiration.ms", "producers.expiration_ms"),
    ("socket.request.max.bytes", "network.max_frame_bytes"),
];

/// One of the broker's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSetting {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What is in force.
    pub value: String,
    /// What would be if nobody had set it; none: nobody has.
    pub default: Option<String>,
    /// What its value is made of.
    pub kind: ValueType,
    /// What it does.
    pub doc: &'static str,
}

impl BrokerSetting {
    /// What is so without being a setting.
    fn fact(name: &'static str, value: String, kind: ValueType, doc: &'static str) -> Self {
        BrokerSetting {
            name: name.into(),
            value,
            default: None,
            kind,
            doc,
        }
    }
}

impl<E: Env> Session<E> {
    /// Everything that is in force, each with the name under which it is shown.
    pub(super) fn broker_settings(&self) -> Vec<(Cow<'static, str>, Cow<'_, BrokerSetting>)> {
        let own = self.settings.broker.iter();
        let own = own.map(|setting| (setting.name.clone(), Cow::Borrowed(setting)));
        let same = SAME.iter().filter_map(|(kafkas, name)| {
            let setting = self.broker_setting(name)?;
            Some((Cow::Borrowed(*kafkas), Cow::Borrowed(setting)))
        });
        let facts = self.facts().into_iter();
        let facts = facts.map(|fact| (fact.name.clone(), Cow::Owned(fact)));
        let mut all: Vec<_> = own.chain(same).chain(facts).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    fn broker_setting(&self, name: &str) -> Option<&BrokerSetting> {
        let mut settings = self.settings.broker.iter();
        settings.find(|setting| setting.name == name)
    }

    /// What the broker has for a topic's key where the topic sets nothing.
    pub(super) fn topic_default(&self, key: &str) -> Option<&BrokerSetting> {
        let of_key = |setting: &&BrokerSetting| {
            let name = setting.name.strip_prefix(TOPIC_DEFAULTS);
            name.is_some_and(|name| name == key)
        };
        self.settings.broker.iter().find(of_key)
    }

    /// What Kafka has a setting for and this broker knows.
    fn facts(&self) -> Vec<BrokerSetting> {
        let node = self.this_node().0.to_string();
        let id = "which broker this is";
        let mut facts = vec![
            BrokerSetting::fact("broker.id", node.clone(), ValueType::Int, id),
            BrokerSetting::fact(
                "default.replication.factor",
                "1".to_owned(),
                ValueType::Int,
                "how many replicas a partition gets; there is one broker",
            ),
            BrokerSetting::fact(
                "delete.topic.enable",
                "true".to_owned(),
                ValueType::Boolean,
                "whether topics can be deleted",
            ),
            BrokerSetting::fact("node.id", node, ValueType::Int, id),
        ];
        if let Some(listeners) = self.listeners() {
            facts.push(self.advertised(&listeners));
            facts.push(listeners);
        }
        facts
    }

    /// Where this broker listens for Kafka clients.
    fn listeners(&self) -> Option<BrokerSetting> {
        let on_both = self.broker_setting("bind")?;
        let is_set = |setting: &&BrokerSetting| setting.default.is_some();
        let alone = self.broker_setting("kafka.bind").filter(is_set);
        let default = match alone {
            Some(_) => Some(&on_both.value),
            None => on_both.default.as_ref(),
        };
        let bound = alone.unwrap_or(on_both);
        let listener = |address: &String| format!("PLAINTEXT://{address}");
        Some(BrokerSetting {
            name: "listeners".into(),
            value: listener(&bound.value),
            default: default.map(listener),
            kind: ValueType::List,
            doc: bound.doc,
        })
    }

    /// Where clients are told to connect to.
    fn advertised(&self, listeners: &BrokerSetting) -> BrokerSetting {
        let host = self.host();
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_string(),
        };
        let mut set_by = ["kafka.advertised_host", "kafka.advertised_port"].into_iter();
        let is_set = set_by.any(|name| {
            let setting = self.broker_setting(name);
            setting.is_some_and(|setting| setting.default.is_some())
        });
        BrokerSetting {
            name: "advertised.listeners".into(),
            value: format!("PLAINTEXT://{host}:{}", self.settings.port),
            default: is_set.then(|| listeners.value.clone()),
            kind: ValueType::List,
            doc: "where clients are told to connect to; see kafka.advertised_host and kafka.advertised_port",
        }
    }
}
