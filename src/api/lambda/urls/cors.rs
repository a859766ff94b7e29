//! What browsers are told about a function URL with a CORS configuration: the answer to the question they ask first, which never reaches the
//! function, and the headers of every other answer, which take the place of the function's own. Pure.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response};

use crate::api::body::Body;
use crate::domain::url::Cors;

const ANY: &str = "*";
const OWN: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The answer to a browser that asks whether it may; `None` if this asks nothing of that kind.
pub fn preflight(cors: &Cors, method: &Method, asked: &HeaderMap) -> Option<Response<Body>> {
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if *method != Method::OPTIONS || !asked.contains_key(ORIGIN) {
        return None;
    }
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    if !allow(cors, asked, headers) {
        return Some(response);
    }
    if let Some(methods) = listed(&cors.allow_methods, Some(wanted)) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    let wanted = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(names) = listed(&cors.allow_headers, wanted) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if let Some(seconds) = cors.max_age_seconds {
        headers.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
    }
    Some(response)
}

/// Says in an answer what the configuration says.
pub fn add(cors: &Cors, asked: &HeaderMap, headers: &mut HeaderMap) {
    if !asked.contains_key(ORIGIN) {
        return;
    }
    for name in OWN {
        headers.remove(name);
    }
    if allow(cors, asked, headers)
        && let Some(names) = listed(&cors.expose_headers, None)
    {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
    }
}

/// What is said to every page that may call; `false` is to one that may not.
fn allow(cors: &Cors, asked: &HeaderMap, headers: &mut HeaderMap) -> bool {
    let Some(origin) = asked.get(ORIGIN) else {
        return false;
    };
    let origins = cors.allow_origins.as_deref().unwrap_or_default();
    let any = origins.iter().any(|known| known == ANY);
    let credentials = cors.allow_credentials == Some(true);
    // Browsers take no star together with credentials.
    let said = match any && !credentials {
        true => HeaderValue::from_static(ANY),
        false => {
            // Another page has another answer.
            headers.append(VARY, HeaderValue::from_static("Origin"));
            let known = |known: &String| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes());
            if !any && !origins.iter().any(known) {
                return false;
            }
            origin.clone()
        }
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, said);
    if credentials {
        let yes = HeaderValue::from_static("true");
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    true
}

/// A list as a header; a star is whatever was asked for, because with credentials a browser takes it for a name.
fn listed(list: &Option<Vec<String>>, wanted: Option<&HeaderValue>) -> Option<HeaderValue> {
    let list = list.as_ref().filter(|list| !list.is_empty())?;
    if let Some(wanted) = wanted.filter(|_| list.iter().any(|item| item == ANY)) {
        return Some(wanted.clone());
    }
    HeaderValue::try_from(list.join(",")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|item| (*item).to_owned()).collect())
    }

    fn some() -> Cors {
        Cors {
            allow_credentials: Some(true),
            allow_headers: list(&["x-a", "Content-Type"]),
            allow_methods: list(&["GET", "POST"]),
            allow_origins: list(&["https://a.example", "http://localhost:3000"]),
            expose_headers: list(&["x-b", "date"]),
            max_age_seconds: Some(86_400),
        }
    }

    fn any() -> Cors {
        Cors {
            allow_headers: list(&["*"]),
            allow_methods: list(&["*"]),
            allow_origins: list(&["*"]),
            ..Cors::default()
        }
    }

    fn asks(origin: &'static str) -> HeaderMap {
        headers(&[
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a,x-z"),
        ])
    }

    fn answered(cors: &Cors, origin: &'static str) -> HeaderMap {
        let answer = preflight(cors, &Method::OPTIONS, &asks(origin)).expect("is asked");
        assert_eq!(answer.status(), 200);
        answer.headers().clone()
    }

    #[test]
    fn a_browser_that_asks_is_told() {
        let wanted = headers(&[
            ("vary", "Origin"),
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-headers", "x-a,Content-Type"),
            ("access-control-max-age", "86400"),
        ]);
        assert_eq!(answered(&some(), "https://a.example"), wanted);
        let stranger = answered(&some(), "https://b.example");
        assert_eq!(stranger, headers(&[("vary", "Origin")]));
        let wanted = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "x-a,x-z"),
        ]);
        assert_eq!(answered(&any(), "https://b.example"), wanted);
        let with_cookies = Cors {
            allow_credentials: Some(true),
            ..any()
        };
        let told = answered(&with_cookies, "https://b.example");
        assert_eq!(told["access-control-allow-origin"], "https://b.example");
        assert!(answered(&Cors::default(), "https://b.example").len() == 1);
    }

    #[test]
    fn what_asks_nothing_is_the_functions() {
        let asks = asks("https://a.example");
        assert!(preflight(&some(), &Method::GET, &asks).is_none());
        for missing in ["origin", "access-control-request-method"] {
            let mut without = asks.clone();
            without.remove(missing);
            assert!(preflight(&some(), &Method::OPTIONS, &without).is_none());
        }
    }

    #[test]
    fn the_configuration_wins_over_what_the_function_says() {
        let said = || {
            headers(&[
                ("access-control-allow-origin", "https://function.example"),
                ("access-control-allow-methods", "DELETE"),
                ("vary", "Accept"),
                ("x-own", "1"),
            ])
        };
        let mut told = said();
        add(
            &some(),
            &headers(&[("origin", "https://a.example")]),
            &mut told,
        );
        assert_eq!(told["access-control-allow-origin"], "https://a.example");
        assert_eq!(told["access-control-expose-headers"], "x-b,date");
        assert!(!told.contains_key("access-control-allow-methods"));
        let vary: Vec<_> = told.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept", "Origin"]);
        assert_eq!(told["x-own"], "1");
        let mut told = said();
        add(&some(), &headers(&[("origin", "null")]), &mut told);
        assert!(!told.contains_key("access-control-allow-origin"));
        let mut told = said();
        add(&some(), &HeaderMap::new(), &mut told);
        assert_eq!(told, said(), "no browser asks");
    }
}
