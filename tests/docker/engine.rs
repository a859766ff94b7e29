//! The engine driver against a real engine: what is in force inside a container, how one ends, what is left behind.

mod bench;
mod faults;
mod images;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth::domain::limits::Mebibytes;
use hearth::engine::cgroup::Cgroup;
use hearth::engine::docker::Docker;
use hearth::engine::spec::limits_for;
use hearth::engine::sweep::{Swept, sweep};
use hearth::engine::{ContainerId, Engine, Error, Exit, ImageSpec};

use bench::{BASE, PATIENCE, Running, SOCKET, docker, field, options, until, with_engine};

/// A driver for the engine everybody uses, with an instance of its own.
pub(crate) fn everybodys(directory: &Path) -> Docker {
    Docker::new(options(Path::new(SOCKET), directory, PATIENCE)).unwrap()
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
            "TZ=:UTC",
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
