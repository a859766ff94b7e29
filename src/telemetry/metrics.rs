//! One function per metric; the only place with metric names in it. Labels are enums or names with a bound on their number.
//! What is recorded on the warm path is recorded through handles resolved once per function.
#![expect(clippy::disallowed_macros, reason = "the one place that names metrics")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, HistogramFn, Unit};

use crate::domain::fault::{Blame, Fault, Throttle};
use crate::domain::invocation::{Phases, StartKind};
use crate::domain::start::Cause;
use crate::telemetry::exposition::{Format, Measured, MetricFamily};
use crate::telemetry::family::{Family, Held};
use crate::telemetry::histogram::Times;
use crate::telemetry::recorder::Recorded;

/// Functions with a label of their own; the ones after that share one, so that a scrape stays readable and bounded.
const FUNCTION_LABELS: usize = 500;
const OTHER: &str = "_other";

/// What `/metrics` is rendered from.
#[derive(Debug, Clone)]
pub struct Rendered {
    recorded: Recorded,
    /// Of the families that are not among these.
    functions: [&'static str; 4],
}

impl Rendered {
    pub fn render(&self, format: Format, now: Instant) -> Vec<u8> {
        let mut families = self.recorded.families();
        families.extend(of_functions(self.functions, &FUNCTIONS.shown(now)));
        format.write(&families)
    }
}

/// Installs the recorder and describes every metric.
pub fn install() -> Result<Rendered, String> {
    let recorded = Recorded::default();
    metrics::set_global_recorder(recorded.clone()).map_err(|error| error.to_string())?;
    metrics_process::Collector::default().describe();
    let functions = describe();
    Ok(Rendered {
        recorded,
        functions,
    })
}

/// Also: what is said of the families that `of_functions` makes, in their order.
fn describe() -> [&'static str; 4] {
    let counters = [
        (
            "hearth_starts_total",
            "Starts of workers for calls, by start kind, outcome and cause: why no idle worker was there.",
        ),
        (
            "hearth_stem_misses_total",
            "Starts that no stem worker served, by reason: stem_pool_empty, own_network (functions with a network of their own).",
        ),
        (
            "hearth_start_failures_total",
            "Containers that could not be created, by runtime.",
        ),
        (
            "hearth_workers_ended_total",
            "Workers that ended, by reason.",
        ),
        (
            "hearth_evictions_total",
            "Idle workers evicted to make room in the memory budget.",
        ),
        (
            "hearth_engine_errors_total",
            "Calls to the container engine that failed, by operation and reason.",
        ),
        (
            "hearth_disk_full_total",
            "Writes that failed because a disk was full, by what was written: store, code, worker.",
        ),
        (
            "hearth_accept_errors_total",
            "Connections that could not be accepted, by what was lacking: descriptors, memory, other.",
        ),
        (
            "hearth_connections_refused_total",
            "Connections that were closed at once because their address had its share.",
        ),
        (
            "hearth_bodies_refused_total",
            "Bodies of calls that were refused while they arrived: all together, or their client, held what they may.",
        ),
        (
            "hearth_untaken_total",
            "What was not done because a client does not take its answers: calls that were refused, streams of HTTP/2 that were reset.",
        ),
        (
            "hearth_clock_jumps_total",
            "Times the machine's wall clock was set while this process ran.",
        ),
        (
            "hearth_leftovers_total",
            "What was left by a dead predecessor, or by starts that were given up, and removed, by kind: container, directory.",
        ),
        (
            "hearth_http_requests_total",
            "HTTP answers by face and status class.",
        ),
        (
            "hearth_auth_failures_total",
            "Requests whose key opened nothing, or not this, by reason.",
        ),
        (
            "hearth_events_total",
            "Asynchronous calls by outcome: accepted, refused, lost, of their attempts succeeded, retried, failed, orphaned (given up because the function was deleted), and of dead letters redriven, discarded.",
        ),
        (
            "hearth_deliveries_total",
            "Attempts to take the record of an asynchronous call to a webhook, a stream or a queue, or a dead letter to its function's queue, by destination and outcome: ok, refused.",
        ),
        (
            "hearth_idempotent_calls_total",
            "Calls with an idempotency key, by outcome: ran, replayed, in_progress, different, unkept, refused.",
        ),
        (
            "hearth_permit_asks_total",
            "Asks for shared permits, by outcome: ok, away (nobody there), silent (no answer).",
        ),
        (
            "hearth_permit_waits_total",
            "Calls that found no shared permit at once, by outcome: granted, refused.",
        ),
        (
            "hearth_permits_lost_total",
            "Shared permits that others were given because the lease had run out.",
        ),
        (
            "hearth_permit_leases_ended_total",
            "Leases on shared permits that ran out because the store did not answer.",
        ),
        (
            "hearth_auth_slowed_total",
            "Requests with wrong keys that were answered late, with 429.",
        ),
        (
            "hearth_certificate_reads_total",
            "Certificates that were read again, by result: used or refused.",
        ),
        (
            "hearth_store_errors_total",
            "Calls to the store that failed, by operation.",
        ),
        (
            "hearth_code_fetches_total",
            "Code that was to come from a bucket, by outcome: ok, refused (not there, too large, not for this key), failed (the store).",
        ),
        (
            "hearth_unchecked_code_total",
            "Code deployed to functions with a code signing configuration, none of which can be checked here, by outcome: taken (it warns), refused (it enforces).",
        ),
        (
            "hearth_source_polls_total",
            "Requests for messages of queues that functions are called with, by outcome: messages, empty, failed; and no_room, beside these, where one waited for memory.",
        ),
        (
            "hearth_source_messages_total",
            "Messages of such queues, by outcome: handled, failed, filtered, unreached (nothing ran), given_back, undeleted (handled, and come again).",
        ),
        (
            "hearth_source_throttled_total",
            "Calls with such messages that ran into a limit, or into the platform, and waited.",
        ),
        (
            "hearth_spans_total",
            "Spans of traced calls, by outcome: sent, refused, and dropped because of queue_full, unreachable, stopped.",
        ),
    ];
    for (name, help) in counters {
        metrics::describe_counter!(name, Unit::Count, help);
    }
    let histograms = [
        (
            "hearth_queue_seconds",
            "Time calls waited in line for a worker.",
        ),
        (
            "hearth_start_seconds",
            "Time to a ready worker, by start kind: container and specialisation.",
        ),
        (
            "hearth_engine_call_seconds",
            "Calls to the container engine, by operation and outcome.",
        ),
        (
            "hearth_store_call_seconds",
            "Exchanges with the store, by store (embedded, redis) and outcome.",
        ),
    ];
    for (name, help) in histograms {
        metrics::describe_histogram!(name, Unit::Seconds, help);
    }
    let gauges = [
        (
            "hearth_workers",
            "Workers of functions by state: idle, busy, starting.",
        ),
        ("hearth_stem_workers", "Stem workers ready, by runtime."),
        ("hearth_line_depth", "Calls waiting in line for a worker."),
        (
            "hearth_creation_lanes",
            "Container creations by state: active, waiting.",
        ),
        (
            "hearth_clearing",
            "Dead workers whose container is not removed yet.",
        ),
        (
            "hearth_memory_budget_bytes",
            "The host's memory budget for workers.",
        ),
        (
            "hearth_memory_reserved_bytes",
            "Memory reserved for workers.",
        ),
        ("hearth_concurrency", "Invocations under way."),
        (
            "hearth_permits",
            "Shared permits this process has, by scope (account: all that count towards its limit; unreserved; functions: of single ones) and state: held, in_use.",
        ),
        (
            "hearth_concurrency_limit",
            "The account's concurrency limit.",
        ),
        ("hearth_functions", "Functions deployed."),
        (
            "hearth_store_up",
            "1 if the store answered when it was last looked at, 0 if not.",
        ),
        (
            "hearth_tasks",
            "Tasks that were spawned and have not ended, by name.",
        ),
        (
            "hearth_engine_up",
            "1 if the engine answered its last health check, 0 if not.",
        ),
        (
            "hearth_source_mappings",
            "Event source mappings by state: read (there is a poller), unreadable (left out: damaged, or written by a newer version).",
        ),
    ];
    for (name, help) in gauges {
        metrics::describe_gauge!(name, help);
    }
    let functions = [
        (
            "hearth_invocations_total",
            "Calls by function, start kind and outcome (ok, or who is to blame).",
        ),
        (
            "hearth_throttles_total",
            "Calls refused by a limit, by function and reason.",
        ),
        (
            "hearth_invocation_seconds",
            "Whole calls, arrival to answer, by function and start kind.",
        ),
        ("hearth_run_seconds", "Time handlers ran, by function."),
    ];
    functions.map(|(_, help)| help)
}

/// One function's metrics, resolved once. Those that were held last are not shown for ever: see `family`.
#[derive(Debug)]
pub struct FunctionMeters {
    series: Held<Series>,
    queue: Histogram,
}

/// What is kept of a function.
#[derive(Debug, Default)]
struct Series {
    /// By start kind (and none), then by outcome.
    invocations: [[AtomicU64; OUTCOMES.len()]; KINDS.len()],
    /// Made on first use: most stay empty.
    seconds: [OnceLock<Box<Times>>; KINDS.len() - 1],
    run: OnceLock<Box<Times>>,
    throttles: Throttles,
}

/// Calls that a limit refused.
#[derive(Debug, Default)]
struct Throttles {
    function: AtomicU64,
    reserved: AtomicU64,
    unreserved: AtomicU64,
    account: AtomicU64,
    line: AtomicU64,
}

impl Throttles {
    fn by(&self, reason: Throttle) -> Option<&AtomicU64> {
        Some(match reason {
            Throttle::FunctionConcurrency => &self.function,
            Throttle::ReservedConcurrency => &self.reserved,
            Throttle::UnreservedConcurrency => &self.unreserved,
            Throttle::AccountConcurrency => &self.account,
            Throttle::LineFull => &self.line,
            // A body that finds no room has become nobody's call: `body_refused`.
            Throttle::Arriving => return None,
        })
    }
}

const KINDS: [&str; 4] = ["warm", "stem", "cold", "none"];
const OUTCOMES: [&str; 4] = ["ok", "client", "function", "platform"];

static FUNCTIONS: Family<Series> = Family::new(FUNCTION_LABELS);

impl FunctionMeters {
    pub fn new(function: &str) -> Self {
        Self {
            series: FUNCTIONS.of(function, OTHER).1,
            queue: metrics::histogram!("hearth_queue_seconds"),
        }
    }

    /// A call has ended, or has begun to stream its answer.
    pub fn called(
        &self,
        start: Option<StartKind>,
        blame: Option<Blame>,
        whole: Duration,
        phases: &Phases,
    ) {
        let kind = match start {
            Some(StartKind::Warm) => 0,
            Some(StartKind::Stem) => 1,
            Some(StartKind::Cold) => 2,
            None => 3,
        };
        let outcome = match blame {
            None => 0,
            Some(Blame::Client) => 1,
            Some(Blame::Function) => 2,
            Some(Blame::Platform) => 3,
        };
        let series = &self.series;
        series.invocations[kind][outcome].fetch_add(1, Ordering::Relaxed);
        if let Some(seconds) = series.seconds.get(kind) {
            seconds
                .get_or_init(Box::default)
                .record(whole.as_secs_f64());
            let run = series.run.get_or_init(Box::default);
            run.record(phases.run.as_secs_f64());
            // Only calls that waited: a histogram of zeros tells nothing and costs every warm call.
            if !phases.queue.is_zero() {
                self.queue.record(phases.queue.as_secs_f64());
            }
        }
    }

    pub fn throttled(&self, reason: Throttle) {
        if let Some(count) = self.series.throttles.by(reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A family of single functions' metrics.
struct Shown<const L: usize> {
    family: MetricFamily,
    labels: [&'static str; L],
}

impl<const L: usize> Shown<L> {
    fn counters(name: &str, labels: [&'static str; L], help: &str) -> Self {
        let family = MetricFamily::counters(name, help);
        Self { family, labels }
    }

    fn histograms(name: &str, labels: [&'static str; L], help: &str) -> Self {
        let family = MetricFamily::histograms(name, help);
        Self { family, labels }
    }

    /// Unless it never counted anything.
    fn count(&mut self, values: [&str; L], count: &AtomicU64) {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            self.add(values, Measured::Counter(count));
        }
    }

    fn times(&mut self, values: [&str; L], times: &OnceLock<Box<Times>>) {
        if let Some(times) = times.get() {
            self.add(values, Measured::Histogram(times.shown()));
        }
    }

    fn add(&mut self, values: [&str; L], measured: Measured) {
        let labels = self.labels.into_iter().zip(values);
        self.family.add(labels, measured);
    }
}

/// What is shown of single functions: of `all` that are known. `help` is what `describe` says.
fn of_functions(help: [&str; 4], all: &[(Arc<str>, Arc<Series>)]) -> [MetricFamily; 4] {
    let [calls, throttles, whole, run] = help;
    let mut calls = Shown::counters(
        "hearth_invocations_total",
        ["function", "start", "outcome"],
        calls,
    );
    let mut throttles =
        Shown::counters("hearth_throttles_total", ["function", "reason"], throttles);
    let mut whole = Shown::histograms("hearth_invocation_seconds", ["function", "start"], whole);
    let mut run = Shown::histograms("hearth_run_seconds", ["function"], run);
    for (function, series) in all {
        for (kind, outcomes) in KINDS.iter().zip(&series.invocations) {
            for (outcome, count) in OUTCOMES.iter().zip(outcomes) {
                calls.count([function, kind, outcome], count);
            }
        }
        for reason in Throttle::ALL {
            if let Some(count) = series.throttles.by(reason) {
                throttles.count([function, reason.as_str()], count);
            }
        }
        for (kind, times) in KINDS.iter().zip(&series.seconds) {
            whole.times([function, kind], times);
        }
        run.times([function], &series.run);
    }
    [calls.family, throttles.family, whole.family, run.family]
}

pub fn blame_of<T>(result: &Result<T, Fault>) -> Option<Blame> {
    result.as_ref().err().map(Fault::blame)
}

/// A start for a call has ended, well or not; `took` is for one that had begun.
pub fn started(kind: StartKind, cause: &Cause, ok: bool, took: Option<Duration>) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::counter!("hearth_starts_total", "kind" => kind.as_str(), "outcome" => outcome, "cause" => cause.as_str())
        .increment(1);
    if let Some(took) = took {
        metrics::histogram!("hearth_start_seconds", "kind" => kind.as_str())
            .record(took.as_secs_f64());
    }
}

pub fn stem_missed(reason: &'static str) {
    metrics::counter!("hearth_stem_misses_total", "reason" => reason).increment(1);
}

pub fn start_failed(runtime: &str) {
    metrics::counter!("hearth_start_failures_total", "runtime" => runtime.to_owned()).increment(1);
}

pub fn worker_lost(reason: &'static str) {
    metrics::counter!("hearth_workers_ended_total", "reason" => reason).increment(1);
}

pub fn evicted() {
    metrics::counter!("hearth_evictions_total").increment(1);
    worker_lost("evicted");
}

pub fn workers(state: &'static str, count: usize) {
    metrics::gauge!("hearth_workers", "state" => state).set(count as f64);
}

pub fn stem_workers(runtime: &str, count: usize) {
    metrics::gauge!("hearth_stem_workers", "runtime" => runtime.to_owned()).set(count as f64);
}

pub fn line(depth: usize) {
    metrics::gauge!("hearth_line_depth").set(depth as f64);
}

pub fn lanes(active: usize, waiting: usize) {
    metrics::gauge!("hearth_creation_lanes", "state" => "active").set(active as f64);
    metrics::gauge!("hearth_creation_lanes", "state" => "waiting").set(waiting as f64);
}

pub fn clearing(count: usize) {
    metrics::gauge!("hearth_clearing").set(count as f64);
}

pub fn memory_budget(used: u64, total: u64) {
    metrics::gauge!("hearth_memory_reserved_bytes").set(used as f64);
    metrics::gauge!("hearth_memory_budget_bytes").set(total as f64);
}

pub fn concurrency(under_way: u32, limit: u32) {
    metrics::gauge!("hearth_concurrency").set(f64::from(under_way));
    metrics::gauge!("hearth_concurrency_limit").set(f64::from(limit));
}

/// Asked the ledger of shared permits; `outcome` is ok, away or silent.
pub fn permits_asked(outcome: &'static str) {
    metrics::counter!("hearth_permit_asks_total", "outcome" => outcome).increment(1);
}

pub fn permit_waited(granted: bool) {
    let outcome = if granted { "granted" } else { "refused" };
    metrics::counter!("hearth_permit_waits_total", "outcome" => outcome).increment(1);
}

pub fn permits_lost(count: u32) {
    metrics::counter!("hearth_permits_lost_total").increment(u64::from(count));
}

pub fn lease_ran_out() {
    metrics::counter!("hearth_permit_leases_ended_total").increment(1);
}

pub fn permits(scope: &'static str, held: u32, in_use: u32) {
    metrics::gauge!("hearth_permits", "scope" => scope, "state" => "held").set(f64::from(held));
    metrics::gauge!("hearth_permits", "scope" => scope, "state" => "in_use").set(f64::from(in_use));
}

pub fn functions(count: usize) {
    metrics::gauge!("hearth_functions").set(count as f64);
}

/// One call to the container engine has ended.
pub fn engine_call(operation: &'static str, seconds: f64, ok: bool) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::histogram!("hearth_engine_call_seconds", "operation" => operation, "outcome" => outcome).record(seconds);
}

/// A call to the container engine failed; `reason` is timeout, unreachable or refused.
pub fn engine_error(operation: &'static str, reason: &'static str) {
    metrics::counter!("hearth_engine_errors_total", "operation" => operation, "reason" => reason)
        .increment(1);
}

pub fn engine_up(up: bool) {
    metrics::gauge!("hearth_engine_up").set(if up { 1.0 } else { 0.0 });
}

/// Something could not be written for want of space: `what` is store, code or worker.
pub fn disk_full(what: &'static str) {
    metrics::counter!("hearth_disk_full_total", "what" => what).increment(1);
}

/// A connection could not be accepted; `reason` is descriptors, memory or other.
pub fn accept_failed(reason: &'static str) {
    metrics::counter!("hearth_accept_errors_total", "reason" => reason).increment(1);
}

/// A connection was closed at once: its address had as many as it may have.
pub fn connection_refused() {
    metrics::counter!("hearth_connections_refused_total").increment(1);
}

/// A body found no room while it arrived.
pub fn body_refused() {
    metrics::counter!("hearth_bodies_refused_total").increment(1);
}

/// A client had all the room that answers may have until they are taken.
pub fn untaken(what: &'static str) {
    metrics::counter!("hearth_untaken_total", "what" => what).increment(1);
}

pub fn clock_jumped() {
    metrics::counter!("hearth_clock_jumps_total").increment(1);
}

/// What a dead predecessor had left was removed.
pub fn leftovers(containers: usize, directories: usize) {
    metrics::counter!("hearth_leftovers_total", "kind" => "container").increment(containers as u64);
    metrics::counter!("hearth_leftovers_total", "kind" => "directory")
        .increment(directories as u64);
}

/// A task was spawned, or has ended. Names are literals in the source, so there are few.
pub fn task(name: &'static str, change: f64) {
    metrics::gauge!("hearth_tasks", "task" => name).increment(change);
}

/// Faces whose answers are counted with every call.
const FACES: [&str; 3] = ["execute", "lambda", "route"];
const CLASSES: [&str; 5] = ["other", "2xx", "3xx", "4xx", "5xx"];

/// An HTTP answer left; `class` is the status's first digit.
pub fn http(face: &'static str, class: u16) {
    // Resolved once, where it counts.
    static COUNTERS: [[OnceLock<Counter>; CLASSES.len()]; FACES.len()] =
        [const { [const { OnceLock::new() }; CLASSES.len()] }; FACES.len()];
    let class = match class {
        2..=5 => usize::from(class) - 1,
        _ => 0,
    };
    let counter = || metrics::counter!("hearth_http_requests_total", "face" => face, "status" => CLASSES[class]);
    match FACES.iter().position(|known| *known == face) {
        Some(at) => COUNTERS[at][class].get_or_init(counter).increment(1),
        None => counter().increment(1),
    }
}

pub fn auth_failed(reason: &'static str) {
    metrics::counter!("hearth_auth_failures_total", "reason" => reason).increment(1);
}

pub fn auth_slowed() {
    metrics::counter!("hearth_auth_slowed_total").increment(1);
}

pub fn certificate_read(used: bool) {
    let result = if used { "used" } else { "refused" };
    metrics::counter!("hearth_certificate_reads_total", "result" => result).increment(1);
}

pub fn store_error(operation: &'static str) {
    metrics::counter!("hearth_store_errors_total", "operation" => operation).increment(1);
}

/// An exchange with the store has ended; `store` is embedded or redis.
pub fn store_call(store: &'static str, took: Duration, ok: bool) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::histogram!("hearth_store_call_seconds", "store" => store, "outcome" => outcome)
        .record(took.as_secs_f64());
}

/// Something became of an asynchronous call.
pub fn event(outcome: &'static str) {
    metrics::counter!("hearth_events_total", "outcome" => outcome).increment(1);
}

/// The record of a call was taken to its destination, or not.
pub fn delivered(destination: &'static str, ok: bool) {
    let outcome = if ok { "ok" } else { "refused" };
    metrics::counter!("hearth_deliveries_total", "destination" => destination, "outcome" => outcome)
        .increment(1);
}

/// What was done for a call with an idempotency key.
pub fn idempotent_call(outcome: &'static str) {
    metrics::counter!("hearth_idempotent_calls_total", "outcome" => outcome).increment(1);
}

/// Code was fetched from a bucket, or not.
pub fn code_fetched(outcome: &'static str) {
    metrics::counter!("hearth_code_fetches_total", "outcome" => outcome).increment(1);
}

/// What became of code whose signature cannot be checked.
pub fn code_unchecked(outcome: &'static str) {
    metrics::counter!("hearth_unchecked_code_total", "outcome" => outcome).increment(1);
}

pub fn source_polled(outcome: &'static str) {
    metrics::counter!("hearth_source_polls_total", "outcome" => outcome).increment(1);
}

pub fn source_mappings(state: &'static str, count: usize) {
    metrics::gauge!("hearth_source_mappings", "state" => state).set(count as f64);
}

/// What became of messages of queues.
pub fn source_messages(outcome: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!("hearth_source_messages_total", "outcome" => outcome)
            .increment(count as u64);
    }
}

/// A call with messages did not reach its function.
pub fn source_throttled() {
    metrics::counter!("hearth_source_throttled_total").increment(1);
}

pub fn spans(outcome: &'static str, count: usize) {
    if count > 0 {
        metrics::counter!("hearth_spans_total", "outcome" => outcome).increment(count as u64);
    }
}

pub fn store_up(up: bool) {
    metrics::gauge!("hearth_store_up").set(if up { 1.0 } else { 0.0 });
}

/// This process's own figures (file descriptors, memory, processor time), read when they are asked for.
pub fn process() {
    metrics_process::Collector::default().collect();
}

#[cfg(test)]
mod tests;
