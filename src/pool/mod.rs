//! Workers that wait for calls, and calls that wait for workers. `index` is the one shared map; `state`, `lanes`, `demand` and
//! `evict` decide and do nothing else; `ledger` keeps why workers were started; `roster` is for those who look; `lease` is a call's hold on a worker;
//! `cancel` is what becomes of a worker whose call nobody waits for; `handover` is how a call in line comes by one; `start` turns stem workers into a version's; `still` looks for idle ones that somebody stopped; the `keeper` is the one task that does what
//! is slow: create, refill, retire, clear away.
//!
//! ```text
//!             boot                specialise             lease
//!   (nothing) ────▶ stem worker ────────────▶ idle ◀──────────────▶ busy
//!                       │                      │                     │
//!                       └──────────┬───────────┴──────────┬──────────┘
//!                                  ▼ retired, evicted,    ▼ died, cancelled,
//!                                    deployed over          broke the protocol
//!                                        cleared away (container, directory, memory)
//! ```

pub mod budget;
mod cancel;
mod create;
pub mod demand;
pub mod evict;
pub mod handover;
pub mod index;
pub mod keeper;
pub mod lanes;
pub mod lease;
pub mod ledger;
pub mod policy;
pub mod roster;
pub mod start;
pub mod state;
mod still;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::domain::fault::Fault;
use crate::domain::function::Network;
use crate::domain::id::{FunctionId, RuntimeId, VersionDigest};
use crate::domain::image::{self, Image};
use crate::engine::{self, Engine, kill};
use crate::pool::budget::Budget;
use crate::pool::create::Holder;
use crate::pool::index::{Failed, Index, Slot};
use crate::pool::keeper::Event;
use crate::pool::ledger::Ledger;
use crate::pool::roster::Roster;
use crate::runtime::Catalog;
use crate::runtime::code::{self, Codes};
use crate::runtime::style::Style;
use crate::worker::Remains;
use crate::worker::specialise::Blueprint;

/// Events the keeper may have before it; what does not fit is counted and made good by its next tick.
const EVENTS: usize = 8192;

#[derive(Debug, Clone)]
pub struct Options {
    pub keep_alive: Duration,
    pub stem_min: usize,
    pub stem_max: usize,
    pub stem_window: Duration,
    pub boot_timeout: Duration,
    pub abandoned_grace: Duration,
    pub cancel_grace: Duration,
    pub lanes: usize,
    pub line_depth: usize,
    pub memory_budget: u64,
    pub workers_dir: PathBuf,
    pub log_line_bytes: usize,
    /// Workers a function may always have before the expected wait is asked: with fewer than there are cores, a core idles
    /// while calls wait.
    pub eager_workers: usize,
}

/// The pool, shared by everybody who calls and by the keeper.
#[derive(Debug)]
pub struct Pool {
    pub options: Options,
    engine: Arc<dyn Engine>,
    catalog: Arc<Catalog>,
    codes: Arc<Codes>,
    index: Index,
    budget: Budget,
    roster: Roster,
    /// Containers that hold the network of a function with egress.
    holders: Mutex<HashMap<FunctionId, Arc<Holder>>>,
    keeper: mpsc::Sender<Event>,
}

/// What is kept until a worker is really gone: its call's place under the limits.
type Guard = Option<Box<dyn Any + Send>>;

/// A worker on its way out.
pub struct Leaving {
    remains: Remains,
    guard: Guard,
}

impl Leaving {
    /// Ends what may still run for a call, and with it the call's place. Where that cannot be done from here, the place is
    /// kept until the engine has removed the container.
    async fn kill(&mut self) {
        let Some(first) = self.remains.first_process.filter(|_| self.guard.is_some()) else {
            return;
        };
        match kill::kill(first, &self.remains.container).await {
            Ok(()) => self.guard = None,
            Err(error) => {
                let (worker, error) = (&self.remains.id, &error as &dyn std::error::Error);
                tracing::debug!(%worker, error, "worker is left to the engine to kill");
            }
        }
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaving({})", self.remains.id)
    }
}

/// Which containers can serve whom: a stem worker of a runtime serves any function without a network and an image of its own; a
/// container in a network belongs to one function, because those who share a network share its loopback.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StemKey {
    pub runtime: RuntimeId,
    pub egress: Option<FunctionId>,
    /// The image that is started instead of the runtime's.
    pub image: Option<Arc<Image>>,
}

impl StemKey {
    /// Of stem workers that any function of the runtime may have.
    pub fn stem(runtime: RuntimeId) -> Self {
        Self {
            runtime,
            egress: None,
            image: None,
        }
    }

    pub fn is_stem(&self) -> bool {
        self.egress.is_none() && self.image.is_none()
    }
}

impl Pool {
    /// The pool and what the keeper listens to; `keeper::run` must be spawned with it.
    pub fn new(
        options: Options,
        engine: Arc<dyn Engine>,
        catalog: Arc<Catalog>,
        codes: Arc<Codes>,
    ) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (keeper, events) = mpsc::channel(EVENTS);
        let budget = Budget::new(options.memory_budget);
        let index = Index::new(&catalog);
        (
            Arc::new(Self {
                options,
                engine,
                catalog,
                codes,
                index,
                budget,
                roster: Roster::default(),
                holders: Mutex::default(),
                keeper,
            }),
            events,
        )
    }

    /// Whether there can be workers of this runtime.
    pub fn offers(&self, runtime: &RuntimeId) -> bool {
        self.catalog.find(runtime.as_str()).is_some()
    }

    /// How its errors look; of one that is not here, like nobody's in particular.
    pub fn style(&self, runtime: &RuntimeId) -> Style {
        let manifest = self.catalog.find(runtime.as_str());
        manifest.map_or_else(Style::default, |manifest| Style::of(manifest))
    }

    /// The image of this name, as functions can be made of it.
    pub async fn image(&self, name: &str) -> Result<Option<image::Found>, engine::Error> {
        self.engine.image(name).await
    }

    /// The slot of a version, made if it is not there. `starts` is its function's.
    pub fn open(
        &self,
        digest: &VersionDigest,
        starts: &Arc<Ledger>,
        blueprint: impl FnOnce() -> Blueprint,
    ) -> Arc<Slot> {
        self.index.open(digest, || {
            let blueprint = Arc::new(blueprint());
            let function = &blueprint.function;
            let egress = (function.network == Network::Egress).then(|| function.id.clone());
            let key = StemKey {
                runtime: function.runtime.clone(),
                egress,
                image: function.image().cloned().map(Arc::new),
            };
            Slot::new(
                digest.clone(),
                key,
                blueprint,
                starts.clone(),
                self.options.line_depth,
            )
        })
    }

    /// From now on so many workers of the version are kept ready; those that are lacking are started.
    pub fn provision(self: &Arc<Self>, slot: &Arc<Slot>, count: usize) {
        if slot.provisioning().wanted != count {
            slot.provision(count);
        }
        self.fill(slot);
    }

    /// Starts what a slot lacks of the workers that are kept ready.
    fn fill(self: &Arc<Self>, slot: &Arc<Slot>) {
        // Each turn leaves one less to be wanted.
        while let Some(urgency) = slot.reserve_provisioned(crate::clock::now()) {
            self.begin_start(slot, urgency);
        }
    }

    /// The version was deployed over or deleted: no new workers, and the idle ones go. Calls in line are still served.
    pub fn close(&self, slot: &Arc<Slot>) {
        for worker in slot.close() {
            self.clear_away(worker.remains.clone());
        }
        self.index.forget_if_spent(slot);
    }

    /// Fetches and unpacks a version's code ahead of its first call.
    pub fn prepare(self: &Arc<Self>, packages: Vec<String>) {
        let codes = self.codes.clone();
        crate::task::spawn(crate::task::Kind::Local, "prepare code", async move {
            // One after the other: at a start there may be many, and each is in memory while it is unpacked.
            for sha256 in packages {
                match codes.unpacked(&sha256).await {
                    Ok(_) => {}
                    // It was deleted or deployed over meanwhile.
                    Err(error @ code::Error::Missing(_)) => {
                        tracing::debug!(%error, "code is not needed any more");
                    }
                    Err(error) => {
                        tracing::warn!(%error, code = sha256, "code cannot be prepared, the first call will try again");
                    }
                }
            }
        });
    }

    /// A worker leaves: its memory counts as on its way back from now on, and `guard` is kept until it is gone.
    fn leaving(&self, remains: Remains, guard: Guard) -> Leaving {
        self.budget.leave(remains.memory);
        self.roster.left(&remains.id);
        Leaving { remains, guard }
    }

    /// Ends a worker that is dead or cannot be trusted, and has it cleared away. `guard` is kept until nothing of it runs.
    fn bury(self: &Arc<Self>, remains: Remains, guard: Guard) {
        let mut leaving = self.leaving(remains, guard);
        let pool = self.clone();
        // Not left to whoever clears away: that waits for the engine, and its turn.
        crate::task::spawn(crate::task::Kind::Local, "bury", async move {
            leaving.kill().await;
            pool.tell(Event::ClearAway(leaving));
        });
    }

    /// Removes what is left of a worker: container, directory, its claim on memory. Gives it back if the engine will not.
    async fn remove(&self, mut leaving: Leaving) -> Result<(), Leaving> {
        let last_words = leaving.remains.last_words;
        // No call: what it does now it does for itself.
        if leaving.guard.is_none()
            && !last_words.is_zero()
            && let Some(first) = leaving.remains.first_process
        {
            kill::ended(first, last_words).await;
        }
        leaving.kill().await;
        let Leaving { remains, guard } = leaving;
        if let Err(error) = self.engine.remove(&remains.container).await {
            tracing::warn!(worker = %remains.id, %error, "container cannot be removed yet");
            return Err(Leaving { remains, guard });
        }
        drop(guard);
        let directory = remains.directory.clone();
        let removed = crate::task::blocking("remove worker directory", move || {
            std::fs::remove_dir_all(directory)
        })
        .await;
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(worker = %remains.id, %error, "worker directory cannot be removed");
        }
        self.budget.release(remains.memory);
        self.tell(Event::MemoryFreed);
        Ok(())
    }

    /// Asks the keeper to clear away what is left of a worker that served nobody.
    fn clear_away(&self, remains: Remains) {
        let leaving = self.leaving(remains, None);
        self.tell(Event::ClearAway(leaving));
    }

    fn tell(&self, event: Event) {
        if let Err(error) = self.keeper.try_send(event) {
            match error {
                mpsc::error::TrySendError::Full(Event::ClearAway(leaving)) => {
                    // Found again by its label: at the latest by the sweep of the next start.
                    tracing::error!(worker = %leaving.remains.id, "container left for the next sweep");
                }
                mpsc::error::TrySendError::Full(Event::Need(slot, _))
                | mpsc::error::TrySendError::Closed(Event::Need(slot, _)) => {
                    let fault = Fault::StartFailed("too many starts are waiting".into());
                    slot.start_failed(&Failed::unstarted(fault));
                }
                _ => {}
            }
        }
    }
}

/// The pool at one moment, for those who check it from outside.
#[cfg(test)]
#[derive(Debug)]
pub struct Survey {
    pub slots: usize,
    pub idle: usize,
    pub busy: usize,
    pub starting: usize,
    pub waiting: usize,
    pub stems: Vec<(RuntimeId, usize)>,
    /// Reserved, in bytes.
    pub memory: u64,
    pub holders: usize,
}

#[cfg(test)]
impl Pool {
    pub fn survey(&self) -> Survey {
        let slots: Vec<_> = self.index.slots().iter().map(|s| s.counts()).collect();
        let stems = self.index.all_stems();
        Survey {
            slots: slots.len(),
            idle: slots.iter().map(|s| s.idle).sum(),
            busy: slots.iter().map(|s| s.busy).sum(),
            starting: slots.iter().map(|s| s.starting).sum(),
            waiting: slots.iter().map(|s| s.waiting).sum(),
            stems: stems.map(|(id, s)| (id.clone(), s.len())).collect(),
            memory: self.budget.used(),
            holders: self
                .holders
                .lock()
                .values()
                .filter(|h| h.container.initialized())
                .count(),
        }
    }
}
