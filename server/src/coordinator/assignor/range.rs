//! Kafka's `range`: topic by topic, a run of neighbouring partitions to each member. Members that want
//! the same topics get the same numbers of each, so that what was written to several topics by one key
//! is read by one member.

use super::group::{Group, Shares};

pub(super) fn assign(group: &Group<'_, '_>) -> Shares {
    let mut shares = group.no_shares();
    for (number, topic) in group.topics.iter().enumerate() {
        let members = group.subscribers(topic);
        let each = topic.partitions as usize / members.len();
        // The first members get one more, until nothing is left over.
        let more = topic.partitions as usize % members.len();
        let mut partitions = topic.all(number);
        for (place, rank) in members.iter().enumerate() {
            let run = each + usize::from(place < more);
            shares[*rank].extend(partitions.by_ref().take(run));
        }
    }
    shares
}
