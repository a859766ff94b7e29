//! Asynchronous calls: what was accepted is run, whatever happens to the process that accepted it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::server::{Server, State};
use crate::sharing::Redis;
use crate::sweep::swept;
use crate::wait::eventually;

const CODE: &str = "def handler(event, context):\n    print('ran', event['n'])\n    return event\n";
const SLEEPS: &str = "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(event)\n";
const FAILING: &str = "def handler(event, context):\n    raise ValueError('never')\n";

const EVENT: (&str, &str) = ("x-amz-invocation-type", "Event");

async fn submit(server: &Server, name: &str, body: String) -> Answer {
    let path = format!("/functions/{name}/execute");
    let submitted = server.client.send_with(Method::POST, &path, &[EVENT], body);
    submitted.await
}

/// Has so many calls accepted, and returns their ids.
async fn accepted(server: &Server, name: &str, many: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..many {
        let answer = submit(server, name, json!({"n": n}).to_string()).await;
        let answer = answer.expect(202);
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        assert_eq!(answer.headers["x-request-id"], *id);
        assert_eq!(answer.headers["location"], *format!("/invocations/{id}"));
        ids.push(id);
    }
    ids
}

/// Waits until a call has an end; a store that is away cannot tell.
async fn ended(server: &Server, id: &str) -> Value {
    eventually("the call to have an end", || async {
        let answer = server.client.get(&format!("/invocations/{id}")).await;
        if answer.status == 503 {
            return None;
        }
        let known = answer.expect(200).json();
        matches!(known["state"].as_str(), Some("succeeded" | "failed")).then_some(known)
    })
    .await
}

async fn all_succeed(server: &Server, ids: &[String]) {
    for id in ids {
        let known = ended(server, id).await;
        assert_eq!(known["state"], "succeeded", "{known}");
    }
}

/// What its function was deleted for is not run, nor waited with until it is too old, nor gone without a trace.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_outlives_its_function_is_a_dead_letter() {
    let server = Server::start(&[("events.retry_delay", "3s")]);
    server.deploy("brief", FAILING, json!({})).await;
    let id = accepted(&server, "brief", 1).await.remove(0);
    let events = "hearth_events_total";
    let retried = [("outcome", "retried")];
    server.measured(events, &retried, |n| n >= 1.0).await;
    let deleted = server.client.delete("/functions/brief").await;
    deleted.expect(204);
    // Another one, of which it is not.
    server.deploy("brief", CODE, json!({})).await;
    let known = ended(&server, &id).await;
    assert_eq!(known["state"], "failed", "{known}");
    assert_eq!(known["error"]["code"], "function_deleted", "{known}");
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(events, &[("outcome", "orphaned")]), 1.0);
    assert_eq!(metrics.sum(events, &[("outcome", "failed")]), 0.0);
    assert!(server.log().contains("because their function was deleted"));
    let letter = server.client.get(&format!("/dead-letters/{id}")).await;
    letter.expect(200);
    assert!(server.lines("brief", None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_call_is_run_and_tried_again_when_it_fails() {
    let server = Server::start(&[("events.retry_delay", "50ms")]);
    server.deploy("later", CODE, json!({})).await;
    let id = accepted(&server, "later", 1).await.remove(0);
    let known = ended(&server, &id).await;
    assert_eq!(known["state"], "succeeded", "{known}");
    assert_eq!(
        (&known["attempts"], &known["function"]),
        (&json!(1), &json!("later"))
    );
    assert_eq!(known["error"], Value::Null);
    assert_eq!(server.lines("later", Some(&id)).await, ["ran 0"]);
    // How it went, and where it printed.
    let start = known["start"].as_str().expect("it had a worker");
    assert!(["stem", "cold"].contains(&start), "{known}");
    assert_eq!(known["start_reason"], "first_call");
    assert!(known["phases"]["run"].as_f64().unwrap() > 0.0, "{known}");
    assert!(known["duration"].as_f64() >= known["phases"]["run"].as_f64());
    let times = ["accepted_at", "started_at", "finished_at"];
    let times = times.map(|time| known[time].as_str().unwrap().parse::<jiff::Timestamp>());
    assert!(times.map(Result::unwrap).is_sorted(), "{known}");
    let lines = server.client.get(known["logs"].as_str().unwrap()).await;
    assert_eq!(lines.expect(200).json()["items"][0]["text"], "ran 0");

    // So has one that was waited for.
    let answer = server.call("later", &json!({"n": 1})).await.expect(200);
    let path = format!("/invocations/{}", answer.request_id());
    let known = server.client.get(&path).await.expect(200).json();
    assert_eq!(
        (&known["type"], &known["state"], &known["start"]),
        (
            &json!("RequestResponse"),
            &json!("succeeded"),
            &json!("warm")
        ),
    );
    let lines = server.client.get(known["logs"].as_str().unwrap()).await;
    assert_eq!(lines.expect(200).json()["items"][0]["text"], "ran 1");

    server.deploy("failing", FAILING, json!({})).await;
    let id = accepted(&server, "failing", 1).await.remove(0);
    let known = ended(&server, &id).await;
    assert_eq!(
        (&known["state"], &known["attempts"]),
        (&json!("failed"), &json!(3))
    );
    assert_eq!(known["error"]["code"], "function_error");
    let metrics = server.client.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "accepted\"} 2",
        "retried\"} 2",
        "failed\"} 1",
        "succeeded\"} 1",
    ] {
        assert!(
            metrics.contains(&format!("hearth_events_total{{outcome=\"{line}")),
            "{line}"
        );
    }

    submit(&server, "nobody", "{}".into()).await.expect(404);
    submit(&server, "later", format!("\"{}\"", "x".repeat(1024 * 1024)))
        .await
        .expect(413);
    let path = "/functions/later/execute";
    let headers = [("x-amz-invocation-type", "Later")];
    let refused = server
        .client
        .send_with(Method::POST, path, &headers, "{}")
        .await;
    assert_eq!(
        refused.expect(400).json()["error"]["faults"][0]["field"],
        headers[0].0
    );
    server.client.get("/invocations/none").await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_queued_again_by_any_process_and_outlive_a_crash() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("store.url", url.as_str()), ("events.retries", "0")];
    let (a, b) = (Server::start(&settings), Server::start(&settings));
    a.deploy("mended", FAILING, json!({})).await;
    eventually("the function to be known", || async {
        let answer = b.client.get("/functions/mended").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    let ids = accepted(&a, "mended", 5).await;
    for id in &ids {
        assert_eq!(ended(&b, id).await["state"], "failed");
    }
    let letters = async |server: &Server| {
        let path = "/dead-letters/?function=mended";
        let page = server.client.get(path).await.expect(200).json();
        page["items"].as_array().expect("a list").len()
    };
    let left: State = a.crash();
    assert_eq!(letters(&b).await, 5);
    let path = format!("/dead-letters/{}", ids[3]);
    let letter = b.client.get(&path).await.expect(200).json();
    assert_eq!(letter["payload"], json!({"n": 3}));
    b.client.delete(&path).await.expect(204);
    b.client.get(&path).await.expect(404);

    b.client
        .put("/functions/mended", &json!({"code": CODE}))
        .await
        .expect(200);
    let a = Server::start_on(left, &settings);
    let one = format!("/dead-letters/{}/redrive", ids[0]);
    let nothing = json!({});
    // Asked of both at once, it is queued once.
    let (one, other) = tokio::join!(a.client.post(&one, &nothing), b.client.post(&one, &nothing),);
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 404]);
    let body = json!({"function": "mended"});
    let done = b.client.post("/dead-letters/redrive", &body).await;
    assert_eq!(done.expect(200).json()["redriven"], 3);
    for id in ids.iter().filter(|id| **id != ids[3]) {
        let known = ended(&a, id).await;
        assert_eq!(
            (&known["state"], &known["attempts"]),
            (&json!("succeeded"), &json!(1))
        );
    }
    assert_eq!(letters(&a).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_run_after_a_crash() {
    let server = Server::start(&[]);
    server.deploy("later", CODE, json!({})).await;
    let ids = accepted(&server, "later", 30).await;
    let server = Server::start_on(server.crash(), &[]);
    all_succeed(&server, &ids).await;
    swept(&server).await;
}

/// One that is told to stop lets asynchronous calls finish, for as long as others; what takes longer is run again.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_it_is_told_to_stop_may_finish() {
    let settings = [("server.drain_grace", "4s"), ("events.retry_delay", "50ms")];
    let start = |state| {
        let server = Server::start_on(state, &settings);
        // The long one, each time.
        for text in ["call failed", "how a worker ended cannot be learnt"] {
            server.expects(text);
        }
        server
    };
    let server = start(State::new());
    for name in ["long", "short"] {
        server.deploy(name, SLEEPS, json!({"timeout": 300})).await;
        server.call(name, &json!(0)).await.expect(200);
    }
    let mut short = String::new();
    for (name, seconds) in [("long", 200.0), ("short", 1.5)] {
        let answer = submit(&server, name, json!(seconds).to_string()).await;
        let answer = answer.expect(202).json();
        answer["request_id"]
            .as_str()
            .unwrap()
            .clone_into(&mut short);
        eventually("it to run", || async {
            (server.lines(name, Some(&short)).await == ["begun"]).then_some(())
        })
        .await;
    }
    let server = start(server.stop());
    let path = format!("/invocations/{short}");
    let known = server.client.get(&path).await.expect(200).json();
    assert_eq!(
        (&known["state"], &known["attempts"]),
        (&json!("succeeded"), &json!(1)),
        "{known}"
    );
    eventually("the other to be begun again", || async {
        (server.lines("long", None).await == ["begun"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_accepted_is_run_by_another() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("store.url", url.as_str()), ("events.lease", "2s")];
    let (a, b) = (Server::start(&settings), Server::start(&settings));
    a.deploy("later", CODE, json!({})).await;
    eventually("the function to be known", || async {
        let answer = b.client.get("/functions/later").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    let ids = accepted(&a, "later", 30).await;
    let left: State = a.crash();
    all_succeed(&b, &ids).await;
    swept(&b).await;
    // To have its containers cleared away.
    swept(&Server::start_on(left, &settings)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_outlives_a_crash_of_redis() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [
        ("store.url", url.as_str()),
        ("store.call_timeout", "1s"),
        ("events.lease", "2s"),
    ];
    let server = Server::start(&settings);
    for text in [
        "changes by other processes go unnoticed",
        "what others changed cannot be read",
        "an invocation could not be read",
        "an event that was run will be run again",
    ] {
        server.expects(text);
    }
    server.deploy("later", CODE, json!({})).await;
    let ids = accepted(&server, "later", 30).await;
    // Killed as by kill -9, with calls waiting, running, and ending.
    let redis = Redis::start_in(redis.stop());
    all_succeed(&server, &ids).await;
    server.client.get("/functions/later").await.expect(200);
    swept(&server).await;
    drop(server);
    drop(redis);
}
