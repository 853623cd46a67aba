//! Memory for the kernel to read and write, aligned for `O_DIRECT`; and how fast one core copies it
//! and sums it up.

#![allow(unsafe_code)] // Memory that the kernel writes behind the compiler's back.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Instant;

use super::stage::{Clock, Phase};

/// A huge page's size on x86-64 and on most others: enough alignment for any device as well.
const HUGE_PAGE: usize = 2 << 20;

/// What one copy moves and one checksum covers.
const PIECE: usize = 1 << 20;

/// A copy goes round in two areas of this size, more than most caches hold.
const COPY_AREA: usize = 128 << 20;

/// A piece of memory in huge pages, where the system gives them: a direct read or write then has
/// few pages to look up, which is a large part of its cost.
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, as a `Vec` does, and nothing in it is bound to a thread.
unsafe impl Send for Memory {}

impl Memory {
    /// At least so many bytes.
    pub(super) fn new(bytes: usize) -> Memory {
        let bytes = bytes.max(1).next_multiple_of(HUGE_PAGE);
        let layout = Layout::from_size_align(bytes, HUGE_PAGE).expect("a size that fits in memory");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        // SAFETY: the range is this allocation's, whole pages of it, and the advice leaves its
        // content alone. A refusal (a kernel without huge pages) costs speed only.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        let mut memory = Memory { start, layout };
        memory.scramble();
        memory
    }

    /// Fills it with bytes that neither a device nor a hypervisor can make smaller than they are.
    fn scramble(&mut self) {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for word in self.bytes_mut().chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.layout.size()
    }

    /// Where a range of it lies, for the kernel.
    ///
    /// # Panics
    /// If it is not within.
    pub(super) fn at(&self, start: usize, len: usize) -> *mut u8 {
        let within = start.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(within, "{len} bytes at {start} of {}", self.len());
        // SAFETY: just checked to be within the allocation.
        unsafe { self.start.as_ptr().add(start) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the allocation has this length and was initialised (zeroed). It is borrowed
        // mutably, and whoever gives it to a ring gives it away for as long as that uses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Bytes a second copied by this core from memory to memory.
pub(super) fn copy(clock: &Clock<'_>) -> f64 {
    let mut from = Memory::new(COPY_AREA);
    let mut to = Memory::new(COPY_AREA);
    let (from, to) = (from.bytes_mut(), to.bytes_mut());
    let mut pieces = from
        .chunks_exact(PIECE)
        .zip(0..COPY_AREA / PIECE)
        .cycle()
        .map(|(piece, number)| (piece, number * PIECE));
    repeat(clock, || {
        let (piece, at) = pieces.next().expect("it goes round");
        black_box(&mut to[at..at + PIECE]).copy_from_slice(black_box(piece));
    })
}

/// Bytes a second of CRC-32C by this core, called as the broker's record batches call it. The bytes
/// are in the cache, as those of a batch that has just arrived are.
pub(super) fn crc32c(clock: &Clock<'_>) -> f64 {
    let mut memory = Memory::new(PIECE);
    let bytes = &memory.bytes_mut()[..PIECE];
    repeat(clock, || {
        let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
        black_box(crc_fast::checksum(algorithm, black_box(bytes)));
    })
}

/// Bytes a second of CRC-32 by this core, as the journal computes it, of bytes in the cache.
pub(super) fn crc32(clock: &Clock<'_>) -> f64 {
    let mut memory = Memory::new(PIECE);
    let bytes = &memory.bytes_mut()[..PIECE];
    repeat(clock, || {
        black_box(crc32fast::hash(black_box(bytes)));
    })
}

/// Does something with one piece over and over; bytes a second.
fn repeat(clock: &Clock<'_>, mut work: impl FnMut()) -> f64 {
    let window = clock.start();
    let mut bytes = 0;
    loop {
        work();
        let now = Instant::now();
        match window.phase(now, bytes) {
            Phase::WarmUp => {}
            Phase::Measure => bytes += PIECE as u64,
            Phase::Over => return window.per_second(bytes, now),
        }
    }
}
