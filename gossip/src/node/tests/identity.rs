//! Lives, keys, replays and rubbish.

use proptest::prelude::*;

use super::world::{World, address, key, quick, ring};
use crate::fact::Status;
use crate::identity::{BootEpoch, NodeId};
use crate::interface::{Event, Input};
use crate::keys::{KeyId, KeyRing};
use crate::refusal::Refusal;

#[test]
fn a_restarted_node_supersedes_itself_before_anyone_missed_it() {
    let mut world = World::joined(4, &quick());
    world.kill(2);
    world.start(2, 2, &quick());
    world.join(2, 1);
    world.run_ms(1_000);
    for node in [1, 3, 4] {
        let seen = world.nodes[&node].member(NodeId(2)).unwrap();
        assert_eq!(seen.incarnation.boot(), BootEpoch(2));
        assert_eq!(seen.status, Status::Alive);
        assert!(world.heard(node, |event| matches!(event, Event::Updated { .. })));
    }
}

#[test]
fn joining_again_does_not_begin_the_incarnations_anew() {
    let mut world = World::joined(3, &quick());
    let mut record = crate::record::testing::record(2);
    for rack in ["a", "b"] {
        record.rack = rack.to_owned();
        let checked = crate::interface::CheckedRecord::new(record.clone()).unwrap();
        world.input(2, Input::UpdateRecord(checked));
    }
    let before = world.nodes[&2].incarnation();
    assert_eq!(before.counter(), 2);
    world.join(2, 3);
    world.run_ms(500);
    assert_eq!(world.nodes[&2].incarnation(), before);
}

#[test]
fn a_node_that_lost_its_disk_goes_on_above_its_earlier_lives() {
    let mut world = World::joined(4, &quick());
    for boot in 2..=5 {
        world.kill(2);
        world.start(2, boot, &quick());
        world.join(2, 1);
        world.run_ms(500);
    }
    world.kill(2);
    world.events.clear();
    world.start(2, 1, &quick());
    world.join(2, 3);
    world.run_ms(1_000);
    let raised = Event::BootEpochRaised(BootEpoch(6));
    assert!(
        world.heard(2, |event| *event == raised),
        "{:?}",
        world.events
    );
    for node in [1, 3, 4] {
        let seen = world.nodes[&node].member(NodeId(2)).unwrap();
        assert_eq!(seen.incarnation.boot(), BootEpoch(6));
        assert_eq!(seen.status, Status::Alive);
    }
    assert_eq!(world.sees(2), [1, 3, 4]);
    // It said nothing of itself under the old number: nobody heard an overtaken claim.
    assert_eq!(world.nodes[&2].incarnation().counter(), 0);
}

#[test]
fn nothing_recorded_is_used_again_before_and_after_restarts() {
    let mut world = World::joined(3, &quick());
    world.run_ms(1_000);
    let recorded = world.sent.clone();
    let replay = |world: &mut World, reasons: &[Refusal]| {
        let refused = |world: &World, to: u32| -> u64 {
            let counters = world.nodes[&to].counters();
            reasons.iter().map(|reason| counters.refused(*reason)).sum()
        };
        let before: u64 = (1..=3).map(|to| refused(world, to)).sum();
        for (from, to, bytes) in &recorded {
            let from = address(*from);
            let accepted = world.nodes[to].counters().datagrams_accepted;
            world.input(*to, Input::Datagram { from, bytes });
            assert_eq!(world.nodes[to].counters().datagrams_accepted, accepted);
        }
        let after: u64 = (1..=3).map(|to| refused(world, to)).sum();
        assert_eq!(after - before, recorded.len() as u64);
    };
    assert!(recorded.len() > 50);
    replay(&mut world, &[Refusal::Replay]);
    for node in 1..=3 {
        world.kill(node);
        world.start(node, 2, &quick());
    }
    replay(&mut world, &[Refusal::Stranger]);
    for node in 2..=3 {
        world.join(node, 1);
    }
    world.run_ms(2_000);
    replay(&mut world, &[Refusal::Stranger, Refusal::Replay]);
    // For another receiver, nothing fits.
    for (_, to, bytes) in &recorded {
        let other = to % 3 + 1;
        let before = world.nodes[&other].counters().datagrams_accepted;
        let from = address(*to);
        world.input(other, Input::Datagram { from, bytes });
        assert_eq!(world.nodes[&other].counters().datagrams_accepted, before);
    }
}

#[test]
fn keys_change_one_node_at_a_time_and_nobody_is_suspected() {
    let mut world = World::joined(4, &quick());
    let both = ring().accepting(KeyId(2), key(2));
    let turned = KeyRing::new(KeyId(2), key(2)).accepting(KeyId(1), key(1));
    let new = KeyRing::new(KeyId(2), key(2));
    for step in [both, turned, new] {
        for node in 1..=4 {
            world.input(node, Input::UseKeys(step.clone()));
            world.run_ms(700);
        }
    }
    world.run_ms(3_000);
    for node in 1..=4 {
        assert_eq!(world.sees(node).len(), 3);
        assert!(!world.heard(node, |event| matches!(event, Event::Suspected { .. })));
        assert_eq!(
            world.nodes[&node].counters().refused(Refusal::UnknownKey),
            0
        );
    }
    // Whoever did not take part in it is out.
    world.input(4, Input::UseKeys(ring()));
    world.run_ms(8_000);
    assert_eq!(world.status(1, 4), Some(Status::Dead));
    assert!(world.nodes[&1].counters().refused(Refusal::UnknownKey) > 0);
}

#[test]
fn clusters_of_another_name_do_not_mix_though_they_share_a_key() {
    let mut other = quick();
    other.cluster_name = "another".to_owned();
    let mut world = World::apart(2, &quick());
    world.start(2, 1, &other);
    world.join(2, 1);
    world.run_ms(3_000);
    assert!(world.sees(1).is_empty() && world.sees(2).is_empty());
    assert!(world.nodes[&1].counters().refused(Refusal::Code) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_from_outside_panic_or_are_believed(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        damage in prop::collection::vec((any::<u16>(), 1_u8..), 1..20),
    ) {
        let mut world = World::joined(2, &quick());
        world.run_ms(300);
        let recorded = world.sent.clone();
        let before = world.nodes[&1].clone();
        for bytes in &datagrams {
            let from = address(2);
            world.input(1, Input::Datagram { from, bytes });
            let stream = crate::StreamId::Accepted(77);
            world.input(1, Input::StreamBytes { stream, bytes });
        }
        for (place, bits) in damage {
            for (_, to, bytes) in recorded.iter().rev().take(5) {
                let mut bytes = bytes.clone();
                let place = usize::from(place) % bytes.len();
                bytes[place] ^= bits;
                let from = address(3 - to);
                world.input(*to, Input::Datagram { from, bytes: &bytes });
            }
        }
        let after = &world.nodes[&1];
        prop_assert_eq!(&before.members, &after.members);
        prop_assert_eq!(before.incarnation, after.incarnation);
        prop_assert_eq!(before.counters.datagrams_accepted, after.counters.datagrams_accepted);
    }
}
