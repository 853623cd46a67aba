//! Configuration over Kafka's protocol: topics are described and changed resource by resource, a
//! broker is described and not changed.

mod kafka_client;
mod process;

use std::collections::BTreeMap;

use kafka_client::admin::*;
use kafka_client::text;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::messages::alter_configs_request;
use millrace_wire::kafka::control::messages::describe_configs_request::DescribeConfigsResource;
use millrace_wire::kafka::control::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use millrace_wire::kafka::control::messages::incremental_alter_configs_request;

// What is configured.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

// Where a value is from.
const BY_TOPIC: i8 = 1;
const BY_BROKER: i8 = 4;
const BY_NOBODY: i8 = 5;

// What a value is made of.
const BOOLEAN: i8 = 1;
const TEXT: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;

// What is done to a key.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource that is to be described: all of its keys, or these.
fn described(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys)
}

/// Asks for resources with everything that the version can tell of them.
fn describe(
    admin: &mut Admin,
    version: i16,
    resources: Vec<DescribeConfigsResource>,
) -> Vec<DescribeConfigsResult> {
    let request = m::DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    let answer = admin.client.ask(ApiKey::DescribeConfigs, version, request);
    expect!(answer, DescribeConfigs).results
}

fn by_name(described: &DescribeConfigsResult) -> BTreeMap<&str, &DescribeConfigsResourceResult> {
    let configs = described.configs.iter();
    let named: BTreeMap<_, _> = configs.map(|config| (&*config.name, config)).collect();
    assert_eq!(named.len(), described.configs.len(), "each once");
    named
}

/// A setting's value, source and synonyms: each with its name, value and source.
fn told(config: &DescribeConfigsResourceResult) -> (&str, i8, Vec<(&str, &str, i8)>) {
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|s| (&*s.name, s.value.as_deref().expect("a value"), s.source));
    let value = config.value.as_deref().expect("a value");
    (value, config.config_source, synonyms.collect())
}

/// What is set on a topic itself.
fn set_on(admin: &mut Admin, topic: &str) -> Vec<(String, String)> {
    let described = describe(admin, 4, vec![described(TOPIC, topic, None)]);
    let configs = described[0].configs.iter();
    let set = configs.filter(|config| config.config_source == BY_TOPIC);
    let set = set.map(|config| {
        let value = config.value.as_deref().unwrap_or_default();
        (config.name.to_string(), value.to_owned())
    });
    set.collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn a_topic_shows_every_key_and_where_its_value_is_from() {
    let mut admin = Admin::start_with(&[
        "--set",
        "topic.defaults.segment.ms=100000",
        // What it is in any case: set all the same.
        "--set",
        "topic.defaults.retention.bytes=-1",
    ]);
    admin.must_create("here", 1);
    let before = describe(&mut admin, 4, vec![described(TOPIC, "here", None)]);
    alter(
        &mut admin,
        2,
        &[(
            "here",
            &[("retention.ms", Some("5000")), ("segment.ms", Some("7000"))],
        )],
        false,
    );
    for version in ends(ApiKey::DescribeConfigs) {
        let result = &describe(&mut admin, version, vec![described(TOPIC, "here", None)])[0];
        assert_eq!((result.error_code, &*result.resource_name), (NONE, "here"));
        let configs = by_name(result);
        assert_eq!(configs.len(), before[0].configs.len());
        let (week, own) = ("604800000", "topic.defaults.retention.ms");
        let synonyms = vec![("retention.ms", "5000", BY_TOPIC), (own, week, BY_NOBODY)];
        assert_eq!(told(configs["retention.ms"]), ("5000", BY_TOPIC, synonyms));
        let own = "topic.defaults.segment.ms";
        let below = [(own, "100000", BY_BROKER), (own, week, BY_NOBODY)];
        let synonyms = [vec![("segment.ms", "7000", BY_TOPIC)], below.to_vec()].concat();
        assert_eq!(told(configs["segment.ms"]), ("7000", BY_TOPIC, synonyms));
        let own = "topic.defaults.retention.bytes";
        let synonyms = vec![(own, "-1", BY_BROKER), (own, "-1", BY_NOBODY)];
        assert_eq!(
            told(configs["retention.bytes"]),
            ("-1", BY_BROKER, synonyms)
        );
        let synonyms = vec![("topic.defaults.cleanup.policy", "delete", BY_NOBODY)];
        assert_eq!(
            told(configs["cleanup.policy"]),
            ("delete", BY_NOBODY, synonyms)
        );
        assert!(
            result
                .configs
                .iter()
                .all(|config| !config.read_only && !config.is_sensitive)
        );
        if version >= 3 {
            let kinds = [
                "cleanup.policy",
                "compression.type",
                "max.message.bytes",
                "retention.ms",
            ];
            let kinds = kinds.map(|key| configs[key].config_type);
            assert_eq!(kinds, [LIST, TEXT, INT, LONG]);
            let said = |config: &DescribeConfigsResourceResult| config.documentation.is_some();
            assert!(result.configs.iter().all(said));
        }
    }
}

#[test]
fn what_is_not_asked_for_is_not_told() {
    let mut admin = Admin::start();
    admin.must_create("here", 1);
    let node = admin.this_node().0.to_string();
    let resources = vec![
        described(TOPIC, "here", None),
        described(BROKER, &node, None),
    ];
    let request = m::DescribeConfigsRequest::default().with_resources(resources);
    let answer = admin.client.ask(ApiKey::DescribeConfigs, 4, request);
    let results = expect!(answer, DescribeConfigs).results;
    assert_eq!(results.len(), 2);
    for config in results.iter().flat_map(|result| &result.configs) {
        assert!(config.synonyms.is_empty(), "{config:?}");
        assert_eq!(config.documentation, None, "{config:?}");
    }
}

#[test]
fn resources_are_described_one_by_one() {
    let mut admin = Admin::start();
    admin.must_create("here", 1);
    let node = admin.this_node().0.to_string();
    for version in ends(ApiKey::DescribeConfigs) {
        let resources = vec![
            described(TOPIC, "nowhere", None),
            described(TOPIC, "no/name", None),
            described(BROKER, "9999", None),
            described(BROKER, "me", None),
            described(BROKER_LOGGER, &node, None),
            described(99, "", None),
            described(TOPIC, "here", Some(&["retention.ms", "no.such.key"])),
            described(
                BROKER,
                &node,
                Some(&["num.partitions", "topic.default_partitions"]),
            ),
            // What brokers were told while they ran: nothing.
            described(BROKER, "", None),
        ];
        let results = describe(&mut admin, version, resources);
        let told = results.iter().map(|result| {
            let keys = result.configs.iter().map(|config| &*config.name);
            (result.error_code, keys.collect::<Vec<_>>())
        });
        let expected = [
            (UNKNOWN_TOPIC_OR_PARTITION, vec![]),
            (INVALID_TOPIC, vec![]),
            (INVALID_REQUEST, vec![]),
            (INVALID_REQUEST, vec![]),
            (INVALID_REQUEST, vec![]),
            (INVALID_REQUEST, vec![]),
            (NONE, vec!["retention.ms"]),
            (NONE, vec!["num.partitions", "topic.default_partitions"]),
            (NONE, vec![]),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected, "version {version}");
    }
}

#[test]
fn a_broker_shows_what_is_in_force_under_its_names_and_kafkas() {
    let mut admin = Admin::start_with(&[
        "--set",
        "topic.default_partitions=3",
        "--set",
        "topic.defaults.retention.ms=5000",
        "--set",
        "journal.linger_us=2ms",
        "--set",
        "kafka.advertised_host=broker.example.com",
    ]);
    let node = admin.this_node().0.to_string();
    let port = admin.address().port();
    for version in ends(ApiKey::DescribeConfigs) {
        let result = &describe(&mut admin, version, vec![described(BROKER, &node, None)])[0];
        assert_eq!(result.error_code, NONE, "{result:?}");
        let configs = by_name(result);
        for key in millrace_server::config::keys() {
            assert!(
                configs.contains_key(&*key.name),
                "{} is not shown",
                key.name
            );
        }
        assert!(result.configs.iter().all(|config| config.read_only));
        let own = "topic.default_partitions";
        let synonyms = vec![(own, "3", BY_BROKER), (own, "1", BY_NOBODY)];
        for key in [own, "num.partitions"] {
            assert_eq!(
                told(configs[key]),
                ("3", BY_BROKER, synonyms.clone()),
                "{key}"
            );
        }
        let own = "topic.defaults.retention.ms";
        let synonyms = vec![(own, "5000", BY_BROKER), (own, "604800000", BY_NOBODY)];
        for key in [own, "log.retention.ms"] {
            assert_eq!(
                told(configs[key]),
                ("5000", BY_BROKER, synonyms.clone()),
                "{key}"
            );
        }
        let own = "kafka.auto_create_topics";
        for key in [own, "auto.create.topics.enable"] {
            let synonyms = vec![(own, "true", BY_NOBODY)];
            assert_eq!(told(configs[key]), ("true", BY_NOBODY, synonyms), "{key}");
        }
        let value = |key: &str| configs[key].value.as_deref().expect("a value");
        assert_eq!(value("journal.linger_us"), "2000", "a number of its unit");
        assert_eq!(value("shards"), "2");
        assert_eq!(value("journal.file_bytes"), (4 << 20).to_string());
        let unwritten: u64 = value("storage.unwritten_bytes")
            .parse()
            .expect("what auto means here");
        assert!(unwritten >= 64 << 20);
        assert_eq!(value("log.dirs"), value("data_dir"));
        assert_eq!((value("broker.id"), value("node.id")), (&*node, &*node));
        assert_eq!(value("default.replication.factor"), "1");
        assert_eq!(value("listeners"), format!("PLAINTEXT://127.0.0.1:{port}"));
        let advertised = format!("PLAINTEXT://broker.example.com:{port}");
        assert_eq!(value("advertised.listeners"), advertised);
        let from = |key: &str| configs[key].config_source;
        let set = [
            "listeners",
            "advertised.listeners",
            "bind",
            "kafka.advertised_host",
        ];
        assert_eq!(set.map(from), [BY_BROKER; 4]);
        let facts = [
            "node.id",
            "default.replication.factor",
            "delete.topic.enable",
        ];
        assert_eq!(facts.map(from), [BY_NOBODY; 3]);
        if version >= 3 {
            let kinds = [
                "shards",
                "data_dir",
                "kafka.auto_create_topics",
                "cache.bytes",
            ];
            let kinds = kinds.map(|key| configs[key].config_type);
            assert_eq!(kinds, [INT, TEXT, BOOLEAN, LONG]);
            let said = |config: &DescribeConfigsResourceResult| config.documentation.is_some();
            assert!(result.configs.iter().all(said));
        }
    }
}

/// Keys, and what they are to be.
type Values<'a> = &'a [(&'a str, Option<&'a str>)];

/// A resource's name, and what its keys are to be.
type Replaced<'a> = (&'a str, Values<'a>);

/// Replaces what is set on topics; their errors. A name that begins with '#' is a broker's.
fn alter(admin: &mut Admin, version: i16, resources: &[Replaced], validate_only: bool) -> Vec<i16> {
    let resources = resources.iter().map(|(name, configs)| {
        let configs = configs.iter().map(|(key, value)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_value(value.map(text))
        });
        let (kind, name) = kind_of(name);
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    });
    let request = m::AlterConfigsRequest::default()
        .with_resources(resources.collect())
        .with_validate_only(validate_only);
    let answer = admin.client.ask(ApiKey::AlterConfigs, version, request);
    let responses = expect!(answer, AlterConfigs).responses;
    responses
        .iter()
        .map(|response| response.error_code)
        .collect()
}

fn kind_of(name: &str) -> (i8, &str) {
    match name.strip_prefix('#') {
        Some(broker) => (BROKER, broker),
        None => (TOPIC, name),
    }
}

#[test]
fn what_is_set_on_topics_is_replaced_one_by_one() {
    let mut admin = Admin::start();
    let broker = format!("#{}", admin.this_node().0);
    for version in ends(ApiKey::AlterConfigs) {
        let (first, last) = (format!("first-{version}"), format!("last-{version}"));
        let twice = format!("twice-{version}");
        for name in [&first, &last, &twice] {
            admin.must_create(name, 1);
            let began = alter(
                &mut admin,
                2,
                &[(name, &[("segment.ms", Some("9000"))])],
                false,
            );
            assert_eq!(began, [NONE]);
        }
        let items: &[(Replaced, i16)] = &[
            ((&first, &[("retention.ms", Some("1000"))]), NONE),
            (
                ("nowhere", &[("retention.ms", Some("1"))]),
                UNKNOWN_TOPIC_OR_PARTITION,
            ),
            (("no/name", &[("retention.ms", Some("1"))]), INVALID_TOPIC),
            ((&twice, &[("retention.ms", Some("1"))]), INVALID_REQUEST),
            (
                (&broker, &[("topic.default_partitions", Some("1"))]),
                INVALID_REQUEST,
            ),
            ((&twice, &[("retention.ms", Some("2"))]), INVALID_REQUEST),
            ((&last, &[]), NONE),
        ];
        let before = [&first, &last, &twice].map(|name| set_on(&mut admin, name));
        for validate_only in [true, false] {
            let asked: Vec<_> = items.iter().map(|(item, _)| *item).collect();
            let told = alter(&mut admin, version, &asked, validate_only);
            let expected: Vec<_> = items.iter().map(|(_, code)| *code).collect();
            assert_eq!(told, expected, "version {version}");
            if validate_only {
                let now = [&first, &last, &twice].map(|name| set_on(&mut admin, name));
                assert_eq!(now, before);
            }
        }
        // What is not named returns to its default.
        assert_eq!(
            set_on(&mut admin, &first),
            pairs(&[("retention.ms", "1000")])
        );
        assert_eq!(set_on(&mut admin, &last), []);
        assert_eq!(set_on(&mut admin, &twice), pairs(&[("segment.ms", "9000")]));
        // Whatever is wrong with one key, none is changed.
        let wrong: &[(Values, i16)] = &[
            (
                &[("segment.ms", Some("5")), ("no.such.key", Some("1"))],
                INVALID_CONFIG,
            ),
            (
                &[("segment.ms", Some("5")), ("retention.ms", Some("soon"))],
                INVALID_CONFIG,
            ),
            (
                &[("segment.ms", Some("5")), ("segment.ms", Some("5"))],
                INVALID_REQUEST,
            ),
            (
                &[("segment.ms", Some("5")), ("retention.ms", None)],
                INVALID_REQUEST,
            ),
        ];
        for (configs, code) in wrong {
            assert_eq!(
                alter(&mut admin, version, &[(&first, configs)], false),
                [*code]
            );
            assert_eq!(
                set_on(&mut admin, &first),
                pairs(&[("retention.ms", "1000")])
            );
        }
    }
}

/// A resource's name, and what is done to its keys.
type Changed<'a> = (&'a str, &'a [(&'a str, i8, Option<&'a str>)]);

/// Changes what is set on topics; their errors.
fn change(admin: &mut Admin, version: i16, resources: &[Changed], validate_only: bool) -> Vec<i16> {
    let resources = resources.iter().map(|(name, configs)| {
        let configs = configs.iter().map(|(key, operation, value)| {
            incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        });
        let (kind, name) = kind_of(name);
        incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    });
    let request = m::IncrementalAlterConfigsRequest::default()
        .with_resources(resources.collect())
        .with_validate_only(validate_only);
    let answer = admin
        .client
        .ask(ApiKey::IncrementalAlterConfigs, version, request);
    let responses = expect!(answer, IncrementalAlterConfigs).responses;
    responses
        .iter()
        .map(|response| response.error_code)
        .collect()
}

#[test]
fn what_is_set_on_topics_is_changed_one_by_one() {
    let mut admin = Admin::start();
    let broker = format!("#{}", admin.this_node().0);
    for version in ends(ApiKey::IncrementalAlterConfigs) {
        let (first, last) = (format!("first-{version}"), format!("last-{version}"));
        let twice = format!("twice-{version}");
        for name in [&first, &last, &twice] {
            admin.must_create(name, 1);
            let began = change(
                &mut admin,
                1,
                &[(name, &[("segment.ms", SET, Some("9000"))])],
                false,
            );
            assert_eq!(began, [NONE]);
        }
        let items: &[(Changed, i16)] = &[
            ((&first, &[("retention.ms", SET, Some("1000"))]), NONE),
            (
                ("nowhere", &[("retention.ms", SET, Some("1"))]),
                UNKNOWN_TOPIC_OR_PARTITION,
            ),
            (
                ("no/name", &[("retention.ms", SET, Some("1"))]),
                INVALID_TOPIC,
            ),
            (
                (&twice, &[("retention.ms", SET, Some("1"))]),
                INVALID_REQUEST,
            ),
            (
                (&broker, &[("num.partitions", SET, Some("1"))]),
                INVALID_REQUEST,
            ),
            ((&twice, &[("segment.ms", DELETE, None)]), INVALID_REQUEST),
            (
                (
                    &last,
                    &[
                        ("segment.ms", DELETE, None),
                        ("cleanup.policy", APPEND, Some("delete")),
                    ],
                ),
                NONE,
            ),
        ];
        let before = [&first, &last, &twice].map(|name| set_on(&mut admin, name));
        for validate_only in [true, false] {
            let asked: Vec<_> = items.iter().map(|(item, _)| *item).collect();
            let told = change(&mut admin, version, &asked, validate_only);
            let expected: Vec<_> = items.iter().map(|(_, code)| *code).collect();
            assert_eq!(told, expected, "version {version}");
            if validate_only {
                let now = [&first, &last, &twice].map(|name| set_on(&mut admin, name));
                assert_eq!(now, before);
            }
        }
        let both = pairs(&[("retention.ms", "1000"), ("segment.ms", "9000")]);
        assert_eq!(set_on(&mut admin, &first), both);
        assert_eq!(
            set_on(&mut admin, &last),
            pairs(&[("cleanup.policy", "delete")])
        );
        assert_eq!(set_on(&mut admin, &twice), pairs(&[("segment.ms", "9000")]));
        // Whatever is wrong with one key, none is changed.
        let good = ("segment.ms", SET, Some("5"));
        let wrong = [
            (("no.such.key", SET, Some("1")), INVALID_CONFIG),
            (("no.such.key", DELETE, None), INVALID_CONFIG),
            (("retention.ms", SET, Some("soon")), INVALID_CONFIG),
            (("retention.ms", APPEND, Some("1")), INVALID_CONFIG),
            (("cleanup.policy", SUBTRACT, Some("delete")), INVALID_CONFIG),
            (("segment.ms", DELETE, None), INVALID_REQUEST),
            (("retention.ms", SET, None), INVALID_REQUEST),
            (("cleanup.policy", APPEND, None), INVALID_REQUEST),
            (("retention.ms", 9, Some("1")), INVALID_REQUEST),
        ];
        for (change_too, code) in wrong {
            let told = change(&mut admin, version, &[(&first, &[good, change_too])], false);
            assert_eq!(told, [code], "{change_too:?}");
            assert_eq!(set_on(&mut admin, &first), both);
        }
    }
}
