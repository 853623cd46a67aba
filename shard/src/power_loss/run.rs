//! One seed: a few lives of a node over one disk, each with clients, faults and an end of its own,
//! and after each restart everything that is stored held against the model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use millrace_wire::ids::ShardId;

use super::check::attach_all;
use super::client::{Broker, owner};
use super::draws::Draws;
use super::model::{Model, Violation, ensure};
use crate::env::simulated::{DiskFaults, NodeId, SimulatedEnv, Simulation, StopReason};
use crate::env::{BLOCK_BYTES, Env, OnPanic, Queue};
use crate::error::StorageError;
use crate::journal::JournalConfig;
use crate::relayout::{JOURNAL_DIRECTORY, journal_directory, relayout};
use crate::shard::{SET_ASIDE_DIRECTORY, Shard, ShardConfig};

const NODE: NodeId = NodeId(0);
const DATA: &str = "/data";

/// Long enough for a journal to seal itself and for what runs in the background to end.
const QUIET: Duration = Duration::from_millis(400);

/// Longer than a run: the model knows of no expiry.
const PRODUCER_EXPIRATION: Duration = Duration::from_secs(86_400);

/// Polls of one seed; it needs a hundredth of it.
const STEP_LIMIT: u64 = 5_000_000;

/// How a life of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Power is lost somewhere in the middle.
    PowerLoss,
    /// The process is killed somewhere in the middle.
    Killed,
    /// All is quiet when power is lost, and some bits flip while it is off.
    QuietThenFlip,
    /// As it should be.
    CleanStop,
}

/// What disturbs a life of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Slow,
    /// Writes and syncs fail now and then.
    Failing,
    /// The disk is full for a while.
    Full,
}

/// What a seed decided for one life.
#[derive(Debug)]
struct Plan {
    number: u64,
    shards: u16,
    trouble: Trouble,
    end: End,
    clients: u64,
    operations: u64,
    /// Virtual time after which power is lost or the process killed, if it is to be.
    lasts: Duration,
}

impl Plan {
    fn draw(draws: &Draws, number: u64, shards_before: u16) -> Plan {
        let trouble = match draws.below(100) {
            0..=54 => Trouble::None,
            55..=69 => Trouble::Slow,
            70..=84 => Trouble::Failing,
            _ => Trouble::Full,
        };
        let end = match draws.below(100) {
            0..=54 => End::PowerLoss,
            55..=64 => End::Killed,
            65..=84 => End::QuietThenFlip,
            _ => End::CleanStop,
        };
        Plan {
            number,
            shards: if draws.chance(20) {
                u16::try_from(draws.between(1, 3)).expect("small")
            } else {
                shards_before
            },
            trouble,
            end,
            clients: draws.between(1, 4),
            operations: draws.between(5, 30),
            lasts: Duration::from_micros(draws.between(500, 60_000)),
        }
    }

    fn faults(&self) -> DiskFaults {
        match self.trouble {
            Trouble::None | Trouble::Full => DiskFaults::default(),
            Trouble::Slow => DiskFaults {
                slow: 0.05,
                slow_factor: 30,
                ..DiskFaults::default()
            },
            Trouble::Failing => DiskFaults {
                write_error: 0.002,
                sync_error: 0.002,
                read_error: 0.002,
                ..DiskFaults::default()
            },
        }
    }
}

/// The fixed part of a seed: how the storage is configured.
#[derive(Clone)]
struct Setup {
    journal: JournalConfig,
    cache_bytes: u64,
    unwritten_bytes: u64,
    flush_bytes: u64,
}

impl Setup {
    fn draw(draws: &Draws) -> Setup {
        let journal = JournalConfig {
            directory: PathBuf::new(),
            file_bytes: draws.between(16, 40) * 4096,
            initial_files: u32::try_from(draws.between(1, 4)).expect("small"),
            max_files: u32::try_from(draws.between(4, 7)).expect("small"),
            linger: if draws.chance(20) {
                Duration::from_micros(200)
            } else {
                Duration::ZERO
            },
            max_group_bytes: usize::try_from(draws.between(1, 16) * 1024).expect("small"),
            max_group_writes: u32::try_from(draws.between(1, 20)).expect("small"),
            max_writes_in_flight: u32::try_from(draws.between(1, 4)).expect("small"),
            seal_after: Duration::from_millis(10),
        };
        Setup {
            journal,
            cache_bytes: draws.between(10, 60) * 1024,
            unwritten_bytes: draws.between(10, 60) * 1024,
            flush_bytes: draws.between(3, 24) * 1024,
        }
    }

    fn config(&self, shard: ShardId, shards: u16) -> ShardConfig {
        let directory = journal_directory(Path::new(DATA), shard);
        ShardConfig {
            shard,
            shard_count: shards,
            data_directory: PathBuf::from(DATA),
            journal: JournalConfig {
                directory,
                ..self.journal.clone()
            },
            cache_bytes: self.cache_bytes,
            unwritten_bytes: self.unwritten_bytes,
            disk_reserve_bytes: 64 * 1024,
            flush_bytes: self.flush_bytes,
            index_interval_bytes: 2_048,
            open_files_max: 3,
            producer_expiration: PRODUCER_EXPIRATION,
            housekeeping_interval: Duration::from_millis(40),
            space_interval: Duration::from_millis(50),
        }
    }
}

/// Runs one seed; gives what happened, in counts.
pub fn run_seed(seed: u64) -> Result<BTreeMap<&'static str, u64>, Violation> {
    let simulation = Rc::new(Simulation::new(seed));
    simulation.set_step_limit(STEP_LIMIT);
    let setup = Setup::draw(&Draws::new(seed, 1));
    let draws = Draws::new(seed, 2);
    let model = Rc::new(RefCell::new(Model::default()));
    let mut shards = u16::try_from(draws.between(1, 2)).expect("small");
    let lives = draws.between(2, 5);
    for number in 0..lives {
        let plan = Rc::new(Plan::draw(&draws, number, shards));
        shards = plan.shards;
        if !one_life(&simulation, seed, &setup, &plan, &model)? {
            let counts = model.borrow().counts.clone();
            return Ok(counts);
        }
    }
    last_look(&simulation, &setup, shards, &model).map_err(|what| format!("at the end: {what}"))?;
    let counts = model.borrow().counts.clone();
    Ok(counts)
}

/// One life of the node. False if its disk is beyond recovery, and says so.
fn one_life(
    simulation: &Rc<Simulation>,
    seed: u64,
    setup: &Setup,
    plan: &Rc<Plan>,
    model: &Rc<RefCell<Model>>,
) -> Result<bool, Violation> {
    if super::is_alone() {
        println!("{plan:?}");
    }
    simulation.restart(NODE);
    simulation.set_faults(NODE, plan.faults());
    {
        let mut model = model.borrow_mut();
        model.restarted();
        model.journal_was_flipped = model.journal_flipped;
        model.faults = plan.trouble == Trouble::Failing;
        model.full = false;
    }
    let violation = Rc::new(RefCell::new(None));
    if matches!(plan.end, End::PowerLoss) {
        simulation.crash_after(NODE, plan.lasts);
    }
    let life = {
        let (setup, plan, model) = (setup.clone(), Rc::clone(plan), Rc::clone(model));
        let violation = Rc::clone(&violation);
        // Weak: the world holds its tasks.
        let world = Rc::downgrade(simulation);
        move |env: SimulatedEnv| live(env, world, seed, setup, plan, model, violation)
    };
    let lived = simulation.try_run(NODE, life);
    if let Some(violation) = violation.borrow_mut().take() {
        return Err(format!("life {}: {violation}", plan.number));
    }
    ensure!(
        simulation.panics(NODE) == 0,
        "life {}: a task panicked",
        plan.number
    );
    end_life(simulation, plan, model, lived).map_err(|what| format!("life {}: {what}", plan.number))
}

/// When all is over and everything has been removed, nothing is left on the disk but journals, and
/// what is left on purpose.
fn last_look(
    simulation: &Rc<Simulation>,
    setup: &Setup,
    shards: u16,
    model: &Rc<RefCell<Model>>,
) -> Result<(), Violation> {
    simulation.restart(NODE);
    simulation.set_faults(NODE, DiskFaults::default());
    {
        let mut model = model.borrow_mut();
        model.restarted();
        model.journal_was_flipped = model.journal_flipped;
        (model.faults, model.full) = (false, false);
    }
    let (setup, seen) = (setup.clone(), Rc::clone(model));
    let life = move |env: SimulatedEnv| async move {
        let Ok(open) = start(&env, &setup, shards, &seen).await else {
            return Ok::<_, Violation>(None);
        };
        let broker = Rc::new(Broker {
            env,
            shards: open,
            model: seen,
            violation: Rc::default(),
        });
        attach_all(&broker).await?;
        let known: Vec<_> = broker.model.borrow().partitions.keys().copied().collect();
        for id in known {
            let removed = broker.shard(id).remove_partition(id);
            let removed = broker.patiently("the last removal", removed).await?;
            removed.map_err(|error| format!("{id} could not be removed: {error}"))?;
        }
        broker.env.sleep(QUIET).await;
        for shard in &broker.shards {
            broker.patiently("a clean stop", shard.shutdown()).await?;
        }
        let space = broker.env.space(Path::new(DATA)).await;
        Ok(Some(space.map_err(|error| error.to_string())?))
    };
    let space = match simulation.try_run(NODE, life) {
        Ok(ended) => ended?,
        Err(reason) => return Err(format!("the node stopped: {reason:?}")),
    };
    let Some(space) = space else {
        ensure!(model.borrow().journal_flips > 0, "the node could not start");
        return Ok(());
    };
    let journals = format!("{DATA}/{JOURNAL_DIRECTORY}/");
    let aside = format!("{DATA}/{SET_ASIDE_DIRECTORY}/");
    // Folders of removed partitions whose topic the node did not know any more when it started: by
    // these names the controller finds them.
    let orphaned = |path: &str| path.starts_with(&format!("{DATA}/topic-"));
    let mut named = 0;
    for (path, len) in simulation.files(NODE) {
        let flipped = model.borrow().journal_flips > 0;
        ensure!(
            path.starts_with(&journals) || orphaned(&path) || (flipped && path.starts_with(&aside)),
            "{path} is left"
        );
        if orphaned(&path) {
            model.borrow_mut().count("files for the controller to find");
        }
        named += len;
    }
    let used = space.total - space.available;
    // A crash can take a length back and leave the block that was written there with the file.
    let slack = (simulation.files(NODE).len() * BLOCK_BYTES) as u64;
    ensure!(
        used <= named + slack,
        "{used} bytes are used, of which {named} have a name"
    );
    Ok(())
}

fn end_life(
    simulation: &Simulation,
    plan: &Plan,
    model: &RefCell<Model>,
    lived: Result<Result<(), StorageError>, StopReason>,
) -> Result<bool, Violation> {
    let faults = model.borrow().faults;
    match lived {
        Ok(Ok(())) => {}
        Ok(Err(_)) if faults => model.borrow_mut().count("starts refused for a fault"),
        Ok(Err(error)) => {
            let flipped = model.borrow().journal_flipped;
            ensure!(flipped, "the node could not start: {error}");
            model.borrow_mut().count("starts refused for damage");
            simulation.kill(NODE);
            return Ok(false);
        }
        Err(StopReason::Crashed) => model.borrow_mut().count("power lost in the middle"),
        Err(StopReason::Fatal(_)) if plan.trouble == Trouble::Failing => {
            model.borrow_mut().count("stops for a failed write")
        }
        Err(reason) => return Err(format!("the node stopped: {reason:?}")),
    }
    match plan.end {
        End::PowerLoss | End::QuietThenFlip => simulation.crash(NODE),
        End::Killed | End::CleanStop => simulation.kill(NODE),
    }
    if plan.end == End::QuietThenFlip && plan.trouble != Trouble::Failing {
        flip(simulation, &mut model.borrow_mut());
    }
    Ok(true)
}

/// Flips a bit of something that is stored, and notes what may be told of it.
fn flip(simulation: &Simulation, model: &mut Model) {
    let journal = format!("{DATA}/{JOURNAL_DIRECTORY}/");
    let of_segments = |path: &str| path.ends_with(".log") || path.ends_with(".index");
    let in_journal = !simulation.env(NODE).random_u64().is_multiple_of(3);
    let flipped = simulation.flip_at_rest(NODE, |path, _| {
        if in_journal {
            path.starts_with(&journal)
        } else {
            !path.starts_with(&journal) && of_segments(path)
        }
    });
    let Some((path, position)) = flipped else {
        return;
    };
    if super::is_alone() {
        println!("flipped a bit of {path} at {position}");
    }
    if in_journal {
        model.journal_flipped = true;
        model.journal_flips += 1;
        model
            .partitions
            .values_mut()
            .for_each(|known| known.may_be_damaged = true);
        model.count("flips in a journal");
        return;
    }
    model.count("flips in a segment");
    let place = path.trim_start_matches(DATA).trim_start_matches('/');
    for (id, known) in &mut model.partitions {
        if place.starts_with(&format!("{}/{}/", known.name, id.partition)) {
            known.segments_flipped = true;
        }
    }
}

async fn live(
    env: SimulatedEnv,
    world: Weak<Simulation>,
    seed: u64,
    setup: Setup,
    plan: Rc<Plan>,
    model: Rc<RefCell<Model>>,
    violation: Rc<RefCell<Option<Violation>>>,
) -> Result<(), StorageError> {
    let shards = start(&env, &setup, plan.shards, &model).await?;
    let broker = Rc::new(Broker {
        env,
        shards,
        model,
        violation,
    });
    let lived = live_on(&broker, &world, seed, &plan).await;
    if let Err(what) = lived {
        broker.fail(what);
    }
    Ok(())
}

async fn start(
    env: &SimulatedEnv,
    setup: &Setup,
    shards: u16,
    model: &RefCell<Model>,
) -> Result<Vec<Rc<Shard<SimulatedEnv>>>, StorageError> {
    env.create_directory(Path::new(DATA))
        .await
        .map_err(StorageError::io("create", DATA))?;
    env.sync_directory(Path::new("/"))
        .await
        .map_err(StorageError::io("sync", "/"))?;
    let to = |id| ShardId(owner(id, shards));
    let done = relayout(env, Path::new(DATA), &setup.journal, shards, to).await?;
    if done.journals > 0 {
        model.borrow_mut().count("relayouts");
    }
    let mut open = Vec::new();
    for shard in (0..shards).map(ShardId) {
        open.push(Shard::open(env.clone(), setup.config(shard, shards)).await?);
    }
    Ok(open)
}

async fn live_on(
    broker: &Rc<Broker>,
    world: &Weak<Simulation>,
    seed: u64,
    plan: &Plan,
) -> Result<(), Violation> {
    attach_all(broker).await?;
    broker.model.borrow_mut().journal_flipped = false;
    if plan.trouble == Trouble::Full {
        let draws = Draws::new(seed, 1_000 + plan.number);
        let task = fill_disk(Rc::clone(broker), world.clone(), draws, plan.faults());
        drop(
            broker
                .env
                .spawn(Queue::Requests, "filler", OnPanic::StopProcess, task),
        );
    }
    let mut clients = Vec::new();
    for client in 0..plan.clients {
        let draws = Draws::new(seed, 100 + plan.number * 10 + client);
        if client == 0 {
            broker.create(&draws).await?;
        }
        let task = Rc::clone(broker).run_client(draws, plan.operations);
        clients.push(
            broker
                .env
                .spawn(Queue::Requests, "client", OnPanic::StopProcess, task),
        );
    }
    if plan.end == End::Killed {
        broker.env.sleep(plan.lasts).await;
        return Ok(());
    }
    for client in clients {
        // Each of its steps has a limit of its own.
        client.await;
    }
    broker
        .model
        .borrow_mut()
        .count("lives that came to their end");
    match plan.end {
        End::QuietThenFlip => broker.env.sleep(QUIET).await,
        End::CleanStop => {
            for shard in &broker.shards {
                broker.patiently("a clean stop", shard.shutdown()).await?;
            }
        }
        End::PowerLoss | End::Killed => {}
    }
    Ok(())
}

/// Leaves less space than the reserve for a while. Producing may be refused then, and must go on by
/// itself afterwards.
async fn fill_disk(broker: Rc<Broker>, world: Weak<Simulation>, draws: Draws, faults: DiskFaults) {
    broker
        .env
        .sleep(Duration::from_micros(draws.between(0, 4_000)))
        .await;
    let Ok(space) = broker.env.space(Path::new(DATA)).await else {
        return;
    };
    let capacity_bytes = space.total - space.available + draws.below(48 * 1024);
    if let Some(world) = world.upgrade() {
        let full = DiskFaults {
            capacity_bytes,
            ..faults.clone()
        };
        world.set_faults(NODE, full);
        broker.model.borrow_mut().full = true;
    }
    broker
        .env
        .sleep(Duration::from_millis(draws.between(20, 300)))
        .await;
    if let Some(empty) = world.upgrade() {
        empty.set_faults(NODE, faults);
    }
    // The free space is looked at at intervals.
    broker.env.sleep(Duration::from_millis(300)).await;
    broker.model.borrow_mut().full = false;
}
