//! The keeper's care for stem workers: as many per runtime as recent demand asks for, and no more.

use crate::clock;
use crate::domain::id::RuntimeId;
use crate::pool::StemKey;
use crate::pool::keeper::{Keeper, TICK};
use crate::pool::policy::Urgency;
use crate::telemetry::metrics;
use crate::worker::Worker;

impl Keeper {
    /// Requests as many stem workers as the runtime lacks.
    pub(super) fn refill(&mut self, runtime: &RuntimeId) {
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
        while now >= refill.not_before && stems.len() + refill.pending < target {
            refill.pending += 1;
            self.lanes.request(
                StemKey {
                    runtime: runtime.clone(),
                    egress: None,
                },
                Urgency::Refill,
            );
        }
    }

    /// Retires what demand no longer asks for: stem workers hold memory that somebody may want.
    pub(super) fn retire_surplus(&mut self, runtime: &RuntimeId) {
        let Some(target) = self.stem_target(runtime) else {
            return;
        };
        let pool = self.pool.clone();
        let Some(stems) = pool.index.stems(runtime) else {
            return;
        };
        // Their ends were not told, because this task had too much before it.
        while let Some(worker) = stems.take_gone() {
            self.died_idle(&worker);
        }
        while stems.len() > target
            && let Some(worker) = stems.take_oldest()
        {
            tracing::debug!(worker = %worker.remains.id, %runtime, "stem worker retired");
            metrics::worker_lost("surplus");
            self.to_clear.push_back(worker.remains.clone());
        }
    }

    pub(super) fn stem_target(&mut self, runtime: &RuntimeId) -> Option<usize> {
        let options = &self.pool.options;
        let demand = &mut self.refills.get_mut(runtime)?.demand;
        Some(demand.target(clock::now(), options.stem_min, options.stem_max))
    }

    /// A container made for a function that no longer wants it counts as a stem worker from now on.
    pub(super) fn shrink_to_stem(&self, worker: &mut Worker) {
        let Some(manifest) = self.pool.catalog.find(worker.runtime.as_str()) else {
            return;
        };
        let (from, to) = (worker.remains.memory, manifest.stem_memory);
        if to < from && self.pool.budget.resize(from, to) {
            worker.remains.memory = to;
        }
    }

    pub(super) fn forget_refill(&mut self, runtime: &RuntimeId) {
        if let Some(refill) = self.refills.get_mut(runtime) {
            refill.pending = refill.pending.saturating_sub(1);
            // Without room there is none a moment later either.
            refill.not_before = clock::now() + TICK;
        }
    }
}
