//! The state of a slot against a small model, and its single decisions.

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
                    let (told, need) = state.start_failed(of_platform, now);
                    prop_assert!(told.is_empty() || others == 0 || !of_platform);
                    prop_assert!(told.is_empty() || !need.is_for_nobody());
                    for caller in told {
                        prop_assert_eq!(caller, model.line.remove(0).1);
                        prop_assert!(model.outcomes.insert(caller));
                    }
                    // What the pool does then, and nobody is kept ready of what has just failed.
                    if need.is_for_nobody() && let Some(urgency) = state.reserve_start(now, &COSTS) {
                        prop_assert!(!model.line.is_empty() && urgency != Urgency::Provision);
                        model.starting += 1;
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
    // The other comes to nothing, and a call needs the one there is and more: what is started for a call is told so.
    state.unloaded();
    state.start_failed(false, now);
    state.join(2, now).expect("room");
    state.reserve_start(now, &COSTS).expect("one is busy");
    assert!(!state.loads());
}

#[test]
fn who_comes_while_workers_are_made_ready_is_told_of_a_start_of_its_own() {
    let now = crate::clock::now();
    let mut state: State<u32, u32> = State::new(5, Cause::FirstCall);
    state.provision(2);
    assert!(state.reserve_provisioned(now).is_some());
    assert!(state.reserve_provisioned(now).is_some());
    state.join(7, now).expect("room");
    assert_eq!(state.reserve_start(now, &COSTS), None, "one will do");
    for of_platform in [false, true] {
        let (told, need) = state.start_failed(of_platform, now);
        assert_eq!((told, need.cause), (vec![], Cause::Provisioned));
    }
    assert_eq!(state.reserve_start(now, &COSTS), Some(Urgency::Caller));
    assert!(!state.loads(), "it is not one that is kept ready");
    let (told, _) = state.start_failed(false, now);
    assert_eq!(told, [7]);
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
