//! Which workers a function had started, and why: the answer to "why was this call not warm?".

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::control::Control;
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::ReadErrors;
use crate::api::error::Problem;
use crate::domain::start::Cause;
use crate::pool::ledger::Entry;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 200;

#[derive(Debug, Serialize, ToSchema)]
pub struct StartPage {
    pub items: Vec<Start>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// One start that was not warm.
#[derive(Debug, Serialize, ToSchema)]
pub struct Start {
    /// Grows by one with every start of the function, from 0 when the server is started.
    pub sequence: u64,
    /// When the worker was ready, or its start had failed.
    #[schema(format = DateTime)]
    pub at: String,
    /// `stem`: a stem worker was given the function's code. `cold`: a container had to be created.
    pub kind: &'static str,
    /// Why no idle worker was there: `first_call`, `version_changed`, `scale_out`, `provisioned`, `keep_alive`, `evicted`, `crashed`, `network_ended` or `cancelled`.
    pub cause: &'static str,
    /// When that happened, if it was before the call.
    #[schema(required = true, format = DateTime)]
    pub caused_at: Option<String>,
    /// With `scale_out`: workers that were there, or on their way, and none of them idle.
    #[schema(required = true)]
    pub workers: Option<usize>,
    /// With `evicted` and `keep_alive`: by which rule its last worker went.
    #[schema(required = true)]
    pub rule: Option<&'static str>,
    /// With `evicted`: the function whose call needed the room.
    #[schema(required = true)]
    pub in_favour_of: Option<String>,
    /// With `crashed` and `cancelled`: how its last worker ended.
    #[schema(required = true)]
    pub ended_by: Option<&'static str>,
    /// With `cold`: why no stem worker could serve it, `stem_pool_empty` or `own_network`.
    #[schema(required = true)]
    pub not_stem: Option<&'static str>,
    /// The version it is of, by its digest.
    pub digest: String,
    /// Null if the start failed.
    #[schema(required = true)]
    pub worker: Option<String>,
    /// The code of the fault, if it failed.
    #[schema(required = true)]
    pub error: Option<&'static str>,
    /// Waiting for a place to start, or for memory.
    pub queue_ms: f64,
    /// Creating the container.
    pub start_ms: f64,
    /// Handing over the code and running its top level.
    pub init_ms: f64,
}

impl From<Entry> for Start {
    fn from(entry: Entry) -> Self {
        let millis = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        let (mut workers, mut rule, mut favour, mut ended_by) = (None, None, None, None);
        match &entry.cause {
            Cause::FirstCall
            | Cause::VersionChanged
            | Cause::Provisioned
            | Cause::NetworkEnded { .. } => {}
            Cause::ScaleOut { workers: n } => workers = Some(*n),
            Cause::KeepAlive { .. } => rule = Some("pool.keep_alive"),
            Cause::Evicted { favour: whom, .. } => {
                rule = Some("pool.memory_budget_mb");
                favour = Some(whom.to_string());
            }
            Cause::Crashed { how, .. } | Cause::Cancelled { how, .. } => ended_by = Some(*how),
        }
        Self {
            sequence: entry.sequence,
            at: entry.at.to_string(),
            kind: entry.kind.as_str(),
            cause: entry.cause.as_str(),
            caused_at: entry.cause.at().map(|at| at.to_string()),
            workers,
            rule,
            in_favour_of: favour,
            ended_by,
            not_stem: entry.not_stem.map(|why| why.as_str()),
            digest: entry.digest,
            worker: entry.worker.map(|id| id.to_string()),
            error: entry.fault,
            queue_ms: millis(entry.queue),
            start_ms: millis(entry.start),
            init_ms: millis(entry.init),
        }
    }
}

/// List a function's starts
///
/// Every start of a worker for its calls, the newest first, with why no idle one was there. The last 200 are remembered, until the server ends.
#[utoipa::path(
    get, path = "/functions/{id}/starts", tag = "functions", operation_id = "list_starts",
    params(
        ("id" = String, Path, description = "id or name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "starts in one page; 50 if left out"),
        ("cursor" = Option<u64>, Query, description = "the `next` of the page before"),
    ),
    responses((status = 200, body = StartPage, description = "a page"), ReadErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let before = query.parsed("cursor", |text| {
        // As many as the document's int64 has.
        let number = text.parse::<i64>().ok();
        let number = number.and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| "must be the next of a page".into())
    });
    query.finish()?;
    let (entries, more) = find(&control, &id)?.starts().page(before, limit);
    let page = StartPage {
        next: entries
            .last()
            .filter(|_| more)
            .map(|entry| entry.sequence.to_string()),
        items: entries.into_iter().map(Start::from).collect(),
    };
    Ok(json(StatusCode::OK, &page))
}
