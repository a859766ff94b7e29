//! The same server over HTTP/2: many calls on one connection, each on its own.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;
use crate::wait::PATIENCE;

async fn post(
    mut sender: SendRequest<Full<Bytes>>,
    server: &Server,
    path: &str,
    event: Value,
) -> hyper::Result<(StatusCode, Bytes)> {
    let request = Request::post(format!("http://{}{path}", server.client.address))
        .header("x-api-key", server.client.key.as_deref().unwrap())
        .body(Full::new(Bytes::from(event.to_string())))
        .unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head.status, body.collect().await?.to_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_a_connection_and_one_that_is_given_up_ends_alone() {
    let server = Server::shared();
    let code = r#"
import time
def handler(event, context):
    try:
        if event > 1: print("begun", flush=True)
        time.sleep(event)
    finally:
        if event > 1: print("told", flush=True)
    return event
"#;
    server.deploy("shares", code, json!({"timeout": 100})).await;
    let stream = TcpStream::connect(&server.client.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let path = "/functions/shares/execute";
    let given_up = {
        let (sender, server) = (sender.clone(), server.clone());
        tokio::spawn(async move { post(sender, &server, path, json!(60)).await })
    };
    server.printed("shares", "begun").await;
    let calls = (0..8).map(|_| post(sender.clone(), &server, path, json!(0.1)));
    for answer in futures_util::future::join_all(calls).await {
        let (status, body) = answer.unwrap();
        assert_eq!((status.as_u16(), &body[..]), (200, &b"0.1"[..]));
    }
    // Its stream is reset; the connection stays.
    given_up.abort();
    server.printed("shares", "told").await;
    let (status, _) = post(sender.clone(), &server, path, json!(0)).await.unwrap();
    assert_eq!(status, 200);
    drop(sender);
    drop(connection.await);
}

/// A connection whose frames are written and read by hand.
struct Frames(TcpStream);

impl Frames {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const WINDOW: u8 = 8;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    async fn begin(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.client.address).await.unwrap();
        let mut frames = Self(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        frames.0.write_all(preface).await.unwrap();
        frames.send(Self::SETTINGS, 0, 0, &[]).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(body);
        self.0.write_all(&frame).await.unwrap();
    }

    async fn call(&mut self, server: &Server, stream: u32, path: &str, event: &str) {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", path),
            ("x-api-key", server.client.key.as_deref().unwrap()),
        ] {
            // Each as it is, and shorter than what needs a longer length.
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127, "{text}");
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        let headers = (Self::HEADERS, Self::END_HEADERS);
        self.send(headers.0, headers.1, stream, &block).await;
        let event = event.as_bytes();
        self.send(Self::DATA, Self::END_STREAM, stream, event).await;
    }

    /// The next frame that says something of a stream: its kind, flags, stream and length.
    async fn next(&mut self) -> (u8, u8, u32, usize) {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let (kind, flags) = (head[3], head[4]);
            let mut body = vec![0; size];
            self.0.read_exact(&mut body).await.unwrap();
            match kind {
                Self::PING if flags == 0 => self.send(kind, 1, 0, &body).await,
                Self::SETTINGS if flags == 0 => self.send(kind, 1, 0, &[]).await,
                _ if stream != 0 => return (kind, flags, stream, size),
                _ => {}
            }
        }
    }

    /// Everything until the server hangs up: whether it said goodbye before. Pings are answered, but for that which goes with the goodbye if
    /// the client is `stubborn`.
    async fn goodbye(mut self, stubborn: bool) -> bool {
        let mut said = false;
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return said;
            }
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut body = vec![0; size];
            if self.0.read_exact(&mut body).await.is_err() {
                return said;
            }
            match head[3] {
                Self::GOAWAY => said = true,
                Self::PING if head[4] == 0 && !(said && stubborn) => {
                    self.send(Self::PING, 1, 0, &body).await;
                }
                Self::SETTINGS if head[4] == 0 => self.send(Self::SETTINGS, 1, 0, &[]).await,
                _ => {}
            }
        }
    }
}

/// As over HTTP/1: what carries nothing has its time. Whoever answers pings has no more of it, and what carries a call has as much as that takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_nothing_is_ended() {
    let server = Server::start(&[("server.header_timeout", "2s"), ("pool.stem_min", "1")]);
    let code = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event";
    server.deploy("slow", code, json!({"timeout": 30})).await;
    server.call("slow", &json!(0)).await.expect(200);
    let path = "/functions/slow/execute";
    let silent = async { Frames::begin(&server).await.goodbye(false).await };
    let stubborn = async { Frames::begin(&server).await.goodbye(true).await };
    let calls = async {
        let mut frames = Frames::begin(&server).await;
        // Longer than it may be without one.
        for (stream, seconds) in [(1, "5"), (3, "0")] {
            frames.call(&server, stream, path, seconds).await;
            loop {
                let (kind, flags, of, _) = frames.next().await;
                assert_eq!(of, stream);
                assert_ne!(kind, Frames::RESET);
                if flags & Frames::END_STREAM != 0 {
                    break;
                }
            }
        }
        frames.goodbye(false).await
    };
    let all = async { tokio::join!(silent, stubborn, calls) };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    assert_eq!(ended.expect("all are ended"), (true, true, true));
}

/// Nor does it hold up the end of the server, whatever its client does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_nothing_does_not_hold_up_the_end() {
    let settings = [
        ("server.drain_grace", "10m"),
        ("server.header_timeout", "10m"),
        ("pool.stem_min", "0"),
    ];
    let server = Server::start(&settings);
    let frames = Frames::begin(&server).await;
    // It is taken for what it is once it is answered.
    frames.0.readable().await.unwrap();
    let client = tokio::spawn(frames.goodbye(true));
    let stopped = tokio::task::spawn_blocking(|| server.stop());
    stopped.await.expect("it ends");
    assert!(client.await.unwrap(), "it is told");
}

/// A window that is never opened holds an answer up, and not for ever. The connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_is_given_up_alone() {
    let server = Server::start(&[("server.body_timeout", "2s"), ("pool.stem_min", "1")]);
    let code = "def handler(event, context): return 'x' * event";
    let settings = json!({"timeout": 30, "memory": 256});
    server.deploy("large", code, settings).await;
    server.call("large", &json!(1)).await.expect(200);
    let path = "/functions/large/execute";
    let talk = async {
        let mut frames = Frames::begin(&server).await;
        frames.call(&server, 1, path, "5000000").await;
        let mut taken = 0;
        loop {
            match frames.next().await {
                (Frames::DATA, _, 1, size) => taken += size,
                (Frames::RESET, _, 1, _) => break,
                (Frames::HEADERS, _, 1, _) => {}
                other => panic!("{other:?}"),
            }
        }
        // What a client gives room for that says nothing of it.
        assert_eq!(taken, 65_535);
        // It had used up the connection's window with its own.
        let more = 100_000u32.to_be_bytes();
        frames.send(Frames::WINDOW, 0, 0, &more).await;
        frames.call(&server, 3, path, "1").await;
        loop {
            let (_, flags, stream, _) = frames.next().await;
            assert_eq!(stream, 3);
            if flags & Frames::END_STREAM != 0 {
                break;
            }
        }
    };
    let talked = tokio::time::timeout(PATIENCE, talk).await;
    talked.expect("it is given up");
}
