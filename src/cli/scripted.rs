//! A server for tests: answers every request as a closure says and keeps what it was asked. Real HTTP over a real socket.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::task;

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

pub(super) struct Server {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Request<Bytes>>>>,
    running: tokio::task::JoinHandle<Option<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    /// `answer` is given the request and how many came before it.
    pub(super) async fn start(
        answer: impl Fn(&Request<Bytes>, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), asked.clone());
        let running = task::spawn(task::Kind::Local, "scripted server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, log) = (answer.clone(), log.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a whole body").to_bytes();
                        let request = Request::from_parts(head, body);
                        let before = log.lock().len();
                        let reply = answer(&request, before);
                        log.lock().push(request);
                        Ok::<_, Infallible>(reply)
                    }
                });
                task::spawn(task::Kind::Local, "scripted connection", async move {
                    let io = TokioIo::new(stream);
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                    // A client that leaves in the middle is part of some tests.
                    drop(served);
                });
            }
        });
        Self {
            url: format!("http://{address}"),
            asked,
            running,
        }
    }

    /// Method and path of everything asked so far.
    pub(super) fn lines(&self) -> Vec<String> {
        let asked = self.asked.lock();
        let line = |request: &Request<Bytes>| format!("{} {}", request.method(), request.uri());
        asked.iter().map(line).collect()
    }

    /// A header of the request with this number.
    pub(super) fn header(&self, number: usize, name: &str) -> Option<String> {
        let asked = self.asked.lock();
        let value = asked[number].headers().get(name)?;
        Some(value.to_str().expect("text").to_owned())
    }

    /// The body of the request with this number, as JSON.
    pub(super) fn body(&self, number: usize) -> Value {
        serde_json::from_slice(self.asked.lock()[number].body()).expect("JSON")
    }
}

pub(super) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    let body = Full::new(body.into()).map_err(|never| match never {});
    reply.body(body.boxed_unsync()).expect("a reply")
}

pub(super) fn json(status: u16, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    reply(status, &headers, body.to_string())
}

/// A body that comes in pieces; one that ends in an error cuts the connection.
pub(super) fn pieces(kind: &str, pieces: Vec<std::io::Result<&'static str>>) -> Reply {
    let frames = futures_util::stream::iter(pieces).then(async |piece| {
        // The server writes what it has while it waits for more; without a wait, an error would overtake the pieces before it.
        tokio::task::yield_now().await;
        piece.map(|text| Frame::data(Bytes::from(text)))
    });
    let body = StreamBody::new(frames);
    let reply = Response::builder().header("content-type", kind);
    reply.body(body.boxed_unsync()).expect("a reply")
}
