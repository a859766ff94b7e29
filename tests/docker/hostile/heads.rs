//! Hostile heads: framing that two readers would read in two ways, lines that are no HTTP, headers and paths that try to be something
//! else, keys that are none. Whatever a reader might find smuggled in here would delete the victim.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Case, Step, Want};

const BAD: Want = Want::Status(&[400]);
/// 431 is what the HTTP library says of a length that is the largest number there is.
const BAD_CLOSED: Want = Want::StatusAndClosed(&[400, 431]);
const REFUSED: Want = Want::Status(&[400, 404, 405]);
/// While keys are tried, the door may become slower to answer.
const NO_KEY: Want = Want::Status(&[401, 429]);

/// What a smuggler would like to be read as a request of its own.
fn smuggled(key: &str) -> String {
    format!("DELETE /functions/victim HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n")
}

/// A call of a function that does not exist, with these lines in its head.
fn nobody(key: &str, lines: &str, body: &str) -> String {
    format!(
        "POST /functions/nobody/execute HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n{lines}\r\n{body}"
    )
}

/// Where one request ends and the next begins.
pub(crate) fn framing(key: &str) -> Vec<Case> {
    let smuggled = smuggled(key);
    let long = "x".repeat(40_000);
    // The one reading is taken that the standard says (RFC 9112, 6.3), and the connection ends: nothing behind it is a request. It is not
    // refused for having both, because nobody here knows: hyper takes the length away before it hands the head on. To see it first, the
    // bytes of every head on every connection would have to be looked through twice, on the warm path, for what harms nobody.
    let once = Want::StatusAndClosed(&[400, 404]);
    let mut cases = vec![
        (
            "length, then chunked",
            nobody(
                key,
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{smuggled}"),
            ),
            once,
        ),
        (
            "chunked, then length",
            nobody(
                key,
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &format!("0\r\n\r\n{smuggled}"),
            ),
            once,
        ),
        (
            "chunked between two lengths",
            nobody(
                key,
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n",
                &format!("0\r\n\r\n{smuggled}"),
            ),
            once,
        ),
        (
            "two lengths",
            nobody(
                key,
                &format!(
                    "Content-Length: 0\r\nContent-Length: {}\r\n",
                    smuggled.len()
                ),
                &smuggled,
            ),
            BAD_CLOSED,
        ),
        (
            "chunked in HTTP/1.0",
            nobody(
                key,
                "Transfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{smuggled}"),
            )
            .replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost")
            .replacen("HTTP/1.1", "HTTP/1.0", 1),
            Want::StatusAndClosed(&[400]),
        ),
    ];
    for value in [
        "0, 0",
        "+0",
        "-1",
        "0 0",
        "0x0",
        "",
        "0;",
        "0.0",
        "1e0",
        "\u{661}",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        let name = Box::leak(format!("length {value:?}").into_boxed_str());
        cases.push((
            name,
            nobody(key, &format!("Content-Length: {value}\r\n"), &smuggled),
            BAD_CLOSED,
        ));
    }
    for value in [
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked, chunked",
        "\u{b}chunked",
        "chunked\u{0}",
        "",
    ] {
        let name = Box::leak(format!("transfer encoding {value:?}").into_boxed_str());
        cases.push((
            name,
            nobody(
                key,
                &format!("Transfer-Encoding: {value}\r\n"),
                &format!("0\r\n\r\n{smuggled}"),
            ),
            Want::Status(&[400]),
        ));
    }
    cases.extend([
        (
            "two transfer encodings",
            nobody(
                key,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                "0\r\n\r\n",
            ),
            BAD,
        ),
        (
            "chunked twice",
            nobody(
                key,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            BAD,
        ),
        (
            "space before the colon",
            nobody(key, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
            BAD,
        ),
        (
            "folded header",
            nobody(key, "X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            BAD,
        ),
        ("folded with a tab", nobody(key, "X: y\r\n\tz\r\n", ""), BAD),
        (
            "first header folded",
            "GET /functions/ HTTP/1.1\r\n Host: h\r\n\r\n".into(),
            BAD,
        ),
        (
            "header split by a bare CR",
            nobody(key, "X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            BAD,
        ),
    ]);
    let broken = Want::StatusOrClosed(&[400, 408]);
    for (name, body) in [
        (
            "chunk size that is no number",
            "zz\r\nabc\r\n0\r\n\r\n".to_owned(),
        ),
        ("chunk size with a sign", "+3\r\nabc\r\n0\r\n\r\n".into()),
        ("negative chunk size", "-3\r\nabc\r\n0\r\n\r\n".into()),
        ("chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n".into()),
        (
            "chunk size that overflows",
            "10000000000000003\r\nabc\r\n0\r\n\r\n".into(),
        ),
        (
            "chunk size that is enormous",
            "FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n".into(),
        ),
        ("no chunk size", "\r\nabc\r\n0\r\n\r\n".into()),
        ("chunks with bare line feeds", "3\nabc\n0\n\n".into()),
        (
            "chunk longer than it says",
            "3\r\nabcdef\r\n0\r\n\r\n".into(),
        ),
        (
            "chunk with a huge extension",
            format!("3;{long}\r\nabc\r\n0\r\n\r\n"),
        ),
        (
            "chunk with a line feed in its extension",
            "3;a\nb\r\nabc\r\n0\r\n\r\n".into(),
        ),
        (
            "huge trailers",
            format!("0\r\nX: {}\r\n\r\n", "y".repeat(100_000)),
        ),
        ("chunks that stop", "3\r\nab".into()),
    ] {
        let lines = "Transfer-Encoding: chunked\r\n";
        cases.push((name, nobody(key, lines, &body), broken));
    }
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(name, text, want)| Case::new(name, text, want))
        .collect();
    cases.push(
        Case::new(
            "body shorter than it says, then half closed",
            nobody(key, "Content-Length: 50\r\n", "{}"),
            broken,
        )
        .then(Step::HalfClose),
    );
    cases.push(Case::new(
        "body longer than it says",
        nobody(key, "Content-Length: 2\r\n", "{}junk junk junk\r\n\r\n"),
        Want::All(&[404, 400]),
    ));
    cases.push(Case::new(
        "body over the limit, announced",
        nobody(key, "Content-Length: 7000000\r\n", ""),
        Want::StatusOrClosed(&[404, 413]),
    ));
    cases
}

/// Lines and headers.
pub(crate) fn lines(key: &str) -> Vec<Case> {
    // None of these is two requests, so none has to be waited for.
    let auth = format!("Authorization: Bearer {key}\r\nConnection: close\r\n");
    let line = |line: &str| format!("{line}\r\nHost: h\r\n{auth}\r\n").into_bytes();
    let with = |header: &[u8]| {
        let mut bytes =
            format!("DELETE /functions/nobody HTTP/1.1\r\nHost: h\r\n{auth}").into_bytes();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    };
    let junk = Want::StatusOrClosed(&[400]);
    let mut cases = Vec::new();
    for (name, text) in [
        ("no version", "DELETE /functions/victim"),
        ("HTTP/1.2", "DELETE /functions/victim HTTP/1.2"),
        ("HTTP/2.0 by name", "DELETE /functions/victim HTTP/2.0"),
        ("HTTP/0.9 by name", "DELETE /functions/victim HTTP/0.9"),
        (
            "version in small letters",
            "DELETE /functions/victim http/1.1",
        ),
        (
            "version with more behind it",
            "DELETE /functions/victim HTTP/1.1 x",
        ),
        ("two spaces", "DELETE  /functions/victim HTTP/1.1"),
        ("tabs for spaces", "DELETE\t/functions/victim\tHTTP/1.1"),
        ("space in the path", "DELETE /functions/victim x HTTP/1.1"),
        ("no path", "DELETE HTTP/1.1"),
        ("path without a slash", "DELETE functions/victim HTTP/1.1"),
        (
            "method that is no token",
            "DEL(ETE /functions/victim HTTP/1.1",
        ),
        (
            "space before the method",
            " DELETE /functions/victim HTTP/1.1",
        ),
        ("NUL in the path", "DELETE /functions/victim\0 HTTP/1.1"),
        ("CR in the path", "DELETE /functions/victim\rx HTTP/1.1"),
        (
            "quote and angle brackets in the path",
            "DELETE /functions/<\"victim\"> HTTP/1.1",
        ),
    ] {
        cases.push(Case::new(name, line(text), junk));
    }
    for (name, text) in [
        (
            "method in small letters",
            "delete /functions/victim HTTP/1.1",
        ),
        ("unknown method", "OBLITERATE /functions/victim HTTP/1.1"),
        ("CONNECT", "CONNECT h:80 HTTP/1.1"),
        ("CONNECT with a path", "CONNECT /functions/victim HTTP/1.1"),
        ("TRACE", "TRACE /functions/victim HTTP/1.1"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1"),
        ("DELETE *", "DELETE * HTTP/1.1"),
        (
            "absolute form of elsewhere",
            "DELETE http://elsewhere/functions/nobody HTTP/1.1",
        ),
        (
            "absolute form of another scheme",
            "DELETE ftp://h/functions/nobody HTTP/1.1",
        ),
        ("absolute form without a path", "DELETE http://h HTTP/1.1"),
        ("authority form", "DELETE h:80 HTTP/1.1"),
    ] {
        cases.push(Case::new(name, line(text), REFUSED));
    }
    cases.push(Case::new(
        "method of ten thousand letters",
        line(&format!("{} / HTTP/1.1", "A".repeat(10_000))),
        REFUSED,
    ));
    let large = Want::StatusOrClosed(&[414, 431]);
    cases.push(Case::new(
        "huge path",
        line(&format!("DELETE /{} HTTP/1.1", "a".repeat(70_000))),
        large,
    ));
    cases.push(Case::new(
        "huge query",
        line(&format!(
            "DELETE /functions/victim?{} HTTP/1.1",
            "a=b&".repeat(20_000)
        )),
        large,
    ));
    cases.push(Case::new(
        "huge header",
        with(format!("X: {}", "y".repeat(100_000)).as_bytes()),
        large,
    ));
    cases.push(Case::new(
        "huge header name",
        with(format!("{}: y", "X".repeat(70_000)).as_bytes()),
        Want::StatusOrClosed(&[400, 431]),
    ));
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    cases.push(Case::new(
        "a thousand headers",
        with(many.trim_end().as_bytes()),
        large,
    ));
    for (name, header) in [
        ("NUL in a header", &b"X: a\0b"[..]),
        ("NUL in a header's name", b"X\0: a"),
        ("bare CR in a header", b"X: a\rb"),
        ("DEL in a header", b"X: a\x7fb"),
        ("header without a colon", b"nonsense"),
        ("header without a name", b": a"),
        ("space in a header's name", b"X Y: a"),
        ("bytes in a header's name", b"\xc3\xa9: a"),
        ("second host", b"Host: victim"),
        ("second key", b"Authorization: Bearer other"),
        (
            "second kind of body",
            b"Content-Type: a/b\r\nContent-Type: c/d",
        ),
    ] {
        cases.push(Case::new(name, with(header), BAD));
    }
    for value in ["200-ok", "", "100-continue, 200-ok", "100-continu\u{e9}"] {
        let header = format!("Expect: {value}");
        cases.push(Case::new(
            format!("expect {value:?}"),
            with(header.as_bytes()),
            Want::Status(&[417]),
        ));
    }
    for host in [
        "a b", "a/b", "user@h", "h:80:80", "http://h", "h\\x", "[::1", "\u{e9}",
    ] {
        let text = format!("DELETE /functions/victim HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n");
        cases.push(Case::new(format!("host {host:?}"), text, BAD));
    }
    cases.push(Case::new(
        "no host",
        format!("DELETE /functions/victim HTTP/1.1\r\n{auth}\r\n"),
        BAD,
    ));
    for (name, lines) in [
        (
            "upgrade to h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        ),
        (
            "upgrade to a web socket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
        (
            "upgrade to nonsense",
            "Connection: Upgrade\r\nUpgrade: \x01\r\n",
        ),
    ] {
        cases.push(Case::new(
            name,
            nobody(key, lines, ""),
            Want::Status(&[400, 404]),
        ));
    }
    cases.push(Case::new(
        "binary junk",
        b"\x00\x01\x02\xff\xfe\r\n\r\n".to_vec(),
        junk,
    ));
    cases.push(Case::new(
        "TLS to a plain port",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".to_vec(),
        junk,
    ));
    cases.push(Case::new(
        "SSH to a plain port",
        b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(),
        junk,
    ));
    cases.push(Case::new("HTTP/0.9", b"GET /functions/\r\n".to_vec(), junk));
    cases.push(Case::new(
        "RTSP",
        line("OPTIONS rtsp://h/functions/victim RTSP/1.0"),
        junk,
    ));
    cases.push(Case::new(
        "line feeds alone, without a key",
        b"GET /functions/ HTTP/1.1\nHost: h\n\n".to_vec(),
        Want::Status(&[400, 401]),
    ));
    cases
}

/// Paths that lead to the victim only if they are read twice, or in another way than once from left to right.
pub(crate) fn paths(key: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "/functions/../functions/victim",
        "/functions/./victim",
        "/functions/x/../victim",
        "/functions/%2e/victim",
        "/functions/%2e%2e/functions/victim",
        "/functions/..%2fvictim",
        "/functions/x%2f..%2fvictim",
        "/functions//victim",
        "//functions/victim",
        "///functions///victim",
        "/functions%2fvictim",
        "/functions/victim%00",
        "/functions/victim%00.json",
        "/functions/victim%20",
        "/functions/victim%0d%0aX:%20y",
        "/functions/victim;x=y",
        "/functions/victim%2fcode",
        "/functions/victim/.",
        "/functions/victim/..",
        "/functions/%2576ictim",
        "/functions/%252e%252e/victim",
        "/functions/%u0076ictim",
        "/functions/%c0%76ictim",
        "/functions/%ff",
        "/functions/\u{ff56}ictim",
        "/functions/VICTIM",
        "/FUNCTIONS/victim",
        "/functions\\victim",
        "/functions/victim%",
        "/functions/victim%2",
        "/functions/*",
        "/functions/victim//",
    ] {
        let text = format!(
            "DELETE {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        cases.push(Case::new(format!("DELETE {path}"), text, REFUSED));
        let text = format!(
            "POST {path}/execute HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        cases.push(Case::new(format!("POST {path}/execute"), text, REFUSED));
    }
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1e3",
        "limit=99999999999999999999",
        "limit=",
        "limit=1&limit=2",
        "cursor=x",
        "what=1",
        "%00=1",
        "limit[]=1",
        "limit=1;what=1",
        "=",
        "limit=%31%00",
    ] {
        let text = format!(
            "GET /functions/?{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        cases.push(Case::new(format!("GET /functions/?{query}"), text, BAD));
    }
    cases
}

/// Who comes without a key, with something like one, or through somebody else's browser.
pub(crate) fn strangers(key: &str) -> Vec<Case> {
    let with =
        |header: &str| format!("DELETE /functions/victim HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n");
    let basic = |text: &str| format!("Authorization: Basic {}", STANDARD.encode(text));
    let good = format!("Authorization: Bearer {key}");
    let mut cases = Vec::new();
    for (name, header) in [
        ("no key", "X: y".to_owned()),
        ("empty key", "Authorization: Bearer ".into()),
        ("no scheme", format!("Authorization: {key}")),
        ("another scheme", format!("Authorization: Digest {key}")),
        (
            "key in capitals",
            format!("Authorization: Bearer {}", key.to_uppercase()),
        ),
        (
            "beginning of the key",
            format!("Authorization: Bearer {}", &key[..key.len() - 1]),
        ),
        ("key and more", format!("Authorization: Bearer {key}x")),
        (
            "two keys in one",
            format!("Authorization: Bearer other {key}"),
        ),
        ("key in quotes", format!("Authorization: Bearer \"{key}\"")),
        (
            "overlong key",
            format!("Authorization: Bearer {}", "k".repeat(30_000)),
        ),
        (
            "key of bytes",
            "Authorization: Bearer \u{e9}\u{e9}\u{e9}".into(),
        ),
        ("basic without base64", "Authorization: Basic %%%".into()),
        ("basic without a colon", basic(key)),
        ("basic with the key as the name", basic(&format!("{key}:"))),
        (
            "empty other header beside the key",
            format!("X-Api-Key: \r\n{good}"),
        ),
        ("key in another header", format!("X-Key: {key}")),
        (
            "key in a cookie",
            format!("Cookie: key={key}; authorization=Bearer {key}"),
        ),
        (
            "forwarded as this machine",
            "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1".into(),
        ),
        ("method by header", "X-HTTP-Method-Override: GET".into()),
        (
            "path by header",
            "X-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz".into(),
        ),
    ] {
        cases.push(Case::new(name, with(&header), NO_KEY));
    }
    let query = format!(
        "DELETE /functions/victim?key={key}&access_token={key} HTTP/1.1\r\nHost: h\r\n\r\n"
    );
    cases.push(Case::new("key in the query", query, NO_KEY));
    let user = format!("DELETE http://hearth:{key}@h/functions/victim HTTP/1.1\r\nHost: h\r\n\r\n");
    cases.push(Case::new(
        "key in the address",
        user,
        Want::Status(&[400, 401, 429]),
    ));
    // A name that was made to lead here shows the page no key.
    let rebound = "GET /functions/ HTTP/1.1\r\nHost: rebound.example\r\nOrigin: http://rebound.example\r\n\r\n";
    cases.push(Case::new(
        "name that was made to lead here",
        rebound,
        NO_KEY,
    ));
    for (name, header) in [
        ("page from elsewhere", "Sec-Fetch-Site: cross-site"),
        ("page from a neighbour", "Sec-Fetch-Site: same-site"),
        ("origin elsewhere", "Origin: http://elsewhere.example"),
        ("origin without a name", "Origin: null"),
        ("origin on another port", "Origin: http://h:81"),
    ] {
        let header = format!("{}\r\n{header}", basic(&format!("anybody:{key}")));
        cases.push(Case::new(name, with(&header), Want::Status(&[403])));
    }
    cases
}

/// What takes its time, and what says several things at once.
pub(crate) fn time(key: &str) -> Vec<Case> {
    let pause = Duration::from_millis(100);
    let drops = |piece: &[u8]| Step::Dribble {
        piece: piece.to_vec(),
        pause,
        times: 600,
    };
    let gone = Want::StatusOrClosed(&[408]);
    let head =
        format!("DELETE /functions/victim HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n");
    let call = format!(
        "POST /functions/victim/execute HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n"
    );
    let plain = "GET /functions/ HTTP/1.1\r\nHost: h\r\n\r\n";
    vec![
        Case::new("nothing at all", "", Want::Closed),
        Case::new("nothing but a beginning", "DEL", gone),
        Case::new("half a head", head.clone(), gone),
        Case::new("slow head", head.clone(), gone).then(drops(b"X: y\r\n")),
        Case::new("head letter by letter", "DELETE /", gone).then(drops(b"a")),
        Case::new("empty lines for ever", "", gone).then(drops(b"\r\n")),
        Case::new(
            "half the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nS",
            Want::Closed,
        ),
        Case::new(
            "half a head, then half closed",
            head,
            Want::StatusOrClosed(&[400]),
        )
        .then(Step::HalfClose),
        Case::new(
            "body that does not come",
            format!("{call}Content-Length: 100\r\n\r\n"),
            gone,
        ),
        Case::new(
            "slow body",
            format!("{call}Content-Length: 1000\r\n\r\n{{\"a\": \""),
            gone,
        )
        .then(drops(b"x")),
        Case::new(
            "slow chunks",
            format!("{call}Transfer-Encoding: chunked\r\n\r\n"),
            gone,
        )
        .then(drops(b"1\r\n \r\n")),
        Case::new(
            "chunk size digit by digit",
            format!("{call}Transfer-Encoding: chunked\r\n\r\n"),
            Want::StatusOrClosed(&[400, 408]),
        )
        .then(drops(b"0")),
        Case::new(
            "expects to go on and does not",
            format!("{call}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"),
            Want::All(&[100, 408]),
        ),
        Case::new(
            "three at once without a key",
            plain.repeat(3),
            Want::All(&[401, 401, 401]),
        ),
        Case::new(
            "one and junk",
            format!("{plain}junk\r\n\r\n"),
            Want::All(&[401, 400]),
        ),
        Case::new(
            "closing and then more",
            format!(
                "{}{}",
                plain.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
                smuggled(key)
            ),
            Want::All(&[401]),
        ),
    ]
}
