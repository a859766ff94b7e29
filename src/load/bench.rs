//! Carries out a scenario: calls every function once so that a mistake shows before the clock runs, warms up, measures, and puts
//! what came of it into a document. Called by `hearth bench`; says nothing to anybody meanwhile but how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock;
use crate::load::Error;
use crate::load::connection::Connection;
use crate::load::document::{Cpu, Document, Function, Load as LoadText, Machine, Quantile, WarmUp};
use crate::load::driver::{self, Load, Options, Outcome};
use crate::load::origin::{Call, Origin};
use crate::load::plan::{self, Arrival};
use crate::load::report::Report;
use crate::load::scenario::{self, Scenario};
use crate::load::tally::Tally;
use crate::load::usage;

/// An open loop may take this much longer than its plan, to send what is late; what is not sent by then is unsent.
const LATE_MAX: Duration = Duration::from_secs(30);

/// Whom the load is put on.
#[derive(Debug, Clone)]
pub struct Target {
    pub origin: Origin,
    pub key: Option<String>,
    /// Whose processor time is counted.
    pub pid: Option<u32>,
}

/// How far it is; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Calls that have an end, those of the warm-up not counted.
    pub ended: AtomicU64,
    measuring: AtomicU64,
}

impl Progress {
    /// The warm-up is over.
    pub fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed) > 0
    }
}

pub async fn run(
    scenario: &Scenario,
    target: &Target,
    progress: &Progress,
) -> Result<Document, Error> {
    let calls = calls(scenario, target)?;
    let options = |length| Options {
        origin: target.origin,
        calls: calls.clone(),
        connections: scenario.connections,
        length,
        timeout: scenario.timeout,
        told: true,
    };
    let mix: Vec<f64> = scenario.functions.iter().map(|f| f.weight).collect();
    let turns = plan::turns(&mix, scenario.seed);
    let warm_up = warm_up(scenario, &calls, &turns, &options(scenario.warm_up), target).await?;

    progress.measuring.store(1, Ordering::Relaxed);
    let started_at = clock::wall();
    let (load, length) = match &scenario.load {
        scenario::Load::Closed { most } => {
            let turns = turns.as_slice();
            (Load::Closed { turns, most: *most }, scenario.length)
        }
        scenario::Load::Open { plan, .. } => {
            let late = scenario.length.min(LATE_MAX);
            (Load::Open(plan), scenario.length + late)
        }
    };
    let before = processor_time(target)?;
    let outcome = driver::detailed(&options(length), load, &progress.ended).await?;
    let used = match (before, processor_time(target)?) {
        (Some(before), Some(after)) => Some(after.saturating_sub(before)),
        _ => None,
    };
    let mut document = document(scenario, &outcome, warm_up, started_at.to_string());
    document.cpu = used.zip(target.pid).map(|(used, pid)| {
        let calls = document.total.calls;
        Cpu {
            pid,
            seconds: used.as_secs_f64(),
            us_per_call: (calls > 0).then(|| used.as_secs_f64() * 1e6 / calls as f64),
            percent: 100.0 * used.as_secs_f64() / document.total.seconds.max(1e-9),
        }
    });
    let judged = scenario.thresholds.iter().map(|t| t.judge(&document));
    document.thresholds = judged.collect();
    Ok(document)
}

fn calls(scenario: &Scenario, target: &Target) -> Result<Vec<Call>, Error> {
    let call = |function: &scenario::Function| {
        let path = format!("/functions/{}/execute", function.name);
        let call = Call::post(&path, function.payload.clone())?;
        let call = call.header("content-type", "application/json")?;
        match &target.key {
            Some(key) => call.header("authorization", &format!("Bearer {key}")),
            None => Ok(call),
        }
    };
    scenario.functions.iter().map(call).collect()
}

fn processor_time(target: &Target) -> Result<Option<Duration>, Error> {
    let read = |pid| usage::processor_time(pid).map_err(|source| Error::Process { pid, source });
    target.pid.map(read).transpose()
}

/// Without a warm-up nothing is called before the clock runs: then first calls are what is measured.
async fn warm_up(
    scenario: &Scenario,
    calls: &[Call],
    turns: &[usize],
    options: &Options,
    target: &Target,
) -> Result<WarmUp, Error> {
    if scenario.warm_up.is_zero() {
        return Ok(WarmUp::default());
    }
    let mut whole = Tally::default();
    let mut connection = Connection::new(target.origin, scenario.timeout)?;
    for (function, call) in scenario.functions.iter().zip(calls) {
        let answer = connection
            .call(call)
            .await
            .map_err(|failure| Error::Silent {
                function: function.name.clone(),
                failure: failure.as_str(),
            })?;
        // What the caller did wrong will be wrong every time; what a function or the server does is to be measured.
        if (400..500).contains(&answer.status) && answer.status != 429 {
            return Err(Error::Refused {
                function: function.name.clone(),
                status: answer.status,
                answer: String::from_utf8_lossy(&answer.body)
                    .chars()
                    .take(400)
                    .collect(),
            });
        }
        whole.answered(Duration::ZERO, Duration::ZERO, answer.status);
    }
    drop(connection);
    let ended = AtomicU64::new(0);
    let soon: Vec<Arrival>;
    let load = match &scenario.load {
        scenario::Load::Closed { .. } => Load::Closed {
            turns,
            most: usize::MAX,
        },
        scenario::Load::Open { plan, .. } => {
            let early = plan.iter().take_while(|a| a.at < scenario.warm_up);
            soon = early.copied().collect();
            Load::Open(&soon)
        }
    };
    whole.add(&driver::detailed(options, load, &ended).await?.total);
    let report = Report::of(&whole);
    Ok(WarmUp {
        calls: report.calls,
        errors: report.errors(),
    })
}

fn document(
    scenario: &Scenario,
    outcome: &Outcome,
    warm_up: WarmUp,
    started_at: String,
) -> Document {
    let (arrivals, planned) = match &scenario.load {
        scenario::Load::Closed { .. } => ("closed", None),
        scenario::Load::Open { arrivals, plan } => (*arrivals, Some(plan.len())),
    };
    let total = &outcome.total;
    let functions = scenario.functions.iter().zip(&outcome.by_call);
    Document {
        hearth: env!("CARGO_PKG_VERSION").into(),
        title: scenario.title.clone(),
        started_at,
        machine: machine(),
        load: LoadText {
            arrivals,
            connections: scenario.connections,
            seconds: scenario.length.as_secs_f64(),
            planned,
            warm_up_seconds: scenario.warm_up.as_secs_f64(),
            seed: scenario.seed,
        },
        warm_up,
        total: Report::of(total),
        functions: functions
            .map(|(function, tally)| Function {
                name: function.name.clone(),
                report: Report::of(tally),
            })
            .collect(),
        cpu: None,
        quantiles: quantiles(&total.corrected()),
        uncorrected_quantiles: match total.is_corrected() {
            true => quantiles(total.latency()),
            false => Vec::new(),
        },
        series: outcome.series.points(),
        thresholds: Vec::new(),
    }
}

fn machine() -> Machine {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
    }
}

/// From the median outwards, until one call is left beyond.
pub(super) fn quantiles(latency: &Histogram<u64>) -> Vec<Quantile> {
    let mut found = Vec::new();
    let of = |quantile: f64| Quantile {
        quantile,
        ms: latency.value_at_quantile(quantile) as f64 / 1e6,
    };
    if latency.is_empty() {
        return found;
    }
    // 0 to 0.9 in even steps, then four steps per nine.
    found.extend((0..9).map(|tenth| of(f64::from(tenth) / 10.0)));
    for nine in 1..=6 {
        for part in [1.0, 0.6, 0.4, 0.2] {
            let beyond = part * 0.1f64.powi(nine);
            found.push(of(1.0 - beyond));
            if beyond * latency.len() as f64 <= 1.0 + 1e-9 {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_go_as_far_as_there_are_calls() {
        let mut latency = Histogram::new_with_max(10_000_000, 3).expect("a histogram");
        assert!(quantiles(&latency).is_empty());
        for n in 1..=1_000u64 {
            latency.record(n * 1_000).expect("in range");
        }
        let found = quantiles(&latency);
        assert!(
            found
                .windows(2)
                .all(|w| w[0].quantile < w[1].quantile && w[0].ms <= w[1].ms)
        );
        let last = found.last().expect("some");
        assert!((last.quantile - 0.999).abs() < 1e-9, "{last:?}");
    }
}
