//! Following a log across broken connections.

use super::*;
use crate::cli::output::captured;
use crate::cli::scripted::{self, Reply, Server};

fn args(follow: bool) -> Args {
    Args {
        name: "hello".into(),
        follow,
        request_id: None,
        limit: 100,
    }
}

fn stream(pieces: Vec<&'static str>, cut: bool) -> Reply {
    let mut pieces: Vec<_> = pieces.into_iter().map(Ok).collect();
    if cut {
        pieces.push(Err(std::io::Error::other("cut")));
    }
    scripted::pieces("text/event-stream", pieces)
}

fn gone() -> Reply {
    let error = json!({"code": "not_found", "message": "there is no function \"hello\""});
    scripted::json(404, &json!({ "error": error }))
}

const ONE: &str = "id: 4\ndata: {\"at\":\"2026-01-31T12:00:00.123456Z\",\"request_id\":\"3f2a91c0-0000\",\"text\":\"one\"}\n\n";
const TWO: &str =
    "id: 5\ndata: {\"at\":\"2026-01-31T12:00:01Z\",\"request_id\":null,\"text\":\"two\"}\n\n";
const LAGGED: &str = "event: lagged\ndata: {\"missed\":3}\n\n";

/// A server whose log breaks, is refused for a while, goes on, and ends because the function is deleted.
async fn breaking() -> Server {
    Server::start(|_, n| match n {
        0 => stream(vec![": hi\n\n", ONE, "id: 5\ndata: {\"at\""], true),
        1 => scripted::reply(503, &[], "starting"),
        2 => stream(vec![LAGGED, TWO], false),
        _ => gone(),
    })
    .await
}

#[tokio::test]
async fn a_broken_log_goes_on_after_the_last_whole_line() {
    let server = breaking().await;
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, out, err) = captured::output(false);
    let done = run(args(true), &client, &mut output).await;
    let Err(Error::Client(client::Error::Refused(refusal))) = done else {
        unreachable!("it ends when the function is gone: {done:?}");
    };
    assert_eq!(refusal.code, "not_found");
    let want = "2026-01-31 12:00:00.123 3f2a91c0 one\n2026-01-31 12:00:01 -        two\n";
    assert_eq!(out.text(), want);
    assert!(err.text().contains("3 lines were lost"), "{}", err.text());
    assert_eq!(
        server.lines()[0],
        "GET /functions/hello/logs?limit=100&follow=true"
    );
    assert_eq!(server.header(0, "last-event-id"), None);
    let seen: Vec<_> = (1..4).map(|n| server.header(n, "last-event-id")).collect();
    assert_eq!(seen, [Some("4".into()), Some("4".into()), Some("5".into())]);
}

#[tokio::test]
async fn a_program_gets_a_document_per_line() {
    let server = breaking().await;
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, out, _) = captured::output(true);
    let done = run(args(true), &client, &mut output).await;
    assert!(done.is_err());
    let texts: Vec<_> = out
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["text"].clone())
        .collect();
    assert_eq!(texts, ["one", "two"]);
}

#[tokio::test]
async fn a_mistake_is_told_at_once_and_not_tried_again() {
    let server = Server::start(|_, _| gone()).await;
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, _, _) = captured::output(false);
    let done = run(args(true), &client, &mut output).await;
    assert!(done.is_err());
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn what_was_printed_is_listed() {
    let server = Server::start(|_, n| {
        let line = json!({"sequence": 1, "at": "2026-01-31T12:00:00.5Z", "request_id": null, "worker": "w", "text": "hi"});
        let items = if n == 0 { vec![line] } else { vec![] };
        scripted::json(200, &json!({ "items": items }))
    })
    .await;
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, out, err) = captured::output(false);
    let wanted = Args {
        request_id: Some("a b".into()),
        limit: 5,
        ..args(false)
    };
    run(wanted, &client, &mut output).await.expect("listed");
    assert!(out.text().ends_with(" hi\n"), "{}", out.text());
    assert_eq!(
        server.lines(),
        ["GET /functions/hello/logs?limit=5&request_id=a%20b"]
    );
    run(args(false), &client, &mut output)
        .await
        .expect("listed");
    assert!(err.text().contains("nothing yet"));
}
