//! A run over time: what was due, what was answered and how long it took, in windows of equal length. Bounded: a run of any length
//! has at most `WINDOWS_MAX` windows, and their histograms are coarser than those of the whole.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What comes later counts to the last one.
const WINDOWS_MAX: usize = 400;
/// Windows a run of the stated length is cut into.
const WINDOWS: u32 = 120;
const SHORTEST: Duration = Duration::from_millis(100);
const DIGITS: u8 = 2;

#[derive(Debug, Clone)]
pub struct Series {
    width: Duration,
    windows: Vec<Window>,
}

#[derive(Debug, Clone)]
struct Window {
    due: u64,
    answered: u64,
    errors: u64,
    /// Of the calls that were due in it, in nanoseconds.
    latency: Histogram<u64>,
}

/// One window, as a plot or a program reads it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// When it begins.
    pub at_seconds: f64,
    /// Calls that were due in it, a second.
    pub due_per_second: f64,
    /// Answers that came in it, a second.
    pub answered_per_second: f64,
    /// Of them, and of the calls that failed in it, those that were no success.
    pub errors_per_second: f64,
    /// Latency of the calls that were due in it; nothing when none of them was answered.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

impl Series {
    /// For a run that is to take so long.
    pub fn new(length: Duration) -> Self {
        Self {
            width: (length / WINDOWS).max(SHORTEST),
            windows: Vec::new(),
        }
    }

    /// A call that was due then was answered, or failed, then.
    pub fn ended(&mut self, due: Duration, ended: Duration, good: bool, answered: bool) {
        let latency = ended.saturating_sub(due);
        let window = self.window(due);
        window.due += 1;
        if answered {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            // What is longer than a histogram can hold is no latency any more.
            window.latency.record(nanos.min(u64::MAX >> 1)).ok();
        }
        let window = self.window(ended);
        window.answered += u64::from(answered);
        window.errors += u64::from(!good);
    }

    fn window(&mut self, at: Duration) -> &mut Window {
        let place = (at.as_nanos() / self.width.as_nanos()) as usize;
        let place = place.min(WINDOWS_MAX - 1);
        while self.windows.len() <= place {
            self.windows.push(Window::new());
        }
        &mut self.windows[place]
    }

    pub fn points(&self) -> Vec<Point> {
        let width = self.width.as_secs_f64();
        let numbered = self.windows.iter().enumerate();
        numbered
            .map(|(place, window)| {
                let of = |value: u64| (!window.latency.is_empty()).then_some(value as f64 / 1e6);
                Point {
                    at_seconds: place as f64 * width,
                    due_per_second: window.due as f64 / width,
                    answered_per_second: window.answered as f64 / width,
                    errors_per_second: window.errors as f64 / width,
                    p50_ms: of(window.latency.value_at_quantile(0.5)),
                    p99_ms: of(window.latency.value_at_quantile(0.99)),
                    max_ms: of(window.latency.max()),
                }
            })
            .collect()
    }
}

impl Window {
    fn new() -> Self {
        let mut latency = Histogram::new(DIGITS).expect("0 to 5 digits are possible");
        latency.auto(true);
        Self {
            due: 0,
            answered: 0,
            errors: 0,
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_where_they_were_due_and_where_they_ended() {
        let millis = Duration::from_millis;
        let mut series = Series::new(Duration::from_secs(12));
        series.ended(millis(10), millis(20), true, true);
        series.ended(millis(20), millis(250), false, true);
        series.ended(millis(250), millis(260), false, false);
        let points = series.points();
        assert_eq!(points.len(), 3);
        let rates = |p: &Point| (p.due_per_second, p.answered_per_second, p.errors_per_second);
        assert_eq!(rates(&points[0]), (20.0, 10.0, 0.0));
        assert_eq!(rates(&points[1]), (0.0, 0.0, 0.0));
        assert_eq!(rates(&points[2]), (10.0, 10.0, 20.0));
        assert!(points[0].max_ms.is_some_and(|ms| (ms - 230.0).abs() < 3.0));
        assert_eq!(points[2].p50_ms, None);
    }

    #[test]
    fn a_run_without_end_has_no_windows_without_end() {
        let mut series = Series::new(Duration::ZERO);
        series.ended(Duration::ZERO, Duration::MAX, true, true);
        assert_eq!(series.points().len(), WINDOWS_MAX);
    }
}
