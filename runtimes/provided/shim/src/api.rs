//! The AWS Lambda Runtime API, version 2018-06-01, on loopback: what a bootstrap asks of us, as HTTP. Statuses and error types
//! are those of AWS's own runtime interface emulator; what may be asked when is `worker`'s business. `extensions` is the API of those
//! that run beside the bootstrap.

mod extensions;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TRAILER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use crate::fault::Fault;
use crate::settings::{Invocation, Settings};
use crate::wire::{self, CHUNK_MAX, Kind};
use crate::worker::{self, Call, Refusal, Worker};

/// Where it is on AWS, for those who wrote it down. Clients go by AWS_LAMBDA_RUNTIME_API.
const PORT: u16 = 9001;
const VERSION: &str = "2018-06-01";

/// 6 MiB and what AWS lets it be longer.
const ANSWER_MAX: usize = 6 * 1024 * 1024 + 100;
/// How much of a longer one is read and dropped, so that the bootstrap can read why it is refused.
const DROPPED_MAX: usize = 64 * 1024 * 1024;
/// Clients send up to 1 MiB of stack traces in one header.
const HEAD_MAX: usize = 2 * 1024 * 1024;
const CONTENT_TYPE_MAX: usize = 1024;
/// A bootstrap needs one connection; those it forgot to close must not be the end of us.
const CONNECTIONS: usize = 128;
/// After an accept that failed, for what it failed of to pass.
const PAUSE: Duration = Duration::from_millis(20);

const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

type Reply = Response<Full<Bytes>>;

/// At AWS's port if it is free: it may not be where containers share a network. Outside of a container it is left alone, since
/// there a bootstrap may outlive its shim, and would find another's in the same place.
pub async fn listen() -> std::io::Result<TcpListener> {
    let in_container = std::process::id() == 1;
    if in_container && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

pub async fn serve(listener: TcpListener, worker: Rc<Worker>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let worker = worker.clone();
        spawn_local(async move {
            connection(stream, worker).await;
            drop(place);
        });
    }
}

/// How it ends shows in what was asked over it.
async fn connection(stream: TcpStream, worker: Rc<Worker>) {
    drop(stream.set_nodelay(true));
    let handle = service_fn(move |request| {
        let worker = worker.clone();
        async move { Ok::<_, Infallible>(handle(worker, request).await) }
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), handle);
    drop(served.await);
}

async fn handle(worker: Rc<Worker>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let what = match parts.as_slice() {
        [VERSION, what @ ..] => what,
        [extensions::VERSION, "extension", what @ ..] => {
            return extensions::handle(worker, what, request).await;
        }
        [extensions::LOGS_VERSION, "logs"] => return extensions::no_logs(&request, "Logs"),
        [extensions::TELEMETRY_VERSION, "telemetry"] => {
            return extensions::no_logs(&request, "Telemetry");
        }
        _ => return text(StatusCode::NOT_FOUND, "404 page not found"),
    };
    let method = request.method().clone();
    match (method, what) {
        (Method::GET, ["ping"]) => text(StatusCode::OK, "pong"),
        (Method::GET, ["runtime", "invocation", "next"]) => match worker.next().await {
            Ok((invocation, settings)) => event(invocation, &settings),
            Err(refusal) => refused(refusal),
        },
        (Method::POST, ["runtime", "invocation", id, "response"]) => {
            answered(worker, (*id).to_owned(), request).await
        }
        (Method::POST, ["runtime", "invocation", id, "error"]) => {
            failed(worker, (*id).to_owned(), request).await
        }
        (Method::POST, ["runtime", "init", "error"]) => init_failed(worker, request).await,
        (_, ["ping"] | ["runtime", "invocation", "next"] | ["runtime", "init", "error"])
        | (_, ["runtime", "invocation", _, "response" | "error"]) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// The answer to `next`.
fn event(invocation: Invocation, settings: &Settings) -> Reply {
    let kind = if invocation.raw {
        "application/octet-stream"
    } else {
        "application/json"
    };
    let said = |key: &str| match invocation.extra.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(ascii(&other.to_string())),
    };
    let arn = said("invoked_function_arn").unwrap_or_else(|| settings.function_arn.clone());
    let headers = [
        ("content-type", Some(kind.to_owned())),
        (
            "lambda-runtime-aws-request-id",
            Some(invocation.request_id.clone()),
        ),
        (
            "lambda-runtime-deadline-ms",
            Some(invocation.deadline_ms.to_string()),
        ),
        ("lambda-runtime-invoked-function-arn", Some(arn)),
        ("lambda-runtime-trace-id", said("trace_id")),
        ("traceparent", said("traceparent")),
        ("tracestate", said("tracestate")),
        ("lambda-runtime-client-context", said("client_context")),
        ("lambda-runtime-cognito-identity", said("identity")),
    ];
    let mut reply = Response::new(Full::new(invocation.payload));
    for (name, value) in headers {
        // What cannot be a header is not there; nothing Hearth sends is like that.
        let value = value.and_then(|value| HeaderValue::from_maybe_shared(Bytes::from(value)).ok());
        if let Some(value) = value {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

/// JSON as clients can read it from a header: some end at the first character that is not ASCII.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// In a task of its own: a bootstrap that hangs up must not leave the worker in the middle of an answer.
async fn answered(worker: Rc<Worker>, id: String, request: Request<Incoming>) -> Reply {
    let streaming = match request.headers().get(RESPONSE_MODE) {
        None => false,
        Some(mode) if mode.as_bytes().eq_ignore_ascii_case(b"buffered") => false,
        Some(mode) if mode.as_bytes().eq_ignore_ascii_case(b"streaming") => true,
        Some(mode) => {
            return error(
                StatusCode::BAD_REQUEST,
                "InvalidFunctionResponseMode",
                &format!("{RESPONSE_MODE} has an invalid value: {mode:?}"),
            );
        }
    };
    let call = match worker.begin(&id) {
        Ok(call) => call,
        Err(refusal) => return refused(refusal),
    };
    let work = async move {
        if streaming {
            stream(&worker, call, request).await
        } else {
            buffered(&worker, call, request.into_body()).await
        }
    };
    in_a_task(work).await
}

async fn buffered(worker: &Worker, call: Call, body: Incoming) -> Reply {
    match collect(body).await {
        Collected::Whole(body) => {
            // The API does not say what the bytes are.
            let raw = worker::json_of(&body).is_err();
            let flags = if raw { wire::RAW } else { 0 };
            worker.finish(call, Kind::ResponseEnd, flags, &body).await;
            accepted()
        }
        Collected::TooLong => {
            let text = format!(
                "Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."
            );
            let fault = Fault::new("Function.ResponseSizeTooLarge", text);
            worker.finish_with(call, &fault).await;
            error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &format!("Exceeded maximum allowed payload size ({ANSWER_MAX} bytes)."),
            )
        }
        Collected::CutShort => {
            worker.take_back(call);
            cut_short()
        }
    }
}

async fn stream(worker: &Worker, call: Call, request: Request<Incoming>) -> Reply {
    let (head, mut body) = request.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.map_or("application/octet-stream".into(), String::from_utf8_lossy);
    let kind: String = kind.chars().take(CONTENT_TYPE_MAX).collect();
    let announced = announces_errors(&head.headers);
    let head = json!({ "content_type": kind }).to_string();
    let mut begun = false;
    let mut trailers = HeaderMap::new();
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let fault = Fault::new(
                "Runtime.TruncatedResponse",
                "The streamed response was cut short",
            );
            worker.finish_with(call, &fault).await;
            return cut_short();
        };
        match frame.into_data() {
            Ok(data) => {
                if announced && broken.is_none() {
                    broken = written_as_data(&data);
                }
                // It may go on; nobody can make anything of that.
                if broken.is_some() {
                    continue;
                }
                if !begun && !data.is_empty() {
                    begun = true;
                    worker
                        .part(&call, Kind::ResponseHead, head.as_bytes())
                        .await;
                }
                for piece in data.chunks(CHUNK_MAX) {
                    worker.part(&call, Kind::ResponseChunk, piece).await;
                }
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    if let Some(fault) = trailing(&trailers).or(broken) {
        worker.finish_with(call, &fault).await;
        return accepted();
    }
    if !begun {
        worker
            .part(&call, Kind::ResponseHead, head.as_bytes())
            .await;
    }
    worker.finish(call, Kind::ResponseEnd, 0, b"").await;
    accepted()
}

/// What went wrong while the answer was streamed, as its trailers say.
fn trailing(trailers: &HeaderMap) -> Option<Fault> {
    let kind = trailers.get(ERROR_TYPE)?.to_str().ok();
    let body = trailers.get(ERROR_BODY).map(HeaderValue::as_bytes);
    Some(trailed(kind, body.unwrap_or_default()))
}

fn announces_errors(headers: &HeaderMap) -> bool {
    let mut announced = headers.get_all(TRAILER).iter();
    announced.any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names
            .map(str::trim)
            .any(|name| name.eq_ignore_ascii_case(ERROR_TYPE))
    })
}

/// AWS's client for Rust announces trailers and then writes them as a piece of the answer: as a caller's data they would be noise.
fn written_as_data(piece: &[u8]) -> Option<Fault> {
    let text = std::str::from_utf8(piece).ok()?.strip_suffix("\r\n")?;
    let (first, second) = text.split_once("\r\n")?;
    let value = |line: &str, wanted: &str| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
    };
    let (kind, body) = (value(first, ERROR_TYPE)?, value(second, ERROR_BODY)?);
    Some(trailed(Some(&kind), body.as_bytes()))
}

fn trailed(kind: Option<&str>, body: &[u8]) -> Fault {
    // What is not base64 is shown as it is.
    let decoded = STANDARD.decode(body).unwrap_or_else(|_| body.to_vec());
    Fault::reported(kind, &decoded)
}

async fn failed(worker: Rc<Worker>, id: String, request: Request<Incoming>) -> Reply {
    let call = match worker.begin(&id) {
        Ok(call) => call,
        Err(refusal) => return refused(refusal),
    };
    in_a_task(async move {
        let kind = error_type(request.headers());
        match collect(request.into_body()).await {
            Collected::Whole(body) => {
                let fault = Fault::reported(kind.as_deref(), &body);
                worker.finish_with(call, &fault).await;
                accepted()
            }
            Collected::TooLong => {
                let fault = Fault::new(kind.as_deref().unwrap_or("Runtime.Unknown"), "");
                worker.finish_with(call, &fault).await;
                accepted()
            }
            Collected::CutShort => {
                worker.take_back(call);
                cut_short()
            }
        }
    })
    .await
}

async fn init_failed(worker: Rc<Worker>, request: Request<Incoming>) -> Reply {
    in_a_task(async move {
        let kind = error_type(request.headers());
        let fault = match collect(request.into_body()).await {
            Collected::Whole(body) => Fault::reported(kind.as_deref(), &body),
            Collected::TooLong => Fault::new(kind.as_deref().unwrap_or("Runtime.Unknown"), ""),
            Collected::CutShort => return cut_short(),
        };
        match worker.init_failed(&fault).await {
            Ok(()) => accepted(),
            Err(refusal) => refused(refusal),
        }
    })
    .await
}

fn error_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(ERROR_TYPE)?.to_str().ok()?;
    Some(kind.to_owned())
}

enum Collected {
    Whole(Bytes),
    TooLong,
    CutShort,
}

async fn collect(mut body: Incoming) -> Collected {
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Collected::CutShort;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= ANSWER_MAX {
            whole.extend_from_slice(&data);
        } else {
            whole = Vec::new();
        }
        if length > DROPPED_MAX {
            break;
        }
    }
    if length > ANSWER_MAX {
        Collected::TooLong
    } else {
        Collected::Whole(whole.into())
    }
}

async fn in_a_task(work: impl Future<Output = Reply> + 'static) -> Reply {
    match spawn_local(work).await {
        Ok(reply) => reply,
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

fn accepted() -> Reply {
    document(StatusCode::ACCEPTED, &json!({ "status": "OK" }))
}

fn cut_short() -> Reply {
    error(
        StatusCode::BAD_REQUEST,
        "TruncatedHTTPRequest",
        "HTTP request detected as truncated",
    )
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::RequestId => error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
        Refusal::State => error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "State transition is not allowed",
        ),
    }
}

fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    document(
        status,
        &json!({ "errorMessage": message, "errorType": kind }),
    )
}

fn document(status: StatusCode, value: &Value) -> Reply {
    let mut reply = text(status, "");
    *reply.body_mut() = Full::new(Bytes::from(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, json);
    reply
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply
}
