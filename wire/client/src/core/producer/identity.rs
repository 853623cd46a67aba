//! The id under which an idempotent producer numbers its batches.

use millrace_wire::ids::ProducerId;

use crate::core::time::Time;

/// How far a producer has come with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The producer is not idempotent and has none.
    None,
    /// Nobody has asked for one, and nothing waits for it.
    Unneeded,
    /// One is to be asked for.
    Wanted {
        /// Not before this time.
        not_before: Time,
        /// Answers in a row that were none.
        failures: u32,
        /// What the last of them said.
        last: Option<String>,
    },
    /// The answer is out.
    Asked {
        /// As above.
        failures: u32,
        /// As above.
        last: Option<String>,
    },
    /// It has one.
    Known(ProducerId),
}

impl Identity {
    pub(super) fn new(idempotent: bool) -> Identity {
        match idempotent {
            true => Identity::Unneeded,
            false => Identity::None,
        }
    }

    pub(crate) fn known(&self) -> Option<ProducerId> {
        match self {
            Identity::Known(id) => Some(*id),
            _ => None,
        }
    }

    /// The producer is about to be used.
    pub(crate) fn want(&mut self, now: Time) {
        if *self == Identity::Unneeded {
            *self = Identity::Wanted {
                not_before: now,
                failures: 0,
                last: None,
            };
        }
    }

    /// The id is of no use any more.
    pub(super) fn forget(&mut self, retired: ProducerId, now: Time) {
        if self.known() == Some(retired) {
            *self = Identity::Unneeded;
            self.want(now);
        }
    }

    /// When it is to be asked for, if it is.
    pub(crate) fn wanted_at(&self) -> Option<Time> {
        match self {
            Identity::Wanted { not_before, .. } => Some(*not_before),
            _ => None,
        }
    }

    /// It has been asked for.
    pub(crate) fn asked(&mut self) {
        if let Identity::Wanted { failures, last, .. } = self {
            *self = Identity::Asked {
                failures: *failures,
                last: last.take(),
            };
        }
    }

    /// The answer was none; `pause` is how long to wait after so many of them.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        why: String,
        pause: impl FnOnce(u32) -> std::time::Duration,
    ) {
        if let Identity::Asked { failures, .. } = self {
            let failures = *failures + 1;
            *self = Identity::Wanted {
                not_before: now.plus(pause(failures)),
                failures,
                last: Some(why),
            };
        }
    }

    /// Why there is none yet.
    pub(crate) fn last_failure(&self) -> Option<&String> {
        match self {
            Identity::Wanted { last, .. } | Identity::Asked { last, .. } => last.as_ref(),
            _ => None,
        }
    }
}
