//! Probing, suspicion, refutation and passing on.

use super::world::{World, address, quick};
use crate::auth::Authenticator;
use crate::codec::{Message, Messages};
use crate::config::Lifeguard;
use crate::fact::{Claim, Fact, Status};
use crate::identity::{BootEpoch, Life, NodeId};
use crate::interface::{Event, Input};
use crate::keys::Codes;
use crate::node::tests::world::ring;
use crate::random::testing::Sequence;
use crate::time::Time;

fn failed(node: u32) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Failed { node: failed, .. } if *failed == NodeId(node))
}

/// A member without a life of its own, whose packets a test writes by hand.
struct Puppet {
    auth: Authenticator,
    random: Sequence,
}

impl Puppet {
    fn new(node: u32, boot: u32) -> Puppet {
        let codes = Codes::new(ring(), "test");
        let life = Life {
            boot: BootEpoch(boot),
            nonce: 0,
        };
        Puppet {
            auth: Authenticator::new(NodeId(node), life, codes, 100),
            random: Sequence(99),
        }
    }

    /// Says that to node `to`, which trusts it from now on.
    fn say(&mut self, world: &mut World, from: u32, to: u32, messages: &[Message]) {
        let mut answer = None;
        for _ in 0..2 {
            let random = &mut self.random;
            let header = self.auth.header(NodeId(to), answer, world.now, random);
            let mut packet = Vec::new();
            header.write(&mut packet);
            for message in messages {
                message.write(&mut packet);
            }
            self.auth.seal(&mut packet);
            let before = world.nodes[&to].counters().datagrams_accepted;
            let sent = world.sent.len();
            let from = address(from);
            let bytes = &packet;
            world.input(to, Input::Datagram { from, bytes });
            if world.nodes[&to].counters().datagrams_accepted > before {
                return;
            }
            let challenge = &world.sent[sent].2;
            let mut reader = crate::codec::Reader::new(challenge);
            answer = crate::codec::Header::read(&mut reader).unwrap().challenge;
        }
        panic!("an answered challenge is trusted");
    }
}

fn claim(world: &World, about: u32, at: u32, claim: Claim) -> Message {
    let incarnation = if about == at {
        world.nodes[&at].incarnation()
    } else {
        world.nodes[&at].member(NodeId(about)).unwrap().incarnation
    };
    Message::Fact(Fact {
        node: NodeId(about),
        incarnation,
        claim,
    })
}

#[test]
fn a_dead_member_is_failed_everywhere_and_a_living_one_nowhere() {
    let mut world = World::joined(8, &quick());
    world.kill(5);
    let took = world.until(20_000, |world| {
        (1..=8).all(|node| node == 5 || world.heard(node, failed(5)))
    });
    // At most 2 N - 1 periods to the first probe, and the shortest suspicion once confirmed.
    assert!(took.unwrap() <= 1_500 + 2_400, "{took:?}");
    assert_eq!(world.events.iter().filter(|(_, e)| failed(5)(e)).count(), 7);
    assert!((1..=8).all(|node| !world.heard(5, failed(node))));
    for other in [1, 2, 3, 4, 6, 7, 8] {
        assert!((1..=8).all(|node| node == 5 || !world.heard(other, failed(node))));
    }
}

#[test]
fn others_reach_whom_the_prober_cannot() {
    let mut world = World::joined(5, &quick());
    world.cut_both(1, 2);
    world.run_ms(20_000);
    for node in 1..=5 {
        assert!(!world.heard(node, |event| matches!(event, Event::Suspected { .. })));
        assert_eq!(world.nodes[&node].local_health(), 0);
    }
}

#[test]
fn a_stream_reaches_whom_datagrams_do_not() {
    let mut world = World::joined(2, &quick());
    world.cuts.datagrams.extend([(1, 2), (2, 1)]);
    world.run_ms(5_000);
    assert_eq!((world.sees(1), world.sees(2)), (vec![2], vec![1]));
    assert!(!world.heard(1, |event| matches!(event, Event::Suspected { .. })));
    assert!(world.nodes[&1].counters().probes_answered_by_stream > 10);
}

#[test]
fn relays_say_at_four_fifths_of_the_time_that_they_got_no_answer() {
    let mut world = World::joined(5, &quick());
    world.kill(5);
    world.sent.clear();
    let asked = |world: &World, missed| {
        let probes = (1..5).filter_map(|node| world.nodes[&node].probe.clone());
        probes
            .filter(|probe| probe.relays.len() == 3 && probe.missed_nacks() == missed)
            .map(|probe| probe.started)
            .next()
    };
    // Asked after half of the period, they wait for four fifths of the other half.
    world.until(3_000, |world| asked(world, 3).is_some());
    let started = asked(&world, 3).unwrap();
    world.until(100, |world| asked(world, 0) == Some(started));
    let after_ms = world.now.since(started).as_millis();
    assert!((90..100).contains(&after_ms), "{after_ms}");
}

#[test]
fn a_node_that_nobody_answers_blames_itself_and_slows_down() {
    let mut world = World::joined(6, &quick());
    // Node 1 hears nothing any more; the others hear it.
    for other in 2..=6 {
        world.cuts.datagrams.insert((other, 1));
        world.cuts.streams.extend([(1, other), (other, 1)]);
    }
    let probes = world.nodes[&1].counters().probes;
    world.run_ms(2_000);
    assert!(world.nodes[&1].local_health() >= 4);
    let made = world.nodes[&1].counters().probes - probes;
    assert!(made <= 7, "instead of 20: {made}");
}

#[test]
fn only_the_acknowledgement_of_this_probe_ends_it() {
    let mut world = World::joined(3, &quick());
    world.kill(3);
    let mut puppet = Puppet::new(2, 2);
    world.kill(2);
    world.until(1_000, |world| world.nodes[&1].probe.is_some());
    let probe = world.nodes[&1].probe.clone().unwrap();
    let number = probe.sequence;
    let target = probe.target;
    // Late: the numbers of earlier probes. Early: of ones to come.
    for wrong in [number.wrapping_sub(1), number.wrapping_add(1), 0] {
        puppet.say(&mut world, 2, 1, &[Message::Ack { sequence: wrong }]);
        // Proving oneself to node 1 may count as an answer if node 2 is the target.
        if target == NodeId(2) {
            break;
        }
        assert_eq!(world.nodes[&1].probe, Some(probe.clone()));
    }
    // The right number from somebody who was not asked.
    if target != NodeId(2) {
        puppet.say(&mut world, 2, 1, &[Message::Ack { sequence: number }]);
        assert_eq!(world.nodes[&1].probe, Some(probe));
    }
    assert!(
        world
            .until(10_000, |world| world.heard(1, failed(3)))
            .is_some()
    );
}

#[test]
fn a_suspects_own_packets_do_not_extend_its_suspicion() {
    let mut world = World::joined(3, &quick());
    world.kill(2);
    let mut puppet = Puppet::new(2, 2);
    let suspected = claim(&world, 2, 1, Claim::Suspect { by: NodeId(3) });
    let mut accuser = Puppet::new(3, 2);
    world.kill(3);
    accuser.say(&mut world, 3, 1, &[suspected]);
    assert_eq!(world.status(1, 2), Some(Status::Suspect));
    let deadline = world.nodes[&1].suspicions.deadline();
    for sequence in 0..20 {
        world.run_ms(10);
        puppet.say(&mut world, 2, 1, &[Message::Ping { sequence }]);
        assert_eq!(world.nodes[&1].suspicions.deadline(), deadline);
        assert_eq!(world.status(1, 2), Some(Status::Suspect));
    }
}

#[test]
fn suspect_dead_left_and_wrong_records_about_oneself_are_refuted() {
    let mut world = World::joined(3, &quick());
    let mut puppet = Puppet::new(3, 2);
    world.kill(3);
    let mut wrong = crate::record::testing::record(1);
    wrong.rack = "another".to_owned();
    let claims = [
        Claim::Suspect { by: NodeId(3) },
        Claim::Dead { by: NodeId(3) },
        Claim::Left,
        Claim::Alive(std::sync::Arc::new(wrong)),
    ];
    for (times, about_me) in claims.into_iter().enumerate() {
        let before = world.nodes[&1].incarnation();
        let message = claim(&world, 1, 1, about_me);
        puppet.say(&mut world, 3, 1, &[message]);
        let after = world.nodes[&1].incarnation();
        assert_eq!(Some(after), before.next_in_life(), "claim {times}");
        world.run_ms(200);
        let seen = world.nodes[&2].member(NodeId(1)).unwrap();
        assert_eq!((seen.incarnation, seen.status), (after, Status::Alive));
    }
    assert_eq!(world.nodes[&1].counters().refutations, 3);
}

#[test]
fn whoever_is_suspected_is_told_in_the_next_ping() {
    for (lifeguard, told) in [(Lifeguard::ALL, true), (Lifeguard::NONE, false)] {
        let mut config = quick();
        config.lifeguard = lifeguard;
        let mut world = World::joined(2, &config);
        let mut puppet = Puppet::new(3, 2);
        let message = claim(&world, 2, 1, Claim::Suspect { by: NodeId(3) });
        puppet.say(&mut world, 3, 1, &[message]);
        // The update itself was sent often enough already.
        let node = world.nodes.get_mut(&1).unwrap();
        node.updates.drop_subject(NodeId(2));
        world.cuts.streams.extend([(1, 2), (2, 1)]);
        world.run_ms(150);
        assert_eq!(world.nodes[&2].counters().refutations == 1, told);
    }
}

#[test]
fn whoever_brings_up_a_suspicion_tells_the_suspect_at_once() {
    let mut world = World::joined(6, &quick());
    // Node 2 does not hear for a while, and nobody gossips.
    for other in [1, 3, 4, 5, 6] {
        world.cut_both(other, 2);
        let node = world.nodes.get_mut(&other).unwrap();
        node.timers.gossip = Time(u64::MAX / 2);
    }
    let suspects = |world: &World| world.status(1, 2) == Some(Status::Suspect);
    world.until(3_000, suspects);
    let told = world
        .sent
        .iter()
        .rev()
        .find(|(from, to, _)| (*from, *to) == (1, 2));
    let (_, _, bytes) = told.unwrap();
    let body = &bytes[crate::codec::HEADER_BYTES..bytes.len() - 16];
    let claim = Messages::read(body).unwrap();
    let expected = claim_of(&world, 2, 1);
    assert!(claim.contains(&expected), "{claim:?}");
}

/// The claim of node `at` about `about`.
fn claim_of(world: &World, about: u32, at: u32) -> Message {
    claim(world, about, at, Claim::Suspect { by: NodeId(at) })
}

#[test]
fn each_new_accuser_is_passed_on_and_known_ones_are_not() {
    let mut world = World::joined(8, &quick());
    let node = world.nodes.get_mut(&1).unwrap();
    node.timers.gossip = Time(u64::MAX / 2);
    let queued = |world: &World| world.nodes[&1].updates.holds(NodeId(2));
    let mut boot = 0;
    for (by, news) in [
        (3, true),
        (4, true),
        (4, false),
        (5, true),
        (6, true),
        (7, false),
    ] {
        let node = world.nodes.get_mut(&1).unwrap();
        node.updates.drop_subject(NodeId(2));
        let message = claim(&world, 2, 1, Claim::Suspect { by: NodeId(by) });
        boot += 1;
        let mut puppet = Puppet::new(9, boot);
        puppet.say(&mut world, 9, 1, &[message]);
        assert_eq!(queued(&world), news, "accuser {by}");
    }
}

#[test]
fn what_one_hears_all_hear() {
    let mut world = World::joined(20, &quick());
    // Nobody but node 2 talks to node 1.
    for other in 3..=20 {
        world.cut_both(1, other);
    }
    let mut changed = crate::record::testing::record(1);
    changed.draining = true;
    let record = crate::interface::CheckedRecord::new(changed).unwrap();
    world.input(1, Input::UpdateRecord(record));
    let took = world.until(1_000, |world| {
        (2..=20).all(|node| {
            world.nodes[&node]
                .member(NodeId(1))
                .unwrap()
                .record
                .draining
        })
    });
    assert!(took.is_some());
}

#[test]
fn no_datagram_is_too_long_however_much_there_is_to_say() {
    let mut world = World::joined(3, &quick());
    let mut puppet = Puppet::new(9, 1);
    for about in 100..400 {
        let mut record = crate::record::testing::record(about);
        record.rack = "r".repeat(64);
        let message = Message::Fact(Fact {
            node: NodeId(about),
            incarnation: crate::Incarnation::first(BootEpoch(1)),
            claim: Claim::Alive(std::sync::Arc::new(record)),
        });
        puppet.say(&mut world, 9, 1, &[message]);
    }
    // The stranger got what is new with each answer; the others get the rest.
    world.run_ms(300);
    let longest = world.sent.iter().map(|(_, _, bytes)| bytes.len()).max();
    assert!((1_200..=crate::MAX_PACKET_BYTES).contains(&longest.unwrap()));
    for (_, _, bytes) in &world.sent {
        let body = &bytes[crate::codec::HEADER_BYTES..bytes.len() - 16];
        assert!(Messages::read(body).is_ok() || bytes[3] != 0);
    }
}
