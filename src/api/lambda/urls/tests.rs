//! Function URLs over a whole instance without containers, whose function answers with its event. What AWS's own clients make of them,
//! `tests/aws` tries.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::api::lambda::sigv4::presign::{self, Signer};
use crate::api::lambda::tests::{Answer, Face, signer};
use crate::api::lambda::{Doubt, SERVICE};
use crate::config;
use crate::domain::fault::{Fault, Report, Throttle};
use crate::domain::key::{Scope, Wish};
use crate::secrets::key_place;

const URL: &str = "/2021-10-31/functions/f/url";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

fn face(by_host: Option<bool>) -> Face {
    Face::with(config::Aws {
        urls: config::Urls {
            by_host,
            ..config::Urls::default()
        },
        ..config::Aws::default()
    })
}

/// A face with a function that has a URL, and the URL's id.
async fn with_url(more: Value) -> (Face, String) {
    let face = face(Some(true));
    face.create("f", json!({})).await;
    let id = add_url(&face, URL, more).await;
    (face, id)
}

async fn add_url(face: &Face, target: &str, more: Value) -> String {
    let mut wish = json!({"AuthType": "NONE"});
    let more = more.as_object().expect("an object").clone();
    wish.as_object_mut().expect("an object").extend(more);
    let made = face.ask("POST", target, wish).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let url = made.json()["FunctionUrl"]
        .as_str()
        .expect("a URL")
        .to_owned();
    let host = url.strip_prefix("http://").expect("plain HTTP");
    let (id, rest) = host.split_once('.').expect("labels");
    assert_eq!(rest, "lambda-url.us-east-1.localhost:1/");
    id.to_owned()
}

async fn alias(face: &Face) {
    let versions = "/2015-03-31/functions/f/versions";
    assert_eq!(face.ask("POST", versions, json!({})).await.status, 201);
    let wish = json!({"Name": "live", "FunctionVersion": "1"});
    let made = face
        .ask("POST", "/2015-03-31/functions/f/aliases", wish)
        .await;
    assert_eq!(made.status, 201);
}

fn host(id: &str) -> String {
    format!("{id}.lambda-url.us-east-1.localhost:1")
}

async fn tried(
    face: &Face,
    request: http::request::Builder,
    body: &str,
) -> Result<Answer, Unproven> {
    let from = Sender {
        address: IpAddr::from([192, 0, 2, 7]),
        tls: false,
    };
    let request = request.body(body.to_owned().into()).expect("a request");
    let response = face.lambda.serve_url(request, from).await?;
    let (head, body) = response.into_parts();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.expect("whole").to_bytes(),
    })
}

async fn send(face: &Face, request: http::request::Builder, body: &str) -> Answer {
    tried(face, request, body).await.expect("is believed")
}

#[tokio::test]
async fn a_url_is_made_shown_changed_and_taken_away() {
    let face = face(Some(true));
    face.create("f", json!({})).await;
    let made = face.ask("POST", URL, json!({"AuthType": "NONE"})).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(
        (&made["AuthType"], &made["FunctionArn"]),
        (&json!("NONE"), &json!(ARN))
    );
    for absent in ["InvokeMode", "LastModifiedTime", "Cors"] {
        assert!(made.get(absent).is_none(), "{absent}");
    }
    let got = face.ask("GET", URL, Value::Null).await.json();
    assert_eq!(got["InvokeMode"], "BUFFERED");
    assert_eq!(got["LastModifiedTime"], got["CreationTime"]);
    assert_eq!(got["FunctionUrl"], made["FunctionUrl"]);
    let again = face
        .ask("POST", URL, json!({"AuthType": "NONE"}))
        .await
        .error();
    let text = format!(
        "Failed to create function url config for [functionArn = {ARN}]. Error message:  FunctionUrlConfig exists for this Lambda function"
    );
    assert_eq!(again, (409, "ResourceConflictException".into(), text));

    let cors =
        json!({"AllowOrigins": ["*"], "AllowCredentials": false, "MaxAge": 0, "AllowMethods": []});
    let wish = json!({"AuthType": "AWS_IAM", "Cors": cors});
    let changed = face.ask("PUT", URL, wish).await.json();
    assert_eq!(
        (&changed["AuthType"], &changed["Cors"]),
        (&json!("AWS_IAM"), &cors)
    );
    assert!(changed.get("InvokeMode").is_none(), "nobody ever said");
    assert_eq!(changed["FunctionUrl"], made["FunctionUrl"]);
    let changed = face
        .ask(
            "PUT",
            URL,
            json!({"InvokeMode": "RESPONSE_STREAM", "Cors": {}}),
        )
        .await
        .json();
    assert_eq!(changed["InvokeMode"], "RESPONSE_STREAM");
    assert!(changed.get("Cors").is_none(), "an empty one takes it away");

    // The other face shows it, too.
    let native = face.world.get("/functions/f").await.json();
    let id = made["FunctionUrl"].as_str().expect("a text")[7..39].to_owned();
    let [shown] = native["function_urls"]
        .as_array()
        .expect("a list")
        .as_slice()
    else {
        panic!("{native}");
    };
    let wanted = json!({"qualifier": "$LATEST", "auth_type": "AWS_IAM", "invoke_mode": "RESPONSE_STREAM", "cors": null,
        "url": format!("/lambda-url/{id}/"), "created_at": shown["created_at"], "updated_at": shown["updated_at"]});
    assert_eq!(*shown, wanted);

    assert_eq!(face.ask("DELETE", URL, Value::Null).await.status, 204);
    let gone = (
        404,
        "ResourceNotFoundException".to_owned(),
        "The resource you requested does not exist.".to_owned(),
    );
    for method in ["GET", "PUT", "DELETE"] {
        let body = if method == "PUT" {
            json!({})
        } else {
            Value::Null
        };
        assert_eq!(face.ask(method, URL, body).await.error(), gone, "{method}");
    }
    assert!(
        face.world
            .get("/functions/f")
            .await
            .json()
            .get("function_urls")
            .is_none()
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_in_awss_words() {
    let face = face(Some(true));
    face.create("f", json!({})).await;
    alias(&face).await;
    let open = json!({"AuthType": "NONE"});
    for method in ["POST", "GET", "PUT", "DELETE"] {
        let body = if matches!(method, "POST" | "PUT") {
            open.clone()
        } else {
            Value::Null
        };
        for number in ["1", "2", "%24LATEST"] {
            let target = format!("/2021-10-31/functions/f/url?Qualifier={number}");
            let (status, kind, message) = face.ask(method, &target, body.clone()).await.error();
            assert_eq!((status, kind.as_str()), (400, "ValidationException"));
            let shown = number.replace("%24", "$");
            let wanted = format!(
                r"1 validation error detected: Value '{shown}' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)"
            );
            assert_eq!(message, wanted);
        }
        let text = match method {
            "POST" | "PUT" => "Function does not exist",
            _ => "The resource you requested does not exist.",
        };
        for target in [
            "/2021-10-31/functions/nobody/url",
            "/2021-10-31/functions/f/url?Qualifier=nobody",
        ] {
            let found = face.ask(method, target, body.clone()).await.error();
            assert_eq!(
                found,
                (404, "ResourceNotFoundException".into(), text.into()),
                "{method} {target}"
            );
        }
    }
    let listed = face
        .ask("GET", "/2021-10-31/functions/nobody/urls", Value::Null)
        .await
        .error();
    assert_eq!(listed.2, "Function does not exist");
    for (body, wanted) in [
        (
            json!({}),
            "Value null at 'authType' failed to satisfy constraint: Member must not be null",
        ),
        (
            json!({"AuthType": "ALL"}),
            "Value 'ALL' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: [NONE, AWS_IAM]",
        ),
        (
            json!({"AuthType": "NONE", "InvokeMode": "UNKNOWN"}),
            "Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]",
        ),
        (
            json!({"AuthType": "NONE", "Cors": {"AllowMethods": ["GET", "OPTIONS"]}}),
            "Value '[GET, OPTIONS]' at 'cors.allowMethods' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 6, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: .*]",
        ),
        (
            json!({"AuthType": "NONE", "Cors": {"MaxAge": 86_401}}),
            "Value '86401' at 'cors.maxAge' failed to satisfy constraint: Member must have value less than or equal to 86400",
        ),
        (
            json!({"AuthType": "NONE", "Cors": {"AllowMethods": ["A", "B", "C", "D", "E", "F", "G"]}}),
            "Value '[A, B, C, D, E, F, G]' at 'cors.allowMethods' failed to satisfy constraint: Member must have length less than or equal to 6",
        ),
    ] {
        let found = face.ask("POST", URL, body).await.error();
        let wanted = format!("1 validation error detected: {wanted}");
        assert_eq!(found, (400, "ValidationException".into(), wanted));
    }
    let origins = json!({"AuthType": "NONE", "Cors": {"AllowOrigins": ["", "a".repeat(254)]}});
    assert!(
        face.ask("POST", URL, origins)
            .await
            .error()
            .2
            .contains("'cors.allowOrigins'")
    );
    let mistyped = json!({"AuthType": "NONE", "Cors": []});
    assert_eq!(
        face.ask("POST", URL, mistyped).await.error().1,
        "SerializationException"
    );
    let none = face
        .ask("GET", "/2021-10-31/functions/f/urls", Value::Null)
        .await
        .json();
    assert_eq!(none, json!({"FunctionUrlConfigs": []}), "nothing was made");
}

#[tokio::test]
async fn each_alias_has_its_own_and_they_are_listed_in_pages() {
    let (face, latest) = with_url(json!({})).await;
    alias(&face).await;
    let aliased = add_url(
        &face,
        "/2021-10-31/functions/f/url?Qualifier=live",
        json!({}),
    )
    .await;
    assert_ne!(latest, aliased);
    let list = "/2021-10-31/functions/f/urls";
    let page = face
        .ask("GET", &format!("{list}?MaxItems=1"), Value::Null)
        .await
        .json();
    assert_eq!(page["FunctionUrlConfigs"][0]["FunctionArn"], ARN);
    let marker = page["NextMarker"].as_str().expect("there is more");
    let next = format!("{list}?MaxItems=1&Marker={marker}");
    let page = face.ask("GET", &next, Value::Null).await.json();
    assert_eq!(
        page["FunctionUrlConfigs"][0]["FunctionArn"],
        format!("{ARN}:live")
    );
    assert!(page.get("NextMarker").is_none());

    let who = async |id: &str| {
        let request = Request::builder().uri("/").header("host", host(id));
        let answer = send(&face, request, "").await;
        let version = answer.headers["x-hearth-version"]
            .to_str()
            .map(str::to_owned);
        (answer.status, version.expect("ASCII"))
    };
    let (first, second) = (who(&latest).await, who(&aliased).await);
    assert_eq!((first.0, second.0), (200, 200));
    assert_ne!(first.1, second.1, "other versions");
    // It goes with its alias, and another of the name begins anew.
    let target = "/2015-03-31/functions/f/aliases/live";
    assert_eq!(face.ask("DELETE", target, Value::Null).await.status, 204);
    let request = Request::builder().uri("/").header("host", host(&aliased));
    assert_eq!(send(&face, request, "").await.status, 403);
    assert_eq!(who(&latest).await.0, 200);
    assert_eq!(
        face.ask("DELETE", "/2015-03-31/functions/f", Value::Null)
            .await
            .status,
        204
    );
    let request = Request::builder().uri("/").header("host", host(&latest));
    assert_eq!(send(&face, request, "").await.status, 403);
}

#[tokio::test]
async fn a_function_sees_the_event_of_a_function_url() {
    let (face, id) = with_url(json!({})).await;
    let paths = [
        (host(&id), "/a%2Fb/1?q=x&many=a&many=%2Fb".to_owned()),
        (
            "127.0.0.1:1".to_owned(),
            format!("/lambda-url/{id}/a%2Fb/1?q=x&many=a&many=%2Fb"),
        ),
        (
            host(&id).to_uppercase(),
            "/a%2Fb/1?q=x&many=a&many=%2Fb".to_owned(),
        ),
    ];
    for (host, target) in paths {
        let request = Request::builder()
            .method("POST")
            .uri(&target)
            .header("host", &host);
        let request = request
            .header("cookie", "a=1; b=2")
            .header("authorization", "Bearer of-the-function")
            .header("content-type", "application/json");
        let answer = send(&face, request, "{\"x\": 1}").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(
            answer.headers["x-amzn-requestid"],
            answer.headers["x-request-id"]
        );
        let event = answer.json();
        for (field, wanted) in [
            ("version", json!("2.0")),
            ("routeKey", json!("$default")),
            ("rawPath", json!("/a%2Fb/1")),
            ("rawQueryString", json!("q=x&many=a&many=%2Fb")),
            ("queryStringParameters", json!({"q": "x", "many": "a,/b"})),
            ("cookies", json!(["a=1", "b=2"])),
            ("body", json!("{\"x\": 1}")),
            ("isBase64Encoded", json!(false)),
        ] {
            assert_eq!(event[field], wanted, "{field} at {target}");
        }
        assert!(event.get("pathParameters").is_none());
        assert_eq!(event["headers"]["host"], host);
        assert_eq!(event["headers"]["authorization"], "Bearer of-the-function");
        let context = &event["requestContext"];
        for (field, wanted) in [
            ("accountId", json!("anonymous")),
            ("apiId", json!(id)),
            (
                "domainName",
                json!(format!("{id}.lambda-url.us-east-1.localhost")),
            ),
            ("domainPrefix", json!(id)),
            ("routeKey", json!("$default")),
            ("stage", json!("$default")),
        ] {
            assert_eq!(context[field], wanted, "{field}");
        }
        assert!(context.get("authorizer").is_none());
        assert_eq!(context["http"]["path"], "/a/b/1");
        assert_eq!(context["http"]["method"], "POST");
        assert_eq!(context["http"]["sourceIp"], "192.0.2.7");
    }
    let bare = Request::builder()
        .uri(format!("/lambda-url/{id}"))
        .header("host", "h");
    assert_eq!(send(&face, bare, "").await.json()["rawPath"], "/");
    let large = Request::builder()
        .method("POST")
        .uri("/")
        .header("host", host(&id));
    let large = send(&face, large, &"x".repeat(PAYLOAD_MAX)).await.error();
    assert_eq!(
        (large.0, large.1.as_str()),
        (413, "RequestEntityTooLargeException")
    );
}

#[tokio::test]
async fn who_names_no_url_learns_nothing() {
    let (face, id) = with_url(json!({})).await;
    let mut wrong = id.clone();
    wrong.replace_range(..1, if id.starts_with('a') { "b" } else { "a" });
    for (host, path) in [
        (host(&wrong), "/".to_owned()),
        ("h".into(), format!("/lambda-url/{wrong}/")),
        ("h".into(), "/lambda-url/".into()),
        ("h".into(), "/lambda-url".into()),
        ("h".into(), "/lambda-url/f/".into()),
    ] {
        let request = Request::builder().uri(&path).header("host", &host);
        let answer = send(&face, request, "").await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (403, &b"{\"Message\":null}"[..]),
            "{host}{path}"
        );
        assert_eq!(answer.headers["x-amzn-errortype"], "AccessDeniedException");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    for method in ["TRACE", "CONNECT"] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", host(&id));
        assert_eq!(send(&face, request, "").await.status, 405, "{method}");
    }
}

/// A query that signs a GET of a path for a caller.
fn signed(face: &Face, caller: &Grant, host: &str, path: &str) -> String {
    let holder = face.world.keys.holder(&caller.id).expect("is known");
    let sealed = holder.sealed.expect("has a copy");
    let secrets = face.world.scheduler.secrets();
    let secret = secrets
        .unseal(&key_place(&caller.id), &sealed)
        .expect("opens");
    let signer = Signer {
        access_key: &caller.id,
        secret: &secret,
        region: "us-east-1",
        service: SERVICE,
    };
    presign::query(signer, host, path, clock::wall(), 60)
}

#[tokio::test]
async fn a_url_may_be_for_those_who_sign() {
    let (face, id) = with_url(json!({"AuthType": "AWS_IAM"})).await;
    let ask = async |host: &str, target: &str| {
        tried(
            &face,
            Request::builder().uri(target).header("host", host),
            "",
        )
        .await
    };
    let query = signed(&face, &face.caller, &host(&id), "/x");
    let event = ask(&host(&id), &format!("/x?{query}"))
        .await
        .expect("is believed")
        .json();
    let iam = &event["requestContext"]["authorizer"]["iam"];
    assert_eq!(iam["accessKey"], face.caller.id);
    assert_eq!(
        iam["userArn"],
        format!("arn:aws:iam::000000000000:user/{}", face.caller.name)
    );
    assert_eq!(event["requestContext"]["accountId"], "000000000000");
    let below = format!("/lambda-url/{id}/x");
    let query = signed(&face, &face.caller, "127.0.0.1:1", &below);
    let answer = ask("127.0.0.1:1", &format!("{below}?{query}")).await;
    assert_eq!(answer.expect("is believed").json()["rawPath"], "/x");

    let forged = format!("/other?{query}");
    for (target, doubt) in [("/x", Doubt::Missing), (forged.as_str(), Doubt::Signature)] {
        let unproven = ask(&host(&id), target)
            .await
            .map(drop)
            .expect_err("a stranger");
        assert_eq!(unproven.doubt, doubt);
        let refusal = unproven.refusal.response();
        assert_eq!(
            (refusal.status(), &refusal.headers()["x-amzn-errortype"]),
            (
                StatusCode::FORBIDDEN,
                &HeaderValue::from_static("AccessDeniedException")
            )
        );
        let body = refusal
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let message = body["Message"].as_str().expect("a text");
        assert!(message.starts_with("Forbidden."), "{body}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1));
    }
    // A key like those of the native face is none here, and a good one may be for other things.
    let request = Request::builder()
        .uri("/x")
        .header("host", host(&id))
        .extension(face.caller.clone());
    assert!(tried(&face, request, "").await.is_err());
    for wish in [
        Wish {
            scopes: vec![Scope::Deploy],
            ..Wish::admin()
        },
        Wish {
            scopes: vec![Scope::Invoke],
            functions: vec![crate::domain::pattern::Pattern::parse("g*").expect("a pattern")],
            ..Wish::admin()
        },
    ] {
        let other = signer(&face.world, &face.world.keys, wish);
        let query = signed(&face, &other, &host(&id), "/x");
        let answer = ask(&host(&id), &format!("/x?{query}"))
            .await
            .expect("is known");
        assert_eq!(answer.error().1, "AccessDeniedException");
        assert_eq!(answer.status, 403);
    }
}

#[tokio::test]
async fn browsers_are_answered_before_the_function_is() {
    let cors = json!({"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "ExposeHeaders": ["x-b"], "MaxAge": 9});
    let (face, id) = with_url(json!({"AuthType": "AWS_IAM", "Cors": cors})).await;
    let ask = |method: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", host(&id));
        request.header("origin", "https://a.example")
    };
    // Without a signature: browsers sign no questions.
    let asked = ask("OPTIONS").header("access-control-request-method", "GET");
    let told = send(&face, asked, "").await;
    assert_eq!((told.status, told.body.len()), (200, 0));
    assert_eq!(
        told.headers["access-control-allow-origin"],
        "https://a.example"
    );
    assert_eq!(told.headers["access-control-max-age"], "9");
    assert!(tried(&face, ask("GET"), "").await.is_err());
    assert_eq!(
        face.ask("PUT", URL, json!({"AuthType": "NONE"}))
            .await
            .status,
        200
    );
    let answer = send(&face, ask("GET"), "").await;
    assert_eq!(answer.headers["access-control-expose-headers"], "x-b");
    // Whatever asks nothing is the function's, and without a configuration everything is.
    assert_eq!(send(&face, ask("OPTIONS"), "").await.json()["rawPath"], "/");
    assert_eq!(face.ask("PUT", URL, json!({"Cors": {}})).await.status, 200);
    let asked = ask("OPTIONS").header("access-control-request-method", "GET");
    let event = send(&face, asked, "").await;
    assert_eq!(event.json()["requestContext"]["http"]["method"], "OPTIONS");
    assert!(!event.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_url_is_written_as_it_works() {
    for (by_host, asked, wanted) in [
        (
            Some(true),
            "127.0.0.1:1",
            "http://ID.lambda-url.us-east-1.localhost:1/",
        ),
        (
            Some(false),
            "127.0.0.1:1",
            "http://127.0.0.1:1/lambda-url/ID/",
        ),
        // Names under localhost lead nowhere from elsewhere.
        (None, "10.0.0.1:1", "http://10.0.0.1:1/lambda-url/ID/"),
    ] {
        let face = face(by_host);
        face.create("f", json!({})).await;
        let request = Request::builder()
            .method("POST")
            .uri(URL)
            .header("host", asked);
        let request = request.extension(face.caller.clone());
        let request = request.body(json!({"AuthType": "NONE"}).to_string().into());
        let made = face
            .lambda
            .serve(request.expect("a request"))
            .await
            .expect("is known");
        let body = made.into_body().collect().await.expect("whole").to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let target = face.world.scheduler.find("f").expect("is there");
        let id = target
            .published()
            .url(LATEST)
            .expect("has one")
            .id
            .to_string();
        let url = body["FunctionUrl"].as_str().expect("a URL");
        assert_eq!(url.replace(&id, "ID"), wanted);
        let rest = url.strip_prefix("http://").expect("plain HTTP");
        let (host, path) = rest.split_at(rest.find('/').expect("a path"));
        let request = Request::builder().uri(path).header("host", host);
        assert_eq!(send(&face, request, "").await.status, 200, "{url}");
    }
}

#[tokio::test]
async fn the_public_is_told_what_aws_tells() {
    let report = Report {
        kind: "Oops".into(),
        message: "secret".into(),
        stack: Vec::new(),
        document: None,
    };
    let second = Duration::from_secs(1);
    let throttled = Fault::Throttled {
        reason: Throttle::FunctionConcurrency,
        limit: 1,
    };
    for (failed, status, text) in [
        (
            Failed::Fault(Fault::Handler(report)),
            502,
            "Internal Server Error",
        ),
        (
            Failed::Fault(Fault::Timeout(second)),
            502,
            "Internal Server Error",
        ),
        (
            Failed::Fault(Fault::Exited { code: Some(1) }),
            502,
            "Internal Server Error",
        ),
        (
            Failed::Answer(route::answer::Error::Base64),
            502,
            "Internal Server Error",
        ),
        (
            Failed::Fault(throttled),
            429,
            r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
        ),
        (Failed::Fault(Fault::Draining), 500, "Service"),
    ] {
        let (head, body) = told(failed).into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(head.status.as_u16(), status, "{body}");
        let exact = status != 500;
        assert!(
            if exact {
                body == text
            } else {
                body.contains(text)
            },
            "{body}"
        );
        assert_eq!(head.headers["content-type"], "application/json");
    }
}
