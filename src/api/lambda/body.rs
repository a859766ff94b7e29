//! A request's body, whole, within the limit of its operation. A body that is too large is read to its end all the same, and thrown away:
//! clients look for an answer only after they have sent everything.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::arriving::{self, Limits};
use crate::api::control::intake;
use crate::api::error::Problem;
use crate::api::lambda::Lambda;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::invoke::refusal;
use crate::api::lambda::routes::Do;
use crate::api::room::Client;
use crate::domain::fault::Fault;
use crate::domain::limits::PAYLOAD_MAX;

/// What AWS takes for an operation with code in it, for a call, and for all others.
const CODE_MAX: usize = 70_167_211;
const OTHER_MAX: usize = 1024 * 1024;
/// Signatures of chunks are not counted: there is one for each 8 KiB at most.
const CHUNKS_PART: usize = 64;
/// What is thrown away of a body that is too large.
const DISCARD_MAX: usize = 128 * 1024 * 1024;

type Read = (Bytes, Option<OwnedSemaphorePermit>);

pub async fn read(
    face: &Lambda,
    parts: &Parts,
    mut body: Body,
    does: Option<Do>,
) -> Result<Read, Refusal> {
    let headers = &parts.headers;
    let (limit, called) = limit(does);
    let chunked = headers.contains_key("x-amz-decoded-content-length");
    let most = if chunked {
        limit + limit / CHUNKS_PART
    } else {
        limit
    };
    let too_large = || {
        Refusal::too_large(format!(
            "Request must be smaller than {limit} bytes for the {called} operation"
        ))
    };
    if limit == PAYLOAD_MAX {
        // Calls wait for their function; what they hold is theirs alone, as on the native face.
        let limits = Limits {
            most,
            patience: face.body_timeout,
            discarded: DISCARD_MAX,
        };
        let peer = parts.extensions.get::<IpAddr>();
        // Only tests come from nowhere.
        let client = Client::Address(*peer.unwrap_or(&IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let read = arriving::whole(&mut body, limits, &face.arriving, client).await;
        return match read {
            Ok(bytes) => Ok((bytes, None)),
            Err(Fault::PayloadTooLarge { .. }) => Err(too_large()),
            Err(fault @ (Fault::BodyIncomplete(_) | Fault::BodyMalformed(_))) => {
                Err(Problem::of_body(&fault).into())
            }
            Err(fault) => Err(refusal(&fault)),
        };
    }
    let declared = headers.get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > most) {
        discard(face, &mut body).await;
        return Err(too_large());
    }
    let room = match limit {
        CODE_MAX => Some(face.control.room.hold(declared.unwrap_or(most)).await?),
        _ => None,
    };
    match intake::whole(&mut body, most, face.body_timeout).await {
        Ok(bytes) => Ok((bytes, room)),
        Err(Problem::TooLarge { .. }) => {
            discard(face, &mut body).await;
            Err(too_large())
        }
        Err(problem) => Err(problem.into()),
    }
}

fn limit(does: Option<Do>) -> (usize, &'static str) {
    match does {
        Some(Do::CreateFunction) => (CODE_MAX, "CreateFunction"),
        Some(Do::UpdateFunctionCode) => (CODE_MAX, "UpdateFunctionCode"),
        Some(Do::PublishLayerVersion) => (CODE_MAX, "PublishLayerVersion"),
        Some(Do::Invoke | Do::InvokeAsync | Do::InvokeWithResponseStream) => {
            (PAYLOAD_MAX, "InvokeFunction")
        }
        _ => (OTHER_MAX, "requested"),
    }
}

async fn discard(face: &Lambda, body: &mut Body) {
    let discarding = async {
        let mut discarded = 0;
        while discarded < DISCARD_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // However this ends, the answer is the same.
    tokio::time::timeout(face.body_timeout, discarding)
        .await
        .ok();
}
