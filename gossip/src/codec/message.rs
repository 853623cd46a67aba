//! What datagrams and stream chunks carry: probes, claims about members, entries of the maps, and
//! a member's full state. Each is a kind, a length, and so many bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Malformed, Reader, Write};
use crate::fact::{Claim, Fact, Status};
use crate::identity::{Incarnation, NodeId};
use crate::lww::{Entry, Leadership, Ownership, PartitionId, RangeId};
use crate::record::{
    Endpoint, MAX_ENDPOINTS, MAX_HOST_BYTES, MAX_RACK_BYTES, NodeRecord, Purpose, Version,
};

/// The most bytes that a message can have: a member's full state with the largest record.
pub(crate) const MAX_MESSAGE_BYTES: usize = 3 // kind and length
    + 4 + 8 + 8 + 1 // node, incarnations, status
    + 19 // gossip address
    + 1 + MAX_ENDPOINTS * (1 + 1 + MAX_HOST_BYTES + 2)
    + 1 + MAX_RACK_BYTES
    + 2 + 6 + 1; // shards, version, draining

const PING: u8 = 1;
const PING_REQUEST: u8 = 2;
const ACK: u8 = 3;
const NACK: u8 = 4;
const ALIVE: u8 = 5;
const SUSPECT: u8 = 6;
const DEAD: u8 = 7;
const LEFT: u8 = 8;
const LEADER: u8 = 9;
const OWNER: u8 = 10;
const MEMBER: u8 = 11;

/// One message of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// Answer with an acknowledgement of this number.
    Ping { sequence: u32 },
    /// Ping that member for me, and tell me of its answer under this number.
    PingRequest {
        sequence: u32,
        target: NodeId,
        address: SocketAddr,
        /// How long I wait for it, milliseconds.
        wait_ms: u32,
        /// Whether to tell me, before that is over, that there was no answer.
        nack: bool,
    },
    /// The ping of that number was answered.
    Ack { sequence: u32 },
    /// The ping that you asked for under that number has not been answered yet.
    Nack { sequence: u32 },
    /// A claim about a member.
    Fact(Fact),
    /// An entry of a map.
    Entry(Entry),
}

/// One item of a full state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// A member as the sender sees it.
    Member {
        node: NodeId,
        incarnation: Incarnation,
        status: Status,
        /// The incarnation that published the record.
        record_incarnation: Incarnation,
        record: Arc<NodeRecord>,
    },
    /// An entry of a map.
    Entry(Entry),
}

fn frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u8(kind);
    out.put_u16(0);
    body(out);
    let length = out.len() - start - 3;
    assert!(length + 3 <= MAX_MESSAGE_BYTES, "every part is bounded");
    out[start + 1..start + 3].copy_from_slice(&(length as u16).to_be_bytes());
}

fn write_record(out: &mut Vec<u8>, record: &NodeRecord) {
    out.put_address(record.gossip);
    out.put_u8(record.endpoints.len() as u8);
    for endpoint in &record.endpoints {
        out.put_u8(endpoint.purpose.code());
        out.put_string(&endpoint.host);
        out.put_u16(endpoint.port);
    }
    out.put_string(&record.rack);
    out.put_u16(record.shards);
    out.put_u16(record.version.major);
    out.put_u16(record.version.minor);
    out.put_u16(record.version.patch);
    out.put_u8(u8::from(record.draining));
}

fn read_record(from: &mut Reader<'_>) -> Result<NodeRecord, Malformed> {
    let gossip = from.address()?;
    let count = usize::from(from.u8()?);
    if count > MAX_ENDPOINTS {
        return Err(Malformed::Value);
    }
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        endpoints.push(Endpoint {
            purpose: Purpose::from_code(from.u8()?).ok_or(Malformed::Value)?,
            host: from.string(MAX_HOST_BYTES)?,
            port: from.u16()?,
        });
    }
    let record = NodeRecord {
        gossip,
        endpoints,
        rack: from.string(MAX_RACK_BYTES)?,
        shards: from.u16()?,
        version: Version {
            major: from.u16()?,
            minor: from.u16()?,
            patch: from.u16()?,
        },
        draining: from.flag()?,
    };
    record.check().map_err(|_| Malformed::Value)?;
    Ok(record)
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    match *entry {
        Entry::Leader(id, led) => frame(out, LEADER, |out| {
            out.put_u128(id.topic);
            out.put_u32(id.partition);
            out.put_u64(led.term);
            out.put_u32(led.leader.0);
            out.put_u16(led.shard);
        }),
        Entry::Owner(id, owned) => frame(out, OWNER, |out| {
            out.put_u64(id.0);
            out.put_u64(owned.epoch);
            out.put_u32(owned.owner.0);
        }),
    }
}

fn read_entry(kind: u8, from: &mut Reader<'_>) -> Result<Option<Entry>, Malformed> {
    Ok(Some(match kind {
        LEADER => Entry::Leader(
            PartitionId {
                topic: from.u128()?,
                partition: from.u32()?,
            },
            Leadership {
                term: from.u64()?,
                leader: NodeId(from.u32()?),
                shard: from.u16()?,
            },
        ),
        OWNER => Entry::Owner(
            RangeId(from.u64()?),
            Ownership {
                epoch: from.u64()?,
                owner: NodeId(from.u32()?),
            },
        ),
        _ => return Ok(None),
    }))
}

fn write_fact(out: &mut Vec<u8>, fact: &Fact) {
    let kind = match fact.claim {
        Claim::Alive(_) => ALIVE,
        Claim::Suspect { .. } => SUSPECT,
        Claim::Dead { .. } => DEAD,
        Claim::Left => LEFT,
    };
    frame(out, kind, |out| {
        out.put_u32(fact.node.0);
        out.put_u64(fact.incarnation.to_bits());
        match &fact.claim {
            Claim::Alive(record) => write_record(out, record),
            Claim::Suspect { by } | Claim::Dead { by } => out.put_u32(by.0),
            Claim::Left => {}
        }
    });
}

fn read_fact(kind: u8, from: &mut Reader<'_>) -> Result<Fact, Malformed> {
    let node = NodeId(from.u32()?);
    let incarnation = Incarnation::from_bits(from.u64()?);
    let claim = match kind {
        ALIVE => Claim::Alive(Arc::new(read_record(from)?)),
        SUSPECT => Claim::Suspect {
            by: NodeId(from.u32()?),
        },
        DEAD => Claim::Dead {
            by: NodeId(from.u32()?),
        },
        _ => Claim::Left,
    };
    Ok(Fact {
        node,
        incarnation,
        claim,
    })
}

impl Message {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Message::Ping { sequence } => frame(out, PING, |out| out.put_u32(*sequence)),
            Message::PingRequest {
                sequence,
                target,
                address,
                wait_ms,
                nack,
            } => frame(out, PING_REQUEST, |out| {
                out.put_u32(*sequence);
                out.put_u32(target.0);
                out.put_address(*address);
                out.put_u32(*wait_ms);
                out.put_u8(u8::from(*nack));
            }),
            Message::Ack { sequence } => frame(out, ACK, |out| out.put_u32(*sequence)),
            Message::Nack { sequence } => frame(out, NACK, |out| out.put_u32(*sequence)),
            Message::Fact(fact) => write_fact(out, fact),
            Message::Entry(entry) => write_entry(out, entry),
        }
    }

    /// As bytes of their own.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// A message of a kind that is not known is none.
    fn read(kind: u8, body: &[u8]) -> Result<Option<Message>, Malformed> {
        let mut from = Reader::new(body);
        let message = match kind {
            PING => Message::Ping {
                sequence: from.u32()?,
            },
            PING_REQUEST => Message::PingRequest {
                sequence: from.u32()?,
                target: NodeId(from.u32()?),
                address: from.address()?,
                wait_ms: from.u32()?,
                nack: from.flag()?,
            },
            ACK => Message::Ack {
                sequence: from.u32()?,
            },
            NACK => Message::Nack {
                sequence: from.u32()?,
            },
            ALIVE | SUSPECT | DEAD | LEFT => Message::Fact(read_fact(kind, &mut from)?),
            _ => match read_entry(kind, &mut from)? {
                Some(entry) => Message::Entry(entry),
                None => return Ok(None),
            },
        };
        from.end()?;
        Ok(Some(message))
    }
}

impl Item {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Entry(entry) => write_entry(out, entry),
            Item::Member {
                node,
                incarnation,
                status,
                record_incarnation,
                record,
            } => frame(out, MEMBER, |out| {
                out.put_u32(node.0);
                out.put_u64(incarnation.to_bits());
                out.put_u8(status.code());
                out.put_u64(record_incarnation.to_bits());
                write_record(out, record);
            }),
        }
    }

    fn read(kind: u8, body: &[u8]) -> Result<Option<Item>, Malformed> {
        let mut from = Reader::new(body);
        let item = match kind {
            MEMBER => Item::Member {
                node: NodeId(from.u32()?),
                incarnation: Incarnation::from_bits(from.u64()?),
                status: Status::from_code(from.u8()?).ok_or(Malformed::Value)?,
                record_incarnation: Incarnation::from_bits(from.u64()?),
                record: Arc::new(read_record(&mut from)?),
            },
            _ => match read_entry(kind, &mut from)? {
                Some(entry) => Item::Entry(entry),
                None => return Ok(None),
            },
        };
        from.end()?;
        Ok(Some(item))
    }
}

/// All messages of a datagram, or all items of a chunk.
pub(crate) struct Messages;

impl Messages {
    /// Reads a datagram's. All of them are checked before any is used.
    pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
        read_all(bytes, Message::read)
    }

    /// Reads a chunk's.
    pub(crate) fn read_items(bytes: &[u8]) -> Result<Vec<Item>, Malformed> {
        read_all(bytes, Item::read)
    }
}

fn read_all<T>(
    bytes: &[u8],
    read: impl Fn(u8, &[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut from = Reader::new(bytes);
    let mut all = Vec::new();
    while !from.is_empty() {
        let kind = from.u8()?;
        let length = from.u16()?;
        all.extend(read(kind, from.bytes(usize::from(length))?)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
