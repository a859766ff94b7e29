//! What is sent of calls, read back from the messages; and what happens when nobody takes them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;

use super::*;
use crate::domain::environment::Environment;
use crate::domain::function::{Code, Network, Origin};
use crate::domain::id::{FunctionId, FunctionName, RuntimeId};
use crate::domain::limits::Mebibytes;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn options() -> Options {
    Options {
        service: "hearth".into(),
        instance: "here".into(),
        ratio: 1.0,
        queue: 3,
        retry_for: Duration::from_secs(60),
        flush: Duration::from_secs(10),
    }
}

/// A collector that remembers what it took, and answers as it is told: the last answer for good.
#[derive(Clone, Default)]
struct Memory {
    took: Arc<Mutex<Vec<Span>>>,
    asked: Arc<Mutex<usize>>,
}

impl Memory {
    fn collector(&self, answers: Vec<Result<Bytes, Refusal>>) -> Collector {
        let this = self.clone();
        Collector::new(move |message| {
            let asked = {
                let mut asked = this.asked.lock();
                *asked += 1;
                *asked
            };
            let answer = answers[(asked - 1).min(answers.len() - 1)].clone();
            if answer.is_ok() {
                let request = ExportTraceServiceRequest::decode(message).expect("is a message");
                let spans = request.resource_spans.into_iter();
                let scopes = spans.flat_map(|resource| resource.scope_spans);
                this.took
                    .lock()
                    .extend(scopes.flat_map(|scope| scope.spans));
            }
            Box::pin(async { answer })
        })
    }
}

fn call(trace: Box<Trace>) -> Call {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let function = Function {
        id: FunctionId::generate(),
        name: FunctionName::parse("traced").expect("a name"),
        revision: 1,
        runtime: RuntimeId::new("fake"),
        handler: "app.handler".into(),
        timeout_seconds: 3,
        memory: Mebibytes(256),
        code: Code {
            sha256: String::new(),
            size: 0,
            unpacked_size: None,
            origin: Origin::Inline,
        },
        layers: Vec::new(),
        environment: Environment::default(),
        description: String::new(),
        tags: BTreeMap::new(),
        route: None,
        max_concurrency: None,
        reserved_concurrency: None,
        asynchronous: Default::default(),
        network: Network::None,
        aws: Default::default(),
        created_at: at,
        updated_at: at,
    };
    Call {
        trace,
        function: Arc::new(function),
        version: VersionId::Number(3),
        request_id: RequestId::generate(),
        ended_at: "2026-01-02T03:04:05.5Z".parse().expect("a time"),
        took: Duration::from_millis(100),
        phases: Phases {
            queue: Duration::from_millis(10),
            start: Duration::from_millis(30),
            init: Duration::from_millis(20),
            run: Duration::from_millis(35),
        },
        start: Some(StartKind::Cold),
        cause: Some("first_call"),
        fault: None,
        accepted: false,
    }
}

fn refusal(later: Option<Duration>) -> Result<Bytes, Refusal> {
    Err(Refusal {
        message: "no".into(),
        later,
    })
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &'_ opentelemetry_proto::tonic::common::v1::KeyValue| {
        let value = pair.value.as_ref()?.value.as_ref()?;
        Some(text(value))
    };
    let of = span.attributes.iter();
    of.filter_map(|given| Some((given.key.as_str(), pair(given)?)))
        .collect()
}

/// Sends these, and returns what arrived.
async fn sent(calls: impl IntoIterator<Item = fn(&Tracer)>) -> Vec<Span> {
    let memory = Memory::default();
    let (tracer, exporter) = Tracer::new(options(), memory.collector(vec![Ok(Bytes::new())]));
    for call in calls {
        call(&tracer);
    }
    drop(tracer);
    exporter.run(CancellationToken::new()).await;
    memory.took.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn each_phase_is_a_span_below_the_call_and_they_follow_each_other() {
    let one: fn(&Tracer) = |tracer| {
        let parent = Parent::of_w3c(PARENT, "a=1");
        tracer.ended(call(tracer.begin(parent, Face::Execute, 0)));
    };
    let spans = sent([one]).await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["traced", "queue", "start", "init", "run"]);
    let (whole, phases) = spans.split_first().expect("there are some");
    assert_eq!(hex::encode(&whole.parent_span_id), "00f067aa0ba902b7");
    for span in &spans {
        assert_eq!(
            hex::encode(&span.trace_id),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(span.trace_state, "a=1");
    }
    let end = whole.end_time_unix_nano;
    assert_eq!(end, 1_767_323_045_500_000_000);
    assert_eq!(end - whole.start_time_unix_nano, 100_000_000);
    // Five milliseconds were spent before.
    let mut at = whole.start_time_unix_nano + 5_000_000;
    for (span, ms) in phases.iter().zip([10, 30, 20, 35]) {
        assert_eq!(span.parent_span_id, whole.span_id);
        assert_eq!(span.start_time_unix_nano, at);
        at += ms * 1_000_000;
        assert_eq!(span.end_time_unix_nano, at);
        assert_eq!(span.kind, SpanKind::Internal as i32);
    }
    assert_eq!(at, end);
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(whole.kind, SpanKind::Server as i32);
    let said = attributes(whole);
    for (key, value) in [
        ("faas.name", "traced"),
        ("faas.version", "3"),
        ("faas.coldstart", "true"),
        ("faas.trigger", "http"),
        ("faas.max_memory", "268435456"),
        ("hearth.start", "cold"),
        ("hearth.start.cause", "first_call"),
        ("hearth.face", "execute"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!said.contains_key("error.type") && whole.status.is_none());
    assert_eq!(attributes(&phases[1])["hearth.start.cause"], "first_call");
    assert!(attributes(&phases[3]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_warm_call_that_fails_has_one_phase_and_says_whose_fault_it_was() {
    let failed: fn(&Tracer) = |tracer| {
        let trace = tracer.begin(None, Face::Event, 2);
        tracer.ended(Call {
            phases: Phases {
                run: Duration::from_millis(1),
                ..Phases::default()
            },
            start: Some(StartKind::Warm),
            cause: None,
            fault: Some(Failure::of(&Fault::Timeout(Duration::from_secs(1)))),
            ..call(trace)
        });
    };
    let accepted: fn(&Tracer) = |tracer| {
        let trace = tracer.begin(None, Face::Lambda, 0);
        tracer.ended(Call {
            accepted: true,
            start: None,
            ..call(trace)
        });
    };
    let spans = sent([failed, accepted]).await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["traced", "run", "accept traced"]);
    assert!(spans[0].parent_span_id.is_empty());
    assert_ne!(spans[0].trace_id, spans[2].trace_id);
    let error = StatusCode::Error as i32;
    for span in &spans[..2] {
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(error));
    }
    let said = attributes(&spans[0]);
    assert_eq!(said["error.type"], "timeout");
    assert_eq!(said["hearth.error.blame"], "function");
    assert_eq!(said["hearth.attempt"], "2");
    let kinds = [0, 2].map(|at| spans[at].kind);
    assert_eq!(
        kinds,
        [SpanKind::Consumer as i32, SpanKind::Producer as i32]
    );
}

#[tokio::test(start_paused = true)]
async fn a_parent_decides_and_the_ratio_decides_for_the_rest() {
    let (tracer, _exporter) = Tracer::new(
        Options {
            ratio: 0.0,
            ..options()
        },
        Memory::default().collector(vec![Ok(Bytes::new())]),
    );
    let sampled = |parent: Option<Parent>| tracer.begin(parent, Face::Route, 0).sampled;
    assert!(!sampled(None));
    assert!(sampled(Parent::of_w3c(PARENT, "")));
    assert!(!sampled(Parent::of_w3c(&PARENT.replace("-01", "-00"), "")));
    let undecided = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
    assert!(!sampled(Parent::of_aws(undecided)));
    let (all, _exporter) = Tracer::new(options(), Memory::default().collector(vec![]));
    assert!(all.begin(Parent::of_aws(undecided), Face::Route, 0).sampled);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_a_collector_that_comes_back_gets_the_rest() {
    let memory = Memory::default();
    let down = refusal(Some(Duration::ZERO));
    let answers = vec![down.clone(), down.clone(), down, Ok(Bytes::new())];
    let (tracer, exporter) = Tracer::new(options(), memory.collector(answers));
    for _ in 0..5 {
        // Two find no room, and nobody waits.
        tracer.ended(call(tracer.begin(None, Face::Execute, 0)));
    }
    drop(tracer);
    exporter.run(CancellationToken::new()).await;
    assert_eq!(memory.took.lock().len(), 3 * 5);
    assert_eq!(*memory.asked.lock(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_not_taken_in_time_is_given_up() {
    for (answer, most) in [(refusal(None), 1), (refusal(Some(Duration::ZERO)), 12)] {
        let memory = Memory::default();
        let (tracer, exporter) = Tracer::new(options(), memory.collector(vec![answer]));
        tracer.ended(call(tracer.begin(None, Face::Execute, 0)));
        drop(tracer);
        exporter.run(CancellationToken::new()).await;
        assert!(memory.took.lock().is_empty());
        let asked = *memory.asked.lock();
        assert!((1..=most).contains(&asked), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_is_left_and_takes_no_longer_than_it_may() {
    let fine: fn() -> Result<Bytes, Refusal> = || Ok(Bytes::new());
    let down: fn() -> Result<Bytes, Refusal> = || refusal(Some(Duration::ZERO));
    for (answer, arrive) in [(fine, 10), (down, 0)] {
        let memory = Memory::default();
        let (tracer, exporter) = Tracer::new(options(), memory.collector(vec![answer()]));
        let stop = CancellationToken::new();
        for _ in 0..2 {
            tracer.ended(call(tracer.begin(None, Face::Execute, 0)));
        }
        stop.cancel();
        let begun = clock::now();
        exporter.run(stop).await;
        assert_eq!(memory.took.lock().len(), arrive);
        assert!(clock::now() - begun <= options().flush);
        // What comes too late finds nobody.
        tracer.ended(call(tracer.begin(None, Face::Execute, 0)));
    }
}

#[test]
fn a_collector_may_refuse_some() {
    let answer = |rejected_spans| {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".into(),
        });
        let answer = ExportTraceServiceResponse { partial_success };
        refused(&answer.encode_to_vec().into())
    };
    assert_eq!((answer(2), answer(-1)), (2, 0));
    assert_eq!(refused(&Bytes::new()), 0);
    assert_eq!(refused(&Bytes::from_static(b"not a message")), 0);
}
