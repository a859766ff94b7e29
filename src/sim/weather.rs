//! What goes wrong: how each engine call goes and what becomes of each container, drawn from the seed in the order in which
//! they are asked for, until the weather is told to be calm.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clock;
use crate::engine;
use crate::sim::plan::{Plan, coarse};

/// A simulated engine's deadline for every call.
pub const ENGINE_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Start,
    Remove,
    Limit,
    Exit,
    EnsureImage,
    FetchCode,
}

impl Operation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Start => "start",
            Operation::Remove => "remove",
            Operation::Limit => "limit",
            Operation::Exit => "exit",
            Operation::EnsureImage => "ensure_image",
            Operation::FetchCode => "fetch_code",
        }
    }

    /// How long it takes when all is well, in milliseconds.
    const fn takes(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Operation::Start => 20..=400,
            Operation::Remove => 20..=250,
            Operation::Limit => 1..=20,
            Operation::Exit => 1..=10,
            Operation::EnsureImage => 10..=600,
            Operation::FetchCode => 1..=30,
        }
    }
}

/// How likely each fault is, per thousand. Every seed has some of them and none of the others, so that rare combinations are
/// not drowned by frequent ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    pub operation_fails: u32,
    pub operation_hangs: u32,
    pub operation_slow: u32,
    pub remove_fails: u32,
    pub boot_fails: u32,
    pub init_fails: u32,
    pub idle_dies: u32,
}

impl Odds {
    pub fn draw(rng: &mut StdRng) -> Self {
        let mut some = |most: u32| match rng.random_bool(0.4) {
            true => rng.random_range(1..=most),
            false => 0,
        };
        Self {
            operation_fails: some(200),
            operation_hangs: some(100),
            operation_slow: some(300),
            remove_fails: some(500),
            boot_fails: some(400),
            init_fails: some(400),
            idle_dies: some(500),
        }
    }
}

/// The engine is away.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: Duration,
    pub to: Duration,
    /// It takes calls and answers none.
    pub wedged: bool,
}

/// What becomes of a container.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// From its first instruction to HELLO.
    pub boots_in: Duration,
    pub boot: Boot,
    pub loads_in: Duration,
    pub init: Init,
    pub idle: Option<(Duration, Idle)>,
    /// It does not end when its connection does.
    pub lingers: bool,
    /// Its process is there before the engine says so.
    pub early: bool,
    /// The engine notices its end only so much later.
    pub noticed_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boot {
    #[default]
    Well,
    Silent,
    Dies,
    DiesGreeted,
    Foreign,
    WrongPong,
    Garbage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Init {
    #[default]
    Well,
    Error,
    Dies,
    Hangs,
    Differs,
    Garbage,
}

/// What a worker does while nobody asks anything of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    Dies,
    Speaks,
    ClosesLog,
}

#[derive(Debug)]
pub struct Weather {
    rng: Option<Mutex<StdRng>>,
    odds: Odds,
    outages: Vec<Outage>,
    grain: u64,
    begun: Instant,
    calm: AtomicBool,
    image_gone: AtomicBool,
    /// Calls that have not ended.
    pub passing: AtomicUsize,
    /// The last removal that failed.
    remove_failed: Mutex<Option<Instant>>,
}

impl Weather {
    /// Everything goes well and takes no time.
    pub fn none() -> Self {
        Self::new(None)
    }

    pub fn of(plan: &Plan) -> Self {
        let mut weather = Self::new(Some(Mutex::new(StdRng::seed_from_u64(plan.seed))));
        weather.odds = plan.odds;
        weather.outages = plan.outages.clone();
        weather.grain = plan.grain;
        weather
    }

    fn new(rng: Option<Mutex<StdRng>>) -> Self {
        Self {
            rng,
            odds: Odds::default(),
            outages: Vec::new(),
            grain: 1,
            begun: clock::now(),
            calm: AtomicBool::new(false),
            image_gone: AtomicBool::new(false),
            passing: AtomicUsize::new(0),
            remove_failed: Mutex::default(),
        }
    }

    /// From now on nothing goes wrong; delays stay.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn lose_image(&self) {
        self.image_gone.store(true, Ordering::Relaxed);
    }

    pub fn image_is_gone(&self) -> bool {
        self.image_gone.load(Ordering::Relaxed)
    }

    pub fn remove_failed_within(&self, time: Duration) -> bool {
        let failed = *self.remove_failed.lock();
        failed.is_some_and(|at| clock::now().saturating_duration_since(at) < time)
    }

    /// One call's way: the time it takes, and how it ends.
    pub async fn pass(&self, operation: Operation) -> Result<(), engine::Error> {
        let (delay, result) = self.course(operation);
        self.passing.fetch_add(1, Ordering::Relaxed);
        let passed = Passed(&self.passing);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        drop(passed);
        if operation == Operation::EnsureImage && result.is_ok() {
            self.image_gone.store(false, Ordering::Relaxed);
        }
        if operation == Operation::Remove && result.is_err() {
            *self.remove_failed.lock() = Some(clock::now());
        }
        result
    }

    fn course(&self, operation: Operation) -> (Duration, Result<(), engine::Error>) {
        let Some(rng) = &self.rng else {
            return (Duration::ZERO, Ok(()));
        };
        let mut rng = rng.lock();
        let usual = Duration::from_millis(rng.random_range(operation.takes()));
        let usual = coarse(usual, self.grain);
        let name = operation.as_str();
        let timeout = engine::Error::Timeout {
            operation: name,
            after: ENGINE_DEADLINE,
        };
        let unreachable = engine::Error::Unreachable {
            operation: name,
            reason: "simulated".into(),
        };
        if self.is_calm() {
            return (usual, Ok(()));
        }
        let elapsed = clock::now().saturating_duration_since(self.begun);
        let away = self
            .outages
            .iter()
            .find(|outage| outage.from <= elapsed && elapsed < outage.to);
        if let Some(outage) = away.filter(|_| operation != Operation::FetchCode) {
            return match outage.wedged {
                true => (ENGINE_DEADLINE, Err(timeout)),
                false => (Duration::from_millis(1), Err(unreachable)),
            };
        }
        let mut odds = |per_thousand| rng.random_ratio(per_thousand, 1000);
        if operation == Operation::Remove && odds(self.odds.remove_fails) {
            return (usual, Err(unreachable));
        }
        if odds(self.odds.operation_hangs) {
            return (ENGINE_DEADLINE, Err(timeout));
        }
        if odds(self.odds.operation_fails) {
            let refused = engine::Error::Refused {
                operation: name,
                reason: "simulated".into(),
            };
            return (usual, Err(if odds(500) { refused } else { unreachable }));
        }
        if odds(self.odds.operation_slow) {
            return (usual * 5, Ok(()));
        }
        (usual, Ok(()))
    }

    pub fn fate(&self) -> Fate {
        let Some(rng) = &self.rng else {
            return Fate::default();
        };
        let mut rng = rng.lock();
        let mut ms = |from, to| {
            let time = Duration::from_millis(rng.random_range(from..=to));
            coarse(time, self.grain)
        };
        let mut fate = Fate {
            boots_in: ms(5, 150),
            loads_in: ms(2, 120),
            noticed_after: ms(0, 60),
            ..Fate::default()
        };
        let idle_for = ms(0, 3000);
        fate.early = rng.random_bool(0.3);
        fate.lingers = rng.random_bool(0.3);
        let mut odds = |per_thousand| rng.random_ratio(per_thousand, 1000);
        let (boot, init, idle) = (
            odds(self.odds.boot_fails),
            odds(self.odds.init_fails),
            odds(self.odds.idle_dies),
        );
        // Drawn also when they are not wanted: what one container does must not move the next one's fate.
        let boots = [
            Boot::Silent,
            Boot::Dies,
            Boot::DiesGreeted,
            Boot::Foreign,
            Boot::WrongPong,
            Boot::Garbage,
        ];
        let inits = [
            Init::Error,
            Init::Dies,
            Init::Hangs,
            Init::Differs,
            Init::Garbage,
        ];
        let idles = [Idle::Dies, Idle::Dies, Idle::Speaks, Idle::ClosesLog];
        let boots = boots[rng.random_range(0..boots.len())];
        let inits = inits[rng.random_range(0..inits.len())];
        let idles = idles[rng.random_range(0..idles.len())];
        if boot {
            fate.boot = boots;
        }
        if init {
            fate.init = inits;
        }
        if idle {
            fate.idle = Some((idle_for, idles));
        }
        if self.is_calm() {
            (fate.boot, fate.init, fate.idle) = (Boot::Well, Init::Well, None);
        }
        fate
    }
}

struct Passed<'a>(&'a AtomicUsize);

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
