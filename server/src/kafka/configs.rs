//! Configuring: AlterConfigs (33), IncrementalAlterConfigs (44). Topics are configured under Kafka's
//! names; a broker's own settings cannot be changed from here.

use std::collections::BTreeSet;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::alter_configs_response::AlterConfigsResourceResponse;
use millrace_wire::kafka::control::messages::incremental_alter_configs_request::AlterableConfig;
use millrace_wire::kafka::control::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, alter_configs_request, incremental_alter_configs_request,
    incremental_alter_configs_response,
};

use super::errors::told;
use super::repeated::{Repeated, Turn};
use super::session::Session;
use crate::controller::state::{Command, shown};
use crate::topic_config::TopicConfig;
use crate::value_type::ValueType;

/// Kafka's numbers for what is configured.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// What IncrementalAlterConfigs does to a key (KIP-339).
enum Operation<'a> {
    Set(&'a str),
    Delete,
    /// Adds to a list.
    Append(&'a str),
    /// Takes from a list.
    Subtract(&'a str),
}

fn operation(config: &AlterableConfig) -> Result<Operation<'_>, WireError> {
    let value = || {
        config
            .value
            .as_deref()
            .ok_or_else(|| no_value(&config.name))
    };
    match config.config_operation {
        0 => value().map(Operation::Set),
        1 => Ok(Operation::Delete),
        2 => value().map(Operation::Append),
        3 => value().map(Operation::Subtract),
        other => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "there is no operation {other}; there are 0 (set), 1 (delete), 2 (append) and 3 (subtract)"
            ),
        )),
    }
}

/// What is to be set on a topic, and what is to return to its default.
#[derive(Default)]
struct Changes {
    set: Vec<(String, String)>,
    unset: Vec<String>,
}

impl<E: Env> Session<E> {
    /// The older way: whatever is not named returns to its default.
    pub(super) async fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let named = request.resources.iter();
        let named = named.map(|resource| (resource.resource_type, resource.resource_name.clone()));
        let mut repeated = Repeated::among(named);
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let altered =
                match repeated.turn(&(resource.resource_type, resource.resource_name.clone())) {
                    Turn::Only => self.replace_configs(&resource, request.validate_only).await,
                    Turn::First | Turn::Again => Err(named_twice()),
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
        let mut changes = Changes::default();
        let mut kept = BTreeSet::new();
        for config in &resource.configs {
            let name = &*config.name;
            if !kept.insert(name) {
                return Err(changed_twice(name));
            }
            let value = config.value.as_ref().ok_or_else(|| no_value(name))?;
            changes.set.push((name.to_owned(), value.to_string()));
        }
        let entry = self.broker.topic(&resource.resource_name)?;
        let kept = |key: &str| kept.contains(key);
        let dropped = entry.topic.configs.keys().filter(|key| !kept(key));
        changes.unset = dropped.cloned().collect();
        self.alter(&resource.resource_name, changes, validate_only)
            .await
    }

    pub(super) async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let named = request.resources.iter();
        let named = named.map(|resource| (resource.resource_type, resource.resource_name.clone()));
        let mut repeated = Repeated::among(named);
        let mut responses = Vec::with_capacity(request.resources.len());
        for resource in request.resources {
            let turn = repeated.turn(&(resource.resource_type, resource.resource_name.clone()));
            let changes = match turn {
                Turn::Only => self.changes(&resource),
                Turn::First | Turn::Again => Err(named_twice()),
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
        check_alterable(resource.resource_type)?;
        let mut wanted = Vec::with_capacity(resource.configs.len());
        let mut seen = BTreeSet::new();
        for config in &resource.configs {
            let name = &*config.name;
            if !seen.insert(name) {
                return Err(changed_twice(name));
            }
            wanted.push((name, operation(config)?));
        }
        let entry = self.broker.topic(&resource.resource_name)?;
        let mut changes = Changes::default();
        for (name, operation) in wanted {
            let (value, add) = match operation {
                Operation::Delete => {
                    changes.unset.push(name.to_owned());
                    continue;
                }
                Operation::Set(value) => {
                    changes.set.push((name.to_owned(), value.to_owned()));
                    continue;
                }
                Operation::Append(value) => (value, true),
                Operation::Subtract(value) => (value, false),
            };
            if TopicConfig::kind(name) != Some(ValueType::List) {
                return Err(WireError::new(
                    ErrorCode::InvalidConfig,
                    format!("'{}' is no list; set it", shown(name)),
                ));
            }
            let mut entries = entry.config.entries();
            let present = entries.find(|(key, _)| *key == name);
            let present = present.map(|(_, value)| value).unwrap_or_default();
            changes
                .set
                .push((name.to_owned(), merged(&present, value, add)));
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

fn changed_twice(name: &str) -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        format!("'{}' is given more than once; give it once", shown(name)),
    )
}

fn no_value(name: &str) -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        format!("'{}' has no value to set", shown(name)),
    )
}

fn named_twice() -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        "the request names this resource more than once; name it once",
    )
}

pub(super) fn no_such_resource(number: i8) -> WireError {
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
