//! CreateFunctionUrlConfig, GetFunctionUrlConfig, UpdateFunctionUrlConfig, DeleteFunctionUrlConfig and ListFunctionUrlConfigs.

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::list::{Page, marker};
use crate::api::lambda::names::Named;
use crate::api::lambda::routes::Do;
use crate::api::lambda::urls::address;
use crate::api::lambda::{Asked, Lambda, empty, json as answer};
use crate::domain::function::{Function, LATEST};
use crate::domain::url::{AuthType, Cors, InvokeMode, Url, Wish};

/// AWS gives out no more at once.
const PAGE_MAX: usize = 50;

/// Which answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Create,
    Update,
    Get,
}

pub(in crate::api::lambda) async fn create(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let does = Do::CreateFunctionUrlConfig;
    let (named, qualifier) = named(face, &asked, does, "CreateFunctionUrlConfig")?;
    let mut fields = Fields::of(&asked.body)?;
    let wish = wish(&mut fields)?;
    if wish.auth.is_none() && fields.faults.is_empty() {
        fields.missing("AuthType");
    }
    fields.finish()?;
    let latest = face.latest(&named).ok_or_else(no_function)?;
    let function = &latest.function;
    let address = address::Writer::of(face, &asked).await;
    let (deploy, id) = (&face.control.deploy, function.id.to_string());
    let made = deploy.create_url(asked.caller, id, qualifier.clone(), wish);
    let url = made.await.map_err(|problem| match problem {
        Problem::NoAlias { .. } | Problem::NoFunction(_) => no_function(),
        Problem::UrlTaken { .. } => {
            let arn = arn(face, function, &qualifier);
            Refusal::conflict(format!(
                "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists for this Lambda function"
            ))
        }
        other => other.into(),
    })?;
    let arn = arn(face, function, &qualifier);
    let document = shown(&address, &arn, &url, To::Create);
    Ok(answer(StatusCode::CREATED, &document))
}

pub(in crate::api::lambda) async fn get(
    face: &Lambda,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let does = Do::GetFunctionUrlConfig;
    let (named, qualifier) = named(face, asked, does, "GetFunctionUrlConfig")?;
    let latest = face.latest(&named).ok_or_else(no_url)?;
    let url = latest.published().url(&qualifier).ok_or_else(no_url)?;
    let address = address::Writer::of(face, asked).await;
    let arn = arn(face, &latest.function, &qualifier);
    Ok(answer(StatusCode::OK, &shown(&address, &arn, url, To::Get)))
}

pub(in crate::api::lambda) async fn update(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let does = Do::UpdateFunctionUrlConfig;
    let (named, qualifier) = named(face, &asked, does, "UpdateFunctionUrlConfig")?;
    let mut fields = Fields::of(&asked.body)?;
    let wish = wish(&mut fields)?;
    fields.finish()?;
    let latest = face.latest(&named).ok_or_else(no_function)?;
    if qualifier != LATEST && latest.published().alias(&qualifier).is_none() {
        return Err(no_function());
    }
    let address = address::Writer::of(face, &asked).await;
    let (deploy, id) = (&face.control.deploy, latest.function.id.to_string());
    let made = deploy.update_url(asked.caller, id, qualifier.clone(), wish);
    let url = made.await.map_err(gone)?;
    let arn = arn(face, &latest.function, &qualifier);
    let document = shown(&address, &arn, &url, To::Update);
    Ok(answer(StatusCode::OK, &document))
}

pub(in crate::api::lambda) async fn delete(
    face: &Lambda,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let does = Do::DeleteFunctionUrlConfig;
    let (named, qualifier) = named(face, &asked, does, "DeleteFunctionUrlConfig")?;
    let latest = face.latest(&named).ok_or_else(no_url)?;
    let (deploy, id) = (&face.control.deploy, latest.function.id.to_string());
    let gone_now = deploy.delete_url(asked.caller, id, qualifier);
    gone_now.await.map_err(gone)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(in crate::api::lambda) async fn list(
    face: &Lambda,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::ListFunctionUrlConfigs, "ListFunctionUrlConfigs")?;
    let page = Page::up_to(PAGE_MAX, asked)?;
    let latest = face.latest(&named).ok_or_else(no_function)?;
    let address = address::Writer::of(face, asked).await;
    let mut urls = latest
        .published()
        .head
        .urls
        .iter()
        .filter(|(qualifier, _)| {
            let after = page.after.as_deref();
            after.is_none_or(|after| qualifier.as_str() > after)
        });
    let items: Vec<_> = urls.by_ref().take(page.items).collect();
    let more = urls.next().is_some();
    let documents = items.iter().map(|(qualifier, url)| {
        let arn = arn(face, &latest.function, qualifier);
        shown(&address, &arn, url, To::Get)
    });
    let mut document = json!({ "FunctionUrlConfigs": documents.collect::<Vec<_>>() });
    if let Some((last, _)) = items.last().filter(|_| more) {
        document["NextMarker"] = marker(last).into();
    }
    Ok(answer(StatusCode::OK, &document))
}

/// The function, and the alias or `$LATEST`, which AWS has nobody write here.
fn named(face: &Lambda, asked: &Asked, does: Do, action: &str) -> Result<(Named, String), Refusal> {
    let named = face.named(asked, does, action)?;
    let qualifier = named.qualifier.clone();
    Ok((named, qualifier.unwrap_or_else(|| LATEST.into())))
}

fn no_function() -> Refusal {
    Refusal::not_found("Function does not exist")
}

fn no_url() -> Refusal {
    Refusal::not_found("The resource you requested does not exist.")
}

/// What AWS says where Hearth says something else.
fn gone(problem: Problem) -> Refusal {
    match problem {
        Problem::NoUrl { .. } | Problem::NoFunction(_) => no_url(),
        other => other.into(),
    }
}

fn arn(face: &Lambda, function: &Function, qualifier: &str) -> String {
    let bare = face.settings.place.function(&function.name);
    match qualifier {
        LATEST => bare,
        alias => format!("{bare}:{alias}"),
    }
}

fn wish(fields: &mut Fields) -> Result<Wish, Refusal> {
    let auth = fields.one_of("AuthType", &AuthType::NAMES)?;
    let mode = fields.one_of("InvokeMode", &InvokeMode::NAMES)?;
    Ok(Wish {
        auth: auth.and_then(|text| AuthType::parse(&text)),
        cors: cors(fields)?,
        mode: mode.and_then(|text| InvokeMode::parse(&text)),
    })
}

/// An empty one takes it away.
fn cors(fields: &mut Fields) -> Result<Option<Option<Cors>>, Refusal> {
    let Some(mut inner) = fields.open("Cors")? else {
        return Ok(None);
    };
    let credentials = match inner.has("AllowCredentials") {
        true => Some(inner.flag("AllowCredentials")?),
        false => None,
    };
    let cors = Cors {
        allow_credentials: credentials,
        allow_headers: texts(
            &mut inner,
            "AllowHeaders",
            Cors::LIST_MAX,
            0..=Cors::HEADER_MAX,
        )?,
        allow_methods: texts(
            &mut inner,
            "AllowMethods",
            Cors::METHODS_MAX,
            0..=Cors::METHOD_MAX,
        )?,
        allow_origins: texts(
            &mut inner,
            "AllowOrigins",
            Cors::LIST_MAX,
            1..=Cors::ORIGIN_MAX,
        )?,
        expose_headers: texts(
            &mut inner,
            "ExposeHeaders",
            Cors::LIST_MAX,
            0..=Cors::HEADER_MAX,
        )?,
        max_age_seconds: inner.whole("MaxAge", 0, Cors::AGE_MAX_SECONDS.into())?,
    };
    fields.close(inner);
    Ok(Some((cors != Cors::default()).then_some(cors)))
}

fn texts(
    fields: &mut Fields,
    field: &str,
    most: usize,
    length: std::ops::RangeInclusive<usize>,
) -> Result<Option<Vec<String>>, Refusal> {
    let Some(list) = fields.list(field)? else {
        return Ok(None);
    };
    let shown = || format!("[{}]", list.join(", "));
    if list.len() > most {
        let constraint = format!("Member must have length less than or equal to {most}");
        fields.fault(field, &shown(), &constraint);
    }
    let good = |text: &String| length.contains(&text.chars().count());
    if !list.iter().all(good) {
        let (least, most) = (length.start(), length.end());
        let constraint = format!(
            "Member must satisfy constraint: [Member must have length less than or equal to {most}, Member must have length greater than or equal to {least}, Member must satisfy regular expression pattern: .*]"
        );
        fields.fault(field, &shown(), &constraint);
    }
    Ok(Some(list))
}

fn shown(address: &address::Writer, arn: &str, url: &Url, to: To) -> Value {
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let mut document = json!({
        "FunctionUrl": address.write(&url.id),
        "FunctionArn": arn,
        "AuthType": url.auth.as_str(),
        "CreationTime": time(url.created_at),
    });
    if to != To::Create {
        document["LastModifiedTime"] = time(url.updated_at).into();
    }
    let default = (to == To::Get).then_some(InvokeMode::Buffered);
    if let Some(mode) = url.mode.or(default) {
        document["InvokeMode"] = mode.as_str().into();
    }
    if let Some(cors) = &url.cors {
        document["Cors"] = Value::Object(given(cors));
    }
    document
}

fn given(cors: &Cors) -> Map<String, Value> {
    let list = |list: &Option<Vec<String>>| list.as_ref().map(|list| json!(list));
    let all = [
        ("AllowCredentials", cors.allow_credentials.map(Value::from)),
        ("AllowHeaders", list(&cors.allow_headers)),
        ("AllowMethods", list(&cors.allow_methods)),
        ("AllowOrigins", list(&cors.allow_origins)),
        ("ExposeHeaders", list(&cors.expose_headers)),
        ("MaxAge", cors.max_age_seconds.map(Value::from)),
    ];
    let all = all.into_iter();
    all.filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}
