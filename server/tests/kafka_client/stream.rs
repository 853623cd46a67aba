//! What a client sent on one connection, taken apart into requests and sent again cut anywhere.
//!
//! | replay | shows |
//! |---|---|
//! | [`Stream::whole`] | requests that come all at once are answered in order, each in its form |
//! | [`Stream::in_two_parts`] | a request may come in two parts, whichever they are |
//! | [`Stream::begun_in_two_parts`] | so may the one that a connection begins with |
//! | [`Stream::truncated`] | a client that goes away in the middle of a request is let go |
//!
//! Nothing here waits for time to pass. Where two parts are to arrive apart, the second is sent when an
//! answer shows that the broker has read the first.

use std::net::SocketAddr;

use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::{ApiKey, ProduceRequest, RequestHead};

use super::KafkaClient;
use crate::process::Client;

/// A question of our own between what was recorded: ApiVersions 0, by a client without a name.
const PROBE: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff];
const PROBE_NUMBER: i32 = i32::MAX;
/// Connections that are cut off side by side.
const AT_ONCE: usize = 32;

/// A request as it was sent.
pub struct Request {
    pub key: ApiKey,
    pub version: i16,
    pub number: i32,
    /// Whether there is an answer: a producer may want none.
    pub answered: bool,
    /// With the length before it.
    pub bytes: Vec<u8>,
}

impl Request {
    fn parse(bytes: &[u8]) -> Request {
        let payload = &bytes[4..];
        let head = RequestHead::parse(payload).expect("a request's head");
        let key = ApiKey::from_number(head.api_key).expect("a known request");
        let answered = key != ApiKey::Produce || {
            let body = &payload[head.body_at..];
            let produce = ProduceRequest::parse(body, head.api_version);
            produce.expect("a produce request").acks() != 0
        };
        Request {
            key,
            version: head.api_version,
            number: head.correlation,
            answered,
            bytes: bytes.to_vec(),
        }
    }
}

/// A connection's requests.
pub struct Stream {
    pub requests: Vec<Request>,
}

impl Stream {
    /// Takes bytes apart that are whole requests.
    pub fn parse(mut bytes: &[u8]) -> Stream {
        let mut requests = Vec::new();
        while !bytes.is_empty() {
            let (request, rest) = bytes.split_at(4 + length(bytes));
            requests.push(Request::parse(request));
            bytes = rest;
        }
        Stream { requests }
    }

    /// The connections of a recording: each is four bytes of length, and what was sent on it.
    pub fn recorded(mut recording: &[u8]) -> Vec<Stream> {
        let mut streams = Vec::new();
        while !recording.is_empty() {
            let (connection, rest) = recording.split_at(4 + length(recording));
            streams.push(Stream::parse(&connection[4..]));
            recording = rest;
        }
        streams
    }

    pub fn bytes(&self) -> Vec<u8> {
        let requests = self.requests.iter();
        requests.flat_map(|request| request.bytes.clone()).collect()
    }

    /// Sends all of it at once. Every answer comes in its turn and can be read, and the connection
    /// stays. What was answered.
    pub fn whole(&self, address: SocketAddr) -> Vec<ResponseKind> {
        let mut client = KafkaClient::connect(address);
        client.write(&self.bytes()).expect("the broker reads");
        let mut answers = Vec::new();
        for request in self.requests.iter().filter(|request| request.answered) {
            let (number, answer) = client.receive(request.key, request.version);
            assert_eq!(number, request.number, "{:?}", request.key);
            answers.push(answer);
        }
        client.write(&PROBE).expect("the broker reads");
        client.must_hear(PROBE_NUMBER, "after all of it");
        client.must_end("after all of it");
        answers
    }

    /// Sends every request once for each place inside it, on one connection: what is behind the cut
    /// goes out together with a probe and the next beginning. The answer to the probe shows that the
    /// broker has read, and so has the beginning, without its end.
    pub fn in_two_parts(&self, address: SocketAddr) {
        let mut client = KafkaClient::connect(address);
        let mut begun: Option<Begun> = None;
        for request in &self.requests {
            for cut in 1..request.bytes.len() {
                let (begin, end) = request.bytes.split_at(cut);
                let next = Begun { request, cut, end };
                match begun.replace(next) {
                    Some(before) => before.complete(&mut client, begin),
                    None => client.write(begin).expect("the broker reads"),
                }
            }
        }
        if let Some(last) = begun {
            last.complete(&mut client, &[]);
        }
        client.must_end("cut everywhere");
    }

    /// Begins a connection for each place inside its first request. There is no answer before that:
    /// that the broker has read the beginning follows from its having answered others since.
    pub fn begun_in_two_parts(&self, address: SocketAddr, witnesses: &mut [Client]) {
        let first = &self.requests[0];
        for cut in 1..first.bytes.len() {
            let place = format!("{:?} cut at {cut}", first.key);
            let mut client = KafkaClient::connect(address);
            // It is accepted, and then reads.
            ask_all(witnesses);
            client.write(&first.bytes[..cut]).expect(&place);
            ask_all(witnesses);
            client.write(&first.bytes[cut..]).expect(&place);
            if first.answered {
                client.must_hear(first.number, &place);
            }
            client.must_end(&place);
        }
    }

    /// Sends each beginning of it and goes away: once politely, when all that was asked is answered,
    /// and once at once.
    pub fn truncated(&self, address: SocketAddr) {
        let stream = self.bytes();
        let cuts: Vec<usize> = (1..=stream.len()).collect();
        for cuts in cuts.chunks(AT_ONCE) {
            let begun: Vec<_> = cuts
                .iter()
                .map(|&cut| {
                    let mut polite = KafkaClient::connect(address);
                    polite.write(&stream[..cut]).expect("the broker reads");
                    let mut rude = KafkaClient::connect(address);
                    rude.write(&stream[..cut]).expect("the broker reads");
                    (cut, polite)
                })
                .collect();
            for (cut, mut client) in begun {
                let place = format!("cut off at {cut}");
                for number in self.answered_before(cut) {
                    client.must_hear(number, &place);
                }
                client.must_end(&place);
            }
        }
    }

    /// The numbers of the answers to what is whole before a place.
    fn answered_before(&self, cut: usize) -> impl Iterator<Item = i32> {
        let ends = self.requests.iter().scan(0, |end, request| {
            *end += request.bytes.len();
            Some((*end, request))
        });
        ends.take_while(move |(end, _)| *end <= cut)
            .filter(|(_, request)| request.answered)
            .map(|(_, request)| request.number)
    }
}

/// A request of which the broker has the first part.
struct Begun<'a> {
    request: &'a Request,
    cut: usize,
    end: &'a [u8],
}

impl Begun<'_> {
    /// Sends the other part, and behind it the beginning of what is next; the answers come.
    fn complete(self, client: &mut KafkaClient, next: &[u8]) {
        let Begun { request, cut, end } = self;
        let place = format!("{:?} {} cut at {cut}", request.key, request.version);
        client.write(&[end, &PROBE, next].concat()).expect(&place);
        if request.answered {
            client.must_hear(request.number, &place);
        }
        client.must_hear(PROBE_NUMBER, &place);
    }
}

impl KafkaClient {
    /// The next answer is the one with this number.
    #[track_caller]
    fn must_hear(&mut self, number: i32, place: &str) {
        let answer = self.receive_bytes();
        let answer = answer.unwrap_or_else(|error| panic!("{place}: no answer {number}: {error}"));
        assert_eq!(answer[..4], number.to_be_bytes(), "{place}: another answer");
    }

    /// No answer is left, and the broker closes when this client has nothing more to say.
    #[track_caller]
    fn must_end(&mut self, place: &str) {
        let rest = self.finish();
        let rest = rest.unwrap_or_else(|error| panic!("{place}: not closed cleanly: {error}"));
        assert!(rest.is_empty(), "{place}: {} bytes too many", rest.len());
    }
}

fn length(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk().expect("four bytes of length");
    u32::from_be_bytes(*length) as usize
}

fn ask_all(witnesses: &mut [Client]) {
    for witness in witnesses {
        // Twice: what was there before the first is worked off before the second is answered.
        witness.ping();
        witness.ping();
    }
}
