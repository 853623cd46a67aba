//! Producer ids: every face gives them out, and none twice, whatever happens to the broker.

mod kafka_client;
mod node;
mod process;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use kafka_client::{KafkaClient, text};
use millrace_shard::env::simulated::{DiskFaults, NodeId, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_wire::error::ErrorCode;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use node::{Connection, Node, batch, code, run_two_shards};
use process::Broker;

/// How many ids a shard takes from the controller at a time.
const RANGE: i64 = 1000;

/// A request without a transactional id.
fn plain() -> m::InitProducerIdRequest {
    m::InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
}

/// Error code, id and epoch of an answer.
#[track_caller]
fn init(
    client: &mut KafkaClient,
    version: i16,
    request: m::InitProducerIdRequest,
) -> (i16, i64, i16) {
    match client.ask(ApiKey::InitProducerId, version, request) {
        ResponseKind::InitProducerId(told) => {
            assert_eq!(told.throttle_time_ms, 0);
            (told.error_code, *told.producer_id, told.producer_epoch)
        }
        other => panic!("{other:?}"),
    }
}

fn given(response: Response) -> i64 {
    match response {
        Response::InitProducer(told) => {
            assert_eq!((told.status, told.producer_epoch), (Status::ok(), 0));
            told.producer_id
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn kafkas_request_is_answered_in_every_version() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &["--shards", "2"]);
    let mut client = KafkaClient::connect(broker.address);
    let mut seen = BTreeSet::new();
    let mut must_be_new = |(error, id, epoch): (i16, i64, i16)| {
        assert_eq!((error, epoch), (0, 0));
        assert!(id >= 0 && seen.insert(id), "{id} was given out before");
    };
    for version in 0..=4 {
        must_be_new(init(&mut client, version, plain()));
        // A producer with a transactional id is refused in a form that it reads.
        let careful = plain().with_transactional_id(Some(m::TransactionalId(text("careful"))));
        assert_eq!(init(&mut client, version, careful), (35, -1, -1));
        let nameless = plain().with_transactional_id(Some(m::TransactionalId(text(""))));
        assert_eq!(init(&mut client, version, nameless), (42, -1, -1));
    }
    for version in 3..=4 {
        // One that has an id already gets another, as in Kafka: nobody else keeps count of epochs.
        let had = plain()
            .with_producer_id(m::ProducerId(0))
            .with_producer_epoch(7);
        must_be_new(init(&mut client, version, had));
        let half = plain().with_producer_id(m::ProducerId(0));
        assert_eq!(init(&mut client, version, half), (42, -1, -1));
        let half = plain().with_producer_epoch(0);
        assert_eq!(init(&mut client, version, half), (42, -1, -1));
    }
    // A version that nobody has.
    client
        .write(&[0, 0, 0, 10, 0, 22, 0, 9, 0, 0, 0, 5, 0xff, 0xff])
        .expect("sent");
    assert!(client.is_closed());
}

#[test]
fn no_id_is_given_out_twice_over_faces_shards_and_sigkill() {
    let data = tempfile::tempdir().expect("a directory");
    let mut seen = BTreeSet::new();
    for shards in [2, 1, 2, 2_u16] {
        let broker = Broker::start(data.path(), &["--shards", &shards.to_string()]);
        let mut must_be_new = |id: i64| assert!(seen.insert(id), "{id} was given out before");
        for shard in 0..shards {
            let mut native = broker.connect();
            assert_eq!(native.handshake(Some(shard)).shard, shard);
            // More than a range has, and many under way at a time.
            for _ in 0..12 {
                for _ in 0..100 {
                    native.send(InitProducerRequest {}, &[]);
                }
                for _ in 0..100 {
                    must_be_new(given(native.try_receive().expect("an answer").1));
                }
            }
        }
        // Whichever shards these come to.
        for _ in 0..8 {
            let mut kafka = KafkaClient::connect(broker.address);
            must_be_new(init(&mut kafka, 0, plain()).1);
            must_be_new(init(&mut kafka, 4, plain()).1);
        }
        broker.kill();
    }
}

async fn ask(connection: &mut Connection) -> InitProducerResponse {
    match connection.ask(InitProducerRequest {}).await.0 {
        Response::InitProducer(told) => told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn those_who_wait_for_a_range_wait_for_the_same_one() {
    run_two_shards(|_, node| async move {
        let mut connection = node.connect(1);
        for _ in 0..50 {
            connection.send(InitProducerRequest {}, &[]).await;
        }
        let mut ids = BTreeSet::new();
        for _ in 0..50 {
            ids.insert(given(connection.receive().await.1));
        }
        assert!(ids.into_iter().eq(0..50), "all of one range");
        assert_eq!(ask(&mut node.connect(0)).await.producer_id, RANGE);
        node.stop().await;
    });
}

#[test]
fn ids_are_had_on_a_disk_that_is_full_for_records() {
    let faults = DiskFaults {
        capacity_bytes: 16 << 20,
        ..DiskFaults::default()
    };
    Simulation::with_faults(1, faults).run(|env| async move {
        let node = Node::start(&env, 1).await;
        let mut connection = node.connect(0);
        // The records are old, and would make room again.
        let kept = [("retention.ms", "-1")];
        connection.create_topic("t", 1, &kept).await;
        let large = batch(&["x".repeat(400_000).as_str()]);
        let mut full = false;
        for _ in 0..100 {
            let placed = connection.produce("t", 0, large.clone()).await;
            full = code(&placed.status) == Some(ErrorCode::DiskReserveReached);
            if full {
                break;
            }
            env.sleep(Duration::from_millis(500)).await;
        }
        assert!(full, "the disk was never full");
        assert_eq!(ask(&mut connection).await.status, Status::ok());
        node.stop().await;
    });
}

#[test]
fn an_id_that_was_given_out_is_durable_before() {
    const BROKER: NodeId = NodeId(0);
    let mut seen = BTreeSet::new();
    let simulation = Simulation::new(3);
    for life in 0..20 {
        let env = simulation.restart(BROKER);
        let ids = Rc::new(RefCell::new(Vec::new()));
        let running = give_out(env.clone(), Rc::clone(&ids));
        drop(env.spawn(Queue::Requests, "node", OnPanic::StopProcess, running));
        let end = simulation.now().plus(Duration::from_millis(20 + life));
        while simulation.now() < end {
            simulation.run_for(Duration::from_millis(10));
        }
        simulation.crash(BROKER);
        for id in ids.borrow().iter() {
            assert!(seen.insert(*id), "{id} was given out in an earlier life");
        }
    }
    assert!(seen.len() > 2_000, "only {} ids were given out", seen.len());
}

async fn give_out(env: SimulatedEnv, ids: Rc<RefCell<Vec<i64>>>) {
    let node = Node::start(&env, 2).await;
    loop {
        for shard in 0..2 {
            let told = ask(&mut node.connect(shard)).await;
            ids.borrow_mut().push(told.producer_id);
        }
        env.sleep(Duration::from_micros(20)).await;
    }
}
