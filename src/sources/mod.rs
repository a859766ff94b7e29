//! Event source mappings: functions are called with the messages of queues. One task follows the mappings that the store has, and keeps a poller
//! for each that is enabled: it waits for messages, gathers them into batches, calls the function with each, and takes away what was handled.
//! What is not taken away comes again when the queue shows it again; so a message is handled at least once, whatever happens to this process.
//!
//! ```text
//! store ─▶ follow ─▶ poller: receive ─▶ filter ─▶ Scheduler::invoke ─▶ outcome ─▶ delete
//! ```
//!
//! Processes that share a store each have their pollers: a queue gives a message to one of them. How many batches they have under way together, where
//! a mapping says that, is a limit in the ledger that calls' limits are in. Where there are no mappings, nothing runs but
//! the task that waits for some.

pub mod event;
pub mod outcome;
mod poller;
pub mod queues;
pub mod room;
mod serving;
mod slots;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::filter::Filter;
use crate::domain::mapping::{Mapping, MappingId};
use crate::scheduler::Scheduler;
use crate::sources::poller::Poller;
use crate::sources::queues::Queues;
use crate::sources::room::Room;
use crate::sources::slots::Slots;
use crate::store::Store;
use crate::store::change::{Change, Changes};
use crate::store::mappings::Unreadable;
use crate::task;
use crate::telemetry::metrics;

/// Between two attempts to read the mappings from a store that is away.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Between two looks for pollers that are not there, though nothing changed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What messages may take together, in bytes, while they are received and until they have been handled.
pub const ROOM: usize = 256 * 1024 * 1024;

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How queues are asked; `None` if there is nobody to ask.
    pub queues: Option<Queues>,
    /// Batches of one mapping at the same time, unless it says how many.
    pub parallel: usize,
    /// Bytes of messages that may be here at the same time, of all mappings.
    pub room: usize,
}

#[derive(Debug)]
pub struct Sources {
    scheduler: Arc<Scheduler>,
    store: Arc<dyn Store>,
    options: Options,
    /// This process changed a mapping.
    changed: Notify,
    /// What is wrong with which mapping, as this process sees it.
    problems: Mutex<HashMap<MappingId, Problems>>,
    room: Room,
    /// Batches under way, by mapping.
    slots: Mutex<HashMap<MappingId, Arc<Slots>>>,
}

/// Two things may be wrong with a mapping at the same time.
#[derive(Debug, Default)]
struct Problems {
    /// The queue cannot be read.
    queue: Option<String>,
    /// The function cannot be called, or failed.
    function: Option<String>,
}

/// A mapping with what is made of it once.
#[derive(Debug, PartialEq)]
struct Plan {
    mapping: Mapping,
    filters: Vec<Filter>,
}

impl Plan {
    /// Patterns were looked at when they were written. One that is none any more lets nothing pass: whoever sees that loses nothing.
    fn new(mapping: Mapping) -> Option<Self> {
        let filters = mapping.filters.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Option<_>>()?;
        Some(Self { mapping, filters })
    }
}

/// A poller that runs, until it is told that there is no plan any more.
struct Running {
    plan: watch::Sender<Option<Arc<Plan>>>,
    task: JoinHandle<Option<()>>,
}

impl Sources {
    pub fn new(scheduler: Arc<Scheduler>, store: Arc<dyn Store>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            scheduler,
            store,
            room: Room::new(options.room),
            options,
            changed: Notify::new(),
            problems: Mutex::default(),
            slots: Mutex::default(),
        })
    }

    fn slots(&self, id: MappingId) -> Arc<Slots> {
        let mut slots = self.slots.lock();
        // Those that no poller and no batch has any more.
        slots.retain(|_, slots| Arc::strong_count(slots) > 1);
        slots.entry(id).or_default().clone()
    }

    /// How queues are asked, if there is anybody to ask.
    pub fn queues(&self) -> Option<&Queues> {
        self.options.queues.as_ref()
    }

    /// A mapping was written by this process: what other processes write, the store tells.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// What is wrong with a mapping now, if anything is.
    pub fn problem(&self, mapping: &Mapping) -> Option<String> {
        if !mapping.enabled {
            return None;
        }
        if self.options.queues.is_none() {
            return Some("aws.sqs in the configuration of this Hearth names no queues".into());
        }
        let problems = self.problems.lock();
        let of = problems.get(&mapping.id)?;
        of.queue.clone().or_else(|| of.function.clone())
    }

    /// Says of a mapping that its queue cannot be read, or that it can. Whether that is news.
    fn queue_is(&self, id: MappingId, problem: Option<String>) -> bool {
        let mut problems = self.problems.lock();
        let of = &mut problems.entry(id).or_default().queue;
        let news = of.is_some() != problem.is_some();
        *of = problem;
        news
    }

    /// The same of its function.
    fn function_is(&self, id: MappingId, problem: Option<String>) -> bool {
        let mut problems = self.problems.lock();
        let of = &mut problems.entry(id).or_default().function;
        let news = of.is_some() != problem.is_some();
        *of = problem;
        news
    }

    /// Follows the mappings until `stop`, and ends when the batches under way have ended.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut running: HashMap<MappingId, Running> = HashMap::new();
        // They were told to end, and may have batches under way.
        let mut ending = Vec::new();
        let mut left_out = HashSet::new();
        let mut away = false;
        while !stop.is_cancelled() && self.queues().is_some() {
            match stop.run_until_cancelled(self.store.mappings()).await {
                None => break,
                Some(Ok(all)) => {
                    if std::mem::take(&mut away) {
                        tracing::info!("event source mappings can be read again");
                    }
                    leave_out(&all.unreadable, &mut left_out);
                    self.apply(all.mappings, &mut running, &mut ending, &stop);
                    metrics::source_mappings("read", running.len());
                    metrics::source_mappings("unreadable", left_out.len());
                    stop.run_until_cancelled(self.news(&mut changes)).await;
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut away, true) {
                        let error: &dyn std::error::Error = &error;
                        tracing::info!(error, "event source mappings wait for the store");
                    }
                    let pause = tokio::time::sleep(STORE_RETRY);
                    stop.run_until_cancelled(pause).await;
                }
            }
        }
        stop.cancelled().await;
        ending.extend(running.into_values().map(|running| running.task));
        join_all(ending).await;
    }

    /// Waits until a mapping may have changed, or a poller may have ended by a fault.
    async fn news(&self, changes: &mut Changes) {
        let mut look_again = pin!(tokio::time::sleep(LOOK_AGAIN));
        loop {
            tokio::select! {
                () = self.changed.notified() => return,
                () = &mut look_again => return,
                change = changes.next() => match change {
                    Some(Change::Mappings | Change::Anything) => return,
                    Some(_) => {}
                    // Nobody else writes there any more.
                    None => {
                        tokio::time::timeout(LOOK_AGAIN, self.changed.notified()).await.ok();
                        return;
                    }
                },
            }
        }
    }

    /// Starts, stops and tells pollers, so that there is one for each mapping that is to have one.
    fn apply(
        self: &Arc<Self>,
        all: Vec<Mapping>,
        running: &mut HashMap<MappingId, Running>,
        ending: &mut Vec<JoinHandle<Option<()>>>,
        stop: &CancellationToken,
    ) {
        running.retain(|_, running| !running.task.is_finished());
        ending.retain(|task| !task.is_finished());
        let mut unreadable = Vec::new();
        let wanted = all.into_iter().filter(|mapping| mapping.enabled);
        let wanted = wanted.filter_map(|mapping| {
            let id = mapping.id;
            let plan = Plan::new(mapping);
            if plan.is_none() {
                tracing::error!(mapping = %id, "a filter of this mapping cannot be read, so it does nothing");
                unreadable.push(id);
            }
            Some((id, Arc::new(plan?)))
        });
        let mut wanted: HashMap<_, _> = wanted.collect();
        let gone = running.extract_if(|id, running| {
            let plan = wanted.remove(id);
            let there = running.plan.borrow();
            // Another queue, or one that was there before under the same id, is another poller's.
            let keeps = match (&*there, &plan) {
                (Some(there), Some(plan)) => there.mapping.queue == plan.mapping.queue,
                _ => false,
            };
            let same = *there == plan;
            drop(there);
            match plan {
                Some(plan) if keeps => {
                    if !same {
                        running.plan.send_replace(Some(plan));
                    }
                    false
                }
                plan => {
                    running.plan.send_replace(None);
                    self.problems.lock().remove(id);
                    wanted.extend(plan.map(|plan| (*id, plan)));
                    true
                }
            }
        });
        ending.extend(gone.map(|(_, running)| running.task));
        for id in unreadable {
            self.queue_is(id, Some("a filter pattern cannot be read".to_owned()));
        }
        for (id, plan) in wanted {
            self.problems.lock().remove(&id);
            let (told, plan) = watch::channel(Some(plan));
            let poller = Poller::new(self.clone(), id, plan, stop.clone());
            let task = task::spawn(task::Kind::Local, "event source", poller.run());
            running.insert(id, Running { plan: told, task });
        }
    }
}

/// Says of each mapping once that it cannot be read, and that it is no more so.
fn leave_out(unreadable: &[Unreadable], left_out: &mut HashSet<String>) {
    let ids = unreadable.iter().map(|one| one.id.clone());
    let before = std::mem::replace(left_out, ids.collect());
    for Unreadable { id, why } in unreadable {
        if !before.contains(id) {
            let error: &dyn std::error::Error = why;
            tracing::error!(
                mapping = id,
                error,
                "an event source mapping does nothing until it can be read"
            );
        }
    }
    for id in before.difference(left_out) {
        tracing::info!(
            mapping = id,
            "an event source mapping can be read again, or is gone"
        );
    }
}
