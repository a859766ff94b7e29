//! Places of deliveries that go the same way: to one host, or to the service that queues are at. Where somebody is silent, each delivery there has
//! its place until it is given up; so those of one way have half of the places at most, and what is for others goes on. Who finds none waits a
//! moment, for those before it are done soon as a rule, and is tried again later.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::destination::Destination;
use crate::queue::carrier::Refusal;

/// Nobody has a place only to wait for another for longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Lanes {
    each: usize,
    /// Those that are in use.
    lanes: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Lanes {
    /// `places` is how many deliveries there may be, of all ways.
    pub(super) fn new(places: usize) -> Self {
        Self {
            each: (places / 2).max(1),
            lanes: Mutex::default(),
        }
    }

    /// A place on the way to a destination, until it is dropped; `None` if it needs none.
    pub(super) async fn enter(
        &self,
        to: &Destination,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let Some(way) = to.way() else { return Ok(None) };
        let entering = self.lane(way).acquire_owned();
        match tokio::time::timeout(PATIENCE, entering).await {
            Ok(place) => Ok(Some(place.expect("it is never closed"))),
            Err(_elapsed) => Err(Refusal {
                message: "deliveries to the same place wait for an answer".into(),
                for_now: true,
            }),
        }
    }

    fn lane(&self, way: &str) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(way).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(self.each));
        lanes.insert(way.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Destination {
        Destination::parse(text).expect(text)
    }

    #[tokio::test(start_paused = true)]
    async fn one_way_never_has_all_the_places() {
        let lanes = Lanes::new(4);
        let queue = |name: &str| to(&format!("arn:aws:sqs:us-east-1:000000000000:{name}"));
        let mut held = Vec::new();
        for name in ["a", "b"] {
            held.push(lanes.enter(&queue(name)).await.expect("there is a place"));
        }
        // They are all at one service.
        let refused = lanes.enter(&queue("c")).await.expect_err("it is silent");
        assert!(refused.for_now);
        for other in ["https://one.example/a", "https://one.example/b?c"] {
            held.push(lanes.enter(&to(other)).await.expect("another way"));
        }
        let third = to("https://one.example:443");
        assert!(lanes.enter(&third).await.expect("another port").is_some());
        assert!(lanes.enter(&to("http://one.example/")).await.is_err());
        assert!(lanes.enter(&to("stream:x")).await.expect("none").is_none());
        // Who waits for a moment has the place that becomes free.
        let waiting = queue("d");
        let mut waits = Box::pin(lanes.enter(&waiting));
        assert!(futures_util::poll!(&mut waits).is_pending());
        held.clear();
        assert!(waits.await.expect("it is free").is_some());
        // Nothing is kept of ways that nobody goes.
        lanes.enter(&queue("e")).await.expect("it is free");
        assert_eq!(lanes.lanes.lock().len(), 1);
    }
}
