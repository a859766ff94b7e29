//! Code signing configurations, and which of them a function has. What they mean for code that is deployed is `Deploy`'s business: it counts
//! as not signed, as no signature can be checked here. They have no names, so what changes one takes a key that is for all names.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::change::{apply, given_tags, kept, tag_keys, unpublished, with_more_tags};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{self, Page};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, absent, create, empty, json as answer, names};
use crate::clock;
use crate::domain::aws::Place;
use crate::domain::key::Grant;
use crate::domain::signing::{Config, Id, Policy};

const ARN: &str = r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:code-signing-config:csc-[a-z0-9]{17}";
const ARN_MAX: usize = 200;
const DESCRIPTION_MAX: usize = 256;
const PUBLISHERS_MAX: usize = 20;
/// Of what has no limit of its own.
const PUBLISHER_MAX: usize = 10_000;
const PUBLISHERS: &str = "SigningProfileVersionArns";
pub(super) const OF_IMAGES: &str =
    "Code signing is not supported for functions created with container images.";

/// What a request says of one; what is not there stays as it is.
#[derive(Debug)]
struct Wish {
    description: Option<String>,
    publishers: Option<Vec<String>>,
    policy: Option<Policy>,
}

impl Wish {
    fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let description = fields.up_to("Description", DESCRIPTION_MAX)?;
        let publishers = match fields.open("AllowedPublishers")? {
            None => None,
            Some(mut inner) => {
                let publishers = publishers(&mut inner)?;
                fields.close(inner);
                publishers
            }
        };
        let policy = match fields.open("CodeSigningPolicies")? {
            None => None,
            Some(mut inner) => {
                let known = Policy::ALL.map(Policy::as_str);
                let word = inner.one_of("UntrustedArtifactOnDeployment", &known)?;
                fields.close(inner);
                word.as_deref().and_then(Policy::parse)
            }
        };
        Ok(Self {
            description,
            publishers,
            policy,
        })
    }
}

fn publishers(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(given) = fields.list_to(PUBLISHERS, PUBLISHERS_MAX)? else {
        fields.missing(PUBLISHERS);
        return Ok(None);
    };
    let shown = || format!("[{}]", given.join(", "));
    let good = |arn: &String| names::is_arn(arn) && arn.len() <= PUBLISHER_MAX;
    if given.is_empty() {
        let constraint = "Member must have length greater than or equal to 1";
        fields.fault(PUBLISHERS, &shown(), constraint);
    } else if !given.iter().all(good) {
        let constraint = format!(
            "Member must satisfy constraint: [Member must have length less than or equal to {PUBLISHER_MAX}, Member must satisfy regular expression pattern: {}, Member must not be null]",
            names::ANYTHING
        );
        fields.fault(PUBLISHERS, &shown(), &constraint);
    }
    Ok(Some(given))
}

pub(super) async fn create(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::CreateCodeSigningConfig;
    permit_change(face, &asked.caller, does, "CreateCodeSigningConfig", "*")?;
    let mut fields = Fields::of(&asked.body)?;
    let wish = Wish::read(&mut fields)?;
    if wish.publishers.is_none() {
        fields.missing("AllowedPublishers");
    }
    let tags = create::tags(&mut fields)?.unwrap_or_default();
    fields.finish()?;
    let now = clock::wall();
    let made = face.control.deploy.create_signing(|id| Config {
        id,
        revision: 1,
        description: wish.description.clone(),
        publishers: wish.publishers.clone().unwrap_or_default(),
        policy: wish.policy.unwrap_or_default(),
        tags: tags.clone(),
        modified_at: now,
    });
    let config = made.await?;
    Ok(shown(face, StatusCode::CREATED, &config))
}

pub(super) async fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let arn = named(asked)?;
    absent::permit(asked, Do::GetCodeSigningConfig)?;
    let config = there(face, arn).await?;
    let config = config.ok_or_else(|| Refusal::no_signing(arn))?;
    Ok(shown(face, StatusCode::OK, &config))
}

pub(super) async fn update(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let arn = named(&asked)?;
    let (does, action) = (Do::UpdateCodeSigningConfig, "UpdateCodeSigningConfig");
    permit_change(face, &asked.caller, does, action, arn)?;
    let mut fields = Fields::of(&asked.body)?;
    let wish = Wish::read(&mut fields)?;
    fields.finish()?;
    let gone = || Refusal::no_signing(arn);
    let id = id(&face.settings.place, arn).ok_or_else(gone)?;
    let changed = face.control.deploy.change_signing(&id, |config| {
        if let Some(description) = &wish.description {
            config.description = Some(description.clone());
        }
        if let Some(publishers) = &wish.publishers {
            config.publishers.clone_from(publishers);
        }
        config.policy = wish.policy.unwrap_or(config.policy);
        Ok::<_, Problem>(())
    });
    let config = changed.await?.ok_or_else(gone)?;
    Ok(shown(face, StatusCode::OK, &config))
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let arn = named(&asked)?;
    let (does, action) = (Do::DeleteCodeSigningConfig, "DeleteCodeSigningConfig");
    permit_change(face, &asked.caller, does, action, arn)?;
    let gone = || Refusal::no_signing(arn);
    let id = id(&face.settings.place, arn).ok_or_else(gone)?;
    match face.control.deploy.delete_signing(&id).await {
        Ok(true) => Ok(empty(StatusCode::NO_CONTENT)),
        Ok(false) => Err(gone()),
        Err(Problem::SigningInUse(_)) => Err(Refusal::conflict(format!(
            "The Lambda code signing configuration {arn} cannot be deleted because functions use it. Remove it from them first."
        ))),
        Err(problem) => Err(problem.into()),
    }
}

pub(super) async fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    absent::permit(asked, Do::ListCodeSigningConfigs)?;
    let page = Page::of(asked)?;
    let all = face.control.deploy.signings().await?;
    let after = page.after.as_deref();
    let mut left = all
        .iter()
        .filter(|config| after.is_none_or(|after| config.id.as_str() > after));
    let items: Vec<_> = left.by_ref().take(page.items).collect();
    let documents = items
        .iter()
        .map(|config| document(&face.settings.place, config));
    let mut document = json!({ "CodeSigningConfigs": documents.collect::<Vec<_>>() });
    if let Some(last) = items.last().filter(|_| left.next().is_some()) {
        document["NextMarker"] = list::marker(last.id.as_str()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

/// The functions that have one; of those that the key is for.
pub(super) async fn functions(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let arn = named(asked)?;
    absent::permit(asked, Do::ListFunctionsByCodeSigningConfig)?;
    let page = Page::of(asked)?;
    let config = there(face, arn).await?;
    let config = config.ok_or_else(|| Refusal::no_signing(arn))?;
    let targets = face.control.scheduler.targets();
    let after = page.after.as_deref();
    // In the order of creation, which is that of their ids.
    let mut left = targets.iter().map(|target| &target.function).filter(|f| {
        f.aws.signing.as_ref() == Some(&config.id)
            && asked.caller.is_for(f.name.as_str())
            && after.is_none_or(|after| f.id.as_str() > after)
    });
    let items: Vec<_> = left.by_ref().take(page.items).collect();
    let place = &face.settings.place;
    let arns: Vec<_> = items.iter().map(|f| place.function(&f.name)).collect();
    let mut document = json!({ "FunctionArns": arns });
    if let Some(last) = items.last().filter(|_| left.next().is_some()) {
        document["NextMarker"] = list::marker(last.id.as_str()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn put_function(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (
        Do::PutFunctionCodeSigningConfig,
        "PutFunctionCodeSigningConfig",
    );
    let named = face.named(&asked, does, action)?;
    let mut fields = Fields::of(&asked.body)?;
    let Some(arn) = given(&mut fields)? else {
        fields.missing("CodeSigningConfigArn");
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    // As on AWS, before the function.
    let id = wanted(face, &arn).await?.id;
    let target = face.found(&named)?;
    unpublished(&named)?;
    if target.function.image().is_some() {
        return Err(Refusal::parameter(OF_IMAGES));
    }
    let changed = apply(face, asked, &target, move |current| {
        Ok(kept(current, |settings| {
            settings.signing = Some(id.clone())
        }))
    });
    let function = changed.await.map_err(|problem| match problem {
        Problem::NoSigning(_) => Refusal::no_code_signing(&arn),
        problem => problem.into(),
    })?;
    let document = json!({"CodeSigningConfigArn": arn, "FunctionName": function.name.as_str()});
    Ok(answer(StatusCode::OK, &document))
}

pub(super) fn get_function(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (
        Do::GetFunctionCodeSigningConfig,
        "GetFunctionCodeSigningConfig",
    );
    let target = face.found(&face.named(asked, does, action)?)?;
    let function = &target.function;
    if function.image().is_some() {
        return Err(Refusal::parameter(OF_IMAGES));
    }
    let document = match &function.aws.signing {
        Some(id) => json!({
            "CodeSigningConfigArn": face.settings.place.signing(id),
            "FunctionName": function.name.as_str(),
        }),
        // AWS says with nothing that there is none.
        None => json!({}),
    };
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn delete_function(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let (does, action) = (
        Do::DeleteFunctionCodeSigningConfig,
        "DeleteFunctionCodeSigningConfig",
    );
    let named = face.named(&asked, does, action)?;
    let target = face.found(&named)?;
    unpublished(&named)?;
    if target.function.aws.signing.is_some() {
        let changed = apply(face, asked, &target, |current| {
            Ok(kept(current, |settings| settings.signing = None))
        });
        changed.await?;
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What a function's code is to be held to, if a request says so.
pub(super) fn given(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let text = fields.text("CodeSigningConfigArn")?;
    let given = text.filter(|arn| !arn.is_empty());
    fields
        .faults
        .extend(given.iter().flat_map(|arn| faults(arn)));
    Ok(given)
}

/// The configuration a function is to have.
pub(super) async fn wanted(face: &Lambda, arn: &str) -> Result<Config, Refusal> {
    let config = there(face, arn).await?;
    config.ok_or_else(|| Refusal::no_code_signing(arn))
}

pub(super) async fn tag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let arn = resource(&asked).to_owned();
    permit_change(face, &asked.caller, Do::TagResource, "TagResource", &arn)?;
    retag(face, &arn, given_tags(&asked)?, |there, more| {
        with_more_tags(there, more)
    })
    .await
}

pub(super) async fn untag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let arn = resource(&asked).to_owned();
    let (does, action) = (Do::UntagResource, "UntagResource");
    permit_change(face, &asked.caller, does, action, &arn)?;
    retag(
        face,
        &arn,
        tag_keys(&asked)?,
        |there, keys: &Vec<String>| {
            let mut tags = there.clone();
            tags.retain(|key, _| !keys.contains(key));
            Ok(tags)
        },
    )
    .await
}

type Tags = BTreeMap<String, String>;

async fn retag<T>(
    face: &Lambda,
    arn: &str,
    given: T,
    make: impl Fn(&Tags, &T) -> Result<Tags, Refusal>,
) -> Result<Response<Body>, Refusal> {
    let id = id(&face.settings.place, arn).ok_or_else(no_resource)?;
    let changed = face.control.deploy.change_signing(&id, |config| {
        config.tags = make(&config.tags, &given)?;
        Ok::<_, Refusal>(())
    });
    changed.await?.ok_or_else(no_resource)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn tags(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    absent::permit(asked, Do::ListTags)?;
    let config = there(face, resource(asked)).await?;
    let config = config.ok_or_else(no_resource)?;
    Ok(answer(StatusCode::OK, &json!({ "Tags": config.tags })))
}

/// Whether the tags of one are meant.
pub(super) fn is_tagged(asked: &Asked) -> bool {
    names::resource(resource(asked)) == Some("code-signing-config")
}

fn resource(asked: &Asked) -> &str {
    asked.parameters.first().map_or("", String::as_str)
}

fn no_resource() -> Refusal {
    Refusal::not_found("The resource you requested does not exist.")
}

/// The ARN a path has.
fn named(asked: &Asked) -> Result<&str, Refusal> {
    let arn = resource(asked);
    absent::formed(faults(arn))?;
    Ok(arn)
}

fn faults(arn: &str) -> Vec<String> {
    let is = |text: &str| names::resource(text) == Some("code-signing-config");
    names::formed("codeSigningConfigArn", arn, ARN_MAX, ARN, is)
}

/// The one an ARN is of; none of elsewhere is here.
fn id(place: &Place, arn: &str) -> Option<Id> {
    let (_, id) = arn.rsplit_once(':')?;
    Id::parse(id).filter(|id| place.signing(id) == arn)
}

async fn there(face: &Lambda, arn: &str) -> Result<Option<Config>, Problem> {
    match id(&face.settings.place, arn) {
        Some(id) => face.control.deploy.signing(&id).await,
        None => Ok(None),
    }
}

/// Whoever changes one decides for functions of any name.
fn permit_change(
    face: &Lambda,
    caller: &Grant,
    does: Do,
    action: &str,
    arn: &str,
) -> Result<(), Refusal> {
    let permitted = caller.may(does.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))?;
    match caller.is_for_all() {
        true => Ok(()),
        false => Err(Refusal::denied(format!(
            "User: {} is not authorized to perform: lambda:{action} on resource: {arn} because this key is for some functions only",
            face.settings.place.user(&caller.name)
        ))),
    }
}

fn shown(face: &Lambda, status: StatusCode, config: &Config) -> Response<Body> {
    let document = document(&face.settings.place, config);
    answer(status, &json!({ "CodeSigningConfig": document }))
}

fn document(place: &Place, config: &Config) -> Value {
    let modified = config.modified_at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000");
    let mut document = json!({
        "CodeSigningConfigId": config.id.as_str(),
        "CodeSigningConfigArn": place.signing(&config.id),
        "AllowedPublishers": { PUBLISHERS: config.publishers },
        "CodeSigningPolicies": { "UntrustedArtifactOnDeployment": config.policy.as_str() },
        "LastModified": modified.to_string(),
    });
    if let Some(description) = &config.description {
        document["Description"] = description.as_str().into();
    }
    document
}
