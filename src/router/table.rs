//! The routing table: what readers look in without a lock, and writers replace in small parts. A publish is visible to every lookup that
//! starts after it returns. Warm path: one atomic load and one hash lookup.
//!
//! A change copies one shard, not everything: with a hundred thousand functions, the whole would be copied for each of them that comes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::domain::id::{FunctionId, FunctionName};
use crate::router::routes::{Matched, Routes};

/// A power of two. With a hundred thousand functions a shard has a few hundred.
const SHARDS: usize = 256;
/// So many URLs that are gone are told from such as never were.
const GONE_URLS: usize = 1000;

/// What can be found by a function's id or name.
pub trait Entry {
    fn id(&self) -> &FunctionId;
    fn name(&self) -> &FunctionName;
    /// Where it answers plain HTTP.
    fn route(&self) -> Option<&str> {
        None
    }
    /// Ids of its function URLs.
    fn urls(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}

#[derive(Debug)]
pub struct Table<T> {
    by_id: Shards<FunctionId, T>,
    by_name: Shards<FunctionName, T>,
    by_url: Shards<Box<str>, T>,
    /// URLs that were taken away, the latest last.
    gone_urls: Mutex<VecDeque<Box<str>>>,
    routes: ArcSwap<Routes<T>>,
    /// Everything, in the order of creation. Writers take turns on it; no call looks in here.
    all: Mutex<BTreeMap<FunctionId, Arc<T>>>,
}

/// A map that is read without a lock.
#[derive(Debug)]
struct Shards<K, T>(Box<[ArcSwap<Shard<K, T>>]>);

type Shard<K, T> = HashMap<K, Arc<T>>;

impl<K: Clone + Eq + Hash + Borrow<str>, T> Shards<K, T> {
    fn new() -> Self {
        Self((0..SHARDS).map(|_| ArcSwap::default()).collect())
    }

    fn get(&self, key: &str) -> Option<Arc<T>> {
        self.0[shard_of(key)].load().get(key).cloned()
    }

    fn change(&self, shard: usize, change: impl FnOnce(&mut Shard<K, T>)) {
        let shard = &self.0[shard];
        let mut next = HashMap::clone(&shard.load());
        change(&mut next);
        shard.store(Arc::new(next));
    }

    fn insert(&self, key: K, entry: Arc<T>) {
        self.change(shard_of(key.borrow()), |shard| {
            shard.insert(key, entry);
        });
    }

    fn remove(&self, key: &str) {
        self.change(shard_of(key), |shard| {
            shard.remove(key);
        });
    }

    /// Many at once: each shard is copied once.
    fn extend(&self, entries: impl Iterator<Item = (K, Arc<T>)>) {
        let mut by_shard: Vec<Vec<(K, Arc<T>)>> = Vec::new();
        by_shard.resize_with(SHARDS, Vec::new);
        for (key, entry) in entries {
            by_shard[shard_of(key.borrow())].push((key, entry));
        }
        for (at, entries) in by_shard.into_iter().enumerate() {
            if !entries.is_empty() {
                self.change(at, |shard| shard.extend(entries));
            }
        }
    }
}

/// FNV-1a. Who makes keys collide makes one shard larger; the map within has a keyed hash.
fn shard_of(key: &str) -> usize {
    let hash = key.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    (hash ^ (hash >> 32)) as usize % SHARDS
}

impl<T: Entry> Default for Table<T> {
    fn default() -> Self {
        Self {
            by_id: Shards::new(),
            by_name: Shards::new(),
            by_url: Shards::new(),
            gone_urls: Mutex::default(),
            routes: ArcSwap::default(),
            all: Mutex::default(),
        }
    }
}

impl<T: Entry> Table<T> {
    /// An id is a UUID, and a name that looks like another function's id loses to it.
    pub fn find(&self, id_or_name: &str) -> Option<Arc<T>> {
        let (by_id, by_name) = (
            || self.by_id.get(id_or_name),
            || self.by_name.get(id_or_name),
        );
        match FunctionId::is_like(id_or_name) {
            true => by_id().or_else(by_name),
            false => by_name().or_else(by_id),
        }
    }

    /// What answers at a path.
    pub fn at(&self, path: &str) -> Option<Matched<T>> {
        self.routes.load().find(path)
    }

    /// Whose function URL it is.
    pub fn at_url(&self, id: &str) -> Option<Arc<T>> {
        self.by_url.get(id)
    }

    /// Whether it was one, not long ago.
    pub fn was_url(&self, id: &str) -> bool {
        self.gone_urls.lock().iter().any(|gone| **gone == *id)
    }

    /// Everything, in the order of creation.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.all.lock().values().cloned().collect()
    }

    /// Adds many at once.
    pub fn extend(&self, entries: &[Arc<T>]) {
        let mut all = self.all.lock();
        all.extend(entries.iter().map(|e| (e.id().clone(), e.clone())));
        self.by_id
            .extend(entries.iter().map(|e| (e.id().clone(), e.clone())));
        self.by_name
            .extend(entries.iter().map(|e| (e.name().clone(), e.clone())));
        let urls = entries
            .iter()
            .flat_map(|e| e.urls().map(|url| (url.into(), e.clone())));
        self.by_url.extend(urls);
        if entries.iter().any(|entry| entry.route().is_some()) {
            self.routes.store(Arc::new(routes(&all)));
        }
    }

    /// Puts the entry `make` builds in the place of the function's old one, which it is given. Both are returned.
    pub fn replace(
        &self,
        id: &FunctionId,
        make: impl FnOnce(Option<&Arc<T>>) -> Option<Arc<T>>,
    ) -> Replaced<T> {
        let mut all = self.all.lock();
        let old = all.remove(id);
        let new = make(old.as_ref());
        if let Some(new) = &new {
            all.insert(id.clone(), new.clone());
            self.by_id.insert(id.clone(), new.clone());
            self.by_name.insert(new.name().clone(), new.clone());
        } else if old.is_some() {
            self.by_id.remove(id.as_str());
        }
        if let Some(old) = &old
            && new.as_ref().is_none_or(|new| new.name() != old.name())
        {
            let name = old.name().as_str();
            // Another function may have been given the name meanwhile.
            if self.by_name.get(name).is_some_and(|now| now.id() == id) {
                self.by_name.remove(name);
            }
        }
        let of = |entry: &Option<Arc<T>>| -> Vec<Box<str>> {
            let urls = entry.iter().flat_map(|entry| entry.urls());
            urls.map(Box::from).collect()
        };
        let urls = of(&new);
        for gone in of(&old).into_iter().filter(|url| !urls.contains(url)) {
            self.by_url.remove(&gone);
            let mut all_gone = self.gone_urls.lock();
            if all_gone.len() == GONE_URLS {
                all_gone.pop_front();
            }
            all_gone.push_back(gone);
        }
        if let Some(new) = &new {
            for url in urls {
                self.by_url.insert(url, new.clone());
            }
        }
        let routed = |entry: &Option<Arc<T>>| entry.as_ref().is_some_and(|e| e.route().is_some());
        if routed(&old) || routed(&new) {
            self.routes.store(Arc::new(routes(&all)));
        }
        Replaced { old, new }
    }
}

/// What a function was and is now.
#[derive(Debug)]
pub struct Replaced<T> {
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

/// The store lets one function have a route. Here there may be two for a moment, while what others wrote is taken over one by one: the
/// older function then keeps it, whichever comes first.
fn routes<T: Entry>(all: &BTreeMap<FunctionId, Arc<T>>) -> Routes<T> {
    let mut routes = Routes::default();
    for entry in all.values() {
        if let Some(route) = entry.route() {
            routes.insert(route, entry.clone());
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Named {
        id: FunctionId,
        name: FunctionName,
        route: Option<String>,
        urls: Vec<String>,
    }

    impl Entry for Named {
        fn id(&self) -> &FunctionId {
            &self.id
        }

        fn name(&self) -> &FunctionName {
            &self.name
        }

        fn route(&self) -> Option<&str> {
            self.route.as_deref()
        }

        fn urls(&self) -> impl Iterator<Item = &str> {
            self.urls.iter().map(String::as_str)
        }
    }

    fn id(n: u8) -> FunctionId {
        FunctionId::from_stored(&format!("00000000-0000-7000-8000-0000000000{n:02x}"))
    }

    fn named(n: u8, name: &str, route: Option<&str>) -> Arc<Named> {
        Arc::new(Named {
            id: id(n),
            name: FunctionName::parse(name).expect("a name"),
            route: route.map(Into::into),
            urls: Vec::new(),
        })
    }

    fn with_urls(urls: impl IntoIterator<Item = usize>) -> Option<Arc<Named>> {
        let urls = urls.into_iter().map(|url| url.to_string()).collect();
        let entry = Arc::into_inner(named(1, "one", None)).expect("nobody else has it");
        Some(Arc::new(Named { urls, ..entry }))
    }

    #[test]
    fn the_latest_urls_that_are_gone_are_known() {
        let table = Table::default();
        table.replace(&id(1), |_| with_urls([0, 1]));
        table.replace(&id(1), |_| with_urls([1]));
        let at = |url: &str| (table.at_url(url).is_some(), table.was_url(url));
        assert_eq!((at("0"), at("1")), ((false, true), (true, false)));
        assert_eq!(at("2"), (false, false));
        table.replace(&id(1), |_| None);
        assert_eq!(at("1"), (false, true));
        table.replace(&id(1), |_| with_urls(2..GONE_URLS + 1));
        table.replace(&id(1), |_| None);
        assert_eq!((at("0"), at("1")), ((false, false), (false, true)));
    }

    #[test]
    fn a_name_that_looks_like_an_id_loses_to_it() {
        let table = Table::default();
        let (one, other) = (named(1, "one", None), named(2, id(1).as_str(), None));
        table.extend(&[one, other]);
        let found = |text: &str| table.find(text).map(|e| e.id.clone());
        assert_eq!(found(id(1).as_str()), Some(id(1)));
        table.replace(&id(1), |_| None);
        assert_eq!(found(id(1).as_str()), Some(id(2)));
        assert_eq!(found("one"), None);
    }

    #[test]
    fn the_older_function_keeps_a_route_and_gives_it_on() {
        let table = Table::default();
        table.replace(&id(2), |_| Some(named(2, "two", Some("/a"))));
        table.replace(&id(1), |_| Some(named(1, "one", Some("/a"))));
        let at = || table.at("/a").map(|found| found.entry.id.clone());
        assert_eq!(at(), Some(id(1)));
        table.replace(&id(1), |_| Some(named(1, "one", None)));
        assert_eq!(at(), Some(id(2)));
        table.replace(&id(2), |_| None);
        assert_eq!(at(), None);
    }

    proptest! {
        /// Whatever comes, goes and is renamed: each is found by its id and by its name, and nothing else is.
        #[test]
        fn what_is_there_is_found(
            first in prop::collection::vec(0u8..8, 0..8),
            steps in prop::collection::vec((0u8..8, prop::option::of(0u8..4)), 0..60),
        ) {
            let table = Table::default();
            // Names of one function are its own: of two with one name the last counts, and that is no order to hold anybody to.
            let name = |n: u8, k: u8| format!("f-{n}-{k}");
            let mut model: BTreeMap<u8, u8> = first.iter().map(|n| (*n, 0)).collect();
            let begin: Vec<_> = model.iter().map(|(n, k)| named(*n, &name(*n, *k), None)).collect();
            table.extend(&begin);
            for (n, to) in steps {
                let replaced = table.replace(&id(n), |old| {
                    assert_eq!(old.map(|e| e.name.to_string()), model.get(&n).map(|k| name(n, *k)));
                    to.map(|k| named(n, &name(n, k), None))
                });
                prop_assert_eq!(replaced.new.is_some(), to.is_some());
                match to {
                    Some(k) => model.insert(n, k),
                    None => model.remove(&n),
                };
            }
            for n in 0..8 {
                let there = model.get(&n);
                let found = table.find(id(n).as_str()).map(|e| e.name.to_string());
                prop_assert_eq!(found, there.map(|k| name(n, *k)));
                for k in 0..4 {
                    let found = table.find(&name(n, k)).map(|e| e.id.clone());
                    prop_assert_eq!(found, (there == Some(&k)).then(|| id(n)));
                }
            }
            let ids: Vec<_> = table.all().iter().map(|e| e.id.clone()).collect();
            prop_assert_eq!(ids, model.keys().map(|n| id(*n)).collect::<Vec<_>>());
        }
    }
}
