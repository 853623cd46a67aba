//! The `millrace` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_server::cli::run(std::env::args_os())
}
