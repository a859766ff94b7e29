//! That every metric recorded is described, and every metric a dashboard asks for is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::{none, source};

/// Everything in a text that looks like the name of a metric, as often as it is there.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("hearth_"))
}

/// The classic histogram that a series of this name is of, if it is of one.
fn classic<'a>(recorded: &BTreeMap<String, bool>, name: &'a str) -> Option<&'a str> {
    let series = ["_bucket", "_sum", "_count"];
    let base = series.iter().find_map(|suffix| name.strip_suffix(suffix));
    base.filter(|base| recorded.get(*base) == Some(&true))
}

fn program() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("src/telemetry/metrics.rs")).expect("is there")
}

/// What is wrong with the names in `metrics.rs`: the names recorded, and what was found.
fn metrics(text: &str) -> (BTreeMap<String, bool>, Vec<String>) {
    // Names are in texts, so the file is read as written; the part that describes is one function.
    let start = text.find("\nfn describe()").map_or(text.len(), |at| at + 1);
    let end = text[start..]
        .find("\n}")
        .map_or(text.len(), |at| start + at);
    let described: BTreeSet<_> = metric_names(&text[start..end]).collect();
    let recording = format!("{}{}", &text[..start], &text[end..]);
    let kinds = [
        "counter!(",
        "gauge!(",
        "histogram!(",
        "::counters(",
        "::histograms(",
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
    let (recorded, mut found) = metrics(&program());
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

/// Histograms that a text asks for, each as often as it does: those of classic ones, and native ones.
fn histograms_asked<'a>(
    recorded: &BTreeMap<String, bool>,
    text: &'a str,
) -> [BTreeMap<&'a str, usize>; 2] {
    let [mut of_classic, mut of_native] = [BTreeMap::new(), BTreeMap::new()];
    for name in metric_names(text) {
        if let Some(base) = classic(recorded, name) {
            *of_classic.entry(base).or_default() += 1;
        } else if recorded.get(name) == Some(&true) {
            *of_native.entry(name).or_default() += 1;
        }
    }
    [of_classic, of_native]
}

/// Whoever keeps native histograms has no classic ones, and the other way round.
#[test]
fn what_asks_for_a_histogram_asks_for_both_sorts() {
    let (recorded, _) = metrics(&program());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("grafana/alerts.yml")).expect("is there");
    // Each rule is several lines, and each query of a dashboard one.
    let mut texts: Vec<String> = rules.split("- alert:").map(str::to_owned).collect();
    for dashboard in source::read("grafana", "json") {
        texts.extend(dashboard.lines.iter().map(|line| line.text.clone()));
    }
    let (mut asked, mut found) = (0, Vec::new());
    for text in &texts {
        let [classic, native] = histograms_asked(&recorded, text);
        asked += classic.len();
        if classic != native {
            found.push(format!(
                "{}: classic {classic:?}, native {native:?}",
                text.trim()
            ));
        }
    }
    assert!(asked > 40, "{asked} were found");
    none(found);
    let one = "rate(hearth_run_seconds_bucket[5m]) or rate(hearth_run_seconds_sum[5m]) or rate(hearth_run_seconds[5m])";
    let [classic, native] = histograms_asked(&recorded, one);
    assert_eq!(classic["hearth_run_seconds"], 2);
    assert_eq!(native["hearth_run_seconds"], 1);
}

/// Whether a scrape has this name; a histogram has three if it is a classic one, and its own if it is native.
fn exists(recorded: &BTreeMap<String, bool>, name: &str) -> bool {
    recorded.contains_key(name) || classic(recorded, name).is_some()
}

#[test]
fn the_metrics_check_fires() {
    let text = "\nfn describe() {\n    for n in [\"hearth_a\", \"hearth_unused\"] {}\n}\n\
        fn a() { metrics::counter!(\"hearth_a\"); metrics::histogram!(\n \"hearth_b_seconds\"); }\n\
        fn b() { Shown::histograms(\n\"hearth_c_seconds\", [\"l\"], help); }";
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
    assert!(exists(&recorded, "hearth_c_seconds"));
    assert!(!exists(&recorded, "hearth_a_bucket") && !exists(&recorded, "hearth_c"));
}
