//! GetFunction and GetFunctionConfiguration.

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::body::Body;
use crate::api::lambda::document::{self, Moment};
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Asked, Lambda, Shown, ascii, code, json as answer};
use crate::domain::function::Function;

/// Which runtime stands for the one that was asked for.
pub const RUNTIME: HeaderName = HeaderName::from_static("x-hearth-runtime");

pub(super) fn configuration(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(
        asked,
        Do::GetFunctionConfiguration,
        "GetFunctionConfiguration",
    )?;
    let Shown {
        function, version, ..
    } = face.shown(&named)?;
    let arn = named.arn(&face.settings.place);
    let document = document::configuration(face, &function, version, &arn, Moment::Settled);
    Ok(said(answer(StatusCode::OK, &document), &function))
}

pub(super) fn function(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::GetFunction, "GetFunction")?;
    let Shown {
        function,
        version,
        latest,
    } = face.shown(&named)?;
    let arn = named.arn(&face.settings.place);
    let configuration = document::configuration(face, &function, version, &arn, Moment::Settled);
    let mut code = match function.image() {
        Some(image) => {
            json!({"RepositoryType": "ECR", "ImageUri": image.uri, "ResolvedImageUri": image.resolved()})
        }
        None => {
            json!({"RepositoryType": "S3", "Location": code::location(face, asked, &function, version)?})
        }
    };
    if let Some(key) = &function.aws.source_kms_key {
        code["SourceKMSKeyArn"] = key.as_str().into();
    }
    let mut document = json!({"Configuration": configuration, "Code": code});
    if !latest.function.tags.is_empty() {
        document["Tags"] = json!(latest.function.tags);
    }
    if let Some(reserved) = latest.function.reserved_concurrency {
        document["Concurrency"] = json!({ "ReservedConcurrentExecutions": Value::from(reserved) });
    }
    Ok(said(answer(StatusCode::OK, &document), &function))
}

/// The answer with the runtime that really runs the function.
pub(super) fn said(mut response: Response<Body>, function: &Function) -> Response<Body> {
    let runtime: HeaderValue = ascii(function.runtime.as_str());
    response.headers_mut().insert(RUNTIME, runtime);
    response
}
