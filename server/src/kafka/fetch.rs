//! Fetch (key 1): what was asked for becomes the broker's query; what comes back goes out between
//! small headers, as the same bytes that are stored.

use std::time::Duration;

use millrace_shard::env::Env;
use millrace_wire::error::WireError;
use millrace_wire::kafka::{
    FetchRequest, FetchResponse, FetchedPartition, FetchedTopic, write_fetch_response,
};

use super::errors::kafka_code;
use super::fetch_session::{Contact, WantedPartition};
use super::session::{Asked, Session};
use crate::broker::calls::ReadOutcome;
use crate::broker::{FetchItem, FetchQuery};
use crate::session::outbox::Outgoing;

/// The longest that a fetch waits, whatever the client asks for.
const MAX_FETCH_WAIT: Duration = Duration::from_secs(300);

/// A fetch as the broker understands it, and what is needed to answer it.
pub(super) struct Plan {
    contact: Contact,
    wanted: Vec<WantedPartition>,
    query: FetchQuery,
}

impl<E: Env> Session<E> {
    pub(super) fn plan_fetch(&self, request: &FetchRequest<'_>) -> Plan {
        let new_id = (self.broker.env.random_u64() >> 33) as i32;
        let mut sessions = self.fetch_sessions.borrow_mut();
        let (contact, wanted) = sessions.meet(request, new_id.max(1));
        let items = wanted.iter().map(|wanted| FetchItem {
            partition: self.current(&wanted.topic, wanted.partition, wanted.leader_epoch),
            offset: wanted.offset,
            max_bytes: bytes(wanted.max_bytes),
        });
        let items = items.collect();
        let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let at_once = request.min_bytes <= 0 || matches!(contact, Contact::Failed(_));
        Plan {
            contact,
            query: FetchQuery {
                max_wait: match at_once {
                    true => Duration::ZERO,
                    false => max_wait.min(MAX_FETCH_WAIT),
                },
                min_bytes: bytes(request.min_bytes),
                max_bytes: bytes(request.max_bytes),
                items,
            },
            wanted,
        }
    }

    pub(super) async fn fetch(&self, asked: Asked, plan: Plan) -> Outgoing {
        let Plan {
            contact,
            wanted,
            query,
        } = plan;
        let fetched = self.broker.fetch(query).await;
        let mut answer = Outgoing::default();
        let mut partitions = Vec::with_capacity(wanted.len());
        for (wanted, outcome) in wanted.into_iter().zip(fetched.outcomes) {
            if self.is_news(contact, &wanted, &outcome) {
                let told = self.told(&wanted, outcome);
                partitions.push((wanted.topic, told));
            }
        }
        // The order of reading need not keep a topic's partitions together; an answer does.
        partitions.sort_by(|(one, _), (other, _)| one.cmp(other));
        let topics = partitions.chunk_by_mut(|(one, _), (other, _)| one == other);
        let topics = topics.map(|of_topic| FetchedTopic {
            name: of_topic[0].0.clone(),
            partitions: of_topic
                .iter_mut()
                .map(|(_, partition)| std::mem::take(partition))
                .collect(),
        });
        let response = FetchResponse {
            throttle_ms: 0,
            error_code: match contact {
                Contact::Failed(code) => kafka_code(code),
                _ => 0,
            },
            session_id: contact.session_id(),
            topics: topics.collect(),
        };
        write_fetch_response(asked.version, asked.correlation, &response, &mut answer);
        fetched
            .memory
            .into_iter()
            .for_each(|memory| answer.hold(memory));
        answer
    }

    fn is_news(&self, contact: Contact, wanted: &WantedPartition, outcome: &ReadOutcome) -> bool {
        let has_data = outcome
            .batches
            .as_ref()
            .map_or(true, |batches| !batches.is_empty());
        let said = (outcome.high_watermark.0, outcome.log_start.0);
        let mut sessions = self.fetch_sessions.borrow_mut();
        sessions.tell(contact, wanted, said, has_data)
    }

    fn told(&self, wanted: &WantedPartition, outcome: ReadOutcome) -> FetchedPartition {
        let (error_code, batches) = match outcome.batches {
            Ok(batches) => (0, batches),
            Err(WireError { code, .. }) => (kafka_code(code), Vec::new()),
        };
        FetchedPartition {
            partition: wanted.partition,
            error_code,
            high_watermark: outcome.high_watermark.0,
            // Without transactions every record below the high watermark is stable.
            last_stable_offset: outcome.high_watermark.0,
            log_start: outcome.log_start.0,
            batches,
            ..FetchedPartition::default()
        }
    }
}

/// A count of bytes as Kafka has it: a negative one is none.
fn bytes(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}
