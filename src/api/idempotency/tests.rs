//! Named calls against a whole instance with simulated containers.

use std::sync::Arc;

use axum::body::Body as AxumBody;
use http::Request;
use serde_json::{Value, json};

use super::*;
use crate::api::control::world::{Answered, DEADLINE, Plan, World};

async fn call(
    world: &World,
    name: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answered {
    let path = format!("/functions/{name}/execute");
    let mut request = Request::post(path).header(KEY, key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(AxumBody::from(body.to_owned()));
    world.answered(request.expect("a request")).await
}

fn is_replayed(answer: &Answered) -> bool {
    answer.headers.get(REPLAYED).is_some_and(|v| v == "true")
}

fn code(answer: &Answered) -> Value {
    answer.json()["error"]["code"].clone()
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_an_error_is_one() {
    let world = World::empty();
    world.create("f").await;
    for (key, body, kind, status) in [
        ("a", "{\"n\": 1}", "application/json", 200),
        ("b", "\"fail\"", "application/json", 502),
        ("c", "\"bytes\"", "application/octet-stream", 200),
        ("d", "\"stream\"", "text/plain", 200),
        ("e", "\"cut\"", "application/json", 502),
        ("f", "", "application/json", 200),
    ] {
        let first = call(&world, "f", key, &[], body).await;
        assert_eq!(
            (first.status.as_u16(), is_replayed(&first)),
            (status, false),
            "{body}"
        );
        assert_eq!(first.headers[CONTENT_TYPE], kind, "{body}");
        assert!(!first.headers.contains_key(KEPT));
        let again = call(&world, "f", key, &[], body).await;
        assert!(is_replayed(&again), "{body}");
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        for name in [&CONTENT_TYPE, &error::REQUEST_ID, &VERSION] {
            assert_eq!(again.headers[name], first.headers[name], "{name}");
        }
    }
}

#[tokio::test]
async fn another_payload_is_refused_and_another_function_is_another_call() {
    let world = World::empty();
    world.create("f").await;
    world.create("g").await;
    call(&world, "f", "k", &[], "1").await;
    let raw = [("content-type", "application/octet-stream")];
    let later = [("x-amz-invocation-type", "Event")];
    for (headers, body) in [(&[][..], "2"), (&raw, "1"), (&later, "1")] {
        let refused = call(&world, "f", "k", headers, body).await;
        assert_eq!(refused.status, 422);
        assert_eq!(code(&refused), "idempotency_key_reused");
        assert_eq!(refused.fields(), ["idempotency-key"]);
    }
    let other = call(&world, "g", "k", &[], "2").await;
    assert_eq!((other.status.as_u16(), is_replayed(&other)), (200, false));
    // The name is not what counts.
    let id = world
        .scheduler
        .find("f")
        .expect("there")
        .function
        .id
        .clone();
    assert!(is_replayed(&call(&world, id.as_str(), "k", &[], "1").await));
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let world = World::empty();
    world.create("f").await;
    for key in ["", "a b", &"x".repeat(256)] {
        let refused = call(&world, "f", key, &[], "1").await;
        assert_eq!(refused.status, 400, "{key:?}");
        assert_eq!(refused.fields(), ["idempotency-key"]);
    }
    let twice = call(&world, "f", "a", &[("idempotency-key", "a")], "1").await;
    assert_eq!(twice.status, 400);
    assert_eq!(call(&world, "nobody", "a", &[], "1").await.status, 404);
}

#[tokio::test]
async fn what_is_too_large_is_said_to_be_not_kept_and_is_not_run_again() {
    let world = World::empty();
    world.create("f").await;
    let body = json!("x".repeat(2000)).to_string();
    let first = call(&world, "f", "k", &[], &body).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers[KEPT], "false");
    let again = call(&world, "f", "k", &[], &body).await;
    assert_eq!(
        (again.status.as_u16(), code(&again)),
        (409, json!("answer_not_kept"))
    );
}

#[tokio::test]
async fn an_asynchronous_call_is_kept_once() {
    let world = World::empty();
    world.create("f").await;
    let later = [("x-amz-invocation-type", "Event")];
    let first = call(&world, "f", "k", &later, "1").await;
    assert_eq!(first.status, 202);
    for _ in 0..5 {
        let again = call(&world, "f", "k", &later, "1").await;
        assert!(is_replayed(&again));
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.headers[LOCATION], first.headers[LOCATION]);
    }
    let depth = world.queue.depth().await.expect("counted");
    assert_eq!(depth.unfinished, 1);
    // Refused, because there is room for three: not remembered.
    for n in 0..2 {
        assert_eq!(
            call(&world, "f", &n.to_string(), &later, "1").await.status,
            202
        );
    }
    for _ in 0..2 {
        let refused = call(&world, "f", "full", &later, "1").await;
        assert_eq!(
            (refused.status.as_u16(), is_replayed(&refused)),
            (503, false)
        );
    }
}

/// The store has it, and did not say so: whoever comes next must go by the same id, which a key that is free again has forgotten.
#[tokio::test]
async fn what_may_have_been_accepted_keeps_its_key_and_is_not_said_to_be_safe() {
    let world = World::empty();
    world.create("f").await;
    let later = [("x-amz-invocation-type", "Event")];
    let function = world.published("f").expect("is there").id.clone();
    for (written, plan, retry) in [
        ("unwritten", Plan::FailUnwritten, "safe"),
        ("written", Plan::FailWritten, "unsafe"),
    ] {
        world.store.plan([plan, plan]);
        let refused = call(&world, "f", written, &later, "1").await;
        assert_eq!(refused.status, 503);
        assert_eq!(code(&refused), "store_unavailable");
        assert_eq!(refused.json()["error"]["retry"], retry);
        // The same for who has no key.
        let path = "/functions/f/execute";
        let request = Request::post(path).header(later[0].0, later[0].1);
        let request = request.body(AxumBody::from("1")).expect("a request");
        let refused = world.answered(request).await;
        assert_eq!(refused.json()["error"]["retry"], retry);
        let key = Key::of(&function, written, "json, later", b"1");
        let by = RequestId::generate();
        let bounds = Bounds {
            keys: 10,
            bytes: 0,
            keep: DEADLINE,
            lease: DEADLINE,
        };
        let begun = world.store.inner.begin(&key, by, bounds).await;
        let expected = match plan {
            Plan::FailWritten => Begun::Running,
            _ => Begun::Yours { first: by },
        };
        assert_eq!(begun.expect("is asked"), expected, "{written}");
    }
}

#[tokio::test]
async fn what_was_never_run_is_run_by_the_next() {
    let world = World::empty();
    world.create("f").await;
    world.scheduler.drain();
    for _ in 0..2 {
        let refused = call(&world, "f", "k", &[], "1").await;
        assert_eq!(
            (refused.status.as_u16(), code(&refused)),
            (503, json!("draining"))
        );
        assert!(!is_replayed(&refused));
    }
}

#[tokio::test]
async fn who_comes_while_it_runs_waits_and_one_who_leaves_stops_nothing() {
    let world = Arc::new(World::empty());
    world.create("f").await;
    // The end of the first waits until the test lets it go on.
    world.store.plan([Plan::WaitWritten]);
    let asking = |world: &Arc<World>| {
        let world = world.clone();
        async move { call(&world, "f", "k", &[], "1").await }
    };
    let mut first = Box::pin(asking(&world));
    let reached = async {
        tokio::select! {
            _ = &mut first => unreachable!("it waits"),
            () = world.store.reached() => {}
        }
    };
    reached.await;
    // Its client leaves.
    drop(first);
    let second = asking(&world).await;
    assert!(is_replayed(&second));
    assert_eq!(second.status, 200);
    world.store.go_on();
}

#[tokio::test]
async fn many_at_once_are_one_call() {
    let world = World::empty();
    world.create("f").await;
    let all = (0..20).map(|_| call(&world, "f", "k", &[], "{\"n\": 1}"));
    let all = futures_util::future::join_all(all).await;
    let ids: std::collections::HashSet<_> = all
        .iter()
        .map(|answer| answer.headers[error::REQUEST_ID].clone())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(all.iter().filter(|answer| !is_replayed(answer)).count(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_kept_yet_is_given_and_kept_later() {
    let world = World::empty();
    world.create("f").await;
    world.store.plan([Plan::FailUnwritten]);
    let first = call(&world, "f", "k", &[], "1").await;
    assert_eq!(
        (first.status.as_u16(), &first.headers[KEPT]),
        (200, &HeaderValue::from_static("false"))
    );
    let again = tokio::time::timeout(DEADLINE, call(&world, "f", "k", &[], "1")).await;
    assert!(is_replayed(&again.expect("in time")));
}
