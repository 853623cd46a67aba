//! The latency harness, `millrace-bench`: an open-loop load generator on its own io_uring. It is
//! empty today; the benchmark issue fills this crate.
