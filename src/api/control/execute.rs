//! Calling one function, as the router knows it. The gateway answers these before they get here; this is what describes the
//! path in the OpenAPI document, and it does the same.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::api::arriving;
use crate::api::control::Control;
use crate::api::control::intake::Name;
use crate::api::control::openapi::CallErrors;
use crate::api::invoke::{self, Accepted};
use crate::domain::fault::Fault;
use crate::domain::limits::PAYLOAD_MAX;

/// Call a function
///
/// The body is the event: JSON, or with `content-type: application/octet-stream` bytes; nothing is the event `{}`. The answer's body
/// is what the handler returned. `server-timing` says where the time went, in milliseconds: waiting in line, creating a
/// container, loading the code, running the handler.
///
/// With `x-amz-invocation-type: Event` the answer is 202 as soon as the call is kept: it is run at least once, tried again when it fails,
/// and `/invocations/{id}` says how it stands. Its event may have up to 1 MiB.
///
/// With `idempotency-key` the call is run once: for the time the configuration says, the same key with the same payload gets the answer
/// the first one got, a function's error too, with `idempotency-replayed: true`; while the first is still running, it is waited for.
/// Another payload, or another way to call, is a 422. What was never run, as after a 429 or 503, is run by the next. The key belongs
/// to the function. An answer that is too large is not kept, which `idempotency-kept: false` says: the next then gets a 409. A streaming
/// answer comes when it is whole. The call goes on when its client leaves.
#[utoipa::path(
    post, path = "/functions/{id}/execute", tag = "calls", operation_id = "execute_function",
    params(
        ("id" = String, Path, description = "id or name; behind a colon, the number of a version or the name of an alias"),
        ("qualifier" = Option<String>, Query, description = "the number of a version, the name of an alias, or `$LATEST`, which it is when left out"),
        ("x-amz-invocation-type" = Option<String>, Header, nullable = false, description = "`Event`: run it later; `RequestResponse`, or none: run it now"),
        ("idempotency-key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$", description = "names the call, so that it is run once: 1 to 255 visible ASCII characters"),
    ),
    request_body(description = "the event", content(
        (serde_json::Value = "application/json", example = json!({"name": "world"})),
        ([u8] = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "what the handler returned; a streaming handler's answer has the content type it chose", content(
            (serde_json::Value = "application/json"), ([u8] = "application/octet-stream"),
        ), headers(
            ("x-request-id" = String, description = "the id of the call: in the handler's context and on its log lines"),
            ("server-timing" = String, description = "queue, start, init and run"),
            ("x-hearth-start" = String, description = "`warm`: an idle worker. `stem`: a started one was given the code. `cold`: a container was created"),
            ("x-hearth-version" = String, description = "the beginning of the digest of what ran"),
            ("x-amz-executed-version" = String, description = "the number of the version that ran, or `$LATEST`"),
            ("idempotency-replayed" = String, description = "`true`: this is the answer the first call with this key got"),
            ("idempotency-kept" = String, description = "`false`: this answer is not kept for the next call with this key"),
        )),
        (status = 202, body = Accepted, description = "the call is kept and will be run", headers(
            ("x-request-id" = String, description = "the id of the call"),
            ("location" = String, description = "where to look how it stands"),
        )),
        CallErrors,
    )
)]
pub async fn execute(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = match read(body).await {
        Ok(payload) => {
            let (queue, idempotency) = (&control.queue, &control.idempotency);
            invoke::execute(queue, idempotency, &id, uri.query(), &headers, payload).await
        }
        Err(fault) => invoke::refuse(fault),
    };
    answer.map(Body::new)
}

async fn read(body: Body) -> Result<Bytes, Fault> {
    match Limited::new(body, PAYLOAD_MAX).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::PayloadTooLarge {
            size: PAYLOAD_MAX as u64 + 1,
            limit: PAYLOAD_MAX as u64,
        }),
        Err(error) => Err(arriving::broken(&*error)),
    }
}
