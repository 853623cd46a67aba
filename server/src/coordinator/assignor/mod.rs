//! Shares out partitions among the members of a group, as the assignors of Kafka's clients do: for
//! members that bring none.
//!
//! - `range`: of each topic, every member gets a run of neighbouring partitions.
//! - `roundrobin`: all partitions of all topics are dealt out in turn.
//! - `cooperative-sticky`: every member keeps what it has unless that would be unfair, and is given
//!   nothing that another member is still reading (KIP-429). What has to move is given to nobody
//!   first; its owner, who misses it, joins again, and then it is given to its new owner.
//!
//! Pure: the same members give the same shares, in whatever order they are named. It does not yield:
//! a thousand members that share ten thousand partitions take some milliseconds, and a tenth of a second
//! if nearly all of them have to move.

mod encoded;
mod group;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use millrace_wire::kafka::consumer_protocol::{Subscription, TopicPartitions};

pub use encoded::assign_encoded;
use group::Group;

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Neighbouring partitions, topic by topic.
    Range,
    /// One partition to each member in turn.
    RoundRobin,
    /// As evenly as can be, with as little moved as can be, without a pause for what stays.
    CooperativeSticky,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 3] = [
        Protocol::Range,
        Protocol::RoundRobin,
        Protocol::CooperativeSticky,
    ];

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Range => "range",
            Protocol::RoundRobin => "roundrobin",
            Protocol::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The protocol of this name, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Protocol> {
        let mut all = Protocol::ALL.into_iter();
        all.find(|protocol| protocol.name() == name)
    }
}

/// A member, and what it told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its id, which no other member has.
    pub id: &'a str,
    /// Its lasting name, which puts it before those that have none.
    pub instance_id: Option<&'a str>,
    /// The topics that it wants to read. Those that do not exist have no partitions.
    pub topics: Vec<&'a str>,
    /// The partitions that it says it is reading.
    pub owned: Vec<TopicPartitions<'a>>,
    /// The generation in which it got those. Where two members say that they own the same, the newer
    /// generation is believed; not knowing one's generation is older than any.
    pub generation: Option<i32>,
}

impl<'a> Member<'a> {
    /// A member that joined with this subscription.
    #[must_use]
    pub fn new(
        id: &'a str,
        instance_id: Option<&'a str>,
        subscription: Subscription<'a>,
    ) -> Member<'a> {
        Member {
            id,
            instance_id,
            generation: subscription.generation.or_else(|| {
                // Before there was a field for it, Kafka's cooperative assignor kept it here.
                let generation = subscription.user_data?.try_into().ok()?;
                Some(i32::from_be_bytes(generation))
            }),
            topics: subscription.topics,
            owned: subscription.owned,
        }
    }
}

/// What a member is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The member's id.
    pub member_id: &'a str,
    /// The partitions, sorted by topic and then by number; topics of which it gets none are left out.
    pub topics: Vec<TopicPartitions<'a>>,
}

/// Shares out the partitions of all topics that somebody wants to read: one share for each member, in
/// the members' order. `partition_count` tells how many partitions a topic has; none: there is no such
/// topic.
pub fn assign<'a>(
    protocol: Protocol,
    members: &[Member<'a>],
    partition_count: &dyn Fn(&str) -> Option<u32>,
) -> Vec<Share<'a>> {
    let group = Group::new(members, partition_count);
    let shares = match protocol {
        Protocol::Range => range::assign(&group),
        Protocol::RoundRobin => round_robin::assign(&group),
        Protocol::CooperativeSticky => sticky::assign(&group),
    };
    group.named(shares)
}
