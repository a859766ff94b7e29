//! What this process may believe about its lease on permits. Pure: told what was asked, answered or seen, and when; moved by the one
//! task of `share`. Why it is safe is said in `store::permits`.
//!
//! ```text
//!           renewed                        silent, or stopped, for too long
//!   none ────────────▶ held ◀─┐ renewed ──────────────────────────────────▶ run out
//!                       │  └──┘                                               │  ▲
//!                       │ closed by the other end, and nobody there    renewed│  │ silent, or stopped
//!                       ▼                                                     ▼  │
//!                     held for as long as that is so ────────────────────────────┘
//! ```

use std::time::Duration;

#[derive(Debug)]
pub struct Lease {
    time: Duration,
    sequence: u64,
    /// There was an answer to an ask.
    heard: bool,
    /// The number of the last ask that was granted.
    answered: u64,
    /// By a clock that goes on while the process is stopped. `None` before the first answer.
    until: Option<Duration>,
    /// The ledger closed the connection, and has been nowhere since.
    closed: bool,
}

impl Lease {
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            sequence: 0,
            heard: false,
            answered: 0,
            until: None,
            closed: false,
        }
    }

    /// The number of the next ask, and whether what is held may still be spent. Until one is answered each is the first, which takes over
    /// what the last run had: who knows which of them arrives.
    pub fn ask(&mut self, now: Duration) -> (u64, bool) {
        if self.heard || self.sequence == 0 {
            self.sequence += 1;
        }
        (self.sequence, self.lasts(now))
    }

    /// The number of the last ask that was granted.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The ledger has answered, whatever it was.
    pub fn heard(&mut self) {
        self.heard = true;
    }

    /// Permits may be spent until then.
    pub fn until(&self) -> Duration {
        self.until.unwrap_or_default()
    }

    /// Whether there ever was one.
    pub fn began(&self) -> bool {
        self.until.is_some()
    }

    pub fn lasts(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// The last ask, which was sent at `asked`, was granted. A tenth is left to clocks that do not go alike.
    pub fn renewed(&mut self, asked: Duration) {
        self.answered = self.sequence;
        self.until = Some(asked + self.time * 9 / 10);
        self.closed = false;
    }

    /// The other end closed the connection on which it tells to ask again.
    pub fn closed(&mut self) {
        self.closed = true;
    }

    /// An ask failed. `away`: because nobody is there. Says whether the lease goes on without an answer. It does not if it had run out
    /// before, as after the process was stopped: who knows what was granted to others in the meantime.
    pub fn failed(&mut self, now: Duration, away: bool) -> bool {
        self.closed &= away;
        let goes_on = self.closed && self.lasts(now);
        if goes_on {
            // When it is back, it hears everybody for the time of a lease before it gives anything away.
            self.until = self.until.max(Some(now + self.time * 9 / 10));
        }
        goes_on
    }

    /// Somebody else has taken over.
    pub fn ended(&mut self) {
        self.until = None;
    }

    /// Between two renewals.
    pub fn interval(&self) -> Duration {
        self.time / 4
    }

    /// Between two attempts while there is no answer: more often than the lease goes on without one.
    pub fn again(&self) -> Duration {
        (self.time / 8).min(Duration::from_millis(250))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_lasts_from_before_it_was_asked_for() {
        let mut lease = Lease::new(at(10));
        assert_eq!(lease.ask(at(90)), (1, false));
        assert_eq!(lease.ask(at(100)), (1, false));
        lease.heard();
        lease.renewed(at(100));
        assert!(lease.lasts(at(108)) && !lease.lasts(at(109)));
        assert_eq!(lease.answered(), 1);
        assert_eq!(lease.ask(at(109)), (2, false));
        assert_eq!(lease.answered(), 1);
    }

    #[test]
    fn a_ledger_that_went_away_is_told_from_one_that_is_silent() {
        let mut lease = Lease::new(at(10));
        lease.renewed(at(100));
        // Nobody answers: it runs out.
        assert!(!lease.failed(at(105), false));
        // Nobody is there, but nobody has said good-bye: the network may be cut here only.
        assert!(!lease.failed(at(105), true));
        lease.closed();
        for now in 105..200 {
            assert!(lease.failed(at(now), true));
            assert!(lease.lasts(at(now + 1)));
        }
        // One attempt that hangs, and it is not known any more.
        assert!(!lease.failed(at(200), false));
        assert!(!lease.failed(at(201), true));
        assert!(lease.lasts(at(207)) && !lease.lasts(at(208)));
    }

    #[test]
    fn who_was_stopped_while_the_ledger_was_away_has_nothing() {
        let mut lease = Lease::new(at(10));
        lease.renewed(at(100));
        lease.closed();
        assert!(lease.failed(at(101), true));
        assert!(!lease.failed(at(300), true));
        assert!(!lease.lasts(at(300)));
        lease.renewed(at(301));
        assert!(lease.lasts(at(301)));
    }
}
