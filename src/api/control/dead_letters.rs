//! `/dead-letters/`: asynchronous calls that failed for good and whose payloads are kept. They are listed and read, queued again, or
//! discarded. A key that is for some functions sees the letters of those.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, LOCATION};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::access::{self, Caller};
use crate::api::control::Control;
use crate::api::control::functions::json;
use crate::api::control::intake::{Name, Query};
use crate::api::control::invocations::InvocationDocument;
use crate::api::control::openapi::{CodeErrors, LettersErrors, RedriveErrors};
use crate::api::error::Problem;
use crate::api::invoke::{self, Accepted};
use crate::domain::event::{Record, State as EventState};
use crate::domain::id::RequestId;
use crate::domain::key::{Grant, Scope};
use crate::store;
use crate::store::dead_letters::Place;
use crate::telemetry::metrics;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1000;
/// Letters that one request looks at, to find those it is for.
const SCAN_MAX: usize = 5000;
const SCAN_STEP: usize = 200;
/// Letters that one request queues again.
const REDRIVE_MAX: usize = 1000;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterPage {
    pub items: Vec<InvocationDocument>,
    /// Where the next page begins; null when this is the last one. A page may have fewer items than were asked for.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// A dead letter with what was to be run.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetter {
    #[serde(flatten)]
    pub invocation: InvocationDocument,
    /// As it was given, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub payload_base64: Option<String>,
}

/// Whose dead letters shall be queued again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    /// Id or name of the function.
    pub function: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Redriven {
    /// How many were queued again.
    pub redriven: usize,
    /// There may be more: ask again.
    pub more: bool,
}

/// Which letters a request is for.
struct Wanted<'a> {
    /// The function's id, and the name it has or had.
    function: Option<(String, String)>,
    grant: &'a Grant,
}

impl<'a> Wanted<'a> {
    fn of(control: &Control, function: Option<String>, grant: &'a Grant) -> Self {
        let function = function.map(|text| match control.scheduler.find(&text) {
            Some(target) => (
                target.function.id.to_string(),
                target.function.name.to_string(),
            ),
            None => (text.clone(), text),
        });
        Self { function, grant }
    }

    fn has(&self, record: &Record) -> bool {
        let event = &record.event;
        let named = self
            .function
            .as_ref()
            .is_none_or(|(id, name)| event.function.as_str() == id || event.name.as_str() == name);
        named && self.grant.is_for(event.name.as_str())
    }
}

/// List dead letters
///
/// The last that failed comes first.
#[utoipa::path(
    get, path = "/dead-letters/", tag = "calls", operation_id = "list_dead_letters",
    params(
        ("function" = Option<String>, Query, description = "only those of this function: its id, or its name now or then"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "letters in one page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
    ),
    responses((status = 200, body = DeadLetterPage, description = "a page"), LettersErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Caller(grant): Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let cursor = query.parsed("cursor", |text| {
        let place = text.parse::<Place>();
        place.map_err(|()| "must be the next of a page".into())
    });
    let function = query.text("function");
    query.finish()?;
    let wanted = Wanted::of(&control, function, &grant);
    let (letters, next) = scan(&control, &wanted, cursor, limit).await?;
    let page = DeadLetterPage {
        items: letters.into_iter().map(InvocationDocument::from).collect(),
        next: next.map(|place| place.to_string()),
    };
    Ok(json(StatusCode::OK, &page))
}

/// Looks for up to `limit` letters; says where to go on if there may be more.
async fn scan(
    control: &Control,
    wanted: &Wanted<'_>,
    mut after: Option<Place>,
    limit: usize,
) -> Result<(Vec<Record>, Option<Place>), Problem> {
    let mut found = Vec::new();
    for _ in 0..SCAN_MAX / SCAN_STEP {
        let rows = control.queue.dead(after, SCAN_STEP).await;
        let rows = rows.map_err(|error| failed("list the dead letters", &error))?;
        let last = rows.len() < SCAN_STEP;
        for (place, record) in rows {
            if found.len() == limit {
                return Ok((found, after));
            }
            after = Some(place);
            if wanted.has(&record) {
                found.push(record);
            }
        }
        if last {
            return Ok((found, None));
        }
    }
    Ok((found, after))
}

/// Read a dead letter
#[utoipa::path(
    get, path = "/dead-letters/{id}", tag = "calls", operation_id = "get_dead_letter",
    params(("id" = String, Path, description = "the request id of the call")),
    responses((status = 200, body = DeadLetter, description = "the call and its payload"), CodeErrors)
)]
pub async fn read(
    State(control): State<Control>,
    Caller(grant): Caller,
    Name(id): Name,
) -> Result<Response, Problem> {
    let (record, payload) = find(&control, &grant, Scope::Deploy, &id).await?;
    let text = serde_json::from_slice::<Box<RawValue>>(&payload).ok();
    let letter = DeadLetter {
        payload_base64: text.is_none().then(|| BASE64_STANDARD.encode(&payload)),
        payload: text,
        invocation: record.into(),
    };
    Ok(json(StatusCode::OK, &letter))
}

/// Queue a dead letter again
///
/// It is run as if it had never been tried, under the same request id, and is not a dead letter any more.
#[utoipa::path(
    post, path = "/dead-letters/{id}/redrive", tag = "calls", operation_id = "redrive_dead_letter",
    params(("id" = String, Path, description = "the request id of the call")),
    responses(
        (status = 202, body = Accepted, description = "it is queued",
         headers(("location" = String, description = "where to look how it stands"))),
        CodeErrors,
    )
)]
pub async fn redrive(
    State(control): State<Control>,
    Caller(grant): Caller,
    Name(id): Name,
) -> Result<Response, Problem> {
    let (record, _) = find(&control, &grant, Scope::Invoke, &id).await?;
    let request_id = record.event.request_id;
    if !put_back(&control, &request_id).await? {
        return Err(Problem::NoDeadLetter(id));
    }
    let accepted = Accepted {
        request_id: request_id.to_string(),
        state: EventState::Queued.as_str(),
    };
    let mut response = json(StatusCode::ACCEPTED, &accepted);
    let location = format!("/invocations/{request_id}");
    let location = HeaderValue::try_from(location).expect("an id is ASCII");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Queue a function's dead letters again
///
/// Up to a thousand in one request. When there is no room for more events, those that were queued stay queued.
#[utoipa::path(
    post, path = "/dead-letters/redrive", tag = "calls", operation_id = "redrive_dead_letters",
    request_body(content = Redrive, example = json!({"function": "hello"})),
    responses((status = 200, body = Redriven, description = "how many were queued"), RedriveErrors)
)]
pub async fn redrive_all(
    State(control): State<Control>,
    Caller(grant): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let wish = wish(&upload.bytes)?;
    access::function(&grant, Scope::Invoke, &wish.function, &control.scheduler)?;
    let wanted = Wanted::of(&control, Some(wish.function), &grant);
    let (letters, next) = scan(&control, &wanted, None, REDRIVE_MAX).await?;
    let mut redriven = 0;
    let mut more = next.is_some();
    for letter in letters {
        match put_back(&control, &letter.event.request_id).await {
            Ok(done) => redriven += usize::from(done),
            Err(problem) if redriven == 0 => return Err(problem),
            // What was done is worth telling.
            Err(_) => {
                more = true;
                break;
            }
        }
    }
    Ok(json(StatusCode::OK, &Redriven { redriven, more }))
}

/// Discard a dead letter
///
/// Its payload is gone for good; that the call failed stays known for a while.
#[utoipa::path(
    delete, path = "/dead-letters/{id}", tag = "calls", operation_id = "delete_dead_letter",
    params(("id" = String, Path, description = "the request id of the call")),
    responses((status = 204, description = "discarded"), CodeErrors)
)]
pub async fn discard(
    State(control): State<Control>,
    Caller(grant): Caller,
    Name(id): Name,
) -> Result<Response, Problem> {
    let (record, _) = find(&control, &grant, Scope::Deploy, &id).await?;
    let discarded = control.queue.discard(&record.event.request_id).await;
    match discarded.map_err(|error| failed("discard the dead letter", &error))? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::NoDeadLetter(id)),
    }
}

/// A letter the caller may do this with. One that it may not is as if it were not there.
async fn find(
    control: &Control,
    grant: &Grant,
    scope: Scope,
    id: &str,
) -> Result<(Record, Bytes), Problem> {
    let unknown = || Problem::NoDeadLetter(id.to_owned());
    let request_id = RequestId::parse(id).ok_or_else(unknown)?;
    let found = control.queue.dead_letter(&request_id).await;
    let found = found.map_err(|error| failed("read the dead letter", &error))?;
    let (record, payload) = found.ok_or_else(unknown)?;
    let name = record.event.name.as_str();
    access::function(grant, scope, name, &control.scheduler).map_err(|_denied| unknown())?;
    Ok((record, payload))
}

async fn put_back(control: &Control, id: &RequestId) -> Result<bool, Problem> {
    match control.queue.redrive(id).await {
        Ok(done) => Ok(done),
        Err(store::Error::Full) => Err(Problem::TooManyEvents),
        Err(error) => Err(failed("redrive the dead letter", &error)),
    }
}

fn wish(body: &[u8]) -> Result<Redrive, Problem> {
    let malformed = |why: String| Problem::Malformed {
        what: "a wish to redrive",
        why,
    };
    let value = crate::api::json::value(body).map_err(|error| malformed(error.to_string()))?;
    if !value.is_object() {
        return Err(malformed("it must be an object".into()));
    }
    serde_json::from_value(value).map_err(|error| Problem::invalid("function", error.to_string()))
}

fn failed(operation: &'static str, error: &store::Error) -> Problem {
    metrics::store_error(operation);
    let problem = invoke::unstored(error);
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, operation, "dead letters cannot be had");
    problem
}

#[cfg(test)]
mod tests;
