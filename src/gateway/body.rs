//! A call's payload, read whole: within its limit and its time. Warm path: a body that came in one piece is not copied.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::domain::fault::Fault;

pub async fn read(mut body: Incoming, limit: usize, timeout: Duration) -> Result<Bytes, Fault> {
    let too_large = |size: u64| Fault::PayloadTooLarge {
        size,
        limit: limit as u64,
    };
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(announced));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let whole = async {
        let first = next(&mut body).await?.unwrap_or_default();
        let Some(mut piece) = next(&mut body).await? else {
            return if first.len() > limit {
                Err(too_large(first.len() as u64))
            } else {
                Ok(first)
            };
        };
        let mut whole =
            BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0).max(first.len()));
        whole.extend_from_slice(&first);
        drop(first);
        loop {
            let size = whole.len() + piece.len();
            if size > limit {
                return Err(too_large(size as u64));
            }
            whole.extend_from_slice(&piece);
            match next(&mut body).await? {
                Some(more) => piece = more,
                None => return Ok(whole.freeze()),
            }
        }
    };
    match tokio::time::timeout(timeout, whole).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Fault::BodyIncomplete(format!("not within {timeout:?}"))),
    }
}

/// The next piece with anything in it.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::BodyIncomplete(error.to_string()))?;
        // Trailers are no part of the payload.
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
