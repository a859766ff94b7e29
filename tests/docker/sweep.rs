//! What a fault may leave behind: nothing. Looks at a server from outside (containers, mounts, sockets, directories, file descriptors)
//! and asks it what it counts itself (tasks, workers), before the fault and after it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::server::Server;
use crate::wait::{LOOK_AGAIN, PATIENCE};

/// File descriptors the server has for each worker: its connection and its log pipe.
const OF_A_WORKER: usize = 2;

/// What a quiet server holds, apart from its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    descriptors: usize,
    /// Tasks by name.
    tasks: BTreeMap<String, usize>,
}

/// A server with nothing under way, and how many workers it has. `None` while something is.
async fn quiet(server: &Server) -> Option<(Holdings, usize)> {
    let metrics = server.metrics().await;
    let workers = |state| metrics.sum("hearth_workers", &[("state", state)]);
    let under_way = [
        metrics.sum("hearth_clearing", &[]),
        metrics.sum("hearth_creation_lanes", &[]),
        metrics.sum("hearth_line_depth", &[]),
        metrics.sum("hearth_concurrency", &[]),
        workers("starting"),
        workers("busy"),
    ];
    if under_way.iter().any(|count| *count != 0.0) {
        return None;
    }
    let alive = (workers("idle") + metrics.sum("hearth_stem_workers", &[])) as usize;
    let mut tasks = BTreeMap::new();
    for (task, count) in metrics.by("hearth_tasks", "task") {
        if count != 0.0 {
            tasks.insert(task, count as usize);
        }
    }
    // One reads each worker's log; one serves the connection of this look.
    if tasks.remove("worker log").unwrap_or_default() != alive {
        return None;
    }
    let descriptors = server
        .descriptors()
        .len()
        .checked_sub(alive * OF_A_WORKER)?;
    Some((Holdings { descriptors, tasks }, alive))
}

impl Holdings {
    /// What there is before the fault.
    pub(crate) async fn of(server: &Server) -> Self {
        let mut last = None;
        let steady = async {
            loop {
                let now = quiet(server).await;
                if let (Some((holdings, _)), true) = (&now, now == last) {
                    return holdings.clone();
                }
                last = now;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, steady)
            .await
            .expect("a server without calls becomes quiet")
    }

    /// What it may have beyond that: connections that it keeps for later.
    pub(crate) fn and(mut self, descriptors: usize) -> Self {
        self.descriptors += descriptors;
        self
    }

    /// Waits until there is nothing more than that.
    pub(crate) async fn are_all_of(&self, server: &Server) {
        let mut seen = String::new();
        let swept = async {
            loop {
                if let Some((now, workers)) = quiet(server).await {
                    let containers = server.state().containers();
                    let directories = server.state().worker_directories();
                    let sockets: Vec<_> = directories
                        .iter()
                        .map(|directory| directory.join("worker.sock"))
                        .filter(|socket| socket.exists())
                        .collect();
                    let mounts = mounts_below(&server.state().path());
                    let clean = now.descriptors <= self.descriptors
                        && now
                            .tasks
                            .iter()
                            .all(|(task, n)| self.tasks.get(task) >= Some(n))
                        && containers.len() == workers
                        && directories.len() == workers
                        && sockets.is_empty()
                        && mounts.is_empty();
                    if clean {
                        return;
                    }
                    let descriptors = server.descriptors();
                    seen = format!(
                        "{workers} workers, {now:?}, {containers:?}, {directories:?}, {sockets:?}, {mounts:?}, {descriptors:?}"
                    );
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let swept = tokio::time::timeout(PATIENCE, swept).await;
        assert!(swept.is_ok(), "left behind: {seen}; before: {self:?}");
    }
}

/// Waits until a server that serves nothing has what its workers need, and nothing more.
pub(crate) async fn swept(server: &Server) {
    Holdings::of(server).await.are_all_of(server).await;
}

/// Mounts on something below a directory, as this process sees them.
pub(crate) fn mounts_below(directory: &Path) -> Vec<String> {
    let below = format!("{}/", directory.display());
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let found = text.lines().filter(|line| line.contains(&below));
    found.map(str::to_owned).collect()
}
