//! Items of one request that name the same thing. Kafka carries none of them out, rather than choose.

use std::collections::BTreeMap;

/// The items of a request, by what each names.
pub(super) struct Repeated<T> {
    /// Of each: what the next one is.
    next: BTreeMap<T, Turn>,
}

/// An item of a request, among those that name the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is no other.
    Only,
    /// It is the first of several.
    First,
    /// There was one before.
    Again,
}

impl<T: Ord> Repeated<T> {
    pub(super) fn among(items: impl Iterator<Item = T>) -> Repeated<T> {
        let mut next = BTreeMap::new();
        for item in items {
            let turn = next.entry(item);
            turn.and_modify(|turn| *turn = Turn::First)
                .or_insert(Turn::Only);
        }
        Repeated { next }
    }

    /// Which of its likes an item is; to be asked for each in turn.
    pub(super) fn turn(&mut self, item: &T) -> Turn {
        match self.next.get_mut(item) {
            Some(turn @ Turn::First) => std::mem::replace(turn, Turn::Again),
            Some(turn) => *turn,
            None => Turn::Only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_told_from_its_likes() {
        let items = ["b", "a", "b", "c", "b"];
        let mut repeated = Repeated::among(items.into_iter());
        let turns: Vec<_> = items.iter().map(|item| repeated.turn(item)).collect();
        let (first, again) = (Turn::First, Turn::Again);
        assert_eq!(turns, [first, Turn::Only, again, Turn::Only, again]);
    }
}
