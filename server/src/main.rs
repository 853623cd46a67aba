//! The `millrace` program.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::keep_memory();
    millrace_server::cli::run(std::env::args_os())
}
