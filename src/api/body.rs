//! The one body type of every answer, so that the gateway can serve calls and the control API from the same connection.
//! Warm path: `Full` is the answer's bytes as the worker sent them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::domain::fault::{Blame, Fault};
use crate::domain::id::RequestId;
use crate::scheduler;

pub enum Body {
    Full(Bytes),
    Stream {
        request_id: RequestId,
        body: scheduler::Body,
    },
    Control(axum::body::Body),
}

/// Ends the connection in the middle of the body, which is how a client learns that the answer is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the function failed in the middle of its answer")]
    Cut(#[source] Fault),
    #[error("the control API failed in the middle of its answer")]
    Control(#[source] axum::Error),
}

impl Default for Body {
    fn default() -> Self {
        Body::Full(Bytes::new())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Body::Stream { request_id, .. } => write!(f, "Stream({request_id})"),
            Body::Control(_) => f.write_str("Control"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Body::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream { request_id, body } => {
                let Some(next) = ready!(body.as_mut().poll_next(cx)) else {
                    return Poll::Ready(None);
                };
                Poll::Ready(Some(match next {
                    Ok(bytes) => Ok(Frame::data(bytes)),
                    Err(fault) => {
                        log_cut(request_id, &fault);
                        Err(Error::Cut(fault))
                    }
                }))
            }
            Body::Control(body) => {
                let next = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(next.map(|frame| frame.map_err(Error::Control)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(bytes) => bytes.is_empty(),
            Body::Stream { .. } => false,
            Body::Control(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream { .. } => SizeHint::default(),
            Body::Control(body) => body.size_hint(),
        }
    }
}

/// The head is out, so the fault has no other way to be seen than here.
fn log_cut(request_id: &RequestId, fault: &Fault) {
    match fault.blame() {
        Blame::Platform => {
            tracing::warn!(%request_id, code = fault.code(), %fault, "streaming answer cut");
        }
        Blame::Client | Blame::Function => {
            tracing::debug!(%request_id, code = fault.code(), %fault, "streaming answer cut");
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_fails_ends_in_an_error_and_not_in_an_end() {
        let parts = [Ok(Bytes::from("one")), Err(Fault::Exited { code: Some(1) })];
        let mut body = Body::Stream {
            request_id: RequestId::generate(),
            body: Box::pin(futures_util::stream::iter(parts)),
        };
        let first = body.frame().await.expect("a frame").expect("data");
        assert_eq!(first.into_data().expect("data"), "one");
        assert!(matches!(
            body.frame().await,
            Some(Err(Error::Cut(Fault::Exited { code: Some(1) })))
        ));
    }

    #[tokio::test]
    async fn a_whole_answer_says_its_length() {
        let body = Body::Full(Bytes::from("{}"));
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(2));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "{}");
    }
}
