//! Knows what was promised, and compares it with what is seen from inside the containers and by the callers. Keeps the log.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::version::VersionId;
use crate::sim::container::{Invoked, Seen, Watch};
use crate::sim::engine::STEM_MEMORY;
use crate::sim::plan::{Call, Does, Plan, Settings, StreamEnd};

/// A line in which nothing moves for longer was forgotten: the keeper looks at everything once a second.
const STALL: Duration = Duration::from_millis(2500);
/// As long as the keeper waits after a failed removal, it may be waiting for memory.
const STALL_UNCLEARED: Duration = Duration::from_secs(8);

/// What became of a call, as its caller saw it.
#[derive(Debug)]
pub enum Outcome {
    Answered(Bytes),
    Streamed(Vec<u8>, Option<Fault>),
    Failed(Fault),
    Left,
    NoFunction,
    /// The bound of its time passed without one.
    Nothing,
}

#[derive(Debug)]
pub struct Oracle {
    begun: Instant,
    account_limit: u32,
    budget_mib: u32,
    calm_plan: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: String,
    violations: Vec<String>,
    functions: Vec<Known>,
    calls: BTreeMap<usize, Under>,
    started: u32,
    seats: BTreeMap<u64, Seat>,
    /// Something was seen to happen.
    moved: Option<Instant>,
    healed: bool,
    pub tally: BTreeMap<&'static str, u32>,
}

/// A function as the last change left it.
#[derive(Debug)]
struct Known {
    latest: Deployed,
    versions: BTreeMap<u64, Settings>,
    /// Where its alias points: at a version, and at another with a share in hundred.
    alias: Option<(u64, Option<(u64, u32)>)>,
}

/// What runs a call.
#[derive(Debug, Clone)]
struct Deployed {
    id: String,
    version: VersionId,
    /// `None`: there is no such function, or version.
    settings: Option<Settings>,
}

impl Known {
    /// What has to run a call, by what was chosen for it.
    fn expected(&self, by_alias: bool, chosen: Option<VersionId>) -> Result<Deployed, String> {
        let Some(latest) = self.latest.settings.as_ref().filter(|_| by_alias) else {
            return Ok(self.latest.clone());
        };
        let none = Deployed {
            settings: None,
            ..self.latest.clone()
        };
        let Some((first, second)) = self.alias else {
            return Ok(none);
        };
        let may = |number: u64| match second {
            Some((second, share)) if second == number => share > 0,
            Some((_, share)) => first == number && share < 100,
            None => first == number,
        };
        match chosen {
            Some(VersionId::Number(number)) if may(number) => Ok(Deployed {
                version: VersionId::Number(number),
                // Within the function's limit of today.
                settings: self.versions.get(&number).map(|published| Settings {
                    limit: latest.limit,
                    ..published.clone()
                }),
                ..none
            }),
            other => Err(format!("{other:?} was chosen, of {:?}", self.alias)),
        }
    }
}

/// A call under way, or ended.
#[derive(Debug)]
struct Under {
    plan: Call,
    /// In which order it was admitted, if it was.
    order: u32,
    since: Instant,
    /// What it must be answered by.
    expected: Deployed,
    invoked_on: Option<u64>,
    ended: Option<Instant>,
}

/// A container.
#[derive(Debug, Default)]
struct Seat {
    memory: u32,
    greeted: bool,
    /// Whose it is, which settings it has and which version it is, once INIT said so.
    init: Option<(String, u32, String)>,
    ready: bool,
    running: Option<usize>,
    lied: bool,
    /// Since when anybody who looks sees that it cannot be used.
    unusable: Option<Instant>,
    ended: bool,
}

impl Known {
    fn new(latest: Deployed) -> Self {
        Self {
            latest,
            versions: BTreeMap::new(),
            alias: None,
        }
    }
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        Self {
            begun: clock::now(),
            account_limit: plan.instance.account_limit,
            budget_mib: plan.instance.budget_mib,
            calm_plan: plan.calm,
            state: Mutex::default(),
        }
    }

    pub fn failed(&self) -> bool {
        !self.state.lock().violations.is_empty()
    }

    pub fn finish(&self) -> (String, Vec<String>, BTreeMap<&'static str, u32>) {
        let mut state = self.state.lock();
        (
            std::mem::take(&mut state.log),
            std::mem::take(&mut state.violations),
            std::mem::take(&mut state.tally),
        )
    }

    pub fn note(&self, text: &str) {
        self.state.lock().line(self.begun, text);
    }

    pub fn violation(&self, what: &str) {
        self.state.lock().wrong(self.begun, what);
    }

    pub fn deployed(&self, index: usize, id: &str, settings: Option<&Settings>) {
        let mut state = self.state.lock();
        let text = match settings {
            Some(settings) => format!("deploy f{index} as {id}: {settings:?}"),
            None => format!("delete f{index}"),
        };
        state.line(self.begun, &text);
        let latest = Deployed {
            id: id.into(),
            version: VersionId::Latest,
            settings: settings.cloned(),
        };
        match state.functions.get_mut(index) {
            // The versions of a function live as long as it does.
            Some(known) if known.latest.id == id => known.latest = latest,
            Some(known) => *known = Known::new(latest),
            None => state.functions.push(Known::new(latest)),
        }
    }

    pub fn published(&self, index: usize, number: u64) {
        let mut state = self.state.lock();
        state.line(self.begun, &format!("publish f{index} as {number}"));
        let known = &mut state.functions[index];
        let settings = known.latest.settings.clone();
        known
            .versions
            .insert(number, settings.expect("it is there"));
    }

    pub fn pointed(&self, index: usize, first: u64, second: Option<(u64, u32)>) {
        let mut state = self.state.lock();
        state.line(self.begun, &format!("f{index}:live is {first}, {second:?}"));
        state.functions[index].alias = Some((first, second));
    }

    /// Just before the scheduler hears of it; `chosen` is the version it was resolved to, if there is one.
    pub fn call_started(&self, number: usize, plan: Call, chosen: Option<VersionId>) {
        let mut state = self.state.lock();
        let by = if plan.alias { ":live" } else { "" };
        let to = chosen.map_or_else(|| "nothing".into(), |version| version.to_string());
        let text = format!(
            "call {number} of f{}{by}, to {to}: {:?}",
            plan.function, plan.does
        );
        state.line(self.begun, &text);
        state.started += 1;
        let known = &state.functions[plan.function];
        let expected = known.expected(plan.alias, chosen);
        let latest = known.latest.clone();
        let expected = expected.unwrap_or_else(|why| {
            state.wrong(self.begun, &format!("call {number}: {why}"));
            latest
        });
        let under = Under {
            plan,
            order: state.started,
            since: clock::now(),
            expected,
            invoked_on: None,
            ended: None,
        };
        state.calls.insert(number, under);
    }

    pub fn call_ended(&self, number: usize, outcome: &Outcome) {
        let mut state = self.state.lock();
        let text = match outcome {
            Outcome::Answered(body) => format!("answered, {} bytes", body.len()),
            Outcome::Streamed(body, end) => {
                format!("streamed {} bytes, {}", body.len(), code(end.as_ref()))
            }
            Outcome::Failed(fault) => format!("failed: {}", code(Some(fault))),
            other => format!("{other:?}"),
        };
        state.line(self.begun, &format!("call {number} ended: {text}"));
        *state.tally.entry(label(outcome)).or_default() += 1;
        let healed = state.healed;
        let Some(call) = state.calls.get_mut(&number) else {
            return;
        };
        call.ended = Some(clock::now());
        let on = call.invoked_on;
        let mut judged = judge(number, call, outcome, self.calm_plan, healed);
        let excused = on
            .and_then(|container| state.seats.get(&container))
            .is_some_and(|seat| seat.lied);
        if excused && matches!(outcome, Outcome::Failed(Fault::Protocol(_))) {
            // The worker had said something of its own before this call came to it.
            judged = Ok(());
        }
        if let Err(why) = judged {
            state.wrong(self.begun, &format!("call {number}: {why}: {outcome:?}"));
        }
    }

    /// The faults have ended: from now on everybody is served.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.healed = true;
        state.line(self.begun, "the weather calms down");
    }

    /// Calls that have no outcome yet.
    pub fn open_calls(&self) -> usize {
        let state = self.state.lock();
        state
            .calls
            .values()
            .filter(|call| call.ended.is_none())
            .count()
    }

    /// Containers that there are, and what they count for.
    pub fn seats(&self) -> (usize, u32) {
        let state = self.state.lock();
        (
            state.seats.len(),
            state.seats.values().map(Seat::counted).sum(),
        )
    }

    /// Looks for callers whom everybody has forgotten: they wait, and nothing is under way anywhere.
    pub fn look(&self, engine_busy: bool, uncleared: bool) {
        let mut state = self.state.lock();
        let waiting = state
            .calls
            .iter()
            .find(|(_, call)| call.ended.is_none() && call.invoked_on.is_none());
        let Some((&number, call)) = waiting else {
            return;
        };
        let active = engine_busy || state.seats.values().any(Seat::active);
        let now = clock::now();
        let since = state.moved.unwrap_or(call.since).max(call.since);
        let bound = if uncleared { STALL_UNCLEARED } else { STALL };
        let still = now.saturating_duration_since(since);
        if active {
            state.moved = Some(now);
        } else if still > bound {
            let what = format!("lost wake-up: call {number} waits, nothing moved for {still:?}");
            state.wrong(self.begun, &what);
        }
    }

    fn invoked(&self, state: &mut State, invoked: &Invoked) -> Result<usize, String> {
        let container = invoked.container;
        let number = number(&invoked.payload).ok_or("an unknown payload")?;
        let now = clock::now();
        let call = state.calls.get_mut(&number).ok_or("an unknown call")?;
        if let Some(other) = call.invoked_on.replace(container) {
            return Err(format!("call {number} was given to c{other} before"));
        }
        if call.ended.is_some_and(|at| at < now) {
            return Err(format!("call {number} had ended already"));
        }
        let expected = call.expected.clone();
        let seat = state.seats.get_mut(&container).ok_or("a lost container")?;
        if let Some(other) = seat.running.replace(number) {
            return Err(format!("call {other} still runs there"));
        }
        if !seat.ready || seat.ended {
            return Err("it was not ready".into());
        }
        if seat.unusable.is_some_and(|since| since < now) {
            return Err("it had shown that it cannot be used".into());
        }
        let settings = expected.settings.as_ref().ok_or("it was deleted")?;
        let init = seat.init.clone().unwrap_or_default();
        let version = expected.version.to_string();
        if init != (expected.id.clone(), settings.version, version) {
            return Err(format!("worker of {init:?} got a call for {expected:?}"));
        }
        let linked = std::fs::read_to_string(invoked.task.join("app.txt")).unwrap_or_default();
        if linked != code_text(settings.code) {
            return Err(format!("it has {linked:?}, expected code {settings:?}"));
        }
        self.within_limits(state, &expected.id)?;
        Ok(number)
    }

    /// When a call was admitted, every call before it that runs now was under way. So the nth in the order of admission
    /// among those that run had room only if its limit was at least n.
    fn within_limits(&self, state: &State, id: &str) -> Result<(), String> {
        let mut running: Vec<&Under> = state
            .seats
            .values()
            .filter_map(|seat| state.calls.get(&seat.running?))
            .collect();
        running.sort_by_key(|call| call.order);
        if running.len() as u32 > self.account_limit {
            let (count, limit) = (running.len(), self.account_limit);
            return Err(format!("{count} run, over the account's limit of {limit}"));
        }
        let of_function = running.iter().filter(|call| call.expected.id == id);
        for (place, call) in of_function.enumerate() {
            let limit = call.expected.settings.as_ref().and_then(|s| s.limit);
            if limit.is_some_and(|limit| place as u32 >= limit) {
                let place = place + 1;
                return Err(format!("{place} run, over the function's {limit:?}"));
            }
        }
        Ok(())
    }

    fn within_budget(&self, state: &mut State) {
        let sum: u32 = state.seats.values().map(Seat::counted).sum();
        if sum > self.budget_mib {
            let budget = self.budget_mib;
            state.wrong(self.begun, &format!("{sum} MiB in use of {budget}"));
        }
    }
}

impl Watch for Oracle {
    fn see(&self, seen: Seen<'_>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let text = match &seen {
            Seen::Invoked(invoked) => {
                let call = number(&invoked.payload);
                format!("c{} INVOKE call {call:?}", invoked.container)
            }
            Seen::Init { container, init } => {
                format!("c{container} INIT {}", init["environment"])
            }
            other => format!("{other:?}"),
        };
        state.line(self.begun, &text);
        match seen {
            Seen::Starting { container, memory } => {
                let seat = Seat {
                    memory,
                    ..Seat::default()
                };
                state.seats.insert(container, seat);
                self.within_budget(state);
            }
            Seen::NotStarted { container } | Seen::Removed { container } => {
                state.seats.remove(&container);
            }
            Seen::Limited { container, memory } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    seat.memory = memory;
                }
                self.within_budget(state);
            }
            Seen::Greeted { container } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    seat.greeted = true;
                }
            }
            Seen::Init { container, init } => {
                let of = init["environment"]["OF"].as_str().unwrap_or_default();
                let version = init["environment"]["VERSION"].as_str();
                let version = version.and_then(|v| v.parse().ok()).unwrap_or_default();
                let number = init["function_version"].as_str().unwrap_or_default();
                if let Some(seat) = state.seats.get_mut(&container) {
                    // What it does in the moment that it is given its function, nobody could see before that was sent. From then on it
                    // may be the function's doing, whose one call it then serves, and ends.
                    seat.unusable = seat.unusable.filter(|since| *since < clock::now());
                    seat.init = Some((of.into(), version, number.into()));
                    seat.memory = init["memory_mb"].as_u64().unwrap_or_default() as u32;
                }
                self.within_budget(state);
            }
            Seen::Ready { container } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    seat.ready = true;
                }
            }
            Seen::Invoked(invoked) => {
                if let Err(what) = self.invoked(state, invoked) {
                    let container = invoked.container;
                    state.wrong(self.begun, &format!("c{container} got an INVOKE: {what}"));
                }
            }
            Seen::Done { container } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    seat.running = None;
                }
            }
            Seen::Lied {
                container, idle, ..
            } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    seat.lied = true;
                    if idle {
                        seat.unusable.get_or_insert(clock::now());
                    }
                }
            }
            Seen::Wrong { container, what } => {
                state.wrong(self.begun, &format!("c{container}: {what}"));
            }
            Seen::Ended { container, .. } => {
                if let Some(seat) = state.seats.get_mut(&container) {
                    (seat.ended, seat.running) = (true, None);
                }
            }
        }
    }
}

impl State {
    fn line(&mut self, begun: Instant, text: &str) {
        let now = clock::now();
        self.moved = Some(now);
        let ms = now.saturating_duration_since(begun).as_millis();
        writeln!(self.log, "{ms:>6} {text}").expect("a String takes everything");
    }

    fn wrong(&mut self, begun: Instant, what: &str) {
        self.line(begun, &format!("WRONG: {what}"));
        self.violations.push(what.into());
    }
}

impl Seat {
    /// What it counts for: before a function has it, a container made for one is no more than a stem worker.
    fn counted(&self) -> u32 {
        match self.init {
            Some(_) => self.memory,
            None => self.memory.min(STEM_MEMORY),
        }
    }

    /// Something goes on in it.
    fn active(&self) -> bool {
        let loads = self.init.is_some() && !self.ready;
        !self.ended && (!self.greeted || loads || self.running.is_some())
    }
}

/// The call a payload, or an answer, is of.
pub fn number(payload: &[u8]) -> Option<usize> {
    let payload: Value = serde_json::from_slice(payload).ok()?;
    payload["call"].as_u64().map(|n| n as usize)
}

/// What is in a code package.
pub fn code_text(code: usize) -> String {
    format!("code {code}")
}

fn code(fault: Option<&Fault>) -> &'static str {
    fault.map_or("well", Fault::code)
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(_) => "answered",
        Outcome::Streamed(_, None) => "streamed",
        Outcome::Streamed(_, Some(_)) => "stream cut",
        Outcome::Failed(fault) => fault.code(),
        Outcome::Left => "left",
        Outcome::NoFunction => "not_found",
        Outcome::Nothing => "nothing",
    }
}

/// Whether a call may end so.
fn judge(
    number: usize,
    call: &Under,
    outcome: &Outcome,
    calm: bool,
    healed: bool,
) -> Result<(), String> {
    let does = call.plan.does;
    let runs = call.invoked_on.is_some();
    let ok = |good: bool, why: &str| if good { Ok(()) } else { Err(why.to_owned()) };
    let fault = match outcome {
        Outcome::Nothing => return Err("no outcome within its bound".into()),
        Outcome::Left => return ok(call.plan.leaves.is_some(), "nobody left"),
        Outcome::NoFunction => {
            return ok(call.expected.settings.is_none(), "the function is there");
        }
        Outcome::Answered(body) => {
            answers(does)?;
            return answer_of(number, call, body);
        }
        Outcome::Streamed(body, end) => {
            let Does::Stream(planned) = does else {
                return Err("nothing was streamed".into());
            };
            if planned == StreamEnd::Well && end.is_none() {
                return answer_of(number, call, body);
            }
            let ended = match end {
                None => false,
                Some(Fault::Handler(_)) => planned == StreamEnd::Fail,
                Some(Fault::Exited { .. }) => planned == StreamEnd::Exit,
                Some(Fault::Timeout(_)) => planned == StreamEnd::Hang,
                Some(Fault::Protocol(_)) => {
                    matches!(planned, StreamEnd::Garbage | StreamEnd::Exit)
                }
                Some(_) => false,
            };
            return ok(ended, "the stream ends otherwise");
        }
        Outcome::Failed(fault) => fault,
    };
    ok(
        call.expected.settings.is_some(),
        "the function was not there",
    )?;
    match fault {
        Fault::Handler(report) => {
            ok(runs && report.message == number.to_string(), "not its own")?;
            ok(matches!(does, Does::Fail | Does::FailLast), "did not fail")
        }
        Fault::PayloadNotJson(_) => ok(runs && does == Does::RefusePayload, "did not refuse"),
        Fault::Timeout(_) => ok(runs && does.may_be_late(), "it was not late"),
        Fault::Throttled { .. } => ok(!runs && !healed, "it must be admitted"),
        Fault::WaitedTooLong(_) | Fault::NoMemory(_) => {
            ok(!runs, "it had a worker")?;
            let waited = clock::now().saturating_duration_since(call.since);
            let whole = waited >= crate::sim::world::MAX_WAIT;
            ok(whole && !healed, "it gave up too early")
        }
        Fault::Exited { .. } => {
            let does = matches!(does, Does::Exit | Does::RunOutOfMemory);
            ok(runs, "it was given a dead worker")?;
            ok(does || !calm && !healed, "its worker did not exit")
        }
        Fault::OutOfMemory { .. } => ok(runs && does == Does::RunOutOfMemory, "it did not"),
        Fault::Protocol(_) => {
            let does = does.is_lie() || matches!(does, Does::Exit | Does::RunOutOfMemory);
            ok(does || !calm && !healed, "nobody lied")
        }
        Fault::StartFailed(_)
        | Fault::Loading(_)
        | Fault::CodeUnavailable(_)
        | Fault::Init(_)
        | Fault::InitTimeout(_) => ok(!runs && !calm && !healed, "it must be served"),
        _ => Err("no call ends so".into()),
    }
}

fn answers(does: Does) -> Result<(), String> {
    match does {
        Does::Answer | Does::AnswerLarge | Does::CloseLog | Does::AnswerTwice => Ok(()),
        _ => Err("it did not answer".into()),
    }
}

/// An answer must be to this call, from the version that was current when it began.
fn answer_of(call: usize, under: &Under, body: &[u8]) -> Result<(), String> {
    if number(body) != Some(call) {
        return Err("it is another call's answer".into());
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let Some(settings) = &under.expected.settings else {
        return Err("the function was deleted".into());
    };
    let from = (
        answer["of"].as_str().unwrap_or_default(),
        answer["version"].as_str().unwrap_or_default(),
        answer["code"].as_str().unwrap_or_default(),
    );
    let expected = (
        under.expected.id.as_str(),
        settings.version.to_string(),
        code_text(settings.code),
    );
    if from != (expected.0, &expected.1, &expected.2) {
        return Err(format!("old code answered: {from:?}, not {expected:?}"));
    }
    Ok(())
}
