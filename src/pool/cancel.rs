//! The end of a call that nobody waits for any more. Who came with an impatient client and would have ended in a moment does so, and its
//! worker serves the next call; what still runs then is told, and killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{timeout, timeout_at};

use crate::clock;
use crate::pool::Pool;
use crate::pool::index::Slot;
use crate::pool::keeper::Event;
use crate::task;
use crate::telemetry::metrics;
use crate::worker::frame::Kind;
use crate::worker::message::Reason;
use crate::worker::{Remains, Worker, call, connection};

/// CANCEL is repeated at this interval while nothing is heard: the signal of one can be lost in an interpreter (PROTOCOL.md).
const REMINDER: Duration = Duration::from_millis(50);

impl Pool {
    /// Ends what a worker does for nobody since its call was given up. `guard` is kept until it has ended, because until then code may
    /// still run.
    pub(super) fn cancel<G: Send + 'static>(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        mut worker: Box<Worker>,
        since: Instant,
        reason: Reason,
        guard: G,
    ) {
        let pool = self.clone();
        task::spawn(task::Kind::Local, "cancel", async move {
            if reason == Reason::ClientGone && pool.ends(&slot, &mut worker, since).await {
                let now = clock::now();
                worker.pipe.drain(now);
                return pool.lease(&slot, worker, guard, since).give_back(now);
            }
            let heard = timeout(pool.options.cancel_grace, tell(&mut worker, reason)).await;
            let unheard = heard.is_err().then_some(&worker.remains);
            let still = unheard.and_then(Remains::standstill);
            if let Some(how) = still {
                tracing::warn!(
                    worker = %worker.remains.id,
                    function = %slot.blueprint.function.name,
                    how = how.as_str(),
                    "worker stands still and is killed"
                );
            }
            let how = match (still, reason) {
                (Some(how), _) => how.as_str(),
                (None, Reason::Deadline) => "timeout",
                (None, Reason::ClientGone) => "client_gone",
            };
            metrics::worker_lost(how);
            tracing::debug!(worker = %worker.remains.id, ?reason, heard = heard.is_ok(), "invocation cancelled");
            worker.pipe.drain(clock::now());
            let leaving = pool.leaving(worker.remains.clone(), Some(Box::new(guard)));
            drop(worker);
            // Whoever waits need not wait for the end of this one.
            slot.lost(how);
            pool.reconsider(&slot);
            if let Err(leaving) = pool.remove(leaving).await {
                pool.tell(Event::ClearAway(leaving));
            }
            pool.index.forget_if_spent(&slot);
        });
    }

    /// Waits for the end of an invocation that may end by itself yet; whether it has, and the worker goes on.
    async fn ends(&self, slot: &Slot, worker: &mut Worker, since: Instant) -> bool {
        // Still there if its caller left in line and never saw the worker.
        if worker.opened.take().is_some_and(|opened| !opened.is_sent()) {
            return false;
        }
        let deadline = since + slot.blueprint.function.timeout();
        let until = deadline.min(clock::now() + self.options.abandoned_grace);
        let end = async {
            loop {
                let frame = worker.connection.receive().await.ok()?;
                match frame.kind {
                    _ if frame.stream != worker.stream => return None,
                    Kind::ResponseHead | Kind::ResponseChunk => {}
                    Kind::ResponseEnd | Kind::Error if !call::is_last(&frame) => return Some(()),
                    _ => return None,
                }
            }
        };
        matches!(timeout_at(until.into(), end).await, Ok(Some(())))
    }
}

/// Tells what runs that nobody waits, again and again, until it has ended: whatever it answers, its worker ends with it.
async fn tell(worker: &mut Worker, reason: Reason) -> Result<(), connection::Error> {
    let stream = worker.stream;
    loop {
        let connection = &mut worker.connection;
        connection.send(Kind::Cancel, stream, reason.body()).await?;
        let answered = async {
            while !connection.receive().await?.ends_invocation() {}
            Ok(())
        };
        if let Ok(end) = timeout(REMINDER, answered).await {
            return end;
        }
    }
}
