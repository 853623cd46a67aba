//! `millrace topic`: topics, their partitions and their configuration.

use std::io::IsTerminal;

use clap::Subcommand;
use millrace_client::messages::{ConfigEntry, DescribeTopicResponse, PartitionDescription};
use millrace_client::{ClientError, ConfigChange, ErrorCode, NewTopic};
use serde_json::{Value, json};

use super::Failure;
use super::connect::{ClientArgs, block_on, explain};
use super::numbers::{partitions, whole};
use super::output::{self, Output, Table, say};
use super::serve::key_and_value;

pub(super) const TOPIC_HELP: &str = "\
Examples:
  millrace topic create clicks --partitions 4 --config retention.ms=86400000
  millrace topic list
  millrace topic describe clicks
  millrace topic alter clicks --set retention.bytes=1073741824 --unset retention.ms
  millrace topic delete clicks";

#[derive(Subcommand)]
pub(super) enum TopicCommand {
    /// Create a topic
    #[command(after_help = "\
Examples:
  millrace topic create clicks
  millrace topic create clicks --partitions 4 --config retention.ms=86400000

Configuration is in Kafka's names; `millrace topic describe` lists it, and
`millrace config` the defaults of the broker, under topic.defaults.")]
    Create {
        /// Name: letters, digits, '.', '_' and '-'
        topic: String,
        /// Number of partitions [default: the broker's topic.default_partitions]
        #[arg(short, long, value_name = "N", value_parser = partitions, allow_negative_numbers = true)]
        partitions: Option<u32>,
        /// Configuration; may be given many times
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_and_value)]
        config: Vec<(String, String)>,
        /// Succeed if the topic exists already, and leave it as it is
        #[arg(long)]
        if_not_exists: bool,
        /// Only check whether it could be created
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List topics
    #[command(after_help = "Example:\n  millrace topic list --output json")]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show a topic's partitions and configuration
    #[command(after_help = "Example:\n  millrace topic describe clicks")]
    Describe {
        /// The topic
        topic: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Change a topic's configuration
    #[command(after_help = "\
Example:
  millrace topic alter clicks --set retention.bytes=1073741824 --unset retention.ms")]
    #[group(id = "change", required = true, multiple = true, args = ["set", "unset"])]
    Alter {
        /// The topic
        topic: String,
        /// Set an entry; may be given many times
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
        set: Vec<(String, String)>,
        /// Return an entry to the broker's default; may be given many times
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// Only check whether it could be changed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Delete a topic and everything in it
    #[command(after_help = "Example:\n  millrace topic delete clicks --yes")]
    Delete {
        /// The topic
        topic: String,
        /// Do not ask, not even on a terminal
        #[arg(short, long)]
        yes: bool,
        /// Succeed if there is no such topic
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give a topic more partitions
    #[command(after_help = "\
Example:
  millrace topic add-partitions clicks --to 8

Records already there stay where they are, and a key may map to another partition from now on.")]
    AddPartitions {
        /// The topic
        topic: String,
        /// Number of partitions it shall have
        #[arg(long, value_name = "N", value_parser = partitions, allow_negative_numbers = true)]
        to: u32,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a partition serve again although its disk lost acknowledged records
    #[command(after_help = "\
Example:
  millrace topic repair clicks --partition 3 --accept-data-loss

A partition whose acknowledged records are damaged on disk does not serve until someone decides
what to do. If the disk or a copy of the data directory can be recovered, do that first: this cuts
the partition where the damage begins, and what came after it is gone.

The offsets of what is gone are not given out again. New records go on beyond them, so a consumer
that was further sees no other records at offsets that it has read. Where the disk does not tell how
far the partition had come, that is a thousand million further on.")]
    Repair {
        /// The topic
        topic: String,
        /// The partition
        #[arg(long, value_name = "N", value_parser = whole::<u32>, allow_negative_numbers = true)]
        partition: u32,
        /// Say that you know: acknowledged records are given up
        #[arg(long, required = true)]
        accept_data_loss: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) fn run(command: TopicCommand) -> Result<(), Failure> {
    block_on(async {
        match command {
            TopicCommand::Create {
                topic,
                partitions,
                config,
                if_not_exists,
                dry_run,
                client,
            } => {
                let new = NewTopic {
                    name: topic,
                    partitions: partitions.unwrap_or(0),
                    configs: config,
                    validate_only: dry_run,
                };
                create(new, if_not_exists, &client).await
            }
            TopicCommand::List { client } => list(&client).await,
            TopicCommand::Describe { topic, client } => describe(&topic, &client).await,
            TopicCommand::Alter {
                topic,
                set,
                unset,
                dry_run,
                client,
            } => {
                let change = ConfigChange {
                    set,
                    unset,
                    validate_only: dry_run,
                };
                let connected = client.connect().await?;
                match connected.admin().alter_topic_config(&topic, change).await {
                    Ok(()) => say(
                        client.output,
                        done(dry_run, "changed", &topic),
                        json!({"topic": topic}),
                    ),
                    Err(error) => Err(explain(&connected, &topic, error).await),
                }
            }
            TopicCommand::Delete {
                topic,
                yes,
                if_exists,
                client,
            } => {
                if !yes {
                    confirm(&format!("delete '{topic}' and every record in it?"))?;
                }
                delete(&topic, if_exists, &client).await
            }
            TopicCommand::AddPartitions {
                topic,
                to,
                dry_run,
                client,
            } => {
                let connected = client.connect().await?;
                match connected
                    .admin()
                    .create_partitions(&topic, to, dry_run)
                    .await
                {
                    Ok(()) => say(
                        client.output,
                        format!("{} to {to} partitions", done(dry_run, "grew", &topic)),
                        json!({"topic": topic, "partitions": to}),
                    ),
                    Err(error) => Err(explain(&connected, &topic, error).await),
                }
            }
            TopicCommand::Repair {
                topic,
                partition,
                accept_data_loss,
                client,
            } => {
                let connected = client.connect().await?;
                let admin = connected.admin();
                match admin
                    .repair_partition(&topic, partition, accept_data_loss)
                    .await
                {
                    Ok(end) => say(
                        client.output,
                        format!("{topic}/{partition} serves again and ends before offset {end}"),
                        json!({"topic": topic, "partition": partition, "log_end": end}),
                    ),
                    Err(error) => Err(explain(&connected, &topic, error).await),
                }
            }
        }
    })
}

fn done(dry_run: bool, what: &str, topic: &str) -> String {
    if dry_run {
        format!("could have {what} '{topic}'")
    } else {
        format!("{what} '{topic}'")
    }
}

fn is(error: &ClientError, code: ErrorCode) -> bool {
    error.code() == Some(code)
}

async fn create(new: NewTopic, if_not_exists: bool, client: &ClientArgs) -> Result<(), Failure> {
    let connected = client.connect().await?;
    let (name, dry_run) = (new.name.clone(), new.validate_only);
    match connected.admin().create_topic(new).await {
        Ok(made) => say(
            client.output,
            format!(
                "{} with {} partition{}",
                done(dry_run, "created", &made.name),
                made.partitions,
                if made.partitions == 1 { "" } else { "s" }
            ),
            json!({
                "topic": made.name, "topic_id": made.topic_id, "partitions": made.partitions,
                "created": !dry_run,
            }),
        ),
        Err(error) if if_not_exists && is(&error, ErrorCode::TopicAlreadyExists) => say(
            client.output,
            format!("'{name}' exists already"),
            json!({"topic": name, "created": false}),
        ),
        Err(error) => Err(error.into()),
    }
}

/// Asks, where there is someone to ask.
pub(super) fn confirm(question: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let _ = stdin.read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was deleted".into())),
    }
}

async fn delete(topic: &str, if_exists: bool, client: &ClientArgs) -> Result<(), Failure> {
    let connected = client.connect().await?;
    match connected.admin().delete_topic(topic).await {
        Ok(()) => say(
            client.output,
            format!("deleted '{topic}'"),
            json!({"topic": topic, "deleted": true}),
        ),
        Err(error) if if_exists && is(&error, ErrorCode::UnknownTopicOrPartition) => say(
            client.output,
            format!("there is no topic '{topic}'"),
            json!({"topic": topic, "deleted": false}),
        ),
        Err(error) => Err(explain(&connected, topic, error).await),
    }
}

async fn list(client: &ClientArgs) -> Result<(), Failure> {
    let topics = client.connect().await?.admin().list_topics().await?;
    match client.output {
        Output::Json => output::write_json(topics.iter().map(|topic| {
            json!({
                "topic": topic.name, "topic_id": topic.topic_id, "partitions": topic.partitions,
            })
        })),
        Output::Table if topics.is_empty() => {
            eprintln!("there are no topics; `millrace topic create NAME` makes one");
            Ok(())
        }
        Output::Table => {
            let mut table = Table::new(["TOPIC", "PARTITIONS"]);
            for topic in topics {
                table.row([topic.name, topic.partitions.to_string()]);
            }
            table.print()
        }
    }
}

async fn describe(topic: &str, client: &ClientArgs) -> Result<(), Failure> {
    let connected = client.connect().await?;
    let found = match connected.admin().describe_topic(topic).await {
        Ok(found) => found,
        Err(error) => return Err(explain(&connected, topic, error).await),
    };
    match client.output {
        Output::Json => output::write_json([description_json(&found)]),
        Output::Table => output::write_all(description(&found).as_bytes()),
    }
}

fn description(topic: &DescribeTopicResponse) -> String {
    let mut partitions = Table::new([
        "PARTITION",
        "NODE",
        "SHARD",
        "START",
        "END",
        "READABLE TO",
        "BYTES",
        "STATE",
    ]);
    for found in &topic.partitions {
        let state = if found.status.code == 0 {
            "serving"
        } else {
            &found.status.message
        };
        partitions.row([
            found.partition.to_string(),
            found.leader_node.to_string(),
            found.leader_shard.to_string(),
            found.log_start.to_string(),
            found.log_end.to_string(),
            found.high_watermark.to_string(),
            found.size_bytes.to_string(),
            state.to_owned(),
        ]);
    }
    let mut configs = Table::new(["CONFIGURATION", "VALUE", "SOURCE"]);
    for entry in &topic.configs {
        let source = if entry.is_set { "topic" } else { "default" };
        configs.row([entry.name.clone(), entry.value.clone(), source.into()]);
    }
    format!(
        "{} ({})\n\n{}\n{}",
        topic.name,
        topic.topic_id,
        partitions.render(),
        configs.render()
    )
}

fn description_json(topic: &DescribeTopicResponse) -> Value {
    let partition = |found: &PartitionDescription| {
        json!({
            "partition": found.partition,
            "leader_node": found.leader_node,
            "leader_shard": found.leader_shard,
            "log_start": found.log_start,
            "high_watermark": found.high_watermark,
            "log_end": found.log_end,
            "size_bytes": found.size_bytes,
            "error": (found.status.code != 0).then(|| {
                json!({"code": found.status.code, "message": found.status.message})
            }),
        })
    };
    let config = |entry: &ConfigEntry| json!({"name": entry.name, "value": entry.value, "is_set": entry.is_set});
    json!({
        "topic": topic.name,
        "topic_id": topic.topic_id,
        "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": topic.configs.iter().map(config).collect::<Vec<_>>(),
    })
}
