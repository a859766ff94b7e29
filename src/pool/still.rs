//! Idle workers that somebody made to stand still, by a signal or by pausing their container: the next call of each would wait for it until
//! its deadline. The keeper has them looked for every few seconds; a call that comes sooner finds out itself. No warm call pays for this.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::id::FunctionName;
use crate::engine::kill::{Lookout, Standstill};
use crate::pool::Pool;
use crate::pool::keeper::Event;
use crate::task;
use crate::worker::Remains;
use crate::worker::gone::{End, Gone};

/// An engine that changes a container's limits makes it stand still for a moment.
const MOMENT: Duration = Duration::from_secs(1);

/// An idle worker, as it is looked at.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) function: FunctionName,
    pub(super) remains: Remains,
    pub(super) gone: Arc<Gone>,
}

impl Pool {
    /// Has those taken out that stand still.
    pub(super) async fn check_idle(&self) {
        let slots = self.index.slots();
        let idle: Vec<_> = slots.iter().flat_map(|slot| slot.idle_now()).collect();
        if idle.is_empty() {
            return;
        }
        let still = stand_still(idle).await;
        if still.is_empty() {
            return;
        }
        tokio::time::sleep(MOMENT).await;
        let still = stand_still(still.into_iter().map(|(idle, _)| idle).collect());
        for (idle, how) in still.await {
            let (worker, function) = (idle.remains.id, idle.function);
            tracing::warn!(%worker, %function, how = how.as_str(), "idle worker stands still and is killed");
            idle.gone.say(match how {
                Standstill::Stopped => End::Stopped,
                Standstill::Frozen => End::Frozen,
            });
            // One that was given to a call meanwhile is that call's, and nobody's after it.
            self.tell(Event::Gone(worker));
        }
    }
}

/// Of these, those that do. The kernel is asked, through files.
async fn stand_still(idle: Vec<Idle>) -> Vec<(Idle, Standstill)> {
    task::blocking("look at idle workers", move || {
        let Some(lookout) = Lookout::new() else {
            return Vec::new();
        };
        let look = |idle: Idle| Some((idle.remains.standstill_by(&lookout)?, idle));
        let still = idle.into_iter().filter_map(look);
        still.map(|(how, idle)| (idle, how)).collect()
    })
    .await
}
