//! The OpenAPI document. Paths and schemas come from the handlers; here is what belongs to all of them:
//! the head, the key, the ways requests are refused. Examples name a runtime that is installed, so they can be sent as they
//! are.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde_json::json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _};

use crate::api::control::{self, Control};
use crate::api::error::{self, ErrorBody, ErrorDetail, FieldFault};
use crate::runtime::Catalog;
use crate::task;

const INVALID: (u16, &str) = (
    400,
    "Something in the request is wrong; `faults` says what, by field",
);
const UNAUTHORIZED: (u16, &str) = (401, "The key is missing or wrong");
const FORBIDDEN: (u16, &str) = (
    403,
    "The key is good, but not for this: `scope_missing` or `function_not_allowed`; `reason` is the scope it needs",
);
const NOT_FOUND: (u16, &str) = (404, "There is no such function");
const NO_VERSION: (u16, &str) = (404, "There is no such function, version or alias");
const OTHERWISE: (u16, &str) = (
    409,
    "The function is at another revision (`stale_revision`) or has other code (`other_code`), or there are too many versions",
);
const IN_USE: (u16, &str) = (409, "An alias points at it: `version_in_use`");
const ALIAS_CONFLICT: (u16, &str) = (
    409,
    "The name is taken, the alias is at another revision, or there are too many",
);
const NOT_PROVISIONED: (u16, &str) = (
    404,
    "There is no such function, or nothing is provisioned for the qualifier: `not_provisioned`",
);
const NO_URL: (u16, &str) = (404, "There is no such function, or alias, or it has no URL");
const NO_LAYER: (u16, &str) = (404, "There is no such version of a layer");
const NO_KEY: (u16, &str) = (404, "There is no such key");
const LAST_KEY: (u16, &str) = (409, "It is the last that can make others: `last_admin_key`");
const TOO_SLOW: (u16, &str) = (408, "The body did not arrive");
const CONFLICT: (u16, &str) = (
    409,
    "The name or the route is taken, or the function is at another revision; `faults` says which",
);
const PRECONDITION: (u16, &str) = (
    412,
    "The function is at another revision than If-Match says",
);
const TOO_LARGE: (u16, &str) = (413, "The body is too large");
const INTERNAL: (u16, &str) = (500, "An internal error");
const UNAVAILABLE: (u16, &str) = (
    503,
    "The platform cannot do it now; `retry-after` says when to try again",
);
const NO_ROOM: (u16, &str) = (507, "The disk the store is on is full: `disk_full`");

/// The ways an operation refuses, for its description.
macro_rules! refusing {
    ($($(#[$doc:meta])* $name:ident: $($refusal:ident),+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                refusals(&[$($refusal),+])
            }
        }
    )+};
}

refusing! {
    ListErrors: INVALID, UNAUTHORIZED, FORBIDDEN;
    ReadErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND;
    VersionErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND;
    PublishErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_SLOW, OTHERWISE, TOO_LARGE, INTERNAL, UNAVAILABLE;
    VersionDeleteErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION, IN_USE, INTERNAL, UNAVAILABLE;
    ProvisionedErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_PROVISIONED;
    ProvisionErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION, TOO_SLOW, CONFLICT, TOO_LARGE, INTERNAL, UNAVAILABLE;
    UnprovisionErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_PROVISIONED, CONFLICT, INTERNAL, UNAVAILABLE;
    UrlErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_URL, TOO_SLOW, CONFLICT, TOO_LARGE, INTERNAL, UNAVAILABLE;
    UrlDeleteErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_URL, CONFLICT, INTERNAL, UNAVAILABLE;
    LayersErrors: INVALID, UNAUTHORIZED, FORBIDDEN, UNAVAILABLE;
    LayerErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_LAYER, UNAVAILABLE, NO_ROOM;
    NewLayerErrors: INVALID, UNAUTHORIZED, FORBIDDEN, TOO_SLOW, CONFLICT, TOO_LARGE, INTERNAL, UNAVAILABLE, NO_ROOM;
    AliasErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION;
    NewAliasErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION, TOO_SLOW, ALIAS_CONFLICT, TOO_LARGE, INTERNAL, UNAVAILABLE;
    AliasWriteErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION, TOO_SLOW, ALIAS_CONFLICT, PRECONDITION, TOO_LARGE,
        INTERNAL, UNAVAILABLE;
    CodeErrors: UNAUTHORIZED, FORBIDDEN, NOT_FOUND, UNAVAILABLE;
    PackageErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_VERSION, UNAVAILABLE;
    CreateErrors: INVALID, UNAUTHORIZED, FORBIDDEN, TOO_SLOW, CONFLICT, TOO_LARGE, INTERNAL, UNAVAILABLE, NO_ROOM;
    UpdateErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_SLOW, CONFLICT, PRECONDITION, TOO_LARGE, INTERNAL,
        UNAVAILABLE, NO_ROOM;
    DeleteErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, PRECONDITION, INTERNAL, UNAVAILABLE, NO_ROOM;
    LettersErrors: INVALID, UNAUTHORIZED, FORBIDDEN, UNAVAILABLE;
    RedriveErrors: INVALID, UNAUTHORIZED, FORBIDDEN, TOO_SLOW, TOO_LARGE, UNAVAILABLE;
    KeysErrors: INVALID, UNAUTHORIZED, FORBIDDEN, UNAVAILABLE;
    NewKeyErrors: INVALID, UNAUTHORIZED, FORBIDDEN, TOO_SLOW, TOO_LARGE, UNAVAILABLE, NO_ROOM;
    KeyErrors: INVALID, UNAUTHORIZED, FORBIDDEN, NO_KEY, LAST_KEY, UNAVAILABLE, NO_ROOM;
    /// What becomes of the calls is in the results.
    BatchErrors: INVALID, UNAUTHORIZED, FORBIDDEN, TOO_SLOW, TOO_LARGE, UNAVAILABLE;
}

/// Why a call has no answer.
#[derive(Debug)]
pub struct CallErrors;

impl IntoResponses for CallErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[
            (
                400,
                "The payload is not JSON: `payload_not_json`; or what came is no body: `body_malformed`",
            ),
            UNAUTHORIZED,
            FORBIDDEN,
            NOT_FOUND,
            TOO_SLOW,
            (
                409,
                "With an idempotency key: the first call is still running, `idempotency_in_progress`, or its answer was too large, `answer_not_kept`",
            ),
            TOO_LARGE,
            (
                422,
                "The idempotency key was given with another payload before: `idempotency_key_reused`",
            ),
            (
                429,
                "A limit is reached, and `reason` says which; `retry-after` says when to try again",
            ),
            (
                502,
                "The function failed: `function_error`, `init_error`, `init_timeout`, `worker_exited`, `out_of_memory` or `protocol_error`",
            ),
            (
                503,
                "There is no worker: `waited_too_long`, `start_failed`, `no_memory`, `code_unavailable`, `environment_unreadable` or `draining`; or `too_many_idempotency_keys`",
            ),
            (504, "The function took longer than its timeout: `timeout`"),
            (
                507,
                "A call to be run later cannot be kept, because the disk the store is on is full: `disk_full`",
            ),
        ])
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Hearth", description = "Deploy functions and call them."),
    paths(
        control::functions::list, control::functions::create,
        control::functions::read, control::functions::update, control::functions::delete,
        control::functions::code,
        control::versions::list, control::versions::publish,
        control::versions::get, control::versions::delete,
        control::provisioned::get, control::provisioned::put, control::provisioned::delete,
        control::asynchronous::get, control::asynchronous::put, control::asynchronous::delete,
        control::urls::list, control::urls::put, control::urls::delete,
        control::aliases::list, control::aliases::create,
        control::aliases::get, control::aliases::update, control::aliases::delete,
        control::execute::execute,
        control::batch::execute,
        control::invocations::queue,
        control::invocations::read,
        control::dead_letters::list,
        control::dead_letters::read, control::dead_letters::discard,
        control::dead_letters::redrive,
        control::dead_letters::redrive_all,
        control::logs::read,
        control::starts::list,
        control::overview::read,
        control::checks::read,
        control::overview::calls,
        control::layers::list, control::layers::publish,
        control::layers::read_one, control::layers::delete,
        control::runtimes::list,
        control::keys::list, control::keys::create,
        control::keys::revoke,
    ),
    tags(
        (name = "functions", description = "What is deployed"),
        (name = "versions", description = "Copies that do not change, and names that point at them"),
        (name = "layers", description = "Content that functions share"),
        (name = "calls", description = "Running functions"),
        (name = "logs", description = "What functions print"),
        (name = "keys", description = "Who may come in"),
        (name = "operation", description = "What goes on"),
        (name = "runtimes", description = "The languages there are"),
    ),
    components(schemas(ErrorBody, ErrorDetail, FieldFault)),
)]
struct Document;

fn plain() -> OpenApi {
    let mut document = Document::openapi();
    let bearer = Http::new(HttpAuthScheme::Bearer);
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("key", SecurityScheme::Http(bearer));
    document.security = Some(vec![SecurityRequirement::new("key", [""; 0])]);
    document
}

/// `/openapi.json`. What draws it for people is a page of the dashboard's. Made when somebody asks: it takes megabytes on the way, which every
/// server would keep from its start on.
pub async fn read(State(control): State<Control>) -> impl IntoResponse {
    let runtimes = control.runtimes;
    let text = task::blocking("make the API's document", move || {
        error::to_json(&with_examples(plain(), &runtimes))
    });
    ([(CONTENT_TYPE, error::JSON)], text.await)
}

/// Puts the template of an installed runtime in the place where a function is created.
fn with_examples(mut document: OpenApi, runtimes: &Catalog) -> OpenApi {
    let Some(runtime) = runtimes.all().first() else {
        return document;
    };
    let language = runtime.names.first().map_or(runtime.id.as_str(), |n| n);
    let template = runtime
        .template()
        .and_then(|path| std::fs::read_to_string(path).ok());
    let example = json!({
        "name": "hello",
        "language": language,
        "code": template.unwrap_or_else(|| "…".into()),
    });
    let create = document
        .paths
        .paths
        .get_mut("/functions/")
        .and_then(|path| path.post.as_mut())
        .and_then(|operation| operation.request_body.as_mut());
    if let Some(RefOr::T(body)) = create {
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.example = Some(example.clone());
            }
        }
    }
    document
}

fn refusals(list: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let content = || Content::new(Some(Ref::from_schema_name("Error")));
    list.iter()
        .map(|(status, description)| {
            let response = ResponseBuilder::new()
                .description(*description)
                .content("application/json", content())
                .build();
            (status.to_string(), response.into())
        })
        .collect()
}
