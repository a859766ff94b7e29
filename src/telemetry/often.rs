//! A line of the log that could come with every call, or every connection: it is written now and then, and says how many it stands for.

use std::time::{Duration, Instant};

/// Between two such lines.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Often {
    unsaid: u64,
    said: Option<Instant>,
}

impl Often {
    /// It happened once more. How often since the last line, if it is time for one.
    pub fn to_log(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let lately = |at: Instant| now.saturating_duration_since(at) < AGAIN;
        if self.said.is_some_and(lately) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted() {
        let (mut often, begun) = (Often::default(), crate::clock::now());
        let seconds = |n| begun + Duration::from_secs(n);
        assert_eq!(often.to_log(begun), Some(1));
        assert_eq!(often.to_log(seconds(1)), None);
        assert_eq!(often.to_log(seconds(9)), None);
        assert_eq!(often.to_log(seconds(10)), Some(3));
        assert_eq!(often.to_log(seconds(11)), None);
        // A clock that stands still, or a time that was noted late.
        assert_eq!(often.to_log(begun), None);
    }
}
