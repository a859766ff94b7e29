//! The only reader of time.

#![expect(clippy::disallowed_methods, reason = "the one place that reads time")]

pub mod patience;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The two clocks may drift apart by so much between two looks: the wall clock is being adjusted, not set.
const DRIFT: Duration = Duration::from_secs(2);

/// Monotonic; for everything that measures or waits.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Time since the machine was started, also while this process is stopped or the machine sleeps: for what others may take away
/// in the meantime.
pub fn since_boot() -> Duration {
    #[cfg(test)]
    if let Some(boot) = BOOT.get() {
        return now().saturating_duration_since(boot);
    }
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had it since 2.6.39");
    Duration::from(time)
}

/// In a simulation the machine was started then: on this thread, from now on.
#[cfg(test)]
pub fn booted(at: Option<Instant>) {
    BOOT.set(at);
}

#[cfg(test)]
thread_local! {
    static BOOT: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// Wall-clock time; for what people and other programs read. The only decision it makes is whether a key has expired, which was said as
/// a date.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Milliseconds since the Unix epoch, as the worker protocol carries deadlines.
pub fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// Notices when the wall clock is set. Nothing here is decided by it, but what people read in logs is dated by it.
#[derive(Debug)]
pub struct Watch {
    last: (Instant, SystemTime),
}

impl Watch {
    pub fn begin() -> Self {
        Self {
            last: (now(), SystemTime::now()),
        }
    }

    /// By how many seconds the clock was set since the last look; forward is positive.
    pub fn jumped(&mut self) -> Option<f64> {
        let seen = (now(), SystemTime::now());
        let before = std::mem::replace(&mut self.last, seen);
        jump(before, seen)
    }
}

fn jump(before: (Instant, SystemTime), after: (Instant, SystemTime)) -> Option<f64> {
    let passed = after.0.saturating_duration_since(before.0);
    let shown = match after.1.duration_since(before.1) {
        Ok(forward) => forward.as_secs_f64(),
        Err(backward) => -backward.duration().as_secs_f64(),
    };
    let by = shown - passed.as_secs_f64();
    (by.abs() > DRIFT.as_secs_f64()).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let (start, wall) = (now(), SystemTime::now());
        let hour = Duration::from_secs(3600);
        let later = |passed: Duration| start + passed;
        let by = |passed, shown| jump((start, wall), (later(passed), shown));
        assert_eq!(by(hour, wall + hour), None);
        assert_eq!(by(hour, wall + hour + DRIFT / 2), None);
        let forward = by(Duration::ZERO, wall + hour).expect("set forward");
        assert!((forward - 3600.0).abs() < 1.0, "{forward}");
        let back = by(hour, wall).expect("set back");
        assert!((back + 3600.0).abs() < 1.0, "{back}");
        // A look that came late is no jump.
        assert_eq!(by(hour * 24, wall + hour * 24), None);
    }
}
