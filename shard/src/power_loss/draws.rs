//! What a seed decides. Every draw is a hash of the seed, who draws, and how often it has drawn, so
//! that one decision more or less in one place does not shift all others.

use std::cell::Cell;

pub struct Draws {
    seed: u64,
    count: Cell<u64>,
}

fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Draws {
    pub fn new(seed: u64, who: u64) -> Draws {
        Draws {
            seed: mix(mix(seed) ^ who),
            count: Cell::new(0),
        }
    }

    pub fn next(&self) -> u64 {
        let count = self.count.get() + 1;
        self.count.set(count);
        mix(self.seed ^ mix(count))
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number of `from..=to`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).expect("a length fits"))
    }
}
