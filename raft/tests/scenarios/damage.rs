//! A disk that has lost what it had acknowledged.

use expect_test::expect;
use raft::{Index, Settings};

use crate::stage::{N1, N2, N3, Stage};

/// Raft trusts that an entry that was acknowledged is still there. A replica that finds its log
/// damaged has broken that, and could elect a leader without a committed entry: x=1 is on n1 and n2,
/// n2 loses it, and n3, which never had it, asks n2. So n2 abstains. It follows, and tells the leader,
/// which counts it for nothing; when it has all that the leader had on hearing of the damage, whatever
/// it lost is here again, and it votes again.
///
/// Alagappan et al., Protocol-Aware Recovery for Consensus-Based Storage, FAST 2018.
#[test]
fn a_damaged_replica_abstains_until_it_is_cured() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    stage.propose(N1, "x=1");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n1 -> n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1] (lost)
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.crash(N1);
    stage.crash(N2);
    stage.restart_damaged(N2, Index(1));
    stage.heal();
    stage.times_out(N3);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n2 is down
        n2 is up again, its log damaged, in t1; its log ends at 1@t1
        n3 is a pre-candidate in t1
        n3 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n2: would you vote for me in t2? My log ends at 1@t1
        n2 -> n3: no, I would not
    "#]]);
    // Nor does it ask for votes itself.
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n2 -> n1: who leads? I may not ask to be elected (lost)
        n2 -> n3: who leads? I may not ask to be elected
    "#]]);
    // n1 is back. Without n2 it needs n3 to be elected and to commit, and n3 is enough.
    stage.restart(N1);
    stage.times_out(N1);
    stage.run();
    stage.shows(expect![[r#"
        n1 is up again, in t1; its log ends at 2@t1
        n1 is a pre-candidate in t1
        n1 -> n2, n3: would you vote for me in t2? My log ends at 2@t1
        n2 -> n1: no, I would not
        n3 -> n1: yes, in t2 I would
        n1 writes down t2, vote for n1
        n1 is a candidate in t2
        n1 -> n2, n3: vote for me in t2! My log ends at 2@t1
        n2 writes down t2, no vote
        n2 -> n1: not my vote, in t2
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n1
        n3 -> n1: you have my vote in t2
        n1 is elected in t2
        n1 appends 3@t2 no-op
        n1 -> n2, n3: in t2: after 2@t1 comes 3@t2 no-op [commit 0]
        n2 follows n1 in t2
        n2 -> n1: we differ at 2; my terms end at 1@t1, 0@t0; my log is damaged
        n3 follows n1 in t2
        n3 -> n1: we differ at 2; my terms end at 1@t1, 0@t0
        n1 -> n2: in t2: after 1@t1 comes 2@t1 x=1 [commit 0, whole with 3]
        n1 -> n3: in t2: after 1@t1 comes 2@t1 x=1 [commit 0]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2; my log is damaged
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 -> n2: in t2: after 2@t1 comes 3@t2 no-op [commit 0, whole with 3]
        n1 -> n3: in t2: after 2@t1 comes 3@t2 no-op [commit 0]
        n2 appends 3@t2 no-op
        n2 -> n1: I have all up to 3; my log is damaged
        n2 is whole again
        n3 appends 3@t2 no-op
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 leads t2 and serves
    "#]]);
    stage.heartbeats();
    stage.logs();
    stage.shows(expect![[r#"
        n2 knows 3 committed
        n3 knows 3 committed
        n1 has 1@t1 no-op, 2@t1 x=1, 3@t2 no-op
        n2 has 1@t1 no-op, 2@t1 x=1, 3@t2 no-op
        n3 has 1@t1 no-op, 2@t1 x=1, 3@t2 no-op
    "#]]);
}

/// What a damaged replica acknowledges is not counted before it is cured, as if it were not there.
///
/// Alagappan et al., FAST 2018.
#[test]
fn a_damaged_replica_does_not_count_for_commit() {
    let mut stage = Stage::led(3, Settings::default());
    stage.propose(N1, "x=1");
    stage.run();
    stage.heartbeats();
    stage.skip();
    stage.part(&[N3]);
    stage.crash(N2);
    stage.restart_damaged(N2, Index(1));
    // Its disk is slow to take what it lacks.
    stage.hold_disk(N2);
    stage.propose(N1, "x=2");
    stage.run();
    stage.heartbeats();
    stage.pass(100);
    stage.shows(expect![[r#"
        n2 is down
        n2 is up again, its log damaged, in t1; its log ends at 1@t1
        n1 appends 3@t1 x=2
        n1 -> n2: in t1: after 2@t1 comes 3@t1 x=2 [commit 2]
        n1 -> n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 2] (lost)
        n2 follows n1 in t1
        n2 -> n1: we differ at 2; my terms end at 1@t1, 0@t0; my log is damaged
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1, 3@t1 x=2 [commit 2, whole with 3]
        n2 appends 2@t1 x=1, 3@t1 x=2
        n2 knows 2 committed
        n1 -> n2: in t1: have you 1@t1? [commit 2, whole with 3]
        n1 -> n3: in t1: have you 2@t1? [commit 2] (lost)
        n2 -> n1: I have all up to 1; my log is damaged
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1, 3@t1 x=2 [commit 2, whole with 3]
    "#]]);
    stage.release_disk(N2);
    stage.run();
    stage.heartbeats();
    stage.shows(expect![[r#"
        n2's disk is done
        n2 -> n1: I have all up to 3; my log is damaged
        n2 -> n1: I have all up to 3; my log is damaged
        n2 is whole again
        n1 knows 3 committed
        n1 -> n3: in t1: have you 2@t1? [commit 3] (lost)
        n2 knows 3 committed
    "#]]);
}

/// A write that failed is not tried again: what the disk holds after that, nobody knows. The replica
/// says nothing more; the process starts again and looks what is there.
///
/// Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020.
#[test]
fn a_failed_write_is_the_end() {
    let mut stage = Stage::led(3, Settings::default());
    stage.hold_disk(N2);
    stage.propose(N1, "x=1");
    stage.run();
    stage.fail_disk(N2);
    stage.propose(N1, "x=2");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n2 stops: write 3 failed: restart, so that what the disk really holds is found out
        n1 appends 3@t1 x=2
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 2]
        n3 appends 3@t1 x=2
        n3 knows 2 committed
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
    "#]]);
    stage.crash(N2);
    stage.restart(N2);
    stage.pass(300);
    stage.shows(expect![[r#"
        n2 is down
        n2 is up again, in t1; its log ends at 1@t1
        n2 follows n1 in t1
        n2 knows 1 committed
        n3 knows 3 committed
        n1 -> n2: in t1: have you 1@t1? [commit 3]
        n2 -> n1: I have all up to 1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1, 3@t1 x=2 [commit 3]
        n2 appends 2@t1 x=1, 3@t1 x=2
        n2 knows 3 committed
        n2 -> n1: I have all up to 3
    "#]]);
}
