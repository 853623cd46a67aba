//! Who votes, and changes of that while the group works.

use expect_test::expect;
use raft::Settings;

use crate::actor::{Disk, Entries};
use crate::stage::{N1, N2, N3, N4, N5, Stage, replica};

/// From n1, n2 and n3 to n1, n4 and n5. If each went by the new members at a moment of its own, the
/// old and the new majority could decide different things. So for a while both count: an entry that
/// says so needs a majority of each, and when it has that, a second one leaves the old voters behind.
/// A membership is in force where it is appended, committed or not.
///
/// Raft paper, section 6; thesis, section 4.3.
#[test]
fn a_replacement_needs_both_majorities() {
    let mut stage = Stage::led_with_newcomers(&[N4, N5]);
    stage.change(N1, &[N1, N2, N3], &[N4, N5]);
    stage.run();
    stage.heartbeats();
    stage.skip();
    // n4 and n5 cannot be reached: n1, n2 and n3 are a majority of the old ones only.
    stage.part(&[N4, N5]);
    stage.change(N1, &[N1, N4, N5], &[]);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 3@t1 members (n1 n2 n3) -> (n1 n4 n5)
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n4 n5) [commit 2]
        n1 -> n4, n5: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n4 n5) [commit 2] (lost)
        n1 goes by members (n1 n2 n3) -> (n1 n4 n5) since 3
        n2 appends 3@t1 members (n1 n2 n3) -> (n1 n4 n5)
        n2 goes by members (n1 n2 n3) -> (n1 n4 n5) since 3
        n2 -> n1: I have all up to 3
        n3 appends 3@t1 members (n1 n2 n3) -> (n1 n4 n5)
        n3 goes by members (n1 n2 n3) -> (n1 n4 n5) since 3
        n3 -> n1: I have all up to 3
    "#]]);
    // Nor can another change begin.
    stage.change(N1, &[N1, N2], &[]);
    stage.shows(expect![[r#"
        n1 refuses the change: another membership change is under way; wait for its end
    "#]]);
    stage.heal();
    stage.part(&[N5]);
    stage.pass(260);
    stage.shows(expect![[r#"
        n1 -> n4: in t1: have you 2@t1? [commit 2]
        n1 -> n5: in t1: have you 2@t1? [commit 2] (lost)
        n4 -> n1: I have all up to 2
        n1 -> n4: in t1: after 2@t1 comes 3@t1 members (n1 n2 n3) -> (n1 n4 n5) [commit 2]
        n4 appends 3@t1 members (n1 n2 n3) -> (n1 n4 n5)
        n4 goes by members (n1 n2 n3) -> (n1 n4 n5) since 3
        n4 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 appends 4@t1 members (n1 n4 n5)
        n1 -> n2, n3, n4: in t1: after 3@t1 comes 4@t1 members (n1 n4 n5) [commit 3]
        n1 goes by members (n1 n4 n5) since 4
        n2 appends 4@t1 members (n1 n4 n5)
        n2 goes by members (n1 n4 n5) since 4
        n2 knows 3 committed
        n2 -> n1: I have all up to 4
        n3 appends 4@t1 members (n1 n4 n5)
        n3 goes by members (n1 n4 n5) since 4
        n3 knows 3 committed
        n3 -> n1: I have all up to 4
        n4 appends 4@t1 members (n1 n4 n5)
        n4 goes by members (n1 n4 n5) since 4
        n4 knows 3 committed
        n4 -> n1: I have all up to 4
        n1 knows 4 committed
        n1 has done the change
    "#]]);
    // n2 and n3 are not needed any more: n1 and n4 are the majority.
    stage.crash(N2);
    stage.crash(N3);
    stage.propose(N1, "x=1");
    stage.run();
    stage.shows(expect![[r#"
        n2 is down
        n3 is down
        n1 appends 5@t1 x=1
        n1 -> n4: in t1: after 4@t1 comes 5@t1 x=1 [commit 4]
        n4 appends 5@t1 x=1
        n4 knows 4 committed
        n4 -> n1: I have all up to 5
        n1 knows 5 committed
    "#]]);
}

/// A membership that is cut from the log is not in force any more; the one before it is again.
///
/// Raft paper, section 6; thesis, section 4.1.
#[test]
fn a_change_that_is_cut_is_undone() {
    let mut stage = Stage::led_with_newcomers(&[N4]);
    stage.part(&[N1]);
    stage.change(N1, &[N1, N2, N3], &[N4]);
    stage.shows(expect![[r#"
        n1 appends 2@t1 members (n1 n2 n3) + (n4)
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) + (n4) [commit 1] (lost)
        n1 goes by members (n1 n2 n3) + (n4) since 2
        n1 -> n4: in t1: have you 2@t1? [commit 1] (lost)
    "#]]);
    stage.times_out(N2);
    stage.run();
    stage.skip();
    stage.heal();
    stage.pass(300);
    stage.shows(expect![[r#"
        n1 -> n2, n3: in t1: have you 1@t1? [commit 1]
        n1 -> n4: in t1: have you 2@t1? [commit 1]
        n1 refuses the change: leadership was lost in the meantime; look whether it was done before trying again
        n1 is a follower without leader in t1
        n2 -> n1: your term is over, it is t2
        n3 -> n1: your term is over, it is t2
        n4 writes down t1, no vote
        n4 follows n1 in t1
        n4 -> n1: we differ at 2; my terms end at 0@t0
        n1 writes down t2, no vote
        n1 follows n2 in t2
        n3 knows 2 committed
        n2 -> n1: in t2: have you 1@t1? [commit 2]
        n1 -> n2: I have all up to 1
        n2 -> n1: in t2: after 1@t1 comes 2@t2 no-op [commit 2]
        n1 cuts all after 1
        n1 goes by members (n1 n2 n3) since 0
        n1 appends 2@t2 no-op
        n1 knows 2 committed
        n1 -> n2: I have all up to 2
    "#]]);
}

/// A leader may lead its own removal. It does not count itself for the entry that removes it, and
/// leads until that is committed; then it steps down, and the others elect one of themselves.
///
/// Raft paper, section 6; thesis, section 4.2.2.
#[test]
fn a_leader_removes_itself() {
    let mut stage = Stage::led(3, Settings::default());
    stage.change(N1, &[N2, N3], &[]);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 members (n1 n2 n3) -> (n2 n3)
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) -> (n2 n3) [commit 1]
        n1 goes by members (n1 n2 n3) -> (n2 n3) since 2
        n2 appends 2@t1 members (n1 n2 n3) -> (n2 n3)
        n2 goes by members (n1 n2 n3) -> (n2 n3) since 2
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 members (n1 n2 n3) -> (n2 n3)
        n3 goes by members (n1 n2 n3) -> (n2 n3) since 2
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 appends 3@t1 members (n2 n3)
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 members (n2 n3) [commit 2]
        n1 goes by members (n2 n3) since 3
        n2 appends 3@t1 members (n2 n3)
        n2 goes by members (n2 n3) since 3
        n2 knows 2 committed
        n2 -> n1: I have all up to 3
        n3 appends 3@t1 members (n2 n3)
        n3 goes by members (n2 n3) since 3
        n3 knows 2 committed
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 has done the change
        n1 is a follower without leader in t1
        n2 knows 3 committed
        n3 knows 3 committed
    "#]]);
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n2 is a pre-candidate in t1
        n2 -> n3: would you vote for me in t2? My log ends at 3@t1
        n3 -> n2: yes, in t2 I would
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n3: vote for me in t2! My log ends at 3@t1
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 4@t2 no-op
        n2 -> n3: in t2: after 3@t1 comes 4@t2 no-op [commit 3]
        n3 follows n2 in t2
        n3 appends 4@t2 no-op
        n3 -> n2: I have all up to 4
        n2 knows 4 committed
        n2 leads t2 and serves
    "#]]);
    // n1 does not vote, and asks nobody.
    stage.times_out(N1);
    stage.shows(expect![[""]]);
}

/// One that is being removed may still be needed: as long as its removal is not committed, nobody else
/// may have a log that a majority would elect. Here the group moves from n1 to n2. The last entry of
/// that is on n1 alone, and n1 restarts: n2 lacks it and cannot be elected, so n1 must be, although it
/// has no vote in its own latest membership and does not count itself.
///
/// Thesis, section 4.2.2.
#[test]
fn one_that_is_being_removed_may_still_be_elected() {
    let mut stage = Stage::led(1, Settings::default());
    stage.enter(N2, Disk::holding(Entries::founded_by(&[])));
    stage.change(N1, &[N1], &[N2]);
    stage.run();
    stage.heartbeats();
    stage.skip();
    stage.change(N1, &[N2], &[]);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.lose(N1, N2);
    stage.shows(expect![[r#"
        n1 appends 3@t1 members (n1) -> (n2)
        n1 -> n2: in t1: after 2@t1 comes 3@t1 members (n1) -> (n2) [commit 2]
        n1 goes by members (n1) -> (n2) since 3
        n2 appends 3@t1 members (n1) -> (n2)
        n2 goes by members (n1) -> (n2) since 3
        n2 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 appends 4@t1 members (n2)
        n1 -> n2: in t1: after 3@t1 comes 4@t1 members (n2) [commit 3]
        n1 goes by members (n2) since 4
    "#]]);
    stage.crash(N1);
    stage.restart(N1);
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n1 is up again, in t1; its log ends at 4@t1
        n2 is a pre-candidate in t1
        n2 -> n1: would you vote for me in t2? My log ends at 3@t1
        n1 -> n2: no, I would not
    "#]]);
    stage.times_out(N1);
    stage.run();
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t1
        n1 -> n2: would you vote for me in t2? My log ends at 4@t1
        n2 -> n1: yes, in t2 I would
        n1 writes down t2, vote for n1
        n1 is a candidate in t2
        n1 -> n2: vote for me in t2! My log ends at 4@t1
        n2 is a follower without leader in t2
        n2 writes down t2, vote for n1
        n2 -> n1: you have my vote in t2
        n1 is elected in t2
        n1 appends 5@t2 no-op
        n1 -> n2: in t2: after 4@t1 comes 5@t2 no-op [commit 0]
        n2 follows n1 in t2
        n2 -> n1: we differ at 4; my terms end at 3@t1, 0@t0
        n1 -> n2: in t2: after 3@t1 comes 4@t1 members (n2) [commit 0]
        n2 appends 4@t1 members (n2)
        n2 goes by members (n2) since 4
        n2 -> n1: I have all up to 4
        n1 -> n2: in t2: after 4@t1 comes 5@t2 no-op [commit 0]
        n2 appends 5@t2 no-op
        n2 -> n1: I have all up to 5
        n1 knows 5 committed
        n1 leads t2 and serves
        n1 is a follower without leader in t2
        n2 knows 5 committed
    "#]]);
    // From here on n2 is the group.
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n2 is a pre-candidate in t2
        n2 writes down t3, vote for n2
        n2 is a candidate in t3
        n2 is elected in t3
        n2 appends 6@t3 no-op
        n2 knows 6 committed
        n2 leads t3 and serves
    "#]]);
}

/// One that was removed may not know it: nobody tells it any more. It asks for votes for ever, and the
/// others, who hear their leader, refuse.
///
/// Thesis, section 4.2.3.
#[test]
fn a_replica_that_was_removed_disturbs_nobody() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    stage.change(N1, &[N1, N2], &[]);
    stage.run();
    stage.heartbeats();
    stage.shows(expect![[r#"
        n1 appends 2@t1 members (n1 n2 n3) -> (n1 n2)
        n1 -> n2: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) -> (n1 n2) [commit 1]
        n1 -> n3: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) -> (n1 n2) [commit 1] (lost)
        n1 goes by members (n1 n2 n3) -> (n1 n2) since 2
        n2 appends 2@t1 members (n1 n2 n3) -> (n1 n2)
        n2 goes by members (n1 n2 n3) -> (n1 n2) since 2
        n2 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 appends 3@t1 members (n1 n2)
        n1 -> n2: in t1: after 2@t1 comes 3@t1 members (n1 n2) [commit 2]
        n1 -> n3: in t1: after 2@t1 comes 3@t1 members (n1 n2) [commit 2] (lost)
        n1 goes by members (n1 n2) since 3
        n2 appends 3@t1 members (n1 n2)
        n2 goes by members (n1 n2) since 3
        n2 knows 2 committed
        n2 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 has done the change
        n2 knows 3 committed
    "#]]);
    stage.heal();
    stage.times_out(N3);
    stage.run();
    stage.shows(expect![[r#"
        n3 is a pre-candidate in t1
        n3 -> n1, n2: would you vote for me in t2? My log ends at 1@t1
        n1 -> n3: no, I would not
        n2 -> n3: no, I would not
    "#]]);
}

/// A node has lost its disk and begins with an empty one. What comes up there is not n3, which had
/// acknowledged x=1, but another replica with another name, n3#1: it gives no vote that n3 had to
/// give, and what is said to n3 it does not take for itself. (If it voted as n3, then n2 could be
/// elected here, and x=1 would be lost.) It joins as any other newcomer does, while n3 is removed.
///
/// KIP-853 (directory ids).
#[test]
fn a_replica_that_lost_its_disk_is_another_one() {
    let again = replica(3, 1);
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N2]);
    stage.propose(N1, "x=1");
    stage.deliver(N1, N3);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 1] (lost)
        n1 -> n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.crash(N1);
    stage.leave(N3);
    stage.enter(again, Disk::holding(Entries::founded_by(&[])));
    stage.heal();
    stage.times_out(N2);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n2 is a pre-candidate in t1
        n2 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n2 -> n3: would you vote for me in t2? My log ends at 1@t1
    "#]]);
    // n1 is back, is elected, and replaces n3.
    stage.restart(N1);
    stage.times_out(N1);
    stage.run();
    stage.change(N1, &[N1, N2], &[again]);
    stage.run();
    stage.heartbeats();
    stage.skip();
    stage.change(N1, &[N1, N2, again], &[]);
    stage.run();
    stage.heartbeats();
    stage.shows(expect![[r#"
        n1 appends 6@t2 members (n1 n2) -> (n1 n2 n3#1)
        n1 -> n2, n3#1: in t2: after 5@t2 comes 6@t2 members (n1 n2) -> (n1 n2 n3#1) [commit 5]
        n1 goes by members (n1 n2) -> (n1 n2 n3#1) since 6
        n2 appends 6@t2 members (n1 n2) -> (n1 n2 n3#1)
        n2 goes by members (n1 n2) -> (n1 n2 n3#1) since 6
        n2 -> n1: I have all up to 6
        n3#1 appends 6@t2 members (n1 n2) -> (n1 n2 n3#1)
        n3#1 goes by members (n1 n2) -> (n1 n2 n3#1) since 6
        n3#1 -> n1: I have all up to 6
        n1 knows 6 committed
        n1 appends 7@t2 members (n1 n2 n3#1)
        n1 -> n2, n3#1: in t2: after 6@t2 comes 7@t2 members (n1 n2 n3#1) [commit 6]
        n1 goes by members (n1 n2 n3#1) since 7
        n2 appends 7@t2 members (n1 n2 n3#1)
        n2 goes by members (n1 n2 n3#1) since 7
        n2 knows 6 committed
        n2 -> n1: I have all up to 7
        n3#1 appends 7@t2 members (n1 n2 n3#1)
        n3#1 goes by members (n1 n2 n3#1) since 7
        n3#1 knows 6 committed
        n3#1 -> n1: I have all up to 7
        n1 knows 7 committed
        n1 has done the change
        n2 knows 7 committed
        n3#1 knows 7 committed
    "#]]);
}

/// A leader changes nothing before an entry of its own term is committed. Else two leaders could each
/// change the same old membership by one, and the two results have majorities that do not meet.
///
/// Ongaro's correction of 2015 to the thesis, section 4.1.
#[test]
fn a_new_leader_changes_nothing_before_its_no_op_is_committed() {
    let mut stage = Stage::of(3);
    stage.times_out(N1);
    stage.lose(N1, N3);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.lose(N1, N3);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t0
        n1 -> n2, n3: would you vote for me in t1? My log ends at 0@t0
        n2 -> n1: yes, in t1 I would
        n1 writes down t1, vote for n1
        n1 is a candidate in t1
        n1 -> n2, n3: vote for me in t1! My log ends at 0@t0
        n2 writes down t1, vote for n1
        n2 -> n1: you have my vote in t1
        n1 is elected in t1
        n1 appends 1@t1 no-op
        n1 -> n2, n3: in t1: after 0@t0 comes 1@t1 no-op [commit 0]
    "#]]);
    stage.change(N1, &[N1, N2], &[]);
    stage.shows(expect![[r#"
        n1 refuses the change: the leader is not ready to serve yet: nothing of its term is committed; try again
    "#]]);
    stage.run();
    stage.skip();
    stage.change(N1, &[N1, N2], &[]);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 members (n1 n2 n3) -> (n1 n2)
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 members (n1 n2 n3) -> (n1 n2) [commit 1]
        n1 goes by members (n1 n2 n3) -> (n1 n2) since 2
        n2 appends 2@t1 members (n1 n2 n3) -> (n1 n2)
        n2 goes by members (n1 n2 n3) -> (n1 n2) since 2
        n2 knows 1 committed
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 members (n1 n2 n3) -> (n1 n2)
        n3 goes by members (n1 n2 n3) -> (n1 n2) since 2
        n3 knows 1 committed
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 appends 3@t1 members (n1 n2)
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 members (n1 n2) [commit 2]
        n1 goes by members (n1 n2) since 3
        n2 appends 3@t1 members (n1 n2)
        n2 goes by members (n1 n2) since 3
        n2 knows 2 committed
        n2 -> n1: I have all up to 3
        n3 appends 3@t1 members (n1 n2)
        n3 goes by members (n1 n2) since 3
        n3 knows 2 committed
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
        n1 has done the change
    "#]]);
}
