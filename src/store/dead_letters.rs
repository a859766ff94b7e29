//! Events that failed for good and whose payloads are kept, as every store keeps them: until somebody has them run once more, or discards
//! them. One step takes an event out of the dead letters and puts it back into the queue, so that it is in one of them, once.

use std::str::FromStr;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::event::Record;
use crate::domain::id::RequestId;
use crate::store::Error;
use crate::store::events::Bounds;

/// Where in the list a dead letter is: the last one that died comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Milliseconds since the epoch.
    pub at: u64,
    pub id: RequestId,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.at, self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('-').ok_or(())?;
        Ok(Self {
            at: at.parse().map_err(|_no_number| ())?,
            id: RequestId::parse(id).ok_or(())?,
        })
    }
}

pub trait DeadLetters {
    /// Up to `most` of them, after a place.
    fn dead(
        &self,
        after: Option<Place>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(Place, Record)>, Error>>;
    /// One with its payload; `None` if it is none.
    fn dead_letter<'a>(
        &'a self,
        id: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<(Record, Bytes)>, Error>>;
    /// Queues it again as if it had never been tried; its age counts from `at`. `false` if it is none; `Error::Full` if too many events
    /// wait.
    fn redrive<'a>(
        &'a self,
        id: &'a RequestId,
        at: jiff::Timestamp,
        bounds: Bounds,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// Drops the payload; that it failed stays known. `false` if it is none.
    fn discard<'a>(&'a self, id: &'a RequestId) -> BoxFuture<'a, Result<bool, Error>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place {
            at: 1_795_000_000_123,
            id: RequestId::generate(),
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1", "-", "1-x", &format!("x-{}", place.id)] {
            assert_eq!(bad.parse::<Place>(), Err(()), "{bad}");
        }
    }
}
