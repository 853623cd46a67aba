//! Which topics a member reads: those that it names, or those that match its pattern.

use std::time::Duration;

use millrace_wire::native::messages::MetadataResponse;
use regex::Regex;

use crate::core::time::Time;
use crate::{ClientError, Subscription};

/// Topics that begin so are the broker's own.
const INTERNAL: &str = "__";

/// A subscription, and what it comes to now. Names are sorted.
#[derive(Debug)]
pub(super) enum Topics {
    Named(Vec<String>),
    Matching {
        pattern: Regex,
        /// None before they were looked for.
        found: Option<Vec<String>>,
        /// When to look for them (again).
        due: Time,
        max_age: Duration,
    },
}

impl Topics {
    pub(super) fn new(
        subscription: &Subscription,
        max_age: Duration,
    ) -> Result<Topics, ClientError> {
        match subscription {
            Subscription::Topics(names) => {
                let mut names = names.clone();
                names.sort();
                names.dedup();
                Ok(Topics::Named(names))
            }
            Subscription::Pattern(pattern) => {
                // The whole name has to match, as Kafka has it.
                let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
                    ClientError::invalid(format!(
                        "the pattern of topics '{pattern}' is no regular expression: {error}"
                    ))
                })?;
                Ok(Topics::Matching {
                    pattern,
                    found: None,
                    due: Time::default(),
                    max_age,
                })
            }
        }
    }

    /// The names, once they are known.
    pub(super) fn names(&self) -> Option<&[String]> {
        match self {
            Topics::Named(names) => Some(names),
            Topics::Matching { found, .. } => found.as_deref(),
        }
    }

    /// When to ask for all topics.
    pub(super) fn due(&self) -> Option<Time> {
        match self {
            Topics::Named(_) => None,
            Topics::Matching { due, .. } => Some(*due),
        }
    }

    /// All topics, as the broker tells them.
    pub(super) fn told(&mut self, now: Time, told: &MetadataResponse) {
        let Topics::Matching {
            pattern,
            found,
            due,
            max_age,
        } = self
        else {
            return;
        };
        let names = told.topics.iter().filter(|topic| topic.status.is_ok());
        let names = names.map(|topic| &topic.name);
        let names = names.filter(|name| pattern.is_match(name) && !name.starts_with(INTERNAL));
        let mut names: Vec<String> = names.cloned().collect();
        names.sort();
        *found = Some(names);
        *due = now.plus(*max_age);
    }

    /// Nothing was told: look again after this.
    pub(super) fn postpone(&mut self, until: Time) {
        if let Topics::Matching { due, .. } = self {
            *due = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_wire::native::messages::{Status, TopicMetadata};

    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_of_topics_that_are_there() {
        let subscription = Subscription::Pattern("a.*|b".into());
        let mut topics = Topics::new(&subscription, Duration::from_secs(60)).unwrap();
        assert_eq!(
            (topics.names(), topics.due()),
            (None, Some(Time::default()))
        );
        let topic = |name: &str, code| TopicMetadata {
            name: name.into(),
            status: Status {
                code,
                message: String::new(),
            },
            ..TopicMetadata::default()
        };
        let all = ["bb", "b", "ab", "a", "__a", "xa"].map(|name| topic(name, 0));
        let mut told = MetadataResponse {
            topics: all.to_vec(),
            ..MetadataResponse::default()
        };
        told.topics.push(topic("ac", 3));
        let now = Time(Duration::from_secs(1));
        topics.told(now, &told);
        assert_eq!(topics.names().unwrap(), ["a", "ab", "b"]);
        assert_eq!(topics.due(), Some(Time(Duration::from_secs(61))));
        let everything = Subscription::Pattern(".*".into());
        let mut topics = Topics::new(&everything, Duration::from_secs(60)).unwrap();
        topics.told(now, &told);
        assert_eq!(topics.names().unwrap(), ["a", "ab", "b", "bb", "xa"]);
    }

    #[test]
    fn a_pattern_that_is_none_says_so() {
        let subscription = Subscription::Pattern("a(".into());
        let error = Topics::new(&subscription, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("'a('"), "{error}");
    }
}
