//! What follows from all functions together, kept up to date as they come, change and go: with a hundred thousand of them, counting anew
//! at every change would be most of the work. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// What one function adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it takes of the account's limit for itself.
    pub claim: u32,
    /// The longest one of its calls may run, whichever version it is of.
    pub longest_timeout: Duration,
}

#[derive(Debug, Default)]
pub struct Totals {
    functions: usize,
    claimed: u64,
    /// How many functions have each.
    timeouts: BTreeMap<Duration, usize>,
}

impl Totals {
    /// A function was this, and is that now.
    pub fn exchange(&mut self, old: Option<Part>, new: Option<Part>) {
        if let Some(new) = new {
            self.functions += 1;
            self.claimed += u64::from(new.claim);
            *self.timeouts.entry(new.longest_timeout).or_default() += 1;
        }
        if let Some(old) = old {
            self.functions -= 1;
            self.claimed -= u64::from(old.claim);
            if let Some(count) = self.timeouts.get_mut(&old.longest_timeout) {
                *count -= 1;
                if *count == 0 {
                    self.timeouts.remove(&old.longest_timeout);
                }
            }
        }
    }

    pub fn functions(&self) -> usize {
        self.functions
    }

    /// What all together take of the account's limit for themselves.
    pub fn claimed(&self) -> u32 {
        u32::try_from(self.claimed).unwrap_or(u32::MAX)
    }

    pub fn longest_timeout(&self) -> Duration {
        let longest = self.timeouts.last_key_value();
        longest.map_or(Duration::ZERO, |(timeout, _)| *timeout)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = Option<Part>> {
        let part = (0u32..4, 0u64..4);
        prop::option::of(part.prop_map(|(claim, seconds)| Part {
            claim,
            longest_timeout: Duration::from_secs(seconds),
        }))
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_counting_anew_would_give(
            steps in prop::collection::vec((0usize..5, part()), 0..50),
        ) {
            let mut totals = Totals::default();
            let mut all: [Option<Part>; 5] = Default::default();
            for (at, new) in steps {
                totals.exchange(all[at].clone(), new.clone());
                all[at] = new;
                let there = || all.iter().flatten();
                prop_assert_eq!(totals.functions(), there().count());
                let claimed: u32 = there().map(|part| part.claim).sum();
                prop_assert_eq!(totals.claimed(), claimed);
                let longest = there().map(|part| part.longest_timeout).max();
                prop_assert_eq!(totals.longest_timeout(), longest.unwrap_or_default());
            }
        }
    }
}
