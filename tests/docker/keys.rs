//! Keys: asked for at every face but health, good for what they were made for and no more, gone when they are revoked. The first one is
//! kept for its owner alone, and is nowhere else readable.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::Server;
use crate::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn every_face_but_health_asks_for_the_key() {
    let server = Server::shared();
    server
        .deploy(
            "locked",
            "def handler(event, context): return 'in'",
            json!({}),
        )
        .await;
    let faces = [
        (Method::GET, "/functions/"),
        (Method::POST, "/functions/"),
        (Method::GET, "/functions/locked"),
        (Method::PUT, "/functions/locked"),
        (Method::DELETE, "/functions/locked"),
        (Method::GET, "/functions/locked/code"),
        (Method::GET, "/functions/locked/logs"),
        (Method::GET, "/functions/locked/logs?follow=true"),
        (Method::POST, "/functions/locked/execute"),
        (Method::POST, "/functions/execute"),
        (Method::GET, "/runtimes/"),
        (Method::GET, "/metrics"),
        (Method::GET, "/openapi.json"),
        (Method::GET, "/overview"),
        (Method::GET, "/dashboard/events"),
        (Method::GET, "/functions/locked/invocations"),
        (Method::GET, "/functions/no/such/path"),
    ];
    let key = server.client.key.clone().unwrap();
    let wrong = [
        None,
        Some("hearth_wrong".to_owned()),
        Some(key[..key.len() - 1].to_owned()),
        Some(String::new()),
    ];
    for key in wrong {
        let address = server.client.address.clone();
        let stranger = Client {
            address,
            key: key.clone(),
        };
        for (method, path) in &faces {
            let answer = stranger.send(method.clone(), path, "{}").await;
            let error = answer.error(401);
            assert_eq!(error["code"], "unauthorized", "{path} with {key:?}");
            assert!(!answer.header("www-authenticate").is_empty());
        }
        for open in ["/healthz", "/readyz", "/healthz/"] {
            stranger.get(open).await.expect(200);
        }
    }
    // Nothing of it happened.
    server.client.get("/functions/locked").await.expect(200);
    let basic = format!("Basic {}", STANDARD.encode(format!("anybody:{key}")));
    let stranger = Client {
        address: server.client.address.clone(),
        key: None,
    };
    for header in [("x-api-key", key.as_str()), ("authorization", &basic)] {
        let answer = stranger
            .send_with(Method::POST, "/functions/locked/execute", &[header], "{}")
            .await;
        assert_eq!(answer.expect(200).json(), "in");
    }
    assert!(
        server
            .metrics()
            .await
            .sum("hearth_auth_failures_total", &[])
            >= 60.0
    );
}

/// A new key with these settings: a client that uses it, and where it is revoked.
async fn issue(server: &Server, settings: Value) -> (Client, String) {
    let mut body = json!({"name": "of a test"});
    for (field, value) in settings.as_object().unwrap() {
        body[field] = value.clone();
    }
    let made = server.client.post("/keys/", &body).await.expect(201).json();
    let client = Client {
        address: server.client.address.clone(),
        key: Some(made["key"].as_str().unwrap().to_owned()),
    };
    (client, format!("/keys/{}", made["id"].as_str().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_it_was_made_for_and_no_more() {
    let server = Server::shared();
    let code = "def handler(event, context): return 'in'";
    for name in ["scoped-a", "elsewhere"] {
        server.deploy(name, code, json!({})).await;
    }
    let id = server.client.get("/functions/elsewhere").await.json()["id"].clone();
    let other = format!("/functions/{}", id.as_str().unwrap());
    let body = json!({"name": "scoped-b", "language": "python", "code": code}).to_string();
    let calls = json!([{"name": "scoped-a"}, {"name": "elsewhere"}]).to_string();
    let requests = [
        (Method::POST, "/functions/scoped-a/execute", "{}"),
        (Method::POST, "/functions/elsewhere/execute", "{}"),
        (Method::POST, &format!("{other}/execute"), "{}"),
        (Method::POST, "/functions/scoped-none/execute", "{}"),
        (Method::POST, "/functions/nobody/execute", "{}"),
        (Method::POST, "/functions/execute", &calls),
        (Method::GET, "/functions/", ""),
        (Method::GET, "/functions/scoped-a", ""),
        (Method::GET, "/functions/%65lsewhere", ""),
        (Method::GET, &other, ""),
        (Method::GET, "/functions/elsewhere/logs", ""),
        (Method::GET, "/functions/elsewhere/code", ""),
        (Method::PUT, "/functions/scoped-a", "{\"timeout\": 4}"),
        (Method::POST, "/functions/", &body),
        (Method::DELETE, "/functions/scoped-b", ""),
        (Method::DELETE, &other, ""),
        (Method::GET, "/runtimes/", ""),
        (Method::GET, "/openapi.json", ""),
        (Method::GET, "/metrics", ""),
        (Method::GET, "/keys/", ""),
        (Method::POST, "/keys/", "{}"),
        (Method::DELETE, "/keys/x", ""),
        (Method::GET, "/layers/x/y", ""),
    ];
    let scoped = json!(["scoped-*"]);
    let wanted = [
        (
            json!({"scopes": ["invoke"], "functions": scoped}),
            [
                200, 403, 403, 404, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403,
                200, 200, 403, 403, 403, 403, 403,
            ],
        ),
        (
            json!({"scopes": ["deploy"], "functions": scoped}),
            [
                403, 403, 403, 403, 403, 403, 200, 200, 403, 403, 403, 403, 200, 201, 204, 403,
                200, 200, 403, 403, 403, 403, 403,
            ],
        ),
        (
            json!({"scopes": ["invoke", "deploy"]}),
            [
                200, 200, 200, 404, 404, 200, 200, 200, 200, 200, 200, 200, 200, 201, 204, 204,
                200, 200, 403, 403, 403, 403, 403,
            ],
        ),
        (
            json!({"scopes": ["admin"], "expires_in": 3600}),
            [
                200, 404, 404, 404, 404, 200, 200, 200, 404, 404, 404, 404, 200, 201, 204, 404,
                200, 200, 200, 200, 400, 404, 404,
            ],
        ),
    ];
    for (settings, statuses) in wanted {
        let (client, path) = issue(&server, settings.clone()).await;
        for ((method, path, body), status) in requests.iter().zip(statuses) {
            let answer = client.send(method.clone(), path, body.to_string()).await;
            assert_eq!(
                answer.status,
                status,
                "{settings}: {method} {path}: {}",
                answer.text()
            );
            if status == 403 {
                let error = answer.error(403);
                let code = error["code"].as_str().unwrap();
                assert!(
                    matches!(code, "scope_missing" | "function_not_allowed"),
                    "{error}"
                );
                let needed = error["reason"].as_str().unwrap();
                assert!(
                    error["message"].as_str().unwrap().contains(needed),
                    "{error}"
                );
            }
        }
        server.client.delete(&path).await.expect(204);
        client.get("/runtimes/").await.error(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_keys_is_slowed_down_and_who_has_one_is_not() {
    let server = Server::start(&[("server.failed_keys", "3"), ("pool.stem_min", "0")]);
    let with = |key: Option<&str>| Client {
        address: server.client.address.clone(),
        key: key.map(str::to_owned),
    };
    let (wrong, nobody) = (with(Some("hk_wrong_key")), with(None));
    // More than are free, however slow this machine is: one is forgiven every second.
    let slowed = eventually("a wrong key to be slowed down", || async {
        let answer = wrong.get("/functions/").await;
        (answer.status != 401).then_some(answer)
    })
    .await;
    assert!(slowed.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(slowed.header("connection"), "close");
    let error = slowed.error(429);
    assert_eq!(error["code"], "too_many_wrong_keys", "{error}");
    server.client.get("/functions/").await.expect(200);
    nobody.get("/functions/").await.error(401);
    let metrics = server.metrics().await;
    let failed = |reason: &str| metrics.sum("hearth_auth_failures_total", &[("reason", reason)]);
    assert!(failed("unknown") >= 4.0 && failed("missing") >= 1.0);
    assert!(metrics.sum("hearth_auth_slowed_total", &[]) >= 1.0);
    assert!(
        server.log().contains("keys that open nothing"),
        "{}",
        server.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_at_its_time() {
    let server = Server::shared();
    let (client, path) = issue(&server, json!({"scopes": ["deploy"], "expires_in": 2})).await;
    // On a machine that is very busy its time may be over before the first look.
    let first = client.get("/runtimes/").await.status;
    assert!(matches!(first.as_u16(), 200 | 401), "{first}");
    eventually("the key to end", || async {
        let status = client.get("/runtimes/").await.status;
        (status == 401).then_some(())
    })
    .await;
    let listed = server.client.get("/keys/").await.json();
    let id = path.strip_prefix("/keys/").unwrap();
    let keys = listed["items"].as_array().unwrap();
    let key = keys.iter().find(|key| key["id"] == id).unwrap();
    assert_eq!(key["expired"], true, "{key}");
    server.client.delete(&path).await.expect(204);
}

/// Every file below, with what is in it.
fn files(directory: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_made_once_and_kept_for_its_owner_alone() {
    let settings = [("pool.stem_min", "0"), ("log.level", "trace")];
    let server = Server::start(&settings);
    let key = server.client.key.clone().unwrap();
    assert!(key.len() >= 64, "enough that nobody guesses it");
    server
        .deploy("any", "def handler(event, context): return 1", json!({}))
        .await;
    server.call("any", &json!({})).await.expect(200);
    server.expects("");
    let state = server.stop();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(state.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("admin.key"), 0o600);
    assert_eq!(
        mode(""),
        0o700,
        "nobody else looks into the state directory"
    );
    let mut found = Vec::new();
    // The log stands beside the state, and has everything in it that can be logged.
    files(state.path().parent().unwrap(), &mut found);
    assert!(found.len() >= 4, "store, key, instance and log");
    let holds = |(_, bytes): &&(_, Vec<u8>)| bytes.windows(key.len()).any(|w| w == key.as_bytes());
    let holding: Vec<_> = found.iter().filter(holds).map(|(path, _)| path).collect();
    assert_eq!(holding, [&state.path().join("admin.key")]);

    let server = Server::start_on(state, &settings);
    server.expects("");
    assert_eq!(server.client.key.as_ref(), Some(&key));
    server.client.get("/functions/any").await.expect(200);
}
