//! What the head of a request must be like before anybody acts on it. What could be read in two ways is refused here, so that something
//! in front of Hearth and Hearth itself cannot disagree about it. Pure; warm path: one look at each header.
//!
//! The server below has refused what is no HTTP, lengths that contradict each other, and transfer encodings it does not know. Whose
//! name is in `Host` is not checked: nothing here depends on it, and a page that was led to this address by a name of its own
//! (DNS rebinding) still has no key, which no browser adds to another origin by itself.

use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use http::{Method, Request, Version};

use crate::api::error::Problem;

/// The headers that a request is judged by, each with what it says first and whether it is there again.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    pub host: Times<'a>,
    pub authorization: Times<'a>,
    pub api_key: Times<'a>,
    content_type: Times<'a>,
    transfer: Times<'a>,
    expectation: Times<'a>,
    encoding: Times<'a>,
    site: Times<'a>,
    origin: Times<'a>,
}

#[derive(Debug, Default, Clone, Copy)]
pub enum Times<'a> {
    #[default]
    Never,
    Once(&'a HeaderValue),
    More(&'a HeaderValue),
}

impl<'a> Times<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match *self {
            Times::Never => Times::Once(value),
            Times::Once(first) | Times::More(first) => Times::More(first),
        };
    }

    pub fn first(self) -> Option<&'a HeaderValue> {
        match self {
            Times::Never => None,
            Times::Once(first) | Times::More(first) => Some(first),
        }
    }
}

impl<'a> Seen<'a> {
    /// Once over all of them: asking for each by its name costs more than there are headers.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            let times = match name.as_str() {
                "host" => &mut seen.host,
                "authorization" => &mut seen.authorization,
                "x-api-key" => &mut seen.api_key,
                "content-type" => &mut seen.content_type,
                "transfer-encoding" => &mut seen.transfer,
                "expect" => &mut seen.expectation,
                "content-encoding" => &mut seen.encoding,
                "sec-fetch-site" => &mut seen.site,
                "origin" => &mut seen.origin,
                _ => continue,
            };
            times.add(value);
        }
        seen
    }

    /// What holds for every request, whoever it is for.
    pub fn head(&self, version: Version) -> Result<(), Problem> {
        match self.host {
            Times::More(_) => return Err(Problem::Head("it has more than one host")),
            Times::Once(host) if !is_authority(host.as_bytes()) => {
                return Err(Problem::Head(
                    "its host is not a name with or without a port",
                ));
            }
            // In HTTP/2 it is in the address.
            Times::Never if version == Version::HTTP_11 => {
                return Err(Problem::Head("it has no host"));
            }
            _ => {}
        }
        // The server below looks at the end of it alone.
        let chunked = match self.transfer {
            Times::Never => true,
            Times::Once(value) => value.as_bytes().eq_ignore_ascii_case(b"chunked"),
            Times::More(_) => false,
        };
        if !chunked {
            return Err(Problem::Head("its transfer-encoding is not chunked alone"));
        }
        // Of two keys one is not the caller's, and of two types one is not the body's.
        for once in [self.authorization, self.api_key, self.content_type] {
            if matches!(once, Times::More(_)) {
                return Err(Problem::Head(
                    "it has authorization, x-api-key or content-type more than once",
                ));
            }
        }
        match self.expectation {
            Times::Never => Ok(()),
            Times::Once(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
            Times::Once(value) => Err(Problem::Expectation(shown(value.as_bytes()))),
            Times::More(_) => Err(Problem::Head("it has more than one expectation")),
        }
    }

    /// What holds for Hearth's own faces. A function's route takes what its function takes.
    pub fn own<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        self.encoded(request, b"identity")
    }

    /// The same for AWS's API, whose clients may sign a body in chunks.
    pub fn signed<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        self.encoded(request, b"aws-chunked")
    }

    fn encoded<B>(&self, request: &Request<B>, also: &[u8]) -> Result<(), Problem> {
        // Nothing is unpacked here: a few bytes could be any number of them.
        let all = || request.headers().get_all(CONTENT_ENCODING).iter();
        for value in self.encoding.first().into_iter().flat_map(|_| all()) {
            let value = value.as_bytes();
            if ![b"identity", also]
                .iter()
                .any(|known| value.eq_ignore_ascii_case(known))
            {
                return Err(Problem::Encoding(shown(value)));
            }
        }
        match self.is_cross_origin(request.method()) {
            true => Err(Problem::CrossOrigin),
            false => Ok(()),
        }
    }

    /// Whether a browser sends this for a page from elsewhere. A browser that knows the key as a password adds it to whatever any page sends
    /// here, so such a page may look, if it can, and change nothing.
    fn is_cross_origin(&self, method: &Method) -> bool {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return false;
        }
        if let Some(site) = self.site.first() {
            return !matches!(site.as_bytes(), b"same-origin" | b"none");
        }
        // Browsers leave the other header out where they speak plain HTTP to anything but this machine.
        let Some(origin) = self.origin.first() else {
            return false;
        };
        let host = self.host.first().map_or(&b""[..], HeaderValue::as_bytes);
        let origin = origin.as_bytes();
        let named = origin
            .strip_prefix(b"http://")
            .or_else(|| origin.strip_prefix(b"https://"));
        !named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    }
}

fn is_authority(host: &[u8]) -> bool {
    // RFC 9110 allows an empty one where the target has no name.
    if host.is_empty() {
        return true;
    }
    let (name, port) = match host.strip_prefix(b"[") {
        // An IPv6 address stands in brackets, because it has colons of its own.
        Some(rest) => {
            let Some(end) = rest.iter().position(|b| *b == b']') else {
                return false;
            };
            let inside = &rest[..end];
            let is_part = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
            if inside.is_empty() || !inside.iter().all(is_part) {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (inside, port),
                _ => return false,
            }
        }
        None => match host.iter().position(|b| *b == b':') {
            Some(at) => (&host[..at], &host[at + 1..]),
            None => (host, &b""[..]),
        },
    };
    !name.is_empty() && is_port(port) && (host[0] == b'[' || name.iter().all(is_of_a_name))
}

/// Digits, or nothing: RFC 3986 lets a port be empty.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// What a registered name may hold (RFC 3986): unreserved and sub-delims. Compared byte by byte: parsing it as a part
/// of an address would allocate, for every call.
fn is_of_a_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte)
}

/// What a client sent is shown, but not at any length.
fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(64)]).into_owned()
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

    use super::*;

    fn own(request: &Request<()>) -> Result<(), Problem> {
        Seen::of(request.headers()).own(request)
    }

    fn request(version: Version, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        for (name, value) in headers {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            request.headers_mut().append(*name, value);
        }
        request
    }

    #[test]
    fn a_head_says_everything_once() {
        let head =
            |version, headers: &[_]| Seen::of(request(version, headers).headers()).head(version);
        let of = |headers: &[_]| head(Version::HTTP_11, headers).is_ok();
        for host in [
            "a",
            "a:1",
            "a:",
            "[::1]:8080",
            "[::1]",
            "127.0.0.1",
            "a.b-c",
            "a_b.c~",
            "",
        ] {
            assert!(of(&[("host", host)]), "{host}");
        }
        for host in [
            "a b", "a/b", "user@a", "a:b:c", "http://a", "ä", "a\\b", ":1", "a:x", "a:123456",
            "[::1", "[::1]x", "[]", "[g::]", "a[", "a?b", "a#b", "a%20b", "<a>", "::1",
        ] {
            assert!(!of(&[("host", host)]), "{host}");
        }
        assert!(!of(&[]));
        assert!(!of(&[("host", "a"), ("host", "a")]));
        assert!(head(Version::HTTP_10, &[]).is_ok());
        assert!(head(Version::HTTP_2, &[]).is_ok());
        for twice in ["authorization", "x-api-key", "content-type"] {
            assert!(of(&[("host", "a"), (twice, "x")]));
            assert!(!of(&[("host", "a"), (twice, "x"), (twice, "x")]), "{twice}");
        }
        let chunked = ("transfer-encoding", "chunked");
        assert!(of(&[("host", "a"), chunked]));
        assert!(!of(&[("host", "a"), chunked, chunked]));
        let gzip = ("transfer-encoding", "gzip, chunked");
        assert!(!of(&[("host", "a"), gzip]));
        assert!(of(&[("host", "a"), ("expect", "100-Continue")]));
        let go_on = ("expect", "100-continue");
        assert!(!of(&[("host", "a"), ("expect", "200-ok")]));
        assert!(!of(&[("host", "a"), go_on, go_on]));
    }

    #[test]
    fn only_bodies_as_they_are_are_taken() {
        let of = |values: &[&str]| {
            let headers = values.iter().map(|value| ("content-encoding", *value));
            own(&request(Version::HTTP_11, &headers.collect::<Vec<_>>()))
        };
        assert_eq!(of(&["identity"]), Ok(()));
        assert_eq!(of(&["identity", "Identity"]), Ok(()));
        assert!(of(&["identity", "gzip"]).is_err());
        for value in ["gzip", "identity, br", "", "\t"] {
            assert!(
                matches!(of(&[value]), Err(Problem::Encoding(_))),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_page_from_elsewhere_may_look_and_not_touch() {
        let of = |method: Method, headers: &[_]| {
            let mut request = request(Version::HTTP_11, headers);
            request
                .headers_mut()
                .insert(HOST, "a:1".parse().expect("a host"));
            *request.method_mut() = method;
            own(&request)
        };
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            // A proxy in between may have given the host another name.
            &[("sec-fetch-site", "same-origin"), ("origin", "https://b")],
            &[("origin", "http://a:1")],
            &[("origin", "https://A:1")],
        ] {
            assert_eq!(of(Method::POST, headers), Ok(()), "{headers:?}");
        }
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "http://a:1")],
            &[("origin", "http://b:1")],
            &[("origin", "http://a")],
            &[("origin", "null")],
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert_eq!(
                    of(method, headers),
                    Err(Problem::CrossOrigin),
                    "{headers:?}"
                );
            }
            assert_eq!(of(Method::GET, headers), Ok(()));
        }
    }
}
