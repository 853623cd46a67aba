//! A report as one HTML page that needs nothing else: tables, plots and style are all in it. It is
//! well-formed XML too, which is how it is tested. All text of a report is escaped.

use super::model::{Comparison, Report, Sweep, WorkloadResult};
use super::plot::{self, Plot};
use super::summary::{counted, medians, series_names};
use super::table::{Kind, Table};
use super::tables;

/// The style of the page. Dark colours of the plots are added by [`render`].
const STYLE: &str = include_str!("style.css");

/// The report as a page.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = Page::default();
    page.head(&format!("millrace-bench, {}", report.environment.time));
    page.element("h1", "millrace-bench");
    page.environment(report);
    if let Some(limits) = &report.limits {
        page.open_section("Limits of this machine");
        page.table(&tables::limits(limits));
        page.close("section");
    }
    for workload in &report.workloads {
        page.workload(workload);
    }
    for sweep in &report.sweeps {
        page.sweep(sweep);
    }
    for comparison in &report.comparisons {
        page.comparison(comparison);
    }
    if !report.notes.is_empty() {
        page.open_section("Notes");
        page.list(&report.notes);
        page.close("section");
    }
    page.close("main");
    page.close("body");
    page.close("html");
    page.html
}

/// A page being written.
#[derive(Default)]
struct Page {
    html: String,
}

impl Page {
    fn head(&mut self, title: &str) {
        self.html.push_str(
            "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n",
        );
        self.html.push_str("<meta charset=\"utf-8\"/>\n");
        self.html.push_str(
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n",
        );
        // Should a text ever get through unescaped, it still may do nothing.
        self.html.push_str(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n",
        );
        self.element("title", title);
        let dark = plot::dark_rules("figure");
        self.html.push_str(&format!("<style>\n{STYLE}@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n"));
        self.html.push_str("</head>\n<body>\n<main>\n");
    }

    /// An element with nothing but text in it.
    fn element(&mut self, name: &str, text: &str) {
        self.html
            .push_str(&format!("<{name}>{}</{name}>\n", escaped(text)));
    }

    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.element("p", text);
        }
    }

    fn open_section(&mut self, heading: &str) {
        self.html.push_str("<section>\n");
        self.element("h2", heading);
    }

    fn close(&mut self, name: &str) {
        self.html.push_str(&format!("</{name}>\n"));
    }

    fn list(&mut self, lines: &[String]) {
        self.html.push_str("<ul>\n");
        for line in lines {
            self.element("li", line);
        }
        self.html.push_str("</ul>\n");
    }

    fn table(&mut self, table: &Table) {
        let class = |kind: Kind| {
            if kind == Kind::Number {
                " class=\"number\""
            } else {
                ""
            }
        };
        self.html
            .push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for (heading, kind) in &table.columns {
            self.html
                .push_str(&format!("<th{}>{}</th>", class(*kind), escaped(heading)));
        }
        self.html.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            // The row below a row of medians stands back.
            let beneath = row.first().is_some_and(|cell| cell.starts_with("  "));
            self.html.push_str(if beneath {
                "<tr class=\"spread\">"
            } else {
                "<tr>"
            });
            for (cell, (_, kind)) in row.iter().zip(&table.columns) {
                let class = if cell == "NO" {
                    " class=\"missed\""
                } else {
                    class(*kind)
                };
                self.html
                    .push_str(&format!("<td{class}>{}</td>", escaped(cell.trim_start())));
            }
            self.html.push_str("</tr>\n");
        }
        self.html.push_str("</tbody></table></div>\n");
    }

    /// A plot with its title and legend; nothing where there is nothing to plot.
    fn plot(&mut self, title: &str, plot: Option<Plot>) {
        let Some(Plot { svg, legend }) = plot else {
            return;
        };
        let title = escaped(title);
        self.html
            .push_str(&format!("<figure>\n<figcaption><b>{title}</b><br/>"));
        for (colour, name) in legend {
            let light = colour.light();
            self.html.push_str(&format!(
                "<span class=\"key\"><svg width=\"14\" height=\"10\" viewBox=\"0 0 14 10\"><rect y=\"3\" width=\"14\" \
                 height=\"4\" fill=\"{light}\"/></svg> {}</span>\n",
                escaped(&name),
            ));
        }
        self.html.push_str(&format!(
            "</figcaption>\n<div role=\"img\" aria-label=\"{title}\">\n{svg}</div>\n</figure>\n"
        ));
    }

    fn environment(&mut self, report: &Report) {
        self.open_section("Environment");
        self.html.push_str("<dl>\n");
        for (name, text) in tables::environment(&report.environment) {
            self.element("dt", name);
            self.element("dd", &text);
        }
        self.html.push_str("</dl>\n");
        self.close("section");
    }

    fn workload(&mut self, workload: &WorkloadResult) {
        self.open_section(&workload.name);
        self.paragraph(&workload.description);
        self.paragraph(&tables::settings(&workload.settings));
        let series = medians(workload);
        if !series.is_empty() {
            self.table(&tables::workload(&series));
        }
        self.list(&tables::workload_lines(workload, &series));
        if !workload.stages.is_empty() {
            self.table(&tables::stages(&workload.stages));
        }
        if !workload.changes.is_empty() {
            self.table(&tables::changes(&workload.changes));
        }
        if !workload.bounds.is_empty() {
            self.table(&tables::bounds(&workload.bounds));
        }
        let repetitions = counted(workload);
        self.plot(
            &format!(
                "{}: latency by percentile, each repetition; rings are the longest",
                workload.name
            ),
            plot::percentiles(&repetitions),
        );
        for name in series_names(&repetitions) {
            let title = format!("{}: latency of {name} over time", workload.name);
            self.plot(&title, plot::over_time(&repetitions, name));
        }
        self.close("section");
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.open_section(&format!("Sweep of {}", sweep.workload));
        self.paragraph(&tables::sweep_line(sweep));
        self.table(&tables::sweep(sweep));
        self.plot(
            &format!("{}: latency against throughput", sweep.workload),
            plot::sweep(sweep),
        );
        self.close("section");
    }

    fn comparison(&mut self, comparison: &Comparison) {
        self.open_section(&format!("Comparison under {}", comparison.workload));
        self.list(&[
            format!("A: {}", comparison.a),
            format!("B: {}", comparison.b),
        ]);
        self.table(&tables::comparison(comparison));
        self.plot(
            &format!("{}: B over A", comparison.workload),
            plot::comparison(comparison),
        );
        self.close("section");
    }
}

/// Text for any place in the page, attributes in double quotes included.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ if character.is_control() => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// Panics unless every element is closed, in order, and every attribute is in double quotes.
    /// Gives the names of all elements.
    fn elements(html: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        let mut all = Vec::new();
        let mut rest = html
            .strip_prefix("<!DOCTYPE html>\n")
            .expect("a document type");
        while let Some((text, tail)) = rest.split_once('<') {
            assert!(
                !text.contains('>') || open.last().is_some_and(|name| name == "style"),
                "stray > in {text}"
            );
            let (tag, tail) = tail.split_once('>').expect("a tag that ends");
            rest = tail;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
            let name = tag.split([' ', '/']).next().unwrap_or_default().to_owned();
            assert!(
                name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(),
                "<{tag}>"
            );
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            all.push(name);
        }
        assert!(open.is_empty(), "{open:?} left open");
        all
    }

    #[test]
    fn the_page_is_well_formed_and_holds_every_part() {
        let html = render(&sample::report());
        let elements = elements(&html);
        let count = |name: &str| elements.iter().filter(|element| *element == name).count();
        assert_eq!(count("figure"), 5);
        assert_eq!(count("table"), 7);
        for part in sample::WORDS {
            assert!(html.contains(part), "no {part}");
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let html = render(&sample::report());
        let elements = elements(&html);
        for element in ["script", "link", "img", "iframe", "image", "object"] {
            assert!(!elements.iter().any(|name| name == element), "{element}");
        }
        for reference in ["src=", "href=", "url(", "@import"] {
            assert!(!html.contains(reference), "{reference}");
        }
    }

    /// The report with every text in it replaced, by way of its JSON.
    fn with_all_texts(report: &Report, hostile: &str) -> Report {
        fn replace(value: &mut serde_json::Value, hostile: &str) {
            match value {
                // A unit's meaning is in its name, and a name must be kept for repetitions to be one series.
                serde_json::Value::String(text) => *text = format!("{hostile}{text}"),
                serde_json::Value::Array(items) => {
                    items.iter_mut().for_each(|item| replace(item, hostile))
                }
                serde_json::Value::Object(members) => {
                    members
                        .values_mut()
                        .for_each(|member| replace(member, hostile));
                    for maps in ["settings", "errors"] {
                        let Some(serde_json::Value::Object(map)) = members.get_mut(maps) else {
                            continue;
                        };
                        let old = std::mem::take(map);
                        map.extend(
                            old.into_iter()
                                .map(|(name, value)| (format!("{hostile}{name}"), value)),
                        );
                    }
                }
                _ => {}
            }
        }
        let mut value = serde_json::to_value(report).unwrap();
        replace(&mut value, hostile);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn no_text_comes_through_as_markup() {
        let plain = elements(&render(&sample::report()));
        let hostile = "</title></style>\"'><script>alert(1)</script><svg onload=\"x\">&\u{0}";
        let html = render(&with_all_texts(&sample::report(), hostile));
        assert!(!html.contains("<script") && !html.contains("onload=\"") && !html.contains('\0'));
        assert!(html.matches("&lt;script&gt;").count() > 30);
        assert_eq!(elements(&html), plain, "the same elements as without it");
    }

    #[test]
    fn every_series_of_every_workload_is_in_a_plot() {
        let mut report = sample::report();
        let mut second = report.workloads[0].clone();
        second.name = "second".to_owned();
        second.repetitions[2].series[1].name = "catch-up".to_owned();
        report.workloads.push(second);
        let html = render(&report);
        let captions: Vec<&str> = html
            .split("<figcaption>")
            .skip(1)
            .filter_map(|figure| Some(figure.split_once("</figcaption>")?.0))
            .collect();
        for workload in &report.workloads {
            for series in workload
                .repetitions
                .iter()
                .flat_map(|repetition| &repetition.series)
            {
                let key = format!("</svg> {}</span>", series.name);
                let percentiles = format!("{}: latency by percentile", workload.name);
                assert!(
                    captions
                        .iter()
                        .any(|it| it.contains(&percentiles) && it.contains(&key)),
                    "{}",
                    series.name
                );
                let over_time = format!("{}: latency of {} over time", workload.name, series.name);
                assert!(
                    captions.iter().any(|it| it.contains(&over_time)),
                    "{}",
                    series.name
                );
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_drawn_do_no_harm() {
        for odd in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -1.0,
            f64::MAX,
        ] {
            let mut report = sample::report();
            let figure = &mut report.comparisons[0].figures[0];
            (figure.ratio, figure.spread, figure.a[0]) = (odd, (odd, odd), odd);
            report.sweeps[0].best_rate = Some(odd);
            report.sweeps[0].steps[1].rate = odd;
            report.workloads[0].bounds[0].ratio = odd;
            let repetition = &mut report.workloads[0].repetitions[0];
            repetition.seconds = odd;
            repetition.series[0].timeline[3].at_seconds = odd;
            repetition.series[0].timeline[4].max = u64::MAX;
            repetition.series[0].curve[1] = (odd, u64::MAX);
            elements(&render(&report));
            assert!(crate::report::text::render(&report).contains("Notes"));
        }
    }

    #[test]
    fn an_empty_report_is_a_page_without_plots() {
        let elements = elements(&render(&Report::default()));
        assert!(!elements.iter().any(|name| name == "figure"));
    }
}
