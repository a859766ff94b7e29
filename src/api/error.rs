//! Errors as the native face says them: one JSON shape, whatever went wrong. Every fault and every refusal has its status, its
//! stable code, whose fault it is and whether a retry is safe. Called by `invoke`, `control` and, for what never reaches
//! them, by the gateway.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::domain::fault::{Blame, Fault, Retry};
use crate::domain::id::{FunctionId, RequestId};
use crate::domain::key::{Denied, Scope};
use crate::domain::signing;
use crate::scheduler::Unresolved;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What every error answer looks like.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody<'a> {
    pub error: ErrorDetail<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail<'a> {
    /// Stable; branch on this.
    pub code: &'a str,
    /// For people.
    pub message: String,
    /// Whose fault it is: `client`, `function` or `platform`.
    pub blame: &'static str,
    /// `safe`: nothing ran, try again. `unsafe`: the handler may have run. `never`: it will fail the same way again.
    pub retry: &'static str,
    /// Which limit refused a call: `function_concurrency`, `reserved_concurrency`, `unreserved_concurrency`, `account_concurrency`,
    /// `line_full` or `arriving`; or which scope the key lacks: `admin`, `deploy` or `invoke`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<&'static str>,
    /// Everything that is wrong with the request, by field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub faults: &'a [FieldFault],
    /// The type of the error the function raised.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<&'a str>,
    /// Where the function raised it.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub stack: &'a [String],
    /// The end of what the function printed.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub log_tail: &'a str,
    #[schema(value_type = String)]
    pub request_id: RequestId,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldFault {
    /// The field of the body, the parameter of the query or the header.
    pub field: String,
    pub message: String,
}

impl FieldFault {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A request that was refused, or that the platform could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{}", invalid_text(.0))]
    Invalid(Vec<FieldFault>),
    #[error("the body is not {what}: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("the body is over the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive: {0}")]
    BodyIncomplete(String),
    #[error("the body is not written as HTTP has it: {0}")]
    BodyMalformed(String),
    #[error("the request's head is not valid: {0}")]
    Head(&'static str),
    #[error("the body must come as it is: there is no support for content-encoding {0:?}")]
    Encoding(String),
    #[error("the body must be JSON: content-type {0:?} is something else")]
    Type(String),
    #[error("there is no support for expect {0:?}")]
    Expectation(String),
    #[error("a page from elsewhere may not do this")]
    CrossOrigin,
    #[error(
        "{0:?} is not a name of this dashboard: use an address or localhost, or add the name to server.hosts"
    )]
    UnknownHost(String),
    #[error("too many wrong keys came from this address; a good one opens at any time")]
    TooManyWrongKeys {
        /// Seconds until the next may be tried.
        wait: u64,
    },
    #[error("a key is needed: send `Authorization: Bearer <key>`")]
    Unauthorized,
    #[error("this key may not do this: it needs the scope \"{}\"", .0.as_str())]
    ScopeMissing(Scope),
    #[error("this key has the scope \"{}\" for other functions, not for {function:?}", .scope.as_str())]
    FunctionNotAllowed { scope: Scope, function: String },
    #[error("there is no function {0:?}")]
    NoFunction(String),
    #[error("function {function:?} has no version or alias {qualifier:?}")]
    NoVersion { function: String, qualifier: String },
    #[error("function {function:?} has no alias {alias:?}")]
    NoAlias { function: String, alias: String },
    #[error("nothing is provisioned for {qualifier:?} of function {function:?}")]
    NotProvisioned { function: String, qualifier: String },
    #[error("{qualifier:?} of function {function:?} has a URL already")]
    UrlTaken { function: String, qualifier: String },
    #[error("{qualifier:?} of function {function:?} has no URL")]
    NoUrl { function: String, qualifier: String },
    #[error("there is no layer version {0:?}")]
    NoLayer(String),
    #[error("function {function:?} has an alias {alias:?} already")]
    AliasTaken { function: String, alias: String },
    /// These aliases point at it; of many the text names the first.
    #[error("{text}")]
    VersionInUse { text: String, by: Vec<String> },
    #[error("a function has {most} {what} at most: delete some")]
    TooMany { what: &'static str, most: usize },
    #[error("the function's code is {current:?}, not {given:?}")]
    OtherCode { given: String, current: String },
    #[error(
        "the function's code and its layers hold {size} bytes, unpacked, over the limit of {limit}"
    )]
    LayersTooLarge { size: u64, limit: u64 },
    #[error("there is no code signing configuration {0}")]
    NoSigning(signing::Id),
    #[error("functions have the code signing configuration {0}")]
    SigningInUse(signing::Id),
    /// `field` is what brought it.
    #[error(
        "function {function:?} has a code signing configuration that enforces signatures, and none can be checked here"
    )]
    Unsigned {
        function: String,
        field: &'static str,
    },
    #[error("there is no image {0:?} on this server")]
    NoImage(String),
    #[error("there is no key {0:?}")]
    NoKey(String),
    #[error(
        "this is the last key without an end that can make others; `force=true` revokes it all the same"
    )]
    LastAdminKey,
    #[error("there is no invocation {0:?}, or it is forgotten")]
    NoInvocation(String),
    #[error("there is no dead letter {0:?}")]
    NoDeadLetter(String),
    #[error("there is nothing at {0:?}")]
    NoPath(String),
    #[error("{path:?} does not take {method}")]
    Method { method: String, path: String },
    #[error("the name {name:?} is taken by function {by}")]
    NameTaken { name: String, by: FunctionId },
    #[error("the route {route:?} is taken by function {by}")]
    RouteTaken {
        route: String,
        /// The other function, as its owner knows it.
        by: String,
    },
    /// The change was made from a revision that is not the current one. `condition`: it was named by If-Match.
    #[error("the function is at another revision than {given}: read it again")]
    Stale { given: String, condition: bool },
    #[error("the function was changed by others again and again while this change was made")]
    Contended,
    #[error("too many changes are being made, or too much code is being read, at the same time")]
    Busy,
    #[error("answers that this client has not taken hold all the memory they may")]
    Untaken,
    #[error("too many asynchronous calls are waiting")]
    TooManyEvents,
    #[error("the first call with this idempotency key is still running")]
    IdempotencyInProgress,
    #[error("was given before, with another payload or for another kind of call")]
    IdempotencyKeyReused,
    #[error(
        "the call with this idempotency key was run; its answer was too large to be kept, and it is not run again"
    )]
    AnswerNotKept,
    #[error("too many idempotency keys are remembered")]
    TooManyIdempotencyKeys,
    #[error("the store cannot do this now")]
    StoreUnavailable,
    #[error("the store did not say whether it kept the call: it may be run")]
    StoreUnsaid,
    #[error("the disk the store is on is full")]
    DiskFull,
    #[error("the code of this function is not in the store")]
    CodeUnavailable,
    #[error("the engine cannot be asked for the image now")]
    EngineUnavailable,
    #[error("an internal error; the server's log says more")]
    Internal,
}

impl Problem {
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Problem::Invalid(vec![FieldFault::new(field, message)])
    }

    /// Why a body could not be read, beside a call.
    pub fn of_body(fault: &Fault) -> Self {
        match fault {
            Fault::BodyMalformed(why) => Problem::BodyMalformed(why.clone()),
            Fault::BodyIncomplete(why) => Problem::BodyIncomplete(why.clone()),
            fault => Problem::BodyIncomplete(fault.to_string()),
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Problem::Invalid(_)
            | Problem::Malformed { .. }
            | Problem::LayersTooLarge { .. }
            | Problem::NoImage(_)
            | Problem::Unsigned { .. }
            | Problem::Head(_) => StatusCode::BAD_REQUEST,
            Problem::Encoding(_) | Problem::Type(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Problem::Expectation(_) => StatusCode::EXPECTATION_FAILED,
            Problem::CrossOrigin => StatusCode::FORBIDDEN,
            Problem::UnknownHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Problem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::BodyIncomplete(_) => StatusCode::REQUEST_TIMEOUT,
            Problem::BodyMalformed(_) => StatusCode::BAD_REQUEST,
            Problem::Unauthorized => StatusCode::UNAUTHORIZED,
            Problem::TooManyWrongKeys { .. } | Problem::Untaken => StatusCode::TOO_MANY_REQUESTS,
            Problem::ScopeMissing(_) | Problem::FunctionNotAllowed { .. } => StatusCode::FORBIDDEN,
            Problem::NoFunction(_)
            | Problem::NoInvocation(_)
            | Problem::NoVersion { .. }
            | Problem::NoAlias { .. }
            | Problem::NoDeadLetter(_)
            | Problem::NotProvisioned { .. }
            | Problem::NoUrl { .. }
            | Problem::NoLayer(_)
            | Problem::NoSigning(_)
            | Problem::NoKey(_)
            | Problem::NoPath(_) => StatusCode::NOT_FOUND,
            Problem::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Problem::Stale {
                condition: true, ..
            } => StatusCode::PRECONDITION_FAILED,
            Problem::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::IdempotencyInProgress
            | Problem::AnswerNotKept
            | Problem::NameTaken { .. }
            | Problem::RouteTaken { .. }
            | Problem::LastAdminKey
            | Problem::AliasTaken { .. }
            | Problem::UrlTaken { .. }
            | Problem::VersionInUse { .. }
            | Problem::SigningInUse(_)
            | Problem::TooMany { .. }
            | Problem::OtherCode { .. }
            | Problem::Stale { .. }
            | Problem::Contended => StatusCode::CONFLICT,
            Problem::Busy
            | Problem::TooManyEvents
            | Problem::TooManyIdempotencyKeys
            | Problem::StoreUnavailable
            | Problem::StoreUnsaid
            | Problem::EngineUnavailable
            | Problem::CodeUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Problem::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Problem::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable; clients may branch on it.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::Invalid(_) => "invalid_request",
            Problem::Malformed { .. } => "malformed_body",
            Problem::Head(_) => "malformed_head",
            Problem::Encoding(_) => "unsupported_encoding",
            Problem::Type(_) => "unsupported_type",
            Problem::Expectation(_) => "unsupported_expectation",
            Problem::CrossOrigin => "cross_origin",
            Problem::UnknownHost(_) => "unknown_host",
            Problem::TooLarge { .. } => "body_too_large",
            Problem::BodyIncomplete(_) => "body_incomplete",
            Problem::BodyMalformed(_) => "body_malformed",
            Problem::Unauthorized => "unauthorized",
            Problem::TooManyWrongKeys { .. } => "too_many_wrong_keys",
            Problem::ScopeMissing(_) => "scope_missing",
            Problem::FunctionNotAllowed { .. } => "function_not_allowed",
            Problem::LastAdminKey => "last_admin_key",
            Problem::NoFunction(_)
            | Problem::NoInvocation(_)
            | Problem::NoVersion { .. }
            | Problem::NoAlias { .. }
            | Problem::NoDeadLetter(_)
            | Problem::NoUrl { .. }
            | Problem::NoLayer(_)
            | Problem::NoSigning(_)
            | Problem::NoKey(_)
            | Problem::NoPath(_) => "not_found",
            Problem::NotProvisioned { .. } => "not_provisioned",
            Problem::AliasTaken { .. } => "alias_taken",
            Problem::UrlTaken { .. } => "url_taken",
            Problem::VersionInUse { .. } => "version_in_use",
            Problem::SigningInUse(_) => "signing_in_use",
            Problem::Unsigned { .. } => "code_not_signed",
            Problem::TooMany { .. } => "too_many",
            Problem::OtherCode { .. } => "other_code",
            Problem::LayersTooLarge { .. } => "layers_too_large",
            Problem::NoImage(_) => "no_image",
            Problem::Method { .. } => "method_not_allowed",
            Problem::NameTaken { .. } => "name_taken",
            Problem::RouteTaken { .. } => "route_taken",
            Problem::Stale { .. } => "stale_revision",
            Problem::Contended => "contended",
            Problem::Busy => "busy",
            Problem::Untaken => "untaken",
            Problem::TooManyEvents => "too_many_events",
            Problem::IdempotencyInProgress => "idempotency_in_progress",
            Problem::IdempotencyKeyReused => "idempotency_key_reused",
            Problem::AnswerNotKept => "answer_not_kept",
            Problem::TooManyIdempotencyKeys => "too_many_idempotency_keys",
            Problem::StoreUnavailable | Problem::StoreUnsaid => "store_unavailable",
            Problem::DiskFull => "disk_full",
            Problem::CodeUnavailable => "code_unavailable",
            Problem::EngineUnavailable => "engine_unavailable",
            Problem::Internal => "internal",
        }
    }

    pub fn blame(&self) -> Blame {
        if self.status().is_server_error() {
            Blame::Platform
        } else {
            Blame::Client
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Problem::BodyIncomplete(_)
            | Problem::Contended
            | Problem::Busy
            | Problem::Untaken
            | Problem::TooManyEvents
            | Problem::IdempotencyInProgress
            | Problem::TooManyIdempotencyKeys
            // A change that was written all the same is found again by its name or its revision.
            | Problem::StoreUnavailable
            | Problem::DiskFull
            | Problem::EngineUnavailable
            | Problem::CodeUnavailable => Retry::Safe,
            Problem::StoreUnsaid | Problem::Internal => Retry::Unsafe,
            Problem::Invalid(_)
            | Problem::Malformed { .. }
            | Problem::Head(_)
            | Problem::Encoding(_)
            | Problem::Type(_)
            | Problem::Expectation(_)
            | Problem::CrossOrigin
            | Problem::UnknownHost(_)
            | Problem::TooLarge { .. }
            | Problem::Unauthorized
            | Problem::TooManyWrongKeys { .. }
            | Problem::ScopeMissing(_)
            | Problem::FunctionNotAllowed { .. }
            | Problem::IdempotencyKeyReused
            | Problem::AnswerNotKept
            | Problem::LastAdminKey
            | Problem::NoKey(_)
            | Problem::NoFunction(_)
            | Problem::NoVersion { .. }
            | Problem::NoAlias { .. }
            | Problem::NotProvisioned { .. }
            | Problem::NoUrl { .. }
            | Problem::NoLayer(_)
            | Problem::NoSigning(_)
            | Problem::SigningInUse(_)
            | Problem::Unsigned { .. }
            | Problem::AliasTaken { .. }
            | Problem::UrlTaken { .. }
            | Problem::VersionInUse { .. }
            | Problem::TooMany { .. }
            | Problem::OtherCode { .. }
            | Problem::LayersTooLarge { .. }
            | Problem::NoImage(_)
            | Problem::NoInvocation(_)
            | Problem::NoDeadLetter(_)
            | Problem::NoPath(_)
            | Problem::Method { .. }
            | Problem::NameTaken { .. }
            | Problem::RouteTaken { .. }
            | Problem::BodyMalformed(_)
            | Problem::Stale { .. } => Retry::Never,
        }
    }

    /// What is wrong, by field.
    pub fn faults(&self) -> Vec<FieldFault> {
        let field = |name: &str| vec![FieldFault::new(name, self.to_string())];
        match self {
            Problem::Invalid(faults) => faults.clone(),
            Problem::NameTaken { .. } => field("name"),
            Problem::RouteTaken { .. } => field("route"),
            Problem::AliasTaken { .. } => field("name"),
            Problem::OtherCode { .. } => field("code_sha256"),
            Problem::LayersTooLarge { .. } => field("layers"),
            Problem::NoImage(_) => field("image"),
            Problem::Unsigned { field: name, .. } => field(name),
            Problem::Stale {
                condition: true, ..
            } => field("if-match"),
            Problem::Stale { .. } => field("revision"),
            Problem::IdempotencyKeyReused => field("idempotency-key"),
            _ => Vec::new(),
        }
    }

    pub fn detail<'a>(&self, faults: &'a [FieldFault], request_id: RequestId) -> ErrorDetail<'a> {
        ErrorDetail {
            code: self.code(),
            message: self.to_string(),
            blame: self.blame().as_str(),
            retry: self.retry().as_str(),
            reason: match self {
                Problem::ScopeMissing(scope) | Problem::FunctionNotAllowed { scope, .. } => {
                    Some(scope.as_str())
                }
                _ => None,
            },
            faults,
            kind: None,
            stack: &[],
            log_tail: "",
            request_id,
        }
    }

    pub fn response(&self, request_id: RequestId) -> Response<Bytes> {
        let faults = self.faults();
        let body = ErrorBody {
            error: self.detail(&faults, request_id),
        };
        let mut response = Response::new(to_json(&body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(REQUEST_ID, request_id_value(request_id));
        if *self == Problem::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Problem::TooManyWrongKeys { wait } = self {
            headers.insert(RETRY_AFTER, (*wait).into());
        }
        // Nobody is told to come back with what may have been done.
        let soon = self.retry() == Retry::Safe
            && matches!(
                self.status(),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE
            );
        if soon || *self == Problem::IdempotencyInProgress {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Unresolved> for Problem {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::NoFunction(name) => Problem::NoFunction(name),
            Unresolved::NoQualifier {
                function,
                qualifier,
            } => Problem::NoVersion {
                function,
                qualifier,
            },
            Unresolved::Differ { .. } => Problem::invalid("qualifier", unresolved.to_string()),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Scope(scope) => Problem::ScopeMissing(scope),
            Denied::Function { scope, function } => Problem::FunctionNotAllowed { scope, function },
        }
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.response(RequestId::generate())
            .map(axum::body::Body::from)
    }
}

/// The answer to a request without a good key.
pub fn unauthorized() -> Response<Body> {
    Problem::Unauthorized
        .response(RequestId::generate())
        .map(Body::Full)
}

/// The answer to a request that is refused before a face sees it.
pub fn refused(problem: &Problem) -> Response<Body> {
    problem.response(RequestId::generate()).map(Body::Full)
}

/// The answer to a path that means nothing.
pub fn not_found(path: &str) -> Response<Body> {
    refused(&Problem::NoPath(path.into()))
}

/// The answer to a method that is for nobody here.
pub fn not_allowed(method: &Method, path: &str) -> Response<Body> {
    let (method, path) = (method.to_string(), path.into());
    Problem::Method { method, path }
        .response(RequestId::generate())
        .map(Body::Full)
}

/// The answer to a request whose body is too large to be read.
pub fn too_large(limit: usize) -> Response<Body> {
    Problem::TooLarge { limit }
        .response(RequestId::generate())
        .map(Body::Full)
}

/// The status of a call that has no answer.
pub fn fault_status(fault: &Fault) -> StatusCode {
    match fault {
        Fault::Loading(fault) => fault_status(fault),
        Fault::NotFound(_) | Fault::NoVersion { .. } => StatusCode::NOT_FOUND,
        Fault::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::PayloadNotJson(_) | Fault::BodyMalformed(_) => StatusCode::BAD_REQUEST,
        // A client that reads this answer is still there, so it was too slow.
        Fault::BodyIncomplete(_) => StatusCode::REQUEST_TIMEOUT,
        Fault::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        // Nobody reads this; access logs know the number.
        Fault::ClientGone => StatusCode::from_u16(499).expect("499 is a status"),
        Fault::Handler(_)
        | Fault::Init(_)
        | Fault::InitTimeout(_)
        | Fault::Exited { .. }
        | Fault::OutOfMemory { .. }
        | Fault::Protocol(_) => StatusCode::BAD_GATEWAY,
        Fault::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        Fault::WaitedTooLong(_)
        | Fault::StartFailed(_)
        | Fault::CodeUnavailable(_)
        | Fault::EnvironmentUnreadable(_)
        | Fault::NoMemory(_)
        | Fault::PermitsLost
        | Fault::Draining
        | Fault::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the answer should say when to come back.
pub fn fault_retry_after(fault: &Fault) -> Option<HeaderValue> {
    retry_after(fault_status(fault))
}

/// The same for an answer of which only the status is told.
pub fn retry_after(status: StatusCode) -> Option<HeaderValue> {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
    .then(|| HeaderValue::from_static("1"))
}

/// A call's fault in the shape of this face.
pub fn fault_detail<'a>(
    fault: &'a Fault,
    log_tail: &'a str,
    request_id: RequestId,
) -> ErrorDetail<'a> {
    let report = match fault {
        Fault::Handler(report) | Fault::Init(report) => Some(report),
        _ => None,
    };
    let reason = match fault {
        Fault::Throttled { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    ErrorDetail {
        code: fault.code(),
        message: report.map_or_else(|| fault.to_string(), |r| r.message.clone()),
        blame: fault.blame().as_str(),
        retry: fault.retry().as_str(),
        reason,
        faults: &[],
        kind: report.map(|r| r.kind.as_str()),
        stack: report.map_or(&[], |r| &r.stack),
        log_tail,
        request_id,
    }
}

pub fn request_id_value(request_id: RequestId) -> HeaderValue {
    let mut buffer = [0; 36];
    HeaderValue::from_str(request_id.encode(&mut buffer)).expect("a UUID is ASCII")
}

/// For bodies this face writes itself, whose types cannot fail to be written.
pub fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("plain data with string keys")
        .into()
}

fn invalid_text(faults: &[FieldFault]) -> String {
    match faults {
        [] => "the request is not valid".into(),
        [one] => format!("{} {}", one.field, one.message),
        [first, rest @ ..] => format!(
            "{} {} (and {} more: see faults)",
            first.field,
            first.message,
            rest.len()
        ),
    }
}

#[cfg(test)]
mod tests;
