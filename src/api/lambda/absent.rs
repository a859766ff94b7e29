//! What AWS has and Hearth has not, where it is only asked about: capacity providers, durable executions. Lists are empty, and what a client
//! names is not there. None can be made.

use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::list::Page;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer, names};

/// AWS gives out no more at once, of what is newer.
const PAGE_MAX: usize = 50;
const PROVIDER: &str = r"(arn:aws[a-zA-Z-]*:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:capacity-provider:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+";
const PROVIDER_MAX: usize = 140;
const EXECUTION: &str = r"arn:([a-zA-Z0-9-]+):lambda:([a-zA-Z0-9-]+):(\d{12}):function:([a-zA-Z0-9_-]+):(\$LATEST(?:\.PUBLISHED)?|[0-9]+)/durable-execution/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)";
const EXECUTION_MAX: usize = 1024;
const EXECUTION_NAME: (usize, &str) = (64, "[a-zA-Z0-9-_]+");
const EXECUTIONS_MAX: usize = 1000;

pub(super) fn providers(asked: &Asked) -> Result<Response<Body>, Refusal> {
    permit(asked, Do::ListCapacityProviders)?;
    Page::up_to(PAGE_MAX, asked)?;
    let known = ["Pending", "Active", "Failed", "Deleting"];
    one_of(asked, "State", &known)?;
    let document = json!({ "CapacityProviders": [] });
    Ok(answer(StatusCode::OK, &document))
}

pub(super) fn provider(face: &Lambda, asked: &Asked, does: Do) -> Result<Response<Body>, Refusal> {
    permit(asked, does)?;
    let text = named(asked);
    let whole = |text: &str| names::resource(text) == Some("capacity-provider");
    let is = |text: &str| is_word(text) || whole(text);
    let field = "capacityProviderName";
    formed(names::formed(field, text, PROVIDER_MAX, PROVIDER, is))?;
    if does == Do::ListFunctionVersionsByCapacityProvider {
        Page::up_to(PAGE_MAX, asked)?;
    }
    let arn = match whole(text) {
        true => text.to_owned(),
        false => face.settings.place.provider(text),
    };
    Err(Refusal::not_found(format!(
        "Capacity provider not found: {arn}"
    )))
}

/// Of a function, which has to be there.
pub(super) fn executions(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListDurableExecutionsByFunction;
    let named = face.named(asked, does, "ListDurableExecutionsByFunction")?;
    let known = [
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "TIMED_OUT",
        "STOPPED",
        "DELETING",
        "PAUSING",
        "PAUSED",
    ];
    one_of(asked, "Statuses", &known)?;
    if let Some(name) = asked.query("DurableExecutionName") {
        let (most, pattern) = EXECUTION_NAME;
        let field = "durableExecutionName";
        formed(names::formed(field, name, most, pattern, is_word))?;
    }
    Page::between(0, EXECUTIONS_MAX, asked)?;
    face.shown(&named)?;
    let document = json!({ "DurableExecutions": [] });
    Ok(answer(StatusCode::OK, &document))
}

pub(super) fn execution(asked: &Asked, does: Do) -> Result<Response<Body>, Refusal> {
    permit(asked, does)?;
    let arn = named(asked);
    let field = "durableExecutionArn";
    formed(names::formed(
        field,
        arn,
        EXECUTION_MAX,
        EXECUTION,
        is_execution,
    ))?;
    if does == Do::GetDurableExecutionHistory {
        Page::between(0, EXECUTIONS_MAX, asked)?;
    }
    Err(Refusal::not_found(format!(
        "Durable execution not found: {arn}"
    )))
}

fn is_execution(text: &str) -> bool {
    let read = || {
        let (function, rest) = text.split_once("/durable-execution/")?;
        let (name, id) = rest.split_once('/')?;
        let of = names::resource(function) == Some("function");
        let qualified = function.matches(':').count() == 7;
        Some(of && qualified && is_word(name) && is_word(id))
    };
    read().unwrap_or(false)
}

fn is_word(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !text.is_empty() && text.chars().all(good)
}

/// What a list is to show.
fn one_of(asked: &Asked, field: &str, known: &[&str]) -> Result<(), Refusal> {
    let given = asked.query.iter().filter(|(name, _)| name == field);
    let other = given
        .map(|(_, value)| value.as_str())
        .find(|value| !known.contains(value));
    let Some(other) = other else {
        return Ok(());
    };
    let constraint = format!("Member must satisfy enum value set: [{}]", known.join(", "));
    let field = field.to_ascii_lowercase();
    Err(Refusal::validation(&[names::fault(
        &field,
        other,
        &constraint,
    )]))
}

fn named(asked: &Asked) -> &str {
    asked.parameters.first().map_or("", String::as_str)
}

pub(super) fn formed(faults: Vec<String>) -> Result<(), Refusal> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Refusal::validation(&faults)),
    }
}

pub(super) fn permit(asked: &Asked, does: Do) -> Result<(), Refusal> {
    let permitted = asked.caller.may(does.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))
}
