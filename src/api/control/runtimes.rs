//! `/runtimes/`: the languages functions can be written in here.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::api::control::Control;
use crate::api::control::document::{RuntimeDocument, RuntimeList};
use crate::api::control::functions::json;
use crate::api::control::openapi::ListErrors;
use crate::task;

/// List runtimes
#[utoipa::path(
    get, path = "/runtimes/", tag = "runtimes", operation_id = "list_runtimes",
    responses((status = 200, body = RuntimeList, description = "all of them"), ListErrors)
)]
pub async fn list(State(control): State<Control>) -> Response {
    // Their templates are files.
    task::blocking("read templates", move || {
        let all = control.runtimes.all();
        let items = all.iter().map(|m| RuntimeDocument::of(m)).collect();
        json(StatusCode::OK, &RuntimeList { items })
    })
    .await
}
