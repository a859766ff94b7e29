//! Several processes on one ledger, as far as they decide anything: time, messages and faults come from here. What runs is compared
//! with the limit after every step.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use proptest::prelude::*;

use super::asking::{Asking, Late};
use super::*;
use crate::domain::fault::Throttle;
use crate::scheduler::UNRESERVED;
use crate::store::permits::ledger::{Ledger, Sight};
use crate::store::permits::{Answer, Ask, Claim, Error, Grant, Permits};
use crate::telemetry::exposition::Format;
use crate::telemetry::recorder::Recorded;

const LIMIT: u32 = 10;
const PROCESSES: usize = 3;
const LEASE: u64 = 1_000;
const TIMEOUT: u64 = 900;
const WAITING: u32 = 30;

/// Never asked: messages are carried by the test.
#[derive(Debug)]
struct Nobody;

impl Permits for Nobody {
    fn exchange<'a>(&'a self, _: &'a Ask) -> BoxFuture<'a, Result<Answer, Error>> {
        unreachable!("the test carries the messages")
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, Error>> {
        unreachable!("the test carries the messages")
    }
}

type Claims = Vec<(Arc<Gate>, Claim)>;

/// A message on its way, and back.
struct Sent {
    at: Duration,
    ask: Ask,
    claims: Claims,
    answer: Option<Answer>,
}

struct Process {
    asking: Asking,
    account: Arc<Gate>,
    function: Arc<Gate>,
    sent: Option<Sent>,
    /// Admitted, and waiting for a worker.
    admitted: Vec<(Permit, Term)>,
    /// Running until then.
    running: Vec<(Permit, u64)>,
    stopped: bool,
    /// The ledger's closing of the connection has not been seen.
    unread_close: bool,
    /// Calls that wait for a permit for ever: the more there are elsewhere, the more each of these processes wants.
    _waiting: Vec<Waiting>,
}

impl Process {
    fn start(number: usize, run: usize, limit: u32, now: Instant) -> Self {
        let share = Share::new(Options {
            process: format!("p{number}"),
            incarnation: format!("p{number}, run {run}"),
            account: limit,
            lease: Duration::from_millis(LEASE),
            wait: Duration::ZERO,
            waiting: 0,
            cancel_grace: Duration::ZERO,
        });
        share.set_longest_timeout(Duration::from_millis(TIMEOUT));
        let account = share.gate(UNRESERVED, limit, true);
        let function = share.gate("f", u32::MAX, false);
        let waiting = (0..WAITING).filter_map(|_| Waiting::at(&account, WAITING));
        let waiting = waiting.collect();
        let mut asking = Asking::new(share, Arc::new(Nobody));
        asking.next_whole = now;
        Self {
            asking,
            account,
            function,
            sent: None,
            admitted: Vec::new(),
            running: Vec::new(),
            stopped: false,
            unread_close: false,
            _waiting: waiting,
        }
    }

    fn gates(&self) -> Gates<'_> {
        Gates {
            function: &self.function,
            limited_by: Throttle::FunctionConcurrency,
            within: None,
            part: None,
            account: &self.account,
        }
    }
}

struct World {
    limit: u32,
    ledger: Ledger,
    up: bool,
    run: usize,
    /// What the ledger's clock is ahead.
    ahead: i64,
    jumped: bool,
    listening: Vec<bool>,
    /// What these ask does not arrive, though the ledger takes them to be there.
    cut_off: Vec<bool>,
    processes: Vec<Process>,
    /// Asks that were given up and may still arrive.
    late: Vec<Ask>,
    now: u64,
    origin: Instant,
    starts: usize,
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Admit(usize),
    Begin(usize, u64),
    /// It begins as many as it may, as under load: a permit too many is only seen when all are used.
    Fill(usize, u64),
    Ask(usize),
    Arrive(usize),
    Answer(usize),
    GiveUp(usize),
    ArriveLate,
    Stop(usize),
    Continue(usize),
    CutOff(usize),
    Reconnect(usize),
    Restart(usize),
    LedgerEnds,
    LedgerStarts,
    Jump(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = || 0..PROCESSES;
    // Rare, so that between two of them something is lost and found again.
    let faults = prop_oneof![
        3 => who().prop_map(Event::Restart),
        1 => Just(Event::LedgerEnds),
        3 => Just(Event::LedgerStarts),
        1 => (-5_000i64..5_000).prop_map(Event::Jump),
    ];
    let event = prop_oneof![
        10 => (1u64..40).prop_map(Event::Pass),
        3 => (40u64..300).prop_map(Event::Pass),
        24 => who().prop_map(Event::Admit),
        20 => (who(), 1..=TIMEOUT).prop_map(|(p, time)| Event::Begin(p, time)),
        6 => (who(), 1..=TIMEOUT).prop_map(|(p, time)| Event::Fill(p, time)),
        12 => who().prop_map(|p| Event::Fill(p, TIMEOUT)),
        16 => who().prop_map(Event::Ask),
        16 => who().prop_map(Event::Arrive),
        16 => who().prop_map(Event::Answer),
        1 => who().prop_map(Event::GiveUp),
        1 => Just(Event::ArriveLate),
        1 => who().prop_map(Event::Stop),
        3 => who().prop_map(Event::Continue),
        1 => who().prop_map(Event::CutOff),
        2 => who().prop_map(Event::Reconnect),
        1 => faults,
    ];
    prop::collection::vec(event, 1..1500)
}

impl World {
    fn new() -> Self {
        Self::with(LIMIT)
    }

    fn with(limit: u32) -> Self {
        let origin = clock::now();
        Self {
            limit,
            ledger: Ledger::default(),
            up: true,
            run: 0,
            ahead: 0,
            jumped: false,
            listening: vec![false; PROCESSES],
            cut_off: vec![false; PROCESSES],
            processes: (0..PROCESSES)
                .map(|p| Process::start(p, 0, limit, origin))
                .collect(),
            late: Vec::new(),
            now: 100_000,
            origin,
            starts: 0,
        }
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn instant(&self) -> Instant {
        self.origin + self.boot() - Duration::from_millis(100_000)
    }

    fn sight(&self) -> Sight {
        let listening = (0..PROCESSES).filter(|p| self.listening[*p]);
        Sight {
            now: (1_000_000 + self.now).saturating_add_signed(self.ahead),
            run: format!("run {}", self.run),
            listening: listening.map(|p| format!("p{p}")).collect(),
        }
    }

    fn running(&self) -> usize {
        let all = self.processes.iter().flat_map(|p| &p.running);
        all.filter(|(_, until)| self.now < *until).count()
    }

    /// Time passes for those who are not stopped: what has ended is given back.
    fn settle(&mut self) {
        for process in self.processes.iter_mut().filter(|p| !p.stopped) {
            process.running.retain(|(_, until)| self.now < *until);
            if std::mem::take(&mut process.unread_close) {
                process.asking.lease.closed();
            }
        }
    }

    fn step(&mut self, event: &Event) {
        let (boot, instant) = (self.boot(), self.instant());
        match *event {
            Event::Pass(millis) => self.now += millis,
            Event::Admit(p)
            | Event::Begin(p, _)
            | Event::Fill(p, _)
            | Event::Ask(p)
            | Event::Answer(p)
            | Event::GiveUp(p)
                if self.processes[p].stopped => {}
            Event::Admit(p) => {
                let process = &mut self.processes[p];
                let share = process.asking.share.clone();
                if let Ok(admitted) = share.try_admit(process.gates(), boot) {
                    process.admitted.push(admitted);
                }
            }
            Event::Begin(p, time) => {
                let process = &mut self.processes[p];
                if let Some((permit, term)) = process.admitted.pop()
                    && process.asking.share.still_at(term, boot)
                {
                    process.running.push((permit, self.now + time));
                }
            }
            Event::Fill(p, time) => {
                let begins = |process: &Process| process.admitted.len() + process.running.len();
                loop {
                    let before = begins(&self.processes[p]);
                    self.step(&Event::Admit(p));
                    if begins(&self.processes[p]) == before {
                        break;
                    }
                }
                for _ in 0..self.processes[p].admitted.len() {
                    self.step(&Event::Begin(p, time));
                }
            }
            Event::Ask(p) => {
                let process = &mut self.processes[p];
                if process.sent.is_none() {
                    let (ask, claims) = process.asking.next_ask(false, instant, boot);
                    let at = boot;
                    process.sent = Some(Sent {
                        at,
                        ask,
                        claims,
                        answer: None,
                    });
                }
            }
            Event::Arrive(p) => {
                let sight = self.sight();
                if let Some(sent) = self.processes[p].sent.as_mut()
                    && sent.answer.is_none()
                    && self.up
                    && !self.cut_off[p]
                {
                    sent.answer = Some(self.ledger.exchange(&sent.ask, &sight).0);
                }
            }
            Event::Answer(p) => {
                let up = self.up;
                let process = &mut self.processes[p];
                match process.sent.take() {
                    Some(Sent {
                        at,
                        claims,
                        answer: Some(answer),
                        ..
                    }) => {
                        let listens = matches!(answer, Answer::Granted(_)) && up;
                        process.asking.answered(at, &claims, Ok(answer), boot);
                        self.listening[p] |= listens;
                    }
                    // Refused at once.
                    Some(sent) if !up => {
                        let away = Error::Away(Box::new(Late(Duration::ZERO)));
                        process
                            .asking
                            .answered(sent.at, &sent.claims, Err(away), boot);
                    }
                    other => process.sent = other,
                }
            }
            Event::GiveUp(p) => {
                let process = &mut self.processes[p];
                if let Some(sent) = process.sent.take() {
                    let silent = Error::Silent(Box::new(Late(Duration::ZERO)));
                    process
                        .asking
                        .answered(sent.at, &sent.claims, Err(silent), boot);
                    // A first ask takes over, and a process does not start twice while one is under way.
                    if sent.answer.is_none() && sent.ask.sequence > 1 {
                        self.late.push(sent.ask);
                    }
                }
            }
            Event::ArriveLate => {
                if self.up
                    && let Some(ask) = self.late.pop()
                {
                    let sight = self.sight();
                    self.ledger.exchange(&ask, &sight);
                }
            }
            Event::Stop(p) => self.processes[p].stopped = true,
            Event::Continue(p) => self.processes[p].stopped = false,
            Event::CutOff(p) => self.cut_off[p] = true,
            Event::Reconnect(p) => self.cut_off[p] = false,
            Event::Restart(p) => {
                self.starts += 1;
                self.processes[p] = Process::start(p, self.starts, self.limit, instant);
                self.listening[p] = false;
            }
            Event::LedgerEnds => {
                self.up = false;
                for p in 0..PROCESSES {
                    let listened = std::mem::take(&mut self.listening[p]);
                    self.processes[p].unread_close |= listened;
                }
                // What was under way is lost with it.
                self.late.clear();
            }
            Event::LedgerStarts => {
                if !self.up {
                    self.up = true;
                    self.run += 1;
                }
            }
            // More than one such fault at a time is nobody's promise.
            Event::Jump(by) if !self.jumped => {
                self.jumped = true;
                self.ahead += by;
            }
            Event::Jump(_) => {}
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_runs_never_exceeds_the_limit(events in events()) {
        let mut world = World::new();
        for (number, event) in events.iter().enumerate() {
            world.step(event);
            let running = world.running();
            prop_assert!(running <= LIMIT as usize, "{running} after step {number}");
        }
    }
}

/// All want more than there is: what is there is used, and nobody is left out.
#[test]
fn nearly_everything_is_used_when_all_want_more() {
    for limit in [1, 2, 3, 10, 100] {
        let mut world = World::with(limit);
        let (mut used, mut possible) = (0, 0);
        let mut served = [0; PROCESSES];
        for millis in 0..6_000u64 {
            world.step(&Event::Pass(1));
            for (p, served) in served.iter_mut().enumerate() {
                // As a process under load does: asks often, and its calls wait.
                if (millis as usize + p).is_multiple_of(4) {
                    world.step(&Event::Ask(p));
                    world.step(&Event::Arrive(p));
                    world.step(&Event::Answer(p));
                }
                for _ in 0..limit {
                    let before = world.processes[p].admitted.len();
                    world.step(&Event::Admit(p));
                    if world.processes[p].admitted.len() == before {
                        break;
                    }
                    world.step(&Event::Begin(p, 20 + (millis * 7 + p as u64) % 20));
                    *served += 1;
                }
            }
            let running = world.running();
            assert!(running <= limit as usize);
            if millis > 1_000 {
                used += running;
                possible += limit as usize;
            }
        }
        assert!(
            used * 100 >= possible * 85,
            "{limit}: {used} of {possible}, {served:?}"
        );
        let least = served.iter().min().expect("there are some");
        let most = served.iter().max().expect("there are some");
        assert!(*least > 0 && least * 5 > *most, "{limit}: {served:?}");
    }
}

/// It is not heard any more, but it listens, and what it began at the last moment runs: nobody else gets its permits meanwhile.
#[test]
fn what_a_silent_process_runs_is_counted_to_its_end() {
    let mut world = World::new();
    let round = |world: &mut World, p: usize| {
        for event in [Event::Ask(p), Event::Arrive(p), Event::Answer(p)] {
            world.step(&event);
        }
    };
    round(&mut world, 0);
    world.step(&Event::CutOff(0));
    let (begun, mut last) = (world.now, 0);
    // Until all are the other's, in the end.
    while world.processes[1].account.room() < LIMIT {
        assert!(world.now < begun + 20_000, "they are nobody's");
        if world.now >= begun + LEASE / 2 {
            world.step(&Event::Fill(0, TIMEOUT));
        }
        if !world.processes[0].running.is_empty() {
            last = world.now;
        }
        // Often enough for the ledger to know that nobody was lost but this one.
        round(&mut world, 1);
        world.step(&Event::Fill(1, 50));
        assert!(
            world.running() <= LIMIT as usize,
            "at {}",
            world.now - begun
        );
        world.step(&Event::Pass(20));
    }
    assert!(last > begun + LEASE, "it had ended before its lease");
}

/// As each finds it in itself: a killed process's part is the others' after its lease, a stopped one's after its tail.
#[test]
fn what_others_held_comes_back() {
    let mut world = World::new();
    let round = |world: &mut World, p: usize| {
        for event in [Event::Ask(p), Event::Arrive(p), Event::Answer(p)] {
            world.step(&event);
        }
    };
    for p in 0..PROCESSES {
        round(&mut world, p);
        round(&mut world, p);
    }
    let held = |world: &World, p: usize| world.processes[p].account.room();
    assert_eq!((0..PROCESSES).map(|p| held(&world, p)).sum::<u32>(), LIMIT);
    let takes = |world: &mut World, victim: usize| {
        let begun = world.now;
        let mut others: Vec<usize> = (0..PROCESSES).filter(|p| *p != victim).collect();
        loop {
            world.step(&Event::Pass(10));
            for &p in &others {
                world.step(&Event::Admit(p));
                round(world, p);
            }
            others.rotate_left(1);
            let sum: u32 = others.iter().map(|&p| held(world, p)).sum();
            if sum == LIMIT {
                return world.now - begun;
            }
            assert!(world.now < begun + 20_000, "it stays at {sum}");
        }
    };
    // Killed: only its listening ends.
    world.listening[0] = false;
    world.processes[0].stopped = true;
    assert!(takes(&mut world, 0) <= LEASE + 100);

    let mut world = World::new();
    for p in [0, 1, 2, 0, 1, 2] {
        round(&mut world, p);
    }
    world.step(&Event::Stop(0));
    let took = takes(&mut world, 0);
    assert!(took >= LEASE + TIMEOUT, "{took}");
    assert!(took <= 3 * LEASE + TIMEOUT, "{took}");
}

/// A process starts again while the ledger is away, so its first ask does not arrive: it is no stranger under its own name.
#[test]
fn who_starts_while_the_ledger_is_away_takes_over_when_it_is_back() {
    let mut world = World::new();
    for event in [Event::Ask(0), Event::Arrive(0), Event::Answer(0)] {
        world.step(&event);
    }
    world.step(&Event::LedgerEnds);
    world.step(&Event::Restart(0));
    for event in [Event::Ask(0), Event::Answer(0), Event::LedgerStarts] {
        world.step(&event);
    }
    for _ in 0..100 {
        for event in [Event::Ask(0), Event::Arrive(0), Event::Answer(0)] {
            world.step(&event);
        }
        world.step(&Event::Pass(LEASE / 10));
    }
    assert_eq!(world.processes[0].account.room(), LIMIT);
}

/// A lowered limit was kept from the ledger until everything was said again, and others were given what it forbids.
#[test]
fn another_limit_is_part_of_the_next_ask() {
    let mut world = World::new();
    let now = world.instant();
    let process = &mut world.processes[0];
    let share = process.asking.share.clone();
    let limits_asked = |process: &mut Process, boot: u64| {
        let at = Duration::from_millis(boot);
        let (ask, claims) = process.asking.next_ask(false, now, at);
        let grants = ask.claims.iter().map(|claim| Grant {
            held: claim.held.max(claim.limit.min(2)),
            keep: claim.limit,
            coming: 0,
        });
        let answer = Ok(Answer::Granted(grants.collect()));
        process.asking.answered(at, &claims, answer, at);
        let of_function = ask.claims.iter().filter(|claim| claim.scope == "f");
        of_function.map(|claim| claim.limit).collect::<Vec<_>>()
    };
    share.limit("f", &process.function, 5, false);
    assert_eq!(limits_asked(process, 100_000), [5]);
    // What it was granted is known there.
    assert!(limits_asked(process, 100_001).is_empty());
    share.limit("f", &process.function, 3, false);
    assert_eq!(limits_asked(process, 100_002), [3]);
}

/// Only one is told of a free place. It may find its own limit used up meanwhile, and the next in line waited on beside the place.
#[tokio::test(start_paused = true)]
async fn who_cannot_use_a_free_place_passes_it_on() {
    let share = Share::new(Options {
        process: "p".into(),
        incarnation: "p, run 1".into(),
        account: 1,
        lease: Duration::from_secs(30),
        wait: Duration::from_secs(10),
        waiting: 10,
        cancel_grace: Duration::ZERO,
    });
    share.spendable_until.store(u64::MAX, Ordering::Release);
    let (part, account) = (share.gate(UNRESERVED, 1, true), Gate::new(10));
    part.settle(1, 1, false);
    let functions = [Gate::new(1), Gate::new(2)];
    let admit = |function: usize| {
        let gates = Gates {
            function: &functions[function],
            limited_by: Throttle::FunctionConcurrency,
            within: None,
            part: Some(&part),
            account: &account,
        };
        share.admit(gates, clock::now() + Duration::from_secs(20))
    };
    let (inside, _) = admit(1).await.expect("there is one place");
    let (mut first, mut second) = (Box::pin(admit(0)), Box::pin(admit(1)));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    functions[0].set_limit(0);
    let begun = clock::now();
    drop(inside);
    tokio::select! {
        biased;
        _refused = &mut first => unreachable!("it waits for its own limit"),
        admitted = &mut second => assert!(admitted.is_ok()),
    }
    assert_eq!(clock::now(), begun);
}

/// A call of a version that has places of its own waits at two limits at once.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_counted_once() {
    let recorded = Recorded::default();
    let _recording = ::metrics::set_default_local_recorder(&recorded);
    let share = Share::new(Options {
        process: "p".into(),
        incarnation: "p, run 1".into(),
        account: 1,
        lease: Duration::from_secs(30),
        wait: Duration::from_secs(1),
        waiting: 10,
        cancel_grace: Duration::ZERO,
    });
    share.spendable_until.store(u64::MAX, Ordering::Release);
    let (own, others) = (share.gate("own", 1, true), share.gate(UNRESERVED, 1, true));
    let (function, account) = (Gate::new(10), Gate::new(10));
    let gates = |part| Gates {
        function: &function,
        limited_by: Throttle::FunctionConcurrency,
        within: None,
        part: Some(part),
        account: &account,
    };
    let admit = || {
        let deadline = clock::now() + Duration::from_secs(200);
        share.admit_at_either(gates(&own), gates(&others), deadline)
    };
    let counted = |outcome: &str, times: u32| {
        let line = format!("hearth_permit_waits_total{{outcome=\"{outcome}\"}} {times}\n");
        let page = Format::Text.write(&recorded.families());
        let page = String::from_utf8_lossy(&page);
        assert!(page.contains(&line), "{line}{page}");
    };
    // The ledger has answered, and nothing is on its way.
    share.hear(clock::since_boot() + Duration::from_secs(100));
    assert!(admit().await.is_err());
    counted("refused", 1);
    let mut waits = Box::pin(admit());
    assert!(futures_util::poll!(&mut waits).is_pending());
    others.settle(1, 1, false);
    assert!(waits.await.is_ok());
    counted("granted", 1);
    counted("refused", 1);
}
