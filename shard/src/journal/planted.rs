//! Bugs on request: a test plants one to see that the oracles catch it. Outside of tests and of the
//! feature `planted-bugs` every question is answered with a constant no.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Appends are acknowledged when their group is issued.
    ReleasedBeforeWritten,
    /// A bad group ends the journal, even one that is proven to have been durable.
    EveryBadGroupIsTorn,
    /// A file is let go as soon as the checkpoint that no longer needs it is issued.
    FreedBeforeCheckpoint,
    /// Recovery takes a checkpoint whose groups are not all there.
    CheckpointAheadOfEnd,
    /// A start forgets which batches idempotent producers have sent.
    ProducersForgotten,
    /// A batch that comes again while the first is not durable yet is appended again.
    DuplicateInFlightAppended,
}

#[cfg(any(test, feature = "planted-bugs"))]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or none.
#[cfg(any(test, feature = "planted-bugs"))]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(any(test, feature = "planted-bugs")))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
