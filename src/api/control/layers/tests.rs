//! Layers over the whole face; no container is asked for them here.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use crate::api::control::world::World;
use crate::clock;
use crate::domain::key::{Grant, Scope, Wish};
use crate::domain::pattern::Pattern;

fn zip(text: &str) -> String {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let begun = zip.start_file("shared.txt", SimpleFileOptions::default());
    begun.expect("a file");
    zip.write_all(text.as_bytes()).expect("written");
    STANDARD.encode(zip.finish().expect("a zip").into_inner())
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("a list");
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

#[tokio::test]
async fn versions_are_published_listed_attached_and_deleted() {
    let world = World::empty();
    world.create("f").await;
    for (name, text) in [("lib", "one"), ("lib", "two"), ("apart", "one")] {
        let body = json!({"name": name, "zip": zip(text), "description": format!("<b>{text}</b>")});
        let made = world.post("/layers/", body).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let made = made.json();
        let id = made["id"].as_str().expect("an id");
        assert_eq!(world.get(&format!("/layers/{id}")).await.json(), made);
        assert_eq!(made["description"], format!("<b>{text}</b>"));
        assert_eq!(made["unpacked_size"], 3);
        assert_eq!(made["runtimes"], json!(null));
    }
    // By name, the newest first, a page at a time.
    let first = world.get("/layers?limit=2").await.json();
    assert_eq!(ids(&first), ["apart:1", "lib:2"]);
    assert_eq!(first["next"], "lib:2");
    let second = world.get("/layers/?limit=2&cursor=lib:2").await.json();
    assert_eq!(
        (ids(&second), &second["next"]),
        (vec!["lib:1"], &json!(null))
    );
    let of = world.get("/layers/?name=lib").await.json();
    assert_eq!(ids(&of), ["lib:2", "lib:1"]);

    let given = world.put("/functions/f", json!({"layers": ["lib:1", "apart:1"]}));
    assert_eq!(given.await.json()["layers"], json!(["lib:1", "apart:1"]));
    assert_eq!(world.delete("/layers/lib:1").await.status, 204);
    assert_eq!(world.delete("/layers/lib:1").await.status, 404);
    assert_eq!(world.get("/layers/lib:1").await.status, 404);
    // Who has it keeps it, and nobody else gets it.
    let turned = world.put("/functions/f", json!({"layers": ["apart:1", "lib:1"]}));
    assert_eq!(turned.await.status, 200);
    world.create("g").await;
    let late = world
        .put("/functions/g", json!({"layers": ["lib:1"]}))
        .await;
    assert_eq!(late.fields(), ["layers"]);
    let again = world.post("/layers/", json!({"name": "lib", "zip": zip("3")}));
    assert_eq!(
        again.await.json()["number"],
        3,
        "a number is not used again"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::empty();
    let long = "x".repeat(257);
    for (body, fields) in [
        (json!({}), vec!["name", "zip"]),
        (json!({"name": "a b", "zip": 1}), vec!["name", "zip"]),
        (json!({"name": "a", "zip": "no base64"}), vec!["zip"]),
        (
            json!({"name": "a", "zip": STANDARD.encode("no zip")}),
            vec!["zip"],
        ),
        (
            json!({"name": "a", "zip": zip("x"), "description": long, "code": "x"}),
            vec!["description", "code"],
        ),
    ] {
        let refused = world.post("/layers/", body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {:?}", refused.body);
        assert_eq!(refused.fields(), fields, "{body}");
    }
    for (path, field) in [
        ("/layers/?limit=0", "limit"),
        ("/layers/?cursor=x", "cursor"),
        ("/layers/?name=a%20b", "name"),
        ("/layers/?page=1", "page"),
        ("/layers/lib", "id"),
        ("/layers/lib:0", "id"),
    ] {
        assert_eq!(world.get(path).await.fields(), [field], "{path}");
    }
    assert_eq!(ids(&world.get("/layers/").await.json()), [""; 0]);
}

#[tokio::test]
async fn a_key_is_for_layers_by_their_names() {
    let world = World::empty();
    for name in ["orders-lib", "mail-lib"] {
        let body = json!({"name": name, "zip": zip(name)});
        assert_eq!(world.post("/layers/", body).await.status, 201);
    }
    let wish = Wish {
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("orders-*").expect("a pattern")],
        ..Wish::admin()
    };
    let grant = Arc::new(Grant::from(&wish.issue(clock::wall()).1));
    let ask = async |method: &str, path: &str, body: Value| {
        let request = Request::builder().method(method).uri(path);
        let request = request.extension(grant.clone());
        let request = request.body(Body::from(body.to_string()));
        world.answered(request.expect("a request")).await
    };
    let listed = ask("GET", "/layers/", json!(null)).await.json();
    assert_eq!(ids(&listed), ["orders-lib:1"]);
    let mine = json!({"name": "orders-lib", "zip": zip("2")});
    assert_eq!(ask("POST", "/layers/", mine).await.status, 201);
    let theirs = json!({"name": "mail-lib", "zip": zip("2")});
    for (method, path, body) in [
        ("POST", "/layers/", theirs),
        ("GET", "/layers/mail-lib:1", json!(null)),
        ("DELETE", "/layers/mail-lib:1", json!(null)),
        // What is not there is judged by its name too.
        ("GET", "/layers/nobodys:1", json!(null)),
    ] {
        let refused = ask(method, path, body).await;
        assert_eq!(refused.status, 403, "{method} {path}");
        assert_eq!(refused.json()["error"]["code"], "function_not_allowed");
    }
    assert_eq!(world.get("/layers/mail-lib:1").await.status, 200);
}
