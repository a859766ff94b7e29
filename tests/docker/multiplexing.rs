//! The same server over HTTP/2: many calls on one connection, each on its own.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::server::Server;

async fn post(
    mut sender: SendRequest<Full<Bytes>>,
    server: &Server,
    path: &str,
    event: Value,
) -> hyper::Result<(StatusCode, Bytes)> {
    let request = Request::post(format!("http://{}{path}", server.client.address))
        .header("x-api-key", server.client.key.as_deref().unwrap())
        .body(Full::new(Bytes::from(event.to_string())))
        .unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head.status, body.collect().await?.to_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_a_connection_and_one_that_is_given_up_ends_alone() {
    let server = Server::shared();
    let code = r#"
import time
def handler(event, context):
    try:
        if event > 1: print("begun", flush=True)
        time.sleep(event)
    finally:
        if event > 1: print("told", flush=True)
    return event
"#;
    server.deploy("shares", code, json!({"timeout": 100})).await;
    let stream = TcpStream::connect(&server.client.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let path = "/functions/shares/execute";
    let given_up = {
        let (sender, server) = (sender.clone(), server.clone());
        tokio::spawn(async move { post(sender, &server, path, json!(60)).await })
    };
    server.printed("shares", "begun").await;
    let calls = (0..8).map(|_| post(sender.clone(), &server, path, json!(0.1)));
    for answer in futures_util::future::join_all(calls).await {
        let (status, body) = answer.unwrap();
        assert_eq!((status.as_u16(), &body[..]), (200, &b"0.1"[..]));
    }
    // Its stream is reset; the connection stays.
    given_up.abort();
    server.printed("shares", "told").await;
    let (status, _) = post(sender.clone(), &server, path, json!(0)).await.unwrap();
    assert_eq!(status, 200);
    drop(sender);
    drop(connection.await);
}
