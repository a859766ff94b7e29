//! Traces: what a receiver of OTLP gets of calls on every face, what the function is told, and that calls do not mind when nobody receives.

use std::net::TcpListener;

use http::Method;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::collector::{Collector, attribute};
use crate::server::{Server, State};
use crate::wait::eventually;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Answers what it is told.
const CODE: &str = "\
import os, time
def handler(event, context):
    if event == 'fail':
        raise ValueError('no')
    if isinstance(event, (int, float)):
        print('begun', flush=True)
        time.sleep(event)
    headers = event.get('headers') if isinstance(event, dict) else None
    return {'parent': context.traceparent, 'state': context.tracestate,
            'amzn': os.environ.get('_X_AMZN_TRACE_ID'), 'headers': headers}
";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn execute(server: &Server, name: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let path = format!("/functions/{name}/execute");
    let sent = server
        .client
        .send_with(Method::POST, &path, headers, body.to_string());
    sent.await
}

fn id(answer: &Answer) -> String {
    answer.headers["x-request-id"].to_str().unwrap().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The parts of a call, in order: each is below it, within it, and begins where the one before it ended.
async fn phases(collector: &Collector, whole: &Span) -> Vec<Span> {
    let of = |span: &Span| span.parent_span_id == whole.span_id && span.kind == 1;
    let phases = eventually("its parts", || async {
        Some(collector.spans(of)).filter(|found| !found.is_empty())
    })
    .await;
    let mut at = whole.start_time_unix_nano;
    for span in &phases {
        assert_eq!(span.trace_id, whole.trace_id);
        assert!(span.start_time_unix_nano >= at, "{phases:?}");
        assert!(
            span.end_time_unix_nano > span.start_time_unix_nano,
            "{span:?}"
        );
        at = span.end_time_unix_nano;
    }
    assert!(at <= whole.end_time_unix_nano, "{whole:?}");
    phases
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_face_are_traced_and_their_functions_told() {
    let collector = Collector::start().await;
    let endpoint = collector.url();
    let server = Server::start(&[
        ("traces.endpoint", endpoint.as_str()),
        ("traces.headers", "x-key=sesame"),
        ("traces.service", "tested"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
        ("events.retry_delay", "50ms"),
    ]);
    let route = json!({"route": "/traced"});
    server.deploy("traced", CODE, route).await;

    // Below its caller's span, with a container of its own.
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", "a=1")];
    let answer = execute(&server, "traced", &headers, &json!({}))
        .await
        .expect(200);
    let whole = collector.call(&id(&answer)).await;
    assert_eq!(
        (hex(&whole.trace_id), hex(&whole.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!(
        (whole.name.as_str(), whole.trace_state.as_str()),
        ("traced", "a=1")
    );
    for (key, value) in [
        ("faas.name", "traced"),
        ("faas.version", "$LATEST"),
        ("faas.coldstart", "true"),
        ("hearth.start", "cold"),
        ("hearth.start.cause", "first_call"),
        ("hearth.face", "execute"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(&whole, key), value, "{key}");
    }
    let parts = phases(&collector, &whole).await;
    let starts: Vec<_> = names(&parts)
        .into_iter()
        .filter(|name| *name != "queue")
        .collect();
    assert_eq!(starts, ["start", "init", "run"]);
    // What runs in the function is below the part in which it runs.
    let run = hex(&parts.last().unwrap().span_id);
    let told = answer.json();
    assert_eq!(told["parent"], format!("00-{TRACE}-{run}-01"));
    assert_eq!(told["state"], "a=1");
    let amzn = format!(
        "Root=1-{}-{};Parent={run};Sampled=1",
        &TRACE[..8],
        &TRACE[8..]
    );
    assert_eq!(told["amzn"], amzn);
    assert_eq!(collector.resource("service.name"), "tested");
    assert_eq!(collector.header("x-key"), "sesame");

    // What cannot be read begins a trace, and a warm call has one part.
    let headers = [("traceparent", "00-nonsense")];
    let answer = execute(&server, "traced", &headers, &json!({}))
        .await
        .expect(200);
    let whole = collector.call(&id(&answer)).await;
    assert!(whole.parent_span_id.is_empty());
    assert_ne!(hex(&whole.trace_id), TRACE);
    assert_eq!(attribute(&whole, "faas.coldstart"), "false");
    let parts = phases(&collector, &whole).await;
    assert_eq!(names(&parts), ["run"]);
    assert_eq!(answer.json()["state"], Value::Null);

    // Who decided that it is not to be seen is heeded, and the function told.
    let headers = [("traceparent", &*traceparent("00"))];
    let answer = execute(&server, "traced", &headers, &json!({}))
        .await
        .expect(200);
    let unseen = id(&answer);
    let told = answer.json();
    let told = told["parent"].as_str().unwrap();
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"),
        "{told}"
    );

    // As AWS's clients say it, on their face.
    let amzn = format!("Root=1-00000001-000000000000000000000002;Parent={PARENT};Sampled=1");
    let path = "/2015-03-31/functions/traced/invocations";
    let headers = [("x-amzn-trace-id", amzn.as_str())];
    let sent = server
        .client
        .send_with(Method::POST, path, &headers, "\"fail\"");
    let answer = sent.await.expect(200);
    let whole = collector
        .call(answer.headers["x-amzn-requestid"].to_str().unwrap())
        .await;
    assert_eq!(hex(&whole.trace_id), "00000001000000000000000000000002");
    assert_eq!(hex(&whole.parent_span_id), PARENT);
    assert_eq!(attribute(&whole, "hearth.face"), "lambda");
    assert_eq!(attribute(&whole, "error.type"), "function_error");
    assert_eq!(attribute(&whole, "hearth.error.blame"), "function");
    let failed = |span: &Span| span.status.as_ref().map(|status| status.code);
    let parts = phases(&collector, &whole).await;
    assert_eq!(
        (failed(&whole), failed(parts.last().unwrap())),
        (Some(2), Some(2))
    );

    // A route's function finds it where other servers have it.
    let parent = traceparent("01");
    let parent = [("traceparent", parent.as_str())];
    let sent = server.client.send_with(Method::GET, "/traced", &parent, "");
    let answer = sent.await.expect(200);
    let whole = collector.call(&id(&answer)).await;
    assert_eq!(attribute(&whole, "hearth.face"), "route");
    let run = phases(&collector, &whole).await;
    let run = hex(&run.last().unwrap().span_id);
    let told = answer.json();
    assert_eq!(
        told["headers"]["traceparent"],
        format!("00-{TRACE}-{run}-01")
    );
    assert_eq!(told["headers"]["traceparent"], told["parent"]);
    assert_eq!(told["headers"]["x-amzn-trace-id"], told["amzn"]);

    // Of many calls in one request, each is below it.
    let batch = json!([{"name": "traced"}, {"name": "traced"}]).to_string();
    let sent = server
        .client
        .send_with(Method::POST, "/functions/execute", &parent, batch);
    let results = sent.await.expect(200).json();
    for result in results.as_array().unwrap() {
        let whole = collector.call(result["request_id"].as_str().unwrap()).await;
        assert_eq!(hex(&whole.parent_span_id), PARENT);
        assert_eq!(attribute(&whole, "hearth.face"), "batch");
    }

    // Every attempt of a call that is run later is below the span that accepted it.
    let headers = [
        ("traceparent", &*traceparent("01")),
        ("x-amz-invocation-type", "Event"),
    ];
    let answer = execute(&server, "traced", &headers, &json!("fail"))
        .await
        .expect(202);
    let accepted = collector.trace(TRACE, &["accept traced"]).await;
    let accepted = accepted
        .iter()
        .find(|span| span.name == "accept traced")
        .unwrap();
    assert_eq!(attribute(accepted, "faas.invocation_id"), id(&answer));
    assert_eq!(hex(&accepted.parent_span_id), PARENT);
    let attempts = eventually("three attempts", || async {
        let found = collector.spans(|span| span.parent_span_id == accepted.span_id);
        (found.len() == 3).then_some(found)
    })
    .await;
    let numbers: Vec<_> = attempts
        .iter()
        .map(|span| attribute(span, "hearth.attempt"))
        .collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    assert!(
        attempts
            .iter()
            .all(|span| attribute(span, "faas.trigger") == "pubsub")
    );

    // As long as an answer streams, its handler runs.
    let pieces = "import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(1)\n    if event:\n        raise KeyError\n    yield 'b'\n";
    server.deploy("streams", pieces, json!({})).await;
    for (event, code) in [(json!(0), ""), (json!(1), "function_error")] {
        let opened = server.client.open(
            Method::POST,
            "/functions/streams/execute",
            event.to_string(),
        );
        let mut opened = opened.await;
        let request_id = opened.headers["x-request-id"].to_str().unwrap().to_owned();
        while let Ok(Some(_piece)) = opened.piece().await {}
        let whole = collector.call(&request_id).await;
        assert_eq!(attribute(&whole, "error.type"), code);
        let parts = phases(&collector, &whole).await;
        let run = parts.last().unwrap();
        // All of it but what a busy machine kept it from its first piece.
        assert!(run.end_time_unix_nano - run.start_time_unix_nano >= 500_000_000);
    }

    // What was not sampled has not come in all this time.
    let seen = collector.spans(|span| attribute(span, "faas.invocation_id") == unseen);
    assert!(seen.is_empty(), "{seen:?}");
    server
        .measured("hearth_spans_total", &[("outcome", "sent")], |sent| {
            sent > 20.0
        })
        .await;
    assert!(!server.log().contains("sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_line_is_a_part_of_the_call() {
    let collector = Collector::start().await;
    let endpoint = collector.url();
    // Room for one worker.
    let server = Server::start(&[
        ("traces.endpoint", endpoint.as_str()),
        ("pool.memory_budget_mb", "128"),
        ("pool.stem_min", "0"),
        ("pool.stem_max", "0"),
    ]);
    server.deploy("busy", CODE, json!({})).await;
    let first = {
        let client = server.client.clone();
        tokio::spawn(async move { client.post("/functions/busy/execute", &json!(1)).await })
    };
    server.printed("busy", "begun").await;
    let second = server.call("busy", &json!({})).await.expect(200);
    first.await.unwrap().expect(200);
    let whole = collector.call(&id(&second)).await;
    assert_eq!(attribute(&whole, "hearth.start"), "warm");
    assert_eq!(attribute(&whole, "hearth.start.cause"), "");
    assert_eq!(names(&phases(&collector, &whole).await), ["queue", "run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_do_not_mind_a_collector_that_is_away_and_it_gets_what_is_kept() {
    // Nobody is there yet, and nobody else will take it.
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let endpoint = format!("http://{address}");
    let server = Server::start_on(
        State::new(),
        &[
            ("traces.endpoint", endpoint.as_str()),
            ("traces.queue", "1"),
            ("traces.timeout", "2s"),
        ],
    );
    server.expects("spans cannot be sent");
    server.deploy("away", CODE, json!({})).await;
    // More than the queue and a batch on its way hold.
    let lost = [("outcome", "queue_full")];
    eventually("spans to be dropped", || async {
        server.call("away", &json!({})).await.expect(200);
        let lost = server.metrics().await.sum("hearth_spans_total", &lost);
        (lost > 0.0).then_some(())
    })
    .await;
    let sent = [("outcome", "sent")];
    assert_eq!(server.metrics().await.sum("hearth_spans_total", &sent), 0.0);

    let collector = Collector::start_at(address).await;
    server
        .measured("hearth_spans_total", &sent, |sent| sent > 0.0)
        .await;
    assert!(!collector.spans(|span| span.name == "run").is_empty());
    let last = eventually("a call that is kept", || async {
        let before = server.metrics().await.sum("hearth_spans_total", &lost);
        let answer = server.call("away", &json!({})).await.expect(200);
        let after = server.metrics().await.sum("hearth_spans_total", &lost);
        (before == after).then_some(id(&answer))
    })
    .await;
    // What waits is sent before the end.
    let state = server.stop();
    let of = |span: &Span| attribute(span, "faas.invocation_id") == last;
    assert_eq!(collector.spans(of).len(), 1);

    // And an end without a collector is an end all the same.
    drop(collector);
    let server = Server::start_on(
        state,
        &[("traces.endpoint", &endpoint), ("traces.timeout", "200ms")],
    );
    server.expects("spans cannot be sent");
    server.expects("the collector took too long");
    server.call("away", &json!({})).await.expect(200);
    server.stop();
}
