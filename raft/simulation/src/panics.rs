//! A panic of a run is a finding of that run, not the end of all runs.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work`; if it panics, where and with what message. Nothing of such a panic is printed:
/// shrinking repeats it hundreds of times. Panics elsewhere are printed as before.
///
/// What `work` shares with its caller must be sound after a panic: a run owns its world.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if GUARDED.get() {
                MESSAGE.set(info.to_string());
            } else {
                previous(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|_| MESSAGE.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_where_and_why() {
        assert_eq!(guarded(|| 7), Ok(7));
        let number = 3;
        let message = guarded(|| assert!(number > 4, "{number} is small")).expect_err("a panic");
        assert!(message.contains("panics.rs:"), "{message}");
        assert!(message.contains("3 is small"), "{message}");
        assert_eq!(guarded(|| 8), Ok(8));
    }
}
