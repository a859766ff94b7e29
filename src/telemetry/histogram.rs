//! How often times were how long, as a classic histogram (bounds that people ask for) and as a native one (bounds that grow by 9 %) at once.
//! Warm path: recording adds to three atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

use crate::telemetry::exposition::{Bucket, BucketSpan, Histogram};

/// Classic bounds in seconds: from a warm call's tens of microseconds to the longest timeout.
const BOUNDS: [f64; 25] = [
    0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_25, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002_5,
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

/// Of native bounds: each is 2^(2^-3) times the one below, so there are eight from one power of two to the next. Clients that are asked for a growth
/// of at most 10 % choose this one.
const SCHEMA: i32 = 3;
/// Where the eight are, between a half and one. These texts are the shortest that are read as what Prometheus has.
const EIGHTS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_4,
    0.917_004_043_204_671_1,
];
/// Powers of two of the least and the greatest bound, in seconds: 15 µs, below which nothing is told apart, and half an hour.
const LEAST: i32 = -16;
const GREATEST: i32 = 11;
/// The bucket whose bound is 2^LEAST is Prometheus's zero bucket.
const ZERO: f64 = 1.0 / (1u64 << -LEAST) as f64;
const NATIVE: usize = (GREATEST - LEAST) as usize * EIGHTS.len() + 1;

/// A year, in nanoseconds: what one time adds to the sum at most.
const LONGEST: f64 = 365.0 * 86_400.0 * 1e9;

/// Times in seconds. Some 2 kB.
#[derive(Debug)]
pub struct Times {
    /// One for each bound.
    classic: [AtomicU64; BOUNDS.len()],
    native: [AtomicU64; NATIVE],
    nanos: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            classic: [const { AtomicU64::new(0) }; BOUNDS.len()],
            native: [const { AtomicU64::new(0) }; NATIVE],
            nanos: AtomicU64::new(0),
        }
    }
}

impl HistogramFn for Times {
    fn record(&self, seconds: f64) {
        let classic = BOUNDS.partition_point(|bound| *bound < seconds);
        // What is beyond them all is in the count, which is that of the native ones.
        if let Some(classic) = self.classic.get(classic) {
            classic.fetch_add(1, Ordering::Relaxed);
        }
        self.native[native(seconds)].fetch_add(1, Ordering::Relaxed);
        // What is no time (negative, or not a number) adds nothing, and what is endless a year.
        let nanos = (seconds * 1e9).round().min(LONGEST);
        self.nanos.fetch_add(nanos as u64, Ordering::Relaxed);
    }
}

/// Which of the native buckets this belongs to.
fn native(seconds: f64) -> usize {
    // Of what is no time, too.
    if seconds <= ZERO || seconds.is_nan() {
        return 0;
    }
    // It is normal, positive and maybe infinite: a fraction from a half to one, and a power of two.
    let bits = seconds.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52));
    let eighth = EIGHTS.partition_point(|bound| *bound < fraction);
    let above = (exponent - 1 - LEAST) as usize * EIGHTS.len() + eighth;
    above.min(NATIVE - 1)
}

impl Times {
    /// What it shows when it is scraped. What is recorded meanwhile may be in some of it only; all agrees with the count.
    pub fn shown(&self) -> Histogram {
        let native: Vec<u64> = self.native.iter().map(load).collect();
        let count = native.iter().sum();
        let mut below = 0;
        let classic = BOUNDS.iter().zip(&self.classic).map(|(bound, each)| {
            below += load(each);
            Bucket {
                cumulative_count: Some(below.min(count)),
                upper_bound: Some(*bound),
            }
        });
        let all = Bucket {
            cumulative_count: Some(count),
            upper_bound: Some(f64::INFINITY),
        };
        let mut shown = Histogram {
            sample_count: Some(count),
            sample_sum: Some(load(&self.nanos) as f64 / 1e9),
            bucket: classic.chain([all]).collect(),
            schema: Some(SCHEMA),
            zero_threshold: Some(ZERO),
            zero_count: Some(native[0]),
            ..Histogram::default()
        };
        // Prometheus's number of a bucket; that of the bound 1 is 0.
        let first = LEAST * EIGHTS.len() as i32;
        // A run of buckets that hold something is a span, and of each is told what it holds more than the one before.
        let (mut next, mut last) = (0, 0);
        for (number, count) in (first..)
            .zip(&native)
            .skip(1)
            .filter(|(_, count)| **count > 0)
        {
            let gap = number - next;
            match shown.positive_span.last_mut() {
                Some(span) if gap == 0 => span.length = span.length.map(|length| length + 1),
                _ => shown.positive_span.push(BucketSpan {
                    offset: Some(gap),
                    length: Some(1),
                }),
            }
            next = number + 1;
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            shown.positive_delta.push(count - last);
            last = count;
        }
        shown
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds of the buckets that hold something, and how much, read as Prometheus reads it.
    fn read(shown: &Histogram) -> Vec<(f64, i64)> {
        let (mut number, mut count, mut all) = (0, 0, Vec::new());
        let mut deltas = shown.positive_delta.iter();
        for span in &shown.positive_span {
            number += span.offset.expect("is there");
            for _ in 0..span.length.expect("is there") {
                count += deltas.next().expect("one for each");
                all.push((2f64.powf(f64::from(number) / 8.0), count));
                number += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        all
    }

    fn times(all: &[f64]) -> Histogram {
        let times = Times::default();
        for seconds in all {
            times.record(*seconds);
        }
        times.shown()
    }

    #[test]
    fn a_time_is_in_the_bucket_whose_bounds_it_is_between() {
        let mut seconds = ZERO * 1.000_001;
        while seconds < 2_000.0 {
            let shown = times(&[seconds]);
            let [(bound, 1)] = read(&shown)[..] else {
                unreachable!("one in one bucket: {shown:?}");
            };
            let below = bound / 2f64.powf(0.125);
            // Powers of two have errors of their own.
            let within = below * (1.0 - 1e-9) < seconds && seconds <= bound * (1.0 + 1e-9);
            assert!(within, "{seconds} is in {below} to {bound}");
            seconds *= 1.013;
        }
    }

    #[test]
    fn bounds_belong_to_what_is_below_them() {
        for (seconds, bound) in [(1.0, 1.0), (0.5, 0.5), (1.0 + 1e-15, 2f64.powf(0.125))] {
            assert_eq!(read(&times(&[seconds])), [(bound, 1)], "{seconds}");
        }
        for (seconds, at) in [(0.000_05, 0), (0.000_050_1, 1), (900.0, 24), (901.0, 25)] {
            let shown = times(&[seconds]);
            let first = shown
                .bucket
                .iter()
                .position(|b| b.cumulative_count == Some(1));
            assert_eq!(first, Some(at), "{seconds}");
        }
    }

    #[test]
    fn what_is_beyond_every_bound_and_what_is_no_time_is_counted() {
        let least = times(&[0.0, ZERO, -1.0, f64::NAN]);
        assert_eq!(least.zero_count, Some(4));
        assert_eq!((least.sample_count, read(&least)), (Some(4), vec![]));
        let most = times(&[3_000.0, f64::INFINITY]);
        assert_eq!(read(&most), [(2048.0, 2)]);
        assert_eq!(most.sample_count, Some(2));
    }

    #[test]
    fn buckets_that_hold_something_are_told_as_spans() {
        let shown = times(&[0.24, 0.25, 0.25, 0.26, 1.0, 0.000_1]);
        assert_eq!(
            read(&shown)
                .iter()
                .map(|(_, count)| *count)
                .collect::<Vec<_>>(),
            [1, 3, 1, 1]
        );
        let span = |span: &BucketSpan| {
            (
                span.offset.expect("is there"),
                span.length.expect("is there"),
            )
        };
        let spans: Vec<_> = shown.positive_span.iter().map(span).collect();
        assert_eq!(spans, [(-106, 1), (89, 2), (14, 1)]);
        let sum = shown.sample_sum.expect("is there");
        assert!((sum - 2.0001).abs() < 1e-9, "{sum}");
    }
}
