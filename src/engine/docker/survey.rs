//! What `hearth doctor` asks the engine beyond what serving needs: what it can limit, where it keeps its data, which images it
//! has and whether it sees the files we see. Changes nothing in the engine.

use std::path::{Path, PathBuf};

use crate::engine::Error;
use crate::engine::docker::{Docker, typed};
use crate::engine::spec;

/// What the engine says of the machine it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Where images and containers are, as the engine sees it.
    pub root: PathBuf,
    /// Limits containers can be given, by name; those the kernel lacks are missing.
    pub memory_limit: bool,
    pub cpu_quota: bool,
    pub pids_limit: bool,
    pub swap_limit: bool,
}

impl Docker {
    pub async fn survey(&self) -> Result<Survey, Error> {
        let info = self
            .inner
            .ask("info", async |client| client.info().await)
            .await
            .map_err(|failure| typed("info", failure, None))?;
        let has = |limit: Option<bool>| limit.unwrap_or(false);
        Ok(Survey {
            root: info.docker_root_dir.unwrap_or_default().into(),
            memory_limit: has(info.memory_limit),
            cpu_quota: has(info.cpu_cfs_quota),
            pids_limit: has(info.pids_limit),
            swap_limit: has(info.swap_limit),
        })
    }

    pub async fn has_image(&self, tag: &str) -> Result<bool, Error> {
        self.inner.has_image(tag).await
    }

    /// Whether the engine finds this directory where we do. An engine in another mount namespace or on another machine does
    /// not, and could not hand a worker its socket.
    ///
    /// Asks for a container of an image that does not exist: the mounts are looked at first, so the refusal tells, and there is
    /// nothing to remove afterwards.
    pub async fn sees(&self, directory: &Path) -> Result<bool, Error> {
        let body = spec::probe_body(directory);
        let asked = self.inner.ask("create", async |client| {
            client.create_container(None, body).await
        });
        match asked.await {
            Err(failure) if failure.status() == Some(404) => Ok(true),
            Err(failure) if failure.says("does not exist") => Ok(false),
            Err(failure) => Err(typed("create", failure, None)),
            Ok(made) => {
                // Somebody has an image of that name after all.
                let removed = self.inner.remove(&made.id).await;
                removed.map_err(|failure| typed("remove", failure, None))?;
                Ok(true)
            }
        }
    }
}
