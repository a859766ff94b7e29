//! Which workers a function had started for its calls, and why: every start that was not warm, with what it took. One for all
//! revisions of a function, bounded; written by its slots, read by the API.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::domain::id::WorkerId;
use crate::domain::invocation::StartKind;
use crate::domain::start::Cause;

/// Starts that are remembered of each function.
const KEPT: usize = 200;

/// One start.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Grows by one with every start of the function.
    pub sequence: u64,
    /// When it was ready, or had failed.
    pub at: Timestamp,
    pub cause: Cause,
    pub kind: StartKind,
    /// Why no stem worker served it.
    pub not_stem: Option<NotStem>,
    /// Of the version it is of.
    pub digest: String,
    /// `None` if it failed.
    pub worker: Option<WorkerId>,
    /// The code of the fault, if it failed.
    pub fault: Option<&'static str>,
    /// From when it was decided on to when it began: for a lane, or for memory.
    pub queue: Duration,
    /// Its container.
    pub start: Duration,
    /// Its code.
    pub init: Duration,
}

/// Why a container had to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStem {
    PoolEmpty,
    /// Functions with a network of their own cannot use the workers of all.
    OwnNetwork,
}

impl NotStem {
    pub const fn as_str(self) -> &'static str {
        match self {
            NotStem::PoolEmpty => "stem_pool_empty",
            NotStem::OwnNetwork => "own_network",
        }
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    /// Oldest first.
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// The entry's sequence is given here.
    pub fn record(&self, entry: Entry) {
        let mut kept = self.kept.lock();
        let sequence = kept.next;
        kept.next += 1;
        if kept.entries.len() >= KEPT {
            kept.entries.pop_front();
        }
        kept.entries.push_back(Entry { sequence, ..entry });
    }

    /// Whether the function has ever had a worker.
    pub fn any(&self) -> bool {
        self.kept.lock().next > 0
    }

    /// The newest first, at most `limit`, from before the one with this sequence; and whether there are more.
    pub fn page(&self, before: Option<u64>, limit: usize) -> (Vec<Entry>, bool) {
        let kept = self.kept.lock();
        let mut wanted = kept
            .entries
            .iter()
            .rev()
            .filter(|entry| before.is_none_or(|before| entry.sequence < before));
        let page = wanted.by_ref().take(limit).cloned().collect();
        (page, wanted.next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            sequence: 0,
            at: crate::clock::wall(),
            cause: Cause::FirstCall,
            kind: StartKind::Stem,
            not_stem: None,
            digest: "d".into(),
            worker: None,
            fault: None,
            queue: Duration::ZERO,
            start: Duration::ZERO,
            init: Duration::ZERO,
        }
    }

    #[test]
    fn pages_go_back_in_time_and_memory_is_bounded() {
        let ledger = Ledger::default();
        assert!(!ledger.any());
        assert!(ledger.page(None, 10).0.is_empty());
        for _ in 0..KEPT + 5 {
            ledger.record(entry());
        }
        let of = |before, limit| {
            let (page, more) = ledger.page(before, limit);
            (page.iter().map(|e| e.sequence).collect::<Vec<_>>(), more)
        };
        let newest = KEPT as u64 + 4;
        assert_eq!(of(None, 2), (vec![newest, newest - 1], true));
        assert_eq!(of(Some(newest - 1), 1), (vec![newest - 2], true));
        assert_eq!(of(Some(7), 10), (vec![6, 5], false));
        assert_eq!(of(None, usize::MAX).0.len(), KEPT);
        assert!(ledger.any());
    }
}
