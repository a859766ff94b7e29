//! What happens to a request before it has a worker: whom it is from, which face it is for, which function it names, and whether
//! it may run. Each is on the path of every warm call, but for routes and qualifiers, which only some calls have.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing better to do"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hearth::api::keys::Keys;
use hearth::config::load::{self, Sources};
use hearth::domain::fault::Throttle;
use hearth::domain::function::{Code, Function, Network};
use hearth::domain::id::{AliasName, FunctionId, FunctionName, RuntimeId};
use hearth::domain::key::Wish;
use hearth::domain::limits::Mebibytes;
use hearth::domain::version::{self, Outcome, Published, Second, VersionId};
use hearth::engine::docker::{self, Docker};
use hearth::gateway::keys::admit;
use hearth::gateway::route;
use hearth::gateway::screen::Seen;
use hearth::pool::{self, Pool};
use hearth::router::routes::Routes;
use hearth::router::table::{Entry, Table};
use hearth::runtime::Catalog;
use hearth::runtime::code::Codes;
use hearth::scheduler::admit::{self, Gate, Gates, UNLIMITED};
use hearth::scheduler::{self, Scheduler};
use hearth::secrets::Secrets;
use hearth::store::embedded::Embedded;
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

/// Functions' own routes, of which there are so many.
fn matches(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/match");
    for count in [1, 1_000] {
        let mut routes = Routes::default();
        for n in 0..count {
            let entry = Arc::new(n);
            assert!(routes.insert(&format!("/shop-{n}"), entry.clone()));
            assert!(routes.insert(&format!("/shop-{n}/{{kind}}/{{item}}"), entry.clone()));
            assert!(routes.insert(&format!("/files-{n}/{{path+}}"), entry));
        }
        for (what, path, found) in [
            ("a text", "/shop-0", true),
            ("two parameters", "/shop-0/tea/green%20leaf", true),
            ("the rest", "/files-0/a/b/c/d", true),
            ("nothing", "/elsewhere/a/b", false),
        ] {
            assert_eq!(routes.find(path).is_some(), found, "{path}");
            group.bench_function(format!("{what}, of {count}"), |b| {
                b.iter(|| routes.find(black_box(path)).is_some());
            });
        }
    }
    group.finish();
}

/// What stands behind a name, with and without a qualifier, as the scheduler has it: of a thousand functions, each with two versions and
/// two aliases. Nothing is called, so the engine is asked for nothing.
fn resolve(c: &mut Criterion) {
    // What prepares code is spawned, and never has its turn.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let state = tempfile::tempdir().unwrap();
    let scheduler = scheduler(state.path());
    let (functions, published) = (0..1_000).map(published).unzip();
    scheduler.restore(functions, published);
    let mut group = c.benchmark_group("route/resolve");
    for (what, called) in [
        ("a name", "function-0"),
        ("a version", "function-0:1"),
        ("an alias", "function-0:live"),
        ("an alias of two versions", "function-0:canary"),
        ("the latest", "function-0:$LATEST"),
    ] {
        assert!(scheduler.resolve(called, None).is_ok(), "{called}");
        group.bench_function(what, |b| {
            b.iter(|| scheduler.resolve(black_box(called), None).is_ok());
        });
    }
    group.finish();
}

fn scheduler(state: &Path) -> Arc<Scheduler> {
    let config = load::load(Sources {
        file: None,
        environment: Vec::new(),
        flags: Vec::new(),
    })
    .unwrap();
    let engine = Docker::new(docker::Options {
        instance: "bench".into(),
        engine: config.engine,
        worker: config.worker,
        directory: state.join("engine"),
    });
    let runtimes = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes");
    let store = Embedded::open(&state.join("store")).unwrap();
    let (pool, _) = Pool::new(
        pool::Options {
            keep_alive: config.pool.keep_alive,
            stem_min: 0,
            stem_max: 0,
            stem_window: config.pool.stem_window,
            boot_timeout: config.pool.boot_timeout,
            abandoned_grace: config.pool.abandoned_grace,
            cancel_grace: config.pool.cancel_grace,
            lanes: 1,
            line_depth: 1,
            memory_budget: 1 << 30,
            workers_dir: state.join("workers"),
            log_line_bytes: config.logs.line_bytes,
            eager_workers: 1,
        },
        Arc::new(engine.unwrap()),
        Arc::new(Catalog::read(&runtimes).unwrap()),
        Arc::new(Codes::new(store, state.join("code"))),
    );
    let options = scheduler::Options {
        limits: config.limits,
        init_timeout: config.pool.init_timeout,
        cpu_floor_cores: 1.0,
        cores: 1,
        log_keep_bytes: config.logs.keep_bytes,
        invocations: config.invocations,
        place: config.aws.place,
        secrets: Arc::new(Secrets::read_or_make(&state.join("secrets.key")).unwrap()),
        dice: Some(7),
        traces: None,
    };
    Scheduler::new(options, pool)
}

/// A function with two versions, an alias for the first, and one for both.
fn published(n: usize) -> (Function, Published) {
    let mut function = function(&format!("function-{n}"));
    let now = function.created_at;
    let mut published = Published::none(function.id.clone());
    for handler in ["app.first", "app.second"] {
        function.handler = handler.into();
        let Outcome::New(_, edit) = published.publish(&function, None, now).unwrap() else {
            unreachable!("each has another handler")
        };
        published = published.after(edit);
    }
    let second = Second {
        version: 2,
        weight: 0.5,
    };
    for (name, second) in [("live", None), ("canary", Some(second))] {
        let wish = version::Wish {
            version: Some(VersionId::Number(1)),
            second: Some(second),
            ..version::Wish::default()
        };
        let name = AliasName::parse(name).unwrap();
        let (_, edit) = published.create_alias(name, wish, now).unwrap();
        published = published.after(edit);
    }
    (function, published)
}

fn function(name: &str) -> Function {
    let now = hearth::clock::wall();
    Function {
        id: FunctionId::generate(),
        name: FunctionName::parse(name).unwrap(),
        revision: 1,
        runtime: RuntimeId::new("python3.13"),
        handler: String::new(),
        timeout_seconds: 30,
        memory: Mebibytes(128),
        code: Code::unknown(),
        layers: Vec::new(),
        environment: Default::default(),
        description: String::new(),
        tags: BTreeMap::new(),
        route: None,
        max_concurrency: None,
        reserved_concurrency: None,
        asynchronous: Default::default(),
        network: Network::None,
        aws: Default::default(),
        created_at: now,
        updated_at: now,
    }
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

criterion_group!(benches, faces, find, matches, resolve, admission);
criterion_main!(benches);
