//! Keeps functions in step with the directories their code came from: what is saved there runs at the next call. One task owns it all: it
//! looks which functions there are whenever that changes, waits for changes below their paths, lets a burst of them pass, and has
//! `Deploy` take over what is there, which is a change like any other: stored, and published in its turn.
//!
//! Where not everything can be watched, it looks again and again instead. It looks for what no watch tells, too: that a path leads to
//! another directory now, or to one again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::api::control::deploy::{Deploy, Unrefreshed};
use crate::clock;
use crate::domain::function::Origin;
use crate::domain::id::FunctionId;
use crate::runtime::watch::{self, Changed, Place, Watcher};
use crate::task;

/// Directories watched at a time, for all functions.
const WATCHES_MAX: usize = 100_000;
/// Nothing has changed for this long: whoever saves is done.
const QUIET: Duration = Duration::from_millis(25);
/// Whoever writes on and on does not keep what is written from being run.
const BURST_MAX: Duration = Duration::from_millis(400);
/// Between two looks at which directories the paths lead to, and where there is none.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_FOR: Duration = Duration::from_millis(100);
/// Between two looks at what is not watched.
const POLL: Duration = Duration::from_millis(500);
/// After a failure: the directory may have been half written, or the store away.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Functions whose code is packed at the same time.
const REFRESHES_MAX: usize = 2;

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    place: Option<Place>,
    /// What was last seen there, where it is not watched.
    polled: Option<u64>,
    burst: Option<Burst>,
    refreshing: bool,
    /// Failures in a row, and the last one that was told.
    failures: u32,
    told: Option<String>,
}

/// Changes that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Burst {
    fn joined(burst: Option<Self>, now: Instant) -> Self {
        let first = burst.map_or(now, |burst| burst.first);
        Self { first, last: now }
    }

    fn over_at(self) -> Instant {
        (self.last + QUIET).min(self.first + BURST_MAX)
    }
}

type Refresh = BoxFuture<'static, (FunctionId, Result<bool, Unrefreshed>)>;

#[derive(Debug)]
struct Keeper {
    deploy: Arc<Deploy>,
    /// Taken while it works where blocking is allowed; `None` for good if there is none to be had.
    watcher: Option<Watcher>,
    watched: BTreeMap<FunctionId, Watched>,
    refreshes: FuturesUnordered<Refresh>,
    look_at: Instant,
    /// It was said that not everything can be watched.
    warned: bool,
}

/// Until the scheduler is gone, which is never before the process ends.
pub async fn run(deploy: Arc<Deploy>) {
    run_within(deploy, WATCHES_MAX).await;
}

async fn run_within(deploy: Arc<Deploy>, watches_max: usize) {
    let mut changes = deploy.scheduler.changes();
    let watcher = Watcher::open(watches_max)
        .inspect_err(|error| tracing::warn!(%error, "code cannot be watched, only looked at"));
    let mut keeper = Keeper {
        deploy,
        watcher: watcher.ok(),
        watched: BTreeMap::new(),
        refreshes: FuturesUnordered::new(),
        look_at: clock::now(),
        warned: false,
    };
    loop {
        keeper.reconcile().await;
        // Whatever wakes it, all that is due is done.
        loop {
            keeper.start_due();
            let next = keeper.next_at();
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_gone) => return,
                },
                () = ready(keeper.watcher.as_ref()) => keeper.take().await,
                Some((id, outcome)) = keeper.refreshes.next() => keeper.refreshed(&id, outcome),
                () = until(next) => keeper.look().await,
            }
        }
    }
}

async fn ready(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.ready().await,
        None => std::future::pending().await,
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    /// Begins with the functions that are new, and forgets those that are gone.
    async fn reconcile(&mut self) {
        let mut wanted: HashMap<FunctionId, PathBuf> = HashMap::new();
        for target in self.deploy.scheduler.targets() {
            if let Origin::Path(path) = &target.function.code.origin {
                wanted.insert(target.function.id.clone(), path.clone());
            }
        }
        let gone: Vec<_> = self
            .watched
            .iter()
            .filter(|(id, watched)| wanted.get(*id) != Some(&watched.path))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.watched.remove(id);
        }
        let mut new = HashSet::new();
        for (id, path) in wanted {
            if let std::collections::btree_map::Entry::Vacant(free) = self.watched.entry(id) {
                new.insert(free.key().clone());
                free.insert(Watched {
                    path,
                    place: None,
                    polled: None,
                    burst: None,
                    refreshing: false,
                    failures: 0,
                    told: None,
                });
            }
        }
        if gone.is_empty() && new.is_empty() {
            return;
        }
        self.with_watcher(move |watcher| {
            for id in &gone {
                watcher.remove(id);
            }
        })
        .await;
        self.place(new).await;
    }

    /// Everything that was noticed.
    async fn take(&mut self) {
        let Some(Changed { ids, lost }) = self.with_watcher(Watcher::take).await else {
            return;
        };
        for id in &ids {
            self.dirty(id);
        }
        for id in &lost {
            // Seen as another place, it is watched anew.
            if let Some(watched) = self.watched.get_mut(id) {
                watched.place = None;
            }
        }
        self.place(lost).await;
    }

    /// Where paths lead to now, and what is not watched.
    async fn look(&mut self) {
        if clock::now() < self.look_at {
            return;
        }
        self.place(self.watched.keys().cloned().collect()).await;
        let missing = self.watched.values().any(|w| w.place.is_none());
        let polled = self.watched.values().any(|w| w.polled.is_some());
        self.look_at = clock::now()
            + match (missing, polled) {
                (true, _) => LOOK_FOR,
                (false, true) => POLL,
                (false, false) => LOOK,
            };
    }

    /// Watches what is at these functions' paths, where that is something else than before.
    async fn place(&mut self, ids: HashSet<FunctionId>) {
        let mut looked = Vec::new();
        for id in ids {
            if let Some(watched) = self.watched.get(&id) {
                let polled = watched.polled.is_some();
                looked.push((id, watched.path.clone(), watched.place.clone(), polled));
            }
        }
        let mut watcher = self.watcher.take();
        let (watcher, seen) = task::blocking("look at code", move || {
            let mut seen = Vec::new();
            for (id, path, before, polled) in looked {
                let place = Place::at(&path);
                let moved = place != before;
                let how = match (&place, moved, polled) {
                    (Some(place), false, true) => How::Polled(watch::fingerprint(place)),
                    (Some(place), true, _) => begin(watcher.as_mut(), &id, place),
                    (None, true, _) => {
                        watcher.iter_mut().for_each(|watcher| watcher.remove(&id));
                        How::Watched
                    }
                    (_, false, _) => continue,
                };
                seen.push((id, place, moved, how));
            }
            (watcher, seen)
        })
        .await;
        self.watcher = watcher;
        for (id, place, moved, how) in seen {
            self.seen(&id, place, moved, how);
        }
    }

    fn seen(&mut self, id: &FunctionId, place: Option<Place>, moved: bool, how: How) {
        let Some(watched) = self.watched.get_mut(id) else {
            return;
        };
        if moved && place.is_none() {
            let path = &watched.path;
            tracing::info!(%id, ?path, "code is not there any more: its function goes on with what it had");
        }
        let there = place.is_some();
        watched.place = place;
        let before = watched.polled;
        watched.polled = match how {
            How::Watched => None,
            How::Polled(now) => Some(now),
        };
        if watched.polled.is_some() && !self.warned {
            self.warned = true;
            let path = &watched.path;
            tracing::warn!(
                ?path,
                "not everything can be watched: changes are looked for instead, which takes longer (see fs.inotify.max_user_watches)"
            );
        }
        if !there {
            // As soon as it is there again.
            self.look_at = self.look_at.min(clock::now() + LOOK_FOR);
        } else if moved || before != self.watched[id].polled {
            self.look_at = self.look_at.min(clock::now() + LOOK);
            self.dirty(id);
        }
    }

    fn dirty(&mut self, id: &FunctionId) {
        if let Some(watched) = self.watched.get_mut(id) {
            watched.burst = Some(Burst::joined(watched.burst, clock::now()));
            watched.failures = 0;
            // A directory that went away may be another already.
            self.look_at = self.look_at.min(clock::now() + LOOK_FOR);
        }
    }

    /// When there is something to do, if nothing happens before.
    fn next_at(&self) -> Option<Instant> {
        if self.watched.is_empty() {
            return None;
        }
        let room = self.refreshes.len() < REFRESHES_MAX;
        let waiting = self.watched.values().filter(|w| room && !w.refreshing);
        let bursts = waiting.filter_map(|w| Some(w.burst?.over_at()));
        bursts.chain([self.look_at]).min()
    }

    fn start_due(&mut self) {
        let now = clock::now();
        for (id, watched) in &mut self.watched {
            if self.refreshes.len() >= REFRESHES_MAX {
                return;
            }
            if watched.refreshing || watched.burst.is_none_or(|burst| burst.over_at() > now) {
                continue;
            }
            watched.burst = None;
            watched.refreshing = true;
            let (deploy, id) = (self.deploy.clone(), id.clone());
            self.refreshes.push(Box::pin(async move {
                let outcome = deploy.refresh(&id).await;
                (id, outcome)
            }));
        }
    }

    fn refreshed(&mut self, id: &FunctionId, outcome: Result<bool, Unrefreshed>) {
        let Some(watched) = self.watched.get_mut(id) else {
            return;
        };
        watched.refreshing = false;
        let error = match outcome {
            Ok(_) => {
                watched.failures = 0;
                watched.told = None;
                return;
            }
            // It is looked for.
            Err(_) if watched.place.is_none() => return,
            Err(error) => error.to_string(),
        };
        watched.failures += 1;
        // The first time it may have been in the middle of being written.
        if watched.failures > 1 && watched.told.as_ref() != Some(&error) {
            let path = &watched.path;
            tracing::warn!(%id, ?path, error, "code cannot be taken over: its function goes on with what it had");
            watched.told = Some(error);
        }
        let wait = (AGAIN * watched.failures).min(AGAIN_MAX);
        let again = clock::now() + wait;
        // Anything that changes before begins another burst, which is over sooner.
        if watched.burst.is_none() {
            watched.burst = Some(Burst {
                first: again,
                last: again,
            });
        }
    }

    /// What the watcher does takes as long as the directories are large.
    async fn with_watcher<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Watcher) -> T + Send + 'static,
    ) -> Option<T> {
        let mut watcher = self.watcher.take()?;
        let (watcher, done) = task::blocking("watch code", move || {
            let done = work(&mut watcher);
            (watcher, done)
        })
        .await;
        self.watcher = Some(watcher);
        Some(done)
    }
}

/// How changes at a place are noticed.
#[derive(Debug)]
enum How {
    Watched,
    Polled(u64),
}

fn begin(watcher: Option<&mut Watcher>, id: &FunctionId, place: &Place) -> How {
    let added = watcher.map(|watcher| {
        watcher.remove(id);
        watcher.add(id, place)
    });
    match added {
        Some(Ok(())) => How::Watched,
        Some(Err(error)) => {
            tracing::debug!(%id, %error, "place is not watched");
            How::Polled(watch::fingerprint(place))
        }
        None => How::Polled(watch::fingerprint(place)),
    }
}

#[cfg(test)]
mod tests;
