//! The published test suite of the signature, the published example of chunks, and everything that must not be believed.

use http::Request;

use super::*;
use crate::api::lambda::sigv4::presign::Signer;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TIME: &str = "20150830T123600Z";

fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn at(text: &str) -> Timestamp {
    read_time(text).expect("a time")
}

/// Name, method, path, query, headers, body, signature. Date and host are in all of them.
#[expect(clippy::type_complexity, reason = "a table")]
const SUITE: &[(&str, &str, &str, &str, &[(&str, &str)], &str, &str)] = &[
    (
        "get-vanilla",
        "GET",
        "/",
        "",
        &[],
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "get-header-key-duplicate",
        "GET",
        "/",
        "",
        &[
            ("my-header1", "value2"),
            ("my-header1", "value2"),
            ("my-header1", "value1"),
        ],
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    (
        "get-header-value-order",
        "GET",
        "/",
        "",
        &[
            ("my-header1", "value4"),
            ("my-header1", "value1"),
            ("my-header1", "value3"),
            ("my-header1", "value2"),
        ],
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    (
        "get-header-value-trim",
        "GET",
        "/",
        "",
        &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "get-unreserved",
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "",
        &[],
        "",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    (
        "get-utf8",
        "GET",
        "/ሴ",
        "",
        &[],
        "",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    (
        "get-space",
        "GET",
        "/example space/",
        "",
        &[],
        "",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    (
        "get-slashes",
        "GET",
        "//example//",
        "",
        &[],
        "",
        "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
    ),
    (
        "get-slash-pointless-dot",
        "GET",
        "/./example",
        "",
        &[],
        "",
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    (
        "get-relative-relative",
        "GET",
        "/example1/example2/../..",
        "",
        &[],
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "get-vanilla-empty-query-key",
        "GET",
        "/",
        "Param1=value1",
        &[],
        "",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    (
        "get-vanilla-query-order-key-case",
        "GET",
        "/",
        "Param2=value2&Param1=value1",
        &[],
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "get-vanilla-query-order-key",
        "GET",
        "/",
        "Param1=value2&Param1=Value1",
        &[],
        "",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    (
        "get-vanilla-query-order-value",
        "GET",
        "/",
        "Param1=value2&Param1=value1",
        &[],
        "",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    (
        "get-vanilla-query-unreserved",
        "GET",
        "/",
        "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        "",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    (
        "get-vanilla-utf8-query",
        "GET",
        "/",
        "ሴ=bar",
        &[],
        "",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    (
        "post-vanilla",
        "POST",
        "/",
        "",
        &[],
        "",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    (
        "post-header-key-sort",
        "POST",
        "/",
        "",
        &[("my-header1", "value1")],
        "",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    (
        "post-header-value-case",
        "POST",
        "/",
        "",
        &[("my-header1", "VALUE1")],
        "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    (
        "post-vanilla-query",
        "POST",
        "/",
        "Param1=value1",
        &[],
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    (
        "post-x-www-form-urlencoded",
        "POST",
        "/",
        "",
        &[("content-type", "application/x-www-form-urlencoded")],
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
];

#[test]
fn the_published_suite_is_signed_as_published() {
    for (name, method, path, query, headers, body, signature) in SUITE {
        let mut map = HeaderMap::new();
        let all = headers
            .iter()
            .chain(&[("x-amz-date", TIME), ("host", "example.amazonaws.com")]);
        for (name, value) in all {
            let name: http::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        let mut names: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        let canonical = canonical::request(&Signed {
            method,
            path,
            query,
            host: None,
            headers: &map,
            names: &names,
            payload: &hex::encode(Sha256::digest(body.as_bytes())),
        });
        let key = Key::new(SECRET, "20150830", "us-east-1", "service");
        let scope = "20150830/us-east-1/service/aws4_request";
        let canonical = canonical.expect("all headers are there");
        assert_eq!(
            key.sign(TIME, scope, &canonical),
            *signature,
            "{name}\n{canonical}"
        );
    }
}

/// `post-vanilla` of the suite as a whole request.
fn vanilla() -> Vec<(&'static str, &'static str)> {
    vec![
        ("host", "example.amazonaws.com"),
        ("x-amz-date", TIME),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ]
}

fn verified(parts: &Parts, secret: &str, body: &[u8]) -> Result<(), Error> {
    let claim = Claim::of(parts)?;
    claim.is_for("us-east-1", "service", at(TIME))?;
    claim.covers(&parts.headers)?;
    claim
        .verify(secret, parts, &Payload::of(&parts.headers), body)
        .map(drop)
}

#[test]
fn a_request_is_believed_as_it_was_signed_and_in_no_other_form() {
    let good = parts("POST", "/", &vanilla());
    assert_eq!(verified(&good, SECRET, b""), Ok(()));
    assert_eq!(
        Claim::of(&good).map(|c| c.access_key),
        Ok("AKIDEXAMPLE".into())
    );
    let mut short = vanilla();
    short[2].1 = &short[2].1[..short[2].1.len() - 1];
    for (what, parts, secret, body) in [
        ("another secret", good.clone(), "x", &b""[..]),
        ("another body", good.clone(), SECRET, b"{}"),
        ("another method", parts("PUT", "/", &vanilla()), SECRET, b""),
        ("another path", parts("POST", "/a", &vanilla()), SECRET, b""),
        (
            "another query",
            parts("POST", "/?a", &vanilla()),
            SECRET,
            b"",
        ),
        ("half a signature", parts("POST", "/", &short), SECRET, b""),
    ] {
        assert_eq!(
            verified(&parts, secret, body),
            Err(Error::Mismatch),
            "{what}"
        );
    }
    let mut other = vanilla();
    other[0].1 = "other.example.com";
    assert_eq!(
        verified(&parts("POST", "/", &other), SECRET, b""),
        Err(Error::Mismatch)
    );
    let mut more = vanilla();
    more.push(("x-amz-invocation-type", "Event"));
    assert_eq!(
        verified(&parts("POST", "/", &more), SECRET, b""),
        Err(Error::Unsigned("x-amz-invocation-type".into()))
    );
}

#[test]
fn a_signature_is_for_a_time_a_region_and_a_service() {
    let claim = Claim::of(&parts("POST", "/", &vanilla())).expect("is signed");
    let at_time = |text| claim.is_for("us-east-1", "service", at(text));
    for good in [TIME, "20150830T124100Z", "20150830T123100Z"] {
        assert_eq!(at_time(good), Ok(()), "{good}");
    }
    let late = at_time("20150830T124101Z").expect_err("late").to_string();
    assert_eq!(
        late,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    assert!(matches!(
        at_time("20150830T123059Z"),
        Err(Error::Early { .. })
    ));
    let now = at(TIME);
    assert_eq!(
        claim.is_for("eu-west-1", "service", now),
        Err(Error::Region("us-east-1".into()))
    );
    assert!(matches!(
        claim.is_for("us-east-1", "lambda", now),
        Err(Error::Service { .. })
    ));
    let other_day = Claim {
        date: "20150831".into(),
        ..claim.clone()
    };
    assert!(matches!(
        other_day.is_for("us-east-1", "service", now),
        Err(Error::Date { .. })
    ));
    let part_of_day = Claim {
        date: "2015".into(),
        ..claim.clone()
    };
    assert!(part_of_day.is_for("us-east-1", "service", now).is_err());
    let old_form = Claim {
        terminator: "aws3_request".into(),
        ..claim
    };
    assert!(old_form.is_for("us-east-1", "service", now).is_err());
}

#[test]
fn what_is_missing_is_named() {
    let without = |name: &str| {
        let headers: Vec<_> = vanilla().into_iter().filter(|(n, _)| *n != name).collect();
        Claim::of(&parts("POST", "/", &headers)).expect_err("refused")
    };
    assert_eq!(without("authorization"), Error::Missing);
    assert!(without("x-amz-date").to_string().contains("'X-Amz-Date'"));
    for (text, named) in [
        (
            "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00",
            "'Credential'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Signature=00",
            "'SignedHeaders'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host",
            "'Signature'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=00",
            "5 slash",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=, Signature=00",
            "SignedHeaders",
        ),
        ("AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/e", "algorithm"),
    ] {
        let headers = [("authorization", text), ("x-amz-date", TIME)];
        let error = Claim::of(&parts("GET", "/", &headers)).expect_err("refused");
        assert!(error.to_string().contains(named), "{text}: {error}");
    }
    let unreadable = [vanilla()[2], ("x-amz-date", "yesterday")];
    assert!(Claim::of(&parts("GET", "/", &unreadable)).is_err());
}

#[test]
fn a_url_is_good_until_it_expires_and_for_its_path_alone() {
    let signer = Signer {
        access_key: "AKIDEXAMPLE",
        secret: SECRET,
        region: "us-east-1",
        service: "service",
    };
    let query = presign::query(signer, "127.0.0.1:8080", "/a/b", at(TIME), 600);
    let host = [("host", "127.0.0.1:8080")];
    let ask = |path: &str, now: &str, secret: &str| {
        let parts = parts("GET", &format!("{path}?{query}"), &host);
        assert!(is_signed(&parts));
        let claim = Claim::of(&parts)?;
        claim.is_for("us-east-1", "service", at(now))?;
        claim
            .verify(secret, &parts, &Payload::Whole { stated: None }, b"")
            .map(drop)
    };
    assert_eq!(ask("/a/b", TIME, SECRET), Ok(()));
    assert_eq!(ask("/a/b", "20150830T124600Z", SECRET), Ok(()));
    assert!(matches!(
        ask("/a/b", "20150830T124601Z", SECRET),
        Err(Error::Over { .. })
    ));
    assert_eq!(ask("/a/c", TIME, SECRET), Err(Error::Mismatch));
    assert_eq!(ask("/a/b", TIME, "x"), Err(Error::Mismatch));
    for (from, to) in [
        ("X-Amz-Expires=600", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=600", "X-Amz-Expires=0"),
        ("&X-Amz-Expires=600", ""),
        ("HMAC-SHA256&", "HMAC-SHA1&"),
    ] {
        let target = format!("/a/b?{}", query.replacen(from, to, 1));
        let claim = Claim::of(&parts("GET", &target, &host));
        assert!(
            matches!(claim, Err(Error::Incomplete(_))),
            "{to}: {claim:?}"
        );
    }
    let longer = format!("/a/b?{}", query.replacen("=600", "=6000", 1));
    let parts = parts("GET", &longer, &host);
    let claim = Claim::of(&parts).expect("is signed");
    let verified = claim.verify(SECRET, &parts, &Payload::Whole { stated: None }, b"");
    assert_eq!(verified.map(drop), Err(Error::Mismatch));
}

#[test]
fn a_stated_hash_must_be_that_of_the_body() {
    let wrong = [("x-amz-content-sha256", "00")];
    let parts = parts("POST", "/", &[&vanilla()[..], &wrong].concat());
    let claim = Claim::of(&parts).expect("is signed");
    let verified = claim.verify(SECRET, &parts, &Payload::of(&parts.headers), b"");
    assert_eq!(verified.map(drop), Err(Error::Altered));
}

/// The examples of AWS's documentation: 65 KiB of the letter a, in chunks of 64 KiB; after them trailers, if there are any.
fn chunks(seed: &str, signatures: [&str; 3], trailers: Option<&str>) -> (Chain, Vec<u8>) {
    let key = Key::new(&SECRET.replace('+', "/"), "20130524", "us-east-1", "s3");
    let chain = Chain::new(
        key,
        "20130524T000000Z".into(),
        "20130524/us-east-1/s3/aws4_request".into(),
        seed.into(),
    );
    let mut body = Vec::new();
    for (size, signature) in [65536, 1024, 0].into_iter().zip(signatures) {
        body.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        body.extend(std::iter::repeat_n(b'a', size));
        if size > 0 {
            body.extend_from_slice(b"\r\n");
        }
    }
    body.extend_from_slice(trailers.unwrap_or_default().as_bytes());
    body.extend_from_slice(b"\r\n");
    (chain, body)
}

fn published_chunks() -> (Chain, Vec<u8>) {
    let signatures = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    chunks(seed, signatures, None)
}

fn published_trailers(trailers: &str) -> (Chain, Vec<u8>) {
    let signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    chunks(seed, signatures, Some(trailers))
}

use chunked::Chain;

#[test]
fn the_published_chunks_are_read() {
    let (chain, body) = published_chunks();
    let read = chain.decode(&body, false).expect("is signed");
    assert!(read == vec![b'a'; 65536 + 1024]);
}

#[test]
fn chunks_that_are_changed_left_out_or_added_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let (chain, mut body) = published_chunks();
        change(&mut body);
        chain.decode(&body, false).expect_err("refused")
    };
    assert_eq!(refused(&|body| body[100] = b'b'), Error::Mismatch);
    // The second chunk is gone.
    let gone = |body: &mut Vec<u8>| {
        let first = 5 + ";chunk-signature=".len() + 64 + 2 + 65536 + 2;
        let second = 3 + ";chunk-signature=".len() + 64 + 2 + 1024 + 2;
        body.drain(first..first + second);
    };
    assert_eq!(refused(&gone), Error::Mismatch);
    assert_eq!(refused(&|body| body.truncate(60_000)), Error::Chunks);
    assert_eq!(refused(&|body| body.clear()), Error::Chunks);
    assert_eq!(
        refused(&|body| body.extend_from_slice(b"more")),
        Error::Chunks
    );
    assert_eq!(refused(&|body| body[0] = b'+'), Error::Chunks);
    assert_eq!(
        refused(&|body| body.splice(0..5, *b"fffff").for_each(drop)),
        Error::Chunks
    );
}

#[test]
fn trailers_are_signed_too() {
    const CHECKSUM: &str = "x-amz-checksum-crc32c:sOO8/Q==\r\n";
    const SIGNED: &str = "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n";
    let read = |trailers: &str| {
        let (chain, body) = published_trailers(trailers);
        chain.decode(&body, true)
    };
    let whole = read(&format!("{CHECKSUM}{SIGNED}"));
    assert!(whole.expect("is signed") == vec![b'a'; 65536 + 1024]);
    for (trailers, refused) in [
        (
            format!("{}{SIGNED}", CHECKSUM.replace("sO", "sP")),
            Error::Mismatch,
        ),
        (SIGNED.into(), Error::Mismatch),
        (CHECKSUM.into(), Error::Chunks),
        (String::new(), Error::Chunks),
        (
            format!("{CHECKSUM}{SIGNED}\r\nmore: of it\r\n"),
            Error::Chunks,
        ),
        (format!("{}{SIGNED}", CHECKSUM.repeat(200)), Error::Chunks),
    ] {
        assert_eq!(read(&trailers), Err(refused), "{trailers}");
    }
    let (chain, body) = published_chunks();
    assert_eq!(chain.decode(&body, true), Err(Error::Chunks));
    let (chain, body) = published_trailers(&format!("{CHECKSUM}{SIGNED}"));
    assert_eq!(chain.decode(&body, false), Err(Error::Chunks));
}
