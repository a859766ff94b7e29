//! The engine driver against engines that are absent, wedged, late, cut off or no engines at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth::domain::id::WorkerId;
use hearth::domain::limits::Mebibytes;
use hearth::engine::docker::Docker;
use hearth::engine::spec::limits_for;
use hearth::engine::{ContainerId, ContainerSpec, Engine, Error, ImageSpec};
use parking_lot::Mutex;

use super::bench::{BASE, PATIENCE, SOCKET, options, until};

/// Every call there is, and what it came to.
async fn every_call(docker: &Docker) -> Vec<(&'static str, Option<Error>)> {
    let id = ContainerId("0123456789abcdef".into());
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let image = ImageSpec {
        tag: "hearth-engine-test:never".into(),
        context: root.path().into(),
        base_image: BASE.into(),
    };
    let spec = ContainerSpec {
        worker: WorkerId::generate(),
        image: image.tag.clone(),
        own: None,
        directory: root.path().into(),
        task: root.path().into(),
        limits: limits_for(Mebibytes(128), 1.0, 2),
        network_of: None,
        labels: BTreeMap::new(),
    };
    vec![
        ("ensure_image", docker.ensure_image(&image).await.err()),
        ("start", docker.start(&spec).await.err()),
        (
            "holder",
            docker.start_network_holder(&image.tag).await.err(),
        ),
        ("limit", docker.limit(&id, spec.limits).await.err()),
        ("exit", docker.exit(&id).await.err()),
        ("remove", docker.remove(&id).await.err()),
        ("owned", docker.owned().await.err()),
        ("describe", docker.describe().await.err()),
    ]
}

/// Something that listens where an engine should. Ends with the test.
struct Fake {
    accepting: tokio::task::JoinHandle<()>,
    state: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// First lines of the requests, in their order.
    requests: Vec<String>,
    /// Connections the other side has not closed.
    open: usize,
}

/// What to do with a request: nothing for ever, or to answer it after a while.
type Answer = Option<(Duration, Vec<u8>)>;

impl Fake {
    fn new(socket: &Path, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let state = Arc::new(Mutex::new(Seen::default()));
        let (seen, answer) = (state.clone(), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.lock().open += 1;
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    Self::serve(stream, &seen, &*answer).await;
                    seen.lock().open -= 1;
                });
            }
        });
        Fake { accepting, state }
    }

    async fn serve(
        mut stream: tokio::net::UnixStream,
        seen: &Mutex<Seen>,
        answer: &(impl Fn(&str) -> Answer + Send + Sync),
    ) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = vec![0; 65_536];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&request[..read]).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.lock().requests.push(line.clone());
        match answer(&line) {
            Some((after, bytes)) => {
                tokio::time::sleep(after).await;
                let _whether_anybody_listens = stream.write_all(&bytes).await;
            }
            None => while !matches!(stream.read(&mut request).await, Ok(0) | Err(_)) {},
        }
    }

    fn count(&self, start: &str) -> usize {
        let seen = self.state.lock();
        seen.requests
            .iter()
            .filter(|r| r.starts_with(start))
            .count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wedged_engine_is_told_within_the_deadline() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let fake = Fake::new(&socket, |_| None);
    let deadline = Duration::from_millis(200);
    let docker = Docker::new(options(&socket, root.path(), deadline)).unwrap();

    let started = Instant::now();
    let results = every_call(&docker).await;
    for (call, error) in &results {
        assert!(
            matches!(error, Some(Error::Timeout { .. })),
            "{call}: {error:?}"
        );
    }
    // Each had its deadline and a little more, and none waited for another.
    let took = started.elapsed();
    assert!(took >= deadline * 8, "{took:?}");
    assert!(took < deadline * 8 + Duration::from_secs(10), "{took:?}");

    // More calls than may be under way at once: those that wait for their turn are late as well.
    let started = Instant::now();
    let many = futures_util::future::join_all((0..50).map(|_| docker.owned())).await;
    assert!(many.iter().all(|r| matches!(r, Err(Error::Timeout { .. }))));
    assert!(started.elapsed() < deadline + Duration::from_secs(10));
    // Nothing is kept waiting but the worker's start: only who sees its end can remove what it makes. The holder's did not get so far:
    // its network is asked for first.
    until("the other connections are closed", async || {
        fake.state.lock().open <= 1
    })
    .await;
    assert_eq!(fake.count("POST /containers/create"), 1);
}

/// The engine takes longer than its caller waits, and then does it after all.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_comes_too_late_is_removed() {
    let late = Duration::from_millis(600);
    let at_once = Duration::ZERO;
    let created = || http("201 Created", r#"{"Id":"too-late","Warnings":[]}"#);
    let no_content = || b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec();
    // Which call is late, and what happens to it in the end.
    for (slow, cut, expected) in [
        (
            "POST /containers/create",
            false,
            "DELETE /containers/too-late?",
        ),
        (
            "POST /containers/too-late/start",
            false,
            "DELETE /containers/too-late?",
        ),
        // Cut off: nobody knows whether there is a container, only what it would be called.
        (
            "POST /containers/create",
            true,
            "DELETE /containers/hearth-",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("engine.sock");
        let fake = Fake::new(&socket, move |line| {
            let wait = if line.starts_with(slow) {
                late
            } else {
                at_once
            };
            let answer = match line {
                _ if cut && line.starts_with(slow) => Vec::new(),
                _ if line.starts_with("POST /containers/create") => created(),
                _ => no_content(),
            };
            Some((wait, answer))
        });
        let deadline = Duration::from_millis(200);
        let docker = Docker::new(options(&socket, root.path(), deadline)).unwrap();
        let spec = ContainerSpec {
            worker: WorkerId::generate(),
            image: "image".into(),
            own: None,
            directory: root.path().into(),
            task: root.path().into(),
            limits: limits_for(Mebibytes(128), 1.0, 2),
            network_of: None,
            labels: BTreeMap::new(),
        };
        let result = docker.start(&spec).await;
        assert!(
            matches!(result, Err(Error::Timeout { .. })),
            "{slow}: {result:?}"
        );
        until("it is removed", async || fake.count(expected) == 1).await;
        // One whose caller is gone is not started any more.
        let starts = usize::from(slow.ends_with("start"));
        assert_eq!(
            fake.count("POST /containers/too-late/start"),
            starts,
            "{slow}"
        );
    }
}

/// A proxy that has lost its engine, or something else at its socket, that has a good word for everything.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_of_itself_is_no_engine() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let _fake = Fake::new(&socket, |_| Some((Duration::ZERO, http("200 OK", "{}"))));
    let docker = Docker::new(options(&socket, root.path(), PATIENCE)).unwrap();
    let refused = docker.describe().await.unwrap_err();
    assert!(refused.to_string().contains("has no version"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_back_is_used_again() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let docker = Docker::new(options(&socket, root.path(), PATIENCE)).unwrap();

    for (call, error) in every_call(&docker).await {
        assert!(
            matches!(error, Some(Error::Unreachable { .. })),
            "absent, {call}: {error:?}"
        );
    }
    // A socket nobody listens at, as a killed engine leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    for (call, error) in every_call(&docker).await {
        assert!(
            matches!(error, Some(Error::Unreachable { .. })),
            "dead, {call}: {error:?}"
        );
    }
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(SOCKET, &socket).unwrap();
    docker.describe().await.unwrap();
    std::fs::remove_file(&socket).unwrap();
    assert!(docker.describe().await.is_err());
    std::os::unix::fs::symlink(SOCKET, &socket).unwrap();
    docker.describe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_errors_and_no_more() {
    let no_answer: [(&str, &'static [u8]); 4] = [
        ("nothing", b""),
        ("garbage", b"\x00\xff\xfe garbage\r\n\r\n"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-"),
    ];
    for (what, answer) in no_answer {
        for (call, error) in every_call_to(answer).await {
            assert!(
                matches!(error, Some(Error::Unreachable { .. })),
                "{what}, {call}: {error:?}"
            );
        }
    }
    // A good status and a body that is none of an engine's.
    let no_body: [(&str, &'static [u8]); 3] = [
        (
            "half",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":",
        ),
        (
            "no JSON",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>no<",
        ),
        (
            "another JSON",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[[1]]",
        ),
    ];
    for (what, answer) in no_body {
        for (call, error) in every_call_to(answer).await {
            // Believed by their status alone: there is nothing to learn from the body.
            let unread = ["limit", "remove"].contains(&call);
            let refused = matches!(error, Some(Error::Unreachable { .. }));
            assert!(unread != refused, "{what}, {call}: {error:?}");
        }
    }
    // An engine that says no, and why.
    let no = http("500 Internal Server Error", r#"{"message":"no more room"}"#);
    for (call, error) in every_call_to(no.leak()).await {
        assert!(
            matches!(&error, Some(Error::Refused { reason, .. }) if reason.contains("no more room")),
            "{call}: {error:?}"
        );
    }
}

async fn every_call_to(answer: &'static [u8]) -> Vec<(&'static str, Option<Error>)> {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("engine.sock");
    let _fake = Fake::new(&socket, move |_| Some((Duration::ZERO, answer.to_vec())));
    let docker = Docker::new(options(&socket, root.path(), PATIENCE)).unwrap();
    every_call(&docker).await
}
