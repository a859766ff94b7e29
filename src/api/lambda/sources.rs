//! Event source mappings, of which there are none: lists are empty, and what a client asks by its id is not there. None can be made.

use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::list::Page;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer, names};

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListEventSourceMappings;
    permit(asked, does)?;
    Page::of(asked)?;
    if let Some(source) = asked.query("EventSourceArn").filter(|arn| !arn.is_empty())
        && !names::is_arn(source)
    {
        let fault = names::pattern("eventSourceArn", source, names::ANYTHING);
        return Err(Refusal::validation(&[fault]));
    }
    if let Some(function) = asked.query("FunctionName").filter(|name| !name.is_empty()) {
        let named = names::read(function, None, &face.settings.place)?;
        face.permit(&asked.caller, does, "ListEventSourceMappings", &named)?;
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "EventSourceMappings": [] }),
    ))
}

/// Of one that a client names.
pub(super) fn one(asked: &Asked, does: Do) -> Result<Response<Body>, Refusal> {
    permit(asked, does)?;
    Err(Refusal::not_found(
        "The resource you requested does not exist.",
    ))
}

fn permit(asked: &Asked, does: Do) -> Result<(), Refusal> {
    let permitted = asked.caller.may(does.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))
}
