use std::sync::Arc;

use proptest::prelude::*;

use super::{Item, MAX_MESSAGE_BYTES, Message, Messages};
use crate::fact::{Claim, Fact, Status};
use crate::identity::{BootEpoch, Incarnation, NodeId};
use crate::lww::{Entry, Leadership, Ownership, PartitionId, RangeId};
use crate::record::testing::record;
use crate::record::{Endpoint, MAX_ENDPOINTS, MAX_HOST_BYTES, MAX_RACK_BYTES, NodeRecord, Purpose};

fn largest() -> NodeRecord {
    let mut largest = record(1);
    largest.gossip = "[2001:db8::1]:7946".parse().unwrap();
    largest.rack = "r".repeat(MAX_RACK_BYTES);
    largest.endpoints = vec![
        Endpoint {
            purpose: Purpose::Http,
            host: "h".repeat(MAX_HOST_BYTES),
            port: 1,
        };
        MAX_ENDPOINTS
    ];
    largest
}

fn one_of_each() -> Vec<Message> {
    let fact = |claim| {
        Message::Fact(Fact {
            node: NodeId(7),
            incarnation: Incarnation::first(BootEpoch(3)),
            claim,
        })
    };
    vec![
        Message::Ping { sequence: 1 },
        Message::PingRequest {
            sequence: 2,
            target: NodeId(5),
            address: "192.0.2.1:7946".parse().unwrap(),
            wait_ms: 400,
            nack: true,
        },
        Message::Ack { sequence: 3 },
        Message::Nack { sequence: 4 },
        fact(Claim::Alive(Arc::new(largest()))),
        fact(Claim::Suspect { by: NodeId(1) }),
        fact(Claim::Dead { by: NodeId(2) }),
        fact(Claim::Left),
        Message::Entry(Entry::Leader(
            PartitionId {
                topic: u128::MAX - 1,
                partition: 9,
            },
            Leadership {
                term: 12,
                leader: NodeId(3),
                shard: 1,
            },
        )),
        Message::Entry(Entry::Owner(
            RangeId(8),
            Ownership {
                epoch: 4,
                owner: NodeId(6),
            },
        )),
    ]
}

#[test]
fn what_is_written_is_read() {
    let messages = one_of_each();
    let mut bytes = Vec::new();
    for message in &messages {
        message.write(&mut bytes);
    }
    assert_eq!(Messages::read(&bytes), Ok(messages));
}

#[test]
fn the_largest_state_of_a_member_is_read_and_has_the_most_bytes() {
    let item = Item::Member {
        node: NodeId(1),
        incarnation: Incarnation::first(BootEpoch(1)),
        status: Status::Suspect,
        record_incarnation: Incarnation::first(BootEpoch(1)),
        record: Arc::new(largest()),
    };
    let mut bytes = Vec::new();
    item.write(&mut bytes);
    assert_eq!(bytes.len(), MAX_MESSAGE_BYTES);
    assert_eq!(Messages::read_items(&bytes), Ok(vec![item]));
}

#[test]
fn kinds_of_a_newer_version_are_skipped() {
    let mut bytes = vec![200, 0, 3, 1, 2, 3];
    Message::Ack { sequence: 3 }.write(&mut bytes);
    assert_eq!(
        Messages::read(&bytes),
        Ok(vec![Message::Ack { sequence: 3 }])
    );
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    for message in one_of_each() {
        let bytes = message.encoded();
        for length in 1..bytes.len() {
            assert!(Messages::read(&bytes[..length]).is_err(), "{message:?}");
        }
        // One byte more within the message's own length.
        let mut longer = bytes.clone();
        longer.push(0);
        let length = (longer.len() - 3) as u16;
        longer[1..3].copy_from_slice(&length.to_be_bytes());
        assert!(Messages::read(&longer).is_err(), "{message:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Messages::read(&bytes);
        let _ = Messages::read_items(&bytes);
    }

    #[test]
    fn no_damaged_message_panics_or_reads_as_more_than_it_was(
        which in 0_usize..10,
        at in 0_usize..600,
        bits in 1_u8..=255,
    ) {
        let mut bytes = one_of_each()[which].encoded();
        let at = at % bytes.len();
        bytes[at] ^= bits;
        if let Ok(messages) = Messages::read(&bytes) {
            let mut again = Vec::new();
            for message in &messages {
                message.write(&mut again);
            }
            prop_assert!(again.len() <= bytes.len());
        }
    }
}
