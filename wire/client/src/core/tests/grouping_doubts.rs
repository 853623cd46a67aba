//! A request to join that nobody answers. Whether the generation that it was for has begun is not known
//! then, and in the next one the partitions may be somebody else's.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use millrace_wire::native::Request;
use millrace_wire::native::messages::{GroupTopic, JoinGroupRequest};

use super::consuming::{numbers, store};
use super::member::{App, generation, group_config, is_join, owners, run};
use super::world::{Fate, World, config, ms};
use crate::{Assignor, ErrorCode, GroupConfig, GroupEvent};

const PARTITIONS: u32 = 4;

/// A member with all partitions, which has read a little of what there is, and what becomes of its
/// requests to join.
fn begin(assignor: Assignor) -> (World, App, Rc<Cell<Fate>>) {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", PARTITIONS);
    for partition in 0..PARTITIONS {
        store(&mut world, partition, numbers(0..100));
    }
    let fate = Rc::new(Cell::new(Fate::Serve));
    let of_joins = Rc::clone(&fate);
    world.script = Box::new(move |request| match request {
        Request::JoinGroup(_) => of_joins.get(),
        _ => Fate::Serve,
    });
    let config = GroupConfig {
        assignors: vec![assignor],
        ..group_config()
    };
    let mut app = App::start(&mut world, config);
    while app.seen.is_empty() {
        world.run_for(ms(10));
        app.poll_once(&mut world);
    }
    assert_eq!(app.assignment(&world), [0, 1, 2, 3]);
    (world, app, fate)
}

/// A member of another process asks to join, for the first time or again.
fn stranger_joins(world: &mut World, name: &str) {
    let group = world.coordinator.group("g");
    let mut members = group.members.iter();
    let known = members.find(|(_, member)| member.instance.as_deref() == Some(name));
    let (id, owned) = match known {
        Some((id, member)) => {
            let places = member.assignment.iter();
            (
                id.clone(),
                places.map(|(_, partition)| *partition).collect(),
            )
        }
        None => (String::new(), Vec::new()),
    };
    let join = JoinGroupRequest {
        owned_generation: if id.is_empty() { -1 } else { group.generation },
        member_id: id,
        instance_id: Some(name.into()),
        owned: vec![GroupTopic {
            name: "t".into(),
            partitions: owned,
        }],
        ..request_to_join(ms(60_000))
    };
    ask(world, join);
}

/// Somebody takes an id and does not come with it: a rebalance waits for him for so long.
fn stranger_dawdles(world: &mut World, time: Duration) {
    ask(world, request_to_join(time));
}

fn request_to_join(session: Duration) -> JoinGroupRequest {
    let assignors = [Assignor::CooperativeSticky, Assignor::Range];
    JoinGroupRequest {
        group: "g".into(),
        topics: vec!["t".into()],
        assignors: assignors.map(|assignor| assignor.name().into()).into(),
        session_timeout_ms: session.as_millis() as u32,
        rebalance_timeout_ms: 60_000,
        ..JoinGroupRequest::default()
    }
}

fn ask(world: &mut World, join: JoinGroupRequest) {
    let topics = &world.log.topics;
    let count = |name: &str| topics.get(name).map(|partitions| partitions.len() as u32);
    // Nobody waits for the answer.
    let token = u64::MAX;
    world
        .coordinator
        .ask(world.now.0, token, &join.into(), &count);
    world.pass_coordinator();
    world.settle();
}

/// Waits for the next request to join, while the application is at work.
fn wait_for_join(world: &mut World) {
    let before = world.count(is_join);
    while world.count(is_join) == before {
        world.run_for(ms(1));
    }
}

/// The application comes all the time, and gets no records.
fn gets_nothing(world: &mut World, app: &mut App, time: Duration) {
    let before = app.seen.len();
    run(world, &mut [app], time);
    let given: Vec<_> = app.seen[before..].iter().take(3).collect();
    assert!(given.is_empty(), "{given:?} and more at {:?}", world.now);
}

/// The application comes all the time, and all records that it gets are of partitions that the
/// coordinator has given to nobody else. Tells how many there were.
fn gets_its_own(world: &mut World, app: &mut App, time: Duration) -> usize {
    let (before, until) = (app.seen.len(), world.now.plus(time));
    while world.now < until {
        world.run_for(ms(10));
        let seen = app.seen.len();
        app.poll(world);
        let group = world.coordinator.group("g");
        let me = world.core.group_member(app.id).expect("it is a member");
        for (_, partition, _) in &app.seen[seen..] {
            assert_eq!(owners(group, *partition), [me], "partition {partition}");
        }
    }
    app.seen.len() - before
}

#[test]
fn nothing_is_given_out_after_a_generation_that_began_unheard() {
    let (mut world, mut app, fate) = begin(Assignor::CooperativeSticky);
    stranger_joins(&mut world, "b");
    fate.set(Fate::ServeAndBreak);
    wait_for_join(&mut world);
    fate.set(Fate::Break);
    world.run_for(ms(5));
    assert_eq!(generation(&world), 2);
    gets_nothing(&mut world, &mut app, ms(1_000));

    // What it says that it owns is of a generation that is over, and counts for nothing in the next.
    stranger_joins(&mut world, "c");
    stranger_joins(&mut world, "b");
    fate.set(Fate::ServeAndBreak);
    wait_for_join(&mut world);
    assert_eq!(generation(&world), 3);
    let group = world.coordinator.group("g");
    let me = world.core.group_member(app.id).expect("it is a member");
    let is_anothers = |partition: &u32| owners(group, *partition).iter().any(|owner| owner != me);
    assert!((0..PARTITIONS).filter(is_anothers).count() >= 2);
    gets_nothing(&mut world, &mut app, ms(500));

    fate.set(Fate::Serve);
    assert!(gets_its_own(&mut world, &mut app, ms(3_000)) > 0);
}

#[test]
fn a_cooperative_member_reads_on_once_it_knows_that_no_generation_has_begun() {
    let (mut world, mut app, fate) = begin(Assignor::CooperativeSticky);
    stranger_dawdles(&mut world, ms(10_000));
    stranger_joins(&mut world, "b");
    fate.set(Fate::Break);
    wait_for_join(&mut world);
    world.run_for(ms(5));
    // Heartbeats are answered meanwhile, and prove nothing: the request that was lost may yet arrive.
    fate.set(Fate::Refuse(ErrorCode::NotCoordinator));
    world.arrived.clear();
    gets_nothing(&mut world, &mut app, ms(2_000));
    let is_heartbeat = |request: &Request| matches!(request, Request::Heartbeat(_));
    assert!(world.count(is_heartbeat) > 0);

    fate.set(Fate::Serve);
    assert!(gets_its_own(&mut world, &mut app, ms(2_000)) > 0);
    assert_eq!(generation(&world), 1, "the group waits still");
    assert_eq!(app.assignment(&world), [0, 1, 2, 3]);
}

#[test]
fn a_member_that_gave_everything_up_gives_nothing_out_while_it_joins() {
    let (mut world, mut app, fate) = begin(Assignor::Range);
    stranger_dawdles(&mut world, ms(10_000));
    stranger_joins(&mut world, "b");
    while !matches!(app.poll_once(&mut world), Some(GroupEvent::Revoked(_))) {
        world.run_for(ms(100));
    }
    assert!(app.seen.len() < 400, "there is more to give out");
    let joins = world.count(is_join);
    gets_nothing(&mut world, &mut app, ms(500));
    assert_eq!(world.count(is_join), joins + 1, "it waits for the others");

    fate.set(Fate::Break);
    world.break_all();
    gets_nothing(&mut world, &mut app, ms(1_000));
    assert_eq!(generation(&world), 1);
    fate.set(Fate::ServeAndBreak);
    while generation(&world) == 1 {
        gets_nothing(&mut world, &mut app, ms(100));
    }
    gets_nothing(&mut world, &mut app, ms(500));

    fate.set(Fate::Serve);
    assert!(gets_its_own(&mut world, &mut app, ms(3_000)) > 0);
    assert_eq!(app.assignment(&world).len(), 2);
}
