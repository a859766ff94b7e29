//! The task that asks the ledger for permits: at intervals, when a gate runs short, and when others need what is here. What is asked for
//! follows what was used in the last moments and what waits now. The lease's own state is `lease`, pure; the counts are the gates'.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::scheduler::UNRESERVED;
use crate::scheduler::admit::{Gate, UNLIMITED};
use crate::scheduler::lease::Lease;
use crate::scheduler::places;
use crate::scheduler::share::{Share, nanos};
use crate::store::permits::{Answer, Ask, Claim, Error, Grant, Permits};
use crate::telemetry::metrics;

/// Between two asks at least: whatever happens in that time goes into one.
const PAUSE: Duration = Duration::from_millis(4);
/// Before it is asked again for what others may have given back meanwhile.
const AGAIN: Duration = Duration::from_millis(15);
/// Use of this long ago still counts.
const WINDOW: Duration = Duration::from_millis(250);
/// Beyond timeout and grace, code may need this long to be dead.
const TO_KILL: Duration = Duration::from_secs(1);

/// Keeps the lease and moves permits, until it is stopped: then gives everything back. Nothing may run any more by then.
pub async fn run(share: Arc<Share>, permits: Arc<dyn Permits>, stop: CancellationToken) {
    let mut asking = Asking::new(share, permits);
    stop.run_until_cancelled(asking.ask_forever()).await;
    asking.leave().await;
}

/// The task's own state.
pub(super) struct Asking {
    pub(super) share: Arc<Share>,
    permits: Arc<dyn Permits>,
    pub(super) lease: Lease,
    /// Says when others need something. `None` while there is no connection.
    told: Option<BoxStream<'static, ()>>,
    use_of: HashMap<String, Use>,
    /// What the ledger knows of each scope.
    known: HashMap<String, Claim>,
    /// The longest that code may run, and since when nothing longer was allowed.
    tail: (Duration, Instant),
    pub(super) next_whole: Instant,
    /// The next ask says everything.
    whole: bool,
    trouble: Option<Trouble>,
    /// It was said that nobody can tell it anything.
    deaf: bool,
}

/// What was said last about an unanswered ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Failing,
    GoesOn,
    RunOut,
    Superseded,
}

/// How much a gate was used lately.
#[derive(Debug)]
struct Use {
    since: Instant,
    before: u32,
    peak: u32,
}

/// What is to be done after an ask.
pub(super) enum Then {
    Rest,
    Again(Duration),
}

impl Asking {
    pub(super) fn new(share: Arc<Share>, permits: Arc<dyn Permits>) -> Self {
        let now = clock::now();
        Self {
            lease: Lease::new(share.options.lease),
            share,
            permits,
            told: None,
            use_of: HashMap::new(),
            known: HashMap::new(),
            tail: (Duration::ZERO, now),
            next_whole: now,
            whole: true,
            trouble: None,
            deaf: false,
        }
    }

    async fn ask_forever(&mut self) {
        let short = self.share.short.clone();
        let mut all = true;
        loop {
            let asked = clock::now();
            let then = self.exchange(all).await;
            all = false;
            let due = match then {
                Then::Rest => self.next_whole,
                Then::Again(after) => (asked + after).min(self.next_whole),
            };
            let failing = self.trouble.is_some();
            tokio::select! {
                biased;
                told = next(&mut self.told) => match told {
                    Some(()) => all = true,
                    None => {
                        self.told = None;
                        self.lease.closed();
                    }
                },
                // While nobody answers, calls that want something do not make it answer sooner.
                () = short.notified(), if !failing => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            tokio::time::sleep_until((asked + PAUSE).into()).await;
        }
    }

    /// Asks once. `all`: say everything, also what has not changed.
    async fn exchange(&mut self, all: bool) -> Then {
        let asked = clock::since_boot();
        let (ask, claims) = self.next_ask(all, clock::now(), asked);
        let answered = within(self.lease.interval(), self.permits.exchange(&ask)).await;
        let granted = answered.is_ok();
        let then = self.answered(asked, &claims, answered, clock::since_boot());
        // It is seen listening when it asks again.
        match granted && self.listen().await {
            true => Then::Again(Duration::ZERO),
            false => then,
        }
    }

    pub(super) fn next_ask(
        &mut self,
        all: bool,
        now: Instant,
        asked: Duration,
    ) -> (Ask, Vec<(Arc<Gate>, Claim)>) {
        if now >= self.next_whole {
            self.next_whole = now + self.lease.interval();
            self.whole = true;
        }
        // Until one of these is answered: who knows what the ledger has.
        let whole = self.whole;
        let claims = self.claims(all || whole, now);
        let (sequence, holds) = self.lease.ask(asked);
        let ask = Ask {
            process: self.share.options.process.clone(),
            incarnation: self.share.options.incarnation.clone(),
            sequence,
            answered: self.lease.answered(),
            lease: self.share.options.lease,
            tail: self.tail(now),
            holds,
            whole,
            account: self.share.options.account,
            claims: claims.iter().map(|(_, claim)| claim.clone()).collect(),
        };
        (ask, claims)
    }

    /// Takes in what came of an ask that was sent at `asked`.
    pub(super) fn answered(
        &mut self,
        asked: Duration,
        claims: &[(Arc<Gate>, Claim)],
        answer: Result<Answer, Error>,
        now: Duration,
    ) -> Then {
        if answer.is_ok() {
            self.lease.heard();
        }
        match answer {
            Ok(Answer::Granted(grants)) if grants.len() == claims.len() => {
                self.whole = false;
                match self.granted(asked, claims, &grants) {
                    true => Then::Again(AGAIN),
                    false => Then::Rest,
                }
            }
            Ok(Answer::Superseded) => {
                self.lease.ended();
                self.publish_lease();
                self.share.hear(asked);
                self.say(Trouble::Superseded, None);
                Then::Again(self.lease.interval())
            }
            Ok(Answer::Unknown) => {
                self.whole = true;
                Then::Again(Duration::ZERO)
            }
            // Of an ask that was given up: the next one is later.
            Ok(Answer::Granted(_) | Answer::Late) => Then::Again(self.lease.again()),
            Err(error) => {
                let away = matches!(error, Error::Away(_));
                metrics::permits_asked(if away { "away" } else { "silent" });
                let goes_on = self.lease.failed(now, away);
                self.publish_lease();
                claims.iter().for_each(|(gate, _)| gate.nothing_comes());
                self.share.hear(asked);
                let trouble = match (goes_on, self.lease.lasts(now)) {
                    (true, _) => Trouble::GoesOn,
                    (false, false) if self.lease.began() => Trouble::RunOut,
                    _ => Trouble::Failing,
                };
                self.say(trouble, Some(&error));
                Then::Again(self.lease.again())
            }
        }
    }

    /// What each gate holds and needs; all of them, or those where something changed or waits.
    fn claims(&mut self, all: bool, now: Instant) -> Vec<(Arc<Gate>, Claim)> {
        let share = self.share.clone();
        // Nothing else is done under the lock but to read and write numbers.
        let gates = share.gates.lock();
        if all {
            let there = |scope: &str| {
                let gate = gates.get(scope).and_then(|known| known.gate.upgrade());
                gate.is_some_and(|gate| gate.limit() < UNLIMITED)
            };
            self.use_of.retain(|scope, _| there(scope));
            self.known.retain(|scope, _| there(scope));
        }
        let (mut claims, mut sums) = (Vec::new(), [(0u32, 0u32); 3]);
        for (scope, known) in gates.iter() {
            let Some(gate) = known.gate.upgrade() else {
                continue;
            };
            let (limit, held) = (gate.limit(), gate.room());
            if limit >= UNLIMITED {
                continue;
            }
            let waiting = gate.waiting();
            let need = gate.under_way().saturating_add(waiting);
            let of = match self.use_of.get_mut(scope) {
                Some(of) => of,
                None => self.use_of.entry(scope.clone()).or_insert(Use::new(now)),
            };
            let lately = of.lately(gate.take_peak(), now);
            let unreserved = scope == UNRESERVED;
            let of_function = !unreserved && !scope.starts_with(places::SCOPE);
            for (sum, counts) in (sums.iter_mut()).zip([known.part, unreserved, of_function]) {
                if counts {
                    sum.0 = sum.0.saturating_add(held);
                    sum.1 = sum.1.saturating_add(gate.under_way());
                }
            }
            // A part that is nobody's any more, and in which nothing runs.
            let nothing = limit == 0 && held == 0 && need == 0;
            let claim = Claim {
                scope: scope.clone(),
                limit,
                counted: known.part,
                held,
                need,
                lately,
            };
            if waiting > 0 || (all && !nothing) || self.known.get(scope) != Some(&claim) {
                claims.push((gate, claim));
            }
        }
        drop(gates);
        for (scope, (held, in_use)) in ["account", "unreserved", "functions"].iter().zip(sums) {
            metrics::permits(scope, held, in_use);
        }
        claims
    }

    /// Takes over what was granted. Says whether somebody still waits.
    fn granted(
        &mut self,
        asked: Duration,
        claims: &[(Arc<Gate>, Claim)],
        grants: &[Grant],
    ) -> bool {
        metrics::permits_asked("ok");
        let lost: u32 = (claims.iter().zip(grants))
            .map(|((_, claim), grant)| claim.held.saturating_sub(grant.held))
            .sum();
        if lost > 0 {
            // Before anybody may spend again: calls that were admitted and have not begun are to know.
            self.share.losses.fetch_add(1, Ordering::AcqRel);
            metrics::permits_lost(lost);
            tracing::warn!(
                lost,
                "the lease on permits had run out: others have been given some"
            );
        }
        let mut unmet = false;
        let share = self.share.clone();
        // While it is held no limit changes.
        let gates = share.gates.lock();
        for ((gate, claim), grant) in claims.iter().zip(grants) {
            let more = i64::from(grant.held) - i64::from(claim.held);
            // Whoever waits though all was granted that was asked for came later, or was overtaken.
            let may_come = grant.coming > 0 || grant.held >= claim.need;
            gate.settle(more, grant.keep, may_come);
            let known = Claim {
                held: grant.held,
                ..claim.clone()
            };
            self.known.insert(claim.scope.clone(), known);
            unmet |= gate.waiting() > 0;
        }
        drop(gates);
        self.lease.renewed(asked);
        self.publish_lease();
        self.share.hear(asked);
        if self.trouble.take().is_some() {
            tracing::info!("the ledger of permits answers again");
        }
        unmet
    }

    /// Makes sure that it can be told something. `true` if that is new.
    async fn listen(&mut self) -> bool {
        if self.told.is_some() {
            return false;
        }
        let listening = self.permits.listen(&self.share.options.process);
        match within(self.lease.interval(), listening).await {
            Ok(told) => {
                self.told = Some(told);
                self.deaf = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.deaf, true) {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "other processes cannot tell this one what they need");
                }
                false
            }
        }
    }

    /// How long code may go on running after the last permit was spent.
    fn tail(&mut self, now: Instant) -> Duration {
        let timeout = *self.share.longest_timeout.lock();
        // And the ledger's clock may jump a little without anybody's noticing.
        let lease = self.share.options.lease;
        let wanted = timeout + self.share.options.cancel_grace + TO_KILL + lease / 2;
        let (tail, since) = self.tail;
        // A shorter one counts when calls that were given longer have ended.
        if wanted >= tail || now.saturating_duration_since(since) >= tail {
            self.tail = (wanted, now);
        }
        self.tail.0
    }

    fn publish_lease(&self) {
        let until = nanos(self.lease.until());
        self.share.spendable_until.store(until, Ordering::Release);
    }

    /// Once for each kind of trouble, until it is over.
    fn say(&mut self, trouble: Trouble, error: Option<&Error>) {
        if self.trouble.replace(trouble) == Some(trouble) {
            return;
        }
        let error = error.map(|error| error as &dyn std::error::Error);
        match trouble {
            Trouble::Failing => {
                tracing::info!(error, "the ledger of permits does not answer");
            }
            Trouble::GoesOn => {
                tracing::info!(
                    error,
                    "the store is away: calls go on with the permits held here"
                );
            }
            Trouble::RunOut => {
                metrics::lease_ran_out();
                tracing::warn!(
                    error,
                    "the lease on permits ran out: calls are refused until the store answers"
                );
            }
            Trouble::Superseded => {
                tracing::error!(
                    process = self.share.options.process,
                    "another process runs under this one's name: do they share a state directory?"
                );
            }
        }
    }

    async fn leave(mut self) {
        let (sequence, holds) = self.lease.ask(clock::since_boot());
        self.lease.ended();
        self.publish_lease();
        let ask = Ask {
            process: self.share.options.process.clone(),
            incarnation: self.share.options.incarnation.clone(),
            sequence,
            answered: self.lease.answered(),
            lease: Duration::ZERO,
            tail: Duration::ZERO,
            holds,
            whole: true,
            account: self.share.options.account,
            claims: Vec::new(),
        };
        if let Err(error) = within(self.lease.interval(), self.permits.exchange(&ask)).await {
            let error: &dyn std::error::Error = &error;
            tracing::info!(error, "permits not given back, they return by themselves");
        }
    }
}

impl Use {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            before: 0,
            peak: 0,
        }
    }

    /// The most in use lately; `peak` is the most since the last time.
    fn lately(&mut self, peak: u32, now: Instant) -> u32 {
        self.peak = self.peak.max(peak);
        let lately = self.peak.max(self.before);
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self {
                since: now,
                before: self.peak,
                peak: 0,
            };
        }
        lately
    }
}

/// What is told next; never, while there is nobody to tell it.
async fn next(told: &mut Option<BoxStream<'static, ()>>) -> Option<()> {
    match told {
        Some(told) => told.next().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct Late(pub(super) Duration);

async fn within<T>(
    time: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answered = tokio::time::timeout(time, asked).await;
    answered.unwrap_or_else(|_elapsed| Err(Error::Silent(Box::new(Late(time)))))
}
