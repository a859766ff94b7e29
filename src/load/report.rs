//! What a person or a program reads of a run: throughput, percentiles, what was answered and how it came to be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::tally::Tally;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub calls: u64,
    pub seconds: f64,
    /// Answers per second, whatever they were.
    pub per_second: f64,
    /// Calls that were due and have no answer: those that failed, and those that were not sent.
    pub unanswered: u64,
    /// Which calls `latency_ms` is of.
    pub latency_of: &'static str,
    /// From when a call was due.
    pub latency_ms: Percentiles,
    /// As measured, where the above has what a closed loop left out added to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncorrected_latency_ms: Option<Percentiles>,
    /// Of all calls that were due, which is what thresholds judge.
    pub due: Due,
    /// From when it was sent; in a closed loop the same as latency as measured.
    pub service_ms: Percentiles,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls without an answer, by what went wrong.
    pub failures: BTreeMap<&'static str, u64>,
    /// Calls of the plan that were not sent in time.
    pub unsent: u64,
    /// Answers by start kind.
    pub starts: BTreeMap<String, u64>,
    /// The server's own account of where the time went.
    pub phases_ms: BTreeMap<String, Percentiles>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    pub max: f64,
    pub mean: f64,
}

/// Latency of every call that was due. One without a good answer has waited for ever: what would be its latency, or the mean with it,
/// is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Due {
    pub calls: u64,
    /// Those that were answered with no success, or not at all.
    pub without_good_answer: u64,
    pub latency_ms: DuePercentiles,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct DuePercentiles {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub p99_9: Option<f64>,
    pub max: Option<f64>,
    pub mean: Option<f64>,
}

impl Due {
    fn of(tally: &Tally) -> Self {
        let (good, without) = (tally.good(), tally.without_good());
        let at = |quantile| due_quantile(&good, without, quantile);
        let all = without == 0 && !good.is_empty();
        Self {
            calls: tally.latency().len() + tally.unanswered(),
            without_good_answer: without,
            latency_ms: DuePercentiles {
                p50: at(0.5),
                p90: at(0.9),
                p95: at(0.95),
                p99: at(0.99),
                p99_9: at(0.999),
                max: all.then(|| good.max() as f64 / 1e6),
                mean: all.then(|| good.mean() / 1e6),
            },
        }
    }
}

/// In milliseconds; nothing when the call of that rank is one of those without a good answer.
fn due_quantile(good: &Histogram<u64>, without: u64, quantile: f64) -> Option<f64> {
    if good.is_empty() {
        return None;
    }
    if without == 0 {
        return Some(good.value_at_quantile(quantile) as f64 / 1e6);
    }
    let (answered, due) = (good.len() as f64, (good.len() + without) as f64);
    // What a product has too much for not being exact is no further rank.
    let rank = (quantile * due - 1e-6).ceil().max(1.0);
    // The middle of a rank is within it however a quotient is rounded.
    (rank <= answered).then(|| good.value_at_quantile((rank - 0.5) / answered) as f64 / 1e6)
}

impl Percentiles {
    /// Of values of which so many make a millisecond.
    pub fn of(histogram: &Histogram<u64>, per_milli: f64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / per_milli;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / per_milli,
            mean: histogram.mean() / per_milli,
        }
    }
}

impl Report {
    pub fn of(tally: &Tally) -> Self {
        let seconds = tally.elapsed().as_secs_f64();
        let calls = tally.latency().len();
        let phase = |(name, histogram): (&String, &Histogram<u64>)| {
            (name.clone(), Percentiles::of(histogram, 1e3))
        };
        let failure = |(failure, calls): (&crate::load::connection::Failure, &u64)| {
            (failure.as_str(), *calls)
        };
        Self {
            calls,
            seconds,
            per_second: if seconds > 0.0 {
                calls as f64 / seconds
            } else {
                0.0
            },
            unanswered: tally.unanswered(),
            latency_of: match tally.is_corrected() {
                false => "answered calls",
                true => "answered calls and those that a closed loop left out",
            },
            latency_ms: Percentiles::of(&tally.corrected(), 1e6),
            uncorrected_latency_ms: tally
                .is_corrected()
                .then(|| Percentiles::of(tally.latency(), 1e6)),
            due: Due::of(tally),
            service_ms: Percentiles::of(tally.service(), 1e6),
            statuses: tally.statuses().clone(),
            failures: tally.failures().iter().map(failure).collect(),
            unsent: tally.unsent(),
            starts: tally.starts().clone(),
            phases_ms: tally.phases().iter().map(phase).collect(),
        }
    }

    /// Answers that were no success, and calls that got none.
    pub fn errors(&self) -> u64 {
        let refused = self
            .statuses
            .iter()
            .filter(|(status, _)| !(200..300).contains(*status));
        refused.map(|(_, calls)| calls).sum::<u64>() + self.failures.values().sum::<u64>()
    }

    /// What the percentiles are of, where that is not simply all calls.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let Due {
            calls,
            without_good_answer: without,
            ..
        } = self.due;
        if self.unanswered > 0 {
            notes.push(format!(
                "latencies are of the {} calls that were answered; {} of {calls} were not",
                self.calls, self.unanswered
            ));
        }
        if without > 0 {
            notes.push(format!(
                "thresholds take {without} of {calls} calls, which had no good answer, for slower than all others"
            ));
        }
        if let Some(p) = &self.uncorrected_latency_ms {
            notes.push(format!(
                "latencies have the calls added that a closed loop leaves out while an answer is late; as measured: \
                 p50 {:.3} ms, p99 {:.3}, p99.9 {:.3}",
                p.p50, p.p99, p.p99_9
            ));
        }
        notes
    }

    /// Of the calls that were sent; nothing when none was.
    pub fn error_rate(&self) -> Option<f64> {
        let sent = self.calls + self.failures.values().sum::<u64>();
        (sent > 0).then(|| self.errors() as f64 / sent as f64)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            calls,
            seconds,
            per_second,
            ..
        } = self;
        writeln!(
            f,
            "{calls} answers in {seconds:.1} s, {per_second:.0} a second"
        )?;
        line(f, "latency", &self.latency_ms)?;
        if self.service_ms != self.latency_ms {
            line(f, "once sent", &self.service_ms)?;
        }
        for (phase, percentiles) in &self.phases_ms {
            line(f, phase, percentiles)?;
        }
        counts(f, "statuses", self.statuses.iter())?;
        counts(f, "starts", self.starts.iter())?;
        counts(f, "failures", self.failures.iter())?;
        if self.unsent > 0 {
            writeln!(f, "  unsent     {}", self.unsent)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, p: &Percentiles) -> fmt::Result {
    let Percentiles {
        p50,
        p90,
        p99,
        p99_9,
        max,
        ..
    } = p;
    writeln!(
        f,
        "  {name:<10} p50 {p50:.3} ms, p90 {p90:.3}, p99 {p99:.3}, p99.9 {p99_9:.3}, max {max:.3}"
    )
}

fn counts<'a, N: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    counts: impl Iterator<Item = (N, &'a u64)>,
) -> fmt::Result {
    let counts: Vec<_> = counts
        .map(|(what, calls)| format!("{what} × {calls}"))
        .collect();
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {name:<10} {}", counts.join(", "))
}

/// A time as a person reads it.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::connection::Failure;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for millis in 1..=1000 {
            let status = if millis <= 990 { 200 } else { 429 };
            let waited = Duration::from_millis(5);
            let service = Duration::from_millis(millis);
            tally.answered(service + waited, service, status);
        }
        tally.failed(Failure::Broken, Duration::ZERO);
        tally.finish(Duration::from_secs(4), 2);
        tally
    }

    #[test]
    fn numbers_are_those_of_the_calls() {
        let report = Report::of(&tally());
        assert_eq!((report.calls, report.errors()), (1000, 11));
        assert!((report.per_second - 250.0).abs() < 1e-9);
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 2e-3, "{got}, {want}");
        near(report.service_ms.p50, 500.0);
        near(report.service_ms.p99_9, 999.0);
        near(report.latency_ms.p50, 505.0);
        near(report.latency_ms.p99, 995.0);
        near(report.latency_ms.max, 1005.0);
        near(report.latency_ms.mean, 505.5);
    }

    #[test]
    fn a_call_without_a_good_answer_is_the_slowest_of_those_that_were_due() {
        let mut tally = Tally::default();
        for millis in 1..=64 {
            let took = Duration::from_millis(millis);
            tally.answered(took, took, 200);
        }
        let due = Report::of(&tally).due;
        assert_eq!((due.calls, due.without_good_answer), (64, 0));
        assert_eq!(due.latency_ms.max, Some(Report::of(&tally).latency_ms.max));
        assert_eq!(due.latency_ms.p99, Some(Report::of(&tally).latency_ms.p99));
        for _ in 0..5 {
            tally.failed(Failure::Timeout, Duration::ZERO);
            tally.answered(Duration::ZERO, Duration::ZERO, 429);
        }
        tally.finish(Duration::from_secs(1), 5);
        let report = Report::of(&tally);
        assert_eq!((report.calls, report.unanswered), (69, 10));
        let Due {
            calls,
            without_good_answer,
            latency_ms,
        } = report.due;
        assert_eq!((calls, without_good_answer), (79, 15));
        // The 40th of 79; the 72nd has no latency.
        let p50 = latency_ms.p50.expect("known");
        assert!((p50 - 40.0).abs() < 0.1, "{p50}");
        let beyond = [latency_ms.p90, latency_ms.p99, latency_ms.max];
        assert_eq!((beyond, latency_ms.mean), ([None; 3], None));
    }

    #[test]
    fn the_last_good_answer_is_known_and_the_next_is_not() {
        let mut good = crate::load::tally::histogram();
        (1..=99u64).for_each(|n| good.record(n * 1_000_000).expect("it grows"));
        let last = due_quantile(&good, 1, 0.99).expect("the 99th of 100");
        assert!((last - 99.0).abs() < 0.1, "{last}");
        assert_eq!(due_quantile(&good, 1, 0.999), None);
        assert_eq!(due_quantile(&good, 2, 0.99), None, "the 100th of 101");
        good.clear();
        assert_eq!(due_quantile(&good, 0, 0.5), None);
    }

    #[test]
    fn both_forms_name_everything() {
        let report = Report::of(&tally());
        let text = report.to_string();
        for part in [
            "1000 answers in 4.0 s, 250 a second",
            "once sent",
            "429 × 10",
            "broken × 1",
            "unsent",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["statuses"]["429"], 10);
        assert_eq!(json["unsent"], 2);
        assert!(json["latency_ms"]["p99.9"].is_f64());
    }

    #[test]
    fn an_empty_run_is_no_division_by_zero() {
        let report = Report::of(&Tally::default());
        assert_eq!((report.calls, report.per_second), (0, 0.0));
        assert!(report.to_string().starts_with("0 answers"));
    }
}
