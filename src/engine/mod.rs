//! What creates and removes containers. One small trait; everything above it speaks of container specs and exits, never of
//! Docker. Every call has a deadline inside the implementation: no caller hangs because an engine does.

pub mod cgroup;
pub mod context;
pub mod docker;
pub mod kill;
pub mod spec;
pub mod sweep;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::id::WorkerId;
use crate::domain::image;
use crate::domain::limits::Mebibytes;

/// The engine's own id of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(pub Arc<str>);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub memory: Mebibytes,
    /// Hard ceiling, in cores.
    pub cpu_cores: f64,
    /// Weight against other containers when the machine is full; 1024 is one core's worth.
    pub cpu_shares: u32,
}

/// A worker's container, before it exists. Every hardening that is the same for all is not here but in `engine::spec`.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    pub worker: WorkerId,
    /// Image tag, as `ensure_image` was given; or the id of a function's own image.
    pub image: String,
    /// How a function's own image is started.
    pub own: Option<OwnImage>,
    /// The worker's directory on the host: appears read-only as `/hearth`.
    pub directory: PathBuf,
    /// The code's directory on the host: appears read-only as `/var/task`, but in a function's own image, which has its code there.
    pub task: PathBuf,
    pub limits: Limits,
    /// Container whose network this one joins; `None` is no network at all.
    pub network_of: Option<ContainerId>,
    /// Extra labels, for people who look at the engine.
    pub labels: BTreeMap<String, String>,
}

/// A container whose image knows nothing of us: the shim in the worker's directory is its entry point, and starts the image's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnImage {
    pub start: Vec<String>,
    /// Unset, it is the image's.
    pub working_dir: Option<String>,
    /// Directories that the image declares as volumes: empty and writable like `/tmp`, and as large.
    pub volumes: Vec<String>,
}

/// A runtime's image.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// Name and tag; the tag is the digest of the folder, so a changed folder is another image.
    pub tag: String,
    /// The folder with the Dockerfile.
    pub context: PathBuf,
    pub base_image: String,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    pub out_of_memory: bool,
}

/// A container of this instance, found by its labels.
#[derive(Debug, Clone)]
pub struct Found {
    pub id: ContainerId,
    pub worker: Option<WorkerId>,
    /// Nothing runs in it any more.
    pub ended: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the engine did not answer {operation} within {after:?}")]
    Timeout {
        operation: &'static str,
        after: Duration,
    },
    #[error("the engine cannot be reached for {operation}: {reason}")]
    Unreachable {
        operation: &'static str,
        reason: String,
    },
    #[error("the engine refused {operation}: {reason}")]
    Refused {
        operation: &'static str,
        reason: String,
    },
    /// The container is no longer there: it was removed, by whoever.
    #[error("the engine knows no container {id} ({operation})")]
    Gone {
        operation: &'static str,
        id: ContainerId,
    },
    #[error("image {image} cannot be built: {reason}")]
    Build { image: String, reason: String },
}

impl Error {
    /// The label errors are counted under.
    pub const fn label(&self) -> &'static str {
        match self {
            Error::Timeout { .. } => "timeout",
            Error::Unreachable { .. } => "unreachable",
            Error::Refused { .. } | Error::Gone { .. } | Error::Build { .. } => "refused",
        }
    }
}

/// What the engine says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub api_version: String,
    pub cgroup_version: String,
    pub memory: u64,
    pub cpus: u32,
}

/// The seam between scheduling and containers. Boxed futures, because nothing on the warm path comes here.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Makes sure the image is there, building it if it is not.
    fn ensure_image<'a>(&'a self, image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>>;
    /// The image of this name or id, if there is one.
    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<image::Found>, Error>>;
    /// Creates and starts a worker's container. On error nothing is left behind, or it will be found by `owned`.
    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<ContainerId, Error>>;
    /// Starts a container that does nothing but hold a network other containers join.
    fn start_network_holder<'a>(
        &'a self,
        image: &'a str,
    ) -> BoxFuture<'a, Result<ContainerId, Error>>;
    /// Changes the limits of a running container.
    fn limit<'a>(&'a self, id: &'a ContainerId, limits: Limits)
    -> BoxFuture<'a, Result<(), Error>>;
    /// How the container ended, or `None` while it runs.
    fn exit<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Option<Exit>, Error>>;
    /// Kills and removes the container; one that is gone already is success.
    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), Error>>;
    /// Every container of this instance, running or not.
    fn owned(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>>;
    /// Version and machine; answered by the parts of the engine that hang when it is wedged, so it is a health check too.
    fn describe(&self) -> BoxFuture<'_, Result<Description, Error>>;
}
