//! PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy: the policy that AddPermission makes statement by statement, as a whole. Kept
//! and given back like those, and nobody is let in or kept out by one.

use http::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::json;
use crate::api::lambda::change::{apply, kept};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::names::{self, Named};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty, policy};
use crate::domain::aws::{PolicyHead, Statement};
use crate::domain::function::Function;

const REVISION: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const REVISION_LENGTH: usize = 36;
const VERSIONS: [&str; 2] = ["2008-10-17", "2012-10-17"];
const SID_MAX: usize = 100;

/// A policy as it was written.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    version: Option<String>,
    id: Option<String>,
    /// What each is called, and the whole of it.
    statements: Vec<(String, String)>,
}

pub(super) async fn put(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = named(face, &asked, Do::PutResourcePolicy, "PutResourcePolicy")?;
    let mut fields = Fields::of(&asked.body)?;
    let text = fields.up_to("Policy", policy::POLICY_MAX)?;
    match &text {
        Some(text) => fields.at_least("Policy", text, 1),
        None => fields.missing("Policy"),
    }
    let revision = fields.formed("RevisionId", REVISION_LENGTH, REVISION, is_revision)?;
    fields.finish()?;
    let latest = policy::existing(face, &named)?.latest;
    policy::not_latest(&named)?;
    let read = read(text.as_deref().unwrap_or_default())
        .map_err(|why| Refusal::parameter(format!("The provided policy is not valid: {why}.")))?;
    let qualifier = policy::qualifier(&named);
    let head = PolicyHead {
        qualifier: qualifier.clone(),
        version: read.version,
        id: read.id,
    };
    let statements = read.statements.into_iter().map(|(id, text)| Statement {
        qualifier: qualifier.clone(),
        id,
        text,
    });
    let statements: Vec<_> = statements.collect();
    policy::held_to_size(Some(&head), statements.iter())?;
    held_to(revision.as_deref(), &latest.function, qualifier.as_deref()).map_err(refused)?;
    let changed = apply(face, asked, &latest, move |current| {
        // Somebody else may have been faster.
        held_to(revision.as_deref(), current, head.qualifier.as_deref())?;
        Ok(kept(current, |settings| {
            settings.clear_policy(head.qualifier.as_deref());
            settings.policy.extend(statements.iter().cloned());
            settings.policy_heads.push(head.clone());
        }))
    });
    let changed = changed.await.map_err(refused)?;
    Ok(policy::shown(&changed, qualifier.as_deref()))
}

pub(super) fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = named(face, asked, Do::GetResourcePolicy, "GetResourcePolicy")?;
    policy::found(face, &named)
}

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::DeleteResourcePolicy;
    let named = named(face, &asked, does, "DeleteResourcePolicy")?;
    let revision = asked.query("RevisionId").map(str::to_owned);
    if let Some(revision) = &revision {
        let form = names::formed(
            "revisionId",
            revision,
            REVISION_LENGTH,
            REVISION,
            is_revision,
        );
        if !form.is_empty() {
            return Err(Refusal::validation(&form));
        }
    }
    let latest = policy::existing(face, &named)?.latest;
    let qualifier = policy::qualifier(&named);
    if policy::of(&latest.function, qualifier.as_deref()).is_empty() {
        return Err(Refusal::not_found(
            "No policy is associated with the given resource.",
        ));
    }
    held_to(revision.as_deref(), &latest.function, qualifier.as_deref()).map_err(refused)?;
    let changed = apply(face, asked, &latest, move |current| {
        held_to(revision.as_deref(), current, qualifier.as_deref())?;
        Ok(kept(current, |settings| {
            settings.clear_policy(qualifier.as_deref());
        }))
    });
    changed.await.map_err(refused)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The function of an ARN. Runtimes may have policies on AWS, and none has one here.
fn named(face: &Lambda, asked: &Asked, does: Do, action: &str) -> Result<Named, Refusal> {
    let arn = asked.parameters.first().map_or("", String::as_str);
    if names::is_runtime(arn) {
        return Err(Refusal::not_found(
            "The resource you requested does not exist.",
        ));
    }
    let named = names::read(does.form(), arn, None, &face.settings.place)?;
    face.permit(&asked.caller, does, action, &named)?;
    Ok(named)
}

fn held_to(
    given: Option<&str>,
    function: &Function,
    qualifier: Option<&str>,
) -> Result<(), Problem> {
    let there = !policy::of(function, qualifier).is_empty();
    match given {
        Some(given) if !there || given != policy::revision_id(function, qualifier) => {
            Err(Problem::Stale {
                given: given.into(),
                condition: true,
            })
        }
        _ => Ok(()),
    }
}

/// What is stale is the policy, and not the function.
fn refused(problem: Problem) -> Refusal {
    match problem {
        Problem::Stale { .. } => {
            let mut stale = Refusal::stale_policy();
            stale.message = stale.message.replace("GetPolicy", "GetResourcePolicy");
            stale
        }
        other => other.into(),
    }
}

fn is_revision(text: &str) -> bool {
    let good = |(at, c): (usize, char)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
    };
    text.len() == REVISION_LENGTH && text.chars().enumerate().all(good)
}

/// A policy in the form IAM has for those of resources; what it is about is not looked at.
fn read(text: &str) -> Result<Policy, String> {
    let value = json::value(text.as_bytes()).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut policy) = value else {
        return Err("it is no object".into());
    };
    let version = word(&mut policy, "Version")?;
    if let Some(other) = version.as_deref().filter(|v| !VERSIONS.contains(v)) {
        return Err(format!("there is no Version {other:?}"));
    }
    let id = word(&mut policy, "Id")?;
    let statements = match policy.remove("Statement") {
        Some(Value::Array(all)) => all,
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err("it has no Statement".into()),
    };
    if let Some(other) = policy.keys().next() {
        return Err(format!("it has a field {other:?}"));
    }
    if statements.is_empty() {
        return Err("it has no Statement".into());
    }
    let mut read: Vec<(String, String)> = Vec::new();
    for (number, value) in (1..).zip(&statements) {
        let sid = statement(value).map_err(|why| format!("statement {number} {why}"))?;
        // One without cannot be taken away alone.
        if !sid.is_empty() && read.iter().any(|(other, _)| other == sid) {
            return Err(format!("two statements are called {sid:?}"));
        }
        read.push((sid.to_owned(), value.to_string()));
    }
    Ok(Policy {
        version,
        id,
        statements: read,
    })
}

fn word(policy: &mut Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match policy.remove(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {field} is no text")),
    }
}

/// What it is called, which may be nothing.
fn statement(value: &Value) -> Result<&str, String> {
    let fields = value.as_object().ok_or("is no object")?;
    let texts = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(all) => !all.is_empty() && all.iter().all(Value::is_string),
        _ => false,
    };
    for (field, value) in fields {
        let good = match field.as_str() {
            "Sid" => value.as_str().is_some_and(|sid| sid.len() <= SID_MAX),
            "Effect" => matches!(value.as_str(), Some("Allow" | "Deny")),
            "Principal" | "NotPrincipal" => match value {
                Value::Object(kinds) => !kinds.is_empty() && kinds.values().all(texts),
                other => other == "*",
            },
            "Action" | "NotAction" | "Resource" | "NotResource" => texts(value),
            "Condition" => value
                .as_object()
                .is_some_and(|operators| operators.values().all(Value::is_object)),
            _ => return Err(format!("has a field {field:?}")),
        };
        if !good {
            return Err(format!("has no {field} that can be read"));
        }
    }
    for (field, other) in [
        ("Effect", "Effect"),
        ("Principal", "NotPrincipal"),
        ("Action", "NotAction"),
        ("Resource", "NotResource"),
    ] {
        let (one, two) = (fields.contains_key(field), fields.contains_key(other));
        if !one && !two {
            return Err(format!("has no {field}"));
        }
        if field != other && one && two {
            return Err(format!("has both {field} and {other}"));
        }
    }
    Ok(fields
        .get("Sid")
        .and_then(Value::as_str)
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statement() -> Value {
        json!({
            "Sid": "s", "Effect": "Allow", "Principal": {"AWS": ["123456789012"]},
            "Action": ["lambda:InvokeFunction", "lambda:GetFunction"], "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}},
        })
    }

    #[test]
    fn a_policy_has_a_form() {
        let policy = json!({"Version": "2012-10-17", "Id": "mine", "Statement": statement()});
        let wanted = Policy {
            version: Some("2012-10-17".into()),
            id: Some("mine".into()),
            statements: vec![("s".into(), statement().to_string())],
        };
        assert_eq!(read(&policy.to_string()), Ok(wanted));
        let with = |field: &str, value: Value| {
            let mut other = statement();
            match value {
                Value::Null => drop(other.as_object_mut().expect("is one").remove(field)),
                value => other[field] = value,
            }
            read(&json!({ "Statement": [other] }).to_string())
        };
        // Two without a name are not one twice.
        let mut nameless = statement();
        nameless["Sid"] = "".into();
        let two = json!({"Statement": [nameless, nameless]});
        assert_eq!(read(&two.to_string()).map(|p| p.statements.len()), Ok(2));
        assert!(with("Principal", "*".into()).is_ok() && with("Sid", Value::Null).is_ok());
        for (field, value) in [
            ("Effect", Value::Null),
            ("Effect", "Perhaps".into()),
            ("Principal", Value::Null),
            ("Principal", "everybody".into()),
            ("Principal", json!({})),
            ("NotPrincipal", "*".into()),
            ("Action", json!([])),
            ("Action", json!([1])),
            ("Resource", Value::Null),
            ("Condition", json!({"Bool": "true"})),
            ("Sid", "s".repeat(101).into()),
            ("Sid", 1.into()),
            ("Actions", "*".into()),
        ] {
            let refused = with(field, value.clone());
            let why = refused.expect_err(&format!("{field}: {value}"));
            assert!(why.starts_with("statement 1 has"), "{why}");
        }
        for (policy, why) in [
            ("{", "it is no JSON"),
            ("[]", "it is no object"),
            ("{}", "it has no Statement"),
            (r#"{"Statement": []}"#, "it has no Statement"),
            (r#"{"Statement": ["x"]}"#, "statement 1 is no object"),
            (r#"{"Version": 1}"#, "its Version is no text"),
            (r#"{"Version": "2024-01-01"}"#, "there is no Version"),
            (r#"{"Statement": {}, "Policy": 1}"#, "it has a field"),
        ] {
            let refused = read(policy).expect_err(policy);
            assert!(refused.starts_with(why), "{policy}: {refused}");
        }
        let twice = json!({"Statement": [statement(), statement()]});
        let refused = read(&twice.to_string());
        assert_eq!(refused, Err("two statements are called \"s\"".into()));
    }

    #[test]
    fn a_revision_has_a_form() {
        assert!(is_revision("0123abcd-0000-0000-0000-0123456789ab"));
        for bad in [
            "",
            "0123ABCD-0000-0000-0000-0123456789ab",
            "0123abcd00000000000000123456789ab",
        ] {
            assert!(!is_revision(bad), "{bad}");
        }
    }
}
