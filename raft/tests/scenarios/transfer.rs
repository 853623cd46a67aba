//! Handing leadership over.

use expect_test::expect;
use raft::{Reads, Settings};

use crate::stage::{N1, N2, N3, Stage};

/// The leader takes no more proposals, sends the other all that it lacks, and then tells it to run at
/// once. The others have just heard their leader, but this election is its own wish, so they vote.
/// There is no pre-vote, and nobody waits for a timeout.
///
/// Thesis, section 3.10.
#[test]
fn the_next_leader_catches_up_and_is_elected_at_once() {
    let mut stage = Stage::led(3, Settings::default());
    stage.propose(N1, "x=1");
    let slow = stage.keep(N1, N2);
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.transfer(N1, N2);
    stage.propose(N1, "x=2");
    stage.shows(expect![[r#"
        n1 refuses x=2: leadership is being transferred; try again in a moment
    "#]]);
    slow.iter().for_each(|flight| stage.arrive(flight));
    stage.run();
    stage.shows(expect![[r#"
        n2 appends 2@t1 x=1
        n2 -> n1: I have all up to 2
        n1 -> n2: in t1: run for the next term now
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1, n3: vote for me in t2, the leader wants it! My log ends at 2@t1
        n1 is a follower without leader in t2
        n1 writes down t2, vote for n2
        n1 -> n2: you have my vote in t2
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 3@t2 no-op
        n2 -> n1, n3: in t2: after 2@t1 comes 3@t2 no-op [commit 1]
        n1 follows n2 in t2
        n1 appends 3@t2 no-op
        n1 -> n2: I have all up to 3
        n3 follows n2 in t2
        n3 appends 3@t2 no-op
        n3 -> n2: I have all up to 3
        n2 knows 3 committed
        n2 leads t2 and serves
    "#]]);
}

/// If the other does not take over within an election timeout, the leader goes on. Here it was never
/// told to run, because it never had everything: the leader simply takes proposals again.
///
/// Thesis, section 3.10.
#[test]
fn a_transfer_is_given_up_after_an_election_timeout() {
    let mut stage = Stage::led(3, Settings::default());
    stage.hold_disk(N2);
    stage.propose(N1, "x=1");
    stage.run();
    stage.transfer(N1, N2);
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1]
        n2 appends 2@t1 x=1
        n3 appends 2@t1 x=1
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
    "#]]);
    stage.pass(500);
    stage.shows(expect![[r#"
        n3 knows 2 committed
        n1 -> n2: in t1: have you 1@t1? [commit 2]
        n2 -> n1: I have all up to 1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 2]
        n2 knows 2 committed
        n1 gives up the transfer to n2: it did not take over in time
        n1 -> n2: in t1: have you 1@t1? [commit 2]
        n2 -> n1: I have all up to 1
        n1 -> n2: in t1: after 1@t1 comes 2@t1 x=1 [commit 2]
    "#]]);
    stage.propose(N1, "x=2");
    stage.run();
    stage.shows(expect![[r#"
        n1 appends 3@t1 x=2
        n1 -> n2, n3: in t1: after 2@t1 comes 3@t1 x=2 [commit 2]
        n2 appends 3@t1 x=2
        n3 appends 3@t1 x=2
        n3 -> n1: I have all up to 3
        n1 knows 3 committed
    "#]]);
}

/// One that was told to run may do so at any later moment, and win. So a leader that has told it and
/// then gives up steps down: what it would take now might be cut, and a lease would not hold.
///
/// Thesis, section 3.10.
#[test]
fn a_leader_that_has_told_another_to_run_steps_down() {
    let mut stage = Stage::led(3, Settings::default());
    stage.transfer(N1, N2);
    let late = stage.keep(N1, N2);
    stage.shows(expect![[r#"
        n1 -> n2: in t1: run for the next term now
    "#]]);
    stage.part(&[N2]);
    stage.pass(500);
    stage.shows(expect![[r#"
        n1 gives up the transfer to n2: it did not take over in time
        n1 is a follower without leader in t1
    "#]]);
    // The word comes late, and counts.
    stage.heal();
    stage.arrive(&late[0]);
    stage.run();
    stage.shows(expect![[r#"
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1, n3: vote for me in t2, the leader wants it! My log ends at 1@t1
        n1 writes down t2, vote for n2
        n1 -> n2: you have my vote in t2
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 2@t2 no-op
        n2 -> n1, n3: in t2: after 1@t1 comes 2@t2 no-op [commit 1]
        n1 follows n2 in t2
        n1 appends 2@t2 no-op
        n1 -> n2: I have all up to 2
        n3 follows n2 in t2
        n3 appends 2@t2 no-op
        n3 -> n2: I have all up to 2
        n2 knows 2 committed
        n2 leads t2 and serves
    "#]]);
}

/// A lease ends when another one is told to run: it will be elected without waiting for it.
///
/// Thesis, sections 3.10 and 6.4.1.
#[test]
fn a_transfer_ends_the_lease() {
    let settings = Settings {
        reads: Reads::Lease { drift_ppm: 1_000 },
        ..Settings::default()
    };
    let mut stage = Stage::led(3, settings);
    stage.read(N1, "read r1");
    stage.transfer(N1, N2);
    stage.read(N1, "read r2");
    stage.shows(expect![[r#"
        n1 answers read r1 from 1 on
        n1 -> n2: in t1: run for the next term now
    "#]]);
    stage.run();
    stage.shows(expect![[r#"
        n2 writes down t2, vote for n2
        n2 is a candidate in t2
        n2 -> n1, n3: vote for me in t2, the leader wants it! My log ends at 1@t1
        n2 -> n1: your term is over, it is t2
        n1 refuses read r2: leadership was lost in the meantime; look whether it was done before trying again
        n1 is a follower without leader in t2
        n1 writes down t2, vote for n2
        n1 -> n2: you have my vote in t2
        n3 is a follower without leader in t2
        n3 writes down t2, vote for n2
        n3 -> n2: you have my vote in t2
        n2 is elected in t2
        n2 appends 2@t2 no-op
        n2 -> n1, n3: in t2: after 1@t1 comes 2@t2 no-op [commit 1]
        n1 follows n2 in t2
        n1 appends 2@t2 no-op
        n1 -> n2: I have all up to 2
        n3 follows n2 in t2
        n3 appends 2@t2 no-op
        n3 -> n2: I have all up to 2
        n2 knows 2 committed
        n2 leads t2 and serves
    "#]]);
}

/// Leadership goes to voters only.
#[test]
fn a_transfer_to_who_cannot_lead_is_refused() {
    let mut stage = Stage::led(2, Settings::default());
    stage.transfer(N1, N3);
    stage.transfer(N2, N1);
    stage.shows(expect![[r#"
        n1 gives up the transfer to n3: n3 is not a voter of this group
        n2 gives up the transfer to n1: this replica does not lead; ask n1
    "#]]);
}
