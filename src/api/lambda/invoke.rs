//! Invoke, InvokeWithResponseStream and InvokeAsync: the same calls as the native face makes, with AWS's headers, and errors of functions as
//! answers. What went wrong inside a function is a 200 that says so in a header; what went wrong around it is an exception.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::api::body::Body;
use crate::api::error::{JSON, request_id_value};
use crate::api::label::label;
use crate::api::lambda::errors::{REQUEST_ID, RESERVED, Refusal};
use crate::api::lambda::names::{self, Named};
use crate::api::lambda::routes::Do;
use crate::api::lambda::stream::{self, End};
use crate::api::lambda::tail::{self, Ending};
use crate::api::lambda::{Asked, Lambda, ascii, empty, read};
use crate::api::trace;
use crate::domain::fault::{Fault, Report};
use crate::domain::function::LATEST;
use crate::domain::id::{AliasName, RequestId};
use crate::domain::invocation::Invocation;
use crate::domain::limits::{ANSWER_MAX, EVENT_MAX};
use crate::domain::trace::{Face, Trace};
use crate::runtime::style::{Style, TOO_LARGE};
use crate::scheduler::{self, Answer, Called, Resolved, Target};
use crate::store;

const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const UNHANDLED: &str = "Unhandled";
/// Headers of what no function here can have, and their form: with AWS's pattern, and the marks that it allows beside letters and digits.
const FORMED: [(&str, &str, usize, &str, &str); 2] = [
    (
        "x-amz-tenant-id",
        "tenantId",
        256,
        r"[a-zA-Z0-9\._:\/=+\-@ ]+",
        "._:/=+-@ ",
    ),
    (
        "x-amz-durable-execution-name",
        "durableExecutionName",
        64,
        "[a-zA-Z0-9-_]+",
        "-_",
    ),
];
const CLIENT_CONTEXT_MAX: usize = 3583;
/// The protocol to workers has two bytes for the length of a context.
const CONTEXT_MAX: usize = u16::MAX as usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

/// What a call's request says beside its payload.
struct Call {
    target: Arc<Target>,
    alias: Option<AliasName>,
    kind: Kind,
    tail: bool,
    context: Bytes,
    trace: Option<Box<Trace>>,
    payload: Bytes,
}

impl Call {
    fn of(face: &Lambda, asked: &mut Asked, does: Do) -> Result<Self, Refusal> {
        let named = face.named(asked, does, "InvokeFunction")?;
        let mut faults = Vec::new();
        let mut choice = |header: &str, field: &str, usual: usize, known: &[&str]| {
            let value = asked.header(header);
            let value = value.as_deref().unwrap_or(known[usual]);
            let at = known.iter().position(|name| *name == value);
            if at.is_none() {
                let constraint =
                    format!("Member must satisfy enum value set: [{}]", known.join(", "));
                faults.push(names::fault(field, value, &constraint));
            }
            at.unwrap_or(usual)
        };
        let kinds = [Kind::Event, Kind::RequestResponse, Kind::DryRun];
        let words = ["Event", "RequestResponse", "DryRun"];
        // Nobody waits for the stream of an event.
        let first = usize::from(does == Do::InvokeWithResponseStream);
        let usual = 1 - first;
        let kind = choice(
            "x-amz-invocation-type",
            "invocationType",
            usual,
            &words[first..],
        );
        let kind = kinds[first + kind];
        let tail = choice("x-amz-log-type", "logType", 0, &["None", "Tail"]) == 1;
        for (header, field, most, pattern, marks) in FORMED {
            let value = asked.header(header);
            let good = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
            let is = |text: &str| !text.is_empty() && text.chars().all(good);
            let wrong = value.map(|text| names::formed(field, &text, most, pattern, is));
            faults.extend(wrong.unwrap_or_default());
        }
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
        let resolved = face.resolve(&named).ok_or_else(|| {
            let place = &face.settings.place;
            let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
            let arn = format!("{}:{qualifier}", place.function(&named.name));
            Refusal::not_found(format!("Function not found: {arn}"))
        })?;
        // No function here keeps its tenants apart; who counts on that has to know.
        if asked.header("x-amz-tenant-id").is_some() {
            return Err(Refusal::parameter(
                "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.",
            ));
        }
        if asked.header("x-amz-durable-execution-name").is_some() {
            return Err(Refusal::parameter(
                "DurableExecutionName is not supported by Hearth.",
            ));
        }
        let headers = &asked.parts.headers;
        let trace = trace::begin(&face.control.scheduler, headers, Face::Lambda);
        let context = context(face, asked, &named, trace.is_some())?;
        let payload = std::mem::take(&mut asked.body);
        let payload = match payload.is_empty() {
            true => Bytes::from_static(b"{}"),
            false => payload,
        };
        // AWS looks before the function does, whatever its runtime. Nothing is made of it.
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(&payload) {
            return Err(unreadable(&error.to_string()));
        }
        Ok(Self {
            target: resolved.target,
            alias: resolved.alias,
            kind,
            tail,
            context,
            trace,
            payload,
        })
    }

    async fn run(&self, face: &Lambda, request_id: RequestId) -> Called {
        let invocation = Invocation {
            request_id,
            payload: self.payload.clone(),
            raw: false,
            measured: self.tail,
            context: self.context.clone(),
            trace: self.trace.clone(),
        };
        face.control
            .scheduler
            .invoke(&self.target, invocation)
            .await
    }

    fn label(&self, response: &mut Response<Body>, called: &Called) {
        let headers = response.headers_mut();
        label(
            headers,
            called.request_id,
            &called.phases,
            called.start,
            &self.target,
        );
        headers.insert(REQUEST_ID, request_id_value(called.request_id));
        headers.insert(read::RUNTIME, ascii(self.target.function.runtime.as_str()));
    }
}

pub(super) async fn invoke(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let call = Call::of(face, &mut asked, Do::Invoke)?;
    match call.kind {
        Kind::DryRun => return Ok(empty(StatusCode::NO_CONTENT)),
        Kind::Event => return submit(face, call).await,
        Kind::RequestResponse => {}
    }
    let mut called = call.run(face, RequestId::generate()).await;
    let result = std::mem::replace(&mut called.result, Err(Fault::Draining));
    let result = match result {
        Ok(Answer::Whole { body, .. }) => Ok(body),
        Ok(Answer::Stream { body, .. }) => buffered(body).await,
        Err(fault) => Err(fault),
    };
    let (body, ending) = match result {
        Ok(body) => (body, None),
        Err(fault) => {
            let ending = Ending::of(&fault, &style(face, &call.target), &called);
            let body = failure(face, &call, &fault, called.request_id)?;
            (body, Some(ending))
        }
    };
    let mut response = Response::new(Body::Full(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if ending.is_some() {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static(UNHANDLED));
    }
    if call.tail {
        let text = tail::text(&call.target, &called, &ending.unwrap_or_default());
        headers.insert(LOG_RESULT, ascii(&STANDARD.encode(text)));
    }
    call.label(&mut response, &called);
    Ok(response)
}

pub(super) async fn streamed(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let call = Call::of(face, &mut asked, Do::InvokeWithResponseStream)?;
    if call.kind == Kind::DryRun {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let mut called = call.run(face, RequestId::generate()).await;
    let request_id = called.request_id;
    let mut response = Response::new(Body::default());
    let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    call.label(&mut response, &called);
    let result = std::mem::replace(&mut called.result, Err(Fault::Draining));
    let log = |called: &Called, ending: &Ending| {
        let text = || STANDARD.encode(tail::text(&call.target, called, ending));
        call.tail.then(text)
    };
    let body = match result {
        Ok(Answer::Whole { body, .. }) => {
            let end = End {
                error: None,
                log: log(&called, &Ending::default()),
            };
            Body::Full(stream::whole(&body, &end))
        }
        Err(fault) => {
            let details = failure(face, &call, &fault, request_id)?;
            let details = String::from_utf8_lossy(&details).into_owned();
            let ending = Ending::of(&fault, &style(face, &call.target), &called);
            let end = End {
                error: Some((UNHANDLED.into(), details)),
                log: log(&called, &ending),
            };
            Body::Full(stream::whole(b"", &end))
        }
        Ok(Answer::Stream { body, .. }) => {
            let (style, wanted) = (style(face, &call.target), call.tail);
            let target = call.target.clone();
            // Its worker is not through: what it takes is not known yet.
            called.memory = None;
            let ended = move |fault: Option<Fault>| {
                let ending = fault
                    .as_ref()
                    .map(|fault| Ending::of(fault, &style, &called));
                let error = fault.map(|fault| {
                    let details = style.text(&fault, request_id);
                    (
                        UNHANDLED.to_owned(),
                        details.unwrap_or_else(|| "null".into()),
                    )
                });
                let text = || tail::text(&target, &called, &ending.unwrap_or_default());
                let log = wanted.then(|| STANDARD.encode(text()));
                End { error, log }
            };
            let body = stream::events(body, ended);
            Body::Stream { request_id, body }
        }
    };
    *response.body_mut() = body;
    Ok(response)
}

/// InvokeAsync, which AWS keeps for old clients: an event, whatever the headers say.
pub(super) async fn later(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let call = Call::of(face, &mut asked, Do::InvokeAsync)?;
    submit(face, call).await
}

async fn submit(face: &Lambda, call: Call) -> Result<Response<Body>, Refusal> {
    let Call {
        target,
        alias,
        context,
        trace,
        payload,
        ..
    } = call;
    let resolved = Resolved {
        target,
        alias,
        context,
    };
    if payload.len() > EVENT_MAX {
        return Err(Refusal::too_large(format!(
            "{} byte payload is too large for the Event invocation type (limit {EVENT_MAX} bytes)",
            payload.len()
        )));
    }
    let request_id = RequestId::generate();
    let queue = &face.control.queue;
    let kept = queue.submit(request_id, &resolved, payload, false, trace);
    kept.await.map_err(|error| match error {
        store::Error::Full => Refusal::throttled("CallerRateLimitExceeded", "Rate Exceeded."),
        _ => Refusal::service("the store cannot do this now"),
    })?;
    let mut response = empty(StatusCode::ACCEPTED);
    response
        .headers_mut()
        .insert(REQUEST_ID, request_id_value(request_id));
    Ok(response)
}

/// What a handler is told beside its event.
fn context(face: &Lambda, asked: &Asked, named: &Named, traced: bool) -> Result<Bytes, Refusal> {
    let mut context = serde_json::Map::new();
    if let Some(text) = asked.header("x-amz-client-context") {
        let read = || {
            let bytes = STANDARD.decode(text.as_bytes()).ok()?;
            let value: Value = serde_json::from_slice(&bytes).ok()?;
            value.is_object().then_some(value)
        };
        let value = (text.len() <= CLIENT_CONTEXT_MAX).then(read).flatten();
        let value = value.ok_or_else(|| {
            Refusal::content("Client context must be a valid Base64-encoded JSON object.")
        })?;
        context.insert("client_context".into(), value);
    }
    // Of a call that is traced, the function is told its own place in the trace.
    if !traced {
        let id = trace::amzn_id(&asked.parts.headers);
        context.insert("trace_id".into(), id.into());
    }
    if named.qualifier.is_some() {
        let arn = named.arn(&face.settings.place);
        context.insert("invoked_function_arn".into(), arn.into());
    }
    if context.is_empty() {
        return Ok(Bytes::new());
    }
    let text = Value::Object(context).to_string();
    match text.len() <= CONTEXT_MAX {
        true => Ok(text.into()),
        false => Err(Refusal::content("Client context is too large.")),
    }
}

/// A streaming answer for somebody who asked for a whole one.
async fn buffered(mut body: scheduler::Body) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > ANSWER_MAX {
            let text = format!(
                "Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."
            );
            return Err(Fault::Handler(Report::new(TOO_LARGE, text)));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The body of an answer that says how the function failed; or the exception, if it is not the function that did.
fn failure(
    face: &Lambda,
    call: &Call,
    fault: &Fault,
    request_id: RequestId,
) -> Result<Bytes, Refusal> {
    match style(face, &call.target).text(fault, request_id) {
        Some(text) => Ok(text.into()),
        None => Err(refusal(fault)),
    }
}

fn style(face: &Lambda, target: &Target) -> Style {
    face.control.scheduler.style(&target.function.runtime)
}

fn unreadable(why: &str) -> Refusal {
    Refusal::content(format!(
        "Could not parse request body into json: Could not parse payload into json: {why}"
    ))
}

/// What is not the function's fault.
pub(super) fn refusal(fault: &Fault) -> Refusal {
    use crate::domain::fault::Throttle;
    match fault {
        Fault::Throttled { reason, .. } => {
            let reason = match reason {
                Throttle::FunctionConcurrency | Throttle::ReservedConcurrency => RESERVED,
                Throttle::UnreservedConcurrency | Throttle::AccountConcurrency => {
                    "ConcurrentInvocationLimitExceeded"
                }
                Throttle::LineFull | Throttle::Arriving => "CallerRateLimitExceeded",
            };
            Refusal::throttled(reason, "Rate Exceeded.")
        }
        Fault::PayloadNotJson(why) => unreadable(why),
        Fault::NoVersion { .. } => Refusal::not_found(fault.to_string()),
        Fault::NotFound(name) => Refusal::not_found(format!("Function not found: {name}")),
        Fault::PayloadTooLarge { limit, .. } => Refusal::too_large(format!(
            "Request must be smaller than {limit} bytes for the InvokeFunction operation"
        )),
        Fault::EnvironmentUnreadable(_) => Refusal::around(
            "KMSAccessDeniedException",
            "Lambda was unable to decrypt the environment variables because KMS access was denied. Please check the function's KMS key settings.",
        ),
        other => Refusal::service(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_functions_fault_is_an_exception() {
        for (fault, status, kind) in [
            (Fault::Draining, 500, "ServiceException"),
            (
                Fault::PayloadNotJson("x".into()),
                400,
                "InvalidRequestContentException",
            ),
            (
                Fault::EnvironmentUnreadable("x".into()),
                502,
                "KMSAccessDeniedException",
            ),
            (Fault::StartFailed("x".into()), 500, "ServiceException"),
        ] {
            assert_eq!(Style::default().text(&fault, RequestId::generate()), None);
            let refusal = refusal(&fault);
            assert_eq!((refusal.status.as_u16(), refusal.kind), (status, kind));
        }
    }

    #[tokio::test]
    async fn a_stream_is_whole_for_who_asks_for_a_whole_answer() {
        let body = |parts: Vec<Result<Bytes, Fault>>| -> scheduler::Body {
            Box::pin(futures_util::stream::iter(parts))
        };
        let parts = vec![Ok(Bytes::from("one")), Ok(Bytes::from("two"))];
        assert_eq!(buffered(body(parts)).await, Ok(Bytes::from("onetwo")));
        let cut = vec![Ok(Bytes::from("one")), Err(Fault::Draining)];
        assert_eq!(buffered(body(cut)).await, Err(Fault::Draining));
        let piece = Bytes::from(vec![b'x'; ANSWER_MAX]);
        let large = vec![Ok(piece), Ok(Bytes::from("y"))];
        let Err(Fault::Handler(report)) = buffered(body(large)).await else {
            panic!("refused")
        };
        assert_eq!(report.kind, TOO_LARGE);
    }
}
