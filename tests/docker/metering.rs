//! What `/metrics` says, counted against calls whose outcome is known; and the documents a server describes itself with.

use http::Method;
use serde_json::json;

use crate::languages;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_function_start_and_blame() {
    let server = Server::start(&[("pool.stem_min", "0"), ("pool.stem_max", "0")]);
    let code = "def handler(event, context):\n    if event: raise ValueError\n    return 1";
    server
        .deploy("counted", code, json!({"max_concurrency": 1}))
        .await;
    server.deploy("other", code, json!({})).await;
    for _ in 0..4 {
        server.call("counted", &json!(0)).await.expect(200);
    }
    for _ in 0..2 {
        server.call("counted", &json!(1)).await.error(502);
    }
    let path = "/functions/counted/execute";
    server.client.send(Method::POST, path, "{").await.error(400);
    server
        .client
        .put("/functions/counted", &json!({"max_concurrency": 0}))
        .await
        .expect(200);
    server.call("counted", &json!(0)).await.error(429);
    server.call("other", &json!(0)).await.expect(200);

    let metrics = server.metrics().await;
    let calls = |start: &str, outcome: &str| {
        let labels = [
            ("function", "counted"),
            ("start", start),
            ("outcome", outcome),
        ];
        metrics.sum("hearth_invocations_total", &labels)
    };
    assert_eq!((calls("cold", "ok"), calls("warm", "ok")), (1.0, 3.0));
    assert_eq!(
        (calls("warm", "function"), calls("warm", "client")),
        (2.0, 1.0)
    );
    assert_eq!(calls("none", "client"), 1.0);
    let own = [("function", "counted")];
    assert_eq!(metrics.sum("hearth_invocations_total", &own), 8.0);
    assert_eq!(metrics.sum("hearth_invocation_seconds_count", &own), 7.0);
    assert_eq!(metrics.sum("hearth_run_seconds_count", &own), 7.0);
    assert_eq!(metrics.sum("hearth_throttles_total", &own), 1.0);
    assert_eq!(
        metrics.sum(
            "hearth_starts_total",
            &[("kind", "cold"), ("outcome", "ok")]
        ),
        2.0
    );
    assert_eq!(
        metrics.sum("hearth_start_seconds_count", &[("kind", "cold")]),
        2.0
    );
    assert_eq!(metrics.sum("hearth_functions", &[]), 2.0);
    assert_eq!(
        metrics.sum(
            "hearth_http_requests_total",
            &[("face", "execute"), ("status", "5xx")]
        ),
        2.0
    );
    server
        .measured("hearth_workers", &[("state", "idle")], |n| n == 2.0)
        .await;
    server
        .measured("hearth_line_depth", &[], |n| n == 0.0)
        .await;
    let started = server.metrics().await.sum(
        "hearth_engine_call_seconds_count",
        &[("operation", "start"), ("outcome", "ok")],
    );
    assert_eq!(started, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_describes_itself_without_help_from_elsewhere() {
    let server = Server::shared();
    let document = server.client.get("/openapi.json").await.expect(200).json();
    let paths = document["paths"].as_object().unwrap();
    let methods = [
        ("/functions/", "get"),
        ("/functions/", "post"),
        ("/functions/{id}", "get"),
        ("/functions/{id}", "put"),
        ("/functions/{id}", "delete"),
        ("/functions/{id}/execute", "post"),
        ("/functions/execute", "post"),
        ("/functions/{id}/logs", "get"),
    ];
    for (path, method) in methods {
        assert!(
            !paths[path][method].is_null(),
            "{method} {path} is not described"
        );
    }
    // Its example can be sent as it is.
    let example =
        &paths["/functions/"]["post"]["requestBody"]["content"]["application/json"]["example"];
    let mut body = example.clone();
    body["name"] = json!("from-the-example");
    server.client.post("/functions/", &body).await.expect(201);
    server
        .call("from-the-example", &json!({}))
        .await
        .expect(200);

    // It is part of the dashboard, or says that there is none.
    let page = server.client.get("/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    let runtimes = server.client.get("/runtimes/").await.expect(200).json();
    let listed = runtimes["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].as_str().unwrap().to_owned());
    let there: Vec<_> = languages::all().iter().map(|r| r.id.to_string()).collect();
    assert_eq!(listed.collect::<Vec<_>>(), there);
}
