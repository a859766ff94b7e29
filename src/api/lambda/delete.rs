//! DeleteFunction.

use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, empty};
use crate::domain::function::LATEST;

pub(super) async fn delete(face: &Lambda, asked: Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(&asked, Do::DeleteFunction, "DeleteFunction")?;
    let target = face.found(&named)?;
    if named.qualifier.as_deref() == Some(LATEST) {
        return Err(Refusal::parameter(
            "$LATEST version cannot be deleted without deleting the function.",
        ));
    }
    let id = target.function.id.to_string();
    face.control.deploy.delete(asked.caller, id, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
