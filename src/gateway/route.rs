//! Which face a request is for. Pure; warm path: a few comparisons of bytes, and no allocation unless the path is percent-encoded.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::domain::route::{is_dated, is_reserved};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Call one function; what stands between the slashes, decoded, is its id or name.
    Execute(Segment),
    /// Alive: the process answers.
    Health,
    /// Ready: calls can be served.
    Ready,
    Metrics,
    /// AWS's API, whose requests are signed.
    Lambda,
    /// A function URL, named in the path or in the host.
    Url,
    /// The dashboard's pages: nothing that is anybody's.
    Dashboard,
    /// Signing in to the dashboard, and out.
    Session,
    /// The rest of what is Hearth's own is the control API's, which also knows what does not exist.
    Control,
    /// Every other path is a function's, if one has it as its route.
    Function,
}

/// Where in the path a name stands. Not the name itself, so that a request is routed once and then passed on whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    from: usize,
    to: usize,
}

impl Segment {
    /// The name, decoded, in the path that was routed.
    pub fn of(self, path: &str) -> Cow<'_, str> {
        let text = path.get(self.from..self.to).unwrap_or_default();
        if is_plain(text) {
            return Cow::Borrowed(text);
        }
        // That it is UTF-8 was seen when it was routed.
        percent_decode_str(text).decode_utf8_lossy()
    }
}

impl Route {
    /// Whether a function may be run for it.
    pub fn calls(&self) -> bool {
        matches!(
            self,
            Route::Execute(_) | Route::Function | Route::Url | Route::Lambda
        )
    }

    /// As a metric label.
    pub fn face(&self) -> &'static str {
        match self {
            Route::Execute(_) => "execute",
            Route::Health | Route::Ready | Route::Metrics => "operators",
            Route::Lambda => "lambda",
            Route::Url => "url",
            Route::Dashboard | Route::Session => "dashboard",
            Route::Control => "control",
            Route::Function => "route",
        }
    }

    /// Whether it asks about this process alone, and nothing of what the store has.
    pub fn is_about_this(&self) -> bool {
        matches!(
            self,
            Route::Health | Route::Ready | Route::Metrics | Route::Dashboard
        )
    }

    /// Whether a key is asked for.
    pub fn is_open(&self) -> bool {
        matches!(
            self,
            Route::Health | Route::Ready | Route::Function | Route::Dashboard | Route::Session
        )
    }
}

pub fn route(method: &Method, path: &str) -> Route {
    if *method == Method::POST
        && let Some(segment) = executed(path)
    {
        return Route::Execute(segment);
    }
    match (method, path.strip_suffix('/').unwrap_or(path)) {
        (&Method::GET | &Method::HEAD, "/healthz") => Route::Health,
        (&Method::GET | &Method::HEAD, "/readyz") => Route::Ready,
        (&Method::GET | &Method::HEAD, "/metrics") => Route::Metrics,
        _ if path.starts_with('/') && is_dated(path) => Route::Lambda,
        _ if is_below(path, "/lambda-url") => Route::Url,
        (_, "/dashboard/session") => Route::Session,
        // The one path there that shows what is somebody's.
        (_, "/dashboard/events") => Route::Control,
        _ if is_below(path, "/dashboard") || is_below(path, "/docs") => Route::Dashboard,
        _ if is_reserved(path) || !path.starts_with('/') => Route::Control,
        _ => Route::Function,
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name in `/functions/{name}/execute`, with or without a slash at the end.
/// `None` also if it is not UTF-8 once it is decoded; the control API says so.
fn executed(path: &str) -> Option<Segment> {
    const BEFORE: &str = "/functions/";
    let rest = path.strip_prefix(BEFORE)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let name = rest.strip_suffix("/execute")?;
    if name.is_empty() || name.contains('/') {
        return None;
    }
    // Decoded once: what comes out is a name, whatever it looks like.
    if !is_plain(name) {
        percent_decode_str(name).decode_utf8().ok()?;
    }
    Some(Segment {
        from: BEFORE.len(),
        to: BEFORE.len() + name.len(),
    })
}

/// Nothing in it is encoded.
fn is_plain(text: &str) -> bool {
    !text.as_bytes().contains(&b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function a POST to this path calls.
    fn called(path: &str) -> Option<String> {
        match route(&Method::POST, path) {
            Route::Execute(segment) => Some(segment.of(path).into_owned()),
            _ => None,
        }
    }

    #[test]
    fn paths_find_their_face() {
        let post = |path| route(&Method::POST, path);
        assert_eq!(called("/functions/hello/execute").as_deref(), Some("hello"));
        assert_eq!(
            called("/functions/hello/execute/").as_deref(),
            Some("hello")
        );
        assert_eq!(post("/functions/execute"), Route::Control, "the batch");
        assert_eq!(post("/functions/execute/"), Route::Control, "the batch");
        assert_eq!(post("/functions//execute"), Route::Control);
        assert_eq!(post("/functions/a/b/execute"), Route::Control);
        assert_eq!(
            route(&Method::GET, "/functions/hello/execute"),
            Route::Control,
            "which answers 405"
        );
        assert_eq!(route(&Method::GET, "/healthz/"), Route::Health);
        assert_eq!(route(&Method::GET, "/metrics"), Route::Metrics);
        assert_eq!(post("/dashboard/session"), Route::Session);
        assert_eq!(
            route(&Method::GET, "/dashboard/events"),
            Route::Control,
            "which asks for a key"
        );
        for path in [
            "/dashboard",
            "/dashboard/",
            "/dashboard/functions/f",
            "/dashboard/events/x",
            "/docs",
            "/docs/",
        ] {
            assert_eq!(route(&Method::GET, path), Route::Dashboard, "{path}");
        }
        assert_eq!(route(&Method::GET, "/dashboards"), Route::Function);
        for path in ["/functions", "/openapi.json", "/keys", "2015-03-31", "*"] {
            assert_eq!(route(&Method::GET, path), Route::Control, "{path}");
        }
        for path in ["/2015-03-31/functions", "/2015-03-31", "/2026-07-09/x/y"] {
            assert_eq!(route(&Method::GET, path), Route::Lambda, "{path}");
        }
        for path in [
            "/lambda-url/abc",
            "/lambda-url/abc/",
            "/lambda-url/abc/functions/f/execute",
        ] {
            assert_eq!(post(path), Route::Url, "{path}");
        }
        for path in [
            "/",
            "/lambda-urls",
            "/orders/7",
            "//functions",
            "/functionsx",
        ] {
            assert_eq!(route(&Method::GET, path), Route::Function, "{path}");
            assert_eq!(post(path), Route::Function, "{path}");
        }
    }

    #[test]
    fn a_name_is_decoded_once() {
        for (segment, name) in [
            ("h%65llo", "hello"),
            ("%68%65%6C%6c%6F", "hello"),
            ("h%C3%A9", "hé"),
            ("a%2Fb", "a/b"),
            ("%2e%2e", ".."),
            ("a%2565", "a%65"),
            ("%00", "\0"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%+1", "%zz%+1"),
        ] {
            let path = format!("/functions/{segment}/execute");
            assert_eq!(called(&path).as_deref(), Some(name), "{segment}");
        }
        for segment in ["%ff", "%c3", "a%c3%28"] {
            let path = format!("/functions/{segment}/execute");
            assert_eq!(route(&Method::POST, &path), Route::Control, "{segment}");
        }
        // Slashes are found before anything is decoded.
        let path = "/functions/a%2Fexecute";
        assert_eq!(route(&Method::POST, path), Route::Control);
    }
}
