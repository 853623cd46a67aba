//! What all client commands share: how they find the broker and how they run.

use std::future::Future;

use clap::Args;
use millrace_client::{Client, ClientConfig, ClientError};

use super::Failure;
use super::output::Output;

/// Arguments of every client command.
#[derive(Args, Clone, Debug)]
pub(super) struct ClientArgs {
    /// Addresses to find the broker at, the first that answers is taken
    #[arg(
        long,
        value_name = "HOST:PORT[,…]",
        default_value = "127.0.0.1:9092",
        env = "MILLRACE_BOOTSTRAP",
        value_delimiter = ',',
        value_parser = address
    )]
    bootstrap: Vec<String>,
    /// How to print results
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

fn address(text: &str) -> Result<String, String> {
    let wrong = |what: &str| format!("{what}; write HOST:PORT, such as 127.0.0.1:9092");
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(format!(
            "leave '{scheme}://' out; write HOST:PORT, such as {rest}"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong("there is no port in it"));
    };
    if host.is_empty() {
        return Err(wrong("there is no host in it"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address is written in brackets, such as [::1]:9092".into());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(wrong(&format!("'{port}' is not a port"))),
    }
}

impl ClientArgs {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let config = ClientConfig {
            client_id: "millrace-cli".into(),
            ..ClientConfig::new(self.bootstrap.iter().cloned())
        };
        Ok(Client::connect(config).await?)
    }
}

/// Runs a client command. Two threads: one may wait for a slow terminal or a slow disk while the
/// other keeps the connections going.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the client's threads: {error}")))?;
    let outcome = runtime.block_on(command);
    // A read of standard input may still wait for a line that never comes.
    runtime.shutdown_background();
    outcome
}

/// Turns "no such topic" into an answer: the name that may have been meant, or how to create it.
pub(super) async fn explain(client: &Client, topic: &str, error: ClientError) -> Failure {
    let missing = error.code() == Some(millrace_client::ErrorCode::UnknownTopicOrPartition)
        && !matches!(error, ClientError::UnknownPartition { .. });
    if !missing {
        return error.into();
    }
    let topics = client.admin().list_topics().await.unwrap_or_default();
    if topics.iter().any(|listed| listed.name == topic) {
        return error.into();
    }
    let nearest = topics
        .iter()
        .map(|listed| {
            (
                strsim::normalized_damerau_levenshtein(topic, &listed.name),
                &listed.name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = match nearest {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None => format!(
            "`millrace topic list` shows those there are, `millrace topic create {topic}` makes it"
        ),
    };
    Failure::Failed(format!("there is no topic '{topic}'; {advice}"))
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers the signals end the process as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_tried() {
        for good in ["127.0.0.1:9092", "broker.example:1", "[::1]:9092"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for (bad, part) in [
            ("localhost", "no port"),
            (":9092", "no host"),
            ("::1:9092", "in brackets"),
            ("a:0", "'0' is not a port"),
            ("a:http", "'http' is not a port"),
        ] {
            assert!(address(bad).unwrap_err().contains(part), "{bad}");
        }
    }
}
