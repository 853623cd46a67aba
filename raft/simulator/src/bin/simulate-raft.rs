//! `simulate-raft`: seeded runs, an explanation of one of them, and the experiments.

use std::io;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use raft_simulator::{BugName, RaftSimulator};
use simulation::cli::{Options, execute};
use simulation::{Mix, Regression, Scenario, Seed, Simulator};

/// Runs Raft groups in worlds of bad networks, disks and clocks, and checks every rule at each step.
#[derive(Debug, Parser)]
#[command(bin_name = "scripts/simulate raft", args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  scripts/simulate raft --seeds 1000 --mix hostile
  scripts/simulate raft --seeds 5000..6000 --mix all --save failures
  scripts/simulate raft --regression failures/raft-hostile-5017.json
  scripts/simulate raft explain --seed 5017 --mix hostile | tail -50

The exit code is 0 if all runs held, 1 if one broke a rule, 2 if the command cannot be carried out.")]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
    /// Plants a bug in the core, to see that the oracles notice
    #[arg(long, global = true, value_name = "NAME")]
    bug: Option<BugName>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed and tells all that happens in it
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Explain {
    /// The seed
    #[arg(long, required_unless_present = "regression")]
    seed: Option<u64>,
    /// The faults
    #[arg(long, default_value = "hostile")]
    mix: Mix,
    /// Nodes in the world [default: as the seed says]
    #[arg(long)]
    nodes: Option<u16>,
    /// Virtual minutes
    #[arg(long, default_value = "1")]
    minutes: f64,
    /// Runs what a file describes instead
    #[arg(long, conflicts_with_all = ["seed", "mix", "nodes", "minutes"])]
    regression: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let program = Program::parse();
    let simulator = RaftSimulator {
        bug: program.bug.map(|BugName(bug)| bug),
    };
    let result = match program.command {
        None => execute(&program.options, &simulator, &mut io::stdout().lock())
            .map_err(|error| error.to_string()),
        Some(Command::Explain(explain)) => tell(&explain, &simulator),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn tell(explain: &Explain, simulator: &RaftSimulator) -> Result<bool, String> {
    use std::io::Write;

    let (scenario, plan) = match &explain.regression {
        Some(path) => {
            let regression = Regression::read(path).map_err(|error| error.to_string())?;
            (regression.scenario(), regression.plan)
        }
        None => {
            let seed = explain.seed.unwrap_or_default();
            let nodes = explain.nodes.map_or_else(|| simulator.nodes(Seed(seed)), usize::from);
            let scenario = Scenario {
                seed,
                nodes,
                mix: explain.mix,
                length: std::time::Duration::from_secs_f64(explain.minutes * 60.0),
            };
            let plan = simulator.plan(&scenario);
            (scenario, plan)
        }
    };
    let mut out = io::stdout().lock();
    let (outcome, lines) = simulator.explain(&scenario, &plan);
    let lines = lines.into_iter().chain([format!("{outcome:?}")]);
    for line in lines {
        // Whoever read has seen enough, as `head` does.
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    Ok(outcome.violation.is_none())
}
