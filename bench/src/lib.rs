//! The latency harness behind `millrace-bench`. It speaks to a broker over TCP alone and runs
//! beside it, on CPUs of its own.

pub mod cpu;
pub mod limits;
pub mod progress;
pub mod record;
pub mod report;
