//! Every worker there is, for those who look at the pool and decide nothing by it. Written when a worker comes, becomes a function's and
//! goes, never by a call: whether it is busy follows from who is idle.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::clock;
use crate::domain::id::{FunctionName, RuntimeId, WorkerId};
use crate::domain::limits::Mebibytes;
use crate::pool::lanes::Lanes;
use crate::pool::{Pool, StemKey};
use crate::worker::Worker;

/// Evictions that are remembered.
const EVICTIONS: usize = 50;

#[derive(Debug, Default)]
pub struct Roster {
    workers: Mutex<BTreeMap<WorkerId, Listed>>,
    /// As the keeper last saw them.
    lanes_active: AtomicUsize,
    lanes_waiting: AtomicUsize,
    clearing: AtomicUsize,
    evicted: Mutex<Evicted>,
}

/// Idle workers that made room for others.
#[derive(Debug, Default)]
struct Evicted {
    so_far: u64,
    /// The newest last.
    latest: VecDeque<Eviction>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub at: jiff::Timestamp,
    pub runtime: RuntimeId,
    pub memory: Mebibytes,
    /// None had it yet.
    pub function: Option<FunctionName>,
    /// The function whose call needed the room.
    pub favour: Arc<str>,
}

#[derive(Debug)]
struct Listed {
    runtime: RuntimeId,
    memory: Mebibytes,
    created_at: jiff::Timestamp,
    function: Option<FunctionName>,
    /// Its code is loaded.
    serves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Belongs to no function yet.
    Stem,
    /// Being given its code.
    Starting,
    Idle,
    Busy,
}

impl Phase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Stem => "stem",
            Phase::Starting => "starting",
            Phase::Idle => "idle",
            Phase::Busy => "busy",
        }
    }
}

#[derive(Debug)]
pub struct WorkerView {
    pub id: WorkerId,
    pub runtime: RuntimeId,
    pub memory: Mebibytes,
    pub created_at: jiff::Timestamp,
    pub function: Option<FunctionName>,
    pub phase: Phase,
}

/// The pool at about one moment.
#[derive(Debug)]
pub struct View {
    pub workers: Vec<WorkerView>,
    /// Stem workers that are ready, by runtime.
    pub stems: Vec<(RuntimeId, usize)>,
    pub stem_min: usize,
    pub stem_max: usize,
    pub lanes: usize,
    pub lanes_active: usize,
    pub lanes_waiting: usize,
    pub clearing: usize,
    /// Idle workers that made room for others, so far.
    pub evicted: u64,
    /// The latest of them, the newest first.
    pub evictions: Vec<Eviction>,
    /// Calls in line.
    pub waiting: usize,
    /// In bytes.
    pub memory_reserved: u64,
    pub memory_total: u64,
}

impl Roster {
    pub(super) fn came(&self, worker: &Worker) {
        let listed = Listed {
            runtime: worker.runtime.clone(),
            memory: worker.remains.memory,
            created_at: clock::wall(),
            function: None,
            serves: false,
        };
        self.workers
            .lock()
            .insert(worker.remains.id.clone(), listed);
    }

    /// It is being given this function's code.
    pub(super) fn assigned(&self, worker: &Worker, function: &FunctionName) {
        if let Some(listed) = self.workers.lock().get_mut(&worker.remains.id) {
            listed.function = Some(function.clone());
            listed.memory = worker.remains.memory;
        }
    }

    pub(super) fn serves(&self, id: &WorkerId) {
        if let Some(listed) = self.workers.lock().get_mut(id) {
            listed.serves = true;
        }
    }

    /// An idle worker made room for another, of this function.
    pub(super) fn evicted(&self, id: &WorkerId, favour: &Arc<str>) {
        let listed = self.workers.lock().get(id).map(|listed| Eviction {
            at: clock::wall(),
            runtime: listed.runtime.clone(),
            memory: listed.memory,
            function: listed.function.clone(),
            favour: favour.clone(),
        });
        let mut evicted = self.evicted.lock();
        evicted.so_far += 1;
        if evicted.latest.len() == EVICTIONS {
            evicted.latest.pop_front();
        }
        evicted.latest.extend(listed);
    }

    /// What only the keeper knows.
    pub(super) fn report(&self, lanes: &Lanes<StemKey>, clearing: usize) {
        self.lanes_active.store(lanes.active(), Ordering::Relaxed);
        self.lanes_waiting.store(lanes.waiting(), Ordering::Relaxed);
        self.clearing.store(clearing, Ordering::Relaxed);
    }

    pub(super) fn left(&self, id: &WorkerId) {
        self.workers.lock().remove(id);
    }
}

impl Pool {
    pub fn view(&self) -> View {
        let slots = self.index.slots();
        let idle: HashSet<WorkerId> = slots.iter().flat_map(|slot| slot.idle()).collect();
        let roster = &self.roster;
        let (evicted, evictions) = {
            let evicted = roster.evicted.lock();
            let latest = evicted.latest.iter().rev().cloned().collect();
            (evicted.so_far, latest)
        };
        let workers = roster.workers.lock();
        let workers = workers.iter().map(|(id, listed)| WorkerView {
            id: id.clone(),
            runtime: listed.runtime.clone(),
            memory: listed.memory,
            created_at: listed.created_at,
            function: listed.function.clone(),
            phase: match (&listed.function, listed.serves) {
                (None, _) => Phase::Stem,
                (Some(_), false) => Phase::Starting,
                (Some(_), true) if idle.contains(id) => Phase::Idle,
                (Some(_), true) => Phase::Busy,
            },
        });
        let stems = self.index.all_stems();
        View {
            workers: workers.collect(),
            stems: stems.map(|(id, stems)| (id.clone(), stems.len())).collect(),
            stem_min: self.options.stem_min,
            stem_max: self.options.stem_max,
            lanes: self.options.lanes,
            lanes_active: roster.lanes_active.load(Ordering::Relaxed),
            lanes_waiting: roster.lanes_waiting.load(Ordering::Relaxed),
            clearing: roster.clearing.load(Ordering::Relaxed),
            evicted,
            evictions,
            waiting: slots.iter().map(|slot| slot.counts().waiting).sum(),
            memory_reserved: self.budget.used(),
            memory_total: self.budget.total(),
        }
    }
}
