//! CreateAlias, GetAlias, UpdateAlias, DeleteAlias and ListAliases.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::error::{FieldFault, Problem};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker};
use crate::api::lambda::names::{self, Named};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, document, empty, json as answer};
use crate::domain::function::Function;
use crate::domain::id::AliasName;
use crate::domain::version::{Alias, Second, VersionId, Wish};

const VERSION: &str = r"(\$LATEST(\.PUBLISHED)?|[0-9]+)";
const VERSION_MAX: usize = 1024;

pub(super) async fn create(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::CreateAlias, "CreateAlias")?;
    let mut fields = Fields::of(&asked.body)?;
    let Some(name) = fields.text("Name")? else {
        fields.missing("Name");
        return Err(Refusal::validation(&fields.faults));
    };
    let parsed = AliasName::parse(&name);
    fields.faults.extend(names::alias(&name));
    let wish = wish(&mut fields)?;
    if wish.version.is_none() {
        fields.missing("FunctionVersion");
    }
    fields.finish()?;
    let (Ok(parsed), Some(version)) = (parsed, wish.version) else {
        return Err(Refusal::validation(&fields.faults));
    };
    // Of a function that is not there, AWS misses the version.
    let target = face.latest(&named).ok_or_else(|| {
        let arn = face.settings.place.function(&named.name);
        Refusal::not_found(format!("Function not found: {arn}:{version}"))
    })?;
    let function = &target.function;
    let deploy = &face.control.deploy;
    let made = deploy.create_alias(asked.caller, function.id.to_string(), parsed, wish);
    let alias = made
        .await
        .map_err(|problem| refused(problem, face, &named, &name, Some(version)))?;
    let document = shown(face, function, &name, &alias);
    Ok(answer(StatusCode::CREATED, &document))
}

pub(super) fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::GetAlias, "GetAlias")?;
    let name = name(asked)?;
    let arn = || format!("{}:{name}", face.settings.place.function(&named.name));
    let missing = || Refusal::not_found(format!("Cannot find alias arn: {}", arn()));
    let target = face.latest(&named).ok_or_else(missing)?;
    let published = target.published();
    let (_, alias) = published.alias(name).ok_or_else(missing)?;
    Ok(answer(
        StatusCode::OK,
        &shown(face, &target.function, name, alias),
    ))
}

pub(super) async fn update(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::UpdateAlias, "UpdateAlias")?;
    let name = name(&asked)?.to_owned();
    let mut fields = Fields::of(&asked.body)?;
    let revision = fields.text("RevisionId")?;
    let mut wish = wish(&mut fields)?;
    fields.finish()?;
    let target = face.found(&named)?;
    let arn = || format!("{}:{name}", face.settings.place.function(&named.name));
    let published = target.published().clone();
    let missing = || Refusal::not_found(format!("Alias not found: {}", arn()));
    let (_, current) = published.alias(&name).ok_or_else(missing)?;
    let function = &target.function;
    if let Some(given) = revision {
        if given != revision_id(function, &name, current) {
            return Err(Refusal::stale());
        }
        // Compared once more when it is its turn.
        wish.revision = Some(current.revision);
    }
    let deploy = &face.control.deploy;
    let version = match wish.second {
        Some(Some(second)) => Some(VersionId::Number(second.version)),
        _ => wish.version,
    };
    let made = deploy.update_alias(asked.caller, function.id.to_string(), name.clone(), wish);
    let alias = made
        .await
        .map_err(|problem| refused(problem, face, &named, &name, version))?;
    Ok(answer(
        StatusCode::OK,
        &shown(face, function, &name, &alias),
    ))
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::DeleteAlias, "DeleteAlias")?;
    let name = name(&asked)?.to_owned();
    let target = face.found(&named)?;
    let (deploy, caller) = (&face.control.deploy, asked.caller.clone());
    let id = target.function.id.to_string();
    match deploy.delete_alias(caller, id, name, None).await {
        // As on AWS: it is not there, and that was wanted.
        Ok(()) | Err(Problem::NoAlias { .. }) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(problem) => Err(problem.into()),
    }
}

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::ListAliases, "ListAliases")?;
    let page = Page::of(asked)?;
    let version = asked
        .query("FunctionVersion")
        .filter(|text| !text.is_empty());
    if let Some(text) = version {
        let faults = version_faults(text);
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
    }
    let target = face.found(&named)?;
    let published = target.published();
    let wanted = |alias: &Alias| {
        let second = alias.second.map(|second| second.version.to_string());
        version.is_none_or(|v| alias.version.to_string() == v || second.as_deref() == Some(v))
    };
    let mut aliases = published.head.aliases.iter().filter(|(name, alias)| {
        page.after
            .as_deref()
            .is_none_or(|after| name.as_str() > after)
            && wanted(alias)
    });
    let items: Vec<_> = aliases.by_ref().take(page.items).collect();
    let more = aliases.next().is_some();
    let function = &target.function;
    let documents = items
        .iter()
        .map(|(name, alias)| shown(face, function, name.as_str(), alias));
    let mut document = json!({ "Aliases": documents.collect::<Vec<_>>() });
    if let Some((last, _)) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(last.as_str()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

fn name(asked: &Asked) -> Result<&str, Refusal> {
    let name = asked.parameters.get(1).map_or("", String::as_str);
    let faults = names::alias(name);
    match faults.is_empty() {
        true => Ok(name),
        false => Err(Refusal::validation(&faults)),
    }
}

fn version_faults(text: &str) -> Vec<String> {
    let is = |text: &str| text.parse::<VersionId>().is_ok();
    names::formed("functionVersion", text, VERSION_MAX, VERSION, is)
}

fn wish(fields: &mut Fields) -> Result<Wish, Refusal> {
    let version = fields.text("FunctionVersion")?;
    let parsed = version.as_ref().map(|text| text.parse::<VersionId>());
    if let Some(text) = &version {
        fields.faults.extend(version_faults(text));
    }
    Ok(Wish {
        version: parsed.and_then(Result::ok),
        second: second(fields)?,
        description: fields.up_to("Description", 256)?,
        revision: None,
    })
}

/// `Some(None)` takes it away: that is what an empty one means.
fn second(fields: &mut Fields) -> Result<Option<Option<Second>>, Refusal> {
    let Some(mut routing) = fields.open("RoutingConfig")? else {
        return Ok(None);
    };
    let weights = routing.entries("AdditionalVersionWeights")?;
    fields.close(routing);
    let Some(weights) = weights.filter(|weights| !weights.is_empty()) else {
        return Ok(Some(None));
    };
    if weights.len() > 1 {
        return Err(Refusal::parameter(
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ));
    }
    let Some((version, weight)) = weights.iter().next() else {
        return Ok(Some(None));
    };
    let number = version.parse().ok();
    let share = weight.as_f64().filter(|share| (0.0..=1.0).contains(share));
    match (number, share) {
        (Some(version), Some(weight)) => Ok(Some(Some(Second { version, weight }))),
        (None, _) => {
            let constraint = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]";
            fields.fault(
                "RoutingConfig.additionalVersionWeights",
                &written(version, weight),
                constraint,
            );
            Ok(None)
        }
        (_, None) => {
            let constraint = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]";
            fields.fault(
                "RoutingConfig.additionalVersionWeights",
                &written(version, weight),
                constraint,
            );
            Ok(None)
        }
    }
}

/// A map of one, as AWS prints it: with a point in its number.
fn written(version: &str, weight: &Value) -> String {
    match weight.as_f64() {
        Some(weight) => format!("{{{version}={weight:?}}}"),
        None => format!("{{{version}={weight}}}"),
    }
}

fn shown(face: &Lambda, function: &Function, name: &str, alias: &Alias) -> Value {
    let arn = face.settings.place.function(&function.name);
    let mut document = json!({
        "AliasArn": format!("{arn}:{name}"),
        "Name": name,
        "FunctionVersion": alias.version.to_string(),
        "Description": alias.description,
        "RevisionId": revision_id(function, name, alias),
    });
    if let Some(Second { version, weight }) = alias.second {
        document["RoutingConfig"] =
            json!({"AdditionalVersionWeights": {version.to_string(): weight}});
    }
    document
}

pub(super) fn revision_id(function: &Function, name: &str, alias: &Alias) -> String {
    let created = alias.created_at.as_nanosecond();
    document::opaque(&format!(
        "{}/alias/{name}/{created}/{}",
        function.id, alias.revision
    ))
}

/// What AWS says where Hearth says something else. `version` is the one that was asked for last.
fn refused(
    problem: Problem,
    face: &Lambda,
    named: &Named,
    alias: &str,
    version: Option<VersionId>,
) -> Refusal {
    let arn = face.settings.place.function(&named.name);
    let says = |faults: &[FieldFault], what| {
        let mut faults = faults.iter().filter(|fault| fault.field == "second");
        faults.any(|fault| fault.message.contains(what))
    };
    match problem {
        Problem::Invalid(faults) if says(&faults, "$LATEST") => {
            Refusal::limit("$LATEST is not supported for an alias pointing to more than 1 version")
        }
        Problem::Invalid(faults) if says(&faults, "another version") => {
            let version = version.unwrap_or(VersionId::Latest);
            Refusal::parameter(format!(
                "Invalid function version {version}. Function version {version} is already included in routing configuration."
            ))
        }
        Problem::AliasTaken { .. } => {
            Refusal::conflict(format!("Alias already exists: {arn}:{alias}"))
        }
        Problem::NoAlias { .. } => Refusal::not_found(format!("Alias not found: {arn}:{alias}")),
        Problem::NoVersion { qualifier, .. } => {
            Refusal::not_found(format!("Function not found: {arn}:{qualifier}"))
        }
        other => other.into(),
    }
}
