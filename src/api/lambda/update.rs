//! UpdateFunctionCode and UpdateFunctionConfiguration. Both are one change of `Deploy`, made from the function as it is in its turn, so that a
//! RevisionId is compared with what is really there.

use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::control::change::{Change, Faults};
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::Do;
use crate::api::lambda::settings::{self, Wish};
use crate::api::lambda::{Asked, Lambda, create, json, layers, read, runtimes};
use crate::domain::aws;
use crate::domain::function::Function;
use crate::domain::version::VersionId;

pub(super) async fn code(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::UpdateFunctionCode, "UpdateFunctionCode")?;
    let target = face.found(&named)?;
    let mut fields = Fields::of(&asked.body)?;
    let revision = fields.text("RevisionId")?;
    let architecture = settings::architecture(&mut fields)?;
    let dry = fields.flag("DryRun")?;
    let publish = fields.flag("Publish")?;
    fields.finish()?;
    if fields.has("ImageUri") {
        return Err(Refusal::parameter(
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ));
    }
    let source = create::source(&mut fields)?;
    let function = {
        let make = move |current: &Function, rules: crate::api::control::draft::Rules<'_>| {
            unchanged(current, revision.as_deref())?;
            let change = Change {
                code: Some(source.clone()),
                aws: architecture.as_ref().map(|architecture| aws::Settings {
                    architecture: Some(architecture.clone()),
                    ..current.aws.clone()
                }),
                ..Change::default()
            };
            Draft::next(change, Faults::default(), current, rules)
        };
        let Asked { caller, room, .. } = asked;
        let publisher = caller.clone();
        let id = target.function.id.to_string();
        let deploy = &face.control.deploy;
        let function = match dry {
            true => deploy.rehearse(caller, id, room, make).await?,
            false => deploy.update_from(caller, id, None, room, make).await?,
        };
        if publish && !dry {
            let (moment, status) = (Moment::Creating, StatusCode::OK);
            return create::published(face, publisher, &function, moment, status).await;
        }
        function
    };
    Ok(answer(
        face,
        &named,
        &function,
        if dry {
            Moment::Settled
        } else {
            Moment::Updating
        },
    ))
}

pub(super) async fn configuration(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (
        Do::UpdateFunctionConfiguration,
        "UpdateFunctionConfiguration",
    );
    let named = face.named(&asked, does, action)?;
    let target = face.found(&named)?;
    let mut fields = Fields::of(&asked.body)?;
    let revision = fields.text("RevisionId")?;
    let wish = Wish::read(&mut fields)?;
    fields.finish()?;
    let runtime = match &wish.runtime {
        Some(name) => Some(runtimes::find(
            name,
            &face.control.runtimes,
            &face.settings,
        )?),
        None => None,
    };
    let given = wish.layers.as_deref();
    let layers = layers::wanted(face, Some(&target.function), &asked.caller, given).await?;
    let make = move |current: &Function, rules: crate::api::control::draft::Rules<'_>| {
        unchanged(current, revision.as_deref())?;
        let change = Change {
            layers: layers.clone(),
            runtime: runtime.clone(),
            aws: Some(wish.over(&current.aws, wish.runtime.as_deref())),
            ..wish.change()
        };
        Draft::next(change, Faults::default(), current, rules)
    };
    let id = target.function.id.to_string();
    let deploy = &face.control.deploy;
    let changed = deploy.update_from(asked.caller, id, None, asked.room, make);
    let function = changed.await?;
    Ok(answer(face, &named, &function, Moment::Updating))
}

/// Whether it is still what the client read.
fn unchanged(current: &Function, revision: Option<&str>) -> Result<(), Problem> {
    match revision {
        Some(given)
            if given != document::revision_id(current, VersionId::Latest, Moment::Settled) =>
        {
            Err(Problem::Stale {
                given: given.into(),
                condition: true,
            })
        }
        _ => Ok(()),
    }
}

fn answer(face: &Lambda, named: &Named, function: &Function, moment: Moment) -> Response<Body> {
    let arn = named.arn(&face.settings.place);
    let document = document::configuration(face, function, VersionId::Latest, &arn, moment);
    read::said(json(StatusCode::OK, &document), function)
}
