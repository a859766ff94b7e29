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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth::cli::serve;
use hearth::config::load::{self, Sources};

/// A function, and what a call of it may take at most.
struct Case {
    name: &'static str,
    code: &'static str,
    allocations_max: f64,
    calls_max: f64,
}

/// Each is what was measured, and what a loaded machine adds to it: there a line comes by itself more often, and not together with others.
const CASES: [Case; 2] = [
    Case {
        name: "silent",
        code: "def handler(event, context):\n    return event\n",
        allocations_max: 11.5,
        calls_max: 8.5,
    },
    // Its line is read, cut and kept.
    Case {
        name: "printing",
        code: "def handler(event, context):\n    print('called')\n    return event\n",
        allocations_max: 14.0,
        calls_max: 10.5,
    },
];
/// No call can do with fewer: it is read and sent on, and its answer is, too. Fewer would be that they were not counted.
const CALLS_MIN: f64 = 4.0;
/// Load only adds. What is too much is counted again so many times, and is too much if it is each time.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn a_warm_call_takes_so_much_and_no_more() {
    let server = Server::start();
    for case in &CASES {
        server.deploy(case.name, case.code);
        // The worker is there, every path was taken, every table has grown.
        server.load(case.name, 500);
        allocations(&server, case);
        calls(&server, case);
    }
    server.stop();
}

fn allocations(server: &Server, case: &Case) {
    let Case { name, .. } = case;
    let most = case.allocations_max;
    let counted = least(most, || {
        per_call(|calls| {
            let before = allocations::so_far();
            server.load(name, calls);
            (allocations::so_far() - before) as f64
        })
    });
    eprintln!("{name}: {counted:.1} allocations per warm call");
    assert!(
        (1.0..=most).contains(&counted),
        "{name}: {counted:.1} allocations per warm call, at most {most}"
    );
}

fn calls(server: &Server, case: &Case) {
    let Case { name, .. } = case;
    let most = case.calls_max;
    // Of the longer run, which is the last.
    let mut by_name = BTreeMap::new();
    let counted = least(most, || {
        per_call(|calls| {
            by_name = calls::during(|| server.load(name, calls));
            by_name.values().sum::<u64>() as f64
        })
    });
    eprintln!("{name}: {counted:.1} system calls per warm call");
    assert!(
        (CALLS_MIN..=most).contains(&counted),
        "{name}: {counted:.1} system calls per warm call, {CALLS_MIN} to {most}; of the last {MANY} {by_name:?}"
    );
    let of = |names: &[&str]| -> u64 { names.iter().filter_map(|name| by_name.get(*name)).sum() };
    assert_eq!(of(&NEVER), 0, "a warm call starts nothing: {by_name:?}");
    let threads = of(&THREADS);
    assert!(
        threads <= THREADS_MAX,
        "a warm call starts no thread: {by_name:?}"
    );
}

/// System calls that no warm call has a reason for.
const NEVER: [&str; 6] = ["execve", "fork", "vfork", "fsync", "fdatasync", "mount"];
/// Nor for these; but who looks after things in the meantime blocks a thread now and then, and one that rested for a while is gone.
const THREADS: [&str; 2] = ["clone", "clone3"];
const THREADS_MAX: u64 = MANY as u64 / 100;
const FEW: usize = 200;
const MANY: usize = 1_200;

/// The first count that is not too much, or the least.
fn least(most: f64, mut count: impl FnMut() -> f64) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        least = least.min(count());
        if least <= most {
            break;
        }
    }
    least
}

/// What one call takes of what so many take.
fn per_call(mut of: impl FnMut(usize) -> f64) -> f64 {
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
        // As the program does it: more threads wake each other, and make calls of the system for it.
        let threads = config.server.threads.unwrap_or_else(serve::usual_threads);
        let running = std::thread::spawn(move || {
            let mut runtime = match threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = runtime
                .worker_threads(threads)
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
