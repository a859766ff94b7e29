//! What every ledger of permits must do, asked through the trait. The rules are tested where they are written; here it is that time
//! passes, processes go, and somebody is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::clock;
use crate::store::permits::{Answer, Ask, Claim, Grant, Permits};

/// Generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that a busy machine does not lose it while nothing is to be lost.
const LONG: Duration = Duration::from_secs(30);

pub async fn run(make: impl AsyncFn() -> Arc<dyn Permits>) {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {$(
            println!("permits case: {}", stringify!($case));
            $case(make().await).await;
        )+};
    }
    cases![
        one_process_has_it_all,
        another_is_given_what_it_needs,
        parts_are_never_more_than_the_whole,
        a_late_ask_changes_nothing,
        who_is_replaced_is_told_so,
        what_is_given_back_goes_to_others,
        a_dead_process_gives_back_within_its_lease,
        a_silent_process_keeps_what_it_holds_for_its_tail,
    ];
}

/// Of ten, with a lease that is not lost while the machine is busy.
pub fn ask(process: &str, sequence: u64, held: u32, need: u32) -> Ask {
    Ask {
        process: process.into(),
        incarnation: format!("first of {process}"),
        sequence,
        answered: sequence - 1,
        lease: LONG,
        tail: Duration::ZERO,
        holds: sequence > 1,
        whole: true,
        account: 10,
        claims: vec![Claim {
            scope: "unreserved".into(),
            limit: 10,
            counted: true,
            held,
            need,
            lately: 0,
        }],
    }
}

async fn granted(ledger: &dyn Permits, ask: &Ask) -> Grant {
    match ledger.exchange(ask).await.expect("answers") {
        Answer::Granted(grants) => grants[0],
        other => unreachable!("{other:?}"),
    }
}

async fn one_process_has_it_all(ledger: Arc<dyn Permits>) {
    let all = Grant {
        held: 10,
        keep: 10,
        coming: 0,
    };
    assert_eq!(granted(&*ledger, &ask("a", 1, 0, 0)).await, all);
    assert_eq!(granted(&*ledger, &ask("a", 2, 10, 0)).await, all);
}

async fn another_is_given_what_it_needs(ledger: Arc<dyn Permits>) {
    let mut told = ledger.listen("a").await.expect("listens");
    granted(&*ledger, &ask("a", 1, 0, 6)).await;
    let none = granted(&*ledger, &ask("b", 1, 0, 3)).await;
    // Everything is held, but not all of it is needed.
    assert_eq!((none.held, none.coming), (0, 3));
    let heard = tokio::time::timeout(PATIENCE, told.next()).await;
    assert_eq!(heard.expect("in time"), Some(()));
    // Asked again, it is told what is enough for it, gives the rest back, and the other gets that.
    let enough = granted(&*ledger, &ask("a", 2, 10, 6)).await;
    assert_eq!((enough.held, enough.keep), (10, 6));
    granted(&*ledger, &ask("a", 3, 6, 6)).await;
    assert_eq!(granted(&*ledger, &ask("b", 2, 0, 3)).await.held, 3);
    granted(&*ledger, &ask("a", 4, 6, 6)).await;
    assert_eq!(granted(&*ledger, &ask("b", 3, 3, 9)).await.held, 4);
}

/// The parts of the account's limit, where two processes do not agree on them yet.
async fn parts_are_never_more_than_the_whole(ledger: Arc<dyn Permits>) {
    let of = |process: &str, sequence, parts: &[(&str, u32, u32, u32)]| {
        let claims = parts.iter().map(|&(scope, limit, held, need)| Claim {
            scope: scope.into(),
            limit,
            counted: scope != "capped",
            held,
            need,
            lately: 0,
        });
        Ask {
            whole: sequence == 1,
            claims: claims.collect(),
            ..ask(process, sequence, 0, 0)
        }
    };
    let held = async |ask: Ask| match ledger.exchange(&ask).await.expect("answers") {
        Answer::Granted(grants) => grants.iter().map(|grant| grant.held).collect::<Vec<_>>(),
        other => unreachable!("{other:?}"),
    };
    // It has not heard of the reservation. A limit within a part is not counted twice.
    let old = of("a", 1, &[("capped", 5, 0, 5), ("unreserved", 10, 0, 8)]);
    assert_eq!(held(old).await, [5, 10]);
    let parts = [("reserved", 4, 0, 4), ("unreserved", 6, 0, 4)];
    assert_eq!(held(of("b", 1, &parts)).await, [0, 0]);
    let a = of("a", 2, &[("unreserved", 10, 8, 8)]);
    assert_eq!(held(a).await, [8]);
    assert_eq!(held(of("b", 2, &parts)).await, [2, 0]);
    // What one part of a process gives back is for its other, in the same ask.
    let a = of("a", 3, &[("unreserved", 6, 6, 6)]);
    assert_eq!(held(a).await, [6]);
    let parts = [("reserved", 4, 2, 4)];
    assert_eq!(held(of("b", 3, &parts)).await, [4]);
    let parts = [("reserved", 1, 1, 0), ("unreserved", 9, 0, 3)];
    assert_eq!(held(of("b", 4, &parts)).await, [1, 3]);
    assert_eq!(held(of("a", 4, &[("reserved", 4, 0, 4)])).await, [0]);
}

async fn a_late_ask_changes_nothing(ledger: Arc<dyn Permits>) {
    granted(&*ledger, &ask("a", 1, 0, 10)).await;
    granted(&*ledger, &ask("a", 3, 10, 10)).await;
    let late = ledger.exchange(&ask("a", 2, 0, 0)).await;
    assert_eq!(late.expect("answers"), Answer::Late);
    assert_eq!(granted(&*ledger, &ask("b", 1, 0, 10)).await.held, 0);
}

async fn who_is_replaced_is_told_so(ledger: Arc<dyn Permits>) {
    granted(&*ledger, &ask("a", 1, 0, 10)).await;
    let second = Ask {
        incarnation: "second".into(),
        ..ask("a", 1, 0, 4)
    };
    assert_eq!(granted(&*ledger, &second).await.held, 10);
    let first = ledger.exchange(&ask("a", 2, 10, 10)).await;
    assert_eq!(first.expect("answers"), Answer::Superseded);
}

async fn what_is_given_back_goes_to_others(ledger: Arc<dyn Permits>) {
    granted(&*ledger, &ask("a", 1, 0, 10)).await;
    let end = Ask {
        lease: Duration::ZERO,
        claims: Vec::new(),
        ..ask("a", 3, 10, 0)
    };
    let left = ledger.exchange(&end).await.expect("answers");
    assert_eq!(left, Answer::Granted(Vec::new()));
    // One that was on its way when it left brings nothing back.
    let late = ledger.exchange(&ask("a", 2, 10, 10)).await;
    assert_eq!(late.expect("answers"), Answer::Late);
    assert_eq!(granted(&*ledger, &ask("b", 1, 0, 1)).await.held, 10);
}

/// Asks for b until it gets something.
async fn until_granted(ledger: &dyn Permits, lease: Duration) -> Duration {
    let begun = clock::now();
    for sequence in 1.. {
        let mine = Ask {
            lease,
            ..ask("b", sequence, 0, 10)
        };
        if granted(ledger, &mine).await.held > 0 {
            break;
        }
        assert!(clock::now() < begun + PATIENCE, "nothing came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clock::now().duration_since(begun)
}

async fn a_dead_process_gives_back_within_its_lease(ledger: Arc<dyn Permits>) {
    let lease = Duration::from_millis(400);
    let told = ledger.listen("a").await.expect("listens");
    let short = Ask {
        lease,
        // Nobody would wait for that.
        tail: Duration::from_secs(3600),
        ..ask("a", 1, 0, 10)
    };
    assert_eq!(granted(&*ledger, &short).await.held, 10);
    drop(told);
    until_granted(&*ledger, lease).await;
}

async fn a_silent_process_keeps_what_it_holds_for_its_tail(ledger: Arc<dyn Permits>) {
    let (lease, tail) = (Duration::from_millis(300), Duration::from_millis(700));
    let _listening = ledger.listen("a").await.expect("listens");
    let short = Ask {
        lease,
        tail,
        ..ask("a", 1, 0, 10)
    };
    assert_eq!(granted(&*ledger, &short).await.held, 10);
    let took = until_granted(&*ledger, lease).await;
    // A lower bound: being slow cannot break it.
    assert!(
        took >= lease + tail - Duration::from_millis(100),
        "{took:?}"
    );
}
