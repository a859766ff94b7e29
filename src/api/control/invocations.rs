//! What became of asynchronous calls.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::access::{self, Caller};
use crate::api::control::Control;
use crate::api::control::functions::json;
use crate::api::control::intake::Name;
use crate::api::control::openapi::CodeErrors;
use crate::api::error::Problem;
use crate::domain::event::Record;
use crate::domain::id::RequestId;
use crate::domain::key::Scope;
use crate::telemetry::metrics;

/// How it stands with an asynchronous call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invocation)]
pub struct InvocationDocument {
    pub request_id: String,
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
    #[schema(required = true, format = DateTime)]
    pub finished_at: Option<String>,
    /// Of the last attempt that failed.
    #[schema(required = true)]
    pub error: Option<InvocationError>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct InvocationError {
    /// As in the answer to a synchronous call.
    pub code: String,
    pub message: String,
}

impl From<Record> for InvocationDocument {
    fn from(record: Record) -> Self {
        Self {
            request_id: record.event.request_id.to_string(),
            function: record.event.name.to_string(),
            version: record.event.version.to_string(),
            destination: record.event.destination.map(String::from),
            state: record.state.as_str(),
            attempts: record.attempts,
            accepted_at: record.event.accepted_at.to_string(),
            finished_at: record.finished_at.map(|at| at.to_string()),
            error: record.failure.map(|failure| InvocationError {
                code: failure.code,
                message: failure.message,
            }),
        }
    }
}

/// Read an asynchronous call
///
/// Known from the answer that accepted it until some time after its end, as the configuration says.
#[utoipa::path(
    get, path = "/invocations/{id}", tag = "calls", operation_id = "get_invocation",
    params(("id" = String, Path, description = "the request id of the answer that accepted it")),
    responses((status = 200, body = InvocationDocument, description = "how it stands"), CodeErrors)
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
    let record = record.ok_or_else(unknown)?;
    let name = record.event.name.as_str();
    // As if it were not there: a key for some functions learns nothing of others.
    access::function(&grant, Scope::Invoke, name, &control.scheduler)
        .map_err(|_denied| unknown())?;
    Ok(json(StatusCode::OK, &InvocationDocument::from(record)))
}
