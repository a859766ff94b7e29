//! One limit for several Hearths on one Redis: what runs at the same time is measured by the functions themselves, while processes are
//! killed and stopped, and Redis goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::Answer;
use crate::limiting::{Interval, most_at_once};
use crate::server::{Server, State};
use crate::sharing::Redis;
use crate::wait::eventually;

pub(crate) const LIMIT: usize = 10;
const LEASE: Duration = Duration::from_secs(2);
/// Of the limit, for one function.
pub(crate) const RESERVED: usize = 4;

/// All containers are on one host, so they have one clock.
const TELLS_WHEN: &str = r#"
import time
def handler(event, context):
    begun = time.monotonic()
    time.sleep(event)
    return [begun, time.monotonic()]
"#;

/// Clients that call as fast as they are answered, until they are told to stop, and what their calls said of themselves.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<Mutex<Vec<Interval>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn on(server: &Server) -> Self {
        Self::of(server, "counted")
    }

    /// More clients than there may be calls, so that the limit is what holds them back.
    fn of(server: &Server, name: &str) -> Self {
        let path = format!("/functions/{name}/execute");
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..LIMIT + 2).map(|_| {
            let (client, stop, served) = (server.client.clone(), stop.clone(), served.clone());
            let path = path.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut connection) = client.connect().await else {
                        break;
                    };
                    // A server that is killed takes the connection with it.
                    while !stop.load(Ordering::Relaxed)
                        && let Ok(answer) = connection.post(&path, &json!(0.05)).await
                    {
                        match answer.status.as_u16() {
                            200 => {
                                let interval = serde_json::from_value(answer.json()).unwrap();
                                served.lock().unwrap().push(interval);
                            }
                            // Refused; or the server was stopped for longer than the call may take.
                            429 | 503 | 504 => {}
                            other => panic!("{other}: {}", answer.text()),
                        }
                    }
                }
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            served,
            clients,
        }
    }

    pub(crate) async fn end(self) -> Vec<Interval> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        std::mem::take(&mut self.served.lock().unwrap())
    }
}

async fn end(loads: Vec<Load>) -> Vec<Interval> {
    let ends = loads.into_iter().map(Load::end);
    let all = futures_util::future::join_all(ends).await;
    all.into_iter().flatten().collect()
}

/// One of those that share the limit.
fn hearth(redis: &Redis) -> Server {
    hearth_on(redis, State::new())
}

fn hearth_on(redis: &Redis, state: State) -> Server {
    let lease = format!("{}s", LEASE.as_secs());
    hearth_with(redis, state, &[("limits.lease", &lease)])
}

fn hearth_with(redis: &Redis, state: State, more: &[(&str, &str)]) -> Server {
    let (url, limit) = (redis.url(), LIMIT.to_string());
    let mut settings = vec![
        ("store.url", &url[..]),
        ("limits.concurrency", &limit),
        ("pool.stem_min", "0"),
    ];
    settings.extend(more);
    Server::start_on(state, &settings)
}

async fn knows(server: &Server, name: &str) {
    eventually(&format!("{name} to be callable"), || async {
        (server.call(name, &json!(0)).await.status == 200).then_some(())
    })
    .await;
}

/// Waits until so many permits are in use. Whether each of them has a worker by then is the pool's choice: it starts none for a call that
/// those there are will serve sooner.
pub(crate) async fn in_use(servers: &[&Server], wanted: usize, what: &str) {
    eventually(what, || async {
        let mut sum = 0.0;
        for server in servers {
            sum += server.metrics().await.sum("hearth_concurrency", &[]);
        }
        (sum >= wanted as f64).then_some(())
    })
    .await;
}

/// What counts as the whole limit being usable.
const NEARLY_ALL: usize = LIMIT * 9 / 10;

/// Lets a load go on for so many calls as a process answers in a while.
async fn for_some_calls(server: &Server, calls: f64) {
    let count = async || {
        let metrics = server.metrics().await;
        metrics.sum("hearth_invocations_total", &[("outcome", "ok")])
    };
    let before = count().await;
    eventually("calls to be answered", || async {
        (count().await >= before + calls).then_some(())
    })
    .await;
}

fn never_above_the_limit(intervals: &[Interval]) {
    let most = most_at_once(intervals);
    assert!((2..=LIMIT).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_keep_one_limit() {
    let redis = Redis::start();
    let (a, b, c) = (hearth(&redis), hearth(&redis), hearth(&redis));
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 2})).await;
    for server in [&b, &c] {
        knows(server, "counted").await;
    }
    let mut all = Vec::new();

    // Load on all.
    let mut loads: Vec<Load> = [&a, &b, &c].map(Load::on).into();
    let what = "the limit to be used by all three";
    in_use(&[&a, &b, &c], NEARLY_ALL, what).await;
    for server in [&a, &b, &c] {
        for_some_calls(server, 20.0).await;
    }

    // One is stopped for longer than its lease and what its calls may take; meanwhile the others get its part.
    c.signal(Signal::SIGSTOP);
    let what = "the limit to be used by the two that are not stopped";
    in_use(&[&a, &b], NEARLY_ALL, what).await;
    for_some_calls(&a, 100.0).await;
    for warning in [
        "others have been given some",
        "the lease on permits ran out",
        "changes by other processes go unnoticed",
        "call failed",
    ] {
        c.expects(warning);
    }
    c.signal(Signal::SIGCONT);
    for_some_calls(&c, 10.0).await;
    for server in [&a, &b] {
        for_some_calls(server, 20.0).await;
    }

    // One is killed: the others have its part within its lease.
    let state = c.crash();
    let last = loads.pop().expect("there are three");
    let what = "the limit to be used by the two that are left";
    in_use(&[&a, &b], NEARLY_ALL, what).await;
    for server in [&a, &b] {
        for_some_calls(server, 50.0).await;
    }
    all.extend(last.end().await);
    all.extend(end(loads).await);
    never_above_the_limit(&all);
    // What it left behind goes with its next start.
    drop(hearth_on(&redis, state));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_redis_is_away() {
    let redis = Redis::start();
    let (a, b) = (hearth(&redis), hearth(&redis));
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 2})).await;
    for server in [&a, &b] {
        knows(server, "counted").await;
        server.expects("changes by other processes go unnoticed");
        server.expects("what others changed cannot be read");
    }

    let kept = redis.stop();
    for server in [&a, &b] {
        let labels = [("outcome", "away")];
        // Longer than its lease.
        let away = async || {
            server
                .metrics()
                .await
                .sum("hearth_permit_asks_total", &labels)
        };
        eventually("more attempts than fit into a lease", || async {
            assert_eq!(
                server.call("counted", &json!(0)).await.expect(200).start(),
                "warm"
            );
            (away().await >= 16.0).then_some(())
        })
        .await;
    }
    let loads: Vec<Load> = [&a, &b].map(Load::on).into();
    for server in [&a, &b] {
        for_some_calls(server, 20.0).await;
    }
    let _redis = Redis::start_in(kept);
    for server in [&a, &b] {
        let log = || server.log().contains("the ledger of permits answers again");
        eventually("the ledger to be heard of", || async {
            log().then_some(())
        })
        .await;
    }
    in_use(&[&a, &b], NEARLY_ALL, "the limit to be used again").await;
    for server in [&a, &b] {
        for_some_calls(server, 50.0).await;
    }
    never_above_the_limit(&end(loads).await);
}

/// There is always room for what the limits are kept with, and for what is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_redis_is_full() {
    let redis = Redis::start();
    let (a, b) = (hearth(&redis), hearth(&redis));
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 2})).await;
    a.deploy("gone", TELLS_WHEN, json!({})).await;
    knows(&b, "counted").await;
    knows(&b, "gone").await;
    for server in [&a, &b] {
        server.expects("asynchronous calls could not be kept");
        server.expects("store failed");
    }
    assert!(
        redis
            .ask(&["CONFIG", "SET", "maxmemory", "1"])
            .contains("OK")
    );
    let later = [("x-amz-invocation-type", "Event")];
    let path = "/functions/counted/execute";
    let submitted = a.client.send_with(Method::POST, path, &later, "0").await;
    let refused = submitted.error(503);
    assert_eq!(refused["code"], "store_unavailable", "{refused}");
    a.client.delete("/functions/gone").await.expect(204);

    let loads: Vec<Load> = [&a, &b].map(Load::on).into();
    // Much longer than a lease, which is asked for anew several times in its life.
    let asked = async |server: &Server| {
        let labels = [("outcome", "ok")];
        server
            .metrics()
            .await
            .sum("hearth_permit_asks_total", &labels)
    };
    for server in [&a, &b] {
        let before = asked(server).await;
        eventually("several leases to pass", || async {
            let answer = server.call("counted", &json!(0)).await;
            // The limit is used up at times, and that is all there may be.
            assert!(
                [200, 429].contains(&answer.status.as_u16()),
                "{}",
                answer.text()
            );
            (asked(server).await >= before + 16.0).then_some(())
        })
        .await;
    }
    eventually("the other to hear what was deleted", || async {
        let answer = b.call("gone", &json!(0)).await;
        (answer.status == 404).then_some(())
    })
    .await;
    never_above_the_limit(&end(loads).await);
    // One that is started now finds all there is.
    let b = hearth_on(&redis, b.stop());
    b.call("counted", &json!(0)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_redis_ends_the_lease() {
    let redis = Redis::start();
    let a = hearth(&redis);
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 2})).await;
    a.call("counted", &json!(0)).await.expect(200);
    a.expects("changes by other processes go unnoticed");
    a.expects("what others changed cannot be read");
    a.expects("the lease on permits ran out");
    a.expects("call failed");
    redis.signal(Signal::SIGSTOP);
    // First from memory, then not any more: others may be served.
    a.call("counted", &json!(0)).await.expect(200);
    let refused = eventually("the lease to run out", || async {
        let answer = a.call("counted", &json!(0)).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    let error = refused.error(503);
    assert_eq!(
        (&error["code"], &error["retry"]),
        (&json!("permits_lost"), &json!("safe"))
    );
    assert_eq!(refused.header("retry-after"), "1");
    redis.signal(Signal::SIGCONT);
    eventually("calls to be served again", || async {
        (a.call("counted", &json!(0)).await.status == 200).then_some(())
    })
    .await;
}

/// Calls of a function at the same time, all of which have to be served; when each ran.
pub(crate) async fn all_served(
    servers: &[&Server],
    name: &str,
    calls: usize,
    seconds: f64,
) -> Vec<Interval> {
    let time = json!(seconds);
    let calls = (0..calls).map(|n| servers[n % servers.len()].call(name, &time));
    let answers = futures_util::future::join_all(calls).await;
    let run = |answer: Answer| serde_json::from_value(answer.expect(200).json()).unwrap();
    answers.into_iter().map(run).collect()
}

/// With the settings everybody has, however busy the machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_a_cap_and_a_guarantee_on_all_processes() {
    let redis = Redis::start();
    let [a, b, c] = [(); 3].map(|()| hearth_with(&redis, State::new(), &[]));
    let servers = [&a, &b, &c];
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 30}))
        .await;
    let own = json!({"timeout": 30, "reserved_concurrency": RESERVED});
    a.deploy("own", TELLS_WHEN, own).await;
    for server in servers {
        for name in ["counted", "own"] {
            knows(server, name).await;
        }
    }
    // What cannot be promised is refused.
    let refused = a
        .client
        .put("/functions/counted", &json!({"reserved_concurrency": 6}))
        .await;
    let faults = refused.error(400)["faults"].clone();
    assert_eq!(faults[0]["field"], "reserved_concurrency", "{faults}");
    assert!(
        faults[0]["message"].as_str().unwrap().contains("5 at most"),
        "{faults}"
    );

    // The other function takes all it can get, on all; the reservation is still there, whole, wherever it is asked for: at one process
    // after the other, and spread over them.
    let loads: Vec<Load> = servers.map(Load::on).into();
    let what = "all that is not reserved to be used";
    in_use(&servers, LIMIT - RESERVED, what).await;
    let mut reserved = Vec::new();
    for round in 0..8 {
        let seconds = [0.3, 0.05][round % 2];
        for server in servers {
            reserved.extend(all_served(&[server], "own", RESERVED, seconds).await);
        }
        reserved.extend(all_served(&servers, "own", RESERVED, seconds).await);
    }
    let others = end(loads).await;
    assert!(most_at_once(&reserved) <= RESERVED);
    let most = most_at_once(&others);
    assert!((2..=LIMIT - RESERVED).contains(&most), "{most} at once");
    never_above_the_limit(&[reserved, others].concat());

    // And it is a cap. What is refused is so at once, by what the ledger says: these calls take longer than anybody waits.
    let time = json!(12);
    let many = (0..8).map(|n| servers[n % 3].call("own", &time));
    let answers = futures_util::future::join_all(many).await;
    let served: Vec<Interval> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| serde_json::from_value(answer.json()).unwrap())
        .collect();
    assert_eq!((served.len(), most_at_once(&served)), (RESERVED, RESERVED));
    let refused: Vec<Value> = answers
        .iter()
        .filter(|answer| answer.status != 200)
        .map(|answer| answer.error(429)["reason"].clone())
        .collect();
    assert!(
        refused
            .iter()
            .all(|reason| reason == "reserved_concurrency"),
        "{refused:?}"
    );
}

/// What one that is killed held of a reservation is the others' within its lease, and calls wait for it. What one holds that is stopped
/// is nobody's while its calls may run: until then there is less, but no more than the rest runs, and whoever is refused is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_comes_back_from_the_dead() {
    let redis = Redis::start();
    let lease = format!("{}s", LEASE.as_secs());
    let long = [("limits.lease", &lease[..])];
    let [a, b, c] = [(); 3].map(|()| hearth_with(&redis, State::new(), &long));
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 2})).await;
    let own = json!({"timeout": 2, "reserved_concurrency": RESERVED});
    a.deploy("own", TELLS_WHEN, own).await;
    for server in [&a, &b, &c] {
        for name in ["counted", "own"] {
            knows(server, name).await;
        }
    }
    let loads: Vec<Load> = [&a, &b].map(Load::on).into();
    // All of it is where it will be lost.
    let mut reserved = all_served(&[&c], "own", RESERVED, 0.3).await;
    c.signal(Signal::SIGSTOP);
    for warning in [
        "others have been given some",
        "the lease on permits ran out",
        "changes by other processes go unnoticed",
        "call failed",
    ] {
        c.expects(warning);
    }
    let again = eventually("the reservation to be whole without the one", || async {
        let time = json!(0.3);
        let calls = (0..RESERVED).map(|n| [&a, &b][n % 2].call("own", &time));
        let answers = futures_util::future::join_all(calls).await;
        let (served, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 200);
        for answer in &refused {
            assert_eq!(answer.error(429)["reason"], "reserved_concurrency");
        }
        let run = |answer: &&Answer| serde_json::from_value(answer.json()).unwrap();
        refused
            .is_empty()
            .then(|| served.iter().map(run).collect::<Vec<Interval>>())
    })
    .await;
    reserved.extend(again);
    c.signal(Signal::SIGCONT);
    reserved.extend(
        eventually("the one to have permits again", || async {
            let answer = c.call("own", &json!(0)).await;
            let run = || vec![serde_json::from_value::<Interval>(answer.json()).unwrap()];
            (answer.status == 200).then(run)
        })
        .await,
    );
    reserved.extend(all_served(&[&c], "own", RESERVED, 0.3).await);
    // Killed, it is gone for the ledger when its lease ends: no call is refused for it, some wait.
    let state = c.crash();
    reserved.extend(all_served(&[&a, &b], "own", RESERVED, 0.3).await);
    let others = end(loads).await;
    assert!(most_at_once(&reserved) <= RESERVED);
    assert!(most_at_once(&others) <= LIMIT - RESERVED);
    never_above_the_limit(&[reserved, others].concat());
    // What it left behind goes with its next start.
    drop(hearth_on(&redis, state));
}

/// Of a reservation, what is provisioned for a version is for its calls alone, on all processes together, and the rest for all others.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_provisioned_of_a_reservation_is_for_its_version_on_all_processes() {
    const PROVISIONED: usize = 2;
    let redis = Redis::start();
    let [a, b] = [(); 2].map(|()| hearth_with(&redis, State::new(), &[]));
    let servers = [&a, &b];
    a.deploy("counted", TELLS_WHEN, json!({"timeout": 30}))
        .await;
    let own = json!({"timeout": 30, "reserved_concurrency": RESERVED});
    a.deploy("own", TELLS_WHEN, own).await;
    let versions = "/functions/own/versions";
    a.client.post(versions, &json!({})).await.expect(201);
    let provisioned = "/functions/own/provisioned-concurrency?qualifier=1";
    let wish = json!({"requested": PROVISIONED});
    a.client.put(provisioned, &wish).await.expect(202);
    for server in servers {
        for name in ["counted", "own", "own:1"] {
            knows(server, name).await;
        }
        eventually("what is provisioned to be ready", || async {
            let answer = server.client.get(provisioned).await;
            (answer.status == 200 && answer.json()["items"][0]["status"] == "READY").then_some(())
        })
        .await;
    }

    // Everybody else takes all there is, on both; what is provisioned is there, whole, at one process after the other and spread over both.
    let loads: Vec<Load> = servers.map(Load::on).into();
    let latest: Vec<Load> = servers.map(|server| Load::of(server, "own")).into();
    let what = "all that is not provisioned to be used";
    in_use(&servers, LIMIT - PROVISIONED, what).await;
    let mut version = Vec::new();
    for round in 0..8 {
        let seconds = [0.3, 0.05][round % 2];
        for server in servers {
            version.extend(all_served(&[server], "own:1", PROVISIONED, seconds).await);
        }
        version.extend(all_served(&servers, "own:1", PROVISIONED, seconds).await);
    }
    let (latest, others) = (end(latest).await, end(loads).await);
    assert!(most_at_once(&version) <= PROVISIONED);
    let most = most_at_once(&latest);
    assert!(
        (1..=RESERVED - PROVISIONED).contains(&most),
        "{most} at once"
    );
    assert!(most_at_once(&others) <= LIMIT - RESERVED);
    assert!(most_at_once(&[version.clone(), latest.clone()].concat()) <= RESERVED);
    never_above_the_limit(&[version, latest, others].concat());

    // Its calls may have the rest as well, and no more than that.
    // These calls take longer than anybody waits.
    let time = json!(25);
    let many = (0..8).map(|n| servers[n % 2].call("own:1", &time));
    let answers = futures_util::future::join_all(many).await;
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    let run = |answer: &&Answer| serde_json::from_value(answer.json()).unwrap();
    let served: Vec<Interval> = served.iter().map(run).collect();
    assert_eq!((served.len(), most_at_once(&served)), (RESERVED, RESERVED));
    for answer in refused {
        assert_eq!(answer.error(429)["reason"], "reserved_concurrency");
    }

    // If all of it is provisioned, there is none for anybody else, wherever they ask.
    let all = json!({"reserved_concurrency": PROVISIONED});
    b.client.put("/functions/own", &all).await.expect(200);
    for server in servers {
        eventually("others to have none", || async {
            let answer = server.call("own", &json!(0)).await;
            let reason = || answer.error(429)["reason"] == "reserved_concurrency";
            (answer.status != 200 && reason()).then_some(())
        })
        .await;
        all_served(&[server], "own:1", PROVISIONED, 0.05).await;
    }
    all_served(&servers, "own:1", PROVISIONED, 0.05).await;
    for server in servers {
        server.call("own", &json!(0)).await.error(429);
    }
}
