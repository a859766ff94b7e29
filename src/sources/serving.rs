//! A batch under way: the function is called with it, until it was reached or there is no time left, and what it has handled is taken away from
//! the queue. What becomes of the rest is said in `sources`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::fault::{Blame, Fault};
use crate::domain::id::RequestId;
use crate::domain::invocation::Invocation;
use crate::domain::limits::PAYLOAD_MAX;
use crate::domain::mapping::MappingId;
use crate::domain::trace::Face;
use crate::scheduler::Answer;
use crate::scheduler::places;
use crate::sources::event::{self, Batch};
use crate::sources::outcome::{self, Failures};
use crate::sources::queues::{Message, Queues};
use crate::sources::slots::Slot;
use crate::sources::{Plan, Sources};
use crate::task;
use crate::telemetry::metrics;

/// A call that did not reach its function is tried again after this, then later and later.
const CALL_AGAIN: Duration = Duration::from_millis(250);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often it is tried to take messages away that were handled, and before the second time.
const DELETE_ATTEMPTS: u32 = 4;
const DELETE_AGAIN: Duration = Duration::from_millis(250);
/// Messages that a function would have for a little less than its time before others have them too are still for it.
pub(super) const SLACK: Duration = Duration::from_secs(2);
/// More bytes of messages are written, and looked into, where it may take long.
pub(super) const INLINE_MAX: usize = 64 * 1024;
/// What is still to be given back when the process stops has this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Handled,
    Failed,
    /// Nothing of it ran: a limit, or the platform.
    Unreached,
}

/// A place where the messages of a queue are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: Arc<str>,
    /// For so long nobody else has a message that was received.
    pub(super) visibility: Duration,
}

/// What a batch has to have, from before its messages are received: one of this process's slots for its mapping, and a place among those of all
/// processes, if its mapping says how many these are.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) _slot: Slot,
    pub(super) place: Option<places::Place>,
}

impl Turn {
    /// It is not another process's by now.
    fn lasts(&self) -> bool {
        self.place.as_ref().is_none_or(places::Place::lasts)
    }
}

/// A batch under way.
pub(super) struct Serving {
    pub(super) sources: Arc<Sources>,
    pub(super) id: MappingId,
    pub(super) plan: Arc<Plan>,
    pub(super) place: Place,
    pub(super) received: Instant,
    pub(super) turn: Turn,
    pub(super) stop: CancellationToken,
}

impl Serving {
    pub(super) async fn run(self, messages: Vec<Message>) -> Served {
        let queue = self.plan.mapping.queue.clone();
        let large = messages.iter().map(event::size).sum::<usize>() > INLINE_MAX;
        let batches = match large {
            false => event::batches(&queue, messages),
            true => {
                task::blocking("write an event", move || event::batches(&queue, messages)).await
            }
        };
        let mut whole = Served::Handled;
        // Most often it is one: what is too large for a call is more than one, one after the other.
        for batch in batches {
            // What comes after what was not handled must not be handled before it.
            if whole != Served::Handled && self.plan.mapping.queue.is_fifo() {
                self.leave(&batch).await;
                continue;
            }
            match self.serve(batch).await {
                Served::Handled => {}
                other => whole = other,
            }
        }
        whole
    }

    async fn serve(&self, batch: Batch) -> Served {
        let (served, problem) = match self.call(&batch.event).await {
            Ok(answer) => self.handled(&batch, &answer).await,
            Err(fault) if is_unreached(&fault) => {
                self.leave(&batch).await;
                (Served::Unreached, Some(fault.to_string()))
            }
            Err(fault) => {
                metrics::source_messages("failed", batch.messages.len());
                (Served::Failed, Some(fault.to_string()))
            }
        };
        let problem = problem.map(|problem| problem.chars().take(500).collect());
        self.sources.function_is(self.id, problem);
        served
    }

    /// Takes away what the function has handled, by its word where it gives one.
    async fn handled(&self, batch: &Batch, answer: &Bytes) -> (Served, Option<String>) {
        let messages = &batch.messages;
        let failures = match self.plan.mapping.reports_failures {
            false => Failures::None,
            true => {
                let ids = messages.iter().map(|message| message.message_id.as_str());
                outcome::failures(answer, ids)
            }
        };
        let (good, problem) = match failures {
            Failures::None => (handles(messages), None),
            Failures::Some(failed) => {
                let good = messages.iter().filter(|m| !failed.contains(&m.message_id));
                let good: Vec<_> = good.map(|m| m.receipt_handle.clone()).collect();
                let of = messages.len();
                let problem = format!(
                    "the function failed to handle {} of {of} messages",
                    of - good.len()
                );
                (good, Some(problem))
            }
            Failures::All(why) => (Vec::new(), Some(why)),
        };
        let failed = messages.len() - good.len();
        metrics::source_messages("failed", failed);
        metrics::source_messages("handled", good.len());
        let deleting = self.sources.delete(self.id, &self.place, good, &self.stop);
        deleting.await;
        let served = match failed {
            0 => Served::Handled,
            _ => Served::Failed,
        };
        (served, problem)
    }

    /// Leaves in the queue what was not tried. At a stop somebody else may have it at once.
    async fn leave(&self, batch: &Batch) {
        match self.sources.queues() {
            Some(queues) if self.stop.is_cancelled() => {
                give_back(queues, &self.place, &batch.messages).await;
            }
            _ => metrics::source_messages("unreached", batch.messages.len()),
        }
    }

    /// The function's answer, whole. It is not called, and a call that does not reach it is not tried again, when somebody else could have the
    /// messages before it has ended.
    async fn call(&self, event: &Bytes) -> Result<Bytes, Fault> {
        let mapping = &self.plan.mapping;
        let scheduler = &self.sources.scheduler;
        let mut wait = CALL_AGAIN;
        loop {
            let (name, qualifier) = (mapping.function.as_str(), mapping.qualifier.as_deref());
            let resolved = scheduler.resolve(name, qualifier);
            let resolved = resolved.map_err(|_gone| Fault::NotFound(name.to_owned()))?;
            let timeout = resolved.target.function.timeout();
            let taken = clock::now().saturating_duration_since(self.received);
            if taken > SLACK && taken + timeout > self.place.visibility {
                return Err(Fault::WaitedTooLong(taken));
            }
            if !self.turn.lasts() {
                return Err(Fault::PermitsLost);
            }
            let trace = scheduler.traces();
            let invocation = Invocation {
                request_id: RequestId::generate(),
                payload: event.clone(),
                raw: false,
                context: resolved.context.clone(),
                measured: false,
                trace: trace.map(|tracer| tracer.begin(None, Face::Source, 0)),
            };
            let called = scheduler.invoke(&resolved.target, invocation).await;
            let fault = match called.result {
                Ok(answer) => return whole(answer).await,
                Err(fault) => fault,
            };
            if !is_unreached(&fault) || self.stop.is_cancelled() {
                return Err(fault);
            }
            metrics::source_throttled();
            let taken = clock::now().saturating_duration_since(self.received);
            if taken + wait + timeout > self.place.visibility {
                return Err(fault);
            }
            let pause = tokio::time::sleep(wait);
            self.stop.run_until_cancelled(pause).await;
            wait = (wait * 2).min(CALL_AGAIN_MAX);
        }
    }
}

/// Nothing ran, and it may be otherwise later.
fn is_unreached(fault: &Fault) -> bool {
    match fault {
        Fault::Throttled { .. } | Fault::NotFound(_) | Fault::NoVersion { .. } => true,
        // Perhaps it ran.
        Fault::Interrupted => false,
        fault => fault.blame() == Blame::Platform,
    }
}

async fn whole(answer: Answer) -> Result<Bytes, Fault> {
    match answer {
        Answer::Whole { body, .. } => Ok(body),
        Answer::Stream { mut body, .. } => {
            let mut all = BytesMut::new();
            while let Some(piece) = body.next().await {
                let piece = piece?;
                // More than a report of failures is nobody's business; but it has not ended well before it has ended.
                if all.len() < PAYLOAD_MAX {
                    all.extend_from_slice(&piece);
                }
            }
            Ok(all.freeze())
        }
    }
}

impl Sources {
    /// Takes messages away. What cannot be taken away comes again. When the process stops, it is tried once more and at once.
    pub(super) async fn delete(
        &self,
        id: MappingId,
        place: &Place,
        mut left: Vec<String>,
        stop: &CancellationToken,
    ) {
        let Some(queues) = self.queues() else { return };
        let mut wait = DELETE_AGAIN;
        for attempt in 1..=DELETE_ATTEMPTS {
            let last = attempt == DELETE_ATTEMPTS || (attempt > 1 && stop.is_cancelled());
            let refusal;
            (left, refusal) = queues.delete(&place.url, left).await;
            if left.is_empty() {
                return;
            }
            if last {
                metrics::source_messages("undeleted", left.len());
                let error = refusal.map(|refusal| refusal.to_string());
                tracing::warn!(mapping = %id, messages = left.len(), error, "messages that were handled could not be taken away and come again");
                return;
            }
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            wait *= 4;
        }
    }
}

pub(super) fn handles(messages: &[Message]) -> Vec<String> {
    let handles = messages.iter().map(|message| &message.receipt_handle);
    handles.cloned().collect()
}

/// Nobody shall wait for these because of a mapping that is at its end. What cannot be given back, the queue shows again later.
pub(super) async fn give_back(queues: &Queues, place: &Place, messages: &[Message]) {
    if messages.is_empty() {
        return;
    }
    metrics::source_messages("given_back", messages.len());
    let giving = queues.give_back(&place.url, handles(messages));
    tokio::time::timeout(LAST_WORDS, giving).await.ok();
}
