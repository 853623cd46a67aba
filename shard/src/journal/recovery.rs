//! Recovery: reads what an earlier run left, decides what of it counts, and gives it back. It
//! changes nothing on the disk but to sync it and to remove files that were never used, so that it
//! may be cut off at any point and comes to the same answer again.

use std::collections::HashSet;
use std::path::PathBuf;

use super::format::{
    FIRST_GROUP_POSITION, FileHeader, FileNumber, GroupHeader, HeaderRead, VERSION,
};
use super::planted::{self, Bug};
use super::read::Reader;
use super::recovered::{DamagedGroup, FreeFile, LiveFile, Recovery, Resume};
use super::replay::Replay;
use super::walk::{ScannedFile, Walk, walk};
use super::{JournalConfig, JournalError, RecoveredItem, Sequence};
use crate::env::{BLOCK_BYTES, Env};

/// How a file in the ring is called.
pub(super) fn file_name(slot: u32) -> String {
    format!("{slot:04}.journal")
}

/// How a file is called that is still being filled with zeros.
pub(super) fn new_file_name(slot: u32) -> String {
    format!("{slot:04}.new")
}

fn slot_of(name: &str, suffix: &str) -> Option<u32> {
    name.strip_suffix(suffix)?.parse().ok()
}

/// Reads a journal. Afterwards everything in the answer is on stable storage, and nothing on the
/// disk says that this recovery took place; [`Recovery::start`] does that.
pub async fn recover<E: Env>(env: &E, config: &JournalConfig) -> Result<Recovery, JournalError> {
    config.check()?;
    let mut ring = Ring::read(env, config).await?;
    let (start, root, walk) = match ring.choose().await? {
        Some(chosen) => chosen,
        None if ring.known.is_empty() && ring.unreadable.is_empty() => (0, None, Walk::default()),
        None => {
            return Err(JournalError::CheckpointLost {
                directory: config.directory.clone(),
                unreadable: ring.unreadable.len(),
            });
        }
    };
    let mut replay = Replay::default();
    if let Some(root) = root {
        ring.known[root].read_checkpoint(&mut replay).await?;
    }
    replay.report(ring.missing_at_the_front(start, root));
    for span in &walk.spans {
        let files = &mut ring.known[start..];
        replay.span(span, files).await?;
    }
    if !ring.unreadable.is_empty() {
        replay.report(Some(DamagedGroup {
            sequence: walk.end.next(),
            last: walk.end.next(),
            lost: None,
        }));
    }
    let checkpoint_through = replay.checkpoint_through;
    let producers = std::mem::take(&mut replay.producers);
    let (checkpoint, items) = replay.finish(walk.end);
    let damaged = items
        .iter()
        .filter(|item| matches!(item, RecoveredItem::Damaged(_)))
        .count();
    tracing::info!(
        directory = %config.directory.display(), end = walk.end.0, items = items.len(), damaged, torn = ?walk.torn,
        "journal: recovered"
    );
    let resume = ring.into_resume(config, start).await?;
    Ok(Recovery {
        checkpoint,
        producers,
        checkpoint_through,
        items,
        end: walk.end,
        torn: walk.torn,
        resume,
    })
}

/// A file that says where in the ring's order it belongs.
pub(super) struct Known<E: Env> {
    pub reader: Reader<E>,
    pub header: FileHeader,
    /// Whether that is the file's own header, not a copy found in a group.
    own_header: bool,
    /// What was found in it, once somebody looked.
    pub scanned: Option<ScannedFile>,
}

impl<E: Env> Known<E> {
    async fn scan(&mut self) -> Result<&ScannedFile, JournalError> {
        if self.scanned.is_none() {
            let groups = self.reader.scan(self.header).await?;
            self.scanned = Some(ScannedFile {
                header: self.header,
                len: self.reader.len,
                groups,
            });
        }
        Ok(self.scanned.as_ref().expect("it was put there just now"))
    }

    async fn read_checkpoint(&mut self, replay: &mut Replay) -> Result<(), JournalError> {
        let header = self.header;
        if let Some(group) = self.scan().await?.checkpoint_group().copied() {
            let payload = self.reader.group_payload(&group).await?;
            replay.checkpoint(&header, &group, &payload);
        }
        Ok(())
    }
}

/// Every file of the journal's directory.
struct Ring<E: Env> {
    /// In the ring's order.
    known: Vec<Known<E>>,
    /// Never used, or not for anything that counts.
    blank: Vec<Reader<E>>,
    /// Say nothing about themselves.
    unreadable: Vec<Reader<E>>,
    next_slot: u32,
}

impl<E: Env> Ring<E> {
    async fn read(env: &E, config: &JournalConfig) -> Result<Ring<E>, JournalError> {
        let directory = &config.directory;
        env.create_directory(directory)
            .await
            .map_err(JournalError::io("create", directory))?;
        let entries = env
            .list_directory(directory)
            .await
            .map_err(JournalError::io("list", directory))?;
        let mut ring = Ring {
            known: Vec::new(),
            blank: Vec::new(),
            unreadable: Vec::new(),
            next_slot: 0,
        };
        for entry in entries {
            let path = directory.join(&entry.name);
            if let Some(slot) = slot_of(&entry.name, ".journal") {
                ring.next_slot = ring.next_slot.max(slot.saturating_add(1));
                ring.identify(Reader::open(env, &path).await?).await?;
            } else if slot_of(&entry.name, ".new").is_some() {
                // A start or a crash came before it was filled; nothing was ever in it.
                env.remove_file(&path)
                    .await
                    .map_err(JournalError::io("remove", &path))?;
            }
        }
        ring.identify_by_any_group().await?;
        ring.order();
        Ok(ring)
    }

    /// Brings the files into the ring's order. Of two with one number, the later start's counts, and
    /// a header more than a copy: the other is what a start left that did not get far.
    fn order(&mut self) {
        self.known
            .sort_by_key(|known| (known.header.file, known.header.epoch, known.own_header));
        let mut ordered: Vec<Known<E>> = Vec::with_capacity(self.known.len());
        for known in self.known.drain(..) {
            match ordered.last_mut() {
                Some(last) if last.header.file == known.header.file => {
                    self.blank.push(std::mem::replace(last, known).reader);
                }
                _ => ordered.push(known),
            }
        }
        self.known = ordered;
    }

    /// Sorts a file in by its header, or by the copy in its first group.
    async fn identify(&mut self, mut reader: Reader<E>) -> Result<(), JournalError> {
        if reader.len <= FIRST_GROUP_POSITION {
            self.blank.push(reader); // too short to hold a group, so none was ever in it
            return Ok(());
        }
        let read = FileHeader::parse(reader.at(0).await?);
        if let HeaderRead::Newer(found) = read {
            return Err(JournalError::NewerVersion {
                path: reader.path,
                found,
                known: VERSION,
            });
        }
        let first_group = GroupHeader::parse(reader.at(FIRST_GROUP_POSITION).await?);
        let header = match (read, first_group) {
            (HeaderRead::Valid(header), _) => Some(header),
            (_, Some(group)) if group.sequence == group.file.first_sequence => Some(group.file),
            _ => None,
        };
        match (header, read) {
            (Some(header), read) => {
                if read == HeaderRead::Unreadable {
                    tracing::warn!(file = %reader.path.display(), "journal: header unreadable, taken from the first group");
                }
                let own_header = matches!(read, HeaderRead::Valid(_));
                self.known.push(Known {
                    reader,
                    header,
                    own_header,
                    scanned: None,
                });
            }
            (None, HeaderRead::Blank) => self.blank.push(reader),
            (None, _) => self.unreadable.push(reader),
        }
        Ok(())
    }

    /// Looks through files that have neither a header nor a first group for any group of an epoch
    /// that another file vouches for. The one with the highest number tells what the file was last
    /// used for. A file that is zero but for its first block was not used.
    async fn identify_by_any_group(&mut self) -> Result<(), JournalError> {
        let epochs: HashSet<(u64, u64)> = self
            .known
            .iter()
            .map(|known| (known.header.epoch, known.header.salt))
            .collect();
        for mut reader in std::mem::take(&mut self.unreadable) {
            let (mut best, mut zero) = (None::<FileHeader>, true);
            let mut position = FIRST_GROUP_POSITION;
            while position < reader.len {
                let piece = reader.at(position).await?;
                for block in piece.chunks(BLOCK_BYTES) {
                    zero = zero && block.iter().all(|byte| *byte == 0);
                    let header = GroupHeader::parse(block).map(|group| group.file);
                    let header = header.filter(|file| epochs.contains(&(file.epoch, file.salt)));
                    if header.is_some_and(|file| best.is_none_or(|best| best.file < file.file)) {
                        best = header;
                    }
                }
                position += piece.len().max(1) as u64;
            }
            match best {
                Some(header) => self.known.push(Known {
                    reader,
                    header,
                    own_header: false,
                    scanned: None,
                }),
                None if zero => self.blank.push(reader),
                None => {
                    tracing::error!(file = %reader.path.display(), "journal: nothing in this file can be read");
                    self.unreadable.push(reader);
                }
            }
        }
        Ok(())
    }

    /// Finds the checkpoint that is in force: the newest whose groups all count. Gives the place of
    /// the oldest file that it needs, its own, and the walk from the one on.
    async fn choose(&mut self) -> Result<Option<(usize, Option<usize>, Walk)>, JournalError> {
        for root in (0..self.known.len()).rev() {
            let header = self.known[root].header;
            if self.known[root].scan().await?.checkpoint_group().is_none() {
                continue;
            }
            let start = self
                .known
                .partition_point(|known| known.header.file < header.first_live_file);
            let walk = self.walk_from(start).await?;
            if walk.end >= header.checkpoint_through || planted::is(Bug::CheckpointAheadOfEnd) {
                return Ok(Some((start, Some(root), walk)));
            }
        }
        // Before the first group there is nothing, and that is known without a checkpoint.
        if self
            .known
            .first()
            .is_some_and(|known| known.header.first_sequence == Sequence(1))
        {
            let walk = self.walk_from(0).await?;
            return Ok(Some((0, None, walk)));
        }
        Ok(None)
    }

    async fn walk_from(&mut self, start: usize) -> Result<Walk, JournalError> {
        for known in &mut self.known[start..] {
            known.scan().await?;
        }
        Ok(walk(
            self.known[start..]
                .iter()
                .filter_map(|known| known.scanned.as_ref()),
        ))
    }

    /// The oldest files that the checkpoint needs are not there.
    fn missing_at_the_front(&self, start: usize, root: Option<usize>) -> Option<DamagedGroup> {
        let needed = root.map(|root| self.known[root].header.first_live_file)?;
        let oldest = &self.known.get(start)?.header;
        let last = oldest.first_sequence.previous();
        (oldest.file > needed).then_some(DamagedGroup {
            sequence: last,
            last,
            lost: None,
        })
    }

    async fn into_resume(
        self,
        config: &JournalConfig,
        start: usize,
    ) -> Result<Resume, JournalError> {
        let highest = |of: fn(&FileHeader) -> u64| {
            self.known
                .iter()
                .map(|known| of(&known.header))
                .max()
                .unwrap_or(0)
        };
        let mut resume = Resume {
            config: config.clone(),
            next_epoch: highest(|header| header.epoch) + 1,
            next_file: FileNumber(highest(|header| header.file.0) + 1),
            live: Vec::new(),
            free: Vec::new(),
            set_aside: Vec::<PathBuf>::new(),
            next_slot: self.next_slot,
        };
        for (place, Known { reader, header, .. }) in self.known.into_iter().enumerate() {
            let (path, len) = (reader.path.clone(), reader.len);
            if place >= start {
                let (file, first_sequence) = (header.file, header.first_sequence);
                resume.live.push(LiveFile {
                    path,
                    file,
                    first_sequence,
                    len,
                });
            } else {
                resume.free.push(FreeFile { path, len });
            }
            reader.close().await?;
        }
        for reader in self.blank {
            resume.free.push(FreeFile {
                path: reader.path.clone(),
                len: reader.len,
            });
            reader.close().await?;
        }
        for reader in self.unreadable {
            resume.set_aside.push(reader.path.clone());
            reader.close().await?;
        }
        Ok(resume)
    }
}
