//! One connection to the server under load, kept alive. A call that fails costs the connection: what state it is in is not known.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::load::Error;
use crate::load::origin::{Call, Origin};

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
    open: Option<Box<Open>>,
}

/// Both ends of a connection: who sends a call and waits for the answer moves it, too. In a task of its own it would have a turn more for
/// each of both, on a processor that the server wants.
#[derive(Debug)]
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    ended: bool,
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
        answered.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&mut self, call: &Call) -> Result<Answer, Failure> {
        // Kept again only with a whole answer.
        let mut kept = self.open.take();
        if let Some(open) = &mut kept
            && open.has_ended().await
        {
            kept = None;
        }
        let mut open = match kept {
            Some(open) => open,
            None => Box::new(connect(self.origin).await?),
        };
        let answer = open.exchange(call.request(&self.host)).await?;
        // The server may close after any answer; then the next call connects anew.
        if !open.ended && !open.sender.is_closed() {
            self.open = Some(open);
        }
        Ok(answer)
    }
}

impl Open {
    /// Whether the server has closed it since the last answer.
    async fn has_ended(&mut self) -> bool {
        poll_fn(|context| {
            self.go_on(context);
            Poll::Ready(())
        })
        .await;
        self.ended
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let sent = self.sender.send_request(request);
        let answered = async {
            let (head, body) = sent.await.map_err(|_broken| Failure::Broken)?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.map_err(|_broken| Failure::Body)?.to_bytes(),
            })
        };
        let mut answered = pin!(answered);
        poll_fn(|context| {
            self.go_on(context);
            answered.as_mut().poll(context)
        })
        .await
    }

    /// Writes and reads what can be. An end shows in what is waited for.
    fn go_on(&mut self, context: &mut Context<'_>) {
        if !self.ended
            && let Poll::Ready(end) = Pin::new(&mut self.connection).poll(context)
        {
            self.ended = true;
            if let Err(error) = end {
                tracing::debug!(%error, "connection under load ended early");
            }
        }
    }
}

async fn connect(origin: Origin) -> Result<Open, Failure> {
    let stream = TcpStream::connect(origin.address())
        .await
        .map_err(|_refused| Failure::Connect)?;
    stream.set_nodelay(true).map_err(|_gone| Failure::Connect)?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|_broken| Failure::Connect)?;
    Ok(Open {
        sender,
        connection,
        ended: false,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_costs_no_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = Origin::new(listener.local_addr().expect("bound")).expect("loopback");
        let (closed, mut seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    stream.read_buf(&mut request).await.expect("a request");
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
                stream.write_all(answer).await.expect("written");
                drop(stream);
                closed.send(()).expect("somebody waits");
            }
        });
        let mut connection = Connection::new(origin, Duration::from_secs(30)).expect("an address");
        let call = Call::post("/", "{}").expect("a call");
        for _ in 0..3 {
            let answer = connection.call(&call).await.expect("an answer");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
            seen.recv().await.expect("it goes on");
            // With this the reactor is asked, which then knows.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
