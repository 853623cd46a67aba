//! The simulation itself: that it repeats, and that its disk is as bad as it says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::env::{File, OpenOptions};
use crate::local::{Event, oneshot};

const WRITE: OpenOptions = OpenOptions {
    write: true,
    create: true,
    data_sync: false,
};
const WRITE_SYNCED: OpenOptions = OpenOptions {
    write: true,
    create: true,
    data_sync: true,
};
const READ: OpenOptions = OpenOptions {
    write: false,
    create: false,
    data_sync: false,
};
const NODE: NodeId = NodeId(0);
const BLOCK: u64 = BLOCK_BYTES as u64;

fn filled(env: &SimulatedEnv, blocks: usize, byte: u8) -> Box<[u8]> {
    let mut buffer = env.allocate(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer
}

/// Makes `/f` with `blocks` blocks of ones, all durable.
fn prepare(simulation: &Simulation, blocks: usize) {
    simulation.run(move |env| async move {
        let file = env.open(Path::new("/f"), WRITE_SYNCED).await.unwrap();
        env.sync_directory(Path::new("/")).await.unwrap();
        file.write_at(filled(&env, blocks, 1), 0).await.unwrap();
    });
}

fn contents(simulation: &Simulation, path: &'static str) -> Option<Vec<u8>> {
    simulation.run(move |env| async move {
        let file = env.open(Path::new(path), READ).await.ok()?;
        let len = file.len().await.unwrap();
        Some(file.read_at(0, len as usize).await.unwrap())
    })
}

/// A workload with several tasks, timers, writes and a crash: its hash.
fn busy_run(seed: u64) -> u64 {
    let simulation = Simulation::new(seed);
    simulation.crash_after(NODE, Duration::from_millis(2));
    let stopped = simulation.try_run(NODE, |env| async move {
        for number in 0..4_u64 {
            let inner = env.clone();
            env.spawn(
                Queue::Background,
                "writer",
                OnPanic::StopProcess,
                async move {
                    let path = format!("/{number}");
                    let file = inner.open(Path::new(&path), WRITE).await.unwrap();
                    for block in 0.. {
                        let byte = (inner.random_u64() % 255) as u8;
                        file.write_at(filled(&inner, 1, byte), block * BLOCK)
                            .await
                            .unwrap();
                        inner.sleep(Duration::from_micros(number * 10)).await;
                    }
                },
            );
        }
        env.sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(stopped, Err(StopReason::Crashed));
    simulation.restart(NODE);
    simulation.state_hash()
}

#[test]
fn one_seed_gives_one_run_and_another_gives_another() {
    let hashes: BTreeSet<u64> = (0..20).map(busy_run).collect();
    assert_eq!(hashes.len(), 20);
    for seed in 0..20 {
        assert!(hashes.contains(&busy_run(seed)));
    }
}

#[test]
fn time_is_virtual_and_ordered() {
    let simulation = Simulation::new(1);
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&order);
    simulation.run(|env| async move {
        let tasks: Vec<_> = [30_u64, 10, 20]
            .map(|hours| {
                let (inner, seen) = (env.clone(), Rc::clone(&seen));
                env.spawn(Queue::Requests, "sleeper", OnPanic::EndTask, async move {
                    inner.sleep(Duration::from_secs(hours * 3600)).await;
                    seen.borrow_mut().push(hours);
                    hours
                })
            })
            .into();
        for task in tasks {
            assert!(task.await.is_some());
        }
    });
    assert_eq!(*order.borrow(), [10, 20, 30]);
    assert!(simulation.now() >= Instant(30 * 3600 * 1_000_000_000));
}

#[test]
fn a_spawned_task_runs_inline_or_later() {
    let inline = (0..50).filter(|seed| {
        Simulation::new(*seed).run(|env| async move {
            let ran = Rc::new(Cell::new(false));
            let flag = Rc::clone(&ran);
            let task = env.spawn(Queue::Requests, "flag", OnPanic::EndTask, async move {
                flag.set(true)
            });
            let inline = ran.get();
            task.await;
            assert!(ran.get());
            inline
        })
    });
    assert!((10..40).contains(&inline.count()));
}

#[test]
fn a_panic_ends_its_task_or_the_run() {
    let simulation = Simulation::new(3);
    let ended = simulation.run(|env| async move {
        env.spawn(Queue::Requests, "fragile", OnPanic::EndTask, async {
            panic!("on purpose")
        })
        .await
    });
    assert_eq!(ended, None::<()>);
    assert_eq!(simulation.panics(NODE), 1);
    let run = std::panic::catch_unwind(|| {
        Simulation::new(3).run(|env| async move {
            env.spawn(Queue::Requests, "owner", OnPanic::StopProcess, async {
                panic!("on purpose")
            })
            .await
        })
    });
    assert_eq!(run.unwrap_err().downcast_ref(), Some(&"on purpose"));
}

#[test]
fn a_run_that_waits_for_nothing_is_told_apart() {
    let simulation = Simulation::new(4);
    let stuck = simulation.try_run(NODE, |_| async { Event::new().listen().await });
    assert_eq!(stuck, Err(StopReason::Stuck));
}

#[test]
fn dropping_an_io_in_flight_fails_the_run() {
    let run = std::panic::catch_unwind(|| {
        Simulation::new(5).run(|env| async move {
            let file = env.open(Path::new("/f"), WRITE).await.unwrap();
            let write = file.write_at(env.allocate(BLOCK_BYTES), 0);
            let timer = env.sleep(Duration::from_nanos(1));
            futures_util::future::select(std::pin::pin!(write), std::pin::pin!(timer)).await;
        });
    });
    let message = run.unwrap_err();
    assert!(
        message
            .downcast_ref::<String>()
            .is_some_and(|message| message.contains("dropped a write"))
    );
}

#[test]
fn what_is_written_is_read_and_the_rest_is_zero() {
    let simulation = Simulation::new(6);
    simulation.run(|env| async move {
        let file = env.open(Path::new("/f"), WRITE).await.unwrap();
        file.reserve(64 << 20).await.unwrap();
        file.write_at(filled(&env, 2, 7), 3 * BLOCK).await.unwrap();
        let read = file.read_at(2 * BLOCK, 4 * BLOCK_BYTES).await.unwrap();
        let bytes: Vec<u8> = read.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
        assert_eq!(bytes, [0, 7, 7, 0]);
        file.set_len(4 * BLOCK).await.unwrap();
        file.set_len(6 * BLOCK).await.unwrap();
        assert_eq!(
            file.read_at(4 * BLOCK, BLOCK_BYTES).await.unwrap(),
            [0; BLOCK_BYTES]
        );
        assert_eq!(
            file.read_at(5 * BLOCK, 4 * BLOCK_BYTES)
                .await
                .unwrap()
                .len(),
            BLOCK_BYTES
        );
        assert_eq!(file.read_at(6 * BLOCK, BLOCK_BYTES).await.unwrap().len(), 0);
        let error = file.write_at(filled(&env, 1, 1), 100).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    });
}

#[test]
fn a_completed_data_sync_write_survives_every_crash() {
    for seed in 0..200 {
        let simulation = Simulation::new(seed);
        prepare(&simulation, 3);
        simulation.crash(NODE);
        simulation.restart(NODE);
        assert_eq!(contents(&simulation, "/f"), Some(vec![1; 3 * BLOCK_BYTES]));
    }
}

#[test]
fn unsynced_writes_are_kept_lost_and_torn() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let simulation = Simulation::new(seed);
        prepare(&simulation, 4);
        simulation.run(|env| async move {
            let file = env.open(Path::new("/f"), WRITE).await.unwrap();
            file.write_at(filled(&env, 4, 2), 0).await.unwrap();
        });
        simulation.crash(NODE);
        simulation.restart(NODE);
        let bytes = contents(&simulation, "/f").unwrap();
        assert!(
            bytes
                .chunks(512)
                .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
        );
        outcomes.insert(match (bytes.contains(&1), bytes.contains(&2)) {
            (true, false) => "lost",
            (false, true) => "kept",
            _ if bytes
                .chunks(BLOCK_BYTES)
                .all(|b| b.iter().all(|byte| *byte == b[0])) =>
            {
                "torn at 4 KiB"
            }
            _ => "torn at 512",
        });
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_sync_keeps_everything_before_it() {
    for seed in 0..100 {
        let simulation = Simulation::new(seed);
        prepare(&simulation, 2);
        simulation.run(|env| async move {
            let file = env.open(Path::new("/f"), WRITE).await.unwrap();
            file.write_at(filled(&env, 4, 2), 0).await.unwrap();
            file.sync().await.unwrap();
        });
        simulation.crash(NODE);
        simulation.restart(NODE);
        assert_eq!(contents(&simulation, "/f"), Some(vec![2; 4 * BLOCK_BYTES]));
    }
}

#[test]
fn a_write_in_flight_may_end_up_as_any_mix() {
    let mut mixes = BTreeSet::new();
    for seed in 0..300 {
        let simulation = Simulation::new(seed);
        prepare(&simulation, 2);
        simulation.crash_after(NODE, Duration::from_micros(30));
        let run = simulation.try_run(NODE, |env| async move {
            let file = env.open(Path::new("/f"), WRITE_SYNCED).await.unwrap();
            file.write_at(filled(&env, 2, 2), 0).await
        });
        simulation.restart(NODE);
        let bytes = contents(&simulation, "/f").unwrap();
        assert!(run.is_err() || bytes == [2; 2 * BLOCK_BYTES]);
        mixes.insert(bytes.chunks(512).filter(|sector| sector[0] == 2).count());
    }
    assert!(mixes.len() > 5, "{mixes:?}");
}

#[test]
fn names_need_their_directory_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        let simulation = Simulation::new(seed);
        simulation.run(|env| async move {
            env.create_directory(Path::new("/d")).await.unwrap();
            env.sync_directory(Path::new("/")).await.unwrap();
            env.open(Path::new("/d/a"), WRITE).await.unwrap();
            env.sync_directory(Path::new("/d")).await.unwrap();
            env.rename(Path::new("/d/a"), Path::new("/d/b"))
                .await
                .unwrap();
        });
        simulation.crash(NODE);
        simulation.restart(NODE);
        match simulation.files(NODE).as_slice() {
            [(path, _)] if path == "/d/a" => lost += 1,
            [(path, _)] if path == "/d/b" => kept += 1,
            files => panic!("a rename is whole or has not happened: {files:?}"),
        }
    }
    assert!(lost > 10 && kept > 10, "{lost} {kept}");
}

#[test]
fn a_removed_file_may_come_back_until_the_directory_is_synced() {
    let came_back = |synced: bool| {
        let back = (0..60).filter(|seed| {
            let simulation = Simulation::new(*seed);
            prepare(&simulation, 1);
            simulation.run(move |env| async move {
                env.remove_file(Path::new("/f")).await.unwrap();
                if synced {
                    env.sync_directory(Path::new("/")).await.unwrap();
                }
            });
            simulation.crash(NODE);
            simulation.restart(NODE);
            let back = contents(&simulation, "/f");
            assert!(back.as_ref().is_none_or(|bytes| *bytes == [1; BLOCK_BYTES]));
            back.is_some()
        });
        back.count()
    };
    assert!((5..55).contains(&came_back(false)));
    assert_eq!(came_back(true), 0);
}

#[test]
fn lengths_are_volatile_until_synced() {
    let lengths: BTreeSet<usize> = (0..100)
        .map(|seed| {
            let simulation = Simulation::new(seed);
            prepare(&simulation, 1);
            simulation.run(|env| async move {
                let file = env.open(Path::new("/f"), WRITE).await.unwrap();
                file.set_len(5 * BLOCK).await.unwrap();
            });
            simulation.crash(NODE);
            simulation.restart(NODE);
            contents(&simulation, "/f").unwrap().len()
        })
        .collect();
    assert_eq!(lengths, BTreeSet::from([BLOCK_BYTES, 5 * BLOCK_BYTES]));
}

#[test]
fn a_full_disk_says_so_and_frees_what_is_removed() {
    let faults = DiskFaults {
        capacity_bytes: 10 * BLOCK,
        ..DiskFaults::default()
    };
    Simulation::with_faults(8, faults).run(|env| async move {
        let file = env.open(Path::new("/a"), WRITE).await.unwrap();
        file.reserve(8 * BLOCK).await.unwrap();
        assert_eq!(
            env.space(Path::new("/")).await.unwrap().available,
            2 * BLOCK
        );
        let other = env.open(Path::new("/b"), WRITE).await.unwrap();
        let full = other.write_at(filled(&env, 3, 1), 0).await.unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        file.write_at(filled(&env, 8, 1), 0).await.unwrap();
        env.remove_file(Path::new("/a")).await.unwrap();
        assert!(
            other.reserve(9 * BLOCK).await.is_err(),
            "an open file keeps its space"
        );
        file.close().await.unwrap();
        other.reserve(9 * BLOCK).await.unwrap();
    });
}

#[test]
fn failures_are_drawn_and_reported() {
    let faults = DiskFaults {
        write_error: 0.3,
        sync_error: 0.3,
        read_error: 0.3,
        ..DiskFaults::default()
    };
    let failed = Simulation::with_faults(9, faults).run(|env| async move {
        let file = env.open(Path::new("/f"), WRITE).await.unwrap();
        let mut failed = [0; 3];
        for _ in 0..100 {
            failed[0] += u32::from(file.write_at(filled(&env, 1, 1), 0).await.is_err());
            failed[1] += u32::from(file.sync().await.is_err());
            failed[2] += u32::from(file.read_at(0, BLOCK_BYTES).await.is_err());
        }
        failed
    });
    assert!(
        failed.iter().all(|count| (15..50).contains(count)),
        "{failed:?}"
    );
}

#[test]
fn concurrent_writes_complete_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = (0..20)
        .map(|seed| {
            Simulation::new(seed).run(|env| async move {
                let file = Rc::new(env.open(Path::new("/f"), WRITE).await.unwrap());
                let order = Rc::new(RefCell::new(Vec::new()));
                let writes: Vec<_> = (0..3)
                    .map(|block| {
                        let (file, order, inner) =
                            (Rc::clone(&file), Rc::clone(&order), env.clone());
                        env.spawn(Queue::Requests, "write", OnPanic::StopProcess, async move {
                            file.write_at(filled(&inner, 1, 1), block * BLOCK)
                                .await
                                .unwrap();
                            order.borrow_mut().push(block);
                        })
                    })
                    .collect();
                for write in writes {
                    write.await;
                }
                order.take()
            })
        })
        .collect();
    assert!(orders.len() >= 4, "{orders:?}");
}

#[test]
fn a_bit_flips_where_it_may() {
    let simulation = Simulation::new(10);
    prepare(&simulation, 4);
    let at = simulation
        .flip_bits(NODE, Path::new("/f"), BLOCK..2 * BLOCK)
        .unwrap();
    assert!((BLOCK..2 * BLOCK).contains(&at));
    let (path, other) = simulation
        .flip_at_rest(NODE, |_, position| position >= 2 * BLOCK)
        .unwrap();
    assert!(path == "/f" && other >= 2 * BLOCK);
    let bytes = contents(&simulation, "/f").unwrap();
    let wrong: Vec<u64> = (0..)
        .zip(&bytes)
        .filter(|(_, byte)| **byte != 1)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(wrong, [at, other]);
    assert!(bytes.iter().all(|byte| (byte ^ 1).count_ones() <= 1));
    assert_eq!(
        simulation.flip_bits(NODE, Path::new("/none"), 0..BLOCK),
        None
    );
}

#[test]
fn fatal_stops_the_node_and_a_restart_sees_what_was_written() {
    let simulation = Simulation::new(11);
    prepare(&simulation, 1);
    let went_on = Rc::new(Cell::new(false));
    let flag = Rc::clone(&went_on);
    let run = simulation.try_run(NODE, |env| async move {
        let file = env.open(Path::new("/f"), WRITE).await.unwrap();
        file.write_at(filled(&env, 1, 5), 0).await.unwrap();
        env.fatal("a sync failed");
        env.sleep(Duration::ZERO).await;
        env.open(Path::new("/g"), WRITE).await.unwrap();
        flag.set(true);
    });
    assert_eq!(run, Err(StopReason::Fatal("a sync failed".into())));
    assert!(!went_on.get());
    simulation.restart(NODE);
    assert_eq!(
        contents(&simulation, "/f"),
        Some(vec![5; BLOCK_BYTES]),
        "no power was lost"
    );
}

#[test]
fn nodes_have_lives_and_disks_of_their_own() {
    let simulation = Simulation::new(12);
    let other = simulation.add_node(DiskFaults::slow_now_and_then());
    prepare(&simulation, 1);
    let (sender, receiver) = oneshot::<()>();
    let old = simulation.env(NODE);
    old.spawn(
        Queue::Requests,
        "holder",
        OnPanic::StopProcess,
        async move {
            std::future::pending::<()>().await;
            drop(sender);
        },
    );
    simulation.crash_after(NODE, Duration::from_millis(5));
    let dropped = simulation.try_run(other, |env| async move {
        assert!(env.list_directory(Path::new("/")).await.unwrap().is_empty());
        receiver.await
    });
    assert!(
        dropped.unwrap().is_err(),
        "the crash drops the task and what it holds"
    );
    simulation.restart(NODE);
    assert!(!old.is_alive() && simulation.env(NODE).is_alive());
    assert_eq!(simulation.files(NODE).len(), 1);
}

#[test]
fn thousands_of_small_runs_are_quick() {
    let start = std::time::Instant::now();
    for seed in 0..500 {
        busy_run(seed);
    }
    let each = start.elapsed() / 500;
    println!("{each:?} a run");
    assert!(
        each < Duration::from_millis(20),
        "{each:?} a run is too slow for ten thousand of them"
    );
}
