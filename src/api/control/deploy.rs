//! Writes functions: checks, packs, stores, and only then publishes, so that what was answered 200 or 201 is both kept and
//! callable. Every face that changes functions goes through here. Owns the writers' turns.
//!
//! Per function the store and the routing table change in the same order, because both change within one turn on the id and on
//! every name and route that is taken or given up. A write is not undone when its client goes away: it runs in a task of its
//! own, because a stored revision that is not published would answer by old code for good.

pub mod events;
pub mod layers;
pub mod mappings;
mod provision;
mod signing;
mod urls;
pub mod versions;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::api::control::code::{self, Package};
use crate::api::control::draft::{Draft, Rules};
use crate::api::control::intake::Upload;
use crate::api::control::locks::{Held, Key, Locks};
use crate::api::error::Problem;
use crate::domain::fault::with_sources;
use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::{Grant, Scope};
use crate::domain::route;
use crate::runtime::Catalog;
use crate::runtime::package::Places;
use crate::scheduler::Scheduler;
use crate::store::change::News;
use crate::store::{self, Store};
use crate::task;
use crate::telemetry::metrics;

/// How often a write is tried again when another writer was faster: a package dropped by the last function that shared it, or a
/// revision this instance had not seen.
const ATTEMPTS: usize = 3;
/// As many functions are read one by one; of more, all are.
const ONE_BY_ONE: usize = 500;

#[derive(Debug)]
pub struct Deploy {
    pub scheduler: Arc<Scheduler>,
    pub store: Arc<dyn Store>,
    pub runtimes: Arc<Catalog>,
    pub account_concurrency: u32,
    pub places: Places,
    /// What reservations have to leave of it.
    pub unreserved_least: u32,
    /// Held from the look at the others' reservations to the publication of a new one.
    pub reserving: tokio::sync::Mutex<()>,
    pub locks: Locks,
    /// The region of the queues that may be sent to, if there are any.
    pub queues: Option<String>,
}

/// A function that is not published as it is stored.
#[derive(Debug)]
struct Differs {
    id: FunctionId,
    /// What is published is gone, or newer than what is stored.
    withdraw: bool,
    publish: Option<Function>,
}

/// Why code was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Unrefreshed {
    #[error(transparent)]
    Code(#[from] code::Error),
    #[error(transparent)]
    Problem(#[from] Problem),
}

/// What a client says the function is like before its change: the value of If-Match.
pub type Condition = Option<String>;

impl Deploy {
    /// Publishes everything the store has. Before the first request.
    pub async fn restore(&self) -> Result<usize, store::Error> {
        let functions = self.store.functions().await?;
        let count = functions.len();
        for function in &functions {
            self.warn_without_runtime(function);
        }
        self.scheduler
            .restore(functions, self.stored_published().await?);
        Ok(count)
    }

    /// Publishes what other instances wrote, and withdraws what they deleted. Says how many functions that were.
    pub async fn take_over(&self, news: &News) -> Result<usize, store::Error> {
        if news.everything {
            return self.reload().await;
        }
        let mut count = 0;
        for (id, revision) in &news.functions {
            count += usize::from(self.follow(id, *revision).await?);
        }
        for (id, revision) in &news.versions {
            count += usize::from(self.follow_published(id, *revision).await?);
        }
        Ok(count)
    }

    /// The same for one function, of which another instance said that it has this revision now, or is gone.
    async fn follow(&self, id: &FunctionId, revision: Option<u64>) -> Result<bool, store::Error> {
        let published = self.published(id);
        // Most announcements that find it so are of writes of our own.
        let known = match (revision, &published) {
            (Some(revision), Some(published)) => published.revision >= revision,
            (None, None) => true,
            _ => false,
        };
        if known {
            return Ok(false);
        }
        // Within all turns of what it was and what it is, as for a reload.
        let stored = self.store.function(id).await?;
        let stored = stored.iter().chain(published.as_deref());
        let _turn = self.turns(stored).await;
        let stored = self.store.function(id).await?;
        let differs = self.differs(id, stored);
        let adopted = self.adopt(differs.into_iter().collect()) > 0;
        if adopted {
            // What stands behind the name of a function that was not here, or was withdrawn just now.
            self.take_published(id).await?;
        }
        Ok(adopted)
    }

    async fn reload(&self) -> Result<usize, store::Error> {
        Ok(self.reload_functions().await? + self.reload_published().await?)
    }

    async fn reload_functions(&self) -> Result<usize, store::Error> {
        let suspects = self.differences(&self.store.revisions().await?);
        if suspects.is_empty() {
            return Ok(0);
        }
        // A writer here may be between the store and the table, so that what was read is older than the table or newer. Within all their
        // turns, what is read again is neither.
        let stored = self.stored(&suspects).await?;
        let published: Vec<_> = suspects
            .iter()
            .filter_map(|id| self.published(id))
            .collect();
        let published = published.iter().map(Arc::as_ref);
        let _turn = self.turns(stored.values().chain(published)).await;
        let mut stored = self.stored(&suspects).await?;
        let differ = (suspects.iter()).filter_map(|id| self.differs(id, stored.remove(id)));
        Ok(self.adopt(differ.collect()))
    }

    /// Those of them that the store has.
    async fn stored(
        &self,
        ids: &HashSet<FunctionId>,
    ) -> Result<HashMap<FunctionId, Function>, store::Error> {
        let mut found = Vec::new();
        if ids.len() > ONE_BY_ONE {
            found = self.store.functions().await?;
            found.retain(|function| ids.contains(&function.id));
        } else {
            for id in ids {
                found.extend(self.store.function(id).await?);
            }
        }
        Ok(found.into_iter().map(|f| (f.id.clone(), f)).collect())
    }

    /// The turns on everything these hold.
    async fn turns<'a>(&self, functions: impl Iterator<Item = &'a Function>) -> Held {
        let keys = functions.flat_map(|f| {
            let route = f.route.as_deref().map(|r| Key::Route(route::shape(r)));
            let keys = [Key::Id(f.id.to_string()), Key::Name(f.name.to_string())];
            keys.into_iter().chain(route)
        });
        self.locks.take(keys.collect()).await
    }

    /// What has to be done about a function so that it is published as it is stored; `None` if it is.
    fn differs(&self, id: &FunctionId, stored: Option<Function>) -> Option<Differs> {
        let published = self.published(id).map(|f| f.revision);
        let revision = stored.as_ref().map(|f| f.revision);
        if published == revision {
            return None;
        }
        // A store that came back from a crash without its last moments. What it has is what everybody can agree on.
        if let Some(function) = stored.as_ref().filter(|_| revision < published) {
            tracing::warn!(
                function = %function.name,
                revision = function.revision,
                "the store went back to an older revision"
            );
        }
        Some(Differs {
            id: id.clone(),
            withdraw: published > revision,
            publish: stored,
        })
    }

    /// Within the turns on all of them. Says how many they are.
    fn adopt(&self, differ: Vec<Differs>) -> usize {
        let count = differ.len();
        // A name that was given up is free before it is taken.
        for gone in differ.iter().filter(|d| d.withdraw) {
            self.scheduler.withdraw(&gone.id);
        }
        for function in differ.into_iter().filter_map(|d| d.publish) {
            self.warn_without_runtime(&function);
            self.scheduler.publish(function);
        }
        count
    }

    /// The functions that are not the same in the list and in the table.
    fn differences(&self, listed: &HashMap<FunctionId, u64>) -> HashSet<FunctionId> {
        let changed = listed.iter().filter(|(id, revision)| {
            let published = self.published(id);
            published.is_none_or(|function| function.revision != **revision)
        });
        let mut found: HashSet<_> = changed.map(|(id, _)| id.clone()).collect();
        let targets = self.scheduler.targets();
        let ids = targets.iter().map(|target| &target.function.id);
        found.extend(ids.filter(|id| !listed.contains_key(*id)).cloned());
        found
    }

    fn published(&self, id: &FunctionId) -> Option<Arc<Function>> {
        let target = self.scheduler.find(id.as_str())?;
        // A name may look like an id.
        (target.function.id == *id).then(|| target.function.clone())
    }

    fn warn_without_runtime(&self, function: &Function) {
        if self.runtimes.find(function.runtime.as_str()).is_none() {
            tracing::warn!(
                function = %function.name,
                runtime = %function.runtime,
                "function kept, but its runtime is not installed"
            );
        }
    }

    /// `caller` is who wants it; what only the body says is checked with its grant.
    pub async fn create(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        upload: Upload,
    ) -> Result<Function, Problem> {
        let Upload { bytes, room } = upload;
        self.create_from(caller, Some(room), move |rules| {
            Draft::create(&bytes, rules)
        })
        .await
    }

    /// The same, of whatever `make` reads; it is called where blocking is allowed. `room` is held to the end.
    pub async fn create_from<F>(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        room: Option<OwnedSemaphorePermit>,
        make: F,
    ) -> Result<Function, Problem>
    where
        F: FnOnce(Rules<'_>) -> Result<Draft, Problem> + Send + 'static,
    {
        let this = self.clone();
        apart("create function", async move {
            let _room = room;
            let mut draft = this.draft(caller.clone(), make).await?;
            this.resolve(&mut draft).await?;
            this.attach(&mut draft, None, &caller).await?;
            let unchecked = this.check_signed(&draft, None).await?;
            let function = &draft.function;
            let _turn = this.turn_on_paths(&[function]).await;
            let _reserving = this.reserve(None, function).await?;
            match this.write(&draft, None).await {
                Ok(()) => this.scheduler.publish(function.clone()),
                Err(error) => return Err(this.failed(&error, function).await),
            }
            unchecked.into_iter().for_each(|it| it.tell(function));
            tracing::info!(function = %function.name, id = %function.id, "function created");
            Ok(draft.function)
        })
        .await
    }

    pub async fn update(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        id_or_name: String,
        condition: Condition,
        upload: Upload,
    ) -> Result<Function, Problem> {
        let Upload { bytes, room } = upload;
        self.update_from(
            caller,
            id_or_name,
            condition,
            Some(room),
            move |base, rules| Draft::update(&bytes, base, rules),
        )
        .await
    }

    /// The same, of whatever `make` reads; it is called anew, where blocking is allowed, when somebody else was faster. `room` is held to
    /// the end.
    pub async fn update_from<F>(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        id_or_name: String,
        condition: Condition,
        room: Option<OwnedSemaphorePermit>,
        make: F,
    ) -> Result<Function, Problem>
    where
        F: Fn(&Function, Rules<'_>) -> Result<Draft, Problem> + Send + Sync + 'static,
    {
        let this = self.clone();
        let make = Arc::new(make);
        apart("update function", async move {
            let _room = room;
            let _turn = this.turn(&id_or_name).await?;
            for _ in 0..ATTEMPTS {
                let current = this.current(&id_or_name, condition.as_deref())?;
                let (base, make) = (current.clone(), make.clone());
                let mut draft = this
                    .draft(caller.clone(), move |rules| make(&base, rules))
                    .await?;
                this.resolve(&mut draft).await?;
                this.attach(&mut draft, Some(&current), &caller).await?;
                let unchecked = this.check_signed(&draft, Some(&current)).await?;
                let function = &draft.function;
                let _paths = this.turn_on_paths(&[&current, function]).await;
                let _reserving = this.reserve(Some(&current), function).await?;
                match this.write(&draft, Some(current.revision)).await {
                    Ok(()) => this.scheduler.publish(function.clone()),
                    // Another instance wrote it, or a write of ours went through although it failed.
                    Err(store::Error::Stale) => {
                        this.catch_up(&current.id).await;
                        continue;
                    }
                    Err(error) => return Err(this.failed(&error, function).await),
                }
                unchecked.into_iter().for_each(|it| it.tell(function));
                tracing::info!(
                    function = %function.name,
                    id = %function.id,
                    revision = function.revision,
                    "function updated"
                );
                return Ok(draft.function);
            }
            Err(Problem::Contended)
        })
        .await
    }

    /// What `update_from` would make of a function, of which nothing is kept.
    pub async fn rehearse<F>(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        id_or_name: String,
        room: Option<OwnedSemaphorePermit>,
        make: F,
    ) -> Result<Function, Problem>
    where
        F: FnOnce(&Function, Rules<'_>) -> Result<Draft, Problem> + Send + 'static,
    {
        let _room = room;
        let current = self.current(&id_or_name, None)?;
        let base = current.clone();
        let mut draft = self.draft(caller, move |rules| make(&base, rules)).await?;
        self.resolve(&mut draft).await?;
        let unchecked = self.check_signed(&draft, Some(&current)).await?;
        // Nothing was deployed.
        drop(unchecked);
        Ok(Function {
            // It is still the one it was.
            revision: draft.function.revision - 1,
            ..draft.function
        })
    }

    pub async fn delete(
        self: &Arc<Self>,
        caller: Arc<Grant>,
        id_or_name: String,
        condition: Condition,
    ) -> Result<(), Problem> {
        let this = self.clone();
        apart("delete function", async move {
            let _turn = this.turn(&id_or_name).await?;
            let current = this.current(&id_or_name, condition.as_deref())?;
            // Its name may be another than when the request came in.
            caller.may_with(Scope::Deploy, current.name.as_str())?;
            let _paths = this.turn_on_paths(&[&current]).await;
            // `false` is a deletion that went through although it failed before.
            if let Err(error) = this.store.delete(&current.id).await {
                return Err(this.failed(&error, &current).await);
            }
            this.scheduler.withdraw(&current.id);
            tracing::info!(function = %current.name, id = %current.id, "function deleted");
            Ok(())
        })
        .await
    }

    /// Takes over the code that is now where a function's came from. Whether that was another.
    pub async fn refresh(&self, id: &FunctionId) -> Result<bool, Unrefreshed> {
        let _turn = self.turn(id.as_str()).await?;
        for _ in 0..ATTEMPTS {
            let current = self.current(id.as_str(), None)?;
            let base = current.clone();
            let places = self.places.clone();
            let draft = task::blocking("pack code", move || Draft::refresh(&base, &places)).await?;
            let Some(mut draft) = draft else {
                return Ok(false);
            };
            self.measure(&mut draft.function).await?;
            let unchecked = self.check_signed(&draft, Some(&current)).await?;
            let function = &draft.function;
            match self.write(&draft, Some(current.revision)).await {
                Ok(()) => self.scheduler.publish(function.clone()),
                Err(store::Error::Stale) => {
                    self.catch_up(&current.id).await;
                    continue;
                }
                Err(error) => return Err(self.failed(&error, function).await.into()),
            }
            unchecked.into_iter().for_each(|it| it.tell(function));
            tracing::info!(
                function = %function.name,
                id = %function.id,
                revision = function.revision,
                "code taken over from its directory"
            );
            return Ok(true);
        }
        Err(Problem::Contended.into())
    }

    async fn draft<F>(&self, caller: Arc<Grant>, make: F) -> Result<Draft, Problem>
    where
        F: FnOnce(Rules<'_>) -> Result<Draft, Problem> + Send + 'static,
    {
        let runtimes = self.runtimes.clone();
        let places = self.places.clone();
        let account_concurrency = self.account_concurrency;
        let secrets = self.scheduler.secrets().clone();
        let streams = self.store.has_streams();
        let queues = self.queues.clone();
        task::blocking("draft a function", move || {
            make(Rules {
                runtimes: &runtimes,
                account_concurrency,
                places: &places,
                caller: &caller,
                secrets: &secrets,
                streams,
                queues: queues.as_deref(),
            })
        })
        .await
    }

    async fn write(&self, draft: &Draft, from: Option<u64>) -> Result<(), store::Error> {
        let Some(package) = &draft.package else {
            return self.store.put(draft.function.clone(), from).await;
        };
        for _ in 1..ATTEMPTS {
            self.put_code(package).await?;
            match self.store.put(draft.function.clone(), from).await {
                Err(store::Error::CodeMissing(_)) => {}
                done => return done,
            }
        }
        self.put_code(package).await?;
        self.store.put(draft.function.clone(), from).await
    }

    async fn put_code(&self, package: &Package) -> Result<(), store::Error> {
        self.store
            .put_code(&package.code.sha256, package.zip.clone())
            .await
    }

    /// Makes sure that the account's limit has room for a function's reservation, and keeps it until the guard is dropped. Another
    /// process may reserve at the same moment; then less is left than should be, but never is a limit exceeded.
    async fn reserve(
        &self,
        current: Option<&Function>,
        next: &Function,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, Problem> {
        if let (Some(wanted), Some(target)) = (
            next.reserved_concurrency,
            self.scheduler.find(next.id.as_str()),
        ) {
            let sum = target.published().provisioned_in_all();
            if wanted < sum {
                return Err(Problem::invalid(
                    "reserved_concurrency",
                    format!("may be {sum} at least: so many workers are provisioned"),
                ));
            }
        }
        let before = current.and_then(|function| function.reserved_concurrency);
        let Some(wanted) = next.reserved_concurrency.filter(|n| Some(*n) > before) else {
            return Ok(None);
        };
        let turn = self.reserving.lock().await;
        let (most, least) = self.unclaimed(&next.id);
        let account = self.account_concurrency;
        let reserved = account.saturating_sub(least).saturating_sub(most);
        match wanted <= most {
            true => Ok(Some(turn)),
            false => Err(Problem::invalid(
                "reserved_concurrency",
                format!(
                    "may be {most} at most: of the {account} calls there may be, {reserved} are reserved by others and {least} have to stay unreserved"
                ),
            )),
        }
    }

    /// The turn on the function that is called this when the turn comes.
    async fn turn(&self, id_or_name: &str) -> Result<Held, Problem> {
        for _ in 0..ATTEMPTS {
            let found = self.find(id_or_name)?.id;
            let held = self.locks.take(vec![Key::Id(found.to_string())]).await;
            if self.find(id_or_name)?.id == found {
                return Ok(held);
            }
            // The name went to another function while this one waited.
        }
        Err(Problem::Contended)
    }

    async fn turn_on_id(&self, id: &FunctionId) -> Held {
        self.locks.take(vec![Key::Id(id.to_string())]).await
    }

    /// The turn on every name and route these hold, by which others are kept from being published under a name before it was given
    /// up. Taken within the turn on the id.
    async fn turn_on_paths(&self, functions: &[&Function]) -> Held {
        let names = functions.iter().map(|f| Key::Name(f.name.to_string()));
        let routes = functions.iter().filter_map(|f| f.route.as_deref());
        self.locks
            .take(
                names
                    .chain(routes.map(|r| Key::Route(route::shape(r))))
                    .collect(),
            )
            .await
    }

    fn find(&self, id_or_name: &str) -> Result<Function, Problem> {
        self.scheduler
            .find(id_or_name)
            .map(|target| Function::clone(&target.function))
            .ok_or_else(|| Problem::NoFunction(id_or_name.into()))
    }

    fn current(&self, id_or_name: &str, condition: Option<&str>) -> Result<Function, Problem> {
        let current = self.find(id_or_name)?;
        match condition {
            Some(given) if !matches(given, current.revision) => Err(Problem::Stale {
                given: given.into(),
                condition: true,
            }),
            _ => Ok(current),
        }
    }

    /// What a failed write means for the client. A store that failed may have written all the same, so the table catches up with it.
    async fn failed(&self, error: &store::Error, function: &Function) -> Problem {
        match error {
            store::Error::NameTaken(by) => Problem::NameTaken {
                name: function.name.to_string(),
                by: by.clone(),
            },
            store::Error::RouteTaken(by) => Problem::RouteTaken {
                route: function.route.clone().unwrap_or_default(),
                by: match self.published(by) {
                    Some(other) => format!(
                        "{} ({by}), whose route is {:?}",
                        other.name,
                        other.route.as_deref().unwrap_or_default()
                    ),
                    None => by.to_string(),
                },
            },
            store::Error::Stale => Problem::Contended,
            store::Error::NoSigning(id) => Problem::NoSigning(id.clone()),
            // Nothing that is done with a function says so.
            store::Error::SigningInUse(id) => Problem::SigningInUse(id.clone()),
            store::Error::Full => Problem::TooManyEvents,
            store::Error::NoStreams | store::Error::PlaceTaken(_) => Problem::Internal,
            store::Error::CodeMissing(sha256)
                if function.packages().skip(1).any(|layer| layer == sha256) =>
            {
                Problem::invalid(layers::FIELD, "has one that was deleted just now")
            }
            store::Error::CodeMissing(sha256) => {
                tracing::error!(function = %function.name, sha256, "code package is gone from the store");
                Problem::CodeUnavailable
            }
            store::Error::DiskFull { operation, source } => {
                metrics::store_error(operation);
                metrics::disk_full("store");
                tracing::error!(function = %function.name, operation, source = with_sources(&**source), "the store's disk is full");
                self.catch_up(&function.id).await;
                Problem::DiskFull
            }
            store::Error::Unavailable { operation, source }
            | store::Error::Unsaid { operation, source } => {
                metrics::store_error(operation);
                tracing::error!(function = %function.name, operation, source = with_sources(&**source), "store failed");
                self.catch_up(&function.id).await;
                Problem::StoreUnavailable
            }
        }
    }

    /// Publishes what the store has of a function. Within the turn on its id.
    async fn catch_up(&self, id: &FunctionId) {
        let stored = match self.store.function(id).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%id, %error, "could not compare a function with the store");
                return;
            }
        };
        let revision = |f: &Function| f.revision;
        let published = self.scheduler.find(id.as_str());
        match (stored, published.map(|t| revision(&t.function))) {
            (Some(stored), published) if Some(stored.revision) > published => {
                self.scheduler.publish(stored);
            }
            (None, Some(_)) => self.scheduler.withdraw(id),
            _ => {}
        }
    }
}

/// Runs a write to its end, whether or not its client waits for it.
async fn apart<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match task::spawn(task::Kind::Local, name, work).await {
        Ok(Some(result)) => result,
        // It panicked, and the task's edge has logged it.
        Ok(None) | Err(_) => Err(Problem::Internal),
    }
}

/// If-Match: `*`, or a list of entity tags with the revision among them. Quotes may be left out.
fn matches(condition: &str, revision: u64) -> bool {
    condition
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_matches('"').parse() == Ok(revision))
}

#[cfg(test)]
mod tests;
