//! One mapping's poller. It has a place for each batch that may be under way, and asks for messages only while one is free; so what it
//! receives is not left waiting while its time runs. A request for messages that is on its way when the mapping is disabled is waited for, and what it
//! brings is given back; when the process stops, it is dropped, and the queue shows it again after its visibility timeout. Where there is no room
//! for more messages, those that were gathered are served at once: who waits for room has no messages, and while it does not ask for more, what it
//! asked for is parked.
//!
//! ```text
//! no function ──▶ wait ─┐
//!        ▲              ▼
//!        └── a place is free ──▶ receive ──▶ gather (window, size) ──▶ serve, in a task of its own
//!                                   └─ refused ──▶ wait longer and longer
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::limits::PAYLOAD_MAX;
use crate::domain::mapping::{MappingId, RECEIVE_MAX};
use crate::scheduler::Resolved;
use crate::scheduler::places::{self, Places};
use crate::sources::event;
use crate::sources::queues::{Message, Queues, Refusal};
use crate::sources::room::{Intake, Part};
use crate::sources::serving::{
    INLINE_MAX, Place, SLACK, Served, Serving, Turn, give_back, handles,
};
use crate::sources::slots::{Slot, Slots};
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
/// Between two looks for a place that other processes had.
const TURN_AGAIN: Duration = Duration::from_secs(5);
/// An answer may wait for room so long, or as long as nobody else has its messages.
const PATIENCE: Duration = Duration::from_secs(30);
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

pub(super) struct Poller {
    sources: Arc<Sources>,
    id: MappingId,
    plan: watch::Receiver<Option<Arc<Plan>>>,
    stop: CancellationToken,
    place: Option<Place>,
    /// For batches of all processes; `None` until they are wanted, or if the mapping does not say how many there may be.
    places: Option<Places>,
    slots: Arc<Slots>,
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
            slots: sources.slots(id),
            sources,
            id,
            plan,
            stop,
            place: None,
            places: None,
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
                // Nobody would read what it brings.
                self.receiving = None;
                self.sources.function_is(self.id, Some(problem));
                self.pause(FUNCTION_AGAIN).await;
                continue;
            }
            if std::mem::take(&mut self.missing) {
                self.sources.function_is(self.id, None);
            }
            while let Some(Some(ended)) = self.running.next().now_or_never() {
                self.ended(ended.ok().flatten());
            }
            let Some(slot) = self.slot(&plan).await else {
                continue;
            };
            if self.unreached > 0 && self.running.is_empty() {
                // What was held until now is back in the queue, and would only be held again.
                self.pause(later(SHORTEST, LONGEST, self.unreached)).await;
            }
            let Some(place) = self.turn(&plan).await else {
                continue;
            };
            let turn = Turn { _slot: slot, place };
            match self.gather().await {
                Ok(gathered) => self.begin(gathered, turn),
                Err(Nothing::Came | Nothing::Over) => {}
                Err(Nothing::Refused(refusal)) => {
                    drop(turn);
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
        receiving.intake.resume();
        let received = self.stop.run_until_cancelled(receiving.answer).await;
        if let Some(Ok(messages)) = received {
            give_back(queues, &receiving.place, &messages).await;
        }
    }

    /// For the next batch, in this process. `None` if there may be another plan by now, or what there is to do besides was done.
    async fn slot(&mut self, plan: &Plan) -> Option<Slot> {
        let most = plan.mapping.concurrency.map(|most| most as usize);
        let most = most.unwrap_or(self.sources.options.parallel);
        tokio::select! {
            slot = self.slots.enter(most) => Some(slot),
            Some(ended) = self.running.next() => {
                self.ended(ended.ok().flatten());
                None
            }
            changed = self.plan.changed() => {
                if changed.is_err() {
                    self.stop.cancelled().await;
                }
                None
            }
            () = self.stop.cancelled() => None,
        }
    }

    /// What the next batch has to have of all processes, if its mapping says so. It is had while messages are waited for, too: else more processes
    /// could have some than may call the function.
    async fn turn(&mut self, plan: &Plan) -> Option<Option<places::Place>> {
        let Some(most) = plan.mapping.concurrency else {
            self.places = None;
            return Some(None);
        };
        if self.places.is_none() {
            self.places = self.sources.scheduler.places(self.id, most);
        }
        let Some(places) = &self.places else {
            return Some(None);
        };
        places.set_limit(most);
        let entered = self.stop.run_until_cancelled(places.enter()).await;
        if let Some(place) = entered? {
            return Some(Some(place));
        }
        tokio::select! {
            Some(ended) = self.running.next() => self.ended(ended.ok().flatten()),
            () = tokio::time::sleep(TURN_AGAIN) => {}
            () = self.stop.cancelled() => {}
        }
        None
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
                Some(receiving) => {
                    receiving.intake.resume();
                    (receiving, left)
                }
                None => {
                    let room = self.sources.room.clone();
                    let mut plans = self.plan.clone();
                    let free = match messages.is_empty() {
                        // Who is disabled meanwhile asks nothing more.
                        true => tokio::select! {
                            biased;
                            () = stop.cancelled() => None,
                            _ = plans.wait_for(Option::is_none) => None,
                            free = room.take_first(self.id) => Some(free),
                        },
                        false => room.try_take_first(self.id),
                    };
                    let Some(free) = free else {
                        close = true;
                        continue;
                    };
                    let most = size - messages.len();
                    // After that the queue has shown its messages to others.
                    let intake = Intake::new(free, place.visibility.max(PATIENCE));
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
            let mut plans = self.plan.clone();
            let received = loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break None,
                    // What it brings is given back, and waited for without a slot.
                    _ = plans.wait_for(Option::is_none) => break None,
                    received = &mut answer => break Some(received),
                    () = intake.waits(), if !messages.is_empty() => {
                        if intake.park() {
                            break None;
                        }
                    }
                }
            };
            let Some(received) = received else {
                let place = place.clone();
                self.receiving = Some(Receiving {
                    place,
                    since,
                    intake,
                    answer,
                });
                close = true;
                continue;
            };
            let (taken, waited) = intake.taken();
            let received = match received {
                Ok(received) => received,
                // The queue has done its part, and shows them again.
                Err(Refusal::NoRoom) if messages.is_empty() => return Err(Nothing::Came),
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

    fn begin(&mut self, gathered: Gathered, turn: Turn) {
        let serving = Serving {
            sources: self.sources.clone(),
            id: self.id,
            plan: gathered.plan,
            place: gathered.place,
            received: gathered.received,
            turn,
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
