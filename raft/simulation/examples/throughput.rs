//! What the kernel itself costs an event: `cargo run --release -p simulation --example throughput`.
//! A simulator that aims at a million events a second has a microsecond for each; this says how
//! much of it is left for its own work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use simulation::{Events, LinkModel, Network, Seed, Time};

const COUNT: u64 = 5_000_000;
const MILLISECOND: Duration = Duration::from_millis(1);

/// As large as a message with a few fields.
#[derive(Clone)]
struct Message([u64; 12]);

fn main() {
    measure("a draw", |count| {
        let mut draws = Seed(1).draws("throughput", &[]);
        (0..count).fold(0, |sum, _| sum ^ draws.next_u64())
    });
    measure("an exponential draw", |count| {
        let mut draws = Seed(1).draws("throughput", &[]);
        (0..count).fold(0, |sum, _| {
            sum ^ draws.exponential(MILLISECOND).subsec_nanos() as u64
        })
    });
    let calm = LinkModel {
        delay_mean: MILLISECOND,
        ..LinkModel::perfect(MILLISECOND)
    };
    let hostile = LinkModel {
        loss: 0.1,
        duplication: 0.1,
        reordering: 0.1,
        reordering_delay: 20 * MILLISECOND,
        ..calm.clone()
    };
    for (name, model) in [("calm", &calm), ("hostile", &hostile)] {
        measure(&format!("a routed datagram, {name}"), |count| {
            let mut network = Network::new(Seed(1), 5, model.clone());
            (0..count).fold(0, |sum, number| {
                let arrivals = network.route(Time(number), number as usize % 5, 0, 100);
                sum ^ arrivals.first().map_or(0, |at| at.0)
            })
        });
        measure(&format!("a routed piece of a stream, {name}"), |count| {
            let mut network = Network::new(Seed(1), 5, model.clone());
            (0..count).fold(0, |sum, number| {
                let arrival = network.route_stream(Time(number), number as usize % 5, 0, 100);
                sum ^ arrival.map_or(0, |at| at.0)
            })
        });
    }
    for waiting in [32, 1_024, 32_768] {
        let name = format!("an event routed, pushed and popped, {waiting} wait");
        measure(&name, |count| circulate(&calm, waiting, count));
    }
}

/// Keeps `waiting` messages under way: each that arrives sends the next.
fn circulate(model: &LinkModel, waiting: u64, count: u64) -> u64 {
    let mut network = Network::new(Seed(1), 5, model.clone());
    let mut events = Events::new();
    for number in 0..waiting {
        events.push(Time(number), Message([number; 12]));
    }
    let mut sum = 0;
    while events.processed() < count
        && let Some((now, message)) = events.pop()
    {
        let node = message.0[3] as usize % 5;
        for at in network.route(now, node, (node + 1) % 5, 100) {
            let mut next = message.clone();
            next.0[3] += 1;
            sum ^= at.0;
            events.push(at, next);
        }
    }
    sum
}

fn measure(name: &str, work: impl FnOnce(u64) -> u64) {
    let began = Instant::now();
    black_box(work(COUNT));
    let nanoseconds = began.elapsed().as_secs_f64() * 1e9 / COUNT as f64;
    println!("{nanoseconds:7.1} ns  {name}");
}
