//! What became of a function's latest calls, for those who look: the calls themselves, how many there were and how long they took. Bounded,
//! and gone with the process; what has to be kept is in the metrics. Warm path: one short lock of the function's own, and no allocation
//! once it is full.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::domain::fault::{Blame, Fault};
use crate::domain::id::RequestId;
use crate::domain::invocation::{Phases, StartKind, StartReason};
use crate::domain::version::VersionId;
use crate::scheduler::Called;

/// Calls that are remembered, and that the percentiles are of.
pub const REMEMBERED: usize = 200;
/// Calls are counted in spans of this length.
pub const SPAN: Duration = Duration::from_secs(10);
/// Characters of a fault's message that are remembered.
const MESSAGE_MAX: usize = 300;
/// Spans that are remembered.
pub const SPANS: usize = 30;

/// One call that has ended.
#[derive(Debug, Clone)]
pub struct Call {
    pub request_id: RequestId,
    pub version: VersionId,
    pub ended_at: jiff::Timestamp,
    pub start: Option<(StartKind, StartReason)>,
    pub phases: Phases,
    /// From its arrival to its answer.
    pub took: Duration,
    /// The code of what it failed with, and whose fault that was.
    pub fault: Option<(&'static str, Blame)>,
    /// What the fault said, cut.
    pub message: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Record {
    since: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Call>,
    counts: Counts,
    /// Number of the span, counted from `since`, and its calls; oldest first.
    spans: VecDeque<(u64, Span)>,
}

/// Since the function is known to this process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub failed: u64,
    pub warm: u64,
    pub stem: u64,
    pub cold: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub calls: u64,
    pub failed: u64,
}

#[derive(Debug, PartialEq)]
pub struct Summary {
    pub counts: Counts,
    /// Of the calls that are remembered.
    pub median: Option<Duration>,
    pub p99: Option<Duration>,
    /// The newest last; always as many, and those without calls are empty.
    pub spans: Vec<Span>,
}

/// Of a function that was never called.
impl Default for Summary {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            median: None,
            p99: None,
            spans: vec![Span::default(); SPANS],
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            since: clock::now(),
            kept: Mutex::default(),
        }
    }
}

impl Record {
    pub fn ended(&self, version: VersionId, called: &Called, took: Duration, now: Instant) {
        let fault = called.result.as_ref().err();
        let call = Call {
            request_id: called.request_id,
            version,
            ended_at: clock::wall(),
            start: called.start,
            phases: called.phases,
            took,
            fault: fault.map(|fault: &Fault| (fault.code(), fault.blame())),
            message: fault.map(|fault| fault.to_string().chars().take(MESSAGE_MAX).collect()),
        };
        let (number, failed) = (self.number(now), u64::from(fault.is_some()));
        let mut kept = self.kept.lock();
        kept.counts.calls += 1;
        kept.counts.failed += failed;
        match called.start {
            Some((StartKind::Warm, _)) => kept.counts.warm += 1,
            Some((StartKind::Stem, _)) => kept.counts.stem += 1,
            Some((StartKind::Cold, _)) => kept.counts.cold += 1,
            None => {}
        }
        // A call that was overtaken on its way here counts for the newer span.
        if kept.spans.back().is_none_or(|(newest, _)| *newest < number) {
            if kept.spans.capacity() < SPANS {
                kept.spans.reserve_exact(SPANS);
            }
            if kept.spans.len() == SPANS {
                kept.spans.pop_front();
            }
            kept.spans.push_back((number, Span::default()));
        }
        if let Some((_, span)) = kept.spans.back_mut() {
            span.calls += 1;
            span.failed += failed;
        }
        if kept.latest.len() == REMEMBERED {
            kept.latest.pop_front();
        } else if kept.latest.capacity() < REMEMBERED {
            // At once and not in steps, of which each would be in somebody's call.
            kept.latest.reserve_exact(REMEMBERED);
        }
        kept.latest.push_back(call);
    }

    /// The calls that are remembered, the newest first.
    pub fn latest(&self, limit: usize) -> Vec<Call> {
        let kept = self.kept.lock();
        kept.latest.iter().rev().take(limit).cloned().collect()
    }

    /// A call that is remembered.
    pub fn find(&self, id: &RequestId) -> Option<Call> {
        let kept = self.kept.lock();
        let found = kept.latest.iter().rev().find(|call| call.request_id == *id);
        found.cloned()
    }

    pub fn counts(&self) -> Counts {
        self.kept.lock().counts
    }

    pub fn summary(&self, now: Instant) -> Summary {
        let newest = self.number(now);
        let (counts, mut took, kept) = {
            let kept = self.kept.lock();
            let took: Vec<_> = kept.latest.iter().map(|call| call.took).collect();
            let spans: Vec<_> = kept.spans.iter().copied().collect();
            (kept.counts, took, spans)
        };
        took.sort_unstable();
        let mut spans = vec![Span::default(); SPANS];
        for (number, span) in kept {
            let age = usize::try_from(newest.saturating_sub(number)).unwrap_or(SPANS);
            if let Some(place) = SPANS.checked_sub(age + 1).and_then(|at| spans.get_mut(at)) {
                *place = span;
            }
        }
        Summary {
            counts,
            median: percentile(&took, 50),
            p99: percentile(&took, 99),
            spans,
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() / SPAN.as_secs()
    }
}

/// The smallest value that so many of a hundred are not above.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::scheduler::Answer;

    fn called(kind: Option<StartKind>, failed: bool) -> Called {
        Called {
            request_id: RequestId::generate(),
            phases: Phases::default(),
            start: kind.map(|kind| (kind, StartReason::Idle)),
            cause: None,
            result: match failed {
                true => Err(Fault::Draining),
                false => Ok(Answer::Whole {
                    body: Bytes::new(),
                    raw: false,
                }),
            },
            log_tail: String::new(),
            memory: None,
        }
    }

    #[test]
    fn the_newest_calls_are_remembered_and_all_are_counted() {
        let record = Record::default();
        let now = record.since;
        for n in 0..REMEMBERED + 5 {
            let took = Duration::from_millis(n as u64);
            record.ended(
                VersionId::Latest,
                &called(Some(StartKind::Warm), false),
                took,
                now,
            );
        }
        record.ended(
            VersionId::Latest,
            &called(None, true),
            Duration::from_secs(9),
            now,
        );
        let latest = record.latest(usize::MAX);
        assert_eq!(latest.len(), REMEMBERED);
        assert_eq!(latest[0].fault, Some(("draining", Blame::Platform)));
        assert_eq!(
            latest[0].message.as_deref(),
            Some(&*Fault::Draining.to_string())
        );
        let found = record.find(&latest[199].request_id).expect("remembered");
        assert_eq!(found.took, Duration::from_millis(6));
        assert!(record.find(&RequestId::generate()).is_none());
        assert_eq!(latest[1].took, Duration::from_millis(204));
        let summary = record.summary(now);
        let counts = Counts {
            calls: 206,
            failed: 1,
            warm: 205,
            ..Counts::default()
        };
        assert_eq!(summary.counts, counts);
        // 6 to 204, and the one of nine seconds.
        assert_eq!(summary.median, Some(Duration::from_millis(105)));
        assert_eq!(summary.p99, Some(Duration::from_millis(203)));
    }

    #[test]
    fn spans_move_with_the_time_and_end() {
        let record = Record::default();
        let at = |spans: u32| record.since + SPAN * spans + Duration::from_secs(1);
        assert_eq!(record.summary(at(7)).spans, vec![Span::default(); SPANS]);
        assert_eq!(record.summary(at(7)).median, None);
        let one = called(Some(StartKind::Cold), false);
        record.ended(VersionId::Latest, &one, Duration::ZERO, at(0));
        record.ended(
            VersionId::Latest,
            &called(None, true),
            Duration::ZERO,
            at(3),
        );
        // Overtaken.
        record.ended(VersionId::Latest, &one, Duration::ZERO, at(2));
        let spans = |now: u32| {
            let spans = record.summary(at(now)).spans.into_iter().enumerate();
            let some = spans.filter(|(_, span)| span.calls > 0);
            some.map(|(at, span)| (at, span.calls, span.failed))
                .collect::<Vec<_>>()
        };
        assert_eq!(spans(3), [(26, 1, 0), (29, 2, 1)]);
        assert_eq!(spans(30), [(2, 2, 1)]);
        assert_eq!(spans(33), []);
        for n in 4..100 {
            record.ended(VersionId::Latest, &one, Duration::ZERO, at(n));
        }
        assert_eq!(spans(99).len(), SPANS);
    }
}
