//! Code that lies in a bucket: the outbound client of the one store that the configuration names. Fetches an object, once, whole, within a bound
//! of size and one of time, into room that bodies share; whoever asked may try again. Bucket and key are only ever parts of a path: no other
//! host is asked, whatever they say, and no redirect is followed.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::utf8_percent_encode;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::control::intake::Room;
use crate::api::error::Problem;
use crate::api::lambda::sigv4::canonical::{PATH, STRICT};
use crate::api::lambda::sigv4::outgoing;
use crate::api::lambda::sigv4::presign::Signer;
use crate::api::webhook::{chain, outbound};
use crate::clock;
use crate::config;
use crate::domain::limits::PACKAGE_FETCHED_MAX;
use crate::telemetry::metrics;

const SERVICE: &str = "s3";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_MAX: usize = 4;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// What is read of an answer that is no object.
const ERROR_MAX: usize = 64 * 1024;
/// And told of it.
const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 512;

/// What a store says when it does not like who asks, which is not the doing of Hearth's own client.
const OURS: [&str; 9] = [
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "InvalidTokenId",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// A place in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

impl Object {
    /// Whether somebody on the way could take its path for another one's.
    fn is_ambiguous(&self) -> bool {
        let dots = |segment: &str| matches!(segment, "." | "..");
        self.key.split('/').any(dots) || dots(&self.bucket) || self.bucket.contains('/')
    }

    fn path(&self, prefix: &str) -> String {
        let key = utf8_percent_encode(&self.key, PATH);
        format!(
            "{prefix}/{}/{key}",
            utf8_percent_encode(&self.bucket, STRICT)
        )
    }

    fn query(&self) -> String {
        let version = self.version.as_deref();
        let version = version.map(|version| utf8_percent_encode(version, STRICT));
        version.map_or_else(String::new, |version| format!("versionId={version}"))
    }
}

/// Why there is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the key {0:?} has '.' or '..' between slashes")]
    Ambiguous(String),
    /// The store's words for what is wrong with what was asked for.
    #[error("the store refused it: {code}: {message}")]
    Refused { code: String, message: String },
    #[error("the store lets nobody read {object}: {message}")]
    Denied { object: String, message: String },
    #[error("the object has over {limit} bytes")]
    TooLarge { limit: usize },
    #[error("there is no room for the object")]
    NoRoom(Problem),
    /// The configuration, or the store, has to be seen to.
    #[error("the store does not take Hearth's key: {code}: {message}")]
    Key { code: String, message: String },
    #[error("the store {did}")]
    Store {
        /// In general, for whoever asked.
        did: String,
        /// And what the log says of it besides: of the way to the store, or in its own words.
        why: String,
    },
}

impl Error {
    fn store(did: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Store {
            did: did.into(),
            why: why.into(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no endpoint of a store")]
pub struct NoEndpoint(String);

#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    settings: config::S3,
    /// What every request goes to.
    scheme: String,
    host: String,
    /// What paths begin with.
    prefix: String,
}

impl Client {
    pub fn new(settings: &config::S3) -> Result<Self, NoEndpoint> {
        let wrong = || NoEndpoint(settings.service.endpoint.clone());
        let uri: Uri = settings.service.endpoint.parse().map_err(|_odd| wrong())?;
        let connector = outbound(
            HttpConnector::new(),
            CONNECT_TIMEOUT.min(settings.service.timeout),
        );
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self {
            http,
            settings: settings.clone(),
            scheme: uri.scheme_str().ok_or_else(wrong)?.to_owned(),
            host: uri.authority().ok_or_else(wrong)?.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// An object, with its room for as long as it is held.
    pub async fn fetch(
        &self,
        object: &Object,
        room: &Room,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        if object.is_ambiguous() {
            return Err(Error::Ambiguous(object.key.clone()));
        }
        let fetched = match self.may_read(&object.bucket) {
            true => self.get(object, room).await,
            false => Err(Error::Denied {
                object: object.to_string(),
                message: format!("aws.s3.buckets does not have the bucket {}", object.bucket),
            }),
        };
        metrics::code_fetched(match &fetched {
            Ok(_) => "ok",
            Err(Error::Store { .. } | Error::Key { .. }) => "failed",
            Err(_) => "refused",
        });
        // Escaped: a key may have line breaks.
        let place = object.to_string();
        match &fetched {
            Err(error @ Error::Key { .. }) => {
                tracing::error!(object = ?place, %error, "code cannot be fetched");
            }
            Err(error @ Error::Store { why, .. }) => {
                tracing::warn!(object = ?place, %error, why, "code was not fetched");
            }
            _ => {}
        }
        fetched
    }

    fn may_read(&self, bucket: &str) -> bool {
        let named = &self.settings.buckets;
        named.is_empty() || named.iter().any(|pattern| pattern.matches(bucket))
    }

    async fn get(
        &self,
        object: &Object,
        room: &Room,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        let began = clock::now();
        let (headers, body) = self.timed(Duration::ZERO, self.answer(object)).await?;
        let taken = clock::now().saturating_duration_since(began);
        let limit = PACKAGE_FETCHED_MAX;
        let declared = headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let declared = declared.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if declared.is_some_and(|length| length > limit) {
            return Err(Error::TooLarge { limit });
        }
        // How long that takes is not the store's doing.
        let held = room.hold(declared.unwrap_or(limit)).await;
        let held = held.map_err(Error::NoRoom)?;
        let reading = read(body, declared.unwrap_or(limit), limit);
        let whole = self.timed(taken, reading).await?;
        Ok((whole, held))
    }

    /// What is the store's doing, in the time that it has, of which so much is taken.
    async fn timed<T>(
        &self,
        taken: Duration,
        doing: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let within = self.settings.service.timeout;
        let done = tokio::time::timeout(within.saturating_sub(taken), doing).await;
        done.unwrap_or_else(|_elapsed| Err(Error::store(format!("took over {within:?}"), "")))
    }

    /// The beginning of an answer that is the object.
    async fn answer(&self, object: &Object) -> Result<(HeaderMap, Incoming), Error> {
        let request = self.request(object);
        let request = request.map_err(|e| Error::store("cannot be asked for it", chain(&e)))?;
        let response = self.http.request(request).await;
        let response = response.map_err(|error| {
            let did = match error.is_connect() {
                true => "could not be reached",
                false => "did not answer as S3 does",
            };
            Error::store(did, chain(&error))
        })?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok((head.headers, body));
        }
        let said = Limited::new(body, ERROR_MAX).collect().await;
        let said = said.map(|said| said.to_bytes()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        Err(refusal(object, head.status, &head.headers, &said))
    }

    fn request(&self, object: &Object) -> Result<Request<Empty<Bytes>>, http::Error> {
        let (path, query) = (object.path(&self.prefix), object.query());
        let signer = Signer {
            access_key: &self.settings.service.access_key,
            secret: &self.settings.service.secret_key,
            region: &self.settings.service.region,
            service: SERVICE,
        };
        let signed = outgoing::get(signer, &self.host, &path, &query, clock::wall());
        let target = match query.is_empty() {
            true => path,
            false => format!("{path}?{query}"),
        };
        let uri = Uri::builder()
            .scheme(self.scheme.as_str())
            .authority(self.host.as_str())
            .path_and_query(target)
            .build()?;
        Request::get(uri)
            .header(HOST, &self.host)
            .header(DATE, signed.date)
            .header(CONTENT, signed.content)
            .header(AUTHORIZATION, signed.authorization)
            .header(USER_AGENT, AGENT)
            .body(Empty::new())
    }
}

/// All of a body, which is put where it stays: what is not written of it takes no memory, and growing would take twice as much.
async fn read(mut body: Incoming, expected: usize, limit: usize) -> Result<Bytes, Error> {
    let mut whole = BytesMut::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::store("broke off its answer", chain(&error)))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        if whole.len() + piece.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        whole.extend_from_slice(piece);
    }
    Ok(whole.freeze())
}

/// What an answer that is no object means for whoever asked.
fn refusal(object: &Object, status: StatusCode, headers: &HeaderMap, said: &str) -> Error {
    let code = element(said, "Code", CODE_MAX);
    let code = code.filter(|code| code.chars().all(|c| c.is_ascii_alphanumeric()));
    let message = element(said, "Message", MESSAGE_MAX).unwrap_or_default();
    let Some(code) = code.filter(|code| !code.is_empty()) else {
        return Error::store(format!("answered with {status}"), "not as S3 does");
    };
    let passing = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::TEMPORARY_REDIRECT;
    // Stores have words of their own for what AWS's clients look for.
    let message = match code.as_str() {
        "NoSuchKey" => "The specified key does not exist.".into(),
        "NoSuchBucket" => "The specified bucket does not exist".into(),
        "NoSuchVersion" => "The specified version does not exist.".into(),
        "PermanentRedirect" => {
            let region = headers.get(REGION).and_then(|value| value.to_str().ok());
            let region = region
                .map(str::to_owned)
                .or_else(|| element(said, "Region", CODE_MAX));
            region.map_or(message, |region| {
                format!(
                    "The bucket is in this region: {region}. Please use this region to retry the request"
                )
            })
        }
        "AccessDenied" | "AllAccessDisabled" if message.is_empty() => "Access Denied".into(),
        _ => message,
    };
    match code.as_str() {
        _ if passing => Error::store(
            format!("answered with {status}"),
            format!("{code}: {message}"),
        ),
        "AccessDenied" | "AllAccessDisabled" => Error::Denied {
            object: object.to_string(),
            message,
        },
        ours if OURS.contains(&ours) => Error::Key { code, message },
        _ => Error::Refused { code, message },
    }
}

/// The text of the first element of this name in an S3 error, which has no attributes, and is not trusted to be short.
fn element(xml: &str, name: &str, most: usize) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&#34;", "\"")
        .replace("&amp;", "&");
    let printed = text.chars().filter(|c| !c.is_control());
    Some(printed.take(most).collect())
}

#[cfg(test)]
pub(super) mod tests;
