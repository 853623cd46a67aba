//! Who leads: each term at most one replica, elected by a majority, whose log has all that was ever
//! committed.

use expect_test::expect;
use raft::Settings;

use crate::stage::{N1, N2, N3, N4, Stage};

/// A follower that hears no leader for an election timeout first asks whether it *would* be elected
/// (pre-vote), and only if a majority would, enters a new term and asks for their votes. Elected, it
/// appends an entry of its own term that carries nothing; when that is committed it knows what is
/// committed at all, and serves.
///
/// Raft paper, sections 5.2 and 8; thesis, sections 6.4 and 9.6.
#[test]
fn the_first_election() {
    let mut stage = Stage::of(3);
    // n1 is the first whose patience ends.
    stage.times_out(N1);
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
        n2 -> n1: you have my vote in t1
        n3 writes down t1, vote for n1
        n3 -> n1: you have my vote in t1
        n1 is elected in t1
        n1 appends 1@t1 no-op
        n1 -> n2, n3: in t1: after 0@t0 comes 1@t1 no-op [commit 0]
        n2 follows n1 in t1
        n2 appends 1@t1 no-op
        n2 -> n1: I have all up to 1
        n3 follows n1 in t1
        n3 appends 1@t1 no-op
        n3 -> n1: I have all up to 1
        n1 knows 1 committed
        n1 leads t1 and serves
    "#]]);
    // The others learn of the commit from the next heartbeat.
    stage.heartbeats();
    stage.shows(expect![[r#"
        n2 knows 1 committed
        n3 knows 1 committed
    "#]]);
}

/// Two candidates may share the votes so that neither has a majority. Nobody gives a second vote in
/// the same term; chance ends it, for each waits for another length of time before it asks again.
///
/// Raft paper, section 5.2.
#[test]
fn a_split_vote_is_resolved_by_chance() {
    let mut stage = Stage::of(4);
    // Both n1 and n2 lose patience, and both are told that they would be elected.
    stage.times_out(N1);
    stage.luck(N2, 0);
    stage.times_out(N2);
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t0
        n1 -> n2, n3, n4: would you vote for me in t1? My log ends at 0@t0
        n2 is a pre-candidate in t0
        n2 -> n1, n3, n4: would you vote for me in t1? My log ends at 0@t0
    "#]]);
    for asker in [N1, N2] {
        for asked in [N3, N4] {
            stage.deliver(asker, asked);
            stage.deliver(asked, asker);
        }
    }
    stage.shows(expect![[r#"
        n3 -> n1: yes, in t1 I would
        n4 -> n1: yes, in t1 I would
        n1 writes down t1, vote for n1
        n1 is a candidate in t1
        n1 -> n2, n3, n4: vote for me in t1! My log ends at 0@t0
        n3 -> n2: yes, in t1 I would
        n4 -> n2: yes, in t1 I would
        n2 writes down t1, vote for n2
        n2 is a candidate in t1
        n2 -> n1, n3, n4: vote for me in t1! My log ends at 0@t0
    "#]]);
    // n3 hears n1 first, n4 hears n2 first.
    stage.deliver(N1, N3);
    stage.deliver(N2, N4);
    stage.run();
    stage.shows(expect![[r#"
        n3 writes down t1, vote for n1
        n3 -> n1: you have my vote in t1
        n4 writes down t1, vote for n2
        n4 -> n2: you have my vote in t1
        n2 -> n1: no, I would not
        n1 -> n2: no, I would not
        n2 -> n1: not my vote, in t1
        n4 -> n1: not my vote, in t1
        n1 -> n2: not my vote, in t1
        n3 -> n2: not my vote, in t1
    "#]]);
    // n1 happens to wait less long than n2.
    stage.times_out(N1);
    stage.run();
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t1
        n1 -> n2, n3, n4: would you vote for me in t2? My log ends at 0@t0
        n2 -> n1: yes, in t2 I would
        n3 -> n1: yes, in t2 I would
        n4 -> n1: yes, in t2 I would
        n1 writes down t2, vote for n1
        n1 is a candidate in t2
        n1 -> n2, n3, n4: vote for me in t2! My log ends at 0@t0
        n2 is a follower without leader in t2
        n2 writes down t2, vote for n1
        n2 -> n1: you have my vote in t2
        n3 writes down t2, vote for n1
        n3 -> n1: you have my vote in t2
        n4 writes down t2, vote for n1
        n4 -> n1: you have my vote in t2
        n1 is elected in t2
        n1 appends 1@t2 no-op
        n1 -> n2, n3, n4: in t2: after 0@t0 comes 1@t2 no-op [commit 0]
        n2 follows n1 in t2
        n2 appends 1@t2 no-op
        n2 -> n1: I have all up to 1
        n3 follows n1 in t2
        n3 appends 1@t2 no-op
        n3 -> n1: I have all up to 1
        n4 follows n1 in t2
        n4 appends 1@t2 no-op
        n4 -> n1: I have all up to 1
        n1 knows 1 committed
        n1 leads t2 and serves
    "#]]);
}

/// A replica whose log lacks a committed entry is never elected: a majority has that entry, and each
/// of those refuses a candidate whose log ends before its own. Compared is the term of the last
/// entry, then its index.
///
/// Raft paper, section 5.4.1.
#[test]
fn a_stale_log_is_refused() {
    let mut stage = Stage::led(3, Settings::default());
    // n2 happens to be the more patient one.
    stage.luck(N2, 400);
    stage.heartbeats();
    // n3 misses x=1, which n1 and n2 commit.
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
    // n1 is gone and n3 is the first to miss it. n2 would like another leader, too, but not this one.
    stage.heal();
    stage.crash(N1);
    stage.times_out(N3);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n3 is a pre-candidate in t1
        n3 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n2: would you vote for me in t2? My log ends at 1@t1
        n2 -> n3: no, I would not
    "#]]);
    stage.times_out(N2);
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
        n2 -> n1: in t2: after 2@t1 comes 3@t2 no-op [commit 1] (lost)
        n2 -> n3: in t2: after 2@t1 comes 3@t2 no-op [commit 1]
        n3 follows n2 in t2
        n3 -> n2: we differ at 2; my terms end at 1@t1, 0@t0
        n2 -> n3: in t2: after 1@t1 comes 2@t1 x=1 [commit 1]
        n3 appends 2@t1 x=1
        n3 -> n2: I have all up to 2
        n2 -> n3: in t2: after 2@t1 comes 3@t2 no-op [commit 1]
        n3 appends 3@t2 no-op
        n3 -> n2: I have all up to 3
        n2 knows 3 committed
        n2 leads t2 and serves
    "#]]);
}

/// A replica that was cut off does not know that the others are well. However often its patience
/// ends, it only asks whether it would be elected, and its term stays. When it is back, those who hear
/// their leader refuse it, and it follows. Without pre-vote it would come back with a great term and
/// depose the leader.
///
/// Thesis, section 9.6; KIP-996.
#[test]
fn a_replica_that_was_cut_off_disturbs_nobody() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N3]);
    stage.pass(1_800);
    stage.shows(expect![[r#"
        n3 is a pre-candidate in t1
        n3 -> n1, n2: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 is a pre-candidate in t1
        n3 -> n1, n2: would you vote for me in t2? My log ends at 1@t1 (lost)
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
    stage.heartbeats();
    stage.shows(expect![[r#"
        n3 follows n1 in t1
    "#]]);
}

/// Who has heard a leader within the election timeout takes no notice of a request for its vote, not
/// even of its term: a candidate cannot depose a leader whom a majority hears. But it must not be
/// stuck in its greater term for ever, where it hears nobody either. So it answers the leader that
/// the term is over; the leader steps down, and the next election includes everybody.
///
/// Thesis, section 4.2.3.
#[test]
fn a_candidate_whom_everybody_refuses_is_not_stuck() {
    let mut stage = Stage::led(3, Settings::default());
    stage.luck(N3, 0);
    stage.heartbeats();
    // For a moment n1 is not heard, n3 loses patience, and n2 encourages it.
    stage.part(&[N1]);
    stage.times_out(N3);
    stage.deliver(N3, N2);
    stage.luck(N3, 400);
    stage.deliver(N2, N3);
    stage.shows(expect![[r#"
        n3 is a pre-candidate in t1
        n3 -> n1: would you vote for me in t2? My log ends at 1@t1 (lost)
        n3 -> n2: would you vote for me in t2? My log ends at 1@t1
        n2 -> n3: yes, in t2 I would
        n3 writes down t2, vote for n3
        n3 is a candidate in t2
        n3 -> n1: vote for me in t2! My log ends at 1@t1 (lost)
        n3 -> n2: vote for me in t2! My log ends at 1@t1
    "#]]);
    // n2 hears n1 again before it hears that n3 wants its vote, and says nothing to that.
    let request = stage.keep(N3, N2);
    stage.heal();
    stage.part(&[N3]);
    stage.pass(0);
    stage.heal();
    stage.arrive(&request[0]);
    stage.run();
    stage.shows(expect![[""]]);
    // n1 speaks to n3.
    stage.heartbeats();
    stage.shows(expect![[r#"
        n3 -> n1: your term is over, it is t2
        n1 is a follower without leader in t2
        n1 writes down t2, no vote
    "#]]);
    stage.times_out(N1);
    stage.run();
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t2
        n1 -> n2, n3: would you vote for me in t3? My log ends at 1@t1
        n2 -> n1: yes, in t3 I would
        n3 -> n1: yes, in t3 I would
        n1 writes down t3, vote for n1
        n1 is a candidate in t3
        n1 -> n2, n3: vote for me in t3! My log ends at 1@t1
        n2 is a follower without leader in t3
        n2 writes down t3, vote for n1
        n2 -> n1: you have my vote in t3
        n3 is a follower without leader in t3
        n3 writes down t3, vote for n1
        n3 -> n1: you have my vote in t3
        n1 is elected in t3
        n1 appends 2@t3 no-op
        n1 -> n2, n3: in t3: after 1@t1 comes 2@t3 no-op [commit 1]
        n2 follows n1 in t3
        n2 appends 2@t3 no-op
        n2 -> n1: I have all up to 2
        n3 follows n1 in t3
        n3 appends 2@t3 no-op
        n3 -> n1: I have all up to 2
        n1 knows 2 committed
        n1 leads t3 and serves
    "#]]);
}

/// A vote is on the voter's disk before the candidate hears of it. One that the disk has not taken
/// was never given, and may be forgotten.
///
/// Raft paper, figure 2 ("persistent state on all servers").
#[test]
fn a_vote_is_durable_before_it_is_told() {
    let mut stage = Stage::of(3);
    stage.times_out(N1);
    stage.lose(N1, N3);
    stage.deliver(N1, N2);
    stage.deliver(N2, N1);
    stage.lose(N1, N3);
    // n2 decides to vote for n1, but its disk is slow: nothing is said.
    stage.hold_disk(N2);
    stage.deliver(N1, N2);
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t0
        n1 -> n2, n3: would you vote for me in t1? My log ends at 0@t0
        n2 -> n1: yes, in t1 I would
        n1 writes down t1, vote for n1
        n1 is a candidate in t1
        n1 -> n2, n3: vote for me in t1! My log ends at 0@t0
        n2 writes down t1, vote for n1
    "#]]);
    // It forgets, and in the same term it votes for n3. Nobody was told otherwise.
    stage.crash(N1);
    stage.crash(N2);
    stage.restart(N2);
    stage.times_out(N3);
    stage.run();
    stage.shows(expect![[r#"
        n1 is down
        n2 is down
        n2 is up again, in t0; its log ends at 0@t0
        n3 is a pre-candidate in t0
        n3 -> n1: would you vote for me in t1? My log ends at 0@t0 (lost)
        n3 -> n2: would you vote for me in t1? My log ends at 0@t0
        n2 -> n3: yes, in t1 I would
        n3 writes down t1, vote for n3
        n3 is a candidate in t1
        n3 -> n1: vote for me in t1! My log ends at 0@t0 (lost)
        n3 -> n2: vote for me in t1! My log ends at 0@t0
        n2 writes down t1, vote for n3
        n2 -> n3: you have my vote in t1
        n3 is elected in t1
        n3 appends 1@t1 no-op
        n3 -> n1: in t1: after 0@t0 comes 1@t1 no-op [commit 0] (lost)
        n3 -> n2: in t1: after 0@t0 comes 1@t1 no-op [commit 0]
        n2 follows n3 in t1
        n2 appends 1@t1 no-op
        n2 -> n3: I have all up to 1
        n3 knows 1 committed
        n3 leads t1 and serves
    "#]]);
}

/// A vote that was told outlives a crash: one that voted twice in a term could make two leaders.
///
/// Raft paper, figure 2.
#[test]
fn a_vote_that_was_told_is_remembered() {
    let mut stage = Stage::of(3);
    // n1 and n3 are both encouraged by n2.
    stage.times_out(N1);
    stage.luck(N3, 0);
    stage.times_out(N3);
    stage.lose(N1, N3);
    stage.lose(N3, N1);
    for candidate in [N1, N3] {
        stage.deliver(candidate, N2);
        stage.deliver(N2, candidate);
    }
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t0
        n1 -> n2, n3: would you vote for me in t1? My log ends at 0@t0
        n3 is a pre-candidate in t0
        n3 -> n1, n2: would you vote for me in t1? My log ends at 0@t0
        n2 -> n1: yes, in t1 I would
        n1 writes down t1, vote for n1
        n1 is a candidate in t1
        n1 -> n2, n3: vote for me in t1! My log ends at 0@t0
        n2 -> n3: yes, in t1 I would
        n3 writes down t1, vote for n3
        n3 is a candidate in t1
        n3 -> n1, n2: vote for me in t1! My log ends at 0@t0
    "#]]);
    // n2 votes for n1. The answer is lost, and so is what n2 had in memory.
    let request = stage.keep(N1, N2);
    stage.arrive(&request[0]);
    stage.lose(N2, N1);
    stage.crash(N2);
    stage.restart(N2);
    stage.deliver(N3, N2);
    stage.shows(expect![[r#"
        n2 writes down t1, vote for n1
        n2 -> n1: you have my vote in t1
        n2 is down
        n2 is up again, in t1; its log ends at 0@t0
        n2 -> n3: not my vote, in t1
    "#]]);
    // The network has doubled n1's request: asked again, it says the same again.
    stage.arrive(&request[0]);
    stage.run();
    stage.shows(expect![[r#"
        n2 -> n1: you have my vote in t1
        n3 -> n1: not my vote, in t1
        n1 -> n3: not my vote, in t1
        n1 is elected in t1
        n1 appends 1@t1 no-op
        n1 -> n2, n3: in t1: after 0@t0 comes 1@t1 no-op [commit 0]
        n2 follows n1 in t1
        n2 appends 1@t1 no-op
        n2 -> n1: I have all up to 1
        n3 follows n1 in t1
        n3 appends 1@t1 no-op
        n3 -> n1: I have all up to 1
        n1 knows 1 committed
        n1 leads t1 and serves
    "#]]);
}

/// A leader that has not heard from a majority for an election timeout steps down: the others may have
/// another one, and clients should look for that (check-quorum). What it could not commit it keeps,
/// but whether it will stand is not its decision any more.
///
/// Thesis, section 6.2.
#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    let mut stage = Stage::led(3, Settings::default());
    stage.part(&[N1]);
    stage.propose(N1, "x=1");
    stage.shows(expect![[r#"
        n1 appends 2@t1 x=1
        n1 -> n2, n3: in t1: after 1@t1 comes 2@t1 x=1 [commit 1] (lost)
    "#]]);
    stage.pass(1_000);
    stage.shows(expect![[r#"
        n1 -> n2, n3: in t1: have you 1@t1? [commit 1] (lost)
        n1 -> n2, n3: in t1: have you 1@t1? [commit 1] (lost)
        n1 is a follower without leader in t1
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
    stage.propose(N1, "x=2");
    stage.shows(expect![[r#"
        n1 refuses x=2: this replica does not lead; ask again when one is elected
    "#]]);
    // What it appended alone is replaced by what the new leader has.
    stage.heal();
    stage.pass(500);
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t1
        n1 -> n2, n3: would you vote for me in t2? My log ends at 2@t1
        n2 -> n1: no, I would not
        n3 -> n1: no, I would not
        n1 is a follower without leader in t2
        n1 writes down t2, no vote
        n2 -> n1: in t2: have you 1@t1? [commit 2]
        n1 follows n2 in t2
        n1 -> n2: I have all up to 1
        n2 -> n1: in t2: after 1@t1 comes 2@t2 no-op [commit 2]
        n1 cuts all after 1
        n1 appends 2@t2 no-op
        n1 knows 2 committed
        n1 -> n2: I have all up to 2
    "#]]);
}

/// A leader may be heard and hear nobody itself. Its followers have no reason to look for another one,
/// so only the leader can end this: it steps down, falls silent, and one that can do both is elected.
///
/// Thesis, section 6.2.
#[test]
fn a_leader_that_is_heard_but_hears_nobody_steps_down() {
    let mut stage = Stage::led(3, Settings::default());
    stage.cut(N2, N1);
    stage.cut(N3, N1);
    stage.pass(600);
    stage.shows(expect![[r#"
        n1 is a follower without leader in t1
    "#]]);
    stage.pass(700);
    stage.shows(expect![[r#"
        n1 is a pre-candidate in t1
        n1 -> n2, n3: would you vote for me in t2? My log ends at 1@t1
        n2 -> n1: yes, in t2 I would (lost)
        n3 -> n1: yes, in t2 I would (lost)
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
    "#]]);
}
