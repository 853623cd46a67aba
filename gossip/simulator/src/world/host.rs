//! A host: what is on its disk, its clock, what waits for it while it stands still, and its node.

use std::collections::VecDeque;

use gossip::{CheckedRecord, Effect, Key, KeyId, KeyRing, Node, NodeRecord, Random, Version};
use simulation::{Draws, Seed, Time};

use super::streams::Piece;
use super::{Datagram, address};

/// A node's source of randomness.
pub(super) struct Randomness(pub(super) Draws);

impl Random for Randomness {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A monotonic clock that starts anywhere and drifts.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    real: Time,
    local: u64,
    drift_ppm: i64,
}

impl Clock {
    /// What it shows.
    pub(crate) fn local(&self, now: Time) -> gossip::Time {
        let passed = now.0.saturating_sub(self.real.0);
        let gained = i128::from(passed) * i128::from(self.drift_ppm) / 1_000_000;
        let shown = i128::from(self.local) + i128::from(passed) + gained;
        gossip::Time(u64::try_from(shown).unwrap_or(0))
    }

    /// When it will show at least that.
    pub(crate) fn real(&self, local: gossip::Time) -> Time {
        let missing = i128::from(local.0.saturating_sub(self.local));
        let rate = i128::from(1_000_000 + self.drift_ppm);
        let passed = (missing * 1_000_000).div_euclid(rate) + 1;
        let exact = missing == 0 || self.drift_ppm == 0;
        let passed = if exact { missing } else { passed };
        Time(self.real.0.saturating_add(passed as u64))
    }

    /// Goes on from what it shows now with another drift.
    pub(crate) fn drift(&mut self, now: Time, drift_ppm: i32) {
        self.local = self.local(now).0;
        self.real = now;
        self.drift_ppm = drift_ppm.into();
    }
}

/// What waits while a host stands still. Its socket holds only so many datagrams.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Waiting>,
    datagrams: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Datagram(Datagram),
    Stream {
        connection: u64,
        side: usize,
        piece: Piece,
    },
}

/// As many datagrams of gossip's size as Linux keeps for a socket by default (208 KiB).
const SOCKET_DATAGRAMS: usize = 256;

impl Inbox {
    pub(super) fn datagram(&mut self, datagram: Datagram) {
        if self.datagrams < SOCKET_DATAGRAMS {
            self.datagrams += 1;
            self.waiting.push_back(Waiting::Datagram(datagram));
        }
    }

    pub(super) fn stream(&mut self, connection: u64, side: usize, piece: Piece) {
        self.waiting.push_back(Waiting::Stream {
            connection,
            side,
            piece,
        });
    }

    pub(super) fn take(&mut self) -> VecDeque<Waiting> {
        self.datagrams = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// A host.
pub(crate) struct Host {
    pub(crate) node: Option<Node>,
    /// Counts lives: part of the record, so that no two lives publish the same one.
    pub(super) life: u32,
    /// On its disk: the boot epoch of the last life.
    pub(super) boot: u32,
    /// In its configuration: how far the cluster's keys have been rotated.
    pub(super) ring_stage: usize,
    /// How often its record was changed.
    pub(super) edition: u32,
    pub(crate) clock: Clock,
    pub(super) random: Draws,
    pub(super) tick_at: Option<Time>,
    pub(super) inbox: Inbox,
    /// What its node wanted while its sends were held back.
    pub(super) outbox: Vec<Effect>,
    /// How many faults hold it down, and still.
    pub(super) held_down: u32,
    pub(super) held_still: u32,
    pub(super) comes_back: super::Start,
}

impl Host {
    pub(super) fn new(seed: Seed, host: usize) -> Host {
        let mut draws = seed.draws("clock", &[host as u64]);
        Host {
            node: None,
            life: 0,
            boot: 0,
            ring_stage: 0,
            edition: 0,
            clock: Clock {
                real: Time::ZERO,
                local: draws.below(1 << 50),
                drift_ppm: 0,
            },
            random: seed.draws("node", &[host as u64]),
            tick_at: None,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            held_down: 0,
            held_still: 0,
            comes_back: super::Start::Kept,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.held_still > 0 && self.node.is_some()
    }

    /// Its record. No two lives publish the same one.
    pub(super) fn record(&self, host: usize) -> CheckedRecord {
        let record = NodeRecord {
            gossip: address(host),
            endpoints: Vec::new(),
            rack: format!("life {} edition {}", self.life, self.edition),
            shards: 2,
            version: Version {
                major: 0,
                minor: 1,
                patch: 0,
            },
            draining: self.edition % 2 == 1,
        };
        CheckedRecord::new(record).expect("the record is small")
    }

    pub(super) fn ring(&self) -> KeyRing {
        key_ring(self.ring_stage)
    }
}

/// The ring at a stage of rotation. Rotations follow each other in steps of three: the next key is
/// accepted too, then it is used, then the one before is not accepted any more.
pub(crate) fn key_ring(stage: usize) -> KeyRing {
    let key = |number: usize| {
        let bytes = vec![number as u8 + 1; 32];
        let key = Key::new(bytes).expect("the key is long enough");
        (KeyId(number as u32), key)
    };
    let (id, old) = key(stage / 3);
    let (next_id, new) = key(stage / 3 + 1);
    match stage % 3 {
        0 => KeyRing::new(id, old),
        1 => KeyRing::new(id, old).accepting(next_id, new),
        _ => KeyRing::new(next_id, new).accepting(id, old),
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use simulation::Time;

    #[test]
    fn a_clock_shows_what_was_asked_for_when_it_says() {
        for drift_ppm in [-1_000, -7, 0, 3, 1_000] {
            let mut clock = Clock {
                real: Time::ZERO,
                local: 12_345,
                drift_ppm: 0,
            };
            clock.drift(Time(1_000_000), drift_ppm);
            for ahead in [0, 1, 999, 1_000_001, 77_777_777_777] {
                let wanted = gossip::Time(clock.local(Time(1_000_000)).0 + ahead);
                let at = clock.real(wanted);
                assert!(clock.local(at) >= wanted, "{drift_ppm} {ahead}");
                assert!(clock.local(Time(at.0.saturating_sub(3))).0 <= wanted.0);
            }
        }
    }
}
