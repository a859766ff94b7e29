//! CreateFunction.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;

use crate::api::body::Body;
use crate::api::control::change::{self, Change, Faults, Source};
use crate::api::control::deploy::versions::Publish;
use crate::api::control::draft::Draft;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::routes::Do;
use crate::api::lambda::settings::Wish;
use crate::api::lambda::{Asked, Lambda, json, layers, names, read, runtimes};
use crate::domain::aws;
use crate::domain::function::Function;
use crate::domain::key::Grant;
use crate::domain::version::VersionId;

pub(super) async fn create(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let mut fields = Fields::of(&asked.body)?;
    let Some(name) = fields.text("FunctionName")? else {
        fields.missing("FunctionName");
        return Err(Refusal::validation(&fields.faults));
    };
    let named = names::read_new(&name, &face.settings.place)?;
    face.permit(&asked.caller, Do::CreateFunction, "CreateFunction", &named)?;
    let package = fields.one_of("PackageType", &["Zip", "Image"])?;
    let wish = Wish::read(&mut fields)?;
    if wish.role.is_none() {
        fields.missing("Role");
    }
    let Some(mut code) = fields.open("Code")? else {
        fields.missing("Code");
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    if named.name.len() > names::NAME_MAX {
        // AWS says this as another exception than all else of its kind.
        let fault = names::longest("functionName", &named.name, names::NAME_MAX);
        return Err(Refusal::parameter(format!(
            "1 validation error detected: {fault}"
        )));
    }
    if package.as_deref() == Some("Image") {
        return Err(Refusal::parameter(
            "PackageType Image is not supported by Hearth: send the code as ZipFile.",
        ));
    }
    let publish = fields.flag("Publish")?;
    let source = source(&mut code)?;
    let (Some(runtime), true) = (&wish.runtime, wish.handler.is_some()) else {
        return Err(Refusal::parameter(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    };
    let manifest = runtimes::find(runtime, &face.control.runtimes, &face.settings)?;
    let layers = layers::wanted(face, None, &asked.caller, wish.layers.as_deref()).await?;
    let change = Change {
        layers,
        name: Some(
            change::new_name(&named.name)
                .map_err(|why| Refusal::parameter(format!("FunctionName {why}")))?,
        ),
        runtime: Some(manifest),
        code: Some(source),
        tags: tags(&mut fields)?,
        network: Some(face.settings.network),
        aws: Some(aws::Settings {
            environment: wish.environment.is_some(),
            ..wish.over(&aws::Settings::default(), Some(runtime))
        }),
        ..wish.change()
    };
    let deploy = &face.control.deploy;
    let caller = asked.caller.clone();
    let made = deploy.create_from(asked.caller, asked.room, move |rules| {
        Draft::new(change, Faults::default(), rules)
    });
    let function = made.await?;
    let (moment, status) = (Moment::Creating, StatusCode::CREATED);
    if publish {
        return published(face, caller, &function, moment, status).await;
    }
    let (arn, latest) = (
        face.settings.place.function(&function.name),
        VersionId::Latest,
    );
    let document = document::configuration(face, &function, latest, &arn, moment);
    Ok(read::said(json(status, &document), &function))
}

/// The answer to a change that was to be published at once: the version's document.
pub(super) async fn published(
    face: &Lambda,
    caller: Arc<Grant>,
    function: &Function,
    moment: Moment,
    status: StatusCode,
) -> Result<Response<Body>, Refusal> {
    let deploy = &face.control.deploy;
    let ask = Publish::default();
    let made = deploy.publish_version(caller, function.id.to_string(), ask);
    let (version, _new) = made.await?;
    let shown = document::as_published(&version, function);
    let number = version.number.to_string();
    // AWS names a version it made together with its function by the function's ARN.
    let qualifier = (status != StatusCode::CREATED).then_some(number.as_str());
    let arn = face.settings.place.qualified(&function.name, qualifier);
    let document = document::configuration(face, &shown, version.id(), &arn, moment);
    Ok(read::said(json(status, &document), &shown))
}

/// Where the code comes from. The text is moved and not copied: it may be tens of megabytes.
pub(super) fn source(code: &mut Fields) -> Result<Source, Refusal> {
    if let Some(zip) = code.text("ZipFile")? {
        return Ok(Source::Zip(zip));
    }
    let elsewhere = ["S3Bucket", "S3Key", "ImageUri"]
        .into_iter()
        .find(|field| code.has(field));
    Err(match elsewhere {
        Some(field) => Refusal::parameter(format!(
            "Code from {field} is not supported by Hearth: send it as ZipFile."
        )),
        None => Refusal::parameter("Please provide a source for function code."),
    })
}

/// Tags as the request has them, within AWS's rules.
pub(super) fn tags(
    fields: &mut Fields,
) -> Result<Option<std::collections::BTreeMap<String, String>>, Refusal> {
    let Some(given) = fields.map("Tags")? else {
        return Ok(None);
    };
    if given.len() > change::TAGS_MAX {
        return Err(Refusal::parameter(
            "Number of tags exceeds resource tag limit.",
        ));
    }
    for (key, value) in &given {
        change::tag(key, value).map_err(|why| {
            Refusal::parameter(format!("Tag {} {why}", Value::from(key.as_str())))
        })?;
    }
    Ok(Some(given.into_iter().collect()))
}
