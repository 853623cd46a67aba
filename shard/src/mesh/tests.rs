//! The same behaviours over both kinds of link: two real executors, and simulated shards.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::env::glommio::GlommioEnv;
use crate::env::simulated::{SimulatedEnv, Simulation};
use crate::runtime::executor::ShardThread;
use crate::runtime::testing::{place, scratch, settings};
use crate::runtime::watchdog::{DEFAULT_PERIOD, Watchdog};

/// What these shards ask of each other.
enum Ask {
    Double(u64),
    /// Write something to a descriptor that moves there.
    Greet(OwnedFd),
    /// Panic at once, before there is a future.
    PanicEarly,
    /// Panic in the future.
    Panic,
    /// Never answer.
    Hang,
    /// How many requests were begun before this one?
    Count,
    /// Ask the asker to double 21.
    Back,
}

type TestMesh = Mesh<Ask, u64>;

/// Answers, and calls `at_hang` when it is asked to hang.
fn serve<E: Env>(mesh: &TestMesh, env: E, at_hang: impl Fn() + 'static) {
    let begun = Cell::new(0);
    let own = mesh.clone();
    mesh.serve(move |from, ask| {
        let before = begun.replace(begun.get() + 1);
        assert!(!matches!(ask, Ask::PanicEarly), "on purpose");
        if matches!(ask, Ask::Hang) {
            at_hang();
        }
        answer(own.clone(), env.clone(), from, ask, before)
    });
}

/// Shard 0 goes through everything, shard 1 serves until it is told to stop by `Hang`.
async fn asks<E: Env>(mesh: TestMesh, env: E) {
    let other = ShardId(1);
    assert_eq!((mesh.shard(), mesh.shards()), (ShardId(0), 2));
    for expected in 0..10 {
        assert_eq!(mesh.call(other, Ask::Count).await, Ok(expected), "in order");
    }
    // Sent in order, whenever the replies are awaited; a reply nobody awaits stops nothing.
    let mut pending = Vec::new();
    for _ in 10..20 {
        pending.push(mesh.send(other, Ask::Count).await.unwrap());
    }
    drop(pending.remove(3));
    for (reply, expected) in pending
        .into_iter()
        .zip([10, 11, 12, 14, 15, 16, 17, 18, 19])
    {
        assert_eq!(reply.await, Ok(expected));
    }
    assert_eq!(
        mesh.call(other, Ask::Back).await,
        Ok(42),
        "a handler may ask back"
    );
    // More than the channels hold, all at once.
    let calls: Vec<_> = (0..5_000_u64)
        .map(|number| {
            let mesh = mesh.clone();
            let call = async move { mesh.call(other, Ask::Double(number)).await };
            env.spawn(Queue::Requests, "call", OnPanic::EndTask, call)
        })
        .collect();
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await, Some(Ok(number * 2)));
    }
    let (mut here, there) = UnixStream::pair().unwrap();
    assert_eq!(mesh.call(other, Ask::Greet(there.into())).await, Ok(0));
    let mut greeting = String::new();
    here.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "hello", "and the descriptor was closed there");

    assert_eq!(
        mesh.call(other, Ask::Panic).await,
        Err(MeshError::HandlerFailed(other))
    );
    assert_eq!(
        mesh.call(other, Ask::PanicEarly).await,
        Err(MeshError::HandlerFailed(other))
    );
    assert_eq!(
        mesh.call(ShardId(0), Ask::Double(4)).await,
        Ok(8),
        "a shard may ask itself"
    );
    assert_eq!(
        mesh.call(ShardId(0), Ask::Panic).await,
        Err(MeshError::HandlerFailed(ShardId(0)))
    );
    assert_eq!(
        mesh.call(ShardId(9), Ask::Count).await,
        Err(MeshError::NoSuchShard(ShardId(9)))
    );

    // Callers that give up take no room for ever.
    for number in 0..3_000 {
        let call = mesh.call(other, Ask::Double(number));
        let _ = call.now_or_never();
        if number % 100 == 0 {
            env.sleep(Duration::from_micros(50)).await;
        }
    }
    assert_eq!(mesh.call(other, Ask::Double(1)).await, Ok(2));
    assert_eq!(
        mesh.call(other, Ask::Hang).await,
        Err(MeshError::Ended(other)),
        "it ends meanwhile"
    );
    assert_eq!(
        mesh.call(other, Ask::Double(1)).await,
        Err(MeshError::Ended(other))
    );
    mesh.close();
    assert_eq!(
        mesh.call(ShardId(0), Ask::Double(1)).await,
        Err(MeshError::Ended(ShardId(0)))
    );
}

/// Shard 1: a while after the request that hangs, it leaves.
async fn answers<E: Env>(mesh: TestMesh, env: E) {
    let hung = Rc::new(Event::new());
    let begun = Rc::new(Cell::new(false));
    let (event, flag) = (Rc::clone(&hung), Rc::clone(&begun));
    serve(&mesh, env.clone(), move || {
        flag.set(true);
        event.notify();
    });
    hung.wait_until(|| begun.get()).await;
    env.sleep(Duration::from_millis(2)).await;
    mesh.close();
}

async fn answer<E: Env>(mesh: TestMesh, env: E, from: ShardId, ask: Ask, before: u64) -> u64 {
    match ask {
        Ask::Double(number) => {
            env.sleep(Duration::from_micros(number % 7 * 10)).await;
            number * 2
        }
        Ask::Greet(descriptor) => {
            UnixStream::from(descriptor).write_all(b"hello").unwrap();
            u64::from(from.0)
        }
        Ask::PanicEarly | Ask::Panic => panic!("on purpose"),
        Ask::Hang => std::future::pending().await,
        Ask::Count => before,
        Ask::Back => mesh.call(from, Ask::Double(21)).await.unwrap(),
    }
}

#[test]
fn simulated_shards_talk() {
    for seed in 0..20 {
        Simulation::new(seed).run(|env: SimulatedEnv| async move {
            let mut ports = ports_over::<Ask, u64, LocalLink>(2);
            let (two, one) = (ports.pop().unwrap(), ports.pop().unwrap());
            let inner = env.clone();
            let other = env.spawn(
                Queue::Requests,
                "shard 1",
                OnPanic::StopProcess,
                async move {
                    answers(two.connect(inner.clone()).await, inner).await;
                },
            );
            let mesh = one.connect(env.clone()).await;
            serve(&mesh, env.clone(), || {});
            asks(mesh, env).await;
            other.await.unwrap();
        });
    }
}

#[test]
fn real_shards_talk() {
    let directory = scratch();
    let mut ports = ports::<Ask, u64>(2);
    let (two, one) = (ports.pop().unwrap(), ports.pop().unwrap());
    let first = ShardThread::start(
        place(0, directory.path()),
        &settings(),
        |env: GlommioEnv| async move {
            let mesh = one.connect(env.clone()).await;
            serve(&mesh, env.clone(), || {});
            within_a_minute(asks(mesh, env)).await;
        },
    );
    let second = ShardThread::start(
        place(1, directory.path()),
        &settings(),
        |env: GlommioEnv| async move {
            let mesh = two.connect(env.clone()).await;
            within_a_minute(answers(mesh, env)).await;
        },
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    let pulses = vec![first.pulse(), second.pulse()];
    let _watchdog = Watchdog::start(pulses, DEFAULT_PERIOD).unwrap();
    second.join().unwrap();
    first.join().unwrap();
}

async fn within_a_minute(part: impl Future<Output = ()>) {
    let timeout = pin!(glommio::timer::sleep(Duration::from_secs(60)));
    let Either::Left(_) = select(pin!(part), timeout).await else {
        panic!("a call hangs")
    };
}
