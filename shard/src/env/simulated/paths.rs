//! What a disk does with paths: opening, making, listing, renaming and removing.

use std::io;
use std::path::{Component, Path};

use super::content::Moment;
use super::disk::{Disk, File, Operation, Outcome};
use super::draw::{Decision, Draw, combine, hash_bytes};
use super::names::{Inode, NameOperation, ROOT};
use crate::env::{DirectoryEntry, OpenOptions};

impl Disk {
    pub(super) fn perform_on_names(
        &mut self,
        operation: Operation,
        began: Moment,
    ) -> io::Result<Outcome> {
        match operation {
            Operation::Open { path, options } => self.open(&path, options),
            Operation::CreateDirectory { path } => self.create_directory(&path),
            Operation::ListDirectory { path } => self.list(&path),
            Operation::SyncDirectory { path } => {
                if Draw::new(self.seed, Decision::Fails, self.entity, began)
                    .chance(self.faults.sync_error)
                {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                let directory = self.directory(&path)?;
                self.names.sync(directory, began);
                Ok(Outcome::Done)
            }
            Operation::Rename { from, to } => self.rename(&from, &to),
            Operation::RemoveFile { path } => self.remove_file(&path),
            Operation::RemoveDirectory { path } => self.remove_directory(&path),
            _ => unreachable!("operations on files are handled before"),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for name in names_of(path)? {
            let entries = self.names.now.directories.get(&inode);
            let entries = entries.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTDIR))?;
            inode = *entries
                .get(name)
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        }
        Ok(inode)
    }

    fn directory(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.find(path)?;
        match self.names.now.directories.contains_key(&inode) {
            true => Ok(inode),
            false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    }

    /// The directory that holds `path`, and its name there.
    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let mut names = names_of(path)?;
        let name = names
            .pop()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let directory = self.directory(path.parent().unwrap_or(Path::new("/")))?;
        Ok((directory, name.to_owned()))
    }

    pub(super) fn is_directory(&self, inode: Inode) -> bool {
        self.names.now.directories.contains_key(&inode)
    }

    fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<Outcome> {
        let inode = match self.find(path) {
            Ok(inode) => inode,
            Err(error) if options.create && error.raw_os_error() == Some(libc::ENOENT) => {
                let (directory, name) = self.place(path)?;
                let inode = self.next_inode();
                let entity = combine(self.entity, hash_bytes(path.as_os_str().as_encoded_bytes()));
                let file = File::named(entity);
                self.files.insert(inode, file);
                let link = NameOperation::Link {
                    directory,
                    name,
                    inode,
                    is_directory: false,
                };
                self.names.apply(self.moment, link);
                inode
            }
            Err(error) => return Err(error),
        };
        if self.is_directory(inode) {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        self.file(inode)?.open += 1;
        Ok(Outcome::Opened(inode))
    }

    fn next_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode - 1
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<Outcome> {
        let mut directory = ROOT;
        for name in names_of(path)? {
            let entries = self.names.now.directories.get(&directory);
            let entries = entries.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTDIR))?;
            directory = match entries.get(name) {
                Some(inode) if self.is_directory(*inode) => *inode,
                Some(_) => return Err(io::Error::from_raw_os_error(libc::EEXIST)),
                None => {
                    let (inode, name) = (self.next_inode(), name.to_owned());
                    let link = NameOperation::Link {
                        directory,
                        name,
                        inode,
                        is_directory: true,
                    };
                    self.names.apply(self.moment, link);
                    inode
                }
            };
        }
        Ok(Outcome::Done)
    }

    fn list(&self, path: &Path) -> io::Result<Outcome> {
        let directory = self.directory(path)?;
        let entries = self.names.now.directories[&directory]
            .iter()
            .map(|(name, inode)| DirectoryEntry {
                name: name.clone(),
                is_directory: self.is_directory(*inode),
                len: self.file_len(*inode),
            });
        Ok(Outcome::Entries(entries.collect()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Outcome> {
        let inode = self.find(from)?;
        let (from_place, to_place) = (self.place(from)?, self.place(to)?);
        let replaced = self.find(to).ok();
        if replaced == Some(inode) {
            return Ok(Outcome::Done);
        }
        if let Some(replaced) = replaced {
            match (
                self.is_directory(inode),
                self.names.now.directories.get(&replaced),
            ) {
                (false, None) => {}
                (true, Some(entries)) if entries.is_empty() => {}
                (true, Some(_)) => return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY)),
                (true, None) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                (false, Some(_)) => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            }
        }
        self.names.apply(
            self.moment,
            NameOperation::Rename {
                from: from_place,
                to: to_place,
            },
        );
        if let Some(replaced) = replaced {
            self.names.now.directories.remove(&replaced);
            self.lose_name(replaced);
        }
        Ok(Outcome::Done)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<Outcome> {
        let inode = self.find(path)?;
        if self.is_directory(inode) {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        self.unlink(path, inode)?;
        Ok(Outcome::Done)
    }

    fn unlink(&mut self, path: &Path, inode: Inode) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        self.names
            .apply(self.moment, NameOperation::Unlink { directory, name });
        self.names.now.directories.remove(&inode);
        self.lose_name(inode);
        Ok(())
    }

    fn lose_name(&mut self, inode: Inode) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.named = false;
        }
        self.release(inode);
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<Outcome> {
        let directory = self.directory(path)?;
        if directory == ROOT {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        for (name, inode) in self.names.now.directories[&directory].clone() {
            let path = path.join(name);
            match self.is_directory(inode) {
                true => self.remove_directory(&path)?,
                false => self.remove_file(&path)?,
            };
        }
        self.unlink(path, directory)?;
        Ok(Outcome::Done)
    }
}

fn names_of(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(
                    name.to_str()
                        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?,
                );
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
    }
    Ok(names)
}
