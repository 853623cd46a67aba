//! The same records in another codec.

use bytes::{BufMut, BytesMut};

use super::compression::Compression;
use super::error::BatchError;
use super::header::{Attributes, BATCH_HEADER_BYTES, BatchHeader};

/// Attribute bits of the codec.
const CODEC_BITS: i16 = 0b111;

/// A batch with the same records as `original` (one whole valid batch) in another codec; everything
/// else of its header stays. The records expand to at most `max_uncompressed_bytes` on the way.
pub fn recompress(
    original: &[u8],
    codec: Compression,
    max_uncompressed_bytes: usize,
) -> Result<BytesMut, BatchError> {
    let mut header = BatchHeader::parse(original)?;
    let records = &original[BATCH_HEADER_BYTES..header.total_bytes];
    let expanded = header
        .attributes
        .compression()?
        .decompress(records, max_uncompressed_bytes)?;
    let mut batch = BytesMut::with_capacity(original.len());
    batch.put_bytes(0, BATCH_HEADER_BYTES);
    codec
        .compress(&expanded, &mut batch)
        .map_err(|error| BatchError::Compressed {
            codec,
            reason: error.to_string(),
        })?;
    header.attributes = Attributes((header.attributes.0 & !CODEC_BITS) | codec as i16);
    header.write(&mut batch);
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{
        BatchBuilder, BatchProducer, DEFAULT_MAX_UNCOMPRESSED_BYTES, Limits, Records,
        batch_producer, set_batch_producer, verify,
    };
    use super::*;
    use crate::ids::{ProducerEpoch, ProducerId};
    use bytes::Bytes;

    #[test]
    fn only_the_codec_changes() {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for n in 0..50 {
            let value = format!("value {n} value {n} value {n}");
            builder
                .push(1000 + n, Some(b"key"), Some(value.as_bytes()), &[])
                .unwrap();
        }
        let mut original = builder.build().unwrap();
        let producer = BatchProducer {
            id: ProducerId(7),
            epoch: ProducerEpoch(2),
            base_sequence: 90,
        };
        set_batch_producer(&mut original, producer);
        let decoded = |batch: Bytes| -> Vec<_> {
            let records = Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).unwrap();
            records.map(Result::unwrap).collect()
        };
        let original = Bytes::from(original);
        let before = decoded(original.clone());
        for codec in Compression::ALL {
            let batch = recompress(&original, codec, DEFAULT_MAX_UNCOMPRESSED_BYTES).unwrap();
            let header = verify(&batch, Limits::default()).unwrap();
            assert_eq!(header.attributes.compression(), Ok(codec));
            assert_eq!(batch_producer(&batch), Some(producer));
            assert_eq!(before, decoded(batch.freeze()));
        }
        assert!(recompress(&original, Compression::None, 100).is_err());
    }
}
