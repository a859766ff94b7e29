//! PutProvisionedConcurrencyConfig and its sisters: workers that are kept ready for a version or an alias. The native face has the same
//! ones; AWS has a version and an alias of it exclude each other, which is asked of AWS's clients here and of nobody else.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker};
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty, json as answer};
use crate::domain::version::{Published, Qualifier, VersionId};
use crate::scheduler::Target;
use crate::scheduler::provision::{Provisioning, Status};

/// AWS gives out no more at once.
const PAGE_MAX: usize = 50;
const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
const NEITHER: &str = "The function resource provided must be an alias or a published version.";

pub(super) async fn put(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::PutProvisionedConcurrencyConfig;
    let named = face.named(&asked, does, "PutProvisionedConcurrencyConfig")?;
    let field = "ProvisionedConcurrentExecutions";
    let mut fields = Fields::of(&asked.body)?;
    let wanted = fields.whole(field, 1, i64::from(i32::MAX))?;
    let (Some(wanted), Some(_)) = (wanted, &named.qualifier) else {
        if wanted.is_none() && fields.faults.is_empty() {
            fields.missing(field);
        }
        if named.qualifier.is_none() {
            fields.missing("Qualifier");
        }
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    let (target, qualifier) = found(face, &named, UNPUBLISHED)?;
    exclusive(target.published(), &qualifier)?;
    let deploy = &face.control.deploy;
    if wanted > deploy.account_concurrency {
        return Err(Refusal::limit(format!(
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{}].",
            deploy.account_concurrency
        )));
    }
    let id = target.function.id.to_string();
    let text = qualifier.to_string();
    let first = !target.published().head.provisioned.contains_key(&text);
    let done = deploy.provision(asked.caller, id, qualifier, wanted).await;
    done.map_err(|problem| too_many(problem, deploy.unreserved_least))?;
    let target = face.found(&named)?;
    let stands = face.control.scheduler.provisioning(&target, &text);
    let stands = stands.ok_or_else(Refusal::not_provisioned)?;
    // Of workers that were there before, the next question tells.
    let stands = Provisioning {
        status: Status::InProgress,
        ready: if first { 0 } else { stands.ready },
        reason: None,
        ..stands
    };
    Ok(answer(StatusCode::ACCEPTED, &shown(&stands)))
}

pub(super) fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::GetProvisionedConcurrencyConfig;
    let named = qualified(face, asked, does, "GetProvisionedConcurrencyConfig")?;
    let (target, qualifier) = found(face, &named, NEITHER)?;
    let qualifier = qualifier.to_string();
    let stands = face.control.scheduler.provisioning(&target, &qualifier);
    let stands = stands.ok_or_else(Refusal::not_provisioned)?;
    Ok(answer(StatusCode::OK, &shown(&stands)))
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::DeleteProvisionedConcurrencyConfig;
    let named = qualified(face, &asked, does, "DeleteProvisionedConcurrencyConfig")?;
    let (target, qualifier) = found(face, &named, NEITHER)?;
    let (deploy, id) = (&face.control.deploy, target.function.id.to_string());
    let gone = deploy.unprovision(asked.caller, id, qualifier.to_string());
    match gone.await {
        // As on AWS: there is none, and that was wanted.
        Ok(()) | Err(Problem::NotProvisioned { .. }) => Ok(empty(StatusCode::NO_CONTENT)),
        Err(problem) => Err(problem.into()),
    }
}

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListProvisionedConcurrencyConfigs;
    let named = face.named(asked, does, "ListProvisionedConcurrencyConfigs")?;
    let page = Page::up_to(PAGE_MAX, asked)?;
    let target = face.found(&named)?;
    let published = target.published();
    let mut all = published.head.provisioned.keys().filter_map(|qualifier| {
        let after = page.after.as_deref();
        let stands = after.is_none_or(|after| qualifier.as_str() > after);
        let stands = stands.then(|| face.control.scheduler.provisioning(&target, qualifier));
        Some((qualifier, stands.flatten()?))
    });
    let items: Vec<_> = all.by_ref().take(page.items).collect();
    let more = all.next().is_some();
    let documents = items.iter().map(|(qualifier, stands)| {
        let mut document = shown(stands);
        let place = &face.settings.place;
        document["FunctionArn"] = place.qualified(&named.name, Some(qualifier)).into();
        document
    });
    let mut document = json!({ "ProvisionedConcurrencyConfigs": documents.collect::<Vec<_>>() });
    if let Some((last, _)) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(last).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

/// The function a request names, with the qualifier that it has to have.
fn qualified(face: &Lambda, asked: &Asked, does: Do, action: &str) -> Result<Named, Refusal> {
    let named = face.named(asked, does, action)?;
    match named.qualifier {
        Some(_) => Ok(named),
        None => {
            let mut fields = Fields::of(b"")?;
            fields.missing("Qualifier");
            Err(Refusal::validation(&fields.faults))
        }
    }
}

/// The version or alias a request names; `unpublished` is what AWS says of the one that can be edited.
fn found(
    face: &Lambda,
    named: &Named,
    unpublished: &str,
) -> Result<(Arc<Target>, Qualifier), Refusal> {
    let text = named.qualifier.as_deref().unwrap_or_default();
    let target = face.latest(named);
    let published = target.as_ref().map(|target| target.published());
    let (qualifier, there) = match Qualifier::parse(text) {
        Ok(Qualifier::Version(VersionId::Latest)) => return Err(Refusal::parameter(unpublished)),
        Ok(Qualifier::Version(VersionId::Number(number))) => {
            let there = published.is_some_and(|p| p.version(number).is_some());
            (Qualifier::Version(VersionId::Number(number)), there)
        }
        Ok(Qualifier::Alias(name)) => {
            if published.is_none_or(|p| p.alias(name.as_str()).is_none()) {
                let arn = named.arn(&face.settings.place);
                return Err(Refusal::not_found(format!("Cannot find alias arn: {arn}")));
            }
            (Qualifier::Alias(name), true)
        }
        Err(_) => return Err(face.not_found(named)),
    };
    match target {
        Some(target) if there => Ok((target, qualifier)),
        _ => Err(face.not_found(named)),
    }
}

/// Not for a version and for an alias of it.
fn exclusive(published: &Published, qualifier: &Qualifier) -> Result<(), Refusal> {
    let versions = |name: &str| {
        let alias = published.alias(name).map(|(_, alias)| alias);
        let second = alias.and_then(|alias| alias.second);
        let second = second.map(|second| VersionId::Number(second.version));
        alias.map(|alias| alias.version).into_iter().chain(second)
    };
    match qualifier {
        Qualifier::Version(version) => {
            let mut others = published.head.provisioned.keys();
            match others.any(|name| versions(name).any(|of| of == *version)) {
                true => Err(Refusal::conflict(
                    "Version is pointed by a Provisioned Concurrency alias",
                )),
                false => Ok(()),
            }
        }
        Qualifier::Alias(name) => {
            let taken = |of: VersionId| published.head.provisioned.contains_key(&of.to_string());
            match versions(name.as_str()).any(taken) {
                true => Err(Refusal::conflict(
                    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
                )),
                false => Ok(()),
            }
        }
    }
}

/// Why there is no room for so many, in AWS's words where it has some.
fn too_many(problem: Problem, least: u32) -> Refusal {
    let Problem::Invalid(faults) = &problem else {
        return problem.into();
    };
    let says = |what: &str| faults.iter().any(|fault| fault.message.contains(what));
    if says("reserved_concurrency") {
        return Refusal::parameter(
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
        );
    }
    if says("unreserved") {
        return Refusal::limit(format!(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{least}]."
        ));
    }
    problem.into()
}

fn shown(stands: &Provisioning) -> Value {
    let at = stands.updated_at.strftime("%Y-%m-%dT%H:%M:%S+0000");
    let mut document = json!({
        "RequestedProvisionedConcurrentExecutions": stands.requested,
        "AvailableProvisionedConcurrentExecutions": stands.ready,
        "AllocatedProvisionedConcurrentExecutions": stands.ready,
        "Status": stands.status.as_str(),
        "LastModified": at.to_string(),
    });
    if stands.by_function {
        // AWS says no more; the native face does.
        document["StatusReason"] = "FUNCTION_ERROR_INIT_FAILURE".into();
    } else if let Some(reason) = &stands.reason {
        document["StatusReason"] = reason.as_str().into();
    }
    document
}
