//! UpdateFunctionCode and UpdateFunctionConfiguration. Both are one change of `Deploy`, made from the function as it is in its turn, so that a
//! RevisionId is compared with what is really there.

use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::control;
use crate::api::control::change::{Change, Faults, Source, is_credential};
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::api::lambda::change::unpublished;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::Named;
use crate::api::lambda::origin::{Code, Origin};
use crate::api::lambda::routes::Do;
use crate::api::lambda::settings::{self, Wish};
use crate::api::lambda::{Asked, Lambda, create, json, layers, read, runtimes, versions};
use crate::domain::aws;
use crate::domain::environment::MASK;
use crate::domain::function::Function;
use crate::domain::image;
use crate::domain::version::VersionId;

pub(super) async fn code(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::UpdateFunctionCode, "UpdateFunctionCode")?;
    let mut fields = Fields::read(&mut asked).await?;
    let revision = fields.text("RevisionId")?;
    let architecture = settings::architecture(&mut fields)?;
    let dry = fields.flag("DryRun")?;
    let publish = fields.flag("Publish")?;
    versions::by_number(&mut fields)?;
    let origin = Origin::read(&mut fields)?;
    fields.finish()?;
    let target = face.found(&named)?;
    unpublished(&named)?;
    let made = target.published().head.last;
    let source_kms_key = origin.kms_key.clone();
    let code = match target.function.image() {
        Some(_) => origin.other_image()?,
        None if origin.is_image() => {
            return Err(Refusal::parameter(
                "Please don't provide ImageUri when updating a function with packageType Zip.",
            ));
        }
        None => origin.package()?,
    };
    // Once more in the function's turn; but nothing is fetched for what will be refused.
    if matches!(code, Code::There(_)) {
        unchanged(&target.function, made, revision.as_deref())?;
        face.control.deploy.takes_code(&target.function).await?;
    }
    let source = code.bring(face, &mut asked).await?;
    let function = {
        let make = move |current: &Function, rules: crate::api::control::draft::Rules<'_>| {
            unchanged(current, made, revision.as_deref())?;
            let change = Change {
                code: Some(started_as(current, source.clone())),
                aws: Some(aws::Settings {
                    architecture: architecture.clone().or(current.aws.architecture.clone()),
                    source_kms_key: source_kms_key.clone(),
                    written: current.aws.written + 1,
                    ..(*current.aws).clone()
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
    let mut fields = Fields::of(&asked.body)?;
    let revision = fields.text("RevisionId")?;
    let wish = Wish::read(&mut fields)?;
    fields.finish()?;
    let target = face.found(&named)?;
    unpublished(&named)?;
    let made = target.published().head.last;
    match target.function.image() {
        Some(_) if wish.is_of_zip() => return Err(Refusal::parameter(create::ZIP_IN_IMAGE)),
        None if wish.image.is_some() => {
            return Err(Refusal::parameter(create::IMAGE_CONFIG_OF_ZIP));
        }
        _ => {}
    }
    wish.held_to(&target.function.aws)?;
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
        unchanged(current, made, revision.as_deref())?;
        let mut change = Change {
            layers: layers.clone(),
            runtime: runtime.clone(),
            code: restarted(current, wish.image.as_ref()),
            aws: Some(wish.over(&current.aws, wish.runtime.as_deref())),
            ..wish.change()
        };
        if let Some(variables) = &mut change.environment {
            let names = current.environment.0.keys();
            let kept = names.filter(|name| is_credential(name)).cloned();
            variables.0.extend(kept.map(|name| (name, MASK.into())));
        }
        Draft::next(change, Faults::default(), current, rules)
    };
    let id = target.function.id.to_string();
    let deploy = &face.control.deploy;
    let changed = deploy.update_from(asked.caller, id, None, asked.room, make);
    let function = changed.await?;
    Ok(answer(face, &named, &function, Moment::Updating))
}

/// New code, which as an image is started as the one there is.
fn started_as(current: &Function, source: Source) -> Source {
    match (source, current.image()) {
        (Source::Image(wish), Some(image)) => Source::Image(control::image::Wish {
            settings: image.settings.clone(),
            ..wish
        }),
        (source, _) => source,
    }
}

/// The same image, started in another way.
fn restarted(current: &Function, settings: Option<&image::Settings>) -> Option<Source> {
    let (image, settings) = (current.image()?, settings?);
    Some(Source::Image(control::image::Wish {
        uri: image.uri.clone(),
        id: Some(image.built.id.clone()),
        settings: settings.clone(),
    }))
}

/// Whether it is still what the client read.
fn unchanged(current: &Function, made: u64, revision: Option<&str>) -> Result<(), Problem> {
    let now = document::revision_id(current, VersionId::Latest, made, Moment::Settled);
    match revision {
        Some(given) if given != now => Err(Problem::Stale {
            given: given.into(),
            condition: true,
        }),
        _ => Ok(()),
    }
}

fn answer(face: &Lambda, named: &Named, function: &Function, moment: Moment) -> Response<Body> {
    let arn = named.arn(&face.settings.place);
    let document = document::configuration(face, function, VersionId::Latest, &arn, moment);
    read::said(json(StatusCode::OK, &document), function)
}
