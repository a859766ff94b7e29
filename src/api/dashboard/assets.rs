//! The files of the dashboard, as `build.rs` embedded them, and how a browser may use them. Nothing is read or compressed here: every file
//! is there plain and in two compressed forms. Pure.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{Method, Response, StatusCode};

use crate::api::body::Body;

#[derive(Debug)]
struct Asset {
    /// Below `/dashboard/`.
    path: &'static str,
    content_type: &'static str,
    /// Of the content, without quotes.
    tag: &'static str,
    /// The name changes with the content: it can be kept for ever.
    hashed: bool,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// The page of all addresses that are no file: it finds out itself what it is to show.
const PAGE: &str = "index.html";
/// The directory of everything that is no page.
const FILES: &str = "assets/";

/// Own files only, no script or style but from files, nothing that frames it. Attributes of style are what the editor and the charts place
/// things with; they cannot load anything that the rest does not allow.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";

const UNBUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Hearth</title><h1>The dashboard is not in this binary</h1>\
    <p>It is built before the program is: run <code>scripts/dashboard.sh</code>, or <code>make up</code>, and build \
    again. Everything else works without it.</html>\n";

const FRAMES: HeaderName = HeaderName::from_static("x-frame-options");
const SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");
const REFERRER: HeaderName = HeaderName::from_static("referrer-policy");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CSP: HeaderName = HeaderName::from_static("content-security-policy");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Brotli,
    Gzip,
    Plain,
}

/// The answer to a request for a path below `/dashboard`, or for `/docs`, which is a page of the same program.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
    let mut response = match path.strip_prefix("/dashboard") {
        _ if !matches!(*method, Method::GET | Method::HEAD) => {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            response
        }
        // What the page refers to it does by its own directory.
        Some("") => {
            let mut response = status(StatusCode::PERMANENT_REDIRECT);
            let there = HeaderValue::from_static("/dashboard/");
            response.headers_mut().insert(LOCATION, there);
            response
        }
        Some(rest) => file(rest.trim_start_matches('/'), headers),
        None => file(PAGE, headers),
    };
    if *method == Method::HEAD {
        *response.body_mut() = Body::Full(Bytes::new());
    }
    let own = response.headers_mut();
    own.insert(CSP, HeaderValue::from_static(POLICY));
    own.insert(FRAMES, HeaderValue::from_static("DENY"));
    own.insert(SNIFFING, HeaderValue::from_static("nosniff"));
    own.insert(REFERRER, HeaderValue::from_static("no-referrer"));
    own.insert(OPENER, HeaderValue::from_static("same-origin"));
    own.insert(RESOURCE, HeaderValue::from_static("same-origin"));
    response
}

fn file(path: &str, headers: &HeaderMap) -> Response<Body> {
    let find = |path: &str| ASSETS.iter().find(|asset| asset.path == path);
    let found = match path.starts_with(FILES) {
        true => find(path),
        false => find(path).or_else(|| find(PAGE)),
    };
    match found {
        Some(asset) => served(asset, headers),
        None if ASSETS.is_empty() => unbuilt(),
        None => status(StatusCode::NOT_FOUND),
    }
}

fn served(asset: &Asset, headers: &HeaderMap) -> Response<Body> {
    let coding = chosen(headers);
    let (content, coding) = match coding {
        Coding::Brotli => (asset.brotli, Some("br")),
        Coding::Gzip => (asset.gzip, Some("gzip")),
        Coding::Plain => (asset.plain, None),
    };
    let tag = format!("\"{}-{}\"", asset.tag, coding.unwrap_or("plain"));
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        let listed = value.to_str().unwrap_or_default().split(',');
        listed
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == tag || one == "*")
    });
    let mut response = match known {
        true => status(StatusCode::NOT_MODIFIED),
        false => {
            let mut response = Response::new(Body::Full(Bytes::from_static(content)));
            let own = response.headers_mut();
            own.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
            own.insert(CONTENT_LENGTH, content.len().into());
            if let Some(coding) = coding {
                own.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            response
        }
    };
    let own = response.headers_mut();
    own.insert(VARY, HeaderValue::from_static("accept-encoding"));
    let tag = HeaderValue::try_from(tag).expect("a hash in quotes");
    own.insert(ETAG, tag);
    let kept = match asset.hashed {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    own.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    response
}

fn unbuilt() -> Response<Body> {
    let mut response = status(StatusCode::NOT_FOUND);
    *response.body_mut() = Body::Full(Bytes::from_static(UNBUILT.as_bytes()));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

/// The smallest form the client takes. What it gives a weight of nothing it does not take; other weights say nothing here.
fn chosen(headers: &HeaderMap) -> Coding {
    let takes = |coding: &str| {
        headers.get_all(ACCEPT_ENCODING).iter().any(|value| {
            let mut listed = value.to_str().unwrap_or_default().split(',');
            listed.any(|one| {
                let (name, weight) = one.split_once(';').unwrap_or((one, ""));
                let weight: String = weight.split_whitespace().collect();
                let none = weight
                    .strip_prefix("q=")
                    .and_then(|number| number.parse::<f32>().ok())
                    .is_some_and(|number| number <= 0.0);
                name.trim().eq_ignore_ascii_case(coding) && !none
            })
        })
    };
    match () {
        () if takes("br") => Coding::Brotli,
        () if takes("gzip") => Coding::Gzip,
        () => Coding::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &str)| {
            (name.clone(), value.parse().expect("a header's value"))
        };
        pairs.iter().map(pair).collect()
    }

    static ASSET: Asset = Asset {
        path: "assets/a-1.css",
        content_type: "text/css",
        tag: "1",
        hashed: true,
        plain: b"plain",
        gzip: b"gz",
        brotli: b"b",
    };

    #[test]
    fn the_smallest_form_a_client_takes_is_chosen() {
        for (accepted, want) in [
            ("gzip, deflate, br", Coding::Brotli),
            ("br;q=0, gzip;q=0.1", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("gzip; q = 0", Coding::Plain),
            ("identity", Coding::Plain),
            ("brotli", Coding::Plain),
            ("", Coding::Plain),
        ] {
            let headers = with(&[(ACCEPT_ENCODING, accepted)]);
            assert_eq!(chosen(&headers), want, "{accepted:?}");
        }
        assert_eq!(chosen(&HeaderMap::new()), Coding::Plain);
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let first = served(&ASSET, &with(&[(ACCEPT_ENCODING, "gzip")]));
        assert_eq!(first.status(), 200);
        assert_eq!(first.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(first.headers()[CONTENT_LENGTH], "2");
        assert!(
            first.headers()[CACHE_CONTROL]
                .to_str()
                .is_ok_and(|text| text.contains("immutable"))
        );
        let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
        let weak = format!("\"other\", W/{tag}");
        for (sent, encoding, want) in [
            (tag.as_str(), "gzip", 304),
            (weak.as_str(), "gzip", 304),
            ("*", "gzip", 304),
            // Another form is another entity.
            (tag.as_str(), "br", 200),
            ("\"1\"", "gzip", 200),
        ] {
            let headers = with(&[(ACCEPT_ENCODING, encoding), (IF_NONE_MATCH, sent)]);
            let again = served(&ASSET, &headers);
            assert_eq!(again.status(), want, "{sent}");
            assert_eq!(again.headers()[VARY], "accept-encoding");
        }
    }

    #[test]
    fn every_answer_says_what_a_page_may_do() {
        for (method, path, want) in [
            (Method::GET, "/dashboard", 308),
            (Method::POST, "/dashboard/", 405),
            (Method::GET, "/dashboard/assets/none.js", 404),
            (Method::GET, "/dashboard/assets/../index.html", 404),
        ] {
            let response = answer(&method, path, &HeaderMap::new());
            assert_eq!(response.status(), want, "{method} {path}");
            let policy = response.headers()[CSP].to_str().expect("text");
            assert!(policy.contains("default-src 'none'"));
            assert!(policy.contains("frame-ancestors 'none'"));
            assert!(!policy.contains("script-src 'self' 'unsafe-inline'"));
            assert_eq!(response.headers()[SNIFFING], "nosniff");
        }
    }

    /// With the dashboard built this is the page, without it the page that says so; never nothing.
    #[test]
    fn there_is_always_a_page() {
        for path in ["/dashboard/", "/dashboard/functions/x", "/docs", "/docs/"] {
            let response = answer(&Method::GET, path, &HeaderMap::new());
            let want = if ASSETS.is_empty() { 404 } else { 200 };
            assert_eq!(response.status(), want, "{path}");
            let kind = response.headers()[CONTENT_TYPE].to_str().expect("text");
            assert!(kind.starts_with("text/html"), "{kind}");
            assert!(http_body::Body::size_hint(response.body()).lower() > 100);
        }
    }

    #[test]
    fn the_first_visit_is_small() {
        let sum: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(sum <= 300 * 1024, "{sum} bytes");
        for asset in ASSETS {
            assert!(asset.path == PAGE || asset.hashed, "{}", asset.path);
        }
    }
}
