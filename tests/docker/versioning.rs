//! Versions, aliases and provisioned concurrency with real containers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::server::Server;
use crate::wait::eventually;

/// Answers what it was deployed as, and what its context says it is.
fn source(language: &str, deployed: u64) -> String {
    match language {
        "python" => format!(
            "def handler(event, context):\n    return [{deployed}, context.function_version, context.invoked_function_arn]"
        ),
        _ => format!(
            "export const handler = async (event, context) => [{deployed}, context.functionVersion, context.invokedFunctionArn];"
        ),
    }
}

/// Deploys the code as the next number and publishes it.
async fn publish(server: &Server, name: &str, language: &str, number: u64) {
    let path = format!("/functions/{name}");
    let code = json!({ "code": source(language, number) });
    server.client.put(&path, &code).await.expect(200);
    let versions = format!("{path}/versions");
    let made = server.client.post(&versions, &json!({})).await.expect(201);
    assert_eq!(made.json()["number"], number);
}

/// What ran, which the answer's header must say as well.
async fn ran(server: &Server, called: &str) -> (u64, String, String) {
    let path = format!("/functions/{called}/execute");
    let answer = server.client.post(&path, &json!({})).await.expect(200);
    let told = answer.json();
    let text = |at: usize| told[at].as_str().unwrap().to_owned();
    assert_eq!(answer.header("x-amz-executed-version"), text(1));
    (told[0].as_u64().unwrap(), text(1), text(2))
}

/// Clients call an alias without a pause while it is moved, shared and moved on, and while `$LATEST` changes under it. No call may fail,
/// none may run what the alias never pointed at, and the shares are those that were stated.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_under_load_and_sends_the_stated_share() {
    let server = Server::shared();
    let languages = ["python", "javascript"].map(|language| shift(server.clone(), language));
    futures_util::future::join_all(languages).await;
}

async fn shift(server: Arc<Server>, language: &'static str) {
    const CALLS: u64 = 400;
    let name = format!("shifting-{language}");
    let settings = json!({"language": language, "timeout": 60});
    server.deploy(&name, &source(language, 0), settings).await;
    for number in [1, 2] {
        publish(&server, &name, language, number).await;
    }
    // Nobody has called anything yet, and `$LATEST` goes on.
    let path = format!("/functions/{name}");
    let latest = json!({ "code": source(language, 99) });
    server.client.put(&path, &latest).await.expect(200);
    let live = json!({"name": "live", "version": "1"});
    let aliases = format!("{path}/aliases");
    server.client.post(&aliases, &live).await.expect(201);
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
    for (called, code, version, invoked) in [
        (name.clone(), 99, "$LATEST", arn.clone()),
        (format!("{name}:1"), 1, "1", format!("{arn}:1")),
        (format!("{name}:2"), 2, "2", format!("{arn}:2")),
        (format!("{name}:live"), 1, "1", format!("{arn}:live")),
    ] {
        let wanted = (code, version.to_owned(), invoked);
        assert_eq!(ran(&server, &called).await, wanted);
    }

    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (server, done) = (server.clone(), done.clone());
            let called = format!("{name}:live");
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let (code, version, _) = ran(&server, &called).await;
                    assert!((1..=2).contains(&code), "{code} was never published");
                    assert_eq!(code.to_string(), version);
                }
            })
        })
        .collect();
    let alias = format!("{aliases}/live");
    let moved = |change: Value| {
        let (server, alias) = (server.clone(), alias.clone());
        async move {
            server.client.put(&alias, &change).await.expect(200);
        }
    };
    let second = json!({"second": {"version": "2", "weight": 0.25}});
    moved(second).await;
    let mut counts = BTreeMap::<u64, u64>::new();
    for _ in 0..CALLS {
        let (code, _, _) = ran(&server, &format!("{name}:live")).await;
        *counts.entry(code).or_default() += 1;
    }
    let chi: f64 = [(1, 0.75), (2, 0.25)]
        .into_iter()
        .map(|(code, share)| {
            let wanted = CALLS as f64 * share;
            let got = counts.get(&code).copied().unwrap_or(0) as f64;
            (got - wanted).powi(2) / wanted
        })
        .sum();
    // One degree of freedom; 24 is passed once in a million.
    assert!(chi < 24.0, "{counts:?}");

    // Everything that begins after the answer runs the other one, whatever `$LATEST` is.
    let latest = json!({ "code": source(language, 100) });
    server.client.put(&path, &latest).await.expect(200);
    moved(json!({"version": "2", "second": null})).await;
    for _ in 0..20 {
        assert_eq!(ran(&server, &format!("{name}:live")).await.0, 2);
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let held = server.client.delete(&format!("{path}/versions/2")).await;
    assert_eq!(held.error(409)["code"], "version_in_use");
    server.client.delete(&path).await.expect(204);
}

/// How it stands, once it has this status.
async fn stands(server: &Server, path: &str, status: &str) -> Value {
    eventually(status, || async {
        let read = server.client.get(path).await.expect(200).json();
        let stands = read["items"][0].clone();
        (stands["status"] == status).then_some(stands)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioned_workers_are_ready_before_it_says_so_and_again_after_a_crash() {
    const PROVISIONED: u64 = 2;
    let server = Server::shared();
    let code = "\
import os, time
def handler(event, context):
    if event == 'die':
        os._exit(3)
    time.sleep(event)
    return [context.function_version, os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']]
";
    let settings = json!({"language": "python", "timeout": 30});
    server.deploy("provisioned", code, settings).await;
    let path = "/functions/provisioned";
    let versions = format!("{path}/versions");
    server.client.post(&versions, &json!({})).await.expect(201);
    let live = json!({"name": "live", "version": "1"});
    let aliases = format!("{path}/aliases");
    server.client.post(&aliases, &live).await.expect(201);

    let provisioned = format!("{path}/provisioned-concurrency?qualifier=live");
    let wish = json!({ "requested": PROVISIONED });
    server.client.put(&provisioned, &wish).await.expect(202);
    let call = format!("{path}:live/execute");
    let round = async || {
        let ready = stands(&server, &provisioned, "READY").await;
        assert_eq!(ready["available"], PROVISIONED);
        // All at the same time: each has one to itself.
        let seconds = json!(0.3);
        let calls = (0..PROVISIONED).map(|_| server.client.post(&call, &seconds));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.start(), "warm", "{}", answer.text());
            let said = answer.expect(200).json();
            assert_eq!(said, json!(["1", "provisioned-concurrency"]));
        }
    };
    round().await;
    let died = server.client.post(&call, &json!("die")).await;
    assert_eq!(died.error(502)["code"], "worker_exited");
    round().await;
    let starts = server.client.get(&format!("{path}/starts")).await;
    let starts = starts.expect(200).json();
    let causes: Vec<_> = starts["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|start| start["cause"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        causes.iter().all(|cause| cause == "provisioned"),
        "no call waited for a start: {causes:?}"
    );
    server.client.delete(&provisioned).await.expect(204);
    server.client.get(&provisioned).await.expect(404);
    let called = format!("{path}/execute");
    let said = server.client.post(&called, &json!(0)).await.expect(200);
    assert_eq!(said.json(), json!(["$LATEST", "on-demand"]));

    // Code that does not load is told, with why.
    let broken = json!({"code": "raise ValueError('not today')"});
    server.client.put(path, &broken).await.expect(200);
    server.client.post(&versions, &json!({})).await.expect(201);
    let second = format!("{path}/provisioned-concurrency?qualifier=2");
    server.client.put(&second, &wish).await.expect(202);
    let failed = stands(&server, &second, "FAILED").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("not today"), "{reason}");
    server.client.delete(path).await.expect(204);
}
