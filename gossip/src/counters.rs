//! Counts of what a node did and refused, for metrics and for experiments.

use crate::refusal::Refusal;

/// Counts since the node began; they only grow.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of datagrams sent.
    pub datagram_bytes_sent: u64,
    /// Datagrams that were authentic and fresh.
    pub datagrams_accepted: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// Bytes sent on streams.
    pub stream_bytes_sent: u64,
    /// Full exchanges completed.
    pub syncs_completed: u64,
    /// Probes begun.
    pub probes: u64,
    /// Probes that nobody answered.
    pub probes_failed: u64,
    /// Probes that were answered on a stream alone: datagrams do not get through.
    pub probes_answered_by_stream: u64,
    /// Claims that this node is suspect, dead or gone, of its current incarnation. Each must be
    /// refuted.
    pub accusations: u64,
    /// Claims that this node refuted.
    pub refutations: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counters {
    /// How much was refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    pub(crate) fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Refusal};

    #[test]
    fn each_reason_is_counted_by_itself() {
        for (place, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(place, reason as usize);
            let mut counters = Counters::default();
            counters.refuse(reason);
            let counted: Vec<_> = Refusal::ALL
                .into_iter()
                .filter(|other| counters.refused(*other) == 1)
                .collect();
            assert_eq!(counted, [reason]);
        }
    }
}
