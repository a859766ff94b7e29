//! Memory that messages of queues take here, from the moment that an answer with them is read until the function they are for has had them: all
//! mappings together have one room. Who finds none waits, and the answer waits unread, at the other end of its connection; who waits holds
//! nothing of the room meanwhile, or two could wait for each other.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::clock;
use crate::telemetry::metrics;

const KIB: usize = 1024;
/// What messages take besides their text, ten of them, and the request for them.
const REST: usize = 16 * KIB;
/// So much of an answer is read on what its request has taken.
pub const FIRST: usize = 24 * KIB;

/// What an answer of so many bytes takes: it is there twice, as it came and as messages, and then as messages and as an event.
fn needed(bytes: usize) -> usize {
    2 * bytes + REST
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(KIB)
}

/// A cheap handle.
#[derive(Debug, Clone)]
pub struct Room {
    free: Arc<Semaphore>,
    all: usize,
}

/// What somebody has of it, until this is dropped.
#[derive(Debug)]
pub struct Part(OwnedSemaphorePermit);

impl Room {
    pub fn new(bytes: usize) -> Self {
        let all = kib(bytes);
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    /// What has to be there before a queue is asked.
    pub async fn take_first(&self) -> Part {
        match self.try_take_first() {
            Some(part) => part,
            None => {
                metrics::source_polled("no_room");
                self.take(needed(FIRST)).await
            }
        }
    }

    pub fn try_take_first(&self) -> Option<Part> {
        self.try_take(needed(FIRST))
    }

    /// In the order in which they ask. More than all there is, is all there is.
    async fn take(&self, bytes: usize) -> Part {
        let free = self.free.clone();
        let permit = free.acquire_many_owned(self.permits(bytes)).await;
        Part(permit.expect("it is never closed"))
    }

    fn try_take(&self, bytes: usize) -> Option<Part> {
        let free = self.free.clone();
        free.try_acquire_many_owned(self.permits(bytes))
            .ok()
            .map(Part)
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(kib(bytes).min(self.all)).unwrap_or(u32::MAX)
    }
}

impl Part {
    pub fn join(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    fn shrink(&mut self, bytes: usize) {
        let over = self.0.num_permits().saturating_sub(kib(bytes));
        drop(self.0.split(over));
    }
}

/// What one answer takes. Shared by who asks for it and who reads it.
#[derive(Debug)]
pub struct Intake {
    room: Room,
    part: Mutex<Option<Part>>,
    /// How long it took to find room.
    waited: Mutex<Duration>,
    waits: Notify,
}

impl Intake {
    /// `first` is what was taken before the queue is asked.
    pub fn new(room: Room, first: Part) -> Arc<Self> {
        Arc::new(Self {
            room,
            part: Mutex::new(Some(first)),
            waited: Mutex::default(),
            waits: Notify::new(),
        })
    }

    /// Before more than `FIRST` bytes of an answer are read: waits until there is room for `most`.
    pub async fn expect(&self, most: usize) {
        drop(self.part.lock().take());
        let needed = needed(most);
        let part = match self.room.try_take(needed) {
            Some(part) => part,
            None => {
                metrics::source_polled("no_room");
                self.waits.notify_one();
                let since = clock::now();
                let part = self.room.take(needed).await;
                *self.waited.lock() += clock::now().saturating_duration_since(since);
                part
            }
        };
        *self.part.lock() = Some(part);
    }

    /// The answer was read, and has so many bytes.
    pub fn read(&self, bytes: usize) {
        if let Some(part) = &mut *self.part.lock() {
            part.shrink(needed(bytes));
        }
    }

    /// Comes back when the answer waits for room. Dropping it is safe.
    pub async fn waits(&self) {
        self.waits.notified().await;
    }

    /// What it has taken, and how long it waited for that.
    pub fn taken(&self) -> (Option<Part>, Duration) {
        (self.part.lock().take(), *self.waited.lock())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn free(room: &Room) -> usize {
        room.free.available_permits()
    }

    #[tokio::test]
    async fn an_answer_takes_what_it_may_bring_and_then_what_it_brought() {
        let room = Room::new(256 * KIB);
        let intake = Intake::new(room.clone(), room.take_first().await);
        assert_eq!(free(&room), 256 - 64);
        intake.expect(100 * KIB).await;
        assert_eq!(free(&room), 256 - 216);
        intake.read(50 * KIB);
        assert_eq!(free(&room), 256 - 116);
        let (part, waited) = intake.taken();
        let mut part = part.expect("there is one");
        assert_eq!(waited, Duration::ZERO);
        part.join(room.try_take_first().expect("there is room"));
        assert_eq!(free(&room), 256 - 180);
        drop(part);
        assert_eq!(free(&room), 256);
        // However large it is, it is read when nothing else is there.
        let intake = Intake::new(room.clone(), room.take_first().await);
        intake.expect(usize::MAX / 4).await;
        assert_eq!(free(&room), 0);
        drop(intake);
        assert_eq!(free(&room), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_holds_nothing_says_so_and_comes_before_who_came_later() {
        let room = Room::new(256 * KIB);
        let held = room.take(200 * KIB).await;
        let intake = Intake::new(room.clone(), room.try_take(16 * KIB).expect("is free"));
        assert!(intake.waits().now_or_never().is_none());
        let mut large = Box::pin(intake.expect(50 * KIB));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(intake.waits().now_or_never().is_some());
        assert!(room.try_take(KIB).is_none(), "it is not overtaken");
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(held);
        large.await;
        assert_eq!(free(&room), 256 - 116);
        assert_eq!(intake.taken().1, Duration::from_secs(3));
    }
}
