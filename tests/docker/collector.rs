//! A receiver of OTLP over HTTP: takes what Hearth sends as a collector would, reads it with the protocol's own messages, and can be away.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::eventually;

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    resources: Vec<KeyValue>,
    headers: Option<HeaderMap>,
}

/// One that is there until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Received::default()));
        let keeps = received.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let keeps = keeps.clone();
                let answer = service_fn(move |request| receive(keeps.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self {
            address,
            received,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Spans that have come and that are like this.
    pub(crate) fn spans(&self, like: impl Fn(&Span) -> bool) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let spans = received.spans.iter();
        spans.filter(|span| like(span)).cloned().collect()
    }

    /// Waits for the spans of a trace with these names, whatever else it has, and returns all of it.
    pub(crate) async fn trace(&self, id: &str, names: &[&str]) -> Vec<Span> {
        eventually(&format!("spans {names:?} of trace {id}"), || async {
            let spans = self.spans(|span| hex::encode(&span.trace_id) == id);
            let there = |name: &&str| spans.iter().any(|span| span.name == **name);
            names.iter().all(there).then_some(spans)
        })
        .await
    }

    /// The whole call with this request id.
    pub(crate) async fn call(&self, request_id: &str) -> Span {
        eventually(&format!("the span of {request_id}"), || async {
            let of = |span: &Span| attribute(span, "faas.invocation_id") == request_id;
            self.spans(of).into_iter().next()
        })
        .await
    }

    pub(crate) fn resource(&self, key: &str) -> String {
        let received = self.received.lock().unwrap();
        value(&received.resources, key)
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let received = self.received.lock().unwrap();
        let headers = received.headers.as_ref().expect("something has come");
        headers[name].to_str().unwrap().to_owned()
    }
}

/// An attribute as text; empty if the span does not have it.
pub(crate) fn attribute(span: &Span, key: &str) -> String {
    value(&span.attributes, key)
}

fn value(pairs: &[KeyValue], key: &str) -> String {
    let pair = pairs.iter().find(|pair| pair.key == key);
    let value = pair.and_then(|pair| pair.value.as_ref()?.value.as_ref());
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(other) => panic!("{key} is {other:?}"),
    }
}

async fn receive(
    keeps: Arc<Mutex<Received>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let protobuf = head.headers["content-type"] == "application/x-protobuf";
    let meant = head.method == Method::POST && head.uri.path() == "/v1/traces" && protobuf;
    let read = ExportTraceServiceRequest::decode(body);
    let mut answer = Response::new(Full::default());
    match read {
        Ok(message) if meant => {
            let mut received = keeps.lock().unwrap();
            received.headers = Some(head.headers);
            for of in message.resource_spans {
                received.resources = of.resource.unwrap_or_default().attributes;
                let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(spans);
            }
        }
        _ => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}
