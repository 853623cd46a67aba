//! Planning fetches: which partitions go into which request. The module's documentation has the
//! idea.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Consumer, Next};
use crate::core::ConnectionId;
use crate::core::metadata::PartitionKey;
use crate::core::time::Time;

/// Up to this many partitions are fetched together without distinguishing hot from cold: sending
/// them again costs less than a second request.
const SMALL: usize = 16;

/// The longest that a narrow fetch waits.
const NARROW_WAIT: Duration = Duration::from_secs(1);

/// Narrow fetches that may be out on one connection.
const MAX_NARROW: usize = 4;

/// A fetch's number in its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breadth {
    Wide,
    Narrow,
}

#[derive(Debug)]
struct Fetch {
    connection: ConnectionId,
    breadth: Breadth,
    members: Vec<PartitionKey>,
    reserved: usize,
}

/// Fetches without an answer.
#[derive(Debug, Default)]
pub(crate) struct FetchTable {
    next: u64,
    out: BTreeMap<FetchId, Fetch>,
}

impl FetchTable {
    fn reserved(&self) -> usize {
        self.out.values().map(|fetch| fetch.reserved).sum()
    }

    fn on(
        &self,
        connection: ConnectionId,
        breadth: Breadth,
    ) -> impl Iterator<Item = (&FetchId, &Fetch)> {
        self.out
            .iter()
            .filter(move |(_, fetch)| fetch.connection == connection && fetch.breadth == breadth)
    }
}

/// A fetch to be sent.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: FetchId,
    pub(crate) members: Vec<(PartitionKey, i64)>,
    pub(crate) max_wait: Duration,
    pub(crate) max_bytes: u32,
}

impl Consumer {
    /// Decides how these free partitions, all served over this connection, are fetched; some may
    /// stay free. `connections` is the number of connections that the consumer's partitions are
    /// spread over.
    pub(crate) fn plan(
        &mut self,
        now: Time,
        connection: ConnectionId,
        keys: Vec<PartitionKey>,
        connections: usize,
    ) -> Vec<Draft> {
        // Wide fetches, one a connection, take half of the memory at most.
        let share = (self.config.prefetch_bytes / (2 * connections.max(1))).max(1);
        let narrow_slot = self.fetches.on(connection, Breadth::Narrow).count() < MAX_NARROW;
        let wide_is_out = self.fetches.on(connection, Breadth::Wide).next().is_some();
        let small = self.positions.len() <= SMALL;
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        if wide_is_out {
            if narrow_slot {
                narrow = keys;
                if !small {
                    narrow.extend(self.hot_in_wide(connection, now));
                }
            }
        } else if small || !narrow_slot {
            wide = keys;
        } else {
            (narrow, wide) = keys.into_iter().partition(|key| self.is_hot(*key, now));
            wide.extend(self.cold_in_narrow(connection, now));
        }
        let wide = self.draft(connection, Breadth::Wide, wide, share);
        let narrow = self.draft(connection, Breadth::Narrow, narrow, share);
        wide.into_iter().chain(narrow).collect()
    }

    /// Partitions that became hot in the wide fetch that is out.
    fn hot_in_wide(&mut self, connection: ConnectionId, now: Time) -> Vec<PartitionKey> {
        let mut hot = std::mem::take(&mut self.hot);
        hot.retain(|key| self.is_hot(*key, now));
        self.hot = hot;
        let wide = self
            .fetches
            .on(connection, Breadth::Wide)
            .next()
            .map(|(id, _)| *id);
        let owned = |key: &&PartitionKey| wide.is_some() && self.fetch_of(**key) == wide;
        self.hot.iter().filter(owned).copied().collect()
    }

    /// Partitions that have grown cold in narrow fetches that are out.
    fn cold_in_narrow(&self, connection: ConnectionId, now: Time) -> Vec<PartitionKey> {
        let narrow = self.fetches.on(connection, Breadth::Narrow);
        narrow
            .flat_map(|(id, fetch)| fetch.members.iter().map(|key| (*id, *key)))
            .filter(|(id, key)| self.fetch_of(*key) == Some(*id) && !self.is_hot(*key, now))
            .map(|(_, key)| key)
            .collect()
    }

    fn fetch_of(&self, key: PartitionKey) -> Option<FetchId> {
        self.positions.get(&key)?.fetch
    }

    fn draft(
        &mut self,
        connection: ConnectionId,
        breadth: Breadth,
        keys: Vec<PartitionKey>,
        share: usize,
    ) -> Option<Draft> {
        let used = self.buffered + self.fetches.reserved();
        let room = self.config.prefetch_bytes.saturating_sub(used);
        if keys.is_empty() || (room == 0 && used > 0) {
            return None;
        }
        let max_bytes = (self.config.max_bytes as usize).min(share).min(room.max(1));
        let id = FetchId(self.fetches.next);
        self.fetches.next += 1;
        let mut members = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(position) = self.positions.get_mut(&key) else {
                continue;
            };
            let Next::At(offset) = position.next else {
                continue;
            };
            position.fetch = Some(id);
            self.free.remove(&key);
            members.push((key, offset));
        }
        let fetch = Fetch {
            connection,
            breadth,
            members: members.iter().map(|(key, _)| *key).collect(),
            reserved: max_bytes,
        };
        self.fetches.out.insert(id, fetch);
        let max_wait = match breadth {
            Breadth::Wide => self.config.max_wait,
            Breadth::Narrow => self.config.max_wait.min(NARROW_WAIT),
        };
        Some(Draft {
            id,
            members,
            max_wait,
            max_bytes: max_bytes as u32,
        })
    }

    /// The fetch is over: its partitions may be in others. Gives those that still belonged to it.
    pub(crate) fn release(&mut self, id: FetchId) -> Vec<PartitionKey> {
        let Some(fetch) = self.fetches.out.remove(&id) else {
            return Vec::new();
        };
        let mut released = Vec::new();
        for key in fetch.members {
            if let Some(position) = self.positions.get_mut(&key)
                && position.fetch == Some(id)
            {
                position.fetch = None;
                self.file(key);
                released.push(key);
            }
        }
        self.dirty = true;
        released
    }
}
