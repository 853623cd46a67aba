//! Reading partitions, a piece at a time or whole.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_server::broker::{FetchItem, FetchQuery};
use millrace_shard::env::simulated::SimulatedEnv;
use millrace_wire::error::WireError;

use super::{Kind, Lost, PARTITIONS, TOPIC, World};
use crate::node::{Log, Node, SimBroker, see};

/// Batches of one partition from `offset` on, and the end that was told; whatever is there at the moment.
async fn read(
    broker: Rc<SimBroker>,
    partition: u32,
    offset: i64,
) -> Result<(Vec<Bytes>, i64), WireError> {
    let topic = broker.topic(TOPIC)?;
    let query = FetchQuery {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 4 << 10,
        items: vec![FetchItem {
            partition: topic.partition(partition),
            offset,
            max_bytes: 2 << 10,
        }],
    };
    let mut outcomes = broker.fetch(query).await.outcomes;
    let outcome = outcomes.pop().expect("one was asked for");
    Ok((outcome.batches?, outcome.high_watermark.0))
}

impl World {
    /// Reads on in a partition; the next offset to read.
    pub async fn poll(&self, partition: u32, offset: i64) -> Result<i64, Lost> {
        let patience = Duration::from_secs(5);
        let ask = move |broker| read(broker, partition, offset);
        match self.ask(Kind::Other, patience, ask).await? {
            // Told by a broker that starts or stops.
            Err(_) => Err(Lost),
            Ok((batches, _)) => Ok(self.ledger.consumed(partition, offset, batches)),
        }
    }
}

/// Everything that is in the log, read on a node of its own.
pub async fn read_all(env: SimulatedEnv) -> Log {
    let node = Node::start(&env, 2).await;
    let mut log = Log::new();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        loop {
            let read = read(Rc::clone(&node.brokers[0]), partition, offset).await;
            let (batches, end) = read.expect("it can be read");
            if batches.is_empty() {
                assert_eq!(offset, end, "nothing is read before the end");
                break;
            }
            for batch in batches {
                see(&mut log, partition, offset, batch).expect("read once");
            }
            let all = log.range((partition, 0)..(partition + 1, 0));
            offset = all.map(|((_, offset), _)| *offset + 1).max().unwrap_or(0);
        }
    }
    node.stop().await;
    log
}
