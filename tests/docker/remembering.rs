//! What calls were given and what they answered, as it is kept for who looks at them: on every face, and nowhere but in memory.

use http::Method;
use serde_json::{Value, json};

use crate::server::Server;
use crate::wait::eventually;

const CODE: &str = "\
def handler(event, context):
    if isinstance(event, dict) and event.get('fail'):
        raise ValueError(event['fail'])
    if isinstance(event, bytes):
        return event
    return {'seen': event}
";

async fn known(server: &Server, id: &str) -> Value {
    let path = format!("/invocations/{id}");
    server.client.get(&path).await.expect(200).json()
}

fn body(content: &Value) -> Value {
    let text = content["body"].as_str().expect("it is kept");
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_was_given_and_answered_is_kept_whoever_made_it() {
    let server = Server::start(&[("invocations.keep_except", "[\"silent-*\"]")]);
    let settings = json!({"route": "/remembered"});
    server.deploy("remembered", CODE, settings).await;
    server.deploy("silent-one", CODE, json!({})).await;
    let path = "/functions/remembered/execute";

    let secret = json!({"text": "kept-in-memory-alone"});
    let called = server.call("remembered", &secret).await.expect(200);
    let exchange = known(&server, &called.request_id()).await;
    assert_eq!(body(&exchange["payload"]), secret);
    assert_eq!(
        exchange["answer"]["body"].as_str(),
        Some(called.text().as_str())
    );

    // Bytes, which need not be text.
    let bytes = [("content-type", "application/octet-stream")];
    let sent = server
        .client
        .send_with(Method::POST, path, &bytes, &b"\x00\xff"[..]);
    let sent = sent.await.expect(200);
    let exchange = known(&server, &sent.request_id()).await;
    for part in ["payload", "answer"] {
        let wanted =
            json!({"body": "AP8=", "base64": true, "raw": true, "size": 2, "absent": null});
        assert_eq!(exchange[part], wanted, "{part}");
    }

    // What it raised is its answer.
    let failed = server.call("remembered", &json!({"fail": "no"})).await;
    failed.error(502);
    let exchange = known(&server, &failed.request_id()).await;
    let report = body(&exchange["answer"]);
    assert_eq!(
        (&report["errorType"], &report["errorMessage"]),
        (&json!("ValueError"), &json!("no"))
    );

    // One that is run later.
    let event = [("x-amz-invocation-type", "Event")];
    let later = server
        .client
        .send_with(Method::POST, path, &event, r#"{"n":1}"#);
    let id = later.await.expect(202).request_id();
    let ended = eventually("the event to be run", || async {
        let now = known(&server, &id).await;
        (now["state"] == "succeeded").then_some(now)
    })
    .await;
    assert_eq!(body(&ended["payload"]), json!({"n": 1}));
    assert_eq!(body(&ended["answer"]), json!({"seen": {"n": 1}}));

    // Plain HTTP: what the function was given is the event that was made of it.
    server.client.get("/remembered?a=b").await.expect(200);
    let calls = server
        .client
        .get("/functions/remembered/invocations?limit=1");
    let calls = calls.await.expect(200).json();
    let id = calls["items"][0]["request_id"].as_str().unwrap().to_owned();
    let event = body(&known(&server, &id).await["payload"]);
    assert_eq!(
        (&event["rawPath"], &event["queryStringParameters"]["a"]),
        (&json!("/remembered"), &json!("b"))
    );

    // What is too much, and what nobody may keep.
    let large = json!("x".repeat(20_000));
    let large = server.call("remembered", &large).await.expect(200);
    let large = known(&server, &large.request_id()).await;
    assert_eq!(large["payload"]["absent"], "too_large");
    assert_eq!(large["answer"]["absent"], "too_large");
    let silent = server.call("silent-one", &json!(1)).await.expect(200);
    let silent = known(&server, &silent.request_id()).await;
    assert_eq!(silent["payload"]["absent"], "off");

    assert!(!server.log().contains("kept-in-memory-alone"));
}
