//! Flags that say which broker is measured, and on which CPUs.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Failure;
use super::options::key_value;
use crate::broker::BrokerSettings;
use crate::cpu::{CpuPlan, RequestedCpus, allowed_cpus, disk_cpu};
use crate::environment::is_virtual_machine;
use crate::load::Waiting;
use crate::protocol::ProtocolName;
use crate::run::{RunSettings, Target};

/// Which broker, and on which CPUs.
#[derive(Args, Clone, Debug)]
pub struct TargetOptions {
    /// A broker that runs already.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "broker")]
    pub bootstrap: Option<String>,
    /// A millrace program to start for the run, with one shard; without this and without
    /// --bootstrap, the one beside this program.
    #[arg(long, value_name = "PROGRAM")]
    pub broker: Option<PathBuf>,
    /// Where a broker that is started keeps its data, and what `limits` measures.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Configuration of a broker that is started; may be given many times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// CPU of a broker that is started [default: the one that takes the
    /// disk's interrupts, else the first allowed].
    #[arg(long, value_name = "CPU")]
    pub broker_cpu: Option<usize>,
    /// CPU of the load generator [default: another core than the broker's].
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// What the generator does while there is nothing to do [default: spin, but sleep on a virtual
    /// machine: what hosts it may count the spinning and hold the broker back for it].
    #[arg(long, value_enum, value_name = "HOW")]
    pub wait: Option<Wait>,
    /// What is spoken to the broker.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: ProtocolName,
}

/// The values of `--wait`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It asks the kernel again and again: exact to a microsecond.
    Spin,
    /// It sleeps until an answer comes or a request is nearly due: an answer is seen some
    /// microseconds later.
    Sleep,
}

impl TargetOptions {
    /// The CPUs.
    pub fn cpus(&self) -> Result<CpuPlan, Failure> {
        let allowed = allowed_cpus()?;
        let mut requested = RequestedCpus {
            generator: self.cpu,
            broker: self.broker_cpu,
        };
        if requested == RequestedCpus::default() {
            requested.broker = disk_cpu(&self.directory).filter(|cpu| allowed.contains(cpu));
        }
        Ok(CpuPlan::choose(&allowed, requested)?)
    }

    /// What is measured.
    pub fn target(&self) -> Result<Target, Failure> {
        match &self.bootstrap {
            Some(address) => Ok(Target::Address(resolve(address)?)),
            None => self.program(self.broker.clone()),
        }
    }

    /// A program as the target; the one beside this program if none is named.
    pub fn program(&self, program: Option<PathBuf>) -> Result<Target, Failure> {
        let program = match program {
            Some(program) => program,
            None => beside_this_program()?,
        };
        Ok(Target::Program(BrokerSettings {
            program,
            directory: self.directory.clone(),
            cpu: self.cpus()?.broker,
            set: self.set.clone(),
        }))
    }

    /// What was named for a comparison: an address or a program.
    pub fn named_target(&self, name: &str) -> Result<Target, Failure> {
        if std::path::Path::new(name).is_file() {
            return self.program(Some(name.into()));
        }
        match name.contains(':') {
            true => Ok(Target::Address(resolve(name)?)),
            false => Err(Failure::Usage(format!(
                "'{name}' is neither a program nor HOST:PORT; name a millrace program or a broker's address"
            ))),
        }
    }

    fn waiting(&self) -> Waiting {
        match self.wait {
            Some(Wait::Spin) => Waiting::Spin,
            Some(Wait::Sleep) => Waiting::Sleep,
            None if is_virtual_machine() => Waiting::Sleep,
            None => Waiting::Spin,
        }
    }

    /// How it is measured.
    pub fn settings(&self) -> Result<RunSettings, Failure> {
        Ok(RunSettings {
            protocol: self.protocol,
            generator_cpu: Some(self.cpus()?.generator),
            waiting: self.waiting(),
            stages: false,
        })
    }
}

fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let found = address.to_socket_addrs().map(|mut found| found.next());
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Failure::Usage(format!("'{address}' has no address"))),
        Err(error) => Err(Failure::Usage(format!(
            "'{address}' is no broker's address: {error}; it looks like localhost:9092"
        ))),
    }
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().ok();
    let beside = here.as_deref().and_then(std::path::Path::parent);
    let program = beside.map(|directory| directory.join("millrace"));
    program.filter(|program| program.is_file()).ok_or_else(|| {
        Failure::Usage(
            "there is no millrace program beside this one; name one with --broker, or a running broker with --bootstrap"
                .to_owned(),
        )
    })
}
