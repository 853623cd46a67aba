//! Bugs on request: a test plants one to see that its oracle catches it. Outside of tests every
//! question is answered with a constant no.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A batch that is sent again gets the next sequence number.
    NumberedAnewOnRetry,
    /// A batch whose answer was lost is numbered anew where an earlier one may be missing.
    LostNumberedAnew,
    /// More batches are under way than the broker knows again.
    MoreUnderWayThanKnown,
}

#[cfg(test)]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or none.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(test)]
pub(super) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(test))]
pub(super) const fn is(_: Bug) -> bool {
    false
}
