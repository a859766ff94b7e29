//! The host's memory budget: what all workers together are sized for. A reservation is made before a container is created
//! and returned when it is gone, so that the sum never passes the budget.

use parking_lot::Mutex;

use crate::domain::limits::Mebibytes;

#[derive(Debug)]
pub struct Budget {
    total: u64,
    used: Mutex<u64>,
}

impl Budget {
    /// `total` in bytes.
    pub fn new(total: u64) -> Self {
        Self {
            total,
            used: Mutex::new(0),
        }
    }

    /// Takes `memory` if there is room.
    pub fn reserve(&self, memory: Mebibytes) -> bool {
        self.resize(Mebibytes(0), memory)
    }

    /// Turns a reservation of `from` into one of `to`; shrinking always succeeds.
    pub fn resize(&self, from: Mebibytes, to: Mebibytes) -> bool {
        let mut used = self.used.lock();
        let without = used
            .checked_sub(from.bytes())
            .expect("only what was reserved is resized");
        let with = without + to.bytes();
        if to > from && with > self.total {
            return false;
        }
        *used = with;
        true
    }

    pub fn release(&self, memory: Mebibytes) {
        let mut used = self.used.lock();
        *used = used
            .checked_sub(memory.bytes())
            .expect("only what was reserved is released");
    }

    /// By how many bytes the budget is too small for `more`.
    pub fn lacks(&self, more: u64) -> u64 {
        (self.used() + more).saturating_sub(self.total)
    }

    pub fn used(&self) -> u64 {
        *self.used.lock()
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
        assert_eq!(budget.lacks(0), 0);
        assert_eq!(budget.lacks(7), 7);
        budget.release(Mebibytes(128));
        assert_eq!(budget.lacks(Mebibytes(129).bytes()), Mebibytes(1).bytes());
        assert_eq!(budget.used(), Mebibytes(128).bytes());
    }
}
