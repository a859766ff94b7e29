//! What every store must do with asynchronous calls. Called by the suite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::eventually;
use crate::clock;
use crate::domain::destination::Destination;
use crate::domain::event::{Claimed, Event, Failure, Passed, Ran, Settlement, State, Verdict};
use crate::domain::id::{AliasName, FunctionId, FunctionName, RequestId};
use crate::domain::invocation::{Phases, StartKind, StartReason};
use crate::domain::trace::Carried;
use crate::domain::version::VersionId;
use crate::store::events::{Bounds, Depth};
use crate::store::{Error, Store};

/// Longer than any case takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(3600);
/// Over before anybody looks.
const OVER: Duration = Duration::from_millis(1);

pub const BOUNDS: Bounds = Bounds {
    unfinished: 100,
    finished: 100,
    keep: LONG,
    dead: 100,
};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        an_event_is_claimed_once_word_for_word,
        events_are_claimed_in_their_order_and_no_more_than_asked_for,
        a_claim_that_is_over_is_somebody_elses,
        a_renewed_claim_is_kept,
        an_attempt_that_failed_is_made_again_when_its_time_comes,
        an_attempt_that_does_not_count_is_not_counted,
        only_the_claim_that_is_now_can_be_settled,
        what_failed_is_a_dead_letter,
        how_the_last_attempt_went_is_kept,
        what_is_passed_on_is_a_new_event_in_the_same_step,
        what_has_an_end_is_remembered_within_bounds,
        no_more_events_than_may_be_kept_are_taken,
        many_claim_at_once_and_each_event_is_claimed_by_one,
        bytes_come_back_as_they_were,
    ];
}

pub fn event() -> Event {
    Event {
        request_id: RequestId::generate(),
        function: FunctionId::from_stored("function"),
        name: FunctionName::parse("name").expect("is a name"),
        version: VersionId::Number(7),
        alias: AliasName::parse("live").ok(),
        context: r#"{"invoked_function_arn":"x"}"#.into(),
        raw: false,
        accepted_at: "2026-01-02T03:04:05.678901234Z".parse().expect("is a time"),
        redriven_at: None,
        destination: None,
        depth: 0,
        trace: Some(Carried {
            parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            state: "a=1".into(),
        }),
    }
}

fn ran() -> Ran {
    Ran {
        began_at: "2026-01-02T03:04:06.5Z".parse().expect("is a time"),
        ended_at: "2026-01-02T03:04:07.123456789Z".parse().expect("is a time"),
        start: Some((StartKind::Stem, StartReason::FirstCall)),
        phases: Phases {
            queue: Duration::ZERO,
            start: Duration::from_nanos(1),
            init: Duration::from_micros(2),
            run: Duration::from_secs(3),
        },
    }
}

pub(super) fn failure(code: &str) -> Failure {
    Failure {
        code: code.into(),
        message: format!("\"{code}\"\n"),
    }
}

pub(super) async fn append(store: &dyn Store) -> Event {
    let event = event();
    let kept = store.append(event.clone(), "{}".into(), BOUNDS).await;
    kept.expect("is kept");
    event
}

pub(super) async fn claim(
    store: &dyn Store,
    by: &str,
    most: usize,
    lease: Duration,
) -> Vec<Claimed> {
    let claimed = store.claim(by, most, lease).await;
    claimed.expect("can be claimed")
}

pub(super) async fn settle(
    store: &dyn Store,
    by: &str,
    claimed: &Claimed,
    verdict: Verdict,
) -> bool {
    let settled = store.settle(by, claimed, verdict.into(), BOUNDS).await;
    settled.expect("can be settled")
}

/// Waits until there is something to claim.
pub(super) async fn claimable(store: &dyn Store, by: &str) -> Claimed {
    let one = async || claim(store, by, 1, LONG).await.pop();
    eventually("an event to claim", one).await
}

pub(super) async fn state(store: &dyn Store, event: &Event) -> Option<State> {
    let record = store.record(&event.request_id).await;
    record.expect("can be read").map(|record| record.state)
}

async fn an_event_is_claimed_once_word_for_word(store: Arc<dyn Store>) {
    assert!(claim(&*store, "a", 10, LONG).await.is_empty());
    assert_eq!(
        store.record(&RequestId::generate()).await.expect("read"),
        None
    );
    let event = append(&*store).await;
    assert_eq!(state(&*store, &event).await, Some(State::Queued));
    let again = store.append(event.clone(), "other".into(), BOUNDS).await;
    again.expect("the same again is no change");
    let claimed = claim(&*store, "a", 10, LONG).await;
    let meant = Claimed {
        event: event.clone(),
        payload: "{}".into(),
        attempt: 1,
        lost: 0,
        failure: None,
    };
    assert_eq!(claimed, [meant]);
    assert_eq!(state(&*store, &event).await, Some(State::Running));
    assert!(claim(&*store, "a", 10, LONG).await.is_empty());
    assert!(claim(&*store, "b", 10, LONG).await.is_empty());
    assert!(settle(&*store, "a", &claimed[0], Verdict::Succeeded).await);
    let record = store.record(&event.request_id).await.expect("read");
    let record = record.expect("is remembered");
    assert_eq!((record.event, record.attempts), (event, 1));
    assert_eq!((record.state, record.failure), (State::Succeeded, None));
    assert!(record.finished_at.is_some());
    assert_eq!(store.depth().await.expect("counted"), Depth::default());
}

async fn events_are_claimed_in_their_order_and_no_more_than_asked_for(store: Arc<dyn Store>) {
    let mut appended = Vec::new();
    for _ in 0..5 {
        appended.push(append(&*store).await.request_id);
        // The embedded store has them in the order of milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let depth = store.depth().await.expect("counted");
    assert_eq!((depth.unfinished, depth.running), (5, 0));
    let mut since = depth.due_since.expect("all of them could run");
    let mut claimed = Vec::new();
    for wanted in [2, 2, 1] {
        let depth = store.depth().await.expect("counted");
        assert_eq!(depth.running, claimed.len() as u64);
        let next = depth.due_since.expect("some of them could run");
        assert!(next >= since, "the first in line has waited longest");
        since = next;
        let some = claim(&*store, "a", 2, LONG).await;
        assert_eq!(some.len(), wanted);
        claimed.extend(some.into_iter().map(|c| c.event.request_id));
    }
    assert_eq!(claimed, appended);
    let depth = store.depth().await.expect("counted");
    assert_eq!((depth.unfinished, depth.running), (5, 5));
    assert_eq!(depth.due_since, None, "somebody has every one");
}

async fn a_claim_that_is_over_is_somebody_elses(store: Arc<dyn Store>) {
    let event = append(&*store).await;
    let first = claim(&*store, "a", 1, OVER).await.remove(0);
    let over = async || claim(&*store, "b", 1, OVER).await.pop();
    let second = eventually("the claim to be over", over).await;
    assert_eq!((&second.event, second.attempt), (&event, 2));
    assert_eq!(second.lost, 1, "its end was never told");
    assert!(!settle(&*store, "a", &first, Verdict::Succeeded).await);
    assert!(settle(&*store, "b", &second, Verdict::Succeeded).await);
    assert!(
        !settle(&*store, "b", &second, Verdict::Succeeded).await,
        "twice"
    );
    assert_eq!(state(&*store, &event).await, Some(State::Succeeded));
}

async fn a_renewed_claim_is_kept(store: Arc<dyn Store>) {
    let (kept, lost) = (append(&*store).await, append(&*store).await);
    let lease = Duration::from_secs(2);
    let claimed = claim(&*store, "a", 2, lease).await;
    assert_eq!(claimed.len(), 2);
    let ids = [kept.request_id, RequestId::generate()];
    let gone = store.renew("a", &ids, lease).await.expect("renewed");
    assert_eq!(gone, ids[1..]);
    let others = store.renew("b", &ids[..1], lease).await.expect("renewed");
    assert_eq!(others, ids[..1], "another's");
    // Renewed until the one that is not renewed was claimed by another, which proves that more than its lease has passed.
    let taken = async || {
        let gone = store.renew("a", &[kept.request_id], LONG).await;
        assert_eq!(gone.expect("renewed"), []);
        claim(&*store, "b", 2, lease).await.pop()
    };
    let taken = eventually("the other claim to be over", taken).await;
    assert_eq!(taken.event, lost);
    let kept = claimed.iter().find(|c| c.event == kept).expect("claimed");
    assert!(settle(&*store, "a", kept, Verdict::Succeeded).await);
}

async fn an_attempt_that_failed_is_made_again_when_its_time_comes(store: Arc<dyn Store>) {
    let again = |after, code| Verdict::Again {
        after,
        counts: true,
        failure: failure(code),
    };
    let event = append(&*store).await;
    let first = claim(&*store, "a", 1, LONG).await.remove(0);
    let from = clock::now();
    let wait = Duration::from_millis(300);
    assert!(settle(&*store, "a", &first, again(wait, "one")).await);
    let record = store.record(&event.request_id).await.expect("read");
    let record = record.expect("is there");
    assert_eq!((record.state, record.attempts), (State::Queued, 1));
    assert_eq!(record.failure, Some(failure("one")));
    let depth = store.depth().await.expect("counted");
    assert_eq!((depth.unfinished, depth.running), (1, 0));
    let second = claimable(&*store, "b").await;
    assert_eq!((&second.event, second.attempt), (&event, 2));
    assert_eq!(second.lost, 0, "it had an end");
    assert_eq!(second.failure, Some(failure("one")));
    // Clocks may differ by the millisecond they are cut off at.
    assert!(
        clock::now() - from >= wait - Duration::from_millis(2),
        "too early"
    );
    assert!(settle(&*store, "b", &second, again(LONG, "two")).await);
    assert!(claim(&*store, "a", 1, LONG).await.is_empty());
}

async fn an_attempt_that_does_not_count_is_not_counted(store: Arc<dyn Store>) {
    let event = append(&*store).await;
    for _ in 0..3 {
        let claimed = claimable(&*store, "a").await;
        assert_eq!(claimed.attempt, 1);
        let verdict = Verdict::Again {
            after: Duration::ZERO,
            counts: false,
            failure: failure("busy"),
        };
        assert!(settle(&*store, "a", &claimed, verdict).await);
    }
    let record = store.record(&event.request_id).await.expect("read");
    assert_eq!(record.expect("is there").attempts, 0);
}

async fn only_the_claim_that_is_now_can_be_settled(store: Arc<dyn Store>) {
    append(&*store).await;
    let first = claim(&*store, "a", 1, OVER).await.remove(0);
    let over = async || claim(&*store, "a", 1, OVER).await.pop();
    let second = eventually("the claim to be over", over).await;
    assert_eq!((second.attempt, second.lost), (2, 1));
    // The same process, but it means the attempt before.
    assert!(!settle(&*store, "a", &first, Verdict::Failed(failure("old"))).await);
    assert!(settle(&*store, "a", &second, Verdict::Succeeded).await);
}

async fn what_failed_is_a_dead_letter(store: Arc<dyn Store>) {
    let mut failed = Vec::new();
    for code in ["one", "two", "three"] {
        let event = append(&*store).await;
        let claimed = claimable(&*store, "a").await;
        let verdict = Verdict::Failed(failure(code));
        let bounds = Bounds { dead: 2, ..BOUNDS };
        let settlement = Settlement {
            verdict,
            ran: Some(ran()),
        };
        let settled = store.settle("a", &claimed, settlement, bounds).await;
        assert!(settled.expect("settled"));
        failed.push(event);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let dead = store.dead(None, 10).await.expect("listed");
    let codes: Vec<_> = dead
        .iter()
        .map(|(_, record)| {
            assert_eq!((record.state, record.ran), (State::Failed, Some(ran())));
            record.failure.clone().expect("has one").code
        })
        .collect();
    assert_eq!(codes, ["three", "two"], "the oldest goes");
    assert_eq!(store.dead(None, 1).await.expect("listed").len(), 1);
    let depth = store.depth().await.expect("counted");
    assert_eq!((depth.unfinished, depth.dead), (0, 2));
    // Its payload went, but not what became of it.
    assert_eq!(state(&*store, &failed[0]).await, Some(State::Failed));
}

async fn how_the_last_attempt_went_is_kept(store: Arc<dyn Store>) {
    let event = append(&*store).await;
    let known = async || {
        let record = store.record(&event.request_id).await.expect("read");
        record.expect("known").ran
    };
    assert_eq!(known().await, None);
    let later = Ran {
        start: None,
        ..ran()
    };
    let again = || Verdict::Again {
        after: Duration::ZERO,
        counts: true,
        failure: failure("raised"),
    };
    // The last one was not made at all: what is known of the one before stays.
    for (verdict, ran, kept) in [
        (again(), Some(ran()), ran()),
        (again(), Some(later), later),
        (Verdict::Succeeded, None, later),
    ] {
        let claimed = claimable(&*store, "a").await;
        let settlement = Settlement { verdict, ran };
        let settled = store.settle("a", &claimed, settlement, BOUNDS).await;
        assert!(settled.expect("settled"));
        assert_eq!(known().await, Some(kept));
    }
}

async fn what_is_passed_on_is_a_new_event_in_the_same_step(store: Arc<dyn Store>) {
    let to = |streams: &[&'static str]| -> Vec<Passed> {
        let passed = streams.iter().map(|stream| Passed {
            event: Event {
                destination: Destination::parse(stream).ok(),
                depth: 1,
                ..event()
            },
            payload: (*stream).into(),
        });
        passed.collect()
    };
    for (failed, to) in [
        (None, to(&["stream:x"])),
        (Some(failure("raised")), to(&["stream:x"])),
        (Some(failure("raised")), to(&["stream:x", "stream:y"])),
    ] {
        let first = append(&*store).await;
        let claimed = claimable(&*store, "a").await;
        let verdict = Verdict::PassedOn {
            failure: failed.clone(),
            to: to.clone(),
        };
        // There is room, because one goes.
        let one = Bounds {
            unfinished: 1,
            ..BOUNDS
        };
        let settled = store
            .settle("a", &claimed, verdict.clone().into(), one)
            .await;
        assert!(settled.expect("settled"));
        assert!(!settle(&*store, "a", &claimed, verdict).await, "twice");
        let ended = match failed {
            None => State::Succeeded,
            Some(_) => State::Failed,
        };
        assert_eq!(state(&*store, &first).await, Some(ended));
        let record = store.record(&first.request_id).await.expect("read");
        assert_eq!(record.expect("known").failure, failed);
        let depth = store.depth().await.expect("counted");
        assert_eq!((depth.unfinished, depth.dead), (to.len() as u64, 0));
        let mut all = Vec::new();
        for _ in &to {
            let claimed = claimable(&*store, "b").await;
            assert!(settle(&*store, "b", &claimed, Verdict::Succeeded).await);
            let Claimed { event, payload, .. } = claimed;
            all.push(Passed { event, payload });
        }
        // Of one moment, they may come in any order.
        all.sort_by(|a, b| a.payload.cmp(&b.payload));
        assert_eq!(all, to);
    }
}

async fn what_has_an_end_is_remembered_within_bounds(store: Arc<dyn Store>) {
    let finish = async |bounds| {
        let event = append(&*store).await;
        let claimed = claimable(&*store, "a").await;
        let settled = store.settle("a", &claimed, Verdict::Succeeded.into(), bounds);
        assert!(settled.await.expect("settled"));
        tokio::time::sleep(Duration::from_millis(2)).await;
        event
    };
    let few = Bounds {
        finished: 2,
        ..BOUNDS
    };
    let (one, two, three) = (finish(few).await, finish(few).await, finish(few).await);
    assert_eq!(state(&*store, &one).await, None, "the oldest goes");
    assert!(state(&*store, &two).await.is_some());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let short = Bounds {
        keep: OVER,
        ..BOUNDS
    };
    let four = finish(short).await;
    for old in [two, three] {
        assert_eq!(state(&*store, &old).await, None, "its time is over");
    }
    assert!(state(&*store, &four).await.is_some());
}

async fn no_more_events_than_may_be_kept_are_taken(store: Arc<dyn Store>) {
    let two = Bounds {
        unfinished: 2,
        ..BOUNDS
    };
    let try_append = async || store.append(event(), Bytes::new(), two).await;
    try_append().await.expect("is kept");
    try_append().await.expect("is kept");
    assert!(matches!(try_append().await, Err(Error::Full)));
    // Claimed or waiting, they are there.
    let claimed = claim(&*store, "a", 1, LONG).await.remove(0);
    let verdict = Verdict::Again {
        after: LONG,
        counts: true,
        failure: failure("later"),
    };
    assert!(settle(&*store, "a", &claimed, verdict).await);
    assert!(matches!(try_append().await, Err(Error::Full)));
    let claimed = claimable(&*store, "a").await;
    assert!(settle(&*store, "a", &claimed, Verdict::Succeeded).await);
    try_append().await.expect("is kept");
}

async fn many_claim_at_once_and_each_event_is_claimed_by_one(store: Arc<dyn Store>) {
    let mut appended: Vec<RequestId> = Vec::new();
    for _ in 0..40 {
        appended.push(append(&*store).await.request_id);
    }
    let names: Vec<String> = (0..8).map(|n| format!("process {n}")).collect();
    let claims = names.iter().map(|by| claim(&*store, by, 10, LONG));
    let claimed = futures_util::future::join_all(claims).await;
    let mut claimed: Vec<RequestId> = claimed
        .into_iter()
        .flatten()
        .map(|claimed| claimed.event.request_id)
        .collect();
    let sort = |ids: &mut Vec<RequestId>| ids.sort_by_key(ToString::to_string);
    sort(&mut claimed);
    sort(&mut appended);
    assert_eq!(claimed, appended);
}

async fn bytes_come_back_as_they_were(store: Arc<dyn Store>) {
    let payload: Bytes = (0..=255)
        .cycle()
        .take(1024 * 1024)
        .collect::<Vec<u8>>()
        .into();
    let raw = Event {
        raw: true,
        ..event()
    };
    let kept = store.append(raw.clone(), payload.clone(), BOUNDS).await;
    kept.expect("is kept");
    let claimed = claimable(&*store, "a").await;
    assert_eq!((claimed.event, claimed.payload), (raw, payload));
}
