//! Where function URLs are. A request names one in its host, `<id>.lambda-url.<region>.<domain>`, or, where such names lead nowhere, in its
//! path, `/lambda-url/<id>/…`; both are read here, and written. Reading is pure, and asked for every request: no allocation.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;

use crate::api::lambda::{Asked, Lambda};
use crate::domain::url::UrlId;

/// The first segment of the path form, and the second label of the host form.
const WORD: &str = "lambda-url";
/// A name that cannot be looked up within this time is of no use to a client either.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What a request names.
#[derive(Debug, PartialEq, Eq)]
pub struct Address<'a> {
    pub id: Cow<'a, str>,
    /// What comes after it; begins with a slash.
    pub path: &'a str,
}

/// The id in a host, if it is one of a function URL. Whatever comes after the region: something in front of Hearth may have a name of its own.
pub fn of_host(host: &str) -> Option<&str> {
    let (id, rest) = host.split_once('.')?;
    let (word, place) = rest.as_bytes().split_at_checked(WORD.len())?;
    // Names have no case.
    (word.eq_ignore_ascii_case(WORD.as_bytes()) && place.first() == Some(&b'.')).then_some(id)
}

pub fn of<'a>(host: &'a str, path: &'a str) -> Option<Address<'a>> {
    if let Some(id) = of_host(host) {
        let id = match id.bytes().any(|b| b.is_ascii_uppercase()) {
            true => id.to_ascii_lowercase().into(),
            false => id.into(),
        };
        return Some(Address { id, path });
    }
    let rest = path.strip_prefix('/')?.strip_prefix(WORD)?;
    let rest = rest.strip_prefix('/')?;
    let (id, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let id = id.into();
    Some(Address { id, path })
}

/// The host that is a URL's own.
pub fn domain(face: &Lambda, id: &str) -> String {
    let (region, domain) = (&face.settings.place.region, &face.settings.urls.domain);
    format!("{id}.{WORD}.{region}.{domain}")
}

/// Who was asked.
pub fn host(parts: &Parts) -> &str {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = || parts.uri.authority().map(http::uri::Authority::as_str);
    header.or_else(authority).unwrap_or_default()
}

/// Writes URLs that lead whoever asks to this server.
#[derive(Debug)]
pub struct Writer {
    scheme: &'static str,
    /// The host that was asked, with its port.
    authority: String,
    /// What comes after the id in a host; `None` writes the path.
    domain: Option<String>,
}

impl Writer {
    pub(super) async fn of(face: &Lambda, asked: &Asked) -> Self {
        let host = host(&asked.parts);
        // Something in front of Hearth may speak TLS for it; it only says so to the one who asks.
        let tls = face.tls || asked.header("x-forwarded-proto").as_deref() == Some("https");
        let domain = &face.settings.urls.domain;
        let by_host = match face.settings.urls.by_host {
            Some(by_host) => by_host,
            // Names under localhost lead whoever asks to their own machine.
            None if is_local(domain) && !is_local(without_port(host)) => false,
            None => lead_here(face).await,
        };
        let region = &face.settings.place.region;
        Self {
            scheme: if tls { "https" } else { "http" },
            authority: if host.is_empty() { "localhost" } else { host }.into(),
            domain: by_host.then(|| format!("{WORD}.{region}.{domain}")),
        }
    }

    pub fn write(&self, id: &UrlId) -> String {
        let (scheme, authority) = (self.scheme, &self.authority);
        match &self.domain {
            Some(domain) => {
                let port = &authority[without_port(authority).len()..];
                format!("{scheme}://{id}.{domain}{port}/")
            }
            None => format!("{scheme}://{authority}/{WORD}/{id}/"),
        }
    }
}

/// Whether this machine finds hosts of function URLs. Asked once: an address that changes is none.
async fn lead_here(face: &Lambda) -> bool {
    let look_up = || async {
        let name = domain(face, "names");
        let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, 0))).await;
        match found {
            Ok(Ok(mut addresses)) => addresses.next().is_some(),
            Ok(Err(_)) | Err(_) => false,
        }
    };
    *face.names_lead_here.get_or_init(look_up).await
}

/// The colons in an address of IP version 6 are in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether only this machine itself calls itself so.
fn is_local(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let address = bare.unwrap_or(name).parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_named_in_the_host_or_in_the_path() {
        for (host, path, wanted) in [
            (
                "abc.lambda-url.us-east-1.localhost:80",
                "/a%2Fb",
                Some(("abc", "/a%2Fb")),
            ),
            (
                "ABC.Lambda-URL.eu-west-1.example.org",
                "/",
                Some(("abc", "/")),
            ),
            // Whatever else there is at this path.
            (
                "abc.lambda-url.x.y",
                "/functions/f/execute",
                Some(("abc", "/functions/f/execute")),
            ),
            (
                "abc.lambda-url.x.y",
                "/lambda-url/def/g",
                Some(("abc", "/lambda-url/def/g")),
            ),
            ("127.0.0.1:1", "/lambda-url/abc", Some(("abc", "/"))),
            ("127.0.0.1:1", "/lambda-url/abc/", Some(("abc", "/"))),
            ("", "/lambda-url/abc//a/../b", Some(("abc", "//a/../b"))),
            ("", "/lambda-url/", Some(("", "/"))),
            ("a", "/lambda-url", None),
            ("a", "/lambda-urls/abc", None),
            ("lambda-url.us-east-1.localhost", "/", None),
            ("abc.lambda-urls.us-east-1.localhost", "/", None),
            ("abc.lambda-url", "/", None),
            ("a.abc.lambda-url.x", "/", None),
            ("localhost", "/x/lambda-url/abc", None),
            ("a.é", "/", None),
        ] {
            let got = of(host, path);
            let got = got.as_ref().map(|got| (got.id.as_ref(), got.path));
            assert_eq!(got, wanted, "{host} {path}");
            let by_host = of_host(host).is_some();
            assert_eq!(by_host, wanted.is_some() && host.contains("-"), "{host}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "",
            "localhost.example.org",
            "10.0.0.1",
            "[fd00::1]",
            "0.0.0.0",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
