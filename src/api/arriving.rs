//! Bodies of calls, read whole before their call begins, however slowly they come: within their limit, their time and the room that all of
//! these share. What has come counts towards no limit of calls yet: whoever may call may have very many under way, and a route may be called
//! by everybody. So what has come of a body whose rest is waited for takes room, and so does waiting itself; who finds none is refused, and
//! what it had is free again. A body that comes in one piece, with its head or after it, takes none but while it is waited for. Warm path: such a
//! body is not copied, and one that came with its head needs no timer and no lock.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_fn;
use http_body::Body;
use http_body_util::BodyExt;

use crate::api::room::{Client, NoRoom, Part, Room};
use crate::domain::fault::{Fault, Throttle, with_sources};
use crate::telemetry::metrics;

const MIB: usize = 1024 * 1024;
/// What a request takes that waits, besides its body: its task, and what the libraries keep of it and its connection.
pub const WAITING: usize = 32 * 1024;

/// What bodies are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of one, in bytes.
    pub most: usize,
    /// All of it arrives within this.
    pub patience: Duration,
    /// What is read, and thrown away, of one that is refused. Many clients look for an answer only after they have sent everything; cut off
    /// earlier, they see a broken connection instead of the reason.
    pub discarded: usize,
}

/// A body that is wanted, and for it.
pub async fn whole<B>(
    body: &mut B,
    limits: Limits,
    room: &Room,
    client: Client<'_>,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    let patience = limits.patience;
    let (mut waiting, mut read) = (Part::new(room, client), None);
    {
        let mut reading = std::pin::pin!(pieces(body, limits.most, room, client));
        match early(&mut reading).await {
            Some(early) => read = Some(early),
            None if waiting.more(WAITING).is_ok() => {
                let late = |_| Err(Fault::BodyIncomplete(format!("not within {patience:?}")));
                let in_time = tokio::time::timeout(patience, reading).await;
                read = Some(in_time.unwrap_or_else(late));
            }
            None => {}
        }
    }
    // Who may not wait for it does not wait for its end, either.
    let read = read.unwrap_or_else(|| Err(full(room)));
    if let Err(Fault::PayloadTooLarge { .. } | Fault::Throttled { .. }) = &read
        && (waiting.any() || waiting.more(WAITING).is_ok())
    {
        // However this ends, the answer is the same. Boxed, because most calls carry nothing of it.
        let discarding = discard(body, limits.discarded);
        let discarded = Box::pin(tokio::time::timeout(patience, discarding));
        discarded.await.ok();
    }
    read
}

/// What is there at the second look. hyper hands a body on when it has been asked for it, so the first finds nothing.
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

async fn pieces<B>(
    body: &mut B,
    limit: usize,
    room: &Room,
    client: Client<'_>,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
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
    let mut part = Part::new(room, client);
    let mut more = |bytes: usize| part.more(bytes).map_err(|NoRoom| full(room));
    if !body.is_end_stream() {
        more(first.len())?;
    }
    let Some(mut piece) = next(body).await? else {
        return Ok(first);
    };
    // What was announced is no memory before it has come.
    let mut whole = BytesMut::with_capacity(announced.max(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    loop {
        check(whole.len() + piece.len())?;
        more(piece.len())?;
        whole.extend_from_slice(&piece);
        match next(body).await? {
            Some(more) => piece = more,
            None => return Ok(whole.freeze()),
        }
    }
}

/// The next piece with anything in it.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, Fault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        // Trailers are no part of the payload.
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn discard<B>(body: &mut B, most: usize)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    let mut discarded = 0;
    while discarded < most
        && let Ok(Some(piece)) = next(body).await
    {
        discarded += piece.len();
    }
}

/// Why a body ended before its end. One that is written wrongly is written wrongly the next time; the rest may have been the network.
pub fn broken(error: &(dyn Error + 'static)) -> Fault {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let malformed = causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(
            kind,
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        )
    });
    let text = with_sources(error);
    match malformed {
        true => Fault::BodyMalformed(text),
        false => Fault::BodyIncomplete(text),
    }
}

fn full(room: &Room) -> Fault {
    metrics::body_refused();
    Fault::Throttled {
        reason: Throttle::Arriving,
        limit: u32::try_from(room.most() / MIB).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::Body;
    use futures_util::{StreamExt, stream};

    use super::*;

    const SOMEBODY: Client<'static> = Client::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn limits(most: usize) -> Limits {
        Limits {
            most,
            patience: Duration::from_secs(1),
            discarded: 100,
        }
    }

    fn in_pieces(pieces: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(pieces).map(Ok::<_, std::io::Error>))
    }

    async fn read(mut body: Body, most: usize, room: &Room) -> Result<Bytes, Fault> {
        let read = whole(&mut body, limits(most), room, SOMEBODY).await;
        assert!(!room.is_full_for(SOMEBODY), "nothing is kept");
        read
    }

    #[tokio::test]
    async fn what_arrives_in_pieces_is_whole() {
        let room = Room::new(8);
        let pieces = || in_pieces(vec![b"a".to_vec(), vec![], b"bc".to_vec(), b"d".to_vec()]);
        assert_eq!(read(pieces(), 4, &room).await.expect("fits"), "abcd");
        assert_eq!(read(Body::empty(), 4, &room).await.expect("fits"), "");
        let (size, limit) = (4, 3);
        assert_eq!(
            read(pieces(), 3, &room).await,
            Err(Fault::PayloadTooLarge { size, limit })
        );
        let large = in_pieces(vec![vec![0; 4], vec![0; 1]]);
        let (reason, limit) = (Throttle::Arriving, 0);
        assert_eq!(
            read(large, 9, &room).await,
            Err(Fault::Throttled { reason, limit })
        );
        // Whoever has sent all at once holds nothing that somebody else waits for.
        let at_once = Body::from(vec![0; 9]);
        assert_eq!(read(at_once, 9, &room).await.expect("fits").len(), 9);
        let (size, limit) = (9, 8);
        assert_eq!(
            read(Body::from(vec![0; 9]), 8, &room).await,
            Err(Fault::PayloadTooLarge { size, limit })
        );
    }

    #[tokio::test]
    async fn a_body_that_is_written_wrongly_is_told_from_one_that_did_not_come() {
        let after = async |kind: io::ErrorKind| {
            let pieces = [Ok(&b"a"[..]), Err(io::Error::from(kind))];
            let broken = Body::from_stream(stream::iter(pieces));
            read(broken, 4, &Room::new(8)).await
        };
        for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData] {
            let read = after(kind).await;
            assert!(matches!(read, Err(Fault::BodyMalformed(_))), "{read:?}");
        }
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let read = after(kind).await;
            assert!(matches!(read, Err(Fault::BodyIncomplete(_))), "{read:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_takes_room_and_time() {
        let never = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let room = Room::new(2 * WAITING);
        let late = read(never(), 4, &room).await;
        assert!(matches!(late, Err(Fault::BodyIncomplete(_))), "{late:?}");
        let begun = tokio::time::Instant::now();
        let room = Room::new(2 * WAITING - 1);
        let refused = read(never(), 4, &room).await;
        assert!(
            matches!(refused, Err(Fault::Throttled { .. })),
            "{refused:?}"
        );
        assert_eq!(
            begun.elapsed(),
            Duration::ZERO,
            "and not for the rest of it"
        );
    }
}
