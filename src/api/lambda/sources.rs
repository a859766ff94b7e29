//! Event source mappings: CreateEventSourceMapping and its sisters, and the tags that mappings have. Sources are queues, of the one service that
//! the configuration names. What they do, `sources` does; here they are written, and shown.

mod wish;

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::control::deploy::mappings::Kept;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker};
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::Do;
use crate::api::lambda::sources::wish::Wish;
use crate::api::lambda::{Asked, Lambda, Shown, change, json as answer, names, policy};
use crate::clock;
use crate::domain::id::FunctionName;
use crate::domain::mapping::{Edit, MAPPINGS_MAX, Mapping, MappingId, Queue, RECEIVE_MAX};
use crate::sources::queues::{Queues, Refusal as Unanswered};
use crate::store::mappings::Found;
use crate::store::record;

const ID_LENGTH: usize = 36;
/// Changes that are made anew when another one was faster.
const ATTEMPTS: usize = 3;
const KIND: &str = "event-source-mapping";

/// What is going on with a mapping, in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Creating,
    Enabling,
    Disabling,
    Updating,
    Deleting,
    /// Nothing: what it is.
    There,
}

pub(super) async fn create(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::CreateEventSourceMapping;
    let mut fields = Fields::of(&asked.body)?;
    let wish = Wish::read(&mut fields, true)?;
    if wish.function.is_none() {
        fields.missing("FunctionName");
    }
    fields.finish()?;
    let text = wish.function.as_deref().unwrap_or_default();
    let named = of_function(face, &asked, does, "CreateEventSourceMapping", text)?;
    let arn = wish.service()?;
    wish.of_queues()?;
    let queue = Queue::try_from(arn.to_owned())
        .map_err(|_odd| Refusal::parameter("Unrecognized event source."))?;
    let mut mapping = Mapping {
        id: MappingId::generate(),
        revision: 1,
        queue,
        function: name(&named)?,
        qualifier: named.qualifier.clone(),
        enabled: true,
        batch_size: RECEIVE_MAX,
        window_seconds: 0,
        filters: Vec::new(),
        reports_failures: false,
        concurrency: None,
        kms_key: None,
        metrics: Vec::new(),
        tags: wish.tags.clone().unwrap_or_default(),
        changed_at: clock::wall(),
    };
    wish.apply(&mut mapping)?;
    let shown = existing(face, &named)?;
    let queues = queues(face, &mapping.queue)?;
    let all = face.control.deploy.mappings().await?;
    let mut there = all.mappings.iter();
    if let Some(there) = there.find(|there| there.place() == mapping.place()) {
        return Err(taken(&mapping, there.id));
    }
    if all.mappings.len() + all.unreadable.len() >= MAPPINGS_MAX {
        return Err(Refusal::parameter(format!(
            "There are {MAPPINGS_MAX} event source mappings already."
        )));
    }
    reachable(queues, &mapping.queue, &shown).await?;
    match write(face, Edit::Put(Box::new(mapping.clone()))).await? {
        Kept::Yes => {}
        Kept::Taken(by) => return Err(taken(&mapping, by)),
        Kept::Stale => return Err(Problem::Contended.into()),
    }
    let state = match mapping.enabled {
        true => State::Creating,
        false => State::There,
    };
    Ok(answer(
        StatusCode::ACCEPTED,
        &document(face, &mapping, state),
    ))
}

pub(super) async fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::GetEventSourceMapping;
    let mapping = asked_for(face, asked, does, "GetEventSourceMapping").await?;
    let document = document(face, &mapping, State::There);
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListEventSourceMappings;
    permit(asked, does)?;
    let page = Page::of(asked)?;
    let source = asked.query("EventSourceArn").filter(|arn| !arn.is_empty());
    if let Some(source) = source {
        let (most, pattern) = (policy::TEXT_MAX, names::ANYTHING);
        let faults = names::formed("eventSourceArn", source, most, pattern, names::is_arn);
        if !faults.is_empty() {
            return Err(Refusal::validation(&faults));
        }
    }
    let function = match asked.query("FunctionName").filter(|name| !name.is_empty()) {
        Some(text) => Some(of_function(
            face,
            asked,
            does,
            "ListEventSourceMappings",
            text,
        )?),
        None => None,
    };
    // What cannot be read is of a function that nobody knows.
    let mut all = face.control.deploy.mappings().await?.mappings;
    all.sort_by_key(|mapping| mapping.id);
    let mut fits = all.iter().filter(|mapping| {
        let id = mapping.id.to_string();
        let of = function.as_ref().is_none_or(|named| {
            named.name == mapping.function.as_str() && named.qualifier == mapping.qualifier
        });
        of && source.is_none_or(|source| source == mapping.queue.to_string())
            && asked.caller.is_for(mapping.function.as_str())
            && page.after.as_ref().is_none_or(|after| id > *after)
    });
    let items: Vec<_> = fits.by_ref().take(page.items).collect();
    let more = fits.next().is_some();
    let documents = items
        .iter()
        .map(|mapping| document(face, mapping, State::There));
    let mut document = json!({ "EventSourceMappings": documents.collect::<Vec<_>>() });
    if let Some(last) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(&last.id.to_string()).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn update(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (Do::UpdateEventSourceMapping, "UpdateEventSourceMapping");
    permit(&asked, does)?;
    id(&asked)?;
    let mut fields = Fields::of(&asked.body)?;
    let wish = Wish::read(&mut fields, false)?;
    fields.finish()?;
    let text = wish.function.as_deref();
    let named = text.map(|text| of_function(face, &asked, does, action, text));
    let named = named.transpose()?;
    for _ in 0..ATTEMPTS {
        let before = asked_for(face, &asked, does, action).await?;
        wish.of_queues()?;
        let mut mapping = before.clone();
        if let Some(named) = &named {
            mapping.function = name(named)?;
            mapping.qualifier = named.qualifier.clone();
        }
        wish.apply(&mut mapping)?;
        mapping.revision += 1;
        mapping.changed_at = clock::wall();
        if let Some(named) = &named {
            let shown = existing(face, named)?;
            let queues = queues(face, &mapping.queue)?;
            reachable(queues, &mapping.queue, &shown).await?;
        }
        match write(face, Edit::Put(Box::new(mapping.clone()))).await? {
            Kept::Yes => {}
            Kept::Taken(by) => return Err(taken(&mapping, by)),
            Kept::Stale => continue,
        }
        let state = match (before.enabled, mapping.enabled) {
            (false, true) => State::Enabling,
            (true, false) => State::Disabling,
            _ => State::Updating,
        };
        return Ok(answer(
            StatusCode::ACCEPTED,
            &document(face, &mapping, state),
        ));
    }
    Err(Problem::Contended.into())
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::DeleteEventSourceMapping;
    let (id, found) = found(face, &asked, does, "DeleteEventSourceMapping").await?;
    write(face, Edit::Delete(id)).await?;
    let document = match &found {
        Ok(mapping) => document(face, mapping, State::Deleting),
        // All that is known of it.
        Err(_unreadable) => json!({
            "UUID": id.to_string(), "EventSourceMappingArn": arn(face, id), "State": "Deleting",
            "StateTransitionReason": "USER_INITIATED",
        }),
    };
    Ok(answer(StatusCode::ACCEPTED, &document))
}

/// The id that a request's path has; `None` if nothing can have it.
fn id(asked: &Asked) -> Result<Option<MappingId>, Refusal> {
    let text = asked.parameters.first().map_or("", String::as_str);
    if text.chars().count() > ID_LENGTH {
        let fault = names::longest("uUID", text, ID_LENGTH);
        return Err(Refusal::validation(&[fault]));
    }
    Ok(MappingId::parse(text))
}

/// The mapping that a request's path names, if its key is good for it.
async fn asked_for(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
) -> Result<Mapping, Refusal> {
    let (_, found) = found(face, asked, does, action).await?;
    found.map_err(|why| unreadable(&why))
}

/// The same, though it may not be readable.
async fn found(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
) -> Result<(MappingId, Found), Refusal> {
    permit(asked, does)?;
    let gone = || Refusal::not_found("The resource you requested does not exist.");
    let id = id(asked)?.ok_or_else(gone)?;
    let found = face.control.deploy.mapping(id).await?.ok_or_else(gone)?;
    permit_found(face, asked, (does, action), id, &found)?;
    Ok((id, found))
}

/// Nobody knows whose function one is for that cannot be read: it is for keys that are for all of them.
fn permit_found(
    face: &Lambda,
    asked: &Asked,
    (does, action): (Do, &str),
    id: MappingId,
    found: &Found,
) -> Result<(), Refusal> {
    let arn = || arn(face, id);
    match found {
        Ok(mapping) => {
            let name = mapping.function.as_str();
            face.permit_on(&asked.caller, does, action, name, arn)
        }
        Err(_unreadable) if asked.caller.is_for_all() => Ok(()),
        Err(_unreadable) => Err(Refusal::denied(format!(
            "User: {} is not authorized to perform: lambda:{action} on resource: {} because it cannot be read, and this key is for some functions only",
            face.settings.place.user(&asked.caller.name),
            arn()
        ))),
    }
}

fn unreadable(why: &record::Fault) -> Refusal {
    Refusal::service(format!(
        "The event source mapping does nothing: {why}. It can be deleted, and made anew."
    ))
}

fn permit(asked: &Asked, does: Do) -> Result<(), Refusal> {
    let permitted = asked.caller.may(does.scope());
    permitted.map_err(|denied| Refusal::from(Problem::from(denied)))
}

fn of_function(
    face: &Lambda,
    asked: &Asked,
    does: Do,
    action: &str,
    text: &str,
) -> Result<Named, Refusal> {
    let named = names::read(does.form(), text, None, &face.settings.place)?;
    face.permit(&asked.caller, does, action, &named)?;
    Ok(named)
}

fn no_function() -> Refusal {
    Refusal::parameter("Function does not exist")
}

fn name(named: &Named) -> Result<FunctionName, Refusal> {
    FunctionName::parse(&named.name).map_err(|_nobodys| no_function())
}

fn existing(face: &Lambda, named: &Named) -> Result<Shown, Refusal> {
    face.shown(named).map_err(|_absent| no_function())
}

/// Who is asked for a queue, if anybody is for one like it.
fn queues<'a>(face: &'a Lambda, queue: &Queue) -> Result<&'a Queues, Refusal> {
    let Some(queues) = face.sources.queues() else {
        return Err(Refusal::parameter(
            "SQS queues as event sources are not supported by this Hearth: have aws.sqs.endpoint in its configuration name the service that has them.",
        ));
    };
    if queue.region != queues.region() {
        return Err(Refusal::parameter(format!(
            "The queue has to be in region {}, which aws.sqs.region in the configuration of this Hearth says: {queue}",
            queues.region()
        )));
    }
    Ok(queues)
}

/// As AWS does, who makes a mapping looks whether its queue is there, and hides messages for long enough.
async fn reachable(queues: &Queues, queue: &Queue, shown: &Shown) -> Result<(), Refusal> {
    let look = async {
        let url = queues.url(queue).await?;
        queues.look(&url).await
    };
    let look = look.await.map_err(|unanswered| {
        if let Unanswered::Away { why, .. } = &unanswered {
            tracing::warn!(%queue, error = %unanswered, why, "a queue cannot be looked at");
        }
        refusal(&unanswered)
    })?;
    let (visibility, timeout) = (look.visibility.as_secs(), shown.function.timeout_seconds);
    match visibility < u64::from(timeout) {
        true => Err(Refusal::parameter(format!(
            "Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds"
        ))),
        false => Ok(()),
    }
}

fn refusal(unanswered: &Unanswered) -> Refusal {
    match unanswered {
        Unanswered::NoQueue => Refusal::parameter(
            "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.",
        ),
        Unanswered::Refused { code, message } => Refusal::parameter(format!(
            "Error occurred while ReceiveMessage. SQS Error Code: {code}. SQS Error Message: {message}"
        )),
        Unanswered::Denied(action) => Refusal::parameter(format!(
            "The key in aws.sqs of this Hearth does not have permissions to call {action} on SQS"
        )),
        // Nothing of it is the caller's doing, and it may pass.
        Unanswered::Key { .. } | Unanswered::NoRoom | Unanswered::Away { .. } => {
            Refusal::service(format!("The queue could not be looked at: {unanswered}."))
        }
    }
}

fn taken(mapping: &Mapping, by: MappingId) -> Refusal {
    let (queue, function) = (&mapping.queue, &mapping.function);
    Refusal::conflict(format!(
        "An event source mapping with SQS arn (\" {queue} \") and function (\" {function} \") already exists. Please update or delete the existing mapping with UUID {by}"
    ))
}

/// Writes an edit, and has the pollers know of it, whether or not anybody waits for that.
async fn write(face: &Lambda, edit: Edit) -> Result<Kept, Problem> {
    let sources = face.sources.clone();
    let told = move || sources.changed();
    face.control.deploy.clone().write_mapping(edit, told).await
}

fn arn(face: &Lambda, id: MappingId) -> String {
    face.settings.place.mapping(id)
}

fn document(face: &Lambda, mapping: &Mapping, state: State) -> Value {
    let state = match (state, mapping.enabled) {
        (State::Creating, _) => "Creating",
        (State::Enabling, _) => "Enabling",
        (State::Disabling, _) => "Disabling",
        (State::Updating, _) => "Updating",
        (State::Deleting, _) => "Deleting",
        (State::There, true) => "Enabled",
        (State::There, false) => "Disabled",
    };
    let place = &face.settings.place;
    let types: &[&str] = match mapping.reports_failures {
        true => &["ReportBatchItemFailures"],
        false => &[],
    };
    let mut document = json!({
        "UUID": mapping.id.to_string(),
        "EventSourceMappingArn": place.mapping(mapping.id),
        "EventSourceArn": mapping.queue.to_string(),
        "FunctionArn": place.qualified(&mapping.function, mapping.qualifier.as_deref()),
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": mapping.window_seconds,
        "FunctionResponseTypes": types,
        "LastModified": mapping.changed_at.as_millisecond() as f64 / 1000.0,
        "State": state,
        "StateTransitionReason": "USER_INITIATED",
    });
    // What is not set is not shown, or tools that compare would find a difference.
    if !mapping.filters.is_empty() {
        let filters = mapping.filters.iter();
        let filters = filters.map(|pattern| json!({ "Pattern": pattern }));
        document["FilterCriteria"] = json!({ "Filters": filters.collect::<Vec<_>>() });
    }
    if let Some(most) = mapping.concurrency {
        document["ScalingConfig"] = json!({ "MaximumConcurrency": most });
    }
    if let Some(key) = &mapping.kms_key {
        document["KMSKeyArn"] = key.as_str().into();
    }
    if !mapping.metrics.is_empty() {
        document["MetricsConfig"] = json!({ "Metrics": mapping.metrics });
    }
    if let Some(problem) = face.sources.problem(mapping) {
        document["LastProcessingResult"] = format!("PROBLEM: {problem}").into();
    }
    document
}

/// The mapping whose tags are asked for, by its ARN.
async fn tagged(face: &Lambda, asked: &Asked, does: Do, action: &str) -> Result<Mapping, Refusal> {
    permit(asked, does)?;
    let resource = asked.parameters.first().map_or("", String::as_str);
    let gone = || Refusal::not_found(format!("Event source mapping not found: {resource}"));
    let id = resource.rsplit_once(':').map_or("", |(_, id)| id);
    let id = MappingId::parse(id).filter(|id| arn(face, *id) == resource.to_ascii_lowercase());
    let id = id.ok_or_else(gone)?;
    let found = face.control.deploy.mapping(id).await?.ok_or_else(gone)?;
    permit_found(face, asked, (does, action), id, &found)?;
    found.map_err(|why| unreadable(&why))
}

/// Whether a request about tags is about a mapping's.
pub(super) fn is_tagged(asked: &Asked) -> bool {
    let resource = asked.parameters.first().map_or("", String::as_str);
    names::resource(resource) == Some(KIND)
}

pub(super) async fn tags(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let mapping = tagged(face, asked, Do::ListTags, "ListTags").await?;
    Ok(answer(StatusCode::OK, &json!({ "Tags": mapping.tags })))
}

pub(super) async fn tag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let more = change::given_tags(&asked)?;
    let does = (Do::TagResource, "TagResource");
    retag(face, &asked, does, |tags| {
        *tags = change::with_more_tags(tags, &more)?;
        Ok(())
    })
    .await
}

pub(super) async fn untag(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let keys = change::tag_keys(&asked)?;
    let does = (Do::UntagResource, "UntagResource");
    retag(face, &asked, does, |tags| {
        tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

async fn retag(
    face: &Lambda,
    asked: &Asked,
    (does, action): (Do, &str),
    edit: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
) -> Result<Response<Body>, Refusal> {
    for _ in 0..ATTEMPTS {
        let mut mapping = tagged(face, asked, does, action).await?;
        edit(&mut mapping.tags)?;
        mapping.revision += 1;
        match write(face, Edit::Put(Box::new(mapping))).await? {
            Kept::Yes => return Ok(super::empty(StatusCode::NO_CONTENT)),
            Kept::Stale | Kept::Taken(_) => {}
        }
    }
    Err(Problem::Contended.into())
}
