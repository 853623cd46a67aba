//! Kafka's rule on top of Raft's: consumers see an entry when every replica in sync has it.

use std::time::Duration;

use expect_test::expect;
use raft::{Acks, CommitRule, Settings};

use crate::stage::{N1, N2, N3, Stage};

fn settings() -> Settings {
    Settings {
        commit_rule: CommitRule::InSync,
        min_in_sync: 2,
        lag_time: Duration::from_secs(1),
        // What is under way to a slow disk is not sent again while the scene lasts.
        resend_after: Duration::from_secs(60),
        quiesce_after: None,
        ..Settings::default()
    }
}

/// Committed is what a majority has; visible only what every replica in sync has, too. One that lacks
/// something for longer than the lag time is no longer in sync, and the others are not waited for it
/// any more. When it has all that is visible it is in sync again.
///
/// Kafka's in-sync replicas, high watermark and `replica.lag.time.max.ms`; KIP-966 on why the two
/// indexes differ.
#[test]
fn what_is_visible_waits_for_those_in_sync() {
    let mut stage = Stage::led(3, settings());
    stage.hold_disk(N3);
    stage.propose_with(N1, "x=1", Acks::All);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 x=1
        n1 knows 2 committed
    "#]]);
    // n3's disk does not come back, and the lag time ends.
    stage.pass(1_300);
    stage.shows(expect![[r#"
        n2 knows 2 committed
        n1 counts in sync: n1, n2
        n1 shows all up to 2
        n2 shows all up to 2
    "#]]);
    stage.release_disk(N3);
    stage.run();
    stage.shows(expect![[r#"
        n3's disk is done
        n3 -> n1: I have all up to 2
        n1 counts in sync: n1, n2, n3
    "#]]);
}

/// Where too few are in sync, what waits for all of them is refused: it would be acknowledged with too
/// few copies. Who waits for the leader alone is served.
///
/// Kafka's `min.insync.replicas`.
#[test]
fn too_few_in_sync_refuse_acks_all() {
    let mut stage = Stage::led(3, settings());
    // Both followers answer heartbeats, so n1 leads on; but their disks take nothing.
    stage.hold_disk(N2);
    stage.hold_disk(N3);
    stage.propose_with(N1, "x=1", Acks::All);
    stage.pass(1_300);
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n3 appends 2@t1 x=1
        n1 counts in sync: n1
    "#]]);
    stage.propose_with(N1, "x=2", Acks::All);
    stage.propose_with(N1, "x=3", Acks::Leader);
    stage.run();
    stage.shows(expect![[r#"
        n1 refuses x=2: too few replicas are in sync for acks=all; wait for them, or produce with acks=1
        n1 appends 3@t1 x=3
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 x=3 [commit 1]
        n2 appends 3@t1 x=3
        n3 appends 3@t1 x=3
    "#]]);
    stage.release_disk(N2);
    stage.run();
    stage.propose_with(N1, "x=2", Acks::All);
    stage.run();
    stage.shows(expect![[r#"
        n2's disk is done
        n2 -> n1: I have all up to 2
        n2 -> n1: I have all up to 3
        n1 knows 2 committed
        n1 shows all up to 2
        n1 knows 3 committed
        n1 shows all up to 3
        n1 counts in sync: n1, n2
        n1 appends 4@t1 x=2
        n1 -> n2, n3: in t1: after 3@t1 comes 4@t1 x=2 [commit 3]
        n2 appends 4@t1 x=2
        n2 knows 3 committed
        n2 shows all up to 3
        n2 -> n1: I have all up to 4
        n3 appends 4@t1 x=2
        n3 knows 3 committed
        n3 shows all up to 3
        n1 knows 4 committed
        n1 shows all up to 4
    "#]]);
}

/// A follower that has everything stays in sync however long nothing is written: it answers the
/// leader's heartbeats, and that says that it still has what it had.
///
/// Kafka: a fetch at the leader's end counts as caught up, whether it brings anything or not.
#[test]
fn who_has_everything_stays_in_sync() {
    let mut stage = Stage::led(3, settings());
    stage.pass(60_000);
    stage.shows(expect![""]);
    stage.propose_with(N1, "x=1", Acks::All);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 shows all up to 2
    "#]]);
}

/// Nor does a group that has fallen quiet forget who is in sync.
#[test]
fn a_quiet_group_keeps_those_in_sync() {
    let settings = Settings {
        quiesce_after: Some(Duration::from_secs(1)),
        ..settings()
    };
    let mut stage = Stage::led(3, settings);
    stage.pass(60_000);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1 and fall quiet; we agree up to 1 [commit 1]
    "#]]);
    stage.propose_with(N1, "x=1", Acks::All);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 shows all up to 2
    "#]]);
}
