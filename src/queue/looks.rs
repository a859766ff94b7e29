//! When the store is asked for events. Pure. A question may cost a commit, so places that become free one after the other are gathered for a
//! moment and filled by one question; and what ends asks for nothing when the last question brought less than there was room for.
//!
//! ```text
//! nothing waits ──submitted──▶ something may wait ──enough places, or the moment is over──▶ ask
//!       ▲                              ▲                                                      │
//!       └───────── got less ───────────┴───────────────── got all ────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// Between two looks for events whose time has come, or whose process is gone. Events of this process are claimed at once.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Between two attempts to reach a store that is away.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);
/// Of all places, the part that is enough for a question: a quarter.
const ENOUGH: usize = 4;

#[derive(Debug)]
pub(super) struct Looks {
    /// So many free places are not left waiting for more.
    enough: usize,
    gather: Duration,
    /// A point in time, and not a wait that whatever else happens would begin anew.
    at: Instant,
    /// Whether the store may have events whose time has come.
    more: bool,
    gathering: bool,
    away: bool,
}

impl Looks {
    pub(super) fn new(parallel: usize, gather: Duration, now: Instant) -> Self {
        Self {
            enough: (parallel / ENOUGH).max(1),
            gather,
            at: now,
            more: true,
            gathering: false,
            away: false,
        }
    }

    pub(super) fn at(&self) -> Instant {
        self.at
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.at
    }

    /// The store had `got` events for `free` places. Says whether it was away before.
    pub(super) fn answered(&mut self, free: usize, got: usize, now: Instant) -> bool {
        self.more = got == free;
        self.gathering = false;
        self.at = now + LOOK_AGAIN;
        std::mem::take(&mut self.away)
    }

    /// The store did not answer. Says whether it was away before.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.more = true;
        self.gathering = false;
        self.at = now + STORE_RETRY;
        std::mem::replace(&mut self.away, true)
    }

    /// There is something new to claim.
    pub(super) fn submitted(&mut self, free: usize, now: Instant) {
        self.more = true;
        self.ended(free, now);
    }

    /// There are free places that were taken.
    pub(super) fn ended(&mut self, free: usize, now: Instant) {
        if self.away || !self.more || free == 0 {
            return;
        }
        if free >= self.enough {
            self.at = now;
        } else if !self.gathering {
            self.gathering = true;
            self.at = now + self.gather;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_millis(10);

    /// One that just got all it asked for.
    fn busy(now: Instant) -> Looks {
        let mut looks = Looks::new(32, GATHER, now);
        assert!(looks.is_due(now), "it begins with a question");
        assert!(!looks.answered(32, 32, now));
        assert!(!looks.is_due(now));
        looks
    }

    #[test]
    fn places_are_gathered_for_a_moment() {
        let now = crate::clock::now();
        let mut looks = busy(now);
        looks.ended(1, now);
        assert!(!looks.is_due(now));
        // The moment is that of the first place, however many follow.
        looks.ended(7, now + GATHER / 2);
        assert!(!looks.is_due(now + GATHER / 2));
        assert!(looks.is_due(now + GATHER));
        looks.answered(7, 7, now + GATHER);
        looks.ended(8, now + GATHER);
        assert!(looks.is_due(now + GATHER), "a quarter is enough");
    }

    #[test]
    fn nothing_is_asked_after_an_answer_that_left_room() {
        let now = crate::clock::now();
        let mut looks = busy(now);
        looks.answered(8, 7, now);
        for free in 2..=32 {
            looks.ended(free, now);
        }
        assert!(!looks.is_due(now));
        assert!(
            looks.is_due(now + LOOK_AGAIN),
            "somebody else's may be there"
        );
        looks.submitted(32, now);
        assert!(looks.is_due(now));
    }

    #[test]
    fn what_is_new_while_everything_runs_is_asked_for_when_something_ends() {
        let now = crate::clock::now();
        let mut looks = busy(now);
        looks.answered(1, 0, now);
        looks.submitted(0, now);
        assert!(!looks.is_due(now), "there is no place");
        looks.ended(1, now);
        assert!(looks.is_due(now + GATHER));
    }

    #[test]
    fn a_store_that_is_away_is_left_alone_for_a_while() {
        let now = crate::clock::now();
        let mut looks = busy(now);
        assert!(!looks.failed(now));
        looks.submitted(32, now);
        looks.ended(32, now);
        assert!(!looks.is_due(now));
        let later = now + STORE_RETRY;
        assert!(looks.is_due(later));
        assert!(looks.failed(later));
        assert!(looks.answered(32, 0, later + STORE_RETRY));
    }

    #[test]
    fn one_place_is_enough_where_there_are_few() {
        let now = crate::clock::now();
        let mut looks = Looks::new(1, GATHER, now);
        looks.answered(1, 1, now);
        looks.ended(1, now);
        assert!(looks.is_due(now));
    }
}
