//! Finding the groups of one file, without I/O: bytes go in, piece by piece, and what they are
//! comes out. Nothing is trusted that a checksum does not vouch for, and every length is held
//! against the file's before it is used.

use super::entry::{Entries, EntrySeed, Seen};
use super::format::{
    FIRST_GROUP_POSITION, FileHeader, GROUP_HEADER_BYTES, GroupHeader, HeaderRead,
};
use super::{Sequence, format};
use crate::env::BLOCK_BYTES;

/// A group whose header could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSeen {
    /// Its number.
    pub sequence: Sequence,
    /// What it says was durable when it was issued.
    pub durable_through: Sequence,
    /// Where in the file it begins.
    pub position: u64,
    /// How long its payload is.
    pub payload_len: u32,
    /// How many entries that has.
    pub entries: u32,
    /// Whether the payload's CRC holds.
    pub intact: bool,
}

impl GroupSeen {
    /// Where in the file it ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position
            .saturating_add(format::group_disk_len(u64::from(self.payload_len)))
    }
}

/// Finds the groups that belong to one file. Give it the file's bytes from
/// [`FIRST_GROUP_POSITION`] on, in order, in pieces of whole blocks.
pub struct Scanner {
    header: FileHeader,
    file_len: u64,
    position: u64,
    expected: Sequence,
    payload: Option<Payload>,
    groups: Vec<GroupSeen>,
}

/// A payload on its way through.
struct Payload {
    group: GroupSeen,
    crc: u32,
    left: usize,
    hasher: crc32fast::Hasher,
}

impl Scanner {
    /// For the file with this header and length.
    #[must_use]
    pub fn new(header: FileHeader, file_len: u64) -> Scanner {
        Scanner {
            header,
            file_len,
            position: FIRST_GROUP_POSITION,
            expected: header.first_sequence,
            payload: None,
            groups: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() {
            if let Some(payload) = &mut self.payload {
                let part = payload.left.min(piece.len() - at);
                payload.hasher.update(&piece[at..at + part]);
                payload.left -= part;
                at += part;
                if payload.left == 0 {
                    self.end_payload();
                    at = at.next_multiple_of(BLOCK_BYTES);
                }
            } else if self.begin_group(&piece[at..], self.position + at as u64) {
                at += GROUP_HEADER_BYTES;
            } else {
                at += BLOCK_BYTES;
            }
        }
        self.position += piece.len() as u64;
    }

    /// The groups found, in order. One whose payload did not come to its end is not intact.
    #[must_use]
    pub fn finish(mut self) -> Vec<GroupSeen> {
        if let Some(payload) = self.payload.take() {
            self.groups.push(GroupSeen {
                intact: false,
                ..payload.group
            });
        }
        self.groups
    }

    /// Whether a group begins here whose payload is to be read.
    fn begin_group(&mut self, bytes: &[u8], position: u64) -> bool {
        let Some(header) = GroupHeader::parse(bytes) else {
            return false;
        };
        if header.file != self.header || header.sequence < self.expected {
            return false;
        }
        self.expected = header.sequence.next();
        let group = GroupSeen {
            sequence: header.sequence,
            durable_through: header.durable_through,
            position,
            payload_len: header.payload_len,
            entries: header.entries,
            intact: false,
        };
        if group.end() > self.file_len {
            // The file was cut, or never grew: the group cannot be whole, its header still counts.
            self.groups.push(group);
            return false;
        }
        self.payload = Some(Payload {
            group,
            crc: header.payload_crc,
            left: header.payload_len as usize,
            hasher: crc32fast::Hasher::new(),
        });
        true
    }

    fn end_payload(&mut self) {
        if let Some(payload) = self.payload.take() {
            let intact = payload.hasher.finalize() == payload.crc;
            self.groups.push(GroupSeen {
                intact,
                ..payload.group
            });
        }
    }
}

/// What a file's image holds, as [`inspect`] finds it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The file's header, if it has one, from its first block or its first group.
    pub header: Option<FileHeader>,
    /// Its groups.
    pub groups: Vec<GroupSeen>,
    /// How many entries could be read, also in damaged groups.
    pub entries: usize,
    /// How many have a header that could be read and a body that could not.
    pub lost_entries: usize,
}

/// Reads a whole file's image as recovery would: every parser of the journal over bytes of any
/// kind. Takes any input, and time and memory in proportion to it.
#[must_use]
pub fn inspect(image: &[u8]) -> Inspection {
    let whole = &image[..image.len() - image.len() % BLOCK_BYTES];
    let Some(groups) = whole.get(FIRST_GROUP_POSITION as usize..) else {
        return Inspection::default();
    };
    let header = match FileHeader::parse(whole) {
        HeaderRead::Valid(header) => Some(header),
        _ => GroupHeader::parse(groups).map(|group| group.file),
    };
    let Some(header) = header else {
        return Inspection::default();
    };
    let mut scanner = Scanner::new(header, whole.len() as u64);
    scanner.feed(groups);
    let mut found = Inspection {
        header: Some(header),
        groups: scanner.finish(),
        ..Inspection::default()
    };
    for group in &found.groups {
        let start = group.position as usize + GROUP_HEADER_BYTES;
        let payload = whole[start..]
            .get(..group.payload_len as usize)
            .unwrap_or(&whole[start..]);
        for seen in Entries::new(payload, EntrySeed::new(header.salt, group.sequence)) {
            match seen {
                Seen::Entry(_) => found.entries += 1,
                Seen::Lost(_) => found.lost_entries += 1,
            }
        }
    }
    found
}
