//! One suite of behaviours, run on both environments: what storage code may rely on is the same in
//! a simulation and in production.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::glommio::GlommioEnv;
use super::simulated::Simulation;
use super::*;

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
const BLOCK: u64 = BLOCK_BYTES as u64;

fn filled<E: Env>(env: &E, blocks: usize, byte: u8) -> <E::File as File>::Buffer {
    let mut buffer = env.allocate(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer
}

/// The first byte of every block.
fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(BLOCK_BYTES).map(|block| block[0]).collect()
}

async fn suite<E: Env>(env: E, root: &Path) {
    opening(&env, root).await;
    reading_and_writing(&env, root).await;
    lengths(&env, root).await;
    misuse(&env, root).await;
    names(&env, root).await;
    directories(&env, root).await;
    concurrent_io(&env, root).await;
    time_and_tasks(&env).await;
    assert!(env.space(root).await.unwrap().total > 0);
    assert!(
        env.list_directory(root).await.unwrap().is_empty(),
        "each part tidies up"
    );
}

async fn opening<E: Env>(env: &E, root: &Path) {
    let path = root.join("a");
    assert_eq!(
        env.open(&path, READ).await.err().unwrap().kind(),
        io::ErrorKind::NotFound
    );
    let writes = OpenOptions {
        create: false,
        ..WRITE
    };
    assert_eq!(
        env.open(&path, writes).await.err().unwrap().kind(),
        io::ErrorKind::NotFound
    );
    let nowhere = root.join("none").join("a");
    assert_eq!(
        env.open(&nowhere, WRITE).await.err().unwrap().kind(),
        io::ErrorKind::NotFound
    );
    let file = env.open(&path, WRITE).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0);
    assert!(file.read_at(0, BLOCK_BYTES).await.unwrap().is_empty());
    file.write_at(filled(env, 1, 7), 0).await.unwrap();
    file.close().await.unwrap();
    let again = env.open(&path, WRITE).await.unwrap();
    assert_eq!(
        again.len().await.unwrap(),
        BLOCK,
        "opening with create truncates nothing"
    );
    drop(again);
    env.remove_file(&path).await.unwrap();
}

async fn reading_and_writing<E: Env>(env: &E, root: &Path) {
    for options in [WRITE, WRITE_SYNCED] {
        let path = root.join("b");
        let file = env.open(&path, options).await.unwrap();
        assert!(env.allocate(2 * BLOCK_BYTES).iter().all(|byte| *byte == 0));
        file.write_at(filled(env, 2, 1), 0).await.unwrap();
        file.write_at(filled(env, 1, 2), 3 * BLOCK).await.unwrap();
        let mut shortened = filled(env, 5, 3);
        <E::File as File>::shorten(&mut shortened, BLOCK_BYTES);
        file.write_at(shortened, BLOCK).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 4 * BLOCK);
        assert_eq!(
            first_bytes(&file.read_at(0, 8 * BLOCK_BYTES).await.unwrap()),
            [1, 3, 0, 2]
        );
        let reader = env.open(&path, READ).await.unwrap();
        assert_eq!(
            first_bytes(&reader.read_at(BLOCK, 2 * BLOCK_BYTES).await.unwrap()),
            [3, 0]
        );
        assert!(
            reader
                .read_at(4 * BLOCK, BLOCK_BYTES)
                .await
                .unwrap()
                .is_empty()
        );
        file.close().await.unwrap();
        reader.close().await.unwrap();
        env.remove_file(&path).await.unwrap();
    }
}

async fn lengths<E: Env>(env: &E, root: &Path) {
    let path = root.join("c");
    let file = env.open(&path, WRITE).await.unwrap();
    file.reserve(4 * BLOCK).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 4 * BLOCK);
    file.reserve(2 * BLOCK).await.unwrap();
    assert_eq!(
        file.len().await.unwrap(),
        4 * BLOCK,
        "reserving less shortens nothing"
    );
    file.write_at(filled(env, 4, 5), 0).await.unwrap();
    file.set_len(BLOCK).await.unwrap();
    assert_eq!(file.len().await.unwrap(), BLOCK);
    file.set_len(3 * BLOCK).await.unwrap();
    assert_eq!(
        first_bytes(&file.read_at(0, 4 * BLOCK_BYTES).await.unwrap()),
        [5, 0, 0]
    );
    file.close().await.unwrap();
    env.remove_file(&path).await.unwrap();
}

async fn misuse<E: Env>(env: &E, root: &Path) {
    let path = root.join("d");
    let file = env.open(&path, WRITE).await.unwrap();
    let refused =
        |result: io::Result<()>, errno| assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
    refused(file.write_at(filled(env, 1, 1), 512).await, libc::EINVAL);
    refused(file.set_len(100).await, libc::EINVAL);
    refused(file.reserve(100).await, libc::EINVAL);
    refused(file.read_at(100, BLOCK_BYTES).await.map(drop), libc::EINVAL);
    refused(file.read_at(0, 100).await.map(drop), libc::EINVAL);
    file.write_at(filled(env, 1, 1), 0).await.unwrap();
    let reader = env.open(&path, READ).await.unwrap();
    refused(reader.write_at(filled(env, 1, 1), 0).await, libc::EBADF);
    drop((file, reader));
    env.remove_file(&path).await.unwrap();
}

async fn names<E: Env>(env: &E, root: &Path) {
    let (one, two) = (root.join("one"), root.join("two"));
    let file = env.open(&one, WRITE).await.unwrap();
    file.write_at(filled(env, 1, 1), 0).await.unwrap();
    let other = env.open(&two, WRITE).await.unwrap();
    env.rename(&one, &two).await.unwrap();
    env.sync_directory(root).await.unwrap();
    assert_eq!(
        file.len().await.unwrap(),
        BLOCK,
        "an open file does not mind its new name"
    );
    assert_eq!(other.len().await.unwrap(), 0, "nor being replaced");
    other.write_at(filled(env, 1, 9), 0).await.unwrap();
    let names: Vec<DirectoryEntry> = env.list_directory(root).await.unwrap();
    assert_eq!(
        names,
        [DirectoryEntry {
            name: "two".into(),
            is_directory: false,
            len: BLOCK
        }]
    );
    assert_eq!(
        env.rename(&one, &two).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    env.remove_file(&two).await.unwrap();
    assert_eq!(
        first_bytes(&file.read_at(0, BLOCK_BYTES).await.unwrap()),
        [1],
        "nor being removed"
    );
    assert_eq!(
        env.remove_file(&two).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    file.close().await.unwrap();
    other.close().await.unwrap();
}

async fn directories<E: Env>(env: &E, root: &Path) {
    let (deep, trash) = (root.join("x").join("y"), root.join("trash"));
    env.create_directory(&deep).await.unwrap();
    env.create_directory(&deep).await.unwrap();
    for name in ["3", "1", "2"] {
        env.open(&deep.join(name), WRITE)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
    }
    let listed = env.list_directory(&deep).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|entry| entry.name.as_str())
            .collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    assert!(env.list_directory(root).await.unwrap()[0].is_directory);
    assert!(env.remove_file(&deep).await.is_err());
    assert!(env.open(&deep, WRITE).await.is_err());
    env.create_directory(&trash).await.unwrap();
    let full = env.rename(&trash, &deep).await.unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOTEMPTY));
    env.rename(&root.join("x"), &trash).await.unwrap();
    assert_eq!(env.list_directory(&trash.join("y")).await.unwrap().len(), 3);
    let gone = env.list_directory(&root.join("x")).await.unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    env.remove_directory(&trash).await.unwrap();
    assert_eq!(
        env.remove_directory(&trash).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

async fn concurrent_io<E: Env>(env: &E, root: &Path) {
    let path = root.join("e");
    let file = Rc::new(env.open(&path, WRITE_SYNCED).await.unwrap());
    file.reserve(64 * BLOCK).await.unwrap();
    let writes = (0..64_u8).map(|block| {
        let (file, inner) = (Rc::clone(&file), env.clone());
        env.spawn(Queue::Requests, "write", OnPanic::EndTask, async move {
            file.write_at(filled(&inner, 1, block), u64::from(block) * BLOCK)
                .await
                .unwrap();
        })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await, Some(()));
    }
    let read = first_bytes(&file.read_at(0, 64 * BLOCK_BYTES).await.unwrap());
    assert_eq!(read, (0..64).collect::<Vec<u8>>());
    drop(file);
    env.remove_file(&path).await.unwrap();
}

async fn time_and_tasks<E: Env>(env: &E) {
    let before = env.now();
    env.sleep(Duration::from_millis(5)).await;
    assert!(env.now().since(before) >= Duration::from_millis(5));
    assert!(env.wall_clock_ms() > 1_700_000_000_000);
    assert_ne!(env.random_u64(), env.random_u64());

    // A task may run before `spawn` returns.
    let before = env.panics();
    let panics = env.spawn(Queue::Background, "fragile", OnPanic::EndTask, async {
        panic!("on purpose")
    });
    assert_eq!(panics.await, None::<()>);
    assert_eq!(env.panics(), before + 1);

    let order = Rc::new(RefCell::new(Vec::new()));
    let stop = Rc::new(Cell::new(false));
    let (inner, seen, flag) = (env.clone(), Rc::clone(&order), Rc::clone(&stop));
    let busy = env.spawn(Queue::Background, "busy", OnPanic::EndTask, async move {
        while !flag.get() {
            inner.yield_now().await;
        }
        seen.borrow_mut().push("busy");
    });
    let (inner, seen) = (env.clone(), Rc::clone(&order));
    let other = env.spawn(Queue::Replication, "other", OnPanic::EndTask, async move {
        inner.sleep(Duration::from_millis(1)).await;
        seen.borrow_mut().push("other");
        stop.set(true);
        7
    });
    assert_eq!(
        other.await,
        Some(7),
        "a busy task that yields lets others run"
    );
    busy.await;
    assert_eq!(*order.borrow(), ["other", "busy"]);
}

#[test]
fn the_simulation_conforms() {
    for seed in 0..50 {
        Simulation::new(seed).run(|env| async move {
            let root = Path::new("/data");
            env.create_directory(root).await.unwrap();
            suite(env, root).await;
        });
    }
}

#[test]
fn glommio_conforms() {
    let directory = crate::runtime::testing::scratch();
    let root = directory.path().to_owned();
    crate::runtime::testing::run_shard(
        move |env: GlommioEnv| async move { suite(env, &root).await },
    );
}
