//! The `millrace` program.

use std::process::ExitCode;

/// A shard makes and frees many small things for each request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    millrace_server::cli::run(std::env::args_os())
}
