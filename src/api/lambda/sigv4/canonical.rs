//! The canonical form of a request that Signature Version 4 signs. Pure. A client signs the path as it goes over the wire, escaped once
//! more, which is how every AWS service but S3 has it.

use std::fmt::Write;

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
pub const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
pub const PATH: &AsciiSet = &STRICT.remove(b'/');

/// What is signed of a request. `host` is what the client called the server, which HTTP/2 has in no header.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub host: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// Names in lower case, in order.
    pub names: &'a [String],
    /// Hex of the body's hash, or what is written in its place.
    pub payload: &'a str,
}

/// `None` if a header that is said to be signed is not there, or cannot be read.
pub fn request(signed: &Signed<'_>) -> Option<String> {
    let mut text = String::with_capacity(512);
    for line in [signed.method, &path(signed.path), &query(signed.query)] {
        text.push_str(line);
        text.push('\n');
    }
    for name in signed.names {
        text.push_str(name);
        text.push(':');
        let mut values = signed.headers.get_all(name).iter().peekable();
        match (values.peek().is_some(), name.as_str(), signed.host) {
            (false, "host", Some(host)) => text.push_str(host),
            (false, _, _) => return None,
            (true, _, _) => {
                for (at, value) in values.enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    // Clients sign what they wrote, which need not be ASCII.
                    squeeze(std::str::from_utf8(value.as_bytes()).ok()?, &mut text);
                }
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.names.join(";"));
    text.push('\n');
    text.push_str(signed.payload);
    Some(text)
}

/// Without spaces around it, and with single ones inside.
fn squeeze(value: &str, out: &mut String) {
    for (at, word) in value.split(' ').filter(|word| !word.is_empty()).enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

fn path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len() + 16);
    for segment in &kept {
        write!(text, "/{}", utf8_percent_encode(segment, PATH)).expect("a string takes everything");
    }
    let ends_with_slash = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if ends_with_slash || text.is_empty() {
        text.push('/');
    }
    text
}

/// Names and values, escaped the one way there is and in order. The signature is never part of it.
fn query(query: &str) -> String {
    let encode = |text: &str| {
        // What is not UTF-8 is escaped byte by byte, as it came.
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&bytes, STRICT).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_escaped_once_more() {
        for (wire, signed) in [
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/a/..", "/"),
            ("/a/../..", "/"),
            ("//example//", "/example/"),
            ("/./example", "/example"),
            ("/a%3Ab", "/a%253Ab"),
            ("/2015-03-31/functions/", "/2015-03-31/functions/"),
            ("/-._~x", "/-._~x"),
            ("/$LATEST:1", "/%24LATEST%3A1"),
        ] {
            assert_eq!(path(wire), signed, "{wire}");
        }
    }

    #[test]
    fn queries_are_sorted_and_escaped_the_one_way_there_is() {
        for (wire, signed) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=1&a=2"),
            ("List", "List="),
            ("Qualifier=%24LATEST", "Qualifier=%24LATEST"),
            ("Qualifier=$LATEST", "Qualifier=%24LATEST"),
            ("k=a+b", "k=a%2Bb"),
            ("k=%e1%88%b4", "k=%E1%88%B4"),
            ("X-Amz-Signature=x&a=b", "a=b"),
        ] {
            assert_eq!(query(wire), signed, "{wire}");
        }
    }
}
