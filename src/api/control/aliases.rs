//! `/functions/{id}/aliases`: names that point at one version of a function, or at two with weights.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, HeaderMap, HeaderValue, LOCATION};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Faults, Fields, description, must_be, text};
use crate::api::control::functions::{condition, find, json};
use crate::api::control::intake::{Below, Name, Query};
use crate::api::control::openapi::{AliasErrors, AliasWriteErrors, NewAliasErrors, VersionErrors};
use crate::api::control::versions::PAGE_MAX;
use crate::api::error::Problem;
use crate::domain::id::AliasName;
use crate::domain::version::{Alias, Second, VersionId, Wish};

const PAGE_DEFAULT: usize = 50;

/// A name that points at one version, or at two.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alias)]
pub struct AliasDocument<'a> {
    name: &'a str,
    /// The number of a version, or `$LATEST`.
    version: String,
    #[schema(required = true)]
    second: Option<SecondDocument>,
    description: &'a str,
    /// Grows by one with every change; also the entity tag.
    revision: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
}

/// Another version, and the share of the calls it gets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Second)]
pub struct SecondDocument {
    /// The number of a version.
    pub version: String,
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub weight: f64,
}

impl<'a> AliasDocument<'a> {
    fn of(name: &'a str, alias: &'a Alias) -> Self {
        Self {
            name,
            version: alias.version.to_string(),
            second: alias.second.map(|second| SecondDocument {
                version: second.version.to_string(),
                weight: second.weight,
            }),
            description: &alias.description,
            revision: alias.revision,
            created_at: alias.created_at,
            updated_at: alias.updated_at,
        }
    }
}

/// A page of aliases, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub struct AliasPage<'a> {
    items: Vec<AliasDocument<'a>>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required = true)]
    next: Option<&'a str>,
}

/// An alias to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAlias {
    /// Letters, digits, `-` and `_`; not a number.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    /// The number of a version, or `$LATEST`.
    pub version: String,
    pub second: Option<SecondDocument>,
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
}

/// A change of an alias: what is left out keeps its value, null takes the second version away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasChange {
    #[schema(nullable = false)]
    pub version: Option<String>,
    pub second: Option<SecondDocument>,
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
    /// The revision the change was made from; the change is refused if there is a newer one. `If-Match` says the same.
    #[schema(nullable = false)]
    pub revision: Option<u64>,
}

fn version(value: &Value) -> Result<VersionId, String> {
    text(value)?.parse()
}

fn second(value: &Value) -> Result<Second, String> {
    let wanted = "{\"version\": \"2\", \"weight\": 0.1}";
    let object = value.as_object().filter(|object| object.len() == 2);
    let member = |name| object.and_then(|object| object.get(name));
    let (Some(number), Some(weight)) = (member("version"), member("weight")) else {
        return Err(must_be(wanted, value));
    };
    let VersionId::Number(version) = version(number)? else {
        return Err("must be a published version".into());
    };
    match weight.as_f64() {
        Some(weight) if (0.0..=1.0).contains(&weight) => Ok(Second { version, weight }),
        _ => Err(format!(
            "its weight {}",
            must_be("a number from 0.0 to 1.0", weight)
        )),
    }
}

/// Reads what new aliases and changes have in common.
fn wish(fields: &mut Fields) -> Wish {
    Wish {
        version: fields.parsed("version", version),
        second: fields.nullable("second", second),
        description: fields.parsed("description", description),
        revision: None,
    }
}

fn read_new(body: &[u8]) -> Result<(AliasName, Wish), Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.parsed("name", |value| AliasName::parse(text(value)?));
    let wish = wish(&mut fields);
    let mut faults = fields.finish(&READ_ONLY, "an alias");
    let required = |faults: &mut Faults, field: &str, given: bool| {
        if !given && !faults.has(field) {
            faults.add(field, "is required");
        }
    };
    required(&mut faults, "name", name.is_some());
    required(&mut faults, "version", wish.version.is_some());
    faults.into_result()?;
    Ok((name.ok_or(Problem::Internal)?, wish))
}

/// What a client may not set, but finds in the document it read.
const READ_ONLY: [&str; 2] = ["created_at", "updated_at"];

fn read_change(body: &[u8]) -> Result<Wish, Problem> {
    let mut fields = Fields::of(body)?;
    let wish = Wish {
        revision: fields.parsed("revision", |value| {
            let revision = value.as_u64();
            revision.ok_or_else(|| must_be("a revision's number", value))
        }),
        ..wish(&mut fields)
    };
    let read_only = [READ_ONLY.as_slice(), &["name"]].concat();
    fields.finish(&read_only, "an alias").into_result()?;
    Ok(wish)
}

/// The revision If-Match asks for; `None` if any will do.
fn matched(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(given) = condition(headers)?.filter(|given| given.trim() != "*") else {
        return Ok(None);
    };
    match given.trim().trim_matches('"').parse() {
        Ok(revision) => Ok(Some(revision)),
        // No alias is at a revision like that.
        Err(_) => Err(Problem::Stale {
            given,
            condition: true,
        }),
    }
}

/// A revision that was asked for by If-Match is refused as If-Match is.
fn by_condition(problem: Problem, condition: Option<u64>) -> Problem {
    match problem {
        Problem::Stale { given, .. } if condition.is_some() => Problem::Stale {
            given,
            condition: true,
        },
        other => other,
    }
}

fn document(status: StatusCode, name: &str, alias: &Alias) -> Response {
    let mut response = json(status, &AliasDocument::of(name, alias));
    let tag = format!("\"{}\"", alias.revision);
    let tag = HeaderValue::try_from(tag).expect("digits in quotes");
    response.headers_mut().insert(ETAG, tag);
    response
}

/// List aliases
///
/// In the order of their names, a page at a time.
#[utoipa::path(
    get, path = "/functions/{id}/aliases", tag = "versions", operation_id = "list_aliases",
    params(
        ("id" = String, Path, description = "id or name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "aliases in one page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
        ("version" = Option<String>, Query, description = "only aliases whose first version this is"),
    ),
    responses((status = 200, body = AliasPage, description = "a page"), VersionErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let after = query.parsed("cursor", AliasName::parse);
    let of = query.parsed("version", str::parse::<VersionId>);
    query.finish()?;
    let target = find(&control, &id)?;
    let aliases = target.published().head.aliases.iter();
    let mut wanted = aliases.filter(|(name, alias)| {
        after.as_ref().is_none_or(|after| *name > after)
            && of.is_none_or(|version| alias.version == version)
    });
    let page: Vec<_> = wanted.by_ref().take(limit).collect();
    let more = wanted.next().is_some();
    let page = AliasPage {
        next: page.last().filter(|_| more).map(|(name, _)| name.as_str()),
        items: page
            .iter()
            .map(|(name, alias)| AliasDocument::of(name.as_str(), alias))
            .collect(),
    };
    Ok(json(StatusCode::OK, &page))
}

/// Create an alias
///
/// Every call that starts after the answer finds it.
#[utoipa::path(
    post, path = "/functions/{id}/aliases", tag = "versions", operation_id = "create_alias",
    params(("id" = String, Path, description = "id or name")),
    request_body(content = NewAlias, example = json!({"name": "live", "version": "1", "second": {"version": "2", "weight": 0.1}})),
    responses(
        (status = 201, body = AliasDocument, description = "created",
         headers(("location" = String, description = "where the alias is"), ("etag" = String, description = "its revision"))),
        NewAliasErrors,
    )
)]
pub async fn create(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let (name, wish) = read_new(&upload.bytes)?;
    let function = find(&control, &id)?.function.id.clone();
    let made = control.deploy.create_alias(caller, id, name.clone(), wish);
    let mut response = document(StatusCode::CREATED, name.as_str(), &made.await?);
    let at = format!("/functions/{function}/aliases/{name}");
    let at = HeaderValue::try_from(at).expect("an id and a name are ASCII");
    response.headers_mut().insert(LOCATION, at);
    Ok(response)
}

/// Read an alias
#[utoipa::path(
    get, path = "/functions/{id}/aliases/{alias}", tag = "versions", operation_id = "get_alias",
    params(("id" = String, Path, description = "id or name"), ("alias" = String, Path, description = "the alias's name")),
    responses(
        (status = 200, body = AliasDocument, description = "the alias", headers(("etag" = String, description = "its revision"))),
        AliasErrors,
    )
)]
pub async fn get(
    State(control): State<Control>,
    Below(id, alias): Below,
) -> Result<Response, Problem> {
    let target = find(&control, &id)?;
    match target.published().alias(&alias) {
        Some((name, alias)) => Ok(document(StatusCode::OK, name.as_str(), alias)),
        None => Err(Problem::NoAlias {
            function: id,
            alias,
        }),
    }
}

/// Change an alias
///
/// What is left out keeps its value. Calls under way finish on the version they began with.
#[utoipa::path(
    put, path = "/functions/{id}/aliases/{alias}", tag = "versions", operation_id = "update_alias",
    params(
        ("id" = String, Path, description = "id or name"),
        ("alias" = String, Path, description = "the alias's name"),
        ("if-match" = Option<String>, Header, nullable = false, description = "the revision the change was made from; 412 if there is a newer one"),
    ),
    request_body = AliasChange,
    responses(
        (status = 200, body = AliasDocument, description = "changed", headers(("etag" = String, description = "its revision"))),
        AliasWriteErrors,
    )
)]
pub async fn update(
    State(control): State<Control>,
    Caller(caller): Caller,
    Below(id, alias): Below,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let condition = matched(&headers)?;
    let upload = control.room.read(&headers, body).await?;
    let given = read_change(&upload.bytes)?;
    let wish = Wish {
        revision: condition.or(given.revision),
        ..given
    };
    let changed = control.deploy.update_alias(caller, id, alias.clone(), wish);
    let changed = changed
        .await
        .map_err(|problem| by_condition(problem, condition))?;
    Ok(document(StatusCode::OK, &alias, &changed))
}

/// Delete an alias
#[utoipa::path(
    delete, path = "/functions/{id}/aliases/{alias}", tag = "versions", operation_id = "delete_alias",
    params(
        ("id" = String, Path, description = "id or name"),
        ("alias" = String, Path, description = "the alias's name"),
        ("if-match" = Option<String>, Header, nullable = false, description = "the revision that is to be deleted; 412 if there is a newer one"),
    ),
    responses((status = 204, description = "deleted"), AliasWriteErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Below(id, alias): Below,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let condition = matched(&headers)?;
    let deleted = control.deploy.delete_alias(caller, id, alias, condition);
    deleted
        .await
        .map_err(|problem| by_condition(problem, condition))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
