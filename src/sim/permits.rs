//! Several processes that share limits, in virtual time: what admits calls and asks for permits (`scheduler::share`) is the program's own,
//! and so are the ledger's rules. Simulated are the network between them, the ledger's life, and what a process runs.
//!
//! ```text
//!   plan (from a seed) ──▶ processes: share, asking, gates ◀── network ──▶ ledger
//!                             │ calls, and the code that runs    │ messages late or lost; cut off, ended, stalled, its clock set
//!                             ▼
//!                          oracle: never more than a limit, never less than was promised, nobody forgotten
//! ```
//!
//! A process that is stopped stands still with all its tasks, while the code it started runs on. One that is killed takes its code with it.
//! At the end the faults are over, and every limit must be usable, whole, wherever it is asked for.

pub mod network;
pub mod oracle;
pub mod plan;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::scheduler::UNRESERVED;
use crate::scheduler::admit::Gate;
use crate::scheduler::gates::{FunctionGates, set_limit};
use crate::scheduler::share::{self, Share, asking};
use crate::sim::permits::network::{Link, Network};
use crate::sim::permits::oracle::Oracle;
use crate::sim::permits::plan::{Event, Limits, Plan, unreserved};
use crate::sim::time;
use crate::sim::world::Report;
use crate::task;

/// Looks for callers who were forgotten are so far apart; so many in a row find one.
const LOOK: Duration = Duration::from_millis(20);
const FORGOTTEN: u32 = 3;
/// What a change of a limit needs to be known everywhere.
const NEWS: u64 = 100;
/// Of a call, at most, besides its process's standing still.
const MAX_WAIT: Duration = Duration::from_secs(10);
const TO_KILL: Duration = Duration::from_secs(1);

/// Runs one seed, on the thread that asks.
pub fn run(seed: u64) -> Report {
    play(Plan::draw(seed))
}

pub fn play(plan: Plan) -> Report {
    time::run(|| Duration::ZERO, async move {
        // It was started a while ago.
        clock::booted(Some(clock::now()));
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let report = World::new(plan).live().await;
        clock::booted(None);
        report
    })
}

#[derive(Debug)]
struct World {
    plan: Plan,
    oracle: Arc<Oracle>,
    network: Arc<Network>,
    processes: Vec<Mutex<Option<Arc<Process>>>>,
    starts: Mutex<u32>,
    calls: Mutex<usize>,
    rng: Mutex<StdRng>,
}

/// One run of a process.
#[derive(Debug)]
struct Process {
    number: usize,
    share: Arc<Share>,
    account: Arc<Gate>,
    unreserved: Arc<Gate>,
    functions: Mutex<Vec<(Limits, FunctionGates)>>,
    stands_still: StandsStill,
    /// Its end in good order.
    stop: CancellationToken,
    dead: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<Option<()>>>>,
}

/// While it is so, none of the futures goes on that are run `within` it.
#[derive(Debug, Default)]
struct StandsStill(Mutex<(bool, Vec<Waker>)>);

impl StandsStill {
    fn set(&self, stands: bool) {
        let wakers = {
            let mut state = self.0.lock();
            state.0 = stands;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn is_so(&self) -> bool {
        self.0.lock().0
    }

    async fn within<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let mut state = self.0.lock();
            if state.0 {
                state.1.push(context.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            future.as_mut().poll(context)
        })
        .await
    }
}

impl Process {
    fn start(world: &World, number: usize) -> Arc<Self> {
        let run = {
            let mut starts = world.starts.lock();
            *starts += 1;
            *starts
        };
        let plan = &world.plan;
        let name = format!("p{number}");
        let share = Share::new(share::Options {
            process: name.clone(),
            incarnation: format!("{name}, run {run}"),
            account: plan.account,
            lease: plan.lease,
            wait: plan.permit_wait,
            waiting: 1000,
            cancel_grace: Duration::ZERO,
        });
        share.set_longest_timeout(plan.timeout);
        let truth = world.oracle.truth();
        let rest = unreserved(plan.account, truth.iter().copied());
        let functions = truth.iter().enumerate().map(|(function, limits)| {
            world.oracle.sees(number, function, *limits);
            let scope = format!("f{function}");
            let gates = FunctionGates::of(Some(&share), &scope, limits.max, limits.reserved, None);
            (*limits, gates)
        });
        let functions = Mutex::new(functions.collect());
        let process = Arc::new(Self {
            number,
            account: Gate::new(plan.account),
            unreserved: share.gate(UNRESERVED, rest, true),
            functions,
            share,
            stands_still: StandsStill::default(),
            stop: CancellationToken::new(),
            dead: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        let link = Link {
            network: world.network.clone(),
            dead: process.dead.clone(),
        };
        let asking = asking::run(process.share.clone(), Arc::new(link), process.stop.clone());
        process.spawn(asking);
        process
    }

    fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let process = self.clone();
        let task = task::spawn(task::Kind::Local, "process", async move {
            let dead = process.dead.clone();
            let within = process.stands_still.within(future);
            dead.run_until_cancelled(within).await;
        });
        self.tasks.lock().push(task);
    }

    /// As the scheduler does with a change that it hears of.
    fn take_over(&self, world: &World, function: usize) {
        let limits = world.oracle.truth()[function];
        let mut functions = self.functions.lock();
        let scope = format!("f{function}");
        let old = &functions[function].1;
        let gates = FunctionGates::of(
            Some(&self.share),
            &scope,
            limits.max,
            limits.reserved,
            Some(old),
        );
        functions[function] = (limits, gates);
        world.oracle.sees(self.number, function, limits);
        let rest = unreserved(world.plan.account, functions.iter().map(|(f, _)| *f));
        if self.unreserved.limit() != rest {
            set_limit(Some(&self.share), UNRESERVED, &self.unreserved, rest, true);
        }
    }

    async fn call(self: Arc<Self>, oracle: Arc<Oracle>, call: Call) {
        let Call {
            number,
            function,
            takes,
            worker,
        } = call;
        let (_, limited) = self.functions.lock()[function].clone();
        let gates = limited.gates(&self.unreserved, &self.account);
        let admitted = self.share.admit(gates, clock::now() + MAX_WAIT).await;
        let (permit, term) = match admitted {
            Ok(admitted) => admitted,
            Err(fault) => return oracle.refused(number, &fault),
        };
        oracle.admitted(number, limited.has_part());
        tokio::time::sleep(worker).await;
        if !self.share.still(term) {
            return oracle.lost(number);
        }
        let until = clock::now() + takes;
        oracle.begins(number, until);
        tokio::time::sleep_until(until.into()).await;
        drop(permit);
        oracle.ended(number);
    }

    /// Gates at which calls wait though there is room, and the process may spend it.
    fn forgets(&self) -> Vec<String> {
        if self.stands_still.is_so() || !self.share.spends() {
            return Vec::new();
        }
        let functions = self.functions.lock();
        let own = functions.iter().enumerate().map(|(n, (_, limited))| {
            let gates = limited.gates(&self.unreserved, &self.account);
            (format!("f{n}"), gates.function.clone())
        });
        let all = own.chain([(UNRESERVED.to_owned(), self.unreserved.clone())]);
        all.filter(|(_, gate)| gate.waiting() > 0 && gate.room() > gate.under_way())
            .map(|(name, _)| format!("p{} at {name}", self.number))
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Call {
    number: usize,
    function: usize,
    takes: Duration,
    /// Until it has a worker.
    worker: Duration,
}

impl World {
    fn new(plan: Plan) -> Arc<Self> {
        let network = Network::new(plan.seed, plan.lease, plan.odds);
        let world = Arc::new(Self {
            oracle: Arc::new(Oracle::new(&plan)),
            network,
            processes: (0..plan.processes).map(|_| Mutex::default()).collect(),
            starts: Mutex::default(),
            calls: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(plan.seed ^ 0xca11)),
            plan,
        });
        for (number, process) in world.processes.iter().enumerate() {
            *process.lock() = Some(Process::start(&world, number));
        }
        world
    }

    async fn live(self: Arc<Self>) -> Report {
        self.oracle.log(&format!("{:?}", self.plan));
        self.disturb_for(Duration::ZERO);
        let looks = task::spawn(task::Kind::Local, "looks", self.clone().look());
        let begun = clock::now();
        for (at, event) in self.plan.events.clone() {
            tokio::time::sleep_until((begun + at).into()).await;
            self.clone().happens(event);
        }
        self.rest().await;
        self.heal().await;
        looks.abort();
        // Whoever was asked for is told, and then all of it is the last one's.
        let mut processes = self
            .processes
            .iter()
            .filter_map(|process| process.lock().take());
        let last = processes.next().expect("all are there");
        for process in processes.collect::<Vec<_>>() {
            process.stop.cancel();
            self.oracle.log(&format!("p{} leaves", process.number));
            let tasks = std::mem::take(&mut *process.tasks.lock());
            futures_util::future::join_all(tasks).await;
        }
        *self.processes[last.number].lock() = Some(last.clone());
        self.all_of_it("after the others have left", |_| last.number)
            .await;
        last.dead.cancel();
        let tasks = std::mem::take(&mut *last.tasks.lock());
        drop(last);
        futures_util::future::join_all(tasks).await;
        let seed = self.plan.seed;
        let Some(world) = Arc::into_inner(self) else {
            unreachable!("seed {seed}: something holds the world")
        };
        for process in &world.processes {
            process.lock().take();
        }
        let oracle = Arc::into_inner(world.oracle);
        let (log, violations, tally) = oracle.expect("nothing runs any more").report();
        Report {
            log,
            violations,
            tally,
        }
    }

    fn process(&self, number: usize) -> Option<Arc<Process>> {
        self.processes[number].lock().clone()
    }

    /// A fault begins, or something else after which not everything is as it should be until it has been over for a while.
    fn disturb_for(&self, time: Duration) {
        let lease = self.plan.lease;
        let tail = self.plan.timeout + TO_KILL + lease / 2;
        self.oracle.fault(time + 2 * lease + tail);
    }

    fn happens(self: Arc<Self>, event: Event) {
        match event {
            Event::Call {
                process,
                function,
                takes,
            } => self.call(process, function, takes),
            other => {
                self.oracle.log(&format!("{other:?}"));
                let world = self.clone();
                task::spawn(task::Kind::Local, "event", async move {
                    world.fault(other).await;
                });
            }
        }
    }

    fn call(&self, process: usize, function: usize, takes: Duration) {
        let Some(process) = self.process(process) else {
            return;
        };
        let number = {
            let mut calls = self.calls.lock();
            *calls += 1;
            *calls
        };
        let worker = self.rng.lock().random_range(0..=3);
        let call = Call {
            number,
            function,
            takes,
            worker: Duration::from_millis(if worker == 3 { 100 } else { worker }),
        };
        self.oracle.arrived(number, process.number, function);
        process.spawn(process.clone().call(self.oracle.clone(), call));
    }

    async fn fault(self: Arc<Self>, event: Event) {
        match event {
            Event::Call { .. } => {}
            Event::Limit(function, limits) => {
                self.oracle.set_truth(function, limits);
                // Calls that began by the old one, and what has to be moved after them.
                let moved = Duration::from_millis(2 * NEWS + 500) + self.plan.timeout;
                self.oracle.disturb(moved);
                for process in 0..self.plan.processes {
                    let news = self.rng.lock().random_range(0..=NEWS);
                    if let Some(process) = self.process(process) {
                        let (world, told) = (self.clone(), process.clone());
                        process.spawn(async move {
                            tokio::time::sleep(Duration::from_millis(news)).await;
                            told.take_over(&world, function);
                        });
                    }
                }
            }
            Event::Stop(number, time) => {
                let Some(process) = self.process(number) else {
                    return;
                };
                self.disturb_for(time);
                process.stands_still.set(true);
                tokio::time::sleep(time).await;
                process.stands_still.set(false);
                self.oracle.log(&format!("p{number} goes on"));
            }
            Event::Kill(number, time) => {
                let Some(process) = self.processes[number].lock().take() else {
                    return;
                };
                self.disturb_for(time);
                self.oracle.killed(number);
                process.dead.cancel();
                tokio::time::sleep(time).await;
                self.oracle.log(&format!("p{number} starts"));
                let started = Process::start(&self, number);
                *self.processes[number].lock() = Some(started);
            }
            Event::CutOff(number, time) => {
                self.disturb_for(time);
                let process = format!("p{number}");
                self.network.cut_off(&process, true);
                tokio::time::sleep(time).await;
                self.network.cut_off(&process, false);
                self.oracle.log(&format!("{process} is reached again"));
            }
            Event::LedgerEnds { down, forgets } => {
                if !self.network.end_ledger(forgets) {
                    return;
                }
                self.disturb_for(down);
                tokio::time::sleep(down).await;
                self.network.start_ledger();
                self.oracle.log("the ledger starts");
            }
            Event::LedgerStalls(time) => {
                self.disturb_for(time);
                self.network.stall_ledger(time);
            }
            Event::Jump(by) => {
                self.disturb_for(Duration::ZERO);
                self.network.jump(by);
            }
        }
    }

    /// Looks for callers who wait beside room.
    async fn look(self: Arc<Self>) {
        let mut before: Vec<(String, u32)> = Vec::new();
        loop {
            tokio::time::sleep(LOOK).await;
            if self
                .network
                .disturbed()
                .is_some_and(|at| at + LOOK >= clock::now())
            {
                self.disturb_for(Duration::ZERO);
            }
            // Whoever was told of room at this very moment takes it first.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let processes = (0..self.plan.processes).filter_map(|n| self.process(n));
            let found = processes.flat_map(|process| process.forgets());
            let found = found.map(|name| {
                let times = before.iter().find(|(other, _)| *other == name);
                let times = times.map_or(0, |(_, times)| *times) + 1;
                if times == FORGOTTEN {
                    self.oracle.wrong(format!("{name} calls wait beside room"));
                }
                (name, times)
            });
            before = found.collect();
        }
    }

    /// The faults end, and so does what they left behind.
    async fn rest(&self) {
        self.network.calm_down();
        let lease = self.plan.lease;
        let longest = 3 * lease + self.plan.timeout + TO_KILL + MAX_WAIT + 3 * lease;
        tokio::time::sleep(longest).await;
        let pending = self.oracle.pending();
        if !pending.is_empty() {
            self.oracle
                .wrong(format!("without an outcome: {pending:?}"));
        }
    }

    /// Every limit is there, whole: at one process after the other, and spread over them.
    async fn heal(&self) {
        for number in 0..self.plan.processes {
            self.all_of_it("at one", |_| number).await;
        }
        self.all_of_it("at all", |n| n % self.plan.processes).await;
    }

    /// As many calls as there may be of every part, at the same time.
    async fn all_of_it(&self, what: &str, at: impl Fn(usize) -> usize) {
        self.oracle.log(what);
        let truth = self.oracle.truth();
        let rest = unreserved(self.plan.account, truth.iter().copied());
        let mut number = 0;
        for (function, limits) in truth.iter().enumerate() {
            let calls = match (function, limits.reserved) {
                (0, _) => rest,
                (_, Some(_)) => limits.cap(),
                (_, None) => 0,
            };
            for _ in 0..calls {
                self.call(at(number), function, Duration::from_millis(30));
                number += 1;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let pending = self.oracle.pending();
        if !pending.is_empty() {
            self.oracle
                .wrong(format!("{what}: without an outcome: {pending:?}"));
        }
    }
}
