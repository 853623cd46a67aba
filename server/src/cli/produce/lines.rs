//! Cuts a stream of bytes into lines, on a thread of its own, since reading may block.
//!
//! A line is what stands before a `\n`, whatever bytes these are; what stands after the last one is
//! a line too, unless it is nothing. Lines share the memory of the block they were read with.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// How much is read at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that may wait for the producer.
const BLOCKS_AHEAD: usize = 4;
/// The longest line. No record can be longer, whatever the broker's limits.
const LINE_MAX_BYTES: usize = 100 << 20;

/// The lines of one or more reads.
pub(super) struct Block {
    /// The lines, without their ends.
    pub(super) lines: Vec<Bytes>,
    /// Bytes of the source that they stand for.
    pub(super) bytes: u64,
}

/// Starts reading. The channel ends with the source, or with an error.
pub(super) fn read(source: Box<dyn Read + Send>) -> mpsc::Receiver<io::Result<Block>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    std::thread::spawn(move || {
        let mut cutter = Cutter {
            source,
            rest: BytesMut::new(),
            ended: false,
        };
        while let Some(block) = cutter.next().transpose() {
            let failed = block.is_err();
            if sender.blocking_send(block).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

struct Cutter {
    source: Box<dyn Read + Send>,
    /// The beginning of a line whose end has not been read yet.
    rest: BytesMut,
    ended: bool,
}

impl Cutter {
    fn next(&mut self) -> io::Result<Option<Block>> {
        while !self.ended {
            let begin = self.rest.len();
            self.rest.resize(begin + BLOCK_BYTES, 0);
            let count = loop {
                match self.source.read(&mut self.rest[begin..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => break outcome?,
                }
            };
            self.rest.truncate(begin + count);
            self.ended = count == 0;
            if let Some(last) = memchr::memrchr(b'\n', &self.rest[begin..]) {
                return Ok(Some(cut(self.rest.split_to(begin + last + 1).freeze())));
            }
            if self.rest.len() > LINE_MAX_BYTES {
                return Err(io::Error::other(format!(
                    "a line is longer than {} MiB, which no record can be",
                    LINE_MAX_BYTES >> 20
                )));
            }
        }
        let rest = std::mem::take(&mut self.rest).freeze();
        Ok((!rest.is_empty()).then(|| Block {
            bytes: rest.len() as u64,
            lines: vec![rest],
        }))
    }
}

/// Cuts a block that ends with `\n`.
fn cut(block: Bytes) -> Block {
    let mut begin = 0;
    let lines = memchr::memchr_iter(b'\n', &block)
        .map(|end| block.slice(std::mem::replace(&mut begin, end + 1)..end))
        .collect();
    Block {
        lines,
        bytes: block.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes a few at a time.
    struct Dribble(Vec<u8>, usize);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn lines(bytes: &[u8], step: usize) -> (Vec<Bytes>, u64) {
        let mut receiver = read(Box::new(Dribble(bytes.to_vec(), step)));
        let (mut lines, mut counted) = (Vec::new(), 0);
        while let Some(block) = receiver.blocking_recv() {
            let block = block.unwrap();
            lines.extend(block.lines);
            counted += block.bytes;
        }
        (lines, counted)
    }

    #[test]
    fn a_line_is_what_stands_before_its_end() {
        for (bytes, expected) in [
            (&b""[..], &[][..]),
            (b"\n", &[&b""[..]][..]),
            (b"a", &[b"a"]),
            (b"a\n", &[b"a"]),
            (b"a\n\nb\r\n\xff\0", &[b"a", b"", b"b\r", b"\xff\0"]),
        ] {
            assert_eq!(lines(bytes, 3).0, expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_with_their_ends_are_the_source(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            step in 1_usize..40,
        ) {
            let (lines, counted) = lines(&bytes, step);
            let mut joined = lines.join(&b'\n');
            if bytes.last() == Some(&b'\n') {
                joined.push(b'\n');
            }
            prop_assert_eq!(&joined, &bytes);
            prop_assert_eq!(counted, bytes.len() as u64);
        }
    }
}
