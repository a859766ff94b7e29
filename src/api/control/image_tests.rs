//! Functions that are made of images: which image is settled when they are made, and what the image brings along is not said twice.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::api::control::world::{World, new};
use crate::clock;
use crate::domain::key::{Grant, Scope, Wish};

fn id() -> String {
    format!("sha256:{}", "1".repeat(64))
}

#[tokio::test]
async fn a_function_is_made_of_an_image_and_started_in_another_way() {
    let world = World::empty();
    let made = world
        .post("/functions/", json!({"name": "f", "image": "app:1"}))
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let made = made.json();
    assert_eq!(
        (&made["language"], &made["handler"]),
        (&json!("sign2.x"), &json!("app.handler"))
    );
    assert_eq!(made["code"]["origin"], "image");
    assert_eq!(made["code"]["image"], json!({"uri": "app:1", "id": id()}));

    let given = json!({"uri": "app:1", "command": ["other.go"], "working_dir": "/srv"});
    let changed = world.put("/functions/f", json!({"image": given})).await;
    let changed = changed.json();
    assert_eq!(changed["handler"], "other.go");
    assert_ne!(changed["version"], made["version"]);
    let mut shown = given;
    shown["id"] = id().into();
    assert_eq!(changed["code"]["image"], shown);
    // Settings that do not touch it leave it alone, and what is shown can be sent, whatever the name stands for by then.
    let settings = world
        .put("/functions/f", json!({"memory": 256, "layers": []}))
        .await;
    assert_eq!(settings.json()["code"], changed["code"]);
    shown["uri"] = "moved:1".into();
    let again = world.put("/functions/f", json!({"image": shown})).await;
    assert_eq!(again.json()["code"]["image"], shown);
    assert_eq!(again.json()["code"]["sha256"], changed["code"]["sha256"]);

    let published = world.post("/functions/f/versions", json!({})).await;
    assert_eq!(published.json()["code"]["image"], shown);
}

#[tokio::test]
async fn what_cannot_be_an_image_is_refused_and_changes_nothing() {
    let world = World::empty();
    let made = world
        .post("/functions/", json!({"name": "f", "image": "app:1"}))
        .await;
    world.create("g").await;
    let with = |more: Value| {
        let mut body = json!({"name": "h", "image": "app:1"});
        let more = more.as_object().expect("fields");
        body.as_object_mut().expect("fields").extend(more.clone());
        body
    };
    let code = new("h")["code"].clone();
    for (body, field) in [
        (json!({"image": "absent:1"}), "image"),
        (json!({"image": "foreign:1"}), "image"),
        (json!({"image": "../containers"}), "image"),
        (json!({"language": "sign2.x"}), "language"),
        (json!({"handler": "app.handler"}), "handler"),
        (json!({"layers": ["a:1"]}), "layers"),
        (json!({"code": code}), "image"),
        (json!({"code_path": "/srv"}), "image"),
    ] {
        let refused = world.post("/functions/", with(body.clone())).await;
        assert_eq!(refused.status, 400, "{body}: {:?}", refused.body);
        assert_eq!(refused.fields()[0], field, "{body}: {:?}", refused.body);
    }
    assert!(world.stored("h").await.is_none());
    for (name, body, field) in [
        ("f", json!({"code": code}), "code"),
        ("f", json!({"handler": "app.handler"}), "handler"),
        ("f", json!({"language": "runic"}), "language"),
        ("f", json!({"image": "absent:1"}), "image"),
        ("g", json!({"image": "app:1"}), "image"),
    ] {
        let path = format!("/functions/{name}");
        let refused = world.put(&path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.fields()),
            (400, vec![field.to_owned()]),
            "{name}: {body}"
        );
    }
    let now = world.get("/functions/f").await.json();
    assert_eq!(now["revision"], made.json()["revision"]);
}

#[tokio::test]
async fn a_key_for_functions_has_the_images_that_are_for_all() {
    let world = World::empty();
    let wish = Wish {
        scopes: vec![Scope::Deploy],
        ..Wish::admin()
    };
    let grant = Arc::new(Grant::from(&wish.issue(clock::wall()).1));
    let ask = async |method: &str, path: &str, body: Value| {
        let request = Request::builder().method(method).uri(path);
        let body = Body::from(body.to_string());
        let request = request.extension(grant.clone()).body(body);
        world.answered(request.expect("a request")).await.status
    };
    let post = async |body| ask("POST", "/functions/", body).await;
    let put = async |body| ask("PUT", "/functions/f", body).await;
    assert_eq!(post(json!({"name": "f", "image": "app:1"})).await, 403);
    // Any other by an allowed name.
    let other = json!({"uri": "team/app:1", "id": "app:1"});
    assert_eq!(post(json!({"name": "f", "image": other})).await, 403);
    assert_eq!(post(json!({"name": "f", "image": "team/app:1"})).await, 201);
    let there = json!({"uri": "team/app:1", "id": id(), "command": ["other.go"]});
    assert_eq!(put(json!({ "image": there })).await, 200);
    assert_eq!(put(json!({ "image": other })).await, 403);
    let renamed = json!({"uri": "team/other:1", "id": id()});
    assert_eq!(put(json!({ "image": renamed })).await, 403);
    assert_eq!(put(json!({"image": "app:1"})).await, 403);
    assert_eq!(put(json!({"image": "team/app:1"})).await, 200);
    // Somebody who may do everything gave it another.
    let made = world.put("/functions/f", json!({"image": "app:1"})).await;
    assert_eq!(made.status, 200);
    let there = json!({"uri": "app:1", "id": id()});
    assert_eq!(put(json!({ "image": there })).await, 403);
}
