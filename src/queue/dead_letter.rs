//! What is sent to a function's dead-letter queue: the event itself, with what became of it in the message's attributes, as AWS sends it. Pure.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::domain::destination::Destination;
use crate::domain::event::{Claimed, Event, Failure};
use crate::domain::function::Function;
use crate::domain::mapping::Queue;
use crate::queue::delivery;
use crate::queue::retry::{self, Failed};

/// Characters of the message that are sent.
const MESSAGE_MAX: usize = 1024;

/// A function's queue, if it has one that may be sent to: those of `region`. What else may stand there is kept without effect.
pub fn of(function: &Function, region: Option<&str>) -> Option<Queue> {
    let arn = function.aws.dead_letter.clone()?;
    let Ok(Destination::Queue(queue)) = Destination::parse(&arn) else {
        return None;
    };
    (Some(queue.region.as_str()) == region).then_some(queue)
}

/// The event that takes another to a queue, and its payload. `error` is what the function said, if it was run.
pub fn event(
    claimed: &Claimed,
    to: Queue,
    failed: &Failed,
    failure: &Failure,
    error: Option<&str>,
    at: jiff::Timestamp,
) -> (Event, Bytes) {
    let said = error.and_then(|error| serde_json::from_str::<Value>(error).ok());
    let said = said.and_then(|error| Some(error.get("errorMessage")?.as_str()?.to_owned()));
    let (status, why) = match (error, failed, &claimed.failure) {
        (Some(_), ..) => (200, failure),
        // What it was given up for before it was too old, if anything: somebody else may have noticed that first.
        (None, Failed::TooOld(_), Some(before)) => (status(before, claimed), before),
        (None, failed, _) => (failed.status(), failure),
    };
    let attributes = json!({
        "RequestID": text(&claimed.event.request_id.to_string()),
        "ErrorCode": {"DataType": "Number", "StringValue": status.to_string()},
        "ErrorMessage": text(&sendable(said.as_deref().unwrap_or(&why.message))),
    });
    let event = Event {
        context: attributes.to_string(),
        ..delivery::event(&claimed.event, Destination::Queue(to), at)
    };
    (event, body(claimed))
}

/// Of an attempt before this one.
fn status(before: &Failure, claimed: &Claimed) -> u16 {
    match &*before.code {
        retry::THROTTLED => 429,
        // Attempts count that reached their function.
        _ if claimed.try_of_its_own() > 1 => 200,
        _ => 500,
    }
}

fn text(value: &str) -> Value {
    json!({"DataType": "String", "StringValue": value})
}

/// As its function had it; what is no text, in base64.
fn body(claimed: &Claimed) -> Bytes {
    use base64::Engine;
    let payload = &claimed.payload;
    if payload.is_empty() {
        return Bytes::from_static(b"{}");
    }
    match std::str::from_utf8(payload) {
        Ok(_) => payload.clone(),
        Err(_) => base64::prelude::BASE64_STANDARD.encode(payload).into(),
    }
}

/// SQS takes no attribute that is empty or has what XML cannot have.
fn sendable(message: &str) -> String {
    let good = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let kept: String = message.chars().filter(good).take(MESSAGE_MAX).collect();
    match kept.is_empty() {
        true => "unknown".into(),
        false => kept,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::fault::{Fault, Throttle};
    use crate::domain::id::{FunctionId, FunctionName, RequestId};
    use crate::domain::version::VersionId;

    fn claimed(payload: &'static [u8]) -> Claimed {
        Claimed {
            event: Event {
                request_id: RequestId::generate(),
                function: FunctionId::from_stored("f-1"),
                name: FunctionName::parse("orders").expect("a name"),
                version: VersionId::Latest,
                alias: None,
                context: r#"{"client_context": {}}"#.into(),
                raw: false,
                accepted_at: jiff::Timestamp::UNIX_EPOCH,
                redriven_at: None,
                destination: None,
                depth: 1,
                trace: None,
            },
            payload: Bytes::from_static(payload),
            attempt: 3,
            lost: 0,
            failure: None,
        }
    }

    fn sent(payload: &'static [u8], failed: Failed, error: Option<&str>) -> (Value, Bytes) {
        sent_of(claimed(payload), failed, error)
    }

    fn sent_of(claimed: Claimed, failed: Failed, error: Option<&str>) -> (Value, Bytes) {
        let queue = Queue::try_from("arn:aws:sqs:us-east-1:000000000000:failed".to_owned());
        let failure = Failure {
            code: "code".into(),
            message: "why".into(),
        };
        let queue = queue.expect("an ARN");
        let at = jiff::Timestamp::UNIX_EPOCH;
        let (event, body) = event(&claimed, queue.clone(), &failed, &failure, error, at);
        assert_eq!(event.destination, Some(Destination::Queue(queue)));
        assert_eq!(event.depth, 2);
        let mut attributes: Value = serde_json::from_str(&event.context).expect("JSON");
        let id = attributes["RequestID"]["StringValue"].take();
        assert_eq!(id, claimed.event.request_id.to_string());
        (attributes, body)
    }

    #[test]
    fn a_failure_is_told_in_attributes() {
        let failed = Failed::Call(Fault::Draining);
        let error = r#"{"errorType": "ValueError", "errorMessage": "never\u0007"}"#;
        let (attributes, body) = sent(b"{\"n\": 1}", failed, Some(error));
        let wanted = json!({
            "RequestID": {"DataType": "String", "StringValue": null},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": "never"},
        });
        assert_eq!(attributes, wanted);
        assert_eq!(body, "{\"n\": 1}");
    }

    #[test]
    fn whoever_notices_that_it_is_too_old_says_the_same() {
        for (attempt, before, code, message) in [
            (1, Some(retry::THROTTLED), "429", "before"),
            (2, Some(retry::THROTTLED), "429", "before"),
            (1, Some("draining"), "500", "before"),
            (2, Some("function_error"), "200", "before"),
            (1, None, "500", "why"),
        ] {
            let failure = before.map(|code| Failure {
                code: code.into(),
                message: "before".into(),
            });
            let claimed = Claimed {
                attempt,
                failure,
                ..claimed(b"1")
            };
            let (attributes, _) = sent_of(claimed, Failed::TooOld(Duration::ZERO), None);
            assert_eq!(attributes["ErrorCode"]["StringValue"], code, "{before:?}");
            assert_eq!(attributes["ErrorMessage"]["StringValue"], message);
        }
    }

    #[test]
    fn what_was_not_run_has_another_status() {
        let throttled = Failed::Call(Fault::Throttled {
            reason: Throttle::ReservedConcurrency,
            limit: 0,
        });
        let (attributes, body) = sent(b"", throttled, None);
        assert_eq!(attributes["ErrorCode"]["StringValue"], "429");
        assert_eq!(attributes["ErrorMessage"]["StringValue"], "why");
        assert_eq!(body, "{}");
        let (attributes, body) = sent(b"\xff", Failed::Call(Fault::Draining), Some("\"\""));
        assert_eq!(attributes["ErrorMessage"]["StringValue"], "why");
        assert_eq!(body, "/w==");
        assert_eq!(sendable("\u{7}"), "unknown");
        assert_eq!(sendable(&"é".repeat(2000)).chars().count(), MESSAGE_MAX);
    }
}
