//! The handle that everything comes from.

use crate::{Admin, ClientConfig, ClientError, Consumer, ConsumerConfig, Producer, ProducerConfig};

/// A connection to a Millrace broker, shared by everything made from it. Cloning is cheap.
///
/// It lives as long as any clone, [`Admin`], [`Producer`] or [`Consumer`] of it, and after the last
/// one is dropped until the records that were accepted are delivered or have failed (as long as the
/// runtime runs; [`Producer::close`] waits for that).
#[derive(Clone, Debug)]
pub struct Client {}

/// What a broker said of itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// The cluster's identity.
    pub cluster_id: String,
    /// The node that answered.
    pub node_id: u32,
    /// How often it has started.
    pub boot_epoch: u32,
    /// How many shards it has.
    pub shard_count: u16,
    /// Its version.
    pub version: String,
}

impl Client {
    /// Connects to the first bootstrap address that answers.
    ///
    /// Fails when none does within [`ClientConfig::connect_timeout`] each. Later losses of the
    /// connection are mended in the background for as long as something needs one.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        if config.bootstrap.is_empty() {
            return Err(ClientError::invalid("bootstrap names no address"));
        }
        Err(ClientError::Closed)
    }

    /// What the broker said of itself when it was last connected to.
    #[must_use]
    pub fn broker(&self) -> BrokerInfo {
        BrokerInfo {
            cluster_id: String::new(),
            node_id: 0,
            boot_epoch: 0,
            shard_count: 0,
            version: String::new(),
        }
    }

    /// Topics, their configuration, and questions about them.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin {
            _client: self.clone(),
        }
    }

    /// A producer. One is enough for most programs: it may be shared between tasks.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        let _ = config;
        Err(ClientError::Closed)
    }

    /// A consumer, with nothing assigned.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        let _ = config;
        Err(ClientError::Closed)
    }
}
