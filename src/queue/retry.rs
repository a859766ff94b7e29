//! What is done after an attempt to run an event. Pure. As on AWS: a function that failed is tried twice more, first after a minute; what
//! never reached the function, because of a limit or because there was no worker, waits longer and longer and is not counted. Nor is an attempt
//! whose end nobody told, because its process died: that is the function's doing only if it happens again and again.

use std::time::Duration;

use crate::domain::destination::Asynchronous;
use crate::domain::event::{Failure, Verdict};
use crate::domain::fault::{Blame, Fault, Report, Throttle};
use crate::domain::id::RequestId;
use crate::queue::carrier::Refusal;
use crate::queue::delivery::DEPTH_MAX;
use crate::runtime::style::Style;

/// The shortest and the longest wait of an event that did not reach its function.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// So often an event is lost with its process. Then it is taken for what ends it.
pub const LOST_MAX: u32 = 10;
/// Characters of a message that are kept.
const MESSAGE_MAX: usize = 1000;

/// The code of an attempt that a limit refused.
pub const THROTTLED: &str = "throttled";
/// The code of an event whose function is gone.
pub const DELETED: &str = "function_deleted";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Attempts after the first.
    pub retries: u32,
    /// Before the first of them; each next one waits twice as long.
    pub delay: Duration,
    /// An event this old is not tried again.
    pub max_age: Duration,
}

impl Options {
    fn attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    /// With what a function has set for itself.
    pub fn with(self, own: &Asynchronous) -> Self {
        let age = own.max_event_age_seconds.map(u64::from);
        Self {
            retries: own.max_retries.unwrap_or(self.retries),
            max_age: age.map_or(self.max_age, Duration::from_secs),
            ..self
        }
    }
}

/// Why an attempt had no good end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Call(Fault),
    /// The destination did not take the record.
    Refused(Refusal),
    /// It was not tried any more.
    TooOld(Duration),
    /// It went with its process, so often.
    Lost(u32),
    /// Functions send to each other.
    Loop,
    /// The function it was accepted for was deleted: ids are never used again.
    Deleted,
}

impl Failed {
    fn code(&self) -> &str {
        match self {
            Failed::Call(fault) => fault.code(),
            Failed::Refused(_) => "delivery_refused",
            Failed::TooOld(_) => "event_too_old",
            Failed::Lost(_) => "interrupted",
            Failed::Loop => "recursive_loop",
            Failed::Deleted => DELETED,
        }
    }

    fn message(&self) -> String {
        match self {
            Failed::Call(fault) => fault.to_string(),
            Failed::Refused(refusal) => refusal.message.clone(),
            Failed::TooOld(age) => format!("it waited for {} seconds", age.as_secs()),
            Failed::Lost(times) => {
                format!("the server ended {times} times while it was run")
            }
            Failed::Loop => {
                format!("it comes from {DEPTH_MAX} calls that were run one because of the other")
            }
            Failed::Deleted => "its function was deleted before it was run".into(),
        }
    }

    /// As a status of HTTP, of what was not run.
    pub fn status(&self) -> u16 {
        match self {
            Failed::Call(Fault::Throttled { .. }) => 429,
            _ => 500,
        }
    }

    /// What is said of the attempt in the function's place: as an answer to a call would have it. `None` if it came to nothing.
    pub fn document(&self, style: &Style, id: RequestId) -> Option<String> {
        if self.is_before() {
            return None;
        }
        let written = match self {
            Failed::Call(fault) => style.text(fault, id),
            _ => None,
        };
        let plain = || {
            let report = Report::new(self.code(), self.message());
            serde_json::to_string(&report).expect("texts are JSON")
        };
        Some(written.unwrap_or_else(plain))
    }

    /// Nothing was run or taken, and it is not the event's fault.
    fn waits(&self) -> bool {
        match self {
            Failed::Call(fault) => {
                matches!(fault, Fault::Throttled { .. }) || fault.blame() == Blame::Platform
            }
            Failed::Refused(refusal) => refusal.for_now,
            Failed::TooOld(_) | Failed::Lost(_) | Failed::Loop | Failed::Deleted => false,
        }
    }

    /// The attempt came to nothing before anything of it was run or taken.
    pub fn is_before(&self) -> bool {
        matches!(self, Failed::TooOld(_) | Failed::Deleted) || self.waits()
    }

    /// Nothing of the function is to run at all: its reservation is zero.
    fn is_closed(&self) -> bool {
        matches!(
            self,
            Failed::Call(Fault::Throttled {
                reason: Throttle::ReservedConcurrency,
                limit: 0
            })
        )
    }

    /// Why it was given up after this attempt, in the words of AWS's invocation records.
    pub fn condition(&self, attempt: u32, options: &Options) -> &'static str {
        let more = match self.waits() {
            true => attempt <= options.attempts(),
            false => attempt <= options.retries && !self.is_hopeless(),
        };
        match self {
            _ if self.is_closed() => "ZeroReservedConcurrency",
            Failed::TooOld(_) => "EventAgeExceeded",
            _ if more => "EventAgeExceeded",
            _ => "RetriesExhausted",
        }
    }

    /// It will be the same again.
    fn is_hopeless(&self) -> bool {
        match self {
            // A function that is not known here may be new elsewhere; what the client did wrong stays wrong.
            Failed::Call(fault) => {
                fault.blame() == Blame::Client && !matches!(fault, Fault::NotFound(_))
            }
            Failed::Refused(_) => false,
            Failed::TooOld(_) | Failed::Lost(_) | Failed::Loop | Failed::Deleted => true,
        }
    }
}

/// `attempt` is the one that ended, counted from 1 and without those that were lost; `age` is that of the event.
pub fn decide(
    result: Result<(), &Failed>,
    attempt: u32,
    age: Duration,
    options: &Options,
) -> Verdict {
    let Err(failed) = result else {
        return Verdict::Succeeded;
    };
    let failure = Failure {
        code: failed.code().into(),
        message: failed.message().chars().take(MESSAGE_MAX).collect(),
    };
    if age >= options.max_age || failed.is_hopeless() && !failed.waits() || failed.is_closed() {
        return Verdict::Failed(failure);
    }
    if failed.waits() {
        // In proportion to how long it has waited, which doubles it each time without anything to remember.
        return Verdict::Again {
            after: age.clamp(SHORTEST, LONGEST),
            counts: false,
            failure,
        };
    }
    if attempt > options.retries {
        return Verdict::Failed(failure);
    }
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    let after = options.delay.saturating_mul(doubled);
    if age.saturating_add(after) >= options.max_age {
        // It would be too old by then.
        return Verdict::Failed(failure);
    }
    Verdict::Again {
        after,
        counts: true,
        failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        retries: 2,
        delay: Duration::from_secs(60),
        max_age: Duration::from_secs(6 * 3600),
    };

    fn after(fault: Fault, attempt: u32, age: u64) -> Option<(u64, bool)> {
        decided(&Failed::Call(fault), attempt, age)
    }

    fn decided(failed: &Failed, attempt: u32, age: u64) -> Option<(u64, bool)> {
        match decide(Err(failed), attempt, Duration::from_secs(age), &OPTIONS) {
            Verdict::Again { after, counts, .. } => Some((after.as_secs(), counts)),
            Verdict::Failed(_) => None,
            _ => unreachable!("it failed"),
        }
    }

    fn raised() -> Fault {
        Fault::Handler(Report {
            kind: "KeyError".into(),
            message: "x".repeat(5000),
            stack: Vec::new(),
            document: None,
        })
    }

    #[test]
    fn a_function_that_fails_is_tried_twice_more() {
        assert_eq!(after(raised(), 1, 0), Some((60, true)));
        assert_eq!(after(raised(), 2, 60), Some((120, true)));
        assert_eq!(after(raised(), 3, 180), None);
        assert_eq!(after(raised(), 1, 6 * 3600), None, "too old");
        let good = decide(Ok(()), 3, Duration::ZERO, &OPTIONS);
        assert_eq!(good, Verdict::Succeeded);
    }

    #[test]
    fn what_never_ran_waits_and_is_not_counted() {
        let throttled = || Fault::Throttled {
            reason: Throttle::FunctionConcurrency,
            limit: 1,
        };
        assert_eq!(throttled().code(), THROTTLED);
        assert_eq!(after(throttled(), 1, 0), Some((0, false)));
        assert_eq!(after(throttled(), 3, 40), Some((40, false)));
        assert_eq!(after(throttled(), 3, 4000), Some((300, false)));
        assert_eq!(after(throttled(), 3, 6 * 3600), None);
        assert_eq!(after(Fault::Draining, 1, 1), Some((1, false)));
    }

    #[test]
    fn what_cannot_get_better_is_given_up() {
        assert_eq!(after(Fault::PayloadNotJson("x".into()), 1, 0), None);
        assert_eq!(after(Fault::NotFound("x".into()), 1, 0), Some((60, true)));
        assert_eq!(decided(&Failed::Deleted, 1, 0), None);
        assert!(Failed::Deleted.is_before());
        // It has ended its process again and again.
        let lost = Failed::Lost(LOST_MAX);
        assert_eq!(decided(&lost, 1, 1), None);
        assert_eq!(lost.condition(1, &OPTIONS), "RetriesExhausted");
        // That it ended in good order once says nothing.
        assert_eq!(after(Fault::Interrupted, 4, 1), Some((1, false)));
    }

    #[test]
    fn a_destination_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
        let refused = |for_now| {
            Failed::Refused(Refusal {
                message: "no".into(),
                for_now,
            })
        };
        assert_eq!(decided(&refused(true), 9, 40), Some((40, false)));
        assert_eq!(decided(&refused(true), 1, 6 * 3600), None);
        assert_eq!(decided(&refused(false), 1, 0), Some((60, true)));
        assert_eq!(decided(&refused(false), 3, 0), None);
        assert_eq!(decided(&Failed::Loop, 1, 0), None);
        assert_eq!(decided(&Failed::TooOld(Duration::ZERO), 1, 0), None);
    }

    #[test]
    fn what_a_function_sets_wins() {
        let own = Asynchronous {
            max_retries: Some(0),
            max_event_age_seconds: Some(90),
            ..Asynchronous::default()
        };
        let options = OPTIONS.with(&own);
        assert_eq!(
            (options.retries, options.max_age),
            (0, Duration::from_secs(90))
        );
        let failed = Failed::Call(raised());
        let verdict = decide(Err(&failed), 1, Duration::ZERO, &options);
        assert!(matches!(verdict, Verdict::Failed(_)));
        assert_eq!(OPTIONS.with(&Asynchronous::default()), OPTIONS);
    }

    #[test]
    fn nobody_waits_for_a_retry_that_comes_too_late() {
        let options = Options {
            max_age: Duration::from_secs(90),
            ..OPTIONS
        };
        let failed = Failed::Call(raised());
        let second = |age| decide(Err(&failed), 1, Duration::from_secs(age), &options);
        assert!(matches!(second(29), Verdict::Again { counts: true, .. }));
        assert!(matches!(second(30), Verdict::Failed(_)));
        assert_eq!(failed.condition(1, &options), "EventAgeExceeded");
        assert_eq!(failed.condition(2, &options), "EventAgeExceeded");
        assert_eq!(failed.condition(3, &options), "RetriesExhausted");
        let old = Failed::TooOld(Duration::from_secs(90));
        assert_eq!(old.condition(3, &options), "EventAgeExceeded");
    }

    #[test]
    fn an_event_of_a_function_that_nobody_may_run_is_given_up() {
        let throttled = |limit| {
            Failed::Call(Fault::Throttled {
                reason: Throttle::ReservedConcurrency,
                limit,
            })
        };
        assert_eq!(decided(&throttled(0), 1, 0), None);
        let words = |failed: Failed| failed.condition(1, &OPTIONS);
        assert_eq!(words(throttled(0)), "ZeroReservedConcurrency");
        assert_eq!(decided(&throttled(1), 1, 0), Some((0, false)));
        assert_eq!(words(throttled(1)), "EventAgeExceeded");
        assert!(throttled(1).is_before() && !Failed::Call(raised()).is_before());
        assert_eq!(words(Failed::Loop), "RetriesExhausted");
    }

    #[test]
    fn a_message_is_cut() {
        let verdict = decide(Err(&Failed::Call(raised())), 3, Duration::ZERO, &OPTIONS);
        let Verdict::Failed(failure) = verdict else {
            unreachable!("the last attempt");
        };
        assert_eq!(failure.code, "function_error");
        assert_eq!(failure.message.chars().count(), MESSAGE_MAX);
    }
}
