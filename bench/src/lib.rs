//! The latency harness behind `millrace-bench`. It speaks to a broker over TCP alone and runs
//! beside it, on CPUs of its own.

pub mod record;
pub mod report;
