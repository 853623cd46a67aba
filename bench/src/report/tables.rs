//! A report's parts as tables and sentences, the same for text and for HTML.

use super::model::{
    Bound, Comparison, EchoLimit, Environment, Latency, Limits, MembershipChange, ReadLimit,
    Repetition, StageResult, Sweep, Target, WorkloadResult, WriteLimit,
};
use super::summary::{SeriesMedians, counted};
use super::table::Kind::{Number, Words};
use super::table::Table;
use super::units;
use crate::record::{Summary, median};

/// The machine and the settings, by name.
pub(super) fn environment(environment: &Environment) -> Vec<(&'static str, String)> {
    let mut machine = vec![
        environment.cpu.clone(),
        format!("{} CPUs", environment.cpus),
        units::size(environment.memory_bytes as f64),
    ];
    if environment.virtual_machine {
        machine.push("virtual machine".to_owned());
    }
    if !environment.governor.is_empty() {
        machine.push(format!("governor {}", environment.governor));
    }
    let mut versions = vec![format!("millrace-bench {}", environment.bench_version)];
    if !environment.broker_version.is_empty() {
        versions.push(format!("broker {}", environment.broker_version));
    }
    let mut pinned = Vec::new();
    if let Some(cpu) = environment.generator_cpu {
        pinned.push(format!("generator on CPU {cpu}"));
    }
    if !environment.broker_cpus.is_empty() {
        let cpus: Vec<String> = environment
            .broker_cpus
            .iter()
            .map(ToString::to_string)
            .collect();
        pinned.push(format!("broker on CPU {}", cpus.join(", ")));
    }
    let rows = [
        ("time", environment.time.clone()),
        ("machine", joined(machine)),
        ("kernel", environment.kernel.clone()),
        ("data on", environment.file_system.clone()),
        ("versions", joined(versions)),
        ("pinned", joined(pinned)),
        ("settings", settings(&environment.settings)),
    ];
    rows.into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// Settings on one line.
pub(super) fn settings(settings: &std::collections::BTreeMap<String, String>) -> String {
    joined(
        settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect(),
    )
}

fn joined(parts: Vec<String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// What the machine can do.
pub(super) fn limits(limits: &Limits) -> Table {
    let mut table = Table::new([
        ("limit", Words),
        ("load", Words),
        ("p50", Number),
        ("p99", Number),
        ("p99.9", Number),
        ("max", Number),
        ("rate", Number),
    ]);
    let mut row = |name: &str, load: String, latency: Option<&Latency>, rate: Option<String>| {
        let [p50, p99, p999, max] = latency.map_or([const { String::new() }; 4], |latency| {
            [latency.p50, latency.p99, latency.p999, latency.max].map(|ns| units::time(ns as f64))
        });
        table.row([
            name.to_owned(),
            load,
            p50,
            p99,
            p999,
            max,
            rate.unwrap_or_default(),
        ]);
    };
    let bytes = |bytes: usize| units::size(bytes as f64);
    row(
        "loopback round trip",
        "1 in flight".to_owned(),
        Some(&limits.loopback_round_trip),
        None,
    );
    row(
        "loopback stream",
        String::new(),
        None,
        Some(units::byte_rate(limits.loopback_stream)),
    );
    for EchoLimit {
        connections,
        in_flight,
        message_bytes,
        round_trips,
        latency,
    } in &limits.echo
    {
        let load = format!(
            "{connections} connections × {in_flight}, {}",
            bytes(*message_bytes)
        );
        row(
            "echo on the broker's executor",
            load,
            Some(latency),
            Some(units::value(*round_trips, "/s")),
        );
    }
    for WriteLimit {
        bytes: size,
        depth,
        latency,
        throughput,
    } in &limits.durable_writes
    {
        let load = format!("{} × {depth}", bytes(*size));
        row(
            "durable write",
            load,
            Some(latency),
            Some(units::byte_rate(*throughput)),
        );
    }
    row(
        "pauses of this machine",
        "a clock beside durable writes".to_owned(),
        Some(&limits.pauses),
        None,
    );
    for ReadLimit {
        bytes: size,
        depth,
        throughput,
    } in &limits.direct_reads
    {
        let load = format!("{} × {depth}", bytes(*size));
        row(
            "direct read",
            load,
            None,
            Some(units::byte_rate(*throughput)),
        );
    }
    for (name, rate) in [
        ("memory copy, one core", limits.memory_copy),
        ("CRC-32C, one core", limits.crc32c),
        ("CRC-32, one core", limits.crc32),
    ] {
        row(name, String::new(), None, Some(units::byte_rate(rate)));
    }
    table
}

/// A workload's series: medians, and below each how far the repetitions lie from them. Rates have
/// columns where there are any.
pub(super) fn workload(series: &[SeriesMedians]) -> Table {
    let has_bytes = series.iter().any(|series| series.byte_rate.median > 0.0);
    let has_records = series.iter().any(|series| series.record_rate.median > 0.0);
    let mut columns = vec![
        ("series", Words),
        ("p50", Number),
        ("p90", Number),
        ("p99", Number),
        ("p99.9", Number),
        ("p99.99", Number),
        ("max", Number),
    ];
    if has_bytes {
        columns.extend([("records/s", Number), ("bytes/s", Number)]);
    } else if has_records {
        columns.push(("requests/s", Number));
    }
    let mut table = Table::new(columns);
    for series in series {
        let rates = [
            (
                has_records || has_bytes,
                series.record_rate,
                units::count as fn(f64) -> String,
            ),
            (has_bytes, series.byte_rate, units::byte_rate),
        ];
        let latency = series.latency.all();
        let mut row = vec![series.name.clone()];
        row.extend(latency.map(|figure| match figure {
            Some(figure) => units::time(figure.median),
            None => units::NONE.to_owned(),
        }));
        let shown = || rates.iter().filter(|(is_shown, ..)| *is_shown);
        row.extend(shown().map(|(_, rate, written)| written(rate.median)));
        table.row(row);
        if series.repetitions > 1 {
            let mut row = vec!["  spread".to_owned()];
            row.extend(latency.map(|figure| figure.map_or(units::NONE.to_owned(), spread)));
            row.extend(shown().map(|(_, rate, _)| spread(*rate)));
            table.row(row);
        }
    }
    table
}

/// Where the broker's time went.
pub(super) fn stages(stages: &[StageResult]) -> Table {
    let mut table = Table::new([
        ("shard", Number),
        ("stage", Words),
        ("count", Number),
        ("p50", Number),
        ("p90", Number),
        ("p99", Number),
        ("p99.9", Number),
        ("max", Number),
    ]);
    for StageResult {
        shard,
        stage,
        latency,
    } in stages
    {
        let figures = [
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
        ];
        let [p50, p90, p99, p999, max] = figures.map(|ns| units::time(ns as f64));
        table.row([
            shard.to_string(),
            stage.clone(),
            units::count(latency.count as f64),
            p50,
            p90,
            p99,
            p999,
            max,
        ]);
    }
    table
}

/// What it cost a group that members came and went.
pub(super) fn changes(changes: &[MembershipChange]) -> Table {
    let mut table = Table::new([
        ("event", Words),
        ("times", Number),
        ("settled: median", Number),
        ("max", Number),
        ("partitions without owner: median", Number),
        ("max", Number),
        ("for how long: median", Number),
        ("max", Number),
    ]);
    for change in changes {
        let partitions = change.partitions_without_owner;
        let [median, max] = match change.without_owner {
            Some(time) => [time.median, time.max].map(units::time),
            None => [units::NONE, units::NONE].map(str::to_owned),
        };
        table.row([
            change.event.clone(),
            change.repetitions.to_string(),
            units::time(change.settled.median),
            units::time(change.settled.max),
            units::round(partitions.median),
            units::round(partitions.max),
            median,
            max,
        ]);
    }
    table
}

fn spread(summary: Summary) -> String {
    units::spread(summary.median, summary.spread())
}

/// Everything about a workload that is said in sentences: how often it ran, what was asked for and
/// what failed, how busy the generator and the broker were.
pub(super) fn workload_lines(workload: &WorkloadResult, series: &[SeriesMedians]) -> Vec<String> {
    let counted = counted(workload);
    let mut lines = vec![repetitions_line(workload, &counted)];
    for series in series {
        if let Some(wanted) = series.wanted_rate {
            lines.push(format!(
                "{}: {} asked for, {} answered",
                series.name,
                units::value(wanted, "operations/s"),
                units::value(series.operation_rate.median, "operations/s"),
            ));
        }
        for (text, count) in &series.errors {
            lines.push(format!("{}: failed {count} times: {text}", series.name));
        }
    }
    lines.extend(generator_line(&counted));
    lines.extend(broker_line(&counted));
    lines.extend(stolen_line(&counted));
    lines
}

fn repetitions_line(workload: &WorkloadResult, counted: &[&Repetition]) -> String {
    let seconds: Vec<f64> = counted
        .iter()
        .map(|repetition| repetition.seconds)
        .collect();
    let Some(seconds) = median(&seconds) else {
        return "nothing was measured".to_owned();
    };
    let noun = if counted.len() == 1 {
        "repetition"
    } else {
        "repetitions"
    };
    let mut line = format!("{} {noun} of {}", counted.len(), units::time(seconds * 1e9));
    let left_out = workload.repetitions.len() - counted.len();
    if left_out > 0 {
        line.push_str(&format!("; {left_out} cut short and left out"));
    } else if counted.iter().any(|repetition| !repetition.complete) {
        line.push_str(", cut short");
    }
    line
}

fn generator_line(counted: &[&Repetition]) -> Option<String> {
    let of = |figure: fn(&Repetition) -> f64| {
        let values: Vec<f64> = counted
            .iter()
            .map(|repetition| figure(repetition))
            .collect();
        Summary::of(&values)
    };
    let busy = of(|repetition| repetition.generator.busy)?;
    let lateness = of(|repetition| repetition.generator.lateness.p99 as f64)?;
    Some(format!(
        "generator: busy {} of the time (at most {}), lateness p99 {} (at most {})",
        units::share(busy.median),
        units::share(busy.largest),
        units::time(lateness.median),
        units::time(lateness.largest),
    ))
}

fn broker_line(counted: &[&Repetition]) -> Option<String> {
    let timed = || counted.iter().filter(|repetition| repetition.seconds > 0.0);
    let shares: Vec<f64> = timed()
        .filter_map(|repetition| Some(repetition.broker_cpu_seconds? / repetition.seconds))
        .collect();
    let mut line = format!("broker: {} of a CPU", units::fine_share(median(&shares)?));
    let idle: Vec<f64> = counted
        .iter()
        .filter_map(|repetition| repetition.broker_idle_share)
        .collect();
    if let Some(idle) = median(&idle) {
        let idle = units::fine_share(idle);
        line.push_str(&format!(", {idle} while it had nothing to do"));
    }
    let each: Vec<f64> = timed()
        .filter_map(|repetition| repetition.broker_cpu_each())
        .collect();
    if let Some(each) = Summary::of(&each) {
        let has_records = counted
            .iter()
            .any(|repetition| repetition.series.iter().any(|series| series.bytes > 0));
        line.push_str(&format!(
            ", {} for each {} ({} to {})",
            units::time(each.median),
            if has_records { "record" } else { "request" },
            units::time(each.smallest),
            units::time(each.largest),
        ));
    }
    Some(line)
}

/// Said where it matters: a pause in one of a thousand is in a p99.9.
fn stolen_line(counted: &[&Repetition]) -> Option<String> {
    let shares: Vec<f64> = counted.iter().map(|repetition| repetition.stolen).collect();
    let stolen = Summary::of(&shares).filter(|stolen| stolen.largest >= 0.001)?;
    Some(format!(
        "hypervisor: held a CPU back for {} of the time (at most {})",
        units::share(stolen.median),
        units::share(stolen.largest),
    ))
}

/// Figures beside what bounds them and, where that was measured, how many times as much it is through
/// Kafka's protocol.
pub(super) fn bounds(bounds: &[Bound]) -> Table {
    let has_kafka = bounds.iter().any(|bound| bound.through_kafka.is_some());
    let mut columns = vec![
        ("figure", Words),
        ("value", Number),
        ("spread", Number),
        ("limit", Number),
        ("ratio", Number),
        ("target", Number),
        ("met", Words),
    ];
    if has_kafka {
        columns.push(("through Kafka", Number));
    }
    columns.push(("what the limit is", Words));
    let mut table = Table::new(columns);
    for bound in bounds {
        let met = bound.target.map(|target| {
            if target.met_by(bound.ratio) {
                "yes"
            } else {
                "NO"
            }
        });
        let mut row = vec![
            bound.figure.clone(),
            units::value(bound.value, &bound.unit),
            units::spread(bound.value, bound.spread),
            units::value(bound.limit_value, &bound.unit),
            units::ratio(bound.ratio),
            bound.target.map_or(units::NONE.to_owned(), target),
            met.unwrap_or(units::NONE).to_owned(),
        ];
        if has_kafka {
            let kafka = bound.through_kafka;
            row.push(kafka.map_or(units::NONE.to_owned(), |kafka| {
                format!("× {}", units::ratio(kafka.over_native))
            }));
        }
        row.push(bound.limit.clone());
        table.row(row);
    }
    table
}

fn target(target: Target) -> String {
    match target {
        Target::AtMost(most) => format!("≤ {}", units::round(most)),
        Target::AtLeast(least) => format!("≥ {}", units::round(least)),
    }
}

/// The steps of a sweep.
pub(super) fn sweep(sweep: &Sweep) -> Table {
    let mut table = Table::new([
        ("asked for/s", Number),
        ("answered/s", Number),
        ("bytes/s", Number),
        ("p50", Number),
        ("p99", Number),
        ("p99.9", Number),
        ("max", Number),
        ("bound kept", Words),
    ]);
    for step in &sweep.steps {
        let Latency {
            p50,
            p99,
            p999,
            max,
            ..
        } = step.latency;
        let [p50, p99, p999, max] = [p50, p99, p999, max].map(|ns| units::time(ns as f64));
        table.row([
            units::count(step.wanted_rate),
            units::count(step.rate),
            units::byte_rate(step.byte_rate),
            p50,
            p99,
            p999,
            max,
            if step.kept { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

/// How a sweep ended.
pub(super) fn sweep_line(sweep: &Sweep) -> String {
    let best = match sweep.best_rate {
        Some(rate) => format!("kept up to {}", units::value(rate, "operations/s")),
        None => "kept at no rate that was tried".to_owned(),
    };
    format!("{}: {best}", sweep.bound)
}

/// Two targets' figures.
pub(super) fn comparison(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        ("figure", Words),
        ("A", Number),
        ("B", Number),
        ("ratio B/A", Number),
        ("spread", Number),
        ("pairs", Number),
    ]);
    for figure in &comparison.figures {
        let value = |values: &[f64]| {
            median(values).map_or(units::NONE.to_owned(), |it| units::value(it, &figure.unit))
        };
        table.row([
            figure.figure.clone(),
            value(&figure.a),
            value(&figure.b),
            format!("{:.3}", figure.ratio),
            format!("{:.3} to {:.3}", figure.spread.0, figure.spread.1),
            figure.a.len().min(figure.b.len()).to_string(),
        ]);
    }
    table
}
