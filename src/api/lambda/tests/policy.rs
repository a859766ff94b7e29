//! Policies as a whole, which are those that statements are added to.

use super::settings::face;
use super::*;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";

#[tokio::test]
async fn a_policy_is_written_as_a_whole_and_by_statements() {
    let face = face(config::Aws::default()).await;
    let at = |of: &str| format!("/2026-07-09/resource-policy/{ARN}:{of}").replace(':', "%3A");
    let policy = |of: &str, sid: &str| {
        json!({"Version": "2008-10-17", "Statement": [{
            "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "lambda:*", "Resource": format!("{ARN}:{of}"),
        }]})
    };
    let wish = |policy: &Value| json!({ "Policy": policy.to_string() });
    let read = |answer: &Answer| -> Value {
        let text = answer.json()["Policy"].as_str().expect("a text").to_owned();
        serde_json::from_str(&text).expect("is JSON")
    };
    let none = "The resource you requested does not exist.";
    for of in ["f", "f:1", "f:live", "nobody", "f:nobody"] {
        let refused = face.ask("GET", &at(of), Value::Null).await.error();
        assert_eq!(
            refused,
            (404, "ResourceNotFoundException".into(), none.into())
        );
    }
    let mut revisions = std::collections::BTreeSet::new();
    for of in ["f", "f:1", "f:live"] {
        let put = face.ask("PUT", &at(of), wish(&policy(of, "one"))).await;
        assert_eq!((put.status, read(&put)), (200, policy(of, "one")), "{of}");
        let got = face.ask("GET", &at(of), Value::Null).await.json();
        assert_eq!(got, put.json());
        // The other operations see the same one.
        let (name, qualifier) = of.split_once(':').unwrap_or((of, ""));
        let same = format!("/2015-03-31/functions/{name}/policy?Qualifier={qualifier}");
        assert_eq!(face.ask("GET", &same, Value::Null).await.json(), got);
        let revision = got["RevisionId"].as_str().expect("a text").to_owned();
        assert!(revisions.insert(revision), "{of}");
    }

    // It is replaced, by whoever knows it.
    let got = face.ask("GET", &at("f"), Value::Null).await.json();
    let mut wanted = wish(&policy("f", "two"));
    wanted["RevisionId"] = "00000000-0000-0000-0000-000000000000".into();
    let (status, kind, message) = face.ask("PUT", &at("f"), wanted.clone()).await.error();
    assert_eq!(
        (status, kind.as_str()),
        (412, "PreconditionFailedException")
    );
    assert!(
        message.contains("Call the GetResourcePolicy API"),
        "{message}"
    );
    wanted["RevisionId"] = got["RevisionId"].clone();
    let put = face.ask("PUT", &at("f"), wanted.clone()).await;
    assert_eq!(read(&put), policy("f", "two"));
    assert_eq!(
        face.ask("PUT", &at("f"), wanted).await.status,
        412,
        "it is another now"
    );
    let permission =
        json!({"StatementId": "three", "Action": "lambda:InvokeFunction", "Principal": "*"});
    let permissions = "/2015-03-31/functions/f/policy";
    assert_eq!(face.ask("POST", permissions, permission).await.status, 201);
    let both = read(&face.ask("GET", &at("f"), Value::Null).await);
    assert_eq!(
        (&both["Version"], both["Statement"].as_array().map(Vec::len)),
        (&"2008-10-17".into(), Some(2))
    );
    for sid in ["two", "three"] {
        let gone = face
            .ask("DELETE", &format!("{permissions}/{sid}"), Value::Null)
            .await;
        assert_eq!(gone.status, 204);
    }
    assert_eq!(face.ask("GET", &at("f"), Value::Null).await.status, 404);
    let function = face
        .world
        .scheduler
        .find("f")
        .expect("is there")
        .function
        .clone();
    assert_eq!(
        function.aws.policy_heads.len(),
        2,
        "that of its own went with it"
    );

    // And taken away.
    let revision = face.ask("GET", &at("f:1"), Value::Null).await.json()["RevisionId"].clone();
    let stale = format!(
        "{}?RevisionId=00000000-0000-0000-0000-000000000000",
        at("f:1")
    );
    assert_eq!(face.ask("DELETE", &stale, Value::Null).await.status, 412);
    let known = format!(
        "{}?RevisionId={}",
        at("f:1"),
        revision.as_str().expect("a text")
    );
    assert_eq!(face.ask("DELETE", &known, Value::Null).await.status, 204);
    let (status, _, message) = face.ask("DELETE", &at("f:1"), Value::Null).await.error();
    assert_eq!(
        (status, message.as_str()),
        (404, "No policy is associated with the given resource.")
    );
    assert_eq!(
        face.ask("GET", &at("f:live"), Value::Null).await.status,
        200
    );
}

#[tokio::test]
async fn of_two_who_read_the_same_policy_one_writes() {
    let face = face(config::Aws::default()).await;
    let at = format!("/2026-07-09/resource-policy/{ARN}:f").replace(':', "%3A");
    let wish = |id: &str, revision: &Value| {
        let policy = json!({"Id": id, "Statement": {
            "Effect": "Allow", "Principal": "*", "Action": "lambda:*", "Resource": "*",
        }});
        json!({"Policy": policy.to_string(), "RevisionId": revision})
    };
    let first = face.ask("PUT", &at, wish("first", &Value::Null)).await;
    let revision = first.json()["RevisionId"].clone();
    let (wrote, late) = futures_util::join!(
        face.ask("PUT", &at, wish("one", &revision)),
        face.ask("PUT", &at, wish("two", &revision)),
    );
    assert_eq!(wrote.status, 200);
    let (status, kind, message) = late.error();
    assert_eq!(
        (status, kind.as_str()),
        (412, "PreconditionFailedException")
    );
    assert!(message.contains("GetResourcePolicy"), "{message}");
    let revision = wrote.json()["RevisionId"].clone();
    let known = format!("{at}?RevisionId={}", revision.as_str().expect("a text"));
    let (wrote, late) = futures_util::join!(
        face.ask("PUT", &at, wish("three", &revision)),
        face.ask("DELETE", &known, Value::Null),
    );
    assert_eq!((wrote.status, late.error().0), (200, 412));
}

#[tokio::test]
async fn of_two_who_know_the_same_revision_one_adds_or_removes() {
    let face = face(config::Aws::default()).await;
    let of = |qualifier: &str| format!("/2015-03-31/functions/f/policy?Qualifier={qualifier}");
    let statement = |id: &str, revision: &Value| {
        json!({
            "StatementId": id, "Action": "lambda:InvokeFunction", "Principal": "*", "RevisionId": revision,
        })
    };
    let stale = |answer: &Answer| {
        let (status, kind, message) = answer.error();
        assert_eq!(
            (status, kind.as_str()),
            (412, "PreconditionFailedException")
        );
        assert!(message.contains("GetPolicy"), "{message}");
    };
    for (qualifier, own) in [
        ("", "/2015-03-31/functions/f/configuration"),
        ("1", "/2015-03-31/functions/f/configuration?Qualifier=1"),
        ("live", "/2015-03-31/functions/f/aliases/live"),
    ] {
        let own = face.ask("GET", own, Value::Null).await.json()["RevisionId"].clone();
        let of = of(qualifier);
        let (one, two) = futures_util::join!(
            face.ask("POST", &of, statement("one", &own)),
            face.ask("POST", &of, statement("two", &own)),
        );
        assert_eq!(one.status, 201, "{qualifier}: {:?}", one.body);
        stale(&two);
        let read = async || face.ask("GET", &of, Value::Null).await.json()["RevisionId"].clone();
        let revision = read().await;
        let text = revision.as_str().expect("a text");
        let remove =
            format!("/2015-03-31/functions/f/policy/one?Qualifier={qualifier}&RevisionId={text}");
        let (added, removed) = futures_util::join!(
            face.ask("POST", &of, statement("two", &revision)),
            face.ask("DELETE", &remove, Value::Null),
        );
        assert_eq!(added.status, 201, "{qualifier}: {:?}", added.body);
        stale(&removed);
        let now = read().await;
        let remove = remove.replace(text, now.as_str().expect("a text"));
        let other = remove.replace("/one?", "/two?");
        let (one, two) = futures_util::join!(
            face.ask("DELETE", &remove, Value::Null),
            face.ask("DELETE", &other, Value::Null),
        );
        assert_eq!(one.status, 204, "{qualifier}: {:?}", one.body);
        stale(&two);
    }
}

#[tokio::test]
async fn a_policy_goes_with_its_alias() {
    let face = face(config::Aws::default()).await;
    let permission =
        json!({"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"});
    let of = |qualifier: &str| format!("/2015-03-31/functions/f/policy?Qualifier={qualifier}");
    for qualifier in ["1", "live"] {
        let added = face.ask("POST", &of(qualifier), permission.clone()).await;
        assert_eq!(added.status, 201, "{qualifier}");
    }
    let aliases = "/2015-03-31/functions/f/aliases";
    let gone = face
        .ask("DELETE", &format!("{aliases}/live"), Value::Null)
        .await;
    assert_eq!(gone.status, 204);
    let again = json!({"Name": "live", "FunctionVersion": "1"});
    assert_eq!(face.ask("POST", aliases, again.clone()).await.status, 201);
    assert_eq!(face.ask("GET", &of("live"), Value::Null).await.status, 404);
    assert_eq!(face.ask("GET", &of("1"), Value::Null).await.status, 200);

    // As it does where the other face deletes it.
    let add = async || {
        face.ask("POST", &of("live"), permission.clone())
            .await
            .status
    };
    let native = || http::Request::delete("/functions/f/aliases/live");
    assert_eq!(add().await, 201);
    let request = native().header("if-match", "99");
    let request = request.body(axum::body::Body::empty()).expect("a request");
    assert_eq!(face.world.send(request).await.status(), 412);
    assert_eq!(face.ask("GET", &of("live"), Value::Null).await.status, 200);
    let request = native().body(axum::body::Body::empty()).expect("a request");
    assert_eq!(face.world.send(request).await.status(), 204);
    let policy = async || {
        face.world
            .stored("f")
            .await
            .expect("is there")
            .aws
            .policy
            .len()
    };
    assert_eq!(policy().await, 1, "that of the version");

    // A deletion that was cut short is mended by the next, or by whoever gets the name.
    use crate::api::control::world::Plan;
    for mended in ["deleted", "made"] {
        assert_eq!(face.ask("POST", aliases, again.clone()).await.status, 201);
        assert_eq!(add().await, 201);
        // The alias is written first, then its function.
        let plans = [Plan::WaitWritten, Plan::FailUnwritten];
        face.world.store.plan(plans);
        face.world.store.go_on();
        let target = format!("{aliases}/live");
        let cut = face.ask("DELETE", &target, Value::Null).await;
        assert_eq!((cut.status, policy().await), (500, 2));
        match mended {
            "deleted" => assert_eq!(face.ask("DELETE", &target, Value::Null).await.status, 204),
            _ => assert_eq!(face.ask("POST", aliases, again.clone()).await.status, 201),
        }
        assert_eq!(policy().await, 1, "{mended}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_said() {
    let face = face(config::Aws::default()).await;
    let good = json!({"Statement": {
        "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": "*",
    }});
    let at = |arn: &str| {
        format!(
            "/2026-07-09/resource-policy/{}",
            arn.replace(':', "%3A").replace('/', "%2F")
        )
    };
    let f = at(&format!("{ARN}:f"));
    let long = " ".repeat(20_481);
    // Few enough characters, of too many bytes.
    let mut wide = good.clone();
    wide["Id"] = "ü".repeat(15_000).into();
    let wide = json!({ "Policy": wide.to_string() });
    for (target, body, status, kind, words) in [
        (
            &f,
            json!({}),
            400,
            "ValidationException",
            "Value null at 'policy'",
        ),
        (
            &f,
            json!({"Policy": ""}),
            400,
            "ValidationException",
            "at 'policy' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            &f,
            json!({"Policy": long}),
            400,
            "ValidationException",
            "length less than or equal to 20480",
        ),
        (
            &f,
            json!({"Policy": 1}),
            400,
            "SerializationException",
            "can not be converted to a String",
        ),
        (
            &f,
            json!({"Policy": "{}"}),
            400,
            "InvalidParameterValueException",
            "it has no Statement",
        ),
        (
            &f,
            json!({"Policy": good.to_string(), "RevisionId": "x"}),
            400,
            "ValidationException",
            "at 'revisionId'",
        ),
        (
            &at(&format!("{ARN}:f:$LATEST")),
            json!({"Policy": good.to_string()}),
            400,
            "InvalidParameterValueException",
            "for $LATEST",
        ),
        (
            &at(&format!("{ARN}:g")),
            json!({"Policy": good.to_string()}),
            404,
            "ResourceNotFoundException",
            "Function not found",
        ),
        (
            &at(&format!("{ARN}:f:9")),
            json!({"Policy": good.to_string()}),
            404,
            "ResourceNotFoundException",
            "f:9",
        ),
        (
            &at("f"),
            json!({"Policy": good.to_string()}),
            400,
            "ValidationException",
            "Value 'f' at 'resourceArn'",
        ),
        (
            &at("000000000000:function:f"),
            json!({"Policy": good.to_string()}),
            400,
            "ValidationException",
            "at 'resourceArn'",
        ),
        (
            &at("arn:aws:lambda:us-east-1:000000000000:layer:f:1"),
            json!({"Policy": good.to_string()}),
            400,
            "ValidationException",
            "at 'resourceArn'",
        ),
        (
            &at("arn:aws:lambda:us-east-1:000000000000:runtime/a.b/c"),
            json!({"Policy": good.to_string()}),
            404,
            "ResourceNotFoundException",
            "does not exist",
        ),
        (
            &at("arn:aws:lambda:us-east-2:000000000000:function:f"),
            json!({"Policy": good.to_string()}),
            404,
            "ResourceNotFoundException",
            "not reachable in this region",
        ),
        (
            &at("arn:aws:lambda:us-east-1:000000000001:function:f"),
            json!({"Policy": good.to_string()}),
            403,
            "AccessDeniedException",
            "000000000000",
        ),
    ] {
        let refused = face.ask("PUT", target, body.clone()).await.error();
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (status, kind),
            "{target} {body}: {}",
            refused.2
        );
        assert!(refused.2.contains(words), "{target} {body}: {}", refused.2);
    }
    let refused = face.ask("PUT", &f, wide).await.error();
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (400, "PolicyLengthExceededException")
    );
    assert!(
        refused.2.ends_with("is bigger than the limit (20480)."),
        "{}",
        refused.2
    );
    assert_eq!(face.ask("GET", &f, Value::Null).await.status, 404);
    let bad = format!("{f}?RevisionId=x");
    assert_eq!(face.ask("DELETE", &bad, Value::Null).await.status, 400);
}
