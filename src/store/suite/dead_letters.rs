//! What every store must do with dead letters. Called by the suite.

use std::sync::Arc;
use std::time::Duration;

use super::events::{BOUNDS, append, claim, claimable, failure, settle, state};
use crate::clock;
use crate::domain::event::{Event, State, Verdict};
use crate::domain::id::RequestId;
use crate::store::dead_letters::Place;
use crate::store::events::Bounds;
use crate::store::{Error, Store};

const LONG: Duration = Duration::from_secs(3600);

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        dead_letters_are_listed_a_page_at_a_time,
        a_dead_letter_is_read_whole,
        a_redriven_one_is_an_event_like_any_other,
        of_many_redrives_one_puts_it_back,
        a_discarded_one_is_gone_and_known,
        one_that_does_not_fit_stays_where_it_is,
        only_dead_letters_are_dead_letters,
    ];
}

/// An event that failed for good.
async fn died(store: &dyn Store) -> Event {
    let event = append(store).await;
    let claimed = claimable(store, "a").await;
    let failed = Verdict::Failed(failure("raised"));
    assert!(settle(store, "a", &claimed, failed).await);
    event
}

async fn listed(store: &dyn Store, after: Option<Place>, most: usize) -> Vec<(Place, RequestId)> {
    let listed = store.dead(after, most).await.expect("listed");
    let pair = |(place, record): (Place, crate::domain::event::Record)| {
        assert_eq!(record.state, State::Failed);
        (place, record.event.request_id)
    };
    listed.into_iter().map(pair).collect()
}

async fn dead_letters_are_listed_a_page_at_a_time(store: Arc<dyn Store>) {
    assert!(listed(&*store, None, 10).await.is_empty());
    let mut died_in_order = Vec::new();
    // Many in the same millisecond, too.
    for _ in 0..25 {
        died_in_order.push(died(&*store).await.request_id);
    }
    let all = listed(&*store, None, 100).await;
    let key = |(place, id): &(Place, RequestId)| (place.at, id.to_string());
    assert!(all.is_sorted_by(|a, b| key(a) > key(b)), "the last first");
    let sorted = |mut ids: Vec<RequestId>| {
        ids.sort_by_key(ToString::to_string);
        ids
    };
    let ids = all.iter().map(|(_, id)| *id).collect();
    assert_eq!(sorted(ids), sorted(died_in_order));
    for size in [1, 2, 7, 25] {
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(|(place, _)| *place);
            let page = listed(&*store, after, size).await;
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= size);
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {size}");
    }
}

async fn a_dead_letter_is_read_whole(store: Arc<dyn Store>) {
    let event = died(&*store).await;
    let found = store.dead_letter(&event.request_id).await.expect("read");
    let (record, payload) = found.expect("is there");
    assert_eq!((&record.event, &payload[..]), (&event, &b"{}"[..]));
    assert_eq!(record.failure, Some(failure("raised")));
    assert_eq!((record.state, record.attempts), (State::Failed, 1));
    assert!(record.finished_at.is_some());
}

async fn a_redriven_one_is_an_event_like_any_other(store: Arc<dyn Store>) {
    let event = died(&*store).await;
    let id = event.request_id;
    let at = clock::wall();
    assert!(store.redrive(&id, at, BOUNDS).await.expect("redriven"));
    assert!(!store.redrive(&id, at, BOUNDS).await.expect("redriven"));
    assert_eq!(state(&*store, &event).await, Some(State::Queued));
    assert!(listed(&*store, None, 10).await.is_empty());
    let depth = store.depth().await.expect("counted");
    assert_eq!((depth.unfinished, depth.dead), (1, 0));
    let again = claimable(&*store, "b").await;
    let meant = Event {
        redriven_at: Some(at),
        ..event.clone()
    };
    assert_eq!((&again.event, again.attempt), (&meant, 1));
    assert_eq!(&again.payload[..], b"{}");
    assert!(settle(&*store, "b", &again, Verdict::Failed(failure("again"))).await);
    assert_eq!(listed(&*store, None, 10).await.len(), 1);
    assert!(store.redrive(&id, at, BOUNDS).await.expect("redriven"));
    let last = claimable(&*store, "b").await;
    assert!(settle(&*store, "b", &last, Verdict::Succeeded).await);
    assert_eq!(state(&*store, &event).await, Some(State::Succeeded));
    assert!(store.dead_letter(&id).await.expect("read").is_none());
}

async fn of_many_redrives_one_puts_it_back(store: Arc<dyn Store>) {
    let id = died(&*store).await.request_id;
    let at = clock::wall();
    let redrives = (0..20).map(|_| store.redrive(&id, at, BOUNDS));
    let redriven = futures_util::future::join_all(redrives).await;
    let done = redriven.into_iter().filter(|r| matches!(r, Ok(true)));
    assert_eq!(done.count(), 1);
    assert_eq!(claim(&*store, "a", 10, LONG).await.len(), 1);
    assert_eq!(store.depth().await.expect("counted").unfinished, 1);
}

async fn a_discarded_one_is_gone_and_known(store: Arc<dyn Store>) {
    let event = died(&*store).await;
    let id = event.request_id;
    assert!(store.discard(&id).await.expect("discarded"));
    assert!(!store.discard(&id).await.expect("discarded"), "twice");
    assert!(listed(&*store, None, 10).await.is_empty());
    assert!(store.dead_letter(&id).await.expect("read").is_none());
    let redriven = store.redrive(&id, clock::wall(), BOUNDS).await;
    assert!(!redriven.expect("redriven"));
    assert_eq!(state(&*store, &event).await, Some(State::Failed));
}

async fn one_that_does_not_fit_stays_where_it_is(store: Arc<dyn Store>) {
    let event = died(&*store).await;
    append(&*store).await;
    let one = Bounds {
        unfinished: 1,
        ..BOUNDS
    };
    let refused = store.redrive(&event.request_id, clock::wall(), one).await;
    assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
    assert_eq!(listed(&*store, None, 10).await.len(), 1);
    assert_eq!(state(&*store, &event).await, Some(State::Failed));
}

async fn only_dead_letters_are_dead_letters(store: Arc<dyn Store>) {
    let waiting = append(&*store).await.request_id;
    for id in [waiting, RequestId::generate()] {
        assert!(store.dead_letter(&id).await.expect("read").is_none());
        assert!(!store.discard(&id).await.expect("discarded"));
        let redriven = store.redrive(&id, clock::wall(), BOUNDS).await;
        assert!(!redriven.expect("redriven"));
    }
    assert_eq!(store.depth().await.expect("counted").unfinished, 1);
}
