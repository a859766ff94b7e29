//! One invocation on one worker: INVOKE out, frames back. Warm path: the calling task does it all. What the worker did decides
//! whether it can be used again; whoever holds the lease acts on that.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;

use crate::clock;
use crate::clock::patience::Elapsed;
use crate::domain::fault::{Fault, Report};
use crate::domain::invocation::Invocation;
use crate::domain::limits::{ANSWER_MAX, Mebibytes};
use crate::engine::{self, ContainerId, Engine};
use crate::worker::Worker;
use crate::worker::connection::{self, Rest};
use crate::worker::frame::{self, Frame, Kind};
use crate::worker::message;

/// A worker whose connection closed has this long to be seen dead by the engine.
const EXIT_WAIT: Duration = Duration::from_secs(2);
const EXIT_POLL: Duration = Duration::from_millis(20);

/// What a handler answered.
pub enum Answer {
    Whole {
        body: Bytes,
        /// Bytes, not JSON.
        raw: bool,
    },
    Stream {
        content_type: String,
        body: Body,
    },
}

/// The rest of a streaming answer. Dropping it early means the client is gone.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Whole { body, raw } => write!(f, "Whole({} bytes, raw: {raw})", body.len()),
            Answer::Stream { content_type, .. } => write!(f, "Stream({content_type})"),
        }
    }
}

/// How far an invocation came.
#[derive(Debug)]
pub enum Step {
    /// The answer. The worker is free.
    Answered { body: Bytes, raw: bool },
    /// The handler failed, or the payload was refused. The worker is free.
    Failed(Fault),
    /// The same, but the worker ends with it.
    FailedLast(Fault),
    /// A streaming answer begins; `next_chunk` has the rest.
    Streaming { content_type: String },
    /// The connection ended or made no sense. The worker is of no more use.
    Broken(connection::Error),
    /// The deadline has passed and the handler still runs.
    Late,
}

/// A step of a streaming answer.
#[derive(Debug)]
pub enum Chunk {
    Data(Bytes),
    End,
    Failed(Fault),
    /// The same, but the worker ends with it.
    FailedLast(Fault),
    Broken(connection::Error),
    Late,
}

/// An invocation on its way.
#[derive(Debug)]
pub struct Opened {
    deadline: Instant,
    sent: Result<Rest, connection::Error>,
}

impl Opened {
    /// Whether the worker has all of it.
    pub fn is_sent(&self) -> bool {
        matches!(self.sent, Ok(Rest::Nothing))
    }
}

/// Begins to send the invocation, which has `timeout` from `now` on.
pub fn open(worker: &mut Worker, invocation: &Invocation, timeout: Duration, now: Instant) {
    worker.stream = worker.stream.wrapping_add(1).max(1);
    worker.pipe.begin(invocation.request_id, now);
    let unix_ms = clock::unix_millis() + timeout.as_millis() as u64;
    let Invocation {
        request_id,
        payload,
        raw,
        context,
        ..
    } = invocation;
    let (stream, connection) = (worker.stream, &mut worker.connection);
    let sent = connection.begin_invoke(stream, unix_ms, *request_id, context, payload, *raw);
    let deadline = now + timeout;
    worker.opened = Some(Opened { deadline, sent });
}

/// Whether nothing is left to be done for what was opened but to wait for the answer. That, or the deadline, then wakes who is behind `waker`.
pub fn wakes(worker: &mut Worker, waker: &Waker) -> bool {
    let Some(Opened {
        deadline,
        sent: Ok(Rest::Nothing),
    }) = worker.opened
    else {
        return false;
    };
    let mut context = Context::from_waker(waker);
    worker.connection.poll_readable(&mut context).is_pending()
        && worker
            .patience
            .poll_passed(deadline, &mut context)
            .is_pending()
}

/// Waits for the first thing the worker says of what was opened, and says when that was.
pub async fn answer(worker: &mut Worker, opened: Opened, payload: &[u8]) -> (Step, Instant) {
    let Opened { deadline, sent } = opened;
    let (stream, connection) = (worker.stream, &mut worker.connection);
    let exchanged = match sent {
        Ok(Rest::Nothing) => worker.patience.until(deadline, connection.receive()).await,
        Ok(rest) => {
            // Kept as long as it is true: whoever is dropped in between leaves a worker that waits for the rest.
            let sent = Ok(rest);
            let opened = worker.opened.insert(Opened { deadline, sent });
            let exchange = async {
                connection.send_rest(rest, payload).await?;
                opened.sent = Ok(Rest::Nothing);
                connection.receive().await
            };
            // Boxed, so that calls which are sent at once carry nothing of it.
            let exchanged = Box::pin(worker.patience.until(deadline, exchange)).await;
            worker.opened = None;
            exchanged
        }
        Err(error) => Ok(Err(error)),
    };
    let now = clock::now();
    let step = match exchanged {
        Ok(Ok(frame)) => {
            worker.pipe.drain(now);
            first(frame, stream)
        }
        Ok(Err(error)) => Step::Broken(error),
        Err(Elapsed) => Step::Late,
    };
    (step, now)
}

fn first(frame: Frame, stream: u32) -> Step {
    match frame.kind {
        _ if frame.stream != stream => {
            Step::Broken(unexpected("an answer to this invocation", &frame))
        }
        Kind::ResponseEnd if frame.body.len() > ANSWER_MAX => Step::Failed(too_large()),
        Kind::ResponseEnd => Step::Answered {
            raw: frame.flags & frame::RAW != 0,
            body: frame.body,
        },
        Kind::Error if is_last(&frame) => Step::FailedLast(failure(&frame)),
        Kind::Error => Step::Failed(failure(&frame)),
        Kind::ResponseHead => match serde_json::from_slice::<message::ResponseHead>(&frame.body) {
            Ok(head) => Step::Streaming {
                content_type: head.content_type,
            },
            Err(source) => Step::Broken(connection::Error::Message {
                kind: frame.kind,
                source,
            }),
        },
        _ => Step::Broken(unexpected("RESPONSE_HEAD, RESPONSE_END or ERROR", &frame)),
    }
}

/// The next piece of a streaming answer.
pub async fn next_chunk(worker: &mut Worker, deadline: Instant) -> Chunk {
    let received = worker.connection.receive();
    let frame = match worker.patience.until(deadline, received).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => return Chunk::Broken(error),
        Err(Elapsed) => return Chunk::Late,
    };
    match frame.kind {
        _ if frame.stream != worker.stream => {
            Chunk::Broken(unexpected("a part of this answer", &frame))
        }
        Kind::ResponseChunk => Chunk::Data(frame.body),
        Kind::ResponseEnd => {
            worker.pipe.drain(clock::now());
            Chunk::End
        }
        Kind::Error => {
            worker.pipe.drain(clock::now());
            let fault = failure(&frame);
            if is_last(&frame) {
                Chunk::FailedLast(fault)
            } else {
                Chunk::Failed(fault)
            }
        }
        _ => Chunk::Broken(unexpected("RESPONSE_CHUNK, RESPONSE_END or ERROR", &frame)),
    }
}

/// The function left something uncaught: its process answers, then ends. Another invocation would be lost with it.
pub fn is_last(frame: &Frame) -> bool {
    frame.flags & frame::LAST != 0
}

fn failure(frame: &Frame) -> Fault {
    let report = message::report(&frame.body);
    if frame.flags & frame::BAD_REQUEST != 0 {
        Fault::PayloadNotJson(report.message)
    } else {
        Fault::Handler(report)
    }
}

fn too_large() -> Fault {
    let text = format!(
        "Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."
    );
    Fault::Handler(Report::new("Function.ResponseSizeTooLarge", text))
}

fn unexpected(expected: &'static str, frame: &Frame) -> connection::Error {
    connection::Error::Unexpected {
        expected,
        got: frame.kind,
        stream: frame.stream,
    }
}

/// Why a connection broke: a worker that closed it has ended, and the engine knows how. An engine that does not say is not
/// waited for beyond `until`, or a moment if that has passed.
pub async fn lost(
    engine: &dyn Engine,
    container: &ContainerId,
    memory: Mebibytes,
    error: connection::Error,
    until: Instant,
) -> Fault {
    if !matches!(
        error,
        connection::Error::Closed | connection::Error::Unheard | connection::Error::Io(_)
    ) {
        return Fault::Protocol(error.to_string());
    }
    let deadline = clock::now() + EXIT_WAIT;
    let until = until.max(deadline);
    loop {
        let exit = tokio::time::timeout_at(until.into(), engine.exit(container)).await;
        let exit = exit.unwrap_or(Err(engine::Error::Timeout {
            operation: "inspect",
            after: EXIT_WAIT,
        }));
        match exit {
            Ok(Some(exit)) if exit.out_of_memory => return Fault::OutOfMemory { limit: memory },
            Ok(Some(exit)) => {
                return Fault::Exited {
                    code: Some(exit.code),
                };
            }
            // The socket closes a moment before the engine has noticed the end of the process.
            Ok(None) if clock::now() < deadline => tokio::time::sleep(EXIT_POLL).await,
            Ok(None) => return Fault::Protocol("it closed its connection and lives on".into()),
            Err(error) => {
                tracing::warn!(%container, %error, "how a worker ended cannot be learnt");
                return Fault::Exited { code: None };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(flags: u8) -> Frame {
        let body = Bytes::from_static(
            br#"{"errorType":"RangeError","errorMessage":"nobody caught it","stackTrace":[]}"#,
        );
        Frame {
            flags,
            ..Frame::new(Kind::Error, 3, body)
        }
    }

    #[test]
    fn an_error_says_whether_its_worker_lives_on() {
        assert!(matches!(
            first(error(0), 3),
            Step::Failed(Fault::Handler(_))
        ));
        assert!(matches!(
            first(error(frame::LAST), 3),
            Step::FailedLast(Fault::Handler(_))
        ));
        assert!(matches!(
            first(error(frame::BAD_REQUEST), 3),
            Step::Failed(Fault::PayloadNotJson(_))
        ));
        assert!(matches!(first(error(frame::LAST), 4), Step::Broken(_)));
    }
}
