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

/// A stretch of an open loop, in which the rate goes evenly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Calls per second at its beginning and at its end.
    pub from: f64,
    pub to: f64,
    pub length: Duration,
}

impl Step {
    /// Calls expected by so many seconds into it.
    fn calls_by(&self, seconds: f64) -> f64 {
        let length = self.length.as_secs_f64();
        self.from * seconds + (self.to - self.from) * seconds * seconds / (2.0 * length)
    }

    pub fn calls(&self) -> f64 {
        self.calls_by(self.length.as_secs_f64())
    }

    /// When the so-manyth call of it is due: the inverse of `calls_by`. A rate that is zero at one end makes it a root.
    fn reached(&self, calls: f64) -> f64 {
        let slope = (self.to - self.from) / self.length.as_secs_f64();
        let root = (self.from * self.from + 2.0 * slope * calls)
            .max(0.0)
            .sqrt();
        // This form of the solution has no difference of two near numbers in it, whatever the slope.
        2.0 * calls / (self.from + root)
    }
}

/// How calls are spread within the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// At equal distances, as far as the rate stays the same.
    Constant,
    /// Callers who know nothing of each other.
    Poisson,
}

/// Calls whose rate changes: ramps, bursts, and what is one step only. Each is of a function as `mix` has it, by weight.
pub fn shaped(steps: &[Step], spread: Spread, mix: &[f64], seed: u64, most: usize) -> Vec<Arrival> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut arrivals = Vec::new();
    let mut begin = Duration::ZERO;
    // Time is stretched: calls come evenly, or exponentially, on a scale on which the rate is one.
    let gap = |random: &mut StdRng| match spread {
        Spread::Constant => 1.0,
        Spread::Poisson => -(1.0 - random.random::<f64>()).ln(),
    };
    let mut next = gap(&mut random);
    let mut expected = 0.0;
    for step in steps {
        let calls = step.calls();
        while next < expected + calls {
            if arrivals.len() >= most.min(ARRIVALS_MAX) {
                return arrivals;
            }
            let at = step.reached(next - expected);
            arrivals.push(Arrival {
                at: begin + Duration::from_secs_f64(at.clamp(0.0, step.length.as_secs_f64())),
                function: pick(mix, &mut random),
            });
            next += gap(&mut random);
        }
        expected += calls;
        begin += step.length;
    }
    arrivals
}

/// The order a closed loop takes its functions in: by weight, and by the seed alone.
pub fn turns(mix: &[f64], seed: u64) -> Vec<usize> {
    /// Long enough for weights of a hundred to one to show.
    const TURNS: usize = 1009;
    let mut random = StdRng::seed_from_u64(seed);
    match mix.len() {
        0 | 1 => vec![0],
        _ => (0..TURNS).map(|_| pick(mix, &mut random)).collect(),
    }
}

fn pick(mix: &[f64], random: &mut StdRng) -> usize {
    if mix.len() < 2 {
        return 0;
    }
    let mut left = random.random::<f64>() * mix.iter().sum::<f64>();
    let place = mix.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    place.unwrap_or(mix.len() - 1)
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

    const fn step(from: f64, to: f64, seconds: u64) -> Step {
        Step {
            from,
            to,
            length: Duration::from_secs(seconds),
        }
    }

    fn between(plan: &[Arrival], from: f64, to: f64) -> usize {
        let within = |a: &&Arrival| (from..to).contains(&a.at.as_secs_f64());
        plan.iter().filter(within).count()
    }

    #[test]
    fn a_ramp_rises_and_a_burst_is_where_it_should_be() {
        let steps = [
            step(0.0, 200.0, 10),
            step(1000.0, 1000.0, 1),
            step(10.0, 10.0, 10),
        ];
        let plan = shaped(&steps, Spread::Constant, &[1.0], 1, ARRIVALS_MAX);
        // A triangle of 1,000 calls, of which a quarter fall in its first half; a burst of 1,000; 100 calls after it.
        assert!(plan.len().abs_diff(2_100) <= 1, "{}", plan.len());
        assert!(between(&plan, 0.0, 5.0).abs_diff(250) <= 1);
        assert!(between(&plan, 0.0, 10.0).abs_diff(1_000) <= 1);
        assert!(between(&plan, 10.0, 11.0).abs_diff(1_000) <= 1);
        assert!(between(&plan, 11.0, 21.0).abs_diff(100) <= 1);
        assert!(plan.is_sorted());
        let steady = shaped(&[step(100.0, 100.0, 2)], Spread::Constant, &[1.0], 1, 1_000);
        assert!(steady.windows(2).all(|w| {
            let gap = (w[1].at - w[0].at).as_secs_f64();
            (gap - 0.01).abs() < 1e-6
        }));
        assert_eq!(shaped(&steps, Spread::Poisson, &[1.0], 1, 7).len(), 7);
        let falling = shaped(&[step(200.0, 0.0, 10)], Spread::Constant, &[1.0], 1, 9_999);
        assert!(between(&falling, 0.0, 5.0).abs_diff(750) <= 1);
    }

    #[test]
    fn independent_callers_follow_the_rate_and_the_seed() {
        let steps = [step(500.0, 1500.0, 20)];
        let plan = shaped(&steps, Spread::Poisson, &[1.0], 3, ARRIVALS_MAX);
        // 20,000 are expected with a standard deviation of 141; of them three eighths in the first half.
        assert!(plan.len().abs_diff(20_000) < 700, "{}", plan.len());
        assert!(between(&plan, 0.0, 10.0).abs_diff(7_500) < 450);
        assert!(plan.is_sorted());
        assert_eq!(
            plan,
            shaped(&steps, Spread::Poisson, &[1.0], 3, ARRIVALS_MAX)
        );
        assert_ne!(
            plan,
            shaped(&steps, Spread::Poisson, &[1.0], 4, ARRIVALS_MAX)
        );
    }

    #[test]
    fn a_mix_is_by_weight() {
        let steps = [step(1_000.0, 1_000.0, 10)];
        let plan = shaped(&steps, Spread::Constant, &[3.0, 0.0, 1.0], 1, ARRIVALS_MAX);
        let of = |n| plan.iter().filter(|a| a.function == n).count();
        assert!(of(0).abs_diff(7_500) < 300, "{}", of(0));
        assert_eq!((of(1), of(0) + of(2)), (0, plan.len()));
        let turns = turns(&[1.0, 1.0], 1);
        let second = turns.iter().filter(|n| **n == 1).count();
        assert!(second.abs_diff(turns.len() / 2) < 100);
        assert_eq!(super::turns(&[5.0], 1), [0]);
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
