//! What goes on: how often functions are called and how long that takes, and the workers of the pool. Once as a document, or as server-sent
//! events for as long as somebody looks: a look a second, of which only what changed is sent. Made for the dashboard; nothing in it is kept.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use http::{StatusCode, Uri};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use crate::api::access::Caller;
use crate::api::control::Control;
use crate::api::control::functions::{find, json};
use crate::api::control::intake::{Name, Query};
use crate::api::control::openapi::{ListErrors, ReadErrors};
use crate::api::error::Problem;
use crate::clock;
use crate::domain::invocation::Phases;
use crate::domain::key::{Grant, Scope};
use crate::pool::roster::{Eviction, View, WorkerView};
use crate::scheduler::Target;
use crate::scheduler::record::{Call, Counts, REMEMBERED, SPAN, Span, Summary};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Who follows and hears nothing for a few of these takes the server for lost.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Workers in one document. Who has more sees the counts.
const WORKERS_MAX: usize = 1000;

/// What goes on at this moment in this process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    #[schema(value_type = String, format = DateTime)]
    at: jiff::Timestamp,
    /// Grows whenever a function is made, changed or deleted.
    changes: u64,
    /// Seconds of one of the `spans`.
    span: u64,
    functions: Vec<Traffic>,
    /// For keys with the scope `admin`.
    #[schema(required = true)]
    pool: Option<PoolDocument>,
}

/// How a function is called, since this process knows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct Traffic {
    id: String,
    name: String,
    calls: u64,
    /// Of the calls, those without an answer of the function.
    failed: u64,
    warm: u64,
    stem: u64,
    cold: u64,
    /// Milliseconds from arrival to answer, of the latest 200 calls.
    #[schema(required = true)]
    p50: Option<f64>,
    #[schema(required = true)]
    p99: Option<f64>,
    /// Calls and failed ones in the last spans of time, the newest last.
    #[schema(value_type = Vec<Vec<u64>>)]
    spans: Vec<[u64; 2]>,
}

/// The workers there are.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Pool)]
struct PoolDocument {
    /// At most 1000.
    workers: Vec<WorkerDocument>,
    /// How many there are.
    total: usize,
    stems: Vec<StemsDocument>,
    lanes: LanesDocument,
    /// Containers of dead workers that are being removed.
    clearing: usize,
    /// Idle workers that made room for others, so far.
    evicted: u64,
    /// The latest of them, the newest first, at most 50.
    evictions: Vec<EvictionDocument>,
    /// Calls that wait for a worker.
    waiting: usize,
    /// Bytes that workers may use together, and that are reserved for those there are.
    memory_total: u64,
    memory_reserved: u64,
    /// Calls under way, and how many there may be.
    concurrency: u32,
    concurrency_limit: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Worker)]
struct WorkerDocument {
    id: String,
    runtime: String,
    /// MiB.
    memory: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// Null while it belongs to none.
    #[schema(required = true)]
    function: Option<String>,
    /// `stem`, `starting`, `idle` or `busy`.
    state: &'static str,
}

/// An idle worker that made room for another.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Eviction)]
struct EvictionDocument {
    #[schema(value_type = String, format = DateTime)]
    at: jiff::Timestamp,
    runtime: String,
    /// MiB that it gave back.
    memory: u32,
    /// Whose it was; null if it was nobody's yet.
    #[schema(required = true)]
    function: Option<String>,
    /// The setting that made it necessary.
    rule: &'static str,
    /// The function whose call needed the room.
    in_favour_of: String,
}

/// Stem workers of a runtime.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Stems)]
struct StemsDocument {
    runtime: String,
    ready: usize,
    /// There are at least and at most so many, as demand has it.
    least: usize,
    most: usize,
}

/// Containers that are being created.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Lanes)]
struct LanesDocument {
    bound: usize,
    active: usize,
    waiting: usize,
}

/// Calls of a function that have ended, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Calls)]
pub struct CallPage {
    items: Vec<CallDocument>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Call)]
struct CallDocument {
    request_id: String,
    #[schema(value_type = String, format = DateTime)]
    ended_at: jiff::Timestamp,
    /// `warm`, `stem` or `cold`; null if it got no worker.
    #[schema(required = true)]
    start: Option<&'static str>,
    #[schema(required = true)]
    start_reason: Option<&'static str>,
    /// Milliseconds.
    duration: f64,
    phases: PhasesDocument,
    /// The error's code; null if it was answered.
    #[schema(required = true)]
    error: Option<&'static str>,
    /// `client`, `function` or `platform`.
    #[schema(required = true)]
    blame: Option<&'static str>,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Phases)]
pub struct PhasesDocument {
    queue: f64,
    start: f64,
    init: f64,
    run: f64,
}

/// See what goes on
///
/// In this process: of several that share a Redis each knows its own. A key that is for some functions sees those.
#[utoipa::path(
    get, path = "/overview", tag = "operation", operation_id = "get_overview",
    responses((status = 200, body = Overview, description = "at this moment"), ListErrors)
)]
pub async fn read(
    State(control): State<Control>,
    Caller(caller): Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::of(&uri)?.finish()?;
    Ok(json(StatusCode::OK, &overview(&control, &caller)))
}

/// List a function's latest calls
///
/// Of this process, up to 200, the newest first. What has to be kept longer is in `/metrics`.
#[utoipa::path(
    get, path = "/functions/{id}/invocations", tag = "calls", operation_id = "list_invocations",
    params(
        ("id" = String, Path, description = "id or name"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "calls that are listed; 50 if left out"),
    ),
    responses((status = 200, body = CallPage, description = "the calls"), ReadErrors)
)]
pub async fn calls(
    State(control): State<Control>,
    Name(id): Name,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri)?;
    let limit = query.limit(1..=REMEMBERED).unwrap_or(50);
    query.finish()?;
    let target = find(&control, &id)?;
    let latest = target.record().latest(limit);
    let items = latest.iter().map(CallDocument::of).collect();
    Ok(json(StatusCode::OK, &CallPage { items }))
}

/// The overview as events, for the dashboard: the first has everything, those after it the functions that changed, and the pool if it did.
pub async fn follow(
    State(control): State<Control>,
    Caller(caller): Caller,
) -> Result<Response, Problem> {
    let place = control.lookers.clone().try_acquire_owned();
    let place = place.map_err(|_full| Problem::Busy)?;
    let stop = control.stop.clone().cancelled_owned();
    let events = looks(control, caller, place).map(Ok::<_, Infallible>);
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    let events = events.take_until(stop);
    Ok(Sse::new(events).keep_alive(heartbeat).into_response())
}

struct Look {
    control: Control,
    caller: Arc<Grant>,
    seen: Seen,
    first: bool,
    _place: OwnedSemaphorePermit,
}

/// What was sent already.
#[derive(Debug, Default)]
struct Seen {
    changes: Option<u64>,
    functions: HashMap<String, Traffic>,
    pool: Option<PoolDocument>,
}

fn looks(
    control: Control,
    caller: Arc<Grant>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Event> {
    let look = Look {
        control,
        caller,
        seen: Seen::default(),
        first: true,
        _place: place,
    };
    stream::unfold(look, async |mut look| {
        loop {
            if !std::mem::take(&mut look.first) {
                tokio::time::sleep(LOOK).await;
            }
            // The key may have been revoked since: then there is nothing more to see.
            if !look.caller.id.is_empty() && look.control.keys.grant(&look.caller.id).is_none() {
                return None;
            }
            let mut overview = overview(&look.control, &look.caller);
            if look.seen.takes(&mut overview) {
                let event = Event::default().json_data(&overview).unwrap_or_default();
                return Some((event, look));
            }
        }
    })
}

impl Seen {
    /// Leaves what is new, and remembers it; says whether anything is.
    fn takes(&mut self, overview: &mut Overview) -> bool {
        let changed = self.changes.replace(overview.changes) != Some(overview.changes);
        // Functions that are gone are forgotten with the next change.
        if changed {
            let there: HashSet<&str> = overview.functions.iter().map(|f| f.id.as_str()).collect();
            self.functions.retain(|id, _| there.contains(id.as_str()));
        }
        let functions = &self.functions;
        overview
            .functions
            .retain(|function| functions.get(&function.id) != Some(function));
        for function in &overview.functions {
            self.functions.insert(function.id.clone(), function.clone());
        }
        if overview.pool == self.pool {
            overview.pool = None;
        } else if let Some(pool) = overview.pool.take() {
            overview.pool = Some(pool.clone());
            self.pool = Some(pool);
        }
        changed || !overview.functions.is_empty() || overview.pool.is_some()
    }
}

fn overview(control: &Control, caller: &Grant) -> Overview {
    let scheduler = &control.scheduler;
    let now = clock::now();
    let targets = scheduler.targets();
    let seen = targets.iter().filter(|target| {
        caller
            .may_with(Scope::Deploy, target.function.name.as_str())
            .is_ok()
    });
    Overview {
        at: clock::wall(),
        changes: *scheduler.changes().borrow(),
        span: SPAN.as_secs(),
        functions: seen.map(|target| Traffic::of(target, now)).collect(),
        pool: caller.may(Scope::Admin).is_ok().then(|| {
            let concurrency = (scheduler.under_way(), scheduler.concurrency_limit());
            PoolDocument::of(scheduler.pool(), concurrency)
        }),
    }
}

impl Traffic {
    fn of(target: &Target, now: std::time::Instant) -> Self {
        let Summary {
            counts,
            median,
            p99,
            spans,
        } = target.summary(now);
        let Counts {
            calls,
            failed,
            warm,
            stem,
            cold,
        } = counts;
        Self {
            id: target.function.id.to_string(),
            name: target.function.name.to_string(),
            calls,
            failed,
            warm,
            stem,
            cold,
            p50: median.map(millis),
            p99: p99.map(millis),
            spans: spans
                .into_iter()
                .map(|Span { calls, failed }| [calls, failed])
                .collect(),
        }
    }
}

impl PoolDocument {
    fn of(view: View, (concurrency, concurrency_limit): (u32, u32)) -> Self {
        let total = view.workers.len();
        let workers = view.workers.into_iter().take(WORKERS_MAX);
        let stems = view
            .stems
            .into_iter()
            .map(|(runtime, ready)| StemsDocument {
                runtime: runtime.to_string(),
                ready,
                least: view.stem_min,
                most: view.stem_max,
            });
        Self {
            workers: workers.map(WorkerDocument::of).collect(),
            total,
            stems: stems.collect(),
            lanes: LanesDocument {
                bound: view.lanes,
                active: view.lanes_active,
                waiting: view.lanes_waiting,
            },
            clearing: view.clearing,
            evicted: view.evicted,
            evictions: view
                .evictions
                .into_iter()
                .map(EvictionDocument::of)
                .collect(),
            waiting: view.waiting,
            memory_total: view.memory_total,
            memory_reserved: view.memory_reserved,
            concurrency,
            concurrency_limit,
        }
    }
}

impl EvictionDocument {
    fn of(eviction: Eviction) -> Self {
        Self {
            at: eviction.at,
            runtime: eviction.runtime.to_string(),
            memory: eviction.memory.0,
            function: eviction.function.map(|name| name.to_string()),
            rule: "pool.memory_budget_mb",
            in_favour_of: eviction.favour.to_string(),
        }
    }
}

impl WorkerDocument {
    fn of(worker: WorkerView) -> Self {
        Self {
            id: worker.id.to_string(),
            runtime: worker.runtime.to_string(),
            memory: worker.memory.0,
            created_at: worker.created_at,
            function: worker.function.map(|name| name.to_string()),
            state: worker.phase.as_str(),
        }
    }
}

impl CallDocument {
    fn of(call: &Call) -> Self {
        Self {
            request_id: call.request_id.to_string(),
            ended_at: call.ended_at,
            start: call.start.map(|(kind, _)| kind.as_str()),
            start_reason: call.start.map(|(_, reason)| reason.as_str()),
            duration: millis(call.took),
            phases: PhasesDocument::of(&call.phases),
            error: call.fault.map(|(code, _)| code),
            blame: call.fault.map(|(_, blame)| blame.as_str()),
        }
    }
}

impl PhasesDocument {
    pub fn of(phases: &Phases) -> Self {
        Self {
            queue: millis(phases.queue),
            start: millis(phases.start),
            init: millis(phases.init),
            run: millis(phases.run),
        }
    }
}

/// Whole microseconds, so that the number is as short as it is exact.
pub fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::control::world::World;

    fn grant(scopes: &[Scope], functions: &[&str]) -> Grant {
        let functions = functions
            .iter()
            .map(|text| crate::domain::pattern::Pattern::parse(text));
        let wish = crate::domain::key::Wish {
            scopes: scopes.to_vec(),
            functions: functions.collect::<Result<_, _>>().expect("patterns"),
            ..crate::domain::key::Wish::admin()
        };
        Grant::from(&wish.issue(clock::wall()).1)
    }

    #[tokio::test]
    async fn a_call_is_seen_in_the_overview_and_in_its_functions_list() {
        let world = World::empty();
        world.create("seen").await;
        world.create("quiet").await;
        for (payload, status) in [(json!(1), 200), (json!("fail"), 502)] {
            let path = "/functions/seen/execute";
            assert_eq!(world.post(path, payload).await.status, status);
        }
        let overview = world.get("/overview").await.json();
        let functions = overview["functions"].as_array().expect("a list");
        let of = |name: &str| {
            functions
                .iter()
                .find(|f| f["name"] == name)
                .expect("listed")
        };
        assert_eq!(of("seen")["calls"], 2);
        assert_eq!(of("seen")["failed"], 1);
        assert!(of("seen")["p99"].as_f64().is_some_and(|ms| ms > 0.0));
        assert_eq!(of("quiet")["p50"], Value::Null);
        let workers = overview["pool"]["workers"].as_array().expect("a list");
        let own: Vec<_> = workers.iter().filter(|w| w["function"] == "seen").collect();
        assert_eq!(own.len(), 1, "{workers:?}");
        assert_eq!(own[0]["state"], "idle");

        let calls = world.get("/functions/seen/invocations").await.json();
        let calls = calls["items"].as_array().expect("a list");
        assert_eq!(calls.len(), 2);
        assert_eq!(
            (&calls[0]["error"], &calls[0]["blame"]),
            (&"function_error".into(), &"function".into())
        );
        assert_eq!(calls[1]["error"], Value::Null);
        assert_eq!(calls[0]["start"], "warm");
        let one = world
            .get("/functions/seen/invocations?limit=1")
            .await
            .json();
        assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
        for (path, status) in [
            ("/functions/nobody/invocations", 404),
            ("/functions/seen/invocations?limit=0", 400),
            ("/functions/seen/invocations?what=1", 400),
            ("/overview?what=1", 400),
        ] {
            assert_eq!(world.get(path).await.status, status, "{path}");
        }
    }

    #[tokio::test]
    async fn a_key_for_some_functions_sees_those_and_no_pool() {
        let world = World::empty();
        world.create("orders-1").await;
        world.create("billing").await;
        let caller = grant(&[Scope::Deploy], &["orders-*"]);
        let seen = overview(&world.control, &caller);
        assert_eq!(seen.functions.len(), 1);
        assert_eq!(seen.functions[0].name, "orders-1");
        assert!(seen.pool.is_none());
        let everything = overview(&world.control, &Grant::all("admin"));
        assert_eq!(everything.functions.len(), 2);
        assert!(everything.pool.is_some());
    }

    #[tokio::test]
    async fn only_what_changed_is_sent_again() {
        let world = World::empty();
        world.create("one").await;
        world.create("two").await;
        let mut seen = Seen::default();
        let look = || {
            let mut overview = overview(&world.control, &Grant::all("admin"));
            // Stem workers come and go by themselves here.
            overview.pool = None;
            overview
        };
        let mut first = look();
        assert!(seen.takes(&mut first));
        assert_eq!(first.functions.len(), 2);
        assert!(!seen.takes(&mut look()), "nothing happened");
        world.post("/functions/two/execute", json!(1)).await;
        let mut second = look();
        assert!(seen.takes(&mut second));
        assert_eq!(second.functions.len(), 1);
        assert_eq!(second.functions[0].name, "two");
        world.delete("/functions/one").await;
        let mut third = look();
        assert!(seen.takes(&mut third), "the list is another");
        assert!(third.functions.is_empty());
        assert_eq!(seen.functions.len(), 1);
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_who_look() {
        let world = World::empty();
        let mut open = Vec::new();
        for _ in 0..crate::api::control::LOOKERS {
            let place = world.control.lookers.clone().try_acquire_owned();
            let place = place.expect("there is room");
            let caller = Arc::new(Grant::all("admin"));
            let mut looks = Box::pin(looks(world.control.clone(), caller, place));
            assert!(looks.next().now_or_never().flatten().is_some());
            open.push(looks);
        }
        let follow = || {
            follow(
                State(world.control.clone()),
                Caller(Arc::new(Grant::all("admin"))),
            )
        };
        assert_eq!(follow().await.err(), Some(Problem::Busy));
        open.pop();
        assert!(follow().await.is_ok());
    }
}
