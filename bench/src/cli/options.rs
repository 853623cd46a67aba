//! Flags that several commands share, and what becomes of them: of the load and of the report. Those of
//! the broker are in `target`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use millrace_wire::batch::Compression;

use super::Failure;
use crate::load::{Arrivals, GroupCalls, MOST_MEMBERS_OF_CONNECTION, Pace, RecordSize};
use crate::workload::{HEARTBEAT_INTERVAL, Workload, every, named, names};

/// A workload's name and what is to be different about it.
#[derive(Args, Clone, Debug)]
pub struct WorkloadOptions {
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Seconds of load before that, of which nothing is recorded.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Option<Duration>,
    /// Requests a second, over all producers or members of groups (an open loop).
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "in_flight")]
    pub rate: Option<f64>,
    /// How requests of an open loop are spaced.
    #[arg(long, value_enum)]
    pub arrivals: Option<Arrivals>,
    /// Requests that each connection keeps under way (a closed loop).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: Option<u32>,
    /// Connections that produce.
    #[arg(long, value_name = "N")]
    pub producers: Option<usize>,
    /// Acknowledgements: 0, 1 or all.
    #[arg(long, value_name = "ACKS", value_parser = acks)]
    pub acks: Option<i8>,
    /// Each connection is an idempotent producer: the broker checks the sequence numbers of its batches
    /// and would know one again that is sent twice.
    #[arg(long)]
    pub idempotent: bool,
    /// Connections that groups share: the members of all, or a group for each that commits.
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Members of groups, a multiple of the connections.
    #[arg(long, value_name = "N")]
    pub members: Option<usize>,
    /// Members of each group.
    #[arg(long, value_name = "N")]
    pub group_size: Option<usize>,
    /// Seconds between two heartbeats of a member [default: 3].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["rate", "in_flight"])]
    pub heartbeat_interval: Option<Duration>,
    /// Topics.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub topics: Option<u32>,
    /// Partitions of each topic.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: Option<u32>,
    /// Bytes of a record's value: 1KiB, 100..2000 (any length between), ~1KiB (exponential).
    #[arg(long, value_name = "SIZE", value_parser = record_size)]
    pub record_bytes: Option<RecordSize>,
    /// Records in a request.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub records_per_request: Option<u32>,
    /// Different keys; 0 for none.
    #[arg(long, value_name = "N")]
    pub keys: Option<u64>,
    /// The producers' compression: none, lz4 or zstd.
    #[arg(long, value_name = "CODEC", value_parser = compression)]
    pub compression: Option<Compression>,
    /// Share of random bytes in a record: 0 compresses to nothing, 1 not at all.
    #[arg(long, value_name = "SHARE")]
    pub entropy: Option<f64>,
    /// Connections of each group of consumers.
    #[arg(long, value_name = "N")]
    pub consumers: Option<usize>,
    /// Groups of consumers, each of which reads everything.
    #[arg(long, value_name = "N")]
    pub fan_out: Option<usize>,
    /// Most bytes of a fetch.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub fetch_bytes: Option<u64>,
    /// Bytes stored before a run that reads a backlog.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub backlog: Option<u64>,
    /// Configuration of the topics, such as segment.bytes=16777216; may be given many times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub topic_config: Vec<(String, String)>,
}

impl WorkloadOptions {
    /// The workload of this name, changed as asked.
    pub fn workload(&self, name: &str) -> Result<Workload, Failure> {
        let Some(mut workload) = named(name) else {
            let all = names().into_iter().map(|(name, _)| name);
            let near = all.min_by_key(|other| strsim::damerau_levenshtein(other, name));
            let near = near.unwrap_or_default();
            return Err(Failure::Usage(format!(
                "there is no workload '{name}'; did you mean '{near}'? `millrace-bench list` shows all"
            )));
        };
        set(&mut workload.duration, self.duration);
        set(&mut workload.warm_up, self.warm_up);
        set(&mut workload.topics, self.topics);
        set(&mut workload.partitions, self.partitions);
        set(&mut workload.shape.record_size, self.record_bytes);
        set(&mut workload.shape.records, self.records_per_request);
        set(&mut workload.shape.keys, self.keys);
        set(&mut workload.shape.compression, self.compression);
        set(&mut workload.shape.entropy, self.entropy);
        workload
            .topic_configs
            .extend(self.topic_config.iter().cloned());
        self.change_groups(&mut workload)?;
        self.change_producers(&mut workload)?;
        self.change_pace(&mut workload)?;
        self.change_readers(&mut workload)?;
        check(&workload)?;
        Ok(workload)
    }

    fn change_producers(&self, workload: &mut Workload) -> Result<(), Failure> {
        let asked = self.producers.is_some() || self.acks.is_some() || self.idempotent;
        let Some(producers) = &mut workload.producers else {
            return if asked {
                Err(not_for(workload, "producers"))
            } else {
                Ok(())
            };
        };
        set(&mut producers.connections, self.producers);
        set(&mut producers.acks, self.acks);
        producers.idempotent |= self.idempotent;
        Ok(())
    }

    fn change_groups(&self, workload: &mut Workload) -> Result<(), Failure> {
        let of_members = self.members.is_some()
            || self.group_size.is_some()
            || self.heartbeat_interval.is_some();
        let Some(groups) = &mut workload.groups else {
            return if of_members || self.connections.is_some() {
                Err(not_for(workload, "groups"))
            } else {
                Ok(())
            };
        };
        set(&mut groups.connections, self.connections);
        match &mut groups.calls {
            GroupCalls::Commits if of_members => return Err(not_for(workload, "members")),
            GroupCalls::Commits => {}
            GroupCalls::Heartbeats {
                members,
                group_size,
            } => {
                set(members, self.members);
                set(group_size, self.group_size);
                let interval = self.heartbeat_interval.unwrap_or(HEARTBEAT_INTERVAL);
                groups.pace = every(interval, *members);
            }
        }
        Ok(())
    }

    fn change_pace(&self, workload: &mut Workload) -> Result<(), Failure> {
        let asked = self.rate.is_some() || self.in_flight.is_some() || self.arrivals.is_some();
        let Some(pace) = workload.pace_mut() else {
            return if asked {
                Err(not_for(workload, "requests that are paced"))
            } else {
                Ok(())
            };
        };
        if let Some(rate) = self.rate {
            let arrivals = Arrivals::default();
            *pace = Pace::Open { rate, arrivals };
        }
        if let Some(in_flight) = self.in_flight {
            *pace = Pace::Closed { in_flight };
        }
        match (pace, self.arrivals) {
            (Pace::Open { arrivals, .. }, Some(wanted)) => *arrivals = wanted,
            (Pace::Closed { .. }, Some(_)) => return Err(not_for(workload, "a rate")),
            (_, None) => {}
        }
        Ok(())
    }

    fn change_readers(&self, workload: &mut Workload) -> Result<(), Failure> {
        let fetch_bytes = self
            .fetch_bytes
            .map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.backlog.is_some() && workload.backlog.is_none() {
            return Err(not_for(workload, "a backlog"));
        }
        if (self.consumers.is_some() || self.fan_out.is_some() || fetch_bytes.is_some())
            && workload.consumers.is_none()
            && workload.backlog.is_none()
        {
            return Err(not_for(workload, "consumers"));
        }
        if let Some(consumers) = &mut workload.consumers {
            set(&mut consumers.connections, self.consumers);
            set(&mut consumers.fan_out, self.fan_out);
            set(&mut consumers.fetch_bytes, fetch_bytes);
        }
        if let Some(backlog) = &mut workload.backlog {
            set(&mut backlog.bytes, self.backlog);
            set(&mut backlog.fetch_bytes, fetch_bytes);
            if workload.consumers.is_none() {
                set(&mut backlog.connections, self.consumers);
            }
        }
        Ok(())
    }
}

fn set<T>(value: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *value = wanted;
    }
}

fn not_for(workload: &Workload, what: &str) -> Failure {
    Failure::Usage(format!(
        "the workload '{}' has no {what}; `millrace-bench list` shows which have",
        workload.name
    ))
}

/// What can only be told when everything is known.
fn check(workload: &Workload) -> Result<(), Failure> {
    const MOST_REQUEST_BYTES: usize = 64 << 20;
    let refused = |what: &str| Err(Failure::Usage(what.to_owned()));
    if !(0.0..=1.0).contains(&workload.shape.entropy) {
        return refused("--entropy is a share from 0 to 1");
    }
    if workload.request_bytes() > MOST_REQUEST_BYTES {
        return refused(
            "a request of more than 64 MiB is not sent; lower --record-bytes or --records-per-request",
        );
    }
    if workload.duration.is_zero() {
        return refused("--duration is more than nothing");
    }
    if let Some(Pace::Open { rate, .. }) = workload.pace()
        && !(rate > 0.0 && rate <= 1e8)
    {
        return refused("--rate is more than 0 and at most 100,000,000 a second");
    }
    if let Some(producers) = &workload.producers {
        if producers.connections == 0 {
            return refused("--producers is at least 1");
        }
        if producers.idempotent && producers.acks != -1 {
            return refused("idempotent producers need --acks all");
        }
    }
    check_groups(workload)?;
    let readers = workload.consumers.iter().map(|c| c.connections * c.fan_out);
    let readers = readers.chain(workload.backlog.iter().map(|b| b.connections));
    if readers.into_iter().any(|count| count == 0) {
        return refused("--consumers and --fan-out are at least 1");
    }
    Ok(())
}

fn check_groups(workload: &Workload) -> Result<(), Failure> {
    let refused = |what: &str| Err(Failure::Usage(what.to_owned()));
    let Some(groups) = &workload.groups else {
        return Ok(());
    };
    if groups.connections == 0 {
        return refused("--connections is at least 1");
    }
    let GroupCalls::Heartbeats {
        members,
        group_size,
    } = groups.calls
    else {
        return Ok(());
    };
    if members == 0 || group_size == 0 {
        return refused("--members and --group-size are at least 1");
    }
    if members % groups.connections != 0 {
        return refused("--members is a multiple of --connections, so that all have their turn");
    }
    if members / groups.connections > MOST_MEMBERS_OF_CONNECTION {
        return Err(Failure::Usage(format!(
            "at most {MOST_MEMBERS_OF_CONNECTION} members share a connection: raise --connections"
        )));
    }
    Ok(())
}

/// How a report comes out.
#[derive(Args, Clone, Debug)]
pub struct OutputOptions {
    /// A report for people or for programs.
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Write one self-contained HTML page with plots, too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A report's form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it looks like KEY=VALUE, such as cache.bytes=64MiB".to_owned()),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "it is a number of seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| "it is from 0 to 86400 seconds".to_owned())
}

fn acks(text: &str) -> Result<i8, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("it is 0, 1 or all".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "it is a size, such as 4096, 64KiB or 1GiB".to_owned())
}

fn record_size(text: &str) -> Result<RecordSize, String> {
    const MOST: u64 = 32 << 20;
    let size = |text: &str| {
        let size = bytes(text)?;
        match size {
            1..=MOST => Ok(size as usize),
            _ => Err("a record has from 1 byte to 32 MiB".to_owned()),
        }
    };
    if let Some(mean) = text.strip_prefix('~') {
        return Ok(RecordSize::Exponential(size(mean)?));
    }
    match text.split_once("..") {
        None => Ok(RecordSize::Fixed(size(text)?)),
        Some((least, most)) => match (size(least)?, size(most)?) {
            (least, most) if least <= most => Ok(RecordSize::Uniform(least, most)),
            _ => Err("the smaller size comes first".to_owned()),
        },
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.parse::<Compression>() {
        Ok(codec @ (Compression::None | Compression::Lz4 | Compression::Zstd)) => Ok(codec),
        _ => Err("it is none, lz4 or zstd".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_records_are_read() {
        assert_eq!(record_size("1KiB"), Ok(RecordSize::Fixed(1024)));
        assert_eq!(record_size("100..2KiB"), Ok(RecordSize::Uniform(100, 2048)));
        assert_eq!(record_size("~500"), Ok(RecordSize::Exponential(500)));
        for wrong in ["", "0", "x", "5..", "9..3", "1TiB", "~"] {
            assert!(record_size(wrong).is_err(), "{wrong}");
        }
    }

    fn changed(name: &str, flags: &[&str]) -> Result<Workload, Failure> {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            change: WorkloadOptions,
        }
        let flags = ["bench"].iter().chain(flags);
        let flags = <Flags as clap::Parser>::try_parse_from(flags);
        let flags = flags.map_err(|error| Failure::Usage(error.to_string()))?;
        flags.change.workload(name)
    }

    fn refusal(name: &str, flags: &[&str]) -> String {
        changed(name, flags).expect_err("it is refused").to_string()
    }

    #[test]
    fn members_are_paced_by_their_interval_unless_something_else_is_asked_for() {
        let pace = |flags: &[&str]| changed("heartbeats", flags).unwrap().pace();
        let open = |rate| {
            let arrivals = Arrivals::Constant;
            Some(Pace::Open { rate, arrivals })
        };
        let few = ["--members", "600", "--connections", "60"];
        assert_eq!(pace(&few), open(200.0));
        let often = [&few[..], &["--heartbeat-interval", "0.5"]].concat();
        assert_eq!(pace(&often), open(1_200.0));
        let at_rate = [&few[..], &["--rate", "70"]].concat();
        assert_eq!(pace(&at_rate), open(70.0));
        assert_eq!(
            pace(&["--in-flight", "2"]),
            Some(Pace::Closed { in_flight: 2 })
        );
    }

    #[test]
    fn what_a_workload_cannot_be_is_refused_in_words_that_help() {
        for (name, flags, words) in [
            ("commits", &["--members", "5"][..], "has no members"),
            ("commits", &["--idempotent"][..], "has no producers"),
            ("commits", &["--connections", "0"][..], "at least 1"),
            ("produce", &["--members", "5"][..], "has no groups"),
            (
                "produce",
                &["--idempotent", "--acks", "1"][..],
                "--acks all",
            ),
            ("tail-fetch", &["--rate", "5"][..], "paced"),
            ("heartbeats", &["--members", "10001"][..], "multiple"),
            (
                "heartbeats",
                &["--connections", "100"][..],
                "raise --connections",
            ),
        ] {
            let said = refusal(name, flags);
            assert!(said.contains(words), "{name} {flags:?}: {said}");
        }
        assert!(
            changed("produce", &["--idempotent"])
                .unwrap()
                .settings()
                .contains_key("idempotent")
        );
    }

    #[test]
    fn other_words_are_read_or_refused() {
        assert_eq!(acks("all"), Ok(-1));
        assert!(acks("2").is_err());
        assert_eq!(compression("lz4"), Ok(Compression::Lz4));
        assert!(compression("snappy").is_err(), "it is only read");
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err() && seconds("nan").is_err() && seconds("1e9").is_err());
        assert!(key_value("a=b").is_ok() && key_value("=b").is_err() && key_value("a").is_err());
    }
}
