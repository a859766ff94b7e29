//! What became of calls. An asynchronous one is in the store until some time after its end, whoever ran it. Any other is remembered by the
//! process that ran it, as long as it is among its function's latest.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::access::{self, Caller};
use crate::api::control::Control;
use crate::api::control::functions::json;
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{CodeErrors, LettersErrors};
use crate::api::control::overview::{PhasesDocument, millis};
use crate::api::error::Problem;
use crate::domain::destination::Destination;
use crate::domain::event::{self, Event, Record};
use crate::domain::function::Function;
use crate::domain::id::{FunctionName, RequestId};
use crate::domain::key::{Grant, Scope};
use crate::scheduler::exchanges::{Absent, Content, Exchange};
use crate::scheduler::record::Call;
use crate::store::events::Depth;
use crate::telemetry::metrics;

/// How it stands with a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invocation)]
pub struct InvocationDocument {
    pub request_id: String,
    /// `Event` if it is asynchronous, `RequestResponse` otherwise.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The function's name when the call was accepted.
    pub function: String,
    /// The number of the version it runs, or `$LATEST`: decided when it was accepted.
    pub version: String,
    /// `queued`, `running`, `succeeded` or `failed`.
    pub state: &'static str,
    /// Attempts that were begun; those that did not reach the function are not counted.
    pub attempts: u32,
    /// Where it is taken, if it is what became of another call: as in the function's `on_success` and `on_failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub destination: Option<String>,
    #[schema(format = DateTime)]
    pub accepted_at: String,
    /// When the last attempt began, of those that have an end.
    #[schema(required = true, format = DateTime)]
    pub started_at: Option<String>,
    #[schema(required = true, format = DateTime)]
    pub finished_at: Option<String>,
    /// On what worker that attempt ran: `warm`, `stem` or `cold`; null if it got none.
    #[schema(required = true)]
    pub start: Option<&'static str>,
    /// Why it was not warm.
    #[schema(required = true)]
    pub start_reason: Option<&'static str>,
    /// Milliseconds from the beginning of that attempt to its end.
    #[schema(required = true)]
    pub duration: Option<f64>,
    #[schema(required = true)]
    pub phases: Option<PhasesDocument>,
    /// Of the last attempt that failed.
    #[schema(required = true)]
    pub error: Option<InvocationError>,
    /// Where the lines are that it printed; null if no function was to run.
    #[schema(required = true)]
    pub logs: Option<String>,
}

/// A call with what it was given and what it answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvocationDetail {
    #[serde(flatten)]
    pub invocation: InvocationDocument,
    /// What the function was given.
    pub payload: ContentDocument,
    /// What it answered, or what it reported as its error: an object with `errorType`, `errorMessage` and `stackTrace`.
    pub answer: ContentDocument,
}

/// A payload or an answer.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = InvocationContent)]
pub struct ContentDocument {
    /// As it was; null if it is not there.
    #[schema(required = true)]
    pub body: Option<String>,
    /// `body` is base64, because it is not text.
    pub base64: bool,
    /// It was declared as bytes, and not as JSON.
    pub raw: bool,
    /// In bytes; null if that is not known.
    #[schema(required = true)]
    pub size: Option<u64>,
    /// Why it is not there: `too_large` to be kept, `forgotten` for the sake of newer calls or by another process, `off` by the
    /// configuration, `streamed`, `failed` without an answer, `not_run` yet, or `deploy`, which the key would have to be allowed.
    #[schema(required = true)]
    pub absent: Option<&'static str>,
}

impl ContentDocument {
    fn absent(why: &'static str) -> Self {
        Self {
            absent: Some(why),
            ..Self::default()
        }
    }
}

impl From<Content> for ContentDocument {
    fn from(content: Content) -> Self {
        let (bytes, raw) = match content {
            Content::Kept { bytes, raw } => (bytes, raw),
            Content::Absent(Absent::TooLarge(size)) => {
                return Self {
                    size: Some(size),
                    ..Self::absent("too_large")
                };
            }
            Content::Absent(Absent::Off) => return Self::absent("off"),
            Content::Absent(Absent::Forgotten) => return Self::absent("forgotten"),
            Content::Absent(Absent::Streamed) => return Self::absent("streamed"),
            Content::Absent(Absent::Failed) => return Self::absent("failed"),
        };
        let size = Some(bytes.len() as u64);
        let (body, base64) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (BASE64_STANDARD.encode(error.as_bytes()), true),
        };
        Self {
            body: Some(body),
            base64,
            raw,
            size,
            absent: None,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct InvocationError {
    /// As in the answer to a synchronous call.
    pub code: String,
    pub message: String,
}

impl From<Record> for InvocationDocument {
    fn from(record: Record) -> Self {
        let (event, ran) = (record.event, record.ran);
        let runs = runs(&event);
        Self {
            request_id: event.request_id.to_string(),
            kind: "Event",
            function: event.name.to_string(),
            version: event.version.to_string(),
            state: record.state.as_str(),
            attempts: record.attempts,
            logs: runs.map(|id| lines(id, &event.request_id)),
            destination: event.destination.map(String::from),
            accepted_at: event.accepted_at.to_string(),
            started_at: ran.map(|ran| ran.began_at.to_string()),
            finished_at: record.finished_at.map(|at| at.to_string()),
            start: ran.and_then(|ran| ran.start).map(|(kind, _)| kind.as_str()),
            start_reason: ran.and_then(|ran| ran.start).map(|(_, why)| why.as_str()),
            duration: ran.map(|ran| millis(between(ran.began_at, ran.ended_at))),
            phases: ran.map(|ran| PhasesDocument::of(&ran.phases)),
            error: record.failure.map(|failure| InvocationError {
                code: failure.code,
                message: failure.message,
            }),
        }
    }
}

impl InvocationDocument {
    fn of(function: &Function, call: &Call) -> Self {
        let began_at = call.ended_at.checked_sub(call.took);
        let began_at = began_at.unwrap_or(call.ended_at).to_string();
        Self {
            request_id: call.request_id.to_string(),
            kind: "RequestResponse",
            function: function.name.to_string(),
            version: call.version.to_string(),
            state: match call.fault {
                None => event::State::Succeeded.as_str(),
                Some(_) => event::State::Failed.as_str(),
            },
            attempts: 1,
            destination: None,
            accepted_at: began_at.clone(),
            started_at: Some(began_at),
            finished_at: Some(call.ended_at.to_string()),
            start: call.start.map(|(kind, _)| kind.as_str()),
            start_reason: call.start.map(|(_, why)| why.as_str()),
            duration: Some(millis(call.took)),
            phases: Some(PhasesDocument::of(&call.phases)),
            error: call.fault.map(|(code, _)| InvocationError {
                code: code.into(),
                message: call.message.as_deref().unwrap_or_default().into(),
            }),
            logs: Some(lines(function.id.as_str(), &call.request_id)),
        }
    }
}

/// How it stands with all asynchronous calls together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueDocument {
    /// For their turn, or for the time at which they are tried again.
    pub waiting: u64,
    pub running: u64,
    /// Since when the first in line could be run; null if none is late.
    #[schema(required = true, format = DateTime)]
    pub due_since: Option<String>,
    /// Waiting and running ones there may be; more are refused.
    pub room: u64,
    pub dead_letters: u64,
}

impl QueueDocument {
    fn of(depth: &Depth, room: u64) -> Self {
        Self {
            waiting: depth.unfinished.saturating_sub(depth.running),
            running: depth.running,
            due_since: depth.due_since.map(|at| at.to_string()),
            room,
            dead_letters: depth.dead,
        }
    }
}

/// Id or name of the function that runs it: a record that is taken to one is run by that one.
fn runs(event: &Event) -> Option<&str> {
    match &event.destination {
        None => Some(event.function.as_str()),
        Some(Destination::Function(name, _)) => Some(name.as_str()),
        Some(Destination::Webhook(_) | Destination::Stream(_) | Destination::Queue(_)) => None,
    }
}

fn lines(function: &str, request_id: &RequestId) -> String {
    format!("/functions/{function}/logs?request_id={request_id}")
}

/// None, where the clock was set back meanwhile.
fn between(began: jiff::Timestamp, ended: jiff::Timestamp) -> Duration {
    Duration::try_from(ended.duration_since(began)).unwrap_or_default()
}

/// Read how the queue stands
///
/// Asynchronous calls that wait or run, of all functions, and of all processes that share the store.
#[utoipa::path(
    get, path = "/invocations/", tag = "calls", operation_id = "get_queue",
    responses((status = 200, body = QueueDocument, description = "at this moment"), LettersErrors)
)]
pub async fn queue(State(control): State<Control>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri)?.finish()?;
    let depth = control.queue.depth().await.map_err(|error| {
        metrics::store_error("count the events");
        tracing::warn!(%error, "the events could not be counted");
        Problem::StoreUnavailable
    })?;
    let queue = QueueDocument::of(&depth, control.queue.room());
    Ok(json(StatusCode::OK, &queue))
}

/// Read an invocation
///
/// An asynchronous call is known from the answer that accepted it until some time after its end, as the configuration says. Any other is
/// known when it has ended, to the process that ran it, while it is among the latest 200 of its function.
///
/// What it was given and what it answered is shown to keys that may `deploy` the function, as long as the process that ran it keeps both in
/// its memory: within the bounds of `[invocations]` in the configuration.
#[utoipa::path(
    get, path = "/invocations/{id}", tag = "calls", operation_id = "get_invocation",
    params(("id" = String, Path, description = "the request id of its answer")),
    responses((status = 200, body = InvocationDetail, description = "how it stands"), CodeErrors)
)]
pub async fn read(
    State(control): State<Control>,
    Caller(grant): Caller,
    Name(id): Name,
) -> Result<Response, Problem> {
    let unknown = || Problem::NoInvocation(id.clone());
    let request_id = RequestId::parse(&id).ok_or_else(unknown)?;
    let record = control.queue.record(&request_id).await.map_err(|error| {
        metrics::store_error("read the invocation");
        tracing::warn!(%error, "an invocation could not be read");
        Problem::StoreUnavailable
    })?;
    let (ran, name, invocation) = match record {
        Some(record) => {
            let ran = runs(&record.event).and_then(|id| control.scheduler.find(id));
            (
                ran,
                record.event.name.clone(),
                InvocationDocument::from(record),
            )
        }
        None => {
            let (target, call) = control
                .scheduler
                .remembered(&request_id)
                .ok_or_else(unknown)?;
            let function = &target.function;
            let invocation = InvocationDocument::of(function, &call);
            (Some(target.clone()), function.name.clone(), invocation)
        }
    };
    // As if it were not there: a key for some functions learns nothing of others.
    access::function(&grant, Scope::Invoke, name.as_str(), &control.scheduler)
        .map_err(|_denied| unknown())?;
    let (payload, answer) = match ran {
        _ if invocation.attempts == 0 => absent("not_run"),
        // What others sent is not for callers, and what is passed on to another function is also that one's.
        Some(ran) if may_read(&grant, &[&name, &ran.function.name], &control) => {
            let Exchange { payload, answer } = ran.exchange(&request_id);
            (payload.into(), answer.into())
        }
        Some(_) => absent("deploy"),
        None => absent("forgotten"),
    };
    let detail = InvocationDetail {
        invocation,
        payload,
        answer,
    };
    Ok(json(StatusCode::OK, &detail))
}

fn may_read(grant: &Grant, names: &[&FunctionName], control: &Control) -> bool {
    let may = |name: &&FunctionName| {
        access::function(grant, Scope::Deploy, name.as_str(), &control.scheduler)
    };
    names.iter().all(|name| may(name).is_ok())
}

fn absent(why: &'static str) -> (ContentDocument, ContentDocument) {
    (ContentDocument::absent(why), ContentDocument::absent(why))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use bytes::Bytes;
    use http::Request;
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::control::world::{DEADLINE, World};
    use crate::clock;
    use crate::domain::event::{Ran, Settlement, Verdict};
    use crate::domain::invocation::{Phases, StartKind, StartReason};
    use crate::domain::key::Wish;
    use crate::queue::carrier::Carrier;
    use crate::queue::{self, Queue};
    use crate::store::Store;
    use crate::store::events::Bounds;

    async fn read(world: &World, id: &str) -> Value {
        let answer = world.get(&format!("/invocations/{id}")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.json()
    }

    #[tokio::test]
    async fn a_call_that_somebody_waited_for_is_known_afterwards() {
        let world = World::empty();
        let made = world.create("f").await;
        for (payload, state, code) in [
            (json!(1), "succeeded", Value::Null),
            (json!("fail"), "failed", json!("function_error")),
        ] {
            world.post("/functions/f/execute", payload).await;
            let calls = world.get("/functions/f/invocations?limit=1").await.json();
            let id = calls["items"][0]["request_id"].as_str().expect("an id");
            let known = read(&world, id).await;
            assert_eq!(known["request_id"], id);
            assert_eq!(
                (&known["type"], &known["function"]),
                (&json!("RequestResponse"), &json!("f"))
            );
            assert_eq!(
                (&known["state"], &known["attempts"]),
                (&json!(state), &json!(1))
            );
            assert_eq!(known["version"], "$LATEST");
            assert_eq!(known["error"].get("code").unwrap_or(&Value::Null), &code);
            assert_eq!(known["start"], calls["items"][0]["start"]);
            assert_eq!(known["duration"], calls["items"][0]["duration"]);
            assert_eq!(known["phases"], calls["items"][0]["phases"]);
            let wanted = format!(
                "/functions/{}/logs?request_id={id}",
                made["id"].as_str().expect("an id")
            );
            assert_eq!(known["logs"], wanted);
            assert_eq!(world.get(&wanted).await.status, 200);
            let (began, ended) = (&known["started_at"], &known["finished_at"]);
            assert!(began.as_str() <= ended.as_str(), "{known}");
        }
        let none = format!("/invocations/{}", RequestId::generate());
        assert_eq!(world.get(&none).await.status, 404);
    }

    #[tokio::test]
    async fn what_a_call_was_given_and_answered_is_shown_to_who_may_read_its_log() {
        let world = World::empty();
        world.create("f").await;
        world.create("private-1").await;
        let latest = async |name: &str| {
            let calls = world.get(&format!("/functions/{name}/invocations")).await;
            let id = calls.json()["items"][0]["request_id"].clone();
            id.as_str().expect("an id").to_owned()
        };
        let answer = world.post("/functions/f/execute", json!({"n": 1})).await;
        let id = latest("f").await;
        let known = read(&world, &id).await;
        assert_eq!(known["payload"]["body"], r#"{"n":1}"#);
        assert_eq!(
            (&known["payload"]["size"], &known["payload"]["base64"]),
            (&json!(7), &json!(false))
        );
        let told = known["answer"]["body"].as_str().expect("an answer");
        assert_eq!(told.as_bytes(), answer.body);
        assert_eq!(known["answer"].get("absent"), Some(&Value::Null));

        world.post("/functions/f/execute", json!("fail")).await;
        let failed = read(&world, &latest("f").await).await;
        let report = failed["answer"]["body"].as_str().expect("a report");
        assert!(report.contains("errorType"), "{report}");

        let large = "x".repeat(2000);
        world.post("/functions/f/execute", json!(large)).await;
        let known = read(&world, &latest("f").await).await;
        assert_eq!(
            (&known["payload"]["absent"], &known["payload"]["size"]),
            (&json!("too_large"), &json!(2002))
        );
        assert_eq!(known["payload"].get("body"), Some(&Value::Null));

        world.post("/functions/private-1/execute", json!(1)).await;
        let private = read(&world, &latest("private-1").await).await;
        assert_eq!(
            (&private["payload"]["absent"], &private["answer"]["absent"]),
            (&json!("off"), &json!("off"))
        );

        for (scopes, body, absent) in [
            (&[Scope::Invoke][..], json!(null), json!("deploy")),
            (
                &[Scope::Invoke, Scope::Deploy],
                json!(r#"{"n":1}"#),
                json!(null),
            ),
        ] {
            let wish = Wish {
                scopes: scopes.to_vec(),
                ..Wish::admin()
            };
            let grant = Arc::new(Grant::from(&wish.issue(clock::wall()).1));
            let request = Request::get(format!("/invocations/{id}")).extension(grant);
            let request = request.body(Body::empty()).expect("a request");
            let known = world.answered(request).await.json();
            assert_eq!(known["payload"]["body"], body);
            assert_eq!(known["payload"]["absent"], absent);
            assert_eq!(known["state"], "succeeded");
        }
    }

    #[test]
    fn what_is_no_text_is_base64() {
        let content = |bytes: &[u8]| {
            let bytes = bytes.to_vec();
            ContentDocument::from(Content::Kept { bytes, raw: true })
        };
        let binary = content(&[0, 255, 254]);
        assert_eq!(binary.body.as_deref(), Some("AP/+"));
        assert!(binary.base64 && binary.raw);
        let text = content("grüß".as_bytes());
        assert_eq!(text.body.as_deref(), Some("grüß"));
        assert!(!text.base64 && text.size == Some(6));
    }

    #[tokio::test]
    async fn an_asynchronous_call_tells_how_its_last_attempt_went() {
        let world = World::empty();
        world.create("f").await;
        let resolved = world.scheduler.resolve("f", None).expect("there");
        let id = RequestId::generate();
        let payload = Bytes::from_static(b"1");
        let submitted = world.queue.submit(id, &resolved, payload, false, None);
        submitted.await.expect("is kept");
        let known = read(&world, &id.to_string()).await;
        assert_eq!(
            (&known["type"], &known["state"]),
            (&json!("Event"), &json!("queued"))
        );
        for missing in [
            "started_at",
            "finished_at",
            "start",
            "duration",
            "phases",
            "error",
        ] {
            assert_eq!(known.get(missing), Some(&Value::Null), "{missing}");
        }
        assert_eq!(known["payload"]["absent"], "not_run");
        let bounds = Bounds {
            unfinished: 9,
            finished: 9,
            keep: Duration::from_secs(3600),
            dead: 9,
        };
        let store: &dyn Store = &*world.store;
        let claimed = store.claim("test", 1, bounds.keep).await.expect("claimed");
        let at = |text: &str| text.parse().expect("a time");
        let settlement = Settlement {
            verdict: Verdict::Succeeded,
            ran: Some(Ran {
                began_at: at("2026-01-02T03:04:05Z"),
                ended_at: at("2026-01-02T03:04:05.250Z"),
                start: Some((StartKind::Cold, StartReason::FirstCall)),
                phases: Phases {
                    run: Duration::from_millis(7),
                    ..Phases::default()
                },
            }),
        };
        let settled = store.settle("test", &claimed[0], settlement, bounds).await;
        assert!(settled.expect("settled"));
        let known = read(&world, &id.to_string()).await;
        assert_eq!(known["started_at"], "2026-01-02T03:04:05Z");
        assert_eq!(
            (&known["start"], &known["start_reason"]),
            (&json!("cold"), &json!("first_call"))
        );
        assert_eq!(
            (&known["duration"], &known["phases"]["run"]),
            (&json!(250.0), &json!(7.0))
        );
    }
    #[tokio::test]
    async fn places_that_become_free_are_filled_together() {
        const CALLS: usize = 40;
        const PLACES: usize = 8;
        let world = World::empty();
        world.create("f").await;
        let options = queue::Options {
            process: "test".into(),
            parallel: PLACES,
            // Until a quarter is free, however long that takes here.
            gather: DEADLINE,
            lease: DEADLINE,
            retry: queue::retry::Options {
                retries: 0,
                delay: DEADLINE,
                max_age: DEADLINE,
            },
            bounds: Bounds {
                unfinished: 100,
                finished: 100,
                keep: DEADLINE,
                dead: 100,
            },
        };
        let nobody = Carrier::new(|_, _, _| unreachable!("nobody is told"));
        let queue = Queue::new(
            world.scheduler.clone(),
            world.store.clone(),
            nobody,
            options,
        );
        let resolved = world.scheduler.resolve("f", None).expect("there");
        let mut ids = Vec::new();
        for _ in 0..CALLS {
            let id = RequestId::generate();
            let payload = Bytes::from_static(b"1");
            let submitted = queue.submit(id, &resolved, payload, false, None);
            submitted.await.expect("is kept");
            ids.push(id.to_string());
        }
        let stop = CancellationToken::new();
        let running = tokio::spawn(queue.clone().run(stop.clone()));
        let deadline = clock::now() + DEADLINE;
        for id in &ids {
            loop {
                let known = read(&world, id).await;
                if known["state"] == "succeeded" {
                    assert_eq!(known["attempts"], 1);
                    break;
                }
                assert!(clock::now() < deadline, "{known}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        stop.cancel();
        running.await.expect("ends");
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        assert_eq!(of(&world.store.settles), CALLS);
        // All places at first, a quarter of them or more each time after that, and what finds nothing.
        let most = 1 + (CALLS - PLACES) / (PLACES / 4) + 1;
        let claims = of(&world.store.claims);
        assert!(claims <= most, "{claims} questions, not {most}");
    }
}
