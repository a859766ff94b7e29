//! Errors as AWS's clients read them: a status, the exception's name in `x-amzn-errortype`, and a JSON body whose key for the text is
//! `Message` for some exceptions and `message` for others. The one place that turns what other parts refuse into these.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;

use crate::api::body::Body;
use crate::api::error::{self, FieldFault, Problem};
use crate::api::lambda::bucket;
use crate::api::lambda::sigv4;
use crate::domain::id::RequestId;
use crate::domain::limits::PACKAGE_PACKED_MAX;

pub const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// How the body says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `Type` and `Message`.
    Upper,
    /// `Type` and `message`.
    Lower,
    /// `message` alone.
    Bare,
    /// `Message` alone.
    BareUpper,
}

const UNZIPPED: &str = "Unzipped size must be smaller than 262144000 bytes";

/// The limit that is a function's own.
pub const RESERVED: &str = "ReservedFunctionConcurrentInvocationLimitExceeded";

/// A request that was refused, or that cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// The exception's name.
    pub kind: &'static str,
    pub message: String,
    shape: Shape,
    /// Why a call was throttled.
    reason: Option<&'static str>,
}

impl Refusal {
    const fn new(status: StatusCode, kind: &'static str, message: String, shape: Shape) -> Self {
        Self {
            status,
            kind,
            message,
            shape,
            reason: None,
        }
    }

    fn lower(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, kind, message.into(), Shape::Lower)
    }

    fn bare(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, kind, message.into(), Shape::Bare)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        let (status, kind) = (StatusCode::NOT_FOUND, "ResourceNotFoundException");
        Self::new(status, kind, message.into(), Shape::Upper)
    }

    pub fn not_provisioned() -> Self {
        let message = "No Provisioned Concurrency Config found for this function";
        let kind = "ProvisionedConcurrencyConfigNotFoundException";
        Self::lower(StatusCode::NOT_FOUND, kind, message)
    }

    pub fn no_code_signing(arn: &str) -> Self {
        let message = format!(
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
        );
        let (status, kind) = (StatusCode::NOT_FOUND, "CodeSigningConfigNotFoundException");
        Self::new(status, kind, message, Shape::Upper)
    }

    /// One that is asked for itself, and not of a function.
    pub fn no_signing(arn: &str) -> Self {
        let message = format!("The Lambda code signing configuration {arn} can not be found.");
        let (status, kind) = (StatusCode::NOT_FOUND, "ResourceNotFoundException");
        Self::new(status, kind, message, Shape::BareUpper)
    }

    /// Code of which the signature is not known to be good.
    pub fn not_signed(function: &str) -> Self {
        let message = format!(
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for {function}."
        );
        let (status, kind) = (StatusCode::BAD_REQUEST, "CodeVerificationFailedException");
        Self::new(status, kind, message, Shape::Upper)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::lower(StatusCode::CONFLICT, "ResourceConflictException", message)
    }

    pub fn parameter(message: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::lower(status, "InvalidParameterValueException", message)
    }

    /// The same, where AWS leaves out whose fault it is.
    pub fn limit(message: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::bare(status, "InvalidParameterValueException", message)
    }

    /// A policy of so many bytes, with what was to be added.
    pub fn policy_too_long(size: usize, limit: usize) -> Self {
        let message = format!("The final policy size ({size}) is bigger than the limit ({limit}).");
        let status = StatusCode::BAD_REQUEST;
        Self::lower(status, "PolicyLengthExceededException", message)
    }

    /// What a parameter's form says; `faults` are AWS's sentences, one for each.
    pub fn validation(faults: &[String]) -> Self {
        let errors = if faults.len() == 1 { "error" } else { "errors" };
        let message = format!(
            "{} validation {errors} detected: {}",
            faults.len(),
            faults.join("; ")
        );
        Self::bare(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    /// A body that cannot be read.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::bare(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    pub fn content(message: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::lower(status, "InvalidRequestContentException", message)
    }

    pub fn stale() -> Self {
        let message = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id";
        let status = StatusCode::PRECONDITION_FAILED;
        Self::lower(status, "PreconditionFailedException", message)
    }

    pub fn stale_policy() -> Self {
        let message = "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id";
        let status = StatusCode::PRECONDITION_FAILED;
        Self::lower(status, "PreconditionFailedException", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::lower(status, "RequestEntityTooLargeException", message)
    }

    /// A package that is too large before it is unpacked.
    fn large_zip() -> Self {
        let message = format!("Zipped size must be smaller than {PACKAGE_PACKED_MAX} bytes");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::bare(status, "RequestEntityTooLargeException", message)
    }

    /// `reason` is AWS's word for the limit.
    pub fn throttled(reason: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            reason: Some(reason),
            ..Self::lower(status, "TooManyRequestsException", message)
        }
    }

    pub fn denied(message: impl Into<String>) -> Self {
        let (status, kind) = (StatusCode::FORBIDDEN, "AccessDeniedException");
        Self::new(status, kind, message.into(), Shape::Upper)
    }

    /// Who may not call a function URL.
    pub fn forbidden() -> Self {
        let message = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";
        let (status, kind) = (StatusCode::FORBIDDEN, "AccessDeniedException");
        Self::new(status, kind, message.into(), Shape::BareUpper)
    }

    /// The platform's fault, and worth another attempt.
    pub fn service(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "ServiceException", message.into(), Shape::Upper)
    }

    /// One of AWS's exceptions for what is wrong around a function, all of them 502.
    pub fn around(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, kind, message.into(), Shape::Upper)
    }

    /// AWS has it and Hearth has not. The status is one that no client takes for a reason to try again.
    pub fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not supported by Hearth.");
        let status = StatusCode::NOT_IMPLEMENTED;
        Self::new(status, "NotImplementedException", message, Shape::Upper)
    }

    pub fn no_operation() -> Self {
        let message = "There is no such operation of AWS Lambda.";
        Self::bare(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }

    pub fn unknown_token() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::bare(
            StatusCode::FORBIDDEN,
            "UnrecognizedClientException",
            message,
        )
    }

    pub fn expired_token() -> Self {
        let message = "The security token included in the request is expired";
        Self::bare(StatusCode::FORBIDDEN, "ExpiredTokenException", message)
    }

    pub fn response(&self) -> Response<Body> {
        let mut body = match self.shape {
            Shape::Upper => json!({"Type": self.blame(), "Message": self.message}),
            Shape::Lower => json!({"Type": self.blame(), "message": self.message}),
            Shape::Bare => json!({"message": self.message}),
            Shape::BareUpper => json!({"Message": self.message}),
        };
        if let Some(reason) = self.reason {
            body["Reason"] = reason.into();
        }
        let mut response = Response::new(Body::Full(error::to_json(&body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, error::JSON);
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        let id = error::request_id_value(RequestId::generate());
        headers.insert(REQUEST_ID, id);
        // Of a reservation AWS does not say when there will be room.
        if self.status == StatusCode::TOO_MANY_REQUESTS && self.reason != Some(RESERVED) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn blame(&self) -> &'static str {
        match self.status.is_server_error() {
            true => "Service",
            false => "User",
        }
    }
}

impl From<sigv4::Error> for Refusal {
    fn from(error: sigv4::Error) -> Self {
        use sigv4::Error;
        let kind = match error {
            Error::Missing => "MissingAuthenticationTokenException",
            Error::Incomplete(_) => "IncompleteSignatureException",
            Error::Old { .. }
            | Error::Early { .. }
            | Error::Over { .. }
            | Error::Region(_)
            | Error::Service { .. }
            | Error::Terminator(_)
            | Error::Date { .. }
            | Error::Unsigned(_)
            | Error::Mismatch
            | Error::Altered
            | Error::Chunks => "InvalidSignatureException",
        };
        Self::bare(StatusCode::FORBIDDEN, kind, error.to_string())
    }
}

/// What came of code that is in a bucket.
impl From<bucket::Error> for Refusal {
    fn from(error: bucket::Error) -> Self {
        use bucket::Error;
        match error {
            Error::Ambiguous(_) => Self::parameter(format!("S3Key cannot be asked for: {error}.")),
            Error::Refused { code, message } => Self::parameter(format!(
                "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
            )),
            Error::Denied { object, message } => Self::denied(format!(
                "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for {object}. S3 Error Code: AccessDenied. S3 Error Message: {message}"
            )),
            // Sent it would be the zip that is too large; here AWS looks at what is in it alone.
            Error::TooLarge { .. } => Self::parameter(UNZIPPED),
            Error::NoRoom(problem) => problem.into(),
            // Nothing of it is the caller's doing, and it may pass.
            Error::Key { .. } | Error::Store { .. } => {
                Self::service(format!("The code could not be fetched: {error}."))
            }
        }
    }
}

/// What the parts below both faces refuse. What AWS has an own text for is said by whoever knows the function.
impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        match problem {
            Problem::Invalid(faults) if faults.iter().any(is_large_zip) => Self::large_zip(),
            Problem::Invalid(faults) => Self::parameter(invalid(&faults)),
            Problem::Malformed { .. } => Self::serialization(message),
            Problem::TooLarge { limit } => Self::too_large(format!(
                "Request must be smaller than {limit} bytes for the operation"
            )),
            Problem::BodyIncomplete(_) => {
                let status = StatusCode::REQUEST_TIMEOUT;
                Self::bare(status, "RequestTimeoutException", message)
            }
            Problem::Head(_)
            | Problem::BodyMalformed(_)
            | Problem::Encoding(_)
            | Problem::Type(_)
            | Problem::Expectation(_) => {
                Self::bare(problem.status(), "ValidationException", message)
            }
            Problem::Unauthorized => sigv4::Error::Missing.into(),
            Problem::TooManyWrongKeys { .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::bare(status, "ThrottlingException", message)
            }
            Problem::CrossOrigin
            | Problem::UnknownHost(_)
            | Problem::ScopeMissing(_)
            | Problem::FunctionNotAllowed { .. } => Self::denied(message),
            Problem::NoFunction(_)
            | Problem::NoKey(_)
            | Problem::NoVersion { .. }
            | Problem::NoAlias { .. }
            | Problem::NotProvisioned { .. }
            | Problem::NoUrl { .. }
            | Problem::NoLayer(_)
            | Problem::NoSigning(_)
            | Problem::NoInvocation(_)
            | Problem::NoDeadLetter(_)
            | Problem::NoPath(_)
            | Problem::Method { .. } => Self::not_found(message),
            Problem::NameTaken { name, .. } => {
                Self::conflict(format!("Function already exist: {name}"))
            }
            Problem::OtherCode { .. } => Self::parameter(message),
            Problem::Unsigned { function, .. } => Self::not_signed(&function),
            Problem::LayersTooLarge { size, limit } => Self::parameter(format!(
                "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. The actual size is {size} bytes."
            )),
            Problem::NoImage(uri) => Self::parameter(format!(
                "Source image {uri} does not exist. Provide a valid source image."
            )),
            Problem::RouteTaken { .. }
            | Problem::AliasTaken { .. }
            | Problem::UrlTaken { .. }
            | Problem::VersionInUse { .. }
            | Problem::SigningInUse(_)
            | Problem::TooMany { .. }
            | Problem::LastAdminKey => Self::conflict(message),
            Problem::Stale { .. } => Self::stale(),
            Problem::Contended => Self::conflict(
                "The operation cannot be performed at this time. An update is in progress for resource",
            ),
            Problem::IdempotencyInProgress
            | Problem::IdempotencyKeyReused
            | Problem::AnswerNotKept => Self::conflict(message),
            Problem::Busy
            | Problem::Untaken
            | Problem::TooManyEvents
            | Problem::TooManyIdempotencyKeys => {
                Self::throttled("CallerRateLimitExceeded", message)
            }
            Problem::StoreUnavailable
            | Problem::StoreUnsaid
            | Problem::DiskFull
            | Problem::CodeUnavailable
            | Problem::EngineUnavailable
            | Problem::Internal => Self::service(message),
        }
    }
}

/// Code that is too large as it was sent.
fn is_large_zip(fault: &FieldFault) -> bool {
    let large = fault.message.contains("over the limit");
    fault.field == "code" && large && !fault.message.contains("unpacked")
}

/// The first fault that has a text of AWS's; else all of them as Hearth says them.
fn invalid(faults: &[FieldFault]) -> String {
    let code = faults.iter().find(|fault| fault.field == "code");
    match code {
        Some(fault) if fault.message.contains("over the limit") => UNZIPPED.into(),
        Some(fault) if fault.message.contains("holds no file") => {
            "Uploaded file must be a non-empty zip".into()
        }
        Some(fault) if fault.message.contains("not a zip") || fault.message.contains("base64") => {
            "Could not unzip uploaded file. Please check your file, then try to upload again."
                .into()
        }
        Some(fault) => format!("The uploaded file {}.", fault.message),
        None => Problem::Invalid(faults.to_vec()).to_string(),
    }
}
