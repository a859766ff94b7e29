//! Plain HTTP to functions, as everybody's clients speak it: without a key, at paths of the functions' own, in both directions
//! byte for byte.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::server::Server;
use crate::wait::eventually;

const LANGUAGES: [&str; 2] = ["python", "javascript"];

/// Shows what it was sent, and answers as the query says.
const PYTHON: &str = r#"
import base64, json
def handler(event, context):
    asked = event.get("queryStringParameters") or {}
    if asked.get("answer") == "fail":
        raise ValueError("secret")
    if asked.get("answer") == "sleep":
        import time
        time.sleep(60)
    if asked.get("answer") == "bare":
        return {"bare": event["rawPath"]}
    if asked.get("answer") == "text":
        return "just text"
    if asked.get("answer") == "same":
        return {"statusCode": 200, "headers": {"content-type": event["headers"]["content-type"]},
                "body": event["body"], "isBase64Encoded": event["isBase64Encoded"]}
    if asked.get("answer") == "given":
        return json.loads(event["body"])
    return {"statusCode": 201, "headers": {"content-type": "application/json", "X-Made": "here"},
            "cookies": ["a=1; Path=/", "b=2; Path=/; HttpOnly"], "body": json.dumps({"event": event, "id": context.aws_request_id})}
"#;

const JAVASCRIPT: &str = r#"
export const handler = async (event, context) => {
    const asked = event.queryStringParameters ?? {};
    switch (asked.answer) {
        case 'fail': throw new Error('secret');
        case 'sleep': return await new Promise((done) => setTimeout(done, 60000));
        case 'bare': return { bare: event.rawPath };
        case 'text': return 'just text';
        case 'same': return { statusCode: 200, headers: { 'content-type': event.headers['content-type'] },
            body: event.body, isBase64Encoded: event.isBase64Encoded };
        case 'given': return JSON.parse(event.body);
    }
    return { statusCode: 201, headers: { 'content-type': 'application/json', 'X-Made': 'here' },
        cookies: ['a=1; Path=/', 'b=2; Path=/; HttpOnly'], body: JSON.stringify({ event, id: context.awsRequestId }) };
};
"#;

fn code(language: &str) -> &'static str {
    match language {
        "python" => PYTHON,
        _ => JAVASCRIPT,
    }
}

/// One in each language at `/<place>/<language><rest>`, and the place each has.
async fn deploy(server: &Server, place: &str, rest: &str) -> Vec<String> {
    let mut places = Vec::new();
    for language in LANGUAGES {
        let at = format!("/{place}/{language}");
        let settings = json!({"language": language, "route": format!("{at}{rest}"), "timeout": 30});
        let name = format!("{place}-{language}");
        server.deploy(&name, code(language), settings).await;
        places.push(at);
    }
    places
}

/// Somebody without a key.
fn public(server: &Server) -> Client {
    Client {
        address: server.client.address.clone(),
        key: None,
    }
}

async fn given(client: &Client, path: &str, answer: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    let path = format!("{path}?answer=given");
    let answer = answer.to_string();
    client.send_with(Method::POST, &path, &json, answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_its_function_whole() {
    let server = Server::shared();
    let client = public(&server);
    for at in deploy(&server, "whole", "/{item}/{rest+}").await {
        let path = format!("{at}/t%20e%2Fa/x/%C4%8D/?q=1&r=a%20b&q=2&r=c+d&empty");
        let headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("X-Many", "one"),
            ("x-many", "two"),
            ("cookie", "session=s1; theme=dark"),
            ("user-agent", "tests/1"),
        ];
        let answer = client
            .send_with(Method::POST, &path, &headers, "žlutý".as_bytes())
            .await
            .expect(201);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-made"), "here");
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1; Path=/", "b=2; Path=/; HttpOnly"]);
        assert!(answer.header("server-timing").contains("run;dur="));
        let said = answer.json();
        let event = &said["event"];
        assert_eq!(said["id"], answer.request_id());
        assert_eq!(event["requestContext"]["requestId"], answer.request_id());
        assert_eq!(answer.header("x-amzn-requestid"), answer.request_id());
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["rawPath"], path.split('?').next().unwrap());
        assert_eq!(event["rawQueryString"], path.split('?').nth(1).unwrap());
        let query = json!({"q": "1,2", "r": "a b,c d", "empty": ""});
        assert_eq!(event["queryStringParameters"], query);
        let parameters = json!({"item": "t e/a", "rest": "x/č/"});
        assert_eq!(event["pathParameters"], parameters);
        assert_eq!(event["cookies"], json!(["session=s1", "theme=dark"]));
        assert_eq!(event["headers"]["x-many"], "one,two");
        assert_eq!(event["headers"]["host"], client.address);
        let http = &event["requestContext"]["http"];
        assert_eq!(http["sourceIp"], "127.0.0.1");
        assert_eq!(http["userAgent"], "tests/1");
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("žlutý"), &json!(false))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_the_functions_but_two() {
    let server = Server::shared();
    let client = public(&server);
    for at in deploy(&server, "methods", "").await {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = client.send(method.clone(), &at, "").await.expect(201);
            let got = answer.json()["event"]["requestContext"]["http"]["method"].clone();
            assert_eq!(got, method.as_str());
            assert_eq!(answer.json()["event"].get("body"), None);
        }
        let head = client.send(Method::HEAD, &at, "").await.expect(201);
        assert_eq!((head.header("x-made"), head.body.len()), ("here", 0));
        let length: usize = head.header("content-length").parse().unwrap();
        assert!(length > 100, "that of the body GET would have");
        let refused = client.send(Method::TRACE, &at, "").await;
        assert_eq!(refused.error(405)["code"], "method_not_allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_unchanged() {
    let server = Server::shared();
    let client = public(&server);
    // The head of a PNG and every byte there is, a few hundred kilobytes of them.
    let picture: Vec<u8> = b"\x89PNG\r\n\x1a\n"
        .iter()
        .copied()
        .chain((0..300_000).map(|n: u32| (n.wrapping_mul(n) / 7) as u8))
        .collect();
    for at in deploy(&server, "bytes", "").await {
        let path = format!("{at}?answer=same");
        for kind in [
            "image/png",
            "application/x-www-form-urlencoded",
            "text/plain",
        ] {
            let answer = client
                .send_with(
                    Method::PUT,
                    &path,
                    &[("content-type", kind)],
                    picture.clone(),
                )
                .await
                .expect(200);
            assert_eq!(answer.header("content-type"), kind);
            assert!(
                answer.body == picture,
                "{kind}: {} bytes",
                answer.body.len()
            );
        }
        let seen = client
            .send(Method::POST, &at, picture.clone())
            .await
            .expect(201)
            .json();
        assert_eq!(seen["event"]["isBase64Encoded"], true);
        assert_eq!(seen["event"]["body"], STANDARD.encode(&picture));
        // Six mebibytes of event, of which bytes take four thirds.
        let large = vec![0; 6 * 1024 * 1024 / 4 * 3 + 1];
        let refused = client.send(Method::POST, &at, large).await.expect(413);
        assert_eq!(refused.json(), json!({"message": "Payload Too Large"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_taken_as_function_urls_take_them() {
    let server = Server::shared();
    let client = public(&server);
    for at in deploy(&server, "answers", "").await {
        let bare = client.get(&format!("{at}?answer=bare")).await.expect(200);
        assert_eq!(bare.header("content-type"), "application/json");
        assert_eq!(bare.json(), json!({"bare": at}));
        let text = client.get(&format!("{at}/?answer=text")).await.expect(200);
        assert_eq!(text.text(), "just text");
        let page = json!({"statusCode": 404, "headers": {"content-type": "text/html"}, "body": "<p>no</p>"});
        let page = given(&client, &at, &page).await.expect(404);
        assert_eq!(
            (page.header("content-type"), page.text().as_str()),
            ("text/html", "<p>no</p>")
        );
        for status in [204, 304] {
            let none = given(&client, &at, &json!({"statusCode": status, "body": "x"})).await;
            assert_eq!(none.expect(status).body.len(), 0);
        }
        // A worker that answered is a worker that goes on, whatever it said.
        for bad in [
            json!({"statusCode": 700}),
            json!({"statusCode": 101}),
            json!({"statusCode": 200, "headers": {"x": "y\r\nset-cookie: stolen=1"}}),
            json!({"statusCode": 200, "headers": {"x\r\nset-cookie": "stolen=1"}}),
            json!({"statusCode": 200, "cookies": ["a=1\r\n\r\n<script>"]}),
            json!({"statusCode": 200, "body": "no base64!", "isBase64Encoded": true}),
        ] {
            let refused = given(&client, &at, &bad).await.expect(502);
            assert_eq!(
                refused.json(),
                json!({"message": "Internal Server Error"}),
                "{bad}"
            );
            assert!(refused.headers.get("set-cookie").is_none());
            assert_eq!(refused.start(), "warm", "{bad}");
        }
        let framed = json!({"statusCode": 200, "body": "whole", "headers": {
            "content-length": "1", "transfer-encoding": "chunked", "connection": "close", "x-kept": "yes"}});
        let framed = given(&client, &at, &framed).await.expect(200);
        assert_eq!(
            (framed.header("x-kept"), framed.text().as_str()),
            ("yes", "whole")
        );
        assert_eq!(framed.header("content-length"), "5");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_learns_nothing_of_a_failure_and_its_owner_all() {
    let server = Server::shared();
    let client = public(&server);
    for (at, language) in deploy(&server, "failing-route", "")
        .await
        .iter()
        .zip(LANGUAGES)
    {
        let failed = client.get(&format!("{at}?answer=fail")).await.expect(502);
        assert_eq!(failed.json(), json!({"message": "Internal Server Error"}));
        let name = format!("failing-route-{language}");
        let lines = server.lines(&name, Some(&failed.request_id())).await;
        assert!(
            lines.iter().any(|line| line.contains("secret")),
            "{lines:?}"
        );
        let change = json!({"timeout": 1});
        server
            .client
            .put(&format!("/functions/{name}"), &change)
            .await
            .expect(200);
        let late = client.get(&format!("{at}?answer=sleep")).await.expect(504);
        assert_eq!(late.json(), json!({"message": "Gateway Timeout"}));
        let change = json!({"max_concurrency": 0});
        server
            .client
            .put(&format!("/functions/{name}"), &change)
            .await
            .expect(200);
        let throttled = client.get(at).await.expect(429);
        assert_eq!(throttled.header("retry-after"), "1");
    }
    server
        .measured(
            "hearth_http_requests_total",
            &[("face", "route"), ("status", "5xx")],
            |n| n >= 4.0,
        )
        .await;
    let nobody = client.get("/failing-route/nobody").await;
    assert_eq!(nobody.error(404)["code"], "not_found");
}

const PYTHON_STREAM: &str = r#"
import json, time
def handler(event, context):
    context.set_content_type("application/vnd.awslambda.http-integration-response")
    def pieces():
        yield json.dumps({"statusCode": 203, "headers": {"content-type": "text/event-stream", "x-made": "here"}, "cookies": ["s=1"]})
        yield b"\0" * 8 + b"data: 1\n\n"
        try:
            if event["rawQueryString"] == "wait":
                time.sleep(60)
        finally:
            print("left", flush=True)
        for n in range(200):
            yield b"\xff" * 10000
    return pieces()
"#;

const JAVASCRIPT_STREAM: &str = r#"
export const handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
    const head = { statusCode: 203, headers: { 'content-type': 'text/event-stream', 'x-made': 'here' }, cookies: ['s=1'] };
    const stream = awslambda.HttpResponseStream.from(responseStream, head);
    context.signal.addEventListener('abort', () => process.stdout.write('left\n'));
    stream.write('data: 1\n\n');
    if (event.rawQueryString === 'wait') await new Promise((done) => setTimeout(done, 60000));
    for (let n = 0; n < 200; n++) {
        if (!stream.write(Buffer.alloc(10000, 0xff))) await new Promise((done) => stream.once('drain', done));
    }
    stream.end();
});
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_its_head_first_and_its_pieces_as_they_come() {
    let server = Server::shared();
    let client = public(&server);
    for (language, code) in [("python", PYTHON_STREAM), ("javascript", JAVASCRIPT_STREAM)] {
        let (name, at) = (format!("pieces-{language}"), format!("/pieces/{language}"));
        let settings = json!({"language": language, "route": at, "timeout": 100});
        server.deploy(&name, code, settings).await;
        let whole = client.get(&at).await.expect(203);
        assert_eq!(whole.header("content-type"), "text/event-stream");
        assert_eq!(
            (whole.header("x-made"), whole.header("set-cookie")),
            ("here", "s=1")
        );
        let begin = b"data: 1\n\n";
        assert_eq!(whole.body.len(), begin.len() + 2_000_000, "{language}");
        assert_eq!(&whole.body[..begin.len()], begin);
        assert!(whole.body[begin.len()..].iter().all(|byte| *byte == 0xff));
        let head = client.send(Method::HEAD, &at, "").await.expect(203);
        assert_eq!((head.header("x-made"), head.body.len()), ("here", 0));
        // It would not go on for a minute: what comes has not waited for an end. And whoever leaves is noticed.
        let mut opened = client.open(Method::GET, &format!("{at}?wait"), "").await;
        assert_eq!(opened.status, 203);
        assert_eq!(&opened.piece().await.unwrap().expect("a piece")[..], begin);
        drop(opened);
        server.printed(&name, "left").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_one_functions_and_never_hearths_own() {
    let server = Server::shared();
    let client = public(&server);
    let new = |name: &str, route: &str| json!({"name": name, "language": "python", "route": route, "code": format!("def handler(event, context): return '{name}'")});
    let at = async |path: &str| client.get(path).await.text();
    let create =
        async |name: &str, route: &str| server.client.post("/functions/", &new(name, route)).await;
    for reserved in [
        "/functions/x",
        "/metrics",
        "/healthz",
        "/docs/x",
        "/dashboard",
        "/2015-03-31/functions",
        "/keys",
    ] {
        let refused = create("mine", reserved).await.error(400);
        assert_eq!(refused["faults"][0]["field"], "route", "{reserved}");
    }
    create("first", "/claimed/{id}").await.expect(201);
    create("exact", "/claimed/7").await.expect(201);
    create("deep", "/claimed/{rest+}").await.expect(201);
    let taken = create("second", "/claimed/{other}").await.error(409);
    assert_eq!(taken["code"], "route_taken");
    assert!(
        taken["message"].as_str().unwrap().contains("first"),
        "{taken}"
    );
    for (path, name) in [
        ("/claimed/1", "first"),
        ("/claimed/7/", "exact"),
        ("/claimed/1/2", "deep"),
    ] {
        assert_eq!(at(path).await, name, "{path}");
    }
    for nothing in ["/claimed", "/claimed/../claimed/1", "/claimed/%2e%2e/x"] {
        client.get(nothing).await.expect(404);
    }
    // Moved in one step: what was at the old path is now at the new one.
    let moved = json!({"route": "/moved/{id}"});
    server
        .client
        .put("/functions/first", &moved)
        .await
        .expect(200);
    assert_eq!(at("/moved/1").await, "first");
    assert_eq!(at("/claimed/1").await, "deep");
    create("second", "/claimed/{other}").await.expect(201);
    assert_eq!(at("/claimed/1").await, "second");
    server.client.delete("/functions/second").await.expect(204);
    server.client.delete("/functions/deep").await.expect(204);
    client.get("/claimed/1").await.expect(404);
    let none = json!({"route": null});
    server
        .client
        .put("/functions/first", &none)
        .await
        .expect(200);
    client.get("/moved/1").await.expect(404);
}

/// Clients ask at both paths without a pause while the route moves to and fro: at every moment it is at exactly one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_moves_is_never_gone() {
    let server = Server::shared();
    let client = public(&server);
    let settings = json!({"route": "/nomad/0"});
    let code = "def handler(event, context): return event['rawPath']";
    server.deploy("nomad", code, settings).await;
    for round in 1..=5 {
        let next = json!({"route": format!("/nomad/{round}")});
        let (old, new) = (format!("/nomad/{}", round - 1), format!("/nomad/{round}"));
        client.get(&old).await.expect(200);
        let moving = {
            let client = server.client.clone();
            tokio::spawn(async move { client.put("/functions/nomad", &next).await.expect(200) })
        };
        eventually("the route to be at its new path", || async {
            // Asked in this order: one that is not at the old path any more has to be at the new one.
            if client.get(&old).await.status == 200 {
                return None;
            }
            assert_eq!(client.get(&new).await.expect(200).text(), new);
            Some(())
        })
        .await;
        moving.await.unwrap();
    }
}

/// The clients that most people have.
#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_along_with_it() {
    let server = Server::shared();
    let places = deploy(&server, "curl", "/{item}").await;
    let url = format!("http://{}{}", server.client.address, places[0]);
    let directory = tempfile::tempdir().unwrap();
    let jar = directory.path().join("jar");
    let jar = jar.to_str().unwrap();
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "60"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let event = |arguments: &[&str]| -> Value {
        let said: Value = serde_json::from_str(&curl(arguments)).unwrap();
        said["event"].clone()
    };
    event(&["-c", jar, &format!("{url}/first")]);
    let again = event(&[
        "-b",
        jar,
        &format!("{url}/second"),
        "-G",
        "--data-urlencode",
        "q=a&b č",
    ]);
    assert_eq!(again["queryStringParameters"]["q"], "a&b č");
    let mut cookies: Vec<_> = again["cookies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_str().unwrap())
        .collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["a=1", "b=2"]);
    let form = event(&["-d", "x=1&y=2", &format!("{url}/form")]);
    assert_eq!(
        STANDARD.decode(form["body"].as_str().unwrap()).unwrap(),
        b"x=1&y=2"
    );
    let both = event(&[
        "--http2-prior-knowledge",
        "-H",
        "cookie: c=1",
        &format!("{url}/two"),
    ]);
    assert_eq!(both["requestContext"]["http"]["protocol"], "HTTP/2.0");
    assert_eq!(both["headers"]["host"], server.client.address);
    assert_eq!(both["cookies"], json!(["c=1"]));
    let head = curl(&["--http2-prior-knowledge", "-I", &format!("{url}/head")]);
    assert!(
        head.starts_with("HTTP/2 201") && head.contains("x-made: here"),
        "{head}"
    );
    // It climbs only as it is told to.
    let climbs = curl(&[
        "--path-as-is",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("{url}/../.."),
    ]);
    assert_eq!(climbs, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_url_is_the_same_after_a_crash() {
    let server = Server::start(&[]);
    server.deploy("kept", PYTHON, json!({})).await;
    let config = "/2021-10-31/functions/kept/url";
    let wish = json!({"AuthType": "NONE", "Cors": {"MaxAge": 7}});
    let made = server.client.post(config, &wish).await.expect(201).json();
    let shown = server.client.get(config).await.expect(200).json();
    let kept = server.client.get("/functions/kept").await.json();
    let path = kept["function_urls"][0]["url"].as_str().unwrap().to_owned();
    let state = server.crash();

    let server = Server::start_on(state, &[]);
    let again = server.client.get(config).await.expect(200).json();
    for field in ["FunctionArn", "AuthType", "Cors", "CreationTime"] {
        assert_eq!(
            (&again[field], &made[field]),
            (&shown[field], &shown[field]),
            "{field}"
        );
    }
    // A client without a key, of no AWS.
    let mut public = server.client.clone();
    public.key = None;
    let answer = public
        .get(&format!("{path}a?answer=bare"))
        .await
        .expect(200);
    assert_eq!(answer.json(), json!({"bare": "/a"}));
    server.client.delete(config).await.expect(204);
    let state = server.crash();
    let server = Server::start_on(state, &[]);
    server.client.get(&path).await.expect(403);
}
