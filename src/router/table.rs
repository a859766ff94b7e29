//! The routing table: a snapshot that readers load without a lock and writers replace whole. A publish is visible to
//! every lookup that starts after it returns. Warm path: one atomic load and one hash lookup.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::domain::id::{FunctionId, FunctionName};
use crate::router::routes::{Matched, Routes};

/// What can be found by a function's id or name.
pub trait Entry {
    fn id(&self) -> &FunctionId;
    fn name(&self) -> &FunctionName;
    /// Where it answers plain HTTP.
    fn route(&self) -> Option<&str> {
        None
    }
}

#[derive(Debug)]
pub struct Table<T> {
    snapshot: ArcSwap<Snapshot<T>>,
    /// Writers take turns; each makes the next snapshot from the last.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Snapshot<T> {
    by_id: HashMap<FunctionId, Arc<T>>,
    /// Ids and names in one map: what a caller puts in the path is looked up once. An id is a UUID, and a name that looks
    /// like another function's id loses to it.
    by_text: HashMap<Arc<str>, Arc<T>>,
    routes: Routes<T>,
}

impl<T: Entry> Default for Table<T> {
    fn default() -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::of(HashMap::new())),
            writing: Mutex::new(()),
        }
    }
}

impl<T: Entry> Snapshot<T> {
    fn of(by_id: HashMap<FunctionId, Arc<T>>) -> Self {
        let mut by_text = HashMap::with_capacity(by_id.len() * 2);
        for entry in by_id.values() {
            by_text.insert(entry.name().as_str().into(), entry.clone());
        }
        for entry in by_id.values() {
            by_text.insert(entry.id().as_str().into(), entry.clone());
        }
        // The store lets one function have a route. Here there may be two for a moment, while what others wrote is taken over one by one: the
        // older function then keeps it, whichever comes first.
        let mut routed: Vec<_> = by_id.values().filter(|e| e.route().is_some()).collect();
        routed.sort_by(|a, b| a.id().cmp(b.id()));
        let mut routes = Routes::default();
        for entry in routed {
            if let Some(route) = entry.route() {
                routes.insert(route, entry.clone());
            }
        }
        Self {
            by_id,
            by_text,
            routes,
        }
    }
}

impl<T: Entry> Table<T> {
    pub fn find(&self, id_or_name: &str) -> Option<Arc<T>> {
        self.snapshot.load().by_text.get(id_or_name).cloned()
    }

    /// What answers at a path.
    pub fn at(&self, path: &str) -> Option<Matched<T>> {
        self.snapshot.load().routes.find(path)
    }

    /// Everything, in the order of creation.
    pub fn all(&self) -> Vec<Arc<T>> {
        let mut all: Vec<_> = self.snapshot.load().by_id.values().cloned().collect();
        all.sort_by(|a, b| a.id().cmp(b.id()));
        all
    }

    /// Adds many at once: one by one, each would make a snapshot of all before it.
    pub fn extend(&self, entries: impl IntoIterator<Item = Arc<T>>) {
        let _turn = self.writing.lock();
        let mut by_id = self.snapshot.load().by_id.clone();
        by_id.extend(entries.into_iter().map(|entry| (entry.id().clone(), entry)));
        self.snapshot.store(Arc::new(Snapshot::of(by_id)));
    }

    /// Puts the entry `make` builds in the place of the function's old one, which it is given and which is returned.
    pub fn replace(
        &self,
        id: &FunctionId,
        make: impl FnOnce(Option<&Arc<T>>) -> Option<Arc<T>>,
    ) -> Option<Arc<T>> {
        let _turn = self.writing.lock();
        let mut by_id = self.snapshot.load().by_id.clone();
        let old = by_id.remove(id);
        if let Some(new) = make(old.as_ref()) {
            by_id.insert(id.clone(), new);
        }
        self.snapshot.store(Arc::new(Snapshot::of(by_id)));
        old
    }
}
