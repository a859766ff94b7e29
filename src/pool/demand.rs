//! How many stem workers a runtime should have. Pure. Follows the largest burst of the recent past: as many as were wanted
//! within one bucket are wanted again, until the window has forgotten it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bursts are counted in steps of this length: about the time an emptied pool takes to refill.
const BUCKET: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Demand {
    window: Duration,
    /// Start of a bucket and the stem workers wanted in it, newest last.
    buckets: VecDeque<(Instant, usize)>,
}

impl Demand {
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            buckets: VecDeque::new(),
        }
    }

    /// A stem worker was taken, or would have been if one had been there.
    pub fn wanted(&mut self, now: Instant) {
        match self.buckets.back_mut() {
            Some((start, count)) if now.saturating_duration_since(*start) < BUCKET => *count += 1,
            _ => self.buckets.push_back((now, 1)),
        }
        self.forget(now);
    }

    pub fn target(&mut self, now: Instant, min: usize, max: usize) -> usize {
        self.forget(now);
        self.buckets
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(0)
            .clamp(min, max)
    }

    fn forget(&mut self, now: Instant) {
        while self
            .buckets
            .front()
            .is_some_and(|(start, _)| now.saturating_duration_since(*start) > self.window)
        {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_largest_recent_burst_and_forgets_it() {
        let start = crate::clock::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut demand = Demand::new(Duration::from_secs(60));
        assert_eq!(demand.target(at(0), 2, 8), 2);
        for _ in 0..5 {
            demand.wanted(at(10));
        }
        demand.wanted(at(30));
        assert_eq!(demand.target(at(31), 2, 8), 5);
        assert_eq!(demand.target(at(31), 2, 4), 4);
        assert_eq!(demand.target(at(80), 2, 8), 2);
    }
}
