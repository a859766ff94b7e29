//! What happens to a request before it has a worker: whom it is from, which face it is for, which function it names, and whether
//! it may run. Each is on the path of every warm call.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing better to do"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hearth::api::keys::Keys;
use hearth::domain::fault::Throttle;
use hearth::domain::id::{FunctionId, FunctionName};
use hearth::domain::key::Wish;
use hearth::gateway::keys::admit;
use hearth::gateway::route;
use hearth::gateway::screen::Seen;
use hearth::router::table::{Entry, Table};
use hearth::scheduler::admit::{self, Gate, Gates, UNLIMITED};
use http::{HeaderMap, Method};

#[derive(Debug)]
struct Named {
    id: FunctionId,
    name: FunctionName,
}

impl Entry for Named {
    fn id(&self) -> &FunctionId {
        &self.id
    }

    fn name(&self) -> &FunctionName {
        &self.name
    }
}

fn faces(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/face");
    for path in ["/functions/hello-world/execute", "/functions/", "/healthz"] {
        group.bench_function(path, |b| {
            b.iter(|| {
                black_box(route::route(&Method::POST, black_box(path)));
            });
        });
    }
    group.finish();
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/find");
    for count in [1, 1_000] {
        let table = Table::default();
        for n in 0..count {
            let named = Arc::new(Named {
                id: FunctionId::generate(),
                name: FunctionName::parse(&format!("function-{n}")).unwrap(),
            });
            table.replace(&named.id, |_| Some(named.clone()));
        }
        group.bench_function(format!("of {count}"), |b| {
            b.iter(|| table.find(black_box("function-0")).is_some());
        });
    }
    group.finish();
}

fn admission(c: &mut Criterion) {
    let (function, account) = (Gate::new(1_000), Gate::new(1_000));
    let unreserved = Gate::new(UNLIMITED);
    c.bench_function("route/admit and leave", |b| {
        let gates = Gates {
            function: &function,
            limited_by: Throttle::FunctionConcurrency,
            within: None,
            part: Some(&unreserved),
            account: &account,
        };
        b.iter(|| admit::admit(black_box(gates)).unwrap());
    });
    let keys = Keys::default();
    let (secret, record) = Wish::admin().issue(hearth::clock::wall());
    keys.replace(&[record]);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
    c.bench_function("route/check the key", |b| {
        b.iter(|| admit(&keys, &Seen::of(&headers)).unwrap())
    });
}

criterion_group!(benches, faces, find, admission);
criterion_main!(benches);
