//! Asynchronous calls: taken in when the store has them, run like any other call, and tried again until they have an end. One task claims
//! what is due and runs a bounded number at a time; what it cannot finish, because it is killed, another process claims when the lease is
//! over, or this one after its restart. So an event is run at least once, and may be run more often.
//!
//! ```text
//! api ─▶ submit ─▶ store ──(202)──▶ caller
//!                    └─ claim ─▶ Scheduler::invoke ─▶ retry::decide ─▶ settle ─▶ (an event for the destination)
//! ```

pub mod carrier;
pub mod dead_letter;
pub mod delivery;
mod lanes;
mod looks;
pub mod retry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::aws;
use crate::domain::destination::{Asynchronous, Destination};
use crate::domain::event::{Claimed, Event, Passed, Ran, Record, Settlement, Verdict};
use crate::domain::fault::{Blame, Fault};
use crate::domain::id::{AliasName, FunctionName, RequestId};
use crate::domain::invocation::{Invocation, Phases};
use crate::domain::mapping;
use crate::domain::trace::{Carried, Face, Trace};
use crate::domain::version::{Qualifier, VersionId};
use crate::queue::carrier::{Carrier, Refusal};
use crate::queue::delivery::{Answered, DEPTH_MAX, End};
use crate::queue::lanes::Lanes;
use crate::queue::looks::{Looks, STORE_RETRY};
use crate::queue::retry::Failed;
use crate::scheduler::{Answer, Resolved, Scheduler, Target};
use crate::store::dead_letters::Place;
use crate::store::events::{Bounds, Depth};
use crate::store::{self, Store};
use crate::task;
use crate::telemetry::often::Often;
use crate::telemetry::{metrics, traces};

/// How often an end is tried to be told to the store. After that the event will be run again.
const SETTLE_ATTEMPTS: usize = 120;

#[derive(Debug, Clone)]
pub struct Options {
    /// This process, unlike any other and any before it.
    pub process: String,
    /// Events run at the same time.
    pub parallel: usize,
    /// How long a free place may wait for others, to be filled together with them.
    pub gather: Duration,
    pub lease: Duration,
    pub retry: retry::Options,
    pub bounds: Bounds,
}

#[derive(Debug)]
pub struct Queue {
    scheduler: Arc<Scheduler>,
    store: Arc<dyn Store>,
    carrier: Carrier,
    lanes: Lanes,
    options: Options,
    /// There is something new to claim.
    submitted: Notify,
    /// Events of functions that are gone, as the log has them.
    orphaned: Mutex<Often>,
    /// Events the store did not take.
    lost: Mutex<Often>,
}

impl Queue {
    pub fn new(
        scheduler: Arc<Scheduler>,
        store: Arc<dyn Store>,
        carrier: Carrier,
        options: Options,
    ) -> Arc<Self> {
        Arc::new(Self {
            scheduler,
            store,
            carrier,
            lanes: Lanes::new(options.parallel),
            options,
            submitted: Notify::new(),
            orphaned: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// The region of the queues that may be sent to, if there are any.
    pub fn region(&self) -> Option<&str> {
        self.carrier.region()
    }

    /// Where synchronous calls go.
    pub fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }

    /// Takes a call in, once for each id: when this returns, the store has it, and it will be run whatever happens to this process.
    pub async fn submit(
        &self,
        request_id: RequestId,
        resolved: &Resolved,
        payload: Bytes,
        raw: bool,
        trace: Option<Box<Trace>>,
    ) -> Result<(), store::Error> {
        let arrived = clock::now();
        let target = &resolved.target;
        let event = Event {
            request_id,
            function: target.function.id.clone(),
            name: target.function.name.clone(),
            version: target.version,
            alias: resolved.alias.clone(),
            // It is made here, and is text.
            context: String::from_utf8_lossy(&resolved.context).into_owned(),
            raw,
            accepted_at: clock::wall(),
            redriven_at: None,
            destination: None,
            depth: 0,
            trace: trace.as_ref().map(|trace| trace.carried()),
        };
        let kept = self.store.append(event, payload, self.options.bounds).await;
        metrics::event(match &kept {
            Ok(()) => "accepted",
            Err(store::Error::Full) => "refused",
            Err(_) => "lost",
        });
        match &kept {
            Ok(()) | Err(store::Error::Full) => {}
            Err(error) => {
                let (function, error): (_, &dyn std::error::Error) = (&target.function.name, error);
                tracing::debug!(%request_id, %function, error, "an asynchronous call could not be kept");
                // While the store is away that is said of all there are.
                if let Some(calls) = self.lost.lock().to_log(arrived) {
                    tracing::warn!(calls, %function, error, "asynchronous calls could not be kept; this one the last");
                }
            }
        }
        let sampled = trace.filter(|trace| trace.sampled);
        if let (Some(trace), Some(tracer)) = (sampled, self.scheduler.traces()) {
            let took = clock::now().saturating_duration_since(arrived);
            tracer.ended(traces::Call {
                trace,
                function: target.function.clone(),
                version: target.version,
                request_id,
                ended_at: clock::wall(),
                took,
                phases: Phases::default(),
                start: None,
                cause: None,
                fault: kept.as_ref().err().map(|error| traces::Failure {
                    code: match error {
                        store::Error::Full => "too_many_events",
                        _ => "store_unavailable",
                    },
                    blame: Blame::Platform,
                    message: error.to_string(),
                }),
                accepted: true,
            });
        }
        kept?;
        self.submitted.notify_one();
        Ok(())
    }

    pub async fn record(&self, id: &RequestId) -> Result<Option<Record>, store::Error> {
        self.store.record(id).await
    }

    /// Calls that failed for good, after a place in the list of them.
    pub async fn dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(Place, Record)>, store::Error> {
        self.store.dead(after, most).await
    }

    pub async fn dead_letter(
        &self,
        id: &RequestId,
    ) -> Result<Option<(Record, Bytes)>, store::Error> {
        self.store.dead_letter(id).await
    }

    /// Has a dead letter run once more. `false` if it is none.
    pub async fn redrive(&self, id: &RequestId) -> Result<bool, store::Error> {
        let redriven = self.store.redrive(id, clock::wall(), self.options.bounds);
        let redriven = redriven.await?;
        if redriven {
            metrics::event("redriven");
            self.submitted.notify_one();
        }
        Ok(redriven)
    }

    pub async fn discard(&self, id: &RequestId) -> Result<bool, store::Error> {
        let discarded = self.store.discard(id).await?;
        if discarded {
            metrics::event("discarded");
        }
        Ok(discarded)
    }

    pub async fn depth(&self) -> Result<Depth, store::Error> {
        self.store.depth().await
    }

    /// Events without an end that there may be.
    pub fn room(&self) -> u64 {
        self.options.bounds.unfinished
    }

    /// Runs what is due until `stop`, and then to its end what was begun.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        let mut claims: HashMap<RequestId, ()> = HashMap::new();
        let mut renew = tokio::time::interval(self.options.lease / 3);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = Looks::new(self.options.parallel, self.options.gather, clock::now());
        loop {
            let free = self.options.parallel.saturating_sub(running.len());
            if looks.is_due(clock::now()) && free > 0 && !stop.is_cancelled() {
                let by = &self.options.process;
                match self.store.claim(by, free, self.options.lease).await {
                    Ok(claimed) => {
                        if looks.answered(free, claimed.len(), clock::now()) {
                            tracing::info!("asynchronous calls go on");
                        }
                        for claimed in claimed {
                            let request_id = claimed.event.request_id;
                            claims.insert(request_id, ());
                            let this = self.clone();
                            let one = task::spawn(task::Kind::Local, "event", async move {
                                this.serve(claimed).await;
                            });
                            running.push(async move {
                                one.await.ok();
                                request_id
                            });
                        }
                    }
                    Err(error) => {
                        // Once for each time it goes away, and no warning: whoever listens for changes has warned already.
                        if !looks.failed(clock::now()) {
                            let error: &dyn std::error::Error = &error;
                            tracing::info!(error, "asynchronous calls wait for the store");
                        }
                    }
                }
            }
            if stop.is_cancelled() && running.is_empty() {
                return;
            }
            let full = running.len() >= self.options.parallel;
            tokio::select! {
                mut ended = running.next(), if !running.is_empty() => {
                    // All that have, so that one question fills their places.
                    while let Some(request_id) = ended {
                        claims.remove(&request_id);
                        ended = running.next().now_or_never().flatten();
                    }
                    let free = self.options.parallel.saturating_sub(running.len());
                    looks.ended(free, clock::now());
                }
                () = self.submitted.notified() => {
                    let free = self.options.parallel.saturating_sub(running.len());
                    looks.submitted(free, clock::now());
                }
                () = tokio::time::sleep_until(looks.at().into()), if !full => {}
                _ = renew.tick() => self.renew(&claims).await,
                () = stop.cancelled(), if running.is_empty() => return,
            }
        }
    }

    async fn renew(&self, claims: &HashMap<RequestId, ()>) {
        if claims.is_empty() {
            return;
        }
        let ids: Vec<RequestId> = claims.keys().copied().collect();
        let by = &self.options.process;
        match self.store.renew(by, &ids, self.options.lease).await {
            Ok(lost) => {
                for request_id in lost {
                    tracing::debug!(%request_id, "an event is not this process's any more");
                }
            }
            Err(error) => tracing::debug!(%error, "claims cannot be renewed"),
        }
    }

    async fn serve(&self, claimed: Claimed) {
        let subject = self.subject(&claimed.event);
        let Event { version, alias, .. } = &claimed.event;
        let own = subject
            .as_ref()
            .and_then(|target| target.events(*version, alias.as_ref()));
        let own = own.cloned().unwrap_or_default();
        let rules = self.options.retry.with(&own);
        let age = age(&claimed.event);
        let deleted = subject.is_none() && self.is_deleted(&claimed.event).await;
        let (result, ran) = match age >= rules.max_age {
            _ if deleted => (Err(Failed::Deleted), None),
            true => (Err(Failed::TooOld(age)), None),
            false => {
                let began_at = clock::wall();
                let mut ran = Ran {
                    began_at,
                    ended_at: began_at,
                    start: None,
                    phases: Phases::default(),
                };
                let told = own.on_success.is_some();
                let result = self.attempt(&claimed, subject.as_ref(), told, &mut ran);
                let result = result.await;
                ran.ended_at = clock::wall();
                (result, Some(ran))
            }
        };
        let ended = result.as_ref().map(drop);
        let age = self::age(&claimed.event);
        let verdict = retry::decide(ended, claimed.try_of_its_own(), age, &rules);
        let name = subject.as_ref().map(|target| &target.function.name);
        let name = name.unwrap_or(&claimed.event.name);
        let arn = arn(self.scheduler.place(), name, &claimed.event);
        let error = result.as_ref().err().and_then(|failed| {
            let style = subject.as_ref().map(|target| {
                let runtime = &target.function.runtime;
                self.scheduler.style(runtime)
            });
            failed.document(&style.unwrap_or_default(), claimed.event.request_id)
        });
        let end = match &result {
            Ok(answered) => End::Succeeded(answered.as_ref()),
            Err(failed) => End::Failed {
                condition: failed.condition(claimed.try_of_its_own(), &rules),
                error: error.as_deref(),
            },
        };
        let mut to: Vec<Passed> = told(&verdict, &claimed, &arn, own, end)
            .into_iter()
            .collect();
        // As on AWS, whatever destination there is.
        if let (Verdict::Failed(failure), Err(failed)) = (&verdict, &result) {
            let latest = subject.as_ref();
            let queue = latest.and_then(|latest| self.dead_letters_of(latest, &claimed));
            let (error, now) = (error.as_deref(), clock::wall());
            to.extend(queue.map(|queue| {
                let event = dead_letter::event(&claimed, queue, failed, failure, error, now);
                let (event, payload) = event;
                Passed { event, payload }
            }));
        }
        to.iter_mut().for_each(|one| self.address(&mut one.event));
        let verdict = passed_on(verdict, to);
        self.tell(&claimed, Settlement { verdict, ran }).await;
    }

    /// The queue for what fails for good of the version that an event is for.
    fn dead_letters_of(&self, latest: &Arc<Target>, claimed: &Claimed) -> Option<mapping::Queue> {
        let target = self.scheduler.version(latest, claimed.event.version)?;
        let queue = dead_letter::of(&target.function, self.carrier.region())?;
        // One that goes in circles ends here.
        (claimed.event.depth <= DEPTH_MAX).then_some(queue)
    }

    /// Decides which version an event runs that goes to what stands behind a function's name. If nothing does, its run will say so.
    fn address(&self, event: &mut Event) {
        let Some(Destination::Function(name, Some(qualifier))) = &event.destination else {
            return;
        };
        let qualifier = qualifier.to_string();
        if let Ok(resolved) = self.scheduler.resolve(name.as_str(), Some(&qualifier)) {
            event.version = resolved.target.version;
            event.alias = resolved.alias;
            event.context = String::from_utf8_lossy(&resolved.context).into_owned();
        }
    }

    /// Whose event it is: the function that is run.
    fn subject(&self, event: &Event) -> Option<Arc<Target>> {
        match &event.destination {
            None => {
                let found = self.scheduler.find(event.function.as_str());
                found.filter(|target| target.function.id == event.function)
            }
            Some(Destination::Function(name, _)) => self.scheduler.find(name.as_str()),
            Some(Destination::Webhook(_) | Destination::Stream(_) | Destination::Queue(_)) => None,
        }
    }

    /// Whether the function an event was accepted for is gone for good. One that is not known here may be new elsewhere, so the store is asked.
    async fn is_deleted(&self, event: &Event) -> bool {
        event.destination.is_none()
            && matches!(self.store.function(&event.function).await, Ok(None))
    }

    /// Tells the store, which is away for a while at times.
    async fn tell(&self, claimed: &Claimed, settlement: Settlement) {
        let (request_id, name) = (claimed.event.request_id, &claimed.event.name);
        match &settlement.verdict {
            Verdict::Succeeded | Verdict::PassedOn { failure: None, .. } => {
                metrics::event("succeeded");
            }
            Verdict::Again { .. } => metrics::event("retried"),
            Verdict::Failed(failure) if failure.code == retry::DELETED => {
                metrics::event("orphaned");
                tracing::debug!(%request_id, function = %name, "event given up: its function was deleted");
                // There may be very many, all for the same reason.
                if let Some(events) = self.orphaned.lock().to_log(clock::now()) {
                    tracing::info!(events, function = %name, "events given up because their function was deleted; of this one the last");
                }
            }
            Verdict::Failed(failure)
            | Verdict::PassedOn {
                failure: Some(failure),
                ..
            } => {
                metrics::event("failed");
                tracing::info!(%request_id, function = %name, attempts = claimed.attempt, code = failure.code, "event given up");
            }
        }
        for _ in 0..SETTLE_ATTEMPTS {
            let (by, bounds) = (&self.options.process, self.options.bounds);
            match self
                .store
                .settle(by, claimed, settlement.clone(), bounds)
                .await
            {
                Ok(true) => {
                    if matches!(settlement.verdict, Verdict::PassedOn { .. }) {
                        self.submitted.notify_one();
                    }
                    return;
                }
                Ok(false) => {
                    tracing::debug!(%request_id, "an event was somebody else's before its end could be told");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%request_id, %error, "the end of an event cannot be told");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
        tracing::warn!(%request_id, function = %name, "an event that was run will be run again");
    }

    /// `told`: somebody wants to know the answer. `ran` learns how it went.
    async fn attempt(
        &self,
        claimed: &Claimed,
        subject: Option<&Arc<Target>>,
        told: bool,
        ran: &mut Ran,
    ) -> Result<Option<Answered>, Failed> {
        let event = &claimed.event;
        // One that took its process with it so often is not tried once more.
        if claimed.lost >= retry::LOST_MAX {
            return Err(Failed::Lost(claimed.lost));
        }
        if event.depth > DEPTH_MAX {
            return Err(Failed::Loop);
        }
        match &event.destination {
            None | Some(Destination::Function(..)) => {
                let answered = self.run_one(claimed, subject, told, ran).await;
                answered.map_err(Failed::Call)
            }
            Some(to) => {
                let _place = self.lanes.enter(to).await.map_err(Failed::Refused)?;
                let delivered = self.deliver(to, event, &claimed.payload).await;
                metrics::delivered(to.kind(), delivered.is_ok());
                delivered.map_err(Failed::Refused).map(|()| None)
            }
        }
    }

    async fn deliver(
        &self,
        to: &Destination,
        event: &Event,
        document: &Bytes,
    ) -> Result<(), Refusal> {
        let id = event.request_id;
        match to {
            Destination::Webhook(url) => self.carrier.post(url, id, document.clone()).await,
            Destination::Stream(key) => {
                let published = self.store.publish(key, id, document.clone()).await;
                published.map_err(|error| Refusal {
                    message: error.to_string(),
                    for_now: true,
                })
            }
            Destination::Queue(queue) => {
                let attributes = match event.context.is_empty() {
                    true => None,
                    false => Some(event.context.clone()),
                };
                let sent = self.carrier.send(queue, document.clone(), attributes);
                sent.await
            }
            Destination::Function(..) => unreachable!("a function is run"),
        }
    }

    async fn run_one(
        &self,
        claimed: &Claimed,
        subject: Option<&Arc<Target>>,
        told: bool,
        ran: &mut Ran,
    ) -> Result<Option<Answered>, Fault> {
        let event = &claimed.event;
        let Some(latest) = subject else {
            return Err(Fault::NotFound(match &event.destination {
                Some(Destination::Function(name, _)) => name.to_string(),
                _ => event.name.to_string(),
            }));
        };
        let missing = |function: &FunctionName, qualifier: String| Fault::NoVersion {
            function: function.to_string(),
            qualifier,
        };
        // Nothing stood behind the name when it was sent there.
        if let Some(Destination::Function(name, Some(qualifier))) = &event.destination
            && (event.version, &event.alias) == (VersionId::Latest, &None)
            && *qualifier != Qualifier::Version(VersionId::Latest)
        {
            return Err(missing(name, qualifier.to_string()));
        }
        let Some(target) = self.scheduler.version(latest, event.version) else {
            return Err(missing(&event.name, event.version.to_string()));
        };
        let trace = self.scheduler.traces().map(|tracer| {
            let parent = event.trace.as_ref().and_then(Carried::parent);
            tracer.begin(parent, Face::Event, claimed.attempt)
        });
        let invocation = Invocation {
            request_id: event.request_id,
            payload: claimed.payload.clone(),
            raw: event.raw,
            measured: false,
            context: event.context.clone().into(),
            trace,
        };
        let fits = |length: usize| told && length <= delivery::ANSWER_MAX;
        let called = self.scheduler.invoke(&target, invocation).await;
        (ran.start, ran.phases) = (called.start, called.phases);
        match called.result? {
            Answer::Whole { body, raw } => Ok(fits(body.len()).then_some(Answered { body, raw })),
            // It has not ended well before it has ended.
            Answer::Stream { mut body, .. } => {
                let mut all = BytesMut::new();
                while let Some(piece) = body.next().await {
                    let piece = piece?;
                    if fits(all.len()) {
                        all.extend_from_slice(&piece);
                    }
                }
                let body = all.freeze();
                Ok(fits(body.len()).then_some(Answered { body, raw: false }))
            }
        }
    }
}

fn age(event: &Event) -> Duration {
    let age = clock::wall().duration_since(event.began_at());
    Duration::try_from(age).unwrap_or_default()
}

/// What an event was for, as its destination is told.
fn arn(place: &aws::Place, name: &FunctionName, event: &Event) -> String {
    let version = event.version.to_string();
    let qualifier = event.alias.as_ref().map_or(&*version, AliasName::as_str);
    place.qualified(name, Some(qualifier))
}

/// What tells an event's destination of its end, if it has one and there is an end.
fn told(
    verdict: &Verdict,
    claimed: &Claimed,
    arn: &str,
    own: Asynchronous,
    end: End<'_>,
) -> Option<Passed> {
    let to = match verdict {
        Verdict::Succeeded => own.on_success,
        Verdict::Failed(_) => own.on_failure,
        _ => None,
    };
    // One that goes in circles ends here.
    let to = to.filter(|_| claimed.event.depth <= DEPTH_MAX)?;
    let now = clock::wall();
    Some(Passed {
        event: delivery::event(&claimed.event, to, now),
        payload: delivery::record(arn, claimed, end, now),
    })
}

/// An end, with what tells of it.
fn passed_on(verdict: Verdict, to: Vec<Passed>) -> Verdict {
    let failure = match verdict {
        Verdict::Succeeded => None,
        Verdict::Failed(failure) => Some(failure),
        other => return other,
    };
    match (to.is_empty(), failure) {
        (true, None) => Verdict::Succeeded,
        (true, Some(failure)) => Verdict::Failed(failure),
        (false, failure) => Verdict::PassedOn { failure, to },
    }
}
