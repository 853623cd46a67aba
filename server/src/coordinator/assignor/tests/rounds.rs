//! Cooperative rebalances: what one round gives out is what members own in the next.

use super::*;

/// Members that own what they were given, in the generation of that round.
fn owning(members: &[Told], shared: &Shared, generation: i32) -> Vec<Told> {
    let members = members.iter().map(|member| Told {
        owned: shared[&member.id].clone(),
        generation: Some(generation),
        ..member.clone()
    });
    members.collect()
}

/// One round; nobody may be given what somebody else is reading.
fn round(members: &[Told], topics: &Topics) -> Shared {
    let shared = share(Protocol::CooperativeSticky, members, topics);
    assert_sound(&shared, members);
    for member in members {
        for partition in &shared[&member.id] {
            let newer_elsewhere = members.iter().any(|other| {
                let theirs = other.id != member.id && other.owned.contains(partition);
                // The newest claim stands, if it is the only one.
                let stands =
                    member.owned.contains(partition) && member.generation > other.generation;
                theirs && !stands
            });
            assert!(
                !newer_elsewhere,
                "{} gets {partition:?} too early",
                member.id
            );
        }
    }
    shared
}

/// Rounds until everything is given out, which may take two; then nothing moves any more.
fn settle(members: &[Told], topics: &Topics, generation: i32) -> Shared {
    let first = round(members, topics);
    let members = owning(members, &first, generation + 1);
    let second = round(&members, topics);
    let all = wanted(&members, topics);
    assert_eq!(all_of(&second), all, "all is given out in the second round");
    for (id, kept) in &first {
        assert!(kept.is_subset(&second[id]), "{id} has to let go again");
    }
    let members = owning(&members, &second, generation + 2);
    assert_eq!(round(&members, topics), second, "it is settled");
    assert_fair(&second, &members);
    second
}

/// No chain of members, each of whom could hand a partition to the next, leads from one to another who
/// has two fewer.
fn assert_fair(shared: &Shared, members: &[Told]) {
    let loads: Vec<_> = members
        .iter()
        .map(|member| shared[&member.id].len())
        .collect();
    let mut reaches: Vec<Vec<bool>> = members
        .iter()
        .map(|giver| {
            let takes = |taker: &Told| {
                let mut has = shared[&giver.id].iter();
                has.any(|(topic, _)| taker.topics.contains(topic))
            };
            members.iter().map(takes).collect()
        })
        .collect();
    for by in 0..members.len() {
        for from in 0..members.len() {
            for to in 0..members.len() {
                reaches[from][to] |= reaches[from][by] && reaches[by][to];
            }
        }
    }
    for (from, reached) in reaches.iter().enumerate() {
        for (to, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            assert!(
                loads[from] <= loads[to] + 1,
                "{from} has too many, {to} too few: {loads:?}"
            );
        }
    }
}

/// What has another owner than before, or one where it had none.
fn moved(before: &Shared, after: &Shared) -> usize {
    let none = BTreeSet::new();
    let new = after.iter().map(|(id, now)| {
        let then = before.get(id).unwrap_or(&none);
        now.difference(then).count()
    });
    new.sum()
}

#[test]
fn kafkas_examples_of_sticky_assignment() {
    let four = topics(&[("t0", 2), ("t1", 2), ("t2", 2), ("t3", 2)]);
    let wants = "t0 t1 t2 t3";
    let members = [
        member("C0", wants),
        member("C1", wants),
        member("C2", wants),
    ];
    let shared = round(&members, &four);
    let expected = [
        ("C0", "t0-0 t1-1 t3-0"),
        ("C1", "t0-1 t2-0 t3-1"),
        ("C2", "t1-0 t2-1"),
    ];
    assert_shared(&shared, &expected);
    let members = owning(&members, &shared, 1);
    let left = [members[0].clone(), members[2].clone()];
    let expected = [("C0", "t0-0 t1-1 t2-0 t3-0"), ("C2", "t0-1 t1-0 t2-1 t3-1")];
    assert_shared(&round(&left, &four), &expected);

    let three = topics(&[("t0", 1), ("t1", 2), ("t2", 3)]);
    let members = [
        member("C0", "t0"),
        member("C1", "t0 t1"),
        member("C2", "t0 t1 t2"),
    ];
    let shared = round(&members, &three);
    let expected = [
        ("C0", "t0-0"),
        ("C1", "t1-0 t1-1"),
        ("C2", "t2-0 t2-1 t2-2"),
    ];
    assert_shared(&shared, &expected);
    let members = owning(&members, &shared, 1);
    let expected = [("C1", "t0-0 t1-0 t1-1"), ("C2", "t2-0 t2-1 t2-2")];
    assert_shared(&round(&members[1..], &three), &expected);
}

#[test]
fn what_moves_is_let_go_in_one_round_and_given_in_the_next() {
    let topics = topics(&[("t0", 4)]);
    let members = [
        member("old", "t0").owning("t0-0 t0-1 t0-2 t0-3", 1),
        member("new", "t0"),
    ];
    let first = round(&members, &topics);
    assert_shared(&first, &[("old", "t0-0 t0-1"), ("new", "")]);
    let second = round(&owning(&members, &first, 2), &topics);
    assert_shared(&second, &[("old", "t0-0 t0-1"), ("new", "t0-2 t0-3")]);
}

#[test]
fn who_has_nothing_to_let_go_loses_nothing() {
    let topics = topics(&[("t0", 7)]);
    let members = [
        member("a", "t0").owning("t0-0 t0-1 t0-2 t0-3", 1),
        member("b", "t0").owning("t0-4 t0-5 t0-6", 1),
        member("c", "t0"),
    ];
    let first = round(&members, &topics);
    let loads: Vec<_> = first.values().map(BTreeSet::len).collect();
    // Two are to move, and no more: 3, 2 and 2.
    assert_eq!(loads.iter().sum::<usize>(), 5, "{first:?}");
    assert!(first["a"].len() <= 3 && first["b"].len() <= 3, "{first:?}");
    let second = settle(&members, &topics, 1);
    assert_eq!(moved(&first, &second), 2);
}

#[test]
fn of_two_who_own_the_same_the_newer_generation_keeps_it() {
    let topics = topics(&[("t0", 2)]);
    let members = [
        member("zombie", "t0").owning("t0-0 t0-1", 1),
        member("new", "t0").owning("t0-0", 2),
    ];
    // The zombie's other partition is claimed by nobody else.
    let expected = [("zombie", "t0-1"), ("new", "t0-0")];
    assert_shared(&round(&members, &topics), &expected);
    // Not to know one's generation is older than any.
    let mut members = members;
    members[0].generation = None;
    assert_shared(&round(&members, &topics), &expected);
}

#[test]
fn of_two_who_own_the_same_in_one_generation_neither_keeps_it() {
    let topics = topics(&[("t0", 2)]);
    let members = [
        member("a", "t0").owning("t0-0 t0-1", 3),
        member("b", "t0").owning("t0-0", 3),
    ];
    let first = round(&members, &topics);
    assert_shared(&first, &[("a", "t0-1"), ("b", "")]);
    settle(&members, &topics, 3);
}

#[test]
fn what_somebody_reads_who_no_longer_wants_it_waits_a_round() {
    let topics = topics(&[("t0", 1), ("t1", 1)]);
    let members = [member("a", "t1").owning("t0-0", 1), member("b", "t0 t1")];
    let first = round(&members, &topics);
    assert_shared(&first, &[("a", "t1-0"), ("b", "")]);
    let second = round(&owning(&members, &first, 2), &topics);
    assert_shared(&second, &[("a", "t1-0"), ("b", "t0-0")]);
}

#[test]
fn who_has_too_little_gets_it_by_way_of_others() {
    // No two members are two apart who want the same topic, and yet it can be fairer.
    let topics = topics(&[("t0", 2), ("t1", 1)]);
    let members = [
        member("a", "t0").owning("t0-0 t0-1", 1),
        member("b", "t0 t1").owning("t1-0", 1),
        member("c", "t1"),
    ];
    let shared = settle(&members, &topics, 1);
    assert!(shared.values().all(|share| share.len() == 1), "{shared:?}");
}

/// Any claims at all: doubled, of topics that nobody wants, of partitions that do not exist.
fn claims() -> impl Strategy<Value = Vec<(BTreeSet<Partition>, Option<i32>)>> {
    let partition = (0..6_usize, 0..13_u32).prop_map(|(topic, index)| (format!("t{topic}"), index));
    let owned = prop::collection::btree_set(partition, 0..30);
    prop::collection::vec((owned, prop::option::of(0..3)), 9)
}

proptest! {
    #[test]
    fn two_rounds_settle_whatever_was_owned((members, topics) in groups(), claims in claims()) {
        let claiming = members.iter().zip(claims).map(|(member, (owned, generation))| Told {
            owned,
            generation,
            ..member.clone()
        });
        settle(&claiming.collect::<Vec<_>>(), &topics, 3);
    }

    #[test]
    fn a_member_more_or_less_moves_no_more_than_it_must(
        (members, topics) in groups(),
        leaving in any::<prop::sample::Index>(),
    ) {
        let members = wanting_the_same(members);
        let before = settle(&members, &topics, 1);
        let partitions = all_of(&before).len();

        let mut more = owning(&members, &before, 3);
        let topics_of_all = members[0].topics.clone();
        more.push(Told { topics: topics_of_all, ..member("new", "") });
        let after = settle(&more, &topics, 3);
        prop_assert_eq!(moved(&before, &after), after["new"].len(), "only to the new one");
        prop_assert!(after["new"].len() <= partitions.div_ceil(more.len()));

        let mut fewer = owning(&members, &before, 3);
        let left = fewer.remove(leaving.index(members.len()));
        if fewer.is_empty() {
            return Ok(());
        }
        let after = round(&fewer, &topics);
        prop_assert_eq!(moved(&before, &after), left.owned.len(), "only what was left behind");
        prop_assert_eq!(all_of(&after), all_of(&before), "and that at once");
    }

    #[test]
    fn members_come_and_go_and_change_their_minds(
        (members, topics) in groups(),
        (other, more_topics) in groups(),
    ) {
        // As many as both have stay, with other wishes; the rest leave or come.
        let before = settle(&members, &topics, 1);
        let nothing = BTreeSet::new();
        let others = other.iter().map(|member| Told {
            owned: before.get(&member.id).unwrap_or(&nothing).clone(),
            generation: before.contains_key(&member.id).then_some(3),
            ..member.clone()
        });
        settle(&others.collect::<Vec<_>>(), &more_topics, 3);
    }
}
