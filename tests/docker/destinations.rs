//! Where records of asynchronous calls go: to functions, webhooks and streams, and never nowhere.

use std::collections::HashSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Server, State};
use crate::sharing::Redis;
use crate::sweep::swept;
use crate::wait::eventually;

const ECHO: &str = "def handler(event, context):\n    return {'got': event}\n";
const FAILING: &str = "def handler(event, context):\n    raise ValueError('never')\n";
/// Prints whose record it is.
const TAKER: &str = "def handler(event, context):\n    print('taken', event['requestContext']['requestId'], event['requestContext']['condition'])\n";

async fn submit(server: &Server, name: &str, event: &Value) -> String {
    let path = format!("/functions/{name}/execute");
    let headers = [("x-amz-invocation-type", "Event")];
    let client = &server.client;
    let answer = client
        .send_with(Method::POST, &path, &headers, event.to_string())
        .await;
    let answer = answer.expect(202).json();
    answer["request_id"].as_str().expect("an id").to_owned()
}

async fn state(server: &Server, id: &str) -> String {
    let known = server.client.get(&format!("/invocations/{id}")).await;
    let known = known.expect(200).json();
    known["state"].as_str().expect("a state").to_owned()
}

async fn dead(server: &Server) -> Vec<Value> {
    let page = server.client.get("/dead-letters/").await.expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

/// A server that says it is busy to the first delivery and takes the others.
pub(crate) struct Hook {
    pub(crate) url: String,
    pub(crate) bodies: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let taken = bodies.clone();
        let task = tokio::spawn(async move {
            let mut first = true;
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut got = Vec::new();
                // Whoever delivers may be killed while it does.
                let body = loop {
                    let mut piece = [0; 4096];
                    let read = stream.read(&mut piece).await.unwrap_or_default();
                    got.extend_from_slice(&piece[..read]);
                    let text = String::from_utf8_lossy(&got);
                    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                    let whole = body.and_then(|body| serde_json::from_str::<Value>(body).ok());
                    if whole.is_some() || read == 0 {
                        break whole;
                    }
                };
                let Some(body) = body else { continue };
                let status = match std::mem::take(&mut first) {
                    true => "503 Busy",
                    false => "200 OK",
                };
                if status == "200 OK" {
                    taken.lock().unwrap().push(body);
                }
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                drop(stream.write_all(head.as_bytes()).await);
            }
        });
        Self { url, bodies, task }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Another function may get that name, but nobody waits for hours for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_function_that_is_gone_is_soon_a_dead_letter() {
    let server = Server::start(&[("events.retry_delay", "50ms")]);
    server.deploy("taker", TAKER, json!({})).await;
    let told = json!({"on_success": "function:taker"});
    server.deploy("good", ECHO, told).await;
    let gone = server.client.delete("/functions/taker").await;
    gone.expect(204);
    let good = submit(&server, "good", &json!(1)).await;
    let letter = eventually("a dead letter", || async { dead(&server).await.pop() }).await;
    assert_eq!(letter["error"]["code"], "not_found", "{letter}");
    let message = letter["error"]["message"].as_str().expect("a reason");
    assert!(message.contains("\"taker\""), "{message}");
    assert_eq!(
        (&letter["attempts"], &letter["destination"]),
        (&json!(3), &json!("function:taker"))
    );
    assert_eq!(state(&server, &good).await, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_to_a_function_and_to_a_webhook() {
    let hook = Hook::start().await;
    let server = Server::start(&[("events.webhooks", "any"), ("events.retry_delay", "50ms")]);
    server.deploy("taker", TAKER, json!({})).await;
    let told = json!({"on_success": "function:taker", "on_failure": hook.url, "max_retries": 0});
    server.deploy("good", ECHO, told.clone()).await;
    let made = server.deploy("bad", FAILING, told).await;
    assert_eq!(
        (&made["on_failure"], &made["max_retries"]),
        (&json!(hook.url), &json!(0))
    );

    let good = submit(&server, "good", &json!({"n": 1})).await;
    server
        .printed("taker", &format!("taken {good} Success"))
        .await;
    assert_eq!(state(&server, &good).await, "succeeded");

    let bad = submit(&server, "bad", &json!({"n": 2})).await;
    let record = eventually("the webhook to be told", || async {
        hook.bodies.lock().unwrap().first().cloned()
    })
    .await;
    assert_eq!(record["requestContext"]["requestId"], *bad);
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!(record["requestPayload"], json!({"n": 2}));
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["responsePayload"]["errorType"], "ValueError");
    assert_eq!(state(&server, &bad).await, "failed");
    assert!(dead(&server).await.is_empty());

    // Where there is no Redis there is no stream, and nobody can be told who is not there.
    let stream = json!({"on_success": "stream:x"});
    let refused = server.client.put("/functions/good", &stream).await;
    assert_eq!(
        refused.expect(400).json()["error"]["faults"][0]["field"],
        "on_success"
    );
    let nobody = json!({"on_success": "function:nobody"});
    server
        .client
        .put("/functions/good", &nobody)
        .await
        .expect(200);
    submit(&server, "good", &json!({"n": 3})).await;
    let letter = eventually("the record to be a dead letter", || async {
        dead(&server).await.pop()
    })
    .await;
    assert_eq!(letter["destination"], "function:nobody");
    assert_eq!(letter["error"]["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_its_way_when_a_process_is_killed() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("store.url", url.as_str()), ("events.lease", "2s")];
    let (a, b) = (Server::start(&settings), Server::start(&settings));
    a.deploy("good", ECHO, json!({"on_success": "stream:{told}good"}))
        .await;
    eventually("the function to be known", || async {
        let answer = b.client.get("/functions/good").await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    let mut ids = HashSet::new();
    for n in 0..30 {
        ids.insert(submit(&a, "good", &json!({"n": n})).await);
    }
    let left: State = a.crash();
    let socket = url.strip_prefix("redis+unix://").expect("a socket");
    eventually("every record to be in the stream", || async {
        let output = Command::new("redis-cli")
            .args(["-s", socket, "XRANGE", "{told}good", "-", "+"])
            .output()
            .expect("redis-cli is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ids.iter()
            .all(|id| text.contains(id.as_str()))
            .then_some(())
    })
    .await;
    for id in &ids {
        assert_eq!(state(&b, id).await, "succeeded");
    }
    assert!(dead(&b).await.is_empty());
    swept(&b).await;
    // To have its containers cleared away.
    swept(&Server::start_on(left, &settings)).await;
}
