//! Where a record without key and partition goes.

use crate::core::random::Random;

/// Stays with one partition for a batch's worth of bytes, then draws another: few full batches are
/// cheaper than many small ones, and over time the partitions get the same share. It counts bytes,
/// not batches, so that a partition whose batches leave early does not get more.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    current: Option<u32>,
    bytes: usize,
}

impl Sticky {
    pub(super) fn partition(
        &mut self,
        partitions: u32,
        batch_bytes: usize,
        random: &mut Random,
    ) -> u32 {
        match self.current {
            Some(current) if current < partitions && self.bytes < batch_bytes => current,
            old => {
                let mut drawn = random.below(partitions);
                if Some(drawn) == old {
                    drawn = (drawn + 1) % partitions;
                }
                self.current = Some(drawn);
                self.bytes = 0;
                drawn
            }
        }
    }

    /// Counts a record that was accepted.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_for_a_batch_and_spreads_over_all() {
        let mut random = Random::new(1);
        let mut sticky = Sticky::default();
        let mut counts = [0; 7];
        let mut switches = 0;
        let mut last = None;
        for _ in 0..70_000 {
            let partition = sticky.partition(7, 1000, &mut random);
            sticky.count(100);
            counts[partition as usize] += 1;
            switches += u32::from(last != Some(partition));
            last = Some(partition);
        }
        assert_eq!(switches, 7000);
        assert!(
            counts.iter().all(|count| (8_000..12_000).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_single_partition_is_no_trouble_and_fewer_partitions_neither() {
        let mut random = Random::new(1);
        let mut sticky = Sticky {
            current: Some(9),
            bytes: 0,
        };
        for _ in 0..10 {
            assert_eq!(sticky.partition(1, 1, &mut random), 0);
            sticky.count(5);
        }
    }
}
