//! Layers: PublishLayerVersion, GetLayerVersion, GetLayerVersionByArn, ListLayers, ListLayerVersions, DeleteLayerVersion, the place a
//! layer's content is downloaded from, and which layers a function's request names. Who may use one is in `layer_policy`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::api::body::Body;
use crate::api::control::deploy::layers::Wanted;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{self, Page};
use crate::api::lambda::origin::Origin;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, code, document, empty, json as answer, names};
use crate::domain::aws::Place;
use crate::domain::function::Function;
use crate::domain::id::LayerName;
use crate::domain::key::Grant;
use crate::domain::layer::{self, Id, Version};
use crate::domain::limits::LAYERS_MAX;

/// As AWS prints them in its messages.
const NAME: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]{1,140}|[a-zA-Z0-9-_]{1,140})";
const ARN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)";
const ARN_MAX: usize = 2048;
/// AWS gives out no more at once.
const PAGE_MAX: usize = 50;
const DESCRIPTION_MAX: usize = 256;
const LICENSE_MAX: usize = 512;
const RUNTIMES_MAX: usize = 15;
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];

/// The runtimes that AWS knows a layer can be for: a layer may be for some that are not here.
fn known_runtimes() -> Vec<&'static str> {
    include_str!("../../../config/layer-runtimes.txt")
        .lines()
        .collect()
}

/// A layer's ARN, taken apart; with its version if it has one.
#[derive(Debug, PartialEq, Eq)]
struct Arn<'a> {
    region: &'a str,
    account: &'a str,
    name: LayerName,
    /// Its digits.
    number: Option<&'a str>,
}

impl<'a> Arn<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (partition, rest) = text.strip_prefix("arn:")?.split_once(":lambda:")?;
        let good = |c: char| c.is_ascii_alphabetic() || c == '-';
        (partition.starts_with("aws") && partition.chars().all(good)).then_some(())?;
        let (region, rest) = rest.split_once(':')?;
        let (account, rest) = rest.split_once(':')?;
        let (name, number) = match rest.strip_prefix("layer:")?.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (rest.strip_prefix("layer:")?, None),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let whole = names::is_region(region)
            && account.len() == 12
            && digits(account)
            && number.is_none_or(digits);
        whole.then_some(())?;
        Some(Self {
            region,
            account,
            name: LayerName::parse(name).ok()?,
            number,
        })
    }

    fn is_here(&self, place: &Place) -> bool {
        self.region == place.region && self.account == place.account
    }

    /// The version, if it can be one: there is no version 0, and none beyond what can be counted.
    fn id(&self) -> Option<Id> {
        let number = self.number?.parse().ok().filter(|number| *number > 0)?;
        Some(Id {
            name: self.name.clone(),
            number,
        })
    }
}

pub(super) fn arn(place: &Place, id: &Id) -> String {
    format!("{}:{}", place.layer(&id.name), id.number)
}

pub(super) async fn publish(face: &Lambda, mut asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::PublishLayerVersion;
    let name = named(face, &asked, does, "PublishLayerVersion")?;
    let mut fields = Fields::read(&mut asked).await?;
    let description = fields.up_to("Description", DESCRIPTION_MAX)?;
    let license = fields.up_to("LicenseInfo", LICENSE_MAX)?;
    let runtimes = runtimes(&mut fields)?;
    let architectures = architectures(&mut fields)?;
    let Some(mut content) = fields.open("Content")? else {
        fields.missing("Content");
        return Err(Refusal::validation(&fields.faults));
    };
    let origin = Origin::read(&mut content)?;
    fields.close(content);
    fields.finish()?;
    let content = origin.content("Please provide a source for layer content.")?;
    let wanted = Wanted {
        name,
        description: description.unwrap_or_default(),
        license,
        runtimes,
        architectures,
    };
    let zip = content.bring(face, &mut asked).await?;
    let (deploy, room) = (&face.control.deploy, asked.room);
    let version = deploy.publish_layer(wanted, ("code", zip), room).await?;
    let asker = (&asked.caller, &asked.parts);
    let document = document_of(face, asker, &version)?;
    Ok(answer(StatusCode::CREATED, &document))
}

fn runtimes(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(list) = fields.list("CompatibleRuntimes")? else {
        return Ok(None);
    };
    let known = known_runtimes();
    let value = format!("[{}]", list.join(", "));
    if !list.iter().all(|name| known.contains(&name.as_str())) {
        let constraint = format!("Member must satisfy enum value set: [{}]", known.join(", "));
        fields.fault("CompatibleRuntimes", &value, &constraint);
    }
    if list.len() > RUNTIMES_MAX {
        let constraint = format!("Member must have length less than or equal to {RUNTIMES_MAX}");
        fields.fault("CompatibleRuntimes", &value, &constraint);
    }
    Ok(Some(list))
}

fn architectures(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(list) = fields.list("CompatibleArchitectures")? else {
        return Ok(None);
    };
    let value = format!("[{}]", list.join(", "));
    if !list
        .iter()
        .all(|name| ARCHITECTURES.contains(&name.as_str()))
    {
        let constraint = "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]";
        fields.fault("CompatibleArchitectures", &value, constraint);
    }
    if list.len() > ARCHITECTURES.len() {
        let constraint = "Member must have length less than or equal to 2";
        fields.fault("CompatibleArchitectures", &value, constraint);
    }
    Ok(Some(list))
}

pub(super) async fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let (name, number) = version(face, asked, Do::GetLayerVersion, "GetLayerVersion")?;
    shown(face, asked, &Id { name, number }).await
}

pub(super) async fn get_by_arn(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let text = asked.query("Arn").unwrap_or_default();
    let read = Arn::read(text).filter(|arn| arn.number.is_some());
    let Some(read) = read else {
        let faults = names::formed("arn", text, ARN_MAX, ARN, |_| false);
        return Err(Refusal::validation(&faults));
    };
    let does = Do::GetLayerVersionByArn;
    // The action is the one by which a layer is read, whatever names it.
    permit(face, &asked.caller, does, "GetLayerVersion", &read.name)?;
    if !read.is_here(&face.settings.place) {
        return Err(elsewhere(&asked.caller, face, text));
    }
    match read.id() {
        Some(id) => shown(face, asked, &id).await,
        None => Err(gone()),
    }
}

async fn shown(face: &Lambda, asked: &Asked, id: &Id) -> Result<Response<Body>, Refusal> {
    let version = face.control.deploy.layer(id).await?.ok_or_else(gone)?;
    let document = document_of(face, (&asked.caller, &asked.parts), &version)?;
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn download(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let (name, number) = version(face, asked, Do::DownloadLayer, "GetLayerVersion")?;
    let found = face.control.deploy.layer(&Id { name, number }).await?;
    let version = found.ok_or_else(gone)?;
    code::zip(face, &version.content.sha256, &version.id).await
}

pub(super) async fn versions(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let name = named(face, asked, Do::ListLayerVersions, "ListLayerVersions")?;
    let filter = Filter::of(asked)?;
    let page = Page::up_to(PAGE_MAX, asked)?;
    let after = page.after.map(|text| text.parse::<u64>());
    let after = after.transpose().map_err(|_odd| list::wrong_marker())?;
    let mut all = face.control.deploy.layers().await?;
    all.retain(|version| version.id.name == name && filter.takes(version));
    // The newest first.
    let mut left = all.iter().rev().filter(|version| {
        let number = version.id.number;
        after.is_none_or(|after| number < after)
    });
    let items: Vec<_> = left.by_ref().take(page.items).collect();
    let documents = items.iter().map(|version| listed(face, version));
    let mut document = json!({ "LayerVersions": documents.collect::<Vec<_>>() });
    if let Some(last) = items.last().filter(|_| left.next().is_some()) {
        document["NextMarker"] = list::marker(&last.id.number.to_string()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn layers(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let permitted = asked.caller.may(Do::ListLayers.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))?;
    let filter = Filter::of(asked)?;
    let page = Page::up_to(PAGE_MAX, asked)?;
    let mut all = face.control.deploy.layers().await?;
    all.retain(|version| asked.caller.is_for(version.id.name.as_str()) && filter.takes(version));
    // Of each layer the last that was found, which is the newest.
    let newest = |at: usize| match all.get(at + 1) {
        Some(next) => next.id.name != all[at].id.name,
        None => true,
    };
    let latest = (0..all.len()).filter(|at| newest(*at)).map(|at| &all[at]);
    let mut left = latest.filter(|version| {
        let name = version.id.name.as_str();
        page.after.as_deref().is_none_or(|after| name > after)
    });
    let items: Vec<_> = left.by_ref().take(page.items).collect();
    let documents = items.iter().map(|version| {
        let name = &version.id.name;
        json!({
            "LayerName": name.as_str(),
            "LayerArn": face.settings.place.layer(name),
            "LatestMatchingVersion": listed(face, version),
        })
    });
    let mut document = json!({ "Layers": documents.collect::<Vec<_>>() });
    if let Some(last) = items.last().filter(|_| left.next().is_some()) {
        document["NextMarker"] = list::marker(last.id.name.as_str()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let (name, number) = version(face, &asked, Do::DeleteLayerVersion, "DeleteLayerVersion")?;
    face.control
        .deploy
        .delete_layer(Id { name, number })
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The layers a function shall have: which there are of those that were given. What `current` has need not be there any more.
pub(super) async fn wanted(
    face: &Lambda,
    current: Option<&Function>,
    caller: &Arc<Grant>,
    given: Option<&[String]>,
) -> Result<Option<Vec<Id>>, Refusal> {
    let Some(given) = given else {
        return Ok(None);
    };
    if given.len() > LAYERS_MAX {
        return Err(Refusal::parameter("Cannot reference more than 5 layers."));
    }
    let place = &face.settings.place;
    let read = given.iter().filter_map(|text| Arn::read(text));
    let arns: Vec<_> = read.collect();
    if arns.iter().any(|arn| arn.region != place.region) {
        return Err(Refusal::parameter(format!(
            "Layers are not in the same region as the function. Layers are expected to be in region {}.",
            place.region
        )));
    }
    for (text, arn) in given.iter().zip(&arns) {
        permit(
            face,
            caller,
            Do::GetLayerVersion,
            "GetLayerVersion",
            &arn.name,
        )?;
        if !arn.is_here(place) {
            return Err(elsewhere(caller, face, text));
        }
    }
    let missing = |text: &str| Refusal::parameter(format!("Layer version {text} does not exist."));
    let mut ids = Vec::new();
    for (text, arn) in given.iter().zip(&arns) {
        ids.push(arn.id().ok_or_else(|| missing(text))?);
    }
    if let Some((one, other)) = layer::twice(&ids) {
        return Err(Refusal::parameter(format!(
            "Two different versions of the same layer are not allowed to be referenced in the same function. {} and {} are versions of the same layer.",
            self::arn(place, one),
            self::arn(place, other)
        )));
    }
    for (text, id) in given.iter().zip(&ids) {
        let mut there = current.into_iter().flat_map(|current| &current.layers);
        let kept = there.any(|layer| layer.id == *id);
        if !kept && face.control.deploy.layer(id).await?.is_none() {
            return Err(missing(text));
        }
    }
    Ok(Some(ids))
}

/// The ARNs in a function's request, in their form.
pub(super) fn given(fields: &mut Fields) -> Result<Option<Vec<String>>, Refusal> {
    let Some(list) = fields.list("Layers")? else {
        return Ok(None);
    };
    let good = |text: &String| {
        text.len() <= ARN_MAX && Arn::read(text).is_some_and(|arn| arn.number.is_some())
    };
    if !list.iter().all(good) {
        let constraint = format!(
            "Member must satisfy constraint: [Member must have length less than or equal to {ARN_MAX}, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: {ARN}, Member must not be null]"
        );
        fields.fault("Layers", &format!("[{}]", list.join(", ")), &constraint);
    }
    Ok(Some(list))
}

/// A function's layers, as its configuration shows them.
pub(super) fn of_function(place: &Place, function: &Function) -> Value {
    let layers = function
        .layers
        .iter()
        .map(|layer| json!({"Arn": arn(place, &layer.id), "CodeSize": layer.content.size}));
    layers.collect()
}

/// What a list of layers is to show.
struct Filter<'a> {
    runtime: Option<&'a str>,
    architecture: Option<&'a str>,
}

impl<'a> Filter<'a> {
    fn of(asked: &'a Asked) -> Result<Self, Refusal> {
        let runtime = asked.query("CompatibleRuntime");
        let architecture = asked.query("CompatibleArchitecture");
        let mut faults = Vec::new();
        let mut check = |field: &str, value: Option<&str>, known: &[&str]| {
            if let Some(value) = value.filter(|value| !known.contains(value)) {
                let constraint =
                    format!("Member must satisfy enum value set: [{}]", known.join(", "));
                faults.push(names::fault(field, value, &constraint));
            }
        };
        check("compatibleRuntime", runtime, &known_runtimes());
        check("compatibleArchitecture", architecture, &ARCHITECTURES);
        match faults.is_empty() {
            true => Ok(Self {
                runtime,
                architecture,
            }),
            false => Err(Refusal::validation(&faults)),
        }
    }

    fn takes(&self, version: &Version) -> bool {
        let has = |list: &Option<Vec<String>>, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| list.iter().flatten().any(|one| one == wanted))
        };
        has(&version.runtimes, self.runtime) && has(&version.architectures, self.architecture)
    }
}

/// A version with where its content is, for who asks and whom they tell.
fn document_of(
    face: &Lambda,
    asker: (&Arc<Grant>, &http::request::Parts),
    version: &Version,
) -> Result<Value, Refusal> {
    let Id { name, number } = &version.id;
    let path = format!("/2018-10-31/layers/{name}/versions/{number}/content");
    let mut document = details(version);
    document.insert("LayerArn".into(), face.settings.place.layer(name).into());
    let arn = arn(&face.settings.place, &version.id);
    document.insert("LayerVersionArn".into(), arn.into());
    let content = &version.content;
    let content = json!({
        "Location": code::signed(face, asker, &path)?,
        "CodeSha256": document::code_sha256(&content.sha256),
        "CodeSize": content.size,
    });
    document.insert("Content".into(), content);
    Ok(Value::Object(document))
}

fn listed(face: &Lambda, version: &Version) -> Value {
    let mut document = details(version);
    // AWS has it in lists only where there is one.
    if version.description.is_empty() {
        document.remove("Description");
    }
    let arn = arn(&face.settings.place, &version.id);
    document.insert("LayerVersionArn".into(), arn.into());
    Value::Object(document)
}

fn details(version: &Version) -> Map<String, Value> {
    let mut document = Map::new();
    let mut set = |name: &str, value: Value| {
        document.insert(name.to_owned(), value);
    };
    set("Version", version.id.number.into());
    set("Description", version.description.as_str().into());
    let created = version.created_at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000");
    set("CreatedDate", created.to_string().into());
    if let Some(runtimes) = &version.runtimes {
        set("CompatibleRuntimes", json!(runtimes));
    }
    if let Some(architectures) = &version.architectures {
        set("CompatibleArchitectures", json!(architectures));
    }
    if let Some(license) = &version.license {
        set("LicenseInfo", license.as_str().into());
    }
    document
}

/// The layer a path names, whether or not there is one, if the key is good for it.
pub(super) fn named(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
) -> Result<LayerName, Refusal> {
    let text = asked.parameters.first().map_or("", String::as_str);
    let place = &face.settings.place;
    let name = match Arn::read(text).filter(|arn| arn.number.is_none()) {
        Some(arn) => {
            permit(face, &asked.caller, does, action, &arn.name)?;
            if !arn.is_here(place) {
                return Err(elsewhere(&asked.caller, face, text));
            }
            return Ok(arn.name);
        }
        None => LayerName::parse(text),
    };
    let name = name.map_err(|_why| {
        Refusal::validation(&names::formed("layerName", text, ARN_MAX, NAME, |_| false))
    })?;
    permit(face, &asked.caller, does, action, &name)?;
    Ok(name)
}

/// And the number of its version.
pub(super) fn version(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
) -> Result<(LayerName, u64), Refusal> {
    let name = named(face, asked, does, action)?;
    let text = asked.parameters.get(1).map_or("", String::as_str);
    match text.parse::<i64>() {
        Ok(number) if number > 0 => Ok((name, number.unsigned_abs())),
        Ok(_) => Err(Refusal::parameter("Layer Version Cannot be less than 1")),
        Err(_) => Err(Refusal::serialization(
            "STRING_VALUE can not be converted to a Long",
        )),
    }
}

fn permit(
    face: &Lambda,
    caller: &Grant,
    does: Do,
    action: &str,
    name: &LayerName,
) -> Result<(), Refusal> {
    face.permit_on(caller, does, action, name.as_str(), || {
        face.settings.place.layer(name)
    })
}

/// Another account's, or another region's: nobody can have been let in there.
fn elsewhere(caller: &Grant, face: &Lambda, arn: &str) -> Refusal {
    Refusal::denied(format!(
        "User: {} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action",
        face.settings.place.user(&caller.name)
    ))
}

fn gone() -> Refusal {
    Refusal::not_found("The resource you requested does not exist.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_taken_apart() {
        let arn = Arn::read("arn:aws:lambda:us-east-1:000000000000:layer:a_b-1:12").expect("one");
        assert_eq!((arn.region, arn.account), ("us-east-1", "000000000000"));
        assert_eq!(arn.id().expect("a version").to_string(), "a_b-1:12");
        assert!(arn.is_here(&Place::default()));
        let bare = Arn::read("arn:aws-cn:lambda:eu-west-1:000000000000:layer:a").expect("one");
        assert_eq!((bare.number, bare.id()), (None, None));
        assert!(!bare.is_here(&Place::default()));
        for no_version in ["0", "99999999999999999999"] {
            let text = format!("arn:aws:lambda:us-east-1:000000000000:layer:a:{no_version}");
            assert_eq!(Arn::read(&text).expect("well formed").id(), None);
        }
        for bad in [
            "",
            "a",
            "arn:aws:lambda:us-east-1:000000000000:function:a",
            "arn:aws:lambda:us-east-1:00000000000:layer:a:1",
            "arn:aws:lambda:nowhere:000000000000:layer:a:1",
            "arn:aws:lambda:us-east-1:000000000000:layer::1",
            "arn:aws:lambda:us-east-1:000000000000:layer:a:",
            "arn:aws:lambda:us-east-1:000000000000:layer:a:x",
            "arn:aws:lambda:us-east-1:000000000000:layer:a:1:2",
            "arn:gcp:lambda:us-east-1:000000000000:layer:a:1",
        ] {
            assert_eq!(Arn::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_runtimes_of_layers_are_listed_once() {
        let known = known_runtimes();
        let mut sorted = known.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(known, sorted);
        assert!(
            known
                .iter()
                .all(|name| !name.is_empty() && name.trim() == *name)
        );
    }
}
