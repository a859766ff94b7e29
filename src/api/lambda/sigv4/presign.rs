//! URLs that carry their signature with them: made for who asks where a function's code is, and checked like any other request.

use http::HeaderMap;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::lambda::sigv4::canonical::{self, Signed};
use crate::api::lambda::sigv4::chunked;
use crate::api::lambda::sigv4::{ALGORITHM, Key, TERMINATOR, write_time};

const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Who signs, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    pub access_key: &'a str,
    pub secret: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// The query that makes a GET of this path on this host good for `seconds` from `now`. It comes without a body.
pub fn query(signer: Signer<'_>, host: &str, path: &str, now: Timestamp, seconds: u32) -> String {
    let time = write_time(now);
    let date = &time[..8];
    let scope = format!("{date}/{}/{}/{TERMINATOR}", signer.region, signer.service);
    let credential = format!("{}/{scope}", signer.access_key);
    let query = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={time}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host",
        utf8_percent_encode(&credential, STRICT)
    );
    let canonical = canonical::request(&Signed {
        method: "GET",
        path,
        query: &query,
        host: Some(host),
        headers: &HeaderMap::new(),
        names: &["host".to_owned()],
        payload: chunked::EMPTY,
    });
    let canonical = canonical.expect("the host is given, and nothing else is signed");
    let key = Key::new(signer.secret, date, signer.region, signer.service);
    let signature = key.sign(&time, &scope, &canonical);
    format!("{query}&X-Amz-Signature={signature}")
}
