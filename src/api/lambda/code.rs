//! A function's code as a zip: the URL that GetFunction hands out, signed for its caller like one of S3's, and what is there.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use crate::api::body::Body;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
use crate::api::lambda::sigv4::presign::{self, Signer};
use crate::api::lambda::{Asked, Lambda, SERVICE};
use crate::clock;
use crate::domain::function::Function;
use crate::domain::key::Grant;
use crate::domain::version::VersionId;
use crate::secrets::key_place;

/// As long as AWS's.
const SECONDS: u32 = 600;

/// Where the code of a function is, for who asks and whom they tell.
pub(super) fn location(
    face: &Lambda,
    asked: &Asked,
    function: &Function,
    version: VersionId,
) -> Result<String, Refusal> {
    // In the path, where a colon needs no escaping.
    let path = format!("/2015-03-31/functions/{}:{version}/code", function.name);
    signed(face, (&asked.caller, &asked.parts), &path)
}

/// The URL of a path of this server, for as long as AWS's are good.
pub(super) fn signed(
    face: &Lambda,
    (caller, parts): (&Arc<Grant>, &Parts),
    path: &str,
) -> Result<String, Refusal> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(parts.uri.authority().map(|authority| authority.as_str()));
    let host = host.unwrap_or("localhost");
    let forwarded = parts.headers.get("x-forwarded-proto");
    let forwarded = forwarded.and_then(|proto| proto.to_str().ok());
    // Something in front of Hearth may speak TLS for it; it only says so to the one who asks.
    let tls = face.tls || forwarded == Some("https");
    let scheme = if tls { "https" } else { "http" };
    let secret = || {
        let holder = face.control.keys.holder(&caller.id).ok()?;
        let secrets = face.control.scheduler.secrets();
        secrets.unseal(&key_place(&caller.id), &holder.sealed?).ok()
    };
    let secret = secret().ok_or_else(|| {
        Refusal::service("no URL can be signed: there is no copy of this key that can be read")
    })?;
    let signer = Signer {
        access_key: &caller.id,
        secret: &secret,
        region: &face.settings.place.region,
        service: SERVICE,
    };
    let query = presign::query(signer, host, path, clock::wall(), SECONDS);
    Ok(format!("{scheme}://{host}{path}?{query}"))
}

pub(super) async fn download(face: &Lambda, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let named = face.named(asked, Do::DownloadCode, "GetFunction")?;
    let function = face.shown(&named)?.function;
    zip(face, &function.code.sha256, &function.name).await
}

/// The package of a function or a layer.
pub(super) async fn zip(
    face: &Lambda,
    sha256: &str,
    of: impl fmt::Display,
) -> Result<Response<Body>, Refusal> {
    let zip = face.control.package(sha256, of).await?;
    let mut response = Response::new(Body::Full(zip));
    *response.status_mut() = StatusCode::OK;
    let zip = HeaderValue::from_static("application/zip");
    response.headers_mut().insert(CONTENT_TYPE, zip);
    Ok(response)
}
