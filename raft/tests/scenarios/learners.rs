//! Replicas without a vote: how a group grows without waiting for the new ones.

use expect_test::expect;

use crate::stage::{N1, N2, N3, N4, Stage};

/// A new replica begins as a learner: it is sent the log, and counts for nothing. So it may take its
/// time, and the group does not wait for it.
///
/// Thesis, section 4.2.1.
#[test]
fn a_learner_follows_and_does_not_count() {
    let mut stage = Stage::led_with_newcomers(&[N4]);
    stage.change(N1, &[N1, N2, N3], &[N4]);
    stage.shows(expect![[r#"
        n1 appends 2@t1 members (n1 n2 n3) + (n4)
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) + (n4) [commit 1]
        n1 goes by members (n1 n2 n3) + (n4) since 2
        n1 -> n4: in t1: have you 2@t1? [commit 1]
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
        n2 appends 2@t1 members (n1 n2 n3) + (n4)
        n2 goes by members (n1 n2 n3) + (n4) since 2
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 members (n1 n2 n3) + (n4)
        n3 goes by members (n1 n2 n3) + (n4) since 2
        n3 -> n1: I have all up to 2
        n4 writes down t1, no vote
        n4 follows n1 in t1
        n4 -> n1: we differ at 2; my terms end at 0@t0
        n1 knows 2 committed
        n1 has done the change
        n1 -> n4: in t1: after 0@t0 comes 1@t1 no-op, 2@t1 members (n1 n2 n3) + (n4) [commit 2]
        n4 appends 1@t1 no-op, 2@t1 members (n1 n2 n3) + (n4)
        n4 goes by members (n1 n2 n3) + (n4) since 2
        n4 knows 2 committed
        n4 -> n1: I have all up to 2
    "#]]);
    // With n1 alone it is no majority.
    stage.part(&[N2, N3]);
    stage.propose(N1, "x=1");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 3@t1 x=1
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 x=1 [commit 2] (lost)
        n1 -> n4: in t1: after 2@t1 comes 3@t1 x=1 [commit 2]
        n4 appends 3@t1 x=1
        n4 -> n1: I have all up to 3
    "#]]);
    // Nor does it look for a leader.
    stage.crash(N1);
    stage.times_out(N4);
    stage.shows(expect![[r#"
        n1 is down
        n4 is a follower without leader in t1
        n4 -> n1, n2, n3: who leads? I may not ask to be elected (lost)
    "#]]);
}

/// It becomes a voter when it has what the leader has; before that, the change is refused.
///
/// Thesis, section 4.2.1.
#[test]
fn a_learner_is_promoted_when_it_has_caught_up() {
    let mut stage = Stage::led_with_newcomers(&[N4]);
    stage.hold_disk(N4);
    stage.change(N1, &[N1, N2, N3], &[N4]);
    stage.run();
    stage.skip();
    stage.change(N1, &[N1, N2, N3, N4], &[]);
    stage.shows(expect![[r#"
        n1 refuses the change: n4 has not caught up; wait until it has
    "#]]);
    stage.release_disk(N4);
    stage.run();
    stage.change(N1, &[N1, N2, N3, N4], &[]);
    stage.run();
    stage.shows(expect![[r#"
        n4's disk is done
        n4 -> n1: we differ at 2; my terms end at 0@t0
        n1 -> n4: in t1: after 0@t0 comes 1@t1 no-op, 2@t1 members (n1 n2 n3) + (n4) [commit 2]
        n4 appends 1@t1 no-op, 2@t1 members (n1 n2 n3) + (n4)
        n4 goes by members (n1 n2 n3) + (n4) since 2
        n4 knows 2 committed
        n4 -> n1: I have all up to 2
        n1 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n1 -> n2, n3, n4: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4) [commit 2]
        n1 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n2 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n2 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n2 knows 2 committed
        n2 -> n1: I have all up to 3
        n3 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n3 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n3 knows 2 committed
        n3 -> n1: I have all up to 3
        n4 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n4 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n4 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 appends 4@t1 members (n1 n2 n3 n4)
        n1 -> n2, n3, n4: in t1: after 3@t1 comes 4@t1 members (n1 n2 n3 n4) [commit 3]
        n1 goes by members (n1 n2 n3 n4) since 4
        n2 appends 4@t1 members (n1 n2 n3 n4)
        n2 goes by members (n1 n2 n3 n4) since 4
        n2 knows 3 committed
        n2 -> n1: I have all up to 4
        n3 appends 4@t1 members (n1 n2 n3 n4)
        n3 goes by members (n1 n2 n3 n4) since 4
        n3 knows 3 committed
        n3 -> n1: I have all up to 4
        n4 appends 4@t1 members (n1 n2 n3 n4)
        n4 goes by members (n1 n2 n3 n4) since 4
        n4 knows 3 committed
        n4 -> n1: I have all up to 4
        n1 knows 4 committed
        n1 has done the change
    "#]]);
}

/// A learner may be made a voter, and be needed, before it knows. So whoever is asked for its vote
/// gives it without looking whether it has one: it is the candidate's membership that counts.
///
/// Thesis, section 4.2.1 (a server votes whether or not it is in its own latest configuration).
#[test]
fn a_learner_votes_before_it_knows_that_it_may() {
    let mut stage = Stage::led_with_newcomers(&[N4]);
    stage.change(N1, &[N1, N2, N3], &[N4]);
    stage.run();
    stage.heartbeats();
    stage.skip();
    // n4 does not hear of its promotion.
    stage.part(&[N4]);
    stage.change(N1, &[N1, N2, N3, N4], &[]);
    stage.deliver(N1, N2);
    stage.deliver(N1, N3);
    stage.shows(expect![[r#"
        n1 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4) [commit 2]
        n1 -> n4: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4) [commit 2] (lost)
        n1 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n2 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n2 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n2 -> n1: I have all up to 3
        n3 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n3 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n3 -> n1: I have all up to 3
    "#]]);
    // n1 is gone: of n1 to n4, three are needed.
    stage.crash(N1);
    stage.heal();
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n2 is a pre-candidate in t1
        n2 -> n1: would you vote for me in t2? My log ends at 3@t1 (lost)
        n2 -> n3, n4: would you vote for me in t2? My log ends at 3@t1
        n3 -> n2: yes, in t2 I would
        n4 -> n2: yes, in t2 I would
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1: vote for me in t2! My log ends at 3@t1 (lost)
        n2 -> n3, n4: vote for me in t2! My log ends at 3@t1
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n4 is a follower without leader in t2
        n4 writes down t2, vote for n2
        n4 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 4@t2 no-op
        n2 -> n1: in t2: after 3@t1 comes 4@t2 no-op [commit 2] (lost)
        n2 -> n3, n4: in t2: after 3@t1 comes 4@t2 no-op [commit 2]
        n3 follows n2 in t2
        n3 appends 4@t2 no-op
        n3 -> n2: I have all up to 4
        n4 follows n2 in t2
        n4 -> n2: we differ at 3; my terms end at 2@t1, 0@t0
        n2 -> n4: in t2: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4) [commit 2]
        n4 appends 3@t1 members (n1 n2 n3) -> (n1 n2 n3 n4)
        n4 goes by members (n1 n2 n3) -> (n1 n2 n3 n4) since 3
        n4 -> n2: I have all up to 3
        n2 -> n4: in t2: after 3@t1 comes 4@t2 no-op [commit 2]
        n4 appends 4@t2 no-op
        n4 -> n2: I have all up to 4
        n2 knows 4 committed
        n2 leads t2 and serves
        n2 appends 5@t2 members (n1 n2 n3 n4)
        n2 -> n3, n4: in t2: after 4@t2 comes 5@t2 members (n1 n2 n3 n4) [commit 4]
        n2 goes by members (n1 n2 n3 n4) since 5
        n3 appends 5@t2 members (n1 n2 n3 n4)
        n3 goes by members (n1 n2 n3 n4) since 5
        n3 knows 4 committed
        n3 -> n2: I have all up to 5
        n4 appends 5@t2 members (n1 n2 n3 n4)
        n4 goes by members (n1 n2 n3 n4) since 5
        n4 knows 4 committed
        n4 -> n2: I have all up to 5
        n2 knows 5 committed
    "#]]);
}
