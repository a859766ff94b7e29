//! Many calls in one request.

use serde_json::{Value, json};

use crate::limiting::{Interval, most_at_once};
use crate::server::Server;
use crate::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn results_are_in_order_and_one_that_fails_does_not_fail_the_rest() {
    let server = Server::shared();
    let code = "import time\ndef handler(event, context):\n    time.sleep(event.get('sleep', 0))\n    return 1 / event['by']";
    let function = server.deploy("batched", code, json!({})).await;
    let raw = "def handler(event, context): return bytes([0, 255])";
    server.deploy("batched-raw", raw, json!({})).await;
    let stream = "def handler(event, context):\n    yield '[1,'\n    yield '2]'";
    server.deploy("batched-stream", stream, json!({})).await;
    let calls = json!([
        {"name": "batched", "payload": {"by": 2, "sleep": 0.5}},
        {"id": function["id"], "payload": {"by": 0}},
        {"name": "batched", "payload": {"by": 4}},
        {"name": "no-such", "payload": {}},
        {"name": "batched"},
        {"payload": {}},
        {"name": "batched-raw"},
        {"name": "batched-stream"},
    ]);
    let results = server
        .client
        .post("/functions/execute", &calls)
        .await
        .expect(200)
        .json();
    let results = results.as_array().unwrap();
    let of = |field: &str| {
        results
            .iter()
            .map(|r| r[field].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(
        of("status"),
        [200, 502, 200, 404, 502, 400, 200, 200].map(|s| json!(s))
    );
    assert_eq!(
        (&results[0]["body"], &results[2]["body"]),
        (&json!(0.5), &json!(0.25))
    );
    assert_eq!(results[1]["error"]["type"], "ZeroDivisionError");
    assert_eq!(results[3]["error"]["code"], "not_found");
    assert_eq!(
        results[4]["error"]["type"], "KeyError",
        "no payload is the event {{}}"
    );
    assert_eq!(results[5]["error"]["faults"][0]["field"], "id");
    assert_eq!(results[6]["body"], json!({"base64": "AP8="}));
    assert_eq!(results[7]["body"], json!([1, 2]));
    let mut ids = of("request_id")
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        results.len(),
        "every call has a request id of its own"
    );
    assert!(results[0]["timing"]["run_ms"].as_f64().unwrap() >= 500.0);
    let none = server
        .client
        .post("/functions/execute", &json!([]))
        .await
        .expect(200);
    assert_eq!(none.json(), json!([]));
    for wrong in [json!({}), json!("x")] {
        let error = server
            .client
            .post("/functions/execute", &wrong)
            .await
            .error(400);
        assert_eq!(error["code"], "malformed_body");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_every_call_of_its_batch() {
    let server = Server::shared();
    let code = "import time\ndef handler(event, context):\n    try:\n        print('begun', flush=True)\n        time.sleep(60)\n    finally:\n        print('told', flush=True)";
    server.deploy("left", code, json!({"timeout": 100})).await;
    let client = server.client.clone();
    let batch = tokio::spawn(async move {
        let calls = json!([{"name": "left"}, {"name": "left"}]);
        client.post("/functions/execute", &calls).await
    });
    let count = async |text: &str, wanted: usize| {
        eventually(text, || async {
            let lines = server.lines("left", None).await;
            let count = lines.iter().filter(|line| *line == text).count();
            (count == wanted).then_some(())
        })
        .await;
    };
    count("begun", 2).await;
    batch.abort();
    count("told", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_batch_run_in_parallel_up_to_the_bound_and_there_is_a_most() {
    let server = Server::start(&[("limits.batch_parallel", "2"), ("limits.batch_max", "8")]);
    let code = "import time\ndef handler(event, context):\n    begun = time.time()\n    time.sleep(0.3)\n    return [begun, time.time()]";
    server.deploy("batch", code, json!({})).await;
    let calls = |n: usize| Value::Array(vec![json!({"name": "batch"}); n]);
    let results = server
        .client
        .post("/functions/execute", &calls(8))
        .await
        .expect(200)
        .json();
    let intervals: Vec<Interval> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| serde_json::from_value(result["body"].clone()).unwrap())
        .collect();
    assert_eq!(intervals.len(), 8);
    assert_eq!(most_at_once(&intervals), 2);
    let error = server
        .client
        .post("/functions/execute", &calls(9))
        .await
        .error(400);
    assert!(
        error["message"].as_str().unwrap().contains("at most 8"),
        "{error}"
    );
}
