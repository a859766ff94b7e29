//! ListFunctions, and how AWS pages its lists: a page says where the next begins, in a text that means nothing to a client.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer, names};
use crate::domain::version::{Version, VersionId};
use crate::scheduler::Target;

const PAGE_DEFAULT: usize = 50;
/// What a client may ask for, and what it gets at most: it then asks again.
const PAGE_ASKED: usize = 10_000;
const REGION: &str = r"ALL|(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}";
const REGION_MAX: usize = 50;

pub(super) fn functions(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let scope = Do::ListFunctions.scope();
    asked
        .caller
        .may(scope)
        .map_err(|denied| Refusal::from(Problem::from(denied)))?;
    let page = Page::of(asked)?;
    // Which of all regions a function is kept in: here there is one.
    if let Some(region) = asked.query("MasterRegion").filter(|text| !text.is_empty()) {
        let is = |text: &str| text == "ALL" || names::is_region(text);
        let faults = names::formed("masterRegion", region, REGION_MAX, REGION, is);
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
    }
    let every = match asked.query("FunctionVersion") {
        None | Some("") => false,
        Some("ALL") => true,
        Some(other) => {
            let constraint = "Member must satisfy enum value set: [ALL]";
            let fault = names::fault("functionVersion", other, constraint);
            return Err(Refusal::validation(&[fault]));
        }
    };
    let after = page.after.as_deref().map(|text| {
        let (id, number) = text.split_once('/')?;
        Some((id, number.parse::<u64>().ok()?))
    });
    let after = after
        .map(|after| after.ok_or_else(wrong_marker))
        .transpose()?;
    let targets = face.control.scheduler.targets();
    // In the order of creation, which is that of their ids; the one that can be edited comes before the versions.
    let visible = targets
        .iter()
        .filter(|target| asked.caller.is_for(target.function.name.as_str()));
    let all = visible.flat_map(|target| {
        let versions = target.published().versions.values().filter(|_| every);
        let versions = versions.map(move |version| (target, Some(version)));
        std::iter::once((target, None)).chain(versions)
    });
    let at = |target: &Target, version: Option<&Arc<Version>>| {
        (
            target.function.id.to_string(),
            version.map_or(0, |version| version.number),
        )
    };
    let mut shown = all.filter(|(target, version)| {
        let (id, number) = at(target, *version);
        after.is_none_or(|after| (id.as_str(), number) > after)
    });
    let items: Vec<_> = shown.by_ref().take(page.items).collect();
    let more = shown.next().is_some();
    let documents: Vec<Value> = items
        .iter()
        .map(|(target, version)| {
            let latest = &target.function;
            let id = version.map_or(VersionId::Latest, |version| version.id());
            let qualifier = every.then(|| id.to_string());
            let arn = face
                .settings
                .place
                .qualified(&latest.name, qualifier.as_deref());
            let function = version.map(|version| document::as_published(version, latest));
            let function = function.as_ref().unwrap_or(latest);
            let moment = Moment::Listed;
            Value::Object(document::configuration(face, function, id, &arn, moment))
        })
        .collect();
    let mut document = json!({ "Functions": documents });
    if let Some((target, version)) = items.last().filter(|_| more) {
        let (id, number) = at(target, *version);
        document["NextMarker"] = marker(&format!("{id}/{number}")).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

/// What a request for a page asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub after: Option<String>,
    pub items: usize,
}

impl Page {
    pub(super) fn of(asked: &Asked) -> Result<Self, Refusal> {
        Self::up_to(PAGE_ASKED, asked)
    }

    /// Where AWS lets nobody ask for more items than this.
    pub(super) fn up_to(most: usize, asked: &Asked) -> Result<Self, Refusal> {
        Self::between(1, most, asked)
    }

    pub(super) fn between(least: usize, most: usize, asked: &Asked) -> Result<Self, Refusal> {
        let items = match asked.query("MaxItems") {
            None => PAGE_DEFAULT,
            Some(text) => {
                let number = text.parse::<usize>().ok();
                let number = number.filter(|n| (least..=most).contains(n));
                number.ok_or_else(|| {
                    let constraint = match text.parse::<i64>() {
                        Ok(n) if n < 1 => format!("greater than or equal to {least}"),
                        _ => format!("less than or equal to {most}"),
                    };
                    let constraint = format!("Member must have value {constraint}");
                    Refusal::validation(&[names::fault("maxItems", text, &constraint)])
                })?
            }
        };
        let after = match asked.query("Marker").filter(|marker| !marker.is_empty()) {
            None => None,
            Some(text) => Some(position(text).ok_or_else(wrong_marker)?),
        };
        Ok(Self { after, items })
    }
}

/// Where the next page begins, in a form that invites nobody to make one up.
pub(super) fn marker(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

pub(super) fn wrong_marker() -> Refusal {
    Refusal::parameter("Failed to decrypt the pagination token.")
}

fn position(marker: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(marker).ok()?).ok()
}
