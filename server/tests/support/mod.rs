//! What tests with the client library share.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::path::PathBuf;

use millrace_client::{Client, ClientConfig};

use crate::process::Broker;

/// The journal as it is without any configuration, where tests of sockets make it small.
pub const DEFAULT_JOURNAL: [&str; 2] = ["--set", "journal.file_bytes=auto"];

/// A client of a broker.
pub async fn client(broker: &Broker) -> Client {
    Client::connect(ClientConfig::new([broker.address.to_string()]))
        .await
        .expect("the broker answers")
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
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")),
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
