//! What joins and leaves cost, over the repetitions.

use crate::record::Summary;
use crate::report::model::{MedianAndMax, MembershipChange};

/// What one change of a group's members cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Until every member had its share.
    pub(super) settled_ns: u64,
    /// For how long each partition had no owner that had none for a while.
    pub(super) ownerless_ns: Vec<u64>,
}

/// All changes of one kind.
pub(super) fn summarise(event: &str, observed: &[Observed]) -> Option<MembershipChange> {
    let settled = observed.iter().map(|one| one.settled_ns as f64);
    let partitions = observed.iter().map(|one| one.ownerless_ns.len() as f64);
    let ownerless = observed.iter().flat_map(|one| &one.ownerless_ns);
    Some(MembershipChange {
        event: event.to_owned(),
        repetitions: observed.len(),
        settled: median_and_max(settled)?,
        partitions_without_owner: median_and_max(partitions)?,
        without_owner: median_and_max(ownerless.map(|ns| *ns as f64)),
    })
}

fn median_and_max(values: impl Iterator<Item = f64>) -> Option<MedianAndMax> {
    let summary = Summary::of(&values.collect::<Vec<f64>>())?;
    Some(MedianAndMax {
        median: summary.median,
        max: summary.largest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(settled_ns: u64, ownerless_ns: &[u64]) -> Observed {
        Observed {
            settled_ns,
            ownerless_ns: ownerless_ns.to_vec(),
        }
    }

    fn pair(median: f64, max: f64) -> MedianAndMax {
        MedianAndMax { median, max }
    }

    #[test]
    fn times_are_those_of_all_repetitions_and_partitions_are_counted_in_each() {
        let all = [
            observed(500, &[10, 20, 30]),
            observed(900, &[40]),
            observed(100, &[1_000, 50]),
        ];
        let join = summarise("join", &all).unwrap();
        assert_eq!((&*join.event, join.repetitions), ("join", 3));
        assert_eq!(join.settled, pair(500.0, 900.0));
        assert_eq!(join.partitions_without_owner, pair(2.0, 3.0));
        assert_eq!(join.without_owner, Some(pair(35.0, 1_000.0)));
    }

    #[test]
    fn where_every_partition_kept_an_owner_there_are_no_times_without() {
        let leave = summarise("leave", &[observed(7, &[]), observed(9, &[])]).unwrap();
        assert_eq!(leave.settled, pair(8.0, 9.0));
        assert_eq!(leave.partitions_without_owner, pair(0.0, 0.0));
        assert_eq!(leave.without_owner, None);
        assert_eq!(summarise("leave", &[]), None);
    }
}
