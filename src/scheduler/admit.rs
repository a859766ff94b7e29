//! May this call run? Counts what is under way, per function and for the account, and refuses what would pass a limit. Warm
//! path: two atomic steps in, two out; no lock.
//!
//! A place is taken before anything else happens for a call and is given back when its code has stopped running, so that
//! what runs never exceeds what was counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::fault::{Fault, Throttle};

/// A counter with a limit.
#[derive(Debug)]
pub struct Gate {
    under_way: AtomicU32,
    limit: AtomicU32,
}

impl Gate {
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            under_way: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
        })
    }

    /// A lower limit lets those inside finish and admits nobody until there is room under it.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// One step: the count is checked and raised at once, so two callers can never share the last place.
    fn enter(&self) -> Result<(), u32> {
        let limit = self.limit();
        self.under_way
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
                (count < limit).then(|| count + 1)
            })
            .map(drop)
            .map_err(|_full| limit)
    }

    fn leave(&self) {
        let before = self.under_way.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "only who entered leaves");
    }
}

/// A call's place under both limits.
#[derive(Debug)]
pub struct Permit {
    function: Arc<Gate>,
    account: Arc<Gate>,
}

/// Takes a place under the function's limit and the account's, or says which one is full.
pub fn admit(function: &Arc<Gate>, account: &Arc<Gate>) -> Result<Permit, Fault> {
    let throttled = |reason, limit| Fault::Throttled { reason, limit };
    function
        .enter()
        .map_err(|limit| throttled(Throttle::FunctionConcurrency, limit))?;
    if let Err(limit) = account.enter() {
        function.leave();
        return Err(throttled(Throttle::AccountConcurrency, limit));
    }
    Ok(Permit {
        function: function.clone(),
        account: account.clone(),
    })
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.leave();
        self.function.leave();
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
                        match admit(&functions[f], &account) {
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
    }

    #[test]
    fn threads_never_share_the_last_place() {
        let (function, account) = (Gate::new(3), Gate::new(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(permit) = admit(&function, &account) {
                            assert!(function.under_way() <= 3);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!((function.under_way(), account.under_way()), (0, 0));
    }
}
