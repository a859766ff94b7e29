//! Calls one function and puts what became of it on the wire. Warm path: the payload and the answer are passed on as bytes and
//! never parsed, nothing is logged, and the only allocations are the values of a few headers. Called by the gateway for `POST
//! /functions/{id}/execute`, and by the batch.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::error::{self, Problem};
use crate::api::idempotency::{self, Gathered, Idempotency, Ran, Turn, Worked};
use crate::api::label::{self, Head, SERVER_TIMING};
use crate::api::trace;
use crate::domain::event::State;
use crate::domain::fault::Fault;
use crate::domain::id::RequestId;
use crate::domain::invocation::{Invocation, Phases};
use crate::domain::limits::{EVENT_MAX, PAYLOAD_MAX};
use crate::domain::trace::{Face, Trace};
use crate::queue::Queue;
use crate::scheduler::{Answer, Called, Resolved, Scheduler, Target};
use crate::store;
use crate::telemetry::metrics;

/// As the AWS Lambda API has it.
pub const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// `POST /functions/{name}/execute`: `name` is the id or the name, with or without a qualifier behind it, `payload` the whole body.
pub async fn execute(
    queue: &Arc<Queue>,
    idempotency: &Arc<Idempotency>,
    name: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    payload: Bytes,
) -> Response<Body> {
    let asked = Asked::of(headers);
    let later = match asked.invocation_type.map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => false,
        Some(b"Event") => true,
        Some(_) => {
            let wrong = "must be Event or RequestResponse";
            return error::refused(&Problem::invalid(INVOCATION_TYPE.as_str(), wrong));
        }
    };
    let raw = is_raw(asked.content_type);
    let qualifier = query.and_then(qualifier);
    let resolved = match queue.scheduler().resolve(name, qualifier.as_deref()) {
        Ok(resolved) => resolved,
        Err(unresolved) => {
            let mut response = error::refused(&unresolved.into());
            // No time went into it, and it says so as every answer to a call does.
            let timing = label::server_timing(&Phases::default(), None);
            response.headers_mut().insert(SERVER_TIMING, timing);
            return response;
        }
    };
    if asked.is_named {
        let behind = name.split_once(':').map(|(_, behind)| behind);
        let wanted = behind.or(qualifier.as_deref()).unwrap_or_default();
        // Boxed, so that calls without a key carry nothing of it.
        return Box::pin(once(
            queue,
            idempotency,
            (wanted, resolved),
            headers,
            (raw, later),
            payload,
        ))
        .await;
    }
    let trace = trace::begin(queue.scheduler(), headers, Face::Execute);
    if !later {
        let (scheduler, target) = (queue.scheduler(), &resolved.target);
        let invocation = match admissible(&resolved, payload, raw, trace) {
            Ok(invocation) => invocation,
            Err(fault) => return respond(refused(fault), Some(target)),
        };
        let id = invocation.request_id;
        // What of the answer's head is known beforehand is put together while the worker works.
        let (called, head) = tokio::join!(
            biased;
            scheduler.invoke(target, invocation),
            async { Head::of(id, Some(target)) },
        );
        return answer(head, called);
    }
    let id = RequestId::generate();
    let submitted = Box::pin(submit(queue, id, &resolved, raw, payload, trace));
    submitted.await.unwrap_or_else(|refused| refused.response)
}

/// What the head of a call says of it.
#[derive(Default)]
struct Asked<'a> {
    invocation_type: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    /// By its caller, so that it is run once.
    is_named: bool,
}

impl<'a> Asked<'a> {
    /// Once over all headers: asking for each by its name costs more than there are.
    fn of(headers: &'a HeaderMap) -> Self {
        let mut asked = Self::default();
        for (name, value) in headers {
            if name == CONTENT_TYPE {
                asked.content_type.get_or_insert(value);
            } else if name == INVOCATION_TYPE {
                asked.invocation_type.get_or_insert(value);
            } else if name == idempotency::KEY {
                asked.is_named = true;
            }
        }
        asked
    }
}

/// The qualifier in a query. Others are nobody's business here: they may be a proxy's.
fn qualifier(query: &str) -> Option<Cow<'_, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == "qualifier").then_some(value))
}

/// A call that its caller named, so that it is run once however often it is asked for.
async fn once(
    queue: &Arc<Queue>,
    idempotency: &Arc<Idempotency>,
    // What was asked for behind the name, and what it came to.
    (wanted, resolved): (&str, Resolved),
    headers: &HeaderMap,
    (raw, later): (bool, bool),
    payload: Bytes,
) -> Response<Body> {
    let limit = if later { EVENT_MAX } else { PAYLOAD_MAX };
    if let Some(fault) = over(limit, &payload) {
        return refuse(fault);
    }
    let how = match (raw, later) {
        (false, false) => "json",
        (true, false) => "raw",
        (false, true) => "json, later",
        (true, true) => "raw, later",
    };
    // As it was asked for: what an alias points at may be another by the time it is asked for again.
    let how = match wanted {
        "" => Cow::Borrowed(how),
        wanted => format!("{how}: {wanted}").into(),
    };
    let function = &resolved.target.function;
    let key = match idempotency::key(headers, &function.id, how, &payload).await {
        Ok(key) => key,
        Err(problem) => return error::refused(&problem),
    };
    let by = RequestId::generate();
    let first = match idempotency.begin(&key, by, function.timeout()).await {
        Turn::Run { first } => first,
        Turn::Answer(response) => return response,
    };
    let (queue, gathers) = (queue.clone(), idempotency.clone());
    let trace = trace::begin(queue.scheduler(), headers, Face::Execute);
    let work = async move {
        if later {
            // Under the id of the first attempt: if that got as far as the store, it is there once.
            let submitted = submit(&queue, first, &resolved, raw, payload, trace).await;
            let ran = Ran::Yes;
            return submitted.map_or_else(|refused| refused, |response| Worked { response, ran });
        }
        run_once(
            queue.scheduler(),
            &gathers,
            &resolved.target,
            invocation(&resolved, payload, raw, trace),
        )
        .await
    };
    idempotency.run(key, by, work).await
}

async fn run_once(
    scheduler: &Arc<Scheduler>,
    idempotency: &Idempotency,
    target: &Arc<Target>,
    invocation: Invocation,
) -> Worked {
    let mut called = scheduler.invoke(target, invocation).await;
    let mut declared = None;
    if let Ok(Answer::Stream { content_type, body }) = called.result {
        called.result = match idempotency.gather(body).await {
            Gathered::Failed(fault) => Err(fault),
            Gathered::Long(body) => Ok(Answer::Stream { content_type, body }),
            Gathered::Whole(body) => {
                declared = Some(HeaderValue::try_from(content_type).unwrap_or(OCTETS));
                Ok(Answer::Whole { body, raw: true })
            }
        };
    }
    let ran = match called.result.as_ref().err() {
        Some(fault) if !idempotency::is_end(fault) => Ran::No,
        _ => Ran::Yes,
    };
    let mut response = respond(called, Some(target));
    if let Some(declared) = declared {
        response.headers_mut().insert(CONTENT_TYPE, declared);
    }
    Worked { response, ran }
}

/// The fault of a payload that is larger than this.
fn over(limit: usize, payload: &Bytes) -> Option<Fault> {
    (payload.len() > limit).then(|| Fault::PayloadTooLarge {
        size: payload.len() as u64,
        limit: limit as u64,
    })
}

fn invocation(
    resolved: &Resolved,
    payload: Bytes,
    raw: bool,
    trace: Option<Box<Trace>>,
) -> Invocation {
    Invocation {
        request_id: RequestId::generate(),
        payload,
        raw,
        context: resolved.context.clone(),
        measured: false,
        trace,
    }
}

/// The answer to a call that is run later.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    pub request_id: String,
    /// Always `queued`.
    pub state: &'static str,
}

/// Keeps a call to be run later; the answer is given when the store has it.
async fn submit(
    queue: &Queue,
    request_id: RequestId,
    resolved: &Resolved,
    raw: bool,
    payload: Bytes,
    trace: Option<Box<Trace>>,
) -> Result<Response<Body>, Worked> {
    if let Some(fault) = over(EVENT_MAX, &payload) {
        return Err(Worked::never(refuse(fault)));
    }
    let submitted = queue.submit(request_id, resolved, payload, raw, trace);
    match submitted.await {
        Ok(()) => {}
        Err(store::Error::Full) => {
            return Err(Worked::never(error::refused(&Problem::TooManyEvents)));
        }
        Err(error) => {
            let ran = match error {
                store::Error::Unsaid { .. } => Ran::Perhaps,
                _ => Ran::No,
            };
            let response = error::refused(&unstored(&error));
            return Err(Worked { response, ran });
        }
    }
    let accepted = Accepted {
        request_id: request_id.to_string(),
        state: State::Queued.as_str(),
    };
    let mut response = Response::new(Body::Full(error::to_json(&accepted)));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, error::JSON);
    headers.insert(error::REQUEST_ID, error::request_id_value(request_id));
    let location = format!("/invocations/{request_id}");
    let location = HeaderValue::try_from(location).expect("an id is ASCII");
    headers.insert(LOCATION, location);
    Ok(response)
}

/// What a store that failed means for the client.
pub(super) fn unstored(error: &store::Error) -> Problem {
    match error {
        store::Error::DiskFull { .. } => {
            metrics::disk_full("store");
            Problem::DiskFull
        }
        store::Error::Unsaid { .. } => Problem::StoreUnsaid,
        _ => Problem::StoreUnavailable,
    }
}

/// The answer to a call that never reached a function: its body did not arrive, or nothing is accepted any more.
pub fn refuse(fault: Fault) -> Response<Body> {
    respond(refused(fault), None)
}

/// One call.
pub async fn call(
    scheduler: &Arc<Scheduler>,
    resolved: &Resolved,
    payload: Bytes,
    raw: bool,
    trace: Option<Box<Trace>>,
) -> Called {
    match admissible(resolved, payload, raw, trace) {
        Ok(invocation) => scheduler.invoke(&resolved.target, invocation).await,
        Err(fault) => refused(fault),
    }
}

/// The call, if its payload is no larger than a call's may be.
fn admissible(
    resolved: &Resolved,
    payload: Bytes,
    raw: bool,
    trace: Option<Box<Trace>>,
) -> Result<Invocation, Fault> {
    match over(PAYLOAD_MAX, &payload) {
        Some(fault) => Err(fault),
        None => Ok(invocation(resolved, payload, raw, trace)),
    }
}

/// The payload is bytes if it is declared so; everything else is JSON.
fn is_raw(content_type: Option<&HeaderValue>) -> bool {
    let Some(value) = content_type else {
        return false;
    };
    let value = value.as_bytes();
    let essence = value.split(|b| *b == b';').next().unwrap_or(value);
    essence.trim_ascii().eq_ignore_ascii_case(OCTETS.as_bytes())
}

fn refused(fault: Fault) -> Called {
    Called {
        request_id: RequestId::generate(),
        phases: Phases::default(),
        start: None,
        cause: None,
        result: Err(fault),
        log_tail: String::new(),
        memory: None,
    }
}

fn respond(called: Called, target: Option<&Target>) -> Response<Body> {
    answer(Head::of(called.request_id, target), called)
}

/// `head` is what was known of the call.
fn answer(head: Head, called: Called) -> Response<Body> {
    let Called {
        request_id,
        phases,
        start,
        result,
        log_tail,
        ..
    } = called;
    let (status, content_type, body, after) = match result {
        Ok(answer) => {
            let (content_type, body) = answered(answer, request_id);
            (StatusCode::OK, content_type, body, None)
        }
        Err(fault) => {
            let after = error::fault_retry_after(&fault);
            let body = failed(&fault, &log_tail, request_id);
            (error::fault_status(&fault), error::JSON, body, after)
        }
    };
    let mut headers = head.headers(&phases, start, Some(content_type));
    if let Some(after) = after {
        headers.insert(RETRY_AFTER, after);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What it is declared as, and the answer.
fn answered(answer: Answer, request_id: RequestId) -> (HeaderValue, Body) {
    match answer {
        Answer::Whole { body, raw: false } => (error::JSON, Body::Full(body)),
        Answer::Whole { body, raw: true } => (OCTETS, Body::Full(body)),
        Answer::Stream { content_type, body } => (
            // The function chose it, so it may be anything.
            HeaderValue::try_from(content_type).unwrap_or(OCTETS),
            Body::Stream { request_id, body },
        ),
    }
}

fn failed(fault: &Fault, log_tail: &str, request_id: RequestId) -> Body {
    let body = error::ErrorBody {
        error: error::fault_detail(fault, log_tail, request_id),
    };
    Body::Full(error::to_json(&body))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use std::time::Duration;

    use super::*;
    use crate::api::label::START;
    use crate::domain::fault::{Report, Throttle};
    use crate::domain::invocation::{StartKind, StartReason};

    fn called(result: Result<Answer, Fault>) -> Called {
        Called {
            request_id: RequestId::generate(),
            phases: Phases {
                queue: Duration::from_micros(1_234),
                start: Duration::ZERO,
                init: Duration::from_nanos(999),
                run: Duration::from_secs(2),
            },
            start: Some((StartKind::Stem, StartReason::FirstCall)),
            cause: None,
            result,
            log_tail: "last words\n".into(),
            memory: None,
        }
    }

    fn whole(text: &str, raw: bool) -> Result<Answer, Fault> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        Ok(Answer::Whole { body, raw })
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.expect("whole");
        String::from_utf8(bytes.to_bytes().to_vec()).expect("text")
    }

    #[tokio::test]
    async fn an_answer_is_passed_on_as_it_is() {
        // Not even JSON: nobody looks.
        let response = respond(called(whole("{not json", false)), None);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(text(response).await, "{not json");
        let response = respond(called(whole("\u{1}", true)), None);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/octet-stream");
    }

    #[test]
    fn the_phases_are_in_every_answer() {
        let want = "queue;dur=1.234, start;dur=0.000;desc=\"stem: first_call\", init;dur=0.000, run;dur=2000.000";
        for result in [whole("1", false), Err(Fault::Draining)] {
            let response = respond(called(result), None);
            assert_eq!(response.headers()[SERVER_TIMING], want);
            assert_eq!(response.headers()[START], "stem");
            assert_eq!(response.headers()[error::REQUEST_ID].len(), 36);
        }
        let never_started = refuse(Fault::Draining);
        assert_eq!(
            never_started.headers()[SERVER_TIMING],
            "queue;dur=0.000, start;dur=0.000, init;dur=0.000, run;dur=0.000"
        );
        assert!(!never_started.headers().contains_key(START));
    }

    #[tokio::test]
    async fn a_fault_says_everything_about_itself() {
        let fault = Fault::Handler(Report {
            kind: "KeyError".into(),
            message: "'x'".into(),
            stack: vec!["line 3".into()],
            document: None,
        });
        let called = called(Err(fault));
        let id = called.request_id.to_string();
        let response = respond(called, None);
        assert_eq!(response.status(), 502);
        let got: serde_json::Value = serde_json::from_str(&text(response).await).expect("JSON");
        let error = &got["error"];
        assert_eq!(error["type"], "KeyError");
        assert_eq!(error["stack"][0], "line 3");
        assert_eq!(error["log_tail"], "last words\n");
        assert_eq!(error["request_id"], id);
    }

    #[tokio::test]
    async fn a_throttled_call_says_why_and_when_to_come_back() {
        let response = refuse(Fault::Throttled {
            reason: Throttle::AccountConcurrency,
            limit: 7,
        });
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert!(text(response).await.contains("account_concurrency"));
    }

    #[test]
    fn a_stream_keeps_its_type_unless_it_is_no_type() {
        for (given, want) in [
            ("text/event-stream", "text/event-stream"),
            ("bad\nheader", "application/octet-stream"),
        ] {
            let response = respond(
                called(Ok(Answer::Stream {
                    content_type: given.into(),
                    body: Box::pin(futures_util::stream::empty()),
                })),
                None,
            );
            assert_eq!(response.headers()[CONTENT_TYPE], want);
        }
    }

    #[test]
    fn raw_is_what_is_declared_raw() {
        let with = |value| is_raw(Some(&HeaderValue::from_static(value)));
        assert!(with("application/octet-stream"));
        assert!(with("Application/Octet-Stream; x=y"));
        assert!(!with("application/json"));
        assert!(!is_raw(None));
    }
}
