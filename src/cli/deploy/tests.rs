//! A deploy against a scripted server: what is asked, what is sent, what is said.

use clap::Parser;

use super::*;
use crate::cli::output::captured;
use crate::cli::scripted::{self, Reply, Server};

/// Parses flags as the command line does.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    let line = ["deploy"].iter().chain(line);
    Line::try_parse_from(line).expect("good flags").args
}

fn function(revision: u64, memory: u64) -> Value {
    json!({
        "id": "id-1", "name": "hello", "revision": revision, "language": "abc3", "handler": "app.handler",
        "memory": memory, "timeout": 3, "environment": {}, "tags": {}, "route": null,
        "code": {"sha256": format!("{revision:064}"), "size": 100},
    })
}

fn runtimes() -> Value {
    json!({"items": [{
        "id": "abc3", "names": ["abc"], "default_handler": "app.handler", "source_extension": "abc",
        "description": "The alphabet",
    }]})
}

fn absent() -> Reply {
    let error = json!({"code": "not_found", "message": "there is no function \"hello\""});
    scripted::json(404, &json!({ "error": error }))
}

/// Answers like a server that has the function, or has not.
async fn server(there: bool) -> Server {
    Server::start(
        move |request, _| match (request.method().as_str(), request.uri().path()) {
            ("GET", "/runtimes/") => scripted::json(200, &runtimes()),
            ("GET", _) if there => scripted::json(200, &function(1, 128)),
            ("GET", _) => absent(),
            ("PUT", _) => scripted::json(200, &function(2, 256)),
            _ => scripted::json(201, &function(1, 128)),
        },
    )
    .await
}

fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("app.abc"), "code").expect("written");
    dir
}

async fn deploy(server: &Server, line: &[&str], json: bool) -> (String, String) {
    let client = Client::new(&server.url, None).expect("a client");
    let (mut output, out, err) = captured::output(json);
    let done = run(args(line), &client, &mut output).await;
    done.expect("deployed");
    (out.text(), err.text())
}

#[tokio::test]
async fn a_new_function_is_created_and_the_call_is_shown() {
    let (server, dir) = (server(false).await, source());
    let path = dir.path().to_str().expect("UTF-8");
    let (out, err) = deploy(
        &server,
        &[path, "--name", "hello", "--memory", "128"],
        false,
    )
    .await;
    assert_eq!(out, "created hello: abc3, app.handler, 128 MiB, 3 s\n");
    assert!(
        err.contains("call it: hearth invoke hello --data '{}'"),
        "{err}"
    );
    assert_eq!(
        server.lines(),
        ["GET /runtimes/", "GET /functions/hello", "POST /functions/"]
    );
    let body = server.body(2);
    assert_eq!(body["name"], "hello");
    assert_eq!(body["memory"], 128);
    let zip = body["code"]["zip"].as_str().expect("base64");
    assert!(zip.starts_with("UEsDB"), "{zip}");
}

#[tokio::test]
async fn one_that_is_there_is_updated_and_the_difference_is_shown() {
    let (server, dir) = (server(true).await, source());
    let path = dir.path().to_str().expect("UTF-8");
    let line = [path, "-n", "hello", "--memory", "256", "--env", "A=b=c"];
    let (out, _) = deploy(&server, &line, false).await;
    let want = "updated hello: abc3, app.handler, 256 MiB, 3 s
  code: 100 B (000000000000) → 100 B (000000000000)
  memory: 128 → 256
";
    assert_eq!(out, want);
    assert_eq!(server.lines()[2], "PUT /functions/id-1");
    assert_eq!(server.body(2)["revision"], 1);
    assert_eq!(server.body(2)["environment"], json!({"A": "b=c"}));
}

#[tokio::test]
async fn a_program_gets_the_function_and_the_changes() {
    let (server, dir) = (server(true).await, source());
    let path = dir.path().to_str().expect("UTF-8");
    let (out, err) = deploy(&server, &[path, "-n", "hello"], true).await;
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["action"], "updated");
    assert_eq!(document["function"]["memory"], 256);
    assert_eq!(document["changes"][1], "memory: 128 → 256");
    assert_eq!(err, "");
}

#[test]
fn the_name_is_that_of_the_files_unless_it_is_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let inside = dir.path().join("my-function");
    std::fs::create_dir(&inside).expect("made");
    let named = |path: &Path, more: &[&str]| {
        let path = path.to_str().expect("UTF-8");
        name(&args(&[&[path], more].concat()))
    };
    assert_eq!(named(&inside.join("."), &[]).expect("good"), "my-function");
    assert_eq!(named(&inside, &["-n", "other"]).expect("good"), "other");
    let file = inside.join("hello.abc");
    std::fs::write(&file, "").expect("written");
    assert_eq!(named(&file, &[]).expect("good"), "hello");
    let odd = inside.join("odd name");
    std::fs::create_dir(&odd).expect("made");
    let error = named(&odd, &[]).expect_err("a space").to_string();
    assert!(error.contains("--name"), "{error}");
}

#[test]
fn flags_are_checked_where_they_are_typed() {
    let refused = |line: &[&str]| Line::try_parse_from([&["deploy", "."], line].concat()).is_err();
    assert!(refused(&["--env", "NOVALUE"]));
    assert!(refused(&["--env", "=x"]));
    assert!(refused(&["--network", "all"]));
    assert!(refused(&["--max-concurrency", "many"]));
    let args = args(&[".", "--max-concurrency", "none", "--route", "none"]);
    assert_eq!(args.max_concurrency, Some(Optional(None)));
    assert_eq!(args.route, Some(Optional(None)));
}
