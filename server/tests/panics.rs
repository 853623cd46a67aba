//! A bug in the broker that panics ends the request and the connection that met it, is counted, and
//! nothing else. The bug is in how this shard reaches another one: there is no other, and asking it
//! for some things panics. Sockets, sessions and storage are the real ones.

mod process;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_server::broker::calls::{Call, Local, Peers, Reply};
use millrace_server::broker::{Broker, BrokerLimits, NodeIdentity};
use millrace_server::controller::driver::Controller;
use millrace_server::controller::state::Rules;
use millrace_server::kafka::KafkaSettings;
use millrace_server::listen::{ListenSettings, Listener, Speaks, bind};
use millrace_server::session::SessionLimits;
use millrace_server::topic_config::TopicConfig;
use millrace_shard::env::Env;
use millrace_shard::env::glommio::GlommioEnv;
use millrace_shard::journal::JournalConfig;
use millrace_shard::runtime::affinity::{allowed_cpus, choose_cpus};
use millrace_shard::runtime::executor::{ExecutorSettings, ShardPlace, ShardThread};
use millrace_shard::runtime::watchdog::{DEFAULT_PERIOD, Watchdog};
use millrace_shard::shard::{Shard, ShardConfig};
use millrace_wire::error::WireError;
use millrace_wire::ids::ShardId;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use process::{Client, batch, produce_request};
use socket2::Socket;

const SOON: Duration = Duration::from_secs(5);
/// Enough that both shards own some.
const PARTITIONS: u32 = 8;

/// The way to a shard that is not there.
struct Planted {
    stats_asked: Cell<u32>,
}

impl Peers for Planted {
    fn send(&self, _: ShardId, call: Call) -> Local<Result<Local<Reply>, WireError>> {
        let reply = match call {
            Call::Append(_) => panic!("planted: an append panics before it has its place"),
            Call::Stats if self.stats_asked.replace(1) == 0 => panic!("planted: a request panics"),
            Call::Stats => Reply::Stats(ShardStats::default()),
            _ => Reply::Done,
        };
        Box::pin(async move { Ok(Box::pin(async move { reply }) as Local<Reply>) })
    }
}

/// One shard of two, with its sockets, until it is dropped.
struct HalfANode {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<ShardThread<()>>,
    _watchdog: Watchdog,
}

impl HalfANode {
    fn start(data: &Path) -> HalfANode {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (address, mut sockets) = bind(any, "bind", 1).expect("a free port");
        let socket = sockets.pop().expect("one");
        let stop = Arc::new(AtomicBool::new(false));
        let place = ShardPlace {
            shard: ShardId(0),
            cpu: choose_cpus(None).expect("there is a CPU")[0],
            allowed_cpus: allowed_cpus().expect("there are CPUs"),
            directory: data.to_owned(),
        };
        let (data, stopped) = (data.to_owned(), Arc::clone(&stop));
        let main = move |env| serve(env, data, socket, address.port(), stopped);
        let settings = ExecutorSettings::default();
        let thread = ShardThread::start(place, &settings, main).expect("starts");
        let watchdog = Watchdog::start(vec![thread.pulse()], DEFAULT_PERIOD).expect("starts");
        HalfANode {
            address,
            stop,
            thread: Some(thread),
            _watchdog: watchdog,
        }
    }

    /// A connection past its handshake; the first waits until the shard listens.
    fn enter(&self) -> Client {
        let began = std::time::Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            assert!(began.elapsed() < SOON, "nobody listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut client = Client::connect(self.address);
        assert_eq!(client.handshake(None).status, Status::ok());
        client
    }
}

impl Drop for HalfANode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(ShardThread::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the shard itself is well");
        }
    }
}

async fn serve(env: GlommioEnv, data: PathBuf, socket: Socket, port: u16, stop: Arc<AtomicBool>) {
    let storage = Shard::open(env.clone(), shard_config(data.clone()))
        .await
        .expect("opens");
    let rules = Rules {
        defaults: TopicConfig::default(),
        default_partitions: 1,
        max_partitions: 100,
    };
    let identity = NodeIdentity {
        cluster_id: 1,
        node_id: 0,
        boot_epoch: 1,
        shard_count: 2,
        port,
    };
    let limits = BrokerLimits {
        response_bytes: 8 << 20,
        fetch_bytes: 4 << 20,
        groups: Default::default(),
    };
    let planted = Rc::new(Planted {
        stats_asked: Cell::new(0),
    });
    let broker = Broker::new(
        env.clone(),
        ShardId(0),
        identity,
        Rc::clone(&storage),
        planted,
        &rules,
        limits,
    );
    let doors = vec![(socket, Speaks::Both)];
    let listener = Listener::new(
        Rc::clone(&broker),
        env.ring().clone(),
        doors,
        listen_settings(),
    );
    let _controller = Controller::start(&broker, rules, &data)
        .await
        .expect("starts");
    for (_, opened) in broker.everywhere(|| Call::Open).await {
        opened.expect("listens");
    }
    while !stop.load(Ordering::Acquire) {
        env.sleep(Duration::from_millis(5)).await;
    }
    broker.drain().await;
    listener.finish(Duration::from_millis(100)).await;
    storage.shutdown().await;
}

fn shard_config(data_directory: PathBuf) -> ShardConfig {
    let journal = JournalConfig {
        file_bytes: 4 << 20,
        ..JournalConfig::new(data_directory.join("@journal/0000"))
    };
    ShardConfig {
        shard: ShardId(0),
        shard_count: 2,
        data_directory,
        journal,
        cache_bytes: 4 << 20,
        unwritten_bytes: 4 << 20,
        disk_reserve_bytes: 1 << 20,
        flush_bytes: 64 << 10,
        index_interval_bytes: 4096,
        open_files_max: 64,
        producer_expiration: Duration::from_secs(86_400),
        housekeeping_interval: Duration::from_secs(1),
        space_interval: Duration::from_secs(1),
    }
}

fn listen_settings() -> ListenSettings {
    ListenSettings {
        allow_anonymous_remote: false,
        max_connections: 100,
        max_half_open: 100,
        handshake_timeout: SOON,
        frame_timeout: SOON,
        kafka: Rc::new(KafkaSettings {
            host: None,
            port: 1,
            auto_create_topics: false,
            initial_rebalance_delay_ms: 0,
            broker: Vec::new(),
        }),
        session: SessionLimits {
            max_frame_bytes: 1 << 20,
            max_in_flight: 16,
        },
        request_bytes: 8 << 20,
    }
}

fn panics(client: &mut Client) -> u64 {
    let Response::Stats(stats) = client.ask(StatsRequest {}, &[]).0 else {
        panic!("another answer")
    };
    let own = stats.shards.iter().find(|shard| shard.shard == 0);
    let counters = &own.expect("itself").counters;
    let panics = counters.iter().find(|counter| counter.name == "panics");
    panics.expect("is counted").value
}

#[test]
fn a_panic_ends_its_connection_is_counted_and_nothing_else() {
    let data = tempfile::tempdir().expect("a directory");
    let node = HalfANode::start(data.path());
    let mut healthy = node.enter();
    healthy.create_topic("t", PARTITIONS);
    let placed: Vec<bool> = (0..PARTITIONS)
        .map(|partition| {
            let mut client = node.enter();
            let batch = batch(&["kept"]);
            client.send(
                produce_request("t", partition, &batch),
                std::slice::from_ref(&batch),
            );
            match client.try_receive() {
                Ok((_, Response::Produce(produced), _)) => {
                    assert_eq!(produced.topics[0].partitions[0].status, Status::ok());
                    true
                }
                Ok((_, other, _)) => panic!("{other:?}"),
                // The shard that is not there owns it.
                Err(_) => false,
            }
        })
        .collect();
    let ended = placed.iter().filter(|placed| !**placed).count() as u64;
    assert!(0 < ended && ended < u64::from(PARTITIONS), "{placed:?}");

    // A request that runs on its own takes its connection with it, and whatever else waits there.
    let mut unlucky = node.enter();
    unlucky.send(StatsRequest {}, &[]);
    unlucky.must_be_closed_within(SOON);

    assert_eq!(panics(&mut healthy), ended + 1);
    for (partition, placed) in (0..).zip(&placed) {
        if *placed {
            assert_eq!(healthy.fetch_all("t", partition), ["kept"]);
        }
    }
    let pong = node.enter().ask(PingRequest {}, &[]).0;
    assert!(matches!(pong, Response::Ping(_)), "{pong:?}");
}
