//! The face of dead letters over the real store; nothing is run but what the test settles itself.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use super::*;
use crate::api::control::world::{Answered, World};
use crate::clock;
use crate::domain::event::{Failure, Verdict};
use crate::domain::key::Wish;
use crate::domain::pattern::Pattern;
use crate::store::Store;
use crate::store::dead_letters::DeadLetters;
use crate::store::events::Bounds;

const BOUNDS: Bounds = Bounds {
    unfinished: 100,
    finished: 100,
    keep: Duration::from_secs(3600),
    dead: 100,
};

/// Has a call of the function fail for good.
async fn died(world: &World, name: &str, payload: &'static str) -> RequestId {
    let resolved = world.scheduler.resolve(name, None).expect("there");
    let id = RequestId::generate();
    let payload = Bytes::from_static(payload.as_bytes());
    let submitted = world
        .queue
        .submit(id, &resolved, payload, false, None)
        .await;
    submitted.expect("is kept");
    let store: &dyn Store = &*world.store;
    let claimed = store.claim("test", 10, BOUNDS.keep).await.expect("claimed");
    for claimed in claimed {
        let failed = Verdict::Failed(Failure {
            code: "function_error".into(),
            message: "no".into(),
        });
        let settled = store.settle("test", &claimed, failed.into(), BOUNDS).await;
        assert!(settled.expect("settled"));
    }
    id
}

fn ids(page: &Answered) -> Vec<String> {
    assert_eq!(page.status, 200, "{:?}", page.body);
    let page = page.json();
    let items = page["items"].as_array().expect("a list");
    let id = |item: &Value| item["request_id"].as_str().expect("an id").to_owned();
    items.iter().map(id).collect()
}

#[tokio::test]
async fn letters_are_listed_read_queued_again_and_discarded() {
    let world = World::empty();
    world.create("f").await;
    world.create("g").await;
    let one = died(&world, "f", "{\"n\": 1}").await;
    let two = died(&world, "g", "no json").await;
    assert_eq!(ids(&world.get("/dead-letters/").await).len(), 2);
    assert_eq!(
        ids(&world.get("/dead-letters?function=f").await),
        [one.to_string()]
    );
    let first = world.get("/dead-letters/?limit=1").await;
    let next = first.json()["next"].as_str().expect("more").to_owned();
    let second = world
        .get(&format!("/dead-letters/?limit=1&cursor={next}"))
        .await;
    assert_ne!(ids(&first), ids(&second));
    assert_eq!(second.json()["next"], Value::Null);
    let wrong = world.get("/dead-letters/?limit=0&cursor=x&what=1").await;
    assert_eq!(wrong.fields(), ["limit", "cursor", "what"]);

    let queue = world.get("/invocations").await.json();
    let wanted =
        json!({"waiting": 0, "running": 0, "due_since": null, "room": 3, "dead_letters": 2});
    assert_eq!(queue, wanted);
    let wrong = world.get("/invocations/?what=1").await;
    assert_eq!(wrong.fields(), ["what"]);

    let letter = world.get(&format!("/dead-letters/{one}")).await.json();
    assert_eq!(letter["payload"], json!({"n": 1}));
    assert_eq!(
        (&letter["state"], &letter["error"]["code"]),
        (&json!("failed"), &json!("function_error"))
    );
    let letter = world.get(&format!("/dead-letters/{two}")).await.json();
    assert_eq!(letter["payload_base64"], "bm8ganNvbg==");
    assert!(letter.get("payload").is_none());

    let queued = world
        .post(&format!("/dead-letters/{one}/redrive"), json!({}))
        .await;
    assert_eq!(queued.status, 202);
    assert_eq!(queued.headers["location"], *format!("/invocations/{one}"));
    let known = world.get(&format!("/invocations/{one}")).await.json();
    assert_eq!(
        (&known["state"], &known["attempts"]),
        (&json!("queued"), &json!(0))
    );
    let queue = world.get("/invocations/").await.json();
    assert_eq!(
        (&queue["waiting"], &queue["dead_letters"]),
        (&json!(1), &json!(1))
    );
    assert!(queue["due_since"].is_string(), "{queue}");
    let gone = world.delete(&format!("/dead-letters/{two}")).await;
    assert_eq!(gone.status, 204);
    assert!(ids(&world.get("/dead-letters/").await).is_empty());
    for id in [one, two, RequestId::generate()] {
        for (method, path) in [
            ("GET", format!("/dead-letters/{id}")),
            ("DELETE", format!("/dead-letters/{id}")),
            ("POST", format!("/dead-letters/{id}/redrive")),
        ] {
            let answer = world.ask(method, &path, "").await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_functions_letters_are_queued_again_together_while_there_is_room() {
    let world = World::empty();
    for name in ["f", "g"] {
        world.create(name).await;
    }
    for _ in 0..4 {
        died(&world, "f", "1").await;
    }
    died(&world, "g", "1").await;
    let path = "/dead-letters/redrive";
    // The world has room for three.
    let done = world.post(path, json!({"function": "f"})).await.json();
    assert_eq!(done, json!({"redriven": 3, "more": true}));
    let full = world.post(path, json!({"function": "f"})).await;
    assert_eq!(full.status, 503);
    assert_eq!(full.json()["error"]["code"], "too_many_events");
    assert_eq!(ids(&world.get("/dead-letters/").await).len(), 2);
    for bad in [
        json!({}),
        json!({"function": 1}),
        json!([]),
        json!({"function": "f", "x": 1}),
    ] {
        assert_eq!(world.post(path, bad.clone()).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_key_for_some_functions_has_only_their_letters() {
    let world = World::empty();
    for name in ["orders-1", "billing"] {
        world.create(name).await;
    }
    let mine = died(&world, "orders-1", "1").await;
    let theirs = died(&world, "billing", "1").await;
    let wish = Wish {
        scopes: vec![Scope::Deploy, Scope::Invoke],
        functions: vec![Pattern::parse("orders-*").expect("a pattern")],
        ..Wish::admin()
    };
    let grant = Arc::new(Grant::from(&wish.issue(clock::wall()).1));
    let ask = async |method: &str, path: String, body: &'static str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.extension(grant.clone()).body(Body::from(body));
        world.answered(request.expect("a request")).await
    };
    let listed = ask("GET", "/dead-letters/".into(), "").await;
    assert_eq!(ids(&listed), [mine.to_string()]);
    for (method, path) in [
        ("GET", format!("/dead-letters/{theirs}")),
        ("DELETE", format!("/dead-letters/{theirs}")),
        ("POST", format!("/dead-letters/{theirs}/redrive")),
    ] {
        assert_eq!(ask(method, path, "").await.status, 404, "{method}");
    }
    let all = "/dead-letters/redrive".to_owned();
    let refused = ask("POST", all.clone(), "{\"function\": \"billing\"}").await;
    assert_eq!(refused.status, 403);
    let done = ask("POST", all, "{\"function\": \"orders-1\"}").await;
    assert_eq!(done.json()["redriven"], 1);
    let theirs = world.store.dead_letter(&theirs).await;
    assert!(theirs.expect("read").is_some());
}
