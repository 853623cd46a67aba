//! What the segments of one shard share: a bounded number of open files and of loaded indexes.

use std::rc::Rc;

use crate::env::Env;

/// The open files of one shard's segments, at most so many. One for each shard.
pub struct FileCache<E: Env> {
    env: E,
    open_files_max: usize,
}

impl<E: Env> FileCache<E> {
    /// A cache that keeps at most `open_files_max` files open while nobody uses them.
    #[must_use]
    pub fn new(env: E, open_files_max: usize) -> Rc<FileCache<E>> {
        Rc::new(FileCache {
            env,
            open_files_max,
        })
    }

    /// How many files are kept open at most.
    #[must_use]
    pub fn open_files_max(&self) -> usize {
        let _ = &self.env;
        self.open_files_max
    }
}
