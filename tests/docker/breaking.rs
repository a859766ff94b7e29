//! Workers that are killed, stopped and made to talk nonsense while calls are made: who is affected is told what happened in time,
//! nobody else notices, and nothing of it is left.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::containers;
use crate::failing::worker;
use crate::load::{Load, Outcomes, Stream};
use crate::server::Server;
use crate::sweep::Holdings;

const WORKS: &str = r#"
import time
def handler(event, context):
    print("begun", flush=True)
    time.sleep(event)
    return "ok"
"#;
const ECHOES: &str = "export const handler = async (event) => event;";

/// How long a function under load may take.
const TIMEOUT: u64 = 2;

/// A server with a victim and two neighbours.
async fn start(victim: &str) -> (Server, Holdings) {
    let settings = [("pool.stem_min", "1"), ("pool.stem_max", "2")];
    let server = Server::start(&settings);
    let limits = |language| json!({"timeout": TIMEOUT, "language": language});
    server.deploy("victim", victim, limits("python")).await;
    server.deploy("works", WORKS, limits("python")).await;
    server.deploy("echoes", ECHOES, limits("javascript")).await;
    let before = Holdings::of(&server).await;
    (server, before)
}

async fn load(server: &Server, event: Value) -> Load {
    let stream = |function, event, callers| Stream {
        function,
        event,
        callers,
        within: Duration::from_secs(TIMEOUT),
    };
    let streams = [
        stream("victim", event, 2),
        stream("works", json!(0.02), 2),
        stream("echoes", json!("e"), 1),
    ];
    Load::begin(server, &streams).await
}

/// The container of the worker that printed last, and its process.
pub(crate) async fn process(server: &Server, function: &str) -> Option<(String, Pid)> {
    let worker = worker(server, function).await;
    let found = containers::labelled(&format!("hearth.worker={worker}"));
    // It may be gone already, for what was done to it before.
    let container = found.first()?.clone();
    let pid = containers::inspect(&container)?["State"]["Pid"].as_i64()?;
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some((container, Pid::from_raw(pid)))
}

/// What has just ended needs no signal.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    let sent = kill(pid, signal);
    assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{sent:?}");
}

/// It heals: everybody is served again, and nothing is left but what was there before.
async fn heals(server: &Server, load: Load, before: &Holdings) -> Outcomes {
    load.goes_on(5).await;
    let outcomes = load.end().await;
    assert!(outcomes.served() > 0);
    for (function, event) in [
        ("victim", json!(0)),
        ("works", json!(0)),
        ("echoes", json!(0)),
    ] {
        server.call(function, &event).await.expect(200);
    }
    before.are_all_of(server).await;
    outcomes
}

async fn ended(server: &Server, reason: &str) {
    let labels = [("reason", reason)];
    server
        .measured("hearth_workers_ended_total", &labels, |n| n >= 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_under_load() {
    let (server, before) = start(WORKS).await;
    server.expects("idle worker died");
    let load = load(&server, json!(0.1)).await;
    for _ in 0..5 {
        if let Some((_, pid)) = process(&server, "victim").await {
            signal(pid, Signal::SIGKILL);
        }
        load.goes_on(3).await;
    }
    let outcomes = heals(&server, load, &before).await;
    outcomes.only(&[], &[("victim", "worker_exited")]);
    ended(&server, "died").await;
    let lost = server.log_line("worker lost");
    assert_eq!(lost["function"], "victim", "{lost}");
    assert!(
        lost["cause"].as_str().unwrap().contains("SIGKILL"),
        "{lost}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_stopped_under_load() {
    for how in ["stopped", "frozen"] {
        let (server, before) = start(WORKS).await;
        server.expects("worker stands still and is killed");
        server.call("victim", &json!(0)).await.expect(200);
        let stop = async || {
            let Some((container, pid)) = process(&server, "victim").await else {
                return;
            };
            match how {
                "stopped" => signal(pid, Signal::SIGSTOP),
                _ => drop(containers::docker(&["pause", &container])),
            }
        };
        // Idle, it is noticed while nobody calls; by a call that comes sooner, too, but that one waits for it.
        stop().await;
        ended(&server, how).await;
        let answer = server.call("victim", &json!(0)).await.expect(200);
        assert_ne!(answer.start(), "warm");
        let starts = server.client.get("/functions/victim/starts").await;
        let starts = starts.expect(200).json();
        assert_eq!(starts["items"][0]["ended_by"], how, "{starts}");

        let load = load(&server, json!(0.1)).await;
        for _ in 0..3 {
            stop().await;
            load.goes_on(3).await;
        }
        let outcomes = heals(&server, load, &before).await;
        outcomes.only(&[], &[("victim", "timeout")]);
        ended(&server, how).await;
        let still = server.log_line("stands still");
        assert_eq!(
            (&still["function"], &still["how"]),
            (&json!("victim"), &json!(how))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_talk_nonsense_under_load() {
    let liar = r#"
import os, random
LIES = ["ff" * 64, "000000006300000000000000", "7fffffff0800000000000001", "000000000800000100000001",
        "0000000201000000000000007b7d", "0000000208000000000003e77b7d", "0000000207000000000000017b7d", "000000"]
def connection():
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + fd).startswith("socket:"):
                return int(fd)
        except OSError:
            pass
def handler(event, context):
    if random.random() < event:
        print("about to lie", flush=True)
        os.write(connection(), bytes.fromhex(random.choice(LIES)))
    return "ok"
"#;
    let (server, before) = start(liar).await;
    let load = load(&server, json!(0.1)).await;
    load.meets("victim", "protocol_error").await;
    load.goes_on(20).await;
    let outcomes = heals(&server, load, &before).await;
    outcomes.only(&[], &[("victim", "protocol_error")]);
    ended(&server, "protocol").await;
    let lost = server.log_line("worker lost");
    assert_eq!(lost["function"], "victim", "{lost}");
    assert!(
        lost["cause"].as_str().unwrap().contains("protocol"),
        "{lost}"
    );
}

/// A stem worker that stands still is not a function's that is slow to load.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_stem_worker_is_given_to_nobody() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    server.settled(1).await;
    for container in server.state().containers() {
        containers::docker(&["pause", &container]).expect("it is paused");
    }
    let code = "def handler(event, context): return 1";
    server.deploy("lively", code, json!({})).await;
    let answer = server.call("lively", &json!({})).await.expect(200);
    assert_eq!(answer.start(), "cold");
}
