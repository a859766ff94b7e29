//! Calls with an idempotency key: run once, however often and wherever they are asked for.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::server::Server;
use crate::sharing::Redis;
use crate::sweep::swept;
use crate::wait::eventually;

/// Says that it runs, then stays as long as it was told.
const CODE: &str = "import time\n\ndef handler(event, context):\n    print('ran', event['n'], flush=True)\n    time.sleep(event.get('stay', 0))\n    return {'id': context.aws_request_id}\n";

async fn call(server: &Server, name: &str, key: &str, body: &Value) -> Answer {
    let path = format!("/functions/{name}/execute");
    let headers = [("idempotency-key", key)];
    let client = &server.client;
    client
        .send_with(Method::POST, &path, &headers, body.to_string())
        .await
}

/// How often it has run with this number.
async fn runs(server: &Server, name: &str, n: u32) -> usize {
    let lines = server.lines(name, None).await;
    lines.iter().filter(|l| **l == format!("ran {n}")).count()
}

async fn known(server: &Server, name: &str) {
    eventually("the function to be known", || async {
        let answer = server.client.get(&format!("/functions/{name}")).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_key_is_run_once_also_after_a_restart() {
    let server = Server::start(&[]);
    server.deploy("once", CODE, json!({})).await;
    let body = json!({"n": 1});
    let first = call(&server, "once", "k", &body).await.expect(200);
    let again = call(&server, "once", "k", &body).await.expect(200);
    assert_eq!(again.body, first.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.headers["x-request-id"], first.headers["x-request-id"]);
    assert_eq!(runs(&server, "once", 1).await, 1);
    call(&server, "once", "k", &json!({"n": 2}))
        .await
        .expect(422);

    // A client that leaves: the call goes on, and who asks again has its answer.
    let slow = json!({"n": 3, "stay": 1});
    let path = "/functions/once/execute";
    let headers = [("idempotency-key", "left")];
    let mut connection = server.client.connect().await.expect("accepts");
    let leaving = connection.send_with(Method::POST, path, &headers, slow.to_string());
    tokio::select! {
        answer = leaving => panic!("too early: {answer:?}"),
        _ = server.printed("once", "ran 3") => {}
    }
    drop(connection);
    let answer = call(&server, "once", "left", &slow).await.expect(200);
    assert_eq!(answer.headers["idempotency-replayed"], "true");
    assert_eq!(runs(&server, "once", 3).await, 1);

    let server = Server::start_on(server.crash(), &[]);
    let later = call(&server, "once", "k", &body).await.expect(200);
    assert_eq!(later.body, first.body);
    assert_eq!(runs(&server, "once", 1).await, 0, "the answer was kept");
    let replayed = [("outcome", "replayed")];
    let count = server.metrics().await;
    assert_eq!(count.sum("hearth_idempotent_calls_total", &replayed), 1.0);
    swept(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_one_redis_run_it_once_and_one_that_is_killed_blocks_nobody() {
    let redis = Redis::start();
    let url = redis.url();
    let settings = [("store.url", url.as_str()), ("limits.lease", "3s")];
    let (a, b) = (Server::start(&settings), Server::start(&settings));
    a.deploy("once", CODE, json!({"timeout": 300})).await;
    known(&b, "once").await;

    let body = json!({"n": 1, "stay": 1});
    let calls = (0..12).map(|n| call([&a, &b][n % 2], "once", "shared", &body));
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, answers[0].body);
    }
    let replayed = |a: &&Answer| a.headers.contains_key("idempotency-replayed");
    assert_eq!(answers.iter().filter(replayed).count(), 11);
    assert_eq!(runs(&a, "once", 1).await + runs(&b, "once", 1).await, 1);

    // Killed in the middle of a call: who waits elsewhere runs it when the lease is over.
    let body = json!({"n": 2, "stay": 200});
    let client = a.client.clone();
    let text = body.to_string();
    let cut = tokio::spawn(async move {
        let mut connection = client.connect().await.expect("accepts");
        let headers = [("idempotency-key", "killed")];
        let path = "/functions/once/execute";
        connection
            .send_with(Method::POST, path, &headers, text)
            .await
            .is_err()
    });
    a.printed("once", "ran 2").await;
    let quick = json!({"code": CODE.replace("time.sleep", "int")});
    b.client.put("/functions/once", &quick).await.expect(200);
    let left = a.crash();
    assert!(cut.await.expect("ended"), "there was no answer");
    let answer = call(&b, "once", "killed", &body).await.expect(200);
    assert!(!answer.headers.contains_key("idempotency-replayed"));
    assert_eq!(runs(&b, "once", 2).await, 1);
    let again = call(&b, "once", "killed", &body).await.expect(200);
    assert_eq!(again.body, answer.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    swept(&b).await;
    // To have its containers cleared away.
    swept(&Server::start_on(left, &settings)).await;
}
