//! Functions that attack: what each tries from inside its worker, that it stays there, and that a neighbour is served meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::containers::docker;
use crate::server::Server;
use crate::wait::PATIENCE;

/// Calls of a neighbour that are served while a bomb goes off.
const SERVED_BESIDE: usize = 20;

/// A function that is called all the time, by a client that waits for each answer.
struct Neighbour {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    calls: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    async fn start(server: &Server) -> Self {
        let code = "def handler(event, context): return event";
        server
            .deploy("neighbour", code, json!({"timeout": 5}))
            .await;
        server.call("neighbour", &json!(0)).await.expect(200);
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let (stopped, client) = (stop.clone(), server.client.clone());
        let count = served.clone();
        let calls = tokio::spawn(async move {
            let mut connection = client.connect().await.unwrap();
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let path = "/functions/neighbour/execute";
                let answer = connection.post(path, &json!(times.len())).await.unwrap();
                let answer = answer.expect(200);
                assert_eq!(answer.json(), times.len());
                assert_eq!(answer.start(), "warm", "it keeps its worker");
                times.push(begun.elapsed());
                count.store(times.len(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times
        });
        Self {
            stop,
            served,
            calls,
        }
    }

    fn served(&self) -> usize {
        assert!(!self.calls.is_finished(), "a call of it failed");
        self.served.load(Ordering::Relaxed)
    }

    /// All its calls were served, each within the function's few seconds, all by the worker it had. The times are for people.
    async fn unharmed(self, by: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.calls.await.unwrap();
        assert!(!times.is_empty());
        times.sort();
        let (median, last) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "beside {by}: {} calls, p50 {median:?}, p99 {last:?}",
            times.len()
        );
    }
}

/// Looks for marks, which it is told backwards so as not to find them in what it was told.
const SEARCHES: &str = r#"
# of-the-searcher-itself
import os
def handler(event, context):
    marks = [mark[::-1].encode() for mark in event["marks"]]
    found, looked = [], 0
    def look(path):
        nonlocal looked
        try:
            with open(path, "rb") as file:
                text = file.read(1 << 20)
        except OSError:
            return
        looked += 1
        found.extend([mark.decode(), path] for mark in marks if mark in text)
    for folder, folders, files in os.walk("/"):
        folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/proc", "/sys", "/usr")]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                look(path)
    processes = [p for p in os.listdir("/proc") if p.isdigit()]
    for process in processes:
        for name in ("environ", "cmdline", "mountinfo", "maps", "net/unix"):
            look(f"/proc/{process}/{name}")
    try:
        os.symlink(event["host"], "/tmp/through")
    except FileExistsError:
        pass
    ways = [event["host"], "/tmp/through", "/proc/1/root" + event["host"], "/proc/self/cwd/../.." + event["host"]]
    return {"found": sorted(found), "looked": looked, "processes": processes, "host": [w for w in ways if os.path.exists(w)],
            "sockets": [os.path.join(d, f) for d, _, fs in os.walk("/") if not d.startswith(("/proc", "/sys"))
                        for f in fs if os.path.exists(os.path.join(d, f)) and (os.stat(os.path.join(d, f)).st_mode >> 12) == 12]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_or_of_another_function_can_be_found() {
    let server = Server::shared();
    let victim = r#"
# mark-in-the-code
import os
def handler(event, context):
    print(event)
    open("/tmp/kept", "w").write(event)
    open("/dev/shm/kept", "w").write(event)
    return os.environ["SECRET"]
"#;
    let environment = json!({"environment": {"SECRET": "mark-in-the-environment"}});
    server.deploy("victim-of-search", victim, environment).await;
    let payload = json!("mark-in-the-payload");
    let answer = server.call("victim-of-search", &payload).await;
    assert_eq!(answer.expect(200).json(), "mark-in-the-environment");

    server
        .deploy("searches", SEARCHES, json!({"timeout": 60}))
        .await;
    let own = "of-the-searcher-itself";
    let marks = [
        own,
        "mark-in-the-code",
        "mark-in-the-environment",
        "mark-in-the-payload",
        // Of the server's own files.
        &server.state().key(),
        &std::fs::read_to_string(server.state().path().join("instance")).unwrap(),
    ];
    let backwards = marks.map(|mark| mark.chars().rev().collect::<String>());
    let event = json!({"marks": backwards, "host": server.state().path()});
    let found = server.call("searches", &event).await.expect(200).json();
    assert_eq!(
        found["found"],
        json!([[own, "/hearth/task/app.py"], [own, "/var/task/app.py"]]),
        "it finds its own, so it can find"
    );
    assert!(found["looked"].as_u64().unwrap() > 50, "{found}");
    assert_eq!(found["processes"], json!(["1"]));
    assert_eq!(found["host"], json!([]), "no path leads to the host");
    assert_eq!(found["sockets"], json!([]), "and no socket out");
}

/// Every attempt by name; what it got: an error's name, or what it reached.
const BREAKS_OUT: &str = r#"
import ctypes, os, resource, socket, stat
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
def write(path, text=b"1"):
    with open(path, "wb", buffering=0) as file:
        file.write(text)
def read(path):
    with open(path, "rb") as file:
        if not file.read(1):
            raise OSError("empty: a mask lies over it")
def connect(host, port):
    socket.create_connection((host, port), timeout=3)
def any_control_group():
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        for name in files:
            try:
                os.close(os.open(os.path.join(folder, name), os.O_WRONLY))
                return
            except OSError:
                pass
    raise OSError("none")
NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "process": 0x20000000, "network": 0x40000000}
def attempts(event):
    yield from ((f"a {name} namespace", lambda f=flag: c("unshare", f)) for name, flag in NAMESPACES.items())
    yield "another namespace", lambda: c("setns", os.open("/proc/1/ns/mnt", 0), 0)
    yield "mount", lambda: c("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    yield "mount the disk", lambda: c("mount", b"/dev/vda", b"/tmp", b"ext4", 0, None)
    yield "unmount", lambda: c("umount2", b"/var/task", 2)
    yield "another root", lambda: os.chroot("/tmp")
    yield "become root", lambda: os.setuid(0)
    yield "another group", lambda: os.setgroups([0])
    yield "a device of its own", lambda: os.mknod("/tmp/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    yield "raw packets", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    yield "packets of the link", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    yield "another name for the host", lambda: socket.sethostname("mine")
    yield "more of the processor", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)
    yield "more files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100000, 100000))
    yield "others die first", lambda: write("/proc/self/oom_score_adj", b"-1000")
    yield "the kernel's settings", lambda: write("/proc/sys/kernel/core_pattern", b"|/tmp/x")
    yield "the kernel's emergency keys", lambda: write("/proc/sysrq-trigger", b"h")
    yield "its control group", any_control_group
    yield "the kernel's log", lambda: read("/dev/kmsg")
    yield "all of memory", lambda: read("/proc/kcore")
    yield "the disk", lambda: read("/dev/vda")
    yield "the host's time", lambda: c("settimeofday", (ctypes.c_long * 2)(0, 0), None)
    yield "restart the host", lambda: c("reboot", 0)
    yield "an account of others", lambda: c("acct", b"/tmp/acct")
    yield "its code", lambda: write("/var/task/app.py")
    yield "a link in its code", lambda: os.symlink("/etc/passwd", "/var/task/link")
    yield "the rights of its code", lambda: os.chmod("/var/task/app.py", 0o777)
    yield "its socket's folder", lambda: write("/hearth/new")
    yield "the shim", lambda: write(__import__("sys").modules["__main__"].__file__)
    yield "a program that makes one root", lambda: run_as_root()
    for host, port in event["addresses"]:
        yield f"{host}:{port}", lambda h=host, p=port: connect(h, p)
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/hearth/worker.sock"):
        yield path, lambda p=path: socket.socket(socket.AF_UNIX).connect(p)
    yield "a socket without a path", abstract
def run_as_root():
    import shutil, subprocess
    for program in ("su", "mount", "passwd", "newgrp"):
        found = shutil.which(program) or "/usr/bin/" + program
        done = subprocess.run([found, "root", "-c", "id -u"], capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
        if done.stdout.strip() == "0":
            return
    raise PermissionError("none")
def abstract():
    with open("/proc/net/unix") as file:
        if not [line for line in file if "@" in line]:
            raise OSError("none")
def handler(event, context):
    got = {}
    for name, attempt in attempts(event):
        try:
            attempt()
            got[name] = "allowed"
        except Exception as error:
            got[name] = type(error).__name__
    return got
"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_way_leads_out() {
    let server = Server::start(&[("pool.stem_min", "0")]);
    let (_, port) = server.client.address.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    // Whoever has egress has the network made that is looked at next.
    for network in ["egress", "none"] {
        let name = format!("breaks-out-{network}");
        let settings = json!({"network": network, "timeout": 120});
        server.deploy(&name, BREAKS_OUT, settings).await;
    }
    server
        .call("breaks-out-egress", &json!({"addresses": []}))
        .await
        .expect(200);
    let gateway = |network: &str| {
        let format = "--format={{(index .IPAM.Config 0).Gateway}}";
        docker(&["network", "inspect", format, network]).unwrap()
    };
    // Hearth itself and an engine that listens, by every address the host has for a container.
    let mut addresses = Vec::new();
    for host in ["127.0.0.1", &gateway("hearth-egress"), &gateway("bridge")] {
        addresses.extend([(host.to_owned(), port), (host.to_owned(), 2375)]);
    }
    for network in ["none", "egress"] {
        let name = format!("breaks-out-{network}");
        let event = json!({"addresses": addresses});
        let got = server.call(&name, &event).await.expect(200).json();
        let got = got.as_object().unwrap();
        assert!(got.len() >= 40, "{got:?}");
        let allowed: Vec<_> = got.iter().filter(|(_, got)| *got == "allowed").collect();
        assert!(allowed.is_empty(), "with network {network}: {allowed:?}");
        // It has broken nothing of itself by trying.
        server.call(&name, &event).await.expect(200);
    }
}

/// What it does by the name it is given; without one it is calm.
const BOMBS: &str = r#"
import os, threading, time
def fill(path):
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
def forks():
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
def many(make):
    kept = []
    try:
        while True:
            kept.append(make())
    except OSError as error:
        return error.strerror
def threads():
    kept = threading.Event()
    try:
        while True:
            threading.Thread(target=kept.wait, daemon=True).start()
    except RuntimeError as error:
        return str(error)
    finally:
        kept.set()
def spin():
    while True:
        pass
def spins():
    for _ in range(7):
        if os.fork() == 0:
            spin()
    spin()
def nests():
    os.chdir("/tmp")
    while True:
        os.mkdir("d")
        os.chdir("d")
def endless():
    while True:
        yield "x" * 65536
def prints():
    line = b"x" * 1023 + b"\n"
    for _ in range(10 * 2**30 // (len(line) * 64)):
        os.write(1, line * 64)
def handler(event, context):
    match event:
        case "fork bomb": forks()
        case "processes that spin": spins()
        case "memory bomb": return [bytearray(1 << 24) for _ in range(1000)] and None
        case "disk bomb": fill("/tmp/full")
        case "bomb in shared memory": fill("/dev/shm/full")
        case "folders without end": nests()
        case "files without end": return many(lambda: open("/dev/null"))
        case "threads without end": return threads()
        case "pipes without end": return many(os.pipe)
        case "ten gigabytes of prints": prints()
        case "an answer that is too large": return "x" * 50_000_000
        case "an answer without end": return endless()
    return "calm"
"#;

/// What may be told of a bomb: it fails by itself, it is ended, or it is stopped at its deadline.
const ENDS: [&str; 5] = [
    "function_error",
    "timeout",
    "out_of_memory",
    "worker_exited",
    "protocol_error",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_harms_who_throws_it() {
    let server = Server::start(&[("worker.tmp_mb", "32"), ("worker.pids", "64")]);
    let neighbour = Neighbour::start(&server).await;
    server
        .deploy("bombs", BOMBS, json!({"timeout": 2, "memory": 256}))
        .await;
    let bombs = [
        ("fork bomb", true),
        ("processes that spin", true),
        ("memory bomb", true),
        ("disk bomb", true),
        ("bomb in shared memory", true),
        ("folders without end", true),
        ("ten gigabytes of prints", true),
        ("an answer that is too large", true),
        // Told in the language's own words, and lived through.
        ("files without end", false),
        ("threads without end", false),
        ("pipes without end", false),
    ];
    let before = resident(&server);
    for (bomb, fails) in bombs {
        // Thrown until the neighbour has been served so often beside it, however fast the machine is.
        let from = neighbour.served();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = server.call("bombs", &json!(bomb)).await;
            if fails {
                let error = answer.json()["error"].clone();
                let code = error["code"].as_str().unwrap_or_default();
                assert!(ENDS.contains(&code), "{bomb}: {}", answer.text());
                assert_eq!(error["blame"], "function", "{bomb}");
            } else {
                let text = answer.expect(200).text();
                assert!(!text.contains("calm"), "{bomb}: {text}");
            }
            if neighbour.served() >= from + SERVED_BESIDE {
                break;
            }
            assert!(Instant::now() < deadline, "{bomb} starves the neighbour");
        }
        let after = server.call("bombs", &json!(null)).await;
        assert_eq!(after.expect(200).json(), "calm", "after a {bomb}");
    }
    let path = "/functions/bombs/execute";
    let body = json!("an answer without end").to_string();
    let mut endless = server.client.open(http::Method::POST, path, body).await;
    let mut bytes = 0;
    while let Ok(Some(piece)) = endless.piece().await {
        bytes += piece.len();
    }
    assert!(bytes > 65536, "it was read until its deadline");
    let after = server.call("bombs", &json!(null)).await;
    assert_eq!(after.expect(200).json(), "calm");
    neighbour.unharmed("bombs").await;

    let grown = resident(&server).saturating_sub(before);
    assert!(
        grown < 256 * 1024,
        "{grown} KiB more are kept than before, of gigabytes that went through"
    );
    let kept = size_of_folder(&server.state().path().join("workers"));
    assert!(kept < 64 * 1024 * 1024, "{kept} bytes of the disk");
}

/// KiB the server has in memory at most so far.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn size_of_folder(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of_folder(&entry.path()),
        Ok(found) => found.len(),
        // Gone between the two looks.
        Err(_) => 0,
    });
    sizes.sum()
}

/// Speaks over the shim's connection while nobody has asked for anything, and long after its answer.
const FORGES: &str = r#"
import os, struct, threading, time
def connection():
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + fd).startswith("socket:"):
                return int(fd)
        except OSError:
            pass
calls = 0
def frame(kind, stream, body):
    return struct.pack(">IBBHI", len(body), kind, 0, 0, stream) + body
def handler(event, context):
    global calls
    calls += 1
    def later(frames):
        time.sleep(0.05)
        os.write(connection(), frames)
        print("forged", flush=True)
    forged = {
        "the next answer": frame(8, calls + 1, b'"forged"'),
        "many answers": b"".join(frame(8, n, b'"forged"') for n in range(1, 2000)),
        "an answer again": frame(8, calls, b'"forged"'),
        "a pong": frame(11, 0, b"forged"),
        "the head of a long answer": struct.pack(">IBBHI", 6_000_000, 8, 0, 0, calls + 1),
    }
    if event:
        threading.Thread(target=later, args=[forged[event]], daemon=True).start()
    return "honest"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_unasked_answers_nobody() {
    let server = Server::start(&[]);
    let neighbour = Neighbour::start(&server).await;
    server
        .deploy("forges", FORGES, json!({"timeout": 10}))
        .await;
    let forgeries = [
        "the next answer",
        "many answers",
        "an answer again",
        "a pong",
        "the head of a long answer",
    ];
    for forgery in forgeries {
        let answer = server.call("forges", &json!(forgery)).await;
        let answer = answer.expect(200);
        let request = answer.request_id();
        crate::wait::eventually("the forged frames", || async {
            let lines = server.lines("forges", None).await;
            let forged = lines.iter().filter(|line| *line == "forged").count();
            let wanted = forgeries.iter().position(|f| *f == forgery).unwrap() + 1;
            (forged >= wanted).then_some(())
        })
        .await;
        let next = server.call("forges", &Value::Null).await.expect(200);
        assert_eq!(next.json(), "honest", "{forgery} after {request}");
    }
    neighbour.unharmed("forgeries").await;
}
