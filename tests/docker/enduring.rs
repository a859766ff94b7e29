//! Thousands of asynchronous calls while everything that has a part in them is killed, workers, Hearth and Redis: at first while calls come
//! in faster than they are run, then while what piled up is worked off. Whatever was acknowledged has one end and no other: its success is
//! recorded, its failure is at its destination, or it is a dead letter. That something runs twice is allowed; how often it did is printed.
//! Nothing is left behind by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::breaking;
use crate::client::{Client, Connection};
use crate::destinations::Hook;
use crate::server::{Server, State};
use crate::sharing::Redis;
use crate::sweep::Holdings;
use crate::wait::{LOOK_AGAIN, PATIENCE, eventually};

const WORKS: &str = "def handler(event, context):\n    print('ran', event['n'])\n    return {'twice': 2 * event['n']}\n";
const FAILS: &str = "def handler(event, context):\n    raise ValueError(event['n'])\n";

/// Clients that hand in calls, and later ask what became of them.
const CLIENTS: usize = 8;
/// Calls that run at the same time: few, so that many pile up; then as many as can.
const PARALLEL: &str = "events.parallel";
const SLOWLY: &str = "1";
const QUICKLY: &str = "8";
/// The store keeps as many as it ever needed at once, up to this.
const REDIS_CONNECTIONS: usize = 16;
const TOLD: &str = "told";
const PASSED: &str = "passed";

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Worker,
    Hearth,
    Redis,
}

/// What a call comes to, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Good,
    /// Good, and its destination is told.
    Told,
    /// Fails for good; its destination is told.
    Passed,
    /// Fails for good; nobody is told.
    Buried,
}

impl Kind {
    fn of(n: usize) -> Self {
        match n % 10 {
            0 => Kind::Told,
            1 => Kind::Passed,
            2 => Kind::Buried,
            _ => Kind::Good,
        }
    }

    fn function(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Told => "told",
            Kind::Passed => "passed",
            Kind::Buried => "buried",
        }
    }
}

/// What the clients share.
#[derive(Debug)]
struct Intake {
    /// Where Hearth is now: a new one listens somewhere else.
    place: Mutex<Client>,
    next: AtomicUsize,
    calls: usize,
    /// Ids of what was acknowledged, and their numbers.
    acknowledged: Mutex<BTreeMap<String, usize>>,
    latest: Mutex<String>,
}

impl Intake {
    fn new(server: &Server, calls: usize) -> Arc<Self> {
        Arc::new(Self {
            place: Mutex::new(server.client.clone()),
            next: AtomicUsize::new(0),
            calls,
            acknowledged: Mutex::default(),
            latest: Mutex::default(),
        })
    }

    fn many(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Hands in one number after the other, each until it is acknowledged.
    async fn hand_in(self: Arc<Self>) {
        let mut open: Option<Connection> = None;
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.calls {
                return;
            }
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(id) = self.submit(&mut open, n).await {
                    self.latest.lock().unwrap().clone_from(&id);
                    self.acknowledged.lock().unwrap().insert(id, n);
                    break;
                }
                assert!(Instant::now() < deadline, "{n} is never taken");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// The id of what was acknowledged; `None` if nobody can tell whether it was kept.
    async fn submit(&self, open: &mut Option<Connection>, n: usize) -> Option<String> {
        let place = self.place.lock().unwrap().clone();
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => place.connect().await.ok()?,
        };
        let path = format!("/functions/{}/execute", Kind::of(n).function());
        let event = ("x-amz-invocation-type", "Event");
        let body = json!({ "n": n }).to_string();
        let answer = connection
            .send_with(Method::POST, &path, &[event], body)
            .await
            .ok()?;
        *open = Some(connection);
        if answer.status == 503 {
            let code = answer.error(503)["code"].clone();
            assert_eq!(code, "store_unavailable", "nothing else is away");
            return None;
        }
        let id = answer.expect(202).json()["request_id"].clone();
        Some(id.as_str().expect("an id").to_owned())
    }
}

/// Hearth, and Redis if it has one.
struct Stand {
    server: Option<Server>,
    redis: Option<Redis>,
    settings: Vec<(&'static str, String)>,
}

impl Stand {
    fn new(redis: Option<Redis>) -> Self {
        let mut settings = vec![
            ("events.retry_delay", "50ms".to_owned()),
            ("events.lease", "4s".to_owned()),
            (PARALLEL, SLOWLY.to_owned()),
            ("events.keep_max", "100000".to_owned()),
            ("events.dead_max", "100000".to_owned()),
            ("events.webhooks", "any".to_owned()),
        ];
        if let Some(redis) = &redis {
            settings.push(("store.url", redis.url()));
        }
        let mut stand = Self {
            server: None,
            redis,
            settings,
        };
        stand.start(State::new());
        stand
    }

    fn start(&mut self, state: State) {
        let settings = self.settings.iter().map(|(key, value)| (*key, &**value));
        let server = Server::start_on(state, &settings.collect::<Vec<_>>());
        for text in [
            "idle worker died",
            "call failed",
            "how a worker ended cannot be learnt",
        ] {
            server.expects(text);
        }
        if self.redis.is_some() {
            for text in [
                "changes by other processes go unnoticed",
                "what others changed cannot be read",
                "asynchronous calls could not be kept",
                "an invocation could not be read",
                "the events could not be counted",
            ] {
                server.expects(text);
            }
        }
        self.server = Some(server);
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs between the blows")
    }

    /// From its next start on.
    fn hurry(&mut self) {
        for (key, value) in &mut self.settings {
            if *key == PARALLEL {
                QUICKLY.clone_into(value);
            }
        }
    }

    /// Calls without an end; `None` while the store is away.
    async fn backlog(&self) -> Option<usize> {
        let queue = self.server().client.get("/invocations/").await;
        if queue.status == 503 {
            return None;
        }
        let queue = queue.expect(200).json();
        let count = |field: &str| queue[field].as_u64().expect("a number") as usize;
        Some(count("waiting") + count("running"))
    }

    /// Whether the call that was acknowledged last has no end yet.
    async fn is_busy(&self, intake: &Intake) -> bool {
        let latest = intake.latest.lock().unwrap().clone();
        let path = format!("/invocations/{latest}");
        let known = self.server().client.get(&path).await;
        known.status == 200 && matches!(known.json()["state"].as_str(), Some("queued" | "running"))
    }

    async fn strike(&mut self, blow: Blow, intake: &Intake) {
        // In the middle, and not when everything is done.
        eventually("something to be under way", || async {
            self.is_busy(intake).await.then_some(())
        })
        .await;
        match blow {
            Blow::Worker => {
                self.server().printed("good", "ran").await;
                let process = eventually("a worker to be there", || {
                    breaking::process(self.server(), "good")
                });
                let (_, pid) = process.await;
                breaking::signal(pid, Signal::SIGKILL);
            }
            Blow::Hearth => {
                let server = self.server.take().expect("it runs between the blows");
                let left = server.crash();
                self.start(left);
                *intake.place.lock().unwrap() = self.server().client.clone();
            }
            Blow::Redis => {
                let redis = self.redis.take().expect("this one has a Redis");
                self.redis = Some(Redis::start_in(redis.stop()));
            }
        }
    }

    /// Records of the calls a stream was told of, by the calls' ids.
    fn stream(&self, key: &str) -> Vec<Value> {
        let redis = self.redis.as_ref().expect("this one has a Redis");
        redis
            .ask(&["XRANGE", key, "-", "+"])
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect()
    }

    async fn dead_letters(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/dead-letters/?limit=1000".to_owned();
        loop {
            let page = self.server().client.get(&path).await.expect(200).json();
            all.extend(page["items"].as_array().expect("a list").iter().cloned());
            let Some(next) = page["next"].as_str() else {
                return all;
            };
            path = format!("/dead-letters/?limit=1000&cursor={next}");
        }
    }

    /// What became of these calls, by id. Each one's turn to have an end is soon after the one before it.
    async fn ends(&self, ids: &[String]) -> BTreeMap<String, Value> {
        let shares = ids
            .chunks(ids.len().div_ceil(CLIENTS))
            .map(|share| async move {
                let mut open = self.server().client.connect().await.expect("it accepts");
                let mut ends = Vec::new();
                for id in share {
                    let path = format!("/invocations/{id}");
                    let deadline = Instant::now() + PATIENCE;
                    let end = loop {
                        let read = open.send_with(Method::GET, &path, &[], "").await;
                        let known = read.expect("an answer");
                        // A store that was killed is away for a while.
                        let known = match known.status.as_u16() {
                            503 => known.error(503),
                            _ => known.expect(200).json(),
                        };
                        if matches!(known["state"].as_str(), Some("succeeded" | "failed")) {
                            break known;
                        }
                        assert!(Instant::now() < deadline, "{known} has no end");
                        tokio::time::sleep(LOOK_AGAIN).await;
                    };
                    ends.push((id.clone(), end));
                }
                ends
            });
        let ends = futures_util::future::join_all(shares).await;
        ends.into_iter().flatten().collect()
    }
}

/// The calls that records are of.
fn subjects(records: &[Value]) -> BTreeSet<String> {
    let ids = records.iter().map(|record| {
        let id = record["requestContext"]["requestId"].as_str();
        id.expect("an id").to_owned()
    });
    ids.collect()
}

/// Has `calls` accepted while the first blows fall, each once so many are acknowledged, has them worked off while the others fall, each
/// once so many have an end, and looks what became of each one that was acknowledged. `told` and `passed` are where the ends of such calls
/// go, and `arrived` reads what has come there: successes and failures.
async fn endures(
    mut stand: Stand,
    calls: usize,
    blows: &[(usize, Blow)],
    later_blows: &[(usize, Blow)],
    (told, passed): (&str, &str),
    arrived: impl Fn(&Stand) -> (Vec<Value>, Vec<Value>),
) {
    let began = Instant::now();
    for (kind, code, settings) in [
        (Kind::Good, WORKS, json!({})),
        (Kind::Told, WORKS, json!({ "on_success": told })),
        (
            Kind::Passed,
            FAILS,
            json!({ "on_failure": passed, "max_retries": 0 }),
        ),
        (Kind::Buried, FAILS, json!({ "max_retries": 1 })),
    ] {
        let name = kind.function();
        stand.server().deploy(name, code, settings).await;
    }
    let kept = if stand.redis.is_some() {
        REDIS_CONNECTIONS
    } else {
        0
    };
    let before = Holdings::of(stand.server()).await.and(kept);
    let intake = Intake::new(stand.server(), calls);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(intake.clone().hand_in()))
        .collect();
    for (level, blow) in blows {
        eventually("enough to be acknowledged", || async {
            (intake.many() >= *level).then_some(())
        })
        .await;
        assert!(intake.many() < calls, "{blow:?} comes too late");
        stand.strike(*blow, &intake).await;
    }
    for client in clients {
        client.await.expect("everything is taken in the end");
    }
    let acknowledged = intake.acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged.len(), calls);
    let accepted = began.elapsed();

    let piled_up = eventually("what piled up to be counted", || stand.backlog()).await;
    assert!(piled_up >= calls / 4, "only {piled_up} have to wait");
    stand.hurry();
    stand.strike(Blow::Hearth, &intake).await;
    for (level, blow) in later_blows {
        let left = piled_up.checked_sub(*level).expect("fewer than there are");
        eventually("enough to have an end", || async {
            stand.backlog().await.filter(|now| *now <= left)
        })
        .await;
        stand.strike(*blow, &intake).await;
    }

    let mut in_order: Vec<_> = acknowledged.iter().collect();
    in_order.sort_by_key(|(_, n)| **n);
    // Dealt out, so that all clients walk from the oldest to the newest.
    in_order.sort_by_key(|(_, n)| **n % CLIENTS);
    let ids: Vec<String> = in_order.into_iter().map(|(id, _)| id.clone()).collect();
    let ends = stand.ends(&ids).await;
    let of_kind = |kind| {
        let of = acknowledged
            .iter()
            .filter(move |(_, n)| Kind::of(**n) == kind);
        of.map(|(id, _)| id.clone()).collect::<BTreeSet<_>>()
    };
    let failed = |id: &String| ends[id]["state"] == "failed";
    // What was run again and again only to lose its process each time is given up, and is a dead letter as well.
    let given_up = |id: &&String| ends[*id]["error"]["code"] == "interrupted";
    let (told, passed) = eventually("every destination to be told", || async {
        let (told, passed) = arrived(&stand);
        let wanted = |kind, end: &str| {
            let of: BTreeSet<_> = of_kind(kind);
            of.into_iter()
                .filter(|id| ends[id]["state"] == end)
                .collect()
        };
        let all = subjects(&told).is_superset(&wanted(Kind::Told, "succeeded"))
            && subjects(&passed).is_superset(&wanted(Kind::Passed, "failed"));
        all.then_some((told, passed))
    })
    .await;
    let letters = stand.dead_letters().await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.get("destination").is_none()),
        "a record did not arrive: {letters:#?}"
    );
    let buried: BTreeSet<String> = letters
        .iter()
        .map(|letter| letter["request_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(buried.len(), letters.len(), "a dead letter stands twice");

    // One end each, and the right one.
    let at_its_destination = subjects(&passed);
    for (id, n) in &acknowledged {
        let places = [
            !failed(id),
            at_its_destination.contains(id),
            buried.contains(id),
        ];
        let end = match Kind::of(*n) {
            Kind::Good | Kind::Told => 0,
            Kind::Passed => 1,
            Kind::Buried => 2,
        };
        let mut wanted = [false; 3];
        wanted[if given_up(&id) && end == 0 { 2 } else { end }] = true;
        assert_eq!(
            places, wanted,
            "{n} (success, destination, dead): {}",
            ends[id]
        );
    }
    for record in &told {
        let n = record["requestPayload"]["n"].as_u64().expect("its number");
        let answer = &record["responsePayload"];
        assert_eq!(*answer, json!({ "twice": 2 * n }), "{record}");
    }
    for record in &passed {
        let told = &record["responsePayload"]["errorMessage"];
        let n = record["requestPayload"]["n"].to_string();
        let interrupted = record["responsePayload"]["errorType"] == "interrupted";
        assert!(interrupted || *told == n, "{record}");
    }
    let begun = |id: &String| ends[id]["attempts"].as_u64().expect("a number");
    let once_more = |kind| of_kind(kind).iter().filter(|id| begun(id) > 1).count();
    println!(
        "{calls} calls, {} blows: acknowledged after {accepted:?}, {piled_up} of them to be worked off; at their ends after {:?}; run again: {} good, {} told, {} passed; \
         given up: {}; told twice: {}, passed twice: {}",
        blows.len() + 1 + later_blows.len(),
        began.elapsed(),
        once_more(Kind::Good),
        once_more(Kind::Told),
        once_more(Kind::Passed),
        acknowledged.keys().filter(given_up).count(),
        told.len() - subjects(&told).len(),
        passed.len() - at_its_destination.len(),
    );
    before.are_all_of(stand.server()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_outlive_kills_of_hearth_of_workers_and_of_redis() {
    const CALLS: usize = 10_000;
    let stand = Stand::new(Some(Redis::start()));
    let blows = [
        (800, Blow::Worker),
        (2_000, Blow::Hearth),
        (3_500, Blow::Redis),
        (5_000, Blow::Worker),
    ];
    // After the kill of Hearth that these begin with.
    let later_blows = [
        (500, Blow::Redis),
        (1_000, Blow::Worker),
        (1_500, Blow::Hearth),
        (2_000, Blow::Redis),
    ];
    let told = format!("stream:{TOLD}");
    let passed = format!("stream:{PASSED}");
    let arrived = |stand: &Stand| (stand.stream(TOLD), stand.stream(PASSED));
    let ends = (&*told, &*passed);
    endures(stand, CALLS, &blows, &later_blows, ends, arrived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_calls_in_the_embedded_store_outlive_kills_of_hearth() {
    const CALLS: usize = 2_000;
    let hook = Hook::start().await;
    let blows = [(300, Blow::Worker), (700, Blow::Hearth)];
    let later_blows = [(150, Blow::Worker), (300, Blow::Hearth)];
    let arrived = |_: &Stand| {
        let all = hook.bodies.lock().unwrap().clone();
        all.into_iter()
            .partition(|record| record["requestContext"]["condition"] == "Success")
    };
    let url = &*hook.url;
    let stand = Stand::new(None);
    endures(stand, CALLS, &blows, &later_blows, (url, url), arrived).await;
}
