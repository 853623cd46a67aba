//! What strangers may send to a real broker: any bytes, cut anywhere, slowly or never. Each gets an
//! answer or a closed connection, and the broker goes on.

mod process;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use millrace_wire::error::ErrorCode;
use millrace_wire::frame::PREAMBLE;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use process::{Broker, Client, batch, handshake, produce_request};

const SOON: Duration = Duration::from_secs(5);

fn error_code(response: &Response) -> Option<ErrorCode> {
    let code = match response {
        Response::Error(status) => status.code,
        Response::Handshake(response) => response.status.code,
        other => panic!("{other:?}"),
    };
    ErrorCode::from_number(code)
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn any_bytes_at_any_stage_end_that_connection_only() {
    let data = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(data.path(), &[]);
    let mut numbers = Numbers(1);
    let rounds = 150;
    for round in 0..rounds {
        let mut client = broker.connect();
        if round % 3 > 0 {
            client.write(&PREAMBLE).expect("open");
        }
        if round % 3 == 2 {
            client.send(handshake(1, 1, None), &[]);
        }
        let length = (numbers.next() % 300) as usize;
        let mut bytes = numbers.bytes(length);
        // Some have a length that is kept, so that what is inside is looked at.
        if round % 2 == 0 && bytes.len() > 16 {
            let counted = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&counted.to_be_bytes());
            bytes[4] = (round % 4 / 2) as u8;
        }
        // The broker may have closed already.
        let _ = client.write(&bytes);
        client.finish_writing();
        client.must_be_closed_within(SOON);
    }
    broker.must_serve("after");
    // The end of the log is where the next line is.
    broker.signal(libc::SIGTERM);
    assert!(broker.wait_for_line(" stopping").is_some());
    let about = broker.lines.iter().filter(|line| line.contains("peer="));
    let about: Vec<&String> = about.collect();
    assert!(!about.is_empty() && about.len() <= rounds, "{about:#?}");
    assert!(!broker.lines.iter().any(|line| line.contains("panicked")));
}

#[test]
fn a_frame_cut_anywhere_leaves_nothing_behind() {
    let data = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(data.path(), &[]);
    let mut good = broker.connect();
    good.handshake(None);
    good.create_topic("t", 1);
    let batch = batch(&["whole"]);
    let length = good
        .frame(
            produce_request("t", 0, &batch),
            std::slice::from_ref(&batch),
        )
        .1
        .len();
    for cut in (0..length).step_by(7) {
        let mut client = broker.connect();
        client.handshake(None);
        let request = produce_request("t", 0, &batch);
        let (_, frame) = client.frame(request, std::slice::from_ref(&batch));
        client.write(&frame[..cut]).expect("open");
        client.finish_writing();
        client.must_be_closed_within(SOON);
    }
    assert_eq!(
        good.produce("t", 0, &batch).base_offset,
        0,
        "no part of a frame was appended"
    );
    assert!(broker.wait_for_line("closed in the middle").is_some());
}

#[test]
fn what_is_slow_or_never_finished_is_closed() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = [
        "--set",
        "network.handshake_timeout_ms=300",
        "--set",
        "network.frame_timeout_ms=400",
    ];
    let mut broker = Broker::start(data.path(), &limits);
    let mut idle = broker.connect();
    idle.handshake(None);
    let mut silent = broker.connect();
    let mut half_greeted = broker.connect();
    half_greeted.write(&PREAMBLE).expect("open");
    half_greeted.write(&[0, 0, 0]).expect("open");
    let mut in_a_frame = broker.connect();
    in_a_frame.handshake(None);
    let (_, frame) = in_a_frame.frame(PingRequest {}, &[]);
    in_a_frame.write(&frame[..5]).expect("open");
    let mut in_a_body = broker.connect();
    in_a_body.handshake(None);
    let batch = batch(&["late"]);
    let (_, frame) = in_a_body.frame(
        produce_request("t", 0, &batch),
        std::slice::from_ref(&batch),
    );
    in_a_body.write(&frame[..frame.len() - 1]).expect("open");
    for client in [
        &mut silent,
        &mut half_greeted,
        &mut in_a_frame,
        &mut in_a_body,
    ] {
        client.must_be_closed_within(SOON);
    }
    for says in ["did not finish its handshake", "the client was too slow"] {
        assert!(broker.wait_for_line(says).is_some(), "{says}");
    }
    // A byte now and then does not help.
    let mut trickling = broker.connect();
    let began = Instant::now();
    let bytes = [&PREAMBLE[..], &[0, 0, 0, 100], &[0; 100]].concat();
    for byte in bytes {
        if trickling.write(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(began.elapsed() < SOON, "it was let go on");
    }
    let pong = idle.ask(PingRequest {}, &[]).0;
    assert!(
        matches!(pong, Response::Ping(_)),
        "silence between frames is allowed"
    );
}

#[test]
fn lengths_that_are_too_large_are_refused_before_they_are_believed() {
    let data = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(data.path(), &["--set", "network.max_frame_bytes=1MiB"]);
    for length in [u32::MAX, 1 << 31, 101 << 20, (1 << 20) + 1] {
        let mut client = broker.connect();
        assert_eq!(client.handshake(None).max_frame_bytes, 1 << 20);
        client.write(&length.to_be_bytes()).expect("open");
        client.write(&[0, 0, 0, 0, 7]).expect("open");
        let (correlation, response, _) = client.try_receive().expect("an answer");
        assert_eq!(
            (correlation, error_code(&response)),
            (7, Some(ErrorCode::FrameTooLarge))
        );
        client.must_be_closed_within(SOON);
    }
    // Before the handshake even less is taken.
    let mut client = broker.connect();
    client.write(&PREAMBLE).expect("open");
    client.write(&[0, 1, 0, 0, 0, 0, 0, 0, 8]).expect("open");
    let (correlation, response, _) = client.try_receive().expect("an answer");
    assert_eq!(
        (correlation, error_code(&response)),
        (8, Some(ErrorCode::FrameTooLarge))
    );
    for says in ["closing a connection", "refused a connection"] {
        assert!(broker.wait_for_line(says).is_some(), "{says}");
    }
    broker.must_serve("after");
}

#[test]
fn handshakes_that_are_none_are_answered_and_closed() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    client.write(&PREAMBLE).expect("open");
    let (response, _) = client.ask(handshake(7, 9, None), &[]);
    assert_eq!(error_code(&response), Some(ErrorCode::UnsupportedVersion));
    client.must_be_closed_within(SOON);

    let mut client = broker.connect();
    client.write(&PREAMBLE).expect("open");
    let (response, _) = client.ask(PingRequest {}, &[]);
    assert_eq!(error_code(&response), Some(ErrorCode::HandshakeRequired));
    client.must_be_closed_within(SOON);

    let mut client = broker.connect();
    client.handshake(None);
    let (response, _) = client.ask(handshake(1, 1, None), &[]);
    assert_eq!(error_code(&response), Some(ErrorCode::HandshakeRequired));
    client.must_be_closed_within(SOON);
}

#[test]
fn other_protocols_are_closed_with_a_line_in_the_log() {
    let data = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(data.path(), &["--set", "kafka.bind=127.0.0.1:0"]);
    for (first, says) in [
        (&[0x16, 3, 1, 0, 200, 1][..], "TLS"),
        (&[0, 0, 0, 30, 0, 18, 0, 3][..], "kafka.bind"),
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"),
        (&[0xff; 8][..], "not the native protocol"),
    ] {
        let mut client = broker.connect();
        client.write(first).expect("open");
        client.must_be_closed_within(SOON);
        assert!(broker.wait_for_line(says).is_some(), "{says}");
    }
}

#[test]
fn a_flood_of_half_open_connections_keeps_nobody_out() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = ["--shards", "1", "--set", "network.max_half_open=20"];
    let broker = Broker::start(data.path(), &limits);
    let mut flood: Vec<Client> = (0..300).map(|_| broker.connect()).collect();
    broker.must_serve("meanwhile");
    for client in flood.drain(..250) {
        // The oldest made way for those behind them, long before their time was up.
        let mut client = client;
        client.must_be_closed_within(Duration::from_secs(2));
    }
}

#[test]
fn a_long_flood_of_half_open_connections_takes_no_more_memory_than_a_short_one() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = ["--shards", "1", "--set", "network.max_half_open=100"];
    let broker = Broker::start(data.path(), &limits);
    let wave = || {
        let mut crowd: Vec<Client> = (0..200).map(|_| broker.connect()).collect();
        for client in &mut crowd {
            // The handshake's frame is announced and does not come.
            let _ = client.write(&[&PREAMBLE[..], &[0, 0, 0x3f, 0, 0, 0, 0, 0, 1]].concat());
        }
        broker.must_answer();
    };
    wave();
    let short = broker.peak_memory();
    for _ in 0..25 {
        wave();
    }
    let grown = broker.peak_memory() - short;
    assert!(grown < 8 << 20, "{grown} more bytes for 5,000 connections");
}

#[test]
fn frames_that_are_begun_and_not_finished_share_a_bounded_memory() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = [
        "--shards",
        "1",
        "--set",
        "network.max_frame_bytes=4MiB",
        "--set",
        "network.buffer_bytes=16MiB",
        "--set",
        "network.frame_timeout_ms=1000",
    ];
    let mut broker = Broker::start(data.path(), &limits);
    broker.must_answer();
    let before = broker.peak_memory();
    // Each has sent all but the last of 4 MiB, or is held back from sending them.
    let almost = vec![0; 4 << 20];
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut client = broker.connect();
        client.handshake(None);
        client.write(&(4_u32 << 20).to_be_bytes()).expect("open");
        client.stream.set_nonblocking(true).expect("set");
        let _ = client.write(&almost[5..]);
        crowd.push(client);
    }
    assert!(broker.wait_for_line("the client was too slow").is_some());
    let grown = broker.peak_memory() - before;
    assert!(grown > 8 << 20, "the frames were read: {grown}");
    assert!(grown < 40 << 20, "{grown} bytes for a limit of 16 MiB");
    drop(crowd);
    broker.must_serve("after");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_room_comes_back() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = ["--shards", "1", "--set", "network.max_connections=5"];
    let mut broker = Broker::start(data.path(), &limits);
    let mut inside: Vec<Client> = (0..5).map(|_| broker.connect()).collect();
    for client in &mut inside {
        client.handshake(None);
    }
    broker.connect().must_be_closed_within(SOON);
    assert!(broker.wait_for_line("too many connections").is_some());
    drop(inside);
    broker.enter_within(SOON);
}

#[test]
fn a_connection_moves_to_the_shard_it_wants_with_all_that_was_sent() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &["--shards", "2"]);
    let mut admin = broker.connect();
    assert_eq!(admin.handshake(None).shard_count, 2);
    admin.create_topic("t", 2);
    for round in 0..20 {
        let mut client = broker.connect();
        let wanted = round % 2;
        let batch = batch(&["early"]);
        let (_, hello) = client.frame(handshake(1, 1, Some(wanted)), &[]);
        let request = produce_request("t", u32::from(wanted), &batch);
        let (_, produce) = client.frame(request, std::slice::from_ref(&batch));
        // All in one write, without waiting for an answer.
        client
            .write(&[&PREAMBLE[..], &hello, &produce].concat())
            .expect("open");
        let (_, hello, _) = client.try_receive().expect("an answer");
        let Response::Handshake(hello) = hello else {
            panic!("{hello:?}")
        };
        assert_eq!((hello.status, hello.shard), (Status::ok(), wanted));
        let (_, produced, _) = client.try_receive().expect("an answer");
        let Response::Produce(produced) = produced else {
            panic!("{produced:?}")
        };
        let placed = &produced.topics[0].partitions[0];
        assert_eq!(
            (placed.status.clone(), placed.base_offset),
            (Status::ok(), i64::from(round / 2))
        );
    }
    let mut lost = broker.connect();
    assert_eq!(
        lost.handshake(Some(77)).status,
        Status::ok(),
        "served wherever it is"
    );
}

/// An address of this machine that is not loopback, if it has one.
fn outer_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let local = socket.local_addr().ok()?;
    (!local.ip().is_loopback() && !local.ip().is_unspecified()).then_some(local)
}

#[test]
fn peers_from_elsewhere_are_refused_unless_they_are_allowed() {
    let Some(outer) = outer_address() else {
        eprintln!("this machine has only loopback; nothing to try");
        return;
    };
    for (arguments, expected) in [
        (&[][..], Some(ErrorCode::RemoteRefused)),
        (&["--allow-anonymous-remote"][..], None),
    ] {
        let data = tempfile::tempdir().expect("a directory");
        let any = "0.0.0.0:0";
        let mut broker = Broker::try_start(data.path(), any, arguments).expect("ready");
        let mut client = Client::connect(SocketAddr::new(outer.ip(), broker.address.port()));
        client.write(&PREAMBLE).expect("open");
        let (response, _) = client.ask(handshake(1, 1, None), &[]);
        assert_eq!(error_code(&response), expected);
        if expected.is_some() {
            client.must_be_closed_within(SOON);
            assert!(broker.wait_for_line("--allow-anonymous-remote").is_some());
        }
        let mut near = Client::connect(SocketAddr::from(([127, 0, 0, 1], broker.address.port())));
        assert_eq!(near.handshake(None).status, Status::ok());
    }
}
