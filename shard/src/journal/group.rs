//! A group being gathered: entries are copied, once, into the aligned memory that will be written.

use super::Sequence;
use super::entry::{Entry, EntrySeed, encode_seal};
use super::format::{FileHeader, GROUP_HEADER_BYTES, GroupHeader, group_disk_len};
use crate::env::{BLOCK_BYTES, Env, File, Instant};

/// The least and the most memory taken at once. A group that outgrows its memory takes more, and is
/// then written in as many pieces.
const CHUNK_BYTES_MIN: usize = 4 * BLOCK_BYTES;
const CHUNK_BYTES_MAX: usize = 1 << 20;

pub(super) type Buffer<E> = <<E as Env>::File as File>::Buffer;

/// A group that is not yet on its way to the disk.
pub(super) struct Group<E: Env, T> {
    pub sequence: Sequence,
    pub tokens: Vec<T>,
    /// When it was begun.
    pub began: Instant,
    /// No entry may be added: a checkpoint was taken that includes it as it is.
    pub sealed: bool,
    seed: EntrySeed,
    entries: u32,
    payload_len: usize,
    checkpoint_len: usize,
    /// All full but the last; the first begins with room for the group's header.
    chunks: Vec<Chunk<E>>,
}

struct Chunk<E: Env> {
    buffer: Buffer<E>,
    used: usize,
}

impl<E: Env, T> Group<E, T> {
    /// A group with memory for about `expected_bytes`.
    pub fn new(env: &E, salt: u64, sequence: Sequence, expected_bytes: usize) -> Group<E, T> {
        let len = expected_bytes
            .next_power_of_two()
            .clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let mut buffer = env.allocate_unset(len);
        buffer[..GROUP_HEADER_BYTES].fill(0);
        Group {
            sequence,
            tokens: Vec::new(),
            began: env.now(),
            sealed: false,
            seed: EntrySeed::new(salt, sequence),
            entries: 0,
            payload_len: 0,
            checkpoint_len: 0,
            chunks: vec![Chunk {
                buffer,
                used: GROUP_HEADER_BYTES,
            }],
        }
    }

    pub fn entries(&self) -> u32 {
        self.entries
    }

    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Bytes of a checkpoint's entries.
    pub fn checkpoint_len(&self) -> usize {
        self.checkpoint_len
    }

    /// Bytes of the entries that were appended, without a checkpoint's.
    pub fn gathered_len(&self) -> usize {
        self.payload_len - self.checkpoint_len
    }

    /// Bytes that it takes in a file.
    pub fn disk_len(&self) -> u64 {
        group_disk_len(self.payload_len as u64)
    }

    pub fn push(&mut self, env: &E, entry: &Entry<'_>) {
        let (head, body) = entry.encode(self.seed);
        self.write(env, &head);
        self.write(env, body.bytes());
        self.entries += 1;
    }

    /// Adds an entry of a checkpoint.
    pub fn push_checkpoint(&mut self, env: &E, entry: Entry<'_>) {
        self.push(env, &entry);
        self.checkpoint_len += entry.encoded_len();
    }

    fn write(&mut self, env: &E, mut bytes: &[u8]) {
        self.payload_len += bytes.len();
        while !bytes.is_empty() {
            let last = self
                .chunks
                .last_mut()
                .expect("a group has a chunk from the start");
            let part = bytes.len().min(last.buffer.len() - last.used);
            last.buffer[last.used..last.used + part].copy_from_slice(&bytes[..part]);
            last.used += part;
            bytes = &bytes[part..];
            if !bytes.is_empty() {
                let len = (last.buffer.len() * 2).max(bytes.len().next_multiple_of(BLOCK_BYTES));
                let buffer = env.allocate_unset(len.min(CHUNK_BYTES_MAX));
                self.chunks.push(Chunk { buffer, used: 0 });
            }
        }
    }

    /// Writes the group's header and gives the memory to be written, piece after piece, with the
    /// tokens of those who wait for it.
    pub fn finish(
        mut self,
        env: &E,
        file: FileHeader,
        durable_through: Sequence,
    ) -> (Vec<Buffer<E>>, Vec<T>) {
        if self.entries == 0 {
            self.write(env, &encode_seal(self.seed));
            self.entries = 1;
        }
        let mut hasher = crc32fast::Hasher::new();
        for (i, chunk) in self.chunks.iter().enumerate() {
            let start = if i == 0 { GROUP_HEADER_BYTES } else { 0 };
            hasher.update(&chunk.buffer[start..chunk.used]);
        }
        let header = GroupHeader {
            file,
            sequence: self.sequence,
            durable_through,
            payload_len: u32::try_from(self.payload_len).expect("a group is far below 4 GiB"),
            payload_crc: hasher.finalize(),
            entries: self.entries,
        };
        header.encode(&mut self.chunks[0].buffer);
        let shorten = |mut chunk: Chunk<E>| {
            let end = chunk.used.next_multiple_of(BLOCK_BYTES);
            chunk.buffer[chunk.used..end].fill(0);
            E::File::shorten(&mut chunk.buffer, end);
            chunk.buffer
        };
        (self.chunks.into_iter().map(shorten).collect(), self.tokens)
    }
}
