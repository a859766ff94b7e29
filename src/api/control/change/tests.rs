//! What is refused, with the field it is refused for, and that what is accepted is what the OpenAPI document describes.

use std::sync::LazyLock;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use serde_json::json;

use super::*;
use crate::api::control::document::{FunctionChange, NewFunction};
use crate::sim::engine::catalog;

static RUNTIMES: LazyLock<Catalog> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("temp dir");
    catalog(dir.path())
});

/// The fields that are wrong with a body, and what is said of them.
fn faults(body: &Value) -> Vec<(String, String)> {
    let (_, faults) = read(body.to_string().as_bytes(), &RUNTIMES, 100).expect("an object");
    let pair = |fault: FieldFault| (fault.field, fault.message);
    faults.0.into_iter().map(pair).collect()
}

fn accepted(body: &Value) -> Change {
    let (change, faults) = read(body.to_string().as_bytes(), &RUNTIMES, 100).expect("an object");
    assert!(faults.0.is_empty(), "{body}: {:?}", faults.0);
    change
}

#[test]
fn every_bad_value_names_its_field_and_says_what_is_wanted() {
    let long = |n: usize| "x".repeat(n);
    let many: Map<String, Value> = (0..51).map(|n| (format!("k{n}"), json!("v"))).collect();
    let cases = [
        ("name", json!(""), "1 to 64"),
        ("name", json!(long(65)), "1 to 64"),
        ("name", json!("a b"), "' '"),
        ("name", json!("naïve"), "'ï'"),
        ("name", json!(7), "a text, is 7"),
        ("name", json!(null), "is null"),
        ("name", json!("execute"), "batch"),
        ("name", json!("0198c0de-0000-7000-8000-000000000000"), "id"),
        (
            "language",
            json!("cobolt"),
            "runic1.0 (runic), sign2.x (sign)",
        ),
        ("language", json!(["runic"]), "a list"),
        ("handler", json!(""), "1 to 128"),
        ("handler", json!(long(129)), "1 to 128"),
        ("handler", json!("app. handler"), "' '"),
        ("handler", json!("app.handler\u{0}"), "'\\0'"),
        ("timeout", json!(0), "from 1 to 900, is 0"),
        ("timeout", json!(901), "from 1 to 900, is 901"),
        ("timeout", json!(-1), "is -1"),
        ("timeout", json!(2.5), "is 2.5"),
        ("timeout", json!("3"), "is \"3\""),
        ("timeout", json!(null), "is null"),
        ("timeout", json!(4_294_967_299_u64), "is 4294967299"),
        ("layers", json!("a:1"), "a list of at most 5, is \"a:1\""),
        (
            "layers",
            json!(["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"]),
            "at most 5",
        ),
        (
            "layers",
            json!(["a"]),
            "\"a\" must be a layer and a version",
        ),
        (
            "layers",
            json!(["a:0"]),
            "\"a:0\" must have a version's number",
        ),
        ("layers", json!(["a:1", 7]), "a text, is 7"),
        (
            "layers",
            json!(["a:1", "b:1", "a:2"]),
            "two versions of one layer, a:1 and a:2",
        ),
        ("memory", json!(127), "MiB from 128 to 10240"),
        ("memory", json!(10_241), "MiB from 128 to 10240"),
        ("code", json!(""), "empty"),
        ("code", json!(" \n"), "empty"),
        ("code", json!({"zip": ""}), "empty"),
        ("code", json!({"zip": 1}), "base64 of a zip"),
        ("code", json!({"text": "x"}), "base64 of a zip"),
        (
            "code",
            json!({"inline": "x", "zip": "x"}),
            "base64 of a zip",
        ),
        ("code", json!([]), "base64 of a zip"),
        ("code", json!(null), "base64 of a zip"),
        ("code_path", json!("relative/path"), "absolute"),
        ("code_path", json!("/with\u{0}zero"), "zero"),
        ("code_path", json!(1), "a text"),
        ("environment", json!([]), "a map"),
        ("environment", json!({"A": "x".repeat(4096)}), "has 4097"),
        ("environment.A", json!({"A": 1}), "a text"),
        ("environment.1A", json!({"1A": "x"}), "not a digit first"),
        ("environment.A-B", json!({"A-B": "x"}), "letters"),
        ("environment.", json!({"": "x"}), "letters"),
        ("environment.A", json!({"A": "x\u{0}"}), "zero byte"),
        ("environment._HANDLER", json!({"_HANDLER": "x"}), "reserved"),
        (
            "environment.AWS_REGION",
            json!({"AWS_REGION": "x"}),
            "reserved",
        ),
        (
            "environment.AWS_LAMBDA_RUNTIME_API",
            json!({"AWS_LAMBDA_RUNTIME_API": "x"}),
            "reserved",
        ),
        (
            "environment.LAMBDA_TASK_ROOT",
            json!({"LAMBDA_TASK_ROOT": "x"}),
            "reserved",
        ),
        (
            "environment.HEARTH_SOCKET",
            json!({"HEARTH_SOCKET": "x"}),
            "reserved",
        ),
        ("description", json!(long(257)), "at most 256"),
        ("description", json!(null), "a text"),
        ("tags", Value::Object(many), "at most 50, are 51"),
        ("tags", json!("x"), "a map"),
        ("tags.", json!({"": "x"}), "1 to 128"),
        ("tags.a", json!({"a": "x".repeat(257)}), "at most 256"),
        ("tags.AWS:x", json!({"AWS:x": "x"}), "aws:"),
        ("tags.a", json!({"a": "b;c"}), "';'"),
        ("tags.a", json!({"a": null}), "a text"),
        ("route", json!("hello"), "begin with"),
        ("route", json!(""), "begin with"),
        ("route", json!(format!("/{}", long(512))), "at most 512"),
        ("route", json!("/a/"), "segments"),
        ("route", json!("//a"), "segments"),
        ("route", json!("/a/../b"), "segments"),
        ("route", json!("/a?b"), "'?'"),
        ("route", json!("/a b"), "' '"),
        ("route", json!("/a%2fb"), "'%'"),
        ("route", json!("/x{a}"), "whole segments"),
        ("route", json!("/{a+}/b"), "end with"),
        ("route", json!("/functions"), "reserved"),
        ("route", json!("/functions/x"), "reserved"),
        ("route", json!("/docs"), "reserved"),
        ("route", json!("/openapi.json"), "reserved"),
        ("route", json!("/metrics"), "reserved"),
        ("route", json!("/healthz"), "reserved"),
        ("route", json!("/readyz"), "reserved"),
        ("route", json!("/dashboard/x"), "reserved"),
        ("route", json!("/2015-03-31/functions"), "reserved"),
        ("route", json!("/.."), "segments"),
        ("max_concurrency", json!(101), "from 0 to 100"),
        ("max_concurrency", json!("all"), "is \"all\""),
        ("reserved_concurrency", json!(101), "from 0 to 100"),
        ("reserved_concurrency", json!(-1), "from 0 to 100"),
        ("max_retries", json!(3), "from 0 to 2"),
        ("max_event_age", json!(59), "from 60 to 21600"),
        ("on_success", json!("taker"), "function:NAME"),
        ("on_failure", json!("https://a:b@c/"), "password"),
        (
            "network",
            json!("host"),
            "\"none\" or \"egress\", is \"host\"",
        ),
        ("network", json!(null), "is null"),
        ("revision", json!("1"), "a revision"),
        ("id", json!("x"), "read-only"),
        ("version", json!("x"), "read-only"),
        ("url", json!("x"), "read-only"),
        ("Name", json!("x"), "not a field"),
    ];
    for (field, value, what) in cases {
        let top = field.split('.').next().expect("a field");
        let found = faults(&json!({top: value}));
        assert_eq!(found.len(), 1, "{field}: {value}: {found:?}");
        assert_eq!(found[0].0, field, "{value}: {found:?}");
        assert!(found[0].1.contains(what), "{value}: {found:?}");
    }
}

#[test]
fn good_values_are_taken_as_they_are() {
    let change = accepted(&json!({
        "name": "a-B_9", "language": "sign2.x", "handler": "dir/app.handler", "timeout": 900,
        "memory": 10_240, "code": {"inline": "UEsDB is how zips begin"}, "description": "é".repeat(256),
        "environment": {"_a1": "", "AWS_XRAY_CONTEXT_MISSING": "x", "TZ": "UTC"},
        "tags": {"a:b": "c/d=e+f-g@h i", "Größe": "groß"}, "route": "/a/b-c.d/~e",
        "max_concurrency": 100, "reserved_concurrency": 90, "network": "egress", "revision": 7,
    }));
    assert_eq!(change.runtime.expect("a runtime").id.as_str(), "sign2.x");
    let inline = Source::Inline("UEsDB is how zips begin".into());
    assert_eq!(change.code, Some(inline), "it says what it is");
    assert_eq!(change.environment.map(|e| e.0.len()), Some(3));
    assert_eq!(change.tags.map(|t| t.len()), Some(2));
    assert_eq!(change.max_concurrency, Some(Some(100)));
    assert_eq!(change.reserved_concurrency, Some(Some(90)));
    for route in ["/", "/functionsx", "/a", "/x2", "/-"] {
        let change = accepted(&json!({"route": route}));
        assert_eq!(change.route, Some(Some(route.into())));
    }
    let cleared = accepted(&json!({"route": null, "max_concurrency": null}));
    assert_eq!(
        (cleared.route, cleared.max_concurrency),
        (Some(None), Some(None))
    );
    let full = json!({"environment": {"A": "x".repeat(4095)}});
    assert!(accepted(&full).environment.is_some());
    assert_eq!(
        accepted(&json!({"code": "UEsDBAoA"})).code,
        Some(Source::Zip("UEsDBAoA".into()))
    );
}

#[test]
fn credentials_are_for_the_function_to_bring_but_not_by_awss_clients() {
    for name in CREDENTIALS {
        accepted(&json!({"environment": {name: "x"}}));
        assert!(is_reserved_on_aws(name));
    }
    assert!(is_reserved_on_aws("AWS_REGION") && !is_reserved_on_aws("AWS_LAMBDA_EXEC_WRAPPER"));
}

#[test]
fn code_is_given_in_one_way() {
    for path in [json!("/a"), json!("a"), json!(1)] {
        let found = faults(&json!({"code": "x", "code_path": path}));
        let last = found.last().expect("a fault");
        assert_eq!(last.0, "code_path");
        assert!(last.1.contains("together"), "{found:?}");
    }
}

#[test]
fn a_flood_of_faults_is_cut() {
    let body: Map<String, Value> = (0..1000)
        .map(|n| (format!("{n}{}", "y".repeat(1000)), json!(1)))
        .collect();
    let body = Value::Object(body).to_string();
    let (_, faults) = read(body.as_bytes(), &RUNTIMES, 1).expect("an object");
    let Err(Problem::Invalid(faults)) = faults.into_result() else {
        panic!("refused");
    };
    assert_eq!(faults.len(), FAULTS_MAX + 1);
    assert!(faults[FAULTS_MAX].message.contains("900 more"));
    assert!(faults.iter().all(|f| f.field.len() < 100));
}

const TEXTS: [&str; 11] = [
    "",
    "a",
    "runic",
    "app.handler",
    "/a",
    "none",
    "egress",
    "UEsDB",
    "é",
    "\u{0}",
    "/functions",
];
const FIELDS: [&str; 18] = [
    "name",
    "language",
    "handler",
    "timeout",
    "memory",
    "code",
    "code_path",
    "layers",
    "environment",
    "description",
    "tags",
    "route",
    "max_concurrency",
    "reserved_concurrency",
    "network",
    "revision",
    "id",
    "other",
];

/// A good value for each field there is.
fn good() -> Vec<(String, Value)> {
    let good = json!({
        "name": "a", "language": "sign", "handler": "a.b", "timeout": 1, "memory": 128, "code": {"zip": "x"},
        "code_path": "/a", "layers": ["a:1", "b:2"], "environment": {"A": "b"}, "description": "", "tags": {"a": "b"},
        "route": "/a", "max_concurrency": 0, "reserved_concurrency": 0, "network": "none", "revision": 1,
    });
    let Value::Object(good) = good else {
        unreachable!("it is written as one")
    };
    good.into_iter().collect()
}

/// Values a field may be given, good and bad.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..1000_u32).prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(
                prop_oneof![
                    Just("inline".to_owned()),
                    Just("zip".to_owned()),
                    "[A-Z_a-z]{0,4}",
                    ".*"
                ],
                inner,
                0..4
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        4 => prop::sample::select(good()),
        1 => (prop::sample::select(&FIELDS[..]).prop_map(str::to_owned), value()),
    ];
    prop::collection::vec(field, 0..8)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let catalog = Catalog::default();
        if let Ok((_, faults)) = read(&bytes, &catalog, 1) {
            // Either is fine; it must come back.
            drop(faults.into_result());
        }
    }

    #[test]
    fn a_fault_is_of_a_field_that_was_given(body in body()) {
        for (field, message) in faults(&body) {
            let top = field.split('.').next().expect("a field").to_owned();
            assert!(body.get(&top).is_some(), "{field}: {message}");
            assert!(!message.is_empty() && message.len() < 1000, "{message}");
        }
    }

    /// The description is derived from these types, and they take whatever is accepted.
    #[test]
    fn what_is_accepted_is_what_is_described(mut body in body()) {
        if faults(&body).is_empty() {
            let change: Result<FunctionChange, _> = serde_json::from_value(body.clone());
            assert!(change.is_ok(), "{body}: {change:?}");
            let fields = body.as_object_mut().expect("an object");
            fields.remove("revision");
            fields.entry("name").or_insert(json!("f"));
            fields.entry("language").or_insert(json!("runic"));
            let new: Result<NewFunction, _> = serde_json::from_value(body.clone());
            assert!(new.is_ok(), "{body}: {new:?}");
        }
    }
}
