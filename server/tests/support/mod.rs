//! A real broker process for a test: started on a port of its own, killed or stopped at will, and
//! never left behind.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use millrace_client::{Client, ClientConfig};

/// How long a broker may take to be ready before a test gives up on it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running `millrace serve`. Dropping it kills it.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: String,
    /// From the start of the process to the line that says it is ready.
    pub started_in: Duration,
}

impl Broker {
    /// Starts a broker on `data` with more arguments, and waits until it is ready. The address is
    /// `127.0.0.1:0` at first; give the old one to a restart.
    pub fn start(data: &Path, address: &str, arguments: &[&str]) -> Broker {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["serve", "--bind", address, "--data-dir"])
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker's program starts");
        let log = child.stderr.take().expect("stderr is a pipe");
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut before = String::new();
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some(address) = ready_address(&line) {
                    let _ = sender.send(Ok(address));
                } else if before.len() < 16 << 10 {
                    before.push_str(&line);
                    before.push('\n');
                }
                if std::env::var_os("MILLRACE_TEST_SHOW_LOG").is_some() {
                    eprintln!("broker: {line}");
                }
            }
            let _ = sender.send(Err(before));
        });
        match ready.recv_timeout(READY_WITHIN) {
            Ok(Ok(address)) => Broker { child, address, started_in: begun.elapsed() },
            Ok(Err(log)) => panic!("the broker ended before it was ready:\n{log}"),
            Err(_) => {
                let _ = child.kill();
                panic!("the broker was not ready within {READY_WITHIN:?}");
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.child.kill().expect("the broker is there to be killed");
        self.child.wait().expect("a killed process ends");
    }

    /// SIGTERM, and its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the broker is there to be stopped");
        self.child.wait().expect("a stopped process ends").code()
    }

    /// A client of it.
    pub async fn client(&self) -> Client {
        Client::connect(ClientConfig::new([self.address.clone()]))
            .await
            .expect("the broker answers")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that says that the broker is ready.
fn ready_address(line: &str) -> Option<String> {
    if !line.contains("ready") {
        return None;
    }
    let rest = &line[line.find("address=")? + "address=".len()..];
    Some(rest.split_whitespace().next()?.to_owned())
}

/// An empty data directory, removed when the value goes.
pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::Builder::new()
        .prefix("millrace-test-")
        .tempdir()
        .expect("a temporary directory can be made");
    let data = directory.path().join("data");
    (directory, data)
}

/// A number from the environment, for tests whose size is a choice.
pub fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")),
        Err(_) => default,
    }
}

/// A small generator for tests that need many cheap, repeatable draws (splitmix64).
pub struct Draws(pub u64);

impl Draws {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
