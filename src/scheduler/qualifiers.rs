//! What stands behind a function's name: its published versions and its aliases, as a part of the routing snapshot. Resolving is on the
//! warm path: two lookups, and a throw of the dice where an alias has two versions; no lock, and nothing is allocated. A version is made
//! callable when an alias points at it or its first call comes: of the many a function may have, few are ever called.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;

use crate::domain::destination::Asynchronous;
use crate::domain::id::{AliasName, FunctionId};
use crate::domain::version::{Alias, Published, Second, Version, VersionId};
use crate::scheduler::{Scheduler, Target};

/// The published versions and aliases of a function. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Qualifiers {
    published: Arc<Published>,
    cells: Arc<BTreeMap<u64, Arc<Cell>>>,
    aliases: Arc<HashMap<AliasName, Pointer>>,
}

/// A version's place: not opened yet, opened, or closed for good.
#[derive(Debug, Default)]
struct Cell(OnceLock<Option<Arc<Target>>>);

#[derive(Debug)]
struct Pointer {
    version: VersionId,
    second: Option<Second>,
    dice: Dice,
    /// What a call through the alias says of it.
    context: Bytes,
}

/// What a call was for: the version that runs it, decided once, and what the handler's context says beside what its worker knows.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub target: Arc<Target>,
    /// The alias that it was called by.
    pub alias: Option<AliasName>,
    pub context: Bytes,
}

/// Why nothing stands behind what a call named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("there is no function {0:?}")]
    NoFunction(String),
    #[error("function {function:?} has no version or alias {qualifier:?}")]
    NoQualifier { function: String, qualifier: String },
    #[error("is {parameter:?}, but behind the name stands {name:?}")]
    Differ { name: String, parameter: String },
}

/// Chance for everybody who calls at once: SplitMix64, whose state is a counter and needs no lock.
#[derive(Debug)]
struct Dice(AtomicU64);

impl Dice {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// From 0.0 to just below 1.0.
    fn roll(&self) -> f64 {
        // Nothing else hangs on the counter, so no order is asked for.
        let state = self.0.fetch_add(Self::STEP, Ordering::Relaxed);
        let mut z = state.wrapping_add(Self::STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // As many bits as a fraction has.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Cell {
    fn open(&self, make: impl FnOnce() -> Target) -> Option<&Arc<Target>> {
        self.0.get_or_init(|| Some(Arc::new(make()))).as_ref()
    }

    fn opened(&self) -> Option<&Arc<Target>> {
        self.0.get().and_then(Option::as_ref)
    }

    /// Whoever comes from now on, with an old snapshot, finds it closed.
    fn close(&self) -> Option<&Arc<Target>> {
        self.0.get_or_init(|| None).as_ref()
    }
}

impl Pointer {
    fn new(arn: &str, alias: &Alias, dice: Option<u64>) -> Self {
        Self {
            version: alias.version,
            second: alias.second,
            dice: Dice::new(dice.map_or_else(rand::random, |dice| dice ^ alias.revision)),
            context: context(arn),
        }
    }

    fn choose(&self) -> VersionId {
        match self.second {
            Some(second) if self.dice.roll() < second.weight => VersionId::Number(second.version),
            _ => self.version,
        }
    }
}

/// What a call's context says when it was called by another ARN than its worker's own.
fn context(invoked_arn: &str) -> Bytes {
    // An ARN of names and numbers holds nothing that JSON escapes.
    format!(r#"{{"invoked_function_arn":"{invoked_arn}"}}"#).into()
}

impl Qualifiers {
    /// Of most functions nothing is ever published: all these have the same, which names none of them.
    pub(super) fn none() -> Self {
        static NONE: LazyLock<Qualifiers> = LazyLock::new(|| Qualifiers {
            published: Arc::new(Published::none(FunctionId::from_stored(""))),
            cells: Arc::default(),
            aliases: Arc::default(),
        });
        NONE.clone()
    }

    /// The versions that were opened.
    pub(super) fn opened(&self) -> impl Iterator<Item = (u64, &Arc<Target>)> {
        let cells = self.cells.iter();
        cells.filter_map(|(number, cell)| Some((*number, cell.opened()?)))
    }
}

impl Target {
    /// What is published of the function; it has the function's id if that is, or was, anything.
    pub fn published(&self) -> &Arc<Published> {
        &self.qualifiers.published
    }

    /// How asynchronous calls are run that were accepted for this of its versions, through this alias if it was one. The function's
    /// settings are those of its editable version; others have their own or, as on AWS, none.
    pub fn events(&self, version: VersionId, alias: Option<&AliasName>) -> Option<&Asynchronous> {
        match (version, alias) {
            (VersionId::Latest, None) => Some(&self.function.asynchronous),
            _ => self.published().events(version, alias),
        }
    }
}

impl Scheduler {
    /// What a call is for. `called` is an id or a name, with or without a qualifier behind a colon; `qualifier` says the same elsewhere.
    pub fn resolve(&self, called: &str, qualifier: Option<&str>) -> Result<Resolved, Unresolved> {
        let (name, own) = match called.split_once(':') {
            Some((name, own)) => (name, Some(own)),
            None => (called, None),
        };
        let wanted = match (own, qualifier) {
            (Some(own), Some(given)) if own != given => {
                return Err(Unresolved::Differ {
                    name: own.into(),
                    parameter: given.into(),
                });
            }
            (own, given) => own.or(given),
        };
        let find = || {
            self.find(name)
                .ok_or_else(|| Unresolved::NoFunction(name.into()))
        };
        let mut latest = find()?;
        let Some(wanted) = wanted else {
            return Ok(Resolved {
                target: latest,
                alias: None,
                context: Bytes::new(),
            });
        };
        loop {
            if let Some(resolved) = self.qualified(&latest, wanted) {
                return Ok(resolved);
            }
            // Its place may have been closed just now, and opened anew in the next snapshot.
            let again = find()?;
            if Arc::ptr_eq(&again, &latest) {
                return Err(Unresolved::NoQualifier {
                    function: latest.function.name.to_string(),
                    qualifier: wanted.into(),
                });
            }
            latest = again;
        }
    }

    fn qualified(&self, latest: &Arc<Target>, wanted: &str) -> Option<Resolved> {
        if let Some((name, pointer)) = latest.qualifiers.aliases.get_key_value(wanted) {
            return Some(Resolved {
                target: self.version(latest, pointer.choose())?,
                alias: Some(name.clone()),
                context: pointer.context.clone(),
            });
        }
        let version: VersionId = wanted.parse().ok()?;
        let context = match version {
            VersionId::Latest => context(&self.arn(&latest.function, Some(wanted))),
            // Its workers know their own.
            VersionId::Number(_) => Bytes::new(),
        };
        Some(Resolved {
            target: self.version(latest, version)?,
            alias: None,
            context,
        })
    }

    /// A version of the function, ready to be called; `None` if there is none (any more).
    pub fn version(&self, latest: &Arc<Target>, version: VersionId) -> Option<Arc<Target>> {
        let VersionId::Number(number) = version else {
            return Some(latest.clone());
        };
        let Qualifiers {
            published, cells, ..
        } = &latest.qualifiers;
        let version = published.version(number)?;
        let cell = cells.get(&number)?;
        cell.open(|| self.version_target(latest, version, None))
            .cloned()
    }

    /// Makes what is published of a function callable: every call that starts after this returns is resolved by it. Whoever calls this
    /// has the turn on the function.
    pub fn set_published(&self, published: Published) {
        let id = published.head.function.clone();
        let published = Arc::new(published);
        let mut code = Vec::new();
        let replaced = self.table.replace(&id, |old| {
            let old = old?;
            let mut new = Target::clone(old);
            new.qualifiers = self.qualifiers(&new, old, published, true);
            code = new
                .qualifiers
                .opened()
                .flat_map(|(_, version)| version.function.packages().map(str::to_owned))
                .collect();
            Some(Arc::new(new))
        });
        self.pool.prepare(code);
        self.count(&replaced);
        if let Some(old) = replaced.old {
            self.close_versions(&old);
        }
        self.provision_current(&id);
        self.changed();
    }

    /// The qualifiers of `latest`. What stays of the old ones keeps its place, if `keep`; else what was opened is opened anew.
    pub(super) fn qualifiers(
        &self,
        latest: &Target,
        old: &Target,
        published: Arc<Published>,
        keep: bool,
    ) -> Qualifiers {
        let before = &old.qualifiers.cells;
        let mut cells = BTreeMap::new();
        for (number, version) in &published.versions {
            let cell = match before.get(number) {
                Some(cell) if keep => cell.clone(),
                Some(cell) => {
                    let new = Cell::default();
                    if let Some(before) = cell.opened() {
                        new.open(|| self.version_target(latest, version, Some(before)));
                    }
                    Arc::new(new)
                }
                None => Arc::default(),
            };
            cells.insert(*number, cell);
        }
        let aliases = published.head.aliases.iter();
        let aliases = aliases.map(|(name, alias)| {
            let second = alias.second.map(|s| VersionId::Number(s.version));
            for id in [Some(alias.version), second].into_iter().flatten() {
                if let VersionId::Number(number) = id
                    && let Some(cell) = cells.get(&number)
                    && let Some(version) = published.version(number)
                {
                    cell.open(|| self.version_target(latest, version, None));
                }
            }
            let arn = self.arn(&latest.function, Some(name.as_str()));
            let pointer = Pointer::new(&arn, alias, self.options.dice);
            (name.clone(), pointer)
        });
        let aliases: HashMap<_, _> = aliases.collect();
        for number in published.provisioned().keys() {
            if let (Some(cell), Some(version)) = (cells.get(number), published.version(*number)) {
                cell.open(|| self.version_target(latest, version, None));
            }
        }
        Qualifiers {
            aliases: Arc::new(aliases),
            cells: Arc::new(cells),
            published,
        }
    }

    /// Places in the pool that versions have, of all functions: one that was never called has none.
    #[cfg(test)]
    pub fn slots_of_versions(&self) -> usize {
        let targets = self.targets();
        let opened = targets.iter().flat_map(|target| target.qualifiers.opened());
        opened
            .filter(|(_, version)| version.slot.get().is_some_and(Result::is_ok))
            .count()
    }

    fn version_target(
        &self,
        latest: &Target,
        version: &Version,
        before: Option<&Target>,
    ) -> Target {
        let function = version.as_of(&latest.function);
        self.assemble(function, version.id(), latest.shared.clone(), before)
    }

    /// Ends the places of old versions that nobody finds any more.
    pub(super) fn close_versions(&self, old: &Target) {
        let now = self.find(old.function.id.as_str());
        let now = now.as_ref().map(|now| &now.qualifiers.cells);
        for (number, cell) in old.qualifiers.cells.iter() {
            let current = now.and_then(|cells| cells.get(number));
            if current.is_some_and(|current| Arc::ptr_eq(current, cell)) {
                continue;
            }
            let Some(gone) = cell.close() else { continue };
            let same = current
                .and_then(|current| current.opened())
                .is_some_and(|current| Arc::ptr_eq(&current.slot, &gone.slot));
            if !same {
                self.close(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair() {
        for seed in [0, 1, u64::MAX, 0xDEAD_BEEF] {
            let dice = Dice::new(seed);
            let mut counts = [0u32; 10];
            let rolls = 100_000;
            for _ in 0..rolls {
                let rolled = dice.roll();
                assert!((0.0..1.0).contains(&rolled));
                counts[(rolled * 10.0) as usize] += 1;
            }
            // Chi-square with nine degrees of freedom; 44.8 is passed once in a million.
            let expected = f64::from(rolls) / 10.0;
            let chi: f64 = counts
                .iter()
                .map(|count| (f64::from(*count) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 44.8, "seed {seed}: {counts:?}");
        }
    }

    #[test]
    fn a_weight_of_one_is_always_and_of_nothing_is_never() {
        let pointer = |weight| Pointer {
            version: VersionId::Number(1),
            second: Some(Second { version: 2, weight }),
            dice: Dice::new(7),
            context: Bytes::new(),
        };
        let (never, always) = (pointer(0.0), pointer(1.0));
        for _ in 0..10_000 {
            assert_eq!(never.choose(), VersionId::Number(1));
            assert_eq!(always.choose(), VersionId::Number(2));
        }
    }
}
