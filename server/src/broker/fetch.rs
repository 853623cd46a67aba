//! Fetching: reads what is there, and waits where nothing is. A waiting fetch has a registration
//! with every partition it asks for, on this shard or another, and one timer; nothing polls.
//!
//! The high watermark of a partition is read before its batches are, and a watch begins from that
//! very watermark, so a record that arrives in between is either read or wakes the wait.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_shard::env::{Env, Instant};
use millrace_shard::local::{Event, Permit};
use millrace_shard::log::{Partition, PartitionStatus, Registration};
use millrace_shard::metrics::Stage;
use millrace_wire::error::WireError;
use millrace_wire::ids::{Offset, PartitionId, ShardId};

use super::calls::{Call, ReadItem, ReadOutcome, Reply, WatchId, wrong_reply};
use super::{Broker, count};

/// When some data is there but less than the client wants to wait for, how long the next look is
/// put off: otherwise a busy partition would be read again for every batch that arrives.
const GATHER_PAUSE: Duration = Duration::from_millis(5);

/// What to fetch.
#[derive(Debug)]
pub struct FetchQuery {
    /// Answer at the latest after this long.
    pub max_wait: Duration,
    /// Answer as soon as this many bytes are there.
    pub min_bytes: usize,
    /// Most bytes altogether; the first batch always fits.
    pub max_bytes: usize,
    /// The partitions.
    pub items: Vec<FetchItem>,
}

/// One partition to fetch.
#[derive(Debug)]
pub struct FetchItem {
    /// Which; or why there is none of that name.
    pub partition: Result<PartitionId, WireError>,
    /// First offset wanted.
    pub offset: i64,
    /// Most bytes of this partition.
    pub max_bytes: usize,
}

/// What was fetched.
pub struct Fetched {
    /// By partition, each at its place in the query.
    pub outcomes: Vec<ReadOutcome>,
    /// The memory that the batches may hold on to, to be kept until they are sent.
    pub memory: Option<Permit>,
}

/// One round of reading.
struct Round {
    outcomes: Vec<Option<ReadOutcome>>,
    /// The watermark of each partition before it was read, to watch from.
    seen: Vec<Offset>,
    bytes: usize,
    /// Something must be told at once.
    answer_now: bool,
    memory: Option<Permit>,
}

impl<E: Env> Broker<E> {
    /// Fetches, waiting for data where there is none.
    pub async fn fetch(&self, query: FetchQuery) -> Fetched {
        count(&self.counters.fetches, 1);
        let deadline = self.env.now().plus(query.max_wait);
        let plan = self.plan(&query);
        let mut round = self.read_round(&query, &plan).await;
        if !self.is_enough(&query, &round, deadline) {
            count(&self.counters.fetch_waits, 1);
            let began = self.env.now();
            round = self.wait_and_read(&query, &plan, round, deadline).await;
            let waited = self.env.now().since(began);
            self.shard.metrics().record(Stage::FetchWait, waited);
        }
        count(&self.counters.fetched_bytes, round.bytes as u64);
        let outcomes = round.outcomes.into_iter();
        Fetched {
            outcomes: outcomes
                .map(|outcome| outcome.expect("every partition was read, or is not there"))
                .collect(),
            memory: round.memory,
        }
    }

    /// The shards concerned, each with the places of its partitions in the query.
    fn plan(&self, query: &FetchQuery) -> Vec<(ShardId, Vec<usize>)> {
        let mut plan: Vec<(ShardId, Vec<usize>)> = Vec::new();
        for (place, item) in query.items.iter().enumerate() {
            let Ok(partition) = item.partition else {
                continue;
            };
            let owner = self.owner(partition);
            match plan.iter_mut().find(|(shard, _)| *shard == owner) {
                Some((_, places)) => places.push(place),
                None => plan.push((owner, vec![place])),
            }
        }
        plan
    }

    fn is_enough(&self, query: &FetchQuery, round: &Round, deadline: Instant) -> bool {
        let wanted = query.min_bytes.clamp(1, query.max_bytes.max(1));
        round.answer_now
            || round.bytes >= wanted.min(self.limits.fetch_bytes)
            || self.is_draining()
            || self.env.now() >= deadline
    }

    async fn read_round(&self, query: &FetchQuery, plan: &[(ShardId, Vec<usize>)]) -> Round {
        let mut round = Round::new(query);
        let mut left = query.max_bytes.min(self.limits.fetch_bytes);
        for (shard, places) in plan {
            let items = places.iter().filter_map(|&place| {
                let item = &query.items[place];
                let partition = *item.partition.as_ref().ok()?;
                Some(ReadItem {
                    partition,
                    offset: Offset(item.offset),
                    max_bytes: item.max_bytes,
                })
            });
            let items: Vec<ReadItem> = items.collect();
            let first = round.bytes == 0;
            let outcomes = if *shard == self.shard_id {
                if !items.iter().any(|item| self.has_news(item)) {
                    // Nothing to read, so no memory is needed: what most waits end as.
                    self.read_here(&items, 0, false).await
                } else {
                    round.reserve(self, left).await;
                    self.read_here(&items, left, first).await
                }
            } else {
                round.reserve(self, left).await;
                self.read_there(*shard, items, left, first).await
            };
            for (&place, outcome) in places.iter().zip(outcomes) {
                left = left.saturating_sub(outcome.bytes());
                round.take(place, outcome);
            }
        }
        round.keep_memory();
        round
    }

    /// Whether reading would find data or an error.
    fn has_news(&self, item: &ReadItem) -> bool {
        self.shard
            .partition(item.partition)
            .is_none_or(|partition| !at_end(&partition, item.offset))
    }

    /// Reads partitions of this shard.
    pub(super) async fn read_here(
        &self,
        items: &[ReadItem],
        max_bytes: usize,
        at_least_one: bool,
    ) -> Vec<ReadOutcome> {
        let mut left = max_bytes;
        let mut nothing_yet = at_least_one;
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            let outcome = self.read_one(item, left, nothing_yet).await;
            let bytes = outcome.bytes();
            nothing_yet &= bytes == 0;
            left = left.saturating_sub(bytes);
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn read_one(&self, item: &ReadItem, left: usize, at_least_one: bool) -> ReadOutcome {
        let partition = match self.hosted(item.partition) {
            Ok(partition) => partition,
            Err(error) => return ReadOutcome::failed(error),
        };
        let marks = partition.watermarks();
        let max_bytes = item.max_bytes.min(left);
        let batches = if at_end(&partition, item.offset) {
            Ok(Vec::new())
        } else {
            let read = partition.read(item.offset, max_bytes, at_least_one).await;
            read.map(|read| read.batches)
                .map_err(|error| error.to_wire())
        };
        ReadOutcome {
            batches,
            high_watermark: marks.visible,
            log_start: marks.log_start,
        }
    }

    async fn read_there(
        &self,
        shard: ShardId,
        items: Vec<ReadItem>,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Vec<ReadOutcome> {
        let count = items.len();
        let error = match self
            .call(
                shard,
                Call::Read {
                    items,
                    max_bytes,
                    at_least_one,
                },
            )
            .await
        {
            Reply::Read(outcomes) if outcomes.len() == count => return outcomes,
            other => wrong_reply(other),
        };
        vec![ReadOutcome::failed(error); count]
    }

    async fn wait_and_read(
        &self,
        query: &FetchQuery,
        plan: &[(ShardId, Vec<usize>)],
        mut round: Round,
        deadline: Instant,
    ) -> Round {
        let news = Rc::new(Event::new());
        let mut timer = pin!(self.env.sleep(deadline.since(self.env.now())));
        loop {
            // Listened for before anything is watched: what fires while watches are set is heard.
            let heard = news.listen();
            let watches = self.watch(query, plan, &round, &news).await;
            let drained = pin!(self.drained());
            let woken = pin!(select(heard, drained));
            let in_time = matches!(select(woken, &mut timer).await, Either::Left(_));
            drop(watches);
            // Half a fetch was there already and more came; let some more come.
            if in_time && round.bytes > 0 && !self.is_draining() {
                let pause = GATHER_PAUSE.min(deadline.since(self.env.now()));
                self.env.sleep(pause).await;
            }
            // Given back first, so that a wait never holds memory that another read needs.
            round.memory = None;
            round = self.read_round(query, plan).await;
            if !in_time || self.is_enough(query, &round, deadline) {
                return round;
            }
        }
    }

    /// Watches every partition of the query from the watermark that the round saw.
    async fn watch<'a>(
        &'a self,
        query: &FetchQuery,
        plan: &[(ShardId, Vec<usize>)],
        round: &Round,
        news: &Rc<Event>,
    ) -> Watches<'a, E> {
        let id = WatchId {
            home: self.shard_id,
            number: self.next_wait.get(),
        };
        let mut watches = Watches {
            broker: self,
            id,
            local: None,
            asked: Vec::new(),
        };
        for (shard, places) in plan {
            let items = places.iter().filter_map(|&place| {
                Some((
                    *query.items[place].partition.as_ref().ok()?,
                    round.seen[place],
                ))
            });
            let items: Vec<(PartitionId, Offset)> = items.collect();
            if *shard == self.shard_id {
                watches.local = Some(self.watch_here(&items, news));
                continue;
            }
            if watches.asked.is_empty() {
                self.next_wait.set(id.number + 1);
                self.waiting_fetches
                    .borrow_mut()
                    .insert(id.number, Rc::clone(news));
            }
            watches.asked.push(*shard);
            if self
                .call_for_done(*shard, Call::Watch { id, items })
                .await
                .is_err()
            {
                news.notify();
            }
        }
        watches
    }

    /// Watches partitions of this shard. Tells `news` at once if one has more already.
    pub(super) fn watch_here(
        &self,
        items: &[(PartitionId, Offset)],
        news: &Rc<Event>,
    ) -> LocalWatches {
        let mut registrations = Vec::with_capacity(items.len());
        let mut more_already = false;
        for (id, seen) in items {
            match self.shard.partition(*id) {
                Some(partition) => {
                    registrations.push(partition.watch(*seen, news));
                    more_already |= partition.watermarks().visible > *seen;
                }
                None => more_already = true,
            }
        }
        if more_already {
            news.notify();
        }
        registrations
    }
}

/// Whether all is well with the partition and it ends at this offset: there is nothing to read.
fn at_end<E: Env>(partition: &Partition<E>, offset: Offset) -> bool {
    partition.watermarks().visible == offset && partition.status() == PartitionStatus::Serving
}

/// Registrations with partitions of this shard; dropping them ends them.
pub(super) type LocalWatches = Vec<Registration>;

/// Everything that one wait has asked for; dropping it takes that back.
struct Watches<'a, E: Env> {
    broker: &'a Broker<E>,
    id: WatchId,
    local: Option<LocalWatches>,
    asked: Vec<ShardId>,
}

impl<E: Env> Drop for Watches<'_, E> {
    fn drop(&mut self) {
        self.local = None;
        if self.asked.is_empty() {
            return;
        }
        self.broker
            .waiting_fetches
            .borrow_mut()
            .remove(&self.id.number);
        for shard in self.asked.drain(..) {
            self.broker.send_and_forget(shard, Call::Unwatch(self.id));
        }
    }
}

impl Round {
    fn new(query: &FetchQuery) -> Round {
        let unknown = |item: &FetchItem| {
            let error = item.partition.as_ref().err()?;
            Some(ReadOutcome::failed(error.clone()))
        };
        let outcomes: Vec<Option<ReadOutcome>> = query.items.iter().map(unknown).collect();
        let answer_now = outcomes.iter().any(Option::is_some) || query.items.is_empty();
        let seen = vec![Offset(i64::MAX); query.items.len()];
        Round {
            outcomes,
            seen,
            bytes: 0,
            answer_now,
            memory: None,
        }
    }

    /// Sets memory aside for what is about to be read, once.
    async fn reserve<E: Env>(&mut self, broker: &Broker<E>, bytes: usize) {
        if self.memory.is_none() {
            self.memory = Some(broker.response_budget.acquire(bytes as u64).await);
        }
    }

    fn take(&mut self, place: usize, outcome: ReadOutcome) {
        self.seen[place] = outcome.high_watermark;
        self.bytes += outcome.bytes();
        self.answer_now |= outcome.batches.is_err();
        self.outcomes[place] = Some(outcome);
    }

    /// Gives back what was set aside and not needed.
    fn keep_memory(&mut self) {
        self.memory = self
            .memory
            .take()
            .map(|mut memory| memory.split(self.bytes as u64))
            .filter(|memory| memory.amount() > 0);
    }
}
