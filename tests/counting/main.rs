//! What a warm call takes, counted and not timed, so that a slow machine changes nothing and a regression still shows: allocations, by a
//! global allocator that counts (which is why this is a program of its own), and system calls, by strace.
//!
//! Hearth runs in this process, whole, with a real worker; `hearth bench` in another process calls it. What the calls of a short and a
//! long run differ by is what calls take: starting, stopping and looking after things cancel out.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy exempts test functions by itself, but not the functions they share"
)]

mod allocations;
mod calls;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth::config::load::{self, Sources};

/// A call allocates no more often than this: 10 times when this was written, for the heads, the bodies and the line it prints.
const ALLOCATIONS_MAX: f64 = 13.0;
/// A call makes no more system calls than this; it was 7 to 9. How often threads wake each other is chance, so there is room.
const CALLS_MAX: f64 = 14.0;
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_warm_call_takes_so_much_and_no_more() {
    let server = Server::start();
    server.deploy("counted", "def handler(event, context): return event");
    // The worker is there, every path was taken, every table has grown.
    server.load("counted", 500);

    let allocations = per_call(|calls| {
        let before = allocations::so_far();
        server.load("counted", calls);
        (allocations::so_far() - before) as f64
    });
    eprintln!("{allocations:.1} allocations per warm call");
    assert!(
        (1.0..=ALLOCATIONS_MAX).contains(&allocations),
        "{allocations:.1} allocations per warm call, at most {ALLOCATIONS_MAX}"
    );

    let mut never = Vec::new();
    let calls = per_call(|calls| {
        let counted = calls::during(|| server.load("counted", calls));
        never = counted
            .keys()
            .filter(|name| NEVER.contains(&name.as_str()))
            .cloned()
            .collect();
        counted.values().sum::<u64>() as f64
    });
    eprintln!("{calls:.1} system calls per warm call");
    assert!(
        (4.0..=CALLS_MAX).contains(&calls),
        "{calls:.1} system calls per warm call, at most {CALLS_MAX}"
    );
    assert_eq!(never, [""; 0], "a warm call starts nothing");
    server.stop();
}

/// System calls that no warm call has a reason for.
const NEVER: [&str; 6] = ["execve", "fork", "vfork", "fsync", "fdatasync", "mount"];

/// What one call takes of what so many take.
fn per_call(of: impl FnMut(usize) -> f64) -> f64 {
    const FEW: usize = 200;
    const MANY: usize = 1_200;
    let mut of = of;
    let few = of(FEW);
    (of(MANY) - few) / (MANY - FEW) as f64
}

/// Hearth in this process.
struct Server {
    state: tempfile::TempDir,
    running: std::thread::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let state = tempfile::Builder::new()
            .prefix("hearth-counting.")
            .tempdir()
            .unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let setting = |key: &str, value: String| (key.to_owned(), value);
        let settings = vec![
            setting("state.dir", path(state.path().to_owned())),
            setting("runtimes.dir", path(root.join("runtimes"))),
            setting("server.listen", "127.0.0.1:0".into()),
            setting("pool.stem_min", "0".into()),
            setting("pool.stem_max", "0".into()),
            setting("log.level", "warn".into()),
        ];
        let config = load::load(Sources {
            file: None,
            environment: Vec::new(),
            flags: settings,
        })
        .unwrap();
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(hearth::app::run(config)).unwrap();
        });
        let server = Self { state, running };
        let deadline = Instant::now() + PATIENCE;
        while !server.hearth(&["list"]).status().unwrap().success() {
            assert!(
                Instant::now() < deadline && !server.running.is_finished(),
                "no server"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    /// The program, for this server.
    fn hearth(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        for name in ["HEARTH_URL", "HEARTH_KEY", "HEARTH_CA"] {
            command.env_remove(name);
        }
        command
            .args(line)
            .env("HEARTH_STATE_DIR", self.state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn deploy(&self, name: &str, code: &str) {
        let file = self.state.path().join("app.py");
        std::fs::write(&file, code).unwrap();
        let deploy = [
            "deploy",
            file.to_str().unwrap(),
            "--name",
            name,
            "--handler",
            "app.handler",
        ];
        assert!(self.hearth(&deploy).status().unwrap().success());
    }

    /// So many calls, one after the other, over one connection.
    fn load(&self, name: &str, calls: usize) {
        let calls = calls.to_string();
        let line = [
            "bench",
            "--function",
            name,
            "--calls",
            &calls,
            "--warm-up",
            "0s",
            "--length",
            "150s",
            "--fail-if",
            "errors>0",
        ];
        let exact = format!("calls<{calls}");
        let status = self
            .hearth(&line)
            .args(["--fail-if", &exact])
            .status()
            .unwrap();
        assert!(status.success(), "{calls} calls: {status}");
    }

    /// As a person would: with a signal, which this process hears as the server.
    fn stop(self) {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        self.running.join().unwrap();
    }
}
