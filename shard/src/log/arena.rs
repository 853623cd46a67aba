//! Where a partition keeps small batches: side by side in a few pieces of memory, not each in one of
//! its own. A batch so costs neither an allocation nor, when it leaves the cache, a look at memory
//! that has long been cold; and what is written to a segment lies in order. Large batches stay in
//! the memory that they came in.

use bytes::{Bytes, BytesMut};

/// A batch from here on has memory of its own.
const OWN_BYTES: usize = 4 * 1024;
/// A batch from here on is not copied, since requests this long have memory of their own.
const KEPT_BYTES: usize = 16 * 1024;
/// Such a batch may keep this much more memory than its own length.
const SLACK_BYTES: usize = 4096;

/// The pieces' lengths: from a little, for a partition that hardly anybody writes to, to what is
/// worth an allocation.
const PIECE_BYTES_LEAST: usize = 2 * 1024;
const PIECE_BYTES_MOST: usize = 16 * 1024;

/// A partition's present piece, and how long the next one will be.
#[derive(Default)]
pub(super) struct Arena {
    piece: BytesMut,
    next_bytes: usize,
}

impl Arena {
    /// Keeps a batch, and tells how much memory that takes.
    pub(super) fn keep(&mut self, batch: BytesMut) -> (Bytes, u64) {
        let len = batch.len();
        if len < OWN_BYTES {
            return (self.beside_others(&batch), len as u64);
        }
        if len < KEPT_BYTES || batch.capacity() > len * 2 + SLACK_BYTES {
            return (Bytes::copy_from_slice(&batch), len as u64);
        }
        let held = batch.capacity() as u64;
        (batch.freeze(), held)
    }

    fn beside_others(&mut self, batch: &[u8]) -> Bytes {
        if self.piece.capacity() < batch.len() {
            let len = self.next_bytes.max(PIECE_BYTES_LEAST).max(batch.len());
            self.piece = BytesMut::with_capacity(len);
            self.next_bytes = (len * 2).min(PIECE_BYTES_MOST);
        }
        self.piece.extend_from_slice(batch);
        self.piece.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_lie_side_by_side() {
        let mut arena = Arena::default();
        let kept: Vec<Bytes> = (0..100_u8)
            .map(|number| arena.keep(BytesMut::from(&[number; 500][..])).0)
            .collect();
        for (number, batch) in kept.iter().enumerate() {
            assert_eq!(batch[..], [number as u8; 500]);
        }
        let neighbours = kept
            .windows(2)
            .filter(|two| two[0].as_ptr().wrapping_add(500) == two[1].as_ptr());
        assert!(neighbours.count() > 90);
        let longest = (PIECE_BYTES_LEAST..=PIECE_BYTES_MOST).contains(&arena.next_bytes);
        assert!(longest, "{}", arena.next_bytes);
    }

    #[test]
    fn no_batch_keeps_a_request_it_is_a_small_part_of() {
        let mut arena = Arena::default();
        let mut request = BytesMut::from(&[7; 200_000][..]);
        let request_memory = request.as_ptr_range();
        for len in [100, OWN_BYTES, KEPT_BYTES - 1] {
            let (batch, held) = arena.keep(request.split_to(len));
            assert_eq!((batch.len(), held), (len, len as u64));
            assert!(!request_memory.contains(&batch.as_ptr()), "{len}");
        }
        let (batch, _) = arena.keep(request.split_to(KEPT_BYTES));
        assert!(request_memory.contains(&batch.as_ptr()));
        let mut lonely = BytesMut::with_capacity(1 << 20);
        lonely.extend_from_slice(&[7; KEPT_BYTES]);
        let (batch, held) = arena.keep(lonely);
        assert_eq!((batch.len(), held), (KEPT_BYTES, KEPT_BYTES as u64));
    }
}
