//! Hostile bodies: what is no JSON or too much of it, what is packed, and fields that try to be something else. Each would make a
//! function, or change the victim, if it were taken.

use serde_json::{Value, json};

use super::wire::{Case, Want};

const BAD: Want = Want::Status(&[400]);

fn send(key: &str, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A function that would be made, with one more member, whatever that is.
fn with_member(member: &str) -> String {
    format!(
        r#"{{"name": "made", "language": "python", "code": "def handler(event, context): return 1", {member}}}"#
    )
}

/// A function that would be made, with one field as it must not be.
fn with(field: &str, value: Value) -> String {
    let mut body = json!({"name": "made", "language": "python", "code": "def handler(event, context): return 1"});
    body[field] = value;
    body.to_string()
}

/// What is no JSON, or cannot be meant.
pub(crate) fn texts(key: &str) -> Vec<Case> {
    let good = with_member("\"timeout\": 3");
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("a list", format!("[{good}]").into()),
        ("a text", b"\"made\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1".to_vec()),
        ("behind a byte order mark", format!("\u{feff}{good}").into()),
        ("UTF-16", utf16),
        (
            "not UTF-8",
            with("description", json!("?"))
                .replace('?', "\u{1}")
                .into_bytes()
                .into_iter()
                .map(|b| if b == 1 { 0xff } else { b })
                .collect(),
        ),
        (
            "overlong UTF-8",
            [
                with_member("\"description\": \"")
                    .trim_end_matches('}')
                    .as_bytes(),
                b"\xc0\xaf\"}",
            ]
            .concat(),
        ),
        (
            "a bare control character",
            with_member("\"description\": \"a\nb\"").into(),
        ),
        (
            "a lone surrogate",
            with_member(r#""description": "\ud800""#).into(),
        ),
        (
            "surrogates in the wrong order",
            with_member(r#""description": "\udc00\ud800""#).into(),
        ),
        (
            "an unknown escape",
            with_member(r#""description": "\x41""#).into(),
        ),
        ("junk behind it", format!("{good} junk").into()),
        ("two of them", format!("{good}{good}").into()),
        ("a comma at the end", good.replace('}', ",}").into()),
        ("single quotes", good.replace('"', "'").into()),
        ("a comment", format!("/* x */ {good}").into()),
        ("NaN", with_member("\"timeout\": NaN").into()),
        ("Infinity", with_member("\"timeout\": Infinity").into()),
        (
            "a number over all bounds",
            with_member("\"timeout\": 1e999").into(),
        ),
        (
            "a number of ten thousand digits",
            with_member(&format!("\"timeout\": {}", "9".repeat(10_000))).into(),
        ),
        (
            "a number with a zero in front",
            with_member("\"timeout\": 03").into(),
        ),
        ("a key twice", with_member("\"name\": \"victim\"").into()),
        (
            "a key twice in two spellings",
            with_member(r#""n\u0061me": "other""#).into(),
        ),
        (
            "a variable twice",
            with_member(r#""environment": {"A": "1", "A": "2"}"#).into(),
        ),
        (
            "ten thousand lists deep",
            with_member(&format!(
                "\"tags\": {}{}",
                "[".repeat(10_000),
                "]".repeat(10_000)
            ))
            .into(),
        ),
        (
            "ten thousand objects deep",
            with_member(&format!(
                "\"tags\": {}1{}",
                "{\"a\":".repeat(10_000),
                "}".repeat(10_000)
            ))
            .into(),
        ),
        ("ten thousand deep and open", "[".repeat(10_000).into()),
        (
            "a million values",
            with_member(&format!("\"tags\": [{}0]", "0,".repeat(1_000_000))).into(),
        ),
        (
            "a hundred thousand fields",
            format!(
                "{{{}\"z\": 1}}",
                (0..100_000)
                    .map(|n| format!("\"k{n}\": 1,"))
                    .collect::<String>()
            )
            .into(),
        ),
        ("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
    ];
    let mut cases = Vec::new();
    for (name, body) in bodies {
        let bytes = send(key, "POST /functions/", "", &body);
        cases.push(Case::new(format!("body: {name}"), bytes, BAD));
    }
    let put = send(
        key,
        "PUT /functions/victim",
        "",
        br#"{"timeout": 3, "timeout": 4}"#,
    );
    cases.push(Case::new("change with a key twice", put, BAD));
    for (name, body) in [
        ("an object", "{}".to_owned()),
        ("a text", "\"victim\"".into()),
        (
            "too many calls",
            json!(vec![json!({"name": "victim"}); 101]).to_string(),
        ),
        ("a million calls", format!("[{}0]", "0,".repeat(1_000_000))),
        ("a list that does not end", "[".repeat(10_000)),
    ] {
        let bytes = send(key, "POST /functions/execute", "", body.as_bytes());
        cases.push(Case::new(format!("batch: {name}"), bytes, BAD));
    }
    cases
}

/// Payloads that are no JSON, which the function's worker says.
pub(crate) fn payloads(key: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [
        "{",
        "{\"a\": }",
        "'x'",
        "\u{feff}{}",
        "{} {}",
        "NaN,",
        "\"\u{1}",
    ] {
        let bytes = send(
            key,
            "POST /functions/victim/execute",
            "",
            payload.as_bytes(),
        );
        cases.push(Case::new(format!("payload {payload:?}"), bytes, BAD));
    }
    cases
}

/// Bodies that come packed, or are said to be something else.
pub(crate) fn encodings(key: &str) -> Vec<Case> {
    // The first thousand bytes of 10 GiB of spaces.
    let bomb = [
        &b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xec\xc1"[..],
        &[0; 1000],
    ]
    .concat();
    let good = with_member("\"timeout\": 3");
    let refused = Want::Status(&[415]);
    let mut cases = Vec::new();
    for line in [
        "POST /functions/",
        "PUT /functions/victim",
        "POST /functions/execute",
        "POST /functions/victim/execute",
    ] {
        let bytes = send(key, line, "Content-Encoding: gzip\r\n", &bomb);
        cases.push(Case::new(format!("{line} packed"), bytes, refused));
    }
    for encoding in [
        "br",
        "deflate",
        "zstd",
        "x-gzip",
        "gzip, identity",
        "identity, gzip",
        "",
        "identity\r\nContent-Encoding: gzip",
        "aes128gcm",
    ] {
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let bytes = send(key, "POST /functions/", &headers, good.as_bytes());
        cases.push(Case::new(format!("encoding {encoding:?}"), bytes, refused));
    }
    for kind in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/json; charset=utf-16",
        "application/zip",
        "*/*",
        "json",
        "\u{e9}",
    ] {
        let headers = format!("Content-Type: {kind}\r\n");
        let bytes = send(key, "POST /functions/", &headers, good.as_bytes());
        cases.push(Case::new(format!("kind {kind:?}"), bytes, refused));
    }
    cases
}

/// Good JSON with a field that is not. `state` is where the server keeps its own.
pub(crate) fn fields(key: &str, state: &str) -> Vec<Case> {
    let long = "x".repeat(65);
    let many: Value = (0..51)
        .map(|n| (format!("t{n}"), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut cases = Vec::new();
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("a/b")),
        ("name", json!("../victim")),
        ("name", json!("..")),
        ("name", json!("a b")),
        ("name", json!("é")),
        ("name", json!("a\u{0}b")),
        ("name", json!("a\r\nX: y")),
        ("name", json!("%76ictim")),
        ("name", json!(long)),
        ("name", json!("execute")),
        ("name", json!("0190b4a2-7c1e-7000-8000-000000000000")),
        ("name", json!(5)),
        ("name", json!(null)),
        ("name", json!(["victim"])),
        ("name", json!({"$ne": ""})),
        ("name", json!("<script>alert(1)</script>")),
        ("language", json!("../../etc")),
        ("language", json!("")),
        ("language", json!("PYTHON; rm -rf /")),
        ("language", json!(true)),
        ("handler", json!("../x.handler")),
        ("handler", json!("/etc/passwd.handler")),
        ("handler", json!("a.b\u{0}")),
        ("handler", json!("a b.c")),
        ("handler", json!("")),
        ("handler", json!("x".repeat(1000))),
        ("handler", json!(".handler")),
        ("handler", json!("..handler")),
        ("timeout", json!(0)),
        ("timeout", json!(-1)),
        ("timeout", json!(3.5)),
        ("timeout", json!("3")),
        ("timeout", json!(1e30)),
        ("timeout", json!(u64::MAX)),
        ("memory", json!(127)),
        ("memory", json!(10_241)),
        ("memory", json!(-128)),
        ("memory", json!(u64::MAX)),
        ("memory", json!([])),
        ("code", json!("")),
        ("code", json!(5)),
        ("code", json!({})),
        ("code", json!({"inline": 5})),
        ("code", json!({"inline": "a", "zip": "b"})),
        ("code", json!({"zip": "no base64!"})),
        ("code", json!({"zip": "bm8gemlw"})),
        ("code", json!("UEsDBAoAAAAAAA==")),
        ("code", json!({"zip": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="})),
        ("code", json!({"url": "http://127.0.0.1:22/"})),
        ("environment", json!({"A=B": "x"})),
        ("environment", json!({"": "x"})),
        ("environment", json!({"LD PRELOAD": "x"})),
        ("environment", json!({"AWS_REGION": "x"})),
        ("environment", json!({"HEARTH_STATE_DIR": "x"})),
        ("environment", json!({"A": "\u{0}"})),
        ("environment", json!({"A": "x".repeat(5000)})),
        ("environment", json!({"A": 1})),
        ("environment", json!([["A", "x"]])),
        ("tags", many),
        ("tags", json!({"": "x"})),
        ("tags", json!({"aws:x": "y"})),
        ("tags", json!({"a": "\u{7}"})),
        ("tags", json!({"a": {"b": "c"}})),
        ("description", json!("x".repeat(257))),
        ("description", json!({})),
        ("route", json!("x")),
        ("route", json!("/functions/victim")),
        ("route", json!("//h/x")),
        ("route", json!("/a/../b")),
        ("route", json!("/a//b")),
        ("route", json!("/a?b=c")),
        ("route", json!("/a#b")),
        ("route", json!("/a%2fb")),
        ("route", json!("/a b")),
        ("route", json!("/a\r\nb")),
        ("route", json!("/é")),
        ("route", json!(format!("/{}", "x".repeat(600)))),
        ("route", json!("/healthz")),
        ("route", json!("/2015-03-31/functions")),
        ("max_concurrency", json!(-1)),
        ("max_concurrency", json!(u64::MAX)),
        ("max_concurrency", json!("1")),
        ("network", json!("host")),
        ("network", json!("container:x")),
        ("network", json!(null)),
        ("revision", json!(1)),
        ("id", json!("x")),
        ("url", json!("x")),
        ("__proto__", json!({"admin": true})),
        ("privileged", json!(true)),
    ] {
        let bytes = send(
            key,
            "POST /functions/",
            "",
            with(field, value.clone()).as_bytes(),
        );
        let mut shown = value.to_string();
        shown.truncate(
            shown
                .char_indices()
                .nth(40)
                .map_or(shown.len(), |(at, _)| at),
        );
        cases.push(Case::new(format!("{field}: {shown}"), bytes, BAD));
    }
    let own = [
        state.to_owned(),
        format!("{state}/admin.key"),
        format!("{state}/../state/admin.key"),
    ];
    let paths = [
        "",
        "code",
        "../../etc/passwd",
        "/no/such/path",
        "/proc/self/environ",
        "/proc/self/root/etc",
        "/proc/1/root",
        "/proc",
        "/sys",
        "/dev/zero",
        "/dev/sda",
        "/etc/passwd\u{0}.zip",
    ];
    for path in paths.into_iter().chain(own.iter().map(String::as_str)) {
        let body =
            json!({"name": "made", "language": "python", "handler": "a.b", "code_path": path});
        let bytes = send(key, "POST /functions/", "", body.to_string().as_bytes());
        cases.push(Case::new(format!("code_path: {path:?}"), bytes, BAD));
    }
    for (value, want) in [
        ("\"0\"", Want::Status(&[412])),
        ("W/\"1\"", Want::Status(&[400, 412])),
        ("\u{e9}", Want::Status(&[400, 412])),
        ("8, 9", Want::Status(&[400, 412])),
        ("99999999999999999999", Want::Status(&[400, 412])),
    ] {
        let headers = format!("If-Match: {value}\r\n");
        let bytes = send(key, "PUT /functions/victim", &headers, br#"{"timeout": 9}"#);
        cases.push(Case::new(format!("if-match {value:?}"), bytes, want));
    }
    cases
}
