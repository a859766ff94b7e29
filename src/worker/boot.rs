//! From nothing to a stem worker: a directory, a listening socket, a log pipe, a container, its HELLO, and one real round
//! trip through its shim. When any of it fails, nothing is left behind but what is handed back to be cleared away.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;

use crate::clock;
use crate::clock::patience::Patience;
use crate::domain::id::{RuntimeId, WorkerId};
use crate::domain::limits::Mebibytes;
use crate::engine::{self, ContainerId, ContainerSpec, Engine, Limits, OwnImage, kill};
use crate::task;
use crate::worker::connection::{self, Connection};
use crate::worker::frame::Kind;
use crate::worker::gone::{End, Gone};
use crate::worker::logs::Pipe;
use crate::worker::message::{self, Hello};
use crate::worker::{Remains, Worker};

/// What is asked of a new container.
#[derive(Debug, Clone)]
pub struct Order {
    pub runtime: RuntimeId,
    pub image: String,
    /// In a function's own image.
    pub own: Option<Own>,
    pub limits: Limits,
    pub network_of: Option<ContainerId>,
    /// Folder all worker directories are in.
    pub workers_dir: PathBuf,
    pub boot_timeout: Duration,
    pub line_bytes: usize,
}

/// What starts in a function's own image.
#[derive(Debug, Clone)]
pub struct Own {
    /// The program on the host that is the entry point.
    pub shim: PathBuf,
    pub image: OwnImage,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("image {uri} ({id}) is not on this server any more")]
    ImageGone { uri: String, id: String },
    #[error("{path:?} cannot be put into the worker's directory: {source}")]
    Shim { path: PathBuf, source: io::Error },
    #[error("the worker's directory cannot be made: {0}")]
    Directory(#[source] io::Error),
    #[error("{0}")]
    Engine(#[from] engine::Error),
    #[error("the container did not say hello within {after:?}; it printed: {tail:?}")]
    Silent { after: Duration, tail: String },
    #[error("the container ended before it said hello; it printed: {tail:?}")]
    Ended { tail: String },
    #[error("the shim broke the protocol: {0}")]
    Protocol(#[from] connection::Error),
    #[error("the shim speaks {protocol:?} for runtime {runtime:?}, which was not asked for")]
    Foreign { protocol: String, runtime: String },
    #[error("the shim did not return the ping it was sent")]
    Ping,
}

/// A boot that failed, and the container that was started for it: it still runs and holds its memory until it is removed.
#[derive(Debug, thiserror::Error)]
#[error("the container did not become a worker")]
pub struct Failed {
    #[source]
    pub error: Error,
    pub left: Option<Remains>,
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            left: None,
        }
    }
}

/// Boots a stem worker. `on_gone` is told when the container's processes end, whenever that is.
pub async fn boot(
    engine: &dyn Engine,
    order: &Order,
    on_gone: impl FnOnce(WorkerId) + Send + 'static,
) -> Result<Worker, Failed> {
    let id = WorkerId::generate();
    let directory = order.workers_dir.join(id.as_str());
    let mut cleared = Directory(Some(directory.clone()));
    let (listener, pipe) = prepare(&directory, &id, order.line_bytes).map_err(Error::Directory)?;
    if let Some(own) = &order.own {
        place(&own.shim, &directory.join("shim")).map_err(|source| Error::Shim {
            path: own.shim.clone(),
            source,
        })?;
    }

    let spec = ContainerSpec {
        worker: id.clone(),
        image: order.image.clone(),
        own: order.own.as_ref().map(|own| own.image.clone()),
        directory: directory.clone(),
        task: directory.join("task"),
        limits: order.limits,
        network_of: order.network_of.clone(),
        labels: BTreeMap::from([(
            "hearth.runtime".to_owned(),
            order.runtime.as_str().to_owned(),
        )]),
    };
    let container = engine.start(&spec).await?;
    // From here on the directory goes with the container.
    cleared.0 = None;
    let mut remains = Remains {
        id: id.clone(),
        first_process: None,
        container,
        directory: directory.clone(),
        memory: order.limits.memory,
        last_words: Duration::ZERO,
    };
    let connection = match greet(&listener, &pipe, order).await {
        Ok(connection) => connection,
        Err(error) => {
            return Err(Failed {
                error,
                left: Some(remains),
            });
        }
    };

    // Nobody else can connect any more: what runs in the container has the one connection there will ever be.
    drop(listener);
    if let Err(error) = std::fs::remove_file(directory.join("worker.sock")) {
        tracing::debug!(worker = %id, %error, "socket cannot be unlinked");
    }
    let gone = Arc::new(Gone::default());
    let (watched, flag, watched_id) = (pipe.clone(), gone.clone(), id.clone());
    task::spawn(task::Kind::Local, "worker log", async move {
        if let Err(error) = watched.watch().await {
            tracing::warn!(worker = %watched_id, %error, "log pipe failed");
        }
        flag.say(End::Log);
        on_gone(watched_id);
    });
    let pid = connection.peer_pid();
    remains.first_process = pid.and_then(|pid| kill::first_process(pid, &remains.container));
    Ok(Worker {
        remains,
        runtime: order.runtime.clone(),
        pid,
        connection,
        pipe,
        patience: Patience::default(),
        stream: 0,
        opened: None,
        idle_since: clock::now(),
        gone,
    })
}

/// The directory with everything the container needs to find in it.
fn prepare(
    directory: &Path,
    id: &WorkerId,
    line_bytes: usize,
) -> io::Result<(UnixListener, Arc<Pipe>)> {
    let (task, opt) = (directory.join("task"), directory.join("opt"));
    // The loader of a running process never looks again in a directory that was not there when it looked first.
    std::fs::create_dir_all(task.join("lib"))?;
    std::fs::create_dir_all(opt.join("lib"))?;
    // The parent is closed to everybody but Hearth; the container sees only this, mounted read-only, as another user.
    for path in [
        directory.to_owned(),
        task.clone(),
        task.join("lib"),
        opt.clone(),
        opt.join("lib"),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
    }
    // Bound through the open directory: a socket's address holds 107 bytes, and a state directory may lie deep.
    let open = std::fs::File::open(directory)?;
    let socket = PathBuf::from(format!("/proc/self/fd/{}/worker.sock", open.as_raw_fd()));
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))?;
    let pipe = Pipe::create(&directory.join("log"), id.clone(), line_bytes)?;
    Ok((listener, pipe))
}

/// A link, so that all who run it share its memory; a copy where there cannot be one.
fn place(program: &Path, target: &Path) -> io::Result<()> {
    std::fs::hard_link(program, target).or_else(|_| std::fs::copy(program, target).map(drop))
}

/// HELLO, then a ping there and back.
async fn greet(listener: &UnixListener, pipe: &Pipe, order: &Order) -> Result<Connection, Error> {
    let conversation = async {
        let (stream, _) = listener.accept().await.map_err(connection::Error::Io)?;
        let mut connection = Connection::new(stream).map_err(connection::Error::Io)?;
        let body = connection.expect(Kind::Hello, 0, "HELLO").await?;
        let hello: Hello =
            serde_json::from_slice(&body).map_err(|source| connection::Error::Message {
                kind: Kind::Hello,
                source,
            })?;
        if hello.protocol != message::PROTOCOL || hello.runtime != order.runtime.as_str() {
            return Err(Error::Foreign {
                protocol: hello.protocol,
                runtime: hello.runtime,
            });
        }
        connection.send(Kind::Ping, 0, b"alive?").await?;
        match &connection.expect(Kind::Pong, 0, "PONG").await?[..] {
            b"alive?" => Ok(connection),
            _ => Err(Error::Ping),
        }
    };
    tokio::select! {
        biased;
        result = tokio::time::timeout(order.boot_timeout, conversation) => {
            result.unwrap_or_else(|_| Err(Error::Silent { after: order.boot_timeout, tail: pipe.tail() }))
        }
        // The last writer of the log pipe is gone, so the container is.
        _ = pipe.watch() => Err(Error::Ended { tail: pipe.tail() }),
    }
}

/// Removes a worker's directory unless it was handed on.
#[derive(Debug)]
struct Directory(Option<PathBuf>);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::debug!(path = %path.display(), %error, "worker directory cannot be removed");
        }
    }
}

/// What a stem worker of a runtime may use, before it has a function's limits. Its memory is the runtime's own; it may
/// use a whole core, because nobody waits for a stem worker longer than for one that starts slowly.
pub fn stem_limits(memory: Mebibytes) -> Limits {
    Limits {
        memory,
        cpu_cores: 1.0,
        cpu_shares: 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_directory_may_lie_deep() {
        let root = tempfile::tempdir().expect("temp dir");
        let deep = root.path().join("d".repeat(120)).join("worker");
        let (listener, _pipe) = prepare(&deep, &WorkerId::generate(), 1024).expect("prepared");
        let short = root.path().join("link");
        std::os::unix::fs::symlink(&deep, &short).expect("a shorter way there");
        let connecting = tokio::net::UnixStream::connect(short.join("worker.sock"));
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        assert!(accepted.is_ok() && connected.is_ok());
    }
}
