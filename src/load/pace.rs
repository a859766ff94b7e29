//! Waits until a call is due, to some tens of microseconds: the timers of the async runtime count whole milliseconds, which is
//! several times the answer of a warm call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use crate::clock;

/// One timer of the kernel.
#[derive(Debug)]
pub struct Pacer {
    timer: TimerFd,
    /// The same timer, as what the runtime watches.
    watched: AsyncFd<OwnedFd>,
}

impl Pacer {
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may close their descriptor early; this one cannot"
        )]
        let watched = AsyncFd::new(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, watched })
    }

    /// Returns at `due`, or at once if that is over.
    pub async fn until(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(clock::now());
        // Zero would switch the timer off.
        if left < Duration::from_micros(1) {
            return Ok(());
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(once, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.watched.readable().await?;
            match self.timer.wait() {
                Ok(()) => return Ok(()),
                // The readiness was of the wait before.
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_as_long_as_it_should_and_again() {
        let mut pacer = Pacer::new().expect("a timer");
        for _ in 0..3 {
            let due = clock::now() + Duration::from_millis(20);
            pacer.until(due).await.expect("waited");
            assert!(clock::now() >= due);
        }
        let past = clock::now();
        tokio::time::timeout(Duration::from_secs(5), pacer.until(past))
            .await
            .expect("at once")
            .expect("waited");
    }
}
