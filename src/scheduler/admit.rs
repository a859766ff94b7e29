//! May this call run? Counts what is under way, per function and for the account, and refuses what would pass a limit. Warm
//! path: one atomic step for each limit in, one out; no lock.
//!
//! A place is taken before anything else happens for a call and is given back when its code has stopped running, so that
//! what runs never exceeds what was counted. A process alone on its store has as many places as the limit says. One of several has
//! those it was granted; `share` asks for more and gives back, and a gate only keeps count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::domain::fault::{Fault, Throttle};

/// More than any limit that counts: places without number.
pub const UNLIMITED: u32 = PLACES;

/// A gate's three counts share a word of 64 bits, so that they change together or not at all.
const BITS: u32 = 21;
const PLACES: u32 = (1 << BITS) - 1;

/// What a gate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    in_use: u32,
    /// So many may be in use.
    room: u32,
    /// The most that were in use since somebody last looked.
    peak: u32,
}

impl Places {
    fn pack(self) -> u64 {
        let [in_use, room, peak] = [self.in_use, self.room, self.peak].map(u64::from);
        in_use | room << BITS | peak << (2 * BITS)
    }

    fn unpack(word: u64) -> Self {
        let places = |n: u32| {
            let bits = word >> (n * BITS) & u64::from(PLACES);
            u32::try_from(bits).expect("it has 21 bits")
        };
        Self {
            in_use: places(0),
            room: places(1),
            peak: places(2),
        }
    }

    /// Room above `keep` goes, but none that is in use.
    fn without_idle(self, keep: u32) -> Self {
        match self.room > keep {
            true => Self {
                room: keep.max(self.room.min(self.in_use)),
                ..self
            },
            false => self,
        }
    }
}

/// A counter with a limit.
#[derive(Debug)]
pub struct Gate {
    places: AtomicU64,
    /// Room above this goes when it is idle. Written by `set_limit` and `settle`.
    keep: AtomicU32,
    limit: AtomicU32,
    /// Calls that wait for room.
    waiting: AtomicU32,
    /// For those who wait there may be room yet, from other processes. Written by `settle`.
    may_come: AtomicBool,
    /// `None` where the room is the limit.
    shared: Option<Shared>,
}

/// How a gate with granted room is heard of.
#[derive(Debug)]
struct Shared {
    /// Told when room runs short, and when some was given up.
    short: Arc<Notify>,
    /// Tells one of those who wait, for each place that becomes free.
    freed: Notify,
}

impl Gate {
    /// One whose limit is this process's own affair.
    pub fn new(limit: u32) -> Arc<Self> {
        Self::with(limit, None)
    }

    /// One whose limit is shared: it begins without room, unless there is no limit. `short` is told when it should be asked for more.
    pub fn shared(limit: u32, short: Arc<Notify>) -> Arc<Self> {
        let freed = Notify::new();
        Self::with(limit, Some(Shared { short, freed }))
    }

    fn with(limit: u32, shared: Option<Shared>) -> Arc<Self> {
        let gate = Self {
            places: AtomicU64::new(0),
            keep: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            may_come: AtomicBool::new(false),
            shared,
        };
        gate.set_limit(limit);
        Arc::new(gate)
    }

    /// A lower limit lets those inside finish and admits nobody until there is room under it. A higher one that is shared gives
    /// no room by itself.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        let limit = limit.min(UNLIMITED);
        let granted = self.shared.is_some() && limit < UNLIMITED;
        self.keep.store(limit, Ordering::Relaxed);
        self.change(|places| match granted {
            // Nothing was granted, but what runs is to be counted.
            true if places.room == UNLIMITED => places.without_idle(0),
            true => places.without_idle(limit),
            false if places.room > limit => places.without_idle(limit),
            false => Places {
                room: limit,
                ..places
            },
        });
        if let Some(shared) = &self.shared {
            shared.freed.notify_waiters();
            shared.short.notify_one();
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn under_way(&self) -> u32 {
        self.places().in_use
    }

    /// Places there are here, in use or not.
    pub fn room(&self) -> u32 {
        self.places().room
    }

    /// Calls that wait for a place.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether more room may come, as of the last grant.
    pub fn may_come(&self) -> bool {
        self.may_come.load(Ordering::Relaxed)
    }

    /// Whatever was on its way: nobody knows of it now.
    pub fn nothing_comes(&self) {
        self.may_come.store(false, Ordering::Relaxed);
    }

    /// One step: the count is checked and raised at once, so two callers can never share the last place.
    fn enter(&self) -> Result<(), u32> {
        let entered = self.change_if(|places| {
            let in_use = places.in_use + 1;
            (places.in_use < places.room).then(|| Places {
                in_use,
                peak: places.peak.max(in_use),
                ..places
            })
        });
        let before = entered.map_err(|_full| self.limit())?;
        if let Some(shared) = &self.shared {
            // Once on the way up, not with every call: the next ones should find room that was asked for in time.
            let left = before.room - before.in_use - 1;
            if left == before.room / 4 && before.room < self.limit().min(UNLIMITED) {
                shared.short.notify_one();
            }
        }
        Ok(())
    }

    fn leave(&self) {
        let keep = self.keep.load(Ordering::Relaxed);
        let leave = |places: Places| {
            assert!(places.in_use > 0, "only who entered leaves");
            let in_use = places.in_use - 1;
            Places { in_use, ..places }.without_idle(keep)
        };
        let before = self.change(leave);
        if let Some(shared) = &self.shared {
            if leave(before).room < before.room {
                shared.short.notify_one();
            } else if self.waiting() > 0 {
                shared.freed.notify_one();
            }
        }
    }

    /// The most that were in use since this was last asked.
    pub fn take_peak(&self) -> u32 {
        let before = self.change(|places| Places {
            peak: places.in_use,
            ..places
        });
        before.peak
    }

    /// Takes over a grant: `more` places (or fewer) than when it was asked for, of which all above `keep` go back when they are idle, and
    /// whether still more may come. Whoever calls keeps the limit from being changed meanwhile.
    pub fn settle(&self, more: i64, keep: u32, may_come: bool) {
        let limit = self.limit();
        if limit >= UNLIMITED {
            // It was asked for when there was a limit.
            return;
        }
        self.may_come.store(may_come, Ordering::Relaxed);
        let keep = keep.min(limit);
        self.keep.store(keep, Ordering::Relaxed);
        let before = self.change(|places| {
            let room = i64::from(places.room) + more;
            let room = u32::try_from(room.clamp(0, i64::from(UNLIMITED - 1))).unwrap_or(0);
            Places { room, ..places }.without_idle(keep)
        });
        if let Some(shared) = &self.shared {
            let now = self.places();
            if i64::from(now.room) < i64::from(before.room) + more {
                shared.short.notify_one();
            }
            for _ in 0..now.room.saturating_sub(now.in_use).min(self.waiting()) {
                shared.freed.notify_one();
            }
        }
    }

    /// One that was told of a place cannot use it now: another is told.
    pub fn pass_on(&self) {
        let places = self.places();
        if let Some(shared) = &self.shared
            && places.room > places.in_use
            && self.waiting() > 0
        {
            shared.freed.notify_one();
        }
    }

    /// Waits until a place may be free. Whoever calls has said so by a `Waiting`.
    pub async fn freed(&self) {
        match &self.shared {
            Some(shared) => shared.freed.notified().await,
            None => std::future::pending().await,
        }
    }

    fn places(&self) -> Places {
        Places::unpack(self.places.load(Ordering::Relaxed))
    }

    fn change(&self, change: impl Fn(Places) -> Places) -> Places {
        let changed = self.change_if(|places| Some(change(places)));
        changed.unwrap_or_else(|same| same)
    }

    /// What was there before; an error where there was nothing to change.
    fn change_if(&self, change: impl Fn(Places) -> Option<Places>) -> Result<Places, Places> {
        self.places
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                change(Places::unpack(word)).map(Places::pack)
            })
            .map(Places::unpack)
            .map_err(Places::unpack)
    }
}

/// One that waits at a gate; dropped, it does not any more.
#[derive(Debug)]
pub struct Waiting(Arc<Gate>);

impl Waiting {
    /// `None` if `most` wait there already.
    pub fn at(gate: &Arc<Gate>, most: u32) -> Option<Self> {
        let joined = gate
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |waiting| {
                (waiting < most).then(|| waiting + 1)
            });
        joined.is_ok().then(|| Self(gate.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The gates a call goes through, the narrowest first.
#[derive(Debug, Clone, Copy)]
pub struct Gates<'a> {
    pub function: &'a Arc<Gate>,
    /// What the function's limit is called.
    pub limited_by: Throttle,
    /// The part of what is reserved for the function that the call is in; `None` if that is not divided.
    pub within: Option<&'a Arc<Gate>>,
    /// The part of the account's limit that the call is in; `None` where that is the function's own.
    pub part: Option<&'a Arc<Gate>>,
    pub account: &'a Arc<Gate>,
}

/// A call's place under all limits.
#[derive(Debug)]
pub struct Permit {
    function: Arc<Gate>,
    within: Option<Arc<Gate>>,
    part: Option<Arc<Gate>>,
    account: Arc<Gate>,
}

/// Which gate was full, and what to say about it.
#[derive(Debug)]
pub struct Full<'a> {
    pub gate: &'a Arc<Gate>,
    pub fault: Fault,
}

/// Takes a place under every limit, or says which one is full.
pub fn admit(gates: Gates<'_>) -> Result<Permit, Full<'_>> {
    let full = |gate, reason, limit| Full {
        gate,
        fault: Fault::Throttled { reason, limit },
    };
    let function = gates.function;
    // Before the whole: who finds its part full is not to be counted, or to wait, where calls in another part need a place.
    if let Some(within) = gates.within
        && within.enter().is_err()
    {
        let reason = Throttle::ReservedConcurrency;
        return Err(full(within, reason, function.limit()));
    }
    let out_of_part = || {
        if let Some(within) = gates.within {
            within.leave();
        }
    };
    if let Err(limit) = function.enter() {
        out_of_part();
        return Err(full(function, gates.limited_by, limit));
    }
    let out = || {
        function.leave();
        out_of_part();
    };
    let account = gates.account;
    if let Some(part) = gates.part
        && let Err(limit) = part.enter()
    {
        out();
        let reason = match limit == account.limit() {
            // Nobody has a part for itself.
            true => Throttle::AccountConcurrency,
            false => Throttle::UnreservedConcurrency,
        };
        return Err(full(part, reason, limit));
    }
    if let Err(limit) = account.enter() {
        if let Some(part) = gates.part {
            part.leave();
        }
        out();
        return Err(full(account, Throttle::AccountConcurrency, limit));
    }
    Ok(Permit {
        function: function.clone(),
        within: gates.within.cloned(),
        part: gates.part.cloned(),
        account: account.clone(),
    })
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.leave();
        if let Some(part) = &self.part {
            part.leave();
        }
        // The other way round than in: who finds room in the part finds it in the whole.
        self.function.leave();
        if let Some(within) = &self.within {
            within.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Event {
        Call(usize),
        End(usize),
        Limit(usize, u32),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            5 => (0usize..3).prop_map(Event::Call),
            4 => (0usize..20).prop_map(Event::End),
            1 => (0usize..3, 0u32..6).prop_map(|(f, l)| Event::Limit(f, l)),
        ];
        prop::collection::vec(event, 1..300)
    }

    fn gates<'a>(function: &'a Arc<Gate>, account: &'a Arc<Gate>) -> Gates<'a> {
        Gates {
            function,
            limited_by: Throttle::FunctionConcurrency,
            within: None,
            part: None,
            account,
        }
    }

    proptest! {
        /// Against the obvious model: a list of who is inside.
        #[test]
        fn limits_hold_and_places_come_back(account_limit in 1u32..8, events in events()) {
            let account = Gate::new(account_limit);
            let functions = [Gate::new(2), Gate::new(4), Gate::new(u32::MAX)];
            let mut inside: Vec<(usize, Permit)> = Vec::new();
            for event in events {
                match event {
                    Event::Call(f) => {
                        let of_function = inside.iter().filter(|(g, _)| *g == f).count() as u32;
                        let room = of_function < functions[f].limit();
                        let account_room = (inside.len() as u32) < account_limit;
                        match admit(gates(&functions[f], &account)).map_err(|full| full.fault) {
                            Ok(permit) => {
                                prop_assert!(room && account_room);
                                inside.push((f, permit));
                            }
                            Err(Fault::Throttled { reason: Throttle::FunctionConcurrency, .. }) => prop_assert!(!room),
                            Err(Fault::Throttled { reason: Throttle::AccountConcurrency, .. }) => {
                                prop_assert!(room && !account_room);
                            }
                            Err(other) => prop_assert!(false, "{other}"),
                        }
                    }
                    Event::End(n) if !inside.is_empty() => {
                        inside.swap_remove(n % inside.len());
                    }
                    Event::Limit(f, limit) => functions[f].set_limit(limit),
                    Event::End(_) => {}
                }
                prop_assert_eq!(account.under_way() as usize, inside.len());
            }
        }

        #[test]
        fn counts_share_a_word(in_use in 0..=PLACES, room in 0..=PLACES, peak in 0..=PLACES) {
            let places = Places { in_use, room, peak };
            prop_assert_eq!(Places::unpack(places.pack()), places);
        }
    }

    #[test]
    fn threads_never_share_the_last_place() {
        let (function, account) = (Gate::new(3), Gate::new(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(permit) = admit(gates(&function, &account)) {
                            assert!(function.under_way() <= 3);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!((function.under_way(), account.under_way()), (0, 0));
    }

    #[test]
    fn what_is_reserved_for_one_is_out_of_reach_for_others() {
        let (account, unreserved) = (Gate::new(3), Gate::new(1));
        let (reserved, other) = (Gate::new(2), Gate::new(u32::MAX));
        let others = Gates {
            part: Some(&unreserved),
            ..gates(&other, &account)
        };
        let _inside = admit(others).expect("there is room");
        let full = admit(others).expect_err("the rest is reserved");
        let expected = Fault::Throttled {
            reason: Throttle::UnreservedConcurrency,
            limit: 1,
        };
        assert_eq!(full.fault, expected);
        assert_eq!((other.under_way(), account.under_way()), (1, 1));
        let own = gates(&reserved, &account);
        let _two = (admit(own).expect("one"), admit(own).expect("two"));
        assert!(admit(own).is_err(), "it is a cap too");
    }

    #[test]
    fn what_is_reserved_is_divided() {
        let (account, function) = (Gate::new(9), Gate::new(3));
        let (kept, rest) = (Gate::new(2), Gate::new(1));
        let within = |within| Gates {
            within: Some(within),
            ..gates(&function, &account)
        };
        let first = admit(within(&rest)).expect("there is room");
        let full = admit(within(&rest)).expect_err("what is kept is not for it");
        let expected = Fault::Throttled {
            reason: Throttle::ReservedConcurrency,
            limit: 3,
        };
        assert_eq!(full.fault, expected);
        assert!(Arc::ptr_eq(full.gate, &rest));
        let two = [admit(within(&kept)), admit(within(&kept))];
        assert!(two.iter().all(Result::is_ok) && admit(within(&kept)).is_err());
        let counts = || [&function, &kept, &rest, &account].map(|gate| gate.under_way());
        assert_eq!(counts(), [3, 2, 1, 3]);
        drop((first, two));
        assert_eq!(counts(), [0; 4]);
        // What is refused further on leaves nothing behind.
        let none = Gate::new(0);
        let refused = Gates {
            part: Some(&none),
            ..within(&kept)
        };
        assert!(admit(refused).is_err());
        assert!(
            admit(Gates {
                account: &none,
                ..within(&kept)
            })
            .is_err()
        );
        assert_eq!(counts(), [0; 4]);
    }

    #[test]
    fn a_shared_gate_has_the_room_it_was_granted() {
        let short = Arc::new(Notify::new());
        let (shared, account) = (Gate::shared(10, short.clone()), Gate::new(100));
        let enter = || admit(gates(&shared, &account)).ok();
        assert!(enter().is_none(), "nothing was granted yet");
        shared.settle(4, 4, false);
        let inside: Vec<Permit> = std::iter::from_fn(enter).collect();
        assert_eq!((inside.len(), shared.take_peak()), (4, 4));
        // Two of them are wanted elsewhere: they go as calls end.
        shared.settle(0, 2, false);
        assert_eq!(shared.room(), 4);
        drop(inside);
        assert_eq!((shared.room(), shared.under_way()), (2, 0));
        // A lower limit takes what is idle, a higher one gives nothing by itself, no limit needs no grant.
        shared.set_limit(1);
        assert_eq!(shared.room(), 1);
        shared.set_limit(5);
        assert_eq!(shared.room(), 1);
        shared.set_limit(u32::MAX);
        assert_eq!(shared.room(), UNLIMITED);
        shared.settle(3, 3, false);
        drop(enter());
        assert_eq!(shared.room(), UNLIMITED);
        shared.set_limit(5);
        assert_eq!(shared.room(), 0);
        // A limit that comes while calls run has these in it.
        shared.set_limit(u32::MAX);
        let inside = (enter(), enter());
        shared.set_limit(0);
        assert_eq!((shared.room(), shared.under_way()), (2, 2));
        drop(inside);
        assert_eq!((shared.room(), shared.under_way()), (0, 0));
        shared.set_limit(5);
        // What was lost is not counted as held, though calls still use it.
        shared.settle(3, 3, false);
        let _inside = (enter(), enter());
        shared.settle(-2, 1, false);
        assert_eq!((shared.room(), shared.under_way()), (1, 2));
        assert!(enter().is_none());
    }
}
