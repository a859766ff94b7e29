//! The keeper's care for the memory budget: what waits for memory, what is evicted for it, and what is cleared away until the
//! engine has really removed it, because only then its memory is back.

use std::time::Duration;

use crate::clock;
use crate::domain::id::RuntimeId;
use crate::domain::limits::Mebibytes;
use crate::pool::StemKey;
use crate::pool::index::Slot;
use crate::pool::keeper::{CLEARING, Event, Keeper};
use crate::pool::policy::Urgency;
use crate::task;
use crate::telemetry::metrics;
use crate::worker::Worker;

impl Keeper {
    /// Puts a creation off until there is memory for it, and evicts for it: idle workers, the one that is worth least first,
    /// and stem workers when none is idle. What is on its way back already, and not for another, is counted.
    pub(super) fn starve(&mut self, key: StemKey, urgency: Urgency, memory: Mebibytes) {
        // A stem worker of the runtime needs to grow only.
        let stems = self.pool.index.stems(&key.runtime);
        let has_stem = key.egress.is_none() && stems.is_some_and(|stems| !stems.is_empty());
        let manifest = self.pool.catalog.find(key.runtime.as_str());
        let grown = manifest
            .filter(|_| has_stem)
            .map_or(0, |m| m.stem_memory.bytes());
        let promised: u64 = self
            .starved
            .iter()
            .map(|(_, _, memory)| memory.bytes())
            .sum();
        let more = promised + memory.bytes().saturating_sub(grown);
        while self.pool.budget.lacks(more) > self.coming_back() {
            let Some(worker) = self.least_wanted(&key.runtime) else {
                break;
            };
            metrics::evicted();
            tracing::debug!(worker = %worker.remains.id, "worker evicted for memory");
            self.to_clear.push_back(worker.remains.clone());
        }
        self.starved.push((key, urgency, memory));
    }

    fn least_wanted(&self, runtime: &RuntimeId) -> Option<Box<Worker>> {
        let index = &self.pool.index;
        let start_cost = |slot: &Slot| {
            let stems = index.stems(&slot.key.runtime);
            stems.map_or(Duration::ZERO, |stems| stems.start_cost())
        };
        let idle = index.evict(clock::now(), start_cost);
        idle.or_else(|| index.evict_stem(runtime))
    }

    /// Bytes of dead workers that are still counted as used.
    fn coming_back(&self) -> u64 {
        let waiting: u64 = self.to_clear.iter().map(|r| r.memory.bytes()).sum();
        waiting + self.clearing_bytes
    }

    pub(super) fn feed_starved(&mut self) {
        for (key, urgency, _) in std::mem::take(&mut self.starved) {
            self.lanes.request(key, urgency);
        }
    }

    pub(super) fn cleared(&mut self, memory: Mebibytes) {
        self.clearing -= 1;
        self.clearing_bytes -= memory.bytes();
    }

    pub(super) fn clear_some(&mut self) {
        while self.clearing < CLEARING
            && let Some(remains) = self.to_clear.pop_front()
        {
            self.clearing += 1;
            self.clearing_bytes += remains.memory.bytes();
            let pool = self.pool.clone();
            task::spawn(task::Kind::Local, "clear away", async move {
                let event = match pool.engine.remove(&remains.container).await {
                    Ok(()) => {
                        pool.removed(&remains);
                        Event::Cleared(remains.memory)
                    }
                    Err(error) => {
                        tracing::warn!(worker = %remains.id, %error, "container cannot be removed, tried again later");
                        Event::ClearFailed(remains)
                    }
                };
                if pool.keeper.send(event).await.is_err() {
                    tracing::debug!("container cleared away after the keeper ended");
                }
            });
        }
    }
}
