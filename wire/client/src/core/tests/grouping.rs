//! Members of groups.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_wire::native::Request;

use super::consuming::{numbers, store, store_in};
use super::coordinator::Group;
use super::world::{Fate, World, config, ms};
use crate::core::consumer::Reader;
use crate::core::group::CommitId;
use crate::core::{ConsumerId, Time};
use crate::{
    Assignor, ClientConfig, ClientError, ErrorCode, GroupConfig, GroupEvent, GroupOffset,
    OffsetReset, Start, TopicPartition,
};

/// An application with a member of a group, as the tokio face would serve it.
pub(super) struct App {
    pub(super) id: ConsumerId,
    reader: Reader,
    handed: BTreeMap<TopicPartition, i64>,
    /// What it was told, but for records.
    events: Vec<GroupEvent>,
    /// What it was given: partition, offset.
    pub(super) seen: Vec<(String, u32, i64)>,
    failures: Vec<ClientError>,
}

pub(super) fn group_config() -> GroupConfig {
    GroupConfig {
        session_timeout: ms(6_000),
        max_poll_interval: ms(30_000),
        auto_offset_reset: OffsetReset::Earliest,
        ..GroupConfig::new("g", ["t"])
    }
}

impl App {
    pub(super) fn start(world: &mut World, config: GroupConfig) -> App {
        let id = world.core.open_group(world.now, config).unwrap();
        world.settle();
        App {
            id,
            reader: Reader::new(),
            handed: BTreeMap::new(),
            events: Vec::new(),
            seen: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Comes for one thing, and goes away to work on it.
    pub(super) fn poll_once(&mut self, world: &mut World) -> Option<GroupEvent> {
        let done: Vec<_> = std::mem::take(&mut self.handed).into_iter().collect();
        world.core.group_came(world.now, self.id, &done);
        world.settle();
        let event = self.take(world);
        world.core.group_went(world.now, self.id);
        world.settle();
        match &event {
            Some(GroupEvent::Records(records)) => {
                for record in records {
                    let place = (record.topic.to_string(), record.partition, record.offset);
                    self.seen.push(place);
                    let place = TopicPartition::new(record.topic.clone(), record.partition);
                    self.handed.insert(place, record.offset + 1);
                }
            }
            Some(event) => self.events.push(event.clone()),
            None => {}
        }
        event
    }

    fn take(&mut self, world: &mut World) -> Option<GroupEvent> {
        let turn = world
            .core
            .group_turn(world.now, self.id)
            .expect("it is one");
        for place in &turn.stopped {
            self.reader.forget(&place.topic, place.partition);
        }
        if turn.event.is_some() {
            return turn.event;
        }
        self.failures.extend(turn.failure);
        if !turn.may_read {
            return None;
        }
        let mut records = Vec::new();
        if !self.reader.is_reading() {
            match world.core.take_chunk(self.id) {
                Some(chunk) => self.reader.begin(chunk),
                None => self
                    .failures
                    .extend(world.core.take_consumer_error(self.id)),
            }
        }
        self.reader.read(10, &mut records).unwrap();
        (!records.is_empty()).then_some(GroupEvent::Records(records))
    }

    /// Comes until there is nothing more, and stays away then.
    pub(super) fn poll(&mut self, world: &mut World) {
        while self.poll_once(world).is_some() {}
    }

    /// Takes the events since they were last taken.
    fn events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    fn seek(&mut self, world: &mut World, partition: u32, to: Start) {
        let place = TopicPartition::new("t", partition);
        assert!(world.core.group_seek(world.now, self.id, &place, to));
        self.reader.forget("t", partition);
        self.handed.remove(&place);
        world.settle();
    }

    fn commit(&mut self, world: &mut World, offsets: Option<Vec<GroupOffset>>) -> CommitId {
        let done: Vec<_> = self.handed.clone().into_iter().collect();
        let done = if offsets.is_some() { &[][..] } else { &done };
        let commit = world.core.group_commit(world.now, self.id, done, offsets);
        world.settle();
        commit
    }

    pub(super) fn assignment(&self, world: &World) -> Vec<u32> {
        let assigned = world.core.group_assignment(self.id);
        assigned.into_iter().map(|place| place.partition).collect()
    }
}

/// Lets time pass while these come for records all the time.
fn run(world: &mut World, apps: &mut [&mut App], time: Duration) {
    let until = world.now.plus(time);
    while world.now < until {
        world.run_for(ms(10));
        apps.iter_mut().for_each(|app| app.poll(world));
    }
}

fn places(partitions: impl IntoIterator<Item = u32>) -> Vec<TopicPartition> {
    let partitions = partitions.into_iter();
    partitions.map(|p| TopicPartition::new("t", p)).collect()
}

fn committed(world: &World, partition: u32) -> Option<i64> {
    let group = world.coordinator.group("g");
    let place = ("t".to_owned(), partition);
    group.offsets.get(&place).map(|(offset, _)| *offset)
}

fn generation(world: &World) -> i32 {
    world.coordinator.group("g").generation
}

/// A world with a topic of so many partitions, each with ten records.
fn world(partitions: u32) -> World {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", partitions);
    for partition in 0..partitions {
        store(&mut world, partition, numbers(0..10));
    }
    world
}

fn is_join(request: &Request) -> bool {
    matches!(request, Request::JoinGroup(_))
}

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
fn a_busy_application_stays_a_member_and_a_stuck_one_does_not() {
    let mut world = world(1);
    let mut app = App::start(&mut world, group_config());
    run(&mut world, &mut [&mut app], ms(500));
    app.events();
    world.run_for(ms(29_000));
    assert_eq!(world.coordinator.group("g").members.len(), 1);
    let beats = world.count(|request| matches!(request, Request::Heartbeat(_)));
    assert!((12..17).contains(&beats), "{beats}");
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

/// Who reads a partition, as the coordinator has it.
pub(super) fn owners(group: &Group, partition: u32) -> Vec<String> {
    let place = ("t".to_owned(), partition);
    let owners = group.members.iter();
    let owners = owners.filter(|(_, member)| member.assignment.contains(&place));
    owners.map(|(id, _)| id.clone()).collect()
}
