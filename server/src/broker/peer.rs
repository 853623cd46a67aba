//! Answering other shards.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::select;
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::Event;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionId, ShardId};

use super::calls::{Call, Reply, WatchId};
use super::{Broker, count};

impl<E: Env> Broker<E> {
    /// Answers a call. Appends take their place before this returns, so calling it in the order of
    /// arrival keeps their order; the rest happens in the future.
    pub fn answer(self: &Rc<Self>, call: Call) -> impl Future<Output = Reply> + use<E> {
        count(&self.counters.foreign_calls, 1);
        let broker = Rc::clone(self);
        let append = match call {
            Call::Append(batch) => Ok(self.append_for_peer(batch)),
            other => Err(other),
        };
        async move {
            match append {
                Ok(appended) => appended.await,
                Err(call) => broker.answer_later(call).await,
            }
        }
    }

    async fn answer_later(self: Rc<Self>, call: Call) -> Reply {
        match call {
            Call::Append(batch) => self.append_for_peer(batch).await,
            Call::Read {
                items,
                max_bytes,
                at_least_one,
            } => Reply::Read(self.read_here(&items, max_bytes, at_least_one).await),
            Call::Watch { id, items } => {
                self.watch_for_peer(id, items);
                Reply::Done
            }
            Call::Unwatch(id) => {
                if let Some(cancelled) = self.watches.borrow_mut().remove(&id) {
                    cancelled.notify();
                }
                Reply::Done
            }
            Call::Wake(id) => {
                let waiting = self.waiting_fetches.borrow().get(&id.number).cloned();
                if let Some(news) = waiting {
                    news.notify();
                }
                Reply::Done
            }
            Call::Ask(questions) => Reply::Answers(self.answer_questions(&questions).await),
            Call::Group(index, call) => self.answer_group(index, call).await,
            Call::ListGroups => self.answer_list(),
            Call::Stats => Reply::Stats(self.own_stats()),
            Call::Command(command) => match self.controller.get() {
                Some(controller) => match controller.submit(command).await {
                    Ok(outcome) => Reply::Commanded(outcome),
                    Err(error) => Reply::Failed(error),
                },
                None => Reply::Failed(WireError::new(
                    ErrorCode::NotLeader,
                    "the controller is not on this shard",
                )),
            },
            Call::Changed { revision, change } => done(self.change(revision, &change).await),
            Call::RemoveStale(state) => done(self.remove_stale(&state).await),
            Call::Install(state) => done(self.install(&state).await),
            Call::Adopt(connection) => {
                if let Some(hooks) = self.hooks.get() {
                    hooks.adopt(connection);
                }
                Reply::Done
            }
            Call::Open => {
                if let Some(hooks) = self.hooks.get() {
                    hooks.open();
                }
                Reply::Done
            }
            Call::Drain => {
                self.drain().await;
                Reply::Done
            }
            Call::Finish => {
                self.finish();
                Reply::Done
            }
        }
    }

    /// Watches partitions for a fetch that waits on another shard, and wakes it once.
    fn watch_for_peer(self: &Rc<Self>, id: WatchId, items: Vec<(PartitionId, Offset)>) {
        let news = Rc::new(Event::new());
        let heard = news.listen();
        let registrations = self.watch_here(&items, &news);
        let cancelled = Rc::new(Event::new());
        let stop = cancelled.listen();
        self.watches.borrow_mut().insert(id, cancelled);
        let broker = Rc::clone(self);
        let task = async move {
            select(heard, stop).await;
            drop(registrations);
            if broker.watches.borrow_mut().remove(&id).is_some() {
                broker.call(id.home, Call::Wake(id)).await;
            }
        };
        drop(
            self.env
                .spawn(Queue::Requests, "watch for a peer", OnPanic::EndTask, task),
        );
    }

    /// Sends a call whose answer does not matter.
    pub(super) fn send_and_forget(&self, to: ShardId, call: Call) {
        let sent = self.peers.send(to, call);
        let task = async move {
            if let Ok(reply) = sent.await {
                reply.await;
            }
        };
        drop(
            self.env
                .spawn(Queue::Requests, "tell a peer", OnPanic::EndTask, task),
        );
    }

    /// Hands a connection to the shard that its client asked for.
    pub async fn move_connection(
        &self,
        to: ShardId,
        connection: crate::native::handoff::MovedConnection,
    ) -> Result<(), WireError> {
        self.call_for_done(to, Call::Adopt(connection)).await
    }

    /// Runs `call` on every shard, this one included, and returns when all are done, or all but
    /// those that `patience` is not enough for.
    pub async fn everywhere(
        self: &Rc<Self>,
        make: impl Fn() -> Call,
    ) -> Vec<(ShardId, Result<(), WireError>)> {
        let mut sent = Vec::new();
        for shard in (0..self.node.shard_count).map(ShardId) {
            let call = make();
            let reply: super::calls::Local<Reply> = if shard == self.shard_id {
                Box::pin(self.answer(call))
            } else {
                match self.peers.send(shard, call).await {
                    Ok(reply) => reply,
                    Err(error) => Box::pin(async { Reply::Failed(error) }),
                }
            };
            sent.push((shard, reply));
        }
        let mut outcomes = Vec::new();
        for (shard, reply) in sent {
            let outcome = match pin!(reply).await {
                Reply::Done => Ok(()),
                other => Err(super::calls::wrong_reply(other)),
            };
            outcomes.push((shard, outcome));
        }
        outcomes
    }
}

fn done(result: Result<(), WireError>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed(error),
    }
}
