//! What every store must do with answers to named calls. Called by the suite.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::eventually;
use crate::domain::id::{FunctionId, RequestId};
use crate::domain::idempotency::{Answer, Key};
use crate::store::answers::{Begun, Bounds, Ended};
use crate::store::{Error, Store};

/// Longer than any case takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(3600);
/// Over before anybody looks.
const OVER: Duration = Duration::from_millis(1);

const BOUNDS: Bounds = Bounds {
    keys: 100,
    bytes: 10 * 1024 * 1024,
    keep: LONG,
    lease: LONG,
};

pub(super) async fn run(make: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("store case: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        an_answer_is_given_again_word_for_word,
        a_key_is_begun_by_one_of_many,
        the_same_key_for_something_else_is_told_apart,
        what_was_released_was_never_begun,
        one_that_is_not_held_is_somebody_elses_and_keeps_its_first,
        one_that_is_held_stays,
        an_answer_is_forgotten_when_its_time_is_over,
        no_more_keys_than_may_be_known_are_begun,
        what_does_not_fit_is_not_kept_but_has_an_end,
        what_is_forgotten_makes_room,
        what_is_over_is_forgotten_without_another_call,
        bytes_come_back_as_they_were,
    ];
}

fn key(written: &str) -> Key {
    Key::of(&FunctionId::from_stored("f"), written, "", b"{}")
}

fn answer(body: impl Into<Bytes>) -> Answer {
    Answer {
        status: 502,
        headers: vec![("content-type".into(), "text/\"plain\"".into())],
        body: body.into(),
    }
}

async fn begin(store: &dyn Store, key: &Key, by: RequestId, bounds: Bounds) -> Begun {
    let begun = store.begin(key, by, bounds).await;
    begun.expect("can be asked for")
}

/// Begins a key nobody has.
async fn begun(store: &dyn Store, key: &Key, bounds: Bounds) -> RequestId {
    let by = RequestId::generate();
    assert_eq!(
        begin(store, key, by, bounds).await,
        Begun::Yours { first: by }
    );
    by
}

async fn end(store: &dyn Store, key: &Key, by: RequestId, answer: &Answer, to: Bounds) -> Ended {
    let ended = store.end(key, by, Some(answer), to).await;
    ended.expect("can be ended")
}

/// How it stands with a key, for somebody else.
async fn seen(store: &dyn Store, key: &Key) -> Begun {
    begin(store, key, RequestId::generate(), BOUNDS).await
}

async fn an_answer_is_given_again_word_for_word(store: Arc<dyn Store>) {
    let key = key("k");
    let by = begun(&*store, &key, BOUNDS).await;
    assert_eq!(seen(&*store, &key).await, Begun::Running);
    assert_eq!(begin(&*store, &key, by, BOUNDS).await, Begun::Running);
    let given = answer("{\"a\": 1}");
    assert_eq!(end(&*store, &key, by, &given, BOUNDS).await, Ended::Kept);
    for _ in 0..3 {
        assert_eq!(seen(&*store, &key).await, Begun::Answered(given.clone()));
    }
    let again = end(&*store, &key, by, &answer("other"), BOUNDS).await;
    assert_eq!(again, Ended::Lost, "it has an end");
    assert!(!store.release(&key, by).await.expect("released"));
    assert!(!store.hold(&key, by, BOUNDS).await.expect("held"));
    assert_eq!(seen(&*store, &key).await, Begun::Answered(given));
}

async fn a_key_is_begun_by_one_of_many(store: Arc<dyn Store>) {
    let key = key("k");
    let all = (0..20).map(|_| async { seen(&*store, &key).await });
    let all = futures_util::future::join_all(all).await;
    let yours = |begun: &&Begun| matches!(begun, Begun::Yours { .. });
    assert_eq!(all.iter().filter(yours).count(), 1, "{all:?}");
    let running = all.iter().filter(|begun| **begun == Begun::Running);
    assert_eq!(running.count(), 19);
}

async fn the_same_key_for_something_else_is_told_apart(store: Arc<dyn Store>) {
    let first = key("k");
    let other = Key {
        print: key("x").id,
        ..first.clone()
    };
    let by = begun(&*store, &first, BOUNDS).await;
    assert_eq!(seen(&*store, &other).await, Begun::Different);
    end(&*store, &first, by, &answer("1"), BOUNDS).await;
    assert_eq!(seen(&*store, &other).await, Begun::Different);
    // Another key is another call.
    begun(&*store, &key("l"), BOUNDS).await;
}

async fn what_was_released_was_never_begun(store: Arc<dyn Store>) {
    let key = key("k");
    let by = begun(&*store, &key, BOUNDS).await;
    let other = RequestId::generate();
    assert!(!store.release(&key, other).await.expect("released"));
    assert_eq!(seen(&*store, &key).await, Begun::Running);
    assert!(store.release(&key, by).await.expect("released"));
    assert!(!store.release(&key, by).await.expect("released"), "twice");
    // And for something else, too.
    let other = Key {
        print: "0".repeat(64),
        ..key
    };
    begun(&*store, &other, BOUNDS).await;
}

async fn one_that_is_not_held_is_somebody_elses_and_keeps_its_first(store: Arc<dyn Store>) {
    let key = key("k");
    let short = Bounds {
        lease: OVER,
        ..BOUNDS
    };
    let first = begun(&*store, &key, short).await;
    let second = RequestId::generate();
    let taken = eventually("the lease to be over", async || {
        let begun = begin(&*store, &key, second, BOUNDS).await;
        (begun != Begun::Running).then_some(begun)
    })
    .await;
    assert_eq!(taken, Begun::Yours { first });
    assert!(!store.hold(&key, first, BOUNDS).await.expect("held"));
    assert!(!store.release(&key, first).await.expect("released"));
    let late = end(&*store, &key, first, &answer("late"), BOUNDS).await;
    assert_eq!(late, Ended::Lost);
    assert_eq!(seen(&*store, &key).await, Begun::Running);
    let given = answer("2");
    assert_eq!(
        end(&*store, &key, second, &given, BOUNDS).await,
        Ended::Kept
    );
    assert_eq!(seen(&*store, &key).await, Begun::Answered(given));
}

async fn one_that_is_held_stays(store: Arc<dyn Store>) {
    let (kept, lost) = (key("kept"), key("lost"));
    let short = Bounds {
        lease: Duration::from_millis(200),
        ..BOUNDS
    };
    let by = begun(&*store, &kept, BOUNDS).await;
    begun(&*store, &lost, short).await;
    // Held until the other one was free, which proves that its lease is over.
    eventually("the other lease to be over", async || {
        assert!(store.hold(&kept, by, BOUNDS).await.expect("held"));
        assert_eq!(seen(&*store, &kept).await, Begun::Running);
        matches!(seen(&*store, &lost).await, Begun::Yours { .. }).then_some(())
    })
    .await;
    assert_eq!(
        end(&*store, &kept, by, &answer("1"), BOUNDS).await,
        Ended::Kept
    );
}

async fn an_answer_is_forgotten_when_its_time_is_over(store: Arc<dyn Store>) {
    let key = key("k");
    let by = begun(&*store, &key, BOUNDS).await;
    let short = Bounds {
        keep: OVER,
        ..BOUNDS
    };
    end(&*store, &key, by, &answer("1"), short).await;
    let again = RequestId::generate();
    eventually("the answer to be forgotten", async || {
        let begun = begin(&*store, &key, again, BOUNDS).await;
        (begun == Begun::Yours { first: again }).then_some(())
    })
    .await;
    end(&*store, &key, again, &answer("2"), BOUNDS).await;
    assert_eq!(seen(&*store, &key).await, Begun::Answered(answer("2")));
}

async fn no_more_keys_than_may_be_known_are_begun(store: Arc<dyn Store>) {
    let two = Bounds { keys: 2, ..BOUNDS };
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let by = begun(&*store, &a, two).await;
    begun(&*store, &b, two).await;
    end(&*store, &a, by, &answer("1"), two).await;
    let refused = store.begin(&c, RequestId::generate(), two).await;
    assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
    // Who is known is answered all the same.
    let known = begin(&*store, &a, RequestId::generate(), two).await;
    assert_eq!(known, Begun::Answered(answer("1")));
    begun(&*store, &c, BOUNDS).await;
}

async fn what_does_not_fit_is_not_kept_but_has_an_end(store: Arc<dyn Store>) {
    let few = Bounds {
        bytes: 10,
        ..BOUNDS
    };
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let by = begun(&*store, &a, few).await;
    let kept = end(&*store, &a, by, &answer("1234567"), few).await;
    assert_eq!(kept, Ended::Kept);
    let by = begun(&*store, &b, few).await;
    let unkept = end(&*store, &b, by, &answer("1234"), few).await;
    assert_eq!(unkept, Ended::Unkept);
    assert_eq!(seen(&*store, &b).await, Begun::Unkept);
    let by = begun(&*store, &c, few).await;
    let unkept = store.end(&c, by, None, few).await.expect("ended");
    assert_eq!(unkept, Ended::Unkept);
    assert_eq!(seen(&*store, &c).await, Begun::Unkept);
    assert_eq!(seen(&*store, &a).await, Begun::Answered(answer("1234567")));
}

async fn what_is_forgotten_makes_room(store: Arc<dyn Store>) {
    let tight = Bounds {
        keys: 1,
        bytes: 4,
        keep: OVER,
        ..BOUNDS
    };
    for n in 0..5 {
        let key = key(&n.to_string());
        let by = RequestId::generate();
        // The one before is forgotten first.
        eventually("room for another key", async || {
            store.begin(&key, by, tight).await.ok()
        })
        .await;
        let ended = end(&*store, &key, by, &answer("1234"), tight).await;
        assert_eq!(ended, Ended::Kept, "{n}");
    }
}

async fn what_is_over_is_forgotten_without_another_call(store: Arc<dyn Store>) {
    assert!(!store.forget().await.expect("forgets"), "there is nothing");
    let kept = key("kept");
    let by = begun(&*store, &kept, BOUNDS).await;
    end(&*store, &kept, by, &answer("1"), BOUNDS).await;
    let running = key("running");
    begun(&*store, &running, BOUNDS).await;
    let gone = Bounds {
        keep: OVER,
        lease: OVER,
        bytes: 5,
        ..BOUNDS
    };
    let (old, abandoned) = (key("old"), key("abandoned"));
    let by = begun(&*store, &old, gone).await;
    let ended = end(&*store, &old, by, &answer("1234"), gone).await;
    assert_eq!(ended, Ended::Kept);
    begun(&*store, &abandoned, gone).await;
    eventually("them to be forgotten", async || {
        store.forget().await.expect("forgets").then_some(())
    })
    .await;
    // One of them may have been over a moment before the other; then there is nothing more.
    eventually("nothing to be left to forget", async || {
        (!store.forget().await.expect("forgets")).then_some(())
    })
    .await;
    // The bytes of what was answered are free again: all five but the one that is still there.
    let last = key("last");
    let by = begun(&*store, &last, BOUNDS).await;
    let ended = end(&*store, &last, by, &answer("1234"), gone).await;
    assert_eq!(ended, Ended::Kept);
    assert_eq!(seen(&*store, &kept).await, Begun::Answered(answer("1")));
    assert_eq!(seen(&*store, &running).await, Begun::Running);
}

async fn bytes_come_back_as_they_were(store: Arc<dyn Store>) {
    let body: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    for (written, given) in [("full", answer(body)), ("empty", answer(""))] {
        let key = key(written);
        let by = begun(&*store, &key, BOUNDS).await;
        assert_eq!(end(&*store, &key, by, &given, BOUNDS).await, Ended::Kept);
        assert_eq!(seen(&*store, &key).await, Begun::Answered(given));
    }
}
