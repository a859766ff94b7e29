//! The ledger, and the network between it and the processes. The rules are the real ones; what is simulated is how messages go, that
//! the ledger ends, stalls, or forgets what it had not written, and its clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::sim::permits::plan::Odds;
use crate::store::permits::ledger::{Ledger, Sight};
use crate::store::permits::{Answer, Ask, Error, Permits};
use crate::task;

/// A ledger that is looked at this often writes what it has.
const WRITES: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Network {
    begun: Instant,
    /// A lost message is as slow as this, if it arrives at all.
    lease: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    up: bool,
    run: u32,
    /// What the ledger's clock is ahead, in milliseconds.
    ahead: i64,
    stalled_until: Instant,
    listening: BTreeMap<String, mpsc::Sender<()>>,
    /// Connections that ended without their other end's having heard.
    half_open: BTreeMap<String, mpsc::Sender<()>>,
    cut_off: BTreeSet<String>,
    written: VecDeque<(Instant, Ledger)>,
    rng: StdRng,
    odds: Odds,
    /// When a message last went wrong.
    disturbed: Option<Instant>,
}

/// A process's way to the ledger. What is on it is lost with the process.
#[derive(Debug)]
pub struct Link {
    pub network: Arc<Network>,
    pub dead: CancellationToken,
}

/// How one exchange goes.
#[derive(Debug, Clone, Copy)]
struct Way {
    there: Duration,
    back: Duration,
    ask_lost: bool,
    answer_lost: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("connection refused")]
struct Refused;

impl Network {
    pub fn new(seed: u64, lease: Duration, odds: Odds) -> Arc<Self> {
        let begun = clock::now();
        Arc::new(Self {
            begun,
            lease,
            state: Mutex::new(State {
                ledger: Ledger::default(),
                up: true,
                run: 0,
                ahead: 0,
                stalled_until: begun,
                listening: BTreeMap::new(),
                half_open: BTreeMap::new(),
                cut_off: BTreeSet::new(),
                written: VecDeque::new(),
                rng: StdRng::seed_from_u64(seed ^ 0x4e7),
                odds,
                disturbed: None,
            }),
        })
    }

    /// It is gone, and what it had last heard with it. `false` if it was before.
    pub fn end_ledger(&self, forgets: Duration) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !std::mem::take(&mut state.up) {
            return false;
        }
        for (process, told) in std::mem::take(&mut state.listening) {
            if state.cut_off.contains(&process) {
                state.half_open.insert(process, told);
            }
        }
        let now = clock::now();
        if !forgets.is_zero() {
            while state.written.len() > 1 && state.written[1].0 + forgets <= now {
                state.written.pop_front();
            }
            if let Some((_, written)) = state.written.pop_front() {
                state.ledger = written;
            }
            state.written.clear();
        }
        true
    }

    pub fn start_ledger(&self) {
        let mut state = self.state.lock();
        state.up = true;
        state.run += 1;
    }

    pub fn stall_ledger(&self, time: Duration) {
        let mut state = self.state.lock();
        state.stalled_until = state.stalled_until.max(clock::now() + time);
    }

    pub fn jump(&self, by: i64) {
        self.state.lock().ahead += by;
    }

    pub fn cut_off(&self, process: &str, cut_off: bool) {
        let mut state = self.state.lock();
        if cut_off {
            state.cut_off.insert(process.into());
        } else {
            state.cut_off.remove(process);
            state.half_open.remove(process);
        }
    }

    /// From now on everything goes as it should.
    pub fn calm_down(&self) {
        let mut state = self.state.lock();
        state.odds = Odds {
            takes: state.odds.takes,
            ..Odds::default()
        };
    }

    pub fn disturbed(&self) -> Option<Instant> {
        self.state.lock().disturbed
    }

    fn way(&self) -> Way {
        let mut state = self.state.lock();
        let State { rng, odds, .. } = &mut *state;
        let mut time = || Duration::from_millis(rng.random_range(0..=odds.takes));
        let (mut there, mut back) = (time(), time());
        let mut happens = |odds: u32| odds > 0 && rng.random_ratio(odds, 10_000);
        let slow = happens(odds.slow);
        let (ask_lost, answer_lost) = (happens(odds.ask_lost), happens(odds.answer_lost));
        if slow {
            let long = self.lease.as_millis() as u64 * 2;
            there += Duration::from_millis(rng.random_range(0..=long));
            back += Duration::from_millis(rng.random_range(0..=long));
        }
        if slow || ask_lost || answer_lost {
            state.disturbed = Some(clock::now());
        }
        Way {
            there,
            back,
            ask_lost,
            answer_lost,
        }
    }

    /// Whether a message between the ledger and this process arrives.
    fn reaches(&self, process: &str) -> bool {
        !self.state.lock().cut_off.contains(process)
    }

    fn run(&self) -> Option<u32> {
        let state = self.state.lock();
        state.up.then_some(state.run)
    }

    async fn stalled(&self) {
        loop {
            let until = self.state.lock().stalled_until;
            if clock::now() >= until {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn ask_ledger(self: &Arc<Self>, ask: &Ask) -> Answer {
        let mut state = self.state.lock();
        let state = &mut *state;
        let now = clock::now();
        let passed = now.saturating_duration_since(self.begun).as_millis() as u64;
        let live = state.listening.iter().filter(|(_, told)| !told.is_closed());
        let sight = Sight {
            now: (1_000_000 + passed).saturating_add_signed(state.ahead),
            run: format!("run {}", state.run),
            listening: live.map(|(process, _)| process.clone()).collect(),
        };
        let (answer, told) = state.ledger.exchange(ask, &sight);
        if state.written.back().is_none_or(|w| w.0 + WRITES <= now) {
            state.written.push_back((now, state.ledger.clone()));
            if state.written.len() > 40 {
                state.written.pop_front();
            }
        }
        for process in told {
            let lost = state.odds.telling_lost;
            let lost = lost > 0 && state.rng.random_ratio(lost, 10_000);
            if lost {
                state.disturbed = Some(now);
            } else if !state.cut_off.contains(&process)
                && let Some(told) = state.listening.get(&process)
            {
                let takes = state.rng.random_range(0..=state.odds.takes);
                let takes = Duration::from_millis(takes);
                let told = told.clone();
                task::spawn(task::Kind::Local, "telling", async move {
                    tokio::time::sleep(takes).await;
                    // Full is told already.
                    told.try_send(()).ok();
                });
            }
        }
        answer
    }
}

impl Link {
    async fn carry(
        network: Arc<Network>,
        ask: Ask,
        way: Way,
        answered: oneshot::Sender<Result<Answer, Error>>,
    ) {
        let run = network.run();
        let away = || Err(Error::Away(Box::new(Refused)));
        tokio::time::sleep(way.there).await;
        if way.ask_lost || !network.reaches(&ask.process) {
            return;
        }
        network.stalled().await;
        if run.is_none() || network.run() != run {
            answered.send(away()).ok();
            return;
        }
        let answer = network.ask_ledger(&ask);
        tokio::time::sleep(way.back).await;
        if way.answer_lost || !network.reaches(&ask.process) {
            return;
        }
        let answer = match network.run() == run {
            true => Ok(answer),
            false => away(),
        };
        answered.send(answer).ok();
    }
}

impl Permits for Link {
    fn exchange<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let (sender, answered) = oneshot::channel();
            let carried = Self::carry(
                self.network.clone(),
                ask.clone(),
                self.network.way(),
                sender,
            );
            let dead = self.dead.clone();
            // On its own way: an ask that is given up may still arrive.
            task::spawn(task::Kind::Local, "message", async move {
                dead.run_until_cancelled(carried).await;
            });
            match answered.await {
                Ok(answer) => answer,
                Err(_lost) => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn listen<'a>(
        &'a self,
        process: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, ()>, Error>> {
        async move {
            tokio::time::sleep(self.network.way().there).await;
            if !self.network.reaches(process) {
                std::future::pending().await
            }
            self.network.stalled().await;
            if self.network.run().is_none() {
                return Err(Error::Away(Box::new(Refused)));
            }
            let (sender, receiver) = mpsc::channel(1);
            let mut state = self.network.state.lock();
            state.listening.insert(process.into(), sender);
            let told = stream::unfold(receiver, async |mut receiver| {
                Some((receiver.recv().await?, receiver))
            });
            Ok(told.boxed())
        }
        .boxed()
    }
}
