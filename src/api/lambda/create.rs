//! CreateFunction.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;

use crate::api::body::Body;
use crate::api::control::change::{self, Change, Faults};
use crate::api::control::deploy::versions::Publish;
use crate::api::control::draft::Draft;
use crate::api::error::Problem;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::origin::{Code, Origin};
use crate::api::lambda::routes::Do;
use crate::api::lambda::settings::Wish;
use crate::api::lambda::{Asked, Lambda, json, layers, names, read, runtimes, signing, versions};
use crate::domain::aws;
use crate::domain::function::Function;
use crate::domain::key::Grant;
use crate::domain::signing::Policy;
use crate::domain::version::VersionId;

pub(super) const ZIP_IN_IMAGE: &str = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.";
pub(super) const IMAGE_CONFIG_OF_ZIP: &str =
    "Please don't provide ImageConfig when the intended function PackageType is Zip.";

pub(super) async fn create(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let mut fields = Fields::read(&mut asked).await?;
    let Some(name) = fields.text("FunctionName")? else {
        fields.missing("FunctionName");
        return Err(Refusal::validation(&fields.faults));
    };
    let named = names::read(Do::CreateFunction.form(), &name, None, &face.settings.place)?;
    face.permit(&asked.caller, Do::CreateFunction, "CreateFunction", &named)?;
    let package = fields.one_of("PackageType", &["Zip", "Image"])?;
    let wish = Wish::read(&mut fields)?;
    let signing = signing::given(&mut fields)?;
    versions::by_number(&mut fields)?;
    if wish.role.is_none() {
        fields.missing("Role");
    }
    let Some(mut code) = fields.open("Code")? else {
        fields.missing("Code");
        return Err(Refusal::validation(&fields.faults));
    };
    let origin = Origin::read(&mut code)?;
    fields.close(code);
    let tags = tags(&mut fields)?;
    fields.finish()?;
    let config = match &signing {
        Some(arn) => Some(signing::wanted(face, arn).await?),
        None => None,
    };
    if named.name.len() > names::NAME_MAX {
        // AWS says this as another exception than all else of its kind.
        let fault = names::longest("functionName", &named.name, names::NAME_MAX);
        return Err(Refusal::parameter(format!(
            "1 validation error detected: {fault}"
        )));
    }
    wish.held_to(&aws::Settings::default())?;
    let publish = fields.flag("Publish")?;
    let is_image = package.as_deref() == Some("Image");
    let source_kms_key = origin.kms_key.clone();
    let code = match is_image {
        true if wish.is_of_zip() => return Err(Refusal::parameter(ZIP_IN_IMAGE)),
        true => origin.image(wish.image.clone().unwrap_or_default())?,
        false => origin.package()?,
    };
    if is_image && config.is_some() {
        return Err(Refusal::parameter(signing::OF_IMAGES));
    }
    let runtime = match (&wish.runtime, &wish.handler) {
        _ if is_image => None,
        (Some(runtime), Some(_)) => Some(runtime.as_str()),
        _ => {
            return Err(Refusal::parameter(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        }
    };
    if !is_image && wish.image.is_some() {
        return Err(Refusal::parameter(IMAGE_CONFIG_OF_ZIP));
    }
    let find = |name| runtimes::find(name, &face.control.runtimes, &face.settings);
    let manifest = runtime.map(find).transpose()?;
    let layers = layers::wanted(face, None, &asked.caller, wish.layers.as_deref()).await?;
    // Nothing is fetched for a function that cannot be made.
    if let (Code::There(_), Some(there)) = (&code, face.latest(&named)) {
        let by = there.function.id.clone();
        let name = named.name;
        return Err(Problem::NameTaken { name, by }.into());
    }
    if let Some(Policy::Enforce) = config.as_ref().map(|config| config.policy)
        && matches!(code, Code::There(_))
    {
        return Err(Refusal::not_signed(&named.name));
    }
    let source = code.bring(face, &mut asked).await?;
    let change = Change {
        layers,
        name: Some(
            change::new_name(&named.name)
                .map_err(|why| Refusal::parameter(format!("FunctionName {why}")))?,
        ),
        runtime: manifest,
        code: Some(source),
        tags,
        network: Some(face.settings.network),
        aws: Some(aws::Settings {
            environment: wish.environment.is_some(),
            source_kms_key,
            signing: config.map(|config| config.id),
            ..wish.over(&aws::Settings::default(), runtime)
        }),
        ..wish.change()
    };
    let deploy = &face.control.deploy;
    let caller = asked.caller.clone();
    let made = deploy.create_from(asked.caller, asked.room, move |rules| {
        Draft::new(change, Faults::default(), rules)
    });
    let function = made.await.map_err(|problem| match (problem, &signing) {
        // It was deleted just now.
        (Problem::NoSigning(_), Some(arn)) => Refusal::no_code_signing(arn),
        (problem, _) => problem.into(),
    })?;
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
