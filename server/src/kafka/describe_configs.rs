//! DescribeConfigs (32): the settings of topics and of this broker, each with where its value is from.

use std::collections::{BTreeMap, BTreeSet};

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::describe_configs_request::DescribeConfigsResource;
use millrace_wire::kafka::control::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millrace_wire::kafka::control::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::broker_settings::BrokerSetting;
use super::configs::{BROKER, TOPIC, no_such_resource};
use super::errors::told;
use super::session::Session;
use crate::controller::state::shown as escaped;
use crate::topic_config::TopicConfig;
use crate::value_type::ValueType;

/// Where a value is from, in Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set by the broker's own configuration.
    Broker = 4,
    /// Set by nobody.
    Default = 5,
}

/// A value that is in force, or would be without those before it.
struct Synonym {
    name: String,
    value: String,
    source: Source,
}

/// A setting to be shown.
struct Shown {
    name: String,
    kind: ValueType,
    doc: Option<&'static str>,
    read_only: bool,
    /// From the strongest, which is in force, to the weakest.
    synonyms: Vec<Synonym>,
}

/// What a client wants to know of each setting.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

impl<E: Env> Session<E> {
    pub(super) async fn describe_configs(
        &self,
        request: DescribeConfigsRequest,
    ) -> DescribeConfigsResponse {
        let wanted = Wanted {
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let mut results = Vec::new();
        let mut seen = BTreeSet::new();
        for resource in request.resources {
            // Each once: a few bytes that ask for the same again must not make an answer of megabytes.
            if !seen.insert((resource.resource_type, resource.resource_name.clone())) {
                continue;
            }
            let shown = self.settings_of(&resource);
            let (error_code, message) = told(&shown);
            let shown = shown.unwrap_or_default().into_iter();
            let shown = shown.map(|setting| setting.described(wanted)).collect();
            results.push(
                DescribeConfigsResult::default()
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string))
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name)
                    .with_configs(shown),
            );
            self.broker.env.yield_now().await;
        }
        DescribeConfigsResponse::default().with_results(results)
    }

    /// The settings of a resource that are asked for.
    fn settings_of(&self, resource: &DescribeConfigsResource) -> Result<Vec<Shown>, WireError> {
        let mut shown = match resource.resource_type {
            TOPIC => self.topic_settings(&resource.resource_name)?,
            BROKER => self.settings_of_broker(&resource.resource_name)?,
            other => return Err(no_such_resource(other)),
        };
        // No names stand for all, as null does.
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        if !keys.is_empty() {
            let keys: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
            shown.retain(|setting| keys.contains(setting.name.as_str()));
        }
        Ok(shown)
    }

    fn topic_settings(&self, topic: &str) -> Result<Vec<Shown>, WireError> {
        let entry = self.broker.topic(topic)?;
        let defaults = self.broker.topic_defaults();
        let in_force = entry.config.entries().zip(defaults.entries());
        let shown = in_force.map(|((key, value), (_, default))| {
            let mut synonyms = Vec::new();
            if entry.topic.configs.contains_key(key) {
                synonyms.push(Synonym {
                    name: key.to_owned(),
                    value,
                    source: Source::Topic,
                });
            }
            match self.topic_default(key) {
                Some(setting) => synonyms.extend(by_broker(setting)),
                None => synonyms.push(Synonym {
                    name: key.to_owned(),
                    value: default,
                    source: Source::Default,
                }),
            }
            Shown {
                name: key.to_owned(),
                kind: TopicConfig::kind(key).unwrap_or(ValueType::Text),
                doc: TopicConfig::doc(key),
                read_only: false,
                synonyms,
            }
        });
        Ok(shown.collect())
    }

    /// Where a topic's value is from.
    pub(super) fn topic_source(&self, set: &BTreeMap<String, String>, key: &str) -> Source {
        if set.contains_key(key) {
            return Source::Topic;
        }
        let default = self.topic_default(key);
        match default.is_some_and(|setting| setting.default.is_some()) {
            true => Source::Broker,
            false => Source::Default,
        }
    }

    fn settings_of_broker(&self, asked: &str) -> Result<Vec<Shown>, WireError> {
        // No name stands for what was changed on all brokers while they ran; nothing can be.
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let this = self.this_node().0;
        if asked.parse() != Ok(this) {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "there is no broker '{}'; there is one, '{this}'",
                    escaped(asked)
                ),
            ));
        }
        let settings = self.broker_settings().into_iter();
        let shown = settings.map(|(name, setting)| Shown {
            name: name.into_owned(),
            kind: setting.kind,
            doc: Some(setting.doc),
            read_only: true,
            synonyms: by_broker(&setting).collect(),
        });
        Ok(shown.collect())
    }
}

/// What is in force by the broker's own configuration, and below it.
fn by_broker(setting: &BrokerSetting) -> impl Iterator<Item = Synonym> {
    let synonym = |value: &str, source| Synonym {
        name: setting.name.to_string(),
        value: value.to_owned(),
        source,
    };
    let synonyms = match &setting.default {
        Some(default) => vec![
            synonym(&setting.value, Source::Broker),
            synonym(default, Source::Default),
        ],
        None => vec![synonym(&setting.value, Source::Default)],
    };
    synonyms.into_iter()
}

impl Shown {
    fn described(self, wanted: Wanted) -> DescribeConfigsResourceResult {
        let is_secret = self.kind == ValueType::Secret;
        let value = |value: &str| (!is_secret).then(|| StrBytes::from_string(value.to_owned()));
        let in_force = self.synonyms.first();
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(self.name))
            .with_value(in_force.and_then(|synonym| value(&synonym.value)))
            .with_config_source(in_force.map_or(Source::Default, |synonym| synonym.source) as i8)
            .with_config_type(number(self.kind))
            .with_is_sensitive(is_secret)
            .with_read_only(self.read_only);
        // Null where it is not asked for; the library would send an empty text.
        let doc = self.doc.filter(|_| wanted.documentation);
        result.documentation = doc.map(StrBytes::from_static_str);
        if wanted.synonyms {
            let synonyms = self.synonyms.into_iter().map(|synonym| {
                DescribeConfigsSynonym::default()
                    .with_value(value(&synonym.value))
                    .with_name(StrBytes::from_string(synonym.name))
                    .with_source(synonym.source as i8)
            });
            result.synonyms = synonyms.collect();
        }
        result
    }
}

/// Kafka's number for what a value is made of.
fn number(kind: ValueType) -> i8 {
    match kind {
        ValueType::Boolean => 1,
        ValueType::Text => 2,
        ValueType::Int => 3,
        ValueType::Long => 5,
        ValueType::List => 7,
        ValueType::Secret => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let setting = BrokerSetting {
            name: "password".into(),
            value: "swordfish".into(),
            default: Some("swordfish too".into()),
            kind: ValueType::Secret,
            doc: "opens the door",
        };
        let shown = Shown {
            name: "password".into(),
            kind: setting.kind,
            doc: Some(setting.doc),
            read_only: true,
            synonyms: by_broker(&setting).collect(),
        };
        let described = shown.described(Wanted {
            synonyms: true,
            documentation: true,
        });
        assert!(described.is_sensitive);
        assert_eq!((described.config_type, described.config_source), (9, 4));
        assert_eq!(described.synonyms.len(), 2);
        assert!(!format!("{described:?}").contains("swordfish"));
    }
}
