//! Who is signed in to the dashboard. A session is a random token in a cookie that no script can read, and stands for a key: it may what
//! the key may, and ends with it. Kept in memory: after a restart one signs in again. Called by the gateway.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::header::{COOKIE, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Uri};
use parking_lot::Mutex;
use serde::Serialize;

use crate::domain::key::{self, Grant};

/// What the dashboard's own requests carry. A page from elsewhere cannot add it without being asked for leave first, and gets none.
pub const MARK: HeaderName = HeaderName::from_static("x-hearth-dashboard");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A session ends so long after its sign-in, however much it is used.
pub const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at once; over that the oldest ends.
const SESSIONS: usize = 1024;

type Hash = [u8; 32];

/// Tokens are kept as hashes, like keys.
#[derive(Debug, Default)]
pub struct Sessions {
    open: Mutex<HashMap<Hash, Session>>,
}

#[derive(Debug)]
struct Session {
    key: String,
    until: Instant,
}

/// Who one is.
#[derive(Debug, Serialize)]
pub struct Account<'a> {
    name: &'a str,
    scopes: Vec<&'static str>,
    /// Patterns of the functions the key is for; empty is all.
    functions: Vec<&'a str>,
}

impl<'a> Account<'a> {
    pub fn of(grant: &'a Grant) -> Self {
        Self {
            name: &grant.name,
            scopes: grant.scopes().iter().map(|scope| scope.as_str()).collect(),
            functions: grant
                .functions()
                .iter()
                .map(|pattern| pattern.as_str())
                .collect(),
        }
    }
}

impl Sessions {
    /// A new session for a key, and its token.
    pub fn begin(&self, key_id: &str, now: Instant) -> String {
        let token = hex::encode(rand::random::<[u8; 32]>());
        let mut open = self.open.lock();
        open.retain(|_, session| session.until > now);
        if open.len() >= SESSIONS
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, s)| s.until)
                .map(|(hash, _)| *hash)
        {
            open.remove(&oldest);
        }
        let session = Session {
            key: key_id.into(),
            until: now + LASTS,
        };
        open.insert(key::hash(&token), session);
        token
    }

    /// The id of the key the session stands for.
    pub fn key(&self, token: &str, now: Instant) -> Option<String> {
        let open = self.open.lock();
        let session = open.get(&key::hash(token))?;
        (session.until > now).then(|| session.key.clone())
    }

    pub fn end(&self, token: &str) {
        self.open.lock().remove(&key::hash(token));
    }
}

/// The name of the cookie. Cookies know no ports, and there may be an instance at each.
pub fn cookie_name(host: &str) -> String {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port = port.parse::<u16>().unwrap_or(0);
    format!("hearth_session_{port}")
}

/// The token in the request's cookies.
pub fn token<'a>(headers: &'a HeaderMap, host: &str) -> Option<&'a str> {
    let name = cookie_name(host);
    let all = headers.get_all(COOKIE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The cookie that holds a token; without one, what takes it away.
pub fn cookie(host: &str, token: Option<&str>, secure: bool) -> String {
    let age = token.map_or(0, |_| LASTS.as_secs());
    let (name, token) = (cookie_name(host), token.unwrap_or_default());
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the request comes from the dashboard itself: it carries its mark, and whatever the browser says of its origin agrees.
pub fn is_own(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
    headers.contains_key(MARK)
        && matches!(site, None | Some(b"same-origin"))
        && headers.get(ORIGIN).is_none_or(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            let named = origin
                .strip_prefix("http://")
                .or(origin.strip_prefix("https://"));
            named.is_some_and(|named| named.eq_ignore_ascii_case(host))
        })
}

/// Whether the dashboard is meant by this name. A page that was led to this address by a name of its own (DNS rebinding) has that name
/// here: an address has no such name, and other names have to be told.
pub fn is_known(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let lower = name.to_ascii_lowercase();
    lower == "localhost"
        || lower.ends_with(".localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok())
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The name the request was sent to.
pub fn host<B>(request: &http::Request<B>) -> &str {
    named(request.headers().get(HOST), request.uri())
}

/// The same, of its header.
pub fn named<'a>(host: Option<&'a HeaderValue>, uri: &'a Uri) -> &'a str {
    let named = host.and_then(|host| host.to_str().ok());
    let authority = || uri.authority().map(|authority| authority.as_str());
    named.or_else(authority).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                value.parse().expect("a header's value"),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_session_stands_for_its_key_until_its_end() {
        let sessions = Sessions::default();
        let now = crate::clock::now();
        let (one, two) = (sessions.begin("a", now), sessions.begin("b", now));
        assert_ne!(one, two);
        assert_eq!(sessions.key(&one, now).as_deref(), Some("a"));
        assert_eq!(sessions.key(&two, now).as_deref(), Some("b"));
        assert_eq!(sessions.key("", now), None);
        assert_eq!(sessions.key(&one[..63], now), None);
        sessions.end(&one);
        assert_eq!(sessions.key(&one, now), None);
        assert_eq!(sessions.key(&two, now + LASTS), None);
    }

    #[test]
    fn there_are_only_so_many_and_the_oldest_goes() {
        let sessions = Sessions::default();
        let now = crate::clock::now();
        let first = sessions.begin("first", now);
        let second = sessions.begin("second", now + Duration::from_secs(1));
        for _ in 0..SESSIONS - 1 {
            sessions.begin("more", now + Duration::from_secs(2));
        }
        assert_eq!(sessions.open.lock().len(), SESSIONS);
        assert_eq!(sessions.key(&first, now), None);
        assert_eq!(sessions.key(&second, now).as_deref(), Some("second"));
        // Those that are over make room first.
        sessions.begin("late", now + LASTS * 2);
        assert_eq!(sessions.open.lock().len(), 1);
    }

    #[test]
    fn a_cookie_belongs_to_one_port() {
        let headers = with(&[("cookie", "a=b; hearth_session_80=x; hearth_session_8080=y")]);
        assert_eq!(token(&headers, "127.0.0.1:8080"), Some("y"));
        assert_eq!(token(&headers, "h:80"), Some("x"));
        assert_eq!(token(&headers, "h:81"), None);
        assert_eq!(token(&HeaderMap::new(), "h:80"), None);
        let made = cookie("h:8080", Some("t"), true);
        assert!(made.starts_with("hearth_session_8080=t;"), "{made}");
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(made.contains(part), "{made}");
        }
        assert!(cookie("h:8080", None, false).contains("Max-Age=0"));
    }

    #[test]
    fn only_the_dashboards_own_requests_may_use_a_session() {
        let mark = ("x-hearth-dashboard", "1");
        for headers in [
            &[mark][..],
            &[mark, ("sec-fetch-site", "same-origin")],
            &[mark, ("origin", "http://a:1")],
            &[mark, ("origin", "https://A:1")],
        ] {
            assert!(is_own(&with(headers), "a:1"), "{headers:?}");
        }
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[mark, ("sec-fetch-site", "cross-site")],
            &[mark, ("sec-fetch-site", "same-site")],
            &[mark, ("sec-fetch-site", "none")],
            &[mark, ("origin", "http://b:1")],
            &[mark, ("origin", "http://a")],
            &[mark, ("origin", "null")],
            &[
                mark,
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://b:1"),
            ],
        ] {
            assert!(!is_own(&with(headers), "a:1"), "{headers:?}");
        }
    }

    #[test]
    fn a_name_that_nobody_told_is_not_this_dashboards() {
        let told = ["hearth.example".to_owned()];
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
            "10.1.2.3:80",
            "localhost",
            "LOCALHOST:1",
            "a.localhost:80",
            "hearth.example",
            "Hearth.Example:443",
        ] {
            assert!(is_known(host, &told), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "evil-localhost",
            "hearth.example.evil",
            "::1",
            "[evil]:80",
            "127.0.0.1:x",
        ] {
            assert!(!is_known(host, &told), "{host}");
        }
    }
}
