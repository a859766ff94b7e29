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

    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    without_settings(&mut command)
        .env("HEARTH_STATE_DIR", server.state().path())
        .stdin(Stdio::null())
        .arg("bench")
        .arg(beside("mix.toml"))
        .arg("--html")
        .arg(beside("report.html"))
        .arg("--json-file")
        .arg(beside("report.json"));
    let said = tokio::task::spawn_blocking(move || command.output().unwrap());
    let said = said.await.unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert_eq!(said.status.code(), Some(0), "{out}{err}");

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
