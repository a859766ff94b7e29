//! Which idle worker is worth least. Pure. Greedy-dual: a worker is worth the start it saves, times how often it saves one,
//! per memory it holds; so large, rarely used, quickly started ones go first.

use std::time::Duration;

use crate::domain::limits::Mebibytes;

/// An idle worker as the decision sees it.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Calls per second its version had lately.
    pub rate: f64,
    /// How many of its version are idle: the more, the less the last one is missed.
    pub idle: usize,
    pub idle_for: Duration,
    pub start_cost: Duration,
    pub memory: Mebibytes,
}

pub fn value(view: &View) -> f64 {
    // A version without recent calls is still likelier to be called the more recently it was used.
    let use_rate = view.rate + 1.0 / (1.0 + view.idle_for.as_secs_f64());
    use_rate * view.start_cost.as_secs_f64()
        / (f64::from(view.memory.0.max(1)) * view.idle.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: View = View {
        rate: 1.0,
        idle: 1,
        idle_for: Duration::from_secs(10),
        start_cost: Duration::from_millis(400),
        memory: Mebibytes(128),
    };

    #[test]
    fn what_makes_a_worker_worth_less() {
        let base = value(&BASE);
        assert!(value(&View { rate: 0.1, ..BASE }) < base);
        assert!(value(&View { idle: 4, ..BASE }) < base);
        assert!(
            value(&View {
                idle_for: Duration::from_secs(600),
                ..BASE
            }) < base
        );
        assert!(
            value(&View {
                memory: Mebibytes(1024),
                ..BASE
            }) < base
        );
        assert!(
            value(&View {
                start_cost: Duration::from_millis(50),
                ..BASE
            }) < base
        );
    }
}
