//! `millrace serve`: from a configuration to a broker that runs, and down again.
//!
//! Start-up, in this order: ask the kernel whether it lets us work; take the data directory (lock
//! and identity); see that the address is free; if the number of shards changed, hand the journals
//! over; start one executor for each shard; every shard recovers its storage; shard 0 replays the
//! controller's log and has every shard host what it should; only then do the listeners open.
//!
//! This runs on the main thread, which then only waits for the shards to end. The first SIGTERM or
//! SIGINT drains: nothing new is accepted, waiting fetches are answered, what is under way is
//! finished, the journals are closed. A second one ends the process at once.

mod descriptors;
mod settings;
mod shard;
mod signals;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use millrace_shard::directory::{DataDirectory, DirectoryError, Identity};
use millrace_shard::error::StorageError;
use millrace_shard::journal::JournalConfig;
use millrace_shard::mesh;
use millrace_shard::relayout::{journal_directory, relayout};
use millrace_shard::runtime::affinity::{AffinityError, Cpu, allowed_cpus, choose_cpus};
use millrace_shard::runtime::executor::{ExecutorSettings, ShardError, ShardPlace, ShardThread};
use millrace_shard::runtime::probe::{ProbeError, probe};
use millrace_shard::runtime::watchdog::{DEFAULT_PERIOD, Watchdog};
use millrace_shard::shard::ShardConfig;
use millrace_wire::error::WireError;
use millrace_wire::ids::ShardId;

use crate::broker::{BrokerLimits, NodeIdentity, owner};
use crate::config::{AutomaticSizes, Config, Machine, Resolved, Setting};
use crate::controller::driver::ControllerError;
use crate::controller::state::Rules;
use crate::coordinator::group::GroupRules;
use crate::coordinator::settings::GroupSettings;
use crate::kafka::KafkaSettings;
use crate::listen::{BindError, Door, ListenSettings, Speaks, bind};
use crate::session::SessionLimits;
use descriptors::{Share, TooFewDescriptors};
use shard::Setup;
use signals::StopSignal;

/// Most partitions of a shard; the node's limit is this times its shards.
const PARTITIONS_PER_SHARD: u32 = 10_000;

/// Most bytes of one fetch, whatever the client asks for.
const FETCH_BYTES: usize = 32 * 1024 * 1024;

/// Bytes between two places in a segment's index.
const INDEX_INTERVAL_BYTES: u32 = 4096;

/// How often free disk space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Why the broker did not start, or stopped. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel does not let us work.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The CPUs do not suffice.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// More shards than a node can have.
    #[error("{0} shards are more than a node can have; ask for fewer with --shards")]
    TooManyShards(usize),
    /// The process may not open enough files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The address cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An executor did not start.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Storage cannot be recovered.
    #[error("shard {shard} cannot open its storage: {error}")]
    Storage {
        /// Which shard.
        shard: ShardId,
        /// Why.
        error: StorageError,
    },
    /// The journals could not be handed to another number of shards.
    #[error("the journals of the last run cannot be handed to {shards} shards: {error}")]
    Relayout {
        /// How many there are now.
        shards: u16,
        /// Why.
        error: StorageError,
    },
    /// The list of topics cannot be used.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// A shard cannot listen.
    #[error("shard {shard} cannot accept connections: {error}")]
    Open {
        /// Which shard.
        shard: ShardId,
        /// Why.
        error: WireError,
    },
    /// The system refused something that is never refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> ServeError {
    move |source| ServeError::System { what, source }
}

/// Runs the broker until it is told to stop.
pub fn run(resolved: &Resolved) -> Result<(), ServeError> {
    let config = &resolved.config;
    let began = Instant::now();
    let stop = Arc::new(StopSignal::default());
    signals::listen(Arc::clone(&stop)).map_err(system("listen for signals"))?;
    let open_files = descriptors::raise();
    let cpus = choose_cpus(wanted_shards(config)?)?;
    let shards = u16::try_from(cpus.len()).map_err(|_| ServeError::TooManyShards(cpus.len()))?;
    let wanted = Share {
        files: config.storage.open_files_max,
        connections: config.network.max_connections,
    };
    let share = descriptors::share(open_files, shards, wanted)?;
    let executor = ExecutorSettings::default();
    if let Some(warning) = probe(shards, executor.io_memory_bytes)?.warning {
        tracing::warn!("{warning}");
    }
    let mut directory = DataDirectory::open(&config.data_dir, uuid::Uuid::new_v4().as_u128())?;
    keep_name(directory.path()).map_err(system("make the data directory durable"))?;
    let (addresses, doors) = Addresses::bind(config, shards)?;
    let machine = Machine::of(directory.path(), shards);
    let machine = machine.map_err(system("measure the file system"))?;
    let node = Arc::new(Node {
        config: config.clone(),
        settings: resolved.settings.clone(),
        sizes: config.automatic_sizes(machine),
        identity: directory.identity(),
        data_directory: std::path::absolute(directory.path())
            .map_err(system("find the data directory"))?,
        shards,
        share,
        fewer_than_wanted: share != wanted,
        addresses,
        began,
    });
    let places = node.places(&cpus)?;
    node.lay_out(&places[0], &executor)?;
    directory.set_shards(shards)?;
    node.run_shards(places, doors, &executor, &stop)?;
    tracing::info!(uptime_s = began.elapsed().as_secs(), "stopped");
    Ok(())
}

/// Makes the names durable under which the data directory is found, in case it was just made: what
/// is written below a name that a power loss takes away is lost with it.
fn keep_name(directory: &Path) -> std::io::Result<()> {
    for parent in std::path::absolute(directory)?.ancestors().skip(1) {
        match std::fs::File::open(parent) {
            Ok(parent) => parent.sync_all()?,
            // A directory that we may not even look into was not made by us.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wanted_shards(config: &Config) -> Result<Option<NonZeroU16>, ServeError> {
    let Some(wanted) = config.shards else {
        return Ok(None);
    };
    let too_many = || ServeError::TooManyShards(wanted as usize);
    Ok(NonZeroU16::new(
        u16::try_from(wanted).map_err(|_| too_many())?,
    ))
}

/// Where the node listens.
struct Addresses {
    /// Where the native protocol is spoken, and Kafka's too unless that has its own.
    native: SocketAddr,
    /// Where Kafka's protocol is spoken.
    kafka: SocketAddr,
}

impl Addresses {
    /// Binds what is configured: for each shard, the doors that it will open.
    fn bind(config: &Config, shards: u16) -> Result<(Addresses, Vec<Vec<Door>>), BindError> {
        let (native, sockets) = bind(config.bind, "bind (--bind)", shards)?;
        let on_both = if config.kafka.bind.is_some() {
            Speaks::Native
        } else {
            Speaks::Both
        };
        let mut doors: Vec<Vec<Door>> = sockets
            .into_iter()
            .map(|socket| vec![(socket, on_both)])
            .collect();
        let mut kafka = native;
        if let Some(own) = config.kafka.bind {
            let (address, sockets) = bind(own, "kafka.bind", shards)?;
            kafka = address;
            for (doors, socket) in doors.iter_mut().zip(sockets) {
                doors.push((socket, Speaks::Kafka));
            }
        }
        Ok((Addresses { native, kafka }, doors))
    }
}

/// One run of one node: what was decided before the shards start.
struct Node {
    config: Config,
    settings: Vec<Setting>,
    sizes: AutomaticSizes,
    identity: Identity,
    data_directory: PathBuf,
    shards: u16,
    share: Share,
    /// The limit of open files allows less than was configured.
    fewer_than_wanted: bool,
    addresses: Addresses,
    began: Instant,
}

impl Node {
    fn places(&self, cpus: &[Cpu]) -> Result<Vec<ShardPlace>, ServeError> {
        let allowed = allowed_cpus()?;
        let place = |(shard, cpu): (u16, &Cpu)| ShardPlace {
            shard: ShardId(shard),
            cpu: *cpu,
            allowed_cpus: allowed.clone(),
            directory: self.data_directory.clone(),
        };
        Ok((0..).zip(cpus).map(place).collect())
    }

    /// Hands the journals of the last run to the shards of this one, if their number changed, and
    /// finishes what a crash in the middle of that left.
    fn lay_out(
        self: &Arc<Self>,
        place: &ShardPlace,
        executor: &ExecutorSettings,
    ) -> Result<(), ServeError> {
        let node = Arc::clone(self);
        let (before, after) = (self.identity.shards, self.shards);
        let work = move |env| async move {
            let template = node.journal(ShardId(0));
            let owner = |partition| owner(partition, after);
            relayout(&env, &node.data_directory, &template, after, owner).await
        };
        let thread = ShardThread::start(place.clone(), executor, work)?;
        // This executor, too, may fall asleep over work: without a watchdog the start would hang.
        let watchdog = Watchdog::start(vec![thread.pulse()], DEFAULT_PERIOD)
            .map_err(system("start a thread"))?;
        let done = thread.join()?;
        drop(watchdog);
        let done = done.map_err(|error| ServeError::Relayout {
            shards: after,
            error,
        })?;
        if done.journals > 0 {
            let (partitions, batches) = (done.partitions, done.batches);
            tracing::info!(
                before,
                after,
                partitions,
                batches,
                "handed the journals to another number of shards"
            );
        }
        Ok(())
    }

    /// Starts the shards and waits for all of them to end, or the first to fail.
    fn run_shards(
        self: &Arc<Self>,
        places: Vec<ShardPlace>,
        doors: Vec<Vec<Door>>,
        executor: &ExecutorSettings,
        stop: &Arc<StopSignal>,
    ) -> Result<(), ServeError> {
        let (ended, ends) = mpsc::channel();
        let mut pulses = Vec::new();
        let ports = mesh::ports(self.shards);
        for ((place, doors), port) in places.into_iter().zip(doors).zip(ports) {
            let shard = place.shard;
            let (node, stop) = (Arc::clone(self), Arc::clone(stop));
            let setup = Setup {
                shard,
                node,
                port,
                doors,
                stop,
            };
            let thread = ShardThread::start(place, executor, move |env| shard::run(env, setup))?;
            pulses.push(thread.pulse());
            let ended = ended.clone();
            let join = move || {
                // Nobody listens any more once another shard has failed.
                let _ = ended.send(thread.join());
            };
            let joiner = std::thread::Builder::new().name("join".into());
            joiner.spawn(join).map_err(system("start a thread"))?;
        }
        drop(ended);
        let watchdog = Watchdog::start(pulses, DEFAULT_PERIOD).map_err(system("start a thread"))?;
        for end in ends {
            // The other shards wait for the one that failed; they end with the process.
            end??;
        }
        drop(watchdog);
        Ok(())
    }

    fn journal(&self, shard: ShardId) -> JournalConfig {
        let journal = &self.config.journal;
        let defaults = JournalConfig::new(journal_directory(&self.data_directory, shard));
        JournalConfig {
            file_bytes: self.sizes.journal_file_bytes,
            initial_files: defaults.initial_files.min(journal.max_files),
            max_files: journal.max_files,
            linger: journal.linger_us,
            max_group_bytes: usize::try_from(journal.max_group_bytes).unwrap_or(usize::MAX),
            max_group_writes: journal.max_group_writes,
            ..defaults
        }
    }

    fn shard_config(&self, shard: ShardId) -> ShardConfig {
        let storage = &self.config.storage;
        ShardConfig {
            shard,
            shard_count: self.shards,
            data_directory: self.data_directory.clone(),
            journal: self.journal(shard),
            cache_bytes: self.config.cache.bytes,
            unwritten_bytes: self.sizes.unwritten_bytes,
            disk_reserve_bytes: self.sizes.disk_reserve_bytes,
            flush_bytes: storage.flush_bytes,
            index_interval_bytes: INDEX_INTERVAL_BYTES,
            open_files_max: self.share.files as usize,
            producer_expiration: self.config.producers.expiration_ms,
            housekeeping_interval: storage.housekeeping_interval_ms,
            space_interval: SPACE_INTERVAL,
        }
    }

    fn identity(&self) -> NodeIdentity {
        NodeIdentity {
            cluster_id: self.identity.cluster,
            node_id: self.identity.node.0,
            boot_epoch: self.identity.boot_epoch.0,
            shard_count: self.shards,
            port: self.addresses.native.port(),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            defaults: self.config.topic_defaults.clone(),
            default_partitions: self.config.topic.default_partitions,
            max_partitions: PARTITIONS_PER_SHARD * u32::from(self.shards),
        }
    }

    fn limits(&self) -> BrokerLimits {
        BrokerLimits {
            response_bytes: self.config.network.buffer_bytes,
            fetch_bytes: FETCH_BYTES,
            groups: self.groups(),
        }
    }

    fn groups(&self) -> GroupSettings {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let groups = &self.config.groups;
        GroupSettings {
            partitions: groups.partitions,
            native_initial_delay_ms: millis(groups.native_initial_rebalance_delay_ms),
            rules: GroupRules {
                min_session_timeout_ms: millis(groups.min_session_timeout_ms),
                max_session_timeout_ms: millis(groups.max_session_timeout_ms),
                max_size: groups.max_size as usize,
                offsets_retention: groups.offsets_retention_ms,
                offset_metadata_max_bytes: groups.offset_metadata_max_bytes as usize,
            },
            expiration_interval: groups.offsets_retention_check_interval_ms,
        }
    }

    fn listen_settings(&self) -> ListenSettings {
        let network = &self.config.network;
        ListenSettings {
            allow_anonymous_remote: self.config.allow_anonymous_remote,
            max_connections: self.share.connections,
            max_half_open: network.max_half_open,
            handshake_timeout: network.handshake_timeout_ms,
            frame_timeout: network.frame_timeout_ms,
            session: SessionLimits {
                max_frame_bytes: u32::try_from(network.max_frame_bytes).unwrap_or(u32::MAX),
                max_in_flight: network.max_in_flight,
            },
            request_bytes: network.buffer_bytes,
            kafka: Rc::new(self.kafka_settings()),
        }
    }

    fn kafka_settings(&self) -> KafkaSettings {
        let kafka = &self.config.kafka;
        let delay = self.config.groups.initial_rebalance_delay_ms;
        KafkaSettings {
            host: kafka.advertised_host.clone(),
            port: self.advertised_port(),
            auto_create_topics: kafka.auto_create_topics,
            initial_rebalance_delay_ms: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX),
            broker: self.broker_settings(),
        }
    }

    fn advertised_port(&self) -> u16 {
        let configured = self.config.kafka.advertised_port;
        let configured = configured.and_then(|port| u16::try_from(port).ok());
        configured.unwrap_or(self.addresses.kafka.port())
    }

    /// The one line that says that the broker is ready.
    fn announce(&self, (topics, partitions): &(usize, u64)) {
        tracing::info!(
            address = %self.addresses.native,
            kafka = %self.addresses.kafka,
            shards = self.shards,
            data_dir = %self.data_directory.display(),
            topics,
            partitions,
            start_ms = self.began.elapsed().as_millis() as u64,
            "ready"
        );
        if self.fewer_than_wanted {
            self.share.tell();
        }
        let remote = |address: SocketAddr| !address.ip().is_loopback();
        let reachable = remote(self.addresses.native) || remote(self.addresses.kafka);
        if reachable && !self.config.allow_anonymous_remote {
            tracing::info!(
                "there is no authentication yet: only peers on this machine are served (see --allow-anonymous-remote)"
            );
        }
    }
}
