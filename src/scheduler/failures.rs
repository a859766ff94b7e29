//! What the log says of calls without an answer. Each leaves a line with its request id; whose fault it is decides how loud that is. What all
//! calls meet while it lasts, such as a store that does not answer, is warned of now and then: one line stands for many, which are told at
//! `debug`.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::domain::fault::{Blame, Fault};
use crate::domain::id::{FunctionName, RequestId};
use crate::telemetry::often::Often;

/// Characters of a fault that stand in the log.
const TEXT_MAX: usize = 300;

#[derive(Debug, Default)]
pub struct Failures {
    /// Of what is warned of now and then, by its code.
    often: Mutex<BTreeMap<&'static str, Often>>,
}

impl Failures {
    pub fn tell(
        &self,
        fault: &Fault,
        function: &FunctionName,
        request_id: RequestId,
        now: Instant,
    ) {
        let code = fault.code();
        // Function's text: cut, and as Debug, which escapes what could pass for a line of ours.
        let text: String = fault.to_string().chars().take(TEXT_MAX).collect();
        let fault_text = text.as_str();
        match fault.blame() {
            Blame::Client => {
                tracing::debug!(%request_id, %function, code, fault = ?fault_text, "call refused");
            }
            Blame::Function => {
                tracing::info!(%request_id, %function, code, fault = ?fault_text, "function failed");
            }
            Blame::Platform if !fault.is_of_all() => {
                tracing::warn!(%request_id, %function, code, fault = ?fault_text, "call failed");
            }
            Blame::Platform => {
                let calls = self.often.lock().entry(code).or_default().to_log(now);
                match calls {
                    Some(calls) => {
                        tracing::warn!(calls, %request_id, %function, code, fault = ?fault_text, "call failed, the last of them");
                    }
                    None => {
                        tracing::debug!(%request_id, %function, code, fault = ?fault_text, "call failed");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tracing::Level;
    use tracing::span::{Attributes, Id, Record};

    use super::*;
    use crate::clock;

    /// Counts the lines of each level.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<BTreeMap<Level, usize>>>);

    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            *self.0.lock().entry(*event.metadata().level()).or_default() += 1;
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn what_all_calls_meet_is_warned_of_now_and_then() {
        let (lines, failures, begun) = (Lines::default(), Failures::default(), clock::now());
        let name = FunctionName::parse("f").expect("a name");
        let tell = |fault: &Fault, seconds| {
            let at = begun + Duration::from_secs(seconds);
            failures.tell(fault, &name, RequestId::generate(), at);
        };
        let counted = |level| lines.0.lock().get(&level).copied().unwrap_or(0);
        tracing::subscriber::with_default(lines.clone(), || {
            for _ in 0..1000 {
                tell(&Fault::PermitsLost, 0);
            }
            assert_eq!((counted(Level::WARN), counted(Level::DEBUG)), (1, 999));
            tell(&Fault::Draining, 0);
            assert_eq!(counted(Level::WARN), 2, "that is something else");
            tell(&Fault::PermitsLost, 60);
            assert_eq!(counted(Level::WARN), 3);
            for _ in 0..3 {
                tell(&Fault::StartFailed("of this one".into()), 0);
            }
            assert_eq!(counted(Level::WARN), 6, "each is its own");
        });
    }
}
