//! A broker that this program starts for its runs: pinned, with a data directory of its own, and
//! stopped when it is no longer needed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cpu::{CpuError, pin_current_thread};

/// How long a broker may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What to start, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// The `millrace` program.
    pub program: PathBuf,
    /// A directory in which each broker gets a data directory of its own.
    pub directory: PathBuf,
    /// The CPU that it runs on, with one shard.
    pub cpu: usize,
    /// Configuration keys, as for `--set`.
    pub set: Vec<(String, String)>,
}

/// Why a broker could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The program did not start.
    #[error("{program} could not be started: {error}; name a millrace program with --broker")]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// Its directory could not be made.
    #[error(
        "a data directory in {directory} could not be made: {error}; choose another with --directory"
    )]
    Directory {
        /// Where.
        directory: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It ended, or said nothing, before it was ready.
    #[error("{program} was not ready: {last_line}")]
    NotReady {
        /// The program.
        program: PathBuf,
        /// The last thing that it said.
        last_line: String,
    },
    /// It could not be pinned.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

/// A broker that runs.
pub struct Broker {
    child: Child,
    address: SocketAddr,
    settings: BrokerSettings,
    data: TempDir,
}

impl Broker {
    /// Starts a broker with an empty data directory and waits until it is ready.
    pub fn start(settings: &BrokerSettings) -> Result<Broker, BrokerError> {
        let directory = &settings.directory;
        let data = std::fs::create_dir_all(directory)
            .and_then(|()| {
                tempfile::Builder::new()
                    .prefix("bench-")
                    .tempdir_in(directory)
            })
            .map_err(|error| BrokerError::Directory {
                directory: directory.clone(),
                error,
            })?;
        let (child, address) = spawn(settings, data.path())?;
        Ok(Broker {
            child,
            address,
            settings: settings.clone(),
            data,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that it has used.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        cpu_seconds(self.child.id())
    }

    /// Memory that it holds, bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Stops and starts it with the same data: what it knew is on its disk alone.
    pub fn restart(&mut self) -> Result<(), BrokerError> {
        self.stop();
        (self.child, self.address) = spawn(&self.settings, self.data.path())?;
        Ok(())
    }

    fn stop(&mut self) {
        let terminated = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let patience = Instant::now() + STOP_PATIENCE;
        while matches!(terminated, Some(Ok(()))) && Instant::now() < patience {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        // Gone already, or past waiting for; there is nothing more to be done about either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(settings: &BrokerSettings, data: &Path) -> Result<(Child, SocketAddr), BrokerError> {
    let mut command = Command::new(&settings.program);
    command
        // Ctrl-C in a terminal is meant for the run, which reports what it has and then ends this.
        .process_group(0)
        .args(["serve", "--bind", "127.0.0.1:0", "--shards", "1"])
        .args(["--log-format", "json", "--data-dir"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for (key, value) in &settings.set {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLRACE_") {
            command.env_remove(name);
        }
    }
    // A child runs where the thread that made it runs.
    let cpu = settings.cpu;
    let started = std::thread::spawn(move || {
        pin_current_thread(cpu)?;
        Ok::<_, CpuError>(command.spawn())
    });
    let started = started.join().expect("starting a process does not panic")?;
    let mut child = started.map_err(|error| BrokerError::Start {
        program: settings.program.clone(),
        error,
    })?;
    match wait_until_ready(&mut child) {
        Ok(address) => Ok((child, address)),
        Err(last_line) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(BrokerError::NotReady {
                program: settings.program.clone(),
                last_line,
            })
        }
    }
}

/// Reads the log until it says where the broker listens; the rest of the log is read and forgotten.
fn wait_until_ready(child: &mut Child) -> Result<SocketAddr, String> {
    let log = child.stderr.take().expect("it was asked for");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // Nobody listens any more once the broker was ready.
            let _ = tell.send(line);
        }
    });
    let end = Instant::now() + START_PATIENCE;
    let mut last_line = "it said nothing".to_owned();
    loop {
        match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => match ready_address(&line) {
                Some(address) => return Ok(address),
                None => last_line = line,
            },
            Err(_) => return Err(last_line),
        }
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    if event.get("message")?.as_str()? != "ready" {
        return None;
    }
    event.get("address")?.as_str()?.parse().ok()
}

/// CPU time of a process, in user mode and in the kernel.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Some((user + system) as f64 / ticks_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_found() {
        let line = r#"{"timestamp":"x","message":"ready","address":"127.0.0.1:4711"}"#;
        assert_eq!(ready_address(line), Some(([127, 0, 0, 1], 4711).into()));
        assert_eq!(ready_address("plain text"), None);
        assert_eq!(ready_address(r#"{"message":"other"}"#), None);
    }

    #[test]
    fn the_cpu_time_of_a_process_is_read() {
        assert!(cpu_seconds(std::process::id()).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(cpu_seconds(u32::MAX), None);
    }

    #[test]
    fn a_program_that_is_no_broker_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let settings = |program: &str| BrokerSettings {
            program: program.into(),
            directory: directory.path().to_owned(),
            cpu: crate::cpu::allowed_cpus().unwrap()[0],
            set: Vec::new(),
        };
        let error = |program| match Broker::start(&settings(program)) {
            Ok(_) => panic!("{program} is no broker"),
            Err(error) => error.to_string(),
        };
        assert!(error("/nonexistent/millrace").contains("--broker"));
        assert!(error("true").contains("was not ready: it said nothing"));
    }
}
