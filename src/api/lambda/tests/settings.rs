//! What is set beside a function, for it, a version or an alias.

use super::*;
use crate::domain::destination::Destination;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function";

fn events(name: &str) -> String {
    format!("/2019-09-25/functions/{name}/event-invoke-config")
}

/// A function with a version and an alias of it, and another function.
pub(super) async fn face(settings: config::Aws) -> Face {
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
        (VersionId::Latest, &None, Some(1)),
        (VersionId::Number(1), &None, Some(2)),
        (VersionId::Number(1), &live, Some(0)),
        // What has none of its own has none: not the function's, nor an alias those of its version.
        (VersionId::Number(2), &None, None),
        (VersionId::Number(1), &other, None),
        (VersionId::Latest, &other, None),
    ] {
        let own = latest.events(version, alias.as_ref());
        let own = own.and_then(|own| own.max_retries);
        assert_eq!(own, attempts, "{version} {alias:?}");
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
async fn what_could_have_no_effect_is_refused() {
    let face = face(config::Aws::default()).await;
    let fifo = "arn:aws:sqs:us-east-1:000000000000:q.fifo";
    for (given, says) in [
        (
            json!({"LoggingConfig": {"SystemLogLevel": "WARN"}}),
            "LogLevel is not supported when LogFormat is set to \"Text\".",
        ),
        (
            json!({"DeadLetterConfig": {"TargetArn": fifo}}),
            "DeadLetterConfig.TargetArn must not name a FIFO queue",
        ),
    ] {
        let made = face.create("g", given.clone()).await.error();
        let configuration = "/2015-03-31/functions/f/configuration";
        let changed = face.ask("PUT", configuration, given).await.error();
        for (status, kind, message) in [made, changed] {
            assert_eq!((status, &*kind), (400, "InvalidParameterValueException"));
            assert!(message.contains(says), "{message}");
        }
    }
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

fn provisioned(qualifier: &str) -> String {
    format!("/2019-09-30/functions/f/provisioned-concurrency?Qualifier={qualifier}")
}

#[tokio::test]
async fn workers_are_kept_ready_for_a_version_or_for_an_alias_of_it() {
    let face = face(config::Aws::default()).await;
    let wish = json!({"ProvisionedConcurrentExecutions": 2});
    let put = face.ask("PUT", &provisioned("live"), wish.clone()).await;
    assert_eq!(put.status, 202, "{:?}", put.body);
    let put = put.json();
    assert_eq!(
        (
            &put["Status"],
            &put["RequestedProvisionedConcurrentExecutions"]
        ),
        (&json!("IN_PROGRESS"), &json!(2))
    );
    let at = put["LastModified"].as_str().expect("a text");
    assert_eq!(at.len(), "2019-12-31T20:28:49+0000".len(), "{at}");
    let deadline = clock::now() + DEADLINE;
    let ready = loop {
        let got = face
            .ask("GET", &provisioned("live"), Value::Null)
            .await
            .json();
        if got["Status"] == "READY" {
            break got;
        }
        assert!(clock::now() < deadline, "{got}");
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (
            &ready["AvailableProvisionedConcurrentExecutions"],
            &ready["AllocatedProvisionedConcurrentExecutions"],
            ready.get("StatusReason"),
        ),
        (&json!(2), &json!(2), None)
    );
    let (status, kind, message) = face
        .ask("PUT", &provisioned("1"), wish.clone())
        .await
        .error();
    assert_eq!((status, &*kind), (409, "ResourceConflictException"));
    assert_eq!(
        message,
        "Version is pointed by a Provisioned Concurrency alias"
    );
    let list = "/2019-09-30/functions/f/provisioned-concurrency?List=ALL";
    let listed = face.ask("GET", list, Value::Null).await.json();
    let listed = listed["ProvisionedConcurrencyConfigs"]
        .as_array()
        .expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["FunctionArn"], format!("{ARN}:f:live"));

    for _ in 0..2 {
        let gone = face.ask("DELETE", &provisioned("live"), Value::Null).await;
        assert_eq!(gone.status, 204, "there is none, which was wanted");
    }
    let (status, kind, message) = face
        .ask("GET", &provisioned("live"), Value::Null)
        .await
        .error();
    assert_eq!(
        (status, &*kind, &*message),
        (
            404,
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function"
        )
    );
    assert_eq!(
        face.ask("PUT", &provisioned("1"), wish.clone())
            .await
            .status,
        202
    );
    let (status, _, message) = face
        .ask("PUT", &provisioned("live"), wish.clone())
        .await
        .error();
    assert_eq!(
        (status, &*message),
        (
            409,
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
        )
    );
    assert_eq!(
        face.ask("DELETE", &provisioned("1"), Value::Null)
            .await
            .status,
        204
    );

    let account = face.world.control.deploy.account_concurrency;
    let least = face.world.control.deploy.unreserved_least;
    for (wanted, message) in [
        (json!(0), "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1".to_owned()),
        (json!(account + 1), format!("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{account}].")),
        (json!(account), format!("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{least}].")),
    ] {
        let wish = json!({ "ProvisionedConcurrentExecutions": wanted });
        let refused = face.ask("PUT", &provisioned("1"), wish).await.error();
        assert_eq!((refused.0, refused.2), (400, message));
    }
    let reserved = "/2017-10-31/functions/f/concurrency";
    let one = json!({"ReservedConcurrentExecutions": 1});
    assert_eq!(face.ask("PUT", reserved, one).await.status, 200);
    let refused = face
        .ask("PUT", &provisioned("1"), wish.clone())
        .await
        .error();
    assert_eq!(
        refused.2,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    );
}

#[tokio::test]
async fn what_is_provisioned_has_to_be_published() {
    let face = face(config::Aws::default()).await;
    let wish = json!({"ProvisionedConcurrentExecutions": 1});
    let absent =
        |name: &str, qualifier: &str| provisioned(qualifier).replace("/f/", &format!("/{name}/"));
    for (method, body) in [
        ("PUT", &wish),
        ("GET", &Value::Null),
        ("DELETE", &Value::Null),
    ] {
        for (name, qualifier, message) in [
            (
                "f",
                "nobody",
                format!("Cannot find alias arn: {ARN}:f:nobody"),
            ),
            ("f", "7", format!("Function not found: {ARN}:f:7")),
            (
                "nobody",
                "live",
                format!("Cannot find alias arn: {ARN}:nobody:live"),
            ),
            ("nobody", "1", format!("Function not found: {ARN}:nobody:1")),
        ] {
            let refused = face
                .ask(method, &absent(name, qualifier), body.clone())
                .await
                .error();
            let wanted = (404, "ResourceNotFoundException".to_owned(), message);
            assert_eq!(refused, wanted, "{method}");
        }
        let latest = face
            .ask(method, &provisioned("%24LATEST"), body.clone())
            .await
            .error();
        let message = match method {
            "PUT" => {
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
            }
            _ => "The function resource provided must be an alias or a published version.",
        };
        assert_eq!(
            (latest.0, &*latest.1, &*latest.2),
            (400, "InvalidParameterValueException", message)
        );
        let unqualified = "/2019-09-30/functions/f/provisioned-concurrency";
        let refused = face.ask(method, unqualified, body.clone()).await.error();
        assert_eq!(
            refused.2,
            "1 validation error detected: Value null at 'qualifier' failed to satisfy constraint: Member must not be null"
        );
    }
}

#[tokio::test]
async fn versions_are_listed_with_their_functions() {
    let face = face(config::Aws::default()).await;
    let list = "/2015-03-31/functions?FunctionVersion=ALL";
    let wanted = ["f:$LATEST", "f:1", "other:$LATEST"].map(|name| format!("{ARN}:{name}"));
    let (mut found, mut target) = (Vec::new(), format!("{list}&MaxItems=1"));
    loop {
        let page = face.ask("GET", &target, Value::Null).await.json();
        let items = page["Functions"].as_array().expect("a list");
        found.extend(items.iter().map(|item| item["FunctionArn"].clone()));
        let Some(marker) = page["NextMarker"].as_str() else {
            break;
        };
        target = format!("{list}&MaxItems=1&Marker={marker}");
    }
    assert_eq!(found, wanted);
    let bare = "/2015-03-31/functions?MaxItems=1";
    let page = face.ask("GET", bare, Value::Null).await.json();
    assert_eq!(page["Functions"][0]["FunctionArn"], format!("{ARN}:f"));
    let marker = page["NextMarker"].as_str().expect("there is more");
    let rest = format!("{bare}&Marker={marker}");
    let rest = face.ask("GET", &rest, Value::Null).await.json();
    assert_eq!(rest["Functions"][0]["FunctionArn"], format!("{ARN}:other"));
    assert!(rest.get("NextMarker").is_none());
    let other = "/2015-03-31/functions?FunctionVersion=invalid";
    let refused = face.ask("GET", other, Value::Null).await.error();
    assert_eq!(
        refused.2,
        "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"
    );
}

#[tokio::test]
async fn what_is_none_of_a_kind_is_not_passed_over() {
    let face = face(config::Aws::default()).await;
    let least = json!({"ReservedConcurrentExecutions": -1});
    let refused = face
        .ask("PUT", "/2017-10-31/functions/f/concurrency", least)
        .await;
    assert_eq!(
        refused.error().2,
        "1 validation error detected: Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 0"
    );
    let f = "/2015-03-31/functions/f";
    let many = vec!["subnet-1"; 17];
    for (method, path, body, kind) in [
        (
            "PUT",
            "/aliases/live",
            json!({"RoutingConfig": {"AdditionalVersionWeights": ["1"]}}),
            "SerializationException",
        ),
        (
            "PUT",
            "/configuration",
            json!({"VpcConfig": {"SubnetIds": many}}),
            "ValidationException",
        ),
        (
            "PUT",
            "/code",
            json!({"ZipFile": "UEs=", "S3Bucket": "bucket"}),
            "InvalidParameterValueException",
        ),
        (
            "GET",
            "/aliases?FunctionVersion=live",
            Value::Null,
            "ValidationException",
        ),
    ] {
        let answer = face.ask(method, &format!("{f}{path}"), body).await;
        let said = answer.headers.get("x-amzn-errortype");
        let said = said.map(|kind| kind.to_str().expect("is text"));
        assert_eq!((answer.status, said), (400, Some(kind)), "{path}");
    }
}
