//! The one shared map: slots by version digest, stem pools by runtime. Warm path: a call holds its slot already (it is part
//! of what it was routed to), and takes that slot's lock, briefly, and no other. No guard of a map leaves this file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use crate::clock::patience::Patience;
use crate::domain::fault::{Blame, Fault};
use crate::domain::id::{RuntimeId, VersionDigest, WorkerId};
use crate::domain::invocation::{Phases, StartKind};
use crate::domain::start::Cause;
use crate::pool::StemKey;
use crate::pool::evict;
use crate::pool::handover::{Giver, Handed};
use crate::pool::ledger::{Entry as LedgerEntry, Ledger, NotStem};
use crate::pool::policy::{Costs, Urgency};
use crate::pool::state::{Counts, Full, Given, Need, State, Ticket};
use crate::pool::still::Idle;
use crate::runtime::Catalog;
use crate::telemetry::metrics;
use crate::worker::specialise::Blueprint;
use crate::worker::{NETWORK_ENDED, Worker};

/// A start's cost before the first was measured; what a container takes on a slow machine.
const START_COST_GUESS: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    pub kind: StartKind,
    /// Why it was reserved, as the ledger has it; known when it has ended.
    pub cause: Option<&'static str>,
    pub start: Duration,
    pub init: Duration,
}

impl Fresh {
    /// How a caller's wait came about: in line, for the container, for the code. A start that was begun for somebody else
    /// before this caller came counts only as long as this one waited.
    pub fn part_of(&self, waited: Duration) -> Phases {
        let init = self.init.min(waited);
        let start = self.start.min(waited - init);
        Phases {
            queue: waited - init - start,
            start,
            init,
            run: Duration::ZERO,
        }
    }
}

/// Why a caller in line gets no worker.
#[derive(Debug, Clone)]
pub struct Failed {
    pub fault: Fault,
    /// The end of what the worker printed that did not make it.
    pub log_tail: Arc<str>,
    /// The start that failed, if one had begun.
    pub fresh: Option<Fresh>,
}

impl Failed {
    /// Nothing was started for it.
    pub fn unstarted(fault: Fault) -> Self {
        Self {
            fault,
            log_tail: "".into(),
            fresh: None,
        }
    }

    /// Where the caller's time went.
    pub fn phases(&self, waited: Duration) -> Phases {
        match &self.fresh {
            Some(fresh) => fresh.part_of(waited),
            None => Phases {
                queue: waited,
                ..Phases::default()
            },
        }
    }
}

/// Timers that are kept of a line, however long it was.
const PATIENCES: usize = 64;

/// One version's workers, and how to make more of them.
#[derive(Debug)]
pub struct Slot {
    pub digest: VersionDigest,
    pub key: StemKey,
    pub blueprint: Arc<Blueprint>,
    /// The function's.
    starts: Arc<Ledger>,
    state: Mutex<State<Box<Worker>, Giver>>,
    /// Calls served; the keeper makes a rate of it.
    served: AtomicU64,
    rate: Mutex<Rate>,
    /// Why the last start failed, if it did.
    failure: Mutex<Option<Fault>>,
    /// Of calls that were in line, for the next ones.
    patiences: Mutex<Vec<Patience>>,
}

/// Workers that are kept ready, or are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    pub wanted: usize,
    /// Of those, the ones that are there, idle or busy.
    pub ready: usize,
    /// Why the last start failed, if it did.
    pub failure: Option<Fault>,
}

#[derive(Debug)]
struct Rate {
    served: u64,
    at: Instant,
    per_second: f64,
}

impl Slot {
    pub fn new(
        digest: VersionDigest,
        key: StemKey,
        blueprint: Arc<Blueprint>,
        starts: Arc<Ledger>,
        line_depth: usize,
    ) -> Arc<Self> {
        let absence = match starts.any() {
            true => Cause::VersionChanged,
            false => Cause::FirstCall,
        };
        Arc::new(Self {
            digest,
            key,
            blueprint,
            starts,
            state: Mutex::new(State::new(line_depth, absence)),
            served: AtomicU64::new(0),
            rate: Mutex::new(Rate {
                served: 0,
                at: crate::clock::now(),
                per_second: 0.0,
            }),
            failure: Mutex::default(),
            patiences: Mutex::default(),
        })
    }

    pub fn lease(&self) -> Option<Box<Worker>> {
        self.state.lock().lease()
    }

    /// Joins the line and says, in the same step, whether a start was reserved for it; or takes a worker that became idle
    /// since `lease` was asked.
    pub fn join(&self, giver: Giver, now: Instant, costs: &Costs) -> Result<Joined, Full> {
        let mut state = self.state.lock();
        if let Some(worker) = state.lease() {
            return Ok(Joined::Leased(worker));
        }
        let ticket = state.join(giver, now)?;
        Ok(Joined::InLine(ticket, state.reserve_start(now, costs)))
    }

    /// A timer for a place in line, mostly one that had another's.
    pub fn patience(&self) -> Patience {
        self.patiences.lock().pop().unwrap_or_default()
    }

    /// Keeps one for who comes next.
    pub fn keep_patience(&self, patience: Patience) {
        let mut kept = self.patiences.lock();
        if kept.len() < PATIENCES {
            kept.push(patience);
        }
    }

    pub fn leave(&self, ticket: Ticket) {
        self.state.lock().leave(ticket);
    }

    pub fn reserve_start(&self, now: Instant, costs: &Costs) -> Option<Urgency> {
        self.state.lock().reserve_start(now, costs)
    }

    /// From now on so many workers are kept ready.
    pub fn provision(&self, count: usize) {
        self.state.lock().provision(count);
    }

    pub fn reserve_provisioned(&self, now: Instant) -> Option<Urgency> {
        self.state.lock().reserve_provisioned(now)
    }

    /// How it stands with the workers that are kept ready.
    pub fn provisioning(&self) -> Provisioning {
        let (wanted, counts) = {
            let state = self.state.lock();
            (state.provisioned(), state.counts())
        };
        Provisioning {
            ready: wanted.min(counts.idle + counts.busy),
            wanted,
            failure: self.failure.lock().clone(),
        }
    }

    pub fn confirm_start(&self) -> bool {
        self.state.lock().confirm_start()
    }

    /// A call ended well. Returns the worker if the slot no longer wants it.
    pub fn give_back(
        &self,
        worker: Box<Worker>,
        now: Instant,
        ran: Duration,
    ) -> Option<Box<Worker>> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let given = self.state.lock().give_back(worker, now, ran);
        self.deliver(given, None, now)
    }

    /// A worker of a reserved start begins to load the code. Whether it is one of those that are kept ready.
    pub fn loads(&self) -> bool {
        self.state.lock().loads()
    }

    /// A reserved start is ready.
    pub fn started(&self, worker: Box<Worker>, fresh: Fresh, now: Instant) -> Option<Box<Worker>> {
        let id = worker.remains.id.clone();
        let (given, need) = self.state.lock().started(worker, now);
        *self.failure.lock() = None;
        let fresh = Fresh {
            cause: Some(need.cause.as_str()),
            ..fresh
        };
        self.record(need, Some(fresh), Ok(id));
        self.deliver(given, Some(fresh), now)
    }

    /// Hands over outside the lock. A caller that left in between gives the worker back to the next one.
    fn deliver(
        &self,
        given: Given<Box<Worker>, Giver>,
        fresh: Option<Fresh>,
        now: Instant,
    ) -> Option<Box<Worker>> {
        let mut given = given;
        loop {
            match given {
                Given::Idle => return None,
                Given::Out(worker) => return Some(worker),
                Given::To(waiting, worker) => {
                    let handed = Handed {
                        worker,
                        reason: waiting.reason,
                        fresh,
                        at: now,
                    };
                    let Err(handed) = waiting.token.give(handed) else {
                        return None;
                    };
                    given = self
                        .state
                        .lock()
                        .give_back(handed.worker, now, Duration::ZERO);
                }
            }
        }
    }

    /// A reserved start failed. Says whether another may be worth it now: not if nobody was told, because trying again at once would go
    /// on for ever. A start for nobody is not tried again at once, but who waits in line may need one.
    pub fn start_failed(&self, failed: &Failed) -> bool {
        let of_platform = failed.fault.blame() == Blame::Platform;
        let now = crate::clock::now();
        let (told, need) = {
            let mut state = self.state.lock();
            if failed.fresh.is_some() {
                state.unloaded();
            }
            state.start_failed(of_platform, now)
        };
        *self.failure.lock() = Some(failed.fault.clone());
        let again = need.is_for_nobody() || !told.is_empty();
        let cause = Some(need.cause.as_str());
        self.record(need, failed.fresh, Err(failed.fault.code()));
        for giver in told {
            let mut failed = Box::new(failed.clone());
            failed.fresh = failed.fresh.map(|fresh| Fresh { cause, ..fresh });
            giver.fail(failed);
        }
        again
    }

    /// Keeps what a start came to. One that had not begun needed a container.
    fn record(&self, need: Need, fresh: Option<Fresh>, result: Result<WorkerId, &'static str>) {
        let kind = fresh.map_or(StartKind::Cold, |fresh| fresh.kind);
        let (start, init) = fresh.map_or_else(Default::default, |f| (f.start, f.init));
        let took = crate::clock::now().saturating_duration_since(need.since);
        let seconds = fresh.map(|_| start + init);
        metrics::started(kind, &need.cause, result.is_ok(), seconds);
        let not_stem = (kind == StartKind::Cold).then_some(match self.key.egress {
            Some(_) => NotStem::OwnNetwork,
            None => NotStem::PoolEmpty,
        });
        if let Some(why) = not_stem {
            metrics::stem_missed(why.as_str());
        }
        let fault = result.as_ref().err().copied();
        self.starts.record(LedgerEntry {
            sequence: 0,
            at: crate::clock::wall(),
            cause: need.cause,
            kind,
            not_stem,
            digest: self.digest.to_string(),
            worker: result.ok(),
            fault,
            // A container that was begun for somebody else took part of its time before.
            queue: took.saturating_sub(start + init),
            start,
            init,
        });
    }

    /// A busy worker is gone; `how` is what its end is counted as.
    pub fn lost(&self, how: &'static str) {
        let at = crate::clock::wall();
        self.state.lock().lost(ended(how, at));
    }

    pub fn close(&self) -> Vec<Box<Worker>> {
        self.state.lock().close()
    }

    pub fn expire(&self, now: Instant, keep_alive: Duration) -> Vec<Box<Worker>> {
        let at = crate::clock::wall();
        let why = Cause::KeepAlive { at };
        self.state.lock().expire(now, keep_alive, why)
    }

    /// In favour of another function.
    pub fn evict(&self, favour: Arc<str>) -> Option<Box<Worker>> {
        let at = crate::clock::wall();
        self.state.lock().evict(Cause::Evicted { at, favour })
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().counts()
    }

    /// Who is idle, at this moment.
    pub fn idle(&self) -> Vec<WorkerId> {
        let state = self.state.lock();
        state
            .idle()
            .map(|worker| worker.remains.id.clone())
            .collect()
    }

    /// The same, as they are looked at.
    pub(super) fn idle_now(&self) -> Vec<Idle> {
        let state = self.state.lock();
        let idle = state.idle().map(|worker| Idle {
            function: self.blueprint.function.name.clone(),
            remains: worker.remains.clone(),
            gone: worker.gone.clone(),
        });
        idle.collect()
    }

    fn closed(&self) -> bool {
        self.state.lock().closed()
    }

    pub fn spent(&self) -> bool {
        self.state.lock().spent()
    }

    /// Brings the rate of calls up to date; the keeper does this with every tick.
    pub fn measure(&self, now: Instant) {
        let served = self.served.load(Ordering::Relaxed);
        let mut rate = self.rate.lock();
        let seconds = now.saturating_duration_since(rate.at).as_secs_f64();
        if seconds > 0.0 {
            let recent = (served - rate.served) as f64 / seconds;
            // About a minute's memory at one tick a second.
            rate.per_second += (recent - rate.per_second) * (seconds / 60.0).min(1.0);
            rate.served = served;
            rate.at = now;
        }
    }

    /// What its least wanted idle worker is worth; `None` if none is idle.
    fn idle_value(&self, now: Instant, start_cost: Duration) -> Option<f64> {
        let (idle, since) = {
            let state = self.state.lock();
            (state.counts().idle, state.oldest_idle()?)
        };
        Some(evict::value(&evict::View {
            rate: self.rate.lock().per_second,
            idle,
            idle_for: now.saturating_duration_since(since),
            start_cost,
            memory: self.blueprint.function.memory,
        }))
    }
}

/// Why there is a worker less, by what its end is counted as.
fn ended(how: &'static str, at: jiff::Timestamp) -> Cause {
    match how {
        "timeout" | "client_gone" => Cause::Cancelled { at, how },
        NETWORK_ENDED => Cause::NetworkEnded { at },
        _ => Cause::Crashed { at, how },
    }
}

/// What joining the line came to.
#[derive(Debug)]
pub enum Joined {
    Leased(Box<Worker>),
    InLine(Ticket, Option<Urgency>),
}

/// A runtime's stem workers, and what starting one takes lately.
#[derive(Debug)]
#[expect(
    clippy::vec_box,
    reason = "a worker moves between owners with every call: as a pointer"
)]
pub struct Stems {
    ready: Mutex<Vec<Box<Worker>>>,
    costs: Mutex<StartCosts>,
}

#[derive(Debug, Clone, Copy)]
struct StartCosts {
    boot: Duration,
    specialise: Duration,
}

impl Stems {
    /// The newest; dead ones that are met on the way are handed to `bury`, and those somebody made to stand still: a function would be blamed
    /// for not loading.
    pub fn take(&self, mut bury: impl FnMut(Box<Worker>)) -> Option<Box<Worker>> {
        loop {
            let worker = self.ready.lock().pop()?;
            let lives = !worker.is_gone() && worker.connection.is_quiet();
            if lives && worker.remains.standstill().is_none() {
                return Some(worker);
            }
            bury(worker);
        }
    }

    /// The oldest, to be cleared away.
    pub fn oldest(&self) -> Option<Box<Worker>> {
        let mut ready = self.ready.lock();
        (!ready.is_empty()).then(|| ready.remove(0))
    }

    pub fn put(&self, worker: Box<Worker>) {
        self.ready.lock().push(worker);
    }

    pub fn len(&self) -> usize {
        self.ready.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the next start will take: a stem worker's specialisation, or a container's boot before it.
    pub fn start_cost(&self) -> Duration {
        let costs = *self.costs.lock();
        if self.is_empty() {
            costs.boot + costs.specialise
        } else {
            costs.specialise
        }
    }

    pub fn booted_in(&self, took: Duration) {
        let mut costs = self.costs.lock();
        costs.boot = (costs.boot * 3 + took) / 4;
    }

    pub fn specialised_in(&self, took: Duration) {
        let mut costs = self.costs.lock();
        costs.specialise = (costs.specialise * 3 + took) / 4;
    }

    fn retain_not(&self, id: &WorkerId) -> Option<Box<Worker>> {
        let mut ready = self.ready.lock();
        let place = ready.iter().position(|w| &w.remains.id == id)?;
        Some(ready.remove(place))
    }

    #[expect(clippy::vec_box, reason = "as above")]
    fn drain(&self) -> Vec<Box<Worker>> {
        std::mem::take(&mut *self.ready.lock())
    }
}

#[derive(Debug)]
pub struct Index {
    slots: DashMap<VersionDigest, Arc<Slot>>,
    /// Fixed at start, so it needs no lock.
    stems: BTreeMap<RuntimeId, Stems>,
}

impl Index {
    pub fn new(catalog: &Catalog) -> Self {
        let stems = catalog.all().iter().map(|manifest| {
            let costs = StartCosts {
                boot: START_COST_GUESS,
                specialise: START_COST_GUESS / 10,
            };
            (
                manifest.id.clone(),
                Stems {
                    ready: Mutex::default(),
                    costs: Mutex::new(costs),
                },
            )
        });
        Self {
            slots: DashMap::new(),
            stems: stems.collect(),
        }
    }

    pub fn open(&self, digest: &VersionDigest, make: impl FnOnce() -> Arc<Slot>) -> Arc<Slot> {
        match self.slots.entry(digest.clone()) {
            // Deployed over and now deployed again: the closed one ends by itself with the calls it still has.
            Entry::Occupied(mut held) if held.get().closed() => {
                held.insert(make());
                held.get().clone()
            }
            Entry::Occupied(held) => held.get().clone(),
            Entry::Vacant(place) => place.insert(make()).clone(),
        }
    }

    /// Drops a closed slot once nothing of it is under way.
    pub fn forget_if_spent(&self, slot: &Arc<Slot>) {
        self.slots.remove_if(&slot.digest, |_, held| {
            Arc::ptr_eq(held, slot) && held.spent()
        });
    }

    /// In a fixed order, so that the same events are followed by the same decisions.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        let mut slots: Vec<_> = self
            .slots
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        slots.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        slots
    }

    pub fn stems(&self, runtime: &RuntimeId) -> Option<&Stems> {
        self.stems.get(runtime)
    }

    pub fn all_stems(&self) -> impl Iterator<Item = (&RuntimeId, &Stems)> {
        self.stems.iter()
    }

    /// Takes out an idle or stem worker that is of no use any more.
    pub fn take_dead(&self, id: &WorkerId) -> Option<Box<Worker>> {
        if let Some(worker) = self.stems.values().find_map(|stems| stems.retain_not(id)) {
            return Some(worker);
        }
        let at = crate::clock::wall();
        self.slots().iter().find_map(|slot| {
            slot.state.lock().take_idle(
                |worker| &worker.remains.id == id,
                |worker| ended(worker.ended_by("died_idle"), at),
            )
        })
    }

    /// Takes out the idle worker that is worth least.
    pub fn evict(
        &self,
        now: Instant,
        start_cost: impl Fn(&Slot) -> Duration,
        favour: &Arc<str>,
    ) -> Option<Box<Worker>> {
        let mut ranked: Vec<_> = self
            .slots()
            .into_iter()
            .filter_map(|slot| Some((slot.idle_value(now, start_cost(&slot))?, slot)))
            .collect();
        ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        // The value is a hint: by now the worker may be busy, then the next one is asked.
        ranked
            .into_iter()
            .find_map(|(_, slot)| slot.evict(favour.clone()))
    }

    /// Takes out a stem worker, of whichever runtime has most.
    pub fn evict_stem(&self) -> Option<Box<Worker>> {
        self.stems
            .values()
            .max_by_key(|stems| stems.len())?
            .oldest()
    }

    /// Takes out every idle and stem worker, for the end.
    pub fn drain(&self) -> Vec<Box<Worker>> {
        let mut all: Vec<_> = self.stems.values().flat_map(Stems::drain).collect();
        for slot in self.slots() {
            all.extend(slot.close());
        }
        all
    }
}
