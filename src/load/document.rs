//! What is written of a bench: every number a table, a page or a program needs, in one value. Plain data; `bench` makes it.

use serde::Serialize;

use crate::load::report::Report;
use crate::load::series::Point;
use crate::load::threshold::Judged;

#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// The version of the program that sent the load.
    pub hearth: String,
    pub title: String,
    pub started_at: String,
    pub machine: Machine,
    pub load: Load,
    /// Calls before the clock was started, which count nowhere else.
    pub warm_up: WarmUp,
    pub total: Report,
    pub functions: Vec<Function>,
    /// The server's processor time; nothing if its process is not known.
    pub cpu: Option<Cpu>,
    /// Latency by quantile, towards the tail finer and finer: of the same calls as `latency_ms`.
    pub quantiles: Vec<Quantile>,
    /// The same as measured, of a closed loop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncorrected_quantiles: Vec<Quantile>,
    /// As measured, of an open loop or a closed one.
    pub series: Vec<Point>,
    pub thresholds: Vec<Judged>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub processors: usize,
    pub kernel: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Load {
    pub arrivals: &'static str,
    pub connections: usize,
    /// As it was asked for.
    pub seconds: f64,
    /// Calls of an open loop's plan.
    pub planned: Option<usize>,
    pub warm_up_seconds: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct WarmUp {
    pub calls: u64,
    pub errors: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Function {
    pub name: String,
    #[serde(flatten)]
    pub report: Report,
}

#[derive(Debug, Clone, Serialize)]
pub struct Cpu {
    pub pid: u32,
    pub seconds: f64,
    /// Nothing when no call was answered.
    pub us_per_call: Option<f64>,
    /// Of one processor.
    pub percent: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantile {
    pub quantile: f64,
    pub ms: f64,
}

impl Document {
    pub fn missed(&self) -> usize {
        self.thresholds.iter().filter(|t| t.missed).count()
    }
}

/// One that has something of everything.
#[cfg(test)]
pub fn example() -> Document {
    use std::time::Duration;

    use crate::load::connection::Failure;
    use crate::load::series::Series;
    use crate::load::tally::Tally;

    let mut series = Series::new(Duration::from_secs(4));
    let (mut one, mut two) = (Tally::default(), Tally::default());
    for n in 0..400u64 {
        let (due, took) = (Duration::from_millis(n * 10), Duration::from_micros(n * 37));
        let tally = if n % 4 == 0 { &mut two } else { &mut one };
        let status = if n == 7 { 500 } else { 200 };
        tally.answered(took, took, status);
        series.ended(due, due + took, status == 200, true);
    }
    two.failed(Failure::Timeout, Duration::from_millis(500));
    one.told(&http::HeaderMap::from_iter([
        (
            http::HeaderName::from_static("x-hearth-start"),
            http::HeaderValue::from_static("warm"),
        ),
        (
            http::HeaderName::from_static("server-timing"),
            http::HeaderValue::from_static("run;dur=1.25"),
        ),
    ]));
    let mut total = Tally::default();
    total.add(&one);
    total.add(&two);
    let seconds = Duration::from_secs(4);
    total.finish(seconds, 3);
    one.finish(seconds, 0);
    two.finish(seconds, 0);
    let function = |name: &str, tally: &Tally| Function {
        name: name.to_owned(),
        report: Report::of(tally),
    };
    Document {
        hearth: "0.0.0".into(),
        title: "an <example> & more".into(),
        started_at: "2026-01-31T12:00:00Z".into(),
        machine: Machine {
            processors: 2,
            kernel: "6.1".into(),
        },
        load: Load {
            arrivals: "poisson",
            connections: 8,
            seconds: 4.0,
            planned: Some(404),
            warm_up_seconds: 1.0,
            seed: 1,
        },
        warm_up: WarmUp {
            calls: 10,
            errors: 0,
        },
        total: Report::of(&total),
        functions: vec![function("hello-one", &one), function("hello-two", &two)],
        cpu: Some(Cpu {
            pid: 1,
            seconds: 0.04,
            us_per_call: Some(100.0),
            percent: 1.0,
        }),
        quantiles: crate::load::bench::quantiles(total.latency()),
        uncorrected_quantiles: Vec::new(),
        series: series.points(),
        thresholds: vec![Judged {
            condition: "p99>1ms".into(),
            value: Some(14.6),
            reason: None,
            missed: true,
        }],
    }
}
