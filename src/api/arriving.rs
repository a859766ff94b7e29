//! Memory for bodies of calls while they arrive. A body is read whole before its call begins, however slowly it comes, and what has come of
//! it counts towards no limit of calls yet: whoever may call may have very many under way, and a route may be called by everybody. What
//! a body takes beyond its first piece comes from one room; who finds none is refused, and what he had is free again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::api::error::Problem;
use crate::domain::fault::{Fault, Throttle};
use crate::telemetry::metrics;

const MIB: usize = 1024 * 1024;
/// So much of each body is free: nearly all of them are no larger, and they are never refused.
const FREE: usize = 16 * 1024;

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
        let (room, seen, taken) = (self, 0, 0);
        Arriving { room, seen, taken }
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
    seen: usize,
    taken: usize,
}

impl Arriving<'_> {
    /// So many more have come.
    pub fn more(&mut self, bytes: usize) -> Result<(), Fault> {
        self.seen += bytes;
        let lacking = self.seen.saturating_sub(FREE) - self.taken;
        if lacking == 0 {
            return Ok(());
        }
        if !self.room.take(lacking) {
            metrics::body_refused();
            return Err(Fault::Throttled {
                reason: Throttle::Arriving,
                limit: u32::try_from(self.room.most / MIB).unwrap_or(u32::MAX),
            });
        }
        self.taken += lacking;
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
            let room = arriving.more(piece.len());
            room.map_err(|_no_room| Problem::Busy)?;
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
    fn bodies_share_a_room_and_what_is_small_needs_none() {
        let room = Room::new(10 * FREE);
        let (mut one, mut other, mut small) = (room.begin(), room.begin(), room.begin());
        assert!(one.more(FREE).is_ok() && one.more(8 * FREE).is_ok());
        assert!(other.more(2 * FREE).is_ok());
        assert_eq!(room.taken.load(Ordering::Relaxed), 9 * FREE);
        let refused = other.more(FREE + 1);
        let reason = Throttle::Arriving;
        assert_eq!(refused, Err(Fault::Throttled { reason, limit: 0 }));
        assert!(small.more(FREE - 1).is_ok() && small.more(1).is_ok());
        drop(one);
        assert!(small.more(8 * FREE).is_ok());
        drop((other, small));
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_arrives_in_pieces_is_whole() {
        let room = Room::new(2 * FREE);
        let read = async |pieces: Vec<Vec<u8>>, limit| {
            let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
            let mut body = Body::from_stream(stream::iter(pieces));
            whole(&mut body, limit, LONG, &room).await
        };
        let pieces = || vec![b"a".to_vec(), Vec::new(), b"bc".to_vec(), b"d".to_vec()];
        assert_eq!(read(pieces(), 4).await.expect("fits"), "abcd");
        assert_eq!(read(Vec::new(), 4).await.expect("fits"), "");
        assert_eq!(read(pieces(), 3).await, Err(Problem::TooLarge { limit: 3 }));
        let large = vec![vec![0; 2 * FREE]; 2];
        assert_eq!(read(large, usize::MAX).await, Err(Problem::Busy));
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        let mut never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let late = whole(&mut never, 4, Duration::from_millis(1), &room).await;
        assert!(matches!(late, Err(Problem::BodyIncomplete(_))), "{late:?}");
    }
}
