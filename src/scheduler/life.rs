//! What a function's calls leave behind: its log, its starts and its latest calls. Made when the first of them is looked for or has something
//! to leave: of many functions most are seldom called, and this is most of what one would take in memory. All versions and revisions of a
//! function have one. Warm path: one atomic load.

use std::sync::{Arc, OnceLock};

use crate::pool::ledger::Ledger;
use crate::scheduler::exchanges::{Exchanges, Shelf};
use crate::scheduler::record::Record;
use crate::worker::logs::Book;

#[derive(Debug)]
pub struct Life {
    log_keep_bytes: usize,
    exchanges: Arc<Exchanges>,
    lived: OnceLock<Box<Lived>>,
}

#[derive(Debug)]
pub struct Lived {
    pub logs: Arc<Book>,
    /// Which workers it had started, and why.
    pub starts: Arc<Ledger>,
    /// What became of its latest calls.
    pub record: Record,
    /// What they were given and what they answered.
    pub shelf: Shelf,
}

impl Life {
    pub fn new(log_keep_bytes: usize, exchanges: Arc<Exchanges>) -> Arc<Self> {
        Arc::new(Self {
            log_keep_bytes,
            exchanges,
            lived: OnceLock::new(),
        })
    }

    pub fn lived(&self) -> &Lived {
        self.lived.get_or_init(|| {
            Box::new(Lived {
                logs: Book::new(self.log_keep_bytes),
                starts: Arc::default(),
                record: Record::default(),
                shelf: Shelf::new(self.exchanges.clone()),
            })
        })
    }

    /// The same, unless it would be empty.
    pub fn so_far(&self) -> Option<&Lived> {
        self.lived.get().map(Box::as_ref)
    }
}
