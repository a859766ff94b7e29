//! A running container as something callable.

pub mod boot;
pub mod call;
pub mod connection;
pub mod frame;
pub mod gone;
pub mod logs;
pub mod message;
pub mod specialise;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::patience::Patience;
use crate::domain::id::{RuntimeId, WorkerId};
use crate::domain::limits::Mebibytes;
use crate::engine::ContainerId;
use crate::engine::cgroup::Cgroup;
use crate::engine::kill::{Lookout, Standstill};
use crate::worker::call::Opened;
use crate::worker::connection::Connection;
use crate::worker::gone::{End, Gone};
use crate::worker::logs::Pipe;

/// What the end of a worker is counted as that has no network any more.
pub const NETWORK_ENDED: &str = "network_ended";

/// A worker, owned by whoever may use it now: a stem pool, a slot's idle list, or the call it serves. That is why no worker
/// can serve two calls.
#[derive(Debug)]
pub struct Worker {
    pub remains: Remains,
    pub runtime: RuntimeId,
    pub connection: Connection,
    pub pipe: Arc<Pipe>,
    /// Its main process in the host's numbering, if the kernel told.
    pub pid: Option<i32>,
    /// For the deadlines of its calls.
    pub patience: Patience,
    /// The id of the last invocation's stream.
    pub stream: u32,
    /// What it was sent of an invocation whose call has not looked at it yet.
    pub opened: Option<Opened>,
    pub idle_since: Instant,
    /// Said by the task that watches the log pipe, or by who finds that its network has ended.
    pub gone: Arc<Gone>,
}

/// What is left of a worker when it is no longer callable, and has to be cleared away.
#[derive(Debug, Clone)]
pub struct Remains {
    pub id: WorkerId,
    pub container: ContainerId,
    /// The container's first process in the host's numbering, where Hearth sees the host's processes.
    pub first_process: Option<i32>,
    pub directory: PathBuf,
    /// What it counts for in the host's memory budget.
    pub memory: Mebibytes,
    /// How long it may take to end by itself once its connection is closed and it was not in a call.
    pub last_words: Duration,
}

impl Remains {
    /// The most memory that its processes took at a time, where the kernel tells. Blocking, for a moment.
    pub fn memory_peak(&self) -> Option<Mebibytes> {
        let group = Cgroup::of(self.first_process?, &self.container);
        let bytes = group.and_then(|group| group.memory_peak());
        match bytes {
            Ok(bytes) => u32::try_from(bytes.div_ceil(1 << 20)).ok().map(Mebibytes),
            Err(error) => {
                tracing::debug!(worker = %self.id, %error, "it is not known how much memory it took");
                None
            }
        }
    }

    /// Whether somebody made its processes stand still.
    pub fn standstill(&self) -> Option<Standstill> {
        self.standstill_by(&Lookout::new()?)
    }

    /// The same, for who looks at many.
    pub fn standstill_by(&self, lookout: &Lookout) -> Option<Standstill> {
        lookout.standstill(self.first_process?, &self.container)
    }
}

impl Worker {
    pub fn is_gone(&self) -> bool {
        self.gone.is_so()
    }

    /// As what its end is counted: `unless_known`, if nobody knows better.
    pub fn ended_by(&self, unless_known: &'static str) -> &'static str {
        match self.gone.why() {
            Some(End::Network) => NETWORK_ENDED,
            Some(End::Stopped) => Standstill::Stopped.as_str(),
            Some(End::Frozen) => Standstill::Frozen.as_str(),
            Some(End::Log) | None => unless_known,
        }
    }
}
