//! Events of requests, compared with what AWS documents.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::function::{Code, Network, Origin};
use crate::domain::id::{FunctionId, FunctionName, RuntimeId};
use crate::domain::limits::Mebibytes;
use crate::domain::trace::{Face, SpanId, TraceId};

fn function(route: &str) -> Function {
    let at = "2026-01-02T03:04:05.678Z".parse().expect("a time");
    Function {
        id: FunctionId::from_stored("f-id"),
        name: FunctionName::parse("f").expect("a name"),
        revision: 1,
        runtime: RuntimeId::new("runic1.0"),
        handler: "app.handler".into(),
        timeout_seconds: 3,
        memory: Mebibytes(128),
        code: Code {
            sha256: String::new(),
            size: 0,
            unpacked_size: None,
            origin: Origin::Inline,
        },
        layers: Vec::new(),
        environment: crate::domain::environment::Environment::default(),
        description: String::new(),
        tags: BTreeMap::new(),
        route: Some(route.into()),
        max_concurrency: None,
        reserved_concurrency: None,
        asynchronous: Default::default(),
        network: Network::None,
        aws: Default::default(),
        created_at: at,
        updated_at: at,
    }
}

fn event(request: http::request::Builder, body: &[u8]) -> Value {
    event_over(false, request, body)
}

fn event_over(tls: bool, request: http::request::Builder, body: &[u8]) -> Value {
    event_in(None, tls, request, body)
}

fn event_in(
    trace: Option<&Trace>,
    tls: bool,
    request: http::request::Builder,
    body: &[u8],
) -> Value {
    let address = IpAddr::from([192, 0, 2, 7]);
    let from = Sender { address, tls };
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let function = function("/orders/{id}");
    let bytes = write(&Request {
        head: &head,
        trace,
        from,
        at: At::Route {
            function: &function,
            parameters: &[("id".into(), "a/b č".into())],
        },
        request_id: RequestId::generate(),
        time: function.created_at,
        body,
    });
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn an_event_says_how_the_request_came() {
    for (tls, scheme) in [(false, "http"), (true, "https")] {
        let request = http::Request::builder().uri("/orders/1");
        let got = event_over(tls, request, b"");
        assert_eq!(got["headers"]["x-forwarded-proto"], scheme);
        let port = if tls { "443" } else { "80" };
        assert_eq!(got["headers"]["x-forwarded-port"], port);
        // Unless a proxy before Hearth knows better.
        let request = http::Request::builder().header("x-forwarded-proto", "https");
        let got = event_over(tls, request.uri("/orders/1"), b"");
        assert_eq!(got["headers"]["x-forwarded-proto"], "https");
        assert_eq!(got["headers"]["x-forwarded-port"], "443");
    }
}

#[test]
fn an_event_has_its_own_place_in_the_trace_if_it_is_traced() {
    let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = || {
        let request = http::Request::builder().uri("/orders/1");
        let request = request.header("traceparent", theirs);
        request
            .header("tracestate", "a=1")
            .header("X-Amzn-Trace-Id", "Root=x")
    };
    let got = event(request(), b"");
    assert_eq!(got["headers"]["traceparent"], theirs);
    assert_eq!(got["headers"]["x-amzn-trace-id"], "Root=x");
    let trace = Trace {
        id: TraceId::generate(),
        parent: None,
        span: SpanId::generate(),
        run: SpanId::generate(),
        sampled: true,
        state: "b=2".into(),
        face: Face::Route,
        attempt: 0,
    };
    let got = event_in(Some(&trace), false, request(), b"");
    assert_eq!(got["headers"]["traceparent"], trace.traceparent());
    assert_eq!(got["headers"]["tracestate"], "b=2");
    assert_eq!(got["headers"]["x-amzn-trace-id"], trace.amzn());
}

#[test]
fn an_event_says_everything_about_its_request() {
    let request = http::Request::builder()
        .method("POST")
        .uri("/orders/a%2Fb%20%C4%8D?x=1&y=a%20b+c&x=2&z&=e&%C4%8D=%26")
        .header("host", "shop.example:8080")
        .header("User-Agent", "test/1")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("X-Many", "one")
        .header("x-many", "two, three")
        .header("cookie", "a=1; b=\"2\"")
        .header("cookie", "c=3;")
        .header("connection", "keep-alive")
        .header("x-forwarded-for", "203.0.113.9");
    let mut got = event(request, "{\"č\": 1}".as_bytes());
    let id = got["requestContext"]["requestId"].take();
    assert_eq!(id.as_str().map(str::len), Some(36));
    let want = json!({
        "version": "2.0",
        "routeKey": "ANY /orders/{id}",
        "rawPath": "/orders/a%2Fb%20%C4%8D",
        "rawQueryString": "x=1&y=a%20b+c&x=2&z&=e&%C4%8D=%26",
        "cookies": ["a=1", "b=\"2\"", "c=3"],
        "headers": {
            "host": "shop.example:8080",
            "user-agent": "test/1",
            "content-type": "application/json; charset=utf-8",
            "x-many": "one,two, three",
            "cookie": "a=1; b=\"2\"; c=3;",
            "x-forwarded-for": "203.0.113.9, 192.0.2.7",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "8080",
        },
        "queryStringParameters": {"x": "1,2", "y": "a b c", "z": "", "": "e", "č": "&"},
        "pathParameters": {"id": "a/b č"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "f-id",
            "domainName": "shop.example",
            "domainPrefix": "shop",
            "http": {
                "method": "POST", "path": "/orders/a/b č", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7", "userAgent": "test/1",
            },
            "requestId": null,
            "routeKey": "ANY /orders/{id}",
            "stage": "$default",
            "time": "02/Jan/2026:03:04:05 +0000",
            "timeEpoch": 1_767_323_045_678_u64,
        },
        "body": "{\"č\": 1}",
        "isBase64Encoded": false,
    });
    assert_eq!(got, want);
}

#[test]
fn what_is_not_there_is_left_out() {
    let got = event(http::Request::builder().uri("/orders/1"), b"");
    for absent in ["cookies", "queryStringParameters", "body"] {
        assert_eq!(got.get(absent), None, "{absent}");
    }
    assert_eq!(got["rawQueryString"], "");
    assert_eq!(got["isBase64Encoded"], false);
    assert_eq!(got["requestContext"]["http"]["userAgent"], "");
    assert_eq!(got["requestContext"]["domainName"], "");
    // The host of HTTP/2.
    let absolute = http::Request::builder().uri("http://[::1]:80/orders/1");
    let got = event(absolute.version(http::Version::HTTP_2), b"");
    assert_eq!(got["headers"]["host"], "[::1]:80");
    assert_eq!(got["requestContext"]["domainName"], "[::1]");
    assert_eq!(got["requestContext"]["http"]["protocol"], "HTTP/2.0");
}

#[test]
fn a_body_is_text_if_it_says_so_and_is() {
    let of = |content_type: &str, body: &[u8]| {
        let request = http::Request::builder().header("content-type", content_type);
        let event = event(request, body);
        (event["body"].clone(), event["isBase64Encoded"].clone())
    };
    let text = (json!("a=č"), json!(false));
    for kind in [
        "text/plain",
        "Application/JSON",
        "application/problem+json",
        "application/xml",
        "image/svg+xml",
    ] {
        assert_eq!(of(kind, "a=č".as_bytes()), text, "{kind}");
    }
    let encoded = (json!("YT3EjQ=="), json!(true));
    for kind in [
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "image/png",
        "",
    ] {
        assert_eq!(of(kind, "a=č".as_bytes()), encoded, "{kind}");
    }
    assert_eq!(of("text/plain", b"\xff"), (json!("/w=="), json!(true)));
    let packed = http::Request::builder()
        .header("content-type", "text/plain")
        .header("content-encoding", "gzip");
    assert_eq!(event(packed, b"a")["isBase64Encoded"], true);
}

#[test]
fn a_header_that_is_no_text_is_passed_on_all_the_same() {
    let strange = HeaderValue::from_bytes(b"caf\xe9").expect("a value");
    let request = http::Request::builder()
        .header("x-latin", strange.clone())
        .header("x-utf8", "č")
        .header("cookie", strange);
    let got = event(request, b"");
    assert_eq!(got["headers"]["x-latin"], "café");
    assert_eq!(got["headers"]["x-utf8"], "č");
    assert_eq!(got["cookies"], json!(["café"]));
}

proptest! {
    /// The query, compared with a plain reading of it; and nothing that is sent makes an event that is not JSON.
    #[test]
    fn any_query_and_body_make_an_event(
        pairs in prop::collection::vec(("[a-c]{0,1}", "[a-z ,&=%č]{0,3}"), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..64),
        kind in prop_oneof![Just("text/plain"), Just("image/png")],
    ) {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let request = http::Request::builder()
            .uri(format!("/orders/x?{query}"))
            .header("content-type", kind);
        let got = event(request, &body);
        let mut want: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &pairs {
            want.entry(name.clone()).or_default().push(value.clone());
        }
        let want: BTreeMap<_, _> = want.into_iter().map(|(n, v)| (n, v.join(","))).collect();
        let parameters = got.get("queryStringParameters").cloned().unwrap_or(json!({}));
        prop_assert_eq!(parameters, json!(want));
        let sent = got.get("body").map_or("", |b| b.as_str().expect("a text"));
        let sent = match got["isBase64Encoded"].as_bool() {
            Some(true) => BASE64_STANDARD.decode(sent).expect("base64"),
            _ => sent.as_bytes().to_vec(),
        };
        prop_assert_eq!(sent, body);
    }
}

#[test]
fn a_path_that_is_not_the_raw_one_is_plain() {
    for (raw, wanted) in [
        ("/", "/"),
        ("//pa2%25Fth/1", "/pa2%Fth/1"),
        ("/a///b/", "/a/b/"),
        ("/a%2F%2Fb", "/a/b"),
        ("/%ff", "/\u{fffd}"),
    ] {
        assert_eq!(plain(raw), wanted);
    }
}
