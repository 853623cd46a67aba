//! Memory that the kernel receives into: a ring of equal buffers registered once, from which a
//! multishot receive takes the next free one (`io_uring_register_buf_ring(3)`, Linux 5.19).

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

const PAGE_BYTES: usize = 4096;

/// The group that all receives name; there is one.
pub(super) const GROUP: u16 = 0;

/// A buffer that the kernel has filled and that has not been given back.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the ring"]
pub(super) struct Filled {
    number: u16,
    len: u32,
}

impl Filled {
    pub(super) fn new(number: u16, len: u32) -> Filled {
        Filled { number, len }
    }
}

/// Zeroed, page-aligned memory.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
    leaked: bool,
}

impl Pages {
    fn new(bytes: usize) -> Pages {
        let layout = Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES)
            .expect("far less than the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Pages {
            start,
            layout,
            leaked: false,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: allocated in `new` with this layout, and freed here alone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// The buffers. They must outlive every receive that may use them: the ring that owns them stops
/// all receives before it lets go.
pub(super) struct Buffers {
    entries: Pages,
    memory: Pages,
    count: u16,
    bytes_each: u32,
    tail: u16,
}

impl Buffers {
    /// Makes and registers `count` (a power of two) buffers.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        bytes_each: u32,
    ) -> io::Result<Buffers> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Pages::new(usize::from(count) * bytes_each as usize);
        // SAFETY: the entries' memory is page-aligned, long enough, and freed only after the ring
        // that it is registered with has stopped all receives and been closed (`Ring`'s drop).
        unsafe {
            submitter.register_buf_ring_with_flags(
                entries.start.as_ptr() as u64,
                count,
                GROUP,
                0,
            )?;
        }
        let mut buffers = Buffers {
            entries,
            memory,
            count,
            bytes_each,
            tail: 0,
        };
        for number in 0..count {
            buffers.offer(number);
        }
        Ok(buffers)
    }

    /// What the kernel put into a buffer.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let len = filled.len.min(self.bytes_each) as usize;
        // SAFETY: the buffer lies in `memory`; the kernel has filled it and does not touch it again
        // before it is given back, which takes the `Filled` away.
        unsafe { std::slice::from_raw_parts(self.start_of(filled.number), len) }
    }

    /// Lets the kernel use a buffer again.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.offer(filled.number);
    }

    /// Never frees the memory: for a ring that could not stop its receives.
    pub(super) fn leak(&mut self) {
        self.entries.leaked = true;
        self.memory.leaked = true;
    }

    fn start_of(&self, number: u16) -> *mut u8 {
        assert!(number < self.count, "the kernel names a buffer of the ring");
        // SAFETY: below `count` buffers of `bytes_each`, so inside the allocation.
        unsafe {
            self.memory
                .start
                .as_ptr()
                .add(usize::from(number) * self.bytes_each as usize)
        }
    }

    fn offer(&mut self, number: u16) {
        let address = self.start_of(number) as u64;
        let entries = self.entries.start.as_ptr().cast::<BufRingEntry>();
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so inside the entries; the kernel reads an entry only
        // after the tail below has passed it.
        let entry = unsafe { &mut *entries.add(place) };
        entry.set_addr(address);
        entry.set_len(self.bytes_each);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry's reserved field, is aligned to two bytes, and is
        // written by this thread alone while the kernel reads it.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries.cast_const()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
