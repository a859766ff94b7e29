//! DeleteFunction.

use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty};
use crate::domain::function::LATEST;
use crate::domain::id::AliasName;

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::DeleteFunction, "DeleteFunction")?;
    // Both before AWS looks whether there is such a function.
    if named.qualifier.as_deref() == Some(LATEST) {
        return Err(Refusal::parameter(
            "$LATEST version cannot be deleted without deleting the function.",
        ));
    }
    let qualifier = named.qualifier.as_deref();
    if qualifier.is_some_and(|text| AliasName::parse(text).is_ok()) {
        return Err(Refusal::parameter(
            "Deletion of aliases is not currently supported.",
        ));
    }
    let target = face.latest(&named).ok_or_else(|| {
        let arn = face.settings.place.function(&named.name);
        Refusal::not_found(format!("Function not found: {arn}"))
    })?;
    let id = target.function.id.to_string();
    let deploy = &face.control.deploy;
    match qualifier.map(str::parse::<u64>) {
        None => deploy.delete(asked.caller, id, None).await?,
        // It is neither a number nor an alias, and of no version.
        Some(Err(_)) => {}
        Some(Ok(number)) => {
            match deploy.delete_version(asked.caller, id, number).await {
                // As on AWS: it is not there, and that was wanted.
                Ok(()) | Err(Problem::NoVersion { .. }) => {}
                Err(Problem::VersionInUse { by, .. }) => {
                    let by = by.join(", ");
                    return Err(Refusal::conflict(format!(
                        "Unable to delete version because the following aliases reference it: [{by}]"
                    )));
                }
                Err(problem) => return Err(problem.into()),
            }
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}
