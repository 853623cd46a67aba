//! Runs the target that `MILLRACE_FUZZ_TARGET` names under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("MILLRACE_FUZZ_TARGET").unwrap_or_default();
    match millrace_fuzz::target(&name) {
        Some(target) => target.run,
        None => panic!("MILLRACE_FUZZ_TARGET='{name}' is no target; scripts/fuzz sets it"),
    }
});

fuzz_target!(|bytes: &[u8]| RUN(bytes));
