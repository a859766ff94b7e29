//! AddLayerVersionPermission, RemoveLayerVersionPermission and GetLayerVersionPolicy: kept and given back, like functions' policies.

use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::fields::Fields;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, document, empty, json as answer, layers, names, policy};
use crate::domain::aws::Statement;
use crate::domain::layer::{Id, Version};

const ACTION: &str = "lambda:GetLayerVersion";

pub(super) async fn add(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let (does, action) = (Do::AddLayerVersionPermission, "AddLayerVersionPermission");
    let (name, number) = layers::version(face, &asked, does, action)?;
    let id = Id { name, number };
    let mut fields = Fields::of(&asked.body)?;
    let sid = policy::statement(&mut fields)?;
    let action = fields.formed("Action", ACTION.len(), ACTION, |text| text == ACTION)?;
    let principal = fields.formed(
        "Principal",
        policy::TEXT_MAX,
        r"\d{12}|\*|arn:(aws[a-zA-Z-]*):iam::\d{12}:root",
        is_principal,
    )?;
    let organization = fields.formed(
        "OrganizationId",
        policy::ORGANIZATION_MAX,
        policy::ORGANIZATION,
        policy::is_organization,
    )?;
    for (field, value) in [
        ("StatementId", &sid),
        ("Action", &action),
        ("Principal", &principal),
    ] {
        if value.is_none() {
            fields.missing(field);
        }
    }
    fields.finish()?;
    let (Some(sid), Some(action), Some(principal)) = (sid, action, principal) else {
        return Err(Refusal::validation(&fields.faults));
    };
    let mut statement = json!({
        "Sid": sid,
        "Effect": "Allow",
        "Principal": policy::who(&principal, &face.settings.place),
        "Action": action,
        "Resource": layers::arn(&face.settings.place, &id),
    });
    if let Some(organization) = organization {
        statement["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organization}});
    }
    let new = Statement {
        qualifier: None,
        id: sid,
        text: statement.to_string(),
    };
    let revision = asked.query("RevisionId");
    let changed = face.control.deploy.change_layer(&id, |version| {
        if version.policy.iter().any(|there| there.id == new.id) {
            return Err(Refusal::conflict(format!(
                "The statement id ({}) provided already exists. Please provide a new statement id, or remove the existing statement.",
                new.id
            )));
        }
        held_to(revision, version)?;
        policy::held_to_size(None, version.policy.iter().chain([&new]))?;
        version.policy.push(new.clone());
        Ok(())
    });
    let version = changed.await?.ok_or_else(|| no_version(face, &id))?;
    let document = json!({"Statement": new.text, "RevisionId": revision_id(&version)});
    Ok(answer(StatusCode::CREATED, &document))
}

pub(super) async fn remove(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::RemoveLayerVersionPermission;
    let (name, number) = layers::version(face, &asked, does, "RemoveLayerVersionPermission")?;
    let id = Id { name, number };
    let sid = asked.parameters.get(2).map_or("", String::as_str);
    let faults = names::statement(sid, false);
    if !faults.is_empty() {
        return Err(Refusal::validation(&faults));
    }
    let revision = asked.query("RevisionId");
    let changed = face.control.deploy.change_layer(&id, |version| {
        if !version.policy.iter().any(|there| there.id == sid) {
            return Err(Refusal::not_found(format!(
                "Statement {sid} is not found in resource policy."
            )));
        }
        held_to(revision, version)?;
        version.policy.retain(|there| there.id != sid);
        Ok(())
    });
    changed.await?.ok_or_else(|| no_version(face, &id))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn get(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let does = Do::GetLayerVersionPolicy;
    let (name, number) = layers::version(face, asked, does, "GetLayerVersionPolicy")?;
    let id = Id { name, number };
    let found = face.control.deploy.layer(&id).await?;
    let version = found.ok_or_else(|| no_version(face, &id))?;
    if version.policy.is_empty() {
        return Err(Refusal::not_found(
            "No policy is associated with the given resource.",
        ));
    }
    let policy = policy::whole(None, version.policy.iter());
    let document = json!({"Policy": policy, "RevisionId": revision_id(&version)});
    Ok(answer(StatusCode::OK, &document))
}

fn is_principal(text: &str) -> bool {
    let account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let root = || {
        let (partition, rest) = text.strip_prefix("arn:")?.split_once(":iam::")?;
        let good = |c: char| c.is_ascii_alphabetic() || c == '-';
        let aws = partition.starts_with("aws") && partition.chars().all(good);
        Some(aws && account(rest.strip_suffix(":root")?))
    };
    text == "*" || account(text) || root().unwrap_or(false)
}

fn revision_id(version: &Version) -> String {
    let of = format!("{}/{}", version.id, version.created_at);
    document::opaque(&format!("layer/{of}/policy/{}", version.revision))
}

fn held_to(given: Option<&str>, version: &Version) -> Result<(), Refusal> {
    match given {
        Some(given) if given != revision_id(version) => {
            let mut stale = Refusal::stale();
            stale.message = stale
                .message
                .replace("GetFunction/GetAlias", "GetLayerPolicy");
            Err(stale)
        }
        _ => Ok(()),
    }
}

fn no_version(face: &Lambda, id: &Id) -> Refusal {
    let arn = layers::arn(&face.settings.place, id);
    Refusal::not_found(format!("Layer version {arn} does not exist."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_have_a_form() {
        for good in [
            "*",
            "123456789012",
            "arn:aws:iam::123456789012:root",
            "arn:aws-cn:iam::123456789012:root",
        ] {
            assert!(is_principal(good), "{good}");
        }
        for bad in [
            "",
            "12345678901",
            "arn:aws:iam::123456789012:user/x",
            "arn:gcp:iam::123456789012:root",
            "lambda.amazonaws.com",
        ] {
            assert!(!is_principal(bad), "{bad}");
        }
    }
}
