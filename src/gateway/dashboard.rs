//! The dashboard's door: its pages for everybody who asks for them by a name it knows, signing in and out, and the keys that its
//! requests stand for. A session opens what its key opens, and only for requests of the dashboard itself.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::api::body::Body;
use crate::api::dashboard::assets;
use crate::api::dashboard::session::{self, Account};
use crate::api::error::{self, Problem};
use crate::api::room::Client;
use crate::clock;
use crate::domain::key::Grant;
use crate::gateway::body;
use crate::gateway::keys::{self, Failure};
use crate::gateway::screen::Seen;
use crate::gateway::service::Gateway;

/// A key and some JSON around it.
const SIGN_IN_MAX: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    key: String,
}

impl Gateway {
    /// What a request may do: by the key it carries, or by its session. Warm path: a request with a key is not looked at further.
    pub(super) fn admitted(
        &self,
        request: &Request<Incoming>,
        seen: &Seen<'_>,
    ) -> Result<Arc<Grant>, Failure> {
        match keys::admit(&self.keys, seen) {
            Err(Failure::Missing) => self.signed_in(request).ok_or(Failure::Missing),
            found => found,
        }
    }

    fn signed_in<B>(&self, request: &Request<B>) -> Option<Arc<Grant>> {
        let (headers, host) = (request.headers(), session::host(request));
        if !session::is_own(headers, host) || !session::is_known(host, &self.hosts) {
            return None;
        }
        let token = session::token(headers, host)?;
        let key = self.sessions.key(token, clock::now())?;
        self.keys.grant(&key)
    }

    pub(super) fn page(&self, request: &Request<Incoming>) -> Response<Body> {
        let host = session::host(request);
        match session::is_known(host, &self.hosts) {
            true => assets::answer(request.method(), request.uri().path(), request.headers()),
            false => error::refused(&Problem::UnknownHost(host.into())),
        }
    }

    /// `POST` signs in with a key, `GET` says who is, `DELETE` signs out.
    pub(super) async fn session(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let host = session::host(&request).to_owned();
        let mut response = if !session::is_known(&host, &self.hosts) {
            error::refused(&Problem::UnknownHost(host))
        } else if !session::is_own(request.headers(), &host) {
            error::refused(&Problem::CrossOrigin)
        } else {
            match *request.method() {
                Method::GET => match self.signed_in(&request) {
                    Some(grant) => account(&grant),
                    // No refusal: it was asked.
                    None => empty(),
                },
                Method::POST => self.sign_in(request, peer, &host).await,
                Method::DELETE => {
                    if let Some(token) = session::token(request.headers(), &host) {
                        self.sessions.end(token);
                    }
                    let mut response = empty();
                    set(&mut response, &session::cookie(&host, None, false));
                    response
                }
                _ => error::not_allowed(request.method(), request.uri().path()),
            }
        };
        let never = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, never);
        response
    }

    async fn sign_in(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        host: &str,
    ) -> Response<Body> {
        let (head, incoming) = request.into_parts();
        let (patience, room, client) = (self.body_timeout, &self.arriving, Client::Address(peer));
        let read = match body::read(incoming, SIGN_IN_MAX, patience, room, client).await {
            Ok(read) => read,
            Err(fault) => return error::refused(&Problem::of_body(&fault)),
        };
        let key = match serde_json::from_slice::<SignIn>(&read) {
            Ok(SignIn { key }) => key,
            Err(error) => {
                let (what, why) = ("{\"key\": \"…\"}", error.to_string());
                return error::refused(&Problem::Malformed { what, why });
            }
        };
        let grant = match keys::known(&self.keys, key.trim()) {
            Ok(grant) => grant,
            // Counted, and slowed down, like every other wrong key.
            Err(failure) => {
                return self
                    .turned_away(failure, peer, &head.headers, head.version)
                    .await;
            }
        };
        let token = self.sessions.begin(&grant.id, clock::now());
        // What is in front of Hearth may speak TLS for it; the browser knows.
        let origin = head.headers.get(http::header::ORIGIN);
        let secure = self.tls || origin.is_some_and(|o| o.as_bytes().starts_with(b"https://"));
        tracing::info!(%peer, key = grant.name, "signed in to the dashboard");
        let mut response = account(&grant);
        set(&mut response, &session::cookie(host, Some(&token), secure));
        response
    }
}

fn account(grant: &Grant) -> Response<Body> {
    let mut response = Response::new(Body::Full(error::to_json(&Account::of(grant))));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, error::JSON);
    response
}

fn empty() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn set(response: &mut Response<Body>, cookie: &str) {
    let cookie = HeaderValue::try_from(cookie).expect("a port and hexadecimal digits");
    response.headers_mut().insert(SET_COOKIE, cookie);
}
