//! How many calls run at once: the limits hold as the functions themselves see it, and who is refused is told which limit it was.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::Answer;
use crate::permits::{LIMIT, Load, RESERVED, all_served, in_use};
use crate::server::Server;

/// When a handler began and ended.
pub(crate) type Interval = (f64, f64);

pub(crate) const TELLS_WHEN: &str = r#"
import time
def handler(event, context):
    begun = time.monotonic()
    time.sleep(event)
    return [begun, time.monotonic()]
"#;

/// The most intervals that share a moment.
pub(crate) fn most_at_once(intervals: &[Interval]) -> usize {
    // What ends at the moment another begins is over by then.
    let mut changes: Vec<(f64, i32)> = intervals
        .iter()
        .flat_map(|&(begun, ended)| [(begun, 1), (ended, -1)])
        .collect();
    changes.sort_by(|a, b| a.partial_cmp(b).expect("times are numbers"));
    let mut now = 0;
    let counts = changes.iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().map_or(0, |most| most as usize)
}

/// Calls at the same time.
async fn together(server: &Server, calls: &[(&str, Value)]) -> Vec<Answer> {
    let calls = calls.iter().map(|(name, event)| server.call(name, event));
    futures_util::future::join_all(calls).await
}

fn by_status(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.status.as_u16()).or_default() += 1;
    }
    counts
}

#[track_caller]
fn throttled(answers: &[Answer], reason: &str) -> usize {
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    for answer in &refused {
        let error = answer.error(429);
        assert_eq!(error["reason"], reason, "{error}");
        assert_eq!(
            (&error["code"], &error["retry"]),
            (&json!("throttled"), &json!("safe"))
        );
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.phase("run").is_zero());
    }
    refused.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_functions_limit_is_never_exceeded_and_says_so() {
    let server = Server::start(&[("pool.stem_min", "0")]);
    server
        .deploy(
            "few",
            TELLS_WHEN,
            json!({"max_concurrency": 2, "timeout": 30}),
        )
        .await;
    let clients = (0..6).map(|_| async {
        let mut connection = server.client.connect().await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..25 {
            answers.push(
                connection
                    .post("/functions/few/execute", &json!(0.03))
                    .await
                    .unwrap(),
            );
        }
        answers
    });
    let answers: Vec<Answer> = futures_util::future::join_all(clients)
        .await
        .into_iter()
        .flatten()
        .collect();
    let intervals: Vec<Interval> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| serde_json::from_value(answer.json()).unwrap())
        .collect();
    let refused = throttled(&answers, "function_concurrency");
    assert_eq!(
        intervals.len() + refused,
        answers.len(),
        "{:?}",
        by_status(&answers)
    );
    assert!(refused > 0);
    assert_eq!(most_at_once(&intervals), 2);
    let labels = [("function", "few"), ("reason", "function_concurrency")];
    let counted = server
        .metrics()
        .await
        .sum("hearth_throttles_total", &labels);
    assert_eq!(counted, refused as f64);

    // A change of the limit holds for the next call, and keeps the workers.
    server
        .client
        .put("/functions/few", &json!({"max_concurrency": 0}))
        .await
        .expect(200);
    let answer = server.call("few", &json!(0)).await;
    assert!(
        answer.error(429)["message"]
            .as_str()
            .unwrap()
            .contains("max_concurrency of 0")
    );
    server
        .client
        .put("/functions/few", &json!({"max_concurrency": null}))
        .await
        .expect(200);
    assert_eq!(
        server.call("few", &json!(0)).await.expect(200).start(),
        "warm"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_has_one_limit_for_all_functions() {
    let settings = [("limits.concurrency", "2"), ("pool.stem_min", "0")];
    let server = Server::start(&settings);
    for name in ["a", "b"] {
        server
            .deploy(name, TELLS_WHEN, json!({"timeout": 60}))
            .await;
    }
    let calls = ["a", "b", "a", "b", "a"].map(|name| (name, json!(2)));
    let answers = together(&server, &calls).await;
    assert_eq!(by_status(&answers), [(200, 2), (429, 3)].into());
    assert_eq!(throttled(&answers, "account_concurrency"), 3);
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(
        refused.error(429)["message"]
            .as_str()
            .unwrap()
            .contains("limit of 2")
    );
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum(
            "hearth_throttles_total",
            &[("reason", "account_concurrency")]
        ),
        3.0
    );
    assert_eq!(metrics.sum("hearth_concurrency_limit", &[]), 2.0);
    assert_eq!(metrics.sum("hearth_concurrency", &[]), 0.0);
    assert_eq!(
        by_status(&together(&server, &[("a", json!(0)), ("b", json!(0))]).await),
        [(200, 2)].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_a_cap_and_a_guarantee() {
    let limit = LIMIT.to_string();
    let settings = [("limits.concurrency", &limit[..]), ("pool.stem_min", "0")];
    let server = Server::start(&settings);
    server
        .deploy("counted", TELLS_WHEN, json!({"timeout": 60}))
        .await;
    // Calls of the other function are under way when it comes: it is there for good when those have ended.
    let load = Load::on(&server);
    in_use(&[&server], LIMIT, "everything to be used").await;
    let own = json!({"timeout": 60, "reserved_concurrency": RESERVED});
    server.deploy("own", TELLS_WHEN, own).await;
    load.end().await;

    let load = Load::on(&server);
    let what = "all that is not reserved to be used";
    in_use(&[&server], LIMIT - RESERVED, what).await;
    let mut reserved = Vec::new();
    for _ in 0..20 {
        reserved.extend(all_served(&[&server], "own", RESERVED, 0.05).await);
    }
    // It is a cap, too.
    let calls = [(); RESERVED + 2].map(|()| ("own", json!(2)));
    let answers = together(&server, &calls).await;
    assert_eq!(by_status(&answers), [(200, RESERVED), (429, 2)].into());
    assert_eq!(throttled(&answers, "reserved_concurrency"), 2);
    let others = load.end().await;
    assert_eq!(most_at_once(&others), LIMIT - RESERVED);
    let refused = server.metrics().await.sum(
        "hearth_throttles_total",
        &[("reason", "unreserved_concurrency")],
    );
    assert!(refused > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_line_is_an_answer_of_its_own() {
    let server = Server::start(&[("limits.line_depth", "1"), ("pool.stem_min", "0")]);
    // Whoever comes while it loads waits in line, where there is one place.
    let code = "import time\ntime.sleep(2)\ndef handler(event, context): return 'served'";
    server.deploy("narrow", code, json!({})).await;
    let calls: [(&str, Value); 4] = std::array::from_fn(|_| ("narrow", json!({})));
    let answers = together(&server, &calls).await;
    assert_eq!(by_status(&answers), [(200, 1), (429, 3)].into());
    assert_eq!(throttled(&answers, "line_full"), 3);
    let labels = [("function", "narrow"), ("reason", "line_full")];
    assert_eq!(
        server
            .metrics()
            .await
            .sum("hearth_throttles_total", &labels),
        3.0
    );
}
