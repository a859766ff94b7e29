//! A worker under test: the runtime's shim as a bare process or in its image, seen from Hearth's side of the socket. Dropping it
//! leaves nothing behind, whatever state it is in.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use hearth::runtime::manifest::Manifest;
use hearth::worker::frame::{self, Frame, Kind};

use crate::image::{self, Holder};
use crate::log::Log;

/// For everything that happens at once on an idle machine; this one may be anything but idle.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one look for the next bytes takes at most, so that the log is drained meanwhile.
const LOOK: Duration = Duration::from_millis(5);

static CONTAINERS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Bare,
    Image(&'a Holder),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Bare => "over a bare socket",
            Place::Image(_) => "in its image",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(i32),
    Signal(i32),
}

pub(crate) struct Worker {
    stream: UnixStream,
    input: BytesMut,
    /// What one read fills; kept, because it is large.
    buffer: Vec<u8>,
    pub log: Log,
    process: Process,
    /// Of the last INVOKE.
    pub last_stream: u32,
    pub task_root: String,
    /// Holds socket, log and code; removed last.
    _folder: tempfile::TempDir,
}

/// What came from the worker, if anything did.
#[derive(Debug)]
pub(crate) enum Arrival {
    Frame(Frame),
    Closed,
    NothingYet,
}

impl Worker {
    /// Starts it, with the code of one of the runtime's own folders and perhaps another for what layers have, and reads its HELLO.
    pub(crate) fn start(
        manifest: &Manifest,
        place: Place<'_>,
        code: &str,
        layers: Option<&str>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hearth-contract-")
            .tempdir()?;
        let (hearth, task) = (folder.path().join("hearth"), folder.path().join("task"));
        std::fs::create_dir(&hearth)?;
        copy_readable(&manifest.folder.join(code), &task)?;
        if let Some(layers) = layers {
            copy_readable(&manifest.folder.join(layers), &hearth.join("opt"))?;
        }
        // Whatever the umask is: in the container another user works.
        for path in [folder.path(), &hearth] {
            std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        let listener = UnixListener::bind(hearth.join("worker.sock"))?;
        std::fs::set_permissions(hearth.join("worker.sock"), Permissions::from_mode(0o666))?;
        nix::unistd::mkfifo(
            &hearth.join("log"),
            nix::sys::stat::Mode::from_bits_truncate(0o666),
        )?;
        std::fs::set_permissions(hearth.join("log"), Permissions::from_mode(0o666))?;
        let mut log = Log::new(open_fifo(&hearth.join("log"))?);

        let (mut process, task_root) = match place {
            Place::Bare => {
                let process = Process::bare(manifest, &hearth, &task)?;
                (process, task.to_string_lossy().into_owned())
            }
            Place::Image(holder) => {
                let process = Process::container(manifest, holder, &hearth, &task)?;
                (process, "/var/task".to_owned())
            }
        };
        let stream = match accept(&listener, &mut process) {
            Ok(stream) => stream,
            Err(error) => {
                log.drain();
                return Err(error.context(format!("its log: {:?}", log.lines())));
            }
        };
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut worker = Self {
            stream,
            input: BytesMut::new(),
            buffer: vec![0; 256 * 1024],
            log,
            process,
            last_stream: 0,
            task_root,
            _folder: folder,
        };
        worker.check_hello(manifest)?;
        Ok(worker)
    }

    fn check_hello(&mut self, manifest: &Manifest) -> Result<()> {
        let hello = self.expect(Kind::Hello)?;
        let said: serde_json::Value = serde_json::from_slice(&hello.body)?;
        ensure!(said["protocol"] == "hearth-worker/1", "HELLO says {said}");
        ensure!(said["runtime"] == manifest.id.as_str(), "HELLO says {said}");
        ensure!(
            said["language"].is_string() && said["pid"].is_u64(),
            "HELLO says {said}"
        );
        Ok(())
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .context("writing to the worker")
    }

    pub(crate) fn send(&mut self, kind: Kind, stream: u32, body: &[u8]) -> Result<()> {
        let header = frame::header(kind, 0, stream, body.len());
        self.send_bytes(&[&header, body].concat())
    }

    /// Waits a moment for the next frame, and takes over what was printed meanwhile.
    pub(crate) fn look(&mut self) -> Result<Arrival> {
        self.log.drain();
        if let Some(frame) = frame::decode(&mut self.input).context("what came is not a frame")? {
            return Ok(Arrival::Frame(frame));
        }
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(Arrival::Closed),
            Ok(count) => {
                self.input.extend_from_slice(&self.buffer[..count]);
                Ok(frame::decode(&mut self.input)
                    .context("what came is not a frame")?
                    .map_or(Arrival::NothingYet, Arrival::Frame))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(Arrival::NothingYet)
            }
            // It ended without reading all that was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Arrival::Closed),
            Err(error) => Err(error).context("reading from the worker"),
        }
    }

    pub(crate) fn receive(&mut self) -> Result<Frame> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look()? {
                Arrival::Frame(frame) => return Ok(frame),
                Arrival::Closed => bail!("the worker closed the connection"),
                Arrival::NothingYet => {
                    ensure!(Instant::now() < deadline, "nothing came in {PATIENCE:?}")
                }
            }
        }
    }

    pub(crate) fn expect(&mut self, kind: Kind) -> Result<Frame> {
        let frame = self.receive()?;
        let said = String::from_utf8_lossy(&frame.body[..frame.body.len().min(300)]);
        ensure!(
            frame.kind == kind,
            "expected {kind:?}, got {:?}: {said}",
            frame.kind
        );
        ensure!(
            frame.stream == 0,
            "{kind:?} belongs to stream 0, not {}",
            frame.stream
        );
        Ok(frame)
    }

    pub(crate) fn hang_up(&mut self) -> Result<()> {
        Ok(self.stream.shutdown(std::net::Shutdown::Both)?)
    }

    /// The end of its connection, then of the process, with everything it printed.
    pub(crate) fn wait_for_end(&mut self) -> Result<Exit> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look()? {
                Arrival::Frame(frame) => bail!("expected the end, got {:?}", frame.kind),
                Arrival::Closed => break,
                Arrival::NothingYet => {
                    ensure!(
                        Instant::now() < deadline,
                        "still connected after {PATIENCE:?}"
                    )
                }
            }
        }
        loop {
            self.log.drain();
            if let Some(exit) = self.process.ended()? {
                self.log.drain();
                return Ok(exit);
            }
            ensure!(
                Instant::now() < deadline,
                "still running after {PATIENCE:?}"
            );
            std::thread::sleep(LOOK);
        }
    }
}

fn layers(hearth: &Path) -> bool {
    hearth.join("opt").is_dir()
}

/// Also a reader of its own that never sees the end: the worker's side comes and goes.
fn open_fifo(path: &Path) -> Result<File> {
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?)
}

fn accept(listener: &UnixListener, process: &mut Process) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(exit) = process.ended()? {
            bail!("the shim ended with {exit:?} before it connected");
        }
        ensure!(
            Instant::now() < deadline,
            "the shim did not connect in {PATIENCE:?}"
        );
        std::thread::sleep(LOOK);
    }
}

fn copy_readable(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_readable(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            let executable = target.metadata()?.permissions().mode() & 0o111;
            std::fs::set_permissions(&target, Permissions::from_mode(0o644 | executable))?;
        }
    }
    Ok(())
}

/// What runs the shim: its own process, or the `docker run` that stands for its container and ends with its status.
struct Process {
    child: Child,
    container: Option<String>,
}

impl Process {
    fn bare(manifest: &Manifest, hearth: &Path, task: &Path) -> Result<Self> {
        let log = OpenOptions::new().write(true).open(hearth.join("log"))?;
        let (program, arguments) = manifest
            .bare_command
            .split_first()
            .context("bare_command is empty")?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&manifest.folder)
            // As empty as a container's: what developers set for their interpreters, such as unbuffered output, hides faults.
            .env_clear()
            .envs(
                ["PATH", "HOME"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("HEARTH_SOCKET", hearth.join("worker.sock"))
            .env("LAMBDA_TASK_ROOT", task)
            // What a killed worker leaves there goes with the directory.
            .env("TMPDIR", hearth)
            .envs(layers(hearth).then(|| ("HEARTH_OPT", hearth.join("opt"))))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self {
            child,
            container: None,
        })
    }

    /// With the hardening every worker gets. A container of a runner that was killed ends by itself, since its connection does.
    fn container(manifest: &Manifest, holder: &Holder, hearth: &Path, task: &Path) -> Result<Self> {
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("hearth-contract-{}-{number}", std::process::id());
        let memory = format!("{}m", crate::play::MEMORY_MB);
        let mount = |from: &Path, to: &str| {
            format!("type=bind,source={},target={to},readonly", from.display())
        };
        let child = Command::new("docker")
            .args([
                "run",
                "--rm",
                "--name",
                &name,
                "--label",
                "hearth.contract=worker",
            ])
            .args(["--network", &format!("container:{}", holder.name)])
            .args(["--read-only", "--cap-drop", "ALL"])
            .args(["--security-opt", "no-new-privileges", "--pids-limit", "128"])
            .args(["--memory", &memory, "--memory-swap", &memory])
            .args(["--tmpfs", "/tmp:rw,nosuid,nodev,mode=1777,size=64m"])
            .args(["--log-driver", "none"])
            .args(["--mount", &mount(hearth, "/hearth")])
            .args(["--mount", &mount(task, "/var/task")])
            .args(layers(hearth).then_some("--env=HEARTH_OPT=/hearth/opt"))
            .arg(image::tag(manifest))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the docker client")?;
        Ok(Self {
            child,
            container: Some(name),
        })
    }

    fn ended(&mut self) -> Result<Option<Exit>> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(None);
        };
        Ok(Some(match (status.code(), status.signal()) {
            // An engine reports a signal as a shell does.
            (Some(code), _) => Exit::Status(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => bail!("{status} is neither a status nor a signal"),
        }))
    }
}

impl Exit {
    pub(crate) fn is_signal(&self) -> bool {
        matches!(self, Exit::Signal(_) | Exit::Status(129..=159))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(name) = &self.container {
            image::remove_container(name);
        }
        // The client of a removed container ends by itself; a bare shim does not.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
