//! Lives and deaths of a journal in a simulated world, many seeds of them. A seed is a few lives
//! over one disk: each recovers, is checked against what must come back, appends, rolls, recycles,
//! and ends in a crash, a kill or a clean close. Some disks then get a bit flipped.
//!
//! `MILLRACE_SEEDS=20 cargo test -p millrace-shard journal` runs twenty times as many seeds.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use millrace_wire::ids::Offset;

use super::life::{Life, SharedHistory};
use super::model::{History, Owner, State};
use crate::env::simulated::{DiskFaults, NodeId, SimulatedEnv, Simulation, StopReason};
use crate::env::{BLOCK_BYTES, Env, File, OnPanic, OpenOptions, Queue};
use crate::journal::planted::{Bug, plant};
use crate::journal::scan::inspect;
use crate::journal::{
    JournalConfig, JournalError, JournalMetrics, RecoveredItem, Recovery, recover,
};

const NODE: NodeId = NodeId(0);
const DIRECTORY: &str = "/@journal/0000";

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Kill,
    Close,
    /// Long enough idle to be sealed, then a crash.
    Idle,
}

/// A small generator for the plan of a seed; what happens within a life is drawn by its `Env`.
struct Plan(u64);

impl Plan {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn config(plan: &mut Plan) -> JournalConfig {
    let blocks = 16 + plan.draw(32);
    JournalConfig {
        file_bytes: blocks * BLOCK_BYTES as u64,
        initial_files: 1 + plan.draw(3) as u32,
        max_files: 4 + plan.draw(3) as u32,
        linger: Duration::from_micros([0, 0, 200][plan.draw(3) as usize]),
        max_group_bytes: 2_000 << plan.draw(4),
        max_group_writes: 1 + plan.draw(20) as u32,
        max_writes_in_flight: 1 + plan.draw(4) as u32,
        seal_after: Duration::from_millis(10),
        ..JournalConfig::new(PathBuf::from(DIRECTORY))
    }
}

/// Checks a recovery in a world without damage, and begins the history anew from it.
fn check_whole(recovery: &Recovery, history: &SharedHistory) -> Result<(), String> {
    let state = State::of(recovery);
    let mut history = history.borrow_mut();
    if let Some(item) = recovery
        .items
        .iter()
        .find(|item| matches!(item, RecoveredItem::Damaged(_)))
    {
        return Err(format!("{item:?} told without damage"));
    }
    if recovery.end < history.durable_group() {
        return Err(format!(
            "recovery ended at {}, {} was durable",
            recovery.end,
            history.durable_group()
        ));
    }
    let possible = history.possible();
    if !possible.contains(&state) {
        let (ends, most) = (ends(&state), possible.last().map(ends));
        return Err(format!(
            "recovered up to group {} a state that never was; {} of {} entries were durable; {ends:?} of {most:?}",
            recovery.end,
            history.durable,
            history.entries.len()
        ));
    }
    *history = History {
        base: state,
        ..History::default()
    };
    Ok(())
}

fn ends(state: &State) -> Vec<(u32, Offset, usize)> {
    state
        .partitions
        .iter()
        .map(|(id, p)| (id.partition.0, p.state.log_end, p.held.len()))
        .collect()
}

async fn live(
    env: SimulatedEnv,
    config: JournalConfig,
    history: SharedHistory,
    steps: u64,
    end: End,
) -> Result<(), String> {
    let recovery = recover(&env, &config)
        .await
        .map_err(|error| error.to_string())?;
    check_whole(&recovery, &history)?;
    let owner = Owner {
        state: Rc::new(RefCell::new(State::of(&recovery))),
    };
    let metrics = Rc::new(JournalMetrics::default());
    let journal = recovery
        .start(env.clone(), Rc::new(owner.clone()), metrics)
        .await
        .map_err(|error| error.to_string())?;
    let probe = Rc::clone(&journal);
    history.borrow_mut().probe = Some(Box::new(move || probe.durable()));
    let life = Life {
        env: env.clone(),
        journal,
        owner,
        history,
    };
    let _detached = env.spawn(
        Queue::Requests,
        "release",
        OnPanic::StopProcess,
        life.clone().keep_releasing(),
    );
    let _detached = env.spawn(
        Queue::Background,
        "flush",
        OnPanic::StopProcess,
        life.clone().keep_flushing(),
    );
    for _ in 0..steps {
        life.step().await;
    }
    match end {
        End::Close => life.journal.close().await,
        End::Idle => env.sleep(Duration::from_secs(1)).await,
        End::Crash | End::Kill => {}
    }
    Ok(())
}

/// Lives one life and ends it. Tells whether it was cut off in the middle.
fn run_life(
    simulation: &Simulation,
    config: &JournalConfig,
    history: &SharedHistory,
    plan: &mut Plan,
    end: End,
) -> Result<bool, String> {
    let (env, steps) = (simulation.env(NODE), 10 + plan.draw(80));
    if matches!(end, End::Crash | End::Kill) && plan.draw(4) > 0 {
        simulation.crash_after_steps(NODE, plan.draw(steps * 25));
    }
    let (config, history) = (config.clone(), Rc::clone(history));
    drop(env);
    let cut_off = match simulation.try_run(NODE, move |env| live(env, config, history, steps, end))
    {
        Ok(result) => {
            result?;
            match end {
                End::Kill => simulation.kill(NODE),
                _ => simulation.crash(NODE),
            }
            false
        }
        Err(StopReason::Crashed) => true,
        Err(other) => return Err(format!("the node stopped: {other:?}")),
    };
    simulation.restart(NODE);
    Ok(cut_off)
}

fn recover_only(simulation: &Simulation, config: &JournalConfig) -> Result<Recovery, JournalError> {
    let config = config.clone();
    simulation.run(|env| async move { recover(&env, &config).await })
}

fn faults(plan: &mut Plan) -> DiskFaults {
    match plan.draw(3) {
        0 => DiskFaults::slow_now_and_then(),
        _ => DiskFaults::default(),
    }
}

/// A few lives over one disk, each checked by the next.
fn lives(seed: u64) -> Result<(), String> {
    let mut plan = Plan(seed);
    let simulation = Simulation::with_faults(seed, faults(&mut plan));
    simulation.set_step_limit(200_000);
    let history = SharedHistory::default();
    for _ in 0..2 + plan.draw(3) {
        // The configuration may change between runs.
        let config = config(&mut plan);
        let end = [
            End::Crash,
            End::Crash,
            End::Crash,
            End::Kill,
            End::Close,
            End::Idle,
        ][plan.draw(6) as usize];
        run_life(&simulation, &config, &history, &mut plan, end)?;
        if end == End::Close {
            let history = history.borrow();
            let (durable, all) = (history.durable, history.entries.len());
            if durable != all {
                return Err(format!(
                    "{durable} of {all} entries durable after a clean close"
                ));
            }
        }
    }
    let recovery =
        recover_only(&simulation, &config(&mut plan)).map_err(|error| error.to_string())?;
    check_whole(&recovery, &history)
}

#[derive(Debug, Default)]
struct FlipCount {
    told: usize,
    harmless: usize,
}

/// A life that ends sealed, then one bit flipped anywhere: the loss is told, and nothing else is
/// lost.
fn flip_after_seal(seed: u64, count: &mut FlipCount) -> Result<(), String> {
    let mut plan = Plan(seed);
    let simulation = Simulation::with_faults(seed, faults(&mut plan));
    let (config, history) = (config(&mut plan), SharedHistory::default());
    for end in [End::Crash, End::Idle] {
        run_life(&simulation, &config, &history, &mut plan, end)?;
    }
    let flipped = simulation.flip_at_rest(NODE, |path, _| path.ends_with(".journal"));
    let recovery =
        recover_only(&simulation, &config).map_err(|error| format!("{flipped:?}: {error}"))?;
    let (state, history) = (State::of(&recovery), history.borrow());
    let damages: Vec<_> = recovery
        .items
        .iter()
        .filter_map(|item| match item {
            RecoveredItem::Damaged(damaged) => Some(damaged),
            RecoveredItem::Entry(..) => None,
        })
        .collect();
    let possible = history.possible();
    if possible.contains(&state) {
        count.harmless += 1;
        return Ok(());
    }
    if damages.is_empty() {
        return Err(format!(
            "{flipped:?}: {:?} instead of {:?}, and no damage told",
            ends(&state),
            ends(&possible[0])
        ));
    }
    count.told += 1;
    let known = history.batches();
    for (id, p) in &state.partitions {
        for (index, held) in &p.held {
            if !known
                .iter()
                .any(|(i, x, batch)| (i, x, batch) == (id, index, &held.batch))
            {
                return Err(format!(
                    "{flipped:?}: {id} {index:?} came back with bytes nobody appended"
                ));
            }
        }
    }
    // Where everything lost is named, everything else must be there.
    let Some(lost) = damages
        .iter()
        .map(|damage| damage.lost.clone())
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(());
    };
    let lost: Vec<_> = lost.concat();
    let agrees = |expected: &State| {
        expected
            .partitions
            .iter()
            .filter(|(id, _)| lost.iter().all(|l| l.partition != **id))
            .all(|(id, p)| state.partitions.get(id) == Some(p))
    };
    match possible.iter().any(agrees) {
        true => Ok(()),
        false => Err(format!(
            "{flipped:?}: more is lost than told: {lost:?}; {:?} of {:?}",
            ends(&state),
            ends(&possible[0])
        )),
    }
}

/// Every journal file with what is in it.
fn images(simulation: &Simulation) -> Vec<(String, crate::journal::scan::Inspection)> {
    let files: Vec<_> = simulation
        .files(NODE)
        .into_iter()
        .filter(|(path, _)| path.ends_with(".journal"))
        .collect();
    simulation.run(|env| async move {
        let mut images = Vec::new();
        for (path, len) in files {
            let file = env
                .open(Path::new(&path), OpenOptions::default())
                .await
                .expect("the file was listed");
            let image = file
                .read_at(0, len as usize)
                .await
                .expect("this disk reads");
            images.push((path, inspect(&image)));
        }
        images
    })
}

/// A crash in the middle of writing, then a bit flipped in a group that nothing proves durable: not
/// damage, and nothing acknowledged is lost. Tells whether there was such a group.
fn flip_in_the_tail(seed: u64) -> Result<bool, String> {
    let mut plan = Plan(seed);
    let simulation = Simulation::new(seed);
    let (config, history) = (config(&mut plan), SharedHistory::default());
    run_life(&simulation, &config, &history, &mut plan, End::Crash)?;
    let images = images(&simulation);
    let groups = || {
        images
            .iter()
            .flat_map(|(path, found)| found.groups.iter().map(move |group| (path, group)))
    };
    let covered = groups()
        .map(|(_, group)| group.durable_through)
        .max()
        .unwrap_or_default();
    let durable = history.borrow().durable_group().max(covered);
    let Some((path, group)) = groups().find(|(_, group)| group.sequence > durable) else {
        return Ok(false);
    };
    simulation.flip_bits(NODE, Path::new(path), group.position..group.position + 100);
    let recovery = recover_only(&simulation, &config).map_err(|error| error.to_string())?;
    check_whole(&recovery, &history)?;
    Ok(true)
}

/// Write errors stop the node; nothing acknowledged is lost, nothing is acknowledged that was not
/// written.
fn write_errors(seed: u64) -> Result<bool, String> {
    let mut plan = Plan(seed);
    let simulation = Simulation::new(seed);
    let (config, history) = (config(&mut plan), SharedHistory::default());
    let life = |simulation: &Simulation| {
        let (config, history) = (config.clone(), Rc::clone(&history));
        simulation.try_run(NODE, move |env| live(env, config, history, 60, End::Idle))
    };
    life(&simulation).map_err(|stopped| format!("{stopped:?}"))??;
    simulation.restart(NODE);
    simulation.set_faults(
        NODE,
        DiskFaults {
            write_error: 0.02,
            ..DiskFaults::default()
        },
    );
    let stopped = match life(&simulation) {
        Ok(Ok(())) => false,
        // The start itself failed, as it should when it cannot write.
        Ok(Err(error)) if error.contains("cannot") => true,
        Ok(Err(error)) => return Err(error),
        Err(StopReason::Fatal(_)) => true,
        Err(other) => return Err(format!("{other:?}")),
    };
    simulation.crash(NODE);
    simulation.restart(NODE);
    simulation.set_faults(NODE, DiskFaults::default());
    let recovery = recover_only(&simulation, &config).map_err(|error| error.to_string())?;
    check_whole(&recovery, &history)?;
    Ok(stopped)
}

/// So many seeds, or as many times more as the environment says.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let times = std::env::var("MILLRACE_SEEDS")
        .ok()
        .and_then(|times| times.parse().ok());
    0..count * times.unwrap_or(1)
}

#[test]
fn whatever_crashes_all_that_was_called_durable_comes_back_and_no_entry_half() {
    for seed in seeds(2_000) {
        lives(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_told_and_costs_no_more_than_it_hit() {
    let mut count = FlipCount::default();
    for seed in seeds(1_000) {
        flip_after_seal(seed, &mut count).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(
        count.told > 100 && count.harmless > 100,
        "the seeds no longer show both: {count:?}"
    );
}

#[test]
fn a_flipped_bit_beyond_what_was_durable_is_a_torn_tail() {
    let found = seeds(600)
        .filter(|seed| flip_in_the_tail(*seed).unwrap_or_else(|why| panic!("seed {seed}: {why}")));
    assert!(
        found.count() > 50,
        "the seeds no longer leave groups in the tail"
    );
}

#[test]
fn a_write_error_stops_the_node_and_takes_nothing_back() {
    let stopped = seeds(200)
        .filter(|seed| write_errors(*seed).unwrap_or_else(|why| panic!("seed {seed}: {why}")));
    assert!(stopped.count() > 50, "the seeds no longer fail writes");
}

/// Whether the oracle finds a planted bug within so many seeds.
fn caught(bug: Bug, seeds: u64, mut run: impl FnMut(u64) -> Result<(), String>) -> bool {
    plant(Some(bug));
    let caught = (0..seeds).any(|seed| run(seed).is_err());
    plant(None);
    caught
}

#[test]
fn planted_bugs_are_caught() {
    assert!(
        caught(Bug::ReleasedBeforeWritten, 200, lives),
        "an acknowledgement before the write was not noticed"
    );
    assert!(
        caught(Bug::CheckpointAheadOfEnd, 2_000, lives),
        "a checkpoint ahead of the journal's end was not noticed"
    );
    assert!(
        caught(Bug::FreedBeforeCheckpoint, 2_000, lives),
        "a file let go too early was not noticed"
    );
    let flip = |seed| flip_after_seal(seed, &mut FlipCount::default());
    assert!(
        caught(Bug::EveryBadGroupIsTorn, 300, flip),
        "damage taken for a torn tail was not noticed"
    );
}
