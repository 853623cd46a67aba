//! Suspicion: the time a member has to refute before it is taken for dead, which shrinks as
//! independent members confirm (Lifeguard section 4.2).
//!
//! One accuser may be the sick one itself, so alone it has to wait long. Only *other* accusers
//! shorten the wait: neither hearing the same one twice nor anything that the suspect sends except
//! a refutation changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
use crate::identity::{Incarnation, NodeId};
use crate::time::Time;

/// One member's suspicion.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Suspicion {
    /// Which incarnation is suspected.
    pub(crate) incarnation: Incarnation,
    started: Time,
    shortest: Duration,
    longest: Duration,
    /// How many confirmations bring it to its shortest: C of K, this is K.
    needed: usize,
    /// Whoever accused, the first one too; at most `needed + 1`.
    accusers: BTreeSet<NodeId>,
}

impl Suspicion {
    fn new(
        config: &Config,
        alive: usize,
        incarnation: Incarnation,
        by: NodeId,
        now: Time,
    ) -> Suspicion {
        let shortest = config.shortest_suspicion(alive);
        // With too few others to confirm, waiting for them would only be waiting.
        let possible = alive.saturating_sub(2);
        let dynamic = config.lifeguard.dynamic_suspicion;
        let needed = config.suspicion_confirmations;
        let needed = if dynamic && possible >= needed {
            needed
        } else {
            0
        };
        Suspicion {
            incarnation,
            started: now,
            shortest,
            longest: shortest * config.suspicion_max_multiplier,
            needed,
            accusers: BTreeSet::from([by]),
        }
    }

    /// How long it lasts: from the longest to the shortest by `log(C + 1) / log(K + 1)`.
    fn lasts(&self) -> Duration {
        if self.needed == 0 {
            return self.shortest;
        }
        let confirmed = (self.accusers.len() - 1) as f64;
        let share = (confirmed + 1.0).ln() / (self.needed as f64 + 1.0).ln();
        let span = self.longest.saturating_sub(self.shortest);
        let shrunk = span.mul_f64(share.clamp(0.0, 1.0));
        self.longest.saturating_sub(shrunk).max(self.shortest)
    }

    fn ends(&self) -> Time {
        self.started.after(self.lasts())
    }
}

/// All suspicions of a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Suspicions {
    of: BTreeMap<NodeId, Suspicion>,
}

impl Suspicions {
    /// Begins one, in place of one of an earlier incarnation.
    pub(crate) fn begin(
        &mut self,
        config: &Config,
        alive: usize,
        suspect: (NodeId, Incarnation),
        by: NodeId,
        now: Time,
    ) {
        let (node, incarnation) = suspect;
        let suspicion = Suspicion::new(config, alive, incarnation, by, now);
        self.of.insert(node, suspicion);
    }

    /// Takes note of another accuser. Whether it was news, and so must be passed on.
    pub(crate) fn confirm(&mut self, node: NodeId, by: NodeId) -> bool {
        match self.of.get_mut(&node) {
            Some(suspicion) if by != node && suspicion.accusers.len() <= suspicion.needed => {
                suspicion.accusers.insert(by)
            }
            _ => false,
        }
    }

    /// Ends it, whatever the reason.
    pub(crate) fn end(&mut self, node: NodeId) {
        self.of.remove(&node);
    }

    /// Who has not refuted in time.
    pub(crate) fn expired(&self, now: Time) -> Option<(NodeId, Incarnation)> {
        let (node, suspicion) = self
            .of
            .iter()
            .find(|(_, suspicion)| suspicion.ends() <= now)?;
        Some((*node, suspicion.incarnation))
    }

    /// When the next one ends.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.of.values().map(Suspicion::ends).min()
    }

    /// Starts one anew from `now`: only a planted bug does.
    pub(crate) fn restart(&mut self, node: NodeId, now: Time) {
        if let Some(suspicion) = self.of.get_mut(&node) {
            suspicion.started = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Suspicions;
    use crate::config::{Config, Lifeguard, ms};
    use crate::identity::{BootEpoch, Incarnation, NodeId};
    use crate::time::Time;

    const SUSPECT: NodeId = NodeId(9);

    fn begun(config: &Config, alive: usize) -> Suspicions {
        let mut all = Suspicions::default();
        let incarnation = Incarnation::first(BootEpoch(1));
        all.begin(config, alive, (SUSPECT, incarnation), NodeId(1), Time::ZERO);
        all
    }

    fn lasts_ms(all: &Suspicions) -> u64 {
        all.deadline().unwrap().0 / 1_000_000
    }

    #[test]
    fn it_shrinks_by_the_logarithm_of_independent_confirmations() {
        let mut all = begun(&Config::new("c"), 100);
        assert_eq!(lasts_ms(&all), 48_000);
        let mut lengths = Vec::new();
        for by in 2..6 {
            lengths.push((all.confirm(SUSPECT, NodeId(by)), lasts_ms(&all)));
        }
        // 48 - 40 * ln(2)/ln(4), 48 - 40 * ln(3)/ln(4), then the shortest; a fourth is not news.
        assert_eq!(
            lengths,
            [
                (true, 28_000),
                (true, 16_300),
                (true, 8_000),
                (false, 8_000)
            ]
        );
    }

    #[test]
    fn the_same_accuser_and_the_suspect_itself_confirm_nothing() {
        let mut all = begun(&Config::new("c"), 100);
        assert!(!all.confirm(SUSPECT, NodeId(1)));
        assert!(!all.confirm(SUSPECT, SUSPECT));
        assert_eq!(lasts_ms(&all), 48_000);
    }

    #[test]
    fn with_three_members_it_starts_at_its_shortest() {
        assert_eq!(lasts_ms(&begun(&Config::new("c"), 3)), 4_000);
        assert_eq!(lasts_ms(&begun(&Config::new("c"), 5)), 24_000);
    }

    #[test]
    fn plain_swim_waits_the_shortest_time_always() {
        let mut config = Config::new("c");
        config.lifeguard = Lifeguard::NONE;
        assert_eq!(lasts_ms(&begun(&config, 100)), 8_000);
    }

    #[test]
    fn it_expires_once_and_names_the_incarnation() {
        let mut all = begun(&Config::new("c"), 3);
        assert_eq!(all.expired(Time::ZERO.after(ms(3_999))), None);
        let end = Time::ZERO.after(ms(4_000));
        let expected = (SUSPECT, Incarnation::first(BootEpoch(1)));
        assert_eq!(all.expired(end), Some(expected));
        all.end(SUSPECT);
        assert_eq!(all.expired(end), None);
        assert_eq!(all.deadline(), None);
    }
}
