//! `millrace serve`, and the flags that it shares with `millrace config`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::config::{self, Inputs, Resolved};
use crate::logging::LogFormat;

const SERVE_HELP: &str = "\
Examples:
  millrace serve
  millrace serve --data-dir /var/lib/millrace --bind 127.0.0.1:9092
  millrace serve --config millrace.yaml --set journal.file_bytes=128MiB

Every key can also be set by a variable, such as MILLRACE_JOURNAL_FILE_BYTES for
journal.file_bytes. A flag wins over a variable, a variable over the file.
`millrace config` lists all keys with their values and where these came from.

Peers that are not on this machine are refused unless --allow-anonymous-remote is given,
because there is no authentication yet.";

#[derive(Args)]
#[command(after_help = SERVE_HELP)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: SettingArgs,
}

/// Flags that set the broker's configuration.
#[derive(Args)]
pub(super) struct SettingArgs {
    /// Configuration file, in YAML
    #[arg(short, long, value_name = "FILE", env = "MILLRACE_CONFIG")]
    config: Option<PathBuf>,
    /// Directory that holds everything stored [default: ./data]
    #[arg(short, long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address and port to listen on [default: 0.0.0.0:9092]
    #[arg(short, long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Number of shards, each a pinned thread [default: one for each CPU]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Serve peers that are not on this machine although there is no authentication
    #[arg(long)]
    allow_anonymous_remote: bool,
    /// Least severe level that is logged [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How events are logged: auto, text or json [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Set any key; may be given many times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

/// Splits `key=value`.
pub(super) fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

impl SettingArgs {
    /// Decides what is in force.
    pub(super) fn resolve(&self) -> Result<Resolved, Failure> {
        let mut flags = Vec::new();
        for (flag, key, value) in [
            ("--data-dir", "data_dir", self.data_dir.clone()),
            ("--bind", "bind", self.bind.clone()),
            ("--shards", "shards", self.shards.clone()),
            (
                "--allow-anonymous-remote",
                "allow_anonymous_remote",
                self.allow_anonymous_remote.then(|| "true".into()),
            ),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.clone()),
        ] {
            flags.extend(value.map(|value| (flag.to_owned(), key.to_owned(), value)));
        }
        flags.extend(
            self.set
                .iter()
                .map(|(key, value)| ("--set".to_owned(), key.clone(), value.clone())),
        );
        let inputs = Inputs {
            file: self.config.clone(),
            variables: Inputs::environment()?,
            flags,
        };
        Ok(config::resolve(&inputs)?)
    }
}

pub(super) fn run(arguments: &ServeArgs) -> Result<(), Failure> {
    let resolved = arguments.settings.resolve()?;
    let config = &resolved.config;
    let logging = crate::logging::start(&config.log.level, config.log.format);
    let served = crate::serve::run(&resolved);
    // Events that wait to be written come before what ended it all.
    drop(logging);
    served.map_err(|error| failed(&error.to_string(), config.log.format))
}

/// What ended the broker, in the form of its log, and whatever `log.level` hides.
fn failed(message: &str, format: LogFormat) -> Failure {
    match format {
        LogFormat::Auto | LogFormat::Text => Failure::Failed(message.to_owned()),
        LogFormat::Json => {
            let timestamp = jiff::Timestamp::now().to_string();
            let event = json!({"timestamp": timestamp, "level": "ERROR", "message": message});
            eprintln!("{event}");
            Failure::Told
        }
    }
}
