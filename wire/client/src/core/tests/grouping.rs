//! Members of groups.

use std::time::Duration;

use millrace_wire::native::Request;

use super::consuming::{numbers, store, store_in};
use super::member::{App, committed, generation, group_config, is_join, places, run, world};
use super::world::{Fate, World, config, ms};
use crate::core::Time;
use crate::{
    ClientConfig, ClientError, ErrorCode, GroupConfig, GroupEvent, OffsetReset, TopicPartition,
};

#[test]
fn the_first_record_comes_soon() {
    let mut world = world(3);
    let mut app = App::start(&mut world, group_config());
    while app.seen.is_empty() {
        world.run_for(ms(5));
        app.poll(&mut world);
        assert!(world.now < Time(ms(300)), "nothing yet at {:?}", world.now);
    }
    assert_eq!(app.events(), [GroupEvent::Assigned(places(0..3))]);
    run(&mut world, &mut [&mut app], ms(100));
    assert_eq!(app.seen.len(), 30);
}

#[test]
fn what_stays_flows_on_while_the_rest_moves() {
    let mut world = world(4);
    let mut a = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut a], ms(500));
    a.events();
    let mut b = App::start(&mut world, group_config());
    let before = a.seen.len();
    // The rebalance begins; while it waits for `a`, whose heartbeat is due in two seconds at most,
    // and for all that follows, records of what stays with `a` come.
    let mut next = 10;
    while b.assignment(&world).is_empty() {
        store(&mut world, 0, numbers(next..next + 1));
        world.tick();
        next += 1;
        run(&mut world, &mut [&mut a, &mut b], ms(10));
        let expected = next - 10;
        assert_eq!(a.seen.len() - before, expected, "at {:?}", world.now);
        assert!(world.now < Time(ms(5_000)));
    }
    assert_eq!(a.events(), [GroupEvent::Revoked(places([2, 3]))]);
    assert_eq!(b.events(), [GroupEvent::Assigned(places([2, 3]))]);
    assert_eq!(a.assignment(&world), [0, 1]);
    run(&mut world, &mut [&mut a, &mut b], ms(1_000));
    assert!(b.seen.is_empty(), "what was given up was committed before");
    store(&mut world, 3, numbers(10..12));
    world.tick();
    run(&mut world, &mut [&mut a, &mut b], ms(10));
    assert_eq!(b.seen.len(), 2);
}

#[test]
fn the_second_round_of_a_rebalance_does_not_wait_for_heartbeats() {
    let mut world = world(6);
    let mut a = App::start(&mut world, group_config());
    let mut b = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut a, &mut b], ms(12_000));
    let (before, mut c) = (generation(&world), App::start(&mut world, group_config()));
    while generation(&world) == before {
        run(&mut world, &mut [&mut a, &mut b, &mut c], ms(10));
    }
    // The older two give up a partition each, and know that they have to join again; the new one,
    // which has none yet, hears of it.
    let begun = world.now;
    while c.assignment(&world).len() < 2 {
        run(&mut world, &mut [&mut a, &mut b, &mut c], ms(10));
    }
    assert_eq!(generation(&world), before + 2);
    let took = world.now.since(begun);
    assert!(took < ms(200), "it took {took:?}");
}

#[test]
fn heartbeats_are_frequent_when_a_generation_begins_and_rare_after() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(12_000));
    let arrived = world.arrived.iter();
    // The first comes beside the question for the member's partitions.
    let times: Vec<u128> = arrived
        .filter(|(_, _, request)| matches!(request, Request::Heartbeat(_)))
        .map(|(at, _, _)| at.0.as_millis())
        .collect();
    let pauses: Vec<u128> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0] + 10) / 20 * 20)
        .collect();
    let expected = [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000, 2_000];
    assert_eq!(pauses, expected);
}

#[test]
fn a_busy_application_stays_a_member_and_a_stuck_one_does_not() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    app.events();
    world.run_for(ms(29_000));
    assert_eq!(world.coordinator.group("g").members.len(), 1);
    let beats = world.count(|request| matches!(request, Request::Heartbeat(_)));
    assert!((17..20).contains(&beats), "{beats}");
    world.run_for(ms(2_000));
    assert!(world.coordinator.group("g").members.is_empty());
    let leaves = |world: &World| world.count(|request| matches!(request, Request::LeaveGroup(_)));
    assert_eq!(leaves(&world), 1);
    store(&mut world, 0, numbers(10..11));
    world.run_for(ms(60_000));
    assert!(world.coordinator.group("g").members.is_empty(), "it waits");
    let before = app.seen.len();
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!(
        app.events(),
        [
            GroupEvent::Lost(places([0])),
            GroupEvent::Assigned(places([0]))
        ]
    );
    // The others were committed when it was time.
    assert_eq!(app.seen[before..], [("t".to_owned(), 0, 10)]);
}

#[test]
fn who_is_forgotten_joins_as_a_new_member() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    let mut commits = vec![app.commit(&mut world, None)];
    world.run_for(ms(10));
    store(&mut world, 0, numbers(10..13));
    world.tick();
    run(&mut world, &mut [&mut app], ms(50));
    assert_eq!(app.seen.len(), 13);
    app.events();
    world.coordinator.forget_members(world.now.0, "g", |_| true);
    // A commit tells as well as a heartbeat.
    commits.push(app.commit(&mut world, None));
    world.run_for(ms(10));
    assert_eq!(world.committed[&commits[0]], Ok(()));
    let error = world.committed[&commits[1]].clone().unwrap_err();
    assert_eq!(error, ClientError::CommitTooLate { group: "g".into() });
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!(
        app.events(),
        [
            GroupEvent::Lost(places([0])),
            GroupEvent::Assigned(places([0]))
        ]
    );
    let again: Vec<i64> = app.seen[13..].iter().map(|seen| seen.2).collect();
    assert_eq!(again, [10, 11, 12], "from the last commit on");
}

#[test]
fn who_stood_still_gives_out_nothing_before_it_knows_whose_it_is() {
    let mut world = world(2);
    let config = GroupConfig {
        auto_commit: None,
        ..group_config()
    };
    let mut app = App::start(&mut world, config.clone());
    run(&mut world, &mut [&mut app], ms(500));
    store(&mut world, 0, numbers(10..20));
    world.tick();
    // They have been fetched, and not been given out.
    world.run_for(ms(50));
    world.stand_still(ms(6_500));
    assert!(world.coordinator.group("g").members.is_empty());
    let before = app.seen.len();
    app.events();
    app.poll(&mut world);
    assert_eq!((app.seen.len(), app.events()), (before, vec![]));
    run(&mut world, &mut [&mut app], ms(500));
    assert_eq!(
        app.events(),
        [
            GroupEvent::Lost(places(0..2)),
            GroupEvent::Assigned(places(0..2))
        ]
    );
    assert_eq!(app.seen.len(), before + 30, "nothing was committed");

    // Who was only nearly forgotten goes on as before.
    store(&mut world, 0, numbers(20..21));
    world.tick();
    world.run_for(ms(50));
    world.stand_still(ms(3_900));
    app.poll(&mut world);
    assert_eq!(app.seen.len(), before + 31);
    assert_eq!(app.events(), []);
}

#[test]
fn a_broker_that_is_away_for_a_while_costs_nothing() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    app.events();
    for _ in 0..5 {
        world.break_all();
        run(&mut world, &mut [&mut app], ms(700));
    }
    for code in [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::NotCoordinator,
        ErrorCode::CoordinatorNotAvailable,
    ] {
        world.script = Box::new(move |request| match request {
            Request::Heartbeat(_) | Request::CommitOffsets(_) => Fate::Refuse(code),
            _ => Fate::Serve,
        });
        run(&mut world, &mut [&mut app], ms(3_000));
        world.script = Box::new(|_| Fate::Serve);
        run(&mut world, &mut [&mut app], ms(3_000));
    }
    assert_eq!((app.events(), generation(&world)), (vec![], 1));

    // One that is away for longer than a session, and then knows the member still: nothing is given
    // out meanwhile, and nothing is lost.
    store(&mut world, 0, numbers(10..11));
    world.script = Box::new(|request| match request {
        Request::Heartbeat(_) => Fate::Refuse(ErrorCode::NotCoordinator),
        _ => Fate::Serve,
    });
    let group = world.coordinator.groups.get_mut("g").unwrap();
    group.members.values_mut().for_each(|member| member.keep());
    world.run_for(ms(6_500));
    app.poll(&mut world);
    assert_eq!(app.seen.len(), 10);
    world.script = Box::new(|_| Fate::Serve);
    run(&mut world, &mut [&mut app], ms(1_500));
    assert_eq!((app.seen.len(), app.events()), (11, vec![]));
}

#[test]
fn joining_is_tried_until_it_succeeds() {
    let mut world = world(1);
    let mut refused = 0;
    world.script = Box::new(move |request| match request {
        Request::JoinGroup(_) | Request::SyncGroup(_) | Request::FetchOffsets(_)
            if refused < 12 =>
        {
            refused += 1;
            match refused % 4 {
                0 => Fate::Break,
                1 => Fate::Refuse(ErrorCode::CoordinatorLoadInProgress),
                2 => Fate::ServeAndBreak,
                _ => Fate::Refuse(ErrorCode::RebalanceInProgress),
            }
        }
        _ => Fate::Serve,
    });
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(20_000));
    assert_eq!(app.seen.len(), 10);
}

#[test]
fn what_cannot_be_is_said_and_stays_so() {
    let mut world = world(1);
    world.script = Box::new(|request| match request {
        Request::JoinGroup(_) => Fate::Refuse(ErrorCode::InconsistentGroupProtocol),
        _ => Fate::Serve,
    });
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(50));
    let joins = world.count(is_join);
    run(&mut world, &mut [&mut app], ms(5_000));
    assert_eq!((joins, world.count(is_join)), (1, 1));
    let code = app.failures[0].code();
    assert_eq!(code, Some(ErrorCode::InconsistentGroupProtocol));
    assert!(app.failures.len() > 1, "whoever comes again is told again");
    world.core.leave_group(world.now, app.id);
    assert_eq!(world.core.group_parting(app.id), Some(Ok(())));
}

#[test]
fn a_static_member_that_comes_back_finds_everything_as_it_was() {
    let mut world = world(2);
    let config = GroupConfig {
        instance_id: Some("shelf-3".into()),
        ..group_config()
    };
    let mut a = App::start(&mut world, config.clone());
    let mut b = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut a, &mut b], ms(5_000));
    let (had, before) = (a.assignment(&world), generation(&world));
    assert_eq!(had.len(), 1);
    b.events();
    world.core.leave_group(world.now, a.id);
    world.run_for(ms(500));
    assert_eq!(world.core.group_parting(a.id), Some(Ok(())));
    assert_eq!(committed(&world, had[0]), Some(10), "it has committed");
    world.core.abandon_group(world.now, a.id);
    let mut again = App::start(&mut world, config.clone());
    run(&mut world, &mut [&mut again, &mut b], ms(3_000));
    assert_eq!(
        (again.assignment(&world), generation(&world)),
        (had, before)
    );
    assert_eq!((b.events(), again.seen.len()), (vec![], 0));

    // Another one under its name: the older learns that it has been replaced.
    let mut thief = App::start(&mut world, config);
    run(&mut world, &mut [&mut again, &mut thief], ms(3_000));
    let code = again.failures.first().and_then(ClientError::code);
    assert_eq!(code, Some(ErrorCode::FencedInstanceId));
    assert!(again.assignment(&world).is_empty());
    assert_eq!(thief.assignment(&world).len(), 1);
}

#[test]
fn who_leaves_commits_and_the_others_go_on_at_once() {
    let mut world = world(2);
    let mut a = App::start(&mut world, group_config());
    let mut b = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut a, &mut b], ms(5_000));
    assert_eq!(
        (a.assignment(&world).len(), b.assignment(&world).len()),
        (1, 1)
    );
    store(&mut world, 0, numbers(10..20));
    store(&mut world, 1, numbers(10..20));
    world.tick();
    run(&mut world, &mut [&mut a, &mut b], ms(50));
    assert_eq!(a.seen.len() + b.seen.len(), 40);
    world.core.leave_group(world.now, a.id);
    world.run_for(ms(10));
    assert_eq!(world.core.group_parting(a.id), Some(Ok(())));
    assert_eq!(world.coordinator.group("g").members.len(), 1);
    run(&mut world, &mut [&mut b], ms(3_000));
    assert_eq!(b.assignment(&world), [0, 1]);
    assert_eq!(
        a.seen.len() + b.seen.len(),
        40,
        "nothing is given out twice"
    );

    // A member that is dropped leaves, too, and a member that was to join does not hang about.
    let dropped = App::start(&mut world, group_config());
    world.core.abandon_group(world.now, dropped.id);
    world.core.abandon_group(world.now, b.id);
    world.settle();
    assert!(world.core.has_departures());
    world.run_for(ms(100));
    assert!(!world.core.has_departures());
    assert!(world.coordinator.group("g").members.is_empty());

    // Where there is no broker leaving ends, too.
    let last = App::start(&mut world, group_config());
    world.run_for(ms(500));
    world.listening = false;
    world.break_all();
    world.core.abandon_group(world.now, last.id);
    world.run_for(ms(1_900));
    assert!(world.core.has_departures());
    world.run_for(ms(200));
    assert!(!world.core.has_departures());
}

#[test]
fn who_crashes_is_missed_after_its_session() {
    let mut world = world(2);
    let mut a = App::start(&mut world, group_config());
    let mut b = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut a, &mut b], ms(6_000));
    assert_eq!(b.assignment(&world).len(), 1);
    world.core.crash_group(a.id);
    run(&mut world, &mut [&mut b], ms(3_000));
    assert_eq!(b.assignment(&world).len(), 1);
    run(&mut world, &mut [&mut b], ms(6_000));
    assert_eq!(b.assignment(&world), [0, 1]);
}

#[test]
fn a_pattern_sees_topics_come_and_go() {
    let config = ClientConfig {
        metadata_max_age: ms(2_000),
        ..config()
    };
    let mut world = World::new(2, config, 1);
    world.log.create("orders-a", 1);
    world.log.create("orders", 1);
    world.log.create("other", 1);
    let config = GroupConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..GroupConfig::matching("g", "orders-.*")
    };
    let mut app = App::start(&mut world, config);
    run(&mut world, &mut [&mut app], ms(500));
    let topics = |world: &World| -> Vec<String> {
        let assigned = world.core.group_assignment(app.id).into_iter();
        assigned.map(|place| place.topic.to_string()).collect()
    };
    assert_eq!(topics(&world), ["orders-a"]);
    world.log.create("orders-b", 1);
    store_in(&mut world, "orders-b", 0, numbers(0..3));
    world.run_for(ms(2_500));
    let id = app.id;
    app.poll(&mut world);
    run(&mut world, &mut [&mut app], ms(100));
    assert_eq!(world.core.group_assignment(id).len(), 2);
    assert_eq!(app.seen.len(), 3);
    world.log.topics.remove("orders-a");
    world.log.revision += 1;
    run(&mut world, &mut [&mut app], ms(2_500));
    let left = world.core.group_assignment(id);
    assert_eq!(left, [TopicPartition::new("orders-b", 0)]);
    assert!(app.failures.is_empty(), "{:?}", app.failures);
}

#[test]
fn a_member_costs_little_while_nothing_happens() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(6_000));
    world.arrived.clear();
    world.core.group_came(world.now, app.id, &[]);
    world.run_for(ms(60_000));
    // A heartbeat every two seconds, and a fetch every ten.
    let arrived = world.arrived.len();
    assert!((30..50).contains(&arrived), "{arrived}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let check = |change: fn(&mut GroupConfig)| {
        let mut config = group_config();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    assert!(check(|c| c.group.clear()).contains("group"));
    assert!(check(|c| c.assignors.clear()).contains("assignors"));
    assert!(check(|c| c.session_timeout = ms(1)).contains("session_timeout"));
    assert!(check(|c| c.max_poll_interval = ms(1_000)).contains("max_poll_interval"));
    assert!(check(|c| c.auto_commit = Some(Duration::ZERO)).contains("auto_commit"));
    assert!(check(|c| c.fetch.max_bytes = 0).contains("max_bytes"));
    let nothing: [&str; 0] = [];
    let none = GroupConfig::new("g", nothing);
    assert!(none.check().unwrap_err().to_string().contains("no topic"));
    assert!(group_config().check().is_ok());
}
