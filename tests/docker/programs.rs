//! Functions that are programs of their own, on AWS's Runtime API: in bash by hand, and in Rust on AWS's client.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::server::Server;
use crate::{built, languages};

const BASH: &str = r#"#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
trap 'echo told; exit 0' TERM
echo loading
while event=$(curl -s -f -D /tmp/headers "$api/next"); do
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *\([^\r]*\).*/\1/Ip' /tmp/headers)
    echo "event $event"
    case $event in
    *fail*) curl -s -o /dev/null -d '{"errorType":"Odd","errorMessage":"as told"}' "$api/$id/error"; continue ;;
    *exit*) exit 3 ;;
    *sleep*) for n in {1..600}; do sleep 0.1; done ;;
    *meet*) sleep 2 ;;
    esac
    curl -s -o /dev/null --data-binary "{\"api\": \"$AWS_LAMBDA_RUNTIME_API\", \"handler\": \"$_HANDLER\"}" "$api/$id/response"
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_a_function() {
    let server = Server::shared();
    let settings = json!({"language": "provided", "timeout": 2});
    server.deploy("script", BASH, settings).await;
    let answer = server.call("script", &json!({"n": 1})).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let want = json!({"api": "127.0.0.1:9001", "handler": "bootstrap"});
    assert_eq!(answer.json(), want);
    let lines = server.lines("script", Some(&answer.request_id())).await;
    assert_eq!(lines, [r#"event {"n":1}"#]);
    let again = server.call("script", &json!({})).await.expect(200);
    assert_eq!(again.start(), "warm");

    let failed = server.call("script", &json!("fail")).await;
    let error = failed.error(502);
    assert!(error.to_string().contains("as told"), "{error}");
    assert_eq!(server.call("script", &json!({})).await.start(), "warm");

    let exited = server.call("script", &json!("exit")).await.error(502);
    let message = exited["message"].as_str().unwrap();
    assert!(message.contains("exited with status 3"), "{exited}");

    let late = server.call("script", &json!("sleep")).await;
    assert_eq!(late.status, 504, "{}", late.text());
    server.printed("script", "told").await;
    server.call("script", &json!({})).await.expect(200);
}

/// The workers of a function with a network share its loopback.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_share_a_network_have_an_api_each() {
    let server = Server::shared();
    let settings = json!({"language": "provided", "network": "egress", "timeout": 60});
    server.deploy("script-egress", BASH, settings).await;
    let event = json!("meet");
    let (one, other) = tokio::join!(
        server.call("script-egress", &event),
        server.call("script-egress", &event)
    );
    let (one, other) = (one.expect(200).json(), other.expect(200).json());
    assert_ne!(one["api"], other["api"], "{one} {other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_the_clients_own_library_is_a_function() {
    let runtimes = languages::all();
    let mut runtimes = runtimes.iter();
    let runtime = runtimes.find(|r| r.answers_to("provided")).unwrap();
    built::build(&runtime.folder.join("contract")).unwrap();
    let program = runtime.folder.join("contract/rust/bin/bootstrap");
    let server = Server::shared();
    let body = json!({"name": "rust", "language": "provided.al2023", "handler": "any", "code_path": program});
    let made = server.client.post("/functions/", &body).await.expect(201);
    assert_eq!(made.json()["language"], "provided");
    let answer = server.call("rust", &json!({"n": [1, 2]})).await.expect(200);
    assert_eq!(answer.json(), json!({"n": [1, 2]}));
    let described = server.call("rust", &json!({"do": "describe"})).await;
    let described = described.expect(200);
    assert_eq!(described.start(), "warm");
    assert_eq!(described.json()["request_id"], described.request_id());
    assert_eq!(described.json()["function_name"], "rust");
    let failed = server
        .call("rust", &json!({"do": "fail", "thing": "x"}))
        .await;
    assert!(failed.error(502).to_string().contains("no such thing"));

    // A package as it comes from where there are no marks for programs.
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o644);
    zip.start_file("bootstrap", options).unwrap();
    std::io::Write::write_all(&mut zip, b"#!/bin/sh\n").unwrap();
    let zip = STANDARD.encode(zip.finish().unwrap().into_inner());
    let body =
        json!({"name": "unmarked", "language": "provided", "handler": "any", "code": {"zip": zip}});
    server.client.post("/functions/", &body).await.expect(201);
    let refused = server.call("unmarked", &json!({})).await.error(502);
    let text = refused.to_string();
    assert!(
        text.contains("Runtime.InvalidEntrypoint") && text.contains("chmod +x"),
        "{text}"
    );
}
