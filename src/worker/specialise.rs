//! Hands a stem worker its function: code, limits, environment. From then on it belongs to that version for life. No
//! engine call: code and layers are linked into its directory and its limits are written to its cgroup; only where Hearth cannot see the
//! cgroup (it runs in a container itself) the engine is asked, at the same time as the worker loads the code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::domain::environment::Variables;
use crate::domain::fault::{Fault, with_sources};
use crate::domain::function::Function;
use crate::domain::id::WorkerId;
use crate::domain::version::VersionId;
use crate::engine::{Engine, Limits, cgroup};
use crate::runtime::package;
use crate::task;
use crate::telemetry::metrics;
use crate::worker::connection::{self, Connection};
use crate::worker::frame::Kind;
use crate::worker::logs::Book;
use crate::worker::message::{self, Init, Ready};
use crate::worker::{Worker, call};

/// However long a worker says that it will need.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// A worker's code and its layers, unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub code: PathBuf,
    /// In the order they are laid over each other.
    pub layers: Vec<PathBuf>,
}

/// Where the code is inside the container.
const TASK_ROOT: &str = "/var/task";

/// Everything a worker needs to become one of this version's.
#[derive(Debug)]
pub struct Blueprint {
    pub function: Arc<Function>,
    pub version: VersionId,
    /// What a call of it without a qualifier of its own was for.
    pub arn: String,
    /// The function's, in the clear.
    pub environment: Variables,
    pub limits: Limits,
    pub logs: Arc<Book>,
    pub init_timeout: Duration,
}

/// Specialises `worker` with what is unpacked. `provisioned`: it is one of those that are kept ready, which its code is told.
/// On a fault the worker is of no more use.
pub async fn specialise(
    engine: &dyn Engine,
    worker: &mut Worker,
    blueprint: &Blueprint,
    provisioned: bool,
    unpacked: Unpacked,
) -> Result<(), Fault> {
    let directory = worker.remains.directory.clone();
    task::blocking("link code", move || link(&unpacked, &directory))
        .await
        .map_err(|error| {
            if error.is_full_disk() {
                metrics::disk_full("code");
            }
            Fault::CodeUnavailable(with_sources(&error))
        })?;
    worker.pipe.belong_to(blueprint.logs.clone());
    let limited = limit(
        engine,
        worker.pid,
        &worker.remains.container,
        blueprint.limits,
    );
    let id = worker.remains.id.clone();
    let until = clock::now() + blueprint.init_timeout;
    let initialised = tokio::time::timeout(
        blueprint.init_timeout,
        init(&mut worker.connection, blueprint, provisioned, &id),
    );
    let (limited, initialised) = tokio::join!(limited, initialised);
    limited.map_err(|error| Fault::StartFailed(format!("its limits cannot be set: {error}")))?;
    match initialised {
        Ok(Ok(last_words)) => {
            worker.remains.last_words = last_words.min(LAST_WORDS_MAX);
            Ok(())
        }
        Ok(Err(Failure::Reported(fault))) => Err(fault),
        Ok(Err(Failure::Connection(error))) => {
            let (container, memory) = (&worker.remains.container, blueprint.limits.memory);
            let fault = call::lost(engine, container, memory, error, until).await;
            Err(Fault::Loading(Box::new(fault)))
        }
        Err(_) => Err(Fault::InitTimeout(blueprint.init_timeout)),
    }
}

/// Into directories that are mounted in the container already. Blocking.
fn link(unpacked: &Unpacked, directory: &Path) -> Result<(), package::Error> {
    let task = directory.join("task");
    // It was there for the loader to look in; from now on it is the code's own, or not there.
    std::fs::remove_dir(task.join("lib")).ok();
    package::link_into(&unpacked.code, &task)?;
    let opt = directory.join("opt");
    let mut layers = unpacked.layers.iter();
    layers.try_for_each(|layer| package::lay_over(layer, &opt))
}

enum Failure {
    Reported(Fault),
    Connection(connection::Error),
}

impl From<connection::Error> for Failure {
    fn from(error: connection::Error) -> Self {
        Failure::Connection(error)
    }
}

async fn init(
    connection: &mut Connection,
    blueprint: &Blueprint,
    provisioned: bool,
    worker: &WorkerId,
) -> Result<Duration, Failure> {
    let function = &blueprint.function;
    let version = blueprint.version.to_string();
    let init = Init {
        function_name: function.name.as_str(),
        function_version: &version,
        handler: &function.handler,
        task_root: TASK_ROOT,
        memory_mb: function.memory.0,
        timeout_ms: u64::from(function.timeout_seconds) * 1000,
        log_group: &function.log_group(),
        log_stream: &format!("{}/[{version}]{worker}", clock::wall().strftime("%Y/%m/%d"),),
        function_arn: &blueprint.arn,
        initialization_type: match provisioned {
            true => "provisioned-concurrency",
            false => "on-demand",
        },
        environment: &blueprint.environment.0,
    };
    let body = serde_json::to_vec(&init).map_err(|source| connection::Error::Message {
        kind: Kind::Init,
        source,
    })?;
    connection.send(Kind::Init, 0, &body).await?;
    let frame = connection.receive().await?;
    match (frame.kind, frame.stream) {
        (Kind::Ready, 0) => {
            let ready: Ready = serde_json::from_slice(&frame.body).map_err(|source| {
                connection::Error::Message {
                    kind: Kind::Ready,
                    source,
                }
            })?;
            match init.differs_from(&ready) {
                None => Ok(Duration::from_millis(ready.shutdown_ms)),
                Some(what) => Err(Failure::Reported(Fault::Protocol(format!(
                    "it applied another {what}"
                )))),
            }
        }
        (Kind::InitError, 0) => Err(Failure::Reported(Fault::Init(message::report(&frame.body)))),
        (got, stream) => Err(connection::Error::Unexpected {
            expected: "READY or INIT_ERROR",
            got,
            stream,
        }
        .into()),
    }
}

async fn limit(
    engine: &dyn Engine,
    pid: Option<i32>,
    container: &crate::engine::ContainerId,
    limits: Limits,
) -> Result<(), crate::engine::Error> {
    if let Some(pid) = pid {
        match cgroup::apply(pid, container, &limits) {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(%error, "cgroup cannot be written, the engine will"),
        }
    }
    engine.limit(container, limits).await
}
