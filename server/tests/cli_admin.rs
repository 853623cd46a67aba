//! Topics, deleting records, ping and stats from the command line, against a real broker; and what
//! is said when the broker or the topic is not there.

mod command;
mod process;

use std::io::Write;

use command::{Ran, millrace, run, run_with_input};
use process::Broker;

fn with_broker(test: impl Fn(&dyn Fn(&[&str]) -> Ran)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start(&directory.path().join("data"), &["--shards", "2"]);
    test(&|arguments| {
        let mut command = millrace(arguments);
        command.env("MILLRACE_BOOTSTRAP", broker.address.to_string());
        if arguments[0] == "produce" {
            run_with_input(command, b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n")
        } else {
            run(command)
        }
    });
}

#[test]
fn topics_are_made_shown_changed_and_deleted() {
    with_broker(|run| {
        let ran = run(&["topic", "list"]).succeeded();
        assert_eq!(ran.output, "");
        assert!(ran.errors.contains("topic create"), "{}", ran.errors);

        let ran = run(&[
            "topic",
            "create",
            "clicks",
            "-p",
            "3",
            "-c",
            "retention.ms=60000",
        ]);
        assert_eq!(
            ran.succeeded().output,
            "created 'clicks' with 3 partitions\n"
        );
        run(&["topic", "create", "clicks", "--if-not-exists"]).succeeded();
        run(&["topic", "create", "other", "--dry-run"]).succeeded();
        let listed = run(&["topic", "list", "--output", "json"])
            .succeeded()
            .json();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["topic"], "clicks");
        assert_eq!(listed[0]["partitions"], 3);

        let config = |name: &str| {
            let shown = run(&["topic", "describe", "clicks", "--output", "json"])
                .succeeded()
                .json();
            let configs = shown[0]["configs"].as_array().expect("a list").clone();
            configs
                .into_iter()
                .find(|entry| entry["name"] == name)
                .expect("the entry")
        };
        assert_eq!(config("retention.ms")["value"], "60000");
        assert_eq!(config("retention.ms")["is_set"], true);
        let change = ["--set", "segment.bytes=65536", "--unset", "retention.ms"];
        run(&[&["topic", "alter", "clicks"], &change[..]].concat()).succeeded();
        assert_eq!(config("segment.bytes")["value"], "65536");
        assert_eq!(config("retention.ms")["is_set"], false);

        run(&["topic", "add-partitions", "clicks", "--to", "5"]).succeeded();
        let table = run(&["topic", "describe", "clicks"]).succeeded().output;
        assert_eq!(
            table
                .lines()
                .filter(|line| line.ends_with("serving"))
                .count(),
            5,
            "{table}"
        );

        // There is nothing to repair, and nothing is lost by it.
        let repair = ["--partition", "0", "--accept-data-loss"];
        let ran = run(&[&["topic", "repair", "clicks"], &repair[..]].concat()).succeeded();
        assert_eq!(
            ran.output,
            "clicks/0 serves again and ends before offset 0\n"
        );

        run(&["topic", "delete", "clicks"]).succeeded();
        run(&["topic", "delete", "clicks", "--if-exists"]).succeeded();
        assert!(
            run(&["topic", "list", "--output", "json"])
                .succeeded()
                .json()
                .is_empty()
        );
    });
}

#[test]
fn the_broker_s_refusals_reach_the_user() {
    with_broker(|run| {
        run(&["topic", "create", "clicks", "--partitions", "2"]).succeeded();
        for (arguments, parts) in [
            (
                &["topic", "create", "clicks"][..],
                ["clicks", "TopicAlreadyExists"],
            ),
            (&["topic", "create", "a/b"], ["'/'", "InvalidTopic"]),
            (&["topic", "create", ".."], ["'..'", "InvalidTopic"]),
            (
                &["topic", "create", "__controller"],
                ["reserved", "InvalidTopic"],
            ),
            (
                &["topic", "create", "x", "-c", "retenton.ms=5"],
                ["did you mean", "retention.ms"],
            ),
            (
                &["topic", "create", "x", "-c", "segment.bytes=1"],
                ["segment.bytes", "16384"],
            ),
            (
                &[
                    "topic",
                    "alter",
                    "clicks",
                    "--set",
                    "cleanup.policy=compact",
                ],
                ["compaction", "delete"],
            ),
            (
                &["topic", "add-partitions", "clicks", "--to", "1"],
                ["2", "InvalidPartitions"],
            ),
            (
                &["topic", "describe", "click"],
                ["no topic 'click'", "did you mean 'clicks'?"],
            ),
            (
                &["topic", "delete", "views"],
                ["no topic 'views'", "topic list"],
            ),
            (
                &["consume", "clikcs"],
                ["no topic 'clikcs'", "did you mean 'clicks'?"],
            ),
            (
                &["produce", "views"],
                ["no topic 'views'", "topic create views"],
            ),
            (
                &["records", "delete", "views", "--all"],
                ["no topic 'views'", "topic list"],
            ),
            (
                &["records", "delete", "clicks", "-p", "1", "--before", "99"],
                [
                    "clicks/1: offset 99 is out of range",
                    "begin at 0 and end before 0",
                ],
            ),
            (
                &["records", "delete", "clicks", "-p", "7", "--all"],
                ["clicks/7", "partition"],
            ),
            (
                &["consume", "clicks", "-p", "7"],
                ["no partition 7", "0 to 1"],
            ),
            (
                &["topic", "alter", "clicks", "--set", "retention.ms=soon"],
                ["'soon'", "whole number"],
            ),
            (
                &["topic", "alter", "clicks", "--unset", "retention"],
                ["'retention'", "retention.ms"],
            ),
        ] {
            let ran = run(arguments);
            assert_eq!(ran.code, Some(1), "{arguments:?}: {}", ran.errors);
            for part in parts {
                assert!(
                    ran.errors.contains(part),
                    "{arguments:?} does not say {part:?}: {}",
                    ran.errors
                );
            }
            assert_eq!(ran.output, "", "{arguments:?}");
        }
    });
}

#[test]
fn records_are_deleted_from_the_front() {
    with_broker(|run| {
        run(&["topic", "create", "t", "-p", "1"]).succeeded();
        run(&["produce", "t"]).succeeded();
        let ran = run(&[
            "records",
            "delete",
            "t",
            "--partition",
            "0",
            "--before",
            "7",
        ])
        .succeeded();
        assert_eq!(ran.output, "t/0 begins at offset 7\n");
        assert_eq!(run(&["consume", "t"]).succeeded().output, "7\n8\n9\n");
        let ran = run(&["consume", "t", "--from", "3"]);
        assert!(
            ran.errors.contains("begin at 7 and end before 10"),
            "{}",
            ran.errors
        );
        run(&["records", "delete", "t", "--all"]).succeeded();
        assert_eq!(run(&["consume", "t"]).succeeded().output, "");
        run(&["produce", "t"]).succeeded();
        let ran = run(&["consume", "t", "-n", "1", "--format", "{offset}"]).succeeded();
        assert_eq!(ran.output, "10\n");
    });
}

#[test]
fn ping_and_stats_answer() {
    with_broker(|run| {
        let pong = &run(&["ping", "--output", "json"]).succeeded().json()[0];
        assert_eq!(pong["shard_count"], 2);
        assert_eq!(pong["version"], env!("CARGO_PKG_VERSION"));
        assert!(
            run(&["ping"])
                .succeeded()
                .output
                .starts_with("answered in ")
        );
        run(&["topic", "create", "t"]).succeeded();
        run(&["produce", "t"]).succeeded();
        let shards = run(&["stats", "--output", "json"]).succeeded().json();
        assert_eq!(shards.len(), 2);
        let measured = shards
            .iter()
            .flat_map(|shard| shard["stages"].as_array().expect("a list"))
            .any(|stage| stage["count"].as_u64().is_some_and(|count| count > 0));
        assert!(measured, "{shards:?}");
        assert!(run(&["stats"]).succeeded().output.contains("COUNTER"));
    });
}

#[test]
fn a_broker_that_is_not_there_is_told_apart() {
    for (arguments, parts) in [
        (
            &["ping", "--bootstrap", "127.0.0.1:1"][..],
            ["127.0.0.1:1", "refused"],
        ),
        (
            &["consume", "a", "--bootstrap", "127.0.0.1:1"],
            ["cannot connect", "127.0.0.1:1"],
        ),
        (
            &["topic", "list", "--bootstrap", "no-such-host.invalid:1"],
            ["cannot", "no-such-host.invalid:1"],
        ),
    ] {
        let ran = run(millrace(arguments));
        assert_eq!(ran.code, Some(3), "{arguments:?}: {}", ran.errors);
        for part in parts {
            assert!(
                ran.errors.contains(part),
                "{arguments:?} does not say {part:?}: {}",
                ran.errors
            );
        }
    }
}

#[test]
fn a_broker_that_cannot_start_says_why_in_the_form_of_its_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let broker = Broker::start(&data, &[]);
    let data = data.to_str().expect("a path in UTF-8");
    let serve = ["serve", "--data-dir", data, "--bind", "127.0.0.1:0"];

    let ran = run(millrace(&serve));
    assert_eq!(ran.code, Some(1), "{}", ran.errors);
    assert!(
        ran.errors.contains("error: ") && ran.errors.contains(data),
        "{}",
        ran.errors
    );

    let ran = run(millrace(&[&serve[..], &["--log-format", "json"]].concat()));
    assert_eq!(ran.code, Some(1), "{}", ran.errors);
    let last: serde_json::Value =
        serde_json::from_str(ran.errors.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["message"].as_str().expect("text").contains(data),
        "{last}"
    );

    let address = broker.address.to_string();
    let other = directory.path().join("other");
    let ran = run(millrace(&[
        "serve",
        "--data-dir",
        other.to_str().expect("a path in UTF-8"),
        "--bind",
        &address,
    ]));
    assert_eq!(ran.code, Some(1), "{}", ran.errors);
    assert!(ran.errors.contains(&address), "{}", ran.errors);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named_and_left_alone() {
    let here = tempfile::tempdir().expect("a temporary directory");
    let file = here.path().join("file");
    std::fs::write(&file, "mine").expect("written");
    let foreign = here.path().join("foreign");
    std::fs::create_dir(&foreign).expect("made");
    std::fs::write(foreign.join("thesis.txt"), "mine").expect("written");
    for (directory, part) in [
        (file.as_path(), "not a directory"),
        (&file.join("below"), "ot a directory"),
        ("/proc/millrace".as_ref(), "cannot be used"),
        (&foreign, "thesis.txt"),
    ] {
        let path = directory.to_str().expect("a path in UTF-8");
        let ran = run(millrace(&["serve", "-d", path, "-b", "127.0.0.1:0"]));
        assert_eq!(ran.code, Some(1), "{}", ran.errors);
        for part in [path, part, "--data-dir"] {
            assert!(ran.errors.contains(part), "{part}: {}", ran.errors);
        }
    }
    assert_eq!(std::fs::read_dir(&foreign).expect("there").count(), 1);
}

#[test]
fn something_else_at_the_broker_s_address_is_told() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        // Kept open: closing would race with what was said.
        let mut clients: Vec<_> = Vec::new();
        for mut client in other.incoming().map_while(Result::ok) {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            clients.push(client);
        }
    });
    let ran = run(millrace(&["ping", "--bootstrap", &address]));
    assert_eq!(ran.code, Some(3), "{}", ran.errors);
    for part in [address.as_str(), "does not speak", "a Millrace broker?"] {
        assert!(ran.errors.contains(part), "{part}: {}", ran.errors);
    }
}
