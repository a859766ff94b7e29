//! Spans of calls, as OTLP's messages. Names of attributes are OpenTelemetry's where it has one; Hearth's own begin with `hearth.`.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use crate::domain::fault::Blame;
use crate::domain::invocation::StartKind;
use crate::domain::trace::{Face, SpanId};
use crate::telemetry::traces::{Call, Options};

/// Of a span's flags: bits from the W3C's, and that it is known whether the parent is in another process.
const SAMPLED: u32 = 1;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The message with the spans of these calls, and how many there are.
pub(super) fn message(calls: &[Call], options: &Options) -> (Bytes, usize) {
    let spans: Vec<Span> = calls.iter().flat_map(of).collect();
    let count = spans.len();
    let version = env!("CARGO_PKG_VERSION");
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", options.service.as_str()),
                    text("service.version", version),
                    text("service.instance.id", options.instance.as_str()),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "hearth".into(),
                    version: version.into(),
                    ..InstrumentationScope::default()
                }),
                spans,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    };
    (request.encode_to_vec().into(), count)
}

/// Spans a call has.
pub(super) fn count(call: &Call) -> usize {
    1 + phases(call).len()
}

/// The phases a call went through, in order: name, span, how long. One that took no time, like the start of a worker that was there, was none.
fn phases(call: &Call) -> Vec<(&'static str, SpanId, Duration)> {
    if call.accepted {
        return Vec::new();
    }
    let of = &call.phases;
    let before = [("queue", of.queue), ("start", of.start), ("init", of.init)];
    let mut phases = Vec::with_capacity(before.len() + 1);
    for (number, (name, took)) in (0..).zip(before) {
        if !took.is_zero() {
            phases.push((name, call.trace.span.part(number), took));
        }
    }
    if call.start.is_some() {
        phases.push(("run", call.trace.run, of.run));
    }
    phases
}

/// The whole call, and its phases below it. What is known are their lengths: the last ended with the call, and each began where the one
/// before it ended.
fn of(call: &Call) -> Vec<Span> {
    let end = nanos(call.ended_at);
    let begin = end.saturating_sub(length(call.took));
    let phases = phases(call);
    let all: Duration = phases.iter().map(|(_, _, took)| *took).sum();
    let mut spans = vec![whole(call, begin, end)];
    // They fit, but for what two clocks differ by.
    let mut at = end.saturating_sub(length(all)).max(begin);
    for (name, id, took) in phases {
        let until = (at + length(took)).min(end);
        let mut span = Span {
            trace_id: call.trace.id.to_bytes().into(),
            span_id: id.to_bytes().into(),
            parent_span_id: call.trace.span.to_bytes().into(),
            trace_state: call.trace.state.clone(),
            flags: SAMPLED | REMOTE_KNOWN,
            name: name.into(),
            kind: SpanKind::Internal as i32,
            start_time_unix_nano: at,
            end_time_unix_nano: until,
            attributes: started(call, name),
            ..Span::default()
        };
        // Whatever went wrong did so in the last of them.
        if until == end {
            span.status = status(call);
        }
        spans.push(span);
        at = until;
    }
    spans
}

fn whole(call: &Call, begin: u64, end: u64) -> Span {
    let function = &call.function;
    let trace = &call.trace;
    let (kind, trigger) = match (call.accepted, trace.face) {
        (true, _) => (SpanKind::Producer, "http"),
        (false, Face::Event | Face::Source) => (SpanKind::Consumer, "pubsub"),
        (false, _) => (SpanKind::Server, "http"),
    };
    let name = match call.accepted {
        true => format!("accept {}", function.name),
        false => function.name.to_string(),
    };
    let mut attributes = vec![
        text("faas.name", function.name.as_str()),
        text("faas.version", call.version.to_string()),
        text("faas.invocation_id", call.request_id.to_string()),
        text("faas.trigger", trigger),
        number("faas.max_memory", function.memory.bytes()),
        text("hearth.function.id", function.id.as_str()),
        text("hearth.runtime", function.runtime.as_str()),
        text("hearth.face", trace.face.as_str()),
    ];
    if let Some(start) = call.start {
        let cold = start != StartKind::Warm;
        attributes.push(pair("faas.coldstart", Value::BoolValue(cold)));
        attributes.push(text("hearth.start", start.as_str()));
    }
    if let Some(cause) = call.cause {
        attributes.push(text("hearth.start.cause", cause));
    }
    if trace.attempt > 0 {
        attributes.push(number("hearth.attempt", trace.attempt.into()));
    }
    if let Some(fault) = &call.fault {
        attributes.push(text("error.type", fault.code));
        attributes.push(text("hearth.error.blame", fault.blame.as_str()));
    }
    let remote = trace.parent.map_or(0, |_| REMOTE);
    Span {
        trace_id: trace.id.to_bytes().into(),
        span_id: trace.span.to_bytes().into(),
        parent_span_id: trace
            .parent
            .map_or_else(Vec::new, |id| id.to_bytes().into()),
        trace_state: trace.state.clone(),
        flags: SAMPLED | REMOTE_KNOWN | remote,
        name,
        kind: kind as i32,
        start_time_unix_nano: begin,
        end_time_unix_nano: end,
        attributes,
        status: status(call),
        ..Span::default()
    }
}

fn started(call: &Call, phase: &str) -> Vec<KeyValue> {
    let of = |cause| vec![text("hearth.start.cause", cause)];
    match phase {
        "start" | "init" => call.cause.map_or_else(Vec::new, of),
        _ => Vec::new(),
    }
}

/// What the caller did wrong is no error of the call's: so OpenTelemetry has it for servers.
fn status(call: &Call) -> Option<Status> {
    let fault = call.fault.as_ref()?;
    (fault.blame != Blame::Client).then(|| Status {
        message: fault.message.clone(),
        code: StatusCode::Error as i32,
    })
}

fn nanos(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

fn length(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
