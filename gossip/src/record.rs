//! What a member publishes about itself.

use std::fmt;
use std::net::SocketAddr;

/// The most bytes of a rack's name.
pub const MAX_RACK_BYTES: usize = 64;
/// The most bytes of an endpoint's host.
pub const MAX_HOST_BYTES: usize = 96;
/// The most endpoints of a record.
pub const MAX_ENDPOINTS: usize = 3;

/// What an endpoint is for.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Clients of the broker, native and Kafka's.
    Client,
    /// Other nodes: replication and the control plane.
    Peer,
    /// Metrics and administration.
    Http,
}

impl Purpose {
    pub(crate) fn code(self) -> u8 {
        match self {
            Purpose::Client => 0,
            Purpose::Peer => 1,
            Purpose::Http => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Purpose> {
        match code {
            0 => Some(Purpose::Client),
            1 => Some(Purpose::Peer),
            2 => Some(Purpose::Http),
            _ => None,
        }
    }
}

/// Where a node can be reached, as it wants to be called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// What is served there.
    pub purpose: Purpose,
    /// A name or an address, at most [`MAX_HOST_BYTES`].
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The program's version.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Changes when nodes of different versions cannot work together.
    pub major: u16,
    /// Changes with what a node can do.
    pub minor: u16,
    /// Changes with repairs.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A member's record, owned and changed by the member alone.
///
/// It is small because it travels in datagrams: whatever passes [`NodeRecord::check`] fits beside
/// the rest of a packet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeRecord {
    /// Where its datagrams and gossip streams go.
    pub gossip: SocketAddr,
    /// Its other addresses, at most [`MAX_ENDPOINTS`].
    pub endpoints: Vec<Endpoint>,
    /// Where it stands, at most [`MAX_RACK_BYTES`]; empty if unknown.
    pub rack: String,
    /// How many shards it runs.
    pub shards: u16,
    /// Its program's version.
    pub version: Version,
    /// Whether it is being emptied: nothing new should be placed on it.
    pub draining: bool,
}

/// Why a record cannot be published.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The rack's name is too long.
    #[error("the rack's name has {0} bytes; at most {MAX_RACK_BYTES} are allowed")]
    Rack(usize),
    /// There are too many endpoints.
    #[error("there are {0} endpoints; at most {MAX_ENDPOINTS} are allowed")]
    Endpoints(usize),
    /// A host is too long.
    #[error("the host {0:?} is longer than {MAX_HOST_BYTES} bytes")]
    Host(String),
    /// The gossip address cannot be sent to.
    #[error("{0} is no address that other nodes can send to")]
    Gossip(SocketAddr),
}

impl NodeRecord {
    /// Refuses what does not fit a packet or cannot be reached.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.gossip.ip().is_unspecified() || self.gossip.port() == 0 {
            return Err(RecordError::Gossip(self.gossip));
        }
        if self.rack.len() > MAX_RACK_BYTES {
            return Err(RecordError::Rack(self.rack.len()));
        }
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(RecordError::Endpoints(self.endpoints.len()));
        }
        match self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.host.len() > MAX_HOST_BYTES)
        {
            Some(endpoint) => Err(RecordError::Host(endpoint.host.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Records for unit tests.

    use super::{NodeRecord, Version};

    /// The record of node `number`, with an address made from it.
    pub(crate) fn record(number: u32) -> NodeRecord {
        let [_, a, b, c] = number.to_be_bytes();
        NodeRecord {
            gossip: ([10, a, b, c], 7946).into(),
            endpoints: Vec::new(),
            rack: String::new(),
            shards: 2,
            version: Version {
                major: 0,
                minor: 1,
                patch: 0,
            },
            draining: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::{Endpoint, MAX_HOST_BYTES, MAX_RACK_BYTES, Purpose, RecordError};

    #[test]
    fn a_record_that_would_not_fit_is_refused_with_its_reason() {
        assert_eq!(record(1).check(), Ok(()));
        let mut long_rack = record(1);
        long_rack.rack = "r".repeat(MAX_RACK_BYTES + 1);
        assert_eq!(
            long_rack.check(),
            Err(RecordError::Rack(MAX_RACK_BYTES + 1))
        );
        let endpoint = |bytes| Endpoint {
            purpose: Purpose::Client,
            host: "h".repeat(bytes),
            port: 9092,
        };
        let mut many = record(1);
        many.endpoints = vec![endpoint(1); 4];
        assert_eq!(many.check(), Err(RecordError::Endpoints(4)));
        let mut long_host = record(1);
        long_host.endpoints = vec![endpoint(MAX_HOST_BYTES + 1)];
        assert!(matches!(long_host.check(), Err(RecordError::Host(_))));
        let mut nowhere = record(1);
        nowhere.gossip = ([0, 0, 0, 0], 7946).into();
        assert!(matches!(nowhere.check(), Err(RecordError::Gossip(_))));
    }
}
