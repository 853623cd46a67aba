//! What a seed decides about a run besides its faults: the group's settings, the hardware, the load.

use std::time::Duration;

use raft::{CommitRule, Reads, Settings};
use simulation::{Draws, LinkModel, Seed};

/// More than the drifts of two clocks can differ: both may be at the largest drawn one.
const LEASE_DRIFT_PPM: u32 = 2 * simulation::MAX_DRIFT_PPM as u32 + 500;

const MILLION: u32 = 1_000_000;

/// A follower that was away for most of a run must be able to catch up in what is left of it.
const SPARE: f64 = 12.0;

/// What the world is like apart from its faults.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// How many nodes have a replica in the beginning; the others can join.
    pub(crate) voters: usize,
    pub(crate) settings: Settings,
    pub(crate) link: LinkModel,
    /// Messages from one node to another do not overtake each other, as on a connection.
    pub(crate) ordered: bool,
    /// A write takes at least this, and an exponential part above it.
    pub(crate) disk_min: Duration,
    pub(crate) disk_mean: Duration,
    /// A tick comes late by this in the mean.
    pub(crate) timer_late: Duration,
    /// Each node's clock drifts by at most this when no fault says otherwise.
    pub(crate) drift_ppm: u64,
    /// How often membership looks which nodes answer.
    pub(crate) detection: Duration,
    pub(crate) load: Load,
    /// Entries at the end of a log that are in memory.
    pub(crate) resident: u64,
    /// The mean of what reading entries that are not resident takes.
    pub(crate) read_delay: Duration,
}

/// What clients do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) clients: u64,
    /// Each client's mean time between two calls.
    pub(crate) every: Duration,
    /// The share of reads among the calls.
    pub(crate) reads: f64,
    /// The share of proposals that wait for visibility.
    pub(crate) acks_all: f64,
    pub(crate) most_entries: u64,
    pub(crate) most_bytes: u64,
    /// The share of calls that go to any node rather than the one that is thought to lead.
    pub(crate) astray: f64,
}

impl Profile {
    pub(crate) fn draw(seed: Seed, nodes: usize) -> Profile {
        let mut draws = seed.draws("profile", &[]);
        let voters = match nodes {
            0..=2 => nodes,
            _ => (nodes - draws.below(nodes as u64 / 2) as usize).max(2),
        };
        let settings = settings(&mut seed.draws("settings", &[]), voters);
        let mut hardware = seed.draws("hardware", &[]);
        let lossy = hardware.chance(0.5);
        let mut profile = Profile {
            voters,
            ordered: seed.draws("ordered", &[]).chance(0.5),
            link: LinkModel {
                delay_min: micros(&mut hardware, 50, 1_000),
                delay_mean: micros(&mut hardware, 50, 4_000),
                loss: if lossy { hardware.unit() * 0.02 } else { 0.0 },
                duplication: if lossy { hardware.unit() * 0.05 } else { 0.0 },
                reordering: if lossy { hardware.unit() * 0.1 } else { 0.0 },
                reordering_delay: micros(&mut hardware, 1_000, 20_000),
            },
            disk_min: micros(&mut hardware, 20, 500),
            disk_mean: micros(&mut hardware, 20, 3_000),
            timer_late: micros(&mut hardware, 1, 1_000),
            drift_ppm: hardware.below(200),
            detection: Duration::from_millis(200 + hardware.below(800)),
            load: load(&mut seed.draws("load", &[])),
            resident: 1 << hardware.below(12),
            read_delay: micros(&mut hardware, 200, 10_000),
            settings,
        };
        while profile.load.bytes_per_second() * SPARE > profile.bytes_per_second() {
            profile.load.every *= 2;
        }
        profile
    }

    /// How long, at least, a replica that has heard a leader votes for no other, whichever clocks both
    /// have: as long as the leader may rely on it.
    pub(crate) fn faithful_for(&self) -> Duration {
        let timeout = self.settings.election_timeout;
        timeout - timeout / MILLION * (2 * LEASE_DRIFT_PPM)
    }

    /// What replication to one follower can carry, about.
    fn bytes_per_second(&self) -> f64 {
        let disk = self.disk_min + self.disk_mean;
        let link = self.link.delay_min + self.link.delay_mean;
        let round = (link + disk) * 2;
        let settings = &self.settings;
        let messages = settings.in_flight_messages as u64 * settings.message_bytes;
        messages.min(settings.in_flight_bytes) as f64 / round.as_secs_f64()
    }
}

impl Load {
    /// Nobody calls.
    pub(crate) fn none() -> Load {
        Load {
            clients: 0,
            every: Duration::from_secs(1),
            reads: 0.0,
            acks_all: 0.0,
            most_entries: 1,
            most_bytes: 1,
            astray: 0.0,
        }
    }

    /// What clients ask for at most, in the mean.
    fn bytes_per_second(&self) -> f64 {
        let one = (self.most_entries * self.most_bytes) as f64 / 4.0;
        one * self.clients as f64 / self.every.as_secs_f64()
    }
}

fn micros(draws: &mut Draws, low: u64, high: u64) -> Duration {
    draws.between(Duration::from_micros(low), Duration::from_micros(high))
}

fn settings(draws: &mut Draws, voters: usize) -> Settings {
    let election_timeout = draws.between(Duration::from_millis(150), Duration::from_millis(500));
    let heartbeat_interval = election_timeout / (2 + draws.below(4) as u32);
    let in_sync = draws.chance(0.3);
    Settings {
        election_timeout,
        election_spread: election_timeout,
        heartbeat_interval,
        resend_after: draws.between(election_timeout / 8, election_timeout),
        in_flight_messages: 1 << draws.below(6),
        in_flight_bytes: 1 << (8 + draws.below(12)),
        message_bytes: 1 << (6 + draws.below(10)),
        uncommitted_bytes: 1 << (10 + draws.below(10)),
        commit_rule: if in_sync {
            CommitRule::InSync
        } else {
            CommitRule::Majority
        },
        min_in_sync: 1 + draws.below(voters as u64 / 2 + 1) as usize,
        lag_time: draws.between(election_timeout, election_timeout * 4),
        lag_entries: 1 << draws.below(10),
        reads: match draws.chance(0.4) {
            true => Reads::Lease {
                drift_ppm: LEASE_DRIFT_PPM,
            },
            false => Reads::Quorum,
        },
        quiesce_after: draws
            .chance(0.5)
            .then(|| draws.between(election_timeout, Duration::from_secs(2))),
    }
}

/// Mostly a few calls a second, now and then hundreds; some runs have pauses long enough for a
/// group to fall quiet.
fn load(draws: &mut Draws) -> Load {
    const EVERY_MS: [u64; 8] = [10, 50, 100, 100, 200, 400, 1_000, 4_000];
    let every_ms = EVERY_MS[draws.below(EVERY_MS.len() as u64) as usize];
    Load {
        clients: 1 + draws.below(4),
        every: Duration::from_millis(every_ms),
        reads: draws.unit() * 0.6,
        acks_all: 0.3 + draws.unit() * 0.7,
        most_entries: 1 + draws.below(5),
        most_bytes: 1 << (3 + draws.below(8)),
        astray: draws.unit() * 0.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_makes_sense() {
        for seed in 0..2_000 {
            for nodes in [2, 3, 4, 5, 7] {
                let profile = Profile::draw(Seed(seed), nodes);
                profile.settings.check().expect("settings that work");
                assert!((2..=nodes).contains(&profile.voters), "{profile:?}");
                let round = profile.link.delay_min + profile.link.delay_mean;
                assert!(profile.settings.election_timeout > round * 5, "{profile:?}");
            }
        }
    }
}
