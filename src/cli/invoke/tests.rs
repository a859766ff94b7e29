//! What a person and a program see of a call.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cli::output::captured;
use crate::cli::scripted::{self, Server};

const TIMING: &str =
    "queue;dur=0.100, start;dur=0.000;desc=\"warm: idle\", init;dur=0.000, run;dur=2.500";

fn args(data: &str) -> Args {
    Args {
        name: "hello".into(),
        data: data.into(),
        binary: false,
        raw: false,
        later: false,
        idempotency_key: None,
    }
}

async fn answering(body: &'static str, kind: &'static str) -> Server {
    Server::start(move |_, _| {
        let headers = [
            ("content-type", kind),
            ("server-timing", TIMING),
            ("x-hearth-start", "warm"),
            ("x-request-id", "r-1"),
        ];
        scripted::reply(200, &headers, body)
    })
    .await
}

async fn invoke(server: &Server, args: Args, json: bool) -> (Result<(), Error>, String, String) {
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, out, err) = captured::output(json);
    output.verbose = true;
    let done = run(args, &client, &mut output).await;
    (done, out.text(), err.text())
}

#[tokio::test]
async fn the_answer_is_the_result_and_the_timing_is_talk() {
    let server = answering(r#"{"b":1,"a":[]}"#, "application/json").await;
    let (done, out, err) = invoke(&server, args(r#"{"x": 1}"#), false).await;
    done.expect("answered");
    assert_eq!(out, "{\"b\":1,\"a\":[]}\n");
    assert!(
        err.starts_with("warm start · queue 0.1 ms · start 0.0 ms · init 0.0 ms · run 2.5 ms · "),
        "{err}"
    );
    assert!(err.ends_with("request r-1\n"), "{err}");
    assert_eq!(server.lines(), ["POST /functions/hello/execute"]);
    assert_eq!(server.body(0), json!({"x": 1}));
    assert_eq!(
        server.header(0, "content-type").as_deref(),
        Some("application/json")
    );
}

#[tokio::test]
async fn raw_adds_nothing_and_binary_is_declared() {
    let server = answering("bytes", "application/json").await;
    let raw = Args {
        raw: true,
        binary: true,
        ..args("not json")
    };
    let (done, out, _) = invoke(&server, raw, false).await;
    done.expect("answered");
    assert_eq!(out, "bytes");
    let kind = server.header(0, "content-type");
    assert_eq!(kind.as_deref(), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_stream_is_printed_as_it_comes_and_its_end_is_checked() {
    let server = Server::start(|_, n| {
        let end = if n == 0 {
            Ok("two")
        } else {
            Err(std::io::Error::other("cut"))
        };
        scripted::pieces("text/plain", vec![Ok("one "), end])
    })
    .await;
    let (done, out, _) = invoke(&server, args("{}"), false).await;
    done.expect("answered");
    assert_eq!(out, "one two");
    let (done, _, _) = invoke(&server, args("{}"), false).await;
    assert!(
        matches!(done, Err(Error::Client(client::Error::Broken { .. }))),
        "{done:?}"
    );
}

#[tokio::test]
async fn a_program_gets_one_document() {
    let server = answering("7", "application/json").await;
    let (done, out, _) = invoke(&server, args("{}"), true).await;
    done.expect("answered");
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["answer"], 7);
    assert_eq!(document["start"], "warm");
    assert_eq!(
        document["timings_ms"],
        json!({"queue": 0.1, "start": 0.0, "init": 0.0, "run": 2.5})
    );
}

#[tokio::test]
async fn a_payload_that_is_not_json_is_not_sent() {
    let server = answering("1", "application/json").await;
    let (done, _, _) = invoke(&server, args("{x: 1}"), false).await;
    let error = done.expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("{x: 1}"), "{error}");
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn a_payload_comes_from_a_file_too() {
    let server = answering("1", "application/json").await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("event.json");
    std::fs::write(&file, "[1]").expect("written");
    let (done, _, _) = invoke(&server, args(&format!("@{}", file.display())), false).await;
    done.expect("answered");
    assert_eq!(server.body(0), json!([1]));
    let (done, _, _) = invoke(&server, args("@/nowhere/at/all"), false).await;
    assert!(matches!(done, Err(Error::Read { .. })), "{done:?}");
}

#[test]
fn timings_of_any_server_are_read_or_left_out() {
    let names = |header| {
        timings(header)
            .into_iter()
            .map(|t| t.phase)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(TIMING), ["queue", "start", "init", "run"]);
    assert!(names("").is_empty());
    assert_eq!(names("miss, db;desc=x;dur=1, bad;dur=x"), ["db"]);
    let headers = HeaderMap::new();
    assert_eq!(summary(&headers, Duration::from_millis(3)), "3.0 ms in all");
}

#[tokio::test]
async fn what_is_run_later_has_a_request_id() {
    let later = || Args {
        later: true,
        ..args("{}")
    };
    let server = answering(
        r#"{"request_id":"r-1","state":"queued"}"#,
        "application/json",
    )
    .await;
    let (done, out, _) = invoke(&server, later(), false).await;
    done.expect("accepted");
    assert_eq!(out, "r-1\n");
    let kind = server.header(0, "x-amz-invocation-type");
    assert_eq!(kind.as_deref(), Some("Event"));
    let (done, out, _) = invoke(&server, later(), true).await;
    done.expect("accepted");
    let document: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document, json!({"request_id": "r-1", "state": "queued"}));
}
