//! Traces of calls, by OTLP. What a call leaves here is made from its outcome when it is over: nothing is measured twice and nothing is done
//! while it runs. A bounded queue leads to one task, which makes spans of calls (`spans`) and has them posted; how that is done is told by
//! `app`, because HTTP is spoken further up. What cannot be sent is counted and forgotten: no call waits for a collector.

mod spans;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::fault::{Blame, Fault};
use crate::domain::function::Function;
use crate::domain::id::RequestId;
use crate::domain::invocation::{Phases, StartKind};
use crate::domain::trace::{Face, Parent, SpanId, Trace, TraceId};
use crate::domain::version::VersionId;
use crate::telemetry::metrics;

/// Calls in one message. Each has five spans at most, of some hundred bytes each.
const BATCH: usize = 256;
/// The first of a batch waits this long for others.
const GATHER: Duration = Duration::from_secs(1);
/// Between two attempts to send a batch: twice as long each time, up to a bound.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Characters of a fault that a span has.
const FAULT_TEXT_MAX: usize = 300;

#[derive(Debug, Clone)]
pub struct Options {
    /// What the spans are said to be of.
    pub service: String,
    /// This process, unlike others of the service.
    pub instance: String,
    /// The part of traces that is kept, of those for which their callers have decided nothing.
    pub ratio: f64,
    /// Calls that wait to be sent.
    pub queue: usize,
    /// A batch that could not be sent for so long is given up.
    pub retry_for: Duration,
    /// What is left at the end has this long.
    pub flush: Duration,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// It may be taken later; and when at the earliest, if that was said.
    pub later: Option<Duration>,
}

type Post = dyn Fn(Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync;

/// Takes a message to the collector and brings its answer.
#[derive(Clone)]
pub struct Collector(Arc<Post>);

impl Collector {
    pub fn new(
        post: impl Fn(Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(post))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

/// What spans are made of: a call that has ended, or was accepted to be run later.
#[derive(Debug, Clone)]
pub struct Call {
    pub trace: Box<Trace>,
    pub function: Arc<Function>,
    pub version: VersionId,
    pub request_id: RequestId,
    pub ended_at: jiff::Timestamp,
    /// From its arrival on.
    pub took: Duration,
    pub phases: Phases,
    /// How its worker came to be, if it got one.
    pub start: Option<StartKind>,
    /// Why that worker had to be started, if it was not there.
    pub cause: Option<&'static str>,
    pub fault: Option<Failure>,
    /// It was accepted, and is run later.
    pub accepted: bool,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub code: &'static str,
    pub blame: Blame,
    pub message: String,
}

impl Failure {
    pub fn of(fault: &Fault) -> Self {
        Self {
            code: fault.code(),
            blame: fault.blame(),
            message: fault.to_string().chars().take(FAULT_TEXT_MAX).collect(),
        }
    }
}

/// Decides what is traced, and takes what is. A cheap handle.
#[derive(Debug, Clone)]
pub struct Tracer {
    ratio: f64,
    queue: mpsc::Sender<Call>,
}

impl Tracer {
    /// And what `run` needs.
    pub fn new(options: Options, collector: Collector) -> (Self, Exporter) {
        let (queue, calls) = mpsc::channel(options.queue);
        let tracer = Self {
            ratio: options.ratio,
            queue,
        };
        let exporter = Exporter {
            calls,
            options,
            collector,
        };
        (tracer, exporter)
    }

    /// The place of a call in its caller's trace, or in one of its own.
    pub fn begin(&self, parent: Option<Parent>, face: Face, attempt: u32) -> Box<Trace> {
        let (id, span, decided, state) = match parent {
            Some(parent) => (parent.trace, parent.span, parent.sampled, parent.state),
            None => (TraceId::generate(), None, None, String::new()),
        };
        Box::new(Trace {
            id,
            parent: span,
            span: SpanId::generate(),
            run: SpanId::generate(),
            sampled: decided.unwrap_or_else(|| id.share() < self.ratio),
            state,
            face,
            attempt,
        })
    }

    /// A call of a trace that is sampled.
    pub fn ended(&self, call: Call) {
        debug_assert!(call.trace.sampled, "nobody wants to see it");
        if let Err(unsent) = self.queue.try_send(call) {
            let (outcome, call) = match unsent {
                mpsc::error::TrySendError::Full(call) => ("queue_full", call),
                mpsc::error::TrySendError::Closed(call) => ("stopped", call),
            };
            metrics::spans(outcome, spans::count(&call));
        }
    }
}

/// The other end of the queue.
#[derive(Debug)]
pub struct Exporter {
    calls: mpsc::Receiver<Call>,
    options: Options,
    collector: Collector,
}

impl Exporter {
    /// Sends what comes until `stop`, and then what is left, as far as there is time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut state = State::Fine;
        let mut batch = Vec::new();
        while stop
            .run_until_cancelled(self.gather(&mut batch))
            .await
            .is_some()
        {
            if batch.is_empty() {
                return;
            }
            let sent = stop
                .run_until_cancelled(self.send(&batch, &mut state))
                .await;
            if sent.is_none() {
                break;
            }
            batch.clear();
        }
        self.calls.close();
        let left = tokio::time::timeout(self.options.flush, self.flush(&mut batch, &mut state));
        if left.await.is_err() {
            let rest = std::iter::from_fn(|| self.calls.try_recv().ok());
            let lost: usize = batch.iter().map(spans::count).sum();
            let lost = rest.fold(lost, |lost, call| lost + spans::count(&call));
            metrics::spans("stopped", lost);
            tracing::warn!(spans = lost, "the collector took too long, spans lost");
        }
    }

    /// A batch: what came within a moment of its first, or as many as it holds. Empty when nothing will come any more.
    async fn gather(&mut self, batch: &mut Vec<Call>) {
        if batch.is_empty() && self.calls.recv_many(batch, BATCH).await == 0 {
            return;
        }
        let full = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if self.calls.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        // Whatever it has gathered stays in the batch when the time is over.
        tokio::time::timeout(GATHER, full).await.ok();
    }

    /// Sends a batch, however often it takes within its bound.
    async fn send(&self, batch: &[Call], state: &mut State) {
        let (message, count) = spans::message(batch, &self.options);
        let give_up = clock::now() + self.options.retry_for;
        let mut pause = PAUSE;
        loop {
            match (self.collector.0)(message.clone()).await {
                Ok(answer) => {
                    let refused = refused(&answer).min(count);
                    metrics::spans("sent", count - refused);
                    metrics::spans("refused", refused);
                    return state.fine();
                }
                Err(Refusal { message, later }) => {
                    state.failed(&message);
                    let Some(least) = later else {
                        return metrics::spans("refused", count);
                    };
                    let wait = pause.max(least);
                    if clock::now() + wait > give_up {
                        return metrics::spans("unreachable", count);
                    }
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn flush(&mut self, batch: &mut Vec<Call>, state: &mut State) {
        loop {
            if batch.is_empty() && self.calls.recv_many(batch, BATCH).await == 0 {
                return;
            }
            self.send(batch, state).await;
            batch.clear();
        }
    }
}

/// Spans of a message that was taken, but which themselves were not.
fn refused(answer: &Bytes) -> usize {
    let answer = ExportTraceServiceResponse::decode(answer.clone()).unwrap_or_default();
    let Some(partial) = answer.partial_success else {
        return 0;
    };
    if partial.rejected_spans > 0 {
        let spans = partial.rejected_spans;
        tracing::debug!(spans, why = ?partial.error_message, "spans refused");
    }
    usize::try_from(partial.rejected_spans).unwrap_or_default()
}

/// How it stands with the collector: said once when it changes.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Fine,
    Failing,
}

impl State {
    fn fine(&mut self) {
        if std::mem::replace(self, State::Fine) == State::Failing {
            tracing::info!("spans are sent again");
        }
    }

    fn failed(&mut self, message: &str) {
        if std::mem::replace(self, State::Failing) == State::Fine {
            tracing::warn!(error = ?message, "spans cannot be sent");
        }
    }
}

#[cfg(test)]
mod tests;
