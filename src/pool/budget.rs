//! The host's memory budget: what all workers together are sized for. A reservation is made before a container is created
//! and returned when it is gone, so that the sum never passes the budget.

use parking_lot::Mutex;

use crate::domain::limits::Mebibytes;

#[derive(Debug)]
pub struct Budget {
    total: u64,
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    used: u64,
    /// The part of `used` whose workers are being cleared away.
    leaving: u64,
}

impl Budget {
    /// `total` in bytes.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            sums: Mutex::default(),
        }
    }

    /// Takes `memory` if there is room.
    pub fn reserve(&self, memory: Mebibytes) -> bool {
        self.resize(Mebibytes(0), memory)
    }

    /// Turns a reservation of `from` into one of `to`; shrinking always succeeds.
    pub fn resize(&self, from: Mebibytes, to: Mebibytes) -> bool {
        let mut sums = self.sums.lock();
        let without = sums
            .used
            .checked_sub(from.bytes())
            .expect("only what was reserved is resized");
        let with = without + to.bytes();
        if to > from && with > self.total {
            return false;
        }
        sums.used = with;
        true
    }

    /// What still has to go before a reservation can grow, beyond what is going already.
    pub fn lacks(&self, from: Mebibytes, to: Mebibytes) -> u64 {
        let sums = self.sums.lock();
        let wanted = sums.used + to.bytes() - from.bytes().min(to.bytes());
        wanted
            .saturating_sub(self.total)
            .saturating_sub(sums.leaving)
    }

    /// A worker is being cleared away; its memory comes back with `release`.
    pub fn leave(&self, memory: Mebibytes) {
        self.sums.lock().leaving += memory.bytes();
    }

    /// The worker that was leaving is gone.
    pub fn release(&self, memory: Mebibytes) {
        let mut sums = self.sums.lock();
        sums.leaving = sums
            .leaving
            .checked_sub(memory.bytes())
            .expect("only who leaves is released");
        sums.used = sums
            .used
            .checked_sub(memory.bytes())
            .expect("only what was reserved is released");
    }

    pub fn used(&self) -> u64 {
        self.sums.lock().used
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_never_passes_the_budget() {
        let budget = Budget::new(Mebibytes(256).bytes());
        assert!(budget.reserve(Mebibytes(128)));
        assert!(budget.reserve(Mebibytes(64)));
        assert!(!budget.reserve(Mebibytes(128)));
        assert!(budget.resize(Mebibytes(64), Mebibytes(128)));
        assert!(!budget.resize(Mebibytes(128), Mebibytes(129)));
        assert_eq!(
            budget.lacks(Mebibytes(0), Mebibytes(100)),
            Mebibytes(100).bytes()
        );
        budget.leave(Mebibytes(128));
        assert_eq!(
            budget.lacks(Mebibytes(0), Mebibytes(100)),
            0,
            "enough is on its way out"
        );
        assert!(!budget.reserve(Mebibytes(100)), "but not out yet");
        budget.release(Mebibytes(128));
        assert_eq!(budget.used(), Mebibytes(128).bytes());
    }
}
