//! Calls one function and puts what became of it on the wire. Warm path: the payload and the answer are passed on as bytes and
//! never parsed, nothing is logged, and the only allocations are the values of a few headers. Called by the gateway for `POST
//! /functions/{id}/execute`, and by the batch.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::error::{self, Problem};
use crate::api::idempotency::{self, Gathered, Idempotency, Ran, Turn, Worked};
use crate::api::trace;
use crate::domain::event::State;
use crate::domain::fault::Fault;
use crate::domain::function::LATEST;
use crate::domain::id::RequestId;
use crate::domain::invocation::{Invocation, Phases, StartKind, StartReason};
use crate::domain::limits::{EVENT_MAX, PAYLOAD_MAX};
use crate::domain::trace::{Face, Trace};
use crate::domain::version::VersionId;
use crate::queue::Queue;
use crate::scheduler::{Answer, Called, Resolved, Scheduler, Target};
use crate::store;
use crate::telemetry::metrics;

pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub const START: HeaderName = HeaderName::from_static("x-hearth-start");
/// As the AWS Lambda API has it.
pub const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
pub const VERSION: HeaderName = HeaderName::from_static("x-hearth-version");
pub const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");

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
            let timing = server_timing(&Phases::default(), None);
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
            async { known(id, Some(target)) },
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
    answer(known(called.request_id, target), called)
}

/// `head` is what was `known` of the call.
fn answer(mut head: HeaderMap, called: Called) -> Response<Body> {
    let Called {
        request_id,
        phases,
        start,
        result,
        log_tail,
        ..
    } = called;
    learnt(&mut head, &phases, start);
    let (status, body) = match result {
        Ok(answer) => (StatusCode::OK, answered(&mut head, answer, request_id)),
        Err(fault) => failed(&mut head, &fault, &log_tail, request_id),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = head;
    response
}

/// What every answer to a call says beside what was answered: which call it was, where its time went and on what it ran.
pub(super) fn label(
    headers: &mut HeaderMap,
    request_id: RequestId,
    phases: &Phases,
    start: Option<(StartKind, StartReason)>,
    target: Option<&Target>,
) {
    headers.extend(known(request_id, target));
    learnt(headers, phases, start);
}

/// The part of it that is known before the call.
fn known(request_id: RequestId, target: Option<&Target>) -> HeaderMap {
    // Room for the rest, too.
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(error::REQUEST_ID, error::request_id_value(request_id));
    if let Some(target) = target {
        let version = HeaderValue::from_str(target.digest.short()).expect("a digest is hex");
        headers.insert(VERSION, version);
        headers.insert(EXECUTED_VERSION, executed(target.version));
    }
    headers
}

/// The part that is known after it.
fn learnt(headers: &mut HeaderMap, phases: &Phases, start: Option<(StartKind, StartReason)>) {
    headers.insert(SERVER_TIMING, server_timing(phases, start));
    if let Some((kind, _)) = start {
        headers.insert(START, HeaderValue::from_static(kind.as_str()));
    }
}

fn executed(version: VersionId) -> HeaderValue {
    match version {
        VersionId::Latest => HeaderValue::from_static(LATEST),
        VersionId::Number(number) => number.into(),
    }
}

fn answered(head: &mut HeaderMap, answer: Answer, request_id: RequestId) -> Body {
    let (content_type, body) = match answer {
        Answer::Whole { body, raw: false } => (error::JSON, Body::Full(body)),
        Answer::Whole { body, raw: true } => (OCTETS, Body::Full(body)),
        Answer::Stream { content_type, body } => (
            // The function chose it, so it may be anything.
            HeaderValue::try_from(content_type).unwrap_or(OCTETS),
            Body::Stream { request_id, body },
        ),
    };
    head.insert(CONTENT_TYPE, content_type);
    body
}

fn failed(
    head: &mut HeaderMap,
    fault: &Fault,
    log_tail: &str,
    request_id: RequestId,
) -> (StatusCode, Body) {
    let body = error::ErrorBody {
        error: error::fault_detail(fault, log_tail, request_id),
    };
    head.insert(CONTENT_TYPE, error::JSON);
    if let Some(after) = error::fault_retry_after(fault) {
        head.insert(RETRY_AFTER, after);
    }
    let body = Body::Full(error::to_json(&body));
    (error::fault_status(fault), body)
}

/// What `Text::put_start` says of a warm call.
const WARM: &str = ", start;dur=0.000;desc=\"warm: idle\", init;dur=0.000";

/// Where the time went, in milliseconds.
fn server_timing(phases: &Phases, start: Option<(StartKind, StartReason)>) -> HeaderValue {
    let mut text = Text::default();
    text.put("queue;dur=");
    text.put_millis(phases.queue);
    match start {
        // As most calls are: in one piece.
        Some((StartKind::Warm, StartReason::Idle))
            if phases.start.is_zero() && phases.init.is_zero() =>
        {
            text.put(WARM)
        }
        _ => text.put_start(phases, start),
    }
    text.put(", run;dur=");
    text.put_millis(phases.run);
    HeaderValue::from_bytes(&text.bytes[..text.length]).expect("digits and names are ASCII")
}

/// A header's text before it is one. By hand, because the formatting machinery takes longer than the rest of an answer's head.
struct Text {
    /// The longest is shorter.
    bytes: [u8; 256],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; 256],
            length: 0,
        }
    }
}

impl Text {
    fn put(&mut self, part: &str) {
        let end = self.length + part.len();
        self.bytes[self.length..end].copy_from_slice(part.as_bytes());
        self.length = end;
    }

    fn put_start(&mut self, phases: &Phases, start: Option<(StartKind, StartReason)>) {
        self.put(", start;dur=");
        self.put_millis(phases.start);
        if let Some((kind, reason)) = start {
            for part in [";desc=\"", kind.as_str(), ": ", reason.as_str(), "\""] {
                self.put(part);
            }
        }
        self.put(", init;dur=");
        self.put_millis(phases.init);
    }

    /// Milliseconds with three digits behind the point.
    fn put_millis(&mut self, time: Duration) {
        let mut digits = [b'0'; 24];
        // In 64 bits, which divide in one step: half a million years are enough.
        let mut rest = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut first = digits.len();
        while rest > 0 || first > digits.len() - 5 {
            first -= 1;
            if first == digits.len() - 4 {
                digits[first] = b'.';
                continue;
            }
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for digit in &digits[first..] {
            self.bytes[self.length] = *digit;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::domain::fault::{Report, Throttle};

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

    #[test]
    fn a_warm_call_is_said_in_one_piece_as_in_several() {
        let mut text = Text::default();
        let start = Some((StartKind::Warm, StartReason::Idle));
        text.put_start(&Phases::default(), start);
        assert_eq!(&text.bytes[..text.length], WARM.as_bytes());
        let started = Phases {
            init: Duration::from_millis(1),
            ..Phases::default()
        };
        let timing = server_timing(&started, start);
        assert!(timing.to_str().expect("text").contains("init;dur=1.000"));
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
