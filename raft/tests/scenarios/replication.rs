//! How logs become the same, and when an entry is committed.

use expect_test::expect;
use raft::{Index, Settings};

use crate::stage::{N1, N2, N3, Stage};

/// A leader sends an entry while its own disk still writes it. Committed is what a majority has on
/// disk; the leader is one of them or is not.
///
/// Raft paper, section 5.3; thesis, section 10.2.1.
#[test]
fn a_majority_of_disks_commits_whichever_they_are() {
    let mut stage = Stage::led(3, Settings::default());
    // The leader's disk is the slow one. With n2 alone there is one copy, with n3 there are two.
    stage.hold_disk(N1);
    stage.propose(N1, "x=1");
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
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

/// Only so much is under way to a follower at a time, in messages and in bytes: a slow one is not
/// buried. What it answers makes room, and what has gathered meanwhile goes together.
///
/// etcd's progress (in-flight limits).
#[test]
fn a_slow_follower_has_only_so_much_under_way() {
    let settings = Settings {
        in_flight_messages: 2,
        ..Settings::default()
    };
    let mut stage = Stage::led(3, settings);
    stage.part(&[N3]);
    for text in ["x=1", "x=2", "x=3", "x=4"] {
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
        n1 appends 5@t1 x=4
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n2 appends 3@t1 x=2
        n2 -> n1: I have all up to 3
        n1 knows 2 committed
        n1 -> n2: in t1: after 3@t1 comes 4@t1 x=3, 5@t1 x=4 [commit 2]
        n1 knows 3 committed
        n2 appends 4@t1 x=3, 5@t1 x=4
        n2 knows 2 committed
        n2 -> n1: I have all up to 5
        n1 knows 5 committed
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
