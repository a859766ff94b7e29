//! Which face a request is for. Pure; warm path: a few comparisons of bytes, no allocation.

use http::Method;

#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Call one function; what stands between the slashes is its id or name.
    Execute(&'a str),
    /// Alive: the process answers.
    Health,
    /// Ready: calls can be served.
    Ready,
    Metrics,
    /// Everything else is the control API's, which also knows what does not exist.
    Control,
}

impl Route<'_> {
    /// As a metric label.
    pub fn face(&self) -> &'static str {
        match self {
            Route::Execute(_) => "execute",
            Route::Health | Route::Ready | Route::Metrics => "operators",
            Route::Control => "control",
        }
    }

    /// Whether a key is asked for.
    pub fn is_open(&self) -> bool {
        matches!(self, Route::Health | Route::Ready)
    }
}

pub fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    if *method == Method::POST
        && let Some(name) = executed(path)
    {
        return Route::Execute(name);
    }
    match (method, path.strip_suffix('/').unwrap_or(path)) {
        (&Method::GET | &Method::HEAD, "/healthz") => Route::Health,
        (&Method::GET | &Method::HEAD, "/readyz") => Route::Ready,
        (&Method::GET | &Method::HEAD, "/metrics") => Route::Metrics,
        _ => Route::Control,
    }
}

/// The name in `/functions/{name}/execute`, with or without a slash at the end.
fn executed(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/functions/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let name = rest.strip_suffix("/execute")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_face() {
        let post = |path| route(&Method::POST, path);
        assert_eq!(post("/functions/hello/execute"), Route::Execute("hello"));
        assert_eq!(post("/functions/hello/execute/"), Route::Execute("hello"));
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
        assert_eq!(route(&Method::GET, "/"), Route::Control);
    }
}
