//! What functions can reach: nothing, unless they ask for it.

use serde_json::json;

use crate::containers::{self, docker};
use crate::languages;
use crate::server::Server;
use crate::wait::eventually;

const CONNECTS: &str = r#"
import socket
def handler(event, context):
    try:
        with socket.create_connection((event["host"], event["port"]), timeout=10) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return type(error).__name__ + ": " + str(error)
"#;

/// Listens on its own loopback and on nothing else.
const LISTENS: &str = r#"
import socket, threading
listener = socket.create_server(("127.0.0.1", 7777))
def serve():
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"from the function next door")
        connection.close()
threading.Thread(target=serve, daemon=True).start()
def handler(event, context):
    with socket.create_connection(("localhost", 7777)) as connection:
        return connection.recv(100).decode()
"#;

const GREETER: &str = r#"
import socket
listener = socket.create_server(("0.0.0.0", 4000))
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello from outside")
    connection.close()
"#;

/// A container of the test's own that listens on the engine's bridge.
struct Outside {
    container: String,
    address: String,
}

impl Outside {
    fn start() -> Self {
        let runtimes = languages::all();
        let python = runtimes
            .iter()
            .find(|runtime| runtime.answers_to("python"))
            .unwrap();
        let image = hearth::runtime::image::of(python).unwrap().tag;
        let run = [
            "run",
            "--detach",
            "--label=hearth.test=outside",
            "--memory=64m",
            "--entrypoint=python3",
            &image,
            "-c",
            GREETER,
        ];
        let container = docker(&run).expect("a container");
        let found = containers::inspect(&container).unwrap();
        let address = found["NetworkSettings"]["IPAddress"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(!address.is_empty(), "the engine has a bridge");
        Self { container, address }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        containers::remove(std::slice::from_ref(&self.container));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_asks_for_it_reaches_the_outside_and_nobody_a_neighbour() {
    let server = Server::start(&[("pool.stem_min", "0")]);
    let outside = Outside::start();
    for network in ["none", "egress"] {
        server
            .deploy(
                &format!("connects-{network}"),
                CONNECTS,
                json!({"network": network, "timeout": 30}),
            )
            .await;
        server
            .deploy(
                &format!("listens-{network}"),
                LISTENS,
                json!({"network": network, "timeout": 30}),
            )
            .await;
    }
    let there = json!({"host": outside.address, "port": 4000});
    let reached = eventually("the listener outside", || async {
        let got = server
            .call("connects-egress", &there)
            .await
            .expect(200)
            .json();
        let text = got.as_str().unwrap().to_owned();
        (!text.starts_with("ConnectionRefused")).then_some(text)
    })
    .await;
    assert_eq!(reached, "hello from outside");
    let refused = server
        .call("connects-none", &there)
        .await
        .expect(200)
        .json();
    assert!(
        refused.as_str().unwrap().contains("unreachable"),
        "{refused}"
    );

    // A function has its own loopback, and its name, with and without a network.
    for network in ["none", "egress"] {
        let answer = server.call(&format!("listens-{network}"), &json!({})).await;
        assert_eq!(answer.expect(200).json(), "from the function next door");
    }
    let next_door = json!({"host": "127.0.0.1", "port": 7777});
    for network in ["none", "egress"] {
        let name = format!("connects-{network}");
        let got = server.call(&name, &next_door).await.expect(200).json();
        let refused = got.as_str().unwrap().starts_with("ConnectionRefused");
        assert!(refused, "{got}");
    }

    // One holder for each function with a network, until it is deleted.
    let holders = || {
        let of_server = server.state().containers();
        let holders = containers::labelled("hearth.role=network-holder");
        holders
            .into_iter()
            .filter(|holder| of_server.contains(holder))
            .count()
    };
    assert_eq!(holders(), 2);
    server
        .client
        .put("/functions/connects-egress", &json!({"network": "none"}))
        .await
        .expect(200);
    eventually("the holder of a changed function to go", || async {
        (holders() == 1).then_some(())
    })
    .await;
    let cut_off = server
        .call("connects-egress", &there)
        .await
        .expect(200)
        .json();
    assert!(
        cut_off.as_str().unwrap().contains("unreachable"),
        "{cut_off}"
    );
    server
        .client
        .delete("/functions/listens-egress")
        .await
        .expect(204);
    eventually("the holder of a deleted function to go", || async {
        (holders() == 0).then_some(())
    })
    .await;
}
