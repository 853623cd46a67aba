//! The generator's clock is honest: a broker that stalls for 100 ms shows it where theory says, in
//! an open loop and in a closed one. The broker is a stand-in of a few lines that answers at once,
//! but for the stall. Only what a noisy machine cannot spoil is asserted: a stall cannot be too
//! short, and arithmetic holds however slow everything is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use millrace_bench::load::{Arrivals, Pace, Waiting};
use millrace_bench::progress::Silent;
use millrace_bench::protocol::ProtocolName;
use millrace_bench::report::model::SeriesResult;
use millrace_bench::run::{RunSettings, Session, Target, run_once};
use millrace_bench::workload::{Producers, Workload, named};
use millrace_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, PREAMBLE};
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response, decode_request, encode_response};

const STALL: Duration = Duration::from_millis(100);

/// From the first batch to the stall: behind the warm-up, well before the end.
const BEFORE_STALL: Duration = Duration::from_millis(900);

const WARM_UP: Duration = Duration::from_millis(300);
const DURATION: Duration = Duration::from_secs(2);

/// When the first batch came, which fixes when the stall is.
type FirstBatch = Arc<OnceLock<Instant>>;

fn start_stand_in() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let first = FirstBatch::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let first = Arc::clone(&first);
            thread::spawn(move || serve(stream, &first));
        }
    });
    address
}

/// Serves a connection until the other side leaves.
fn serve(mut stream: TcpStream, first: &FirstBatch) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut preamble = [0; PREAMBLE.len()];
    stream.read_exact(&mut preamble).ok()?;
    assert_eq!(preamble, PREAMBLE);
    loop {
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).ok()?;
        let header = FrameHeader::parse(&header, MAX_FRAME_BYTES).unwrap();
        let mut payload = BytesMut::zeroed(header.payload_bytes());
        stream.read_exact(&mut payload).ok()?;
        let (request, _) = decode_request(header.format, payload).unwrap();
        let is_batch = matches!(request, Request::Produce(_));
        let response = answer(request);
        if is_batch {
            wait_out_the_stall(*first.get_or_init(Instant::now));
        }
        let mut out = BytesMut::new();
        encode_response(header.format, header.correlation, &response, &mut out, 0).unwrap();
        stream.write_all(&out).ok()?;
    }
}

fn wait_out_the_stall(first: Instant) {
    let begins = first + BEFORE_STALL;
    if Instant::now() >= begins {
        let rest = (begins + STALL).saturating_duration_since(Instant::now());
        thread::sleep(rest);
    }
}

fn answer(request: Request) -> Response {
    match request {
        Request::Handshake(_) => HandshakeResponse {
            version: 1,
            shard_count: 1,
            max_in_flight: 1_000,
            ..HandshakeResponse::default()
        }
        .into(),
        Request::CreateTopic(_) => CreateTopicResponse::default().into(),
        Request::DeleteTopic(_) => DeleteTopicResponse::default().into(),
        Request::Metadata(asked) => MetadataResponse {
            topics: vec![TopicMetadata {
                name: asked.topics.unwrap().remove(0),
                partitions: vec![PartitionMetadata::default()],
                ..TopicMetadata::default()
            }],
            ..MetadataResponse::default()
        }
        .into(),
        Request::ListOffsets(asked) => ListOffsetsResponse {
            topics: vec![ListOffsetsTopicResult {
                name: asked.topics[0].name.clone(),
                partitions: vec![ListOffsetsPartitionResult::default()],
            }],
        }
        .into(),
        Request::Produce(asked) => ProduceResponse {
            topics: vec![ProduceTopicResult {
                name: asked.topics[0].name.clone(),
                partitions: vec![ProducePartitionResult::default()],
            }],
        }
        .into(),
        other => panic!("a run does not ask for {:?}", other.kind()),
    }
}

fn produce(pace: Pace) -> SeriesResult {
    let mut session = Session::open(&Target::Address(start_stand_in())).unwrap();
    let workload = Workload {
        producers: Some(Producers {
            connections: 4,
            pace,
            acks: -1,
            idempotent: false,
        }),
        partitions: 1,
        warm_up: WARM_UP,
        duration: DURATION,
        ..named("produce").unwrap()
    };
    let settings = RunSettings {
        protocol: ProtocolName::Native,
        generator_cpu: None,
        waiting: Waiting::Sleep,
        stages: false,
    };
    let outcome = run_once(&mut session, &workload, &settings, &mut Silent).unwrap();
    assert!(outcome.repetition.complete && !outcome.overloaded);
    let [produced] = &outcome.repetition.series[..] else {
        panic!("there is one series");
    };
    assert!(produced.errors.is_empty(), "{:?}", produced.errors);
    produced.clone()
}

/// At 1,000 requests a second for 2 seconds, 100 of the 2,000 are due in the stall, evenly, and wait
/// for its end: the slowest one in a hundred (20) waited for at least 80 ms. A generator that waited
/// for answers before it sent on would have seen four slow ones.
#[test]
fn an_open_loop_charges_a_stall_to_every_request_that_it_delayed() {
    let produced = produce(Pace::Open {
        rate: 1_000.0,
        arrivals: Arrivals::Constant,
    });
    let latency = produced.latency;
    assert!(
        (1_999..=2_001).contains(&latency.count),
        "every request that was due is there: {latency:?}"
    );
    assert!(latency.max >= 98_000_000, "{latency:?}");
    assert!(latency.p99 >= 78_000_000, "{latency:?}");
}

/// With four requests under way at any time, exactly those four see the stall.
#[test]
fn a_closed_loop_shows_a_stall_to_those_under_way_and_to_no_others() {
    let produced = produce(Pace::Closed { in_flight: 1 });
    let latency = produced.latency;
    assert!(latency.max >= 98_000_000, "{latency:?}");
    // Were one in a hundred slower than 50 ms, four connections could not have had so many answers:
    // n / 100 * 50 ms <= 4 * 2 s.
    if latency.count > 16_000 {
        assert!(latency.p99 < 50_000_000, "{latency:?}");
    }
    let mean = latency.mean * latency.count as f64;
    let time = 4.0 * (DURATION + STALL).as_nanos() as f64;
    assert!(
        mean <= time * 1.5,
        "more waiting than there was time: {latency:?}"
    );
}
