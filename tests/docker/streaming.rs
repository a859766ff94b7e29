//! Answers that come in pieces.

use http::Method;
use serde_json::json;

use crate::containers;
use crate::server::Server;
use crate::wait::eventually;

const PYTHON: &str = r#"
import time
def handler(event, context):
    def pieces():
        try:
            for n in range(event["pieces"]):
                print("piece", n, flush=True)
                yield f"piece {n};"
                time.sleep(event.get("pause", 0))
            if event.get("fail"):
                raise ValueError("half way")
        finally:
            print("closed", flush=True)
    return pieces()
"#;

const JAVASCRIPT: &str = r#"
const pause = (s) => new Promise((resolve) => setTimeout(resolve, s * 1000));
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
    stream.setContentType("text/plain; charset=utf-8");
    context.signal?.addEventListener("abort", () => process.stdout.write("closed\n"));
    for (let n = 0; n < event.pieces; n++) {
        process.stdout.write(`piece ${n}\n`);
        stream.write(`piece ${n};`);
        await pause(event.pause ?? 0);
    }
    if (event.fail) throw new RangeError("half way");
    stream.end();
});
"#;

async fn deploy(server: &Server, name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (language, code) in [("python", PYTHON), ("javascript", JAVASCRIPT)] {
        let name = format!("{name}-{language}");
        server
            .deploy(&name, code, json!({"language": language, "timeout": 100}))
            .await;
        names.push(name);
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_answer_is_whole_and_its_worker_goes_on() {
    let server = Server::shared();
    for name in deploy(&server, "stream").await {
        for start in ["", "warm"] {
            let answer = server.call(&name, &json!({"pieces": 50})).await.expect(200);
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            let whole: String = (0..50).map(|n| format!("piece {n};")).collect();
            assert_eq!(answer.text(), whole);
            assert!(start.is_empty() || answer.start() == start);
        }
        let lines = server.lines(&name, None).await;
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("piece"))
                .count(),
            100
        );
    }
}

/// The function never ends by itself: what arrives has not waited for an end.
#[tokio::test(flavor = "multi_thread")]
async fn pieces_arrive_before_the_end_and_a_client_that_leaves_ends_the_stream() {
    let server = Server::shared();
    for name in deploy(&server, "endless").await {
        let event = json!({"pieces": 2, "pause": 60}).to_string();
        let path = format!("/functions/{name}/execute");
        let mut opened = server.client.open(Method::POST, &path, event).await;
        assert_eq!(opened.status, 200);
        let piece = opened.piece().await.unwrap().expect("a first piece");
        assert_eq!(&piece[..], b"piece 0;");
        let lines = server
            .client
            .get(&format!("/functions/{name}/logs"))
            .await
            .expect(200)
            .json();
        let worker = format!(
            "hearth.worker={}",
            lines["items"][0]["worker"].as_str().unwrap()
        );
        assert_eq!(containers::labelled(&worker).len(), 1);
        drop(opened);
        server.printed(&name, "closed").await;
        eventually("its worker to be gone", || async {
            containers::labelled(&worker).is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_midway_is_cut_and_its_worker_goes_on() {
    let server = Server::shared();
    for name in deploy(&server, "midway").await {
        let event = json!({"pieces": 2, "pause": 0.2, "fail": true}).to_string();
        let path = format!("/functions/{name}/execute");
        let mut opened = server.client.open(Method::POST, &path, event).await;
        assert_eq!(opened.status, 200);
        let request_id = opened.headers["x-request-id"].to_str().unwrap().to_owned();
        let mut got = String::new();
        let cut = loop {
            match opened.piece().await {
                Ok(Some(piece)) => got.push_str(std::str::from_utf8(&piece).unwrap()),
                Ok(None) => panic!("ended as if it were whole, after {got:?}"),
                Err(error) => break error,
            }
        };
        assert!(
            cut.is_incomplete_message()
                || cut.is_body_write_aborted()
                || cut.to_string().contains("body"),
            "{cut:?}"
        );
        assert_eq!(got, "piece 0;piece 1;");
        let lines = server.lines(&name, Some(&request_id)).await;
        assert!(
            lines.iter().any(|line| line.contains("half way")),
            "{lines:?}"
        );
        let next = server.call(&name, &json!({"pieces": 1})).await.expect(200);
        assert_eq!((next.start(), next.text().as_str()), ("warm", "piece 0;"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_passes_its_deadline_is_cut() {
    let server = Server::shared();
    server
        .deploy("stream-late", PYTHON, json!({"timeout": 1}))
        .await;
    let event = json!({"pieces": 2, "pause": 60}).to_string();
    let path = "/functions/stream-late/execute";
    let mut opened = server.client.open(Method::POST, path, event).await;
    assert_eq!(&opened.piece().await.unwrap().unwrap()[..], b"piece 0;");
    assert!(opened.piece().await.is_err(), "the connection is cut");
    server.printed("stream-late", "closed").await;
}
