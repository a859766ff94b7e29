//! A bench as one page: no request to anywhere, no script, readable in light and dark. Every number stands in it as in the JSON, in
//! `data-value` of the cell that shows it rounded. Pure: a document in, text out.

use crate::load::document::{Document, Quantile};
use crate::load::plot::{Axis, Line, Plot, escape};
use crate::load::report::{Percentiles, Report};
use crate::load::series::Point;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--faint:#6a737d;--grid:#d8dee4;--ground:#fff;--panel:#f6f8fa;--bad:#c62828;--good:#1b7f3b;--c0:#1f6feb;--c1:#d9730d;--c2:#8250df}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#8b949e;--grid:#30363d;--ground:#0d1117;--panel:#161b22;--bad:#ff7b72;--good:#56d364;--c0:#58a6ff;--c1:#f0883e;--c2:#bc8cff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.faint{color:var(--faint)}.bad{color:var(--bad)}.good{color:var(--good)}
dl{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.5rem 0}dl div{background:var(--panel);border-radius:8px;padding:.6rem 1rem;min-width:7rem}
dt{color:var(--faint);font-size:.85rem}dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--grid);white-space:nowrap}th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto;background:var(--panel);border-radius:8px}svg text{font-size:11px;fill:var(--faint)}
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--grid);stroke-width:1}
polyline{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.l0{stroke:var(--c0);stroke-width:1.8}.l1{stroke:var(--c1);stroke-width:1.8}.l2{stroke:var(--c2);stroke-width:1.8}
";

pub fn html(document: &Document) -> String {
    let title = escape(&document.title);
    let body = [
        heading(document),
        figures(document),
        thresholds(document),
        table(document),
        plots(document),
        phases(&document.total),
        counts(&document.total),
        conditions(document),
    ]
    .concat();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{title}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )
}

fn heading(document: &Document) -> String {
    format!(
        "<h1>{}</h1><p class=\"faint\">hearth {} · {} · {} arrivals, {} connections</p>\n",
        escape(&document.title),
        escape(&document.hearth),
        escape(&document.started_at),
        document.load.arrivals,
        document.load.connections
    )
}

/// A number as the JSON has it, and as a person reads it.
fn number(element: &str, value: f64, text: &str) -> String {
    let value = serde_json::to_string(&value).unwrap_or_default();
    format!("<{element} data-value=\"{value}\">{text}</{element}>")
}

fn figures(document: &Document) -> String {
    let Document { total, cpu, .. } = document;
    let of = |name: &str, value: Option<f64>, digits: usize| {
        let shown = match value {
            Some(value) => number("dd", value, &format!("{value:.digits$}")),
            None => "<dd>–</dd>".to_owned(),
        };
        format!("<div><dt>{name}</dt>{shown}</div>")
    };
    let some = |value: f64| (total.calls > 0).then_some(value);
    let rate = total.error_rate().map(|rate| rate * 100.0);
    let cpu = cpu.as_ref().and_then(|cpu| cpu.us_per_call);
    format!(
        "<dl>{}{}{}{}{}{}</dl>\n",
        of("calls", Some(total.calls as f64), 0),
        of("calls / s", Some(total.per_second), 1),
        of("p50 ms", some(total.latency_ms.p50), 3),
        of("p99 ms", some(total.latency_ms.p99), 3),
        of("errors %", rate, 2),
        of("CPU µs / call", cpu, 1),
    )
}

fn thresholds(document: &Document) -> String {
    if document.thresholds.is_empty() {
        return String::new();
    }
    let row = |judged: &crate::load::threshold::Judged| {
        let (class, word) = match judged.missed {
            true => ("bad", "missed"),
            false => ("good", "held"),
        };
        let value = match judged.value {
            Some(value) => number("td", value, &format!("{value:.3}")),
            None => {
                let why = judged.reason.as_deref().unwrap_or("not measured");
                format!("<td>{}</td>", escape(why))
            }
        };
        let condition = escape(&judged.condition);
        format!("<tr><td>{condition}</td>{value}<td class=\"{class}\">{word}</td></tr>")
    };
    let rows: String = document.thresholds.iter().map(row).collect();
    format!(
        "<h2>Thresholds</h2><table><tr><th>fails if</th><th>measured</th><th></th></tr>{rows}</table>\n"
    )
}

fn table(document: &Document) -> String {
    let total = &document.total;
    let mut rows = String::new();
    if document.functions.len() > 1 {
        rows.extend(document.functions.iter().map(|f| row(&f.name, &f.report)));
    }
    rows.push_str(&row("all", total));
    if let Some(measured) = &total.uncorrected_latency_ms {
        rows.push_str("<tr><td>all, as measured</td><td></td><td></td>");
        rows.push_str(&percentiles(measured));
        rows.push_str("<td></td><td></td></tr>");
    }
    let notes: String = total
        .notes()
        .iter()
        .map(|note| format!("<p>{note}.</p>"))
        .collect();
    format!(
        "<h2>Latency in ms</h2><div class=\"scroll\"><table id=\"latency\"><tr><th></th><th>calls</th><th>/ s</th>\
         <th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th><th>mean</th><th>errors</th><th>not answered</th></tr>{rows}</table></div>{notes}\n"
    )
}

fn row(name: &str, report: &Report) -> String {
    let errors = report.errors();
    format!(
        "<tr><td>{}</td>{}{}{}{}{}</tr>",
        escape(name),
        number("td", report.calls as f64, &report.calls.to_string()),
        number(
            "td",
            report.per_second,
            &format!("{:.1}", report.per_second)
        ),
        percentiles(&report.latency_ms),
        number("td", errors as f64, &errors.to_string()),
        number(
            "td",
            report.unanswered as f64,
            &report.unanswered.to_string()
        ),
    )
}

fn percentiles(p: &Percentiles) -> String {
    let all = [p.p50, p.p90, p.p95, p.p99, p.p99_9, p.max, p.mean];
    all.iter()
        .map(|ms| number("td", *ms, &format!("{ms:.3}")))
        .collect()
}

fn plots(document: &Document) -> String {
    let series = &document.series;
    if series.is_empty() {
        return String::new();
    }
    let corrected = document.total.uncorrected_latency_ms.is_some();
    let line = |name, of: fn(&Point) -> Option<f64>| {
        Line::new(name, series.iter().map(move |p| (p.at_seconds, of(p))))
    };
    let latency = Plot {
        title: "latency over time",
        across: Axis::Linear(match corrected {
            false => "seconds, when calls were due; of those that were answered",
            true => "seconds, when calls were sent; as measured, of those that were answered",
        }),
        up: "ms",
        lines: vec![
            line("p50", |p| p.p50_ms),
            line("p99", |p| p.p99_ms),
            line("max", |p| p.max_ms),
        ],
    };
    let rates = Plot {
        title: "calls over time",
        across: Axis::Linear("seconds"),
        up: "calls a second",
        lines: vec![
            line("due", |p| Some(p.due_per_second)),
            line("answered", |p| Some(p.answered_per_second)),
            line("errors", |p| Some(p.errors_per_second)),
        ],
    };
    let by_quantile = |name, quantiles: &[Quantile]| {
        Line::new(name, quantiles.iter().map(|q| (q.quantile, Some(q.ms))))
    };
    let mut lines = vec![by_quantile("latency", &document.quantiles)];
    if corrected {
        lines.push(by_quantile("as measured", &document.uncorrected_quantiles));
    }
    let tail = Plot {
        title: "latency by quantile",
        across: Axis::Nines("quantile, of calls that were answered"),
        up: "ms",
        lines,
    };
    format!(
        "<h2>Latency over time</h2>{}\n<h2>Calls over time</h2>{}\n<h2>Latency by quantile</h2>{}\n",
        latency.svg(),
        rates.svg(),
        tail.svg()
    )
}

fn phases(total: &Report) -> String {
    if total.phases_ms.is_empty() {
        return String::new();
    }
    let row = |(name, p): (&String, &Percentiles)| {
        format!("<tr><td>{}</td>{}</tr>", escape(name), percentiles(p))
    };
    let rows: String = total.phases_ms.iter().map(row).collect();
    format!(
        "<h2>Of it, by Server-Timing, in ms</h2><div class=\"scroll\"><table id=\"phases\"><tr><th></th><th>p50</th><th>p90</th><th>p95</th>\
         <th>p99</th><th>p99.9</th><th>max</th><th>mean</th></tr>{rows}</table></div>\n"
    )
}

fn counts(total: &Report) -> String {
    let statuses = total.statuses.iter().map(|(s, n)| (s.to_string(), *n));
    let starts = total.starts.iter().map(|(s, n)| (format!("start {s}"), *n));
    let failures = total
        .failures
        .iter()
        .map(|(s, n)| (format!("no answer: {s}"), *n));
    let unsent = (total.unsent > 0).then(|| ("not sent in time".to_owned(), total.unsent));
    let all = statuses.chain(starts).chain(failures).chain(unsent);
    let rows: String = all
        .map(|(what, n)| {
            let cell = number("td", n as f64, &n.to_string());
            format!("<tr><td>{}</td>{cell}</tr>", escape(&what))
        })
        .collect();
    format!(
        "<h2>Answers</h2><table id=\"answers\"><tr><th></th><th>calls</th></tr>{rows}</table>\n"
    )
}

fn conditions(document: &Document) -> String {
    let Document {
        load,
        machine,
        warm_up,
        cpu,
        ..
    } = document;
    let planned = load
        .planned
        .map_or(String::new(), |n| format!(", {n} calls planned"));
    let cpu = match cpu {
        Some(cpu) => format!(
            "<li>processor time of process {}: {:.3} s, {:.1} % of one processor</li>",
            cpu.pid, cpu.seconds, cpu.percent
        ),
        None => String::new(),
    };
    format!(
        "<h2>Conditions</h2><ul><li>{} arrivals over {} s{planned}, {} connections, seed {}</li>\
         <li>warm-up: {} s, {} calls, {} errors, not counted above</li>{cpu}\
         <li>{} processors, Linux {}; the load was sent from the same machine</li></ul>\n",
        load.arrivals,
        load.seconds,
        load.connections,
        load.seed,
        load.warm_up_seconds,
        warm_up.calls,
        warm_up.errors,
        machine.processors,
        escape(&machine.kernel)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::document;

    /// The tags of a page, opened and closed in order. Not a parser of HTML, but of what this module writes.
    fn well_formed(page: &str) -> usize {
        let page = page.strip_prefix("<!DOCTYPE html>").expect("its type");
        let (mut open, mut count, mut rest) = (Vec::new(), 0, page);
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>'), "a bare > before {}", &rest[at..]);
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag}");
            count += 1;
            match (tag.strip_prefix('/'), tag.ends_with('/')) {
                (Some(name), _) => assert_eq!(open.pop().as_deref(), Some(name)),
                (None, true) => {}
                (None, false) => {
                    let name = tag.split(' ').next().expect("a name");
                    open.push(name.to_owned());
                }
            }
            rest = &rest[end + 1..];
            // A style sheet has its own grammar.
            if tag == "style" {
                rest = &rest[rest.find("</style>").expect("it ends")..];
            }
        }
        assert_eq!(open, [""; 0]);
        count
    }

    /// The values of the cells of the row that begins with this text.
    fn values(page: &str, table: &str, name: &str) -> Vec<f64> {
        let table = page
            .split(&format!("id=\"{table}\""))
            .nth(1)
            .expect("the table");
        let row = table
            .split(&format!("<tr><td>{name}</td>"))
            .nth(1)
            .expect("the row");
        let row = row.split("</tr>").next().expect("its end");
        let cells = row.split("data-value=\"").skip(1);
        let text = cells.map(|cell| cell.split('"').next().expect("a value"));
        text.map(|value| value.parse().expect("a number")).collect()
    }

    #[test]
    fn a_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        let page = html(&document::example());
        assert!(well_formed(&page) > 100);
        assert!(page.contains("an &lt;example&gt; &amp; more"));
        for outside in [
            "<script", "http:", "https:", "src=", "href=", "@import", "url(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("class=\"bad\">missed"));
    }

    #[test]
    fn its_numbers_are_those_of_the_json() {
        let document = document::example();
        let json = serde_json::to_value(&document).expect("JSON");
        let page = html(&document);
        let of = |report: &serde_json::Value| {
            let latency = &report["latency_ms"];
            let names = ["p50", "p90", "p95", "p99", "p99.9", "max", "mean"];
            let mut all = vec![&report["calls"], &report["per_second"]];
            all.extend(names.map(|name| &latency[name]));
            all.iter()
                .map(|v| v.as_f64().expect("a number"))
                .collect::<Vec<_>>()
        };
        let shown = values(&page, "latency", "all");
        assert_eq!(shown[..9], of(&json["total"]));
        assert_eq!(shown[9], document.total.errors() as f64);
        assert_eq!(Some(shown[10]), json["total"]["unanswered"].as_f64());
        assert_eq!(shown[10], 4.0);
        let note = "latencies are of the 400 calls that were answered; 4 of 404 were not";
        assert!(page.contains(note));
        for function in json["functions"].as_array().expect("functions") {
            let name = function["name"].as_str().expect("a name");
            assert_eq!(values(&page, "latency", name)[..9], of(function));
        }
        let run = values(&page, "phases", "run");
        assert_eq!(
            Some(run[0]),
            json["total"]["phases_ms"]["run"]["p50"].as_f64()
        );
        assert_eq!(values(&page, "answers", "200"), [399.0]);
    }

    #[test]
    fn a_closed_loop_shows_what_it_left_out_and_what_it_measured() {
        let mut tally = [crate::load::tally::Tally::default()];
        for n in 0..1_000 {
            let took = std::time::Duration::from_millis(if n == 500 { 1_000 } else { 1 });
            tally[0].answered(took, took, 200);
        }
        crate::load::omission::correct(&mut tally);
        let mut document = document::example();
        document.total = Report::of(&tally[0]);
        document.quantiles = crate::load::bench::quantiles(&tally[0].corrected());
        document.uncorrected_quantiles = crate::load::bench::quantiles(tally[0].latency());
        let page = html(&document);
        well_formed(&page);
        let (all, measured) = (
            values(&page, "latency", "all"),
            values(&page, "latency", "all, as measured"),
        );
        assert!(all[5] > 900.0, "p99: {all:?}");
        assert!(measured[3] < 2.0, "p99: {measured:?}");
        assert!(page.contains(">as measured<"), "its own line in the plot");
    }

    #[test]
    fn a_run_without_answers_has_a_page_too() {
        let mut document = document::example();
        document.total = Report::of(&crate::load::tally::Tally::default());
        (document.series, document.quantiles, document.cpu) = (Vec::new(), Vec::new(), None);
        document.thresholds.clear();
        well_formed(&html(&document));
    }
}
