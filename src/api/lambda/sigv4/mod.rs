//! AWS Signature Version 4: who signed a request, and whether they did. A signature comes in the `Authorization` header or, for URLs that are
//! handed on, in the query; it covers the method, the path, the query, the named headers and the hash of the body. Pure: the caller
//! says what time it is and brings the secret. Called by `api::lambda::auth`.

pub mod canonical;
pub mod chunked;
pub mod outgoing;
pub mod presign;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api::lambda::sigv4::canonical::Signed;

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// What the header of a request may say in the place of its body's hash.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
pub const STREAMING_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// How far a client's clock may be off.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// A URL lives a week at most.
const EXPIRES_MAX: u64 = 7 * 24 * 60 * 60;
/// More headers than anybody signs.
const NAMES_MAX: usize = 100;

type HmacSha256 = Hmac<Sha256>;

/// Why a request is not believed. `Display` is AWS's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Missing Authentication Token")]
    Missing,
    #[error("{0}")]
    Incomplete(String),
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - 5 min.)")]
    Old {
        signed: String,
        earliest: String,
        now: String,
    },
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + 5 min.)")]
    Early {
        signed: String,
        latest: String,
        now: String,
    },
    #[error("Signature expired: {expired} is now earlier than {now}")]
    Over { expired: String, now: String },
    #[error("Credential should be scoped to a valid region, not '{0}'.")]
    Region(String),
    #[error("Credential should be scoped to correct service: '{expected}', not '{found}'.")]
    Service {
        expected: &'static str,
        found: String,
    },
    #[error("Credential should be scoped with a valid terminator: 'aws4_request', not '{0}'.")]
    Terminator(String),
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{date}', from '{signed}'."
    )]
    Date {
        scope: String,
        date: String,
        signed: String,
    },
    #[error("'{0}' must be a 'SignedHeader' in the AWS Authorization.")]
    Unsigned(String),
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    #[error("The body does not have the hash that 'x-amz-content-sha256' says.")]
    Altered,
    #[error("The chunks of the body are not what was signed.")]
    Chunks,
}

/// What a request says of its signature. Nothing of it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub access_key: String,
    date: String,
    region: String,
    service: String,
    terminator: String,
    names: Vec<String>,
    signature: String,
    /// `20260131T120000Z`, as the client wrote it.
    signed: String,
    at: Timestamp,
    /// Of a URL that is handed on: how long it lives.
    expires: Option<Duration>,
}

/// How the body is covered by the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Its hash is signed: the one in the header, if there is one, or else that of the body itself.
    Whole {
        stated: Option<String>,
    },
    Unsigned,
    /// In chunks, each with a signature of its own.
    Chunked {
        trailers: bool,
    },
}

impl Payload {
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-amz-content-sha256").map(|v| v.as_bytes()) {
            None => Payload::Whole { stated: None },
            Some(value) if value == UNSIGNED.as_bytes() => Payload::Unsigned,
            Some(value) if value == STREAMING.as_bytes() => Payload::Chunked { trailers: false },
            Some(value) if value == STREAMING_TRAILER.as_bytes() => {
                Payload::Chunked { trailers: true }
            }
            Some(value) => Payload::Whole {
                stated: Some(String::from_utf8_lossy(value).into_owned()),
            },
        }
    }
}

/// Whether the request carries a signature of this kind at all.
pub fn is_signed(parts: &Parts) -> bool {
    let header = parts.headers.get(AUTHORIZATION);
    header.is_some_and(|v| v.as_bytes().starts_with(b"AWS4-"))
        || parts
            .uri
            .query()
            .is_some_and(|query| query.contains("X-Amz-Signature="))
}

impl Claim {
    pub fn of(parts: &Parts) -> Result<Self, Error> {
        match parts.headers.get(AUTHORIZATION) {
            Some(value) => {
                let text = value.to_str().map_err(|_unreadable| {
                    Error::Incomplete("Authorization header is not ASCII.".into())
                })?;
                Self::of_header(text, &parts.headers)
            }
            None => Self::of_query(parts.uri.query().unwrap_or_default()),
        }
    }

    fn of_header(text: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let fields = text.strip_prefix(ALGORITHM).ok_or_else(|| {
            Error::Incomplete(format!("Unsupported AWS 'algorithm' in {text:?}."))
        })?;
        let field = |name: &'static str| {
            let mut parts = fields.split(',').map(str::trim);
            let found = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| {
                Error::Incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let dated = ["x-amz-date", "date"];
        let date = dated
            .iter()
            .find_map(|name| headers.get(*name)?.to_str().ok());
        let date = date.ok_or_else(|| {
            let text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
            Error::Incomplete(text.into())
        })?;
        Self::new(
            field("Credential")?,
            field("SignedHeaders")?,
            field("Signature")?,
            date,
            None,
        )
    }

    fn of_query(query: &str) -> Result<Self, Error> {
        let field = |name: &'static str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(found, _)| *found == name).ok_or_else(|| {
                Error::Incomplete(format!(
                    "AWS query-string parameters must include '{name}'."
                ))
            })?;
            decoded(value).ok_or_else(|| Error::Incomplete(format!("'{name}' is not UTF-8.")))
        };
        if !query.contains("X-Amz-Signature=") {
            return Err(Error::Missing);
        }
        let algorithm = field("X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(Error::Incomplete(format!(
                "Unsupported AWS 'algorithm': '{algorithm}'."
            )));
        }
        let expires = field("X-Amz-Expires")?;
        let expires: u64 = expires
            .parse()
            .ok()
            .filter(|seconds| (1..=EXPIRES_MAX).contains(seconds))
            .ok_or_else(|| {
                Error::Incomplete(format!("'X-Amz-Expires' must be 1 to {EXPIRES_MAX}."))
            })?;
        Self::new(
            &field("X-Amz-Credential")?,
            &field("X-Amz-SignedHeaders")?,
            &field("X-Amz-Signature")?,
            &field("X-Amz-Date")?,
            Some(Duration::from_secs(expires)),
        )
    }

    fn new(
        credential: &str,
        names: &str,
        signature: &str,
        signed: &str,
        expires: Option<Duration>,
    ) -> Result<Self, Error> {
        // The access key may have slashes in it, in theory; the scope has not.
        let mut scope = credential.rsplitn(5, '/');
        let mut part = || scope.next().filter(|part| !part.is_empty());
        let (terminator, service, region, date) = (part(), part(), part(), part());
        let (Some(terminator), Some(service), Some(region), Some(date), Some(access_key)) =
            (terminator, service, region, date, part())
        else {
            return Err(Error::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'."
            )));
        };
        let names: Vec<_> = names.split(';').map(str::to_ascii_lowercase).collect();
        if names.len() > NAMES_MAX || names.iter().any(|name| name.is_empty()) {
            return Err(Error::Incomplete(
                "'SignedHeaders' names no headers.".into(),
            ));
        }
        let at = read_time(signed).ok_or_else(|| {
            Error::Incomplete(format!("Date must be in ISO-8601 'basic format'. Got '{signed}'. See http://en.wikipedia.org/wiki/ISO_8601"))
        })?;
        Ok(Self {
            access_key: access_key.into(),
            date: date.into(),
            region: region.into(),
            service: service.into(),
            terminator: terminator.into(),
            names,
            signature: signature.into(),
            signed: signed.into(),
            at,
            expires,
        })
    }

    /// Whether it is for this service, here and now. Looked at before the signature, because it needs no secret.
    pub fn is_for(&self, region: &str, service: &'static str, now: Timestamp) -> Result<(), Error> {
        if self.terminator != TERMINATOR {
            return Err(Error::Terminator(self.terminator.clone()));
        }
        if self.service != service {
            return Err(Error::Service {
                expected: service,
                found: self.service.clone(),
            });
        }
        if self.region != region {
            return Err(Error::Region(self.region.clone()));
        }
        let day = write_time(self.at);
        if !day.starts_with(&self.date) || self.date.len() != 8 {
            return Err(Error::Date {
                scope: self.date.clone(),
                date: day.chars().take(8).collect(),
                signed: self.signed.clone(),
            });
        }
        let skew = jiff::SignedDuration::try_from(SKEW).unwrap_or_default();
        if self.at > now + skew {
            return Err(Error::Early {
                signed: write_time(self.at),
                latest: write_time(now + skew),
                now: write_time(now),
            });
        }
        match self.expires {
            None if self.at + skew < now => Err(Error::Old {
                signed: write_time(self.at),
                earliest: write_time(now - skew),
                now: write_time(now),
            }),
            Some(expires) => {
                let life = jiff::SignedDuration::try_from(expires).unwrap_or_default();
                match self.at + life < now {
                    true => Err(Error::Over {
                        expired: write_time(self.at + life),
                        now: write_time(now),
                    }),
                    false => Ok(()),
                }
            }
            None => Ok(()),
        }
    }

    /// What may not be left out of what is signed: who is spoken to, and everything AWS's protocol says in headers. Else somebody in
    /// between could change what a request means.
    pub fn covers(&self, headers: &HeaderMap) -> Result<(), Error> {
        let signed = |name: &str| self.names.iter().any(|signed| signed == name);
        if !signed("host") {
            return Err(Error::Unsigned("Host".into()));
        }
        let mut names = headers.keys().map(|name| name.as_str());
        match names.find(|name| name.starts_with("x-amz-") && !signed(name)) {
            Some(name) => Err(Error::Unsigned(name.into())),
            None => Ok(()),
        }
    }

    /// Whether who has the secret signed this request with this body. For a chunked body it is the head that is proved, and what
    /// comes back proves the chunks.
    pub fn verify(
        &self,
        secret: &str,
        parts: &Parts,
        payload: &Payload,
        body: &[u8],
    ) -> Result<chunked::Chain, Error> {
        let hash;
        let payload = match payload {
            Payload::Unsigned => UNSIGNED,
            Payload::Chunked { trailers: false } => STREAMING,
            Payload::Chunked { trailers: true } => STREAMING_TRAILER,
            Payload::Whole { stated } => {
                hash = hex::encode(Sha256::digest(body));
                if stated.as_ref().is_some_and(|stated| *stated != hash) {
                    return Err(Error::Altered);
                }
                &hash
            }
        };
        let canonical = canonical::request(&Signed {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            host: parts.uri.authority().map(|authority| authority.as_str()),
            headers: &parts.headers,
            names: &self.names,
            payload,
        });
        let key = Key::new(secret, &self.date, &self.region, &self.service);
        let scope = self.scope();
        let wanted = key.sign(&self.signed, &scope, &canonical.ok_or(Error::Mismatch)?);
        // In constant time: how much of a guess was right is nobody's business.
        match bool::from(wanted.as_bytes().ct_eq(self.signature.as_bytes())) {
            true => Ok(chunked::Chain::new(key, self.signed.clone(), scope, wanted)),
            false => Err(Error::Mismatch),
        }
    }

    fn scope(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.date, self.region, self.service, self.terminator
        )
    }
}

/// What signs: derived from the secret for a day, a region and a service.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn new(secret: &str, date: &str, region: &str, service: &str) -> Self {
        let first = mac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        let rest = [region, service, TERMINATOR];
        Self(
            rest.iter()
                .fold(first, |key, part| mac(&key, part.as_bytes())),
        )
    }

    /// The signature of a canonical request, in hex.
    fn sign(&self, time: &str, scope: &str, canonical: &str) -> String {
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        self.sign_text(&format!("{ALGORITHM}\n{time}\n{scope}\n{hash}"))
    }

    fn sign_text(&self, text: &str) -> String {
        hex::encode(mac(&self.0, text.as_bytes()))
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = HmacSha256::new_from_slice(key).expect("a key of any length will do");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok();
    text.map(Cow::into_owned)
}

fn read_time(text: &str) -> Option<Timestamp> {
    let basic = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok();
    // A `Date` header has the form of HTTP.
    let time = basic
        .or_else(|| jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok())?;
    time.to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

pub fn write_time(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}
