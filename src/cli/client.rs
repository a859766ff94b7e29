//! The control API as a client sees it: sends requests, and turns every answer that is not a success into an error a person can
//! act on. Owns the HTTP connection; the commands own what they ask for and what they make of it.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Reaching a server that is there takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No call takes longer: the longest function timeout, the longest wait for a worker, and some room.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1_200);
/// No answer is longer; a listing page or a function's answer is far below.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Where machines keep the authorities they trust: Debian and its kin, Red Hat and its kin, Alpine.
const MACHINE_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// How much of an upload is handed over at a time, so that progress is seen.
const UPLOAD_STEP: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url:?} is not an address of a server: {reason}")]
    BadUrl { url: String, reason: &'static str },
    #[error("the certificate authorities in {path} cannot be read: {reason}")]
    Authorities { path: PathBuf, reason: String },
    #[error("the key cannot be sent: it has characters no key has")]
    BadKey,
    /// The reason is the innermost one; what the HTTP client says around it helps nobody.
    #[error("cannot reach Hearth at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("the connection to {url} broke before the answer was complete")]
    Broken {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} did not answer within {} seconds", .after.as_secs())]
    Timeout { url: String, after: Duration },
    #[error("{url} answered more than {} MiB", ANSWER_MAX / (1024 * 1024))]
    TooLong { url: String },
    /// The server said no, in Hearth's words.
    #[error("{}", .0.text())]
    Refused(Box<Refusal>),
    /// Whatever answered does not speak like Hearth.
    #[error("{url} answered {status} in words that are not Hearth's: {text}")]
    NotHearth {
        url: String,
        status: StatusCode,
        text: String,
    },
    #[error("{url} answered something that was not expected")]
    Unexpected {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the request cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// The error body of the control API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    #[serde(skip)]
    pub status: u16,
    pub code: String,
    pub message: String,
    pub blame: String,
    pub retry: String,
    /// Which limit refused a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FieldFault>,
    /// The function's own error, as its runtime reported it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds the server asks to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// The message, with the type of the function's error before it.
    fn text(&self) -> String {
        match self.kind.as_deref() {
            Some(kind) if !kind.is_empty() => format!("{kind}: {}", self.message),
            _ => self.message.clone(),
        }
    }
}

/// A field of a request, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FieldFault {
    pub field: String,
    pub message: String,
}

#[derive(Deserialize)]
struct RefusalBody {
    error: Refusal,
}

/// A successful answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A successful answer whose body is still to come.
#[derive(Debug)]
pub struct Opened {
    pub headers: HeaderMap,
    pub body: Incoming,
}

/// A header as text; empty when it is not there.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name);
    value.and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// What a request carries.
#[derive(Debug, Default)]
pub struct Content {
    pub bytes: Bytes,
    /// Its content type; `None` when there is no body.
    pub kind: Option<&'static str>,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// Moves as the bytes leave.
    pub progress: Option<indicatif::ProgressBar>,
}

impl Content {
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(value).map_err(Error::Encode)?.into();
        Ok(Self {
            bytes,
            kind: Some("application/json"),
            ..Self::default()
        })
    }
}

#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Upload>,
    base: String,
    key: Option<String>,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Client {
    pub fn new(url: &str, key: Option<String>) -> Result<Self, Error> {
        Self::trusting(url, key, None)
    }

    /// One that trusts servers with certificates of the authorities in this file, or without one, those the machine trusts.
    pub fn trusting(url: &str, key: Option<String>, ca: Option<&Path>) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let roots = match url.starts_with("https://") {
            true => roots(ca)?,
            false => RootCertStore::empty(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has what the default versions need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            base: base(url)?,
            key,
            patience: ANSWER_TIMEOUT,
        })
    }

    /// The server's address, as messages and settings show it.
    pub fn url(&self) -> &str {
        &self.base
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.send(Method::GET, path, Content::default()).await?;
        self.parse(&answer)
    }

    pub fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body).map_err(|source| Error::Unexpected {
            url: self.base.clone(),
            source,
        })
    }

    /// Sends a request and waits for the whole answer. Anything but a success is an error.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<Answer, Error> {
        let opened = self.open(method, path, content).await?;
        let Opened { headers, body } = opened;
        let body = self.within(self.patience, self.collect(body)).await?;
        Ok(Answer { headers, body })
    }

    /// Sends a request and waits for the head of the answer only; the body comes as it is written. Anything but a success is
    /// an error.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<Opened, Error> {
        let request = self.request(method, path, content)?;
        let response = self.within(self.patience, self.start(request)).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(Opened {
                headers: head.headers,
                body,
            });
        }
        let body = self.within(self.patience, self.collect(body)).await?;
        Err(self.refused(&head, &body))
    }

    /// The next piece of an answer's body, `None` at its end.
    pub async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| self.broken(source.into()))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Whether something answers HTTP there, whatever it says.
    pub async fn answers(&self, within: Duration) -> bool {
        let Ok(request) = self.request(Method::GET, "/healthz", Content::default()) else {
            return false;
        };
        self.within(within, self.start(request)).await.is_ok()
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<Request<Upload>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some(kind) = content.kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        for (name, value) in content.headers {
            request = request.header(name, value);
        }
        // The address and every path are checked or escaped by now; what is left to be wrong is the key.
        request
            .body(Upload {
                rest: content.bytes,
                progress: content.progress,
            })
            .map_err(|_unprintable| Error::BadKey)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let timeout = |_elapsed| Error::Timeout {
            url: self.base.clone(),
            after: limit,
        };
        tokio::time::timeout(limit, work).await.map_err(timeout)?
    }

    async fn start(&self, request: Request<Upload>) -> Result<Response<Incoming>, Error> {
        self.http.request(request).await.map_err(|source| {
            let url = self.base.clone();
            if source.is_connect() {
                let reason = innermost(&source).to_string();
                Error::Unreachable { url, reason }
            } else {
                self.broken(source.into())
            }
        })
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Error> {
        match Limited::new(body, ANSWER_MAX).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => Err(Error::TooLong {
                url: self.base.clone(),
            }),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn broken(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Broken {
            url: self.base.clone(),
            source,
        }
    }

    fn refused(&self, head: &http::response::Parts, body: &[u8]) -> Error {
        match serde_json::from_slice::<RefusalBody>(body) {
            Ok(RefusalBody { mut error }) if !error.message.is_empty() => {
                let wait = head.headers.get(RETRY_AFTER);
                error.status = head.status.as_u16();
                error.retry_after = wait.and_then(|v| v.to_str().ok()?.parse().ok());
                Error::Refused(Box::new(error))
            }
            _ => self.not_hearth(head.status, body),
        }
    }

    fn not_hearth(&self, status: StatusCode, body: &[u8]) -> Error {
        let text = String::from_utf8_lossy(body);
        let line = text.lines().find(|l| !l.trim().is_empty());
        Error::NotHearth {
            url: self.base.clone(),
            status,
            text: line.unwrap_or("nothing").trim().chars().take(120).collect(),
        }
    }
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner
}

/// A path of the API; parts that came from a person are escaped.
pub fn path(parts: &[&str]) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        escape(part, &mut path);
    }
    path
}

/// Percent-encodes everything a path segment or a query value could be misread by.
pub fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The authorities to trust.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    let path = match ca {
        Some(path) => path,
        None => {
            let there = MACHINE_ROOTS.iter().map(Path::new).find(|p| p.exists());
            there.unwrap_or(Path::new(MACHINE_ROOTS[0]))
        }
    };
    let failed = |reason: String| Error::Authorities {
        path: path.into(),
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(error.to_string()))?
        .collect();
    let mut roots = RootCertStore::empty();
    // A machine's list may have some that are too old to be understood.
    let (added, _) =
        roots.add_parsable_certificates(found.map_err(|error| failed(error.to_string()))?);
    match added {
        0 => Err(failed("there is no certificate in it".into())),
        _ => Ok(roots),
    }
}

/// Checks an address and drops the slash at its end.
fn base(url: &str) -> Result<String, Error> {
    let bad = |reason| Error::BadUrl {
        url: url.into(),
        reason,
    };
    let parsed: Uri = url.parse().map_err(|_invalid| bad("it cannot be read"))?;
    match parsed.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(bad("it must start with http:// or https://")),
    }
    if parsed.query().is_some() {
        return Err(bad("it has a query"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// A request's body: known length, handed over in steps.
#[derive(Debug)]
struct Upload {
    rest: Bytes,
    progress: Option<indicatif::ProgressBar>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.rest.has_remaining() {
            return Poll::Ready(None);
        }
        // Without anybody watching, one step is best.
        let step = match &self.progress {
            Some(bar) => {
                bar.inc(UPLOAD_STEP.min(self.rest.len()) as u64);
                UPLOAD_STEP.min(self.rest.len())
            }
            None => self.rest.len(),
        };
        let part = self.rest.split_to(step);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests;
