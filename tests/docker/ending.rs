//! How a server ends, and what it finds when it comes back.

use std::time::{Duration, Instant};

use http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Answer;
use crate::load::{Load, Stream};
use crate::server::Server;
use crate::wait::{PATIENCE, eventually};
use crate::{containers, languages, sweep};

const SLEEPS: &str = "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(event)\n    return 'done'";

/// Begins a call of this many seconds, and waits until it runs.
async fn begin(server: &Server, name: &str, seconds: u64) -> JoinHandle<hyper::Result<Answer>> {
    let client = server.client.clone();
    let path = format!("/functions/{name}/execute");
    let call = tokio::spawn(async move {
        let mut connection = client.connect().await.unwrap();
        connection.post(&path, &json!(seconds)).await
    });
    server.printed(name, "begun").await;
    call
}

fn expects_interruption(server: &Server) {
    server.expects("call failed");
    // It may have been removed before anybody looked.
    server.expects("how a worker ended cannot be learnt");
}

/// The caller is told that it was not the function's doing.
async fn interrupted(call: JoinHandle<hyper::Result<Answer>>) {
    let answer = call.await.unwrap().expect("an answer");
    let error = answer.error(503);
    assert_eq!(error["code"], "interrupted", "{error}");
    assert_eq!(
        (&error["blame"], &error["retry"]),
        (&json!("platform"), &json!("unsafe"))
    );
}

async fn refuses(server: &Server) {
    eventually("the door to be closed", || async {
        server.client.connect().await.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_finishes_what_is_under_way_and_takes_nothing_new() {
    let settings = [
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
        ("server.header_timeout", "10m"),
    ];
    let mut server = Server::start(&settings);
    server.deploy("slow", SLEEPS, json!({"timeout": 60})).await;
    // Neither connections without a call nor somebody who follows a log keep it from ending.
    let _silent = server.client.connect().await.unwrap();
    let mut open = server.client.connect().await.unwrap();
    open.post("/functions/execute", &json!([]))
        .await
        .unwrap()
        .expect(200);
    let path = "/functions/slow/logs?follow=true";
    let mut followed = server.client.open(Method::GET, path, "").await;
    let call = begin(&server, "slow", 3).await;
    server.signal(Signal::SIGTERM);
    refuses(&server).await;
    assert!(!call.is_finished());
    let answer = call.await.unwrap().unwrap().expect(200);
    assert_eq!(answer.json(), "done");
    assert!(server.ended().expect("it ends").success());
    while let Ok(Some(_)) = followed.piece().await {}
    assert!(!server.state().path().join("instance.json").exists());
    let left = server.state().containers();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_grace_period_is_cut_off() {
    let mut server = Server::start(&[("server.drain_grace", "1s"), ("pool.stem_min", "0")]);
    expects_interruption(&server);
    server.deploy("slow", SLEEPS, json!({"timeout": 600})).await;
    let call = begin(&server, "slow", 500).await;
    server.signal(Signal::SIGTERM);
    assert!(server.ended().expect("it ends").success());
    interrupted(call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&[("server.drain_grace", "5m"), ("pool.stem_min", "0")]);
    server.expects("second signal");
    expects_interruption(&server);
    server.deploy("slow", SLEEPS, json!({"timeout": 600})).await;
    let call = begin(&server, "slow", 500).await;
    server.signal(Signal::SIGTERM);
    refuses(&server).await;
    assert!(!call.is_finished());
    let from = Instant::now();
    server.signal(Signal::SIGINT);
    assert!(server.ended().expect("it ends").success());
    assert!(
        from.elapsed() < Duration::from_secs(30),
        "{:?}",
        from.elapsed()
    );
    interrupted(call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_leftovers_are_removed_and_everything_deployed_answers() {
    let settings = [("pool.stem_min", "1"), ("pool.stem_max", "1")];
    let server = Server::start(&settings);
    let mut deployed = Vec::new();
    for runtime in languages::all() {
        let (_, text) = languages::template(&runtime);
        let name = format!("kept-{}", runtime.names[0]);
        let body = json!({"language": runtime.id.as_str(), "environment": {"A": "ü"}, "route": format!("/kept/{name}")});
        server.deploy(&name, &text, body).await;
        let change = json!({"description": "changed", "memory": 160});
        let path = format!("/functions/{name}");
        let function = server.client.put(&path, &change).await.expect(200).json();
        server.call(&name, &json!({})).await.expect(200);
        deployed.push((name, function));
    }
    server.deploy("deleted", SLEEPS, json!({})).await;
    server.client.delete("/functions/deleted").await.expect(204);
    server
        .deploy("slow", SLEEPS, json!({"timeout": 600, "network": "egress"}))
        .await;
    let call = begin(&server, "slow", 500).await;
    let key = server.client.key.clone();
    // The last that was acknowledged.
    let last = server
        .deploy(
            "last",
            "def handler(event, context): return 'kept'",
            json!({}),
        )
        .await;
    let state = server.crash();
    assert!(call.await.unwrap().is_err());
    let leftovers = state.containers();
    assert!(
        leftovers.len() >= 4,
        "idle, busy, stem and holder: {leftovers:?}"
    );
    let directories = state.worker_directories();
    assert!(!directories.is_empty());

    let server = Server::start_on(state, &settings);
    assert_eq!(server.client.key, key, "the key stays");
    for container in &leftovers {
        assert!(
            containers::inspect(container).is_none(),
            "{container} was left"
        );
    }
    assert!(directories.iter().all(|directory| !directory.exists()));
    for (name, function) in deployed {
        let found = server
            .client
            .get(&format!("/functions/{name}"))
            .await
            .expect(200)
            .json();
        assert_eq!(found, function);
        let answer = server
            .call(&name, &json!({"name": "Ada"}))
            .await
            .expect(200);
        assert_eq!(answer.json()["message"], "Hello, Ada!");
    }
    assert_eq!(
        server
            .client
            .get("/functions/last")
            .await
            .expect(200)
            .json(),
        last
    );
    assert_eq!(
        server.call("last", &json!({})).await.expect(200).json(),
        "kept"
    );
    server.call("deleted", &json!({})).await.error(404);
    assert_eq!(
        server.call("slow", &json!(0)).await.expect(200).json(),
        "done"
    );
}

/// At no moment in particular: calls and deploys are under way, workers are being made.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_comes_back_with_all_it_acknowledged() {
    let settings = [("pool.stem_min", "1"), ("pool.stem_max", "2")];
    let mut server = Server::start(&settings);
    let streams = ["one", "two"].map(|function| Stream {
        function,
        event: json!(0.02),
        callers: 2,
        within: Duration::from_secs(5),
    });
    for stream in &streams {
        server
            .deploy(stream.function, SLEEPS, json!({"timeout": 5}))
            .await;
    }
    let load = Load::begin(&server, &streams).await;
    let client = server.client.clone();
    let (acknowledge, mut acknowledged) = watch::channel(Vec::new());
    let deployer = tokio::spawn(async move {
        let mut connection = client.connect().await.unwrap();
        for n in 0.. {
            let name = format!("deployed-{n}");
            let code = format!("def handler(event, context): return {n}");
            let body = json!({"name": name, "language": "python", "code": code});
            let Ok(answer) = connection.post("/functions/", &body).await else {
                break;
            };
            answer.expect(201);
            acknowledge.send_modify(|names| names.push(name));
        }
    });
    let enough = tokio::time::timeout(PATIENCE, acknowledged.wait_for(|names| names.len() >= 10));
    drop(enough.await.expect("ten deploys").unwrap());
    let leftovers = server.state().containers();
    assert!(!leftovers.is_empty());
    server.kill();
    deployer.await.unwrap();
    // Whoever called has no answer, which is all that can be said to them; nobody was told anything wrong before.
    let outcomes = load.end().await;
    let cut = [("one", "connection"), ("two", "connection")];
    assert!(outcomes.only(&cut, &[]) > 0);

    let server = Server::start_on(server.crash(), &settings);
    for container in &leftovers {
        assert!(
            containers::inspect(container).is_none(),
            "{container} was left"
        );
    }
    let removed = [("kind", "container")];
    let removed = server
        .metrics()
        .await
        .sum("hearth_leftovers_total", &removed);
    assert!(removed >= leftovers.len() as f64 - 1.0, "{removed}");
    let swept = server.log_line("leftovers removed");
    assert!(
        swept["swept"].as_str().unwrap().contains("left: 0"),
        "{swept}"
    );
    let names = acknowledged.borrow().clone();
    for (n, name) in names.iter().enumerate() {
        let found = server.client.get(&format!("/functions/{name}")).await;
        found.expect(200);
        if n % 4 == 0 {
            assert_eq!(server.call(name, &json!({})).await.expect(200).json(), n);
        }
    }
    let load = Load::begin(&server, &streams).await;
    load.goes_on(5).await;
    assert_eq!(load.end().await.only(&[], &[]), 0);
    sweep::swept(&server).await;
}
