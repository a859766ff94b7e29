//! `/functions/{id}/provisioned-concurrency`: workers of a published version, or of what an alias points at, that are kept ready.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Fields, must_be};
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{ProvisionErrors, ProvisionedErrors, UnprovisionErrors};
use crate::api::error::Problem;
use crate::domain::version::Qualifier;
use crate::scheduler::provision::Provisioning;

/// Workers that are kept ready.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvisionedConcurrency {
    /// The number of a version, or the name of an alias.
    qualifier: String,
    requested: u32,
    /// Workers that were started for it, are there and ready, idle or busy.
    allocated: u32,
    /// The same: calls up to this number at a time find a worker that is ready.
    available: u32,
    /// `IN_PROGRESS`, `READY` or `FAILED`; what failed is tried again.
    status: &'static str,
    /// Why it failed.
    #[schema(required = true)]
    reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
}

impl ProvisionedConcurrency {
    fn of(qualifier: &str, stands: Provisioning) -> Self {
        Self {
            qualifier: qualifier.into(),
            requested: stands.requested,
            allocated: stands.ready,
            available: stands.ready,
            status: stands.status.as_str(),
            reason: stands.reason,
            updated_at: stands.updated_at,
        }
    }
}

/// What is provisioned of a function: with a qualifier, at most one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvisionedList {
    items: Vec<ProvisionedConcurrency>,
}

/// How many workers are to be kept ready.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionRequest {
    #[schema(minimum = 1)]
    pub requested: u32,
}

/// The qualifier in the query.
pub(super) fn qualifier(uri: &Uri) -> Result<Option<Qualifier>, Problem> {
    let mut query = Query::of(uri)?;
    let qualifier = query.parsed("qualifier", Qualifier::parse);
    query.finish()?;
    Ok(qualifier)
}

pub(super) fn required(qualifier: Option<Qualifier>) -> Result<Qualifier, Problem> {
    let message = "is required: a version's number, or an alias's name";
    qualifier.ok_or_else(|| Problem::invalid("qualifier", message))
}

fn read(body: &[u8], most: u32) -> Result<u32, Problem> {
    let mut fields = Fields::of(body)?;
    let requested = fields.parsed("requested", |value| {
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        let number = number.filter(|n| (1..=most).contains(n));
        number.ok_or_else(|| {
            must_be(
                &format!("a whole number of workers from 1 to {most}"),
                value,
            )
        })
    });
    let mut faults = fields.finish(&[], "provisioned concurrency");
    if requested.is_none() && !faults.has("requested") {
        faults.add("requested", "is required");
    }
    faults.into_result()?;
    requested.ok_or(Problem::Internal)
}

fn stands(control: &Control, id: &str, qualifier: &str) -> Result<ProvisionedConcurrency, Problem> {
    let target = find(control, id)?;
    let stands = control.scheduler.provisioning(&target, qualifier);
    let stands = stands.ok_or_else(|| Problem::NotProvisioned {
        function: target.function.name.to_string(),
        qualifier: qualifier.into(),
    })?;
    Ok(ProvisionedConcurrency::of(qualifier, stands))
}

/// Read what is provisioned
///
/// For one version or alias, or for all there are.
#[utoipa::path(
    get, path = "/functions/{id}/provisioned-concurrency", tag = "versions", operation_id = "get_provisioned_concurrency",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = Option<String>, Query, description = "the number of a version or the name of an alias; all of the function's when left out"),
    ),
    responses((status = 200, body = ProvisionedList, description = "what is provisioned"), ProvisionedErrors)
)]
pub async fn get(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let items = match qualifier(&uri)? {
        Some(qualifier) => vec![stands(&control, &id, &qualifier.to_string())?],
        None => {
            let target = find(&control, &id)?;
            let all = target.published().head.provisioned.keys();
            all.filter_map(|qualifier| {
                let stands = control.scheduler.provisioning(&target, qualifier)?;
                Some(ProvisionedConcurrency::of(qualifier, stands))
            })
            .collect()
        }
    };
    Ok(json(StatusCode::OK, &ProvisionedList { items }))
}

/// Keep workers ready
///
/// The answer comes at once; the workers are there when the status is `READY`. Calls up to their number are then never cold. They take a
/// part of the account's limit, or of the function's `reserved_concurrency`, for themselves.
#[utoipa::path(
    put, path = "/functions/{id}/provisioned-concurrency", tag = "versions", operation_id = "put_provisioned_concurrency",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = String, Query, description = "the number of a version or the name of an alias"),
    ),
    request_body(content = ProvisionRequest, example = json!({"requested": 2})),
    responses((status = 202, body = ProvisionedConcurrency, description = "the workers are being started"), ProvisionErrors)
)]
pub async fn put(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let qualifier = required(qualifier(&uri)?)?;
    let upload = control.room.read(&headers, body).await?;
    let requested = read(&upload.bytes, control.limits.concurrency)?;
    let text = qualifier.to_string();
    control
        .deploy
        .provision(caller, id.clone(), qualifier, requested)
        .await?;
    let stands = stands(&control, &id, &text)?;
    Ok(json(StatusCode::ACCEPTED, &stands))
}

/// Keep no workers ready any more
///
/// Those that are there stay as long as any other.
#[utoipa::path(
    delete, path = "/functions/{id}/provisioned-concurrency", tag = "versions", operation_id = "delete_provisioned_concurrency",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = String, Query, description = "the number of a version or the name of an alias"),
    ),
    responses((status = 204, description = "done"), UnprovisionErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let qualifier = required(qualifier(&uri)?)?.to_string();
    control.deploy.unprovision(caller, id, qualifier).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
