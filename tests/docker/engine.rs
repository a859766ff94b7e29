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
use hearth::engine::cgroup::Cgroup;
use hearth::engine::docker::{Docker, Options};
use hearth::engine::spec::limits_for;
use hearth::engine::sweep::{Swept, sweep};
use hearth::engine::{ContainerId, ContainerSpec, Engine, Error, Exit, ImageSpec};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

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

/// The command line client, for what the driver has no call for.
fn docker(arguments: &[&str]) -> String {
    let output = std::process::Command::new("timeout")
        .args(["60", "docker"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn seconds_since_epoch() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
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

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_under_a_running_container_by_both_ways() {
    with_engine(async |bench| {
        let script = r#"
            echo UP
            show() {
                for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory.max \
                    cpu/cpu.cfs_quota_us cpu/cpu.shares cpu.max cpu.weight; do
                    cat /sys/fs/cgroup/$file 2>/dev/null | sed "s|^|$1 $file=|"
                done
                echo "$1 END"
            }
            until [ -e /var/task/one ]; do sleep 0.05; done; show one
            until [ -e /var/task/two ]; do sleep 0.05; done; show two
            until [ -e /var/task/three ]; do sleep 0.05; done; show three
            exec tail /dev/zero
        "#;
        let (spec, log) = bench.spec(128, script);
        let task = spec.task.clone();
        // The shim's process, found as a worker's is: from the other end of its socket.
        let listener =
            tokio::net::UnixListener::bind(spec.directory.join("worker.sock")).unwrap();
        std::fs::set_permissions(
            spec.directory.join("worker.sock"),
            PermissionsExt::from_mode(0o666),
        )
        .unwrap();
        std::fs::write(
            task.join("script"),
            format!(
                "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(\"/hearth/worker.sock\") or die; sleep 1000' &\n{script}"
            ),
        )
        .unwrap();
        let id = bench.docker.start(&spec).await.unwrap();
        let (socket, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let pid = socket.peer_cred().unwrap().pid().unwrap();
        let mut running = Running { id: id.clone(), log, text: String::new() };
        running.until_it_says("UP").await;

        let check = |text: &str, step: &str, memory: u64, quota: &str, shares: &str| {
            let memory = memory.to_string();
            let says = |file: &str| {
                let line = format!("{step} {file}=");
                text.lines().find_map(|l| l.strip_prefix(&line).map(str::to_owned))
            };
            if let Some(found) = says("memory/memory.limit_in_bytes") {
                assert_eq!(found, memory);
                // Not there where the kernel does not account for swap.
                if let Some(found) = says("memory/memory.memsw.limit_in_bytes") {
                    assert_eq!(found, memory);
                }
                assert_eq!(says("cpu/cpu.cfs_quota_us").as_deref(), Some(quota));
                assert_eq!(says("cpu/cpu.shares").as_deref(), Some(shares));
            } else {
                assert_eq!(says("memory.max"), Some(memory));
                assert_eq!(says("cpu.max"), Some(format!("{quota} 100000")));
            }
        };

        let grown = limits_for(Mebibytes(1769), 0.5, 2);
        let cgroup = Cgroup::of(pid, &id).unwrap();
        let started = Instant::now();
        cgroup.apply(&grown).unwrap();
        println!("limits through the control group took {:?}", started.elapsed());
        std::fs::write(task.join("one"), "").unwrap();
        let text = running.until_it_says("one END").await;
        check(text, "one", 1769 * 1024 * 1024, "100000", "1024");

        let shrunk = limits_for(Mebibytes(64), 0.25, 2);
        cgroup.apply(&shrunk).unwrap();
        std::fs::write(task.join("two"), "").unwrap();
        let text = running.until_it_says("two END").await;
        check(text, "two", 64 * 1024 * 1024, "25000", "37");

        bench.docker.limit(&id, limits_for(Mebibytes(256), 0.5, 2)).await.unwrap();
        std::fs::write(task.join("three"), "").unwrap();
        let text = running.until_it_says("three END").await;
        check(text, "three", 256 * 1024 * 1024, "50000", "148");
        // The limit is what it dies of.
        let exit = bench.end_of(&id).await;
        assert_eq!(exit, Exit { code: 137, out_of_memory: true });

        // Its process is gone, and with it the way to its group; another container's never was one.
        assert!(Cgroup::of(pid, &id).is_err());
        assert!(Cgroup::of(std::process::id() as i32, &id).is_err());
        assert!(cgroup.apply(&grown).is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_network_shares_its_holders() {
    with_engine(async |bench| {
        let holder = bench
            .docker
            .start_network_holder(&bench.image.tag)
            .await
            .unwrap();
        assert_eq!(bench.docker.exit(&holder).await.unwrap(), None);
        let script = r#"
            echo "interfaces=$(ls /sys/class/net | tr '\n' ' ')"
            echo "localhost=$(getent hosts localhost)"
            echo "route=$(grep -c '^[^I]*\b00000000' /proc/net/route)"
            echo "capabilities=$(grep CapEff /proc/self/status)"
            echo END
        "#;
        let (mut spec, log) = bench.spec(128, script);
        spec.network_of = Some(holder.clone());
        let id = bench.docker.start(&spec).await.unwrap();
        let mut running = Running {
            id,
            log,
            text: String::new(),
        };
        let text = running.until_it_says("END\n").await;
        assert_eq!(field(text, "interfaces="), "eth0 lo");
        assert!(field(text, "localhost=").contains("localhost"));
        assert_ne!(field(text, "route="), "0");
        assert!(field(text, "capabilities=").ends_with("0000000000000000"));

        let owned = bench.docker.owned().await.unwrap();
        let of = |id: &ContainerId| owned.iter().find(|found| found.id == *id).unwrap();
        assert_eq!(of(&running.id).worker, Some(spec.worker));
        assert_eq!(of(&holder).worker, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_takes_what_is_ours_and_nothing_else() {
    with_engine(async |bench| {
        // Another instance on the same engine.
        let other = Docker::new(options(Path::new(SOCKET), bench.root.path(), PATIENCE)).unwrap();
        let (theirs, _log) = bench.spec(128, "exec sleep 1000");
        let theirs = other.start(&theirs).await.unwrap();

        for script in ["exec sleep 1000", "exit 3"] {
            bench.run(128, script).await;
        }
        bench
            .docker
            .start_network_holder(&bench.image.tag)
            .await
            .unwrap();
        assert_eq!(bench.docker.owned().await.unwrap().len(), 3);

        let workers = bench.root.path().join("workers");
        std::fs::create_dir_all(workers.join("left/task")).unwrap();
        let swept = sweep(&bench.docker, &workers).await.unwrap();
        let expected = Swept {
            containers: 3,
            directories: 1,
            left: 0,
        };
        assert_eq!(swept, expected);
        assert!(bench.docker.owned().await.unwrap().is_empty());

        let still = other.exit(&theirs).await;
        other.remove(&theirs).await.unwrap();
        assert_eq!(still.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    with_engine(async |bench| {
        let (mut no_image, _log) = bench.spec(128, "");
        no_image.image = "hearth-engine-test:none".into();
        let error = bench.docker.start(&no_image).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused { operation: "create", reason } if reason.contains("No such image")),
            "{error}"
        );

        // The engine must not make the directory that is missing.
        let (mut no_directory, _log) = bench.spec(128, "");
        no_directory.task = bench.root.path().join("not-there");
        let error = bench.docker.start(&no_directory).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused { reason, .. } if reason.contains("not-there")),
            "{error}"
        );
        assert!(!no_directory.task.exists());

        // Created, but what it should run is not there.
        let context = bench.root.path().join("broken");
        std::fs::create_dir(&context).unwrap();
        let text = "ARG BASE\nFROM ${BASE}\nENTRYPOINT [\"/not/there\"]\n";
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        let broken = ImageSpec {
            tag: "hearth-engine-test:broken".into(),
            context,
            base_image: BASE.into(),
        };
        bench.docker.ensure_image(&broken).await.unwrap();
        let (mut spec, _log) = bench.spec(128, "");
        spec.image = broken.tag;
        let error = bench.docker.start(&spec).await.unwrap_err();
        docker(&["rmi", &spec.image]);
        assert!(
            matches!(&error, Error::Refused { operation: "start", reason } if reason.contains("/not/there")),
            "{error}"
        );
        assert!(bench.docker.owned().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_leave_nothing() {
    with_engine(async |bench| {
        // At any point of a start: before the container is created, between, and after.
        for patience in [0, 5, 20, 60, 150, 400] {
            let (spec, _log) = bench.spec(128, "exec sleep 1000");
            let start = bench.docker.start(&spec);
            if let Ok(Ok(id)) = tokio::time::timeout(Duration::from_millis(patience), start).await {
                bench.docker.remove(&id).await.unwrap();
            }
        }
        // The engine goes on with what it was told, so this is a level that is reached, and kept.
        let mut empty = 0;
        until("everything is gone and stays so", async || {
            let gone = bench.docker.owned().await.unwrap().is_empty();
            empty = if gone { empty + 1 } else { 0 };
            empty == 100
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_once_for_all_who_want_it_and_a_failure_is_explained() {
    with_engine(async |bench| {
        let context = bench.root.path().join("counted");
        std::fs::create_dir(&context).unwrap();
        // Content of its own, so that no layer is cached from an earlier run.
        let unique = WorkerId::generate();
        let text = format!("ARG BASE\nFROM ${{BASE}}\nRUN echo {unique} && sleep 1\n");
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        let image = ImageSpec {
            tag: format!("hearth-engine-test:{unique}"),
            context: context.clone(),
            base_image: BASE.into(),
        };
        let before = seconds_since_epoch();
        let wishes = (0..5).map(|_| bench.docker.ensure_image(&image));
        let results = futures_util::future::join_all(wishes).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        // Each build ends with the image being given its name.
        let named = docker(&[
            "events",
            &format!("--since={before}"),
            &format!("--until={}", seconds_since_epoch() + 1),
            "--filter=event=tag",
            &format!("--filter=image={}", image.tag),
            "--format={{.Action}}",
        ]);
        assert_eq!(named, "tag");
        let label = "{{index .Config.Labels \"hearth.runtime\"}}";
        let label = docker(&["image", "inspect", "-f", label, &image.tag]);
        assert_eq!(label, "engine-test");
        // There already: no build, so the folder is not even read.
        std::fs::remove_dir_all(&context).unwrap();
        bench.docker.ensure_image(&image).await.unwrap();
        docker(&["rmi", &image.tag]);
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        assert!(matches!(&error, Error::Build { reason, .. } if reason.contains("cannot read")), "{error}");

        std::fs::create_dir(&context).unwrap();
        let text = "ARG BASE\nFROM ${BASE}\nRUN echo the last words; exit 7\n";
        std::fs::write(context.join("Dockerfile"), text).unwrap();
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        let Error::Build { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("the last words") && reason.contains("code: 7"), "{reason}");
        // A failure is not remembered.
        std::fs::write(context.join("Dockerfile"), "ARG BASE\nFROM ${BASE}\n").unwrap();
        bench.docker.ensure_image(&image).await.unwrap();
        docker(&["rmi", &image.tag]);

        std::fs::write(context.join("Dockerfile"), "NONSENSE\n").unwrap();
        let error = bench.docker.ensure_image(&image).await.unwrap_err();
        assert!(matches!(&error, Error::Build { reason, .. } if reason.to_lowercase().contains("nonsense")), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_describes_itself() {
    with_engine(async |bench| {
        let said = bench.docker.describe().await.unwrap();
        assert!(
            said.version.starts_with(|c: char| c.is_ascii_digit()),
            "{said:?}"
        );
        assert!(said.api_version.contains('.'), "{said:?}");
        assert!(
            ["1", "2"].contains(&said.cgroup_version.as_str()),
            "{said:?}"
        );
        assert!(
            said.memory > 0 && said.cpus > 0 && !said.name.is_empty(),
            "{said:?}"
        );
    })
    .await;
}

/// Every call there is, and what it came to.
async fn every_call(docker: &Docker) -> Vec<(&'static str, Option<Error>)> {
    let id = ContainerId("0123456789abcdef".into());
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let image = ImageSpec {
        tag: "hearth-engine-test:never".into(),
        context: root.path().into(),
        base_image: BASE.into(),
    };
    let spec = ContainerSpec {
        worker: WorkerId::generate(),
        image: image.tag.clone(),
        directory: root.path().into(),
        task: root.path().into(),
        limits: limits_for(Mebibytes(128), 1.0, 2),
        network_of: None,
        labels: BTreeMap::new(),
    };
    vec![
        ("ensure_image", docker.ensure_image(&image).await.err()),
        ("start", docker.start(&spec).await.err()),
        (
            "holder",
            docker.start_network_holder(&image.tag).await.err(),
        ),
        ("limit", docker.limit(&id, spec.limits).await.err()),
        ("exit", docker.exit(&id).await.err()),
        ("remove", docker.remove(&id).await.err()),
        ("owned", docker.owned().await.err()),
        ("describe", docker.describe().await.err()),
    ]
}

/// Something that listens where an engine should. Ends with the test.
struct Fake {
    accepting: tokio::task::JoinHandle<()>,
    state: std::sync::Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// First lines of the requests, in their order.
    requests: Vec<String>,
    /// Connections the other side has not closed.
    open: usize,
}

/// What to do with a request: nothing for ever, or to answer it after a while.
type Answer = Option<(Duration, Vec<u8>)>;

impl Fake {
    fn new(socket: &Path, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let state = std::sync::Arc::new(Mutex::new(Seen::default()));
        let (seen, answer) = (state.clone(), std::sync::Arc::new(answer));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.lock().open += 1;
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    Self::serve(stream, &seen, &*answer).await;
                    seen.lock().open -= 1;
                });
            }
        });
        Fake { accepting, state }
    }

    async fn serve(
        mut stream: tokio::net::UnixStream,
        seen: &Mutex<Seen>,
        answer: &(impl Fn(&str) -> Answer + Send + Sync),
    ) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = vec![0; 65_536];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&request[..read]).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.lock().requests.push(line.clone());
        match answer(&line) {
            Some((after, bytes)) => {
                tokio::time::sleep(after).await;
                let _whether_anybody_listens = stream.write_all(&bytes).await;
            }
            None => while !matches!(stream.read(&mut request).await, Ok(0) | Err(_)) {},
        }
    }

    fn count(&self, start: &str) -> usize {
        let seen = self.state.lock();
        seen.requests
            .iter()
            .filter(|r| r.starts_with(start))
            .count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wedged_engine_is_told_within_the_deadline() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let fake = Fake::new(&socket, |_| None);
    let deadline = Duration::from_millis(200);
    let docker = Docker::new(options(&socket, root.path(), deadline)).unwrap();

    let started = Instant::now();
    let results = every_call(&docker).await;
    for (call, error) in &results {
        assert!(
            matches!(error, Some(Error::Timeout { .. })),
            "{call}: {error:?}"
        );
    }
    // Each had its deadline and a little more, and none waited for another.
    let took = started.elapsed();
    assert!(took >= deadline * 8, "{took:?}");
    assert!(took < deadline * 8 + Duration::from_secs(10), "{took:?}");

    // More calls than may be under way at once: those that wait for their turn are late as well.
    let started = Instant::now();
    let many = futures_util::future::join_all((0..50).map(|_| docker.owned())).await;
    assert!(many.iter().all(|r| matches!(r, Err(Error::Timeout { .. }))));
    assert!(started.elapsed() < deadline + Duration::from_secs(10));
    // Nothing is kept waiting but the two starts: only who sees their end can remove what they make.
    until("the other connections are closed", async || {
        fake.state.lock().open <= 2
    })
    .await;
    assert_eq!(fake.count("POST /containers/create"), 2);
}

/// The engine takes longer than its caller waits, and then does it after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_comes_too_late_is_removed() {
    let late = Duration::from_millis(600);
    let at_once = Duration::ZERO;
    let created = || http("201 Created", r#"{"Id":"too-late","Warnings":[]}"#);
    let no_content = || b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec();
    // Which call is late, and what happens to it in the end.
    for (slow, cut, expected) in [
        (
            "POST /containers/create",
            false,
            "DELETE /containers/too-late?",
        ),
        (
            "POST /containers/too-late/start",
            false,
            "DELETE /containers/too-late?",
        ),
        // Cut off: nobody knows whether there is a container, only what it would be called.
        (
            "POST /containers/create",
            true,
            "DELETE /containers/hearth-",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("engine.sock");
        let fake = Fake::new(&socket, move |line| {
            let wait = if line.starts_with(slow) {
                late
            } else {
                at_once
            };
            let answer = match line {
                _ if cut && line.starts_with(slow) => Vec::new(),
                _ if line.starts_with("POST /containers/create") => created(),
                _ => no_content(),
            };
            Some((wait, answer))
        });
        let deadline = Duration::from_millis(200);
        let docker = Docker::new(options(&socket, root.path(), deadline)).unwrap();
        let spec = ContainerSpec {
            worker: WorkerId::generate(),
            image: "image".into(),
            directory: root.path().into(),
            task: root.path().into(),
            limits: limits_for(Mebibytes(128), 1.0, 2),
            network_of: None,
            labels: BTreeMap::new(),
        };
        let result = docker.start(&spec).await;
        assert!(
            matches!(result, Err(Error::Timeout { .. })),
            "{slow}: {result:?}"
        );
        until("it is removed", async || fake.count(expected) == 1).await;
        // One whose caller is gone is not started any more.
        let starts = usize::from(slow.ends_with("start"));
        assert_eq!(
            fake.count("POST /containers/too-late/start"),
            starts,
            "{slow}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_back_is_used_again() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let docker = Docker::new(options(&socket, root.path(), PATIENCE)).unwrap();

    for (call, error) in every_call(&docker).await {
        assert!(
            matches!(error, Some(Error::Unreachable { .. })),
            "absent, {call}: {error:?}"
        );
    }
    // A socket nobody listens at, as a killed engine leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    for (call, error) in every_call(&docker).await {
        assert!(
            matches!(error, Some(Error::Unreachable { .. })),
            "dead, {call}: {error:?}"
        );
    }
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(SOCKET, &socket).unwrap();
    docker.describe().await.unwrap();
    std::fs::remove_file(&socket).unwrap();
    assert!(docker.describe().await.is_err());
    std::os::unix::fs::symlink(SOCKET, &socket).unwrap();
    docker.describe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_errors_and_no_more() {
    let no_answer: [(&str, &'static [u8]); 4] = [
        ("nothing", b""),
        ("garbage", b"\x00\xff\xfe garbage\r\n\r\n"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-"),
    ];
    for (what, answer) in no_answer {
        for (call, error) in every_call_to(answer).await {
            assert!(
                matches!(error, Some(Error::Unreachable { .. })),
                "{what}, {call}: {error:?}"
            );
        }
    }
    // A good status and a body that is none of an engine's.
    let no_body: [(&str, &'static [u8]); 3] = [
        (
            "half",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":",
        ),
        (
            "no JSON",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>no<",
        ),
        (
            "another JSON",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[[1]]",
        ),
    ];
    for (what, answer) in no_body {
        for (call, error) in every_call_to(answer).await {
            // Believed by their status alone: there is nothing to learn from the body.
            let unread = ["limit", "remove"].contains(&call);
            let refused = matches!(error, Some(Error::Unreachable { .. }));
            assert!(unread != refused, "{what}, {call}: {error:?}");
        }
    }
    // An engine that says no, and why.
    let no = http("500 Internal Server Error", r#"{"message":"no more room"}"#);
    for (call, error) in every_call_to(no.leak()).await {
        assert!(
            matches!(&error, Some(Error::Refused { reason, .. }) if reason.contains("no more room")),
            "{call}: {error:?}"
        );
    }
}

async fn every_call_to(answer: &'static [u8]) -> Vec<(&'static str, Option<Error>)> {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let _fake = Fake::new(&socket, move |_| Some((Duration::ZERO, answer.to_vec())));
    let docker = Docker::new(options(&socket, root.path(), PATIENCE)).unwrap();
    every_call(&docker).await
}
