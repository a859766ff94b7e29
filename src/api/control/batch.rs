//! Many calls in one request. Payloads are cut out of the body and not copied; each call is as if it had come alone, and
//! its answer stands at its place in the list whatever became of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::access::{self, Caller};
use crate::api::control::openapi::BatchErrors;
use crate::api::control::{Control, functions};
use crate::api::error::{self, ErrorDetail, Problem};
use crate::api::idempotency::INLINE_MAX;
use crate::api::{invoke, json, trace};
use crate::domain::fault::Fault;
use crate::domain::id::RequestId;
use crate::domain::invocation::Phases;
use crate::domain::key::{Grant, Scope};
use crate::domain::limits::ANSWER_MAX;
use crate::domain::trace::{Face, Trace};
use crate::domain::version::VersionId;
use crate::scheduler::{Answer, Scheduler};
use crate::task;

/// One call of a batch: a function by `id` or by `name`, with or without `:` and a qualifier behind it, and the event.
// `read` reads it, and says more about what is wrong than a derived reader could.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchItem<'a> {
    #[schema(nullable = false)]
    id: Option<String>,
    #[schema(nullable = false)]
    name: Option<String>,
    /// The event; left out it is `{}`.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value, required = false)]
    payload: Option<&'a RawValue>,
}

/// What became of one call of a batch: `body` or `error`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// The status the call alone would have had.
    status: u16,
    /// What the handler returned; bytes that are not JSON as `{"base64": "…"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ErrorDetail>, nullable = false)]
    error: Option<Box<RawValue>>,
    #[schema(value_type = String)]
    request_id: RequestId,
    /// The number of the version that was called, or `$LATEST`; null if there was none.
    #[schema(value_type = Option<String>, required = true)]
    version: Option<VersionId>,
    /// `warm`, `stem` or `cold`; null if it got no worker.
    #[schema(required = true)]
    start: Option<&'static str>,
    timing: Timing,
}

/// Milliseconds.
#[derive(Debug, Serialize, ToSchema)]
struct Timing {
    queue_ms: f64,
    start_ms: f64,
    init_ms: f64,
    run_ms: f64,
}

/// Call many functions
///
/// They run in parallel, as far as the server's `limits.batch_parallel` allows. The results are in the order of the calls; one that
/// fails does not fail the rest.
#[utoipa::path(
    post, path = "/functions/execute", tag = "calls", operation_id = "execute_batch",
    request_body(content = Vec<BatchItem>, example = json!([{"name": "hello", "payload": {"name": "world"}}])),
    responses((status = 200, body = Vec<BatchResult>, description = "one result for each call, in order"), BatchErrors)
)]
pub async fn execute(
    State(control): State<Control>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let (bytes, most) = (upload.bytes.clone(), control.limits.batch_max);
    let items = match bytes.len() <= INLINE_MAX {
        true => items(&bytes, most)?,
        false => task::blocking("read a batch", move || items(&bytes, most)).await?,
    };
    let room = AtomicUsize::new(ANSWERS_MAX);
    let calls = items.into_iter().enumerate().map(|(place, item)| {
        let (scheduler, caller, room) = (control.scheduler.clone(), &*caller, &room);
        let trace = || trace::begin(&control.scheduler, &headers, Face::Batch);
        async move { (place, result(&scheduler, caller, &item, room, trace).await) }
    });
    // Not in order here, or a slow call at the front would hold up the start of those behind it.
    let mut results: Vec<_> = stream::iter(calls)
        .buffer_unordered(control.limits.batch_parallel.max(1))
        .collect()
        .await;
    results.sort_unstable_by_key(|(place, _)| *place);
    let results: Vec<BatchResult> = results.into_iter().map(|(_, result)| result).collect();
    let answer = move || functions::json(StatusCode::OK, &results);
    Ok(task::blocking("write a batch", answer).await)
}

/// What the answers of one batch may hold together: they are in memory until the last has come. One that does not fit any more
/// is dropped and says so in its place.
const ANSWERS_MAX: usize = 32 * 1024 * 1024;

/// The calls as they stand in the body.
fn items(body: &Bytes, most: usize) -> Result<Vec<Bytes>, Problem> {
    let (items, count) = json::list(body, most).map_err(|error| Problem::Malformed {
        what: "a JSON list of calls",
        why: error.to_string(),
    })?;
    match count > most {
        true => Err(Problem::invalid(
            "body",
            format!("must be a list of at most {most} calls, has {count}"),
        )),
        false => Ok(items
            .into_iter()
            .map(|item| body.slice_ref(item.get().as_bytes()))
            .collect()),
    }
}

async fn result(
    scheduler: &Arc<Scheduler>,
    caller: &Grant,
    item: &Bytes,
    room: &AtomicUsize,
    trace: impl Fn() -> Option<Box<Trace>>,
) -> BatchResult {
    let (name, payload) = match read(item) {
        Ok(read) => read,
        Err(problem) => return refused(&problem),
    };
    if let Err(denied) = access::function(caller, Scope::Invoke, &name, scheduler) {
        return refused(&denied.into());
    }
    let resolved = match scheduler.resolve(&name, None) {
        Ok(resolved) => resolved,
        Err(unresolved) => return refused(&unresolved.into()),
    };
    let called = invoke::call(scheduler, &resolved, payload, false, trace()).await;
    let answer = match called.result {
        Ok(answer) => whole(answer).await,
        Err(fault) => Err(fault),
    };
    let fits = |body: &RawValue| {
        let take = |left: usize| left.checked_sub(body.get().len());
        room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    };
    let (status, body, error) = match answer {
        Ok(body) if fits(&body) => (StatusCode::OK, Some(body), None),
        Ok(_dropped) => {
            let problem = Problem::TooLarge { limit: ANSWERS_MAX };
            let faults = problem.faults();
            let detail = problem.detail(&faults, called.request_id);
            (problem.status(), None, Some(raw(&detail)))
        }
        Err(fault) => {
            let detail = error::fault_detail(&fault, &called.log_tail, called.request_id);
            (error::fault_status(&fault), None, Some(raw(&detail)))
        }
    };
    BatchResult {
        status: status.as_u16(),
        body,
        error,
        request_id: called.request_id,
        version: Some(resolved.target.version),
        start: called.start.map(|(kind, _)| kind.as_str()),
        timing: Timing::of(&called.phases),
    }
}

fn read(item: &Bytes) -> Result<(String, Bytes), Problem> {
    let malformed = |error: json::Error| Problem::Malformed {
        what: "a call",
        why: error.to_string(),
    };
    let mut call = BatchItem::default();
    for (key, value) in json::members(item).map_err(malformed)? {
        let text = || match json::value(value.get().as_bytes()) {
            Ok(serde_json::Value::String(text)) => Ok(text),
            _ => Err(Problem::invalid(&key, "must be a text")),
        };
        match &*key {
            "id" => call.id = Some(text()?),
            "name" => call.name = Some(text()?),
            "payload" => call.payload = Some(value),
            other => {
                let shown: String = other.chars().take(64).collect();
                return Err(Problem::invalid(&shown, "is not a field of a call"));
            }
        }
    }
    let payload = call
        .payload
        .map_or_else(Bytes::new, |p| item.slice_ref(p.get().as_bytes()));
    match (call.id, call.name) {
        (Some(name), None) | (None, Some(name)) => Ok((name, payload)),
        (None, None) => Err(Problem::invalid("id", "or name is required")),
        (Some(_), Some(_)) => Err(Problem::invalid("id", "and name cannot both be given")),
    }
}

fn refused(problem: &Problem) -> BatchResult {
    let request_id = RequestId::generate();
    BatchResult {
        status: problem.status().as_u16(),
        body: None,
        error: Some(raw(&problem.detail(&problem.faults(), request_id))),
        request_id,
        version: None,
        start: None,
        timing: Timing::of(&Phases::default()),
    }
}

/// An answer as a JSON value. A worker says that its answer is JSON and is believed when it stands alone; here it stands among
/// others, and must not break them.
async fn whole(answer: Answer) -> Result<Box<RawValue>, Fault> {
    let bytes = match answer {
        Answer::Whole { body, raw: true } => return Ok(base64(&body)),
        Answer::Whole { body, raw: false } => body,
        Answer::Stream { mut body, .. } => {
            let mut all = BytesMut::new();
            while let Some(piece) = body.next().await {
                let piece = piece?;
                if all.len() + piece.len() > ANSWER_MAX {
                    return Err(Fault::Protocol(format!(
                        "its streaming answer is over the {ANSWER_MAX} bytes a batch can hold"
                    )));
                }
                all.extend_from_slice(&piece);
            }
            all.freeze()
        }
    };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| base64(&bytes)))
}

fn base64(bytes: &[u8]) -> Box<RawValue> {
    raw(&serde_json::json!({ "base64": STANDARD.encode(bytes) }))
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("plain data with string keys")
}

impl Timing {
    fn of(phases: &Phases) -> Self {
        let ms = |d: std::time::Duration| d.as_micros() as f64 / 1000.0;
        Self {
            queue_ms: ms(phases.queue),
            start_ms: ms(phases.start),
            init_ms: ms(phases.init),
            run_ms: ms(phases.run),
        }
    }
}
