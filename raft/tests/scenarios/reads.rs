//! Reads that see all that was committed before them.

use expect_test::expect;
use raft::{Reads, Settings};

use crate::stage::{N1, N2, N3, Stage};

/// A leader may have been replaced without knowing it, so before it answers a read it asks whether a
/// majority still follows it. A round that was under way when the read came says nothing for it: its
/// answers may be older than the read.
///
/// Thesis, section 6.4 (the read index).
#[test]
fn a_read_waits_for_a_round_that_began_after_it() {
    let mut stage = Stage::led(3, Settings::default());
    stage.tell_heartbeats();
    stage.read(N1, "read r1");
    stage.read(N1, "read r2");
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1]
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
        n2 -> n1: I hear you
        n3 -> n1: I hear you
        n1 answers read r1 from 1 on
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1]
        n2 -> n1: I hear you
        n3 -> n1: I hear you
        n1 answers read r2 from 1 on
    "#]]);
}

/// It costs one round trip, also when nobody was asked for a while because they had just answered
/// something else.
#[test]
fn a_read_asks_at_once() {
    let mut stage = Stage::led(3, Settings::default());
    stage.pass(80);
    stage.propose(N1, "x=1");
    // Here a heartbeat would be due. It is not needed.
    stage.pass(30);
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.tell_heartbeats();
    stage.read(N1, "read r1");
    stage.run();
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1; we agree up to 2 [commit 2]
        n2 knows 2 committed
        n2 -> n1: I hear you
        n3 knows 2 committed
        n3 -> n1: I hear you
        n1 answers read r1 from 2 on
    "#]]);
}

/// One that is cut off gets no such answers: it does not answer, and says so when it steps down. Else
/// it would tell what was, while another leader has gone on.
///
/// Thesis, section 6.4.
#[test]
fn a_leader_that_is_cut_off_answers_no_read() {
    let mut stage = Stage::led(3, Settings::default());
    stage.propose(N1, "x=1");
    stage.run();
    stage.heartbeats();
    stage.skip();
    stage.part(&[N1]);
    stage.read(N1, "read r1");
    // n2 is elected and commits x=2.
    stage.times_out(N2);
    stage.run();
    stage.propose(N2, "x=2");
    stage.run();
    stage.shows(expect![[r#"
        n2 is a pre-candidate in t1
        n2 -> n1: would you vote for me in t2? My log ends at 2@t1 (lost)
        n2 -> n3: would you vote for me in t2? My log ends at 2@t1
        n3 -> n2: yes, in t2 I would
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1: vote for me in t2! My log ends at 2@t1 (lost)
        n2 -> n3: vote for me in t2! My log ends at 2@t1
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 3@t2 no-op
        n2 -> n1: in t2: after 2@t1 comes 3@t2 no-op [commit 2] (lost)
        n2 -> n3: in t2: after 2@t1 comes 3@t2 no-op [commit 2]
        n3 follows n2 in t2
        n3 appends 3@t2 no-op
        n3 -> n2: I have all up to 3
        n2 knows 3 committed
        n2 leads t2 and serves
        n2 appends 4@t2 x=2
        n2 -> n3: in t2: after 3@t2 comes 4@t2 x=2 [commit 3]
        n3 appends 4@t2 x=2
        n3 knows 3 committed
        n3 -> n2: I have all up to 4
        n2 knows 4 committed
    "#]]);
    stage.read(N2, "read r2");
    stage.run();
    stage.shows(expect![[r#"
        n3 knows 4 committed
        n2 answers read r2 from 4 on
    "#]]);
    stage.times_out(N1);
    stage.shows(expect![[r#"
        n1 refuses read r1: leadership was lost in the meantime; look whether it was done before trying again
        n1 is a follower without leader in t1
    "#]]);
}

/// A leader that was just elected has every committed entry, but does not know which those are. It
/// reads nothing before its no-op is committed.
///
/// Thesis, section 6.4, step 1; paper, section 8.
#[test]
fn a_new_leader_reads_when_its_no_op_is_committed() {
    let mut stage = Stage::of(3);
    stage.hold_disk(N2);
    stage.hold_disk(N3);
    stage.times_out(N1);
    stage.run();
    stage.release_disk(N2);
    stage.hold_disk(N2);
    stage.run();
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t0
        n1 -> n2, n3: would you vote for me in t1? My log ends at 0@t0
        n2 -> n1: yes, in t1 I would
        n3 -> n1: yes, in t1 I would
        n1 writes down t1, vote for n1
        n1 is a candidate in t1
        n1 -> n2, n3: vote for me in t1! My log ends at 0@t0
        n2 writes down t1, vote for n1
        n3 writes down t1, vote for n1
        n2's disk is done
        n2 -> n1: you have my vote in t1
        n1 is elected in t1
        n1 appends 1@t1 no-op
        n1 -> n2, n3: in t1: after 0@t0 comes 1@t1 no-op [commit 0]
        n2 follows n1 in t1
        n2 appends 1@t1 no-op
        n3 follows n1 in t1
        n3 appends 1@t1 no-op
    "#]]);
    stage.read(N1, "read r1");
    stage.propose(N1, "x=1");
    stage.shows(expect![[r#"
        n1 refuses read r1: the leader is not ready to serve yet: nothing of its term is committed; try again
        n1 refuses x=1: the leader is not ready to serve yet: nothing of its term is committed; try again
    "#]]);
    stage.release_disk(N2);
    stage.run();
    stage.read(N1, "read r2");
    stage.run();
    stage.shows(expect![[r#"
        n2's disk is done
        n2 -> n1: I have all up to 1
        n1 knows 1 committed
        n1 leads t1 and serves
        n2 knows 1 committed
        n1 answers read r2 from 1 on
    "#]]);
}

fn leases() -> Settings {
    Settings {
        reads: Reads::Lease { drift_ppm: 1_000 },
        ..Settings::default()
    }
}

/// With a lease it need not ask: a majority has answered a round that began less than an election
/// timeout ago (by how much clocks may differ, less), and nobody of it votes for another one before
/// that time is over. When no round is recent enough, it asks.
///
/// Thesis, section 6.4.1.
#[test]
fn a_lease_saves_the_round() {
    let mut stage = Stage::led(3, leases());
    stage.tell_heartbeats();
    stage.read(N1, "read r1");
    stage.shows(expect![[r#"
        n1 answers read r1 from 1 on
    "#]]);
    // What it says is lost for a while, and the lease is over: it asks with the next heartbeat.
    stage.part(&[N1]);
    stage.wait(N1, 499);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1] (lost)
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1] (lost)
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1] (lost)
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1] (lost)
    "#]]);
    stage.heal();
    stage.read(N1, "read r2");
    stage.pass(1);
    stage.shows(expect![[r#"
        n1 -> n2, n3: I lead t1; we agree up to 1 [commit 1]
        n2 -> n1: I hear you
        n3 -> n1: I hear you
        n1 answers read r2 from 1 on
    "#]]);
}

/// Voters keep a lease by refusing votes to others. One that has just started does not know whether
/// it has heard a leader a moment ago, so it waits for an election timeout before it votes.
///
/// Thesis, section 6.4.1 (what the lease assumes).
#[test]
fn a_restarted_voter_respects_a_lease_that_it_forgot() {
    let mut stage = Stage::led(3, leases());
    // n3 hears nobody for long enough to want another leader. n2 has heard n1 just now, and forgets it.
    stage.luck(N3, 0);
    stage.heartbeats();
    stage.part(&[N3]);
    stage.pass(499);
    stage.heal();
    stage.part(&[N1]);
    stage.crash(N2);
    stage.restart(N2);
    stage.times_out(N3);
    stage.run();
    stage.shows(expect![[r#"
        n2 is down
        n2 is up again, in t1; its log ends at 1@t1
        n3 is a pre-candidate in t1
        n3 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n2: would you vote for me in t2? My log ends at 1@t1
        n2 -> n3: no, I would not
    "#]]);
    // n1 still reads, by its lease.
    stage.read(N1, "read r1");
    stage.shows(expect![[r#"
        n1 answers read r1 from 1 on
    "#]]);
    stage.pass(1_000);
    stage.shows(expect![[r#"
        n1 is a follower without leader in t1
        n3 is a pre-candidate in t1
        n3 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n2: would you vote for me in t2? My log ends at 1@t1
        n2 -> n3: yes, in t2 I would
        n3 writes down t2, vote for n3
        n3 is a candidate in t2
        n3 -> n1: vote for me in t2! My log ends at 1@t1 (lost)
        n3 -> n2: vote for me in t2! My log ends at 1@t1
        n2 writes down t2, vote for n3
        n2 -> n3: you have my vote in t2
        n3 is elected in t2
        n3 appends 2@t2 no-op
        n3 -> n1: in t2: after 1@t1 comes 2@t2 no-op [commit 1] (lost)
        n3 -> n2: in t2: after 1@t1 comes 2@t2 no-op [commit 1]
        n2 follows n3 in t2
        n2 appends 2@t2 no-op
        n2 knows 1 committed
        n2 -> n3: I have all up to 2
        n3 knows 2 committed
        n3 leads t2 and serves
        n2 knows 2 committed
        n3 -> n1: in t2: have you 1@t1? [commit 2] (lost)
        n1 is a pre-candidate in t1
        n1 -> n2, n3: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n1: in t2: have you 1@t1? [commit 2] (lost)
    "#]]);
    stage.read(N1, "read r2");
    stage.shows(expect![[r#"
        n1 refuses read r2: this replica does not lead; ask again when one is elected
    "#]]);
}
