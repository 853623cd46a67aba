//! The ring on a real shard: files, sockets, and being woken.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use glommio::io::DmaBuffer;

use super::{Interest, Readiness};
use crate::env::{Env, OnPanic, Queue};
use crate::runtime::testing::{run_shard, scratch};

fn block(byte: u8) -> DmaBuffer {
    let mut buffer = glommio::allocate_dma_buffer(4096);
    buffer.as_bytes_mut().fill(byte);
    buffer
}

fn file(directory: &std::path::Path) -> std::fs::File {
    OpenOptions::new()
        .write(true)
        .read(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(directory.join("file"))
        .unwrap()
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn writes_happen_whether_or_not_they_are_awaited() {
    let directory = scratch();
    let file = file(directory.path());
    let path = directory.path().join("file");
    run_shard(move |env| async move {
        let ring = env.ring().clone();
        drop(ring.write_at(file.as_fd(), block(1), 0));
        let second = ring.write_at(file.as_fd(), block(2), 4096);
        assert_eq!(second.await.unwrap(), 4096);
        drop(ring.write_at(file.as_fd(), block(3), 8192));
        // The ring goes with the shard, but not before its writes are done.
    });
    let written = std::fs::read(path).unwrap();
    let blocks: Vec<u8> = written.chunks(4096).map(|block| block[0]).collect();
    assert_eq!(blocks, [1, 2, 3]);
}

#[test]
fn a_failed_write_says_why() {
    let directory = scratch();
    let path = directory.path().join("file");
    drop(file(directory.path()));
    run_shard(move |env| async move {
        let read_only = std::fs::File::open(path).unwrap();
        let refused = env.ring().write_at(read_only.as_fd(), block(1), 0).await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn a_place_is_used_again_only_when_the_kernel_is_done_with_it() {
    let directory = scratch();
    let file = file(directory.path());
    run_shard(move |env| async move {
        let ring = env.ring().clone();
        for round in 0..200_u64 {
            let writes = (0..8).map(|place| ring.write_at(file.as_fd(), block(1), place * 4096));
            let mut writes: Vec<_> = writes.collect();
            // Some are left alone, and their places must not be given to the next round's.
            writes.truncate(usize::try_from(round % 8).unwrap());
            for write in writes {
                assert_eq!(write.await.unwrap(), 4096);
            }
        }
        let (_client, server) = connection();
        for _ in 0..200 {
            let readable = Readiness::new(&ring, Interest::Read);
            let ready = pin!(readable.ready(server.as_fd()));
            let pause = pin!(env.sleep(Duration::from_micros(10)));
            assert!(matches!(select(ready, pause).await, Either::Right(_)));
        }
        let kept = ring.inner.operations.borrow().slots_in_use();
        assert!(kept < 16, "{kept} places are still taken");
    });
}

#[test]
fn a_socket_tells_each_time_when_something_arrives() {
    run_shard(|env| async move {
        let (mut client, server) = connection();
        let readable = Readiness::new(env.ring(), Interest::Read);
        for round in 0..100 {
            if round % 2 == 0 {
                client.write_all(b"x").unwrap();
            } else {
                // While the shard sleeps.
                let mut late = client.try_clone().unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(2));
                    late.write_all(b"x").unwrap();
                });
            }
            readable.ready(server.as_fd()).await.unwrap();
            let mut byte = [0];
            assert_eq!(std::io::Read::read(&mut &server, &mut byte).unwrap(), 1);
        }
        drop(client);
        readable.ready(server.as_fd()).await.unwrap();
        assert_eq!(std::io::Read::read(&mut &server, &mut [0]).unwrap(), 0);
    });
}

#[test]
fn the_end_is_told_with_the_last_bytes() {
    run_shard(|env| async move {
        let (mut client, server) = connection();
        let readable = Readiness::new(env.ring(), Interest::Read);
        client.write_all(b"last").unwrap();
        drop(client);
        env.sleep(Duration::from_millis(1)).await;
        readable.ready(server.as_fd()).await.unwrap();
        assert!(readable.is_over());
    });
}

#[test]
fn a_socket_that_was_full_tells_when_it_takes_bytes_again() {
    run_shard(|env| async move {
        let (client, server) = connection();
        server.set_nonblocking(true).unwrap();
        while (&server).write(&[0; 65_536]).is_ok() {}
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            std::io::copy(&mut &client, &mut std::io::sink()).unwrap()
        });
        let writable = Readiness::new(env.ring(), Interest::Write);
        writable.ready(server.as_fd()).await.unwrap();
        assert!((&server).write(b"more").unwrap() > 0);
        drop(server);
        assert!(reader.join().unwrap() > 65_536);
    });
}

#[test]
fn what_waits_for_other_things_goes_on_beside_a_busy_ring() {
    // Timers and tasks of other queues, while the ring always has something that is about to happen.
    let directory = scratch();
    let file = file(directory.path());
    run_shard(move |env| async move {
        let stop = Rc::new(Cell::new(false));
        let (ring, stopped) = (env.ring().clone(), Rc::clone(&stop));
        let writer = env.spawn(Queue::Requests, "writer", OnPanic::EndTask, async move {
            while !stopped.get() {
                ring.write_at(file.as_fd(), block(1), 0).await.unwrap();
            }
        });
        let other = env.clone();
        let background = env.spawn(Queue::Background, "other", OnPanic::EndTask, async move {
            for _ in 0..20 {
                other.sleep(Duration::from_millis(1)).await;
            }
        });
        let began = Instant::now();
        background.await.unwrap();
        let took = began.elapsed();
        stop.set(true);
        writer.await.unwrap();
        assert!(took < Duration::from_secs(5), "{took:?} for 20 ms");
    });
}

#[test]
fn a_watch_that_is_given_up_while_there_is_something_to_tell_ends() {
    run_shard(|env| async move {
        let ring = env.ring().clone();
        let slots = || ring.inner.operations.borrow().slots_in_use();
        let before = slots();
        let (mut far, near) = connection();
        let readiness = Readiness::new(&ring, Interest::Read);
        let nothing_yet = readiness.ready(near.as_fd()).now_or_never();
        assert!(nothing_yet.is_none());
        // The kernel takes note of it, and of nothing else before it is asked.
        far.write_all(b"x").unwrap();
        drop(readiness);
        drop(near);
        while ring.turn() {}
        assert_eq!(slots(), before);
        // Nobody holds the connection any more, and so it ends.
        far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        match far.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("it goes on: {other:?}"),
        }
    });
}
