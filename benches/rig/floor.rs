//! The limit rows that are servers: a bare one that answers a constant, and the least that can stand between HTTP and a shim. Each is
//! a process of its own, as Hearth is, with tokio's usual threads or as many as `TOKIO_WORKER_THREADS` says; it is this program again, started
//! with hidden arguments, and ends when its standard input does.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hearth::clock;
use hearth::domain::id::RequestId;
use hearth::load::origin::Origin;
use hearth::runtime::manifest::{self, Manifest};
use hearth::task;
use hearth::worker::connection::Connection;
use hearth::worker::frame::Kind;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{self, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::container::Yard;
use crate::instance::root;
use crate::shim::{Shim, TIMEOUT};

/// As Hearth has it: what is measured is not the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PATIENCE: Duration = Duration::from_secs(120);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a child is to be.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Role {
    /// Answers every request with the same few bytes.
    Constant,
    /// Hands every request to a shim and its answer back.
    Proxy {
        runtime: String,
        folder: PathBuf,
        workers: usize,
        /// Whose containers the shims are in; without it they are plain processes.
        #[arg(long)]
        instance: Option<String>,
    },
}

/// A child, as the bench sees it.
#[derive(Debug)]
pub(crate) struct Floor {
    child: Child,
    pub(crate) origin: Origin,
}

impl Floor {
    pub(crate) async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("piped")?;
        let mut line = String::new();
        let read = BufReader::new(output);
        let read = tokio::time::timeout(PATIENCE, async {
            read.take(200).read_line(&mut line).await
        });
        read.await
            .with_context(|| format!("{arguments:?} says nothing"))??;
        let origin = Origin::parse(line.trim())?;
        Ok(Self { child, origin })
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("a limit row has ended")
    }

    /// Lets it end by itself, which is when it clears away what it made.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

/// The child's own life.
pub(crate) async fn live(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Constant => serve(Answerer::Constant).await,
        Role::Proxy {
            runtime,
            folder,
            workers,
            instance,
        } => {
            let manifests = manifest::read_all(&root().join("runtimes"))?;
            let manifest = manifests.iter().find(|m| m.answers_to(&runtime));
            let manifest = manifest.context("no such runtime")?;
            match instance {
                None => bare(manifest, folder, workers).await,
                Some(instance) => contained(manifest, folder, workers, &instance).await,
            }
        }
    }
}

/// Whom a request goes to.
#[derive(Debug)]
enum Answerer {
    Constant,
    Proxy(Arc<Proxy>),
}

impl Answerer {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Answer> {
        let payload = request.into_body().collect().await?.to_bytes();
        match self {
            Answerer::Constant => {
                let constant = Bytes::from_static(br#"{"message": "Hello, bench!"}"#);
                Ok(Either::Left(constant.into()))
            }
            Answerer::Proxy(proxy) => proxy.clone().call(&payload).await,
        }
    }
}

/// Whole, or as it comes.
type Answer =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, anyhow::Result<body::Frame<Bytes>>>>>;

/// Shims that are free, each with its last stream's number.
#[derive(Debug)]
struct Proxy {
    free: Mutex<Vec<(Connection, u32)>>,
    count: Semaphore,
}

impl Proxy {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            count: Semaphore::new(0),
        })
    }

    fn free(&self, connection: Connection, stream: u32) {
        self.free.lock().push((connection, stream));
        self.count.add_permits(1);
    }

    async fn call(self: Arc<Self>, payload: &[u8]) -> anyhow::Result<Answer> {
        self.count.acquire().await?.forget();
        let free = self.free.lock().pop();
        let (mut connection, stream) = free.context("a permit is a free shim")?;
        let stream = stream + 1;
        let deadline = clock::unix_millis() + TIMEOUT.as_millis() as u64;
        let id = RequestId::generate();
        connection
            .send_invoke(stream, deadline, id, b"", payload, false)
            .await?;
        let first = connection.receive().await?;
        match first.kind {
            Kind::ResponseEnd => {
                self.free(connection, stream);
                Ok(Either::Left(first.body.into()))
            }
            Kind::ResponseHead => {
                let pieces = stream::unfold(Some(connection), move |connection| {
                    self.clone().piece(connection, stream)
                });
                Ok(Either::Right(StreamBody::new(pieces.boxed())))
            }
            other => bail!("{other:?} is no answer"),
        }
    }

    /// The next piece of an answer; with the last one the shim is free.
    async fn piece(
        self: Arc<Self>,
        connection: Option<Connection>,
        stream: u32,
    ) -> Option<(anyhow::Result<body::Frame<Bytes>>, Option<Connection>)> {
        let mut connection = connection?;
        match connection.receive().await {
            Ok(frame) if frame.kind == Kind::ResponseEnd => {
                self.free(connection, stream);
                Some((Ok(body::Frame::data(frame.body)), None))
            }
            Ok(frame) => Some((Ok(body::Frame::data(frame.body)), Some(connection))),
            Err(error) => Some((Err(error.into()), None)),
        }
    }
}

async fn bare(manifest: &Manifest, folder: PathBuf, workers: usize) -> anyhow::Result<()> {
    let proxy = Proxy::new();
    let mut processes = Vec::new();
    for _ in 0..workers {
        let shim = Shim::start(manifest, &folder).await?;
        let (process, connection) = shim.into_connection()?;
        processes.push(process);
        proxy.free(connection, 0);
    }
    serve(Answerer::Proxy(proxy)).await
}

async fn contained(
    manifest: &Manifest,
    folder: PathBuf,
    workers: usize,
    instance: &str,
) -> anyhow::Result<()> {
    let yard = Yard::open(instance)?;
    let proxy = Proxy::new();
    for _ in 0..workers {
        let mut worker = yard.boot(manifest).await?;
        yard.specialise(&mut worker, manifest, &folder).await?;
        // Its log pipe is read by the task that booted it, as a worker's always is.
        proxy.free(worker.connection, 0);
    }
    let served = serve(Answerer::Proxy(proxy)).await;
    yard.clear().await?;
    served
}

/// Says where it listens, and serves until standard input ends.
async fn serve(answerer: Answerer) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut output = std::io::stdout();
    writeln!(output, "http://{}", listener.local_addr()?)?;
    output.flush()?;
    let answerer = Arc::new(answerer);
    let ended = CancellationToken::new();
    let stop = ended.clone();
    // Not joined: it ends with the process, of which it is the end.
    task::thread("standard input", move || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        stop.cancel();
    })?;
    loop {
        tokio::select! {
            accepted = listener.accept() => connection(accepted?.0, answerer.clone())?,
            () = ended.cancelled() => return Ok(()),
        }
    }
}

fn connection(stream: TcpStream, answerer: Arc<Answerer>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let service = service_fn(move |request| {
        let answerer = answerer.clone();
        async move {
            let (status, body) = match answerer.answer(request).await {
                Ok(body) => (StatusCode::OK, body),
                Err(error) => {
                    let text = Bytes::from(format!("{error:#}"));
                    (StatusCode::BAD_GATEWAY, Either::Left(text.into()))
                }
            };
            let mut response = Response::new(body);
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    task::spawn(task::Kind::Local, "floor connection", async move {
        // The peer is the load generator; what goes wrong shows there.
        connection.await.ok();
    });
    Ok(())
}
