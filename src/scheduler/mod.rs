//! Decides, for every call, whether it may run and on which worker. Holds the routing table, because what a name leads to is
//! what the scheduler needs for a call: one lookup finds everything. `qualifiers` has what stands behind a name.

pub mod admit;
pub mod dispatch;
pub mod exchanges;
pub mod failures;
pub mod gates;
pub mod lease;
pub mod life;
pub mod places;
pub mod provision;
mod qualifiers;
pub mod record;
pub mod share;
pub mod totals;
mod traced;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;
use crate::config;
use crate::domain::aws::Place;
use crate::domain::environment::Variables;
use crate::domain::fault::Fault;
use crate::domain::function::{Function, Network};
use crate::domain::id::{FunctionId, FunctionName, RequestId, VersionDigest};
use crate::domain::image;
use crate::domain::invocation::{Invocation, Phases, StartKind, StartReason};
use crate::domain::limits::Mebibytes;
use crate::domain::version::{Published, VersionId};
use crate::engine::spec;
use crate::pool::Pool;
use crate::pool::index::Slot;
use crate::pool::ledger::Ledger;
use crate::pool::roster::View;
use crate::router::routes::Matched;
use crate::router::table::{Entry, Replaced, Table};
use crate::scheduler::admit::Gate;
use crate::scheduler::dispatch::Ran;
use crate::scheduler::exchanges::{Absent, Exchange, Exchanges};
use crate::scheduler::failures::Failures;
use crate::scheduler::gates::{FunctionGates, gate, set_limit};
use crate::scheduler::life::Life;
use crate::scheduler::qualifiers::Qualifiers;
use crate::scheduler::record::{Call, Record, Summary};
use crate::scheduler::share::Share;
use crate::scheduler::totals::{Part, Totals};
use crate::secrets::Secrets;
use crate::task;
use crate::telemetry::metrics::{self, FunctionMeters};
use crate::telemetry::traces::Tracer;
use crate::worker::specialise::Blueprint;

pub use crate::scheduler::qualifiers::{Resolved, Unresolved};
// What a call comes back as and what it printed. The faces get these from here: workers are out of their sight.
pub use crate::worker::call::{Answer, Body};
pub use crate::worker::logs::{Book, Line};

/// A version of a function as it can be called now: its settings and everything the warm path needs of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// For a published version: as it was published, under its name and within its limits of today.
    pub function: Arc<Function>,
    pub version: VersionId,
    pub digest: VersionDigest,
    shared: Shared,
    slot: LazySlot,
    /// What its calls are given and answer is kept for a while.
    keeps_exchanges: bool,
    /// Its runtime is here. If not, no worker will ever come, and calls need not wait to be told.
    installed: bool,
    /// What stands behind the function's name beside this; none of a published version.
    qualifiers: Qualifiers,
    /// Of a published version: places that are for its provisioned workers, of the account's limit or of what is reserved for the function.
    /// Not made before there are any.
    provisioned: OnceLock<Arc<Gate>>,
}

/// Where a version's workers are, from when the first is wanted on: most versions of many functions have none. If its environment cannot
/// be decrypted here, why: then no worker is started, and calls need not wait to be told. Targets with the same digest have the same place.
type LazySlot = Arc<OnceLock<Result<Arc<Slot>, String>>>;

/// What all versions and revisions of a function have in common.
#[derive(Debug, Clone)]
struct Shared {
    life: Arc<Life>,
    gates: FunctionGates,
    /// Made with the first call under the function's name.
    meters: Arc<OnceLock<Box<FunctionMeters>>>,
}

impl Target {
    pub fn logs(&self) -> &Arc<Book> {
        &self.shared.life.lived().logs
    }

    pub fn starts(&self) -> &Arc<Ledger> {
        &self.shared.life.lived().starts
    }

    pub fn record(&self) -> &Record {
        &self.shared.life.lived().record
    }

    /// What a call of it was given and what it answered, as far as that is kept.
    pub fn exchange(&self, id: &RequestId) -> Exchange {
        match self.shared.life.so_far() {
            // What it was told under another name is not shown either.
            _ if !self.keeps_exchanges => Exchange::absent(Absent::Off),
            None => Exchange::absent(Absent::Forgotten),
            Some(lived) => lived.shelf.find(id),
        }
    }

    /// What its record comes to, for who looks at all functions: one that was never called gets none by it.
    pub fn summary(&self, now: Instant) -> Summary {
        let lived = self.shared.life.so_far();
        lived.map_or_else(Summary::default, |lived| lived.record.summary(now))
    }

    fn meters(&self) -> &FunctionMeters {
        let name = self.function.name.as_str();
        let meters = &self.shared.meters;
        meters.get_or_init(|| Box::new(FunctionMeters::new(name)))
    }

    /// What it adds to what follows from all functions together.
    fn part(&self) -> Part {
        let versions = self.published().versions.values();
        let versions = versions.map(|version| version.function.timeout());
        Part {
            claim: self.claim().unwrap_or(0),
            longest_timeout: versions.fold(self.function.timeout(), Duration::max),
        }
    }
}

impl Entry for Target {
    fn id(&self) -> &FunctionId {
        &self.function.id
    }

    fn name(&self) -> &FunctionName {
        &self.function.name
    }

    fn route(&self) -> Option<&str> {
        self.function.route.as_deref()
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        let urls = self.published().head.urls.values();
        urls.map(|url| url.id.as_str())
    }
}

/// What became of a call.
#[derive(Debug)]
pub struct Called {
    pub request_id: RequestId,
    pub phases: Phases,
    /// How its worker came to be and why; `None` when it got none.
    pub start: Option<(StartKind, StartReason)>,
    /// As the ledger has it, if the worker was started for a call: why that was.
    pub cause: Option<&'static str>,
    pub result: Result<Answer, Fault>,
    /// The end of what the function printed; only with a fault.
    pub log_tail: String,
    /// The most memory its worker ever took, if that was to be measured and can be.
    pub memory: Option<Mebibytes>,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub limits: config::Limits,
    pub init_timeout: Duration,
    pub cpu_floor_cores: f64,
    pub cores: u32,
    pub log_keep_bytes: usize,
    pub invocations: config::Invocations,
    /// What functions' ARNs say.
    pub place: Place,
    /// Opens environments.
    pub secrets: Arc<Secrets>,
    /// What the dice of aliases with two versions are thrown from; `None`: each from somewhere else.
    pub dice: Option<u64>,
    /// `None` traces nothing.
    pub traces: Option<Tracer>,
}

#[derive(Debug)]
pub struct Scheduler {
    table: Table<Target>,
    pool: Arc<Pool>,
    account: Arc<Gate>,
    /// What reservations leave to all other functions.
    unreserved: Arc<Gate>,
    totals: Mutex<Totals>,
    exchanges: Arc<Exchanges>,
    /// `None` if no other process shares the limits.
    share: Option<Arc<Share>>,
    options: Options,
    draining: AtomicBool,
    failures: Failures,
    /// Counts what was published and withdrawn.
    changes: watch::Sender<u64>,
}

/// What the part of the account's limit that is nobody's own is called among processes.
pub const UNRESERVED: &str = "unreserved";

impl Scheduler {
    pub fn new(options: Options, pool: Arc<Pool>) -> Arc<Self> {
        Self::with(options, pool, None)
    }

    /// One whose limits hold for several processes together; `share::asking::run` must be spawned with it.
    pub fn sharing(options: Options, pool: Arc<Pool>, share: Arc<Share>) -> Arc<Self> {
        Self::with(options, pool, Some(share))
    }

    fn with(options: Options, pool: Arc<Pool>, share: Option<Arc<Share>>) -> Arc<Self> {
        let limit = options.limits.concurrency;
        // Among processes it is the parts that are shared: together they are the whole.
        let account = Gate::new(limit);
        let unreserved = gate(share.as_ref(), UNRESERVED, limit, true);
        Arc::new(Self {
            table: Table::default(),
            pool,
            account,
            unreserved,
            totals: Mutex::default(),
            exchanges: Exchanges::new(options.invocations.clone()),
            share,
            options,
            draining: AtomicBool::new(false),
            failures: Failures::default(),
            changes: watch::Sender::new(0),
        })
    }

    pub fn find(&self, id_or_name: &str) -> Option<Arc<Target>> {
        self.table.find(id_or_name)
    }

    /// The function that answers plain HTTP at a path.
    pub fn at(&self, path: &str) -> Option<Matched<Target>> {
        self.table.at(path)
    }

    /// The function whose URL has this id.
    pub fn at_url(&self, id: &str) -> Option<Arc<Target>> {
        self.table.at_url(id)
    }

    /// Whether there was such a function URL, not long ago.
    pub fn was_url(&self, id: &str) -> bool {
        self.table.was_url(id)
    }

    /// The pool, for those who look at it.
    pub fn pool(&self) -> View {
        self.pool.view()
    }

    /// The image of this name, if there is one; or why that cannot be told.
    pub async fn image(&self, name: &str) -> Result<Option<image::Found>, String> {
        let asked = self.pool.image(name).await;
        asked.map_err(|error| error.to_string())
    }

    /// What environments are encrypted with.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.options.secrets
    }

    /// What a function is called where AWS is spoken, or what stands behind its name.
    fn arn(&self, function: &Function, qualifier: Option<&str>) -> String {
        self.options.place.qualified(&function.name, qualifier)
    }

    /// What functions' ARNs say.
    pub fn place(&self) -> &Place {
        &self.options.place
    }

    /// What decides whether a call is traced, if any may be.
    pub fn traces(&self) -> Option<&Tracer> {
        self.options.traces.as_ref()
    }

    /// Every function, in the order of creation.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.table.all()
    }

    /// A call that this process remembers, and the function it was of.
    pub fn remembered(&self, id: &RequestId) -> Option<(Arc<Target>, Call)> {
        self.table.all().into_iter().find_map(|target| {
            let call = target.shared.life.so_far()?.record.find(id)?;
            Some((target, call))
        })
    }

    /// Grows whenever another function, or another revision of one, is there.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Makes a function, or its new revision, callable: every call that starts after this returns runs it. Calls under way
    /// finish on the old one. An older revision than the published one changes nothing.
    pub fn publish(&self, function: Function) {
        let id = function.id.clone();
        let packages = function.packages().map(str::to_owned).collect();
        let replaced = self.table.replace(&id, |old| match old {
            Some(newer) if newer.function.revision > function.revision => Some(newer.clone()),
            _ => Some(Arc::new(self.target(function, old))),
        });
        self.pool.prepare(packages);
        self.count(&replaced);
        if let Some(new) = &replaced.new {
            self.keep_network(new);
        }
        if let Some(old) = replaced.old {
            self.close_unless_current(&old);
            self.close_versions(&old);
        }
        self.provision_current(&id);
        self.changed();
    }

    /// Makes everything that was stored callable, at the start.
    pub fn restore(&self, functions: Vec<Function>, published: Vec<Published>) {
        let of = |published: Published| (published.head.function.clone(), published);
        let mut published: HashMap<_, _> = published.into_iter().map(of).collect();
        let targets: Vec<_> = functions
            .into_iter()
            .map(|function| {
                let mut target = self.target(function, None);
                if let Some(published) = published.remove(&target.function.id) {
                    let published = Arc::new(published);
                    target.qualifiers = self.qualifiers(&target, &target, published, false);
                }
                Arc::new(target)
            })
            .collect();
        self.table.extend(&targets);
        {
            let mut totals = self.totals.lock();
            for target in &targets {
                totals.exchange(None, Some(target.part()));
            }
            self.apply(&totals);
        }
        let mut packages = BTreeSet::new();
        for target in &targets {
            self.keep_network(target);
            self.provision(target);
            packages.extend(target.function.packages());
        }
        let packages = packages.into_iter().map(str::to_owned).collect();
        self.pool.prepare(packages);
        self.changed();
    }

    /// Forgets a function.
    pub fn withdraw(&self, id: &FunctionId) {
        let replaced = self.table.replace(id, |_| None);
        self.count(&replaced);
        if let Some(old) = replaced.old {
            self.close_unless_current(&old);
            self.close_versions(&old);
        }
        self.changed();
    }

    /// Brings up to date what follows from all functions together. What came before and after it is counted in any order: it adds up.
    fn count(&self, replaced: &Replaced<Target>) {
        let part = |target: &Option<Arc<Target>>| target.as_ref().map(|target| target.part());
        let mut totals = self.totals.lock();
        totals.exchange(part(&replaced.old), part(&replaced.new));
        self.apply(&totals);
    }

    /// Called with the totals locked: of two changes, the later one is right.
    fn apply(&self, totals: &Totals) {
        metrics::functions(totals.functions());
        let limit = self.account.limit().saturating_sub(totals.claimed());
        if self.unreserved.limit() != limit {
            set_limit(
                self.share.as_ref(),
                UNRESERVED,
                &self.unreserved,
                limit,
                true,
            );
        }
        if let Some(share) = &self.share {
            share.set_longest_timeout(totals.longest_timeout());
        }
    }

    fn target(&self, function: Function, old: Option<&Arc<Target>>) -> Target {
        let life = match old {
            Some(old) => old.shared.life.clone(),
            None => Life::new(self.options.log_keep_bytes, self.exchanges.clone()),
        };
        let gates = FunctionGates::of(
            self.share.as_ref(),
            function.id.as_str(),
            function.max_concurrency,
            function.reserved_concurrency,
            old.map(|old| &old.shared.gates),
        );
        let meters = match old {
            Some(old) if old.function.name == function.name => old.shared.meters.clone(),
            _ => Arc::default(),
        };
        let shared = Shared {
            life,
            gates,
            meters,
        };
        let before = old.map(Arc::as_ref);
        let mut target = self.assemble(function, VersionId::Latest, shared, before);
        if let Some(old) = old {
            // Versions run under the function's name and within its limits.
            let of = |f: &Function| (f.name.clone(), f.max_concurrency, f.reserved_concurrency);
            let keep = of(&target.function) == of(&old.function);
            let published = old.published().clone();
            target.qualifiers = self.qualifiers(&target, old, published, keep);
        }
        target
    }

    /// `before` is what was in the target's place, if anything was.
    fn assemble(
        &self,
        function: Function,
        version: VersionId,
        shared: Shared,
        before: Option<&Target>,
    ) -> Target {
        let digest = function.digest_as(version);
        let slot = match before {
            Some(before) if before.digest == digest => before.slot.clone(),
            _ => LazySlot::default(),
        };
        if let Err(why) = self.environment(&function) {
            tracing::error!(
                function = %function.name,
                why,
                "environment cannot be decrypted: calls of the function are refused"
            );
        }
        Target {
            keeps_exchanges: self.exchanges.keeps(&function.name),
            installed: self.pool.offers(&function.runtime),
            qualifiers: Qualifiers::none(),
            provisioned: OnceLock::new(),
            function: Arc::new(function),
            version,
            digest,
            shared,
            slot,
        }
    }

    /// A function's environment in the clear, or why it cannot be had.
    fn environment(&self, function: &Function) -> Result<Variables, String> {
        let secrets = &self.options.secrets;
        secrets
            .open(&function.id, &function.environment)
            .map_err(|(name, why)| format!("{name}: {why}"))
    }

    /// Where the target's workers are, or why it has none.
    fn slot<'a>(&self, target: &'a Target) -> Result<&'a Arc<Slot>, &'a str> {
        let slot = target.slot.get_or_init(|| {
            let mut environment = self.environment(&target.function)?;
            let function = &target.function;
            if let Some(logging) = &function.aws.logging {
                let variables = logging.variables();
                let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
                environment.0.extend(variables);
            }
            let number = target.version.to_string();
            let qualifier = (target.version != VersionId::Latest).then_some(number.as_str());
            let arn = self.arn(function, qualifier);
            Ok(self
                .pool
                .open(&target.digest, target.starts(), || Blueprint {
                    environment,
                    version: target.version,
                    arn,
                    limits: spec::limits_for(
                        function.memory,
                        self.options.cpu_floor_cores,
                        self.options.cores,
                    ),
                    function: function.clone(),
                    logs: target.logs().clone(),
                    init_timeout: self.options.init_timeout,
                }))
        });
        slot.as_ref().map_err(String::as_str)
    }

    /// A function's network is there for as long as it has a slot: one with a network has it from the beginning, and before its old one ends.
    fn keep_network(&self, target: &Target) {
        if target.function.network == Network::Egress
            && let Err(why) = self.slot(target)
        {
            tracing::debug!(function = %target.function.name, why, "no slot");
        }
    }

    /// Ends the target's workers, and the place for them: who still comes with an old snapshot of the table finds it closed.
    fn close(&self, target: &Target) {
        if let Ok(slot) = self.slot(target) {
            self.pool.close(slot);
        }
    }

    /// A deploy that changed nothing a worker bakes in keeps its workers.
    fn close_unless_current(&self, old: &Target) {
        let current = self.table.find(old.function.id.as_str());
        if current.is_none_or(|now| !Arc::ptr_eq(&now.slot, &old.slot)) {
            self.close(old);
        }
    }

    /// One call. Warm path.
    pub async fn invoke(
        self: &Arc<Self>,
        target: &Arc<Target>,
        mut invocation: Invocation,
    ) -> Called {
        let arrived = clock::now();
        if let Some(trace) = &invocation.trace {
            invocation.context = trace.told(&invocation.context);
        }
        let mut called = Called {
            request_id: invocation.request_id,
            phases: Phases::default(),
            start: None,
            cause: None,
            result: Err(Fault::Draining),
            log_tail: String::new(),
            memory: None,
        };
        if !self.draining.load(Ordering::Relaxed) {
            self.admitted(
                target,
                &invocation,
                arrived + self.options.limits.max_wait,
                &mut called,
            )
            .await;
        }
        let now = clock::now();
        let whole = now.saturating_duration_since(arrived);
        let lived = target.shared.life.lived();
        lived.record.ended(target.version, &called, whole, now);
        if target.keeps_exchanges {
            lived.shelf.keep(&invocation, &called.result);
        }
        let kind = called.start.map(|(kind, _)| kind);
        target.meters().called(
            kind,
            metrics::blame_of(&called.result),
            whole,
            &called.phases,
        );
        if let Err(fault) = &called.result {
            if let Fault::Throttled { reason, .. } = fault {
                target.meters().throttled(*reason);
            }
            self.failures
                .tell(fault, &target.function.name, called.request_id, now);
        }
        if let Some(trace) = invocation.trace.take() {
            self.traced(target, trace, &mut called, whole);
        }
        if kind == Some(StartKind::Warm) && !called.phases.queue.is_zero() {
            // Its worker is at work for the next in line. Others whose answers are there have theirs at work, too, before any answer is written.
            task::let_others_go().await;
        }
        called
    }

    async fn admitted(
        &self,
        target: &Arc<Target>,
        invocation: &Invocation,
        deadline: Instant,
        called: &mut Called,
    ) {
        if !target.installed {
            let gone = format!("its runtime {} is not installed", target.function.runtime);
            called.result = Err(Fault::StartFailed(gone));
            return;
        }
        let slot = match self.slot(target) {
            Ok(slot) => slot,
            Err(why) => {
                called.result = Err(Fault::EnvironmentUnreadable(why.into()));
                return;
            }
        };
        let (mut permit, term) = match self.admit(target, deadline).await {
            Ok(admitted) => admitted,
            Err(fault) => {
                called.result = Err(fault);
                return;
            }
        };
        loop {
            let since = clock::now();
            let opening = || dispatch::opening(&target.function, invocation, self.begins(term));
            let acquired = self.pool.acquire(slot, permit, since, deadline, opening);
            match acquired.await {
                // It waited, or the process was stopped, while others were given its place.
                Ok((lease, _)) if !lease.has_begun() && !self.may_begin(term) => {
                    lease.give_back(clock::now());
                    called.result = Err(Fault::PermitsLost);
                }
                Ok((lease, origin)) => {
                    called.start = Some((origin.kind, origin.reason));
                    called.cause = origin.cause;
                    match dispatch::run(lease, &origin, &target.function, invocation).await {
                        Ok(ran) => self.ran(ran, called),
                        Err(back) => {
                            (called.start, called.cause) = (None, None);
                            permit = back;
                            continue;
                        }
                    }
                }
                Err(failed) => {
                    called.phases = failed.phases(clock::now().saturating_duration_since(since));
                    called.cause = failed.fresh.and_then(|fresh| fresh.cause);
                    called.log_tail = (*failed.log_tail).to_owned();
                    called.result = Err(failed.fault);
                }
            }
            return;
        }
    }

    fn ran(&self, ran: Ran, called: &mut Called) {
        called.phases = ran.phases;
        called.log_tail = ran.log_tail;
        called.memory = ran.memory;
        called.result = match ran.result {
            // Its container was removed under it, by the end of this process.
            Err(Fault::Exited { .. } | Fault::OutOfMemory { .. })
                if self.draining.load(Ordering::Relaxed) =>
            {
                Err(Fault::Interrupted)
            }
            result => result,
        };
    }

    /// From now on new calls are refused.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Calls under way.
    pub fn under_way(&self) -> u32 {
        self.account.under_way()
    }

    pub fn concurrency_limit(&self) -> u32 {
        self.account.limit()
    }
}
