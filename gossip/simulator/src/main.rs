//! `simulate-gossip`: runs seeds.

use std::process::ExitCode;

use gossip_simulator::GossipSimulator;

fn main() -> ExitCode {
    simulation::cli::main(&GossipSimulator::default())
}
