//! Members of a group among random failures: nobody gives out what is another's, nothing is committed
//! that was not worked on, and when the failures end everything is read.

use std::collections::BTreeMap;

use millrace_wire::native::Request;
use proptest::prelude::*;

use super::consuming::{numbers, store};
use super::member::{App, group_config, owners};
use super::world::{Fate, World, config, ms};
use crate::core::random::Random;
use crate::{Assignor, ErrorCode, GroupConfig, GroupEvent};

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    partitions: u32,
    members: usize,
    steps: u32,
    /// Of 1000 requests this many meet with a fault.
    faults: u32,
    is_cooperative: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (1..6_u32, 1..4_usize, 1..120_u32);
    (any::<u64>(), sizes, 0..250_u32, any::<bool>()).prop_map(
        |(seed, (partitions, members, steps), faults, is_cooperative)| Plan {
            seed,
            partitions,
            members,
            steps,
            faults,
            is_cooperative,
        },
    )
}

fn fate(random: &mut Random, faults: u32, request: &Request) -> Fate {
    if random.below(1000) >= faults {
        return Fate::Serve;
    }
    match random.below(7) {
        0 => Fate::Break,
        1 => Fate::ServeAndBreak,
        2 => Fate::ServeAndKeepSilent,
        3 => Fate::Refuse(ErrorCode::CoordinatorLoadInProgress),
        4 => Fate::Refuse(ErrorCode::NotCoordinator),
        5 if is_of_a_member(request) => Fate::Refuse(ErrorCode::RebalanceInProgress),
        _ => Fate::Refuse(ErrorCode::ShuttingDown),
    }
}

/// Whether a member asks, and may be told of a rebalance.
fn is_of_a_member(request: &Request) -> bool {
    matches!(
        request,
        Request::SyncGroup(_) | Request::Heartbeat(_) | Request::CommitOffsets(_)
    )
}

struct Run {
    world: World,
    config: GroupConfig,
    apps: Vec<App>,
    /// How many records there are of each partition.
    ends: BTreeMap<u32, i64>,
    /// How far any application has come in each partition: worked on, and come back.
    worked: BTreeMap<u32, i64>,
}

impl Run {
    /// An application comes for one thing, and what it had before is done.
    fn poll(&mut self, index: usize) -> Result<bool, TestCaseError> {
        let app = &mut self.apps[index];
        for (_, partition, offset) in &app.seen {
            let worked = self.worked.entry(*partition).or_default();
            *worked = (*worked).max(*offset + 1);
        }
        let event = app.poll_once(&mut self.world);
        let Some(GroupEvent::Records(records)) = &event else {
            return Ok(event.is_some());
        };
        for record in records {
            let Some(group) = self.world.coordinator.groups.get("g") else {
                continue;
            };
            let me = self.world.core.group_member(self.apps[index].id);
            let owners = owners(group, record.partition);
            prop_assert!(
                owners.iter().all(|owner| Some(owner.as_str()) == me),
                "{me:?} gives out partition {}, which is {owners:?}'s",
                record.partition
            );
        }
        Ok(true)
    }

    fn check_commits(&self) -> Result<(), TestCaseError> {
        let Some(group) = self.world.coordinator.groups.get("g") else {
            return Ok(());
        };
        for ((_, partition), (offset, _)) in &group.offsets {
            let worked = self.worked.get(partition).copied().unwrap_or_default();
            prop_assert!(
                *offset <= worked,
                "partition {partition} is committed up to {offset}, and worked on up to {worked}"
            );
        }
        Ok(())
    }
}

fn run(plan: &Plan) -> Result<(), TestCaseError> {
    let mut world = World::new(2, config(), plan.seed);
    world.log.create("t", plan.partitions);
    world.latency = ms(5);
    let mut fates = Random::new(plan.seed ^ 1);
    let faults = plan.faults;
    world.script = Box::new(move |request| fate(&mut fates, faults, request));
    let assignors = match plan.is_cooperative {
        true => vec![Assignor::CooperativeSticky, Assignor::Range],
        false => vec![Assignor::Range],
    };
    let config = GroupConfig {
        assignors,
        auto_commit: Some(ms(700)),
        ..group_config()
    };
    let mut run = Run {
        world,
        config,
        apps: Vec::new(),
        ends: BTreeMap::new(),
        worked: BTreeMap::new(),
    };
    for _ in 0..plan.members {
        let app = App::start(&mut run.world, run.config.clone());
        run.apps.push(app);
    }
    let mut draws = Random::new(plan.seed ^ 2);
    for _ in 0..plan.steps {
        step(&mut run, plan, &mut draws)?;
        run.check_commits()?;
    }
    run.world.script = Box::new(|_| Fate::Serve);
    for _ in 0..600 {
        run.world.run_for(ms(100));
        for index in 0..run.apps.len() {
            while run.poll(index)? {}
        }
        run.check_commits()?;
    }
    finish(&run, plan)
}

fn step(run: &mut Run, plan: &Plan, draws: &mut Random) -> Result<(), TestCaseError> {
    let index = draws.below(run.apps.len() as u32) as usize;
    match draws.below(40) {
        0 => run.world.break_all(),
        1 => {
            let time = ms(u64::from(draws.below(9_000)));
            run.world.stand_still(time);
        }
        2 if run.apps.len() < 5 => {
            let app = App::start(&mut run.world, run.config.clone());
            run.apps.push(app);
        }
        3 if run.apps.len() > 1 => {
            let app = run.apps.remove(index);
            run.world.core.crash_group(app.id);
        }
        4 if run.apps.len() > 1 => {
            let app = run.apps.remove(index);
            run.world.core.abandon_group(run.world.now, app.id);
        }
        5..=14 => {
            let partition = draws.below(plan.partitions);
            let end = run.ends.entry(partition).or_default();
            store(
                &mut run.world,
                partition,
                numbers(*end as usize..*end as usize + 1),
            );
            *end += 1;
            run.world.tick();
        }
        15..=24 => {
            let time = ms(u64::from(draws.below(400)));
            run.world.run_for(time);
        }
        25 => {
            let time = ms(u64::from(draws.below(8_000)));
            run.world.run_for(time);
        }
        _ => drop(run.poll(index)?),
    }
    Ok(())
}

fn finish(run: &Run, plan: &Plan) -> Result<(), TestCaseError> {
    let mut assigned: Vec<u32> = run
        .apps
        .iter()
        .flat_map(|app| app.assignment(&run.world))
        .collect();
    assigned.sort_unstable();
    let all: Vec<u32> = (0..plan.partitions).collect();
    prop_assert_eq!(assigned, all, "each partition is somebody's");
    for (partition, end) in &run.ends {
        let worked = run.worked.get(partition).copied().unwrap_or_default();
        prop_assert_eq!(worked, *end, "all of partition {} is worked on", partition);
        let group = run.world.coordinator.group("g");
        let committed = group.offsets.get(&("t".to_owned(), *partition));
        prop_assert_eq!(
            committed.map(|(offset, _)| *offset),
            Some(*end),
            "all of partition {} is committed",
            partition
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn groups_survive_random_failures(plan in plan()) {
        run(&plan)?;
    }
}
