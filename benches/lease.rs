//! A slot's state machine alone: what a call does under the slot's one lock.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing better to do"
)]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hearth::clock;
use hearth::domain::start::Cause;
use hearth::pool::policy::Costs;
use hearth::pool::state::{Given, State};
use parking_lot::Mutex;

const RAN: Duration = Duration::from_millis(1);
const COSTS: Costs = Costs {
    start: Duration::from_millis(400),
    eager_workers: 2,
};

/// A slot with so many idle workers.
fn slot(idle: u64) -> State<Box<u64>, u64> {
    let mut state = State::new(1_000, Cause::FirstCall);
    let now = clock::now();
    for worker in 0..idle {
        state.join(worker, now).unwrap();
        state.reserve_start(now, &COSTS).unwrap();
        let (Given::To(_, worker), _) = state.started(Box::new(worker), now) else {
            unreachable!("one waits")
        };
        state.give_back(worker, now, RAN);
    }
    state
}

fn lease(c: &mut Criterion) {
    let mut group = c.benchmark_group("lease");
    for idle in [1, 100] {
        group.bench_function(format!("one of {idle} idle, and back"), |b| {
            let mut state = slot(idle);
            let now = clock::now();
            b.iter(|| {
                let worker = state.lease().unwrap();
                matches!(state.give_back(worker, now, RAN), Given::Idle)
            });
        });
    }
    group.bench_function("the same under its lock", |b| {
        let state = Mutex::new(slot(1));
        let now = clock::now();
        b.iter(|| {
            let worker = state.lock().lease().unwrap();
            matches!(state.lock().give_back(worker, now, RAN), Given::Idle)
        });
    });
    group.bench_function("through a line of 100", |b| {
        let mut state = slot(1);
        let now = clock::now();
        let mut busy = state.lease();
        for caller in 0..100 {
            state.join(caller, now).unwrap();
        }
        b.iter(|| {
            state.join(7, now).unwrap();
            state.reserve_start(now, &COSTS);
            let Given::To(_, worker) = state.give_back(busy.take().unwrap(), now, RAN) else {
                unreachable!("a hundred wait")
            };
            busy = Some(worker);
        });
    });
    group.finish();
}

criterion_group!(benches, lease);
criterion_main!(benches);
