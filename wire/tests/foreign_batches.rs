//! Batches that another implementation made (kafka-python 3.0.12, with the reference libraries of
//! each codec): we read them as it meant them. Three records: with repeated headers and one without
//! a value; with a null key and binary bytes; with an empty key, a null value and a header that is
//! not ASCII.

use bytes::Bytes;
use millrace_wire::batch::{
    Compression, Header, Limits, ProduceLimits, Record, Records, validate_produced, verify,
};
use millrace_wire::ids::Offset;

const BATCHES: [(Compression, &str); 5] = [
    (
        Compression::None,
        "0000000000000000000000b00000000002fc9988910000000000020000018bcfe568000000018bcf\
         e56805ffffffffffffffffffffffffffff000000038601000000066b65795e76616c75652076616c\
         75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75650602\
         68023102680232026e015c000a02015000ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff\
         00ff00ff00ff00ff00ff00ff00ff00ff001400010400010204c3a900",
    ),
    (
        Compression::Gzip,
        "0000000000000000000000760000000002616bdfce0001000000020000018bcfe568000000018bcf\
         e56805ffffffffffffffffffffffffffff000000031f8b080043ee006b02ff6b6364606060cb4ead\
         8c2b4bcc294d55209a6463ca6032046223a63cc618062e26c60086ff44421106461606462696c32b\
         19009fb227d57f000000",
    ),
    (
        Compression::Snappy,
        "00000000000000000000007e000000000265a405500002000000020000018bcfe568000000018bcf\
         e56805ffffffffffffffffffffffffffff0000000382534e41505059000000000100000001000000\
         397f3c8601000000066b65795e76616c756520a206004c060268023102680232026e015c000a0201\
         5000ff9a0200281400010400010204c3a900",
    ),
    (
        Compression::Lz4,
        "0000000000000000000000820000000002f1a883900003000000020000018bcfe568000000018bcf\
         e56805ffffffffffffffffffffffffffff0000000304224d1868407f00000000000000403a000000\
         ff018601000000066b65795e76616c756520060016ff05060268023102680232026e015c000a0201\
         5000ff020014b01400010400010204c3a90000000000",
    ),
    (
        Compression::Zstd,
        "0000000000000000000000730000000002b90711ff0004000000020000018bcfe568000000018bcf\
         e56805ffffffffffffffffffffffffffff0000000328b52ffd207fcd0100f4028601000000066b65\
         795e76616c756520060268023102680232026e015c000a02015000ff1400010400010204c3a90002\
         00e44a46a0b204",
    ),
];

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn meant() -> [Record; 3] {
    let record =
        |n, timestamp, key: Option<&'static [u8]>, value: Option<Vec<u8>>, headers| Record {
            offset: Offset(n),
            timestamp,
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from),
            headers,
        };
    let without_value = Header {
        key: Bytes::from_static(b"n"),
        value: None,
    };
    let repeated = vec![Header::new("h", "1"), Header::new("h", "2"), without_value];
    let words = ["value"; 8].join(" ").into_bytes();
    [
        record(0, 1_700_000_000_000, Some(b"key"), Some(words), repeated),
        record(
            1,
            1_700_000_000_005,
            None,
            Some(b"\x00\xff".repeat(20)),
            vec![],
        ),
        record(
            2,
            1_699_999_999_999,
            Some(b""),
            None,
            vec![Header::new("\u{e9}", "")],
        ),
    ]
}

#[test]
fn foreign_batches_are_read_as_they_were_meant() {
    let limits = ProduceLimits {
        max_message_bytes: 1000,
        max_uncompressed_bytes: 1000,
        earliest_timestamp: 1_699_999_999_999,
        latest_timestamp: 1_700_000_000_005,
        key_required: false,
    };
    for (codec, hex) in BATCHES {
        let mut batch = bytes_of(hex);
        let before = batch.clone();
        let header = validate_produced(&mut batch, &limits).unwrap();
        assert_eq!(batch, before, "{codec}: nothing had to be set right");
        assert_eq!(header.attributes.compression(), Ok(codec));
        assert_eq!(verify(&batch, Limits::default()), Ok(header));
        let records = Records::decode(&batch.into(), 1000).unwrap();
        let records: Vec<Record> = records.map(Result::unwrap).collect();
        assert_eq!(records, meant(), "{codec}");
    }
}
