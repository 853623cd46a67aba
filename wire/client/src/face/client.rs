//! The handle that everything comes from.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::shared::Shared;
use crate::{
    Admin, BrokerInfo, ClientConfig, ClientError, Consumer, ConsumerConfig, GroupConfig,
    GroupConsumer, Producer, ProducerConfig,
};

/// A client of a Millrace broker, shared by everything made from it. Cloning is cheap.
///
/// It lives as long as any clone, [`Admin`], [`Producer`], [`Consumer`] or [`GroupConsumer`] of it, and after the last
/// one is dropped until the records that were accepted are delivered or have failed, and members of
/// groups have left (as long as the runtime runs; [`Producer::close`] and [`GroupConsumer::close`]
/// wait for that).
#[derive(Clone)]
pub struct Client(pub(super) Arc<Handle>);

/// Held by everything that a user may hold; the last one to go closes the client.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) config: ClientConfig,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Client {
    pub(super) fn of(handle: Arc<Handle>) -> Client {
        Client(handle)
    }

    /// Connects to the first bootstrap address that answers. Must be called on a tokio runtime,
    /// which runs the client from then on.
    ///
    /// Fails when none does, [`ClientConfig::connect_timeout`] being the limit for each. Later
    /// losses of the connection are mended in the background for as long as something needs one.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        if config.bootstrap.is_empty() {
            return Err(ClientError::invalid("bootstrap names no address"));
        }
        for address in &config.bootstrap {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(ClientError::invalid(format!(
                    "the bootstrap address '{address}' is not of the form host:port, \
                     such as 127.0.0.1:9092"
                )));
            }
        }
        let seed = RandomState::new().hash_one(std::process::id());
        let shared = Shared::new(config.clone(), seed);
        let client = Client(Arc::new(Handle {
            shared: shared.clone(),
            config,
        }));
        let (sender, connected) = oneshot::channel();
        shared.with(|inner, _| {
            inner.connecting = Some(sender);
            inner.core.connect();
        });
        tokio::spawn(shared.drive());
        connected.await.map_err(|_| ClientError::Closed)??;
        Ok(client)
    }

    /// What the broker said of itself when it was last connected to.
    #[must_use]
    pub fn broker(&self) -> BrokerInfo {
        // `connect` gives out no client before a handshake has succeeded.
        self.0
            .shared
            .lock()
            .core
            .broker()
            .cloned()
            .unwrap_or_default()
    }

    /// Topics, their configuration, and questions about them.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin {
            client: self.clone(),
        }
    }

    /// A producer. One is enough for most programs: it may be shared between tasks.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        config.check()?;
        Ok(Producer::new(self.0.clone(), config))
    }

    /// A consumer, with nothing assigned.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        config.check()?;
        Ok(Consumer::new(self.0.clone(), config))
    }

    /// A member of a group of consumers that share the partitions of their topics. It joins at once;
    /// [`GroupConsumer::poll`] brings the records.
    pub fn group_consumer(&self, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
        config.check()?;
        GroupConsumer::new(self.0.clone(), config)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("bootstrap", &self.0.config.bootstrap)
            .finish_non_exhaustive()
    }
}
