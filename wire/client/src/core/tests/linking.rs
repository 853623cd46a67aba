//! Connections, routing, requests.

use millrace_wire::native::messages::{CreateTopicRequest, PingRequest};
use millrace_wire::native::{Request, Response};

use super::world::{Fate, World, config, ms};
use crate::{ClientConfig, ClientError, ErrorCode, ProducerConfig, Record};

fn to(partition: u32) -> Record {
    Record::new("t", "v").partition(partition)
}

#[test]
fn there_is_one_connection_to_each_shard_that_is_needed() {
    let mut world = World::new(8, config(), 1);
    world.log.create("t", 16);
    let producer = world.core.open_producer(ProducerConfig::default());
    for round in 0..5 {
        for partition in [0, 8, 3, 11] {
            world.push(producer, &to(partition));
        }
        world.finish();
        let connections: std::collections::BTreeSet<_> =
            world.arrived.iter().map(|(_, id, _)| *id).collect();
        // Shards 0 and 3, and the bootstrap connection if it is on neither.
        assert!(
            (2..=3).contains(&connections.len()),
            "round {round}: {connections:?}"
        );
    }
    for (_, _, request) in &world.arrived {
        let Request::Produce(request) = request else {
            continue;
        };
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let shards: std::collections::BTreeSet<_> = partitions.map(|p| p.partition % 8).collect();
        assert_eq!(
            shards.len(),
            1,
            "a request goes to the shard of its partitions"
        );
    }
}

#[test]
fn a_shard_that_does_not_take_the_connection_is_served_by_forwarding() {
    let mut world = World::new(4, config(), 1);
    world.log.create("t", 4);
    world.log.refuse_moves = true;
    let producer = world.core.open_producer(ProducerConfig::default());
    for _ in 0..20 {
        for partition in 0..4 {
            world.push(producer, &to(partition));
        }
        world.finish();
    }
    assert!(world.done.values().all(Result::is_ok));
    let dialled = world.dialled.len();
    assert!(
        (2..=5).contains(&dialled),
        "refusals are not asked for again and again: {dialled}"
    );
}

#[test]
fn bootstrap_addresses_are_tried_in_turn_and_failure_is_told() {
    let config = ClientConfig {
        bootstrap: vec!["a:1".into(), "b:2".into()],
        ..config()
    };
    let mut world = World::new(1, config, 1);
    world.listening = false;
    world.core.connect();
    world.run_for(ms(10));
    assert_eq!(world.dialled, ["a:1", "b:2"]);
    assert_eq!(world.unreachable.len(), 1);
    let text = world.unreachable[0].to_string();
    assert!(
        text.contains("b:2") && text.contains("refused") && text.contains("serve"),
        "{text}"
    );
    // It goes on trying, more and more slowly, and succeeds when it can.
    world.run_for(ms(10_000));
    assert!(
        (10..60).contains(&world.dialled.len()),
        "{}",
        world.dialled.len()
    );
    world.listening = true;
    world.run_for(ms(2_000));
    assert!(world.core.broker().is_some());
}

#[test]
fn a_handshake_that_is_refused_says_why() {
    let mut world = World::new(1, config(), 1);
    world.script = Box::new(|_| Fate::Refuse(ErrorCode::RemoteRefused));
    world.core.connect();
    world.run_for(ms(10));
    assert_eq!(world.unreachable[0].code(), Some(ErrorCode::RemoteRefused));
}

#[test]
fn a_question_is_asked_again_and_a_change_is_not() {
    let mut world = World::new(1, config(), 1);
    let mut broken = 0;
    world.script = Box::new(move |request| match request {
        Request::Ping(_) if broken < 2 => {
            broken += 1;
            Fate::ServeAndBreak
        }
        _ => Fate::Serve,
    });
    world.core.request(world.now, PingRequest {}.into(), true);
    world.run_for(ms(1_500));
    assert!(
        matches!(world.replies[..], [Ok(Response::Ping(_))]),
        "{:?}",
        world.replies
    );
    assert_eq!(
        world.count(|request| matches!(request, Request::Ping(_))),
        3
    );
    let create = CreateTopicRequest {
        name: "x".into(),
        ..CreateTopicRequest::default()
    };
    let mut world = World::new(1, config(), 1);
    world.script = Box::new(|request| match request {
        Request::CreateTopic(_) => Fate::ServeAndBreak,
        _ => Fate::Serve,
    });
    world.core.request(world.now, create.into(), false);
    world.run_for(ms(100));
    let error = world.replies.pop().unwrap().unwrap_err();
    assert!(
        matches!(error, ClientError::ConnectionLost { .. }),
        "{error}"
    );
    assert_eq!(
        world.count(|request| matches!(request, Request::CreateTopic(_))),
        1
    );
}

#[test]
fn a_request_without_a_broker_times_out_and_says_what_was_tried() {
    let mut world = World::new(1, config(), 1);
    world.listening = false;
    world.core.request(world.now, PingRequest {}.into(), true);
    world.run_for(ms(2_100));
    let error = world.replies.pop().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("2s") && error.contains("broker:9092"),
        "{error}"
    );
}

#[test]
fn a_cancelled_request_is_not_answered() {
    let mut world = World::new(1, config(), 1);
    let id = world.core.request(world.now, PingRequest {}.into(), true);
    world.core.cancel(id);
    world.run_for(ms(5_000));
    assert!(world.replies.is_empty());
    assert_eq!(
        world.count(|request| matches!(request, Request::Ping(_))),
        0
    );
}

#[test]
fn partitions_that_move_are_followed() {
    let mut world = World::new(4, config(), 1);
    world.log.create("t", 4);
    world.log.strict = true;
    let producer = world.core.open_producer(ProducerConfig::default());
    for turn in 0..4 {
        world.log.turn = turn;
        world.log.revision += 1;
        for partition in 0..4 {
            world.push(producer, &to(partition));
        }
        world.finish();
    }
    assert!(world.done.values().all(Result::is_ok), "{:?}", world.done);
    assert!(
        world.log.topics["t"]
            .iter()
            .all(|partition| partition.end == 4)
    );
}

#[test]
fn nothing_is_done_when_there_is_nothing_to_do() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 2);
    let producer = world.core.open_producer(ProducerConfig::default());
    world.push(producer, &to(0));
    world.finish();
    let before = world.arrived.len();
    world.run_for(ms(200_000));
    assert_eq!(world.arrived.len(), before);
    world.break_all();
    world.run_for(ms(60_000));
    let connections = world.dialled.len();
    world.run_for(ms(60_000));
    assert_eq!(world.dialled.len(), connections);
}
