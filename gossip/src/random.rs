//! Randomness as the driver gives it.

/// A source of random numbers, handed in with each call so that a simulation decides every draw.
///
/// The numbers must be uniform. In production they must also be hard to guess, because the nonces
/// of challenges are drawn from here: whoever can foresee one can have a replayed packet trusted.
pub trait Random {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// A number below `bound` (zero if `bound` is zero), by multiplication; the bias is below
/// `bound / 2^64`.
pub(crate) fn below(random: &mut dyn Random, bound: u64) -> u64 {
    let wide = u128::from(random.next_u64()) * u128::from(bound);
    (wide >> 64) as u64
}

/// An index below `length`.
pub(crate) fn index(random: &mut dyn Random, length: usize) -> usize {
    below(random, length as u64) as usize
}

/// Fisher and Yates.
pub(crate) fn shuffle<T>(random: &mut dyn Random, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, index(random, last + 1));
    }
}

/// Up to `count` of `items` that are `suitable`, each with the same chance.
pub(crate) fn choose<T: Copy>(
    random: &mut dyn Random,
    items: &[T],
    count: usize,
    mut suitable: impl FnMut(T) -> bool,
) -> Vec<T> {
    let mut left = items.to_vec();
    let mut chosen = Vec::with_capacity(count.min(left.len()));
    while chosen.len() < count && !left.is_empty() {
        let item = left.swap_remove(index(random, left.len()));
        if suitable(item) {
            chosen.push(item);
        }
    }
    chosen
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small generator for unit tests.

    use super::Random;

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    #[derive(Clone)]
    pub(crate) struct Sequence(pub(crate) u64);

    impl Random for Sequence {
        fn next_u64(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Sequence;
    use super::{below, choose, shuffle};

    #[test]
    fn draws_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Sequence(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[below(&mut random, 7) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1_200).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn chosen_items_are_suitable_and_distinct() {
        let mut random = Sequence(2);
        let items: Vec<u32> = (0..20).collect();
        for _ in 0..100 {
            let mut chosen = choose(&mut random, &items, 3, |item| item % 2 == 0);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 3);
            assert!(chosen.iter().all(|item| item % 2 == 0));
        }
        assert!(choose(&mut random, &items, 3, |_| false).is_empty());
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        shuffle(&mut Sequence(3), &mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
