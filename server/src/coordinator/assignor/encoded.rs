//! The same from and to the bytes that a coordinator holds.

use bytes::Bytes;
use millrace_wire::kafka::consumer_protocol::{Assignment, Subscription, Version};

use super::{Member, Protocol, assign};
use crate::coordinator::api::JoinedMember;

/// Shares out partitions among members that joined with Kafka's `ConsumerProtocolSubscription`: for
/// each, by member id, its `ConsumerProtocolAssignment`, as a sync takes them. A member whose
/// subscription cannot be read gets nothing to read.
///
/// All assignments have the oldest version that a member's subscription has.
pub fn assign_encoded(
    protocol: Protocol,
    joined: &[JoinedMember],
    partition_count: &dyn Fn(&str) -> Option<u32>,
) -> Vec<(String, Bytes)> {
    let mut oldest = Version::NEWEST;
    let mut members = Vec::with_capacity(joined.len());
    for member in joined {
        match Subscription::parse(&member.metadata) {
            Ok(subscription) => {
                oldest = oldest.min(subscription.version);
                let instance_id = member.instance_id.as_deref();
                members.push(Member::new(&member.member_id, instance_id, subscription));
            }
            Err(error) => tracing::warn!(
                member = member.member_id,
                "a member's subscription cannot be read ({error}); it is given no partitions: use a \
                 client that writes Kafka's ConsumerProtocolSubscription"
            ),
        }
    }
    let mut shares = assign(protocol, &members, partition_count)
        .into_iter()
        .peekable();
    let encoded = joined.iter().map(|member| {
        // Shares are in the members' order; those that could not be read have none.
        let share = shares.next_if(|share| share.member_id == member.member_id);
        let assignment = Assignment {
            version: oldest,
            topics: share.map(|share| share.topics).unwrap_or_default(),
            user_data: None,
        };
        (member.member_id.clone(), assignment.to_bytes())
    });
    encoded.collect()
}
