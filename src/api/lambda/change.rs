//! Small changes of a function: its reserved concurrency, its tags, and the settings that are kept for AWS's clients alone. Each is one change
//! of `Deploy`, made from the function as it is in its turn.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::control::change::{Change, Faults, TAGS_MAX};
use crate::api::control::draft::{Draft, Rules};
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::{self, Named};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, create, empty, json as answer, runtimes};
use crate::domain::aws;
use crate::domain::function::{Function, LATEST};
use crate::scheduler::Target;

/// Makes of a function what `make` says, in its turn.
pub(super) async fn apply<F>(
    face: &Lambda,
    asked: Asked,
    target: &Target,
    make: F,
) -> Result<Function, Problem>
where
    F: Fn(&Function) -> Result<Change, Problem> + Send + Sync + 'static,
{
    let id = target.function.id.to_string();
    let draft = move |current: &Function, rules: Rules<'_>| {
        Draft::next(make(current)?, Faults::default(), current, rules)
    };
    let deploy = &face.control.deploy;
    deploy
        .update_from(asked.caller, id, None, asked.room, draft)
        .await
}

/// A change of what only AWS's clients see.
pub(super) fn kept(current: &Function, edit: impl FnOnce(&mut aws::Settings)) -> Change {
    let mut settings = (*current.aws).clone();
    edit(&mut settings);
    Change {
        aws: Some(settings),
        ..Change::default()
    }
}

pub(super) async fn put_concurrency(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::PutFunctionConcurrency, "PutFunctionConcurrency")?;
    let mut fields = Fields::of(&asked.body)?;
    let most = i64::from(u32::MAX);
    let Some(wanted) = fields.whole("ReservedConcurrentExecutions", 0, most)? else {
        fields.missing("ReservedConcurrentExecutions");
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    let target = unqualified(face, &named)?;
    let deploy = &face.control.deploy;
    let too_much = || {
        Refusal::limit(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{}].",
            deploy.unreserved_least
        ))
    };
    if wanted > deploy.account_concurrency {
        return Err(too_much());
    }
    let provisioned = target.published().provisioned_in_all();
    let changed = apply(face, asked, &target, move |_| {
        Ok(Change {
            reserved_concurrency: Some(Some(wanted)),
            ..Change::default()
        })
    });
    changed.await.map_err(|problem| match &problem {
        Problem::Invalid(faults) if faults.iter().any(|f| f.field == "reserved_concurrency") => {
            match wanted < provisioned {
                true => Refusal::limit(format!(
                    " ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned concurrency [{provisioned}]."
                )),
                false => too_much(),
            }
        }
        _ => problem.into(),
    })?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "ReservedConcurrentExecutions": wanted }),
    ))
}

pub(super) fn get_concurrency(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::GetFunctionConcurrency, "GetFunctionConcurrency")?;
    // This one alone says it without `$LATEST`.
    let target = face.found(&named)?;
    let document = match target.function.reserved_concurrency {
        Some(reserved) => json!({ "ReservedConcurrentExecutions": reserved }),
        None => json!({}),
    };
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn delete_concurrency(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let (does, action) = (Do::DeleteFunctionConcurrency, "DeleteFunctionConcurrency");
    let named = face.named(&asked, does, action)?;
    let target = unqualified(face, &named)?;
    let changed = apply(face, asked, &target, |_| {
        Ok(Change {
            reserved_concurrency: Some(None),
            ..Change::default()
        })
    });
    changed.await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Only what is not published can be changed; who names something that is must not change the other by it.
pub(super) fn unpublished(named: &Named) -> Result<(), Refusal> {
    match named.qualifier.as_deref() {
        None | Some(LATEST) => Ok(()),
        Some(_) => Err(of_functions_only()),
    }
}

fn of_functions_only() -> Refusal {
    Refusal::parameter(
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.",
    )
}

fn unqualified(face: &Lambda, named: &Named) -> Result<std::sync::Arc<Target>, Refusal> {
    let target = face.latest(named).ok_or_else(|| {
        let arn = face.settings.place.function(&named.name);
        Refusal::not_found(format!("Function not found: {arn}:$LATEST"))
    })?;
    match &named.qualifier {
        None => Ok(target),
        Some(_) => Err(of_functions_only()),
    }
}

pub(super) async fn tag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let target = tagged(face, &asked, Do::TagResource, "TagResource")?;
    let more = given_tags(&asked)?;
    with_more_tags(&target.function.tags, &more)?;
    let changed = apply(face, asked, &target, move |current| {
        let mut tags = current.tags.clone();
        tags.extend(more.clone());
        Ok(with_tags(tags))
    });
    changed.await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn untag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let target = tagged(face, &asked, Do::UntagResource, "UntagResource")?;
    let keys = tag_keys(&asked)?;
    let changed = apply(face, asked, &target, move |current| {
        let mut tags = current.tags.clone();
        tags.retain(|key, _| !keys.contains(key));
        Ok(with_tags(tags))
    });
    changed.await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn tags(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let target = tagged(face, asked, Do::ListTags, "ListTags")?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "Tags": target.function.tags }),
    ))
}

/// The tags a request brings.
pub(super) fn given_tags(asked: &Asked) -> Result<BTreeMap<String, String>, Refusal> {
    let mut fields = Fields::of(&asked.body)?;
    let Some(more) = create::tags(&mut fields)? else {
        fields.missing("Tags");
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    match more.is_empty() {
        true => Err(Refusal::parameter(
            "An error occurred and the request cannot be processed.",
        )),
        false => Ok(more),
    }
}

/// Those there are, and more.
pub(super) fn with_more_tags(
    there: &BTreeMap<String, String>,
    more: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut all = there.clone();
    all.extend(more.clone());
    match all.len() <= TAGS_MAX {
        true => Ok(all),
        false => Err(Refusal::parameter(
            "Number of tags exceeds resource tag limit.",
        )),
    }
}

/// The keys of tags that a request takes away.
pub(super) fn tag_keys(asked: &Asked) -> Result<Vec<String>, Refusal> {
    let keys = asked.query.iter().filter(|(name, _)| name == "tagKeys");
    let keys: Vec<String> = keys.map(|(_, key)| key.clone()).collect();
    if keys.is_empty() {
        let fault = "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null";
        return Err(Refusal::validation(&[fault.into()]));
    }
    Ok(keys)
}

fn with_tags(tags: BTreeMap<String, String>) -> Change {
    Change {
        tags: Some(tags),
        ..Change::default()
    }
}

fn tagged(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
) -> Result<std::sync::Arc<Target>, Refusal> {
    let resource = asked.parameters.first().map_or("", String::as_str);
    match names::resource(resource) {
        Some("function") => {}
        None => {
            let fault = names::pattern("resource", resource, names::RESOURCE);
            return Err(Refusal::validation(&[fault]));
        }
        // Of these there are none.
        Some("capacity-provider") => {
            return Err(Refusal::not_found(format!(
                "Capacity provider not found: {resource}"
            )));
        }
        Some(_) => {
            return Err(Refusal::not_found(
                "The resource you requested does not exist.",
            ));
        }
    }
    let named = face.named(asked, does, action)?;
    if named.qualifier.is_some() {
        return Err(Refusal::parameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        ));
    }
    face.found(&named)
}

/// A setting that is one of a few words, and kept.
async fn put_word(
    face: &Lambda,
    asked: Asked,
    does: Do,
    (action, field, known): (&str, &'static str, &[&str]),
    set: fn(&mut aws::Settings, String),
) -> Result<(Named, String), Refusal> {
    let named = face.named(&asked, does, action)?;
    let mut fields = Fields::of(&asked.body)?;
    let Some(word) = fields.one_of(field, known)? else {
        fields.missing(field);
        return Err(Refusal::validation(&fields.faults));
    };
    fields.finish()?;
    let target = face.found(&named)?;
    let chosen = word.clone();
    let changed = apply(face, asked, &target, move |current| {
        Ok(kept(current, |settings| set(settings, word.clone())))
    });
    changed.await?;
    Ok((named, chosen))
}

pub(super) async fn put_recursion(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let what = (
        "PutFunctionRecursionConfig",
        "RecursiveLoop",
        &["Terminate", "Allow"][..],
    );
    let does = Do::PutFunctionRecursionConfig;
    let set = |settings: &mut aws::Settings, word| settings.recursive_loop = Some(word);
    let (_, word) = put_word(face, asked, does, what, set).await?;
    Ok(answer(StatusCode::OK, &json!({ "RecursiveLoop": word })))
}

pub(super) fn get_recursion(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (Do::GetFunctionRecursionConfig, "GetFunctionRecursionConfig");
    let target = face.found(&face.named(asked, does, action)?)?;
    let word = target
        .function
        .aws
        .recursive_loop
        .as_deref()
        .unwrap_or("Terminate");
    Ok(answer(StatusCode::OK, &json!({ "RecursiveLoop": word })))
}

pub(super) async fn put_runtime_management(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let known = &["Auto", "FunctionUpdate", "Manual"][..];
    let what = ("PutRuntimeManagementConfig", "UpdateRuntimeOn", known);
    let does = Do::PutRuntimeManagementConfig;
    let named = face.named(&asked, does, what.0)?;
    let mut fields = Fields::of(&asked.body)?;
    let manual = fields.one_of("UpdateRuntimeOn", known)?.as_deref() == Some("Manual");
    let (most, pattern) = (runtimes::VERSION_MAX, runtimes::VERSION);
    let is = |text: &str| names::is_arn(text) && text.contains(":runtime");
    let given = fields.formed("RuntimeVersionArn", most, pattern, is)?;
    fields.finish()?;
    let function = face.shown(&named)?.function;
    let there = runtime_version(face, &function);
    if given != there && (manual || given.is_some()) {
        // None is ever left behind for a newer one.
        return Err(Refusal::parameter(format!(
            "RuntimeVersionArn must be the version that the function has: {}.",
            there.as_deref().unwrap_or("none")
        )));
    }
    let set = |settings: &mut aws::Settings, word| settings.runtime_updates = Some(word);
    let (named, word) = put_word(face, asked, does, what, set).await?;
    let document = management(face, &named, &function, &word);
    Ok(answer(StatusCode::OK, &document))
}

pub(super) fn get_runtime_management(
    face: &Lambda,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let (does, action) = (Do::GetRuntimeManagementConfig, "GetRuntimeManagementConfig");
    let named = face.named(asked, does, action)?;
    let shown = face.shown(&named)?;
    let word = shown.latest.function.aws.runtime_updates.as_deref();
    let document = management(face, &named, &shown.function, word.unwrap_or("Auto"));
    Ok(answer(StatusCode::OK, &document))
}

fn runtime_version(face: &Lambda, function: &Function) -> Option<String> {
    runtimes::version_arn(&face.settings.place, &face.control.runtimes, function)
}

fn management(face: &Lambda, named: &Named, function: &Function, word: &str) -> Value {
    let qualifier = named.qualifier.as_deref().unwrap_or("$LATEST");
    let arn = format!("{}:{qualifier}", face.settings.place.function(&named.name));
    let mut document = json!({"UpdateRuntimeOn": word, "FunctionArn": arn});
    if word == "Manual" {
        document["RuntimeVersionArn"] = runtime_version(face, function).into();
    }
    document
}
