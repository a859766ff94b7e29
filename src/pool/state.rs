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

impl Need {
    /// It is for workers that are kept ready, whether or not anybody calls.
    pub fn is_for_nobody(&self) -> bool {
        self.cause == Cause::Provisioned
    }
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

    /// A worker of a reserved start begins to load the code. Whether it is one of those that are kept ready: they come first. One that a
    /// call needs in the meantime is that call's, even if it is kept ready afterwards.
    pub fn loads(&mut self) -> bool {
        let before = self.idle.len() + self.busy + self.loading;
        self.loading += 1;
        before < self.provisioned && self.needs.iter().any(Need::is_for_nobody)
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
    /// function's doing (`of_platform`), because a busy worker will serve them all the same. A worker that was to be kept ready was nobody's:
    /// whoever came meanwhile gets a start whose own result counts.
    pub fn start_failed(&mut self, of_platform: bool, now: Instant) -> (Vec<T>, Need) {
        let need = self.unreserve();
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_secs(1 << self.failures.min(6)).min(PROVISION_PAUSE_MAX);
        self.not_before = Some(now + pause);
        let alone = self.busy + self.idle.len() + self.needs.len() == 0;
        let count = match (alone, of_platform) {
            _ if need.is_for_nobody() => 0,
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
mod tests;
