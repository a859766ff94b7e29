//! Runs an admitted call: gets it a worker, lets the worker answer, and ends the lease in the way the answer asks for. Warm
//! path. Dropping the future at any point is safe: the lease then waits a moment for the running code, tells it and kills it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::clock;
use crate::domain::fault::Fault;
use crate::domain::function::Function;
use crate::domain::invocation::{Invocation, Phases, StartKind};
use crate::domain::limits::Mebibytes;
use crate::pool::handover::Opening;
use crate::pool::lease::{Lease, Origin};
use crate::scheduler::admit::Permit;
use crate::task;
use crate::worker::Worker;
use crate::worker::call::{self, Answer, Body, Chunk, Step};
use crate::worker::connection;
use crate::worker::message::Reason;

/// Pieces of a streaming answer that wait for a client to read them, each at most a frame.
const CHUNKS: usize = 2;

/// What became of a call that had a worker.
#[derive(Debug)]
pub struct Ran {
    pub result: Result<Answer, Fault>,
    pub phases: Phases,
    pub log_tail: String,
    /// If it was to be measured and can be.
    pub memory: Option<Mebibytes>,
}

/// What a call that has to wait has its worker do as soon as there is one.
pub fn opening(
    function: &Arc<Function>,
    invocation: &Invocation,
    begins: impl FnOnce() -> bool + Send + 'static,
) -> Opening {
    let timeout = function.timeout();
    let invocation = Invocation {
        context: invocation.context.clone(),
        payload: invocation.payload.clone(),
        trace: None,
        ..*invocation
    };
    Box::new(move |worker, now| {
        if begins() {
            call::open(worker, &invocation, timeout, now);
        }
    })
}

/// Lets the leased worker run the invocation, unless it does already. One that had died, and got nothing of it, is no use and no harm: the permit is
/// for another worker then.
pub async fn run(
    mut lease: Lease<Permit>,
    origin: &Origin,
    function: &Arc<Function>,
    invocation: &Invocation,
) -> Result<Ran, Permit> {
    let timeout = function.timeout();
    let begun = lease.since();
    let deadline = begun + timeout;
    let worker = lease.worker_mut();
    if worker.opened.is_none() {
        call::open(worker, invocation, timeout, begun);
    }
    let opened = worker.opened.take().expect("it was opened");
    let (step, ended) = call::answer(worker, opened, &invocation.payload).await;
    // Whoever dies as soon as it is started does so again: another is tried only of those that have served.
    if let Step::Broken(connection::Error::Unheard) = step
        && origin.kind == StartKind::Warm
    {
        return Err(lease.died_idle());
    }
    let mut log_tail = String::new();
    if matches!(
        step,
        Step::Failed(_) | Step::FailedLast(_) | Step::Late | Step::Broken(_)
    ) {
        log_tail = lease.worker().pipe.tail();
    }
    let run = ended.saturating_duration_since(begun);
    // Before the worker is anybody's again. It reads a few files of the kernel's, which calls that nobody asked this of do without.
    let memory = invocation
        .measured
        .then(|| lease.worker().remains.memory_peak())
        .flatten();
    let phases = Phases {
        queue: origin.queue,
        start: origin.start,
        init: origin.init,
        run,
    };
    let result = match step {
        Step::Answered { body, raw } => {
            lease.give_back(ended);
            Ok(Answer::Whole { body, raw })
        }
        Step::Failed(fault) => {
            lease.give_back(ended);
            Err(fault)
        }
        Step::FailedLast(fault) => {
            lease.bury("died");
            Err(fault)
        }
        Step::Streaming { content_type } => Ok(Answer::Stream {
            content_type,
            body: rest(lease, function.clone(), deadline),
        }),
        Step::Broken(error) => {
            // The container's last words may have come in while its end was looked into.
            let last_look = |worker: &Worker| log_tail = worker.pipe.tail();
            let fault = Box::pin(lose(lease, function, deadline, error, last_look)).await;
            Err(fault)
        }
        Step::Late => {
            lease.cancel(Reason::Deadline);
            Err(Fault::Timeout(timeout))
        }
    };
    Ok(Ran {
        result,
        phases,
        log_tail,
        memory,
    })
}

/// The worker's connection broke: finds out why, and gives the worker up.
async fn lose(
    lease: Lease<Permit>,
    function: &Function,
    deadline: Instant,
    error: connection::Error,
    last_look: impl FnOnce(&Worker),
) -> Fault {
    let remains = &lease.worker().remains;
    let container = &remains.container;
    let fault = call::lost(lease.engine(), container, function.memory, error, deadline).await;
    tracing::info!(worker = %remains.id, function = %function.name, cause = %fault, "worker lost");
    last_look(lease.worker());
    lease.bury(match fault {
        Fault::Protocol(_) => "protocol",
        Fault::OutOfMemory { .. } => "out_of_memory",
        _ => "died",
    });
    fault
}

/// The rest of a streaming answer, read by a task of its own: the deadline holds also while the client reads nothing. The
/// lease ends with the stream, however it ends.
fn rest(lease: Lease<Permit>, function: Arc<Function>, deadline: Instant) -> Body {
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    task::spawn(
        task::Kind::Local,
        "stream",
        pump(lease, function, deadline, chunks),
    );
    Box::pin(stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    }))
}

async fn pump(
    mut lease: Lease<Permit>,
    function: Arc<Function>,
    deadline: Instant,
    chunks: mpsc::Sender<Result<Bytes, Fault>>,
) {
    let late = Fault::Timeout(function.timeout());
    let fault = loop {
        let chunk = tokio::select! {
            biased;
            () = chunks.closed() => return lease.cancel(Reason::ClientGone),
            chunk = call::next_chunk(lease.worker_mut(), deadline) => chunk,
        };
        match chunk {
            Chunk::Data(data) => {
                match tokio::time::timeout_at(deadline.into(), chunks.send(Ok(data))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_gone)) => return lease.cancel(Reason::ClientGone),
                    Err(_elapsed) => {
                        lease.cancel(Reason::Deadline);
                        break late;
                    }
                }
            }
            Chunk::End => return lease.give_back(clock::now()),
            Chunk::Failed(fault) => {
                lease.give_back(clock::now());
                break fault;
            }
            Chunk::FailedLast(fault) => {
                lease.bury("died");
                break fault;
            }
            Chunk::Broken(error) => {
                break lose(lease, &function, deadline, error, |_| {}).await;
            }
            Chunk::Late => {
                lease.cancel(Reason::Deadline);
                break late;
            }
        }
    };
    // The worker is free already; this waits for a slow client, which must not take a cut answer for a whole one.
    chunks.send(Err(fault)).await.ok();
}
