use std::collections::BTreeSet;

use super::*;

const FROM: Time = Time(2_000_000_000);
const UNTIL: Time = Time(47_000_000_000);

fn plan(seed: u64, mix: Mix) -> Plan {
    Plan::draw(Seed(seed), mix, 5, FROM, UNTIL)
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_another() {
    for seed in 0..100 {
        assert_eq!(plan(seed, Mix::Hostile), plan(seed, Mix::Hostile));
    }
    let plans: Vec<Plan> = (0..100)
        .map(|seed| plan(seed, Mix::Hostile))
        .filter(|plan| !plan.faults.is_empty())
        .collect();
    for (index, plan) in plans.iter().enumerate() {
        assert!(!plans[..index].contains(plan));
    }
}

#[test]
fn every_fault_fits_and_ends_in_time() {
    for mix in Mix::ALL {
        for nodes in 0..8 {
            for seed in 0..200 {
                let plan = Plan::draw(Seed(seed), mix, nodes, FROM, UNTIL);
                let mut before = FROM;
                for timed in &plan.faults {
                    assert!(timed.at >= before && timed.lasts >= SHORTEST, "{timed}");
                    assert!(timed.ends() <= UNTIL, "{timed}");
                    assert!(timed.fault.fits(nodes), "{timed}");
                    before = timed.at;
                }
                assert!(plan.ends() <= UNTIL);
            }
        }
    }
}

#[test]
fn a_span_without_room_has_no_faults() {
    for seed in 0..100 {
        for until in [FROM, Time::ZERO, FROM + SHORTEST] {
            let plan = Plan::draw(Seed(seed), Mix::Hostile, 5, FROM, until);
            assert_eq!(plan, Plan::default());
        }
    }
}

#[test]
fn some_runs_are_calm_and_some_are_hostile() {
    let counts: Vec<usize> = (0..1_000)
        .map(|seed| plan(seed, Mix::Hostile).faults.len())
        .collect();
    let calm = counts.iter().filter(|&&count| count == 0).count();
    assert!((40..120).contains(&calm), "{calm} without a fault");
    assert!(counts.iter().filter(|&&count| count > 60).count() > 20);
    assert!((0..1_000).all(|seed| plan(seed, Mix::Calm).faults.is_empty()));
}

#[test]
fn a_kind_is_the_same_in_every_mix() {
    let only = |mix, keep: fn(&Fault) -> bool, seed| {
        let mut plan = plan(seed, mix);
        plan.faults.retain(|timed| keep(&timed.fault));
        plan
    };
    let crash: fn(&Fault) -> bool = |fault| matches!(fault, Fault::Crash { .. });
    let mut crashes = 0;
    for seed in 0..100 {
        let expected = only(Mix::Hostile, crash, seed);
        crashes += expected.faults.len();
        for mix in [Mix::Crashes, Mix::Disks] {
            assert_eq!(only(mix, crash, seed), expected);
        }
    }
    assert!(crashes > 100);
}

#[test]
fn only_a_minority_of_disks_is_lost() {
    for nodes in 1..8 {
        for seed in 0..200 {
            let plan = Plan::draw(Seed(seed), Mix::Hostile, nodes, FROM, UNTIL);
            let hit: BTreeSet<Node> = plan
                .faults
                .iter()
                .filter_map(|timed| match timed.fault {
                    Fault::Wipe { node }
                    | Fault::Disk {
                        node,
                        fault: DiskFault::Damage,
                    } => Some(node),
                    _ => None,
                })
                .collect();
            assert!(2 * hit.len() < nodes.max(1), "{nodes} nodes: {hit:?}");
        }
    }
}

#[test]
fn each_mix_draws_each_of_its_kinds() {
    for mix in Mix::ALL {
        let mut kinds = BTreeSet::new();
        for seed in 0..200 {
            for timed in plan(seed, mix).faults {
                let json = serde_json::to_value(&timed.fault).expect("a fault is data");
                let disk = json["fault"]["kind"].as_str().unwrap_or_default();
                kinds.insert(format!("{} {disk}", json["kind"]));
            }
        }
        assert_eq!(kinds.len(), mix.kinds().len(), "{mix}: {kinds:?}");
    }
}

#[test]
fn partitions_leave_no_group_empty() {
    let mut sizes = BTreeSet::new();
    for seed in 0..300 {
        for timed in plan(seed, Mix::Network).faults {
            if let Fault::Partition { groups } = timed.fault {
                let mut nodes: Vec<Node> = groups.concat();
                nodes.sort_unstable();
                assert_eq!(nodes, [0, 1, 2, 3, 4]);
                let mut size: Vec<usize> = groups.iter().map(Vec::len).collect();
                size.sort_unstable();
                sizes.insert(size);
            }
        }
    }
    let shapes = [vec![1, 4], vec![2, 3], vec![1, 1, 3], vec![1, 2, 2]];
    assert_eq!(sizes, BTreeSet::from(shapes));
}

#[test]
fn mixes_have_names() {
    for mix in Mix::ALL {
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }
    assert_eq!(format!("[{:>8}]", Mix::Calm), "[    calm]");
    let error = "chaos".parse::<Mix>().expect_err("no such mix");
    for mix in Mix::ALL {
        assert!(error.to_string().contains(&mix.to_string()));
    }
}

#[test]
fn added_faults_keep_the_order() {
    let timed = |at, node| Timed {
        at: Time(at),
        lasts: SHORTEST,
        fault: Fault::Crash { node },
    };
    let mut plan = Plan::default();
    for (at, node) in [(5, 0), (1, 1), (5, 2), (3, 3)] {
        plan.add(timed(at, node));
    }
    let expected = [timed(1, 1), timed(3, 3), timed(5, 0), timed(5, 2)];
    assert_eq!(plan.faults, expected);
    assert_eq!(plan.ends(), Time(5) + SHORTEST);
}
