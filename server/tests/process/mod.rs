//! The real program in a process of its own, and a client that writes frames by hand.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{BatchBuilder, Compression};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PREAMBLE};
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response, decode_response, encode_request};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running broker.
pub struct Broker {
    child: Child,
    log: Receiver<String>,
    /// What it logged so far.
    pub lines: Vec<String>,
    pub address: SocketAddr,
}

impl Broker {
    /// Starts one on a free port of loopback and waits until it is ready.
    pub fn start(data: &Path, arguments: &[&str]) -> Broker {
        Broker::try_start(data, "127.0.0.1:0", arguments).unwrap_or_else(|(status, lines)| {
            panic!(
                "it ended ({status}) instead of being ready:\n{}",
                lines.join("\n")
            )
        })
    }

    /// Starts one; its end and what it said, if it does not get ready.
    pub fn try_start(
        data: &Path,
        bind: &str,
        arguments: &[&str],
    ) -> Result<Broker, (ExitStatus, Vec<String>)> {
        let program = Command::new(env!("CARGO_BIN_EXE_millrace"));
        Broker::try_start_by(program, data, bind, arguments)
    }

    /// Starts one that may not have more descriptors than this.
    pub fn try_start_with_descriptors(
        limit: u64,
        data: &Path,
        arguments: &[&str],
    ) -> Result<Broker, (ExitStatus, Vec<String>)> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
            .arg(limit.to_string())
            .arg(env!("CARGO_BIN_EXE_millrace"));
        Broker::try_start_by(shell, data, "127.0.0.1:0", arguments)
    }

    fn try_start_by(
        mut command: Command,
        data: &Path,
        bind: &str,
        arguments: &[&str],
    ) -> Result<Broker, (ExitStatus, Vec<String>)> {
        // Variables that choose how much is tested are no keys of the broker's, which refuses them.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLRACE_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data)
            .args(["--bind", bind]);
        command.args(["--log-format", "text"]);
        // Small files are made quickly, and most tests need no more.
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("journal.file_bytes="))
        {
            command.args(["--set", "journal.file_bytes=4MiB"]);
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let unknown = "0.0.0.0:0".parse().expect("an address");
        let mut broker = Broker {
            child,
            log,
            lines: Vec::new(),
            address: unknown,
        };
        match broker.wait_for_line("ready") {
            Some(line) => {
                let address = line
                    .split("address=")
                    .nth(1)
                    .expect("the line has the address");
                let address = address.split_whitespace().next().expect("with an end");
                broker.address = address.parse().expect("an address");
                Ok(broker)
            }
            None => Err((broker.end_or_kill(), broker.lines.split_off(0))),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    /// Waits for its end, which its log's end announces; one that hangs instead is killed.
    pub fn end_or_kill(&mut self) -> ExitStatus {
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            if let Some(status) = self.ended() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().expect("it is ours");
        self.child.wait().expect("ends")
    }

    /// The next line with `text` in it, or of those already seen; nothing if the log ends first.
    pub fn wait_for_line(&mut self, text: &str) -> Option<String> {
        if let Some(line) = self.lines.iter().find(|line| line.contains(text)) {
            return Some(line.clone());
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).ok()?;
            self.lines.push(line.clone());
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> u64 {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        open.count() as u64
    }

    /// The most memory it has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak
            .expect("the kernel tells")
            .trim()
            .trim_end_matches(" kB");
        peak.parse::<u64>().expect("a number") << 10
    }

    /// Sets its limit of open descriptors while it runs.
    pub fn limit_descriptors(&self, limit: u64) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let limits = rustix::process::Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limits)
            .expect("it is ours");
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A connection that is past its handshake, as soon as the broker lets one in.
    #[track_caller]
    pub fn enter_within(&self, limit: Duration) -> Client {
        let began = Instant::now();
        loop {
            let mut client = self.connect();
            let (_, hello) = client.frame(handshake(1, 1, None), &[]);
            // Closed at once while there is no room.
            let sent = client.write(&[&PREAMBLE[..], &hello].concat());
            if sent.is_ok() && client.try_receive().is_ok() {
                return client;
            }
            assert!(began.elapsed() < limit, "no room came back");
        }
    }

    pub fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Asks it to stop, and waits for that.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.child.wait().expect("ends");
        (status, began.elapsed())
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ends");
    }

    /// Whether it still answers.
    #[track_caller]
    pub fn must_answer(&self) {
        self.enter_within(PATIENCE).ping();
    }

    /// Whether nothing panicked, and every connection that a client left is gone: `ours` are open.
    #[track_caller]
    pub fn must_have_let_go(&self, ours: u64) {
        let mut client = self.enter_within(PATIENCE);
        let end = Instant::now() + PATIENCE;
        loop {
            assert_eq!(client.counter("panics"), 0, "something panicked");
            let open = client.counter("open_connections");
            if open == ours + 1 {
                return;
            }
            assert!(
                Instant::now() < end,
                "{open} connections are open, {ours} are held"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it still serves: it makes a topic, takes a record and gives it back.
    #[track_caller]
    pub fn must_serve(&self, topic: &str) {
        let mut client = self.enter_within(PATIENCE);
        client.create_topic(topic, 1);
        assert_eq!(client.produce(topic, 0, &batch(&["alive"])).base_offset, 0);
        assert_eq!(client.fetch_all(topic, 0), ["alive"]);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Gone already, if the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection written and read by hand.
pub struct Client {
    pub stream: TcpStream,
    next: u32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client { stream, next: 1 }
    }

    /// A request as a frame.
    pub fn frame(&mut self, request: impl Into<Request>, attached: &[Bytes]) -> (u32, BytesMut) {
        let correlation = self.next;
        self.next += 1;
        let mut frame = BytesMut::new();
        let bytes = attached.iter().map(Bytes::len).sum();
        encode_request(
            Format::Rkyv,
            correlation,
            &request.into(),
            &mut frame,
            bytes,
        )
        .expect("encodes");
        attached
            .iter()
            .for_each(|batch| frame.extend_from_slice(batch));
        (correlation, frame)
    }

    /// Writes bytes; the broker may have closed already.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, request: impl Into<Request>, attached: &[Bytes]) -> u32 {
        let (correlation, frame) = self.frame(request, attached);
        self.write(&frame).expect("the connection is open");
        correlation
    }

    pub fn try_receive(&mut self) -> io::Result<(u32, Response, Bytes)> {
        let mut header = [0; FRAME_HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        let header = FrameHeader::parse(&header, MAX_FRAME_BYTES).expect("a header");
        let mut payload = vec![0; header.payload_bytes()];
        self.stream.read_exact(&mut payload)?;
        let (response, attached) = decode_response(header.format, payload.into()).expect("valid");
        Ok((header.correlation, response, attached))
    }

    #[track_caller]
    pub fn ask(&mut self, request: impl Into<Request>, attached: &[Bytes]) -> (Response, Bytes) {
        let sent = self.send(request, attached);
        let (correlation, response, attached) = self.try_receive().expect("an answer");
        assert_eq!(correlation, sent);
        (response, attached)
    }

    /// Says hello; what the broker says.
    pub fn handshake(&mut self, wanted_shard: Option<u16>) -> HandshakeResponse {
        self.write(&PREAMBLE).expect("open");
        match self.ask(handshake(1, 1, wanted_shard), &[]).0 {
            Response::Handshake(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn ping(&mut self) {
        let pong = self.ask(PingRequest {}, &[]).0;
        assert!(matches!(pong, Response::Ping(_)), "{pong:?}");
    }

    /// A counter of all shards together.
    #[track_caller]
    pub fn counter(&mut self, name: &str) -> u64 {
        let Response::Stats(stats) = self.ask(StatsRequest {}, &[]).0 else {
            panic!("another answer")
        };
        let counters = stats.shards.iter().flat_map(|shard| &shard.counters);
        let named: Vec<_> = counters.filter(|counter| counter.name == name).collect();
        assert_eq!(named.len(), stats.shards.len(), "{name} is counted");
        named.iter().map(|counter| counter.value).sum()
    }

    /// Deletes a topic, if it is there.
    #[track_caller]
    pub fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicRequest { name: name.into() };
        let answer = self.ask(request, &[]).0;
        assert!(matches!(answer, Response::DeleteTopic(_)), "{answer:?}");
    }

    pub fn create_topic(&mut self, name: &str, partitions: u32) {
        let request = CreateTopicRequest {
            name: name.into(),
            partitions,
            ..Default::default()
        };
        match self.ask(request, &[]).0 {
            Response::CreateTopic(response) => assert_eq!(response.status, Status::ok()),
            other => panic!("{other:?}"),
        }
    }

    pub fn produce(
        &mut self,
        topic: &str,
        partition: u32,
        batch: &Bytes,
    ) -> ProducePartitionResult {
        let request = produce_request(topic, partition, batch);
        match self.ask(request, std::slice::from_ref(batch)).0 {
            Response::Produce(response) => response.topics[0].partitions[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The values of all records of a partition.
    pub fn fetch_all(&mut self, topic: &str, partition: u32) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let offset = values.len() as i64;
            let partitions = vec![FetchPartition {
                partition,
                offset,
                max_bytes: 1 << 20,
            }];
            let request = FetchRequest {
                max_wait_ms: 0,
                min_bytes: 1,
                max_bytes: 1 << 20,
                topics: vec![FetchTopic {
                    name: topic.into(),
                    partitions,
                }],
            };
            let (response, attached) = self.ask(request, &[]);
            let Response::Fetch(response) = response else {
                panic!("{response:?}")
            };
            if response.topics.is_empty() {
                return values;
            }
            assert_eq!(response.topics[0].partitions[0].status, Status::ok());
            append_values(attached, &mut values);
        }
    }

    /// Reads until the broker closes: within `limit`, or it panics.
    #[track_caller]
    pub fn must_be_closed_within(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("set");
        let mut scrap = [0; 4096];
        loop {
            match self.stream.read(&mut scrap) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the broker did not close: {error}"),
            }
        }
    }

    pub fn finish_writing(&self) {
        // Closed by the broker already, perhaps.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

fn append_values(attached: Bytes, values: &mut Vec<String>) {
    for batch in millrace_wire::batch::split_batches(attached) {
        let batch = batch.expect("a batch");
        let records = millrace_wire::batch::Records::decode(&batch, 64 << 20).expect("decodes");
        for record in records {
            let record = record.expect("a record");
            assert_eq!(record.offset.0, values.len() as i64, "dense and in order");
            let value = record.value.expect("has a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
}

pub fn handshake(min: u16, max: u16, wanted_shard: Option<u16>) -> HandshakeRequest {
    HandshakeRequest {
        min_version: min,
        max_version: max,
        client_id: "test".into(),
        client_software: "by hand".into(),
        wanted_shard,
        wanted_partition: None,
    }
}

pub fn produce_request(topic: &str, partition: u32, batch: &[u8]) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 0,
        topics: vec![ProduceTopic {
            name: topic.into(),
            partitions: vec![ProducePartition {
                partition,
                batch_bytes: batch.len() as u32,
            }],
        }],
    }
}

/// A batch of one record for each value.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder
            .push(1_000, None, Some(value.as_bytes()), &[])
            .expect("fits");
    }
    builder.build().expect("has records").into()
}
