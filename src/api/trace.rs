//! What a request says of the trace it is part of. Called by every face for every call; looks at no header when nothing is traced.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use crate::api::error::to_json;
use crate::clock;
use crate::domain::trace::{Face, Parent, SpanId, Trace, TraceId};
use crate::scheduler::Scheduler;

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
pub const AMZN_TRACE_ID: &str = "x-amzn-trace-id";
/// A longer one is no id.
const AMZN_MAX: usize = 1024;

/// A call's place in a trace: its caller's if that is said in a way that can be read, or one of its own.
pub fn begin(scheduler: &Scheduler, headers: &HeaderMap, face: Face) -> Option<Box<Trace>> {
    let tracer = scheduler.traces()?;
    Some(tracer.begin(parent(headers), face, 0))
}

/// What AWS has for every call, traced or not: the id its caller sent, or one that begins with it.
pub fn amzn_id(headers: &HeaderMap) -> Cow<'_, str> {
    let given = headers.get(AMZN_TRACE_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| id.len() <= AMZN_MAX);
    given.map_or_else(|| fresh(clock::wall()).into(), Cow::Borrowed)
}

/// The extra context of a call with such an id in it.
pub fn in_context(context: &[u8], id: &str) -> Bytes {
    let mut told: Map<String, Value> = serde_json::from_slice(context).unwrap_or_default();
    told.insert("trace_id".into(), id.into());
    to_json(&told)
}

fn fresh(time: jiff::Timestamp) -> String {
    let random = TraceId::generate().to_string();
    let (seconds, random) = (time.as_second(), &random[8..]);
    let parent = SpanId::generate();
    format!("Root=1-{seconds:08x}-{random};Parent={parent};Sampled=0")
}

fn parent(headers: &HeaderMap) -> Option<Parent> {
    let w3c = || Parent::of_w3c(only(headers, TRACEPARENT)?, &joined(headers, TRACESTATE));
    w3c().or_else(|| Parent::of_aws(only(headers, AMZN_TRACE_ID)?))
}

/// Of two nobody knows which is meant.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().filter(|_| values.next().is_none())?;
    first.to_str().ok().map(str::trim)
}

/// A list that may come in several headers.
fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Cow<'a, str> {
    let values = headers.get_all(name).iter();
    let mut texts = values.map(|value| value.to_str().unwrap_or_default());
    let first = Cow::Borrowed(texts.next().unwrap_or_default());
    texts.fold(first, |joined, next| format!("{joined},{next}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const AMZN: &str = "Root=1-00000000-000000000000000000000001;Sampled=0";

    fn read(headers: &[(&'static str, &'static str)]) -> Option<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let parent = parent(&map)?;
        Some((parent.trace.to_string(), parent.state))
    }

    #[test]
    fn every_call_has_an_id_as_aws_writes_it() {
        let mut map = HeaderMap::new();
        let fresh = amzn_id(&map).into_owned();
        assert!(Parent::of_aws(&fresh).is_some(), "{fresh}");
        assert_ne!(amzn_id(&map), fresh);
        let at = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert!(super::fresh(at).starts_with("Root=1-695735a5-"));
        map.insert(AMZN_TRACE_ID, "Root=x".parse().expect("a value"));
        assert_eq!(amzn_id(&map), "Root=x");
        map.insert(AMZN_TRACE_ID, "x".repeat(1025).parse().expect("a value"));
        assert_ne!(amzn_id(&map), "x".repeat(1025));
        assert_eq!(in_context(b"", "a"), r#"{"trace_id":"a"}"#);
        let arn = br#"{"invoked_function_arn":"arn"}"#;
        let both = r#"{"invoked_function_arn":"arn","trace_id":"a"}"#;
        assert_eq!(in_context(arn, "a"), both);
    }

    #[test]
    fn the_headers_of_the_w3c_come_first() {
        let w3c = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        let aws = "00000000000000000000000000000001".to_owned();
        let none = String::new();
        assert_eq!(read(&[]), None);
        assert_eq!(
            read(&[(TRACEPARENT, PARENT), (AMZN_TRACE_ID, AMZN)]),
            Some((w3c.clone(), none.clone()))
        );
        assert_eq!(
            read(&[(TRACEPARENT, "no"), (AMZN_TRACE_ID, AMZN)]),
            Some((aws, none))
        );
        assert_eq!(read(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]), None);
        let states = [
            (TRACEPARENT, PARENT),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=2"),
        ];
        assert_eq!(read(&states), Some((w3c, "a=1,b=2".into())));
        assert_eq!(read(&[(TRACESTATE, "a=1")]), None);
    }
}
