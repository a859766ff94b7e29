//! A client that shows everything: status, headers, body, the pieces of a stream as they come, and the moment a connection ends.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::wait::PATIENCE;

/// Where and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) key: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One connection, for one request after the other. Dropping it closes it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
    client: Client,
}

/// The beginning of an answer; its body is still to come.
pub(crate) struct Opened {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Connection,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub(crate) async fn connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let task = tokio::spawn(async move {
            // How it ended shows in the request that was under way.
            drop(connection.await);
        });
        Ok(Connection {
            sender,
            task,
            client: self.clone(),
        })
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut connection = self.connect().await.expect("the server accepts");
        connection
            .send_with(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "").await
    }

    /// The beginning of an answer.
    pub(crate) async fn open(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Opened {
        self.open_with(method, path, &[], body).await
    }

    pub(crate) async fn open_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Opened {
        let mut connection = self.connect().await.expect("the server accepts");
        let opened = connection.begin(method, path, headers, body).await;
        let (head, body) = opened
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .into_parts();
        Opened {
            status: head.status,
            headers: head.headers,
            body,
            _connection: connection,
        }
    }
}

impl Connection {
    async fn begin(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> hyper::Result<http::Response<Incoming>> {
        self.sender.ready().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.client.address);
        if let Some(key) = &self.client.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = tokio::time::timeout(PATIENCE, self.sender.send_request(request));
        answer.await.expect("an answer within the tests' patience")
    }

    pub(crate) async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> hyper::Result<Answer> {
        let (head, body) = self.begin(method, path, headers, body).await?.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("a body within the tests' patience")?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> hyper::Result<Answer> {
        self.send_with(Method::POST, path, &[], body.to_string())
            .await
    }
}

impl Opened {
    /// The next piece; `None` at a proper end, an error where the connection was cut.
    pub(crate) async fn piece(&mut self) -> hyper::Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            match frame.expect("a piece within the tests' patience") {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the answer {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().expect("a header of text")
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The error's code, which must come with this status.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert_eq!(error["request_id"], self.header("x-request-id"), "{error}");
        error
    }

    pub(crate) fn start(&self) -> &str {
        self.header("x-hearth-start")
    }

    pub(crate) fn request_id(&self) -> String {
        self.header("x-request-id").to_owned()
    }

    /// A phase of `server-timing`.
    pub(crate) fn phase(&self, phase: &str) -> Duration {
        let timing = self.header("server-timing");
        let entry = timing
            .split(", ")
            .find_map(|entry| entry.strip_prefix(phase)?.strip_prefix(";dur="))
            .unwrap_or_else(|| panic!("no {phase} in {timing}"));
        let ms: f64 = entry.split(';').next().unwrap().parse().unwrap();
        Duration::from_secs_f64(ms / 1000.0)
    }
}
