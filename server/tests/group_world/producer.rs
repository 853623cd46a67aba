//! Idempotent producers that keep several batches under way and send what was not answered again, in order,
//! over a new connection. What the old one carried may still arrive, at any time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::select;
use millrace_server::broker::Acks;
use millrace_shard::env::simulated::SimulatedEnv;
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::Event;
use millrace_wire::batch::{BatchProducer, set_batch_producer};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{ProducerEpoch, ProducerId};

use super::{Kind, PARTITIONS, TOPIC, World};
use crate::node::{SimBroker, batch};

/// How many batches of one producer a partition knows again: no more than these may have been sent since
/// the oldest that is not answered. Answers may come in another order than requests.
const KNOWN_AGAIN: u64 = 5;
/// Producers at a time.
const PRODUCERS: u32 = 2;
/// How long the broker may take to make a batch durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// A batch that is not acknowledged yet.
struct Unanswered {
    number: u64,
    partition: u32,
    /// Which of its producer's batches in the partition.
    place: u64,
    values: Vec<String>,
    bytes: Bytes,
}

type Told = Result<i64, WireError>;

/// A connection: requests are taken up in order, and answered as they are decided.
#[derive(Default)]
struct Pipe {
    requests: RefCell<VecDeque<(u64, u32, Bytes)>>,
    answers: RefCell<VecDeque<(u64, Told)>>,
    given_up: Cell<bool>,
    sent: Event,
    heard: Event,
}

impl Pipe {
    fn answer(&self, number: u64, told: Told) {
        self.answers.borrow_mut().push_back((number, told));
        self.heard.notify();
    }
}

/// The broker's end of a connection, on the broker's machine. What has been sent is carried out even if
/// the client has given the connection up.
async fn serve(world: Rc<World>, broker: Rc<SimBroker>, env: SimulatedEnv, pipe: Rc<Pipe>) {
    loop {
        let some = || !pipe.requests.borrow().is_empty() || pipe.given_up.get();
        pipe.sent.wait_until(some).await;
        let next = pipe.requests.borrow_mut().pop_front();
        let Some((number, partition, bytes)) = next else {
            return;
        };
        world.travel().await;
        let Ok(topic) = broker.topic(TOPIC) else {
            return; // the start has not come to it
        };
        let bytes = BytesMut::from(&bytes[..]);
        match broker.append(&topic, partition, Acks::All, bytes).await {
            Err(error) => pipe.answer(number, Err(error)),
            Ok(mut appending) => {
                let (pipe, own) = (Rc::clone(&pipe), env.clone());
                let task = async move {
                    let deadline = own.now().plus(DURABLE_WITHIN);
                    appending.settle(&own, deadline).await;
                    let outcome = appending.outcome().expect("it is settled");
                    pipe.answer(number, outcome.map(|appended| appended.base_offset.0));
                };
                drop(env.spawn(Queue::Requests, "append", OnPanic::StopProcess, task));
            }
        }
    }
}

/// One life of a producer.
struct Producer {
    world: Rc<World>,
    name: String,
    id: ProducerId,
    /// Records that each partition was given so far: the next sequence number.
    next: [i32; PARTITIONS as usize],
    /// And batches.
    placed: [u64; PARTITIONS as usize],
    left: u64,
    numbered: u64,
    /// In the order in which they are sent.
    unanswered: VecDeque<Unanswered>,
}

/// How a connection ended.
enum Ended {
    /// It broke; what is unanswered goes over another.
    Broken,
    /// Everything has been acknowledged.
    Done,
    /// The producer crashed.
    Crashed,
}

/// All producers, one life after the other, until the records are out.
pub fn producers(world: &Rc<World>) {
    for slot in 0..PRODUCERS {
        let world = Rc::clone(world);
        let own = Rc::clone(&world);
        world.ledger.producers.set(slot + 1);
        own.spawn(async move {
            let mut left = 100 + world.below(200);
            for life in 0.. {
                let name = format!("{slot}.{life}");
                left = produce(&world, name, left).await;
                if left == 0 {
                    break;
                }
            }
            let ledger = &world.ledger;
            ledger.producers.set(ledger.producers.get() - 1);
        });
    }
}

/// One life; how many batches it left to be produced by others.
async fn produce(world: &Rc<World>, name: String, left: u64) -> u64 {
    let id = loop {
        let patience = Duration::from_secs(5);
        let ask = |broker: Rc<SimBroker>| async move { broker.new_producer_id().await };
        if let Ok(Ok(id)) = world.ask(Kind::Other, patience, ask).await {
            break id;
        }
        world.sleep_ms(1, 30).await;
    };
    world.ledger.producer_began(id);
    let mut producer = Producer {
        world: Rc::clone(world),
        name,
        id,
        next: [0; PARTITIONS as usize],
        placed: [0; PARTITIONS as usize],
        left,
        numbered: 0,
        unanswered: VecDeque::new(),
    };
    loop {
        match producer.connect().await {
            Some(Ended::Done) => return 0,
            Some(Ended::Crashed) => return producer.left,
            Some(Ended::Broken) | None => world.sleep_ms(0, 20).await,
        }
    }
}

impl Producer {
    /// One connection, from beginning to end; none where nobody listens.
    async fn connect(&mut self) -> Option<Ended> {
        let world = Rc::clone(&self.world);
        world.travel().await;
        let broker = world.broker()?;
        let env = broker.env.clone();
        let pipe = Rc::<Pipe>::default();
        let serving = serve(Rc::clone(&world), broker, env.clone(), Rc::clone(&pipe));
        drop(env.spawn(Queue::Requests, "pipe", OnPanic::StopProcess, serving));
        for batch in &self.unanswered {
            world.ledger.count("batches sent again");
            pipe.requests.borrow_mut().push_back(Self::request(batch));
        }
        pipe.sent.notify();
        world.ledger.count("connections");
        let ended = self.talk(&pipe).await;
        if world.below(2) == 0 {
            // It never got there.
            pipe.requests.borrow_mut().clear();
        }
        pipe.given_up.set(true);
        pipe.sent.notify();
        Some(ended)
    }

    fn request(unanswered: &Unanswered) -> (u64, u32, Bytes) {
        let Unanswered {
            number,
            partition,
            bytes,
            ..
        } = unanswered;
        (*number, *partition, bytes.clone())
    }

    async fn talk(&mut self, pipe: &Rc<Pipe>) -> Ended {
        let world = Rc::clone(&self.world);
        let mut gone = world.gone();
        loop {
            let heard = pipe.heard.listen();
            loop {
                let next = pipe.answers.borrow_mut().pop_front();
                let Some((number, told)) = next else { break };
                world.travel().await;
                if world.mishap(60) || !self.hear(number, told) {
                    return Ended::Broken;
                }
                world.answered(Kind::Produce);
            }
            if self.left == 0 && self.unanswered.is_empty() {
                return Ended::Done;
            }
            if world.mishap(400) {
                world.ledger.count("producers crashed");
                return Ended::Crashed;
            }
            // In bursts, from the first life of the broker to the last.
            if self.unanswered.is_empty() && !world.is_calm() {
                world.sleep_ms(0, 1_000).await;
            }
            self.send_more(pipe);
            let waiting = Box::pin(world.env.sleep(Duration::from_millis(50)));
            let over = select(&mut gone, select(heard, waiting)).await;
            if matches!(over, futures_util::future::Either::Left(_)) {
                return Ended::Broken;
            }
        }
    }

    fn send_more(&mut self, pipe: &Pipe) {
        let mut burst = 1 + self.world.below(12);
        while self.left > 0 && burst > 0 {
            burst -= 1;
            let partition = self.world.below(u64::from(PARTITIONS)) as u32;
            let mut unanswered = self.unanswered.iter();
            let oldest = unanswered.find(|batch| batch.partition == partition);
            let next = self.placed[partition as usize];
            if oldest.is_some_and(|oldest| next - oldest.place >= KNOWN_AGAIN) {
                return;
            }
            let made = self.make(partition);
            pipe.requests.borrow_mut().push_back(Self::request(&made));
            pipe.sent.notify();
            self.unanswered.push_back(made);
            self.left -= 1;
        }
    }

    fn make(&mut self, partition: u32) -> Unanswered {
        let next = &mut self.next[partition as usize];
        let base_sequence = *next;
        let records = 1 + self.world.below(3) as i32;
        *next += records;
        let values: Vec<String> = (base_sequence..*next)
            .map(|sequence| format!("{}:{partition}:{sequence}", self.name))
            .collect();
        let all: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut bytes = BytesMut::from(&batch(&all)[..]);
        let producer = BatchProducer {
            id: self.id,
            epoch: ProducerEpoch(0),
            base_sequence,
        };
        set_batch_producer(&mut bytes, producer);
        self.numbered += 1;
        let placed = &mut self.placed[partition as usize];
        let place = *placed;
        *placed += 1;
        Unanswered {
            number: self.numbered,
            partition,
            place,
            values,
            bytes: bytes.freeze(),
        }
    }

    /// Takes an answer; whether the connection is of use still.
    fn hear(&mut self, number: u64, told: Told) -> bool {
        let find = |batch: &Unanswered| batch.number == number;
        let Some(at) = self.unanswered.iter().position(find) else {
            let what = format!("{}: batch {number} was answered twice", self.name);
            self.world.ledger.violation(what);
            return false;
        };
        let ledger = &self.world.ledger;
        match told {
            Ok(base) => {
                let batch = self.unanswered.remove(at).expect("it was found");
                ledger.acknowledged(batch.partition, base, &batch.values);
                true
            }
            Err(error) => {
                let Unanswered {
                    partition, values, ..
                } = &self.unanswered[at];
                let mut before = self.unanswered.range(..at);
                let is_first = before.all(|other| other.partition != *partition);
                if is_first && error.code == ErrorCode::OutOfOrderSequenceNumber {
                    // Everything before it was acknowledged, and it was sent first.
                    ledger.violation(format!("{values:?} came next and was told {error}"));
                }
                false
            }
        }
    }
}
