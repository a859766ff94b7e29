//! Code that lies in a bucket: when it is asked for, what becomes of what came, and that nothing changes for what did not.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::api::lambda::bucket::tests::{answer, settings, store};

const CODE: &str = "/2015-03-31/functions/f/code";

fn there(key: &str) -> Value {
    json!({"S3Bucket": "code", "S3Key": key})
}

fn sent(text: &str) -> Vec<u8> {
    STANDARD.decode(zip(text)).expect("base64")
}

fn missing() -> Vec<u8> {
    let said = b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>";
    answer("404 Not Found", "", said)
}

/// A face with a store of these answers, and what that was asked.
async fn face(answers: Vec<Vec<u8>>) -> (Face, JoinHandle<Option<Vec<String>>>) {
    let (url, serving) = store(answers).await;
    let s3 = Some(settings(&url, Duration::from_secs(20)));
    let face = Face::with(config::Aws {
        s3,
        ..config::Aws::default()
    });
    (face, serving)
}

async fn sha(face: &Face) -> Value {
    let target = "/2015-03-31/functions/f/configuration";
    face.ask("GET", target, Value::Null).await.json()["CodeSha256"].clone()
}

#[tokio::test]
async fn it_is_the_code_of_functions_and_layers() {
    let zip = |text| answer("200 OK", "", &sent(text));
    let answers = vec![zip("one"), zip("two"), zip("two"), zip("layer")];
    let (face, serving) = face(answers).await;
    let made = face.create("f", json!({"Code": there("one.zip")})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let same = Face::new();
    same.create("f", json!({"Code": {"ZipFile": super::zip("one")}}))
        .await;
    let one = sha(&face).await;
    assert_eq!(one, sha(&same).await, "as if it had been sent");

    let dry = json!({"S3Bucket": "code", "S3Key": "two.zip", "DryRun": true});
    let dry = face.ask("PUT", CODE, dry).await.json();
    assert_ne!(dry["CodeSha256"], one, "it was looked into");
    assert_eq!(sha(&face).await, one, "and not kept");
    let versioned = json!({"S3Bucket": "code", "S3Key": "two.zip", "S3ObjectVersion": "7"});
    let updated = face.ask("PUT", CODE, versioned).await.json();
    assert_eq!(updated["CodeSha256"], dry["CodeSha256"]);
    let got = face
        .ask("GET", "/2015-03-31/functions/f", Value::Null)
        .await;
    let code = &got.json()["Code"];
    assert_eq!(code["RepositoryType"], "S3");
    let location = code["Location"].as_str().expect("a URL");
    assert!(
        location.contains("/functions/f:$LATEST/code?"),
        "{location}"
    );

    let content = json!({"Content": there("layer.zip")});
    let layer = face
        .ask("POST", "/2018-10-31/layers/l/versions", content)
        .await;
    assert_eq!(layer.status, 201, "{:?}", layer.body);
    let asked = serving.await.expect("ends").expect("is served");
    let asked: Vec<_> = asked
        .iter()
        .filter_map(|head| head.lines().next())
        .collect();
    assert_eq!(
        asked,
        [
            "GET /code/one.zip HTTP/1.1",
            "GET /code/two.zip HTTP/1.1",
            "GET /code/two.zip?versionId=7 HTTP/1.1",
            "GET /code/layer.zip HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn what_is_not_there_changes_nothing() {
    let no_zip = answer("200 OK", "", b"no zip");
    let denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let denied = answer("403 Forbidden", "", denied);
    let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nPK".to_vec();
    let (face, _serving) = face(vec![
        missing(),
        missing(),
        no_zip,
        denied,
        broken,
        missing(),
    ])
    .await;
    face.create("f", json!({})).await;
    let before = sha(&face).await;
    let refused = face.create("g", json!({"Code": there("k")})).await.error();
    let gone = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.";
    let parameter = |text: &str| {
        let kind = "InvalidParameterValueException".to_owned();
        (400, kind, text.to_owned())
    };
    assert_eq!(refused, parameter(gone));
    let g = face
        .ask("GET", "/2015-03-31/functions/g", Value::Null)
        .await;
    assert_eq!(g.status, 404);
    assert_eq!(
        face.ask("PUT", CODE, there("k")).await.error(),
        parameter(gone)
    );
    assert_eq!(
        face.ask("PUT", CODE, there("k")).await.error(),
        parameter(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        )
    );
    let (status, kind, message) = face.ask("PUT", CODE, there("k")).await.error();
    assert_eq!((status, kind.as_str()), (403, "AccessDeniedException"));
    assert_eq!(
        message,
        "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for code/k. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    );
    let (status, kind, _) = face.ask("PUT", CODE, there("k")).await.error();
    assert_eq!((status, kind.as_str()), (500, "ServiceException"));
    let content = json!({"Content": there("k")});
    let layer = face
        .ask("POST", "/2018-10-31/layers/l/versions", content)
        .await;
    assert_eq!(layer.error(), parameter(gone));
    assert_eq!(sha(&face).await, before);
}

#[tokio::test]
async fn nothing_is_asked_for_what_is_refused_anyway() {
    // The one answer is for the request that is good.
    let (face, serving) = face(vec![missing()]).await;
    face.create("f", json!({})).await;
    for (more, status) in [
        (json!({"Timeout": 901}), 400),
        (json!({"Runtime": "fortran77"}), 400),
        (
            json!({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:no:1"]}),
            400,
        ),
        (json!({}), 409),
    ] {
        let mut body = json!({"Code": there("k")});
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        assert_eq!(
            face.create("f", body.clone()).await.status,
            status,
            "{body}"
        );
    }
    let mut stale = there("k");
    stale["RevisionId"] = "00000000-0000-0000-0000-000000000000".into();
    for dry in [false, true] {
        stale["DryRun"] = dry.into();
        let (status, kind, _) = face.ask("PUT", CODE, stale.clone()).await.error();
        assert_eq!(
            (status, kind.as_str()),
            (412, "PreconditionFailedException")
        );
    }
    let absent = "/2015-03-31/functions/absent/code";
    assert_eq!(face.ask("PUT", absent, there("k")).await.status, 404);
    for half in [
        json!({"S3Bucket": "code"}),
        json!({"S3Key": "k"}),
        json!({"S3Bucket": "../x", "S3Key": "k"}),
        json!({"S3Bucket": "code", "S3Key": "../other/k"}),
    ] {
        assert_eq!(face.ask("PUT", CODE, half).await.status, 400);
    }
    let arn = face.signing("Enforce").await;
    let held = json!({"Code": there("k"), "CodeSigningConfigArn": arn});
    let (_, kind, _) = face.create("held", held).await.error();
    assert_eq!(kind, "CodeVerificationFailedException");
    face.create("held", json!({})).await;
    assert_eq!(face.give("held", &arn).await.status, 200);
    let target = "/2015-03-31/functions/held/code";
    let (_, kind, _) = face.ask("PUT", target, there("k")).await.error();
    assert_eq!(kind, "CodeVerificationFailedException");
    let may_call = Wish {
        scopes: vec![Scope::Invoke],
        ..Wish::admin()
    };
    let mut face = face;
    let admin = std::mem::replace(
        &mut face.caller,
        signer(&face.world, &face.world.keys, may_call),
    );
    assert_eq!(face.ask("PUT", CODE, there("k")).await.status, 403);
    face.caller = admin;
    assert_eq!(face.ask("PUT", CODE, there("good")).await.status, 400);
    let asked = serving.await.expect("ends").expect("is served");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("GET /code/good "), "{asked:?}");
}

#[tokio::test]
async fn without_a_store_the_setting_is_named() {
    let face = Face::new();
    let (status, kind, message) = face.create("f", json!({"Code": there("k")})).await.error();
    assert_eq!(
        (status, kind.as_str()),
        (400, "InvalidParameterValueException")
    );
    assert!(
        message.contains("S3Bucket") && message.contains("aws.s3.endpoint"),
        "{message}"
    );
}
