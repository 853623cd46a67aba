//! Produce (key 0): each batch is cut out of the frame it came in and gets its place in its partition,
//! in the order of the requests; then the request waits until all of them are durable.

use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use millrace_shard::env::Env;
use millrace_wire::batch::{BatchHeader, Compression};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::{ProduceRequest, ProduceResponseWriter, ProducedPartition};
use smallvec::SmallVec;

use super::errors::{Refused, kafka_code};
use super::session::{Asked, Ended, Session};
use crate::broker::calls::Appended;
use crate::broker::{Acks, Appending, TopicEntry, UnderWay, durable_deadline};
use crate::session::Held;
use crate::session::guard::guard;
use crate::session::outbox::Outgoing;
use crate::session::placed::{Named, PlacedBatches, PlacedPartition, PlacedTopic};

/// Before this version clients may not have heard of zstd (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;

/// Before this version batches are of formats that are not served.
const FIRST_VERSION_SERVED: i16 = 3;

/// A request whose batches have their places.
pub(super) struct Produced<E: Env> {
    asked: Asked,
    pub(super) batches: PlacedBatches<E>,
    /// It is answered as it is.
    pub(super) overdue: bool,
}

impl<E: Env> Produced<E> {
    /// Whether it can be answered.
    pub(super) fn is_decided(&self) -> bool {
        self.overdue || self.batches.is_decided()
    }

    /// Writes the answer. What is not decided has run out of time.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let topics = &self.batches.topics;
        let Asked {
            version,
            correlation,
            ..
        } = self.asked;
        let mut writer = ProduceResponseWriter::begin(out, version, correlation, topics.len());
        for topic in topics {
            writer.topic(topic.name.as_str(), topic.partitions.len());
            for placed in &topic.partitions {
                match placed.outcome() {
                    Ok(appended) => writer.partition(stored(placed.number, appended)),
                    Err(error) => writer.partition(refused(placed.number, &error)),
                }
            }
        }
        writer.finish(0);
    }
}

fn stored(number: u32, appended: Appended) -> ProducedPartition<'static> {
    ProducedPartition {
        index: number.cast_signed(),
        error_code: 0,
        base_offset: appended.base_offset.0,
        append_time_ms: appended.append_time_ms.unwrap_or(-1),
        log_start: appended.log_start.0,
        error_message: None,
    }
}

fn refused(number: u32, error: &WireError) -> ProducedPartition<'_> {
    ProducedPartition {
        index: number.cast_signed(),
        error_code: kafka_code(error.code),
        base_offset: -1,
        append_time_ms: -1,
        log_start: -1,
        error_message: Some(&error.message),
    }
}

/// A topic of a request, and where in the frame its batches are.
struct Wanted {
    name: Named,
    entry: Result<Rc<TopicEntry>, WireError>,
    partitions: SmallVec<[(u32, Range<usize>); 1]>,
}

impl<E: Env> Session<E> {
    pub(super) async fn produce(
        self: &Rc<Self>,
        asked: Asked,
        mut payload: BytesMut,
        held: Held,
        under_way: UnderWay<E>,
    ) -> ControlFlow<Ended> {
        let request = match ProduceRequest::parse(&payload[asked.body_at..], asked.version) {
            Ok(request) => request,
            Err(error) => return self.malformed(&asked, &error),
        };
        let timeout_ms = u32::try_from(request.timeout_ms()).unwrap_or(0);
        let deadline = durable_deadline(asked.complete, timeout_ms);
        let acks = Acks::from_number(request.acks()).and_then(|acks| {
            let transactional = request.transactional_id().is_some();
            check(asked.version, transactional).map(|()| acks)
        });
        let wanted = self.wanted(&request);
        // What the parser counted from is the body; what is cut is the payload.
        let mut cut = asked.body_at;
        payload.advance(cut);
        cut = 0;
        let mut topics = SmallVec::new();
        for topic in wanted {
            let mut partitions = SmallVec::new();
            for (number, records) in topic.partitions {
                payload.advance(records.start - cut);
                let batch = payload.split_to(records.len());
                cut = records.end;
                let appending = match (&topic.entry, &acks) {
                    (Ok(entry), Ok(acks)) => self.append(asked, *acks, entry, number, batch).await,
                    (_, Err(error)) | (Err(error), _) => Err(error.clone()),
                };
                partitions.push(PlacedPartition { number, appending });
            }
            let name = topic.name;
            topics.push(PlacedTopic { name, partitions });
        }
        let batches = PlacedBatches { topics, deadline };
        if acks == Ok(Acks::None) {
            return unanswered(&batches);
        }
        let produced = Produced {
            asked,
            batches,
            overdue: false,
        };
        self.answer_when_durable(produced, held, under_way);
        ControlFlow::Continue(())
    }

    fn wanted(&self, request: &ProduceRequest<'_>) -> SmallVec<[Wanted; 1]> {
        let wanted = |name: &str| {
            let entry = self.broker.clients_topic(name);
            (Named::new(name, entry.clone()), entry)
        };
        let topics = request.topics().map(|topic| {
            let (name, entry) = wanted(topic.name);
            let partitions = topic.partitions();
            Wanted {
                name,
                entry,
                // A negative number is none that a topic has, whichever way it is read.
                partitions: partitions
                    .map(|partition| (partition.index.cast_unsigned(), partition.records))
                    .collect(),
            }
        });
        topics.collect()
    }

    async fn append(
        &self,
        asked: Asked,
        acks: Acks,
        entry: &TopicEntry,
        number: u32,
        batch: BytesMut,
    ) -> Result<Appending<E>, WireError> {
        check_batch(&batch, asked.version)?;
        self.broker.append(entry, number, acks, batch).await
    }

    fn answer_when_durable(
        self: &Rc<Self>,
        mut produced: Produced<E>,
        held: Held,
        under_way: UnderWay<E>,
    ) {
        if produced.batches.is_local() {
            self.note_queued(produced.asked);
            let deadline = produced.batches.deadline;
            let ready = self.outbox.filled();
            self.replies.await_journal(produced, held, under_way, ready);
            guard(&self.broker.env, self, deadline);
            return;
        }
        let env = self.broker.env.clone();
        self.run(produced.asked, held, under_way, async move {
            produced.batches.settle(&env).await;
            let mut answer = Outgoing::default();
            produced.write(answer.small());
            answer
        });
    }
}

/// What may not be produced at all, whatever it is.
fn check(version: i16, transactional: bool) -> Result<(), WireError> {
    if version < FIRST_VERSION_SERVED {
        return Err(WireError::new(
            ErrorCode::UnsupportedVersion,
            format!(
                "Produce version {version} carries record formats from before Kafka 0.11, which are not served; use a newer client"
            ),
        ));
    }
    if transactional {
        return Err(Refused::Transactions.into());
    }
    Ok(())
}

/// What a batch may not be, beyond what the broker checks of every one.
fn check_batch(batch: &[u8], version: i16) -> Result<(), WireError> {
    // One that cannot be read is refused by the broker, which says why.
    let Ok(header) = BatchHeader::parse(batch) else {
        return Ok(());
    };
    let zstd = header.attributes.compression() == Ok(Compression::Zstd);
    if zstd && version < FIRST_VERSION_WITH_ZSTD {
        return Err(WireError::new(
            ErrorCode::UnsupportedCompressionType,
            format!(
                "zstd needs Produce version {FIRST_VERSION_WITH_ZSTD} or later, this is {version}"
            ),
        ));
    }
    Ok(())
}

/// The end of a request that wants no answer. All it can be told of a failure is that its connection
/// closes, as Kafka does it; what becomes of the batches later nobody asked.
fn unanswered<E: Env>(batches: &PlacedBatches<E>) -> ControlFlow<Ended> {
    let partitions = batches.topics.iter().flat_map(|topic| &topic.partitions);
    for placed in partitions {
        if let Err(error) = &placed.appending {
            let why = format!("a batch sent with acks=0 was refused: {}", error.message);
            return ControlFlow::Break(why.into());
        }
    }
    ControlFlow::Continue(())
}
