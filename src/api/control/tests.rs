//! The face as its clients see it: paths, statuses, headers and documents.

use std::collections::BTreeSet;

use axum::body::Body;
use futures_util::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::api::control::world::{World, new};

#[tokio::test]
async fn a_function_is_made_read_changed_and_deleted() {
    let world = World::empty();
    let made = world.post("/functions/", new("hello")).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.headers["etag"], "\"1\"");
    let document = made.json();
    let id = document["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.headers["location"], format!("/functions/{id}"));
    let want = json!({
        "id": id, "name": "hello", "language": "runic1.0", "handler": "app.handler",
        "timeout": 3, "memory": 128, "environment": {}, "description": "", "tags": {},
        "layers": [], "route": null, "max_concurrency": null, "reserved_concurrency": null, "max_retries": null,
        "max_event_age": null, "on_success": null, "on_failure": null, "network": "none", "revision": 1,
        "code": {"sha256": document["code"]["sha256"], "size": document["code"]["size"], "origin": "inline"},
        "version": document["version"], "created_at": document["created_at"],
        "updated_at": document["created_at"], "url": format!("/functions/{id}/execute"),
    });
    assert_eq!(document, want);
    for path in [
        "/functions/hello",
        "/functions/hello/",
        &format!("/functions/{id}"),
    ] {
        assert_eq!(world.get(path).await.json(), document, "{path}");
    }

    let change = json!({"name": "hallo", "timeout": 9, "tags": {"a": "b"}, "max_concurrency": 0});
    let changed = world.put("/functions/hello", change).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    let now = changed.json();
    assert_eq!((&now["id"], &now["revision"]), (&json!(id), &json!(2)));
    assert_eq!(now["name"], "hallo");
    assert_eq!(now["timeout"], 9);
    assert_eq!(now["memory"], 128, "what is left out stays");
    assert_eq!(now["max_concurrency"], 0);
    assert_eq!(now["code"], document["code"]);
    assert_eq!(world.get("/functions/hello").await.status, 404, "renamed");
    let cleared = world
        .put("/functions/hallo", json!({"max_concurrency": null}))
        .await;
    assert_eq!(cleared.json()["max_concurrency"], Value::Null);

    let gone = world.delete("/functions/hallo").await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    for again in [
        world.delete("/functions/hallo").await,
        world.get(&format!("/functions/{id}")).await,
        world.put("/functions/hallo", json!({})).await,
    ] {
        assert_eq!(again.status, 404);
        assert_eq!(again.json()["error"]["code"], "not_found");
        let id = again.headers["x-request-id"].to_str().expect("text");
        assert_eq!(again.json()["error"]["request_id"], id);
    }
    assert_eq!(world.stored("hallo").await, None);
}

#[tokio::test]
async fn what_is_taken_is_said_by_field() {
    let world = World::empty();
    let mut one = new("one");
    one["route"] = json!("/one/{id}");
    assert_eq!(world.post("/functions", one).await.status, 201);
    let again = world.post("/functions", new("one")).await;
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["error"]["code"], "name_taken");
    assert_eq!(again.fields(), ["name"]);
    let mut two = new("two");
    two["route"] = json!("/one/{other}");
    let taken = world.post("/functions", two).await;
    assert_eq!(taken.status, 409);
    assert_eq!(taken.fields(), ["route"]);
    let message = taken.json()["error"]["message"].to_string();
    assert!(
        message.contains("by function one (") && message.contains("{id}"),
        "{message}"
    );
    assert_eq!(world.get("/functions/two").await.status, 404);
    // A route that was given up is free.
    world.put("/functions/one", json!({"route": null})).await;
    let mut two = new("two");
    two["route"] = json!("/one/{other}");
    assert_eq!(world.post("/functions", two).await.status, 201);
}

#[tokio::test]
async fn a_change_from_an_old_revision_is_refused() {
    let world = World::empty();
    world.create("f").await;
    world.put("/functions/f", json!({"timeout": 5})).await;
    let stale = world
        .put("/functions/f", json!({"timeout": 6, "revision": 1}))
        .await;
    assert_eq!(stale.status, 409);
    assert_eq!(stale.fields(), ["revision"]);
    let conditional = async |method: &str, tag: &str| {
        let request = Request::builder().method(method).uri("/functions/f");
        let request = request.header("if-match", tag).body(Body::from("{}"));
        world.answered(request.expect("a request")).await
    };
    for tag in ["\"1\"", "1", "x", ""] {
        assert_eq!(conditional("PUT", tag).await.status, 412, "{tag:?}");
        let kept = conditional("DELETE", tag).await;
        assert_eq!(kept.status, 412, "{tag:?}");
        assert_eq!(kept.fields(), ["if-match"]);
    }
    assert_eq!(world.get("/functions/f").await.json()["timeout"], 5);
    assert_eq!(conditional("PUT", "\"2\"").await.status, 200);
    assert_eq!(conditional("PUT", "W/\"9\", \"3\"").await.status, 200);
    assert_eq!(conditional("DELETE", "*").await.status, 204);
}

#[tokio::test]
async fn functions_are_listed_a_page_at_a_time() {
    let world = World::empty();
    assert_eq!(
        world.get("/functions/").await.json(),
        json!({"items": [], "next": null})
    );
    for n in 0..5 {
        let mut function = new(&format!("f{n}"));
        function["tags"] = json!({"odd": (n % 2).to_string(), "a:b": "c"});
        assert_eq!(world.post("/functions", function).await.status, 201);
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items
            .iter()
            .map(|f| f["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let mut seen = Vec::new();
    let mut path = "/functions?limit=2".to_owned();
    for _ in 0..3 {
        let page = world.get(&path).await.json();
        seen.extend(names(&page));
        match page["next"].as_str() {
            Some(next) => path = format!("/functions/?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["f0", "f1", "f2", "f3", "f4"]);
    // Exactly full is the last page all the same.
    assert_eq!(
        world.get("/functions?limit=5").await.json()["next"],
        Value::Null
    );
    for (query, want) in [
        ("tag=odd:1", vec!["f1", "f3"]),
        ("tag=a:b:c&name=f4", vec!["f4"]),
        ("tag=odd:2", vec![]),
        ("name=f", vec!["f0", "f1", "f2", "f3", "f4"]),
        ("name=g", vec![]),
    ] {
        let page = world.get(&format!("/functions?{query}")).await.json();
        assert_eq!(names(&page), want, "{query}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("page=1", "page"),
        ("limit=1&limit=2", "limit"),
    ] {
        let refused = world.get(&format!("/functions?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert_eq!(refused.fields(), [field]);
    }
}

#[tokio::test]
async fn everything_wrong_is_said_at_once_and_nothing_is_done() {
    let world = World::empty();
    let bad = json!({
        "name": "a/b", "language": "cobolt", "handler": "", "timeout": 0, "memory": "big", "code": 7,
        "environment": {"1": "x"}, "description": null, "tags": [], "route": "x",
        "max_concurrency": -1, "network": "all", "nonsense": 1,
    });
    let refused = world.post("/functions/", bad.clone()).await;
    assert_eq!(refused.status, 400);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "invalid_request");
    assert_eq!(error["blame"], "client");
    assert_eq!(error["retry"], "never");
    let mut fields = refused.fields();
    fields.sort();
    let want = [
        "code",
        "description",
        "environment.1",
        "handler",
        "language",
        "max_concurrency",
        "memory",
        "name",
        "network",
        "nonsense",
        "route",
        "tags",
        "timeout",
    ];
    assert_eq!(fields, want);
    assert_eq!(world.get("/functions").await.json()["items"], json!([]));
    assert_eq!(world.store.inner.functions().await.expect("store"), []);

    let before = world.create("f").await;
    let refused = world.put("/functions/f", bad).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.fields().len(), want.len());
    assert_eq!(world.get("/functions/f").await.json(), before);
}

#[tokio::test]
async fn code_comes_as_text_as_a_zip_and_from_a_path() {
    use base64::Engine;
    let world = World::empty();
    world.create("text").await;
    let zip = world.get("/functions/text/code").await;
    assert_eq!(zip.status, 200);
    assert_eq!(zip.headers["content-type"], "application/zip");
    assert_eq!(
        zip.headers["content-disposition"],
        "attachment; filename=\"text.zip\""
    );
    let mut encoded = base64::engine::general_purpose::STANDARD.encode(&zip.body);
    for code in [json!(encoded), json!({"zip": encoded})] {
        let mut function = new("zip");
        function["code"] = code;
        let refused = world.post("/functions/", function.clone()).await;
        assert_eq!(refused.fields(), ["handler"], "is not known for a zip");
        function["handler"] = json!("app.handler");
        let made = world.post("/functions/", function).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        assert_eq!(made.json()["code"]["origin"], "zip");
        assert_eq!(world.get("/functions/zip/code").await.body, zip.body);
        world.delete("/functions/zip").await;
        // As command-line tools break lines.
        encoded.insert(8, '\n');
    }

    let sources = world.dir.path().join("sources");
    std::fs::create_dir_all(&sources).expect("folder");
    std::fs::write(sources.join("app.txt"), "say what came").expect("source");
    let mut function = new("path");
    function.as_object_mut().expect("object").remove("code");
    function["code_path"] = json!(sources);
    function["handler"] = json!("app.handler");
    let made = world.post("/functions/", function.clone()).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let code = &made.json()["code"];
    assert_eq!(code["origin"], "path");
    assert_eq!(code["path"], json!(sources));
    for (path, what) in [
        ("/etc", "outside"),
        ("sources", "absolute"),
        ("/nowhere/at/all", "exist"),
    ] {
        function["code_path"] = json!(path);
        let refused = world.post("/functions/", function.clone()).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.fields(), ["code_path"]);
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains(what), "{message}");
    }
    for bad in ["UEsDBA", "UEsDB!!!", "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="] {
        let mut function = new("bad");
        function["code"] = json!(bad);
        function["handler"] = json!("app.handler");
        let refused = world.post("/functions/", function).await;
        assert_eq!(
            (refused.status.as_u16(), refused.fields()),
            (400, vec!["code".into()])
        );
    }
}

#[tokio::test]
async fn a_change_of_code_runs_from_the_next_call_on() {
    let world = World::empty();
    world.create("f").await;
    let ran = async || world.post("/functions/f/execute", json!("code")).await;
    let first = ran().await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    assert_eq!(first.json(), "say what came");
    for n in 0..5 {
        let code = format!("version {n}");
        let changed = world.put("/functions/f", json!({"code": code})).await;
        assert_eq!(changed.status, 200);
        let next = ran().await;
        assert_eq!(next.json(), code.as_str());
        let version = next.headers["x-hearth-version"]
            .to_str()
            .expect("text")
            .to_owned();
        let document = changed.json();
        assert!(
            document["version"]
                .as_str()
                .expect("text")
                .starts_with(&version)
        );
    }
    let other = world.put("/functions/f", json!({"language": "sign"})).await;
    assert_eq!(other.fields(), ["language"], "only with code");
    let both = json!({"language": "sign", "code": "in signs"});
    let changed = world.put("/functions/f", both).await;
    assert_eq!(changed.json()["language"], "sign2.x");
    assert_eq!(ran().await.json(), "in signs");
}

#[tokio::test]
async fn a_call_is_answered_with_bytes_and_phases() {
    let world = World::empty();
    world.create("f").await;
    let first = world.post("/functions/f/execute", json!({"a": 1})).await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    assert_eq!(first.body, r#"{"a":1}"#);
    assert_eq!(first.headers["content-type"], "application/json");
    let again = world
        .ask("POST", "/functions/f/execute/", Body::empty())
        .await;
    assert_eq!(again.body, "{}");
    assert_eq!(again.headers["x-hearth-start"], "warm");
    let timing = again.headers["server-timing"].to_str().expect("text");
    assert!(
        timing.contains("start;dur=0.000;desc=\"warm: idle\""),
        "{timing}"
    );
    let raw = world.post("/functions/f/execute", json!("bytes")).await;
    assert_eq!(raw.headers["content-type"], "application/octet-stream");
    let stream = world.post("/functions/f/execute", json!("stream")).await;
    assert_eq!(stream.headers["content-type"], "text/plain");
    assert_eq!(stream.body, "one two");

    let failed = world.post("/functions/f/execute", json!("fail")).await;
    assert_eq!(failed.status, 502);
    let error = &failed.json()["error"];
    assert_eq!(
        (&error["type"], &error["stack"]),
        (&json!("Asked"), &json!(["here"]))
    );
    assert_eq!(error["log_tail"], "called\n");

    let request = Request::post("/functions/f/execute").body(Body::from("\"cut\""));
    let cut = world.send(request.expect("a request")).await;
    assert_eq!(cut.status(), 200);
    assert!(
        cut.into_body().collect().await.is_err(),
        "not a whole answer"
    );
    let none = world.post("/functions/none/execute", json!({})).await;
    assert_eq!(none.status, 404);
    let large = "x".repeat(6 * 1024 * 1024 + 1);
    let large = world.ask("POST", "/functions/f/execute", large).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn a_batch_answers_each_call_at_its_place() {
    let world = World::empty();
    let f = world.create("f").await;
    let list = json!([
        {"name": "f", "payload": {"n": 1}},
        {"id": f["id"], "payload": "fail"},
        {"name": "nobody"},
        {"name": "f", "id": "f"},
        {"payload": 1},
        {"name": "f", "playload": 1},
        "f",
    ]);
    let answer = world.post("/functions/execute", list).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let results = answer.json();
    let statuses: Vec<_> = results
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["status"].as_u64().expect("a status"))
        .collect();
    assert_eq!(statuses, [200, 502, 404, 400, 400, 400, 400]);
    assert_eq!(results[5]["error"]["faults"][0]["field"], "playload");
    assert_eq!(results[0]["body"], json!({"n": 1}));
    assert!(results[0]["timing"]["run_ms"].is_number());
    assert_eq!(results[1]["error"]["type"], "Asked");
    assert_eq!(results[1]["error"]["request_id"], results[1]["request_id"]);
    assert_eq!(results[2]["start"], Value::Null);
    assert_eq!(results[3]["error"]["faults"][0]["field"], "id");

    // The second is one in the order of its fields, and still no call.
    let odd = r#"[{"name": "f", "name": "g"}, [null, "f", 1], {"name": null}, {"name": "f", "payload": null}]"#;
    let results = world.ask("POST", "/functions/execute", odd).await.json();
    let message = results[0]["error"]["message"].as_str().expect("a text");
    assert!(message.contains("\"name\" is there twice"), "{message}");
    for refused in 0..3 {
        assert_eq!(results[refused]["status"], 400, "{results}");
    }
    assert_eq!(results[3]["status"], 200);
    assert_eq!(results[3]["body"], Value::Null, "null is an event too");

    let odd = json!([
        {"name": "f", "payload": "broken"}, {"name": "f", "payload": "bytes"},
        {"name": "f", "payload": "stream"}, {"name": "f", "payload": "cut"}, {"name": "f"},
    ]);
    let results = world.post("/functions/execute/", odd).await.json();
    assert_eq!(results[0]["body"], json!({"base64": "e25vdCBqc29u"}));
    assert_eq!(results[1]["body"], json!({"base64": "AJ8="}));
    assert_eq!(results[2]["body"], json!({"base64": "b25lIHR3bw=="}));
    assert_eq!(results[3]["status"], 502);
    assert_eq!(
        results[4]["body"],
        json!({}),
        "no payload is the empty event"
    );

    for (body, code) in [
        ("{}".to_owned(), "malformed_body"),
        ("[".to_owned(), "malformed_body"),
        ("[\"\u{0}\"]".to_owned(), "malformed_body"),
        (json!(vec![json!({}); 9]).to_string(), "invalid_request"),
    ] {
        let refused = world.ask("POST", "/functions/execute", body).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json()["error"]["code"], code);
    }
    let empty = world.post("/functions/execute", json!([])).await;
    assert_eq!(empty.json(), json!([]));
}

#[tokio::test]
async fn logs_are_read_and_followed() {
    let world = World::empty();
    world.create("f").await;
    let first = world.post("/functions/f/execute", json!(1)).await;
    world.post("/functions/f/execute", json!(2)).await;
    let logs = world.get("/functions/f/logs/").await.json();
    let items = logs["items"].as_array().expect("items");
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["text"], "called");
    let id = first.headers["x-request-id"].to_str().expect("text");
    let of_one = world
        .get(&format!("/functions/f/logs?request_id={id}"))
        .await;
    assert_eq!(of_one.json()["items"], json!([items[0]]));
    assert_eq!(
        world.get("/functions/f/logs?limit=1").await.json()["items"],
        json!([items[1]])
    );
    for (query, field) in [
        ("limit=x", "limit"),
        ("follow=perhaps", "follow"),
        ("x=1", "x"),
    ] {
        let refused = world.get(&format!("/functions/f/logs?{query}")).await;
        assert_eq!(refused.fields(), [field]);
    }
    assert_eq!(world.get("/functions/none/logs").await.status, 404);

    let request = Request::get("/functions/f/logs?limit=1").header("accept", "text/event-stream");
    let following = world
        .send(request.body(Body::empty()).expect("a request"))
        .await;
    assert_eq!(following.headers()["content-type"], "text/event-stream");
    let mut events = following.into_body().into_data_stream();
    let mut next = async || {
        let event = tokio::time::timeout(crate::api::control::world::DEADLINE, events.next());
        let event = event.await.expect("in time")?;
        Some(String::from_utf8(event.expect("an event").to_vec()).expect("text"))
    };
    let old = next().await.expect("an event");
    assert!(old.contains("-1\ndata: "), "{old}");
    world.post("/functions/f/execute", json!(3)).await;
    let new = next().await.expect("an event");
    let data = new
        .lines()
        .find_map(|l| l.strip_prefix("data: "))
        .expect("data");
    let line: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(
        (&line["sequence"], &line["text"]),
        (&json!(2), &json!("called"))
    );
    world.stop.cancel();
    assert_eq!(next().await, None, "the end of the server ends it");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_shape() {
    let world = World::empty();
    for path in [
        "/",
        "/nothing",
        "/functions/a/b/c",
        "/functions//",
        "/runtimes/x",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["code"], "not_found");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    for (method, path, allow) in [
        ("DELETE", "/functions/", "GET,HEAD,POST"),
        ("POST", "/functions/f", "GET,HEAD,PUT,DELETE"),
        ("GET", "/functions/f/execute", "POST"),
        ("GET", "/functions/execute", "POST"),
        ("POST", "/runtimes", "GET,HEAD"),
        ("PATCH", "/openapi.json", "GET,HEAD"),
    ] {
        let answer = world.ask(method, path, Body::empty()).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
        assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    }
}

#[tokio::test]
async fn paths_of_any_form_are_answered() {
    let world = World::empty();
    world.create("f").await;
    assert_eq!(world.get("/functions/%66").await.status, 200);
    assert_eq!(world.get("http://elsewhere/functions/f/").await.status, 200);
    let broken = world.get("/functions/%ff").await;
    assert_eq!(
        (broken.status.as_u16(), broken.fields()),
        (400, vec!["id".into()])
    );
    for (method, target) in [
        ("OPTIONS", "*"),
        ("CONNECT", "elsewhere:80"),
        ("GET", "/%00"),
        ("GET", "/functions/%2e%2e/x"),
        ("GET", "//functions"),
    ] {
        let answer = world.ask(method, target, Body::empty()).await;
        assert_eq!(answer.status, 404, "{method} {target}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_document_are_refused() {
    let world = World::empty();
    let deep = "[".repeat(100_000);
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"7",
        b"\xff{}",
        b"{}x",
        deep.as_bytes(),
    ] {
        let answer = world.ask("POST", "/functions/", body.to_vec()).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["code"], "malformed_body");
    }
    let nothing = world.ask("POST", "/functions/", "{}").await;
    assert_eq!(nothing.fields(), ["name", "language", "code"]);
}

#[tokio::test]
async fn runtimes_are_listed() {
    let world = World::empty();
    let want = json!({"items": [
        {"id": "runic1.0", "names": ["runic"], "description": "made up", "default_handler": "app.handler", "source_extension": "txt", "source_file": null, "template": "say hello\n"},
        {"id": "sign2.x", "names": ["sign"], "description": "made up", "default_handler": "app.handler", "source_extension": "txt", "source_file": null, "template": "say hello\n"},
    ]});
    for path in ["/runtimes", "/runtimes/"] {
        assert_eq!(world.get(path).await.json(), want);
    }
}

#[tokio::test]
async fn the_document_is_as_it_was() {
    let world = World::empty();
    let mut document = world.get("/openapi.json").await.json();
    document["info"]["version"] = json!("of the crate");
    insta::assert_json_snapshot!("openapi", document);
}

#[tokio::test]
async fn the_document_describes_what_is_there_and_nothing_dangles() {
    let world = World::empty();
    let text = world.get("/openapi.json/").await.body;
    let document: Value = serde_json::from_slice(&text).expect("JSON");
    let text = String::from_utf8(text.to_vec()).expect("text");
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "{name} is not described");
    }
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let there = path.replace("{id}", "nobody");
        let operations = operations.as_object().expect("operations");
        let refused = world.ask("PATCH", &there, "").await;
        let allowed = refused.headers["allow"].to_str().expect("a text");
        let allowed: BTreeSet<_> = allowed.split(',').filter(|of| *of != "HEAD").collect();
        let described: Vec<_> = operations.keys().map(|of| of.to_uppercase()).collect();
        assert_eq!(
            allowed,
            described.iter().map(String::as_str).collect(),
            "{path}"
        );
        for (method, operation) in operations {
            let answer = world.ask(&method.to_uppercase(), &there, "").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            let documented = &operation["responses"][answer.status.as_str()];
            assert!(documented.is_object(), "{method} {path}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn every_path_is_described() {
    let document = World::empty().get("/openapi.json").await.json();
    let source = include_str!("mod.rs");
    let (_, routes) = source.split_once("fn routes()").expect("the list");
    let (routes, _) = routes.split_once("\n}").expect("its end");
    let paths: BTreeSet<_> = routes
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(paths.len() > 20, "{paths:?}");
    let described = document["paths"].as_object().expect("paths").keys();
    assert_eq!(paths, described.cloned().collect());
}

/// A function could otherwise be hidden by Hearth's own paths, or hide them.
#[tokio::test]
async fn every_path_is_reserved() {
    let world = World::empty();
    let document = world.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths").keys();
    let pages = ["/openapi.json", "/docs/", "/metrics", "/healthz", "/readyz"];
    for path in paths.map(String::as_str).chain(pages) {
        assert!(crate::domain::route::is_reserved(path), "{path}");
    }
}

#[tokio::test]
async fn what_a_path_and_a_body_mean_is_never_guessed() {
    let world = World::empty();
    world.create("f").await;
    for (method, path) in [
        ("GET", "/functions/%ff"),
        ("PUT", "/functions/%ff"),
        ("DELETE", "/functions/%c3%28"),
        ("GET", "/functions/%ff/code"),
        ("GET", "/functions/%ff/logs"),
        ("POST", "/functions/%ff/execute"),
    ] {
        let refused = world.ask(method, path, "{}").await;
        assert_eq!(refused.status, 400, "{method} {path}: {:?}", refused.body);
        assert_eq!(refused.fields(), ["id"], "{method} {path}");
    }
    assert_eq!(world.get("/functions/%66").await.json()["name"], "f");
    for path in ["/functions/%2566", "/functions/f%2fcode", "/functions/f%00"] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
    for body in [
        r#"{"timeout": 3, "timeout": 3}"#,
        r#"{"environment": {"timeout": "a", "timeout": "b"}}"#,
    ] {
        let refused = world.ask("PUT", "/functions/f", body).await;
        assert_eq!(refused.status, 400);
        let error = &refused.json()["error"];
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains("\"timeout\" is there twice"), "{message}");
    }
    let f = world.get("/functions/f").await.json();
    assert_eq!(f["revision"], 1, "nothing was changed");
}
