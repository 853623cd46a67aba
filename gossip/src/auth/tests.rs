use proptest::prelude::*;

use super::{Authenticator, Opened, WINDOW, Window};
use crate::codec::{MAX_PACKET_BYTES, Message};
use crate::identity::{BootEpoch, Life, NodeId};
use crate::keys::{Codes, Key, KeyId, KeyRing};
use crate::random::testing::Sequence;
use crate::refusal::Refusal;
use crate::time::Time;

fn life(boot: u32) -> Life {
    Life {
        boot: BootEpoch(boot),
        nonce: 0,
    }
}

struct End {
    auth: Authenticator,
    random: Sequence,
}

impl End {
    fn new(me: u32, boot: u32) -> End {
        End::with(me, boot, "cluster")
    }

    fn with(me: u32, boot: u32, cluster: &str) -> End {
        let ring = KeyRing::new(KeyId(1), Key::new(vec![9; 32]).unwrap());
        let codes = Codes::new(ring, cluster);
        End {
            auth: Authenticator::new(NodeId(me), life(boot), codes, 8),
            random: Sequence(u64::from(me) << 32 | u64::from(boot)),
        }
    }

    fn send(&mut self, to: u32, answer: Option<u64>) -> Vec<u8> {
        let header = self
            .auth
            .header(NodeId(to), answer, Time::ZERO, &mut self.random);
        let mut packet = Vec::new();
        header.write(&mut packet);
        Message::Ping { sequence: 1 }.write(&mut packet);
        self.auth.seal(&mut packet);
        packet
    }

    fn take<'a>(&mut self, packet: &'a [u8]) -> Result<Opened<'a>, Refusal> {
        self.auth.open(packet, Time::ZERO, &mut self.random)
    }

    /// Whether the packet was used; a stranger's challenge otherwise.
    fn accepts(&mut self, packet: &[u8]) -> Result<bool, Refusal> {
        Ok(matches!(self.take(packet)?, Opened::Trusted { .. }))
    }
}

/// Lets each end trust the other, by what they would send anyway: at most five packets.
fn acquainted(a: &mut End, b: &mut End) {
    let (mut answer, mut trusted) = (None, 0);
    let (mut from, mut to) = (a, b);
    for _ in 0..5 {
        let packet = from.send(to.auth.me.0, answer);
        let (header, used) = match to.take(&packet) {
            Ok(Opened::Stranger { header }) => (header, false),
            Ok(Opened::Trusted { header, .. }) => (header, true),
            Err(reason) => panic!("{reason:?}"),
        };
        answer = header.challenge;
        trusted = if used { trusted + 1 } else { 0 };
        (from, to) = (to, from);
    }
    assert!(trusted >= 2, "both trust each other");
}

#[test]
fn strangers_are_challenged_and_trusted_when_they_answer() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    for _ in 0..3 {
        let packet = a.send(2, None);
        assert_eq!(b.accepts(&packet), Ok(true));
        assert_eq!(b.accepts(&packet), Err(Refusal::Replay));
    }
}

#[test]
fn a_recording_of_an_earlier_life_is_never_used() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let recorded: Vec<_> = (0..5).map(|_| a.send(2, None)).collect();
    let mut reborn = End::new(1, 2);
    acquainted(&mut reborn, &mut b);
    for packet in &recorded {
        assert_eq!(b.accepts(packet), Ok(false), "older: challenged");
    }
    // The challenge that the recording caused does not make the living one a stranger.
    let packet = reborn.send(2, None);
    assert_eq!(b.accepts(&packet), Ok(true));
    // And the receiver's own restart does not make recordings good.
    let mut b = End::new(2, 2);
    for packet in &recorded {
        assert_eq!(b.accepts(packet), Ok(false), "unknown: challenged");
    }
    acquainted(&mut reborn, &mut b);
    assert_eq!(b.accepts(&packet), Err(Refusal::Replay), "below the answer");
}

#[test]
fn a_recording_does_not_change_who_is_told_what() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    let asking = a.send(2, None);
    acquainted(&mut a, &mut b);
    assert!(b.auth.is_trusted_by(NodeId(1)));
    assert!(b.take(&asking).is_err());
    assert!(b.auth.is_trusted_by(NodeId(1)));
    // The living one says so itself when it does not trust us any more.
    a.auth.forget(NodeId(2));
    let packet = a.send(2, None);
    assert_eq!(b.accepts(&packet), Ok(true));
    assert!(!b.auth.is_trusted_by(NodeId(1)));
}

#[test]
fn a_wiped_node_of_an_older_epoch_is_trusted_when_it_answers() {
    let (mut a, mut b) = (End::new(1, 7), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let mut wiped = End::new(1, 1);
    acquainted(&mut wiped, &mut b);
    let packet = wiped.send(2, None);
    assert_eq!(b.accepts(&packet), Ok(true));
}

#[test]
fn a_late_stream_of_an_earlier_life_makes_no_recording_good() {
    let (mut a, mut b) = (End::new(1, 3), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let packet = a.send(2, None);
    assert_eq!(b.accepts(&packet), Ok(true));
    b.auth.trust(NodeId(1), life(1), 10);
    b.auth.trust(NodeId(1), life(3), 0);
    assert_eq!(b.accepts(&packet), Err(Refusal::Replay));
}

#[test]
fn recordings_of_a_life_with_the_same_epoch_are_told_apart() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let recorded: Vec<_> = (0..50).map(|_| a.send(2, None)).collect();
    // It lost its disk and counts from one again.
    let mut wiped = End::new(1, 1);
    wiped.auth.life.nonce = 1;
    acquainted(&mut wiped, &mut b);
    for packet in &recorded {
        assert_eq!(b.accepts(packet), Ok(false));
    }
    let packet = wiped.send(2, None);
    assert_eq!(b.accepts(&packet), Ok(true));
}

#[test]
fn every_part_of_a_packet_is_authenticated() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let packet = a.send(2, None);
    for at in 0..packet.len() {
        let mut damaged = packet.clone();
        damaged[at] ^= 0x40;
        assert!(b.take(&damaged).is_err(), "byte {at}");
    }
    for length in 0..packet.len() {
        assert!(b.take(&packet[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(b.accepts(&packet), Ok(true), "none of that spent it");
}

#[test]
fn what_is_for_another_node_or_cluster_or_is_our_own_is_refused() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let to_other = a.send(3, None);
    assert_eq!(b.accepts(&to_other), Err(Refusal::Destination));
    let mut namesake = End::with(1, 1, "other cluster");
    assert_eq!(b.accepts(&namesake.send(2, None)), Err(Refusal::Code));
    let mut double = End::new(2, 1);
    assert_eq!(b.accepts(&double.send(2, None)), Err(Refusal::OwnPacket));
    let long = vec![0; MAX_PACKET_BYTES + 1];
    assert_eq!(b.accepts(&long), Err(Refusal::TooLong));
}

#[test]
fn a_removed_key_is_unknown_and_a_new_one_is_taken() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    let key = |byte| Key::new(vec![byte; 32]).unwrap();
    let both = KeyRing::new(KeyId(1), key(9)).accepting(KeyId(2), key(8));
    let turned = KeyRing::new(KeyId(2), key(8)).accepting(KeyId(1), key(9));
    b.auth.use_keys(both);
    a.auth.use_keys(turned);
    assert_eq!(b.accepts(&a.send(2, None)), Ok(true));
    b.auth.use_keys(KeyRing::new(KeyId(1), key(9)));
    assert_eq!(b.accepts(&a.send(2, None)), Err(Refusal::UnknownKey));
}

#[test]
fn a_forgotten_peer_does_not_take_our_next_packets_for_old_ones() {
    let (mut a, mut b) = (End::new(1, 1), End::new(2, 1));
    acquainted(&mut a, &mut b);
    for _ in 0..2_000 {
        let packet = a.send(2, None);
        assert_eq!(b.accepts(&packet), Ok(true));
    }
    a.auth.forget(NodeId(2));
    assert_eq!(b.accepts(&a.send(2, None)), Ok(true));
    // Too many peers: one is dropped, and the table stays bounded.
    for other in 10..40 {
        a.send(other, None);
        assert!(a.auth.peers.len() <= 8);
    }
    assert_eq!(b.accepts(&a.send(2, None)), Ok(true));
}

proptest! {
    /// Against the plain definition: a set of what was taken.
    #[test]
    fn a_window_takes_each_number_once_and_none_that_is_too_old(
        steps in prop::collection::vec((any::<bool>(), 0_u64..1_500), 1..200),
    ) {
        let mut window = Window::beginning_after(life(1), 5_000);
        let mut taken = std::collections::BTreeSet::new();
        let mut highest = 5_000_u64;
        for (forward, by) in steps {
            let number = if forward { highest + by % 1_100 } else { highest.saturating_sub(by) };
            let expected = number > 5_000 && number + WINDOW > highest && taken.insert(number);
            prop_assert_eq!(window.take(number), expected, "{} at {}", number, highest);
            highest = highest.max(number);
        }
    }
}
