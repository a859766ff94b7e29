//! The one task that does what is slow: it creates containers in the lanes, refills the stem pools, retires what was idle
//! too long, and clears away what is left of dead workers until the engine has really removed it. Others tell it what they
//! saw or want; it decides with the pure parts beside it and lets tasks of its own do the waiting.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::id::{FunctionId, RuntimeId, WorkerId};
use crate::domain::invocation::StartKind;
use crate::domain::limits::Mebibytes;
use crate::engine::{Limits, sweep};
use crate::pool::demand::Demand;
use crate::pool::index::{Failed, Slot};
use crate::pool::lanes::Lanes;
use crate::pool::policy::Urgency;
use crate::pool::{Leaving, Pool, StemKey};
use crate::runtime::manifest::Manifest;
use crate::task;
use crate::telemetry::metrics;
use crate::worker::boot;
use crate::worker::{NETWORK_ENDED, Remains, Worker};

const TICK: Duration = Duration::from_secs(1);
/// Unpacked code nobody has deployed any more is looked for every so many ticks.
const CODE_TICKS: u64 = 300;
/// Containers nobody knows are looked for every so many ticks, and those that have to be there.
const ORPHAN_TICKS: u64 = 15;
/// Idle workers that stand still, too.
const STILL_TICKS: u64 = 5;
/// A container the engine would not remove is tried again after this.
const CLEAR_AGAIN: Duration = Duration::from_secs(5);
/// After failed refills the next one waits, at most this long.
const REFILL_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Containers removed at the same time.
const CLEARING: usize = 4;

#[derive(Debug)]
pub enum Event {
    /// A start was reserved in the slot and there was no stem worker for it.
    Need(Arc<Slot>, Urgency),
    /// A stem worker of the runtime was taken, or would have been.
    StemWanted(RuntimeId),
    /// A creation ended, well or not.
    Booted {
        key: StemKey,
        urgency: Urgency,
        took: Duration,
        result: Result<Box<Worker>, boot::Error>,
    },
    /// A worker's processes ended, or its network.
    Gone(WorkerId),
    ClearAway(Leaving),
    ClearFailed(Leaving),
    Cleared,
    MemoryFreed,
}

struct Keeper {
    pool: Arc<Pool>,
    lanes: Lanes<StemKey>,
    needs: HashMap<StemKey, VecDeque<Arc<Slot>>>,
    /// Creations that found no memory; asked for again when some comes back.
    starved: Vec<(StemKey, Urgency)>,
    refills: BTreeMap<RuntimeId, Refill>,
    clearing: usize,
    to_clear: VecDeque<Leaving>,
    clear_later: VecDeque<(Instant, Leaving)>,
    ticks: u64,
    clock: clock::Watch,
    /// The last search for containers nobody knows.
    orphans: Option<JoinHandle<Option<()>>>,
    /// The last look at idle workers.
    still: Option<JoinHandle<Option<()>>>,
}

/// What a runtime's stem pool is to hold, and how its filling goes.
struct Refill {
    demand: Demand,
    /// Requested and not ended.
    pending: usize,
    failures: u32,
    not_before: Instant,
}

/// Runs until `stop`, then removes every idle and stem worker.
pub async fn run(pool: Arc<Pool>, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
    let refills = pool.catalog.all().iter().map(|manifest| {
        let demand = Demand::new(pool.options.stem_window);
        let refill = Refill {
            demand,
            pending: 0,
            failures: 0,
            not_before: clock::now(),
        };
        (manifest.id.clone(), refill)
    });
    let mut keeper = Keeper {
        lanes: Lanes::new(pool.options.lanes),
        needs: HashMap::new(),
        starved: Vec::new(),
        refills: refills.collect(),
        clearing: 0,
        to_clear: VecDeque::new(),
        clear_later: VecDeque::new(),
        ticks: 0,
        clock: clock::Watch::begin(),
        orphans: None,
        still: None,
        pool,
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = events.recv() => match event {
                Some(event) => keeper.handle(event),
                None => break,
            },
            _ = tick.tick() => keeper.tick(),
        }
        keeper.fill_lanes();
        keeper.clear_some();
    }
    keeper.end(events).await;
}

/// Whether somebody waits for memory. Workers nobody waits for may find none for good.
fn caller_starves(starved: &[(StemKey, Urgency)]) -> bool {
    starved
        .iter()
        .any(|(_, urgency)| *urgency < Urgency::Provision)
}

impl Keeper {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Need(slot, urgency) => {
                let key = slot.key.clone();
                self.needs.entry(key.clone()).or_default().push_back(slot);
                self.lanes.request(key, urgency);
            }
            Event::StemWanted(runtime) => {
                if let Some(refill) = self.refills.get_mut(&runtime) {
                    refill.demand.wanted(clock::now());
                }
                self.refill(&runtime);
            }
            Event::Booted {
                key,
                urgency,
                took,
                result,
            } => {
                self.lanes.done(urgency);
                if urgency == Urgency::Refill
                    && let Some(refill) = self.refills.get_mut(&key.runtime)
                {
                    refill.pending = refill.pending.saturating_sub(1);
                }
                match result {
                    Ok(worker) => self.booted(&key, urgency, worker, took),
                    Err(error) => self.not_booted(&key, urgency, &error),
                }
            }
            Event::Gone(id) => {
                if let Some(worker) = self.pool.index.take_dead(&id) {
                    let how = worker.ended_by("died_idle");
                    metrics::worker_lost(how);
                    match how {
                        "died_idle" => {
                            tracing::warn!(worker = %id, runtime = %worker.runtime, "idle worker died");
                        }
                        // Whoever noticed has warned.
                        _ => tracing::info!(worker = %id, how, "idle worker is replaced"),
                    }
                    self.clear(worker.remains.clone());
                    self.refill(&worker.runtime);
                    // It may have been one of those that are kept ready.
                    for slot in self.pool.index.slots() {
                        self.pool.fill(&slot);
                    }
                }
            }
            Event::ClearAway(leaving) => self.to_clear.push_back(leaving),
            Event::ClearFailed(leaving) => {
                self.clearing -= 1;
                self.clear_later
                    .push_back((clock::now() + CLEAR_AGAIN, leaving));
            }
            Event::Cleared => self.clearing -= 1,
            Event::MemoryFreed => self.feed_starved(),
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        let slots = self.pool.index.slots();
        for slot in &slots {
            slot.measure(now);
            for worker in slot.expire(now, self.pool.options.keep_alive) {
                tracing::debug!(worker = %worker.remains.id, "idle worker retired");
                metrics::worker_lost("keep_alive");
                self.clear(worker.remains.clone());
            }
            self.pool.index.forget_if_spent(slot);
            self.pool.fill(slot);
        }
        while self
            .clear_later
            .front()
            .is_some_and(|(when, _)| *when <= now)
        {
            self.to_clear
                .extend(self.clear_later.pop_front().map(|(_, leaving)| leaving));
        }
        for runtime in self.refills.keys().cloned().collect::<Vec<_>>() {
            self.refill(&runtime);
        }
        self.feed_starved();
        self.release_holders(&slots);
        self.report(&slots);
        if let Some(seconds) = self.clock.jumped() {
            // Whatever waits here waits by another clock.
            metrics::clock_jumped();
            tracing::warn!(seconds, "the machine's clock was set");
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(ORPHAN_TICKS) {
            self.remove_orphans();
        }
        if self.ticks.is_multiple_of(STILL_TICKS) {
            self.check_idle();
        }
        if self.ticks.is_multiple_of(CODE_TICKS) {
            self.forget_code();
        }
    }

    /// Removes unpacked code that no slot has any more.
    fn forget_code(&self) {
        let pool = self.pool.clone();
        task::spawn(task::Kind::Local, "forget code", async move {
            task::blocking("forget code", move || {
                // Looked at only now: what was deployed meanwhile stays.
                let mut live = HashSet::new();
                for slot in pool.index.slots() {
                    let packages = slot.blueprint.function.packages();
                    live.extend(packages.map(str::to_owned));
                }
                pool.codes.retain(|sha256| live.contains(sha256));
            })
            .await;
        });
    }

    /// Removes what the engine made after whoever asked for it had given up.
    fn remove_orphans(&mut self) {
        if self
            .orphans
            .as_ref()
            .is_some_and(|last| !last.is_finished())
        {
            return;
        }
        let pool = self.pool.clone();
        self.orphans = Some(task::spawn(
            task::Kind::Local,
            "remove orphans",
            async move {
                let workers = &pool.options.workers_dir;
                match sweep::remove_orphans(&*pool.engine, workers).await {
                    Ok(0) => {}
                    Ok(containers) => {
                        metrics::leftovers(containers, 0);
                        tracing::info!(containers, "containers removed that nobody waited for");
                    }
                    Err(error) => tracing::debug!(%error, "orphans cannot be looked for"),
                }
                pool.check_holders().await;
            },
        ));
    }

    /// Takes out idle workers that somebody stopped or paused.
    fn check_idle(&mut self) {
        if self.still.as_ref().is_some_and(|last| !last.is_finished()) {
            return;
        }
        let pool = self.pool.clone();
        let check = async move { pool.check_idle().await };
        self.still = Some(task::spawn(task::Kind::Local, "check idle", check));
    }

    /// Requests as many stem workers as the runtime lacks.
    fn refill(&mut self, runtime: &RuntimeId) {
        let now = clock::now();
        let options = &self.pool.options;
        let (Some(refill), Some(stems)) = (
            self.refills.get_mut(runtime),
            self.pool.index.stems(runtime),
        ) else {
            return;
        };
        let target = refill
            .demand
            .target(now, options.stem_min, options.stem_max);
        // What recent demand no longer asks for goes again.
        let surplus: Vec<_> = (target..stems.len())
            .filter_map(|_| stems.oldest())
            .collect();
        // While a caller waits for memory, none goes to those nobody waits for.
        let may = now >= refill.not_before && !caller_starves(&self.starved);
        while may && stems.len() + refill.pending < target {
            refill.pending += 1;
            let key = StemKey::stem(runtime.clone());
            self.lanes.request(key, Urgency::Refill);
        }
        for worker in surplus {
            metrics::worker_lost("surplus");
            self.clear(worker.remains.clone());
        }
    }

    /// Begins creations while lanes are free and the wishes still stand.
    fn fill_lanes(&mut self) {
        while let Some((key, urgency)) = self.lanes.begin() {
            let Some(manifest) = self.pool.catalog.find(key.runtime.as_str()).cloned() else {
                self.lanes.done(urgency);
                continue;
            };
            match self.limits_for(&key, urgency, &manifest) {
                Some(limits) if self.has_room(&key, limits, urgency) => {
                    self.create(key, urgency, &manifest, limits);
                }
                Some(_) => {
                    self.lanes.done(urgency);
                    if urgency == Urgency::Refill {
                        self.forget_refill(&key.runtime);
                    } else {
                        self.starved.push((key, urgency));
                    }
                }
                // Whoever wished for it has been served, or has gone.
                None => self.lanes.done(urgency),
            }
        }
    }

    fn has_room(&self, key: &StemKey, limits: Limits, urgency: Urgency) -> bool {
        match urgency {
            // Nobody waits for it, so nobody is evicted for it, and it takes nothing a caller waits for.
            Urgency::Refill => {
                !caller_starves(&self.starved) && self.pool.budget.reserve(limits.memory)
            }
            _ => {
                let first = self.needs.get(key).and_then(VecDeque::front);
                let favour = first.map_or("", |slot| slot.blueprint.function.name.as_str());
                self.pool
                    .make_room(Mebibytes(0), limits.memory, &Arc::from(favour))
            }
        }
    }

    /// The limits a container is created with, or `None` when nobody wants it any more.
    fn limits_for(
        &mut self,
        key: &StemKey,
        urgency: Urgency,
        manifest: &Manifest,
    ) -> Option<Limits> {
        if urgency == Urgency::Refill {
            return Some(boot::stem_limits(manifest.stem_memory));
        }
        // A stem worker may have become ready since.
        while let Some(slot) = self.next_need(key) {
            if key.is_stem() && self.pool.start_from_stem(&slot) {
                continue;
            }
            let limits = slot.blueprint.limits;
            self.needs.entry(key.clone()).or_default().push_front(slot);
            return Some(limits);
        }
        None
    }

    /// The first need that still has somebody waiting.
    fn next_need(&mut self, key: &StemKey) -> Option<Arc<Slot>> {
        let needs = self.needs.get_mut(key)?;
        while let Some(slot) = needs.pop_front() {
            if slot.confirm_start() {
                return Some(slot);
            }
            self.pool.index.forget_if_spent(&slot);
        }
        self.needs.remove(key);
        None
    }

    fn create(&self, key: StemKey, urgency: Urgency, manifest: &Arc<Manifest>, limits: Limits) {
        let (pool, manifest) = (self.pool.clone(), manifest.clone());
        task::spawn(task::Kind::Local, "create", async move {
            let begun = clock::now();
            let result = match pool.boot(&key, &manifest, limits).await {
                Ok(worker) => Ok(worker),
                Err(failed) => {
                    match failed.left {
                        // It may run on, and takes its memory with it only when it is gone.
                        Some(remains) => pool.clear_away(remains),
                        None => {
                            pool.budget.resize(limits.memory, Mebibytes(0));
                            pool.tell(Event::MemoryFreed);
                        }
                    }
                    Err(failed.error)
                }
            };
            let took = clock::now().saturating_duration_since(begun);
            let booted = Event::Booted {
                key,
                urgency,
                took,
                result,
            };
            // Waited for, not tried: a lane that is never done is lost for good.
            if pool.keeper.send(booted).await.is_err() {
                tracing::debug!("container created after the keeper ended, the sweep removes it");
            }
        });
    }

    /// A container is up: it goes to whoever waits, or to the stem pool.
    fn booted(&mut self, key: &StemKey, urgency: Urgency, worker: Box<Worker>, took: Duration) {
        if let Some(refill) = self.refills.get_mut(&key.runtime) {
            refill.failures = 0;
        }
        let pool = self.pool.clone();
        let Some(stems) = pool.index.stems(&key.runtime) else {
            return;
        };
        stems.booted_in(took);
        pool.roster.came(&worker);
        if worker.is_gone() {
            self.clear(worker.remains.clone());
            if urgency != Urgency::Refill {
                let gone = match worker.ended_by("died") {
                    NETWORK_ENDED => "its network ended as it came",
                    _ => "its log ended as it came",
                };
                self.fail_next(key, Fault::StartFailed(gone.into()));
            }
            return;
        }
        let mut worker = worker;
        if let Some(slot) = self.next_need(key) {
            match self.pool.assign(&slot, worker, StartKind::Cold, took) {
                Ok(()) => return,
                Err(back) => {
                    worker = back;
                    self.needs.entry(key.clone()).or_default().push_front(slot);
                    self.starved.push((key.clone(), Urgency::Caller));
                }
            }
        }
        if !key.is_stem() {
            // It is in a function's network or of its image: no other function may have it, and nobody waits for it.
            self.clear(worker.remains.clone());
            return;
        }
        if stems.len() >= self.pool.options.stem_max {
            self.clear(worker.remains.clone());
            return;
        }
        self.shrink_to_stem(&mut worker);
        stems.put(worker);
    }

    /// A container made for a function that no longer wants it counts as a stem worker from now on.
    fn shrink_to_stem(&self, worker: &mut Worker) {
        let Some(manifest) = self.pool.catalog.find(worker.runtime.as_str()) else {
            return;
        };
        let (from, to) = (worker.remains.memory, manifest.stem_memory);
        if to < from && self.pool.budget.resize(from, to) {
            worker.remains.memory = to;
        }
    }

    fn not_booted(&mut self, key: &StemKey, urgency: Urgency, error: &boot::Error) {
        tracing::warn!(runtime = %key.runtime, urgency = urgency.as_str(), %error, "container cannot be started");
        metrics::start_failed(key.runtime.as_str());
        if let boot::Error::Directory(source) = error
            && source.kind() == std::io::ErrorKind::StorageFull
        {
            metrics::disk_full("worker");
        }
        if urgency == Urgency::Refill {
            if let Some(refill) = self.refills.get_mut(&key.runtime) {
                refill.failures += 1;
                let pause = Duration::from_secs(1 << refill.failures.min(5)).min(REFILL_PAUSE_MAX);
                refill.not_before = clock::now() + pause;
            }
        } else {
            let fault = match error {
                boot::Error::ImageGone { .. } => Fault::CodeUnavailable(error.to_string()),
                _ => Fault::StartFailed(error.to_string()),
            };
            self.fail_next(key, fault);
        }
    }

    /// What was started for whoever is next to have one is of no use.
    fn fail_next(&mut self, key: &StemKey, fault: Fault) {
        if let Some(slot) = self.next_need(key)
            && slot.start_failed(&Failed::unstarted(fault))
        {
            self.pool.reconsider(&slot);
        }
    }

    fn forget_refill(&mut self, runtime: &RuntimeId) {
        if let Some(refill) = self.refills.get_mut(runtime) {
            refill.pending = refill.pending.saturating_sub(1);
            // Without room there is none a moment later either.
            refill.not_before = clock::now() + TICK;
        }
    }

    fn feed_starved(&mut self) {
        for (key, urgency) in std::mem::take(&mut self.starved) {
            self.lanes.request(key, urgency);
        }
    }

    fn clear_some(&mut self) {
        while self.clearing < CLEARING
            && let Some(leaving) = self.to_clear.pop_front()
        {
            self.clearing += 1;
            let pool = self.pool.clone();
            task::spawn(task::Kind::Local, "clear away", async move {
                let event = match pool.remove(leaving).await {
                    Ok(()) => Event::Cleared,
                    Err(leaving) => Event::ClearFailed(leaving),
                };
                if pool.keeper.send(event).await.is_err() {
                    tracing::debug!("container cleared away after the keeper ended");
                }
            });
        }
    }

    fn clear(&mut self, remains: Remains) {
        self.to_clear.push_back(self.pool.leaving(remains, None));
    }

    /// Removes the network holders of functions that are gone.
    fn release_holders(&self, slots: &[Arc<Slot>]) {
        let wanted = |id: &FunctionId| {
            slots
                .iter()
                .any(|slot| slot.key.egress.as_ref() == Some(id))
        };
        let mut unwanted: Vec<_> = self
            .pool
            .holders
            .lock()
            // One that somebody is just starting would be nobody's: its turn comes when it is there, or nobody starts it any more.
            .extract_if(|id, holder| {
                let settled = holder.container.initialized() || Arc::strong_count(holder) == 1;
                settled && !wanted(id)
            })
            .collect();
        unwanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (function, holder) in unwanted {
            let Some(container) = holder.container.get().cloned() else {
                continue;
            };
            let pool = self.pool.clone();
            task::spawn(task::Kind::Local, "release network", async move {
                if let Err(error) = pool.engine.remove(&container).await {
                    tracing::warn!(%function, %error, "network holder cannot be removed, tried again later");
                    pool.holders.lock().entry(function).or_insert(holder);
                }
            });
        }
    }

    fn report(&self, slots: &[Arc<Slot>]) {
        let mut sum = crate::pool::state::Counts {
            idle: 0,
            busy: 0,
            starting: 0,
            waiting: 0,
        };
        for slot in slots {
            let counts = slot.counts();
            sum.idle += counts.idle;
            sum.busy += counts.busy;
            sum.starting += counts.starting;
            sum.waiting += counts.waiting;
        }
        metrics::workers("idle", sum.idle);
        metrics::workers("busy", sum.busy);
        metrics::workers("starting", sum.starting);
        metrics::line(sum.waiting);
        for (runtime, stems) in self.pool.index.all_stems() {
            metrics::stem_workers(runtime.as_str(), stems.len());
        }
        metrics::lanes(self.lanes.active(), self.lanes.waiting());
        metrics::memory_budget(self.pool.budget.used(), self.pool.budget.total());
        let clearing = self.to_clear.len() + self.clearing + self.clear_later.len();
        metrics::clearing(clearing);
        self.pool.roster.report(&self.lanes, clearing);
    }

    /// Removes everything that waits for work; busy workers were drained before, or are found by the next start's sweep.
    async fn end(mut self, mut events: mpsc::Receiver<Event>) {
        for worker in self.pool.index.drain() {
            self.clear(worker.remains.clone());
        }
        self.to_clear
            .extend(self.clear_later.drain(..).map(|(_, leaving)| leaving));
        let holders = std::mem::take(&mut *self.pool.holders.lock());
        for container in holders.values().filter_map(|holder| holder.container.get()) {
            if let Err(error) = self.pool.engine.remove(container).await {
                tracing::warn!(%error, "network holder left for the next sweep");
            }
        }
        self.clear_some();
        while self.clearing > 0 || self.lanes.active() > 0 {
            match events.recv().await {
                Some(Event::Booted {
                    urgency, result, ..
                }) => {
                    self.lanes.done(urgency);
                    if let Ok(worker) = result {
                        self.clear(worker.remains.clone());
                    }
                }
                Some(Event::ClearAway(leaving)) => self.to_clear.push_back(leaving),
                // Left for the next start's sweep: the engine does not remove it now.
                Some(Event::ClearFailed(_) | Event::Cleared) => self.clearing -= 1,
                Some(_) => {}
                None => break,
            }
            self.clear_some();
        }
    }
}
