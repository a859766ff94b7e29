//! Attackers outside: hundreds of requests that are malformed or mean harm, as bytes, against a running server. Each gets a clear 4xx or
//! a closed connection, in the server's own time, and after each kind everything is as it was: the same functions at the same
//! revisions, the victim never called, warm calls answered, and not one file descriptor more.

mod bodies;
mod frames;
mod heads;
mod wire;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Server;
use crate::wait::{PATIENCE, eventually};
use wire::{Case, Step};

/// Cases under way at once: most of their time they wait for the server to hang up.
const AT_ONCE: usize = 64;
/// What the issue of this test is: at least so many different ones.
const AT_LEAST: usize = 100;

/// Long enough for a busy machine to send an honest head in, short enough to wait for.
const SHORT: [(&str, &str); 4] = [
    ("server.header_timeout", "3s"),
    ("server.body_timeout", "3s"),
    ("pool.stem_min", "1"),
    ("pool.stem_max", "1"),
];

const VICTIM: &str = "def handler(event, context):\n    print('called')\n    return 'called'";
const ECHO: &str = "def handler(event, context): return event";

async fn everything(server: &Server) -> Value {
    server
        .client
        .get("/functions/?limit=1000")
        .await
        .expect(200)
        .json()
}

fn descriptors(server: &Server) -> usize {
    let list = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    list.expect("the server is there").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_and_change_nothing() {
    let server = Server::start(&SHORT);
    // The HTTP/2 library on a client that takes back what it asks for, again and again.
    server.expects("remotely-reset pending-accept streams reached limit");
    server.deploy("victim", VICTIM, json!({})).await;
    server.deploy("echo", ECHO, json!({})).await;
    server.call("echo", &json!(0)).await.expect(200);
    server.settled(1).await;
    let key = server.client.key.clone().unwrap();
    let state = server.state().path().to_string_lossy().into_owned();
    let before = everything(&server).await;
    let mut open = descriptors(&server);

    let kinds = [
        ("framing", heads::framing(&key)),
        ("lines", heads::lines(&key)),
        ("paths", heads::paths(&key)),
        ("frames", frames::frames(&key)),
        ("texts", bodies::texts(&key)),
        ("payloads", bodies::payloads(&key)),
        ("encodings", bodies::encodings(&key)),
        ("fields", bodies::fields(&key, &state)),
        ("time", heads::time(&key)),
        ("strangers", heads::strangers(&key)),
    ];
    let (mut names, mut wrong) = (HashSet::new(), Vec::new());
    for (kind, cases) in kinds {
        for case in &cases {
            assert!(
                names.insert(case.name.clone()),
                "{} is there twice",
                case.name
            );
        }
        let address = &server.client.address;
        let found: Vec<Option<String>> = stream::iter(&cases)
            .map(async |case: &Case| {
                let heard = wire::play(address, &case.steps).await;
                wire::judge(case, &heard)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        wrong.extend(
            found
                .into_iter()
                .flatten()
                .map(|what| format!("{kind}: {what}")),
        );
        if everything(&server).await != before {
            wrong.push(format!("{kind}: functions were changed"));
        }
        let answer = server
            .call("echo", &json!({"after": kind}))
            .await
            .expect(200);
        assert_eq!(
            (answer.start(), answer.json()),
            ("warm", json!({"after": kind}))
        );
        if kind == "payloads" {
            // Those went to workers, which are kept for the next call.
            server.settled(1).await;
            open = descriptors(&server);
        }
        eventually(&format!("the connections of {kind} to be gone"), || async {
            (descriptors(&server) <= open).then_some(())
        })
        .await;
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(names.len() >= AT_LEAST, "only {} cases", names.len());
    let said = server.lines("victim", None).await;
    // Its workers have refused payloads, which they say.
    assert!(
        said.iter().all(|line| line != "called"),
        "was called: {said:?}"
    );
}

/// A server with a warm function that answers as many bytes as it is told.
async fn with_large_answers() -> Server {
    let server = Server::start(&SHORT);
    let code = "def handler(event, context): return 'x' * event";
    server.deploy("large", code, json!({"memory": 256})).await;
    server.call("large", &json!(1)).await.expect(200);
    server.settled(1).await;
    server
}

/// Answers that are larger than the kernel keeps for a client that takes nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_is_hung_up_on() {
    let server = with_large_answers().await;
    let before = descriptors(&server);
    let key = server.client.key.clone().unwrap();
    let request = format!(
        "POST /functions/large/execute HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nContent-Length: 7\r\n\r\n6000000"
    );
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(&server.client.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        // The first bytes are there, so all of it was sent as far as that is possible, and the worker is free.
        client.readable().await.unwrap();
        clients.push(client);
    }
    eventually("nobody to be waited for", || async {
        (descriptors(&server) <= before).then_some(())
    })
    .await;
    // Who takes it has all of it.
    let answer = server.call("large", &json!(6_000_000)).await.expect(200);
    assert_eq!(answer.text().len(), 6_000_002);
    drop(clients);
}

/// Who is slow is not who takes nothing: of an answer that takes several times as long as somebody may take nothing of it, all arrives. Who
/// takes next to nothing is hung up on although something is taken all the time.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_has_all_of_an_answer_and_who_takes_next_to_nothing_is_hung_up_on() {
    const SIZE: usize = 6_000_000;
    let server = with_large_answers().await;
    let before = descriptors(&server);
    let key = server.client.key.clone().unwrap();
    let request = format!(
        "POST /functions/large/execute HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{SIZE}"
    );
    let begin = async || {
        let socket = TcpSocket::new_v4().unwrap();
        // So that the kernel takes little in the client's place.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let address = server.client.address.parse().unwrap();
        let mut client = socket.connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        // Or else it may not even be accepted yet when somebody looks whether it is gone.
        client.readable().await.unwrap();
        client
    };
    // So many bytes at a time, with a pause after each time, until there are no more: how many there were.
    let takes = async |mut client: TcpStream, at_a_time: usize, pause: Duration| {
        let (mut all, mut piece) = (0, vec![0; at_a_time]);
        let mut pace = tokio::time::interval(pause);
        loop {
            pace.tick().await;
            let mut taken = 0;
            while taken < at_a_time {
                match client.read(&mut piece[taken..]).await {
                    Ok(0) | Err(_) => return all + taken,
                    Ok(n) => taken += n,
                }
            }
            all += taken;
        }
    };
    let steady = takes(begin().await, 200_000, Duration::from_millis(400));
    let whole = tokio::time::timeout(PATIENCE, steady).await;
    let taken = whole.expect("it arrives");
    assert!(taken > SIZE, "{taken} bytes with the head");

    let barely = takes(begin().await, 512, Duration::from_millis(400));
    let hung_up = eventually("nobody to be waited for", || async {
        (descriptors(&server) <= before).then_some(())
    });
    tokio::select! {
        () = hung_up => {}
        all = barely => assert!(all < SIZE, "{all}"),
    }
}

/// Bytes of a client's that the server has not read yet, wherever the kernel has them.
fn unread(server: &Server, client: &TcpStream) -> u64 {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", server.pid()));
    let table = table.expect("the server is there");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let (here, there) = (Some(here.port()), Some(there.port()));
    let ends = table.lines().filter_map(|line| {
        let [_, local, remote, _, queues, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let (sent, received) = queues.split_once(':')?;
        let bytes = match (port(local), port(remote)) {
            ends if ends == (here, there) => sent,
            ends if ends == (there, here) => received,
            _ => return None,
        };
        u64::from_str_radix(bytes, 16).ok()
    });
    ends.sum()
}

/// A connection from an address of this machine's, whose kernel takes next to nothing for who does not read.
async fn from(address: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    let there = server.client.address.parse().unwrap();
    socket.connect(there).await.unwrap()
}

async fn status(client: &mut TcpStream) -> String {
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A body is read before its call counts for anything, however slowly it comes, and whoever may call may have many on their way.
#[tokio::test(flavor = "multi_thread")]
async fn what_bodies_hold_while_they_arrive_is_bounded_and_nobody_has_all_of_it() {
    const MIB: usize = 1024 * 1024;
    let settings = [
        ("server.arriving_mb", "16"),
        ("server.body_timeout", "10m"),
        ("pool.stem_min", "1"),
    ];
    let server = Server::start(&settings);
    let code = "def handler(event, context): return len(event.get('body') or '')";
    let public = json!({"route": "/public", "memory": 256});
    server.deploy("public", code, public).await;
    let body = json!({"body": "x".repeat(2 * MIB)}).to_string();
    let path = "/functions/public/execute";
    let whole = async || server.client.send(Method::POST, path, body.clone()).await;
    assert_eq!(whole().await.expect(200).json(), 2 * MIB);
    // All but its last byte.
    let begin = async |address: &str, length: usize| {
        let mut client = from(address, &server).await;
        let head = format!(
            "POST /public HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            length + 1
        );
        let text = [head.as_bytes(), &vec![b'x'; length]].concat();
        client.write_all(&text).await.unwrap();
        // Before that nobody else may ask for room: it would be this one who finds none.
        eventually("all of it to be read", || async {
            (unread(&server, &client) == 0).then_some(())
        })
        .await;
        client
    };
    let end = async |mut client: TcpStream| {
        client.write_all(b"x").await.unwrap();
        status(&mut client).await
    };
    let refused = async || {
        let metrics = server.metrics().await;
        metrics.sum("hearth_bodies_refused_total", &[])
    };
    // Whoever comes first does not get what the next needs.
    let mut slow = vec![begin("127.0.0.2", 5 * MIB).await];
    let greedy = begin("127.0.0.2", 4 * MIB).await;
    assert_eq!(refused().await, 1.0);
    assert_eq!(end(greedy).await, "HTTP/1.1 429");
    assert_eq!(whole().await.status, 200);
    slow.push(begin("127.0.0.3", 5 * MIB).await);
    slow.push(begin("127.0.0.4", 2 * MIB).await);
    slow.push(begin("127.0.0.5", MIB).await);
    assert_eq!(refused().await, 1.0);
    // Only many have all there is. Others are told then; who needs no room never is.
    assert_eq!(whole().await.error(429)["reason"], "arriving");
    let mut at_once = from("127.0.0.6", &server).await;
    let small = b"POST /public HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxx";
    at_once.write_all(small).await.unwrap();
    assert_eq!(status(&mut at_once).await, "HTTP/1.1 200");
    assert_eq!(refused().await, 2.0);
    // What they held is their call's from now on, or nobody's.
    let last = slow.pop().expect("it has little");
    assert_eq!(end(last).await, "HTTP/1.1 200");
    drop(slow.remove(0));
    eventually("room again", || async {
        (whole().await.status == 200).then_some(())
    })
    .await;
}

/// A large answer is held until its client has taken it, and one that is taken slowly for as long as its client likes.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_its_answers_gets_no_more_of_them() {
    let settings = [
        ("server.untaken_mb", "16"),
        ("server.body_timeout", "10m"),
        ("pool.stem_min", "1"),
    ];
    let server = Server::start(&settings);
    let code = "def handler(event, context): return 'x' * (6 * 1024 * 1024 - 2)";
    let settings = json!({"route": "/large", "memory": 256, "timeout": 60});
    server.deploy("large", code, settings).await;
    let ask = async |address: &str| {
        let mut client = from(address, &server).await;
        let head = b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n";
        client.write_all(head).await.unwrap();
        let status = status(&mut client).await;
        (client, status)
    };
    let (ok, refused) = ("HTTP/1.1 200", "HTTP/1.1 429");
    let (first, status) = ask("127.0.0.2").await;
    assert_eq!(status, ok);
    let (second, status) = ask("127.0.0.2").await;
    assert_eq!(status, ok);
    assert_eq!(ask("127.0.0.2").await.1, refused);
    assert_eq!(ask("127.0.0.3").await.1, ok, "it has taken nothing yet");
    let untaken = [("what", "refused")];
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("hearth_untaken_total", &untaken), 1.0);
    // Small answers of what is no call are for everybody.
    let mut health = from("127.0.0.2", &server).await;
    let head = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    health.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    health.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, ok.as_bytes());
    drop((first, second));
    eventually("what nobody takes to be forgotten", || async {
        (ask("127.0.0.2").await.1 == ok).then_some(())
    })
    .await;
}

/// What a function says about its answer goes into the answer's head only if it can stand there.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_adds_no_line_to_its_own_head() {
    let server = Server::start(&SHORT);
    let code = "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n    stream.setContentType(event);\n    stream.write('body');\n    stream.end();\n});";
    server
        .deploy("injector", code, json!({"language": "javascript"}))
        .await;
    let key = server.client.key.clone().unwrap();
    for kind in [
        "text/plain\r\nX-Injected: yes",
        "text/plain\nX-Injected: yes",
        "text/plain\rX-Injected: yes",
        "text/plain\r\n\r\n<script>X-Injected: yes</script>",
        "text/plain\u{0}",
        "text/plain\u{2028}X-Injected: yes",
        "text/plain\u{560d}\u{560a}X-Injected: yes",
        "",
    ] {
        let body = json!(kind).to_string();
        let request = format!(
            "POST /functions/injector/execute HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let heard = wire::play(&server.client.address, &[Step::Send(request.into())]).await;
        assert!(heard.closed, "{kind:?}");
        let end = wire::find(&heard.bytes, b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&heard.bytes[..end]).to_lowercase();
        let injected = head
            .split(['\r', '\n'])
            .any(|line| line.trim_start().starts_with("x-injected"));
        assert!(!injected, "{kind:?}: {head}");
        assert!(
            !head.contains("x-injected:") || kind.contains('\u{2028}') || kind.contains('\u{560d}'),
            "{kind:?}: {head}"
        );
        let status = &head[..12];
        assert!(
            matches!(status, "http/1.1 200" | "http/1.1 502"),
            "{kind:?}: {head}"
        );
    }
    // An error's type and message are in the document, and a request id in the head is Hearth's own.
    let raising = "def handler(event, context): raise type('X\\r\\nX-Injected: yes', (Exception,), {})('\\r\\n\\r\\nX-Injected: yes')";
    server.deploy("raising", raising, json!({})).await;
    let headers = [("x-request-id", "mine"), ("x-hearth-start", "warm")];
    let answer = server
        .client
        .send_with(Method::POST, "/functions/raising/execute", &headers, "{}")
        .await;
    assert_eq!(answer.error(502)["code"], "function_error");
    assert!(answer.headers.get("x-injected").is_none());
    assert_ne!(answer.request_id(), "mine");
}

/// One client that is slow does not make the others wait.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_slow_the_others() {
    let server = Server::start(&[("server.header_timeout", "30s"), ("pool.stem_min", "1")]);
    server.deploy("echo", ECHO, json!({})).await;
    server.call("echo", &json!(0)).await.expect(200);
    let drip = Step::Dribble {
        piece: b"X: y\r\n".to_vec(),
        pause: Duration::from_millis(50),
        times: 2000,
    };
    let steps = [Step::Send(b"GET / HTTP/1.1\r\n".to_vec()), drip];
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let (address, steps) = (server.client.address.clone(), steps.clone());
            tokio::spawn(async move { wire::play(&address, &steps).await })
        })
        .collect();
    let open = descriptors(&server);
    eventually("the slow ones to be connected", || async {
        (descriptors(&server) >= open.max(300)).then_some(())
    })
    .await;
    for n in 0..50 {
        let answer = server.call("echo", &json!(n)).await.expect(200);
        assert_eq!((answer.start(), answer.json()), ("warm", json!(n)));
    }
    for one in slow {
        one.abort();
    }
    eventually("the slow ones to be gone", || async {
        (descriptors(&server) < 300).then_some(())
    })
    .await;
}
