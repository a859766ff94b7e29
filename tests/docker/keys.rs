//! The admin key: asked for at every face but health, kept for its owner alone, and nowhere else readable.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::server::Server;

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
        (Method::GET, "/docs/"),
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
