//! `/functions/{id}/urls`: the addresses of their own at which a function and its aliases answer plain HTTP. They are served by the AWS face.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Fields, must_be, text, whole};
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{ReadErrors, UrlDeleteErrors, UrlErrors};
use crate::api::error::Problem;
use crate::domain::function::LATEST;
use crate::domain::id::AliasName;
use crate::domain::url::{AuthType, Cors, InvokeMode, Url, Wish};
use crate::domain::version::Published;

/// A function URL.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FunctionUrl)]
pub struct FunctionUrlDocument<'a> {
    /// The alias it leads to, or `$LATEST`.
    qualifier: &'a str,
    /// `NONE`, or `AWS_IAM` for callers who sign.
    auth_type: &'static str,
    /// `BUFFERED`, or `RESPONSE_STREAM` for answers that are passed on as they come.
    invoke_mode: &'static str,
    #[schema(required = true)]
    cors: Option<CorsDocument>,
    /// On this server; requests that name it in their host need not have it in their path.
    url: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
}

/// Which pages may call from a browser, and what they are told. `*` is all.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cors)]
pub struct CorsDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub allow_credentials: Option<bool>,
    /// At most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 100)]
    pub allow_origins: Option<Vec<String>>,
    /// At most 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 6)]
    pub allow_methods: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 100)]
    pub allow_headers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_items = 100)]
    pub expose_headers: Option<Vec<String>>,
    /// Seconds a browser may remember the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 86400)]
    pub max_age: Option<u32>,
}

/// The URLs of a function and of its aliases.
#[derive(Debug, Serialize, ToSchema)]
pub struct FunctionUrlList<'a> {
    items: Vec<FunctionUrlDocument<'a>>,
}

/// What a URL is to be: what is left out of one that is there stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionUrlRequest {
    /// `NONE`: everybody may call. `AWS_IAM`: whoever signs, as AWS's clients do, with a key that may call the function. Required of a new one.
    #[schema(nullable = false, pattern = "NONE|AWS_IAM")]
    pub auth_type: Option<String>,
    #[schema(
        nullable = false,
        pattern = "BUFFERED|RESPONSE_STREAM",
        default = "BUFFERED"
    )]
    pub invoke_mode: Option<String>,
    /// All of it: what is left out inside is none. Null takes it away.
    pub cors: Option<CorsDocument>,
}

impl<'a> FunctionUrlDocument<'a> {
    fn of(qualifier: &'a str, url: &Url) -> Self {
        Self {
            qualifier,
            auth_type: url.auth.as_str(),
            invoke_mode: url.mode.unwrap_or(InvokeMode::Buffered).as_str(),
            cors: url.cors.clone().map(CorsDocument::from),
            url: format!("/lambda-url/{}/", url.id),
            created_at: url.created_at,
            updated_at: url.updated_at,
        }
    }

    pub fn all(published: &'a Published) -> Vec<Self> {
        let urls = published.head.urls.iter();
        urls.map(|(qualifier, url)| Self::of(qualifier, url))
            .collect()
    }
}

impl From<Cors> for CorsDocument {
    fn from(cors: Cors) -> Self {
        Self {
            allow_credentials: cors.allow_credentials,
            allow_origins: cors.allow_origins,
            allow_methods: cors.allow_methods,
            allow_headers: cors.allow_headers,
            expose_headers: cors.expose_headers,
            max_age: cors.max_age_seconds,
        }
    }
}

/// Of an alias, or the function's own.
fn qualifier(uri: &Uri) -> Result<String, Problem> {
    let mut query = Query::of(uri)?;
    let qualifier = query.parsed("qualifier", |text| match text {
        LATEST => Ok(LATEST.to_owned()),
        alias => AliasName::parse(alias).map(|alias| alias.to_string()),
    });
    query.finish()?;
    Ok(qualifier.unwrap_or_else(|| LATEST.into()))
}

fn read(body: &[u8]) -> Result<Wish, Problem> {
    let mut fields = Fields::of(body)?;
    let wish = Wish {
        auth: fields.parsed("auth_type", |value| {
            let known = AuthType::parse(text(value)?);
            known.ok_or_else(|| must_be(&AuthType::NAMES.join(" or "), value))
        }),
        mode: fields.parsed("invoke_mode", |value| {
            let known = InvokeMode::parse(text(value)?);
            known.ok_or_else(|| must_be(&InvokeMode::NAMES.join(" or "), value))
        }),
        cors: fields.open("cors").map(|inner| {
            let mut inner = inner?;
            let cors = cors(&mut inner);
            fields.close("cors", inner);
            (cors != Cors::default()).then_some(cors)
        }),
    };
    fields.finish(&[], "a function URL").into_result()?;
    Ok(wish)
}

fn cors(fields: &mut Fields) -> Cors {
    let mut list = |field: &str, most: usize, longest: usize| {
        fields.parsed(field, |value| texts(value, most, longest))
    };
    Cors {
        allow_origins: list("allow_origins", Cors::LIST_MAX, Cors::ORIGIN_MAX),
        allow_methods: list("allow_methods", Cors::METHODS_MAX, Cors::METHOD_MAX),
        allow_headers: list("allow_headers", Cors::LIST_MAX, Cors::HEADER_MAX),
        expose_headers: list("expose_headers", Cors::LIST_MAX, Cors::HEADER_MAX),
        allow_credentials: fields.parsed("allow_credentials", |value| {
            let known = value.as_bool();
            known.ok_or_else(|| must_be("true or false", value))
        }),
        max_age_seconds: fields.parsed("max_age", |value| {
            whole(value, 0..=Cors::AGE_MAX_SECONDS, "seconds")
        }),
    }
}

fn texts(value: &Value, most: usize, longest: usize) -> Result<Vec<String>, String> {
    let list = value.as_array().filter(|list| list.len() <= most);
    let list = list.ok_or_else(|| must_be(&format!("a list of at most {most}"), value))?;
    let read = list.iter().map(|value| {
        let text = text(value)?;
        match text.chars().count() {
            n if (1..=longest).contains(&n) => Ok(text.to_owned()),
            n => Err(format!(
                "must be texts of 1 to {longest} characters, has one of {n}"
            )),
        }
    });
    read.collect()
}

/// List a function's URLs
///
/// Its own, and those of its aliases.
#[utoipa::path(
    get, path = "/functions/{id}/urls", tag = "functions", operation_id = "list_function_urls",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = FunctionUrlList, description = "the URLs"), ReadErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::of(&uri)?.finish()?;
    let target = find(&control, &id)?;
    let items = FunctionUrlDocument::all(target.published());
    Ok(json(StatusCode::OK, &FunctionUrlList { items }))
}

/// Make or change a function's URL
///
/// At which it, or the version an alias points at, answers plain HTTP. The address is new with each that is made, and stays when it is changed.
#[utoipa::path(
    put, path = "/functions/{id}/urls", tag = "functions", operation_id = "put_function_url",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = Option<String>, Query, description = "the name of an alias; the function as it is when left out"),
    ),
    request_body(content = FunctionUrlRequest, example = json!({"auth_type": "NONE", "cors": {"allow_origins": ["https://example.org"]}})),
    responses(
        (status = 200, body = FunctionUrlDocument, description = "changed"),
        (status = 201, body = FunctionUrlDocument, description = "made"),
        UrlErrors,
    )
)]
pub async fn put(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let qualifier = qualifier(&uri)?;
    let upload = control.room.read(&headers, body).await?;
    let wish = read(&upload.bytes)?;
    let deploy = &control.deploy;
    let there = find(&control, &id)?.published().url(&qualifier).is_some();
    let (status, url) = match there {
        true => {
            let changed = deploy.update_url(caller, id, qualifier.clone(), wish);
            (StatusCode::OK, changed.await?)
        }
        false => {
            let made = deploy.create_url(caller, id, qualifier.clone(), wish);
            (StatusCode::CREATED, made.await?)
        }
    };
    Ok(json(status, &FunctionUrlDocument::of(&qualifier, &url)))
}

/// Delete a function's URL
///
/// Nothing answers at its address any more, and another one is never given the same.
#[utoipa::path(
    delete, path = "/functions/{id}/urls", tag = "functions", operation_id = "delete_function_url",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = Option<String>, Query, description = "the name of an alias; the function's own URL when left out"),
    ),
    responses((status = 204, description = "deleted"), UrlDeleteErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let qualifier = qualifier(&uri)?;
    control.deploy.delete_url(caller, id, qualifier).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
