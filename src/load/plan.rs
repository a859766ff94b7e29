//! When calls are due, in an open loop: calls arrive when they arrive, whether or not the server is done with those before. Pure.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A plan's longest length in calls; more would not fit the memory a load generator should take.
pub const ARRIVALS_MAX: usize = 10_000_000;

/// One call that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// Time since the start.
    pub at: Duration,
    /// Which function it is for; the driver has a list of calls and takes this one, counted around.
    pub function: usize,
}

/// Where a plan ends: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub calls: usize,
    pub length: Duration,
}

/// Calls at equal distances.
pub fn constant(per_second: f64, bound: Bound) -> Vec<Arrival> {
    let gap = Duration::from_secs_f64(1.0 / per_second.clamp(1e-9, 1e9));
    spaced(bound, || gap)
}

/// Calls of many callers who know nothing of each other: the gaps are exponentially distributed.
pub fn poisson(per_second: f64, seed: u64, bound: Bound) -> Vec<Arrival> {
    let mut random = StdRng::seed_from_u64(seed);
    let mean = 1.0 / per_second.clamp(1e-9, 1e9);
    spaced(bound, || {
        // 1 - x, because x may be 0 and is never 1.
        let gap = -(1.0 - random.random::<f64>()).ln() * mean;
        Duration::from_secs_f64(gap.min(1e9))
    })
}

fn spaced(bound: Bound, mut gap: impl FnMut() -> Duration) -> Vec<Arrival> {
    let mut at = Duration::ZERO;
    let mut arrivals = Vec::new();
    while arrivals.len() < bound.calls.min(ARRIVALS_MAX) {
        at += gap();
        if at >= bound.length {
            break;
        }
        arrivals.push(Arrival { at, function: 0 });
    }
    arrivals
}

/// What was recorded, `speed` times as fast. Arrivals come in the order of time.
pub fn replay(events: &[Arrival], speed: f64, bound: Bound) -> Vec<Arrival> {
    let mut arrivals: Vec<_> = events
        .iter()
        .map(|event| Arrival {
            at: event.at.div_f64(speed.max(1e-6)),
            function: event.function,
        })
        .filter(|event| event.at < bound.length)
        .collect();
    arrivals.sort_unstable();
    arrivals.truncate(bound.calls.min(ARRIVALS_MAX));
    arrivals
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bound(calls: usize, seconds: u64) -> Bound {
        Bound {
            calls,
            length: SECOND * seconds as u32,
        }
    }

    #[test]
    fn constant_calls_keep_their_distance_and_both_bounds() {
        let plan = constant(100.0, bound(1_000_000, 2));
        assert_eq!(plan.len(), 199);
        assert!(
            plan.windows(2)
                .all(|w| w[1].at - w[0].at == Duration::from_millis(10))
        );
        assert_eq!(constant(100.0, bound(7, 2)).len(), 7);
        assert!(constant(0.0, bound(10, 2)).is_empty());
    }

    #[test]
    fn poisson_calls_have_the_rate_and_the_spread_of_independent_callers() {
        let plan = poisson(1000.0, 1, bound(1_000_000, 20));
        // 20,000 are expected, with a standard deviation of 141.
        assert!((19_300..20_700).contains(&plan.len()), "{}", plan.len());
        let gaps: Vec<f64> = plan
            .windows(2)
            .map(|w| (w[1].at - w[0].at).as_secs_f64() * 1000.0)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential: the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.1, "{variance}");
        assert_eq!(plan, poisson(1000.0, 1, bound(1_000_000, 20)), "same seed");
        assert_ne!(plan, poisson(1000.0, 2, bound(1_000_000, 20)));
    }

    #[test]
    fn a_replay_is_faster_sorted_and_bounded() {
        let event = |seconds, function| Arrival {
            at: SECOND * seconds,
            function,
        };
        let recorded = [event(8, 0), event(2, 1), event(4, 2), event(30, 3)];
        let plan = replay(&recorded, 2.0, bound(10, 10));
        let functions: Vec<_> = plan.iter().map(|a| (a.at.as_secs(), a.function)).collect();
        assert_eq!(functions, [(1, 1), (2, 2), (4, 0)]);
        assert_eq!(replay(&recorded, 2.0, bound(1, 10)).len(), 1);
    }
}
