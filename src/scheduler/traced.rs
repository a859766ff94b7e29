//! What is told of calls that are part of a trace: at once where the answer is whole, and of a stream when it ends, however it ends. Calls
//! that are not part of one do not come here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;

use crate::clock;
use crate::domain::fault::{Blame, Fault};
use crate::domain::trace::Trace;
use crate::scheduler::{Answer, Body, Called, Scheduler, Target};
use crate::telemetry::traces::{Call, Failure, Tracer};

impl Scheduler {
    /// A call has ended, or has begun to stream its answer; `took` is from its arrival on.
    pub(super) fn traced(
        &self,
        target: &Arc<Target>,
        trace: Box<Trace>,
        called: &mut Called,
        took: Duration,
    ) {
        let Some(tracer) = self.traces().filter(|_| trace.sampled) else {
            return;
        };
        let call = Call {
            trace,
            function: target.function.clone(),
            version: target.version,
            request_id: called.request_id,
            ended_at: clock::wall(),
            took,
            phases: called.phases,
            start: called.start.map(|(kind, _)| kind),
            cause: called.cause,
            fault: called.result.as_ref().err().map(Failure::of),
            accepted: false,
        };
        match &mut called.result {
            Ok(Answer::Stream { body, .. }) => {
                let rest = std::mem::replace(body, Box::pin(futures_util::stream::empty()));
                *body = Box::pin(Streaming {
                    body: rest,
                    begun: clock::now(),
                    pending: Some((tracer.clone(), call)),
                });
            }
            Ok(Answer::Whole { .. }) | Err(_) => tracer.ended(call),
        }
    }
}

/// A streaming answer of a call that is part of a trace.
struct Streaming {
    body: Body,
    /// When it began.
    begun: Instant,
    /// Until it has ended.
    pending: Option<(Tracer, Call)>,
}

impl Streaming {
    fn ended(&mut self, fault: Option<Failure>) {
        let Some((tracer, mut call)) = self.pending.take() else {
            return;
        };
        // As long as it streams, the handler runs.
        let more = clock::now().saturating_duration_since(self.begun);
        call.phases.run += more;
        call.took += more;
        call.ended_at = clock::wall();
        call.fault = fault;
        tracer.ended(call);
    }
}

impl Stream for Streaming {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(self.body.as_mut().poll_next(context));
        match &piece {
            Some(Ok(_)) => {}
            Some(Err(fault)) => {
                let fault = Failure::of(fault);
                self.ended(Some(fault));
            }
            None => self.ended(None),
        }
        Poll::Ready(piece)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.ended(Some(Failure {
            code: "client_gone",
            blame: Blame::Client,
            message: "nobody reads the answer any more".into(),
        }));
    }
}
