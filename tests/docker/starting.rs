//! The ledger of starts: every cause there is, brought about and found.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::server::{Server, without_settings};
use crate::wait::eventually;

const CODE: &str = "\
import os, time
def handler(event, context):
    if event == 'die':
        os._exit(3)
    if event:
        print('begun', flush=True)
        time.sleep(event)
    return 1
";

/// The starts of a function, the newest first.
async fn starts(server: &Server, name: &str) -> Vec<Value> {
    let path = format!("/functions/{name}/starts");
    let page = server.client.get(&path).await.expect(200).json();
    page["items"].as_array().unwrap().clone()
}

/// The newest start, which must be of this cause.
async fn newest(server: &Server, name: &str, cause: &str) -> Value {
    let starts = starts(server, name).await;
    assert_eq!(starts[0]["cause"], cause, "{starts:?}");
    starts[0].clone()
}

/// What is counted of starts is what the ledgers of these functions tell, which are all there are.
async fn counted_as_told(server: &Server, names: &[&str]) {
    let mut told = BTreeMap::<[String; 3], f64>::new();
    let mut missed = BTreeMap::<String, f64>::new();
    for name in names {
        for start in starts(server, name).await {
            let text = |field: &str| start[field].as_str().map(str::to_owned);
            let outcome = if start["error"].is_null() {
                "ok"
            } else {
                "error"
            };
            let labels = [
                text("kind").unwrap(),
                outcome.into(),
                text("cause").unwrap(),
            ];
            *told.entry(labels).or_default() += 1.0;
            if let Some(reason) = text("not_stem") {
                *missed.entry(reason).or_default() += 1.0;
            }
        }
    }
    let metrics = server.metrics().await;
    for ([kind, outcome, cause], count) in &told {
        let labels = [("kind", kind), ("outcome", outcome), ("cause", cause)];
        let labels = labels.map(|(label, value)| (label, value.as_str()));
        let counted = metrics.sum("hearth_starts_total", &labels);
        assert_eq!(counted, *count, "{labels:?} of {told:?}");
    }
    for (reason, count) in &missed {
        let counted = metrics.sum("hearth_stem_misses_total", &[("reason", reason)]);
        assert_eq!(counted, *count, "{reason} of {missed:?}");
    }
    // And nothing else.
    let all = |name| metrics.sum(name, &[]);
    assert_eq!(all("hearth_starts_total"), told.values().sum::<f64>());
    assert_eq!(
        all("hearth_stem_misses_total"),
        missed.values().sum::<f64>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_knows_why_a_worker_was_started() {
    // One of its own, whose counters nobody else moves.
    let server = Arc::new(Server::start(&[
        ("pool.stem_min", "1"),
        ("pool.stem_max", "1"),
    ]));
    let name = "ledgered";
    server.deploy(name, CODE, json!({})).await;
    assert_eq!(starts(&server, name).await, [Value::Null; 0]);
    let answer = server.call(name, &json!(0)).await.expect(200);
    let first = newest(&server, name, "first_call").await;
    assert_eq!(first["kind"], answer.start());
    assert!(
        first["worker"].is_string() && first["error"].is_null(),
        "{first}"
    );
    assert_eq!(first["not_stem"].is_null(), answer.start() == "stem");
    assert!(first["init_ms"].as_f64().unwrap() > 0.0);
    server.call(name, &json!(0)).await.expect(200);
    assert_eq!(
        starts(&server, name).await.len(),
        1,
        "a warm call starts nothing"
    );

    let busy = {
        let server = server.clone();
        tokio::spawn(async move { server.call(name, &json!(60)).await })
    };
    server.printed(name, "begun").await;
    server.call(name, &json!(0)).await.expect(200);
    assert_eq!(newest(&server, name, "scale_out").await["workers"], 1);
    busy.abort();

    let code = CODE.replace("return 1", "return 2");
    let changed = json!({ "code": code });
    let path = format!("/functions/{name}");
    server.client.put(&path, &changed).await.expect(200);
    server.call(name, &json!(0)).await.expect(200);
    let changed = newest(&server, name, "version_changed").await;
    assert_ne!(changed["digest"], first["digest"]);

    server.call(name, &json!("die")).await.error(502);
    server.call(name, &json!(0)).await.expect(200);
    let crashed = newest(&server, name, "crashed").await;
    assert_eq!(crashed["ended_by"], "died");
    assert!(crashed["caused_at"].as_str() < crashed["at"].as_str());

    // A page at a time, and what is no page is refused.
    let page = format!("/functions/{name}/starts?limit=3");
    let page = server.client.get(&page).await.expect(200).json();
    assert_eq!(page["next"], page["items"][2]["sequence"].to_string());
    let rest = format!("/functions/{name}/starts?cursor=1");
    let rest = server.client.get(&rest).await.expect(200).json();
    assert_eq!((&rest["items"][0], &rest["next"]), (&first, &Value::Null));
    for wrong in ["limit=0", "limit=201", "cursor=x", "page=1"] {
        let path = format!("/functions/{name}/starts?{wrong}");
        server.client.send(Method::GET, &path, "").await.error(400);
    }
    server
        .client
        .get("/functions/nobody/starts")
        .await
        .error(404);

    server
        .deploy("never-loads", "raise ValueError", json!({}))
        .await;
    server.call("never-loads", &json!(0)).await.error(502);
    let failed = newest(&server, "never-loads", "first_call").await;
    assert_eq!(
        (&failed["error"], &failed["worker"]),
        (&json!("init_error"), &Value::Null)
    );

    // Kept ready before anybody calls.
    let versions = format!("/functions/{name}/versions");
    server.client.post(&versions, &json!({})).await.expect(201);
    let ready = format!("/functions/{name}/provisioned-concurrency?qualifier=1");
    let wish = json!({ "requested": 1 });
    server.client.put(&ready, &wish).await.expect(202);
    eventually("a worker that is kept ready", || async {
        let now = server.client.get(&ready).await.expect(200).json();
        (now["items"][0]["status"] == "READY").then_some(())
    })
    .await;
    newest(&server, name, "provisioned").await;
    counted_as_told(&server, &[name, "never-loads"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_knows_who_was_killed_and_who_had_to_make_room() {
    let server = Server::start(&[
        ("pool.memory_budget_mb", "256"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ]);
    for (name, timeout) in [("slow", 2), ("other", 60), ("third", 60)] {
        server.deploy(name, CODE, json!({"timeout": timeout})).await;
    }
    server.call("slow", &json!(0)).await.expect(200);
    let first = newest(&server, "slow", "first_call").await;
    assert_eq!(
        (&first["kind"], &first["not_stem"]),
        (&json!("cold"), &json!("stem_pool_empty"))
    );
    assert!(first["start_ms"].as_f64().unwrap() > 0.0, "{first}");
    server.call("slow", &json!(60)).await.error(504);
    eventually("the worker to be gone", || async {
        server.state().containers().is_empty().then_some(())
    })
    .await;
    server.call("slow", &json!(0)).await.expect(200);
    let cancelled = newest(&server, "slow", "cancelled").await;
    assert_eq!(cancelled["ended_by"], "timeout");

    // There is room for two.
    server.call("other", &json!(0)).await.expect(200);
    server.call("third", &json!(0)).await.expect(200);
    let mut evicted = None;
    for name in ["slow", "other"] {
        if server.call(name, &json!(0)).await.expect(200).start() != "warm" {
            evicted = Some(newest(&server, name, "evicted").await);
            break;
        }
    }
    let evicted = evicted.expect("one of the two made room");
    assert_eq!(evicted["in_favour_of"], "third");
    assert_eq!(evicted["rule"], "pool.memory_budget_mb");
    assert!(evicted["caused_at"].as_str() < evicted["at"].as_str());
    // And as those see it who look at the pool.
    let seen = server.client.get("/overview").await.expect(200).json();
    let evictions = seen["pool"]["evictions"].as_array().unwrap();
    let same = |e: &&Value| e["at"] == evicted["caused_at"] || e["in_favour_of"] == "third";
    let eviction = evictions.iter().find(same).expect("it is told");
    assert_eq!(eviction["rule"], "pool.memory_budget_mb");
    assert!(["slow", "other"].contains(&eviction["function"].as_str().unwrap()));
    assert_eq!(json!(evictions.len()), seen["pool"]["evicted"]);

    counted_as_told(&server, &["slow", "other", "third"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_a_network_of_its_own_takes_no_stem_worker_and_says_so() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    server.settled(1).await;
    let settings = json!({"network": "egress"});
    server.deploy("outward", CODE, settings).await;
    server.deploy("inward", CODE, json!({})).await;
    server.call("outward", &json!(0)).await.expect(200);
    server.call("inward", &json!(0)).await.expect(200);
    let outward = newest(&server, "outward", "first_call").await;
    assert_eq!(
        (&outward["kind"], &outward["not_stem"]),
        (&json!("cold"), &json!("own_network"))
    );
    let inward = newest(&server, "inward", "first_call").await;
    assert_eq!(
        (&inward["kind"], &inward["not_stem"]),
        (&json!("stem"), &Value::Null)
    );

    counted_as_told(&server, &["outward", "inward"]).await;

    // As a person asks.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    without_settings(&mut command)
        .args(["starts", "outward"])
        .env("HEARTH_STATE_DIR", server.state().path());
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    let line = said
        .lines()
        .find(|line| line.contains("cold"))
        .expect(&said);
    assert!(line.contains("it had not been called before"), "{line}");
}
