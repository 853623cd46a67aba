//! Torn or damaged: the decision, case by case.

use crate::journal::format::{FIRST_GROUP_POSITION, FileHeader, FileNumber};
use crate::journal::scan::GroupSeen;
use crate::journal::walk::{ScannedFile, Span, Walk, walk};
use crate::journal::{Sequence, Torn};

/// A file of one-block groups: `(sequence, durable_through, intact)`, at the block after the last.
fn file(
    number: u64,
    epoch: u64,
    first: u64,
    previous_end: u64,
    groups: &[(u64, u64, bool)],
) -> ScannedFile {
    let header = FileHeader {
        epoch,
        salt: epoch,
        file: FileNumber(number),
        first_sequence: Sequence(first),
        first_live_file: FileNumber(1),
        previous_end: Sequence(previous_end),
        checkpoint_through: Sequence(first),
    };
    let groups = groups
        .iter()
        .map(|(sequence, durable_through, intact)| GroupSeen {
            sequence: Sequence(*sequence),
            durable_through: Sequence(*durable_through),
            position: FIRST_GROUP_POSITION * (1 + sequence - first),
            payload_len: 100,
            entries: 1,
            intact: *intact,
        })
        .collect();
    ScannedFile {
        header,
        len: 1 << 20,
        groups,
    }
}

fn run(files: &[ScannedFile]) -> Walk {
    walk(files.iter())
}

fn damaged(walk: &Walk) -> Vec<(u64, u64)> {
    let bad = walk.spans.iter().filter_map(|span| match span {
        Span::Bad(bad) => Some((bad.first.0, bad.last.0)),
        Span::Whole { .. } => None,
    });
    bad.collect()
}

fn torn(sequence: u64, whole_groups_dropped: u64) -> Option<Torn> {
    Some(Torn {
        sequence: Sequence(sequence),
        whole_groups_dropped,
    })
}

#[test]
fn a_journal_that_is_whole_ends_with_its_last_group() {
    let walk = run(&[
        file(1, 1, 1, 0, &[(1, 0, true), (2, 1, true)]),
        file(2, 1, 3, 0, &[(3, 2, true)]),
    ]);
    assert_eq!(
        (walk.end, walk.torn, damaged(&walk)),
        (Sequence(3), None, vec![])
    );
}

#[test]
fn a_bad_group_at_the_end_is_torn() {
    let walk = run(&[file(
        1,
        1,
        1,
        0,
        &[(1, 0, true), (2, 1, true), (3, 1, false)],
    )]);
    assert_eq!(
        (walk.end, walk.torn, damaged(&walk)),
        (Sequence(2), torn(3, 0), vec![])
    );
}

#[test]
fn whole_groups_after_a_torn_one_are_dropped_in_the_same_file_and_in_the_next() {
    let groups = [(1, 0, true), (2, 0, false), (3, 0, true)];
    let walk = run(&[file(1, 1, 1, 0, &groups), file(2, 1, 4, 0, &[(4, 1, true)])]);
    assert_eq!(
        (walk.end, walk.torn, damaged(&walk)),
        (Sequence(1), torn(2, 2), vec![])
    );
}

#[test]
fn a_bad_group_that_a_later_one_proves_durable_is_damage() {
    for proof in [[(3, 2, true), (4, 2, true)], [(3, 2, false), (4, 2, false)]] {
        let groups = [&[(1, 0, true), (2, 1, false)], &proof[..]].concat();
        let walk = run(&[file(1, 1, 1, 0, &groups)]);
        assert_eq!(
            damaged(&walk),
            [(2, 2)],
            "a header that can be read is proof, its payload need not be"
        );
        assert_eq!(walk.end, if proof[0].2 { Sequence(4) } else { Sequence(2) });
    }
}

#[test]
fn a_group_without_a_readable_header_counts_as_bad() {
    let walk = run(&[file(1, 1, 1, 0, &[(1, 0, true), (4, 2, true)])]);
    assert_eq!(
        (damaged(&walk), walk.end, walk.torn),
        (vec![(2, 2)], Sequence(2), torn(3, 1))
    );
}

#[test]
fn groups_missing_at_the_end_of_a_file_are_judged_by_the_next_file() {
    let first = file(1, 1, 1, 0, &[(1, 0, true)]);
    let proven = run(&[first.clone(), file(2, 1, 3, 0, &[(3, 2, true)])]);
    assert_eq!((damaged(&proven), proven.end), (vec![(2, 2)], Sequence(3)));
    let unproven = run(&[first, file(2, 1, 3, 0, &[(3, 1, true)])]);
    assert_eq!((damaged(&unproven), unproven.end), (vec![], Sequence(1)));
}

#[test]
fn a_missing_file_is_damage_to_its_groups() {
    let walk = run(&[
        file(1, 1, 1, 0, &[(1, 0, true)]),
        file(3, 1, 9, 0, &[(9, 8, true), (10, 9, true)]),
    ]);
    assert_eq!((damaged(&walk), walk.end), (vec![(2, 8)], Sequence(10)));
}

#[test]
fn a_later_epoch_fixes_where_the_one_before_ended() {
    // Group 3 of epoch 1 is whole now, but an earlier recovery ended that epoch at 2.
    let old = [(1, 0, true), (2, 1, true), (3, 1, true), (4, 1, true)];
    let walk = run(&[
        file(1, 1, 1, 0, &old),
        file(2, 2, 3, 2, &[(3, 2, true), (4, 3, true)]),
    ]);
    assert_eq!((damaged(&walk), walk.end), (vec![], Sequence(4)));
    let files: Vec<_> = walk
        .spans
        .iter()
        .map(|span| matches!(span, Span::Whole { file: 1, .. }))
        .collect();
    assert_eq!(files, [false, false, true, true]);
}

#[test]
fn what_an_earlier_recovery_counted_is_damage_when_bad_even_if_nothing_else_proves_it() {
    let old = [(1, 0, true), (2, 0, false)];
    let walk = run(&[file(1, 1, 1, 0, &old), file(2, 2, 3, 2, &[(3, 2, true)])]);
    assert_eq!((damaged(&walk), walk.end), (vec![(2, 2)], Sequence(3)));
}

#[test]
fn a_start_that_was_cut_off_changes_nothing() {
    // Epoch 2 wrote its header and no whole group; epoch 3 then began where epoch 1 ended.
    let old = file(
        1,
        1,
        1,
        0,
        &[(1, 0, true), (2, 1, true), (3, 1, false), (4, 1, true)],
    );
    let cut_off = file(3, 2, 3, 2, &[(3, 2, false)]);
    let walk = run(&[old.clone(), cut_off.clone()]);
    assert_eq!(
        (damaged(&walk), walk.end, walk.torn),
        (vec![], Sequence(2), torn(3, 0))
    );
    let walk = run(&[old, cut_off, file(4, 3, 3, 2, &[(3, 2, true)])]);
    assert_eq!(
        (damaged(&walk), walk.end, walk.torn),
        (vec![], Sequence(3), None)
    );
}

#[test]
fn damage_and_a_torn_tail_in_one_run_of_bad_groups_are_told_apart() {
    // 2 and 3 are gone; only 2 was durable when 4 was issued.
    let walk = run(&[
        file(1, 1, 1, 0, &[(1, 0, true)]),
        file(2, 1, 4, 0, &[(4, 2, true)]),
    ]);
    assert_eq!(
        (damaged(&walk), walk.end, walk.torn),
        (vec![(2, 2)], Sequence(2), torn(3, 1))
    );
}

#[test]
fn nothing_at_all_ends_at_nothing() {
    assert_eq!(run(&[]), Walk::default());
    let walk = run(&[file(1, 1, 1, 0, &[])]);
    assert_eq!((walk.end, walk.torn), (Sequence(0), None));
}
