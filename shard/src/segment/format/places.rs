//! Blocks of an index.

use millrace_wire::ids::Offset;

use super::{CRC_AT, FIRST_ENTRY, Flaw, Identity, Put, VERSION, open_block, seal_block};

/// Places in one index block.
pub const PLACES_PER_BLOCK: usize = 170;
pub(super) const INDEX_MAGIC: [u8; 4] = *b"MLRI";
const PLACES_AT: usize = 12;
const PLACE_BYTES: usize = 24;
/// Set in the count of an index's last block.
const LAST_BLOCK: u16 = 1 << 15;
const _: () = assert!(PLACES_AT + PLACES_PER_BLOCK * PLACE_BYTES == CRC_AT);

/// A place in a segment that a search can begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The base offset of the entry there.
    pub offset: Offset,
    /// Where it begins.
    pub position: u64,
    /// The largest timestamp of all entries before it, or [`NO_TIMESTAMP`].
    pub max_before: i64,
}

impl Place {
    /// Whether `next` may follow this in an index.
    #[must_use]
    pub fn precedes(&self, next: &Place) -> bool {
        self.offset < next.offset
            && self.position < next.position
            && self.max_before <= next.max_before
    }
}

/// One block of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexBlock {
    /// Its places, in order.
    pub places: Vec<Place>,
    /// Whether it is the last of a complete segment.
    pub last: bool,
}

/// Writes up to [`PLACES_PER_BLOCK`] places into a zeroed block, the `number`th of its file.
pub fn encode_places(
    places: &[Place],
    last: bool,
    identity: Identity,
    number: u32,
    block: &mut [u8],
) {
    let count = u16::try_from(places.len().min(PLACES_PER_BLOCK)).expect("few fit in a block");
    let mut put = Put { block, at: 0 };
    put.bytes(&INDEX_MAGIC)
        .bytes(&VERSION.to_le_bytes())
        .bytes(&(count | if last { LAST_BLOCK } else { 0 }).to_le_bytes())
        .bytes(&number.to_le_bytes());
    for place in &places[..usize::from(count)] {
        put.bytes(&place.offset.0.to_le_bytes())
            .bytes(&place.position.to_le_bytes())
            .bytes(&place.max_before.to_le_bytes());
    }
    seal_block(block, identity);
}

/// Reads the `number`th block of an index, whose places come after `before`.
pub fn decode_places(
    bytes: &[u8],
    identity: Identity,
    number: u32,
    before: Option<Place>,
) -> Result<IndexBlock, Flaw> {
    let mut fields = open_block(bytes, &INDEX_MAGIC, identity)?;
    let count = fields.u16();
    let last = count & LAST_BLOCK != 0;
    let count = usize::from(count & !LAST_BLOCK);
    if fields.u32() != number || count == 0 || count > PLACES_PER_BLOCK {
        return Err(Flaw::Impossible("the block belongs elsewhere"));
    }
    let mut places = Vec::with_capacity(count);
    let mut before = before;
    for _ in 0..count {
        let place = Place {
            offset: Offset(fields.i64()),
            position: fields.u64(),
            max_before: fields.i64(),
        };
        let in_range = place.position >= FIRST_ENTRY && place.offset.0 >= 0;
        if !in_range || before.is_some_and(|before| !before.precedes(&place)) {
            return Err(Flaw::Impossible("the places are not in order"));
        }
        before = Some(place);
        places.push(place);
    }
    Ok(IndexBlock { places, last })
}
