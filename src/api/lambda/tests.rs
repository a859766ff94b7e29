//! The face over a whole instance without containers: what is created is shown, what is wrong is said in AWS's words. What AWS's own clients
//! make of it, `tests/aws` tries.

mod bucket;
mod layers;

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

mod policy;
mod settings;
mod signing;
mod sources;

use super::*;
use crate::api::control::world::{DEADLINE, World};
use crate::api::keys::Keys;
use crate::clock;
use crate::domain::key::{Scope, Wish};
use crate::domain::pattern::Pattern;
use crate::secrets::key_place;
use crate::sources as events;

const ROLE: &str = "arn:aws:iam::123456789012:role/r";

pub(super) struct Face {
    pub(super) world: World,
    pub(super) lambda: Lambda,
    pub(super) caller: Arc<Grant>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(super) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let message = body.get("message").or(body.get("Message"));
        let message = message.and_then(Value::as_str).expect("a message");
        let kind = self.headers["x-amzn-errortype"].to_str().expect("ASCII");
        (self.status, kind.to_owned(), message.to_owned())
    }
}

impl Face {
    fn new() -> Self {
        Self::with(config::Aws {
            show_environment: true,
            ..config::Aws::default()
        })
    }

    pub(super) fn with(settings: config::Aws) -> Self {
        Self::over(settings, events::Options::default())
    }

    pub(super) fn over(settings: config::Aws, options: events::Options) -> Self {
        let world = World::empty();
        let room = Arc::new(Room::new(usize::MAX));
        let (scheduler, store) = (world.scheduler.clone(), world.store.clone());
        let sources = Sources::new(scheduler, store, options);
        let control = world.control.clone();
        let lambda = Lambda::new(control, sources, settings, false, DEADLINE, room);
        let lambda = lambda.expect("its settings can be used");
        let caller = signer(&world, &world.keys, Wish::admin());
        Self {
            world,
            lambda,
            caller,
        }
    }

    pub(super) async fn ask(&self, method: &str, target: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(Request::builder().method(method).uri(target), body)
            .await
    }

    async fn send(&self, request: http::request::Builder, body: String) -> Answer {
        let request = request
            .header("host", "127.0.0.1:1")
            .extension(self.caller.clone());
        let request = request.body(body.into()).expect("a request");
        let response = self.lambda.serve(request).await.expect("is known");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    pub(super) async fn create(&self, name: &str, more: Value) -> Answer {
        let mut body = json!({
            "FunctionName": name, "Runtime": "runic1.0", "Role": ROLE, "Handler": "app.handler",
            "Code": {"ZipFile": zip("say what came")},
        });
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        self.ask("POST", "/2015-03-31/functions", body).await
    }
}

/// A key in the snapshot, and what it may do.
pub(super) fn signer(world: &World, keys: &Keys, wish: Wish) -> Arc<Grant> {
    let (key, mut record) = wish.issue(clock::wall());
    let secrets = world.scheduler.secrets();
    record.sealed = Some(secrets.seal(&key_place(&record.id), &key));
    let grant = Arc::new(Grant::from(&record));
    keys.replace(&[record]);
    grant
}

fn zip(text: &str) -> String {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("app.txt", SimpleFileOptions::default())
        .expect("a file");
    zip.write_all(text.as_bytes()).expect("written");
    STANDARD.encode(zip.finish().expect("a zip").into_inner())
}

#[tokio::test]
async fn what_is_created_is_shown_by_both_faces() {
    let face = Face::new();
    let settings = json!({"Environment": {"Variables": {"GREETING": "hello"}}, "Timeout": 7, "Tags": {"team": "a"}, "TracingConfig": {"Mode": "Active"}});
    let made = face.create("f", settings).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.headers["x-hearth-runtime"], "runic1.0");
    let made = made.json();
    assert_eq!(made["State"], "Pending");
    assert_eq!(
        made["FunctionArn"],
        "arn:aws:lambda:us-east-1:000000000000:function:f"
    );
    assert_eq!(
        made["Environment"]["Variables"],
        json!({"GREETING": "hello"})
    );
    let stamp = made["LastModified"].as_str().expect("a text");
    assert!(
        stamp.ends_with("+0000") && stamp.len() == "2025-11-25T02:26:54.000+0000".len(),
        "{stamp}"
    );

    let got = face
        .ask("GET", "/2015-03-31/functions/f", Value::Null)
        .await
        .json();
    let shown = &got["Configuration"];
    assert_eq!(
        (&shown["State"], &shown["LastUpdateStatus"]),
        (&json!("Active"), &json!("Successful"))
    );
    assert_eq!(got["Tags"], json!({"team": "a"}));
    assert_ne!(
        shown["RevisionId"], made["RevisionId"],
        "it is another when it is done"
    );
    assert_eq!(shown["CodeSha256"], made["CodeSha256"]);
    let native = face.world.get("/functions/f").await.json();
    assert_eq!(
        (&native["timeout"], &native["environment"]),
        (&json!(7), &json!({"GREETING": "****"}))
    );

    // And the other way around.
    face.world.create("g").await;
    let target = "/2015-03-31/functions/000000000000:function:g:$LATEST/configuration";
    let other = face.ask("GET", target, Value::Null).await.json();
    assert_eq!(
        other["FunctionArn"],
        "arn:aws:lambda:us-east-1:000000000000:function:g:$LATEST"
    );
    assert_eq!(other["Role"], "arn:aws:iam::000000000000:role/hearth");
    assert!(other.get("Environment").is_none());
    let listed = face
        .ask("GET", "/2015-03-31/functions/?MaxItems=1", Value::Null)
        .await
        .json();
    assert_eq!(listed["Functions"][0]["FunctionName"], "f");
    assert!(listed["Functions"][0].get("State").is_none());
    let marker = listed["NextMarker"].as_str().expect("there is more");
    let target = format!("/2015-03-31/functions?Marker={marker}");
    let rest = face.ask("GET", &target, Value::Null).await.json();
    assert_eq!(rest["Functions"][0]["FunctionName"], "g");
    assert!(rest.get("NextMarker").is_none());
    assert_eq!(
        face.ask("GET", "/2015-03-31/functions?Marker=!", Value::Null)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn updates_keep_the_rest_and_hold_to_the_revision() {
    let face = Face::new();
    face.create(
        "f",
        json!({"Description": "first", "EphemeralStorage": {"Size": 1024}}),
    )
    .await;
    let target = "/2015-03-31/functions/f/configuration";
    let before = face.ask("GET", target, Value::Null).await.json();
    let change =
        json!({"MemorySize": 256, "Runtime": "sign2.x", "RevisionId": before["RevisionId"]});
    let changed = face.ask("PUT", target, change.clone()).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    assert_eq!(changed.headers["x-hearth-runtime"], "sign2.x");
    let changed = changed.json();
    assert_eq!(changed["LastUpdateStatus"], "InProgress");
    assert_eq!(
        (&changed["Description"], &changed["MemorySize"]),
        (&json!("first"), &json!(256))
    );
    assert_eq!(changed["EphemeralStorage"]["Size"], 1024);
    assert_eq!(changed["Runtime"], "sign2.x");

    let stale = face.ask("PUT", target, change).await.error();
    assert_eq!(
        (stale.0, stale.1.as_str()),
        (412, "PreconditionFailedException")
    );
    let code = "/2015-03-31/functions/f/code";
    let dry = json!({"ZipFile": zip("other"), "DryRun": true});
    let dry = face.ask("PUT", code, dry).await.json();
    let now = face.ask("GET", target, Value::Null).await.json();
    assert_eq!(
        (&dry["RevisionId"], &now["CodeSha256"]),
        (&now["RevisionId"], &before["CodeSha256"])
    );
    let bad = json!({"ZipFile": STANDARD.encode("no zip"), "DryRun": true});
    assert_eq!(face.ask("PUT", code, bad).await.status, 400);
    let real = face
        .ask("PUT", code, json!({"ZipFile": zip("other")}))
        .await
        .json();
    assert_ne!(real["CodeSha256"], before["CodeSha256"]);
    assert_eq!(
        real["CodeSha256"], dry["CodeSha256"],
        "which was looked into"
    );
    let bad = face
        .ask("PUT", code, json!({"ZipFile": STANDARD.encode("no zip")}))
        .await
        .error();
    assert_eq!(
        bad.2,
        "Could not unzip uploaded file. Please check your file, then try to upload again."
    );

    // A runtime that the native face changed is not the one AWS's client wrote.
    let native = json!({"language": "runic", "code": "say"});
    assert_eq!(face.world.put("/functions/f", native).await.status, 200);
    let after = face.ask("GET", target, Value::Null).await.json();
    assert_eq!(after["Runtime"], "runic1.0");
    assert_eq!(after["EphemeralStorage"]["Size"], 1024);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_awss_words() {
    let face = Face::new();
    face.create("f", json!({})).await;
    let twice = face.create("f", json!({})).await.error();
    assert_eq!(
        twice,
        (
            409,
            "ResourceConflictException".into(),
            "Function already exist: f".into()
        )
    );
    for (more, kind, text) in [
        (
            json!({"Timeout": 901}),
            "ValidationException",
            "Value '901' at 'timeout'",
        ),
        (
            json!({"Runtime": "fortran77"}),
            "InvalidParameterValueException",
            "Value fortran77 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [",
        ),
        (
            json!({"Runtime": null}),
            "InvalidParameterValueException",
            "mandatory",
        ),
        (json!({"Role": "r"}), "ValidationException", "at 'role'"),
        (
            json!({"Code": {}}),
            "InvalidParameterValueException",
            "source for function code",
        ),
        (
            json!({"Code": {"S3Bucket": "bucket", "S3Key": "k"}}),
            "InvalidParameterValueException",
            "S3Bucket",
        ),
        (
            json!({"PackageType": "Image"}),
            "InvalidParameterValueException",
            "Image",
        ),
        (
            json!({"FunctionName": "a b"}),
            "ValidationException",
            "at 'functionName'",
        ),
        (
            json!({"FunctionName": "execute"}),
            "InvalidParameterValueException",
            "FunctionName",
        ),
        (
            json!({"FunctionName": "x".repeat(65)}),
            "InvalidParameterValueException",
            "less than or equal to 64",
        ),
        (
            json!({"Tags": {"aws:x": "y"}}),
            "InvalidParameterValueException",
            "aws:",
        ),
        (
            json!({"MemorySize": "128"}),
            "SerializationException",
            "STRING_VALUE",
        ),
    ] {
        let (_, found, message) = face.create("other", more).await.error();
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(text), "{text}: {message}");
    }
    for (method, target, status, kind) in [
        (
            "GET",
            "/2015-03-31/functions/none",
            404,
            "ResourceNotFoundException",
        ),
        (
            "GET",
            "/2015-03-31/functions/f:7",
            404,
            "ResourceNotFoundException",
        ),
        (
            "GET",
            "/2015-03-31/functions?MaxItems=0",
            400,
            "ValidationException",
        ),
        (
            "DELETE",
            "/2015-03-31/functions/f?Qualifier=%24LATEST",
            400,
            "InvalidParameterValueException",
        ),
        (
            "POST",
            "/2015-03-31/functions/none/invocations",
            404,
            "ResourceNotFoundException",
        ),
        (
            "POST",
            "/2025-11-30/capacity-providers",
            501,
            "NotImplementedException",
        ),
        (
            "POST",
            "/2015-03-31/event-source-mappings",
            400,
            "ValidationException",
        ),
        (
            "GET",
            "/2015-03-31/event-source-mappings?EventSourceArn=queue",
            400,
            "ValidationException",
        ),
        (
            "GET",
            "/2015-03-31/event-source-mappings?FunctionName=a+b",
            400,
            "ValidationException",
        ),
        (
            "PUT",
            "/2015-03-31/event-source-mappings/14e0db71-5d35-4eb5-b481-8945cf9d10c2",
            404,
            "ResourceNotFoundException",
        ),
        (
            "GET",
            "/2015-03-31/nothing",
            404,
            "UnknownOperationException",
        ),
    ] {
        let (found, name, message) = face.ask(method, target, Value::Null).await.error();
        assert_eq!(
            (found, name.as_str()),
            (status, kind),
            "{target}: {message}"
        );
    }
    let unknown = face
        .ask(
            "POST",
            "/2015-03-31/functions/none/invocations",
            Value::Null,
        )
        .await
        .error();
    assert_eq!(
        unknown.2,
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none:$LATEST"
    );
    assert_eq!(
        face.ask("DELETE", "/2015-03-31/functions/f", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        face.ask("DELETE", "/2015-03-31/functions/f", Value::Null)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn calls_say_which_they_were_and_on_what() {
    let face = Face::new();
    face.create("f", json!({})).await;
    let invocations = "/2015-03-31/functions/f/invocations";
    let answer = face.ask("POST", invocations, json!({"a": 1})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.headers["x-amz-executed-version"], "$LATEST");
    assert_eq!(
        answer.headers["x-amzn-requestid"],
        answer.headers["x-request-id"]
    );
    assert!(!answer.headers.contains_key("x-amz-function-error"));
    let with = |name: &str, value: &str| {
        Request::builder()
            .method("POST")
            .uri(invocations)
            .header(name, value)
    };
    let later = face
        .send(with("x-amz-invocation-type", "Event"), "{}".into())
        .await;
    assert_eq!((later.status, later.body.len()), (202, 0));
    assert!(later.headers.contains_key("x-amzn-requestid"));
    let dry = face
        .send(with("x-amz-invocation-type", "DryRun"), String::new())
        .await;
    assert_eq!(dry.status, 204);
    let tail = face
        .send(with("x-amz-log-type", "Tail"), String::new())
        .await;
    let log = STANDARD
        .decode(&tail.headers["x-amz-log-result"])
        .expect("base64");
    let log = String::from_utf8(log).expect("text");
    let id = tail.headers["x-amzn-requestid"].to_str().expect("ASCII");
    assert!(
        log.starts_with(&format!("START RequestId: {id} Version: $LATEST\n")),
        "{log}"
    );
    assert!(
        log.contains(&format!(
            "\nEND RequestId: {id}\nREPORT RequestId: {id}\tDuration: "
        )),
        "{log}"
    );
    for (request, body, kind) in [
        (
            with("x-amz-invocation-type", "Maybe"),
            "{}",
            "ValidationException",
        ),
        (
            with("x-amz-client-context", "!"),
            "{}",
            "InvalidRequestContentException",
        ),
        (
            with("x-amz-log-type", "None"),
            "{not json",
            "InvalidRequestContentException",
        ),
    ] {
        let (status, found, message) = face.send(request, body.into()).await.error();
        assert_eq!((status, found.as_str()), (400, kind), "{message}");
    }
    let large = "1".repeat(crate::domain::limits::EVENT_MAX + 1);
    let large = face
        .send(with("x-amz-invocation-type", "Event"), large)
        .await
        .error();
    assert_eq!(large.0, 413, "{}", large.2);
    let larger = "1".repeat(crate::domain::limits::PAYLOAD_MAX + 1);
    let larger = face
        .send(with("x-amz-log-type", "None"), larger)
        .await
        .error();
    assert_eq!(
        larger.2,
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    );
}

#[tokio::test]
async fn a_key_for_some_functions_does_and_sees_no_others() {
    let mut face = Face::new();
    for name in ["orders", "mail"] {
        face.create(name, json!({})).await;
    }
    let wish = Wish {
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("orders*").expect("a pattern")],
        ..Wish::admin()
    };
    face.caller = signer(&face.world, &face.world.keys, wish);
    let listed = face
        .ask("GET", "/2015-03-31/functions", Value::Null)
        .await
        .json();
    assert_eq!(listed["Functions"].as_array().map(Vec::len), Some(1));
    for (method, target) in [
        ("GET", "/2015-03-31/functions/mail"),
        ("GET", "/2015-03-31/functions/nobodys"),
        ("DELETE", "/2015-03-31/functions/mail"),
        ("POST", "/2015-03-31/functions/orders/invocations"),
        ("PUT", "/2015-03-31/functions/mail/code"),
    ] {
        let (status, kind, message) = face.ask(method, target, Value::Null).await.error();
        assert_eq!(
            (status, kind.as_str()),
            (403, "AccessDeniedException"),
            "{target}"
        );
        assert!(
            message.starts_with("User: arn:aws:iam::000000000000:user/"),
            "{message}"
        );
    }
    let made = face.create("mail-2", json!({})).await.error();
    assert_eq!(made.1, "AccessDeniedException");
    assert_eq!(face.create("orders-2", json!({})).await.status, 201);
}

#[tokio::test]
async fn an_environment_may_be_shown_masked() {
    let face = Face::with(config::Aws::default());
    let made = face
        .create(
            "f",
            json!({"Environment": {"Variables": {"NAME": "secret"}}}),
        )
        .await;
    assert_eq!(made.json()["Environment"]["Variables"]["NAME"], "****");
    // What was shown may be sent back.
    let target = "/2015-03-31/functions/f/configuration";
    let back = json!({"Environment": {"Variables": {"NAME": "****", "OTHER": "x"}}});
    assert_eq!(face.ask("PUT", target, back).await.status, 200);
    let stored = face.world.stored("f").await.expect("is there");
    let opened = face
        .world
        .scheduler
        .secrets()
        .open(&stored.id, &stored.environment);
    assert_eq!(opened.expect("opens").0["NAME"], "secret");
}

#[tokio::test]
async fn a_request_is_known_by_its_signature_or_not_at_all() {
    let face = Face::new();
    let ask = async |authorization: Option<&str>| {
        let mut request = Request::builder()
            .uri("/2015-03-31/functions")
            .header("host", "h");
        if let Some(value) = authorization {
            let now = sigv4::write_time(clock::wall());
            request = request
                .header("authorization", value)
                .header("x-amz-date", now);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let unproven = face.lambda.serve(request).await.expect_err("nobody knows");
        (unproven.doubt, unproven.refusal.kind)
    };
    assert_eq!(
        ask(None).await,
        (Doubt::Missing, "MissingAuthenticationTokenException")
    );
    let day = &sigv4::write_time(clock::wall())[..8];
    let signed = |id: &str, region: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{day}/{region}/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
        )
    };
    let unknown = ask(Some(&signed("AKIA", "us-east-1"))).await;
    assert_eq!(unknown, (Doubt::Unknown, "UnrecognizedClientException"));
    let id = &face.caller.id;
    let wrong = ask(Some(&signed(id, "us-east-1"))).await;
    assert_eq!(wrong, (Doubt::Signature, "InvalidSignatureException"));
    let elsewhere = ask(Some(&signed(id, "eu-west-1"))).await;
    assert_eq!(elsewhere, (Doubt::Misplaced, "InvalidSignatureException"));
    // Where the code is, anybody may look who has the URL, and nobody else.
    face.create("f", json!({})).await;
    let got = face
        .ask("GET", "/2015-03-31/functions/f", Value::Null)
        .await
        .json();
    let url = got["Code"]["Location"].as_str().expect("a URL").to_owned();
    let target = url.strip_prefix("http://127.0.0.1:1").expect("this server");
    let get = async |target: &str| {
        let request = Request::builder().uri(target).header("host", "127.0.0.1:1");
        let request = request.body(axum::body::Body::empty()).expect("a request");
        face.lambda.serve(request).await
    };
    let found = get(target).await.expect("is known");
    assert_eq!(found.headers()["content-type"], "application/zip");
    let body = found.into_body().collect().await.expect("whole").to_bytes();
    assert_eq!(STANDARD.encode(body), zip("say what came"));
    let forged = get(&target.replace("functions/f:", "functions/g:")).await;
    assert_eq!(forged.expect_err("another path").doubt, Doubt::Signature);
}
