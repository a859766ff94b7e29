//! The client against a real socket: what it sends, and what it makes of every way an answer can go wrong.

use serde_json::{Value, json};

use super::*;
use crate::cli::scripted::{self, Server};

fn client(server: &Server) -> Client {
    Client::new(&server.url, Some("secret".into())).expect("a client")
}

async fn get(server: &Server) -> Result<Value, Error> {
    client(server).get("/thing").await
}

#[tokio::test]
async fn the_key_and_the_body_arrive() {
    let server = Server::start(|_, _| scripted::json(200, &json!({"ok": true}))).await;
    let content = Content::json(&json!({"a": 1})).expect("JSON");
    let sent = client(&server).send(Method::PUT, "/thing", content).await;
    assert_eq!(sent.expect("sent").body, r#"{"ok":true}"#);
    assert_eq!(server.lines(), ["PUT /thing"]);
    assert_eq!(
        server.header(0, "authorization").as_deref(),
        Some("Bearer secret")
    );
    assert_eq!(
        server.header(0, "content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(server.header(0, "content-length").as_deref(), Some("7"));
    assert_eq!(server.body(0), json!({"a": 1}));
}

#[tokio::test]
async fn an_upload_that_is_watched_arrives_whole_and_is_counted() {
    let server = Server::start(|request, _| {
        let length = request.body().len();
        scripted::json(200, &json!(length))
    })
    .await;
    let size = UPLOAD_STEP * 3 + 17;
    let bar = indicatif::ProgressBar::hidden();
    let content = Content {
        bytes: vec![7; size].into(),
        kind: Some("application/octet-stream"),
        progress: Some(bar.clone()),
        ..Content::default()
    };
    let answer = client(&server).send(Method::POST, "/", content).await;
    let answer = answer.expect("sent");
    assert_eq!(
        client(&server).parse::<usize>(&answer).expect("a number"),
        size
    );
    assert_eq!(bar.position(), size as u64);
    assert_eq!(server.header(0, "content-length"), Some(size.to_string()));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let server = Server::start(|_, _| {
        let body = json!({"error": {
            "code": "throttled", "message": "too many", "blame": "client", "retry": "safe",
            "reason": "line_full", "request_id": "r-1",
            "faults": [{"field": "memory", "message": "must be a number"}],
        }});
        let headers = [("retry-after", "7")];
        scripted::reply(429, &headers, body.to_string())
    })
    .await;
    let Err(Error::Refused(refusal)) = get(&server).await else {
        unreachable!("it was refused");
    };
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "throttled"));
    assert_eq!(refusal.retry_after, Some(7));
    assert_eq!(refusal.reason.as_deref(), Some("line_full"));
    assert_eq!(refusal.faults[0].field, "memory");
    assert_eq!(Error::Refused(refusal).to_string(), "too many");
}

#[tokio::test]
async fn an_error_in_other_words_is_not_taken_for_hearths() {
    for body in [
        "<html>\n<h1>Not here</h1>",
        "{\"error\":\"no\"}",
        "{\"error\":{}}",
        "",
    ] {
        let server = Server::start(move |_, _| scripted::reply(404, &[], body)).await;
        let error = get(&server).await.expect_err("refused");
        assert!(
            matches!(error, Error::NotHearth { .. }),
            "{body:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_is_an_error() {
    let server = Server::start(|_, _| scripted::reply(200, &[], "<html>")).await;
    let error = get(&server).await.expect_err("no JSON");
    assert!(matches!(error, Error::Unexpected { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_an_error() {
    let server = Server::start(|_, _| {
        let cut = Err(std::io::Error::other("cut"));
        scripted::pieces("application/json", vec![Ok("{\"half\":"), cut])
    })
    .await;
    let error = get(&server).await.expect_err("cut");
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let client = Client::new(&url, None).expect("a client");
    let error = client.get::<Value>("/").await.expect_err("nobody");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(!client.answers(CONNECT_TIMEOUT).await);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    // Accepted by the kernel and never read.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut client = Client::new(&url, None).expect("a client");
    client.patience = Duration::from_millis(50);
    let error = client.get::<Value>("/").await.expect_err("silence");
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[test]
fn addresses_are_checked_before_anything_is_sent() {
    let url = |url: &str| Client::new(url, None).map(|client| client.url().to_owned());
    assert_eq!(url("http://h:1/").expect("good"), "http://h:1");
    assert_eq!(
        url("http://h:1/prefix/").expect("good"),
        "http://h:1/prefix"
    );
    for bad in ["h:1", "ftp://h", "http://h/?q=1", "/path", ""] {
        assert!(matches!(url(bad), Err(Error::BadUrl { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_key_no_header_can_hold_is_a_mistake_and_no_panic() {
    let client = Client::new("http://127.0.0.1:9", Some("line\nbreak".into())).expect("a client");
    let error = client.get::<Value>("/").await.expect_err("refused");
    assert!(matches!(error, Error::BadKey), "{error:?}");
}

#[test]
fn what_a_person_typed_stays_one_part_of_the_path() {
    assert_eq!(path(&["functions", "a-b_1"]), "/functions/a-b_1");
    assert_eq!(
        path(&["functions", "../x?y#z %ö"]),
        "/functions/..%2Fx%3Fy%23z%20%25%C3%B6"
    );
}
