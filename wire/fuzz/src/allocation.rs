//! Counts what a thread has allocated, so that a target can assert that a few bytes from outside
//! never make it allocate much. What C libraries allocate (zstd) is not seen.
#![expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with its books kept for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes allocated less bytes freed on this thread; what one thread frees for another may make
    /// it negative.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that [`HELD`] has been.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn account(change: isize) {
    // Neither has a destructor, so both can be reached for as long as the thread allocates.
    HELD.with(|held| {
        held.set(held.get().wrapping_add(change));
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; the accounts are plain
// thread-local integers, and keeping them does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as isize);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        account(-(layout.size() as isize));
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        account(new_size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Runs `work` and asserts that it never held more than `limit` bytes at once.
///
/// # Panics
/// If it did.
pub fn bounded<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    let most = PEAK.get().wrapping_sub(before).max(0) as usize;
    assert!(
        most <= limit,
        "{most} bytes were held at once, {limit} are allowed"
    );
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted() {
        assert_eq!(bounded(1000, || vec![1u8; 1000].len()), 1000);
        for _ in 0..100 {
            bounded(1000, || drop(Vec::<u8>::with_capacity(1000)));
        }
        let over = std::panic::catch_unwind(|| bounded(999, || vec![1u8; 1000].len()));
        assert!(over.is_err());
    }
}
