//! Kafka's `cooperative-sticky`: first everybody keeps what it has, then what nobody has goes to those
//! with the least, then partitions are moved until nobody could have more at the expense of somebody
//! who has at least two more.
//!
//! **Fair** here is more than with Kafka's, which looks at pairs of members. A partition may also reach
//! the one who has too little in several steps: A hands one to B, who hands another to C. Shares from
//! which no such chain leads from a member to one with two fewer have the smallest sum of squares that
//! there is (Harvey, Ladner, Lovász, Tamir: "Semi-matchings for bipartite graphs and load balancing").
//!
//! **Two rounds are enough.** Let the first round aim at shares S, and give out only the part of them
//! that nobody else holds. In the next round that part is owned, and can be completed to S, which is as
//! fair as can be. So the fairest completion is as fair; the chains of free partitions find one, and
//! then no owned partition has any reason to move.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hashbrown::HashMap;

use super::group::{Group, Partition, Rank, Shares, Suit};

pub(super) fn assign(group: &Group<'_, '_>) -> Shares {
    let claims = Claims::new(group);
    let mut table = Table::new(group);
    table.deal(group, &claims);
    table.even_out(Movable::Free);
    table.even_out(Movable::All);
    // What another member may still be reading is left out.
    let mut shares = group.no_shares();
    for (rank, hands) in table.hands.into_iter().enumerate() {
        let all = hands.into_values().flat_map(|hand| [hand.kept, hand.free]);
        let given = all.flatten().filter(|partition| {
            let claim = claims.of(*partition);
            claim.is_none_or(|claim| claim.holder == Some(rank))
        });
        shares[rank].extend(given);
    }
    shares
}

/// Who says that it is reading a partition.
#[derive(Clone, Copy)]
struct Claim {
    /// The newest generation in which somebody got it.
    generation: i32,
    /// Who got it then; none if several say so. They all have to let it go.
    holder: Option<Rank>,
}

/// The claims to all partitions.
struct Claims {
    /// For each topic, where its partitions begin in `all`.
    begins: Vec<usize>,
    all: Vec<Option<Claim>>,
}

impl Claims {
    fn new(group: &Group<'_, '_>) -> Claims {
        let mut begins = Vec::with_capacity(group.topics.len());
        let mut partitions = 0;
        for topic in &group.topics {
            begins.push(partitions);
            partitions += topic.partitions as usize;
        }
        let mut claims = Claims {
            begins,
            all: vec![None; partitions],
        };
        let numbers = group.topics.iter().enumerate();
        let numbers: HashMap<_, _> = numbers
            .map(|(number, topic)| (topic.name, number))
            .collect();
        for (rank, member) in group.members().enumerate() {
            let generation = member.generation.unwrap_or(-1);
            for owned in &member.owned {
                let Some(number) = numbers.get(owned.topic) else {
                    continue;
                };
                let all = &mut claims.all[claims.begins[*number]..];
                let all = &mut all[..group.topics[*number].partitions as usize];
                for partition in &owned.partitions {
                    if let Some(claim) = all.get_mut(partition.0 as usize) {
                        Claim::add(claim, rank, generation);
                    }
                }
            }
        }
        claims
    }

    fn of(&self, partition: Partition) -> Option<Claim> {
        self.all[self.begins[partition.topic] + partition.index as usize]
    }
}

impl Claim {
    fn add(known: &mut Option<Claim>, rank: Rank, generation: i32) {
        match known {
            Some(claim) if claim.generation > generation => {}
            Some(claim) if claim.generation == generation => {
                // Unless the member has only said it twice.
                claim.holder = claim.holder.filter(|holder| *holder == rank);
            }
            _ => {
                *known = Some(Claim {
                    generation,
                    holder: Some(rank),
                });
            }
        }
    }
}

/// What a member has of a suit.
#[derive(Default)]
struct Hand {
    /// It has been reading these.
    kept: Vec<Partition>,
    /// It would have to begin reading these: moving them once more costs nothing.
    free: Vec<Partition>,
}

/// What may be moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Movable {
    /// Only what its owner has not been reading.
    Free,
    /// Everything, but as little as possible of what its owner has been reading.
    All,
}

/// Who has what so far.
struct Table<'g> {
    suits: &'g [Suit],
    /// For each member, by rank, what it has of each suit: never an empty hand.
    hands: Vec<BTreeMap<usize, Hand>>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

impl<'g> Table<'g> {
    fn new(group: &'g Group<'_, '_>) -> Table<'g> {
        let members = group.members().count();
        Table {
            suits: &group.suits,
            hands: (0..members).map(|_| BTreeMap::new()).collect(),
            loads: vec![0; members],
        }
    }

    /// Leaves to everybody what it has, and gives the rest to whoever has the least.
    fn deal(&mut self, group: &Group<'_, '_>, claims: &Claims) {
        let mut rest = vec![Vec::new(); self.suits.len()];
        for (number, topic) in group.topics.iter().enumerate() {
            let subscribers = group.subscribers(topic);
            for partition in topic.all(number) {
                let holder = claims.of(partition).and_then(|claim| claim.holder);
                // It may have stopped wanting the topic.
                match holder.filter(|rank| subscribers.binary_search(rank).is_ok()) {
                    Some(rank) => {
                        let hand = self.hands[rank].entry(topic.suit).or_default();
                        hand.kept.push(partition);
                        self.loads[rank] += 1;
                    }
                    None => rest[topic.suit].push(partition),
                }
            }
        }
        let mut rest: Vec<_> = rest.into_iter().enumerate().collect();
        rest.retain(|(_, partitions)| !partitions.is_empty());
        // What few can have is dealt first, while they have little.
        rest.sort_by_key(|(suit, _)| self.suits[*suit].len());
        for (suit, partitions) in rest {
            let subscribers = self.suits[suit].iter();
            let by_load = subscribers.map(|rank| Reverse((self.loads[*rank], *rank)));
            let mut by_load: BinaryHeap<_> = by_load.collect();
            for partition in partitions {
                let mut least = by_load.peek_mut().expect("a suit has subscribers");
                let (load, rank) = &mut least.0;
                *load += 1;
                self.loads[*rank] += 1;
                let hand = self.hands[*rank].entry(suit).or_default();
                hand.free.push(partition);
            }
        }
    }

    /// Hands on partitions from those who have the most until all shares are as fair as they can be.
    fn even_out(&mut self, movable: Movable) {
        let members = self.loads.len();
        let mut search = Search {
            movable,
            settled: vec![false; members],
            came: vec![None; members],
            opened: vec![false; self.suits.len()],
            reached: Vec::with_capacity(members),
        };
        loop {
            let unsettled = (0..members).filter(|rank| !search.settled[*rank]);
            let Some(most) = unsettled.clone().max_by_key(|rank| self.loads[*rank]) else {
                return;
            };
            let least = unsettled.map(|rank| self.loads[rank]).min();
            if least.is_none_or(|least| self.loads[most] < least + 2) {
                return;
            }
            match search.from(most, least.unwrap_or(0), self) {
                Some(to) => self.hand_on(&search, to),
                // Nothing can be handed from those who were reached to anybody else, and each of them
                // has at least one less than `most`, which is the most that anybody else has: they
                // need neither give nor take from now on.
                None => {
                    for rank in &search.reached {
                        search.settled[*rank] = true;
                    }
                }
            }
        }
    }

    /// Moves a partition along each step of the way to `to`.
    fn hand_on(&mut self, search: &Search, to: Rank) {
        self.loads[to] += 1;
        let mut taker = to;
        while let Some(step) = search.came[taker] {
            let hands = &mut self.hands[step.giver];
            let hand = hands.get_mut(&step.suit).expect("a giver has some of it");
            let partition = hand.free.pop().or_else(|| hand.kept.pop());
            let partition = partition.expect("no hand is empty");
            if hand.free.is_empty() && hand.kept.is_empty() {
                hands.remove(&step.suit);
            }
            let hand = self.hands[taker].entry(step.suit).or_default();
            hand.free.push(partition);
            taker = step.giver;
        }
        self.loads[taker] -= 1;
    }
}

/// A step of the way by which a partition can be handed on.
#[derive(Clone, Copy)]
struct Step {
    giver: Rank,
    suit: usize,
}

/// A search for somebody with less, over everybody to whom partitions can be handed on.
struct Search {
    movable: Movable,
    /// Members that need not be looked at again.
    settled: Vec<bool>,
    /// For members that were reached, the last step of the way there.
    came: Vec<Option<Step>>,
    /// Suits of which somebody who was reached has some: all their subscribers were reached.
    opened: Vec<bool>,
    /// The members that were reached, in that order.
    reached: Vec<Rank>,
}

impl Search {
    /// Whoever has the least of those with at least two fewer than `from`, among the ones that the
    /// fewest kept partitions have to be moved to reach. Nobody has fewer than `least`.
    fn from(&mut self, from: Rank, least: usize, table: &Table<'_>) -> Option<Rank> {
        self.came.fill(None);
        self.opened.fill(false);
        self.reached.clear();
        self.reached.push(from);
        let enough = table.loads[from] - 2;
        // Members from here on have not handed on what is free, and up to here what is kept.
        let (mut next_free, mut next_kept) = (0, 0);
        let mut candidates = 0;
        loop {
            while let Some(giver) = self.reached.get(next_free).copied() {
                next_free += 1;
                if self.open(giver, from, Movable::Free, least, table) {
                    return self.reached.last().copied();
                }
            }
            let new = self.reached[candidates..].iter().copied();
            let best = new.min_by_key(|rank| (table.loads[*rank], *rank));
            if let Some(best) = best.filter(|rank| table.loads[*rank] <= enough) {
                return Some(best);
            }
            if self.movable == Movable::Free || next_kept == next_free {
                return None;
            }
            candidates = self.reached.len();
            while next_kept < candidates {
                let giver = self.reached[next_kept];
                next_kept += 1;
                if self.open(giver, from, Movable::All, least, table) {
                    return self.reached.last().copied();
                }
            }
        }
    }

    /// Reaches everybody to whom `giver` can hand a partition. Stops, and says so, at one who has as
    /// little as anybody.
    fn open(
        &mut self,
        giver: Rank,
        from: Rank,
        movable: Movable,
        least: usize,
        table: &Table<'_>,
    ) -> bool {
        for (suit, hand) in &table.hands[giver] {
            if self.opened[*suit] || (movable == Movable::Free && hand.free.is_empty()) {
                continue;
            }
            self.opened[*suit] = true;
            for rank in &table.suits[*suit] {
                if *rank == from || self.settled[*rank] || self.came[*rank].is_some() {
                    continue;
                }
                self.came[*rank] = Some(Step { giver, suit: *suit });
                self.reached.push(*rank);
                if table.loads[*rank] == least {
                    return true;
                }
            }
        }
        false
    }
}
