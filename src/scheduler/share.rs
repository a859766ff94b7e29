//! This process's part of the limits it shares with others: the lease, the blocks of permits under it, and the calls that wait for one.
//! One task, `asking::run`, has all dealings with the ledger (`store::permits`, where the reasoning is). A call that finds a permit here
//! never waits for it: one look at a clock more.
//!
//! A call that finds none waits for `permit_wait`, and on only for the ledger's word on it, and while that says that permits are on their
//! way: others have them idle. A limit that is used up is said at once, one that is not is never said to be because a machine was slow.

pub mod asking;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{self, Either};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::domain::fault::Fault;
use crate::scheduler::admit::{self, Full, Gate, Gates, Permit, UNLIMITED, Waiting};
use crate::store::permits::ledger::STALE_MILLIS;
use crate::telemetry::metrics;

/// An ask that is made so long after a call came is answered by what the other processes have said since, within what messages take.
const HEARD: Duration = Duration::from_millis(2 * STALE_MILLIS);

#[derive(Debug, Clone)]
pub struct Options {
    /// This process's name, the same after a restart.
    pub process: String,
    pub incarnation: String,
    /// The account's limit, over all processes.
    pub account: u32,
    pub lease: Duration,
    /// A call waits so long for a permit that is not here; longer only for one that is known to be on its way, and for the ledger's word.
    pub wait: Duration,
    /// So many calls may wait for one limit's.
    pub waiting: u32,
    /// From the end of a call's time to its kill.
    pub cancel_grace: Duration,
}

#[derive(Debug)]
pub struct Share {
    options: Options,
    /// Permits may be spent until then; nanoseconds of the clock that goes on while the process is stopped. Written by `run`.
    spendable_until: AtomicU64,
    /// How often permits that had been granted were lost. Written by `run`.
    losses: AtomicU32,
    /// When that was asked whose answer, or failure, was taken in last; by the same clock. Written by `run`.
    answered: AtomicU64,
    /// Told when a permit is wanted, or idle and wanted elsewhere.
    short: Arc<Notify>,
    /// Told when an ask was answered, or failed.
    heard: Notify,
    /// Changed only within the lock, so that what is read within it belongs together.
    gates: Mutex<BTreeMap<String, Known>>,
    longest_timeout: Mutex<Duration>,
}

/// A gate whose limit is shared.
#[derive(Debug)]
struct Known {
    gate: Weak<Gate>,
    /// Its limit is a part of the account's.
    part: bool,
}

/// Under which lease a call was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(u32);

/// Why a call cannot go on now.
enum Refused<'a> {
    Full(Full<'a>),
    RunOut,
}

impl Refused<'_> {
    fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Refused::Full(a), Refused::Full(b)) => Arc::ptr_eq(a.gate, b.gate),
            (Refused::RunOut, Refused::RunOut) => true,
            _ => false,
        }
    }
}

impl Share {
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            spendable_until: AtomicU64::new(0),
            losses: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            short: Arc::new(Notify::new()),
            heard: Notify::new(),
            gates: Mutex::default(),
            longest_timeout: Mutex::default(),
        })
    }

    /// A gate whose limit is shared under this name. `part`: of the account's limit.
    pub fn gate(&self, scope: &str, limit: u32, part: bool) -> Arc<Gate> {
        // Calls of a function that was deleted a moment ago may still be inside.
        let known = self.gates.lock().get(scope).map(|known| known.gate.clone());
        let gate = known.and_then(|gate| gate.upgrade());
        let gate = gate.unwrap_or_else(|| Gate::shared(UNLIMITED, self.short.clone()));
        self.limit(scope, &gate, limit, part);
        gate
    }

    /// Another limit for a gate of this name. One without is not asked for, and not even known here: most functions have none.
    pub fn limit(&self, scope: &str, gate: &Arc<Gate>, limit: u32, part: bool) {
        let mut gates = self.gates.lock();
        if limit < UNLIMITED {
            if !gates.contains_key(scope) {
                gates.retain(|_, known| known.gate.strong_count() > 0);
            }
            let gate = Arc::downgrade(gate);
            gates.insert(scope.into(), Known { gate, part });
        }
        gate.set_limit(limit);
    }

    /// The longest a call may run from now on. Calls under way may have been given longer.
    pub fn set_longest_timeout(&self, timeout: Duration) {
        *self.longest_timeout.lock() = timeout;
    }

    /// Takes a place under every limit, if need be after a wait for a permit from the others, at most until the deadline. Dropping it is
    /// safe.
    pub async fn admit(
        &self,
        gates: Gates<'_>,
        deadline: Instant,
    ) -> Result<(Permit, Term), Fault> {
        match self.try_admit(gates, clock::since_boot()) {
            Ok(admitted) => Ok(admitted),
            Err(refused) => counted(Box::pin(self.wait(gates, refused, deadline)).await),
        }
    }

    /// The same at whichever of two places there is room first, for a call that has found none at either; it is told why it was refused at the
    /// second. It is one call that waits.
    pub async fn admit_at_either(
        &self,
        first: Gates<'_>,
        second: Gates<'_>,
        deadline: Instant,
    ) -> Result<(Permit, Term), Fault> {
        let waits = async |gates| match self.try_admit(gates, clock::since_boot()) {
            Ok(admitted) => Ok(admitted),
            Err(refused) => self.wait(gates, refused, deadline).await,
        };
        let (first, second) = (Box::pin(waits(first)), Box::pin(waits(second)));
        counted(match future::select(first, second).await {
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(refused), first)) => first.await.map_err(|_also| refused),
            Either::Left((admitted, _)) | Either::Right((admitted, _)) => admitted,
        })
    }

    /// The same without any waiting; what was lacking is asked for, for those who come later.
    pub fn admit_now(&self, gates: Gates<'_>) -> Option<(Permit, Term)> {
        match self.try_admit(gates, clock::since_boot()) {
            Ok(admitted) => Some(admitted),
            Err(_refused) => {
                self.short.notify_one();
                None
            }
        }
    }

    /// The same for who is no call, and comes again by itself: it is not counted.
    pub async fn admit_or_come_again(&self, gates: Gates<'_>) -> Option<(Permit, Term)> {
        match self.try_admit(gates, clock::since_boot()) {
            Ok(admitted) => Some(admitted),
            Err(refused) => {
                let deadline = clock::now() + self.options.wait + 2 * self.options.lease;
                let waited = Box::pin(self.wait(gates, refused, deadline)).await;
                waited.ok()
            }
        }
    }

    /// Whether a call that was admitted under `term` may still begin. Its place may have been given to others while it waited.
    pub fn still(&self, term: Term) -> bool {
        self.still_at(term, clock::since_boot())
    }

    fn still_at(&self, term: Term, now: Duration) -> bool {
        self.spendable(now) && term == self.term()
    }

    fn try_admit<'a>(
        &self,
        gates: Gates<'a>,
        now: Duration,
    ) -> Result<(Permit, Term), Refused<'a>> {
        // First, so that a loss between the two steps is seen by `still`.
        let term = self.term();
        if !self.spendable(now) {
            return Err(Refused::RunOut);
        }
        let permit = admit::admit(gates).map_err(Refused::Full)?;
        Ok((permit, term))
    }

    async fn wait<'a>(
        &self,
        gates: Gates<'a>,
        mut refused: Refused<'a>,
        deadline: Instant,
    ) -> Result<(Permit, Term), Fault> {
        let enough = clock::now() + self.options.wait;
        // What a dead process held returns within a lease, and is heard of within another: nothing that is on its way takes longer.
        let most = deadline.min(enough + 2 * self.options.lease).max(enough);
        while clock::now() < most {
            let waiting = match &refused {
                Refused::Full(full) => Waiting::at(full.gate, self.options.waiting).map(Some),
                Refused::RunOut => Some(None),
            };
            let Some(_waiting) = waiting else { break };
            match self.wait_at(gates, &refused, enough, most).await {
                Ok(admitted) => return Ok(admitted),
                Err(Some(elsewhere)) => refused = elsewhere,
                Err(None) => break,
            }
        }
        Err(match refused {
            Refused::Full(full) => full.fault,
            Refused::RunOut => Fault::PermitsLost,
        })
    }

    /// Waits where the call was refused: until it is admitted, or refused elsewhere, or has waited enough and nothing is on its way.
    async fn wait_at<'a>(
        &self,
        gates: Gates<'a>,
        at: &Refused<'a>,
        enough: Instant,
        most: Instant,
    ) -> Result<(Permit, Term), Option<Refused<'a>>> {
        let since = clock::since_boot();
        let mut ask = true;
        loop {
            let heard = self.heard.notified();
            // Once more: what became free before anybody knew that this one waits is not told.
            match self.try_admit(gates, clock::since_boot()) {
                Ok(admitted) => return Ok(admitted),
                Err(again) if !again.is_at(at) => {
                    if let Refused::Full(full) = at {
                        full.gate.pass_on();
                    }
                    return Err(Some(again));
                }
                Err(_same) => {}
            }
            let now = clock::now();
            let late = now >= enough;
            if now >= most || late && !self.may_come(at, since) {
                return Err(None);
            }
            if std::mem::take(&mut ask) {
                self.short.notify_one();
            }
            let look_again = tokio::time::sleep_until(if late { most } else { enough }.into());
            match at {
                Refused::Full(full) => tokio::select! {
                    biased;
                    () = full.gate.freed() => ask = true,
                    () = heard, if late => {}
                    () = look_again => {}
                },
                Refused::RunOut => tokio::select! {
                    biased;
                    () = heard => {}
                    () = look_again => {}
                },
            }
        }
    }

    /// Whether a call that has waited since then should go on: permits may be on their way to it, or no ask was answered that has it in it
    /// and came when the ledger had heard the others since. A limit that is used up is said to be at once.
    fn may_come(&self, at: &Refused<'_>, since: Duration) -> bool {
        match at {
            Refused::Full(full) => {
                let answered = self.answered.load(Ordering::Acquire);
                answered <= nanos(since + HEARD) || full.gate.may_come()
            }
            Refused::RunOut => false,
        }
    }

    /// What was asked for at `asked` is known, or that it will not be.
    fn hear(&self, asked: Duration) {
        self.answered.store(nanos(asked), Ordering::Release);
        self.heard.notify_waiters();
    }

    /// Whether what is held may be spent now.
    #[cfg(test)]
    pub fn spends(&self) -> bool {
        self.spendable(clock::since_boot())
    }

    fn spendable(&self, now: Duration) -> bool {
        nanos(now) < self.spendable_until.load(Ordering::Acquire)
    }

    fn term(&self) -> Term {
        Term(self.losses.load(Ordering::Acquire))
    }
}

/// What came of a call that waited.
fn counted<T>(admitted: Result<T, Fault>) -> Result<T, Fault> {
    metrics::permit_waited(admitted.is_ok());
    admitted
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
