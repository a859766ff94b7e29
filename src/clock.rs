//! The only reader of time.

#![expect(clippy::disallowed_methods, reason = "the one place that reads time")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Monotonic; for everything that measures or waits.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Time since the machine was started, also while this process is stopped or the machine sleeps: for what others may take away
/// in the meantime.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had it since 2.6.39");
    Duration::from(time)
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
