//! The settings of a run, drawn from its seed, and when its phases begin.

use std::time::Duration;

use gossip::Config;
use simulation::{LinkModel, Scenario, Seed, Time};

/// When members begin to suffer: until then they join.
pub(crate) const START: Duration = Duration::from_secs(3);

/// Quick settings, so that a simulated minute holds many periods. Their proportions vary.
pub(crate) fn config(seed: Seed) -> Config {
    let mut draws = seed.draws("settings", &[]);
    let mut config = Config::new("simulated");
    config.ping_interval_ms = [80, 100, 120][draws.below(3) as usize];
    config.ping_timeout_ms = config.ping_interval_ms * (3 + draws.below(3)) / 10;
    config.indirect_probes = 1 + draws.below(3) as usize;
    config.suspicion_multiplier = 3 + draws.below(2) as u32;
    config.suspicion_confirmations = draws.below(4) as usize;
    config.gossip_interval_ms = 20 + draws.below(21);
    config.gossip_to_dead_ms = draws.below(3_000);
    config.sync_interval_ms = 1_000 + draws.below(3_000);
    config.rejoin_interval_ms = 500 + draws.below(500);
    config.join_retry_ms = 100 + draws.below(200);
    config.stream_timeout_ms = 1_000;
    config.forget_after_ms = 24 * 60 * 60 * 1_000;
    config.leave_ms = 300;
    config
}

/// A local network.
pub(crate) fn network() -> LinkModel {
    LinkModel {
        delay_min: Duration::from_micros(100),
        delay_mean: Duration::from_micros(300),
        loss: 0.0,
        duplication: 0.0,
        reordering: 0.0,
        reordering_delay: Duration::ZERO,
    }
}

/// When what happens in a run.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Phases {
    /// All faults are over; from now on the world is whole.
    pub(crate) healed: Time,
    /// All members must agree.
    pub(crate) converged: Time,
    /// One member dies for good.
    pub(crate) killed: Time,
    /// All others must know it.
    pub(crate) detected: Time,
}

impl Phases {
    /// The phases of a scenario, counted back from its end. Faults end early enough for all that
    /// must follow.
    pub(crate) fn of(scenario: &Scenario, config: &Config) -> Phases {
        let detected = scenario.ends();
        let detection = detection_bound(config, scenario.nodes);
        let killed = back(detected, detection);
        let converged = back(killed, probe_watch(config, scenario.nodes));
        let healed = back(converged, convergence_bound(config, scenario.nodes));
        Phases {
            healed,
            converged,
            killed,
            detected,
        }
    }
}

fn back(time: Time, span: Duration) -> Time {
    Time(time.0.saturating_sub(span.as_nanos() as u64))
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Long enough to see every member probed by every other one.
pub(crate) fn probe_watch(config: &Config, nodes: usize) -> Duration {
    ms(config.ping_interval_ms) * (2 * nodes as u32 + 2)
}

/// How long after its death a member may be unknown to be dead to anybody: the first probe comes
/// within `2 N - 1` periods (SWIM section 4.3), its own period passes, the longest suspicion, and
/// the news spreads. A per cent for clocks.
pub(crate) fn detection_bound(config: &Config, nodes: usize) -> Duration {
    let periods = 2 * nodes as u32;
    let bound = ms(config.ping_interval_ms) * periods
        + config.longest_suspicion(nodes)
        + spread_bound(config);
    bound + bound / 100
}

/// How long news takes to reach everybody in a small cluster on a healthy network: some rounds of
/// gossip to three others each.
pub(crate) fn spread_bound(config: &Config) -> Duration {
    ms(config.gossip_interval_ms) * 20
}

/// How long after the last fault all must agree.
///
/// Local health may be at its worst, so that the first periods are as many times longer:
/// `1 + 2 + … + (S + 1)` of them until all is well again; a suspicion of before may run its full
/// time; a restarted node may be between two attempts to join; halves that hold each other for dead
/// try again at each interval of rejoining, and need some luck and then one more exchange.
pub(crate) fn convergence_bound(config: &Config, nodes: usize) -> Duration {
    let slow = (config.health_max + 1) * (config.health_max + 2) / 2;
    ms(config.ping_interval_ms) * (slow + 2 * nodes as u32)
        + config.longest_suspicion(nodes)
        + ms(config.rejoin_interval_ms) * 4
        + ms(config.stream_timeout_ms)
        + config.sync_interval(nodes)
}
