//! One version's workers and line. A pure state machine: it is told what happened and the time, and returns what has to be
//! done; it holds no lock, reads no clock and knows neither sockets nor tasks. `W` is a worker, `T` a way to hand one over.
//!
//! ```text
//!   lease ──▶ idle worker? ──yes──▶ busy += 1, caller runs
//!               │ no
//!   join  ──▶ line (bounded) ──▶ reserve_start? ──▶ starting += 1 ──▶ started / start_failed
//!   give_back ──▶ somebody in line? ──yes──▶ handed over (stays busy) · no ──▶ idle · closed ──▶ out
//! ```
//!
//! Moved by: calling tasks (lease, join, leave, give_back), start tasks (started, start_failed), the keeper (the rest); all
//! under the slot's one lock, in `pool::index`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::invocation::StartReason;
use crate::domain::start::Cause;
use crate::pool::policy::{self, Costs, Runs, Urgency, View};

#[derive(Debug)]
pub struct State<W, T> {
    /// Newest last: the one used last is the warmest, and the rest can age.
    idle: Vec<(W, Instant)>,
    line: VecDeque<Waiting<T>>,
    line_depth: usize,
    busy: usize,
    /// Starts that were reserved and have not ended, oldest first. Whichever of them is ready first is counted as the oldest: it serves
    /// the first in line, for whom that one was.
    needs: VecDeque<Need>,
    /// Of those, the ones whose worker loads the code.
    loading: usize,
    /// Deployed over: serves who is in line, then ends.
    closed: bool,
    tickets: u64,
    /// How long calls ran, and when that was looked at last.
    runs: Option<(Runs, Instant)>,
    /// Why the next call that finds no worker at all finds none.
    absence: Cause,
    /// So many workers are to be there, whether or not anybody calls.
    provisioned: usize,
    /// Starts that failed since the last that did not; those for nobody wait longer and longer.
    failures: u32,
    not_before: Option<Instant>,
}

/// The longest that a start for nobody waits after failed ones.
const PROVISION_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long it takes to forget that calls were once faster. Long beside the time in which workers are added.
const BASE_LASTS: Duration = Duration::from_secs(10);

/// Why a start was reserved, and when.
#[derive(Debug, Clone)]
pub struct Need {
    pub cause: Cause,
    pub since: Instant,
}

/// A caller in line.
#[derive(Debug)]
pub struct Waiting<T> {
    pub ticket: Ticket,
    pub token: T,
    pub since: Instant,
    /// Why it has to wait.
    pub reason: StartReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Where a worker went.
#[derive(Debug)]
pub enum Given<W, T> {
    /// The first in line gets it.
    To(Waiting<T>, W),
    Idle,
    /// The slot is closed: nobody will want it.
    Out(W),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub idle: usize,
    pub busy: usize,
    pub starting: usize,
    pub waiting: usize,
}

/// The line is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<W, T> State<W, T> {
    /// `absence`: why there is no worker yet.
    pub fn new(line_depth: usize, absence: Cause) -> Self {
        Self {
            idle: Vec::new(),
            line: VecDeque::new(),
            line_depth,
            busy: 0,
            needs: VecDeque::new(),
            loading: 0,
            closed: false,
            tickets: 0,
            runs: None,
            absence,
            provisioned: 0,
            failures: 0,
            not_before: None,
        }
    }

    /// An idle worker, if there is one.
    pub fn lease(&mut self) -> Option<W> {
        let (worker, _) = self.idle.pop()?;
        self.busy += 1;
        Some(worker)
    }

    /// Puts a caller in line. The caller decides with `reserve_start` whether a worker is started for it.
    pub fn join(&mut self, token: T, now: Instant) -> Result<Ticket, Full> {
        if self.line.len() >= self.line_depth {
            return Err(Full);
        }
        let reason = if self.busy + self.needs.len() > 0 {
            StartReason::AllBusy
        } else {
            self.absence.reason()
        };
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.line.push_back(Waiting {
            ticket,
            token,
            since: now,
            reason,
        });
        Ok(ticket)
    }

    /// A caller gives up. `None`: it was handed a worker, or failed, just before.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.line.binary_search_by_key(&ticket, |w| w.ticket).ok()?;
        self.line.remove(place).map(|w| w.token)
    }

    /// Reserves one start if it is worth it.
    pub fn reserve_start(&mut self, now: Instant, costs: &Costs) -> Option<Urgency> {
        let oldest_wait = self
            .line
            .front()
            .map_or(Duration::ZERO, |w| now.saturating_duration_since(w.since));
        let view = View {
            waiting: self.line.len(),
            oldest_wait,
            busy: self.busy,
            starting: self.needs.len(),
            runs: self.runs.map(|(runs, _)| runs),
        };
        let Some(urgency) = policy::wants_start(&view, costs) else {
            return self.reserve_provisioned(now);
        };
        let cause = match self.busy + self.needs.len() {
            0 => self.absence.clone(),
            workers => Cause::ScaleOut { workers },
        };
        self.needs.push_back(Need { cause, since: now });
        Some(urgency)
    }

    /// From now on so many workers are kept ready.
    pub fn provision(&mut self, count: usize) {
        self.provisioned = if self.closed { 0 } else { count };
        self.failures = 0;
        self.not_before = None;
    }

    /// Reserves one start if there are fewer workers than are to be kept ready.
    pub fn reserve_provisioned(&mut self, now: Instant) -> Option<Urgency> {
        let there = self.idle.len() + self.busy + self.needs.len();
        if there >= self.provisioned || self.not_before.is_some_and(|then| now < then) {
            return None;
        }
        self.needs.push_back(Need {
            cause: Cause::Provisioned,
            since: now,
        });
        Some(Urgency::Provision)
    }

    /// How many workers are to be kept ready.
    pub fn provisioned(&self) -> usize {
        self.provisioned
    }

    /// Idle workers beyond those that are to be kept.
    fn spare(&self) -> usize {
        let workers = self.idle.len() + self.busy;
        self.idle
            .len()
            .min(workers.saturating_sub(self.provisioned))
    }

    /// Whether a start that was reserved earlier still has somebody to serve. If not, it is given back.
    pub fn confirm_start(&mut self) -> bool {
        let lacking = self.provisioned.saturating_sub(self.idle.len() + self.busy);
        let wanted = self.needs.len() <= self.line.len().max(lacking);
        if !wanted {
            // The newest: those before it are for those who came before.
            self.needs.pop_back().expect("a start was reserved");
        }
        wanted
    }

    /// A worker of a reserved start begins to load the code. Whether it is one of those that are kept ready: they come first.
    pub fn loads(&mut self) -> bool {
        let before = self.idle.len() + self.busy + self.loading;
        self.loading += 1;
        before < self.provisioned
    }

    /// It did not come to anything; the start still has to be told failed.
    pub fn unloaded(&mut self) {
        self.loading = self.loading.saturating_sub(1);
    }

    /// A reserved start is ready.
    pub fn started(&mut self, worker: W, now: Instant) -> (Given<W, T>, Need) {
        let need = self.unreserve();
        self.unloaded();
        self.failures = 0;
        self.not_before = None;
        self.busy += 1;
        (self.place(worker, now), need)
    }

    /// A reserved start failed: who must be told. When no worker is left, everybody: they would all meet the same failure, one
    /// start after the other. While others live, only the first in line, for whom it was; and nobody if it was not the
    /// function's doing (`of_platform`), because a busy worker will serve them all the same.
    pub fn start_failed(&mut self, of_platform: bool, now: Instant) -> (Vec<T>, Need) {
        let need = self.unreserve();
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_secs(1 << self.failures.min(6)).min(PROVISION_PAUSE_MAX);
        self.not_before = Some(now + pause);
        let alone = self.busy + self.idle.len() + self.needs.len() == 0;
        let count = match (alone, of_platform) {
            (true, _) => self.line.len(),
            (false, true) => 0,
            (false, false) => usize::from(!self.line.is_empty()),
        };
        (self.line.drain(..count).map(|w| w.token).collect(), need)
    }

    /// A call ended and its worker can serve the next.
    pub fn give_back(&mut self, worker: W, now: Instant, ran: Duration) -> Given<W, T> {
        self.ran(ran, now);
        self.place(worker, now)
    }

    /// A busy worker is gone.
    pub fn lost(&mut self, why: Cause) {
        self.busy = self.busy.checked_sub(1).expect("a busy worker was lost");
        self.absence = why;
    }

    /// An idle worker is gone, or must go: the first that `which` names.
    pub fn take_idle(
        &mut self,
        which: impl Fn(&W) -> bool,
        why: impl FnOnce(&W) -> Cause,
    ) -> Option<W> {
        let place = self.idle.iter().position(|(worker, _)| which(worker))?;
        let (worker, _) = self.idle.remove(place);
        self.absence = why(&worker);
        Some(worker)
    }

    /// The longest idle worker, to make room, if it need not be kept.
    pub fn evict(&mut self, why: Cause) -> Option<W> {
        (self.spare() > 0).then(|| self.take_idle(|_| true, |_| why))?
    }

    /// Every worker idle for longer than the keep-alive that need not be kept.
    pub fn expire(&mut self, now: Instant, keep_alive: Duration, why: Cause) -> Vec<W> {
        let young = |since: &Instant| now.saturating_duration_since(*since) < keep_alive;
        let count = self
            .idle
            .iter()
            .take(self.spare())
            .take_while(|(_, since)| !young(since))
            .count();
        if count > 0 {
            self.absence = why;
        }
        self.idle.drain(..count).map(|(worker, _)| worker).collect()
    }

    /// No more calls will come; the idle workers go.
    pub fn close(&mut self) -> Vec<W> {
        self.closed = true;
        self.provisioned = 0;
        self.idle.drain(..).map(|(worker, _)| worker).collect()
    }

    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Closed, and nothing under way.
    pub fn spent(&self) -> bool {
        self.closed
            && self.busy == 0
            && self.needs.is_empty()
            && self.line.is_empty()
            && self.idle.is_empty()
    }

    pub fn counts(&self) -> Counts {
        Counts {
            idle: self.idle.len(),
            busy: self.busy,
            starting: self.needs.len(),
            waiting: self.line.len(),
        }
    }

    pub fn idle(&self) -> impl Iterator<Item = &W> {
        self.idle.iter().map(|(worker, _)| worker)
    }

    /// Since when the longest idle worker is that need not be kept.
    pub fn oldest_idle(&self) -> Option<Instant> {
        let (_, since) = self.idle.first().filter(|_| self.spare() > 0)?;
        Some(*since)
    }

    fn ran(&mut self, ran: Duration, now: Instant) {
        let Some((runs, since)) = &mut self.runs else {
            let runs = Runs {
                mean: ran,
                base: ran,
            };
            self.runs = Some((runs, now));
            return;
        };
        // An eighth of the way: a few calls set it, one odd call does not.
        runs.mean = (runs.mean * 7 + ran) / 8;
        let passed = now.saturating_duration_since(*since);
        let share = (passed.as_secs_f64() / BASE_LASTS.as_secs_f64()).min(1.0);
        let above = runs.mean.saturating_sub(runs.base);
        runs.base = runs.mean.min(runs.base + above.mul_f64(share));
        *since = now;
    }

    fn place(&mut self, worker: W, now: Instant) -> Given<W, T> {
        if let Some(waiting) = self.line.pop_front() {
            return Given::To(waiting, worker);
        }
        self.busy = self.busy.checked_sub(1).expect("the worker was busy");
        if self.closed {
            return Given::Out(worker);
        }
        self.idle.push((worker, now));
        Given::Idle
    }

    fn unreserve(&mut self) -> Need {
        self.needs.pop_front().expect("a start was reserved")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const COSTS: Costs = Costs {
        start: Duration::from_millis(400),
        eager_workers: 2,
    };

    const AT: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn crashed() -> Cause {
        Cause::Crashed {
            at: AT,
            how: "died",
        }
    }

    fn retired() -> Cause {
        Cause::KeepAlive { at: AT }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Call,
        Leave(usize),
        Finish(usize),
        Lose(usize),
        Started,
        StartFailed(bool),
        Confirm,
        Evict,
        Provision(usize),
        Expire,
        IdleDies(u32),
        Close,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            6 => Just(Event::Call),
            1 => (0usize..8).prop_map(Event::Leave),
            4 => (0usize..8).prop_map(Event::Finish),
            1 => (0usize..8).prop_map(Event::Lose),
            4 => Just(Event::Started),
            1 => any::<bool>().prop_map(Event::StartFailed),
            1 => Just(Event::Confirm),
            1 => Just(Event::Evict),
            1 => (0usize..4).prop_map(Event::Provision),
            1 => Just(Event::Expire),
            1 => (0u32..40).prop_map(Event::IdleDies),
            1 => Just(Event::Close),
        ];
        prop::collection::vec(event, 1..300)
    }

    /// The model: who holds which worker, as sets. The machine must agree with it after every event.
    #[derive(Default)]
    struct Model {
        idle: HashSet<u32>,
        busy: Vec<u32>,
        line: Vec<(Ticket, u32)>,
        starting: usize,
        outcomes: HashSet<u32>,
        closed: bool,
        /// So many workers are not taken away.
        provisioned: usize,
    }

    impl Model {
        fn given(&mut self, given: Given<u32, u32>, worker: u32) -> Result<(), TestCaseError> {
            match given {
                Given::To(waiting, w) => {
                    prop_assert_eq!(w, worker);
                    prop_assert_eq!(
                        (waiting.ticket, waiting.token),
                        self.line.remove(0),
                        "first come, first served"
                    );
                    prop_assert!(
                        self.outcomes.insert(waiting.token),
                        "a caller is served once"
                    );
                    self.busy.push(w);
                }
                Given::Idle => {
                    prop_assert!(
                        self.line.is_empty(),
                        "no lost wake-up: a worker idles only when nobody waits"
                    );
                    prop_assert!(!self.closed);
                    self.idle.insert(worker);
                }
                Given::Out(w) => {
                    prop_assert_eq!(w, worker);
                    prop_assert!(self.closed && self.line.is_empty());
                }
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn random_schedules_agree_with_the_model(events in events()) {
            let mut state: State<u32, u32> = State::new(5, Cause::FirstCall);
            let mut model = Model::default();
            let (mut now, mut next_worker, mut next_caller) = (crate::clock::now(), 0u32, 0u32);
            for event in events {
                now += Duration::from_millis(50);
                match event {
                    Event::Call => {
                        let caller = next_caller;
                        next_caller += 1;
                        match state.lease() {
                            Some(worker) => {
                                prop_assert!(model.idle.remove(&worker), "only idle workers are leased");
                                prop_assert!(model.outcomes.insert(caller));
                                model.busy.push(worker);
                            }
                            None => {
                                prop_assert!(model.idle.is_empty());
                                match state.join(caller, now) {
                                    Ok(ticket) => model.line.push((ticket, caller)),
                                    Err(Full) => {
                                        prop_assert_eq!(model.line.len(), 5);
                                        model.outcomes.insert(caller);
                                    }
                                }
                                if state.reserve_start(now, &COSTS).is_some() {
                                    model.starting += 1;
                                }
                                prop_assert!(
                                    model.line.is_empty() || model.starting + model.busy.len() > 0,
                                    "somebody waits and nothing is on its way"
                                );
                            }
                        }
                    }
                    Event::Leave(n) if !model.line.is_empty() => {
                        let (ticket, caller) = model.line.remove(n % model.line.len());
                        prop_assert_eq!(state.leave(ticket), Some(caller));
                        prop_assert_eq!(state.leave(ticket), None, "leaving twice is nothing");
                        model.outcomes.insert(caller);
                    }
                    Event::Finish(n) if !model.busy.is_empty() => {
                        let worker = model.busy.remove(n % model.busy.len());
                        let given = state.give_back(worker, now, Duration::from_millis(20));
                        model.given(given, worker)?;
                    }
                    Event::Lose(n) if !model.busy.is_empty() => {
                        model.busy.remove(n % model.busy.len());
                        state.lost(crashed());
                        // What the pool does after every loss.
                        if state.reserve_start(now, &COSTS).is_some() {
                            model.starting += 1;
                        }
                        prop_assert!(model.line.is_empty() || model.starting + model.busy.len() > 0);
                    }
                    Event::Started if model.starting > 0 => {
                        model.starting -= 1;
                        let worker = next_worker;
                        next_worker += 1;
                        let (given, _) = state.started(worker, now);
                        model.given(given, worker)?;
                    }
                    Event::StartFailed(of_platform) if model.starting > 0 => {
                        model.starting -= 1;
                        let others = model.starting + model.busy.len() + model.idle.len();
                        let (told, _) = state.start_failed(of_platform, now);
                        prop_assert!(told.is_empty() || others == 0 || !of_platform);
                        for caller in told {
                            prop_assert_eq!(caller, model.line.remove(0).1);
                            prop_assert!(model.outcomes.insert(caller));
                        }
                        prop_assert!(model.line.is_empty() || model.starting + model.busy.len() + model.idle.len() > 0);
                    }
                    Event::Confirm if model.starting > 0 && !state.confirm_start() => {
                        prop_assert!(model.line.len() < model.starting);
                        model.starting -= 1;
                    }
                    Event::Provision(count) => {
                        state.provision(count);
                        model.provisioned = if model.closed { 0 } else { count };
                        while state.reserve_provisioned(now).is_some() {
                            model.starting += 1;
                        }
                        let there = model.idle.len() + model.busy.len() + model.starting;
                        prop_assert!(there >= model.provisioned);
                    }
                    Event::Evict => match state.evict(crashed()) {
                        Some(worker) => prop_assert!(model.idle.remove(&worker), "a busy worker is never evicted"),
                        None => prop_assert!(
                            model.idle.is_empty()
                                || model.idle.len() + model.busy.len() <= model.provisioned
                        ),
                    },
                    Event::Expire => for worker in state.expire(now, Duration::from_millis(500), crashed()) {
                        prop_assert!(model.idle.remove(&worker));
                    },
                    Event::IdleDies(which) => {
                        let died = state.take_idle(|w| *w == which, |_| crashed());
                        prop_assert_eq!(died.is_some(), model.idle.remove(&which));
                    }
                    Event::Close => {
                        model.closed = true;
                        model.provisioned = 0;
                        for worker in state.close() {
                            prop_assert!(model.idle.remove(&worker));
                        }
                    }
                    _ => {}
                }
                let counts = state.counts();
                prop_assert_eq!(counts.idle, model.idle.len());
                prop_assert_eq!(counts.busy, model.busy.len());
                prop_assert_eq!(counts.starting, model.starting);
                prop_assert_eq!(counts.waiting, model.line.len());
            }
            // No call without an outcome: end everything that is under way, and nobody is left.
            while model.starting > 0 {
                model.starting -= 1;
                next_worker += 1;
                let (given, _) = state.started(next_worker, now);
                model.given(given, next_worker)?;
            }
            while let Some(worker) = model.busy.pop() {
                let given = state.give_back(worker, now, Duration::ZERO);
                model.given(given, worker)?;
            }
            prop_assert!(model.line.is_empty());
            prop_assert_eq!(model.outcomes.len() as u32, next_caller);
        }
    }

    #[test]
    fn a_start_has_the_cause_of_when_it_was_reserved() {
        let now = crate::clock::now();
        let mut state: State<u32, u32> = State::new(5, Cause::VersionChanged);
        for caller in 0..3 {
            state.join(caller, now).expect("room");
            state.reserve_start(now, &COSTS).expect("nobody is busy");
        }
        // One leaves: the newest start is for nobody.
        assert!(state.leave(Ticket(0)).is_some());
        assert!(!state.confirm_start());
        let (_, first) = state.started(7, now);
        assert_eq!(first.cause, Cause::VersionChanged);
        let (_, second) = state.start_failed(false, now);
        assert_eq!(second.cause, Cause::ScaleOut { workers: 1 });
        // What happened last to a worker is why there is none.
        state.lost(crashed());
        state.join(9, now).expect("room");
        state.reserve_start(now, &COSTS).expect("nobody is busy");
        let later = now + Duration::from_secs(1);
        let (_, third) = state.started(8, later);
        assert_eq!((third.cause, third.since), (crashed(), now));
    }

    #[test]
    fn those_that_are_kept_ready_are_told_so() {
        let now = crate::clock::now();
        let mut state: State<u32, u32> = State::new(5, Cause::FirstCall);
        state.join(1, now).expect("room");
        state.reserve_start(now, &COSTS).expect("nobody is busy");
        assert!(!state.loads(), "nothing is kept ready");
        state.started(1, now);
        // The one there is counts.
        state.provision(2);
        assert!(state.reserve_provisioned(now).is_some());
        assert!(state.loads());
        assert!(!state.loads(), "one is there and one is on its way");
        state.unloaded();
        // The other comes to nothing: its successor takes its place, whoever it is started for.
        state.unloaded();
        state.start_failed(false, now);
        assert!(state.loads());
    }

    #[test]
    fn the_reason_for_a_wait_is_told() {
        let now = crate::clock::now();
        let mut state: State<u32, u32> = State::new(5, Cause::FirstCall);
        state.join(1, now).expect("room");
        state.reserve_start(now, &COSTS).expect("nobody else");
        state.join(2, now).expect("room");
        let (Given::To(first, worker), need) = state.started(7, now) else {
            unreachable!("one waits")
        };
        assert_eq!(first.reason, StartReason::FirstCall);
        assert_eq!(need.cause, Cause::FirstCall);
        let Given::To(second, worker) = state.give_back(worker, now, Duration::ZERO) else {
            unreachable!("one waits")
        };
        assert_eq!(second.reason, StartReason::AllBusy);
        assert!(matches!(
            state.give_back(worker, now, Duration::ZERO),
            Given::Idle
        ));
        assert_eq!(
            state.expire(
                now + Duration::from_secs(9),
                Duration::from_secs(5),
                retired()
            ),
            [7]
        );
        state.join(3, now).expect("room");
        state.reserve_start(now, &COSTS).expect("nobody else");
        let (Given::To(third, _), need) = state.started(8, now) else {
            unreachable!("one waits")
        };
        assert_eq!(third.reason, StartReason::Retired);
        assert_eq!(need.cause, retired());
    }
}
