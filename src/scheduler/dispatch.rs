//! Runs an admitted call: gets it a worker, lets the worker answer, and ends the lease in the way the answer asks for. Warm
//! path. Dropping the future at any point is safe: the lease then tells the running code and kills it.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream;

use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::function::Function;
use crate::domain::invocation::{Invocation, Phases};
use crate::pool::lease::{Lease, Origin};
use crate::scheduler::admit::Permit;
use crate::worker::call::{self, Answer, Body, Chunk, Step};
use crate::worker::message::Reason;

/// What became of a call that had a worker.
#[derive(Debug)]
pub struct Ran {
    pub result: Result<Answer, Fault>,
    pub phases: Phases,
    pub log_tail: String,
}

/// Lets the leased worker run the invocation.
pub async fn run(
    mut lease: Lease<Permit>,
    origin: &Origin,
    function: &Arc<Function>,
    invocation: &Invocation,
) -> Ran {
    let timeout = function.timeout();
    let begun = clock::now();
    let deadline = begun + timeout;
    let step = call::begin(lease.worker_mut(), invocation, timeout, deadline).await;
    let mut log_tail = String::new();
    if matches!(
        step,
        Step::Failed(_) | Step::FailedLast(_) | Step::Late | Step::Broken(_)
    ) {
        log_tail = lease.worker().pipe.tail();
    }
    let run = clock::now().saturating_duration_since(begun);
    let phases = Phases {
        queue: origin.queue,
        start: origin.start,
        init: origin.init,
        run,
    };
    let result = match step {
        Step::Answered { body, raw } => {
            lease.give_back();
            Ok(Answer::Whole { body, raw })
        }
        Step::Failed(fault) => {
            lease.give_back();
            Err(fault)
        }
        Step::FailedLast(fault) => {
            drop(lease.bury());
            Err(fault)
        }
        Step::Streaming { content_type } => Ok(Answer::Stream {
            content_type,
            body: rest(lease, function.clone(), deadline),
        }),
        Step::Broken(error) => {
            let fault = call::lost(
                lease.engine(),
                &lease.worker().remains.container,
                function.memory,
                error,
            )
            .await;
            // The container's last words may have come in while its end was looked into.
            log_tail = lease.worker().pipe.tail();
            drop(lease.bury());
            Err(fault)
        }
        Step::Late => {
            lease.cancel(Reason::Deadline);
            Err(Fault::Timeout(timeout))
        }
    };
    Ran {
        result,
        phases,
        log_tail,
    }
}

/// The rest of a streaming answer. The lease ends with it, however it ends.
fn rest(lease: Lease<Permit>, function: Arc<Function>, deadline: Instant) -> Body {
    Box::pin(stream::unfold(Some(lease), move |lease| {
        let function = function.clone();
        async move {
            let mut lease = lease?;
            match call::next_chunk(lease.worker_mut(), deadline).await {
                Chunk::Data(data) => Some((Ok(data), Some(lease))),
                Chunk::End => {
                    lease.give_back();
                    None
                }
                Chunk::Failed(fault) => {
                    lease.give_back();
                    Some((Err(fault), None))
                }
                Chunk::FailedLast(fault) => {
                    drop(lease.bury());
                    Some((Err(fault), None))
                }
                Chunk::Broken(error) => {
                    let container = lease.worker().remains.container.clone();
                    let fault =
                        call::lost(lease.engine(), &container, function.memory, error).await;
                    drop(lease.bury());
                    Some((Err(fault), None))
                }
                Chunk::Late => {
                    lease.cancel(Reason::Deadline);
                    Some((Err(Fault::Timeout(function.timeout())), None))
                }
            }
        }
    }))
}
