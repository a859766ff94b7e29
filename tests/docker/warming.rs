//! The pool: what is warm when, what that costs, and what gives way.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::client::Opened;
use crate::languages;
use crate::proxy::Mode;
use crate::server::{Metrics, Server};
use crate::wait::eventually;

const SLEEPS: &str = r#"
import time
def handler(event, context):
    print("begun", flush=True)
    time.sleep(event)
    return "ok"
"#;

/// Calls to the engine that have ended, but for the ones that only look whether it is there.
fn engine_calls(metrics: &Metrics) -> f64 {
    let of = |labels: &[(&str, &str)]| metrics.sum("hearth_engine_call_seconds_count", labels);
    of(&[]) - of(&[("operation", "info")]) - of(&[("operation", "version")])
}

/// The budget has room for one worker of each runtime, so that nothing is created in the place of the stem worker that is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_that_finds_a_stem_worker_asks_nothing_of_the_engine() {
    let runtimes = languages::all();
    let budget: u32 = runtimes.iter().map(|runtime| runtime.stem_memory.0).sum();
    let settings = [
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
        ("pool.memory_budget_mb", &budget.to_string()),
    ];
    let server = Server::start(&settings);
    server.settled(1).await;
    for runtime in &runtimes {
        let name = format!("first-{}", runtime.names[0]);
        let (_, text) = languages::template(runtime);
        server
            .deploy(&name, &text, json!({"language": runtime.id.as_str()}))
            .await;
        let before = engine_calls(&server.metrics().await);
        assert!(before > 0.0, "containers were created");
        let answer = server.call(&name, &json!({})).await.expect(200);
        let after = engine_calls(&server.metrics().await);
        assert_eq!(answer.start(), "stem");
        assert_eq!(after, before, "calls to the engine");
        assert!(answer.phase("start").is_zero(), "{:?}", answer.headers);
        // Nor does a warm one.
        for _ in 0..20 {
            assert_eq!(
                server.call(&name, &json!({})).await.expect(200).start(),
                "warm"
            );
        }
        assert_eq!(engine_calls(&server.metrics().await), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stem_workers_follow_demand_between_their_bounds() {
    let settings = [
        ("pool.stem_min", "1"),
        ("pool.stem_max", "3"),
        ("pool.stem_window", "6s"),
    ];
    let server = Server::start(&settings);
    server.settled(1).await;
    let names = ["d1", "d2", "d3", "d4"];
    for name in names {
        server.deploy(name, SLEEPS, json!({})).await;
    }
    let calls = names.map(|name| async { server.call(name, &json!(0)).await.expect(200) });
    futures_util::future::join_all(calls).await;
    // Four were wanted at once; the bound is three.
    let stems = [("runtime", "python3.13")];
    let of_other = [("runtime", "nodejs20.x")];
    let look = async |wanted: f64| {
        eventually("stem workers to follow", || async {
            let metrics = server.metrics().await;
            let now = metrics.sum("hearth_stem_workers", &stems);
            assert!(now <= 3.0, "{now} stem workers");
            assert!(
                metrics.sum("hearth_stem_workers", &of_other) <= 1.0,
                "nobody asked for those"
            );
            (now == wanted).then_some(())
        })
        .await;
    };
    look(3.0).await;
    // Demand of before the window is forgotten, and so are the workers made for it.
    look(1.0).await;
}

/// A server whose engine is watched.
fn watched(settings: &[(&str, &str)]) -> Server {
    let mut all = vec![("pool.stem_min", "0"), ("pool.stem_max", "0")];
    all.extend(settings);
    let server = Server::spawn_behind(Mode::Forward, &all);
    server.wait_ready();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_first_calls_creates_no_more_at_once_than_there_are_lanes() {
    let server = watched(&[("engine.lanes", "2")]);
    let names: Vec<String> = (0..6).map(|n| format!("burst-{n}")).collect();
    for name in &names {
        server.deploy(name, SLEEPS, json!({})).await;
    }
    let calls = names
        .iter()
        .map(|name| async { server.call(name, &json!(0)).await.expect(200) });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.start(), "cold");
    }
    assert_eq!(server.proxy().seen.creations.load(Ordering::SeqCst), 6);
    assert_eq!(server.proxy().seen.most_creating.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_few_workers_can_serve_starts_few() {
    let server = watched(&[("engine.lanes", "2")]);
    server
        .deploy(
            "quick",
            "def handler(event, context): return event",
            json!({}),
        )
        .await;
    let calls = (0..24).map(|n| {
        let server = &server;
        async move { server.call("quick", &json!(n)).await.expect(200).json() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().enumerate().all(|(n, answer)| *answer == n));
    let created = server.proxy().seen.creations.load(Ordering::SeqCst);
    assert!(
        created <= 4,
        "{created} containers for calls of a millisecond"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_retire_by_their_keep_alive() {
    let settings = [
        ("pool.keep_alive", "2s"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ];
    let server = Server::start(&settings);
    server.deploy("retires", SLEEPS, json!({})).await;
    server.call("retires", &json!(0)).await.expect(200);
    assert_eq!(
        server.call("retires", &json!(0)).await.expect(200).start(),
        "warm"
    );
    let ended = [("reason", "keep_alive")];
    server
        .measured("hearth_workers_ended_total", &ended, |n| n == 1.0)
        .await;
    let nothing_left = async || {
        eventually("its container and its directory to go", || async {
            let state = server.state();
            let gone = state.containers().is_empty() && state.worker_directories().is_empty();
            gone.then_some(())
        })
        .await;
    };
    nothing_left().await;
    let answer = server.call("retires", &json!(0)).await.expect(200);
    assert!(
        answer.header("server-timing").contains("cold: retired"),
        "{:?}",
        answer.headers
    );
    let starts = server.client.get("/functions/retires/starts").await;
    let newest = &starts.expect(200).json()["items"][0];
    assert_eq!(
        (&newest["cause"], &newest["rule"]),
        (&json!("keep_alive"), &json!("pool.keep_alive"))
    );
    let started = [("cause", "keep_alive"), ("outcome", "ok")];
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("hearth_starts_total", &started), 1.0);
    // Nobody can call a function that is deleted, so its workers need not wait for their time.
    server.client.delete("/functions/retires").await.expect(204);
    nothing_left().await;
    let retired = server.metrics().await;
    assert_eq!(retired.sum("hearth_workers_ended_total", &ended), 1.0);
}

/// A call that runs for as long as it is wanted.
async fn busy(server: &Server, name: &str) -> tokio::task::JoinHandle<()> {
    let before = server.lines(name, None).await.len();
    let client = server.client.clone();
    let path = format!("/functions/{name}/execute");
    let call = tokio::spawn(async move {
        let mut opened: Opened = client.open(Method::POST, &path, "100").await;
        drop(opened.piece().await);
    });
    eventually("it to run", || async {
        (server.lines(name, None).await.len() > before).then_some(())
    })
    .await;
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_budget_evicts_who_is_idle_and_never_who_is_busy() {
    let settings = [
        ("pool.memory_budget_mb", "256"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
        ("limits.max_wait", "4s"),
    ];
    let server = Server::start(&settings);
    server.expects("no_memory");
    for name in ["a", "b", "c"] {
        server.deploy(name, SLEEPS, json!({"timeout": 300})).await;
    }
    let evictions = async || server.metrics().await.sum("hearth_evictions_total", &[]);
    // a is used more than b, which makes b the one that is missed least.
    for name in ["a", "b", "a", "a", "a"] {
        server.call(name, &json!(0)).await.expect(200);
    }
    assert_eq!(evictions().await, 0.0);
    assert_eq!(
        server.call("c", &json!(0)).await.expect(200).start(),
        "cold"
    );
    assert_eq!(evictions().await, 1.0);
    assert_eq!(
        server.call("a", &json!(0)).await.expect(200).start(),
        "warm"
    );

    // Now a and c are there. A busy one is not touched for b.
    let of_a = busy(&server, "a").await;
    let answer = server.call("b", &json!(0)).await.expect(200);
    assert!(
        answer.header("server-timing").contains("cold: retired"),
        "{:?}",
        answer.headers
    );
    assert_eq!(evictions().await, 2.0);
    assert!(!of_a.is_finished());
    let of_b = busy(&server, "b").await;
    let error = server.call("c", &json!(0)).await.error(503);
    assert_eq!(
        (&error["code"], &error["retry"]),
        (&json!("no_memory"), &json!("safe"))
    );
    assert_eq!(error["blame"], "platform");
    assert!(!of_a.is_finished() && !of_b.is_finished());
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("hearth_evictions_total", &[]), 2.0);
    assert_eq!(
        metrics.sum("hearth_memory_reserved_bytes", &[]),
        256.0 * 1048576.0
    );
    assert_eq!(
        metrics.sum("hearth_memory_budget_bytes", &[]),
        256.0 * 1048576.0
    );

    // Room that becomes free is for whoever waits.
    let waits = async { server.call("c", &json!(0)).await };
    let (answer, ()) = tokio::join!(waits, async { of_a.abort() });
    answer.expect(200);
    of_b.abort();
    server
        .measured("hearth_concurrency", &[], |n| n == 0.0)
        .await;
}

/// Stem workers are a convenience: a call that needs their memory gets it.
#[tokio::test(flavor = "multi_thread")]
async fn stem_workers_give_way_to_a_call_that_needs_their_memory() {
    // One stem worker of each runtime, and not a MiB more.
    let budget: u32 = languages::all()
        .iter()
        .map(|runtime| runtime.stem_memory.0)
        .sum();
    let settings = [
        ("pool.memory_budget_mb", &*budget.to_string()),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    let server = Server::start(&settings);
    server.expects("no_memory");
    server.settled(1).await;
    server
        .deploy("large", SLEEPS, json!({"memory": budget}))
        .await;
    server.call("large", &json!(0)).await.expect(200);
    assert_eq!(
        server.call("large", &json!(0)).await.expect(200).start(),
        "warm"
    );
    // What can never fit is told so at once.
    server
        .deploy("larger", SLEEPS, json!({"memory": budget + 1}))
        .await;
    let from = Instant::now();
    let error: Value = server.call("larger", &json!(0)).await.error(503);
    assert_eq!(error["code"], "no_memory");
    assert!(
        from.elapsed() < Duration::from_secs(10),
        "{:?}",
        from.elapsed()
    );
}

/// Each of those who wait needs the memory of one idle worker, and one goes for each and no more.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_evicted_than_is_needed() {
    let settings = [
        ("pool.memory_budget_mb", "640"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ];
    let server = Server::start(&settings);
    let idle = ["i1", "i2", "i3", "i4", "i5"];
    let new = ["n1", "n2"];
    for name in idle.iter().chain(&new) {
        server.deploy(name, SLEEPS, json!({"timeout": 60})).await;
    }
    let idle = idle.map(|name| async { server.call(name, &json!(0)).await.expect(200) });
    futures_util::future::join_all(idle).await;
    let new = new.map(|name| async { server.call(name, &json!(3)).await.expect(200) });
    futures_util::future::join_all(new).await;
    assert_eq!(
        server.metrics().await.sum("hearth_evictions_total", &[]),
        2.0
    );
}
