//! A Hearth of the bench's own: the built program, with a state directory of its own and a port of its own, stopped and cleared away
//! at the end. Shares nothing with another instance on the machine but the engine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hearth::clock;
use hearth::load::connection::{Answer, Connection};
use hearth::load::origin::{Call, Origin};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::container;

/// The first start builds an image per runtime.
const READY: Duration = Duration::from_secs(15 * 60);
/// Calls under way, then the containers.
const STOP: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Instance {
    child: Child,
    state: tempfile::TempDir,
    origin: Origin,
    key: String,
}

/// The program that was built with the benches.
pub(crate) fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hearth"))
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Instance {
    /// Starts `program` with `config/bench.toml` and these settings on top, and waits until it is ready.
    pub(crate) async fn start(program: &Path, settings: &[String]) -> anyhow::Result<Self> {
        Self::start_with(program, &root().join("runtimes"), settings).await
    }

    /// The same with the runtimes in another folder.
    pub(crate) async fn start_with(
        program: &Path,
        runtimes: &Path,
        settings: &[String],
    ) -> anyhow::Result<Self> {
        let state = tempfile::Builder::new().prefix("hearth-bench.").tempdir()?;
        let log = std::fs::File::create(state.path().join("log"))?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(root().join("config/bench.toml"))
            .arg("--runtimes")
            .arg(runtimes)
            .arg("--state-dir")
            .arg(state.path())
            .args(
                settings
                    .iter()
                    .flat_map(|setting| ["--set", setting.as_str()]),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn().context("hearth cannot be started")?;
        let started = tokio::time::timeout(READY, ready(&mut child, state.path())).await;
        match started.context("hearth did not become ready").flatten() {
            Ok((origin, key)) => Ok(Self {
                child,
                state,
                origin,
                key,
            }),
            Err(error) => {
                let log = std::fs::read_to_string(state.path().join("log")).unwrap_or_default();
                stop(&mut child).await?;
                sweep(state.path()).await?;
                Err(error.context(format!("its log:\n{log}")))
            }
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("hearth has ended")
    }

    /// Deploys a folder in the way a person does.
    pub(crate) async fn deploy(
        &self,
        folder: &Path,
        name: &str,
        runtime: &str,
    ) -> anyhow::Result<()> {
        self.cli(&[
            "deploy",
            path(folder)?,
            "--name",
            name,
            "--runtime",
            runtime,
        ])
        .await
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.cli(&["delete", name, "--yes"]).await
    }

    async fn cli(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(built())
            .args(arguments)
            .args(["--url", &format!("http://{}", self.origin.address())])
            .args(["--key", &self.key])
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "hearth {arguments:?}: {said}");
        Ok(())
    }

    /// A call of a function, to be sent as often as one likes.
    pub(crate) fn call(&self, function: &str) -> anyhow::Result<Call> {
        self.call_with(function, r#"{"name":"bench"}"#)
    }

    /// The same with another payload.
    pub(crate) fn call_with(
        &self,
        function: &str,
        payload: impl Into<Bytes>,
    ) -> anyhow::Result<Call> {
        self.post(&format!("/functions/{function}/execute"), payload)
    }

    /// A request of the control API, or a call.
    pub(crate) fn post(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Call> {
        Ok(Call::post(path, body)?
            .header("authorization", &format!("Bearer {}", self.key))?
            .header("content-type", "application/json")?)
    }

    /// A call as it is on the wire.
    pub(crate) fn request(&self, function: &str, payload: &str) -> String {
        let path = format!("/functions/{function}/execute");
        plain(
            &path,
            &[format!("authorization: Bearer {}", self.key)],
            payload,
        )
    }

    /// The sum of a metric's series that carry `label`; 0 when there is none yet.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let call = Call::get("/metrics")?;
        let call = call.header("authorization", &format!("Bearer {}", self.key))?;
        let answer = get(self.origin, &call).await?;
        ensure!(answer.status == 200, "/metrics answered {}", answer.status);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    /// Waits until a metric has a value that is good.
    pub(crate) async fn until(
        &self,
        name: &str,
        label: &str,
        good: impl Fn(f64) -> bool,
    ) -> anyhow::Result<()> {
        self.within(PATIENCE, name, label, good).await
    }

    /// The same with more patience, or less.
    pub(crate) async fn within(
        &self,
        patience: Duration,
        name: &str,
        label: &str,
        good: impl Fn(f64) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = clock::now() + patience;
        loop {
            let value = self.metric(name, label).await?;
            if good(value) {
                return Ok(());
            }
            ensure!(
                clock::now() < deadline,
                "{name}{{{label}}} stays at {value}"
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Stops it, and makes sure that nothing of it is left.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        stop(&mut self.child).await?;
        sweep(self.state.path()).await
    }
}

/// A request as it is on the wire.
pub(crate) fn plain(path: &str, headers: &[String], body: &str) -> String {
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Waits until it answers; where, and by which key.
async fn ready(child: &mut Child, state: &Path) -> anyhow::Result<(Origin, String)> {
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("hearth ended with {status}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let Ok(text) = std::fs::read_to_string(state.join("instance.json")) else {
            continue;
        };
        let instance: serde_json::Value = serde_json::from_str(&text)?;
        let origin = Origin::parse(instance["url"].as_str().unwrap_or_default())?;
        if get(origin, &Call::get("/readyz")?).await?.status == 200 {
            let key = std::fs::read_to_string(state.join("admin.key"))?;
            return Ok((origin, key.trim().to_owned()));
        }
    }
}

async fn get(origin: Origin, call: &Call) -> anyhow::Result<Answer> {
    let answer = Connection::new(origin, PATIENCE)?.call(call).await;
    answer.map_err(|failure| anyhow::anyhow!("hearth does not answer: {}", failure.as_str()))
}

async fn stop(child: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id() {
        kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    }
    if tokio::time::timeout(STOP, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Removes what a Hearth that could not end in peace has left in the engine.
async fn sweep(state: &Path) -> anyhow::Result<()> {
    let Ok(instance) = std::fs::read_to_string(state.join("instance")) else {
        return Ok(());
    };
    let engine = container::engine(instance.trim(), state)?;
    container::clear(&engine).await
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no text")
}

/// The folder of a runtime's first function.
pub(crate) fn template(runtime: &str) -> PathBuf {
    root().join("runtimes").join(runtime).join("template")
}

/// Runs `work` unless somebody wants it to end; then what it made can still be cleared away.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => bail!("terminated"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}
