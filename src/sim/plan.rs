//! What a seed stands for: the instance's settings, the functions and what becomes of them, who calls when and what the
//! code then does. Pure: everything is drawn before anything runs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sim::weather::{Odds, Outage};

/// Code packages there are.
pub const CODES: usize = 4;
/// Calls and changes come within this time.
const BUSY: u64 = 12_000;

#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub instance: Instance,
    pub functions: Vec<Settings>,
    pub events: Vec<(Duration, Event)>,
    pub calls: Vec<Call>,
    pub odds: Odds,
    pub outages: Vec<Outage>,
    /// Nothing goes wrong but what the functions do to themselves, and they do no wrong either.
    pub calm: bool,
    /// Everything takes a multiple of this: the coarser it is, the more happens at the same moment.
    pub grain: u64,
}

/// How calls of one seed are: how many go wrong and in which ways, and how many clients leave, in hundred.
struct Manners {
    wrong: u32,
    wrongs: Vec<Does>,
    leave: u32,
}

#[derive(Debug)]
pub struct Instance {
    pub account_limit: u32,
    pub budget_mib: u32,
    pub keep_alive: Duration,
    pub stem_min: usize,
    pub stem_max: usize,
    pub lanes: usize,
    pub line_depth: usize,
    pub eager_workers: usize,
}

/// A function as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub runtime: &'static str,
    pub memory: u32,
    pub code: usize,
    pub version: u32,
    pub limit: Option<u32>,
    pub timeout: u32,
    pub egress: bool,
}

#[derive(Debug, Clone)]
pub enum Event {
    Call(usize),
    /// Creates it if it was deleted.
    Deploy(usize, Settings),
    Delete(usize),
    LoseImage,
    /// Every container that holds a network is gone.
    LoseNetworks,
    Publish(usize),
    /// Its alias, made if there is none.
    Point(usize, Pointing),
}

/// Where an alias goes: two of the versions there are by then, and the second's share in hundred.
#[derive(Debug, Clone, Copy)]
pub struct Pointing {
    pub first: usize,
    pub second: Option<(usize, u32)>,
}

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub function: usize,
    pub does: Does,
    pub takes: Duration,
    pub ignores_cancel: bool,
    pub leaves: Option<Leaves>,
    /// By the function's alias.
    pub alias: bool,
}

/// The client goes away.
#[derive(Debug, Clone, Copy)]
pub struct Leaves {
    pub after: Duration,
    /// Turns that others have at that moment before it does.
    pub turns: u32,
    /// It goes even if its answer comes at that moment.
    pub first: bool,
}

/// What the code does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    Answer,
    AnswerLarge,
    Fail,
    FailLast,
    RefusePayload,
    Hang,
    RunLong,
    Exit,
    RunOutOfMemory,
    WriteGarbage,
    AnswerForAnother,
    SendWrongKind,
    HangUp,
    CloseLog,
    AnswerTwice,
    AnswerHalf,
    Stream(StreamEnd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    Well,
    Fail,
    Exit,
    Hang,
    Garbage,
}

impl Does {
    /// Whether a worker that does so was not told to, and cannot be trusted any more.
    pub fn is_lie(self) -> bool {
        matches!(
            self,
            Does::WriteGarbage
                | Does::AnswerForAnother
                | Does::SendWrongKind
                | Does::HangUp
                | Does::CloseLog
                | Does::AnswerTwice
                | Does::AnswerHalf
                | Does::Stream(StreamEnd::Garbage)
        )
    }

    /// Whether it may still run at its deadline.
    pub fn may_be_late(self) -> bool {
        matches!(
            self,
            Does::Hang | Does::RunLong | Does::AnswerHalf | Does::Stream(StreamEnd::Hang)
        )
    }
}

const WRONGS: [Does; 16] = [
    Does::FailLast,
    Does::Hang,
    Does::RunLong,
    Does::Exit,
    Does::RunOutOfMemory,
    Does::WriteGarbage,
    Does::AnswerForAnother,
    Does::SendWrongKind,
    Does::HangUp,
    Does::CloseLog,
    Does::AnswerTwice,
    Does::AnswerHalf,
    Does::Stream(StreamEnd::Fail),
    Does::Stream(StreamEnd::Exit),
    Does::Stream(StreamEnd::Hang),
    Does::Stream(StreamEnd::Garbage),
];

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let calm = rng.random_ratio(1, 6);
        let manners = Manners {
            wrong: if calm { 0 } else { rng.random_range(0..=60) },
            wrongs: (0..rng.random_range(1..=4))
                .map(|_| pick(rng, &WRONGS))
                .collect(),
            leave: pick(rng, &[0, 10, 50]),
        };
        let odds = match calm {
            true => Odds::default(),
            false => Odds::draw(rng),
        };
        let stem_min = rng.random_range(0..=2);
        let instance = Instance {
            account_limit: rng.random_range(3..=20),
            budget_mib: pick(rng, &[512, 768, 1024, 2048, 8192]),
            keep_alive: Duration::from_millis(rng.random_range(1000..=5000)),
            stem_min,
            stem_max: stem_min + rng.random_range(0..=2),
            lanes: rng.random_range(1..=4),
            line_depth: rng.random_range(3..=20),
            eager_workers: rng.random_range(1..=3),
        };
        let mut versions = 0;
        let functions: Vec<_> = (0..rng.random_range(1..=4))
            .map(|_| Settings::draw(rng, &mut versions))
            .collect();
        let mut plan = Self {
            seed,
            instance,
            functions,
            events: Vec::new(),
            calls: Vec::new(),
            odds,
            outages: Vec::new(),
            calm,
            grain: pick(rng, &[1, 5, 20, 50]),
        };
        plan.draw_calls(rng, &manners);
        plan.draw_changes(rng, versions);
        if !calm {
            plan.draw_disasters(rng);
        }
        plan.draw_versions();
        for (at, _) in &mut plan.events {
            *at = coarse(*at, plan.grain);
        }
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    fn draw_calls(&mut self, rng: &mut StdRng, manners: &Manners) {
        let mut at = 0;
        for _ in 0..rng.random_range(3..=12) {
            at = rng.random_range(at..=BUSY.min(at + 3000));
            let function = rng.random_range(0..self.functions.len());
            let within = pick(rng, &[20, 200, 1500]);
            for _ in 0..rng.random_range(1..=8) {
                let when = at + rng.random_range(0..=within);
                let call = Call::draw(rng, function, manners, self.grain);
                let event = Event::Call(self.calls.len());
                self.calls.push(call);
                self.events.push((Duration::from_millis(when), event));
            }
        }
    }

    fn draw_changes(&mut self, rng: &mut StdRng, mut versions: u32) {
        for (index, first) in self.functions.clone().into_iter().enumerate() {
            let mut history = vec![first];
            let mut at = 0;
            for _ in 0..rng.random_range(0..=4) {
                at += rng.random_range(50..=6000);
                if at > BUSY {
                    break;
                }
                let mut next = history[history.len() - 1].clone();
                let event = match rng.random_range(0..8) {
                    0 => Event::Delete(index),
                    1 => {
                        let old = history[rng.random_range(0..history.len())].clone();
                        Event::Deploy(index, old)
                    }
                    what => {
                        match what {
                            2 => next.limit = draw_limit(rng),
                            3 => next.memory = pick(rng, &[128, 256, 384]),
                            4 => next.code = rng.random_range(0..CODES),
                            _ => {
                                versions += 1;
                                next.version = versions;
                            }
                        }
                        Event::Deploy(index, next)
                    }
                };
                if let Event::Deploy(_, settings) = &event {
                    history.push(settings.clone());
                }
                self.events.push((Duration::from_millis(at), event));
            }
        }
    }

    fn draw_disasters(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.3) {
            let from = rng.random_range(0..BUSY);
            self.outages.push(Outage {
                from: Duration::from_millis(from),
                to: Duration::from_millis(from + rng.random_range(200..=6000)),
                wedged: rng.random_bool(0.5),
            });
        }
        if rng.random_bool(0.2) {
            let at = Duration::from_millis(rng.random_range(0..BUSY));
            self.events.push((at, Event::LoseImage));
        }
    }

    /// From a sequence of their own, so that what else a seed stands for is the same with versions and without.
    fn draw_versions(&mut self) {
        let rng = &mut StdRng::seed_from_u64(self.seed ^ 0xa11a5);
        if rng.random_bool(0.4) {
            return;
        }
        for index in 0..self.functions.len() {
            // Something to call from the beginning.
            let mut at = 0;
            for n in 0..rng.random_range(2..=8) {
                let second = rng.random_bool(0.7).then(|| {
                    let share = pick(rng, &[0, 1, 30, 50, 100]);
                    (rng.random_range(0..8), share)
                });
                let pointing = Pointing {
                    first: rng.random_range(0..8),
                    second,
                };
                let event = match n == 0 || n > 1 && rng.random_bool(0.5) {
                    true => Event::Publish(index),
                    false => Event::Point(index, pointing),
                };
                self.events.push((Duration::from_millis(at), event));
                at += rng.random_range(0..=BUSY / 5);
            }
        }
        for call in &mut self.calls {
            call.alias = rng.random_bool(0.5);
        }
    }

    /// What the code does with a call; those that are made after the plan's end are just answered.
    pub fn call(&self, number: usize) -> Call {
        let after = Call {
            function: 0,
            does: Does::Answer,
            takes: Duration::from_millis(5),
            ignores_cancel: false,
            leaves: None,
            alias: false,
        };
        self.calls.get(number).copied().unwrap_or(after)
    }
}

impl Settings {
    fn draw(rng: &mut StdRng, versions: &mut u32) -> Self {
        *versions += 1;
        Self {
            runtime: pick(rng, &["runic1.0", "runic1.0", "sign2.x"]),
            memory: pick(rng, &[128, 128, 256, 384]),
            code: rng.random_range(0..CODES),
            version: *versions,
            limit: draw_limit(rng),
            timeout: rng.random_range(1..=2),
            egress: rng.random_ratio(1, 6),
        }
    }
}

fn draw_limit(rng: &mut StdRng) -> Option<u32> {
    rng.random_bool(0.6).then(|| rng.random_range(1..=6))
}

/// Rounded up to a multiple of the grain.
pub fn coarse(time: Duration, grain: u64) -> Duration {
    let ms = time.as_millis() as u64;
    Duration::from_millis(ms.div_ceil(grain) * grain)
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

impl Call {
    fn draw(rng: &mut StdRng, function: usize, manners: &Manners, grain: u64) -> Self {
        let does = if rng.random_ratio(manners.wrong, 100) {
            pick(rng, &manners.wrongs)
        } else {
            match rng.random_range(0..20) {
                0 => Does::Fail,
                1 => Does::RefusePayload,
                2 => Does::AnswerLarge,
                3 | 4 => Does::Stream(StreamEnd::Well),
                _ => Does::Answer,
            }
        };
        let slow = rng.random_bool(0.3);
        let takes = rng.random_range(1..=if slow { 600 } else { 30 });
        let within = pick(rng, &[20, 300, 1500]);
        let leaves = Leaves {
            after: coarse(Duration::from_millis(rng.random_range(0..=within)), grain),
            turns: rng.random_range(0..=6),
            first: rng.random_bool(0.5),
        };
        Self {
            function,
            does,
            takes: coarse(Duration::from_millis(takes), grain),
            ignores_cancel: rng.random_bool(0.5),
            leaves: rng.random_ratio(manners.leave, 100).then_some(leaves),
            alias: false,
        }
    }
}
