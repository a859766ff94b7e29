//! Keeps what the `metrics` macros record, each metric in one atomic or one histogram, until it is asked what there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{Registry, Storage};
use parking_lot::RwLock;

use crate::telemetry::exposition::{Measured, MetricFamily};
use crate::telemetry::histogram::Times;

/// Clones are of the same metrics.
#[derive(Clone)]
pub struct Recorded(Arc<Kept>);

struct Kept {
    registry: Registry<Key, Atomics>,
    help: RwLock<BTreeMap<String, SharedString>>,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded").finish_non_exhaustive()
    }
}

impl Default for Recorded {
    fn default() -> Self {
        Self(Arc::new(Kept {
            registry: Registry::new(Atomics),
            help: RwLock::default(),
        }))
    }
}

/// What a metric is kept in. The registry's own keeps every single time that was recorded, until somebody asks.
struct Atomics;

impl Storage<Key> for Atomics {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Times>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::default()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let kept = |counter: &Arc<AtomicU64>| Counter::from_arc(counter.clone());
        self.0.registry.get_or_create_counter(key, kept)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let kept = |gauge: &Arc<AtomicU64>| Gauge::from_arc(gauge.clone());
        self.0.registry.get_or_create_gauge(key, kept)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let kept = |histogram: &Arc<Times>| Histogram::from_arc(histogram.clone());
        self.0.registry.get_or_create_histogram(key, kept)
    }
}

impl Recorded {
    fn describe(&self, name: KeyName, help: SharedString) {
        self.0.help.write().insert(name.as_str().to_owned(), help);
    }

    /// All that was recorded, by name and then by labels, so that a page is like the one before.
    pub fn families(&self) -> Vec<MetricFamily> {
        let registry = &self.0.registry;
        let mut all: Vec<(Key, Measured)> = Vec::new();
        registry.visit_counters(|key, counter| {
            let count = counter.load(Ordering::Relaxed);
            all.push((key.clone(), Measured::Counter(count)));
        });
        registry.visit_gauges(|key, gauge| {
            let value = f64::from_bits(gauge.load(Ordering::Relaxed));
            all.push((key.clone(), Measured::Gauge(value)));
        });
        registry.visit_histograms(|key, histogram| {
            all.push((key.clone(), Measured::Histogram(histogram.shown())));
        });
        all.sort_by(|(a, _), (b, _)| {
            let names = a.name().cmp(b.name());
            names.then_with(|| labels(a).cmp(labels(b)))
        });
        let help = self.0.help.read();
        let mut families: Vec<MetricFamily> = Vec::new();
        for (key, measured) in all {
            let name = key.name();
            if families.last().is_none_or(|last| last.name() != name) {
                let begin = match &measured {
                    Measured::Counter(_) => MetricFamily::counters,
                    Measured::Gauge(_) => MetricFamily::gauges,
                    Measured::Histogram(_) => MetricFamily::histograms,
                };
                families.push(begin(name, help.get(name).map_or("", |help| help)));
            }
            if let Some(family) = families.last_mut() {
                family.add(labels(&key), measured);
            }
        }
        families
    }
}

fn labels(key: &Key) -> impl Iterator<Item = (&str, &str)> {
    key.labels().map(|label| (label.key(), label.value()))
}

#[cfg(test)]
mod tests {
    use metrics::{Level, Metadata};

    use super::*;
    use crate::telemetry::exposition::Format;

    #[test]
    fn what_is_recorded_is_shown_by_name_and_labels() {
        let recorded = Recorded::default();
        let of = |name: &'static str, value: &'static str| {
            Key::from_parts(name, vec![metrics::Label::new("of", value)])
        };
        let metadata = Metadata::new("", Level::INFO, None);
        let counter = |key: Key| recorded.register_counter(&key, &metadata);
        let gauge = || recorded.register_gauge(&"a".into(), &metadata);
        let histogram = || recorded.register_histogram(&"d_seconds".into(), &metadata);
        recorded.describe_counter("b_total".into(), None, "What b is.".into());
        counter(of("b_total", "y")).increment(2);
        counter(of("b_total", "x")).increment(1);
        counter(of("b_total", "y")).increment(3);
        counter("c_total".into()).absolute(7);
        gauge().set(2.5);
        gauge().decrement(1.0);
        histogram().record(0.01);
        histogram().record(1_000.0);
        let page = Format::Text.write(&recorded.families());
        let page = String::from_utf8(page).expect("is text");
        let lines = page.lines().filter(|line| !line.contains("_bucket"));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        # TYPE a gauge
        a 1.5

        # HELP b_total What b is.
        # TYPE b_total counter
        b_total{of="x"} 1
        b_total{of="y"} 5

        # TYPE c_total counter
        c_total 7

        # TYPE d_seconds histogram
        d_seconds_sum 1000.01
        d_seconds_count 2
        "#);
    }
}
