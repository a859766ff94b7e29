//! DeleteFunction.

use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty};
use crate::domain::function::LATEST;

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::DeleteFunction, "DeleteFunction")?;
    let target = face.latest(&named).ok_or_else(|| {
        let arn = face.settings.place.function(&named.name);
        Refusal::not_found(format!("Function not found: {arn}"))
    })?;
    if named.qualifier.as_deref() == Some(LATEST) {
        return Err(Refusal::parameter(
            "$LATEST version cannot be deleted without deleting the function.",
        ));
    }
    let id = target.function.id.to_string();
    let deploy = &face.control.deploy;
    match named.qualifier.as_deref().map(str::parse::<u64>) {
        None => deploy.delete(asked.caller, id, None).await?,
        Some(Ok(number)) => {
            match deploy.delete_version(asked.caller, id, number).await {
                // As on AWS: it is not there, and that was wanted.
                Ok(()) | Err(Problem::NoVersion { .. }) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        // An alias is deleted by an operation of its own.
        Some(Err(_alias)) => {
            return Err(Refusal::parameter(format!(
                "Value {} at 'qualifier' is not a version: delete an alias with DeleteAlias.",
                named.qualifier.unwrap_or_default()
            )));
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}
