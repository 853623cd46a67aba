//! How logs become the same, and when an entry is committed.

use expect_test::expect;
use raft::{Index, Settings, Term};

use crate::actor::Disk;
use crate::stage::{N1, N2, N3, N4, N5, Stage, first, log_of};

/// A leader sends an entry while its own disk still writes it. Committed is what a majority has on
/// disk; the leader is one of them or is not.
///
/// Raft paper, section 5.3; thesis, section 10.2.1.
#[test]
fn a_majority_of_disks_commits_whichever_they_are() {
    let mut stage = Stage::led(3, Settings::default());
    // The leader's disk is the slow one: the two others are a majority.
    stage.hold_disk(N1);
    stage.propose(N1, "x=1");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.release_disk(N1);
    stage.shows(expect![[r#"
        n1's disk is done
    "#]]);
    // Both followers are slow: it is not enough that they have it in memory.
    stage.hold_disk(N2);
    stage.hold_disk(N3);
    stage.propose(N1, "x=2");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 3@t1 x=2
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 2]
        n2 appends 3@t1 x=2
        n2 knows 2 committed
        n3 appends 3@t1 x=2
        n3 knows 2 committed
    "#]]);
    stage.release_disk(N3);
    stage.run();
    stage.shows(expect![[r#"
        n3's disk is done
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
    "#]]);
    stage.release_disk(N2);
    stage.run();
    stage.shows(expect![[r#"
        n2's disk is done
        n2 -> n1: I have all up to 3
    "#]]);
}

/// Messages follow each other without waiting for answers. The follower takes them in their order
/// only: behind a lost one there is a gap, of which it tells at once. A loss that nothing follows
/// shows by its missing answer; then it is asked first, without entries, what is there.
///
/// Raft paper, section 5.3; thesis, section 10.2.1; etcd's progress (probe and replicate).
#[test]
fn a_lost_message_is_sent_again() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    for text in ["x=1", "x=2", "x=3"] {
        stage.propose(N1, text);
    }
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n1 -> n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1] (lost)
        n1 appends 3@t1 x=2
        n1 -> n2: in t1: after 2@t1 comes 3@t1 x=2 [commit 1]
        n1 -> n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 1] (lost)
        n1 appends 4@t1 x=3
        n1 -> n2: in t1: after 3@t1 comes 4@t1 x=3 [commit 1]
        n1 -> n3: in t1: after 3@t1 comes 4@t1 x=3 [commit 1] (lost)
    "#]]);
    // The first of the three is lost.
    let three = stage.keep(N1, N2);
    stage.arrive(&three[1]);
    stage.shows(expect![[r#"
        n2 -> n1: we differ at 2; my terms end at 1@t1, 0@t0
    "#]]);
    stage.deliver(N2, N1);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.shows(expect![[r#"
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1, 3@t1 x=2, 4@t1 x=3 [commit 1]
        n2 appends 2@t1 x=1, 3@t1 x=2, 4@t1 x=3
        n2 -> n1: I have all up to 4
        n1 knows 4 committed
    "#]]);
    // The third comes late, and changes nothing.
    stage.arrive(&three[2]);
    stage.run();
    stage.shows(expect![[r#"
        n2 -> n1: I have all up to 4
    "#]]);
    // A single one is lost: after a while it is asked for.
    stage.propose(N1, "x=4");
    stage.lose(N1, N2);
    stage.pass(300);
    stage.shows(expect![[r#"
        n1 appends 5@t1 x=4
        n1 -> n2: in t1: after 4@t1 comes 5@t1 x=4 [commit 4]
        n1 -> n3: in t1: after 4@t1 comes 5@t1 x=4 [commit 4] (lost)
        n2 knows 4 committed
        n1 -> n2: in t1: have you 4@t1? [commit 4]
        n1 -> n3: in t1: have you 1@t1? [commit 4] (lost)
        n2 -> n1: I have all up to 4
        n1 -> n2: in t1: after 4@t1 comes 5@t1 x=4 [commit 4]
        n2 appends 5@t1 x=4
        n2 -> n1: I have all up to 5
        n1 knows 5 committed
        n2 knows 5 committed
    "#]]);
}

/// What comes late or twice cuts nothing. A follower removes entries only where they differ from the
/// leader's, never because a message ends before its log does.
///
/// Raft paper, figure 2 (AppendEntries, steps 3 and 4).
#[test]
fn a_late_append_cuts_nothing() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    stage.propose(N1, "x=1");
    let early = stage.keep(N1, N2);
    stage.arrive(&early[0]);
    stage.run();
    stage.propose(N1, "x=2");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n1 -> n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1] (lost)
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 appends 3@t1 x=2
        n1 -> n2: in t1: after 2@t1 comes 3@t1 x=2 [commit 2]
        n1 -> n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 2] (lost)
        n2 appends 3@t1 x=2
        n2 knows 2 committed
        n2 -> n1: I have all up to 3
        n1 knows 3 committed
    "#]]);
    stage.arrive(&early[0]);
    stage.run();
    stage.logs();
    stage.shows(expect![[r#"
        n2 -> n1: I have all up to 2
        n1 has 1@t1 no-op, 2@t1 x=1, 3@t1 x=2
        n2 has 1@t1 no-op, 2@t1 x=1, 3@t1 x=2
        n3 has 1@t1 no-op
    "#]]);
}

/// The moment (c) of the paper's figure 8: n1 leads t4, and the entry 2@t2 that it once appended in
/// another term is on a majority of disks at last, n1's, n2's and n3's. Its own no-op, 3@t4, is on
/// its way.
fn figure_8() -> Stage {
    let voters = first(5);
    let logs: [&[u64]; 5] = [&[1, 2], &[1, 2], &[1], &[1], &[1, 3]];
    let disks = logs.iter().map(|terms| Disk {
        term: Term(3),
        ..Disk::holding(log_of(terms, &voters))
    });
    let mut stage = Stage::recovered(Settings::default(), disks.collect());
    stage.part(&[N4]);
    stage.crash(N5);
    stage.times_out(N1);
    stage.deliver(N1, N2);
    stage.deliver(N1, N3);
    stage.deliver(N2, N1);
    stage.deliver(N3, N1);
    stage.deliver(N1, N2);
    stage.deliver(N1, N3);
    stage.deliver(N2, N1);
    stage.deliver(N3, N1);
    // n2 gets neither the no-op nor the next message; n3 gets what it lacks of t2, no more.
    stage.lose(N1, N2);
    stage.deliver(N1, N3);
    stage.deliver(N3, N1);
    stage.deliver(N1, N3);
    stage.deliver(N3, N1);
    stage
}

/// An entry of an earlier term is not committed by being on a majority of disks: another leader may
/// still replace it. A leader counts only entries of its own term, and what lies before these is
/// committed with them.
///
/// Raft paper, section 5.4.2, figure 8 (a) to (d).
#[test]
fn an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut stage = figure_8();
    stage.lose(N1, N3);
    stage.terms();
    stage.shows(expect![[r#"
        n5 is down
        n1 is a pre-candidate in t3
        n1 -> n2, n3: would you vote for me in t4? My log ends at 2@t2
        n1 -> n4, n5: would you vote for me in t4? My log ends at 2@t2 (lost)
        n2 -> n1: yes, in t4 I would
        n3 -> n1: yes, in t4 I would
        n1 writes down t4, vote for n1
        n1 is a candidate in t4
        n1 -> n2, n3: vote for me in t4! My log ends at 2@t2
        n1 -> n4, n5: vote for me in t4! My log ends at 2@t2 (lost)
        n2 writes down t4, vote for n1
        n2 -> n1: you have my vote in t4
        n3 writes down t4, vote for n1
        n3 -> n1: you have my vote in t4
        n1 is elected in t4
        n1 appends 3@t4 no-op
        n1 -> n2, n3: in t4: after 2@t2 comes 3@t4 no-op [commit 0]
        n1 -> n4, n5: in t4: after 2@t2 comes 3@t4 no-op [commit 0] (lost)
        n3 follows n1 in t4
        n3 -> n1: we differ at 2; my terms end at 1@t1, 0@t0
        n1 -> n3: in t4: after 1@t1 comes 2@t2 e2 [commit 0]
        n3 appends 2@t2 e2
        n3 -> n1: I have all up to 2
        n1 -> n3: in t4: after 2@t2 comes 3@t4 no-op [commit 0]
        n1: 1 2 4
        n2: 1 2
        n3: 1 2
        n4: 1
        n5: 1 3
    "#]]);
    // n2 is asked what it has, so that n1 knows it of a majority. That commits nothing.
    stage.wait(N1, 260);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.lose(N1, N2);
    stage.shows(expect![[r#"
        n1 -> n2, n3: in t4: have you 2@t2? [commit 0]
        n1 -> n4, n5: in t4: have you 2@t2? [commit 0] (lost)
        n2 follows n1 in t4
        n2 -> n1: I have all up to 2
        n1 -> n2: in t4: after 2@t2 comes 3@t4 no-op [commit 0]
    "#]]);
    // (d): n1 is gone. n5, whose last entry has a greater term, is elected, and 2@t2 is replaced.
    stage.crash(N1);
    stage.restart(N5);
    stage.heal();
    stage.times_out(N5);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n5 is up again, in t3; its log ends at 2@t3
        n5 is a pre-candidate in t3
        n5 -> n1: would you vote for me in t4? My log ends at 2@t3 (lost)
        n5 -> n2, n3, n4: would you vote for me in t4? My log ends at 2@t3
        n3 -> n1: I have all up to 2 (lost)
        n2 -> n5: no, I would not
        n3 -> n5: no, I would not
        n4 -> n5: yes, in t4 I would
        n5 is a follower without leader in t4
        n5 writes down t4, no vote
    "#]]);
    stage.times_out(N5);
    stage.run();
    stage.terms();
    stage.shows(expect![[r#"
        n5 is a pre-candidate in t4
        n5 -> n1: would you vote for me in t5? My log ends at 2@t3 (lost)
        n5 -> n2, n3, n4: would you vote for me in t5? My log ends at 2@t3
        n2 -> n5: yes, in t5 I would
        n3 -> n5: yes, in t5 I would
        n4 -> n5: yes, in t5 I would
        n5 writes down t5, vote for n5
        n5 is a candidate in t5
        n5 -> n1: vote for me in t5! My log ends at 2@t3 (lost)
        n5 -> n2, n3, n4: vote for me in t5! My log ends at 2@t3
        n2 is a follower without leader in t5
        n2 writes down t5, vote for n5
        n2 -> n5: you have my vote in t5
        n3 is a follower without leader in t5
        n3 writes down t5, vote for n5
        n3 -> n5: you have my vote in t5
        n4 writes down t5, vote for n5
        n4 -> n5: you have my vote in t5
        n5 is elected in t5
        n5 appends 3@t5 no-op
        n5 -> n1: in t5: after 2@t3 comes 3@t5 no-op [commit 0] (lost)
        n5 -> n2, n3, n4: in t5: after 2@t3 comes 3@t5 no-op [commit 0]
        n2 follows n5 in t5
        n2 -> n5: we differ at 2; my terms end at 2@t2, 1@t1, 0@t0
        n3 follows n5 in t5
        n3 -> n5: we differ at 2; my terms end at 2@t2, 1@t1, 0@t0
        n4 follows n5 in t5
        n4 -> n5: we differ at 2; my terms end at 1@t1, 0@t0
        n5 -> n2, n3, n4: in t5: after 1@t1 comes 2@t3 e2 [commit 0]
        n2 cuts all after 1
        n2 appends 2@t3 e2
        n2 -> n5: I have all up to 2
        n3 cuts all after 1
        n3 appends 2@t3 e2
        n3 -> n5: I have all up to 2
        n4 appends 2@t3 e2
        n4 -> n5: I have all up to 2
        n5 -> n2, n3, n4: in t5: after 2@t3 comes 3@t5 no-op [commit 0]
        n2 appends 3@t5 no-op
        n2 -> n5: I have all up to 3
        n3 appends 3@t5 no-op
        n3 -> n5: I have all up to 3
        n4 appends 3@t5 no-op
        n4 -> n5: I have all up to 3
        n5 knows 3 committed
        n5 leads t5 and serves
        n1: 1 2 4
        n2: 1 3 5
        n3: 1 3 5
        n4: 1 3 5
        n5: 1 3 5
    "#]]);
}

/// The other end of the story: an entry of the leader's own term gets to a majority. With it all
/// before it is committed, for now n5 cannot be elected any more.
///
/// Raft paper, section 5.4.2, figure 8 (e).
#[test]
fn an_entry_of_the_own_term_commits_all_before_it() {
    let mut stage = figure_8();
    stage.skip();
    stage.run();
    stage.pass(260);
    stage.terms();
    stage.shows(expect![[r#"
        n3 appends 3@t4 no-op
        n3 -> n1: I have all up to 3
        n2 follows n1 in t4
        n1 -> n2: in t4: have you 2@t2? [commit 0]
        n1 -> n4, n5: in t4: have you 2@t2? [commit 0] (lost)
        n2 -> n1: I have all up to 2
        n1 -> n2: in t4: after 2@t2 comes 3@t4 no-op [commit 0]
        n2 appends 3@t4 no-op
        n2 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 leads t4 and serves
        n1: 1 2 4
        n2: 1 2 4
        n3: 1 2 4
        n4: 1
        n5: 1 3
    "#]]);
    stage.crash(N1);
    stage.restart(N5);
    // The first time, n5 learns of t4.
    stage.times_out(N5);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n5 is up again, in t3; its log ends at 2@t3
        n5 is a pre-candidate in t3
        n5 -> n1: would you vote for me in t4? My log ends at 2@t3 (lost)
        n5 -> n2, n3: would you vote for me in t4? My log ends at 2@t3
        n5 -> n4: would you vote for me in t4? My log ends at 2@t3 (lost)
        n2 -> n5: no, I would not
        n3 -> n5: no, I would not
        n5 is a follower without leader in t4
        n5 writes down t4, no vote
    "#]]);
    stage.times_out(N5);
    stage.run();
    stage.shows(expect![[r#"
        n5 is a pre-candidate in t4
        n5 -> n1: would you vote for me in t5? My log ends at 2@t3 (lost)
        n5 -> n2, n3: would you vote for me in t5? My log ends at 2@t3
        n5 -> n4: would you vote for me in t5? My log ends at 2@t3 (lost)
        n2 -> n5: no, I would not
        n3 -> n5: no, I would not
    "#]]);
}

/// However logs have come apart, a new leader finds out in one round trip where: the follower answers
/// with the ends of its last terms, and the last place that both logs have is the lesser of the two
/// ends of the latest term that both know. Here are the logs of the paper's figure 7: n1 is its
/// leader, n2 to n7 are its (a) to (f).
///
/// Raft paper, section 5.3, figure 7; KIP-101, KIP-279, KIP-595.
#[test]
fn logs_that_came_apart_meet_again_in_one_round_trip() {
    let voters = first(7);
    let logs: [&[u64]; 7] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let disks = logs.iter().map(|terms| Disk {
        term: Term(7),
        ..Disk::holding(log_of(terms, &voters))
    });
    let mut stage = Stage::recovered(Settings::default(), disks.collect());
    stage.times_out(N1);
    stage.run();
    stage.terms();
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t7
        n1 -> n2, n3, n4, n5, n6, n7: would you vote for me in t8? My log ends at 10@t6
        n2 -> n1: yes, in t8 I would
        n3 -> n1: yes, in t8 I would
        n4 -> n1: no, I would not
        n5 -> n1: no, I would not
        n6 -> n1: yes, in t8 I would
        n7 -> n1: yes, in t8 I would
        n1 writes down t8, vote for n1
        n1 is a candidate in t8
        n1 -> n2, n3, n4, n5, n6, n7: vote for me in t8! My log ends at 10@t6
        n2 writes down t8, vote for n1
        n2 -> n1: you have my vote in t8
        n3 writes down t8, vote for n1
        n3 -> n1: you have my vote in t8
        n4 writes down t8, no vote
        n4 -> n1: not my vote, in t8
        n5 writes down t8, no vote
        n5 -> n1: not my vote, in t8
        n6 writes down t8, vote for n1
        n6 -> n1: you have my vote in t8
        n7 writes down t8, vote for n1
        n7 -> n1: you have my vote in t8
        n1 is elected in t8
        n1 appends 11@t8 no-op
        n1 -> n2, n3, n4, n5, n6, n7: in t8: after 10@t6 comes 11@t8 no-op [commit 0]
        n2 follows n1 in t8
        n2 -> n1: we differ at 10; my terms end at 9@t6, 7@t5, 5@t4, 3@t1, 0@t0
        n3 follows n1 in t8
        n3 -> n1: we differ at 10; my terms end at 4@t4, 3@t1, 0@t0
        n4 follows n1 in t8
        n4 cuts all after 10
        n4 appends 11@t8 no-op
        n4 -> n1: I have all up to 11
        n5 follows n1 in t8
        n5 cuts all after 10
        n5 appends 11@t8 no-op
        n5 -> n1: I have all up to 11
        n6 follows n1 in t8
        n6 -> n1: we differ at 10; my terms end at 7@t4, 3@t1, 0@t0
        n7 follows n1 in t8
        n7 -> n1: we differ at 10; my terms end at 10@t3, 6@t2, 3@t1, 0@t0
        n1 -> n2: in t8: after 9@t6 comes 10@t6 e10 [commit 0]
        n1 -> n3: in t8: after 4@t4 comes 5@t4 e5 [commit 0]
        n1 -> n6: in t8: after 5@t4 comes 6@t5 e6, 7@t5 e7 [commit 0]
        n1 -> n7: in t8: after 3@t1 comes 4@t4 e4, 5@t4 e5 [commit 0]
        n2 appends 10@t6 e10
        n2 -> n1: I have all up to 10
        n3 appends 5@t4 e5
        n3 -> n1: I have all up to 5
        n6 cuts all after 5
        n6 appends 6@t5 e6, 7@t5 e7
        n6 -> n1: I have all up to 7
        n7 cuts all after 3
        n7 appends 4@t4 e4, 5@t4 e5
        n7 -> n1: I have all up to 5
        n1 -> n2: in t8: after 10@t6 comes 11@t8 no-op [commit 0]
        n1 -> n3: in t8: after 5@t4 comes 6@t5 e6, 7@t5 e7 [commit 0]
        n1 -> n3: in t8: after 7@t5 comes 8@t6 e8, 9@t6 e9, 10@t6 e10 [commit 0]
        n1 -> n3: in t8: after 10@t6 comes 11@t8 no-op [commit 0]
        n1 -> n6: in t8: after 7@t5 comes 8@t6 e8, 9@t6 e9, 10@t6 e10 [commit 0]
        n1 -> n6: in t8: after 10@t6 comes 11@t8 no-op [commit 0]
        n1 -> n7: in t8: after 5@t4 comes 6@t5 e6, 7@t5 e7 [commit 0]
        n1 -> n7: in t8: after 7@t5 comes 8@t6 e8, 9@t6 e9, 10@t6 e10 [commit 0]
        n1 -> n7: in t8: after 10@t6 comes 11@t8 no-op [commit 0]
        n2 appends 11@t8 no-op
        n2 -> n1: I have all up to 11
        n3 appends 6@t5 e6, 7@t5 e7
        n3 -> n1: I have all up to 7
        n3 appends 8@t6 e8, 9@t6 e9, 10@t6 e10
        n3 -> n1: I have all up to 10
        n3 appends 11@t8 no-op
        n3 -> n1: I have all up to 11
        n6 appends 8@t6 e8, 9@t6 e9, 10@t6 e10
        n6 -> n1: I have all up to 10
        n6 appends 11@t8 no-op
        n6 -> n1: I have all up to 11
        n7 appends 6@t5 e6, 7@t5 e7
        n7 -> n1: I have all up to 7
        n7 appends 8@t6 e8, 9@t6 e9, 10@t6 e10
        n7 -> n1: I have all up to 10
        n7 appends 11@t8 no-op
        n7 -> n1: I have all up to 11
        n1 knows 11 committed
        n1 leads t8 and serves
        n1: 1 1 1 4 4 5 5 6 6 6 8
        n2: 1 1 1 4 4 5 5 6 6 6 8
        n3: 1 1 1 4 4 5 5 6 6 6 8
        n4: 1 1 1 4 4 5 5 6 6 6 8
        n5: 1 1 1 4 4 5 5 6 6 6 8
        n6: 1 1 1 4 4 5 5 6 6 6 8
        n7: 1 1 1 4 4 5 5 6 6 6 8
    "#]]);
}

/// A heartbeat tells what is committed, but it does not compare logs. A follower believes it only as
/// far as the leader knows that their logs agree: at the same index it might have another entry.
///
/// Raft paper, section 5.3 (why an append names the entry before); etcd caps it likewise.
#[test]
fn a_heartbeat_commits_only_what_is_known_to_agree() {
    let voters = first(3);
    let logs: [&[u64]; 3] = [&[1, 2, 2], &[1, 2, 2], &[1, 1, 1]];
    let disks = logs.iter().map(|terms| Disk {
        term: Term(2),
        ..Disk::holding(log_of(terms, &voters))
    });
    let mut stage = Stage::recovered(Settings::default(), disks.collect());
    stage.part(&[N3]);
    stage.times_out(N1);
    stage.run();
    stage.skip();
    // n3 hears a heartbeat before anything else. Its 2 and 3 are not the ones that are committed.
    stage.heal();
    stage.tell_heartbeats();
    stage.pass(110);
    stage.shows(expect![[r#"
        n1 -> n2: I lead t3; we agree up to 4 [commit 4]
        n1 -> n3: I lead t3; we agree up to 0 [commit 4]
        n2 knows 4 committed
        n2 -> n1: I hear you
        n3 follows n1 in t3
        n3 writes down t3, no vote
        n3 -> n1: I hear you
    "#]]);
    stage.pass(200);
    stage.shows(expect![[r#"
        n1 -> n2: I lead t3; we agree up to 4 [commit 4]
        n1 -> n3: I lead t3; we agree up to 0 [commit 4]
        n2 -> n1: I hear you
        n3 -> n1: I hear you
        n1 -> n3: in t3: have you 3@t2? [commit 4]
        n3 -> n1: we differ at 3; my terms end at 3@t1, 0@t0
        n1 -> n3: in t3: after 1@t1 comes 2@t2 e2, 3@t2 e3 [commit 4]
        n3 cuts all after 1
        n3 appends 2@t2 e2, 3@t2 e3
        n3 knows 3 committed
        n3 -> n1: I have all up to 3
        n1 -> n3: in t3: after 3@t2 comes 4@t3 no-op [commit 4]
        n3 appends 4@t3 no-op
        n3 knows 4 committed
        n3 -> n1: I have all up to 4
        n1 -> n2, n3: I lead t3; we agree up to 4 [commit 4]
        n2 -> n1: I hear you
        n3 -> n1: I hear you
    "#]]);
}

/// A leader keeps a log from its retention on. A follower that lacks what is no longer there begins
/// anew at the leader's first entry: it drops what it has, and takes over the term and the membership
/// of the place before that.
///
/// Raft paper, section 7; KIP-630 (a log that is its own data needs no other snapshot).
#[test]
fn a_follower_that_retention_has_overtaken_begins_anew() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    for text in ["x=1", "x=2", "x=3", "x=4"] {
        stage.propose(N1, text);
    }
    stage.run();
    stage.retain(N1, Index(4));
    stage.skip();
    stage.logs();
    stage.shows(expect![[r#"
        n1 has 4@t1 x=3, 5@t1 x=4
        n2 has 1@t1 no-op, 2@t1 x=1, 3@t1 x=2, 4@t1 x=3, 5@t1 x=4
        n3 has 1@t1 no-op
    "#]]);
    stage.heal();
    stage.heartbeats();
    stage.pass(300);
    stage.shows(expect![[r#"
        n2 knows 5 committed
        n1 -> n3: in t1: begin anew after 3@t1, with members (n1 n2 n3)
        n3 drops its log and begins anew after 3@t1
        n3 goes by members (n1 n2 n3) since 0
        n3 knows 3 committed
        n3 -> n1: I have all up to 3
        n1 -> n3: in t1: after 3@t1 comes 4@t1 x=3, 5@t1 x=4 [commit 5]
        n3 appends 4@t1 x=3, 5@t1 x=4
        n3 knows 5 committed
        n3 -> n1: I have all up to 5
    "#]]);
    stage.logs();
    stage.shows(expect![[r#"
        n1 has 4@t1 x=3, 5@t1 x=4
        n2 has 1@t1 no-op, 2@t1 x=1, 3@t1 x=2, 4@t1 x=3, 5@t1 x=4
        n3 has 4@t1 x=3, 5@t1 x=4
    "#]]);
}

/// A leader that cannot commit takes only so much more: it may be cut off, and what it collects would
/// be cut away by the next leader.
///
/// etcd's limit of uncommitted entries.
#[test]
fn a_leader_takes_only_so_much_that_it_cannot_commit() {
    let settings = Settings {
        uncommitted_bytes: 10,
        ..Settings::default()
    };
    let mut stage = Stage::led(3, settings);
    stage.part(&[N1]);
    for text in ["a=111", "b=222", "c=333"] {
        stage.propose(N1, text);
    }
    stage.shows(expect![[r#"
        n1 appends 2@t1 a=111
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 a=111 [commit 1] (lost)
        n1 appends 3@t1 b=222
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 b=222 [commit 1] (lost)
        n1 refuses c=333: too many bytes wait for being committed; try again when some are
    "#]]);
    stage.heal();
    stage.pass(300);
    stage.propose(N1, "c=333");
    stage.shows(expect![[r#"
        n1 -> n2, n3: in t1: have you 1@t1? [commit 1]
        n2 -> n1: I have all up to 1
        n3 -> n1: I have all up to 1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 a=111, 3@t1 b=222 [commit 1]
        n2 appends 2@t1 a=111, 3@t1 b=222
        n2 -> n1: I have all up to 3
        n3 appends 2@t1 a=111, 3@t1 b=222
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
        n2 knows 3 committed
        n3 knows 3 committed
        n1 appends 4@t1 c=333
        n1 -> n2, n3: in t1: after 3@t1 comes 4@t1 c=333 [commit 3]
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
        n2 appends 4@t1 c=333
        n2 -> n1: I have all up to 4
        n3 appends 4@t1 c=333
        n3 -> n1: I have all up to 4
        n1 knows 4 committed
    "#]]);
}
