//! Whether the default settings flap: members on a machine whose processors are short, so that
//! each is held up again and again.

use std::time::Duration;

use gossip::{Config, Event, Node};
use simulation::{Seed, Time};

use crate::settings::network;
use crate::world::{Before, Making, Stall, Start, Taken, Watch, World};

/// Counts what should not happen.
#[derive(Debug, Default)]
struct Alarms {
    suspected: u64,
    failed: u64,
}

impl Watch for Alarms {
    fn started(&mut self, _: Time, _: usize, _: &Node, _: Start) {}

    fn stopped(&mut self, _: Time, _: usize) {}

    fn handled(&mut self, _: Time, _: usize, _: &Before, _: &Taken, _: &Node) {}

    fn event(&mut self, _: Time, _: usize, event: &Event) {
        self.suspected += u64::from(matches!(event, Event::Suspected { .. }));
        self.failed += u64::from(matches!(event, Event::Failed { .. }));
    }

    fn sent(&mut self, _: Time, _: usize, _: &[u8]) {}
}

/// Ten minutes in which each of `nodes` members stands still for up to `longest`, runs for as long,
/// and so on.
fn starved(config: Config, nodes: usize, longest: Duration) -> Alarms {
    let seed = Seed(3);
    let making = Making {
        seed,
        nodes,
        config,
        link: network(),
        stall: Stall::Process { timers_first: true },
        reuse_boot: false,
        planted: None,
        recorded: 0,
    };
    let mut world = World::new(making, Alarms::default());
    for host in 0..nodes {
        world.start(host, Start::Kept);
    }
    world.run_until(Time::ZERO + Duration::from_secs(20));
    let ends = Time::ZERO + Duration::from_secs(620);
    let mut turns = Vec::new();
    for host in 0..nodes {
        let mut draws = seed.draws("starved", &[host as u64]);
        let mut at = world.now;
        while at < ends {
            let stops = at + draws.between(Duration::ZERO, longest);
            let goes_on = stops + draws.between(Duration::ZERO, longest);
            turns.extend([(stops, host, true), (goes_on, host, false)]);
            at = goes_on;
        }
    }
    turns.sort_unstable();
    for (at, host, stops) in turns {
        world.run_until(at);
        if stops {
            world.hold_still(host);
        } else {
            world.let_go(host);
        }
    }
    world.watch
}

#[test]
fn the_defaults_do_not_flap_when_processors_are_short() {
    let alarms = starved(Config::new("starved"), 5, Duration::from_millis(300));
    assert_eq!(alarms.suspected, 0, "pauses of 300 ms: {alarms:?}");
    let alarms = starved(Config::new("starved"), 5, Duration::from_secs(2));
    assert_eq!(alarms.failed, 0, "pauses of 2 s: {alarms:?}");
}

#[test]
fn quick_settings_pay_for_their_speed() {
    let mut config = Config::new("starved");
    config.ping_interval_ms = 100;
    config.ping_timeout_ms = 50;
    config.suspicion_multiplier = 3;
    let alarms = starved(config, 5, Duration::from_secs(2));
    assert!(alarms.failed > 0, "{alarms:?}");
}
