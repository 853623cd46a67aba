//! Coming, going, finding back, full exchanges and the maps.

use std::sync::Arc;

use super::world::{World, address, quick};
use crate::codec::Item;
use crate::fact::Status;
use crate::identity::{BootEpoch, Incarnation, NodeId};
use crate::interface::{Event, Input, Seed};
use crate::lww::{Entry, Leadership, Ownership, PartitionId, RangeId};
use crate::record::testing::record;

#[test]
fn nodes_join_through_an_address_that_answers_late() {
    let mut world = World::apart(3, &quick());
    world.kill(1);
    world.join(2, 1);
    world.join(3, 1);
    world.run_ms(1_500);
    assert!(world.sees(2).is_empty());
    world.start(1, 1, &quick());
    world.run_ms(3_000);
    for node in 1..=3 {
        assert_eq!(world.sees(node).len(), 2);
    }
    for node in 2..=3 {
        let through = |event: &Event| matches!(event, Event::JoinSucceeded { .. });
        assert!(world.heard(node, through));
    }
}

#[test]
fn seeds_given_by_name_are_resolved_for_each_attempt() {
    let mut world = World::apart(2, &quick());
    let seed = Seed::Name {
        name: "seed.example".to_owned(),
        port: 7946,
    };
    world.input(2, Input::Join(vec![seed]));
    let answer = |addresses| Input::Resolved {
        name: "seed.example".to_owned(),
        addresses,
    };
    world.input(2, answer(Vec::new()));
    world.run_ms(500);
    assert!(world.resolves.len() >= 2, "asked again after nothing");
    world.input(2, answer(vec![address(1), address(2)]));
    world.run_ms(200);
    assert_eq!(world.sees(2), [1]);
    // An answer that nobody waits for any more changes nothing.
    let before = world.nodes[&2].clone();
    world.input(2, answer(vec![address(1)]));
    assert_eq!(world.nodes[&2].streams, before.streams);
}

#[test]
fn islands_that_joined_through_each_other_find_the_rest() {
    let mut world = World::apart(4, &quick());
    let seeds = |of: u32| {
        let others = (1..=4).filter(|other| *other != of);
        Input::Join(others.map(|other| Seed::Address(address(other))).collect())
    };
    // Each pair reaches its own half only, and is content.
    for a in 1..=2 {
        for b in 3..=4 {
            world.cut_both(a, b);
        }
    }
    for node in 1..=4 {
        world.input(node, seeds(node));
    }
    world.run_ms(2_000);
    assert_eq!((world.sees(1), world.sees(3)), (vec![2], vec![4]));
    world.cuts = Default::default();
    world.run_ms(3_000);
    assert!((1..=4).all(|node| world.sees(node).len() == 3));
}

#[test]
fn a_node_that_leaves_is_not_failed() {
    let mut world = World::joined(4, &quick());
    world.input(4, Input::Leave);
    world.run_ms(4_000);
    assert_eq!(world.nodes[&4].deadline(), None);
    assert!(world.heard(4, |event| *event == Event::LeaveDone));
    for node in 1..4 {
        assert_eq!(world.status(node, 4), Some(Status::Left));
        let left = |event: &Event| matches!(event, Event::Left { node, .. } if *node == NodeId(4));
        assert!(world.heard(node, left));
        assert!(!world.heard(node, |event| matches!(event, Event::Failed { .. })));
    }
    // Its next life is welcome.
    world.start(4, 2, &quick());
    world.join(4, 2);
    world.run_ms(1_000);
    assert_eq!(world.status(1, 4), Some(Status::Alive));
}

#[test]
fn halves_that_took_each_other_for_dead_find_back() {
    let mut config = quick();
    config.gossip_to_dead_ms = 500;
    let mut world = World::joined(6, &config);
    let healthy = world.cuts.clone();
    for a in 1..=3 {
        for b in 4..=6 {
            world.cut_both(a, b);
        }
    }
    // Long enough that gossip to the dead is over.
    let split = world.until(30_000, |world| {
        (1..=6).all(|node| world.sees(node).len() == 2)
    });
    assert!(split.is_some());
    world.run_ms(3_000);
    world.cuts = healthy;
    let healed = world.until(10_000, |world| {
        (1..=6).all(|node| {
            let alive = |other| node == other || world.status(node, other) == Some(Status::Alive);
            (1..=6).all(alive)
        })
    });
    assert!(healed.is_some());
}

#[test]
fn a_node_left_alone_finds_back_through_its_seeds() {
    let mut config = quick();
    config.forget_after_ms = 10_000;
    let mut world = World::joined(3, &config);
    for other in 1..=2 {
        world.cut_both(3, other);
    }
    // Both sides have forgotten each other.
    world.run_ms(40_000);
    assert!(world.nodes[&3].members().next().is_none());
    assert!(world.nodes[&1].member(NodeId(3)).is_none());
    assert!(world.heard(1, |event| *event == Event::Forgotten { node: NodeId(3) }));
    world.cuts = Default::default();
    world.run_ms(4_000);
    assert_eq!(world.sees(3), [1, 2]);
}

/// A node that knows so many others, none of which is there.
fn knows(world: &mut World, node: u32, others: std::ops::Range<u32>) {
    let random = &mut crate::random::testing::Sequence(5);
    let state = world.nodes.get_mut(&node).unwrap();
    let mut turn = crate::node::Turn {
        now: world.now,
        random,
        effects: Vec::new(),
    };
    for other in others {
        let item = Item::Member {
            node: NodeId(other),
            incarnation: Incarnation::first(BootEpoch(1)),
            status: Status::Alive,
            record_incarnation: Incarnation::first(BootEpoch(1)),
            record: Arc::new(record(other)),
        };
        state.item(&mut turn, NodeId(99), item);
    }
}

#[test]
fn the_full_state_of_a_large_cluster_goes_over_a_stream_in_bounded_pieces() {
    let mut world = World::apart(2, &quick());
    knows(&mut world, 1, 1_000..4_000);
    for partition in 0..2_000 {
        let id = PartitionId {
            topic: 1,
            partition,
        };
        let led = Leadership {
            term: 1,
            leader: NodeId(1),
            shard: 0,
        };
        world.input(1, Input::Publish(Entry::Leader(id, led)));
    }
    for range in 0..1_500 {
        let owned = Ownership {
            epoch: 1,
            owner: NodeId(1),
        };
        world.input(1, Input::Publish(Entry::Owner(RangeId(range), owned)));
    }
    world.join(2, 1);
    world.run_ms(0);
    assert_eq!(world.sees(2).len(), 3_001);
    assert_eq!(world.nodes[&2].owners().len(), 1_500);
    assert_eq!(world.nodes[&2].leaders().len(), 2_000);
    assert!(world.nodes[&1].counters().stream_bytes_sent > 200_000);
    assert!(world.longest_piece < 17 << 10, "{}", world.longest_piece);
    assert!(
        world
            .sent
            .iter()
            .all(|(_, _, bytes)| bytes.len() <= crate::MAX_PACKET_BYTES)
    );
    assert!(world.nodes[&1].open_streams().is_empty());
}

#[test]
fn what_a_peer_holds_for_dead_only_counts_as_suspect() {
    let mut world = World::joined(3, &quick());
    let random = &mut crate::random::testing::Sequence(5);
    let now = world.now;
    let state = world.nodes.get_mut(&1).unwrap();
    let mut turn = crate::node::Turn {
        now,
        random,
        effects: Vec::new(),
    };
    let known = state.member(NodeId(2)).unwrap().clone();
    let item = |node| Item::Member {
        node: NodeId(node),
        incarnation: known.incarnation,
        status: Status::Dead,
        record_incarnation: known.record_incarnation,
        record: Arc::clone(&known.record),
    };
    state.item(&mut turn, NodeId(3), item(2));
    state.item(&mut turn, NodeId(3), item(50));
    assert_eq!(world.status(1, 2), Some(Status::Suspect));
    assert_eq!(world.status(1, 50), None, "who is gone is not introduced");
    world.run_ms(200);
    assert_eq!(world.status(1, 2), Some(Status::Alive), "it refuted");
}

#[test]
fn streams_are_bounded_in_number_and_in_time() {
    let mut world = World::joined(2, &quick());
    let most = world.nodes[&1].config().max_streams as u64;
    for number in 0..most + 5 {
        let stream = crate::StreamId::Accepted(1_000 + number);
        let bytes = &[0, 0, 0];
        world.input(1, Input::StreamBytes { stream, bytes });
    }
    assert_eq!(world.nodes[&1].open_streams().len() as u64, most);
    let refused = world.nodes[&1].counters();
    assert_eq!(refused.refused(crate::Refusal::TooManyStreams), 5);
    world.run_ms(1_500);
    assert!(world.nodes[&1].open_streams().is_empty());
}

#[test]
fn leaders_and_owners_become_known_and_the_later_decision_wins() {
    let mut world = World::joined(5, &quick());
    let id = PartitionId {
        topic: 7,
        partition: 3,
    };
    let led = |term, leader| Leadership {
        term,
        leader: NodeId(leader),
        shard: 1,
    };
    world.input(2, Input::Publish(Entry::Leader(id, led(5, 2))));
    world.input(3, Input::Publish(Entry::Leader(id, led(6, 3))));
    let owned = Ownership {
        epoch: 4,
        owner: NodeId(5),
    };
    world.input(5, Input::Publish(Entry::Owner(RangeId(1), owned)));
    world.run_ms(500);
    for node in 1..=5 {
        assert_eq!(world.nodes[&node].leaders().get(id), Some(led(6, 3)));
        assert_eq!(world.nodes[&node].owners().get(RangeId(1)), Some(owned));
    }
    let learned = Event::LeadershipLearned {
        partition: id,
        leadership: led(6, 3),
    };
    assert!(world.heard(1, |event| *event == learned));
    assert!(!world.heard(3, |event| *event == learned), "its own word");
    // Forgotten everywhere, it does not come back with the next exchange.
    for node in 1..=5 {
        world.input(node, Input::ForgetPartition(id));
        world.input(node, Input::ForgetRange(RangeId(1)));
    }
    world.run_ms(5_000);
    assert!((1..=5).all(|node| world.nodes[&node].leaders().is_empty()));
    assert!((1..=5).all(|node| world.nodes[&node].owners().is_empty()));
}

#[test]
fn equal_states_behave_equally() {
    let run = || {
        let mut world = World::joined(4, &quick());
        world.kill(3);
        world.run_ms(2_000);
        world
    };
    let (one, other) = (run(), run());
    assert_eq!(one.nodes, other.nodes);
    assert_eq!(one.sent, other.sent);
}
