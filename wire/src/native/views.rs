//! Produce and fetch requests read where they lie: no allocation, no copy of a name. A protobuf
//! body has no place to read from, so its view holds the owned message; callers see no difference.

use super::messages::{
    ArchivedFetchRequest, ArchivedFetchTopic, ArchivedProduceRequest, ArchivedProduceTopic,
    FetchRequest, FetchTopic, ProduceRequest, ProduceTopic,
};

/// One of two iterators over the same thing.
enum Either<A, B> {
    InPlace(A),
    Owned(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Either::InPlace(iterator) => iterator.next(),
            Either::Owned(iterator) => iterator.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Either::InPlace(iterator) => iterator.size_hint(),
            Either::Owned(iterator) => iterator.size_hint(),
        }
    }
}

/// A produce request.
#[derive(Debug)]
pub struct ProduceView<'a>(ProduceInner<'a>);

enum ProduceInner<'a> {
    InPlace(&'a ArchivedProduceRequest),
    Owned(ProduceRequest),
}

/// One partition's batch in a produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceEntry {
    /// Partition number.
    pub partition: u32,
    /// Length of its attachment.
    pub batch_bytes: u32,
}

impl<'a> ProduceView<'a> {
    pub(super) fn in_place(request: &'a ArchivedProduceRequest) -> ProduceView<'a> {
        ProduceView(ProduceInner::InPlace(request))
    }

    pub(super) fn owned(request: ProduceRequest) -> ProduceView<'a> {
        ProduceView(ProduceInner::Owned(request))
    }

    /// 0: no answer; 1: durable on the leader; -1: durable on a quorum.
    #[must_use]
    pub fn acks(&self) -> i8 {
        match &self.0 {
            ProduceInner::InPlace(request) => request.acks,
            ProduceInner::Owned(request) => request.acks,
        }
    }

    /// How long to wait for the quorum.
    #[must_use]
    pub fn timeout_ms(&self) -> u32 {
        match &self.0 {
            ProduceInner::InPlace(request) => request.timeout_ms.to_native(),
            ProduceInner::Owned(request) => request.timeout_ms,
        }
    }

    /// The topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = ProduceTopicView<'_>> {
        match &self.0 {
            ProduceInner::InPlace(request) => {
                Either::InPlace(request.topics.iter().map(ProduceTopicView::InPlace))
            }
            ProduceInner::Owned(request) => {
                Either::Owned(request.topics.iter().map(ProduceTopicView::Owned))
            }
        }
    }

    /// Every batch with its topic's name, in the order of the attachments.
    pub fn entries(&self) -> impl Iterator<Item = (&str, ProduceEntry)> {
        self.topics()
            .flat_map(|topic| topic.partitions().map(move |entry| (topic.name(), entry)))
    }

    pub(super) fn attachment_bytes(&self) -> u64 {
        self.entries()
            .map(|(_, entry)| u64::from(entry.batch_bytes))
            .sum()
    }
}

/// One topic of a produce request.
#[derive(Clone, Copy)]
pub enum ProduceTopicView<'a> {
    /// Read in place.
    InPlace(&'a ArchivedProduceTopic),
    /// From a decoded message.
    Owned(&'a ProduceTopic),
}

impl<'a> ProduceTopicView<'a> {
    /// Topic name, as it was sent.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            ProduceTopicView::InPlace(topic) => topic.name.as_str(),
            ProduceTopicView::Owned(topic) => &topic.name,
        }
    }

    /// Its batches, in the order of the attachments.
    pub fn partitions(self) -> impl Iterator<Item = ProduceEntry> + 'a {
        match self {
            ProduceTopicView::InPlace(topic) => {
                Either::InPlace(topic.partitions.iter().map(|partition| ProduceEntry {
                    partition: partition.partition.to_native(),
                    batch_bytes: partition.batch_bytes.to_native(),
                }))
            }
            ProduceTopicView::Owned(topic) => {
                Either::Owned(topic.partitions.iter().map(|partition| ProduceEntry {
                    partition: partition.partition,
                    batch_bytes: partition.batch_bytes,
                }))
            }
        }
    }
}

/// A fetch request.
#[derive(Debug)]
pub struct FetchView<'a>(FetchInner<'a>);

enum FetchInner<'a> {
    InPlace(&'a ArchivedFetchRequest),
    Owned(FetchRequest),
}

/// One partition of a fetch request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchEntry {
    /// Partition number.
    pub partition: u32,
    /// First offset wanted.
    pub offset: i64,
    /// At most this many bytes of this partition.
    pub max_bytes: u32,
}

impl<'a> FetchView<'a> {
    pub(super) fn in_place(request: &'a ArchivedFetchRequest) -> FetchView<'a> {
        FetchView(FetchInner::InPlace(request))
    }

    pub(super) fn owned(request: FetchRequest) -> FetchView<'a> {
        FetchView(FetchInner::Owned(request))
    }

    /// Answer at the latest after this long.
    #[must_use]
    pub fn max_wait_ms(&self) -> u32 {
        match &self.0 {
            FetchInner::InPlace(request) => request.max_wait_ms.to_native(),
            FetchInner::Owned(request) => request.max_wait_ms,
        }
    }

    /// Answer as soon as this many bytes are there.
    #[must_use]
    pub fn min_bytes(&self) -> u32 {
        match &self.0 {
            FetchInner::InPlace(request) => request.min_bytes.to_native(),
            FetchInner::Owned(request) => request.min_bytes,
        }
    }

    /// At most this many bytes of batches altogether.
    #[must_use]
    pub fn max_bytes(&self) -> u32 {
        match &self.0 {
            FetchInner::InPlace(request) => request.max_bytes.to_native(),
            FetchInner::Owned(request) => request.max_bytes,
        }
    }

    /// The topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = FetchTopicView<'_>> {
        match &self.0 {
            FetchInner::InPlace(request) => {
                Either::InPlace(request.topics.iter().map(FetchTopicView::InPlace))
            }
            FetchInner::Owned(request) => {
                Either::Owned(request.topics.iter().map(FetchTopicView::Owned))
            }
        }
    }

    /// Every partition with its topic's name, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, FetchEntry)> {
        self.topics()
            .flat_map(|topic| topic.partitions().map(move |entry| (topic.name(), entry)))
    }
}

/// One topic of a fetch request.
#[derive(Clone, Copy)]
pub enum FetchTopicView<'a> {
    /// Read in place.
    InPlace(&'a ArchivedFetchTopic),
    /// From a decoded message.
    Owned(&'a FetchTopic),
}

impl<'a> FetchTopicView<'a> {
    /// Topic name, as it was sent.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            FetchTopicView::InPlace(topic) => topic.name.as_str(),
            FetchTopicView::Owned(topic) => &topic.name,
        }
    }

    /// Its partitions, in order.
    pub fn partitions(self) -> impl Iterator<Item = FetchEntry> + 'a {
        match self {
            FetchTopicView::InPlace(topic) => {
                Either::InPlace(topic.partitions.iter().map(|partition| FetchEntry {
                    partition: partition.partition.to_native(),
                    offset: partition.offset.to_native(),
                    max_bytes: partition.max_bytes.to_native(),
                }))
            }
            FetchTopicView::Owned(topic) => {
                Either::Owned(topic.partitions.iter().map(|partition| FetchEntry {
                    partition: partition.partition,
                    offset: partition.offset,
                    max_bytes: partition.max_bytes,
                }))
            }
        }
    }
}

impl std::fmt::Debug for ProduceInner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProduceInner::InPlace(_) => f.write_str("in place"),
            ProduceInner::Owned(request) => request.fmt(f),
        }
    }
}

impl std::fmt::Debug for FetchInner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FetchInner::InPlace(_) => f.write_str("in place"),
            FetchInner::Owned(request) => request.fmt(f),
        }
    }
}
