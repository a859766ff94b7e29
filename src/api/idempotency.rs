//! Calls with an `Idempotency-Key`: run once, and answered the same to everybody who comes with that key again. The first request begins
//! the key in the store and runs the call in a task of its own, which goes on if the client leaves: it will ask again. Who comes
//! meanwhile waits, on whatever process. Called by `invoke`, and only for requests that have the header.
//!
//! What was never run leaves nothing, so that a retry runs it; nor does what was interrupted with its process, whose key is free when its
//! lease is over. The store's clock and its scripts decide; nothing is remembered here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::api::body::Body;
use crate::api::error::{self, Problem};
use crate::api::invoke;
use crate::api::label::{EXECUTED_VERSION, VERSION};
use crate::clock;
use crate::config;
use crate::domain::fault::{Fault, Retry};
use crate::domain::id::{FunctionId, RequestId};
use crate::domain::idempotency::{self, Answer, Key};
use crate::scheduler;
use crate::store::answers::{Begun, Bounds, Ended};
use crate::store::{self, Store};
use crate::task;
use crate::telemetry::metrics;
use crate::telemetry::often::Often;

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The answer was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// `false`: the answer could not be kept, so it will not be given again.
pub const KEPT: HeaderName = HeaderName::from_static("idempotency-kept");

/// Headers of an answer that are part of it.
const HEADERS: [HeaderName; 5] = [
    CONTENT_TYPE,
    LOCATION,
    error::REQUEST_ID,
    VERSION,
    EXECUTED_VERSION,
];
/// Between two looks for the answer of somebody else: first and longest.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_LONGEST: Duration = Duration::from_millis(250);
/// Requests that wait for somebody else's answer at the same time.
const WAITING_MAX: usize = 1000;
/// How often an end is tried to be told to a store that is away, and how long between.
const END_ATTEMPTS: usize = 60;
const END_RETRY: Duration = Duration::from_secs(1);
/// Between two looks for keys whose time is over. A key that is asked for is looked at anyway: this is about room.
const FORGET: Duration = Duration::from_secs(60);
/// Hashing or parsing more than this is not done between other requests.
pub const INLINE_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub struct Idempotency {
    store: Arc<dyn Store>,
    bounds: Bounds,
    answer_max: usize,
    max_wait: Duration,
    waiting: Semaphore,
    /// Keys that were not looked up, as the log has them.
    unknown: Mutex<Often>,
    /// And answers that were not kept.
    unkept: Mutex<Often>,
}

/// What whoever asked with a key has to do.
#[derive(Debug)]
pub enum Turn {
    /// Run the call. `first`: who tried first, before a process that is gone.
    Run { first: RequestId },
    /// Give this answer.
    Answer(Response<Body>),
}

/// What came of running a call.
#[derive(Debug)]
pub struct Worked {
    pub response: Response<Body>,
    pub ran: Ran,
}

/// Whether something was run, so that it must not be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    Yes,
    No,
    /// Nobody knows. Who comes when the key's lease is over goes on with the first attempt's id, under which the store has it or not.
    Perhaps,
}

impl Worked {
    pub fn never(response: Response<Body>) -> Self {
        let ran = Ran::No;
        Self { response, ran }
    }
}

impl Idempotency {
    pub fn new(store: Arc<dyn Store>, limits: &config::Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            bounds: Bounds {
                keys: limits.idempotency_keys,
                bytes: limits.idempotency_total_bytes,
                keep: limits.idempotency_ttl,
                lease: limits.lease,
            },
            answer_max: limits.idempotency_answer_bytes,
            max_wait: limits.max_wait,
            waiting: Semaphore::new(WAITING_MAX),
            unknown: Mutex::default(),
            unkept: Mutex::default(),
        })
    }

    /// Forgets keys whose time is over, for as long as the process lives: nobody may ever come with another one.
    pub async fn forget_forever(self: Arc<Self>) {
        loop {
            // A store that is away is told of by those who need it.
            while let Ok(true) = self.store.forget().await {}
            tokio::time::sleep(FORGET).await;
        }
    }

    /// A streaming answer as a whole one if it is small enough to be kept.
    pub(super) async fn gather(&self, mut body: scheduler::Body) -> Gathered {
        let mut all = BytesMut::new();
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => all.extend_from_slice(&piece),
                Err(fault) => return Gathered::Failed(fault),
            }
            if all.len() > self.answer_max {
                let first = futures_util::stream::iter([Ok(all.freeze())]);
                return Gathered::Long(Box::pin(first.chain(body)));
            }
        }
        Gathered::Whole(all.freeze())
    }

    /// Begins the key, or waits for the answer of whoever has, as long as a call of this function may take.
    pub async fn begin(&self, key: &Key, by: RequestId, timeout: Duration) -> Turn {
        let deadline = clock::now() + self.max_wait + timeout;
        let mut waits = None;
        let mut pause = LOOK;
        loop {
            let problem = match self.store.begin(key, by, self.bounds).await {
                Ok(Begun::Yours { first }) => return Turn::Run { first },
                Ok(Begun::Answered(answer)) => {
                    metrics::idempotent_call("replayed");
                    return Turn::Answer(replay(answer));
                }
                Ok(Begun::Running) => {
                    waits = waits.or_else(|| self.waiting.try_acquire().ok());
                    if waits.is_some() && clock::now() < deadline {
                        sleep(pause, deadline).await;
                        pause = (pause * 2).min(LOOK_LONGEST);
                        continue;
                    }
                    metrics::idempotent_call("in_progress");
                    Problem::IdempotencyInProgress
                }
                Ok(Begun::Unkept) => {
                    metrics::idempotent_call("unkept");
                    Problem::AnswerNotKept
                }
                Ok(Begun::Different) => {
                    metrics::idempotent_call("different");
                    Problem::IdempotencyKeyReused
                }
                Err(store::Error::Full) => {
                    metrics::idempotent_call("refused");
                    Problem::TooManyIdempotencyKeys
                }
                Err(error) => {
                    let problem = invoke::unstored(&error);
                    let error: &dyn std::error::Error = &error;
                    // While the store is away that is said of all there are.
                    if let Some(keys) = self.unknown.lock().to_log(clock::now()) {
                        tracing::warn!(keys, error, "idempotency keys cannot be looked up");
                    }
                    problem
                }
            };
            return Turn::Answer(error::refused(&problem));
        }
    }

    /// Does the work, keeps its answer, and gives it. Both are done to the end, whoever waits for it.
    pub async fn run<W>(self: &Arc<Self>, key: Key, by: RequestId, work: W) -> Response<Body>
    where
        W: Future<Output = Worked> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let this = self.clone();
        task::spawn(task::Kind::Local, "idempotent call", async move {
            let worked = tokio::select! {
                worked = work => worked,
                never = this.hold(&key, by) => match never {},
            };
            this.end(&key, by, worked, tell).await;
        });
        let answered = told.await;
        answered.unwrap_or_else(|_panicked| error::refused(&Problem::Internal))
    }

    async fn hold(&self, key: &Key, by: RequestId) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(self.bounds.lease / 3).await;
            match self.store.hold(key, by, self.bounds).await {
                Ok(true) => {}
                // Its answer is still the one of whoever waits for it.
                Ok(false) => std::future::pending().await,
                Err(error) => tracing::debug!(%error, "an idempotency key cannot be held"),
            }
        }
    }

    /// The store has the answer before the client does: it will not ask again for nothing.
    async fn end(
        &self,
        key: &Key,
        by: RequestId,
        worked: Worked,
        tell: oneshot::Sender<Response<Body>>,
    ) {
        let Worked { mut response, ran } = worked;
        if ran != Ran::Yes {
            if ran == Ran::No
                && let Err(error) = self.store.release(key, by).await
            {
                tracing::debug!(%error, "an idempotency key is free only when its lease is over");
            }
            drop(tell.send(response));
            return;
        }
        metrics::idempotent_call("ran");
        let answer = record(&response, self.answer_max);
        let end = || self.store.end(key, by, answer.as_ref(), self.bounds);
        let first = end().await;
        if !matches!(first, Ok(Ended::Kept)) {
            let no = HeaderValue::from_static("false");
            response.headers_mut().insert(KEPT, no);
        }
        // It may have gone; the next one with this key has the answer.
        drop(tell.send(response));
        match first {
            Ok(_) => return,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                if let Some(answers) = self.unkept.lock().to_log(clock::now()) {
                    tracing::warn!(
                        answers,
                        error,
                        "answers to idempotent calls cannot be kept yet"
                    );
                }
            }
        }
        for _ in 0..END_ATTEMPTS {
            tokio::time::sleep(END_RETRY).await;
            if end().await.is_ok() {
                return;
            }
        }
    }
}

/// A streaming answer that was looked into.
pub(super) enum Gathered {
    Whole(Bytes),
    /// It is too long to be kept; this is all of it.
    Long(scheduler::Body),
    Failed(Fault),
}

/// Whether a fault means that the function may have been run and has said what it has to say.
pub fn is_end(fault: &Fault) -> bool {
    let interrupted = matches!(fault, Fault::ClientGone | Fault::Interrupted);
    fault.retry() == Retry::Unsafe && !interrupted
}

/// The key of a request that has one.
pub async fn key(
    headers: &HeaderMap,
    function: &FunctionId,
    how: Cow<'static, str>,
    payload: &Bytes,
) -> Result<Key, Problem> {
    let refused = |what: String| Problem::invalid(KEY.as_str(), what);
    let mut given = headers.get_all(KEY).iter();
    let (first, more) = (given.next(), given.next());
    if more.is_some() {
        return Err(refused("must be given once".into()));
    }
    let written = first.map(HeaderValue::as_bytes).unwrap_or_default();
    let written = idempotency::read(written).map_err(refused)?;
    if payload.len() <= INLINE_MAX {
        return Ok(Key::of(function, written, &how, payload));
    }
    let (function, written, payload) = (function.clone(), written.to_owned(), payload.clone());
    let hash = move || Key::of(&function, &written, &how, &payload);
    Ok(task::blocking("hash payload", hash).await)
}

async fn sleep(pause: Duration, deadline: Instant) {
    let until = (clock::now() + pause).min(deadline);
    tokio::time::sleep_until(until.into()).await;
}

fn record(response: &Response<Body>, most: usize) -> Option<Answer> {
    let Body::Full(body) = response.body() else {
        return None;
    };
    let pair = |name: &HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    (body.len() <= most).then(|| Answer {
        status: response.status().as_u16(),
        headers: HEADERS.iter().filter_map(pair).collect(),
        body: body.clone(),
    })
}

fn replay(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::Full(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests;
