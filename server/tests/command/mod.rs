//! Runs the program as a user does: arguments, variables and standard input in; output, errors and
//! exit code out.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The program with these arguments, in a clean environment.
pub fn millrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLRACE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a run of the program came to.
pub struct Ran {
    /// Standard output, as it is.
    pub bytes: Vec<u8>,
    /// Standard output as text.
    pub output: String,
    /// Standard error.
    pub errors: String,
    /// The exit code.
    pub code: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }
}

impl Ran {
    /// The same, if the command succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}{}", self.output, self.errors);
        self
    }

    /// The lines of standard output, as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).expect("every line is JSON");
        self.output.lines().map(parse).collect()
    }
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ran {
    command.output().expect("the program starts").into()
}

/// Runs a command to its end with `input` on its standard input.
pub fn run_with_input(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let input = input.to_vec();
    // A command that fails early does not read its input; that is not this function's concern.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("writing does not panic");
    output.into()
}
