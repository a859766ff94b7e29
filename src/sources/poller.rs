//! One mapping's poller. It has a place for each batch that may be under way, and asks for messages only while one is free; so what it
//! receives is not left waiting while its time runs. A request for messages that is on its way when the mapping is disabled is waited for, and what it
//! brings is given back; when the process stops, it is dropped, and the queue shows it again after its visibility timeout. Where there is no room
//! for more messages, those that were gathered are served at once: who waits for room has no messages.
//!
//! ```text
//! no function ──▶ wait ─┐
//!        ▲              ▼
//!        └── a place is free ──▶ receive ──▶ gather (window, size) ──▶ serve, in a task of its own
//!                                   └─ refused ──▶ wait longer and longer
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::fault::{Blame, Fault};
use crate::domain::id::RequestId;
use crate::domain::invocation::Invocation;
use crate::domain::limits::PAYLOAD_MAX;
use crate::domain::mapping::{MappingId, RECEIVE_MAX};
use crate::domain::trace::Face;
use crate::scheduler::{Answer, Resolved};
use crate::sources::event::{self, Batch};
use crate::sources::outcome::{self, Failures};
use crate::sources::queues::{Message, Queues, Refusal};
use crate::sources::room::{Intake, Part};
use crate::sources::{Plan, Sources};
use crate::task;
use crate::telemetry::metrics;

/// The longest a queue lets anybody wait for messages.
const LONG_POLL: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);
/// Between two looks for a function that is not there.
const FUNCTION_AGAIN: Duration = Duration::from_secs(5);
/// After a refusal; each next one waits twice as long.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Who answers that there is nothing sooner than this did not wait for it, and is not asked again before `SHORTEST`.
const SOON: Duration = Duration::from_millis(500);
/// A call that did not reach its function is tried again after this, then later and later.
const CALL_AGAIN: Duration = Duration::from_millis(250);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often it is tried to take messages away that were handled, and before the second time.
const DELETE_ATTEMPTS: u32 = 4;
const DELETE_AGAIN: Duration = Duration::from_millis(250);
/// Messages that a function would have for a little less than its time before others have them too are still for it.
const SLACK: Duration = Duration::from_secs(2);
/// More bytes of messages are written, and looked into, where it may take long.
const INLINE_MAX: usize = 64 * 1024;
/// What is still to be given back when the process stops has this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Handled,
    Failed,
    /// Nothing of it ran: a limit, or the platform.
    Unreached,
}

/// Why gathering ended with nothing to serve.
enum Nothing {
    /// There was none, and it was waited for.
    Came,
    /// The mapping is to end.
    Over,
    Refused(Refusal),
}

/// Messages for one call.
struct Gathered {
    plan: Arc<Plan>,
    place: Place,
    messages: Vec<Message>,
    /// When the first of them was.
    received: Instant,
    /// What they take of the room.
    part: Option<Part>,
}

/// A request for messages.
struct Receiving {
    place: Place,
    since: Instant,
    intake: Arc<Intake>,
    answer: BoxFuture<'static, Result<Vec<Message>, Refusal>>,
}

/// A place where the messages of a queue are.
#[derive(Debug, Clone)]
struct Place {
    url: Arc<str>,
    /// For so long nobody else has a message that was received.
    visibility: Duration,
}

pub(super) struct Poller {
    sources: Arc<Sources>,
    id: MappingId,
    plan: watch::Receiver<Option<Arc<Plan>>>,
    stop: CancellationToken,
    place: Option<Place>,
    /// It brings messages for the next batch.
    receiving: Option<Receiving>,
    /// There was no function when that was last looked at.
    missing: bool,
    /// Refusals in a row.
    refused: u32,
    /// Batches in a row that did not reach the function.
    unreached: u32,
    running: FuturesUnordered<JoinHandle<Option<Served>>>,
}

impl Poller {
    pub(super) fn new(
        sources: Arc<Sources>,
        id: MappingId,
        plan: watch::Receiver<Option<Arc<Plan>>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            sources,
            id,
            plan,
            stop,
            place: None,
            receiving: None,
            missing: false,
            refused: 0,
            unreached: 0,
            running: FuturesUnordered::new(),
        }
    }

    fn plan(&self) -> Option<Arc<Plan>> {
        self.plan
            .borrow()
            .clone()
            .filter(|_| !self.stop.is_cancelled())
    }

    pub(super) async fn run(mut self) {
        while let Some(plan) = self.plan() {
            if let Err(problem) = self.function(&plan) {
                self.missing = true;
                self.sources.function_is(self.id, Some(problem));
                self.pause(FUNCTION_AGAIN).await;
                continue;
            }
            if std::mem::take(&mut self.missing) {
                self.sources.function_is(self.id, None);
            }
            let most = plan.mapping.concurrency.map(|most| most as usize);
            let most = most.unwrap_or(self.sources.options.parallel);
            while let Some(Some(ended)) = self.running.next().now_or_never() {
                self.ended(ended.ok().flatten());
            }
            if self.running.len() >= most {
                if let Some(ended) = self.running.next().await {
                    self.ended(ended.ok().flatten());
                }
                continue;
            }
            if self.unreached > 0 && self.running.is_empty() {
                // What was held until now is back in the queue, and would only be held again.
                self.pause(later(SHORTEST, LONGEST, self.unreached)).await;
            }
            match self.gather().await {
                Ok(gathered) => self.begin(gathered),
                Err(Nothing::Came | Nothing::Over) => {}
                Err(Nothing::Refused(refusal)) => {
                    self.refused(&plan, &refusal);
                    self.pause(later(SHORTEST, LONGEST, self.refused)).await;
                }
            }
        }
        self.give_up().await;
        while self.running.next().await.is_some() {}
    }

    /// What a request brings that is on its way is nobody's any more.
    async fn give_up(&mut self) {
        let (Some(receiving), Some(queues)) = (self.receiving.take(), self.sources.queues()) else {
            return;
        };
        let received = self.stop.run_until_cancelled(receiving.answer).await;
        if let Some(Ok(messages)) = received {
            give_back(queues, &receiving.place, &messages).await;
        }
    }

    /// Waits, unless the mapping changes or is to end.
    async fn pause(&mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = self.plan.changed() => {
                if changed.is_err() {
                    self.stop.cancelled().await;
                }
            }
            () = self.stop.cancelled() => {}
        }
    }

    fn ended(&mut self, served: Option<Served>) {
        match served {
            Some(Served::Unreached) => self.unreached = self.unreached.saturating_add(1),
            Some(Served::Handled | Served::Failed) | None => self.unreached = 0,
        }
    }

    /// Whether there is a function to call. What is not there is not waited for with messages in hand.
    fn function(&self, plan: &Plan) -> Result<Resolved, String> {
        let (name, qualifier) = (&plan.mapping.function, plan.mapping.qualifier.as_deref());
        let resolved = self.sources.scheduler.resolve(name.as_str(), qualifier);
        resolved.map_err(|unresolved| unresolved.to_string())
    }

    fn refused(&mut self, plan: &Plan, refusal: &Refusal) {
        self.refused = self.refused.saturating_add(1);
        metrics::source_polled("failed");
        // It may be another one by now.
        self.place = None;
        if self.sources.queue_is(self.id, Some(refusal.to_string())) {
            let why = match refusal {
                Refusal::Away { why, .. } => why.as_str(),
                _ => "",
            };
            tracing::warn!(mapping = %self.id, queue = %plan.mapping.queue, error = %refusal, why, "messages cannot be received, trying again");
        }
    }

    fn answered(&mut self, plan: &Plan) {
        self.refused = 0;
        if self.sources.queue_is(self.id, None) {
            tracing::info!(mapping = %self.id, queue = %plan.mapping.queue, "messages can be received");
        }
    }

    async fn place(&mut self, queues: &Queues, plan: &Plan) -> Result<Place, Refusal> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let url = queues.url(&plan.mapping.queue).await?;
        let look = queues.look(&url).await?;
        let place = Place {
            url: url.into(),
            visibility: look.visibility,
        };
        self.place = Some(place.clone());
        Ok(place)
    }

    /// Messages for one call, and what is to be known to make it. The plan is that of the moment at which the last of them came.
    async fn gather(&mut self) -> Result<Gathered, Nothing> {
        let Some(queues) = self.sources.queues().cloned() else {
            return Err(Nothing::Over);
        };
        let stop = self.stop.clone();
        let plan = self.plan().ok_or(Nothing::Over)?;
        let place = match &self.receiving {
            Some(receiving) => receiving.place.clone(),
            None => {
                let placed = stop.run_until_cancelled(self.place(&queues, &plan)).await;
                placed.ok_or(Nothing::Over)?.map_err(Nothing::Refused)?
            }
        };
        let mut messages: Vec<Message> = Vec::new();
        let (mut bytes, mut first, mut part) = (0, None, None);
        // Nothing more is waited for.
        let mut close = false;
        loop {
            let Some(plan) = self.plan() else {
                give_back(&queues, &place, &messages).await;
                return Err(Nothing::Over);
            };
            let now = clock::now();
            // No longer than that the function still has all of its time before anybody else has the messages.
            let spare = place.visibility.saturating_sub(self.timeout(&plan) + SLACK);
            let window = Duration::from_secs(u64::from(plan.mapping.window_seconds)).min(spare);
            let left =
                first.map(|first| window.saturating_sub(now.saturating_duration_since(first)));
            let size = plan.mapping.batch_size as usize;
            let is_full = messages.len() >= size || bytes >= PAYLOAD_MAX;
            match (first, left) {
                (Some(received), Some(left)) if left.is_zero() || is_full || close => {
                    return Ok(Gathered {
                        plan,
                        place,
                        messages,
                        received,
                        part,
                    });
                }
                _ => {}
            }
            let (receiving, left) = match self.receiving.take() {
                Some(receiving) => (receiving, left),
                None => {
                    let room = self.sources.room.clone();
                    let free = match messages.is_empty() {
                        true => stop.run_until_cancelled(room.take_first()).await,
                        false => room.try_take_first(),
                    };
                    let Some(free) = free else {
                        close = true;
                        continue;
                    };
                    let most = size - messages.len();
                    let intake = Intake::new(room, free);
                    (
                        self.receive(&queues, &place, &plan, intake, most, left),
                        left,
                    )
                }
            };
            let Receiving {
                since,
                intake,
                mut answer,
                ..
            } = receiving;
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => continue,
                received = &mut answer => received,
                () = intake.waits(), if !messages.is_empty() => {
                    let place = place.clone();
                    self.receiving = Some(Receiving { place, since, intake, answer });
                    close = true;
                    continue;
                }
            };
            let (taken, waited) = intake.taken();
            let received = match received {
                Ok(received) => received,
                Err(refusal) if messages.is_empty() => return Err(Nothing::Refused(refusal)),
                // What there is has to be served all the same; the next request will say it again.
                Err(_) => {
                    close = true;
                    continue;
                }
            };
            let Some(plan) = self.plan() else {
                messages.extend(received);
                continue;
            };
            self.answered(&plan);
            metrics::source_polled(if received.is_empty() {
                "empty"
            } else {
                "messages"
            });
            let at_once = clock::now().saturating_duration_since(since) < SOON;
            if received.is_empty() && at_once {
                // It did not wait, and would be asked without end.
                self.pause(left.map_or(SHORTEST, |left| left.min(SHORTEST)))
                    .await;
            }
            // It may have waited for long before any of these came, and some of them for room.
            let now = clock::now();
            let came = now.checked_sub(waited).unwrap_or(now);
            let (wanted, unwanted) = sorted(plan, received).await;
            let some = !wanted.is_empty();
            self.discard(&place, unwanted).await;
            bytes += wanted.iter().map(event::size).sum::<usize>();
            messages.extend(wanted);
            if messages.is_empty() {
                return Err(Nothing::Came);
            }
            first.get_or_insert(came);
            if let Some(more) = taken.filter(|_| some) {
                match &mut part {
                    Some(part) => Part::join(part, more),
                    None => part = Some(more),
                }
            }
        }
    }

    /// Asks for up to so many messages.
    fn receive(
        &self,
        queues: &Queues,
        place: &Place,
        plan: &Plan,
        intake: Arc<Intake>,
        most: usize,
        left: Option<Duration>,
    ) -> Receiving {
        // A queue waits for whole seconds only: in the last one it is asked for what it has.
        // A group whose messages somebody has is free when they are handled, and some services look at that only when they are asked.
        let busy = plan.mapping.queue.is_fifo() && !self.running.is_empty();
        let long = if busy { SECOND } else { LONG_POLL };
        let wait = left.map_or(long, |left| Duration::from_secs(left.as_secs()).min(long));
        let most = u32::try_from(most).unwrap_or(RECEIVE_MAX).min(RECEIVE_MAX);
        let (queues, url, taking) = (queues.clone(), place.url.clone(), intake.clone());
        let answer = async move { queues.receive(&url, most, wait, taking).await };
        Receiving {
            place: place.clone(),
            since: clock::now(),
            intake,
            answer: answer.boxed(),
        }
    }

    /// How long the function may take.
    fn timeout(&self, plan: &Plan) -> Duration {
        let resolved = self.function(plan);
        resolved.map_or(Duration::ZERO, |resolved| {
            resolved.target.function.timeout()
        })
    }

    /// Messages that no filter wants are nobody's any more. A stop does not wait for that: who sees them next filters them out again.
    async fn discard(&mut self, place: &Place, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        metrics::source_messages("filtered", messages.len());
        let handles = handles(&messages);
        let deleting = self.sources.delete(self.id, place, handles, &self.stop);
        self.stop.run_until_cancelled(deleting).await;
    }

    fn begin(&mut self, gathered: Gathered) {
        let serving = Serving {
            sources: self.sources.clone(),
            id: self.id,
            plan: gathered.plan,
            place: gathered.place,
            received: gathered.received,
            stop: self.stop.clone(),
        };
        let (messages, part) = (gathered.messages, gathered.part);
        self.running
            .push(task::spawn(task::Kind::Local, "batch", async move {
                let _part = part;
                serving.run(messages).await
            }));
    }
}

/// Those that the function is called with, and the others. Looking into many takes long.
async fn sorted(plan: Arc<Plan>, received: Vec<Message>) -> (Vec<Message>, Vec<Message>) {
    let large = received.iter().map(event::size).sum::<usize>() > INLINE_MAX;
    let sort = move || {
        received
            .into_iter()
            .partition(|message| event::is_wanted(&plan.filters, &plan.mapping.queue, message))
    };
    match large {
        false => sort(),
        true => task::blocking("look into messages", sort).await,
    }
}

fn later(shortest: Duration, longest: Duration, times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    shortest.saturating_mul(doubled).min(longest)
}

fn handles(messages: &[Message]) -> Vec<String> {
    let handles = messages.iter().map(|message| &message.receipt_handle);
    handles.cloned().collect()
}

/// Nobody shall wait for these because of a mapping that is at its end. What cannot be given back, the queue shows again later.
async fn give_back(queues: &Queues, place: &Place, messages: &[Message]) {
    if messages.is_empty() {
        return;
    }
    metrics::source_messages("given_back", messages.len());
    let giving = queues.give_back(&place.url, handles(messages));
    tokio::time::timeout(LAST_WORDS, giving).await.ok();
}

impl Sources {
    /// Takes messages away. What cannot be taken away comes again. When the process stops, it is tried once more and at once.
    async fn delete(
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

/// A batch under way.
struct Serving {
    sources: Arc<Sources>,
    id: MappingId,
    plan: Arc<Plan>,
    place: Place,
    received: Instant,
    stop: CancellationToken,
}

impl Serving {
    async fn run(self, messages: Vec<Message>) -> Served {
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
