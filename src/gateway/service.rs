//! One request: who is it from, which face is it for, and that face's answer. Warm path for calls: no task, no channel and no
//! lock between the connection and the scheduler.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::api::body::Body;
use crate::api::dashboard::session::{self, Sessions};
use crate::api::error::Problem;
use crate::api::idempotency::Idempotency;
use crate::api::keys::Keys;
use crate::api::lambda::Lambda;
use crate::api::lambda::errors::Refusal;
use crate::api::lambda::urls::address;
use crate::api::room::{Client, Part, Room};
use crate::api::{self, access, error, invoke};
use crate::clock;
use crate::domain::key::{Denied, Grant};
use crate::domain::limits::PAYLOAD_MAX;
use crate::gateway::keys::Failure;
use crate::gateway::route::{Route, Segment, route};
use crate::gateway::screen::Seen;
use crate::gateway::slowdown::{Slowdown, Verdict};
use crate::gateway::taking::{LARGE, Taken};
use crate::gateway::{body, keys};
use crate::queue::Queue;
use crate::scheduler::Scheduler;
use crate::telemetry::exposition::Format;
use crate::telemetry::metrics::{self, Rendered};

/// What keeps the process from being ready.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// What is still to be done, or could not be done, at the start; empty when nothing.
    pub prepared: watch::Receiver<Vec<String>>,
    /// Why the engine is of no use now.
    pub engine: watch::Receiver<Option<String>>,
    /// Why the store was never read. Until it was, nobody knows who may call what.
    pub store: watch::Receiver<Option<String>>,
}

#[derive(Debug)]
pub struct Gateway {
    /// The listener speaks TLS.
    pub tls: bool,
    pub scheduler: Arc<Scheduler>,
    pub queue: Arc<Queue>,
    pub idempotency: Arc<Idempotency>,
    pub control: Router,
    pub lambda: Lambda,
    pub keys: Arc<Keys>,
    pub rendered: Rendered,
    pub readiness: Readiness,
    pub body_timeout: Duration,
    pub arriving: Arc<Room>,
    /// For answers until their clients have taken them.
    pub untaken: Arc<Room>,
    /// Who tried wrong keys.
    pub slowdown: Arc<Mutex<Slowdown>>,
    /// Room for answers that are held back.
    pub held: Arc<Semaphore>,
    /// Who is signed in to the dashboard.
    pub sessions: Arc<Sessions>,
    /// Names the dashboard is reached by, beside addresses.
    pub hosts: Arc<[String]>,
}

/// An answer's bytes, and their part of the room.
struct Counted(
    Bytes,
    #[expect(dead_code, reason = "dropped with them")] Part<'static, Arc<Room>>,
);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Answers to wrong keys that are held back at the same time.
pub const HELD_MAX: usize = 256;

/// What is to be done for the answer to a request whose head has been looked at.
enum Begun {
    Answered(Response<Body>),
    /// A function is called.
    Call(Segment, Arc<Grant>, Parts, Incoming),
    /// Boxed, so that calls carry nothing of it.
    Other(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Begun {
    fn other(answer: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self::Other(Box::pin(answer))
    }
}

impl Gateway {
    /// One request, up to its answer. Its head is looked at before there is a future, and what that finds is all the future has of it: every
    /// function that a request or a large future is moved through copies it.
    pub fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> impl Future<Output = Result<Response<Taken>, Infallible>> + Send + use<> {
        let (face, calls, begun) = self.begin(request, peer);
        let gateway = self.clone();
        async move {
            let response = match begun {
                Begun::Answered(response) => response,
                Begun::Call(name, ref grant, ref head, body) => {
                    let client = Client::Key(&grant.id);
                    gateway.execute(name, head, body, client).await
                }
                Begun::Other(answer) => answer.await,
            };
            metrics::http(face, response.status().as_u16() / 100);
            let response = match response.body() {
                Body::Full(whole) if calls && whole.len() > LARGE => {
                    gateway.counted(response, peer)
                }
                _ => response,
            };
            Ok(response.map(Taken::from))
        }
    }

    /// Which face a request is for, whether that may run a function, and what is to be done for its answer.
    fn begin(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> (&'static str, bool, Begun) {
        let seen = Seen::of(request.headers());
        let host = session::named(seen.host.first(), request.uri());
        let route = match address::of_host(host) {
            Some(_) => Route::Url,
            None => route(request.method(), request.uri().path()),
        };
        let face = route.face();
        let aws = matches!(route, Route::Lambda | Route::Url);
        let refused = |problem: &Problem| match aws {
            true => Refusal::from(problem.clone()).response(),
            false => error::refused(problem),
        };
        let screened = seen.head(request.version()).and_then(|()| match route {
            Route::Function | Route::Url => Ok(()),
            Route::Lambda => seen.signed(&request),
            _ => seen.own(&request),
        });
        let calls = route.calls();
        let unread = || !route.is_about_this() && self.readiness.store.borrow().is_some();
        let gateway = || self.clone();
        let begun = if let Err(problem) = screened {
            let mut response = refused(&problem);
            // Where this request ends may be the very thing that is in doubt: what comes behind it is not read. HTTP/2 has frames.
            if request.version() < Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Begun::Answered(response)
        } else if calls && self.untaken.is_full_for(Client::Address(peer)) {
            // Nothing is run for who does not take what it was answered.
            metrics::untaken("refused");
            Begun::Answered(refused(&Problem::Untaken))
        } else if unread() {
            Begun::Answered(refused(&Problem::StoreUnavailable))
        } else if aws {
            let gateway = gateway();
            Begun::other(async move { gateway.lambda(route, request, peer).await })
        } else if route.is_open() {
            let gateway = gateway();
            Begun::other(async move { gateway.answer(route, request, peer).await })
        } else {
            match self.admitted(&request, &seen) {
                Ok(grant) => match (self.permits(&grant, &request), route) {
                    (Err(denied), _) => Begun::Answered(error::refused(&denied.into())),
                    (Ok(()), Route::Execute(name)) => {
                        let (head, body) = request.into_parts();
                        Begun::Call(name, grant, head, body)
                    }
                    (Ok(()), route) => {
                        let gateway = gateway();
                        Begun::other(
                            async move { gateway.answer_to(grant, route, request, peer).await },
                        )
                    }
                },
                Err(failure) => {
                    let gateway = gateway();
                    Begun::other(async move {
                        let (headers, version) = (request.headers(), request.version());
                        gateway.turned_away(failure, peer, headers, version).await
                    })
                }
            }
        };
        (face, calls, begun)
    }

    /// A large answer, which counts until nobody has its bytes any more.
    fn counted(&self, response: Response<Body>, peer: IpAddr) -> Response<Body> {
        response.map(|body| match body {
            Body::Full(whole) => {
                let mut part = Part::new(self.untaken.clone(), Client::Address(peer));
                part.have(whole.len());
                Body::Full(Bytes::from_owner(Counted(whole, part)))
            }
            other => other,
        })
    }

    /// AWS's API finds out itself who asks, unless the request carries a key like one for the native face. So does a function URL, if it matters
    /// there: keys of the native face are nothing to it.
    async fn lambda(
        &self,
        route: Route,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        let version = request.version();
        let mut request = request.map(axum::body::Body::new);
        // For whom its body counts.
        request.extensions_mut().insert(peer);
        let answer = if route == Route::Url {
            self.lambda.serve_url(request, self.sender(peer)).await
        } else {
            if let Ok(grant) = keys::admit(&self.keys, &Seen::of(request.headers())) {
                request.extensions_mut().insert(grant);
            }
            self.lambda.serve(request).await
        };
        let unproven = match answer {
            Ok(response) => return response,
            Err(unproven) => unproven,
        };
        metrics::auth_failed(unproven.doubt.as_str());
        let slowed = match unproven.doubt.is_a_try() {
            true => self.slowed(unproven.doubt.as_str(), peer).await,
            false => None,
        };
        match slowed {
            Some(problem) => closing(Refusal::from(problem).response(), version),
            None => unproven.refusal.response(),
        }
    }

    /// The answer to a request without a good key. A wrong one may have been tried too often.
    pub(super) async fn turned_away(
        &self,
        failure: Failure,
        peer: IpAddr,
        headers: &HeaderMap,
        version: Version,
    ) -> Response<Body> {
        metrics::auth_failed(failure.as_str());
        if failure == Failure::Missing {
            // Nothing was tried: a browser asks like this first.
            return unauthorized(headers);
        }
        match self.slowed(failure.as_str(), peer).await {
            Some(problem) => closing(error::refused(&problem), version),
            None => unauthorized(headers),
        }
    }

    /// Counts a wrong key, and holds its sender back if there were too many.
    async fn slowed(&self, reason: &'static str, peer: IpAddr) -> Option<Problem> {
        let now = clock::now();
        let (verdict, failures) = {
            let mut slowdown = self.slowdown.lock();
            (slowdown.failed(peer, now), slowdown.to_log(now))
        };
        if let Some(failures) = failures {
            tracing::info!(failures, %peer, reason, "keys that open nothing; this one the last");
        }
        let Verdict::Slow { hold, wait } = verdict else {
            return None;
        };
        metrics::auth_slowed();
        // However many try, only so many wait here; the rest lose their connection at once.
        if let Ok(_held) = self.held.try_acquire() {
            tokio::time::sleep(hold).await;
        }
        let wait = wait.as_secs();
        Some(Problem::TooManyWrongKeys { wait })
    }

    /// Whether the key is good for this.
    fn permits(&self, grant: &Grant, request: &Request<Incoming>) -> Result<(), Denied> {
        let (method, path) = (request.method(), request.uri().path());
        let checked = access::check(grant, method, path, &self.scheduler);
        if checked.is_err() {
            metrics::auth_failed("scope");
        }
        checked
    }

    /// The answer to a request with a key that is good for it.
    async fn answer_to(
        &self,
        grant: Arc<Grant>,
        route: Route,
        mut request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        if route == Route::Control {
            // For what only the body says.
            request.extensions_mut().insert(grant);
        }
        self.answer(route, request, peer).await
    }

    async fn answer(
        &self,
        route: Route,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        match route {
            // Answered before: the first on a way of its own, the others find out themselves who asks.
            Route::Execute(_) | Route::Lambda | Route::Url => {
                error::not_found(request.uri().path())
            }
            Route::Health => text(StatusCode::OK, "ok\n".into()),
            Route::Ready => self.ready(),
            Route::Metrics => self.metrics(request.headers()),
            Route::Dashboard => self.page(&request),
            Route::Session => self.session(request, peer).await,
            Route::Function => self.function(request, peer).await,
            Route::Control => {
                let request = request.map(axum::body::Body::new);
                let answer = self.control.clone().oneshot(request);
                // The router's error type is uninhabited: it always has an answer.
                answer.await.map_or_else(
                    |never| match never {},
                    |response| response.map(Body::Control),
                )
            }
        }
    }

    async fn execute(
        &self,
        name: Segment,
        head: &Parts,
        incoming: Incoming,
        client: Client<'_>,
    ) -> Response<Body> {
        let name = name.of(head.uri.path());
        let (most, patience, room) = (PAYLOAD_MAX, self.body_timeout, &self.arriving);
        match body::read(incoming, most, patience, room, client).await {
            Ok(payload) => {
                let (queue, idempotency) = (&self.queue, &self.idempotency);
                let query = head.uri.query();
                invoke::execute(queue, idempotency, &name, query, &head.headers, payload).await
            }
            Err(fault) => invoke::refuse(fault),
        }
    }

    /// Plain HTTP to a function. The control API's own errors are for its users; here the public asks.
    async fn function(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let (head, incoming) = request.into_parts();
        let Some(found) = self.scheduler.at(head.uri.path()) else {
            return error::not_found(head.uri.path());
        };
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return error::not_allowed(&head.method, head.uri.path());
        }
        let limit = api::route::body_max(&head.headers);
        let (patience, room, client) = (self.body_timeout, &self.arriving, Client::Address(peer));
        match body::read(incoming, limit, patience, room, client).await {
            Ok(body) => {
                let from = self.sender(peer);
                api::route::serve(&self.scheduler, found, &head, from, body).await
            }
            Err(fault) => api::route::refuse(&fault),
        }
    }

    fn sender(&self, address: IpAddr) -> api::route::Sender {
        let tls = self.tls;
        api::route::Sender { address, tls }
    }

    fn ready(&self) -> Response<Body> {
        let store = self.readiness.store.borrow().clone();
        let engine = self.readiness.engine.borrow().clone();
        let prepared = self.readiness.prepared.borrow().clone();
        let missing: Vec<String> = store.into_iter().chain(engine).chain(prepared).collect();
        if missing.is_empty() {
            return text(StatusCode::OK, "ready\n".into());
        }
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", missing.join(", ")),
        )
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        metrics::concurrency(
            self.scheduler.under_way(),
            self.scheduler.concurrency_limit(),
        );
        metrics::process();
        let accept = headers.get_all(ACCEPT).iter();
        let format = Format::wanted(accept.filter_map(|value| value.to_str().ok()));
        let page = self.rendered.render(format, clock::now());
        let mut response = Response::new(Body::Full(page.into()));
        let format = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }
}

/// Whoever tries keys has to connect again for each.
fn closing(mut response: Response<Body>, version: Version) -> Response<Body> {
    if version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// The dashboard asks by itself; a browser that asked too would be in its way.
fn unauthorized(headers: &HeaderMap) -> Response<Body> {
    let mut response = error::unauthorized();
    if headers.contains_key(session::MARK) {
        return response;
    }
    // A browser then asks for a user and a password; the key is the password.
    let challenge = HeaderValue::from_static("Basic realm=\"hearth\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Full(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
