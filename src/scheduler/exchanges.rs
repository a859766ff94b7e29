//! What functions' latest calls were given and what they answered, for those who look at one or run it again. In this process's memory alone
//! and gone with it, never logged, and shown only to who may read the function's log. Bounded per call, per function and in all: the
//! oldest is given up first.
//!
//! Warm path: one short lock, under which both are copied into what the function's oldest call leaves behind. So nothing is allocated once
//! a function has all it may have, and no buffer of a connection is held longer than its call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::config::Invocations as Bounds;
use crate::domain::fault::Fault;
use crate::domain::id::{FunctionName, RequestId};
use crate::domain::invocation::Invocation;
use crate::scheduler::Answer;
use crate::scheduler::record::REMEMBERED;

/// A function has at most this part of what there may be in all: a busy one drives out its own calls and not everybody's.
const SHARE: usize = 4;
/// A buffer that is this much larger than what is to be kept is not taken over.
const LOOSE: usize = 4;
/// Numbers of exchanges that are no longer kept are cleared out when they are most of the queue, and at least this many.
const STALE: usize = 1024;
/// A shelf that has no place yet.
const NOWHERE: u32 = u32::MAX;

/// Those of all functions.
#[derive(Debug)]
pub struct Exchanges {
    bounds: Bounds,
    kept: Mutex<Kept>,
}

/// Those of one function, which are forgotten with it.
#[derive(Debug)]
pub struct Shelf {
    all: Arc<Exchanges>,
    /// Of its calls; written once, under the lock.
    place: AtomicU32,
}

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub payload: Content,
    pub answer: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Kept {
        bytes: Vec<u8>,
        /// Declared as bytes, not JSON.
        raw: bool,
    },
    Absent(Absent),
}

/// Why something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Nothing is kept, of this function or at all.
    Off,
    /// It had so many bytes.
    TooLarge(u64),
    /// Newer calls needed the room, or this process did not run the call.
    Forgotten,
    /// It was sent on piece by piece.
    Streamed,
    /// The function did not get to answer.
    Failed,
}

#[derive(Debug, Default)]
struct Kept {
    /// By the places of shelves.
    rings: Vec<Ring>,
    free: Vec<u32>,
    /// Every exchange by its ring and its number, oldest first, and some that are no longer kept.
    order: VecDeque<(u32, u64)>,
    /// Number of the next exchange.
    next: u64,
    exchanges: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    /// The oldest first.
    exchanges: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    id: RequestId,
    payload: Part,
    answer: Part,
    /// The payload, and behind it the answer.
    bytes: Vec<u8>,
}

/// What became of a payload or an answer.
#[derive(Debug, Clone, Copy)]
enum Part {
    Bytes { length: usize, raw: bool },
    Absent(Absent),
}

impl Exchanges {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            kept: Mutex::default(),
        })
    }

    /// Whether anything is kept of the function of this name.
    pub fn keeps(&self, name: &FunctionName) -> bool {
        let Bounds {
            content,
            total,
            except,
        } = &self.bounds;
        *content > 0 && *total > 0 && !except.iter().any(|p| p.matches(name.as_str()))
    }
}

impl Shelf {
    pub fn new(all: Arc<Exchanges>) -> Self {
        Self {
            all,
            place: AtomicU32::new(NOWHERE),
        }
    }

    /// A call has ended, or has begun to stream its answer.
    pub fn keep(&self, invocation: &Invocation, result: &Result<Answer, Fault>) {
        let reported;
        let (answer, bytes) = match result {
            Ok(Answer::Whole { body, raw }) => (self.part(body, *raw), &body[..]),
            Ok(Answer::Stream { .. }) => (Part::Absent(Absent::Streamed), &[][..]),
            Err(Fault::Handler(report) | Fault::Init(report)) => {
                reported = serde_json::to_vec(report).unwrap_or_default();
                (self.part(&reported, false), &reported[..])
            }
            Err(_) => (Part::Absent(Absent::Failed), &[][..]),
        };
        let payload = self.part(&invocation.payload, invocation.raw);
        let contents = [payload.of(&invocation.payload), answer.of(bytes)];
        let Bounds { total, .. } = self.all.bounds;
        let mut kept = self.all.kept.lock();
        let place = match self.place.load(Ordering::Relaxed) {
            NOWHERE => {
                let place = kept.place();
                self.place.store(place, Ordering::Relaxed);
                place
            }
            place => place,
        };
        kept.keep(
            place,
            invocation.request_id,
            (payload, answer),
            contents,
            total,
        );
    }

    pub fn find(&self, id: &RequestId) -> Exchange {
        let kept = self.all.kept.lock();
        let place = self.place.load(Ordering::Relaxed);
        let ring = kept.rings.get(place as usize);
        // An event that was tried again has its last attempt.
        let entry = ring.and_then(|ring| ring.exchanges.iter().rev().find(|e| e.id == *id));
        entry.map_or_else(|| Exchange::absent(Absent::Forgotten), Entry::read)
    }

    fn part(&self, bytes: &[u8], raw: bool) -> Part {
        match bytes.len() {
            length if length <= self.all.bounds.content => Part::Bytes { length, raw },
            length => Part::Absent(Absent::TooLarge(length as u64)),
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let place = *self.place.get_mut();
        if place != NOWHERE {
            self.all.kept.lock().vacate(place);
        }
    }
}

impl Exchange {
    /// Neither is there, and for the same reason.
    pub fn absent(why: Absent) -> Self {
        Self {
            payload: Content::Absent(why),
            answer: Content::Absent(why),
        }
    }
}

impl Kept {
    fn place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.rings.push(Ring::default());
            u32::try_from(self.rings.len() - 1).expect("fewer functions than that")
        })
    }

    fn vacate(&mut self, place: u32) {
        while self.drop_oldest(place).is_some() {}
        self.free.push(place);
    }

    fn keep(
        &mut self,
        place: u32,
        id: RequestId,
        (payload, answer): (Part, Part),
        contents: [&[u8]; 2],
        total: usize,
    ) {
        let needed = contents[0].len() + contents[1].len();
        let mut bytes = Vec::new();
        while self.is_full(place, cost(needed), total / SHARE)
            && let Some(left) = self.drop_oldest(place)
        {
            bytes = left;
        }
        bytes.clear();
        if !(needed..=needed * LOOSE).contains(&bytes.capacity()) {
            bytes = Vec::with_capacity(needed);
        }
        for content in contents {
            bytes.extend_from_slice(content);
        }
        let number = self.next;
        self.next += 1;
        let takes = cost(bytes.capacity());
        self.order.push_back((place, number));
        self.exchanges += 1;
        self.bytes += takes;
        let ring = &mut self.rings[place as usize];
        ring.bytes += takes;
        ring.exchanges.push_back(Entry {
            number,
            id,
            payload,
            answer,
            bytes,
        });
        while self.bytes > total
            && let Some((place, number)) = self.order.pop_front()
        {
            if self.has(place, number) {
                self.drop_oldest(place);
            }
        }
        self.clear_out();
    }

    fn is_full(&self, place: u32, more: usize, share: usize) -> bool {
        let ring = &self.rings[place as usize];
        ring.exchanges.len() == REMEMBERED || ring.bytes + more > share
    }

    /// A ring gives up its oldest only, so what is newer than that is there.
    fn has(&self, place: u32, number: u64) -> bool {
        let oldest = self.rings[place as usize].exchanges.front();
        oldest.is_some_and(|oldest| oldest.number <= number)
    }

    /// The buffer is for who comes next.
    fn drop_oldest(&mut self, place: u32) -> Option<Vec<u8>> {
        let ring = &mut self.rings[place as usize];
        let oldest = ring.exchanges.pop_front()?;
        let took = cost(oldest.bytes.capacity());
        ring.bytes -= took;
        self.bytes -= took;
        self.exchanges -= 1;
        if ring.exchanges.is_empty() && ring.exchanges.capacity() > 1 {
            // A function whose turn is over keeps no room.
            ring.exchanges = VecDeque::new();
        }
        Some(oldest.bytes)
    }

    fn clear_out(&mut self) {
        if self.order.len() > 2 * self.exchanges + STALE {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(place, number)| self.has(*place, *number));
            self.order = order;
        }
    }
}

impl Entry {
    fn read(&self) -> Exchange {
        let (payload, answer) = self.bytes.split_at(self.payload.length());
        Exchange {
            payload: self.payload.read(payload),
            answer: self.answer.read(answer),
        }
    }
}

impl Part {
    fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[..self.length()]
    }

    fn length(&self) -> usize {
        match self {
            Part::Bytes { length, .. } => *length,
            Part::Absent(_) => 0,
        }
    }

    fn read(self, bytes: &[u8]) -> Content {
        match self {
            Part::Bytes { raw, .. } => Content::Kept {
                bytes: bytes.to_vec(),
                raw,
            },
            Part::Absent(why) => Content::Absent(why),
        }
    }
}

/// What an exchange with a buffer of so many bytes is counted as.
fn cost(bytes: usize) -> usize {
    bytes + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::fault::Report;
    use crate::domain::pattern::Pattern;

    const KIB: usize = 1024;

    fn all(content: usize, total: usize) -> Arc<Exchanges> {
        Exchanges::new(Bounds {
            content,
            total,
            except: Vec::new(),
        })
    }

    fn call(payload: &[u8]) -> Invocation {
        Invocation {
            request_id: RequestId::generate(),
            payload: Bytes::copy_from_slice(payload),
            raw: false,
            measured: false,
            context: Bytes::new(),
            trace: None,
        }
    }

    fn whole(body: &[u8]) -> Result<Answer, Fault> {
        let body = Bytes::copy_from_slice(body);
        Ok(Answer::Whole { body, raw: true })
    }

    fn kept(bytes: &[u8], raw: bool) -> Content {
        let bytes = bytes.to_vec();
        Content::Kept { bytes, raw }
    }

    fn gone(shelf: &Shelf, call: &Invocation) -> bool {
        shelf.find(&call.request_id) == Exchange::absent(Absent::Forgotten)
    }

    /// That the sums are what they are of.
    fn sound(all: &Exchanges) {
        let kept = all.kept.lock();
        let sum = |of: fn(&Ring) -> usize| kept.rings.iter().map(of).sum::<usize>();
        assert_eq!(kept.bytes, sum(|ring| ring.bytes));
        assert_eq!(kept.exchanges, sum(|ring| ring.exchanges.len()));
        let takes = |ring: &Ring| {
            let takes = ring.exchanges.iter().map(|e| cost(e.bytes.capacity()));
            takes.sum::<usize>()
        };
        assert_eq!(kept.bytes, kept.rings.iter().map(takes).sum::<usize>());
        assert!(kept.bytes <= all.bounds.total, "{}", kept.bytes);
        assert!(kept.order.len() <= 2 * kept.exchanges + STALE);
    }

    #[test]
    fn what_went_in_and_came_out_is_there_byte_for_byte() {
        let all = all(16, 64 * KIB);
        let shelf = Shelf::new(all.clone());
        let report = Report::new("E", "m");
        let document = serde_json::to_vec(&report).expect("JSON");
        let streamed = || Answer::Stream {
            content_type: "text/plain".into(),
            body: Box::pin(futures_util::stream::empty()),
        };
        let (large, absent) = ([7; 17], Content::Absent);
        for (payload, result, wanted) in [
            (&b"{}"[..], whole(&[0, 255]), kept(&[0, 255], true)),
            (b"", whole(b""), kept(b"", true)),
            (b"1", whole(&large), absent(Absent::TooLarge(17))),
            (b"2", Ok(streamed()), absent(Absent::Streamed)),
            (b"3", Err(Fault::Draining), absent(Absent::Failed)),
            (
                b"4",
                Err(Fault::Handler(report)),
                absent(Absent::TooLarge(document.len() as u64)),
            ),
        ] {
            let call = call(payload);
            shelf.keep(&call, &result);
            let found = shelf.find(&call.request_id);
            assert_eq!(found.payload, kept(payload, false));
            assert_eq!(found.answer, wanted);
        }
        let large = call(&large);
        shelf.keep(&large, &whole(b"short"));
        let found = shelf.find(&large.request_id);
        assert_eq!(found.payload, absent(Absent::TooLarge(17)));
        assert_eq!(found.answer, kept(b"short", true));
        sound(&all);
    }

    #[test]
    fn an_error_of_the_function_is_its_answer() {
        let all = all(KIB, 64 * KIB);
        let (shelf, failed) = (Shelf::new(all), call(b"1"));
        shelf.keep(
            &failed,
            &Err(Fault::Handler(Report::new("KeyError", "'x'"))),
        );
        let wanted = br#"{"errorType":"KeyError","errorMessage":"'x'","stackTrace":[]}"#;
        assert_eq!(shelf.find(&failed.request_id).answer, kept(wanted, false));
    }

    #[test]
    fn a_function_keeps_its_latest_calls_and_nothing_is_allocated_for_more() {
        let all = all(KIB, 4 << 20);
        let shelf = Shelf::new(all.clone());
        let calls: Vec<_> = (0..REMEMBERED * 20).map(|n| call(&[n as u8; 40])).collect();
        for call in &calls {
            shelf.keep(call, &whole(b"12345678"));
        }
        let (old, new) = calls.split_at(calls.len() - REMEMBERED);
        assert!(old.iter().all(|call| gone(&shelf, call)));
        for call in new {
            assert_eq!(
                shelf.find(&call.request_id).payload,
                kept(&call.payload, false)
            );
        }
        let buffers = |all: &Exchanges| {
            let kept = all.kept.lock();
            let exchanges = kept.rings[0].exchanges.iter();
            let mut at: Vec<_> = exchanges.map(|e| e.bytes.as_ptr() as usize).collect();
            at.sort_unstable();
            at
        };
        let before = buffers(&all);
        for _ in 0..REMEMBERED * 2 {
            shelf.keep(&call(&[9; 30]), &whole(b"another"));
        }
        assert_eq!(buffers(&all), before, "the buffers are the same");
        sound(&all);
    }

    #[test]
    fn the_oldest_of_all_is_given_up_first_and_a_busy_function_gives_up_its_own() {
        let all = all(KIB, 32 * KIB);
        let shelf = || Shelf::new(all.clone());
        let (quiet, busy) = (shelf(), shelf());
        let once = call(b"kept");
        quiet.keep(&once, &whole(b""));
        let fill = |shelf: &Shelf, calls: usize| {
            for _ in 0..calls {
                shelf.keep(&call(&[1; 1000]), &whole(&[2; 1000]));
                sound(&all);
            }
        };
        fill(&busy, 3000);
        assert!(!gone(&quiet, &once), "the busy one has its part only");
        // Three each are what a part has room for, and fifteen what all have.
        let others = [(); 5].map(|()| shelf());
        for other in &others[..4] {
            fill(other, 100);
        }
        assert!(!gone(&quiet, &once), "there was room");
        fill(&others[4], 1);
        assert!(gone(&quiet, &once), "it was the oldest");
        sound(&all);
    }

    #[test]
    fn with_a_function_goes_what_it_was_told() {
        let all = all(KIB, 64 * KIB);
        let shelf = Shelf::new(all.clone());
        let old = call(b"secret");
        shelf.keep(&old, &whole(b"told"));
        drop(shelf);
        assert_eq!(all.kept.lock().bytes, 0);
        // Its place is another's, who knows nothing of it.
        let next = Shelf::new(all.clone());
        let new = call(b"x");
        next.keep(&new, &whole(b"y"));
        assert!(gone(&next, &old) && !gone(&next, &new));
        assert_eq!(all.kept.lock().rings.len(), 1);
        sound(&all);
    }

    #[test]
    fn nothing_is_kept_where_it_is_switched_off() {
        let name = |text: &str| FunctionName::parse(text).expect("a name");
        assert!(!all(0, KIB).keeps(&name("f")));
        assert!(!all(KIB, 0).keeps(&name("f")));
        let some = Exchanges::new(Bounds {
            content: 1,
            total: 1,
            except: vec![Pattern::parse("pay-*").expect("a pattern")],
        });
        assert!(some.keeps(&name("f")) && !some.keeps(&name("pay-out")));
        // Bounds that fit nothing are kept too.
        let shelf = Shelf::new(some.clone());
        let one = call(b"1");
        shelf.keep(&one, &whole(b"1"));
        assert!(gone(&shelf, &one));
        sound(&some);
    }
}
