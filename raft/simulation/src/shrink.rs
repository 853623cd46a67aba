//! From the many faults of a failing run to the few that matter.

use crate::faults::Timed;
use crate::plan::Plan;

/// The most runs that one shrinking may cost.
const MOST_TRIES: usize = 400;

/// Takes away what a failure does not need: all faults at once, then halves, quarters and so on,
/// then single faults until none can be left out (delta debugging, Zeller and Hildebrandt, 2002,
/// without its complements). `fails` runs a plan and says whether it fails in the same way; it is
/// called at most 400 times. The result fails; it is the whole plan if nothing smaller does.
///
/// That `plan` itself fails is taken for granted.
#[must_use]
pub fn shrink(plan: &Plan, fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut shrinking = Shrinking {
        faults: plan.faults.clone(),
        tries_left: MOST_TRIES,
        fails,
    };
    let mut size = shrinking.faults.len();
    while size > 0 && shrinking.tries_left > 0 {
        let removed = shrinking.remove_pieces_of(size);
        if size > 1 {
            size = size.div_ceil(2);
        } else if !removed {
            break;
        }
    }
    Plan {
        faults: shrinking.faults,
    }
}

struct Shrinking<F> {
    faults: Vec<Timed>,
    tries_left: usize,
    fails: F,
}

impl<F: FnMut(&Plan) -> bool> Shrinking<F> {
    /// Goes once over the faults in pieces of the size; whether one could be left out.
    fn remove_pieces_of(&mut self, size: usize) -> bool {
        let mut removed = false;
        let mut begin = 0;
        while begin < self.faults.len() && self.tries_left > 0 {
            let end = (begin + size).min(self.faults.len());
            let faults = [&self.faults[..begin], &self.faults[end..]].concat();
            let smaller = Plan { faults };
            self.tries_left -= 1;
            if (self.fails)(&smaller) {
                self.faults = smaller.faults;
                removed = true;
            } else {
                begin = end;
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::faults::Fault;
    use crate::time::Time;

    fn plan(count: u64) -> Plan {
        let faults = (0..count)
            .map(|number| Timed {
                at: Time(number),
                lasts: Duration::from_secs(1),
                fault: Fault::Crash {
                    node: number as usize,
                },
            })
            .collect();
        Plan { faults }
    }

    fn nodes(plan: &Plan) -> Vec<usize> {
        plan.faults
            .iter()
            .map(|timed| timed.at.0 as usize)
            .collect()
    }

    #[test]
    fn finds_every_planted_pair_among_64() {
        for first in 0..64 {
            for second in first + 1..64 {
                let mut tries = 0;
                let shrunk = shrink(&plan(64), |plan| {
                    tries += 1;
                    let nodes = nodes(plan);
                    nodes.contains(&first) && nodes.contains(&second)
                });
                assert_eq!(nodes(&shrunk), [first, second]);
                assert!(tries <= 64, "{tries} runs for {first} and {second}");
            }
        }
    }

    #[test]
    fn a_failure_that_needs_no_fault_loses_all() {
        let mut tries = 0;
        let shrunk = shrink(&plan(64), |_| {
            tries += 1;
            true
        });
        assert_eq!((shrunk, tries), (Plan::default(), 1));
        assert_eq!(shrink(&Plan::default(), |_| true), Plan::default());
    }

    #[test]
    fn a_failure_that_needs_any_three_keeps_three() {
        let shrunk = shrink(&plan(50), |plan| plan.faults.len() >= 3);
        assert_eq!(shrunk.faults.len(), 3);
    }

    #[test]
    fn nothing_smaller_fails_and_the_tries_are_bounded() {
        let mut tries = 0;
        let whole = plan(5_000);
        let shrunk = shrink(&whole, |_| {
            tries += 1;
            false
        });
        assert_eq!(shrunk, whole);
        assert_eq!(tries, MOST_TRIES);
    }

    #[test]
    fn what_comes_back_has_failed() {
        // A failure without any order in it: the last plan that failed is what comes back.
        let mut failed = plan(40);
        let shrunk = shrink(&plan(40), |plan| {
            let fails = crate::hash_of(&nodes(plan)).is_multiple_of(3);
            if fails {
                failed = plan.clone();
            }
            fails
        });
        assert_eq!(shrunk, failed);
    }
}
