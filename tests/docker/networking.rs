//! What functions can reach: nothing, unless they ask for it.

use std::io::Write;

use serde_json::{Value, json};

use crate::containers::{self, docker};
use crate::server::Server;
use crate::wait::eventually;

const CONNECTS: &str = r#"
import socket
def handler(event, context):
    try:
        with socket.create_connection((event["host"], event["port"]), timeout=3) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return type(error).__name__ + ": " + str(error)
"#;

/// Listens on its own loopback, and at another port on everything it has.
const LISTENS: &str = r#"
import socket, threading
def serve(listener):
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"from the function next door")
        connection.close()
for address in [("127.0.0.1", 7777), ("0.0.0.0", 7778)]:
    threading.Thread(target=serve, args=[socket.create_server(address)], daemon=True).start()
def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
def handler(event, context):
    if event.get("own"):
        return own_address()
    with socket.create_connection(("localhost", 7777)) as connection:
        return connection.recv(100).decode()
"#;

/// A listener on the host's end of the network that functions with egress have: to them, a machine outside.
struct Outside {
    address: String,
    port: u16,
}

impl Outside {
    fn start() -> Self {
        let gateway = docker(&[
            "network",
            "inspect",
            "--format={{(index .IPAM.Config 0).Gateway}}",
            "hearth-egress",
        ]);
        let address = gateway.expect("the network is there once a function needed it");
        let listener = std::net::TcpListener::bind((address.as_str(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                drop(connection.unwrap().write_all(b"hello from outside"));
            }
        });
        Self { address, port }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_asks_for_it_reaches_the_outside_and_nobody_a_neighbour() {
    let server = Server::start(&[("pool.stem_min", "0")]);
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
    // The first function that needs the network has it made.
    let nowhere = json!({"host": "127.0.0.1", "port": 1});
    server.call("connects-egress", &nowhere).await.expect(200);
    let outside = Outside::start();
    let there = json!({"host": outside.address, "port": outside.port});
    let reached = server.call("connects-egress", &there).await.expect(200);
    assert_eq!(reached.json(), "hello from outside");
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

    // Nor does a function with a network reach another one over it.
    let own = server.call("listens-egress", &json!({"own": true})).await;
    let neighbour = json!({"host": own.expect(200).json(), "port": 7778});
    let got = server.call("connects-egress", &neighbour).await;
    let got = got.expect(200).json();
    let text = got.as_str().unwrap();
    assert!(
        text.starts_with("TimeoutError") || text.contains("unreachable"),
        "{got}"
    );

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

/// Workers that were in its network have none any more, and do not know: they would answer without one for as long as they are warm.
#[tokio::test(flavor = "multi_thread")]
async fn workers_whose_network_ended_are_replaced() {
    let server = Server::start(&[("pool.stem_min", "0")]);
    server.expects("network holder has ended");
    let code = "import os, uuid\nME = uuid.uuid4().hex\ndef handler(event, context): return [ME, sorted(os.listdir('/sys/class/net'))]";
    server
        .deploy("networked", code, json!({"network": "egress"}))
        .await;
    let call = async || {
        let answer = server.call("networked", &json!({})).await.expect(200);
        let [worker, has] = serde_json::from_value::<[Value; 2]>(answer.json()).unwrap();
        (worker, has)
    };
    let (mut before, has) = call().await;
    let both = json!(["eth0", "lo"]);
    assert_eq!(has, both);
    for how in [&["kill"][..], &["rm", "--force"]] {
        let of_server = server.state().containers();
        let holders = containers::labelled("hearth.role=network-holder");
        let holder = holders.into_iter().find(|one| of_server.contains(one));
        let holder = holder.expect("it has one");
        docker(&[how, &[holder.as_str()]].concat()).expect("it ends");
        // The one there was has none now, and answers until that is noticed.
        before = eventually("another worker, in another network", || async {
            let (worker, has) = call().await;
            (worker != before && has == both).then_some(worker)
        })
        .await;
        // Nobody takes it for the function's doing.
        let starts = server.client.get("/functions/networked/starts").await;
        let starts = starts.expect(200).json();
        assert_eq!(starts["items"][0]["cause"], "network_ended", "{starts}");
    }
    let metrics = server.metrics().await;
    let ended = |reason| metrics.sum("hearth_workers_ended_total", &[("reason", reason)]);
    assert_eq!(ended("network_ended"), 2.0);
    let started = [("cause", "network_ended"), ("outcome", "ok")];
    assert_eq!(metrics.sum("hearth_starts_total", &started), 2.0);
    assert_eq!(ended("died_idle") + ended("log_closed"), 0.0);
}
