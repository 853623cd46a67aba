//! The names of a simulated disk: a tree as processes see it, the tree that a crash leaves for
//! certain, and the operations between the two.

use std::collections::{BTreeMap, BTreeSet};

use super::content::Moment;

/// A file or directory, whatever its name.
pub(super) type Inode = u64;
/// The directory above all.
pub(super) const ROOT: Inode = 0;

/// One change of names. A rename is one operation, whatever directories it joins.
#[derive(Clone, Debug)]
pub(super) enum NameOperation {
    Link {
        directory: Inode,
        name: String,
        inode: Inode,
        is_directory: bool,
    },
    Unlink {
        directory: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
    },
}

impl NameOperation {
    /// The names it changes.
    fn keys(&self) -> Vec<(Inode, String)> {
        match self {
            NameOperation::Link {
                directory, name, ..
            }
            | NameOperation::Unlink { directory, name } => {
                vec![(*directory, name.clone())]
            }
            NameOperation::Rename { from, to } => vec![from.clone(), to.clone()],
        }
    }
}

/// Directories and what they hold.
#[derive(Clone, Default)]
pub(super) struct Tree {
    pub directories: BTreeMap<Inode, BTreeMap<String, Inode>>,
}

impl Tree {
    fn apply(&mut self, operation: &NameOperation) {
        match operation {
            NameOperation::Link {
                directory,
                name,
                inode,
                is_directory,
            } => {
                if *is_directory {
                    self.directories.entry(*inode).or_default();
                }
                self.link(*directory, name, *inode);
            }
            NameOperation::Unlink { directory, name } => {
                self.unlink(*directory, name);
            }
            NameOperation::Rename { from, to } => {
                if let Some(inode) = self.unlink(from.0, &from.1) {
                    self.link(to.0, &to.1, inode);
                }
            }
        }
    }

    fn link(&mut self, directory: Inode, name: &str, inode: Inode) {
        self.directories
            .entry(directory)
            .or_default()
            .insert(name.to_owned(), inode);
    }

    fn unlink(&mut self, directory: Inode, name: &str) -> Option<Inode> {
        self.directories.get_mut(&directory)?.remove(name)
    }

    /// Every inode with its path, in order.
    pub fn walk(&self) -> Vec<(String, Inode)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, directory)) = open.pop() {
            for (name, inode) in self.directories.get(&directory).into_iter().flatten() {
                let path = format!("{path}/{name}");
                found.push((path.clone(), *inode));
                if self.directories.contains_key(inode) {
                    open.push((path, *inode));
                }
            }
        }
        found
    }
}

pub(super) struct Names {
    pub now: Tree,
    pub durable: Tree,
    /// Oldest first, each with the moment at which it was done.
    pending: Vec<(Moment, NameOperation)>,
}

impl Names {
    pub fn new() -> Names {
        let tree = Tree {
            directories: BTreeMap::from([(ROOT, BTreeMap::new())]),
        };
        Names {
            now: tree.clone(),
            durable: tree,
            pending: Vec::new(),
        }
    }

    pub fn apply(&mut self, moment: Moment, operation: NameOperation) {
        self.now.apply(&operation);
        self.pending.push((moment, operation));
    }

    /// Makes the names of `directory` durable: every open operation on it that was done by
    /// `until`, and whatever earlier ones those build on.
    pub fn sync(&mut self, directory: Inode, until: Moment) {
        let mut needed = BTreeSet::new();
        let mut chosen = vec![false; self.pending.len()];
        for (place, (moment, operation)) in self.pending.iter().enumerate().rev() {
            let keys = operation.keys();
            let asked = *moment <= until && keys.iter().any(|key| key.0 == directory);
            if asked || keys.iter().any(|key| needed.contains(key)) {
                chosen[place] = true;
                needed.extend(keys);
            }
        }
        let mut chosen = chosen.into_iter();
        self.pending.retain(|(_, operation)| {
            let settled = chosen.next().unwrap_or(false);
            if settled {
                self.durable.apply(operation);
            }
            !settled
        });
    }

    /// Whether a crash could give `inode`, which has no name now, its name back.
    pub fn may_come_back(&self, inode: Inode) -> bool {
        let durable = || {
            self.durable
                .directories
                .values()
                .any(|names| names.values().any(|i| *i == inode))
        };
        !self.pending.is_empty() || durable()
    }

    /// The power fails: each open operation survives if `survives` says so and nothing that it
    /// builds on was lost.
    pub fn crash(&mut self, survives: impl Fn(usize) -> bool) {
        let mut lost = BTreeSet::new();
        for (place, (_, operation)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let keys = operation.keys();
            if survives(place) && !keys.iter().any(|key| lost.contains(key)) {
                self.durable.apply(&operation);
            } else {
                lost.extend(keys);
            }
        }
        let reachable: BTreeSet<Inode> = self
            .durable
            .walk()
            .into_iter()
            .map(|(_, inode)| inode)
            .collect();
        self.durable
            .directories
            .retain(|inode, _| *inode == ROOT || reachable.contains(inode));
        self.now = self.durable.clone();
    }
}
