//! What became of the calls of a run, counted. Latencies are kept in a histogram with three digits, so that the tail of a long run
//! costs no memory and averages hide nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::header::HeaderMap;

use crate::load::connection::Failure;

/// Start kinds and phases that are told apart. They are read from answers, and a strange server must not fill the memory.
const NAMES_MAX: usize = 16;
const DIGITS: u8 = 3;
/// Nothing takes longer; what does is counted as this.
const LONGEST: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone)]
pub struct Tally {
    /// From when a call was due to its whole answer, in nanoseconds. In an open loop this is the time a caller sees: a call
    /// that could not be sent because earlier ones held every connection has waited, and its wait counts. (That is what
    /// "coordinated omission" leaves out.) In a closed loop a call is due when it is sent.
    latency: Histogram<u64>,
    /// From when a call was sent.
    service: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<Failure, u64>,
    starts: BTreeMap<String, u64>,
    /// By name, in microseconds; from `Server-Timing`.
    phases: BTreeMap<String, Histogram<u64>>,
    /// Calls of the plan that were not sent before the run was over.
    unsent: u64,
    /// How long the run took, or all of them that were added up.
    elapsed: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            starts: BTreeMap::new(),
            phases: BTreeMap::new(),
            unsent: 0,
            elapsed: Duration::ZERO,
        }
    }
}

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(DIGITS).expect("0 to 5 digits are possible");
    histogram.auto(true);
    histogram
}

/// (Not `saturating_record`: that one cuts values off instead of growing.)
fn record(histogram: &mut Histogram<u64>, value: u64) {
    histogram
        .record(value)
        .expect("a histogram that grows takes every value");
}

impl Tally {
    /// A call was answered, whatever the answer was.
    pub fn answered(&mut self, latency: Duration, service: Duration, status: u16) {
        record(&mut self.latency, nanos(latency));
        record(&mut self.service, nanos(service));
        *self.statuses.entry(status).or_default() += 1;
    }

    /// What the answer tells of how it came to be.
    pub fn told(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(kind) = text("x-hearth-start") {
            count(&mut self.starts, kind);
        }
        for (phase, duration) in text("server-timing").into_iter().flat_map(timings) {
            if let Some(histogram) = self.phases.get_mut(phase) {
                record(histogram, micros(duration));
            } else if self.phases.len() < NAMES_MAX {
                let mut histogram = histogram();
                record(&mut histogram, micros(duration));
                self.phases.insert(phase.to_owned(), histogram);
            }
        }
    }

    pub fn failed(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub fn finish(&mut self, elapsed: Duration, unsent: usize) {
        self.elapsed += elapsed;
        self.unsent += unsent as u64;
    }

    /// Adds another run's results: the same load, at another time.
    pub fn add(&mut self, other: &Tally) {
        merge(&mut self.latency, &other.latency);
        merge(&mut self.service, &other.service);
        for (status, calls) in &other.statuses {
            *self.statuses.entry(*status).or_default() += calls;
        }
        for (failure, calls) in &other.failures {
            *self.failures.entry(*failure).or_default() += calls;
        }
        for (kind, calls) in &other.starts {
            *self.starts.entry(kind.clone()).or_default() += calls;
        }
        for (phase, histogram) in &other.phases {
            match self.phases.get_mut(phase) {
                Some(known) => merge(known, histogram),
                None => {
                    self.phases.insert(phase.clone(), histogram.clone());
                }
            }
        }
        self.unsent += other.unsent;
        self.elapsed += other.elapsed;
    }

    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    pub fn service(&self) -> &Histogram<u64> {
        &self.service
    }

    pub fn statuses(&self) -> &BTreeMap<u16, u64> {
        &self.statuses
    }

    pub fn failures(&self) -> &BTreeMap<Failure, u64> {
        &self.failures
    }

    pub fn starts(&self) -> &BTreeMap<String, u64> {
        &self.starts
    }

    pub fn phases(&self) -> &BTreeMap<String, Histogram<u64>> {
        &self.phases
    }

    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(calls) = counts.get_mut(name) {
        *calls += 1;
    } else if counts.len() < NAMES_MAX {
        counts.insert(name.to_owned(), 1);
    }
}

fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    into.add(other)
        .expect("a histogram that grows takes every other's values");
}

fn nanos(duration: Duration) -> u64 {
    duration.min(LONGEST).as_nanos() as u64
}

fn micros(duration: Duration) -> u64 {
    duration.min(LONGEST).as_micros() as u64
}

/// The phases of a `Server-Timing` header; what has no duration, or a senseless one, is left out.
fn timings(header: &str) -> impl Iterator<Item = (&str, Duration)> {
    header.split(',').filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let phase = parts.next()?;
        let millis: f64 = parts
            .find_map(|part| part.strip_prefix("dur="))?
            .parse()
            .ok()?;
        Some((phase, Duration::try_from_secs_f64(millis / 1e3).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_answers_tell_is_counted() {
        let mut tally = Tally::default();
        let told = [
            ("x-hearth-start", "warm"),
            (
                "server-timing",
                "queue;dur=1.5, start;dur=0.000;desc=\"warm: idle\", cached, run;dur=2000, odd;dur=-1",
            ),
        ];
        tally.told(&headers(&told));
        tally.told(&headers(&told[..1]));
        tally.told(&headers(&[]));
        assert_eq!(tally.starts()["warm"], 2);
        let phases: Vec<_> = tally.phases().keys().map(String::as_str).collect();
        assert_eq!(phases, ["queue", "run", "start"]);
        assert_eq!(tally.phases()["queue"].max(), 1_500);
        assert!(tally.phases()["run"].equivalent(tally.phases()["run"].max(), 2_000_000));
    }

    #[test]
    fn a_server_cannot_fill_the_memory_with_names() {
        let mut tally = Tally::default();
        for n in 0..1_000 {
            let mut headers = HeaderMap::new();
            headers.insert("x-hearth-start", format!("kind{n}").parse().expect("text"));
            headers.insert(
                "server-timing",
                format!("p{n};dur=1").parse().expect("text"),
            );
            tally.told(&headers);
        }
        assert_eq!((tally.starts().len(), tally.phases().len()), (16, 16));
    }

    #[test]
    fn runs_add_up() {
        let millis = Duration::from_millis;
        let mut one = Tally::default();
        one.answered(millis(10), millis(1), 200);
        one.failed(Failure::Timeout);
        one.finish(millis(500), 3);
        let mut two = Tally::default();
        two.answered(millis(30), millis(2), 200);
        two.answered(millis(10), millis(2), 429);
        two.told(&headers(&[("server-timing", "run;dur=1")]));
        two.finish(millis(250), 0);
        one.add(&two);
        assert_eq!(one.statuses(), &BTreeMap::from([(200, 2), (429, 1)]));
        assert_eq!(one.failures()[&Failure::Timeout], 1);
        assert_eq!((one.elapsed(), one.unsent()), (millis(750), 3));
        assert_eq!((one.latency().len(), one.phases()["run"].len()), (3, 1));
        assert!(one.latency().equivalent(one.latency().max(), 30_000_000));
    }

    #[test]
    fn what_takes_for_ever_is_still_counted() {
        let mut tally = Tally::default();
        tally.answered(Duration::MAX, Duration::MAX, 200);
        assert_eq!(tally.latency().len(), 1);
    }
}
