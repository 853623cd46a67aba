//! `millrace config`: what is in force, and why.

use clap::Args;
use millrace_shard::runtime::affinity::allowed_cpus;
use serde_json::json;

use super::Failure;
use super::output::{self, Output, Table};
use super::serve::SettingArgs;
use crate::config::{self, AutomaticSizes, Config, Machine, Resolved, Setting};

const CONFIG_HELP: &str = "\
Examples:
  millrace config
  millrace config journal.file_bytes
  millrace config --config millrace.yaml --output json

Takes the flags of `serve`, reads the same variables and file, and prints what `serve` would
run with. With the name of a key, tells what that key does.";

#[derive(Args)]
#[command(after_help = CONFIG_HELP)]
pub(super) struct ConfigArgs {
    /// Tell about these keys only, in full
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    settings: SettingArgs,
    /// How to print results
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &ConfigArgs) -> Result<(), Failure> {
    let resolved = arguments.settings.resolve()?;
    let sizes = machine(&resolved.config).map(|machine| resolved.config.automatic_sizes(machine));
    let chosen = choose(&resolved, &arguments.keys)?;
    match arguments.output {
        Output::Json => output::write_json(chosen.into_iter().map(|setting| {
            let mut object = json!({
                "key": setting.key.name,
                "value": setting.json,
                "source": setting.source.to_string(),
                "default": setting.key.default,
                "variable": setting.key.variable(),
                "doc": setting.key.doc,
            });
            if let Some(bytes) = automatic(setting, sizes) {
                object["in_force"] = bytes.into();
            }
            object
        })),
        Output::Table if arguments.keys.is_empty() => {
            let mut table = Table::new(["KEY", "VALUE", "SOURCE"]);
            for setting in chosen {
                let value = shown(setting, sizes);
                table.row([
                    setting.key.name.to_string(),
                    value,
                    setting.source.to_string(),
                ]);
            }
            table.print()
        }
        Output::Table => {
            let told: Vec<String> = chosen.iter().map(|setting| tell(setting, sizes)).collect();
            output::write_all(told.join("\n").as_bytes())
        }
    }
}

fn choose<'a>(resolved: &'a Resolved, names: &[String]) -> Result<Vec<&'a Setting>, Failure> {
    if names.is_empty() {
        return Ok(resolved.settings.iter().collect());
    }
    let find = |name: &String| {
        let found = resolved
            .settings
            .iter()
            .find(|setting| setting.key.name == *name);
        found.ok_or_else(|| {
            let suggestion = config::suggestion(name, config::keys().iter().map(|key| &*key.name));
            Failure::Usage(format!("there is no key `{name}`; {suggestion}"))
        })
    };
    names.iter().map(find).collect()
}

/// This machine, as a broker with this configuration would find it.
fn machine(config: &Config) -> Option<Machine> {
    let shards = match config.shards {
        Some(shards) => shards as usize,
        None => allowed_cpus().ok()?.len(),
    };
    Machine::of(&config.data_dir, u16::try_from(shards).ok()?).ok()
}

/// What `auto` comes to here, for the sizes that depend on the machine.
fn automatic(setting: &Setting, sizes: Option<AutomaticSizes>) -> Option<u64> {
    let sizes = sizes.filter(|_| setting.json == "auto")?;
    match &*setting.key.name {
        "journal.file_bytes" => Some(sizes.journal_file_bytes),
        "storage.disk_reserve_bytes" => Some(sizes.disk_reserve_bytes),
        "storage.unwritten_bytes" => Some(sizes.unwritten_bytes),
        _ => None,
    }
}

fn shown(setting: &Setting, sizes: Option<AutomaticSizes>) -> String {
    match automatic(setting, sizes) {
        Some(bytes) => format!("auto ({})", bytesize::ByteSize(bytes)),
        None => setting.shown.clone(),
    }
}

fn tell(setting: &Setting, sizes: Option<AutomaticSizes>) -> String {
    let key = setting.key;
    let limits = key
        .limits
        .map(|limits| format!("  limits    {} to {}\n", limits.least, limits.most))
        .unwrap_or_default();
    format!(
        "{}\n  {}\n  value     {}\n  source    {}\n  default   {}\n{limits}  variable  {}\n",
        key.name,
        key.doc,
        shown(setting, sizes),
        setting.source,
        key.default,
        key.variable(),
    )
}
