//! A broker in a test: the native protocol over TCP, on [`log::FakeLog`].

pub mod log;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PREAMBLE};
use millrace_wire::native::messages::{FetchRequest, FetchResponse};
use millrace_wire::native::{Response, decode_request, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use log::{Answer, FakeLog};

pub struct Broker {
    pub log: Arc<Mutex<FakeLog>>,
    pub address: SocketAddr,
    appended: Arc<Notify>,
    /// How long the broker takes for a produce request.
    pub delay: Arc<Mutex<Duration>>,
    /// The most produce requests that were being served at once.
    pub most_at_once: Arc<Mutex<(usize, usize)>>,
    serving: Option<JoinSet<()>>,
}

#[derive(Clone)]
struct Service {
    log: Arc<Mutex<FakeLog>>,
    appended: Arc<Notify>,
    delay: Arc<Mutex<Duration>>,
    at_once: Arc<Mutex<(usize, usize)>>,
}

impl Broker {
    pub async fn start(shards: u16) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut broker = Broker {
            log: Arc::new(Mutex::new(FakeLog::new(shards, address.port()))),
            address,
            appended: Arc::default(),
            delay: Arc::default(),
            most_at_once: Arc::default(),
            serving: None,
        };
        broker.serve(listener);
        broker
    }

    fn serve(&mut self, listener: TcpListener) {
        let service = Service {
            log: self.log.clone(),
            appended: self.appended.clone(),
            delay: self.delay.clone(),
            at_once: self.most_at_once.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(service.clone().connection(stream));
            }
        });
        self.serving = Some(tasks);
    }

    /// As if it were killed: connections break, the log stays.
    pub async fn stop(&mut self) {
        if let Some(mut tasks) = self.serving.take() {
            tasks.shutdown().await;
        }
    }

    /// On the same port.
    pub async fn restart(&mut self) {
        self.stop().await;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.serve(listener);
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }
}

impl Service {
    async fn connection(self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut preamble = [0; 4];
        if stream.read_exact(&mut preamble).await.is_err() || preamble != PREAMBLE {
            return;
        }
        let (mut reader, mut writer) = stream.into_split();
        let (answers, mut outgoing) = mpsc::channel::<Bytes>(1000);
        let write = async move {
            while let Some(bytes) = outgoing.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        };
        let mut requests = JoinSet::new();
        let mut shard = 0;
        let read = async {
            loop {
                let mut header = [0; FRAME_HEADER_BYTES];
                if reader.read_exact(&mut header).await.is_err() {
                    return;
                }
                let header = FrameHeader::parse(&header, MAX_FRAME_BYTES).unwrap();
                let mut payload = BytesMut::zeroed(header.payload_bytes());
                if reader.read_exact(&mut payload).await.is_err() {
                    return;
                }
                let (request, attachments) = decode_request(header.format, payload).unwrap();
                let is_produce = !attachments.is_empty();
                let answer = self.log.lock().unwrap().answer(shard, request, attachments);
                if let Answer::Now(Response::Handshake(told), _) = &answer {
                    shard = told.shard;
                }
                let service = self.clone();
                let task = service.finish(header.correlation, answer, is_produce, answers.clone());
                requests.spawn(task);
            }
        };
        tokio::select! { () = read => {}, () = write => {} }
    }

    async fn finish(
        self,
        correlation: u32,
        answer: Answer,
        is_produce: bool,
        answers: mpsc::Sender<Bytes>,
    ) {
        if is_produce {
            self.appended.notify_waiters();
            let delay = *self.delay.lock().unwrap();
            self.count(1);
            tokio::time::sleep(delay).await;
            self.count(-1);
        }
        let (response, data) = match answer {
            Answer::Now(response, data) => (response, data),
            Answer::Park(request) => self.park(&request).await,
            Answer::Nothing => return,
        };
        let mut bytes = BytesMut::new();
        let attached = data.iter().map(Bytes::len).sum();
        encode_response(Format::Rkyv, correlation, &response, &mut bytes, attached).unwrap();
        data.iter().for_each(|part| bytes.extend_from_slice(part));
        let _ = answers.send(bytes.freeze()).await;
    }

    fn count(&self, change: isize) {
        let (now, most) = &mut *self.at_once.lock().unwrap();
        *now = now.saturating_add_signed(change);
        *most = (*most).max(*now);
    }

    async fn park(&self, request: &FetchRequest) -> (Response, Vec<Bytes>) {
        let wait = Duration::from_millis(u64::from(request.max_wait_ms));
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            if let Some((response, data)) = self.log.lock().unwrap().fetch(request) {
                return (response.into(), data);
            }
            if tokio::time::timeout_at(deadline, appended).await.is_err() {
                return (FetchResponse::default().into(), Vec::new());
            }
        }
    }
}
