//! What functions print: by invocation, over REST and as events, complete when the answer is there, and kept when they crash.

use http::Method;
use serde_json::{Value, json};

use crate::client::Opened;
use crate::server::Server;
use crate::wait::eventually;

const CODE: &str = r#"
import os, subprocess, sys, threading, time
print("loading", flush=True)
def later():
    time.sleep(0.3)
    print("after", flush=True)
def handler(event, context):
    print("during")
    print("on stderr", file=sys.stderr)
    os.write(1, b"native\n")
    subprocess.run(["/bin/echo", "from a child"])
    if event: threading.Thread(target=later).start()
    print("grüße 🦀", end="")
    return context.aws_request_id
"#;

#[tokio::test(flavor = "multi_thread")]
async fn lines_belong_to_their_invocation_and_are_there_when_its_answer_is() {
    let server = Server::shared();
    server.deploy("prints", CODE, json!({})).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = server.call("prints", &json!(0)).await.expect(200);
        let id = answer.request_id();
        // Now, and not a moment later.
        let mut lines = server.lines("prints", Some(&id)).await;
        lines.sort();
        let want = ["during", "from a child", "grüße 🦀", "native", "on stderr"];
        assert_eq!(lines, want);
        ids.push(id);
    }
    let id = server
        .call("prints", &json!(1))
        .await
        .expect(200)
        .request_id();
    eventually("what is printed after the answer", || async {
        let lines = server.lines("prints", Some(&id)).await;
        lines.iter().any(|line| line == "after").then_some(())
    })
    .await;
    for id in ids {
        assert_eq!(
            server.lines("prints", Some(&id)).await.len(),
            5,
            "nothing is added later"
        );
    }
    let path = "/functions/prints/logs?limit=10000";
    let all = server.client.get(path).await.expect(200).json();
    let all = all["items"].as_array().unwrap();
    assert_eq!(
        (&all[0]["text"], &all[0]["request_id"]),
        (&json!("loading"), &Value::Null)
    );
    let sequence: Vec<_> = all
        .iter()
        .map(|line| line["sequence"].as_u64().unwrap())
        .collect();
    assert!(sequence.is_sorted() && sequence.len() > 20, "{sequence:?}");
    let limited = server
        .client
        .get("/functions/prints/logs?limit=2")
        .await
        .expect(200)
        .json();
    assert_eq!(limited["items"].as_array().unwrap(), &all[all.len() - 2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_complete_as_well() {
    let server = Server::shared();
    let sources = [
        (
            "python",
            "def handler(event, context):\n    for n in range(event): print('line', n)",
        ),
        (
            "javascript",
            "export const handler = async (event) => { for (let n = 0; n < event; n++) process.stdout.write(`line ${n}\\n`); }",
        ),
    ];
    for (language, code) in sources {
        let name = format!("flood-{language}");
        server
            .deploy(&name, code, json!({"language": language, "timeout": 60}))
            .await;
        for _ in 0..3 {
            let id = server
                .call(&name, &json!(2000))
                .await
                .expect(200)
                .request_id();
            let lines = server.lines(&name, Some(&id)).await;
            let want: Vec<String> = (0..2000).map(|n| format!("line {n}")).collect();
            assert_eq!(lines.len(), 2000, "{language}");
            assert_eq!(lines, want);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_printed_is_kept() {
    let server = Server::shared();
    let code = "import faulthandler, ctypes, os\nfaulthandler.enable()\ndef handler(event, context):\n    os.write(2, b'last words\\n')\n    if event: os.write(1, b'unfinished'); os._exit(1)\n    ctypes.string_at(0)";
    server.deploy("crashes", code, json!({"timeout": 30})).await;
    let answer = server.call("crashes", &json!({})).await;
    let error = answer.error(502);
    assert_eq!(error["code"], "worker_exited");
    let lines = server.lines("crashes", Some(&answer.request_id())).await;
    assert_eq!(lines[0], "last words");
    let fatal = lines
        .iter()
        .any(|line| line.contains("Fatal Python error: Segmentation fault"));
    assert!(fatal, "{lines:?}");
    let tail = error["log_tail"].as_str().unwrap();
    assert!(
        tail.contains("last words") && tail.contains("Segmentation fault"),
        "{tail}"
    );
}

/// The events of a log that is followed.
struct Events {
    opened: Opened,
    text: String,
}

impl Events {
    async fn open(server: &Server, path: &str) -> Self {
        let opened = server.client.open(Method::GET, path, "").await;
        assert_eq!(opened.status, 200);
        assert_eq!(opened.headers["content-type"], "text/event-stream");
        let text = String::new();
        Self { opened, text }
    }

    /// The next line: its id and itself.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
                };
                let found = field("id:").zip(field("data:"));
                self.text = rest.to_owned();
                if let Some((id, data)) = found {
                    return (id, serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let piece = self.opened.piece().await.unwrap().expect("it does not end");
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_can_be_followed_and_gone_on_with() {
    let server = Server::shared();
    let code = "import time\ndef handler(event, context):\n    print('one', flush=True)\n    time.sleep(event)\n    print('two')";
    server
        .deploy("followed", code, json!({"timeout": 100}))
        .await;
    let path = "/functions/followed/logs?follow=true";
    let mut events = Events::open(&server, path).await;
    let first = server
        .call("followed", &json!(0))
        .await
        .expect(200)
        .request_id();
    for text in ["one", "two"] {
        let (_, line) = events.next().await;
        assert_eq!(
            (&line["text"], &line["request_id"]),
            (&json!(text), &json!(first))
        );
    }
    // A line is shown while the call that printed it still runs.
    let client = server.client.clone();
    let call =
        tokio::spawn(async move { client.post("/functions/followed/execute", &json!(1)).await });
    let (seen, line) = events.next().await;
    assert_eq!(line["text"], "one");
    assert!(!call.is_finished());
    drop(events);
    let second = call.await.unwrap().expect(200).request_id();
    assert_eq!(line["request_id"], json!(second));
    // Whoever comes back gets what was missed, and nothing twice.
    let headers = [
        ("last-event-id", seen.as_str()),
        ("accept", "text/event-stream"),
    ];
    let path = "/functions/followed/logs";
    let opened = server
        .client
        .open_with(Method::GET, path, &headers, "")
        .await;
    let mut events = Events {
        opened,
        text: String::new(),
    };
    let (_, line) = events.next().await;
    assert_eq!(
        (&line["text"], &line["request_id"]),
        (&json!("two"), &json!(second))
    );
    // Only one call's.
    let path = format!("/functions/followed/logs?follow=true&request_id={first}&limit=1");
    let mut events = Events::open(&server, &path).await;
    assert_eq!(events.next().await.1["request_id"], json!(first));
}
