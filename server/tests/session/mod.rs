//! A broker, and the program as its client: for tests of the command line.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use super::command::{Ran, millrace, run, run_with_input};
use super::process::Broker;

/// A broker, and the program as its client.
pub struct Session {
    pub broker: Broker,
    _directory: tempfile::TempDir,
}

impl Session {
    pub fn start() -> Session {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = Broker::start(&directory.path().join("data"), &["--shards", "2"]);
        Session {
            broker,
            _directory: directory,
        }
    }

    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = millrace(arguments);
        command.env("MILLRACE_BOOTSTRAP", self.broker.address.to_string());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments))
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        run_with_input(self.command(arguments), input)
    }

    #[track_caller]
    pub fn create(&self, topic: &str, partitions: &str) {
        self.run(&["topic", "create", topic, "--partitions", partitions])
            .succeeded();
    }
}
