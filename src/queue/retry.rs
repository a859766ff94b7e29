//! What is done after an attempt to run an event. Pure. As on AWS: a function that failed is tried twice more, first after a minute; what
//! never reached the function, because of a limit or because there was no worker, waits longer and longer and is not counted.

use std::time::Duration;

use crate::domain::event::{Failure, Verdict};
use crate::domain::fault::{Blame, Fault};

/// The shortest and the longest wait of an event that did not reach its function.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Characters of a message that are kept.
const MESSAGE_MAX: usize = 1000;

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
    pub fn attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }
}

/// `attempt` is the one that ended, counted from 1; `age` is that of the event.
pub fn decide(
    result: Result<(), Fault>,
    attempt: u32,
    age: Duration,
    options: &Options,
) -> Verdict {
    let Err(fault) = result else {
        return Verdict::Succeeded;
    };
    let failure = Failure {
        code: fault.code().into(),
        message: fault.to_string().chars().take(MESSAGE_MAX).collect(),
    };
    let waits = matches!(fault, Fault::Throttled { .. }) || fault.blame() == Blame::Platform;
    if age >= options.max_age {
        return Verdict::Failed(failure);
    }
    if waits && attempt <= options.attempts() {
        // In proportion to how long it has waited, which doubles it each time without anything to remember.
        return Verdict::Again {
            after: age.clamp(SHORTEST, LONGEST),
            counts: false,
            failure,
        };
    }
    // A function that is not known here may be new elsewhere; what the client did wrong stays wrong.
    let hopeless = fault.blame() == Blame::Client && !matches!(fault, Fault::NotFound(_));
    if hopeless || attempt > options.retries {
        return Verdict::Failed(failure);
    }
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    Verdict::Again {
        after: options.delay.saturating_mul(doubled).min(options.max_age),
        counts: true,
        failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fault::{Report, Throttle};

    const OPTIONS: Options = Options {
        retries: 2,
        delay: Duration::from_secs(60),
        max_age: Duration::from_secs(6 * 3600),
    };

    fn after(fault: Fault, attempt: u32, age: u64) -> Option<(u64, bool)> {
        match decide(Err(fault), attempt, Duration::from_secs(age), &OPTIONS) {
            Verdict::Again { after, counts, .. } => Some((after.as_secs(), counts)),
            Verdict::Failed(_) => None,
            Verdict::Succeeded => unreachable!("it failed"),
        }
    }

    fn raised() -> Fault {
        Fault::Handler(Report {
            kind: "KeyError".into(),
            message: "x".repeat(5000),
            stack: Vec::new(),
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
        // It has ended its process again and again.
        assert_eq!(after(Fault::Interrupted, 4, 1), None);
    }

    #[test]
    fn a_message_is_cut() {
        let verdict = decide(Err(raised()), 3, Duration::ZERO, &OPTIONS);
        let Verdict::Failed(failure) = verdict else {
            unreachable!("the last attempt");
        };
        assert_eq!(failure.code, "function_error");
        assert_eq!(failure.message.chars().count(), MESSAGE_MAX);
    }
}
