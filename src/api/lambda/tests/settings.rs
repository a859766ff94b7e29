//! What is set beside a function, for it, a version or an alias.

use super::*;
use crate::domain::destination::Destination;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";

fn events(name: &str) -> String {
    format!("/2019-09-25/functions/{name}/event-invoke-config")
}

/// A function with a version and an alias of it, and another function.
async fn face(settings: config::Aws) -> Face {
    let face = Face::with(settings);
    for name in ["f", "other"] {
        assert_eq!(face.create(name, json!({})).await.status, 201);
    }
    let versions = "/2015-03-31/functions/f/versions";
    assert_eq!(face.ask("POST", versions, Value::Null).await.status, 201);
    let live = json!({"Name": "live", "FunctionVersion": "1"});
    let aliases = "/2015-03-31/functions/f/aliases";
    assert_eq!(face.ask("POST", aliases, live).await.status, 201);
    face
}

/// The document without its time, which is one.
fn untimed(answer: &Answer) -> Value {
    let mut document = answer.json();
    let at = document["LastModified"].take();
    assert!(at.as_f64().is_some_and(|at| at > 1e9), "{at}");
    document
}

#[tokio::test]
async fn event_settings_belong_to_what_was_named() {
    let face = face(config::Aws::default()).await;
    let none = face.ask("GET", &events("f"), Value::Null).await.error();
    assert_eq!(
        none.2,
        format!("The function {ARN}:f:$LATEST doesn't have an EventInvokeConfig")
    );
    for (name, qualifier, attempts) in [("f", "$LATEST", 1), ("f:1", "1", 2), ("f:live", "live", 0)]
    {
        let wish = json!({ "MaximumRetryAttempts": attempts });
        let put = face.ask("PUT", &events(name), wish).await;
        assert_eq!(put.status, 200, "{:?}", put.body);
        let wanted = json!({
            "LastModified": null,
            "FunctionArn": format!("{ARN}:f:{qualifier}"),
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
            "MaximumRetryAttempts": attempts,
        });
        assert_eq!(untimed(&put), wanted);
        let got = face.ask("GET", &events(name), Value::Null).await;
        assert_eq!(untimed(&got), wanted);
    }
    let latest = face.world.scheduler.find("f").expect("is there");
    let live = crate::domain::id::AliasName::parse("live").ok();
    let other = crate::domain::id::AliasName::parse("other").ok();
    for (version, alias, attempts) in [
        (VersionId::Latest, &None, 1),
        (VersionId::Number(1), &None, 2),
        (VersionId::Number(1), &live, 0),
        // What has none of its own has the function's.
        (VersionId::Number(2), &None, 1),
        (VersionId::Number(1), &other, 1),
    ] {
        let own = latest.events(version, alias.as_ref());
        assert_eq!(own.max_retries, Some(attempts), "{version} {alias:?}");
    }
    assert_eq!(
        face.world.get("/functions/f").await.json()["max_retries"],
        1
    );

    // What is left out stays with an update, and goes with a put.
    let age = json!({"MaximumEventAgeInSeconds": 60});
    let updated = face
        .ask("POST", &events("f:live"), age.clone())
        .await
        .json();
    assert_eq!(
        (
            &updated["MaximumRetryAttempts"],
            &updated["MaximumEventAgeInSeconds"]
        ),
        (&json!(0), &json!(60))
    );
    let put = face.ask("PUT", &events("f:live"), age).await.json();
    assert!(put.get("MaximumRetryAttempts").is_none(), "{put}");

    let list = format!("{}/list", events("f"));
    let all = face.ask("GET", &list, Value::Null).await.json();
    let arns = |page: &Value| -> Vec<String> {
        let items = page["FunctionEventInvokeConfigs"]
            .as_array()
            .expect("a list");
        let arns = items.iter().map(|item| item["FunctionArn"].as_str());
        arns.map(|arn| arn.expect("a text").to_owned()).collect()
    };
    let wanted = ["$LATEST", "1", "live"].map(|q| format!("{ARN}:f:{q}"));
    assert_eq!(arns(&all), wanted);
    assert!(all.get("NextMarker").is_none());
    let page = face
        .ask("GET", &format!("{list}?MaxItems=2"), Value::Null)
        .await;
    let page = page.json();
    let marker = page["NextMarker"].as_str().expect("there is more");
    let rest = face
        .ask("GET", &format!("{list}?Marker={marker}"), Value::Null)
        .await;
    assert_eq!(
        (arns(&page), arns(&rest.json())),
        (wanted[..2].to_vec(), wanted[2..].to_vec())
    );
    assert_eq!(
        face.ask("GET", &format!("{list}?MaxItems=51"), Value::Null)
            .await
            .status,
        400
    );

    for name in ["f", "f:1", "f:live"] {
        let gone = face.ask("DELETE", &events(name), Value::Null).await;
        assert_eq!(gone.status, 204, "{:?}", gone.body);
        let again = face.ask("DELETE", &events(name), Value::Null).await;
        assert_eq!(again.status, 404);
    }
    let native = face.world.get("/functions/f").await.json();
    assert_eq!(native["max_retries"], Value::Null);
    // An empty one is one all the same.
    let empty = json!({"DestinationConfig": {}});
    assert_eq!(face.ask("PUT", &events("f"), empty).await.status, 200);
    let there = face.ask("GET", &events("f"), Value::Null).await;
    assert!(untimed(&there).get("MaximumRetryAttempts").is_none());
    // And goes with what it is of.
    let of_version = json!({"MaximumRetryAttempts": 1});
    for name in ["f:1", "f:live"] {
        assert_eq!(
            face.ask("PUT", &events(name), of_version.clone())
                .await
                .status,
            200
        );
    }
    for gone in ["aliases/live", "?Qualifier=1"] {
        let target = format!("/2015-03-31/functions/f/{gone}").replace("/?", "?");
        assert_eq!(face.ask("DELETE", &target, Value::Null).await.status, 204);
    }
    let left = face.ask("GET", &list, Value::Null).await.json();
    assert_eq!(arns(&left), wanted[..1].to_vec());
}

#[tokio::test]
async fn a_destination_is_what_its_arn_means() {
    let queue = "arn:aws:sqs:us-east-1:000000000000:failed";
    let hook = Destination::parse("https://example.org/failed").expect("a destination");
    let face = face(config::Aws {
        destinations: vec![(queue.into(), hook)],
        ..config::Aws::default()
    })
    .await;
    let to = |success: &str, failure: &str| {
        let one = |to: &str| match to {
            "" => json!({}),
            to => json!({ "Destination": to }),
        };
        json!({"DestinationConfig": {"OnSuccess": one(success), "OnFailure": one(failure)}})
    };
    let function = format!("{ARN}:other");
    let put = face.ask("PUT", &events("f"), to(&function, queue)).await;
    assert_eq!(put.status, 200, "{:?}", put.body);
    assert_eq!(
        put.json()["DestinationConfig"],
        to(&function, queue)["DestinationConfig"]
    );
    let native = face.world.get("/functions/f").await.json();
    assert_eq!(
        (&native["on_success"], &native["on_failure"]),
        (
            &json!("function:other"),
            &json!("https://example.org/failed")
        )
    );
    // What was written natively is shown, and taken as it is shown.
    let written =
        json!({"on_success": "http://127.0.0.1:1/", "on_failure": "function:other:$LATEST"});
    assert_eq!(face.world.put("/functions/f", written).await.status, 200);
    let shown = face.ask("GET", &events("f"), Value::Null).await.json();
    let wanted = to("http://127.0.0.1:1/", &format!("{function}:$LATEST"));
    assert_eq!(shown["DestinationConfig"], wanted["DestinationConfig"]);
    let again = face.ask("PUT", &events("f"), wanted.clone()).await.json();
    assert_eq!(again["DestinationConfig"], wanted["DestinationConfig"]);
    // One is taken away, the other stays.
    let update = json!({"DestinationConfig": {"OnSuccess": {}}});
    let updated = face.ask("POST", &events("f"), update).await.json();
    let wanted = to("", &format!("{function}:$LATEST"));
    assert_eq!(updated["DestinationConfig"], wanted["DestinationConfig"]);

    let before = face.ask("GET", &events("f"), Value::Null).await.json();
    let invalid = "InvalidParameterValueException";
    for (success, failure, kind, message) in [
        (&*format!("{ARN}:nobody"), "", invalid, format!("The destination ARN {ARN}:nobody is invalid.")),
        ("", &format!("{ARN}:other:7"), invalid, format!("The destination ARN {ARN}:other:7 is invalid.")),
        ("arn:aws:lambda:eu-west-1:000000000000:function:other", "", invalid, "The destination ARN arn:aws:lambda:eu-west-1:000000000000:function:other is invalid.".into()),
        ("", &format!("{ARN}:f"), invalid, "You can't specify the function as a destination for itself.".into()),
        ("function:f:1", "", invalid, "You can't specify the function as a destination for itself.".into()),
        ("", "arn:aws:sns:us-east-1:000000000000:topic", invalid, "The destination ARN arn:aws:sns:us-east-1:000000000000:topic is invalid. Hearth sends to nothing by that name: aws.destinations in its configuration may say what it stands for.".into()),
        ("arn:aws:iam:us-east-1:000000000000:function:f", "", invalid, "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:iam:us-east-1:000000000000:function:f), onFailure=null) is invalid.".into()),
        ("", "somewhere", "ValidationException", r"1 validation error detected: Value 'somewhere' at 'destinationConfig.onFailure.destination' failed to satisfy constraint: Member must satisfy regular expression pattern: $|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)".into()),
    ] {
        let refused = face.ask("PUT", &events("f"), to(success, failure)).await.error();
        assert_eq!(refused, (400, kind.to_owned(), message));
    }
    // The store of this test has no streams.
    let refused = face
        .ask("PUT", &events("f:live"), to("stream:s", ""))
        .await
        .error();
    assert!(
        refused.0 == 400 && refused.2.contains("Redis"),
        "{refused:?}"
    );
    assert_eq!(
        face.ask("GET", &events("f"), Value::Null).await.json(),
        before
    );
    for (body, message) in [
        (
            json!({}),
            "You must specify at least one of error handling or destination setting.",
        ),
        (
            json!({"MaximumRetryAttempts": 3}),
            "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than or equal to 2",
        ),
        (
            json!({"MaximumEventAgeInSeconds": 59}),
            "1 validation error detected: Value '59' at 'maximumEventAgeInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60",
        ),
    ] {
        assert_eq!(face.ask("PUT", &events("f"), body).await.error().2, message);
    }
    let once = json!({"MaximumRetryAttempts": 1});
    for name in ["nobody", "f:7", "f:nobody"] {
        for method in ["PUT", "POST"] {
            let refused = face.ask(method, &events(name), once.clone()).await.error();
            assert_eq!(
                (refused.0, &*refused.2),
                (404, "The function doesn't exist.")
            );
        }
    }
    let refused = face.ask("POST", &events("f:1"), once).await.error();
    assert_eq!(
        refused.2,
        format!("The function {ARN}:f:1 doesn't have an EventInvokeConfig")
    );
}

#[tokio::test]
async fn nobody_has_functions_called_that_its_key_is_not_for() {
    let mut face = face(config::Aws::default()).await;
    let wish = Wish {
        name: "f only".into(),
        scopes: vec![Scope::Deploy, Scope::Invoke],
        functions: vec![Pattern::parse("f").expect("a pattern")],
        expires_at: None,
    };
    face.caller = signer(&face.world, &face.world.keys, wish);
    for name in ["f", "f:live"] {
        let to =
            json!({"DestinationConfig": {"OnFailure": {"Destination": format!("{ARN}:other")}}});
        let refused = face.ask("PUT", &events(name), to).await.error();
        assert_eq!((refused.0, &*refused.1), (403, "AccessDeniedException"));
    }
}
