//! Several Hearths on one Redis: what is written on one is callable on the others, and a Redis that is away stops no call.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::server::Server;
use crate::wait::{PATIENCE, blocking, eventually};

const CODE: &str = "def handler(event, context):\n    return {'said': event, 'by': 'first'}\n";
const CHANGED: &str = "def handler(event, context):\n    return {'said': event, 'by': 'second'}\n";

/// A real Redis that keeps what it acknowledged, on a socket of its own. It ends with this.
struct Redis {
    directory: TempDir,
    child: Child,
}

impl Redis {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("hearth-redis-").tempdir();
        let directory = directory.unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { directory, child };
        let socket = redis.socket();
        let there = blocking(PATIENCE, || socket.exists().then_some(()));
        there.expect("Redis listens");
        redis
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A Hearth on it, with a state directory of its own.
    fn hearth(&self) -> Server {
        let url = format!("redis+unix://{}", self.socket().display());
        Server::start(&[("store.url", &url), ("store.call_timeout", "1s")])
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).expect("it is there");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until a call is answered like this.
async fn answers(server: &Server, name: &str, wanted: &serde_json::Value) {
    eventually(&format!("{name} to answer {wanted}"), || async {
        let answer = server.call(name, &json!("hi")).await;
        (answer.status == StatusCode::OK && answer.json() == *wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_one_is_callable_on_the_other() {
    let redis = Redis::start();
    let (a, b) = (redis.hearth(), redis.hearth());
    let made = a.deploy("shared", CODE, json!({})).await;
    answers(&b, "shared", &json!({"said": "hi", "by": "first"})).await;
    // The key that was made on the other one opens this one too.
    let mut client = b.client.clone();
    client.key.clone_from(&a.client.key);
    eventually("the other's key to be known", || async {
        let answer = client.get("/functions/shared").await;
        (answer.status == StatusCode::OK).then(|| assert_eq!(answer.json()["id"], made["id"]))
    })
    .await;

    // Changed on the second, seen by the first.
    let path = "/functions/shared";
    let changed = json!({"code": CHANGED});
    b.client.put(path, &changed).await.expect(200);
    answers(&b, "shared", &json!({"said": "hi", "by": "second"})).await;
    answers(&a, "shared", &json!({"said": "hi", "by": "second"})).await;

    // Redis hangs: calls go on from memory, writes say when to come back, and nothing has to be started again.
    for server in [&a, &b] {
        server.expects("changes by other processes go unnoticed");
        server.expects("what others changed cannot be read");
        server.expects("store failed");
        server.expects("could not compare a function with the store");
    }
    redis.signal(Signal::SIGSTOP);
    answers(&a, "shared", &json!({"said": "hi", "by": "second"})).await;
    let body = json!({"name": "late", "language": "python", "code": CODE});
    let refused = a.client.post("/functions/", &body).await.expect(503);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    redis.signal(Signal::SIGCONT);
    eventually("a write to go through again", || async {
        let made = a.client.post("/functions/", &body).await;
        // Or the one that was refused went through when Redis went on.
        matches!(made.status.as_u16(), 201 | 409).then_some(())
    })
    .await;
    answers(&b, "late", &json!({"said": "hi", "by": "first"})).await;

    a.client.delete(path).await.expect(204);
    eventually("the deletion to be known", || async {
        let answer = b.call("shared", &json!("hi")).await;
        (answer.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}
