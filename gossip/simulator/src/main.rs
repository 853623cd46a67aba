//! `simulate-gossip`: runs seeds, as all simulators do, or an experiment.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gossip_simulator::{Experiment, GossipSimulator};

/// Compares Lifeguard with plain SWIM and prints a table in Markdown.
///
/// Takes some minutes; --members 16,32 is quick.
#[derive(Debug, Parser)]
#[command(
    name = "experiment lifeguard",
    bin_name = "scripts/simulate gossip experiment lifeguard"
)]
struct Options {
    /// Sizes of clusters
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "16,32,64,128,256,512",
        value_parser = clap::value_parser!(u16).range(4..=4096)
    )]
    members: Vec<u16>,
    /// How many members stall in each cluster
    #[arg(long, default_value_t = Experiment::default().stalling)]
    stalling: usize,
    /// Runs of each kind in clusters of up to 64; in larger ones as many fewer as they are larger
    #[arg(long, default_value_t = Experiment::default().repetitions)]
    repetitions: u64,
    /// For how many virtual seconds members stall in each run
    #[arg(long, default_value_t = Experiment::default().observed.as_secs())]
    seconds: u64,
    /// Deaths in each run of the second part
    #[arg(long, default_value_t = Experiment::default().deaths)]
    deaths: usize,
    /// From what all is drawn
    #[arg(long, default_value_t = Experiment::default().seed)]
    seed: u64,
    /// Threads that make runs [default: one for each CPU]
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().peekable();
    let program = arguments.next();
    if arguments
        .next_if(|argument| argument == "experiment")
        .is_none()
    {
        return simulation::cli::main(&GossipSimulator::default());
    }
    if arguments
        .next_if(|argument| argument == "lifeguard")
        .is_none()
    {
        eprintln!("there is one experiment: scripts/simulate gossip experiment lifeguard --help");
        return ExitCode::from(2);
    }
    let options = Options::parse_from(program.into_iter().chain(arguments));
    let smallest = options.members.iter().min().copied().map_or(0, usize::from);
    if options.stalling + 2 > smallest {
        eprintln!("--stalling must leave two of {smallest} members that never stall");
        return ExitCode::from(2);
    }
    experiment(&options);
    ExitCode::SUCCESS
}

fn experiment(options: &Options) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let experiment = Experiment {
        members: options
            .members
            .iter()
            .map(|size| usize::from(*size))
            .collect(),
        stalling: options.stalling,
        repetitions: options.repetitions,
        observed: Duration::from_secs(options.seconds),
        deaths: options.deaths,
        seed: options.seed,
        threads: options.threads.unwrap_or(cpus),
    };
    let shown = std::io::stderr().is_terminal();
    let table = experiment.run(&|done, of| {
        if shown {
            eprint!("\r{done} of {of} runs");
        }
    });
    if shown {
        eprintln!();
    }
    print!("{table}");
}
