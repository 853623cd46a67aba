//! `millrace-bench`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_bench::cli::main()
}
