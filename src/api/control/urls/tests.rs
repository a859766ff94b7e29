//! Function URLs over the whole face. What is answered at them, `api::lambda::urls` has tests for.

use serde_json::json;

use crate::api::control::world::World;

const PATH: &str = "/functions/f/urls";

async fn world() -> World {
    let world = World::empty();
    world.create("f").await;
    let alias = json!({"name": "live", "version": "$LATEST"});
    let made = world.post("/functions/f/aliases", alias).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    world
}

#[tokio::test]
async fn a_url_is_made_changed_and_deleted() {
    let world = world().await;
    let cors = json!({"allow_credentials": true, "allow_origins": ["https://a.example", "<b>"], "allow_methods": ["GET"],
        "allow_headers": ["x-a"], "expose_headers": ["x-b"], "max_age": 60});
    let wish = json!({"auth_type": "NONE", "cors": cors});
    let made = world.put(PATH, wish).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let made = made.json();
    assert_eq!(made["qualifier"], "$LATEST");
    assert_eq!(made["invoke_mode"], "BUFFERED");
    assert_eq!(made["cors"], cors);
    let id = made["url"].as_str().and_then(|url| url.split('/').nth(2));
    assert!(world.scheduler.at_url(id.expect("an id")).is_some());
    // What is left out stays, and so does the address.
    let wish = json!({"invoke_mode": "RESPONSE_STREAM", "cors": {"allow_origins": ["*"]}});
    let changed = world.put(PATH, wish).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    let changed = changed.json();
    assert_eq!(
        (&changed["auth_type"], &changed["url"]),
        (&json!("NONE"), &made["url"])
    );
    assert_eq!(changed["cors"], json!({"allow_origins": ["*"]}));
    let wish = json!({"auth_type": "AWS_IAM", "cors": null});
    let signed = world.put(PATH, wish).await.json();
    assert_eq!(signed["cors"], json!(null));
    assert_eq!(signed["invoke_mode"], "RESPONSE_STREAM");

    // An alias has one of its own.
    let live = format!("{PATH}?qualifier=live");
    let made = world.put(&live, json!({"auth_type": "NONE"})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let listed = world.get(PATH).await.json()["items"].clone();
    assert_eq!(listed, json!([signed, made.json()]));
    let function = world.get("/functions/f").await.json();
    assert_eq!(function["function_urls"], listed, "the same");

    for path in [PATH, &live] {
        assert_eq!(world.delete(path).await.status, 204);
        assert_eq!(world.delete(path).await.status, 404);
    }
    assert!(world.scheduler.at_url(id.expect("an id")).is_none());
    assert_eq!(world.get(PATH).await.json(), json!({"items": []}));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = world().await;
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    for (body, fields) in [
        (json!({}), vec!["auth_type"]),
        (json!({"auth_type": "none"}), vec!["auth_type"]),
        (json!({"auth_type": null}), vec!["auth_type"]),
        (
            json!({"auth_type": "NONE", "invoke_mode": "STREAM", "colour": 1}),
            vec!["invoke_mode", "colour"],
        ),
        (json!({"auth_type": "NONE", "cors": "*"}), vec!["cors"]),
        (
            json!({"auth_type": "NONE", "cors": {"allow_origins": "*", "allow_methods": ["PROPFIND"], "allow_headers": [""],
                "expose_headers": many, "allow_credentials": "yes", "max_age": 86401, "more": 1}}),
            vec![
                "cors.allow_origins",
                "cors.allow_methods",
                "cors.allow_headers",
                "cors.expose_headers",
                "cors.allow_credentials",
                "cors.max_age",
                "cors.more",
            ],
        ),
    ] {
        let refused = world.put(PATH, body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {:?}", refused.body);
        assert_eq!(refused.fields(), fields, "{body}");
    }
    for qualifier in ["1", "a%20b", "%24LATEST%20"] {
        let path = format!("{PATH}?qualifier={qualifier}");
        let refused = world.put(&path, json!({"auth_type": "NONE"})).await;
        assert_eq!(refused.fields(), ["qualifier"], "{qualifier}");
    }
    for path in [
        "/functions/nobody/urls",
        "/functions/f/urls?qualifier=nobody",
    ] {
        let missing = world.put(path, json!({"auth_type": "NONE"})).await;
        assert_eq!(missing.status, 404, "{path}");
        assert_eq!(world.delete(path).await.status, 404, "{path}");
    }
    assert_eq!(world.get(PATH).await.json(), json!({"items": []}));
}
