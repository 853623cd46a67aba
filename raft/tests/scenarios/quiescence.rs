//! Groups with nothing to do say nothing.

use std::time::Duration;

use expect_test::expect;
use raft::{Hint, Settings};

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
