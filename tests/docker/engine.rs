//! The engine driver against a real engine: what is in force inside a container, how one ends, what is left behind.

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
use hearth::engine::{ContainerId, ContainerSpec, Engine, Error, Exit, ImageSpec};

const BASE: &str = "debian:trixie-slim";
const SOCKET: &str = "/var/run/docker.sock";
const USER: u32 = 993;
/// Generous, because the machine may be busy; waits end as soon as what they wait for is there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs whatever script a test put into the task directory; its output is the log pipe, as in every runtime.
const DOCKERFILE: &str = r#"ARG BASE
FROM ${BASE}
RUN mkdir -p /hearth /var/task
ENTRYPOINT ["/bin/sh", "-c", "exec >/hearth/log 2>&1; exec /bin/sh /var/task/script"]
"#;

struct Bench {
    docker: Docker,
    root: tempfile::TempDir,
    image: ImageSpec,
}

fn worker_config() -> config::Worker {
    config::Worker {
        tmp: Mebibytes(8),
        pids: 32,
        user: USER,
        group: USER,
        cpu_floor_cores: 0.5,
        code_path_roots: vec![PathBuf::from("/")],
    }
}

fn options(socket: &Path, directory: &Path, call_timeout: Duration) -> Options {
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
async fn with_engine<F: Future<Output = ()>>(test: impl FnOnce(std::sync::Arc<Bench>) -> F) {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let context = root.path().join("image");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let docker = Docker::new(options(Path::new(SOCKET), root.path(), PATIENCE)).unwrap();
    let image = ImageSpec {
        tag: "hearth-engine-test:1".into(),
        context,
        base_image: BASE.into(),
    };
    docker
        .ensure_image(&image)
        .await
        .expect("these tests need a Docker engine and the base image: scripts/setup.sh makes both");
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

struct Running {
    id: ContainerId,
    log: std::fs::File,
    text: String,
}

impl Bench {
    /// A worker's directories, with a log pipe and a script in the place of code.
    fn spec(&self, memory: u32, script: &str) -> (ContainerSpec, std::fs::File) {
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
            directory,
            task,
            limits: limits_for(Mebibytes(memory), 0.5, 2),
            network_of: None,
            labels: BTreeMap::from([("hearth.test".to_owned(), "yes".to_owned())]),
        };
        (spec, log)
    }

    async fn run(&self, memory: u32, script: &str) -> Running {
        let (spec, log) = self.spec(memory, script);
        let id = self.docker.start(&spec).await.unwrap();
        Running {
            id,
            log,
            text: String::new(),
        }
    }

    async fn end_of(&self, id: &ContainerId) -> Exit {
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
    async fn until_it_says(&mut self, mark: &str) -> &str {
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
async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn field<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or_else(|| panic!("no {key:?} in:\n{text}"))
        .trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hardening_is_in_force_inside() {
    with_engine(async |bench| {
        let script = r#"
            grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Uid|Gid|Groups):' /proc/self/status
            touch /here 2>/dev/null && echo root=writable || echo root=read-only
            touch /hearth/here 2>/dev/null && echo hearth=writable || echo hearth=read-only
            touch /var/task/here 2>/dev/null && echo task=writable || echo task=read-only
            echo "interfaces=$(ls /sys/class/net | tr '\n' ' ')"
            echo "localhost=$(getent hosts localhost | tr -s ' ')"
            head -c 20000000 /dev/zero >/tmp/big 2>/dev/null; echo "tmp=$(stat -c %s /tmp/big)"; rm /tmp/big
            printf '#!/bin/sh\necho tmp-exec=yes\n' >/tmp/program; chmod +x /tmp/program; /tmp/program || echo tmp-exec=no
            echo "tmp-mount=$(grep ' /tmp ' /proc/mounts)"
            echo "shm-mount=$(grep ' /dev/shm ' /proc/mounts)"
            echo "nofile=$(ulimit -n)/$(ulimit -Hn)"
            echo "core=$(ulimit -Hc)"
            echo "oom=$(cat /proc/self/oom_score_adj)"
            echo "env=$(env | sort | tr '\n' ' ')"
            cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | sed 's/^/pids=/'
            cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | sed 's/^/memory=/'
            echo "processes=$(ls /proc | grep -c '^[0-9]*$')"
            perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0); connect(S,sockaddr_in(9,inet_aton("127.0.0.1"))) or print "loopback=$!\n"'
            perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0); connect(S,sockaddr_in(9,inet_aton("192.0.2.1"))) or print "outside=$!\n"'
            perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new("/hearth/worker.sock") ? "socket=connected\n" : "socket=$!\n"'
            echo END
        "#;
        let (spec, log) = bench.spec(128, script);
        let path = spec.directory.join("worker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let id = bench.docker.start(&spec).await.unwrap();
        let mut running = Running {
            id,
            log,
            text: String::new(),
        };
        let text = running.until_it_says("END\n").await;

        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(text, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(text, "NoNewPrivs:"), "1");
        assert_eq!(field(text, "Seccomp:"), "2");
        assert_eq!(field(text, "Uid:"), "993\t993\t993\t993");
        assert_eq!(field(text, "Gid:"), "993\t993\t993\t993");
        assert!(!field(text, "Groups:").split(' ').any(|g| g == "0"));
        assert_eq!(field(text, "root="), "read-only");
        assert_eq!(field(text, "hearth="), "read-only");
        assert_eq!(field(text, "task="), "read-only");
        assert_eq!(field(text, "interfaces="), "lo");
        assert!(field(text, "localhost=").ends_with(" localhost") || text.contains("localhost=::1"));
        assert_eq!(field(text, "tmp="), (8 * 1024 * 1024).to_string());
        assert_eq!(field(text, "tmp-exec="), "yes");
        for option in ["nosuid", "nodev", "size=8192k"] {
            assert!(field(text, "tmp-mount=").contains(option), "{option} in {text}");
        }
        assert!(field(text, "shm-mount=").contains("size=4096k"), "{text}");
        assert_eq!(field(text, "nofile="), "1024/1024");
        assert_eq!(field(text, "core="), "0");
        assert_eq!(field(text, "oom="), "500");
        assert_eq!(field(text, "pids="), "32");
        assert_eq!(field(text, "memory="), (128 * 1024 * 1024).to_string());
        // Its own, and those of the shell that counts; none of anybody else's.
        assert!(field(text, "processes=").parse::<u32>().unwrap() < 8);
        assert_eq!(field(text, "loopback="), "Connection refused");
        assert_eq!(field(text, "outside="), "Network is unreachable");
        assert_eq!(field(text, "socket="), "connected");
        let environment = field(text, "env=");
        for expected in [
            "HEARTH_SOCKET=/hearth/worker.sock",
            "LAMBDA_TASK_ROOT=/var/task",
            "LANG=C.UTF-8",
            "TZ=UTC",
            "PATH=/usr/local/bin:/usr/bin:/bin",
        ] {
            assert!(environment.contains(expected), "{expected} in {environment}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_told_with_its_code() {
    with_engine(async |bench| {
        let mut running = bench.run(128, "echo UP; exec sleep 1000").await;
        running.until_it_says("UP").await;
        assert_eq!(bench.docker.exit(&running.id).await.unwrap(), None);
        bench.docker.remove(&running.id).await.unwrap();
        assert!(matches!(
            bench.docker.exit(&running.id).await,
            Err(Error::Gone { .. })
        ));
        assert!(matches!(
            bench
                .docker
                .limit(&running.id, limits_for(Mebibytes(256), 0.5, 2))
                .await,
            Err(Error::Gone { .. })
        ));
        // Gone already is what was wanted.
        bench.docker.remove(&running.id).await.unwrap();

        let ended = bench.run(128, "exit 42").await;
        let exit = bench.end_of(&ended.id).await;
        assert_eq!(
            exit,
            Exit {
                code: 42,
                out_of_memory: false
            }
        );

        let killed = bench
            .run(
                128,
                "kill -SEGV $$; exec perl -e 'kill SEGV => $$; sleep 9'",
            )
            .await;
        let exit = bench.end_of(&killed.id).await;
        assert!(!exit.out_of_memory);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_told_from_other_deaths() {
    with_engine(async |bench| {
        let running = bench.run(128, "exec tail /dev/zero").await;
        let exit = bench.end_of(&running.id).await;
        assert_eq!(
            exit,
            Exit {
                code: 137,
                out_of_memory: true
            }
        );
    })
    .await;
}
