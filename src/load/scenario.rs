//! What a bench is to do: as written in a file or typed as flags (`Raw`), and as meant (`Scenario`). Everything that is wrong is said
//! at once, each with the field it is about, before anything is sent. Reads the files a scenario names, and no others.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::load::plan::{self, ARRIVALS_MAX, Arrival, Bound, Spread, Step};
use crate::load::threshold::Threshold;
use crate::load::trace;

const CONNECTIONS_MAX: u64 = 4096;
const RATE_MAX: f64 = 1e6;
const LENGTH_MAX: Duration = Duration::from_secs(24 * 3600);
/// A request body; what Hearth takes is less.
const PAYLOAD_MAX: u64 = 64 * 1024 * 1024;
/// Calls under way at once in an open loop, unless said otherwise: a server that falls behind shows it as latency first.
const OPEN_CONNECTIONS: u64 = 64;

/// As written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub title: Option<String>,
    /// `constant`, `poisson`, `closed` or `trace`.
    pub arrivals: Option<String>,
    pub connections: Option<u64>,
    pub length: Option<String>,
    pub warm_up: Option<String>,
    pub timeout: Option<String>,
    /// Calls a second of an open loop that stays the same.
    pub rate: Option<f64>,
    /// The most calls.
    pub calls: Option<u64>,
    pub seed: Option<u64>,
    #[serde(rename = "function")]
    pub functions: Vec<RawFunction>,
    /// An open loop whose rate changes, in place of `rate` and `length`.
    #[serde(rename = "step")]
    pub steps: Vec<RawStep>,
    pub trace: Option<RawTrace>,
    pub fail_if: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFunction {
    pub name: String,
    /// How often it is called beside the others.
    pub weight: Option<f64>,
    pub payload: Option<String>,
    pub payload_file: Option<PathBuf>,
    /// A payload of so many bytes: one long JSON text.
    pub payload_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStep {
    pub rate: f64,
    /// Where the rate goes until the end of the step; it stays if this is not given.
    pub to: Option<f64>,
    pub length: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTrace {
    pub file: PathBuf,
    pub speed: Option<f64>,
}

/// As meant.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub title: String,
    pub functions: Vec<Function>,
    pub load: Load,
    pub connections: usize,
    pub length: Duration,
    pub warm_up: Duration,
    pub timeout: Duration,
    pub seed: u64,
    pub thresholds: Vec<Threshold>,
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub weight: f64,
    pub payload: Bytes,
}

#[derive(Debug, Clone)]
pub enum Load {
    /// As fast as answers come, so many calls at most.
    Closed { most: usize },
    /// On a plan, and what it is called.
    Open {
        arrivals: &'static str,
        plan: Vec<Arrival>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is no scenario: {what}")]
    Syntax { path: PathBuf, what: String },
    #[error("{0}")]
    Faults(Faults),
}

/// Everything that is wrong with a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<(String, String)>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.0.iter();
        let lines: Vec<_> = faults
            .map(|(field, what)| format!("{field}: {what}"))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Raw {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text).map_err(|what| Error::Syntax {
            path: path.into(),
            what,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// What is given in `other` in place of what is here.
    pub fn with(mut self, other: Self) -> Self {
        // Steps, a rate and a trace exclude each other: the one that is given last is meant.
        if other.rate.is_some() || !other.steps.is_empty() || other.trace.is_some() {
            (self.rate, self.steps, self.trace) = (None, Vec::new(), None);
            if other.arrivals.is_none() && self.arrivals.as_deref() == Some("trace") {
                self.arrivals = None;
            }
        }
        let (functions, steps) = (other.functions, other.steps);
        Self {
            title: other.title.or(self.title),
            arrivals: other.arrivals.or(self.arrivals),
            connections: other.connections.or(self.connections),
            length: other.length.or(self.length),
            warm_up: other.warm_up.or(self.warm_up),
            timeout: other.timeout.or(self.timeout),
            rate: other.rate.or(self.rate),
            calls: other.calls.or(self.calls),
            seed: other.seed.or(self.seed),
            functions: if functions.is_empty() {
                self.functions
            } else {
                functions
            },
            steps: if steps.is_empty() { self.steps } else { steps },
            trace: other.trace.or(self.trace),
            fail_if: [self.fail_if, other.fail_if].concat(),
        }
    }

    /// Gives it its meaning. Files it names are relative to `directory`.
    pub fn check(&self, directory: &Path) -> Result<Scenario, Error> {
        let mut reader = Reader {
            directory,
            faults: Vec::new(),
        };
        let scenario = reader.scenario(self);
        match reader.faults.is_empty() {
            true => Ok(scenario),
            false => Err(Error::Faults(Faults(reader.faults))),
        }
    }
}

struct Reader<'a> {
    directory: &'a Path,
    faults: Vec<(String, String)>,
}

impl Reader<'_> {
    fn fault(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.faults.push((field.into(), what.into()));
    }

    fn scenario(&mut self, raw: &Raw) -> Scenario {
        let functions = self.functions(&raw.functions);
        let stepped: Duration = self.steps(&raw.steps).iter().map(|step| step.length).sum();
        if raw.length.is_some() && !raw.steps.is_empty() {
            self.fault(
                "length",
                "it is the sum of the steps' lengths; leave it out",
            );
        }
        let length = match raw.steps.is_empty() {
            true => self.time(
                "length",
                raw.length.as_deref(),
                Duration::from_secs(10),
                false,
            ),
            false => stepped,
        };
        if length > LENGTH_MAX {
            self.fault("length", "a day is the most");
        }
        let seed = raw.seed.unwrap_or(1);
        let most = usize::try_from(raw.calls.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        if most == 0 {
            self.fault("calls", "0 calls measure nothing");
        }
        let mix: Vec<f64> = functions.iter().map(|f| f.weight).collect();
        let load = self.load(raw, &mix, length, seed, most);
        let default = match load {
            Load::Closed { .. } => 1,
            Load::Open { .. } => OPEN_CONNECTIONS,
        };
        let connections = raw.connections.unwrap_or(default);
        if !(1..=CONNECTIONS_MAX).contains(&connections) {
            let range = format!("expected 1 to {CONNECTIONS_MAX}, got {connections}");
            self.fault("connections", range);
        }
        Scenario {
            title: raw.title.clone().unwrap_or_else(|| "hearth bench".into()),
            thresholds: self.thresholds(&raw.fail_if, &functions),
            functions,
            load,
            connections: connections as usize,
            length,
            warm_up: self.time(
                "warm_up",
                raw.warm_up.as_deref(),
                Duration::from_secs(2),
                true,
            ),
            timeout: self.time(
                "timeout",
                raw.timeout.as_deref(),
                Duration::from_secs(30),
                false,
            ),
            seed,
        }
    }

    fn load(&mut self, raw: &Raw, mix: &[f64], length: Duration, seed: u64, most: usize) -> Load {
        let implied = match (&raw.trace, raw.rate, raw.steps.is_empty()) {
            (Some(_), ..) => "trace",
            (None, None, true) => "closed",
            _ => "poisson",
        };
        let arrivals = raw.arrivals.as_deref().unwrap_or(implied);
        let given = [
            ("rate", raw.rate.is_some(), &["constant", "poisson"][..]),
            ("step", !raw.steps.is_empty(), &["constant", "poisson"]),
            ("trace", raw.trace.is_some(), &["trace"]),
        ];
        for (field, is_given, of) in given {
            if is_given && !of.contains(&arrivals) {
                self.fault(
                    field,
                    format!("it means nothing with arrivals = {arrivals:?}"),
                );
            }
        }
        let spread = match arrivals {
            "closed" => return Load::Closed { most },
            "trace" => return self.replay(raw, length, seed, most),
            "constant" => (Spread::Constant, "constant"),
            "poisson" => (Spread::Poisson, "poisson"),
            other => {
                let known = "expected constant, poisson, closed or trace";
                self.fault("arrivals", format!("{known}, got {other:?}"));
                return Load::Closed { most };
            }
        };
        let steps = match (raw.rate, raw.steps.is_empty()) {
            (Some(_), false) => {
                self.fault("rate", "the steps have rates of their own; leave it out");
                Vec::new()
            }
            (None, true) => {
                self.fault(
                    "rate",
                    format!("arrivals = {arrivals:?} needs a rate, or steps"),
                );
                Vec::new()
            }
            (Some(rate), true) => {
                self.rate("rate", rate, false);
                vec![Step {
                    from: rate,
                    to: rate,
                    length,
                }]
            }
            // Its faults were said when the length was added up.
            (None, false) => Reader {
                directory: self.directory,
                faults: Vec::new(),
            }
            .steps(&raw.steps),
        };
        let calls: f64 = steps.iter().map(Step::calls).sum();
        if calls > ARRIVALS_MAX as f64 && raw.calls.is_none() {
            self.fault(
                "rate",
                format!("{calls:.0} calls are more than {ARRIVALS_MAX}, the most a plan has"),
            );
        }
        if !self.faults.is_empty() {
            return Load::Closed { most };
        }
        let plan = plan::shaped(&steps, spread.0, mix, seed, most);
        if plan.is_empty() {
            self.fault("rate", "no call is due before the end");
        }
        Load::Open {
            arrivals: spread.1,
            plan,
        }
    }

    fn replay(&mut self, raw: &Raw, length: Duration, seed: u64, most: usize) -> Load {
        let nothing = Load::Closed { most };
        let Some(trace) = &raw.trace else {
            self.fault("trace", "arrivals = \"trace\" needs a trace");
            return nothing;
        };
        let speed = trace.speed.unwrap_or(1.0);
        if !(speed.is_finite() && speed > 0.0) {
            self.fault(
                "trace.speed",
                format!("expected a number above 0, got {speed}"),
            );
            return nothing;
        }
        let path = self.directory.join(&trace.file);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                self.fault(
                    "trace.file",
                    format!("{} cannot be read: {error}", path.display()),
                );
                return nothing;
            }
        };
        let recorded = match trace::read(&text, seed) {
            Ok(recorded) => recorded.arrivals,
            Err(error) => {
                self.fault("trace.file", error.to_string());
                return nothing;
            }
        };
        let plan = plan::replay(
            &recorded,
            speed,
            Bound {
                calls: most,
                length,
            },
        );
        if plan.is_empty() {
            self.fault("length", "nothing of the trace is in this time");
        }
        Load::Open {
            arrivals: "trace",
            plan,
        }
    }

    fn functions(&mut self, raw: &[RawFunction]) -> Vec<Function> {
        if raw.is_empty() {
            self.fault("function", "there is nothing to call: name at least one");
        }
        let numbered = raw.iter().enumerate();
        numbered
            .map(|(place, function)| {
                let at = |field: &str| format!("function[{place}].{field}");
                if function.name.is_empty() {
                    self.fault(at("name"), "it has no name");
                }
                if raw[..place].iter().any(|f| f.name == function.name) {
                    self.fault(at("name"), format!("{:?} is named twice", function.name));
                }
                let weight = function.weight.unwrap_or(1.0);
                if !(weight.is_finite() && weight > 0.0) {
                    self.fault(
                        at("weight"),
                        format!("expected a number above 0, got {weight}"),
                    );
                }
                Function {
                    name: function.name.clone(),
                    weight,
                    payload: self.payload(function, at),
                }
            })
            .collect()
    }

    fn payload(&mut self, raw: &RawFunction, at: impl Fn(&str) -> String) -> Bytes {
        match (&raw.payload, &raw.payload_file, raw.payload_bytes) {
            (None, None, None) => Bytes::from_static(b"{}"),
            (Some(text), None, None) => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Bytes::from(text.clone()),
                Err(error) => {
                    self.fault(at("payload"), format!("it is no JSON: {error}"));
                    Bytes::new()
                }
            },
            (None, Some(file), None) => match std::fs::read(self.directory.join(file)) {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) => {
                    self.fault(at("payload_file"), format!("it cannot be read: {error}"));
                    Bytes::new()
                }
            },
            (None, None, Some(bytes)) if (2..=PAYLOAD_MAX).contains(&bytes) => {
                let text = "x".repeat(bytes as usize - 2);
                Bytes::from(format!("\"{text}\""))
            }
            (None, None, Some(bytes)) => {
                let range = format!("expected 2 to {PAYLOAD_MAX}, got {bytes}");
                self.fault(at("payload_bytes"), range);
                Bytes::new()
            }
            _ => {
                self.fault(
                    at("payload"),
                    "payload, payload_file and payload_bytes exclude each other",
                );
                Bytes::new()
            }
        }
    }

    fn steps(&mut self, raw: &[RawStep]) -> Vec<Step> {
        let numbered = raw.iter().enumerate();
        numbered
            .map(|(place, step)| {
                let at = |field: &str| format!("step[{place}].{field}");
                let to = step.to.unwrap_or(step.rate);
                self.rate(at("rate"), step.rate, true);
                self.rate(at("to"), to, true);
                Step {
                    from: step.rate,
                    to,
                    length: self.time(&at("length"), Some(&step.length), Duration::ZERO, false),
                }
            })
            .collect()
    }

    fn rate(&mut self, field: impl Into<String>, rate: f64, may_be_zero: bool) {
        let least = if may_be_zero { "0" } else { "above 0" };
        let low = if may_be_zero { rate >= 0.0 } else { rate > 0.0 };
        if !low || rate > RATE_MAX {
            self.fault(
                field,
                format!("expected {least} to {RATE_MAX} calls a second, got {rate}"),
            );
        }
    }

    fn time(
        &mut self,
        field: &str,
        text: Option<&str>,
        default: Duration,
        may_be_zero: bool,
    ) -> Duration {
        let Some(text) = text else { return default };
        match duration(text) {
            Some(time) if may_be_zero || !time.is_zero() => time,
            Some(_) => {
                self.fault(field, "it must be longer than 0");
                default
            }
            None => {
                self.fault(
                    field,
                    format!("{text:?} is no time, expected a number and ms, s, m or h, like 30s"),
                );
                default
            }
        }
    }

    fn thresholds(&mut self, raw: &[String], functions: &[Function]) -> Vec<Threshold> {
        let mut thresholds = Vec::new();
        for (place, text) in raw.iter().enumerate() {
            let field = format!("fail_if[{place}]");
            match Threshold::parse(text) {
                Err(what) => self.fault(field, what),
                Ok(threshold) => {
                    let known = |name: &str| functions.iter().any(|f| f.name == name);
                    match threshold.function() {
                        Some(name) if !known(name) => {
                            self.fault(field, format!("{name:?} is none of the functions called"));
                        }
                        _ => thresholds.push(threshold),
                    }
                }
            }
        }
        thresholds
    }
}

/// A number and a unit: `30s`, `1.5m`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[number.len()..].trim() {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds = number.trim().parse::<f64>().ok()? * factor;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
