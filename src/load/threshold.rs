//! What a bench must not come to, as a person writes it: `p99>20ms`, `error_rate>0.1%`, `hello:throughput<500`. Pure: read from text,
//! judged against a document.
//!
//! A figure that could not be measured misses its threshold: a run in which nobody answered must not pass because nothing was slow.
//! For the same reason a latency is judged over all calls that were due, and one without a good answer took longer than any other.

use serde::Serialize;

use crate::load::document::Document;
use crate::load::report::Report;

#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    /// The function it is about; all together if none is named.
    function: Option<String>,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    P50,
    P90,
    P95,
    P99,
    P99_9,
    Max,
    Mean,
    ErrorRate,
    Errors,
    Unsent,
    Calls,
    Throughput,
    Cpu,
}

const FIGURES: [(&str, Figure); 13] = [
    ("p50", Figure::P50),
    ("p90", Figure::P90),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("p99.9", Figure::P99_9),
    ("max", Figure::Max),
    ("mean", Figure::Mean),
    ("error_rate", Figure::ErrorRate),
    ("errors", Figure::Errors),
    ("unsent", Figure::Unsent),
    ("calls", Figure::Calls),
    ("throughput", Figure::Throughput),
    ("cpu", Figure::Cpu),
];

/// A unit, as it is written, and what it is in the figure's own.
type Unit = (&'static str, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Longer ones first: `>` is the beginning of `>=`.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// What a threshold came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// As it was written.
    pub condition: String,
    /// In milliseconds, per cent, calls a second or microseconds; nothing when it could not be measured.
    pub value: Option<f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub missed: bool,
}

impl Threshold {
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = COMPARISONS
            .iter()
            .filter_map(|(sign, comparison)| Some((text.find(sign)?, *sign, *comparison)))
            .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
        let Some((at, sign, comparison)) = found else {
            return Err(format!(
                "{text:?} compares nothing, expected something like p99>20ms"
            ));
        };
        let (left, right) = (text[..at].trim(), text[at + sign.len()..].trim());
        let (function, name) = match left.rsplit_once(':') {
            Some((function, name)) => (Some(function.trim()), name.trim()),
            None => (None, left),
        };
        if function == Some("") {
            return Err(format!("{text:?} names no function before the colon"));
        }
        let Some((_, figure)) = FIGURES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = FIGURES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "{name:?} is no figure, there are {}",
                known.join(", ")
            ));
        };
        let bound = figure.amount(right).ok_or_else(|| {
            let units: Vec<_> = figure.units().iter().map(|(unit, _)| *unit).collect();
            let units = match units.as_slice() {
                [""] => "a number".to_owned(),
                units => format!("a number and one of: {}", units.join(" ").trim()),
            };
            format!("{right:?} is no bound for {name}, expected {units}")
        })?;
        if function.is_some() && *figure == Figure::Cpu {
            return Err(format!("{name} is not known by function"));
        }
        Ok(Self {
            text: text.trim().to_owned(),
            function: function.map(str::to_owned),
            figure: *figure,
            comparison,
            bound,
        })
    }

    /// The function it is about, if it is about one.
    pub fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// Whether it needs a process whose processor time can be read.
    pub fn needs_process(&self) -> bool {
        self.figure == Figure::Cpu
    }

    pub fn judge(&self, document: &Document) -> Judged {
        let report = match &self.function {
            None => Some(&document.total),
            Some(name) => document
                .functions
                .iter()
                .find(|function| function.name == *name)
                .map(|function| &function.report),
        };
        let value = match self.figure {
            Figure::Cpu => document.cpu.as_ref().and_then(|cpu| cpu.us_per_call),
            figure => report.and_then(|report| figure.of(report)),
        };
        let missed = value.is_none_or(|value| match self.comparison {
            Comparison::Above => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
            Comparison::Below => value < self.bound,
            Comparison::AtMost => value <= self.bound,
        });
        Judged {
            condition: self.text.clone(),
            value,
            reason: value.is_none().then(|| self.reason(report)),
            missed,
        }
    }

    /// Why there is no value to judge.
    fn reason(&self, report: Option<&Report>) -> String {
        let known = FIGURES.iter().find(|(_, figure)| *figure == self.figure);
        let name = known.map_or("it", |(name, _)| name);
        let why = match report.map(|report| (report, report.due)) {
            _ if self.figure == Figure::Cpu => "the server's process was not measured".into(),
            None => "nothing of that name was called".into(),
            Some((_, due)) if due.calls == 0 => "no call was sent".into(),
            Some((_, due)) if self.figure == Figure::ErrorRate => {
                format!("none of {} calls was sent", due.calls)
            }
            Some((report, due)) => {
                let (without, calls) = (due.without_good_answer, due.calls);
                match without == report.unanswered {
                    true => format!("{without} of {calls} calls were not answered"),
                    false => format!("{without} of {calls} calls had no good answer"),
                }
            }
        };
        format!("{name} is not known: {why}")
    }
}

impl Figure {
    fn units(self) -> &'static [Unit] {
        match self {
            Figure::P50
            | Figure::P90
            | Figure::P95
            | Figure::P99
            | Figure::P99_9
            | Figure::Max
            | Figure::Mean => &[("us", 1e-3), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)],
            Figure::ErrorRate => &[("%", 1.0)],
            Figure::Throughput => &[("/s", 1.0), ("", 1.0)],
            Figure::Cpu => &[("us", 1.0), ("µs", 1.0), ("ms", 1e3)],
            Figure::Errors | Figure::Unsent | Figure::Calls => &[("", 1.0)],
        }
    }

    /// A number with its unit, in the figure's own.
    fn amount(self, text: &str) -> Option<f64> {
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[number.len()..].trim();
        let (_, factor) = self.units().iter().find(|(known, _)| *known == unit)?;
        let value: f64 = number.trim().parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some(value * factor)
    }

    fn of(self, report: &Report) -> Option<f64> {
        let latency = &report.due.latency_ms;
        match self {
            Figure::P50 => latency.p50,
            Figure::P90 => latency.p90,
            Figure::P95 => latency.p95,
            Figure::P99 => latency.p99,
            Figure::P99_9 => latency.p99_9,
            Figure::Max => latency.max,
            Figure::Mean => latency.mean,
            Figure::ErrorRate => report.error_rate().map(|rate| rate * 100.0),
            Figure::Errors => Some(report.errors() as f64),
            Figure::Unsent => Some(report.unsent as f64),
            Figure::Calls => Some(report.calls as f64),
            Figure::Throughput => Some(report.per_second),
            Figure::Cpu => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::document;

    fn judged(text: &str) -> Judged {
        let threshold = Threshold::parse(text).expect(text);
        threshold.judge(&document::example())
    }

    #[test]
    fn conditions_are_judged_by_the_figures_of_the_document() {
        let document = document::example();
        let p90 = document.total.due.latency_ms.p90.expect("known");
        for (text, missed) in [
            (format!("p90>{}ms", p90 + 1.0), false),
            (format!("p90 > {}ms", p90 - 1.0), true),
            (format!("p90>={p90}ms"), true),
            (format!("p90<={}s", p90 / 1e3 + 1.0), true),
            ("errors>0".into(), true),
            ("error_rate>50%".into(), false),
            ("throughput<1/s".into(), false),
            ("calls<1000000".into(), true),
            ("cpu>1ms".into(), false),
            ("unsent>=1".into(), true),
            ("hello-two:unsent>0".into(), false),
        ] {
            assert_eq!(judged(&text).missed, missed, "{text}");
        }
        let one = &document.functions[0];
        let text = format!("{}:p50>0us", one.name);
        assert_eq!(judged(&text).value, one.report.due.latency_ms.p50);
        assert_eq!(judged(&text).reason, None);
    }

    /// A run of so many calls that were answered, timed out, and were not sent.
    fn document_of(answered: usize, timeouts: usize, unsent: usize) -> Document {
        use crate::load::connection::Failure;
        use std::time::Duration;
        let mut tally = crate::load::tally::Tally::default();
        let took = Duration::from_millis(100);
        (0..answered).for_each(|_| tally.answered(took, took, 200));
        (0..timeouts).for_each(|_| tally.failed(Failure::Timeout, took));
        tally.finish(Duration::from_secs(10), unsent);
        let mut document = document::example();
        document.total = Report::of(&tally);
        document
    }

    #[test]
    fn a_call_without_an_answer_is_slower_than_any_bound() {
        let judge = |text: &str, document: &Document| {
            let judged = Threshold::parse(text).expect(text).judge(document);
            (judged.missed, judged.reason)
        };
        let slow = document_of(64, 15, 0);
        let because = |text: &str| (true, Some(text.to_owned()));
        for (figure, why) in [
            ("p99", "p99 is not known: 15 of 79 calls were not answered"),
            ("max", "max is not known: 15 of 79 calls were not answered"),
            (
                "mean",
                "mean is not known: 15 of 79 calls were not answered",
            ),
        ] {
            for comparison in [">140ms", "<1ms"] {
                let text = format!("{figure}{comparison}");
                assert_eq!(judge(&text, &slow), because(why), "{text}");
            }
        }
        assert_eq!(judge("p50>140ms", &slow), (false, None));
        let late = document_of(14, 0, 985);
        let why = "p50 is not known: 985 of 999 calls were not answered";
        assert_eq!(judge("p50>10s", &late), because(why));
        // One of its answers was an error, none is missing.
        let why = "max is not known: 1 of 300 calls had no good answer";
        assert_eq!(
            judge("hello-one:max>1s", &document::example()),
            because(why)
        );
        let why = "error_rate is not known: none of 7 calls was sent";
        assert_eq!(judge("error_rate>1%", &document_of(0, 0, 7)), because(why));
    }

    #[test]
    fn a_closed_loop_is_judged_with_what_it_left_out() {
        use std::time::Duration;
        let mut tally = crate::load::tally::Tally::default();
        for n in 0..1_000 {
            let took = Duration::from_millis(if n == 500 { 1_000 } else { 1 });
            tally.answered(took, took, 200);
        }
        let mut document = document::example();
        document.total = Report::of(&tally);
        let threshold = Threshold::parse("p99>100ms").expect("good");
        assert!(!threshold.judge(&document).missed, "as measured");
        let mut one = [tally];
        crate::load::omission::correct(&mut one);
        document.total = Report::of(&one[0]);
        let judged = threshold.judge(&document);
        assert!(judged.missed, "{judged:?}");
        assert_eq!(judged.value, Some(document.total.latency_ms.p99));
        let measured = document.total.uncorrected_latency_ms.expect("kept");
        assert!(measured.p99 < 2.0 && document.total.latency_ms.p99 > 900.0);
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let mut document = document::example();
        document.total = Report::of(&crate::load::tally::Tally::default());
        document.cpu = None;
        for text in ["p50>1s", "error_rate>5%", "cpu>1ms", "nobody:p50>1s"] {
            let judged = Threshold::parse(text).expect(text).judge(&document);
            assert_eq!((judged.value, judged.missed), (None, true), "{text}");
            assert!(judged.reason.is_some_and(|r| r.contains("is not known: ")));
        }
        let none = Threshold::parse("calls<1").expect("good").judge(&document);
        assert_eq!((none.value, none.missed), (Some(0.0), true));
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("p99", "compares nothing"),
            ("p98>1ms", "\"p98\" is no figure"),
            ("p99>20", "one of: us µs ms s"),
            ("p99>ms", "no bound for p99"),
            ("p99>-1ms", "no bound"),
            ("error_rate>1", "one of: %"),
            ("errors>1ms", "expected a number"),
            (":p99>1ms", "names no function"),
            ("hello:cpu>1us", "not known by function"),
        ] {
            let refused = Threshold::parse(text).expect_err(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
