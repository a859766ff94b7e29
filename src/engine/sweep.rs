//! Removes what a dead Hearth of this instance left: its containers, found by label, then its workers' directories. Called once
//! at start, before the first worker of the new life exists: everything it finds is a leftover. And, while it lives, what an
//! engine made after its maker had given up: an engine that hangs or is cut off may still do what it was asked.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream;

use crate::engine::{Engine, Error, Found};
use crate::task;

/// Removals under way at once; the engine does most of each alone.
const PARALLEL: usize = 4;
/// A dead Hearth's last creation may end in the engine while its first is being removed, and a removal may fail once.
const ROUNDS: usize = 3;

/// What the sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    pub containers: usize,
    pub directories: usize,
    /// Containers and directories that are still there; the log says why.
    pub left: usize,
}

/// Removes this instance's containers, then what is in `workers` unless its container could not be removed.
pub async fn sweep(engine: &dyn Engine, workers: &Path) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        let found = engine.owned().await?;
        if found.is_empty() {
            left.clear();
            break;
        }
        let count = found.len();
        left = remove_all(engine, found).await;
        swept.containers += count - left.len();
    }

    // The directory of a container that still runs is in use.
    let in_use: HashSet<String> = left
        .iter()
        .filter_map(|found| Some(found.worker.as_ref()?.as_str().to_owned()))
        .collect();
    let root = workers.to_owned();
    let (directories, stuck) =
        task::blocking("sweep-directories", move || clear(&root, &in_use)).await;
    swept.directories = directories;
    swept.left = left.len() + stuck;
    Ok(swept)
}

/// Removes this instance's workers that have no directory, and says how many: a directory is made before its container is asked
/// for, and removed after it.
pub async fn remove_orphans(engine: &dyn Engine, workers: &Path) -> Result<usize, Error> {
    let mut found = engine.owned().await?;
    let root = workers.to_owned();
    // Looked at after the list: what is made meanwhile is in neither.
    found = task::blocking("find-orphans", move || {
        found.retain(|found| {
            let worker = found.worker.as_ref();
            worker.is_some_and(|worker| !root.join(worker.as_str()).exists())
        });
        found
    })
    .await;
    let count = found.len();
    Ok(count - remove_all(engine, found).await.len())
}

/// Returns those that could not be removed.
async fn remove_all(engine: &dyn Engine, found: Vec<Found>) -> Vec<Found> {
    stream::iter(found)
        .map(|found| async move {
            match engine.remove(&found.id).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(container = %found.id, %error, "cannot remove a leftover container");
                    Some(found)
                }
            }
        })
        .buffer_unordered(PARALLEL)
        .filter_map(|left| async move { left })
        .collect()
        .await
}

/// How many entries of `root` were removed, and how many could not be.
fn clear(root: &Path, in_use: &HashSet<String>) -> (usize, usize) {
    let list = match std::fs::read_dir(root) {
        Ok(list) => list,
        Err(error) => {
            // Before the first worker there is no such directory.
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %root.display(), %error, "cannot list leftover directories");
            }
            return (0, usize::from(error.kind() != ErrorKind::NotFound));
        }
    };
    let paths: Vec<PathBuf> = list
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_none_or(|name| !in_use.contains(name))
        })
        .collect();
    let mut removed = 0;
    for path in &paths {
        let result = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
        match result {
            Ok(()) => removed += 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a leftover directory");
            }
        }
    }
    (removed, paths.len() - removed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use parking_lot::Mutex;

    use super::*;
    use crate::domain::id::WorkerId;
    use crate::engine::{ContainerId, ContainerSpec, Description, Exit, ImageSpec, Limits};

    /// An engine that has containers and removes them; the rest is never asked for.
    #[derive(Debug, Default)]
    struct Leftovers {
        state: Mutex<State>,
    }

    #[derive(Debug, Default)]
    struct State {
        containers: Vec<Found>,
        /// Appear once the first list has been given.
        late: Vec<Found>,
        /// How often each refuses to go.
        stubborn: HashMap<String, usize>,
        under_way: usize,
        most_under_way: usize,
    }

    fn found(name: &str) -> Found {
        Found {
            id: ContainerId(name.into()),
            worker: Some(WorkerId::from_found(name)),
            ended: false,
        }
    }

    impl Engine for Leftovers {
        fn owned(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
            async move {
                let mut state = self.state.lock();
                let list = state.containers.clone();
                let late = std::mem::take(&mut state.late);
                state.containers.extend(late);
                Ok(list)
            }
            .boxed()
        }

        fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), Error>> {
            async move {
                {
                    let mut state = self.state.lock();
                    state.under_way += 1;
                    state.most_under_way = state.most_under_way.max(state.under_way);
                }
                // Lets the others begin before this one ends.
                tokio::task::yield_now().await;
                let mut state = self.state.lock();
                state.under_way -= 1;
                if let Some(times @ 1..) = state.stubborn.get_mut(&*id.0) {
                    *times -= 1;
                    return Err(Error::Refused {
                        operation: "remove",
                        reason: "it is busy".into(),
                    });
                }
                state.containers.retain(|found| found.id != *id);
                Ok(())
            }
            .boxed()
        }

        fn ensure_image<'a>(&'a self, _: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
            unreachable!()
        }
        fn image<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Option<crate::domain::image::Found>, Error>> {
            unreachable!()
        }
        fn start<'a>(&'a self, _: &'a ContainerSpec) -> BoxFuture<'a, Result<ContainerId, Error>> {
            unreachable!()
        }
        fn start_network_holder<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<ContainerId, Error>> {
            unreachable!()
        }
        fn limit<'a>(&'a self, _: &'a ContainerId, _: Limits) -> BoxFuture<'a, Result<(), Error>> {
            unreachable!()
        }
        fn exit<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<Option<Exit>, Error>> {
            unreachable!()
        }
        fn describe(&self) -> BoxFuture<'_, Result<Description, Error>> {
            unreachable!()
        }
    }

    #[tokio::test]
    async fn everything_goes_a_few_at_a_time() {
        let engine = Leftovers::default();
        engine.state.lock().containers = (0..20).map(|n| found(&n.to_string())).collect();
        engine.state.lock().late = vec![found("late")];
        let workers = tempfile::tempdir().unwrap();
        for name in ["0", "1", "of-no-container"] {
            std::fs::create_dir_all(workers.path().join(name).join("task")).unwrap();
        }
        std::fs::write(workers.path().join("file"), "").unwrap();

        let swept = sweep(&engine, workers.path()).await.unwrap();
        assert_eq!(
            swept,
            Swept {
                containers: 21,
                directories: 4,
                left: 0
            }
        );
        assert_eq!(engine.state.lock().most_under_way, PARALLEL);
        assert_eq!(std::fs::read_dir(workers.path()).unwrap().count(), 0);
        assert_eq!(
            sweep(&engine, workers.path()).await.unwrap(),
            Swept::default()
        );
    }

    #[tokio::test]
    async fn what_cannot_be_removed_keeps_its_directory_and_is_counted() {
        let engine = Leftovers::default();
        engine.state.lock().containers = vec![found("once"), found("never")];
        engine.state.lock().stubborn = HashMap::from([("once".into(), 1), ("never".into(), 99)]);
        let workers = tempfile::tempdir().unwrap();
        for name in ["once", "never"] {
            std::fs::create_dir(workers.path().join(name)).unwrap();
        }
        let swept = sweep(&engine, workers.path()).await.unwrap();
        assert_eq!(
            swept,
            Swept {
                containers: 1,
                directories: 1,
                left: 1
            }
        );
        assert!(workers.path().join("never").exists());
    }

    #[tokio::test]
    async fn orphans_are_those_without_a_directory() {
        let engine = Leftovers::default();
        let holder = Found {
            id: ContainerId("holder".into()),
            worker: None,
            ended: false,
        };
        engine.state.lock().containers =
            vec![found("alive"), found("orphan"), found("stuck"), holder];
        engine.state.lock().stubborn = HashMap::from([("stuck".into(), 1)]);
        let workers = tempfile::tempdir().unwrap();
        std::fs::create_dir(workers.path().join("alive")).unwrap();
        for (removed, left) in [(1, 3), (1, 2), (0, 2)] {
            let count = remove_orphans(&engine, workers.path()).await.unwrap();
            assert_eq!(count, removed);
            assert_eq!(engine.state.lock().containers.len(), left);
        }
        assert!(workers.path().join("alive").exists());
    }

    #[tokio::test]
    async fn no_directory_is_no_leftover() {
        let nowhere = tempfile::tempdir().unwrap().path().join("workers");
        let swept = sweep(&Leftovers::default(), &nowhere).await.unwrap();
        assert_eq!(swept, Swept::default());
    }
}
