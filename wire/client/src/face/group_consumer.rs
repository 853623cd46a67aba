//! Reading as a member of a group.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millrace_wire::native::Response;
use millrace_wire::native::messages::{FetchOffsetsRequest, GroupTopic, PartitionList};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::client::Handle;
use super::consumer::Consumer;
use super::shared::Shared;
use crate::core::ConsumerId;
use crate::core::consumer::Progress;
use crate::core::group::CommitId;
use crate::{
    Client, ClientError, ConsumedRecord, GroupConfig, GroupEvent, GroupOffset, Start,
    TopicPartition,
};

/// A member of a group of consumers, which shares the partitions of its topics with the others.
///
/// The shortest way to use it is [`poll`](GroupConsumer::poll) in a loop: what it gave is committed
/// when it is called again, every [`GroupConfig::auto_commit`], and when partitions go to others.
///
/// Whoever has to know of rebalances, since he keeps something for each partition, calls
/// [`poll_event`](GroupConsumer::poll_event) instead. Rebalances are events among the records, and
/// not callbacks, because what has to be done then (write out what is kept, commit, seek) awaits, and
/// needs both the consumer and what the application keeps: in the arm of a `match` both are at hand,
/// without locks and without boxes. Coming back for the next event says that the last one was dealt
/// with, and until then nothing happens that it warned of.
///
/// ```no_run
/// # async fn run() -> Result<(), millrace_client::ClientError> {
/// use millrace_client::{Client, ClientConfig, GroupConfig, GroupEvent};
/// use std::time::Duration;
///
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9092"])).await?;
/// let config = GroupConfig { auto_commit: None, ..GroupConfig::new("billing", ["orders"]) };
/// let mut consumer = client.group_consumer(config)?;
/// loop {
///     match consumer.poll_event(Duration::from_secs(60)).await? {
///         Some(GroupEvent::Records(records)) => println!("{} records", records.len()),
///         Some(GroupEvent::Revoked(_)) => consumer.commit().await?,
///         Some(other) => println!("{other:?}"),
///         None => break,
///     }
/// }
/// consumer.close().await
/// # }
/// ```
///
/// Heartbeats and rebalances go on in the background while the application works; only giving
/// partitions up waits for it. If the process stands still for longer than the session timeout, no
/// records are handed out afterwards before the broker has said whose they are.
///
/// [`close`](GroupConsumer::close) commits, leaves, and tells how that went. A consumer that is
/// dropped does the same in the background, but for the records that were given out last, of which it
/// cannot know whether they were worked on.
pub struct GroupConsumer {
    inner: Consumer,
    /// Where the partitions stand of which records were given out last: done when the application
    /// comes back.
    handed: BTreeMap<TopicPartition, Progress>,
}

/// The application is waiting for records as long as this lives.
struct Here {
    shared: Arc<Shared>,
    id: ConsumerId,
}

impl Here {
    fn come(consumer: &Consumer, done: &[(TopicPartition, Progress)]) -> Here {
        let (shared, id) = (consumer.client.shared.clone(), consumer.id);
        shared.with(|inner, now| inner.core.group_came(now, id, done));
        Here { shared, id }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.shared
            .with(|inner, now| inner.core.group_went(now, self.id));
    }
}

impl GroupConsumer {
    pub(super) fn new(
        client: Arc<Handle>,
        config: GroupConfig,
    ) -> Result<GroupConsumer, ClientError> {
        let most = config.fetch.max_poll_records;
        let inner = Consumer::open(client, most, |core, now| core.open_group(now, config))?;
        Ok(GroupConsumer {
            inner,
            handed: BTreeMap::new(),
        })
    }

    /// Records, as soon as there are any; an empty list when there were none for `timeout`. Records
    /// of a partition come in order. What the last call gave counts as worked on.
    ///
    /// Fails once for each partition that cannot be read, and always when the member cannot be one:
    /// the group refuses it, or another runs under its `instance_id`.
    ///
    /// Cancel safety: a dropped future loses no records.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.next_by(deadline).await? {
                Some(GroupEvent::Records(records)) => return Ok(records),
                // Nobody keeps anything by partition: coming back is all that is to be done.
                Some(_) => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    /// Records, or news of the partitions, whichever is first; none when there was neither for
    /// `timeout`. Coming back says that the last event was dealt with.
    ///
    /// Fails, and may be cancelled, like [`poll`](GroupConsumer::poll).
    pub async fn poll_event(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<GroupEvent>, ClientError> {
        self.next_by(Instant::now() + timeout).await
    }

    async fn next_by(&mut self, deadline: Instant) -> Result<Option<GroupEvent>, ClientError> {
        let done: Vec<_> = std::mem::take(&mut self.handed).into_iter().collect();
        let _here = Here::come(&self.inner, &done);
        let news = self.inner.news.clone();
        loop {
            let arrival = news.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let event = self.step()?;
            if event.is_some() || timeout_at(deadline, arrival).await.is_err() {
                return Ok(event);
            }
        }
    }

    /// What there is now.
    fn step(&mut self) -> Result<Option<GroupEvent>, ClientError> {
        let id = self.inner.id;
        let turn = self
            .inner
            .client
            .shared
            .with(|inner, now| inner.core.group_turn(now, id));
        let turn = turn.ok_or(ClientError::Closed)?;
        for place in &turn.stopped {
            self.inner.reader.forget(&place.topic, place.partition);
        }
        if turn.event.is_some() {
            return Ok(turn.event);
        }
        if let Some(failure) = turn.failure {
            return Err(failure);
        }
        if !turn.may_read {
            return Ok(None);
        }
        let records = self.inner.take()?;
        if records.is_empty() {
            return Ok(None);
        }
        let mut last: Option<(&Arc<str>, u32)> = None;
        for record in &records {
            let (topic, partition) = (&record.topic, record.partition);
            if last.replace((topic, partition)) == Some((topic, partition)) {
                continue;
            }
            if let Some(progress) = self.inner.reader.progress(topic, partition) {
                let place = TopicPartition::new(topic.clone(), partition);
                self.handed.insert(place, progress);
            }
        }
        Ok(Some(GroupEvent::Records(records)))
    }

    /// Commits everything that was given out so far, and returns when the group has noted it,
    /// durably. It is tried again, through rebalances too, for one
    /// [`request_timeout`](crate::ClientConfig::request_timeout).
    ///
    /// Cancel safety: if the future is dropped, the offsets may still be committed.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let done: Vec<_> = self.handed.clone().into_iter().collect();
        self.await_commit(&done, None).await
    }

    /// Commits these offsets, and returns when the group has noted them, durably.
    ///
    /// Cancel safety: as with `commit`.
    pub async fn commit_offsets(&self, offsets: &[GroupOffset]) -> Result<(), ClientError> {
        self.await_commit(&[], Some(offsets.to_vec())).await
    }

    async fn await_commit(
        &self,
        done: &[(TopicPartition, Progress)],
        offsets: Option<Vec<GroupOffset>>,
    ) -> Result<(), ClientError> {
        let (sender, result) = oneshot::channel();
        self.inner.client.shared.with(|inner, now| {
            let commit: CommitId = inner.core.group_commit(now, self.inner.id, done, offsets);
            inner.commits.insert(commit, sender);
        });
        result.await.map_err(|_| ClientError::Closed)?
    }

    /// What the group has noted of these partitions, in their order; none where nothing is.
    pub async fn committed(
        &self,
        places: &[TopicPartition],
    ) -> Result<Vec<Option<GroupOffset>>, ClientError> {
        let topics = places.iter().map(|place| GroupTopic {
            name: place.topic.to_string(),
            partitions: vec![place.partition],
        });
        let request = FetchOffsetsRequest {
            group: self.group(),
            member: None,
            partitions: Some(PartitionList {
                topics: topics.collect(),
            }),
        };
        let admin = Client::of(self.inner.client.clone()).admin();
        let Response::FetchOffsets(answer) = admin.ask(request).await? else {
            return Err(ClientError::invalid(
                "the broker does not answer what was asked",
            ));
        };
        ClientError::check(&answer.status)?;
        let mut offsets = Vec::with_capacity(places.len());
        for topic in answer.topics {
            for told in topic.partitions {
                ClientError::check(&told.status)?;
                offsets.push((told.offset >= 0).then(|| GroupOffset {
                    place: TopicPartition::new(&*topic.name, told.partition),
                    offset: told.offset,
                    metadata: told.metadata,
                }));
            }
        }
        Ok(offsets)
    }

    fn group(&self) -> String {
        let inner = self.inner.client.shared.lock();
        inner.core.group_name(self.inner.id).unwrap_or_default()
    }

    /// The partitions that are this member's, as far as the application was told.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let inner = self.inner.client.shared.lock();
        inner.core.group_assignment(self.inner.id)
    }

    /// The offset of the next record that is given out of this partition, once it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<i64> {
        self.inner.position(topic, partition)
    }

    /// The high watermark that the broker last told of this partition: how far it could be read.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: u32) -> Option<i64> {
        self.inner.high_watermark(topic, partition)
    }

    /// Goes on from another place in a partition of this member's; what was fetched ahead is dropped.
    /// Returns when the place is known.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        to: Start,
    ) -> Result<(), ClientError> {
        let (place, id) = (TopicPartition::new(topic, partition), self.inner.id);
        let is_ours = self
            .inner
            .client
            .shared
            .with(|inner, now| inner.core.group_seek(now, id, &place, to));
        self.check_assigned(is_ours, &place)?;
        self.inner.reader.forget(topic, partition);
        self.handed.remove(&place);
        let deadline = Instant::now() + self.inner.client.config.request_timeout;
        loop {
            let told = self.inner.news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if !self
                .inner
                .client
                .shared
                .lock()
                .core
                .is_unresolved(id, &place)
            {
                return Ok(());
            }
            if timeout_at(deadline, told).await.is_err() {
                return Err(self
                    .inner
                    .timed_out(&format!("the question for an offset of {place}")));
            }
        }
    }

    /// Leaves a partition of this member's alone until it is resumed, or goes to another member.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), ClientError> {
        let (place, id) = (TopicPartition::new(topic, partition), self.inner.id);
        let unfinished = self.inner.reader.unfinished(topic, partition);
        let is_ours = self
            .inner
            .client
            .shared
            .with(|inner, _| inner.core.group_pause(id, &place, unfinished));
        self.check_assigned(is_ours, &place)?;
        self.inner.reader.interrupt(topic, partition);
        Ok(())
    }

    /// Goes on with a partition that was paused.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), ClientError> {
        let (place, id) = (TopicPartition::new(topic, partition), self.inner.id);
        let is_ours = self
            .inner
            .client
            .shared
            .with(|inner, _| inner.core.group_resume(id, &place));
        self.check_assigned(is_ours, &place)
    }

    fn check_assigned(&self, is_ours: bool, place: &TopicPartition) -> Result<(), ClientError> {
        if is_ours {
            return Ok(());
        }
        Err(ClientError::NotAssigned {
            topic: place.topic.to_string(),
            partition: place.partition,
        })
    }

    /// Commits everything that was given out (unless `auto_commit` is off), leaves the group, and
    /// tells whether the commit went well. A member with an `instance_id` does not leave: its
    /// partitions wait for it for one `session_timeout`. Takes one
    /// [`request_timeout`](crate::ClientConfig::request_timeout) at most.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let id = self.inner.id;
        let done: Vec<_> = std::mem::take(&mut self.handed).into_iter().collect();
        let shared = self.inner.client.shared.clone();
        shared.with(|inner, now| {
            inner.core.group_came(now, id, &done);
            inner.core.leave_group(now, id);
        });
        loop {
            let told = self.inner.news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(parting) = shared.lock().core.group_parting(id) {
                return parting;
            }
            told.await;
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        let id = self.inner.id;
        self.inner
            .client
            .shared
            .with(|inner, now| inner.core.abandon_group(now, id));
    }
}

impl fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupConsumer")
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}
