//! Wrong things typed at the command line get an answer that helps, and an exit code that tells a
//! script which kind of wrong it was. No broker runs here.

mod command;

use command::{millrace, run};

/// A command line, its exit code, and what its answer must contain.
type Case = (&'static [&'static str], i32, &'static [&'static str]);

const CASES: &[Case] = &[
    // Commands and flags.
    (&["serv"], 2, &["unrecognized subcommand 'serv'", "'serve'"]),
    (&["topic", "creat", "a"], 2, &["'create'"]),
    (&["topic"], 2, &["Usage: millrace topic"]),
    (&["topic", "create"], 2, &["<TOPIC>"]),
    (&["consume", "a", "--folow"], 2, &["'--follow'"]),
    (&["produce"], 2, &["<TOPIC>"]),
    // Addresses.
    (
        &["ping", "--bootstrap", "localhost"],
        2,
        &["no port", "127.0.0.1:9092"],
    ),
    (&["ping", "--bootstrap", "::1:9092"], 2, &["[::1]:9092"]),
    (
        &["ping", "--bootstrap", "a:70000"],
        2,
        &["'70000' is not a port"],
    ),
    (
        &["ping", "--bootstrap", "http://127.0.0.1:9092/"],
        2,
        &["leave 'http://' out", "such as 127.0.0.1:9092"],
    ),
    // Topics.
    (
        &["topic", "create", "a", "--partitions", "0"],
        2,
        &["'0'", "1 or more"],
    ),
    (
        &["topic", "create", "a", "-p", "-3"],
        2,
        &["'-3'", "1 or more"],
    ),
    (
        &["topic", "add-partitions", "a", "--to", "many"],
        2,
        &["'many'", "whole number of partitions"],
    ),
    (
        &["topic", "create", "a", "--config", "retention.ms"],
        2,
        &["KEY=VALUE"],
    ),
    (&["topic", "alter", "a"], 2, &["--set", "--unset"]),
    (
        &["topic", "repair", "a", "--partition", "0"],
        2,
        &["--accept-data-loss"],
    ),
    (&["records", "delete", "a"], 2, &["--before", "--all"]),
    (
        &["records", "delete", "a", "--before", "5"],
        2,
        &["--partition"],
    ),
    (
        &[
            "records",
            "delete",
            "a",
            "--before",
            "5",
            "--all",
            "--partition",
            "0",
        ],
        2,
        &["cannot be used with"],
    ),
    (
        &[
            "records",
            "delete",
            "a",
            "--partition",
            "0",
            "--before",
            "-5",
        ],
        2,
        &["'-5'", "an offset is a whole number, 0 or more"],
    ),
    // Producing.
    (
        &["produce", "a", "--partition", "-1"],
        2,
        &["'-1'", "whole number, 0 or more"],
    ),
    (
        &["produce", "a", "--acks", "most"],
        2,
        &["one of 0, 1 and all", "'most'"],
    ),
    (
        &["produce", "a", "--idempotent", "perhaps"],
        2,
        &["--idempotent", "perhaps"],
    ),
    (
        &["produce", "a", "--compression", "rar"],
        2,
        &["none, lz4 and zstd", "'rar'"],
    ),
    (&["produce", "a", "--key-separator", "\\q"], 2, &["\\t"]),
    (
        &["produce", "a", "--key-separator", ""],
        2,
        &["cannot be empty"],
    ),
    (&["produce", "a", "--header", "trace"], 2, &["KEY=VALUE"]),
    (&["produce", "a", "--timeout", "5"], 2, &["such as 500ms"]),
    (
        &["produce", "a", "no/such/file"],
        1,
        &["cannot read no/such/file", "No such file"],
    ),
    (
        &["produce", "a", "."],
        1,
        &["cannot read .", "is a directory"],
    ),
    // Consuming.
    (
        &["consume", "a", "--partition", "0,-1"],
        2,
        &["'-1'", "whole number, 0 or more"],
    ),
    (
        &["consume", "a", "--group", "g", "--partition", "0"],
        2,
        &["--group", "--partition"],
    ),
    (
        &["consume", "a", "--group", "g", "--from", "17"],
        2,
        &["--group", "earliest or latest"],
    ),
    (
        &["consume", "a", "-p", "first"],
        2,
        &["'first'", "whole number, 0 or more"],
    ),
    (
        &["consume", "a", "--count", "-3"],
        2,
        &["'-3'", "whole number, 0 or more"],
    ),
    (
        &["consume", "a", "--null-marker", "-", "--output", "json"],
        2,
        &["--null-marker", "null"],
    ),
    (
        &["consume", "a", "--from", "yesterday"],
        2,
        &["earliest, latest, an offset", "2026-01-31T12:00:00Z"],
    ),
    (
        &["consume", "a", "--from", "2026-01-31T12:00:00"],
        2,
        &["needs its zone"],
    ),
    (
        &["consume", "a", "--format", "{valeu}"],
        2,
        &["no field {valeu}", "{value}"],
    ),
    (
        &["consume", "a", "--format", "{value", "--output", "json"],
        2,
        &["has no '}'"],
    ),
    (
        &["consume", "a", "--format", "{key}", "--output", "json"],
        2,
        &["--format", "--output json"],
    ),
    (&["consume", "a", "--output", "xml"], 2, &["table", "json"]),
    // Configuration.
    (
        &["serve", "--set", "journal.file_byte=1MiB"],
        2,
        &["--set", "`journal.file_bytes`"],
    ),
    (&["serve", "--set", "journal"], 2, &["KEY=VALUE"]),
    (
        &["serve", "--bind", "localhost:9092"],
        2,
        &["--bind", "IP address and a port"],
    ),
    (
        &["serve", "--shards", "0"],
        2,
        &["--shards", "between 1 and"],
    ),
    (
        &["serve", "--config", "no/such.yaml"],
        2,
        &["no/such.yaml", "No such file"],
    ),
    (
        &["serve", "--log-level", "loud"],
        2,
        &["--log-level", "error, warn, info"],
    ),
    (
        &[
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--set",
            "bind=127.0.0.1:1",
        ],
        2,
        &["set twice", "--bind", "--set"],
    ),
    (&["config", "journal.size"], 2, &["no key `journal.size`"]),
];

#[test]
fn wrong_command_lines_get_an_answer_that_helps() {
    for (arguments, code, parts) in CASES {
        let ran = run(millrace(arguments));
        assert_eq!(ran.code, Some(*code), "{arguments:?}: {}", ran.errors);
        for part in *parts {
            assert!(
                ran.errors.contains(part),
                "{arguments:?} does not say {part:?}: {}",
                ran.errors
            );
        }
        assert_eq!(ran.output, "", "{arguments:?} prints to standard output");
        assert!(
            !ran.errors.contains("panicked"),
            "{arguments:?}: {}",
            ran.errors
        );
    }
}

#[test]
fn help_goes_to_standard_output_and_tells_the_exit_codes() {
    let ran = run(millrace(&["--help"])).succeeded();
    assert!(ran.output.contains("Exit codes:"), "{}", ran.output);
    assert_eq!(ran.errors, "");
    let ran = run(millrace(&["topic", "create", "--help"])).succeeded();
    assert!(ran.output.contains("Examples:"), "{}", ran.output);
    let ran = run(millrace(&["--version"])).succeeded();
    assert_eq!(
        ran.output,
        format!("millrace {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_shell_gets_its_completions() {
    let ran = run(millrace(&["completions", "bash"])).succeeded();
    assert!(ran.output.contains("add-partitions"));
}
