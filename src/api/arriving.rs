//! Memory for bodies of calls while they arrive. A body is read whole before its call begins, however slowly it comes, and what has come of
//! it counts towards no limit of calls yet: whoever may call may have very many under way, and a route may be called by everybody. What has
//! come of a body whose rest is waited for comes from one room; who finds none is refused, and what he had is free again. A body that comes
//! in one piece is never waited for with anything in hand, and needs no room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::api::error::Problem;
use crate::domain::fault::{Fault, Throttle};
use crate::telemetry::metrics;

const MIB: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    pub fn new(most: usize) -> Self {
        let taken = AtomicUsize::new(0);
        Self { most, taken }
    }

    /// For one body.
    pub fn begin(&self) -> Arriving<'_> {
        let (room, taken) = (self, 0);
        Arriving { room, taken }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                let taken = taken.checked_add(bytes)?;
                (taken <= self.most).then_some(taken)
            });
        taken.is_ok()
    }
}

/// What one body takes, until it is dropped.
#[derive(Debug)]
pub struct Arriving<'a> {
    room: &'a Room,
    taken: usize,
}

impl Arriving<'_> {
    /// So many more have come.
    pub fn more(&mut self, bytes: usize) -> Result<(), Fault> {
        if !self.room.take(bytes) {
            metrics::body_refused();
            return Err(Fault::Throttled {
                reason: Throttle::Arriving,
                limit: u32::try_from(self.room.most / MIB).unwrap_or(u32::MAX),
            });
        }
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// A body of at most `limit` bytes, which has `patience` to arrive.
pub async fn whole(
    body: &mut Body,
    limit: usize,
    patience: Duration,
    room: &Room,
) -> Result<Bytes, Problem> {
    let mut arriving = room.begin();
    let reading = async {
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::BodyIncomplete(error.to_string()))?;
            // Trailers are no part of it.
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if first.len() + rest.len() + piece.len() > limit {
                return Err(Problem::TooLarge { limit });
            }
            let alone = first.is_empty() && rest.is_empty() && body.is_end_stream();
            if !alone {
                let room = arriving.more(piece.len());
                room.map_err(|_no_room| Problem::Busy)?;
            }
            match (first.is_empty(), rest.is_empty()) {
                (true, true) => first = piece,
                (_, true) => {
                    rest = BytesMut::from(&first[..]);
                    first = Bytes::new();
                    rest.extend_from_slice(&piece);
                }
                _ => rest.extend_from_slice(&piece),
            }
        }
        Ok(if rest.is_empty() {
            first
        } else {
            rest.freeze()
        })
    };
    let read = tokio::time::timeout(patience, reading).await;
    read.unwrap_or_else(|_elapsed| Err(Problem::BodyIncomplete("it took too long".into())))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    #[test]
    fn bodies_share_a_room() {
        let room = Room::new(10);
        let (mut one, mut other) = (room.begin(), room.begin());
        assert!(one.more(1).is_ok() && one.more(7).is_ok());
        assert!(other.more(1).is_ok());
        assert_eq!(room.taken.load(Ordering::Relaxed), 9);
        let refused = other.more(2);
        let reason = Throttle::Arriving;
        assert_eq!(refused, Err(Fault::Throttled { reason, limit: 0 }));
        drop(one);
        assert!(other.more(9).is_ok());
        drop(other);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_arrives_in_pieces_is_whole() {
        let room = Room::new(4);
        let read = async |pieces: Vec<Vec<u8>>, limit| {
            let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
            let mut body = Body::from_stream(stream::iter(pieces));
            whole(&mut body, limit, LONG, &room).await
        };
        let pieces = || vec![b"a".to_vec(), Vec::new(), b"bc".to_vec(), b"d".to_vec()];
        assert_eq!(read(pieces(), 4).await.expect("fits"), "abcd");
        assert_eq!(read(Vec::new(), 4).await.expect("fits"), "");
        assert_eq!(read(pieces(), 3).await, Err(Problem::TooLarge { limit: 3 }));
        let large = vec![vec![0; 4], vec![0; 1]];
        assert_eq!(read(large, usize::MAX).await, Err(Problem::Busy));
        // Whoever has sent all at once holds nothing that somebody else waits for.
        let whole_at_once = Body::from(vec![0; 5]);
        let read_whole = async |mut body| whole(&mut body, 5, LONG, &room).await;
        assert_eq!(read_whole(whole_at_once).await.expect("fits").len(), 5);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        let mut never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let late = whole(&mut never, 4, Duration::from_millis(1), &room).await;
        assert!(matches!(late, Err(Problem::BodyIncomplete(_))), "{late:?}");
    }
}
