//! Answers of functions as they leave, and what the public is told of a failure.

use std::time::Duration;

use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::domain::fault::{Report, Throttle};

async fn responded(answer: Answer, whole: bool) -> (http::response::Parts, Bytes) {
    let response = respond(answer, RequestId::generate(), whole, Mode::AsItComes).await;
    let (head, body) = response.expect("a response").into_parts();
    (head, body.collect().await.expect("whole").to_bytes())
}

fn json(value: &Value) -> Answer {
    Answer::Whole {
        body: value.to_string().into(),
        raw: false,
    }
}

fn streamed(content_type: &str, pieces: &[&'static str]) -> Answer {
    let pieces: Vec<_> = pieces.iter().map(|p| Ok(Bytes::from(*p))).collect();
    Answer::Stream {
        content_type: content_type.into(),
        body: Box::pin(stream::iter(pieces)),
    }
}

#[tokio::test]
async fn bytes_and_streams_are_passed_on_as_they_are() {
    let raw = Answer::Whole {
        body: Bytes::from_static(&[0, 255]),
        raw: true,
    };
    let (head, body) = responded(raw, true).await;
    assert_eq!(head.headers[CONTENT_TYPE], "application/octet-stream");
    assert_eq!(body[..], [0, 255]);
    let (head, body) = responded(streamed("text/x", &["a", "b"]), true).await;
    assert_eq!(head.headers[CONTENT_TYPE], "text/x");
    assert_eq!(body, "ab");
    let (head, _) = responded(streamed("no\ntype", &[]), true).await;
    assert_eq!(head.headers[CONTENT_TYPE], "application/octet-stream");
}

#[tokio::test]
async fn a_stream_may_begin_with_its_head() {
    let text = "{\"statusCode\": 404, \"headers\": {\"x-a\": \"b\"}}\0\0\0\0\0\0\0\0first";
    let (head, body) = responded(streamed(prelude::CONTENT_TYPE, &[text, "second"]), true).await;
    assert_eq!(head.status, 404);
    assert_eq!(head.headers["x-a"], "b");
    assert_eq!(body, "firstsecond");
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let page = json(&json!({"statusCode": 200, "body": "12345", "headers": {"etag": "\"e\""}}));
    let (head, body) = responded(page, false).await;
    assert_eq!(body, "", "HEAD");
    assert_eq!(head.headers[CONTENT_LENGTH], "5");
    assert_eq!(head.headers["etag"], "\"e\"");
    for status in [204, 205, 304] {
        let answer = json(&json!({"statusCode": status, "body": "never sent"}));
        let (head, body) = responded(answer, true).await;
        assert_eq!(head.status, status);
        assert_eq!(body, "");
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }
    let (head, body) = responded(streamed("text/x", &["a"]), false).await;
    assert_eq!((head.status, body), (StatusCode::OK, Bytes::new()));
}

#[tokio::test]
async fn a_stream_nobody_reads_may_still_fail() {
    let pieces = [Ok(Bytes::from("a")), Err(Fault::Exited { code: None })];
    let answer = Answer::Stream {
        content_type: "text/x".into(),
        body: Box::pin(stream::iter(pieces)),
    };
    let failed = respond(answer, RequestId::generate(), false, Mode::AsItComes).await;
    let failed = failed.expect_err("it failed");
    assert_eq!(failed.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn the_public_learns_that_it_failed_and_no_more() {
    let secret = || Report {
        kind: "Secret".into(),
        message: "secret".into(),
        stack: vec!["secret".into()],
        document: None,
    };
    let second = Duration::from_secs(1);
    let throttled = Fault::Throttled {
        reason: Throttle::FunctionConcurrency,
        limit: 7,
    };
    let cases = [
        (Fault::Handler(secret()), 502, "Internal Server Error"),
        (Fault::Init(secret()), 502, "Internal Server Error"),
        (Fault::Timeout(second), 504, "Gateway Timeout"),
        (throttled, 429, "Too Many Requests"),
        (
            Fault::StartFailed("secret".into()),
            503,
            "Service Unavailable",
        ),
        (
            Fault::PayloadTooLarge { size: 9, limit: 8 },
            413,
            "Payload Too Large",
        ),
        (
            Fault::BodyIncomplete("secret".into()),
            408,
            "Request Timeout",
        ),
    ];
    for (fault, status, message) in cases {
        let response = refuse(&fault);
        assert_eq!(response.status(), status);
        let retry = matches!(status, 429 | 503);
        assert_eq!(response.headers().contains_key(RETRY_AFTER), retry);
        assert!(response.headers().contains_key(error::REQUEST_ID));
        let body = response.into_body().collect().await.expect("whole");
        let body: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        assert_eq!(body, json!({ "message": message }));
    }
    let odd = json(&json!({"statusCode": 1}));
    let no_answer = respond(odd, RequestId::generate(), true, Mode::AsItComes).await;
    let status = no_answer.expect_err("no answer").status();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
}

#[test]
fn what_grows_in_the_event_may_be_less() {
    let of = |kind: &'static str| {
        let kind = HeaderValue::from_static(kind);
        body_max(&HeaderMap::from_iter([(CONTENT_TYPE, kind)]))
    };
    assert_eq!(of("application/json"), PAYLOAD_MAX);
    assert_eq!(of("image/png").div_ceil(3) * 4, PAYLOAD_MAX);
    assert_eq!(body_max(&HeaderMap::new()), of("image/png"));
}
