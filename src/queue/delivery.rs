//! What is sent to a destination: the invocation record, as AWS documents it, written from an event and what became of it. Pure.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::domain::destination::Destination;
use crate::domain::event::{Claimed, Event};
use crate::domain::id::RequestId;
use crate::domain::version::VersionId;

/// Larger answers are left out of a record.
pub const ANSWER_MAX: usize = 256 * 1024;
/// An event has come from so many others at most: functions that send to each other would go on for ever.
pub const DEPTH_MAX: u32 = 16;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvocationRecord<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: RequestId,
    function_arn: &'a str,
    condition: &'a str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// With its answer; `None` if that was too large.
    Succeeded(Option<&'a Answered>),
    Failed {
        /// Why it was given up.
        condition: &'static str,
        /// What the last attempt came to; `None` if it came to nothing and is not counted.
        error: Option<&'a str>,
    },
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub body: Bytes,
    pub raw: bool,
}

/// The record of an event and its end; `arn` is what it was for.
pub fn record(arn: &str, claimed: &Claimed, end: End<'_>, at: jiff::Timestamp) -> Bytes {
    let (condition, context, payload, attempts) = match end {
        End::Succeeded(answered) => {
            let payload = answered.map(|answered| embedded(&answered.body, answered.raw));
            let null = || to_raw_value(&()).expect("null is JSON");
            let payload = payload.unwrap_or_else(null);
            ("Success", Some(None), Some(payload), claimed.attempt)
        }
        End::Failed { condition, error } => {
            let payload =
                error.map(|error| embedded(&Bytes::copy_from_slice(error.as_bytes()), false));
            let context = error.map(|_| Some("Unhandled"));
            let before = claimed.attempt.saturating_sub(1);
            let attempts = error.map_or(before, |_| claimed.attempt);
            (condition, context, payload, attempts)
        }
    };
    let version = claimed.event.version;
    let document = InvocationRecord {
        version: "1.0",
        timestamp: at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        request_context: RequestContext {
            request_id: claimed.event.request_id,
            function_arn: arn,
            condition,
            approximate_invoke_count: attempts,
        },
        request_payload: embedded(&claimed.payload, claimed.event.raw),
        response_context: context.map(|function_error| ResponseContext {
            status_code: 200,
            executed_version: version.to_string(),
            function_error,
        }),
        response_payload: payload,
    };
    let written = serde_json::to_vec(&document);
    written.expect("plain data with text keys").into()
}

/// JSON as it is, everything else as text in base64.
fn embedded(bytes: &Bytes, raw: bool) -> Box<RawValue> {
    use base64::Engine;
    let json = || match bytes.is_empty() {
        // As functions see it.
        true => serde_json::from_str("{}").ok(),
        false => serde_json::from_slice::<Box<RawValue>>(bytes).ok(),
    };
    let text = || base64::prelude::BASE64_STANDARD.encode(bytes);
    let found = (!raw).then(json).flatten();
    found.unwrap_or_else(|| to_raw_value(&text()).expect("text is JSON"))
}

/// The event that takes a record to its destination. It is the function's whose event it comes from.
pub fn event(of: &Event, to: Destination, at: jiff::Timestamp) -> Event {
    Event {
        request_id: RequestId::generate(),
        function: of.function.clone(),
        name: of.name.clone(),
        version: VersionId::Latest,
        alias: None,
        context: String::new(),
        raw: false,
        accepted_at: at,
        redriven_at: None,
        destination: Some(to),
        depth: of.depth + 1,
        trace: of.trace.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::id::{FunctionId, FunctionName};
    use crate::domain::trace::Carried;

    fn claimed(payload: &'static str, raw: bool) -> Claimed {
        let event = Event {
            request_id: RequestId::generate(),
            function: FunctionId::from_stored("f-1"),
            name: FunctionName::parse("orders").expect("a name"),
            version: VersionId::Latest,
            alias: None,
            context: String::new(),
            raw,
            accepted_at: jiff::Timestamp::UNIX_EPOCH,
            redriven_at: None,
            destination: None,
            depth: 3,
            trace: Some(Carried {
                parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
                state: String::new(),
            }),
        };
        Claimed {
            event,
            payload: Bytes::from_static(payload.as_bytes()),
            attempt: 3,
            lost: 0,
            failure: None,
        }
    }

    fn written(claimed: &Claimed, end: End<'_>) -> Value {
        let at = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:orders:$LATEST";
        let bytes = record(arn, claimed, end, at);
        let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let id = value["requestContext"]["requestId"].take();
        assert_eq!(id, claimed.event.request_id.to_string());
        value
    }

    #[test]
    fn a_success_is_told_as_aws_tells_it() {
        let answered = Answered {
            body: Bytes::from_static(b"[1, 2]"),
            raw: false,
        };
        let got = written(
            &claimed("{\"n\": 1}", false),
            End::Succeeded(Some(&answered)),
        );
        let want = json!({
            "version": "1.0",
            "timestamp": "2026-01-02T03:04:05.678Z",
            "requestContext": {
                "requestId": null,
                "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:orders:$LATEST",
                "condition": "Success",
                "approximateInvokeCount": 3,
            },
            "requestPayload": {"n": 1},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": [1, 2],
        });
        assert_eq!(got, want);
        let got = written(&claimed("ab", true), End::Succeeded(None));
        assert_eq!(got["requestPayload"], "YWI=");
        assert_eq!(got["responsePayload"], Value::Null);
    }

    #[test]
    fn a_failure_says_what_the_function_said() {
        let error = r#"{"errorType": "KeyError", "errorMessage": "'x'", "trace": []}"#;
        let end = End::Failed {
            condition: "RetriesExhausted",
            error: Some(error),
        };
        let got = written(&claimed("no json", false), end);
        assert_eq!(got["requestContext"]["condition"], "RetriesExhausted");
        assert_eq!(got["requestContext"]["approximateInvokeCount"], 3);
        assert_eq!(got["requestPayload"], "bm8ganNvbg==");
        assert_eq!(got["responseContext"]["functionError"], "Unhandled");
        let wanted = json!({"errorType": "KeyError", "errorMessage": "'x'", "trace": []});
        assert_eq!(got["responsePayload"], wanted);
    }

    #[test]
    fn what_did_not_run_has_no_response() {
        let end = End::Failed {
            condition: "EventAgeExceeded",
            error: None,
        };
        let got = written(&claimed("", false), end);
        assert_eq!(got["requestContext"]["condition"], "EventAgeExceeded");
        assert_eq!(got["requestContext"]["approximateInvokeCount"], 2);
        assert_eq!(got["requestPayload"], json!({}));
        assert!(got.get("responseContext").is_none() && got.get("responsePayload").is_none());
    }

    #[test]
    fn a_delivery_is_an_event_of_its_own_one_further() {
        let claimed = claimed("1", true);
        let to = Destination::parse("function:next").expect("a destination");
        let next = event(&claimed.event, to.clone(), jiff::Timestamp::UNIX_EPOCH);
        assert_ne!(next.request_id, claimed.event.request_id);
        assert_eq!((next.destination, next.depth), (Some(to), 4));
        assert_eq!(next.trace, claimed.event.trace);
        assert!(!next.raw);
    }
}
