//! A call's payload, read whole: within its limit and its time. Warm path: a body that came in one piece is not copied.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_fn;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::api::arriving::Room;
use crate::domain::fault::Fault;

/// What is read, and thrown away, of a body that is too large. Many clients look for an answer only after they have sent
/// everything; cut off earlier, they see a broken connection instead of the reason.
const DISCARD_MAX: usize = 32 * 1024 * 1024;

pub async fn read(
    mut body: Incoming,
    limit: usize,
    timeout: Duration,
    room: &Room,
) -> Result<Bytes, Fault> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let read = {
        let mut whole = std::pin::pin!(whole(&mut body, limit, room));
        match early(&mut whole).await {
            Some(read) => read,
            None => {
                let read = tokio::time::timeout(timeout, whole).await;
                let late = |_elapsed| Err(Fault::BodyIncomplete(format!("not within {timeout:?}")));
                read.unwrap_or_else(late)
            }
        }
    };
    if let Err(Fault::PayloadTooLarge { .. } | Fault::Throttled { .. }) = &read {
        // However this ends, the answer is the same. Boxed, because most calls carry nothing of it.
        let discarded = Box::pin(tokio::time::timeout(timeout, discard(&mut body)));
        discarded.await.ok();
    }
    read
}

/// What is there at the second look. hyper hands a body on when it has been asked for it, so the first finds nothing; a body that
/// came with its head needs no timer.
async fn early<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut looked = false;
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn whole(body: &mut Incoming, limit: usize, room: &Room) -> Result<Bytes, Fault> {
    let check = |size: usize| match size > limit {
        true => Err(Fault::PayloadTooLarge {
            size: size as u64,
            limit: limit as u64,
        }),
        false => Ok(()),
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    check(announced)?;
    let first = next(body).await?.unwrap_or_default();
    check(first.len())?;
    let mut arriving = room.begin();
    if !body.is_end_stream() {
        arriving.more(first.len())?;
    }
    let Some(mut piece) = next(body).await? else {
        return Ok(first);
    };
    let mut whole = BytesMut::with_capacity(announced.max(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    loop {
        check(whole.len() + piece.len())?;
        arriving.more(piece.len())?;
        whole.extend_from_slice(&piece);
        match next(body).await? {
            Some(more) => piece = more,
            None => return Ok(whole.freeze()),
        }
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

async fn discard(body: &mut Incoming) {
    let mut discarded = 0;
    while discarded < DISCARD_MAX
        && let Ok(Some(piece)) = next(body).await
    {
        discarded += piece.len();
    }
}
