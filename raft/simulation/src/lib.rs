//! The kernel that the simulators of consensus and membership share: virtual time, an event heap,
//! keyed draws, a network, faults as data, shrinking, and running many seeds. For tests alone.
