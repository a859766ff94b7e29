//! What a store should not answer, and what it is asked. A real one is in `tests/aws`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::domain::pattern::Pattern;
use crate::task;

const LONG: Duration = Duration::from_secs(20);

/// A store that has these answers, one for each connection, and tells what each asked. After the last it says nothing and hangs up on nobody.
pub(crate) async fn store(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Option<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = task::spawn(task::Kind::Local, "bucket", async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 1024];
                let read = stream.read(&mut piece).await.expect("reads");
                got.extend_from_slice(&piece[..read]);
            }
            asked.push(String::from_utf8_lossy(&got).into_owned());
            // Who is told that it is too much hangs up.
            stream.write_all(&answer).await.ok();
        }
        asked
    });
    (format!("http://{address}"), serving)
}

pub(crate) fn settings(endpoint: &str, timeout: Duration) -> config::S3 {
    config::S3 {
        service: config::Service {
            endpoint: endpoint.into(),
            access_key: "hearth".into(),
            secret_key: "hidden".into(),
            region: "eu-west-3".into(),
            timeout,
        },
        buckets: Vec::new(),
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn object(bucket: &str, key: &str, version: Option<&str>) -> Object {
    Object {
        bucket: bucket.into(),
        key: key.into(),
        version: version.map(Into::into),
    }
}

async fn fetched(answers: Vec<u8>, timeout: Duration) -> Result<Bytes, Error> {
    let (url, _serving) = store(vec![answers]).await;
    asked(&url, "k.zip", timeout).await
}

async fn asked(url: &str, key: &str, timeout: Duration) -> Result<Bytes, Error> {
    let client = Client::new(&settings(url, timeout)).expect("an endpoint");
    let (object, room) = (object("code", key, None), Room::default());
    let fetched = client.fetch(&object, &room).await;
    fetched.map(|(bytes, _room)| bytes)
}

#[tokio::test]
async fn names_are_parts_of_a_path_and_nothing_else() {
    let wanted = [
        (object("code", "a/b.zip", None), "/own/code/a/b.zip"),
        (
            object("code", "@other.example/?x=1#y", None),
            "/own/code/%40other.example/%3Fx%3D1%23y",
        ),
        (
            object("code", "a b+ü\r\nhost: other%2e", Some("v&x=1")),
            "/own/code/a%20b%2B%C3%BC%0D%0Ahost%3A%20other%252e?versionId=v%26x%3D1",
        ),
        (object("code", "/a//b", None), "/own/code//a//b"),
    ];
    let answers = wanted.iter().map(|_| answer("200 OK", "", b"it"));
    let (url, serving) = store(answers.collect()).await;
    let client = Client::new(&settings(&format!("{url}/own"), LONG)).expect("an endpoint");
    assert!(!format!("{client:?}").contains("hidden"));
    for (object, _) in &wanted {
        let (bytes, _room) = client
            .fetch(object, &Room::default())
            .await
            .expect("is there");
        assert_eq!(bytes, "it");
    }
    // These are not asked for.
    for key in ["..", "../other/k", "a/../../other/k", "a/./b", "."] {
        let refused = asked(&url, key, LONG).await;
        assert_eq!(refused, Err(Error::Ambiguous(key.into())), "{key}");
    }
    let requests = serving.await.expect("ends").expect("is served");
    let host = url.trim_start_matches("http://");
    for ((_, path), asked) in wanted.iter().zip(requests) {
        assert!(
            asked.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{asked}"
        );
        let hosts = asked.to_ascii_lowercase().matches("\r\nhost: ").count();
        assert_eq!(hosts, 1, "{asked}");
        assert!(asked.contains(&format!("host: {host}\r\n")), "{asked}");
        assert!(asked.contains("Credential=hearth/"), "{asked}");
        assert!(!asked.contains("hidden"), "{asked}");
    }
}

#[tokio::test]
async fn only_buckets_that_are_named_are_read() {
    let (url, serving) = store(vec![answer("200 OK", "", b"it")]).await;
    let named = ["code", "team-?.*"].map(|text| Pattern::of_buckets(text).expect("a pattern"));
    let settings = config::S3 {
        buckets: named.into(),
        ..settings(&url, LONG)
    };
    let client = Client::new(&settings).expect("an endpoint");
    let room = Room::default();
    for bucket in ["codes", "private", "team-.x", "team-ab.x", "CODE"] {
        let refused = client.fetch(&object(bucket, "k", None), &room).await;
        let denied = Error::Denied {
            object: format!("{bucket}/k"),
            message: format!("aws.s3.buckets does not have the bucket {bucket}"),
        };
        assert_eq!(refused.map(|(bytes, _room)| bytes), Err(denied));
    }
    let there = client.fetch(&object("team-a.x", "k", None), &room).await;
    assert_eq!(there.expect("is named").0, "it");
    let asked = serving.await.expect("ends").expect("is served");
    assert_eq!(asked.len(), 1, "of the others nobody was asked");
    assert!(asked[0].starts_with("GET /team-a.x/k "), "{asked:?}");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let said = br"<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message><Endpoint>other.example</Endpoint></Error>";
    let moved = "location: http://127.0.0.1:1/\r\nx-amz-bucket-region: us-east-2\r\n";
    let refused = fetched(answer("301 Moved", moved, said), LONG).await;
    let message =
        "The bucket is in this region: us-east-2. Please use this region to retry the request";
    assert_eq!(
        refused,
        Err(Error::Refused {
            code: "PermanentRedirect".into(),
            message: message.into()
        })
    );
    let refused = fetched(answer("302 Found", "location: /other\r\n", b""), LONG).await;
    assert!(matches!(refused, Err(Error::Store { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let limit = PACKAGE_FETCHED_MAX;
    let declared = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", limit + 1);
    let refused = fetched(declared.into_bytes(), LONG).await;
    assert_eq!(refused, Err(Error::TooLarge { limit }));
    // And what does not say so is read until it is.
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..=limit / piece.len() {
        endless.extend_from_slice(b"100000\r\n");
        endless.extend_from_slice(&piece);
        endless.extend_from_slice(b"\r\n");
    }
    let refused = fetched(endless, LONG).await;
    assert_eq!(refused, Err(Error::TooLarge { limit }));
}

#[tokio::test]
async fn a_store_that_fails_is_not_the_callers_doing() {
    let busy =
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    for answered in [
        answer("503 Slow Down", "", busy),
        answer("500 Oh", "", b"<html>"),
        answer("404 Not Found", "", b"nothing here"),
        answer("204 No Content", "", b""),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec(),
        b"SSH-2.0\r\n".to_vec(),
    ] {
        let refused = fetched(answered, LONG).await;
        assert!(matches!(refused, Err(Error::Store { .. })), "{refused:?}");
    }
    let nobody = asked("http://127.0.0.1:1", "k", LONG).await;
    assert!(matches!(nobody, Err(Error::Store { .. })), "{nobody:?}");
    // One that says nothing is not waited for.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let silent = asked(&url, "k", Duration::from_millis(50)).await;
    assert!(matches!(silent, Err(Error::Store { .. })), "{silent:?}");
}

#[tokio::test]
async fn the_store_is_not_blamed_where_hearth_has_no_room() {
    let (url, _serving) = store(vec![answer("200 OK", "", b"it")]).await;
    let timeout = Duration::from_secs(2);
    let client = Client::new(&settings(&url, timeout)).expect("an endpoint");
    // It is waited for longer than for the store.
    let room = Room::with_patience(timeout + Duration::from_millis(200));
    let _all = room.hold(usize::MAX).await.expect("is free");
    let refused = client.fetch(&object("code", "k", None), &room).await;
    assert_eq!(refused.map(drop), Err(Error::NoRoom(Problem::Busy)));
}

#[tokio::test]
async fn the_way_to_the_store_is_told_to_the_log_alone() {
    let nobody = asked("http://127.0.0.1:1", "k", LONG).await;
    let Err(error @ Error::Store { .. }) = nobody else {
        panic!("{nobody:?}");
    };
    assert_eq!(error.to_string(), "the store could not be reached");
    let Error::Store { why, .. } = error else {
        unreachable!("it is one");
    };
    assert!(why.contains("refused"), "{why}");
    let busy = b"<Error><Code>SlowDown</Code><Message>node 10.0.0.7 is busy</Message></Error>";
    let busy = fetched(answer("503 Slow Down", "", busy), LONG).await;
    let said = busy.expect_err("it is busy").to_string();
    assert_eq!(said, "the store answered with 503 Service Unavailable");
}

#[tokio::test]
async fn the_stores_words_are_awss() {
    let refusal = |status: u16, said: &str| {
        let status = StatusCode::from_u16(status).expect("a status");
        super::refusal(&object("code", "k", None), status, &HeaderMap::new(), said)
    };
    let error = |code: &str, message: &str| {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
    };
    for (status, code, message, wanted) in [
        (
            404,
            "NoSuchKey",
            "Key not found",
            "The specified key does not exist.",
        ),
        (
            404,
            "NoSuchBucket",
            "?",
            "The specified bucket does not exist",
        ),
        (
            404,
            "NoSuchVersion",
            "?",
            "The specified version does not exist.",
        ),
        (
            400,
            "InvalidArgument",
            "Invalid &quot;v&quot; &amp;lt;",
            "Invalid \"v\" &lt;",
        ),
        (403, "InvalidObjectState", "It is\r\nfrozen", "It isfrozen"),
    ] {
        let refused = Error::Refused {
            code: code.into(),
            message: wanted.into(),
        };
        assert_eq!(refusal(status, &error(code, message)), refused);
    }
    let denied = refusal(403, &error("AccessDenied", ""));
    assert_eq!(
        denied,
        Error::Denied {
            object: "code/k".into(),
            message: "Access Denied".into()
        }
    );
    for code in ["SignatureDoesNotMatch", "InvalidAccessKeyId"] {
        let refused = refusal(403, &error(code, "no"));
        assert!(matches!(refused, Error::Key { .. }), "{refused:?}");
    }
    // What comes back is short, and a code is a word.
    let long = refusal(400, &error("Odd", &"x".repeat(10_000)));
    let Error::Refused { message, .. } = long else {
        panic!("{long:?}");
    };
    assert_eq!(message.len(), MESSAGE_MAX);
    for odd in ["", "<b>", "a b"] {
        let refused = refusal(400, &error(odd, "m"));
        assert!(matches!(refused, Error::Store { .. }), "{refused:?}");
    }
}
