//! Who has which partition, and when records of it were handed out.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::record::histogram;

/// A member, by its number in the order in which they came.
pub(super) type MemberNumber = usize;

#[derive(Clone, Default)]
struct Partition {
    owner: Option<MemberNumber>,
    /// Since when nobody has it.
    free_since_ns: Option<u64>,
    /// How long nobody had it in what is watched.
    free_ns: u64,
    /// When records of it were handed out last.
    handed_ns: Option<u64>,
    /// The longest time between two such moments in what is watched.
    longest_gap_ns: u64,
}

/// A topic's partitions, and the members that share them.
pub(super) struct Watch {
    clock: Instant,
    partitions: Vec<Partition>,
    /// How many partitions each member has.
    members: BTreeMap<MemberNumber, usize>,
    changed_ns: u64,
    /// What is watched begins here.
    begun_ns: u64,
    gaps: hdrhistogram::Histogram<u64>,
    owned_twice: u64,
}

impl Watch {
    pub(super) fn new(partitions: u32) -> Watch {
        Watch {
            clock: Instant::now(),
            partitions: vec![Partition::default(); partitions as usize],
            members: BTreeMap::new(),
            changed_ns: 0,
            begun_ns: 0,
            gaps: histogram(),
            owned_twice: 0,
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Watches from now on, and returns when that is. A gap that has begun counts whole.
    pub(super) fn begin(&mut self) -> u64 {
        let now_ns = self.now_ns();
        self.begin_at(now_ns);
        now_ns
    }

    fn begin_at(&mut self, now_ns: u64) {
        self.begun_ns = now_ns;
        self.owned_twice = 0;
        self.gaps.reset();
        for partition in &mut self.partitions {
            partition.free_ns = 0;
            partition.longest_gap_ns = 0;
        }
    }

    pub(super) fn joined(&mut self, member: MemberNumber, now_ns: u64) {
        self.members.insert(member, 0);
        self.changed_ns = now_ns;
    }

    /// A member is none any more, and has nothing.
    pub(super) fn left(&mut self, member: MemberNumber, now_ns: u64) {
        self.members.remove(&member);
        self.changed_ns = now_ns;
        for partition in &mut self.partitions {
            if partition.owner == Some(member) {
                partition.owner = None;
                partition.free_since_ns = Some(now_ns);
            }
        }
    }

    pub(super) fn assigned(&mut self, member: MemberNumber, partition: u32, now_ns: u64) {
        let begun_ns = self.begun_ns;
        // One that was told to leave may hear of a partition before it hears that.
        if !self.members.contains_key(&member) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        self.changed_ns = now_ns;
        if let Some(other) = partition.owner.replace(member) {
            self.owned_twice += u64::from(other != member);
            if let Some(count) = self.members.get_mut(&other) {
                *count -= 1;
            }
        }
        if let Some(count) = self.members.get_mut(&member) {
            *count += 1;
        }
        if let Some(since_ns) = partition.free_since_ns.take() {
            partition.free_ns += now_ns.saturating_sub(since_ns.max(begun_ns));
        }
    }

    /// A member has given a partition up, or lost it.
    pub(super) fn given_up(&mut self, member: MemberNumber, partition: u32, now_ns: u64) {
        let Some(partition) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        self.changed_ns = now_ns;
        // Another may have been given it before this one was told that it was lost.
        if partition.owner == Some(member) {
            partition.owner = None;
            partition.free_since_ns = Some(now_ns);
            if let Some(count) = self.members.get_mut(&member) {
                *count -= 1;
            }
        }
    }

    /// Records of a partition were handed out.
    pub(super) fn handed(&mut self, partition: u32, now_ns: u64) {
        let Some(partition) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        if let Some(before_ns) = partition.handed_ns.replace(now_ns) {
            let gap_ns = now_ns.saturating_sub(before_ns);
            partition.longest_gap_ns = partition.longest_gap_ns.max(gap_ns);
            self.gaps.saturating_record(gap_ns);
        }
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether every partition has an owner and no member has more than one more than another.
    pub(super) fn is_balanced(&self) -> bool {
        let fewest = self.members.values().min().copied().unwrap_or(0);
        let most = self.members.values().max().copied().unwrap_or(0);
        let all_owned = self
            .partitions
            .iter()
            .all(|partition| partition.owner.is_some());
        all_owned && most <= fewest + 1
    }

    /// When a member came or went, or a partition changed hands, last.
    pub(super) fn changed_ns(&self) -> u64 {
        self.changed_ns
    }

    /// Whether records of every partition were handed out since then.
    pub(super) fn all_handed_since(&self, ns: u64) -> bool {
        let mut handed = self.partitions.iter().map(|partition| partition.handed_ns);
        handed.all(|handed_ns| handed_ns.is_some_and(|handed_ns| handed_ns >= ns))
    }

    /// The median time between two moments in which records of a partition were handed out.
    pub(super) fn usual_gap_ns(&self) -> u64 {
        self.gaps.value_at_quantile(0.5)
    }

    /// For each partition, by how much its longest gap is longer than the usual one.
    pub(super) fn pauses_ns(&self, usual_ns: u64) -> Vec<u64> {
        let longest = self.partitions.iter().map(|it| it.longest_gap_ns);
        longest.map(|ns| ns.saturating_sub(usual_ns)).collect()
    }

    /// For each partition that nobody had for a while, how long that was.
    pub(super) fn ownerless_ns(&self) -> Vec<u64> {
        let free = self.partitions.iter().map(|partition| partition.free_ns);
        free.filter(|ns| *ns > 0).collect()
    }

    /// How often a member was given what another had.
    pub(super) fn owned_twice(&self) -> u64 {
        self.owned_twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two members with a partition each.
    fn shared() -> Watch {
        let mut watch = Watch::new(2);
        for member in 0..2 {
            watch.joined(member, 1);
            watch.assigned(member, member as u32, 2);
        }
        watch
    }

    #[test]
    fn a_gap_is_less_the_usual_one_and_counts_from_before_it_was_watched() {
        let mut watch = shared();
        for now_ns in [100, 200, 300] {
            watch.handed(0, now_ns);
            watch.handed(1, now_ns);
        }
        assert_eq!(watch.usual_gap_ns(), 100);
        watch.begin_at(350);
        watch.handed(1, 400);
        assert!(!watch.all_handed_since(350));
        watch.handed(0, 1_000);
        watch.handed(0, 1_100);
        assert_eq!(watch.pauses_ns(100), [600, 0]);
        assert!(watch.all_handed_since(350));
    }

    #[test]
    fn a_partition_is_without_owner_from_giving_it_up_to_being_given_it() {
        let mut watch = shared();
        watch.begin_at(10);
        assert!(watch.is_balanced());
        watch.given_up(0, 0, 50);
        assert!(!watch.is_balanced(), "nobody has it");
        watch.assigned(1, 0, 70);
        assert!(!watch.is_balanced(), "one has both");
        watch.given_up(1, 1, 80);
        watch.assigned(0, 1, 90);
        assert!(watch.is_balanced());
        assert_eq!(watch.changed_ns(), 90);
        assert_eq!(watch.ownerless_ns(), [20, 10]);
        assert_eq!(watch.owned_twice(), 0);
    }

    #[test]
    fn what_a_member_had_that_left_is_free() {
        let mut watch = shared();
        watch.begin_at(10);
        watch.left(0, 20);
        // It does not know yet.
        watch.assigned(0, 0, 25);
        assert_eq!(watch.members(), 1);
        assert!(!watch.is_balanced());
        watch.assigned(1, 0, 60);
        assert!(watch.is_balanced());
        assert_eq!(watch.ownerless_ns(), [40]);
    }

    #[test]
    fn two_owners_at_once_are_noticed() {
        let mut watch = shared();
        watch.begin_at(10);
        watch.assigned(1, 0, 20);
        assert_eq!(watch.owned_twice(), 1);
        // The one that lost it is told later, which takes it from nobody.
        watch.given_up(0, 0, 30);
        watch.left(0, 40);
        assert!(watch.is_balanced());
    }
}
