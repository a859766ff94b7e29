//! Knows what was promised of limits that processes share, and compares it with what runs and what callers are told. Keeps the log.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::domain::fault::Fault;
use crate::sim::permits::plan::{Limits, Plan, unreserved};

/// All may answer a few times in it.
const PROMPT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Oracle {
    begun: Instant,
    account: u32,
    permit_wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: String,
    violations: Vec<String>,
    tally: BTreeMap<&'static str, u32>,
    calls: BTreeMap<usize, Call>,
    /// By process, and by function: what it took the limits to be, and since when.
    views: Vec<Vec<Vec<(Instant, Limits)>>>,
    truth: Vec<Limits>,
    /// Until then there may be less than is promised.
    disturbed: Instant,
    /// And news may not have reached everybody from this moment on, until that one.
    faulty: (Instant, Instant),
}

#[derive(Debug)]
struct Call {
    process: usize,
    function: usize,
    arrived: Instant,
    admitted: Option<Admitted>,
    /// Its code runs until then.
    until: Option<Instant>,
    /// While it waited for a permit: the most calls there were of its function, and of its part of the account's limit.
    most: (u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Admitted {
    at: Instant,
    has_part: bool,
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        let begun = clock::now();
        let views = vec![vec![Vec::new(); plan.functions.len()]; plan.processes];
        Self {
            begun,
            account: plan.account,
            permit_wait: plan.permit_wait,
            state: Mutex::new(State {
                log: String::new(),
                violations: Vec::new(),
                tally: BTreeMap::new(),
                calls: BTreeMap::new(),
                views,
                truth: plan.functions.clone(),
                disturbed: begun,
                faulty: (begun, begun),
            }),
        }
    }

    pub fn log(&self, what: &str) {
        self.write(&mut self.state.lock(), what);
    }

    fn write(&self, state: &mut State, what: &str) {
        let at = clock::now().saturating_duration_since(self.begun);
        writeln!(state.log, "{:>6} {what}", at.as_millis()).ok();
    }

    pub fn wrong(&self, what: String) {
        self.violation(&mut self.state.lock(), what);
    }

    fn violation(&self, state: &mut State, what: String) {
        self.write(state, &format!("WRONG: {what}"));
        state.violations.push(what);
    }

    /// Less may be there than is promised, for so long from now on.
    pub fn disturb(&self, time: Duration) {
        let mut state = self.state.lock();
        state.disturbed = state.disturbed.max(clock::now() + time);
    }

    /// Nor is everybody heard, or hears, for so long.
    pub fn fault(&self, time: Duration) {
        self.disturb(time);
        let mut state = self.state.lock();
        let now = clock::now();
        let (from, until) = state.faulty;
        let from = if now < until { from } else { now };
        state.faulty = (from, until.max(now + time));
    }

    pub fn truth(&self) -> Vec<Limits> {
        self.state.lock().truth.clone()
    }

    pub fn set_truth(&self, function: usize, limits: Limits) {
        self.state.lock().truth[function] = limits;
    }

    /// A process takes a function's limits to be these from now on.
    pub fn sees(&self, process: usize, function: usize, limits: Limits) {
        let mut state = self.state.lock();
        state.views[process][function].push((clock::now(), limits));
    }

    pub fn arrived(&self, number: usize, process: usize, function: usize) {
        let mut state = self.state.lock();
        let call = Call {
            process,
            function,
            arrived: clock::now(),
            admitted: None,
            until: None,
            most: (0, 0),
        };
        state.calls.insert(number, call);
        state.count_demand();
        self.write(
            &mut state,
            &format!("{number} of f{function} at p{process}"),
        );
    }

    pub fn admitted(&self, number: usize, has_part: bool) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let now = clock::now();
        let Some(call) = state.calls.get_mut(&number) else {
            return;
        };
        call.admitted = Some(Admitted { at: now, has_part });
        let (waited, call) = (now - call.arrived, &state.calls[&number]);
        if state.is_promised(call) && !state.is_used_up(self.account, call) && waited > PROMPT {
            let what = format!("{number} waited {waited:?} for a permit that nobody needed");
            self.violation(state, what);
        }
        self.write(state, &format!("{number} admitted"));
    }

    /// Its code runs, until then.
    pub fn begins(&self, number: usize, until: Instant) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let now = clock::now();
        let Some(call) = state.calls.get_mut(&number) else {
            return;
        };
        call.until = Some(until);
        let function = call.function;
        let running = || {
            let calls = state.calls.values();
            calls.filter(|call| call.until.is_some_and(|until| until > now))
        };
        let all = running().count();
        let mut wrong = Vec::new();
        if all > self.account as usize {
            wrong.push(format!("{all} run, of {} that may", self.account));
        }
        // A limit that was lowered holds for who is admitted once all have asked.
        let (from, to) = state.faulty;
        let news = if now < to {
            from.min(now - PROMPT)
        } else {
            now - PROMPT
        };
        let since = |calls: &[&Call]| {
            let admitted = calls.iter().filter_map(|call| call.admitted);
            admitted
                .map(|admitted| admitted.at)
                .min()
                .map_or(news, |at| at.min(news))
        };
        let of: Vec<_> = running().filter(|c| c.function == function).collect();
        let cap = state.most_since(since(&of), |limits| limits[function].cap());
        if of.len() > cap as usize {
            wrong.push(format!(
                "{} of f{function} run, of {cap} that may",
                of.len()
            ));
        }
        let others = running().filter(|c| c.admitted.is_some_and(|a| !a.has_part));
        let others: Vec<_> = others.collect();
        let cap = state.most_since(since(&others), |limits| {
            unreserved(self.account, limits.iter().copied())
        });
        if others.len() > cap as usize {
            let count = others.len();
            wrong.push(format!(
                "{count} run without a reservation, of {cap} that may"
            ));
        }
        for what in wrong {
            self.violation(state, format!("{number}: {what}"));
        }
        self.write(state, &format!("{number} begins"));
    }

    /// It has its answer, and the process knows it.
    pub fn ended(&self, number: usize) {
        self.outcome(number, "served");
    }

    /// Its permits were lost before it began.
    pub fn lost(&self, number: usize) {
        self.outcome(number, "lost");
    }

    fn outcome(&self, number: usize, what: &'static str) {
        let mut state = self.state.lock();
        if state.calls.remove(&number).is_some() {
            *state.tally.entry(what).or_default() += 1;
            self.write(&mut state, &format!("{number} {what}"));
        }
    }

    pub fn refused(&self, number: usize, fault: &Fault) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(call) = state.calls.remove(&number) else {
            return;
        };
        let promised = state.is_promised(&call);
        let used_up = state.is_used_up(self.account, &call);
        let waited = clock::now() - call.arrived;
        let what = match fault {
            Fault::Throttled { .. } => {
                if promised && !used_up {
                    let what = format!("{number} is refused, of {:?} that were there", call.most);
                    self.violation(state, what);
                }
                if promised && waited > self.permit_wait + PROMPT {
                    let what = format!("{number} is refused after {waited:?}");
                    self.violation(state, what);
                }
                "throttled"
            }
            Fault::PermitsLost => {
                if promised {
                    self.violation(state, format!("{number}: no lease"));
                }
                "without a lease"
            }
            other => {
                self.violation(state, format!("{number}: {other}"));
                "wrong"
            }
        };
        *state.tally.entry(what).or_default() += 1;
        self.write(state, &format!("{number} {what}: {fault}"));
    }

    /// With a process its calls go, and what runs of them.
    pub fn killed(&self, process: usize) {
        let mut state = self.state.lock();
        let before = state.calls.len();
        state.calls.retain(|_, call| call.process != process);
        let gone = before - state.calls.len();
        *state.tally.entry("killed").or_default() += u32::try_from(gone).unwrap_or(0);
        for views in &mut state.views[process] {
            views.clear();
        }
    }

    /// Calls that have no outcome.
    pub fn pending(&self) -> Vec<usize> {
        self.state.lock().calls.keys().copied().collect()
    }

    pub fn report(self) -> (String, Vec<String>, BTreeMap<&'static str, u32>) {
        let state = self.state.into_inner();
        (state.log, state.violations, state.tally)
    }
}

impl State {
    /// What a call waits beside: counted whenever one comes.
    fn count_demand(&mut self) {
        let (mut of, mut unreserved) = (BTreeMap::new(), 0);
        for call in self.calls.values() {
            *of.entry(call.function).or_insert(0) += 1;
            unreserved += u32::from(self.truth[call.function].reserved.is_none());
        }
        for call in self.calls.values_mut().filter(|c| c.admitted.is_none()) {
            call.most.0 = call.most.0.max(of[&call.function]);
            call.most.1 = call.most.1.max(unreserved);
        }
    }

    /// Nothing has happened for which there may be less than there should be.
    fn is_promised(&self, call: &Call) -> bool {
        call.arrived > self.disturbed
    }

    /// While it waited, its limit was used up, or wanted by more than there may be.
    fn is_used_up(&self, account: u32, call: &Call) -> bool {
        let limits = self.truth[call.function];
        let rest = unreserved(account, self.truth.iter().copied());
        call.most.0 > limits.cap() || limits.reserved.is_none() && call.most.1 > rest
    }

    /// The most that any process had as a limit at any time since then.
    fn most_since(&self, since: Instant, limit: impl Fn(&[Limits]) -> u32) -> u32 {
        let of_process = |views: &Vec<Vec<(Instant, Limits)>>| {
            let changes = views.iter().flatten().map(|(at, _)| *at);
            let times = changes.filter(|at| *at > since).chain([since]);
            let then = |at: Instant| {
                let of = views.iter().map(|views| {
                    let before = views.iter().rev().find(|(changed, _)| *changed <= at);
                    before.or(views.first()).map(|(_, limits)| *limits)
                });
                of.collect::<Option<Vec<_>>>()
            };
            times.filter_map(then).map(|limits| limit(&limits)).max()
        };
        let all = self.views.iter().filter_map(of_process);
        all.max().unwrap_or(u32::MAX)
    }
}
