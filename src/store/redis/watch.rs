//! Listens for changes by other processes. Every change is announced on a channel with its count; because announcements are lost while
//! a connection is, the count is also read whenever the channel was subscribed to and every now and then. Owns the connection of the
//! subscription, and is the only one to tell changes: what exactly was changed when no announcement is missing, and that something was
//! otherwise.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSub;
use tokio::time::MissedTickBehavior;

use crate::store::change::{Change, Teller};
use crate::store::key;
use crate::store::redis::place::Place;
use crate::store::redis::{Calls, Fault};
use crate::telemetry::metrics;

/// Between two attempts to subscribe.
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct Listener {
    pub(super) place: Arc<Place>,
    pub(super) calls: Calls,
    pub(super) changes: Teller,
    pub(super) look_again: Duration,
}

/// How far this has heard.
#[derive(Debug, Default)]
struct Heard {
    /// Announcements go unnoticed.
    deaf: bool,
    /// The count of the last change that was told.
    told: Option<u64>,
}

impl Listener {
    pub(super) async fn run(self) {
        let mut heard = Heard::default();
        loop {
            let Err(fault) = self.listen(&mut heard).await;
            // Once for each time it goes deaf, not for every attempt.
            if !heard.deaf {
                heard.deaf = true;
                metrics::store_error("listen for changes");
                metrics::store_up(false);
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
    async fn listen(&self, heard: &mut Heard) -> Result<Infallible, Fault> {
        let deadline = self.calls.deadline;
        let subscribed = tokio::time::timeout(deadline, self.subscribe()).await;
        let mut subscription = subscribed.unwrap_or(Err(Fault::Deadline(deadline)))?;
        let mut announced = subscription.on_message();
        let mut look = tokio::time::interval(self.look_again);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The highest count that needs no announcement any more, and the one that was found when last looking.
        let (mut needless, mut found) = (None, 0);
        loop {
            tokio::select! {
                message = announced.next() => {
                    let text: String = message.ok_or(Fault::Deaf)?.get_payload()?;
                    let announced = key::read_announcement(&text);
                    let (count, change) = announced.ok_or(Fault::Announced(text))?;
                    needless = needless.max(Some(count));
                    // Announcements come in order, but may come after the count was looked at.
                    if heard.told.is_none_or(|told| told < count) {
                        let next = heard.told.and_then(|told| told.checked_add(1)) == Some(count);
                        heard.told = Some(count);
                        self.changes.tell(if next { change } else { Change::Anything });
                    }
                }
                // The first tick comes at once: changes made while nothing was heard.
                _ = look.tick() => {
                    let count = self.calls.count().await?;
                    let missed = std::mem::take(&mut heard.deaf);
                    if missed {
                        tracing::info!("changes by other processes are noticed again");
                    }
                    metrics::store_up(true);
                    // What was there when last looking and has not been announced since: the subscription is dead, and nobody says so.
                    if needless.is_some_and(|needless| needless < found) {
                        return Err(Fault::Deaf);
                    }
                    needless = needless.or(Some(count));
                    found = count;
                    // Less than before, if Redis lost its last moments in a crash: then what was read before is wrong too. And if
                    // others wrote since, the count may be the same for other changes.
                    if heard.told.replace(count) != Some(count) || missed {
                        self.changes.tell(Change::Anything);
                    }
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<PubSub, Fault> {
        let mut subscription = self.place.listen().await?;
        subscription.subscribe(key::ANNOUNCED).await?;
        Ok(subscription)
    }
}
