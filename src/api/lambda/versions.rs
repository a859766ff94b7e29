//! PublishVersion and ListVersionsByFunction. What a version is, `domain::version` decides, and `Deploy` writes.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::control::deploy::versions::Publish;
use crate::api::lambda::change::unpublished;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker, wrong_marker};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, json as answer, read};
use crate::domain::version::VersionId;

pub(super) async fn publish(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::PublishVersion, "PublishVersion")?;
    let mut fields = Fields::of(&asked.body)?;
    let description = fields.up_to("Description", 256)?;
    let sha256 = fields.text("CodeSha256")?.filter(|text| !text.is_empty());
    let revision = fields.text("RevisionId")?;
    by_number(&mut fields)?;
    fields.finish()?;
    let target = face.found(&named)?;
    unpublished(&named)?;
    let function = &target.function;
    let made = target.published().head.last;
    let current = document::revision_id(function, VersionId::Latest, made, Moment::Settled);
    if revision.as_ref().is_some_and(|given| *given != current) {
        return Err(Refusal::stale());
    }
    let code = document::code_of(function);
    if let Some(given) = sha256.as_ref().filter(|given| **given != code) {
        return Err(Refusal::parameter(format!(
            "CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({code}). Please try again with the CodeSHA256 in $LATEST."
        )));
    }
    let ask = Publish {
        description,
        // In its turn the function may be another than the one that was looked at here, which matters to who said what it is to be.
        code_sha256: sha256.map(|_| function.code.sha256.clone()),
        revision: revision.map(|_| function.revision),
    };
    let deploy = &face.control.deploy;
    let made = deploy.publish_version(asked.caller, function.id.to_string(), ask);
    let (version, _new) = made.await?;
    let shown = document::as_published(&version, function);
    let arn = face.settings.place.function(&function.name);
    let arn = format!("{arn}:{}", version.number);
    let document = document::configuration(face, &shown, version.id(), &arn, Moment::Settled);
    Ok(read::said(answer(StatusCode::CREATED, &document), &shown))
}

/// Only capacity providers have a version that follows the latest one, and they are not here.
pub(super) fn by_number(fields: &mut Fields) -> Result<(), Refusal> {
    match fields.one_of("PublishTo", &["LATEST_PUBLISHED"])? {
        Some(_) if fields.faults.is_empty() => {
            Err(Refusal::parameter("PublishTo is not supported by Hearth."))
        }
        _ => Ok(()),
    }
}

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::ListVersionsByFunction, "ListVersionsByFunction")?;
    let page = Page::of(asked)?;
    let target = face.found(&named)?;
    let after = page
        .after
        .as_deref()
        .map(|text| text.parse::<u64>().map_err(|_odd| wrong_marker()));
    let after = after.transpose()?;
    let function = &target.function;
    let arn = face.settings.place.function(&function.name);
    let shown = |function: &_, version: VersionId| {
        let arn = format!("{arn}:{version}");
        Value::Object(document::configuration(
            face,
            function,
            version,
            &arn,
            Moment::Listed,
        ))
    };
    let mut items = Vec::new();
    // The one that can be edited comes before all others, on the first page.
    if after.is_none() {
        items.push((0, shown(function, VersionId::Latest)));
    }
    let published = target.published();
    let rest = published.versions.range(after.map_or(0, |n| n + 1)..);
    let wanted = page.items + 1 - items.len();
    items.extend(rest.take(wanted).map(|(number, version)| {
        let function = document::as_published(version, function);
        (*number, shown(&function, version.id()))
    }));
    let more = items.len() > page.items;
    items.truncate(page.items);
    let last = items.last().map(|(number, _)| *number);
    let items: Vec<_> = items.into_iter().map(|(_, document)| document).collect();
    let mut document = json!({ "Versions": items });
    if let Some(last) = last.filter(|_| more) {
        document["NextMarker"] = marker(&last.to_string()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}
