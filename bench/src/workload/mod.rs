//! What is put on a broker, in the words of a person who asks for it: producers, consumers, a
//! backlog, records of some size. [`named`] has the ready-made ones; flags change them.

mod named;
mod open_messaging;

use std::collections::BTreeMap;
use std::time::Duration;

pub use named::{HEARTBEAT_INTERVAL, every, named, names};

use crate::load::{BatchShape, GroupCalls, Pace, RecordSize};

/// Producers.
#[derive(Clone, Debug, PartialEq)]
pub struct Producers {
    /// Connections.
    pub connections: usize,
    /// What paces their requests.
    pub pace: Pace,
    /// 0, 1 or -1.
    pub acks: i8,
    /// Whether each connection is an idempotent producer, whose batches the broker knows again.
    pub idempotent: bool,
}

/// Consumers that follow the producers.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumers {
    /// How many independent groups read everything.
    pub fan_out: usize,
    /// Connections of each group.
    pub connections: usize,
    /// Most bytes of a fetch.
    pub fetch_bytes: u32,
}

/// Consumers that read what was stored before the run, from the beginning and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// How much is stored first, bytes of records.
    pub bytes: u64,
    /// Connections that read it.
    pub connections: usize,
    /// Most bytes of a fetch.
    pub fetch_bytes: u32,
    /// Whether the broker must have forgotten it: it is stopped and started before the run.
    pub cold: bool,
}

/// Groups of consumers that read nothing, but ask their coordinators.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// Connections.
    pub connections: usize,
    /// What paces their requests.
    pub pace: Pace,
    /// What is asked.
    pub calls: GroupCalls,
}

impl Groups {
    /// What they do, as the name of a series.
    #[must_use]
    pub fn series(&self) -> &'static str {
        match self.calls {
            GroupCalls::Commits => "commit",
            GroupCalls::Heartbeats { .. } => "heartbeat",
        }
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Topics.
    pub topics: u32,
    /// Partitions of each.
    pub partitions: u32,
    /// Topic configuration in Kafka's names.
    pub topic_configs: BTreeMap<String, String>,
    /// What records and batches look like.
    pub shape: BatchShape,
    /// Producers, if there are any.
    pub producers: Option<Producers>,
    /// Consumers that follow, if there are any.
    pub consumers: Option<Consumers>,
    /// A backlog that is read, if there is one.
    pub backlog: Option<Backlog>,
    /// Groups that ask their coordinators, if there are any; then there are no producers.
    pub groups: Option<Groups>,
    /// How long nothing is recorded.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
}

impl Workload {
    /// Bytes of records in one produce request, on average.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.shape.record_size.mean() * self.shape.records.max(1) as usize
    }

    /// What paces requests, if anything is asked at a pace.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        let producers = self.producers.as_ref().map(|producers| producers.pace);
        producers.or_else(|| self.groups.as_ref().map(|groups| groups.pace))
    }

    /// The same, to be changed.
    pub fn pace_mut(&mut self) -> Option<&mut Pace> {
        let producers = self.producers.as_mut().map(|producers| &mut producers.pace);
        producers.or_else(|| self.groups.as_mut().map(|groups| &mut groups.pace))
    }

    /// Every setting with its value, for reports.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
        set("topics", self.topics.to_string());
        set("partitions", self.partitions.to_string());
        if self.groups.is_none() {
            set("record_bytes", record_size(self.shape.record_size));
            set("records_per_request", self.shape.records.to_string());
            set("keys", self.shape.keys.to_string());
            set("compression", self.shape.compression.name().to_owned());
            set("entropy", self.shape.entropy.to_string());
        }
        set("warm_up_s", self.warm_up.as_secs_f64().to_string());
        set("duration_s", self.duration.as_secs_f64().to_string());
        if let Some(producers) = &self.producers {
            set("producers", producers.connections.to_string());
            set("acks", acks_name(producers.acks).to_owned());
            if producers.idempotent {
                set("idempotent", true.to_string());
            }
        }
        if let Some(groups) = &self.groups {
            set("connections", groups.connections.to_string());
            if let GroupCalls::Heartbeats {
                members,
                group_size,
            } = groups.calls
            {
                set("members", members.to_string());
                set("group_size", group_size.to_string());
            }
        }
        match self.pace() {
            Some(Pace::Open { rate, arrivals }) => {
                set("request_rate", rate.to_string());
                set("arrivals", format!("{arrivals:?}").to_lowercase());
            }
            Some(Pace::Closed { in_flight }) => {
                set("in_flight", in_flight.to_string());
            }
            None => {}
        }
        if let Some(consumers) = &self.consumers {
            set("fan_out", consumers.fan_out.to_string());
            set("consumers", consumers.connections.to_string());
            set("fetch_bytes", consumers.fetch_bytes.to_string());
        }
        if let Some(backlog) = &self.backlog {
            set("backlog_bytes", backlog.bytes.to_string());
            set("backlog_readers", backlog.connections.to_string());
            set("backlog_fetch_bytes", backlog.fetch_bytes.to_string());
            set("backlog_cold", backlog.cold.to_string());
        }
        for (name, value) in &self.topic_configs {
            set(name, value.clone());
        }
        all
    }
}

/// The usual name of a number of acknowledgements.
#[must_use]
pub fn acks_name(acks: i8) -> &'static str {
    match acks {
        0 => "0",
        1 => "1",
        _ => "all",
    }
}

fn record_size(size: RecordSize) -> String {
    match size {
        RecordSize::Fixed(bytes) => bytes.to_string(),
        RecordSize::Uniform(least, most) => format!("{least}..{most}"),
        RecordSize::Exponential(mean) => format!("~{mean}"),
    }
}
