//! What a closed loop leaves out. While an answer is late its connection sends nothing, so the calls that would have come meanwhile,
//! and would have waited, are in no histogram ("coordinated omission"). Here they are added, as `HdrHistogram` does it, but by
//! function: of a mix of a fast and a slow function no median of both says how often either is called. Pure.
//!
//! What is expected of a call is the median of its function. If all calls took that, a connection would have one of any function at
//! the mean of these medians, and one of a function at that divided by its share of the calls. What a call takes beyond its own
//! median it takes from all functions: each is missing one call in each of its distances, the first of which waited for all of that
//! time. With one function this is what is usual: every distance is the median.

use hdrhistogram::Histogram;

use crate::load::tally::{Tally, histogram};

/// No connection has a call more often, whatever a clock says.
const SHORTEST_NANOS: f64 = 1_000.0;

/// Adds to each function's calls, of one closed loop, those that were left out.
pub(super) fn correct(by_function: &mut [Tally]) {
    let spent: Vec<_> = by_function.iter().map(Tally::spent).collect();
    let expected: Vec<_> = spent.iter().map(|s| s.value_at_quantile(0.5)).collect();
    let calls = spent.iter().map(|s| s.len() as f64).sum::<f64>();
    let medians = spent.iter().zip(&expected);
    let mean = medians
        .map(|(s, m)| s.len() as f64 * *m as f64)
        .sum::<f64>()
        / calls.max(1.0);
    // How long calls kept others from being sent, and how many did.
    let excess: Vec<_> = spent
        .iter()
        .zip(&expected)
        .flat_map(|(spent, expected)| {
            let recorded = spent.iter_recorded();
            recorded.map(|value| {
                let beyond = value.value_iterated_to().saturating_sub(*expected);
                (beyond, value.count_at_value())
            })
        })
        .filter(|(beyond, _)| *beyond > 0)
        .collect();
    for (spent, tally) in spent.iter().zip(by_function) {
        let share = spent.len() as f64 / calls.max(1.0);
        let mut omitted = histogram();
        // What was not called once has no distance.
        if share > 0.0 {
            let distance = (mean / share).max(SHORTEST_NANOS) as u64;
            for &(beyond, count) in &excess {
                add(&mut omitted, beyond, count, distance);
            }
        }
        tally.correct(omitted);
    }
}

/// The calls, one in each distance, that so many calls kept from being sent.
fn add(omitted: &mut Histogram<u64>, mut waited: u64, count: u64, distance: u64) {
    while waited >= distance {
        omitted
            .record_n(waited, count)
            .expect("a histogram that grows takes every value");
        waited -= distance;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::connection::Failure;

    fn tally(calls: &[(usize, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (count, millis) in calls {
            let took = Duration::from_millis(*millis);
            (0..*count).for_each(|_| tally.answered(took, took, 200));
        }
        tally
    }

    /// Calls that were added, and the longest of them in milliseconds.
    fn added(tally: &Tally) -> (u64, f64) {
        let corrected = tally.corrected();
        let mut omitted = corrected.clone().into_owned();
        omitted.subtract(tally.latency()).expect("they are in it");
        (omitted.len(), omitted.max() as f64 / 1e6)
    }

    #[test]
    fn one_stall_hides_the_calls_of_its_time() {
        let mut one = [tally(&[(999, 1), (1, 1_000)])];
        let usual = {
            let latency = one[0].latency();
            latency.clone_correct(latency.value_at_quantile(0.5))
        };
        correct(&mut one);
        let (count, longest) = added(&one[0]);
        assert!(count.abs_diff(999) <= 2, "{count}");
        assert!((longest - 999.0).abs() < 2.0, "{longest}");
        assert_eq!(one[0].corrected().len(), usual.len(), "as HdrHistogram's");
        let p99 = |h: &Histogram<u64>| h.value_at_quantile(0.99) as f64 / 1e6;
        assert!(p99(one[0].latency()) < 1.1);
        assert!(p99(&one[0].corrected()) > 900.0);
    }

    #[test]
    fn what_is_always_slow_hides_nothing() {
        let mut mix = [tally(&[(900, 1)]), tally(&[(100, 100)])];
        correct(&mut mix);
        assert_eq!((added(&mix[0]).0, added(&mix[1]).0), (0, 0));
        assert!(mix.iter().all(Tally::is_corrected));
    }

    #[test]
    fn a_stall_in_a_mix_is_everybodys_and_by_their_shares() {
        // A call at 10.9 ms on average: of the fast ones every 12.1 ms, of the slow ones every 109 ms.
        let mut mix = [tally(&[(899, 1), (1, 1_091)]), tally(&[(100, 100)])];
        correct(&mut mix);
        let [(fast, longest), (slow, _)] = [added(&mix[0]), added(&mix[1])];
        assert!(fast.abs_diff(90) <= 1, "{fast}");
        assert!(slow.abs_diff(10) <= 1, "{slow}");
        assert!((longest - 1_090.0).abs() < 4.0, "{longest}");
    }

    #[test]
    fn a_call_that_was_given_up_hides_as_many_and_is_none_of_them() {
        let mut one = [tally(&[(999, 1)])];
        one[0].failed(Failure::Timeout, Duration::from_secs(1));
        correct(&mut one);
        assert!(added(&one[0]).0.abs_diff(999) <= 2);
        assert_eq!((one[0].latency().len(), one[0].unanswered()), (999, 1));
    }

    #[test]
    fn nothing_is_missing_where_nothing_was_called() {
        let mut idle = [Tally::default(), tally(&[(10, 1)])];
        correct(&mut idle);
        assert_eq!((added(&idle[0]).0, added(&idle[1]).0), (0, 0));
        correct(&mut []);
    }
}
