//! Plain HTTP to a function, at its route: the request becomes an event, the function's answer becomes a response. Called by the
//! gateway, which has found the function and read the body. Whoever calls is the public: a call that failed says so and no more,
//! and its request id leads to the rest.

pub mod answer;
pub mod event;
mod prelude;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::Serialize;

use crate::api::body::Body;
use crate::api::label::{SERVER_TIMING, label};
use crate::api::route::answer::Head;
use crate::api::route::event::{At, Request};
use crate::api::{error, trace};
use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::id::RequestId;
use crate::domain::invocation::Invocation;
use crate::domain::limits::{ANSWER_MAX, PAYLOAD_MAX};
use crate::domain::trace::Face;
use crate::router::routes::Matched;
use crate::scheduler::{self, Answer, Called, Scheduler, Target};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// AWS's name for the request id.
const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Headers that concern one connection and are nobody else's business, in either direction.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a failed call says.
#[derive(Serialize)]
struct Failure<'a> {
    message: &'a str,
}

/// The longest body whose event can be within the limit of payloads: bytes grow by a third in base64.
pub fn body_max(headers: &HeaderMap) -> usize {
    match event::is_text(headers) {
        true => PAYLOAD_MAX,
        false => PAYLOAD_MAX / 4 * 3,
    }
}

/// Who sent a request, and how.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    pub address: IpAddr,
    /// The connection is encrypted.
    pub tls: bool,
}

/// One request to the function that was found at its path.
pub async fn serve(
    scheduler: &Arc<Scheduler>,
    found: Matched<Target>,
    head: &Parts,
    from: Sender,
    body: Bytes,
) -> Response<Body> {
    let target = found.entry;
    let request_id = RequestId::generate();
    let trace = trace::begin(scheduler, &head.headers, Face::Route);
    let payload = event::write(&Request {
        head,
        trace: trace.as_deref(),
        from,
        at: At::Route {
            function: &target.function,
            parameters: &found.parameters,
        },
        request_id,
        time: clock::wall(),
        body: &body,
    });
    drop(body);
    if payload.len() > PAYLOAD_MAX {
        return refuse(&too_large(&payload));
    }
    let invocation = Invocation {
        request_id,
        payload,
        raw: false,
        measured: false,
        context: Bytes::new(),
        trace,
    };
    let whole = head.method != Method::HEAD;
    let told = |failed: Failed| failure(failed.status());
    call(scheduler, &target, invocation, whole, Mode::AsItComes, told).await
}

/// How an answer is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Mode {
    /// Whole or as a stream: as the function gives it.
    AsItComes,
    /// A stream is gathered first.
    Gathered,
    /// Nothing is read into it but what a stream says of itself: a whole answer is sent as it was written.
    Unread,
}

/// What is over the limit only as an event.
pub(in crate::api) fn too_large(payload: &Bytes) -> Fault {
    Fault::PayloadTooLarge {
        size: payload.len() as u64,
        limit: PAYLOAD_MAX as u64,
    }
}

/// One call and its response; `told` is what its sender is told of a failure. `whole`: with the body.
pub(in crate::api) async fn call(
    scheduler: &Arc<Scheduler>,
    target: &Arc<Target>,
    invocation: Invocation,
    whole: bool,
    mode: Mode,
    told: impl FnOnce(Failed) -> Response<Body>,
) -> Response<Body> {
    let request_id = invocation.request_id;
    let Called {
        phases,
        start,
        result,
        ..
    } = scheduler.invoke(target, invocation).await;
    let made = match result {
        Ok(answer) => respond(answer, request_id, whole, mode).await,
        Err(fault) => Err(Failed::Fault(fault)),
    };
    let mut response = made.unwrap_or_else(|failed| {
        if let Failed::Answer(error) = &failed {
            let function = &target.function.name;
            tracing::info!(%request_id, %function, %error, "answer is not one for HTTP");
        }
        told(failed)
    });
    let headers = response.headers_mut();
    let own_id = headers.remove(error::REQUEST_ID);
    let own_timing = headers.remove(SERVER_TIMING);
    label(headers, request_id, &phases, start, target);
    headers.insert(AMZN_REQUEST_ID, error::request_id_value(request_id));
    // A function may pass on its caller's id, and tell its own times.
    own_id.map(|own| headers.insert(error::REQUEST_ID, own));
    own_timing.map(|own| headers.append(SERVER_TIMING, own));
    response
}

/// The answer to a request that never reached its function.
pub fn refuse(fault: &Fault) -> Response<Body> {
    let mut response = failure(error::fault_status(fault));
    let id = error::request_id_value(RequestId::generate());
    response.headers_mut().insert(error::REQUEST_ID, id);
    response
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::api) enum Failed {
    Fault(Fault),
    /// The function answered, but not something that can be said over HTTP.
    Answer(answer::Error),
}

impl Failed {
    fn status(&self) -> StatusCode {
        match self {
            Failed::Fault(fault) => error::fault_status(fault),
            Failed::Answer(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// `whole`: with the body; whoever asked for the head alone gets the length instead.
async fn respond(
    answer: Answer,
    request_id: RequestId,
    whole: bool,
    mode: Mode,
) -> Result<Response<Body>, Failed> {
    let (mut head, body) = match answer {
        Answer::Whole { body, raw: true } => (Head::of(StatusCode::OK, OCTETS), Body::Full(body)),
        Answer::Whole { body, raw: false } if mode == Mode::Unread => {
            (Head::of(StatusCode::OK, error::JSON), Body::Full(body))
        }
        Answer::Whole { body, raw: false } => {
            let (head, body) = answer::whole(body).map_err(Failed::Answer)?;
            (head, Body::Full(body))
        }
        Answer::Stream { content_type, body } => stream(&content_type, body, request_id).await?,
    };
    let body = match body {
        Body::Stream { body, .. } if mode == Mode::Gathered => Body::Full(gather(body).await?),
        body => body,
    };
    let body = match body {
        body if whole && head.has_body() => body,
        Body::Full(bytes) => {
            if head.has_body() {
                head.headers.insert(CONTENT_LENGTH, bytes.len().into());
            }
            Body::default()
        }
        Body::Stream { body, .. } => {
            // Nobody reads it, but the function is not to be taken for abandoned.
            exhaust(body).await?;
            Body::default()
        }
        Body::Control(_) => Body::default(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

async fn stream(
    content_type: &str,
    mut body: scheduler::Body,
    request_id: RequestId,
) -> Result<(Head, Body), Failed> {
    let head = match content_type == prelude::CONTENT_TYPE {
        true => {
            let (head, first) = prelude::read(&mut body).await?;
            if !first.is_empty() {
                body = Box::pin(futures_util::stream::iter([Ok(first)]).chain(body));
            }
            head
        }
        // The function chose the type, so it may be anything.
        false => Head::of(
            StatusCode::OK,
            HeaderValue::try_from(content_type).unwrap_or(OCTETS),
        ),
    };
    Ok((head, Body::Stream { request_id, body }))
}

/// A stream for somebody who is to have it whole.
async fn gather(mut body: scheduler::Body) -> Result<Bytes, Failed> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(Failed::Fault)?;
        if whole.len() + piece.len() > ANSWER_MAX {
            return Err(Failed::Answer(answer::Error::TooLong));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// As long as the function's time.
async fn exhaust(mut body: scheduler::Body) -> Result<(), Failed> {
    while let Some(piece) = body.next().await {
        piece.map_err(Failed::Fault)?;
    }
    Ok(())
}

fn failure(status: StatusCode) -> Response<Body> {
    let message = match status {
        // What AWS says, whatever went wrong inside.
        StatusCode::BAD_GATEWAY => "Internal Server Error",
        other => other.canonical_reason().unwrap_or("Error"),
    };
    let mut response = Response::new(Body::Full(error::to_json(&Failure { message })));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, error::JSON);
    if let Some(after) = error::retry_after(status) {
        headers.insert(RETRY_AFTER, after);
    }
    response
}

#[cfg(test)]
mod tests;
