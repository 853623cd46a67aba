//! What a journal does, one thing at a time.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, Term};

use super::model::{Owner, State, as_entry, created, partition};
use crate::env::glommio::GlommioEnv;
use crate::env::simulated::{DiskFaults, NodeId, Simulation};
use crate::env::{BLOCK_BYTES, Env, File, OnPanic, OpenOptions, Queue};
use crate::journal::format::VERSION;
use crate::journal::{
    Journal, JournalClosed, JournalConfig, JournalError, JournalMetrics, OwnedEntry, RecoveredItem,
    Recovery, recover,
};

const NODE: NodeId = NodeId(0);

fn config() -> JournalConfig {
    JournalConfig {
        file_bytes: 16 * BLOCK_BYTES as u64,
        initial_files: 2,
        max_files: 4,
        max_group_bytes: 8 << 10,
        ..JournalConfig::new(PathBuf::from("/@journal/0000"))
    }
}

/// With all its files from the start.
fn config_of_four() -> JournalConfig {
    JournalConfig {
        initial_files: 4,
        ..config()
    }
}

/// An open journal with an owner that has one partition.
struct Open<E: Env> {
    journal: Rc<Journal<E, u64>>,
    owner: Owner,
    appended: Cell<u64>,
}

impl<E: Env> Open<E> {
    async fn new(env: &E, config: &JournalConfig) -> (Open<E>, State) {
        let recovery = recover(env, config).await.expect("the journal can be read");
        let state = State::of(&recovery);
        let owner = Owner {
            state: Rc::new(RefCell::new(state.clone())),
        };
        let metrics = Rc::new(JournalMetrics::default());
        let journal = recovery
            .start(env.clone(), Rc::new(owner.clone()), metrics)
            .await
            .expect("it starts");
        let open = Open {
            journal,
            owner,
            appended: Cell::new(0),
        };
        if state.partitions.is_empty() {
            open.add(OwnedEntry::PartitionCreated(created(partition(0))));
        }
        (open, state)
    }

    fn add(&self, entry: OwnedEntry) {
        let token = self.appended.get() + 1;
        let sequence = self
            .journal
            .append(as_entry(&entry), token)
            .expect("it is open");
        self.appended.set(token);
        self.owner.state.borrow_mut().apply(sequence, &entry);
    }

    fn batch(&self, len: usize) {
        let state = self.owner.state.borrow().partitions[&partition(0)].state;
        self.add(OwnedEntry::Append {
            partition: partition(0),
            index: LogIndex(state.last_index.0 + 1),
            term: Term(1),
            base_offset: state.log_end,
            record_count: 1,
            idempotent: false,
            batch: Bytes::from(vec![state.log_end.0 as u8; len]),
        });
    }

    /// Waits until everything is durable.
    async fn settle(&self) {
        let mut last = 0;
        while last < self.appended.get() {
            let (_, tokens) = self.journal.next_durable().await.expect("it is open");
            for token in tokens {
                assert_eq!(token, last + 1, "tokens come back in order");
                last = token;
            }
        }
    }

    fn make_safe(&self) {
        let mut safe = self.owner.state.borrow().partitions[&partition(0)].state;
        safe.safe.next_offset = safe.log_end;
        safe.safe.next_index = LogIndex(safe.last_index.0 + 1);
        self.add(OwnedEntry::SegmentSafe {
            partition: partition(0),
            safe: safe.safe,
        });
        self.journal.note_safe();
    }
}

/// Appends and rolls for a while, closes, and finds everything again.
async fn round_trip<E: Env>(env: E, config: JournalConfig) {
    for round in 0..3 {
        let (open, before) = Open::new(&env, &config).await;
        let known = before
            .partitions
            .get(&partition(0))
            .map_or(0, |p| p.state.log_end.0);
        assert_eq!(known, round * 60);
        for number in 0..60 {
            open.journal.room(1_000).await;
            open.batch(100 + 97 * number);
            if number % 8 == 7 {
                open.settle_from_here().await;
                open.make_safe();
            }
        }
        open.journal.close().await;
        assert_eq!(
            open.journal.append(
                as_entry(&OwnedEntry::PartitionRemoved {
                    partition: partition(0)
                }),
                0
            ),
            Err(JournalClosed)
        );
        let recovered = recover(&env, &config).await.expect("it was closed cleanly");
        assert_eq!(State::of(&recovered), *open.owner.state.borrow());
        assert_eq!(recovered.torn, None);
    }
}

impl<E: Env> Open<E> {
    /// Like `settle`, where earlier tokens were taken already.
    async fn settle_from_here(&self) {
        let target = self.appended.get();
        while let Some((_, tokens)) = self.journal.next_durable().await {
            if tokens.contains(&target) {
                return;
            }
        }
        panic!("the journal closed");
    }
}

#[test]
fn a_round_trip_on_a_simulated_disk() {
    for seed in 0..20 {
        Simulation::new(seed).run(|env| round_trip(env, config()));
    }
}

#[test]
fn a_round_trip_on_a_real_disk() {
    let directory = crate::runtime::testing::scratch();
    let path = directory.path().join("@journal/0000");
    crate::runtime::testing::run_shard(move |env: GlommioEnv| {
        round_trip(
            env,
            JournalConfig {
                directory: path,
                ..config()
            },
        )
    });
}

#[test]
fn an_entry_longer_than_a_file_goes_through_and_its_file_is_used_again_at_its_own_length() {
    let simulation = Simulation::new(1);
    simulation.run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        open.journal.room(1 << 20).await;
        open.batch(1 << 20);
        open.settle().await;
        for _ in 0..60 {
            open.journal.room(9_000).await;
            open.batch(9_000);
            open.settle_from_here().await;
            open.make_safe();
        }
        open.journal.close().await;
        let recovered = recover(&env, &config()).await.expect("it was closed");
        assert_eq!(State::of(&recovered), *open.owner.state.borrow());
    });
    let lengths: Vec<_> = simulation
        .files(NODE)
        .into_iter()
        .map(|(_, len)| len)
        .collect();
    assert!(
        lengths.len() <= 5 && lengths.iter().all(|len| *len <= 20 * BLOCK_BYTES as u64),
        "{lengths:?}"
    );
}

#[test]
fn an_idle_journal_seals_itself_once_and_then_writes_nothing() {
    Simulation::new(2).run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        open.batch(10);
        open.settle().await;
        env.sleep(Duration::from_millis(20)).await;
        let (groups, seals) = (
            open.journal.metrics().groups.get(),
            open.journal.metrics().seals.get(),
        );
        assert!(seals >= 1);
        env.sleep(Duration::from_secs(60)).await;
        assert_eq!(
            (
                open.journal.metrics().groups.get(),
                open.journal.metrics().seals.get()
            ),
            (groups, seals)
        );
    });
}

#[test]
fn what_queues_while_writes_are_in_flight_becomes_one_group() {
    let slow = DiskFaults {
        write_latency: Duration::from_millis(5)..=Duration::from_millis(5),
        ..DiskFaults::default()
    };
    Simulation::with_faults(3, slow).run(|env| async move {
        let (open, _) = Open::new(
            &env,
            &JournalConfig {
                max_writes_in_flight: 1,
                ..config()
            },
        )
        .await;
        open.settle().await;
        let before = open.journal.metrics().groups.get();
        open.batch(10);
        env.sleep(Duration::from_millis(1)).await;
        for _ in 0..50 {
            open.batch(10);
        }
        open.settle_from_here().await;
        assert_eq!(open.journal.metrics().groups.get() - before, 2);
    });
}

#[test]
fn lingering_is_counted_from_the_first_entry_of_a_group() {
    Simulation::new(4).run(|env| async move {
        let linger = Duration::from_millis(3);
        let (open, _) = Open::new(
            &env,
            &JournalConfig {
                linger,
                max_group_writes: 100_000,
                file_bytes: 1 << 20,
                max_group_bytes: 1 << 18,
                ..config()
            },
        )
        .await;
        open.settle().await;
        let before = open.journal.metrics().groups.get();
        // An arrival every 200 us, for 60 ms: were each to begin the wait anew, it would never end.
        for _ in 0..300 {
            open.batch(10);
            env.sleep(Duration::from_micros(200)).await;
        }
        let groups = open.journal.metrics().groups.get() - before;
        assert!(
            (10..=21).contains(&groups),
            "{groups} groups of 3 ms in 60 ms"
        );
    });
}

#[test]
fn with_every_file_needed_appends_wait_until_the_owner_lets_go() {
    Simulation::new(5).run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        let open = Rc::new(open);
        let writer = Rc::clone(&open);
        let task = env.spawn(
            Queue::Requests,
            "appends",
            OnPanic::StopProcess,
            async move {
                for _ in 0..200 {
                    writer.journal.room(4_000).await;
                    writer.batch(4_000);
                }
            },
        );
        env.sleep(Duration::from_secs(5)).await;
        assert!(
            open.appended.get() < 150,
            "four files of 60 KiB do not hold more"
        );
        assert!(
            open.journal.flush_below().is_some(),
            "the journal asks for room"
        );
        assert!(open.journal.metrics().waits_for_file.get() > 0);
        while open.appended.get() < 201 {
            open.make_safe();
            open.appended.set(open.appended.get() - 1); // what makes room is not counted
            env.sleep(Duration::from_millis(1)).await;
        }
        task.await;
    });
}

#[test]
fn a_disk_too_full_for_another_file_slows_the_journal_and_does_not_stop_it() {
    let files = (3 * config().file_bytes, DiskFaults::default());
    Simulation::with_faults(
        6,
        DiskFaults {
            capacity_bytes: files.0,
            ..files.1
        },
    )
    .run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        for _ in 0..100 {
            open.journal.room(4_000).await;
            open.batch(4_000);
            open.settle_from_here().await;
            open.make_safe();
        }
        assert!(open.journal.metrics().rolls.get() > 3);
    });
}

#[test]
fn closing_on_a_full_disk_gives_up_what_does_not_fit_and_ends() {
    let config = config_of_four();
    let world = Rc::new(Simulation::new(8));
    let reach = Rc::downgrade(&world);
    let durable = world.run(move |env| async move {
        let (open, _) = Open::new(&env, &config).await;
        env.sleep(Duration::from_secs(1)).await;
        let used = {
            let space = env.space(Path::new("/")).await.expect("it tells");
            space.total - space.available
        };
        let full = DiskFaults {
            capacity_bytes: used,
            ..DiskFaults::default()
        };
        reach.upgrade().expect("it runs").set_faults(NODE, full);
        for _ in 0..80 {
            open.batch(4_000);
        }
        open.journal.close().await;
        let mut durable = 0;
        while let Some((_, tokens)) = open.journal.next_durable().await {
            durable = tokens.last().copied().unwrap_or(durable);
        }
        assert!(durable < open.appended.get(), "not all of it fits");
        durable
    });
    assert_eq!(world.stopped(NODE), None, "a full disk is no broken one");
    world.kill(NODE);
    world.restart(NODE);
    let found = world.run(|env| async move {
        let recovery = recover(&env, &config_of_four()).await.expect("it is whole");
        recovery.items.len() as u64
    });
    assert!(found >= durable, "{found} of {durable} are there");
}

#[test]
fn a_checkpoint_longer_than_a_file_does_not_make_every_group_begin_another() {
    Simulation::new(7).run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        for number in 1..2_000 {
            open.journal.room(200).await;
            open.add(OwnedEntry::PartitionCreated(created(partition(number))));
        }
        open.settle().await;
        let write_some = async || {
            for _ in 0..100 {
                open.batch(1_000);
                open.settle_from_here().await;
                open.make_safe();
            }
        };
        write_some().await;
        let rolls = open.journal.metrics().rolls.get();
        write_some().await;
        let rolls = open.journal.metrics().rolls.get() - rolls;
        assert!(rolls <= 2, "100 batches of a kilobyte began {rolls} files");
        let before = open.owner.state.borrow().clone();
        drop(open);
        let (_, after) = Open::new(&env, &config()).await;
        assert_eq!(before, after);
    });
}

/// Leaves a journal with a few live files, of which none could be let go.
fn leave_some_files(simulation: &Simulation) -> Vec<String> {
    simulation.run(|env| async move {
        let (open, _) = Open::new(&env, &config()).await;
        for _ in 0..18 {
            open.batch(4_000);
            open.settle_from_here().await;
        }
        open.journal.close().await;
    });
    simulation.restart(NODE);
    simulation
        .files(NODE)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with(".journal"))
        .collect()
}

fn try_recover(simulation: &Simulation) -> Result<Recovery, JournalError> {
    simulation.run(|env| async move { recover(&env, &config()).await })
}

fn overwrite(simulation: &Simulation, path: &str, position: u64, block: Vec<u8>) {
    let path = path.to_owned();
    simulation.run(|env| async move {
        let options = OpenOptions {
            write: true,
            create: false,
            data_sync: true,
        };
        let file = env
            .open(Path::new(&path), options)
            .await
            .expect("it is there");
        let mut buffer = env.allocate(block.len());
        buffer.copy_from_slice(&block);
        file.write_at(buffer, position)
            .await
            .expect("this disk writes");
    });
}

fn damaged(recovery: &Recovery) -> usize {
    recovery
        .items
        .iter()
        .filter(|item| matches!(item, RecoveredItem::Damaged(_)))
        .count()
}

#[test]
fn a_newer_version_is_refused_with_both_named() {
    let simulation = Simulation::new(7);
    let files = leave_some_files(&simulation);
    let mut block = vec![0; BLOCK_BYTES];
    block[..8].copy_from_slice(b"MLRJRNL\0");
    block[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..512]);
    block[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    overwrite(&simulation, &files[1], 0, block);
    let refused = try_recover(&simulation).expect_err("a newer file must not be touched");
    assert!(matches!(
        refused,
        JournalError::NewerVersion {
            found: 3,
            known: 2,
            ..
        }
    ));
    let message = refused.to_string();
    assert!(
        message.contains("version 3") && message.contains("up to 2"),
        "{message}"
    );
}

#[test]
fn a_missing_live_file_is_told() {
    let simulation = Simulation::new(8);
    let files = leave_some_files(&simulation);
    let whole = try_recover(&simulation).expect("nothing is wrong yet");
    assert_eq!(damaged(&whole), 0);
    let path = files[0].clone();
    simulation.run(|env| async move {
        env.remove_file(Path::new(&path))
            .await
            .expect("it is there")
    });
    let recovery = try_recover(&simulation).expect("the rest can be read");
    assert!(
        damaged(&recovery) > 0,
        "the first file's groups are gone without a word"
    );
    assert!(recovery.items.len() < whole.items.len());
}

#[test]
fn a_file_in_which_nothing_can_be_read_is_told_and_set_aside() {
    let simulation = Simulation::new(9);
    let files = leave_some_files(&simulation);
    overwrite(&simulation, &files[0], 0, vec![0xee; 16 * BLOCK_BYTES]);
    let recovery = try_recover(&simulation).expect("the rest can be read");
    assert!(damaged(&recovery) > 0);
    simulation.run(|env| async move {
        let recovery = recover(&env, &config()).await.expect("as before");
        let owner = Owner {
            state: Rc::new(RefCell::new(State::of(&recovery))),
        };
        let _: Rc<Journal<_, u64>> = recovery
            .start(env, Rc::new(owner), Rc::default())
            .await
            .expect("it starts");
    });
    let names: Vec<_> = simulation
        .files(NODE)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with(".damaged")),
        "{names:?}"
    );
}

#[test]
fn without_any_checkpoint_the_start_is_refused() {
    let simulation = Simulation::new(10);
    for file in leave_some_files(&simulation) {
        overwrite(&simulation, &file, 0, vec![0xee; 3 * BLOCK_BYTES]);
    }
    let refused = try_recover(&simulation).expect_err("nothing tells which partitions there were");
    assert!(
        matches!(refused, JournalError::CheckpointLost { .. }),
        "{refused}"
    );
}

#[test]
fn an_empty_directory_is_a_new_journal() {
    let recovery = try_recover(&Simulation::new(11)).expect("nothing is there to be wrong");
    assert_eq!(
        (
            recovery.checkpoint.len(),
            recovery.items.len(),
            recovery.end.0
        ),
        (0, 0, 0)
    );
    assert_eq!(Offset::ZERO, created(partition(0)).log_end);
}

#[test]
fn the_first_file_has_room_beside_a_long_checkpoint() {
    let simulation = Simulation::new(12);
    simulation.run(|env| async move {
        let snapshot = Bytes::from(vec![5; 200_000]);
        for _ in 0..2 {
            let (open, before) = Open::new(&env, &config()).await;
            let known = before.partitions.get(&partition(0));
            assert!(known.is_none_or(|known| known.producers == snapshot));
            let rolls = || open.journal.metrics().rolls.get();
            assert_eq!(rolls(), 1);
            if known.is_none() {
                open.add(OwnedEntry::Producers {
                    partition: partition(0),
                    snapshot: snapshot.clone(),
                });
            } else {
                open.batch(10_000);
                open.settle().await;
                assert_eq!(rolls(), 1, "the checkpoint filled the file");
            }
            open.journal.close().await;
        }
    });
}
