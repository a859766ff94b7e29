//! That the dashboards are what Grafana takes, and ask for what there is: their shape, their places, and every expression's brackets,
//! variables and labels. (That the metrics exist is `metrics`' business.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::{is_word, none, source};

/// The oldest schema that is loaded without being rewritten into something else.
const SCHEMA_MIN: u64 = 39;
const COLUMNS: u64 = 24;
const PANELS: [&str; 4] = ["row", "stat", "table", "timeseries"];
/// Labels that the scrape adds, and the one of buckets.
const LABELS: [&str; 3] = ["instance", "job", "le"];
const WORDS_BEFORE_LABELS: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];

/// Which labels each metric is recorded with.
fn labels_recorded(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rest in text.split("metrics::").skip(1) {
        let statement = rest.split(';').next().unwrap_or(rest);
        let mut texts = statement.split('"').skip(1).step_by(2).zip(
            // What follows each text.
            statement.split('"').skip(2).step_by(2),
        );
        let Some((name, _)) = texts.next().filter(|(name, _)| name.starts_with("hearth_")) else {
            continue;
        };
        let labels = texts.filter(|(_, after)| after.trim_start().starts_with("=>"));
        let labels = labels.map(|(label, _)| label.to_owned());
        recorded.entry(name.to_owned()).or_default().extend(labels);
    }
    // Those of single functions: the name, and the list of their labels.
    let families = ["::counters(", "::histograms("].map(|kind| text.split(kind).skip(1));
    for rest in families.into_iter().flatten() {
        let statement = rest.split(']').next().unwrap_or(rest);
        let mut texts = statement.split('"').skip(1).step_by(2);
        if let Some(name) = texts.next().filter(|name| name.starts_with("hearth_")) {
            let labels = texts.map(str::to_owned);
            recorded.entry(name.to_owned()).or_default().extend(labels);
        }
    }
    recorded
}

/// Everything in a dashboard that is not as it should be.
fn faults(dashboard: &Value, recorded: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for key in ["uid", "title"] {
        if dashboard[key].as_str().is_none_or(str::is_empty) {
            found.push(format!("it has no {key}"));
        }
    }
    if dashboard["schemaVersion"]
        .as_u64()
        .is_none_or(|v| v < SCHEMA_MIN)
    {
        found.push(format!("its schemaVersion is below {SCHEMA_MIN}"));
    }
    let variables = list(&dashboard["templating"]["list"]);
    let named = variables.iter().filter_map(|v| v["name"].as_str());
    let named: BTreeSet<_> = named.collect();
    if !variables
        .iter()
        .any(|v| v["type"] == "datasource" && v["name"] == "datasource")
    {
        found.push("it has no variable for the data source".into());
    }
    let panels = dashboard["panels"].as_array().unwrap_or(&empty);
    if panels.is_empty() {
        found.push("it has no panels".into());
    }
    let (mut ids, mut places) = (BTreeSet::new(), Vec::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut wrong = |what: &str| found.push(format!("panel {title:?}: {what}"));
        if title.is_empty() {
            wrong("it has no title");
        }
        if !PANELS.contains(&panel["type"].as_str().unwrap_or_default()) {
            wrong("its type is not one of Grafana's own that are used here");
        }
        if !panel["id"].as_u64().is_some_and(|id| ids.insert(id)) {
            wrong("its id is missing or another's");
        }
        match place(&panel["gridPos"]) {
            None => wrong("its place is missing or beyond the last column"),
            Some(place) if places.iter().any(|other| overlap(place, *other)) => {
                wrong("it covers another");
            }
            Some(place) => places.push(place),
        }
        if panel["type"] == "row" {
            continue;
        }
        let targets = list(&panel["targets"]);
        if targets.is_empty() {
            wrong("it asks for nothing");
        }
        let mut letters = BTreeSet::new();
        for part in std::iter::once(panel).chain(&targets) {
            if part["datasource"]["uid"] != "${datasource}" {
                wrong("its data source is not the variable");
            }
        }
        for target in &targets {
            if !letters.insert(target["refId"].to_string()) {
                wrong("two of its queries have one letter");
            }
            let expression = target["expr"].as_str().unwrap_or_default();
            for what in expression_faults(expression, &named, recorded) {
                wrong(&format!("{what} in {expression:?}"));
            }
        }
    }
    found
}

type Place = (u64, u64, u64, u64);

fn place(value: &Value) -> Option<Place> {
    let field = |name: &str| value[name].as_u64();
    let place = (field("x")?, field("y")?, field("w")?, field("h")?);
    (place.2 > 0 && place.3 > 0 && place.0 + place.2 <= COLUMNS).then_some(place)
}

fn overlap(a: Place, b: Place) -> bool {
    a.0 < b.0 + b.2 && b.0 < a.0 + a.2 && a.1 < b.1 + b.3 && b.1 < a.1 + a.3
}

/// What is wrong with a query: brackets and quotes, variables nobody defines, labels no metric in it has.
fn expression_faults(
    text: &str,
    variables: &BTreeSet<&str>,
    recorded: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut found = Vec::new();
    if text.trim().is_empty() {
        return vec!["there is nothing".into()];
    }
    // Texts are taken out first: what is in them is no syntax.
    let mut parts = text.split('"');
    let code: String = parts.by_ref().step_by(2).collect::<Vec<_>>().join("\"\"");
    if !text.matches('"').count().is_multiple_of(2) {
        found.push("a quote stays open".into());
    }
    let mut open = Vec::new();
    for c in code.chars() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => found.push(format!("{c} closes nothing")),
            _ => {}
        }
    }
    found.extend(open.iter().map(|c| format!("{c} is missing")));
    for rest in text.split('$').skip(1) {
        let name = rest.trim_start_matches('{');
        let name: String = name.chars().take_while(|c| is_word(*c)).collect();
        if name != "__rate_interval" && !variables.contains(name.as_str()) {
            found.push(format!("there is no variable ${name}"));
        }
    }
    let words: Vec<_> = code
        .split(|c| !is_word(c))
        .filter(|w| !w.is_empty())
        .collect();
    let metrics = words.iter().filter_map(|word| {
        let series = ["_bucket", "_sum", "_count"];
        let base = series.iter().find_map(|suffix| word.strip_suffix(suffix));
        recorded.get(*word).or_else(|| recorded.get(base?))
    });
    let known: BTreeSet<&str> = metrics
        .flatten()
        .map(String::as_str)
        .chain(LABELS)
        .collect();
    let matched = code.split(['{', ',']).filter_map(|part| {
        let end = part.find(['=', '!'])?;
        let label = part[..end].trim();
        (!label.is_empty() && label.chars().all(is_word)).then_some(label)
    });
    let grouped = WORDS_BEFORE_LABELS.iter().flat_map(|word| {
        let lists = code.match_indices(&format!("{word} (")).collect::<Vec<_>>();
        let inside = lists
            .into_iter()
            .map(|(at, start)| &code[at + start.len()..]);
        inside.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','))
    });
    for label in matched.chain(grouped.map(str::trim)) {
        if !known.contains(label) {
            found.push(format!("no metric here has the label {label}"));
        }
    }
    found
}

#[test]
fn dashboards_are_whole_and_ask_for_labels_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("src/telemetry/metrics.rs")).expect("is there");
    let recorded = labels_recorded(&text);
    assert!(
        recorded["hearth_invocations_total"].contains("function"),
        "the labels were not found: {recorded:?}"
    );
    let (mut found, mut uids) = (Vec::new(), BTreeSet::new());
    let dashboards = source::read("grafana/dashboards", "json");
    assert!(!dashboards.is_empty(), "the dashboards were not found");
    for file in dashboards {
        let text: Vec<_> = file.lines.iter().map(|line| line.text.as_str()).collect();
        let path = &file.path;
        match serde_json::from_str::<Value>(&text.join("\n")) {
            Err(error) => found.push(format!("{path}:{}: {error}", error.line())),
            Ok(dashboard) => {
                let wrong = faults(&dashboard, &recorded);
                found.extend(wrong.iter().map(|what| format!("{path}: {what}")));
                if !uids.insert(dashboard["uid"].to_string()) {
                    found.push(format!("{path}: its uid is another's"));
                }
            }
        }
    }
    none(found);
}

#[test]
fn the_dashboards_check_fires() {
    let recorded = labels_recorded(
        "metrics::counter!(\"hearth_a_total\", \"kind\" => kind);\n\
         metrics::histogram!(\"hearth_b_seconds\");",
    );
    let variables = BTreeSet::from(["instance"]);
    let faults_of = |text: &str| expression_faults(text, &variables, &recorded);
    for good in [
        "sum by (kind) (rate(hearth_a_total{kind!=\"x(\", instance=~\"$instance\"}[$__rate_interval]))",
        "histogram_quantile(0.5, sum by (le) (rate(hearth_b_seconds_bucket[5m])))",
        "hearth_a_total / on (job) hearth_a_total > 1",
    ] {
        none(faults_of(good));
    }
    for bad in [
        "",
        "sum (hearth_a_total",
        "sum (hearth_a_total))",
        "rate(hearth_a_total[5m)]",
        "hearth_a_total{kind=\"x}",
        "hearth_a_total{kind=\"$nobody\"}",
        "hearth_a_total{color=\"red\"}",
        "sum by (color) (hearth_a_total)",
        "sum by (kind) (hearth_b_seconds_count)",
    ] {
        assert!(!faults_of(bad).is_empty(), "{bad:?}");
    }

    let panel = |id: u64, x: u64| {
        serde_json::json!({
            "id": id, "type": "stat", "title": "t", "datasource": { "uid": "${datasource}" },
            "gridPos": { "x": x, "y": 0, "w": 12, "h": 4 },
            "targets": [{ "refId": "A", "datasource": { "uid": "${datasource}" }, "expr": "hearth_a_total" }],
        })
    };
    let good = serde_json::json!({
        "uid": "u", "title": "t", "schemaVersion": SCHEMA_MIN,
        "templating": { "list": [{ "type": "datasource", "name": "datasource" }] },
        "panels": [panel(1, 0), panel(2, 12)],
    });
    none(faults(&good, &recorded));
    let broken: [(&str, Value); 9] = [
        ("/uid", "".into()),
        ("/schemaVersion", 16.into()),
        ("/templating/list", Value::Array(Vec::new())),
        ("/panels", Value::Array(Vec::new())),
        ("/panels/1/id", 1.into()),
        ("/panels/1/gridPos/x", 11.into()),
        ("/panels/1/gridPos/w", 13.into()),
        ("/panels/0/type", "graph".into()),
        ("/panels/0/targets/0/datasource", "Prometheus".into()),
    ];
    for (pointer, value) in broken {
        let mut dashboard = good.clone();
        *dashboard.pointer_mut(pointer).expect(pointer) = value;
        assert_eq!(faults(&dashboard, &recorded).len(), 1, "{pointer}");
    }
}
