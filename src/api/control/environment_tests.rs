//! Environments as clients see them, and as they are kept: encrypted, masked, and changed without being known.

use serde_json::{Value, json};

use crate::api::control::world::{DEADLINE, World, new};
use crate::domain::environment::{self, Environment};
use crate::secrets::Secrets;

fn with(environment: Value) -> Value {
    let mut body = new("f");
    body["environment"] = environment;
    body
}

/// What a worker of the function would be given.
async fn opened(world: &World) -> Vec<(String, String)> {
    let stored = world.stored("f").await.expect("is there");
    let opened = world
        .scheduler
        .secrets()
        .open(&stored.id, &stored.environment);
    opened.expect("can be read").0.into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).into(), (*b).into()))
        .collect()
}

#[tokio::test]
async fn values_are_masked_kept_and_changed() {
    let world = World::empty();
    let made = world
        .post("/functions/", with(json!({"A": "hunter2", "B": "x"})))
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(
        made.json()["environment"],
        json!({"A": "****", "B": "****"})
    );
    assert_eq!(opened(&world).await, pairs(&[("A", "hunter2"), ("B", "x")]));
    let stored = serde_json::to_string(&world.stored("f").await).expect("JSON");
    assert!(!stored.contains("hunter2"), "{stored}");

    let put = async |environment: Value| {
        world
            .put("/functions/f", json!({"environment": environment}))
            .await
    };
    let version = made.json()["version"].clone();
    let same = put(json!({"A": "hunter2", "B": "****"})).await.json();
    assert_eq!(
        same["version"], version,
        "the same values keep the warm workers"
    );
    let changed = put(json!({"A": "****", "C": "new"})).await.json();
    assert_eq!(changed["environment"], json!({"A": "****", "C": "****"}));
    assert_ne!(changed["version"], version);
    assert_eq!(
        opened(&world).await,
        pairs(&[("A", "hunter2"), ("C", "new")])
    );
    world.put("/functions/f", json!({"timeout": 9})).await;
    assert_eq!(
        opened(&world).await,
        pairs(&[("A", "hunter2"), ("C", "new")])
    );

    let none = put(json!({"A": "****", "B": "****"})).await;
    assert_eq!(
        (none.status.as_u16(), none.fields()),
        (400, vec!["environment.B".into()])
    );
    let fresh = world.post("/functions/", with(json!({"A": "****"}))).await;
    assert_eq!(fresh.fields(), ["environment.A"]);
    // What is wrong is told without the value.
    let wrong = put(json!({"A": 1234, "B-": "hunter2"})).await;
    assert_eq!(wrong.fields(), ["environment.A", "environment.B-"]);
    let text = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(
        !text.contains("1234") && !text.contains("hunter2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_kept_value_counts_with_its_size() {
    let world = World::empty();
    let large = "x".repeat(3000);
    let made = world.post("/functions/", with(json!({"A": large}))).await;
    assert_eq!(made.status, 201);
    let both = world
        .put(
            "/functions/f",
            json!({"environment": {"A": "****", "B": large}}),
        )
        .await;
    assert_eq!(both.fields(), ["environment"]);
    let little = world
        .put(
            "/functions/f",
            json!({"environment": {"A": "****", "B": "x"}}),
        )
        .await;
    assert_eq!(little.status, 200);
}

#[tokio::test]
async fn a_value_in_the_clear_is_encrypted_by_the_next_write() {
    let first = World::empty();
    first.create("f").await;
    let mut old = first.stored("f").await.expect("is there");
    old.revision += 1;
    let plain = environment::Value::Plain("hunter2".into());
    old.environment = Environment([("A".to_owned(), plain)].into());
    first
        .store
        .inner
        .put(old, Some(1))
        .await
        .expect("is written");

    let World { store, dir, .. } = first;
    let world = World::over(dir, store.inner.clone());
    world.control.restore().await.expect("restored");
    let read = world.get("/functions/f").await.json();
    assert_eq!(read["environment"], json!({"A": "****"}));
    let changed = world.put("/functions/f", json!({"timeout": 9})).await;
    assert_eq!(changed.status, 200);
    let stored = serde_json::to_string(&world.stored("f").await).expect("JSON");
    assert!(!stored.contains("hunter2"), "{stored}");
    assert_eq!(opened(&world).await, pairs(&[("A", "hunter2")]));
}

#[tokio::test]
async fn an_environment_of_another_key_file_is_told_and_can_be_given_anew() {
    let first = World::empty();
    let made = first
        .post("/functions/", with(json!({"A": "hunter2"})))
        .await;
    assert_eq!(made.status, 201);
    let World { store, dir, .. } = first;
    let file = dir.path().join("secrets.key");
    std::fs::remove_file(&file).expect("removed");
    Secrets::read_or_make(&file).expect("another one");
    let world = World::over(dir, store.inner.clone());
    world
        .control
        .restore()
        .await
        .expect("restored all the same");

    let call = async || {
        let call = world.post("/functions/f/execute", json!({}));
        tokio::time::timeout(DEADLINE, call).await.expect("in time")
    };
    let refused = call().await;
    assert_eq!(refused.status, 503);
    let error = &refused.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["blame"].as_str()),
        (Some("environment_unreadable"), Some("platform"))
    );
    let message = error["message"].as_str().expect("a text");
    assert!(
        message.contains("A: ") && message.contains("is not in "),
        "{message}"
    );

    let renamed = world
        .put(
            "/functions/f",
            json!({"timeout": 9, "environment": {"A": "****"}}),
        )
        .await;
    assert_eq!(renamed.status, 200, "kept for who can read it");
    assert_eq!(call().await.status, 503);
    let given = world
        .put("/functions/f", json!({"environment": {"A": "anew"}}))
        .await;
    assert_eq!(given.status, 200);
    assert_eq!(call().await.status, 200);
}
