//! What producers send: batches made before the run and sent again and again, or, where each record
//! must carry the time at which it was due, made when they are due.

use bytes::Bytes;
use millrace_wire::batch::{BatchBuilder, Compression};

use super::schedule::Random;

/// How long records are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecordSize {
    /// All the same, bytes.
    Fixed(usize),
    /// Any length between two, evenly.
    Uniform(usize, usize),
    /// Exponential with this mean, cut at ten times it: many small ones, a few large.
    Exponential(usize),
}

impl RecordSize {
    /// The mean, bytes.
    #[must_use]
    pub fn mean(self) -> usize {
        match self {
            RecordSize::Fixed(bytes) | RecordSize::Exponential(bytes) => bytes,
            RecordSize::Uniform(least, most) => usize::midpoint(least, most),
        }
    }

    fn draw(self, random: &mut Random) -> usize {
        match self {
            RecordSize::Fixed(bytes) => bytes,
            RecordSize::Uniform(least, most) => {
                least + (random.next_u64() % (most - least + 1) as u64) as usize
            }
            RecordSize::Exponential(mean) => {
                let drawn = -(mean as f64) * (1.0 - random.next_unit()).ln();
                (drawn as usize).clamp(1, mean * 10)
            }
        }
    }
}

/// What records and batches look like.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchShape {
    /// Length of a record's value.
    pub record_size: RecordSize,
    /// Records in a batch; a request carries one batch.
    pub records: u32,
    /// Different keys; 0: none.
    pub keys: u64,
    /// The producer's compression.
    pub compression: Compression,
    /// Share of a value's bytes that are random, 0 (compresses to nothing) to 1 (not at all).
    pub entropy: f64,
}

/// A batch ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub bytes: Bytes,
    pub records: u32,
    /// Bytes of keys and values in it.
    pub record_bytes: u32,
}

/// How many different batches are made before the run.
const PREPARED: usize = 16;

/// Where batches come from.
pub(super) struct BatchSource {
    shape: BatchShape,
    prepared: Vec<Batch>,
    next: usize,
    random: Random,
    carries_time: bool,
}

impl BatchSource {
    /// A source of batches of one shape. Those that carry a time are made when asked for.
    pub(super) fn new(shape: BatchShape, carries_time: bool, seed: u64) -> BatchSource {
        let mut source = BatchSource {
            shape,
            prepared: Vec::new(),
            next: 0,
            random: Random::new(seed),
            carries_time,
        };
        if !carries_time {
            source.prepared = (0..PREPARED).map(|_| source.make(0)).collect();
        }
        source
    }

    /// The next batch; its records carry `due_ns` if this source's do.
    pub(super) fn next(&mut self, due_ns: u64) -> Batch {
        if self.carries_time {
            return self.make(due_ns);
        }
        self.next = (self.next + 1) % self.prepared.len();
        self.prepared[self.next].clone()
    }

    fn make(&mut self, due_ns: u64) -> Batch {
        let mut builder = BatchBuilder::new(self.shape.compression);
        let now_ms = wall_clock_ms();
        let mut record_bytes = 0;
        for _ in 0..self.shape.records.max(1) {
            let value = self.value(due_ns);
            let key = (self.shape.keys > 0)
                .then(|| format!("key-{}", self.random.next_u64() % self.shape.keys));
            record_bytes += value.len() + key.as_ref().map_or(0, String::len);
            let key = key.as_deref().map(str::as_bytes);
            builder
                .push(now_ms, key, Some(&value), &[])
                .expect("a workload's batch is below the longest frame");
        }
        let records = builder.record_count();
        let bytes = builder.build().expect("it has records").freeze();
        Batch {
            bytes,
            records,
            record_bytes: u32::try_from(record_bytes).unwrap_or(u32::MAX),
        }
    }

    fn value(&mut self, due_ns: u64) -> Vec<u8> {
        let len = self.shape.record_size.draw(&mut self.random);
        let noisy = (len as f64 * self.shape.entropy.clamp(0.0, 1.0)) as usize;
        let mut value = Vec::with_capacity(len.max(8) + 8);
        while value.len() < noisy {
            value.extend_from_slice(&self.random.next_u64().to_le_bytes());
        }
        value.truncate(noisy);
        value.resize(len, b'x');
        if self.carries_time {
            value.resize(len.max(8), b'x');
            value[..8].copy_from_slice(&due_ns.to_be_bytes());
        }
        value
    }
}

fn wall_clock_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |passed| {
        i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use millrace_wire::batch::{Limits, Records, verify};

    use super::*;

    fn shape() -> BatchShape {
        BatchShape {
            record_size: RecordSize::Uniform(100, 300),
            records: 10,
            keys: 5,
            compression: Compression::Lz4,
            entropy: 0.5,
        }
    }

    #[test]
    fn batches_are_valid_and_as_long_as_asked_for() {
        let mut source = BatchSource::new(shape(), false, 1);
        for _ in 0..20 {
            let batch = source.next(7);
            verify(&batch.bytes, Limits::default()).unwrap();
            assert_eq!(batch.records, 10);
            assert!((1_050..=3_100).contains(&batch.record_bytes), "{batch:?}");
        }
    }

    #[test]
    fn records_carry_the_time_they_were_due() {
        let mut source = BatchSource::new(shape(), true, 1);
        for due in [1, u64::MAX / 2] {
            let batch = source.next(due);
            let mut seen = 0;
            super::super::walker::times_carried(&batch.bytes, |time| {
                assert_eq!(time, due);
                seen += 1;
            })
            .unwrap();
            assert_eq!(seen, 10);
        }
        let _ = Records::decode(&source.next(1).bytes, 1 << 20).unwrap();
    }

    #[test]
    fn entropy_decides_how_well_batches_compress() {
        let size = |entropy| {
            let shape = BatchShape {
                entropy,
                record_size: RecordSize::Fixed(1_000),
                ..shape()
            };
            BatchSource::new(shape, false, 1).next(0).bytes.len()
        };
        assert!(size(0.0) < 500 && size(0.5) > 3_000 && size(1.0) > 9_000);
    }
}
