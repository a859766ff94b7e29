//! One connection to the server under load, kept alive. A call that fails costs the connection: what state it is in is not known.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::load::Error;
use crate::load::origin::{Call, Origin};
use crate::task;

/// No answer is longer; Hearth's own are below 7 MiB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody accepted the connection.
    Connect,
    /// It broke before the head of the answer.
    Broken,
    /// It broke, or grew too long, in the body of the answer.
    Body,
    Timeout,
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Broken => "broken",
            Failure::Body => "body",
            Failure::Timeout => "timeout",
        }
    }
}

#[derive(Debug)]
pub struct Connection {
    origin: Origin,
    host: HeaderValue,
    timeout: Duration,
    open: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Connects with the first call.
    pub fn new(origin: Origin, timeout: Duration) -> Result<Self, Error> {
        let host = HeaderValue::from_str(&origin.address().to_string())
            .map_err(|e| Error::Request(e.into()))?;
        Ok(Self {
            origin,
            host,
            timeout,
            open: None,
        })
    }

    /// Sends one call and waits for its whole answer.
    pub async fn call(&mut self, call: &Call) -> Result<Answer, Failure> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(call)).await;
        let result = answered.unwrap_or(Err(Failure::Timeout));
        if result.is_err() {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, call: &Call) -> Result<Answer, Failure> {
        let request = call.request(&self.host);
        let sender = match self.open.as_mut() {
            Some(sender) => sender,
            None => {
                let sender = connect(self.origin).await?;
                self.open.insert(sender)
            }
        };
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(|_broken| Failure::Broken)?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|_broken| Failure::Body)?.to_bytes();
        // The server may close after any answer; then the next call connects anew.
        if sender.is_closed() {
            self.open = None;
        }
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

async fn connect(origin: Origin) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(origin.address())
        .await
        .map_err(|_refused| Failure::Connect)?;
    stream.set_nodelay(true).map_err(|_gone| Failure::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_broken| Failure::Connect)?;
    task::spawn(task::Kind::Local, "load connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection under load ended early");
        }
    });
    sender.ready().await.map_err(|_broken| Failure::Connect)?;
    Ok(sender)
}
