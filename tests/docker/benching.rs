//! `hearth bench` against a real server: what it counts is what the server counted.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::server::{Server, without_settings};

const MIX: &str = "\
title = \"two functions\"
arrivals = \"poisson\"
rate = 100
length = \"2s\"
warm_up = \"200ms\"
fail_if = [\"errors>0\", \"cpu>1000ms\", \"bench-b:calls<1\"]

[[function]]
name = \"bench-a\"
weight = 3

[[function]]
name = \"bench-b\"
payload = '{\"n\": 1}'
";

/// Its exit code, and what it said on both streams.
async fn bench(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    without_settings(&mut command)
        .env("HEARTH_STATE_DIR", server.state().path())
        .stdin(Stdio::null())
        .arg("bench")
        .args(arguments);
    let said = tokio::task::spawn_blocking(move || command.output().unwrap());
    let said = said.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (said.status.code(), text(said.stdout), text(said.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_what_came_of_a_bench() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    let quick = "def handler(event, context): return event";
    server.deploy("bench-quick", quick, json!({})).await;
    let slow = "import time\ndef handler(event, context): time.sleep(5)";
    server.deploy("bench-slow", slow, json!({})).await;

    // A closed loop: its thresholds are judged with what it left out, and what it measured is there too.
    let closed = [
        "--json",
        "-f",
        "bench-quick",
        "--calls",
        "50",
        "--warm-up",
        "200ms",
    ];
    let held = ["--fail-if", "calls<50", "--fail-if", "p50>60s"];
    let (code, out, err) = bench(&server, &[&closed[..], &held].concat()).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["load"]["arrivals"], "closed");
    let total = &report["total"];
    assert_eq!(
        (&total["calls"], &total["unanswered"]),
        (&json!(50), &json!(0))
    );
    assert!(total["uncorrected_latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    let judged = &report["thresholds"][1];
    assert_eq!(judged["value"], total["latency_ms"]["p50"]);

    let missed = ["--fail-if", "calls<51"];
    let (code, out, err) = bench(&server, &[&closed[..], &missed].concat()).await;
    assert_eq!(code, Some(99), "{out}{err}");
    assert!(err.contains("threshold_missed"), "{err}");

    // What is no result has another code, whatever its thresholds say.
    let nobody = ["-f", "bench-nobody", "--fail-if", "calls<51"];
    let (code, out, err) = bench(&server, &nobody).await;
    assert_eq!(code, Some(1), "{out}{err}");
    let silent = [
        "-f",
        "bench-slow",
        "--calls",
        "2",
        "--warm-up",
        "0s",
        "--timeout",
        "100ms",
    ];
    let (code, out, err) = bench(&server, &silent).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("no call was answered"), "{err}");
    assert!(out.contains("2 of 2 were not"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_counts_what_the_server_counts() {
    let server = Server::start(&[("pool.stem_min", "1"), ("pool.stem_max", "1")]);
    let code = "def handler(event, context): return event";
    for name in ["bench-a", "bench-b"] {
        server.deploy(name, code, json!({})).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let beside = |name: &str| directory.path().join(name);
    std::fs::write(beside("mix.toml"), MIX).unwrap();

    let mix = beside("mix.toml");
    let (html, json_file) = (beside("report.html"), beside("report.json"));
    let [mix, html, json_file] = [&mix, &html, &json_file].map(|path| path.to_str().unwrap());
    let arguments = [mix, "--html", html, "--json-file", json_file];
    let (code, out, err) = bench(&server, &arguments).await;
    assert_eq!(code, Some(0), "{out}{err}");

    let report: Value =
        serde_json::from_slice(&std::fs::read(beside("report.json")).unwrap()).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let total = number(&report["total"]["calls"]);
    let planned = number(&report["load"]["planned"]);
    assert_eq!(total + number(&report["total"]["unsent"]), planned);
    assert_eq!(number(&report["total"]["statuses"]["200"]), total);
    let by_function: u64 = (0..2)
        .map(|n| number(&report["functions"][n]["calls"]))
        .sum();
    assert_eq!(by_function, total);

    // Both counts are of every call there was, those of the warm-up too.
    let metrics = server.metrics().await;
    let counted = metrics.sum("hearth_invocations_total", &[]);
    assert_eq!(
        counted,
        (total + number(&report["warm_up"]["calls"])) as f64
    );
    let answered = metrics.sum("hearth_http_requests_total", &[("face", "execute")]);
    assert_eq!(answered, counted);
    // Its process was found by the state directory.
    assert_eq!(number(&report["cpu"]["pid"]), u64::from(server.pid()));
    assert!(report["cpu"]["us_per_call"].as_f64().unwrap() > 0.0);
    let page = std::fs::read_to_string(beside("report.html")).unwrap();
    assert!(
        page.contains(&format!("data-value=\"{total}.0\"")),
        "{total}"
    );
    assert!(out.contains("held: fail if errors>0"), "{out}");
}
