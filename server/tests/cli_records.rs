//! Produce and consume from the command line, against a real broker: what goes in comes back, byte
//! for byte, and where it went is told.

mod command;
mod process;
mod session;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use command::Ran;
use session::Session;

/// Lines of any bytes, most of them short.
fn arbitrary_lines(bytes: usize, seed: u64) -> Vec<u8> {
    // Numerical Recipes' generator: any bytes will do, as long as they are the same each time.
    let mut state = seed;
    let mut below = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut lines = Vec::with_capacity(bytes + 1024);
    while lines.len() < bytes {
        let length = if below(100) == 0 { 100_000 } else { 200 };
        for _ in 0..below(length) {
            lines.push(u8::try_from(below(256)).expect("below 256"));
        }
        lines.push(b'\n');
    }
    lines
}

#[test]
fn a_file_of_any_bytes_comes_back_byte_for_byte() {
    let session = Session::start();
    let here = tempfile::tempdir().expect("a temporary directory");
    let ended = arbitrary_lines(5 << 20, 7);
    let unended = &ended[..ended.len() - 1];
    for (topic, lines, more) in [
        ("ended", &ended[..], &[][..]),
        ("unended", unended, &["--no-final-newline"]),
        ("short", b"one", &["--no-final-newline"]),
        ("empty", b"", &[]),
        ("newlines", b"\n\n\n", &[]),
    ] {
        session.create(topic, "1");
        let file = here.path().join(topic);
        std::fs::write(&file, lines).expect("the file can be written");
        session
            .run(&["produce", topic, file.to_str().expect("UTF-8")])
            .succeeded();
        let ran = session
            .run(&[&["consume", topic], more].concat())
            .succeeded();
        assert!(
            ran.bytes == lines,
            "{topic}: {} bytes became {}",
            lines.len(),
            ran.bytes.len()
        );
        assert_eq!(ran.errors, "", "{topic}");
    }
}

#[test]
fn records_of_many_partitions_all_come_back() {
    let session = Session::start();
    session.create("many", "4");
    let input: String = (0..20_000)
        .map(|n| format!("user-{}\t{n}\n", n % 97))
        .collect();
    let ran = session.run_with_input(
        &[
            "produce",
            "many",
            "--key-separator",
            "\\t",
            "--output",
            "json",
        ],
        input.as_bytes(),
    );
    let places = ran.succeeded().json();
    assert_eq!(places.len(), 20_000);
    assert_eq!(places[0]["line"], 1);

    let records = session
        .run(&["consume", "many", "--output", "json"])
        .succeeded()
        .json();
    assert_eq!(records.len(), 20_000);
    let mut next = [0; 4];
    let mut last_of_key = std::collections::HashMap::new();
    for record in &records {
        let partition = record["partition"].as_u64().expect("a number") as usize;
        assert_eq!(
            record["offset"], next[partition],
            "offsets are dense and in order"
        );
        next[partition] += 1;
        let number: u64 = record["value"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a number");
        let key = record["key"].as_str().expect("text").to_owned();
        assert_eq!(key, format!("user-{}", number % 97));
        // One key, one partition, in the order of the lines.
        let before = last_of_key.insert(key, (partition, number));
        assert!(
            before.is_none_or(|(p, n)| p == partition && n < number),
            "{record}"
        );
        // And where produce said it went.
        let place = &places[usize::try_from(number).expect("small")];
        assert_eq!(place["partition"], record["partition"]);
        assert_eq!(place["offset"], record["offset"]);
        assert_eq!(place["timestamp"], record["timestamp"]);
    }
    assert!(next.iter().all(|count| *count > 0), "{next:?}");
}

#[test]
fn where_to_begin_and_how_much_to_read() {
    let session = Session::start();
    session.create("t", "1");
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    session
        .run_with_input(&["produce", "t"], lines.as_bytes())
        .succeeded();
    let at = session.run(&[
        "consume",
        "t",
        "--from",
        "40",
        "-n",
        "1",
        "--format",
        "{timestamp}",
    ]);
    let at = at.succeeded().output.trim().to_owned();
    for (arguments, expected) in [
        (&["--from", "98"][..], "98\n99\n"),
        (&["--from", "-2"], "98\n99\n"),
        (&["--from", "-1000", "--count", "2"], "0\n1\n"),
        (&["--from", "latest"], ""),
        (&["--from", "100"], ""),
        (&["--count", "3"], "0\n1\n2\n"),
        (&["--count", "0"], ""),
        (&["--from", "@99999999999999"], ""),
        (
            &[
                "--from",
                "50",
                "-n",
                "1",
                "--format",
                "{topic}/{partition}/{offset} {key}|{value}",
            ],
            "t/0/50 |50\n",
        ),
        (&["--from", "97", "--partition", "0"], "97\n98\n99\n"),
    ] {
        let ran = session
            .run(&[&["consume", "t"], arguments].concat())
            .succeeded();
        assert_eq!(ran.output, expected, "{arguments:?}");
    }
    // By time: every record from the first one of that millisecond on.
    let ran = session
        .run(&["consume", "t", "--from", &format!("@{at}")])
        .succeeded();
    assert!(
        ran.output.ends_with("98\n99\n") && ran.output.contains("\n41\n"),
        "{}",
        ran.output
    );

    for (arguments, part) in [
        (&["--from", "101"][..], "begin at 0 and end before 100"),
        (&["--partition", "1"], "no partition 1"),
    ] {
        let ran = session.run(&[&["consume", "t"], arguments].concat());
        assert_eq!(ran.code, Some(1), "{arguments:?}");
        assert!(ran.errors.contains(part), "{arguments:?}: {}", ran.errors);
    }
}

#[test]
fn idempotence_can_be_chosen_where_acks_allow_it() {
    let session = Session::start();
    session.create("t", "1");
    for chosen in ["true", "false"] {
        let arguments = ["produce", "t", "--idempotent", chosen];
        session.run_with_input(&arguments, b"x\n").succeeded();
    }
    let arguments = ["produce", "t", "--acks", "1", "--idempotent", "true"];
    let ran = session.run_with_input(&arguments, b"x\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.errors.contains("set acks to all"), "{}", ran.errors);
}

#[test]
fn a_group_goes_on_where_it_was() {
    let session = Session::start();
    session.create("t", "1");
    let produce = |lines: &str| {
        let produced = session.run_with_input(&["produce", "t"], lines.as_bytes());
        produced.succeeded();
    };
    let consume = |more: &[&str]| {
        let arguments = [&["consume", "t", "--group", "g"], more].concat();
        session.run(&arguments).succeeded().output
    };
    produce("0\n1\n2\n3\n4\n");
    assert_eq!(consume(&["--count", "0"]), "");
    // What was printed is committed, and no more.
    assert_eq!(consume(&["--count", "2"]), "0\n1\n");
    assert_eq!(consume(&[]), "2\n3\n4\n");
    assert_eq!(consume(&[]), "");
    produce("5\n");
    assert_eq!(consume(&[]), "5\n");
    // Another group has its own place, and begins where it is told to.
    let arguments = ["consume", "t", "--group", "late", "--from", "latest"];
    assert_eq!(session.run(&arguments).succeeded().output, "");
    let ran = session.run(&["consume", "none", "--group", "g"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.errors.contains("no topic 'none'"), "{}", ran.errors);
}

#[test]
fn headers_compression_acks_and_partition_are_heeded() {
    let session = Session::start();
    session.create("t", "3");
    for compression in ["none", "lz4", "zstd"] {
        for acks in ["1", "all"] {
            session
                .run_with_input(
                    &[
                        "produce",
                        "t",
                        "--partition",
                        "2",
                        "--compression",
                        compression,
                        "--acks",
                        acks,
                        "--header",
                        "a=1",
                        "-H",
                        "b=x=y",
                        "-",
                    ],
                    b"\xff\xfe\n",
                )
                .succeeded();
        }
    }
    let records = session
        .run(&["consume", "t", "--output", "json"])
        .succeeded()
        .json();
    assert_eq!(records.len(), 6);
    for record in records {
        assert_eq!(record["partition"], 2);
        assert_eq!(record["value_base64"], "//4=");
        assert_eq!(record["key"], serde_json::Value::Null);
        assert_eq!(
            record["headers"],
            serde_json::json!([{"name": "a", "value": "1"}, {"name": "b", "value": "x=y"}])
        );
    }
    let ran = session.run_with_input(&["produce", "t", "--acks", "0", "--output", "json"], b"x\n");
    assert_eq!(ran.succeeded().json()[0]["offset"], serde_json::Value::Null);
}

#[test]
fn what_cannot_be_stored_is_named_by_its_line() {
    let session = Session::start();
    session.create("t", "1");
    let ran = session.run_with_input(&["produce", "t", "-k", ":"], b"a:1\nb2\nc:3\n");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.errors.contains("line 2 has no key: the separator ':'"),
        "{}",
        ran.errors
    );

    let long = vec![b'x'; 2 << 20];
    let ran = session.run_with_input(&["produce", "t", "--compression", "none"], &long);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.errors.contains("line 1") && ran.errors.contains("max.message.bytes"),
        "{}",
        ran.errors
    );

    let ran = session.run_with_input(&["produce", "t", "--partition", "5"], b"x\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.errors.contains("partitions 0 to 0"), "{}", ran.errors);
}

#[test]
fn a_marker_stands_for_no_value_in_both_directions() {
    let session = Session::start();
    session.create("t", "1");
    let lines = b"a:1\nb:NULL\nc:\nNULL:x\n";
    session
        .run_with_input(&["produce", "t", "-k", ":", "--null-marker", "NULL"], lines)
        .succeeded();
    let records = session.run(&["consume", "t", "--output", "json"]);
    let records = records.succeeded().json();
    let values: Vec<_> = records
        .iter()
        .map(|record| record["value"].clone())
        .collect();
    let expected = serde_json::json!(["1", null, "", "x"]);
    assert_eq!(serde_json::Value::from(values), expected);
    assert_eq!(records[3]["key"], "NULL", "keys are left alone");

    let format = ["--format", "{key}:{value}"];
    for (arguments, expected) in [
        (&[][..], "1\n\n\nx\n"),
        (&["--null-marker", "\\x2d"], "1\n-\n\nx\n"),
        (
            &["--null-marker", "NULL", format[0], format[1]],
            "a:1\nb:NULL\nc:\nNULL:x\n",
        ),
    ] {
        let ran = session.run(&[&["consume", "t"], arguments].concat());
        assert_eq!(ran.succeeded().output, expected, "{arguments:?}");
    }
    // Without keys the whole line is the value, and an empty marker is a marker.
    session
        .run_with_input(&["produce", "t", "--null-marker", ""], b"\n")
        .succeeded();
    let ran = session.run(&["consume", "t", "--from", "4", "--output", "json"]);
    assert_eq!(ran.succeeded().json()[0]["value"], serde_json::Value::Null);
}

#[test]
fn a_reader_that_goes_away_ends_consume_quietly() {
    let session = Session::start();
    session.create("t", "1");
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    session
        .run_with_input(&["produce", "t"], lines.as_bytes())
        .succeeded();
    let mut child = session
        .command(&["consume", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut first = [0; 4];
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_exact(&mut first)
        .expect("some output");
    assert_eq!(&first, b"0\n1\n");
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!((ran.code, ran.errors.as_str()), (Some(0), ""));
}

#[test]
fn follow_prints_what_arrives_and_ends_well_on_ctrl_c() {
    let session = Session::start();
    session.create("t", "1");
    session
        .run_with_input(&["produce", "t"], b"before\n")
        .succeeded();
    let mut follower = session
        .command(&["consume", "t", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("readable");
    assert_eq!(next(), "before");
    // A producer that is typed into sends each line when it is there.
    let mut producer = session
        .command(&["produce", "t"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut typed = producer.stdin.take().expect("a pipe");
    for line in ["first", "second"] {
        typed
            .write_all(format!("{line}\n").as_bytes())
            .expect("the producer reads");
        assert_eq!(next(), line);
    }
    drop(typed);
    assert!(producer.wait().expect("it ends").success());

    let pid = rustix::process::Pid::from_child(&follower);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(follower.wait().expect("it ends").code(), Some(0));
}

/// A running `consume --follow`, line by line.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(session: &Session, arguments: &[&str]) -> Follower {
        let common = [
            "consume",
            "t",
            "--follow",
            "--format",
            "{partition}:{value}",
        ];
        let mut child = session
            .command(&[&common, arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody is interested any more.
                let _ = sender.send(line);
            }
        });
        Follower { child, lines }
    }

    /// The next line, if it comes in time.
    fn next(&mut self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(20));
        line.expect("another line")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn follow_reads_partitions_that_the_topic_gets_meanwhile() {
    let session = Session::start();
    session.create("t", "1");
    let produce = |partition: &str, line: &str| {
        let arguments = ["produce", "t", "--partition", partition];
        session
            .run_with_input(&arguments, format!("{line}\n").as_bytes())
            .succeeded();
    };
    produce("0", "old");
    let mut all = Follower::start(&session, &["--from", "latest"]);
    let mut one = Follower::start(&session, &["--partition", "0"]);
    assert_eq!(one.next(), "0:old");
    // The other has begun, too, when it prints what comes now.
    let mut seen = Vec::new();
    for number in 0..100 {
        produce("0", &number.to_string());
        seen.extend(all.lines.try_iter());
        if !seen.is_empty() {
            break;
        }
    }
    assert!(!seen.is_empty(), "it does not begin");
    session
        .run(&["topic", "add-partitions", "t", "--to", "3"])
        .succeeded();
    produce("2", "first");
    produce("1", "first");
    while seen.iter().filter(|line| line.ends_with(":first")).count() < 2 {
        seen.push(all.next());
    }
    assert!(seen.contains(&"1:first".into()) && seen.contains(&"2:first".into()));
    // Whoever asked for one partition gets that one: the next line but those of before is the last.
    std::thread::sleep(Duration::from_millis(1_500));
    produce("0", "last");
    let mut line = one.next();
    while line != "0:last" {
        assert!(line.starts_with("0:"), "{line}");
        line = one.next();
    }
}
