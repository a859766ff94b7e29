//! The engine goes away, hangs and comes back while the server runs.

use std::time::{Duration, Instant};

use http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::dockerd::Dockerd;
use crate::failing::worker;
use crate::images::one_runtime;
use crate::load::{Load, Stream};
use crate::proxy::Mode;
use crate::server::{Server, State};
use crate::sweep::Holdings;
use crate::wait::eventually;
use crate::{containers, languages};

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

/// What a health check by ping would go by.
async fn pings(server: &Server) -> bool {
    let Ok(mut stream) = UnixStream::connect(server.proxy().path()).await else {
        return false;
    };
    let ping = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n";
    stream.write_all(ping).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    answer[..n].starts_with(b"HTTP/1.1 200")
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
    let before = Holdings::of(&server).await;
    let load = Load::begin(
        &server,
        &[Stream {
            function: "warm",
            event: json!(0),
            callers: 2,
            within: Duration::from_secs(1),
        }],
    )
    .await;
    server.proxy().set(mode).await;
    assert_eq!(pings(&server).await, mode == Mode::Hang);

    // By whatever workers there are: a start that is beyond the engine may still end, and its caller is told so.
    let warm = async || {
        for _ in 0..10 {
            server.call("warm", &json!(0)).await.expect(200);
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
    // What hung is cut now; whoever was to be served by it is told to try again.
    let served = eventually("a new worker", || async {
        let answer = server.call("new", &json!(0)).await;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(served.await.start(), "cold");
    server.call("meanwhile", &json!(0)).await.expect(200);
    server.call("late", &json!(0)).await.expect(200);
    warm().await;
    server
        .measured("hearth_engine_up", &[], |up| up == 1.0)
        .await;
    server.wait_ready();
    let down = server.log_line("engine does not answer");
    assert!(down["error"].as_str().unwrap().contains("info"), "{down}");
    // Those who need no engine have noticed nothing at all.
    load.goes_on(5).await;
    assert_eq!(load.end().await.only(&[], &[]), 0);
    // The one that could not be removed is, in the end.
    before.are_all_of(&server).await;
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

/// A real engine that goes and comes back takes its containers with it, however it goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_restarted_under_load() {
    let runtimes = languages::all();
    let runtime = runtimes.into_iter().find(|r| r.answers_to("python"));
    let mut engine = Dockerd::start(&[runtime.unwrap()]).await;
    let socket = engine.socket();
    for how in [Signal::SIGTERM, Signal::SIGKILL] {
        let state = State::on(&socket);
        let (runtimes, _) = one_runtime(&state);
        let settings = [
            ("engine.socket", socket.to_str().unwrap()),
            ("engine.call_timeout", "10s"),
            ("runtimes.dir", runtimes.to_str().unwrap()),
            ("pool.stem_min", "1"),
            ("pool.stem_max", "2"),
        ];
        let server = Server::start_on(state, &settings);
        for text in [
            "call failed",
            "container cannot be",
            "container left behind",
            "engine does not answer",
            "how a worker ended cannot be learnt",
            "idle worker died",
        ] {
            server.expects(text);
        }
        let mut streams = Vec::new();
        for function in ["one", "two"] {
            server.deploy(function, TELLS, json!({"timeout": 2})).await;
            streams.push(Stream {
                function,
                event: json!(0.05),
                callers: 2,
                // Without an engine, as long as a call to it may take.
                within: Duration::from_secs(12),
            });
        }
        let before = Holdings::of(&server).await;
        let load = Load::begin(&server, &streams).await;
        engine.end(how);
        server
            .measured("hearth_engine_up", &[], |up| up == 0.0)
            .await;
        server.client.get("/readyz").await.expect(503);
        if how == Signal::SIGKILL {
            // Its containers are still there, and need no engine to be called.
            load.goes_on(5).await;
        }
        engine.again();
        load.goes_on(5).await;
        server.wait_ready();
        let outcomes = load.end().await;
        let died = [("one", "worker_exited"), ("two", "worker_exited")];
        let none = [
            ("one", "start_failed"),
            ("two", "start_failed"),
            ("one", "waited_too_long"),
            ("two", "waited_too_long"),
        ];
        let may = [&died[..], &none[..]].concat();
        assert!(outcomes.only(&may, &[]) > 0, "{how}");
        before.are_all_of(&server).await;
        let down = server.log_line("engine does not answer");
        let unreachable = [("reason", "unreachable")];
        let errors = server.metrics().await;
        assert!(
            errors.sum("hearth_engine_errors_total", &unreachable) > 0.0,
            "{down}"
        );
    }
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
