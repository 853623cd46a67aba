//! How far groups have come: what members commit, and where they begin.

use millrace_wire::batch::{BatchBuilder, Compression, set_leader_epoch};
use millrace_wire::ids::Term;
use millrace_wire::native::Request;

use super::consuming::{numbers, store, store_batch};
use super::member::{App, committed, group_config, is_join, run, world};
use super::world::{Fate, World, config, ms};
use crate::{
    Assignor, ClientError, ErrorCode, GroupConfig, GroupEvent, GroupOffset, OffsetReset, Start,
    TopicPartition,
};

#[test]
fn what_is_given_up_is_committed_before_joining_again() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let mut world = world(2);
        let config = GroupConfig {
            assignors: vec![assignor],
            auto_commit: Some(ms(3_600_000)),
            ..group_config()
        };
        let mut a = App::start(&mut world, config.clone());
        run(&mut world, &mut [&mut a], ms(500));
        a.events();
        let mut b = App::start(&mut world, config);
        // The application is told at the latest with the next heartbeat, and takes its time.
        let mut joins = None;
        while joins.is_none() {
            world.run_for(ms(10));
            if let Some(GroupEvent::Revoked(_)) = a.poll_once(&mut world) {
                joins = Some(world.count(is_join));
            }
        }
        world.run_for(ms(5_000));
        assert_eq!(committed(&world, 1), None, "it is still at work");
        // (The other one, which was given its id, has joined once more meanwhile.)
        assert_eq!(world.count(is_join), joins.unwrap());
        assert!(b.assignment(&world).is_empty());
        world.arrived.clear();
        run(&mut world, &mut [&mut a, &mut b], ms(3_000));
        let first = world.arrived.iter().find(|(_, _, request)| {
            matches!(request, Request::CommitOffsets(_) | Request::JoinGroup(_))
        });
        let Some((_, _, Request::CommitOffsets(commit))) = first else {
            panic!("{assignor:?}: {first:?} came first");
        };
        let expected = match assignor {
            Assignor::CooperativeSticky => vec![1],
            _ => vec![0, 1],
        };
        let partitions: Vec<u32> = commit.topics[0]
            .partitions
            .iter()
            .map(|p| p.partition)
            .collect();
        assert_eq!(partitions, expected);
        assert_eq!(a.assignment(&world).len() + b.assignment(&world).len(), 2);
        assert_eq!(
            (a.seen.len(), b.seen.len()),
            (20, 0),
            "nothing was given out twice"
        );
    }
}

#[test]
fn records_are_committed_when_the_application_comes_back() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    world.run_for(ms(500));
    assert!(matches!(
        app.poll_once(&mut world),
        Some(GroupEvent::Assigned(_))
    ));
    assert!(matches!(
        app.poll_once(&mut world),
        Some(GroupEvent::Records(_))
    ));
    // It works on them: the place where it began is all that is known.
    world.run_for(ms(12_000));
    assert_eq!(committed(&world, 0), Some(0));
    app.poll(&mut world);
    assert_eq!(committed(&world, 0), Some(0), "not before it is time");
    world.run_for(ms(5_000));
    assert_eq!(committed(&world, 0), Some(10));
    let commits = world.count(|request| matches!(request, Request::CommitOffsets(_)));
    world.run_for(ms(20_000));
    let later = world.count(|request| matches!(request, Request::CommitOffsets(_)));
    assert_eq!(commits, later, "what is committed is not committed again");
}

#[test]
fn a_commit_tells_the_leader_epoch_of_what_was_read() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 3);
    for (partition, epoch) in [(0, 7), (0, 9), (1, 0)] {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1, None, Some(b"x"), &[]).unwrap();
        let mut batch = builder.build().unwrap();
        set_leader_epoch(&mut batch, Term(epoch));
        store_batch(&mut world, "t", partition, batch);
    }
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!(app.seen.len(), 3);
    let by_hand = GroupOffset::new("t", 0, 1);
    for offsets in [None, Some(vec![by_hand])] {
        app.commit(&mut world, offsets);
        world.run_for(ms(10));
    }
    let commits = world.arrived.iter().filter_map(|(_, _, request)| {
        let Request::CommitOffsets(commit) = request else {
            return None;
        };
        let partitions = commit.topics[0].partitions.iter();
        Some(partitions.map(|told| (told.partition, told.offset, told.leader_epoch)))
    });
    let told: Vec<_> = commits.flatten().collect();
    // Nothing was read of the last one, and nothing is known of what came by hand.
    assert_eq!(told, [(0, 2, 9), (1, 1, 0), (2, 0, -1), (0, 1, -1)]);
}

#[test]
fn a_commit_goes_through_a_rebalance() {
    let mut world = world(2);
    let config = GroupConfig {
        auto_commit: None,
        ..group_config()
    };
    let mut a = App::start(&mut world, config.clone());
    run(&mut world, &mut [&mut a], ms(500));
    let offset = |partition| GroupOffset {
        metadata: "by hand".into(),
        ..GroupOffset::new("t", partition, 5)
    };
    let mut times = 0;
    world.script = Box::new(move |request| match request {
        Request::CommitOffsets(_) if times < 3 => {
            times += 1;
            Fate::Refuse(ErrorCode::RebalanceInProgress)
        }
        _ => Fate::Serve,
    });
    let commit = a.commit(&mut world, Some(vec![offset(0), offset(1)]));
    run(&mut world, &mut [&mut a], ms(1_000));
    assert_eq!(world.committed[&commit], Ok(()));
    let group = world.coordinator.group("g");
    assert_eq!(group.offsets[&("t".into(), 1)], (5, "by hand".into()));
    assert_eq!(a.assignment(&world), [0, 1]);
    a.seek(&mut world, 0, Start::Offset(7));
    run(&mut world, &mut [&mut a], ms(1_000));
    let seen: Vec<i64> = a.seen.iter().rev().take(3).map(|seen| seen.2).collect();
    assert_eq!(seen, [9, 8, 7]);
    let commit = a.commit(&mut world, None);
    world.run_for(ms(100));
    assert_eq!(world.committed[&commit], Ok(()));
    assert_eq!(
        (committed(&world, 0), committed(&world, 1)),
        (Some(10), Some(10))
    );
    let nothing = a.commit(&mut world, None);
    assert_eq!(world.committed[&nothing], Ok(()));

    // What is not there cannot be committed, and what is beside it is.
    let commit = a.commit(&mut world, Some(vec![offset(0), offset(9)]));
    world.run_for(ms(100));
    let error = world.committed[&commit].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(committed(&world, 0), Some(5));

    // Without a broker it fails when its time is over.
    world.listening = false;
    world.break_all();
    let commit = a.commit(&mut world, Some(vec![offset(0)]));
    world.run_for(ms(1_900));
    assert!(!world.committed.contains_key(&commit));
    world.run_for(ms(200));
    let error = world.committed[&commit].clone().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}

#[test]
fn a_partition_without_an_offset_is_read_where_it_is_wished() {
    let begin_at = |reset: OffsetReset| {
        let mut world = world(2);
        let config = GroupConfig {
            auto_offset_reset: reset,
            ..group_config()
        };
        let mut app = App::start(&mut world, config);
        run(&mut world, &mut [&mut app], ms(500));
        (world, app)
    };
    let (_, app) = begin_at(OffsetReset::Earliest);
    assert_eq!(app.seen.len(), 20);
    let (mut world, mut app) = begin_at(OffsetReset::Latest);
    store(&mut world, 1, numbers(10..11));
    world.tick();
    run(&mut world, &mut [&mut app], ms(100));
    assert_eq!(app.seen, [("t".to_owned(), 1, 10)]);
    // Where it began counts, even if nothing was given out of it.
    world.run_for(ms(5_000));
    assert_eq!(
        (committed(&world, 0), committed(&world, 1)),
        (Some(10), Some(11))
    );

    let (mut world, mut app) = begin_at(OffsetReset::Error);
    assert_eq!(
        (app.seen.len(), app.failures.len()),
        (0, 2),
        "{:?}",
        app.failures
    );
    let text = app.failures[0].to_string();
    assert!(text.contains("'g'") && text.contains("t/0"), "{text}");
    app.seek(&mut world, 1, Start::Offset(8));
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!((app.seen.len(), app.failures.len()), (2, 2));
}

#[test]
fn who_seeks_before_the_group_has_answered_is_obeyed() {
    let mut world = world(1);
    world.script = Box::new(|request| match request {
        Request::FetchOffsets(_) => Fate::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => Fate::Serve,
    });
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!(app.assignment(&world), [0]);
    app.seek(&mut world, 0, Start::Offset(6));
    world.script = Box::new(|_| Fate::Serve);
    run(&mut world, &mut [&mut app], ms(2_000));
    assert_eq!(app.seen.first(), Some(&("t".to_owned(), 0, 6)));
    assert_eq!(app.seen.len(), 4);
}

#[test]
fn what_is_paused_waits_where_it_is() {
    let mut world = world(2);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    for partition in 0..2 {
        store(&mut world, partition, numbers(10..13));
    }
    world.tick();
    // Both are fetched, and neither is given out yet.
    world.run_for(ms(50));
    let place = TopicPartition::new("t", 0);
    let unfinished = app.reader.unfinished("t", 0);
    assert!(world.core.group_pause(app.id, &place, unfinished));
    app.reader.interrupt("t", 0);
    run(&mut world, &mut [&mut app], ms(500));
    store(&mut world, 0, numbers(13..14));
    world.tick();
    run(&mut world, &mut [&mut app], ms(15_000));
    let of = |app: &App, partition| app.seen.iter().filter(|seen| seen.1 == partition).count();
    assert_eq!((of(&app, 0), of(&app, 1)), (10, 13));
    assert_eq!(committed(&world, 0), Some(10));
    assert!(world.core.group_resume(app.id, &place));
    world.settle();
    run(&mut world, &mut [&mut app], ms(500));
    let offsets: Vec<i64> = app
        .seen
        .iter()
        .filter(|seen| seen.1 == 0)
        .map(|seen| seen.2)
        .collect();
    assert_eq!(offsets, (0..14).collect::<Vec<i64>>());
    let elsewhere = TopicPartition::new("t", 5);
    assert!(!world.core.group_pause(app.id, &elsewhere, None));
}
