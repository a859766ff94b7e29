//! Function URLs: plain HTTP to a function or an alias, as on AWS. `config` makes them, `address` finds the one a request is for, and here it is
//! served: who may call, what browsers are told (`cors`), the event and the answer, which are those of `api::route`.

pub mod address;
pub mod config;
pub mod cors;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::lambda::auth::{self, Refused, Unproven};
use crate::api::lambda::errors::{ERROR_TYPE, REQUEST_ID, Refusal};
use crate::api::lambda::routes::Do;
use crate::api::lambda::{Lambda, body, invoke};
use crate::api::route::event::{self, At, Caller};
use crate::api::route::{self, Failed, Mode, Sender};
use crate::api::{error, trace};
use crate::clock;
use crate::domain::fault::Blame;
use crate::domain::function::LATEST;
use crate::domain::id::RequestId;
use crate::domain::invocation::Invocation;
use crate::domain::key::Grant;
use crate::domain::limits::PAYLOAD_MAX;
use crate::domain::trace::{Face, Trace};
use crate::domain::url::{AuthType, InvokeMode, Url};
use crate::scheduler::{Resolved, Target};

use self::address::Address;

/// A request to a URL that there is.
struct Asked<'a> {
    parts: &'a Parts,
    from: Sender,
    address: &'a Address<'a>,
    latest: &'a Arc<Target>,
    qualifier: &'a str,
    url: &'a Url,
}

impl Lambda {
    /// The answer to a request whose host or path names a function URL, or why it is not believed.
    pub async fn serve_url(
        &self,
        request: Request<axum::body::Body>,
        from: Sender,
    ) -> Result<Response<Body>, Unproven> {
        let (parts, body) = request.into_parts();
        let address = address::of(address::host(&parts), parts.uri.path());
        let Some(address) = address else {
            return Ok(nobody());
        };
        let Some(latest) = self.control.scheduler.at_url(&address.id) else {
            return Ok(match self.control.scheduler.was_url(&address.id) {
                true => Refusal::forbidden().response(),
                false => nobody(),
            });
        };
        let Some((qualifier, url)) = latest.published().url_of(&address.id) else {
            return Ok(nobody());
        };
        let (method, headers) = (&parts.method, &parts.headers);
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Ok(error::not_allowed(method, parts.uri.path()));
        }
        if let Some(cors) = &url.cors
            && let Some(answer) = cors::preflight(cors, method, headers)
        {
            return Ok(answer);
        }
        let asked = Asked {
            parts: &parts,
            from,
            address: &address,
            latest: &latest,
            qualifier,
            url,
        };
        let mut response = match answer(self, &asked, body).await {
            Ok(response) => response,
            Err(Refused::Body(refusal)) => refusal.response(),
            Err(Refused::Unproven(Unproven { doubt, .. })) => {
                let refusal = Refusal::forbidden();
                return Err(Unproven { doubt, refusal });
            }
        };
        if let Some(cors) = &url.cors {
            cors::add(cors, headers, response.headers_mut());
        }
        Ok(response)
    }
}

async fn answer(
    face: &Lambda,
    asked: &Asked<'_>,
    incoming: axum::body::Body,
) -> Result<Response<Body>, Refused> {
    let function = &asked.latest.function;
    // A signature covers the body, which may come in signed chunks.
    let (body, caller) = match asked.url.auth {
        AuthType::Anybody => {
            let does = Some(Do::Invoke);
            let read = body::read(face, asked.parts, incoming, does).await;
            (read?.0, None)
        }
        AuthType::Signed => {
            let admitted = auth::signed(face, asked.parts, incoming, Some(Do::Invoke)).await?;
            let scope = Do::Invoke.scope();
            let permitted = admitted.caller.may_with(scope, function.name.as_str());
            permitted.map_err(|_denied| Refusal::forbidden())?;
            (admitted.body, Some(admitted.caller))
        }
    };
    let resolved = resolve(face, asked).ok_or_else(Refusal::forbidden)?;
    let request_id = RequestId::generate();
    let scheduler = &face.control.scheduler;
    let trace = trace::begin(scheduler, &asked.parts.headers, Face::Url);
    let trace_id = trace
        .is_none()
        .then(|| trace::amzn_id(&asked.parts.headers));
    let said = (caller.as_deref(), trace.as_deref(), trace_id.as_deref());
    let payload = write(face, asked, request_id, said, &body);
    drop(body);
    if payload.len() > PAYLOAD_MAX {
        return Err(invoke::refusal(&route::too_large(&payload)).into());
    }
    let invocation = Invocation {
        request_id,
        payload,
        raw: false,
        measured: false,
        context: match &trace_id {
            Some(id) => trace::in_context(&resolved.context, id),
            None => resolved.context,
        },
        trace,
    };
    let mode = match asked.url.mode {
        None | Some(InvokeMode::Buffered) => Mode::Gathered,
        Some(InvokeMode::Stream) => Mode::Unread,
    };
    let whole = asked.parts.method != Method::HEAD;
    Ok(route::call(scheduler, &resolved.target, invocation, whole, mode, told).await)
}

/// What runs, and what its context says.
fn resolve(face: &Lambda, asked: &Asked<'_>) -> Option<Resolved> {
    let id = asked.latest.function.id.as_str();
    let qualifier = (asked.qualifier != LATEST).then_some(asked.qualifier);
    face.control.scheduler.resolve(id, qualifier).ok()
}

fn write(
    face: &Lambda,
    asked: &Asked<'_>,
    request_id: RequestId,
    (caller, trace, trace_id): (Option<&Grant>, Option<&Trace>, Option<&str>),
    body: &[u8],
) -> Bytes {
    let id = asked.url.id.as_str();
    event::write(&event::Request {
        head: asked.parts,
        trace,
        from: asked.from,
        at: At::Url {
            id,
            domain: &address::domain(face, id),
            path: asked.address.path,
            caller: caller.map(|grant| Caller {
                key: &grant.id,
                name: &grant.name,
                place: &face.settings.place,
            }),
            trace_id,
        },
        request_id,
        time: clock::wall(),
        body,
    })
}

/// What a caller is told of a call without an answer: whatever went wrong inside the function is one and the same.
fn told(failed: Failed) -> Response<Body> {
    let fault = match failed {
        Failed::Fault(fault) if fault.blame() != Blame::Function => fault,
        Failed::Fault(_) | Failed::Answer(_) => {
            let text = Bytes::from_static(b"Internal Server Error");
            let mut response = Response::new(Body::Full(text));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            // It is none, and AWS says so all the same.
            response.headers_mut().insert(CONTENT_TYPE, error::JSON);
            return response;
        }
    };
    invoke::refusal(&fault).response()
}

/// The answer where there is no URL, and was none.
fn nobody() -> Response<Body> {
    let mut response = Response::new(Body::Full(error::to_json(&json!({ "Message": null }))));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, error::JSON);
    headers.insert(
        ERROR_TYPE,
        HeaderValue::from_static("AccessDeniedException"),
    );
    let id = error::request_id_value(RequestId::generate());
    headers.insert(REQUEST_ID, id);
    response
}

#[cfg(test)]
mod tests;
