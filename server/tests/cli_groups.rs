//! `millrace group`, as somebody types it.

mod command;
mod process;
mod session;

use session::Session;

fn lines(session: &Session, topic: &str, count: usize) {
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    let arguments = ["produce", topic];
    session
        .run_with_input(&arguments, lines.as_bytes())
        .succeeded();
}

fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn a_group_is_listed_described_moved_and_deleted() {
    let session = Session::start();
    session.create("t", "1");
    lines(&session, "t", 10);
    let ran = session.run(&["group", "list"]).succeeded();
    assert!(ran.errors.contains("there are no groups"), "{}", ran.errors);
    let arguments = ["consume", "t", "--group", "g", "--count", "4"];
    session.run(&arguments).succeeded();

    let ran = session.run(&["group", "list"]).succeeded();
    let rows: Vec<_> = ran.output.lines().map(cells).collect();
    assert_eq!(
        rows,
        [["GROUP", "TYPE", "STATE"], ["g", "consumer", "Empty"]]
    );
    let ran = session
        .run(&["group", "list", "--state", "stable"])
        .succeeded();
    assert_eq!(ran.output, "");
    let ran = session
        .run(&["group", "list", "--output", "json"])
        .succeeded();
    let listed: serde_json::Value = serde_json::from_str(&ran.output).expect("an object");
    assert_eq!(listed["group"], "g");

    let ran = session.run(&["group", "describe", "g"]).succeeded();
    assert!(
        ran.output.starts_with("g: Empty, generation"),
        "{}",
        ran.output
    );
    let last = ran.output.lines().last().expect("a row");
    assert_eq!(cells(last)[..5], ["t", "0", "4", "10", "6"]);

    let reset = |more: &[&str]| {
        let arguments = [&["group", "reset-offsets", "g"], more].concat();
        let ran = session.run(&arguments).succeeded();
        let last = ran.output.lines().last().expect("a row").to_owned();
        (cells(&last).join(" "), ran.errors)
    };
    let (row, errors) = reset(&["--topic", "t", "--to", "earliest", "--dry-run"]);
    assert_eq!(row, "t 0 4 0");
    assert!(errors.contains("nothing was changed"), "{errors}");
    assert_eq!(reset(&["--topic", "t:0", "--to", "7"]).0, "t 0 4 7");
    assert_eq!(reset(&["--all-topics", "--shift-by", "-2"]).0, "t 0 7 5");
    assert_eq!(reset(&["--all-topics", "--to", "-3"]).0, "t 0 5 7");
    let (row, errors) = reset(&["--all-topics", "--shift-by", "100"]);
    assert_eq!(row, "t 0 7 10");
    assert!(errors.contains("has no offset 107"), "{errors}");
    assert_eq!(reset(&["--topic", "t", "--to", "8"]).0, "t 0 10 8");
    let ran = session.run(&["consume", "t", "--group", "g"]).succeeded();
    assert_eq!(ran.output, "8\n9\n");

    let ran = session.run(&["group", "delete", "g", "h"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.output, "deleted 'g'\n");
    assert!(
        ran.errors.contains("there is no group 'h'"),
        "{}",
        ran.errors
    );
    let ran = session.run(&["group", "describe", "g"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.errors.contains("`millrace group list`"),
        "{}",
        ran.errors
    );
}

#[test]
fn a_group_that_nobody_joined_can_be_given_offsets() {
    let session = Session::start();
    session.create("t", "3");
    lines(&session, "t", 3);
    let arguments = [
        "group",
        "reset-offsets",
        "new",
        "--topic",
        "t",
        "--to",
        "latest",
    ];
    let ran = session.run(&arguments).succeeded();
    assert_eq!(ran.output.lines().count(), 4);
    let ran = session.run(&["consume", "t", "--group", "new"]).succeeded();
    assert_eq!(ran.output, "");
    let ran = session.run(&["group", "describe", "nwe"]);
    assert!(ran.errors.contains("did you mean 'new'?"), "{}", ran.errors);
}

#[test]
fn what_cannot_be_reset_is_told() {
    let session = Session::start();
    session.create("t", "1");
    let wrong = [
        (
            &["--topic", "t:1", "--to", "latest"][..],
            "its partitions are 0 to 0",
        ),
        (
            &["--topic", "none", "--to", "latest"],
            "there is no topic 'none'",
        ),
        (&["--topic", "t", "--shift-by", "1"], "use --to"),
        (
            &["--all-topics", "--to", "latest"],
            "name topics by --topic",
        ),
    ];
    for (more, expected) in wrong {
        let arguments = [&["group", "reset-offsets", "g"], more].concat();
        let ran = session.run(&arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}");
        assert!(ran.errors.contains(expected), "{}", ran.errors);
    }
}
