//! What a function answered, as HTTP: its status, headers and cookies if it gave some, as function URLs take them, else the value as
//! JSON without the blanks between its parts, as AWS sends it. Pure. A function's word never reaches the wire unchecked: what would not be a header is refused whole, and what concerns
//! only the connection is left out.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::error::JSON;
use crate::api::route::HOP_BY_HOP;
use crate::domain::limits::ANSWER_MAX;

/// All headers of an answer together, each counted with what it costs whoever keeps it: clients read no more.
const HEADERS_MAX: usize = 64 * 1024;
const HEADER_COST: usize = 32;
/// Statuses an answer may have. Those below are steps on the way to one.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// Why an answer is none. For the log: whoever called learns only that it failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("statusCode must be a number from 200 to 599, is {0}")]
    Status(String),
    #[error("{0} must be {1}")]
    Field(&'static str, &'static str),
    #[error("{0:?} is not a header's name")]
    Name(String),
    #[error("the header {0:?} has a value no header can have")]
    Value(String),
    #[error("the headers have more than {HEADERS_MAX} bytes together")]
    TooLarge,
    #[error("a stream that is to be whole has more than {ANSWER_MAX} bytes")]
    TooLong,
    #[error("the body is not base64, but isBase64Encoded says so")]
    Base64,
    #[error("the prelude of the stream is not JSON, or does not end")]
    Prelude,
}

/// Everything before the body.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// A structured answer, each field as it was written. A bare one has no `statusCode`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structured<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    multi_value_headers: Option<&'a RawValue>,
    cookies: Option<&'a RawValue>,
    body: Option<&'a RawValue>,
    is_base64_encoded: Option<&'a RawValue>,
}

/// A whole answer of JSON.
pub fn whole(json: Bytes) -> Result<(Head, Bytes), Error> {
    match json.trim_ascii_start().first() {
        // A text is meant as it reads, without its quotes.
        Some(b'"') => {
            let body = serde_json::from_slice::<String>(&json).map_or(json, Bytes::from);
            return Ok((Head::bare(), body));
        }
        Some(b'{') => {}
        _ => return Ok((Head::bare(), compact(json))),
    }
    let Ok(answer) = serde_json::from_slice::<Structured<'_>>(&json) else {
        return Ok((Head::bare(), compact(json)));
    };
    let Some(status) = answer.status_code else {
        return Ok((Head::bare(), compact(json)));
    };
    let head = head(&answer, status_of(status)?)?;
    let body = body(&answer)?;
    Ok((head, body))
}

/// The JSON in front of a streaming answer's body.
pub fn prelude(json: &[u8]) -> Result<Head, Error> {
    let answer: Structured<'_> = serde_json::from_slice(json).map_err(|_error| Error::Prelude)?;
    let status = answer.status_code.map_or(Ok(StatusCode::OK), status_of)?;
    let mut head = head(&answer, status)?;
    if answer.headers.is_none() && answer.multi_value_headers.is_none() {
        head.headers.insert(CONTENT_TYPE, super::OCTETS);
    }
    Ok(head)
}

impl Head {
    fn bare() -> Self {
        Self::of(StatusCode::OK, JSON)
    }

    pub fn of(status: StatusCode, content_type: HeaderValue) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Self { status, headers }
    }

    /// Whether an answer of this status has a body.
    pub fn has_body(&self) -> bool {
        !matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
        )
    }
}

/// JSON without what is blank in it, otherwise as it was written. What is none stays as it is.
fn compact(json: Bytes) -> Bytes {
    let kept = || {
        let (mut in_text, mut escaped) = (false, false);
        json.iter().copied().filter(move |byte| {
            let was_in_text = in_text;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_text,
                b'"' => in_text = !in_text,
                _ => {}
            }
            was_in_text || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
        })
    };
    let size = kept().count();
    if size == json.len() || serde_json::from_slice::<IgnoredAny>(&json).is_err() {
        return json;
    }
    let mut compact = Vec::with_capacity(size);
    compact.extend(kept());
    compact.into()
}

fn status_of(given: &RawValue) -> Result<StatusCode, Error> {
    let text = given.get();
    let number = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    number
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|status| STATUSES.contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| Error::Status(text.chars().take(40).collect()))
}

fn head(answer: &Structured<'_>, status: StatusCode) -> Result<Head, Error> {
    let mut headers = Headers::default();
    let map = |field, given: Option<&RawValue>| match given {
        None => Ok(Map::new()),
        Some(given) => serde_json::from_str::<Map<String, Value>>(given.get())
            .map_err(|_error| Error::Field(field, "a map")),
    };
    let single = map("headers", answer.headers)?;
    for (name, value) in map("multiValueHeaders", answer.multi_value_headers)? {
        headers.add(&name, &value)?;
    }
    for (name, value) in single {
        headers.add(&name, &value)?;
    }
    if let Some(cookies) = answer.cookies {
        let cookies: Vec<String> = serde_json::from_str(cookies.get())
            .map_err(|_error| Error::Field("cookies", "a list of texts"))?;
        for cookie in cookies {
            headers.append(SET_COOKIE, &cookie)?;
        }
    }
    let mut head = Head {
        status,
        headers: headers.map,
    };
    if head.has_body() && !head.headers.contains_key(CONTENT_TYPE) {
        head.headers.insert(CONTENT_TYPE, JSON);
    }
    Ok(head)
}

#[derive(Default)]
struct Headers {
    map: HeaderMap,
    size: usize,
}

impl Headers {
    /// A header as people write it: a text, a number, or several in a list; null is none.
    fn add(&mut self, name: &str, value: &Value) -> Result<(), Error> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_error| Error::Name(name.chars().take(80).collect()))?;
        if HOP_BY_HOP.contains(&name.as_str()) || name == CONTENT_LENGTH {
            return Ok(());
        }
        match value {
            Value::Null => Ok(()),
            Value::String(text) => self.append(name, text),
            Value::Number(_) | Value::Bool(_) => self.append(name, &value.to_string()),
            Value::Array(several) if several.iter().all(|v| !v.is_array()) => several
                .iter()
                .try_for_each(|value| self.add(name.as_str(), value)),
            Value::Array(_) | Value::Object(_) => Err(Error::Value(name.to_string())),
        }
    }

    fn append(&mut self, name: HeaderName, text: &str) -> Result<(), Error> {
        let value = HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_error| Error::Value(name.to_string()))?;
        self.size += name.as_str().len() + text.len() + HEADER_COST;
        if self.size > HEADERS_MAX {
            return Err(Error::TooLarge);
        }
        // The same in both maps is the same header twice.
        if self.map.get_all(&name).iter().any(|known| known == value) && name != SET_COOKIE {
            return Ok(());
        }
        self.map.append(name, value);
        Ok(())
    }
}

fn body(answer: &Structured<'_>) -> Result<Bytes, Error> {
    let encoded = match answer.is_base64_encoded.map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::Field("isBase64Encoded", "true or false")),
    };
    let Some(body) = answer.body else {
        return Ok(Bytes::new());
    };
    let text = match serde_json::from_str::<String>(body.get()) {
        Ok(text) => text,
        Err(_) if encoded => return Err(Error::Base64),
        // Anything but a text is its JSON.
        Err(_) => return Ok(compact(Bytes::copy_from_slice(body.get().as_bytes()))),
    };
    match encoded {
        true => BASE64_STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|_error| Error::Base64),
        false => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn answer(value: &Value) -> Result<(Head, Bytes), Error> {
        whole(value.to_string().into())
    }

    fn headers(value: &Value) -> Vec<(String, String)> {
        let (head, _) = answer(value).expect("an answer");
        let text = |v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let all = head.headers.iter();
        all.map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    #[test]
    fn a_bare_value_is_its_json_and_a_text_is_itself() {
        let cases = [
            (r#"{"a": 1,  "body": "x"}"#, r#"{"a":1,"body":"x"}"#),
            (r#"{"statusCode": null}"#, r#"{"statusCode":null}"#),
            (
                r#"{"headers": [1], "cookies": 7}"#,
                r#"{"headers":[1],"cookies":7}"#,
            ),
            (
                " {\"b b\" :\t1.50 ,\r\n\"a\": \" \\\" \\\\\" , \"č\":[ ] }\n",
                "{\"b b\":1.50,\"a\":\" \\\" \\\\\",\"č\":[]}",
            ),
            ("[ 1, 2", "[ 1, 2"),
            (" 1 2 ", " 1 2 "),
            ("[1,\"a\"]", "[1,\"a\"]"),
            (" \"say \\\"č\\\"\"", "say \"č\""),
            ("null", "null"),
            ("7.5", "7.5"),
            ("{not json", "{not json"),
            ("", ""),
        ];
        for (json, body) in cases {
            let got = whole(Bytes::copy_from_slice(json.as_bytes())).expect(json);
            assert_eq!(got, (Head::bare(), Bytes::from(body)), "{json}");
        }
    }

    #[test]
    fn a_structured_answer_has_a_status_headers_cookies_and_a_body() {
        let (head, body) = answer(&json!({
            "statusCode": 201, "body": "<p>č</p>", "cookies": ["a=1; Path=/", "b=2"],
            "headers": {"Content-Type": "text/html", "X-Number": 7, "x-none": null, "x-two": ["a", "b"], "x-utf8": "č"},
            "multiValueHeaders": {"x-more": ["c", "d"], "content-type": ["text/html"]},
        }))
        .expect("an answer");
        assert_eq!(head.status, 201);
        assert_eq!(body, "<p>č</p>");
        let all = |name: &str| -> Vec<_> {
            head.headers
                .get_all(name)
                .iter()
                .map(|v| v.as_bytes())
                .collect()
        };
        assert_eq!(all("set-cookie"), [&b"a=1; Path=/"[..], b"b=2"]);
        assert_eq!(all("content-type"), [b"text/html"]);
        assert_eq!(all("x-number"), [b"7"]);
        assert_eq!(all("x-two"), [b"a", b"b"]);
        assert_eq!(all("x-more"), [b"c", b"d"]);
        assert_eq!(all("x-utf8"), ["č".as_bytes()]);
        assert!(all("x-none").is_empty());
    }

    #[test]
    fn a_body_is_text_bytes_or_json() {
        let body = |value: Value| answer(&value).map(|(_, body)| body);
        assert_eq!(
            body(json!({"statusCode": 200, "body": "AP8=", "isBase64Encoded": true})),
            Ok(Bytes::from_static(&[0, 255]))
        );
        assert_eq!(
            body(json!({"statusCode": 200, "body": {"a": [1]}})),
            Ok(Bytes::from("{\"a\":[1]}"))
        );
        let spaced = whole(Bytes::from_static(
            br#"{"statusCode": 200, "body": {"a": [1, 2]}}"#,
        ));
        assert_eq!(spaced.map(|(_, body)| body), Ok("{\"a\":[1,2]}".into()));
        assert_eq!(body(json!({"statusCode": "204"})), Ok(Bytes::new()));
        assert_eq!(
            body(json!({"statusCode": 200, "body": null})),
            Ok(Bytes::new())
        );
        for bad in [json!("A"), json!("č"), json!({})] {
            let bad = json!({"statusCode": 200, "body": bad, "isBase64Encoded": true});
            assert_eq!(body(bad), Err(Error::Base64));
        }
    }

    #[test]
    fn no_answer_is_made_of_what_http_cannot_say() {
        let with = |field: &str, value: Value| {
            let mut whole = json!({"statusCode": 200, "body": "x"});
            whole[field] = value;
            answer(&whole).map(drop)
        };
        for status in [
            json!(199),
            json!(101),
            json!(600),
            json!(0),
            json!(-1),
            json!(200.5),
            json!("ok"),
            json!({}),
            json!(true),
            json!("2 0"),
        ] {
            assert!(
                matches!(with("statusCode", status.clone()), Err(Error::Status(_))),
                "{status}"
            );
        }
        for name in ["", "a b", "a:b", "a\r\nset-cookie", "č", "a\n"] {
            assert!(
                matches!(with("headers", json!({name: "x"})), Err(Error::Name(_))),
                "{name:?}"
            );
        }
        for value in [
            json!("x\r\nset-cookie: a=1"),
            json!("x\n"),
            json!("\u{0}"),
            json!({}),
            json!([["x"]]),
        ] {
            assert!(
                matches!(with("headers", json!({"x": value})), Err(Error::Value(_))),
                "{value}"
            );
        }
        assert!(matches!(
            with("cookies", json!(["a=1\r\nx: y"])),
            Err(Error::Value(_))
        ));
        assert_eq!(
            with("cookies", json!("a=1")),
            Err(Error::Field("cookies", "a list of texts"))
        );
        assert_eq!(
            with("headers", json!("a: b")),
            Err(Error::Field("headers", "a map"))
        );
        assert_eq!(
            with("isBase64Encoded", json!("yes")),
            Err(Error::Field("isBase64Encoded", "true or false"))
        );
        assert_eq!(
            with("headers", json!({"x": "y".repeat(HEADERS_MAX)})),
            Err(Error::TooLarge)
        );
        // More headers than a map can hold are not tried.
        let many: Vec<_> = (0..70_000).map(|n| n.to_string()).collect();
        assert_eq!(with("cookies", json!(many)), Err(Error::TooLarge));
        assert_eq!(with("headers", json!({"x": many})), Err(Error::TooLarge));
    }

    #[test]
    fn what_concerns_the_connection_is_left_out() {
        let mut given: Map<String, Value> = HOP_BY_HOP
            .iter()
            .map(|n| ((*n).into(), json!("x")))
            .collect();
        given.insert("Content-Length".into(), json!(7));
        given.insert("Transfer-Encoding".into(), json!("chunked"));
        let got = headers(&json!({"statusCode": 200, "headers": given}));
        assert_eq!(
            got,
            [("content-type".to_owned(), "application/json".to_owned())]
        );
    }

    #[test]
    fn an_answer_without_a_body_has_no_type() {
        for status in [204, 205, 304] {
            assert_eq!(headers(&json!({"statusCode": status})), []);
        }
    }

    #[test]
    fn a_prelude_may_leave_out_everything() {
        let octets = Head::of(StatusCode::OK, super::super::OCTETS);
        assert_eq!(prelude(b"{}"), Ok(octets));
        let full = prelude(br#"{"statusCode": 404, "headers": {"x": "y"}, "cookies": ["a=1"]}"#);
        let full = full.expect("a head");
        assert_eq!(full.status, 404);
        assert_eq!(full.headers["x"], "y");
        assert_eq!(full.headers["set-cookie"], "a=1");
        for bad in [&b""[..], b"[]", b"{", b"{}x", b"\xff"] {
            assert_eq!(prelude(bad), Err(Error::Prelude), "{bad:?}");
        }
    }

    proptest! {
        /// It is the same value, and the shortest way to write it but for its own words.
        #[test]
        fn compact_json_is_the_same_value(texts in prop::collection::vec("[ \\t\\n\"\\\\ač]{0,6}", 0..6)) {
            let value = json!({"all": texts, "one": {"two": texts.first()}});
            let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
            prop_assert_eq!(compact(pretty.into()), value.to_string());
        }

        /// Whatever a function says, no header says two things, and nothing panics.
        #[test]
        fn nothing_a_function_says_becomes_another_header(name in "\\PC{0,4}|[a-z:\\r\\n ]{0,6}", value in "[a-z\\r\\n\\x00: č]{0,8}") {
            let given = json!({"statusCode": 200, "headers": {name: value.clone()}, "cookies": [value]});
            if let Ok((head, _)) = answer(&given) {
                prop_assert!(head.headers.len() <= 3);
                for value in head.headers.values() {
                    prop_assert!(!value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
                }
            }
        }
    }
}
