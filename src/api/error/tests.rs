//! Faults and problems as bodies, statuses and headers.

use std::time::Duration;

use super::*;
use crate::domain::fault::Throttle;
use crate::domain::limits::Mebibytes;

fn json(response: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

#[test]
fn every_fault_has_its_status() {
    let second = Duration::from_secs(1);
    let report = || crate::domain::fault::Report {
        kind: "ValueError".into(),
        message: "no".into(),
        stack: vec!["line 1".into()],
        document: None,
    };
    let cases = [
        (Fault::NotFound("x".into()), 404),
        (
            Fault::NoVersion {
                function: "x".into(),
                qualifier: "7".into(),
            },
            404,
        ),
        (Fault::PayloadTooLarge { size: 9, limit: 8 }, 413),
        (Fault::PayloadNotJson("x".into()), 400),
        (Fault::BodyIncomplete("x".into()), 408),
        (Fault::BodyMalformed("x".into()), 400),
        (
            Fault::Throttled {
                reason: Throttle::LineFull,
                limit: 1,
            },
            429,
        ),
        (Fault::ClientGone, 499),
        (Fault::Handler(report()), 502),
        (Fault::Init(report()), 502),
        (Fault::InitTimeout(second), 502),
        (Fault::Timeout(second), 504),
        (Fault::Exited { code: None }, 502),
        (
            Fault::OutOfMemory {
                limit: Mebibytes(128),
            },
            502,
        ),
        (Fault::Protocol("x".into()), 502),
        (Fault::Loading(Box::new(Fault::Exited { code: None })), 502),
        (Fault::WaitedTooLong(second), 503),
        (Fault::StartFailed("x".into()), 503),
        (Fault::CodeUnavailable("x".into()), 503),
        (Fault::EnvironmentUnreadable("x".into()), 503),
        (Fault::NoMemory(Mebibytes(128)), 503),
        (Fault::PermitsLost, 503),
        (Fault::Draining, 503),
        (Fault::Interrupted, 503),
    ];
    for (fault, status) in cases {
        assert_eq!(fault_status(&fault).as_u16(), status, "{fault:?}");
        assert_eq!(
            fault_retry_after(&fault).is_some(),
            matches!(status, 429 | 503),
            "{fault:?}"
        );
    }
}

#[test]
fn a_function_error_keeps_type_message_and_stack() {
    let fault = Fault::Handler(crate::domain::fault::Report {
        kind: "ValueError".into(),
        message: "no such thing".into(),
        stack: vec!["at line 3".into()],
        document: None,
    });
    let id = RequestId::generate();
    let got = serde_json::to_value(fault_detail(&fault, "printed\n", id)).expect("JSON");
    let want = serde_json::json!({
        "code": "function_error", "message": "no such thing", "blame": "function", "retry": "unsafe",
        "type": "ValueError", "stack": ["at line 3"], "log_tail": "printed\n", "request_id": id.to_string(),
    });
    assert_eq!(got, want);
}

#[test]
fn a_refusal_names_every_field_and_repeats_its_id_in_the_header() {
    let id = RequestId::generate();
    let problem = Problem::Invalid(vec![
        FieldFault::new("timeout", "must be a number"),
        FieldFault::new("memory", "must be a number"),
    ]);
    let response = problem.response(id);
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()[REQUEST_ID], id.to_string());
    let want = serde_json::json!({"error": {
        "code": "invalid_request", "blame": "client", "retry": "never",
        "message": "timeout must be a number (and 1 more: see faults)",
        "faults": [
            {"field": "timeout", "message": "must be a number"},
            {"field": "memory", "message": "must be a number"},
        ],
        "request_id": id.to_string(),
    }});
    assert_eq!(json(&response), want);
}

#[test]
fn a_missing_key_is_asked_for() {
    let response = unauthorized();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
}

#[test]
fn conflicts_name_their_field() {
    let by = FunctionId::generate();
    let cases = [
        (
            Problem::NameTaken {
                name: "a".into(),
                by: by.clone(),
            },
            409,
            "name",
        ),
        (
            Problem::RouteTaken {
                route: "/a".into(),
                by: by.to_string(),
            },
            409,
            "route",
        ),
        (
            Problem::Stale {
                given: "3".into(),
                condition: false,
            },
            409,
            "revision",
        ),
        (
            Problem::Stale {
                given: "3".into(),
                condition: true,
            },
            412,
            "if-match",
        ),
    ];
    for (problem, status, field) in cases {
        let response = problem.response(RequestId::generate());
        assert_eq!(response.status(), status);
        assert_eq!(json(&response)["error"]["faults"][0]["field"], field);
    }
}

#[test]
fn a_store_fault_says_when_to_come_back() {
    for (problem, status, code) in [
        (Problem::StoreUnavailable, 503, "store_unavailable"),
        (Problem::DiskFull, 507, "disk_full"),
    ] {
        let response = problem.response(RequestId::generate());
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let error = &json(&response)["error"];
        assert_eq!(
            (&error["code"], &error["blame"]),
            (&code.into(), &"platform".into())
        );
        assert_eq!(error["retry"], "safe");
    }
    let unsaid = Problem::StoreUnsaid.response(RequestId::generate());
    assert_eq!(unsaid.status(), 503);
    assert!(!unsaid.headers().contains_key(RETRY_AFTER));
    let error = &json(&unsaid)["error"];
    assert_eq!(error["code"], "store_unavailable");
    assert_eq!(error["retry"], "unsafe");
}
