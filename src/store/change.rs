//! What a store tells of changes by other processes, and how whoever follows it takes them in: many at a time, and everything anew when
//! some were lost. Knows nothing of how a store learns of them.

use std::collections::{BTreeMap, HashMap};

use futures_util::FutureExt;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::domain::id::FunctionId;

/// Changes a slow follower may be behind; then it is told to look at everything.
const BACKLOG: usize = 256;
/// Functions that are looked at one by one; for more it is cheaper to list all.
const SINGLES: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was written and has this revision now, or it was deleted.
    Function {
        id: FunctionId,
        revision: Option<u64>,
    },
    /// Something was published of a function, or an alias changed; what is published of it has this revision now.
    Versions {
        id: FunctionId,
        revision: u64,
    },
    Keys,
    /// Of event source mappings.
    Mappings,
    /// Nobody knows what; it may be everything.
    Anything,
}

/// Where a store tells changes. A cheap handle.
#[derive(Debug, Clone)]
pub struct Teller(broadcast::Sender<Change>);

impl Default for Teller {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Teller {
    pub fn tell(&self, change: Change) {
        // Nobody may be listening, and that is no fault.
        self.0.send(change).ok();
    }

    pub fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

/// Changes since this was asked for.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Change>);

impl Changes {
    /// Waits for the next; `None` when the store is gone.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Anything),
            Err(RecvError::Closed) => None,
        }
    }

    /// Waits for the next and adds all that are there by then. `false` when the store is gone.
    pub async fn gather(&mut self, news: &mut News) -> bool {
        let Some(first) = self.next().await else {
            return false;
        };
        news.add(first);
        // As many as fit in the backlog, so that this ends however fast others write.
        for _ in 0..BACKLOG {
            match self.next().now_or_never() {
                Some(Some(change)) => news.add(change),
                _ => break,
            }
        }
        true
    }
}

/// Several changes: of each function only the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    pub everything: bool,
    pub keys: bool,
    /// In the order they were told, because a name is given up by one before another takes it.
    pub functions: Vec<(FunctionId, Option<u64>)>,
    places: HashMap<FunctionId, usize>,
    /// Of these something else is published.
    pub versions: BTreeMap<FunctionId, u64>,
}

impl News {
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    pub fn add(&mut self, change: Change) {
        match change {
            Change::Anything => self.everything = true,
            Change::Keys => self.keys = true,
            // Nothing that is callable depends on them.
            Change::Mappings => {}
            Change::Function { .. } | Change::Versions { .. } if self.everything => {}
            Change::Versions { id, revision } => {
                self.versions.insert(id, revision);
                self.everything = self.versions.len() > SINGLES;
            }
            Change::Function { id, revision } => {
                let place = *self
                    .places
                    .entry(id.clone())
                    .or_insert(self.functions.len());
                match self.functions.get_mut(place) {
                    Some(known) => known.1 = revision,
                    None => self.functions.push((id, revision)),
                }
                self.everything = self.functions.len() > SINGLES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(id: &str, revision: impl Into<Option<u64>>) -> Change {
        Change::Function {
            id: FunctionId::from_stored(id),
            revision: revision.into(),
        }
    }

    #[tokio::test]
    async fn what_is_told_is_gathered_and_the_last_of_each_counts() {
        let teller = Teller::default();
        teller.tell(Change::Keys);
        let mut changes = teller.changes();
        for change in [function("a", 1), function("b", 7), function("a", None)] {
            teller.tell(change);
        }
        let mut news = News::default();
        assert!(changes.gather(&mut news).await);
        assert!(!news.keys && !news.everything, "told before: {news:?}");
        let found: Vec<_> = news
            .functions
            .iter()
            .map(|(id, revision)| (id.as_str(), *revision))
            .collect();
        assert_eq!(found, [("a", None), ("b", Some(7))]);
        teller.tell(Change::Keys);
        assert!(changes.gather(&mut news).await);
        assert!(news.keys);
        drop(teller);
        assert!(!changes.gather(&mut news).await);
    }

    #[test]
    fn of_each_function_the_last_change_of_its_versions_counts() {
        let versions = |id: &str, revision| Change::Versions {
            id: FunctionId::from_stored(id),
            revision,
        };
        let mut news = News::default();
        for change in [versions("a", 1), function("a", 7), versions("a", 2)] {
            news.add(change);
        }
        assert_eq!(news.versions, [(FunctionId::from_stored("a"), 2)].into());
        assert_eq!(news.functions.len(), 1);
        for n in 0..SINGLES {
            assert!(!news.everything);
            news.add(versions(&n.to_string(), 1));
        }
        assert!(news.everything);
    }

    #[tokio::test]
    async fn many_changes_are_everything_and_so_are_lost_ones() {
        let mut news = News::default();
        for n in 0..=SINGLES {
            assert!(!news.everything);
            news.add(function(&n.to_string(), 1));
        }
        assert!(news.everything);

        let teller = Teller::default();
        let mut changes = teller.changes();
        for _ in 0..2 * BACKLOG {
            teller.tell(Change::Keys);
        }
        assert_eq!(changes.next().await, Some(Change::Anything));
    }
}
