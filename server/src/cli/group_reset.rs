//! `millrace group reset-offsets`: where a group without members is to go on.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use millrace_client::{Admin, Client, GroupOffset, OffsetQuery, TopicPartition};
use serde_json::json;

use super::Failure;
use super::connect::{ClientArgs, explain};
use super::output::{self, Output, Table};
use super::start::Place;

pub(super) const RESET_HELP: &str = "\
Examples:
  millrace group reset-offsets billing --topic orders --to earliest --dry-run
  millrace group reset-offsets billing --topic orders:0,3 --to 1000
  millrace group reset-offsets billing --all-topics --to 2026-01-31T12:00:00Z
  millrace group reset-offsets billing --all-topics --shift-by -100

--to takes earliest, latest, an offset, -N (N records before the end of each partition), a time with
its zone, or @ and milliseconds since 1970; a time is that of the first record to be read. An offset
that a partition does not have becomes the nearest that it has. The group must have no members: stop
its consumers first.";

#[derive(Args)]
pub(super) struct ResetArgs {
    /// The group; it is made if it does not exist
    group: String,
    /// A topic, or some of its partitions; may be given many times
    #[arg(
        short,
        long,
        value_name = "TOPIC[:N,…]",
        required_unless_present = "all_topics"
    )]
    topic: Vec<TopicChoice>,
    /// Every partition for which the group has committed an offset
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    /// Where to go on: earliest, latest, an offset, -N, or a time
    #[arg(
        long,
        value_name = "PLACE",
        required_unless_present = "shift_by",
        allow_hyphen_values = true
    )]
    to: Option<Place>,
    /// Go on so many records after (or, with a minus, before) what was committed
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "to",
        allow_negative_numbers = true
    )]
    shift_by: Option<i64>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// A topic, and which of its partitions; none: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicChoice {
    topic: String,
    partitions: Vec<u32>,
}

impl FromStr for TopicChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<TopicChoice, String> {
        let (topic, partitions) = match text.split_once(':') {
            None => (text, Vec::new()),
            Some((topic, numbers)) => {
                let numbers = numbers.split(',').map(str::parse::<u32>);
                let numbers: Result<Vec<u32>, _> = numbers.collect();
                let wrong = |_| "behind the colon are partitions, such as orders:0,3".to_owned();
                (topic, numbers.map_err(wrong)?)
            }
        };
        Ok(TopicChoice {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

/// What happens to a partition's offset.
struct Step {
    before: Option<i64>,
    after: i64,
}

pub(super) async fn reset(arguments: &ResetArgs) -> Result<(), Failure> {
    let client = arguments.client.connect().await?;
    let admin = client.admin();
    let group = arguments.group.as_str();
    let members = admin.describe_group(group).await?.members.len();
    if members > 0 {
        return Err(Failure::Failed(format!(
            "group '{group}' has {members} member{}, and only they say how far it is; stop its consumers first",
            if members == 1 { "" } else { "s" }
        )));
    }
    let committed: BTreeMap<TopicPartition, i64> = admin
        .group_offsets(group)
        .await?
        .into_iter()
        .map(|offset| (offset.place, offset.offset))
        .collect();
    let places = places(arguments, &client, &committed).await?;
    let steps = steps(arguments, &admin, &places, &committed).await?;
    if !arguments.dry_run {
        let offsets: Vec<GroupOffset> = steps
            .iter()
            .map(|(place, step)| {
                GroupOffset::new(place.topic.as_ref(), place.partition, step.after)
            })
            .collect();
        for (place, outcome) in admin.set_group_offsets(group, &offsets).await? {
            outcome.map_err(|error| Failure::from(error).within(|| place.to_string()))?;
        }
    }
    print(arguments, &steps)
}

/// The partitions concerned, sorted.
async fn places(
    arguments: &ResetArgs,
    client: &Client,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<TopicPartition>, Failure> {
    if arguments.all_topics {
        if committed.is_empty() {
            return Err(Failure::Failed(format!(
                "group '{}' has committed nothing; name topics by --topic",
                arguments.group
            )));
        }
        return Ok(committed.keys().cloned().collect());
    }
    let mut places = Vec::new();
    for TopicChoice { topic, partitions } in &arguments.topic {
        let described = match client.admin().describe_topic(topic).await {
            Ok(described) => described,
            Err(error) => return Err(explain(client, topic, error).await),
        };
        let count = described.partitions.len();
        let all = described.partitions.iter().map(|known| known.partition);
        let wanted: Vec<u32> = match partitions.is_empty() {
            true => all.collect(),
            false => partitions.clone(),
        };
        if let Some(missing) = wanted.iter().find(|number| **number as usize >= count) {
            return Err(Failure::Failed(format!(
                "topic '{topic}' has no partition {missing}; its partitions are 0 to {}",
                count.saturating_sub(1)
            )));
        }
        places.extend(
            wanted
                .into_iter()
                .map(|number| TopicPartition::new(topic.as_str(), number)),
        );
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// Asks one thing of each partition; none where there is no such offset.
async fn ask(
    admin: &Admin,
    places: &[TopicPartition],
    query: OffsetQuery,
) -> Result<Vec<Option<i64>>, Failure> {
    let questions: Vec<(&str, u32, OffsetQuery)> = places
        .iter()
        .map(|place| (&*place.topic, place.partition, query))
        .collect();
    let answers = admin.list_offsets(&questions).await?;
    let offsets = places.iter().zip(answers).map(|(place, answer)| {
        let failed = |error| Failure::from(error).within(|| place.to_string());
        answer.offset.map_err(failed)
    });
    offsets.collect()
}

async fn steps(
    arguments: &ResetArgs,
    admin: &Admin,
    places: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<(TopicPartition, Step)>, Failure> {
    let starts = ask(admin, places, OffsetQuery::Earliest).await?;
    let ends = ask(admin, places, OffsetQuery::Latest).await?;
    let at_time = match arguments.to {
        Some(Place::Time(ms)) => ask(admin, places, OffsetQuery::AtTimestamp(ms)).await?,
        _ => vec![None; places.len()],
    };
    let mut steps = Vec::with_capacity(places.len());
    for (number, place) in places.iter().enumerate() {
        let before = committed.get(place).copied();
        let (start, end) = (starts[number].unwrap_or(0), ends[number].unwrap_or(0));
        let wanted = match (arguments.to, arguments.shift_by) {
            (Some(Place::Earliest), _) => start,
            (Some(Place::Latest), _) => end,
            (Some(Place::Offset(offset)), _) => offset,
            (Some(Place::BeforeEnd(count)), _) => end.saturating_sub(count),
            // No record is that young: the end.
            (Some(Place::Time(_)), _) => at_time[number].unwrap_or(end),
            (None, shift) => {
                let before = before.ok_or_else(|| {
                    Failure::Failed(format!(
                        "group '{}' has committed nothing in {place}, so there is nothing to shift; use --to",
                        arguments.group
                    ))
                })?;
                before.saturating_add(shift.unwrap_or(0))
            }
        };
        let after = wanted.clamp(start, end.max(start));
        if after != wanted {
            eprintln!(
                "{place} has no offset {wanted}: its records begin at {start} and end before {end}; the group goes on at {after}"
            );
        }
        steps.push((place.clone(), Step { before, after }));
    }
    Ok(steps)
}

fn print(arguments: &ResetArgs, steps: &[(TopicPartition, Step)]) -> Result<(), Failure> {
    match arguments.client.output {
        Output::Json => output::write_json(steps.iter().map(|(place, step)| {
            json!({
                "topic": &*place.topic,
                "partition": place.partition,
                "before": step.before,
                "after": step.after,
                "done": !arguments.dry_run,
            })
        })),
        Output::Table => {
            let mut table = Table::new(["TOPIC", "PARTITION", "BEFORE", "AFTER"]);
            for (place, step) in steps {
                table.row([
                    place.topic.to_string(),
                    place.partition.to_string(),
                    step.before.map_or("-".into(), |offset| offset.to_string()),
                    step.after.to_string(),
                ]);
            }
            table.print()?;
            if arguments.dry_run {
                eprintln!("nothing was changed; leave out --dry-run to do it");
            }
            Ok(())
        }
    }
}
