//! Raft groups in a simulated world of bad networks, disks and clocks, checked at each step.
