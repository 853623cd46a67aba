//! Configuration: DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44). Topics are
//! configured under Kafka's names; a broker's own settings are shown and cannot be changed from here.

use std::collections::{BTreeMap, BTreeSet};

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::alter_configs_response::AlterConfigsResourceResponse;
use millrace_wire::kafka::control::messages::describe_configs_request::DescribeConfigsResource;
use millrace_wire::kafka::control::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millrace_wire::kafka::control::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_request,
    incremental_alter_configs_request, incremental_alter_configs_response,
};

use super::errors::told;
use super::session::Session;
use crate::controller::state::Command;
use crate::topic_config::TopicConfig;

/// Kafka's numbers for what is configured.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

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

/// Where a topic's value is from.
pub(super) fn source(set: &BTreeMap<String, String>, key: &str, value: &str) -> Source {
    if set.contains_key(key) {
        Source::Topic
    } else if TopicConfig::untouched(key).is_some_and(|untouched| untouched == value) {
        Source::Default
    } else {
        Source::Broker
    }
}

/// What IncrementalAlterConfigs does to a key (KIP-339).
enum Operation {
    Set,
    Delete,
    /// Adds to a list.
    Append,
    /// Takes from a list.
    Subtract,
}

impl Operation {
    fn from_number(number: i8) -> Option<Operation> {
        match number {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// The key whose value is a list.
const LIST_KEY: &str = "cleanup.policy";

/// What is to be set on a topic, and what is to return to its default.
#[derive(Default)]
struct Changes {
    set: Vec<(String, String)>,
    unset: Vec<String>,
}

impl<E: Env> Session<E> {
    pub(super) async fn describe_configs(
        &self,
        request: DescribeConfigsRequest,
    ) -> DescribeConfigsResponse {
        let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
        let mut results = Vec::new();
        let mut seen = BTreeSet::new();
        for resource in request.resources {
            // Each once: a few bytes that ask for the same again must not make an answer of megabytes.
            if !seen.insert((resource.resource_type, resource.resource_name.clone())) {
                continue;
            }
            let described = match resource.resource_type {
                TOPIC => self.topic_configs(&resource, synonyms, documentation),
                BROKER => self.broker_configs(&resource),
                other => Err(no_such_resource(other)),
            };
            let (error_code, message) = told(&described);
            results.push(
                DescribeConfigsResult::default()
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string))
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name)
                    .with_configs(described.unwrap_or_default()),
            );
            self.broker.env.yield_now().await;
        }
        DescribeConfigsResponse::default().with_results(results)
    }

    fn topic_configs(
        &self,
        resource: &DescribeConfigsResource,
        synonyms: bool,
        documentation: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, WireError> {
        let entry = self.broker.topic(&resource.resource_name)?;
        let defaults = self.broker.topic_defaults();
        let by_default: BTreeMap<_, _> = defaults.entries().collect();
        let shown = entry
            .config
            .entries()
            .filter(|(key, _)| is_asked(resource, key));
        let described = shown.map(|(key, value)| {
            let from = source(&entry.topic.configs, key, &value);
            let name = StrBytes::from_static_str(key);
            let mut result = DescribeConfigsResourceResult::default()
                .with_name(name.clone())
                .with_config_source(from as i8)
                .with_config_type(kind(key));
            if synonyms {
                // What would be in force without what is, from the strongest to the weakest.
                let synonym = |value: String, from: Source| {
                    DescribeConfigsSynonym::default()
                        .with_name(name.clone())
                        .with_value(Some(StrBytes::from_string(value)))
                        .with_source(from as i8)
                };
                let default = by_default.get(key).cloned().unwrap_or_default();
                let below = source(&BTreeMap::new(), key, &default);
                if from == Source::Topic {
                    result.synonyms.push(synonym(value.clone(), from));
                }
                result.synonyms.push(synonym(default, below));
            }
            if documentation {
                result.documentation = TopicConfig::doc(key).map(StrBytes::from_static_str);
            }
            result.with_value(Some(StrBytes::from_string(value)))
        });
        Ok(described.collect())
    }

    /// What of the broker's own settings concerns its clients.
    fn broker_configs(
        &self,
        resource: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, WireError> {
        let this = self.this_node().0.to_string();
        if *resource.resource_name != *this {
            let asked = &resource.resource_name;
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!("there is no broker '{asked}'; there is one, '{this}'"),
            ));
        }
        let own = [
            (
                "kafka.auto_create_topics".to_owned(),
                self.settings.auto_create_topics.to_string(),
            ),
            (
                "kafka.advertised_port".to_owned(),
                self.settings.port.to_string(),
            ),
        ];
        let defaults = self.broker.topic_defaults();
        let defaults = defaults
            .entries()
            .map(|(key, value)| (format!("topic.defaults.{key}"), value));
        let shown = own.into_iter().chain(defaults);
        let shown = shown.filter(|(key, _)| is_asked(resource, key));
        let described = shown.map(|(key, value)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_string(key))
                .with_value(Some(StrBytes::from_string(value)))
                .with_read_only(true)
                .with_config_source(Source::Broker as i8)
        });
        Ok(described.collect())
    }

    /// The older way: whatever is not named returns to its default.
    pub(super) async fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let mut responses = Vec::with_capacity(request.resources.len());
        let mut seen = BTreeSet::new();
        for resource in request.resources {
            let altered =
                match seen.insert((resource.resource_type, resource.resource_name.clone())) {
                    true => self.replace_configs(&resource, request.validate_only).await,
                    false => Err(named_twice()),
                };
            let (error_code, message) = told(&altered);
            responses.push(
                AlterConfigsResourceResponse::default()
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string))
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name),
            );
            self.broker.env.yield_now().await;
        }
        AlterConfigsResponse::default().with_responses(responses)
    }

    async fn replace_configs(
        &self,
        resource: &alter_configs_request::AlterConfigsResource,
        validate_only: bool,
    ) -> Result<(), WireError> {
        check_alterable(resource.resource_type)?;
        let entry = self.broker.topic(&resource.resource_name)?;
        let mut changes = Changes::default();
        for config in &resource.configs {
            if let Some(value) = &config.value {
                changes
                    .set
                    .push((config.name.to_string(), value.to_string()));
            }
        }
        let kept = |key: &str| changes.set.iter().any(|(name, _)| name == key);
        let dropped = entry.topic.configs.keys().filter(|key| !kept(key));
        changes.unset = dropped.cloned().collect();
        self.alter(&resource.resource_name, changes, validate_only)
            .await
    }

    pub(super) async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let mut responses = Vec::with_capacity(request.resources.len());
        let mut seen = BTreeSet::new();
        for resource in request.resources {
            let first = seen.insert((resource.resource_type, resource.resource_name.clone()));
            let changes = if first {
                self.changes(&resource)
            } else {
                Err(named_twice())
            };
            let altered = match changes {
                Ok(changes) => {
                    let name = &resource.resource_name;
                    self.alter(name, changes, request.validate_only).await
                }
                Err(error) => Err(error),
            };
            let (error_code, message) = told(&altered);
            responses.push(
                incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string))
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name),
            );
            self.broker.env.yield_now().await;
        }
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }

    fn changes(
        &self,
        resource: &incremental_alter_configs_request::AlterConfigsResource,
    ) -> Result<Changes, WireError> {
        let invalid = |message: String| WireError::new(ErrorCode::InvalidRequest, message);
        check_alterable(resource.resource_type)?;
        let entry = self.broker.topic(&resource.resource_name)?;
        let mut changes = Changes::default();
        let mut seen = BTreeSet::new();
        for config in &resource.configs {
            let name = config.name.to_string();
            if !seen.insert(name.clone()) {
                return Err(invalid(format!(
                    "'{name}' is changed more than once; change it once"
                )));
            }
            let operation = Operation::from_number(config.config_operation)
                .ok_or_else(|| invalid(format!("{} is no operation", config.config_operation)))?;
            let value = config.value.as_deref();
            let value = || value.ok_or_else(|| invalid(format!("'{name}' has no value to set")));
            match operation {
                Operation::Delete => changes.unset.push(name),
                Operation::Set => {
                    let value = value()?.to_owned();
                    changes.set.push((name, value));
                }
                Operation::Append | Operation::Subtract if name != LIST_KEY => {
                    return Err(invalid(format!("'{name}' is no list; set it")));
                }
                Operation::Append | Operation::Subtract => {
                    let mut entries = entry.config.entries();
                    let present = entries.find(|(key, _)| *key == LIST_KEY);
                    let present = present.map(|(_, value)| value).unwrap_or_default();
                    let listed = merged(&present, value()?, matches!(operation, Operation::Append));
                    changes.set.push((name, listed));
                }
            }
        }
        Ok(changes)
    }

    async fn alter(
        &self,
        name: &str,
        changes: Changes,
        validate_only: bool,
    ) -> Result<(), WireError> {
        let command = Command::AlterConfig {
            name: name.to_owned(),
            set: changes.set,
            unset: changes.unset,
            validate_only,
        };
        self.broker.command(command).await.map(drop)
    }
}

/// A list with entries added or taken away.
fn merged(present: &str, change: &str, add: bool) -> String {
    let split = |text: &str| -> Vec<String> {
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        entries.map(str::to_owned).collect()
    };
    let mut listed = split(present);
    for entry in split(change) {
        match (add, listed.iter().position(|present| *present == entry)) {
            (true, None) => listed.push(entry),
            (false, Some(place)) => drop(listed.remove(place)),
            _ => {}
        }
    }
    listed.join(",")
}

fn is_asked(resource: &DescribeConfigsResource, key: &str) -> bool {
    let asked = resource.configuration_keys.as_ref();
    asked.is_none_or(|keys| keys.is_empty() || keys.iter().any(|asked| **asked == *key))
}

/// Kafka's number for what a key's value is.
fn kind(key: &str) -> i8 {
    const TEXT: i8 = 2;
    const INT: i8 = 3;
    const LONG: i8 = 5;
    const LIST: i8 = 7;
    match key {
        LIST_KEY => LIST,
        "compression.type" | "message.timestamp.type" => TEXT,
        "max.message.bytes" | "min.insync.replicas" => INT,
        _ => LONG,
    }
}

fn check_alterable(resource_type: i8) -> Result<(), WireError> {
    match resource_type {
        TOPIC => Ok(()),
        BROKER => Err(WireError::new(
            ErrorCode::InvalidRequest,
            "a broker's settings are set in its configuration file and read when it starts",
        )),
        other => Err(no_such_resource(other)),
    }
}

fn named_twice() -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        "the request names this resource more than once; name it once",
    )
}

fn no_such_resource(number: i8) -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        format!(
            "resources of type {number} are not configured here; topics (2) and brokers (4) are"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn lists_grow_and_shrink() {
        assert_eq!(merged("delete", "compact", true), "delete,compact");
        assert_eq!(merged("delete", "delete", true), "delete");
        assert_eq!(merged("delete,compact", "delete", false), "compact");
        assert_eq!(merged("delete", "", false), "delete");
    }
}
