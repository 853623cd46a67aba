//! The command line: what `millrace` can be asked to do.
//!
//! `serve` becomes the broker; every other command is a client of one, built on the same client
//! library as anybody's program. Client commands run on a small tokio runtime of their own and never
//! touch a shard. What a command was asked for goes to standard output; everything said about it
//! (errors, progress, summaries) goes to standard error.

mod broker;
mod configuration;
mod connect;
mod consume;
mod consume_group;
mod failure;
mod format;
mod group;
mod group_describe;
mod group_reset;
mod numbers;
mod output;
mod produce;
mod records;
mod serve;
mod start;
mod topic;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use failure::Failure;

const ROOT_HELP: &str = "\
Examples:
  millrace serve
  millrace topic create clicks --partitions 4
  millrace produce clicks < clicks.txt
  millrace consume clicks --follow

Exit codes:
  0    done
  1    the broker refused, or the operation failed
  2    the command line or the configuration is wrong
  3    the broker could not be reached, or stopped answering
  130  `produce` was interrupted by Ctrl-C; for `consume` that is an ordinary end, with 0

Client commands find the broker by --bootstrap or the variable MILLRACE_BOOTSTRAP.";

/// An event-streaming broker for Linux, and the commands to use one.
#[derive(Parser)]
#[command(name = "millrace", version, after_help = ROOT_HELP, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker until SIGTERM or Ctrl-C
    Serve(serve::ServeArgs),
    /// Print the configuration in force and where each value came from
    Config(configuration::ConfigArgs),
    /// Create, list, describe, change and delete topics
    #[command(subcommand, after_help = topic::TOPIC_HELP)]
    Topic(topic::TopicCommand),
    /// Send lines of a file, or of standard input, as records
    Produce(produce::ProduceArgs),
    /// Print records
    Consume(consume::ConsumeArgs),
    /// List, describe, move and delete groups of consumers
    #[command(subcommand, after_help = group::GROUP_HELP)]
    Group(group::GroupCommand),
    /// Delete records from the front of a topic's partitions
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Ask whether the broker is there, and how far away
    #[command(after_help = broker::PING_HELP)]
    Ping(connect::ClientArgs),
    /// Print the broker's counters and latencies, by shard
    #[command(after_help = broker::STATS_HELP)]
    Stats(connect::ClientArgs),
    /// Print a script that completes these commands in a shell
    #[command(
        after_help = "Example:\n  millrace completions bash > ~/.local/share/bash-completion/completions/millrace"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command of these arguments, the first of which is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are asked for, and go to standard output with code 0. There is
            // nobody left to tell if that cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Config(arguments) => configuration::run(&arguments),
        Command::Topic(command) => topic::run(command),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Group(command) => group::run(command),
        Command::Records(command) => records::run(command),
        Command::Ping(arguments) => broker::ping(arguments),
        Command::Stats(arguments) => broker::stats(arguments),
        Command::Completions { shell } => completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "millrace", &mut script);
    output::write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let children: Vec<_> = command.get_subcommands().collect();
            if children.is_empty() {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
                assert!(
                    help.contains(path.trim()),
                    "{path}'s example does not use it"
                );
            }
            for child in children {
                check(child, &path);
            }
        }
        check(&Cli::command(), "");
    }
}
