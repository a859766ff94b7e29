//! ListFunctions, and how AWS pages its lists: a page says where the next begins, in a text that means nothing to a client.

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
use crate::domain::version::VersionId;

const PAGE_DEFAULT: usize = 50;
/// What a client may ask for, and what it gets at most: it then asks again.
const PAGE_ASKED: usize = 10_000;

pub(super) fn functions(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let scope = Do::ListFunctions.scope();
    asked
        .caller
        .may(scope)
        .map_err(|denied| Refusal::from(Problem::from(denied)))?;
    let page = Page::of(asked)?;
    let targets = face.control.scheduler.targets();
    let mut shown = targets
        .iter()
        .filter(|target| asked.caller.is_for(target.function.name.as_str()))
        // In the order of creation, which is that of their ids.
        .filter(|target| {
            page.after
                .as_deref()
                .is_none_or(|after| target.function.id.as_str() > after)
        });
    let items: Vec<_> = shown.by_ref().take(page.items).collect();
    let more = shown.next().is_some();
    let documents: Vec<Value> = items
        .iter()
        .map(|target| {
            let function = &target.function;
            let arn = face.settings.place.function(&function.name);
            Value::Object(document::configuration(
                face,
                function,
                VersionId::Latest,
                &arn,
                Moment::Listed,
            ))
        })
        .collect();
    let mut document = json!({ "Functions": documents });
    if let Some(last) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(last.function.id.as_str()).into();
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
        let items = match asked.query("MaxItems") {
            None => PAGE_DEFAULT,
            Some(text) => {
                let number = text.parse::<usize>().ok();
                let number = number.filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| {
                    let constraint = match text.parse::<i64>() {
                        Ok(n) if n < 1 => "greater than or equal to 1".to_owned(),
                        _ => format!("less than or equal to {most}"),
                    };
                    let constraint = format!("Member must have value {constraint}");
                    Refusal::validation(&[names::fault("maxItems", text, &constraint)])
                })?
            }
        };
        let after = match asked.query("Marker").filter(|marker| !marker.is_empty()) {
            None => None,
            Some(text) => Some(
                position(text)
                    .ok_or_else(|| Refusal::parameter("Failed to decrypt the pagination token."))?,
            ),
        };
        Ok(Self { after, items })
    }
}

/// Where the next page begins, in a form that invites nobody to make one up.
pub(super) fn marker(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

fn position(marker: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(marker).ok()?).ok()
}
