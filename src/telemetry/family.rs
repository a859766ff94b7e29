//! Metrics of single functions. What the library keeps it keeps for ever; a function that was deleted is one whose series nobody holds any
//! more, and some time later they are not shown any more, nor kept. Warm path: what a call adds to are atomics of its function's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is of a function that is gone is shown for so long, so that whoever scrapes now and then has its last figures.
pub const SHOWN_FOR: Duration = Duration::from_secs(10 * 60);

/// Series by what they are of; only so many at a time.
#[derive(Debug)]
pub struct Family<S> {
    most: usize,
    known: Mutex<BTreeMap<Arc<str>, Known<S>>>,
}

#[derive(Debug)]
struct Known<S> {
    series: Arc<S>,
    /// Beside this one, one for each who counts. Who shows the series has them as well, and for longer than a moment: that says nothing.
    holder: Arc<()>,
    /// When it was first seen that nobody else has them.
    gone: Option<Instant>,
}

impl<S> Known<S> {
    fn is_gone(&self) -> bool {
        // Nobody can get at them meanwhile: that takes the lock.
        Arc::strong_count(&self.holder) == 1
    }

    fn held(&self) -> Held<S> {
        Held {
            series: self.series.clone(),
            _holder: self.holder.clone(),
        }
    }
}

/// The series of a name, for who counts: they are not gone before this is.
#[derive(Debug)]
pub struct Held<S> {
    series: Arc<S>,
    _holder: Arc<()>,
}

impl<S> Deref for Held<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.series
    }
}

impl<S: Default> Family<S> {
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            known: Mutex::new(BTreeMap::new()),
        }
    }

    /// The series of this name, for as long as they are kept; those of `others` if there are too many.
    pub fn of(&self, name: &str, others: &str) -> (Arc<str>, Held<S>) {
        let mut known = self.known.lock();
        let is_new = !known.contains_key(name) && name != others;
        // Those of all others are one more.
        let full = |known: &BTreeMap<_, _>| {
            let named = known.len() - usize::from(known.contains_key(others));
            is_new && named >= self.most
        };
        // Whoever is there comes before whoever is gone.
        if full(&known)
            && let Some(longest) = longest_gone(&known, others)
        {
            known.remove(&longest);
        }
        let name = if full(&known) { others } else { name };
        if let Some((label, found)) = known.get_key_value(name) {
            return (label.clone(), found.held());
        }
        let label: Arc<str> = name.into();
        let new = Known {
            series: Arc::default(),
            holder: Arc::default(),
            gone: None,
        };
        let held = new.held();
        known.insert(label.clone(), new);
        (label, held)
    }

    /// All that are to be shown. Forgets those that nobody has had for long.
    pub fn shown(&self, now: Instant) -> Vec<(Arc<str>, Arc<S>)> {
        let mut known = self.known.lock();
        known.retain(|_, known| {
            let gone = known.is_gone().then(|| known.gone.unwrap_or(now));
            known.gone = gone;
            gone.is_none_or(|since| now.saturating_duration_since(since) < SHOWN_FOR)
        });
        let all = known.iter();
        all.map(|(label, known)| (label.clone(), known.series.clone()))
            .collect()
    }
}

fn longest_gone<S>(known: &BTreeMap<Arc<str>, Known<S>>, others: &str) -> Option<Arc<str>> {
    let named = known.iter().filter(|(label, _)| &***label != others);
    let gone = named.filter(|(_, known)| known.is_gone());
    // Seen to be gone or not: those that were go first.
    let longest = gone.min_by_key(|(_, known)| (known.gone.is_none(), known.gone));
    longest.map(|(label, _)| label.clone())
}

/// How often a time was within which bounds. `N` counts: one for each bound, and one for what is beyond them.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    /// An f64's bits.
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }
}

impl<const N: usize> Buckets<N> {
    pub fn record(&self, took: Duration, bounds: &[f64]) {
        debug_assert_eq!(bounds.len() + 1, N, "one more for what is beyond");
        let seconds = took.as_secs_f64();
        let at = bounds.partition_point(|bound| *bound < seconds);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + seconds).to_bits());
        // It never refuses.
        self.sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .ok();
    }
}

/// A page of metrics in Prometheus's text format.
#[derive(Debug, Default)]
pub struct Page(pub String);

impl Page {
    /// A family of counters; `all` is given what writes one, unless it is zero: those that never counted anything are none.
    pub fn counters<const L: usize>(
        &mut self,
        name: &str,
        labels: [&str; L],
        help: &str,
        all: impl FnOnce(&mut dyn FnMut([&str; L], &AtomicU64)),
    ) {
        self.begin(name, help, "counter");
        all(&mut |values, count| {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let labels = labelled(labels, values);
                self.line(format_args!("{name}{{{labels}}} {count}"));
            }
        });
        self.0.push('\n');
    }

    pub fn histograms<const L: usize, const N: usize>(
        &mut self,
        name: &str,
        labels: [&str; L],
        help: &str,
        bounds: &[f64],
        all: impl FnOnce(&mut dyn FnMut([&str; L], &Buckets<N>)),
    ) {
        self.begin(name, help, "histogram");
        all(&mut |values, buckets| {
            let labels = labelled(labels, values);
            let mut count = 0;
            for (at, each) in buckets.counts.iter().enumerate() {
                count += each.load(Ordering::Relaxed);
                match bounds.get(at) {
                    Some(le) => self.line(format_args!(
                        "{name}_bucket{{{labels},le=\"{le}\"}} {count}"
                    )),
                    None => self.line(format_args!(
                        "{name}_bucket{{{labels},le=\"+Inf\"}} {count}"
                    )),
                }
            }
            let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
            self.line(format_args!("{name}_sum{{{labels}}} {sum}"));
            self.line(format_args!("{name}_count{{{labels}}} {count}"));
        });
        self.0.push('\n');
    }

    fn begin(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a text takes all");
    }
}

/// Values are names of functions, or this program's own words: nothing in them is to be escaped.
fn labelled<const L: usize>(labels: [&str; L], values: [&str; L]) -> String {
    let pairs = labels.iter().zip(values);
    let pairs = pairs.map(|(label, value)| format!("{label}=\"{value}\""));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    type Counters = Family<AtomicU64>;

    fn names(family: &Counters, now: Instant) -> Vec<String> {
        let shown = family.shown(now).into_iter();
        shown.map(|(label, _)| label.to_string()).collect()
    }

    #[test]
    fn what_nobody_has_is_shown_for_a_while_and_begins_anew_after_that() {
        let (family, begun) = (Counters::new(10), clock::now());
        let (_, f) = family.of("f", "_");
        let (_, g) = family.of("g", "_");
        f.fetch_add(3, Ordering::Relaxed);
        assert_eq!(names(&family, begun), ["f", "g"]);
        assert_eq!(names(&family, begun + SHOWN_FOR), ["f", "g"], "are there");
        drop(f);
        assert_eq!(names(&family, begun + SHOWN_FOR), ["f", "g"]);
        // One of the same name goes on where it was.
        let (_, f) = family.of("f", "_");
        assert_eq!(f.load(Ordering::Relaxed), 3);
        let later = begun + 3 * SHOWN_FOR;
        assert_eq!(names(&family, later), ["f", "g"]);
        drop(f);
        assert_eq!(names(&family, later), ["f", "g"]);
        assert_eq!(names(&family, later + SHOWN_FOR), ["g"]);
        assert_eq!(family.of("f", "_").1.load(Ordering::Relaxed), 0);
        drop(g);
    }

    #[test]
    fn there_are_so_many_and_those_that_are_there_come_first() {
        let (family, begun) = (Counters::new(2), clock::now());
        let held: Vec<_> = ["a", "b", "c"].map(|name| family.of(name, "_")).into();
        let labels: Vec<_> = held.iter().map(|(label, _)| &**label).collect();
        assert_eq!(labels, ["a", "b", "_"]);
        assert!(std::ptr::eq(&*family.of("d", "_").1, &*held[2].1));
        let [(_, a), b, _]: [_; 3] = held.try_into().expect("three");
        // Longer gone than the other, which was not looked for since.
        drop(a);
        family.shown(begun);
        drop(b);
        assert_eq!(&*family.of("d", "_").0, "d");
        let (_, d) = family.of("d", "_");
        assert_eq!(names(&family, begun), ["_", "b", "d"]);
        drop(d);
    }

    #[test]
    fn who_shows_what_is_gone_does_not_bring_it_back() {
        let (family, begun) = (Counters::new(1), clock::now());
        drop(family.of("f", "_"));
        let slow = family.shown(begun);
        let moment = Duration::from_secs(1);
        assert_eq!(names(&family, begun + SHOWN_FOR - moment), ["f"]);
        assert!(names(&family, begun + SHOWN_FOR).is_empty());
        drop(family.of("g", "_"));
        let slower = family.shown(begun);
        assert_eq!(&*family.of("h", "_").0, "h", "which is there");
        drop((slow, slower));
    }

    #[test]
    fn a_page_is_what_is_scraped() {
        let buckets = Buckets::<3>::default();
        let bounds = [0.5, 1.0];
        for millis in [100, 500, 700, 2_200] {
            buckets.record(Duration::from_millis(millis), &bounds);
        }
        let mut page = Page::default();
        page.counters("c_total", ["f", "k"], "Some.", |write| {
            write(["x", "a"], &AtomicU64::new(2));
            write(["x", "b"], &AtomicU64::new(0));
        });
        page.histograms("h_seconds", ["f"], "Times.", &bounds, |write| {
            write(["x"], &buckets);
        });
        insta::assert_snapshot!(page.0, @r#"
        # HELP c_total Some.
        # TYPE c_total counter
        c_total{f="x",k="a"} 2

        # HELP h_seconds Times.
        # TYPE h_seconds histogram
        h_seconds_bucket{f="x",le="0.5"} 2
        h_seconds_bucket{f="x",le="1"} 3
        h_seconds_bucket{f="x",le="+Inf"} 4
        h_seconds_sum{f="x"} 3.5
        h_seconds_count{f="x"} 4
        "#);
    }
}
