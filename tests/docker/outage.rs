//! The engine goes away, hangs and comes back while the server runs.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::containers;
use crate::failing::worker;
use crate::languages;
use crate::proxy::Mode;
use crate::server::Server;
use crate::wait::eventually;

const TELLS: &str = "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(event)\n    return 'ok'";

fn start(mode: Mode) -> Server {
    let settings = [
        ("engine.call_timeout", "5s"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ];
    let server = Server::spawn_behind(mode, &settings);
    for text in [
        "call failed",
        "engine does not answer",
        "leftovers cannot be looked for",
        "container cannot be started",
        "container cannot be removed",
        "container left behind",
        "how a worker ended cannot be learnt",
    ] {
        server.expects(text);
    }
    server
}

async fn goes_on(mode: Mode) {
    let server = start(Mode::Forward);
    server.wait_ready();
    for name in ["warm", "new", "late"] {
        server.deploy(name, TELLS, json!({"timeout": 1})).await;
    }
    for name in ["warm", "late"] {
        server.call(name, &json!(0)).await.expect(200);
    }
    server
        .measured("hearth_engine_up", &[], |up| up == 1.0)
        .await;
    server.proxy().set(mode).await;

    let warm = async || {
        for _ in 0..10 {
            assert_eq!(
                server.call("warm", &json!(0)).await.expect(200).start(),
                "warm"
            );
        }
    };
    warm().await;
    let from = Instant::now();
    let error = server.call("new", &json!(0)).await.error(503);
    assert_eq!(
        (&error["code"], &error["blame"]),
        (&json!("start_failed"), &json!("platform")),
        "{error}"
    );
    assert_eq!(error["retry"], "safe");
    let id = error["request_id"].as_str().unwrap();
    assert!(server.log().contains(id), "the log says which call failed");
    // The deadline of an engine call, and not the minute a call may wait.
    assert!(
        from.elapsed() < Duration::from_secs(25),
        "{:?}",
        from.elapsed()
    );
    // What passes its deadline now cannot be removed now.
    let error = server.call("late", &json!(30)).await.error(504);
    assert_eq!(error["code"], "timeout");
    let metrics = server.measured("hearth_engine_up", &[], |up| up == 0.0);
    tokio::join!(warm(), metrics);
    warm().await;
    let not_ready = server.client.get("/readyz").await.expect(503).text();
    assert!(not_ready.contains("the engine"), "{not_ready}");
    // Deploying needs no engine either.
    server.deploy("meanwhile", TELLS, json!({})).await;

    server.proxy().set(Mode::Forward).await;
    assert_eq!(
        server.call("new", &json!(0)).await.expect(200).start(),
        "cold"
    );
    server.call("meanwhile", &json!(0)).await.expect(200);
    server.call("late", &json!(0)).await.expect(200);
    warm().await;
    server
        .measured("hearth_engine_up", &[], |up| up == 1.0)
        .await;
    server.wait_ready();
    // The one that could not be removed is, in the end: one worker each is left.
    eventually("only the workers that are wanted", || async {
        (server.state().containers().len() == 4).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_calls_go_on_while_there_is_no_engine() {
    goes_on(Mode::Refuse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_calls_go_on_while_the_engine_hangs() {
    goes_on(Mode::Hang).await;
}

/// A call waits for a worker no longer than it may, whatever keeps the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_has_an_end() {
    let settings = [
        ("engine.call_timeout", "15s"),
        ("limits.max_wait", "2s"),
        ("pool.stem_min", "0"),
    ];
    let server = Server::spawn_behind(Mode::Forward, &settings);
    server.wait_ready();
    for text in ["call failed", "engine does not answer", "container"] {
        server.expects(text);
    }
    server.deploy("waits", TELLS, json!({})).await;
    server.proxy().set(Mode::Hang).await;
    let answer = server.call("waits", &json!(0)).await;
    let error = answer.error(503);
    assert_eq!(error["code"], "waited_too_long", "{error}");
    let queued = answer.phase("queue");
    assert!(queued >= Duration::from_secs(2), "{queued:?}");
    assert!(queued < Duration::from_secs(10), "{queued:?}");
    server.proxy().set(Mode::Forward).await;
    eventually("the next call to be served", || async {
        (server.call("waits", &json!(0)).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_that_finds_a_stem_worker_needs_no_engine() {
    let settings = [
        ("engine.call_timeout", "5s"),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    let server = Server::spawn_behind(Mode::Forward, &settings);
    server.wait_ready();
    for text in ["engine does not answer", "container cannot be"] {
        server.expects(text);
    }
    server.settled(1).await;
    server.deploy("first", TELLS, json!({})).await;
    server.proxy().set(Mode::Refuse).await;
    let answer = server.call("first", &json!(0)).await.expect(200);
    assert_eq!(answer.start(), "stem");
    // The pool is filled again when that is possible.
    server.proxy().set(Mode::Forward).await;
    let full = languages::all().len() as f64;
    server
        .measured("hearth_stem_workers", &[], |n| n < full)
        .await;
    server.settled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_before_its_engine_says_so_and_waits_for_it() {
    let server = start(Mode::Refuse);
    assert_eq!(
        server.client.get("/healthz").await.expect(200).text(),
        "ok\n"
    );
    let not_ready = server.client.get("/readyz").await.expect(503).text();
    assert!(not_ready.contains("engine"), "{not_ready}");
    // What is deployed now is called as soon as that is possible.
    server.deploy("early", TELLS, json!({})).await;
    let client = server.client.clone();
    let call =
        tokio::spawn(async move { client.post("/functions/early/execute", &json!(0)).await });
    server
        .measured("hearth_concurrency", &[], |n| n == 1.0)
        .await;
    server.proxy().set(Mode::Forward).await;
    assert_eq!(call.await.unwrap().expect(200).json(), "ok");
    server.wait_ready();
    assert_eq!(
        server
            .client
            .send(Method::GET, "/readyz", "")
            .await
            .expect(200)
            .text(),
        "ready\n"
    );
}

/// Killing needs no engine: what runs for nobody ends, and its place is free, while there is none.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_will_not_listen_ends_without_an_engine() {
    let settings = [
        ("engine.call_timeout", "5s"),
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ];
    for mode in [Mode::Refuse, Mode::Hang] {
        let server = Server::spawn_behind(Mode::Forward, &settings);
        server.wait_ready();
        for text in [
            "engine does not answer",
            "container cannot be",
            "container left behind",
        ] {
            server.expects(text);
        }
        let code = r#"
import time
def handler(event, context):
    print("here", flush=True)
    while event:
        try:
            while True: time.sleep(1)
        except BaseException:
            pass
    return "ok"
"#;
        let alone = json!({"timeout": 1, "max_concurrency": 1});
        server.deploy("deaf", code, alone).await;
        server.call("deaf", &json!(0)).await.expect(200);
        server.settled(1).await;
        let found = worker(&server, "deaf").await;
        let found = containers::labelled(&format!("hearth.worker={found}"));
        let state = containers::inspect(&found[0]).unwrap()["State"].clone();
        let process = format!("/proc/{}", state["Pid"]);
        assert!(std::path::Path::new(&process).exists());
        server.proxy().set(mode).await;
        let error = server.call("deaf", &json!(1)).await.error(504);
        assert_eq!(error["code"], "timeout");
        // A stem worker takes its place as soon as that is free.
        let next = eventually("a place under the limit", || async {
            let answer = server.call("deaf", &json!(0)).await;
            (answer.status != 429).then_some(answer)
        })
        .await;
        assert_eq!(next.expect(200).start(), "stem");
        assert!(
            !std::path::Path::new(&process).exists(),
            "{mode:?}: the code runs on"
        );
        server.proxy().set(Mode::Forward).await;
        eventually("its container to be removed", || async {
            containers::inspect(&found[0]).is_none().then_some(())
        })
        .await;
    }
}

/// Somebody removes everything behind the server's back.
#[tokio::test(flavor = "multi_thread")]
async fn workers_removed_by_somebody_else_are_replaced() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    server.expects("idle worker died");
    server.settled(1).await;
    server
        .deploy("removed", TELLS, json!({"network": "egress"}))
        .await;
    server.deploy("removed-too", TELLS, json!({})).await;
    for name in ["removed", "removed-too"] {
        server.call(name, &json!(0)).await.expect(200);
    }
    server
        .measured("hearth_workers", &[("state", "idle")], |n| n == 2.0)
        .await;
    // The network holder is among them, and stem workers that may be on their way.
    server.expects("container cannot be started");
    let all = server.state().containers();
    containers::remove(&all);
    server
        .measured("hearth_workers", &[("state", "idle")], |n| n == 0.0)
        .await;
    for name in ["removed", "removed-too"] {
        server.call(name, &json!(0)).await.expect(200);
    }
    server.settled(1).await;
}
