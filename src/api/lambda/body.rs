//! A request's body, whole, within the limit of its operation. A body that is too large is read to its end all the same, and thrown away:
//! clients look for an answer only after they have sent everything.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::arriving;
use crate::api::control::intake;
use crate::api::error::Problem;
use crate::api::lambda::Lambda;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::routes::Do;
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
    headers: &HeaderMap,
    mut body: Body,
    does: Option<Do>,
) -> Result<Read, Refusal> {
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
    let declared = headers.get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > most) {
        discard(face, &mut body).await;
        return Err(too_large());
    }
    // Calls wait for their function; what they hold is theirs alone, as on the native face.
    let room = match limit {
        CODE_MAX => Some(face.control.room.hold(declared.unwrap_or(most)).await?),
        _ => None,
    };
    let arrived = match limit {
        // What calls hold before they are any.
        PAYLOAD_MAX => arriving::whole(&mut body, most, face.body_timeout, &face.arriving).await,
        _ => intake::whole(&mut body, most, face.body_timeout).await,
    };
    match arrived {
        Ok(bytes) => Ok((bytes, room)),
        Err(Problem::TooLarge { .. }) => {
            discard(face, &mut body).await;
            Err(too_large())
        }
        Err(Problem::Busy) if room.is_none() => {
            discard(face, &mut body).await;
            Err(Refusal::throttled(
                "CallerRateLimitExceeded",
                "Rate Exceeded.",
            ))
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
