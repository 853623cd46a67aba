//! `millrace group describe`: how far a group has come, and who reads what.

use std::collections::BTreeMap;

use millrace_client::messages::{DescribeGroupResponse, MemberDescription};
use millrace_client::{Admin, ClientError, OffsetQuery, TopicPartition};
use serde_json::{Value, json};

use super::Failure;
use super::connect::ClientArgs;
use super::group::unknown;
use super::output::{self, Output, Table};

/// The state of a group that does not exist.
pub(super) const DEAD: &str = "Dead";

/// A partition that the group has come to, or that a member reads.
#[derive(Default)]
struct Progress<'a> {
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<&'a MemberDescription>,
}

impl Progress<'_> {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

type Partitions<'a> = BTreeMap<TopicPartition, Progress<'a>>;

pub(super) async fn describe(
    group: &str,
    members: bool,
    client: &ClientArgs,
) -> Result<(), Failure> {
    let connected = client.connect().await?;
    let admin = connected.admin();
    let found = admin.describe_group(group).await?;
    if found.state == DEAD {
        return Err(unknown(&connected, group).await);
    }
    let partitions = partitions(&admin, group, &found).await?;
    match client.output {
        Output::Json => output::write_json([object(group, &found, &partitions)]),
        Output::Table => {
            let table = match members {
                true => members_table(&found),
                false => partitions_table(&found, &partitions),
            };
            let text = format!("{}\n\n{}", headline(group, &found), table.render());
            output::write_all(text.as_bytes())
        }
    }
}

async fn partitions<'a>(
    admin: &Admin,
    group: &str,
    found: &'a DescribeGroupResponse,
) -> Result<Partitions<'a>, ClientError> {
    let mut partitions: Partitions<'a> = BTreeMap::new();
    for offset in admin.group_offsets(group).await? {
        partitions.entry(offset.place).or_default().committed = Some(offset.offset);
    }
    for member in &found.members {
        for topic in &member.assignment {
            for partition in &topic.partitions {
                let place = TopicPartition::new(topic.name.as_str(), *partition);
                partitions.entry(place).or_default().member = Some(member);
            }
        }
    }
    let questions: Vec<(&str, u32, OffsetQuery)> = partitions
        .keys()
        .map(|place| (&*place.topic, place.partition, OffsetQuery::Latest))
        .collect();
    let ends = admin.list_offsets(&questions).await?;
    for (progress, end) in partitions.values_mut().zip(ends) {
        // Of a topic that was deleted meanwhile there is none.
        progress.end = end.offset.ok().flatten();
    }
    Ok(partitions)
}

fn headline(group: &str, found: &DescribeGroupResponse) -> String {
    let count = found.members.len();
    let protocol = match found.protocol.as_str() {
        "" => String::new(),
        protocol => format!(", shared out by {protocol}"),
    };
    format!(
        "{group}: {}, generation {}, {count} member{}{protocol}, coordinated by shard {} of node {}",
        found.state,
        found.generation,
        if count == 1 { "" } else { "s" },
        found.coordinator_shard,
        found.coordinator_node,
    )
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn partitions_table(found: &DescribeGroupResponse, partitions: &Partitions<'_>) -> Table {
    let headings = [
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "END",
        "LAG",
        "MEMBER",
        "CLIENT",
        "HOST",
    ];
    let mut table = Table::new(headings);
    let who = |member: Option<&MemberDescription>| {
        [
            shown(member.map(|member| &member.member_id)),
            shown(member.map(|member| &member.client_id)),
            shown(member.map(|member| &member.client_host)),
        ]
    };
    for (place, progress) in partitions {
        let [member, client, host] = who(progress.member);
        table.row([
            place.topic.to_string(),
            place.partition.to_string(),
            shown(progress.committed),
            shown(progress.end),
            shown(progress.lag()),
            member,
            client,
            host,
        ]);
    }
    let idle = found.members.iter().filter(|m| m.assignment.is_empty());
    for member in idle {
        let [member, client, host] = who(Some(member));
        let none = || "-".to_owned();
        table.row([none(), none(), none(), none(), none(), member, client, host]);
    }
    table
}

fn members_table(found: &DescribeGroupResponse) -> Table {
    let mut table = Table::new(["MEMBER", "INSTANCE", "CLIENT", "HOST", "READS"]);
    for member in &found.members {
        let reads: Vec<String> = member
            .assignment
            .iter()
            .flat_map(|topic| {
                let each = topic.partitions.iter();
                each.map(|partition| format!("{}/{partition}", topic.name))
            })
            .collect();
        table.row([
            member.member_id.clone(),
            shown(member.instance_id.as_ref()),
            member.client_id.clone(),
            member.client_host.clone(),
            match reads.is_empty() {
                true => "-".into(),
                false => reads.join(" "),
            },
        ]);
    }
    table
}

fn object(group: &str, found: &DescribeGroupResponse, partitions: &Partitions<'_>) -> Value {
    let partition = |(place, progress): (&TopicPartition, &Progress<'_>)| {
        json!({
            "topic": &*place.topic,
            "partition": place.partition,
            "committed": progress.committed,
            "log_end": progress.end,
            "lag": progress.lag(),
            "member_id": progress.member.map(|member| &member.member_id),
        })
    };
    let member = |member: &MemberDescription| {
        let assignment = member
            .assignment
            .iter()
            .map(|topic| json!({"topic": topic.name, "partitions": topic.partitions}));
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
            "topics": member.topics,
            "assignment": assignment.collect::<Vec<_>>(),
        })
    };
    json!({
        "group": group,
        "state": found.state,
        "type": found.protocol_type,
        "protocol": found.protocol,
        "generation": found.generation,
        "coordinator_node": found.coordinator_node,
        "coordinator_shard": found.coordinator_shard,
        "partitions": partitions.iter().map(partition).collect::<Vec<_>>(),
        "members": found.members.iter().map(member).collect::<Vec<_>>(),
    })
}
