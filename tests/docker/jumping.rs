//! A wall clock that is set while calls are made. Everything that waits waits by another clock, so nobody notices but who reads a
//! date. The machine's own clock stays as it is: the server's process is given one that can be set.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::client::Client;
use crate::load::{Load, Stream};
use crate::server::{Server, State};
use crate::sweep::Holdings;

const SLEEPS: &str = "import time\ndef handler(event, context):\n    print('begun', flush=True)\n    time.sleep(event)\n    return 'ok'";
const DAY: i64 = 24 * 60 * 60;

/// A wall clock for one process.
struct Clock(File);

impl Clock {
    fn set(&self, seconds: i64) {
        self.0.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

/// A server with a clock of its own.
fn start(settings: &[(&str, &str)]) -> (Server, Clock) {
    let state = State::new();
    let (library, offset) = (state.beside("clock.so"), state.beside("offset"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/clock.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.expect("a C compiler is installed").success());
    let clock = Clock(File::create(&offset).unwrap());
    clock.set(0);
    let server = Server::spawn_with(state, settings, |command| {
        command.env("LD_PRELOAD", &library);
        command.env("WALL_CLOCK_OFFSET", &offset);
    });
    server.wait_ready();
    (server, clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_under_load() {
    let (server, clock) = start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    server.expects("the machine's clock was set");
    for function in ["short", "long"] {
        server.deploy(function, SLEEPS, json!({"timeout": 3})).await;
        server.call(function, &json!(0)).await.expect(200);
    }
    let body = json!({"name": "for an hour", "scopes": ["invoke"], "expires_in": 3600});
    let key = server.client.post("/keys/", &body).await.expect(201).json();
    let limited = Client {
        key: Some(key["key"].as_str().unwrap().to_owned()),
        ..server.client.clone()
    };
    let path = "/functions/short/execute";
    limited.post(path, &json!(0)).await.expect(200);

    let before = Holdings::of(&server).await;
    let streams = [Stream {
        function: "short",
        event: json!(0.02),
        callers: 2,
        within: Duration::from_secs(3),
    }];
    let load = Load::begin(&server, &streams).await;
    for (n, seconds) in [DAY, -DAY, 0].into_iter().enumerate() {
        // One whose deadline passes after the jump, neither sooner nor later.
        let client = server.client.clone();
        let begun = server.lines("long", None).await.len();
        let late =
            tokio::spawn(async move { client.post("/functions/long/execute", &json!(60)).await });
        crate::wait::eventually("it to run", || async {
            (server.lines("long", None).await.len() > begun).then_some(())
        })
        .await;
        clock.set(seconds);
        server
            .measured("hearth_clock_jumps_total", &[], |jumps| jumps > n as f64)
            .await;
        // What says so in an hour's time says so now.
        let (status, shown) = if seconds == DAY {
            (401, DAY)
        } else {
            (200, seconds)
        };
        limited.post(path, &json!(0)).await.expect(status);
        let answer = late.await.unwrap();
        assert_eq!(answer.error(504)["code"], "timeout");
        assert!(answer.phase("run") >= Duration::from_secs(3));
        assert!(answer.phase("run") < Duration::from_secs(30));
        load.goes_on(5).await;
        // Lines keep their order, whatever their dates.
        let lines = server
            .client
            .get("/functions/long/logs")
            .await
            .expect(200)
            .json();
        let items = lines["items"].as_array().unwrap();
        let sequences: Vec<_> = items.iter().map(|line| line["sequence"].as_u64()).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let deployed = server.deploy(&format!("at-{n}"), SLEEPS, json!({})).await;
        let at: jiff::Timestamp = deployed["created_at"].as_str().unwrap().parse().unwrap();
        let off = at.as_second() - now.unwrap().as_secs() as i64 - shown;
        assert!(off.abs() < 120, "the test's clock is the server's: {off} s");
    }
    assert_eq!(load.end().await.only(&[], &[]), 0);
    let line = server.log_line("the machine's clock was set");
    assert!(
        (line["seconds"].as_f64().unwrap() - DAY as f64).abs() < 60.0,
        "{line}"
    );
    before.are_all_of(&server).await;
}
