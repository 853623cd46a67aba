use super::{Errand, Identity, Step, Stream};
use crate::auth::Authenticator;
use crate::identity::{BootEpoch, Life, NodeId};
use crate::keys::{Codes, Key, KeyId, KeyRing};
use crate::random::testing::Sequence;
use crate::refusal::Refusal;
use crate::time::Time;

struct End {
    me: Identity,
    auth: Authenticator,
    random: Sequence,
}

impl End {
    fn new(node: u32) -> End {
        let ring = KeyRing::new(KeyId(1), Key::new(vec![1; 32]).unwrap());
        let me = Identity {
            node: NodeId(node),
            life: Life {
                boot: BootEpoch(1),
                nonce: node,
            },
        };
        End {
            auth: Authenticator::new(me.node, me.life, Codes::new(ring, "c"), 10),
            me,
            random: Sequence(node.into()),
        }
    }

    fn open(&mut self, errand: Errand, peer: Option<u32>) -> (Stream, Vec<u8>) {
        let peer = peer.map(NodeId);
        Stream::open(errand, self.me, peer, &self.auth, &mut self.random, Time(9))
    }

    fn take(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<Vec<Step>, Refusal> {
        stream.receive(bytes);
        let mut all = Vec::new();
        while let Some(steps) = stream.step(self.me, &mut self.auth, &mut self.random)? {
            all.extend(steps);
        }
        Ok(all)
    }
}

fn replies(steps: &[Step]) -> Vec<u8> {
    let bytes = steps.iter().filter_map(|step| match step {
        Step::Reply(bytes) => Some(bytes.clone()),
        _ => None,
    });
    bytes.flatten().collect()
}

#[test]
fn a_ping_is_answered_with_proof_of_life_and_ends() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let (mut opened, hello) = a.open(Errand::Ping { sequence: 7 }, Some(2));
    let mut accepted = Stream::accept(Time(9));
    let steps = b.take(&mut accepted, &hello).unwrap();
    assert_eq!(steps.last(), Some(&Step::Close));
    let steps = a.take(&mut opened, &replies(&steps)).unwrap();
    let pinged = Step::Pinged {
        peer: NodeId(2),
        sequence: 7,
    };
    assert_eq!(steps, [pinged, Step::Close]);
}

#[test]
fn a_recorded_opener_gets_no_state_and_a_recorded_acceptor_proves_nothing() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let (mut opened, hello) = a.open(Errand::Sync, None);
    let mut accepted = Stream::accept(Time(9));
    let welcome = replies(&b.take(&mut accepted, &hello).unwrap());
    let confirm = replies(&a.take(&mut opened, &welcome).unwrap());
    let steps = b.take(&mut accepted, &confirm).unwrap();
    assert_eq!(steps, [Step::SendState]);
    // The same bytes again, to another stream of each side.
    let mut again = Stream::accept(Time(9));
    b.take(&mut again, &hello).unwrap();
    assert_eq!(b.take(&mut again, &confirm), Err(Refusal::Code));
    let (mut other, _) = a.open(Errand::Sync, None);
    assert_eq!(a.take(&mut other, &welcome), Err(Refusal::Code));
}

#[test]
fn states_go_one_after_the_other_the_openers_last() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let (mut opened, hello) = a.open(Errand::Sync, Some(2));
    let mut accepted = Stream::accept(Time(9));
    let welcome = replies(&b.take(&mut accepted, &hello).unwrap());
    let confirm = replies(&a.take(&mut opened, &welcome).unwrap());
    b.take(&mut accepted, &confirm).unwrap();
    assert!(accepted.cursor().is_some() && opened.cursor().is_none());
    let chunk = replies(&accepted.send_chunk(&[], None, &b.auth));
    let steps = a.take(&mut opened, &chunk).unwrap();
    assert_eq!(steps.last(), Some(&Step::SendState));
    let steps = opened.send_chunk(&[], None, &a.auth);
    let exchanged = |peer| Step::Exchanged { peer: NodeId(peer) };
    assert_eq!(steps[1..], [exchanged(2), Step::Close]);
    let steps = b.take(&mut accepted, &replies(&steps)).unwrap();
    assert_eq!(steps[1..], [exchanged(1), Step::Close]);
}

#[test]
fn damaged_cut_misdirected_and_untimely_frames_are_refused() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let (_, hello) = a.open(Errand::Sync, Some(2));
    for place in 0..hello.len() {
        let mut damaged = hello.clone();
        damaged[place] ^= 1;
        let mut accepted = Stream::accept(Time(9));
        let taken = b.take(&mut accepted, &damaged);
        // A longer length waits for more; everything else is refused at once.
        assert!(taken.is_err() || taken == Ok(Vec::new()), "byte {place}");
    }
    for length in 0..hello.len() {
        let mut accepted = Stream::accept(Time(9));
        assert_eq!(b.take(&mut accepted, &hello[..length]), Ok(Vec::new()));
    }
    let mut third = End::new(3);
    let mut accepted = Stream::accept(Time(9));
    assert_eq!(third.take(&mut accepted, &hello), Err(Refusal::Destination));
    let (_, to_anyone) = a.open(Errand::Sync, None);
    let mut own = Stream::accept(Time(9));
    assert_eq!(a.take(&mut own, &to_anyone), Err(Refusal::OwnPacket));
    let mut endless = Stream::accept(Time(9));
    assert_eq!(b.take(&mut endless, &[0xff; 8]), Err(Refusal::TooLong));
}

#[test]
fn a_seed_that_is_somebody_else_than_meant_is_refused() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let (mut opened, _) = a.open(Errand::Sync, Some(3));
    let (_, hello) = a.open(Errand::Sync, None);
    let mut accepted = Stream::accept(Time(9));
    let welcome = replies(&b.take(&mut accepted, &hello).unwrap());
    assert!(a.take(&mut opened, &welcome).is_err());
}
