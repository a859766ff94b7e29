//! What a seed stands for: the limits and how they change, who calls when, and what becomes of the processes, the network and the
//! ledger. Pure: everything is drawn before anything runs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Calls and faults come within so many milliseconds.
pub const BUSY: u64 = 6_000;
/// What a ledger may have had in memory only when it ended.
const FORGOTTEN: u64 = 1_000;

#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub account: u32,
    pub lease: Duration,
    pub permit_wait: Duration,
    pub processes: usize,
    /// As they are at the beginning.
    pub functions: Vec<Limits>,
    /// No call runs longer.
    pub timeout: Duration,
    pub odds: Odds,
    pub events: Vec<(Duration, Event)>,
}

/// The limits of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max: Option<u32>,
    pub reserved: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub enum Event {
    Call {
        process: usize,
        function: usize,
        takes: Duration,
    },
    Limit(usize, Limits),
    Stop(usize, Duration),
    Kill(usize, Duration),
    CutOff(usize, Duration),
    LedgerEnds {
        down: Duration,
        forgets: Duration,
    },
    LedgerStalls(Duration),
    /// By so many milliseconds, the ledger's clock.
    Jump(i64),
}

/// How messages go; chances are in ten thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// Milliseconds one takes at most.
    pub takes: u64,
    pub slow: u32,
    pub ask_lost: u32,
    pub answer_lost: u32,
    pub telling_lost: u32,
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9e12_3175);
        let rng = &mut rng;
        let calm = rng.random_ratio(1, 5);
        let processes = rng.random_range(2..=4);
        let account = rng.random_range(3..=24);
        let mut functions: Vec<_> = (0..rng.random_range(2..=4))
            .map(|_| Limits::draw(rng))
            .collect();
        // One that may have all there is.
        functions[0] = Limits {
            max: None,
            reserved: None,
        };
        fit(account, &mut functions);
        let lease = pick(rng, &[500, 1000, 2000]);
        let mut plan = Self {
            seed,
            account,
            lease: Duration::from_millis(lease),
            permit_wait: Duration::from_millis(pick(rng, &[20, 100, 100, 400])),
            processes,
            functions,
            timeout: Duration::from_millis(pick(rng, &[50, 300, 1000])),
            odds: Odds {
                takes: pick(rng, &[0, 1, 4, 12]),
                ..Odds::default()
            },
            events: Vec::new(),
        };
        plan.draw_calls(rng);
        if rng.random_bool(0.6) {
            plan.draw_limits(rng);
        }
        if !calm {
            plan.draw_faults(rng, lease);
        }
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    /// No faults, and on each of three processes calls of one function, all together twice as many as the limit can serve.
    pub fn overload(account: u32, takes: u64) -> Self {
        let mut plan = Self {
            seed: 0,
            account,
            lease: Duration::from_secs(2),
            permit_wait: Duration::from_millis(100),
            processes: 3,
            functions: vec![Limits {
                max: None,
                reserved: None,
            }],
            timeout: Duration::from_secs(1),
            odds: Odds {
                takes: 1,
                ..Odds::default()
            },
            events: Vec::new(),
        };
        let calls = BUSY * 2 * u64::from(account) / takes;
        for (number, process) in (0..calls).zip((0..plan.processes).cycle()) {
            let event = Event::Call {
                process,
                function: 0,
                takes: Duration::from_millis(takes),
            };
            plan.at(number * BUSY / calls, event);
        }
        plan
    }

    fn draw_calls(&mut self, rng: &mut StdRng) {
        let longest = self.timeout.as_millis() as u64;
        for _ in 0..rng.random_range(6..=16) {
            let at = rng.random_range(0..BUSY);
            let within = pick(rng, &[1, 100, 1500]);
            let function = rng.random_range(0..self.functions.len());
            let one = rng.random_range(0..self.processes);
            let spread = rng.random_bool(0.5);
            let longest = pick(rng, &[longest.min(30), longest]);
            for _ in 0..rng.random_range(1..=self.account * 2) {
                let process = match spread {
                    true => rng.random_range(0..self.processes),
                    false => one,
                };
                let takes = Duration::from_millis(rng.random_range(1..=longest));
                let event = Event::Call {
                    process,
                    function,
                    takes,
                };
                self.at(at + rng.random_range(0..=within), event);
            }
        }
    }

    fn draw_limits(&mut self, rng: &mut StdRng) {
        let mut functions = self.functions.clone();
        let mut at = 0;
        for _ in 0..rng.random_range(1..=5) {
            at += rng.random_range(100..=2_500);
            let function = rng.random_range(1..functions.len());
            functions[function] = Limits::draw(rng);
            let others = functions.iter().enumerate();
            let others = others.filter(|(n, _)| *n != function);
            let taken: u32 = others.filter_map(|(_, f)| f.reserved).sum();
            let limits = &mut functions[function];
            limits.reserved = limits.reserved.map(|n| n.min(self.account - 1 - taken));
            let limits = *limits;
            self.at(at, Event::Limit(function, limits));
        }
    }

    fn draw_faults(&mut self, rng: &mut StdRng, lease: u64) {
        for odds in [
            &mut self.odds.slow,
            &mut self.odds.ask_lost,
            &mut self.odds.answer_lost,
            &mut self.odds.telling_lost,
        ] {
            *odds = pick(rng, &[0, 0, 0, 20, 200]);
        }
        let mut jumped = false;
        for _ in 0..rng.random_range(0..=4) {
            let at = rng.random_range(0..BUSY);
            let process = rng.random_range(0..self.processes);
            let time = Duration::from_millis(rng.random_range(10..=lease * 3));
            let event = match rng.random_range(0..10) {
                0..=2 => Event::Stop(process, time),
                3..=5 => Event::Kill(process, time),
                6 => Event::CutOff(process, time),
                7 => Event::LedgerStalls(time),
                8 => Event::LedgerEnds {
                    down: time,
                    forgets: Duration::from_millis(pick(rng, &[0, FORGOTTEN / 4, FORGOTTEN])),
                },
                // More than one such fault is nobody's promise.
                _ if jumped => continue,
                _ => {
                    jumped = true;
                    Event::Jump(rng.random_range(-5_000..=5_000))
                }
            };
            self.at(at, event);
        }
    }

    fn at(&mut self, millis: u64, event: Event) {
        self.events.push((Duration::from_millis(millis), event));
    }
}

impl Limits {
    fn draw(rng: &mut StdRng) -> Self {
        Self {
            max: rng.random_bool(0.3).then(|| rng.random_range(1..=8)),
            reserved: rng.random_bool(0.6).then(|| rng.random_range(0..=8)),
        }
    }

    /// How many of its calls may run.
    pub fn cap(self) -> u32 {
        let [max, reserved] = [self.max, self.reserved].map(|n| n.unwrap_or(u32::MAX));
        max.min(reserved)
    }
}

/// What is left of the account's limit for functions that have nothing of their own.
pub fn unreserved(account: u32, functions: impl Iterator<Item = Limits>) -> u32 {
    let reserved: u32 = functions.filter_map(|f| f.reserved).sum();
    account.saturating_sub(reserved)
}

/// Reservations leave at least one.
fn fit(account: u32, functions: &mut [Limits]) {
    let mut left = account - 1;
    for reserved in functions.iter_mut().filter_map(|f| f.reserved.as_mut()) {
        *reserved = left.min(*reserved);
        left -= *reserved;
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}
