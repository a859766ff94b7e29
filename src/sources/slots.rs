//! How many batches of one mapping are under way in this process, whichever poller began them: one that was told to end has its batches for as long
//! as their calls take, and the one after it must not have as many again besides.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: AtomicUsize,
    freed: Notify,
}

/// What a batch has from before its messages are received, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Slots {
    /// Waits until fewer than `most` are taken. Dropping it is safe.
    pub(super) async fn enter(self: &Arc<Self>, most: usize) -> Slot {
        loop {
            // What is freed after the look is not missed.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
            let one_more = |taken| (taken < most).then_some(taken + 1);
            if self.taken.fetch_update(set, fetch, one_more).is_ok() {
                return Slot(self.clone());
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn there_are_so_many_and_what_is_freed_is_the_next_ones() {
        let slots = Arc::new(Slots::default());
        let held = [slots.enter(2).await, slots.enter(2).await];
        let mut next = Box::pin(slots.enter(2));
        assert!(poll!(&mut next).is_pending());
        // Another bound, of somebody who was told of it.
        let third = slots.enter(3).await;
        let [first, second] = held;
        drop(first);
        assert!(poll!(&mut next).is_pending());
        drop(second);
        let next = next.await;
        drop((third, next));
        assert_eq!(slots.taken.load(Ordering::Relaxed), 0);
    }
}
