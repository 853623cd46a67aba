//! What `millrace config` prints: values, and where they came from.

mod command;

use command::{Ran, millrace, run};

fn setting(ran: &Ran, key: &str) -> serde_json::Value {
    let found = ran.json().into_iter().find(|object| object["key"] == key);
    found.unwrap_or_else(|| panic!("no {key} in {}", ran.output))
}

#[test]
fn every_value_comes_with_its_source() {
    let here = tempfile::tempdir().expect("a temporary directory");
    let file = here.path().join("millrace.yaml");
    std::fs::write(
        &file,
        "# The journal of this test\njournal:\n  file_bytes: 32MiB\n  linger_us: 50\nshards: 2\n\
         topic:\n  defaults:\n    retention.ms: 1000\n",
    )
    .expect("the file can be written");
    let file = file.to_str().expect("a path in UTF-8");

    let mut command = millrace(&[
        "config",
        "--output",
        "json",
        "--config",
        file,
        "--bind",
        "127.0.0.1:7000",
        "--set",
        "cache.bytes=1GiB",
    ]);
    command
        .env("MILLRACE_SHARDS", "3")
        .env("MILLRACE_BOOTSTRAP", "elsewhere:1");
    let ran = run(command).succeeded();

    for (key, value, source) in [
        (
            "bind",
            serde_json::json!("127.0.0.1:7000"),
            "flag --bind".to_owned(),
        ),
        ("cache.bytes", (1_u64 << 30).into(), "flag --set".to_owned()),
        ("shards", 3.into(), "variable MILLRACE_SHARDS".to_owned()),
        (
            "journal.file_bytes",
            (32_u64 << 20).into(),
            format!("{file}:3"),
        ),
        ("journal.linger_us", 50.into(), format!("{file}:4")),
        (
            "topic.defaults.retention.ms",
            1000.into(),
            format!("{file}:8"),
        ),
        (
            "journal.max_group_bytes",
            (4_u64 << 20).into(),
            "default".to_owned(),
        ),
    ] {
        let setting = setting(&ran, key);
        assert_eq!(setting["value"], value, "{key}");
        assert_eq!(setting["source"], source, "{key}");
    }

    // The table for people says the same.
    let ran = run(millrace(&["config", "--config", file])).succeeded();
    let line = ran
        .output
        .lines()
        .find(|line| line.starts_with("journal.file_bytes"))
        .expect("a row");
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["journal.file_bytes", "32MiB", &format!("{file}:3")]
    );
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let here = tempfile::tempdir().expect("a temporary directory");
    let file = here.path().join("m.yaml");
    std::fs::write(&file, "log: {format: json}").expect("the file can be written");
    let mut command = millrace(&["config", "--output", "json"]);
    command.env("MILLRACE_CONFIG", &file);
    let ran = run(command).succeeded();
    assert_eq!(setting(&ran, "log.format")["value"], "json");
}

#[test]
fn automatic_sizes_are_told() {
    let ran = run(millrace(&["config", "--output", "json"])).succeeded();
    let file = setting(&ran, "journal.file_bytes");
    assert_eq!(file["value"], "auto");
    let bytes = file["in_force"].as_u64().expect("a number");
    assert!((4 << 20..=64 << 20).contains(&bytes), "{bytes}");
    assert!(setting(&ran, "shards").get("in_force").is_none());
}

#[test]
fn a_key_is_explained() {
    let ran = run(millrace(&["config", "journal.max_files"])).succeeded();
    for part in [
        "journal.max_files\n",
        "default   32\n",
        "MILLRACE_JOURNAL_MAX_FILES",
        "source    default",
    ] {
        assert!(ran.output.contains(part), "{part}: {}", ran.output);
    }
}

#[test]
fn wrong_files_and_variables_are_refused_by_line_and_name() {
    let here = tempfile::tempdir().expect("a temporary directory");
    let file = here.path().join("m.yaml");
    let path = file.to_str().expect("a path in UTF-8");
    for (text, parts) in [
        (
            "journal:\n  file_byte: 1\n",
            ["m.yaml:2", "did you mean `journal.file_bytes`?"],
        ),
        (
            "jornal:\n  file_bytes: 1\n",
            ["m.yaml:2", "did you mean `journal.file_bytes`?"],
        ),
        (
            "retention.ms: 5\n",
            ["m.yaml:1", "did you mean `topic.defaults.retention.ms`?"],
        ),
        ("journal: 5\n", ["m.yaml:1", "is a section"]),
        ("shards: [1]\n", ["m.yaml:1", "`shards` is a list"]),
        ("shards: 1\nshards: 2\n", ["m.yaml:1", "m.yaml:2"]),
        (
            "shards: 1\nlog:\n  level: loud\n",
            ["m.yaml:3", "error, warn, info"],
        ),
        ("journal:\n  linger_us: -1\n", ["m.yaml:2", "microseconds"]),
        (
            "topic:\n  defaults:\n    cleanup.policy: burn\n",
            ["m.yaml:3", "'delete'"],
        ),
        ("a: {\n", ["m.yaml:", "not valid YAML"]),
    ] {
        std::fs::write(&file, text).expect("the file can be written");
        let ran = run(millrace(&["serve", "--config", path]));
        assert_eq!(ran.code, Some(2), "{text:?}: {}", ran.errors);
        for part in parts {
            assert!(
                ran.errors.contains(part),
                "{text:?} does not say {part:?}: {}",
                ran.errors
            );
        }
    }
    for (name, value, part) in [
        (
            "MILLRACE_JOURNAL_FILEBYTES",
            "1",
            "did you mean `MILLRACE_JOURNAL_FILE_BYTES`?",
        ),
        (
            "MILLRACE_BOOTSTRP",
            "a:1",
            "did you mean `MILLRACE_BOOTSTRAP`?",
        ),
        ("MILLRACE_SHARDS", "two", "auto or a whole number"),
    ] {
        let mut command = millrace(&["serve"]);
        command.env(name, value);
        let ran = run(command);
        assert_eq!(ran.code, Some(2), "{name}: {}", ran.errors);
        assert!(
            ran.errors.contains(name) && ran.errors.contains(part),
            "{name}: {}",
            ran.errors
        );
    }
}
