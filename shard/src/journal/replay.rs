//! The second half of recovery: hands on the entries of the groups that count, and saves what can be
//! read of those that are damaged.

use std::collections::HashMap;

use bytes::Bytes;
use millrace_wire::ids::PartitionId;

use super::entry::{Entries, Entry, EntrySeed, LostEntry, PartitionCheckpoint, Seen};
use super::format::{FileHeader, GROUP_HEADER_BYTES};
use super::read::Reader;
use super::recovered::DamagedGroup;
use super::recovery::Known;
use super::scan::GroupSeen;
use super::walk::{Bad, Place, Span};
use super::{JournalError, RecoveredItem, Sequence};
use crate::env::{BLOCK_BYTES, Env};

/// How much is looked at for a group whose header is lost at the end of a file.
const SALVAGE_BYTES_MAX: u64 = 16 << 20;

#[derive(Default)]
pub(super) struct Replay {
    pub checkpoint_through: Sequence,
    /// What the checkpoint says of producers.
    pub producers: Vec<(PartitionId, Bytes)>,
    checkpoint: HashMap<PartitionId, PartitionCheckpoint>,
    items: Vec<RecoveredItem>,
    /// States saved from a damaged checkpoint, each to be handed on after the group it includes.
    late: Vec<(Sequence, PartitionCheckpoint)>,
}

impl<E: Env> Reader<E> {
    pub async fn group_payload(&mut self, group: &GroupSeen) -> Result<Vec<u8>, JournalError> {
        self.copy(
            group.position + GROUP_HEADER_BYTES as u64,
            u64::from(group.payload_len),
        )
        .await
    }
}

impl Replay {
    /// Takes the checkpoint in force from the first group of its file.
    pub fn checkpoint(&mut self, file: &FileHeader, group: &GroupSeen, payload: &[u8]) {
        self.checkpoint_through = file.checkpoint_through;
        let mut entries = Entries::new(payload, EntrySeed::new(file.salt, group.sequence));
        for seen in &mut entries {
            match seen {
                Seen::Entry(Entry::Checkpoint(state)) => {
                    self.checkpoint.insert(state.partition, state);
                }
                Seen::Entry(Entry::ProducersCheckpoint {
                    partition,
                    snapshot,
                }) => {
                    let snapshot = Bytes::copy_from_slice(snapshot);
                    self.producers.push((partition, snapshot));
                }
                _ => {}
            }
        }
        if entries.are_producers_lost() || entries.position() != payload.len() {
            // The group's checksum held a moment ago: the disk no longer gives the same bytes. What
            // is in the checkpoint and nowhere else is missed where nobody looks for it.
            let after = file.checkpoint_through.next();
            self.report(Some(DamagedGroup {
                sequence: after,
                last: after,
                lost: None,
            }));
        }
    }

    pub fn report(&mut self, damage: Option<DamagedGroup>) {
        if let Some(damage) = damage {
            tracing::error!(?damage, "journal: acknowledged data cannot be read");
            self.items.push(RecoveredItem::Damaged(damage));
        }
    }

    /// The state of all partitions at the checkpoint, in order, and all that follows.
    pub fn finish(mut self, end: Sequence) -> (Vec<PartitionCheckpoint>, Vec<RecoveredItem>) {
        self.hand_on_late(end.next());
        let mut checkpoint: Vec<_> = self.checkpoint.into_values().collect();
        checkpoint.sort_by_key(|state| state.partition);
        (checkpoint, self.items)
    }

    /// The next group or groups, of `files`.
    pub async fn span<E: Env>(
        &mut self,
        span: &Span,
        files: &mut [Known<E>],
    ) -> Result<(), JournalError> {
        match span {
            Span::Whole { file, group } => {
                self.hand_on_late(group.sequence);
                let payload = files[*file].reader.group_payload(group).await?;
                let seed = EntrySeed::new(files[*file].header.salt, group.sequence);
                let mut entries = Entries::new(&payload, seed);
                let lost = self.entries(group.sequence, &mut entries, None);
                if !lost.is_empty() || entries.position() != payload.len() {
                    // The group's checksum held a moment ago: the disk no longer gives the same bytes.
                    self.report(Some(DamagedGroup {
                        sequence: group.sequence,
                        last: group.sequence,
                        lost: None,
                    }));
                }
            }
            Span::Bad(bad) => {
                self.hand_on_late(bad.first);
                let lost = match &bad.place {
                    Some(place) => self.salvage(bad, place, &mut files[place.file]).await?,
                    None => None,
                };
                self.report(Some(DamagedGroup {
                    sequence: bad.first,
                    last: bad.last,
                    lost,
                }));
            }
        }
        Ok(())
    }

    /// Saves what can be read of the first of some damaged groups. Gives what was lost, if that is
    /// all known.
    async fn salvage<E: Env>(
        &mut self,
        bad: &Bad,
        place: &Place,
        file: &mut Known<E>,
    ) -> Result<Option<Vec<LostEntry>>, JournalError> {
        let start = place.position + GROUP_HEADER_BYTES as u64;
        let room = place.end.saturating_sub(start).min(SALVAGE_BYTES_MAX);
        let len = place.header.map_or(room, |(len, _)| u64::from(len));
        let payload = file.reader.copy(start, len).await?;
        let mut entries = Entries::new(&payload, EntrySeed::new(file.header.salt, bad.first));
        let before = self.items.len();
        let lost = self.entries(
            bad.first,
            &mut entries,
            Some(file.header.checkpoint_through),
        );
        let position = entries.position();
        let complete = match place.header {
            Some((len, _)) => position == len as usize,
            // Without an entry nothing says that the group was ever here.
            None => entries.count_so_far() > 0 && ends_at(&payload, position),
        };
        let saved = self.items.len() - before;
        tracing::warn!(
            group = bad.first.0,
            saved,
            lost = lost.len(),
            complete,
            "journal: damaged group read as far as it goes"
        );
        Ok((complete && bad.first == bad.last).then_some(lost))
    }

    /// Hands on what matters of a group's entries; gives those that were lost and matter. With
    /// `salvaged_checkpoint`, states of a checkpoint are of use too: they include the groups up to
    /// it.
    fn entries(
        &mut self,
        sequence: Sequence,
        entries: &mut Entries<'_>,
        salvaged_checkpoint: Option<Sequence>,
    ) -> Vec<LostEntry> {
        let mut lost_entries = Vec::new();
        for seen in entries {
            match seen {
                Seen::Entry(Entry::Checkpoint(state)) => {
                    if let Some(through) =
                        salvaged_checkpoint.filter(|through| *through > self.checkpoint_through)
                    {
                        self.late.push((through, state));
                    }
                }
                // Said by the checkpoint in force and what came since.
                Seen::Entry(Entry::ProducersCheckpoint { .. }) => {}
                Seen::Entry(entry) if self.matters(sequence, &entry) => {
                    self.items
                        .push(RecoveredItem::Entry(sequence, entry.to_owned()));
                }
                Seen::Entry(_) => {}
                Seen::Lost(lost) => {
                    let safe = |state: &PartitionCheckpoint| {
                        lost.index.0 > 0 && lost.index < state.safe.next_index
                    };
                    let known = self.checkpoint.get(&lost.partition);
                    if sequence > self.checkpoint_through || known.is_some_and(|state| !safe(state))
                    {
                        lost_entries.push(lost);
                    }
                }
            }
        }
        lost_entries
    }

    /// Whether an entry says something that the checkpoint does not.
    fn matters(&self, sequence: Sequence, entry: &Entry<'_>) -> bool {
        if sequence > self.checkpoint_through {
            return true;
        }
        let Some(state) = self.checkpoint.get(&entry.partition()) else {
            return false;
        };
        match entry {
            Entry::Append { index, .. } => *index >= state.safe.next_index,
            Entry::LossAccepted { .. } => true,
            _ => false,
        }
    }

    /// Hands on the saved states whose groups have all been handed on before `next`.
    fn hand_on_late(&mut self, next: Sequence) {
        if self.late.iter().any(|(through, _)| *through < next) {
            let (due, later) = std::mem::take(&mut self.late)
                .into_iter()
                .partition(|(through, _)| *through < next);
            self.late = later;
            let due: Vec<(Sequence, PartitionCheckpoint)> = due;
            self.items.extend(
                due.into_iter().map(|(at, state)| {
                    RecoveredItem::Entry(at, Entry::Checkpoint(state).to_owned())
                }),
            );
        }
    }
}

/// Whether a payload whose length is not known ends at `position`: after it there is zero up to the
/// end of the block. At the very end of a block nothing tells, except that the bytes end too.
fn ends_at(payload: &[u8], position: usize) -> bool {
    let in_group = GROUP_HEADER_BYTES + position;
    let padding = in_group.next_multiple_of(BLOCK_BYTES) - in_group;
    match padding {
        0 => position == payload.len(),
        _ => payload
            .get(position..position + padding)
            .is_some_and(|rest| rest.iter().all(|byte| *byte == 0)),
    }
}
