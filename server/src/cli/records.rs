//! `millrace records`: deleting them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::connect::{ClientArgs, block_on, explain};
use super::numbers::{offset, whole};
use super::output::say;
use super::topic::confirm;

#[derive(Subcommand)]
pub(super) enum RecordsCommand {
    /// Delete the records before an offset
    #[command(after_help = "\
Examples:
  millrace records delete clicks --partition 0 --before 1000
  millrace records delete clicks --all")]
    Delete(DeleteArgs),
}

#[derive(Args)]
#[group(id = "extent", required = true, multiple = false, args = ["before", "all"])]
pub(super) struct DeleteArgs {
    /// The topic
    topic: String,
    /// The partition; without it, --all means those of all partitions
    #[arg(short, long, value_name = "N", value_parser = whole::<u32>, allow_negative_numbers = true)]
    partition: Option<u32>,
    /// First offset to keep
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        value_parser = offset,
        allow_negative_numbers = true
    )]
    before: Option<i64>,
    /// Delete every record that is there now
    #[arg(long)]
    all: bool,
    /// Do not ask, not even on a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(command: RecordsCommand) -> Result<(), Failure> {
    let RecordsCommand::Delete(arguments) = command;
    block_on(delete_records(arguments))
}

async fn delete_records(arguments: DeleteArgs) -> Result<(), Failure> {
    let DeleteArgs {
        topic,
        partition,
        before,
        all,
        yes,
        client,
    } = arguments;
    if all && !yes {
        let which = partition.map_or(topic.clone(), |partition| format!("{topic}/{partition}"));
        confirm(&format!("delete every record of '{which}'?"))?;
    }
    let connected = client.connect().await?;
    let admin = connected.admin();
    let partitions = match partition {
        Some(partition) => vec![partition],
        None => match admin.describe_topic(&topic).await {
            Ok(found) => found
                .partitions
                .iter()
                .map(|found| found.partition)
                .collect(),
            Err(error) => return Err(explain(&connected, &topic, error).await),
        },
    };
    let wanted: Vec<_> = partitions
        .iter()
        .map(|partition| (topic.as_str(), *partition, before))
        .collect();
    let results = match admin.delete_records(&wanted).await {
        Ok(results) => results,
        Err(error) => return Err(explain(&connected, &topic, error).await),
    };
    let mut failure = None;
    for result in results {
        let partition = result.partition;
        match result.log_start {
            Ok(start) => say(
                client.output,
                format!("{topic}/{partition} begins at offset {start}"),
                json!({"topic": topic, "partition": partition, "log_start": start}),
            )?,
            // The others are told first: their records are gone.
            Err(error) => failure = Some((partition, error)),
        }
    }
    match failure {
        None => Ok(()),
        Some((partition, error)) => {
            let failure = explain(&connected, &topic, error).await;
            Err(failure.within(|| format!("{topic}/{partition}")))
        }
    }
}
