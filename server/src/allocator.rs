//! The program's allocator, mimalloc: a shard makes and frees many small things for each request.

#![allow(unsafe_code)] // mimalloc's options are set through its C interface.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of mimalloc's option `purge_delay` (`mi_option_e` in `mimalloc.h`), the same since
/// version 1.7; the crate does not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for reuse. By default it goes back to the system after 10 ms, and a broker
/// that takes requests of 1 MiB then faults the same pages in again and again: 877 MB/s instead of
/// 1,227 in one alternation (`millrace-bench run large-requests`). How much that can be is bounded by the budgets
/// of the configuration.
pub(crate) fn keep_memory() {
    // SAFETY: sets one number in mimalloc's table of options; it may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages = status.split_whitespace().nth(1).expect("a number of pages");
        pages.parse::<u64>().expect("a number") * rustix::param::page_size() as u64
    }

    #[test]
    fn freed_memory_stays() {
        keep_memory();
        let before = resident_bytes();
        let pieces: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
        drop(pieces);
        std::thread::sleep(Duration::from_millis(200));
        // Whatever is scheduled to go back goes when memory is next asked for.
        drop(vec![1_u8; 1 << 20]);
        let kept = resident_bytes().saturating_sub(before);
        assert!(kept > 48 << 20, "only {kept} bytes of 64 MiB were kept");
    }
}
