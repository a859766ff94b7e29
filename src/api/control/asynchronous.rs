//! `/functions/{id}/asynchronous`: the settings for asynchronous calls that a version or an alias has of its own. The function's are fields
//! of the function.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::change::{Change, Fields};
use crate::api::control::functions::{find, json};
use crate::api::control::intake::Name;
use crate::api::control::openapi::{ProvisionErrors, VersionDeleteErrors, VersionErrors};
use crate::api::control::provisioned::{qualifier, required};
use crate::api::error::Problem;
use crate::domain::destination::Destination;
use crate::domain::version::{EventSettings, Qualifier, VersionId};

/// How asynchronous calls are run that were accepted for a version or an alias. All of it is its own: null is the server's, not the function's.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnSettings {
    /// The number of a version, or the name of an alias.
    qualifier: String,
    #[schema(required = true)]
    max_retries: Option<u32>,
    #[schema(required = true)]
    max_event_age: Option<u32>,
    #[schema(required = true)]
    on_success: Option<String>,
    #[schema(required = true)]
    on_failure: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
}

impl OwnSettings {
    fn of(qualifier: &str, settings: &EventSettings) -> Self {
        let own = &settings.asynchronous;
        let text = |to: &Option<Destination>| to.as_ref().map(Destination::to_string);
        Self {
            qualifier: qualifier.into(),
            max_retries: own.max_retries,
            max_event_age: own.max_event_age_seconds,
            on_success: text(&own.on_success),
            on_failure: text(&own.on_failure),
            updated_at: settings.updated_at,
        }
    }
}

/// The versions and aliases that have settings of their own: with a qualifier, at most one.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnSettingsList {
    items: Vec<OwnSettings>,
}

/// What the settings are to be, as the fields of a function of the same names; what is left out is the server's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnSettingsRequest {
    #[schema(minimum = 0, maximum = 2)]
    pub max_retries: Option<u32>,
    #[schema(minimum = 60, maximum = 21600)]
    pub max_event_age: Option<u32>,
    #[schema(max_length = 1024)]
    pub on_success: Option<String>,
    #[schema(max_length = 1024)]
    pub on_failure: Option<String>,
}

/// Of a version or an alias: those of the editable version are the function's.
fn own(uri: &Uri) -> Result<Qualifier, Problem> {
    match required(qualifier(uri)?)? {
        Qualifier::Version(VersionId::Latest) => Err(Problem::invalid(
            "qualifier",
            "must be a version's number or an alias's name: those of $LATEST are fields of the function",
        )),
        qualifier => Ok(qualifier),
    }
}

fn read(body: &[u8]) -> Result<Change, Problem> {
    let mut fields = Fields::of(body)?;
    let given = fields.asynchronous();
    fields
        .finish(&[], "settings for asynchronous calls")
        .into_result()?;
    Ok(Change {
        max_retries: Some(given.max_retries.flatten()),
        max_event_age: Some(given.max_event_age.flatten()),
        on_success: Some(given.on_success.flatten()),
        on_failure: Some(given.on_failure.flatten()),
        ..given
    })
}

/// Read own settings for asynchronous calls
///
/// Of one version or alias, or of all that have some.
#[utoipa::path(
    get, path = "/functions/{id}/asynchronous", tag = "versions", operation_id = "get_asynchronous",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = Option<String>, Query, description = "the number of a version or the name of an alias; all of the function's when left out"),
    ),
    responses((status = 200, body = OwnSettingsList, description = "the settings"), VersionErrors)
)]
pub async fn get(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let wanted = qualifier(&uri)?.map(|qualifier| qualifier.to_string());
    let target = find(&control, &id)?;
    let all = target.published().head.events.iter();
    let items = all
        .filter(|(qualifier, _)| wanted.as_ref().is_none_or(|wanted| wanted == *qualifier))
        .map(|(qualifier, settings)| OwnSettings::of(qualifier, settings))
        .collect();
    Ok(json(StatusCode::OK, &OwnSettingsList { items }))
}

/// Give a version or an alias its own settings for asynchronous calls
///
/// What has none of its own is run by the server's; those the function has are for its editable version.
#[utoipa::path(
    put, path = "/functions/{id}/asynchronous", tag = "versions", operation_id = "put_asynchronous",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = String, Query, description = "the number of a version or the name of an alias"),
    ),
    request_body(content = OwnSettingsRequest, example = json!({"max_retries": 0, "on_failure": "function:failures"})),
    responses((status = 200, body = OwnSettings, description = "the settings"), ProvisionErrors)
)]
pub async fn put(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let qualifier = own(&uri)?;
    let upload = control.room.read(&headers, body).await?;
    let change = read(&upload.bytes)?;
    let text = qualifier.to_string();
    let deploy = &control.deploy;
    let set = deploy.set_events(caller, id, qualifier, change, false);
    let settings = set.await?.ok_or(Problem::Internal)?;
    Ok(json(StatusCode::OK, &OwnSettings::of(&text, &settings)))
}

/// Take own settings for asynchronous calls away
///
/// The server's hold again. So it is if there were none.
#[utoipa::path(
    delete, path = "/functions/{id}/asynchronous", tag = "versions", operation_id = "delete_asynchronous",
    params(
        ("id" = String, Path, description = "id or name"),
        ("qualifier" = String, Query, description = "the number of a version or the name of an alias"),
    ),
    responses((status = 204, description = "done"), VersionDeleteErrors)
)]
pub async fn delete(
    State(control): State<Control>,
    Caller(caller): Caller,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let qualifier = own(&uri)?.to_string();
    control.deploy.unset_events(caller, id, qualifier).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::control::world::World;

    const PATH: &str = "/functions/f/asynchronous";

    async fn world() -> World {
        let world = World::empty();
        for name in ["f", "taker"] {
            world.create(name).await;
        }
        let made = world.post("/functions/f/versions", json!({})).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let alias = json!({"name": "live", "version": "1"});
        let made = world.post("/functions/f/aliases", alias).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        world
    }

    #[tokio::test]
    async fn they_are_written_whole_and_taken_away() {
        let world = world().await;
        let live = format!("{PATH}?qualifier=live");
        let wish = json!({"max_retries": 0, "on_failure": "function:taker:$LATEST"});
        let made = world.put(&live, wish).await;
        assert_eq!(made.status, 200, "{:?}", made.body);
        let made = made.json();
        assert_eq!(
            (
                &made["qualifier"],
                &made["max_retries"],
                &made["max_event_age"],
                &made["on_failure"]
            ),
            (
                &json!("live"),
                &json!(0),
                &Value::Null,
                &json!("function:taker:$LATEST")
            )
        );
        for path in [PATH, &live] {
            assert_eq!(world.get(path).await.json()["items"], json!([made]));
        }
        let other = world.put(&live, json!({"max_event_age": 60})).await.json();
        assert_eq!(
            (
                &other["max_retries"],
                &other["max_event_age"],
                &other["on_failure"]
            ),
            (&Value::Null, &json!(60), &Value::Null)
        );
        let second = format!("{PATH}?qualifier=1");
        assert_eq!(world.put(&second, json!({})).await.status, 200);
        let all = world.get(PATH).await.json();
        assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
        assert_eq!(world.delete("/functions/f/aliases/live").await.status, 204);
        for _ in 0..2 {
            assert_eq!(world.delete(&second).await.status, 204);
        }
        assert_eq!(world.get(PATH).await.json()["items"], json!([]));
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let world = world().await;
        for (query, body, status, says) in [
            ("", json!({}), 400, "qualifier"),
            (
                "?qualifier=$LATEST",
                json!({}),
                400,
                "fields of the function",
            ),
            ("?qualifier=7", json!({}), 404, "7"),
            ("?qualifier=none", json!({}), 404, "none"),
            (
                "?qualifier=1",
                json!({"max_retries": 3}),
                400,
                "max_retries",
            ),
            ("?qualifier=1", json!({"retries": 1}), 400, "retries"),
            (
                "?qualifier=1",
                json!({"on_success": "taker"}),
                400,
                "on_success",
            ),
            (
                "?qualifier=1",
                json!({"on_success": "stream:s"}),
                400,
                "Redis",
            ),
        ] {
            let refused = world.put(&format!("{PATH}{query}"), body).await;
            let text = String::from_utf8_lossy(&refused.body).into_owned();
            assert_eq!(refused.status, status, "{query}: {text}");
            assert!(text.contains(says), "{query}: {text}");
        }
        assert_eq!(world.get(PATH).await.json()["items"], json!([]));
        assert_eq!(world.get("/functions/none/asynchronous").await.status, 404);
    }
}
