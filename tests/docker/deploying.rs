//! Deploying functions and calling them, in every language there is: what `POST /functions/` takes, what an answer tells.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::languages;
use crate::server::Server;

/// A zip with these files.
pub(crate) fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        // Also programs: a package without their mark is refused by those that start them.
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        writer.start_file(*name, options).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[track_caller]
fn greets(answer: Answer, name: &str) -> Answer {
    let answer = answer.expect(200);
    let body = answer.json();
    assert_eq!(body["message"], format!("Hello, {name}!"));
    assert_eq!(body["request_id"], answer.request_id());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_template_runs_in_each_of_the_three_ways_code_comes_in() {
    let server = Server::shared();
    for runtime in languages::all() {
        let (path, text) = languages::template(&runtime);
        let file = path.file_name().unwrap().to_str().unwrap();
        let packed = STANDARD.encode(zip(&[(file, &text)]));
        let ways = [
            ("inline", json!({"code": text})),
            (
                "zip",
                json!({"code": {"zip": packed}, "handler": runtime.default_handler}),
            ),
            (
                "path",
                json!({"code_path": path, "handler": runtime.default_handler}),
            ),
        ];
        // Every name of the runtime is as good as its id.
        let names = runtime
            .names
            .iter()
            .map(String::as_str)
            .chain([runtime.id.as_str()]);
        let names: Vec<_> = names.collect();
        for (n, (way, code)) in ways.into_iter().enumerate() {
            let name = format!("template-{way}-{}", names[0]);
            let mut body = json!({"name": name, "language": names[n % names.len()]});
            body.as_object_mut()
                .unwrap()
                .extend(code.as_object().unwrap().clone());
            let made = server.client.post("/functions/", &body).await.expect(201);
            let function = made.json();
            assert_eq!(function["language"], runtime.id.as_str());
            assert_eq!(function["handler"], runtime.default_handler.as_str());
            assert_eq!(function["code"]["origin"], way);
            let id = function["id"].as_str().unwrap();
            assert_eq!(made.header("location"), format!("/functions/{id}"));

            let first = greets(server.call(&name, &json!({"name": "Ada"})).await, "Ada");
            assert!(
                ["stem", "cold"].contains(&first.start()),
                "{:?}",
                first.headers
            );
            assert!(first.header("server-timing").contains("first_call"));
            assert!(!first.phase("init").is_zero());
            let second = greets(server.call(id, &json!({})).await, "World");
            assert_eq!(second.start(), "warm");
            assert!(second.phase("init").is_zero() && second.phase("start").is_zero());
            assert!(!second.phase("run").is_zero() && second.phase("queue").is_zero());
            assert_ne!(first.request_id(), second.request_id());
            let version = function["version"].as_str().unwrap();
            assert!(version.starts_with(second.header("x-hearth-version")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_found_by_name_and_by_id_with_and_without_a_slash() {
    let server = Server::shared();
    let code = "def handler(event, context):\n    return event";
    let function = server.deploy("slashes", code, json!({})).await;
    let id = function["id"].as_str().unwrap();
    for name in ["slashes", id] {
        for slash in ["", "/"] {
            let one = server
                .client
                .get(&format!("/functions/{name}{slash}"))
                .await;
            assert_eq!(one.expect(200).json(), function);
            let called = format!("/functions/{name}/execute{slash}");
            let answer = server.client.post(&called, &json!([1, "ü"])).await;
            assert_eq!(answer.expect(200).json(), json!([1, "ü"]));
            let batch = json!([{"name": "slashes", "payload": 7}]);
            let batch = server
                .client
                .post(&format!("/functions/execute{slash}"), &batch)
                .await;
            assert_eq!(batch.expect(200).json()[0]["body"], 7);
        }
    }
    for slash in ["", "/"] {
        let page = server
            .client
            .get(&format!("/functions{slash}?name=slashes"))
            .await;
        assert_eq!(page.expect(200).json()["items"], json!([function]));
    }
    assert_eq!(
        server.client.get("/functions/no-such").await.error(404)["code"],
        "not_found"
    );
    let missing = server.call("no-such", &json!({})).await;
    assert_eq!(missing.error(404)["code"], "not_found");
    assert!(
        missing
            .header("server-timing")
            .starts_with("queue;dur=0.000")
    );
    let elsewhere = server.client.get("/no/such/path").await;
    assert_eq!(elsewhere.error(404)["code"], "not_found");

    server
        .client
        .delete(&format!("/functions/{id}/"))
        .await
        .expect(204);
    server.client.delete("/functions/slashes").await.error(404);
    server.call("slashes", &json!({})).await.error(404);
    server.call(id, &json!({})).await.error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_comes_in_pages() {
    let server = Server::shared();
    let code = "def handler(event, context): pass";
    for n in 0..5 {
        server
            .deploy(&format!("paged-{n}"), code, json!({"tags": {"page": "d"}}))
            .await;
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/functions/?limit=2&tag=page:d{cursor}");
        let page = server.client.get(&path).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|f| f["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(
        names,
        ["paged-0", "paged-1", "paged-2", "paged-3", "paged-4"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_the_function() {
    let server = Server::shared();
    let code = r#"
import os
def run(event, context):
    return {
        "environment": os.environ["GREETING"], "name": context.function_name, "memory": context.memory_limit_in_mb,
        "remaining": context.get_remaining_time_in_millis(), "version": context.function_version,
        "log_group": context.log_group_name, "log_stream": context.log_stream_name,
        "file": os.path.basename(__file__), "tmp": os.access("/tmp", os.W_OK), "task": os.access("/var/task", os.W_OK),
    }
"#;
    let settings = json!({
        "handler": "jobs.run", "memory": 192, "timeout": 9, "environment": {"GREETING": "grüß dich"},
        "description": "tells what it got", "tags": {"team": "a"}, "max_concurrency": 3, "route": "/settings",
    });
    let function = server.deploy("settings", code, settings.clone()).await;
    let mut shown = settings;
    // A value is for the function alone.
    shown["environment"]["GREETING"] = json!("****");
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(&function[key], value, "{key}");
    }
    assert_eq!(function["network"], "none");
    let got = server.call("settings", &json!({})).await.expect(200).json();
    assert_eq!(got["environment"], "grüß dich");
    assert_eq!(got["name"], "settings");
    assert_eq!(got["version"], "$LATEST");
    assert_eq!(
        got["file"], "jobs.py",
        "inline code is written to the file the handler names"
    );
    assert_eq!(got["memory"].to_string().trim_matches('"'), "192");
    let remaining = got["remaining"].as_u64().unwrap();
    assert!((1..=9000).contains(&remaining), "{remaining}");
    assert!(got["log_stream"].as_str().unwrap().contains("[$LATEST]"));
    assert_eq!((&got["tmp"], &got["task"]), (&json!(true), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_by_field_and_nothing_is_changed() {
    let server = Server::shared();
    let code = "def handler(event, context): return 1";
    let function = server.deploy("refused", code, json!({})).await;
    let wrong = json!({
        "name": "refused", "language": "klingon", "code": code, "timeout": 0, "memory": 64, "colour": "red",
        "environment": {"AWS_REGION": "x"}, "network": "all", "route": "/functions/mine",
    });
    let error = server.client.post("/functions/", &wrong).await.error(400);
    let faults = error["faults"].as_array().unwrap();
    let fields: Vec<_> = faults
        .iter()
        .map(|f| f["field"].as_str().unwrap())
        .collect();
    for field in [
        "language",
        "timeout",
        "memory",
        "colour",
        "environment.AWS_REGION",
        "network",
        "route",
    ] {
        assert!(fields.contains(&field), "{field} is not in {fields:?}");
    }
    let taken = json!({"name": "refused", "language": "python", "code": code});
    assert_eq!(
        server.client.post("/functions/", &taken).await.error(409)["code"],
        "name_taken"
    );
    let put = server
        .client
        .put("/functions/refused", &json!({"timeout": 5, "memory": 1}))
        .await;
    assert_eq!(put.error(400)["faults"][0]["field"], "memory");
    assert_eq!(
        server
            .client
            .get("/functions/refused")
            .await
            .expect(200)
            .json(),
        function
    );
    let garbage = server.client.send(Method::POST, "/functions/", "{").await;
    assert_eq!(garbage.error(400)["code"], "malformed_body");
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_every_kind_come_back_as_they_were_sent() {
    let server = Server::shared();
    let sources = [
        ("python", "def handler(event, context):\n    return event"),
        (
            "javascript",
            "export const handler = async (event) => event",
        ),
    ];
    for (language, code) in sources {
        let name = format!("payloads-{language}");
        server
            .deploy(&name, code, json!({"language": language}))
            .await;
        let path = format!("/functions/{name}/execute");
        for event in [
            json!(null),
            json!("🦀 ünï\u{0}\u{7f}"),
            json!({"a": [1.5, -2, true, {}]}),
        ] {
            let answer = server.call(&name, &event).await.expect(200);
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.json(), event, "{language}");
        }
        // Nothing is the event {}.
        let empty = server
            .client
            .send(Method::POST, &path, "")
            .await
            .expect(200);
        assert_eq!(empty.json(), json!({}));
        let bytes: Vec<u8> = (0..=255).collect();
        let octets = [("content-type", "application/octet-stream")];
        let raw = server
            .client
            .send_with(Method::POST, &path, &octets, bytes.clone())
            .await
            .expect(200);
        assert_eq!(raw.header("content-type"), "application/octet-stream");
        assert_eq!(raw.body, bytes);
        for garbage in ["{not json", "nul", "\u{0}", "{\"a\":NaN}"] {
            let refused = server.client.send(Method::POST, &path, garbage).await;
            let error = refused.error(400);
            assert_eq!(
                (&error["code"], &error["blame"]),
                (&json!("payload_not_json"), &json!("client"))
            );
        }
        assert_eq!(
            server.call(&name, &json!(1)).await.expect(200).start(),
            "warm",
            "a bad payload costs no worker"
        );
    }
}

const MAX: usize = 6 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn six_megabytes_go_in_and_out_and_not_a_byte_more() {
    let server = Server::shared();
    let sources = [
        (
            "python",
            "def handler(event, context):\n    return 'y' * event if isinstance(event, int) else len(event)",
        ),
        (
            "javascript",
            "export const handler = async (event) => typeof event === 'number' ? 'y'.repeat(event) : event.length",
        ),
    ];
    for (language, code) in sources {
        let name = format!("large-{language}");
        server
            .deploy(
                &name,
                code,
                json!({"language": language, "timeout": 60, "memory": 512}),
            )
            .await;
        let path = format!("/functions/{name}/execute");
        // With its quotes the text is exactly as long as may be.
        let largest = Value::String("x".repeat(MAX - 2)).to_string();
        let answer = server
            .client
            .send(Method::POST, &path, largest.clone())
            .await
            .expect(200);
        assert_eq!(answer.json(), MAX - 2);
        let error = server
            .client
            .send(Method::POST, &path, format!("{largest} "))
            .await
            .error(413);
        assert_eq!(error["code"], "payload_too_large");

        let answer = server.call(&name, &json!(MAX - 2)).await.expect(200);
        assert_eq!(answer.body.len(), MAX);
        assert!(answer.body[1..MAX - 1].iter().all(|byte| *byte == b'y'));
        // AWS lets an answer be a hundred bytes longer.
        let error = server.call(&name, &json!(MAX + 100 - 1)).await.error(502);
        assert_eq!(error["type"], "Function.ResponseSizeTooLarge");
        assert_eq!(
            server.call(&name, &json!("z")).await.expect(200).start(),
            "warm",
            "{language}"
        );
    }
}
