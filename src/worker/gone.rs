//! Whether a worker may still be used, and why not: said by whoever notices first, read by whoever has the worker. Warm path: asking is
//! one load.

use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Debug, Default)]
pub struct Gone(AtomicU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody has its log pipe any more: its processes have ended, or would end unseen.
    Log = 1,
    /// The container that held its network has ended, and it has none.
    Network = 2,
    /// Somebody stopped its processes.
    Stopped = 3,
    /// Somebody paused its container.
    Frozen = 4,
}

impl Gone {
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// What came first is why.
    pub fn say(&self, end: End) {
        let said = self
            .0
            .compare_exchange(0, end as u8, Ordering::AcqRel, Ordering::Acquire);
        // Then it is gone all the same.
        said.ok();
    }

    pub fn why(&self) -> Option<End> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(End::Log),
            2 => Some(End::Network),
            3 => Some(End::Stopped),
            _ => Some(End::Frozen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_is_why() {
        let all = [End::Log, End::Network, End::Stopped, End::Frozen];
        for (first, then) in all.into_iter().flat_map(|a| all.map(|b| (a, b))) {
            let gone = Gone::default();
            assert_eq!((gone.is_so(), gone.why()), (false, None));
            gone.say(first);
            gone.say(then);
            assert_eq!((gone.is_so(), gone.why()), (true, Some(first)));
        }
    }
}
