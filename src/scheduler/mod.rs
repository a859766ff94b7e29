//! Decides, for every call, whether it may run, on which worker, and whether a new one is worth starting.

use std::sync::Arc;

use crate::domain::fault::Fault;
use crate::domain::function::Function;
use crate::domain::id::{FunctionId, FunctionName, RequestId, VersionDigest};
use crate::domain::invocation::{Invocation, Phases, StartKind, StartReason};
use crate::router::table::{Entry, Table};
use crate::worker::call::Answer;
use crate::worker::logs::Book;

/// A function as it can be called now: its settings and everything the warm path needs of it, found with one lookup.
#[derive(Debug)]
pub struct Target {
    pub function: Arc<Function>,
    pub digest: VersionDigest,
    /// Shared by all revisions of the function.
    pub logs: Arc<Book>,
}

impl Entry for Target {
    fn id(&self) -> &FunctionId {
        &self.function.id
    }

    fn name(&self) -> &FunctionName {
        &self.function.name
    }
}

/// What became of a call.
#[derive(Debug)]
pub struct Called {
    pub request_id: RequestId,
    pub phases: Phases,
    /// How its worker came to be and why; `None` when it got none.
    pub start: Option<(StartKind, StartReason)>,
    pub result: Result<Answer, Fault>,
    /// The end of what the function printed; only with a fault.
    pub log_tail: String,
}

#[derive(Debug, Default)]
pub struct Scheduler {
    table: Table<Target>,
}

impl Scheduler {
    pub fn find(&self, id_or_name: &str) -> Option<Arc<Target>> {
        self.table.find(id_or_name)
    }

    /// Every function, in the order of creation.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.table.all()
    }

    /// Makes a function, or its new revision, callable: every call that starts after this returns runs it. Calls under way
    /// finish on the old one.
    pub fn publish(&self, function: Function) {
        let id = function.id.clone();
        self.table.replace(&id, |old| {
            let logs = old.map_or_else(|| Book::new(1 << 20), |o| o.logs.clone());
            Some(Arc::new(Target {
                digest: function.digest(),
                function: Arc::new(function),
                logs,
            }))
        });
    }

    /// Forgets a function.
    pub fn withdraw(&self, id: &FunctionId) {
        self.table.replace(id, |_| None);
    }

    pub async fn invoke(self: &Arc<Self>, _target: &Arc<Target>, invocation: Invocation) -> Called {
        Called {
            request_id: invocation.request_id,
            phases: Phases::default(),
            start: None,
            result: Err(Fault::Draining),
            log_tail: String::new(),
        }
    }
}
