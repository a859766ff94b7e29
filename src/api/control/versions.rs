//! `/functions/{id}/versions`: what was published of a function.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderMap, HeaderValue, LOCATION};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Fields, cut, description, must_be, text};
use crate::api::control::deploy::versions::Publish;
use crate::api::control::document::{CodeDocument, NetworkChoice};
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Below, Name, Query};
use crate::api::control::openapi::{PublishErrors, VersionDeleteErrors, VersionErrors};
use crate::api::error::Problem;
use crate::domain::function::{Function, Network};
use crate::domain::id::VersionDigest;
use crate::domain::version::Version;
use crate::store::key::is_hash;

const PAGE_DEFAULT: usize = 50;
pub const PAGE_MAX: usize = 1000;

/// A function as it was when it was published.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionDocument<'a> {
    /// Counts up within the function, and is never used again.
    number: u64,
    /// The function's id.
    function: &'a str,
    description: &'a str,
    /// The runtime's id.
    language: &'a str,
    handler: &'a str,
    /// Seconds.
    timeout: u32,
    /// MiB.
    memory: u32,
    /// Names; every value is shown as `****`.
    #[schema(value_type = BTreeMap<String, String>)]
    environment: BTreeMap<&'a str, &'static str>,
    #[schema(value_type = NetworkChoice)]
    network: Network,
    code: CodeDocument<'a>,
    /// Digest of the code and of every setting a worker is started with; `x-hearth-version` of an answer is its beginning.
    #[schema(value_type = String)]
    digest: VersionDigest,
    /// Of the version itself.
    revision: u64,
    /// Of the function, when it was published.
    function_revision: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
}

impl<'a> VersionDocument<'a> {
    /// `latest` is the function: it may have another name by now.
    fn of(version: &'a Version, latest: &Function) -> Self {
        let function = &version.function;
        Self {
            number: version.number,
            function: function.id.as_str(),
            description: &version.description,
            language: function.runtime.as_str(),
            handler: &function.handler,
            timeout: function.timeout_seconds,
            memory: function.memory.0,
            environment: function.environment.masked(),
            network: function.network,
            code: CodeDocument::of(&function.code),
            digest: version.as_of(latest).digest_as(version.id()),
            revision: version.revision,
            function_revision: function.revision,
            created_at: version.created_at,
        }
    }
}

/// A page of versions, in the order of their numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionPage<'a> {
    items: Vec<VersionDocument<'a>>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required = true)]
    next: Option<String>,
}

/// A version to be published; all of it may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The function's if left out.
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
    /// Refused if the function's code is another: SHA-256 of the zip, in hex.
    #[schema(nullable = false, pattern = "^[0-9a-f]{64}$")]
    pub code_sha256: Option<String>,
    /// Refused if the function is at another revision.
    #[schema(nullable = false)]
    pub revision: Option<u64>,
}

/// List versions
///
/// In the order of their numbers, a page at a time.
#[utoipa::path(
    get, path = "/functions/{id}/versions", tag = "versions", operation_id = "list_versions",
    params(
        ("id" = String, Path, description = "id or name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "versions in one page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
    ),
    responses((status = 200, body = VersionPage, description = "a page"), VersionErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let after = query.parsed("cursor", |text| {
        let number = text.parse::<u64>().ok();
        number.ok_or_else(|| "must be the next of a page".into())
    });
    query.finish()?;
    let target = find(&control, &id)?;
    let from = after.map_or(0, |after| after.saturating_add(1));
    let mut rest = target.published().versions.range(from..);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let last = page.last().map(|(number, _)| number.to_string());
    let latest = &target.function;
    let items = page.iter().map(|(_, v)| VersionDocument::of(v, latest));
    let page = VersionPage {
        items: items.collect(),
        next: last.filter(|_| more),
    };
    Ok(json(StatusCode::OK, &page))
}

/// Publish a version
///
/// A numbered copy of the function as it is now, which nothing changes any more. Where nothing was changed since the last version, that one
/// is the answer, with status 200.
#[utoipa::path(
    post, path = "/functions/{id}/versions", tag = "versions", operation_id = "publish_version",
    params(("id" = String, Path, description = "id or name")),
    request_body(content = Option<NewVersion>, description = "may be left out", content_type = "application/json"),
    responses(
        (status = 200, body = VersionDocument, description = "nothing was changed since this one"),
        (status = 201, body = VersionDocument, description = "published", headers(("location" = String, description = "where the version is"))),
        PublishErrors,
    )
)]
pub async fn publish(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let ask = read(&upload.bytes)?;
    let (version, new) = control
        .deploy
        .publish_version(caller, id.clone(), ask)
        .await?;
    let status = match new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    // It may be gone again by now; then it has the name it was published under.
    let target = control.scheduler.find(version.function.id.as_str());
    let latest = target.as_ref().map_or(&version.function, |t| &t.function);
    let mut response = json(status, &VersionDocument::of(&version, latest));
    if new {
        let at = format!(
            "/functions/{}/versions/{}",
            version.function.id, version.number
        );
        let at = HeaderValue::try_from(at).expect("an id is ASCII");
        response.headers_mut().insert(LOCATION, at);
    }
    Ok(response)
}

fn read(body: &[u8]) -> Result<Publish, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Publish::default());
    }
    let mut fields = Fields::of(body)?;
    let ask = Publish {
        description: fields.parsed("description", description),
        code_sha256: fields.parsed("code_sha256", |value| match text(value)? {
            hash if is_hash(hash) => Ok(hash.to_owned()),
            other => Err(format!(
                "must be a SHA-256 in lower-case hex, is {:?}",
                cut(other)
            )),
        }),
        revision: fields.parsed("revision", |value| {
            let revision = value.as_u64();
            revision.ok_or_else(|| must_be("a revision's number", value))
        }),
    };
    fields.finish(&[], "a version").into_result()?;
    Ok(ask)
}

/// The function and the version in the path.
fn numbered(id: &str, text: &str) -> Result<u64, Problem> {
    match text.parse() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(Problem::NoVersion {
            function: id.into(),
            qualifier: cut(text),
        }),
    }
}

/// Read a version
#[utoipa::path(
    get, path = "/functions/{id}/versions/{number}", tag = "versions", operation_id = "get_version",
    params(("id" = String, Path, description = "id or name"), ("number" = String, Path, description = "the version's number")),
    responses((status = 200, body = VersionDocument, description = "the version"), VersionErrors)
)]
pub async fn get(
    State(control): State<Control>,
    Below(id, number): Below,
) -> Result<Response, Problem> {
    let target = find(&control, &id)?;
    let number = numbered(&id, &number)?;
    let version = target.published().version(number);
    let version = version.ok_or_else(|| Problem::NoVersion {
        function: id,
        qualifier: number.to_string(),
    })?;
    let document = VersionDocument::of(version, &target.function);
    Ok(json(StatusCode::OK, &document))
}

/// Delete a version
///
/// Refused while an alias points at it. Calls under way finish.
#[utoipa::path(
    delete, path = "/functions/{id}/versions/{number}", tag = "versions", operation_id = "delete_version",
    params(("id" = String, Path, description = "id or name"), ("number" = String, Path, description = "the version's number")),
    responses((status = 204, description = "deleted"), VersionDeleteErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Below(id, number): Below,
) -> Result<Response, Problem> {
    find(&control, &id)?;
    let number = numbered(&id, &number)?;
    control.deploy.delete_version(caller, id, number).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
