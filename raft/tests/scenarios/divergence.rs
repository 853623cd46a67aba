//! What becomes of logs that differ: which entries are safe, and how the others go.

use expect_test::expect;
use raft::{Settings, Term};

use crate::actor::Disk;
use crate::stage::{N1, N2, N3, N4, N5, Stage, first, log_of};

/// n1 to the last, with logs of these terms, and all of them in this term.
fn with_logs(term: u64, logs: &[&[u64]]) -> Stage {
    let nodes = u32::try_from(logs.len()).expect("they are few");
    let voters = first(nodes);
    let disks = logs.iter().map(|terms| Disk {
        term: Term(term),
        ..Disk::holding(log_of(terms, &voters))
    });
    Stage::recovered(Settings::default(), disks.collect())
}

/// However logs have come apart, a new leader finds out in one round trip where: the follower answers
/// with the ends of its last terms, and the last place that both logs have is the lesser of the two
/// ends of the latest term that both know. Here are the logs of the paper's figure 7: n1 is its
/// leader, n2 to n7 are its (a) to (f).
///
/// Raft paper, section 5.3, figure 7; KIP-101, KIP-279, KIP-595.
#[test]
fn logs_that_came_apart_meet_again_in_one_round_trip() {
    let mut stage = with_logs(
        7,
        &[
            &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
            &[1, 1, 1, 4, 4, 5, 5, 6, 6],
            &[1, 1, 1, 4],
            &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            &[1, 1, 1, 4, 4, 4, 4],
            &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ],
    );
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

/// The moment (c) of the paper's figure 8: n1 leads t4, and the entry 2@t2 that it once appended in
/// another term is on a majority of disks at last, n1's, n2's and n3's. Its own no-op, 3@t4, is on
/// its way.
fn figure_8() -> Stage {
    let mut stage = with_logs(3, &[&[1, 2], &[1, 2], &[1], &[1], &[1, 3]]);
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

/// A heartbeat tells what is committed, but it does not compare logs. A follower believes it only as
/// far as the leader knows that their logs agree: at the same index it might have another entry.
///
/// Raft paper, section 5.3 (why an append names the entry before); etcd caps it likewise.
#[test]
fn a_heartbeat_commits_only_what_is_known_to_agree() {
    let mut stage = with_logs(2, &[&[1, 2, 2], &[1, 2, 2], &[1, 1, 1]]);
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
        n3 writes down t3, no vote
        n3 follows n1 in t3
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
