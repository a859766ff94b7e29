//! Event source mappings, of which there are none: lists are empty, and what a client asks by its id is not there. None can be made.

use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::list::Page;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer, names, policy};

const ID_MAX: usize = 36;

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListEventSourceMappings;
    permit(asked, does)?;
    Page::of(asked)?;
    if let Some(source) = asked.query("EventSourceArn").filter(|arn| !arn.is_empty()) {
        let (most, pattern) = (policy::TEXT_MAX, names::ANYTHING);
        let faults = names::formed("eventSourceArn", source, most, pattern, names::is_arn);
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
    }
    if let Some(function) = asked.query("FunctionName").filter(|name| !name.is_empty()) {
        let named = names::read(does.form(), function, None, &face.settings.place)?;
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
    let id = asked.parameters.first().map_or("", String::as_str);
    if id.chars().count() > ID_MAX {
        let fault = names::longest("uUID", id, ID_MAX);
        return Err(Refusal::validation(&[fault]));
    }
    Err(Refusal::not_found(
        "The resource you requested does not exist.",
    ))
}

fn permit(asked: &Asked, does: Do) -> Result<(), Refusal> {
    let permitted = asked.caller.may(does.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))
}
