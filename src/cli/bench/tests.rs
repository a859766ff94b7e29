//! `hearth bench` against a server that answers as a test says.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::cli::output::captured;
use crate::cli::scripted::{self, Server};

fn global(server: &Server) -> Global {
    Global {
        url: Some(server.url.clone()),
        key: Some("key".into()),
        state_dir: Some("/nonexistent".into()),
        ..Global::default()
    }
}

fn args(calls: u64, fail_if: &[&str]) -> Args {
    Args {
        function: vec!["one".into(), "two".into()],
        weight: vec![3.0, 1.0],
        calls: Some(calls),
        connections: Some(4),
        warm_up: Some("50ms".into()),
        pid: Some(std::process::id()),
        fail_if: fail_if.iter().map(|&c| c.to_owned()).collect(),
        ..Args::default()
    }
}

#[tokio::test]
async fn the_table_the_json_and_the_page_say_the_same() {
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::start(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        scripted::json(200, &json!({}))
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let (html, file) = (
        directory.path().join("r.html"),
        directory.path().join("r.json"),
    );
    let mut args = args(200, &["errors>0", "p99>1h"]);
    args.fail_if[1] = "p99>3600s".into();
    (args.html, args.json_file) = (Some(html.clone()), Some(file.clone()));
    let (mut output, out, _) = captured::output(false);
    run(args, &global(&server), &mut output)
        .await
        .expect("held");

    let json: Value = serde_json::from_slice(&std::fs::read(file).expect("written")).expect("JSON");
    assert_eq!(json["total"]["calls"], 200);
    let before = json["warm_up"]["calls"].as_u64().expect("a number");
    assert_eq!(before + 200, calls.load(Ordering::Relaxed) as u64);
    let of = |place: usize| {
        json["functions"][place]["calls"]
            .as_u64()
            .expect("a number")
    };
    assert_eq!(of(0) + of(1), 200);
    assert!(of(0) > of(1), "three to one");
    assert!(
        json["cpu"]["us_per_call"]
            .as_f64()
            .is_some_and(|us| us > 0.0)
    );
    let total = &json["total"];
    assert!(total["uncorrected_latency_ms"]["p50"].is_f64());
    assert_eq!(total["unanswered"], 0);
    assert_eq!(total["due"]["latency_ms"], total["latency_ms"]);

    let table = out.text();
    let p50 = json["total"]["latency_ms"]["p50"]
        .as_f64()
        .expect("a number");
    let all = table
        .lines()
        .find(|l| l.starts_with("all "))
        .expect("a row");
    assert!(all.contains(&format!(" {p50:.3} ")), "{all}");
    assert!(table.contains("held: fail if errors>0"), "{table}");
    let page = std::fs::read_to_string(html).expect("written");
    assert!(page.contains(&format!("data-value=\"{p50:?}\"")), "{p50:?}");
}

#[tokio::test]
async fn a_missed_threshold_is_a_failure() {
    let server = Server::start(|_, _| scripted::json(500, &json!({}))).await;
    let (mut output, out, _) = captured::output(true);
    let args = args(20, &["error_rate>1%", "one:errors>0", "calls<1"]);
    let error = run(args, &global(&server), &mut output)
        .await
        .expect_err("missed");
    assert_eq!(
        (error.to_string().as_str(), error.exit_code()),
        ("2 thresholds were missed", 99)
    );
    let json: Value = serde_json::from_str(&out.text()).expect("one document");
    assert_eq!(json["thresholds"][0]["value"], 100.0);
    assert_eq!(json["thresholds"][2]["missed"], false);
}

#[tokio::test]
async fn a_run_without_answers_is_a_failure_whatever_its_thresholds() {
    let server = Server::start(|_, _| scripted::json(200, &json!({}))).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = listener.local_addr().expect("bound");
    drop(listener);
    for fail_if in [&[][..], &["errors<1"], &["p50>10s"]] {
        let mut args = args(3, fail_if);
        args.warm_up = Some("0s".into());
        let mut global = global(&server);
        global.url = Some(format!("http://{nobody}"));
        let (mut output, out, _) = captured::output(false);
        let error = run(args, &global, &mut output).await.expect_err("silence");
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("no call was answered", 1)
        );
        let table = out.text();
        assert!(table.contains("NOT ANSWERED"), "{table}");
        let note = "latencies are of the 0 calls that were answered; 3 of 3 were not";
        assert!(table.contains(note), "{table}");
        if fail_if == ["p50>10s"] {
            let why = "missed: fail if p50>10s (p50 is not known: 3 of 3 calls were not answered)";
            assert!(table.contains(why), "{table}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_called_is_said_before_the_load() {
    let server =
        Server::start(|_, _| scripted::json(404, &json!({"error": {"code": "not_found"}}))).await;
    let (mut output, _, _) = captured::output(false);
    let error = run(args(20, &[]), &global(&server), &mut output)
        .await
        .expect_err("no such function");
    assert!(
        error
            .to_string()
            .contains("one cannot be called, the answer is 404"),
        "{error}"
    );
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn mistakes_name_their_field_and_send_nothing() {
    let server = Server::start(|_, _| scripted::json(200, &json!({}))).await;
    let (mut output, _, _) = captured::output(false);
    let mut wrong = args(0, &["p99>soon"]);
    wrong.connections = Some(0);
    let error = run(wrong, &global(&server), &mut output)
        .await
        .expect_err("wrong");
    assert_eq!(error.exit_code(), 2);
    for field in ["calls:", "connections:", "fail_if[0]:"] {
        assert!(error.to_string().contains(field), "{error}");
    }
    let mut unknown = args(1, &["cpu>1us"]);
    unknown.pid = None;
    let error = run(unknown, &global(&server), &mut output)
        .await
        .expect_err("no process");
    assert!(error.to_string().contains("--pid"), "{error}");
    let mut far = global(&server);
    far.url = Some("http://192.0.2.1:80".into());
    let error = run(args(1, &[]), &far, &mut output)
        .await
        .expect_err("elsewhere");
    assert!(error.to_string().contains("not on this machine"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(server.lines(), [""; 0]);
}

#[test]
fn steps_are_rates_and_a_time() {
    let one = step("100..500:5s").expect("a step");
    assert_eq!(
        (one.rate, one.to, one.length.as_str()),
        (100.0, Some(500.0), "5s")
    );
    assert_eq!(step("7:1m").expect("a step").to, None);
    for text in ["", "5s", "x:5s", "1..:5s"] {
        assert!(step(text).is_err(), "{text}");
    }
}
