//! The AWS Lambda Extensions API, version 2020-01-01. The APIs that would send logs and telemetry to extensions are answered as AWS's own
//! emulator answers them: extensions that ask for either go on without.

use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::api::{
    Collected, Reply, accepted, collect, cut_short, document, error, in_a_task, text,
};
use crate::worker::Worker;
use crate::worker::extensions::{self, Denied};

pub const VERSION: &str = "2020-01-01";
pub const LOGS_VERSION: &str = "2020-08-15";
pub const TELEMETRY_VERSION: &str = "2022-07-01";

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: &str = "lambda-extension-identifier";
const EVENT_IDENTIFIER: &str = "lambda-extension-event-identifier";
const ERROR_TYPE: &str = "lambda-extension-function-error-type";
const FEATURES: &str = "lambda-extension-accept-feature";

pub async fn handle(worker: Rc<Worker>, what: &[&str], request: Request<Incoming>) -> Reply {
    match (request.method().clone(), what) {
        (Method::POST, ["register"]) => register(&worker, request).await,
        (Method::GET, ["event", "next"]) => {
            match worker.next_event(said(request.headers(), IDENTIFIER)).await {
                Ok(event) => told(&event),
                Err(denied) => refused(denied),
            }
        }
        (Method::POST, ["init", "error"]) => failed(worker, "InitError", request).await,
        (Method::POST, ["exit", "error"]) => failed(worker, "ExitError", request).await,
        (_, ["register"] | ["event", "next"] | ["init" | "exit", "error"]) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn register(worker: &Worker, request: Request<Incoming>) -> Reply {
    let name = said(request.headers(), NAME).to_owned();
    if name.is_empty() {
        let denied = Denied::new("Extension.InvalidExtensionName", "Empty extension name");
        return refused(denied);
    }
    let features = said(request.headers(), FEATURES).to_owned();
    let body = match collect(request.into_body()).await {
        Collected::Whole(body) => body,
        Collected::TooLong | Collected::CutShort => return cut_short(),
    };
    let events = match events(&body) {
        Ok(events) => events,
        Err(why) => return refused(Denied::new("InvalidRequestFormat", why)),
    };
    let (id, settings) = match worker.register(&name, &events) {
        Ok(registered) => registered,
        Err(denied) => return refused(denied),
    };
    let mut function = json!({
        "functionName": settings.function_name,
        "functionVersion": settings.function_version,
        "handler": settings.handler,
    });
    if features
        .split(',')
        .any(|feature| feature.trim() == "accountId")
    {
        let account = settings.function_arn.split(':').nth(4);
        function["accountId"] = account.unwrap_or_default().into();
    }
    with_header(document(StatusCode::OK, &function), IDENTIFIER, id)
}

fn events(body: &[u8]) -> Result<Vec<String>, String> {
    let asked: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let asked = asked.as_object().ok_or("the body is no object")?;
    let events = match asked.get("events") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(events)) => events.iter(),
        Some(_) => return Err("events is no list".into()),
    };
    let text = |event: &Value| event.as_str().map(str::to_owned);
    let texts: Option<Vec<String>> = events.map(text).collect();
    texts.ok_or_else(|| "events are texts".into())
}

fn told(event: &Value) -> Reply {
    let reply = document(StatusCode::OK, event);
    with_header(reply, EVENT_IDENTIFIER, extensions::new_id())
}

async fn failed(worker: Rc<Worker>, to: &'static str, request: Request<Incoming>) -> Reply {
    let headers = request.headers();
    let (id, kind) = (said(headers, IDENTIFIER), said(headers, ERROR_TYPE));
    let (id, kind) = (id.to_owned(), kind.to_owned());
    if !id.is_empty() && kind.is_empty() {
        let text = "Lambda-Extension-Function-Error-Type not found";
        return refused(Denied::new("Extension.MissingHeader", text));
    }
    in_a_task(async move {
        let body = match collect(request.into_body()).await {
            Collected::Whole(body) => body,
            Collected::TooLong => Bytes::new(),
            Collected::CutShort => return cut_short(),
        };
        match worker.extension_failed(&id, &kind, to, &body).await {
            Ok(()) => accepted(),
            Err(denied) => refused(denied),
        }
    })
    .await
}

pub fn no_logs(request: &Request<Incoming>, what: &str) -> Reply {
    if request.method() != Method::PUT {
        return text(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let (kind, message) = (
        format!("{what}.NotSupported"),
        format!("{what} API is not supported"),
    );
    error(StatusCode::ACCEPTED, &kind, &message)
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn with_header(mut reply: Reply, name: &'static str, value: String) -> Reply {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn refused(denied: Denied) -> Reply {
    error(StatusCode::FORBIDDEN, denied.kind, &denied.message)
}
