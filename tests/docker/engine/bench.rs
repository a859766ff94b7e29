//! What the engine's tests stand on: a driver with an instance of its own that leaves nothing, an image that runs whatever
//! script it is given, and waits for levels.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hearth::config;
use hearth::domain::id::WorkerId;
use hearth::domain::limits::Mebibytes;
use hearth::engine::docker::{Docker, Options};
use hearth::engine::spec::limits_for;
use hearth::engine::{ContainerId, ContainerSpec, Engine, Exit, ImageSpec};
use sha2::{Digest, Sha256};

pub(super) const BASE: &str = "debian:trixie-slim";
pub(super) const SOCKET: &str = "/var/run/docker.sock";
pub(super) const USER: u32 = 993;
/// Generous, because the machine may be busy; waits end as soon as what they wait for is there.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs whatever script a test put into the task directory; its output is the log pipe, as in every runtime.
pub(super) const DOCKERFILE: &str = r#"ARG BASE
FROM ${BASE}
RUN mkdir -p /hearth /var/task
ENTRYPOINT ["/bin/sh", "-c", "exec >/hearth/log 2>&1; exec /bin/sh /var/task/script"]
"#;

pub(super) struct Bench {
    pub(super) docker: Docker,
    pub(super) root: tempfile::TempDir,
    pub(super) image: ImageSpec,
}

pub(super) fn worker_config() -> config::Worker {
    config::Worker {
        tmp: Mebibytes(8),
        pids: 32,
        user: USER,
        group: USER,
        cpu_floor_cores: 0.5,
        code_path_roots: vec![PathBuf::from("/")],
        code_path_watch: None,
    }
}

pub(super) fn options(socket: &Path, directory: &Path, call_timeout: Duration) -> Options {
    Options {
        instance: format!("test-{}", WorkerId::generate()),
        engine: config::Engine {
            socket: socket.into(),
            call_timeout,
            build_timeout: Duration::from_secs(120),
            lanes: 2,
        },
        worker: worker_config(),
        directory: directory.into(),
    }
}

/// Runs a test with an engine of its own instance, and removes that instance's containers however the test ends.
pub(super) async fn with_engine<F: Future<Output = ()>>(
    test: impl FnOnce(std::sync::Arc<Bench>) -> F,
) {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let context = root.path().join("image");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let docker = Docker::new(options(Path::new(SOCKET), root.path(), PATIENCE)).unwrap();
    let digest = hex::encode(Sha256::digest(DOCKERFILE));
    let image = ImageSpec {
        tag: format!("hearth-engine-test:{}", &digest[..12]),
        context,
        base_image: BASE.into(),
    };
    // Each test has an engine handle of its own, and these would each build it.
    static BUILDING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let building = BUILDING.lock().await;
    docker
        .ensure_image(&image)
        .await
        .expect("these tests need a Docker engine and the base image: scripts/setup.sh makes both");
    drop(building);
    let bench = std::sync::Arc::new(Bench {
        docker: docker.clone(),
        root,
        image,
    });
    let result = AssertUnwindSafe(test(bench)).catch_unwind().await;
    for found in docker.owned().await.unwrap() {
        docker.remove(&found.id).await.unwrap();
    }
    assert!(docker.owned().await.unwrap().is_empty());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

pub(super) struct Running {
    pub(super) id: ContainerId,
    pub(super) log: std::fs::File,
    pub(super) text: String,
}

impl Bench {
    /// A worker's directories, with a log pipe and a script in the place of code.
    pub(super) fn spec(&self, memory: u32, script: &str) -> (ContainerSpec, std::fs::File) {
        let worker = WorkerId::generate();
        let directory = self.root.path().join(worker.as_str());
        let task = directory.join("task");
        std::fs::create_dir_all(&task).unwrap();
        for path in [&directory, &task] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::write(task.join("script"), script).unwrap();
        let pipe = directory.join("log");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o622)).unwrap();
        std::fs::set_permissions(&pipe, PermissionsExt::from_mode(0o622)).unwrap();
        // Open for writing as well: the pipe must not end between one writer and the next.
        let log = std::fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(&pipe)
            .unwrap();
        let spec = ContainerSpec {
            worker,
            image: self.image.tag.clone(),
            own: None,
            directory,
            task,
            limits: limits_for(Mebibytes(memory), 0.5, 2),
            network_of: None,
            labels: BTreeMap::from([("hearth.test".to_owned(), "yes".to_owned())]),
        };
        (spec, log)
    }

    pub(super) async fn run(&self, memory: u32, script: &str) -> Running {
        let (spec, log) = self.spec(memory, script);
        let id = self.docker.start(&spec).await.unwrap();
        Running {
            id,
            log,
            text: String::new(),
        }
    }

    pub(super) async fn end_of(&self, id: &ContainerId) -> Exit {
        let mut exit = None;
        until("the container has ended", async || {
            exit = self.docker.exit(id).await.unwrap();
            exit.is_some()
        })
        .await;
        exit.unwrap()
    }
}

impl Running {
    /// Everything the container has printed once it has printed `mark`.
    pub(super) async fn until_it_says(&mut self, mark: &str) -> &str {
        let (log, text) = (&mut self.log, &mut self.text);
        until(mark, async || {
            let mut buffer = [0; 65_536];
            while let Ok(read @ 1..) = log.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            text.contains(mark)
        })
        .await;
        &self.text
    }
}

/// Waits for a level.
pub(super) async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The command line client, for what the driver has no call for.
pub(super) fn docker(arguments: &[&str]) -> String {
    let output = std::process::Command::new("timeout")
        .args(["60", "docker"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(super) fn seconds_since_epoch() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(super) fn field<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or_else(|| panic!("no {key:?} in:\n{text}"))
        .trim()
}
