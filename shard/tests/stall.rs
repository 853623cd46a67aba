//! The stall that glommio's executor is known for, provoked beside a competing thread on the same
//! CPU, and bounded by the watchdog.
//!
//! A test program of its own: it wants one CPU for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::runtime::Pulse;
use millrace_shard::runtime::affinity::allowed_cpus;
use millrace_shard::runtime::executor::{ExecutorSettings, ShardPlace, ShardThread};
use millrace_shard::runtime::watchdog::Watchdog;
use millrace_wire::ids::ShardId;

/// Far more than the scheduler of a loaded machine keeps a thread waiting, far less than for ever.
const STALL: Duration = Duration::from_millis(700);
/// How long to wait for a stall.
const PATIENCE: Duration = Duration::from_secs(8);
const PERIOD: Duration = Duration::from_millis(5);

/// Competes for `cpu` until told to stop, with pauses so that the shard is interrupted at all sorts
/// of moments.
fn compete(cpu: usize, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(300) {
                std::hint::spin_loop();
            }
            std::thread::yield_now();
        }
    })
}

/// The longest time without a poll on a shard that always has runnable tasks, looked at for
/// `patience` or until it is at least `STALL`.
fn longest_gap(pulse: &Pulse, patience: Duration) -> Duration {
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    let (mut polls, mut since) = (pulse.polls(), Instant::now());
    while start.elapsed() < patience && longest < STALL {
        std::thread::sleep(Duration::from_millis(1));
        if pulse.polls() != polls {
            (polls, since) = (pulse.polls(), Instant::now());
        }
        longest = longest.max(since.elapsed());
    }
    longest
}

/// Runs a shard that is busy without any I/O, for `patience`, and gives the longest gap and how
/// often the watchdog stepped in.
fn run(watched: bool, patience: Duration) -> (Duration, u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cpus = allowed_cpus().unwrap();
    let cpu = *cpus.last().unwrap();
    // A timer this short is what provokes it; production uses 1 ms.
    let settings = ExecutorSettings {
        preempt_timer: Duration::from_micros(100),
        io_memory_bytes: 1 << 20,
        ring_depth: 128,
        ..ExecutorSettings::default()
    };
    let place = ShardPlace {
        shard: ShardId(0),
        cpu,
        allowed_cpus: cpus,
        directory: directory.path().to_owned(),
    };
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let shard = ShardThread::start(place, &settings, move |env| async move {
        let busy = |queue| {
            let (inner, flag) = (env.clone(), Arc::clone(&flag));
            env.spawn(queue, "busy", OnPanic::StopProcess, async move {
                while !flag.load(Ordering::Relaxed) {
                    let start = inner.now();
                    while inner.now().since(start) < Duration::from_micros(20) {
                        std::hint::spin_loop();
                    }
                    glommio::executor().yield_now().await;
                }
            })
        };
        let tasks = [busy(Queue::Requests), busy(Queue::Background)];
        for task in tasks {
            task.await;
        }
    })
    .unwrap();
    let pulse = shard.pulse();
    while pulse.polls() < 100 {
        std::thread::yield_now();
    }
    let competitor = compete(cpu, Arc::clone(&done));
    let watchdog = watched.then(|| Watchdog::start(vec![Arc::clone(&pulse)], PERIOD).unwrap());
    let gap = longest_gap(&pulse, patience);
    let kicks = pulse.kicks();
    done.store(true, Ordering::Relaxed);
    competitor.join().unwrap();
    // Without this a stalled shard would never see that it is over.
    let rescue = watchdog.unwrap_or_else(|| Watchdog::start(vec![pulse], PERIOD).unwrap());
    shard.join().unwrap();
    drop(rescue);
    (gap, kicks)
}

#[test]
fn the_watchdog_bounds_the_stall() {
    let (unwatched, _) = run(false, PATIENCE);
    let (watched, kicks) = run(true, PATIENCE);
    println!(
        "longest gap: {unwatched:?} without the watchdog, {watched:?} with it, which woke the shard {kicks} times"
    );
    if unwatched < STALL {
        println!(
            "notice: no stall came within {PATIENCE:?}, so this run shows nothing about the cure"
        );
    }
    assert!(
        watched < STALL,
        "the shard stood still for {watched:?} under the watchdog"
    );
}
