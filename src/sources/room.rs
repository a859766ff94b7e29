//! Memory that messages of queues take here, from the moment that an answer with them is read until the function they are for has had them: all
//! mappings together have one room. Who finds none stands in line, and the answer waits unread, at the other end of its connection; who waits
//! holds nothing of the room for that answer, or two could wait for each other.
//!
//! What is free goes to who has waited longest, and is kept for it until it is enough, if its mapping has nothing of the room. A mapping that has
//! some gets more only if it leaves as much as it has then to the others, and nobody waits for it meanwhile. So none of them is ever left without,
//! whatever the others' functions do with what they have. Who is not there to use what it would get is not in line: it is parked, and keeps
//! its place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::domain::mapping::MappingId;
use crate::telemetry::metrics;

const KIB: usize = 1024;
/// What messages take besides their text, ten of them, and the request for them.
const REST: usize = 16 * KIB;
/// So much of an answer is read on what its request has taken.
pub const FIRST: usize = 24 * KIB;

/// What an answer of so many bytes takes: it is there twice, as it came and as messages, and then as messages and as an event.
fn needed(bytes: usize) -> usize {
    bytes.saturating_mul(2).saturating_add(REST)
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(KIB)
}

/// A cheap handle.
#[derive(Debug, Clone)]
pub struct Room {
    state: Arc<Mutex<State>>,
    all: usize,
}

/// In KiB.
#[derive(Debug, Default)]
struct State {
    free: usize,
    /// What each mapping has, of those that have any.
    held: HashMap<MappingId, usize>,
    /// Who waits, in the order in which they came.
    line: BTreeMap<u64, Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    of: MappingId,
    needed: usize,
    stands: Stands,
    /// It has what it needs.
    told: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    InLine,
    Parked,
    /// What it needs is taken for it.
    Served,
}

impl State {
    fn has(&self, of: MappingId) -> usize {
        self.held.get(&of).copied().unwrap_or(0)
    }

    /// Gives what is free to those whose turn it is.
    fn settle(&mut self) {
        while let Some(turn) = self.turn() {
            let waiting = self.line.get_mut(&turn).expect("it was found there");
            waiting.stands = Stands::Served;
            waiting.told.notify_one();
            self.free -= waiting.needed;
            *self.held.entry(waiting.of).or_default() += waiting.needed;
        }
    }

    fn turn(&self) -> Option<u64> {
        let in_line = self.line.iter();
        for (&ticket, waiting) in in_line.filter(|(_, one)| one.stands == Stands::InLine) {
            let (has, needed) = (self.has(waiting.of), waiting.needed);
            match has {
                0 if needed <= self.free => return Some(ticket),
                // All that becomes free is kept for it.
                0 => return None,
                _ if has + 2 * needed <= self.free => return Some(ticket),
                _ => {}
            }
        }
        None
    }

    fn give_back(&mut self, of: MappingId, kib: usize) {
        self.free += kib;
        let left = self.has(of) - kib;
        match left {
            0 => self.held.remove(&of),
            left => self.held.insert(of, left),
        };
        self.settle();
    }
}

/// What somebody has of it, until this is dropped.
#[derive(Debug)]
pub struct Part {
    room: Room,
    of: MappingId,
    kib: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.room.state.lock().give_back(self.of, self.kib);
    }
}

impl Part {
    pub fn join(&mut self, mut other: Self) {
        self.kib += std::mem::take(&mut other.kib);
    }

    fn shrink(&mut self, bytes: usize) {
        let over = self.kib.saturating_sub(kib(bytes));
        self.kib -= over;
        self.room.state.lock().give_back(self.of, over);
    }
}

/// A place in the line, until this is dropped.
#[derive(Debug)]
struct Standing {
    room: Room,
    ticket: u64,
    told: Arc<Notify>,
}

impl Standing {
    fn served(&self) -> Option<Part> {
        let mut state = self.room.state.lock();
        if state.line.get(&self.ticket)?.stands != Stands::Served {
            return None;
        }
        let Waiting { of, needed, .. } = state.line.remove(&self.ticket)?;
        Some(Part {
            room: self.room.clone(),
            of,
            kib: needed,
        })
    }

    async fn wait(&self) -> Part {
        loop {
            if let Some(part) = self.served() {
                return part;
            }
            self.told.notified().await;
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        match state.line.remove(&self.ticket) {
            Some(gone) if gone.stands == Stands::Served => state.give_back(gone.of, gone.needed),
            // It may have been in others' way.
            Some(_) => state.settle(),
            None => {}
        }
    }
}

impl Room {
    pub fn new(bytes: usize) -> Self {
        let all = kib(bytes);
        let state = State {
            free: all,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            all,
        }
    }

    /// What has to be there before a queue is asked.
    pub async fn take_first(&self, of: MappingId) -> Part {
        let standing = self.stand(of, needed(FIRST));
        match standing.served() {
            Some(part) => part,
            None => {
                metrics::source_polled("no_room");
                standing.wait().await
            }
        }
    }

    pub fn try_take_first(&self, of: MappingId) -> Option<Part> {
        self.stand(of, needed(FIRST)).served()
    }

    /// Behind all others. More than all there is, is all there is.
    fn stand(&self, of: MappingId, bytes: usize) -> Standing {
        let told = Arc::new(Notify::new());
        let waiting = Waiting {
            of,
            needed: kib(bytes).min(self.all),
            stands: Stands::InLine,
            told: told.clone(),
        };
        let mut state = self.state.lock();
        let ticket = state.next;
        state.next += 1;
        state.line.insert(ticket, waiting);
        state.settle();
        Standing {
            room: self.clone(),
            ticket,
            told,
        }
    }

    /// `false` if it does not stand there, or has what it stood there for.
    fn stands(&self, ticket: u64, stands: Stands) -> bool {
        let mut state = self.state.lock();
        let Some(waiting) = state.line.get_mut(&ticket) else {
            return false;
        };
        if waiting.stands == Stands::Served {
            return false;
        }
        waiting.stands = stands;
        state.settle();
        true
    }
}

/// It was waited for as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// What one answer takes. Shared by who asks for it and who reads it.
#[derive(Debug)]
pub struct Intake {
    room: Room,
    of: MappingId,
    part: Mutex<Option<Part>>,
    /// How long an answer may wait for room.
    patience: Duration,
    /// How long it took to find room.
    waited: Mutex<Duration>,
    waits: Notify,
    /// Its place in the line, while it may have one.
    ticket: Mutex<Option<u64>>,
}

impl Intake {
    /// `first` is what was taken before the queue is asked.
    pub fn new(first: Part, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            room: first.room.clone(),
            of: first.of,
            part: Mutex::new(Some(first)),
            patience,
            waited: Mutex::default(),
            waits: Notify::new(),
            ticket: Mutex::default(),
        })
    }

    /// Before more than `FIRST` bytes of an answer are read: waits until there is room for `most`, and says how long that took.
    pub async fn expect(&self, most: usize) -> Result<Duration, NoRoom> {
        drop(self.part.lock().take());
        let standing = self.room.stand(self.of, needed(most));
        if let Some(part) = standing.served() {
            *self.part.lock() = Some(part);
            return Ok(Duration::ZERO);
        }
        metrics::source_polled("no_room");
        *self.ticket.lock() = Some(standing.ticket);
        self.waits.notify_one();
        let since = clock::now();
        let part = tokio::time::timeout(self.patience, standing.wait()).await;
        let waited = clock::now().saturating_duration_since(since);
        *self.waited.lock() += waited;
        let part = part.map_err(|_elapsed| NoRoom)?;
        *self.part.lock() = Some(part);
        Ok(waited)
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

    /// Has an answer that waits for room leave the line until `resume`: nobody would read it now. `false` if there is room for it, and it is to
    /// be read.
    pub fn park(&self) -> bool {
        let ticket = *self.ticket.lock();
        ticket.is_some_and(|ticket| self.room.stands(ticket, Stands::Parked))
    }

    pub fn resume(&self) {
        if let Some(ticket) = *self.ticket.lock() {
            self.room.stands(ticket, Stands::InLine);
        }
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

    const LONG: Duration = Duration::from_secs(3600);

    fn free(room: &Room) -> usize {
        room.state.lock().free
    }

    fn take(room: &Room, of: MappingId, bytes: usize) -> Option<Part> {
        room.stand(of, bytes).served()
    }

    fn first(room: &Room, of: MappingId) -> Arc<Intake> {
        Intake::new(room.try_take_first(of).expect("there is room"), LONG)
    }

    #[tokio::test]
    async fn an_answer_takes_what_it_may_bring_and_then_what_it_brought() {
        let (room, of) = (Room::new(256 * KIB), MappingId::generate());
        let intake = first(&room, of);
        assert_eq!(free(&room), 256 - 64);
        intake.expect(100 * KIB).await.expect("there is room");
        assert_eq!(free(&room), 256 - 216);
        intake.read(50 * KIB);
        assert_eq!(free(&room), 256 - 116);
        let (part, waited) = intake.taken();
        let mut part = part.expect("there is one");
        assert_eq!(waited, Duration::ZERO);
        let more = take(&room, of, 12 * KIB).expect("it leaves as much");
        part.join(more);
        assert_eq!(free(&room), 256 - 128);
        drop(part);
        assert_eq!(free(&room), 256);
        // However large it is, it is read when nothing else is there.
        let intake = first(&room, of);
        intake.expect(usize::MAX / 4).await.expect("there is room");
        assert_eq!(free(&room), 0);
        drop(intake);
        assert_eq!(free(&room), 256);
        assert!(room.state.lock().held.is_empty() && room.state.lock().line.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_holds_nothing_says_so_and_comes_before_who_came_later() {
        let (room, others) = (Room::new(256 * KIB), MappingId::generate());
        let of = MappingId::generate();
        let held = take(&room, others, 192 * KIB).expect("is free");
        let intake = first(&room, of);
        assert!(intake.waits().now_or_never().is_none());
        let mut large = Box::pin(intake.expect(50 * KIB));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(intake.waits().now_or_never().is_some());
        let third = MappingId::generate();
        assert!(take(&room, third, KIB).is_none(), "it is not overtaken");
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(held);
        assert_eq!(large.await, Ok(Duration::from_secs(3)));
        assert_eq!(free(&room), 256 - 116);
        assert_eq!(intake.taken().1, Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_parked_is_in_nobodys_way_and_keeps_its_place() {
        let room = Room::new(256 * KIB);
        let [holds, parked, later] = [(); 3].map(|()| MappingId::generate());
        let held = take(&room, holds, 192 * KIB).expect("is free");
        let intake = first(&room, parked);
        assert!(!intake.park(), "it waits for nothing");
        let mut waits = Box::pin(intake.expect(50 * KIB));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(intake.park());
        // Nobody polls it, and what becomes free is others'.
        drop(held);
        assert_eq!(free(&room), 256);
        let other = take(&room, later, 192 * KIB).expect("nobody is in the way");
        let mut behind = Box::pin(room.take_first(holds));
        assert!(behind.as_mut().now_or_never().is_some(), "64 KiB are free");
        intake.resume();
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(
            take(&room, MappingId::generate(), KIB).is_none(),
            "its place is kept"
        );
        drop(other);
        assert!(!intake.park(), "it has what it waited for");
        waits.await.expect("there is room");
        // One that goes leaves nothing.
        let all = take(&room, later, 120 * KIB).expect("is free");
        let intake = first(&Room::new(64 * KIB), parked);
        drop((all, intake));
        let mut gone = Box::pin(room.take_first(later));
        let held = gone.as_mut().now_or_never();
        drop((gone, held));
        assert!(room.state.lock().line.is_empty());
    }

    #[test]
    fn no_mapping_has_more_than_it_leaves_to_the_others() {
        let room = Room::new(1024 * KIB);
        let [greedy, second, third] = [(); 3].map(|()| MappingId::generate());
        let all = |of| -> Vec<Part> { std::iter::from_fn(|| take(&room, of, 64 * KIB)).collect() };
        let greedy = all(greedy);
        assert_eq!(greedy.len(), 8, "half of it");
        let second = all(second);
        assert_eq!(second.len(), 4, "half of the rest");
        let third = all(third);
        assert_eq!(third.len(), 2);
        drop((greedy, second, third));
        assert_eq!(free(&room), 1024);
    }

    #[test]
    fn who_has_some_waits_while_who_has_none_is_served() {
        let room = Room::new(256 * KIB);
        let [has, none] = [(); 2].map(|()| MappingId::generate());
        let part = take(&room, has, 128 * KIB).expect("is free");
        let more = room.stand(has, 64 * KIB);
        let first = room.stand(none, 128 * KIB);
        assert!(more.served().is_none(), "it came first, but has its half");
        let first = first.served().expect("it has nothing yet");
        drop(part);
        let part = more.served().expect("it has nothing any more");
        drop((first, part));
        assert_eq!(free(&room), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_wait_for_room_for_ever() {
        let (room, of) = (Room::new(256 * KIB), MappingId::generate());
        let held = take(&room, MappingId::generate(), 192 * KIB).expect("is free");
        let part = room.try_take_first(of).expect("is free");
        let intake = Intake::new(part, Duration::from_secs(30));
        assert_eq!(intake.expect(50 * KIB).await, Err(NoRoom));
        assert_eq!(intake.taken().1, Duration::from_secs(30));
        assert_eq!(free(&room), 64, "it stands there no more");
        drop(held);
        assert_eq!(free(&room), 256);
    }
}
