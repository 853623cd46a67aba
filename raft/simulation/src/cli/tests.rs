//! The command line over a world of its own: nodes that greet one another over the network, in
//! which every part of the kernel has a use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::faults::Fault;
use crate::hash::hash_of;
use crate::runner::NO_PANIC;
use crate::time::Time;
use crate::{Events, LinkModel, Network};

const PERIOD: std::time::Duration = std::time::Duration::from_millis(50);

/// The rule of the world: whoever is not cut off hears each other node within this.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// What is wrong with the simulator.
#[derive(Copy, Clone, PartialEq)]
enum Flaw {
    None,
    /// It blames nodes for silence while the network is cut.
    Strict,
    Panics,
    /// Its second run is another one.
    Forgetful,
}

struct Greetings {
    flaw: Flaw,
    runs: AtomicU64,
}

enum Event {
    Greet { node: usize },
    Hear { node: usize, from: usize },
    Begin(usize),
    End(usize),
}

impl Greetings {
    fn new(flaw: Flaw) -> Self {
        let runs = AtomicU64::new(0);
        Self { flaw, runs }
    }

    fn world(&self, scenario: &Scenario, plan: &Plan) -> Outcome {
        let nodes = scenario.nodes;
        let model = LinkModel::perfect(std::time::Duration::from_millis(2));
        let mut network = Network::new(Seed(scenario.seed), nodes, model);
        let mut events = Events::new();
        for (index, timed) in plan.faults.iter().enumerate() {
            events.push(timed.at, Event::Begin(index));
            events.push(timed.ends(), Event::End(index));
        }
        for node in 0..nodes {
            let mut draws = Seed(scenario.seed).draws("first greeting", &[node as u64]);
            let first = Time::ZERO + draws.between(std::time::Duration::ZERO, PERIOD);
            events.push(first, Event::Greet { node });
        }
        let mut heard = vec![vec![Time::ZERO; nodes]; nodes];
        let mut violation = None;
        while let Some((now, event)) = events.pop() {
            if now > scenario.ends() || violation.is_some() {
                break;
            }
            match event {
                Event::Begin(index) => {
                    let timed = &plan.faults[index];
                    if self.flaw == Flaw::Strict
                        || matches!(timed.fault, Fault::Cut { .. } | Fault::Clog { .. })
                    {
                        network.begin(&timed.fault, timed.ends());
                    }
                }
                Event::End(index) => network.end(&plan.faults[index].fault),
                Event::Hear { node, from } => heard[node][from] = now,
                Event::Greet { node } => {
                    for other in (0..nodes).filter(|&other| other != node) {
                        for at in network.route(now, node, other, 8) {
                            let event = Event::Hear {
                                node: other,
                                from: node,
                            };
                            events.push(at, event);
                        }
                        let silent = now.since(heard[node][other]);
                        if self.flaw == Flaw::Strict && silent > PATIENCE {
                            violation = Some(Violation {
                                at: now,
                                rule: "each hears each".to_owned(),
                                detail: format!("{node} has not heard {other} for {silent:?}"),
                            });
                        }
                    }
                    events.push(now + PERIOD, Event::Greet { node });
                }
            }
        }
        Outcome {
            seed: scenario.seed,
            events: events.processed(),
            state_hash: hash_of(&heard),
            violation,
        }
    }
}

impl Simulator for Greetings {
    fn name(&self) -> &'static str {
        "greetings"
    }

    fn version(&self) -> u32 {
        1
    }

    fn nodes(&self, seed: Seed) -> usize {
        3 + seed.draws("nodes", &[]).below(3) as usize
    }

    fn run(&self, scenario: &Scenario, plan: &Plan) -> Outcome {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed);
        assert!(self.flaw != Flaw::Panics, "out of words");
        let mut outcome = self.world(scenario, plan);
        if self.flaw == Flaw::Forgetful {
            outcome.state_hash ^= runs;
        }
        outcome
    }
}

fn options(arguments: &str) -> Options {
    let words = std::iter::once("simulate").chain(arguments.split_whitespace());
    options::from_arguments("greetings", words.map(Into::into))
}

fn execute_text(arguments: &str, flaw: Flaw) -> (bool, String) {
    let mut out = Vec::new();
    let held = execute(&options(arguments), &Greetings::new(flaw), &mut out).expect(arguments);
    (held, String::from_utf8(out).expect("text"))
}

fn execute_json(arguments: &str, flaw: Flaw) -> (bool, serde_json::Value) {
    let (held, text) = execute_text(&format!("{arguments} --output json"), flaw);
    (held, serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn the_command_is_well_formed_and_helps_with_an_example() {
    let mut command = options::command("greetings");
    command.build();
    command.clone().debug_assert();
    let help = command.render_long_help().to_string();
    for part in [
        "Runs seeded worlds",
        "--check-determinism",
        "scripts/simulate greetings --seeds 1000 --mix hostile",
    ] {
        assert!(help.contains(part), "{help}");
    }
    for arguments in [
        "--seeds 5..5",
        "--mix chaos",
        "--minutes 0",
        "--minutes NaN",
        "--nodes 0",
        "--threads 0",
        "--regression file.json --seeds 5",
    ] {
        let words = std::iter::once("simulate").chain(arguments.split_whitespace());
        let result = command.clone().try_get_matches_from(words);
        assert!(result.is_err(), "{arguments}");
    }
}

#[test]
fn all_mixes_hold_twice_and_the_report_counts_them() {
    let arguments = "--seeds 100..120 --mix all --minutes 0.1 --threads 2";
    let (held, report) = execute_json(&format!("{arguments} --check-determinism"), Flaw::None);
    assert!(held);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), Mix::ALL.len());
    for (row, mix) in rows.iter().zip(Mix::ALL) {
        assert_eq!(row["mix"], mix.to_string());
        assert_eq!(row["runs"], 20);
        assert_eq!(row["virtual_seconds"], 120.0);
        // Three nodes greet twenty times a second for six seconds, and that twice.
        assert!(row["events"].as_u64() > Some(2 * 20 * 3 * 120), "{row}");
    }
    let (_, again) = execute_json(arguments, Flaw::None);
    assert_eq!(again["rows"][5]["fingerprint"], rows[5]["fingerprint"]);
    let (_, table) = execute_text(arguments, Flaw::None);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 7, "{table}");
    assert!(lines[0].starts_with("mix") && lines[0].ends_with("violations"));
    assert!(lines[6].starts_with("hostile") && lines[6].ends_with(" 0"));
}

#[test]
fn a_violation_is_named_repeated_shrunk_saved_and_replayed() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = directory.path().display().to_string();
    let arguments = format!("--seeds 40 --mix network --nodes 3 --threads 2 --save {folder}");
    let (held, report) = execute_json(&arguments, Flaw::Strict);
    assert!(!held);
    let violations = report["rows"][0]["violations"].as_array().expect("some");
    assert!(violations.len() >= 10, "{report}");
    let whole = |seed: u64| {
        let command = options("--mix network --nodes 3");
        let simulator = Greetings::new(Flaw::Strict);
        let (options, simulator) = (&command, &simulator as &dyn Simulator);
        Command { options, simulator }
            .scenario(Mix::Network, seed)
            .plan()
    };
    for violation in violations {
        let again = violation["again"].as_str().expect("a command");
        let arguments = again
            .strip_prefix("scripts/simulate greetings ")
            .expect(again);
        let (held, repeated) = execute_json(arguments, Flaw::Strict);
        assert!(!held, "{again}");
        let repeated = &repeated["rows"][0]["violations"][0];
        assert_eq!(repeated["detail"], violation["detail"]);
        let path = violation["saved"]["path"].as_str().expect("a path");
        let saved = Regression::read(path.as_ref()).expect("a file");
        assert!(!saved.plan.faults.is_empty() && saved.plan.faults.len() <= 3);
        let all = whole(saved.seed).faults;
        assert!(saved.plan.faults.iter().all(|timed| all.contains(timed)));
        let (held, replayed) = execute_text(&format!("--regression {path}"), Flaw::Strict);
        assert!(!held && replayed.contains("broken is \"each hears each\""));
        assert!(
            replayed.contains(&saved.plan.faults[0].to_string()),
            "{replayed}"
        );
        // Once mended, it passes.
        let (held, _) = execute_text(&format!("--regression {path}"), Flaw::None);
        assert!(held);
    }
}

#[test]
fn a_panic_and_a_difference_are_violations() {
    let (held, report) = execute_json("--seeds 7..8", Flaw::Panics);
    let violation = &report["rows"][0]["violations"][0];
    assert!(!held && violation["seed"] == 7 && violation["rule"] == NO_PANIC);
    let detail = violation["detail"].as_str().expect("a message");
    assert!(detail.contains("out of words"), "{detail}");

    let (held, _) = execute_text("--seeds 3 --minutes 0.1", Flaw::Forgetful);
    assert!(held, "nobody compares");
    let arguments = "--seeds 3 --minutes 0.1 --check-determinism";
    let (held, text) = execute_text(arguments, Flaw::Forgetful);
    assert!(
        !held && text.contains("the same seed gives the same run"),
        "{text}"
    );
    assert!(text.contains("--seeds 1..2 --mix hostile --minutes 0.1 --check-determinism"));
}

#[test]
fn a_file_of_another_simulator_is_refused() {
    let directory = tempfile::tempdir().expect("a folder");
    let regression = Regression {
        simulator: "other".to_owned(),
        version: 1,
        seed: u64::MAX,
        nodes: 3,
        mix: Mix::Calm,
        length: PERIOD,
        plan: Plan::default(),
        note: String::new(),
    };
    let path = regression.write(directory.path()).expect("written");
    let arguments = options(&format!("--regression {}", path.display()));
    let simulator = Greetings::new(Flaw::None);
    let error = execute(&arguments, &simulator, &mut Vec::new()).expect_err("another simulator");
    assert!(error.to_string().contains("'other', this is 'greetings'"));
    // The greatest seed of all runs as well.
    let regression = Regression {
        simulator: "greetings".to_owned(),
        ..regression
    };
    let path = regression.write(directory.path()).expect("written");
    let (held, report) = execute_json(&format!("--regression {}", path.display()), Flaw::None);
    assert!(held && report["rows"][0]["runs"] == 1);
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    struct Full(AtomicBool);
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.store(true, Ordering::Relaxed);
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Full(AtomicBool::new(false));
    let arguments = options("--seeds 1 --minutes 0.1 --mix calm");
    let result = execute(&arguments, &Greetings::new(Flaw::None), &mut out);
    assert!(matches!(result, Err(CommandError::Output(_))));
    assert!(out.0.into_inner());
}
