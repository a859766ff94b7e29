//! Changing a function while it is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::server::Server;

const UPDATES: u64 = 6;

fn source(language: &str, version: u64) -> String {
    match language {
        "python" => format!(
            "import time\ndef handler(event, context):\n    time.sleep(event)\n    return {version}"
        ),
        _ => format!(
            "export const handler = async (event) => {{ await new Promise((r) => setTimeout(r, event * 1000)); return {version} }}"
        ),
    }
}

/// Clients call without a pause while the code is changed again and again. What was answered with 200 before a call began is the least
/// that the call may run; what was asked for by its end the most; and no call may fail.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_begins_after_the_answer_runs_the_new_code() {
    let server = Server::shared();
    let mut running = Vec::new();
    for language in ["python", "javascript"] {
        let name = format!("changing-{language}");
        let settings = json!({"language": language, "timeout": 60});
        server.deploy(&name, &source(language, 0), settings).await;
        running.push(hammer(server.clone(), language, name));
    }
    for calls in futures_util::future::join_all(running).await {
        // What the waits between the changes add up to; how many more there are is the machine's business.
        assert!(calls > UPDATES * 5, "only {calls} calls");
    }
}

async fn hammer(server: Arc<Server>, language: &'static str, name: String) -> u64 {
    let (asked, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let path = format!("/functions/{name}/execute");
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (client, path) = (server.client.clone(), path.clone());
            let (asked, answered) = (asked.clone(), answered.clone());
            let (done, calls) = (done.clone(), calls.clone());
            tokio::spawn(async move {
                let mut connection = client.connect().await.unwrap();
                while !done.load(Ordering::SeqCst) {
                    let least = answered.load(Ordering::SeqCst);
                    let answer = connection.post(&path, &json!(0)).await.unwrap();
                    let ran = answer.expect(200).json().as_u64().unwrap();
                    let most = asked.load(Ordering::SeqCst);
                    assert!(
                        (least..=most).contains(&ran),
                        "{ran} ran, not {least}..={most}"
                    );
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for version in 1..=UPDATES {
        // One that begins on the old code, and is under way for the whole change.
        let under_way = {
            let (client, path) = (server.client.clone(), path.clone());
            tokio::spawn(async move { client.post(&path, &json!(1)).await })
        };
        let before = calls.load(Ordering::SeqCst);
        crate::wait::eventually("calls on this code", || async {
            (calls.load(Ordering::SeqCst) > before + 5).then_some(())
        })
        .await;
        asked.store(version, Ordering::SeqCst);
        let change = json!({"code": source(language, version)});
        let changed = server
            .client
            .put(&format!("/functions/{name}"), &change)
            .await
            .expect(200);
        answered.store(version, Ordering::SeqCst);
        let new = changed.json()["version"].as_str().unwrap().to_owned();
        let answer = under_way.await.unwrap().expect(200);
        assert_eq!(
            answer.json(),
            version - 1,
            "it finishes on the code it began with"
        );
        assert!(!new.starts_with(answer.header("x-hearth-version")));
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(
        server.call(&name, &json!(0)).await.expect(200).json(),
        UPDATES
    );
    calls.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_no_worker_sees_keeps_the_warm_ones() {
    let server = Server::shared();
    server.deploy("kept", &source("python", 1), json!({})).await;
    server.call("kept", &json!(0)).await.expect(200);
    let change =
        json!({"description": "new", "tags": {"a": "b"}, "timeout": 7, "max_concurrency": 5});
    server
        .client
        .put("/functions/kept", &change)
        .await
        .expect(200);
    assert_eq!(
        server.call("kept", &json!(0)).await.expect(200).start(),
        "warm"
    );
    let change = json!({"environment": {"A": "b"}});
    server
        .client
        .put("/functions/kept", &change)
        .await
        .expect(200);
    assert_ne!(
        server.call("kept", &json!(0)).await.expect(200).start(),
        "warm"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_from_an_old_revision_is_refused() {
    let server = Server::shared();
    let function = server
        .deploy("revised", &source("python", 1), json!({}))
        .await;
    let revision = function["revision"].as_u64().unwrap();
    let change = json!({"description": "first", "revision": revision});
    let changed = server
        .client
        .put("/functions/revised", &change)
        .await
        .expect(200)
        .json();
    assert_eq!(changed["revision"], revision + 1);
    let late = json!({"description": "second", "revision": revision});
    let error = server
        .client
        .put("/functions/revised", &late)
        .await
        .error(409);
    assert_eq!(error["code"], "stale_revision");
    let now = server
        .client
        .get("/functions/revised")
        .await
        .expect(200)
        .json();
    assert_eq!(now["description"], "first");
}

/// Deleted and made again under the same name, it is another function.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_made_again_never_answers_with_the_old_code() {
    let server = Server::shared();
    for version in 1..=3 {
        server
            .deploy("again", &source("python", version), json!({}))
            .await;
        assert_eq!(
            server.call("again", &json!(0)).await.expect(200).json(),
            version
        );
        server.client.delete("/functions/again").await.expect(204);
        server.call("again", &json!(0)).await.error(404);
    }
}
