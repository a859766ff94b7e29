//! Code signing configurations: kept as they are written, and code that is deployed is held to them, on both faces.

use super::*;

const CONFIGS: &str = "/2020-04-22/code-signing-configs/";
const PROFILE: &str = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/v";
/// Of none that there is.
const NOWHERE: &str =
    "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdefg";

fn wish(policy: &str) -> Value {
    json!({
        "AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": policy},
    })
}

fn of_function(name: &str) -> String {
    format!("/2020-06-30/functions/{name}/code-signing-config")
}

fn at(arn: &str, rest: &str) -> String {
    format!("{CONFIGS}{}{rest}", arn.replace(':', "%3A"))
}

impl Face {
    /// The ARN of a new configuration.
    pub(super) async fn signing(&self, policy: &str) -> String {
        let made = self.ask("POST", CONFIGS, wish(policy)).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let arn = &made.json()["CodeSigningConfig"]["CodeSigningConfigArn"];
        arn.as_str().expect("a text").to_owned()
    }

    pub(super) async fn give(&self, name: &str, arn: &str) -> Answer {
        let wish = json!({ "CodeSigningConfigArn": arn });
        self.ask("PUT", &of_function(name), wish).await
    }
}

#[tokio::test]
async fn a_configuration_is_shown_as_it_was_written() {
    let face = Face::new();
    let made = face.ask("POST", CONFIGS, wish("Enforce")).await.json();
    let config = &made["CodeSigningConfig"];
    let arn = config["CodeSigningConfigArn"].as_str().expect("a text");
    let id = config["CodeSigningConfigId"].as_str().expect("a text");
    assert_eq!(
        arn,
        format!("arn:aws:lambda:us-east-1:000000000000:code-signing-config:{id}")
    );
    assert_eq!(
        config["AllowedPublishers"],
        json!({"SigningProfileVersionArns": [PROFILE]})
    );
    assert!(config.get("Description").is_none());
    let got = face.ask("GET", &at(arn, ""), Value::Null).await;
    assert_eq!((got.status, got.json()), (200, made.clone()));

    // What is not said stays.
    let described = face
        .ask("PUT", &at(arn, ""), json!({"Description": "mine"}))
        .await
        .json();
    let now = &described["CodeSigningConfig"];
    assert_eq!(now["Description"], "mine");
    assert_eq!(
        now["CodeSigningPolicies"],
        json!({"UntrustedArtifactOnDeployment": "Enforce"})
    );
    let warns = json!({
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
        "AllowedPublishers": {"SigningProfileVersionArns": [PROFILE, PROFILE]},
    });
    let changed = face.ask("PUT", &at(arn, ""), warns).await;
    assert_eq!(changed.status, 200);
    let now = &changed.json()["CodeSigningConfig"];
    assert_eq!(
        (&now["Description"], &now["CodeSigningPolicies"]),
        (
            &json!("mine"),
            &json!({"UntrustedArtifactOnDeployment": "Warn"})
        )
    );
    // Where nothing is said of it, it warns.
    let bare = json!({"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}});
    let bare = face.ask("POST", CONFIGS, bare).await.json();
    assert_eq!(
        bare["CodeSigningConfig"]["CodeSigningPolicies"],
        json!({"UntrustedArtifactOnDeployment": "Warn"})
    );

    // Pages have all of them, once.
    face.signing("Warn").await;
    let (mut seen, mut target) = (Vec::new(), format!("{CONFIGS}?MaxItems=2"));
    loop {
        let page = face.ask("GET", &target, Value::Null).await.json();
        let configs = page["CodeSigningConfigs"].as_array().expect("a list");
        let ids = configs.iter().map(|c| c["CodeSigningConfigId"].to_string());
        seen.extend(ids);
        match page["NextMarker"].as_str() {
            Some(marker) => target = format!("{CONFIGS}?MaxItems=2&Marker={marker}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted() && seen.iter().any(|seen| seen.contains(id)));

    let gone = face.ask("DELETE", &at(arn, ""), Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let words = format!("The Lambda code signing configuration {arn} can not be found.");
    for (method, rest) in [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", "/functions"),
    ] {
        let refused = face.ask(method, &at(arn, rest), Value::Null).await.error();
        let wanted = (404, "ResourceNotFoundException".to_owned(), words.clone());
        assert_eq!(refused, wanted, "{method} {rest}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_is_said_and_changes_nothing() {
    let face = Face::new();
    let arn = face.signing("Warn").await;
    let before = face.ask("GET", &at(&arn, ""), Value::Null).await.json();
    let publishers =
        |arns: Value| json!({"AllowedPublishers": {"SigningProfileVersionArns": arns}});
    for (wish, words) in [
        (
            publishers(json!([])),
            "at 'allowedPublishers.signingProfileVersionArns' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            publishers(json!(vec![PROFILE; 21])),
            "Member must have length less than or equal to 20",
        ),
        (
            publishers(json!(["p"])),
            "Value '[p]' at 'allowedPublishers.signingProfileVersionArns' failed to satisfy constraint: Member must satisfy constraint: [",
        ),
        (
            publishers(json!([PROFILE, null])),
            "Member must not be null]",
        ),
        (
            json!({"AllowedPublishers": {}}),
            "Value null at 'allowedPublishers.signingProfileVersionArns'",
        ),
        (
            json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Ask"}}),
            "at 'codeSigningPolicies.untrustedArtifactOnDeployment' failed to satisfy constraint: Member must satisfy enum value set: [Warn, Enforce]",
        ),
        (
            json!({"Description": "d".repeat(257)}),
            "at 'description' failed to satisfy constraint: Member must have length less than or equal to 256",
        ),
    ] {
        for (method, target) in [("PUT", at(&arn, "")), ("POST", CONFIGS.to_owned())] {
            let (status, kind, message) = face.ask(method, &target, wish.clone()).await.error();
            assert_eq!((status, kind.as_str()), (400, "ValidationException"));
            assert!(message.contains(words), "{method} {wish}: {message}");
        }
    }
    let (status, _, message) = face.ask("POST", CONFIGS, json!({})).await.error();
    assert_eq!(status, 400);
    assert!(
        message.contains("Value null at 'allowedPublishers'"),
        "{message}"
    );
    for odd in [
        json!({"AllowedPublishers": []}),
        json!({"CodeSigningPolicies": "Warn"}),
    ] {
        let kind = face.ask("PUT", &at(&arn, ""), odd).await.error().1;
        assert_eq!(kind, "SerializationException");
    }
    let bad = face.ask("GET", &at("x", ""), Value::Null).await.error();
    assert_eq!((bad.0, bad.1.as_str()), (400, "ValidationException"));
    // Of another region, or another account, there are none here.
    for elsewhere in [
        arn.replace("us-east", "eu-west"),
        arn.replace("000000000000", "123456789012"),
    ] {
        assert_eq!(
            face.ask("GET", &at(&elsewhere, ""), Value::Null)
                .await
                .status,
            404
        );
    }
    let all = face.ask("GET", CONFIGS, Value::Null).await.json();
    assert_eq!(all["CodeSigningConfigs"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        face.ask("GET", &at(&arn, ""), Value::Null).await.json(),
        before
    );
}

#[tokio::test]
async fn a_function_has_one_and_keeps_it() {
    let face = Face::new();
    let arn = face.signing("Warn").await;
    face.create("f", json!({})).await;
    face.create("g", json!({ "CodeSigningConfigArn": arn }))
        .await;
    let missing = |arn: &str| {
        let words = format!(
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
        );
        (404, "CodeSigningConfigNotFoundException".to_owned(), words)
    };
    // As on AWS, the configuration is looked for first.
    for name in ["f", "nobody"] {
        assert_eq!(face.give(name, NOWHERE).await.error(), missing(NOWHERE));
    }
    let nobody = face.give("nobody", &arn).await.error();
    let words = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody";
    assert_eq!(
        nobody,
        (404, "ResourceNotFoundException".into(), words.into())
    );
    let made = face
        .create("h", json!({ "CodeSigningConfigArn": NOWHERE }))
        .await;
    assert_eq!(made.error(), missing(NOWHERE));
    assert_eq!(
        face.give("f:live", &arn).await.status,
        400,
        "an alias has none"
    );

    let given = face.give("f", &arn).await;
    let shown = json!({"CodeSigningConfigArn": arn, "FunctionName": "f"});
    assert_eq!((given.status, given.json()), (200, shown.clone()));
    let listed = |page: Answer| page.json()["FunctionArns"].clone();
    let functions = at(&arn, "/functions");
    let first = face
        .ask("GET", &format!("{functions}?MaxItems=1"), Value::Null)
        .await;
    let marker = first.json()["NextMarker"]
        .as_str()
        .expect("more")
        .to_owned();
    assert_eq!(
        listed(first)[0],
        "arn:aws:lambda:us-east-1:000000000000:function:f"
    );
    let rest = format!("{functions}?Marker={marker}");
    let rest = face.ask("GET", &rest, Value::Null).await;
    assert!(rest.json().get("NextMarker").is_none());
    assert_eq!(
        listed(rest),
        json!(["arn:aws:lambda:us-east-1:000000000000:function:g"])
    );

    // Whatever else is written of the function, on either face, and whatever is published of it.
    let target = "/2015-03-31/functions/f/configuration";
    let written = face.ask("PUT", target, json!({"Timeout": 9})).await;
    assert_eq!(written.status, 200);
    let native = face.world.put("/functions/f", json!({"timeout": 8})).await;
    assert_eq!(native.status, 200);
    let publish = "/2015-03-31/functions/f/versions";
    assert_eq!(face.ask("POST", publish, json!({})).await.status, 201);
    let got = face.ask("GET", &of_function("f"), Value::Null).await;
    assert_eq!(got.json(), shown);

    let (status, kind, message) = face.ask("DELETE", &at(&arn, ""), Value::Null).await.error();
    assert_eq!((status, kind.as_str()), (409, "ResourceConflictException"));
    assert!(message.contains(&arn), "{message}");
    for _ in 0..2 {
        let gone = face.ask("DELETE", &of_function("f"), Value::Null).await;
        assert_eq!((gone.status, gone.body.len()), (204, 0));
    }
    let none = face.ask("GET", &of_function("f"), Value::Null).await;
    assert_eq!((none.status, none.json()), (200, json!({})));
    let delete = "/2015-03-31/functions/g";
    assert_eq!(face.ask("DELETE", delete, Value::Null).await.status, 204);
    let gone = face.ask("DELETE", &at(&arn, ""), Value::Null).await;
    assert_eq!(gone.status, 204, "nobody has it: {:?}", gone.body);
}

#[tokio::test]
async fn code_is_held_to_it_on_both_faces() {
    let face = Face::new();
    let arn = face.signing("Enforce").await;
    let zip = |text: &str| json!({ "ZipFile": super::zip(text) });
    let refused = |answer: Answer, name: &str| {
        let words = format!(
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for {name}."
        );
        let wanted = (400, "CodeVerificationFailedException".to_owned(), words);
        assert_eq!(answer.error(), wanted);
    };
    refused(
        face.create("f", json!({ "CodeSigningConfigArn": arn }))
            .await,
        "f",
    );
    assert!(face.world.scheduler.find("f").is_none());
    face.create("f", json!({})).await;
    assert_eq!(face.give("f", &arn).await.status, 200);
    let code = || {
        face.world
            .scheduler
            .find("f")
            .expect("is there")
            .function
            .code
            .sha256
            .clone()
    };
    let before = code();
    let target = "/2015-03-31/functions/f/code";
    refused(face.ask("PUT", target, zip("other")).await, "f");
    let mut dry = zip("other");
    dry["DryRun"] = true.into();
    refused(face.ask("PUT", target, dry).await, "f");
    // What the other face is given is code as well.
    let native = face
        .world
        .put("/functions/f", json!({"code": "say other"}))
        .await;
    assert_eq!(
        (native.status.as_u16(), native.fields()),
        (400, vec!["code".to_owned()])
    );
    assert_eq!(native.json()["error"]["code"], "code_not_signed");
    // So are layers, but not those it has already.
    let content = json!({"Content": {"ZipFile": super::zip("layer")}});
    let layer = face
        .ask("POST", "/2018-10-31/layers/l/versions", content)
        .await;
    assert_eq!(layer.status, 201);
    let layer = layer.json()["LayerVersionArn"].clone();
    let settings = "/2015-03-31/functions/f/configuration";
    refused(
        face.ask("PUT", settings, json!({ "Layers": [layer] }))
            .await,
        "f",
    );
    let native = face
        .world
        .put("/functions/f", json!({"layers": ["l:1"]}))
        .await;
    assert_eq!(
        (native.status.as_u16(), native.fields()),
        (400, vec!["layers".to_owned()])
    );
    assert_eq!(code(), before);
    // What is no code is written.
    let other = face
        .ask("PUT", settings, json!({"Timeout": 9, "Layers": []}))
        .await;
    assert_eq!(other.status, 200, "{:?}", other.body);

    // It holds from the moment it is another.
    let warns = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"}});
    assert_eq!(face.ask("PUT", &at(&arn, ""), warns).await.status, 200);
    let taken = face.ask("PUT", target, zip("other")).await;
    assert_eq!(taken.status, 200, "{:?}", taken.body);
    assert_ne!(code(), before);
    let taken = face
        .ask("PUT", settings, json!({ "Layers": [layer] }))
        .await;
    assert_eq!(taken.status, 200, "{:?}", taken.body);
    let enforces = json!({"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}});
    assert_eq!(face.ask("PUT", &at(&arn, ""), enforces).await.status, 200);
    refused(face.ask("PUT", target, zip("third")).await, "f");
    let same = face
        .ask("PUT", settings, json!({ "Layers": [layer] }))
        .await;
    assert_eq!(same.status, 200, "it has it already: {:?}", same.body);
    assert_eq!(
        face.ask("DELETE", &of_function("f"), Value::Null)
            .await
            .status,
        204
    );
    let free = face.ask("PUT", target, zip("third")).await;
    assert_eq!(free.status, 200, "{:?}", free.body);
}

#[tokio::test]
async fn code_that_is_watched_is_held_to_it() {
    let face = Face::new();
    let arn = face.signing("Enforce").await;
    let directory = face.world.dir.path().join("sources/f");
    std::fs::create_dir_all(&directory).expect("made");
    let save = |text: &str| std::fs::write(directory.join("app.txt"), text).expect("written");
    save("1");
    let function = json!({
        "name": "f", "language": "runic", "handler": "app.handler", "code_path": directory,
    });
    let made = face.world.post("/functions/", function).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(face.give("f", &arn).await.status, 200);
    let id = face
        .world
        .scheduler
        .find("f")
        .expect("is there")
        .function
        .id
        .clone();
    let refresh = async || face.world.control.deploy.refresh(&id).await;
    assert!(!refresh().await.expect("it is the same"));
    save("2");
    let refused = refresh().await.expect_err("it is not signed");
    assert!(
        refused.to_string().contains("enforces signatures"),
        "{refused}"
    );
    assert_eq!(
        face.ask("DELETE", &of_function("f"), Value::Null)
            .await
            .status,
        204
    );
    assert!(refresh().await.expect("it is taken"));
}

#[tokio::test]
async fn who_changes_one_decides_for_all() {
    let mut face = Face::new();
    let arn = face.signing("Warn").await;
    face.create("orders", json!({})).await;
    face.create("mail", json!({ "CodeSigningConfigArn": arn }))
        .await;
    let wish = Wish {
        scopes: vec![Scope::Deploy],
        functions: vec![Pattern::parse("orders*").expect("a pattern")],
        ..Wish::admin()
    };
    face.caller = signer(&face.world, &face.world.keys, wish);
    let tags = format!("/2017-03-31/tags/{}", arn.replace(':', "%3A"));
    for (method, target, body) in [
        ("POST", CONFIGS.to_owned(), super::signing::wish("Warn")),
        ("PUT", at(&arn, ""), json!({})),
        ("DELETE", at(&arn, ""), Value::Null),
        ("POST", tags.clone(), json!({"Tags": {"a": "b"}})),
        ("DELETE", format!("{tags}?tagKeys=a"), Value::Null),
        (
            "PUT",
            of_function("mail"),
            json!({ "CodeSigningConfigArn": arn }),
        ),
        ("DELETE", of_function("mail"), Value::Null),
    ] {
        let (status, kind, _) = face.ask(method, &target, body).await.error();
        let wanted = (403, "AccessDeniedException");
        assert_eq!((status, kind.as_str()), wanted, "{method} {target}");
    }
    // It may see them, and give one to what is its own.
    assert_eq!(
        face.ask("GET", &at(&arn, ""), Value::Null).await.status,
        200
    );
    assert_eq!(face.ask("GET", &tags, Value::Null).await.status, 200);
    assert_eq!(face.give("orders", &arn).await.status, 200);
    let listed = face
        .ask("GET", &at(&arn, "/functions"), Value::Null)
        .await
        .json();
    let own = "arn:aws:lambda:us-east-1:000000000000:function:orders";
    assert_eq!(listed["FunctionArns"], json!([own]));
}

#[tokio::test]
async fn one_has_tags() {
    let face = Face::new();
    let mut tagged = wish("Warn");
    tagged["Tags"] = json!({"team": "a"});
    let made = face.ask("POST", CONFIGS, tagged).await.json();
    let arn = made["CodeSigningConfig"]["CodeSigningConfigArn"]
        .as_str()
        .expect("a text");
    let target = format!("/2017-03-31/tags/{}", arn.replace(':', "%3A"));
    let tags = async || face.ask("GET", &target, Value::Null).await.json()["Tags"].clone();
    assert_eq!(tags().await, json!({"team": "a"}));
    let more = json!({"Tags": {"stage": "b"}});
    assert_eq!(face.ask("POST", &target, more).await.status, 204);
    assert_eq!(tags().await, json!({"team": "a", "stage": "b"}));
    let many: serde_json::Map<_, _> = (0..49).map(|n| (n.to_string(), json!("x"))).collect();
    let many = face
        .ask("POST", &target, json!({ "Tags": many }))
        .await
        .error();
    assert_eq!(many.2, "Number of tags exceeds resource tag limit.");
    let fewer = format!("{target}?tagKeys=team&tagKeys=nothing");
    assert_eq!(face.ask("DELETE", &fewer, Value::Null).await.status, 204);
    assert_eq!(tags().await, json!({"stage": "b"}));
    let nowhere = format!("/2017-03-31/tags/{}", NOWHERE.replace(':', "%3A"));
    for (method, target, body) in [
        ("GET", nowhere.clone(), Value::Null),
        ("POST", nowhere.clone(), json!({"Tags": {"a": "b"}})),
        ("DELETE", format!("{nowhere}?tagKeys=a"), Value::Null),
    ] {
        assert_eq!(
            face.ask(method, &target, body).await.status,
            404,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_store_that_fails_is_said_and_counts_for_nothing() {
    use crate::api::control::world::Plan;
    let face = Face::new();
    let arn = face.signing("Warn").await;
    let plan = |plan| face.world.store.plan([plan]);
    plan(Plan::FailUnwritten);
    let failed = face.ask("POST", CONFIGS, wish("Warn")).await.error();
    assert_eq!((failed.0, failed.1.as_str()), (500, "ServiceException"));
    plan(Plan::FailUnwritten);
    let warns = json!({"Description": "never"});
    assert_eq!(face.ask("PUT", &at(&arn, ""), warns).await.status, 500);
    plan(Plan::FailUnwritten);
    assert_eq!(
        face.ask("DELETE", &at(&arn, ""), Value::Null).await.status,
        500
    );
    let all = face.ask("GET", CONFIGS, Value::Null).await.json();
    let all = all["CodeSigningConfigs"].as_array().expect("a list");
    assert!(all.len() == 1 && all[0].get("Description").is_none());
}
