//! What carries messages from one shard to another: glommio's lock-free channels between real
//! shards, local queues between the shards of a simulated node.

use std::future::Future;
use std::rc::Rc;

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

use crate::local::{Receiver, Sender, queue};

/// The sending end of a channel.
pub trait Outgoing<T> {
    /// Sends at once. The mesh never has more under way than the channel holds, so what comes back
    /// was not taken because the other side has ended.
    fn send(&self, item: T) -> Result<(), T>;
    /// Nothing will be sent any more; the receiver sees the end after what was sent.
    fn close(&self);
}

/// The receiving end of a channel.
pub trait Incoming<T>: 'static {
    /// The next item; none once the sender has closed or gone. Safe to drop.
    fn receive(&mut self) -> impl Future<Output = Option<T>>;
}

/// A kind of channel.
pub trait Link: 'static {
    /// A sending end on its way to its shard.
    type Sender<T: Send + 'static>;
    /// A receiving end on its way to its shard.
    type Receiver<T: Send + 'static>;
    /// A receiving end in place.
    type Incoming<T: Send + 'static>: Incoming<T>;

    /// Makes a channel that holds `capacity` items.
    fn channel<T: Send + 'static>(capacity: u32) -> (Self::Sender<T>, Self::Receiver<T>);
    /// Puts a sending end in place; completes when the other end is in place, too.
    fn connect_sender<T: Send + 'static>(
        sender: Self::Sender<T>,
    ) -> impl Future<Output = Rc<dyn Outgoing<T>>>;
    /// Puts a receiving end in place; completes when the other end is in place, too.
    fn connect_receiver<T: Send + 'static>(
        receiver: Self::Receiver<T>,
    ) -> impl Future<Output = Self::Incoming<T>>;
}

/// Between real shards.
pub struct SharedLink;

impl Link for SharedLink {
    type Sender<T: Send + 'static> = SharedSender<T>;
    type Receiver<T: Send + 'static> = SharedReceiver<T>;
    type Incoming<T: Send + 'static> = ConnectedReceiver<T>;

    fn channel<T: Send + 'static>(capacity: u32) -> (SharedSender<T>, SharedReceiver<T>) {
        new_bounded(capacity as usize)
    }

    async fn connect_sender<T: Send + 'static>(sender: SharedSender<T>) -> Rc<dyn Outgoing<T>> {
        Rc::new(sender.connect().await)
    }

    async fn connect_receiver<T: Send + 'static>(
        receiver: SharedReceiver<T>,
    ) -> ConnectedReceiver<T> {
        receiver.connect().await
    }
}

impl<T: Send + 'static> Outgoing<T> for ConnectedSender<T> {
    fn send(&self, item: T) -> Result<(), T> {
        use glommio::{GlommioError, ResourceType};
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(
                GlommioError::Closed(ResourceType::Channel(item))
                | GlommioError::WouldBlock(ResourceType::Channel(item)),
            ) => Err(item),
            Err(error) => unreachable!("a channel is closed or full: {error}"),
        }
    }

    fn close(&self) {
        ConnectedSender::close(self);
    }
}

impl<T: Send + 'static> Incoming<T> for ConnectedReceiver<T> {
    async fn receive(&mut self) -> Option<T> {
        self.recv().await
    }
}

/// Between the shards of one simulated node, which share a thread.
pub struct LocalLink;

impl Link for LocalLink {
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type Incoming<T: Send + 'static> = Receiver<T>;

    fn channel<T: Send + 'static>(capacity: u32) -> (Sender<T>, Receiver<T>) {
        queue(capacity)
    }

    async fn connect_sender<T: Send + 'static>(sender: Sender<T>) -> Rc<dyn Outgoing<T>> {
        Rc::new(sender)
    }

    async fn connect_receiver<T: Send + 'static>(receiver: Receiver<T>) -> Receiver<T> {
        receiver
    }
}

impl<T> Outgoing<T> for Sender<T> {
    fn send(&self, item: T) -> Result<(), T> {
        use crate::local::TrySendError;
        self.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) | TrySendError::Closed(item) => item,
        })
    }

    fn close(&self) {
        Sender::close(self);
    }
}

impl<T: 'static> Incoming<T> for Receiver<T> {
    async fn receive(&mut self) -> Option<T> {
        self.recv().await
    }
}
