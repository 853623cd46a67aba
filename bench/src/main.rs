//! `millrace-bench`: see the library.

fn main() {}
