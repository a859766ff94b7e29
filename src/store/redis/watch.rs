//! Listens for changes by other processes. Every change is announced on a channel with its count; because announcements are lost while
//! a connection is, the count is also read whenever the channel was subscribed to and every second. Owns the connection of the
//! subscription, and is the only one to send counts. It does not know what changed: whoever waits for the count looks.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use redis::aio::PubSub;
use tokio::sync::watch::Sender;
use tokio::time::MissedTickBehavior;

use crate::store::key;
use crate::store::redis::{Calls, Fault};
use crate::telemetry::metrics;

/// Between two looks at the count, in case its announcement was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts to subscribe.
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct Listener {
    pub(super) client: Client,
    pub(super) calls: Calls,
    pub(super) identity: String,
    pub(super) changes: Sender<u64>,
}

impl Listener {
    pub(super) async fn run(self) {
        let mut deaf = false;
        loop {
            let Err(fault) = self.listen(&mut deaf).await;
            // Once for each time it goes deaf, not for every attempt.
            if !deaf {
                deaf = true;
                metrics::store_error("listen for changes");
                let error: &dyn std::error::Error = &fault;
                tracing::warn!(
                    error,
                    "changes by other processes go unnoticed until the store answers"
                );
            }
            tokio::time::sleep(SUBSCRIBE_AGAIN).await;
        }
    }

    /// Until something is wrong.
    async fn listen(&self, deaf: &mut bool) -> Result<Infallible, Fault> {
        let deadline = self.calls.deadline;
        let subscribed = tokio::time::timeout(deadline, self.subscribe()).await;
        let mut subscription = subscribed.unwrap_or(Err(Fault::Deadline(deadline)))?;
        let mut announced = subscription.on_message();
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The highest count that needs no announcement any more, and the one that was found when last looking.
        let (mut heard, mut found) = (None, 0);
        loop {
            tokio::select! {
                message = announced.next() => {
                    let message = message.ok_or(Fault::Deaf)?;
                    let count: u64 = message.get_payload()?;
                    heard = heard.max(Some(count));
                    // Announcements come in order, but may come after the count was looked at.
                    self.changes.send_if_modified(|known| {
                        count > std::mem::replace(known, count.max(*known))
                    });
                }
                // The first tick comes at once: changes made while nothing was heard.
                _ = look.tick() => {
                    let count = self.calls.count(&self.identity).await?;
                    let missed = std::mem::take(deaf);
                    if missed {
                        tracing::info!("changes by other processes are noticed again");
                    }
                    // What was there a second ago and has not been announced since: the subscription is dead, and nobody says so.
                    if heard.is_some_and(|heard| heard < found) {
                        return Err(Fault::Deaf);
                    }
                    heard = heard.or(Some(count));
                    found = count;
                    // Less than before, if Redis lost its last moments in a crash: then what was read before is wrong too. And if
                    // others wrote since, the count may be the same for other changes.
                    self.changes.send_if_modified(|known| {
                        std::mem::replace(known, count) != count || missed
                    });
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<PubSub, Fault> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(key::ANNOUNCED).await?;
        Ok(subscription)
    }
}
