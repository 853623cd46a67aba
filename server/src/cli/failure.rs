//! How a command can end other than well, and the exit code of each.

use std::io;
use std::process::ExitCode;

use millrace_client::ClientError;

use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong. Exit code 2.
    Usage(String),
    /// The broker refused, or something failed. Exit code 1.
    Failed(String),
    /// The broker cannot be reached, or stopped answering. Exit code 3.
    Unreachable(String),
    /// As `Failed`, and already told in another form. Exit code 1.
    Told,
    /// The user interrupted. Exit code 130, as a shell has it for SIGINT.
    Interrupted(String),
    /// Nobody reads standard output any more, which is how `head` ends a pipe. Exit code 0.
    OutputClosed,
}

impl Failure {
    /// Says so on standard error and gives the exit code.
    #[must_use]
    pub fn report(self) -> ExitCode {
        let (message, code) = match self {
            Failure::Usage(message) => (message, 2),
            Failure::Failed(message) => (message, 1),
            Failure::Unreachable(message) => (message, 3),
            Failure::Interrupted(message) => (message, 130),
            Failure::Told => return ExitCode::from(1),
            Failure::OutputClosed => return ExitCode::SUCCESS,
        };
        eprintln!("error: {message}");
        ExitCode::from(code)
    }

    /// The same failure, told with something before it.
    #[must_use]
    pub fn within(self, context: impl FnOnce() -> String) -> Failure {
        match self {
            Failure::Usage(message) => Failure::Usage(format!("{}: {message}", context())),
            Failure::Failed(message) => Failure::Failed(format!("{}: {message}", context())),
            Failure::Unreachable(message) => {
                Failure::Unreachable(format!("{}: {message}", context()))
            }
            Failure::Interrupted(message) => {
                Failure::Interrupted(format!("{}: {message}", context()))
            }
            Failure::Told | Failure::OutputClosed => self,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Connect { .. }
            | ClientError::ConnectionLost { .. }
            | ClientError::Protocol { .. }
            | ClientError::TimedOut { .. } => Failure::Unreachable(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

/// Failures to write what was asked for.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::OutputClosed
        } else {
            Failure::Failed(format!("cannot write to standard output: {error}"))
        }
    }
}
