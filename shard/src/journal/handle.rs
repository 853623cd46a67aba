//! The journal as the rest of the shard sees it.

use std::path::Path;
use std::rc::Rc;

use super::entry::Entry;
use super::metrics::JournalMetrics;
use super::recovered::Recovery;
use super::ring::Ring;
use super::writer::{Epoch, JournalClosed, Writer};
use super::{JournalError, JournalOwner, Sequence};
use crate::env::{Env, OnPanic, Queue};
use crate::local::Event;
use crate::segment::DurableWrites;

/// A journal at work. `T` is what an appender gets back when its entry is durable.
pub struct Journal<E: Env, T: 'static> {
    writer: Rc<Writer<E, T>>,
}

impl<E: Env, T: 'static> Journal<E, T> {
    /// Adds an entry to the group being gathered, and gives the group's number. Copies the batch, so
    /// nothing need be kept. The token comes back from [`Journal::next_durable`]. Entries are
    /// durable in the order of the calls.
    pub fn append(&self, entry: Entry<'_>, token: T) -> Result<Sequence, JournalClosed> {
        self.append_with(entry, |_| Some(token))
    }

    /// Like [`Journal::append`], for an appender that wants a token back once for each group:
    /// `token` is told the group's number and says whether there is one.
    pub fn append_with(
        &self,
        entry: Entry<'_>,
        token: impl FnOnce(Sequence) -> Option<T>,
    ) -> Result<Sequence, JournalClosed> {
        let sequence = self.writer.append(&entry, token)?;
        self.writer.issue_if_worth_it();
        Ok(sequence)
    }

    /// Waits until there is room for an entry of about `bytes`: too much is on its way to the disk,
    /// or every file is full of bytes that are not yet safe in segments. Append before the next
    /// `await`, so that others who wait see it.
    pub async fn room(&self, bytes: usize) {
        self.writer.room(bytes).await;
    }

    /// The next group with tokens that is durable, with every group before it, and its tokens;
    /// nothing once the journal is closed, or stops because a write failed. For one task.
    pub async fn next_durable(&self) -> Option<(Sequence, Vec<T>)> {
        loop {
            let changed = self.writer.durable_changed.listen();
            if let Some(released) = self.writer.take_released() {
                return Some(released);
            }
            if self.writer.is_over() {
                return None;
            }
            changed.await;
        }
    }

    /// Adds an entry and waits until it is durable.
    pub async fn append_durable(&self, entry: Entry<'_>) -> Result<Sequence, JournalClosed> {
        let sequence = self.writer.append(&entry, |_| None)?;
        let writer = &self.writer;
        writer
            .durable_changed
            .wait_until(|| writer.durable() >= sequence || writer.is_over())
            .await;
        if writer.durable() >= sequence {
            Ok(sequence)
        } else {
            Err(JournalClosed)
        }
    }

    /// The last group that is durable, with all before it.
    #[must_use]
    pub fn durable(&self) -> Sequence {
        self.writer.durable()
    }

    /// Asks the owner to make everything in groups below this one safe in segments, so that files
    /// come free and a restart reads little. Nothing while few files are in use. It changes when
    /// [`Journal::flush_wanted`] is notified.
    #[must_use]
    pub fn flush_below(&self) -> Option<Sequence> {
        self.writer.ring.flush_below()
    }

    /// Notified when [`Journal::flush_below`] may have changed.
    #[must_use]
    pub fn flush_wanted(&self) -> &Event {
        &self.writer.ring.changed
    }

    /// The owner's oldest needed group has moved on, without an entry that says so: if the journal waits for a file, it may have
    /// one now.
    pub fn note_safe(&self) {
        self.writer.retry_roll();
    }

    /// Counters and latencies.
    #[must_use]
    pub fn metrics(&self) -> &Rc<JournalMetrics> {
        &self.writer.metrics
    }

    /// Takes nothing more, writes what was appended, seals it, and returns when all is
    /// durable and nothing is at work any more.
    pub async fn close(&self) {
        self.writer.close();
        self.writer
            .durable_changed
            .wait_until(|| self.writer.is_over())
            .await;
        self.writer.ring.ended().await;
    }
}

impl<E: Env, T: 'static> DurableWrites for Journal<E, T> {
    fn are_under_way(&self) -> bool {
        self.writer.is_writing()
    }

    fn changed(&self) -> &Event {
        &self.writer.durable_changed
    }
}

impl Recovery {
    /// Begins a new epoch in a new file, with a checkpoint by `owner`, which must have taken in all
    /// that was recovered. When this returns the recovery is final.
    pub async fn start<E: Env, T: 'static>(
        self,
        env: E,
        owner: Rc<dyn JournalOwner>,
        metrics: Rc<JournalMetrics>,
    ) -> Result<Rc<Journal<E, T>>, JournalError> {
        let Recovery { resume, end, .. } = self;
        let config = resume.config;
        let directory = config.directory.clone();
        sync_names(&env, &directory).await?;
        let ring = Ring::new(
            env.clone(),
            config.clone(),
            Rc::clone(&metrics),
            resume.live,
            resume.free,
            resume.next_slot,
        );
        let ring = Rc::new(ring);
        // A first file that its checkpoint fills would ask for another before the owner has had a
        // chance to need less of the old ones.
        ring.fit_checkpoint(checkpoint_len(&*owner));
        ring.prepare().await?;
        let epoch = Epoch {
            number: resume.next_epoch,
            salt: env.random_u64(),
            previous_end: end,
        };
        let writer = Writer::new(
            env.clone(),
            config,
            Rc::clone(&ring),
            metrics,
            owner,
            epoch,
            resume.next_file,
        );
        let writer = Rc::new(writer);
        if !writer.begin().await {
            let error = std::io::Error::other("the first write of a new file failed");
            return Err(JournalError::io("begin", &directory)(error));
        }
        for path in resume.set_aside {
            let aside = path.with_extension("damaged");
            env.rename(&path, &aside)
                .await
                .map_err(JournalError::io("set aside", &path))?;
        }
        let _detached = env.spawn(
            Queue::Background,
            "journal files",
            OnPanic::StopProcess,
            Rc::clone(&ring).tend(),
        );
        let _detached = env.spawn(
            Queue::Requests,
            "journal",
            OnPanic::StopProcess,
            Rc::clone(&writer).drive(),
        );
        Ok(Rc::new(Journal { writer }))
    }
}

/// How many bytes a checkpoint takes.
fn checkpoint_len(owner: &dyn JournalOwner) -> u64 {
    let states = owner.checkpoint().partitions;
    let states = states.into_iter().map(Entry::Checkpoint);
    let mut len: usize = states.map(|entry| entry.encoded_len()).sum();
    owner.producers(&mut |partition, snapshot| {
        let entry = Entry::ProducersCheckpoint {
            partition,
            snapshot,
        };
        len += entry.encoded_len();
    });
    len as u64
}

/// Makes the names on the way to the journal durable: its files', and its own if it is new.
async fn sync_names<E: Env>(env: &E, directory: &Path) -> Result<(), JournalError> {
    for path in directory
        .ancestors()
        .take(3)
        .filter(|path| !path.as_os_str().is_empty())
    {
        env.sync_directory(path)
            .await
            .map_err(JournalError::io("sync", path))?;
    }
    Ok(())
}
