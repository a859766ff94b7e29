//! AddPermission, RemovePermission and GetPolicy; `resource_policy` has the same policies as a whole. Statements are kept and given back, because
//! deploy tools write them and read them again; nobody is let in by one: that is what keys are for.

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::change::{apply, kept};
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::{self, Named};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, Shown, aliases, empty, json as answer};
use crate::domain::aws::{Place, PolicyHead, Statement};
use crate::domain::function::{Function, LATEST};
use crate::domain::version::Qualifier;

/// All statements of a function at one qualifier, as AWS has it.
pub(super) const POLICY_MAX: usize = 20 * 1024;
pub(super) const ORGANIZATION: &str = "o-[a-z0-9]{10,32}";
pub(super) const ORGANIZATION_MAX: usize = 34;
const PRINCIPAL_MAX: usize = 2048;
const TOKEN_MAX: usize = 256;
/// Of what has no limit of its own.
pub(super) const TEXT_MAX: usize = 10_000;

pub(super) async fn add(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::AddPermission, "AddPermission")?;
    let mut fields = Fields::of(&asked.body)?;
    let id = statement(&mut fields)?;
    let pattern = r"(lambda:[*]|lambda:[a-zA-Z]+|[*])";
    let action = fields.formed("Action", TEXT_MAX, pattern, is_action)?;
    let principal = fields.formed("Principal", PRINCIPAL_MAX, r"[^\s]+", |text| {
        !text.is_empty() && !text.contains(char::is_whitespace)
    })?;
    for (field, value) in [
        ("StatementId", &id),
        ("Action", &action),
        ("Principal", &principal),
    ] {
        if value.is_none() {
            fields.missing(field);
        }
    }
    let revision = fields.text("RevisionId")?;
    let condition = condition(&mut fields)?;
    fields.finish()?;
    let (Some(id), Some(action), Some(principal)) = (id, action, principal) else {
        return Err(Refusal::validation(&fields.faults));
    };
    let shown = existing(face, &named)?;
    not_latest(&named)?;
    let name = named.clone();
    if !is_principal(&principal) {
        return Err(Refusal::parameter(
            "The provided principal was invalid. Please check the principal and try again.",
        ));
    }
    let qualifier = qualifier(&named);
    let mut statement = json!({
        "Sid": id,
        "Effect": "Allow",
        "Principal": who(&principal, &face.settings.place),
        "Action": action,
        "Resource": named.arn(&face.settings.place),
    });
    if !condition.is_empty() {
        statement["Condition"] = Value::Object(condition);
    }
    let text = statement.to_string();
    let taken = Refusal::conflict(format!(
        "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing statement."
    ));
    let there = of(&shown.latest.function, qualifier.as_deref());
    if there.iter().any(|statement| statement.id == id) {
        return Err(taken);
    }
    let new = Statement {
        qualifier,
        id,
        text,
    };
    let before = head(&shown.latest.function, new.qualifier.as_deref());
    held_to_size(before, there.iter().copied().chain([&new]))?;
    held_to(revision.as_deref(), &shown, &named).map_err(refused)?;
    let document = json!({ "Statement": new.text });
    let latest = shown.latest;
    let again = face.clone();
    let changed = apply(face, asked, &latest, move |current| {
        // Somebody else may have been faster.
        let shown = still(&again, &name, current)?;
        held_to(revision.as_deref(), &shown, &name)?;
        let there = of(current, new.qualifier.as_deref());
        let taken = there.iter().any(|statement| statement.id == new.id);
        let before = head(current, new.qualifier.as_deref());
        let all = there.iter().copied().chain([&new]);
        if taken || held_to_size(before, all).is_err() {
            return Err(Problem::Contended);
        }
        Ok(kept(current, |settings| settings.policy.push(new.clone())))
    });
    changed.await.map_err(refused)?;
    Ok(answer(StatusCode::CREATED, &document))
}

pub(super) async fn remove(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::RemovePermission, "RemovePermission")?;
    let id = asked.parameters.get(1).cloned().unwrap_or_default();
    let faults = names::statement(&id, true);
    if !faults.is_empty() {
        return Err(Refusal::validation(&faults));
    }
    if face.latest(&named).is_none() {
        let arn = named.arn(&face.settings.place);
        return Err(Refusal::not_found(format!("No policy found for: {arn}")));
    }
    let shown = existing(face, &named)?;
    let qualifier = qualifier(&named);
    let there = of(&shown.latest.function, qualifier.as_deref());
    if there.is_empty() {
        return Err(Refusal::not_found(
            "No policy is associated with the given resource.",
        ));
    }
    if !there.iter().any(|statement| statement.id == id) {
        return Err(Refusal::not_found(format!(
            "Statement {id} is not found in resource policy."
        )));
    }
    let revision = asked.query("RevisionId").map(str::to_owned);
    held_to(revision.as_deref(), &shown, &named).map_err(refused)?;
    let latest = shown.latest;
    let again = face.clone();
    let changed = apply(face, asked, &latest, move |current| {
        let shown = still(&again, &named, current)?;
        held_to(revision.as_deref(), &shown, &named)?;
        Ok(kept(current, |settings| {
            settings
                .policy
                .retain(|s| s.id != id || s.qualifier != qualifier);
            // The next one begins anew.
            if !settings.policy.iter().any(|s| s.qualifier == qualifier) {
                settings
                    .policy_heads
                    .retain(|head| head.qualifier != qualifier);
            }
        }))
    });
    changed.await.map_err(refused)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::GetPolicy, "GetPolicy")?;
    found(face, &named)
}

/// The policy there is.
pub(super) fn found(face: &Lambda, named: &Named) -> Result<Response<Body>, Refusal> {
    let missing = || Refusal::not_found("The resource you requested does not exist.");
    let latest = face.shown(named).map_err(|_absent| missing())?.latest;
    let qualifier = qualifier(named);
    match of(&latest.function, qualifier.as_deref()).is_empty() {
        true => Err(missing()),
        false => Ok(shown(&latest.function, qualifier.as_deref())),
    }
}

pub(super) fn shown(function: &Function, qualifier: Option<&str>) -> Response<Body> {
    let statements = of(function, qualifier).into_iter();
    let policy = whole(head(function, qualifier), statements);
    let revision = revision_id(function, qualifier);
    let document = json!({"Policy": policy, "RevisionId": revision});
    answer(StatusCode::OK, &document)
}

/// A policy, as its clients read it. One that was not written as a whole has the usual head.
pub(super) fn whole<'a>(
    head: Option<&PolicyHead>,
    statements: impl Iterator<Item = &'a Statement>,
) -> String {
    let statements = statements.filter_map(|s| serde_json::from_str::<Value>(&s.text).ok());
    let statements: Vec<_> = statements.collect();
    let mut policy = json!({ "Statement": statements });
    let (version, id) = match head {
        Some(head) => (head.version.as_deref(), head.id.as_deref()),
        None => (Some("2012-10-17"), Some("default")),
    };
    for (field, value) in [("Version", version), ("Id", id)] {
        if let Some(value) = value {
            policy[field] = value.into();
        }
    }
    policy.to_string()
}

/// As AWS does, with all that is around the statements.
pub(super) fn held_to_size<'a>(
    head: Option<&PolicyHead>,
    statements: impl Iterator<Item = &'a Statement>,
) -> Result<(), Refusal> {
    match whole(head, statements).len() {
        size if size > POLICY_MAX => Err(Refusal::policy_too_long(size, POLICY_MAX)),
        _ => Ok(()),
    }
}

pub(super) fn not_latest(named: &Named) -> Result<(), Refusal> {
    match named.qualifier.as_deref() {
        Some(LATEST) => Err(Refusal::parameter(
            "We currently do not support adding policies for $LATEST.",
        )),
        _ => Ok(()),
    }
}

/// What a policy is on.
pub(super) fn existing(face: &Lambda, named: &Named) -> Result<Shown, Refusal> {
    let qualifier = named.qualifier.as_deref().map(Qualifier::parse);
    face.shown(named).map_err(|refusal| match qualifier {
        Some(Ok(Qualifier::Alias(_))) if face.latest(named).is_some() => {
            let arn = named.arn(&face.settings.place);
            Refusal::not_found(format!("Cannot find alias arn: {arn}"))
        }
        _ => refusal,
    })
}

/// What a statement is called, in a body.
pub(super) fn statement(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let (most, pattern) = (names::STATEMENT_MAX, names::STATEMENT);
    fields.formed("StatementId", most, pattern, |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !text.is_empty() && text.chars().all(good)
    })
}

pub(super) fn qualifier(named: &Named) -> Option<String> {
    named
        .qualifier
        .clone()
        .filter(|qualifier| qualifier != LATEST)
}

fn head<'a>(function: &'a Function, qualifier: Option<&str>) -> Option<&'a PolicyHead> {
    let mut all = function.aws.policy_heads.iter();
    all.find(|head| head.qualifier.as_deref() == qualifier)
}

pub(super) fn of<'a>(function: &'a Function, qualifier: Option<&str>) -> Vec<&'a Statement> {
    let all = function.aws.policy.iter();
    all.filter(|statement| statement.qualifier.as_deref() == qualifier)
        .collect()
}

pub(super) fn revision_id(function: &Function, qualifier: Option<&str>) -> String {
    let texts: Vec<_> = of(function, qualifier)
        .into_iter()
        .map(|s| s.text.as_str())
        .collect();
    let mut of = format!("{}/policy/{}", function.id, texts.join("\n"));
    if let Some(head) = head(function, qualifier) {
        of += &format!("\n{:?}/{:?}", head.version, head.id);
    }
    document::opaque(&of)
}

/// What AWS's clients read with the function, the version or the alias itself.
fn own_revision(shown: &Shown, named: &Named) -> String {
    let published = shown.latest.published();
    let alias = named.qualifier.as_deref();
    match alias.and_then(|name| Some((name, published.alias(name)?.1))) {
        Some((name, alias)) => aliases::revision_id(&shown.latest.function, name, alias),
        None => {
            let made = published.head.last;
            document::revision_id(&shown.function, shown.version, made, Moment::Settled)
        }
    }
}

/// What a policy is on, in the function's turn: then nobody else changes what a revision is compared with.
fn still(face: &Lambda, named: &Named, current: &Function) -> Result<Shown, Problem> {
    let shown = face.shown(named).ok();
    let same = shown.filter(|shown| shown.latest.function.id == current.id);
    same.ok_or_else(|| Problem::NoVersion {
        function: named.name.clone(),
        qualifier: named.qualifier.clone().unwrap_or(LATEST.into()),
    })
}

/// Whether it is still what the client read. What has no policy yet goes by its own revision.
fn held_to(given: Option<&str>, shown: &Shown, named: &Named) -> Result<(), Problem> {
    let Some(given) = given else {
        return Ok(());
    };
    let (function, qualifier) = (&shown.latest.function, qualifier(named));
    let none = of(function, qualifier.as_deref()).is_empty();
    match given == revision_id(function, qualifier.as_deref())
        || none && given == own_revision(shown, named)
    {
        true => Ok(()),
        false => Err(Problem::Stale {
            given: given.into(),
            condition: true,
        }),
    }
}

/// What is stale is the policy, and not the function.
fn refused(problem: Problem) -> Refusal {
    match problem {
        Problem::Stale { .. } => Refusal::stale_policy(),
        other => other.into(),
    }
}

fn is_action(text: &str) -> bool {
    let name = text.strip_prefix("lambda:");
    let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
    text == "*" || name.is_some_and(|name| name == "*" || word(name))
}

pub(super) fn is_organization(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let id = text.strip_prefix("o-");
    id.is_some_and(|id| (10..=32).contains(&id.len()) && id.chars().all(good))
}

/// An ARN, though not every part of it has to be good: nobody calls in its name, and tests like to write `account-id` there.
fn is_source(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    matches!(parts[..], ["arn", partition, service, ..] if parts.len() == 6 && !partition.is_empty() && !service.is_empty())
}

/// Anybody, an account, somebody or something of one, or a service.
fn is_principal(text: &str) -> bool {
    let service = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];
    text == "*"
        || names::is_account(text)
        || text.starts_with("arn:")
        || service.iter().any(|domain| text.ends_with(domain))
}

/// A service by its domain, an account by its number, or anybody.
pub(super) fn who(principal: &str, place: &Place) -> Value {
    if principal == "*" {
        "*".into()
    } else if names::is_account(principal) {
        json!({"AWS": place.iam(principal, "root")})
    } else if principal.starts_with("arn:") {
        json!({ "AWS": principal })
    } else {
        json!({ "Service": principal })
    }
}

fn condition(fields: &mut Fields) -> Result<Map<String, Value>, Refusal> {
    let mut equals = Map::new();
    let account = fields.formed("SourceAccount", 12, r"\d{12}", names::is_account)?;
    let token = fields.formed("EventSourceToken", TOKEN_MAX, r"[a-zA-Z0-9._\-]+", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !text.is_empty() && text.chars().all(good)
    })?;
    let organization = fields.formed(
        "PrincipalOrgID",
        ORGANIZATION_MAX,
        ORGANIZATION,
        is_organization,
    )?;
    let url = fields.one_of("FunctionUrlAuthType", &["NONE", "AWS_IAM"])?;
    for (key, value) in [
        ("AWS:SourceAccount", account),
        ("lambda:EventSourceToken", token),
        ("aws:PrincipalOrgID", organization),
        ("lambda:FunctionUrlAuthType", url),
    ] {
        if let Some(value) = value {
            equals.insert(key.into(), value.into());
        }
    }
    let mut condition = Map::new();
    if !equals.is_empty() {
        condition.insert("StringEquals".into(), Value::Object(equals));
    }
    if let Some(arn) = fields.formed("SourceArn", TEXT_MAX, names::ANYTHING, is_source)? {
        condition.insert("ArnLike".into(), json!({ "AWS:SourceArn": arn }));
    }
    if fields.flag("InvokedViaFunctionUrl")? {
        condition.insert(
            "Bool".into(),
            json!({"lambda:InvokedViaFunctionUrl": "true"}),
        );
    }
    Ok(condition)
}
