//! A runtime's shim without a container, and the worker protocol spoken to it with nothing in between: what a language can do at
//! best.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use hearth::clock;
use hearth::domain::id::RequestId;
use hearth::runtime::manifest::Manifest;
use hearth::worker::connection::Connection;
use hearth::worker::frame::{self, Kind};
use hearth::worker::message;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);
/// What every limit row's invocation has as its deadline.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A shim that has a function.
#[derive(Debug)]
pub(crate) struct Shim {
    stream: std::os::unix::net::UnixStream,
    input: BytesMut,
    output: BytesMut,
    stream_id: u32,
    /// From starting the process to its HELLO.
    pub(crate) booted_in: Duration,
    /// From INIT to READY.
    pub(crate) initialised_in: Duration,
    /// Killed when this is dropped.
    child: Child,
    _directory: tempfile::TempDir,
}

impl Shim {
    /// Starts the shim and gives it the function in `folder`.
    pub(crate) async fn start(manifest: &Manifest, folder: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hearth-shim.").tempdir()?;
        let socket = directory.path().join("worker.sock");
        let listener = UnixListener::bind(&socket)?;
        let begun = clock::now();
        let (program, arguments) = manifest.bare_command.split_first().context("checked")?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&manifest.folder)
            .env("HEARTH_SOCKET", &socket)
            .env("LAMBDA_TASK_ROOT", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
            .await
            .with_context(|| format!("{program} does not connect"))??;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut shim = Self {
            stream,
            input: BytesMut::with_capacity(8 * 1024),
            output: BytesMut::with_capacity(8 * 1024),
            stream_id: 0,
            booted_in: Duration::ZERO,
            initialised_in: Duration::ZERO,
            child,
            _directory: directory,
        };
        shim.expect(Kind::Hello)?;
        shim.booted_in = since(begun);
        shim.initialise(manifest, folder)?;
        Ok(shim)
    }

    fn initialise(&mut self, manifest: &Manifest, folder: &Path) -> anyhow::Result<()> {
        let begun = clock::now();
        let init = serde_json::to_vec(&message::Init {
            function_name: "bench",
            function_version: "$LATEST",
            handler: &manifest.default_handler,
            task_root: folder.to_str().context("a path that is no text")?,
            memory_mb: 128,
            timeout_ms: 30_000,
            log_group: "/bench",
            log_stream: "bench",
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:bench",
            initialization_type: "on-demand",
            environment: &BTreeMap::new(),
        })?;
        self.output.clear();
        self.output
            .put_slice(&frame::header(Kind::Init, 0, 0, init.len()));
        self.output.put_slice(&init);
        self.stream.write_all(&self.output)?;
        self.expect(Kind::Ready)?;
        self.initialised_in = since(begun);
        Ok(())
    }

    /// One invocation, in one write and as few reads as the kernel allows.
    pub(crate) fn invoke(&mut self, payload: &[u8]) -> anyhow::Result<Bytes> {
        self.stream_id += 1;
        let length = message::invoke_head_len(0) + payload.len();
        let deadline = clock::unix_millis() + TIMEOUT.as_millis() as u64;
        self.output.clear();
        self.output
            .put_slice(&frame::header(Kind::Invoke, 0, self.stream_id, length));
        message::invoke_head(&mut self.output, deadline, RequestId::generate(), b"");
        self.output.put_slice(payload);
        self.stream.write_all(&self.output)?;
        self.expect(Kind::ResponseEnd)
    }

    fn expect(&mut self, kind: Kind) -> anyhow::Result<Bytes> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input)? {
                let said = String::from_utf8_lossy(&frame.body).into_owned();
                ensure!(
                    frame.kind == kind,
                    "expected {kind:?}, got {:?}: {said}",
                    frame.kind
                );
                return Ok(frame.body);
            }
            let mut chunk = [0; 8 * 1024];
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "the shim has ended");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }

    /// The process, and its socket as Hearth uses one.
    pub(crate) fn into_connection(self) -> anyhow::Result<(Child, Connection)> {
        self.stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(self.stream)?;
        Ok((self.child, Connection::new(stream)?))
    }
}

fn since(begun: Instant) -> Duration {
    clock::now().saturating_duration_since(begun)
}
