//! Provisioned concurrency over the whole face, with simulated containers.

use serde_json::{Value, json};

use crate::api::control::world::{DEADLINE, World};

const PATH: &str = "/functions/f/provisioned-concurrency";

/// A function with two versions and an alias of the first.
async fn world() -> World {
    let world = World::empty();
    world.create("f").await;
    for code in ["one", "two"] {
        world.put("/functions/f", json!({ "code": code })).await;
        let made = world.post("/functions/f/versions", json!({})).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
    }
    let alias = json!({"name": "live", "version": "1"});
    let made = world.post("/functions/f/aliases", alias).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    world
}

/// Waits until it is so.
async fn until(world: &World, qualifier: &str, status: &str) -> Value {
    let deadline = crate::clock::now() + DEADLINE;
    loop {
        let read = world.get(&format!("{PATH}?qualifier={qualifier}")).await;
        let stands = read.json()["items"][0].clone();
        if stands["status"] == status {
            return stands;
        }
        assert!(crate::clock::now() < deadline, "not {status}: {stands}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn workers_are_there_before_it_is_ready_and_calls_are_warm() {
    let world = world().await;
    for (qualifier, code) in [("live", "one"), ("2", "two")] {
        let path = format!("{PATH}?qualifier={qualifier}");
        let begun = world.put(&path, json!({"requested": 3})).await;
        assert_eq!(begun.status, 202, "{:?}", begun.body);
        assert_eq!(begun.json()["requested"], 3);
        let ready = until(&world, qualifier, "READY").await;
        assert_eq!(
            (&ready["allocated"], &ready["available"]),
            (&json!(3), &json!(3))
        );
        let called = format!("/functions/f:{qualifier}/execute");
        let calls = (0..3).map(|_| world.post(&called, json!("code")));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.json(), code);
            assert_eq!(answer.headers["x-hearth-start"], "warm");
        }
    }
    assert_eq!(
        world.get(PATH).await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Another instance over the same store has them too, as after a restart.
    let store = world.store.inner.clone();
    let second = World::over(tempfile::tempdir().expect("temp dir"), store);
    second.control.restore().await.expect("restored");
    until(&second, "2", "READY").await;
    let warm = second.post("/functions/f:2/execute", json!("code")).await;
    assert_eq!(warm.headers["x-hearth-start"], "warm");
    // The alias moves, and its workers with it.
    let moved = world
        .put("/functions/f/aliases/live", json!({"version": "2"}))
        .await;
    assert_eq!(moved.status, 200);
    let ready = until(&world, "live", "READY").await;
    assert_eq!(ready["available"], 3);
    let deleted = world.delete(&format!("{PATH}?qualifier=live")).await;
    assert_eq!(deleted.status, 204);
    let gone = world.get(&format!("{PATH}?qualifier=live")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["error"]["code"], "not_provisioned");
    let again = world.delete(&format!("{PATH}?qualifier=live")).await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn it_counts_against_the_accounts_limit_and_the_functions() {
    let world = world().await;
    let put = async |qualifier: &str, requested: u32| {
        let path = format!("{PATH}?qualifier={qualifier}");
        world.put(&path, json!({ "requested": requested })).await
    };
    // Of 100 calls, ten stay for everybody.
    let refused = put("2", 91).await;
    assert_eq!(
        (refused.status.as_u16(), refused.fields()),
        (400, vec!["requested".into()])
    );
    assert_eq!(put("2", 5).await.status, 202);
    let refused = put("live", 86).await;
    assert_eq!(refused.status, 400, "{:?}", refused.body);
    world.create("g").await;
    let refused = world
        .put("/functions/g", json!({"reserved_concurrency": 86}))
        .await;
    assert_eq!(
        refused.fields(),
        ["reserved_concurrency"],
        "{:?}",
        refused.body
    );
    let taken = world
        .put("/functions/g", json!({"reserved_concurrency": 85}))
        .await;
    assert_eq!(taken.status, 200, "{:?}", taken.body);
    assert_eq!(put("live", 1).await.status, 400, "nothing is left");

    // What is provisioned is a part of what is reserved.
    let less = world
        .put("/functions/g", json!({"reserved_concurrency": 50}))
        .await;
    assert_eq!(less.status, 200);
    let refused = world
        .put("/functions/f", json!({"reserved_concurrency": 4}))
        .await;
    assert_eq!(
        refused.fields(),
        ["reserved_concurrency"],
        "{:?}",
        refused.body
    );
    let reserved = world
        .put("/functions/f", json!({"reserved_concurrency": 6}))
        .await;
    assert_eq!(reserved.status, 200, "{:?}", reserved.body);
    assert_eq!(put("live", 2).await.status, 400);
    assert_eq!(put("live", 1).await.status, 202);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field() {
    let world = world().await;
    world
        .post(
            "/functions/f/aliases",
            json!({"name": "edge", "version": "$LATEST"}),
        )
        .await;
    for (query, body, status, field) in [
        ("", json!({"requested": 1}), 400, "qualifier"),
        (
            "?qualifier=%24LATEST",
            json!({"requested": 1}),
            400,
            "qualifier",
        ),
        ("?qualifier=edge", json!({"requested": 1}), 400, "qualifier"),
        ("?qualifier=a.b", json!({"requested": 1}), 400, "qualifier"),
        ("?qualifier=1", json!({"requested": 0}), 400, "requested"),
        ("?qualifier=1", json!({"requested": 1.5}), 400, "requested"),
        ("?qualifier=1", json!({}), 400, "requested"),
        ("?qualifier=1", json!({"requested": 1, "x": 2}), 400, "x"),
        ("?what=1", json!({"requested": 1}), 400, "what"),
    ] {
        let refused = world.put(&format!("{PATH}{query}"), body).await;
        assert_eq!(refused.status, status, "{query}: {:?}", refused.body);
        assert_eq!(refused.fields(), [field], "{query}");
    }
    for query in ["?qualifier=9", "?qualifier=none"] {
        let path = format!("{PATH}{query}");
        let refused = world.put(&path, json!({"requested": 1})).await;
        assert_eq!(refused.status, 404, "{query}");
    }
    assert_eq!(world.get(PATH).await.json()["items"], json!([]));
    let held = world
        .put(&format!("{PATH}?qualifier=live"), json!({"requested": 1}))
        .await;
    assert_eq!(held.status, 202);
    let latest = world
        .put("/functions/f/aliases/live", json!({"version": "$LATEST"}))
        .await;
    assert_eq!(latest.fields(), ["version"]);
}
