//! `millrace records`: deleting them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::connect::{ClientArgs, block_on, explain};
use super::output::say;

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
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// First offset to keep
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    before: Option<i64>,
    /// Delete every record that is there now
    #[arg(long)]
    all: bool,
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
        all: _,
        client,
    } = arguments;
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
