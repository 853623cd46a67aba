use std::time::Duration;

use super::Experiment;

/// A small one of the whole: what the table in the documentation of `gossip` shows, in short.
#[test]
fn lifeguard_blames_fewer_and_is_no_slower() {
    let experiment = Experiment {
        members: vec![16],
        stalling: 4,
        repetitions: 3,
        observed: Duration::from_secs(60),
        deaths: 10,
        seed: 7,
        threads: 2,
    };
    let table = experiment.run(&|_, _| {});
    let [row] = table.rows.as_slice() else {
        panic!("one row: {table}");
    };
    assert!(row.false_positives[0] > 50, "{table}");
    assert!(row.share().is_some_and(|share| share <= 0.05), "{table}");
    let [_, lifeguard] = row.first_detection;
    let [least, most] = row.expected;
    assert!(
        (least * 0.85..most * 1.15).contains(&lifeguard),
        "{lifeguard} {table}"
    );
    assert_eq!(row.deaths, [30, 30], "every death was noticed");
    assert_eq!(
        table,
        experiment.run(&|_, _| {}),
        "the same seed, the same table"
    );
}
