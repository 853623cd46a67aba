//! Groups with nothing to do say nothing.

use std::time::Duration;

use expect_test::expect;
use raft::{Hint, Index, Settings};

use crate::stage::{N1, N2, N3, Stage};

fn quiet() -> Stage {
    let settings = Settings {
        quiesce_after: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    Stage::led(3, settings)
}

/// A leader that was not asked for anything for a while, and whose followers have everything, says so
/// once more. From there on nobody has a deadline: ten thousand idle groups cost nothing.
///
/// CockroachDB's quiescence; TiKV's hibernating regions.
#[test]
fn an_idle_group_falls_quiet() {
    let mut stage = quiet();
    stage.pass(1_500);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1 and fall quiet; we agree up to 1 [commit 1]
    "#]]);
    assert!([N1, N2, N3].iter().all(|id| stage.group(*id).is_quiet()));
    // It stays so, however long.
    stage.pass(3_600_000);
    stage.shows(expect![[""]]);
}

/// A proposal wakes the leader, and its messages the others.
#[test]
fn a_proposal_wakes_it() {
    let mut stage = quiet();
    stage.pass(60_000);
    stage.skip();
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
    assert!([N1, N2, N3].iter().all(|id| !stage.group(*id).is_quiet()));
}

/// Nobody misses a quiet leader. That its node is dead is known to membership, which tells those who
/// followed it: they count the time again, and elect another one.
#[test]
fn a_hint_that_the_leader_is_dead_wakes_its_followers() {
    let mut stage = quiet();
    stage.pass(60_000);
    stage.crash(N1);
    stage.pass(60_000);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1 and fall quiet; we agree up to 1 [commit 1]
        n1 is down
    "#]]);
    stage.hint(N2, N1, Hint::Silent);
    stage.hint(N3, N1, Hint::Silent);
    stage.pass(1_000);
    stage.shows(expect![[r#"
        n2 is a pre-candidate in t1
        n2 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n2 -> n3: would you vote for me in t2? My log ends at 1@t1
        n3 -> n2: yes, in t2 I would
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1: vote for me in t2! My log ends at 1@t1 (lost)
        n2 -> n3: vote for me in t2! My log ends at 1@t1
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 2@t2 no-op
        n2 -> n1: in t2: after 1@t1 comes 2@t2 no-op [commit 1] (lost)
        n2 -> n3: in t2: after 1@t1 comes 2@t2 no-op [commit 1]
        n3 follows n2 in t2
        n3 appends 2@t2 no-op
        n3 -> n2: I have all up to 2
        n2 knows 2 committed
        n2 leads t2 and serves
        n3 knows 2 committed
        n2 -> n1: in t2: have you 1@t1? [commit 2] (lost)
    "#]]);
}

/// One that wakes while its leader is well asks whether it would be elected, and that wakes the
/// leader: nothing else comes of it. So a wrong hint does no harm.
#[test]
fn a_wrong_hint_does_no_harm() {
    let mut stage = quiet();
    stage.pass(60_000);
    stage.skip();
    stage.hint(N3, N1, Hint::Silent);
    stage.pass(900);
    stage.shows(expect![[r#"
        n3 is a pre-candidate in t1
        n3 -> n1, n2: would you vote for me in t2? My log ends at 1@t1
        n1 -> n3: no, I would not
        n2 -> n3: no, I would not
        n3 follows n1 in t1
    "#]]);
    stage.pass(60_000);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1 and fall quiet; we agree up to 1 [commit 1]
    "#]]);
    assert!([N1, N2, N3].iter().all(|id| stage.group(*id).is_quiet()));
}

/// A member whose node is known to be dead keeps nobody awake. When it is back it misses its leader,
/// and says so; that wakes the group, and it is sent what it lacks.
#[test]
fn a_dead_member_keeps_nobody_awake() {
    let mut stage = quiet();
    stage.crash(N3);
    stage.propose(N1, "x=1");
    stage.run();
    stage.hint(N1, N3, Hint::Silent);
    stage.hint(N2, N3, Hint::Silent);
    stage.skip();
    stage.pass(60_000);
    stage.shows(expect![[r#"
        n2 knows 2 committed
        n1 -> n3: in t1: have you 1@t1? [commit 2] (lost)
        n1 -> n3: in t1: have you 1@t1? [commit 2] (lost)
        n1 -> n3: in t1: have you 1@t1? [commit 2] (lost)
        n1 -> n3: in t1: have you 1@t1? [commit 2] (lost)
        n1 -> n2: I lead t1 and fall quiet; we agree up to 2 [commit 2]
        n1 -> n3: I lead t1 and fall quiet; we agree up to 1 [commit 2] (lost)
    "#]]);
    assert!([N1, N2].iter().all(|id| stage.group(*id).is_quiet()));
    stage.restart(N3);
    stage.pass(1_000);
    stage.shows(expect![[r#"
        n3 is up again, in t1; its log ends at 1@t1
        n3 is a pre-candidate in t1
        n3 -> n1, n2: would you vote for me in t2? My log ends at 1@t1
        n1 -> n3: no, I would not
        n2 -> n3: no, I would not
        n3 follows n1 in t1
        n3 knows 1 committed
        n1 -> n3: in t1: have you 1@t1? [commit 2]
        n3 -> n1: I have all up to 1
        n1 -> n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 2]
        n3 appends 2@t1 x=1
        n3 knows 2 committed
        n3 -> n1: I have all up to 2
    "#]]);
}

/// The leader of a quiet group may come back with a damaged log before anybody has missed it. It may
/// not lead, and nobody else has a reason to; so it asks who leads, which wakes the others.
#[test]
fn a_quiet_leader_that_comes_back_damaged_wakes_the_others() {
    let mut stage = quiet();
    stage.propose(N1, "x=1");
    stage.pass(60_000);
    stage.skip();
    stage.crash(N1);
    stage.restart_damaged(N1, Index(1));
    stage.pass(2_000);
    stage.shows(expect![[r#"
        n1 is down
        n1 is up again, its log damaged, in t1; its log ends at 1@t1
        n1 -> n2, n3: who leads? I may not ask to be elected
        n1 -> n2, n3: who leads? I may not ask to be elected
        n2 is a pre-candidate in t1
        n2 -> n1, n3: would you vote for me in t2? My log ends at 2@t1
        n1 -> n2: no, I would not
        n3 -> n2: yes, in t2 I would
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1, n3: vote for me in t2! My log ends at 2@t1
        n1 writes down t2, no vote
        n1 -> n2: not my vote, in t2
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 3@t2 no-op
        n2 -> n1, n3: in t2: after 2@t1 comes 3@t2 no-op [commit 2]
        n1 follows n2 in t2
        n1 -> n2: we differ at 2; my terms end at 1@t1, 0@t0; my log is damaged
        n3 follows n2 in t2
        n3 appends 3@t2 no-op
        n3 -> n2: I have all up to 3
        n2 -> n1: in t2: after 1@t1 comes 2@t1 x=1 [commit 2, whole with 3]
        n2 knows 3 committed
        n2 leads t2 and serves
        n1 appends 2@t1 x=1
        n1 knows 2 committed
        n1 -> n2: I have all up to 2; my log is damaged
        n2 -> n1: in t2: after 2@t1 comes 3@t2 no-op [commit 3, whole with 3]
        n1 appends 3@t2 no-op
        n1 knows 3 committed
        n1 -> n2: I have all up to 3; my log is damaged
        n1 is whole again
        n3 knows 3 committed
    "#]]);
}
