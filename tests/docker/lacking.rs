//! A server that runs out of what it needs from the machine: room on its disk, file descriptors. What needs them is refused by name,
//! what needs none goes on, and it recovers when they are back.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::client::Connection;
use crate::load::{Load, Stream};
use crate::server::{Metrics, Server, State};
use crate::sweep::Holdings;
use crate::wait::{LOOK_AGAIN, PATIENCE, eventually};

const ECHOES: &str = "def handler(event, context): return event";

/// A file system of its own, and small.
struct Disk {
    point: TempDir,
}

impl Disk {
    fn new(megabytes: u32) -> Self {
        let point = tempfile::Builder::new().prefix("hearth-disk-").tempdir();
        let disk = Self {
            point: point.unwrap(),
        };
        let size = format!("size={megabytes}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "hearth-disk"])
            .arg(disk.point.path())
            .status();
        assert!(mounted.unwrap().success(), "tests that mount run as root");
        disk
    }

    /// A state directory on it.
    fn state(&self) -> State {
        let state = State::new();
        let on_disk = self.point.path().join("state");
        std::fs::create_dir(&on_disk).unwrap();
        std::os::unix::fs::symlink(&on_disk, state.path()).unwrap();
        state
    }

    fn filler(&self) -> PathBuf {
        self.point.path().join("filler")
    }

    /// Until not a byte more goes in.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let bytes = vec![0; size];
            let full = loop {
                if let Err(error) = file.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.point.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            drop(
                Command::new("umount")
                    .arg("--lazy")
                    .arg(self.point.path())
                    .status(),
            );
        }
    }
}

fn steady() -> [Stream; 2] {
    ["one", "two"].map(|function| Stream {
        function,
        event: json!(1),
        callers: 1,
        within: Duration::from_secs(3),
    })
}

async fn deploy_steady(server: &Server) {
    for function in ["one", "two"] {
        server.deploy(function, ECHOES, json!({})).await;
        server.call(function, &json!(0)).await.expect(200);
    }
}

/// Deploys one function after the other until it is told to stop. Returns the names that were acknowledged, and the other answers.
async fn deployer(server: &Server, stop: Arc<AtomicBool>) -> (Vec<String>, Vec<(u16, Value)>) {
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("deployed-{n}");
        // Code of its own for each, so that each needs room.
        let code = format!(
            "def handler(event, context): return {n}\n# {}",
            "x".repeat(5_000)
        );
        let body = json!({"name": name, "language": "python", "code": code});
        let answer = server.client.post("/functions/", &body).await;
        if answer.status == 201 {
            acknowledged.push(name);
        } else {
            refused.push((answer.status.as_u16(), answer.error(answer.status.as_u16())));
        }
    }
    (acknowledged, refused)
}

/// Asks for calls to be run later, more than there could be room for, until one is refused.
async fn cannot_be_kept(server: &Server) {
    let later = [("x-amz-invocation-type", "Event")];
    let body = json!("x".repeat(900_000)).to_string();
    let submit = || {
        let path = "/functions/one/execute";
        let client = &server.client;
        client.send_with(Method::POST, path, &later, body.clone())
    };
    eventually("a call that cannot be kept", || async {
        let answers = join_all((0..8).map(|_| submit())).await;
        let (kept, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 202);
        for answer in &refused {
            assert_eq!(answer.error(507)["code"], "disk_full", "{kept:?}");
        }
        (!refused.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_load() {
    let disk = Disk::new(24);
    let settings = [("pool.stem_min", "1"), ("pool.stem_max", "1")];
    let server = Server::start_on(disk.state(), &settings);
    for text in [
        "disk is full",
        "call failed",
        "code cannot be prepared",
        "container cannot be started",
        "asynchronous calls could not be kept",
        "an event that was run will be run again",
    ] {
        server.expects(text);
    }
    deploy_steady(&server).await;
    let before = Holdings::of(&server).await;
    let load = Load::begin(&server, &steady()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let breaks = async {
        let full = [("what", "store")];
        for _ in 0..2 {
            let had = server.metrics().await.sum("hearth_disk_full_total", &full);
            disk.fill();
            // Several are refused, and warm calls go on.
            server
                .measured("hearth_disk_full_total", &full, |n| n >= had + 3.0)
                .await;
            load.goes_on(5).await;
            cannot_be_kept(&server).await;
            disk.free();
            let functions = server.metrics().await.sum("hearth_functions", &[]);
            server
                .measured("hearth_functions", &[], |n| n >= functions + 2.0)
                .await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((acknowledged, refused), ()) = tokio::join!(deployer(&server, stop.clone()), breaks);
    assert!(refused.len() >= 6, "{refused:?}");
    for (status, error) in &refused {
        assert_eq!(
            (*status, &error["code"]),
            (507, &json!("disk_full")),
            "{error}"
        );
        assert_eq!(
            (&error["blame"], &error["retry"]),
            (&json!("platform"), &json!("safe"))
        );
    }
    assert_eq!(load.end().await.only(&[], &[]), 0);
    let line = server.log_line("disk is full");
    assert!(
        line["source"].as_str().unwrap().contains("No space left"),
        "{line}"
    );

    // A function that was refused is not there; every one that was acknowledged is, also after a crash.
    let kept = async |server: &Server| {
        let listed = server
            .client
            .get("/functions/?limit=1000")
            .await
            .expect(200)
            .json();
        let mut names: Vec<_> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|function| function["name"].as_str().unwrap().to_owned())
            .filter(|name| name.starts_with("deployed-"))
            .collect();
        names.sort();
        let mut wanted = acknowledged.clone();
        wanted.sort();
        assert_eq!(names, wanted);
        let last = acknowledged.last().unwrap();
        let answer = server.call(last, &json!(0)).await.expect(200).json();
        assert_eq!(format!("deployed-{answer}"), *last);
    };
    before.are_all_of(&server).await;
    kept(&server).await;
    let server = Server::start_on(server.crash(), &settings);
    kept(&server).await;
}

/// Its own log may be on the full disk too.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_is_no_reason_to_fail() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let server = Server::spawn_with(State::new(), &[("pool.stem_min", "0")], |command| {
        command.stderr(full);
    });
    server.wait_ready();
    deploy_steady(&server).await;
    let raises = "def handler(event, context): raise ValueError(event)";
    server.deploy("raises", raises, json!({})).await;
    server.call("raises", &json!(0)).await.error(502);
    server.call("one", &json!(0)).await.expect(200);
    server.stop();
}

/// Sets how many descriptors a server may have, within what it could have.
fn limit_descriptors(server: &Server, limit: Option<u64>) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let maximum = files
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .ok();
    let limit = Rlimit {
        current: limit.or(maximum),
        maximum,
    };
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    prlimit(pid, Resource::Nofile, limit).expect("tests run as root");
}

/// How many accepts have failed, asked on a connection that is open already; waits until it is more than this.
async fn refusals(open: &mut Connection, more_than: f64) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = open.send_with(Method::GET, "/metrics", &[], "").await;
        let answer = answer.expect("what is open goes on").expect(200);
        let lacking = [("reason", "descriptors")];
        let count = Metrics::of(answer.text()).sum("hearth_accept_errors_total", &lacking);
        if count > more_than {
            return count;
        }
        assert!(Instant::now() < deadline, "{count} accepts failed");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptors_left_under_load() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    for text in [
        "connections cannot be accepted",
        "engine does not answer",
        "container cannot be",
        "container left behind",
    ] {
        server.expects(text);
    }
    deploy_steady(&server).await;
    let before = Holdings::of(&server).await;
    let load = Load::begin(&server, &steady()).await;
    let mut open = server.client.connect().await.unwrap();
    refusals(&mut open, -1.0).await;

    limit_descriptors(&server, Some(server.descriptors().len() as u64 + 16));
    let mut silent = Vec::new();
    for _ in 0..100 {
        // The kernel takes them all, the server cannot.
        silent.push(TcpStream::connect(&server.client.address).await.unwrap());
    }
    let from = Instant::now();
    let first = refusals(&mut open, 0.0).await;
    load.goes_on(5).await;
    let last = refusals(&mut open, first + 3.0).await;
    // It waits between two attempts, however long that goes on.
    let most = from.elapsed().as_secs_f64() / 0.05 + 2.0;
    assert!(
        last - first <= most,
        "{first}..{last} in {:?}",
        from.elapsed()
    );
    let line = server.log_line("connections cannot be accepted");
    assert_eq!(line["lacking"], "descriptors", "{line}");

    // Room again: whoever waited in the kernel is served, and new ones are.
    drop(silent);
    limit_descriptors(&server, None);
    drop(open);
    server.call("one", &json!(0)).await.expect(200);
    server.log_line("connections are accepted again");
    // Said once each time it begins, however often it is tried until it ends.
    let said = |text| server.log().matches(text).count();
    assert!(
        said("connections cannot be accepted") <= said("connections are accepted again"),
        "{}",
        server.log()
    );
    load.goes_on(5).await;
    assert_eq!(load.end().await.only(&[], &[]), 0);
    server.wait_ready();
    before.are_all_of(&server).await;
}
