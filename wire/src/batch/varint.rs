//! Kafka's variable-length integers: zigzag, seven bits a byte, lowest first.

use bytes::{BufMut, BytesMut};

/// Takes an integer of up to 64 bits from the front of `bytes`; `None` if it is cut off or too
/// long.
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if place == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Takes an integer of up to 32 bits.
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    // Lengths and deltas of small records are one byte.
    if let Some((&byte, rest)) = bytes.split_first()
        && byte & 0x80 == 0
    {
        *bytes = rest;
        return Some(i32::from(byte >> 1) ^ -i32::from(byte & 1));
    }
    i32::try_from(take_i64(bytes)?).ok()
}

/// Appends an integer.
pub(super) fn put_i64(value: i64, out: &mut BytesMut) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Bytes that [`put_i64`] appends.
pub(super) fn len_i64(value: i64) -> usize {
    let significant = 64 - zigzag(value).leading_zeros() as usize;
    significant.div_ceil(7).max(1)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From Kafka's ByteUtilsTest.
    #[test]
    fn known_answers() {
        let cases: [(i64, &[u8]); 9] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, bytes) in cases {
            let mut out = BytesMut::new();
            put_i64(value, &mut out);
            assert_eq!(&out[..], bytes, "{value}");
            assert_eq!(take_i64(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn cut_off_and_too_long_are_refused() {
        assert_eq!(take_i64(&mut &[][..]), None);
        assert_eq!(take_i64(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        let mut eleven_bits = [0x80; 10];
        eleven_bits[9] = 0x02;
        assert_eq!(take_i64(&mut &eleven_bits[..]), None);
        // 2^31 does not fit in 32 bits.
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None);
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64, small: i32) {
            let mut out = BytesMut::new();
            put_i64(value, &mut out);
            prop_assert_eq!(out.len(), len_i64(value));
            put_i64(i64::from(small), &mut out);
            let mut rest = &out[..];
            prop_assert_eq!(take_i64(&mut rest), Some(value));
            prop_assert_eq!(take_i32(&mut rest), Some(small));
            prop_assert!(rest.is_empty());
        }
    }
}
