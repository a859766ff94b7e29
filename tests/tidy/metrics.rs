//! That every metric recorded is described, and every metric a dashboard asks for is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::{none, source};

/// Everything in a text that looks like the name of a metric.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("hearth_")).collect()
}

/// What is wrong with the names in `metrics.rs`: the names recorded, and what was found.
fn metrics(text: &str) -> (BTreeMap<String, bool>, Vec<String>) {
    // Names are in texts, so the file is read as written; the part that describes is one function.
    let start = text.find("\nfn describe()").map_or(text.len(), |at| at + 1);
    let end = text[start..]
        .find("\n}")
        .map_or(text.len(), |at| start + at);
    let described = metric_names(&text[start..end]);
    let recording = format!("{}{}", &text[..start], &text[end..]);
    let kinds = [
        "counter!(",
        "gauge!(",
        "histogram!(",
        ".counters(",
        ".histograms(",
    ];
    let recorded: BTreeMap<String, bool> = kinds
        .iter()
        .flat_map(|macro_| {
            recording
                .split(macro_)
                .skip(1)
                .map(move |rest| (rest, *macro_))
        })
        .filter_map(|(rest, macro_)| {
            let name = rest.trim_start().strip_prefix('"')?.split('"').next()?;
            Some((name.to_owned(), macro_.contains("histogram")))
        })
        .collect();
    let mut found = Vec::new();
    for name in recorded
        .keys()
        .filter(|name| !described.contains(name.as_str()))
    {
        found.push(format!("{name} is recorded and not described"));
    }
    for name in described
        .iter()
        .filter(|name| !recorded.contains_key(**name))
    {
        found.push(format!("{name} is described and never recorded"));
    }
    (recorded, found)
}

#[test]
fn every_metric_is_described_and_every_dashboard_names_real_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("src/telemetry/metrics.rs")).expect("is there");
    let (recorded, mut found) = metrics(&text);
    assert!(
        recorded.len() > 5,
        "the metrics were not found: {recorded:?}"
    );
    for dashboard in source::read("grafana", "json") {
        for (at, line) in dashboard.lines.iter().enumerate() {
            for name in metric_names(&line.text) {
                if !exists(&recorded, name) {
                    let number = at + 1;
                    found.push(format!(
                        "{}:{number}: there is no metric {name}",
                        dashboard.path
                    ));
                }
            }
        }
    }
    none(found);
}

/// Whether a scrape has this name; a histogram has three.
fn exists(recorded: &BTreeMap<String, bool>, name: &str) -> bool {
    let series = ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix));
    let histogram = |base: &str| recorded.get(base) == Some(&true);
    recorded.get(name) == Some(&false) || series.into_iter().any(histogram)
}

#[test]
fn the_metrics_check_fires() {
    let text = "\nfn describe() {\n    for n in [\"hearth_a\", \"hearth_unused\"] {}\n}\n\
        fn a() { metrics::counter!(\"hearth_a\"); metrics::histogram!(\n \"hearth_b_seconds\"); }\n\
        fn b() { page.histograms(\n\"hearth_c_seconds\", [\"l\"], help, |write| {}); }";
    let (recorded, found) = metrics(text);
    assert_eq!(
        found,
        [
            "hearth_b_seconds is recorded and not described",
            "hearth_c_seconds is recorded and not described",
            "hearth_unused is described and never recorded"
        ]
    );
    assert!(exists(&recorded, "hearth_a") && exists(&recorded, "hearth_b_seconds_bucket"));
    assert!(exists(&recorded, "hearth_c_seconds_sum"));
    assert!(
        !exists(&recorded, "hearth_a_bucket")
            && !exists(&recorded, "hearth_b_seconds")
            && !exists(&recorded, "hearth_c")
    );
}
