//! A planted secret, and everywhere it must not be: at rest, in the log, in answers. And the one place where it must: the function.

use std::path::{Path, PathBuf};

use http::Method;
use serde_json::json;

use crate::server::Server;

pub(crate) const TELLS: &str =
    "import os\ndef handler(event, context):\n    return os.environ['TOKEN']\n";

/// Every file below that has the text in it.
pub(crate) fn holding(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if path.is_file() {
            // What is a worker's may go while it is looked at.
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_the_function_and_nothing_else() {
    const SECRET: &str = "planted-5b1f0c2e-secret";
    let settings = [("log.level", "trace"), ("pool.stem_min", "1")];
    let server = Server::start(&settings);
    let made = server
        .deploy("keeper", TELLS, json!({"environment": {"TOKEN": SECRET}}))
        .await;
    assert_eq!(made["environment"], json!({"TOKEN": "****"}));
    let tells = async |server: &Server| server.call("keeper", &json!({})).await.expect(200).json();
    assert_eq!(tells(&server).await, SECRET);
    // What is sent back as it was shown changes nothing.
    let path = "/functions/keeper";
    let change = json!({"environment": {"TOKEN": "****", "MORE": "x"}});
    server.client.put(path, &change).await.expect(200);
    assert_eq!(tells(&server).await, SECRET);
    // Mistakes are told without it.
    for wrong in [
        json!({"environment": {"TOKEN": SECRET, "1": SECRET, "AWS_REGION": SECRET, "N": [SECRET]}}),
        json!({"environment": {"TOKEN": SECRET, "LONG": "x".repeat(5000)}}),
        json!({"environment": {"TOKEN": SECRET}, "revision": 99}),
        json!({"environment": SECRET.repeat(2)}),
    ] {
        let answer = server.client.put(path, &wrong).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
    }
    let broken = format!("{{\"environment\": {{\"TOKEN\": \"{SECRET}\" \"B\"}}}}");
    let answer = server.client.send(Method::PUT, path, broken).await;
    assert!(!answer.expect(400).text().contains(SECRET));
    for path in [
        path,
        "/functions/",
        "/metrics",
        "/functions/keeper/logs",
        "/openapi.json",
    ] {
        let text = server.client.get(path).await.expect(200).text();
        assert!(!text.contains(SECRET), "{path}");
    }
    let beside = server.state().path().parent().unwrap().to_owned();
    let nowhere = Vec::<PathBuf>::new();
    assert_eq!(holding(&beside, SECRET), nowhere, "while it runs");
    server.expects("");
    let state = server.stop();
    assert_eq!(holding(&beside, SECRET), nowhere);

    let server = Server::start_on(state, &settings);
    server.expects("");
    assert_eq!(tells(&server).await, SECRET, "after a restart");
    let state = server.crash();
    // Its key file is lost: that is said, and nothing else is wrong.
    std::fs::remove_file(state.path().join("secrets.key")).unwrap();
    let server = Server::start_on(state, &settings);
    server.expects("");
    let error = server.call("keeper", &json!({})).await.error(503);
    assert_eq!(error["code"], "environment_unreadable", "{error}");
    assert!(server.log().contains("environment cannot be decrypted"));
    let anew = json!({"environment": {"TOKEN": "given anew"}});
    server.client.put(path, &anew).await.expect(200);
    assert_eq!(tells(&server).await, "given anew");
}
