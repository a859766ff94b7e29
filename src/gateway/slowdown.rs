//! Slows down who tries keys. Every client address has some failures free, and gets them back with time; beyond, each is answered later
//! than the one before, with 429 and when to come back. A good key is never slowed: it is looked at first. Pure: a failure and the time
//! go in, what to do comes out. Memory is bounded: when the table is full, those it has no room for share one record.
//!
//! An address of IPv6 counts by its first 64 bits, which is what one client has. The loopback address is like any other: behind a proxy
//! on this machine, everybody has it. What a proxy says about whom it speaks for is not believed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::api::room::source;
use crate::telemetry::often::Often;

/// Addresses that are remembered.
const SOURCES_MAX: usize = 4096;
/// Between two searches of a full table for those that may be forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// One failure is forgiven in this time.
const FORGIVEN: Duration = Duration::from_secs(1);
/// The wait doubles with every failure this often.
const DOUBLINGS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const FIRST_HOLD: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Slowdown {
    /// Failures an address has free.
    free: f64,
    sources: HashMap<u128, Record>,
    /// Of those there is no room for.
    others: Record,
    swept: Option<Instant>,
    /// Of failures.
    log: Often,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Failures that are not forgiven yet, at that time.
    debt: f64,
    at: Option<Instant>,
    /// Failures since it had no free ones left.
    strikes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Answer,
    /// The answer is held back this long, and says when to come back.
    Slow {
        hold: Duration,
        wait: Duration,
    },
}

impl Slowdown {
    pub fn new(free: u32) -> Self {
        Self {
            free: f64::from(free),
            sources: HashMap::new(),
            others: Record::default(),
            swept: None,
            log: Often::default(),
        }
    }

    /// A key from there opened nothing.
    pub fn failed(&mut self, from: IpAddr, now: Instant) -> Verdict {
        let source = source(from);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sweep(now);
        }
        let room = self.sources.len() < SOURCES_MAX;
        let record = match self.sources.get_mut(&source) {
            Some(record) => record,
            None if room => self.sources.entry(source).or_default(),
            None => &mut self.others,
        };
        record.failed(self.free, now)
    }

    /// How many failures to log now, if it is time to.
    pub fn to_log(&mut self, now: Instant) -> Option<u64> {
        self.log.to_log(now)
    }

    fn sweep(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < SWEEP;
        if self.swept.is_some_and(lately) {
            return;
        }
        self.swept = Some(now);
        self.sources.retain(|_, record| record.debt(now) > 0.0);
    }
}

impl Record {
    fn debt(&self, now: Instant) -> f64 {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.debt - passed.as_secs_f64() / FORGIVEN.as_secs_f64()).max(0.0)
    }

    fn failed(&mut self, free: f64, now: Instant) -> Verdict {
        let debt = self.debt(now);
        if debt == 0.0 {
            self.strikes = 0;
        }
        self.at = Some(now);
        if debt + 1.0 <= free {
            self.debt = debt + 1.0;
            return Verdict::Answer;
        }
        self.debt = debt;
        let doubled = 1 << self.strikes;
        self.strikes = (self.strikes + 1).min(DOUBLINGS);
        Verdict::Slow {
            hold: FIRST_HOLD * doubled,
            wait: FIRST_WAIT * doubled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn wait(verdict: Verdict) -> Option<u64> {
        match verdict {
            Verdict::Answer => None,
            Verdict::Slow { wait, hold } => {
                assert!(hold <= Duration::from_secs(4), "{hold:?}");
                Some(wait.as_secs())
            }
        }
    }

    #[test]
    fn failures_are_free_then_slower_and_slower_then_forgiven() {
        let mut slowdown = Slowdown::new(3);
        let (here, now) = (address("10.0.0.1"), crate::clock::now());
        let waits: Vec<_> = (0..12).map(|_| wait(slowdown.failed(here, now))).collect();
        let wanted = [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 64, 64];
        let wanted: Vec<_> = wanted.iter().map(|n| Some(*n).filter(|n| *n > 0)).collect();
        assert_eq!(waits, wanted);
        assert_eq!(
            wait(slowdown.failed(address("10.0.0.2"), now)),
            None,
            "somebody else"
        );
        let second = Duration::from_secs(1);
        assert_eq!(
            wait(slowdown.failed(here, now + second)),
            None,
            "one is forgiven"
        );
        assert_eq!(
            wait(slowdown.failed(here, now + second)),
            Some(64),
            "and no more"
        );
        let later = now + second * 60;
        assert_eq!(wait(slowdown.failed(here, later)), None);
        for _ in 0..2 {
            assert_eq!(wait(slowdown.failed(here, later)), None);
        }
        assert_eq!(
            wait(slowdown.failed(here, later)),
            Some(1),
            "from the beginning"
        );
        // A clock that stands still, or a failure that was noted late.
        assert!(wait(slowdown.failed(here, now)).is_some());
    }

    #[test]
    fn an_attacker_with_many_addresses_takes_no_more_memory_and_no_other_s_place() {
        let mut slowdown = Slowdown::new(2);
        let now = crate::clock::now();
        let known = address("192.0.2.1");
        slowdown.failed(known, now);
        for n in 0..3 * SOURCES_MAX as u32 {
            slowdown.failed(IpAddr::V4(n.into()), now);
        }
        assert_eq!(slowdown.sources.len(), SOURCES_MAX);
        assert!(
            wait(slowdown.failed(address("198.51.100.7"), now)).is_some(),
            "shares a record"
        );
        assert_eq!(wait(slowdown.failed(known, now)), None, "has its own");
        let later = now + Duration::from_secs(600);
        assert_eq!(wait(slowdown.failed(address("198.51.100.7"), later)), None);
        assert_eq!(slowdown.sources.len(), 1, "the others are forgotten");
    }

    #[test]
    fn one_client_s_addresses_are_one() {
        let same = |a, b| source(address(a)) == source(address(b));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
