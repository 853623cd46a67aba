//! How a node behaves.

use std::time::Duration;

/// Which of Lifeguard's components are at work (Dadgar, Phillips and Currey, 2018, section 4).
///
/// All of them, always, except in an experiment that measures what they are worth.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lifeguard {
    /// A node that has reason to doubt itself probes more slowly and waits longer; relays say so
    /// when a probe they were asked for stays unanswered (LHA-Probe).
    pub local_health: bool,
    /// A suspicion starts long and shrinks as others confirm it (LHA-Suspicion). Without it every
    /// suspicion lasts the shortest time.
    pub dynamic_suspicion: bool,
    /// Whoever is suspected is told so in the first packet that goes to it (Buddy System).
    pub buddy: bool,
}

impl Lifeguard {
    /// Lifeguard.
    pub const ALL: Lifeguard = Lifeguard {
        local_health: true,
        dynamic_suspicion: true,
        buddy: true,
    };
    /// Plain SWIM.
    pub const NONE: Lifeguard = Lifeguard {
        local_health: false,
        dynamic_suspicion: false,
        buddy: false,
    };
}

/// A node's settings. Times are milliseconds. All nodes of a cluster should have the same.
///
/// The defaults are those that large clusters have been run with for years: a failure is known
/// everywhere some seconds after it, and a node that is merely slow for a second or two is not
/// failed. Shorter intervals find failures sooner and take pauses of the machine for failures.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// The cluster's name. It is part of every authentication code, so that nodes of two clusters
    /// with the same key do not mix.
    pub cluster_name: String,
    /// How often a node probes another: SWIM's protocol period.
    pub ping_interval_ms: u64,
    /// How long an answer to a ping may take before others are asked to try.
    pub ping_timeout_ms: u64,
    /// How many others are asked: SWIM's k.
    pub indirect_probes: usize,
    /// How long a suspected node has to refute, as a multiple of the interval and of the decimal
    /// logarithm of the cluster's size: Lifeguard's alpha.
    pub suspicion_multiplier: u32,
    /// How much longer than that an unconfirmed suspicion lasts: Lifeguard's beta.
    pub suspicion_max_multiplier: u32,
    /// After how many independent confirmations a suspicion has shrunk to its shortest:
    /// Lifeguard's K.
    pub suspicion_confirmations: usize,
    /// The worst local health, and so how many times slower than usual a node may become, less
    /// one: Lifeguard's S.
    pub health_max: u32,
    /// How often queued updates are sent on.
    pub gossip_interval_ms: u64,
    /// To how many others each time.
    pub gossip_fanout: usize,
    /// Each update is sent at most this many times the rounded-up decimal logarithm of the
    /// cluster's size.
    pub retransmit_multiplier: u32,
    /// How long a failed node still gets gossip, so that it can say that it lives.
    pub gossip_to_dead_ms: u64,
    /// How often the full state is exchanged with a random member; longer in clusters of more
    /// than 32.
    pub sync_interval_ms: u64,
    /// How often a node that knows of failed members, or of seeds that are no members, tries to
    /// reach one of them: what heals long partitions and brings islands together.
    pub rejoin_interval_ms: u64,
    /// How often joining is tried again until it worked.
    pub join_retry_ms: u64,
    /// How long a stream may take in all.
    pub stream_timeout_ms: u64,
    /// After how long a failed or departed member is forgotten. Longer than any partition that
    /// should heal by itself.
    pub forget_after_ms: u64,
    /// How long a node that leaves goes on telling so.
    pub leave_ms: u64,
    /// The most members that are remembered; more are refused and counted.
    pub max_members: usize,
    /// The most entries of each last-writer-wins map; more are refused and counted.
    pub max_entries: usize,
    /// The most streams at once, each way; more are refused and counted.
    pub max_streams: usize,
    /// What of Lifeguard is at work.
    pub lifeguard: Lifeguard,
}

/// What is wrong with a [`Config`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The cluster's name is empty or too long.
    #[error("cluster_name must have 1 to 255 bytes, not {0}")]
    ClusterName(usize),
    /// A setting lies outside its range.
    #[error("{name} must be {least} to {most}, not {value}")]
    Range {
        /// The setting.
        name: &'static str,
        /// The least value.
        least: u64,
        /// The greatest value.
        most: u64,
        /// What was given.
        value: u64,
    },
    /// The timeout leaves no time for indirect probes.
    #[error(
        "ping_timeout_ms ({timeout}) must be at most two thirds of ping_interval_ms ({interval}): \
         indirect probes need the rest"
    )]
    Timeout {
        /// The interval.
        interval: u64,
        /// The timeout.
        timeout: u64,
    },
}

impl Config {
    /// The defaults, for the cluster of that name.
    #[must_use]
    pub fn new(cluster_name: impl Into<String>) -> Config {
        Config {
            cluster_name: cluster_name.into(),
            ping_interval_ms: 1_000,
            ping_timeout_ms: 500,
            indirect_probes: 3,
            suspicion_multiplier: 4,
            suspicion_max_multiplier: 6,
            suspicion_confirmations: 3,
            health_max: 7,
            gossip_interval_ms: 200,
            gossip_fanout: 3,
            retransmit_multiplier: 4,
            gossip_to_dead_ms: 30_000,
            sync_interval_ms: 30_000,
            rejoin_interval_ms: 10_000,
            join_retry_ms: 1_000,
            stream_timeout_ms: 10_000,
            forget_after_ms: 24 * 60 * 60 * 1_000,
            leave_ms: 3_000,
            max_members: 4_096,
            max_entries: 1_000_000,
            max_streams: 16,
            lifeguard: Lifeguard::ALL,
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let name_bytes = self.cluster_name.len();
        if !(1..=255).contains(&name_bytes) {
            return Err(ConfigError::ClusterName(name_bytes));
        }
        let day_ms = 24 * 60 * 60 * 1_000;
        let ranges = [
            ("ping_interval_ms", self.ping_interval_ms, 10, 60_000),
            ("ping_timeout_ms", self.ping_timeout_ms, 1, 60_000),
            ("indirect_probes", self.indirect_probes as u64, 0, 16),
            (
                "suspicion_multiplier",
                self.suspicion_multiplier.into(),
                1,
                64,
            ),
            (
                "suspicion_max_multiplier",
                self.suspicion_max_multiplier.into(),
                1,
                64,
            ),
            (
                "suspicion_confirmations",
                self.suspicion_confirmations as u64,
                0,
                16,
            ),
            ("health_max", self.health_max.into(), 0, 32),
            ("gossip_interval_ms", self.gossip_interval_ms, 5, 60_000),
            ("gossip_fanout", self.gossip_fanout as u64, 1, 16),
            (
                "retransmit_multiplier",
                self.retransmit_multiplier.into(),
                1,
                64,
            ),
            ("gossip_to_dead_ms", self.gossip_to_dead_ms, 0, day_ms),
            ("sync_interval_ms", self.sync_interval_ms, 100, day_ms),
            ("rejoin_interval_ms", self.rejoin_interval_ms, 100, day_ms),
            ("join_retry_ms", self.join_retry_ms, 10, day_ms),
            ("stream_timeout_ms", self.stream_timeout_ms, 10, day_ms),
            (
                "forget_after_ms",
                self.forget_after_ms,
                10_000,
                365 * day_ms,
            ),
            ("leave_ms", self.leave_ms, 0, 60_000),
            ("max_members", self.max_members as u64, 1, 1 << 20),
            ("max_entries", self.max_entries as u64, 1, 1 << 24),
            ("max_streams", self.max_streams as u64, 1, 1 << 12),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Range {
                    name,
                    least,
                    most,
                    value,
                });
            }
        }
        if self.ping_timeout_ms * 3 > self.ping_interval_ms * 2 {
            return Err(ConfigError::Timeout {
                interval: self.ping_interval_ms,
                timeout: self.ping_timeout_ms,
            });
        }
        Ok(())
    }

    /// The shortest suspicion among `alive` members: `multiplier * max(1, log10(alive))` periods.
    #[must_use]
    pub fn shortest_suspicion(&self, alive: usize) -> Duration {
        let scale = (alive.max(1) as f64).log10().max(1.0);
        let ms = f64::from(self.suspicion_multiplier) * scale * self.ping_interval_ms as f64;
        Duration::from_millis(ms.round() as u64)
    }

    /// The longest suspicion among `alive` members: what an unconfirmed one lasts.
    #[must_use]
    pub fn longest_suspicion(&self, alive: usize) -> Duration {
        self.shortest_suspicion(alive) * self.suspicion_max_multiplier
    }

    /// How often one update is sent at most: `multiplier * ceil(log10(alive + 1))`.
    #[must_use]
    pub fn most_transmissions(&self, alive: usize) -> u32 {
        let mut digits = 0;
        let mut reach = 1_usize;
        while reach < alive + 1 {
            digits += 1;
            reach = reach.saturating_mul(10);
        }
        self.retransmit_multiplier * digits.max(1)
    }

    /// The time between full exchanges of one member among `alive`: the set one up to 32 members,
    /// and once more for each doubling beyond, so that a cluster's exchanges grow slowly with it.
    #[must_use]
    pub fn sync_interval(&self, alive: usize) -> Duration {
        let mut times = 1;
        let mut reach = 32_usize;
        while reach < alive {
            times += 1;
            reach = reach.saturating_mul(2);
        }
        ms(self.sync_interval_ms) * times
    }
}

/// A span of that many milliseconds.
pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::{Config, ConfigError, ms};

    #[test]
    fn the_defaults_and_the_seeds_users_settings_are_accepted() {
        assert_eq!(Config::new("c").check(), Ok(()));
        let mut quick = Config::new("c");
        quick.ping_interval_ms = 100;
        quick.ping_timeout_ms = 50;
        quick.indirect_probes = 3;
        quick.suspicion_multiplier = 3;
        assert_eq!(quick.check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::new("c");
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|c| c.cluster_name.clear()).contains("cluster_name"));
        assert!(refused(&|c| c.ping_timeout_ms = 900).contains("two thirds"));
        assert!(refused(&|c| c.gossip_fanout = 0).contains("gossip_fanout must be 1 to 16, not 0"));
        let mut zero = Config::new("c");
        zero.ping_interval_ms = 0;
        assert!(matches!(
            zero.check(),
            Err(ConfigError::Range {
                name: "ping_interval_ms",
                ..
            })
        ));
    }

    #[test]
    fn suspicion_retransmission_and_exchange_grow_with_the_logarithm() {
        let config = Config::new("c");
        assert_eq!(config.shortest_suspicion(3), ms(4_000));
        assert_eq!(config.shortest_suspicion(100), ms(8_000));
        assert_eq!(config.longest_suspicion(100), ms(48_000));
        let sent: Vec<u32> = [1, 9, 10, 99, 100, 999]
            .map(|alive| config.most_transmissions(alive))
            .to_vec();
        assert_eq!(sent, [4, 4, 8, 8, 12, 12]);
        let exchange = [32, 33, 64, 65, 1024].map(|alive| config.sync_interval(alive).as_secs());
        assert_eq!(exchange, [30, 60, 60, 90, 180]);
    }
}
