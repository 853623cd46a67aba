//! Membership as a state machine: SWIM with Lifeguard, without I/O, clock, threads or async. It is
//! empty today: a Millrace node stands alone until the membership issue fills this crate.
