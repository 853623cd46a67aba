//! `millrace group`: groups of consumers, how far they have come, and where they are to go on.

use clap::{Args, Subcommand};
use millrace_client::messages::GroupListing;
use millrace_client::{Client, ErrorCode};
use serde_json::json;

use super::connect::{ClientArgs, block_on};
use super::output::{self, Output, Table, say};
use super::topic::confirm;
use super::{Failure, group_describe, group_reset};

pub(super) const GROUP_HELP: &str = "\
Examples:
  millrace group list
  millrace group describe billing
  millrace group reset-offsets billing --topic orders --to earliest --dry-run
  millrace group delete billing";

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// List groups
    #[command(after_help = "\
Examples:
  millrace group list
  millrace group list --state stable --output json")]
    List {
        /// Only groups in this state: empty, preparing-rebalance, completing-rebalance or stable
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<&'static str>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show how far a group has come, and who reads what
    #[command(after_help = "\
Examples:
  millrace group describe billing
  millrace group describe billing --members

LAG is how many offsets lie between what was committed and the end of the partition; - where nothing
was committed.")]
    Describe {
        /// The group
        group: String,
        /// Show the members in place of the partitions
        #[arg(long)]
        members: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a group go on somewhere else
    #[command(after_help = group_reset::RESET_HELP)]
    ResetOffsets(group_reset::ResetArgs),
    /// Delete groups and what they have committed
    #[command(after_help = "Example:\n  millrace group delete billing --yes")]
    Delete(DeleteArgs),
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Do not ask, not even on a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// States as people type them, and as they are on the wire.
const STATES: [(&str, &str); 4] = [
    ("empty", "Empty"),
    ("preparing-rebalance", "PreparingRebalance"),
    ("completing-rebalance", "CompletingRebalance"),
    ("stable", "Stable"),
];

fn state(text: &str) -> Result<&'static str, String> {
    let known = STATES
        .iter()
        .find(|(typed, wire)| *typed == text || wire.eq_ignore_ascii_case(text));
    let all = STATES.map(|(typed, _)| typed).join(", ");
    known
        .map(|(_, wire)| *wire)
        .ok_or_else(|| format!("it is one of {all}"))
}

pub(super) fn run(command: GroupCommand) -> Result<(), Failure> {
    block_on(async {
        match command {
            GroupCommand::List { state, client } => list(state, &client).await,
            GroupCommand::Describe {
                group,
                members,
                client,
            } => group_describe::describe(&group, members, &client).await,
            GroupCommand::ResetOffsets(arguments) => group_reset::reset(&arguments).await,
            GroupCommand::Delete(arguments) => delete(&arguments).await,
        }
    })
}

async fn list(state: Option<&str>, client: &ClientArgs) -> Result<(), Failure> {
    let all = client.connect().await?.admin().list_groups().await?;
    let is_wanted = |group: &&GroupListing| state.is_none_or(|state| group.state == state);
    let groups: Vec<&GroupListing> = all.iter().filter(is_wanted).collect();
    match client.output {
        Output::Json => output::write_json(groups.iter().map(|group| {
            json!({"group": group.group, "type": group.protocol_type, "state": group.state})
        })),
        Output::Table if groups.is_empty() => {
            eprintln!(
                "there are no {}groups; `millrace consume TOPIC --group NAME` makes one",
                if state.is_some() { "such " } else { "" }
            );
            Ok(())
        }
        Output::Table => {
            let mut table = Table::new(["GROUP", "TYPE", "STATE"]);
            for group in groups {
                let kind = match group.protocol_type.as_str() {
                    "" => "-",
                    kind => kind,
                };
                table.row([group.group.clone(), kind.into(), group.state.clone()]);
            }
            table.print()
        }
    }
}

async fn delete(arguments: &DeleteArgs) -> Result<(), Failure> {
    let DeleteArgs {
        groups,
        yes,
        client,
    } = arguments;
    if !yes {
        let names = groups.join("', '");
        confirm(&format!("delete '{names}' and what was committed?"))?;
    }
    let connected = client.connect().await?;
    let mut failure = None;
    for group in groups {
        match connected.admin().delete_group(group).await {
            Ok(()) => say(
                client.output,
                format!("deleted '{group}'"),
                json!({"group": group, "deleted": true}),
            )?,
            // The others are still deleted, and told of.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
                failure = Some(unknown(&connected, group).await);
            }
            Err(error) => failure = Some(error.into()),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// There is no such group: says so, and what there is.
pub(super) async fn unknown(client: &Client, group: &str) -> Failure {
    let groups = client.admin().list_groups().await.unwrap_or_default();
    let likeness =
        |listed: &GroupListing| strsim::normalized_damerau_levenshtein(group, &listed.group);
    let nearest = groups
        .iter()
        .map(|listed| (likeness(listed), &listed.group))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = match nearest {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None => "`millrace group list` shows those there are".to_owned(),
    };
    Failure::Failed(format!("there is no group '{group}'; {advice}"))
}
