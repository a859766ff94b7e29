//! A call's hold on a worker. Warm path: `acquire` of an idle worker takes one short lock; giving back takes the same one.
//!
//! A lease ends in one of three ways, and dropping it is the third: `give_back` (it answered), `bury` (it is dead or cannot be
//! trusted), `cancel` (nobody waits for it any more: the running code may end, is told, then killed). The guard, which holds the
//! call's place under the concurrency limits, lives exactly as long as code may run for the call.

use std::any::Any;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::clock::patience::{Elapsed, Patience};
use crate::domain::fault::Fault;
use crate::domain::invocation::{StartKind, StartReason};
use crate::domain::limits::Mebibytes;
use crate::engine::Engine;
use crate::pool::Pool;
use crate::pool::handover::{self, Handed, Opening, Taker};
use crate::pool::index::{Failed, Joined, Slot};
use crate::pool::policy::Costs;
use crate::pool::state::Ticket;
use crate::telemetry::metrics;
use crate::worker::Worker;
use crate::worker::message::Reason;

#[derive(Debug)]
pub struct Lease<G: Send + 'static> {
    worker: Option<Box<Worker>>,
    guard: Option<G>,
    slot: Arc<Slot>,
    pool: Arc<Pool>,
    since: Instant,
}

/// How a lease was come by.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub kind: StartKind,
    pub reason: StartReason,
    /// Why its worker was started, as the ledger has it; `None` if it was there.
    pub cause: Option<&'static str>,
    /// Waiting that was not for a start of its own.
    pub queue: Duration,
    pub start: Duration,
    pub init: Duration,
}

impl Pool {
    /// A worker for a call: idle now, which is `since`, or waited for until `deadline`. One that was waited for may be at work on what the call
    /// would have it open.
    pub async fn acquire<G: Send + 'static>(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        guard: G,
        since: Instant,
        deadline: Instant,
        opening: impl FnOnce() -> Opening,
    ) -> Result<(Lease<G>, Origin), Box<Failed>> {
        let mut guard = guard;
        while let Some(worker) = slot.lease() {
            match self.lease(slot, worker, guard, since).alive() {
                Ok(lease) => return Ok((lease, Origin::warm(StartReason::Idle, Duration::ZERO))),
                Err(back) => guard = back,
            }
        }
        // Boxed, so that calls that find a worker carry nothing of it.
        Box::pin(self.wait(slot, guard, since, deadline, opening())).await
    }

    async fn wait<G: Send + 'static>(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        guard: G,
        since: Instant,
        deadline: Instant,
        opening: Opening,
    ) -> Result<(Lease<G>, Origin), Box<Failed>> {
        let memory = slot.blueprint.function.memory;
        if memory.bytes() > self.budget.total() {
            // No waiting will change that.
            return Err(no_memory(memory));
        }
        let (giver, taker) = handover::pair(opening);
        let costs = self.costs(slot);
        let limit = self.options.line_depth;
        let ticket = match slot.join(giver, since, &costs) {
            Ok(Joined::Leased(worker)) => {
                // Given back between the two looks, by a call that had just been answered by it.
                let lease = self.lease(slot, worker, guard, since);
                return Ok((lease, Origin::warm(StartReason::Idle, Duration::ZERO)));
            }
            Ok(Joined::InLine(ticket, urgency)) => {
                if let Some(urgency) = urgency {
                    self.begin_start(slot, urgency);
                }
                ticket
            }
            Err(_full) => return Err(line_full(limit)),
        };
        let mut place = Place {
            slot,
            pool: self,
            ticket,
            taker,
            patience: slot.patience(),
            guard: Some(guard),
        };
        loop {
            // Looked at again after the time of a start: by then a line that did not move is worth another worker.
            let look_again = clock::now() + costs.start.max(Duration::from_millis(20));
            let taken = poll_fn(|context| place.taker.poll(context));
            let handed = match place.patience.until(look_again.min(deadline), taken).await {
                Ok(handed) => {
                    handed.unwrap_or_else(|| Err(Failed::unstarted(Fault::Draining).into()))
                }
                Err(Elapsed) => {
                    let now = clock::now();
                    if now < deadline {
                        self.reconsider(slot);
                        continue;
                    }
                    // One that came in this moment is at work for the call already.
                    let late =
                        || Err(self.waited_too_long(slot, now.saturating_duration_since(since)));
                    place.taker.leave().unwrap_or_else(late)
                }
            };
            return place.taken(handed, since);
        }
    }

    /// Starts another worker if the line has become worth it.
    pub(super) fn reconsider(self: &Arc<Self>, slot: &Arc<Slot>) {
        if let Some(urgency) = slot.reserve_start(clock::now(), &self.costs(slot)) {
            self.begin_start(slot, urgency);
        }
    }

    fn costs(&self, slot: &Slot) -> Costs {
        let start = self
            .index
            .stems(&slot.key.runtime)
            .map_or(Duration::ZERO, |stems| stems.start_cost());
        Costs {
            start,
            eager_workers: self.options.eager_workers,
        }
    }

    pub(super) fn lease<G: Send + 'static>(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        worker: Box<Worker>,
        guard: G,
        since: Instant,
    ) -> Lease<G> {
        Lease {
            worker: Some(worker),
            guard: Some(guard),
            slot: slot.clone(),
            pool: self.clone(),
            since,
        }
    }

    fn waited_too_long(&self, slot: &Slot, waited: Duration) -> Box<Failed> {
        let memory = slot.blueprint.function.memory;
        let counts = slot.counts();
        let no_room = counts.busy == 0 && self.budget.used() + memory.bytes() > self.budget.total();
        let fault = if no_room {
            Fault::NoMemory(memory)
        } else {
            Fault::WaitedTooLong(waited)
        };
        Failed::unstarted(fault).into()
    }
}

fn no_memory(memory: Mebibytes) -> Box<Failed> {
    Failed::unstarted(Fault::NoMemory(memory)).into()
}

fn line_full(limit: usize) -> Box<Failed> {
    let fault = Fault::Throttled {
        reason: crate::domain::fault::Throttle::LineFull,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    };
    Failed::unstarted(fault).into()
}

impl Origin {
    fn warm(reason: StartReason, queue: Duration) -> Self {
        Self {
            kind: StartKind::Warm,
            reason,
            cause: None,
            queue,
            start: Duration::ZERO,
            init: Duration::ZERO,
        }
    }

    fn handed(handed: &Handed, waited: Duration) -> Self {
        match handed.fresh {
            None => Self::warm(handed.reason, waited),
            Some(fresh) => {
                let phases = fresh.part_of(waited);
                Self {
                    kind: fresh.kind,
                    reason: handed.reason,
                    cause: fresh.cause,
                    queue: phases.queue,
                    start: phases.start,
                    init: phases.init,
                }
            }
        }
    }
}

/// A caller's place in line. A caller that goes away leaves it, and passes on a worker that was handed to it just then, unless that has begun.
#[derive(Debug)]
struct Place<'a, G: Send + 'static> {
    slot: &'a Arc<Slot>,
    pool: &'a Arc<Pool>,
    ticket: Ticket,
    taker: Taker,
    patience: Patience,
    /// `None` once the caller has what it came for.
    guard: Option<G>,
}

impl<G: Send + 'static> Place<'_, G> {
    fn taken(
        mut self,
        handed: Result<Handed, Box<Failed>>,
        since: Instant,
    ) -> Result<(Lease<G>, Origin), Box<Failed>> {
        let handed = handed?;
        let origin = Origin::handed(&handed, handed.at.saturating_duration_since(since));
        Ok((self.lease(handed).expect("it has not left"), origin))
    }

    fn lease(&mut self, handed: Handed) -> Option<Lease<G>> {
        let guard = self.guard.take()?;
        let lease = self.pool.lease(self.slot, handed.worker, guard, handed.at);
        Some(lease)
    }
}

impl<G: Send + 'static> Drop for Place<'_, G> {
    fn drop(&mut self) {
        self.slot.keep_patience(std::mem::take(&mut self.patience));
        if self.guard.is_none() {
            return;
        }
        self.slot.leave(self.ticket);
        if let Some(Ok(handed)) = self.taker.leave()
            && let Some(lease) = self.lease(handed)
            && !lease.has_begun()
        {
            lease.give_back(clock::now());
        }
    }
}

impl<G: Send + 'static> Lease<G> {
    pub fn worker(&self) -> &Worker {
        self.worker
            .as_deref()
            .expect("a lease has its worker until it ends")
    }

    pub fn worker_mut(&mut self) -> &mut Worker {
        self.worker
            .as_deref_mut()
            .expect("a lease has its worker until it ends")
    }

    pub fn engine(&self) -> &dyn Engine {
        &*self.pool.engine
    }

    /// Its worker is at work for the call already.
    pub fn has_begun(&self) -> bool {
        self.worker().opened.is_some()
    }

    /// When its worker was taken.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The worker answered and can serve the next call.
    pub fn give_back(mut self, now: Instant) {
        let Some(mut worker) = self.worker.take() else {
            return;
        };
        worker.idle_since = now;
        if worker.is_gone() {
            // It closed its log pipe, and nobody would notice its end while it is idle; or it has no network any more.
            let how = worker.ended_by("log_closed");
            self.end(worker, how);
        } else if let Some(out) =
            self.slot
                .give_back(worker, now, now.saturating_duration_since(self.since))
        {
            self.pool.clear_away(out.remains.clone());
            self.pool.index.forget_if_spent(&self.slot);
        }
        // Last: whoever is admitted in this call's place finds its worker, and starts no second one.
        self.guard = None;
    }

    /// The lease, if its worker can be used; else the guard, for another one. A worker that died while it was idle, or
    /// that has something to say though nobody asked, gets no call.
    fn alive(self) -> Result<Self, G> {
        let worker = self.worker();
        match !worker.is_gone() && worker.connection.seems_quiet() {
            true => Ok(self),
            false => Err(self.died_idle()),
        }
    }

    /// The worker died before it had anything of the call. The guard is for another one.
    pub fn died_idle(mut self) -> G {
        let guard = self
            .guard
            .take()
            .expect("a lease has its guard until it ends");
        if let Some(worker) = self.worker.take() {
            let how = worker.ended_by("died_idle");
            self.end(worker, how);
        }
        guard
    }

    /// The worker is dead, or did what no worker does. The call's place is kept until its processes are gone: until then
    /// its code may still run.
    pub fn bury(mut self, reason: &'static str) {
        if let Some(worker) = self.worker.take() {
            self.end(worker, reason);
        }
    }

    fn end(&mut self, worker: Box<Worker>, reason: &'static str) {
        metrics::worker_lost(reason);
        self.slot.lost(reason);
        let guard = self
            .guard
            .take()
            .map(|guard| Box::new(guard) as Box<dyn Any + Send>);
        self.pool.bury(worker.remains.clone(), guard);
        self.pool.reconsider(&self.slot);
        self.pool.index.forget_if_spent(&self.slot);
    }

    /// Nobody waits for the answer any more.
    pub fn cancel(mut self, reason: Reason) {
        self.cancel_now(reason);
    }

    fn cancel_now(&mut self, reason: Reason) {
        if let (Some(worker), Some(guard)) = (self.worker.take(), self.guard.take()) {
            let slot = self.slot.clone();
            self.pool.cancel(slot, worker, self.since, reason, guard);
        }
    }
}

impl<G: Send + 'static> Drop for Lease<G> {
    fn drop(&mut self) {
        self.cancel_now(Reason::ClientGone);
    }
}
