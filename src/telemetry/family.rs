//! Metrics of single functions. What `recorder` keeps it keeps for ever; a function that was deleted is one whose series nobody holds any
//! more, and some time later they are not shown any more, nor kept. Warm path: what a call adds to are atomics of its function's.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

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
}
