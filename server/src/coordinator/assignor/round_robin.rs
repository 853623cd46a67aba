//! Kafka's `roundrobin`: the partitions of all topics, in order, are dealt out to the members in turn;
//! a member that does not want a topic is passed over.

use super::group::{Group, Shares};

pub(super) fn assign(group: &Group<'_, '_>) -> Shares {
    let mut shares = group.no_shares();
    // Whose turn it is: it goes on from topic to topic.
    let mut turn = 0;
    for (number, topic) in group.topics.iter().enumerate() {
        let members = group.subscribers(topic);
        for partition in topic.all(number) {
            let next = members.partition_point(|rank| *rank < turn);
            // After the last member it is the first one's turn.
            let next = members.get(next).unwrap_or(&members[0]);
            shares[*next].push(partition);
            turn = next + 1;
        }
    }
    shares
}
