//! Is another worker worth starting? Pure. A start costs the machine hundreds of milliseconds of work that calls under way
//! need too; so when the busy workers will get through the line sooner than a new one could be ready, the line waits.

use std::time::Duration;

/// A shorter wait of the first in line may be the machine's doing: a processor that others have, a container that starts. One more
/// worker does not help against that, and its own start adds to it.
const STUCK: Duration = Duration::from_millis(50);

/// A slot as the decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub waiting: usize,
    /// How long the first in line has waited.
    pub oldest_wait: Duration,
    pub busy: usize,
    pub starting: usize,
    /// `None` before the first call has ended.
    pub runs: Option<Runs>,
}

/// How long calls hold their workers.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    /// Recent ones, on average.
    pub mean: Duration,
    /// What the mean was at its lowest in the last while.
    pub base: Duration,
}

impl Runs {
    /// They take longer than they did: what is lacking are processors, and another worker would take from those there are.
    fn are_slowed(&self) -> bool {
        self.mean > self.base + self.base / 2
    }
}

/// What a start costs now, and how many workers are never questioned.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    pub start: Duration,
    pub eager_workers: usize,
}

/// How badly a worker is wanted. The order is the priority in the creation lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A caller waits and nothing else can serve it.
    Caller,
    /// Callers wait, and busy workers will serve them later.
    ScaleOut,
    /// Nobody waits: the version has fewer workers than are to be kept ready.
    Provision,
    /// Nobody waits: the stem pool is below its target.
    Refill,
}

impl Urgency {
    pub const fn as_str(self) -> &'static str {
        match self {
            Urgency::Caller => "caller",
            Urgency::ScaleOut => "scale_out",
            Urgency::Provision => "provision",
            Urgency::Refill => "refill",
        }
    }
}

/// Whether to start one more, and how badly.
pub fn wants_start(view: &View, costs: &Costs) -> Option<Urgency> {
    // Every worker on its way is for somebody in line.
    let unserved = view.waiting.checked_sub(view.starting).filter(|n| *n > 0)?;
    if view.busy == 0 {
        return Some(Urgency::Caller);
    }
    if view.busy + view.starting < costs.eager_workers {
        return Some(Urgency::ScaleOut);
    }
    // Calls that run longer than the mean lets expect show as a first in line who waits too long.
    if view.oldest_wait >= costs.start.max(STUCK) {
        return Some(Urgency::ScaleOut);
    }
    let Some(runs) = view.runs else {
        return Some(Urgency::ScaleOut);
    };
    let turns = unserved.div_ceil(view.busy + view.starting);
    let wait = runs
        .mean
        .saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX));
    (wait > costs.start && !runs.are_slowed()).then_some(Urgency::ScaleOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        start: Duration::from_millis(400),
        eager_workers: 2,
    };

    fn view(waiting: usize, busy: usize, starting: usize, mean_run_ms: Option<u64>) -> View {
        View {
            waiting,
            oldest_wait: Duration::ZERO,
            busy,
            starting,
            runs: mean_run_ms
                .map(Duration::from_millis)
                .map(|mean| Runs { mean, base: mean }),
        }
    }

    #[test]
    fn nobody_waits_nobody_starts() {
        assert_eq!(wants_start(&view(0, 5, 0, None), &COSTS), None);
        assert_eq!(wants_start(&view(3, 0, 3, None), &COSTS), None);
    }

    #[test]
    fn a_first_call_and_a_first_burst_start_one_each() {
        assert_eq!(
            wants_start(&view(1, 0, 0, None), &COSTS),
            Some(Urgency::Caller)
        );
        assert_eq!(
            wants_start(&view(9, 0, 8, None), &COSTS),
            Some(Urgency::Caller)
        );
    }

    #[test]
    fn fast_calls_wait_their_turn_and_slow_ones_get_workers() {
        assert_eq!(wants_start(&view(30, 2, 0, Some(1)), &COSTS), None);
        assert_eq!(
            wants_start(&view(30, 2, 0, Some(1000)), &COSTS),
            Some(Urgency::ScaleOut)
        );
        assert_eq!(
            wants_start(&view(30, 1, 0, Some(1)), &COSTS),
            Some(Urgency::ScaleOut),
            "a core idles"
        );
    }

    #[test]
    fn a_line_that_does_not_move_starts_one() {
        let stuck = View {
            oldest_wait: Duration::from_millis(500),
            ..view(1, 2, 0, Some(1))
        };
        assert_eq!(wants_start(&stuck, &COSTS), Some(Urgency::ScaleOut));
    }

    #[test]
    fn where_a_start_is_cheap_a_hiccup_of_the_machine_is_no_reason_for_one() {
        let cheap = Costs {
            start: Duration::from_millis(4),
            ..COSTS
        };
        let waited = |ms| View {
            oldest_wait: Duration::from_millis(ms),
            ..view(2, 2, 0, Some(1))
        };
        assert_eq!(wants_start(&waited(15), &cheap), None);
        assert_eq!(wants_start(&waited(50), &cheap), Some(Urgency::ScaleOut));
    }

    #[test]
    fn calls_that_slow_each_other_down_get_no_more_workers() {
        let cheap = Costs {
            start: Duration::from_millis(4),
            ..COSTS
        };
        let slowed = |mean| View {
            runs: Some(Runs {
                mean: Duration::from_millis(mean),
                base: Duration::from_millis(2),
            }),
            ..view(30, 2, 0, None)
        };
        assert_eq!(wants_start(&slowed(3), &cheap), Some(Urgency::ScaleOut));
        assert_eq!(wants_start(&slowed(4), &cheap), None);
    }
}
