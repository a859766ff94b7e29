//! `/functions/` and `/functions/{id}`: what is deployed, and its changes.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{
    CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, LOCATION,
};
use http::{StatusCode, Uri};
use serde::Serialize;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::document::{FunctionChange, FunctionDocument, FunctionPage, NewFunction};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{
    CreateErrors, DeleteErrors, ListErrors, PackageErrors, ReadErrors, UpdateErrors,
};
use crate::api::error::{self, Problem};
use crate::domain::function::Function;
use crate::scheduler::Target;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1000;

/// List functions
///
/// In the order of their creation, a page at a time. A key that is for some functions sees those.
#[utoipa::path(
    get, path = "/functions/", tag = "functions", operation_id = "list_functions",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "functions in one page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
        ("name" = Option<String>, Query, description = "only functions whose name begins with this"),
        ("tag" = Option<String>, Query, description = "only functions with this tag, `key:value`"),
    ),
    responses((status = 200, body = FunctionPage, description = "a page"), ListErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let cursor = query.parsed("cursor", |text| match uuid::Uuid::try_parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be the next of a page".into()),
    });
    let (name, tag) = (query.text("name"), query.text("tag"));
    query.finish()?;
    let wanted = |f: &Function| {
        cursor.as_deref().is_none_or(|after| f.id.as_str() > after)
            && name
                .as_deref()
                .is_none_or(|prefix| f.name.as_str().starts_with(prefix))
            && tag.as_deref().is_none_or(|tag| has_tag(f, tag))
            && caller.is_for(f.name.as_str())
    };
    let targets = control.scheduler.targets();
    let mut wanted = targets.iter().filter(|t| wanted(&t.function));
    let items: Vec<_> = wanted.by_ref().take(limit).collect();
    let more = wanted.next().is_some();
    let page = FunctionPage {
        next: items
            .last()
            .filter(|_| more)
            .map(|t| t.function.id.as_str()),
        items: items.into_iter().map(|t| FunctionDocument::of(t)).collect(),
    };
    Ok(json(StatusCode::OK, &page))
}

/// A tag's key may hold a colon too, so the text is compared and not taken apart.
fn has_tag(function: &Function, wanted: &str) -> bool {
    function.tags.iter().any(|(key, value)| {
        wanted
            .strip_prefix(key.as_str())
            .and_then(|rest| rest.strip_prefix(':'))
            == Some(value)
    })
}

/// Create a function
///
/// Once this is answered the function is kept and can be called.
#[utoipa::path(
    post, path = "/functions/", tag = "functions", operation_id = "create_function",
    request_body = NewFunction,
    responses(
        (status = 201, body = FunctionDocument, description = "created",
         headers(("location" = String, description = "where the function is"), ("etag" = String, description = "its revision"))),
        CreateErrors,
    )
)]
pub async fn create(
    State(control): State<Control>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let function = control.deploy.create(caller, upload).await?;
    let mut response = document(StatusCode::CREATED, &control, &function);
    let location = format!("/functions/{}", function.id);
    let location = HeaderValue::try_from(location).expect("an id is ASCII");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Read a function
#[utoipa::path(
    get, path = "/functions/{id}", tag = "functions", operation_id = "get_function",
    params(("id" = String, Path, description = "id or name")),
    responses(
        (status = 200, body = FunctionDocument, description = "the function", headers(("etag" = String, description = "its revision"))),
        ReadErrors,
    )
)]
pub async fn read(State(control): State<Control>, Name(id): Name) -> Result<Response, Problem> {
    let target = find(&control, &id)?;
    Ok(document(StatusCode::OK, &control, &target.function))
}

/// Change a function
///
/// What is left out keeps its value. Calls under way finish on what they began with; every call that starts after the answer runs the
/// change.
#[utoipa::path(
    put, path = "/functions/{id}", tag = "functions", operation_id = "update_function",
    params(
        ("id" = String, Path, description = "id or name"),
        ("if-match" = Option<String>, Header, nullable = false, description = "the revision the change was made from; 412 if there is a newer one"),
    ),
    request_body = FunctionChange,
    responses(
        (status = 200, body = FunctionDocument, description = "changed", headers(("etag" = String, description = "its revision"))),
        UpdateErrors,
    )
)]
pub async fn update(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let condition = condition(&headers)?;
    let upload = control.room.read(&headers, body).await?;
    let function = control.deploy.update(caller, id, condition, upload).await?;
    Ok(document(StatusCode::OK, &control, &function))
}

/// Delete a function
///
/// Calls under way finish; its name and route are free.
#[utoipa::path(
    delete, path = "/functions/{id}", tag = "functions", operation_id = "delete_function",
    params(
        ("id" = String, Path, description = "id or name"),
        ("if-match" = Option<String>, Header, nullable = false, description = "the revision that is to be deleted; 412 if there is a newer one"),
    ),
    responses((status = 204, description = "deleted"), DeleteErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let condition = condition(&headers)?;
    control.deploy.delete(caller, id, condition).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Download a function's code
#[utoipa::path(
    get, path = "/functions/{id}/code", tag = "functions", operation_id = "get_function_code",
    params(
        ("id" = String, Path, description = "id or name"),
        ("version" = Option<u64>, Query, minimum = 1, description = "the code of this version; the function's as it is now if left out"),
    ),
    responses(
        (status = 200, content_type = "application/zip", body = [u8], description = "the zip, whatever way the code came in"),
        PackageErrors,
    )
)]
pub async fn code(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let number = query.parsed("version", |text| match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be the number of a version".into()),
    });
    query.finish()?;
    let target = find(&control, &id)?;
    let code = match number {
        None => &target.function.code,
        Some(number) => match target.published().version(number) {
            Some(version) => &version.function.code,
            None => {
                return Err(Problem::NoVersion {
                    function: id,
                    qualifier: number.to_string(),
                });
            }
        },
    };
    let zip = control.package(&code.sha256, &target.function.name).await?;
    let mut response = Response::new(Body::from(zip));
    let name = format!("attachment; filename=\"{}.zip\"", target.function.name);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    let name = HeaderValue::try_from(name).expect("a name is ASCII without quotes");
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

pub fn find(control: &Control, id: &str) -> Result<std::sync::Arc<Target>, Problem> {
    control
        .scheduler
        .find(id)
        .ok_or_else(|| Problem::NoFunction(id.into()))
}

pub fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(error::to_json(document)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

fn document(status: StatusCode, control: &Control, function: &Function) -> Response {
    let digest = function.digest();
    let target = control.scheduler.find(function.id.as_str());
    let document = FunctionDocument::new(function, &digest);
    let mut response = match &target {
        Some(target) => json(status, &document.at(target.published())),
        None => json(status, &document),
    };
    let tag = format!("\"{}\"", function.revision);
    let tag = HeaderValue::try_from(tag).expect("digits in quotes");
    response.headers_mut().insert(ETAG, tag);
    response
}

pub fn condition(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) => Ok(Some(text.into())),
        Err(_) => Err(Problem::invalid("if-match", "must be a revision")),
    }
}
