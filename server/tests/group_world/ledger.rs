//! What clients were told, held against what must never be.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millrace_wire::ids::ProducerId;

use super::PARTITIONS;
use crate::node::{Log, see};

/// What a member of a generation said that it had when it joined, and what it was given.
pub struct Share {
    pub had: BTreeSet<u32>,
    /// The generation in which it got that.
    pub had_in: i32,
    pub given: BTreeSet<u32>,
}

impl Share {
    /// What this member was given that another one still reads. Whoever missed a rebalance may say that
    /// it has what is another's since: then the newer generation counts.
    fn early(&self, other: &Share) -> BTreeSet<u32> {
        let is_newer = self.had_in > other.had_in;
        let is_own = |partition: &u32| is_newer && self.had.contains(partition);
        let both = self.given.intersection(&other.had);
        both.copied()
            .filter(|partition| !is_own(partition))
            .collect()
    }
}

/// What is known before a question is asked, to judge the answer by.
pub struct Before {
    generation: i32,
    acknowledged: BTreeMap<u32, i64>,
}

/// What a member has at the moment, for the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub generation: i32,
    pub partitions: BTreeSet<u32>,
}

#[derive(Default)]
pub struct Ledger {
    violations: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    /// Producers that are not done.
    pub producers: Cell<u32>,
    producer_ids: RefCell<BTreeSet<ProducerId>>,
    /// Records acknowledged to producers.
    produced: RefCell<Log>,
    /// Records read by members.
    consumed: RefCell<Log>,
    /// By generation and then by member: its lasting name if it has one, else its id.
    shares: RefCell<BTreeMap<i32, BTreeMap<String, Share>>>,
    /// Offsets that somebody asked to be noted.
    asked: RefCell<BTreeSet<(u32, i64)>>,
    /// The highest one of each partition that was acknowledged, or told since.
    acknowledged: RefCell<BTreeMap<u32, i64>>,
    /// Members that run.
    pub holdings: RefCell<BTreeMap<String, Holding>>,
}

impl Ledger {
    pub fn violation(&self, what: String) {
        let mut violations = self.violations.borrow_mut();
        // What is wrong once may be so a thousand times.
        if violations.len() < 20 {
            violations.push(what);
        }
    }

    pub fn has_violations(&self) -> bool {
        !self.violations.borrow().is_empty()
    }

    /// Something happened that a test of these tests wants to have happened.
    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.borrow().clone()
    }

    pub fn producer_began(&self, id: ProducerId) {
        if !self.producer_ids.borrow_mut().insert(id) {
            self.violation(format!("{id:?} was given out twice"));
        }
    }

    /// A batch was acknowledged.
    pub fn acknowledged(&self, partition: u32, base: i64, values: &[String]) {
        self.count("batches acknowledged");
        let mut produced = self.produced.borrow_mut();
        for (offset, value) in (base..).zip(values) {
            let place = (partition, offset);
            if let Some(other) = produced.insert(place, value.clone()) {
                self.violation(format!(
                    "{value} and {other} were acknowledged at {place:?}"
                ));
            }
        }
    }

    /// A member read on from `offset`; the next offset.
    pub fn consumed(&self, partition: u32, offset: i64, batches: Vec<Bytes>) -> i64 {
        let mut consumed = self.consumed.borrow_mut();
        let mut piece = Log::new();
        for batch in batches {
            if let Err(what) = see(&mut consumed, partition, offset, batch.clone()) {
                self.violation(what);
            }
            see(&mut piece, partition, offset, batch).expect("it is empty");
        }
        let mut next = offset;
        for (_, read) in piece.keys() {
            if *read != next {
                self.violation(format!(
                    "{partition}: {read} was read where {next} comes next"
                ));
            }
            next = read + 1;
        }
        next
    }

    /// To be kept while a question is under way.
    pub fn before(&self) -> Before {
        let shares = self.shares.borrow();
        Before {
            generation: shares.keys().next_back().copied().unwrap_or(0),
            acknowledged: self.acknowledged.borrow().clone(),
        }
    }

    /// A member was told what to read: nobody else may have any of it.
    pub fn given(&self, generation: i32, member: &str, share: Share) {
        self.count("assignments");
        let mut shares = self.shares.borrow_mut();
        let shares = shares.entry(generation).or_default();
        for (other, others) in shares.iter().filter(|(other, _)| *other != member) {
            let both = &share.given & &others.given;
            if !both.is_empty() {
                self.violation(format!(
                    "{both:?} belongs to {member} and to {other} in generation {generation}"
                ));
            }
            let early = &share.early(others) | &others.early(&share);
            if !early.is_empty() {
                self.violation(format!(
                    "{early:?} was given away in generation {generation} while it was still read: {member}, {other}"
                ));
            }
        }
        shares.insert(member.to_owned(), share);
    }

    /// A commit is about to be asked for.
    pub fn commits(&self, offsets: &BTreeMap<u32, i64>) {
        let offsets = offsets.iter().map(|(partition, at)| (*partition, *at));
        self.asked.borrow_mut().extend(offsets);
    }

    /// A commit was acknowledged to a member of `generation`.
    pub fn committed(&self, before: &Before, generation: i32, offsets: &BTreeMap<u32, i64>) {
        self.count("commits");
        if generation < before.generation {
            self.violation(format!(
                "a commit of generation {generation} was taken, though {} had begun",
                before.generation
            ));
        }
        for (partition, at) in offsets {
            self.is_noted(*partition, *at);
        }
    }

    /// Somebody was told that the group has come so far: from then on it has.
    fn is_noted(&self, partition: u32, offset: i64) {
        let mut acknowledged = self.acknowledged.borrow_mut();
        let highest = acknowledged.entry(partition).or_default();
        *highest = (*highest).max(offset);
    }

    /// Somebody was told how far the group has come in a partition, from where it then reads.
    pub fn told(&self, before: &Before, partition: u32, offset: Option<i64>) -> i64 {
        let at_least = before.acknowledged.get(&partition).copied();
        if offset < at_least {
            self.violation(format!(
                "{partition} is at {offset:?}, though {at_least:?} had been committed"
            ));
        }
        if let Some(offset) = offset
            && !self.asked.borrow().contains(&(partition, offset))
        {
            self.violation(format!(
                "{partition} is at {offset}, which nobody committed"
            ));
        }
        if let Some(offset) = offset {
            self.is_noted(partition, offset);
        }
        offset.unwrap_or(0)
    }

    /// Why things have not settled: every partition has one owner, in one generation, and the group has
    /// come to the end of what was produced. None if they have.
    pub fn unsettled(&self) -> Option<String> {
        let holdings = self.holdings.borrow();
        let mut owned = BTreeMap::new();
        let generations: BTreeSet<i32> = holdings.values().map(|held| held.generation).collect();
        for (member, held) in &*holdings {
            for partition in &held.partitions {
                owned
                    .entry(*partition)
                    .or_insert_with(Vec::new)
                    .push(member);
            }
        }
        let one_each = (0..PARTITIONS).all(|p| owned.get(&p).is_some_and(|all| all.len() == 1));
        if !one_each || generations.len() != 1 {
            return Some(format!("who reads what: {holdings:?}"));
        }
        let produced = self.produced.borrow();
        let acknowledged = self.acknowledged.borrow();
        let behind = (0..PARTITIONS).find_map(|partition| {
            let all = produced.range((partition, 0)..(partition + 1, 0));
            let end = all.map(|((_, offset), _)| offset + 1).max().unwrap_or(0);
            let noted = acknowledged.get(&partition).copied().unwrap_or(0);
            (noted < end).then_some((partition, noted, end))
        });
        behind.map(|(partition, noted, end)| {
            format!("the group is at {noted} in {partition}, which ends at {end}: {holdings:?}")
        })
    }

    /// Holds what is stored in the end against all of it.
    pub fn judge(&self, log: &Log) -> Vec<String> {
        let mut violations = self.violations.borrow().clone();
        let mut missing = |what: &str, seen: &Log| {
            for (place, value) in seen.iter().filter(|(place, v)| log.get(place) != Some(v)) {
                let now = log.get(place);
                violations.push(format!("{what} at {place:?}: {value}, now there: {now:?}"));
            }
        };
        missing("acknowledged", &self.produced.borrow());
        missing("read", &self.consumed.borrow());
        for (place, value) in &*self.produced.borrow() {
            if !self.consumed.borrow().contains_key(place) {
                violations.push(format!("{value} at {place:?} was read by nobody"));
            }
        }
        for partition in 0..PARTITIONS {
            judge_order(log, partition, &mut violations);
        }
        violations
    }
}

/// Offsets are dense, and so is what each producer sent, in its order: nothing twice, nothing left out.
fn judge_order(log: &Log, partition: u32, violations: &mut Vec<String>) {
    let mut next: BTreeMap<&str, i32> = BTreeMap::new();
    let all = log.range((partition, 0)..(partition + 1, 0));
    for (expected, ((_, offset), value)) in (0..).zip(all) {
        if *offset != expected {
            violations.push(format!("{partition}/{expected} is missing"));
            return;
        }
        let mut parts = value.split(':');
        let producer = parts.next().unwrap_or_default();
        let next = next.entry(producer).or_default();
        if value != &format!("{producer}:{partition}:{next}") {
            violations.push(format!(
                "{value} is at {partition}/{offset}, where {next} of {producer} should be next: \
                 doubled, lost or out of order"
            ));
        }
        let sequence: Option<i32> = parts.nth(1).and_then(|text| text.parse().ok());
        *next = sequence.unwrap_or(*next) + 1;
    }
}
