//! Versions and aliases over the whole face: what is published stays as it is, and a call runs what it named.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Request;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::control::world::{DEADLINE, Plan, World};
use crate::domain::id::FunctionId;
use crate::domain::key::{Grant, Scope, Wish};
use crate::domain::pattern::Pattern;
use crate::store::change::{Change, News};
use crate::store::versions::Versions;

/// A function with published versions whose code is `one`, `two` and so on.
async fn published(world: &World, name: &str, codes: &[&str]) {
    world.create(name).await;
    for code in codes {
        let path = format!("/functions/{name}");
        let changed = world.put(&path, json!({ "code": code })).await;
        assert_eq!(changed.status, 200, "{:?}", changed.body);
        let made = world.post(&format!("{path}/versions"), json!({})).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
    }
}

/// The code that ran, and what the answer says of it.
async fn ran(world: &World, called: &str) -> (String, String) {
    let path = match called.split_once('?') {
        Some((name, query)) => format!("/functions/{name}/execute?{query}"),
        None => format!("/functions/{called}/execute"),
    };
    let answer = world.post(&path, json!("code")).await;
    assert_eq!(answer.status, 200, "{called}: {:?}", answer.body);
    let version = answer.headers["x-amz-executed-version"].to_str();
    let code = answer.json().as_str().expect("a text").to_owned();
    (code, version.expect("text").to_owned())
}

#[tokio::test]
async fn the_code_of_a_version_is_what_it_was() {
    let world = World::empty();
    published(&world, "f", &["one", "two"]).await;
    let now = world.get("/functions/f/code").await.body;
    let one = world.get("/functions/f/code?version=1").await;
    assert_eq!(one.status, 200);
    assert_ne!(one.body, now);
    assert_eq!(world.get("/functions/f/code?version=2").await.body, now);
    let gone = world.get("/functions/f/code?version=3").await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["error"]["code"], "not_found");
    for (query, field) in [
        ("version=0", "version"),
        ("version=x", "version"),
        ("what=1", "what"),
    ] {
        let wrong = world.get(&format!("/functions/f/code?{query}")).await;
        assert_eq!(
            (wrong.status.as_u16(), wrong.fields()),
            (400, vec![field.to_owned()]),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_version_is_published_called_and_deleted() {
    let world = World::empty();
    let f = world.create("f").await;
    let versions = "/functions/f/versions";
    assert_eq!(world.get(versions).await.json()["items"], json!([]));
    let made = world
        .post(versions, json!({"description": "the first"}))
        .await;
    assert_eq!(made.status, 201);
    let id = f["id"].as_str().expect("an id");
    assert_eq!(
        made.headers["location"],
        format!("/functions/{id}/versions/1")
    );
    let one = made.json();
    for (field, value) in [
        ("number", json!(1)),
        ("description", json!("the first")),
        ("code", f["code"].clone()),
        ("handler", f["handler"].clone()),
        ("function_revision", json!(1)),
        ("revision", json!(1)),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    // The same again is the same one; nothing at all is as good as an empty object.
    for body in ["", "{}", r#"{"description": "another"}"#] {
        let again = world.ask("POST", versions, body).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, one.clone()));
    }
    let changed = world.put("/functions/f", json!({"code": "two"})).await;
    assert_eq!(changed.status, 200);
    assert_eq!(ran(&world, "f").await, ("two".into(), "$LATEST".into()));
    assert_eq!(
        ran(&world, "f:1").await,
        ("say what came".into(), "1".into())
    );
    assert_eq!(world.post(versions, json!({})).await.json()["number"], 2);
    for called in [
        "f?qualifier=2",
        "f:2",
        "f:2?qualifier=2",
        &format!("{id}:2"),
    ] {
        assert_eq!(ran(&world, called).await, ("two".into(), "2".into()));
    }
    for called in ["f:$LATEST", "f?qualifier=%24LATEST"] {
        assert_eq!(ran(&world, called).await.1, "$LATEST", "{called}");
    }
    let page = world.get(&format!("{versions}?limit=1")).await.json();
    assert_eq!((&page["items"][0], &page["next"]), (&one, &json!("1")));
    let page = world.get(&format!("{versions}?cursor=1")).await.json();
    assert_eq!(page["items"][0]["number"], 2);
    assert_eq!(page["next"], json!(null));
    assert_eq!(world.get(&format!("{versions}/1")).await.json(), one);

    assert_eq!(world.delete(&format!("{versions}/1")).await.status, 204);
    for (method, path) in [("GET", "versions/1"), ("DELETE", "versions/1")] {
        let gone = world.ask(method, &format!("/functions/f/{path}"), "").await;
        assert_eq!(gone.status, 404, "{method}");
    }
    let gone = world.post("/functions/f:1/execute", json!("code")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(world.delete("/functions/f").await.status, 204);
    let gone = world.post("/functions/f:2/execute", json!("code")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(world.scheduler.targets().len(), 0);
    let heads = world.store.heads().await.expect("can be listed");
    assert!(heads.is_empty(), "{heads:?}");
}

#[tokio::test]
async fn a_version_knows_itself_whatever_it_shares() {
    let world = World::empty();
    published(&world, "f", &["same"]).await;
    let described = world.put("/functions/f", json!({"description": "d"})).await;
    assert_eq!(described.status, 200);
    let second = world.post("/functions/f/versions", json!({})).await;
    assert_eq!(second.json()["number"], 2);
    for name in ["live", "L-2"] {
        let alias = json!({"name": name, "version": "2"});
        let made = world.post("/functions/f/aliases", alias).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
    }
    let arn = "arn:aws:lambda:us-east-1:000000000000:function";
    let invoked = |arn: &str| json!({ "invoked_function_arn": arn });
    // More than once, so that idle workers of all of them are there.
    for _ in 0..3 {
        for (called, version, own, context) in [
            ("f", "$LATEST", "f", Value::Null),
            (
                "f:$LATEST",
                "$LATEST",
                "f",
                invoked(&format!("{arn}:f:$LATEST")),
            ),
            ("f:1", "1", "f:1", Value::Null),
            ("f:2", "2", "f:2", Value::Null),
            ("f:live", "2", "f:2", invoked(&format!("{arn}:f:live"))),
            (
                "f?qualifier=L-2",
                "2",
                "f:2",
                invoked(&format!("{arn}:f:L-2")),
            ),
        ] {
            let (name, query) = called.split_once('?').unwrap_or((called, ""));
            let path = format!("/functions/{name}/execute?{query}");
            let told = world.post(&path, json!("who")).await.json();
            assert_eq!(told["version"], version, "{called}");
            assert_eq!(told["arn"], format!("{arn}:{own}"), "{called}");
            assert_eq!(told["context"], context, "{called}");
        }
    }
    let digest = |path: &str| {
        let path = format!("/functions/f{path}");
        let world = &world;
        async move { world.get(&path).await.json() }
    };
    let latest = digest("").await["version"].clone();
    let one = digest("/versions/1").await["digest"].clone();
    let two = digest("/versions/2").await["digest"].clone();
    assert!(latest != one && one != two && latest != two);
}

#[tokio::test]
async fn an_alias_is_made_moved_and_deleted() {
    let world = World::empty();
    published(&world, "f", &["one", "two"]).await;
    let aliases = "/functions/f/aliases";
    let made = world
        .post(aliases, json!({"name": "live", "version": "1"}))
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.headers["etag"], "\"1\"");
    let live = made.json();
    assert_eq!(live["second"], Value::Null);
    assert_eq!(world.get(&format!("{aliases}/live")).await.json(), live);
    assert_eq!(ran(&world, "f:live").await, ("one".into(), "1".into()));
    let again = world
        .post(aliases, json!({"name": "live", "version": "2"}))
        .await;
    assert_eq!(
        (again.status.as_u16(), again.fields()),
        (409, vec!["name".into()])
    );
    let held = world.delete("/functions/f/versions/1").await;
    assert_eq!(held.status, 409);
    assert_eq!(held.json()["error"]["code"], "version_in_use");

    let path = format!("{aliases}/live");
    let moved = world.put(&path, json!({"version": "2"})).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.json()["revision"]),
        (200, &json!(2))
    );
    assert_eq!(ran(&world, "f:live").await, ("two".into(), "2".into()));
    let late = world
        .put(&path, json!({"version": "1", "revision": 1}))
        .await;
    assert_eq!(
        (late.status.as_u16(), late.fields()),
        (409, vec!["revision".into()])
    );
    let request = |tag: &str| {
        let request = Request::builder().method("DELETE").uri(&path);
        let request = request.header("if-match", tag);
        world.answered(request.body("".into()).expect("a request"))
    };
    assert_eq!(request("\"1\"").await.status, 412);
    assert_eq!(request("nonsense").await.status, 412);
    assert_eq!(world.delete("/functions/f/versions/1").await.status, 204);
    assert_eq!(request("\"2\"").await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
    assert_eq!(world.delete(&path).await.status, 404);
    let gone = world.post("/functions/f:live/execute", json!("code")).await;
    assert_eq!(gone.status, 404);
    assert!(
        gone.json()["error"]["message"]
            .to_string()
            .contains("no version or alias"),
        "{:?}",
        gone.body
    );
    let latest = json!({"name": "edge", "version": "$LATEST"});
    assert_eq!(world.post(aliases, latest).await.status, 201);
    assert_eq!(
        ran(&world, "f:edge").await,
        ("two".into(), "$LATEST".into())
    );
    let listed = world.get(aliases).await.json();
    assert_eq!(listed["items"][0]["name"], "edge");
}

#[tokio::test]
async fn what_is_wrong_is_said_by_field_and_nothing_is_done() {
    let world = World::empty();
    published(&world, "f", &["one", "two"]).await;
    let alias = json!({"name": "live", "version": "1"});
    world.post("/functions/f/aliases", alias).await;
    let hash = "0".repeat(64);
    for (method, path, body, status, field) in [
        (
            "POST",
            "versions",
            json!({"description": 7}),
            400,
            "description",
        ),
        (
            "POST",
            "versions",
            json!({"code_sha256": "x"}),
            400,
            "code_sha256",
        ),
        (
            "POST",
            "versions",
            json!({"code_sha256": hash}),
            409,
            "code_sha256",
        ),
        ("POST", "versions", json!({"revision": 1}), 409, "revision"),
        (
            "POST",
            "versions",
            json!({"revision": "1"}),
            400,
            "revision",
        ),
        ("POST", "versions", json!({"what": 1}), 400, "what"),
        ("POST", "aliases", json!({"version": "1"}), 400, "name"),
        ("POST", "aliases", json!({"name": "a"}), 400, "version"),
        (
            "POST",
            "aliases",
            json!({"name": "7", "version": "1"}),
            400,
            "name",
        ),
        (
            "POST",
            "aliases",
            json!({"name": "a b", "version": "1"}),
            400,
            "name",
        ),
        (
            "POST",
            "aliases",
            json!({"name": "a", "version": 1}),
            400,
            "version",
        ),
        (
            "POST",
            "aliases",
            json!({"name": "a", "version": "x"}),
            400,
            "version",
        ),
        ("PUT", "aliases/live", json!({"second": 7}), 400, "second"),
        (
            "PUT",
            "aliases/live",
            json!({"second": {"version": "2", "weight": 1.5}}),
            400,
            "second",
        ),
        (
            "PUT",
            "aliases/live",
            json!({"second": {"version": "1", "weight": 0.5}}),
            400,
            "second",
        ),
        ("PUT", "aliases/live", json!({"name": "b"}), 400, "name"),
        ("GET", "versions?limit=0", json!(null), 400, "limit"),
        ("GET", "versions?cursor=x", json!(null), 400, "cursor"),
        ("GET", "aliases?cursor=a.b", json!(null), 400, "cursor"),
        ("GET", "aliases/%ff", json!(null), 400, "id"),
        ("GET", "versions/%ff", json!(null), 400, "id"),
    ] {
        let path = format!("/functions/f/{path}");
        let refused = world.ask(method, &path, body.to_string()).await;
        assert_eq!(refused.status, status, "{method} {path} {body}");
        assert_eq!(refused.fields(), [field], "{method} {path} {body}");
    }
    for (method, path, body) in [
        ("POST", "nobody/versions", json!({})),
        ("GET", "nobody/aliases", json!(null)),
        ("GET", "f/versions/9", json!(null)),
        ("GET", "f/versions/x", json!(null)),
        ("DELETE", "f/versions/$LATEST", json!(null)),
        ("GET", "f/aliases/none", json!(null)),
        ("PUT", "f/aliases/none", json!({"version": "1"})),
        ("PUT", "f/aliases/live", json!({"version": "9"})),
        ("POST", "f/aliases", json!({"name": "a", "version": "9"})),
        ("POST", "f:9/execute", json!({})),
        ("POST", "f:/execute", json!({})),
        ("POST", "f/execute?qualifier=none", json!({})),
        ("POST", "nobody:1/execute", json!({})),
    ] {
        let path = format!("/functions/{path}");
        let refused = world.ask(method, &path, body.to_string()).await;
        assert_eq!(refused.status, 404, "{method} {path}: {:?}", refused.body);
    }
    let differ = world.post("/functions/f:1/execute?qualifier=2", json!({}));
    let differ = differ.await;
    assert_eq!(
        (differ.status.as_u16(), differ.fields()),
        (400, vec!["qualifier".into()])
    );
    let published = world.scheduler.find("f").expect("is there");
    assert_eq!(published.published().revision(), 3, "nothing was changed");
}

#[tokio::test]
async fn an_alias_with_weights_sends_the_stated_share_and_never_anything_else() {
    let world = World::empty();
    published(&world, "f", &["one", "two", "three"]).await;
    let alias = json!({"name": "live", "version": "1", "second": {"version": "3", "weight": 0.25}});
    let made = world.post("/functions/f/aliases", alias).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let calls = 800;
    let mut counts = BTreeMap::<_, u32>::new();
    for _ in 0..calls {
        *counts.entry(ran(&world, "f:live").await).or_default() += 1;
    }
    let one = counts.remove(&("one".into(), "1".into())).unwrap_or(0);
    let three = counts.remove(&("three".into(), "3".into())).unwrap_or(0);
    assert!(counts.is_empty(), "{counts:?}");
    let expected = [(one, 0.75), (three, 0.25)];
    let chi: f64 = expected
        .iter()
        .map(|(count, share)| {
            let wanted = f64::from(calls) * share;
            (f64::from(*count) - wanted).powi(2) / wanted
        })
        .sum();
    // One degree of freedom; 24 is passed once in a million.
    assert!(chi < 24.0, "{one} and {three}");
    // And moved at once.
    let path = "/functions/f/aliases/live";
    let all = json!({"second": {"version": "3", "weight": 1.0}});
    assert_eq!(world.put(path, all).await.status, 200);
    for _ in 0..20 {
        assert_eq!(ran(&world, "f:live").await.1, "3");
    }
    assert_eq!(world.put(path, json!({"second": null})).await.status, 200);
    for _ in 0..20 {
        assert_eq!(ran(&world, "f:live").await.1, "1");
    }
}

#[tokio::test]
async fn versions_follow_the_functions_name_and_limits_and_keep_their_workers() {
    let world = World::empty();
    published(&world, "f", &["one"]).await;
    ran(&world, "f:1").await;
    let changes = [
        json!({"max_concurrency": 7}),
        json!({"max_concurrency": null, "reserved_concurrency": 5}),
        json!({"code": "two", "timeout": 9}),
    ];
    for change in changes {
        assert_eq!(world.put("/functions/f", change).await.status, 200);
        let answer = world.post("/functions/f:1/execute", json!("code")).await;
        assert_eq!(answer.json(), "one");
        assert_eq!(answer.headers["x-hearth-start"], "warm");
    }
    let refused = json!({"reserved_concurrency": 0});
    assert_eq!(world.put("/functions/f", refused).await.status, 200);
    let answer = world.post("/functions/f:1/execute", json!("code")).await;
    assert_eq!(answer.status, 429, "the limit is the function's");
    assert_eq!(
        answer.json()["error"]["reason"],
        "reserved_concurrency",
        "{:?}",
        answer.body
    );
    let renamed = json!({"name": "g", "reserved_concurrency": null});
    assert_eq!(world.put("/functions/f", renamed).await.status, 200);
    assert_eq!(ran(&world, "g:1").await, ("one".into(), "1".into()));
    let told = world.post("/functions/g:1/execute", json!("who")).await;
    assert!(told.json()["arn"].as_str().expect("text").ends_with(":g:1"));
    let gone = world.post("/functions/f:1/execute", json!("code")).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_restart_and_another_instance_have_the_same() {
    let first = World::empty();
    published(&first, "f", &["one", "two"]).await;
    let alias = json!({"name": "live", "version": "1"});
    first.post("/functions/f/aliases", alias).await;
    let over = |store| World::over(tempfile::tempdir().expect("temp dir"), store);
    let second = over(first.store.inner.clone());
    second.control.restore().await.expect("restored");
    assert_eq!(ran(&second, "f:live").await, ("one".into(), "1".into()));
    assert_eq!(ran(&second, "f:2").await, ("two".into(), "2".into()));

    let moved = json!({"version": "2"});
    let moved = first.put("/functions/f/aliases/live", moved).await;
    assert_eq!(moved.status, 200);
    let function = first.published("f").expect("is there");
    let revision = |world: &World| {
        let target = world.scheduler.find("f").expect("is there");
        target.published().revision()
    };
    let mut news = News::default();
    news.add(Change::Versions {
        id: function.id.clone(),
        revision: revision(&first),
    });
    assert_eq!(second.control.take_over(&news).await.expect("is read"), 1);
    assert_eq!(second.control.take_over(&news).await.expect("is read"), 0);
    assert_eq!(ran(&second, "f:live").await, ("two".into(), "2".into()));

    // Nobody said anything of this; a write that meets it takes it over.
    published(&first, "g", &["one"]).await;
    assert_eq!(first.delete("/functions/f/versions/1").await.status, 204);
    let alias = json!({"name": "new", "version": "2"});
    let made = second.post("/functions/f/aliases", alias).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(revision(&second), revision(&first) + 1);
    assert_eq!(second.get("/functions/f/versions/1").await.status, 404);
    // And whoever looks at everything finds all of it.
    let taken = |world: &World| {
        let control = world.control.clone();
        let everything = News::everything();
        async move { control.take_over(&everything).await.expect("reloaded") }
    };
    assert_eq!(taken(&second).await, 2, "the function and its version");
    assert_eq!(taken(&first).await, 1, "the alias");
    assert_eq!(revision(&second), revision(&first));
    assert_eq!(ran(&second, "g:1").await, ("one".into(), "1".into()));
    let unknown = Change::Versions {
        id: FunctionId::generate(),
        revision: 1,
    };
    let mut news = News::default();
    news.add(unknown);
    assert_eq!(first.control.take_over(&news).await.expect("is read"), 0);
}

#[tokio::test]
async fn a_store_that_fails_leaves_the_table_as_the_store_is() {
    let world = World::empty();
    published(&world, "f", &["one"]).await;
    let alias = |name: &str| json!({"name": name, "version": "1"});
    for (plan, name, there) in [
        (Plan::FailUnwritten, "a", 404),
        (Plan::FailWritten, "b", 200),
    ] {
        world.store.plan([plan]);
        let failed = world.post("/functions/f/aliases", alias(name)).await;
        assert_eq!(failed.status, 503, "{plan:?}");
        let path = format!("/functions/f/aliases/{name}");
        assert_eq!(world.get(&path).await.status, there, "{plan:?}");
        let called = format!("/functions/f:{name}/execute");
        assert_eq!(world.post(&called, json!({})).await.status, there);
    }
}

#[tokio::test]
async fn an_event_runs_the_version_it_was_accepted_for() {
    let world = World::empty();
    published(&world, "f", &["one", "two"]).await;
    let alias = json!({"name": "live", "version": "1"});
    world.post("/functions/f/aliases", alias).await;
    let submit = async |called: &str| {
        let path = format!("/functions/{called}/execute");
        let request = Request::builder().method("POST").uri(path);
        let request = request.header("x-amz-invocation-type", "Event");
        let request = request.body("\"code\"".into()).expect("a request");
        let answer = world.answered(request).await;
        (answer.status.as_u16(), answer)
    };
    let (status, accepted) = submit("f:live").await;
    assert_eq!(status, 202, "{:?}", accepted.body);
    assert_eq!(submit("f:none").await.0, 404);
    let moved = json!({"version": "2"});
    world.put("/functions/f/aliases/live", moved).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.queue.clone().run(stop.clone()));
    let path = accepted.headers["location"].to_str().expect("text");
    let deadline = crate::clock::now() + DEADLINE;
    loop {
        let record = world.get(path).await.json();
        if record["state"] == "succeeded" {
            assert_eq!(record["version"], "1");
            break;
        }
        assert!(crate::clock::now() < deadline, "{record}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.cancel();
    running.await.expect("ends");
}

#[tokio::test]
async fn a_key_for_a_function_is_for_its_versions() {
    let world = World::empty();
    for name in ["orders", "billing"] {
        published(&world, name, &["one"]).await;
    }
    let wish = Wish {
        scopes: vec![Scope::Invoke, Scope::Deploy],
        functions: vec![Pattern::parse("orders").expect("a pattern")],
        ..Wish::admin()
    };
    let grant = Arc::new(Grant::from(&wish.issue(crate::clock::wall()).1));
    let calls = json!([
        {"name": "orders:1", "payload": "code"},
        {"name": "billing:1"},
        {"name": "orders:7"},
        {"name": "orders:$LATEST"},
    ]);
    let request = Request::builder()
        .method("POST")
        .uri("/functions/execute")
        .extension(grant.clone())
        .body(calls.to_string().into());
    let results = world.answered(request.expect("a request")).await.json();
    let statuses: Vec<_> = results
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| r["status"].clone())
        .collect();
    assert_eq!(statuses, [200, 403, 404, 200], "{results}");
    assert_eq!(results[0]["body"], "one");
    assert_eq!(results[0]["version"], "1");
    // Renamed after the path was checked.
    let request = Request::builder()
        .method("POST")
        .uri("/functions/billing/versions")
        .extension(grant)
        .body("{}".into());
    let refused = world.answered(request.expect("a request")).await;
    assert_eq!(refused.status, 403);
}
