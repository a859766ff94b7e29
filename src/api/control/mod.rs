//! The native REST face, except calling one function, which `api::invoke` does without a router: functions, batches, logs, runtimes, keys,
//! and the document that describes it all. Called by the gateway with requests whose key is checked. Routes and the OpenAPI document
//! are made from the same lines, so they cannot say different things.

pub mod aliases;
pub mod asynchronous;
pub mod batch;
pub mod change;
pub mod checks;
pub mod code;
pub mod dead_letters;
pub mod deploy;
pub mod document;
mod download;
pub mod draft;
#[cfg(test)]
mod environment_tests;
pub mod execute;
pub mod functions;
pub mod image;
#[cfg(test)]
mod image_tests;
pub mod intake;
pub mod invocations;
pub mod keys;
pub mod layers;
pub mod locks;
pub mod logs;
pub mod openapi;
pub mod overview;
pub mod provisioned;
pub mod runtimes;
pub mod starts;
#[cfg(test)]
mod tests;
pub mod urls;
pub mod versions;
pub mod watch;
#[cfg(test)]
pub mod world;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::control::checks::Doctor;
use crate::api::control::deploy::Deploy;
use crate::api::control::intake::Room;
use crate::api::control::locks::Locks;
use crate::api::error::{self, Problem};
use crate::api::idempotency::Idempotency;
use crate::api::keys::Keys;
use crate::config;
use crate::domain::id::RequestId;
use crate::queue::Queue;
use crate::runtime::Catalog;
use crate::runtime::package::Places;
use crate::scheduler::Scheduler;
use crate::store::change::News;
use crate::store::{self, Store};

/// The paths that are written with a slash at their end; all others are written without.
const COLLECTIONS: [&str; 6] = [
    "/dead-letters",
    "/functions",
    "/invocations",
    "/keys",
    "/layers",
    "/runtimes",
];

/// Who may follow the overview at the same time.
const LOOKERS: usize = 64;

/// Everything the face works with, and the AWS face beside it. A cheap handle.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) runtimes: Arc<Catalog>,
    pub(super) deploy: Arc<Deploy>,
    pub(super) queue: Arc<Queue>,
    idempotency: Arc<Idempotency>,
    limits: Arc<config::Limits>,
    pub(super) room: Room,
    /// Of packages that go out.
    downloads: Room,
    pub(super) keys: Arc<Keys>,
    /// Held while a key is revoked.
    revoking: Arc<Mutex<()>>,
    /// Room for those who follow the overview.
    lookers: Arc<Semaphore>,
    doctor: Doctor,
    /// Ends the answers that would never end.
    stop: CancellationToken,
}

impl Control {
    pub fn new(
        queue: Arc<Queue>,
        store: Arc<dyn Store>,
        runtimes: Arc<Catalog>,
        keys: Arc<Keys>,
        limits: &config::Limits,
        places: Places,
        stop: CancellationToken,
    ) -> Self {
        let scheduler = queue.scheduler().clone();
        Self {
            idempotency: Idempotency::new(store.clone(), limits),
            deploy: Arc::new(Deploy {
                scheduler: scheduler.clone(),
                store,
                runtimes: runtimes.clone(),
                account_concurrency: limits.concurrency,
                places,
                unreserved_least: limits.unreserved_least(),
                reserving: tokio::sync::Mutex::default(),
                locks: Locks::default(),
                queues: queue.region().map(str::to_owned),
            }),
            scheduler,
            runtimes,
            queue,
            limits: Arc::new(limits.clone()),
            room: Room::default(),
            downloads: Room::default(),
            keys,
            revoking: Arc::default(),
            lookers: Arc::new(Semaphore::new(LOOKERS)),
            doctor: Doctor::new(|| Box::pin(std::future::ready(Vec::new()))),
            stop,
        }
    }

    /// The same, with somebody who looks at the machine.
    #[must_use]
    pub fn with_doctor(mut self, doctor: Doctor) -> Self {
        self.doctor = doctor;
        self
    }

    pub fn idempotency(&self) -> &Arc<Idempotency> {
        &self.idempotency
    }

    /// Makes everything the store has callable, and says how many functions that is. Before the first request.
    pub async fn restore(&self) -> Result<usize, store::Error> {
        self.deploy.restore().await
    }

    /// Keeps functions in step with the directories their code came from, for as long as it is polled.
    pub async fn watch_code_paths(self) {
        watch::run(self.deploy).await;
    }

    /// Makes what other instances wrote callable, and forgets what they deleted. Says how many functions that were.
    pub async fn take_over(&self, news: &News) -> Result<usize, store::Error> {
        self.deploy.take_over(news).await
    }
}

/// The face as a service. Paths are taken with and without a slash at their end.
pub fn router(control: Control) -> Router {
    let routes = routes()
        .route("/openapi.json", get(openapi::read))
        // No part of the API: its form is the dashboard's business.
        .route("/dashboard/events", get(overview::follow))
        .fallback(async |uri: Uri| Problem::NoPath(uri.path().into()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| Problem::Method {
            method: method.to_string(),
            path: uri.path().into(),
        })
        .with_state(control)
        .layer(middleware::map_response(with_request_id));
    // Around the router and not a layer in it: layers come after the route is chosen.
    Router::new().fallback_service(routes.map_request(canonical))
}

/// Where each operation of the document is; `openapi` lists the same, and tests compare them.
fn routes() -> Router<Control> {
    Router::new()
        .route("/functions/", get(functions::list).post(functions::create))
        .route(
            "/functions/{id}",
            get(functions::read)
                .put(functions::update)
                .delete(functions::delete),
        )
        .route("/functions/{id}/code", get(functions::code))
        .route(
            "/functions/{id}/versions",
            get(versions::list).post(versions::publish),
        )
        .route(
            "/functions/{id}/versions/{number}",
            get(versions::get).delete(versions::delete),
        )
        .route(
            "/functions/{id}/provisioned-concurrency",
            get(provisioned::get)
                .put(provisioned::put)
                .delete(provisioned::delete),
        )
        .route(
            "/functions/{id}/asynchronous",
            get(asynchronous::get)
                .put(asynchronous::put)
                .delete(asynchronous::delete),
        )
        .route(
            "/functions/{id}/urls",
            get(urls::list).put(urls::put).delete(urls::delete),
        )
        .route(
            "/functions/{id}/aliases",
            get(aliases::list).post(aliases::create),
        )
        .route(
            "/functions/{id}/aliases/{alias}",
            get(aliases::get)
                .put(aliases::update)
                .delete(aliases::delete),
        )
        .route("/functions/{id}/execute", post(execute::execute))
        .route("/functions/execute", post(batch::execute))
        .route("/invocations/", get(invocations::queue))
        .route("/invocations/{id}", get(invocations::read))
        .route("/dead-letters/", get(dead_letters::list))
        .route(
            "/dead-letters/{id}",
            get(dead_letters::read).delete(dead_letters::discard),
        )
        .route("/dead-letters/{id}/redrive", post(dead_letters::redrive))
        .route("/dead-letters/redrive", post(dead_letters::redrive_all))
        .route("/functions/{id}/logs", get(logs::read))
        .route("/functions/{id}/starts", get(starts::list))
        .route("/overview", get(overview::read))
        .route("/overview/checks", get(checks::read))
        .route("/functions/{id}/invocations", get(overview::calls))
        .route("/layers/", get(layers::list).post(layers::publish))
        .route("/layers/{id}", get(layers::read_one).delete(layers::delete))
        .route("/runtimes/", get(runtimes::list))
        .route("/keys/", get(keys::list).post(keys::create))
        .route("/keys/{id}", delete(keys::revoke))
}

async fn with_request_id(mut response: Response) -> Response {
    response
        .headers_mut()
        .entry(error::REQUEST_ID)
        .or_insert_with(|| error::request_id_value(RequestId::generate()));
    response
}

fn canonical(mut request: Request<Body>) -> Request<Body> {
    let Some(path) = canonical_path(request.uri().path()) else {
        return request;
    };
    let query = request.uri().query().map(|q| format!("?{q}"));
    let text = format!("{path}{}", query.unwrap_or_default());
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(text).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// The path as the routes are written, if that is another.
fn canonical_path(path: &str) -> Option<String> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let wanted = match COLLECTIONS.contains(&bare) {
        true => format!("{bare}/"),
        // More than one slash is not a way to write anything.
        false if bare.is_empty() || bare.ends_with('/') => return None,
        false => bare.into(),
    };
    (wanted != path).then_some(wanted)
}
