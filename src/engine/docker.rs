//! Docker as the engine, through bollard over a Unix socket. Owns the bounds on calls to the daemon: how long each may take,
//! how many there are at once, and what becomes of a container whose caller has gone.
//!
//! Nothing is kept between calls but these bounds: each call connects anew, so a daemon may come, go and be restarted.
//! A container's start runs in a task of its own and hands its result over as a guard that removes the container when
//! dropped: a caller that gave up, for whatever reason, leaves nothing behind, and what even that misses (a daemon that
//! dies half way) carries the instance's label, by which the sweep finds it.
//!
//! Called by the pool's keeper and at start and stop; knows nothing of functions.

mod build;
mod network;
pub mod survey;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum, ImageInspect,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions,
};
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::clock;
use crate::config;
use crate::domain::fault::with_sources;
use crate::domain::id::WorkerId;
use crate::domain::image;
use crate::engine::docker::build::Build;
use crate::engine::spec;
use crate::engine::{
    ContainerId, ContainerSpec, Description, Engine, Error, Exit, Found, ImageSpec, Limits,
};
use crate::task;
use crate::telemetry::metrics;

/// Calls under way at once, beside starts and builds. The daemon does most of its work one at a time.
const CALLS: usize = 8;
/// Builds under way at once.
const BUILDS: usize = 2;
/// Starts whose caller has given up are waited for this many deadlines longer, to remove what they made.
const LATE_DEADLINES: u32 = 10;
/// The hosts file of every container without a network. Its loopback has no `::1`: a name that led there first would have
/// programs report a strange error in the place of the one that matters.
const HOSTS: &str = "127.0.0.1 localhost\n";

#[derive(Debug, Clone)]
pub struct Options {
    /// Owner of the containers: the same after a restart, another one for every other Hearth that uses this engine.
    pub instance: String,
    pub engine: config::Engine,
    pub worker: config::Worker,
    /// Where the hosts file is kept; must be a path that the engine's host sees as well.
    pub directory: PathBuf,
}

/// The Docker engine. A cheap handle.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker")
            .field("socket", &self.inner.options.engine.socket)
            .field("instance", &self.inner.options.instance)
            .finish_non_exhaustive()
    }
}

struct Inner {
    options: Options,
    hosts: PathBuf,
    /// Whether containers here have a swappiness of their own (cgroup v1).
    swappiness: bool,
    starts: Semaphore,
    calls: Semaphore,
    building: Semaphore,
    /// Builds under way by tag; callers that want the same image wait for the same build. Written by `ensure_image`, cleared
    /// by the build itself when it ends, so that a failure is not remembered.
    builds: Mutex<HashMap<String, Build>>,
}

/// Why a call has no answer, before it is known what was asked about.
#[derive(Debug)]
enum Failure {
    Timeout(Duration),
    Bollard(BollardError),
}

impl Docker {
    /// Needs no running engine: the first call connects, and so does every other.
    pub fn new(options: Options) -> std::io::Result<Self> {
        std::fs::create_dir_all(&options.directory)?;
        let hosts = options.directory.join("hosts");
        write_hosts(&hosts)?;
        let inner = Inner {
            // One on cgroup v2 alone; a hybrid has it elsewhere.
            swappiness: !Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            hosts,
            starts: Semaphore::new(options.engine.lanes.max(1)),
            calls: Semaphore::new(CALLS),
            building: Semaphore::new(BUILDS),
            builds: Mutex::new(HashMap::new()),
            options,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    async fn run(&self, name: String, body: ContainerCreateBody) -> Result<ContainerId, Error> {
        let within = self.inner.options.engine.call_timeout;
        let (answer, started) = oneshot::channel();
        let docker = self.clone();
        task::spawn(task::Kind::Local, "container-start", async move {
            docker.create_and_start(name, body, answer).await;
        });
        match tokio::time::timeout(within, started).await {
            Ok(Ok(result)) => result.map(Guard::release),
            Ok(Err(_)) => Err(Error::Refused {
                operation: "start",
                reason: "the task that starts the container ended early".to_owned(),
            }),
            Err(_) => Err(Error::Timeout {
                operation: "start",
                after: within,
            }),
        }
    }

    /// Runs to its end whether or not anybody still waits, because the daemon does so too: only who sees the end of a
    /// creation can remove what came of it.
    async fn create_and_start(
        self,
        name: String,
        body: ContainerCreateBody,
        mut answer: oneshot::Sender<Result<Guard, Error>>,
    ) {
        let inner = &self.inner;
        let late = inner.options.engine.call_timeout * LATE_DEADLINES;
        let permit = tokio::select! {
            permit = inner.starts.acquire() => permit.expect("the semaphore is never closed"),
            // Nothing has been asked of the daemon yet.
            () = answer.closed() => return,
        };

        let client = match inner.client("create") {
            Ok(client) => client,
            Err(failure) => {
                let _nobody_waits = answer.send(Err(typed("create", failure, None)));
                return;
            }
        };
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        let guard = Guard::new(&self, &name);
        let created = call("create", late, client.create_container(Some(options), body)).await;
        let id = match created {
            Ok(response) => response.id,
            Err(failure) => {
                if failure.is_answer() {
                    guard.release();
                } else {
                    // Whether there is a container now is not known.
                    guard.remove().await;
                }
                let _nobody_waits = answer.send(Err(typed("create", failure, None)));
                return;
            }
        };
        let guard = guard.renamed(&id);
        if answer.is_closed() {
            guard.remove().await;
            return;
        }

        let start = client.start_container(&id, None::<StartContainerOptions>);
        match call("start", late, start).await {
            Ok(()) => {
                drop(permit);
                // Refused by a caller that has just gone: the guard comes back, and its end removes the container.
                let _guard_comes_back = answer.send(Ok(guard));
            }
            Err(failure) => {
                guard.remove().await;
                let _nobody_waits = answer.send(Err(typed("start", failure, None)));
            }
        }
    }
}

impl Inner {
    fn frame(&self) -> spec::Frame<'_> {
        spec::Frame {
            instance: &self.options.instance,
            worker: &self.options.worker,
            hosts: &self.hosts,
            swappiness: self.swappiness,
        }
    }

    fn client(&self, operation: &'static str) -> Result<bollard::Docker, Failure> {
        // bollard's own limit is in whole seconds and covers only a part of each call; ours end every call before it.
        let never = self.options.engine.build_timeout
            + self.options.engine.call_timeout * (LATE_DEADLINES + 1);
        let socket = self.options.engine.socket.to_string_lossy();
        bollard::Docker::connect_with_unix(
            &socket,
            never.as_secs() + 1,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| {
            // No socket: there is no engine to time.
            let failure = Failure::Bollard(error);
            metrics::engine_error(operation, failure.label());
            failure
        })
    }

    /// One call whose work is of no use to anybody once its caller is gone.
    async fn ask<T, F>(
        &self,
        operation: &'static str,
        ask: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, BollardError>>,
    {
        let within = self.options.engine.call_timeout;
        let work = async {
            let _permit = self.calls.acquire().await;
            let client = self.client(operation)?;
            call(operation, within, ask(client)).await
        };
        // Once more around it all: a call that never got its turn is late as well.
        match tokio::time::timeout(within, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout(within)),
        }
    }

    async fn has_image(&self, tag: &str) -> Result<bool, Error> {
        Ok(self.inspect_image(tag).await?.is_some())
    }

    async fn inspect_image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        let inspected = self.ask("inspect_image", async |client| {
            client.inspect_image(name).await
        });
        match inspected.await {
            Ok(image) => Ok(Some(image)),
            Err(failure) if failure.status() == Some(404) => Ok(None),
            Err(failure) => Err(typed("inspect_image", failure, None)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptions {
            force: true,
            // Volumes an image declares, which nobody else can reach.
            v: true,
            ..RemoveContainerOptions::default()
        };
        let removed = self.ask("remove", async |client| {
            client.remove_container(name, Some(options)).await
        });
        match removed.await {
            Ok(()) => Ok(()),
            Err(failure) if failure.status() == Some(404) => Ok(()),
            // Somebody else's removal of it is under way.
            Err(failure)
                if failure.status() == Some(409) && failure.says("already in progress") =>
            {
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

impl Engine for Docker {
    fn ensure_image<'a>(&'a self, image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if self.inner.has_image(&image.tag).await? {
                return Ok(());
            }
            let build = {
                let mut builds = self.inner.builds.lock();
                builds
                    .entry(image.tag.clone())
                    .or_insert_with(|| self.spawn_build(image.clone()))
                    .clone()
            };
            build.await
        }
        .boxed()
    }

    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<image::Found>, Error>> {
        async move {
            let found = self.inner.inspect_image(name).await?;
            let known = found.map(|image| {
                let unknown = || not_understood("inspect_image", "the image has no id");
                spec::found_image(image).ok_or_else(unknown)
            });
            known.transpose()
        }
        .boxed()
    }

    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<ContainerId, Error>> {
        let body = spec::worker_body(&self.inner.frame(), spec);
        self.run(spec::container_name(&spec.worker), body).boxed()
    }

    fn start_network_holder<'a>(
        &'a self,
        image: &'a str,
    ) -> BoxFuture<'a, Result<ContainerId, Error>> {
        let body = spec::holder_body(&self.inner.frame(), image);
        // A holder is no worker, but is named the same way: unique for ever.
        let name = format!("hearth-network-{}", WorkerId::generate());
        async move {
            self.inner.ensure_network().await?;
            self.run(name, body).await
        }
        .boxed()
    }

    fn limit<'a>(
        &'a self,
        id: &'a ContainerId,
        limits: Limits,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.inner
                .ask("update", async |client| {
                    client
                        .update_container(&id.0, spec::update_body(&limits))
                        .await
                })
                .await
                .map_err(|failure| typed("update", failure, Some(id)))
        }
        .boxed()
    }

    fn exit<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Option<Exit>, Error>> {
        async move {
            let container = self
                .inner
                .ask("inspect", async |client| {
                    client
                        .inspect_container(&id.0, None::<InspectContainerOptions>)
                        .await
                })
                .await
                .map_err(|failure| typed("inspect", failure, Some(id)))?;
            let Some(state) = container.state else {
                return Err(not_understood("inspect", "the container has no state"));
            };
            let ended = match state.status {
                Some(
                    ContainerStateStatusEnum::EXITED
                    | ContainerStateStatusEnum::DEAD
                    | ContainerStateStatusEnum::REMOVING,
                ) => true,
                Some(_) => false,
                None => state.running == Some(false),
            };
            Ok(ended.then(|| Exit {
                code: state.exit_code.unwrap_or(-1),
                out_of_memory: state.oom_killed.unwrap_or(false),
            }))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.inner
                .remove(&id.0)
                .await
                .map_err(|failure| typed("remove", failure, Some(id)))
        }
        .boxed()
    }

    fn owned(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        async move {
            let label = format!("{}={}", spec::LABEL_INSTANCE, self.inner.options.instance);
            let options = ListContainersOptions {
                all: true,
                filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
                ..ListContainersOptions::default()
            };
            let list = self
                .inner
                .ask("list", async |client| {
                    client.list_containers(Some(options)).await
                })
                .await
                .map_err(|failure| typed("list", failure, None))?;
            let found = list.into_iter().filter_map(|container| {
                let labels = container.labels.unwrap_or_default();
                // Asked for, but an engine that ignored the filter would have us remove what is not ours.
                let ours = labels.get(spec::LABEL_INSTANCE) == Some(&self.inner.options.instance);
                let id = container.id.filter(|_| ours)?;
                Some(Found {
                    id: ContainerId(id.into()),
                    worker: labels
                        .get(spec::LABEL_WORKER)
                        .map(|worker| WorkerId::from_found(worker)),
                    ended: matches!(
                        container.state,
                        Some(
                            ContainerSummaryStateEnum::EXITED
                                | ContainerSummaryStateEnum::DEAD
                                | ContainerSummaryStateEnum::REMOVING
                        )
                    ),
                })
            });
            Ok(found.collect())
        }
        .boxed()
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, Error>> {
        async move {
            let info = self
                .inner
                .ask("info", async |client| client.info().await)
                .await
                .map_err(|failure| typed("info", failure, None))?;
            let version = self
                .inner
                .ask("version", async |client| client.version().await)
                .await
                .map_err(|failure| typed("version", failure, None))?;
            let platform = version.platform.map(|p| p.name).unwrap_or_default();
            // Nobody else at this socket says so, whatever else it answers.
            let said = version.version.or(info.server_version);
            let number = said.filter(|number| !number.is_empty());
            Ok(Description {
                name: if platform.is_empty() {
                    "Docker".to_owned()
                } else {
                    platform
                },
                version: number.ok_or_else(|| not_understood("version", "it has no version"))?,
                api_version: version.api_version.unwrap_or_default(),
                // Engines older than cgroup v2 do not say.
                cgroup_version: info
                    .cgroup_version
                    .map(|v| v.to_string())
                    .filter(|v| !v.is_empty())
                    .unwrap_or_else(|| "1".to_owned()),
                memory: info
                    .mem_total
                    .and_then(|m| u64::try_from(m).ok())
                    .unwrap_or(0),
                cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            })
        }
        .boxed()
    }
}

/// A container nobody has taken over yet. Dropped, it is removed.
struct Guard {
    docker: Docker,
    /// Name or id; empty when there is nothing to do.
    name: String,
}

impl Guard {
    fn new(docker: &Docker, name: &str) -> Self {
        Self {
            docker: docker.clone(),
            name: name.to_owned(),
        }
    }

    fn renamed(mut self, id: &str) -> Self {
        id.clone_into(&mut self.name);
        self
    }

    /// The container is the caller's now.
    fn release(mut self) -> ContainerId {
        ContainerId(std::mem::take(&mut self.name).into())
    }

    async fn remove(mut self) {
        let name = std::mem::take(&mut self.name);
        remove_orphan(&self.docker, &name).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the next start sweeps.
        if self.name.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let docker = self.docker.clone();
        let name = std::mem::take(&mut self.name);
        task::spawn(task::Kind::Local, "container-orphan", async move {
            remove_orphan(&docker, &name).await;
        });
    }
}

async fn remove_orphan(docker: &Docker, name: &str) {
    if let Err(failure) = docker.inner.remove(name).await {
        let error = typed("remove", failure, None);
        tracing::warn!(container = name, %error, "container left behind until the next sweep");
    }
}

/// One call under its own deadline, timed and counted.
async fn call<T>(
    operation: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, BollardError>>,
) -> Result<T, Failure> {
    let started = clock::now();
    let result = match tokio::time::timeout(within, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Bollard(error)),
        Err(_) => Err(Failure::Timeout(within)),
    };
    record(
        operation,
        started,
        result.as_ref().err().map(Failure::label),
    );
    result
}

fn record(operation: &'static str, started: std::time::Instant, error: Option<&'static str>) {
    metrics::engine_call(
        operation,
        (clock::now() - started).as_secs_f64(),
        error.is_none(),
    );
    if let Some(reason) = error {
        metrics::engine_error(operation, reason);
    }
}

impl Failure {
    fn status(&self) -> Option<u16> {
        match self {
            Failure::Bollard(BollardError::DockerResponseServerError { status_code, .. }) => {
                Some(*status_code)
            }
            _ => None,
        }
    }

    fn says(&self, text: &str) -> bool {
        matches!(
            self,
            Failure::Bollard(BollardError::DockerResponseServerError { message, .. })
                if message.to_lowercase().contains(text)
        )
    }

    /// Whether the engine itself said no, so that what it did is known.
    fn is_answer(&self) -> bool {
        self.status().is_some()
    }

    fn label(&self) -> &'static str {
        match self {
            Failure::Timeout(_) | Failure::Bollard(BollardError::RequestTimeoutError) => "timeout",
            Failure::Bollard(BollardError::DockerResponseServerError { .. }) => "refused",
            Failure::Bollard(_) => "unreachable",
        }
    }
}

/// The engine's failure in this module's terms. With a container, "not found" means that it is gone.
fn typed(operation: &'static str, failure: Failure, container: Option<&ContainerId>) -> Error {
    match (failure, container) {
        (Failure::Timeout(after), _) => Error::Timeout { operation, after },
        (
            Failure::Bollard(BollardError::DockerResponseServerError {
                status_code: 404, ..
            }),
            Some(id),
        ) => Error::Gone {
            operation,
            id: id.clone(),
        },
        (
            Failure::Bollard(BollardError::DockerResponseServerError {
                status_code,
                message,
            }),
            _,
        ) => Error::Refused {
            operation,
            reason: format!("{} (status {status_code})", message.trim()),
        },
        (Failure::Bollard(error), _) => Error::Unreachable {
            operation,
            reason: with_sources(&error),
        },
    }
}

fn not_understood(operation: &'static str, what: &str) -> Error {
    Error::Unreachable {
        operation,
        reason: format!("its answer cannot be understood: {what}"),
    }
}

/// Written beside and renamed: a container being started must never see half of it.
fn write_hosts(path: &Path) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|have| have == HOSTS.as_bytes()) {
        return Ok(());
    }
    let beside = path.with_extension("new");
    std::fs::write(&beside, HOSTS)?;
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::rename(&beside, path)
}
