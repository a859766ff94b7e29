//! `/layers/`: content that functions share, published as numbered versions. Functions name them in their field `layers`. Who may use one is
//! said by its name, as with functions.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Fields, description, text};
use crate::api::control::code::Incoming;
use crate::api::control::deploy::layers::Wanted;
use crate::api::control::functions::json;
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{LayerErrors, LayersErrors, NewLayerErrors};
use crate::api::error::Problem;
use crate::domain::id::LayerName;
use crate::domain::key::{Grant, Scope};
use crate::domain::layer::{Id, Version};

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1000;

/// A version of a layer. Nothing of it changes any more, and its number is never used again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Layer)]
pub struct LayerDocument<'a> {
    /// `name:number`, as functions name it.
    id: String,
    name: &'a str,
    number: u64,
    description: &'a str,
    /// The runtimes, by AWS's names, that its publisher said it is for; null is that nothing was said. Nothing is refused by it.
    #[schema(required = true)]
    runtimes: Option<&'a [String]>,
    /// And the architectures.
    #[schema(required = true)]
    architectures: Option<&'a [String]>,
    #[schema(required = true)]
    license: Option<&'a str>,
    /// Of the zip, in hex.
    sha256: &'a str,
    /// Of the zip, in bytes.
    size: u64,
    /// Of its files, in bytes: this counts.
    unpacked_size: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
}

impl<'a> LayerDocument<'a> {
    fn of(version: &'a Version) -> Self {
        Self {
            id: version.id.to_string(),
            name: version.id.name.as_str(),
            number: version.id.number,
            description: &version.description,
            runtimes: version.runtimes.as_deref(),
            architectures: version.architectures.as_deref(),
            license: version.license.as_deref(),
            sha256: &version.content.sha256,
            size: version.content.size,
            unpacked_size: version.content.unpacked_size,
            created_at: version.created_at,
        }
    }
}

/// A page of layers' versions: by name, and of each layer the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct LayerPage<'a> {
    items: Vec<LayerDocument<'a>>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required = true)]
    next: Option<String>,
}

/// A version to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLayer {
    /// Letters, digits, `-` and `_`. Of a layer that is there, the version gets the next number.
    #[schema(min_length = 1, max_length = 140)]
    pub name: String,
    /// Base64 of a zip, whose files are found below `/opt`.
    pub zip: String,
    #[schema(nullable = false, max_length = 256)]
    pub description: Option<String>,
}

fn read(body: &[u8]) -> Result<(Wanted, String), Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.parsed("name", |value| LayerName::parse(text(value)?));
    let zip = fields.taken("zip");
    let description = fields.parsed("description", description);
    let mut faults = fields.finish(&[], "a layer");
    for (field, given) in [("name", name.is_some()), ("zip", zip.is_some())] {
        if !given && !faults.has(field) {
            faults.add(field, "is required");
        }
    }
    faults.into_result()?;
    let (Some(name), Some(zip)) = (name, zip) else {
        return Err(Problem::Internal);
    };
    let wanted = Wanted {
        name,
        description: description.unwrap_or_default(),
        license: None,
        runtimes: None,
        architectures: None,
    };
    Ok((wanted, zip))
}

/// The version a path names, if the key is good for its layer.
fn named(caller: &Grant, text: &str) -> Result<Id, Problem> {
    let id: Id = text
        .parse()
        .map_err(|why: String| Problem::invalid("id", why))?;
    caller.may_with(Scope::Deploy, id.name.as_str())?;
    Ok(id)
}

/// List layers
///
/// All their versions, a page at a time. A key that is for some names sees those.
#[utoipa::path(
    get, path = "/layers/", tag = "layers", operation_id = "list_layers",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "versions in one page; 50 if left out"),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
        ("name" = Option<String>, Query, description = "only versions of this layer"),
    ),
    responses((status = 200, body = LayerPage, description = "a page"), LayersErrors)
)]
pub async fn list(
    State(control): State<Control>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    let after: Option<Id> = query.parsed("cursor", |text| match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Err("must be the next of a page".into()),
    });
    let name = query.parsed("name", LayerName::parse);
    query.finish()?;
    let place = |id: &Id| (id.name.clone(), std::cmp::Reverse(id.number));
    let mut all = control.deploy.layers().await?;
    all.retain(|version| {
        let id = &version.id;
        caller.is_for(id.name.as_str())
            && name.as_ref().is_none_or(|name| *name == id.name)
            && after.as_ref().is_none_or(|after| place(id) > place(after))
    });
    all.sort_by_key(|version| place(&version.id));
    let items: Vec<_> = all.iter().take(limit).map(LayerDocument::of).collect();
    let more = all.len() > items.len();
    let next = items.last().filter(|_| more).map(|last| last.id.clone());
    Ok(json(StatusCode::OK, &LayerPage { items, next }))
}

/// Publish a version of a layer
#[utoipa::path(
    post, path = "/layers/", tag = "layers", operation_id = "publish_layer",
    request_body = NewLayer,
    responses((status = 201, body = LayerDocument, description = "published"), NewLayerErrors)
)]
pub async fn publish(
    State(control): State<Control>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = control.room.read(&headers, body).await?;
    let (wanted, zip) = read(&upload.bytes)?;
    caller.may_with(Scope::Deploy, wanted.name.as_str())?;
    let room = Some(upload.room);
    let published = control
        .deploy
        .publish_layer(wanted, ("zip", Incoming::Zip(zip)), room);
    let version = published.await?;
    Ok(json(StatusCode::CREATED, &LayerDocument::of(&version)))
}

/// Read a version of a layer
#[utoipa::path(
    get, path = "/layers/{id}", tag = "layers", operation_id = "get_layer",
    params(("id" = String, Path, description = "`name:number`")),
    responses((status = 200, body = LayerDocument, description = "the version"), LayerErrors)
)]
pub async fn read_one(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(text): Name,
) -> Result<Response, Problem> {
    let id = named(&caller, &text)?;
    let found = control.deploy.layer(&id).await?;
    let version = found.ok_or(Problem::NoLayer(text))?;
    Ok(json(StatusCode::OK, &LayerDocument::of(&version)))
}

/// Delete a version of a layer
///
/// Functions that have it keep it; no other can take it.
#[utoipa::path(
    delete, path = "/layers/{id}", tag = "layers", operation_id = "delete_layer",
    params(("id" = String, Path, description = "`name:number`")),
    responses((status = 204, description = "deleted"), LayerErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(text): Name,
) -> Result<Response, Problem> {
    let id = named(&caller, &text)?;
    if control.deploy.layer(&id).await?.is_none() {
        return Err(Problem::NoLayer(text));
    }
    control.deploy.delete_layer(id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
