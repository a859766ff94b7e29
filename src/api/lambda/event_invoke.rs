//! PutFunctionEventInvokeConfig and its sisters: how asynchronous calls are run, for a function, a version or an alias. Those of `$LATEST`
//! are the function's own, which the native face has too. What a destination's ARN means here, `destination` says; what nothing stands for
//! is refused.

pub(super) mod destination;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::control::change::Change;
use crate::api::lambda::change::{apply, kept};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker};
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty, json as answer};
use crate::clock;
use crate::domain::destination::{Asynchronous, Destination};
use crate::domain::function::LATEST;
use crate::domain::limits::{EVENT_AGE_SECONDS, EVENT_RETRIES};
use crate::domain::version::{EventSettings, Qualifier, VersionId};
use crate::scheduler::Target;

/// AWS gives out no more at once.
const PAGE_MAX: usize = 50;

pub(super) async fn put(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::PutFunctionEventInvokeConfig;
    let named = face.named(&asked, does, "PutFunctionEventInvokeConfig")?;
    let given = Given::read(&asked.body)?;
    let target = existing(face, &named)?;
    let change = Change {
        max_retries: Some(given.retries),
        max_event_age: Some(given.age),
        on_success: Some(
            meant(face, &named, &given, &given.on_success)
                .await?
                .flatten(),
        ),
        on_failure: Some(
            meant(face, &named, &given, &given.on_failure)
                .await?
                .flatten(),
        ),
        ..Change::default()
    };
    write(face, asked, &named, &target, change, false).await
}

/// What is left out stays.
pub(super) async fn update(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::UpdateFunctionEventInvokeConfig;
    let named = face.named(&asked, does, "UpdateFunctionEventInvokeConfig")?;
    let given = Given::read(&asked.body)?;
    let target = existing(face, &named)?;
    if settings(&target, qualifier(&named)).is_none() {
        return Err(none(face, &named));
    }
    let change = Change {
        max_retries: given.retries.map(Some),
        max_event_age: given.age.map(Some),
        on_success: meant(face, &named, &given, &given.on_success).await?,
        on_failure: meant(face, &named, &given, &given.on_failure).await?,
        ..Change::default()
    };
    write(face, asked, &named, &target, change, true).await
}

pub(super) fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::GetFunctionEventInvokeConfig;
    let named = face.named(asked, does, "GetFunctionEventInvokeConfig")?;
    let found = face.latest(&named);
    let found = found.and_then(|target| settings(&target, qualifier(&named)));
    let settings = found.ok_or_else(|| none(face, &named))?;
    let document = shown(face, &named.name, qualifier(&named), &settings);
    Ok(answer(StatusCode::OK, &document))
}

pub(super) fn list(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::ListFunctionEventInvokeConfigs;
    let named = face.named(asked, does, "ListFunctionEventInvokeConfigs")?;
    let page = Page::up_to(PAGE_MAX, asked)?;
    let target = face.latest(&named).ok_or_else(missing)?;
    let published = target.published();
    let others = published.head.events.keys().map(String::as_str);
    // It sorts before every number and every name.
    let mut all = [LATEST].into_iter().chain(others).filter_map(|qualifier| {
        let after = page.after.as_deref().is_none_or(|after| qualifier > after);
        let settings = settings(&target, qualifier).filter(|_| after)?;
        Some((qualifier, settings))
    });
    let items: Vec<_> = all.by_ref().take(page.items).collect();
    let more = all.next().is_some();
    let documents = items
        .iter()
        .map(|(qualifier, settings)| shown(face, &named.name, qualifier, settings));
    let mut document = json!({ "FunctionEventInvokeConfigs": documents.collect::<Vec<_>>() });
    if let Some((last, _)) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(last).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::DeleteFunctionEventInvokeConfig;
    let named = face.named(&asked, does, "DeleteFunctionEventInvokeConfig")?;
    let qualifier = qualifier(&named);
    let there = |target: &Target| settings(target, qualifier).is_some();
    let found = face.latest(&named).filter(|target| there(target));
    let target = found.ok_or_else(|| none(face, &named))?;
    if qualifier == LATEST {
        let gone = apply(face, asked, &target, |current| {
            Ok(Change {
                max_retries: Some(None),
                max_event_age: Some(None),
                on_success: Some(None),
                on_failure: Some(None),
                ..kept(current, |settings| settings.events_at = None)
            })
        });
        gone.await?;
    } else {
        let (deploy, id) = (&face.control.deploy, target.function.id.to_string());
        let gone = deploy.unset_events(asked.caller, id, qualifier.into());
        if !gone.await? {
            return Err(none(face, &named));
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What a request says, as it says it.
struct Given {
    retries: Option<u32>,
    age: Option<u32>,
    /// `Some(None)` takes it away: that is what an empty one means.
    on_success: Option<Option<String>>,
    on_failure: Option<Option<String>>,
}

impl Given {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let known = [
            "MaximumRetryAttempts",
            "MaximumEventAgeInSeconds",
            "DestinationConfig",
        ];
        if !known.iter().any(|field| fields.has(field)) {
            return Err(Refusal::parameter(
                "You must specify at least one of error handling or destination setting.",
            ));
        }
        let (retries, age) = (EVENT_RETRIES, EVENT_AGE_SECONDS);
        let bounds = |range: &std::ops::RangeInclusive<u32>| {
            (i64::from(*range.start()), i64::from(*range.end()))
        };
        let ((few, many), (young, old)) = (bounds(&retries), bounds(&age));
        let mut given = Self {
            retries: fields.whole(known[0], few, many)?,
            age: fields.whole(known[1], young, old)?,
            on_success: None,
            on_failure: None,
        };
        if let Some(mut both) = fields.open(known[2])? {
            given.on_success = destination::read(&mut both, "OnSuccess")?;
            given.on_failure = destination::read(&mut both, "OnFailure")?;
            fields.close(both);
        }
        fields.finish()?;
        Ok(given)
    }
}

async fn meant(
    face: &Lambda,
    named: &Named,
    given: &Given,
    text: &Option<Option<String>>,
) -> Result<Option<Option<Destination>>, Refusal> {
    let Some(Some(text)) = text else {
        return Ok(text.as_ref().map(|_empty| None));
    };
    let meant = destination::meant(face, &named.name, text).await;
    let part = |name: &str, text: &Option<Option<String>>| match text {
        Some(Some(text)) => format!("{name}(destination={text})"),
        _ => "null".into(),
    };
    meant
        .map(|to| Some(Some(to)))
        .map_err(|unmeant| match unmeant {
            destination::Unmeant::Said(why) => Refusal::parameter(why),
            destination::Unmeant::Unasked(why) => Refusal::service(why),
            destination::Unmeant::Service => Refusal::parameter(format!(
                "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid.",
                part("OnSuccess", &given.on_success),
                part("OnFailure", &given.on_failure)
            )),
        })
}

/// Writes what is to be, and answers with what is then there.
async fn write(
    face: &Lambda,
    asked: Asked,
    named: &Named,
    target: &Target,
    change: Change,
    only_there: bool,
) -> Result<Response<Body>, Refusal> {
    let text = qualifier(named);
    let qualifier = Qualifier::parse(text).map_err(|_odd| missing())?;
    let settings = if qualifier == Qualifier::Version(VersionId::Latest) {
        let now = clock::wall();
        let make = move |current: &_| {
            Ok(Change {
                max_retries: change.max_retries,
                max_event_age: change.max_event_age,
                on_success: change.on_success.clone(),
                on_failure: change.on_failure.clone(),
                ..kept(current, |settings| settings.events_at = Some(now))
            })
        };
        let written = apply(face, asked, target, make).await?;
        EventSettings {
            asynchronous: (*written.asynchronous).clone(),
            updated_at: now,
        }
    } else {
        let (deploy, id) = (&face.control.deploy, target.function.id.to_string());
        let written = deploy.set_events(asked.caller, id, qualifier, change, only_there);
        written.await?.ok_or_else(|| none(face, named))?
    };
    let document = shown(face, &named.name, text, &settings);
    Ok(answer(StatusCode::OK, &document))
}

/// What there is at a qualifier. The function's own settings are there when one of them is set, whoever set it.
fn settings(target: &Target, qualifier: &str) -> Option<EventSettings> {
    if qualifier != LATEST {
        return target.published().head.events.get(qualifier).cloned();
    }
    let function = &target.function;
    let at = function.aws.events_at;
    let there = at.is_some() || *function.asynchronous != Asynchronous::default();
    there.then(|| EventSettings {
        asynchronous: (*function.asynchronous).clone(),
        updated_at: at.unwrap_or(function.updated_at),
    })
}

fn shown(face: &Lambda, name: &str, qualifier: &str, settings: &EventSettings) -> Value {
    let own = &settings.asynchronous;
    let to = |to: &Option<Destination>| match to {
        Some(to) => json!({ "Destination": destination::shown(face, to) }),
        None => json!({}),
    };
    let millis = settings.updated_at.as_millisecond();
    let mut document = json!({
        "LastModified": millis as f64 / 1000.0,
        "FunctionArn": face.settings.place.qualified(name, Some(qualifier)),
        "DestinationConfig": {"OnSuccess": to(&own.on_success), "OnFailure": to(&own.on_failure)},
    });
    // What is not set is not shown, or tools that compare would find a difference.
    if let Some(retries) = own.max_retries {
        document["MaximumRetryAttempts"] = retries.into();
    }
    if let Some(age) = own.max_event_age_seconds {
        document["MaximumEventAgeInSeconds"] = age.into();
    }
    document
}

fn qualifier(named: &Named) -> &str {
    named.qualifier.as_deref().unwrap_or(LATEST)
}

fn existing(face: &Lambda, named: &Named) -> Result<std::sync::Arc<Target>, Refusal> {
    let shown = face.shown(named).map_err(|_absent| missing())?;
    Ok(shown.latest)
}

fn missing() -> Refusal {
    Refusal::not_found("The function doesn't exist.")
}

fn none(face: &Lambda, named: &Named) -> Refusal {
    let arn = face
        .settings
        .place
        .qualified(&named.name, Some(qualifier(named)));
    Refusal::not_found(format!(
        "The function {arn} doesn't have an EventInvokeConfig"
    ))
}
