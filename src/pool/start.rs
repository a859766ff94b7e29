//! From a reserved start to a worker in its slot: a stem worker now, or a need for the keeper. Nothing here runs in the
//! caller's task but the taking of a stem worker; the start goes on when its caller goes away, and serves the next.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::domain::fault::{Fault, with_sources};
use crate::domain::invocation::StartKind;
use crate::domain::limits::Mebibytes;
use crate::engine::{ContainerId, cgroup};
use crate::pool::Pool;
use crate::pool::index::{Failed, Fresh, Slot};
use crate::pool::keeper::Event;
use crate::pool::policy::Urgency;
use crate::task;
use crate::telemetry::metrics;
use crate::worker::Worker;
use crate::worker::specialise::{self, Unpacked};

impl Pool {
    /// Begins a start that was reserved in the slot.
    pub(super) fn begin_start(self: &Arc<Self>, slot: &Arc<Slot>, urgency: Urgency) {
        if slot.key.is_stem() {
            self.tell(Event::StemWanted(slot.key.runtime.clone()));
            if self.start_from_stem(slot) {
                return;
            }
        }
        self.tell(Event::Need(slot.clone(), urgency));
    }

    /// Takes a stem worker, if one is there and its new size fits.
    pub(super) fn start_from_stem(self: &Arc<Self>, slot: &Arc<Slot>) -> bool {
        let Some(stems) = self.index.stems(&slot.key.runtime) else {
            return false;
        };
        let bury = |dead: Box<Worker>| {
            metrics::worker_lost(dead.ended_by("died_idle"));
            self.clear_away(dead.remains.clone());
        };
        let Some(worker) = stems.take(bury) else {
            return false;
        };
        match self.assign(slot, worker, StartKind::Stem, Duration::ZERO) {
            Ok(()) => true,
            Err(worker) => {
                stems.put(worker);
                false
            }
        }
    }

    /// Specialises `worker` for the slot in a task of its own; gives it back if the memory budget has no room for it.
    pub(super) fn assign(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        mut worker: Box<Worker>,
        kind: StartKind,
        start: Duration,
    ) -> Result<(), Box<Worker>> {
        let memory = slot.blueprint.function.memory;
        let favour = Arc::from(slot.blueprint.function.name.as_str());
        if !self.make_room(worker.remains.memory, memory, &favour) {
            return Err(worker);
        }
        worker.remains.memory = memory;
        self.roster.assigned(&worker, &slot.blueprint.function.name);
        let (pool, slot) = (self.clone(), slot.clone());
        task::spawn(task::Kind::Local, "start", async move {
            pool.finish_start(slot, worker, kind, start).await
        });
        Ok(())
    }

    /// Grows a reservation, if need be by evicting idle workers. `false`: not yet, their memory is not back.
    pub(super) fn make_room(&self, from: Mebibytes, to: Mebibytes, favour: &Arc<str>) -> bool {
        if self.budget.resize(from, to) {
            return true;
        }
        // Only what is lacking beyond what is on its way out: the memory comes back when the containers are gone.
        while self.budget.lacks(from, to) > 0 {
            let cost = |slot: &Slot| {
                self.index
                    .stems(&slot.key.runtime)
                    .map_or(Duration::ZERO, |stems| stems.start_cost())
            };
            // A stem worker is for a call that may come; this one is for a call that has.
            let evicted = self
                .index
                .evict(clock::now(), cost, favour)
                .or_else(|| self.index.evict_stem());
            let Some(worker) = evicted else { break };
            metrics::evicted();
            self.roster.evicted(&worker.remains.id, favour);
            tracing::debug!(worker = %worker.remains.id, "idle worker evicted for memory");
            self.clear_away(worker.remains.clone());
        }
        false
    }

    /// Where systemd owns the control groups, it would one day put back the limits the engine last told it; so the engine is
    /// told too, after the worker has gone to whoever waited for it.
    async fn confirm_limits(&self, slot: &Slot, pid: Option<i32>, container: &ContainerId) {
        let owned_by_systemd = pid.is_some_and(|pid| {
            cgroup::Cgroup::of(pid, container).is_ok_and(|group| group.is_systemd_unit())
        });
        if owned_by_systemd
            && let Err(error) = self.engine.limit(container, slot.blueprint.limits).await
        {
            tracing::debug!(%container, %error, "the engine was not told a worker's limits");
        }
    }

    /// Everything its workers need from packages.
    async fn unpacked(&self, slot: &Slot) -> Result<Unpacked, Fault> {
        let mut paths = Vec::new();
        for sha256 in slot.blueprint.function.packages() {
            let path = self.codes.unpacked(sha256).await.map_err(|error| {
                if error.is_full_disk() {
                    metrics::disk_full("code");
                }
                Fault::CodeUnavailable(with_sources(&error))
            })?;
            paths.push(path);
        }
        let mut paths = paths.into_iter();
        Ok(Unpacked {
            code: paths.next().expect("a function has code"),
            layers: paths.collect(),
        })
    }

    async fn finish_start(
        self: Arc<Self>,
        slot: Arc<Slot>,
        mut worker: Box<Worker>,
        kind: StartKind,
        start: Duration,
    ) {
        let begun = clock::now();
        let provisioned = slot.loads();
        let specialised = async {
            let unpacked = self.unpacked(&slot).await?;
            let blueprint = &slot.blueprint;
            specialise::specialise(&*self.engine, &mut worker, blueprint, provisioned, unpacked)
                .await
        }
        .await;
        let now = clock::now();
        let init = now.saturating_duration_since(begun);
        let fresh = Fresh {
            kind,
            cause: None,
            start,
            init,
        };
        match specialised {
            Ok(()) => {
                if let Some(stems) = self.index.stems(&slot.key.runtime) {
                    stems.specialised_in(init);
                }
                self.roster.serves(&worker.remains.id);
                let limited = (worker.pid, worker.remains.container.clone());
                if let Some(out) = slot.started(worker, fresh, now) {
                    self.clear_away(out.remains.clone());
                }
                self.confirm_limits(&slot, limited.0, &limited.1).await;
            }
            Err(fault) => {
                tracing::debug!(function = %slot.blueprint.function.name, %fault, "worker cannot be specialised");
                if matches!(fault, Fault::CodeUnavailable(_)) {
                    let packages = slot.blueprint.function.packages();
                    packages.for_each(|sha256| self.codes.forget(sha256));
                }
                let log_tail = worker.pipe.tail().into();
                self.clear_away(worker.remains.clone());
                drop(worker);
                if slot.start_failed(&Failed {
                    fault,
                    log_tail,
                    fresh: Some(fresh),
                }) {
                    self.reconsider(&slot);
                }
            }
        }
        self.index.forget_if_spent(&slot);
    }
}
