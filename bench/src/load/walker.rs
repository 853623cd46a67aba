//! Walks through record batches as they come off the wire, in pieces of any length, without
//! keeping them: only a batch's header is looked at, unless its records are wanted.

use bytes::Bytes;
use millrace_wire::batch::{BATCH_HEADER_BYTES, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records};

/// Bytes before the part of a batch that its length field counts.
const LENGTH_END: usize = 12;

/// A batch that has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// First offset after it.
    pub next_offset: i64,
    /// Records in it.
    pub records: u32,
}

/// What is known of the batch at hand.
#[derive(Debug)]
pub(super) struct Walker {
    keep: bool,
    /// The header so far, or the whole batch if it is kept.
    held: Vec<u8>,
    /// Bytes of the batch still to come behind what is held; none before its header is whole.
    rest: Option<u64>,
}

impl Walker {
    /// A walker that keeps whole batches for `whole` to look at, or only their headers.
    pub(super) fn new(keep: bool) -> Walker {
        Walker {
            keep,
            held: Vec::new(),
            rest: None,
        }
    }

    /// Whether whole batches are kept.
    pub(super) fn keeps(&self) -> bool {
        self.keep
    }

    /// Goes on with these bytes. `passed` is called for each batch that ends in them, with all of
    /// its bytes if they are kept.
    pub(super) fn walk(
        &mut self,
        mut bytes: &[u8],
        mut passed: impl FnMut(Passed, &[u8]),
    ) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let Some(rest) = self.rest else {
                let missing = BATCH_HEADER_BYTES - self.held.len();
                let taken = take(&mut bytes, missing as u64);
                self.held.extend_from_slice(taken);
                if self.held.len() == BATCH_HEADER_BYTES {
                    self.rest = Some(rest_of(&self.held)?);
                    self.finish_if_whole(&mut passed);
                }
                continue;
            };
            let taken = take(&mut bytes, rest);
            if self.keep {
                self.held.extend_from_slice(taken);
            }
            self.rest = Some(rest - taken.len() as u64);
            self.finish_if_whole(&mut passed);
        }
        Ok(())
    }

    fn finish_if_whole(&mut self, passed: &mut impl FnMut(Passed, &[u8])) {
        if self.rest != Some(0) {
            return;
        }
        let base = i64::from_be_bytes(field(&self.held, 0));
        let last_delta = i32::from_be_bytes(field(&self.held, 23));
        let records = i32::from_be_bytes(field(&self.held, 57));
        let batch = Passed {
            next_offset: base.saturating_add(i64::from(last_delta)).saturating_add(1),
            records: u32::try_from(records).unwrap_or(0),
        };
        passed(batch, &self.held);
        self.held.clear();
        self.rest = None;
    }

    /// Whether the last batch has ended.
    pub(super) fn is_between_batches(&self) -> bool {
        self.rest.is_none() && self.held.is_empty()
    }
}

/// Calls `each` with the time that every record of a batch carries.
pub(super) fn times_carried(batch: &[u8], mut each: impl FnMut(u64)) -> Result<(), String> {
    let batch = Bytes::copy_from_slice(batch);
    let records = Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES)
        .map_err(|error| error.to_string())?;
    for record in records {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.value.unwrap_or_default();
        if let Some(time) = value.first_chunk::<8>() {
            each(u64::from_be_bytes(*time));
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let len = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, left) = bytes.split_at(len);
    *bytes = left;
    taken
}

fn rest_of(header: &[u8]) -> Result<u64, &'static str> {
    let length = i32::from_be_bytes(field(header, 8));
    let whole = LENGTH_END as i64 + i64::from(length);
    u64::try_from(whole - BATCH_HEADER_BYTES as i64)
        .map_err(|_| "a batch that claims to be shorter than its header")
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header is whole")
}

#[cfg(test)]
mod tests {
    use millrace_wire::batch::{BatchBuilder, Compression, set_base_offset};
    use millrace_wire::ids::Offset;

    use super::*;

    fn batches() -> Vec<u8> {
        let mut all = Vec::new();
        for (base, count) in [(0, 3), (3, 1), (4, 200)] {
            let mut builder = BatchBuilder::new(Compression::None);
            for number in 0..count {
                let value = (base as u64 + number).to_be_bytes();
                builder.push(0, None, Some(&value), &[]).unwrap();
            }
            let mut batch = builder.build().unwrap();
            set_base_offset(&mut batch, Offset(base));
            all.extend_from_slice(&batch);
        }
        all
    }

    #[test]
    fn batches_in_pieces_of_any_length_are_seen_whole() {
        let all = batches();
        for piece in [1, 7, 61, 100, all.len()] {
            for keep in [false, true] {
                let mut walker = Walker::new(keep);
                let (mut seen, mut times) = (Vec::new(), Vec::new());
                for bytes in all.chunks(piece) {
                    walker
                        .walk(bytes, |passed, held| {
                            seen.push((passed.next_offset, passed.records));
                            if keep {
                                times_carried(held, |time| times.push(time)).unwrap();
                            }
                        })
                        .unwrap();
                }
                assert_eq!(seen, [(3, 3), (4, 1), (204, 200)]);
                assert!(walker.is_between_batches());
                assert!(!keep || times == (0..204).collect::<Vec<u64>>());
            }
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_told() {
        let mut all = batches();
        all[8..12].copy_from_slice(&3_i32.to_be_bytes());
        assert!(Walker::new(false).walk(&all, |_, _| {}).is_err());
    }
}
