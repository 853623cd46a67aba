//! The short run: every target on its corpus, then on seeded mutations of it.
//!
//! `MILLRACE_FUZZ_SECONDS` is the time for mutations, all targets together (4 if not set);
//! `MILLRACE_FUZZ_TARGET` gives it to one target alone; `MILLRACE_FUZZ_SEED` makes other ones; `MILLRACE_FUZZ_INPUT` names a file, in a folder that is
//! called like its target, to run alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use millrace_fuzz::mutation::{Random, mutated};
use millrace_fuzz::{TARGETS, Target, target};

const DEFAULT_SECONDS: f64 = 4.0;
const DEFAULT_SEED: u64 = 0x4d4c_5200;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = target.corpus();
    let Ok(entries) = fs::read_dir(&folder) else {
        panic!(
            "{} has no corpus; run: cargo run -p millrace-fuzz --example seeds",
            target.name
        );
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn the_corpus_passes() {
    if let Ok(file) = env::var("MILLRACE_FUZZ_INPUT") {
        let folder = Path::new(&file).parent().and_then(Path::file_name);
        let name = folder.and_then(|name| name.to_str()).unwrap_or_default();
        let target = target(name).unwrap_or_else(|| panic!("no target is called '{name}'"));
        return (target.run)(&fs::read(&file).unwrap());
    }
    for target in TARGETS {
        for input in corpus(target) {
            (target.run)(&input);
        }
    }
}

#[test]
fn every_seed_is_in_the_corpus() {
    for target in TARGETS {
        for (name, _) in (target.seeds)() {
            assert!(
                target.corpus().join(name).is_file(),
                "{}/{name} is missing; run: cargo run -p millrace-fuzz --example seeds",
                target.name
            );
        }
    }
}

#[test]
fn mutations_pass() {
    let seed = variable("MILLRACE_FUZZ_SEED", DEFAULT_SEED);
    let seconds = variable("MILLRACE_FUZZ_SECONDS", DEFAULT_SECONDS);
    println!("MILLRACE_FUZZ_SEED={seed} MILLRACE_FUZZ_SECONDS={seconds}");
    let targets: Vec<&Target> = match env::var("MILLRACE_FUZZ_TARGET") {
        Ok(name) => vec![target(&name).unwrap_or_else(|| panic!("no target is called '{name}'"))],
        Err(_) => TARGETS.iter().collect(),
    };
    let each = Duration::from_secs_f64(seconds / targets.len() as f64);
    for target in targets {
        let corpus = corpus(target);
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < each {
            let input = mutated(&corpus, &mut Random::new(seed, number));
            let passed = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            if passed.is_err() {
                panic!(
                    "{} failed on input {number} of MILLRACE_FUZZ_SEED={seed}: {}",
                    target.name,
                    hex(&input)
                );
            }
            number += 1;
        }
        println!("{:>20}: {number} inputs", target.name);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
