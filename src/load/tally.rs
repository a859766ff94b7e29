//! What became of the calls of a run, counted. Latencies are kept in a histogram with three digits, so that the tail of a long run
//! costs no memory and averages hide nothing.

use std::borrow::Cow;
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
    /// Of `latency` what was answered with anything but success.
    refused: Histogram<u64>,
    /// How long calls that got no answer were waited for.
    held: Histogram<u64>,
    /// Latencies of calls that a closed loop did not send because an answer was late; nothing where nobody asked (`omission`).
    omitted: Option<Histogram<u64>>,
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
            refused: histogram(),
            held: histogram(),
            omitted: None,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            starts: BTreeMap::new(),
            phases: BTreeMap::new(),
            unsent: 0,
            elapsed: Duration::ZERO,
        }
    }
}

pub(super) fn histogram() -> Histogram<u64> {
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
        if !(200..300).contains(&status) {
            record(&mut self.refused, nanos(latency));
        }
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

    /// A call got no answer, and was given up after this time.
    pub fn failed(&mut self, failure: Failure, held: Duration) {
        record(&mut self.held, nanos(held));
        *self.failures.entry(failure).or_default() += 1;
    }

    pub fn finish(&mut self, elapsed: Duration, unsent: usize) {
        self.elapsed += elapsed;
        self.unsent += unsent as u64;
    }

    /// Says what a closed loop did not send: latency is what it was with these added.
    pub(super) fn correct(&mut self, omitted: Histogram<u64>) {
        self.omitted = Some(omitted);
    }

    /// Adds another run's results: the same load, at another time.
    pub fn add(&mut self, other: &Tally) {
        merge(&mut self.latency, &other.latency);
        merge(&mut self.service, &other.service);
        merge(&mut self.refused, &other.refused);
        merge(&mut self.held, &other.held);
        if let Some(omitted) = &other.omitted {
            merge(self.omitted.get_or_insert_with(histogram), omitted);
        }
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

    /// As measured: of all answers, whatever they were.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    pub fn is_corrected(&self) -> bool {
        self.omitted.is_some()
    }

    /// Of all answers and, if it is corrected, of the calls that were left out.
    pub fn corrected(&self) -> Cow<'_, Histogram<u64>> {
        match &self.omitted {
            None => Cow::Borrowed(&self.latency),
            Some(omitted) => Cow::Owned(sum(&self.latency, omitted)),
        }
    }

    /// The same of calls with a good answer alone.
    pub fn good(&self) -> Histogram<u64> {
        let mut good = self.corrected().into_owned();
        good.subtract(&self.refused)
            .expect("what was refused was answered, and counted there too");
        good
    }

    /// How long each call kept its connection in a closed loop, answered or not.
    pub(super) fn spent(&self) -> Histogram<u64> {
        sum(&self.latency, &self.held)
    }

    /// Calls that were due and got no answer.
    pub fn unanswered(&self) -> u64 {
        self.held.len() + self.unsent
    }

    /// Calls that were due and got no good answer.
    pub fn without_good(&self) -> u64 {
        self.refused.len() + self.unanswered()
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

fn sum(one: &Histogram<u64>, other: &Histogram<u64>) -> Histogram<u64> {
    let mut sum = one.clone();
    merge(&mut sum, other);
    sum
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
        one.failed(Failure::Timeout, millis(40));
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
        assert_eq!((one.unanswered(), one.without_good()), (4, 5));
        assert_eq!((one.good().len(), one.spent().len()), (2, 4));
    }

    #[test]
    fn what_was_refused_is_no_good_answer_whatever_was_left_out() {
        let millis = Duration::from_millis;
        let mut tally = Tally::default();
        tally.answered(millis(10), millis(10), 200);
        tally.answered(millis(1), millis(1), 500);
        assert_eq!(tally.corrected().len(), 2);
        assert!(!tally.is_corrected());
        let mut omitted = histogram();
        record(&mut omitted, nanos(millis(5)));
        tally.correct(omitted);
        assert!(tally.is_corrected());
        assert_eq!((tally.latency().len(), tally.corrected().len()), (2, 3));
        let good = tally.good();
        assert_eq!(good.len(), 2);
        assert!(good.equivalent(good.min(), 5_000_000), "{}", good.min());
    }

    #[test]
    fn what_takes_for_ever_is_still_counted() {
        let mut tally = Tally::default();
        tally.answered(Duration::MAX, Duration::MAX, 200);
        assert_eq!(tally.latency().len(), 1);
    }
}
