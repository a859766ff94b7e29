//! Layers in real containers: in workers that were stem workers, through a crash, and after everybody but one function has forgotten them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::deploying::zip;
use crate::server::Server;
use crate::sharing::Redis;
use crate::wait::eventually;

/// What it finds of the layers, where it cannot write, and which worker this is.
const CODE: &str = "\
import os, uuid
WORKER = uuid.uuid4().hex

def handler(event, context):
    found = {}
    for folder, _, files in os.walk('/opt/'):
        for name in files:
            path = os.path.join(folder, name)
            with open(path) as file:
                found[path] = file.read()
    return [found, os.access('/opt', os.W_OK), WORKER]
";

/// Publishes a layer and says which it is.
async fn publish(server: &Server, name: &str, files: &[(&str, &str)]) -> String {
    let path = format!("/2018-10-31/layers/{name}/versions");
    let content = json!({"Content": {"ZipFile": STANDARD.encode(zip(files))}});
    let made = server.client.post(&path, &content).await.expect(201).json();
    format!("{name}:{}", made["Version"])
}

async fn forget(server: &Server, id: &str) {
    let (name, number) = id.split_once(':').unwrap();
    let path = format!("/2018-10-31/layers/{name}/versions/{number}");
    server.client.delete(&path).await.expect(204);
}

async fn found(server: &Server, name: &str) -> (Value, String) {
    let answer = server.call(name, &json!({})).await.expect(200).json();
    assert_eq!(answer[1], false, "it can write below /opt");
    (answer[0].clone(), answer[2].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_laid_over_each_other_in_workers_of_every_kind() {
    let server = Server::shared();
    let below = publish(
        &server,
        "below",
        &[("a", "below"), ("both/x", "below"), ("lib/l", "l")],
    )
    .await;
    let above = publish(
        &server,
        "above",
        &[("b", "above"), ("both/x", "above"), ("both/y", "y")],
    )
    .await;
    let layers = json!({"layers": [below, above], "max_concurrency": 20});
    server.deploy("laid", CODE, layers).await;
    let wanted = json!({
        "/opt/a": "below", "/opt/b": "above", "/opt/both/x": "above", "/opt/both/y": "y", "/opt/lib/l": "l",
    });
    // More at once than there are stem workers: some come to it cold.
    let calls = (0..6).map(|_| found(&server, "laid"));
    for (answer, _) in futures_util::future::join_all(calls).await {
        assert_eq!(answer, wanted);
    }
    let starts = server
        .client
        .get("/functions/laid/starts")
        .await
        .expect(200)
        .json();
    let kinds: Vec<_> = starts["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["kind"].clone())
        .collect();
    println!("started {kinds:?}");

    // The other way around it is another version, and no worker of before answers.
    let (_, worker) = found(&server, "laid").await;
    let turned = json!({"layers": [above, below]});
    server
        .client
        .put("/functions/laid", &turned)
        .await
        .expect(200);
    let (answer, other) = found(&server, "laid").await;
    assert_eq!(answer["/opt/both/x"], "below");
    assert_ne!(worker, other);
    // Without any, there is nothing.
    server
        .client
        .put("/functions/laid", &json!({"layers": []}))
        .await
        .expect(200);
    assert_eq!(found(&server, "laid").await.0, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_its_layers_after_a_crash_and_after_they_were_deleted() {
    let server = Server::start(&[]);
    let layer = publish(&server, "kept", &[("a", "kept")]).await;
    let other = publish(&server, "kept", &[("a", "gone")]).await;
    server
        .deploy("keeps", CODE, json!({"layers": [layer]}))
        .await;
    let made = server
        .client
        .post("/functions/keeps/versions", &json!({}))
        .await;
    assert_eq!(made.expect(201).json()["number"], 1);
    let bare = json!({"layers": []});
    server
        .client
        .put("/functions/keeps", &bare)
        .await
        .expect(200);
    forget(&server, &layer).await;
    forget(&server, &other).await;
    let state = server.crash();
    // Nothing is unpacked any more, and the store has thrown away what it could.
    std::fs::remove_dir_all(state.path().join("code")).unwrap();
    let server = Server::start_on(state, &[]);
    assert_eq!(found(&server, "keeps:1").await.0, json!({"/opt/a": "kept"}));
    assert_eq!(found(&server, "keeps").await.0, json!({}));
    let again = publish(&server, "kept", &[("a", "again")]).await;
    assert_eq!(again, "kept:3");
    let refused = json!({"layers": [layer]});
    let refused = server
        .client
        .put("/functions/keeps", &refused)
        .await
        .error(400);
    assert_eq!(refused["faults"][0]["field"], "layers");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_redis_share_layers() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("store.url", url.as_str())];
    let (a, b) = (Server::start(&settings), Server::start(&settings));
    let layer = publish(&a, "shared", &[("a", "shared")]).await;
    let path = "/2018-10-31/layers/shared/versions";
    let listed = b
        .client
        .send(Method::GET, path, "")
        .await
        .expect(200)
        .json();
    assert_eq!(listed["LayerVersions"][0]["Version"], 1);
    b.deploy("sharing", CODE, json!({"layers": [layer]})).await;
    forget(&a, &layer).await;
    eventually("the function to be known", || async {
        let answer = a.client.get("/functions/sharing").await;
        (answer.status == http::StatusCode::OK).then_some(())
    })
    .await;
    for server in [&a, &b] {
        assert_eq!(
            found(server, "sharing").await.0,
            json!({"/opt/a": "shared"})
        );
    }
    assert_eq!(publish(&b, "shared", &[("a", "x")]).await, "shared:2");
}
