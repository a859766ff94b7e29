//! The creation lanes: how many containers are created at once, and in which order. Pure. Strict priority, first come first
//! served within one; refills leave a lane free, so that a caller never waits for a pool to fill.

use std::collections::BTreeMap;

use crate::pool::policy::Urgency;

#[derive(Debug)]
pub struct Lanes<K> {
    bound: usize,
    active: usize,
    active_refills: usize,
    waiting: BTreeMap<(Urgency, u64), K>,
    sequence: u64,
}

impl<K> Lanes<K> {
    pub fn new(bound: usize) -> Self {
        assert!(bound > 0, "without a lane nothing would ever start");
        Self {
            bound,
            active: 0,
            active_refills: 0,
            waiting: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn request(&mut self, key: K, urgency: Urgency) {
        self.waiting.insert((urgency, self.sequence), key);
        self.sequence += 1;
    }

    /// The next creation to begin, if a lane is free. Whoever takes it must call `done` with the same urgency.
    pub fn begin(&mut self) -> Option<(K, Urgency)> {
        if self.active >= self.bound {
            return None;
        }
        let (&(urgency, _), _) = self.waiting.first_key_value()?;
        if urgency == Urgency::Refill && self.active_refills + 1 >= self.bound.max(2) {
            return None;
        }
        let ((urgency, _), key) = self.waiting.pop_first()?;
        self.active += 1;
        self.active_refills += usize::from(urgency == Urgency::Refill);
        Some((key, urgency))
    }

    pub fn done(&mut self, urgency: Urgency) {
        self.active = self
            .active
            .checked_sub(1)
            .expect("only what was begun is done");
        if urgency == Urgency::Refill {
            self.active_refills = self
                .active_refills
                .checked_sub(1)
                .expect("a refill was begun");
        }
    }

    pub fn active(&self) -> usize {
        self.active
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn callers_overtake_and_refills_leave_a_lane() {
        let mut lanes = Lanes::new(3);
        for n in 0..5 {
            lanes.request(n, Urgency::Refill);
        }
        assert_eq!(lanes.begin(), Some((0, Urgency::Refill)));
        assert_eq!(lanes.begin(), Some((1, Urgency::Refill)));
        assert_eq!(lanes.begin(), None, "the last lane is for callers");
        lanes.request(9, Urgency::ScaleOut);
        lanes.request(8, Urgency::Caller);
        assert_eq!(lanes.begin(), Some((8, Urgency::Caller)));
        assert_eq!(lanes.begin(), None);
        lanes.done(Urgency::Refill);
        assert_eq!(lanes.begin(), Some((9, Urgency::ScaleOut)));
    }

    proptest! {
        /// Against the obvious model: a sorted list and a counter.
        #[test]
        fn bound_and_order_hold(bound in 1usize..5, events in prop::collection::vec(0u8..5, 1..200)) {
            let mut lanes = Lanes::new(bound);
            let mut model: Vec<(Urgency, u32)> = Vec::new();
            let mut active: Vec<Urgency> = Vec::new();
            for (n, event) in events.into_iter().enumerate() {
                let n = n as u32;
                match event {
                    0..=2 => {
                        let urgency = [Urgency::Caller, Urgency::ScaleOut, Urgency::Refill][usize::from(event)];
                        lanes.request(n, urgency);
                        model.push((urgency, n));
                    }
                    3 => match lanes.begin() {
                        Some((key, urgency)) => {
                            model.sort();
                            prop_assert_eq!(model.remove(0), (urgency, key));
                            active.push(urgency);
                            prop_assert!(active.len() <= bound);
                        }
                        None => {
                            model.sort();
                            let refill_next = model.first().is_some_and(|m| m.0 == Urgency::Refill);
                            prop_assert!(model.is_empty() || active.len() == bound || refill_next);
                        }
                    },
                    _ => if let Some(urgency) = active.pop() { lanes.done(urgency) },
                }
                prop_assert_eq!(lanes.waiting(), model.len());
                prop_assert_eq!(lanes.active(), active.len());
            }
        }
    }
}
